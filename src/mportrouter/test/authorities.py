"""
Certificate authorities made up for the tests, and servers certified by them.
"""

from __future__ import annotations

from typing import Any

import trustme
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions

from ..tls import spki_pin

ROOT = trustme.CA(organization_name="Root of the tests")
MIDDLE = ROOT.create_child_ca()
STRANGER = trustme.CA(organization_name="Somebody else")


def issue(*names: str, ca: trustme.CA = MIDDLE, **more: Any) -> trustme.LeafCert:
    """A certificate for ``names``."""
    return ca.issue_cert(*names, **more)


def pin_of(pem: bytes) -> str:
    """The pin of the first certificate in ``pem``."""
    return spki_pin(x509.load_pem_x509_certificate(pem))


ROOT_PIN = pin_of(ROOT.cert_pem.bytes())
MIDDLE_PIN = pin_of(MIDDLE.cert_pem.bytes())
OTHER_PIN = pin_of(STRANGER.cert_pem.bytes())


def leaf_pin(leaf: trustme.LeafCert) -> str:
    """The pin of a server's own key."""
    return pin_of(leaf.cert_chain_pems[0].bytes())


def serving(leaf: trustme.LeafCert, highest: int | None = None) -> CertificateOptions:
    """
    What a server with that certificate speaks.

    :param highest: the highest TLS version it knows, as OpenSSL numbers them.
    """
    chain = [crypto.load_certificate(crypto.FILETYPE_PEM, pem.bytes()) for pem in leaf.cert_chain_pems]
    options = CertificateOptions(
        privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, leaf.private_key_pem.bytes()),
        certificate=chain[0],
        extraCertChain=chain[1:],
        acceptableProtocols=[b"http/1.1"],
    )
    if highest is not None:
        context = options.getContext()
        context.set_options(SSL.OP_NO_TLSv1_3)
        context.set_max_proto_version(highest)
    return options
