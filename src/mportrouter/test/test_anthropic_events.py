"""Tests for :mod:`mportrouter.dialects.anthropic_events` and :mod:`mportrouter.dialects.anthropic_open`."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..conversation import Conversation, Foreign, Opaque, SearchHit, Tool, WebSearch
from ..dialects.anthropic_events import reader
from ..errors import Kind
from ..events import Cite, Close, Delta, End, Event, Failed, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventReader, Target
from ..records import Usage
from ..settings import Capabilities
from .answers import bytewise, encode, event

NAMES = {
    "long_1": Tool("a.long.name"),
    "patch": Tool("apply_patch", kind="custom"),
    "ns__f": Tool("f", namespace="ns"),
    "answer": Tool("answer", kind="output"),
}
START = event(
    "message_start", message={"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 3, "output_tokens": 1}}
)
STOP = event("message_stop")


def context(signer: str = "anthropic", names: Mapping[str, Tool] | None = None) -> AnswerContext:
    target = Target("p", "claude-y", Capabilities(thinking_signature=signer))
    return AnswerContext(Conversation("openai-chat", "m", ()), target, "r", 0, names or {})


def opened(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, **members: Any) -> bytes:
    return event("content_block_delta", index=index, delta=members)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def words(index: int, text: str) -> bytes:
    return delta(index, type="text_delta", text=text)


def fragment(index: int, text: str) -> bytes:
    return delta(index, type="input_json_delta", partial_json=text)


def tool(index: int, name: str = "f", id: str = "toolu_1", **more: Any) -> bytes:
    return opened(index, type="tool_use", id=id, name=name, input={}, **more)


def end(reason: str | None = "end_turn", **more: Any) -> bytes:
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": None, **more}, usage={"output_tokens": 9}
    )


def take(pieces: list[bytes], stream: bool = True, **options: Any) -> list[Event]:
    reading = reader(stream, context(**options))
    out: list[Event] = []
    for piece in pieces:
        out += reading.feed(piece)
    return out + reading.finish()


def read(*events: bytes, **options: Any) -> list[Event]:
    """The events of a stream, the same however it is cut."""
    body = b"".join(events)
    whole = take([body], **options)
    assert take(bytewise(body), **options) == whole
    chance = random.Random(len(body))
    cuts = sorted(chance.randrange(len(body) + 1) for _ in range(7))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert take(pieces, **options) == whole
    assert take([body.replace(b"\n", b"\r\n")], **options) == whole
    assert type(whole[0]) is Start
    assert type(whole[-1]) in (End, Failed)
    assert sum(type(one) in (Start, End, Failed) for one in whole) == 2
    return whole


def parts(*events: bytes, **options: Any) -> list[Event]:
    """The events between the start and the end of an answer that ends well."""
    found = read(START, *events, end(), STOP, **options)
    assert type(found[-1]) is End, found
    return [one for one in found[1:-2] if type(one) is not Tally]


class StreamTests(SynchronousTestCase):
    """Event streams."""

    def test_interface(self) -> None:
        """Both readers are what they say."""
        self.assertTrue(verifyObject(IEventReader, reader(True, context())))
        self.assertTrue(verifyObject(IEventReader, reader(False, context())))

    def test_cut_in_the_first_event(self) -> None:
        """A body that ends in its first event is a cut stream, and no whole answer of any form."""
        for at in range(1, len(START) - 2):
            for stream in (True, False):
                last = take([START[:at]], stream)[-1]
                assert isinstance(last, Failed), (at, last)

    def test_text(self) -> None:
        """A text opens with its first words; the usage of the end overwrites that of the start."""
        found = read(
            START,
            event("ping"),
            opened(0, type="text", text=""),
            words(0, ""),
            words(0, "hé"),
            words(0, "llo"),
            stop(0),
            end(),
            STOP,
        )
        self.assertEqual(
            found,
            [
                Start("msg_1", "claude-x"),
                Tally(Usage(input=3, output=1)),
                Open(0, "text"),
                Delta(0, "hé"),
                Delta(0, "llo"),
                Close(0),
                Tally(Usage(input=3, output=9)),
                Finish("end"),
                End(),
            ],
        )

    def test_empty_text(self) -> None:
        """A block without a word is no part."""
        self.assertEqual(parts(opened(0, type="text", text=""), words(0, ""), stop(0)), [])

    def test_text_in_the_start(self) -> None:
        """Words in the start of a block count."""
        self.assertEqual(parts(opened(0, type="text", text="a"), stop(0)), [Open(0, "text"), Delta(0, "a"), Close(0)])

    def test_thinking(self) -> None:
        """Thinking is signed right before its end, by whom the target's column names."""
        events = (
            opened(0, type="thinking", thinking="", signature=""),
            delta(0, type="thinking_delta", thinking="hm"),
            delta(0, type="signature_delta", signature="old"),
            delta(0, type="signature_delta", signature="sig"),
            stop(0),
        )
        for signer in ("anthropic", "minimax"):
            sign = Sign(0, Opaque(signer, "claude-y", "signature", "sig"))
            self.assertEqual(parts(*events, signer=signer), [Open(0, "reasoning"), Delta(0, "hm"), sign, Close(0)])

    def test_withheld_thinking(self) -> None:
        """Thinking without text, and redacted thinking, is hidden state; unsigned thinking has none."""
        self.assertEqual(
            parts(
                opened(0, type="thinking", thinking="", signature=""),
                delta(0, type="signature_delta", signature="sig"),
                stop(0),
                opened(1, type="redacted_thinking", data="xx"),
                stop(1),
                opened(2, type="thinking", thinking="t"),
                stop(2),
                opened(3, type="thinking", thinking=""),
                stop(3),
            ),
            [
                Hidden(0, Opaque("anthropic", "claude-y", "signature", "sig")),
                Hidden(1, Opaque("anthropic", "claude-y", "redacted", "xx")),
                Open(2, "reasoning"),
                Delta(2, "t"),
                Close(2),
            ],
        )

    def test_tools(self) -> None:
        """Calls keep their ids and the very text of their arguments; without arguments there is no delta."""
        self.assertEqual(
            parts(
                tool(0), fragment(0, ""), fragment(0, '{"a"'), fragment(0, ": 1}"), stop(0),
                tool(1, "g", "toolu_2"), fragment(1, ""), stop(1),
            ),
            [
                Open(0, "tool", "toolu_1", "f"), Delta(0, '{"a"'), Delta(0, ": 1}"), Close(0),
                Open(1, "tool", "toolu_2", "g"), Close(1),
            ],
        )  # fmt: skip

    def test_whole_input(self) -> None:
        """An input that stands in the start counts where no fragment comes, and not beside one."""
        whole = opened(0, type="tool_use", id="i", name="f", input={"a": "é"})
        self.assertEqual(parts(whole, stop(0))[1], Delta(0, '{"a":"é"}'))
        self.assertEqual(parts(whole, fragment(0, "{}"), stop(0))[1:], [Delta(0, "{}"), Close(0)])

    def test_names(self) -> None:
        """Tools get back their names, namespaces and kinds; a custom one's input is its text, however it is cut."""
        free = [fragment(0, piece) for piece in ('{"in', 'put": "a\\n', '\\u00e9"}')]
        self.assertEqual(
            parts(tool(0, "patch"), *free, stop(0), names=NAMES),
            [Open(0, "tool", "toolu_1", "apply_patch", True), Delta(0, "a\né"), Close(0)],
        )
        self.assertEqual(parts(tool(0, "long_1"), stop(0), names=NAMES)[0], Open(0, "tool", "toolu_1", "a.long.name"))
        self.assertEqual(parts(tool(0, "ns__f"), stop(0), names=NAMES)[0], Open(0, "tool", "toolu_1", "f", False, "ns"))
        self.assertEqual(
            parts(tool(0, "patch"), fragment(0, "not json"), stop(0), names=NAMES)[1], Delta(0, "not json")
        )

    def test_output(self) -> None:
        """The call that stands for a structured output is the answer's text."""
        self.assertEqual(
            parts(tool(0, "answer"), fragment(0, '{"a":'), fragment(0, "1}"), stop(0), names=NAMES),
            [Open(0, "text"), Delta(0, '{"a":'), Delta(0, "1}"), Close(0)],
        )

    def test_citations(self) -> None:
        """Citations are told where they stand, also before the first word."""
        page = {
            "type": "web_search_result_location",
            "url": "https://a",
            "title": "A",
            "cited_text": "c",
            "encrypted_index": "e",
        }
        found = parts(
            opened(0, type="text", text=""), delta(0, type="citations_delta", citation=page), words(0, "x"), stop(0)
        )
        self.assertEqual([type(one) for one in found], [Open, Cite, Delta, Close])
        self.assertEqual((found[1].citation.url, found[1].citation.raw), ("https://a", page))

    def test_search(self) -> None:
        """A search is whole with what it found; one that found nothing any more is told as it stands."""
        call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
        hit = {
            "type": "web_search_result",
            "url": "https://a",
            "title": "A",
            "encrypted_content": "e",
            "page_age": None,
        }
        result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [hit]}
        asked = {**call, "input": {"query": "q"}}
        begin = (opened(0, **call), fragment(0, '{"query"'), fragment(0, ':"q"}'), stop(0))
        self.assertEqual(
            parts(*begin, opened(1, **result), stop(1)),
            [Searched(0, WebSearch("srvtoolu_1", "q", (SearchHit("https://a", "A"),), (asked, result), "anthropic"))],
        )
        (alone,) = parts(*begin)
        self.assertEqual((type(alone), alone.part.raw), (Other, asked))

    def test_other_blocks(self) -> None:
        """Blocks of the dialect alone come whole."""
        found = parts(
            opened(0, type="mcp_tool_use", id="i", name="m", input={}), fragment(0, '{"a":1}'), stop(0),
            opened(1, type="mcp_tool_result", tool_use_id="i", is_error=False, content=[]), stop(1),
            opened(2, type="compaction", content=None), delta(2, type="compaction_delta", content="so far"), stop(2),
            opened(3, type="new_block", x=1), delta(3, type="new_delta", y=2), stop(3),
        )  # fmt: skip
        self.assertEqual([one.key for one in found], [0, 1, 2, 3])
        self.assertEqual({type(one.part) for one in found}, {Foreign})
        self.assertEqual(found[0].part.raw["input"], {"a": 1})
        self.assertEqual(found[2].part.text, "so far")
        self.assertEqual(found[3].part.raw, {"type": "new_block", "x": 1})

    def test_started_twice(self) -> None:
        """The same start twice is one; a start in the middle closes what is open, and its blocks go on after those."""
        self.assertEqual(parts(START, opened(0, type="text", text="a"), stop(0))[0], Open(0, "text"))
        again = event("message_start", message={"id": "msg_2", "usage": {"input_tokens": 8}})
        found = read(
            START,
            opened(0, type="text", text="a"),
            end(),
            again,
            opened(0, type="text", text="b"),
            stop(0),
            end("max_tokens"),
            STOP,
        )
        self.assertEqual([one for one in found if type(one) is Start], [Start("msg_1", "claude-x")])
        self.assertEqual(
            [one for one in found if type(one) in (Open, Delta, Close)],
            [Open(0, "text"), Delta(0, "a"), Close(0), Open(1, "text"), Delta(1, "b"), Close(1)],
        )
        self.assertEqual(found[-2], Finish("length"))
        self.assertEqual(found[-3], Tally(Usage(input=8, output=9)))

    def test_deltas_out_of_place(self) -> None:
        """A text within a call ends that call; a delta opens the block that nobody opened."""
        self.assertEqual(
            parts(tool(0), fragment(0, "{}"), words(0, "x"), stop(0)),
            [Open(0, "tool", "toolu_1", "f"), Delta(0, "{}"), Close(0), Open(1, "text"), Delta(1, "x"), Close(1)],
        )
        self.assertEqual(
            parts(words(4, "x"), delta(5, type="thinking_delta", thinking="t")),
            [Open(0, "text"), Delta(0, "x"), Open(1, "reasoning"), Delta(1, "t"), Close(0), Close(1)],
        )
        self.assertEqual(parts(stop(3), words(0, "x"), stop(0), stop(0)), [Open(0, "text"), Delta(0, "x"), Close(0)])

    def test_arguments_of_nothing(self) -> None:
        """Arguments outside of any call make the answer useless."""
        found = read(START, words(0, "x"), fragment(0, '{"a":1}'), end(), STOP)
        self.assertEqual(found[-1].verdict.kind, Kind.GARBAGE)

    def test_stops(self) -> None:
        """Every reason has its neutral word, an unknown one is a normal end, and a refusal says why."""
        for reason, wanted in (
            ("end_turn", Finish("end")),
            ("max_tokens", Finish("length")),
            ("tool_use", Finish("tool_use")),
            ("pause_turn", Finish("pause")),
            ("model_context_window_exceeded", Finish("context_full")),
            ("brand_new", Finish("end")),
        ):
            self.assertEqual(read(START, words(0, "x"), stop(0), end(reason), STOP)[-2], wanted)
        self.assertEqual(
            read(START, end("stop_sequence", stop_sequence="END"), STOP)[-2], Finish("stop_sequence", "END")
        )
        details = {"type": "refusal", "category": "bio", "explanation": "no"}
        self.assertEqual(
            read(START, event("ping"), end("refusal", stop_details=details), STOP)[-2:],
            [Finish("refusal", None, "no", "bio"), End()],
        )

    def test_several_message_deltas(self) -> None:
        """The first reason counts, the last numbers do."""
        found = read(START, words(0, "x"), stop(0), end(None), end("max_tokens"), end("end_turn"), STOP)
        self.assertEqual([one for one in found if type(one) is Finish], [Finish("length")])

    def test_ends(self) -> None:
        """A reason without ``message_stop`` is an end; no reason is none, wherever the stream breaks off."""
        text = (opened(0, type="text", text=""), words(0, "x"))
        self.assertEqual(read(START, *text, stop(0), end())[-2:], [Finish("end"), End()])
        self.assertEqual(read(START, *text, stop(0), STOP)[-2:], [Finish("end"), End()])
        for cut in ((START, *text), (START, *text, stop(0)), (START, tool(0), fragment(0, '{"a')), (START,)):
            found = read(*cut)
            self.assertEqual((found[-1].verdict.kind, found[-1].verdict.retry_same), (Kind.CUT, True))
            self.assertEqual(sum(type(one) is Close for one in found), int(stop(0) in cut))
        for empty in ((START, STOP), (STOP,)):
            self.assertEqual(read(*empty)[-1].verdict.kind, Kind.GARBAGE)

    def test_last_event_without_its_blank_line(self) -> None:
        """An end that lacks only its last line end is one."""
        self.assertEqual(take([START + words(0, "x") + stop(0) + end()[:-2]])[-1], End())

    def test_errors(self) -> None:
        """An error is judged by its type, before and after content, and nothing comes after it."""
        for before in ((), (START,), (START, opened(0, type="text", text="x"))):
            error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            found = read(*before, error, words(0, "y"), end(), STOP)
            self.assertEqual((found[-1].verdict.kind, found[-1].verdict.message), (Kind.OVERLOADED, "Overloaded"))
        found = read(START, event("error", error={"type": "rate_limit_error", "message": "wait"}))
        self.assertIs(found[-1].verdict.kind, Kind.RATE)

    def test_after_the_end(self) -> None:
        """What comes after the end is nothing."""
        self.assertEqual(read(START, words(0, "x"), stop(0), end(), STOP, words(0, "y"), STOP)[-1], End())

    def test_odd_events(self) -> None:
        """Events that are no JSON, unknown or without a type do not stop the reading; half a character does neither."""
        half = words(0, "\ud83d")
        self.assertIn(b"ud83d", half)
        found = parts(
            b"event: x\ndata: {broken\n\n", b": comment\n\n", event("brand_new", x=1), half, words(0, "b"), stop(0)
        )
        self.assertEqual(found, [Open(0, "text"), Delta(0, "\ud83d"), Delta(0, "b"), Close(0)])

    def test_no_utf8(self) -> None:
        """Bytes that are no UTF-8 are replaced, in a stream and in a whole answer."""
        self.assertEqual(parts(words(0, "a*b").replace(b"*", b"\xff"), stop(0))[1], Delta(0, "a\ufffdb"))
        body = encode({"type": "message", "content": [{"type": "text", "text": "*"}], "stop_reason": "end_turn"})
        self.assertEqual(take([body.replace(b"*", b"\xff")], stream=False)[2], Delta(0, "\ufffd"))

    def test_type_in_either_place(self) -> None:
        """The JSON's type counts; where it has none, the name of the event."""
        self.assertEqual(
            parts(b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n')[1],
            Delta(0, "x"),
        )
        self.assertEqual(
            parts(b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"x"}}\n\n')[1],
            Delta(0, "x"),
        )

    def test_no_stream(self) -> None:
        """A JSON answer where a stream was announced is read as one; anything else is garbage."""
        body = encode({"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"})
        self.assertEqual(read(body)[-1], End())
        error = encode({"type": "error", "error": {"type": "authentication_error", "message": "bad key"}})
        self.assertIs(read(error)[-1].verdict.kind, Kind.AUTH)
        for nothing in (b" ", b"<html>"):
            self.assertIs(read(nothing)[-1].verdict.kind, Kind.GARBAGE)

    def test_side_by_side(self) -> None:
        """Two streams read at once know nothing of each other."""
        one, two = reader(True, context()), reader(True, context())
        first = one.feed(START + words(0, "a"))
        two.feed(START + words(0, "b") + words(1, "c"))
        self.assertEqual(
            first + one.feed(stop(0) + end() + STOP), take([START + words(0, "a") + stop(0) + end() + STOP])
        )

    def test_large_event(self) -> None:
        """An event of several MiB is one."""
        text = "x" * (4 * 1024 * 1024)
        self.assertEqual(take([START, words(0, text), stop(0), end(), STOP])[3], Delta(0, text))


class WholeTests(SynchronousTestCase):
    """Answers that are one JSON object."""

    def test_like_its_stream(self) -> None:
        """Content, stop and usage are those of the same answer streamed."""
        blocks = [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "text", "text": "hi", "citations": None},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "é"]}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        ]
        body = encode(
            {
                "id": "msg_1",
                "type": "message",
                "model": "claude-x",
                "content": blocks,
                "stop_reason": "tool_use",
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 9},
            }
        )
        found = take(bytewise(body), stream=False)
        streamed = take(
            [
                START,
                opened(0, type="thinking", thinking=""),
                delta(0, type="thinking_delta", thinking="hm"),
                delta(0, type="signature_delta", signature="sig"),
                stop(0),
                opened(1, **blocks[1]),
                stop(1),
                words(2, "hi"),
                stop(2),
                tool(3),
                fragment(3, '{"a":[1,"é"]}'),
                stop(3),
                tool(4, "g", "toolu_2"),
                stop(4),
                end("tool_use"),
                STOP,
            ]
        )
        self.assertEqual(found, [one for one in streamed if one != Tally(Usage(input=3, output=1))])

    def test_errors(self) -> None:
        """An error in a good status is one, in either provider's shape; a foreign body is garbage."""
        for body, kind in (
            ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Kind.OVERLOADED),
            ({"base_resp": {"status_code": 1008, "status_msg": "no money"}}, Kind.MONEY),
            ({"choices": []}, Kind.GARBAGE),
            ({"type": "message", "content": []}, Kind.GARBAGE),
            ([], Kind.GARBAGE),
        ):
            self.assertIs(take([encode(body)], stream=False)[-1].verdict.kind, kind)
        for raw in (b"", b"  ", b"{", b"<html>"):
            self.assertIs(take([raw], stream=False)[-1].verdict.kind, Kind.GARBAGE)

    def test_refusal(self) -> None:
        """A refusal without a word is a whole answer."""
        body = {
            "type": "message",
            "content": [],
            "stop_reason": "refusal",
            "stop_details": {"category": None, "explanation": "no"},
        }
        self.assertEqual(take([encode(body)], stream=False)[1:], [Finish("refusal", None, "no"), End()])

    def test_half_a_character(self) -> None:
        """Half a surrogate pair does not hide the answer."""
        body = json.dumps(
            {"type": "message", "content": [{"type": "text", "text": "\ud83d"}], "stop_reason": "end_turn"}
        ).encode()
        self.assertEqual(take([body], stream=False)[2], Delta(0, "\ud83d"))

    def test_stream_unannounced(self) -> None:
        """A stream where one JSON text was announced is read as one."""
        self.assertEqual(take([START + words(0, "x") + stop(0) + end() + STOP], stream=False)[-1], End())
