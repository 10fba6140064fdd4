"""Readers of answers with a content coding."""

from __future__ import annotations

import zlib
from typing import Any, Protocol, cast

import zstandard
from zope.interface import implementer

from . import coding
from .errors import Kind, Verdict
from .interfaces import Ending, IAnswerReader


class PlainReader(Protocol):
    """An answer reader that says whether it edits the bytes it passes on."""

    rewrites: bool

    @property
    def state(self) -> str: ...

    @property
    def verdict(self) -> Verdict | None: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> tuple[bytes, Ending]: ...


def see_through(inner: PlainReader, encoding: bytes) -> IAnswerReader:
    """
    A reader of what ``inner`` reads, coded.

    :param encoding: the answer's ``content-encoding``, lower case, ``b""`` for none.
    """
    if not encoding:
        return cast(IAnswerReader, inner)
    try:
        return CodedReader(inner, encoding)
    except coding.UnknownCoding:
        return OpaqueReader()


@implementer(IAnswerReader)
class CodedReader:
    """
    Lets another reader see through a coding. The coded bytes are passed on; where the other reader edits they are coded
    anew.

    :raises mportrouter.coding.UnknownCoding: for one that is not known.
    """

    __slots__ = ("_broken", "_coder", "_decoder", "_flush", "_inner", "_verdict")

    def __init__(self, inner: PlainReader, encoding: bytes) -> None:
        self._inner = inner
        self._decoder = coding.Decoder(encoding)
        self._coder: Any = None
        self._flush: int = zlib.Z_SYNC_FLUSH
        if inner.rewrites and encoding == b"zstd":
            self._coder = zstandard.ZstdCompressor().compressobj()
            self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        elif inner.rewrites:
            window = zlib.MAX_WBITS if encoding == b"deflate" else zlib.MAX_WBITS | 16
            self._coder = zlib.compressobj(6, zlib.DEFLATED, window)
        self._broken = False
        self._verdict: Verdict | None = None

    @property
    def state(self) -> str:
        return "error" if self._verdict is not None else self._inner.state

    @property
    def verdict(self) -> Verdict | None:
        return self._verdict or self._inner.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        if self._broken:
            return data if self._coder is None else b""
        out = self._decode(data)
        if self._coder is None:
            return data
        coded = self._coder.compress(out) + self._coder.flush(self._flush) if out else b""
        return bytes(coded)

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        rest, ending = self._inner.finish()
        if self._broken:
            return b"", Ending(False, ending.usage, ending.error or self._verdict, ending.model)
        if self._coder is None:
            # Nothing can follow coded bytes: an answer that lacks only its last event stays so, if they are whole.
            if rest and not self._decoder.whole:
                ending.complete = False
            return b"", ending
        return bytes(self._coder.compress(rest) + self._coder.flush()), ending

    def _decode(self, data: bytes) -> bytes:
        out: list[bytes] = []
        feed = self._inner.feed
        try:
            out += [feed(plain) for plain in self._decoder.decode(data)]
        except coding.Damaged as error:
            self._broken = True
            if self._inner.state == "hold":
                self._verdict = _garbage(f"the answer cannot be decompressed: {error}")
        return b"".join(out) if self._coder is not None else b""


@implementer(IAnswerReader)
class OpaqueReader:
    """Cannot see through the content coding: the first bytes commit, and a body that ended is taken as whole."""

    __slots__ = ("state", "verdict")

    def __init__(self) -> None:
        self.state = "hold"
        self.verdict: Verdict | None = None

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        if data:
            self.state = "content"
        return data

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        if self.state == "hold":
            self.state = "error"
            self.verdict = _garbage("the answer is empty")
            return b"", Ending(False, None, self.verdict)
        return b"", Ending(True, None, None)


def _garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)
