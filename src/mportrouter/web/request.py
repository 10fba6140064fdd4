"""One request of the front door and the way to answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger

from .answer import CHUNKED, CLOSE, KEEP, bodiless, head

if TYPE_CHECKING:
    from .head import HeadReader
    from .http1 import HTTPChannel

# How the client finds the end of the body: there is none, by content-length, by chunks, by the connection's end.
_NONE, _SIZED, _CHUNKED, _UNTIL_CLOSE = range(4)


class Request:
    """
    A complete request. It is answered once: with :meth:`respond`, or with :meth:`start`, any number of :meth:`write`,
    and :meth:`finish` or :meth:`abort`.

    Once the client has left, and after :meth:`abort`, every way of answering does nothing, so that whoever streams
    needs no check before each chunk. Answering twice is a :exc:`RuntimeError`.

    :ivar method: as it came.
    :ivar target: origin-form; ``path`` up to its first ``?``, ``query`` behind it. Nothing is unquoted.
    :ivar version: ``(1, 1)`` or ``(1, 0)``.
    :ivar headers: in order, names in lower case, values stripped (a :class:`~mportrouter.fields.Fields`). A list of its
        own.
    :ivar body: the whole body.
    :ivar received: seconds on the reactor's clock when the request was complete.
    :ivar channel: the connection it came on.
    :ivar port: the local listening port.
    :ivar about: fields that every answer to it has besides its own.
    :ivar on_gone: called once, without arguments, if the client leaves before the answer is finished or aborted.
    :ivar started: the answer's head is written.
    :ivar finished: nothing more can be written: answered, aborted, or the client has left.
    :ivar gone: the client left before it was answered.
    """

    __slots__ = (
        "_aborted",
        "_framing",
        "_keep",
        "_left",
        "about",
        "body",
        "channel",
        "finished",
        "gone",
        "headers",
        "method",
        "on_gone",
        "path",
        "port",
        "query",
        "received",
        "started",
        "target",
        "version",
    )

    _log = Logger()

    def __init__(self, channel: HTTPChannel, reader: HeadReader, port: int) -> None:
        self.method = reader.method
        self.target = reader.target
        self.path = reader.path
        self.query = reader.query
        self.version = reader.version
        self.headers: list[tuple[bytes, bytes]] = reader.headers
        self.body = b""
        self.received = 0.0
        self.channel = channel
        self.port = port
        self.about: Sequence[tuple[bytes, bytes]] = ()
        self.on_gone: Callable[[], None] | None = None
        self.started = False
        self.finished = False
        self.gone = False
        self._aborted = False
        self._keep = reader.keep_alive
        self._framing = _NONE
        self._left = 0

    def __repr__(self) -> str:
        # The query and the fields may carry keys.
        return f"<{type(self).__name__} {self.method.decode('ascii')} {self.path.decode('ascii', 'replace')}>"

    @property
    def peer(self) -> str:
        """The client's address, ``""`` where it has none."""
        return str(getattr(self.channel.transport.getPeer(), "host", ""))

    def header(self, name: bytes) -> bytes | None:
        """
        :param name: in lower case.
        :returns: the first value, or ``None``.
        """
        for field, value in self.headers:
            if field == name:
                return value
        return None

    # ---------------------------------------------------------------------------------- answering

    def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """
        Give the whole answer in one write.

        :param headers: without ``content-length`` and ``connection``: those in it are ignored.
        :param body: not sent to ``HEAD`` and with 204 and 304.
        :raises ValueError: for a status below 200.
        """
        if not self._may_start():
            return
        channel = self.channel
        factory = channel.factory
        keep = self._keep and not factory.draining
        if bodiless(status):
            framing = body = b""
        else:
            framing = b"content-length: %d\r\n" % len(body)
            if self.method == b"HEAD":
                body = b""
        if self.about:
            headers = [*headers, *self.about]
        data = head(status, headers, factory.date(), framing, self._connection(keep)) + body
        self.started = self.finished = True
        self.on_gone = None
        channel.outlet.write(data)
        channel.answered(keep)

    def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None = None, first: bytes = b""
    ) -> None:
        """
        Begin an answer whose body comes in pieces.

        :param length: bytes of the whole body; ``None``: chunks, or for an HTTP/1.0 client until the connection closes.
        :param first: the first piece, sent in the same write.
        :raises ValueError: for a status below 200, or where ``first`` is longer than ``length``.
        """
        if not self._may_start():
            return
        channel = self.channel
        factory = channel.factory
        keep = self._keep and not factory.draining
        framing = b""
        if self.method == b"HEAD" or bodiless(status):
            self._framing = _NONE
            if length is not None and not bodiless(status):
                framing = b"content-length: %d\r\n" % length
            first = b""
        elif length is not None:
            if len(first) > length:
                raise ValueError("the first piece of the body is longer than the whole")
            self._framing = _SIZED
            self._left = length - len(first)
            framing = b"content-length: %d\r\n" % length
        elif self.version == (1, 1):
            self._framing = _CHUNKED
            framing = CHUNKED
            if first:
                first = b"%x\r\n%b\r\n" % (len(first), first)
        else:
            self._framing = _UNTIL_CLOSE
            keep = False
        if self.about:
            headers = [*headers, *self.about]
        data = head(status, headers, factory.date(), framing, self._connection(keep)) + first
        self._keep = keep
        self.started = True
        channel.outlet.write(data)

    def write(self, data: bytes) -> None:
        """Send a piece of the body now, as one chunk where the body is chunked. An empty piece is nothing."""
        if self.finished or not self.started:
            self._must_not("write")
            return
        framing = self._framing
        if framing == _CHUNKED:
            if data:
                self.channel.outlet.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif framing != _NONE:
            if framing == _SIZED:
                self._left -= len(data)
                if self._left < 0:
                    self._log.error("an answer on port {port} is longer than announced", port=self.port)
                    self.abort()
                    return
            self.channel.outlet.write(data)

    def finish(self, data: bytes = b"") -> None:
        """
        End the answer. One that is shorter than the length given to :meth:`start` is aborted instead, because the
        client must not take it for whole.

        :param data: the last piece of the body.
        """
        if self.finished or not self.started:
            self._must_not("finish")
            return
        framing = self._framing
        if framing == _CHUNKED:
            if data:
                data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
            else:
                data = b"0\r\n\r\n"
            self.channel.outlet.write(data)
        elif framing != _NONE:
            if framing == _SIZED and self._left != len(data):
                self._log.error("an answer on port {port} is not as long as announced", port=self.port)
                self.abort()
                return
            if data:
                self.channel.outlet.write(data)
        self.finished = True
        self.on_gone = None
        self.channel.answered(self._keep)

    def abort(self) -> None:
        """Break the connection off at once, without the body's end, so that the client knows that the answer is cut."""
        if self.finished:
            return
        self.finished = self._aborted = True
        self.on_gone = None
        self.channel.broken()

    def throttle(self, producer: IPushProducer) -> None:
        """
        Let the client's reading speed govern a producer until :meth:`finish` or :meth:`abort`.

        :param producer: paused while the client does not read, resumed when it does, and left running at the end.
        """
        if not self.finished:
            self.channel.throttle(producer)

    # ---------------------------------------------------------------------------------- the channel's side

    def lost(self) -> None:
        """The client has left. Called by the channel."""
        self.finished = self.gone = True
        callback, self.on_gone = self.on_gone, None
        if callback is not None:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the connection's own clean-up must go on
                self._log.failure("a request to port {port} could not be given up", port=self.port)

    def _may_start(self) -> bool:
        """:returns: ``False`` where nobody waits for the answer any more."""
        if self.gone or self._aborted:
            return False
        if self.started:
            raise RuntimeError("the request is answered already")
        return True

    def _must_not(self, verb: str) -> None:
        if not self.gone and not self._aborted:
            raise RuntimeError(f"{verb}: the answer is {'finished' if self.finished else 'not started'}")

    def _connection(self, keep: bool) -> bytes:
        if not keep:
            return CLOSE
        return b"" if self.version == (1, 1) else KEEP
