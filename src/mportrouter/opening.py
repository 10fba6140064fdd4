"""
How a connection comes about: where to, by which way, and within which time.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Shape
from urllib.parse import urlsplit

import attrs
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from .connection import Call, Connection, Keeper, network_failure
from .errors import Kind, Verdict
from .tls import TLSFactory, TLSFailure, VerifyingCreator, ascii_host


@attrs.frozen
class Origin:
    """Scheme, host and port of a server."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """
        The origin of a URL.

        :raises ValueError: not ``http`` or ``https``, or no host, or a bad port.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"no http or https URL with a host: {url!r}")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, ascii_host(parts.hostname), default if parts.port is None else parts.port)

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> bytes:
        """The value of ``Host``: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return (host if self.port == default else f"{host}:{self.port}").encode("ascii")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode('ascii')}"


def tcp_endpoint(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """
    How to reach ``host``: an address directly, a name at its addresses in turn, the next before the last has failed.

    :param timeout: seconds for one address.
    """
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return HostnameEndpoint(reactor, host, port, timeout)


class Opener(Keeper, Shape):
    """Who wants connections: the pool."""

    reactor: Any
    creator: VerifyingCreator | None
    connect_timeout: float
    tls_timeout: float

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """How to reach the server."""

    def refused(self, opening: Opening, verdict: Verdict) -> None:
        """A connection did not come about."""


class Opening(Factory):
    """
    One connection on its way: TCP within its limit, then TLS within its own.

    :param call: the call that it is opened for; ``None``: the first that comes.
    :param watcher: told when it is ready, or why it is not.
    """

    noisy = False

    def __init__(self, pool: Opener, call: Call | None, watcher: Deferred[None] | None = None) -> None:
        self._pool = pool
        self.call = call
        self.watcher = watcher
        self._connection: Connection | None = None
        self._timer: IDelayedCall | None = None
        self._attempt: Deferred[Any] | None = None
        self._over = False
        self._starting = False

    def start(self) -> None:
        pool = self._pool
        self._arm(pool.connect_timeout, f"no connection to {pool.where} within {pool.connect_timeout:g} s")
        factory: IProtocolFactory = self
        if pool.creator is not None:
            factory = TLSFactory(pool.creator, True, self, clock=pool.reactor)
        self._starting = True
        self._attempt = pool.endpoint.connect(factory)
        self._attempt.addErrback(self._refused)
        self._starting = False

    def buildProtocol(self, addr: object) -> Connection | None:
        """The protocol of the first address that answered."""
        if self._over:
            return None
        self._connection = connection = Connection(self._pool, self._pool.creator is not None)
        connection.opening = self
        return connection

    def connected(self, connection: Connection) -> None:
        """TCP stands."""
        pool = self._pool
        if connection.secure:
            self._disarm()
            self._arm(pool.tls_timeout, f"TLS handshake with {pool.where} not done within {pool.tls_timeout:g} s")

    def settle(self) -> None:
        """It stands, or failed; nothing more comes of it."""
        self._over = True
        self._disarm()
        if self._connection is not None:
            self._connection.opening = None

    def cancel(self) -> None:
        """Stop trying."""
        self.settle()
        if self._connection is not None:
            self._connection.abort()
        elif self._attempt is not None:
            self._attempt.cancel()

    def _refused(self, failure: Failure) -> None:
        if self._over:
            return
        verdict = network_failure(failure.value, self._pool.where)
        if self._starting:
            # The caller of request() has no call in its hands yet.
            self._disarm()
            self._timer = self._pool.reactor.callLater(0, self._give_up, verdict)
        else:
            self._give_up(verdict)

    def lost(self, reason: Failure) -> None:
        """The connection ended before it was ready."""
        if not self._over:
            verdict = network_failure(reason.value, self._pool.where)
            if not isinstance(reason.value, (SSL.Error, TLSFailure)):
                verdict = attrs.evolve(verdict, message=f"TLS handshake not done: {verdict.message}")
            self._give_up(verdict)

    def _give_up(self, verdict: Verdict) -> None:
        self.settle()
        self._pool.refused(self, verdict)

    def _expired(self, message: str) -> None:
        self._timer = None
        self.cancel()
        self._pool.refused(self, Verdict(Kind.TIMEOUT, message, retry_same=True))

    def _arm(self, seconds: float, message: str) -> None:
        self._timer = self._pool.reactor.callLater(seconds, self._expired, message)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
