"""Tests for :mod:`mportrouter.pool`."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from ..connection import UNPACED_BODY
from ..errors import Kind
from ..pool import Pool
from .wires import OK, ORIGIN, PoolTestCase, Sink


class RequestLineTests(PoolTestCase):
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


class ReuseTests(PoolTestCase):
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


class StaleTests(PoolTestCase):
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


class LimitTests(PoolTestCase):
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


class StopTests(PoolTestCase):
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
