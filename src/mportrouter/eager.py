"""
Writing to a socket at once.

Twisted's transports queue what they are given and write it when the poller says that the socket is writable, one turn
of the loop later: two more system calls and one more dispatch a message. A proxy's messages nearly always fit into the
socket's buffer, so they are offered to it first, and only what it does not take goes the usual way.

Where the reactor has an *outbox* (:mod:`mportrouter.reactor`), what is written while it dispatches a round of events
is offered when the round is over. A send to a process that sleeps wakes it, which costs more than the sending; of many
sends in a row only the first finds it asleep.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection

#: Bytes of several writes that may wait together.
_HELD = 64 * 1024


class Outlet:
    """
    The way out of one connection: straight to the socket for as long as nothing was ever left to the transport.

    Once the socket has not taken everything, all that follows goes through the transport, in order. So does everything
    on any transport that is not a plain socket of Twisted's own. That is decided by its type, not by its attributes: a
    TLS transport hands through those of the socket below it, and what is written there goes out in the clear.

    Whoever closes the connection calls :meth:`flush` or :meth:`discard` first.

    :param transport: of a protocol that is connected, with nothing written to it yet.
    """

    __slots__ = ("_held", "_outbox", "_socket", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        plain = isinstance(transport, Connection) and not transport.TLS
        self._socket = transport.getHandle() if plain else None
        self._outbox: list[Outlet] | None = getattr(transport.reactor, "outbox", None) if plain else None
        self._held = b""

    def write(self, data: bytes) -> None:
        """Write ``data`` at the end of the reactor's round, or now where it has none."""
        if self._outbox is None:
            self._offer(data)
        elif self._held:
            self._held += data
            if len(self._held) > _HELD:
                self.flush()
        elif data:
            self._held = data
            self._outbox.append(self)

    def flush(self) -> None:
        """Write now what waits for the end of the round."""
        data = self._held
        if data:
            self._held = b""
            self._offer(data)

    def discard(self) -> None:
        """Never write what waits for the end of the round."""
        self._held = b""

    def _offer(self, data: bytes) -> None:
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
        self.flush()
        self._socket = self._outbox = None
