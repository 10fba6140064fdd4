"""Tests for :mod:`mportrouter.dialects.anthropic_filter` and the readers that it stands in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from random import Random
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope, sse
from ..dialects.anthropic_filter import EventFilter, without_blocks
from ..dialects.anthropic_stream import reader
from ..errors import Kind
from ..interfaces import Target
from ..settings import Capabilities
from .answers import ANTHROPIC, END, ERROR, MESSAGE, MINIMAX, PING, START, USAGE, encode, event, read
from .lines import every_cut

UNWANTED = ("thinking", "redacted_thinking", "ping", "vendor_note")


def with_column(target: Target, unwanted: Iterable[str] = UNWANTED) -> Target:
    return attrs.evolve(target, capabilities=attrs.evolve(target.capabilities, strip_events=tuple(unwanted)))


def block(index: int, kind: str, *deltas: str) -> bytes:
    """A block of some type with its deltas and its end."""
    name = "thinking" if kind == "thinking" else "text"
    begin = {"type": kind, "data": "x"} if kind == "redacted_thinking" else {"type": kind, name: ""}
    return (
        event("content_block_start", index=index, content_block=begin)
        + b"".join(
            event("content_block_delta", index=index, delta={"type": f"{name}_delta", name: text}) for text in deltas
        )
        + event("content_block_stop", index=index)
    )


NOTE = b'event: vendor_note\ndata: {"cost":1}\n\n'
TYPED_NOTE = event("vendor_note", cost=1)
STREAM = (
    START
    + PING
    + block(0, "thinking", "hm", 'a "text" \\ of "index":7')
    + NOTE
    + block(1, "text", "hello", " \u00e9\ud83d")
    + TYPED_NOTE
    + block(2, "redacted_thinking")
    + block(3, "text", 'with "thinking" in it')
    + PING
    + END
)
WANTED = START + block(0, "text", "hello", " \u00e9\ud83d") + block(1, "text", 'with "thinking" in it') + END


def filtered(pieces: Iterable[bytes], unwanted: Iterable[str] = UNWANTED) -> bytes:
    filter = EventFilter(tuple(unwanted))
    return b"".join([*map(filter.feed, pieces), filter.finish()])


def values(stream: bytes) -> list[Any]:
    framer = sse.Framer()
    framer.feed(stream)
    found = []
    while (each := framer.next()) is not None:
        found.append(json.loads(each.data))
    return found


class StreamTests(SynchronousTestCase):
    """Event streams."""

    def test_every_cut(self) -> None:
        """The unwanted goes and the rest is numbered without gaps, the same however the stream is cut."""
        for pieces in every_cut(STREAM):
            self.assertEqual(filtered(pieces), WANTED)

    def test_line_ends(self) -> None:
        """So it is with every kind of line end."""
        for ending in (b"\r\n", b"\r"):
            wanted = values(WANTED)
            got = set()
            for pieces in every_cut(STREAM.replace(b"\n", ending)):
                got.add(filtered(pieces))
            (only,) = got
            self.assertEqual(values(only), wanted)

    def test_real_time(self) -> None:
        """What is wanted goes on as soon as its event is whole."""
        filter = EventFilter(UNWANTED)
        for data, out in (
            (START, START),
            (block(0, "thinking", "a"), b""),
            (block(1, "text", "b")[:-3], block(0, "text", "b")[: -len(event("content_block_stop", index=0))]),
            (b"}\n\n", event("content_block_stop", index=0)),
        ):
            self.assertEqual(filter.feed(data), out)

    def test_nothing_unwanted(self) -> None:
        """A stream without any of it passes byte for byte, oddities too."""
        odd = (
            b": comment\n\nretry: 5\n\ndata: [DONE]\n\ndata: []\n\nevent: x\n\n\n"
            b'data: {"type":"future","index":"x"}\n\ndata:{"type":"content_block_stop","index":9}\n\n'
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":5,"delta":{}}\n\n'
        )
        whole = START + block(0, "text", "a") + odd + END
        for pieces in every_cut(whole):
            self.assertEqual(filtered(pieces), whole)

    def test_spelling(self) -> None:
        """Events are told by what they are, not by how they are spelt."""
        spelt = (
            b'data: {"content_block" : {"thinking":"", "type": "thinking"}, '
            b'"type":"content_block_start","index" : 0}\n\n'
            b'data: {"index":0,"type":"content_block_delta","delta":{"thinking":"\\ud83d"}}\n\n'
            b'event:content_block_stop\ndata:{"index":0,\ndata: "type":"content_block_stop"}\n\n'
            b'data: {"type":"content_block_start", "index": 1, "content_block":{"type":"text","text":"\\ud83d"}}\n\n'
            b'event: content_block_delta\nid: 5\n'
            b'data: {"type":"content_block_delta","index": 1 ,"delta":{"text":"a"}}\n\n'
            b'data: {"type":"content_block_stop",\ndata: "index":1}\n\n'
        )
        for pieces in every_cut(spelt):
            got = filtered(pieces)
            self.assertEqual(
                values(got),
                [
                    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "\ud83d"}},
                    {"type": "content_block_delta", "index": 0, "delta": {"text": "a"}},
                    {"type": "content_block_stop", "index": 0},
                ],
            )
        self.assertIn(b"id: 5\n", got)

    def test_interleaved(self) -> None:
        """Blocks that are open at the same time keep apart, and gaps of the upstream's own are closed."""
        first, second = block(2, "text", "a"), block(7, "text", "b")
        whole = START + first + block(4, "thinking", "t") + second + END
        mixed = (
            event("content_block_start", index=2, content_block={"type": "thinking", "thinking": ""})
            + event("content_block_start", index=7, content_block={"type": "text", "text": ""})
            + event("content_block_delta", index=2, delta={"type": "thinking_delta", "thinking": "a"})
            + event("content_block_delta", index=7, delta={"type": "text_delta", "text": "b"})
            + event("content_block_stop", index=2)
            + event("content_block_stop", index=7)
        )
        self.assertEqual(filtered([whole]), START + block(0, "text", "a") + block(1, "text", "b") + END)
        self.assertEqual(filtered([mixed]), block(0, "text", "b"))

    def test_needed(self) -> None:
        """What an answer is made of passes, whatever the column says, and so does an error."""
        names = ("message_start", "message_delta", "message_stop", "error", "content_block_delta", "content_block_stop")
        whole = START + block(0, "text", "a") + END + ERROR
        self.assertEqual(filtered([whole], names), whole)

    def test_life_signs(self) -> None:
        """While nothing but the unwanted comes, the client hears something now and then, however the stream is cut."""
        long = START + block(0, "thinking", *["t"] * 200) + END
        for unwanted, sign in ((("thinking",), PING), (("thinking", "ping"), b": \n\n")):
            wanted = START + sign * 3 + END
            for pieces in ([long], [long[i : i + 1] for i in range(len(long))]):
                self.assertEqual(filtered(pieces, unwanted), wanted)

    def test_cut(self) -> None:
        """An event that lacks only its blank line passes, or goes where it is unwanted; half an event goes."""
        last = event("message_stop")
        self.assertEqual(filtered([START + last[:-1]]), START + last[:-1])
        self.assertEqual(filtered([START + last[:-2]]), START + last[:-2])
        self.assertEqual(filtered([START + PING[:-2]]), START)
        self.assertEqual(filtered([START + last[:-3]]), START)

    def test_endless(self) -> None:
        """What never becomes an event is not held without bound."""
        filter = EventFilter(UNWANTED)
        out = sum(len(filter.feed(b"x" * 1024 * 1024)) for _ in range(20))
        self.assertGreater(out, 0)
        self.assertEqual(out + len(filter.finish()), out)

    @given(kinds=st.lists(st.sampled_from(["text", "thinking", "tool_use", "odd"]), max_size=8), seed=st.integers())
    @settings(max_examples=60, deadline=None)
    def test_dense(self, kinds: list[str], seed: int) -> None:
        """The blocks that stay are the wanted ones, in order, numbered from 0."""
        stream = START + b"".join(block(index, kind, "x") for index, kind in enumerate(kinds)) + END
        cuts = sorted(Random(seed).sample(range(1, len(stream)), 5))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        wanted = [kind for kind in kinds if kind not in ("thinking", "odd")]
        expected = START + b"".join(block(index, kind, "x") for index, kind in enumerate(wanted)) + END
        self.assertEqual(filtered(pieces, ("thinking", "odd")), expected)


class ReaderTests(SynchronousTestCase):
    """The filter behind the readers of answers."""

    def test_usage_and_end(self) -> None:
        """Usage and end are the whole answer's, with either signer; signatures of a foreign one are wrapped."""
        for target in (ANTHROPIC, MINIMAX):
            for pieces in every_cut(STREAM):
                outcome = read(*pieces, target=with_column(target))
                self.assertEqual(outcome.body, WANTED)
                self.assertEqual((outcome.ending.usage, outcome.ending.complete), (USAGE, True))
        signed = block(0, "text", "a") + event(
            "content_block_start", index=1, content_block={"type": "thinking", "thinking": "", "signature": "s"}
        )
        got = read(START, signed, target=with_column(MINIMAX, ["ping"])).body
        self.assertIn(envelope.wrap("minimax", "MiniMax-M3", "s").encode(), got)

    def test_commits(self) -> None:
        """What is left out commits all the same: the answer has begun."""
        reading = reader(True, b"", with_column(ANTHROPIC))
        self.assertEqual((reading.feed(START + PING), reading.state), (START, "hold"))
        self.assertEqual((reading.feed(block(0, "thinking", "a")), reading.state), (b"", "content"))

    def test_error(self) -> None:
        """An error before any content is a verdict, one after it passes."""
        outcome = read(START + PING, ERROR, target=with_column(ANTHROPIC))
        assert outcome.verdict is not None
        self.assertIs(outcome.verdict.kind, Kind.OVERLOADED)
        outcome = read(START + block(0, "thinking", "a"), ERROR, target=with_column(ANTHROPIC))
        self.assertEqual(outcome.body, START + ERROR)
        assert outcome.ending.error is not None

    def test_last_event_missing(self) -> None:
        """A stream that lacks only its last event gets it."""
        for missing in (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', b"\n"):
            outcome = read(STREAM.removesuffix(missing), target=with_column(ANTHROPIC))
            self.assertTrue(outcome.ending.complete)
            self.assertEqual(values(outcome.body + b"\n"), values(WANTED))

    def test_coded(self) -> None:
        """A coded stream is decoded, filtered and coded anew."""
        outcome = read(gzip.compress(STREAM), encoding=b"gzip", target=with_column(ANTHROPIC))
        self.assertEqual(gzip.decompress(outcome.body), WANTED)

    def test_empty_column(self) -> None:
        """Without the column the very chunks pass, by the readers that there were before."""
        reading = reader(True, b"", ANTHROPIC)
        self.assertIs(reading.feed(STREAM), STREAM)
        self.assertEqual(type(reading).__name__, "EventReader")


class WholeTests(SynchronousTestCase):
    """Whole answers."""

    def test_blocks(self) -> None:
        """Blocks of the types go; the rest, usage among it, keeps its bytes."""
        for target in (ANTHROPIC, MINIMAX):
            raw = encode(MESSAGE)
            for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
                outcome = read(*pieces, stream=False, target=with_column(target))
                self.assertEqual(outcome.body, encode({**MESSAGE, "content": [{"type": "text", "text": "hi"}]}))
                self.assertEqual((outcome.ending.usage, outcome.state), (USAGE, "content"))
        self.assertEqual(read(encode(MESSAGE), stream=False).body, encode(MESSAGE))

    def test_wrapped(self) -> None:
        """Where thinking stays, its signature is wrapped as ever."""
        got = read(encode(MESSAGE), stream=False, target=with_column(MINIMAX, ["ping"])).body
        self.assertIn(envelope.wrap("minimax", "MiniMax-M3", "sig/+=").encode(), got)

    def test_no_message(self) -> None:
        """An error or garbage is judged as ever, and passes unchanged."""
        for raw in (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', b"<html>"):
            outcome = read(raw, stream=False, target=with_column(ANTHROPIC))
            self.assertEqual((outcome.state, outcome.body), ("error", raw))

    def test_odd_shapes(self) -> None:
        """What has no such blocks is the very object."""
        for raw in (b"", b"[", b"[]", b"{}", b'{"content":"thinking"}', b'{"content":[1,"thinking",{"type":5}]}'):
            self.assertIs(without_blocks(raw, UNWANTED), raw)
        raw = b'{ "content" : [ {"type":"thinking","thinking":"\\ud83d"} ] , "usage":{} }'
        self.assertEqual(without_blocks(raw, UNWANTED), b'{ "content" : [] , "usage":{} }')

    def test_column_of_the_model(self) -> None:
        """The column is the target's, which is the model's."""
        silent = Target("x", "y", Capabilities(strip_events=("text",)))
        got = json.loads(read(encode(MESSAGE), stream=False, target=silent).body)
        self.assertEqual([each["type"] for each in got["content"]], ["thinking"])
