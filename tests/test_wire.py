"""Ugly bytes at the front door, over bare sockets: smuggling, pipelining, slow and half-closed clients."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from . import faults
from .harness import message, shared
from .test_front_door import FrontDoorTestCase, chunked, http, make_stack

#: Status lines in what a connection gave.
HEADS = re.compile(rb"HTTP/1\.1 (\d\d\d)")


class SmugglingTests(FrontDoorTestCase):
    """Requests whose end two readers could see in different places: refused and closed, nothing behind them read."""

    hidden = http(b"", b"x-hidden: 1", method=b"GET", target=b"/v1/models")

    def smuggled(self, raw: bytes) -> None:
        _, received = self.closed(raw + self.hidden)
        first = received.split(b"\r\n", 1)[0]
        self.assertIn(first[:12], (b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 501", b"HTTP/1.1 505"), (raw, received))
        self.assertEqual(len(HEADS.findall(received)), 1, (raw, received))
        body = received.partition(b"\r\n\r\n")[2]
        self.assertEqual(json.loads(body)["type"], "error", raw)
        self.assertEqual((self.minimax.requests, self.claude.requests), ([], []))

    def test_ambiguous_lengths(self) -> None:
        """Two lengths, a length with chunked, chunked not last or twice, odd numbers."""
        for fields in (
            (b"content-length: 5", b"content-length: 6"),
            (b"content-length: 5, 6",),
            (b"content-length: 5", b"transfer-encoding: chunked"),
            (b"transfer-encoding: chunked", b"content-length: 5"),
            (b"transfer-encoding: chunked, gzip",),
            (b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
            (b"transfer-encoding: gzip",),
            (b"transfer-encoding: xchunked",),
            (b"transfer-encoding: chunked\x0b",),
            (b"content-length: +5",),
            (b"content-length: -5",),
            (b"content-length: 0x5",),
            (b"content-length: 5 5",),
            (b"content-length: ",),
            (b"content-length: 99999999999999999999999",),
        ):
            self.smuggled(http(b"0\r\n\r\n", *fields))

    def test_bad_heads(self) -> None:
        """Bare LF, obs-fold, spaces and control characters in names, no or two hosts, other versions."""
        for raw in (
            b"POST /v1/messages HTTP/1.1\nhost: localhost\ncontent-length: 0\n\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r\n folded\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length : 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n content-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx\x00y: 1\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-a: 1\x002\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nnocolon\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/messages HTTP/3.0\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST  /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
            b"POST /v1/mess ages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
            b"GARBAGE\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
        ):
            self.smuggled(raw)
        self.alive()

    def test_bad_chunks(self) -> None:
        """Chunk sizes that are none, bare LF behind them, missing line ends, endless extensions and trailers."""
        for body in (
            b"zz\r\n{}\r\n0\r\n\r\n",
            b"-1\r\n{}\r\n0\r\n\r\n",
            b"0x2\r\n{}\r\n0\r\n\r\n",
            b"2\n{}\r\n0\r\n\r\n",
            b"2\r\n{}0\r\n\r\n",
            b"2\r\n{}XX0\r\n\r\n",
            b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            b" 2\r\n{}\r\n0\r\n\r\n",
            b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}\r\n0\r\n" + b"x-t: y\r\n" * 20_000 + b"\r\n",
        ):
            _, received = self.closed(http(b"", b"transfer-encoding: chunked") + body + self.hidden)
            self.assertRegex(received[:13], rb"HTTP/1.1 4\d\d", body[:40])
            self.assertEqual(len(HEADS.findall(received)), 1, (body[:40], received))
        self.assertEqual((self.minimax.requests, self.claude.requests), ([], []))
        self.alive()

    def test_large_heads(self) -> None:
        """Heads past 64 KiB are refused, whole or endless, few large fields or many small ones."""
        for field in (b"x-a: " + b"y" * 70_000, b"\r\n".join(b"x-%d: y" % number for number in range(10_000))):
            self.smuggled(http(b"", field))
        _, received = self.closed(b"GET /" + b"x" * 100_000)
        self.assertRegex(received[:12], rb"HTTP/1.1 4\d\d")
        self.alive()


class ConnectionTests(FrontDoorTestCase):
    """Connections that are kept, pipelined, slow."""

    def post(self, text: str, *fields: bytes, **members: Any) -> bytes:
        return http(json.dumps(message(text, **members)).encode(), *fields)

    def test_keep_alive(self) -> None:
        """Requests follow each other on one connection, and ``connection: close`` ends it."""
        with self.router.connect("mixed") as sock:
            for _ in range(3):
                sock.sendall(self.post("x"))
                self.assertIn(b"from MiniMax", self._one(sock))
            sock.sendall(self.post("x", b"connection: close"))
            received = b""
            while data := sock.recv(65536):
                received += data
            self.assertIn(b"connection: close", received.lower())

    def _one(self, sock: socket.socket) -> bytes:
        received = self._some(sock)
        while b"\r\n\r\n" not in received:
            received += self._some(sock)
        head, _, body = received.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += self._some(sock)
        return head + b"\r\n\r\n" + body

    def _some(self, sock: socket.socket) -> bytes:
        data = sock.recv(65536)
        self.assertTrue(data, "closed in the middle of an answer")
        return data

    def test_pipelining(self) -> None:
        """Pipelined requests are answered in order, slow and quick ones, in one write or byte by byte."""
        self.minimax.play(faults.ok("first", 0.3), faults.ok("second"), faults.ok("third", 0.1))
        requests = [self.post("a"), self.post("b", stream=True), http(b"", method=b"GET", target=b"/health")]
        requests += [self.post("c", b"connection: close")]
        received = self.talk(b"".join(requests))
        answers = HEADS.split(received)[2::2]
        self.assertEqual(len(answers), 4, received)
        for answer, words in zip(answers, (b"first", b"second", b"router_uptime", b"third"), strict=True):
            self.assertIn(words, answer)
        self.minimax.play(faults.ok("first"), faults.ok("second"))
        with self.router.connect("mixed") as sock:
            for byte in self.post("a") + self.post("b", b"connection: close"):
                sock.sendall(bytes([byte]))
            received = b""
            while data := sock.recv(65536):
                received += data
        self.assertLess(received.index(b"first"), received.index(b"second"))

    def test_pipelined_error(self) -> None:
        """A bad request behind a good one is answered behind it."""
        received = self.talk(self.post("a") + b"GARBAGE\r\n\r\n")
        self.assertEqual(HEADS.findall(received), [b"200", b"400"])

    def test_chunked_body(self) -> None:
        """A chunked body, with extensions and trailers, is read."""
        body = json.dumps(message()).encode()
        pieces = chunked(body[:10], body[10:11], body[11:])
        received = self.talk(http(b"", b"transfer-encoding: chunked", b"connection: close") + pieces)
        self.assertIn(b"from MiniMax", received)
        self.assertEqual(json.loads(self.minimax.requests[0].body)["messages"], message()["messages"])
        fancy = b'%x;name="value"\r\n%b\r\n0\r\nx-trailer: y\r\n\r\n' % (len(body), body)
        received = self.talk(http(b"", b"transfer-encoding: Chunked", b"connection: close") + fancy)
        self.assertIn(b"from MiniMax", received)

    def test_expect(self) -> None:
        """``Expect: 100-continue`` is answered before the body comes; other expectations are not met."""
        body = json.dumps(message()).encode()
        with self.router.connect("mixed") as sock:
            fields = (b"expect: 100-continue", b"connection: close", b"content-length: %d" % len(body))
            sock.sendall(http(b"", *fields))
            self.assertEqual(sock.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            sock.sendall(body)
            received = b""
            while data := sock.recv(65536):
                received += data
        self.assertIn(b"from MiniMax", received)
        received = self.talk(http(body, b"expect: miracles", b"connection: close"))
        self.assertRegex(received[:12], rb"HTTP/1.1 4\d\d")

    def test_old_version_and_head(self) -> None:
        """HTTP/1.0 is answered and closed; ``HEAD`` has no body."""
        _, received = self.closed(b"GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n")
        self.assertIn(b"router_uptime", received)
        body = json.dumps(message(stream=True)).encode()
        _, received = self.closed(
            b"POST /v1/messages HTTP/1.0\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        self.assertIn(b"message_stop", received)
        self.assertNotIn(b"transfer-encoding", received.partition(b"\r\n\r\n")[0].lower())
        received = self.talk(http(b"", b"connection: close", method=b"HEAD", target=b"/health"))
        self.assertTrue(received.startswith(b"HTTP/1.1 200"))
        self.assertTrue(received.endswith(b"\r\n\r\n"))

    def test_half_closed_client(self) -> None:
        """A client that has finished sending still gets its answer."""
        self.minimax.play(faults.ok("slowly " * 10, 0.05))
        with self.router.connect("mixed") as sock:
            sock.sendall(self.post("x", stream=True))
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while data := sock.recv(65536):
                received += data
        self.assertIn(b"message_stop", received)


class ImpatientTests(FrontDoorTestCase):
    """Connections on which it takes too long until something comes; times are long enough for a loaded machine."""

    def setUp(self) -> None:
        self.use(shared("impatient front", lambda: make_stack(seconds=2.5, keepalive=4.0)))

    def test_slow_loris(self) -> None:
        """A head that does not come to its end in time is given up, also where a little of it comes all the time."""
        took, received = self.closed(b"POST /v1/messages HTTP/1.1\r\nhost: loc")
        self.assertGreater(took, 2.0)
        self.assertTrue(received == b"" or b" 408 " in received, received)
        drops = [b"x-%d: y\r\n" % number for number in range(14)]
        _, received = self.closed(b"GET /health HTTP/1.1\r\nhost: localhost\r\n", *drops, pause=0.25)
        self.assertNotIn(b" 200 ", received)

    def test_stopped_body(self) -> None:
        """A body that stops coming is given up."""
        took, received = self.closed(http(b"", b"content-length: 100") + b'{"model"')
        self.assertIn(b" 408 ", received)
        self.assertGreater(took, 2.0)
        self.assertEqual(self.minimax.requests, [])

    def test_slow_body_is_welcome(self) -> None:
        """A body that comes slowly but steadily is read to its end."""
        body = json.dumps(message()).encode()
        parts = [body[at : at + 10] for at in range(0, len(body), 10)]
        self.assertGreater(len(parts) * 0.3, 2.5)
        head = http(b"", b"content-length: %d" % len(body), b"connection: close")
        self.assertIn(b"from MiniMax", self.talk(head, *parts, pause=0.3))

    def test_idle_connection(self) -> None:
        """A kept connection on which nothing comes is closed without a word."""
        took, received = self.closed(http(json.dumps(message()).encode()))
        self.assertGreater(took, 3.5)
        self.assertEqual(len(HEADS.findall(received)), 1)
        _, received = self.closed(b"")
        self.assertEqual(received, b"")
