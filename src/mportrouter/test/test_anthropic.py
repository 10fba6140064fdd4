"""Tests for :mod:`mportrouter.dialects.anthropic`."""

from __future__ import annotations

import json
from typing import Any

import anthropic
from anthropic.types import Message
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import sse
from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind, RouterError
from ..interfaces import IDialect, Look, ModelRow, Target
from ..settings import Capabilities

try:  # what the client's versions stand on
    import httpx2 as httpx
except ImportError:
    import httpx

TEXT = "**mode** mixed\n\n• \u00e9 \U0001f600 \ud83d \u2028 \"quoted\" \\ data: x"
SENT = TEXT.replace("\ud83d", "")


def client(content_type: bytes, body: bytes, status: int = 200) -> anthropic.Anthropic:
    """The official client, answered by these bytes without any socket."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=[(b"content-type", content_type)], content=body)

    return anthropic.Anthropic(
        api_key="x", max_retries=0, http_client=httpx.Client(transport=httpx.MockTransport(answer))
    )


def ask(content_type: bytes, body: bytes, stream: bool, status: int = 200) -> Message:
    members: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with client(content_type, body, status) as asking:
        if not stream:
            return asking.messages.create(**members)
        with asking.messages.stream(**members) as events:
            return events.get_final_message()


def looked(model: str, stream: bool) -> Look:
    """What routing saw of a request."""
    return Look(model, stream, frozenset(), None, 0)


class DialectTests(SynchronousTestCase):
    """The dialect as the house sees it."""

    def setUp(self) -> None:
        self.dialect = AnthropicDialect()

    def test_interface(self) -> None:
        """It provides what every dialect must, and hands on to its parts."""
        self.assertTrue(verifyObject(IDialect, self.dialect))
        self.assertEqual(self.dialect.name, "anthropic")
        self.assertEqual(self.dialect.ping, b'event: ping\ndata: {"type":"ping"}\n\n')
        raw = b'{"model":"a","metadata":{"user_id":"u"},"messages":[{"role":"user","content":"hi"}]}'
        seen = self.dialect.look(raw)
        self.assertEqual(seen.model, "a")
        prepared = self.dialect.prepare(raw, seen, Target("anthropic", "b", Capabilities()))
        self.assertEqual(prepared.body, raw.replace(b'"a"', b'"b"'))
        self.assertEqual(self.dialect.last_user_text(raw), "hi")
        self.assertEqual(self.dialect.session({}, raw), "u")
        self.assertEqual(self.dialect.reader(True, b"", Target("anthropic", "b", Capabilities())).state, "hold")

    def test_errors(self) -> None:
        """Each kind of failure has the dialect's type, says who made it, and names the request."""
        for kind, status, wanted in (
            (Kind.BAD_REQUEST, None, "invalid_request_error"),
            (Kind.NOT_FOUND, None, "not_found_error"),
            (Kind.METHOD, None, "invalid_request_error"),
            (Kind.MEDIA_TYPE, None, "invalid_request_error"),
            (Kind.TOO_LARGE, None, "request_too_large"),
            (Kind.CONTEXT, None, "invalid_request_error"),
            (Kind.POLICY, None, "invalid_request_error"),
            (Kind.UNAUTHENTICATED, None, "authentication_error"),
            (Kind.FORBIDDEN, None, "permission_error"),
            (Kind.BUSY, None, "api_error"),
            (Kind.BUDGET, None, "rate_limit_error"),
            (Kind.NOT_SUPPORTED, None, "not_supported"),
            (Kind.AUTH, None, "api_error"),
            (Kind.AUTH, 401, "authentication_error"),
            (Kind.MONEY, None, "api_error"),
            (Kind.MONEY, 402, "billing_error"),
            (Kind.RATE, None, "rate_limit_error"),
            (Kind.OVERLOADED, None, "overloaded_error"),
            (Kind.UPSTREAM, None, "api_error"),
            (Kind.UPSTREAM, 418, "invalid_request_error"),
            (Kind.NETWORK, None, "api_error"),
            (Kind.TIMEOUT, None, "timeout_error"),
            (Kind.GARBAGE, None, "api_error"),
            (Kind.CUT, None, "api_error"),
            (Kind.UNAVAILABLE, None, "api_error"),
            (Kind.INTERNAL, None, "api_error"),
        ):
            body = json.loads(self.dialect.error_body(RouterError(kind, "it is so", status=status), "req_1"))
            self.assertEqual(
                body,
                {
                    "type": "error",
                    "error": {"type": wanted, "message": "mportrouter: it is so"},
                    "request_id": "req_1",
                },
            )

    def test_every_kind(self) -> None:
        """No kind is without a type of error."""
        for kind in Kind:
            self.assertTrue(json.loads(self.dialect.error_body(RouterError(kind, "x"), ""))["error"]["type"])

    def test_error_reaches_the_client(self) -> None:
        """The official client raises its own exception for an error body, with our words in it."""
        body = self.dialect.error_body(RouterError(Kind.RATE, "slow down \ud83d"), "req_1")
        with self.assertRaises(anthropic.RateLimitError) as caught:
            ask(b"application/json", body, False, 429)
        self.assertIn("mportrouter: slow down", str(caught.exception))

    def test_error_event(self) -> None:
        """The event that ends a stream is one event, and the official client raises on it."""
        event = self.dialect.error_event(RouterError(Kind.TIMEOUT, "silent"), "req_1")
        framer = sse.Framer()
        framer.feed(event)
        framed = framer.next()
        assert framed is not None
        self.assertEqual(framed.name, b"error")
        self.assertEqual(json.loads(framed.data)["error"]["type"], "timeout_error")
        _, stream = self.dialect.message("hi", looked("m", True), "req_1", 0)
        begun = stream[: stream.index(b"event: content_block_stop")]
        for sent in (event, begun + event):
            with self.assertRaises(anthropic.APIError) as caught:
                ask(b"text/event-stream", self.dialect.ping + sent, True)
            self.assertIn("mportrouter: silent", str(caught.exception))


class MessageTests(SynchronousTestCase):
    """Answers of the router's own."""

    required = frozenset(
        {
            "id",
            "type",
            "role",
            "content",
            "model",
            "stop_reason",
            "stop_sequence",
            "stop_details",
            "usage",
            "container",
        }
    )
    last_usage = frozenset(
        {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "server_tool_use"}
    )
    usage = last_usage | {"cache_creation", "inference_geo", "service_tier"}

    def test_json(self) -> None:
        """The whole message has every key that the vendor's description requires, and no usage."""
        content_type, body = AnthropicDialect().message(TEXT, looked("claude-x", False), "req_1", 0)
        self.assertEqual(content_type, b"application/json")
        self.assertTrue(body.isascii())
        message = json.loads(body)
        self.assertLessEqual(self.required, set(message))
        self.assertLessEqual(self.usage, set(message["usage"]))
        self.assertEqual(message["content"], [{"type": "text", "text": TEXT, "citations": None}])
        self.assertEqual((message["model"], message["stop_reason"]), ("claude-x", "end_turn"))
        self.assertEqual((message["usage"]["input_tokens"], message["usage"]["output_tokens"]), (0, 0))

    def test_stream(self) -> None:
        """The stream is the full sequence of events with every required key."""
        content_type, body = AnthropicDialect().message(TEXT, looked("claude-x", True), "req_1", 0)
        self.assertTrue(content_type.startswith(b"text/event-stream"))
        framer = sse.Framer()
        framer.feed(body)
        events = []
        while (event := framer.next()) is not None:
            events.append(json.loads(event.data))
            self.assertEqual(events[-1]["type"], event.name.decode())
        self.assertEqual(
            [event["type"] for event in events],
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ],
        )
        self.assertLessEqual(self.required, set(events[0]["message"]))
        self.assertLessEqual(self.usage, set(events[0]["message"]["usage"]))
        self.assertEqual(events[0]["message"]["content"], [])
        self.assertIsNone(events[0]["message"]["stop_reason"])
        self.assertEqual(set(events[4]["delta"]), {"stop_reason", "stop_sequence", "stop_details", "container"})
        self.assertLessEqual(self.last_usage, set(events[4]["usage"]))

    def test_official_client(self) -> None:
        """The official client takes both forms for a message that ended well."""
        for stream in (False, True):
            message = ask(*AnthropicDialect().message(SENT, looked("claude-x", stream), "req_1", 0), stream)
            self.assertEqual([block.text for block in message.content if block.type == "text"], [SENT])
            self.assertEqual((message.model, message.stop_reason), ("claude-x", "end_turn"))
            self.assertEqual((message.usage.input_tokens, message.usage.output_tokens), (0, 0))
            self.assertTrue(message.id.startswith("msg_"))

    def test_empty(self) -> None:
        """Even an empty text makes a whole message."""
        self.assertEqual(ask(*AnthropicDialect().message("", looked("m", True), "", 0), True).stop_reason, "end_turn")


class ProviderErrorTests(SynchronousTestCase):
    """Errors in a provider's own words."""

    def told(self, error: RouterError) -> tuple[int, str, str]:
        dialect = AnthropicDialect()
        found = json.loads(dialect.error_body(error, "r"))["error"]
        return dialect.error_status(error), found["type"], found["message"]

    def test_words(self) -> None:
        """A provider's words stay as they are; the router's own say whose they are."""
        self.assertEqual(
            self.told(RouterError(Kind.RATE, "slow down", by="openai")), (429, "rate_limit_error", "slow down")
        )
        self.assertEqual(self.told(RouterError(Kind.RATE, "x"))[2], "mportrouter: x")

    def test_money(self) -> None:
        """A provider that wants money is no gateway's failure: the client does not ask again."""
        words = "no credit"
        self.assertEqual(self.told(RouterError(Kind.MONEY, words, by="openai")), (402, "billing_error", words))
        self.assertEqual(self.told(RouterError(Kind.MONEY, "no credit"))[0], 502)

    def test_context(self) -> None:
        """An overlong prompt is told in the words by which Claude Code knows it, and in the provider's."""
        words = "This model's maximum context length is 9 tokens"
        self.assertEqual(
            self.told(RouterError(Kind.CONTEXT, words, by="openai")),
            (400, "invalid_request_error", f"prompt is too long: {words}"),
        )
        own = "prompt is too long: 9 tokens > 8 maximum"
        self.assertEqual(self.told(RouterError(Kind.CONTEXT, own, by="anthropic"))[2], own)


class ModelTests(SynchronousTestCase):
    """Lists of models and counts of tokens."""

    def setUp(self) -> None:
        self.dialect = AnthropicDialect()
        self.rows = [ModelRow(f"m{number}") for number in range(5)]

    def page(self, **query: str) -> tuple[list[str], bool]:
        found = json.loads(self.dialect.model_list(self.rows, query))
        ids = [entry["id"] for entry in found["data"]]
        self.assertEqual((found["first_id"], found["last_id"]), (ids[0], ids[-1]) if ids else (None, None))
        return ids, found["has_more"]

    def test_entry(self) -> None:
        """A model has every key; a date is there even where nobody knows it."""
        found = json.loads(self.dialect.model_entry(ModelRow("m", "p", 86400, 1000, 100)))
        self.assertEqual(
            found,
            {
                "type": "model",
                "id": "m",
                "display_name": "m",
                "created_at": "1970-01-02T00:00:00Z",
                "capabilities": None,
                "max_input_tokens": 1000,
                "max_tokens": 100,
            },
        )
        bare = json.loads(self.dialect.model_entry(ModelRow("m", created=10**30)))
        self.assertEqual((bare["created_at"], bare["max_tokens"]), ("9999-12-31T23:59:59Z", None))

    def test_pages(self) -> None:
        """Pages are cut from either end, and say whether there is more."""
        for query, ids, more in (
            ({}, "01234", False),
            ({"limit": "2"}, "01", True),
            ({"limit": "2", "after_id": "m1"}, "23", True),
            ({"limit": "2", "after_id": "m2"}, "34", False),
            ({"limit": "2", "before_id": "m3"}, "12", True),
            ({"before_id": "m2"}, "01", False),
            ({"after_id": "m4"}, "", False),
            ({"after_id": "nobody", "limit": "x"}, "01234", False),
            ({"limit": "0"}, "0", True),
        ):
            self.assertEqual(self.page(**query), ([f"m{number}" for number in ids], more))
        self.assertEqual(json.loads(self.dialect.model_list([], {}))["data"], [])

    def test_counts(self) -> None:
        """Counts are read and given; anything else is none."""
        self.assertEqual(self.dialect.read_count(b'{"input_tokens":7}'), 7)
        self.assertEqual(self.dialect.count_answer(7), b'{"input_tokens":7}')
        for body in (b"{}", b"[]", b"x", b'{"input_tokens":true}', b'{"input_tokens":-1}', b'{"input_tokens":"7"}'):
            self.assertRaises(ValueError, self.dialect.read_count, body)
        for known, path in ((True, b"/v1/messages/count_tokens"), (False, None)):
            target = Target("p", "m", Capabilities(count_tokens=known))
            self.assertEqual(self.dialect.count_path(target), path)
