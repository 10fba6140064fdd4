"""
Makes an answer of one dialect into one of another: bytes of a reader's dialect in, bytes of a writer's out.

:class:`Translator` is to the relay what a reader of the same dialect is: it holds until there is content, then passes
on what the writer makes of what came.
"""

from __future__ import annotations

import msgspec
from zope.interface import implementer

from . import coding as codings
from .errors import Kind, RouterError, Verdict
from .events import Close, Delta, End, Event, Failed, Start, Tally
from .interfaces import Ending, IAnswerReader, IEventReader, IEventWriter
from .records import Usage
from .sequencer import Sequencer
from .usage import estimate

HOLD, CONTENT, ERROR = "hold", "content", "error"

#: Bytes that a whole answer may have, read or written.
WHOLE_LIMIT = 32 * 1024 * 1024

#: Ordered events that show nothing yet.
_SILENT = (Start, Tally, Close)


@implementer(IAnswerReader)
class Translator:
    """
    Joins a reader, a :class:`Sequencer` and a writer.

    A streamed answer commits at its first part or its end. One that is written whole is held until it is whole: then
    an error before that is an error, and nothing has been shown.

    An answer that is given up in its middle ends in what :meth:`mportrouter.interfaces.IEventWriter.fail` makes of the
    provider's error, and :attr:`Ending.error` tells. One that just stops gets no end here: the relay finds out why and
    writes what :meth:`broken` gives.

    :param coding: the answer's ``content-encoding``, lower case, ``b""`` for none.
    :param by: whose words an error is, for the client.
    """

    __slots__ = (
        "_by", "_decoder", "_held", "_model", "_over", "_payload", "_quiet", "_reader", "_sequencer", "_usage",
        "_whole", "_writer", "_written", "content_type", "error", "state", "verdict",
    )  # fmt: skip

    def __init__(self, reader: IEventReader, writer: IEventWriter, *, coding: bytes = b"", by: str = "") -> None:
        self.state = HOLD
        self.verdict: Verdict | None = None
        #: What an answer under way was given up for.
        self.error: Verdict | None = None
        self.content_type: bytes = writer.content_type
        self._reader = reader
        self._writer = writer
        self._sequencer = Sequencer(writer.interleaves)
        self._by = by
        self._usage: Usage | None = None
        self._model: str | None = None
        self._over = False  # nothing more is written
        self._whole = False  # the end was written
        self._written = False  # the writer has written something before the end
        self._held = b""  # an answer that is written whole
        self._payload = 0  # bytes of text, reasoning and arguments
        self._quiet = 0  # bytes since the last event
        self._decoder: codings.Decoder | None = None
        if coding:
            try:
                self._decoder = codings.Decoder(coding)
            except codings.UnknownCoding as error:
                self._fail(_garbage(f"the answer cannot be read: {error}"))

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        if self._over:
            return b""
        if self._decoder is not None:
            return self._decode(data)
        return self._read(data)

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        out = b"" if self._over else self._take(self._reader.finish())
        if not self._over:
            out += self._take([Failed(Verdict(Kind.CUT, "the answer ended before its end", retry_same=True))])
        if self._whole:
            if self.state is HOLD:
                self.state = CONTENT
            return out + self._held, Ending(True, self._usage, None, self._model)
        usage = self._usage
        if self._payload and usage is None:
            usage = estimate(None, self._payload)
        elif usage is not None:
            usage = estimate(msgspec.structs.replace(usage), self._payload)
        return out, Ending(False, usage, self.error or self.verdict, self._model)

    def broken(self, error: RouterError) -> bytes:
        """What the client of an answer under way is told when it breaks off; ``b""`` where the body just ends."""
        return self._writer.fail(error)

    # ------------------------------------------------------------------------------------------- bytes to events

    def _decode(self, data: bytes) -> bytes:
        assert self._decoder is not None
        out: list[bytes] = []
        try:
            out += [self._read(plain) for plain in self._decoder.decode(data)]
        except codings.Damaged as error:
            if self.state is CONTENT:
                self._over = True
            else:
                self._fail(_garbage(f"the answer cannot be decompressed: {error}"))
        return b"".join(out)

    def _read(self, data: bytes) -> bytes:
        if self._over:
            return b""
        events = self._reader.feed(data)
        if events:
            self._quiet = 0
            return self._take(events)
        self._quiet += len(data)
        if self._quiet > WHOLE_LIMIT:
            return self._take([Failed(_garbage(f"more than {WHOLE_LIMIT} bytes without an event"))])
        return b""

    # ------------------------------------------------------------------------------------------- events to bytes

    def _take(self, events: list[Event]) -> bytes:
        take, write = self._sequencer.take, self._writer.write
        out: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                text = event.text
                self._payload += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
                if self._payload > WHOLE_LIMIT and self.state is HOLD:
                    event = Failed(_garbage(f"an answer of more than {WHOLE_LIMIT} bytes"))
            elif type(event) is Tally:
                self._usage = event.usage
            elif type(event) is Start:
                self._model = self._model or event.model or None
            for ordered in take(event):
                kind = type(ordered)
                if kind is Failed:
                    out.append(self._stop(ordered))  # type: ignore[arg-type]
                    return b"".join(out)
                written = write(ordered)
                if kind is End:
                    self._over = self._whole = True
                    if not self._written:
                        self._held = written
                    else:
                        out.append(written)
                    return b"".join(out)
                if written:
                    self._written = True
                    out.append(written)
                if self.state is HOLD and self._written and not isinstance(ordered, _SILENT):
                    self.state = CONTENT
        return b"".join(out)

    def _stop(self, event: Failed) -> bytes:
        """The upstream's answer is broken."""
        verdict = event.verdict
        if self.state is HOLD:
            self._fail(verdict)
            return b""
        self._over = True
        if verdict.kind is Kind.CUT:
            return b""
        self.error = verdict
        return self._writer.fail(RouterError(verdict.kind, verdict.message, verdict.retry_after, by=self._by))

    def _fail(self, verdict: Verdict) -> None:
        self.state = ERROR
        self.verdict = verdict
        self._over = True


def _garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)
