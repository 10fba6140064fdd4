"""Tests for modes that are pinned to one of their upstreams: :meth:`Console.switch`, what it plans, what it tells."""

from __future__ import annotations

from typing import Any

from ..breaker import Refusal
from ..commands import CommandError
from ..dialects.known import ANTHROPIC
from ..router import Router
from ..settings import ModeSettings
from .test_router import DEAD, RouterTestCase

TEXT = """
ports: {8787: {mode: mixed, dynamic: true}, 8773: mixed, 8772: minimax, 8790: {mode: anthropic, locked: true}}
modes: {two: {strategy: fallback, upstreams: [minimax, second]}}
upstreams: {second: {provider: minimax, api_key: k2}}
"""


class PinningTestCase(RouterTestCase):
    """A router that is composed and not started."""

    def setUp(self) -> None:
        super().setUp()
        self.made = self.router(TEXT)
        self.console = self.made.console

    def mode_of(self, port: int = 8787, router: Router | None = None) -> ModeSettings:
        router = router or self.made
        return router.site.mode_of(router.ports[port])

    def planned(self, port: int = 8787) -> list[str]:
        look = ANTHROPIC.look(b'{"model": "claude-opus-5-5", "max_tokens": 5, "messages": []}')
        plan = self.made.runtime.plan(self.mode_of(port), look, False)
        return [attempt.upstream for attempt in plan.attempts]

    def refused(self, *arguments: Any) -> str:
        return self.assertRaises(CommandError, self.console.switch, *arguments).message


class SwitchTests(PinningTestCase):
    """``switch`` and ``fallback``."""

    def test_alone(self) -> None:
        """A pinned mode asks its provider and nobody else, on every port that has the mode, until it is let go."""
        self.assertEqual(self.planned(), ["minimax", "anthropic"])
        told = self.console.switch(8787, "anthropic")
        self.assertEqual(told, {"port": 8787, "mode": "mixed", "pinned": "anthropic", "previous": None})
        planned = [self.planned(port) for port in (8787, 8773, 8772)]
        self.assertEqual(planned, [["anthropic"], ["anthropic"], ["minimax"]])
        self.assertEqual(self.console.switch(None, "minimax")["previous"], "anthropic")
        self.assertEqual(self.planned(), ["minimax"])
        told = self.console.unpin(None)
        self.assertEqual(told["unpinned"], {"mixed": "minimax"})
        self.assertEqual((told["mode"], told["upstreams"]), ("mixed", ["minimax", "anthropic"]))
        self.assertEqual(self.planned(), ["minimax", "anthropic"])

    def test_plan_is_not_remembered(self) -> None:
        """What was planned under one pin is not given out under another."""
        for name in ("minimax", "anthropic", "minimax"):
            self.console.switch(8787, name)
            self.assertEqual(self.planned(), [name])

    def test_no_cooldown(self) -> None:
        """A provider that is asked alone is not left alone for longer than its circuit says."""
        text = TEXT.replace("[minimax, second]", "[minimax, second], cooldown: 30m")
        self.made = router = self.router(text + "\n")
        router.ports[8787].mode = "two"
        self.assertEqual(self.mode_of().cooldown, 1800.0)
        router.console.switch(8787, "second")
        mode = self.mode_of()
        self.assertEqual((mode.name, mode.strategy, mode.upstreams), ("two/second", "only", ("second",)))
        self.assertIsNone(mode.cooldown)

    def test_rest_is_over(self) -> None:
        """Who switches to a provider that is down has it asked at once."""
        circuit = self.made.runtime.upstreams["minimax"].circuit
        for _ in range(5):
            permit = circuit.permit("m")
            assert not isinstance(permit, Refusal)
            permit.failure(DEAD)
        self.assertEqual(circuit.state, "open")
        self.console.switch(8787, "minimax")
        self.assertEqual(circuit.state, "closed")

    def test_names(self) -> None:
        """A provider's name means its upstream where that is one; the case does not matter; an id comes first."""
        self.made.ports[8787].mode = "two"
        self.assertEqual(self.console.switch(8787, "minimax")["pinned"], "minimax")
        self.assertEqual(self.console.switch(8787, "Second")["pinned"], "second")
        self.assertIn("“MiniMax” means several of the upstreams of mode two", self.refused(8787, "MiniMax"))

    def test_refusals(self) -> None:
        """Each refusal says what would be right, and nothing has changed."""
        known = "no “groq” among the upstreams of mode mixed. Choose one: minimax, anthropic."
        self.assertIn(known, self.refused(8787, "groq"))
        self.assertIn("port 9 is not open", self.refused(9, "minimax"))
        self.assertIn("locked", self.refused(8790, "anthropic"))
        self.console.enable_upstream("minimax", False)
        self.assertIn("minimax is disabled", self.refused(8787, "minimax"))
        self.assertEqual(self.mode_of().name, "mixed")

    def test_without_a_key(self) -> None:
        """A provider without a key is not switched to; the variable is named."""
        rows = "[{match: a, upstream: minimax}, {match: b, upstream: moonshot}]"
        text = f"ports: {{9099: by-name}}\nmodes: {{by-name: {{strategy: table, table: {rows}}}}}\n"
        console = self.router(text + "upstreams: {moonshot: {provider: moonshot}}\n").console
        error = self.assertRaises(CommandError, console.switch, None, "moonshot")
        self.assertIn("moonshot needs MOONSHOT_API_KEY", error.message)

    def test_which_port(self) -> None:
        """Without a port the one is meant whose mode has the provider; where several do, the dynamic one."""
        router = self.router("ports: {8771: anthropic, 8772: minimax}\n")
        self.assertEqual(router.console.switch(None, "minimax")["port"], 8772)
        router = self.router("ports: {8771: anthropic, 8773: mixed}\n")
        error = self.assertRaises(CommandError, router.console.switch, None, "anthropic")
        self.assertIn("say which port", error.message)

    def test_one_mode_of_several(self) -> None:
        """``fallback`` with a port lets go of that port's mode alone."""
        self.console.switch(8787, "minimax")
        self.console.switch(8772, "minimax")
        self.assertEqual(self.console.unpin(8772)["unpinned"], {"minimax": "minimax"})
        self.assertEqual(self.mode_of().name, "mixed/minimax")

    def test_nothing_pinned(self) -> None:
        """``fallback`` where nothing is pinned tells the order."""
        told = self.console.unpin(None)
        self.assertEqual(told, {"unpinned": {}, "mode": "mixed", "upstreams": ["minimax", "anthropic"]})


class ToldTests(PinningTestCase):
    """Where a pin is seen."""

    def test_status(self) -> None:
        """The status says which provider is asked alone, and has no fallback."""
        self.assertNotIn("pinned", self.console.status(None))
        self.console.switch(8787, "anthropic")
        told = self.console.status(None)
        self.assertEqual((told["mode"], told["primary"], told["fallback"]), ("mixed", "anthropic", None))
        self.assertEqual(told["pinned"], "anthropic, without failover")
        self.assertEqual(self.console.status(8772)["pinned_modes"], {"mixed": "anthropic"})

    def test_ports(self) -> None:
        """The list of ports has it, for the ports that it concerns."""
        self.console.switch(8787, "anthropic")
        self.assertEqual(
            {row["port"]: row.get("pinned") for row in self.console.ports()},
            {8772: None, 8773: "anthropic", 8787: "anthropic", 8790: None},
        )

    def test_session(self) -> None:
        """A conversation with a mode of its own has that mode's pin, if it has one."""
        self.made.state.set_session_mode("8787:s", "minimax")
        self.console.switch(8787, "anthropic")
        self.assertEqual(self.made.site.mode_of(self.made.ports[8787], "s").name, "minimax")


class ReloadTests(PinningTestCase):
    """Pins and other configurations."""

    def test_kept(self) -> None:
        """A reload leaves the pin."""
        self.console.switch(8787, "minimax")
        self.reload(self.made, TEXT + "drain: 5s\n")
        self.assertEqual(self.planned(), ["minimax"])

    def test_gone(self) -> None:
        """A pin to an upstream that the mode has no more is as if it were not there, everywhere."""
        self.made.state.set_pin("mixed", "second")
        self.assertEqual(self.planned(), ["minimax", "anthropic"])
        self.assertNotIn("pinned", self.console.status(None))
        self.made.state.set_pin("no-such-mode", "second")
        self.assertNotIn("pinned_modes", self.console.status(None))
