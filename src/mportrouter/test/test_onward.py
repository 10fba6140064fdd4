"""Tests for :mod:`mportrouter.onward`: which of a client's fields reach which upstream."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import __version__, catalog
from ..onward import Onward, credential, owner_of, without_key
from ..settings import Capabilities, Secret, UpstreamSettings
from .test_claims import token

IDENTITY = (b"accept-encoding", b"identity")
AGENT = (b"User-Agent", b"codex_exec/0.169.0")
#: What clients of the four dialects send beside what every HTTP client does.
TELLING = [
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"a,b"),
    (b"openai-beta", b"responses=v1"),
    (b"x-goog-api-client", b"genai/3"),
    (b"X-Stainless-Lang", b"python"),
    (b"originator", b"codex_exec"),
    (b"session-id", b"s"),
]
ACCOUNTS = [
    (b"OpenAI-Organization", b"org-x"),
    (b"openai-project", b"proj-x"),
    (b"ChatGPT-Account-Id", b"acc-x"),
    (b"x-goog-user-project", b"p"),
]
CHATGPT = token({"iss": "https://auth.openai.com"}).encode()
KEYS = {
    "anthropic": b"sk-ant-api03-x",
    "openai": b"sk-proj-x",
    "openrouter": b"sk-or-v1-x",
    "groq": b"gsk_x",
    "cerebras": b"csk-x",
    "gemini": b"AIzaSy-x",
    "kimi-code": b"sk-kimi-x",
    "codex": CHATGPT,
}


def onward(provider: str, dialect: str = "", **changes: Any) -> Onward:
    row = catalog.provider(provider)
    spoken = row.dialects[dialect or row.dialect]
    settings = UpstreamSettings(
        "x",
        provider,
        **{"dialect": dialect or row.dialect, "auth_style": spoken.auth_style, "api_key": Secret("own-key")} | changes,
    )
    return Onward(settings, credential(settings))


class CredentialTests(SynchronousTestCase):
    """The account's own key."""

    def field(self, style: str, key: str = "k", **changes: Any) -> Any:
        return credential(UpstreamSettings("x", "x", auth_style=style, api_key=Secret(key), **changes))

    def test_styles(self) -> None:
        """It is sent as the provider wants it; a server that wants none gets none."""
        self.assertEqual(self.field("x-api-key"), (b"x-api-key", b"k"))
        self.assertEqual(self.field("bearer"), (b"authorization", b"Bearer k"))
        self.assertEqual(self.field("x-goog-api-key"), (b"x-goog-api-key", b"k"))
        self.assertIsNone(self.field("none"))
        self.assertEqual(self.field("x-api-key", "sk-ant-oat01-x"), (b"authorization", b"Bearer sk-ant-oat01-x"))

    def test_named_field(self) -> None:
        """A field that was named by itself holds the key as it is, whatever key it is."""
        for style, name in (("header:token", b"token"), ("header:authorization", b"authorization")):
            for key in ("k", "sk-ant-oat01-x"):
                self.assertEqual(self.field(style, key), (name, key.encode()))

    def test_own_field(self) -> None:
        """A key may go in a field of any name; what a client has in it does not go along."""
        made = onward("custom", "anthropic", auth_style="x-corp-token")
        fields = made.same([(b"X-Corp-Token", b"theirs"), (b"x-api-key", b"any"), (b"x-other", b"1")], False, b"")
        told = [field for field in fields if field[0] != b"anthropic-version"]
        self.assertEqual(told, [(b"x-other", b"1"), (b"x-corp-token", b"own-key")])

    def test_no_own(self) -> None:
        """An account that asks with another credential has no key of its own."""
        for auth in ("client", "codex"):
            self.assertIsNone(self.field("bearer", auth=auth))


class SameTests(SynchronousTestCase):
    """A request in the client's own dialect."""

    def test_accounts(self) -> None:
        """Names of the client's accounts stay here where its credential does; everything else goes on."""
        for provider in ("openai", "gemini", "groq", "codex"):
            fields = onward(provider).same([*TELLING, *ACCOUNTS], True, b"")
            self.assertEqual([field for field in fields if field in ACCOUNTS], [])
            self.assertEqual([field for field in fields if field in TELLING], TELLING)

    def test_accounts_of_the_client(self) -> None:
        """They go on with its own login, and only with it."""
        login = (b"authorization", b"Bearer " + CHATGPT)
        upstream = onward("codex", auth="client")
        self.assertEqual(upstream.same([login, *ACCOUNTS], False, b""), [login, *ACCOUNTS])
        self.assertEqual(upstream.same(ACCOUNTS, False, b""), [])
        foreign = (b"authorization", b"Bearer sk-or-v1-x")
        self.assertEqual(upstream.same([foreign, *ACCOUNTS], False, b""), [])

    def test_logins(self) -> None:
        """With ``auth: client`` each known login reaches its own provider and no other."""
        for name, dialect in (
            ("anthropic", "anthropic"),
            ("minimax", "anthropic"),
            ("openrouter", "anthropic"),
            ("openai", "openai-chat"),
            ("openai", "openai-responses"),
            ("groq", "openai-chat"),
            ("codex", "openai-responses"),
            ("gemini", "gemini"),
            ("custom", "openai-chat"),
        ):
            upstream = onward(name, dialect, auth="client")
            for owner, key in KEYS.items():
                for field in ((b"Authorization", b"Bearer " + key), (b"authorization", b"bearer  " + key)):
                    passed = field in upstream.same([field], True, b"")
                    self.assertEqual(passed, owner == name, (name, dialect, owner))

    def test_ways(self) -> None:
        """Of the ways to send a login those of the upstream's dialect are passed on."""
        sent = [(name, b"unknown") for name in (b"x-api-key", b"authorization", b"x-goog-api-key", b"api-key")]
        for provider, dialect, ways in (
            ("minimax", "anthropic", {b"x-api-key", b"authorization"}),
            ("minimax", "openai-chat", {b"authorization"}),
            ("openai", "openai-responses", {b"authorization"}),
            ("gemini", "gemini", {b"x-goog-api-key", b"authorization"}),
        ):
            fields = onward(provider, dialect, auth="client").same(sent, True, b"")
            self.assertEqual({name for name, value in fields if value == b"unknown"}, ways)


class TranslatedTests(SynchronousTestCase):
    """A request that was written anew."""

    def test_fields(self) -> None:
        """Of the client's fields its name alone goes on; the rest is about a body that is no more."""
        fields = onward("groq").translated([AGENT, *TELLING, *ACCOUNTS, (b"accept", b"text/event-stream")], b"")
        self.assertEqual(
            fields,
            [
                (b"content-type", b"application/json"),
                (b"accept", b"*/*"),
                IDENTITY,
                AGENT,
                (b"authorization", b"Bearer own-key"),
            ],
        )

    def test_own_name(self) -> None:
        """A client without a name gets the router's."""
        fields = onward("gemini").translated([], b"")
        self.assertIn((b"user-agent", b"mportrouter/" + __version__.encode()), fields)
        self.assertIn((b"x-goog-api-key", b"own-key"), fields)

    def test_version(self) -> None:
        """Claude gets the version that the request was written for, whatever another dialect's client said."""
        fields = onward("anthropic").translated(TELLING, b"")
        told = [field for field in fields if field[0].startswith(b"anthropic")]
        self.assertEqual(told, [(b"anthropic-version", b"2023-06-01")])

    def test_streams_only(self) -> None:
        """A provider that streams only is asked for events."""
        upstream = onward("codex", capabilities=Capabilities(stream_only=True))
        self.assertIn((b"accept", b"text/event-stream"), upstream.translated([], b""))

    def test_no_key(self) -> None:
        """A server on the own machine gets no credential."""
        names = {name for name, _ in onward("ollama").translated([(b"authorization", b"Bearer x")], b"")}
        self.assertEqual(names, {b"content-type", b"accept", b"accept-encoding", b"user-agent"})

    def test_client_login(self) -> None:
        """With ``auth: client`` a login goes on where its look says that it is this provider's, in its way."""
        upstream = onward("anthropic", auth="client", api_key=None)
        chat_client = [(b"authorization", b"Bearer sk-ant-api03-x")]
        self.assertIn((b"x-api-key", b"sk-ant-api03-x"), upstream.translated(chat_client, b""))
        for value in (b"Bearer sk-proj-x", b"unknown", b"", b"Bearer ", CHATGPT):
            names = {name for name, _ in upstream.translated([(b"authorization", value)], b"")}
            self.assertFalse(names & {b"x-api-key", b"authorization"}, value)
        google = onward("gemini", auth="client", api_key=None)
        self.assertIn((b"x-goog-api-key", b"AIza-x"), google.translated([(b"x-api-key", b"AIza-x")], b""))

    def test_gateway_token(self) -> None:
        """The gateway's own token goes nowhere, even where it looks like a key."""
        upstream = onward("anthropic", auth="client", api_key=None)
        names = {name for name, _ in upstream.translated([(b"x-api-key", b"sk-ant-gate")], b"sk-ant-gate")}
        self.assertNotIn(b"x-api-key", names)

    @given(
        st.sampled_from(["anthropic", "openai", "gemini", "groq", "ollama", "codex"]),
        st.lists(
            st.tuples(
                st.sampled_from([name for name, _ in [*TELLING, *ACCOUNTS, (b"Cookie", b""), (b"X-Api-Key", b"")]]),
                st.binary(max_size=8),
            )
        ),
    )
    def test_nothing_else(self, provider: str, fields: list[tuple[bytes, bytes]]) -> None:
        """Whatever a client sends, only its name changes what goes out."""
        upstream = onward(provider)
        self.assertEqual(upstream.translated(fields, b""), upstream.translated([], b""))


class OwnerTests(SynchronousTestCase):
    """Whose a credential is."""

    def test_owners(self) -> None:
        """Known by how they begin, or by who issued them; a longer beginning wins."""
        for owner, key in KEYS.items():
            self.assertEqual(owner_of(b"Bearer " + key), owner)
            self.assertEqual(owner_of(key), owner)
        for unknown in (b"", b"sk-x", token({"iss": "https://api.minimax.io"}).encode(), b"eyJ", b"eyJ.\xff.x"):
            self.assertIsNone(owner_of(unknown))


class QueryTests(SynchronousTestCase):
    """A key in a query."""

    def test_key(self) -> None:
        """It is taken out, and nothing else is touched."""
        for query, left in (
            (b"key=AIza", b""),
            (b"alt=sse&key=AIza", b"alt=sse"),
            (b"key=a&alt=sse&key=b", b"alt=sse"),
            (b"access_token=x&a=%2F", b"a=%2F"),
            (b"monkey=1&keys=2&a=key=3", b"monkey=1&keys=2&a=key=3"),
        ):
            self.assertEqual(without_key(query), left)
