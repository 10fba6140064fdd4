"""
Has the client gone, or has it only finished sending?

Both look the same on our socket: a FIN. A client that waits for its answer must get it; one that has closed its socket
must not have an answer generated, and paid for, that nobody reads. On Linux, and for a client on the same machine, the
kernel tells: a socket that its program has closed has no inode any more. Anywhere else the answer is "not known", and
the next writes find out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, IReactorTime

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_SOCKET_ID = struct.Struct("!HH16s16sI8s")
_INODE = struct.Struct("=I")
#: Where ``idiag_inode`` is in an answer: behind the netlink header, four bytes, the socket's id and four numbers.
_INODE_AT = _HEADER.size + 4 + _SOCKET_ID.size + 4 * 4

#: Seconds until each look, and between all later ones. At the moment of the FIN the closing may still be under way.
_LOOKS = (0.05, 0.2, 0.5)
_LATER = 1.0


def question(address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> bytes:
    """The netlink message that asks for the one TCP socket at ``address`` that is connected to ``other``."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    ends = [socket.inet_pton(family, end.host.partition("%")[0]) for end in (address, other)]
    # The cookie of all ones stands for any socket.
    id = _SOCKET_ID.pack(address.port, other.port, *ends, 0, b"\xff" * 8)
    message = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + id
    return _HEADER.pack(_HEADER.size + len(message), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + message


def ask(message: bytes) -> bytes:
    """
    Ask the kernel. It answers before ``send`` returns, so nothing waits here.

    :returns: its answer, empty where it cannot be asked.
    """
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return b""
    try:
        with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asking:
            asking.setblocking(False)
            asking.send(message)
            return asking.recv(4096)
    except OSError:
        return b""


def has_closed(transport: Any, ask: Callable[[bytes], bytes] = ask) -> bool:
    """
    Whether it is known that the program at the other end has closed its socket.

    :param transport: of a TCP connection.
    """
    address, here = transport.getPeer(), transport.getHost()
    if type(address) is not type(here) or not isinstance(address, (IPv4Address, IPv6Address)):
        return False
    answer = ask(question(address, here))
    if len(answer) < _INODE_AT + _INODE.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        # No such socket on this machine, or nobody to ask.
        return False
    return bool(_INODE.unpack_from(answer, _INODE_AT)[0] == 0)


class PeerWatch:
    """
    Looks now and then whether a client is still there that can no longer be heard.

    :param clock: the reactor.
    :param transport: its connection.
    :param closed: called without arguments once the client is known to have closed; then the watch is over.
    """

    __slots__ = ("_call", "_clock", "_closed", "_looks", "_transport")

    def __init__(self, clock: IReactorTime, transport: Any, closed: Callable[[], None]) -> None:
        self._clock = clock
        self._transport = transport
        self._closed = closed
        self._looks = 0
        self._call: IDelayedCall | None = None
        self._later()

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _later(self) -> None:
        delay = _LOOKS[self._looks] if self._looks < len(_LOOKS) else _LATER
        self._looks += 1
        self._call = self._clock.callLater(delay, self._look)

    def _look(self) -> None:
        self._call = None
        if has_closed(self._transport):
            self._closed()
        else:
            self._later()
