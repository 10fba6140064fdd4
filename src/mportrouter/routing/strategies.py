"""
The strategies: pure functions from a request's facts and the upstreams' state to an ordered plan.

``only`` asks one upstream. ``fallback`` asks them in the configured order, the well before the ill. ``interactive``
weighs the task: see :class:`Interactive`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from zope.interface import Attribute, Interface, implementer

from ..settings import Capabilities, ModeSettings
from .complexity import Score
from .plans import Attempt, Facts, Plan, UpstreamView

#: Score from which the strong upstream must answer, by ``quality_floor``.
STRONG_FROM = {"low": 9, "medium": 7, "high": 4}

_RANKS = ("healthy", "degraded", "resting", "down")
_DOWN = 3
_PICODOLLARS = 10**12


class IStrategy(Interface):
    """How a mode orders its upstreams."""

    name = Attribute("its name in the configuration")

    def plan(mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        """
        :param views: the upstreams that may be used, in the mode's order; at least one.
        :returns: a plan with at least one attempt; the same arguments give an equal plan.
        """


def lacking(view: UpstreamView, facts: Facts) -> dict[str, str]:
    """What the request needs and this upstream does not do: column to ``ignored`` or ``refused``."""
    found = {}
    capabilities: Capabilities = view.capabilities
    for need in facts.needs:
        value = getattr(capabilities, need, "honoured")
        if value in ("ignored", "refused"):
            found[need] = value
        elif value is False and need == "count_tokens":
            found[need] = "refused"
    if view.context is not None and facts.estimated_tokens > view.context:
        found["context"] = "refused"
    return dict(sorted(found.items()))


def _words(view: UpstreamView, lacks: dict[str, str]) -> str:
    parts = []
    for how in ("ignored", "refused"):
        needs = [need for need, value in lacks.items() if value == how]
        if needs:
            parts.append(f"{', '.join(needs)} {how} by {view.id}")
    return "; ".join(parts)


def _capable(views: Sequence[UpstreamView], facts: Facts) -> tuple[list[UpstreamView], list[UpstreamView], list[str]]:
    """
    The upstreams that do what the request needs, those that may stand in behind them, and notes on the rest.

    One that would ignore or refuse a needed member is left out where another can serve. Where every capable one is
    down, one that merely ignores it stays as the last resort: the decision says so. Where none is capable, all stay.
    """
    if not facts.needs and not facts.estimated_tokens:
        return list(views), [], []
    lacks = [lacking(view, facts) for view in views]
    notes = [_words(view, lack) for view, lack in zip(views, lacks, strict=True) if lack]
    able = [view for view, lack in zip(views, lacks, strict=True) if not lack]
    if not able:
        return list(views), [], notes
    if all(view.rank >= _DOWN for view in able):
        return (
            able,
            [view for view, lack in zip(views, lacks, strict=True) if lack and "refused" not in lack.values()],
            notes,
        )
    return able, [], notes


def _by_health(views: Sequence[UpstreamView]) -> tuple[list[UpstreamView], list[str]]:
    """Healthy before degraded before resting before down, else the order given; and notes on who had to step back."""
    ordered = sorted(views, key=lambda view: view.rank)
    notes = [
        f"{view.id} {view.reason or _RANKS[min(view.rank, _DOWN)]}"
        for place, view in enumerate(views)
        if view.rank and any(other.rank < view.rank for other in views[place + 1 :])
    ]
    return ordered, notes


def _attempts(views: Sequence[UpstreamView], first: str) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(view.id, view.model, first if place == 0 else f"after {views[place - 1].id}")
        for place, view in enumerate(views)
    )


@implementer(IStrategy)
class Only:
    """One upstream, whatever its state; its own error is the answer."""

    name = "only"

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        view = views[0]
        _, _, notes = _capable((view,), facts)
        return Plan((Attempt(view.id, view.model, "only"),), "; ".join([f"{view.id} only", *notes]), None, tuple(notes))


@implementer(IStrategy)
class Fallback:
    """In the configured order, the well before the ill, the capable before the others."""

    name = "fallback"

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        able, behind, notes = _capable(views, facts)
        ordered, unwell = _by_health(able)
        last_resort, _ = _by_health(behind)
        ordered += last_resort
        notes = notes + unwell
        only = "first" if len(ordered) > 1 else "only"
        decision = "; ".join([*notes, f"{ordered[0].id} {only}"]) if notes else f"{ordered[0].id} {only}"
        return Plan(_attempts(ordered, "; ".join(notes) or "first in order"), decision, None, tuple(notes))


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

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        score = facts.score or Score(5, ("not analysed",))
        head = f"complexity {score.value}" + (f" ({score.reasons[0]})" if score.reasons else "")
        able, behind, notes = _capable(views, facts)
        # Fewer than configured: disabled, over budget or unfit ones are gone, and no choice is left to the score.
        if len(able) < 2 or len(mode.upstreams) < 2 or [view.id for view in able[:2]] != list(mode.upstreams[:2]):
            ordered, unwell = _by_health(able)
            ordered += _by_health(behind)[0]
            notes = notes + unwell
        else:
            chosen, why = self._choose(mode, facts, score, able)
            ordered, unwell = _by_health(chosen)
            notes = [*notes, *why, *unwell]
        place = "first" if len(ordered) > 1 else "only"
        decision = "; ".join([head, *notes]) + f": {ordered[0].id} {place}"
        return Plan(_attempts(ordered, "; ".join([head, *notes])), decision, None, tuple(notes))

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
            if strong.rank >= _DOWN and settings.quality_floor != "high":
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


STRATEGIES: dict[str, IStrategy] = {strategy.name: strategy for strategy in (Only(), Fallback(), Interactive())}
