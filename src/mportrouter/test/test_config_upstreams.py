"""Accounts in a configuration: where their keys and addresses come from, and which keys are missed."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from ..settings import Secret
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
