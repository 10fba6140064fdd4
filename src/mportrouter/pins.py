"""
Looking at a server's certificate chain, to choose pins from it: what ``mportrouter pins capture HOST`` does.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .connection import CallFailed, network_failure
from .errors import Kind, Verdict
from .opening import tcp_endpoint
from .settings import TLS
from .tls import TLSFactory, VerifyingCreator, spki_pin


@attrs.frozen
class ChainEntry:
    """
    One certificate of a verified chain.

    :param subject: its distinguished name (RFC 4514); ``issuer`` is the signer's.
    :param not_after: the last moment of its validity, ISO 8601 in UTC.
    :param pin: the pin of its key, without ``sha256/``.
    :param leaf: it is the server's own, whose key changes every few weeks: a bad pin.
    """

    subject: str
    issuer: str
    not_after: str
    pin: str
    leaf: bool


@implementer(IHandshakeListener)
class _Capture(Protocol):
    def __init__(self, result: Deferred[list[ChainEntry]]) -> None:
        self._result: Deferred[list[ChainEntry]] | None = result

    def handshakeCompleted(self) -> None:
        result, self._result = self._result, None
        chain = self.transport.getHandle().get_verified_chain() or []  # type: ignore[union-attr]
        certificates = [member.to_cryptography() for member in chain]
        self.transport.abortConnection()  # type: ignore[union-attr]
        if result is not None:
            result.callback(
                [
                    ChainEntry(
                        certificate.subject.rfc4514_string(),
                        certificate.issuer.rfc4514_string(),
                        certificate.not_valid_after_utc.isoformat(),
                        spki_pin(certificate),
                        depth == 0,
                    )
                    for depth, certificate in enumerate(certificates)
                ]
            )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        result, self._result = self._result, None
        if result is not None:
            result.errback(reason)


def capture(
    host: str,
    port: int,
    reactor: Any,
    *,
    tls: TLS | None = None,
    timeout: float = 10.0,
    endpoint: IStreamClientEndpoint | None = None,
) -> Deferred[list[ChainEntry]]:
    """
    The chain of a server as it was verified: leaf first, trust anchor last.

    It is verified as for any connection, so that a stranger on the way cannot have his keys pinned. No HTTP is spoken.

    :param tls: extra trust; by default TLS 1.2 is let pass, since looking sends no secret.
    :param timeout: seconds for everything.
    :param endpoint: how to reach the server, where it is not by host and port.
    :returns: fails with a :class:`~mportrouter.connection.CallFailed`.
    """
    where = f"{host}:{port}"
    captured: Deferred[list[ChainEntry]] = Deferred()
    creator = VerifyingCreator(host, tls or TLS(minimum="1.2"))
    factory = Factory.forProtocol(lambda: _Capture(captured))
    factory.noisy = False
    connecting = (endpoint or tcp_endpoint(reactor, creator.host, port, timeout)).connect(
        TLSFactory(creator, True, factory, clock=reactor)
    )
    result: Deferred[list[ChainEntry]] = Deferred(lambda _: connecting.cancel())

    def settle(verdict: Verdict | None, chain: list[ChainEntry]) -> None:
        if timer.active():
            timer.cancel()
        if result.called:
            return
        if verdict is None:
            result.callback(chain)
        else:
            result.errback(CallFailed(verdict))

    def failed(failure: Failure) -> None:
        settle(network_failure(failure.value, where), [])

    def expired() -> None:
        settle(Verdict(Kind.TIMEOUT, f"{where} gave no certificate within {timeout:g} s", retry_same=True), [])
        connecting.cancel()
        for protocol in connected:
            protocol.transport.abortConnection()

    connected: list[Any] = []
    timer = reactor.callLater(timeout, expired)
    captured.addCallbacks(lambda chain: settle(None, chain), failed)
    connecting.addCallbacks(connected.append, failed)
    return result
