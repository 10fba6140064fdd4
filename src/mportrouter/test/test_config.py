"""The configuration: what a file, variables and flags together mean, and which mistakes are told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from .. import catalog, config, config_modes, config_schema
from ..errors import ConfigError
from ..settings import DemoSettings, PortSettings, Secret, Settings, Timeouts

KEYS = {"ANTHROPIC_API_KEY": "sk-ant-one", "MINIMAX_API_KEY": "eyJ-two"}


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
        sections += [config_schema._PORT, config_modes._MODE, config_modes._INTERACTIVE, config_schema._UPSTREAM]
        sections += [*config_schema._UPSTREAM_SECTIONS.values(), config_schema._PRICES, config_schema.SECTIONS]
        for key in {key for section in sections for key in section} | set(config._TOP) | {"pace", "faults"}:
            self.assertIn(f"{key}:", text)

    def test_variables_of_providers(self) -> None:
        """The variables that the catalogue's rows read are among those that mean something."""
        for row in catalog.load().values():
            self.assertLessEqual({row.key_variable, row.base_variable} - {None}, set(config.ENVIRONMENT))

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

    def test_faults_of_every_stand_in(self) -> None:
        """Every stand-in can be told what goes wrong."""
        names = ("anthropic", "minimax", "openai", "gemini", "local")
        demo = load(f"demo: {{faults: {{{', '.join(f'{name}: hang' for name in names)}}}}}").demo
        self.assertEqual(demo, DemoSettings(faults=tuple((name, "hang") for name in names)))

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


def _checkout(name: str) -> str:
    """A file of the source tree."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "setup.cfg").exists():
            return (folder / name).read_text(encoding="utf-8")
    raise SkipTest("there is no source tree around the package")
