"""Accounts in a configuration: where their keys and addresses come from, and which keys are missed."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .. import catalog, config
from ..settings import Capabilities, Secret
from .test_config import KEYS, load, mistakes

PINS = "[sha256/kIdp6NNEd8wsugYyyIYFsi1ylMCED3hZbSR8ZFsa/A4=, sha256/mEflZT5enoR1FuXLgYYGqnVEoZvmf9c2bVBpiOjYQ0c=]"


class UpstreamTests(SynchronousTestCase):
    """Accounts, their keys and addresses."""

    def test_base_variables(self) -> None:
        """A base URL from a variable may end in a slash or /v1; MiniMax's gets its dialect's path if it has none."""
        for base, minimax in (
            ("https://api.minimax.io", "https://api.minimax.io/anthropic"),
            ("https://api.minimax.io/v1/", "https://api.minimax.io/anthropic"),
            ("https://api.minimax.io/anthropic/v1", "https://api.minimax.io/anthropic"),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9/anthropic"),
        ):
            upstream = load(None, {**KEYS, "MINIMAX_API_BASE": base}).upstreams["minimax"]
            self.assertEqual(upstream.base_url, minimax)
        settings = load(None, {**KEYS, "ANTHROPIC_API_BASE": "https://gate.example.com/claude/v1"})
        self.assertEqual(settings.upstreams["anthropic"].base_url, "https://gate.example.com/claude")
        self.assertEqual(settings.origins["upstreams.anthropic.base_url"], "environment ANTHROPIC_API_BASE")

    def test_base_of_the_router_itself(self) -> None:
        """A client's variable that still points at the router is told, not followed in a circle."""
        environment = {**KEYS, "ANTHROPIC_API_BASE": "http://localhost:8787/v1"}
        (only,) = mistakes(None, environment)
        self.assertIn("a port of this router itself", only)
        self.assertTrue(only.startswith("environment ANTHROPIC_API_BASE: "))
        self.assertEqual(mistakes(None, environment, port=8771), [])

    def test_plain_http(self) -> None:
        """http:// is for loopback hosts only, and a base URL holds no secrets."""
        for base in ("http://127.0.0.1:1", "http://[::1]:1/x", "http://localhost:1", "https://api.example.com"):
            self.assertEqual(mistakes(f'upstreams: {{x: {{provider: custom, base_url: "{base}"}}}}'), [])
        for base in (
            "http://api.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "ftp://localhost",
            "api.example.com",
            "https://",
            "https://u:secret-word@api.example.com",
            "https://api.example.com/?key=secret-word",
            "https://api.example.com:99999",
            "https://[::1",
            "http://127.0.0.1\\\\@evil.example.com",
        ):
            told = mistakes(f'upstreams: {{x: {{provider: custom, base_url: "{base}"}}}}')
            self.assertEqual(len(told), 1, base)
            self.assertNotIn("secret-word", told[0])

    def test_key_sources(self) -> None:
        """A variable that the file names wins over the provider's own, which wins over a key in the file."""
        self.assertEqual(self._key("upstreams: {anthropic: {api_key: literal}}"), "sk-ant-one")
        self.assertEqual(self._key("upstreams: {anthropic: {api_key: literal}}", {"MINIMAX_API_KEY": "x"}), "literal")
        self.assertEqual(self._key("upstreams: {anthropic: {api_key: '${WORK}'}}", {**KEYS, "WORK": "work"}), "work")
        self.assertEqual(self._key("upstreams: {anthropic: {api_key: '${WORK}'}}"), "sk-ant-one")

    def _key(self, text: str, environment: Mapping[str, str] = KEYS) -> str | None:
        key = load(text, environment).upstreams["anthropic"].api_key
        return key and key.value

    def test_second_account(self) -> None:
        """A second account of a provider starts from its row, and has the provider's key if none is said."""
        settings = load("upstreams: {spare: {provider: minimax}, own: {provider: minimax, api_key: literal}}")
        spare, own = settings.upstreams["spare"], settings.upstreams["own"]
        self.assertEqual(spare.base_url, "https://api.minimax.io/anthropic")
        self.assertEqual(spare.api_key, Secret("eyJ-two"))
        self.assertEqual(own.api_key, Secret("literal"))
        self.assertEqual(spare.capabilities, settings.upstreams["minimax"].capabilities)

    def test_client_auth(self) -> None:
        """auth: client needs no key, and has none of the router's."""
        settings = load("ports: {8771: anthropic}\nupstreams: {anthropic: {auth: client}}")
        self.assertIsNone(settings.upstreams["anthropic"].api_key)
        self.assertEqual(mistakes("ports: {8771: anthropic}\nupstreams: {anthropic: {auth: client}}", {}), [])
        (only,) = mistakes("upstreams: {anthropic: {auth: client, api_key: x}}")
        self.assertIn("take one out", only)

    def test_one_login_one_provider(self) -> None:
        """A mode in which a client's own login would go to two providers is a mistake."""
        text = "modes: {both: {strategy: fallback, upstreams: [minimax, anthropic]}}\n"
        text += "upstreams: {anthropic: {auth: client}, minimax: {auth: client}}\nports: {8771: both}"
        self.assertTrue(any("belongs to one provider" in mistake for mistake in mistakes(text)))

    def test_models(self) -> None:
        """Own patterns stand before the catalogue's and take their place."""
        settings = load('upstreams: {minimax: {models: {"claude-opus-*": MiniMax-M2.7, x: y}}}')
        models = settings.upstreams["minimax"].models
        self.assertEqual(models[:2], (("claude-opus-*", "MiniMax-M2.7"), ("x", "y")))
        self.assertEqual(models[-1], ("*", "MiniMax-M3"))
        self.assertEqual(len(dict(models)), len(models))

    def test_sections(self) -> None:
        """Capabilities, limits, TLS and the rest are read on top of the row."""
        upstream = load(
            "upstreams:\n"
            "  minimax:\n"
            "    capabilities: {stop_sequences: honoured, mid_system: yes, strip_fields: [a, b], context: 200000}\n"
            "    limits: {requests: 100/min, tokens: 200k/min, concurrency: 50}\n"
            "    tls: {minimum: 1.2, ca_file: /etc/ca.pem}\n"
            "    probe: off\n"
        ).upstreams["minimax"]
        self.assertEqual(upstream.capabilities.stop_sequences, "honoured")
        self.assertEqual(upstream.capabilities.tool_choice_force, "ignored")
        self.assertTrue(upstream.capabilities.mid_system)
        self.assertEqual(upstream.capabilities.strip_fields, ("a", "b"))
        self.assertEqual(upstream.capabilities.context, 200000)
        self.assertEqual((upstream.limits.requests, upstream.limits.tokens), (100.0, 200000.0))
        self.assertEqual(upstream.limits.concurrency, 50)
        self.assertEqual((upstream.tls.minimum, upstream.tls.ca_file), ("1.2", "/etc/ca.pem"))
        self.assertIsNone(upstream.probe)

    def test_custom(self) -> None:
        """A custom provider signs its thinking alone, and needs a base URL."""
        settings = load("upstreams: {a: {provider: custom, base_url: http://127.0.0.1:9/v1}}")
        self.assertEqual(settings.upstreams["a"].base_url, "http://127.0.0.1:9")
        self.assertEqual(settings.upstreams["a"].capabilities.thinking_signature, "a")
        (only,) = mistakes("upstreams: {a: {provider: custom}}")
        self.assertIn("base_url: is needed", only)

    def test_pins(self) -> None:
        """Shipped pins act only for the host they are of; own ones need two, and are reported unless they say more."""
        upstreams = load().upstreams
        self.assertEqual(upstreams["anthropic"].pins.mode, "report-only")
        self.assertEqual(load("upstreams: {anthropic: {pins: enforce}}").upstreams["anthropic"].pins.mode, "enforce")
        self.assertEqual(load("upstreams: {anthropic: {pins: off}}").upstreams["anthropic"].pins.mode, "off")
        moved = load(None, {**KEYS, "ANTHROPIC_API_BASE": "https://gate.example.com"}).upstreams["anthropic"]
        self.assertEqual((moved.pins.mode, moved.pins.sha256), ("off", ()))
        own = load(f"upstreams: {{minimax: {{pins: {{sha256: {PINS}}}}}}}").upstreams["minimax"].pins
        self.assertEqual(own.mode, "report-only")
        self.assertEqual(own.sha256[0], "kIdp6NNEd8wsugYyyIYFsi1ylMCED3hZbSR8ZFsa/A4=")

    def test_too_few_pins(self) -> None:
        """One pin, the same twice, or none with enforce is a mistake."""
        one = PINS[1:].split(",")[0]
        for pins in (f"{{sha256: [{one}]}}", f"{{sha256: [{one}, {one}]}}", "{mode: enforce}", "enforce"):
            (only,) = mistakes(f"upstreams: {{minimax: {{pins: {pins}}}}}")
            self.assertIn("two different pins", only)
        self.assertEqual(mistakes(f"upstreams: {{minimax: {{pins: {{mode: off, sha256: [{one}]}}}}}}"), [])


class DialectTests(SynchronousTestCase):
    """What an upstream is spoken to in."""

    def test_rows(self) -> None:
        """Of a provider with several dialects the named one's row holds, else the first."""
        text = (
            "upstreams:\n"
            "  a: {provider: deepseek}\n"
            "  b: {provider: deepseek, dialect: openai-chat}\n"
            "  c: {provider: openai, dialect: openai-responses}\n"
            "  d: {provider: gemini}\n"
            "  groq: {}\n"
        )
        upstreams = load(text).upstreams
        told = {id: (upstreams[id].dialect, upstreams[id].base_url, upstreams[id].auth_style) for id in "abcd"}
        self.assertEqual(
            told,
            {
                "a": ("anthropic", "https://api.deepseek.com/anthropic", "bearer"),
                "b": ("openai-chat", "https://api.deepseek.com", "bearer"),
                "c": ("openai-responses", "https://api.openai.com", "bearer"),
                "d": ("gemini", "https://generativelanguage.googleapis.com", "x-goog-api-key"),
            },
        )
        self.assertIn("type", upstreams["a"].capabilities.strip_tool_fields)
        self.assertEqual(upstreams["b"].capabilities.strip_tool_fields, ())
        self.assertEqual(upstreams["groq"].key_variable, "GROQ_API_KEY")

    def test_not_spoken(self) -> None:
        """A dialect that the provider does not speak is a mistake that says what it speaks; so is one that is none."""
        (only,) = mistakes("upstreams:\n  x:\n    provider: gemini\n    dialect: openai-chat\n")
        self.assertTrue(only.startswith("m.yaml:4: upstreams.x.dialect: gemini does not speak 'openai-chat'"), only)
        self.assertIn("it speaks gemini", only)
        (only,) = mistakes("upstreams: {x: {provider: openai, dialect: openai-chatt}}")
        self.assertIn("did you mean 'openai-chat'?", only)

    def test_custom(self) -> None:
        """A custom provider takes any, each with the usual way of sending a key."""
        for dialect, style in (
            ("anthropic", "x-api-key"),
            ("openai-chat", "bearer"),
            ("openai-responses", "bearer"),
            ("gemini", "x-goog-api-key"),
        ):
            text = f"upstreams: {{x: {{provider: custom, base_url: http://127.0.0.1:9, dialect: {dialect}}}}}"
            upstream = load(text).upstreams["x"]
            self.assertEqual((upstream.dialect, upstream.auth_style), (dialect, style))
            self.assertEqual(upstream.capabilities.thinking_signature, "x")

    def test_versions(self) -> None:
        """A version at the end of a base URL stays, but for the /v1 that the dialect's own paths begin with."""
        for dialect, base, kept in (
            ("openai-chat", "http://127.0.0.1:9/api/v1", "http://127.0.0.1:9/api"),
            ("openai-chat", "http://127.0.0.1:9/api/paas/v4/", "http://127.0.0.1:9/api/paas/v4"),
            ("gemini", "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
            ("gemini", "http://127.0.0.1:9/v1beta", "http://127.0.0.1:9/v1beta"),
        ):
            text = f"upstreams: {{x: {{provider: custom, base_url: '{base}', dialect: {dialect}}}}}"
            self.assertEqual(load(text).upstreams["x"].base_url, kept)

    def test_base_variable_of_another_dialect(self) -> None:
        """A base URL from a variable is for each dialect of the provider, whichever it was written for."""
        text = "upstreams: {chat: {provider: minimax, dialect: openai-chat}}"
        for base in ("https://mm.example.com", "https://mm.example.com/anthropic", "https://mm.example.com/v1"):
            upstreams = load(text, {**KEYS, "MINIMAX_API_BASE": base}).upstreams
            self.assertEqual(upstreams["chat"].base_url, "https://mm.example.com")
            self.assertEqual(upstreams["minimax"].base_url, "https://mm.example.com/anthropic")

    def test_local_servers(self) -> None:
        """A server on the own machine needs no key, and takes one that is said."""
        text = "ports: {9001: home}\nmodes: {home: {strategy: only, upstreams: [ollama]}}\nupstreams:\n"
        self.assertEqual(mistakes(text + "  ollama: {}", {}), [])
        settings = load(text + "  ollama: {api_key: sk-own}", {})
        self.assertEqual(settings.upstreams["ollama"].auth_style, "bearer")
        (only,) = mistakes(text + "  ollama: {api_key: sk-own, auth_style: none}", {})
        self.assertIn("sends no key; take one out", only)
        (only,) = mistakes(text + "  ollama: {base_url: 'http://10.0.0.5:11434'}", {})
        self.assertIn("loopback", only)


class ModelColumnTests(SynchronousTestCase):
    """``capabilities: {models: …}``."""

    def columns(self, text: str, id: str = "x") -> dict[str, Capabilities]:
        return dict(load(text).upstreams[id].model_capabilities)

    def test_patterns(self) -> None:
        """Own patterns stand first and start from what the catalogue says of such models."""
        text = (
            "upstreams:\n"
            "  x:\n"
            "    provider: gemini\n"
            "    capabilities:\n"
            "      models:\n"
            '        "gemini-2.5-pro": {max_output: 1000}\n'
            '        "gemini-2.5*": {images: refused}\n'
        )
        columns = self.columns(text)
        self.assertEqual(list(columns)[:2], ["gemini-2.5-pro", "gemini-2.5*"])
        self.assertEqual(list(columns).count("gemini-2.5*"), 1)
        pro = columns["gemini-2.5-pro"]
        self.assertEqual((pro.max_output, pro.reasoning_budget, pro.images), (1000, (128, 32768), "honoured"))
        self.assertEqual(columns["gemini-2.5*"].images, "refused")
        self.assertEqual(columns["gemini-2.5*"].thought_signature, "optional")
        self.assertEqual(columns["gemini-2*"].schema_profile, "gemini_schema")

    def test_all_models(self) -> None:
        """What is said of the upstream holds for its models too, but for those that have it said otherwise."""
        text = (
            "upstreams: {x: {provider: gemini, capabilities: {thought_signature: none, max_output: 9, "
            "models: {'gemini-3*': {max_output: 10}}}}}"
        )
        columns = self.columns(text)
        self.assertEqual({each.thought_signature for each in columns.values()}, {"none"})
        self.assertEqual(columns["gemini-3*"].max_output, 10)
        self.assertEqual(columns["gemini-2*"].max_output, 9)

    def test_shipped(self) -> None:
        """Without a word of the configuration's the catalogue's patterns hold."""
        columns = self.columns("", "anthropic")
        self.assertEqual(columns["claude-*-4-5*"].reasoning_kind, "budget")

    def test_every_column(self) -> None:
        """Every column can be set, for all models or some, to what the catalogue's rows have and to its default."""
        for field in attrs.fields(Capabilities):
            values = {field.default}
            for row in catalog.load().values():
                values |= {getattr(spoken.capabilities, field.name) for spoken in row.dialects.values()}
            for value in values:
                shown = json.dumps("off" if value is None else value)
                columns = f"{{{field.name}: {shown}}}"
                for capabilities in (columns, f"{{models: {{m: {columns}}}}}"):
                    text = "upstreams: {x: {provider: custom, base_url: http://127.0.0.1:9, capabilities: %s}}"
                    text %= capabilities
                    upstream = load(text).upstreams["x"]
                    (*_, (_, told)) = (("", upstream.capabilities), *upstream.model_capabilities)
                    self.assertEqual(getattr(told, field.name), value)

    def test_mistakes(self) -> None:
        """A column that is none, a value that it does not take: with the line, and the nearest name."""
        for columns, words in (
            ("{max_outptu: 5}", "did you mean 'max_output'?"),
            ("{reasoning_kind: efort}", "did you mean 'effort'?"),
            ("{sampling_refused: [temprature]}", "did you mean 'temperature'?"),
            ("{reasoning_budget: [5]}", "the smallest and the largest"),
            ("{reasoning_budget: [5, 4]}", "the smallest and the largest"),
            ("{tool_id_pattern: '['}", "expected a regular expression"),
            ("{temperature_max: hot}", "expected a number"),
            ("{generate_path: responses}", "begins with /"),
            ("{max_output: 0}", "from 1 on"),
        ):
            text = "upstreams:\n  minimax:\n    capabilities:\n      models:\n        'a*':\n          "
            (only,) = mistakes(text + columns)
            self.assertTrue(only.startswith("m.yaml:6: upstreams.minimax.capabilities.models.a*."), only)
            self.assertIn(words, only)
            (only,) = mistakes(f"upstreams:\n  minimax:\n    capabilities: {columns}")
            self.assertTrue(only.startswith("m.yaml:3: upstreams.minimax.capabilities."), only)
        for models in ("[a]", "{a: b}", "{a: [b]}"):
            (only,) = mistakes(f"upstreams: {{minimax: {{capabilities: {{models: {models}}}}}}}")
            self.assertIn("expected a mapping", only)


class CodexTests(SynchronousTestCase):
    """The login of a ChatGPT plan."""

    TEXT = (
        "ports: {9001: plan}\n"
        "modes: {plan: {strategy: only, upstreams: [chatgpt]}}\n"
        "upstreams:\n"
        "  chatgpt: {provider: codex%s}\n"
    )

    def test_off_unless_configured(self) -> None:
        """No mode and no upstream of the router's own asks with it."""
        self.assertEqual({upstream.auth for upstream in load(all_ports=True).upstreams.values()}, {"key"})

    def test_defaults(self) -> None:
        """Naming the provider is enough; no key is missed, and a warning tells what it is."""
        settings = load(self.TEXT % "", {})
        upstream = settings.upstreams["chatgpt"]
        self.assertEqual((upstream.auth, upstream.dialect), ("codex", "openai-responses"))
        self.assertEqual(upstream.auth_file, "~/.codex/auth.json")
        self.assertEqual(upstream.token_url, "https://auth.openai.com/oauth/token")
        self.assertTrue(any("ChatGPT plan" in told for told in config.warnings(settings)))
        self.assertFalse(any("ChatGPT plan" in told for told in config.warnings(load())))

    def test_file(self) -> None:
        """The file is where Codex's own variable says, unless the configuration says."""
        home = {"CODEX_HOME": "/srv/codex/"}
        settings = load(self.TEXT % "", home)
        self.assertEqual(settings.upstreams["chatgpt"].auth_file, "/srv/codex/auth.json")
        self.assertEqual(settings.origins["upstreams.chatgpt.auth_file"], "environment CODEX_HOME")
        settings = load(self.TEXT % ", auth_file: /tmp/a.json", home)
        self.assertEqual(settings.upstreams["chatgpt"].auth_file, "/tmp/a.json")

    def test_mistakes(self) -> None:
        """The login goes to its vendor only, is nobody's but its user's, and is nothing for other ways of asking."""
        for more, words in (
            (", base_url: https://gate.example.com/codex", "goes to chatgpt.com"),
            (", base_url: https://chatgpt.com.example.com", "goes to chatgpt.com"),
            (", token_url: https://auth.example.com/token", "goes to openai.com"),
            (", api_key: sk-x", "take one out"),
            (", token_url: off", "needs auth_file and token_url"),
            (", auth: key, api_key: x, auth_file: /x, token_url: off", "only upstreams with 'auth: codex'"),
        ):
            (only,) = mistakes(self.TEXT % more, {})
            self.assertIn(words, only)
            self.assertIn("m.yaml:4", only)
        (only,) = mistakes("token: t\n" + self.TEXT % "", {}, host="0.0.0.0")
        self.assertIn("loopback only", only)
        told = mistakes("upstreams: {x: {provider: openai, auth: codex}}")
        self.assertTrue(any("goes with 'dialect: openai-responses' only" in each for each in told), told)
        for more in (
            ", base_url: http://127.0.0.1:9/codex, token_url: http://127.0.0.1:9/token",
            ", base_url: https://gov.chatgpt.com/backend-api/codex",
            ", auth: client, auth_file: off, token_url: off",
        ):
            self.assertEqual(mistakes(self.TEXT % more, {}), [])


class KeyTests(SynchronousTestCase):
    """A key that is not there."""

    def test_missing(self) -> None:
        """Each upstream of an opened mode is named once, with its variable and --demo."""
        told = mistakes(None, {}, all_ports=True)
        self.assertEqual(len(told), 2)
        for variable, sentence in zip(("ANTHROPIC_API_KEY", "MINIMAX_API_KEY"), told, strict=True):
            self.assertIn(variable, sentence)
            self.assertIn("--demo", sentence)

    def test_only_what_is_asked_for(self) -> None:
        """A port needs the keys of its current mode, no others."""
        anthropic = {"ANTHROPIC_API_KEY": "x"}
        self.assertEqual(mistakes(None, anthropic, mode="anthropic"), [])
        (only,) = mistakes(None, anthropic, mode="mixed")
        self.assertIn("MINIMAX_API_KEY", only)
        self.assertEqual(len(mistakes(None, {}, mode="interactive")), 2)

    def test_demo(self) -> None:
        """The demonstration needs none."""
        self.assertEqual(mistakes(None, {}, demo=True, all_ports=True), [])
        self.assertEqual(mistakes("demo: true", {}), [])

    def test_named_variable(self) -> None:
        """The variable that the file names is the one to set."""
        text = "ports: {1: one}\nmodes: {one: {strategy: only, upstreams: [a]}}\nupstreams: {a: {provider: %s}}"
        (only,) = mistakes(text % "custom, base_url: https://a.example.com, api_key: '${A_KEY}'")
        self.assertIn("set A_KEY", only)
        (only,) = mistakes(text % "custom, base_url: https://a.example.com")
        self.assertIn("set upstreams.a.api_key", only)

    def test_refused_key(self) -> None:
        """A key with a space in it is refused, not shown, and not called missing as well."""
        for told in (
            mistakes(None, {**KEYS, "ANTHROPIC_API_KEY": "sk ant"}),
            mistakes("upstreams: {anthropic: {api_key: 'sk ant'}}", {"MINIMAX_API_KEY": "x"}),
        ):
            self.assertEqual(len(told), 1)
            self.assertNotIn("sk ant", told[0])

    def test_disabled(self) -> None:
        """A disabled upstream needs no key, but a mode needs one that is enabled."""
        text = "upstreams: {minimax: {enabled: false}}"
        (only,) = mistakes(text, {"ANTHROPIC_API_KEY": "x"})
        self.assertIn("modes.minimax.upstreams: every upstream of it is disabled", only)
