"""What the router leaves on the disk: log, ledger, state, and nothing that is private."""

from __future__ import annotations

import json
import os
import signal
import stat

import yaml

from . import faults
from .harness import SECRET, message, until
from .test_life import MINIMAX
from .test_life import LifeTestCase as _LifeTestCase


class TracesTests(_LifeTestCase):
    """What is left on the disk."""

    def lines(self, words: str, count: int) -> list[str]:
        """The whole lines of the log with these words, once there are so many."""

        def found() -> list[str]:
            return [line for line in self.router.log_text().splitlines(True) if words in line and line.endswith("\n")]

        self.assertTrue(until(lambda: len(found()) >= count), self.router.log_text())
        return [line.rstrip("\n") for line in found()]

    def test_nothing_private(self) -> None:
        """Keys, prompts and answers are in nothing that it writes, errors and debugging included."""
        self.stack({"logs": {"level": "debug"}})
        question, key = "my private question quokka", "client-secret-key-wombat"
        for script in (
            faults.ok("the private answer numbat"),
            faults.status(400, "invalid_request_error", "bad"),
            faults.status(500),
            faults.cut(3, 9),
            faults.error_event(5),
            faults.html,
        ):
            for stream in (False, True):
                self.minimax.play(script)
                self.router.ask(message(question, stream=stream), "mixed", headers={"x-api-key": key})
        self.router.ask(b'{"model": "x", "messages": "my private question quokka"', "mixed")
        self.router.ask(None, "mixed", "/v1/nothing?token=query-secret-1234")
        self.assertTrue(until(lambda: "outcome=cut" in self.router.log_text()))
        self.router.end()
        written = self.router.written()
        self.assertNotIn("private", written)
        for private in (SECRET, key, "quokka", "numbat", "query-secret"):
            self.assertNotIn(private, written)
        self.assertIn("minimax", written)

    def test_log_lines(self) -> None:
        """One line an exchange, with what it names; errors can be found by their level."""
        self.stack()
        self.text("anthropic")
        self.minimax.play(faults.status(503))
        self.router.ask(message(), "minimax")
        good, bad = self.lines(" exchange ", 2)
        for words in ("INFO", "upstream=anthropic", "mode=anthropic", "model=claude-opus-5-5", "status=200", "in=100"):
            self.assertIn(words, good)
        self.assertRegex(good, r"ms=\d.*out=\d+.*cost=0\.\d+")
        self.assertRegex(bad, r"\b(ERROR|FATAL)\b.*upstream=minimax.*status=503")
        self.assertEqual(self.router.command("logs", "-n", "1").strip(), bad)

    def test_json_lines(self) -> None:
        """On request every line is JSON."""
        self.stack({"logs": {"format": "json"}})
        self.text()
        self.lines('"exchange"', 1)
        for line in self.lines("", 1):
            self.assertIn("level", json.loads(line))

    def test_permissions(self) -> None:
        """Socket, state and logs are the user's own."""
        self.stack()
        self.text()
        state = os.path.join(self.router.home, ".ai-router", "state")
        self.assertEqual(stat.S_IMODE(os.stat(state).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(state, "admin.sock")).st_mode), 0o600)
        self.router.end()
        for folder, _, names in os.walk(os.path.join(self.router.home, ".ai-router")):
            for name in names:
                mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
                self.assertEqual(mode & 0o077, 0, os.path.join(folder, name))

    def test_ledger_outlives_a_kill(self) -> None:
        """What was used is in the ledger a moment later, even if the process is killed."""
        self.stack()
        self.text("anthropic")
        self.assertTrue(until(lambda: "claude-opus-5-5" in self.ledger()), "it is never written")
        self.router.signal(signal.SIGKILL)
        self.router.wait()
        self.assertIn("claude-opus-5-5", self.ledger())
        self.router.start()
        self.assertEqual(self.text(), MINIMAX)

    def ledger(self) -> str:
        folder = os.path.join(self.router.home, ".ai-router", "state")
        texts = []
        for name in sorted(os.listdir(folder)):
            if name.startswith("ledger-"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    texts.append(file.read())
        return "".join(texts)

    def test_config_is_yaml(self) -> None:
        """The file that the tests write is what users write: plain YAML with ports as numbers."""
        self.stack()
        with open(self.router.config_file, encoding="utf-8") as file:
            self.assertTrue(all(isinstance(port, int) for port in yaml.safe_load(file)["ports"]))
