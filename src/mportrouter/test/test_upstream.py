"""Tests for :mod:`mportrouter.upstream`."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..connection import CallFailed as ConnectionCallFailed
from ..errors import ConfigError, Kind
from ..interfaces import ICall
from ..settings import TLS, Capabilities, Pins, Secret, Timeouts, UpstreamSettings
from ..upstream import CallFailed, Upstream
from .authorities import OTHER_PIN, ROOT, ROOT_PIN, issue, serving
from .wires import OK, Net, Sink

#: What a client of today sends, and what a hostile one could.
CLIENT = [
    (b"Host", b"localhost:8787"),
    (b"User-Agent", b"claude-cli/2.1.329 (external, cli)"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"2"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"a-2025-01-01,b-2025-02-02"),
    (b"X-Api-Key", b"sk-client"),
    (b"Authorization", b"Bearer sk-client-bearer"),
    (b"x-goog-api-key", b"goog-client"),
    (b"API-Key", b"azure-client"),
    (b"Cookie", b"session=secret"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Connection", b"keep-alive, X-Hop"),
    (b"X-Hop", b"1"),
    (b"Keep-Alive", b"timeout=5"),
    (b"TE", b"trailers"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Upgrade", b"h2c"),
    (b"Expect", b"100-continue"),
    (b"Proxy-Authorization", b"Basic secret"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"x-mportrouter-token", b"gateway-secret"),
    (b"X-MPortRouter-Format", b"json"),
    (b"X-Stainless-Retry-Count", b"0"),
]
FORWARDED = [
    (b"User-Agent", b"claude-cli/2.1.329 (external, cli)"),
    (b"Content-Type", b"application/json"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"a-2025-01-01,b-2025-02-02"),
    (b"X-Stainless-Retry-Count", b"0"),
]
IDENTITY = (b"accept-encoding", b"identity")
VERSION = (b"anthropic-version", b"2023-06-01")


def make(net=None, **changes):
    """An account at a provider on loopback."""
    settings = {"base_url": "http://127.0.0.1:8080", "api_key": Secret("sk-own")} | changes
    return Upstream(UpstreamSettings("minimax-1", "minimax", **settings), None, net or Net())


class AccountTests(SynchronousTestCase):
    """What an upstream is."""

    def test_attributes(self):
        """It shows its settings, and what others hold on to it."""
        circuit = object()
        settings = UpstreamSettings(
            "a", "anthropic", base_url="http://127.0.0.1:1", capabilities=Capabilities(images="refused"), enabled=False
        )
        upstream = Upstream(settings, None, Net(), circuit=circuit)
        self.assertEqual((upstream.id, upstream.provider_name), ("a", "anthropic"))
        self.assertIs(upstream.settings, settings)
        self.assertIs(upstream.capabilities, settings.capabilities)
        self.assertIs(upstream.circuit, circuit)
        self.assertEqual((upstream.enabled, upstream.in_flight, upstream.models), (False, 0, ()))
        self.assertIsNone(upstream.health)
        self.assertIsNone(upstream.tls_details)
        self.assertIs(CallFailed, ConnectionCallFailed)

    def test_bad_url(self):
        """A base URL that is none is refused."""
        self.assertRaises(ValueError, make, base_url="api.test")

    def test_bad_ca_file(self):
        """So is a ``ca_file`` that is not there."""
        self.assertRaises(ConfigError, make, base_url="https://api.test", tls=TLS(ca_file="/no/such"))

    def test_timeouts(self):
        """The limits on connecting are the account's."""
        pool = make(timeouts=Timeouts(connect=1.5, tls=2.5)).pool
        self.assertEqual((pool.connect_timeout, pool.tls_timeout), (1.5, 2.5))

    def test_old_tls_is_said(self):
        """TLS 1.2 is a thing to warn of."""
        with capturedLogs() as events:
            make(base_url="https://api.test", tls=TLS("1.2"))
        self.assertEqual([event["minimum"] for event in events if "minimum" in event], ["1.2"])

    def test_models(self):
        """Model names are mapped by the account's patterns."""
        upstream = make(models=(("claude-opus-*", "MiniMax-M3"), ("claude-*", "=")))
        self.assertEqual(upstream.model_for("claude-opus-4-1"), "MiniMax-M3")
        self.assertEqual(upstream.model_for("claude-haiku-4-5"), "claude-haiku-4-5")

    def test_target(self):
        """The base path comes before the path, the query after it; neither is touched."""
        for base, path, query, target in (
            ("http://127.0.0.1:8080", b"/v1/messages", b"", b"/v1/messages"),
            ("http://127.0.0.1:8080/", b"/v1/messages", b"beta=true", b"/v1/messages?beta=true"),
            ("http://127.0.0.1:8080/anthropic", b"/v1/messages", b"a=%2F&a", b"/anthropic/v1/messages?a=%2F&a"),
            ("http://127.0.0.1:8080/anthropic/", b"/v1/x", b"", b"/anthropic/v1/x"),
        ):
            self.assertEqual(make(base_url=base).target_for(path, query), target)

    def test_light(self):
        """Importing it loads neither treq nor Twisted's web client: the first request need not wait for them."""
        code = "import sys, mportrouter.upstream; print(sorted({'treq', 'twisted.web.client'} & set(sys.modules)))"
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        self.assertEqual(output.strip(), "[]")


class HeaderTests(SynchronousTestCase):
    """Which fields go on."""

    def test_key(self):
        """End-to-end fields go on as they came; the account's key replaces every credential of the client's."""
        self.assertEqual(make().headers_for(CLIENT), [*FORWARDED, IDENTITY, (b"x-api-key", b"sk-own")])

    def test_bearer(self):
        """A provider that wants a bearer token gets one, and nothing beside it."""
        self.assertEqual(
            make(auth_style="bearer").headers_for(CLIENT),
            [*FORWARDED, IDENTITY, (b"authorization", b"Bearer sk-own")],
        )

    def test_subscription_token(self):
        """A subscription's token goes as a bearer token whatever the style: as x-api-key it is refused."""
        fields = make(api_key=Secret("sk-ant-oat01-x")).headers_for([])
        self.assertEqual(fields, [VERSION, IDENTITY, (b"authorization", b"Bearer sk-ant-oat01-x")])

    def test_client_auth(self):
        """With ``auth: client`` the client's own key goes on untouched, and no key of ours."""
        fields = make(auth="client").headers_for(CLIENT)
        self.assertEqual(
            [field for field in fields if field not in FORWARDED],
            [(b"X-Api-Key", b"sk-client"), (b"Authorization", b"Bearer sk-client-bearer"), IDENTITY],
        )

    def test_anthropic_keys_stay_with_anthropic(self):
        """An Anthropic key that a client sends is no credential of another provider."""
        login = [(b"authorization", b"Bearer sk-ant-oat01-x"), (b"x-api-key", b"mm-key")]
        fields = make(auth="client", api_key=None).headers_for(login)
        self.assertIn((b"x-api-key", b"mm-key"), fields)
        self.assertNotIn(login[0], fields)

    def test_client_auth_without_a_key(self):
        """A client without a credential is passed on without one."""
        self.assertEqual(make(auth="client").headers_for([]), [VERSION, IDENTITY])

    def test_no_key(self):
        """An account without a key sends none, the client's neither."""
        self.assertEqual(make(api_key=None).headers_for(CLIENT), [*FORWARDED, IDENTITY])

    def test_gateway_token_in_a_credential(self):
        """A gateway token that the client sent as its key goes nowhere, not even with ``auth: client``."""
        upstream = make(auth="client")
        for field in ((b"x-api-key", b"gateway"), (b"Authorization", b"Bearer gateway")):
            fields = upstream.headers_for([field, (b"a", b"gateway")], consumed=b"gateway")
            self.assertEqual(fields, [(b"a", b"gateway"), VERSION, IDENTITY])
        own = (b"X-Api-Key", b"sk-client")
        self.assertEqual(upstream.headers_for([own], consumed=b"gateway"), [own, VERSION, IDENTITY])

    def test_encoding(self):
        """The client's accept-encoding goes on where the answer need not be read."""
        fields = make().headers_for([(b"Accept-Encoding", b"gzip")], identity=False)
        self.assertEqual(fields, [(b"Accept-Encoding", b"gzip"), VERSION, (b"x-api-key", b"sk-own")])

    def test_version(self):
        """A client that says no version gets the one that Claude wants; one that is there is never changed."""
        upstream = make(api_key=None)
        self.assertEqual(upstream.headers_for([(b"a", b"1")]), [(b"a", b"1"), VERSION, IDENTITY])
        for field in ((b"anthropic-version", b"2099-01-01"), (b"Anthropic-Version", b""), VERSION):
            self.assertEqual(upstream.headers_for([field]), [field, IDENTITY])
        self.assertEqual(make(api_key=None, dialect="other").headers_for([]), [IDENTITY])

    def test_named_in_connection(self):
        """Fields that ``Connection`` names are hop-by-hop, in whatever case and however many such fields there are."""
        fields = [(b"connection", b"close"), (b"A", b"1"), (b"b", b"2"), (b"Connection", b" a , , B"), (b"c", b"3")]
        self.assertEqual(make(api_key=None).headers_for(fields), [(b"c", b"3"), VERSION, IDENTITY])

    def test_repeated(self):
        """Repeated and odd fields keep number and order."""
        fields = [(b"a", b"1"), (b"b", b""), (b"a", b"2"), (b"A", b"\xff")]
        self.assertEqual(make(api_key=None).headers_for(fields), [*fields, VERSION, IDENTITY])

    @given(
        st.sampled_from(["key", "client"]),
        st.lists(
            st.tuples(
                st.sampled_from(
                    [b"x-api-key", b"authorization", b"x-goog-api-key", b"api-key", b"cookie", b"x-mportrouter-token"]
                ),
                st.integers(0, 2**32),
            )
        ),
    )
    def test_credentials(self, auth, given_fields):
        """However a name is written: with a key of ours no credential of the client's goes on."""
        fields = []
        for name, bits in given_fields:
            written = bytes(
                ord(chr(byte).upper()) if bits >> place & 1 else byte for place, byte in enumerate(name)
            )
            fields.append((written, b"secret"))
        sent = make(auth=auth).headers_for(fields)
        secrets = {name.lower() for name, value in sent if value == b"secret"}
        if auth == "key":
            self.assertEqual(secrets, set())
            self.assertEqual([name for name, value in sent if b"sk-own" in value], [b"x-api-key"])
        else:
            self.assertLessEqual(secrets, {b"x-api-key", b"authorization"})
            self.assertEqual([value for _, value in sent if b"sk-own" in value], [])

    def test_bounded(self):
        """Invented field names do not pile up."""
        upstream = make()
        for number in range(5000):
            upstream.headers_for([(b"x-%d" % number, b"1")])
        self.assertLess(len(upstream._onward._classes), 3000)
        self.assertEqual(upstream.headers_for([(b"X-API-KEY", b"1")]), [VERSION, IDENTITY, (b"x-api-key", b"sk-own")])


class SendTests(SynchronousTestCase):
    """A request on its way."""

    def test_send(self):
        """Target, fields and the body's very bytes go out, the answer comes to the sink."""
        net, sink = Net(), Sink()
        upstream = make(net, base_url="http://127.0.0.1:8080/anthropic")
        body = b'{"model": "x",  "odd": "\\ud800"}'
        call = upstream.send(b"POST", b"/v1/messages", b"beta=true", CLIENT, body, sink)
        verifyObject(ICall, call)
        link = net.accept()
        head, _, sent = link.server.received.partition(b"\r\n\r\n")
        self.assertEqual(sent, body)
        self.assertTrue(head.startswith(b"POST /anthropic/v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n"))
        self.assertIn(b"x-api-key: sk-own", head)
        self.assertNotIn(b"client", head.replace(b"claude-cli", b""))
        self.assertNotIn(b"gateway-secret", head)
        link.answer(OK)
        self.assertEqual(sink.body, b"hi")
        self.assertEqual(upstream.pool.stats.idle, 1)

    def test_client_credential_stays_with_its_host(self):
        """Of two accounts only the one with ``auth: client`` is sent the client's credential, at its own host."""
        net = Net()
        theirs = make(net, base_url="http://127.0.0.1:8001", auth="client", api_key=None)
        other = make(net, base_url="http://127.0.0.1:8002")
        for upstream in (theirs, other):
            upstream.send(b"POST", b"/v1/messages", b"", CLIENT, b"{}", Sink())
        ports = [client[1] for client in net.tcpClients]
        received = {port: net.accept().server.received for port in ports}
        self.assertIn(b"sk-client", received[8001])
        self.assertNotIn(b"sk-client", received[8002])
        self.assertNotIn(b"sk-own", received[8001])

    def test_stop(self):
        """Stopping waits for what is under way."""
        net, sink = Net(), Sink()
        upstream = make(net)
        upstream.send(b"GET", b"/v1/models", b"", [], b"", sink)
        link = net.accept()
        done = upstream.stop()
        self.assertNoResult(done)
        link.answer(OK)
        self.assertTrue(link.closed)
        self.successResultOf(done)
        self.assertEqual(sink.body, b"hi")


class TLSTests(SynchronousTestCase):
    """An upstream over TLS."""

    def test_details(self):
        """The status can show what was agreed on, and the last mismatch."""
        net = Net()
        ca_file = self.mktemp()
        ROOT.cert_pem.write_to_path(ca_file)
        upstream = make(
            net, base_url="https://127.0.0.1", tls=TLS(ca_file=ca_file), pins=Pins("report-only", (OTHER_PIN,))
        )
        self.assertEqual(upstream.tls_details["version"], "")
        upstream.send(b"GET", b"/v1/models", b"", [], b"", Sink())
        self.assertIn(b"GET /v1/models", net.accept(serving(issue("127.0.0.1"))).server.received)
        details = upstream.tls_details
        self.assertEqual(details["version"], "TLSv1.3")
        self.assertEqual(details["pins"][-1], ROOT_PIN)
        self.assertEqual(details["mismatches"], 1)
        self.assertIn(ROOT_PIN, details["last_mismatch"])


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
