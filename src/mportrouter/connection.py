"""
One HTTP/1.1 connection to an upstream: it sends a request as bytes and hands the answer to a sink.

Per read there is one call of the parser and at most one call of the sink; nothing is built for a chunk. The connection
knows no clock: limits on connecting are the pool's, limits on the answer the relay's.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Shape

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet import error as neterror
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from . import tls
from .eager import Outlet
from .errors import Kind, Verdict
from .interfaces import ICall, IResponseSink

#: Bytes of an answer's head, interim answers included, before it counts as endless.
HEAD_LIMIT = 128 * 1024
#: Bodies up to this size leave in one write together with their head, larger ones in pieces as the socket takes them.
UNPACED_BODY = 256 * 1024
_PIECE = 128 * 1024


class CallFailed(Exception):
    """
    A call that brought no whole answer.

    :param verdict: what broke, in words for the client's user; ``status`` is always ``None``.
    :param sent: whether any byte of the request may have reached the server.
    """

    def __init__(self, verdict: Verdict, sent: bool = False) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict
        self.sent = sent


def network_failure(error: BaseException | None, where: str) -> Verdict:
    """
    What the failure of a connection means.

    :param error: what Twisted or OpenSSL said.
    :param where: ``host:port``.
    """
    reason = None if error is None else tls.describe(error)
    if reason is not None:
        # The same certificate will be shown to the next try, and to every model of the account.
        final = isinstance(error, tls.TLSFailure) or "version" in reason
        return Verdict(Kind.NETWORK, f"{reason} ({where})", retry_same=not final, account=final)
    if isinstance(error, (neterror.TimeoutError, neterror.TCPTimedOutError)):
        return Verdict(Kind.TIMEOUT, f"no connection to {where} in time", retry_same=True)
    if isinstance(error, neterror.DNSLookupError):
        return Verdict(Kind.NETWORK, f"no address found for {where}", retry_same=True)
    if isinstance(error, neterror.ConnectionRefusedError):
        return Verdict(Kind.NETWORK, f"connection refused by {where}", retry_same=True)
    if isinstance(error, (neterror.ConnectingCancelledError, CancelledError)):
        return Verdict(Kind.NETWORK, f"connecting to {where} was given up", retry_same=True)
    if isinstance(error, neterror.ConnectionDone):
        return Verdict(Kind.NETWORK, f"connection closed by {where}", retry_same=True)
    if isinstance(error, neterror.ConnectionLost):
        return Verdict(Kind.NETWORK, f"connection to {where} was reset", retry_same=True)
    return Verdict(Kind.NETWORK, f"no connection to {where}: {error or type(error).__name__}", retry_same=True)


class Keeper(Shape):
    """Who owns connections and calls: the pool."""

    where: str

    def ready(self, connection: Connection) -> None:
        """It can take requests: connected, and where there is TLS the server is verified."""

    def done(self, connection: Connection, call: Call, keep: bool) -> None:
        """The call has its whole answer; ``keep``: the connection can take the next request."""

    def broken(self, call: Call, failure: CallFailed, stale: bool) -> None:
        """The call lost its connection; ``stale``: an idle connection had died before it got the request."""

    def lost(self, connection: Connection, reason: Failure) -> None:
        """The connection is no more."""

    def aborted(self, call: Call) -> None:
        """Nobody wants the call any more."""


@implementer(ICall, IPushProducer)
class Call:
    """
    One request under way.

    It is its own ``transport``: a pause after the answer's end must not reach a connection that serves somebody else.

    :param keeper: the pool.
    :param head: the request's head, ready to be written.
    :param bodiless: the answer has no body whatever its head says (``HEAD``).
    """

    __slots__ = (
        "bodiless",
        "body",
        "connection",
        "done",
        "head",
        "keeper",
        "opening",
        "paused",
        "retried",
        "reused",
        "sink",
    )

    def __init__(self, keeper: Keeper, sink: IResponseSink, head: bytes, body: bytes, bodiless: bool) -> None:
        self.keeper = keeper
        self.sink = sink
        self.head = head
        self.body = body
        self.bodiless = bodiless
        self.connection: Connection | None = None
        self.opening: Any = None
        self.done = False
        self.paused = False
        self.reused = False
        self.retried = False

    @property
    def transport(self) -> Call:
        """What pauses and resumes the answer."""
        return self

    def abort(self) -> None:
        """Close the connection now and tell the sink nothing more."""
        if not self.done:
            self.done = True
            self.keeper.aborted(self)

    stopProducing = abort

    def pauseProducing(self) -> None:
        """Read no more of the answer."""
        connection = self.connection
        if connection is not None and not self.paused:
            self.paused = True
            connection.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        connection = self.connection
        if connection is not None and self.paused:
            self.paused = False
            connection.transport.resumeProducing()


@implementer(IPushProducer)
class _Upload:
    """Writes a large body piece by piece, as fast as the transport drains it."""

    __slots__ = ("_body", "_offset", "_paused", "_transport", "finished")

    def __init__(self, transport: Any, body: bytes) -> None:
        self._transport = transport
        self._body = body
        self._offset = 0
        self._paused = False
        self.finished = False

    def start(self, head: bytes) -> None:
        self._transport.registerProducer(self, True)
        self._transport.write(head)
        self._push()

    def _push(self) -> None:
        while not self._paused and not self.finished:
            piece = self._body[self._offset : self._offset + _PIECE]
            self._offset += len(piece)
            self._transport.write(piece)
            if self._offset >= len(self._body):
                self.cancel()

    def cancel(self) -> None:
        """Write no more."""
        if not self.finished:
            self.finished = True
            self._body = b""
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._push()

    def stopProducing(self) -> None:
        self.finished = True
        self._body = b""


@implementer(IHandshakeListener)
class Connection(Protocol):
    """
    :param keeper: the pool.
    :param secure: it runs over TLS, and is ready only when the handshake is done.
    """

    transport: Any = None

    def __init__(self, keeper: Keeper, secure: bool) -> None:
        self.keeper = keeper
        self.secure = secure
        self.opening: Any = None
        self.open = False  # between ready and the first sign of an end
        self.gone = False
        self.idle_since = 0.0
        self.idle_limit: float | None = None  # seconds, as the server's Keep-Alive field gave it
        self.call: Call | None = None
        self._parser: Any = None
        self._upload: _Upload | None = None
        self._outlet: Outlet
        self._served = 0
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._status = 0
        self._head_bytes = 0
        self._headed = False  # the final head is complete
        self._told = False  # and the sink knows it
        self._interim = False
        self._complete = False
        self._surplus = False
        self._keep = False

    # ------------------------------------------------------------------------------------------- opening

    def connectionMade(self) -> None:
        """Connected; over TLS the handshake comes first."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._outlet = Outlet(transport)
        if isinstance(transport, TCPConnection) and not self.secure:
            # An endpoint stays between transport and protocol for good, one more call for every read.
            transport.protocol = self
        if self.opening is not None:
            self.opening.connected(self)
        if not self.secure:
            self._ready()

    def handshakeCompleted(self) -> None:
        """The server is verified."""
        self._ready()

    def _ready(self) -> None:
        self.open = True
        self.keeper.ready(self)

    # ------------------------------------------------------------------------------------------- request

    def send(self, call: Call) -> None:
        """Write the request of ``call`` and read its answer."""
        self.call = call
        call.connection = self
        if self._served:
            self._reset()
        if self._parser is None:
            self._parser = HttpResponseParser(self)
        body = call.body
        if len(body) <= UNPACED_BODY:
            self._outlet.write(call.head + body)
        else:
            self._outlet.leave()
            self._upload = _Upload(self.transport, body)
            self._upload.start(call.head)

    # ------------------------------------------------------------------------------------------- answer

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the answer."""
        call = self.call
        parser = self._parser
        if call is None or parser is None:
            self.close()  # nobody asked: whatever this is, the next answer could not be told from it
            return
        broken = None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            broken = "it switched protocols"
        except HttpParserError as error:
            broken = str(error) or type(error).__name__
        if not self._told:
            if not self._headed:
                self._head_bytes += len(data)
                if broken is None and self._head_bytes > HEAD_LIMIT:
                    broken = f"a head of more than {HEAD_LIMIT // 1024} KiB"
                if broken is not None:
                    self._fail(Verdict(Kind.GARBAGE, f"{self.keeper.where} does not answer in HTTP/1.1: {broken}"))
                return
            self._told = True
            call.sink.response(self._status, self._headers)
            if self.call is not call:
                return
        parts = self._parts
        if parts:
            if len(parts) == 1:
                chunk = parts[0]
                parts.clear()
            else:
                chunk = b"".join(parts)
                self._parts = []
            call.sink.data(chunk, self._complete)
            if self.call is not call:
                return
        if self._complete:
            self._finish(call, self._keep and broken is None and not self._surplus)
        elif broken is not None:
            self._fail(self._cut(f"broken framing: {broken}"))

    # The parser's callbacks. They only note things: an exception in one of them would be taken for bad HTTP.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # what comes later is a trailer, which nobody downstream can use
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            self._headers = []
            return
        self._status = status
        self._headed = True
        if self.call is not None and self.call.bodiless:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            self._surplus = True
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # ------------------------------------------------------------------------------------------- ends

    def _detach(self) -> Call | None:
        call = self.call
        self.call = None
        if call is not None:
            call.connection = None
        return call

    def _finish(self, call: Call, keep: bool) -> None:
        self._detach()
        if self._upload is not None:
            keep = keep and self._upload.finished
            self._upload.cancel()
            self._upload = None
        if keep:
            if call.bodiless:
                self._parser = None  # it still waits for the body that the head announced
            if call.paused:
                self.transport.resumeProducing()
            if not self._served:
                self.idle_limit = _keep_alive(self._headers)
            self._served += 1
        call.done = True
        self.keeper.done(self, call, keep)
        call.sink.end(None)

    def _fail(self, verdict: Verdict, stale: bool = False) -> None:
        call = self._detach()
        self.abort()
        if call is not None and not call.done:
            self.keeper.broken(call, CallFailed(verdict, sent=True), stale)

    def _cut(self, how: str) -> Verdict:
        return Verdict(Kind.CUT, f"{self.keeper.where} broke off its answer: {how}", retry_same=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, by whomever."""
        self.open = False
        self.gone = True
        self._upload = None
        self._parser = None  # breaks the cycle with the parser's callbacks
        call = self.call
        self.keeper.lost(self, reason)
        if call is None or self.call is not call:
            return
        clean = reason.check(neterror.ConnectionDone) is not None
        if self._told:
            if clean and _until_close(self._headers):
                self._finish(call, False)
            else:
                self._fail(self._cut("the connection closed in its body" if clean else str(reason.value)))
        elif self._head_bytes:
            message = f"{self.keeper.where} closed the connection inside its answer's head"
            self._fail(Verdict(Kind.NETWORK, message, retry_same=True))
        else:
            verdict = network_failure(reason.value, self.keeper.where)
            if clean:
                verdict = Verdict(Kind.NETWORK, f"{self.keeper.where} closed without an answer", retry_same=True)
            self._fail(verdict, stale=call.reused)

    def close(self) -> None:
        """Say goodbye and close; for a connection without a call."""
        self.open = False
        self._outlet.flush()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; whoever owned the call is not told."""
        self.open = False
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        if self.call is not None:
            self._detach()
        if not self.gone:
            self._outlet.discard()
            self.transport.abortConnection()


def _until_close(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body's end is the connection's end (RFC 9112 §6.3 item 8)."""
    for name, value in headers:
        if name == b"content-length":
            return False
        if name == b"transfer-encoding" and value.lower().rstrip().endswith(b"chunked"):
            return False
    return True


def _keep_alive(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Seconds that the server keeps an idle connection, where it says so (``Keep-Alive: timeout=5``)."""
    for name, value in headers:
        if name == b"keep-alive":
            for part in value.split(b","):
                key, _, seconds = part.strip().partition(b"=")
                if key.lower() == b"timeout" and seconds.isdigit():
                    return float(seconds[:9])
    return None
