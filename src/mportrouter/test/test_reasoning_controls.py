"""Tests for :mod:`mportrouter.reasoning_controls`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import ReasoningControl
from ..reasoning_controls import Asked, asked, budget_of, clamped, effort_of
from ..settings import Capabilities

LADDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
EFFORT = Capabilities(reasoning_kind="effort", reasoning_levels=("none", "minimal", "low", "medium", "high", "xhigh"))
LEVEL = Capabilities(reasoning_kind="level", reasoning_levels=("minimal", "low", "high"), reasoning_off=False)
BUDGET = Capabilities(reasoning_kind="budget", reasoning_budget=(1024, 32768))
NEVER_OFF = Capabilities(reasoning_kind="budget", reasoning_budget=(128, 32768), reasoning_off=False)
ADAPTIVE = Capabilities(reasoning_kind="adaptive", reasoning_levels=("low", "medium", "high", "max"))
NONE = Capabilities(reasoning_kind="none")


def control(**members: Any) -> ReasoningControl:
    return ReasoningControl(**members)


class LadderTests(SynchronousTestCase):
    """Efforts and budgets."""

    def test_round_trip(self) -> None:
        """An effort that became a budget becomes the same effort; more than the ladder has is its upper end."""
        for effort in LADDER[:-1]:
            self.assertEqual(effort_of(budget_of(effort)), effort)
        self.assertEqual(effort_of(budget_of("max")), "xhigh")

    def test_between(self) -> None:
        """A budget between two steps is the higher one's."""
        for budget, effort in ((1, "minimal"), (513, "low"), (1025, "medium"), (8193, "high"), (24577, "xhigh")):
            self.assertEqual(effort_of(budget), effort)
        self.assertEqual(effort_of(-5), "none")

    def test_clamped(self) -> None:
        """The nearest lower level, else the nearest higher one; no thinking stands for itself only."""
        for effort, levels, level in (
            ("medium", ("low", "medium"), "medium"),
            ("max", ("low", "high"), "high"),
            ("medium", ("low", "high"), "low"),
            ("minimal", ("low", "high"), "low"),
            ("minimal", ("none", "low"), "low"),
            ("none", ("none", "low"), "none"),
            ("none", ("low", "medium"), "low"),
            ("high", ("high", "own"), "high"),
            ("own", ("own",), "own"),
            ("high", (), None),
            ("high", ("none",), None),
        ):
            self.assertEqual(clamped(effort, levels), level, (effort, levels))

    @given(st.sampled_from(LADDER), st.lists(st.sampled_from(LADDER), unique=True))
    def test_clamped_is_a_level(self, effort: str, levels: list[str]) -> None:
        """Whatever is asked, the target gets one of its own levels."""
        level = clamped(effort, tuple(levels))
        self.assertTrue(level in levels if set(levels) - {"none"} or effort in levels else level is None)


class AskedTests(SynchronousTestCase):
    """What each kind of target is asked."""

    def check(
        self, told: ReasoningControl | None, target: Capabilities, wanted: Asked | None, most: int | None = None
    ) -> None:
        self.assertEqual(asked(told, target, most), wanted)

    def test_unset(self) -> None:
        """Who says nothing asks for nothing, of no kind of target."""
        for target in (EFFORT, LEVEL, BUDGET, ADAPTIVE, NONE):
            self.check(None, target, None)
            self.check(control(), target, None)

    def test_effort(self) -> None:
        """An effort is an effort, a level, tokens, or an effort beside thinking as the model likes."""
        for mode in (None, "on", "adaptive"):
            told = control(mode=mode, effort="high")
            self.check(told, EFFORT, Asked(effort="high"))
            self.check(told, LEVEL, Asked(effort="high"))
            self.check(told, BUDGET, Asked(budget=24576))
            self.check(told, ADAPTIVE, Asked(effort="high", adaptive=True))

    def test_effort_clamped(self) -> None:
        """A level that the target lacks is told of."""
        self.check(
            control(effort="max"), EFFORT, Asked(effort="xhigh", notes=("reasoning effort max (sent as xhigh)",))
        )
        note = "reasoning effort medium (sent as low)"
        self.check(control(effort="medium"), LEVEL, Asked(effort="low", notes=(note,)))
        note = "reasoning effort minimal (sent as low)"
        self.check(control(effort="minimal"), ADAPTIVE, Asked(effort="low", adaptive=True, notes=(note,)))

    def test_unknown_effort(self) -> None:
        """An effort that nobody knows is left out, unless it is a level of the target."""
        self.check(control(effort="ultra"), EFFORT, Asked(notes=("reasoning effort ultra",)))
        own = Capabilities(reasoning_kind="effort", reasoning_levels=("low", "ultra"))
        self.check(control(effort="ultra"), own, Asked(effort="ultra"))
        self.check(control(effort="ultra", budget=2000), BUDGET, Asked(budget=2000, notes=("reasoning effort ultra",)))

    def test_budget(self) -> None:
        """A budget is tokens within the target's range, or the effort that it is on the ladder."""
        told = control(mode="on", budget=4096)
        self.check(told, BUDGET, Asked(budget=4096))
        self.check(told, EFFORT, Asked(effort="medium", notes=("reasoning budget (sent as effort medium)",)))
        self.check(told, LEVEL, Asked(effort="low", notes=("reasoning budget (sent as effort low)",)))
        self.check(
            told, ADAPTIVE, Asked(effort="medium", adaptive=True, notes=("reasoning budget (sent as effort medium)",))
        )
        self.check(control(budget=100), BUDGET, Asked(budget=1024, notes=("reasoning budget (sent as 1024)",)))
        self.check(control(budget=99999), BUDGET, Asked(budget=32768, notes=("reasoning budget (sent as 32768)",)))
        self.check(control(effort="minimal"), BUDGET, Asked(budget=1024))

    def test_budget_below_the_limit(self) -> None:
        """A budget never reaches the answer's limit; where no room is left, there is no thinking."""
        note = ("reasoning budget (sent as 3999)",)
        self.check(control(budget=8000), BUDGET, Asked(budget=3999, notes=note), 4000)
        self.check(control(budget=4000), BUDGET, Asked(budget=3999, notes=note), 4000)
        self.check(control(budget=3999), BUDGET, Asked(budget=3999), 4000)
        self.check(control(effort="high"), BUDGET, Asked(budget=3999), 4000)
        full = ("reasoning (the answer's limit leaves no room for it)",)
        self.check(control(budget=2000), BUDGET, Asked(off=True, budget=0, notes=full), 1024)
        self.check(control(budget=2000), NEVER_OFF, Asked(notes=full), 100)

    def test_both(self) -> None:
        """Of an effort and a budget each kind of target takes its own."""
        told = control(mode="on", effort="low", budget=16000)
        self.check(told, EFFORT, Asked(effort="low"))
        self.check(told, LEVEL, Asked(effort="low"))
        self.check(told, BUDGET, Asked(budget=16000))
        self.check(told, ADAPTIVE, Asked(effort="low", adaptive=True))

    def test_off(self) -> None:
        """Off is said where it can be; else the least is asked for, with a note."""
        for told in (control(mode="off"), control(effort="none"), control(budget=0), control(mode="on", budget=0)):
            self.check(told, EFFORT, Asked(off=True, effort="none"))
            self.check(told, LEVEL, Asked(effort="minimal", notes=("reasoning off (sent as effort minimal)",)))
            self.check(told, BUDGET, Asked(off=True, budget=0))
            self.check(told, NEVER_OFF, Asked(budget=128, notes=("reasoning off (sent as a budget of 128)",)))
            self.check(told, ADAPTIVE, Asked(off=True))
            self.check(told, NONE, Asked())
        without = Capabilities(reasoning_kind="effort", reasoning_levels=("low", "high"))
        self.check(control(mode="off"), without, Asked(effort="low", notes=("reasoning off (sent as effort low)",)))
        bare = Capabilities(reasoning_kind="effort", reasoning_levels=())
        self.check(control(mode="off"), bare, Asked(notes=("reasoning off",)))
        always = Capabilities(reasoning_kind="adaptive", reasoning_levels=("low",), reasoning_off=False)
        self.check(control(mode="off"), always, Asked(notes=("reasoning off",)))

    def test_off_with_effort(self) -> None:
        """Where an effort is more than thinking it stays beside thinking that is off."""
        self.check(control(mode="off", effort="medium"), ADAPTIVE, Asked(off=True, effort="medium"))
        self.check(control(mode="off", effort="medium"), EFFORT, Asked(off=True, effort="none"))
        self.check(control(mode="off", effort="medium"), BUDGET, Asked(off=True, budget=0))

    def test_as_it_likes(self) -> None:
        """Thinking without a measure is the target's own default, or a guess where it must be told a number."""
        for mode in ("on", "adaptive"):
            self.check(control(mode=mode), EFFORT, Asked())
            self.check(control(mode=mode), LEVEL, Asked())
            self.check(control(mode=mode), BUDGET, Asked(budget=8192, adaptive=True))
            self.check(control(mode=mode), ADAPTIVE, Asked(adaptive=True))
        self.check(control(budget=-1), BUDGET, Asked(budget=8192, adaptive=True))
        self.check(control(mode="on", budget=-1), ADAPTIVE, Asked(adaptive=True))

    def test_none(self) -> None:
        """A model that does not reason is asked for nothing, with a note where somebody wanted it."""
        for told in (control(mode="on"), control(effort="low"), control(budget=2000), control(mode="adaptive")):
            self.check(told, NONE, Asked(notes=("reasoning",)))
        self.check(control(show="summarised"), NONE, Asked(show="summarised"))

    def test_show(self) -> None:
        """Whether it is shown passes beside everything, and alone."""
        for show in ("summarised", "omitted"):
            self.check(control(show=show), EFFORT, Asked(show=show))
            self.check(control(effort="low", show=show), ADAPTIVE, Asked(effort="low", adaptive=True, show=show))
            self.check(control(mode="off", show=show), BUDGET, Asked(off=True, budget=0, show=show))
