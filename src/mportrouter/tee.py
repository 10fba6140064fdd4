"""
Readers of answers that pass untouched, made of what their dialect has for translating: gate, usage and end are told by
its neutral events.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from zope.interface import implementer

from . import sse
from .errors import Kind, Verdict
from .events import Delta, End, Event, Failed, Finish, Hidden, Open, Other, Searched, Start, Tally
from .interfaces import Ending, IAnswerReader, IEventReader
from .records import Usage
from .usage import estimate

HOLD, CONTENT, ERROR = "hold", "content", "error"

#: Bytes that a stream may have before any content.
HOLD_LIMIT = 8 * 1024 * 1024
#: Bytes without an event that may still be a JSON text.
_RAW_LIMIT = 256 * 1024
#: Bytes of an answer that are held to be judged as a whole.
WHOLE_LIMIT = 32 * 1024 * 1024


class _Seen:
    """What the events of an answer tell about it as a whole."""

    __slots__ = ("complete", "error", "model", "payload", "state", "usage", "verdict")

    def __init__(self) -> None:
        self.state = HOLD
        self.verdict: Verdict | None = None
        self.error: Verdict | None = None
        self.usage: Usage | None = None
        self.model: str | None = None
        self.complete = False
        self.payload = 0

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Delta):
                self.payload += len(event.text.encode("utf-8", "surrogatepass"))
                self.commit()
            elif isinstance(event, Open):
                if event.kind in ("tool", "reasoning"):
                    self.commit()
            elif isinstance(event, Finish | Hidden | Searched | Other):
                self.commit()
            elif isinstance(event, Tally):
                self.usage = event.usage
            elif isinstance(event, Start):
                self.model = self.model or event.model or None
            elif isinstance(event, End):
                self.commit()
                self.complete = True
            elif isinstance(event, Failed):
                self.fail(event.verdict)

    def commit(self) -> None:
        if self.state is HOLD:
            self.state = CONTENT

    def fail(self, verdict: Verdict) -> None:
        if self.state is HOLD:
            self.state = ERROR
            self.verdict = verdict
        elif self.state is CONTENT and not self.complete and verdict.kind is not Kind.CUT:
            self.error = self.error or verdict

    def ending(self) -> Ending:
        usage = self.usage
        # A Chat stream tells its usage only where the client asked for it.
        if (usage is None or not self.complete) and (usage is not None or self.payload):
            usage = estimate(None if usage is None else msgspec.structs.replace(usage), self.payload)
        error = self.error or self.verdict
        return Ending(self.complete and error is None, usage, error, self.model)


@implementer(IAnswerReader)
class Tee:
    """
    Reads an event stream whose bytes pass unchanged.

    :param events: reads the stream's events; after the first content it is given only some of them.
    :param interesting: whether an event's data can tell of usage, of the end, or of an error. Asked for every event
        after the first content.
    """

    __slots__ = (
        "_events", "_frame", "_framed", "_framer", "_interesting", "_plain", "_raw", "_received", "_seen", "latest",
    )  # fmt: skip

    #: Whether the bytes passed on are others than the upstream's.
    rewrites = False

    def __init__(self, events: IEventReader, interesting: Callable[[bytes], bool]) -> None:
        self._events = events
        self._interesting = interesting
        self._framer = sse.Framer()
        self._framed = False  # at least one event came
        self._frame = 0  # bytes around the text of a delta
        self._plain = True  # no CR has come
        self._raw: list[bytes] = []  # the first pieces while no event came: they may be a JSON text
        self._received = 0
        self._seen = _Seen()
        #: The data of the last whole event.
        self.latest = b""

    @property
    def state(self) -> str:
        return self._seen.state

    @property
    def verdict(self) -> Verdict | None:
        return self._seen.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        seen = self._seen
        if seen.state is ERROR or seen.complete or seen.error is not None:
            return data
        if self._plain and b"\r" in data:
            self._plain = False
        try:
            if seen.state is HOLD:
                self._gate(data)
            elif self._plain:
                self._pass(data)
            else:
                self._read(data)
        except sse.EventTooLarge as error:
            seen.fail(_garbage(str(error)))
        return data

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        seen = self._seen
        event = self._framer.finish()
        if event is not None:
            self._look_at(event)
        if not self._framed:
            seen.take(self._events.feed(b"".join(self._raw)))
        seen.take(self._events.finish())
        if seen.state is HOLD:
            seen.fail(Verdict(Kind.CUT, "the stream ended before any content", retry_same=True, status=200))
        return b"", seen.ending()

    def _gate(self, data: bytes) -> None:
        """Before the first content."""
        if not self._framed and self._received < _RAW_LIMIT:
            self._raw.append(data)
        self._received += len(data)
        seen, framer = self._seen, self._framer
        framer.feed(data)
        while seen.state is HOLD and (event := framer.next()) is not None:
            self._look_at(event)
        if seen.state is CONTENT:
            if self._plain:
                self._framer = sse.Framer()
                self._pass(bytes(framer.rest()))
            else:
                self._read(b"")
        if seen.state is HOLD and self._received > HOLD_LIMIT:
            seen.fail(_garbage(f"{self._received} bytes without content"))

    def _read(self, data: bytes) -> None:
        framer = self._framer
        framer.feed(data)
        while (event := framer.next()) is not None:
            self._look_at(event)

    def _pass(self, data: bytes) -> None:
        """After the first content, where lines end in LF: nearly every event is a line or two, and of no interest."""
        begun = self._framer.rest()
        if begun:
            if begun[-1] == 10 and data[:1] == b"\n":
                end = 1
            else:
                end = data.find(b"\n\n") + 2
                if end == 1:
                    end = len(data)
            self._read(data[:end])
            data = data[end:]
        head, blank, tail = data.rpartition(b"\n\n")
        if blank:
            interesting, seen, frame = self._interesting, self._seen, self._frame
            for block in head.split(b"\n\n"):
                start = 6 if block[:6] == b"data: " else block.find(b"\ndata: ") + 7
                end = len(block)
                if (start == 6 and block[:6] != b"data: ") or block.find(b"\n", start) >= 0:
                    self._read(block + b"\n\n")
                    continue
                self.latest = data = block[start:]
                if interesting(data):
                    seen.take(self._events.feed(block + b"\n\n"))
                elif end - start > frame:
                    seen.payload += end - start - frame
        if tail:
            self._framer.feed(tail)

    def _look_at(self, event: sse.Event) -> None:
        """One whole event."""
        seen, data = self._seen, event.data
        self.latest = data
        if not self._framed:
            self._framed = True
            self._raw = []
        if seen.state is CONTENT and not self._interesting(data):
            seen.payload += max(0, len(data) - self._frame)
            return
        before = seen.payload
        seen.take(self._events.feed(_framed(event)))
        if before < seen.payload:
            self._frame = len(data) - (seen.payload - before)


def _framed(event: sse.Event) -> bytes:
    """The bytes of an event."""
    name = b"event: %b\n" % event.name if event.name else b""
    return b"%bdata: %b\n\n" % (name, event.data.replace(b"\n", b"\ndata: "))


@implementer(IAnswerReader)
class WholeTee:
    """
    Reads an answer that is one JSON text, whose bytes pass unchanged. It is held until it is whole: only then it is
    known not to be an error.
    """

    __slots__ = ("_events", "_seen", "_size", "state")

    rewrites = False

    def __init__(self, events: IEventReader) -> None:
        self.state = HOLD
        self._events = events
        self._seen = _Seen()
        self._size = 0

    @property
    def verdict(self) -> Verdict | None:
        return self._seen.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        self._size += len(data)
        if self._size > WHOLE_LIMIT:
            # An answer as large as this is no error message, and may not fill the memory.
            if self.state is HOLD:
                self.state = CONTENT
            return data
        if self.state is not ERROR:
            self._take(self._events.feed(data))
        return data

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        seen = self._seen
        if self._size > WHOLE_LIMIT:
            return b"", Ending(True, seen.usage, None, seen.model)
        self._take(self._events.finish())
        if seen.state is not ERROR and not seen.complete:
            seen.state = HOLD
            seen.fail(seen.error or _garbage("the answer is no whole JSON text"))
        self.state = seen.state
        return b"", seen.ending()

    def _take(self, events: list[Event]) -> None:
        self._seen.take(events)
        if self._seen.state is ERROR:
            self.state = ERROR


def _garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)
