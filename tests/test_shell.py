"""
The functions of ``mportrouter shell-init`` in a real shell, which start, switch and stop a real router; and what
``mportrouter explain`` and ``switch`` say of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import TestCase

from . import faults
from .faulty import FaultyUpstream
from .harness import RouterProcess, message, until

_SCRIPTS = os.path.dirname(sys.executable)

#: Says one word through whatever the shell's variables point at, and prints the answer or the status.
CLIENT = """
import json, os, urllib.request, urllib.error
body = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
request = urllib.request.Request(
    os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", json.dumps(body).encode(),
    {"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_API_KEY"]})
try:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        print(json.load(answer)["content"][0]["text"], answer.headers["x-mportrouter-mode"])
except urllib.error.HTTPError as error:
    print("status", error.code)
"""


class ShellTestCase(TestCase):
    """MiniMax, then Moonshot, on one dynamic port; nothing runs at first."""

    timeout = 240
    start = False

    def setUp(self) -> None:
        self.minimax = FaultyUpstream([faults.ok("from minimax")], "/anthropic")
        self.moonshot = FaultyUpstream([faults.ok("from moonshot")], "/anthropic")
        self.addCleanup(self.minimax.stop)
        self.addCleanup(self.moonshot.stop)
        self.router = RouterProcess(
            {"minimax": self.minimax.url, "moonshot": self.moonshot.url},
            {
                "ports": {"main": {"mode": "chain", "dynamic": True}},
                "modes": {
                    "chain": {
                        "strategy": "fallback",
                        "upstreams": ["minimax", "moonshot"],
                        "move_on": [429, 500, 502, 503, 504],
                        "cooldown": "30m",
                    }
                },
                "upstreams": {"moonshot": {"provider": "moonshot"}},
            },
            environment={"MOONSHOT_API_KEY": "ko", "MPORTROUTER_TOKEN": None, "ANTHROPIC_BASE_URL": None},
            start=self.start,
        )
        self.addCleanup(self.router.stop)
        self.addCleanup(self.kill_started)
        self.port = self.router.port_numbers["main"]

    def started(self) -> list[int]:
        """Process ids of routers that run with this test's configuration."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if self.router.config_file.encode() in words and b"mportrouter" in words:
                    found.append(int(entry.parent.name))
        return found

    def kill_started(self) -> None:
        for number in self.started():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def shell(self, script: str, shell: str = "bash", **variables: str) -> list[str]:
        """
        The lines that a script prints after the functions were made known.

        ``say`` stands for the client, ``mportrouter`` for the installed command.
        """
        program = shutil.which(shell)
        if program is None:
            raise SkipTest(f"{shell} is not installed")
        client = os.path.join(self.router.home, "client.py")
        Path(client).write_text(CLIENT, encoding="utf-8")
        init = f"mportrouter shell-init {shell} --port {self.port} --config {self.router.config_file}"
        before = f"{init} | source" if shell == "fish" else f'eval "$({init})"'
        run = f"{sys.executable} {client}"
        say = f"function say; {run}; end" if shell == "fish" else f"say() {{ {run}; }}"
        environment = {**self.router.environment, **variables}
        environment["PATH"] = f"{_SCRIPTS}:{environment.get('PATH', '')}"
        done = subprocess.run(
            [program, "-c", f"{before}\n{say}\n{script}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.router.home,
            env=environment,
            timeout=150,
        )
        self.complaints = done.stderr.decode("utf-8", "replace")
        self.status = done.returncode
        return done.stdout.decode("utf-8", "replace").splitlines()


class FunctionTests(ShellTestCase):
    """``claude-fb``, ``claude-switch``, ``claude-status``, ``claude-reset``."""

    def whole_life(self, shell: str) -> None:
        lines = self.shell(
            "claude-fb; say; claude-switch -Provider moonshot; say; claude-fb; say; claude-status; claude-reset; "
            'echo "base=$ANTHROPIC_BASE_URL key=$ANTHROPIC_API_KEY token=$ANTHROPIC_AUTH_TOKEN"',
            shell,
            ANTHROPIC_API_KEY="sk-own",
            ANTHROPIC_AUTH_TOKEN="own-token",
        )
        text = "\n".join(lines) + self.complaints
        self.assertEqual(
            [line for line in lines if line.startswith(("from", "status"))],
            ["from minimax chain", "from moonshot chain/moonshot", "from minimax chain"],
            text,
        )
        self.assertIn(f"Clients of this shell go to the router at http://127.0.0.1:{self.port}.", lines)
        self.assertIn("The router has stopped.", lines)
        self.assertEqual(lines[-1], "base= key=sk-own token=own-token")
        self.assertIn("started a router in the background", self.complaints)
        self.assertEqual(self.complaints.count("started a router"), 1)
        self.assertTrue(until(lambda: not self.started(), 60), text)

    def test_bash(self) -> None:
        """In bash: a router is started, switched, asked and stopped, and the shell's variables are as before."""
        self.whole_life("bash")

    def test_zsh(self) -> None:
        """The same in zsh."""
        self.whole_life("zsh")

    def test_fish(self) -> None:
        """The same in fish."""
        self.whole_life("fish")

    def test_at_once(self) -> None:
        """Who starts the next router right after ``claude-reset`` does not meet the one that stops."""
        lines = self.shell("claude-fb; say; claude-reset; claude-fb; say; claude-reset")
        answers = [line for line in lines if line.startswith("from")]
        self.assertEqual(answers, ["from minimax chain"] * 2, self.complaints)
        self.assertEqual(self.complaints.count("started a router"), 2)

    def test_nothing_starts(self) -> None:
        """A router that does not start says why, and the clients of the shell are not sent to it."""
        self.router.config["modes"]["chain"]["retrys"] = 1
        self.router.write_config()
        lines = self.shell("claude-fb; echo ended=$? base=$ANTHROPIC_BASE_URL")
        self.assertEqual(lines, ["ended=1 base="])
        self.assertIn("modes.chain.retrys: unknown key; did you mean 'retries'?", self.complaints)

    def test_nobody(self) -> None:
        """``claude-switch`` to a provider that the mode has not is refused; without a name it tells its use."""
        lines = self.shell("claude-fb; claude-switch groq; echo ended=$?; claude-switch; echo ended=$?; claude-reset")
        self.assertEqual([line for line in lines if line.startswith("ended")], ["ended=1", "ended=2"])
        self.assertIn("There is no “groq” among the upstreams of mode chain.", self.complaints)
        self.assertIn("Choose one: minimax, moonshot.", self.complaints)


class SwitchTests(ShellTestCase):
    """A running router, and the command alone."""

    start = True

    def ask(self, **members: Any) -> tuple[int, str]:
        answered = self.router.ask(message(**members), "main")
        return answered.status, answered.text if answered.status == 200 else ""

    def test_no_failover(self) -> None:
        """A mode that is pinned fails with its provider, also after a restart; ``fallback`` brings the others back."""
        self.minimax.play(faults.status(500, "broken"))
        self.router.command("switch", "minimax")
        self.assertEqual(self.ask()[0], 500)
        self.assertEqual(len(self.moonshot.requests), 0)
        self.assertIn("minimax, without failover", self.router.command("status"))
        self.router.restart()
        self.assertIn("minimax, without failover", self.router.command("status"))
        self.assertEqual(self.ask()[0], 500)
        self.assertIn("minimax, then moonshot", self.router.command("fallback"))
        self.assertEqual(self.ask(), (200, "from moonshot"))
        self.assertNotIn("pinned", self.router.command("status", "--json"))

    def test_switched_to_one_that_rests(self) -> None:
        """One that cools down is asked at once by whoever switches to it."""
        self.minimax.play(faults.status(500, "broken"), faults.ok("well again"))
        self.assertEqual(self.ask(), (200, "from moonshot"))
        self.assertEqual(self.ask(), (200, "from moonshot"))
        self.router.command("switch", "MiniMax")
        self.assertEqual(self.ask(), (200, "well again"))

    def test_explain(self) -> None:
        """``explain`` tells the plan with what cools down and why, sends nothing, and needs no router."""
        path = os.path.join(self.router.home, "request.json")
        Path(path).write_text(json.dumps(message()), encoding="utf-8")
        told = json.loads(self.router.command("explain", path, "--json"))
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["minimax", "moonshot"])
        self.assertEqual((told["port"], told["told_by"]), (self.port, "the running router"))
        self.minimax.play(faults.status(500, "broken"))
        self.ask()
        asked = len(self.minimax.requests) + len(self.moonshot.requests)
        told = json.loads(self.router.command("explain", path, "--json"))
        self.assertEqual(told["attempts"][0]["upstream"], "moonshot")
        state = {row["id"]: row for row in told["upstreams"]}
        self.assertGreater(state["minimax"]["back_in"], 1500)
        self.assertEqual(len(self.minimax.requests) + len(self.moonshot.requests), asked)
        self.router.end()
        told = json.loads(self.router.command("explain", path, "--json", "--config", self.router.config_file))
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["minimax", "moonshot"])
        self.assertEqual(told["told_by"], "the configuration alone")

    def test_reset(self) -> None:
        """``reset`` stops the router; the next one asks all providers; a second ``reset`` has nothing to do."""
        self.router.command("switch", "moonshot")
        self.assertIn("The router has stopped.", self.router.command("reset"))
        self.assertIn(self.router.wait(60), (0, -signal.SIGTERM))
        self.assertIn("No router was running.", self.router.command("reset"))
        self.router.start()
        self.assertEqual(self.ask(), (200, "from minimax"))
