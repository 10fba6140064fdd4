"""Content codings (RFC 9110 §8.4): ``gzip``, ``deflate`` and ``zstd`` undone, in pieces or at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import zstandard

#: Bytes decompressed at a time, so that a small body cannot grow into a large one at once.
STEP = 256 * 1024
#: Bytes of zstd taken at a time: each four of them may become 128 KiB (RFC 8878 §3.1.1.2).
_ZSTD_STEP = 512
_GZIP = b"\x1f\x8b"


class UnknownCoding(ValueError):
    """A coding that is not known here."""


class TooLarge(ValueError):
    """More comes out than is allowed."""


class Damaged(ValueError):
    """The bytes are not what the coding makes, or end too soon."""


class Decoder:
    """
    Undoes one coding, in whatever pieces the bytes come.

    :param coding: lower case.
    :raises UnknownCoding: for one that is not known.
    """

    __slots__ = ("_gzip", "_inner", "_start", "_zstd")

    def __init__(self, coding: bytes) -> None:
        self._gzip = coding in (b"gzip", b"x-gzip")
        self._zstd = coding == b"zstd"
        self._start = b""
        #: ``None`` for ``deflate`` until its first two bytes tell its form.
        self._inner: Any = None
        if self._gzip:
            self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif self._zstd:
            self._inner = zstandard.ZstdDecompressor().decompressobj()
        elif coding != b"deflate":
            raise UnknownCoding(f"content coding {coding.decode('latin-1')}")

    @property
    def whole(self) -> bool:
        """Whether the coded bytes have come to their own end."""
        return bool(self._inner is not None and self._inner.eof)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """
        The plain bytes, some at a time. What follows the end of the coded bytes is passed over, except for more of
        them (RFC 1952 §2.2, RFC 8878 §3).

        :raises Damaged: when the bytes make no sense.
        """
        if self._inner is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return
            # Some servers say "deflate" and leave out the zlib header that RFC 9110 §8.4.1.2 wants (RFC 1950 §2.2).
            wrapped = data[0] & 15 == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        try:
            yield from self._zstd_pieces(data) if self._zstd else self._zlib_pieces(data)
        except (zlib.error, zstandard.ZstdError) as error:
            raise Damaged(str(error)) from None

    def _zlib_pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            inner = self._inner
            if inner.eof:
                if not self._gzip or not _GZIP.startswith((self._start + data)[:2]):
                    return
                data, self._start = self._start + data, b""
                if len(data) < 2:
                    self._start = data
                    return
                inner = self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
            plain = inner.decompress(data, STEP)
            data = inner.unused_data if inner.eof else inner.unconsumed_tail
            if plain:
                yield plain

    def _zstd_pieces(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._inner.eof:
                self._inner = zstandard.ZstdDecompressor().decompressobj()
            piece = data[at : at + _ZSTD_STEP]
            plain = self._inner.decompress(piece)
            at += len(piece) - len(self._inner.unused_data)
            if plain:
                yield plain


def unpack(data: bytes, coding: bytes, limit: int) -> bytes:
    """
    A whole body without its coding.

    :param coding: as the header field says; ``b""`` and ``identity`` are none.
    :param limit: bytes that may come out.
    :raises UnknownCoding: it is not known here (HTTP 415).
    :raises TooLarge: more than ``limit`` came out (HTTP 413).
    :raises Damaged: the bytes make no sense or end too soon (HTTP 400).
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        if len(data) > limit:
            raise TooLarge(f"more than {limit} bytes")
        return data
    decoder = Decoder(coding)
    out: list[bytes] = []
    size = 0
    for plain in decoder.decode(data):
        size += len(plain)
        if size > limit:
            raise TooLarge(f"more than {limit} bytes when unpacked")
        out.append(plain)
    if not decoder.whole:
        raise Damaged("the bytes end too soon")
    return b"".join(out)
