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

    __slots__ = ("_broken", "_coder", "_decoder", "_inner", "_start", "_verdict")

    def __init__(self, inner: PlainReader, encoding: bytes) -> None:
        self._inner = inner
        window = zlib.MAX_WBITS if encoding == b"deflate" else zlib.MAX_WBITS | 16
        #: ``None`` for ``deflate`` until its first two bytes tell its form.
        self._decoder: Any = None if encoding == b"deflate" else zlib.decompressobj(window)
        self._coder: Any = zlib.compressobj(6, zlib.DEFLATED, window) if inner.rewrites else None
        self._start = b""
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
            # Nothing can follow coded bytes: an answer that lacks only its last event stays so, if they are whole.
            if rest and not self._decoder.eof:
                ending.complete = False
            return b"", ending
        return bytes(self._coder.compress(rest) + self._coder.flush()), ending

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return b""
            # Some servers say "deflate" and leave out the zlib header that RFC 9110 §8.4.1.2 wants (RFC 1950 §2.2).
            wrapped = data[0] & 15 == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        out: list[bytes] = []
        decoder, feed = self._decoder, self._inner.feed
        try:
            while data and not decoder.eof:
                plain = decoder.decompress(data, _STEP)
                data = decoder.unconsumed_tail
                if plain:
                    out.append(feed(plain))
        except zlib.error as error:
            self._broken = True
            if self._inner.state == "hold":
                self._verdict = garbage(f"the answer cannot be decompressed: {error}")
        return b"".join(out) if self._coder is not None else b""


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
