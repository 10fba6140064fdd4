"""Tests for :mod:`mportrouter.connection`: back-pressure, uploads, and writing straight to the socket."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from ..connection import UNPACED_BODY
from ..errors import Kind
from .wires import OK, ConnectionTestCase, Sink


class FlowTests(ConnectionTestCase):
    """Back-pressure, both ways."""

    def test_pause(self):
        """Pausing the call stops the reading, resuming goes on."""
        call = self.send()
        call.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        call.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_paused_at_the_end(self):
        """A call that ends while it is paused does not leave the connection deaf, nor can it pause its successor."""
        call = self.send()
        call.pauseProducing()
        self.connection.dataReceived(OK)
        self.assertEqual(self.transport.producerState, "producing")
        self.sink = Sink()
        self.send()
        call.pauseProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_large_upload(self):
        """A large body is written as the transport takes it, in order and whole."""
        body = bytes(range(256)) * (UNPACED_BODY // 256) + b"end"
        writes = []

        def write(piece):
            writes.append(piece)
            self.transport.producer.pauseProducing()

        self.transport.write = write
        self.send(body, head=b"HEAD")
        self.assertEqual(writes, [b"HEAD"])
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        self.assertEqual(b"".join(writes), b"HEAD" + body)
        self.assertLess(max(map(len, writes)), UNPACED_BODY)
        self.connection.dataReceived(OK)
        self.assertEqual(self.keeper.told, ["ready", "kept"])

    def test_answer_before_the_upload_ends(self):
        """An answer that does not wait for the body (413, 401) is handed on, the rest of the body is not sent."""
        self.transport.write = lambda piece: self.transport.producer.pauseProducing()
        self.send(b"x" * (UNPACED_BODY + 1))
        self.connection.dataReceived(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.sink.status, 413)
        self.assertIsNone(self.sink.failure)
        self.assertIsNone(self.transport.producer)
        self.assertEqual(self.keeper.told, ["ready", "not kept"])

    def test_abort_inside_an_upload(self):
        """The client leaving stops the upload."""
        self.transport.write = lambda piece: self.transport.producer.pauseProducing()
        call = self.send(b"x" * (UNPACED_BODY + 1))
        producer = self.transport.producer
        call.abort()
        self.assertIsNone(self.transport.producer)
        producer.resumeProducing()
        producer.stopProducing()

    def test_lost_inside_an_upload(self):
        """A connection that breaks inside an upload is a network failure."""
        self.transport.write = lambda piece: self.transport.producer.pauseProducing()
        self.send(b"x" * (UNPACED_BODY + 1))
        self.transport.producer.stopProducing()
        self.lose(ConnectionLost())
        self.assertEqual(self.verdict.kind, Kind.NETWORK)


class Socket:
    """Takes so many bytes a time; ``None``: it is full."""

    def __init__(self, *takes):
        self.takes = list(takes)
        self.taken = []

    def send(self, data):
        take = self.takes.pop(0)
        if take is None:
            raise BlockingIOError
        self.taken.append(data[:take])
        return min(take, len(data))


class DirectWriteTests(ConnectionTestCase):
    """Requests that go straight to the socket."""

    def answered(self, body):
        self.sink = Sink()
        self.send(body, head=b"")
        self.connection.dataReceived(OK)

    def test_whole(self):
        """What the socket takes never sees the transport's buffer."""
        self.connection._outlet._socket = socket = Socket(99, 99)
        self.answered(b"one")
        self.answered(b"two")
        self.assertEqual(socket.taken, [b"one", b"two"])
        self.assertEqual(self.transport.value(), b"")

    def test_partly(self):
        """What the socket leaves, and everything later, goes through the transport, in order."""
        self.connection._outlet._socket = socket = Socket(1)
        self.answered(b"one")
        self.answered(b"two")
        self.assertEqual(socket.taken, [b"o"])
        self.assertEqual(self.transport.value(), b"netwo")

    def test_full_or_broken(self):
        """A socket that takes nothing leaves it to the transport to find out why."""
        self.connection._outlet._socket = Socket(None)
        self.answered(b"one")
        self.assertEqual(self.transport.value(), b"one")
