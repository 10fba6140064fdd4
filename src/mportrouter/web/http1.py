"""
The front door's HTTP/1.1 server protocol (RFC 9112, RFC 9110): connections in, whole requests out, answers back.

One request of a connection is in progress at a time; what a client sends meanwhile is kept as bytes, up to a bound.
Nothing here knows a path, a dialect or an upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..eager import Outlet
from ..errors import Kind, RouterError
from ..settings import FrontSettings
from .answer import CLOSE, DateLine, field_lines, head, status_line
from .body import ChunkReader, SizedReader
from .deadline import Deadline
from .head import HeadReader, bad
from .peer import PeerWatch
from .request import Request

#: What a protocol-level refusal looks like: status, fields, body. The request is given where its head could be read.
Refuse = Callable[[RouterError, Request | None], tuple[int, Iterable[tuple[bytes, bytes]], bytes]]

#: Bytes a client may send ahead of the answer in progress before its connection is no longer read.
AHEAD = 64 * 1024

#: Seconds of silence, and seconds in all, for which a refused client is listened to after its answer. A socket closed
#: with unread bytes resets the connection, and the reset destroys the answer on its way (RFC 9112 §9.6). As nginx has
#: them.
LINGER, LINGER_ALL = 5.0, 30.0

#: How many times the body limit a refused client may still send.
DRAIN = 8

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What the next byte belongs to: a head, a body, a request behind the one in progress, nothing any more (a last answer
# has been given), nothing any more (the connection is closing).
_HEAD, _BODY, _BUSY, _LINGERING, _CLOSED = range(5)


@implementer(IHalfCloseableProtocol, IPushProducer)
class HTTPChannel(Protocol):
    """
    One connection of a client.

    It is its transport's producer for as long as it serves, so that a client that does not read stops both the streamed
    answer (:meth:`.Request.throttle`) and the start of further pipelined requests.

    :param factory: where limits, clock and callbacks come from.
    """

    _log = Logger()

    factory: HTTPServerFactory
    transport: Any
    outlet: Outlet

    def __init__(self, factory: HTTPServerFactory) -> None:
        self.factory = factory
        self._clock = factory.clock
        self._front = factory.front
        self._reader = HeadReader(factory.front.header_bytes)
        self._state = _HEAD
        #: The request that waits for its answer.
        self._current: Request | None = None
        #: The request whose body is under way.
        self._arriving: Request | None = None
        self._body: SizedReader | ChunkReader | None = None
        self._pending = b""
        self._advancing = False
        self._reading = True
        #: The client has closed its sending side.
        self._ended = False
        #: The client does not read.
        self._choked = False
        self._throttled: IPushProducer | None = None
        self._watch: PeerWatch | None = None
        self._deadline = Deadline(factory.clock, self._expire)
        self._drained = 0
        self._linger_until = 0.0

    # ---------------------------------------------------------------------------------- the transport's calls

    def connectionMade(self) -> None:
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        self.outlet = Outlet(transport)
        self.factory.channels.add(self)
        self._deadline.within(self._front.keepalive_seconds)

    def dataReceived(self, data: bytes) -> None:
        state = self._state
        if state == _BUSY or (state == _HEAD and self._choked):
            self._pending += data
            self._hold_back()
        elif state == _LINGERING:
            self._drain(len(data))
        elif state != _CLOSED:
            self._advance(data)

    def readConnectionLost(self) -> None:
        """The client sends no more; it may still wait for its answers (RFC 9112 §9.5)."""
        self._ended = True
        if self._state != _BUSY and not self._pending:
            self._after_end()
        elif self._watch is None:
            self._watch = PeerWatch(self._clock, self.transport, self.abort)

    def writeConnectionLost(self) -> None:
        """Our own doing, see :meth:`_linger`."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._state = _CLOSED
        self._pending = b""
        self._throttled = None
        self._drop_body()
        self._reader.reset()
        self._deadline.cancel()
        self._stop_watching()
        request, self._current = self._current, None
        if request is not None:
            self.factory.requests_open -= 1
            request.lost()
        self.factory.lost(self)

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._choked = True
        if self._throttled is not None:
            self._throttled.pauseProducing()

    def resumeProducing(self) -> None:
        """The client has read what there was."""
        self._choked = False
        if self._throttled is not None:
            self._throttled.resumeProducing()
        elif self._state == _HEAD and self._pending and not self._advancing:
            self._go_on()

    def stopProducing(self) -> None:
        """The connection is lost; :meth:`connectionLost` follows."""

    # ---------------------------------------------------------------------------------- bytes in

    def _advance(self, data: bytes) -> None:
        """Read requests out of ``data`` until one of them waits for its answer or nothing is left."""
        self._advancing = True
        try:
            while data:
                state = self._state
                if state == _HEAD:
                    if self._choked:
                        break
                    data = self._read_head(data)
                elif state == _BODY:
                    data = self._read_body(data)
                else:
                    break
        except RouterError as error:
            self._refuse(error)
        finally:
            self._advancing = False
        if self._state <= _BUSY:
            self._pending = data
            self._hold_back()
            if self._ended and not data and self._state != _BUSY:
                self._after_end()

    def _read_head(self, data: bytes) -> bytes:
        reader = self._reader
        begun = reader.begun
        rest = reader.feed(data)
        if rest is None:
            if reader.begun and not begun:
                self._deadline.within(self._front.header_seconds)
            return b""
        request = Request(self, reader, self.factory.port)
        length = reader.length
        if length > self._front.body_bytes:
            self._arriving = request
            raise RouterError(Kind.TOO_LARGE, f"The request body is larger than {self._front.body_bytes} bytes.")
        if reader.chunked:
            self._body = ChunkReader(self._front.body_bytes)
        elif length > len(rest):
            self._body = SizedReader(length)
        else:
            if reader.begun:
                reader.reset()
            if length:
                request.body = rest[:length]
                rest = rest[length:]
            self._deliver(request)
            return rest
        self._arriving = request
        self._state = _BODY
        if reader.expects and not rest:
            self.outlet.write(_CONTINUE)
        reader.reset()
        self._deadline.within(self._front.body_seconds)
        return rest

    def _read_body(self, data: bytes) -> bytes:
        body, request = self._body, self._arriving
        assert body is not None and request is not None
        rest = body.feed(data)
        if rest is None:
            self._deadline.within(self._front.body_seconds)
            return b""
        request.body = bytes(body.body)
        self._drop_body()
        self._arriving = None
        self._deliver(request)
        return rest

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _hold_back(self) -> None:
        """Stop reading a client that is too far ahead; go on when it no longer is."""
        if self._reading:
            if len(self._pending) > AHEAD and not self._ended:
                self._reading = False
                self.transport.pauseProducing()
                if self._watch is None:
                    self._watch = PeerWatch(self._clock, self.transport, self.abort)
        elif len(self._pending) <= AHEAD:
            self._reading = True
            self._stop_watching()
            self.transport.resumeProducing()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _go_on(self) -> None:
        """Read what has waited."""
        data, self._pending = self._pending, b""
        if data:
            self._advance(data)
        else:
            self._after_end()

    def _after_end(self) -> None:
        """The client sends no more, and nothing waits: answer half a request, or just close."""
        state = self._state
        if state == _BODY or (state == _HEAD and self._reader.begun):
            self._refuse(bad("The request is not whole: the client ended it in the middle."))
        elif state != _CLOSED:
            self._close()

    # ---------------------------------------------------------------------------------- one request, one answer

    def _deliver(self, request: Request) -> None:
        factory = self.factory
        self._state = _BUSY
        self._deadline.off()
        self._current = request
        factory.requests_open += 1
        request.received = self._clock.seconds()
        try:
            factory.handle(request)
        except Exception:  # noqa: BLE001 - whatever it was, the client gets an answer and the process goes on
            self._log.failure("a request to port {port} failed", port=factory.port)
            if request.started:
                request.abort()
            else:
                error = RouterError(Kind.INTERNAL, "The router failed at this request; its log says how.")
                request.respond(*self._refusal(error, request))

    def answered(self, keep: bool) -> None:
        """
        The answer to the current request is written. Called by the request.

        :param keep: what the answer's head told the client about the connection.
        """
        self._current = None
        factory = self.factory
        factory.requests_open -= 1
        if self._state == _CLOSED:
            return
        throttled = self._throttled
        if throttled is not None:
            self._throttled = None
            if self._choked:
                # The pause was ours, and the producer may be on its way to another exchange.
                throttled.resumeProducing()
        if not keep or factory.draining:
            if self._pending and not self._ended:
                self._linger()
            else:
                self._close()
            return
        self._state = _HEAD
        self._deadline.within(self._front.keepalive_seconds)
        if not self._advancing and not self._choked and (self._pending or self._ended):
            self._go_on()

    def broken(self) -> None:
        """The answer to the current request cannot be completed. Called by the request."""
        self._current = None
        self.factory.requests_open -= 1
        self.abort()

    def throttle(self, producer: IPushProducer) -> None:
        """See :meth:`.Request.throttle`."""
        self._throttled = producer
        if self._choked:
            producer.pauseProducing()

    # ---------------------------------------------------------------------------------- refusals and ends

    def _refusal(
        self, error: RouterError, request: Request | None
    ) -> tuple[int, Iterable[tuple[bytes, bytes]], bytes]:
        try:
            status, headers, body = self.factory.refuse(error, request)
            headers = list(headers)
            status_line(status), field_lines(headers)  # so that they fail here
            return status, headers, body
        except Exception:  # noqa: BLE001 - an error about an error must not hide the first
            self._log.failure("an error answer could not be built")
            return error.status, [(b"content-type", b"text/plain; charset=utf-8")], error.message.encode("utf-8")

    def _refuse(self, error: RouterError) -> None:
        """Answer something that is no whole request; then close in a way that lets the client read the answer."""
        request, self._arriving = self._arriving, None
        status, headers, body = self._refusal(error, request)
        framing = b"content-length: %d\r\n" % len(body)
        if request is not None and request.method == b"HEAD":
            body = b""
        self.outlet.write(head(status, headers, self.factory.date(), framing, CLOSE) + body)
        if self._ended:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Tell the client that this was all, and let it finish sending for a while."""
        self._forget()
        self._state = _LINGERING
        transport = self.transport
        if not self._reading:
            self._reading = True
            transport.resumeProducing()
        if ITCPTransport.providedBy(transport):
            self.outlet.flush()
            transport.loseWriteConnection()
        self._linger_until = self._clock.seconds() + LINGER_ALL
        self._deadline.within(LINGER)

    def _drain(self, count: int) -> None:
        self._drained += count
        if self._drained > DRAIN * self._front.body_bytes:
            self._close()
        else:
            self._deadline.within(max(0.0, min(LINGER, self._linger_until - self._clock.seconds())))

    def _close(self) -> None:
        """Close once everything is written; at the latest when a client that does not read has had its time."""
        if self._state != _LINGERING:
            self._forget()
        self._state = _CLOSED
        self.outlet.flush()
        self.transport.loseConnection()
        self._deadline.within(self._front.keepalive_seconds)

    def _forget(self) -> None:
        """Nothing more is read or streamed on this connection."""
        self._pending = b""
        self._drop_body()
        self._stop_watching()
        self._choked = False
        # A transport does not close while a producer is registered.
        self.transport.unregisterProducer()

    def abort(self) -> None:
        """Break the connection off at once."""
        self._stop_watching()
        self._throttled = None
        if self._state != _CLOSED:
            self._pending = b""
            self._state = _CLOSED
        self.outlet.flush()
        self.transport.abortConnection()

    def retire(self) -> None:
        """Close now where nothing is under way; else the current answer is the last one."""
        if self._state == _HEAD and not self._reader.begun and not self._pending:
            self._close()

    # ---------------------------------------------------------------------------------- time

    def _expire(self) -> None:
        state = self._state
        if state == _CLOSED or self._choked:
            self.abort()
        elif state == _HEAD and self._reader.begun:
            self._refuse(bad("The request head did not come in time.", 408))
        elif state == _BODY:
            self._refuse(bad("The request body did not come in time.", 408))
        else:
            self._close()


class HTTPServerFactory(Factory):
    """
    Makes the connections of one port.

    :param handle: gets each complete request.
    :param front: limits.
    :param clock: the reactor.
    :param port: the local listening port, for the requests.
    :param refuse: builds the answer to what the protocol refuses by itself, and to requests at which ``handle`` failed.

    :ivar channels: the open connections.
    :ivar requests_open: requests that wait for their answers or for the rest of them.
    :ivar draining: no connection is kept for another request.
    """

    noisy = False

    def __init__(
        self,
        handle: Callable[[Request], None],
        front: FrontSettings,
        clock: IReactorTime,
        port: int = 0,
        *,
        refuse: Refuse,
    ) -> None:
        self.handle = handle
        self.front = front
        self.clock = clock
        self.port = port
        self.refuse = refuse
        self.channels: set[HTTPChannel] = set()
        self.requests_open = 0
        self.draining = False
        self._drained: list[Deferred[None]] = []
        self._date = DateLine()

    def buildProtocol(self, addr: IAddress | None) -> HTTPChannel:  # type: ignore[override]
        return HTTPChannel(self)

    def date(self) -> bytes:
        """The ``date`` line of this second."""
        return self._date.at(self.clock.seconds())

    def drain(self) -> Deferred[None]:
        """
        Close idle connections now and each other one after its current answer.

        :returns: fires when no connection is open.
        """
        self.draining = True
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        for channel in list(self.channels):
            channel.retire()
        self._check_drained()
        return drained

    def abort_all(self) -> None:
        """Break every connection off at once."""
        for channel in list(self.channels):
            channel.abort()

    def lost(self, channel: HTTPChannel) -> None:
        """A connection is gone. Called by the channel."""
        self.channels.discard(channel)
        self._check_drained()

    def _check_drained(self) -> None:
        if not self.channels:
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)
