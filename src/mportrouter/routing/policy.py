"""From a mode to a plan: what holds for every strategy (disabled upstreams, the cost ceiling), then its strategy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import attrs

from ..errors import Kind, RouterError
from ..money import dollars
from ..settings import ModeSettings
from .plans import Attempt, Facts, Plan, UpstreamView
from .strategies import STRATEGIES

__all__ = ["Attempt", "Facts", "Plan", "UpstreamView", "plan"]

#: The provider whose requests the cost ceiling stops.
_CAPPED = "anthropic"
#: Seconds after which a client may ask again once the ceiling is reached: spending of an hour ago drops out bit by bit.
_CEILING_WAIT = 60.0


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
    usable = [view for view in views if view.enabled]
    disabled = [f"{view.id} disabled" for view in views if not view.enabled]
    # A mode of one upstream means that one: its strategy would take the next for the first.
    if not usable or (mode.strategy == "only" and not views[0].enabled):
        names = ", ".join(view.id for view in views) or "none"
        return _refused(
            Kind.UNAVAILABLE,
            f"Every upstream of mode {mode.name} is disabled ({names}). Enable one, or choose another mode.",
            None,
            disabled,
        )
    capped: list[str] = []
    if over_budget:
        allowed = [view for view in usable if view.provider != _CAPPED]
        capped = [f"cost ceiling reached: without {view.id}" for view in usable if view.provider == _CAPPED]
        if not allowed or (mode.strategy == "only" and allowed[0] is not usable[0]):
            amount = f" of {dollars(float(ceiling))} an hour" if ceiling is not None else " an hour"
            return _refused(
                Kind.BUDGET,
                f"The cost ceiling{amount} is reached, and mode {mode.name} has no upstream that it does not stop. "
                "Wait until the spending of the last hour has dropped, raise cost_ceiling, or choose another mode.",
                _CEILING_WAIT,
                capped,
            )
        usable = allowed
    made = STRATEGIES[mode.strategy].plan(mode, facts, usable)
    notes = disabled + capped
    if not notes:
        return made
    return attrs.evolve(made, decision="; ".join([*notes, made.decision]), notes=(*notes, *made.notes))


def _refused(kind: Kind, message: str, retry_after: float | None, notes: list[str]) -> Plan:
    return Plan((), "; ".join(notes) or kind.value, RouterError(kind, message, retry_after), tuple(notes))
