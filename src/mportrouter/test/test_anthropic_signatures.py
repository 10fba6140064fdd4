"""Tests for :mod:`mportrouter.dialects.anthropic_signatures` and the readers that use it."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope
from ..dialects.anthropic_request import look, prepare
from ..dialects.anthropic_stream import reader
from ..errors import Kind
from ..interfaces import Ending
from .answers import (
    ANTHROPIC,
    END,
    ERROR,
    HEAD,
    MINIMAX,
    START,
    STOP,
    TEXT_OPEN,
    THINKING_OPEN,
    USAGE,
    bytewise,
    delta,
    event,
    read,
    signature,
)


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
        crlf = (HEAD + delta("x")).replace(b"\n", b"\r\n")
        for at in (-1, -2, -3):
            outcome = read(crlf[:at], crlf[at:], b"data: {half", target=MINIMAX)
            self.assertEqual(outcome.body, crlf)
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
