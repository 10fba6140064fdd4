"""What went wrong in other routers on the way of an answer: the upstream's own bytes, towards every other client."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..errors import Kind
from ..events import Cite, Close, Delta, Event, Failed, Finish, Open, Tally
from .pairs import NAMES, Carried, check, heard

USED = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
RESPONSE_USED = {
    "input_tokens": 10,
    "output_tokens": 5,
    "total_tokens": 15,
    "input_tokens_details": {"cached_tokens": 4},
}
GEMINI_USED = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 2,
}


def events_of(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def summary(events: list[Event]) -> list[str]:
    """Parts, and why the answer ended, in words; of a part that was cut, without its end."""
    kinds: dict[int, list[str]] = {}
    found: list[str] = []
    for event in events:
        if isinstance(event, Open):
            kinds[event.key] = [f"{event.name or event.kind}:"]
        elif isinstance(event, Delta):
            kinds[event.key].append(event.text)
        elif isinstance(event, Close):
            found.append("".join(kinds.pop(event.key)))
        elif isinstance(event, Finish):
            found.append(event.stop)
        elif isinstance(event, Failed):
            found.append(f"{event.verdict.kind.value}: {event.verdict.message}")
    return found


class Answered(SynchronousTestCase):
    """What every client of another dialect gets of an upstream's stream."""

    upstream = ""

    def bodies(self, source: bytes) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for client in NAMES:
            if client != self.upstream:
                carried = Carried(self.upstream, client, [source])
                assert carried.state == "content" or carried.translator.state == "content", carried.ending
                if carried.ending.complete:
                    check(client, carried.body)
                found[client] = heard(client, carried.body)
        return found

    def expect(self, source: bytes, *wanted: str) -> dict[str, list[Event]]:
        found = self.bodies(source)
        for client, events in found.items():
            self.assertEqual(summary(events), list(wanted), client)
        return found

    def breaks(self, source: bytes, kind: Kind, words: str) -> None:
        for client in NAMES:
            if client != self.upstream:
                carried = Carried(self.upstream, client, [source])
                error = carried.ending.error
                assert error is not None, client
                self.assertEqual((error.kind, carried.ending.complete), (kind, False), client)
                last = heard(client, carried.body)[-1]
                assert isinstance(last, Failed), client
                self.assertIn(words, last.verdict.message)
                self.assertEqual(carried.body.count(words.encode()), 1, client)


def begun(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int, kind: str, name: str, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text}}


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def over(reason: str) -> tuple[dict[str, Any], ...]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return ({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}, {"type": "message_stop"})


MESSAGE = {
    "type": "message_start",
    "message": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "usage": {"input_tokens": 10, "output_tokens": 1},
    },
}


class AnthropicTests(Answered):
    """Streams of Anthropic upstreams."""

    upstream = "anthropic"

    def test_text_in_a_call(self) -> None:
        """A text delta at the index of a call ends the call and begins a text."""
        self.expect(
            events_of(
                MESSAGE,
                begun(0, type="tool_use", id="toolu_1", name="f", input={}),
                more(0, "input_json_delta", "partial_json", '{"a":1}'),
                more(0, "text_delta", "text", "hello"),
                stopped(0),
                *over("tool_use"),
            ),
            'f:{"a":1}',
            "text:hello",
            "tool_use",
        )

    def test_begun_again(self) -> None:
        """A stream that its server began again in the middle is one answer with one start, and no block lost."""
        again = (MESSAGE, begun(0, type="text", text=""))
        self.expect(
            events_of(
                *again,
                more(0, "text_delta", "text", "one "),
                *again,
                more(0, "text_delta", "text", "two"),
                stopped(0),
                *over("end_turn"),
            ),
            "text:one two",
            "end",
        )

    def test_stopped_twice(self) -> None:
        """A call that is ended twice is made once."""
        call = begun(0, type="tool_use", id="toolu_1", name="f", input={"a": 1})
        self.expect(events_of(MESSAGE, call, stopped(0), stopped(0), *over("tool_use")), 'f:{"a":1}', "tool_use")


def chunk(reason: str | None = None, /, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def fragment(index: int | None, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    found = {"index": index, "id": id, "function": {key: value for key, value in function.items() if value is not None}}
    return {key: value for key, value in found.items() if value is not None}


TOLD = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": USED}
DONE = b"data: [DONE]\n\n"


class ChatTests(Answered):
    """Streams of Chat upstreams."""

    upstream = "openai-chat"

    def test_packed(self) -> None:
        """Several whole calls in one chunk, with the reason to stop, are several calls, whatever the reason says."""
        calls = [
            fragment(0, "a", "f", '{"x":1}'),
            fragment(1, "b", "f", '{"x":2}'),
            fragment(2, "c", "g", '{"x":3}'),
        ]
        source = events_of(chunk("stop", tool_calls=calls), TOLD) + DONE
        self.expect(source, 'f:{"x":1}', 'f:{"x":2}', 'g:{"x":3}', "tool_use")

    def test_interleaved(self) -> None:
        """Fragments that come in turn go to their own calls."""
        source = events_of(
            chunk(tool_calls=[fragment(0, "a", "f", ""), fragment(1, "b", "g", "")]),
            chunk(tool_calls=[fragment(1, None, None, '{"y"')]),
            chunk(tool_calls=[fragment(0, None, None, '{"x"')]),
            chunk(tool_calls=[fragment(1, None, None, ":2}")]),
            chunk(tool_calls=[fragment(0, None, None, ":1}")]),
            chunk("tool_calls"),
        )
        self.expect(source + DONE, 'f:{"x":1}', 'g:{"y":2}', "tool_use")

    def test_one_index(self) -> None:
        """Calls of two ids at one index are two calls."""
        calls = [fragment(0, id, "f", arguments) for id, arguments in (("a", '{"x":1}'), ("b", '{"x":2}'))]
        source = events_of(*(chunk(tool_calls=[call]) for call in calls), chunk("tool_calls"))
        self.expect(source + DONE, 'f:{"x":1}', 'f:{"x":2}', "tool_use")

    def test_blank_between_calls(self) -> None:
        """White space beside calls opens no block for a client that would show an empty one."""
        source = events_of(
            chunk(content="\n"),
            chunk(tool_calls=[fragment(0, "a", "f", '{"x":1}')]),
            chunk(content="\n\n"),
            chunk(tool_calls=[fragment(1, "b", "f", '{"x":2}')]),
            chunk("stop"),
        )
        self.expect(source + DONE, 'f:{"x":1}', 'f:{"x":2}', "tool_use")

    def test_words_and_call(self) -> None:
        """Words and a call in one delta are both there, the words first."""
        source = events_of(chunk(content="hi", tool_calls=[fragment(0, "a", "f", '{"x":1}')]), chunk("tool_calls"))
        self.expect(source + DONE, "text:hi", 'f:{"x":1}', "tool_use")

    def test_reasoning_again(self) -> None:
        """Reasoning after a call, and after a text, is a part of its own in its place."""
        source = events_of(
            chunk(reasoning="r1"),
            chunk(tool_calls=[fragment(0, "a", "f", '{"x":1}')]),
            chunk(reasoning="r2"),
            chunk(content="t"),
            chunk(reasoning="r3"),
            chunk("stop"),
        )
        wanted = ("reasoning:r1", 'f:{"x":1}', "reasoning:r2", "text:t", "reasoning:r3", "tool_use")
        self.expect(source + DONE, *wanted)

    def test_reasoning_told_twice(self) -> None:
        """Entries that repeat the reasoning at its end, as this router's own do, are no more reasoning."""
        detail = {"type": "reasoning.text", "text": "because", "signature": "s", "index": 0}
        source = events_of(
            chunk(reasoning_content="be"),
            chunk(reasoning_content="cause"),
            chunk(reasoning_details=[detail]),
            chunk(content="t"),
            chunk("stop"),
        )
        self.expect(source + DONE, "reasoning:because", "text:t", "end")

    def test_cut_call(self) -> None:
        """A limit wins over the call that it cut."""
        source = events_of(chunk(tool_calls=[fragment(0, "a", "f", '{"x":')]), chunk("length"), TOLD) + DONE
        for client, events in self.bodies(source).items():
            found = summary(events)
            self.assertEqual(len(found), 2, client)
            self.assertIn("x", found[0])
            self.assertEqual(found[1], "length", client)

    def test_usage_anywhere(self) -> None:
        """Usage in the last words' chunk, in every chunk, and after the end is the same usage, once."""
        for source in (
            events_of(chunk(content="x"), {**chunk("stop"), "usage": USED}),
            events_of(
                {**chunk(content="x"), "usage": {**USED, "completion_tokens": 1}},
                {**chunk(content="y"), "usage": USED},
                {**chunk("stop"), "usage": USED},
            ),
            events_of(chunk(content="x"), chunk("stop"), TOLD),
            events_of(chunk(content="x"), {**chunk("stop"), "x_groq": {"usage": USED}}),
        ):
            for client, events in self.bodies(source + DONE).items():
                usage = [event.usage for event in events if isinstance(event, Tally)][-1]
                self.assertEqual((usage.input, usage.cache_read, usage.output), (6, 4, 5), client)

    def test_refusal(self) -> None:
        """The words of a refusal are told, and that it is one."""
        source = events_of(chunk(refusal="I "), chunk(refusal="will not"), chunk("stop")) + DONE
        for client, events in self.bodies(source).items():
            words, stop = summary(events)
            self.assertEqual(words.partition(":")[2], "I will not", client)
            self.assertIn(stop, ("refusal", "content_filter"), client)

    def test_error_in_the_middle(self) -> None:
        """An error in place of a chunk, or of a reason, ends the stream in one error with the server's words."""
        said = chunk(content="x")
        error = {"message": "too busy", "type": "overloaded_error", "code": 529}
        self.breaks(events_of(said, {"error": error}, chunk("stop")) + DONE, Kind.OVERLOADED, "too busy")
        failed = chunk("error")
        failed["choices"][0]["error"] = {"message": "it broke"}
        self.breaks(events_of(said, failed) + DONE, Kind.UPSTREAM, "it broke")


def added(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def written(index: int, text: str, **members: Any) -> dict[str, Any]:
    event = {"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": text}
    return {**event, **members}


def spoken(text: str) -> dict[str, Any]:
    return {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text, "annotations": []}]}


def completed(*output: dict[str, Any], status: str = "completed", **members: Any) -> dict[str, Any]:
    response = {"id": "r", "model": "m", "status": status, "output": list(output), "usage": RESPONSE_USED, **members}
    return {"type": f"response.{status}", "response": response}


CREATED = {"type": "response.created", "response": {"id": "r", "model": "m"}}
CALL = {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "f"}


class ResponsesTests(Answered):
    """Streams of Responses upstreams."""

    upstream = "openai-responses"

    def test_output_at_the_end_only(self) -> None:
        """Items that stand in the last event alone are given, also where nothing was streamed."""
        source = events_of(CREATED, completed(spoken("hi"), {**CALL, "arguments": '{"a":1}'}))
        self.expect(source, "text:hi", 'f:{"a":1}', "tool_use")

    def test_no_output_at_the_end(self) -> None:
        """An empty output in the last event takes nothing back."""
        call = {**CALL, "arguments": '{"a":1}'}
        source = events_of(CREATED, done(0, **spoken("hi")), done(1, **call), completed())
        self.expect(source, "text:hi", 'f:{"a":1}', "tool_use")

    def test_ids_that_change(self) -> None:
        """Items are known by their index, whatever ids their events have, and nothing is given twice."""
        source = events_of(
            CREATED,
            added(0, type="message", id="a", content=[]),
            written(0, "hi", item_id="b"),
            {
                "type": "response.output_text.done",
                "output_index": 0,
                "content_index": 0,
                "item_id": "c",
                "text": "hi x",
            },
            done(0, **{**spoken("hi x"), "id": "d"}),
            added(1, **CALL, arguments=""),
            {
                "type": "response.function_call_arguments.done",
                "output_index": 1,
                "item_id": "e",
                "arguments": '{"a":1}',
            },
            done(1, **CALL, arguments='{"a":1}'),
            completed(),
        )
        self.expect(source, "text:hi x", 'f:{"a":1}', "tool_use")

    def test_wrapper(self) -> None:
        """A wrapper of several calls, which is for the server, is those calls."""
        uses = [{"recipient_name": f"functions.{name}", "parameters": {"a": name}} for name in ("f", "g")]
        wrapper = {**CALL, "name": "parallel", "arguments": json.dumps({"tool_uses": uses})}
        source = events_of(CREATED, added(0, **{**wrapper, "arguments": ""}), done(0, **wrapper), completed())
        self.expect(source, 'f:{"a":"f"}', 'g:{"a":"g"}', "tool_use")

    def test_two_messages(self) -> None:
        """Two messages are two texts, with an empty line between them where a client has one; citations follow."""
        note = {"type": "url_citation", "url": "http://u", "title": "t", "start_index": 0, "end_index": 3}
        source = events_of(
            CREATED,
            added(0, type="message", id="a", phase="commentary", content=[]),
            written(0, "one."),
            done(0, **spoken("one.")),
            added(1, type="message", id="b", content=[]),
            written(1, "two."),
            {
                "type": "response.output_text.annotation.added",
                "output_index": 1,
                "content_index": 0,
                "annotation": note,
            },
            done(1, **spoken("two.")),
            completed(),
        )
        found = self.bodies(source)
        self.assertEqual(summary(found["anthropic"]), ["text:one.", "text:two.", "end"])
        self.assertEqual(summary(found["openai-chat"]), ["text:one.\n\ntwo.", "end"])
        self.assertEqual(summary(found["gemini"]), ["text:one.\n\ntwo.", "end"])
        cites = {client: [event for event in events if isinstance(event, Cite)] for client, events in found.items()}
        self.assertEqual(cites["anthropic"][0].citation.cited, "two")
        self.assertEqual((cites["openai-chat"][0].citation.start, cites["openai-chat"][0].citation.end), (6, 9))
        self.assertEqual((cites["gemini"][0].citation.start, cites["gemini"][0].citation.end), (6, 9))

    def test_cut_call(self) -> None:
        """What a limit cut is no call that can be carried out, and the limit is told."""
        source = events_of(
            CREATED,
            added(0, **CALL, arguments=""),
            {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a'},
            completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        )
        for client, events in self.bodies(source).items():
            self.assertEqual(summary(events)[-1], "length", client)

    def test_failed_twice(self) -> None:
        """An error event before the failed response is one error."""
        error = {"code": "server_is_overloaded", "message": "too busy"}
        source = events_of(
            CREATED,
            added(0, type="message", id="a", content=[]),
            written(0, "hi"),
            {"type": "error", "error": error},
            {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error}},
        )
        self.breaks(source, Kind.OVERLOADED, "too busy")


def parts(*given: dict[str, Any], **members: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(given)}, "index": 0, **members}
    return {"candidates": [candidate], "modelVersion": "g"}


class GeminiTests(Answered):
    """Streams of Gemini upstreams."""

    upstream = "gemini"

    def test_calls_over_chunks(self) -> None:
        """Calls of one name over several chunks are as many calls, counted on, and the stop is theirs."""
        source = events_of(
            parts({"functionCall": {"name": "f", "args": {"a": 1}}}),
            parts({"functionCall": {"name": "f", "args": {"a": 2}}}, {"functionCall": {"name": "g", "args": {"b": 3}}}),
            {**parts({"text": ""}, finishReason="STOP"), "usageMetadata": GEMINI_USED},
        )
        for events in self.expect(source, 'f:{"a":1}', 'f:{"a":2}', 'g:{"b":3}', "tool_use").values():
            usage = [event.usage for event in events if isinstance(event, Tally)][-1]
            self.assertEqual((usage.input, usage.cache_read, usage.output, usage.reasoning), (6, 4, 5, 2))

    def test_malformed_call(self) -> None:
        """A call that the model could not finish is an error with its words, never an answer of nothing."""
        source = events_of(
            parts({"text": "x"}), parts(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="bad call: f(")
        )
        self.breaks(source, Kind.GARBAGE, "bad call: f(")

    def test_thought_and_words(self) -> None:
        """A thought and words in one chunk are two parts; a limit is told."""
        source = events_of(
            parts({"text": "why", "thought": True}, {"text": "be"}), parts({"text": "cause"}, finishReason="MAX_TOKENS")
        )
        self.expect(source, "reasoning:why", "text:because", "length")
