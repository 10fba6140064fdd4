"""Port services: a listening port, the mode it is bound to, and what went through it."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.application.internet import TCPServer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP

from .settings import FrontSettings, PortSettings
from .web.http1 import HTTPServerFactory


class PortService(TCPServer):
    """
    One listening TCP port.

    :ivar settings: what the configuration says of it.
    :ivar mode: the name of the mode in force; for a port that was switched at run time not that of ``settings``.
    :ivar requests: requests taken since the start.
    :param host: the address to bind to.
    :param factory: speaks HTTP on its connections.
    """

    def __init__(self, reactor: IReactorTCP, settings: PortSettings, host: str, factory: HTTPServerFactory) -> None:
        super().__init__(settings.port, factory, backlog=511, interface=host, reactor=reactor)
        self.setName(f"port:{settings.port}")
        self.settings = settings
        self.host = host
        self.factory = factory
        self.mode = settings.mode
        self.requests = 0

    @property
    def number(self) -> int:
        """The port number."""
        return self.settings.port

    @property
    def listening(self) -> bool:
        """Whether it accepts connections now."""
        return bool(self.running)

    def drain(self) -> Deferred[Any]:
        """
        Stop accepting, and let the exchanges under way finish.

        :returns: fires when the last one is done.
        """
        stopped = super().stopService() if self.running else succeed(None)
        finished = self.factory.drain()
        return (stopped or succeed(None)).addCallback(lambda _: finished)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting and cut what is still under way; :meth:`drain` first to let it finish."""
        stopped = super().stopService() if self.running else succeed(None)
        self.factory.abort_all()
        return stopped or succeed(None)


def front_for(front: FrontSettings, port: PortSettings) -> FrontSettings:
    """The limits of the front door at a port that may have some of its own."""
    return front if port.body_bytes is None else attrs.evolve(front, body_bytes=port.body_bytes)


def refuse_taken(host: str, number: int) -> None:
    """
    See whether a port can be bound, before the process becomes a daemon whose terminal nobody reads.

    :raises CannotListenError: it is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            raise CannotListenError(host, number, error) from error
