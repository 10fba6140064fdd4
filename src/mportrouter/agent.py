"""
``IAgent`` on an upstream's own pool, for everything that is not the data path: models, health, analysis.

With :class:`treq.client.HTTPClient` around it, requests have treq's comfort and still use the connections, the TLS
verification and the pins of the upstream. :func:`web_agent` is for other hosts (webhooks), under the same TLS policy.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http import RESPONSES, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from . import __version__
from .connection import Call
from .interfaces import IResponseSink
from .opening import Origin
from .pool import Pool
from .settings import TLS, Pins
from .tls import VerifyingCreator

#: Fields that the pool writes itself, or that mean nothing on one connection to one server.
_OWN_FIELDS = frozenset([b"host", b"content-length", b"connection", b"transfer-encoding", b"expect"])


class ForeignOrigin(ValueError):
    """A URL that is not at the origin of the pool; a redirect can lead to one."""


@implementer(IClientRequest)
class _AgentRequest:
    def __init__(self, method: bytes, uri: bytes, headers: Headers) -> None:
        self.method = method
        self.absoluteURI = uri
        self.headers = headers


@implementer(IPushProducer)
class _BodyTransport:
    """What the reader of a body may do to it."""

    disconnecting = False

    def __init__(self, call: Call) -> None:
        self._call = call

    def pauseProducing(self) -> None:
        self._call.pauseProducing()

    def resumeProducing(self) -> None:
        self._call.resumeProducing()

    def stopProducing(self) -> None:
        self.disconnecting = True
        self._call.abort()

    loseConnection = abortConnection = stopProducing


@implementer(IResponse)
class PooledResponse:
    """
    An answer whose head is there. Its body waits, unread, until somebody takes it.

    :param fields: the head's fields, names in lower case.
    :param bodiless: it has no body whatever its head says.
    """

    version = (b"HTTP", 1, 1)

    def __init__(
        self, status: int, fields: list[tuple[bytes, bytes]], request: _AgentRequest, call: Call, bodiless: bool
    ) -> None:
        self.code = status
        self.phrase: bytes = RESPONSES.get(status, b"Unknown")
        self.headers = headers = Headers()
        chunked = False
        self.length: Any = UNKNOWN_LENGTH
        for name, value in fields:
            headers.addRawHeader(name, value)
            if name == b"content-length" and value.isdigit():
                self.length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
        if bodiless:
            self.length = 0
        self.request = request
        self.previousResponse: IResponse | None = None
        self._framed = chunked or self.length is not UNKNOWN_LENGTH
        self._call = call
        self._protocol: Any = None
        self._held: list[bytes] = []
        self._ended: Failure | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        """
        Give the body to ``protocol``.

        :raises RuntimeError: somebody has it already.
        """
        if self._protocol is not None:
            raise RuntimeError("the body of this response was already taken")
        self._protocol = protocol
        protocol.makeConnection(_BodyTransport(self._call))  # type: ignore[arg-type]
        held, self._held = self._held, []
        for chunk in held:
            protocol.dataReceived(chunk)
        if self._ended is not None:
            protocol.connectionLost(self._ended)
        else:
            self._call.resumeProducing()

    def setPreviousResponse(self, response: IResponse) -> None:
        """Remember the answer that redirected here."""
        self.previousResponse = response

    def received(self, chunk: bytes) -> None:
        """A piece of the body came."""
        if self._protocol is not None:
            self._protocol.dataReceived(chunk)
        else:
            self._held.append(chunk)
            self._call.pauseProducing()

    def finished(self, failure: Exception | None) -> None:
        """The body has ended."""
        if failure is not None:
            self._ended = Failure(ResponseFailed([Failure(failure)], self))
        else:
            self._ended = Failure(ResponseDone() if self._framed else PotentialDataLoss())
        if self._protocol is not None:
            self._protocol.connectionLost(self._ended)


@implementer(IResponseSink)
class _AgentSink:
    """Turns a call's answer into a Deferred of a response."""

    def __init__(self, request: _AgentRequest) -> None:
        self._request = request
        self._answer: PooledResponse | None = None
        self.call: Call | None = None
        self.result: Deferred[IResponse] = Deferred(self._cancelled)

    def _cancelled(self, result: Deferred[IResponse]) -> None:
        if self.call is not None:
            self.call.abort()
        result.errback(CancelledError())

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        call = self.call
        assert call is not None
        self._answer = PooledResponse(status, headers, self._request, call, call.bodiless)
        self.result.callback(self._answer)

    def data(self, data: bytes, last: bool = False) -> None:
        assert self._answer is not None
        self._answer.received(data)

    def end(self, failure: Exception | None) -> None:
        if self._answer is not None:
            self._answer.finished(failure)
        elif failure is not None:
            self.result.errback(failure)


@implementer(IConsumer)
class _Collector:
    """Takes a request body into memory: what is sent this way is small."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nothing to hold back: memory takes everything."""

    def unregisterProducer(self) -> None:
        """See :meth:`registerProducer`."""

    def write(self, data: bytes) -> None:
        self.parts.append(data)


@implementer(IAgent)
class PooledAgent:
    """:param pool: answers; a URL of any other origin is refused."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        Send a request; cancelling the Deferred aborts it.

        :returns: the response, or a failure: :class:`ForeignOrigin`, or a :class:`~mportrouter.connection.CallFailed`.
        """
        pool = self._pool
        try:
            origin = Origin.of(uri.decode("ascii"))
        except ValueError as error:
            return fail(ForeignOrigin(str(error)))
        if origin != pool.origin:
            return fail(ForeignOrigin(f"{origin} is not {pool.origin}"))
        # As the URL has it: parsing and printing it again could change what a provider's signature covers.
        rest = uri.partition(b"#")[0].split(b"://", 1)[1]
        cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        target = rest[cut:] if rest[cut : cut + 1] == b"/" else b"/" + rest[cut:]
        fields = [
            (name, value)
            for name, values in (headers or Headers()).getAllRawHeaders()
            if name.lower() not in _OWN_FIELDS
            for value in values
        ]
        sink = _AgentSink(_AgentRequest(method, uri, headers or Headers()))
        if bodyProducer is None:
            return self._send(sink, method, target, fields, b"")
        collector = _Collector()

        def collected(_: object) -> Deferred[IResponse]:
            return self._send(sink, method, target, fields, b"".join(collector.parts))

        produced: Deferred[Any] = bodyProducer.startProducing(collector)
        return produced.addCallback(collected)

    def _send(
        self, sink: _AgentSink, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], body: bytes
    ) -> Deferred[IResponse]:
        try:
            sink.call = self._pool.request(method, target, fields, body, sink)
        except ValueError as error:
            return fail(error)
        return sink.result


class _BodyReader(Protocol):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self.result: Deferred[bytes] = Deferred(lambda _: self._close())

    def _close(self) -> None:
        self.transport.stopProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit and not self.result.called:
            self._close()
            self.result.errback(ValueError(f"an answer of more than {self._limit} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.result.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.result.callback(bytes(self._body))
        else:
            self.result.errback(reason)


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """
    The whole body of a response. Cancelling the Deferred closes its connection.

    :param limit: bytes; a longer body is not read to its end, and is a :class:`ValueError`.
    """
    reader = _BodyReader(limit)
    response.deliverBody(reader)
    return reader.result


@implementer(IBodyProducer)
class _Whole:
    """A request body that is written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It has been written already."""

    resumeProducing = stopProducing = pauseProducing


async def post_json(agent: IAgent, url: str, body: bytes, limit: int) -> tuple[int, bytes]:
    """
    Post a JSON text.

    :param limit: bytes of the answer, as of :func:`read_body`.
    :returns: status and body of the answer.
    """
    fields = {b"content-type": [b"application/json"], b"user-agent": [f"mportrouter/{__version__}".encode("ascii")]}
    response = await agent.request(b"POST", url.encode("ascii"), Headers(fields), _Whole(body))
    return response.code, await read_body(response, limit)


@implementer(IPolicyForHTTPS)
class _WebPolicy:
    """The router's TLS policy for any host."""

    def __init__(self, tls: TLS) -> None:
        self._tls = tls

    def creatorForNetloc(self, hostname: bytes, port: int) -> VerifyingCreator:
        return VerifyingCreator(hostname.decode("ascii"), self._tls, Pins())


def web_agent(reactor: Any, tls: TLS | None = None) -> IAgent:
    """
    An agent for hosts that are no upstream.

    :param tls: minimum version and extra trust; nothing is pinned.
    """
    return Agent(reactor, contextFactory=_WebPolicy(tls or TLS()), connectTimeout=5.0)
