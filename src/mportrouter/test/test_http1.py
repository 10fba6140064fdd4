"""The front door's HTTP/1.1 protocol on an in-memory transport."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..errors import Kind, RouterError
from ..settings import FrontSettings
from ..web import peer
from ..web.http1 import AHEAD, DRAIN, LINGER, LINGER_ALL, HTTPChannel, HTTPServerFactory
from ..web.request import Request
from .memory_request import MemoryRequest

TEXT = [(b"content-type", b"text/plain")]
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


@implementer(ITCPTransport)
class Wire(StringTransport):
    """A TCP transport that remembers each write and what was set on it."""

    def __init__(self) -> None:
        super().__init__(lenient=True)
        self.writes: list[bytes] = []
        self.calls: list[tuple[Any, ...]] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.disconnecting, "written after the connection was closed"
        self.writes.append(data)
        super().write(data)

    def loseConnection(self) -> None:
        assert self.producer is None, "a transport with a producer does not close"
        super().loseConnection()

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.calls.append(("nodelay", enabled))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.calls.append(("keepalive", enabled))

    def loseWriteConnection(self) -> None:
        self.calls.append(("half-close",))

    def getTcpNoDelay(self) -> bool:
        return True

    def getTcpKeepAlive(self) -> bool:
        return True


def refuse(error: RouterError, request: Request | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The refusals of these tests: the message as text, the path where it is known."""
    path = b"-" if request is None else request.path
    return error.status, [*TEXT, (b"x-kind", error.kind.value.encode()), (b"x-path", path)], error.message.encode()


def heads_and_bodies(data: bytes) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Read a sequence of answers strictly, as a client does (none of them to ``HEAD``)."""
    answers = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, "an answer's head is not whole"
        line, *lines = head.split(b"\r\n")
        version, status, _reason = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields: dict[bytes, bytes] = {}
        for field in lines:
            name, colon, value = field.partition(b": ")
            assert colon and name not in fields, field
            fields[name] = value
        body = b""
        if int(status) in (100, 204, 304):
            pass
        elif fields.get(b"transfer-encoding") == b"chunked":
            assert b"content-length" not in fields
            while True:
                size, separator, data = data.partition(b"\r\n")
                assert separator, "a chunked body is not whole"
                piece, end, data = data[: int(size, 16)], data[int(size, 16) :][:2], data[int(size, 16) + 2 :]
                assert end == b"\r\n"
                body += piece
                if not piece:
                    break
        elif b"content-length" in fields:
            length = int(fields[b"content-length"])
            assert len(data) >= length, "a sized body is not whole"
            body, data = data[:length], data[length:]
        else:
            body, data = data, b""
        answers.append((int(status), fields, body))
    return answers


class Producer:
    """Says what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class ChannelCase(SynchronousTestCase):
    """A factory whose requests pile up in ``requests``, or are echoed at once where ``echo`` is set."""

    front = FrontSettings()

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[Request] = []
        self.echo = False
        self.factory = HTTPServerFactory(self.handle, self.front, self.clock, 8787, refuse=refuse)
        self.channel, self.wire = self.connect()

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if self.echo:
            request.respond(200, TEXT, request.path + b":" + request.body)

    def connect(self) -> tuple[HTTPChannel, Wire]:
        channel, wire = self.factory.buildProtocol(None), Wire()
        channel.makeConnection(wire)
        return channel, wire

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.channel.dataReceived(piece)

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))

    def answers(self) -> list[tuple[int, dict[bytes, bytes], bytes]]:
        return heads_and_bodies(self.wire.value())

    def assertRefused(self, status: int, *pieces: bytes) -> bytes:
        """The bytes are answered with ``status`` and nothing else, and the connection serves nothing after it."""
        self.requests.clear()
        self.channel, self.wire = self.connect()
        self.send(*pieces)
        self.assertEqual(self.requests, [], pieces)
        answers = [answer for answer in self.answers() if answer[0] != 100]
        self.assertEqual([answer[0] for answer in answers], [status], (pieces, self.wire.value()))
        self.assertEqual(answers[0][1][b"connection"], b"close")
        self.assertIn(("half-close",), self.wire.calls)
        channel, wire = self.channel, self.wire
        self.refused = wire
        written = wire.value()
        self.send(GET)
        self.assertEqual((self.requests, wire.value()), ([], written))
        channel.readConnectionLost()
        self.assertTrue(wire.disconnecting)
        self.lose()
        self.channel, self.wire = self.connect()
        return answers[0][2]


class RequestTests(ChannelCase):
    """What arrives becomes requests."""

    def test_interfaces(self) -> None:
        """A channel provides what a transport asks for."""
        verifyObject(IProtocol, self.channel)
        verifyObject(IHalfCloseableProtocol, self.channel)
        verifyObject(IPushProducer, self.channel)
        self.channel.writeConnectionLost()
        self.assertFalse(self.wire.disconnecting)

    def test_tcp_options(self) -> None:
        """Small writes are not delayed, and a vanished client's connection ends."""
        self.assertEqual(self.wire.calls, [("nodelay", True), ("keepalive", True)])

    def test_plain_transport(self) -> None:
        """A transport that is not TCP serves as well."""
        channel, transport = self.factory.buildProtocol(None), StringTransport(lenient=True)
        channel.makeConnection(transport)
        channel.dataReceived(b"nonsense\r\n\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 400 "))

    def test_parts(self) -> None:
        """A request carries its parts: names lower-cased, values stripped, target split at the first ``?``."""
        self.clock.advance(5)
        self.send(b"POST /v1/messages?beta=true?x HTTP/1.1\r\nHost:\t localhost \r\nX-A: 1\r\nX-a:2 \r\n"
                  b"Content-Length: 3\r\n\r\nabc")
        [request] = self.requests
        self.assertEqual(
            (request.method, request.target, request.path, request.query, request.version, request.body),
            (b"POST", b"/v1/messages?beta=true?x", b"/v1/messages", b"beta=true?x", (1, 1), b"abc"),
        )
        self.assertEqual(
            request.headers, [(b"host", b"localhost"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"3")]
        )
        self.assertEqual((request.received, request.port, request.channel), (5.0, 8787, self.channel))
        self.assertEqual((request.header(b"x-a"), request.header(b"x-b")), (b"1", None))
        self.assertEqual(repr(request), "<Request POST /v1/messages>")

    def test_no_unquoting(self) -> None:
        """Escapes in the target stay as they are."""
        self.send(b"GET /a%2Fb/%00?c%3D HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual((self.requests[0].path, self.requests[0].query), (b"/a%2Fb/%00", b"c%3D"))

    def test_absolute_form(self) -> None:
        """A target with scheme and host is reduced to its path, and its host counts (RFC 9112 §3.2.2)."""
        self.echo = True
        for target, expected in (
            (b"http://real:1/a?b", (b"/a?b", b"/a", b"b")),
            (b"HTTP://real:1", (b"/", b"/", b"")),
            (b"https://real:1?q", (b"/?q", b"/", b"q")),
        ):
            self.requests.clear()
            self.send(b"GET " + target + b" HTTP/1.1\r\nHost: other\r\nX: y\r\n\r\n")
            [request] = self.requests
            self.assertEqual((request.target, request.path, request.query), expected)
            self.assertEqual(request.headers, [(b"host", b"real:1"), (b"x", b"y")])

    def test_asterisk(self) -> None:
        """``OPTIONS *`` is a request; ``GET *`` is none."""
        self.send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(self.requests[0].path, b"*")
        self.assertRefused(400, b"GET * HTTP/1.1\r\nHost: h\r\n\r\n")

    def test_body_in_pieces(self) -> None:
        """A sized body is put together from any number of reads."""
        self.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01", b"2345678")
        self.assertEqual(self.requests, [])
        self.send(b"9")
        self.assertEqual(self.requests[0].body, b"0123456789")

    def test_chunked_body(self) -> None:
        """A chunked body is joined; extensions and trailers are dropped."""
        self.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
                  b"3;a=b\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\nT: v\r\n\r\n")
        self.assertEqual(self.requests[0].body, b"abc\r\n\r\n")
        self.assertIsNone(self.requests[0].header(b"t"))

    def test_request_after_chunked(self) -> None:
        """A request behind a chunked one is read from its very first byte."""
        self.echo = True
        self.send(b"POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
                  b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nb" + GET)
        self.assertEqual([a[2] for a in self.answers()], [b"/1:a", b"/2:b", b"/x:"])

    def test_get_with_body(self) -> None:
        """Any method may carry a body."""
        self.send(b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        self.assertEqual(self.requests[0].body, b"hi")

    def test_upgrade_is_exposed(self) -> None:
        """A wish to change the protocol arrives as a plain request with its fields, and the connection stays HTTP."""
        self.echo = True
        self.send(b"GET /v1/responses HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET)
        self.assertEqual(self.requests[0].header(b"upgrade"), b"websocket")
        self.assertEqual([a[2] for a in self.answers()], [b"/v1/responses:", b"/x:"])

    def test_upgrade_with_body(self) -> None:
        """The h2c upgrade that some HTTP clients try with each POST does not disturb its body."""
        fields = b"Host: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
        self.echo = True
        self.send(b"POST /1 HTTP/1.1\r\n" + fields + b"Content-Length: 2\r\n\r\nhi"
                  b"POST /2 HTTP/1.1\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n")
        self.assertEqual([a[2] for a in self.answers()], [b"/1:hi", b"/2:ho"])

    def test_blank_lines_before(self) -> None:
        """A few empty lines before a request line are skipped, even in pieces; many are refused (RFC 9112 §2.2)."""
        self.echo = True
        self.send(b"\r\n", b"\r", b"\n\r\n" + GET)
        self.assertEqual([a[0] for a in self.answers()], [200])
        self.assertRefused(400, b"\r\n" * 20)

    def test_remembered_head(self) -> None:
        """Heads that differ in the length alone, or not at all, are each read rightly."""
        self.echo = True
        head = b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length:  %b \r\nX-Content-Length: 9\r\n\r\n"
        for path, body in ((b"a", b"12"), (b"a", b"1" * 123), (b"a", b""), (b"b", b"4"), (b"b", b"55"), (b"a", b"6")):
            self.send(head % (path, b"%d" % len(body)) + body)
            self.assertEqual((self.requests[-1].path, self.requests[-1].body), (b"/" + path, body))
            self.assertEqual(self.requests[-1].header(b"content-length"), b"%d" % len(body))
        self.send(GET, GET)
        self.assertEqual(self.requests[-1].header(b"content-length"), None)
        self.assertEqual([a[2] for a in self.answers()][-3:], [b"/a:6", b"/x:", b"/x:"])

    def test_remembered_head_is_forgotten(self) -> None:
        """What was read in between does not leak into a head that is like an earlier one."""
        self.echo = True
        self.send(GET, b"PUT /y HTTP/1.1\r\n", b"Host: z\r\n\r\n", GET)
        self.assertEqual([(r.method, r.path, r.header(b"host")) for r in self.requests],
                         [(b"GET", b"/x", b"localhost"), (b"PUT", b"/y", b"z"), (b"GET", b"/x", b"localhost")])

    def test_remembered_head_bad_length(self) -> None:
        """A head that is like the last one but for a bad length is refused as any."""
        for bad in (b"+1", b"1 1", b"", b"-1", b"1\r\nContent-Length: 1", b"\xb2", b"9" * 30, b"1\r\nX: y"):
            self.echo = True
            good = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\n\r\n"
            self.channel, self.wire = self.connect()
            self.send(good % b"1" + b"a")
            self.send(good % bad + b"b")
            statuses = [a[0] for a in self.answers()]
            self.assertEqual(statuses, [200, 200 if b"X: y" in bad else 400], bad)

    def test_headers_are_each_requests_own(self) -> None:
        """What a handler does to the list of one request is not seen in the next one."""
        self.echo = True
        self.send(GET)
        self.requests[0].headers.clear()
        self.send(GET)
        self.requests[1].headers.clear()
        self.send(GET)
        self.assertEqual(self.requests[2].headers, [(b"host", b"localhost")])


class RefusalTests(ChannelCase):
    """What is no request gets an answer and no second chance."""

    front = FrontSettings(header_bytes=2000, body_bytes=1000)

    def test_malformed(self) -> None:
        """Every form that two readers could understand differently is refused with 400."""
        post = b"POST / HTTP/1.1\r\nHost: h\r\n"
        for data in (
            post + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            post + b"Content-Length: 5, 5\r\n\r\nhello",
            post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            post + b"Content-Length: +5\r\n\r\nhello",
            post + b"Content-Length: -5\r\n\r\nhello",
            post + b"Content-Length: 0x5\r\n\r\nhello",
            post + b"Content-Length: 5_0\r\n\r\nhello",
            post + b"Content-Length:\r\n\r\n",
            post + b"Content-Length: 99999999999999999999999999\r\n\r\n",
            post + b"Content-Length : 5\r\n\r\nhello",
            post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + b"X: a\r\n b\r\n\r\n",
            post + b"X: a\r\n\tb\r\n\r\n",
            b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
            post + b"X: a\n\r\n",
            post + b"X: a\r\n\n",
            post + b"X: a\nY: b\r\n\r\n",
            post + b"X: a\rb\r\n\r\n",
            post + b"X: a\0b\r\n\r\n",
            post + b"X: a\x01b\r\n\r\n",
            post + b"X: a\x7fb\r\n\r\n",
            post + b"X\0: a\r\n\r\n",
            post + b"X(: a\r\n\r\n",
            post + b": a\r\n\r\n",
            post + b"X\r\n\r\n",
            b"GET / HTTP/1.1\nHost: h\n\n",
            b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /#f HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET a HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET\r\n\r\n",
            b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"SOURCE / ICE/1.0\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            b"\0\0\0\0",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ):
            self.assertRefused(400, data)
            self.assertRefused(400, *[data[i : i + 1] for i in range(len(data))])

    def test_bad_chunks(self) -> None:
        """Chunk framing that is not exactly RFC 9112's is refused."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in (
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhelloo\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\n\r\n",
            b"5\r\nhello\r\n0\r\n\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"g\r\nhello\r\n0\r\n\r\n",
            b"FFFFFFFFFFFFFFFFF\r\nhello",
            b"5;\r\nhello\r\n0\r\n\r\n",
            b"5;a\nhello\r\n0\r\n\r\n",
            b'5;a="\n"\r\nhello\r\n0\r\n\r\n',
            b"5;\0\r\nhello\r\n0\r\n\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"0\r\nX: a\r\n b\r\n\r\n",
            b"0\r\nX: a\n\r\n",
        ):
            self.assertRefused(400, head + body)
            self.assertRefused(400, *[(head + body)[i : i + 1] for i in range(len(head + body))])

    def test_chunk_extensions_bound(self) -> None:
        """Extensions and trailers cannot be sent without end."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertRefused(400, head, *[b"1;" + b"a" * 500 + b"\r\nx\r\n"] * 50)
        self.assertRefused(400, head, b"0\r\n", *[b"T: " + b"a" * 500 + b"\r\n"] * 50)
        self.assertRefused(400, head, b"0" * 20000)

    def test_tiny_chunks_are_not_extensions(self) -> None:
        """A long body in chunks of one byte is a body."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.send(head, b"1\r\nx\r\n" * 1000, b"0\r\n\r\n")
        self.assertEqual(self.requests[0].body, b"x" * 1000)

    def test_transfer_codings(self) -> None:
        """Transfer codings other than chunked are not implemented: 501."""
        for value in (b"gzip", b"identity", b"gzip, chunked", b"xchunked", b"chunked\r\nTransfer-Encoding: gzip",
                      b"gzip\r\nTransfer-Encoding: chunked"):
            data = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: " + value + b"\r\n\r\n"
            if value.startswith(b"chunked\r\n"):
                self.assertRefused(400, data)
            else:
                self.assertRefused(501, data)

    def test_versions(self) -> None:
        """Other versions of HTTP are refused with 505."""
        for version in (b"0.9", b"2.0", b"1.2", b"3.0"):
            self.assertRefused(505, b"GET / HTTP/" + version + b"\r\nHost: h\r\n\r\n")

    def test_http2_preface(self) -> None:
        """A client that begins with HTTP/2 is told so."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
        self.assertIn(b"HTTP/2", self.assertRefused(505, preface))
        self.assertIn(b"HTTP/2", self.assertRefused(505, *[preface[i : i + 1] for i in range(len(preface))]))

    def test_tls_client_hello(self) -> None:
        """A client that begins with TLS is told so."""
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32))
        self.assertIn(b"TLS", self.assertRefused(400, hello))
        self.assertIn(b"TLS", self.assertRefused(400, b"\x16", b"\x03\x01"))

    def test_connect(self) -> None:
        """The router is no tunnel."""
        self.assertRefused(405, b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com:443\r\n\r\n")

    def test_large_head(self) -> None:
        """A head past the limit is refused with 431, whether it comes whole, in pieces or without end."""
        head = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
        self.assertRefused(431, head + b"a" * 2000 + b"\r\n\r\n")
        self.assertRefused(431, head, b"a" * 1500, b"a" * 1500)
        self.assertRefused(431, b"GET /" + b"a" * 3000)
        self.send(head + b"a" * (2000 - len(head) - 4) + b"\r\n\r\n")
        self.assertEqual(len(self.requests), 1)

    def test_large_body(self) -> None:
        """A length past the limit is refused at once with 413, in the shape that the path wants."""
        self.assertRefused(413, b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n")
        self.assertIn(b"x-path: /p", self.refused.value())
        self.assertIn(b"x-kind: request_too_large", self.refused.value())
        self.assertRefused(413, b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" + b"a" * 1001)
        self.assertRefused(413, b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n\r\n")
        self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + b"a" * 1000)
        self.assertEqual(len(self.requests), 1)

    def test_large_chunked_body(self) -> None:
        """A chunked body is refused with 413 as soon as it passes the limit."""
        head = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertRefused(413, head, b"FFFFFFFF\r\n", b"a" * 600, b"a" * 600)
        self.send(head, b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n")
        self.assertEqual(len(self.requests[0].body), 1000)

    def test_large_body_is_drained(self) -> None:
        """A client that is still sending may go on for a while, so that it reads the 413 and not a reset."""
        self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1500\r\n\r\n" + b"a" * 500)
        self.send(b"a" * 500)
        self.clock.advance(LINGER - 1)
        self.send(b"a" * 500)
        self.clock.advance(LINGER - 1)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(1.1)
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.aborted)

    def test_drain_has_bounds(self) -> None:
        """A refused client that sends for ever is cut off, by size and by time."""
        self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 150000\r\n\r\n")
        self.send(b"a" * (DRAIN * 1000 + 1))
        self.assertTrue(self.wire.disconnecting)
        self.channel, self.wire = self.connect()
        self.send(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 150000\r\n\r\n")
        for _ in range(int(LINGER_ALL)):
            self.send(b"a")
            self.clock.advance(1)
        self.assertTrue(self.wire.disconnecting)

    def test_expectation(self) -> None:
        """100 is sent once the head is accepted, and the body is then taken."""
        for framing, body in ((b"Content-Length: 2", b"hi"), (b"Transfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n")):
            self.channel, self.wire = self.connect()
            self.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n" + framing + b"\r\n\r\n")
            self.assertEqual(self.wire.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
            self.send(body)
            self.requests[-1].respond(200, TEXT, b"")
            self.assertEqual([a[0] for a in self.answers()], [100, 200])
            self.assertEqual(self.requests[-1].body, b"hi")

    def test_expectation_not_needed(self) -> None:
        """100 is not sent where the body is there already, is none, or the client would not understand it."""
        for head, body in (
            (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"hi"),
            (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nh", b"i"),
            (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", b""),
            (b"POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"hi"),
        ):
            self.channel, self.wire = self.connect()
            self.send(*([head, body] if b"1.0" in head or head.endswith(b"h") else [head + body]))
            self.assertEqual(self.wire.value(), b"", head)
            self.requests[-1].respond(200, TEXT, b"")

    def test_expectation_of_a_large_body(self) -> None:
        """Who asks first whether 2 MB are welcome gets the 413 and no 100."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
        self.assertRefused(413, head)
        self.assertNotIn(b" 100 ", self.refused.value())

    def test_unknown_expectation(self) -> None:
        """Other expectations cannot be met: 417."""
        self.assertRefused(417, b"POST / HTTP/1.1\r\nHost: h\r\nExpect: the-unexpected\r\nContent-Length: 2\r\n\r\n")
        self.assertRefused(417, b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n")

    def test_refusal_behind_an_answer(self) -> None:
        """A bad request behind a good one is refused after the good one's answer."""
        self.send(GET + b"bad\r\n\r\n")
        self.assertEqual(self.wire.value(), b"")
        self.requests[0].respond(200, TEXT, b"first")
        self.assertEqual([a[0] for a in self.answers()], [200, 400])

    def test_head_method_gets_no_body(self) -> None:
        """A refused ``HEAD`` request is answered without a body."""
        self.send(b"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n")
        self.assertTrue(self.wire.value().startswith(b"HTTP/1.1 413 "))
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))

    def test_refuse_that_fails(self) -> None:
        """Where the caller's error body cannot be built, the client still gets the status and the reason."""
        def broken(error: RouterError, request: Request | None) -> Any:
            raise KeyError("oops")

        def impossible(error: RouterError, request: Request | None) -> Any:
            return 99, [], b""

        for refusal in (broken, impossible):
            self.factory.refuse = refusal
            self.assertRefused(400, b"bad\r\n\r\n")
            self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_factory_refuses_any_callable_error(self) -> None:
        """The kinds say whose fault it was: the client's."""
        seen: list[RouterError] = []

        def keep(error: RouterError, request: Request | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            seen.append(error)
            return refuse(error, request)

        self.factory.refuse = keep
        self.assertRefused(400, b"bad\r\n\r\n")
        self.assertRefused(501, b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n")
        self.assertEqual([e.kind for e in seen], [Kind.BAD_REQUEST, Kind.NOT_SUPPORTED])


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


class OrderTests(ChannelCase):
    """Several requests on one connection, and clients that read slowly."""

    def test_pipelined(self) -> None:
        """Requests sent at once are handled one after another, each when the one before it is answered."""
        self.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % (i, i) for i in range(4)))
        for i in range(4):
            self.assertEqual(len(self.requests), i + 1)
            self.assertEqual(self.factory.requests_open, 1)
            self.requests[i].respond(200, [], b"%d" % i)
        self.assertEqual([a[2] for a in self.answers()], [b"0", b"1", b"2", b"3"])
        self.assertEqual(self.factory.requests_open, 0)

    def test_many_pipelined(self) -> None:
        """Thousands of requests answered at once need no stack."""
        self.echo = True
        self.send(GET * 5000)
        self.assertEqual(len(self.answers()), 5000)
        self.assertEqual(self.wire.producerState, "producing")

    def test_ahead_is_bounded(self) -> None:
        """A client far ahead of its answers is no longer read, and read again when it has been caught up with."""
        self.send(GET)
        more = b"POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n" + b"a" * 40000
        self.send(more)
        self.assertEqual(self.wire.producerState, "producing")
        self.send(more)
        self.assertEqual(self.wire.producerState, "paused")
        self.requests[0].respond(200, [], b"")
        self.assertEqual(self.wire.producerState, "producing")
        self.requests[1].respond(200, [], b"")
        self.requests[2].respond(200, [], b"")
        self.assertEqual([r.path for r in self.requests], [b"/x", b"/y", b"/y"])
        self.assertEqual(len(self.answers()), 3)

    def test_body_that_began_ahead(self) -> None:
        """Reading goes on when what waited is the beginning of a large body."""
        self.send(GET, b"POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n", b"a" * (AHEAD + 1))
        self.assertEqual(self.wire.producerState, "paused")
        self.requests[0].respond(200, [], b"")
        self.assertEqual(self.wire.producerState, "producing")
        self.send(b"a" * (200000 - AHEAD - 1))
        self.assertEqual(len(self.requests[1].body), 200000)

    def test_slow_reader_stops_pipelining(self) -> None:
        """While a client does not read, none of its further requests is begun."""
        self.echo = True
        self.channel.pauseProducing()
        self.send(GET + GET)
        self.assertEqual(self.requests, [])
        self.channel.resumeProducing()
        self.assertEqual(len(self.answers()), 2)

    def test_slow_reader_in_the_middle(self) -> None:
        """The answer that fills the client's buffer is the last one until it has read."""
        def fill(request: Request) -> None:
            self.requests.append(request)
            request.respond(200, [], b"x")
            self.channel.pauseProducing()

        self.factory.handle = fill
        self.send(GET + GET + GET)
        self.assertEqual(len(self.requests), 1)
        self.channel.resumeProducing()
        self.assertEqual(len(self.requests), 2)
        self.channel.resumeProducing()
        self.assertEqual(len(self.requests), 3)

    def test_throttle(self) -> None:
        """A producer runs at the client's pace until the answer ends, and is left running."""
        self.send(GET)
        producer = Producer()
        self.requests[0].start(200, [])
        self.requests[0].throttle(producer)
        self.assertIs(self.wire.producer, self.channel)
        self.assertTrue(self.wire.streaming)
        self.channel.pauseProducing()
        self.channel.resumeProducing()
        self.channel.pauseProducing()
        self.assertEqual(producer.calls, ["pause", "resume", "pause"])
        self.requests[0].finish()
        self.assertEqual(producer.calls, ["pause", "resume", "pause", "resume"])
        self.channel.resumeProducing()
        self.channel.pauseProducing()
        self.assertEqual(len(producer.calls), 4)

    def test_throttle_of_a_choked_client(self) -> None:
        """A producer that comes when the client does not read is paused at once; after an abort it is let be."""
        self.send(GET)
        producer = Producer()
        self.requests[0].start(200, [])
        self.channel.pauseProducing()
        self.requests[0].throttle(producer)
        self.assertEqual(producer.calls, ["pause"])
        self.requests[0].abort()
        self.channel.resumeProducing()
        self.assertEqual(producer.calls, ["pause"])


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
