"""What ``--check-config`` prints, and what is warned of."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .. import catalog, config, config_schema
from ..settings import Settings
from .test_config import KEYS, load


class WarningTests(SynchronousTestCase):
    """What holds, but should be known."""

    def test_none(self) -> None:
        """The defaults give none."""
        self.assertEqual(config.warnings(load(all_ports=True)), [])

    def test_each(self) -> None:
        """An open host, a key in the file, TLS 1.2, and modes that a dynamic port cannot have."""
        text = "host: 0.0.0.0\ntoken: t\nupstreams: {anthropic: {api_key: literal, tls: {minimum: '1.2'}}}"
        told = "\n".join(config.warnings(load(text, {}, mode="anthropic")))
        for words in ("other machines", "written in the file (m.yaml:3)", "TLS 1.2", "switched to minimax"):
            self.assertIn(words, told)
        self.assertNotIn("literal", told)


class RenderTests(SynchronousTestCase):
    """What --check-config prints."""

    TEXT = (
        "ports: {8787: {mode: mixed, token: hidden-one}, 9000: odd}\n"
        "modes: {odd: {strategy: interactive, upstreams: [minimax, mine], quality_floor: high, cost_threshold: 0.5}}\n"
        "upstreams:\n"
        "  mine: {provider: custom, base_url: 'http://[::1]:9/a', api_key: hidden-two, models: {'*': 'a: b # c'}}\n"
        "alerts: {webhook: https://hooks.example.com/hidden-three}\n"
        "admin: {tcp_port: 9999, password: hidden-four}\n"
        "front: {hosts: [router.lan, 'yes'], body_bytes: 1MiB}\n"
        "prices: {'my-*': {input: 0.1, output: 2}}\n"
        "demo: {pace: 5ms, faults: {minimax: 'times=2;status:529'}}\n"
        "state: '$${not a variable}'\n"
    )

    def test_secrets(self) -> None:
        """No secret is shown."""
        shown = config.render(load(self.TEXT))
        for word in ("hidden", *KEYS.values()):
            self.assertNotIn(word, shown)
        self.assertIn('api_key: "****"', shown)

    def test_origins(self) -> None:
        """Each setting that is not a default says where it is from."""
        lines = config.render(load(self.TEXT, debug=True)).splitlines()
        self.assertIn("  level: debug  # from flag --debug", lines)
        self.assertIn("  body_bytes: 1048576  # from m.yaml:7", lines)
        self.assertIn('    api_key: "****"  # from environment ANTHROPIC_API_KEY', lines)
        self.assertIn("  keep: 5", lines)

    def test_every_setting(self) -> None:
        """Every setting has a line."""
        shown = config.render(load(self.TEXT))
        for field in attrs.fields(Settings):
            if field.name not in ("notices", "origins"):
                self.assertIn(f"\n{field.name}:", shown)
        for _, readers in config_schema.SECTIONS.values():
            for key in readers:
                self.assertIn(f"\n  {key}: ", shown)

    def test_models(self) -> None:
        """Under ``models`` stands what some models have otherwise, and nothing else."""
        text = "upstreams: {g: {provider: gemini, capabilities: {models: {'gemini-2.5-pro': {max_output: 5}}}}}"
        shown = config.render(load(text))
        start = shown.index("      models:\n        gemini-2.5-pro:\n", shown.index("\n  g:\n"))
        rows = shown[start:].split("\n        ")[1:]
        self.assertIn("  max_output: 5  # from m.yaml:1", rows)
        self.assertIn("  reasoning_kind: budget", rows[: rows.index('"gemini-3.8-flash*":')])
        self.assertNotIn("  context: 1048576", rows[: rows.index('"gemini-3.8-flash*":')])

    def test_loads_again(self) -> None:
        """What is printed is a configuration of the same meaning, but for the secrets."""
        providers = ", ".join(
            f"'{name}-{dialect}': {{provider: {name}, dialect: {dialect}, models: {{a: b}}}}"
            for name, row in catalog.load().items()
            if name != "custom"
            for dialect in row.dialects
        )
        models = "models: {'gemini-2*': {images: refused}}"
        columns = f"upstreams: {{g: {{provider: gemini, capabilities: {{max_output: 7, {models}}}}}}}"
        for settings in (
            load(self.TEXT),
            load(all_ports=True),
            load("health: {every: off}"),
            load(f"upstreams: {{{providers}}}"),
            load(columns),
        ):
            shown = config.render(settings)
            again = load(shown.replace('"****"', "https://x.example.com"))
            self.assertEqual(_public(again), _public(settings))


def _public(settings: Settings) -> str:
    """Settings as text in which secrets are alike."""
    return repr(attrs.evolve(settings, origins={}))
