"""Tests for :mod:`mportrouter.pool`."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IHostnameResolver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ..connection import UNPACED_BODY
from ..errors import Kind
from ..opening import Origin
from ..pool import Pool
from ..settings import TLS
from ..tls import VerifyingCreator
from .wires import OK, Net, Sink

ORIGIN = Origin.of("http://127.0.0.1:8080")


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


class Base(SynchronousTestCase):
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


class RequestLineTests(Base):
    """What goes onto the wire."""

    def sent(self, *arguments):
        self.pool.request(*arguments, Sink())
        return self.net.accept().server.take()

    def test_post(self):
        """Host and length are added; fields go as they are given, in order; nothing else is there."""
        self.assertEqual(
            self.sent(b"POST", b"/v1/messages?beta=true", [(b"X-One", b"1"), (b"x-2", b"2"), (b"X-One", b"3")], b"{}"),
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nX-One: 1\r\nx-2: 2\r\nX-One: 3\r\n"
            b"content-length: 2\r\n\r\n{}",
        )

    def test_get(self):
        """A request without a body has no length."""
        self.assertEqual(self.sent(b"GET", b"/", [], b""), b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n")

    def test_empty_post(self):
        """An empty body of a POST has a length of 0."""
        self.assertTrue(self.sent(b"POST", b"/", [], b"").endswith(b"\r\ncontent-length: 0\r\n\r\n"))

    def test_large_body(self):
        """A large body arrives whole."""
        body = bytes(range(256)) * (UNPACED_BODY // 128)
        self.assertTrue(self.sent(b"POST", b"/", [], body).endswith(b"\r\n\r\n" + body))

    def test_refused(self):
        """Line breaks and NULs cannot be smuggled in, anywhere; no call is counted for them."""
        for method, target, headers in (
            (b"GET", b"/", [(b"a", b"b\r\nc: d")]),
            (b"GET", b"/", [(b"a", b"b\nc: d")]),
            (b"GET", b"/", [(b"a", b"b\rc")]),
            (b"GET", b"/", [(b"a\r\nb", b"c")]),
            (b"GET", b"/", [(b"a", b"\0")]),
            (b"GET", b"/a b", []),
            (b"GET", b"/\r\nx: y", []),
            (b"GET", b"/\n", []),
            (b"GET", b"", []),
            (b"GET /x", b"/", []),
            (b"", b"/", []),
        ):
            self.assertRaises(ValueError, self.pool.request, method, target, headers, b"", Sink())
        self.counts(in_flight=0)
        self.assertEqual(self.net.pending, 0)


class ReuseTests(Base):
    """Connections that serve one call after the other."""

    def test_reuse(self):
        """The next call takes the idle connection."""
        self.ask(b"/1")
        link = self.net.accept()
        self.counts(open=1, idle=0, in_flight=1)
        link.answer(OK)
        self.counts(open=1, idle=1, in_flight=0)
        link.server.take()
        self.ask(b"/2")
        link.pump.flush()
        self.assertTrue(link.server.received.startswith(b"GET /2 "))
        self.assertEqual(self.net.pending, 0)
        link.answer(OK)
        self.assertEqual([sink.body for sink in self.sinks], [b"hi", b"hi"])

    def test_last_in_first_out(self):
        """The connection used last is taken first, so that the others can grow old."""
        for _ in range(3):
            self.ask()
        links = [self.net.accept() for _ in range(3)]
        for link in (links[1], links[0], links[2]):
            link.answer(OK)
            link.server.take()
        for link in (links[2], links[0], links[1]):
            self.ask()
            link.pump.flush()
            self.assertTrue(link.server.received)

    def test_from_the_end(self):
        """A sink may ask again from inside end(), and gets the connection that just became free."""
        self.ask(b"/1")
        self.sinks[0].when_ended = lambda: self.ask(b"/2")
        link = self.net.accept()
        link.server.take()
        link.answer(OK)
        self.assertTrue(link.server.received.startswith(b"GET /2 "))
        self.assertEqual(self.net.pending, 0)

    def test_closed_by_the_server(self):
        """An idle connection that the server closes is gone at once."""
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        link.close()
        self.counts(open=0, idle=0)
        self.ask()
        self.assertEqual(self.net.pending, 1)

    def test_spoilt(self):
        """A connection on which more came than was asked for is not used again."""
        self.ask()
        link = self.net.accept()
        link.answer(OK + b"HTTP/1.1 200 OK\r\n")
        self.counts(idle=0)
        self.assertTrue(link.closed)
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        link.answer(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self.assertTrue(link.closed)
        self.counts(open=0, idle=0)

    def test_connection_close(self):
        """``Connection: close`` is obeyed."""
        self.ask()
        link = self.net.accept()
        link.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.assertIsNone(self.sinks[0].failure)
        self.assertTrue(link.closed)
        self.counts(open=0, in_flight=0)

    def test_idle_limit(self):
        """Idle connections are closed after their time, and one timer serves them all."""
        self.ask()
        self.ask()
        first, second = self.net.accept(), self.net.accept()
        first.answer(OK)
        self.net.advance(40)
        second.answer(OK)
        self.net.advance(20)
        self.assertTrue(first.closed)
        self.assertFalse(second.closed)
        self.counts(idle=1)
        self.net.advance(40)
        self.assertTrue(second.closed)
        self.counts(open=0, idle=0)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_use_makes_young(self):
        """A connection that was used is idle anew."""
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        self.net.advance(50)
        self.ask()
        link.answer(OK)
        self.net.advance(50)
        self.assertFalse(link.closed)
        self.net.advance(10)
        self.assertTrue(link.closed)

    def test_servers_limit(self):
        """A server that keeps connections for 5 seconds gets them back a second earlier; for 1 second, at once."""
        self.ask()
        link = self.net.accept()
        link.answer(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n")
        self.net.advance(4)
        self.assertTrue(link.closed)
        self.ask()
        link = self.net.accept()
        link.answer(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(link.closed)

    def test_most_idle(self):
        """Past the maximum the oldest idle connection goes."""
        self.pool = Pool(ORIGIN, self.net, max_idle=1)
        self.ask()
        self.ask()
        first, second = self.net.accept(), self.net.accept()
        first.answer(OK)
        second.answer(OK)
        self.assertTrue(first.closed)
        self.assertFalse(second.closed)
        self.counts(idle=1)

    def test_close_idle(self):
        """Idle connections can be closed without harm to those in use."""
        self.ask()
        self.ask()
        first, second = self.net.accept(), self.net.accept()
        first.answer(OK)
        self.pool.close_idle()
        self.assertTrue(first.closed)
        self.assertFalse(second.closed)
        second.answer(OK)
        self.assertEqual(self.sinks[1].body, b"hi")

    def test_no_goodbye(self):
        """A peer that does not close its side is cut off after a moment."""
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        aborted = []
        link.client_end.loseConnection = lambda: None
        link.client_end.abortConnection = lambda: aborted.append(True)
        self.pool.close_idle()
        self.net.advance(1)
        self.assertEqual(aborted, [])
        self.net.advance(1)
        self.assertEqual(aborted, [True])


class StaleTests(Base):
    """Pooled connections that were dead before they got their request."""

    def stale(self, error=None):
        """An idle connection, a second request written on it, and then its end."""
        self.ask(b"/1")
        link = self.net.accept()
        link.answer(OK)
        call = self.ask(b"/2")
        self.counts(in_flight=1)
        link.close(error)
        return call

    def test_retried_once(self):
        """The request goes out again on a fresh connection, and the sink hears nothing of it."""
        for error in (None, ConnectionLost()):
            self.setUp()
            self.stale(error)
            self.assertTrue(self.sinks[1].quiet)
            link = self.net.accept()
            self.assertTrue(link.server.received.startswith(b"GET /2 "))
            link.answer(OK)
            self.assertEqual(self.sinks[1].body, b"hi")
            self.counts(in_flight=0, open=1)

    def test_only_once(self):
        """If the fresh one dies as well, that is the failure."""
        self.stale()
        self.net.accept().close()
        failure = self.sinks[1].failure
        self.assertEqual(failure.verdict.kind, Kind.NETWORK)
        self.assertTrue(failure.sent)
        self.assertEqual(self.net.pending, 0)
        self.counts(in_flight=0)

    def test_not_on_another_pooled_one(self):
        """The second try never takes an idle connection, which may be as dead."""
        self.ask()
        self.ask()
        first, second = self.net.accept(), self.net.accept()
        first.answer(OK)
        second.answer(OK)
        for link in (first, second):
            link.server.take()
        self.ask(b"/3")
        second.close()
        first.pump.flush()
        self.assertEqual(first.server.received, b"")
        self.assertEqual(self.net.pending, 1)

    def test_not_stolen_from(self):
        """A connection that becomes free is not given to a call that wants a fresh one."""
        self.ask(b"/1")
        self.ask(b"/other")
        first, other = self.net.accept(), self.net.accept()
        first.answer(OK)
        self.ask(b"/2")
        first.close()
        other.server.take()
        other.answer(OK)
        self.assertEqual(other.server.received, b"")
        self.counts(idle=1, waiting=1)

    def test_fresh_connection(self):
        """A fresh connection that dies before any answer is a failure, not a second try."""
        self.ask()
        self.net.accept().close()
        self.assertEqual(self.sinks[0].failure.verdict.kind, Kind.NETWORK)
        self.assertEqual(self.net.pending, 0)

    def test_after_the_first_byte(self):
        """After one byte of an answer there is no second try."""
        for begun in (b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"):
            self.setUp()
            self.ask()
            link = self.net.accept()
            link.answer(OK)
            self.ask()
            link.answer(begun)
            link.close()
            self.assertTrue(self.sinks[1].ended)
            self.assertIsNotNone(self.sinks[1].failure)
            self.assertEqual(self.net.pending, 0)

    def test_abandoned(self):
        """A client that leaves during the second try is not served, and its request not sent."""
        call = self.stale()
        call.abort()
        link = self.net.accept()
        self.assertEqual(link.server.received, b"")
        self.counts(in_flight=0, idle=1)


class OpeningTests(Base):
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


class LimitTests(Base):
    """No more than so many connections."""

    def setUp(self):
        super().setUp()
        self.pool = Pool(ORIGIN, self.net, max_open=1)

    def test_first_come(self):
        """Calls past the limit wait, and are served in their order on the connection that becomes free."""
        for target in (b"/1", b"/2", b"/3"):
            self.ask(target)
        self.assertEqual(self.net.pending, 1)
        self.counts(waiting=3, in_flight=3)
        link = self.net.accept()
        for target in (b"/1", b"/2", b"/3"):
            self.assertTrue(link.server.take().startswith(b"GET %b " % target))
            link.answer(OK)
        self.assertEqual([sink.body for sink in self.sinks], [b"hi"] * 3)
        self.counts(open=1, idle=1, waiting=0, in_flight=0)

    def test_closed_connection_makes_room(self):
        """A connection that cannot be kept makes room for a new one."""
        self.ask(b"/1")
        self.ask(b"/2")
        self.net.accept().answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(self.net.accept().server.received.startswith(b"GET /2 "))

    def test_refused_connection_makes_room(self):
        """One refusal fails one call; the next gets its own try."""
        self.ask(b"/1")
        self.ask(b"/2")
        self.net.refuse()
        self.assertTrue(self.sinks[0].ended)
        self.assertTrue(self.sinks[1].quiet)
        self.assertTrue(self.net.accept().server.received.startswith(b"GET /2 "))

    def test_abandoned(self):
        """A waiting call whose client leaves is forgotten; one that leaves an opening lets the next have it."""
        first, second, third = self.ask(b"/1"), self.ask(b"/2"), self.ask(b"/3")
        second.abort()
        first.abort()
        link = self.net.accept()
        self.assertTrue(link.server.received.startswith(b"GET /3 "))
        link.answer(OK)
        self.assertFalse(third.connection)
        self.counts(in_flight=0, idle=1)

    def test_aborted_connection_makes_room(self):
        """Aborting the call in use lets the next one go."""
        first = self.ask(b"/1")
        self.ask(b"/2")
        link = self.net.accept()
        first.abort()
        self.assertTrue(link.closed)
        self.assertTrue(self.net.accept().server.received.startswith(b"GET /2 "))


class ConnectTests(Base):
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


class StopTests(Base):
    """The end of a pool."""

    def test_idle(self):
        """Idle connections are closed, and the Deferred fires when they are gone."""
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        done = self.pool.stop()
        self.assertNoResult(done)
        self.assertTrue(link.closed)
        self.successResultOf(done)
        self.successResultOf(self.pool.stop())
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_empty(self):
        """A pool without connections stops at once."""
        self.successResultOf(self.pool.stop())

    def test_in_use(self):
        """Calls under way finish first, those without a connection too."""
        self.pool = Pool(ORIGIN, self.net, max_open=2)
        for target in (b"/1", b"/2", b"/3"):
            self.ask(target)
        first = self.net.accept()
        done = self.pool.stop()
        second = self.net.accept()
        first.answer(OK)
        self.assertNoResult(done)
        first.answer(OK)
        second.answer(OK)
        self.assertEqual([sink.body for sink in self.sinks], [b"hi"] * 3)
        self.assertTrue(first.closed and second.closed)
        self.successResultOf(done)

    def test_nobody_waits(self):
        """Connections that are opened for nobody are given up."""
        connecting = self.pool.connect()
        self.successResultOf(self.pool.stop())
        self.failureResultOf(connecting)
        self.assertTrue(self.net.connectors[0].stoppedConnecting)

    def test_abandoned_afterwards(self):
        """A client that leaves while its connection opens does not hold up the stop."""
        call = self.ask()
        done = self.pool.stop()
        call.abort()
        self.successResultOf(done)

    def test_latecomer(self):
        """An exchange that began before can still ask once more; its connection is not kept."""
        done = self.pool.stop()
        self.successResultOf(done)
        self.ask()
        link = self.net.accept()
        link.answer(OK)
        self.assertEqual(self.sinks[0].body, b"hi")
        self.assertTrue(link.closed)
        self.counts(open=0, in_flight=0)
