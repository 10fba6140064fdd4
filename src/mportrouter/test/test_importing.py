"""Configurations of other routers: what is written for them here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from .. import config
from ..errors import ConfigError
from ..importing import ImportedConfig, read_foreign
from ..settings import Settings

CHAIN: dict[str, Any] = {
    "proxy_port": 8788,
    "providers": [
        {"name": "minimax", "base_url": "https://api.minimax.io/anthropic", "api_key_env": "MINIMAX_API_KEY"},
        {"name": "moonshot", "base_url": "https://api.moonshot.ai/anthropic/", "api_key_env": "MOONSHOT_API_KEY"},
        {"name": "own", "base_url": "https://api.newprovider.com/anthropic", "api_key_env": "OWN_KEY"},
    ],
    "cooldown_minutes": 20,
}
STACK = """\
routing:
  default_strategy: exhaust
  retry_after_seconds: 120
providers:
  - id: groq-1
    type: groq
    api_key: gsk_hidden-1
    models:
      - llama-3.3-70b-versatile
      - llama-3.1-8b-instant
    priority: 1
  - {id: groq-2, type: groq, api_key: "${GROQ_TWO}", models: [llama-3.3-70b-versatile], priority: 2}
  - {id: openai-1, type: openai, api_key: sk-your_openai_key, models: [gpt-4o]}
  - {id: 9-gemini, type: gemini, api_key: hidden-gemini, models: [gemini-2.5-flash]}
  - {id: ollama, type: openai-compatible, base_url: "http://localhost:11434/v1", api_key: hidden-o, models: [llama3.2]}
  - {id: bare, type: openai-compatible, base_url: "http://127.0.0.1:1234/v1"}
"""
TAGS: dict[str, Any] = {
    "port": 3457,
    "providers": {
        "anthropic": {"passthrough": True},
        "cerebras": {
            "baseUrl": "https://api.cerebras.ai/v1/chat/completions",
            "apiKey": "csk-hidden",
            "models": ["zai-glm-4.7", "gpt-oss-120b"],
        },
        "codex": {
            "baseUrl": "https://chatgpt.com/backend-api/codex/responses",
            "authFile": "~/.codex/other.json",
            "models": ["gpt-5.1-codex"],
        },
        "mine": {"baseUrl": "http://127.0.0.1:8000/v1/chat/completions", "apiKey": "YOUR_KEY"},
        "kimi": {"baseUrl": "https://api.moonshot.ai/anthropic/v1/messages", "apiKey": "hidden-kimi"},
    },
    "usage": {
        "logFile": "~/.claude-code-router/usage.jsonl",
        "costs": {"zai-glm-4.7": {"input": 2.25, "output": 2.75}},
    },
}


def imported(
    text: str | dict[str, Any], env: Mapping[str, str] | None = None, name: str = "/c/config.json"
) -> ImportedConfig:
    """A file's import."""
    return read_foreign(name, text if isinstance(text, str) else json.dumps(text, indent=1), env or {})


def loaded(made: ImportedConfig, **more: str) -> Settings:
    """The settings that an import gives where its lines of .env are in place."""
    return config.load(made.yaml, "m.yaml", {}, {**{name: value.value for name, value in made.env}, **more}, {})


class ImportTestCase(SynchronousTestCase):
    """What holds for each."""

    def assertMistake(
        self, text: str | dict[str, Any], *words: str, name: str = "/c/config.json", env: Any = None
    ) -> None:
        """The file is refused with one mistake that has these words."""
        error = self.assertRaises(ConfigError, imported, text, env, name)
        self.assertEqual(len(error.mistakes), 1, error.mistakes)
        for word in words:
            self.assertIn(word, error.mistakes[0])

    def assertHidden(self, made: ImportedConfig) -> None:
        """No secret is in what is written or told."""
        self.assertNotIn("hidden", made.yaml + "".join(made.notes) + repr(made))


class ChainTests(ImportTestCase):
    """claude-proxy."""

    ENV: ClassVar[dict[str, str]] = {"MINIMAX_API_KEY": "hidden-m", "MOONSHOT_API_KEY": "hidden-k", "OTHER": "hidden-o"}

    def test_settings(self) -> None:
        """The providers in their order, what moves on, the cooldown, the limit of a body."""
        made = imported(CHAIN, self.ENV)
        self.assertEqual(made.kind, "claude-proxy")
        self.assertHidden(made)
        settings = loaded(made, OWN_KEY="k")
        (port,) = settings.ports.values()
        self.assertEqual((port.port, port.mode, port.body_bytes), (8788, "fallback", 10 * 1024 * 1024))
        mode = settings.modes["fallback"]
        self.assertEqual(mode.upstreams, ("minimax", "moonshot", "own"))
        self.assertEqual((mode.move_on, mode.cooldown), ((429, 500, 502, 503, 504), 1200.0))
        providers = {id: settings.upstreams[id].provider for id in mode.upstreams}
        self.assertEqual(providers, {"minimax": "minimax", "moonshot": "moonshot", "own": "custom"})
        own = settings.upstreams["own"]
        self.assertEqual((own.base_url, own.auth_style), ("https://api.newprovider.com/anthropic", "bearer"))
        key = settings.upstreams["moonshot"].api_key
        assert key is not None
        self.assertEqual(key.value, "hidden-k")

    def test_env(self) -> None:
        """Only variables that are named go into .env; one without a value is told of."""
        made = imported(CHAIN, self.ENV)
        self.assertEqual([name for name, _ in made.env], ["MINIMAX_API_KEY", "MOONSHOT_API_KEY"])
        self.assertIn("with the values that they had: MINIMAX_API_KEY, MOONSHOT_API_KEY", made.notes[-2])
        self.assertIn("before the start: OWN_KEY", made.notes[-1])

    def test_defaults(self) -> None:
        """What the file leaves out is as the other program has it."""
        made = imported({"providers": CHAIN["providers"][:1]}, self.ENV)
        settings = loaded(made)
        self.assertEqual(list(settings.ports), [8787])
        self.assertEqual(settings.modes["fallback"].cooldown, 1800.0)

    def test_other_host(self) -> None:
        """A known provider at another host of its keeps what is known of it."""
        entry = {"name": "minimax", "base_url": "https://api.minimaxi.com/anthropic", "api_key_env": "K"}
        made = imported({"proxy_port": 1, "providers": [entry]}, {"K": "k"})
        upstream = loaded(made).upstreams["minimax"]
        self.assertEqual((upstream.provider, upstream.base_url), ("minimax", "https://api.minimaxi.com/anthropic"))
        self.assertIn("taken for the provider 'minimax'", made.notes[0])

    def test_unknown(self) -> None:
        """What there is nothing like here is left out and told, with its line."""
        made = imported({**CHAIN, "colour": "red"}, self.ENV)
        (told,) = [note for note in made.notes if "colour" in note]
        self.assertRegex(told, r"^/c/config\.json:[0-9]+: colour was left out")

    def test_mistakes(self) -> None:
        """Each is told with its line in the file that was read."""
        for change, words in (
            ({"base_url": "http://api.example.com"}, "providers[0].base_url: expected https"),
            ({"base_url": "https://u:p@h/"}, "without a user name"),
            ({"name": None}, "providers[0].name: expected a value"),
            ({"api_key_env": []}, "providers[0].api_key_env: expected one value"),
        ):
            entry = {**CHAIN["providers"][0], **change}
            text = json.dumps({"proxy_port": 1, "providers": [entry]}, indent=1)
            self.assertMistake(text, "/c/config.json:", words)
        lacking = {"name": "a", "base_url": "https://a"}
        self.assertMistake({"proxy_port": 1, "providers": [lacking]}, "providers[0]: api_key_env is needed")
        self.assertMistake({"proxy_port": 1, "providers": ["a"]}, "providers[0]: expected a mapping")
        self.assertMistake({"proxy_port": 0, "providers": []}, "proxy_port: expected a port")
        self.assertMistake({**CHAIN, "providers": CHAIN["providers"][:1] * 2}, "'minimax' is there twice")
        self.assertMistake({**CHAIN, "cooldown_minutes": "soon"}, "cooldown_minutes: expected a whole number")


class StackTests(ImportTestCase):
    """MultiRouter."""

    def made(self, text: str = STACK, **env: str) -> ImportedConfig:
        return imported(text, env, "/c/providers.yaml")

    def test_settings(self) -> None:
        """Accounts in their order with the models that they have, the strategy, the time of rest."""
        made = self.made(GROQ_TWO="hidden-2")
        self.assertEqual(made.kind, "multirouter")
        self.assertHidden(made)
        settings = loaded(made)
        mode = settings.modes["stacked"]
        self.assertEqual((mode.strategy, mode.retry_after, mode.auto_model), ("exhaust", 120.0, "multirouter-auto"))
        self.assertEqual(mode.upstreams, ("groq-1", "groq-2", "9-gemini", "ollama", "bare"))
        self.assertEqual(settings.notices, ("modes.stacked: skipped, for want of a key: openai-1 (OPENAI_1_API_KEY)",))
        seen = {id: (up.provider, up.dialect, up.offers) for id, up in settings.upstreams.items()}
        self.assertEqual(seen["groq-1"], ("groq", "openai-chat", ("llama-3.3-70b-versatile", "llama-3.1-8b-instant")))
        self.assertEqual(seen["9-gemini"], ("gemini", "gemini", ("gemini-2.5-flash",)))
        self.assertEqual(seen["ollama"], ("custom", "openai-chat", ("llama3.2",)))
        self.assertEqual(settings.upstreams["ollama"].base_url, "http://localhost:11434")
        self.assertEqual(settings.upstreams["bare"].auth_style, "none")
        (port,) = settings.ports.values()
        self.assertEqual((port.port, port.token, port.client_limit), (3000, None, 100))

    def test_switched_off(self) -> None:
        """An account that is switched off there is not asked here; it is told."""
        made = self.made(STACK.replace("priority: 1", "enabled: false").replace("priority: 2}", "enabled: true}"))
        self.assertNotIn("groq-1", made.yaml)
        self.assertIn("groq-2", made.yaml)
        self.assertTrue(any("providers[0] is switched off and was left out" in note for note in made.notes), made.notes)
        self.assertFalse(any("enabled" in note for note in made.notes))

    def test_keys(self) -> None:
        """A key in the file goes to a variable named after its account; a variable that is named keeps its name."""
        made = self.made(GROQ_TWO="hidden-2")
        self.assertEqual(
            {name: value.value for name, value in made.env},
            {
                "GROQ_1_API_KEY": "gsk_hidden-1",
                "GROQ_TWO": "hidden-2",
                "_9_GEMINI_API_KEY": "hidden-gemini",
                "OLLAMA_API_KEY": "hidden-o",
            },
        )
        self.assertIn("before the start: OPENAI_1_API_KEY", made.notes[-1])
        self.assertIn("before the start: GROQ_TWO, OPENAI_1_API_KEY", self.made().notes[-1])

    def test_same_names(self) -> None:
        """Two accounts whose variables would be the same get different ones."""
        made = self.made("providers: [{id: a-1, type: groq, api_key: x}, {id: a_1, type: groq, api_key: y}]")
        self.assertEqual([(name, key.value) for name, key in made.env], [("A_1_API_KEY", "x"), ("A_1_API_KEY_2", "y")])
        keys = [loaded(made).upstreams[id].api_key for id in ("a-1", "a_1")]
        self.assertEqual([key.value for key in keys if key], ["x", "y"])

    def test_server(self) -> None:
        """Port, token, limit and log level come from .env."""
        made = self.made(PORT="3001", API_KEY="hidden-token", RATE_LIMIT_MAX="0", LOG_LEVEL="debug", NODE_ENV="x")
        self.assertHidden(made)
        settings = loaded(made)
        (port,) = settings.ports.values()
        assert port.token is not None
        self.assertEqual((port.port, port.token.value, port.client_limit), (3001, "hidden-token", 0))
        self.assertEqual(settings.logs.level, "debug")
        self.assertTrue(any("GATEWAY_TOKEN" in note for note in made.notes))

    def test_in_turns(self) -> None:
        """The other strategy."""
        mode = loaded(self.made(STACK.replace("exhaust", "round-robin"))).modes["stacked"]
        self.assertEqual((mode.strategy, mode.auto_model), ("round-robin", "multirouter-auto"))

    def test_order(self) -> None:
        """That the order counts, and not the numbers, is told once."""
        told = [note for note in self.made().notes if "priority" in note]
        self.assertEqual(len(told), 1)

    def test_mistakes(self) -> None:
        """Each is told with its line; none shows a key."""
        homeless = STACK.replace(', base_url: "http://127.0.0.1:1234/v1"', "")
        for text, words in (
            (STACK.replace("type: groq\n", "type: grok\n"), "providers.yaml:6: providers[0].type: expected one of"),
            (STACK.replace("    type: groq\n", ""), "providers.yaml:5: providers[0]: type is needed"),
            (STACK.replace("id: groq-2", "id: groq-1"), "providers.yaml:12: providers[1].id: 'groq-1' is there twice"),
            (homeless, "providers.yaml:16: providers[5]: base_url is needed"),
            (STACK.replace("gsk_hidden-1", "[hidden]"), "providers.yaml:7: providers[0].api_key: expected one value"),
            (STACK.replace("exhaust", "random"), "providers.yaml:2: routing.default_strategy: expected one of"),
            (STACK + "  - x\n", "providers.yaml:17: providers[6]: expected a mapping"),
        ):
            self.assertMistake(text, words, name="/c/providers.yaml")
        for name, value in (("PORT", "many"), ("RATE_LIMIT_MAX", "-1"), ("LOG_LEVEL", "loud")):
            self.assertMistake(STACK, f".env {name}: expected", name="/c/providers.yaml", env={name: value})


class TagTests(ImportTestCase):
    """claude-multi-proxy."""

    def test_settings(self) -> None:
        """The client's own login without a tag; what a tag may name; lines of tokens and prices."""
        made = imported(TAGS)
        self.assertEqual(made.kind, "claude-multi-proxy")
        self.assertHidden(made)
        settings = loaded(made)
        mode = settings.modes["tagged"]
        self.assertEqual((mode.strategy, mode.upstreams, mode.tags), ("only", ("anthropic",), True))
        self.assertEqual(list(settings.ports), [3457])
        ups = settings.upstreams
        self.assertEqual(ups["anthropic"].auth, "client")
        self.assertEqual(ups["cerebras"].provider, "cerebras")
        self.assertEqual(ups["cerebras"].offers, ("zai-glm-4.7", "gpt-oss-120b"))
        self.assertEqual((ups["codex"].auth, ups["codex"].auth_file), ("codex", "~/.codex/other.json"))
        self.assertEqual((ups["mine"].provider, ups["mine"].base_url), ("custom", "http://127.0.0.1:8000"))
        self.assertEqual((ups["kimi"].provider, ups["kimi"].dialect), ("moonshot", "anthropic"))
        self.assertEqual(settings.logs.usage, "~/.claude-code-router/usage.jsonl")
        self.assertEqual(settings.prices, {"zai-glm-4.7": {"input": Decimal("2.25"), "output": Decimal("2.75")}})
        self.assertEqual([name for name, _ in made.env], ["CEREBRAS_API_KEY", "MOONSHOT_API_KEY"])
        self.assertIn("before the start: MINE_API_KEY", made.notes[-1])

    def test_no_main(self) -> None:
        """Without its entry Anthropic is asked with the client's login all the same."""
        made = imported({"providers": {"cerebras": TAGS["providers"]["cerebras"]}})
        settings = loaded(made)
        self.assertEqual(settings.upstreams["anthropic"].auth, "client")
        self.assertEqual(list(settings.ports), [3456])

    def test_own_key(self) -> None:
        """An Anthropic entry with a key uses that."""
        made = imported({"providers": {"anthropic": {"apiKey": "sk-ant-hidden"}}})
        self.assertHidden(made)
        upstream = loaded(made).upstreams["anthropic"]
        assert upstream.api_key is not None
        self.assertEqual((upstream.auth, upstream.api_key.value), ("key", "sk-ant-hidden"))

    def test_mistakes(self) -> None:
        """Each is told with its line."""
        self.assertMistake({"providers": {"x": {}}}, "config.json:3: providers.x: baseUrl is needed")
        self.assertMistake({"providers": {"x": {"baseUrl": "ftp://x"}}}, "providers.x.baseUrl: expected a URL")
        self.assertMistake({"port": 70000, "providers": {"anthropic": {}}}, "port: expected a port")
        self.assertMistake({"providers": {"cerebras": {"apiKey": {}}}}, "providers.cerebras.apiKey: expected one value")
        self.assertMistake(
            {"providers": {}, "usage": {"costs": {"m": {"input": "dear"}}}}, "usage.costs.m.input: expected US dollars"
        )


class FileTests(ImportTestCase):
    """What is no such file."""

    def test_unknown(self) -> None:
        """The message names the three that can be read."""
        for text in ("{}", "", "providers: 1", "providers: [{a: 1}]", "ports: {8787: mixed}", "providers: []"):
            self.assertMistake(text, "/c/x.yaml: this is no", "claude-proxy", "MultiRouter", name="/c/x.yaml")

    def test_broken(self) -> None:
        """What is no JSON or no YAML is told with its line."""
        self.assertMistake('{"providers": [\n{,}]}', "/c/config.json:2: not valid JSON")
        self.assertMistake("providers: [\n", "/c/x.yaml:2: not valid YAML", name="/c/x.yaml")
        self.assertMistake("- a", "/c/x.yaml:1: expected a mapping", name="/c/x.yaml")
        self.assertMistake("[" * 100_000, "nested too deeply", name="/c/x.yaml")

    def test_tabs(self) -> None:
        """JSON may be indented with tabs, and begin with a byte order mark."""
        made = imported("\ufeff" + json.dumps(CHAIN, indent="\t"), ChainTests.ENV)
        self.assertEqual(made.kind, "claude-proxy")

    def test_strange_texts(self) -> None:
        """Names and models that YAML would read otherwise come through."""
        text = "providers: [{id: 'on: # x', type: groq, api_key: k, models: ['null', '${x', 'a\"b', \"é: y\"]}]"
        made = read_foreign("p.yaml", text.replace("${x", "$${x"), {})
        self.assertEqual(loaded(made).upstreams["on: # x"].offers, ("null", "${x", 'a"b', "é: y"))
