"""The flags, where settings are read from, and how mistakes end the start."""

from __future__ import annotations

import builtins
import io
import os
import sys
from collections.abc import Mapping
from typing import Any

import yaml
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from .. import __main__, tap
from ..errors import ConfigError
from ..router import CannotStart, Router
from ..tap import Options, Source, read_or_exit

KEYS = {"ANTHROPIC_API_KEY": "sk-ant-test-0001", "MINIMAX_API_KEY": "mm-test-0002"}


def parsed(*words: str) -> Options:
    """The options of a command line."""
    options = Options()
    options.parseOptions(list(words))
    return options


class TapTestCase(SynchronousTestCase):
    """A home and a working directory of its own, both empty, and an environment without keys."""

    def setUp(self) -> None:
        self.home = os.path.realpath(self.mktemp())
        self.here = os.path.join(self.home, "here")
        os.makedirs(self.here)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.here)
        self.environment: dict[str, str] = {}
        self.patch(os, "environ", {**os.environ, "HOME": self.home})
        for name in tap.config.ENVIRONMENT:
            os.environ.pop(name, None)
        self.installed: list[bool] = []
        if sys.platform == "linux":
            # Parsing chooses the process's reactor, which in a test is somebody else's business.
            from .. import reactor

            self.patch(reactor, "install_if_none", lambda: self.installed.append(True))
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def write(self, name: str, text: str | bytes) -> str:
        """A file below the home directory; returns its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def source(self, *words: str, environment: Mapping[str, str] | None = None) -> Source:
        return Source(parsed(*words), KEYS if environment is None else environment)

    def assertMistake(self, source: Source, *texts: str) -> list[str]:
        """Reading fails, and each text is in one of the mistakes."""
        mistakes = self.assertRaises(ConfigError, source.read).mistakes
        for text in texts:
            self.assertTrue(any(text in mistake for mistake in mistakes), f"{text!r} is not in {mistakes}")
        return mistakes


class OptionsTests(TapTestCase):
    """``twistd mportrouter`` and its flags."""

    def test_every_flag(self) -> None:
        """All the flags of the interface are taken, and reach the settings."""
        settings = self.source(
            "--port", "9001", "--mode", "interactive", "--host", "127.0.0.1", "--health-check", "15s",
            "--failover-threshold", "4", "--timeout", "45", "--circuit-breaker", "7",
            "--alert-webhook", "https://hooks.example/x", "--cost-ceiling", "10.00", "--prefer-minimax", "0.25",
            "--log-level", "warn",
        ).read()  # fmt: skip
        self.assertEqual(list(settings.ports), [9001])
        self.assertEqual(settings.ports[9001].mode, "interactive")
        self.assertEqual(settings.host, "127.0.0.1")
        self.assertEqual(settings.health.every, 15.0)
        self.assertEqual((settings.breaker.degraded_after, settings.breaker.failures), (4, 7))
        self.assertEqual(settings.upstreams["minimax"].timeouts.first_content, 45.0)
        self.assertEqual(settings.upstreams["minimax"].timeouts.idle, 45.0)
        self.assertEqual(settings.alerts.webhook and settings.alerts.webhook.value, "https://hooks.example/x")
        self.assertEqual(str(settings.budget.per_hour), "10.00")
        self.assertEqual(settings.modes["interactive"].interactive.prefer_minimax, 0.25)
        self.assertEqual(settings.logs.level, "warn")
        self.assertIsNone(settings.demo)

    def test_all_ports(self) -> None:
        """``--all-ports`` opens the four fixed ports in their modes, and the dynamic one."""
        ports = self.source("--all-ports").read().ports
        self.assertEqual(
            {number: port.mode for number, port in ports.items()},
            {8771: "anthropic", 8772: "minimax", 8773: "mixed", 8774: "interactive", 8787: "mixed"},
        )
        self.assertEqual([number for number, port in ports.items() if port.dynamic], [8787])

    def test_nothing_given(self) -> None:
        """Without a flag the dynamic port opens alone, on loopback."""
        settings = self.source().read()
        self.assertEqual((list(settings.ports), settings.host), ([8787], "127.0.0.1"))
        self.assertTrue(settings.ports[8787].dynamic)

    def test_zero_is_a_value(self) -> None:
        """``--prefer-minimax 0`` means none, ``--health-check 0`` never: a nought is not a flag left out."""
        settings = self.source("--prefer-minimax", "0", "--health-check", "0").read()
        self.assertEqual(settings.modes["interactive"].interactive.prefer_minimax, 0.0)
        self.assertEqual(settings.health.every, 0.0)

    def test_debug(self) -> None:
        """``--debug`` is log level debug."""
        self.assertEqual(self.source("--debug").read().logs.level, "debug")

    def test_demo_needs_no_key(self) -> None:
        """``--demo`` starts every mode with no key at all."""
        settings = self.source("--demo", "--all-ports", environment={}).read()
        self.assertIsNotNone(settings.demo)
        self.assertEqual(len(settings.ports), 5)

    def test_reactor(self) -> None:
        """On Linux the router's own reactor is chosen once the flags are right, and not where nothing will run."""
        self.assertRaises(SystemExit, parsed, "--demo", "--check-config")
        self.assertRaises(usage.UsageError, parsed, "--prots")
        self.assertEqual(self.installed, [])
        parsed("--demo")
        self.assertEqual(self.installed, [True] if sys.platform == "linux" else [])

    def test_unknown_flag(self) -> None:
        """A flag that does not exist is a usage error of twistd's."""
        self.assertRaises(usage.UsageError, parsed, "--prots")

    def test_stray_word(self) -> None:
        """A word that belongs to no flag is not passed over."""
        self.assertRaises(usage.UsageError, parsed, "mixed")

    def test_help_names_ports(self) -> None:
        """The help text tells the ports, the demo and where the configuration is looked for."""
        text = "".join(str(Options()).split())
        for word in ("8771", "8774", "8787", "--demo", "--check-config", "~/.ai-router/mportrouter.yaml"):
            self.assertIn(word, text)


class SourceTests(TapTestCase):
    """Which files are read, and when."""

    def test_given_file(self) -> None:
        """``--config`` names the file; a relative path is that of the start, because a daemon changes its directory."""
        self.write("here/mine.yaml", "ports: {9100: minimax}\n")
        source = self.source("--config", "mine.yaml")
        os.chdir("/")
        self.assertEqual(source.read().ports[9100].mode, "minimax")

    def test_default_file(self) -> None:
        """Without ``--config`` the file in the home directory is read where there is one."""
        self.write(".ai-router/mportrouter.yaml", "ports: {9100: anthropic}\n")
        self.assertEqual(list(self.source().read().ports), [9100])

    def test_given_file_missing(self) -> None:
        """A file that was named and is not there is a mistake; the default one may be missing."""
        self.assertMistake(self.source("--config", "nowhere.yaml"), "nowhere.yaml: No such file or directory")

    def test_given_folder(self) -> None:
        """A folder is not a file."""
        self.assertMistake(self.source("--config", self.home), "Is a directory")

    def test_not_utf8(self) -> None:
        """A file in another encoding is a mistake that says where."""
        path = self.write("latin.yaml", b"state: caf\xe9\n")
        self.assertMistake(self.source("--config", path), "not UTF-8 at byte 10")

    def test_authority_missing(self) -> None:
        """A ``ca_file`` that is not there, or holds no certificate, is told with its line at each reading."""
        empty = self.write("empty.pem", "no certificate\n")
        path = self.write(
            "mine.yaml",
            "upstreams:\n  anthropic: {tls: {ca_file: /nowhere/ca.pem}}\n"
            f"  minimax: {{tls: {{ca_file: {empty}}}}}\n",
        )
        self.assertMistake(
            self.source("--config", path),
            f"{path}:2: upstreams.anthropic.tls.ca_file /nowhere/ca.pem: No such file or directory",
            f"{path}:3: upstreams.minimax.tls.ca_file {empty}: no certificates in PEM form",
        )

    def test_mistakes_all_at_once(self) -> None:
        """Every mistake is told, each with its line and the nearest name."""
        path = self.write("bad.yaml", "ports: {8787: mixt}\nhelth: {every: 5s}\nbreaker: {failures: none}\n")
        mistakes = self.assertMistake(
            self.source("--config", path), f"{path}:1: ", "mixed", f"{path}:2: ", "health", f"{path}:3: "
        )
        self.assertEqual(len(mistakes), 3)

    def test_missing_key(self) -> None:
        """A mode that was asked for without its key says which variable to set, and names the way without one."""
        mistakes = self.assertMistake(
            self.source("--port", "8787", "--mode", "anthropic", environment={}), "ANTHROPIC_API_KEY", "--demo"
        )
        self.assertEqual(len(mistakes), 1)

    def test_dotenv_beside_file(self) -> None:
        """``.env`` beside the configuration gives keys; the environment wins over it and is not written to."""
        path = self.write("etc/router.yaml", "ports: {8787: mixed}\n")
        self.write("etc/.env", "ANTHROPIC_API_KEY=sk-ant-from-file\nMINIMAX_API_KEY='mm-from-file'\nEMPTY\n")
        settings = self.source("--config", path, environment={"MINIMAX_API_KEY": "mm-from-outside"}).read()
        keys = {id: upstream.api_key.value for id, upstream in settings.upstreams.items() if upstream.api_key}
        self.assertEqual(keys, {"anthropic": "sk-ant-from-file", "minimax": "mm-from-outside"})
        self.assertNotIn("ANTHROPIC_API_KEY", os.environ)

    def test_dotenv_in_working_directory(self) -> None:
        """Where there is no configuration file, ``.env`` is that of the working directory."""
        self.write("here/.env", "ANTHROPIC_API_KEY=a-key\nMINIMAX_API_KEY=m-key\nROUTER_PORT=9200\n")
        self.assertEqual(list(self.source(environment={}).read().ports), [9200])

    def test_dotenv_unreadable(self) -> None:
        """A ``.env`` that may not be read, or is no text, is a mistake that names it."""
        path = self.write("here/.env", b"MINIMAX_API_KEY=caf\xe9\n")
        self.assertMistake(self.source(), f"{path}: not UTF-8 at byte 19")
        really = open

        def refusing(name: Any, *arguments: Any, **options: Any) -> Any:
            if name == path:
                raise PermissionError(13, "Permission denied")
            return really(name, *arguments, **options)

        self.patch(builtins, "open", refusing)
        self.assertMistake(self.source(), f"{path}: Permission denied")

    def test_dotenv_of_others(self) -> None:
        """A ``.env`` that others may read or change is told of, with the remedy; one of its owner alone is not."""
        path = self.write("here/.env", "ANTHROPIC_API_KEY=a-key\nMINIMAX_API_KEY=m-key\n")
        for mode in (0o644, 0o640, 0o602):
            os.chmod(path, mode)
            (told,) = self.source().read().notices
            self.assertIn(f"{path}: others on this machine", told)
            self.assertIn(f"(mode {mode:o}); chmod 600", told)
            self.assertNotIn("a-key", told)
        os.chmod(path, 0o600)
        self.assertEqual(self.source().read().notices, ())

    def test_dotenv_folder(self) -> None:
        """Which ``.env`` counts is decided at each reading: once there is a configuration file, the one beside it."""
        self.write("here/.env", "ROUTER_LOG_LEVEL=warn\n")
        self.write(".ai-router/.env", "ROUTER_LOG_LEVEL=error\n")
        source = self.source()
        os.chdir("/")
        self.assertEqual(source.read().logs.level, "warn")
        self.write(".ai-router/mportrouter.yaml", "ports: {9100: anthropic}\n")
        self.assertEqual(source.read().logs.level, "error")

    def test_precedence(self) -> None:
        """Flag, environment, ``.env``, file, default: each wins over the next, and the origin tells which did."""
        path = self.write("etc/router.yaml", "ports: {8787: mixed}\nlogs: {level: error}\nbudget: {per_hour: 1}\n")
        self.write("etc/.env", "ROUTER_LOG_LEVEL=warn\nCOST_CEILING=2\nROUTER_MODE=minimax\n")
        environment = {**KEYS, "ROUTER_LOG_LEVEL": "info", "COST_CEILING": "3"}
        settings = self.source("--config", path, "--log-level", "debug", environment=environment).read()
        self.assertEqual(settings.logs.level, "debug")
        self.assertEqual(settings.budget.per_hour, 3)
        self.assertEqual(settings.breaker.failures, 5)
        self.assertEqual(settings.origins["logs.level"], "flag --log-level")
        self.assertEqual(settings.origins["budget.per_hour"], "environment COST_CEILING")

    def test_read_again(self) -> None:
        """A source reads anew each time: what a reload finds is what the files hold then."""
        path = self.write("router.yaml", "ports: {9100: minimax}\n")
        source = self.source("--config", path)
        self.assertEqual(list(source.read().ports), [9100])
        self.write("router.yaml", "ports: {9101: minimax, 9102: anthropic}\n")
        self.assertEqual(list(source.read().ports), [9101, 9102])
        self.write("router.yaml", "ports: [")
        self.assertRaises(ConfigError, source.read)


class StartTests(TapTestCase):
    """What a person at the terminal sees."""

    def test_mistakes_end_the_start(self) -> None:
        """Mistakes end the process with their text, one a line, no traceback, status 1."""
        path = self.write("bad.yaml", "prots: {8787: mixed}\nbreaker: {failures: 0}\n")
        end = self.assertRaises(SystemExit, read_or_exit, parsed("--config", path))
        # A text as the code of SystemExit is printed to stderr, and the status is 1.
        self.assertIsInstance(end.code, str)
        lines = str(end.code).splitlines()
        self.assertEqual(len([line for line in lines if line.startswith(f"mportrouter: {path}:")]), 2)
        self.assertIn("ports", lines[0])

    def test_check_config(self) -> None:
        """``--check-config`` prints settings that can be loaded again, where each is from, no secret, and ends well."""
        os.environ.update(KEYS)
        end = self.assertRaises(SystemExit, parsed, "--all-ports", "--cost-ceiling", "10", "--check-config")
        self.assertEqual(end.code, 0)
        text = self.out.getvalue()
        for secret in KEYS.values():
            self.assertNotIn(secret, text + self.err.getvalue())
        self.assertIn("****", text)
        self.assertIn("flag --cost-ceiling", text)
        self.assertIn("environment ANTHROPIC_API_KEY", text)
        loaded: dict[str, Any] = yaml.safe_load(text)
        self.assertEqual(sorted(loaded["ports"]), [8771, 8772, 8773, 8774, 8787])

    def test_check_config_warns(self) -> None:
        """What had better be known is on stderr, beside the settings and not among them."""
        os.environ["MINIMAX_API_KEY"] = KEYS["MINIMAX_API_KEY"]
        path = self.write("bare.yaml", "upstreams: {anthropic: {api_key: sk-ant-written-down}}\n")
        self.assertRaises(SystemExit, parsed, "--config", path, "--check-config")
        self.assertIn("warning: upstreams.anthropic.api_key", self.err.getvalue())
        self.assertNotIn("warning", self.out.getvalue())
        self.assertNotIn("sk-ant-written-down", self.out.getvalue() + self.err.getvalue())

    def test_check_config_refuses(self) -> None:
        """``--check-config`` of a bad configuration prints the mistakes, no settings, and ends with status 1."""
        end = self.assertRaises(SystemExit, parsed, "--mode", "mixd", "--check-config")
        self.assertIn("mixed", str(end.code))
        self.assertEqual(self.out.getvalue(), "")

    def test_not_loopback_without_token(self) -> None:
        """An address that others can reach is refused where there is no gateway token."""
        os.environ.update(KEYS)
        end = self.assertRaises(SystemExit, read_or_exit, parsed("--host", "0.0.0.0"))
        self.assertIn("token", str(end.code))

    def test_services(self) -> None:
        """``makeService`` gives one service a port by name, with health, ledger, log, alerts and admin beside them."""
        from twisted.internet import reactor  # noqa: F401 - there must be one to be replaced
        from twisted.internet.testing import MemoryReactorClock

        self.patch(sys.modules["twisted.internet"], "reactor", MemoryReactorClock())
        # It tries real ports, so that what is taken is told on the terminal.
        self.patch(Router, "refuse_taken", lambda router: None)
        os.environ.update(KEYS)
        service = tap.makeService(parsed("--all-ports"))
        for number in (8771, 8772, 8773, 8774, 8787):
            self.assertEqual(service.getServiceNamed(f"port:{number}").number, number)  # type: ignore[attr-defined]
        for name in ("health", "ledger", "log", "alerts", "admin"):
            self.assertIsNotNone(service.getServiceNamed(name))
        self.assertFalse(service.running)

    def test_taken_port(self) -> None:
        """What cannot be listened on ends the start with one line and status 1, before a daemon leaves the terminal."""
        from twisted.internet import reactor  # noqa: F401 - as above
        from twisted.internet.testing import MemoryReactorClock

        def refuse(router: Router) -> None:
            raise CannotStart("cannot listen on 127.0.0.1:8787: it is taken")

        self.patch(sys.modules["twisted.internet"], "reactor", MemoryReactorClock())
        self.patch(Router, "refuse_taken", refuse)
        os.environ.update(KEYS)
        end = self.assertRaises(SystemExit, tap.makeService, parsed())
        self.assertEqual(end.code, "mportrouter: cannot listen on 127.0.0.1:8787: it is taken")

    def test_plugin(self) -> None:
        """``twistd`` finds the plugin under its name, and it points here."""
        (maker,) = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mportrouter"]
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, tap.makeService)

    def test_module_runs_in_the_foreground(self) -> None:
        """``python -m mportrouter FLAGS`` is ``twistd`` in the foreground with the same flags and no pid file."""
        self.assertEqual(
            __main__.twistd_arguments(["--demo", "--port", "9000"]),
            ["twistd", "--nodaemon", "--pidfile=", "mportrouter", "--demo", "--port", "9000"],
        )
