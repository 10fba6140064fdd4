"""Tests for the readers of :mod:`mportrouter.dialects.anthropic_stream` and the modules beside it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import envelope, sse
from ..dialects.anthropic_stream import reader
from ..dialects.anthropic_whole import JSON_LIMIT
from ..errors import Kind
from ..interfaces import Ending, IAnswerReader, Target
from ..records import Usage
from ..settings import Capabilities

ANTHROPIC = Target("anthropic", "claude-opus-5-5", Capabilities())
MINIMAX = Target("minimax", "MiniMax-M3", Capabilities(thinking_signature="minimax"))


def event(name: str, **members: Any) -> bytes:
    return sse.event(name, json.dumps({"type": name, **members}, separators=(",", ":")).encode())


START_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 1,
}
START = event("message_start", message={"id": "m", "model": "claude-x", "content": [], "usage": START_USAGE})
PING = event("ping")
TEXT_OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
THINKING_OPEN = event(
    "content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}
)
STOP = event("content_block_stop", index=0)


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def signature(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": text})


END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77}) + event("message_stop")
HEAD = START + PING + TEXT_OPEN
WHOLE = HEAD + delta("hello") + delta(" world") + STOP + END
USAGE = Usage(input=12, cache_read=3, cache_write_5m=2, cache_write_1h=3, output=77)
ERROR = event("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="r")


class Outcome:
    """What came of feeding pieces to a reader."""

    def __init__(self, reading: Any, pieces: Iterable[bytes]) -> None:
        self.states = [reading.state]
        out = []
        for piece in pieces:
            out.append(reading.feed(piece))
            if reading.state != self.states[-1]:
                self.states.append(reading.state)
        rest, self.ending = reading.finish()
        if reading.state != self.states[-1]:
            self.states.append(reading.state)
        self.body = b"".join(out) + rest
        self.state, self.verdict = reading.state, reading.verdict


def read(
    *pieces: bytes, stream: bool = True, encoding: bytes = b"", target: Target = ANTHROPIC
) -> Outcome:
    return Outcome(reader(stream, encoding, target), pieces)


def bytewise(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


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


class WrappingTests(SynchronousTestCase):
    """Foreign signatures on their way to the client."""

    wrapped = envelope.wrap("minimax", "MiniMax-M3", "sig/+=")
    opened = event("content_block_start", index=0, content_block={"type": "thinking", "signature": "sig/+="})
    redacted = event("content_block_start", index=0, content_block={"type": "redacted_thinking", "data": "sig/+="})
    stream = (
        START
        + THINKING_OPEN
        + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
        + signature("sig/+=")
        + STOP
        + opened
        + STOP
        + redacted
        + STOP
        + TEXT_OPEN
        + delta('the "signature":"sig/+=" redacted_thinking')
        + STOP
        + END
    )

    def wanted(self, stream: bytes) -> bytes:
        coded = json.dumps(self.wrapped).encode()
        for name in (b'"signature":', b'"data":'):
            stream = stream.replace(name + b'"sig/+="', name + coded)
        return stream

    def test_stream(self) -> None:
        """Each signature is wrapped where it stands, and every other byte stays."""
        outcome = read(self.stream, target=MINIMAX)
        self.assertEqual(outcome.body, self.wanted(self.stream))
        self.assertEqual(outcome.body.count(self.wrapped.encode()), 3)
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        self.assertIn(delta('the "signature":"sig/+=" redacted_thinking'), outcome.body)

    @settings(deadline=None)
    @given(st.data())
    def test_cuts(self, data: st.DataObject) -> None:
        """The same however the bytes are cut, in every kind of line end."""
        end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
        stream = self.stream.replace(b"\n", end)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        outcome = read(*pieces, target=MINIMAX)
        self.assertEqual(outcome.body, self.wanted(stream))
        self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))

    def test_bytewise(self) -> None:
        """Byte by byte, no half of a signature goes out."""
        for end in (b"\n", b"\r\n", b"\r"):
            stream = self.stream.replace(b"\n", end)
            self.assertEqual(read(*bytewise(stream), target=MINIMAX).body, self.wanted(stream))

    def test_untouched(self) -> None:
        """A read of whole events without a signature passes as the very object."""
        reading = reader(True, b"", MINIMAX)
        for piece in (HEAD, delta("x"), delta("y") * 3):
            self.assertIs(reading.feed(piece), piece)

    def test_keeps_back(self) -> None:
        """An unfinished event waits for its rest; finished ones before it do not wait with it."""
        reading = reader(True, b"", MINIMAX)
        half = signature("abc")
        self.assertEqual(reading.feed(HEAD + delta("x") + half[:30]), HEAD + delta("x"))
        self.assertEqual(reading.feed(half[30:60]), b"")
        self.assertEqual(reading.feed(half[60:]), signature(envelope.wrap("minimax", "MiniMax-M3", "abc")))

    def test_cut(self) -> None:
        """Half an event at the end is left out; one that lacks only its blank line is not."""
        outcome = read(HEAD + delta("x") + signature("abc")[:-20], target=MINIMAX)
        self.assertEqual(outcome.body, HEAD + delta("x"))
        self.assertFalse(outcome.ending.complete)
        outcome = read(HEAD + delta("x") + END.rstrip(b"\n"), target=MINIMAX)
        self.assertEqual(outcome.body, HEAD + delta("x") + END.rstrip(b"\n"))
        self.assertTrue(outcome.ending.complete)
        outcome = read(HEAD + signature("abc").rstrip(b"\n"), target=MINIMAX)
        self.assertIn(b"rt1.minimax.", outcome.body)

    def test_empty_signature(self) -> None:
        """An empty signature stays empty, and odd ones are left alone."""
        for odd in (
            signature(""),
            event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": None}),
            event("content_block_delta", index=0, delta={"type": "signature_delta"}, x="signature"),
            event("content_block_delta", index=0, delta="signature"),
            b'event: x\ndata: {"signature"\n\n',
            b'event: x\ndata: ["signature"]\n\n',
            b'"signature"\n\n',
            b': "signature"\n\n',
        ):
            self.assertEqual(read(HEAD, odd, END, target=MINIMAX).body, HEAD + odd + END)

    def test_error_before_content(self) -> None:
        """The gate works behind the wrapping as before it."""
        outcome = read(HEAD, ERROR, target=MINIMAX)
        assert outcome.verdict is not None
        self.assertEqual((outcome.state, outcome.verdict.kind), ("error", Kind.OVERLOADED))

    def test_endless_event(self) -> None:
        """An event without end is not kept back without bound."""
        reading = reader(True, b"", MINIMAX)
        passed = sum(len(reading.feed(b"x" * 1024 * 1024)) for _ in range(40))
        self.assertGreater(passed, 0)

    def test_round_trip(self) -> None:
        """What the client gets and gives back reaches the provider as it was, and nobody else."""
        from ..dialects.anthropic_request import look, prepare

        outcome = read(self.stream, target=MINIMAX)
        given_back = [
            json.loads(line[6:])["delta"]["signature"]
            for line in outcome.body.split(b"\n")
            if b'"signature_delta"' in line
        ]
        block = {"type": "thinking", "thinking": "hm", "signature": given_back[0]}
        content = [block, {"type": "text", "text": "x"}]
        raw = json.dumps({"model": "m", "messages": [{"role": "assistant", "content": content}]}).encode()
        sent = json.loads(prepare(raw, look(raw), MINIMAX).body)
        self.assertEqual(sent["messages"][0]["content"][0]["signature"], "sig/+=")
        elsewhere = json.loads(prepare(raw, look(raw), ANTHROPIC).body)
        self.assertEqual(elsewhere["messages"][0]["content"], content[1:])


MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "thinking", "thinking": "hm", "signature": "sig/+="}, {"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {**START_USAGE, "output_tokens": 77},
}


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class MessageTests(SynchronousTestCase):
    """Answers that are one JSON object."""

    def test_whole(self) -> None:
        """A message passes as the same objects, is held to its end, and its usage is read."""
        body = encode(MESSAGE)
        reading = reader(False, b"", ANTHROPIC)
        self.assertIs(reading.feed(body), body)
        self.assertEqual(reading.state, "hold")
        self.assertEqual(reading.finish(), (b"", Ending(True, USAGE, None, "claude-x")))
        self.assertEqual(reading.state, "content")
        self.assertEqual(read(*bytewise(body), stream=False).body, body)

    def test_accepted(self) -> None:
        """Counts, lists, odd numbers and lone surrogates are answers too."""
        for body in (
            b'{"input_tokens":5}',
            b'{"data":[],"has_more":false}',
            encode({**MESSAGE, "content": []}),
            encode({**MESSAGE, "content": [{"type": "text", "text": "\ud83d"}]}),
            encode({**MESSAGE, "x": float("nan")}),
            encode({**MESSAGE, "error": None}),
            encode({**MESSAGE, "base_resp": {"status_code": 0, "status_msg": "success"}}),
            json.dumps(MESSAGE, indent=1).encode() + b"\n",
        ):
            for target in (ANTHROPIC, MINIMAX):
                outcome = read(body, stream=False, target=target)
                self.assertEqual((outcome.states, outcome.ending.complete), (["hold", "content"], True), body)

    def test_errors(self) -> None:
        """A 200 that is an error, empty or foreign is one."""
        for body, kind in (
            (b"", Kind.GARBAGE),
            (b" \n", Kind.GARBAGE),
            (b"<html></html>", Kind.GARBAGE),
            (b"[]", Kind.GARBAGE),
            (b"null", Kind.GARBAGE),
            (b'"x"', Kind.GARBAGE),
            (b"{}", Kind.GARBAGE),
            (b'{"choices":[]}', Kind.GARBAGE),
            (b"[" * 100_000, Kind.GARBAGE),
            (encode(MESSAGE)[:-1], Kind.GARBAGE),
            (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', Kind.OVERLOADED),
            (b'{"type":"error","error":{"type":"overloaded_error","message":"\\ud83d"}}', Kind.OVERLOADED),
            (b'{"type":"error"}', Kind.UPSTREAM),
            (b'{"type":"error","error":{"type":"authorized_error","message":"login fail (1004)"}}', Kind.AUTH),
            (b'{"error":"boom"}', Kind.UPSTREAM),
            (b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}', Kind.MONEY),
            (b'{"base_resp":{"status_code":"1002","status_msg":"x"}}', Kind.RATE),
            (encode({**MESSAGE, "base_resp": {"status_code": 1039, "status_msg": "x"}}), Kind.RATE),
        ):
            for target in (ANTHROPIC, MINIMAX):
                outcome = read(body, stream=False, target=target)
                self.assertEqual(outcome.states, ["hold", "error"], body[:60])
                assert outcome.verdict is not None
                self.assertIs(outcome.verdict.kind, kind, body[:60])
                self.assertEqual((outcome.ending.complete, outcome.body), (False, body))

    def test_signatures(self) -> None:
        """A foreign answer is held back, and goes out with its signatures wrapped and every other byte as it was."""
        body = json.dumps(MESSAGE, indent=1).encode()
        reading = reader(False, b"", MINIMAX)
        self.assertEqual([reading.feed(piece) for piece in (body[:50], body[50:])], [b"", b""])
        rest, ending = reading.finish()
        self.assertEqual(ending, Ending(True, USAGE, None, "claude-x"))
        wanted = json.loads(body)
        wanted["content"][0]["signature"] = envelope.wrap("minimax", "MiniMax-M3", "sig/+=")
        self.assertEqual(json.loads(rest), wanted)
        self.assertEqual(rest[: rest.index(b'"content"')], body[: body.index(b'"content"')])
        self.assertEqual(rest[rest.index(b'"stop_reason"') :], body[body.index(b'"stop_reason"') :])
        quoted, unsigned = {"type": "text", "text": '"signature"'}, {"type": "thinking", "signature": ""}
        for content in ([], [quoted], [unsigned], 5, ["signature"]):
            plain = encode({**MESSAGE, "content": content})
            self.assertEqual(read(plain, stream=False, target=MINIMAX).body, plain)

    def test_too_large_to_hold(self) -> None:
        """An answer past the limit passes; its usage is read from its end, and a cut one is not whole."""
        body = encode({**MESSAGE, "content": [{"type": "text", "text": "x" * JSON_LIMIT}]})
        pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)]
        for target in (ANTHROPIC, MINIMAX):
            outcome = read(*pieces, stream=False, target=target)
            self.assertEqual((outcome.states, outcome.ending), (["hold", "content"], Ending(True, USAGE, None)))
            self.assertTrue(outcome.body == body)
        self.assertFalse(read(*pieces[:-1], stream=False).ending.complete)


class CodedTests(SynchronousTestCase):
    """Answers with a content coding."""

    def codings(self, body: bytes) -> Iterable[tuple[bytes, bytes]]:
        raw = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        yield b"gzip", gzip.compress(body)
        yield b"x-gzip", gzip.compress(body)
        yield b"deflate", zlib.compress(body)
        yield b"deflate", raw.compress(body) + raw.flush()

    def test_stream(self) -> None:
        """A compressed stream passes as it came and is read all the same, however it is cut."""
        for encoding, coded in self.codings(WHOLE):
            for pieces in ([coded], bytewise(coded)):
                outcome = read(*pieces, encoding=encoding)
                self.assertEqual(outcome.body, coded)
                self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
                self.assertEqual(outcome.states, ["hold", "content"])

    def test_message(self) -> None:
        """So does a compressed message, and an error in one is seen."""
        for encoding, coded in self.codings(encode(MESSAGE)):
            self.assertEqual(read(coded, stream=False, encoding=encoding).ending, Ending(True, USAGE, None, "claude-x"))
        for encoding, coded in self.codings(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'):
            outcome = read(coded, stream=False, encoding=encoding)
            assert outcome.verdict is not None
            self.assertEqual((outcome.state, outcome.verdict.kind), ("error", Kind.OVERLOADED))

    def test_foreign(self) -> None:
        """Where signatures are wrapped the answer is coded anew, each event at once."""
        for encoding, coded in self.codings(WrappingTests.stream):
            for pieces in ([coded], bytewise(coded)):
                outcome = read(*pieces, encoding=encoding, target=MINIMAX)
                plain = zlib.decompress(outcome.body, 47)
                self.assertEqual(plain, WrappingTests().wanted(WrappingTests.stream))
                self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        for encoding, coded in self.codings(encode(MESSAGE)):
            body = read(coded, stream=False, encoding=encoding, target=MINIMAX).body
            self.assertIn(b"rt1.minimax.", zlib.decompress(body, 47))

    def test_each_event_at_once(self) -> None:
        """An event that has come is not held in the compressor."""
        coder, decoder = zlib.compressobj(6, zlib.DEFLATED, 31), zlib.decompressobj(31)
        reading = reader(True, b"gzip", MINIMAX)
        for piece in (HEAD, delta("a"), signature("x"), delta("b")):
            out = decoder.decompress(reading.feed(coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH)))
            self.assertTrue(out.endswith(b"\n\n"))

    def test_damaged(self) -> None:
        """Bytes that cannot be decompressed are garbage before content, and an unfinished end after it."""
        outcome = read(b"not gzip at all", encoding=b"gzip")
        assert outcome.verdict is not None
        self.assertEqual((outcome.state, outcome.verdict.kind), ("error", Kind.GARBAGE))
        for target in (ANTHROPIC, MINIMAX):
            coder = zlib.compressobj(6, zlib.DEFLATED, 31)
            head = coder.compress(HEAD + delta("x")) + coder.flush(zlib.Z_SYNC_FLUSH)
            outcome = read(head, b"\xff" * 100, b"more", encoding=b"gzip", target=target)
            self.assertEqual((outcome.state, outcome.ending.complete), ("content", False))
            cut = read(head, encoding=b"gzip", target=target)
            self.assertEqual((cut.state, cut.ending.complete), ("content", False))

    def test_empty(self) -> None:
        """Nothing, compressed or not, is an error."""
        for stream in (True, False):
            for encoding in (b"gzip", b"deflate", b"br"):
                outcome = read(stream=stream, encoding=encoding)
                assert outcome.verdict is not None
                self.assertEqual((outcome.state, outcome.verdict.kind), ("error", Kind.GARBAGE))
            self.assertEqual(read(gzip.compress(b""), stream=stream, encoding=b"gzip").state, "error")

    def test_bomb(self) -> None:
        """A small body that decompresses to a huge one does not fill the memory."""
        coded = gzip.compress(b"\0" * (200 * 1024 * 1024), 1)
        for stream in (True, False):
            reading: Any = reader(stream, b"gzip", ANTHROPIC)
            for i in range(0, len(coded), 65536):
                reading.feed(coded[i : i + 65536])
            self.assertIn(reading.state, ("error", "content"))
            inner = reading._inner
            if not stream:
                self.assertEqual(sum(map(len, inner._pieces)), 0)
            self.assertLess(len(inner._tail), 1_300_000)

    def test_opaque(self) -> None:
        """A coding that cannot be read commits at its first bytes, without usage, and counts as whole when it ends."""
        for encoding in (b"br", b"zstd", b"gzip, br"):
            outcome = read(b"\x8b\x02", b"xyz", encoding=encoding)
            self.assertEqual(outcome.body, b"\x8b\x02xyz")
            self.assertEqual((outcome.states, outcome.ending), (["hold", "content"], Ending(True, None, None)))
