"""
Connections in memory for the tests of the upstream side: a reactor that opens nothing, servers that do as told.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ..connection import Call, CallFailed, Connection
from ..opening import Origin
from ..pool import Pool


class Sink:
    """Notes what a call tells, in order."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.ended = False
        self.failure: Any = None
        self.when_ended: Any = None

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert self.status is None and not self.chunks and not self.ended
        self.status = status
        self.headers = headers

    def data(self, data: bytes, last: bool = False) -> None:
        assert self.status is not None and not self.ended and data
        self.chunks.append(data)

    def end(self, failure: Exception | None) -> None:
        assert not self.ended
        self.ended = True
        self.failure = failure
        if self.when_ended is not None:
            self.when_ended()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def quiet(self) -> bool:
        """It was told nothing."""
        return self.status is None and not self.chunks and not self.ended


@implementer(ISystemHandle)
class Wire(iosim.FakeTransport):
    """
    A transport end that notes pauses, and lets itself be written past its queue, as a real one does.

    What is written so while there is TLS on top would be plain text on the wire.
    """

    paused = False
    connected = True
    dataBuffer = b""
    _tempDataBuffer: tuple[bytes, ...] = ()

    def getHandle(self) -> Wire:
        return self

    def send(self, data: bytes) -> int:
        self.stream.append(data)
        return len(data)

    writeSomeData = send

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class Server(Protocol):
    """The other end of a connection: what it received, and a way to answer."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason

    def take(self) -> bytes:
        received, self.received = self.received, b""
        return received


class _TLS(TLSMemoryBIOFactory):
    protocol = TLSMemoryBIOProtocol  # writes at once


class Link:
    """One accepted connection."""

    def __init__(self, server: Server, pump: iosim.IOPump, client_end: Wire, server_end: Wire) -> None:
        self.server = server
        self.pump = pump
        self.client_end = client_end
        self.server_end = server_end

    def answer(self, data: bytes) -> None:
        """Send ``data`` and let it arrive."""
        self.server.transport.write(data)
        self.pump.flush()

    def close(self, reason: Exception | None = None) -> None:
        """The server closes; ``reason``: what the client is told instead of a clean end."""
        if reason is not None:
            self.client_end.disconnectReason = reason
        self.server_end.loseConnection()
        self.pump.flush()

    @property
    def closed(self) -> bool:
        self.pump.flush()
        return bool(self.client_end.disconnected)


class Net(MemoryReactorClock):
    """A reactor whose connections are accepted or refused by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[Link] = []

    @property
    def pending(self) -> int:
        """Connections that were asked for and neither accepted nor refused."""
        return len(self.tcpClients)

    def accept(self, options: Any = None) -> Link:
        """
        Accept the oldest connection.

        :param options: the server's CertificateOptions where it speaks TLS.
        """
        factory = self.tcpClients.pop(0)[2]
        server = Server()
        ending: Any = server
        if options is not None:
            inner = Factory.forProtocol(lambda: server)
            inner.noisy = False
            ending = _TLS(options, False, inner, clock=Clock()).buildProtocol(None)
        client = factory.buildProtocol(None)
        client_end, server_end = Wire(client, isServer=False), Wire(ending, isServer=True)
        pump = iosim.connect(ending, server_end, client, client_end)
        pump.flush()
        link = Link(server, pump, client_end, server_end)
        self.links.append(link)
        return link

    def refuse(self, error: Exception | None = None) -> None:
        """Refuse the oldest connection."""
        factory = self.tcpClients.pop(0)[2]
        factory.clientConnectionFailed(None, Failure(error or ConnectionRefusedError()))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

ORIGIN = Origin.of("http://127.0.0.1:8080")


class PoolTestCase(SynchronousTestCase):
    """A pool, its reactor, and the sinks of the calls made with :meth:`ask`."""

    def setUp(self):
        self.net = Net()
        self.pool = Pool(ORIGIN, self.net)
        self.sinks = []

    def ask(self, target=b"/", pool=None):
        self.sinks.append(Sink())
        return (pool or self.pool).request(b"GET", target, [], b"", self.sinks[-1])

    def counts(self, **wanted):
        stats = self.pool.stats
        self.assertEqual({name: getattr(stats, name) for name in wanted}, wanted)


class Keeper:
    """Notes what a connection tells its pool."""

    where = "api.test:443"

    def __init__(self):
        self.told = []

    def ready(self, connection):
        self.told.append("ready")

    def done(self, connection, call, keep):
        self.told.append("kept" if keep else "not kept")

    def broken(self, call, failure, stale):
        self.told.append("stale" if stale else "broken")
        call.sink.end(failure)

    def lost(self, connection, reason):
        self.told.append("lost")

    def aborted(self, call):
        self.told.append("aborted")
        call.connection.abort()


class ConnectionTestCase(SynchronousTestCase):
    """A connection on a transport in memory, and the sink of its call."""

    def setUp(self):
        self.keeper = Keeper()
        self.transport = StringTransport()
        self.connection = Connection(self.keeper, False)
        self.connection.makeConnection(self.transport)
        self.sink = Sink()

    def send(self, body=b"", bodiless=False, head=b"POST / HTTP/1.1\r\n\r\n"):
        call = Call(self.keeper, self.sink, head, body, bodiless)
        self.connection.send(call)
        return call

    def lose(self, error=None):
        self.connection.connectionLost(Failure(error or ConnectionDone()))

    @property
    def verdict(self):
        self.assertIsInstance(self.sink.failure, CallFailed)
        return self.sink.failure.verdict
