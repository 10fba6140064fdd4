"""The front door's HTTP/1.1 protocol against arbitrary cuts, damaged requests and noise."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ..errors import RouterError
from ..settings import FrontSettings
from ..web.head import HeadReader
from ..web.http1 import LINGER, HTTPServerFactory
from ..web.request import Request
from .front_door import Wire, heads_and_bodies, refuse

FRONT = FrontSettings(header_bytes=4096, body_bytes=2000, header_seconds=10, body_seconds=20, keepalive_seconds=60)
FUZZ = settings(max_examples=200, deadline=None, database=None)

# ------------------------------------------------------------------------------------------ valid requests

TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=8).map(str.encode)
VALUES = st.text("ab: ;,=\"\\é", max_size=12).map(lambda text: text.encode("latin-1").strip())
TRAPS = st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 900])
BODIES = st.one_of(st.binary(max_size=80), TRAPS)


@st.composite
def chunked(draw: Any, body: bytes) -> bytes:
    """The body in chunks of any sizes, with extensions and trailers."""
    out = b""
    while body:
        size = draw(st.integers(1, len(body)))
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"']))
        digits = draw(st.sampled_from([b"%x", b"%X", b"00%x"]))
        out += digits % size + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    return out + b"0\r\n" + draw(st.sampled_from([b"", b"T: v\r\n", b"T: v\r\nU:\r\n"])) + b"\r\n"


@st.composite
def requests(draw: Any) -> tuple[bytes, tuple[Any, ...], bool]:
    """A valid request: its bytes, what must be seen of it, whether the connection goes on."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]))
    path = b"/" + draw(TOKENS)
    query = draw(st.sampled_from([b"", b"beta=true", b"a?b"]))
    fields = [(b"x-" + name, value) for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=4))]
    version = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (1, 0)]))
    keep = draw(st.booleans()) or draw(st.booleans())
    body = draw(BODIES)
    lines = [b"Host: localhost"]
    lines += [name + draw(st.sampled_from([b":", b": ", b":\t "])) + value for name, value in fields]
    if version == (1, 0):
        lines += [b"Connection: keep-alive"] * keep
    elif not keep:
        lines.append(b"connection: close")
    payload = body
    if version == (1, 1) and draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        payload = draw(chunked(body))
    elif body or draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
    lines = draw(st.permutations(lines))
    target = path + (b"?" + query if query else b"")
    data = b"%b %b HTTP/%d.%d\r\n%b\r\n\r\n" % (method, target, *version, b"\r\n".join(lines)) + payload
    seen = (method, path, query, version, sorted((n.lower(), v) for n, v in fields), body)
    return draw(st.sampled_from([b"", b"", b"\r\n"])) + data, seen, keep


@st.composite
def cuts(draw: Any, data: bytes) -> list[bytes]:
    """The bytes in pieces: all at once, one by one, or cut anywhere."""
    way = draw(st.integers(0, 3))
    if way == 0 or not data:
        return [data] if data else []
    if way == 1:
        return [data[i : i + 1] for i in range(len(data))]
    points = sorted(set(draw(st.lists(st.integers(1, len(data)), max_size=8))) | {len(data)})
    return [data[a:b] for a, b in zip([0, *points], points, strict=False) if b > a]


@st.composite
def conversations(draw: Any) -> tuple[list[bytes], list[tuple[Any, ...]], bool]:
    """Pipelined valid requests in pieces, what must be seen of them, and whether the connection stays."""
    drawn = draw(st.lists(requests(), min_size=1, max_size=5))
    data, seen, keep = b"", [], True
    for one, look, stays in drawn:
        data += one
        if keep:
            seen.append(look)
        keep = keep and stays
    return draw(cuts(data)), seen, keep


# ------------------------------------------------------------------------------------------ noise

SCRAPS = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 99999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"FFFFFFFF\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"HTTP/1.0\r\n",
    b"HEAD / HTTP/1.0\r\n",
    b"x" * 3000,
    b"X: " + b"y" * 3000 + b"\r\n",
    b"Host: h\r\n\r\n",
]
NOISE = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=4)), max_size=14).map(b"".join),
)


@st.composite
def damaged(draw: Any) -> bytes:
    """A valid request with a few bytes taken out, put in or changed."""
    data = bytearray(draw(requests())[0])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"\r\n", b"0", b"-", b"\xff", b","])
        )
    return bytes(data)


@st.composite
def similar_heads(draw: Any) -> list[bytes]:
    """Heads that are nearly the same, most of them valid."""
    length = draw(st.sampled_from([b"Content-Length:%b", b"content-length: %b ", b"X-Length: %b"]))
    lines = draw(st.permutations([b"Host: h", b"X: y", length]))
    head = b"%b /%b HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
    good = [b"0", b"1", b"7", b"12", b"007", b"123", b"9" * 18, b"9" * 19, b"1\r\nX: y", b"1\r\n\r\nHost: h"]
    bad = [b"", b"+1", b"-1", b"1,1", b"1 1", b"1\r\nContent-Length: 1", b"1\r\n 1", b"1\n", b"9" * 30, b"\xb2", b"0x1"]
    lengths = st.sampled_from(good + good + bad)
    heads = st.tuples(st.sampled_from([b"POST", b"POST", b"PUT"]), st.sampled_from([b"", b"", b"a"]), lengths)
    return [head % parts for parts in draw(st.lists(heads, min_size=2, max_size=6))]


def read(reader: HeadReader, data: bytes) -> tuple[Any, ...]:
    """What a reader makes of a head."""
    try:
        rest = reader.feed(data)
    except RouterError as error:
        return error.status, error.message
    look = (rest, reader.method, reader.target, reader.path, reader.query, reader.version, list(reader.headers))
    return (*look, reader.length, reader.chunked, reader.keep_alive, reader.expects)


class Server:
    """A connection whose requests are answered at once or, where ``later`` is set, by :meth:`answer`."""

    def __init__(self, later: bool = False) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.later = later
        self.waiting: list[Request] = []
        self.seen: list[tuple[Any, ...]] = []
        self.factory = HTTPServerFactory(self.handle, FRONT, self.clock, 1, refuse=refuse)
        self.channel = self.factory.buildProtocol(None)
        self.channel.makeConnection(self.wire)

    def handle(self, request: Request) -> None:
        extra = sorted(field for field in request.headers if field[0].startswith(b"x-"))
        self.seen.append((request.method, request.path, request.query, request.version, extra, request.body))
        self.waiting.append(request)
        assert len(self.waiting) == 1, "two requests of one connection at a time"
        if not self.later:
            self.answer()

    def answer(self) -> None:
        """Answer what waits: every second time in pieces."""
        request = self.waiting.pop()
        if len(self.seen) % 2:
            request.respond(200, [(b"x-path", request.path)], request.body)
        else:
            # Without a length an HTTP/1.0 connection would have to end.
            length = None if request.version == (1, 1) else len(request.body)
            request.start(200, [(b"x-path", request.path)], length, request.body[:1])
            request.write(request.body[1:3])
            request.finish(request.body[3:])

    def feed(self, pieces: list[bytes]) -> None:
        """Deliver the pieces as a transport does: none once the connection is closed."""
        for piece in pieces:
            if not self.wire.disconnecting:
                self.channel.dataReceived(piece)

    def settle(self) -> None:
        """Answer everything that waits."""
        while self.waiting:
            self.answer()


class FuzzTests(SynchronousTestCase):
    """Properties of every conversation."""

    @FUZZ
    @given(conversations(), st.booleans())
    def test_cuts_do_not_matter(
        self, conversation: tuple[list[bytes], list[tuple[Any, ...]], bool], later: bool
    ) -> None:
        """However valid pipelined requests are cut, the same requests are seen and the same answers given, in order."""
        pieces, expected, keep = conversation
        server = Server(later)
        server.feed(pieces)
        server.settle()
        self.assertEqual(server.seen, expected)
        answers = heads_and_bodies(server.wire.value())
        self.assertEqual([(a[0], a[1][b"x-path"], a[2]) for a in answers],
                         [(200, look[1], look[5]) for look in expected])
        lingering = ("half-close",) in server.wire.calls
        self.assertEqual(server.wire.disconnecting or lingering, not keep)
        self.assertEqual((server.factory.requests_open, server.wire.aborted), (0, False))

    @FUZZ
    @given(st.one_of(NOISE, damaged()), st.data())
    def test_noise(self, noise: bytes, data: st.DataObject) -> None:
        """No bytes raise; all that is begun is answered or closed in bounded time; cuts do not change the answers."""
        answered: list[list[int]] = []
        for pieces in ([noise] if noise else [], data.draw(cuts(noise))):
            server = Server()
            server.feed(pieces)
            open_before = not server.wire.disconnecting
            if open_before:
                server.clock.pump([1] * int(FRONT.body_seconds + LINGER + 1))
                server.clock.advance(FRONT.keepalive_seconds + 1)
            self.assertTrue(server.wire.disconnecting, noise)
            value = server.wire.value()
            if b"HEAD " not in noise:
                # Which of two faults is found first may depend on the cuts.
                answered.append([min(a[0], 400) for a in heads_and_bodies(value) if a[0] != 100])
            for call in server.clock.getDelayedCalls():
                call.cancel()
        self.assertEqual(answered[1:], answered[:1] if answered else [])

    @FUZZ
    @given(conversations(), st.integers(0, 400), st.booleans(), st.booleans())
    def test_client_leaves_anywhere(
        self, conversation: tuple[list[bytes], list[tuple[Any, ...]], bool], at: int, half: bool, later: bool
    ) -> None:
        """A client may end, or half-end, after any byte: nothing raises or stays behind, each waiter is told once."""
        data = b"".join(conversation[0])[:at]
        server = Server(later)
        gone: list[int] = []
        server.feed([data] if data else [])
        for request in server.waiting:
            request.on_gone = lambda: gone.append(1)
        waiting = len(server.waiting)
        if half:
            if not server.wire.disconnecting:
                server.channel.readConnectionLost()
            server.settle()
            self.assertTrue(server.wire.disconnecting)
            waiting = 0
        if not server.wire.disconnecting or half:
            server.channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(gone), waiting)
            self.assertEqual(server.clock.getDelayedCalls(), [])
            server.settle()
        self.assertEqual((server.factory.requests_open, not server.wire.disconnecting and not server.factory.channels),
                         (0, not half and not server.wire.disconnecting))

    @FUZZ
    @given(similar_heads(), st.booleans())
    def test_memory_changes_nothing(self, heads: list[bytes], cut: bool) -> None:
        """A reader that remembers an earlier head makes of each head just what a new reader makes of it."""
        reader = HeadReader(4096)
        for head in heads:
            expected = read(HeadReader(4096), head)
            self.assertEqual(read(reader, head), expected)
            if len(expected) == 2:
                reader = HeadReader(4096)
            reader.reset()
            if cut:
                reader.feed(b"PATCH /z HTTP/1.1\r\n")
                reader.feed(b"Host: z\r\nContent-Length: 3\r\n\r\n")
                reader.reset()
