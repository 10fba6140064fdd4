"""Tests for :mod:`mportrouter.opening`, through the pool that wants the connections."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import DNSLookupError, TimeoutError
from twisted.internet.interfaces import IHostnameResolver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ..errors import Kind
from ..opening import Origin
from ..pool import Pool
from ..settings import TLS
from ..tls import VerifyingCreator
from .wires import OK, ORIGIN, Net, PoolTestCase


class OriginTests(SynchronousTestCase):
    """Where a pool connects to."""

    def test_of(self):
        """Scheme, host and port come from the URL; the scheme's port is the default and is not in ``Host``."""
        for url, authority, text in (
            ("https://api.test", b"api.test", "https://api.test"),
            ("https://api.test:443/x", b"api.test", "https://api.test"),
            ("https://API.test:8443", b"api.test:8443", "https://api.test:8443"),
            ("http://127.0.0.1:80", b"127.0.0.1", "http://127.0.0.1"),
            ("http://[::1]:8080/v1", b"[::1]:8080", "http://[::1]:8080"),
        ):
            origin = Origin.of(url)
            self.assertEqual(origin.authority, authority)
            self.assertEqual(str(origin), text)
        self.assertEqual(Origin.of("https://api.test").port, 443)
        self.assertEqual(Origin.of("https://bücher.test").host, "xn--bcher-kva.test")

    def test_refused(self):
        """What is no http or https URL with a host is refused."""
        for url in ("", "api.test", "ftp://api.test", "https://", "https://api.test:x", "https://api.test:99999"):
            self.assertRaises(ValueError, Origin.of, url)

    def test_creator(self):
        """An https origin without verification cannot be made, nor the reverse."""
        self.assertRaises(ValueError, Pool, Origin.of("https://api.test"), Net())
        self.assertRaises(ValueError, Pool, ORIGIN, Net(), VerifyingCreator("127.0.0.1", TLS()))


class OpeningTests(PoolTestCase):
    """Connections on their way."""

    def test_refused(self):
        """A refused connection fails the call, later than request() returns; nothing was sent."""
        self.ask()
        self.assertTrue(self.sinks[0].quiet)
        self.net.refuse()
        failure = self.sinks[0].failure
        self.assertEqual(failure.verdict.kind, Kind.NETWORK)
        self.assertIn("refused", failure.verdict.message)
        self.assertTrue(failure.verdict.retry_same)
        self.assertFalse(failure.sent)
        self.counts(in_flight=0, opening=0)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_kinds(self):
        """Name lookup and the kernel's own timeout are told apart."""
        for error, kind in ((DNSLookupError(), Kind.NETWORK), (TimeoutError(), Kind.TIMEOUT)):
            self.ask()
            self.net.refuse(error)
            self.assertEqual(self.sinks[-1].failure.verdict.kind, kind)

    def test_refused_at_once(self):
        """An endpoint that fails inside connect() is told to the sink in a later turn of the reactor."""
        from twisted.internet.defer import fail

        class Endpoint:
            def connect(self, factory):
                return fail(DNSLookupError("x"))

        pool = Pool(ORIGIN, self.net, endpoint=Endpoint())
        call = self.ask(pool=pool)
        self.assertTrue(self.sinks[0].quiet)
        self.net.advance(0)
        self.assertEqual(self.sinks[0].failure.verdict.kind, Kind.NETWORK)
        call.abort()
        self.ask(pool=pool).abort()
        self.net.advance(10)
        self.assertTrue(self.sinks[1].quiet)

    def test_connect_timeout(self):
        """A connection that does not come about in time is a timeout, and is given up."""
        self.ask()
        self.net.advance(4.9)
        self.assertTrue(self.sinks[0].quiet)
        self.net.advance(0.2)
        verdict = self.sinks[0].failure.verdict
        self.assertEqual(verdict.kind, Kind.TIMEOUT)
        self.assertIn("5 s", verdict.message)
        self.assertTrue(verdict.retry_same)
        self.assertTrue(self.net.connectors[0].stoppedConnecting)
        self.counts(in_flight=0, opening=0)

    def test_tls_timeout(self):
        """A server that accepts and never finishes the handshake is a timeout of its own."""
        origin = Origin.of("https://127.0.0.1")
        self.pool = Pool(origin, self.net, VerifyingCreator(origin.host, TLS()), tls_timeout=3.0)
        self.ask()
        self.net.advance(4)
        link = self.net.accept()
        self.net.advance(2.9)
        self.assertTrue(self.sinks[0].quiet)
        self.net.advance(0.2)
        verdict = self.sinks[0].failure.verdict
        self.assertEqual(verdict.kind, Kind.TIMEOUT)
        self.assertIn("TLS handshake", verdict.message)
        self.assertFalse(self.sinks[0].failure.sent)
        self.assertTrue(link.closed)
        self.counts(open=0, opening=0, in_flight=0)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_no_timer_left(self):
        """A connection that stands has no timer."""
        self.ask()
        self.net.accept()
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_abandoned(self):
        """A client that leaves while the connection is still opening never has its request sent."""
        call = self.ask()
        call.abort()
        call.abort()
        self.counts(in_flight=0, waiting=0)
        link = self.net.accept()
        self.assertEqual(link.server.received, b"")
        self.assertTrue(self.sinks[0].quiet)
        self.counts(idle=1)

    def test_abandoned_and_refused(self):
        """Nor does it hear that the connection failed."""
        self.ask().abort()
        self.net.refuse()
        self.assertTrue(self.sinks[0].quiet)
        self.ask().abort()
        self.net.advance(60)
        self.assertTrue(self.sinks[1].quiet)

    def test_abandoned_in_handshake(self):
        """The same inside a TLS handshake."""
        from .authorities import ROOT, issue, serving

        ca_file = self.mktemp()
        ROOT.cert_pem.write_to_path(ca_file)
        origin = Origin.of("https://127.0.0.1")
        self.pool = Pool(origin, self.net, VerifyingCreator(origin.host, TLS(ca_file=ca_file)))
        call = self.ask()
        call.abort()
        link = self.net.accept(serving(issue("127.0.0.1")))
        self.assertEqual(link.server.received, b"")
        self.counts(idle=1)
        self.ask()
        link.pump.flush()
        self.assertTrue(link.server.received)

    def test_served_by_another(self):
        """A call whose connection is slow to open takes one that becomes free; the late one stays idle."""
        self.ask(b"/1")
        first = self.net.accept()
        self.ask(b"/2")
        first.server.take()
        first.answer(OK)
        self.assertTrue(first.server.received.startswith(b"GET /2 "))
        second = self.net.accept()
        self.assertEqual(second.server.received, b"")
        self.counts(open=2, idle=1, waiting=0)

    def test_served_by_another_then_refused(self):
        """Then it does not matter that its own connection fails."""
        self.ask(b"/1")
        first = self.net.accept()
        self.ask(b"/2")
        first.answer(OK)
        self.net.refuse()
        first.answer(OK)
        self.assertEqual(self.sinks[1].body, b"hi")

    def test_names(self):
        """A host name is looked up, and reached at an address of it."""

        @implementer(IHostnameResolver)
        class Resolver:
            def resolveHostName(self, receiver, name, port=0, addressTypes=None, transportSemantics="TCP", **more):
                names.append(name)
                receiver.resolutionBegan(None)
                receiver.addressResolved(IPv4Address("TCP", "127.0.0.9", more.get("portNumber", port)))
                receiver.resolutionComplete()
                return receiver

        names = []
        self.net.nameResolver = Resolver()
        self.pool = Pool(Origin.of("http://localhost:8080"), self.net)
        self.ask()
        self.assertEqual(names, ["localhost"])
        self.assertEqual(self.net.tcpClients[0][:2], ("127.0.0.9", 8080))
        link = self.net.accept()
        self.assertIn(b"host: localhost:8080\r\n", link.server.received)

    def test_ipv6(self):
        """A literal IPv6 address is reached directly."""
        self.pool = Pool(Origin.of("http://[::1]:8080"), self.net)
        self.ask()
        self.assertEqual(self.net.tcpClients[0][:2], ("::1", 8080))


class ConnectTests(PoolTestCase):
    """Seeing that a connection stands."""

    def test_opens(self):
        """It opens one and leaves it idle for the next call."""
        done = self.pool.connect()
        self.assertNoResult(done)
        link = self.net.accept()
        self.assertIsNone(self.successResultOf(done))
        self.counts(idle=1)
        self.ask()
        link.pump.flush()
        self.assertTrue(link.server.received)

    def test_idle_will_do(self):
        """An idle connection is proof enough."""
        self.pool.connect()
        self.net.accept()
        self.successResultOf(self.pool.connect())
        self.assertEqual(self.net.pending, 0)

    def test_fails(self):
        """It fails as a call would."""
        done = self.pool.connect()
        self.net.refuse()
        self.assertEqual(self.failureResultOf(done).value.verdict.kind, Kind.NETWORK)
