"""Tests for the event readers of :mod:`mportrouter.dialects.anthropic_stream`."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..dialects.anthropic_stream import reader
from ..errors import Kind
from ..interfaces import Ending, IAnswerReader
from .answers import (
    ANTHROPIC,
    END,
    ERROR,
    HEAD,
    MINIMAX,
    PING,
    START,
    STOP,
    TEXT_OPEN,
    THINKING_OPEN,
    USAGE,
    WHOLE,
    bytewise,
    delta,
    event,
    read,
)


class InterfaceTests(SynchronousTestCase):
    """Every reader is one."""

    def test_interface(self) -> None:
        """Readers of each sort provide what the relay expects."""
        for stream in (True, False):
            for encoding in (b"", b"gzip", b"deflate", b"br"):
                for target in (ANTHROPIC, MINIMAX):
                    reading = reader(stream, encoding, target)
                    self.assertTrue(verifyObject(IAnswerReader, reading))
                    self.assertEqual((reading.state, reading.verdict), ("hold", None))


class GateTests(SynchronousTestCase):
    """What commits a stream, and what does not."""

    def state_after(self, *events: bytes) -> str:
        reading = reader(True, b"", ANTHROPIC)
        reading.feed(START)
        for piece in events:
            reading.feed(piece)
        return reading.state

    def test_holds(self) -> None:
        """Beginnings, life signs, empty text blocks and garbage are no content."""
        for piece in (
            PING,
            b": keepalive\n\n",
            TEXT_OPEN,
            STOP,
            b"data: [DONE]\n\n",
            b"event: content_block_delta\ndata: not JSON\n\n",
            b"event: x\ndata: []\n\n",
            b'data: {"base_resp":{"status_code":0,"status_msg":"success"}}\n\n',
            START,
            b'event: future\ndata: {"type":"future"}\n\n',
            delta("x")[:-1],
        ):
            self.assertEqual(self.state_after(piece), "hold", piece)

    def test_commits(self) -> None:
        """Deltas, blocks other than text, and the end of a refusal are content."""
        for piece in (
            delta("x"),
            delta("\ud83d"),
            THINKING_OPEN,
            event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "n"}),
            event("content_block_start", index=0, content_block={"type": "text", "text": "whole"}),
            END,
            event("message_stop"),
            delta("x").replace(b"event: content_block_delta\n", b""),
            delta("x").replace(b": ", b":"),
            delta("x").replace(b"\n", b"\r\n"),
            delta("x").replace(b"\n", b"\r"),
        ):
            self.assertEqual(self.state_after(TEXT_OPEN, piece), "content", piece)
            self.assertEqual(self.state_after(TEXT_OPEN, *bytewise(piece)), "content", piece)

    def test_error_before_content(self) -> None:
        """An error event, MiniMax's numbers or an error without its type end the hold with a verdict."""
        for piece, kind in (
            (ERROR, Kind.OVERLOADED),
            (ERROR.replace(b"event: error\n", b""), Kind.OVERLOADED),
            (event("error", error={"type": "rate_limit_error", "message": "slow"}), Kind.RATE),
            (event("error"), Kind.UPSTREAM),
            (event("error", error="text"), Kind.UPSTREAM),
            (b'data: {"base_resp":{"status_code":1004,"status_msg":"login fail"}}\n\n', Kind.AUTH),
            (b'data: {"base_resp":{"status_code":"1008","status_msg":"balance"}}\n\n', Kind.MONEY),
            (b'data: {"error":{"type":"overloaded_error","message":"x"}}\n\n', Kind.OVERLOADED),
        ):
            outcome = read(START + PING, piece, delta("never"))
            self.assertEqual(outcome.states, ["hold", "error"], piece)
            assert outcome.verdict is not None
            self.assertIs(outcome.verdict.kind, kind, piece)
            self.assertFalse(outcome.ending.complete)
            self.assertEqual(outcome.ending.error, outcome.verdict)

    def test_nothing(self) -> None:
        """A stream without content ends in an error, whatever it had instead."""
        for pieces, kind in (
            ((), Kind.GARBAGE),
            ((b"\n\n",), Kind.GARBAGE),
            ((b"<html><body>Bad gateway</body></html>",), Kind.GARBAGE),
            ((b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',), Kind.OVERLOADED),
            ((b'{"base_resp":{"status_code":1002,"status_msg":"rate"}}\n',), Kind.RATE),
            ((START,), Kind.CUT),
            ((HEAD, STOP), Kind.CUT),
            ((PING,), Kind.CUT),
            ((START, delta("x")[:40]), Kind.CUT),
        ):
            outcome = read(*pieces)
            self.assertEqual(outcome.state, "error", pieces)
            assert outcome.verdict is not None
            self.assertIs(outcome.verdict.kind, kind, pieces)
            self.assertTrue(outcome.verdict.move_on)
            self.assertEqual(outcome.body, b"".join(pieces))

    def test_endless(self) -> None:
        """Neither an event that never ends nor endless life signs are held without bound."""
        reading = reader(True, b"", ANTHROPIC)
        for _ in range(40):
            reading.feed(b"x" * 1024 * 1024)
        self.assertEqual(reading.state, "error")
        reading = reader(True, b"", ANTHROPIC)
        for _ in range(12):
            reading.feed(PING * 40_000)
        self.assertEqual(reading.state, "error")

    def test_no_last_blank_line(self) -> None:
        """Content in an event that lacks only its blank line still counts."""
        outcome = read(START, event("message_stop").rstrip(b"\n"))
        self.assertEqual((outcome.state, outcome.ending.complete), ("content", True))


class EndTests(SynchronousTestCase):
    """Usage and end of a stream."""

    def test_whole(self) -> None:
        """A whole stream passes as the same objects; usage, model and end are read, in one piece or byte by byte."""
        reading = reader(True, b"", ANTHROPIC)
        self.assertIs(reading.feed(WHOLE), WHOLE)
        self.assertEqual(reading.finish(), (b"", Ending(True, USAGE, None, "claude-x")))
        for stream in (WHOLE, WHOLE.replace(b"\n", b"\r\n"), WHOLE.replace(b"\n", b"\r"), WHOLE.replace(b": {", b":{")):
            outcome = read(*bytewise(stream))
            self.assertEqual(outcome.body, stream)
            self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
            self.assertEqual(outcome.states, ["hold", "content"])

    @settings(deadline=None)
    @given(st.data())
    def test_cuts(self, data: st.DataObject) -> None:
        """However the bytes are cut into reads, the ending is the same and the bytes pass."""
        count = data.draw(st.sampled_from([0, 3, 300]))
        form = data.draw(st.sampled_from([(b"\n", b"\n"), (b"\n", b"\r\n"), (b"event: ", b"event:")]))
        stream = (HEAD + delta("event: message_delta \u00e9") * count + STOP + END).replace(*form)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        outcome = read(*pieces)
        self.assertEqual(outcome.body, stream)
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))

    def test_long(self) -> None:
        """Streams longer than what is kept are read at their end, whatever the size of the reads."""
        middle = delta("word ") * 2000
        for size in (150, 1000, 4096, 65536, 10**7):
            stream = HEAD + middle + STOP + END
            outcome = read(*(stream[i : i + size] for i in range(0, len(stream), size)))
            self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"), size)

    def test_large_last_event(self) -> None:
        """A message_delta far larger than what is kept otherwise is read whole, in small reads as in one."""
        large = event(
            "message_delta",
            delta={"stop_reason": "end_turn"},
            input_transformations=[{"path": "x" * 100}] * 2000,
            usage={"output_tokens": 77},
        )
        stream = HEAD + delta("word ") * 500 + STOP + large + event("message_stop")
        for size in (700, 5000, 10**7):
            outcome = read(*(stream[i : i + size] for i in range(0, len(stream), size)))
            self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"), size)

    def test_bounded(self) -> None:
        """Nothing that an upstream sends after commit makes the reader keep more than about a MiB."""
        last = event("message_delta", usage={"output_tokens": 5})
        for filler in (delta("x" * 500), b"x" * 500, b": comment\n", b"event: message_delta\n", last):
            reading: Any = reader(True, b"", ANTHROPIC)
            reading.feed(HEAD + delta("x") + last)
            for _ in range(100):
                reading.feed(filler * (60_000 // len(filler)))
                self.assertLess(len(reading._tail), 1_300_000)
            ending = reading.finish()[1]
            self.assertFalse(ending.complete)
            self.assertEqual((ending.usage.input, ending.usage.estimated), (12, True), filler[:50])

    def test_text_about_events(self) -> None:
        """An answer about this very protocol is not taken for it."""
        text = 'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9999}}\n\n'
        outcome = read(HEAD, delta(text) * 300, delta('"signature":"x" event: error'), STOP + END)
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        cut = read(HEAD, delta(text) * 300)
        assert cut.ending.usage is not None
        self.assertFalse(cut.ending.complete)
        self.assertEqual((cut.ending.usage.estimated, cut.ending.error), (True, None))

    def test_several_last_events(self) -> None:
        """Of several message_deltas each overwrites what it names."""
        first = event("message_delta", usage={"input_tokens": 61, "output_tokens": 5})
        outcome = read(HEAD + delta("x") + first + delta("y") + END)
        assert outcome.ending.usage is not None
        self.assertEqual((outcome.ending.usage.input, outcome.ending.usage.output), (61, 77))

    def test_details(self) -> None:
        """Reasoning and the provider's own searches are read where they are told."""
        last = event(
            "message_delta",
            usage={
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4},
                "server_tool_use": {"web_search_requests": 2},
            },
        )
        usage = read(HEAD + delta("x") + last + event("message_stop")).ending.usage
        assert usage is not None
        self.assertEqual((usage.output, usage.reasoning, usage.web_searches), (9, 4, 2))

    def test_refusal(self) -> None:
        """A refusal without any block is a whole answer."""
        outcome = read(START, PING, END)
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))

    def test_cut(self) -> None:
        """A stream that breaks off is not complete; its output is estimated from the text that came."""
        for count in (10, 1000):
            text = "abcdefgh" * 5
            outcome = read(HEAD, *[delta(text)] * count, delta("half")[:60])
            ending = outcome.ending
            assert ending.usage is not None
            self.assertEqual((ending.complete, ending.error, ending.usage.estimated), (False, None, True))
            self.assertEqual(ending.usage.input, 12)
            self.assertLess(abs(ending.usage.output / (10 * count) - 1), 0.2)
        thinking = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x" * 400})
        usage = read(START, THINKING_OPEN, thinking).ending.usage
        assert usage is not None
        self.assertGreater(usage.output, 90)

    def test_cut_without_usage(self) -> None:
        """Neither usage nor a beginning: the estimate stands alone; a whole answer without usage has none."""
        usage = read(delta("x"), delta("y" * 80)).ending.usage
        assert usage is not None
        self.assertTrue(usage.estimated)
        self.assertEqual(read(delta("x") + event("message_stop")).ending, Ending(True, None, None))

    def test_error_after_content(self) -> None:
        """An error event after content passes on and is the ending's error, near the commit or far from it."""
        for count in (1, 1000):
            for stream in (ERROR, ERROR.replace(b"\n", b"\r\n"), ERROR.rstrip(b"\n")):
                outcome = read(HEAD, *[delta("word")] * count, stream)
                self.assertEqual(outcome.states, ["hold", "content"])
                self.assertTrue(outcome.body.endswith(stream))
                ending = outcome.ending
                assert ending.error is not None
                self.assertFalse(ending.complete)
                self.assertIs(ending.error.kind, Kind.OVERLOADED)
                assert ending.usage is not None
                self.assertTrue(ending.usage.estimated)

    def test_no_last_event(self) -> None:
        """A stream that said why it stops and lacks only message_stop is whole, and gets it."""
        stop = event("message_stop")
        for count in (1, 1000):
            whole = HEAD + delta("word") * count + STOP + END
            for end in (b"\n", b"\r\n", b"\r"):
                stream = whole.removesuffix(stop).replace(b"\n", end)
                for target in (ANTHROPIC, MINIMAX):
                    for pieces in ([stream], [stream[i : i + 61] for i in range(0, len(stream), 61)]):
                        outcome = read(*pieces, target=target)
                        self.assertEqual(outcome.body, stream + stop)
                        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        bare = (START + END).removesuffix(stop)
        self.assertEqual(read(bare, PING).ending, Ending(True, USAGE, None, "claude-x"))
        self.assertEqual(read(bare, PING).body, bare + PING + stop)

    def test_no_last_event_unfinished(self) -> None:
        """The event before it is ended first, where that is missing too; half an event is a cut."""
        stop = event("message_stop")
        for whole in (WHOLE, START + END):
            for target in (ANTHROPIC, MINIMAX):
                for end in (b"\n", b"\r\n", b"\r"):
                    stream = whole.removesuffix(stop).rstrip(b"\n").replace(b"\n", end)
                    for sent in (stream, stream + end):
                        outcome = read(sent, target=target)
                        self.assertEqual(outcome.body, sent + b"\n\n" + stop)
                        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        for half in (stop[:9], stop[:20], stop[:30], b"event: content_block_delta\ndata: {"):
            outcome = read(WHOLE.removesuffix(stop) + half)
            self.assertFalse(outcome.ending.complete, half)
            self.assertNotIn(b'{"type":"message_stop"}', outcome.body)

    def test_no_last_event_and_no_end(self) -> None:
        """Without a reason to stop, or with content or an error after it, a stream without its last event is a cut."""
        delta_ = event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 7})
        last = END.removesuffix(event("message_stop"))
        nameless = delta("more").partition(b"\n")[2]
        for stream in (delta_, last + delta("more"), last + nameless, last + TEXT_OPEN, last + ERROR, STOP):
            outcome = read(HEAD, delta("x"), stream)
            self.assertEqual(outcome.body, HEAD + delta("x") + stream)
            self.assertFalse(outcome.ending.complete, stream)

    def test_after_the_end(self) -> None:
        """What follows message_stop is ignored."""
        self.assertEqual(read(WHOLE, b"garbage\n\n", ERROR, PING).ending, Ending(True, USAGE, None, "claude-x"))

    def test_garbage_event(self) -> None:
        """An event in mid-stream that is no JSON is passed on and passed over."""
        outcome = read(HEAD, delta("a"), b"event: content_block_delta\ndata: {oops\n\n", delta("b"), STOP + END)
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))

    def test_lone_surrogates(self) -> None:
        """Half an emoji in a delta or in the last event hides nothing."""
        last = event("message_delta", delta={"stop_sequence": "\ud83d"}, usage={"output_tokens": 77})
        outcome = read(HEAD, delta("\ud83d"), delta("\ude00"), last + event("message_stop"))
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))

    def test_large_event(self) -> None:
        """An event of several MiB passes, before commit and after it."""
        large = delta("x" * (3 * 1024 * 1024))
        pieces = [large[i : i + 65536] for i in range(0, len(large), 65536)]
        for before in (HEAD, HEAD + delta("x")):
            outcome = read(before, *pieces, STOP + END)
            self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
