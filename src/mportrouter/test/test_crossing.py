"""Exchanges whose upstreams speak another dialect than the client: :mod:`mportrouter.crossing` in the relay's hands."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..settings import Capabilities
from ..testing import Chunk, End, Head, Wait, canned_message, respond
from .relayed import Relayed

CHAT = {"b": "openai-chat"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(delta: dict[str, Any], finish: str | None = None, **members: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return Chunk(b"data: " + json.dumps({**value, **members}).encode() + b"\n\n")


STREAM = (
    Head(200, [(b"content-type", b"text/event-stream"), (b"openai-organization", b"org"), (b"x-request-id", b"r1")]),
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "one "}),
    chunk({"content": "two"}),
    chunk({}, "stop", usage=USAGE),
    Chunk(b"data: [DONE]\n\n"),
    End(),
)
WHOLE = respond(
    body=json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode()
)


def refusal(status: int, **error: Any) -> list[Any]:
    return respond(status, body=json.dumps({"error": error}).encode())


class CrossingTests(SynchronousTestCase):
    """An Anthropic client, an upstream that speaks Chat."""

    def test_stream(self) -> None:
        """The request goes to the other dialect's path in its form, the events come back in the client's."""
        relayed = Relayed({"b": [list(STREAM)]}, streamed=True, dialects=CHAT).run()
        (sent,) = relayed.upstreams["b"].requests
        self.assertEqual((sent.path, sent.query), (b"/v1/chat/completions", b""))
        self.assertEqual(sent.json["messages"], [{"role": "user", "content": "hi"}])
        self.assertTrue(sent.json["stream"])
        text = relayed.content.decode()
        self.assertEqual(text.count("event: message_start"), 1)
        self.assertIn('"text":"one "', text)
        self.assertTrue(text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n'))
        self.assertEqual(relayed.header("content-type"), "text/event-stream; charset=utf-8")
        self.assertIsNone(relayed.header("openai-organization"))
        self.assertEqual(relayed.record.outcome, "ok")
        assert relayed.record.usage is not None
        self.assertEqual((relayed.record.usage.input, relayed.record.usage.output), (7, 3))

    def test_whole(self) -> None:
        """An answer that is not streamed comes back whole."""
        relayed = Relayed({"b": [WHOLE]}, dialects=CHAT).run()
        answer = json.loads(relayed.content)
        self.assertEqual(
            (answer["type"], answer["content"][0]["text"], answer["stop_reason"]), ("message", "one two", "end_turn")
        )
        self.assertEqual(relayed.record.usage.input if relayed.record.usage else 0, 7)

    def test_fails_over(self) -> None:
        """A failure before commit moves on to an upstream of another dialect, with a body in that one."""
        relayed = Relayed(
            {"a": [refusal(529, type="overloaded_error", message="busy")], "b": [list(STREAM)]},
            streamed=True,
            dialects=CHAT,
        ).run()
        self.assertEqual(relayed.record.upstream, "b")
        self.assertIn(b'"text":"two"', relayed.content)
        self.assertEqual(relayed.record.failed[0].kind, "overloaded")

    def test_fails_over_back(self) -> None:
        """And from the other dialect to the client's own, with the client's own bytes."""
        broken = [*STREAM[:2], End()]
        relayed = Relayed({"b": [broken], "a": [respond(body=canned_message())]}, dialects=CHAT).run()
        self.assertEqual(relayed.content, canned_message())
        self.assertEqual(relayed.upstreams["a"].requests[0].body, relayed.body)

    def test_errors(self) -> None:
        """An error comes in the client's dialect with the provider's words, and the status that fits it there."""
        for status, error, wanted, kind, words in (
            (400, {"message": "bad thing", "type": "invalid_request_error"}, 400, "invalid_request_error", "bad thing"),
            (
                400,
                {"message": "This model's maximum context length is 8", "code": "context_length_exceeded"},
                400,
                "invalid_request_error",
                "prompt is too long: This model's maximum context length is 8",
            ),
            (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, 502, "api_error", "Incorrect API key"),
            (429, {"message": "slow down", "code": "rate_limit_exceeded"}, 429, "rate_limit_error", "slow down"),
            (429, {"message": "no money", "code": "insufficient_quota"}, 402, "billing_error", "no money"),
            (503, {"message": "overloaded"}, 529, "overloaded_error", "overloaded"),
            (500, {"message": "oops"}, 500, "api_error", "oops"),
        ):
            relayed = Relayed({"b": [refusal(status, **error)]}, dialects=CHAT).run()
            answer = json.loads(relayed.content)["error"]
            self.assertEqual((relayed.status, answer["type"], answer["message"]), (wanted, kind, words), status)

    def test_cut(self) -> None:
        """A stream that breaks after commit ends in the client's own error event, not as if it were whole."""
        relayed = Relayed({"b": [[*STREAM[:3], End()]]}, streamed=True, dialects=CHAT).run()
        self.assertIn(b"event: error\n", relayed.content)
        self.assertNotIn(b"message_stop", relayed.content)
        self.assertNotIn(b"content_block_stop", relayed.content)
        self.assertEqual(relayed.record.outcome, "cut")

    def test_error_event(self) -> None:
        """An error inside the stream after commit is told in the client's dialect."""
        error = Chunk(b'data: {"error":{"message":"it broke","type":"server_error","code":null}}\n\n')
        relayed = Relayed({"b": [[*STREAM[:3], error, End()]]}, streamed=True, dialects=CHAT).run()
        self.assertIn(b"it broke", relayed.content)
        self.assertEqual(relayed.content.count(b"event: error\n"), 1)
        self.assertEqual(relayed.record.outcome, "cut")

    def test_inexpressible(self) -> None:
        """What an upstream cannot be asked for is asked of the next; where none can, the client is told what it is."""
        document = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
        members = {"messages": [{"role": "user", "content": [document]}]}
        relayed = Relayed({"b": [WHOLE], "a": [respond(body=canned_message())]}, dialects=CHAT, members=members).run()
        self.assertEqual((relayed.record.upstream, relayed.record.attempts), ("a", 1))
        relayed = Relayed({"b": [WHOLE]}, dialects=CHAT, members=members).run()
        error = json.loads(relayed.content)["error"]
        self.assertEqual((relayed.status, error["type"]), (400, "invalid_request_error"))
        self.assertIn("file", error["message"])
        self.assertEqual(relayed.upstreams["b"].requests, [])

    def test_not_understood(self) -> None:
        """A request that cannot be read for another dialect is refused, and nobody was asked."""
        relayed = Relayed({"b": [WHOLE]}, dialects=CHAT, members={"messages": 5}).run()
        self.assertEqual((relayed.status, relayed.asked()), (400, {"b": 0}))
        self.assertEqual(relayed.header("x-mportrouter-attempts"), "0")
        self.assertEqual(relayed.record.attempts, 0)

    def test_dropped(self) -> None:
        """What is left out is told."""
        capabilities = {"b": Capabilities(sampling_refused=("top_k",))}
        relayed = Relayed({"b": [WHOLE]}, dialects=CHAT, capabilities=capabilities, members={"top_k": 5}).run()
        self.assertIn("top_k", relayed.header("x-mportrouter-dropped") or "")
        self.assertIn("top_k", relayed.record.dropped)

    def test_keep_alive(self) -> None:
        """A translated stream that falls silent after commit keeps its client awake."""
        script = [*STREAM[:3], Wait(25), *STREAM[3:]]
        relayed = Relayed({"b": [script]}, streamed=True, dialects=CHAT).run(30)
        self.assertEqual(relayed.content.count(b"event: ping"), 2)
        self.assertTrue(relayed.content.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n'))

    def test_usage_not_told(self) -> None:
        """Where a provider tells no usage it is estimated, and said to be; nothing is free of charge for that."""
        silent = [*STREAM[:4], chunk({}, "stop"), *STREAM[5:]]
        relayed = Relayed({"b": [silent]}, streamed=True, dialects=CHAT).run()
        used = relayed.record.usage
        assert used is not None
        self.assertTrue(used.estimated)
        self.assertEqual((used.input, used.output), (len(relayed.body), 2))

    def test_stream_only(self) -> None:
        """An upstream that streams whatever it is asked still gives a whole answer."""
        relayed = Relayed({"b": [list(STREAM)]}, dialects=CHAT).run()
        self.assertEqual(json.loads(relayed.content)["content"][0]["text"], "one two")
