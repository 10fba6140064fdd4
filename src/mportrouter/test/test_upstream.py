"""Tests for :mod:`mportrouter.upstream`."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..connection import CallFailed as ConnectionCallFailed
from ..errors import ConfigError, Kind
from ..fields import Fields
from ..interfaces import ICall, ICredential
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


def make(net=None, credential=None, **changes):
    """An account at a provider on loopback."""
    settings = {"base_url": "http://127.0.0.1:8080", "api_key": Secret("sk-own")} | changes
    return Upstream(UpstreamSettings("minimax-1", "minimax", **settings), None, net or Net(), credential=credential)


@implementer(ICredential)
class Changing:
    """A credential that gives one after the other."""

    def __init__(self, given):
        self.given = given

    def fields(self):
        return self.given.pop(0)

    def renew(self, refused):
        return self.fields()


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

    def test_versions(self):
        """Where the base URL ends in a version, the path's own is left out; elsewhere paths are as they came."""
        for base, path, target in (
            ("/v4", b"/v1/chat/completions", b"/v4/chat/completions"),
            ("/api/paas/v4", b"/v1/models", b"/api/paas/v4/models"),
            ("/v1", b"/v1beta/models/m:generateContent", b"/v1/models/m:generateContent"),
            ("/v1beta1", b"/v1beta/models", b"/v1beta1/models"),
            ("/v1", b"/responses", b"/v1/responses"),
            ("/v1", b"/v1", b"/v1"),
            ("/v1", b"/v1x/a", b"/v1/v1x/a"),
            ("/backend-api/codex", b"/responses", b"/backend-api/codex/responses"),
            ("/version1", b"/v1/a", b"/version1/v1/a"),
            ("/openai", b"/v1/a", b"/openai/v1/a"),
        ):
            self.assertEqual(make(base_url="http://127.0.0.1:1" + base).target_for(path, b""), target)

    def test_key_in_the_query(self):
        """A client's key in the query stays here, but where the client's own login is asked for in that way."""
        self.assertEqual(make().target_for(b"/v1/a", b"alt=sse&key=AIza"), b"/v1/a?alt=sse")
        self.assertEqual(make().target_for(b"/v1/a", b"key=AIza"), b"/v1/a")
        self.assertEqual(make(auth="client").target_for(b"/v1/a", b"key=AIza"), b"/v1/a")
        theirs = make(auth="client", auth_style="x-goog-api-key", dialect="gemini")
        self.assertEqual(theirs.target_for(b"/v1/a", b"key=AIza"), b"/v1/a?key=AIza")

    def test_capabilities(self):
        """What holds for a model: the first pattern that matches, else what holds for all."""
        whole, small, other = Capabilities(), Capabilities(images="refused"), Capabilities(max_output=5)
        upstream = make(capabilities=whole, model_capabilities=(("small-*", small), ("s*", other)))
        for model, columns in (("small-1", small), ("s1", other), ("x", whole), ("small-1", small)):
            self.assertIs(upstream.capabilities_for(model), columns)
        self.assertIs(make(capabilities=whole).capabilities_for("small-1"), whole)
        for number in range(3000):
            upstream.capabilities_for(f"s{number}")
        self.assertLess(len(upstream._by_model), 2000)

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

    def test_translated(self):
        """A request that was written anew goes out without the client's fields, to where its writer says."""
        net = Net()
        upstream = make(net, dialect="openai-chat", auth_style="bearer")
        upstream.send(b"POST", b"/v1/chat/completions", b"", CLIENT, b"{}", Sink(), translated=True)
        head = net.accept().server.received.partition(b"\r\n\r\n")[0]
        self.assertEqual(
            head.split(b"\r\n")[1:],
            [
                b"host: 127.0.0.1:8080",
                b"content-type: application/json",
                b"accept: */*",
                b"accept-encoding: identity",
                b"User-Agent: claude-cli/2.1.329 (external, cli)",
                b"authorization: Bearer sk-own",
                b"content-length: 2",
            ],
        )

    def test_memory(self):
        """What is remembered of one head of a client is told apart by where it goes and whether it was written anew."""
        net = Net()
        upstream = make(net)
        fields = Fields([(b"a", b"1")])
        fields.memo = {}
        asked = [(b"/v1/a", b"", False), (b"/v1/a", b"", True), (b"/v1/b", b"", True), (b"/v1/b", b"x=1", True)]
        seen = []
        for _ in range(2):
            for path, query, translated in asked:
                upstream.send(b"POST", path, query, fields, b"{}", Sink(), translated=translated)
                seen.append(net.accept().server.received)
        self.assertEqual(seen[:4], seen[4:])
        self.assertEqual(len(set(seen)), 4)
        self.assertEqual(len(fields.memo), 4)
        self.assertEqual([b"\r\na: 1\r\n" in head for head in seen[:4]], [True, False, False, False])
        for number in range(500):
            upstream.send(b"POST", b"/v1/models/m%d" % number, b"", fields, b"{}", Sink(), translated=True)
        self.assertLess(len(fields.memo), 100)

    def test_changing_credential(self):
        """A credential that changes is asked for before each request, and once more where it is refused."""
        net, sink = Net(), Sink()
        given = [[(b"authorization", b"Bearer one")], [(b"authorization", b"Bearer two")]]
        upstream = make(net, api_key=None, credential=Changing(given))
        verifyObject(ICall, upstream.send(b"POST", b"/v1/responses", b"", CLIENT, b"{}", sink))
        link = net.accept()
        self.assertIn(b"authorization: Bearer one\r\n", link.server.received)
        self.assertNotIn(b"sk-client", link.server.received)
        link.answer(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")
        link = net.accept()
        self.assertIn(b"authorization: Bearer two\r\n", link.server.received)
        link.answer(OK)
        self.assertEqual((sink.status, sink.body), (200, b"hi"))
        self.assertEqual(upstream.pool.stats.in_flight, 0)

    def test_codex(self):
        """An account with ``auth: codex`` says what to do where nobody is logged in."""
        net, sink = Net(), Sink()
        upstream = make(net, api_key=None, auth="codex", auth_file="/no/such", token_url="http://127.0.0.1:9")
        upstream.send(b"POST", b"/v1/responses", b"", CLIENT, b"{}", sink)
        self.assertTrue(sink.quiet)
        net.advance(0)
        self.assertIn("run `codex login`", sink.failure.verdict.message)
        self.assertEqual(net.pending, 0)
        result = self.successResultOf(upstream.probe())
        self.assertEqual((result.failure.kind, result.alive), (Kind.AUTH, False))

    def test_renewal(self):
        """A login is renewed at its own address, over a connection of its own; no field of a client's goes there."""
        net = Net()
        upstream = make(net)
        result = upstream._renew("http://127.0.0.1:9/oauth/token", b'{"a": 1}')
        link = net.accept()
        self.assertIn(b"POST /oauth/token HTTP/1.1\r\n", link.server.received)
        self.assertIn(b'{"a": 1}', link.server.received)
        self.assertNotIn(b"sk-own", link.server.received)
        link.answer(b"HTTP/1.1 401 X\r\nContent-Length: 2\r\n\r\n{}")
        self.assertEqual(self.successResultOf(result), (401, b"{}"))

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
