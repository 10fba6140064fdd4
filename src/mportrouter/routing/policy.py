"""From a mode to a plan: what holds for every strategy (disabled upstreams, the cost ceiling), then its strategy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import attrs

from ..errors import Kind, RouterError
from ..money import dollars
from ..settings import ModeSettings
from . import tags
from .accounts import shown
from .plans import Attempt, Facts, Plan, UpstreamView
from .strategies import STRATEGIES

__all__ = ["Attempt", "Facts", "Plan", "UpstreamView", "plan"]

#: The provider whose requests the cost ceiling stops.
_CAPPED = "anthropic"
#: Seconds after which a client may ask again once the ceiling is reached: spending of an hour ago drops out bit by bit.
_CEILING_WAIT = 60.0
#: Strategies that a tag leaves in force, among the accounts that it names; of others there is but the order.
_SHARED = frozenset({"fallback", "exhaust", "round-robin"})


def plan(
    mode: ModeSettings,
    facts: Facts,
    views: Sequence[UpstreamView],
    over_budget: bool = False,
    ceiling: Decimal | None = None,
) -> Plan:
    """
    The plan of one request. Pure: equal arguments give an equal plan.

    :param views: the mode's upstreams in its order.
    :param over_budget: the spending of the last hour has reached the ceiling.
    :param ceiling: the ceiling in US dollars an hour, for the refusal's words.
    :raises KeyError: the mode names a strategy that does not exist; a validated configuration has none.
    """
    strategy = STRATEGIES[mode.strategy]
    tagged: list[str] = []
    everybody = views
    try:
        if facts.tag is not None:
            tagged = [f"tag {tags.told(facts.tag)}"]
            views = tags.named(facts.tag, everybody)
            facts = attrs.evolve(facts, model=facts.tag[1])
            strategy = strategy if strategy.name in _SHARED else STRATEGIES["fallback"]
        candidates = strategy.candidates(mode, facts, views)
    except RouterError as error:
        return Plan((), "; ".join(tagged) or error.kind.value, error, tuple(tagged))
    concerned = {view.id for view in candidates}
    others = [f"{view.id} left out: {_elsewhere(mode, facts, view)}" for view in everybody if view.id not in concerned]
    usable = [view for view in candidates if view.enabled]
    disabled = [f"{view.id} {view.reason or 'disabled'}" for view in candidates if not view.enabled]
    if not usable:
        names = ", ".join(disabled) or "none"
        return _refused(
            Kind.UNAVAILABLE,
            f"No upstream of mode {mode.name} that could answer can be used ({names}). "
            "Mend that, or choose another mode.",
            None,
            [*tagged, *disabled],
            others,
        )
    capped: list[str] = []
    if over_budget:
        allowed = [view for view in usable if view.provider != _CAPPED]
        capped = [f"cost ceiling reached: without {view.id}" for view in usable if view.provider == _CAPPED]
        if not allowed:
            amount = f" of {dollars(float(ceiling))} an hour" if ceiling is not None else " an hour"
            return _refused(
                Kind.BUDGET,
                f"The cost ceiling{amount} is reached, and mode {mode.name} has no upstream that it does not stop. "
                "Wait until the spending of the last hour has dropped, raise cost_ceiling, or choose another mode.",
                _CEILING_WAIT,
                [*tagged, *disabled, *capped],
                others,
            )
        usable = allowed
    made = strategy.plan(mode, facts, usable)
    notes = [*tagged, *disabled, *capped]
    if not notes and not others:
        return made
    return attrs.evolve(made, decision="; ".join([*notes, made.decision]), notes=(*notes, *made.notes, *others))


def _elsewhere(mode: ModeSettings, facts: Facts, view: UpstreamView) -> str:
    """Why an upstream of the mode is no candidate."""
    if facts.tag is not None:
        return "not what the tag names"
    if mode.strategy == "only":
        return "the mode asks its first upstream alone"
    return "another row matches" if mode.strategy == "table" else f"it does not have {shown(facts.model)}"


def _refused(kind: Kind, message: str, retry_after: float | None, notes: list[str], others: list[str]) -> Plan:
    return Plan((), "; ".join(notes) or kind.value, RouterError(kind, message, retry_after), (*notes, *others))
