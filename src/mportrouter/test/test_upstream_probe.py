"""Tests for the free looks of :mod:`mportrouter.upstream`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from ..errors import Kind
from .test_upstream import Changing, make
from .wires import Net


class ProbeTests(SynchronousTestCase):
    """Looks that cost nothing."""

    def setUp(self):
        self.net = Net()

    def probe(self, answer=None, after=0.25, **settings):
        self.upstream = make(self.net, **settings)
        result = self.upstream.probe()
        self.link = self.net.accept()
        self.sent = self.link.server.take()
        self.net.advance(after)
        if answer is not None:
            self.link.answer(answer)
        return result

    def answer(self, status, body=b"{}"):
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)

    def test_models(self):
        """It lists the models at the origin with the key, and remembers their ids; the connection stays warm."""
        body = b'{"data":[{"id":"m1","type":"model"},{"id":"m2"}],"has_more":false}'
        result = self.successResultOf(
            self.probe(self.answer(b"200 OK", body), base_url="http://127.0.0.1:8080/anthropic")
        )
        self.assertTrue(self.sent.startswith(b"GET /v1/models HTTP/1.1\r\n"))
        self.assertIn(b"x-api-key: sk-own\r\n", self.sent.replace(b"X-Api-Key", b"x-api-key"))
        self.assertIn(b"nthropic-", self.sent)
        self.assertEqual((result.status, result.models, result.keyed, result.alive), (200, ("m1", "m2"), True, True))
        self.assertAlmostEqual(result.latency, 0.25)
        self.assertEqual(self.upstream.models, ("m1", "m2"))
        self.assertEqual(self.upstream.pool.stats.idle, 1)
        self.assertEqual(self.net.getDelayedCalls()[1:], [])

    def test_lists(self):
        """Lists of models are understood in every dialect's shape; what cannot generate is no model here."""
        for body, ids in (
            (b'{"object":"list","data":[{"id":"gpt-6-sol","object":"model"}]}', ("gpt-6-sol",)),
            (
                b'{"models":[{"name":"models/gemini-a","supportedGenerationMethods":["generateContent"]},'
                b'{"name":"models/embedding","supportedGenerationMethods":["embedContent"]},{"name":"models/b"}]}',
                ("gemini-a", "b"),
            ),
            (b'{"models":[{"name":"qwen3:8b","model":"qwen3:8b"}]}', ("qwen3:8b",)),
            (b'{"models":[{"slug":"gpt-6.1-sol","display_name":"x"}]}', ("gpt-6.1-sol",)),
            (b'[{"id":"a"},{"id":""},{}]', ("a",)),
        ):
            result = self.successResultOf(self.probe(self.answer(b"200 OK", body)))
            self.assertEqual(result.models, ids)

    def test_changing_credential(self):
        """A credential that changes goes with the look, and is renewed where it is refused."""
        given = [[(b"authorization", b"Bearer one")], [(b"authorization", b"Bearer two")]]
        result = self.probe(self.answer(b"401 X"), api_key=None, credential=Changing(given), dialect="openai-responses")
        self.assertIn(b"Bearer one", self.sent)
        self.assertIn(b"Bearer two", self.link.server.take())
        self.link.answer(self.answer(b"200 OK", b'{"data":[{"id":"m"}]}'))
        probed = self.successResultOf(result)
        self.assertEqual((probed.status, probed.models, probed.keyed), (200, ("m",), True))

    def test_styles(self):
        """The key is sent as the provider wants it."""
        self.probe(dialect="gemini", auth_style="x-goog-api-key", probe="/v1beta/models?pageSize=1000")
        self.assertIn(b"x-goog-api-key: sk-own\r\n", self.sent.lower())
        self.assertNotIn(b"anthropic-version", self.sent.lower())

    def test_path(self):
        """The path is the account's."""
        self.probe(probe="/models?limit=1")
        self.assertTrue(self.sent.startswith(b"GET /models?limit=1 HTTP/1.1\r\n"))

    def test_no_key(self):
        """Without a key of ours none is sent; a 401 is a sign of life."""
        result = self.successResultOf(self.probe(self.answer(b"401 Unauthorized"), auth="client", api_key=None))
        self.assertNotIn(b"x-api-key", self.sent.lower())
        self.assertNotIn(b"authorization", self.sent.lower())
        self.assertEqual((result.status, result.keyed, result.alive), (401, False, True))

    def test_server_error(self):
        """A 5xx is none."""
        result = self.successResultOf(self.probe(self.answer(b"503 Service Unavailable")))
        self.assertEqual((result.status, result.alive, result.models), (503, False, ()))

    def test_odd_bodies(self):
        """A list that is none is no failure, and does not make the known models forgotten."""
        for body in (b"", b"[]", b"null", b"<", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{"id": 1}]}', b"\xff"):
            result = self.successResultOf(self.probe(self.answer(b"200 OK", body)))
            self.assertTrue(result.alive, body)
            self.assertEqual(result.models, ())
        result = self.upstream.probe()
        self.link.answer(self.answer(b"200 OK", b'{"data": [{"id": "m1"}]}'))
        self.successResultOf(result)
        result = self.upstream.probe()
        self.link.answer(self.answer(b"200 OK", b"odd"))
        self.assertEqual(self.successResultOf(result).models, ("m1",))

    def test_redirect(self):
        """A redirect is an answer; the key follows it nowhere."""
        result = self.successResultOf(
            self.probe(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n")
        )
        self.assertEqual(result.status, 302)
        self.assertEqual(self.net.pending, 0)

    def assertFailed(self, result, kind):
        result = self.successResultOf(result)
        self.assertEqual(result.failure.kind, kind)
        self.assertFalse(result.alive)
        self.assertEqual(self.upstream.pool.stats.in_flight, 0)

    def test_refused(self):
        """No connection is a result, not an exception."""
        self.upstream = make(self.net)
        result = self.upstream.probe()
        self.net.refuse()
        self.assertFailed(result, Kind.NETWORK)

    def test_silent(self):
        """A server that does not answer in time is left."""
        result = self.probe()
        self.net.advance(10)
        self.assertFailed(result, Kind.TIMEOUT)
        self.assertTrue(self.link.closed)

    def test_silent_in_the_body(self):
        """So is one that stops in the middle."""
        result = self.probe(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        self.net.advance(10)
        self.assertFailed(result, Kind.TIMEOUT)
        self.assertTrue(self.link.closed)

    def test_cut(self):
        """An answer that breaks off says so."""
        result = self.probe(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        self.link.close()
        self.assertFailed(result, Kind.CUT)

    def test_endless(self):
        """An answer without end is not read for ever."""
        result = self.probe(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        for _ in range(5):
            self.link.answer(b"x" * 1024 * 1024)
        self.assertFailed(result, Kind.GARBAGE)

    def test_limit_is_for_everything(self):
        """A slow head and a slow body share the one limit."""
        result = self.probe(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", after=6)
        self.net.advance(3.9)
        self.assertNoResult(result)
        self.net.advance(0.2)
        self.assertFailed(result, Kind.TIMEOUT)

    def test_cancelled(self):
        """Only who asked can make it fail, by cancelling it; the connection is left then."""
        for answer in (None, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"):
            result = self.probe(answer)
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.assertTrue(self.link.closed)
            self.assertEqual(self.net.getDelayedCalls(), [])

    def test_own_mistake(self):
        """A mistake of the router's own is a result too, is logged, and blames nobody."""
        self.upstream = make(self.net)

        def broken():
            raise RuntimeError("oops")

        self.patch(self.upstream, "_probe_headers", broken)
        self.assertFailed(self.upstream.probe(), Kind.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_connect_only_silent(self):
        """A connection that is not made within the limit is a timeout."""
        self.upstream = make(self.net, probe=None)
        result = self.upstream.probe(timeout=1.0)
        self.net.advance(1.1)
        self.assertFailed(result, Kind.TIMEOUT)

    def test_connect_only(self):
        """An account without a probe path is just connected to."""
        self.upstream = make(self.net, probe=None)
        result = self.upstream.probe()
        link = self.net.accept()
        probed = self.successResultOf(result)
        self.assertEqual((probed.status, probed.alive), (None, True))
        self.assertEqual(link.server.received, b"")

    def test_connect_only_refused(self):
        """And that can fail."""
        self.upstream = make(self.net, probe=None)
        result = self.upstream.probe()
        self.net.refuse()
        self.assertFailed(result, Kind.NETWORK)
