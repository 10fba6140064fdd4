"""Tests for :mod:`mportrouter.coded`, by what the Anthropic dialect reads."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from typing import Any

import zstandard
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope
from ..coding import unpack
from ..dialects.anthropic_stream import reader
from ..errors import Kind
from ..interfaces import Ending
from .answers import (
    ANTHROPIC,
    END,
    HEAD,
    MESSAGE,
    MINIMAX,
    START,
    STOP,
    THINKING_OPEN,
    USAGE,
    WHOLE,
    bytewise,
    delta,
    encode,
    event,
    read,
    signature,
)

SIGNED = START + THINKING_OPEN + signature("sig/+=") + STOP + END


def wrapped(stream: bytes) -> bytes:
    envelope_ = envelope.wrap("minimax", "MiniMax-M3", "sig/+=")
    return stream.replace(b'"sig/+="', json.dumps(envelope_).encode())


class CodedTests(SynchronousTestCase):
    """Answers with a content coding."""

    def codings(self, body: bytes) -> Iterable[tuple[bytes, bytes]]:
        raw = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        yield b"gzip", gzip.compress(body)
        yield b"x-gzip", gzip.compress(body)
        yield b"deflate", zlib.compress(body)
        yield b"deflate", raw.compress(body) + raw.flush()
        yield b"zstd", zstandard.compress(body)

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
        for encoding, coded in self.codings(SIGNED):
            for pieces in ([coded], bytewise(coded)):
                outcome = read(*pieces, encoding=encoding, target=MINIMAX)
                plain = unpack(outcome.body, encoding, 1 << 20)
                self.assertEqual(plain, wrapped(SIGNED))
                self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        for encoding, coded in self.codings(encode(MESSAGE)):
            body = read(coded, stream=False, encoding=encoding, target=MINIMAX).body
            self.assertIn(b"rt1.minimax.", unpack(body, encoding, 1 << 20))

    def test_each_event_at_once(self) -> None:
        """An event that has come is not held in the compressor."""
        coder, decoder = zlib.compressobj(6, zlib.DEFLATED, 31), zlib.decompressobj(31)
        reading = reader(True, b"gzip", MINIMAX)
        for piece in (HEAD, delta("a"), signature("x"), delta("b")):
            out = decoder.decompress(reading.feed(coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH)))
            self.assertTrue(out.endswith(b"\n\n"))

    def test_no_last_event(self) -> None:
        """A whole coded stream without message_stop counts as whole; it is added where the bytes are coded anew."""
        stop = event("message_stop")
        stream = SIGNED.removesuffix(stop)
        for encoding, coded in self.codings(stream):
            outcome = read(coded, encoding=encoding)
            self.assertEqual((outcome.body, outcome.ending), (coded, Ending(True, USAGE, None, "claude-x")))
            outcome = read(coded, encoding=encoding, target=MINIMAX)
            self.assertEqual(unpack(outcome.body, encoding, 1 << 20), wrapped(stream) + stop)
            self.assertEqual(outcome.ending, Ending(True, USAGE, None, "claude-x"))
        coder = zlib.compressobj(6, zlib.DEFLATED, 31)
        outcome = read(coder.compress(stream) + coder.flush(zlib.Z_SYNC_FLUSH), encoding=b"gzip")
        self.assertFalse(outcome.ending.complete)

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
        for encoding in (b"br", b"gzip, br"):
            outcome = read(b"\x8b\x02", b"xyz", encoding=encoding)
            self.assertEqual(outcome.body, b"\x8b\x02xyz")
            self.assertEqual((outcome.states, outcome.ending), (["hold", "content"], Ending(True, None, None)))
