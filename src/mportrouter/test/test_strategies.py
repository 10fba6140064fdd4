"""Tests of the strategies."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mportrouter.routing.complexity import Score
from mportrouter.routing.plans import Facts, Plan, UpstreamView
from mportrouter.routing.strategies import STRATEGIES, IStrategy, lacking
from mportrouter.settings import Capabilities, Interactive, ModeSettings

MINIMAX = UpstreamView(
    "minimax",
    "minimax",
    Capabilities(stop_sequences="ignored", tool_choice_force="ignored", documents="refused"),
    model="MiniMax-M3",
    context=1_000_000,
)
CLAUDE = UpstreamView("anthropic", "anthropic", model="claude-sonnet-4-5", context=200_000)
MIXED = ModeSettings("mixed", "fallback", ("minimax", "anthropic"), retries=1)
FACTS = Facts("mixed", "claude-sonnet-4-5")


def order(plan: Plan) -> list[str]:
    return [attempt.upstream for attempt in plan.attempts]


class StrategiesTests(SynchronousTestCase):
    """What holds for all."""

    def test_interface(self) -> None:
        """Each is a strategy under its own name."""
        for name, strategy in STRATEGIES.items():
            verifyObject(IStrategy, strategy)
            self.assertEqual(strategy.name, name)

    def test_lacking(self) -> None:
        """What an upstream does not do is told column by column, context included."""
        facts = attrs.evolve(FACTS, needs=frozenset({"stop_sequences", "documents", "images", "no_such_column"}))
        self.assertEqual(lacking(MINIMAX, facts), {"documents": "refused", "stop_sequences": "ignored"})
        self.assertEqual(lacking(CLAUDE, facts), {})
        self.assertEqual(lacking(CLAUDE, attrs.evolve(FACTS, estimated_tokens=200_001)), {"context": "refused"})
        self.assertEqual(lacking(CLAUDE, attrs.evolve(FACTS, estimated_tokens=200_000)), {})


class OnlyTests(SynchronousTestCase):
    """One upstream."""

    def plan(self, view: UpstreamView, facts: Facts = FACTS) -> Plan:
        return STRATEGIES["only"].plan(ModeSettings("m", "only", (view.id,)), facts, [view])

    def test_whatever_its_state(self) -> None:
        """It is asked even while down, so that its own error is the answer."""
        plan = self.plan(attrs.evolve(MINIMAX, rank=3))
        self.assertEqual((order(plan), plan.attempts[0].model), (["minimax"], "MiniMax-M3"))
        self.assertEqual(plan.decision, "minimax only")

    def test_says_what_is_ignored(self) -> None:
        """What it will not do is in the decision."""
        plan = self.plan(MINIMAX, attrs.evolve(FACTS, needs=frozenset({"stop_sequences"})))
        self.assertEqual(plan.decision, "minimax only; stop_sequences ignored by minimax")

    def test_never_a_second(self) -> None:
        """There is no failover, even where more are configured."""
        plan = STRATEGIES["only"].plan(ModeSettings("m", "only", ("minimax", "anthropic")), FACTS, [MINIMAX, CLAUDE])
        self.assertEqual(order(plan), ["minimax"])


class FallbackTests(SynchronousTestCase):
    """In order, the well before the ill."""

    def plan(self, minimax: int = 0, claude: int = 0, *needs: str, **facts: Any) -> Plan:
        views = [attrs.evolve(MINIMAX, rank=minimax), attrs.evolve(CLAUDE, rank=claude)]
        return STRATEGIES["fallback"].plan(MIXED, attrs.evolve(FACTS, needs=frozenset(needs), **facts), views)

    def test_order(self) -> None:
        """By rank, then as configured; the decision names who had to step back."""
        for minimax, claude, expected, decision in [
            (0, 0, ["minimax", "anthropic"], "minimax first"),
            (0, 3, ["minimax", "anthropic"], "minimax first"),
            (1, 1, ["minimax", "anthropic"], "minimax first"),
            (3, 3, ["minimax", "anthropic"], "minimax first"),
            (1, 0, ["anthropic", "minimax"], "minimax degraded; anthropic first"),
            (2, 1, ["anthropic", "minimax"], "minimax resting; anthropic first"),
            (3, 2, ["anthropic", "minimax"], "minimax down; anthropic first"),
        ]:
            plan = self.plan(minimax, claude)
            self.assertEqual((order(plan), plan.decision), (expected, decision))

    def test_reason_of_the_view(self) -> None:
        """Where the snapshot says why, that is the word."""
        views = [attrs.evolve(MINIMAX, rank=3, reason="circuit open"), CLAUDE]
        plan = STRATEGIES["fallback"].plan(MIXED, FACTS, views)
        self.assertEqual(plan.decision, "minimax circuit open; anthropic first")

    def test_incapable_left_out(self) -> None:
        """Who would ignore or refuse a needed member is left out where another can serve."""
        for need, word in (("stop_sequences", "ignored"), ("documents", "refused")):
            for rank in (0, 1, 2):
                plan = self.plan(0, rank, need)
                self.assertEqual(order(plan), ["anthropic"])
                self.assertEqual(plan.decision, f"{need} {word} by minimax; anthropic only")

    def test_last_resort(self) -> None:
        """While every capable one is down, one that ignores the member stays behind; one that refuses it does not."""
        self.assertEqual(order(self.plan(0, 3, "stop_sequences")), ["anthropic", "minimax"])
        self.assertEqual(order(self.plan(0, 3, "documents")), ["anthropic"])
        self.assertEqual(order(self.plan(0, 3, "documents", "stop_sequences")), ["anthropic"])

    def test_nobody_capable(self) -> None:
        """Where nobody can, all stay, and the decision says what is amiss."""
        views = [MINIMAX, attrs.evolve(MINIMAX, id="other")]
        facts = attrs.evolve(FACTS, needs=frozenset({"stop_sequences", "tool_choice_force"}))
        plan = STRATEGIES["fallback"].plan(MIXED, facts, views)
        self.assertEqual(order(plan), ["minimax", "other"])
        self.assertIn("stop_sequences, tool_choice_force ignored by minimax", plan.decision)

    def test_context(self) -> None:
        """A prompt that does not fit one goes to the one it fits."""
        self.assertEqual(order(self.plan(estimated_tokens=500_000)), ["minimax"])

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    @hypothesis_settings(max_examples=100, deadline=None)
    def test_everybody_once(self, ranks: list[int]) -> None:
        """Every upstream is planned exactly once, in a stable order by rank."""
        views = [UpstreamView(f"u{place}", "p", rank=rank) for place, rank in enumerate(ranks)]
        mode = ModeSettings("m", "fallback", tuple(view.id for view in views))
        plan = STRATEGIES["fallback"].plan(mode, FACTS, views)
        self.assertEqual(order(plan), [view.id for view in sorted(views, key=lambda view: view.rank)])


class InteractiveTests(SynchronousTestCase):
    """By the task's complexity."""

    def plan(
        self,
        score: int | None,
        *needs: str,
        floor: str = "medium",
        prefer: float = 0.8,
        threshold: str | None = None,
        minimax: UpstreamView = MINIMAX,
        claude: UpstreamView = CLAUDE,
        key: str = "k",
        reasons: tuple[str, ...] = ("short question",),
        **facts: Any,
    ) -> Plan:
        mode = ModeSettings(
            "interactive",
            "interactive",
            ("minimax", "anthropic"),
            interactive=Interactive(prefer, Decimal(threshold) if threshold else None, floor),
        )
        known = Facts(
            "interactive",
            "claude-sonnet-4-5",
            needs=frozenset(needs),
            score=None if score is None else Score(score, reasons),
            share_key=key,
            **facts,
        )
        return STRATEGIES["interactive"].plan(mode, known, [minimax, claude])

    def test_table(self) -> None:
        """Score and quality floor decide who is first and who may stand behind."""
        cheap, strong, alone = ["minimax", "anthropic"], ["anthropic", "minimax"], ["anthropic"]
        for floor, expected in {
            "low": [cheap] * 6 + [strong] * 2 + [alone] * 2,
            "medium": [cheap] * 6 + [alone] * 4,
            "high": [cheap] * 3 + [alone] * 7,
        }.items():
            for score, wanted in enumerate(expected, 1):
                self.assertEqual(order(self.plan(score, floor=floor, prefer=1.0)), wanted, (floor, score))

    def test_decision(self) -> None:
        """The decision names score, reason and choice."""
        self.assertEqual(self.plan(3).decision, "complexity 3 (short question): minimax first")
        self.assertEqual(
            self.plan(8, reasons=("design",)).decision, "complexity 8 (design); quality_floor medium: anthropic only"
        )

    def test_share(self) -> None:
        """Middling requests are shared as preferred; the same key always falls on the same side."""
        for prefer in (0.0, 0.2, 0.8, 1.0):
            sides = [order(self.plan(5, prefer=prefer, key=f"k{number}"))[0] for number in range(1000)]
            again = [order(self.plan(5, prefer=prefer, key=f"k{number}"))[0] for number in range(1000)]
            self.assertEqual(sides, again)
            self.assertLess(abs(sides.count("minimax") / 1000 - prefer), 0.06)

    def test_load_moves_the_share(self) -> None:
        """A loaded cheap upstream gives some of its share away, unless all was asked for."""

        def share(load: float, prefer: float) -> float:
            loaded = attrs.evolve(MINIMAX, load=load)
            plans = [self.plan(5, prefer=prefer, key=f"k{number}", minimax=loaded) for number in range(500)]
            return sum(order(plan)[0] == "minimax" for plan in plans) / 500

        self.assertLess(abs(share(1.0, 0.8) - 0.3), 0.08)
        self.assertEqual(share(1.0, 1.0), 1.0)

    def test_capability_mismatch(self) -> None:
        """What the cheap one cannot do goes to the strong one, however easy it is."""
        plan = self.plan(1, "stop_sequences")
        self.assertEqual(order(plan), ["anthropic"])
        self.assertIn("stop_sequences ignored by minimax", plan.decision)

    def test_strong_down(self) -> None:
        """Where the strong one is down, low and medium floors let the cheap one step in; high does not."""
        down = attrs.evolve(CLAUDE, rank=3)
        for floor, expected in (
            ("low", ["minimax", "anthropic"]),
            ("medium", ["minimax", "anthropic"]),
            ("high", ["anthropic"]),
        ):
            self.assertEqual(order(self.plan(9, floor=floor, claude=down)), expected)
        resting = attrs.evolve(CLAUDE, rank=2)
        self.assertEqual(order(self.plan(9, claude=resting)), ["anthropic"])

    def test_cheap_unwell(self) -> None:
        """An easy task goes to the strong one while the cheap one is unwell."""
        plan = self.plan(2, minimax=attrs.evolve(MINIMAX, rank=3))
        self.assertEqual(order(plan), ["anthropic", "minimax"])
        self.assertIn("minimax down", plan.decision)

    def test_cost_threshold(self) -> None:
        """A request dearer than the threshold stays with the cheap one, unless the floor forbids."""
        dear = attrs.evolve(CLAUDE, cost=600_000_000_000)  # $0.60
        self.assertEqual(order(self.plan(6, prefer=0.0, threshold="0.50", claude=dear)), ["minimax"])
        self.assertEqual(order(self.plan(6, prefer=0.0, threshold="0.60", claude=dear)), ["anthropic", "minimax"])
        self.assertEqual(order(self.plan(8, floor="low", threshold="0.50", claude=dear)), ["minimax"])
        plan = self.plan(7, threshold="0.50", claude=dear)
        self.assertEqual(order(plan), ["anthropic"])
        self.assertIn("above cost_threshold", plan.decision)

    def test_unknown_cost(self) -> None:
        """A cost that nobody knows is not above any threshold."""
        self.assertEqual(order(self.plan(6, prefer=0.0, threshold="0.01")), ["anthropic", "minimax"])

    def test_not_analysed(self) -> None:
        """Without a score the middle is taken."""
        plan = self.plan(None, prefer=1.0)
        self.assertEqual(plan.decision, "complexity 5 (not analysed): minimax first")

    def test_one_left(self) -> None:
        """With one upstream left it serves every score."""
        mode = ModeSettings("interactive", "interactive", ("minimax", "anthropic"))
        for view in (MINIMAX, CLAUDE):
            for score in (1, 5, 10):
                plan = STRATEGIES["interactive"].plan(mode, attrs.evolve(FACTS, score=Score(score)), [view])
                self.assertEqual(order(plan), [view.id])
