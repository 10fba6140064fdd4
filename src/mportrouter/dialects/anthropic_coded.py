"""Readers of answers with a content coding."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

from zope.interface import implementer

from ..errors import Verdict
from ..interfaces import Ending, IAnswerReader
from .anthropic_seen import garbage

#: Bytes decompressed at a time, so that a small body cannot grow into a large one at once.
_STEP = 256 * 1024


class PlainReader(Protocol):
    """An answer reader that says whether it edits the bytes it passes on."""

    rewrites: bool

    @property
    def state(self) -> str: ...

    @property
    def verdict(self) -> Verdict | None: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> tuple[bytes, Ending]: ...


@implementer(IAnswerReader)
class CodedReader:
    """
    Lets another reader see through ``gzip`` or ``deflate``. The coded bytes are passed on; where the other reader edits
    they are coded anew.
    """

    __slots__ = ("_broken", "_coder", "_decoder", "_inner", "_verdict", "_zlib")

    def __init__(self, inner: PlainReader, encoding: bytes) -> None:
        self._inner = inner
        self._zlib = encoding == b"deflate"
        window = zlib.MAX_WBITS if self._zlib else zlib.MAX_WBITS | 16
        self._decoder: Any = zlib.decompressobj(window)
        self._coder: Any = zlib.compressobj(6, zlib.DEFLATED, window) if inner.rewrites else None
        self._broken = False
        self._verdict: Verdict | None = None

    @property
    def state(self) -> str:
        return "error" if self._verdict is not None else self._inner.state

    @property
    def verdict(self) -> Verdict | None:
        return self._verdict or self._inner.verdict

    def feed(self, data: bytes) -> bytes:
        if self._broken:
            return data if self._coder is None else b""
        out = self._decode(data)
        if self._coder is None:
            return data
        coded = self._coder.compress(out) + self._coder.flush(zlib.Z_SYNC_FLUSH) if out else b""
        return bytes(coded)

    def finish(self) -> tuple[bytes, Ending]:
        rest, ending = self._inner.finish()
        if self._broken:
            return b"", Ending(False, ending.usage, ending.error or self._verdict, ending.model)
        if self._coder is None:
            return b"", ending
        return bytes(self._coder.compress(rest) + self._coder.flush()), ending

    def _decode(self, data: bytes) -> bytes:
        out: list[bytes] = []
        feed = self._inner.feed
        try:
            while data:
                plain = self._inflate(data)
                data = self._decoder.unconsumed_tail
                if plain:
                    out.append(feed(plain))
                if self._decoder.eof:
                    break
        except zlib.error as error:
            self._broken = True
            if self._inner.state == "hold":
                self._verdict = garbage(f"the answer cannot be decompressed: {error}")
        return b"".join(out) if self._coder is not None else b""

    def _inflate(self, data: bytes) -> bytes:
        try:
            return bytes(self._decoder.decompress(data, _STEP))
        except zlib.error:
            if not self._zlib:
                raise
            # Some servers say "deflate" and send it without the zlib wrapper that RFC 9110 §8.4.1.2 wants.
            self._zlib = False
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
            return bytes(self._decoder.decompress(data, _STEP))


@implementer(IAnswerReader)
class OpaqueReader:
    """Cannot see through the content coding: the first bytes commit, and a body that ended is taken as whole."""

    __slots__ = ("state", "verdict")

    def __init__(self) -> None:
        self.state = "hold"
        self.verdict: Verdict | None = None

    def feed(self, data: bytes) -> bytes:
        if data:
            self.state = "content"
        return data

    def finish(self) -> tuple[bytes, Ending]:
        if self.state == "hold":
            self.state = "error"
            self.verdict = garbage("the answer is empty")
            return b"", Ending(False, None, self.verdict)
        return b"", Ending(True, None, None)
