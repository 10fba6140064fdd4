"""Writing to a socket at once, or together with others at the end of a round."""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from ..eager import Outlet


class Socket:
    """Takes so many bytes of each send; ``None``: it is broken."""

    def __init__(self, *takes: int | None) -> None:
        self.takes = list(takes)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        take = self.takes.pop(0) if self.takes else len(data)
        if take is None:
            raise BrokenPipeError("broken")
        self.sent.append(data[:take])
        return min(take, len(data))


class Reactor:
    """One with an outbox."""

    def __init__(self) -> None:
        self.outbox: list[Outlet] = []


class Plain(Connection):
    """A plain transport that keeps what it is given."""

    def __init__(self, socket: Socket, reactor: Any) -> None:
        self.socket: Any = socket
        self.reactor = reactor
        self.written: list[bytes] = []

    def getHandle(self) -> Any:
        return self.socket

    def write(self, data: bytes) -> None:
        self.written.append(data)


class OutletTests(SynchronousTestCase):
    """One way out."""

    def test_at_once(self) -> None:
        """Without an outbox the socket gets everything now, and the transport nothing."""
        socket = Socket()
        transport = Plain(socket, object())
        outlet = Outlet(transport)
        outlet.write(b"one")
        outlet.write(b"two")
        self.assertEqual((socket.sent, transport.written), ([b"one", b"two"], []))

    def test_end_of_the_round(self) -> None:
        """With one, writes wait for the flush, are joined in order, and stand in the outbox once."""
        socket, reactor = Socket(), Reactor()
        outlet = Outlet(Plain(socket, reactor))
        outlet.write(b"")
        self.assertEqual(reactor.outbox, [])
        outlet.write(b"one")
        outlet.write(b"two")
        self.assertEqual((socket.sent, reactor.outbox), ([], [outlet]))
        outlet.flush()
        outlet.flush()
        self.assertEqual(socket.sent, [b"onetwo"])

    def test_much(self) -> None:
        """More than a little does not wait."""
        socket, reactor = Socket(), Reactor()
        outlet = Outlet(Plain(socket, reactor))
        outlet.write(b"x" * 60_000)
        outlet.write(b"y" * 60_000)
        self.assertEqual(socket.sent, [b"x" * 60_000 + b"y" * 60_000])
        outlet.write(b"z")
        for each in reactor.outbox:
            each.flush()
        self.assertEqual(socket.sent[1:], [b"z"])

    def test_rest(self) -> None:
        """What the socket does not take goes through the transport, and so does all that follows, in order."""
        for reactor in (object(), Reactor()):
            for take in (2, 0, None):
                socket = Socket(take)
                transport = Plain(socket, reactor)
                outlet = Outlet(transport)
                for data in (b"abcd", b"ef", b"gh"):
                    outlet.write(data)
                    outlet.flush()
                self.assertEqual(b"".join(socket.sent + transport.written), b"abcdefgh")
                self.assertEqual(len(socket.sent), 0 if take is None else 1)

    def test_leave(self) -> None:
        """Whoever writes to the transport himself comes behind what waited, and nothing passes him later."""
        socket, reactor = Socket(), Reactor()
        transport = Plain(socket, reactor)
        outlet = Outlet(transport)
        outlet.write(b"one")
        outlet.leave()
        transport.write(b"two")
        outlet.write(b"three")
        self.assertEqual((socket.sent, transport.written), ([b"one"], [b"two", b"three"]))

    def test_discard(self) -> None:
        """What is not wanted any more is never sent."""
        socket, reactor = Socket(), Reactor()
        outlet = Outlet(Plain(socket, reactor))
        outlet.write(b"one")
        outlet.discard()
        for each in reactor.outbox:
            each.flush()
        self.assertEqual(socket.sent, [])

    def test_other_transports(self) -> None:
        """On anything but a plain socket of Twisted's own, also one that has begun TLS, the transport writes."""
        string: Any = StringTransport()
        Outlet(string).write(b"one")
        self.assertEqual(string.value(), b"one")
        socket, reactor = Socket(), Reactor()
        secured = Plain(socket, reactor)
        secured.TLS = True
        Outlet(secured).write(b"one")
        self.assertEqual((socket.sent, secured.written, reactor.outbox), ([], [b"one"], []))
