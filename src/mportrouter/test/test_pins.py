"""Tests for :mod:`mportrouter.pins`."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from ..connection import CallFailed
from ..errors import Kind
from ..pins import capture
from ..settings import TLS
from .authorities import MIDDLE_PIN, ROOT, ROOT_PIN, STRANGER, issue, leaf_pin, serving
from .wires import Net


class CaptureTests(SynchronousTestCase):
    """Looking at a chain."""

    def setUp(self):
        self.net = Net()
        self.ca_file = self.mktemp()
        ROOT.cert_pem.write_to_path(self.ca_file)

    def capture(self, minimum="1.2"):
        return capture("127.0.0.1", 443, self.net, tls=TLS(minimum, self.ca_file))

    def assertFails(self, result, kind, word):
        verdict = self.failureResultOf(result, CallFailed).value.verdict
        self.assertEqual(verdict.kind, kind)
        self.assertIn(word, verdict.message)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_chain(self):
        """The verified chain comes leaf first, with everything one needs to choose; nothing is sent."""
        leaf = issue("127.0.0.1", common_name="the server")
        result = self.capture()
        link = self.net.accept(serving(leaf))
        entries = self.successResultOf(result)
        self.assertEqual([entry.pin for entry in entries], [leaf_pin(leaf), MIDDLE_PIN, ROOT_PIN])
        self.assertEqual([entry.leaf for entry in entries], [True, False, False])
        self.assertIn("the server", entries[0].subject)
        self.assertIn("Root of the tests", entries[2].subject)
        self.assertEqual(entries[1].issuer, entries[2].subject)
        self.assertRegex(entries[0].not_after, r"^\d{4}-\d\d-\d\dT.*\+00:00$")
        self.assertEqual(link.server.received, b"")
        self.assertTrue(link.closed)
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_old_tls(self):
        """A server with TLS 1.2 can be looked at."""
        result = self.capture()
        self.net.accept(serving(issue("127.0.0.1"), SSL.TLS1_2_VERSION))
        self.assertEqual(len(self.successResultOf(result)), 3)

    def test_untrusted(self):
        """The keys of a server that does not verify are not offered as pins."""
        result = self.capture()
        self.net.accept(serving(issue("127.0.0.1", ca=STRANGER)))
        self.assertFails(result, Kind.NETWORK, "not trusted")

    def test_wrong_host(self):
        """Nor are those of somebody else."""
        result = self.capture()
        self.net.accept(serving(issue("evil.test")))
        self.assertFails(result, Kind.NETWORK, "wrong host name")

    def test_refused(self):
        """No connection is said to be none."""
        result = self.capture()
        self.net.refuse()
        self.assertFails(result, Kind.NETWORK, "refused")

    def test_silent(self):
        """A server that accepts and says nothing is given up."""
        result = self.capture()
        link = self.net.accept()
        self.net.advance(10)
        self.assertFails(result, Kind.TIMEOUT, "10 s")
        self.assertTrue(link.closed)

    def test_never_connected(self):
        """So is one that does not even accept."""
        result = self.capture()
        self.net.advance(10)
        self.failureResultOf(result, CallFailed)
        self.assertTrue(self.net.connectors[0].stoppedConnecting)

    def test_cancelled(self):
        """It can be cancelled."""
        result = self.capture()
        result.cancel()
        self.failureResultOf(result, CallFailed, CancelledError)
        self.assertTrue(self.net.connectors[0].stoppedConnecting)
        self.assertEqual(self.net.getDelayedCalls(), [])
