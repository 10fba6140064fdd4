"""The presets: that each is a configuration, alone and together with the others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from .. import config
from ..settings import Settings
from .test_config import _checkout, load, mistakes

KEYS = {
    "model-router": ("DEEPSEEK_API_KEY", "KIMI_API_KEY", "MINIMAX_API_KEY"),
    "claude-proxy": ("MINIMAX_API_KEY", "MOONSHOT_API_KEY"),
    "claude-multi-proxy": ("CEREBRAS_API_KEY",),
    "multirouter": (
        "GROQ_API_KEY_1",
        "GROQ_API_KEY_2",
        "CEREBRAS_API_KEY",
        "GEMINI_API_KEY",
        "OPENROUTER_API_KEY",
        "OPENAI_API_KEY",
    ),
}

#: The shape that users and outside tools rely on, variables between braces without quotation marks included.
SHAPE = """\
ports:
  8787: {mode: mixed, dynamic: true}
  8773: {mode: mixed, commit: first-content, locked: false}     # commit: first-content | complete
  3000: {mode: stacked, token: ${GATEWAY_TOKEN}, client_limit: 100/min}
modes:
  mixed:   {strategy: fallback, upstreams: [minimax, anthropic], retries: 1}
  stacked: {strategy: exhaust, upstreams: [groq-1, groq-2], retry_after: 5m}
  by-name: {strategy: table, table: [{match: "claude-opus-*", upstream: deepseek, model: deepseek-v4-pro}, {default: minimax}], tags: true}
upstreams:
  minimax:
    provider: minimax
    dialect: anthropic
    base_url: https://api.minimax.io/anthropic
    api_key: ${MINIMAX_API_KEY}
    models: {"claude-opus-*": MiniMax-M3, "*": MiniMax-M3}
    capabilities: {stop_sequences: ignored}
    timeouts: {connect: 5s, first_content: 30s, idle: 60s, total: off}
    limits: {requests: 100/min, tokens: 200000/min, concurrency: 50}
    tls: {minimum: "1.3", ca_file: null}
  deepseek: {provider: deepseek, api_key: ${DEEPSEEK_API_KEY}}
  groq-1: {provider: groq, api_key: ${GROQ_1}}
  groq-2: {provider: groq, api_key: ${GROQ_2:-}}
breaker: {failures: 5, open_for: 30s}
health: {every: 30s}
budget: {per_hour: 10.00}
alerts: {webhook: ${ALERT_WEBHOOK}}
logs: {file: ~/.ai-router/logs/router.log, level: info}
state: ~/.ai-router/state
"""  # noqa: E501 - the shape as it is published


def preset(name: str) -> str:
    return _checkout(f"etc/presets/{name}.yaml")


def opened(name: str) -> Settings:
    """A preset with all of its keys."""
    return load(preset(name), {variable: f"key-{index}" for index, variable in enumerate(KEYS[name])})


class PresetTests(SynchronousTestCase):
    """Each alone."""

    def test_ports(self) -> None:
        """Each opens the port of the program that it stands in for, and warns of nothing but a person's plan."""
        for name, port in zip(KEYS, (9099, 8787, 3456, 3000), strict=True):
            settings = opened(name)
            self.assertEqual(list(settings.ports), [port])
            told = config.warnings(settings)
            self.assertEqual(len(told), int(name == "claude-multi-proxy"))
            self.assertTrue(all(warning.startswith("upstreams.codex: asks with the ChatGPT plan") for warning in told))

    def test_every_upstream_is_used(self) -> None:
        """What a preset configures, one of its modes or a tag can ask."""
        for name in KEYS:
            settings = opened(name)
            (port,) = settings.ports.values()
            mode = settings.modes[port.mode]
            own = {path.split(".")[1] for path in settings.origins if path.startswith("upstreams.")}
            self.assertEqual(set(mode.upstreams) if not mode.tags else own, own)

    def test_demo(self) -> None:
        """Each starts without a key in the demo, with every account."""
        for name in KEYS:
            settings = load(preset(name), {}, demo=True)
            self.assertEqual(settings.notices, ())
            self.assertEqual(settings.modes, opened(name).modes)

    def test_without_keys(self) -> None:
        """Without any key each mistake names the variable; tags alone need none."""
        for name, variables in KEYS.items():
            told = " ".join(mistakes(preset(name), {}))
            for variable in () if name == "claude-multi-proxy" else variables:
                self.assertIn(f"set {variable} in the environment or in .env", told)

    def test_together(self) -> None:
        """All of them in one configuration open their four ports beside each other."""
        text = "".join(f"{section}:\n{rows}" for section, rows in _merged().items())
        settings = load(text, {variable: "k" for variables in KEYS.values() for variable in variables})
        self.assertEqual(list(settings.ports), [3000, 3456, 8787, 9099])
        for name in KEYS:
            alone = opened(name)
            (port,) = alone.ports.values()
            self.assertEqual(settings.modes[port.mode], alone.modes[port.mode])


class ShapeTests(SynchronousTestCase):
    """The published shape."""

    def test_shape(self) -> None:
        """It loads as it stands."""
        keys = ("GATEWAY_TOKEN", "MINIMAX_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "GROQ_1")
        settings = load(SHAPE, {**dict.fromkeys(keys, "k"), "ALERT_WEBHOOK": "https://hooks.example.com/x"})
        token = settings.ports[3000].token
        assert token is not None
        self.assertEqual((token.value, settings.ports[3000].client_limit), ("k", 100))
        self.assertEqual(settings.modes["stacked"].upstreams, ("groq-1",))
        self.assertEqual([row.upstream for row in settings.modes["by-name"].table], ["deepseek", "minimax"])
        self.assertEqual(settings.upstreams["groq-1"].key_variable, "GROQ_1")
        assert settings.alerts.webhook is not None
        self.assertEqual(settings.alerts.webhook.value, "https://hooks.example.com/x")

    def test_braces(self) -> None:
        """Braces of variables need no quotation marks between other braces, and mean the same within them."""
        environment = {"L": "warn", "ANTHROPIC_API_KEY": "a", "MINIMAX_API_KEY": "m"}
        for said in ("{level: ${L}}", "{level: '${L}'}", "{level: ${NOT:-warn}}", '{"level": ${L}}', "\n  level: ${L}"):
            self.assertEqual(load(f"logs: {said}", environment).logs.level, "warn")
        (only,) = mistakes("admin: {username: x, tcp_port: 9, password: ${P}}")
        self.assertIn("the variable P is not set", only)


def _merged() -> dict[str, str]:
    """The sections of all presets, each once."""
    sections: dict[str, str] = {}
    seen: set[str] = set()
    for name in KEYS:
        section = entry = ""
        for line in preset(name).splitlines(keepends=True):
            if line[:1].isalpha():
                section = line.strip().rstrip(":")
            elif section and line.strip() and not line.startswith("#"):
                if line[:3].strip() and not line.startswith("  #"):
                    entry = f"{section}.{line.split(':')[0].strip()}.{name}"
                    known = f"{section}.{line.split(':')[0].strip()}"
                    if known in seen:
                        entry = ""
                    seen.add(known)
                if entry:
                    sections[section] = sections.get(section, "") + line
    return sections
