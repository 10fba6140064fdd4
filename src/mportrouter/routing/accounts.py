"""
Strategies for several accounts that have the same models: one until it is exhausted (``exhaust``), or each in turn
(``round-robin``).

An account that must be left alone for a while is in no plan; where that holds for all of them, the refusal tells when
the first is back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from zope.interface import implementer

from ..errors import Kind, RouterError
from ..settings import ModeSettings
from .fitness import DOWN, IStrategy, attempts, decided, lacking, shortcomings, state
from .plans import Facts, Plan, UpstreamView

#: Names of models that a refusal lists.
_LISTED = 40


def asked_for(
    mode: ModeSettings,
    model: str,
    tag: tuple[str, str] | None,
    offered: Sequence[str],
    model_for: Callable[[str], str],
    loop: str = "",
) -> tuple[str, bool]:
    """
    What an upstream would be asked for: the values of ``model`` and ``offers`` in its :class:`UpstreamView`.

    :param model: that the client names.
    :param tag: what a sub-agent's tag names, or ``None``; its model takes the place of the client's.
    :param offered: the only models that the upstream offers; empty: any.
    :param model_for: a name of a client's to one of the upstream's.
    :param loop: the model that a loop of tools is with, which must not change half-way; ``""``: any.
    """
    asked = model if tag is None else tag[1]
    if mode.auto_model and asked == mode.auto_model:
        if offered:
            return (loop, loop in offered) if loop else (model_for(offered[0]), True)
        # A name of ours means nothing to a provider unless the upstream's own patterns translate it.
        target = model_for(asked)
        return target, target == loop if loop else target != asked
    return model_for(asked), not offered or asked in offered


def listed(names: Sequence[str]) -> str:
    """Names for a message: each once, sorted, some of many."""
    known = sorted(set(names))
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return (", ".join(known[:_LISTED]) or "none") + more


def shown(name: str) -> str:
    """A name that a client made up, for a message."""
    return repr(name if len(name) <= 100 else name[:99] + "…")


class _Accounts:
    """What both have in common: who can serve, who may be asked now, who has the conversation."""

    name = ""

    def candidates(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        having = [view for view in views if view.offers]
        if not having:
            known = [name for view in views for name in view.models]
            if mode.auto_model:
                known.append(mode.auto_model)
            raise RouterError(
                Kind.NOT_FOUND,
                f"No account of mode {mode.name} has the model {shown(facts.model)}. Known models: {listed(known)}.",
            )
        return having

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        lacks = {view.id: lacking(view, facts) for view in views}
        notes = [shortcomings(view, lacks[view.id]) for view in views if lacks[view.id]]
        able = [view for view in views if not lacks[view.id]]
        ignoring = [view for view in views if lacks[view.id] and "refused" not in lacks[view.id].values()]
        if not able and not ignoring:
            # The size of a prompt is a guess, and no reason to refuse what a provider may take.
            able = [view for view in views if _refused(lacks[view.id]) == ["context"]]
            if not able:
                error = RouterError(Kind.BAD_REQUEST, f"No account can serve the request: {'; '.join(notes)}.")
                return Plan((), "; ".join(notes[:3]), error, tuple(notes))
        waiting = [f"{view.id} {state(view)}, back in {view.retry_in:.0f} s" for view in views if view.retry_in > 0]
        ready = [view for view in able if view.retry_in <= 0]
        behind = []
        if all(view.rank >= DOWN for view in ready):
            behind = [view for view in ignoring if view.retry_in <= 0]
        if not ready and not behind:
            return self._exhausted(facts, [*able, *ignoring], notes, waiting)
        ordered, why = self._order(mode, facts, ready) if ready else ([], "last resort")
        ordered, moved = self._stay(mode, facts, ordered)
        if moved:
            why = moved
        elif mode.affinity and facts.stay and any(view.id == facts.stay for view in views):
            waiting.append(f"the conversation leaves {facts.stay}")
        ordered += sorted(behind, key=_rank)
        skipped = [note for note in [*notes, *waiting] if note]
        unwell = [f"{view.id} {state(view)}" for view in ordered[1:] if view.rank]
        return Plan(
            attempts(ordered, why),
            decided([*skipped, why] if moved else skipped, ordered),
            None,
            (*skipped, *unwell),
        )

    def _exhausted(self, facts: Facts, fit: Sequence[UpstreamView], notes: list[str], waiting: list[str]) -> Plan:
        soonest = min(view.retry_in for view in fit)
        decision = f"all of {len(fit)} exhausted"
        message = f"all providers for model exhausted: {shown(facts.model)} is back in {max(soonest, 1.0):.0f} s"
        return Plan((), decision, RouterError(Kind.RATE, message, soonest), (*notes, *waiting))

    def _order(self, mode: ModeSettings, facts: Facts, ready: Sequence[UpstreamView]) -> tuple[list[UpstreamView], str]:
        ordered = sorted(ready, key=_rank)
        first = [view.id for view in ordered[:1]] == list(mode.upstreams[:1])
        return ordered, "first in order" if first else "next in order"

    def _stay(self, mode: ModeSettings, facts: Facts, ordered: list[UpstreamView]) -> tuple[list[UpstreamView], str]:
        """The account that has the conversation comes first while it is well."""
        if mode.affinity and facts.stay:
            for view in ordered:
                if view.id == facts.stay and view.rank == 0:
                    rest = [other for other in ordered if other is not view]
                    return [view, *rest], f"the conversation stays with {view.id}"
        return ordered, ""


def _rank(view: UpstreamView) -> int:
    return view.rank


def _refused(lacks: dict[str, str]) -> list[str]:
    return [need for need, how in lacks.items() if how == "refused"]


@implementer(IStrategy)
class RoundRobin(_Accounts):
    """
    Each healthy account in turn; the others behind them.

    Over as many turns as accounts are healthy each of them is the first once.
    """

    name = "round-robin"

    def _order(self, mode: ModeSettings, facts: Facts, ready: Sequence[UpstreamView]) -> tuple[list[UpstreamView], str]:
        ordered: list[UpstreamView] = []
        why = ""
        for rank in sorted({view.rank for view in ready}):
            alike = [view for view in ready if view.rank == rank]
            first = facts.turn % len(alike)
            ordered += alike[first:] + alike[:first]
            why = why or f"turn {first + 1} of {len(alike)}"
        return ordered, why


@implementer(IStrategy)
class Exhaust(_Accounts):
    """
    The first account in the configured order until it must be left alone, then the next; the first again when its time
    is up. The mode's ``auto_model`` stands for each in turn over all accounts, whatever models they have.
    """

    name = "exhaust"

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        if mode.auto_model and facts.model == mode.auto_model:
            made = _IN_TURN.plan(mode, facts, views)
            return attrs.evolve(made, decision=f"{mode.auto_model}: {made.decision}")
        return super().plan(mode, facts, views)


_IN_TURN = RoundRobin()
