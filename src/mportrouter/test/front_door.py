"""A front door on an in-memory transport, for the tests of its protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ..errors import RouterError
from ..settings import FrontSettings
from ..web.http1 import HTTPChannel, HTTPServerFactory
from ..web.request import Request

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
