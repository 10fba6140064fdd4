"""Who can serve a request and how well: what the strategies have in common, and the words in which they tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import Attribute, Interface

from ..settings import Capabilities, ModeSettings
from .plans import Attempt, Facts, Plan, UpstreamView

RANKS = ("healthy", "degraded", "resting", "down")
DOWN = 3

#: Notes that a decision tells; the plan itself has them all.
_TOLD = 3


class IStrategy(Interface):
    """How a mode orders its upstreams."""

    name = Attribute("its name in the configuration")

    def candidates(mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        """
        The upstreams that the request concerns at all, whatever their state.

        :param views: all of the mode's, in its order.
        :raises RouterError: the request asks for what none of them is configured to have.
        """

    def plan(mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        """
        :param views: the candidates that may be used, in the mode's order; at least one.
        :returns: a plan with at least one attempt, or with a refusal; the same arguments give an equal plan.
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
    if not view.offers:
        found["model"] = "refused"
    return dict(sorted(found.items()))


def shortcomings(view: UpstreamView, lacks: Mapping[str, str]) -> str:
    """What :func:`lacking` found, in words: ``images refused by groq-1``."""
    parts = []
    for how in ("ignored", "refused"):
        needs = [need for need, value in lacks.items() if value == how]
        if needs:
            parts.append(f"{', '.join(needs)} {how} by {view.id}")
    return "; ".join(parts)


def capable(views: Sequence[UpstreamView], facts: Facts) -> tuple[list[UpstreamView], list[UpstreamView], list[str]]:
    """
    The upstreams that do what the request needs, those that may stand in behind them, and notes on the rest.

    One that would ignore or refuse a needed member is left out where another can serve. Where every capable one is
    down, one that merely ignores it stays as the last resort: the decision says so. Where none is capable, all stay.
    """
    if not facts.needs and not facts.estimated_tokens and all(view.offers for view in views):
        return list(views), [], []
    lacks = [lacking(view, facts) for view in views]
    notes = [shortcomings(view, lack) for view, lack in zip(views, lacks, strict=True) if lack]
    able = [view for view, lack in zip(views, lacks, strict=True) if not lack]
    if not able:
        return list(views), [], notes
    if all(view.rank >= DOWN for view in able):
        return (
            able,
            [view for view, lack in zip(views, lacks, strict=True) if lack and "refused" not in lack.values()],
            notes,
        )
    return able, [], notes


def state(view: UpstreamView) -> str:
    """How an upstream is: ``resting``."""
    return view.reason or RANKS[min(view.rank, DOWN)]


def by_health(views: Sequence[UpstreamView]) -> tuple[list[UpstreamView], list[str]]:
    """Healthy before degraded before resting before down, else the order given; and notes on who had to step back."""
    ordered = sorted(views, key=lambda view: view.rank)
    notes = [
        f"{view.id} {state(view)}"
        for place, view in enumerate(views)
        if view.rank and any(other.rank < view.rank for other in views[place + 1 :])
    ]
    return ordered, notes


def attempts(views: Sequence[UpstreamView], first: str) -> tuple[Attempt, ...]:
    """
    :param first: why the first one is the first.
    """
    made = []
    before = ""
    for view in views:
        reason = f"after {before}" if before else first
        words = f"{view.id} {state(view)}"
        if view.rank and words not in reason:
            reason = f"{reason}; {words}"
        made.append(Attempt(view.id, view.model, reason))
        before = view.id
    return tuple(made)


def decided(notes: Sequence[str], ordered: Sequence[UpstreamView]) -> str:
    """The decision in short: some notes, and who is asked first."""
    told = list(notes[:_TOLD])
    if len(notes) > _TOLD:
        told.append(f"{len(notes) - _TOLD} more notes")
    return "; ".join([*told, f"{ordered[0].id} {'first' if len(ordered) > 1 else 'only'}"])


def left_out(
    views: Sequence[UpstreamView], ordered: Sequence[UpstreamView], notes: Sequence[str], why: str
) -> list[str]:
    """Notes on those who are not in the plan and of whom no note tells why."""
    kept = {view.id for view in ordered}
    told = " ".join(notes).replace(";", " ").replace(",", " ").split()
    return [f"{view.id} left out: {why}" for view in views if view.id not in kept and view.id not in told]
