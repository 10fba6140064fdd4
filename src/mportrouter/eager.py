"""
Writing to a socket at once.

Twisted's transports queue what they are given and write it when the poller says that the socket is writable, one turn
of the loop later: two more system calls and one more dispatch a message. A proxy's messages nearly always fit into the
socket's buffer, so they are offered to it first, and only what it does not take goes the usual way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


class Outlet:
    """
    The way out of one connection: straight to the socket for as long as nothing was ever left to the transport.

    Once the socket has not taken everything, all that follows goes through the transport, in order. So does everything
    on any transport that is not a plain socket of Twisted's own. That is decided by its type, not by its attributes: a
    TLS transport hands through those of the socket below it, and what is written there goes out in the clear.

    :param transport: of a protocol that is connected, with nothing written to it yet.
    """

    __slots__ = ("_socket", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        plain = isinstance(transport, Connection) and not transport.TLS
        self._socket = transport.getHandle() if plain else None

    def write(self, data: bytes) -> None:
        """Write ``data`` as far as the socket takes it now, and leave the rest to the transport."""
        socket = self._socket
        if socket is not None:
            try:
                sent = socket.send(data)
            except OSError:  # full, broken or closed: the transport knows, or will find out
                sent = 0
            if sent == len(data):
                return
            self._socket = None
            data = data[sent:]
        self._transport.write(data)

    def leave(self) -> None:
        """Let everything from now on go through the transport: something is written to it by others."""
        self._socket = None
