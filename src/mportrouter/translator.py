"""
Makes an answer of one dialect into one of another: bytes of a reader's dialect in, bytes of a writer's out.

:class:`Translator` is to the relay what a reader of the same dialect is: it holds until there is content, then passes
on what the writer makes of what came.

The events of a running text differ in nothing but the text. Where reader and writer know what stands around it
(:class:`TemplateReader`, :class:`TemplateWriter`), such events are rewritten without being read: the same bytes come
out, for a small part of the work.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from zope.interface import implementer

from . import coding as codings
from .errors import Kind, RouterError, Verdict
from .events import Close, Delta, End, Event, Failed, Start, Tally
from .interfaces import Ending, IAnswerReader, IEventReader, IEventWriter
from .records import Usage
from .sequencer import Sequencer
from .sse import PLAIN
from .usage import estimate

HOLD, CONTENT, ERROR = "hold", "content", "error"

#: Bytes that a whole answer may have, read or written.
WHOLE_LIMIT = 32 * 1024 * 1024

#: Events of a text, one after the other, that no template fits before none is looked for any more.
_MISSES = 32

#: Bytes of events that are rewritten at a time.
_RUN = 32 * 1024

#: Ordered events that show nothing yet.
_SILENT = (Start, Tally, Close)


class TemplateReader(Protocol):
    """What an :class:`IEventReader` may have besides."""

    def template(self, event: bytes) -> tuple[bytes, bytes] | None:
        """
        What stands before and after the text of an event.

        :param event: the bytes of the whole event that was fed last, its blank line included. It gave a ``Delta`` of
            a text or of reasoning, and nothing else.
        :returns: with the quotes of the text; ``None`` where an event that differs in the text alone could give
            anything but the ``Delta`` of that text, or where the reader has to see it.
        """

    def passed(self, text: str) -> None:
        """The text of events that were rewritten without being read."""


class TemplateWriter(Protocol):
    """What an :class:`IEventWriter` may have besides."""

    def template(self) -> tuple[bytes, bytes] | None:
        """
        What :meth:`IEventWriter.write` puts before and after the text of a ``Delta`` of the part that is open now.

        :returns: with the quotes of the text, which is written as JSON in ASCII; ``None`` where that is not the same
            each time, or where the writer has to see the text.
        """

    def passed(self, text: str) -> None:
        """The text of deltas that were written without it."""


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
        "_after", "_aligned", "_before", "_by", "_decoder", "_held", "_joint", "_misses", "_model", "_over", "_payload",
        "_put_after", "_put_before", "_quiet", "_reader", "_sequencer", "_shown", "_templates", "_usage", "_whole",
        "_writer", "_written", "content_type", "error", "state", "verdict",
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
        self._shown = False  # a part was given to the writer
        self._written = False  # the writer has written something before the end
        self._held = b""  # an answer that is written whole
        self._payload = 0  # bytes of text, reasoning and arguments
        self._quiet = 0  # bytes since the last event
        # What stands around a text, in what comes and in what goes; the first is empty where that is not known.
        self._before = self._after = self._joint = self._put_before = self._put_after = b""
        self._misses = 0
        self._aligned = True  # the reader is at the start of an event
        self._templates: Any = (getattr(reader, "template", None), getattr(writer, "template", None))
        if None in self._templates:
            self._templates = None
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
            used = estimate(None, self._payload) if self._usage is None and self._payload else self._usage
            return out + self._held, Ending(True, used, None, self._model)
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
        if self._templates is not None:
            return self._read_events(data)
        return b"" if self._over else self._take(self._give(data))

    def _give(self, data: bytes) -> list[Event]:
        """Let the reader read."""
        events = self._reader.feed(data)
        if events:
            self._quiet = 0
        else:
            self._quiet += len(data)
            if self._quiet > WHOLE_LIMIT:
                return [Failed(_garbage(f"more than {WHOLE_LIMIT} bytes without an event"))]
        return events

    # ------------------------------------------------------------------------------------------- the short way

    def _read_events(self, data: bytes) -> bytes:
        """Read events one by one, as long as there are templates to be found."""
        out: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self._over:
            if self._before and self._aligned and data.startswith(self._before, at):
                at = self._splice(data, at, out)
                if at == size:
                    break
            end = data.find(b"\n\n", at) + 2
            if end < 2 or self._templates is None:
                # Half an event, or other line ends than LF.
                self._aligned = False
                out.append(self._take(self._give(data[at:] if at else data)))
                break
            self._read_event(data[at:end], out)
            at = end
        return b"".join(out)

    def _splice(self, data: bytes, at: int, out: list[bytes]) -> int:
        """
        Rewrite the events of a text.

        :param at: where the first one begins.
        :returns: where that begins which could not be rewritten.
        """
        before, after, joint = self._before, self._after, self._joint
        start = at + len(before)
        end = data.find(b'"', start)
        if data.startswith(joint, end):
            pieces = data[start : start + _RUN].split(joint)
            last = pieces.pop()
            end = last.find(b'"')
            if end > 0 and last.startswith(after, end):
                pieces.append(last[:end])
        elif end > start and data.startswith(after, end):
            pieces = [data[start:end]]
        else:
            return at
        if not pieces:
            return at
        text = b"".join(pieces)
        if all(pieces) and not text.translate(None, PLAIN):
            self._put(pieces, out)
            return at + len(text) + len(pieces) * len(joint)
        # An escape, a character beyond ASCII, or no text at all: those events are read.
        run: list[bytes] = []
        for piece in pieces:
            end = at + len(piece) + len(joint)
            if piece and not piece.translate(None, PLAIN):
                run.append(piece)
            else:
                if run:
                    self._put(run, out)
                    run = []
                if b"\n\n" in piece:
                    return at  # several events, of which the first alone may be like the others
                self._read_event(data[at:end], out)
                if self._joint != joint or self._before != before or self._over:
                    return end
            at = end
        if run:
            self._put(run, out)
        return at

    def _put(self, pieces: list[bytes], out: list[bytes]) -> None:
        """Write the deltas of some texts."""
        before, after = self._put_before, self._put_after
        out.append(b"%b%b%b" % (before, (after + before).join(pieces), after))
        self._misses = 0
        text = b"".join(pieces).decode("ascii")
        self._payload += len(text)
        self._reader.passed(text)  # type: ignore[attr-defined]
        self._writer.passed(text)  # type: ignore[attr-defined]

    def _read_event(self, event: bytes, out: list[bytes]) -> None:
        """Read what ends an event, and see what stands around its text."""
        whole, self._aligned = self._aligned, True
        events = self._give(event)
        out.append(self._take(events))
        if not events:
            return
        sequencer = self._sequencer
        if len(events) > 1 or type(events[0]) is not Delta or events[0].key != sequencer.straight:
            self._before = b""
        elif whole and sequencer.prose and self.state is CONTENT:
            reading, writing = self._templates
            found, put = reading(event), writing()
            self._misses += 1
            if found is not None and put is not None and events[0].text.encode("utf-8", "replace").join(found) == event:
                self._before, self._after = found
                self._joint = self._after + self._before
                self._put_before, self._put_after = put
            if self._misses > _MISSES:
                self._templates, self._before = None, b""

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
                if self.state is HOLD:
                    self._shown = self._shown or kind not in _SILENT
                    if self._shown and self._written:
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
        by = "" if verdict.kind is Kind.GARBAGE else self._by
        return self._writer.fail(RouterError(verdict.kind, verdict.message, verdict.retry_after, by=by))

    def _fail(self, verdict: Verdict) -> None:
        self.state = ERROR
        self.verdict = verdict
        self._over = True


def _garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)
