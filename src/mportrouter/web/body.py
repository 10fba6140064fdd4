"""
A request body (RFC 9112 §6): bytes in, the body and what follows it out.

Sized bodies are counted, without the parser. llhttp decodes the chunked ones; it does not say where in a piece a
message ended, so the pieces it gets are cut after each CR LF CR LF: a chunked message ends there and nowhere else.
"""

from __future__ import annotations

from typing import Any

import httptools

from ..errors import Kind, RouterError
from .head import bad

_END = b"\r\n\r\n"

#: A head of our own for the parser. After ``close`` it refuses every byte behind the message's end.
_HEAD = b"POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

#: Bytes that chunk extensions and trailer fields may have together, and those that each chunk needs for itself.
_EXTRA, _EACH = 16 * 1024, 24


class SizedReader:
    """
    Reads one body of a known length; the interface is :class:`ChunkReader`'s.

    :param length: bytes, at least one.
    """

    __slots__ = ("_missing", "body")

    def __init__(self, length: int) -> None:
        self.body = bytearray()
        self._missing = length

    def feed(self, data: bytes) -> bytes | None:
        """See :meth:`ChunkReader.feed`."""
        missing = self._missing
        if len(data) < missing:
            self.body += data
            self._missing = missing - len(data)
            return None
        self.body += data[:missing]
        return data[missing:]

    def close(self) -> None:
        """See :meth:`ChunkReader.close`."""
        self.body = bytearray()


class ChunkReader:
    """
    Reads one chunked body. Chunk extensions and trailer fields are checked and dropped.

    :ivar body: what has come so far.
    :param limit: bytes that the body may have.
    """

    __slots__ = ("_chunks", "_complete", "_limit", "_over", "_parser", "_size", "_tail", "body")

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self._limit = limit
        self._chunks = 0
        self._size = 0
        self._over = False
        self._complete = False
        self._tail = b""
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    # ---------------------------------------------------------------------------------- what llhttp calls

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        if len(self.body) + len(data) > self._limit:
            self._over = True
        else:
            self.body += data

    def on_message_complete(self) -> None:
        self._complete = True

    # ---------------------------------------------------------------------------------- bytes in

    def feed(self, data: bytes) -> bytes | None:
        """
        Take bytes as they came.

        :returns: what follows the body, or ``None`` while it is not whole.
        :raises RouterError: for bad framing (400) and a body past the limit (413).
        """
        tail = self._tail
        scanned = tail + data
        # Positions are those of ``scanned``; everything before ``done`` was fed.
        done = len(tail)
        while True:
            end = scanned.find(_END, max(0, done - 3))
            upto = end + 4 if end >= 0 else len(scanned)
            self._feed(scanned[done:upto])
            if self._complete:
                if end < 0:
                    raise bad("The chunked body does not end in CR LF CR LF.")
                return scanned[upto:]
            done = upto
            if end < 0:
                self._tail = scanned[-3:]
                return None

    def close(self) -> None:
        """Let go of everything at once: parser and callbacks hold each other, and the body may be large."""
        self._parser = None
        self.body = bytearray()

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            raise bad(f"The chunked body is not valid: {error}.") from None
        if self._over:
            raise RouterError(Kind.TOO_LARGE, f"The request body is larger than {self._limit} bytes.")
        self._size += len(piece)
        if self._size - len(self.body) > _EXTRA + _EACH * self._chunks:
            raise bad("The chunked body has too many chunk extensions or trailer fields.")
