"""
Who an upstream must prove to be: WebPKI trust, its host name, and optionally pinned keys, over TLS 1.3.

Verification cannot be turned off. A private authority is added with ``ca_file``; pins come on top and replace nothing.
Everything is decided inside the handshake, so that a server that fails gets no byte of a request.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import ssl as stdlib_ssl

import attrs
import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from .errors import ConfigError
from .settings import TLS, Pins

#: Where pyOpenSSL looks on Linux when the paths built into OpenSSL do not exist.
_LINUX_TRUST = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs",
)
_MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
#: Verification results of OpenSSL (``x509_vfy.h``) that a person can do something about.
_CHAIN_ERRORS = {
    9: "a certificate is not valid yet",
    10: "a certificate has expired",
    18: "the certificate is self-signed",
    19: "the chain ends in a self-signed certificate that is not trusted",
    20: "the issuer is not a trusted authority",
    21: "the first certificate cannot be verified",
    23: "a certificate has been revoked",
    24: "an issuer is not allowed to issue certificates",
    26: "the certificate is not for servers",
    66: "a key is too short",
    68: "a signature's digest is too weak",
}


class TLSFailure(Exception):
    """
    A server that did not prove who it is.

    :param host: the name it had to prove.
    :param message: what is wrong with it.
    """

    def __init__(self, host: str, message: str) -> None:
        super().__init__(f"{host}: {message}")
        self.host = host


class UntrustedChain(TLSFailure):
    """Its certificate does not lead to a trusted authority, or is out of date."""


class WrongHost(TLSFailure):
    """Its certificate is somebody else's."""


class PinMismatch(TLSFailure):
    """No key in its verified chain is pinned."""


def spki_pin(certificate: x509.Certificate) -> str:
    """The pin of a certificate's key: base64 of SHA-256 over the DER SubjectPublicKeyInfo (RFC 7469 §2.4)."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode("ascii")


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and not a name."""
    return isIPAddress(host) or isIPv6Address(host)


def ascii_host(host: str) -> str:
    """A host name as the wire has it (IDNA); an address as it is."""
    return host if host.isascii() else host.encode("idna").decode("ascii")


# ---------------------------------------------------------------------------------------------------- trust


def extra_trust(ca_file: str | None) -> bytes | None:
    """
    The authorities of a ``ca_file``.

    :raises ConfigError: it cannot be read, or holds no certificates.
    """
    if ca_file is None:
        return None
    try:
        with open(os.path.expanduser(ca_file), "rb") as file:
            pem = file.read()
        x509.load_pem_x509_certificates(pem)
    except OSError as error:
        raise ConfigError([f"tls.ca_file {ca_file}: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"tls.ca_file {ca_file}: no certificates in PEM form ({error})"]) from error
    return pem


def fallback_bundle() -> str | None:
    """
    A bundle of authorities to load where OpenSSL's own default paths lead nowhere (macOS wheels, bare containers).

    :returns: ``None`` where the platform's trust, or one named by ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, is used.
    """
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return None
    if any(os.path.exists(path) for path in _LINUX_TRUST):
        return None
    return stdlib_ssl.get_default_verify_paths().cafile or certifi.where()


@functools.lru_cache(maxsize=8)
def _options(minimum: str, extra: bytes | None) -> CertificateOptions:
    # One context for all upstreams with the same trust: a loaded bundle takes megabytes and tens of milliseconds.
    options = CertificateOptions(
        trustRoot=platformTrust(), acceptableProtocols=[b"http/1.1"], raiseMinimumTo=_MINIMUM[minimum]
    )
    context = options.getContext()
    bundle = fallback_bundle()
    if bundle is not None:
        context.load_verify_locations(bundle)
    if extra is not None:
        store = context.get_cert_store()
        assert store is not None
        for certificate in x509.load_pem_x509_certificates(extra):
            store.add_cert(crypto.X509.from_cryptography(certificate))
    return options


# ---------------------------------------------------------------------------------------------------- verification


@attrs.define
class TLSDetails:
    """
    What was last seen of an upstream's TLS, for the status.

    :param version: protocol of the newest connection, ``""`` before the first.
    :param pins: pins of its verified chain, leaf first.
    :param last_mismatch: the newest chain that no pin matched, as a text, or ``None``.
    :param mismatches: how many such chains there were.
    """

    version: str = ""
    cipher: str = ""
    pins: tuple[str, ...] = ()
    last_mismatch: str | None = None
    mismatches: int = 0

    def note(self, connection: SSL.Connection) -> None:
        """Remember what a finished handshake agreed on."""
        self.version = connection.get_protocol_version_name()
        self.cipher = connection.get_cipher_name() or ""


@implementer(IOpenSSLClientConnectionCreator)
class VerifyingCreator:
    """
    Makes the OpenSSL connections towards one host.

    Chain, host name and pins are judged in one verification callback: a second ``set_verify`` would replace the first,
    and the host name check with it.

    :param host: the name or address that the server must prove.
    :param tls: minimum version and extra trust.
    :param pins: pinned keys; in ``report-only`` mode a mismatch is logged and counted, and works.
    :raises ConfigError: ``ca_file`` cannot be used.
    """

    _log = Logger()

    def __init__(self, host: str, tls: TLS, pins: Pins | None = None) -> None:
        self.host = ascii_host(host)
        self.details = TLSDetails()
        self._minimum = tls.minimum
        self._extra = extra_trust(tls.ca_file)
        self._is_address = is_address(self.host)
        self._identity = IPAddress_ID(self.host) if self._is_address else DNS_ID(self.host)
        pins = pins or Pins()
        self._pins = frozenset(pins.sha256) if pins.mode != "off" else frozenset()
        self._enforce = pins.mode == "enforce"

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that trusts nobody but :attr:`host`."""
        connection = _options(self._minimum, self._extra).clientConnectionForTLS(tlsProtocol)
        if not self._is_address:  # RFC 6066 §3: no literal addresses in server_name
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        protocol: TLSMemoryBIOProtocol | None = tlsProtocol
        seen: list[str] = []

        def verify(_: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
            # Called from the root down to the leaf. An exception here would vanish, so every one of them is a refusal.
            nonlocal protocol
            try:
                failure = self._judge(certificate, error, depth, bool(ok), seen)
                if failure is not None and protocol is not None:
                    protocol.failVerification(Failure(failure))
            except Exception:  # noqa: BLE001 - whatever it was, the server has not been verified
                self._log.failure("while verifying the certificate of {host}", host=self.host)
                return False
            if depth == 0:
                protocol = None  # breaks the cycle connection - callback - protocol
            return failure is None

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def _judge(
        self, certificate: crypto.X509, error: int, depth: int, ok: bool, seen: list[str]
    ) -> TLSFailure | None:
        """Judge one member of the chain; ``seen`` collects the pins of those before it."""
        if not ok:
            reason = _CHAIN_ERRORS.get(error, f"OpenSSL's verification error {error}")
            subject = certificate.to_cryptography().subject.rfc4514_string()
            return UntrustedChain(self.host, f"certificate not trusted: {reason} (depth {depth}, {subject!r})")
        seen.append(spki_pin(certificate.to_cryptography()))
        if depth:
            return None
        try:
            verify_service_identity(extract_patterns(certificate), [self._identity], [])
        except (VerificationError, CertificateError):
            return WrongHost(self.host, f"wrong host name: the certificate is for {_names(certificate)}")
        self.details.pins = tuple(reversed(seen))
        if self._pins and self._pins.isdisjoint(seen):
            return self._mismatch()
        return None

    def _mismatch(self) -> TLSFailure | None:
        details = self.details
        details.mismatches += 1
        details.last_mismatch = text = ", ".join(f"sha256/{pin}" for pin in details.pins)
        if self._enforce:
            self._log.error("pin mismatch at {host}: refused a chain of {chain}", host=self.host, chain=text)
            return PinMismatch(self.host, f"pin mismatch: no key of its chain is pinned (its keys: {text})")
        self._log.warn(
            "pin mismatch at {host}: a chain of {chain}; used all the same, pins are report-only",
            host=self.host,
            chain=text,
        )
        return None


def _names(certificate: crypto.X509) -> str:
    try:
        names = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "no host name at all"
    texts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return ", ".join(texts[:5]) + (" and more" if len(texts) > 5 else "")


class TLSFactory(TLSMemoryBIOFactory):
    """
    Wraps connections in TLS without Twisted's small-write buffer: a request leaves in one write as it is, and the
    buffer would hold it back for an iteration of the reactor.
    """

    protocol = TLSMemoryBIOProtocol


def describe(error: BaseException) -> str | None:
    """What an error of a TLS handshake means, or ``None`` where it is none."""
    if isinstance(error, TLSFailure):
        return str(error)
    if isinstance(error, SSL.Error):
        reasons = [entry[-1] for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        text = "; ".join(dict.fromkeys(filter(None, reasons))) or "handshake failure"
        if "protocol version" in text or "unsupported protocol" in text:
            return f"TLS version: the server does not speak one that is allowed here ({text})"
        return f"TLS handshake failed ({text})"
    return None
