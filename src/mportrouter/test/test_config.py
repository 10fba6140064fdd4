"""The configuration: what a file, variables and flags together mean, and which mistakes are told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from .. import config, config_schema
from ..errors import ConfigError
from ..settings import DemoSettings, PortSettings, Secret, Settings, Timeouts

KEYS = {"ANTHROPIC_API_KEY": "sk-ant-one", "MINIMAX_API_KEY": "eyJ-two"}
PINS = "[sha256/kIdp6NNEd8wsugYyyIYFsi1ylMCED3hZbSR8ZFsa/A4=, sha256/mEflZT5enoR1FuXLgYYGqnVEoZvmf9c2bVBpiOjYQ0c=]"


def load(
    text: str | None = None,
    environment: Mapping[str, str] = KEYS,
    dotenv: Mapping[str, str] | None = None,
    **flags: Any,
) -> Settings:
    """Settings of a file called ``m.yaml``."""
    return config.load(text, "m.yaml", environment, dotenv or {}, flags)


def mistakes(text: str | None, environment: Mapping[str, str] = KEYS, **flags: Any) -> list[str]:
    """What is wrong with a file."""
    try:
        load(text, environment, **flags)
    except ConfigError as error:
        return error.mistakes
    return []


class DefaultTests(SynchronousTestCase):
    """Without a file."""

    def test_one_port(self) -> None:
        """Just the dynamic port opens, in mixed mode, and only the keys are no defaults."""
        settings = load()
        self.assertEqual(settings.ports, {8787: PortSettings(8787, "mixed", dynamic=True)})
        self.assertEqual(
            settings.origins,
            {
                "upstreams.anthropic.api_key": "environment ANTHROPIC_API_KEY",
                "upstreams.minimax.api_key": "environment MINIMAX_API_KEY",
            },
        )

    def test_all_ports(self) -> None:
        """--all-ports opens the four fixed ports and the dynamic one."""
        modes = {number: port.mode for number, port in load(all_ports=True).ports.items()}
        self.assertEqual(
            modes, {8771: "anthropic", 8772: "minimax", 8773: "mixed", 8774: "interactive", 8787: "mixed"}
        )

    def test_modes(self) -> None:
        """The four modes are there."""
        modes = load().modes
        self.assertEqual(set(modes), {"anthropic", "minimax", "mixed", "interactive"})
        self.assertEqual(modes["mixed"].upstreams, ("minimax", "anthropic"))
        self.assertEqual(modes["mixed"].retries, 1)
        self.assertEqual(modes["anthropic"].strategy, "only")
        self.assertEqual(modes["anthropic"].retries, 0)

    def test_plain_sections_are_the_defaults(self) -> None:
        """Everything the preset does not name is the default of the settings."""
        settings, plain = load(), Settings()
        for name in ("host", "breaker", "health", "budget", "alerts", "logs", "front", "admin", "state", "drain"):
            self.assertEqual(getattr(settings, name), getattr(plain, name))

    def test_preset_in_the_checkout(self) -> None:
        """The preset under etc/ is the one that is shipped inside the package."""
        self.assertEqual(_checkout("etc/presets/ai-router-stack.yaml"), config.default_text())

    def test_preset_as_a_file(self) -> None:
        """Given as a file, the preset opens its five ports and means the same."""
        ours = load(config.default_text())
        self.assertEqual(ours, load(all_ports=True))

    def test_example_in_the_checkout(self) -> None:
        """The commented example says the defaults, and every key there is."""
        text = _checkout("etc/mportrouter.yaml")
        self.assertEqual(load(text), load(all_ports=True))
        sections = [readers for _, readers in config_schema.SECTIONS.values()]
        sections += [config_schema._PORT, config_schema._MODE, config_schema._INTERACTIVE, config_schema._UPSTREAM]
        sections += [*config_schema._UPSTREAM_SECTIONS.values(), config_schema._PRICES, config_schema.SECTIONS]
        for key in {key for section in sections for key in section} | set(config._TOP) | {"pace", "faults"}:
            self.assertIn(f"{key}:", text)

    def test_empty_file(self) -> None:
        """A file with nothing in it is as none."""
        for text in ("", "# nothing\n", "---\n", "ports:\n", "{}"):
            self.assertEqual(load(text), load())


class PortTests(SynchronousTestCase):
    """Which ports open, in which mode."""

    def test_file(self) -> None:
        """A file's ports open, and no others."""
        settings = load("ports: {9001: anthropic, 9002: {mode: mixed, commit: complete, locked: true, token: abc}}")
        self.assertEqual(settings.ports[9001], PortSettings(9001, "anthropic"))
        self.assertEqual(
            settings.ports[9002],
            PortSettings(9002, "mixed", commit="complete", locked=True, token=Secret("abc")),
        )
        self.assertEqual(settings.origins["ports.9001.mode"], "m.yaml:1")

    def test_known_port_keeps_its_nature(self) -> None:
        """8787 is dynamic without saying so."""
        self.assertTrue(load("ports: {8787: minimax}").ports[8787].dynamic)
        self.assertFalse(load("ports: {8787: {mode: minimax, dynamic: no}}").ports[8787].dynamic)

    def test_flag_opens_one(self) -> None:
        """--port --mode opens just that port."""
        settings = load("ports: {9001: anthropic}", port="9002", mode="minimax")
        self.assertEqual(settings.ports, {9002: PortSettings(9002, "minimax", dynamic=True)})
        self.assertEqual(settings.origins["ports.9002"], "flag --port")
        self.assertEqual(settings.origins["ports.9002.mode"], "flag --mode")

    def test_flag_keeps_what_the_file_says(self) -> None:
        """--port of a port in the file opens it as the file has it."""
        settings = load("ports: {9001: {mode: anthropic, token: t}, 9002: mixed}", port=9001)
        self.assertEqual(settings.ports, {9001: PortSettings(9001, "anthropic", token=Secret("t"))})

    def test_flag_of_a_fixed_port(self) -> None:
        """--port 8771 is Claude's, whatever ROUTER_MODE says; --mode changes it."""
        environment = {**KEYS, "ROUTER_MODE": "mixed"}
        self.assertEqual(load(None, environment, port=8771).ports[8771].mode, "anthropic")
        self.assertEqual(load(None, environment, port=8771, mode="minimax").ports[8771].mode, "minimax")

    def test_all_ports_with_a_file(self) -> None:
        """--all-ports opens the five and the file's, the file's word counting."""
        ports = load("ports: {8771: minimax, 9001: mixed}", all_ports=True).ports
        self.assertEqual(list(ports), [8771, 8772, 8773, 8774, 8787, 9001])
        self.assertEqual(ports[8771].mode, "minimax")

    def test_variables(self) -> None:
        """ROUTER_PORT and ROUTER_MODE choose where no file and no flag does."""
        environment = {**KEYS, "ROUTER_PORT": "9005", "ROUTER_MODE": "minimax"}
        settings = load(None, environment)
        self.assertEqual(settings.ports, {9005: PortSettings(9005, "minimax", dynamic=True)})
        self.assertEqual(settings.origins["ports.9005.mode"], "environment ROUTER_MODE")
        self.assertEqual(list(load("ports: {9001: mixed}", environment).ports), [9001])
        self.assertEqual(list(load(None, environment, port="9006").ports), [9006])
        self.assertEqual(load(None, {**KEYS, "ROUTER_PORT": "8771", "ROUTER_MODE": "mixed"}).ports[8771].mode, "mixed")

    def test_mode_without_port(self) -> None:
        """--mode alone is for the dynamic ports; without one it is a mistake."""
        self.assertEqual(load(mode="anthropic").ports[8787].mode, "anthropic")
        ports = load(mode="anthropic", all_ports=True).ports
        self.assertEqual((ports[8787].mode, ports[8773].mode), ("anthropic", "mixed"))
        (only,) = mistakes("ports: {9001: mixed}", mode="anthropic")
        self.assertIn("Add --port", only)

    def test_environment_over_file(self) -> None:
        """ROUTER_MODE wins over the mode that a file gives a dynamic port, and leaves fixed ones alone."""
        ports = load("ports: {8787: mixed, 9001: mixed}", {**KEYS, "ROUTER_MODE": "minimax"}).ports
        self.assertEqual((ports[8787].mode, ports[9001].mode), ("minimax", "mixed"))

    def test_exclusive(self) -> None:
        """--port and --all-ports together are a mistake."""
        self.assertEqual(len(mistakes(None, port=8787, all_ports=True)), 1)

    def test_range(self) -> None:
        """Ports are 1 to 65535, wherever they are given."""
        for number in ("0", "65536", "-1", "x", "8787.0", "٣"):
            self.assertIn("port number", mistakes(f'ports: {{"{number}": mixed}}')[0])
            self.assertTrue(mistakes(None, port=number)[0].startswith("flag --port: "))
            self.assertIn("environment ROUTER_PORT", mistakes(None, {**KEYS, "ROUTER_PORT": number})[0])

    def test_locked_and_dynamic(self) -> None:
        """A port cannot be both."""
        (only,) = mistakes("ports: {8787: {mode: mixed, locked: true}}")
        self.assertIn("exclude each other", only)


class PrecedenceTests(SynchronousTestCase):
    """Flag, environment, .env, file, default."""

    def test_order(self) -> None:
        """Each layer wins over the next, and the origin says which it was."""
        file = "logs: {level: error}"
        environment, dotenv = {**KEYS, "ROUTER_LOG_LEVEL": "warn"}, {"ROUTER_LOG_LEVEL": "info"}
        for level, origin, settings in (
            ("info", None, load(None)),
            ("error", "m.yaml:1", load(file)),
            ("info", ".env ROUTER_LOG_LEVEL", load(file, dotenv=dotenv)),
            ("warn", "environment ROUTER_LOG_LEVEL", load(file, environment, dotenv)),
            ("debug", "flag --log-level", load(file, environment, dotenv, log_level="DEBUG")),
        ):
            self.assertEqual((settings.logs.level, settings.origins.get("logs.level")), (level, origin))

    def test_flags(self) -> None:
        """Every flag arrives where it belongs."""
        settings = load(
            health_check="15s",
            failover_threshold="2",
            circuit_breaker=7,
            alert_webhook="https://hooks.example.com/T0/secret",
            cost_ceiling="10.00",
            prefer_minimax="0.3",
            host="::1",
            debug=True,
            demo=True,
        )
        self.assertEqual(settings.health.every, 15.0)
        self.assertEqual(settings.breaker.degraded_after, 2)
        self.assertEqual(settings.breaker.failures, 7)
        self.assertEqual(settings.alerts.webhook, Secret("https://hooks.example.com/T0/secret"))
        self.assertEqual(settings.budget.per_hour, Decimal("10.00"))
        self.assertEqual(settings.modes["interactive"].interactive.prefer_minimax, 0.3)
        self.assertEqual(settings.host, "::1")
        self.assertEqual(settings.logs.level, "debug")
        self.assertEqual(settings.demo, DemoSettings())
        self.assertEqual(settings.origins["breaker.degraded_after"], "flag --failover-threshold")

    def test_flags_that_are_off(self) -> None:
        """A flag that was not given changes nothing."""
        self.assertEqual(load(debug=False, demo=False, all_ports=False, port=None, mode=None), load())

    def test_variables(self) -> None:
        """Every variable arrives where it belongs, from .env as well."""
        values = {
            **KEYS,
            "ROUTER_TIMEOUT": "45",
            "COST_CEILING": "5",
            "COST_THRESHOLD": "0.50",
            "QUALITY_FLOOR": "High",
            "ALERT_WEBHOOK": "https://hooks.example.com/x",
        }
        for settings in (load(None, values), load(None, {}, values)):
            self.assertEqual(settings.upstreams["minimax"].timeouts.idle, 45.0)
            self.assertEqual(settings.budget.per_hour, Decimal(5))
            self.assertEqual(settings.modes["interactive"].interactive.cost_threshold, Decimal("0.50"))
            self.assertEqual(settings.modes["interactive"].interactive.quality_floor, "high")
            self.assertIsNotNone(settings.alerts.webhook)

    def test_empty_variable(self) -> None:
        """An empty variable is as one that is not set: .env is asked next."""
        settings = load(None, {**KEYS, "ROUTER_LOG_LEVEL": ""}, {"ROUTER_LOG_LEVEL": "warn"})
        self.assertEqual(settings.logs.level, "warn")

    def test_timeout(self) -> None:
        """--timeout sets four limits of every upstream that does not set its own, and leaves the others."""
        settings = load("upstreams: {anthropic: {timeouts: {idle: 2m, head: off}}}", timeout="20s")
        self.assertEqual(
            settings.upstreams["minimax"].timeouts, Timeouts(head=20.0, first_content=20.0, answer=20.0, idle=20.0)
        )
        self.assertEqual(
            settings.upstreams["anthropic"].timeouts, Timeouts(head=None, first_content=20.0, answer=20.0, idle=120.0)
        )
        self.assertEqual(settings.origins["upstreams.minimax.timeouts.idle"], "flag --timeout")

    def test_common_timeouts(self) -> None:
        """A section of timeouts is for every upstream that does not set its own, under --timeout."""
        text = "timeouts: {connect: 2s, idle: 90s}\nupstreams: {minimax: {timeouts: {idle: 10s}}}"
        settings = load(text)
        self.assertEqual(settings.upstreams["anthropic"].timeouts, Timeouts(connect=2.0, idle=90.0))
        self.assertEqual(settings.upstreams["minimax"].timeouts, Timeouts(connect=2.0, idle=10.0))
        self.assertEqual(load(text, timeout=5).upstreams["anthropic"].timeouts.idle, 5.0)


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


class ModeTests(SynchronousTestCase):
    """Modes of a file."""

    def test_change(self) -> None:
        """An entry of a built-in mode's name changes what it says and keeps the rest."""
        mode = load("modes: {mixed: {retries: 3, retry_delay: 250ms, retry_timeouts: no}}").modes["mixed"]
        self.assertEqual((mode.strategy, mode.upstreams), ("fallback", ("minimax", "anthropic")))
        self.assertEqual((mode.retries, mode.retry_delay, mode.retry_timeouts), (3, 0.25, False))

    def test_bare_strategy(self) -> None:
        """A strategy's name is enough for a built-in mode, and starts it afresh."""
        modes = load("modes: {mixed: interactive, interactive: fallback}").modes
        self.assertEqual(modes["mixed"].strategy, "interactive")
        self.assertEqual(modes["mixed"].retries, 0)
        self.assertEqual(modes["interactive"].upstreams, ("minimax", "anthropic"))

    def test_new(self) -> None:
        """A new mode says strategy and upstreams."""
        mode = load("modes: {turned: {strategy: fallback, upstreams: [anthropic, minimax]}}").modes["turned"]
        self.assertEqual(mode.upstreams, ("anthropic", "minimax"))
        self.assertIn("strategy is needed", mistakes("modes: {x: {upstreams: [minimax]}}")[0])
        self.assertIn("upstreams are needed", mistakes("modes: {x: {strategy: only}}")[0])
        self.assertIn("expected a mapping", mistakes("modes: {x: only}")[0])

    def test_counts(self) -> None:
        """A strategy takes so many upstreams."""
        for mode in ("{strategy: only, upstreams: [minimax, anthropic]}", "{strategy: fallback, upstreams: []}"):
            self.assertIn("takes", mistakes(f"modes: {{x: {mode}}}")[0])
        self.assertIn("exactly two", mistakes("modes: {x: {strategy: interactive, upstreams: minimax}}")[0])
        self.assertIn("named twice", mistakes("modes: {x: {strategy: fallback, upstreams: [minimax, minimax]}}")[0])

    def test_interactive(self) -> None:
        """The keys of the interactive strategy stand in the mode, and in no other."""
        keys = "prefer_minimax: 0, cost_threshold: $0.25, analyzer: claude, analyzer_deadline: 1s"
        text = f"modes: {{interactive: {{{keys}}}}}"
        interactive = load(text).modes["interactive"].interactive
        self.assertEqual((interactive.prefer_minimax, interactive.cost_threshold), (0.0, Decimal("0.25")))
        self.assertEqual((interactive.analyzer, interactive.analyzer_deadline), ("claude", 1.0))
        self.assertIn("only modes of the strategy", mistakes("modes: {mixed: {prefer_minimax: 1}}")[0])
        (only,) = mistakes("modes: {interactive: {analyzer: claude, analyzer_upstream: antropic}}")
        self.assertIn("did you mean 'anthropic'?", only)
        self.assertIn("from 0 to 1", mistakes("modes: {interactive: {prefer_minimax: nan}}")[0])

    def test_later(self) -> None:
        """What comes later is told as such."""
        for text in (
            "modes: {x: {strategy: exhaust, upstreams: [minimax]}}",
            "modes: {x: {strategy: table, upstreams: [minimax]}}",
            "modes: {mixed: {tags: true}}",
            "ports: {8787: {mode: mixed, client_limit: 100/min}}",
            "upstreams: {minimax: {dialect: openai-chat}}",
        ):
            self.assertIn("not served yet", mistakes(text)[0])


def _checkout(name: str) -> str:
    """A file of the source tree."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "setup.cfg").exists():
            return (folder / name).read_text(encoding="utf-8")
    raise SkipTest("there is no source tree around the package")
