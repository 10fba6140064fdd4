"""Tests for :mod:`mportrouter.adminclient` and :mod:`mportrouter.adminlink`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.trial.unittest import SynchronousTestCase

from .. import __main__, adminclient, state
from ..admin import AdminRoot
from ..adminlink import Refusal, Remote, Unreachable, tcp_door, unix_door
from ..commands import CommandError
from ..state import SeveralRouters
from ..testing import MemoryConsole
from .test_admin import join

PORTS = [
    {"port": 8771, "mode": "anthropic", "kind": "fixed", "listening": True},
    {"port": 8787, "mode": "mixed", "kind": "dynamic", "listening": True},
]


class CommandTestCase(SynchronousTestCase):
    """Runs command lines against a console in memory, over Perspective Broker in memory."""

    def setUp(self) -> None:
        self.console = MemoryConsole()
        self.clock = Clock()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        client = pb.PBClientFactory()
        self.pump = join(pb.PBServerFactory(AdminRoot(self.console)), client)
        waiting = client.getRootObject()
        self.pump.flush()
        self.root = self.successResultOf(waiting)
        self.patch(adminclient, "unix_door", lambda socket, state, router: self.door)
        self.patch(adminclient, "run", self.run_now)

    async def door(self, reactor: Any) -> Any:
        return self.root

    def run_now(self, work: Any) -> Any:
        self.waiting = Deferred.fromCoroutine(work(self.clock))
        self.pump.flush()
        return self.successResultOf(self.waiting) if self.waiting.called and not self._failed() else self._raise()

    def _failed(self) -> bool:
        return isinstance(self.waiting.result, Failure)

    def _raise(self) -> None:
        self.failureResultOf(self.waiting).raiseException()

    def command(self, line: str) -> int:
        self.out.seek(0)
        self.out.truncate()
        return adminclient.main(line.split())

    @property
    def text(self) -> str:
        return self.out.getvalue()


class CommandTests(CommandTestCase):
    """What each command asks and prints."""

    def test_calls(self) -> None:
        """Each command line asks the console for one thing."""
        for line, call in {
            "status": ("status", None),
            "health": ("check_health",),
            "stats": ("stats",),
            "logs": ("logs", 20),
            "logs -n 5": ("logs", 5),
            "logs 7": ("logs", 7),
            "mode": ("mode", None, None, None),
            "mode mixed": ("mode", None, "mixed", None),
            "mode mixed --port 8773": ("mode", 8773, "mixed", None),
            "ports": ("ports",),
            "ports open 9000 mixed": ("open_port", 9000, "mixed"),
            "ports close 9000": ("close_port", 9000),
            "ports mode 8773 minimax": ("mode", 8773, "minimax", None),
            "reload": ("reload",),
            "drain": ("drain", False),
            "drain --stop": ("drain", True),
            "upstreams": ("upstreams",),
            "upstreams disable minimax": ("enable_upstream", "minimax", False),
            "upstreams enable minimax": ("enable_upstream", "minimax", True),
        }.items():
            self.console.calls.clear()
            self.assertEqual(self.command(line), 0, line)
            self.assertEqual(self.console.calls, [call], line)
            self.assertTrue(self.text.endswith("\n"), line)

    def test_router(self) -> None:
        """``--router`` asks the router that has that port, before the command or after it, and no other."""
        self.console.answers["ports"] = PORTS
        for line in ("--router 8771 stats", "stats --router 8787"):
            self.console.calls.clear()
            self.assertEqual(self.command(line), 0)
            self.assertEqual(self.console.calls, [("ports",), ("stats",)])
        self.console.calls.clear()
        self.assertEqual(self.command("--router 8773 drain --stop"), 3)
        self.assertEqual(self.console.calls, [("ports",)])
        self.assertIn("no router with port 8773 answers; the one that does has 8771, 8787", self.err.getvalue())

    def test_json_everywhere(self) -> None:
        """``--json`` gives JSON for every remote command, before the command or after it."""
        for word in ("status", "health", "stats", "logs", "mode", "ports", "reload", "drain", "upstreams"):
            for line in (f"--json {word}", f"{word} --json"):
                self.assertEqual(self.command(line), 0, line)
                json.loads(self.text)

    def test_ports_table(self) -> None:
        """Ports are shown as a table."""
        self.console.answers["ports"] = PORTS
        self.command("ports")
        self.assertEqual(
            self.text,
            "PORT  MODE       KIND     LISTENING\n8771  anthropic  fixed    yes\n8787  mixed      dynamic  yes\n",
        )
        self.command("ports --json")
        self.assertEqual(json.loads(self.text), PORTS)

    def test_stats_block(self) -> None:
        """Statistics read as in chat."""
        self.command("stats")
        self.assertTrue(self.text.startswith("Session Statistics:\n"))

    def test_unhealthy(self) -> None:
        """An unhealthy router is an exit status that a script can use."""
        for status, expected in (("healthy", 0), ("degraded", 0), ("unhealthy", 1)):
            self.console.answers["check_health"] = {"status": status, "providers": {}}
            self.assertEqual(self.command("health"), expected)

    def test_refused(self) -> None:
        """A refusal is one line on standard error, with exit status 1."""
        self.console.answers["mode"] = CommandError("There is no mode “x”. Valid modes: mixed.")
        self.assertEqual(self.command("mode x"), 1)
        self.assertEqual(self.err.getvalue(), "mportrouter: There is no mode “x”. Valid modes: mixed.\n")
        self.assertEqual(self.text, "")

    def test_usage(self) -> None:
        """Wrong words are exit status 2, before anybody is asked."""
        for line in (
            "",
            "frobnicate",
            "logs -n x",
            "logs -n 0",
            "logs x",
            "logs 5 -n 6",
            "mode mixed --port 99999",
            "ports open",
            "ports open 9000",
            "ports close",
            "ports frob 1",
            "upstreams enable",
            "ask",
            "pins",
            "install",
            "install emacs",
        ):
            error = self.assertRaises(SystemExit, self.command, line)
            self.assertEqual(error.code, 2, line)
        self.assertEqual(self.console.calls, [])

    def test_help(self) -> None:
        """Help lists the commands, and the options of one."""
        self.assertEqual(self.command("help"), 0)
        for word in ("status", "pins", "install", "ask"):
            self.assertIn(word, self.text)
        self.assertEqual(self.command("help logs"), 0)
        self.assertIn("--follow", self.text)

    def test_stop_cuts_the_answer(self) -> None:
        """A router that stops before its answer has left has done what was asked."""

        class Going:
            def callRemote(self, *_: object) -> Deferred[object]:
                return fail(pb.PBConnectionLost("gone"))

        self.root = Going()
        self.assertEqual(self.command("drain --stop"), 0)
        self.assertEqual(self.command("drain"), 3)

    def test_follow(self) -> None:
        """``logs --follow`` prints each new line once."""
        lines = ["a", "b"]
        self.console.logs = lambda count: lines[-count:]  # type: ignore[method-assign]
        arguments = adminclient.parser().parse_args(["logs", "-n", "1", "--follow"])
        arguments.json = False
        waiting = Deferred.fromCoroutine(adminclient._logs(arguments, Remote(self.root, self.clock), self.out))
        self.pump.flush()
        for new in (["c"], [], ["c", "d"]):
            lines.extend(new)
            self.clock.advance(0.5)
            self.pump.flush()
        self.assertEqual(self.text, "b\nc\nc\nd\n")
        waiting.addErrback(lambda failure: None)
        waiting.cancel()

    def test_news(self) -> None:
        """New lines are found also where the window has moved, or all lines are alike."""
        self.assertEqual(adminclient.news(["a", "b", "c"], ["b", "c", "d"]), ["d"])
        self.assertEqual(adminclient.news(["a"], ["a"]), [])
        self.assertEqual(adminclient.news([], ["a"]), ["a"])
        self.assertEqual(adminclient.news(["a", "b"], ["x", "y"]), ["x", "y"])
        self.assertEqual(adminclient.news(["a", "a"], ["a", "a", "a"]), ["a"])

    def test_install(self) -> None:
        """``install claude-code`` says what it wrote, and how Claude Code finds the router."""
        project = self.mktemp()
        os.mkdir(project)
        self.assertEqual(self.command(f"install claude-code --project {project} --port 8773"), 0)
        self.assertIn(f"wrote {os.path.abspath(project)}/.claude/commands/router.md", self.text)
        self.assertIn("export ANTHROPIC_BASE_URL=http://127.0.0.1:8773", self.text)
        with open(os.path.join(project, ".claude", "commands", "rr.md"), "w"):
            pass
        self.assertEqual(self.command(f"install claude-code --project {project} --json"), 1)
        self.assertEqual(len(json.loads(self.text)["kept"]), 1)

    def test_pins(self) -> None:
        """``pins capture`` shows the chain with each key's pin."""
        from .. import pins

        @attrs.frozen
        class Entry:
            subject: str = "CN=a"
            not_after: str = "2027-01-01"
            pin: str = "AAAA="
            leaf: bool = True

        asked: list[tuple[object, ...]] = []

        def capture(host: str, port: int, reactor: object) -> Deferred[list[Entry]]:
            asked.append((host, port))
            return succeed([Entry(), Entry("CN=b", leaf=False, pin="BBBB=")])

        self.patch(pins, "capture", capture)
        self.assertEqual(self.command("pins capture api.example"), 0)
        self.assertEqual(self.command("pins capture api.example:8443 --json"), 0)
        self.assertEqual(asked, [("api.example", 443), ("api.example", 8443)])
        self.assertEqual([row["pin"] for row in json.loads(self.text)], ["AAAA=", "BBBB="])
        self.patch(pins, "capture", lambda *_: fail(ValueError("bad certificate")))
        self.assertEqual(self.command("pins capture api.example"), 1)
        self.assertIn("bad certificate", self.err.getvalue())
        self.assertEqual(self.command("pins capture api.example:x"), 1)


class DoorTests(SynchronousTestCase):
    """The way to the router."""

    def test_not_running(self) -> None:
        """Without a socket the command says how to start the router, with exit status 3."""
        err = io.StringIO()
        self.patch(sys, "stderr", err)
        self.assertEqual(adminclient.main(["status", "--socket", "/nowhere/admin.sock"]), 3)
        self.assertEqual(
            err.getvalue(),
            "mportrouter: mportrouter is not running (no admin socket at /nowhere/admin.sock); "
            "start it with: twistd -n mportrouter --all-ports\n",
        )

    def test_state_directory(self) -> None:
        """The socket is looked for in the state directory."""
        error = self.assertRaises(Unreachable, unix_door, None, "/nowhere/state")
        self.assertIn("/nowhere/state/admin.sock", str(error))

    def test_several(self) -> None:
        """Where several routers could be meant, the command asks which."""

        def several(*_: object) -> str:
            raise SeveralRouters([8771, 8773])

        self.patch(state, "find_socket", several)
        error = self.assertRaises(Unreachable, unix_door, None, None)
        self.assertIn("8771, 8773", str(error))
        self.assertIn("--router 8771", str(error))

    def test_tcp_addresses(self) -> None:
        """Only loopback is spoken to, and no password is asked for elsewhere."""

        def password() -> str:
            raise AssertionError("asked")

        for address in ("10.0.0.1:1", "example.com:1", "nonsense", "127.0.0.1:x", ""):
            self.assertRaises(Refusal, tcp_door, address, "admin", password)
        for address in ("127.0.0.1:8790", "localhost:8790", "[::1]:8790", ":8790"):
            self.assertTrue(callable(tcp_door(address, "admin", lambda: "x")))

    def test_password_file(self) -> None:
        """The password comes from a file; one that cannot be read is refused."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("secret \n")
        self.assertEqual(adminclient._password(path), "secret ")
        self.assertRaises(Refusal, adminclient._password, path + "x")

    def test_silence(self) -> None:
        """A router that does not answer is given up; one that drains is waited for."""

        class Silent:
            def callRemote(self, *_: object) -> Deferred[object]:
                return Deferred()

        clock = Clock()
        remote = Remote(Silent(), clock)
        stats = Deferred.fromCoroutine(remote.call("stats"))
        drain = Deferred.fromCoroutine(remote.call("drain", False))
        clock.advance(3600)
        self.assertIn("did not answer", str(self.failureResultOf(stats, Refusal).value))
        self.assertNoResult(drain)

    def test_lazy(self) -> None:
        """A mistake is answered without loading Twisted."""
        script = (
            "import sys; from mportrouter.adminclient import main; "
            "status = main(['status', '--socket', '/nowhere']); "
            "sys.exit(9 if 'twisted.internet.reactor' in sys.modules or 'twisted.spread' in sys.modules else status)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 3, done.stderr)


class ModuleTests(SynchronousTestCase):
    """``python -m mportrouter``."""

    def test_arguments(self) -> None:
        """It is twistd in the foreground, with the same flags."""
        self.assertEqual(
            __main__.twistd_arguments(["--all-ports", "--demo"]),
            ["twistd", "--nodaemon", "--pidfile=", "mportrouter", "--all-ports", "--demo"],
        )
