"""What a router still knows after it was ended, or killed, and started again."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from . import faults
from .faulty import FaultyUpstream
from .harness import RouterProcess, message, until
from .test_life import CLAUDE, MINIMAX
from .test_life import LifeTestCase as _LifeTestCase

#: Seconds after which a change is on disk, whatever happens to the process.
KEPT = 1.0


class RestartTestCase(_LifeTestCase):
    """A router that rests for ten minutes, and ways to end it."""

    @property
    def state(self) -> str:
        return os.path.join(self.router.home, ".ai-router", "state")

    def end_cleanly(self) -> None:
        """What happened just now is kept too."""
        self.router.end()

    def kill(self) -> None:
        time.sleep(KEPT)
        self.router.signal(signal.SIGKILL)
        self.router.wait()

    def json(self, *words: str) -> Any:
        return json.loads(self.router.command(*words, "--json"))

    def port_mode(self, port: str = "dynamic") -> str:
        (row,) = [row for row in self.json("ports") if row["port"] == self.router.port_numbers[port]]
        mode: str = row["mode"]
        return mode

    def limited(self) -> None:
        """MiniMax has said that it is to be left alone for ten minutes, and would answer at once."""
        self.minimax.play(faults.rate_limited("600"), faults.ok(MINIMAX))
        self.assertEqual(self.text(), CLAUDE)
        self.assertEqual(self.text(), CLAUDE)
        self.assertEqual(len(self.minimax.requests), 1)


class RestartTests(RestartTestCase):
    """Everything that is to survive, after each way to end."""

    def survives(self, end: Any) -> None:
        self.stack({"budget": {"per_hour": 1000}})
        self.limited()
        number = str(self.router.port_numbers["dynamic"])
        self.router.command("mode", "anthropic", "--port", number)
        self.router.command("switch", "anthropic", "--port", str(self.router.port_numbers["interactive"]))
        spent = self.json("stats")["cost_last_hour"]
        self.assertGreater(spent, 0)
        end()
        self.router.start()
        self.assertEqual(self.text(), CLAUDE)
        self.assertEqual(len(self.minimax.requests), 1, "it was asked before its time")
        self.assertEqual(self.port_mode(), "anthropic")
        self.assertEqual(self.text("interactive"), CLAUDE)
        self.assertIn("anthropic", json.dumps([row.get("pinned") for row in self.json("ports")]))
        self.assertGreater(self.json("stats")["cost_last_hour"], spent)
        (status,) = [row["status"] for row in self.json("upstreams") if row["id"] == "minimax"]
        self.assertIn("limit", status.lower().replace("_", " "))
        self.router.command("fallback")
        end()
        self.router.start()
        self.assertEqual({row.get("pinned") for row in self.json("ports")}, {None})
        self.assertNotIn("Traceback", self.router.output())

    def test_clean_end(self) -> None:
        """After SIGTERM, cooldown, port mode, pin and spending are there again, with nothing lost."""
        self.survives(self.end_cleanly)

    def test_killed(self) -> None:
        """After SIGKILL too, but for the last second."""
        self.survives(self.kill)

    def test_over(self) -> None:
        """A cooldown that ends while no router runs is over."""
        self.stack()
        self.minimax.play(faults.rate_limited("3"), faults.ok(MINIMAX))
        self.assertEqual(self.text(), CLAUDE)
        began = time.monotonic()
        self.router.end()
        time.sleep(max(0.0, began + 3.5 - time.monotonic()))
        self.router.start()
        self.assertEqual(self.text(), MINIMAX)

    def test_budget(self) -> None:
        """An hour's budget that is spent is spent in the next process as well."""
        self.stack({"budget": {"per_hour": 0.0001}})
        self.assertEqual(self.text("anthropic"), CLAUDE)
        before = self.router.ask(message(), "anthropic")
        self.assertNotEqual(before.status, 200)
        self.kill()
        self.router.start()
        after = self.router.ask(message(), "anthropic")
        self.assertEqual((after.status, after.json["error"]["type"]), (before.status, before.json["error"]["type"]))
        self.assertEqual(len(self.claude.requests), 1)

    def test_conversation(self) -> None:
        """A conversation that was switched to a mode of its own is still in it."""
        self.stack()
        session = {"x-claude-code-session-id": "one"}
        self.router.ask(message("/router mode anthropic --session"), "mixed", headers=session)
        self.assertEqual(self.router.ask(message(), "mixed", headers=session).text, CLAUDE)
        self.assertEqual(self.text(), MINIMAX)
        self.kill()
        self.router.start()
        self.assertEqual(self.router.ask(message(), "mixed", headers=session).text, CLAUDE)
        self.assertEqual(self.text(), MINIMAX)

    def test_killed_under_load(self) -> None:
        """Killed in the middle of many changes, again and again: the file is never damaged."""
        self.stack()
        number = str(self.router.port_numbers["dynamic"])
        for turn in range(4):
            self.minimax.play(*[faults.rate_limited("600")] * 20)
            for each in range(20):
                self.router.ask({**message(), "model": f"m-{turn}-{each}"}, "mixed")
            mode = ("anthropic", "minimax")[turn % 2]
            self.router.command("mode", mode, "--port", number)
            self.router.signal(signal.SIGKILL)
            self.router.wait()
            self.router.start()
            self.assertIn(self.port_mode(), ("mixed", "anthropic", "minimax"))
        self.assertNotIn("aside", self.router.output() + self.router.log_text())
        self.assertEqual([name for name in os.listdir(self.state) if "bad" in name], [])


class DirectoryTests(RestartTestCase):
    """The state directory."""

    def test_two_routers(self) -> None:
        """Two routers with one state directory keep what is theirs, although their modes and accounts have one name."""
        self.stack()
        first = self.router
        other_minimax = FaultyUpstream([faults.ok("from another MiniMax")], "/anthropic")
        self.addCleanup(other_minimax.stop)
        second = RouterProcess(
            {"minimax": other_minimax.url, "anthropic": self.claude.url},
            {"ports": {"mixed": {"mode": "mixed", "dynamic": True}}},
            environment={"HOME": first.home},
        )
        self.addCleanup(second.stop)
        self.limited()
        name = str(second.port_numbers["mixed"])
        second.command("--router", name, "switch", "minimax")
        self.kill()
        second.signal(signal.SIGKILL)
        second.wait()
        first.start()
        second.start()
        self.assertEqual(self.text(), CLAUDE)
        self.assertEqual(second.ask(message(), "mixed").text, "from another MiniMax")
        rows = self.json("--router", str(min(first.port_numbers.values())), "ports")
        self.assertEqual({row.get("pinned") for row in rows}, {None})
        second.end()

    def test_damaged(self) -> None:
        """A damaged file is put aside with a warning; the router starts, answers, and keeps what comes after."""
        self.stack()
        self.limited()
        self.router.end()
        path = os.path.join(self.state, "state.sqlite")
        self.assertTrue(os.path.exists(path))
        with open(path, "wb") as file:
            file.write(b"no database\n" * 1000)
        self.router.start()
        self.assertTrue(os.path.exists(path + ".bad"))
        self.assertTrue(until(lambda: "state.sqlite.bad" in self.router.output() + self.router.log_text()))
        self.assertEqual(self.text(), MINIMAX)
        self.router.command("switch", "anthropic", "--port", str(self.router.port_numbers["mixed"]))
        self.router.restart()
        self.assertEqual(self.text(), CLAUDE)

    def test_earlier_version(self) -> None:
        """Modes that an earlier version has kept are taken over."""
        router = self.process({}, {"ports": {"dynamic": {"mode": "mixed", "dynamic": True}}}, ["--demo"], start=False)
        state = os.path.join(self.state, "demo")
        os.makedirs(state, 0o700)
        with open(os.path.join(state, "modes.json"), "w", encoding="ascii") as file:
            json.dump({"version": 1, "ports": {str(router.port_numbers["dynamic"]): "anthropic"}}, file)
        router.start()
        self.assertEqual(self.port_mode(), "anthropic")
        self.assertTrue(until(lambda: os.path.exists(os.path.join(state, "modes.json.old"))))
        router.restart()
        self.assertEqual(self.port_mode(), "anthropic")

    def test_read_only(self) -> None:
        """Where the state cannot be written the router serves all the same, and says so once."""
        self.stack()
        path = os.path.join(self.state, "state.sqlite")
        self.router.end()
        if os.path.exists(path):
            os.unlink(path)
        os.makedirs(path)  # not even the superuser can write to that
        self.router.start()
        self.router.command("switch", "anthropic", "--port", str(self.router.port_numbers["mixed"]))
        self.assertEqual(self.text(), CLAUDE)
        self.assertTrue(until(lambda: "cannot be written" in self.router.output() + self.router.log_text()))
        self.router.end()

    def test_no_secrets(self) -> None:
        """No key is in the state."""
        self.stack()
        self.minimax.play(faults.status(401, "authentication_error", "bad key sk-test-0123456789-SECRET-m"))
        self.text()
        self.kill()
        content = b""
        for name in os.listdir(self.state):
            if name.startswith("state.sqlite"):
                with open(os.path.join(self.state, name), "rb") as file:
                    content += file.read()
        self.assertIn(b"minimax", content)
        self.assertNotIn(b"SECRET", content)
