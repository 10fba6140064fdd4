"""Whether a silent client is still there, with a kernel of our own."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from ..web import peer

CLIENT, SERVER = IPv4Address("TCP", "127.0.0.1", 50000), IPv4Address("TCP", "127.0.0.1", 8787)


def found(inode: int, type: int = 20) -> bytes:
    """The kernel's answer about a socket: ``struct inet_diag_msg`` behind a netlink header."""
    message = struct.pack("=BBBB", socket.AF_INET, 5, 0, 0) + b"\0" * 48 + struct.pack("=IIIII", 0, 0, 0, 1000, inode)
    return struct.pack("=IHHII", 16 + len(message), type, 0, 1, 0) + message


#: ``NLMSG_ERROR`` with ``ENOENT``.
MISSING = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -2) + b"\0" * 16


class HasClosedTests(SynchronousTestCase):
    """One look."""

    def look(self, answer: bytes, client: Any = CLIENT, server: Any = SERVER) -> bool:
        self.asked: list[bytes] = []

        def ask(message: bytes) -> bytes:
            self.asked.append(message)
            return answer

        return peer.has_closed(StringTransport(server, client), ask)

    def test_answers(self) -> None:
        """A socket without an inode is closed; one with an inode, no socket, and no answer tell nothing of the kind."""
        self.assertTrue(self.look(found(0)))
        for answer in (found(4711), MISSING, b"", b"\0" * 16, found(0)[:-1], found(0, type=2)):
            self.assertFalse(self.look(answer))

    def test_question(self) -> None:
        """The client's own end is asked for, by both addresses and ports."""
        self.look(b"")
        [message] = self.asked
        self.assertEqual(struct.unpack_from("=IHH", message), (len(message), 20, 1))
        self.assertEqual(struct.unpack_from("=BB", message, 16), (socket.AF_INET, socket.IPPROTO_TCP))
        self.assertEqual(struct.unpack_from("!HH4s", message, 24), (50000, 8787, b"\x7f\0\0\1"))
        self.assertEqual(message[44:48], b"\x7f\0\0\1")

    def test_ipv6(self) -> None:
        """The same for IPv6, with a zone or without."""
        self.assertTrue(self.look(found(0), IPv6Address("TCP", "fe80::1%lo", 1), IPv6Address("TCP", "::1", 2)))
        self.assertEqual(self.asked[0][28:44], socket.inet_pton(socket.AF_INET6, "fe80::1"))

    def test_other_transports(self) -> None:
        """Nothing is asked about what is not TCP."""
        self.assertFalse(self.look(found(0), UNIXAddress(b""), UNIXAddress(b"/x")))
        self.assertFalse(self.look(found(0), CLIENT, IPv6Address("TCP", "::1", 2)))
        self.assertEqual(self.asked, [])

    def test_no_netlink(self) -> None:
        """Where the system has no such socket, or refuses it, nothing is known."""
        self.patch(peer.socket, "AF_NETLINK", None)
        self.assertEqual(peer.ask(b""), b"")
        self.patch(peer.socket, "AF_NETLINK", 9999)
        self.assertEqual(peer.ask(b""), b"")


class PeerWatchTests(SynchronousTestCase):
    """Many looks."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.closed = False
        self.looks = 0
        self.calls: list[int] = []
        self.patch(peer, "has_closed", self.look)
        self.watch = peer.PeerWatch(self.clock, None, lambda: self.calls.append(1))

    def look(self, transport: Any) -> bool:
        self.looks += 1
        return self.closed

    def test_soon_then_slowly(self) -> None:
        """The first look is soon, later ones come once a second."""
        self.clock.advance(0.05)
        self.assertEqual(self.looks, 1)
        self.clock.pump([0.1] * 100)
        self.assertTrue(10 <= self.looks <= 13, self.looks)
        self.assertEqual(self.calls, [])

    def test_closed(self) -> None:
        """Once the client has closed the watch says so, once, and ends."""
        self.clock.pump([0.5] * 10)
        self.closed = True
        self.clock.pump([0.5] * 10)
        self.assertEqual((self.calls, self.clock.getDelayedCalls()), ([1], []))
        self.watch.stop()

    def test_stop(self) -> None:
        """A watch that is stopped looks no more."""
        self.watch.stop()
        self.watch.stop()
        self.clock.advance(100)
        self.assertEqual((self.looks, self.clock.getDelayedCalls()), (0, []))
