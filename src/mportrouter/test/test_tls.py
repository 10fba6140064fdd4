"""Tests for :mod:`mportrouter.tls`, with real TLS in memory."""

from __future__ import annotations

import datetime
import os
from unittest import mock

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import tls
from ..errors import ConfigError, Kind
from ..opening import Origin
from ..pool import Pool
from ..settings import TLS, Pins
from .authorities import (
    MIDDLE_PIN,
    OTHER_PIN,
    ROOT,
    ROOT_PIN,
    STRANGER,
    issue,
    leaf_pin,
    pin_of,
    serving,
)
from .wires import OK, Net, Sink, Wire

HOST = "127.0.0.1"


class Base(SynchronousTestCase):
    def setUp(self):
        self.net = Net()
        self.ca_file = self.mktemp()
        ROOT.cert_pem.write_to_path(self.ca_file)

    def ask(self, leaf, pins=None, minimum="1.3", highest=None, origin="https://api.test", ca_file="ours"):
        """Send a request to a server with that certificate; its name is resolved to where the server is."""
        from twisted.internet.endpoints import TCP4ClientEndpoint

        origin = Origin.of(origin)
        self.creator = tls.VerifyingCreator(
            origin.host, TLS(minimum, self.ca_file if ca_file == "ours" else ca_file), pins
        )
        self.pool = Pool(
            origin, self.net, self.creator, endpoint=TCP4ClientEndpoint(self.net, HOST, 443, timeout=30)
        )
        self.sink = Sink()
        self.pool.request(b"POST", b"/v1/messages", [(b"x-api-key", b"sk-secret")], b"{}", self.sink)
        self.link = self.net.accept(serving(leaf, highest))
        return self.link

    def assertAnswered(self):
        self.assertTrue(self.link.server.received.startswith(b"POST /v1/messages HTTP/1.1\r\n"))
        self.link.answer(OK)
        self.assertEqual(self.sink.body, b"hi")
        self.assertIsNone(self.sink.failure)

    def assertRefused(self, *words, final=True):
        """Not one byte of the request reached the server, and the verdict says why."""
        self.link.pump.flush()
        self.assertEqual(self.link.server.received, b"")
        self.assertTrue(self.link.closed)
        verdict = self.sink.failure.verdict
        self.assertEqual(verdict.kind, Kind.NETWORK)
        self.assertEqual((verdict.retry_same, verdict.move_on, verdict.account), (not final, True, final))
        self.assertFalse(self.sink.failure.sent)
        for word in words:
            self.assertIn(word, verdict.message)
        self.assertEqual(self.pool.stats.open, 0)


class VerificationTests(Base):
    """Who is talked to, and who is not."""

    def test_interface(self):
        """The creator is what Twisted's TLS wants."""
        verifyObject(IOpenSSLClientConnectionCreator, tls.VerifyingCreator("api.test", TLS()))

    def test_right_server(self):
        """A server with a good chain and the right name gets the request, over TLS 1.3."""
        self.ask(issue("api.test"))
        self.assertAnswered()
        self.assertEqual(self.creator.details.version, "TLSv1.3")
        self.assertTrue(self.creator.details.cipher.startswith("TLS_"))

    def test_nothing_in_the_clear(self):
        """What leaves is TLS records and nothing else: the key is never on the wire as it is."""
        written = []
        write = Wire.write
        send = Wire.send
        self.patch(Wire, "write", lambda wire, data: written.append(data) or write(wire, data))
        for name in ("send", "writeSomeData"):
            self.patch(Wire, name, lambda wire, data: written.append(data) or send(wire, data))
        self.ask(issue("api.test"))
        self.assertAnswered()
        self.pool.request(b"POST", b"/", [(b"x-api-key", b"sk-secret")], b"{}", Sink())
        self.link.pump.flush()
        self.assertEqual(self.link.server.received.count(b"sk-secret"), 2)
        self.assertNotIn(b"sk-secret", b"".join(written))
        self.assertGreater(len(written), 4)

    def test_wildcard(self):
        """A wildcard certificate covers one label."""
        self.ask(issue("*.api.test"), origin="https://eu.api.test")
        self.assertAnswered()
        self.ask(issue("*.api.test"), origin="https://deep.eu.api.test")
        self.assertRefused("wrong host name")

    def test_wrong_host(self):
        """A good chain for another name gets nothing; the verdict names both."""
        self.ask(issue("evil.test"))
        self.assertRefused("api.test", "wrong host name", "evil.test")

    def test_name_in_common_name_only(self):
        """A name in the subject's common name proves nothing (RFC 9525 §2)."""
        self.ask(issue("other.test", common_name="api.test"))
        self.assertRefused("wrong host name")

    def test_untrusted_root(self):
        """A chain to an unknown authority gets nothing."""
        self.ask(issue("api.test", ca=STRANGER))
        self.assertRefused("api.test", "not trusted")

    def test_without_ca_file(self):
        """A private authority is trusted only where ``ca_file`` says so: contexts are not mixed up."""
        self.ask(issue("api.test"))
        self.assertAnswered()
        self.ask(issue("api.test"), ca_file=None)
        self.assertRefused("not trusted")

    def test_expired(self):
        """An expired certificate gets nothing."""
        past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        self.ask(issue("api.test", not_before=past - datetime.timedelta(days=9), not_after=past))
        self.assertRefused("expired")

    def test_self_signed(self):
        """An authority's own certificate, not trusted, gets nothing."""
        self.ask(issue("api.test", ca=STRANGER), pins=Pins("enforce", (OTHER_PIN, ROOT_PIN)))
        self.assertRefused("not trusted")

    def test_tls_1_2_only(self):
        """A server that has only TLS 1.2 gets nothing, unless the upstream's settings allow it."""
        self.ask(issue("api.test"), highest=SSL.TLS1_2_VERSION)
        self.assertRefused("TLS version")
        self.ask(issue("api.test"), highest=SSL.TLS1_2_VERSION, minimum="1.2")
        self.assertAnswered()
        self.assertEqual(self.creator.details.version, "TLSv1.2")

    def test_address(self):
        """A server reached by its address must be certified for that address."""
        self.ask(issue("127.0.0.1"), origin="https://127.0.0.1")
        self.assertAnswered()
        self.ask(issue("127.0.0.2", "localhost"), origin="https://127.0.0.1")
        self.assertRefused("wrong host name", "127.0.0.2")
        self.ask(issue("::1"), origin="https://[::1]")
        self.assertAnswered()

    def test_server_name(self):
        """A name is sent as SNI, an address is not."""
        names = []
        for origin, name in (("https://api.test", "api.test"), ("https://127.0.0.1", "127.0.0.1")):
            options = serving(issue(name))
            options.getContext().set_tlsext_servername_callback(
                lambda connection: names.append(connection.get_servername())
            )
            with mock.patch(f"{__name__}.serving", return_value=options):
                self.ask(issue(name), origin=origin)
            self.assertAnswered()
        self.assertEqual(names[0], b"api.test")
        self.assertEqual([name for name in names[1:] if name], [])

    def test_international_name(self):
        """A name beyond ASCII is verified in its wire form."""
        self.ask(issue("xn--bcher-kva.test"), origin="https://bücher.test")
        self.assertAnswered()
        self.assertIn(b"host: xn--bcher-kva.test\r\n", self.link.server.received)

    def test_alpn(self):
        """HTTP/1.1 is what the client offers."""
        offered = []
        options = serving(issue("api.test"))
        options.getContext().set_alpn_select_callback(
            lambda connection, protocols: offered.extend(protocols) or b"http/1.1"
        )
        with mock.patch(f"{__name__}.serving", return_value=options):
            self.ask(issue("api.test"))
        self.assertAnswered()
        self.assertEqual(offered, [b"http/1.1"])

    def test_exception_while_verifying(self):
        """Whatever goes wrong inside the verification is a refusal."""
        with mock.patch.object(tls, "spki_pin", side_effect=RuntimeError("odd")):
            self.ask(issue("api.test"))
        self.link.pump.flush()
        self.assertEqual(self.link.server.received, b"")
        self.assertEqual(self.sink.failure.verdict.kind, Kind.NETWORK)
        self.assertGreaterEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_plain_server(self):
        """A server that answers TLS with plain HTTP is a failed handshake."""
        self.ask(issue("api.test"))
        pool, self.sink = self.pool, Sink()
        pool.close_idle()
        pool.request(b"GET", b"/", [], b"", Sink())
        self.sink = Sink()
        pool.request(b"GET", b"/", [], b"", self.sink)
        self.net.accept(serving(issue("api.test")))
        link = self.net.accept()
        link.server.take()
        link.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(link.server.received, b"")
        self.assertIn("TLS handshake", self.sink.failure.verdict.message)
        self.assertEqual(self.sink.failure.verdict.kind, Kind.NETWORK)

    def test_closed_in_handshake(self):
        """A server that hangs up inside the handshake may be asked again."""
        self.sink = Sink()
        creator = tls.VerifyingCreator(HOST, TLS())
        pool = Pool(Origin.of(f"https://{HOST}"), self.net, creator)
        pool.request(b"GET", b"/", [], b"", self.sink)
        self.net.accept().close()
        self.assertIn("TLS handshake", self.sink.failure.verdict.message)
        self.assertTrue(self.sink.failure.verdict.retry_same)


class PinTests(Base):
    """Pinned keys."""

    def test_any_member(self):
        """A pin may be the root's, an intermediate's or the server's own key."""
        leaf = issue("api.test")
        for pin in (ROOT_PIN, MIDDLE_PIN, leaf_pin(leaf)):
            self.ask(leaf, Pins("enforce", (OTHER_PIN, pin)))
            self.assertAnswered()
            self.assertEqual(self.creator.details.mismatches, 0)
        self.assertEqual(self.creator.details.pins, (leaf_pin(leaf), MIDDLE_PIN, ROOT_PIN))

    def test_mismatch(self):
        """With enforced pins a good chain of other keys gets nothing; host and seen keys are named."""
        leaf = issue("api.test")
        self.ask(leaf, Pins("enforce", (OTHER_PIN, pin_of(STRANGER.issue_cert("x.test").cert_chain_pems[0].bytes()))))
        self.assertRefused("pin mismatch", "api.test", f"sha256/{ROOT_PIN}", f"sha256/{leaf_pin(leaf)}")
        self.assertEqual(self.creator.details.mismatches, 1)

    def test_presented_but_not_verified(self):
        """A pinned certificate that is only sent along, outside the verified chain, does not count."""
        leaf = issue("api.test")
        leaf.cert_chain_pems.append(STRANGER.cert_pem)
        self.ask(leaf, Pins("enforce", (OTHER_PIN, OTHER_PIN)))
        self.assertRefused("pin mismatch")

    def test_wrong_host_with_good_pin(self):
        """Pins replace nothing: a pinned key under the wrong name gets nothing."""
        self.ask(issue("evil.test"), Pins("enforce", (ROOT_PIN, OTHER_PIN)))
        self.assertRefused("wrong host name")

    def test_report_only(self):
        """In report-only mode a mismatch is logged and counted, and works."""
        with capturedLogs() as events:
            self.ask(issue("api.test"), Pins("report-only", (OTHER_PIN,)))
        self.assertAnswered()
        self.assertEqual(self.creator.details.mismatches, 1)
        self.assertIn(ROOT_PIN, self.creator.details.last_mismatch)
        self.assertTrue(any("pin mismatch" in event["log_format"] for event in events))

    def test_off(self):
        """Pins that are off are not looked at."""
        self.ask(issue("api.test"), Pins("off", (OTHER_PIN,)))
        self.assertAnswered()
        self.assertEqual(self.creator.details.mismatches, 0)

    def test_pin_form(self):
        """A pin is the base64 SHA-256 of the key, 44 characters, not of the certificate."""
        leaf = issue("api.test")
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self.assertEqual(len(tls.spki_pin(certificate)), 44)
        first, second = STRANGER.cert_pem.bytes(), ROOT.cert_pem.bytes()
        self.assertNotEqual(pin_of(first), pin_of(second))


class TrustTests(SynchronousTestCase):
    """Where trust comes from."""

    def test_missing_ca_file(self):
        """A ``ca_file`` that is not there is a mistake of the configuration, said at once."""
        error = self.assertRaises(ConfigError, tls.VerifyingCreator, "api.test", TLS(ca_file="/no/such/file"))
        self.assertIn("/no/such/file", error.mistakes[0])

    def test_bad_ca_file(self):
        """So is one without certificates."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("hello")
        error = self.assertRaises(ConfigError, tls.VerifyingCreator, "api.test", TLS(ca_file=path))
        self.assertIn("no certificates", error.mistakes[0])

    def test_platform(self):
        """Where the platform has a store, or the environment names one, no other bundle is added."""
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": "/x"}):
            self.assertIsNone(tls.fallback_bundle())
        with mock.patch.dict(os.environ, clear=True), mock.patch.object(tls.os.path, "exists", return_value=True):
            self.assertIsNone(tls.fallback_bundle())

    def test_certifi(self):
        """Where nothing is there, certifi's bundle is used, and it is one."""
        nowhere = mock.Mock(cafile=None)
        with (
            mock.patch.dict(os.environ, clear=True),
            mock.patch.object(tls.os.path, "exists", return_value=False),
            mock.patch.object(tls.stdlib_ssl, "get_default_verify_paths", return_value=nowhere),
        ):
            bundle = tls.fallback_bundle()
        self.assertTrue(bundle.endswith(".pem"))
        with open(bundle, "rb") as file:
            self.assertGreater(len(x509.load_pem_x509_certificates(file.read())), 50)

    def test_shared(self):
        """Upstreams with the same trust share one loaded store."""
        self.assertIs(tls._options("1.3", None), tls._options("1.3", None))

    def test_describe(self):
        """What is no TLS error is not described as one."""
        self.assertIsNone(tls.describe(ValueError("x")))
        self.assertIn("handshake failure", tls.describe(SSL.Error([])))
        self.assertIn("no shared cipher", tls.describe(SSL.Error([("SSL routines", "", "no shared cipher")])))
