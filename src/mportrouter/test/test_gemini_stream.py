"""Tests for :mod:`mportrouter.dialects.gemini_stream` and what it reads events with."""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Foreign, Opaque, Tool
from ..dialects.gemini_stream import GeminiEvents
from ..errors import Kind
from ..events import (
    Close,
    Delta,
    End,
    Event,
    Failed,
    Finish,
    Hidden,
    Open,
    Other,
    Sign,
    Start,
    Tally,
)
from ..interfaces import Target
from ..records import Usage
from ..settings import Capabilities

TARGET = Target("gemini", "g-3", Capabilities(thinking_signature="gemini"))
COUNTS = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}


def chunk(*parts: Any, finish: str | None = None, usage: Any = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
    if finish is not None:
        candidate["finishReason"] = finish
    value: dict[str, Any] = {"candidates": [candidate], "modelVersion": "g-3-001", "responseId": "r1"}
    if usage is not None:
        value["usageMetadata"] = usage
    return value


def sse(*chunks: Any, end: bytes = b"\r\n\r\n") -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + end for each in chunks)


STOP = chunk({"text": ""}, finish="STOP", usage=COUNTS)


def read(body: bytes | list[bytes], stream: bool = True, target: Target = TARGET, **names: Tool) -> list[Event]:
    reader = GeminiEvents(stream, target, names, "q")
    out: list[Event] = []
    for piece in [body] if isinstance(body, bytes) else body:
        out += reader.feed(piece)
    out += reader.finish()
    assert reader.feed(b"data: {}\n\n") == []
    return out


def shape(events: list[Event]) -> list[Any]:
    """The events without keys; texts in one piece however they were cut."""
    out: list[Any] = []
    before: Event | None = None
    for event in events:
        running, before = isinstance(before, Delta), event
        if isinstance(event, Delta):
            if running:
                out[-1] += event.text
            else:
                out.append(event.text)
        elif isinstance(event, Open):
            out.append((event.kind, event.id, event.name) if event.kind == "tool" else event.kind)
        elif isinstance(event, (Sign, Hidden)):
            out.append((type(event).__name__, event.opaque.value))
        elif isinstance(event, Failed):
            out.append(event.verdict.kind)
        elif not isinstance(event, (Start, Tally, Finish, End)):
            out.append(type(event).__name__)
    return out


class Cuts:
    """Reads a body whole, byte by byte and at random cuts, and wants the same each time."""

    def same(self, test: SynchronousTestCase, body: bytes, stream: bool = True, **options: Any) -> list[Event]:
        wanted = read(body, stream, **options)
        test.assertEqual(read([body[at : at + 1] for at in range(len(body))], stream, **options), wanted)
        rng = random.Random(7)
        for _ in range(5):
            places = sorted(rng.randrange(len(body) + 1) for _ in range(6))
            pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
            test.assertEqual(read(pieces, stream, **options), wanted)
        return wanted


class PartTests(Cuts, SynchronousTestCase):
    """What parts become."""

    def test_text(self) -> None:
        """Texts run on over events; start, usage, stop and end are told once each."""
        events = self.same(
            self, sse(chunk({"text": "one "}, usage={"promptTokenCount": 10}), chunk({"text": "two é"}), STOP)
        )
        self.assertEqual(
            events,
            [
                Start("r1", "g-3-001"),
                Tally(Usage(input=10)),
                Open(1, "text"),
                Delta(1, "one "),
                Delta(1, "two é"),
                Close(1),
                Tally(Usage(input=10, output=4)),
                Finish("end"),
                End(),
            ],
        )

    def test_line_ends(self) -> None:
        """LF, CRLF and CR, comments, and a last event without its blank line are all read."""
        wanted = shape(read(sse(chunk({"text": "a"}), STOP)))
        for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
            body = b": hello" + end + sse(chunk({"text": "a"}), STOP, end=end)
            self.assertEqual(shape(self.same(self, body)), wanted)
            self.assertEqual(shape(read(body.rstrip())), wanted)
        self.assertIsInstance(read(sse(STOP).replace(b"data: ", b"data:"))[-1], End)

    def test_separators_in_text(self) -> None:
        """U+2028 and U+0085 in a text end no line, and a lone surrogate comes through."""
        body = sse(STOP, end=b"\n\n")
        raw = 'data: {"candidates":[{"content":{"parts":[{"text":"a\u2028b\u0085c\\ud83d"}]}}]}\n\n'.encode()
        self.assertEqual(shape(self.same(self, raw + body))[1], "a\u2028b\u0085c\ud83d")

    def test_thoughts(self) -> None:
        """A thought and an answer may share an event; each change closes one part and opens another."""
        parts = ({"text": "hm", "thought": True}, {"text": "yes"}, {"text": "but", "thought": True})
        events = self.same(self, sse(chunk(*parts), chunk({"text": " no", "thought": True}), STOP))
        self.assertEqual(
            shape(events), ["reasoning", "hm", "Close", "text", "yes", "Close", "reasoning", "but no", "Close"]
        )

    def test_empty_text(self) -> None:
        """Empty texts open nothing."""
        self.assertEqual(
            shape(self.same(self, sse(chunk({"text": ""}), chunk({"text": "", "thought": True}), STOP))), []
        )

    def test_call(self) -> None:
        """A call comes whole, its arguments in one piece; without any they are an empty object."""
        calls = (
            {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1.0, "b": "é"}}},
            {"functionCall": {"name": "g"}},
        )
        events = self.same(self, sse(chunk({"text": "x"}), chunk(*calls, finish="STOP")))
        self.assertEqual(
            shape(events),
            ["text", "x", "Close", ("tool", "c1", "f"), '{"a":1.0,"b":"é"}', "Close", ("tool", "", "g"), "{}", "Close"],
        )

    def test_same_name_again(self) -> None:
        """Calls of one name are different calls, in one event and over several; only the same id is the same call."""
        call = {"functionCall": {"name": "f", "args": {}}}
        named = {"functionCall": {"id": "i", "name": "f", "args": {}}}
        events = self.same(self, sse(chunk(call, call), chunk(call), chunk(named), chunk(named), STOP))
        self.assertEqual(
            [each for each in shape(events) if isinstance(each, tuple)], [("tool", "", "f")] * 3 + [("tool", "i", "f")]
        )

    def test_renamed(self) -> None:
        """A call comes back under the client's name, a custom tool's input raw, a namespace restored."""
        names = {
            "f_1": Tool("f!"),
            "c": Tool("c", kind="custom"),
            "n__x": Tool("x", namespace="n"),
        }
        calls = [
            {"functionCall": {"name": "f_1", "args": {}}},
            {"functionCall": {"name": "c", "args": {"input": 'raw " text'}}},
            {"functionCall": {"name": "n__x", "args": {}}},
            {"functionCall": {"name": "c", "args": {"other": 1}}},
        ]
        events = read(sse(chunk(*calls), STOP), True, TARGET, **names)
        opened = [event for event in events if isinstance(event, Open)]
        self.assertEqual(
            [(each.name, each.custom, each.namespace) for each in opened],
            [("f!", False, ""), ("c", True, ""), ("x", False, "n"), ("c", True, "")],
        )
        self.assertEqual(
            [event.text for event in events if isinstance(event, Delta)], ["{}", 'raw " text', "{}", '{"other":1}']
        )

    def test_pieces_of_arguments(self) -> None:
        """Arguments in pieces are put together, also where the piece that ends them is missing."""
        pieces = [
            {"functionCall": {"id": "p", "name": "f", "willContinue": True}, "thoughtSignature": "AA=="},
            {
                "functionCall": {
                    "partialArgs": [{"jsonPath": "$.a.b[0]", "stringValue": "x", "willContinue": True}],
                    "willContinue": True,
                }
            },
            {
                "functionCall": {
                    "partialArgs": [
                        {"jsonPath": "$.a.b[0]", "stringValue": "y"},
                        {"jsonPath": "$.n", "numberValue": 2},
                    ],
                    "willContinue": True,
                }
            },
        ]
        wanted = [("tool", "p", "f"), '{"a":{"b":["xy"]},"n":2}', "Close"]
        body = sse(*(chunk(each) for each in pieces))
        events = self.same(self, body + sse(chunk({"functionCall": {}}), STOP))
        self.assertEqual(shape(events), wanted)
        self.assertEqual(events[1].opaque.value, "AA==")
        self.assertEqual(shape(self.same(self, body + sse(STOP))), wanted)
        other = {"functionCall": {"name": "g", "args": {}}}
        self.assertEqual(shape(self.same(self, body + sse(chunk(other), STOP)))[:3], wanted)
        self.assertEqual(shape(self.same(self, body)), [Kind.CUT])

    def test_bad_pieces(self) -> None:
        """Pieces that fit nowhere, and a call without a name, break the answer: a wrong call is worse than none."""
        begun = chunk({"functionCall": {"name": "f", "willContinue": True}})
        for piece in (
            {"jsonPath": "a", "stringValue": "x"},
            {"jsonPath": "$[0]", "boolValue": True},
            {"jsonPath": "$.a[99999]", "nullValue": None},
            3,
        ):
            body = sse(begun, chunk({"functionCall": {"partialArgs": [piece]}}), STOP)
            self.assertEqual(shape(read(body)), [Kind.GARBAGE], piece)
        self.assertEqual(shape(read(sse(chunk({"functionCall": {"args": {"a": 1}}}), STOP))), [Kind.GARBAGE])

    def test_signatures(self) -> None:
        """A signature stays with what it came with: a call, a thought, a text, or nothing that can be seen."""
        own = Opaque("gemini", "g-3", "thought", "S=")
        call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "S="}
        events = self.same(self, sse(chunk({"text": "t", "thought": True}), chunk(call), STOP))
        self.assertEqual([event.opaque for event in events if isinstance(event, Open)], [None, own])
        events = self.same(
            self, sse(chunk({"text": "a"}), chunk({"text": "", "thoughtSignature": "S="}, finish="STOP"))
        )
        self.assertEqual(shape(events), ["text", "a", ("Sign", "S="), "Close"])
        events = self.same(self, sse(chunk({"text": "a", "thoughtSignature": "S="}), chunk({"text": "b"}), STOP))
        self.assertEqual(shape(events), ["text", "a", ("Sign", "S="), "Close", "text", "b", "Close"])
        events = self.same(self, sse(chunk(call), chunk({"text": "", "thoughtSignature": "T="}, finish="STOP")))
        self.assertEqual(shape(events)[3:], [("Hidden", "T=")])

    def test_parts_of_its_own(self) -> None:
        """What only this dialect has is passed on whole, with words for the others."""
        code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
        result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
        picture = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
        events = self.same(self, sse(chunk({"text": "x"}, code, result, picture), STOP))
        others = [event.part for event in events if isinstance(event, Other)]
        self.assertEqual(others[0], Foreign("gemini", "executableCode", code, "```python\nprint(1)\n```"))
        self.assertEqual((others[1].kind, others[1].text), ("codeExecutionResult", "```\n1\n```"))
        self.assertIn("image/png", others[2].text)

    def test_other_candidates(self) -> None:
        """Only the first candidate is read."""
        value = chunk({"text": "a"}, finish="STOP")
        value["candidates"].append({"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS"})
        events = read(sse(value))
        self.assertEqual((shape(events), events[-2]), (["text", "a", "Close"], Finish("end")))


class EndTests(Cuts, SynchronousTestCase):
    """How answers end."""

    def test_stops(self) -> None:
        """Each reason has its neutral stop; an unknown one is an end where there was content."""
        for reason, stop in (
            ("STOP", "end"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
            ("BLOCKLIST", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
            ("IMAGE_SAFETY", "content_filter"), ("MODEL_ARMOR", "content_filter"), ("OTHER", "end"),
            ("LANGUAGE", "end"), ("SOMETHING_NEW", "end"),
        ):  # fmt: skip
            finish = read(sse(chunk({"text": "a"}, finish=reason, finishMessage="why")))[-2]
            self.assertEqual(finish.stop, stop, reason)
            if stop == "content_filter":
                self.assertEqual((finish.category, finish.explanation), (reason, "why"))

    def test_no_content(self) -> None:
        """``STOP`` without a part is an empty answer; ``OTHER`` without one is a failure."""
        self.assertEqual(read(sse(chunk(finish="STOP")))[-2:], [Finish("end"), End()])
        value = {"candidates": [{"content": {}, "finishReason": "SAFETY"}]}
        self.assertEqual(read(sse(value))[-2].stop, "content_filter")
        self.assertEqual(shape(read(sse(chunk(finish="OTHER")))), [Kind.GARBAGE])

    def test_broken_models(self) -> None:
        """A malformed call and its kin are never a silent success."""
        for reason in (
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "TOO_MANY_TOOL_CALLS",
            "MISSING_THOUGHT_SIGNATURE",
            "MALFORMED_RESPONSE",
        ):
            events = read(sse(chunk(finish=reason, usage=COUNTS, finishMessage="print(")))
            self.assertEqual(events[-1].verdict.kind, Kind.GARBAGE, reason)
            self.assertIn(reason, events[-1].verdict.message)
            self.assertIn("print(", events[-1].verdict.message)
            self.assertIsInstance(events[-2], Tally)

    def test_blocked_prompt(self) -> None:
        """A blocked prompt is a refusal without content."""
        events = self.same(
            self, sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
        )
        self.assertEqual(events[-2], Finish("refusal", None, "the prompt was blocked (SAFETY)", "SAFETY"))
        body = json.dumps({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "no"}}).encode()
        self.assertEqual(read(body, False)[-2], Finish("refusal", None, "no", "OTHER"))

    def test_after_the_end(self) -> None:
        """Usage and parts after the reason to stop still count; a second reason does not."""
        late = {"usageMetadata": {**COUNTS, "candidatesTokenCount": 8}}
        again = chunk({"text": "b"}, finish="MAX_TOKENS")
        events = self.same(self, sse(chunk({"text": "a"}, finish="STOP", usage=COUNTS), again, late))
        self.assertEqual(events[-3:], [Tally(Usage(input=10, output=8)), Finish("end"), End()])
        self.assertEqual(shape(events), ["text", "ab", "Close"])

    def test_cut(self) -> None:
        """An end of the body before a reason to stop is a cut, and what is open stays open."""
        events = self.same(self, sse(chunk({"text": "a"}, usage=COUNTS)))
        self.assertEqual(shape(events), ["text", "a", Kind.CUT])
        self.assertEqual(shape(self.same(self, sse(chunk({"text": "a"})) + sse(STOP)[:40])), ["text", "a", Kind.CUT])
        lenient = Target("x", "m", Capabilities(lenient_done=True))
        self.assertEqual(read(sse(chunk({"text": "a"})), True, lenient)[-2:], [Finish("end"), End()])

    def test_nothing(self) -> None:
        """An empty body is garbage, and so is one without candidates."""
        for body, stream in (
            (b"", True),
            (b"\r\n\r\n", True),
            (b"", False),
            (b"{}", False),
            (b"[]", False),
            (b"<html>", False),
            (b"3", False),
        ):
            events = read(body, stream)
            self.assertEqual(shape(events), [Kind.GARBAGE], (body, stream))
            self.assertIsInstance(events[0], Start)

    def test_errors(self) -> None:
        """An error is judged by its code or its name, as an object, in a list, as an event, and on lines of its own."""
        for code, name, kind in (
            (429, "RESOURCE_EXHAUSTED", Kind.RATE), (503, "UNAVAILABLE", Kind.OVERLOADED),
            (500, "INTERNAL", Kind.UPSTREAM),
            (504, "DEADLINE_EXCEEDED", Kind.TIMEOUT), (400, "INVALID_ARGUMENT", Kind.BAD_REQUEST),
        ):  # fmt: skip
            error: dict[str, Any] = {"error": {"code": code, "message": "m", "status": name}}
            pretty = json.dumps(error, indent=2).encode()
            for body in (sse(error), pretty, b"[" + pretty + b"]", sse([error])):
                self.assertEqual(shape(self.same(self, body)), [kind], body)
            self.assertEqual(shape(self.same(self, sse(chunk({"text": "a"})) + pretty)), ["text", "a", kind])
            del error["error"]["code"]
            self.assertEqual(shape(read(sse(error))), [kind])

    def test_advice(self) -> None:
        """A wrong key and the time to wait are told by the details."""
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
        error = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": details}}
        self.assertEqual(read(sse(error))[-1].verdict.retry_after, 34.0)
        error = {
            "error": {
                "code": 400,
                "message": "m",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            }
        }
        self.assertEqual(read(sse(error))[-1].verdict.kind, Kind.AUTH)

    def test_unreadable_event(self) -> None:
        """An event that is no JSON is passed over where the stream goes on, unless it may have held what counts."""
        text = sse(chunk({"text": "a"}))
        self.assertEqual(shape(self.same(self, text + b"data: {nonsense\r\n\r\n" + sse(STOP))), ["text", "a", "Close"])
        self.assertEqual(shape(read(text + b"data: {nonsense\r\n\r\n")), ["text", "a", Kind.GARBAGE])
        self.assertEqual(shape(read(text + b'data: {"functionCall\r\n\r\n' + sse(STOP))), ["text", "a", Kind.GARBAGE])

    def test_done(self) -> None:
        """``[DONE]``, which some gateways add, says nothing."""
        self.assertEqual(
            read(sse(chunk({"text": "a"}), STOP) + b"data: [DONE]\n\n"), read(sse(chunk({"text": "a"}), STOP))
        )

    def test_odd_members(self) -> None:
        """Members of odd types are passed over."""
        odd: list[Any] = [
            {"candidates": None}, {"candidates": [3, None]}, {"candidates": [{"content": []}]},
            {"candidates": [{"content": {"parts": None}}]},
            {"candidates": [{"content": {"parts": [3, {}, {"text": None}]}}]},
            {"usageMetadata": []}, {"usageMetadata": {"promptTokenCount": "x"}}, {"promptFeedback": {}},
            {"candidates": [{"finishReason": 3}]}, {"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]},
            {"candidates": [{"groundingMetadata": {"groundingChunks": 3, "groundingSupports": [3]}}]},
        ]  # fmt: skip
        events = self.same(self, sse(*odd, chunk({"text": "a"}), STOP))
        self.assertEqual((shape(events), events[-1]), (["text", "a", "Close"], End()))


class WholeTests(Cuts, SynchronousTestCase):
    """Answers that are one JSON text."""

    def test_object(self) -> None:
        """A whole answer gives the events of the same answer streamed."""
        parts = ({"text": "t", "thought": True}, {"text": "a"}, {"functionCall": {"name": "f", "args": {"x": 1}}})
        value = chunk(*parts, finish="STOP", usage=COUNTS)
        events = self.same(self, json.dumps(value).encode(), False)
        self.assertEqual(shape(events), shape(read(sse(*(chunk(part) for part in parts), STOP))))
        self.assertEqual([event for event in events if isinstance(event, Tally)], [Tally(Usage(input=10, output=4))])
        self.assertEqual(events[-2:], [Finish("end"), End()])

    def test_where_a_stream_was_asked(self) -> None:
        """An array, and an object, in place of a stream of events are read too."""
        wanted = shape(read(sse(chunk({"text": "a"}), chunk({"text": "b"}), STOP)))
        array = json.dumps([chunk({"text": "a"}), chunk({"text": "b"}), STOP], indent=1).encode()
        self.assertEqual(shape(self.same(self, b"\xef\xbb\xbf" + array)), wanted)
        self.assertEqual(
            shape(self.same(self, b" " + json.dumps(chunk({"text": "ab"}, finish="STOP")).encode())), wanted
        )
        self.assertEqual(shape(read(array[:-30])), [Kind.GARBAGE])

    def test_without_a_reason(self) -> None:
        """A whole JSON text with content is whole, whatever it forgets to say."""
        self.assertEqual(read(json.dumps(chunk({"text": "a"})).encode(), False)[-2:], [Finish("end"), End()])
