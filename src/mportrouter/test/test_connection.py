"""Tests for :mod:`mportrouter.connection`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from ..connection import HEAD_LIMIT, Connection, network_failure
from ..errors import Kind
from ..interfaces import ICall
from ..tls import PinMismatch
from .wires import OK, ConnectionTestCase, Sink


class AnswerTests(ConnectionTestCase):
    """Whole answers."""

    def test_interfaces(self):
        """A call is what the relay expects, and a producer; a connection listens for the end of the handshake."""
        call = self.send()
        verifyObject(ICall, call)
        verifyObject(IPushProducer, call)
        verifyClass(IHandshakeListener, Connection)
        self.assertIs(call.transport, call)

    def test_one_write(self):
        """Head and body of an ordinary request leave in one write."""
        writes = []
        self.transport.write = writes.append
        self.send(b"{}", head=b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n")
        self.assertEqual(writes, [b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"])

    def test_sized(self):
        """A sized body is handed on; names are in lower case, values as they came; the connection is kept."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Mixed: A b\r\n\r\nhel")
        self.assertEqual(self.sink.status, 200)
        self.assertEqual(self.sink.headers, [(b"content-length", b"5"), (b"x-mixed", b"A b")])
        self.assertFalse(self.sink.ended)
        self.connection.dataReceived(b"lo")
        self.assertEqual(self.sink.body, b"hello")
        self.assertTrue(self.sink.ended)
        self.assertIsNone(self.sink.failure)
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_chunks_of_one_read_are_joined(self):
        """However many chunks a read holds, the sink gets one piece."""
        self.send()
        self.connection.dataReceived(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n" * 200 + b"0\r\n\r\n"
        )
        self.assertEqual(self.sink.chunks, [b"abc" * 200])
        self.assertTrue(self.sink.ended)
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_trailers_are_dropped(self):
        """Fields after the last chunk are not added to the head."""
        self.send()
        self.connection.dataReceived(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n"
        )
        self.assertEqual(self.sink.headers, [(b"transfer-encoding", b"chunked")])
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_interim_answers_are_dropped(self):
        """100 and 103 say nothing to the sink, nor do their fields stay."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        self.assertTrue(self.sink.quiet)
        self.connection.dataReceived(OK)
        self.assertEqual(self.sink.status, 200)
        self.assertEqual(self.sink.headers, [(b"content-length", b"2")])
        self.assertEqual(self.sink.body, b"hi")
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_no_body(self):
        """204 and 304 end with their head, whatever length they name."""
        for status in (b"204 No Content", b"304 Not Modified"):
            self.setUp()
            self.send()
            self.connection.dataReceived(b"HTTP/1.1 %b\r\nETag: 1\r\n\r\n" % status)
            self.assertTrue(self.sink.ended, status)
            self.assertEqual(self.sink.chunks, [])
            self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_head_request(self):
        """The answer to HEAD ends with its head, and the connection takes another request."""
        self.send(bodiless=True)
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        self.assertTrue(self.sink.ended)
        self.assertEqual(self.keeper.told, ["ready", "kept"])
        self.sink = Sink()
        self.send()
        self.connection.dataReceived(OK)
        self.assertEqual(self.sink.body, b"hi")

    def test_head_request_with_a_body(self):
        """A server that sends a body after HEAD spoils the connection, not the answer."""
        self.send(bodiless=True)
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        self.assertIsNone(self.sink.failure)
        self.assertEqual(self.sink.chunks, [])
        self.assertEqual(self.keeper.told, ["ready", "not kept"])

    def test_until_close(self):
        """A body without a length ends when the connection is closed properly."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nso far")
        self.assertFalse(self.sink.ended)
        self.lose()
        self.assertEqual(self.sink.body, b"so far")
        self.assertTrue(self.sink.ended)
        self.assertIsNone(self.sink.failure)

    def test_connection_close(self):
        """``Connection: close`` and HTTP/1.0 are obeyed."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        ):
            self.setUp()
            self.send()
            self.connection.dataReceived(answer)
            self.assertIsNone(self.sink.failure)
            self.assertEqual(self.keeper.told, ["ready", "not kept"])

    def test_http_1_0_keep_alive(self):
        """HTTP/1.0 with ``Connection: keep-alive`` is kept."""
        self.send()
        self.connection.dataReceived(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
        )
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_two_answers_in_turn(self):
        """The state of one answer does not leak into the next."""
        for body in (b"hi", b"yo"):
            self.sink = Sink()
            self.send()
            self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)
            self.assertEqual((self.sink.status, self.sink.body, self.sink.ended), (200, body, True))
        self.assertEqual(self.keeper.told, ["ready", "kept", "kept"])

    def test_surplus(self):
        """Bytes after the answer's end spoil the connection: they would be taken for the next answer."""
        for surplus in (b"HTTP/1.1 200 OK\r\n", b"junk", OK):
            self.setUp()
            self.send()
            self.connection.dataReceived(OK + surplus)
            self.assertEqual(self.sink.body, b"hi")
            self.assertIsNone(self.sink.failure)
            self.assertEqual(self.keeper.told, ["ready", "not kept"])

    def test_unasked(self):
        """Bytes on an idle connection close it."""
        self.send()
        self.connection.dataReceived(OK)
        self.connection.dataReceived(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self.assertFalse(self.connection.open)
        self.assertTrue(self.transport.disconnecting)

    def test_keep_alive_field(self):
        """What the server says about idle time is remembered."""
        self.send()
        self.connection.dataReceived(
            b"HTTP/1.1 200 OK\r\nKeep-Alive: max=100, timeout=5\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(self.connection.idle_limit, 5.0)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 30), min_size=1))
    def test_any_cut(self, chunks, sizes):
        """However the bytes are cut, the sink sees the same answer, at most one piece a read."""
        self.setUp()
        stream = b"HTTP/1.1 103 X\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
        stream += b"".join(b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        self.send()
        turn = 0
        while stream:
            size = sizes[turn % len(sizes)]
            before = len(self.sink.chunks)
            self.connection.dataReceived(stream[:size])
            self.assertLessEqual(len(self.sink.chunks), before + 1)
            stream = stream[size:]
            turn += 1
        self.assertEqual(self.sink.headers, [(b"transfer-encoding", b"chunked"), (b"a", b"b")])
        self.assertEqual(self.sink.body, b"".join(chunks))
        self.assertTrue(self.sink.ended)
        self.assertIsNone(self.sink.failure)


class BrokenAnswerTests(ConnectionTestCase):
    """Answers that are none, or not whole."""

    def test_not_http(self):
        """What is not HTTP/1.1 is garbage, and nothing of it reaches the sink."""
        for answer in (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"<html>hello</html>",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ):
            self.setUp()
            self.send()
            self.connection.dataReceived(answer)
            self.assertEqual(self.verdict.kind, Kind.GARBAGE, answer)
            self.assertIn("api.test:443", self.verdict.message)
            self.assertIsNone(self.sink.status)
            self.assertTrue(self.sink.failure.sent)
            self.assertEqual(self.transport.disconnecting or self.transport.disconnected, True)

    def test_endless_head(self):
        """A head without end is given up, also one of interim answers; 64 KiB of fields are fine."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\n" + b"X-F: " + b"v" * 64 * 1024 + b"\r\n")
        self.assertFalse(self.sink.ended)
        while not self.sink.ended and self.connection._head_bytes <= HEAD_LIMIT:
            self.connection.dataReceived(b"X-More: " + b"v" * 1000 + b"\r\n")
        self.assertEqual(self.verdict.kind, Kind.GARBAGE)

    def test_endless_interim_answers(self):
        """Interim answers without end are given up too."""
        self.send()
        for _ in range(HEAD_LIMIT // 20):
            self.connection.dataReceived(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            if self.sink.ended:
                break
        self.assertEqual(self.verdict.kind, Kind.GARBAGE)

    def test_bad_chunk(self):
        """A bad chunk length is a cut, after what came before it."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n")
        self.assertEqual(self.sink.body, b"hi")
        self.assertEqual(self.verdict.kind, Kind.CUT)
        self.assertTrue(self.verdict.retry_same)

    def test_premature_close(self):
        """A sized or chunked body that is not whole is a cut, however politely the connection was closed."""
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            for error in (ConnectionDone(), ConnectionLost()):
                self.setUp()
                self.send()
                self.connection.dataReceived(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head)
                self.lose(error)
                self.assertEqual(self.verdict.kind, Kind.CUT)
                self.assertEqual(self.keeper.told, ["ready", "lost", "broken"])

    def test_until_close_but_reset(self):
        """A body without a length whose connection is reset is a cut."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\n\r\nso far")
        self.lose(ConnectionLost())
        self.assertEqual(self.verdict.kind, Kind.CUT)

    def test_coded_until_close(self):
        """A transfer coding that does not end in chunked lasts until the close."""
        self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n\x1f\x8b")
        self.lose()
        self.assertIsNone(self.sink.failure)

    def test_closed_in_head(self):
        """A close inside the head is a network failure, and no stale connection: an answer had begun."""
        self.send().reused = True
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nConte")
        self.lose()
        self.assertEqual(self.verdict.kind, Kind.NETWORK)
        self.assertEqual(self.keeper.told, ["ready", "lost", "broken"])

    def test_closed_without_answer(self):
        """A close before any byte is a network failure; on a connection that had been idle it was stale."""
        for reused, told in ((False, "broken"), (True, "stale")):
            for error in (ConnectionDone(), ConnectionLost()):
                self.setUp()
                self.send().reused = reused
                self.lose(error)
                self.assertEqual(self.verdict.kind, Kind.NETWORK)
                self.assertTrue(self.verdict.retry_same)
                self.assertEqual(self.keeper.told, ["ready", "lost", told])


class AbortTests(ConnectionTestCase):
    """The client leaves."""

    def test_abort(self):
        """The connection is closed at once and the sink hears nothing more, whatever comes; twice is fine."""
        call = self.send()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        call.abort()
        call.abort()
        self.assertEqual(self.keeper.told, ["ready", "aborted"])
        self.connection.dataReceived(b"llo")
        self.lose()
        self.assertEqual(self.sink.body, b"he")
        self.assertFalse(self.sink.ended)

    def test_abort_inside_the_sink(self):
        """A sink that aborts in response() or data() hears nothing after it, of the same read either."""
        call = self.send()
        self.sink.response = lambda status, headers: call.abort()
        self.connection.dataReceived(OK)
        self.assertTrue(self.sink.quiet)
        self.setUp()
        call = self.send()
        self.sink.data = lambda data, last: call.abort()
        self.connection.dataReceived(OK)
        self.assertFalse(self.sink.ended)

    def test_stop_producing(self):
        """A consumer that stops its producer aborts the call."""
        self.send().stopProducing()
        self.assertEqual(self.keeper.told, ["ready", "aborted"])


class NetworkFailureTests(SynchronousTestCase):
    """What failed connections are called."""

    def test_kinds(self):
        """Each says what happened and where, and a second try may help."""
        for error, kind, words in (
            (ConnectionRefusedError(), Kind.NETWORK, "refused"),
            (DNSLookupError(), Kind.NETWORK, "no address"),
            (TimeoutError(), Kind.TIMEOUT, "in time"),
            (ConnectionLost(), Kind.NETWORK, "reset"),
            (ConnectionDone(), Kind.NETWORK, "closed"),
            (OSError("odd"), Kind.NETWORK, "odd"),
            (None, Kind.NETWORK, "no connection"),
        ):
            verdict = network_failure(error, "api.test:443")
            self.assertEqual(verdict.kind, kind)
            self.assertIn(words, verdict.message)
            self.assertIn("api.test:443", verdict.message)
            self.assertTrue(verdict.retry_same and verdict.move_on)
            self.assertFalse(verdict.account)

    def test_verification(self):
        """A server that is not who it should be is not asked again, for no model of the account."""
        verdict = network_failure(PinMismatch("api.test", "pin mismatch"), "api.test:443")
        self.assertEqual(verdict.kind, Kind.NETWORK)
        self.assertFalse(verdict.retry_same)
        self.assertTrue(verdict.move_on and verdict.account)
        self.assertIn("pin mismatch", verdict.message)
