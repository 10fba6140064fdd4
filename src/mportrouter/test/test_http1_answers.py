"""Answers become bytes, and the double of a request behaves as the real thing."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from ..web.request import Request
from .front_door import GET, TEXT, ChannelCase, Producer
from .memory_request import MemoryRequest


class AnswerTests(ChannelCase):
    """Answers become bytes."""

    def ask(self, head: bytes = GET) -> Request:
        self.send(head)
        return self.requests[-1]

    def test_whole_answer_in_one_write(self) -> None:
        """A whole answer is one write, with its length and the date."""
        self.ask().respond(200, [*TEXT, (b"x", b"y")], b"hello")
        self.assertEqual(self.wire.writes, [
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx: y\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
            b"content-length: 5\r\n\r\nhello"
        ])
        self.assertFalse(self.wire.disconnecting)

    def test_date(self) -> None:
        """The date is that of the second, unless the answer has one of its own."""
        self.clock.advance(1_800_000_000.5)
        self.channel, self.wire = self.connect()
        self.ask().respond(200, [], b"")
        self.ask().respond(200, [(b"Date", b"then")], b"")
        one, two = self.answers()
        self.assertEqual(one[1][b"date"], b"Fri, 15 Jan 2027 08:00:00 GMT")
        self.assertEqual(two[1], {b"Date": b"then", b"content-length": b"0"})

    def test_bodiless_statuses(self) -> None:
        """204 and 304 have neither body nor length, whatever is given, also in pieces."""
        for status in (204, 304):
            self.ask().respond(status, TEXT, b"body")
            request = self.ask()
            request.start(status, TEXT, 4, b"bo")
            request.write(b"d")
            request.finish(b"y")
        for status, fields, _ in self.answers():
            self.assertNotIn(b"content-length", fields, status)
            self.assertNotIn(b"transfer-encoding", fields, status)
        self.assertEqual([a[0] for a in self.answers()], [204, 204, 304, 304])

    def test_head_method(self) -> None:
        """``HEAD`` learns the length and gets no body, and the connection goes on."""
        head = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
        self.ask(head).respond(200, [], b"hello")
        request = self.ask(head)
        request.start(200, [], 7, b"x")
        request.write(b"y")
        request.finish(b"z")
        request = self.ask(head)
        request.start(200, [])
        request.finish(b"z")
        parts = self.wire.value().split(b"\r\n\r\n")
        self.assertIn(b"content-length: 5", parts[0])
        self.assertIn(b"content-length: 7", parts[1])
        self.assertEqual((len(parts), parts[3]), (4, b""))

    def test_final_status_only(self) -> None:
        """A 1xx or a nonsensical status does not end an exchange; the request can still be answered."""
        request = self.ask()
        for status in (100, 101, 199, 0, 1000):
            self.assertRaises(ValueError, request.respond, status, [], b"")
            self.assertRaises(ValueError, request.start, status, [])
        request.respond(599, [], b"")
        self.assertTrue(self.wire.value().startswith(b"HTTP/1.1 599 \r\n"))

    def test_overloaded(self) -> None:
        """529, the status of overloaded providers, has a reason phrase."""
        self.ask().respond(529, [], b"")
        self.assertTrue(self.wire.value().startswith(b"HTTP/1.1 529 Overloaded\r\n"))

    def test_chunks(self) -> None:
        """Without a length the body goes in chunks: one write for the head with the first piece, one for each other."""
        request = self.ask()
        request.start(200, TEXT, None, b"one")
        request.write(b"two!")
        request.write(b"")
        request.finish(b"three")
        self.assertTrue(self.wire.writes[0].endswith(b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n"))
        self.assertEqual(self.wire.writes[1:], [b"4\r\ntwo!\r\n", b"5\r\nthree\r\n0\r\n\r\n"])
        self.ask().start(200, TEXT)
        self.requests[-1].finish()
        self.assertEqual([a[2] for a in self.answers()], [b"onetwo!three", b""])

    def test_sized_pieces(self) -> None:
        """With a length the pieces go as they are."""
        request = self.ask()
        request.start(200, TEXT, 6, b"ab")
        request.write(b"cd")
        request.finish(b"ef")
        self.assertEqual(self.wire.writes[1:], [b"cd", b"ef"])
        self.assertEqual(self.answers()[0][2], b"abcdef")

    def test_wrong_length(self) -> None:
        """A body that is not as long as announced is broken off: no client takes it for whole."""
        for last in (b"c", b"cde"):
            self.channel, self.wire = self.connect()
            request = self.ask()
            request.start(200, TEXT, 4, b"ab")
            request.finish(last)
            self.assertTrue(self.wire.aborted)
        self.channel, self.wire = self.connect()
        request = self.ask()
        request.start(200, TEXT, 4, b"ab")
        request.write(b"cde")
        self.assertTrue(self.wire.aborted)
        request = self.connect_and_ask()
        self.assertRaises(ValueError, request.start, 200, [], 1, b"ab")

    def connect_and_ask(self) -> Request:
        self.channel, self.wire = self.connect()
        return self.ask()

    def test_http10(self) -> None:
        """HTTP/1.0 clients get no chunks: the body of unknown length ends with the connection."""
        request = self.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(request.version, (1, 0))
        request.start(200, TEXT, None, b"one")
        request.write(b"two")
        request.finish(b"three")
        [(_, fields, body)] = self.answers()
        self.assertEqual((body, fields[b"connection"]), (b"onetwothree", b"close"))
        self.assertNotIn(b"transfer-encoding", fields)
        self.assertTrue(self.wire.disconnecting)

    def test_persistence(self) -> None:
        """1.1 stays open unless the client says close, 1.0 closes unless it says keep-alive; the answer says which."""
        for head, stays, says in (
            (b"GET / HTTP/1.1\r\nHost: h\r\n", True, None),
            (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n", False, b"close"),
            (b"GET / HTTP/1.0\r\n", False, b"close"),
            (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", True, b"keep-alive"),
        ):
            self.channel, self.wire = self.connect()
            self.ask(head + b"\r\n").respond(200, [], b"")
            self.assertEqual(self.answers()[0][1].get(b"connection"), says, head)
            self.assertEqual(self.wire.disconnecting, not stays, head)
            self.channel, self.wire = self.connect()
            request = self.ask(head + b"\r\n")
            request.start(200, [], 2)
            request.finish(b"ok")
            self.assertEqual(self.answers()[0][1].get(b"connection"), says, head)
            self.assertEqual(self.wire.disconnecting, not stays, head)

    def test_after_close(self) -> None:
        """What a client sends behind ``Connection: close`` is not read."""
        self.ask(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET).respond(200, [], b"")
        self.send(GET)
        self.assertEqual((len(self.requests), len(self.answers())), (1, 1))

    def test_framing_fields_are_ours(self) -> None:
        """Framing and connection fields of an upstream's answer are not repeated."""
        own = [(b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked"), (b"connection", b"close"),
               (b"Keep-Alive", b"timeout=5"), (b"X", b"y")]
        self.ask().respond(200, own, b"hi")
        request = self.ask()
        request.start(200, own)
        request.finish()
        one, two = self.answers()
        self.assertEqual(set(one[1]), {b"X", b"date", b"content-length"})
        self.assertEqual(set(two[1]), {b"X", b"date", b"transfer-encoding"})

    def test_injection(self) -> None:
        """A field that could begin a line of its own is left out, alone."""
        evil = [(b"a", b"1\r\nset-cookie: x"), (b"b", b"2\nc: d"), (b"c", b"3\rd"), (b"d", b"4\0"), (b"e\r\nf", b"5"),
                (b"g\n", b"6"), (b"ok", b"7: 8"), (b"h", b"\r\n\r\nHTTP/1.1 200 OK"), (b"bad name", b"\r")]
        self.ask().respond(200, iter(evil), b"hi")
        request = self.ask()
        request.start(200, evil, None, b"hi")
        request.finish()
        for status, fields, body in self.answers():
            self.assertEqual((status, body), (200, b"hi"))
            self.assertEqual({k: v for k, v in fields.items() if len(k) < 4}, {b"ok": b"7: 8"})

    def test_injection_alone(self) -> None:
        """Each of the characters is enough for a field to be left out."""
        for evil in (b"a\r\nb: c", b"a\nb: c", b"a\rb: c", b"a\0"):
            self.ask().respond(200, [(b"a", evil)], b"hi")
            self.ask().respond(200, [(b"a" + evil, b"b")], b"hi")
        for _, fields, _ in self.answers():
            self.assertEqual(set(fields), {b"date", b"content-length"})
        self.assertEqual(len(self.answers()), 8)

    def test_only_once(self) -> None:
        """Answering twice, or in the wrong order, is an error of the caller's and writes nothing."""
        request = self.ask()
        self.assertRaises(RuntimeError, request.write, b"x")
        self.assertRaises(RuntimeError, request.finish)
        request.start(200, [], 0)
        self.assertRaises(RuntimeError, request.respond, 200, [], b"")
        self.assertRaises(RuntimeError, request.start, 200, [])
        self.assertFalse(request.finished)
        request.finish()
        written = self.wire.value()
        for call in (lambda: request.write(b"x"), request.finish, lambda: request.respond(200, [], b"")):
            self.assertRaises(RuntimeError, call)
        request.abort()
        self.assertEqual((self.wire.value(), self.wire.aborted), (written, False))

    def test_abort(self) -> None:
        """A cut answer looks cut: no last chunk, the connection is reset; later calls do nothing."""
        request = self.ask()
        gone: list[int] = []
        request.on_gone = lambda: gone.append(1)
        request.start(200, TEXT, None, b"half")
        request.abort()
        self.assertTrue(self.wire.aborted)
        request.write(b"x")
        request.finish()
        request.abort()
        request.throttle(Producer())
        self.assertTrue(self.wire.value().endswith(b"4\r\nhalf\r\n"))
        self.lose()
        self.assertEqual((gone, request.finished, request.gone, self.factory.requests_open), ([], True, False, 0))

    def test_handle_that_fails(self) -> None:
        """An exception of the handler is logged and answered as the router's own failure."""
        def fail(request: Request) -> None:
            raise KeyError("oops")

        self.factory.handle = fail
        self.send(GET + GET)
        self.assertEqual([(a[0], a[1][b"x-kind"]) for a in self.answers()], [(500, b"internal")] * 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.assertNotIn(b"oops", self.wire.value())

    def test_handle_that_fails_late(self) -> None:
        """An exception after the head breaks the answer off; one after the whole answer only goes to the log."""
        def fail_started(request: Request) -> None:
            request.start(200, [], None, b"x")
            raise KeyError("oops")

        def fail_answered(request: Request) -> None:
            request.respond(200, [], b"x")
            raise KeyError("oops")

        self.factory.handle = fail_answered
        self.send(GET)
        self.assertFalse(self.wire.aborted)
        self.factory.handle = fail_started
        self.send(GET)
        self.assertTrue(self.wire.aborted)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)


class MemoryRequestTests(SynchronousTestCase):
    """The double behaves as the real thing."""

    def answer(self, request: Request, pieces: Iterable[bytes]) -> None:
        request.start(200, TEXT, None, b"1")
        for piece in pieces:
            request.write(piece)
        request.finish(b"9")

    def test_keeps_the_answer(self) -> None:
        """What a request is answered can be read from it."""
        request = MemoryRequest(b"GET", b"/a?b", [(b"X", b" y ")])
        self.assertEqual((request.path, request.query, request.header(b"x")), (b"/a", b"b", b"y"))
        self.answer(request, [b"2", b""])
        self.assertEqual((request.status, request.pieces, request.answer), (200, [b"1", b"2", b"9"], b"129"))
        self.assertEqual(request.answer_header(b"Content-Type"), b"text/plain")
        self.assertTrue(request.started and request.finished)
        self.assertRaises(RuntimeError, request.respond, 200, [], b"")

    def test_leaves(self) -> None:
        """A client that leaves is told of once, and later writes do nothing."""
        request = MemoryRequest()
        gone: list[int] = []
        request.on_gone = lambda: gone.append(1)
        request.leave()
        request.leave()
        self.answer(request, [])
        self.assertEqual((gone, request.status, request.finished), ([1], None, True))

    def test_aborts(self) -> None:
        """An abort is kept, and lets go of the producer."""
        request = MemoryRequest()
        request.start(200, [])
        request.throttle(self)
        self.assertIs(request.producer, self)
        request.abort()
        request.write(b"x")
        self.assertEqual((request.aborted, request.producer, request.pieces), (True, None, []))
