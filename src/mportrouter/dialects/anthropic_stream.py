"""
Readers of answers of the Anthropic Messages dialect: the gate before commit, usage and end after it.

A reader sees a tee of the bytes. Until the first content-bearing event it frames every event; after that it only keeps
the last few KiB and looks at them once, at the end, because the numbers that count stand in the last events. Where an
upstream signs its thinking itself, the signatures are wrapped on their way to the client (:mod:`mportrouter.envelope`).
"""

from __future__ import annotations

from zope.interface import implementer

from .. import sse
from ..coded import PlainReader, see_through
from ..errors import Kind, Verdict
from ..interfaces import Ending, IAnswerReader, Target
from ..records import Usage
from ..usage import estimate, merge
from .anthropic_filter import EventFilter
from .anthropic_seen import (
    REFUSED,
    SeenEvent,
    decode_delta,
    decode_event,
    garbage,
    read_event_slowly,
    trouble_in,
)
from .anthropic_signatures import REDACTED, SIGNATURE, EventWrapper, boundary
from .anthropic_whole import MessageReader

HOLD, CONTENT, ERROR = "hold", "content", "error"

#: Bytes that a stream may have before any content.
HOLD_LIMIT = 8 * 1024 * 1024
#: Bytes at the end of a committed stream that are looked at when it ends.
_TAIL = 8 * 1024
#: Bytes up to which a large ``message_delta`` may push that out.
_LAST_EVENT_LIMIT = 1024 * 1024
#: No tail can hold an event larger than this.
_FRAME_LIMIT = 32 * 1024 * 1024
#: Bytes of the JSON around the text of a delta.
_DELTA_FRAME = 81
#: Bytes without an event that may still be a JSON error.
_RAW_LIMIT = 256 * 1024

_DELTA = b'{"type":"content_block_delta","index":'
_MESSAGE_STOP = sse.event("message_stop", b'{"type":"message_stop"}')
#: Names of events after which an answer has not stopped yet, whatever it said before.
_MORE = frozenset({b"content_block_start", b"content_block_delta"})
_CONTENT_EVENTS = frozenset({"content_block_delta", "message_delta", "message_stop"})
#: Names of events in which nothing is that has to be read after commit.
_PASSING = frozenset({b"content_block_delta", b"content_block_start", b"content_block_stop", b"ping"})


def reader(stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
    """See :meth:`mportrouter.interfaces.IDialect.reader`."""
    signer = target.capabilities.thinking_signature
    unwanted = target.capabilities.strip_events
    inner: PlainReader
    if not stream:
        inner = MessageReader(target.model, signer if signer != "anthropic" else None, unwanted)
    elif signer == "anthropic":
        inner = EventReader()
    else:
        inner = WrappingReader(EventWrapper(signer, target.model))
    if stream and unwanted:
        inner = FilteringReader(inner, EventFilter(unwanted))
    return see_through(inner, encoding)


@implementer(IAnswerReader)
class EventReader:
    """Reads an event stream whose bytes pass unchanged."""

    __slots__ = (
        "_complete",
        "_cut",
        "_error",
        "_first",
        "_forgotten",
        "_framed",
        "_framer",
        "_limit",
        "_model",
        "_needle",
        "_raw",
        "_received",
        "_stopped",
        "_tail",
        "_usage",
        "state",
        "verdict",
    )

    #: Whether the bytes passed on are others than the upstream's.
    rewrites = False

    def __init__(self) -> None:
        self.state = HOLD
        self.verdict: Verdict | None = None
        self._framer = sse.Framer()
        self._framed = False  # at least one event came
        self._raw: list[bytes] = []  # the first pieces while no event came: they may be a JSON error
        self._received = 0
        self._tail = bytearray()
        self._cut = False  # the tail does not begin at the start of an event
        self._limit = 2 * _TAIL
        self._needle = b"event: message_delta"
        self._forgotten = 0  # bytes of the committed stream before the tail
        self._first = 0  # bytes of the event that committed
        self._usage: Usage | None = None
        self._model: str | None = None
        self._complete = False
        self._stopped = False  # a ``message_delta`` said why the answer stops, and no content came after it
        self._error: Verdict | None = None

    def feed(self, data: bytes) -> bytes:
        if self.state is CONTENT:
            tail = self._tail
            tail += data
            if len(tail) > self._limit:
                self._shorten()
        elif self.state is HOLD:
            self._gate(data)
        return data

    def finish(self) -> tuple[bytes, Ending]:
        """
        See :meth:`mportrouter.interfaces.IAnswerReader.finish`.

        A stream that said why it stops and lacks only ``message_stop`` is whole; the missing event is given back.
        """
        gap: bytes | None = None
        if self.state is HOLD:
            event = self._framer.finish()
            if event is not None:
                self._framed = True
                self._look_at(event)
                gap = b"\n\n"
            if self.state is HOLD:
                self._fail(self._why_nothing_came())
        elif self.state is CONTENT:
            gap = self._read_tail()
        usage, rest = self._usage, b""
        if self.state is CONTENT and not self._complete:
            if self._stopped and gap is not None and self._error is None:
                self._complete = True
                rest = gap + _MESSAGE_STOP
            else:
                usage = estimate(usage, self._payload())
        return rest, Ending(self._complete and self._error is None, usage, self._error or self.verdict, self._model)

    # ------------------------------------------------------------------------------------------- before commit

    def _gate(self, data: bytes) -> None:
        framer = self._framer
        if not self._framed and self._received < _RAW_LIMIT:
            self._raw.append(data)
        self._received += len(data)
        try:
            framer.feed(data)
            while (event := framer.next()) is not None:
                self._framed = True
                self._look_at(event)
                if self.state is not HOLD:
                    break
        except sse.EventTooLarge as error:
            self._fail(garbage(str(error)))
            return
        if self.state is CONTENT:
            if b"".join(self._raw).find(b"event:message", 0, _TAIL) >= 0:
                self._needle = b"event:message_delta"
            self._raw = []
            self._first = len(event.data) if event is not None else 0
            self._tail = framer.rest()
            if len(self._tail) > self._limit:
                self._shorten()
        elif self.state is HOLD and self._received > HOLD_LIMIT:
            self._fail(garbage(f"{self._received} bytes without content"))

    def _look_at(self, event: sse.Event) -> None:
        """One event before commit."""
        if event.name == b"ping":
            return
        if event.name == b"content_block_delta" and event.data.startswith(_DELTA):
            self.state = CONTENT
            return
        try:
            seen = decode_event(event.data)
        except REFUSED:
            found = read_event_slowly(event.data)
            if found is None:
                return  # not JSON: passed over, a later event decides
            seen = found
        kind = seen.type or event.name.decode("latin-1")
        if kind in _CONTENT_EVENTS:
            if kind == "message_delta":
                self._end_with(seen)
            elif kind == "message_stop":
                self._complete = True
            self.state = CONTENT
        elif kind == "message_start":
            if seen.message is not None:
                self._model = seen.message.model
                self._usage = merge(self._usage, seen.message.usage)
        elif kind == "content_block_start":
            # A block of thinking may stay silent for long (its text can be withheld); an opened text says nothing yet.
            opened = seen.content_block
            if opened is not None and (opened.type != "text" or opened.text):
                self.state = CONTENT
        elif (trouble := trouble_in(kind, seen)) is not None:
            self._fail(trouble)

    def _fail(self, verdict: Verdict) -> None:
        self.state = ERROR
        self.verdict = verdict
        self._raw = []
        self._framer = sse.Framer()

    def _why_nothing_came(self) -> Verdict:
        if self._framed:
            return Verdict(Kind.CUT, "the stream ended before any content", retry_same=True, status=200)
        raw = b"".join(self._raw)
        if not raw.strip():
            return garbage("the answer is empty")
        found = read_event_slowly(raw)
        trouble = None if found is None else trouble_in(found.type, found)
        return trouble or garbage("the answer is not an event stream")

    # ------------------------------------------------------------------------------------------- after commit

    def _shorten(self) -> None:
        """Forget what is no longer needed: everything before the last few KiB, or before the ``message_delta``."""
        tail = self._tail
        found = self._find_last_event(last=True)
        if found >= 0 and len(tail) - found > _LAST_EVENT_LIMIT:
            self._read_tail()
            found = -1
        keep = len(tail) - _TAIL
        if 0 <= found < keep:
            keep = found
            self._limit = _LAST_EVENT_LIMIT + 2 * _TAIL
        else:
            self._limit = 2 * _TAIL
        if keep > 0:
            del tail[:keep]
            self._forgotten += keep
            self._cut = keep != found

    def _find_last_event(self, last: bool = False) -> int:
        """
        Where a ``message_delta`` event begins in the tail, or -1; the first one, or the last (found sooner, at the end
        of a large chunk). No line of a JSON text can begin like it.
        """
        tail, needle = self._tail, self._needle
        found = tail.rfind(needle) if last else tail.find(needle)
        while found > 0 and tail[found - 1] not in b"\r\n":
            found = tail.rfind(needle, 0, found) if last else tail.find(needle, found + 1)
        return -1 if found == 0 and self._cut else found

    def _read_tail(self) -> bytes | None:
        """:returns: what is missing at the end of the last event, ``None`` where half an event stands there."""
        start = self._find_last_event()
        framer = sse.Framer(_FRAME_LIMIT)
        framer.feed(self._tail[start:] if start > 0 else self._tail)
        while (event := framer.next()) is not None:
            if event.name not in _PASSING:
                self._absorb(event.data)
            elif event.name in _MORE:
                self._stopped = False
        last = framer.finish()
        if last is not None:
            self._absorb(last.data)
            return b"\n\n"
        if self._complete:
            return b""
        return None if self._tail[max(0, boundary(self._tail)) :].strip() else b""

    def _absorb(self, data: bytes) -> None:
        """One of the last events."""
        try:
            seen = decode_event(data)
        except REFUSED:
            found = read_event_slowly(data)
            if found is None:
                return
            seen = found
        kind = seen.type
        if kind == "message_delta":
            self._end_with(seen)
        elif kind == "message_stop":
            self._complete = True
        elif kind.encode("utf-8", "replace") in _MORE:
            self._stopped = False
        elif kind not in _CONTENT_EVENTS and not self._complete and (trouble := trouble_in(kind, seen)) is not None:
            self._error = trouble

    def _end_with(self, seen: SeenEvent) -> None:
        """What a ``message_delta`` tells."""
        self._usage = merge(self._usage, seen.usage)
        if seen.delta is not None and seen.delta.stop_reason:
            self._stopped = True

    def _payload(self) -> int:
        """Bytes of text, thinking and arguments since commit: their share in the tail, applied to all that came."""
        first = max(0, self._first - _DELTA_FRAME)
        size, text = len(self._tail), 0
        if not size:
            return first
        framer = sse.Framer(_FRAME_LIMIT)
        framer.feed(self._tail)
        while (event := framer.next()) is not None:
            try:
                delta = decode_delta(event.data).delta
            except REFUSED:
                continue
            if delta is not None:
                text += len(delta.text.encode()) + len(delta.thinking.encode()) + len(delta.partial_json)
        return first + (self._forgotten + size) * text // size


@implementer(IAnswerReader)
class WrappingReader(EventReader):
    """Reads an event stream whose thinking signatures are wrapped before they are passed on."""

    __slots__ = ("_pending", "_wrapper")

    rewrites = True

    def __init__(self, wrapper: EventWrapper) -> None:
        super().__init__()
        self._wrapper = wrapper
        self._pending = wrapper.pending

    def feed(self, data: bytes) -> bytes:
        # rfind() skips through text about four times as fast as find() does with these words.
        if self._pending or data[-2:] != b"\n\n" or data.rfind(SIGNATURE) >= 0 or data.rfind(REDACTED) >= 0:
            data = self._wrapper.feed(data)
            if not data:
                return data
        # What EventReader.feed() does, without one more call for each read.
        if self.state is CONTENT:
            tail = self._tail
            tail += data
            if len(tail) > self._limit:
                self._shorten()
        elif self.state is HOLD:
            self._gate(data)
        return data

    def finish(self) -> tuple[bytes, Ending]:
        rest = self._wrapper.finish()
        if rest:
            super().feed(rest)
        end, ending = super().finish()
        return rest + end, ending


@implementer(IAnswerReader)
class FilteringReader:
    """
    Reads an event stream some of whose events are not passed on. What is left out counts all the same: it commits, and
    its usage is the answer's.

    :param inner: reads the whole stream.
    """

    __slots__ = ("_filter", "_inner")

    rewrites = True

    def __init__(self, inner: PlainReader, filter: EventFilter) -> None:
        self._inner = inner
        self._filter = filter

    @property
    def state(self) -> str:
        return self._inner.state

    @property
    def verdict(self) -> Verdict | None:
        return self._inner.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        return self._filter.feed(self._inner.feed(data))

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        rest, ending = self._inner.finish()
        return self._filter.feed(rest) + self._filter.finish(), ending
