"""
How much a model shall think, as four dialects ask for it: efforts, budgets of tokens, levels, or as it likes.

The two halves of the ladder agree, so that an effort that became a budget becomes the same effort again.
"""

from __future__ import annotations

import attrs

from .conversation import ReasoningControl
from .settings import Capabilities

_LADDER: tuple[tuple[str, int], ...] = (
    ("none", 0),
    ("minimal", 512),
    ("low", 1024),
    ("medium", 8192),
    ("high", 24576),
    ("xhigh", 32768),
    ("max", 128000),
)
_BUDGETS = dict(_LADDER)
_ORDER = {effort: place for place, (effort, _) in enumerate(_LADDER)}
#: Where a model must be told a number and nobody gave one.
_DEFAULT = "medium"


@attrs.frozen
class Asked:
    """
    What a target is asked for; ``None`` everywhere: nothing is said.

    :param off: reasoning is turned off.
    :param effort: one of the target's ``reasoning_levels`` (targets of the kinds ``effort``, ``level``, ``adaptive``;
        ``none`` beside ``off`` where it is a level there).
    :param budget: tokens (targets of the kind ``budget``; 0 beside ``off``).
    :param adaptive: the model decides by itself (kind ``adaptive``; beside a ``budget``: the client gave no number,
        the one here is a guess for targets that need one).
    :param show: ``summarised``, ``omitted``, or ``None``.
    :param notes: what could not be said as it was asked.
    """

    off: bool = False
    effort: str | None = None
    budget: int | None = None
    adaptive: bool = False
    show: str | None = None
    notes: tuple[str, ...] = ()


def budget_of(effort: str) -> int:
    """Tokens for an effort; that of ``medium`` for one that nobody knows."""
    return _BUDGETS.get(effort, _BUDGETS[_DEFAULT])


def effort_of(budget: int) -> str:
    """The effort for a budget in tokens."""
    for effort, most in _LADDER[:5]:
        if budget <= most:
            return effort
    return "xhigh"


def asked(control: ReasoningControl | None, capabilities: Capabilities, max_output: int | None) -> Asked | None:
    """
    :param max_output: tokens of the whole answer as they will be asked for, or ``None``: a budget stays below them.
    :returns: ``None`` where the client asked for nothing.
    """
    if control is None:
        return None
    mode, effort, budget = control.mode, control.effort, control.budget
    if budget is not None and budget < 0:  # Gemini's -1
        mode, budget = mode or "adaptive", None
    notes: list[str] = []
    if effort is not None and effort not in _ORDER and effort not in capabilities.reasoning_levels:
        notes.append(f"reasoning effort {effort[:64]}")
        effort = None
    if mode is None and effort is None and budget is None:
        if control.show is None and not notes:
            return None
        return Asked(show=control.show, notes=tuple(notes))
    kind = capabilities.reasoning_kind
    off = mode == "off" or effort == "none" or (effort is None and budget == 0)
    if kind == "none":
        return Asked(notes=() if off else ("reasoning",))
    if off:
        found = _off(mode, effort, capabilities, notes)
    elif kind == "budget":
        found = _budget(mode, effort, budget, capabilities, max_output, notes)
    else:
        if effort is None and budget is not None:
            effort = effort_of(budget)
            notes.append(f"reasoning budget (sent as effort {clamped(effort, capabilities.reasoning_levels)})")
        level = None if effort is None else clamped(effort, capabilities.reasoning_levels)
        if effort is not None and level != effort and budget is None:
            notes.append(f"reasoning effort {effort}" + (f" (sent as {level})" if level else ""))
        found = Asked(effort=level, adaptive=kind == "adaptive")
    return attrs.evolve(found, show=control.show, notes=tuple(notes))


def clamped(effort: str, levels: tuple[str, ...]) -> str | None:
    """
    The level of a target for an effort: itself, else the nearest lower, else the nearest higher one.

    ``none`` stands for itself only: less thinking is an approximation, no thinking is something else.

    :returns: ``None`` where the target has none.
    """
    if effort in levels:
        return effort
    place = _ORDER.get(effort, _ORDER[_DEFAULT])
    known = sorted((_ORDER[level], level) for level in levels if level in _ORDER and level != "none")
    lower = [level for at, level in known if at < place]
    if lower:
        return lower[-1]
    return known[0][1] if known else None


def _off(mode: str | None, effort: str | None, capabilities: Capabilities, notes: list[str]) -> Asked:
    kind, levels = capabilities.reasoning_kind, capabilities.reasoning_levels
    if kind == "budget":
        if capabilities.reasoning_off:
            return Asked(off=True, budget=0)
        least = min(capabilities.reasoning_budget, default=_BUDGETS["low"])
        notes.append(f"reasoning off (sent as a budget of {least})")
        return Asked(budget=least)
    if kind == "adaptive":
        # There an effort is more than a measure of thinking: it stays beside thinking that is off.
        level = None if effort is None or effort == "none" else clamped(effort, levels)
        if capabilities.reasoning_off:
            return Asked(off=True, effort=level)
        notes.append("reasoning off")
        return Asked(effort=level)
    if "none" in levels and capabilities.reasoning_off:
        return Asked(off=True, effort="none")
    least_level = clamped("none", levels)
    notes.append("reasoning off" + (f" (sent as effort {least_level})" if least_level else ""))
    return Asked(effort=least_level)


def _budget(
    mode: str | None,
    effort: str | None,
    budget: int | None,
    capabilities: Capabilities,
    max_output: int | None,
    notes: list[str],
) -> Asked:
    guessed = budget is None and effort is None
    wanted = budget if budget is not None else budget_of(effort or _DEFAULT)
    limits = capabilities.reasoning_budget
    least, most = min(limits, default=0), max(limits, default=wanted)
    sent = min(max(wanted, least), most)
    if max_output is not None and sent >= max_output:
        sent = max_output - 1
        if sent < least:
            notes.append("reasoning (the answer's limit leaves no room for it)")
            return Asked(off=capabilities.reasoning_off, budget=0 if capabilities.reasoning_off else None)
    if budget is not None and sent != budget:
        notes.append(f"reasoning budget (sent as {sent})")
    return Asked(budget=sent, adaptive=guessed)
