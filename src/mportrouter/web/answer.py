"""
The head of an HTTP/1.1 answer as bytes.

Framing and persistence (``content-length``, ``transfer-encoding``, ``connection``) belong to the connection and are
never taken from the caller's fields; a field whose name or value could begin a line of its own is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

_STATUS = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii")) for status in HTTPStatus}
_STATUS[413] = b"HTTP/1.1 413 Content Too Large\r\n"
_STATUS[529] = b"HTTP/1.1 529 Overloaded\r\n"

#: Fields that describe one connection or one framing (RFC 9110 §7.6.1), not the answer.
_OWN = frozenset({b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"transfer-encoding"})

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNSAFE = re.compile(rb"[\r\n\0]")

CLOSE = b"connection: close\r\n"
KEEP = b"connection: keep-alive\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


def status_line(status: int) -> bytes:
    """
    :raises ValueError: for a status that cannot end an exchange (below 200) or is none (past 999).
    """
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of a final answer")
    return _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status


def field_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields as lines, each with its CR LF."""
    lines = [b": ".join(field) for field in headers if field[0].lower() not in _OWN]
    lines.append(b"")
    block = b"\r\n".join(lines)
    if len(block.translate(None, b"\r\n\0")) == len(block) - 2 * len(lines) + 2:
        return block
    # Each line ends in a CR LF of ours, so a further CR, LF or NUL came with some name or value.
    safe = []
    for line in lines[:-1]:
        name, _, value = line.partition(b": ")
        if _NAME.fullmatch(name) and not _UNSAFE.search(value):
            safe.append(line + b"\r\n")
    return b"".join(safe)


def head(status: int, headers: Iterable[tuple[bytes, bytes]], date: bytes, framing: bytes, connection: bytes) -> bytes:
    """
    A whole head.

    :param date: the ``date`` line to add where ``headers`` have none (RFC 9110 §6.6.1).
    :param framing: the ``content-length`` or ``transfer-encoding`` line, or nothing.
    :param connection: :data:`CLOSE`, :data:`KEEP` or nothing.
    """
    start = status_line(status) + field_lines(headers)
    # An upstream's names are in lower case, and nearly all send their own date.
    if b"\r\ndate: " in start or b"\r\ndate: " in start.lower():
        date = b""
    return b"".join((start, date, framing, connection, b"\r\n"))


class DateLine:
    """The ``date`` line, made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._line = b""
        self._second = -1

    def at(self, seconds: float) -> bytes:
        """
        :param seconds: since the epoch.
        """
        second = int(seconds)
        if second != self._second:
            self._second = second
            self._line = b"date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")
        return self._line


def bodiless(status: int) -> bool:
    """Whether an answer of this status never has a body (RFC 9110 §6.4.1)."""
    return status == 204 or status == 304
