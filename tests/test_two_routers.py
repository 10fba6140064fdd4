"""Two processes with the same home and default settings, and how the command tells them apart."""

from __future__ import annotations

import json
import os
import signal

from .harness import RouterProcess, message, until
from .test_life import LifeTestCase as _LifeTestCase


class TwoRoutersTests(_LifeTestCase):
    """Two processes with the same home and default settings."""

    def rows(self, *which: str) -> list[tuple[int, str]]:
        return [(row["port"], row["mode"]) for row in json.loads(self.router.command(*which, "ports", "--json"))]

    def test_two(self) -> None:
        """Both start and answer; each is driven by the port in its name, and the one that is left by no name at all."""
        first = self.process({}, {"ports": {"anthropic": {"mode": "anthropic"}}}, ["--demo"])
        ports = {"mixed": {"mode": "mixed", "dynamic": True}}
        second = RouterProcess({}, {"ports": ports}, ["--demo"], {"HOME": first.home})
        self.addCleanup(second.stop)
        one, other = first.port_numbers["anthropic"], second.port_numbers["mixed"]
        for name, router in (("anthropic", first), ("mixed", second)):
            self.assertEqual(router.ask(message(), name).status, 200)
        self.assertTrue(until(lambda: f"--router {other} " in second.output()), second.output())
        told = [line for line in second.output().splitlines() if f"--router {other}" in line]
        self.assertEqual(len(told), 1, second.output())
        self.assertNotIn("--router", first.output())

        self.assertEqual(self.rows(), [(one, "anthropic")])
        self.assertEqual(self.rows("--router", str(one)), [(one, "anthropic")])
        self.assertEqual(self.rows("--router", str(other)), [(other, "mixed")])
        self.assertIn("no router with port 1 ", first.command("--router", "1", "drain", "--stop", status=3))
        first.command("mode", "minimax", "--router", str(other))
        self.assertEqual(self.rows("--router", str(other)), [(other, "minimax")])

        first.end()
        self.assertEqual(self.rows(), [(other, "minimax")])
        second.restart()
        self.assertEqual(self.rows(), [(other, "minimax")])
        second.end()
        self.assertIn("not running", first.command("status", status=3))
        names = os.listdir(os.path.join(first.home, ".ai-router", "state"))
        self.assertEqual([name for name in names if name.startswith("admin")], [])

    def test_killed(self) -> None:
        """The socket of a router that was killed is the next one's."""
        first = self.process({}, {"ports": {"anthropic": {"mode": "anthropic"}}}, ["--demo"])
        first.signal(signal.SIGKILL)
        first.wait()
        first.start()
        self.assertEqual(self.rows(), [(first.port_numbers["anthropic"], "anthropic")])
