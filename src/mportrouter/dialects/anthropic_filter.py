"""Leaves events and blocks that a client does not understand out of an answer; those that stay are numbered anew."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from .. import splice, sse
from ..sse import EVENT_LIMIT
from .anthropic_seen import REFUSED
from .anthropic_signatures import boundary

_DELTA = b'data: {"type":"content_block_delta","index":'
_NAMED = b"event: content_block_delta\n" + _DELTA
_PING = sse.event("ping", b'{"type":"ping"}')
#: A life sign to whoever does not understand ``ping``: clients skip comments.
_COMMENT = b": \n\n"
#: Events left out in a row after which the client gets a life sign.
_SILENT = 64
#: One event with its blank line, of whichever line ends.
_EVENT = re.compile(rb"(?:[^\r\n]+(?:\r\n|\r|\n))*(?:\r\n|\r|\n)")
#: Events that an answer is made of; what they carry may be left out, they themselves not.
_OF_BLOCKS = frozenset(["content_block_start", "content_block_delta", "content_block_stop"])
_NEEDED = frozenset(["message_start", "message_delta", "message_stop", "error"]) | _OF_BLOCKS


class _Block(msgspec.Struct, gc=False):
    type: str = ""


class _Seen(msgspec.Struct, gc=False):
    type: str = ""
    index: int = -1
    content_block: _Block | None = None


_seen = msgspec.json.Decoder(_Seen).decode


class EventFilter:
    """
    Passes an event stream on, whole events only, without the unwanted ones. The same stream gives the same bytes
    however it was cut.

    :param unwanted: types of events, and of content blocks: of such a block everything is left out.
    """

    __slots__ = ("_life", "_numbers", "_pending", "_silent", "_skip_lf", "_taken", "_unwanted")

    def __init__(self, unwanted: Collection[str]) -> None:
        self._unwanted = frozenset(unwanted)
        self._life = _COMMENT if "ping" in self._unwanted else _PING
        self._pending = bytearray()
        self._numbers: dict[int, int | None] = {}  # index there to index here, ``None``: left out
        self._taken = 0  # blocks that were passed on
        self._silent = 0  # events left out since the last one that passed
        self._skip_lf = False  # the LF of a CRLF that ended an event left out has not come

    def feed(self, data: bytes) -> bytes:
        """:returns: what is left of the events that are whole by now."""
        pending = self._pending
        if not pending and data.endswith(b"\n\n") and b"\r" not in data and data[0] != 10 and b"\n\n\n" not in data:
            # As nearly every read is: whole events, one blank line after each.
            self._skip_lf = False
            return b"".join([self._event(block + b"\n\n") for block in data[:-2].split(b"\n\n")])
        begin = max(0, len(pending) - 2)
        pending += data
        if self._skip_lf and pending:
            self._skip_lf = False
            if pending[0] == 10:
                del pending[:1]
        end = boundary(pending, begin)
        if end < 0:
            if len(pending) <= EVENT_LIMIT:
                return b""
            data = bytes(pending)  # no event at all
            pending.clear()
            return data
        data = bytes(pending[:end])
        del pending[:end]
        out = [self._event(match[0]) for match in _EVENT.finditer(data)]
        self._skip_lf = data.endswith(b"\r") and not out[-1]
        return b"".join(out)

    def finish(self) -> bytes:
        """The unfinished event where only its end is missing, unless it is unwanted; half an event helps nobody."""
        rest = bytes(self._pending)
        self._pending.clear()
        data = _data(rest)
        if not data:
            return rest[: len(rest) - len(rest.lstrip(b"\r\n"))]
        try:
            splice.loads(data)
        except splice.Malformed:
            return b""
        return self._event(rest)

    def _event(self, event: bytes) -> bytes:
        """What goes on of one event."""
        new = self._judged(event)
        if new:
            self._silent = 0
            return new
        self._silent += 1
        if self._silent % _SILENT:
            return b""
        return self._life

    def _judged(self, event: bytes) -> bytes:
        start = len(_NAMED) if event.startswith(_NAMED) else len(_DELTA) if event.startswith(_DELTA) else 0
        if start:
            end = event.find(b",", start)
            digits = event[start:end]
            if digits.isdigit():
                number = int(digits)
                here = self._numbers.get(number, number)
                if here is None:
                    return b""
                return event if here == number else b"%b%d%b" % (event[:start], here, event[end:])
        data = _data(event)
        if not data:
            return event  # a comment, or a field of the stream's own
        name = _field(event, b"event").decode("latin-1")
        try:
            seen = _seen(data)
        except REFUSED:
            seen = _slowly(data)
        kind = seen.type or name
        if kind not in _OF_BLOCKS:
            unwanted = self._unwanted
            return b"" if kind not in _NEEDED and (kind in unwanted or name in unwanted) else event
        number = seen.index
        if kind == "content_block_start":
            if seen.content_block is not None and seen.content_block.type in self._unwanted:
                self._numbers[number] = None
                return b""
            self._numbers[number] = self._taken
            self._taken += 1
        here = self._numbers.get(number, number)
        if here is None:
            return b""
        return event if here == number else _renumbered(event, data, here)


def without_blocks(body: bytes, unwanted: Collection[str]) -> bytes:
    """A whole answer without blocks of the types; the very object where it has none."""
    try:
        spans = splice.members(body)
        member = spans.get("content")
        if member is None or body[member.value : member.value + 1] != b"[":
            return body
        blocks = splice.elements(body[member.value : member.end])
    except splice.Malformed:
        return body
    kept = [block for block in blocks if _kind(block) not in unwanted]
    if len(kept) == len(blocks):
        return body
    return splice.edit(body, {"content": b"[" + b",".join(kept) + b"]"}, (), spans)


def _kind(block: bytes) -> str:
    if not block.startswith(b"{"):
        return ""
    try:
        return _seen(block).type
    except REFUSED:
        return _slowly(block).type


def _field(event: bytes, name: bytes) -> bytes:
    """The values of a field, joined with LF."""
    found = []
    for line in event.splitlines():  # of bytes: cut at LF, CRLF and CR only
        field, _, value = line.partition(b":")
        if field == name:
            found.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(found)


def _data(event: bytes) -> bytes:
    return _field(event, b"data")


def _slowly(data: bytes) -> _Seen:
    """The same of a text that msgspec refuses, as far as it can be read."""
    try:
        found = splice.loads(data)
    except splice.Malformed:
        return _Seen()
    if not isinstance(found, dict):
        return _Seen()
    kind, index, block = found.get("type"), found.get("index"), found.get("content_block")
    inner = block.get("type") if isinstance(block, dict) else None
    return _Seen(
        kind if isinstance(kind, str) else "",
        index if isinstance(index, int) else -1,
        _Block(inner if isinstance(inner, str) else ""),
    )


def _renumbered(event: bytes, data: bytes, number: int) -> bytes:
    """An event with another index; what is around its data stays."""
    try:
        new = splice.edit(data, {"index": b"%d" % number})
    except splice.Malformed:
        return event
    if event.count(data) == 1:
        return event.replace(data, new)
    # Its data stands in several lines.
    name = _field(event, b"event")
    lines = b"".join(b"data: %b\n" % line for line in new.split(b"\n"))
    return b"%b%b\n" % (b"event: %b\n" % name if name else b"", lines)
