"""Upstreams over TLS on loopback: a server that is not who it must be gets no request byte."""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import Any

import trustme
from cryptography import x509
from twisted.trial.unittest import TestCase

from mportrouter.tls import spki_pin

from . import faults
from .faulty import FaultyUpstream
from .harness import RouterProcess, message, until

CLAUDE, SECURE = "from Claude", "over TLS"
WRONG_PIN = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
OTHER_WRONG_PIN = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="


def pin_of(pem: bytes) -> str:
    return spki_pin(x509.load_pem_x509_certificate(pem))


class TLSTests(TestCase):
    """MiniMax is reached over TLS, Claude plainly: who answers shows whether MiniMax was trusted."""

    timeout = 120

    def setUp(self) -> None:
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("localhost")
        descriptor, self.ca_file = tempfile.mkstemp(suffix=".pem")
        os.close(descriptor)
        self.addCleanup(os.remove, self.ca_file)
        self.authority.cert_pem.write_to_path(self.ca_file)

    def server(self, certificate: Any = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (certificate or self.certificate).configure_cert(context)
        return context

    def start(self, context: ssl.SSLContext, **settings: Any) -> None:
        """A router in front of a MiniMax with this context, and its settings of that upstream."""
        self.minimax = FaultyUpstream([faults.ok(SECURE)], "/anthropic", context)
        self.addCleanup(self.minimax.stop)
        self.claude = FaultyUpstream([faults.ok(CLAUDE)])
        self.addCleanup(self.claude.stop)
        tls = {"ca_file": self.ca_file, **settings.pop("tls", {})}
        upstreams = {
            "minimax": {"base_url": self.minimax.url, "tls": tls, "pins": {"mode": "off"}, **settings},
            "anthropic": {"base_url": self.claude.url},
        }
        self.router = RouterProcess(config={"upstreams": upstreams})
        self.addCleanup(self.router.stop)

    def answer(self) -> str:
        return self.router.ask(message(), "mixed").text

    def distrusted(self) -> None:
        """Claude answers; MiniMax read nothing, neither now nor for the health check."""
        self.assertEqual(self.answer(), CLAUDE)
        self.router.command("health", status=None)
        self.assertEqual((self.minimax.requests, self.minimax.others), ([], []))
        self.assertTrue(until(lambda: self.minimax.connections > 0))

    def test_trusted(self) -> None:
        """A server with the right name under the added authority is used, over a kept connection."""
        self.start(self.server())
        for _ in range(3):
            self.assertEqual(self.answer(), SECURE)
        self.assertLessEqual(self.minimax.connections, 2)

    def test_unknown_authority(self) -> None:
        """A certificate of an authority that nobody added is refused."""
        self.start(self.server(trustme.CA().issue_cert("localhost")))
        self.distrusted()

    def test_wrong_name(self) -> None:
        """A certificate for another name is refused."""
        self.start(self.server(self.authority.issue_cert("other.example")))
        self.distrusted()

    def test_tls_1_2(self) -> None:
        """A server that stops at TLS 1.2 is refused, unless its upstream allows it."""
        context = self.server()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.start(context)
        self.distrusted()
        context = self.server()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.start(context, tls={"minimum": "1.2"})
        self.assertEqual(self.answer(), SECURE)

    def test_pins(self) -> None:
        """An enforced pin lets the right key pass and no other."""
        right = pin_of(self.authority.cert_pem.bytes())
        self.start(self.server(), pins={"mode": "enforce", "sha256": [right, WRONG_PIN]})
        self.assertEqual(self.answer(), SECURE)
        self.start(self.server(), pins={"mode": "enforce", "sha256": [WRONG_PIN, OTHER_WRONG_PIN]})
        self.distrusted()

    def test_reported_pins(self) -> None:
        """A pin that only reports lets everything pass, and says so in the log."""
        self.start(self.server(), pins={"mode": "report-only", "sha256": [WRONG_PIN, OTHER_WRONG_PIN]})
        self.assertEqual(self.answer(), SECURE)
        self.assertTrue(until(lambda: "pin mismatch" in self.router.log_text()), self.router.log_text())

    def test_no_tls_there(self) -> None:
        """A server that speaks no TLS is a failed attempt."""
        self.start(self.server())
        plain = FaultyUpstream([faults.ok("plain")], "/anthropic")
        self.addCleanup(plain.stop)
        self.router.config["upstreams"]["minimax"]["base_url"] = plain.url.replace(
            "http://127.0.0.1", "https://localhost"
        )
        self.router.write_config()
        self.router.command("reload")
        self.assertEqual(self.answer(), CLAUDE)
        self.assertEqual(plain.requests, [])

    def test_capture(self) -> None:
        """``mportrouter pins capture`` shows no pins of a server that is not trusted."""
        self.start(self.server())
        text = self.router.command("pins", "capture", f"localhost:{self.minimax.port}", status=None)
        self.assertNotIn(pin_of(self.certificate.cert_chain_pems[0].bytes()), text)
