"""
Readers of answers of the OpenAI Responses dialect that pass to a client of the same dialect.

Their bytes pass untouched, but for the encrypted reasoning of providers other than the clients' usual one: that goes
into envelopes, so that it comes back to its own provider and to nobody else.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from .. import envelope, splice
from ..coded import see_through
from ..conversation import Conversation, Opaque
from ..errors import RouterError, Verdict
from ..interfaces import AnswerContext, Ending, IAnswerReader, Target
from ..tee import Tee, WholeTee
from .responses_answer import ResponsesWriter
from .responses_input import NATIVE
from .responses_items import NAME
from .responses_stream import ResponsesReader, interesting
from .responses_wire import event as wire_event
from .responses_wire import value

_MARK = b'"encrypted_content"'
#: Bytes of an answer that are held to be edited as a whole.
_WHOLE_LIMIT = 32 * 1024 * 1024


def reader(stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
    """See :meth:`mportrouter.interfaces.IDialect.reader`."""
    signer = target.capabilities.thinking_signature
    events = ResponsesReader(stream, AnswerContext(Conversation(NAME, "", ()), target, "", 0), quiet=True)
    if not stream:
        whole = WholeTee(events)
        return see_through(whole if signer == NATIVE else _SealingWhole(whole, target), encoding)
    tee = ResponsesTee(events, target)
    return see_through(tee if signer == NATIVE else _Sealing(tee, target), encoding)


@implementer(IAnswerReader)
class ResponsesTee(Tee):
    """A stream whose bytes pass unchanged; should it break off, its own end can be told."""

    __slots__ = ("_events_", "_target")

    def __init__(self, events: ResponsesReader, target: Target) -> None:
        super().__init__(events, interesting)
        self._events_ = events
        self._target = target

    def broken(self, error: RouterError) -> bytes:
        """
        The event that ends the stream in an error: under the id that it began with, and with the next number.

        Clients refuse a second beginning, which an error of the router's own would be.
        """
        seen = wire_number(self.latest)
        conversation = Conversation(NAME, self._events_.model or self._target.model, ())
        context = AnswerContext(conversation, self._target, "", 0)
        return b"\n\n" + ResponsesWriter.going_on(context, self._events_.id, seen + 1).fail(error)


@implementer(IAnswerReader)
class _Sealing:
    """Lets another reader see a stream whose encrypted reasoning is put into envelopes, event by event."""

    __slots__ = ("_from", "_held", "_inner", "_target")

    rewrites = True

    def __init__(self, inner: ResponsesTee, target: Target) -> None:
        self._inner = inner
        self._target = target
        self._held = bytearray()
        self._from = 0  # no end of an event begins before it

    @property
    def state(self) -> str:
        return self._inner.state

    @property
    def verdict(self) -> Verdict | None:
        return self._inner.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        held = self._held
        held += data
        end = max(held.rfind(blank, self._from) + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r"))
        if end < 4:
            self._from = max(0, len(held) - 3)
            return b""
        whole = bytes(held[:end])
        del held[:end]
        self._from = 0
        return self._inner.feed(self._sealed(whole))

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        rest = self._inner.feed(self._sealed(bytes(self._held))) if self._held else b""
        more, ending = self._inner.finish()
        return rest + more, ending

    def broken(self, error: RouterError) -> bytes:
        """See :meth:`ResponsesTee.broken`."""
        return self._inner.broken(error)

    def _sealed(self, events: bytes) -> bytes:
        if _MARK not in events:
            return events
        lines = events.split(b"\n")
        for place, line in enumerate(lines):
            if line.startswith(b"data:") and _MARK in line:
                body = line[5:].lstrip(b" ")
                end = b"\r" if body.endswith(b"\r") else b""
                lines[place] = b"data: " + sealed(body[: len(body) - len(end)], self._target) + end
        return b"\n".join(lines)


@implementer(IAnswerReader)
class _SealingWhole:
    """The same for an answer that is one JSON text."""

    __slots__ = ("_inner", "_pieces", "_size", "_target")

    rewrites = True

    def __init__(self, inner: WholeTee, target: Target) -> None:
        self._inner = inner
        self._target = target
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def state(self) -> str:
        return self._inner.state

    @property
    def verdict(self) -> Verdict | None:
        return self._inner.verdict

    def feed(self, data: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IAnswerReader.feed`."""
        self._size += len(data)
        self._pieces.append(data)
        if self._size <= _WHOLE_LIMIT:
            return b""
        held, self._pieces = b"".join(self._pieces), []
        return self._inner.feed(held)

    def finish(self) -> tuple[bytes, Ending]:
        """See :meth:`mportrouter.interfaces.IAnswerReader.finish`."""
        rest = self._inner.feed(sealed(b"".join(self._pieces), self._target))
        more, ending = self._inner.finish()
        return rest + more, ending


def sealed(body: bytes, target: Target) -> bytes:
    """An answer, or the data of an event, whose encrypted reasoning is in envelopes; all else keeps its bytes."""
    if _MARK not in body:
        return body
    try:
        spans = splice.members(body)
        replace: dict[str, bytes] = {}
        for name, edit in (("item", _item), ("output", _items), ("response", sealed)):
            member = spans.get(name)
            if member is not None and _MARK in (inner := body[member.value : member.end]):
                replace[name] = edit(inner, target)
        return splice.edit(body, replace, (), spans) if replace else body
    except splice.Malformed:
        return body


def _items(array: bytes, target: Target) -> bytes:
    return b"[" + b",".join(_item(each, target) for each in splice.elements(array)) + b"]"


def _item(item: bytes, target: Target) -> bytes:
    if _MARK not in item:
        return item
    spans = splice.members(item)
    found: dict[str, Any] = {
        name: value(item[spans[name].value : spans[name].end]) if name in spans else None
        for name in ("type", "id", "encrypted_content")
    }
    content, id = found["encrypted_content"], found["id"]
    if found["type"] != "reasoning" or not isinstance(content, str) or not content:
        return item
    opaque = Opaque(
        target.capabilities.thinking_signature, target.model, "encrypted", content, id if isinstance(id, str) else None
    )
    return splice.edit(item, {"encrypted_content": splice.dumps(envelope.seal(opaque))}, (), spans)


def wire_number(data: bytes) -> int:
    """The ``sequence_number`` of an event's data, -1 where it has none."""
    seen = wire_event(data)
    return -1 if seen is None or seen.sequence_number is None else seen.sequence_number
