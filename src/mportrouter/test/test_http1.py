"""What arrives at the front door becomes requests, one after another."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from ..web.http1 import AHEAD
from ..web.request import Request
from .front_door import GET, ChannelCase, Producer


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
