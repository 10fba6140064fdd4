"""Tests for :mod:`mportrouter.switching` and :mod:`mportrouter.locally`, on the command line."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from .. import adminclient, locally, source, switching
from ..adminlink import Refusal, Remote, Unreachable
from ..commands import CommandError
from .test_adminclient import CommandTestCase


class SwitchTests(CommandTestCase):
    """``switch``, ``fallback`` and ``status``."""

    def test_calls(self) -> None:
        """Each command line asks the console for one thing."""
        for line, call in {
            "switch moonshot": ("switch", None, "moonshot"),
            "switch moonshot --port 8787": ("switch", 8787, "moonshot"),
            "fallback": ("unpin", None),
            "fallback --port 8787": ("unpin", 8787),
            "status --port 8787": ("status", 8787),
        }.items():
            self.console.answers["unpin"] = {"unpinned": {}, "mode": "m", "upstreams": ["a", "b"]}
            self.console.calls.clear()
            self.assertEqual(self.command(line), 0, line)
            self.assertEqual(self.console.calls, [call], line)

    def test_text(self) -> None:
        """What is asked from now on is told, and as JSON for programs."""
        self.command("switch moonshot")
        self.assertEqual(self.text, "Mode mixed asks moonshot alone, without failover.\n")
        self.console.answers["unpin"] = {"unpinned": {"m": "b"}, "mode": "m", "upstreams": ["a", "b"]}
        self.command("fallback")
        self.assertEqual(self.text, "Mode m asks a, then b.\n")
        self.command("fallback --json")
        self.assertEqual(json.loads(self.text)["unpinned"], {"m": "b"})

    def test_refused(self) -> None:
        """A refusal is one line and status 1."""
        self.console.answers["switch"] = CommandError("There is no “x”.")
        self.assertEqual(self.command("switch x"), 1)
        self.assertEqual(self.err.getvalue(), "mportrouter: There is no “x”.\n")

    def test_status_text(self) -> None:
        """The status says which provider is asked alone."""
        self.console.answers["status"] = {"mode": "fallback", "pinned": "moonshot, without failover"}
        self.command("status")
        self.assertRegex(self.text, r"Pinned: +moonshot, without failover")


class ResetTests(CommandTestCase):
    """``reset``."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(switching, "gone", lambda process: True)
        self.patch(os, "environ", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8787", "ANTHROPIC_API_KEY": "sk-x"})

    def test_stops(self) -> None:
        """No pin is left, the router stops, and the shell is told how to forget it; no key is shown."""
        self.assertEqual(self.command("reset"), 0)
        self.assertEqual(self.console.calls, [("unpin", None), ("drain", True)])
        self.assertIn("The router has stopped.", self.text)
        self.assertIn("unset ANTHROPIC_BASE_URL ANTHROPIC_API_KEY", self.text)
        self.assertNotIn("sk-x", self.text)

    def test_elsewhere(self) -> None:
        """A shell whose clients go elsewhere, or that does it itself, is told nothing of variables."""
        self.command("reset --quiet")
        self.assertEqual(self.text, "The router has stopped.\n")
        os.environ["ANTHROPIC_BASE_URL"] = "https://api.anthropic.com"
        self.command("reset")
        self.assertEqual(self.text, "The router has stopped.\n")

    def test_for_a_shell(self) -> None:
        """``--shell`` prints just what that shell has to run."""
        self.command("reset --shell bash")
        self.assertEqual(self.text, "unset ANTHROPIC_BASE_URL ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN\n")
        self.command("reset --shell fish")
        self.assertEqual(self.text.splitlines()[0], "set -e ANTHROPIC_BASE_URL")

    def test_none(self) -> None:
        """Where no router runs, that is what was wanted; where a certain one was meant it is not."""

        def nobody(*arguments: Any) -> Any:
            raise Unreachable("nobody")

        self.patch(adminclient, "unix_door", nobody)
        self.assertEqual(self.command("reset --quiet"), 0)
        self.assertEqual(self.text, "No router was running.\n")
        self.assertEqual(self.command("reset --router 8787"), 3)
        self.assertEqual(self.command("reset --socket /x"), 3)

    def test_gone_at_once(self) -> None:
        """A router that is gone before its answer has left has stopped."""

        class Gone:
            reactor = self.clock

            async def call(self, method: str, *arguments: Any) -> Any:
                if method == "drain":
                    raise Unreachable("gone")
                return {"pid": 1}

        arguments = adminclient.parser().parse_args(["reset", "--quiet"])
        adminclient._fill(arguments)
        work = switching.reset(arguments, Gone(), self.out)  # type: ignore[arg-type]
        self.assertRaises(StopIteration, work.send, None)
        self.assertEqual(self.text, "The router has stopped.\n")

    def reset(self) -> Deferred[int]:
        """The command under way, while the router still stops."""
        arguments = adminclient.parser().parse_args(["reset", "--quiet"])
        adminclient._fill(arguments)
        remote = Remote(self.root, self.clock)
        waiting = Deferred.fromCoroutine(switching.reset(arguments, remote, self.out))
        self.pump.flush()
        return waiting

    def test_waits(self) -> None:
        """It is over when the process is gone, so that the next router can be started at once."""
        asked: list[int] = []
        self.patch(switching, "gone", lambda process: asked.append(process) or len(asked) > 2)
        waiting = self.reset()
        self.clock.advance(0.1)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(waiting), 0)
        self.assertEqual(asked, [os.getpid()] * 3)

    def test_does_not_end(self) -> None:
        """A process that goes on is told of."""
        self.patch(switching, "gone", lambda process: False)
        waiting = self.reset()
        self.clock.pump([1.0] * 40)
        self.assertIn("still runs", str(self.failureResultOf(waiting, Refusal).value))


class GoneTests(SynchronousTestCase):
    """Whether a process has ended."""

    def test_gone(self) -> None:
        """One that runs has not; one that has ended has, even while nobody has asked for its status."""
        self.assertFalse(switching.gone(os.getpid()))
        child = subprocess.Popen([sys.executable, "-c", "pass"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertTrue(switching.gone(child.pid) or not os.path.exists("/proc/self/stat"))
        child.wait()
        self.assertTrue(switching.gone(child.pid))


class Child:
    """A process that was started."""

    pid = 4711
    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


class StartTests(CommandTestCase):
    """``--start``."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = os.path.abspath(self.mktemp())
        self.started: list[list[str]] = []
        self.child = Child()
        self.lives = iter([False, False, True])
        self.patch(switching.time, "sleep", lambda seconds: None)
        self.patch(switching.subprocess, "Popen", self.popen)
        from .. import state

        self.patch(state, "find_socket", lambda *arguments: "/socket")
        self.patch(state, "answers", lambda path: next(self.lives))

    def popen(self, words: list[str], **options: Any) -> Child:
        self.started.append(words)
        self.assertTrue(options["start_new_session"])
        options["stdout"].write(b"modes.m: no\n")
        return self.child

    def start(self, config: str | None = None) -> bool:
        return switching.start_if_none(self.folder, None, config)

    def test_runs(self) -> None:
        """Where a router answers none is started."""
        self.lives = iter([True])
        self.assertFalse(self.start())
        self.assertEqual(self.started, [])

    def test_started(self) -> None:
        """Else one is, with the configuration that is named, and it is waited for."""
        self.assertTrue(self.start("/c.yaml"))
        self.assertEqual(self.started, [[sys.executable, "-m", "mportrouter", "--config", "/c.yaml"]])
        self.assertEqual(list(self.lives), [])
        said = os.stat(os.path.join(self.folder, "start.log"))
        self.assertEqual(stat.S_IMODE(said.st_mode), 0o600)

    def test_ended(self) -> None:
        """One that ends instead is a refusal with what it said."""
        self.lives = iter([False] * 5)
        self.child.returncode = 1
        error = self.assertRaises(Refusal, self.start)
        self.assertEqual(str(error), "the router did not start:\nmodes.m: no")

    def test_not_found(self) -> None:
        """One that answers nowhere where it is looked for is told of."""
        times = iter(range(0, 10_000, 40))
        self.patch(switching.time, "monotonic", lambda: next(times))
        self.lives = iter([False] * 100)
        self.assertIn("--state", str(self.assertRaises(Refusal, self.start)))

    def test_command(self) -> None:
        """Only with ``--start``, and never for a router that is reached in another way."""
        self.patch(switching, "start_if_none", lambda *arguments: bool(self.started.append([str(arguments)])) or True)
        self.command("switch a")
        self.command("switch a --start --socket /x")
        self.assertEqual(self.started, [])
        self.command("switch a --start --config c.yaml --state /s")
        self.assertEqual(self.started, [[str(("/s", None, "c.yaml"))]])
        self.assertIn("started a router", self.err.getvalue())


class ExplainTests(CommandTestCase):
    """``explain``."""

    def file(self, text: str | bytes) -> str:
        path = os.path.abspath(self.mktemp())
        Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def test_call(self) -> None:
        """The running router is given the body, in pieces that cross however long it is."""
        long = json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x" * 900_000}]})
        self.assertEqual(self.command(f"explain {self.file(long)} --port 8787 --session s"), 0)
        self.assertEqual(self.console.calls, [("explain", 8787, long.encode(), "anthropic", "", "s")])

    def test_model(self) -> None:
        """A model alone is asked for with an empty request."""
        self.command("explain --model claude-opus-5-5")
        ((_, port, body, dialect, model, session),) = self.console.calls
        self.assertEqual((port, dialect, model, session), (None, "anthropic", "claude-opus-5-5", ""))
        self.assertEqual(json.loads(body)["model"], "claude-opus-5-5")

    def test_status(self) -> None:
        """A request that nobody would be asked is status 1."""
        self.console.answers["explain"] = {"attempts": [], "refusal": {"status": 404, "kind": "k", "message": "no"}}
        self.assertEqual(self.command("explain --model x"), 1)
        self.assertIn("Nobody is asked; the client gets 404 (k): no", self.text)

    def test_types(self) -> None:
        """What another program sends in the wrong types is refused."""
        for pieces, dialect in ((b"x", "anthropic"), (["x"], "anthropic"), ([b"x"], 5)):
            waiting = self.root.callRemote("explain", None, pieces, dialect)
            self.pump.flush()
            self.assertIn("must be", self.failureResultOf(waiting).getErrorMessage())
        self.assertEqual(self.console.calls, [])

    def test_mistakes(self) -> None:
        """A file that is not there or no request, or none at all, is refused."""
        for line, words in (
            ("explain", "explain what?"),
            ("explain /no/such/file", "cannot be read"),
            (f"explain {self.file('{')}", "no JSON"),
        ):
            self.assertEqual(self.command(line), 1)
            self.assertIn(words, self.err.getvalue())
        self.assertEqual(self.console.calls, [])

    def test_dialects(self) -> None:
        """The choices are the dialects that there are."""
        from ..dialects.known import DIALECTS

        self.assertEqual(set(adminclient.DIALECT_NAMES), set(DIALECTS))

    def test_without_keys(self) -> None:
        """A configuration can be looked at before its keys are there: each one that is missing is a reason."""
        self.patch(os, "environ", {"HOME": "/nowhere"})
        config = self.file("ports: {8787: mixed}\n")
        self.assertEqual(self.command(f"explain --model claude-x --config {config} --json"), 1)
        told = json.loads(self.text)
        self.assertIn("minimax no key (set MINIMAX_API_KEY)", told["notes"])
        self.assertEqual(told["attempts"], [])

    def test_without_a_router(self) -> None:
        """Where nobody answers, and where a configuration is named, that tells."""
        self.patch(os, "environ", {"ANTHROPIC_API_KEY": "a", "MINIMAX_API_KEY": "m", "HOME": "/nowhere"})
        self.patch(source, "DEFAULT_CONFIG", "/nowhere/x.yaml")
        config = self.file("ports: {8787: anthropic}\n")
        self.assertEqual(self.command(f"explain --model claude-x --config {config} --json"), 0)
        told = json.loads(self.text)
        self.assertEqual((told["mode"], told["told_by"]), ("anthropic", "the configuration alone"))

        def nobody(*arguments: Any) -> Any:
            raise Unreachable("nobody")

        self.patch(adminclient, "unix_door", nobody)
        self.assertEqual(self.command("explain --model claude-x --json"), 0)
        self.assertEqual(json.loads(self.text)["mode"], "mixed")
        self.assertEqual(self.command("explain --model x --router 8787"), 3)
        self.assertEqual(self.console.calls, [])

    def test_bad_configuration(self) -> None:
        """Mistakes in the configuration are told."""
        self.assertEqual(self.command(f"explain --model x --config {self.file('prots: {}')}"), 1)
        self.assertIn("unknown key; did you mean 'ports'?", self.err.getvalue())


class ImportTests(CommandTestCase):
    """``import``."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.write(
            "old/config.json",
            json.dumps(
                {
                    "proxy_port": 8787,
                    "cooldown_minutes": 30,
                    "providers": [
                        {"name": name, "base_url": f"https://{host}/anthropic", "api_key_env": variable}
                        for name, host, variable in (
                            ("minimax", "api.minimax.io", "MINIMAX_API_KEY"),
                            ("moonshot", "api.moonshot.ai", "MOONSHOT_API_KEY"),
                        )
                    ],
                }
            ),
        )
        self.write("old/.env", "MINIMAX_API_KEY=sk-it's-a\\secret\nMOONSHOT_API_KEY=sk-two\n")
        os.mkdir(self.path("new"))

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def write(self, name: str, text: str) -> None:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        Path(self.path(name)).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return Path(self.path(name)).read_text(encoding="utf-8")

    def test_printed(self) -> None:
        """Our configuration on standard output, notes beside it, no key in either."""
        self.assertEqual(self.command(f"import {self.path('old/config.json')}"), 0)
        self.assertIn("cooldown_minutes: 30", self.text)
        self.assertIn("note: ", self.err.getvalue())
        self.assertNotIn("sk-", self.text + self.err.getvalue())

    def test_written(self) -> None:
        """Into a file of the owner's alone, the keys into the ``.env`` beside it, as a start will read them."""
        self.assertEqual(self.command(f"import {self.path('old/config.json')} --output {self.path('new/m.yaml')}"), 0)
        for name in ("new/m.yaml", "new/.env"):
            self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), 0o600)
        self.assertNotIn("sk-", self.read("new/m.yaml") + self.text + self.err.getvalue())
        settings = source.Source({"config": self.path("new/m.yaml")}, {}).read()
        keys = {id: upstream.api_key.value for id, upstream in settings.upstreams.items() if upstream.api_key}
        self.assertEqual(keys, {"minimax": "sk-it's-a\\secret", "moonshot": "sk-two"})
        self.assertEqual(list(settings.ports), [8787])

    def test_kept(self) -> None:
        """What is there stays: the file without ``--force``, and in ``.env`` what it has."""
        self.write("new/.env", "OTHER=1\nMOONSHOT_API_KEY=mine")
        line = f"import {self.path('old/config.json')} -o {self.path('new/m.yaml')}"
        self.assertEqual(self.command(line), 0)
        kept = self.read("new/.env").splitlines()
        self.assertEqual((kept[:2], len(kept)), (["OTHER=1", "MOONSHOT_API_KEY=mine"], 3))
        self.assertIn("has another MOONSHOT_API_KEY", self.err.getvalue())
        self.write("new/m.yaml", "mine\n")
        self.assertEqual(self.command(line), 1)
        self.assertEqual(self.read("new/m.yaml"), "mine\n")
        self.assertEqual(self.command(line + " --force"), 0)
        self.assertNotEqual(self.read("new/m.yaml"), "mine\n")

    def test_json(self) -> None:
        """For programs: whose it was, what became of it, what to know."""
        self.command(f"import {self.path('old/config.json')} --json")
        told = json.loads(self.text)
        self.assertEqual((told["kind"], told["output"]), ("claude-proxy", None))
        self.assertIn("ports:", told["yaml"])
        self.assertIsInstance(told["notes"], list)

    def test_env(self) -> None:
        """Variables may be in another file."""
        self.write("keys", "MINIMAX_API_KEY=sk-other\n")
        line = f"import {self.path('old/config.json')} --env {self.path('keys')} -o {self.path('new/m.yaml')}"
        self.assertEqual(self.command(line), 0)
        self.assertIn("sk-other", self.read("new/.env"))
        self.assertNotIn("sk-two", self.read("new/.env"))

    def test_mistakes(self) -> None:
        """What cannot be read, or is nobody's configuration, is refused, and nothing is written."""
        self.write("x.json", "{}")
        Path(self.path("bytes")).write_bytes(b"\xff\xff")
        for name, words in (("none", "cannot be read"), ("x.json", "x.json"), ("bytes", "not UTF-8")):
            self.assertEqual(self.command(f"import {self.path(name)} -o {self.path('new/y.yaml')}"), 1)
            self.assertIn(words, self.err.getvalue())
        self.assertEqual(os.listdir(self.path("new")), [])


class ShellInitTests(CommandTestCase):
    """``shell-init``."""

    def test_printed(self) -> None:
        """The functions with full paths: they are evaluated in any directory."""
        self.assertEqual(self.command("shell-init bash --port 9000 --config c.yaml --state s --keep-login"), 0)
        here = os.getcwd()
        self.assertIn(f"--port 9000 --start --config {here}/c.yaml", self.text)
        self.assertIn(f"--state {here}/s", self.text)
        self.assertNotIn("ANTHROPIC_API_KEY", self.text)

    def test_own_words(self) -> None:
        """The functions call the command by its full path, or the module where there is no command."""
        program = os.path.abspath(self.mktemp() + "/mportrouter")
        os.makedirs(os.path.dirname(program))
        Path(program).write_text("#!/bin/sh\n", encoding="utf-8")
        os.chmod(program, 0o700)
        self.patch(sys, "argv", [program])
        self.assertEqual(locally.own_words(), [program])
        self.patch(sys, "argv", ["/nowhere/trial"])
        self.assertEqual(locally.own_words(), [sys.executable, "-m", "mportrouter.adminclient"])
