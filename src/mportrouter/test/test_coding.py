"""Tests for :mod:`mportrouter.coding`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import zstandard
from twisted.trial.unittest import SynchronousTestCase

from ..coding import Damaged, Decoder, TooLarge, UnknownCoding, unpack

LIMIT = 1 << 20
BODY = bytes(range(256)) * 100


def codings(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    raw = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield b"gzip", gzip.compress(body)
    yield b"x-gzip", gzip.compress(body)
    yield b"deflate", zlib.compress(body)
    yield b"deflate", raw.compress(body) + raw.flush()
    yield b"zstd", zstandard.compress(body)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    yield b"zstd", unsized.compress(body) + unsized.flush()


class UnpackTests(SynchronousTestCase):
    """Whole bodies."""

    def test_unpacks(self) -> None:
        """Each coding is undone, an empty body included, whatever its name's case."""
        for body in (b"", b"x", BODY):
            for coding, coded in codings(body):
                self.assertEqual(unpack(coded, coding, LIMIT), body)
                self.assertEqual(unpack(coded, b" " + coding.upper(), LIMIT), body)

    def test_none(self) -> None:
        """Without a coding the very bytes come back, within the limit."""
        for coding in (b"", b"identity", b"Identity "):
            self.assertIs(unpack(BODY, coding, len(BODY)), BODY)
            self.assertRaises(TooLarge, unpack, BODY, coding, len(BODY) - 1)

    def test_limit(self) -> None:
        """Exactly the limit may come out, and not one byte more."""
        for coding, coded in codings(BODY):
            self.assertEqual(unpack(coded, coding, len(BODY)), BODY)
            self.assertRaises(TooLarge, unpack, coded, coding, len(BODY) - 1)

    def test_bomb(self) -> None:
        """A small body that becomes a huge one is given up after little of it."""
        for coding, coded in codings(b"\0" * (64 * LIMIT)):
            self.assertLess(len(coded), LIMIT)
            self.assertRaises(TooLarge, unpack, coded, coding, LIMIT)
            pieces = Decoder(coding).decode(coded)
            self.assertLess(len(next(pieces)), 17 * LIMIT)

    def test_damaged(self) -> None:
        """Bytes that make no sense, and bodies that end too soon, are told apart from those that are too large."""
        for coding, coded in codings(BODY):
            self.assertRaises(Damaged, unpack, coded[:-1], coding, LIMIT)
            self.assertRaises(Damaged, unpack, b"", coding, LIMIT)
            self.assertRaises(Damaged, unpack, b"\xff\xff\xff\xff\xff\xff", coding, LIMIT)

    def test_unknown(self) -> None:
        """A coding that is not known is named."""
        for coding in (b"br", b"gzip, br", b"x"):
            error = self.assertRaises(UnknownCoding, unpack, b"x", coding, LIMIT)
            self.assertIn(coding.decode(), str(error))

    def test_several(self) -> None:
        """One coded text after the other is one text; anything else after the end is passed over."""
        for coding, coded in codings(BODY):
            if coding in (b"gzip", b"zstd"):
                self.assertEqual(unpack(coded + coded, coding, LIMIT), BODY + BODY)
        self.assertEqual(unpack(gzip.compress(BODY) + b"\0\0\0", b"gzip", LIMIT), BODY)


class DecoderTests(SynchronousTestCase):
    """Bodies in pieces."""

    def test_pieces(self) -> None:
        """It does not matter how the bytes are cut."""
        for coding, coded in codings(BODY):
            for size in (1, 2, 3, 700):
                decoder = Decoder(coding)
                twice = coded + coded if coding in (b"gzip", b"zstd") else coded
                out = b"".join(
                    plain for at in range(0, len(twice), size) for plain in decoder.decode(twice[at : at + size])
                )
                self.assertEqual(out, BODY if twice is coded else BODY + BODY)
                self.assertTrue(decoder.whole)

    def test_at_once(self) -> None:
        """What was flushed comes out though the end is not there."""
        coder = zstandard.ZstdCompressor().compressobj()
        flushed = coder.compress(b"abc") + coder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        decoder = Decoder(b"zstd")
        self.assertEqual(b"".join(decoder.decode(flushed)), b"abc")
        self.assertFalse(decoder.whole)
