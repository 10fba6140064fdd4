"""
The upstream side against real TLS servers on loopback: sockets, handshakes, large bodies, back-pressure.
"""

from __future__ import annotations

from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mportrouter.errors import Kind
from mportrouter.pins import capture
from mportrouter.settings import TLS, Pins, Secret, UpstreamSettings
from mportrouter.test.authorities import (
    MIDDLE_PIN,
    OTHER_PIN,
    ROOT,
    ROOT_PIN,
    STRANGER,
    issue,
    leaf_pin,
    serving,
)
from mportrouter.upstream import Upstream

MIB = 1024 * 1024


class Collecting:
    """A sink that keeps everything and tells when it is over."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.size = 0
        self.body = b""
        self.failure: Any = None
        self.call: Any = None
        self.began: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.began.callback(None)

    def data(self, data: bytes, last: bool = False) -> None:
        self.size += len(data)
        if self.size < MIB:
            self.body += data

    def end(self, failure: Exception | None) -> None:
        self.failure = failure
        self.over.callback(None)


class Server(Protocol):
    """Answers each request with the number of bytes of its body; counts every byte that it is sent."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self._buffer = b""
        self._length: int | None = None
        self._got = 0

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += len(data)
        if self._length is None:
            self._buffer += data
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._buffer = b""
            self._length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b": ")
                if name == b"content-length":
                    self._length = int(value)
            data = rest
        self._got += len(data)
        if self._got >= self._length:
            body = self.factory.body or b"%d" % self._got
            self._length, self._got = None, 0
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.transport.write(body)

    def connectionLost(self, reason: object = None) -> None:
        self.factory.connections.remove(self)


class LoopbackTests(TestCase):
    """One server, one upstream."""

    timeout = 120

    def setUp(self) -> None:
        self.ca_file = self.mktemp()
        ROOT.cert_pem.write_to_path(self.ca_file)
        self.upstreams: list[Upstream] = []
        self.ports: list[Any] = []

    async def tearDown(self) -> None:
        await DeferredList([upstream.stop() for upstream in self.upstreams])
        await DeferredList([port.stopListening() for port in self.ports])
        while any(port.factory.wrappedFactory.connections for port in self.ports):
            await deferLater(reactor, 0.01)

    def serve(self, *names: str, body: bytes = b"", highest: int | None = None, **more: Any) -> int:
        self.factory = Factory.forProtocol(Server)
        self.factory.noisy = False
        self.factory.received = 0
        self.factory.connections = []
        self.factory.body = body
        self.leaf = issue(*names, **more)
        port = reactor.listenSSL(0, self.factory, serving(self.leaf, highest), interface="127.0.0.1")
        self.ports.append(port)
        return port.getHost().port

    def upstream(self, port: int, host: str = "localhost", **changes: Any) -> Upstream:
        settings = UpstreamSettings(
            "a", "anthropic", base_url=f"https://{host}:{port}", api_key=Secret("sk"), tls=TLS(ca_file=self.ca_file)
        )
        upstream = Upstream(attrs.evolve(settings, **changes), None, reactor)
        self.upstreams.append(upstream)
        return upstream

    def send(self, upstream: Upstream, body: bytes = b"{}") -> Collecting:
        sink = Collecting()
        sink.call = upstream.send(b"POST", b"/v1/messages", b"", [], body, sink)
        return sink

    async def assertNothingSent(self, upstream: Upstream, word: str) -> None:
        sink = self.send(upstream)
        await sink.over
        self.assertEqual(sink.failure.verdict.kind, Kind.NETWORK)
        self.assertFalse(sink.failure.verdict.retry_same)
        self.assertIn(word, sink.failure.verdict.message)
        while self.factory.connections:  # the server has seen the end of the connection, and so all that came on it
            await deferLater(reactor, 0.01)
        self.assertEqual(self.factory.received, 0)

    async def test_verified(self) -> None:
        """A verified server by name and by address, with a matching pin, over TLS 1.3; the connection is kept."""
        for host in ("localhost", "127.0.0.1"):
            port = self.serve("localhost", "127.0.0.1")
            upstream = self.upstream(port, host, pins=Pins("enforce", (MIDDLE_PIN, OTHER_PIN)))
            for _ in range(3):
                sink = self.send(upstream)
                await sink.over
                self.assertEqual((sink.status, sink.body, sink.failure), (200, b"2", None))
            self.assertEqual(len(self.factory.connections), 1)
            self.assertEqual(upstream.tls_details["version"], "TLSv1.3")

    async def test_bad_pin(self) -> None:
        """No byte for a server whose keys are not pinned."""
        pins = Pins("enforce", (OTHER_PIN, "A" * 43 + "="))
        await self.assertNothingSent(self.upstream(self.serve("localhost"), pins=pins), "pin mismatch")

    async def test_wrong_host(self) -> None:
        """No byte for a server with another's certificate."""
        port = self.serve("evil.test")
        await self.assertNothingSent(self.upstream(port), "wrong host name")

    async def test_untrusted_root(self) -> None:
        """No byte for a server of an unknown authority, nor where ours is not in ``ca_file``."""
        port = self.serve("localhost", ca=STRANGER)
        await self.assertNothingSent(self.upstream(port), "not trusted")
        port = self.serve("localhost")
        await self.assertNothingSent(self.upstream(port, tls=TLS()), "not trusted")

    async def test_tls_1_2(self) -> None:
        """No byte for a server that has only TLS 1.2, unless that is allowed."""
        port = self.serve("localhost", highest=SSL.TLS1_2_VERSION)
        await self.assertNothingSent(self.upstream(port), "TLS version")
        sink = self.send(self.upstream(port, tls=TLS("1.2", self.ca_file)))
        await sink.over
        self.assertEqual(sink.body, b"2")

    async def test_large_upload(self) -> None:
        """A body of 32 MiB arrives whole."""
        sink = self.send(self.upstream(self.serve("localhost")), b"x" * (32 * MIB))
        await sink.over
        self.assertEqual(sink.body, b"%d" % (32 * MIB))

    async def turns(self, count: int) -> None:
        """Let the reactor look so often at every socket, however fast it goes."""
        for _ in range(count):
            await deferLater(reactor, 0)

    async def test_back_pressure(self) -> None:
        """A paused answer stops coming, and comes whole when it is resumed."""
        body = b"y" * (64 * MIB)
        sink = self.send(self.upstream(self.serve("localhost", body=body)))
        await sink.began
        sink.call.transport.pauseProducing()
        await self.turns(50)  # what the TLS layer had read already may still come
        held = sink.size
        await deferLater(reactor, 0.2)
        await self.turns(50)
        self.assertEqual(sink.size, held)
        self.assertLess(held, 8 * MIB)
        sink.call.transport.resumeProducing()
        await sink.over
        self.assertIsNone(sink.failure)
        self.assertEqual(sink.size, len(body))

    async def test_abort(self) -> None:
        """An aborted answer ends at the server at once, and is not told of again."""
        sink = self.send(self.upstream(self.serve("localhost", body=b"y" * (64 * MIB))))
        await sink.began
        sink.call.abort()
        while self.factory.connections:
            await deferLater(reactor, 0.01)
        self.assertFalse(sink.over.called)

    async def test_stale(self) -> None:
        """A server that closed the idle connection gets the request on a new one, unseen by the sink."""
        upstream = self.upstream(self.serve("localhost"))
        await self.send(upstream).over
        self.factory.connections[0].transport.abortConnection()
        sink = self.send(upstream)
        await sink.over
        self.assertEqual((sink.status, sink.failure), (200, None))

    async def test_probe(self) -> None:
        """treq works over the same connections."""
        upstream = self.upstream(self.serve("localhost", body=b'{"data": [{"id": "m1"}]}'))
        result = await upstream.probe()
        self.assertEqual(result.models, ("m1",))
        await self.send(upstream).over
        self.assertEqual(len(self.factory.connections), 1)

    async def test_capture(self) -> None:
        """The chain of a server can be looked at."""
        port = self.serve("localhost")
        entries = await capture("localhost", port, reactor, tls=TLS("1.2", self.ca_file))
        self.assertEqual([entry.pin for entry in entries], [leaf_pin(self.leaf), MIDDLE_PIN, ROOT_PIN])
        while self.factory.connections:
            await deferLater(reactor, 0.01)
        self.assertEqual(self.factory.received, 0)
