"""
The strategies: pure functions from a request's facts and the upstreams' state to an ordered plan.

``only`` asks one upstream. ``fallback`` asks them in the configured order, the well before the ill. ``interactive``
weighs the task: see :class:`Interactive`. ``exhaust`` and ``round-robin`` share out accounts, ``table`` goes by the
model's name.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from zope.interface import implementer

from ..settings import ModeSettings
from .accounts import Exhaust, RoundRobin
from .complexity import Score
from .fitness import DOWN, IStrategy, attempts, by_health, capable, lacking, left_out, state
from .plans import Attempt, Facts, Plan, UpstreamView
from .tables import Table

__all__ = ["STRATEGIES", "STRONG_FROM", "IStrategy", "lacking"]

#: Score from which the strong upstream must answer, by ``quality_floor``.
STRONG_FROM = {"low": 9, "medium": 7, "high": 4}

_PICODOLLARS = 10**12


@implementer(IStrategy)
class Only:
    """One upstream, whatever its state; its own error is the answer."""

    name = "only"

    def candidates(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        return views[:1]

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        view = views[0]
        _, _, notes = capable((view,), facts)
        reason = f"only; {view.id} {state(view)}" if view.rank else "only"
        return Plan((Attempt(view.id, view.model, reason),), "; ".join([f"{view.id} only", *notes]), None, tuple(notes))


@implementer(IStrategy)
class Fallback:
    """In the configured order, the well before the ill, the capable before the others."""

    name = "fallback"

    def candidates(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        return views

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        able, behind, notes = capable(views, facts)
        ordered, unwell = by_health(able)
        last_resort, _ = by_health(behind)
        ordered += last_resort
        notes = notes + unwell
        only = "first" if len(ordered) > 1 else "only"
        decision = "; ".join([*notes, f"{ordered[0].id} {only}"]) if notes else f"{ordered[0].id} {only}"
        return Plan(attempts(ordered, "; ".join(notes) or "first in order"), decision, None, tuple(notes))


@implementer(IStrategy)
class Interactive:
    """
    By the task's complexity. The mode's first upstream is the cheap one, the second the strong one.

    ========  ==============================================================================================
    score     order
    ========  ==============================================================================================
    1 to 3    cheap, then strong
    4 to 6    shared: ``prefer_minimax`` of them cheap, then strong, the rest the other way round; which side a
              request falls on is a hash of its share key, moved by the difference of the two loads
    7 to 10   strong, then cheap
    ========  ==============================================================================================

    What stands above this table, the first that applies:

    1. an upstream that cannot do what the request needs is left out (as in :class:`Fallback`);
    2. from the score that ``quality_floor`` names (low 9, medium 7, high 4) the strong one answers alone; where it is
       down, ``low`` and ``medium`` let the cheap one step in, ``high`` does not;
    3. a request that is expected to cost more than ``cost_threshold`` at the strong one goes to the cheap one alone.
    """

    name = "interactive"

    def candidates(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        return views

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        score = facts.score or Score(5, ("not analysed",))
        head = f"complexity {score.value}" + (f" ({score.reasons[0]})" if score.reasons else "")
        able, behind, notes = capable(views, facts)
        # Fewer than configured: disabled, over budget or unfit ones are gone, and no choice is left to the score.
        if len(able) < 2 or len(mode.upstreams) < 2 or [view.id for view in able[:2]] != list(mode.upstreams[:2]):
            ordered, unwell = by_health(able)
            ordered += by_health(behind)[0]
            notes = notes + unwell
        else:
            chosen, why = self._choose(mode, facts, score, able)
            ordered, unwell = by_health(chosen)
            notes = [*notes, *why, *unwell]
        place = "first" if len(ordered) > 1 else "only"
        decision = "; ".join([head, *notes]) + f": {ordered[0].id} {place}"
        out = left_out(views, ordered, notes, "the task's complexity")
        return Plan(attempts(ordered, "; ".join([head, *notes])), decision, None, (*notes, *out))

    def _choose(
        self, mode: ModeSettings, facts: Facts, score: Score, able: Sequence[UpstreamView]
    ) -> tuple[list[UpstreamView], list[str]]:
        """The order before anybody's health is looked at, and the notes that explain it."""
        settings = mode.interactive
        cheap, strong, *others = able
        threshold = settings.cost_threshold
        dear = threshold is not None and strong.cost is not None and strong.cost > threshold * _PICODOLLARS
        if score.value >= STRONG_FROM[settings.quality_floor]:
            notes = [f"quality_floor {settings.quality_floor}"]
            if dear:
                notes.append("above cost_threshold")
            if strong.rank >= DOWN and settings.quality_floor != "high":
                return [strong, cheap, *others], notes
            return [strong], notes
        if dear:
            return [cheap], [f"{strong.id} above cost_threshold"]
        if score.value <= 3 or (score.value <= 6 and self._cheap_side(settings.prefer_minimax, facts, cheap, strong)):
            return [cheap, strong, *others], []
        return [strong, cheap, *others], []

    @staticmethod
    def _cheap_side(preference: float, facts: Facts, cheap: UpstreamView, strong: UpstreamView) -> bool:
        """Whether a middling request tries the cheap upstream first."""
        if 0.0 < preference < 1.0:
            # Full against idle moves the share by a half; 0 and 1 mean none and all, whatever the load.
            preference += (strong.load - cheap.load) / 2
        return zlib.crc32(facts.share_key.encode("utf-8", "replace")) / 2**32 < preference


STRATEGIES: dict[str, IStrategy] = {
    strategy.name: strategy for strategy in (Only(), Fallback(), Interactive(), Exhaust(), RoundRobin(), Table())
}
