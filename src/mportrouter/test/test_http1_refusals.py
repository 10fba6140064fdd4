"""What is no request is refused by the front door."""

from __future__ import annotations

from typing import Any

from ..errors import Kind, RouterError
from ..settings import FrontSettings
from ..web.http1 import DRAIN, LINGER, LINGER_ALL
from ..web.request import Request
from .front_door import GET, TEXT, ChannelCase, refuse


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
