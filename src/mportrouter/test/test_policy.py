"""Tests of making plans."""

from __future__ import annotations

from decimal import Decimal

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.errors import Kind
from mportrouter.routing.complexity import Score
from mportrouter.routing.policy import Attempt, Facts, Plan, UpstreamView, plan
from mportrouter.settings import Capabilities, ModeSettings

MINIMAX = UpstreamView("minimax", "minimax", model="MiniMax-M3")
CLAUDE = UpstreamView("anthropic", "anthropic", model="claude-x")
MIXED = ModeSettings("mixed", "fallback", ("minimax", "anthropic"))
ONLY = ModeSettings("anthropic", "only", ("anthropic",))
FACTS = Facts("mixed", "claude-x")


def off(view: UpstreamView) -> UpstreamView:
    return attrs.evolve(view, enabled=False)


class PolicyTests(SynchronousTestCase):
    """What holds for every strategy."""

    def test_plain(self) -> None:
        """Attempts carry upstream, model there, and a reason."""
        self.assertEqual(
            plan(MIXED, FACTS, [MINIMAX, CLAUDE]),
            Plan(
                (
                    Attempt("minimax", "MiniMax-M3", "first in order"),
                    Attempt("anthropic", "claude-x", "after minimax"),
                ),
                "minimax first",
            ),
        )

    def test_disabled(self) -> None:
        """A disabled upstream is not asked; the decision says so."""
        made = plan(MIXED, FACTS, [off(MINIMAX), CLAUDE])
        self.assertEqual([attempt.upstream for attempt in made.attempts], ["anthropic"])
        self.assertEqual(made.decision, "minimax disabled; anthropic only")

    def test_all_disabled(self) -> None:
        """With nobody left the refusal names them; ``only`` takes no substitute."""
        both = ModeSettings("both", "only", ("anthropic", "minimax"))
        for mode, views in ((MIXED, [off(MINIMAX), off(CLAUDE)]), (both, [off(CLAUDE), MINIMAX])):
            made = plan(mode, FACTS, views)
            assert made.refusal is not None
            self.assertEqual((made.attempts, made.refusal.kind), ((), Kind.UNAVAILABLE))
            self.assertIn("anthropic", made.refusal.message)

    def test_over_budget_moves(self) -> None:
        """Past the ceiling Anthropic is left out where the mode has another."""
        interactive = ModeSettings("interactive", "interactive", ("minimax", "anthropic"))
        for mode in (MIXED, interactive):
            made = plan(mode, attrs.evolve(FACTS, score=Score(9, ("design",))), [MINIMAX, CLAUDE], True, Decimal(10))
            self.assertEqual([attempt.upstream for attempt in made.attempts], ["minimax"])
            self.assertIn("cost ceiling reached", made.decision)

    def test_over_budget_refuses(self) -> None:
        """Past the ceiling a mode without another upstream is refused with 429, the ceiling and a wait."""
        both = ModeSettings("both", "only", ("anthropic", "minimax"))
        for mode, views in ((ONLY, [CLAUDE]), (MIXED, [off(MINIMAX), CLAUDE]), (both, [CLAUDE, MINIMAX])):
            made = plan(mode, FACTS, views, True, Decimal("10"))
            assert made.refusal is not None
            self.assertEqual((made.attempts, made.refusal.kind, made.refusal.status), ((), Kind.BUDGET, 429))
            self.assertIn("$10.00", made.refusal.message)
            self.assertIsNotNone(made.refusal.retry_after)

    def test_small_ceiling(self) -> None:
        """A ceiling below a cent is named as it is, not as nothing."""
        made = plan(ONLY, FACTS, [CLAUDE], True, Decimal("0.002"))
        assert made.refusal is not None
        self.assertIn("$0.0020 an hour", made.refusal.message)

    def test_over_budget_of_others(self) -> None:
        """The ceiling does not stop a mode that never asks Anthropic."""
        made = plan(ModeSettings("minimax", "only", ("minimax",)), FACTS, [MINIMAX], True)
        self.assertEqual(made.decision, "minimax only")

    def test_over_budget_and_incapable(self) -> None:
        """Past the ceiling the one that is left serves even what it ignores, and the decision says both."""
        ignoring = attrs.evolve(MINIMAX, capabilities=Capabilities(stop_sequences="ignored"))
        made = plan(MIXED, attrs.evolve(FACTS, needs=frozenset({"stop_sequences"})), [ignoring, CLAUDE], True)
        self.assertEqual([attempt.upstream for attempt in made.attempts], ["minimax"])
        self.assertIn("cost ceiling reached", made.decision)
        self.assertIn("stop_sequences ignored by minimax", made.decision)

    @given(
        st.sampled_from(["only", "fallback", "interactive"]),
        st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(["honoured", "ignored", "refused"]))),
        st.booleans(),
        st.integers(1, 10),
        st.booleans(),
    )
    @hypothesis_settings(max_examples=300, deadline=None)
    def test_always_an_answer(
        self, strategy: str, states: list[tuple[int, bool, str]], over: bool, score: int, needs: bool
    ) -> None:
        """A plan has attempts or a refusal, never both or neither; no upstream twice, none disabled; and it is pure."""
        views = [
            UpstreamView(
                f"u{place}",
                "anthropic" if place % 2 else "minimax",
                Capabilities(stop_sequences=how),
                rank=rank,
                enabled=enabled,
            )
            for place, (rank, enabled, how) in enumerate(states)
        ]
        mode = ModeSettings("m", strategy, tuple(view.id for view in views))
        facts = Facts("m", "x", needs=frozenset({"stop_sequences"} if needs else ()), score=Score(score))
        made = plan(mode, facts, views, over)
        self.assertNotEqual(bool(made.attempts), made.refusal is not None)
        asked = [attempt.upstream for attempt in made.attempts]
        self.assertEqual(len(asked), len(set(asked)))
        by_id = {view.id: view for view in views}
        for id in asked:
            self.assertTrue(by_id[id].enabled)
            self.assertFalse(over and by_id[id].provider == "anthropic")
        self.assertTrue(made.decision)
        if made.refusal is None:
            self.assertEqual(plan(mode, facts, views, over), made)
