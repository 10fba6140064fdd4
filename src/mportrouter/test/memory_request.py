"""A request of the front door without a connection: for tests of whatever answers requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..web.request import Request


class MemoryRequest(Request):
    """
    Behaves as a :class:`~mportrouter.web.request.Request` and keeps what it is answered.

    :ivar status: of the answer, ``None`` before.
    :ivar answer_headers: fields of the answer as they were given.
    :ivar length: what ``start`` was told; for ``respond`` the size of the body.
    :ivar pieces: each piece of the body, in order, none of them empty.
    :ivar aborted: the answer was broken off.
    :ivar producer: what ``throttle`` was given, ``None`` again once finished or aborted.
    """

    def __init__(
        self,
        method: bytes = b"POST",
        target: bytes = b"/v1/messages",
        headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"127.0.0.1:8787"),),
        body: bytes = b"",
        version: tuple[int, int] = (1, 1),
        port: int = 8787,
        received: float = 0.0,
        channel: Any = None,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.version = version
        self.headers = [(name.lower(), value.strip()) for name, value in headers]
        self.body = body
        self.received = received
        self.channel = channel
        self.port = port
        self.about = ()
        self.on_gone = None
        self.started = self.finished = self.gone = self._aborted = False
        self.status: int | None = None
        self.answer_headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.pieces: list[bytes] = []
        self.producer: Any = None

    @property
    def peer(self) -> str:
        return "127.0.0.1" if self.channel is None else super().peer

    @property
    def aborted(self) -> bool:
        return self._aborted

    @property
    def answer(self) -> bytes:
        """The body so far."""
        return b"".join(self.pieces)

    def answer_header(self, name: bytes) -> bytes | None:
        """The first value of a field of the answer."""
        return next((value for field, value in self.answer_headers if field.lower() == name.lower()), None)

    def leave(self) -> None:
        """The client goes away; nothing happens where it has its answer."""
        if not self.finished:
            self.lost()
            self.producer = None

    def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        if self._may_start():
            self.started = True
            self.status, self.answer_headers, self.length = status, [*headers, *self.about], len(body)
            self.finish(body)

    def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None = None, first: bytes = b""
    ) -> None:
        if self._may_start():
            self.started = True
            self.status, self.answer_headers, self.length = status, [*headers, *self.about], length
            self.write(first)

    def write(self, data: bytes) -> None:
        if self.finished or not self.started:
            self._must_not("write")
        elif data:
            self.pieces.append(data)

    def finish(self, data: bytes = b"") -> None:
        if self.finished or not self.started:
            self._must_not("finish")
            return
        self.write(data)
        self.finished = True
        self.on_gone = self.producer = None

    def abort(self) -> None:
        if not self.finished:
            self.finished = self._aborted = True
            self.on_gone = self.producer = None

    def throttle(self, producer: Any) -> None:
        if not self.finished:
            self.producer = producer
