"""Clients that leave or take their time, and connections that are closed."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ..settings import FrontSettings
from ..web import peer
from ..web.http1 import AHEAD, LINGER
from ..web.request import Request
from .front_door import GET, ChannelCase, heads_and_bodies


class EndTests(ChannelCase):
    """Clients that leave, and connections that are closed."""

    def test_gone(self) -> None:
        """Whoever handles a request learns once, and at once, that its client has left; further writes do nothing."""
        self.send(GET + GET)
        gone: list[Request] = []
        [request] = self.requests
        request.on_gone = lambda: gone.append(request)
        request.start(200, [])
        self.lose()
        self.assertEqual(gone, [request])
        self.assertEqual((request.finished, request.gone, self.factory.requests_open), (True, True, 0))
        written = self.wire.value()
        request.write(b"x")
        request.finish(b"y")
        request.abort()
        request.respond(200, [], b"")
        request.start(200, [])
        self.assertEqual((gone, self.wire.value(), len(self.requests)), ([request], written, 1))

    def test_gone_after_the_answer(self) -> None:
        """A client that leaves with its answer is not missed."""
        self.send(GET)
        gone: list[int] = []
        self.requests[0].on_gone = lambda: gone.append(1)
        self.requests[0].respond(200, [], b"")
        self.lose()
        self.assertEqual(gone, [])

    def test_gone_callback_that_fails(self) -> None:
        """A failing callback does not keep the connection in the factory's books."""
        def fail() -> None:
            raise KeyError("oops")

        self.send(GET)
        self.requests[0].on_gone = fail
        self.lose()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.factory.channels, set())

    def test_gone_in_a_body(self) -> None:
        """A client that leaves in the middle of its request leaves nothing behind."""
        for part in (b"POST /", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
                     b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
            self.channel, self.wire = self.connect()
            self.send(part)
            self.lose()
        self.assertEqual(self.requests, [])
        self.assertEqual([c for c in self.clock.getDelayedCalls() if c.active()][1:], [])

    def test_half_close_before_the_answer(self) -> None:
        """A client that has only finished sending gets its answers, in order, and then the end."""
        self.send(GET + GET)
        gone: list[int] = []
        self.requests[0].on_gone = lambda: gone.append(1)
        self.channel.readConnectionLost()
        self.assertFalse(self.wire.disconnecting)
        self.requests[0].start(200, [], None, b"a")
        self.requests[0].finish(b"b")
        self.assertFalse(self.wire.disconnecting)
        self.requests[1].respond(200, [], b"c")
        self.assertEqual([a[2] for a in self.answers()], [b"ab", b"c"])
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.aborted)
        self.assertEqual(gone, [])

    def test_half_close_with_the_answer_at_once(self) -> None:
        """The same where a waiting request is answered as soon as it is read."""
        self.send(GET + GET)
        self.channel.readConnectionLost()
        self.echo = True
        self.requests[0].respond(200, [], b"1")
        self.assertEqual(len(self.answers()), 2)
        self.assertTrue(self.wire.disconnecting)

    def test_half_close_when_idle(self) -> None:
        """A client that ends an idle connection gets its end."""
        self.channel.readConnectionLost()
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(self.wire.value(), b"")

    def test_half_close_in_a_request(self) -> None:
        """Half a request is answered with 400 and is not handled."""
        for part in (b"G", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
                     b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
            self.channel, self.wire = self.connect()
            self.send(part)
            self.channel.readConnectionLost()
            self.assertEqual([a[0] for a in self.answers()], [400])
            self.assertTrue(self.wire.disconnecting)
        self.assertEqual(self.requests, [])

    def test_half_close_with_half_a_request_waiting(self) -> None:
        """Half a request behind a whole one is refused after the whole one's answer."""
        self.send(GET + b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab")
        self.channel.readConnectionLost()
        self.requests[0].respond(200, [], b"")
        self.assertEqual([a[0] for a in self.answers()], [200, 400])
        self.assertTrue(self.wire.disconnecting)

    def test_half_close_of_a_slow_reader(self) -> None:
        """A client that has ended and does not read yet still gets what it asked for."""
        self.echo = True
        self.channel.pauseProducing()
        self.send(GET)
        self.channel.readConnectionLost()
        self.assertFalse(self.wire.disconnecting)
        self.channel.resumeProducing()
        self.assertEqual(len(self.answers()), 1)
        self.assertTrue(self.wire.disconnecting)

    def closes(self) -> list[bool]:
        """From now on the kernel says of every client whether it has closed: what the list holds last."""
        answer = [False]
        self.patch(peer, "has_closed", lambda transport: answer[-1])
        return answer

    def test_half_close_of_a_client_that_left(self) -> None:
        """Where a client has not only finished sending but closed its socket, the connection is broken off."""
        closed = self.closes()
        self.send(GET)
        self.channel.readConnectionLost()
        self.clock.pump([0.5] * 10)
        self.assertFalse(self.wire.aborted)
        closed.append(True)
        self.clock.advance(1)
        self.assertTrue(self.wire.aborted)
        gone: list[int] = []
        self.requests[0].on_gone = lambda: gone.append(1)
        self.lose()
        self.assertEqual((gone, self.clock.getDelayedCalls()), ([1], []))

    def test_watch_ends_with_the_answer(self) -> None:
        """A client that has its answer is not looked after any more."""
        closed = self.closes()
        self.send(GET)
        self.channel.readConnectionLost()
        self.requests[0].respond(200, [], b"")
        closed.append(True)
        self.clock.advance(10)
        self.assertFalse(self.wire.aborted)

    def test_watch_while_not_read(self) -> None:
        """A client that is too far ahead to be read, and so to be heard leaving, is looked after; else none is."""
        closed = self.closes()
        closed.append(True)
        self.send(GET, b"POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n")
        self.clock.advance(10)
        self.assertFalse(self.wire.aborted)
        closed.append(False)
        self.send(b"a" * (AHEAD + 1))
        self.clock.advance(10)
        self.assertFalse(self.wire.aborted)
        self.requests[0].respond(200, [], b"")
        closed.append(True)
        self.clock.advance(10)
        self.assertFalse(self.wire.aborted)
        self.send(b"a" * (99999 - AHEAD - 1))
        closed.append(False)
        self.send(b"a" * (AHEAD + 1))
        closed.append(True)
        self.clock.advance(1)
        self.assertTrue(self.wire.aborted)

    def test_drain(self) -> None:
        """Idle connections close now, busy ones after their answer, which says so; then the drain is done."""
        busy, busy_wire = self.channel, self.wire
        self.send(GET + GET)
        streaming, streaming_wire = self.channel, self.wire = self.connect()
        self.send(GET)
        self.requests[1].start(200, [])
        arriving, arriving_wire = self.channel, self.wire = self.connect()
        self.send(b"GET /y HT")
        idle, idle_wire = self.connect()
        drained = self.factory.drain()
        self.assertEqual([w.disconnecting for w in (busy_wire, streaming_wire, arriving_wire, idle_wire)],
                         [False, False, False, True])
        self.requests[0].respond(200, [], b"")
        self.requests[1].finish(b"x")
        self.send(b"TP/1.1\r\nHost: h\r\n\r\n")
        self.requests[2].respond(200, [], b"")
        self.assertEqual(heads_and_bodies(busy_wire.value())[0][1][b"connection"], b"close")
        self.assertEqual(heads_and_bodies(arriving_wire.value())[0][1][b"connection"], b"close")
        self.assertEqual(heads_and_bodies(streaming_wire.value())[0][2], b"x")
        self.assertIn(("half-close",), busy_wire.calls)
        self.assertTrue(streaming_wire.disconnecting and arriving_wire.disconnecting)
        self.assertEqual(len(self.requests), 3)
        for channel in (busy, streaming, arriving):
            self.assertNoResult(drained)
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertNoResult(drained)
        idle.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.successResultOf(drained))
        self.assertEqual(self.factory.channels, set())

    def test_drain_of_nothing(self) -> None:
        """Where no connection is open the drain is done at once, as often as it is asked."""
        self.lose()
        self.successResultOf(self.factory.drain())
        self.successResultOf(self.factory.drain())

    def test_abort_all(self) -> None:
        """Every connection is broken off, and whoever answers a request is told."""
        self.send(GET)
        gone: list[int] = []
        self.requests[0].on_gone = lambda: gone.append(1)
        _, other = self.connect()
        self.factory.abort_all()
        self.assertTrue(self.wire.aborted and other.aborted)
        self.lose()
        self.assertEqual(gone, [1])

    def test_answer_between_abort_and_end(self) -> None:
        """An answer that comes when the connection is already being broken off does not revive it."""
        self.send(GET + GET)
        self.factory.abort_all()
        self.wire.disconnecting = False  # a real transport ignores writes here
        self.requests[0].respond(200, [], b"")
        self.send(GET)
        self.assertEqual((len(self.requests), self.factory.requests_open), (1, 0))

    def test_counts(self) -> None:
        """The factory knows its connections and the requests under way."""
        self.assertEqual(self.factory.channels, {self.channel})
        self.send(GET)
        self.assertEqual(self.factory.requests_open, 1)
        self.requests[0].respond(200, [], b"")
        self.assertEqual(self.factory.requests_open, 0)
        self.lose()
        self.assertEqual(self.factory.channels, set())


class TimeTests(ChannelCase):
    """Clients that take their time."""

    front = FrontSettings(header_seconds=10, body_seconds=20, keepalive_seconds=60)

    def test_silent_connection(self) -> None:
        """A connection that never says anything is closed without a word."""
        self.clock.advance(59)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(self.wire.value(), b"")

    def test_slow_head(self) -> None:
        """A head must be whole within its time from the first byte, however steadily it drips."""
        self.clock.advance(50)
        self.send(b"G")
        for _ in range(9):
            self.clock.advance(1)
            self.send(b"E")
        self.assertEqual(self.wire.value()[:12], b"HTTP/1.1 400")
        self.channel, self.wire = self.connect()
        self.send(b"GET /")
        for _ in range(9):
            self.clock.advance(1)
            self.send(b"x")
        self.assertEqual(self.wire.value(), b"")
        self.clock.advance(1.1)
        self.assertEqual([a[0] for a in self.answers()], [408])

    def test_slow_body(self) -> None:
        """A body may take long as long as something comes; silence is answered with 408."""
        for head in (b"Content-Length: 99\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n63\r\n"):
            self.channel, self.wire = self.connect()
            self.send(b"POST /x HTTP/1.1\r\nHost: h\r\n" + head)
            for _ in range(10):
                self.clock.advance(15)
                self.send(b"a")
            self.assertEqual(self.wire.value(), b"")
            self.clock.advance(20.1)
            self.assertEqual([(a[0], a[1][b"x-path"]) for a in self.answers()], [(408, b"/x")])
            self.clock.advance(LINGER + 1)
            self.assertTrue(self.wire.disconnecting)

    def test_no_limit_while_answering(self) -> None:
        """An answer may take as long as it needs; then the idle time begins anew."""
        self.send(GET)
        self.clock.pump([30] * 20)
        self.requests[0].respond(200, [], b"")
        self.clock.advance(59)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.wire.disconnecting)

    def test_idle_time_counts_from_the_last_answer(self) -> None:
        """A busy connection is never taken for idle, and has one delayed call at most."""
        self.echo = True
        for _ in range(20):
            self.clock.advance(50)
            self.send(GET)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.answers()), 20)

    def test_blank_line_is_no_head(self) -> None:
        """An empty line between requests does not start the head's time."""
        self.send(b"\r\n")
        self.clock.advance(30)
        self.assertEqual((self.wire.value(), self.wire.disconnecting), (b"", False))

    def test_client_that_never_reads(self) -> None:
        """A connection that waits only for its client to read is broken off in the end."""
        self.echo = True
        self.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.aborted)
        self.clock.advance(61)
        self.assertTrue(self.wire.aborted)
        self.channel, self.wire = self.connect()
        self.send(GET)
        self.channel.pauseProducing()
        self.clock.advance(61)
        self.assertTrue(self.wire.aborted)

    def test_no_call_left_behind(self) -> None:
        """A lost connection leaves no delayed call."""
        self.send(GET)
        self.requests[0].respond(200, [], b"")
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
