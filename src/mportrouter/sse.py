"""
Server-sent events: bytes in, events out (https://html.spec.whatwg.org/multipage/server-sent-events.html §9.2.6).

Line ends are LF, CRLF or CR and nothing else; an event may be cut anywhere, also inside a character or a CRLF.
"""

from __future__ import annotations

import json
from typing import NamedTuple

#: Bytes of one event past which a stream is given up: room for base64 images and encrypted reasoning.
EVENT_LIMIT = 16 * 1024 * 1024

#: Bytes that stand for themselves in a JSON string, in every way of writing it.
PLAIN = bytes(byte for byte in range(32, 127) if byte not in b'"\\')

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """
    One event.

    :param name: its ``event`` field, ``b""`` where there was none.
    :param data: its ``data`` fields joined with LF.
    """

    name: bytes
    data: bytes


class EventTooLarge(ValueError):
    """One event is larger than the limit."""


class Framer:
    """
    Cuts a byte stream into events.

    Feed it bytes, then call :meth:`next` until it gives ``None``; the work done is linear in the bytes fed.

    :param limit: bytes that one event may have.
    """

    __slots__ = ("_begun", "_blank", "_buffer", "_cr", "_data", "_limit", "_name", "_scan", "_size", "_skip_lf")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._scan = 0  # no line end before this offset
        self._blank = 0  # no blank line before this offset
        self._cr = -1  # offset of the next CR, -1: none so far
        self._skip_lf = False  # the LF of a CRLF whose CR has ended a line already
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes in."""
        buffer = self._buffer
        had = len(buffer)
        buffer += data
        if not self._begun and len(buffer) >= 3:
            self._begun = True
            if buffer.startswith(_BOM):
                del buffer[:3]
                had = 0
        if self._cr < 0:
            self._cr = buffer.find(b"\r", had)

    def next(self) -> Event | None:
        """
        The next whole event, or ``None`` until more bytes come.

        :raises EventTooLarge: when an event outgrows the limit.
        """
        while True:
            if self._cr < 0 and self._begun and not (self._data or self._name or self._skip_lf):
                # No CR in sight and at the start of an event: whole events can be cut at once.
                buffer = self._buffer
                end = buffer.find(b"\n\n", self._blank)
                if end >= 0:
                    block = bytes(buffer[:end])
                    del buffer[: end + 2]
                    self._scan = self._blank = 0
                    event = self._take_block(block)
                    if event is not None:
                        return event
                    continue
                size = len(buffer)
                self._blank = size - 1 if size else 0
                if size > self._limit:
                    raise EventTooLarge(f"an event of more than {self._limit} bytes")
                return None
            line = self._line()
            if line is None:
                if self._size + len(self._buffer) > self._limit:
                    raise EventTooLarge(f"an event of more than {self._limit} bytes")
                return None
            event = self._take(line)
            if event is not None:
                return event

    def finish(self) -> Event | None:
        """
        The stream has ended: an event that lacks only its blank line is still one where its data is whole JSON (some
        servers forget the last blank line); anything else is dropped, as the specification says.
        """
        if not self._buffer and not self._data:
            return None
        while (line := self._line()) is not None:
            event = self._take(line)
            if event is not None:
                return event
        line = bytes(self._buffer)
        self._buffer.clear()
        if line:
            self._take(line)
        event = self._take(b"")
        if event is None:
            return None
        try:
            json.loads(event.data)
        except (ValueError, RecursionError):
            return None
        return event

    def rest(self) -> bytearray:
        """The bytes after the last event that was given out, for a reader that goes on without framing."""
        return self._buffer

    def _line(self) -> bytes | None:
        buffer = self._buffer
        if not self._begun and _BOM.startswith(buffer):
            return None
        if self._skip_lf and buffer:
            self._skip_lf = False
            if buffer[0] == 10:
                self._cut(1)
        end = buffer.find(b"\n", self._scan)
        cr = self._cr
        if cr >= 0 and (end < 0 or cr < end):
            line = bytes(buffer[:cr])
            self._skip_lf = True
            self._cut(cr + 1)
            return line
        if end < 0:
            self._scan = len(buffer)
            return None
        line = bytes(buffer[:end])
        self._cut(end + 1)
        return line

    def _cut(self, count: int) -> None:
        buffer = self._buffer
        del buffer[:count]
        self._scan = self._blank = 0
        if self._cr >= count:
            self._cr -= count
        elif self._cr >= 0:
            self._cr = buffer.find(b"\r")

    def _take_block(self, block: bytes) -> Event | None:
        """The lines of one event without their blank line."""
        if block[:6] == b"data: " and block.find(b"\n") < 0:
            return Event(b"", block[6:])
        if block[:7] == b"event: ":
            middle = block.find(b"\n")
            if block[middle : middle + 7] == b"\ndata: " and block.find(b"\n", middle + 7) < 0:
                return Event(block[7:middle], block[middle + 7 :])
        for line in block.split(b"\n"):
            self._take(line)
        return self._take(b"")

    def _take(self, line: bytes) -> Event | None:
        if not line:
            if not self._data:
                self._name = b""
                return None
            event = Event(self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._name = b""
            self._data = []
            self._size = 0
            return event
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._name = value
        return None


def event(name: str, data: bytes) -> bytes:
    """
    The bytes of one event.

    :param data: one line.
    """
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def around(event: bytes, member: bytes) -> tuple[bytes, bytes] | None:
    """
    What stands before and after the text of a member in an event, where it stands there once and is :data:`PLAIN`.

    :param event: the bytes of the event.
    :param member: the member's name.
    """
    opening = b'"%b":"' % member
    start = event.find(opening)
    if start < 0:
        opening = b'"%b": "' % member
        start = event.find(opening)
        if start < 0:
            return None
    if event.find(b'"%b":' % member, start + 1) >= 0:
        return None
    start += len(opening)
    end = event.find(b'"', start)
    if end <= start or event[start:end].translate(None, PLAIN):
        return None
    return event[:start], event[end:]
