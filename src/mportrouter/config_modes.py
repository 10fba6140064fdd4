"""
The section ``modes``: strategies, their upstreams, and the rows of tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .config_columns import path
from .config_places import Value, Wrong
from .config_reading import Row, Sections
from .config_schema import TIMEOUTS
from .config_words import (
    Reader,
    boolean,
    count,
    duration,
    list_of,
    money,
    named,
    one_of,
    or_off,
    plain,
    positive_duration,
    scalar,
    share,
    status,
    text_of,
    whole,
)
from .settings import Interactive, ModeSettings, TableRow, UpstreamSettings

STRATEGIES = ("only", "fallback", "interactive", "table", "exhaust", "round-robin")
ACCOUNTS = ("exhaust", "round-robin")
"""Strategies whose upstreams are accounts that stand for each other."""

_INTERACTIVE: dict[str, Reader] = {
    "prefer_minimax": scalar(share),
    "cost_threshold": or_off(money),
    "quality_floor": scalar(one_of("low", "medium", "high")),
    "analyzer": scalar(one_of("local", "claude")),
    "analyzer_upstream": scalar(plain),
    "analyzer_model": scalar(plain),
    "analyzer_deadline": scalar(positive_duration),
}

_OWNERS = {
    **dict.fromkeys(_INTERACTIVE, ("interactive",)),
    "table": ("table",),
    "auto_model": ACCOUNTS,
    "retry_after": ACCOUNTS,
    "affinity": ACCOUNTS,
}
"""Keys that only some strategies have."""


def _minutes(text: str) -> float:
    return 60.0 * float(count(text))


def _seconds(text: str) -> float:
    return float(count(text))


def _statuses(value: Value) -> tuple[int, ...] | None:
    """``None``: as the failure means."""
    if value.content is None:
        return None
    statuses: tuple[int, ...] = list_of(status)(value)
    return tuple(dict.fromkeys(statuses))


def _name_or_none(value: Value) -> str:
    return plain(text_of(value)) if value.content else ""


_MODE: dict[str, Reader] = {
    "strategy": scalar(named(STRATEGIES, "strategy")),
    "upstreams": list_of(plain),
    "retries": scalar(whole),
    "retry_timeouts": scalar(boolean),
    "retry_delay": scalar(duration),
    "tags": scalar(boolean),
    "move_on": _statuses,
    "cooldown": or_off(positive_duration),
    "retry_after": scalar(positive_duration),
    "auto_model": _name_or_none,
    "affinity": scalar(boolean),
}

_OTHER_NAMES: dict[str, tuple[str, Reader]] = {
    "cooldown_minutes": ("cooldown", scalar(_minutes)),
    "retry_after_seconds": ("retry_after", scalar(_seconds)),
}
"""Keys that say another key's setting in a unit of their own."""

_ROW: dict[str, Reader] = {
    "match": scalar(plain),
    "default": scalar(plain),
    "upstream": scalar(plain),
    "model": scalar(plain),
    "path": scalar(path),
    "name": scalar(plain),
}


def read_mode(reading: Sections, name: str, value: Value, base: ModeSettings | None) -> ModeSettings | None:
    """
    A mode; a strategy's bare name is enough for a built-in one.

    :param base: the built-in mode of that name, or ``None``.
    :returns: ``None`` where a mistake leaves nothing to go on with.
    """
    if isinstance(value.content, str) and base is not None:
        value = attrs.evolve(value, content={"strategy": attrs.evolve(value, path=f"{value.path}.strategy")})
    children = reading.children(value)
    known = {**_MODE, **_OTHER_NAMES, **_INTERACTIVE, "table": None}
    for key, child in children.items():
        if key not in known:
            reading.unknown(child, key, known)
    own = reading.keys({key: child for key, child in children.items() if key in _MODE}, _MODE)
    own |= _other_names(reading, children)
    if "table" in children:
        own["table"] = _rows(reading, children["table"])
    strategy = own.get("strategy", base.strategy if base else None)
    if strategy is None:
        if "strategy" not in children:
            reading.mistakes.add(value.place, f"{value.path}: a strategy is needed: {', '.join(STRATEGIES)}")
        return None
    _refuse_foreign(reading, strategy, children)
    if base is None or base.strategy != strategy:
        # Which upstreams a table has, its rows say.
        base = ModeSettings(name, strategy, base.upstreams if base and strategy != "table" else ())
    if strategy == "table":
        if not own.get("table"):
            if "table" not in children:
                words = "a table is needed, such as [{match: opus, upstream: deepseek}, {default: minimax}]"
                reading.mistakes.add(value.place, f"{value.path}: {words}")
            return None
        rows = own["table"]
        own["upstreams"] = tuple(dict.fromkeys((*own.get("upstreams", ()), *(row.upstream for row in rows))))
    elif not own.get("upstreams", base.upstreams) and "upstreams" not in children:
        words = "upstreams are needed, such as [minimax, anthropic]"
        reading.mistakes.add(value.place, f"{value.path}: {words}")
        return None
    elif "upstreams" in children and "upstreams" not in own and not base.upstreams:
        return None
    special = {key: child for key, child in children.items() if key in _INTERACTIVE}
    interactive: Interactive = attrs.evolve(base.interactive, **reading.keys(special, _INTERACTIVE))
    return attrs.evolve(base, interactive=interactive, **own)


def _refuse_foreign(reading: Sections, strategy: str, children: Mapping[str, Value]) -> None:
    """Say which keys the strategy does not have."""
    for key, child in children.items():
        owners = _OWNERS.get(_OTHER_NAMES[key][0] if key in _OTHER_NAMES else key)
        if owners is not None and strategy not in owners:
            names = " or ".join(repr(owner) for owner in owners)
            reading.mistakes.add(child.place, f"{child.path}: only modes of the strategy {names} have it")


def _other_names(reading: Sections, children: Mapping[str, Value]) -> dict[str, Any]:
    """Settings that are said in another unit."""
    got: dict[str, Any] = {}
    missing = object()
    for key, (setting, reader) in _OTHER_NAMES.items():
        if key not in children:
            continue
        child = children[key]
        if setting in children:
            reading.mistakes.add(child.place, f"{child.path}: {setting} says the same; take one out")
            continue
        result = reading.one(child, reader, missing)
        if result is not missing:
            reading.renamed(child, key, setting)
            got[setting] = result
    return got


# ------------------------------------------------------------------------------------------------------ tables


def _rows(reading: Sections, value: Value) -> tuple[TableRow, ...]:
    """
    The rows that could be read: a list of them, or a mapping of patterns to an upstream or to the rest of a row.
    """
    reading.given[value.path] = value.place
    if isinstance(value.content, dict):
        entries = [_spelled_out(pattern, child) for pattern, child in value.content.items()]
    else:
        entries = value.content if isinstance(value.content, list) else []
    if not entries:
        wrong = Wrong("expected rows, such as [{match: opus, upstream: deepseek}, {default: minimax}]")
        reading.wrong(value, wrong)
        return ()
    found: list[tuple[Row, TableRow]] = []
    ended = ""
    for entry in entries:
        children = dict(reading.children(entry))
        timeouts = children.pop("timeouts", None)
        # What the upstream itself has is known only when all of them are read.
        said = None if timeouts is None else reading.keys(reading.children(timeouts), TIMEOUTS)
        row = _row(reading, entry, children)
        if row is None:
            continue
        if ended:
            words = f"no name comes so far: the row at {ended} takes every one"
            reading.mistakes.add(entry.place, f"{entry.path}: {words}")
        if not row.match.strip("*"):
            ended = entry.place
        found.append((Row(entry.path, entry.place, said), row))
    default = next((row.upstream for _, row in found if not row.match), "")
    if len(found) == len(entries):  # else a row that was refused may have been the default
        for own, row in found:
            if not row.upstream and not default:
                words = f"{own.path}: which upstream? Add upstream:, or a row default:"
                reading.mistakes.add(own.place, words)
    found = [(own, row) for own, row in found if row.upstream or default]
    reading.remember(value)
    reading.rows[value.path] = [own for own, _ in found]
    return tuple(attrs.evolve(row, upstream=row.upstream or default) for _, row in found)


def _spelled_out(pattern: str, value: Value) -> Value:
    """``opus: deepseek`` and ``opus: {upstream: deepseek, …}`` as the row that they stand for."""
    match = attrs.evolve(value, path=f"{value.path}.match", content=pattern, unset=())
    if isinstance(value.content, str):
        rest = {"upstream": attrs.evolve(value, path=f"{value.path}.upstream")}
    elif isinstance(value.content, dict):
        rest = dict(value.content)
    else:
        return value
    if pattern == "default" and "upstream" in rest:
        return attrs.evolve(value, content={"default": rest.pop("upstream"), **rest})
    return attrs.evolve(value, content={"match": match, **rest})


def _row(reading: Sections, value: Value, children: Mapping[str, Value]) -> TableRow | None:
    """
    One row, its upstream ``""`` where that is the default's; ``None`` where it cannot be used.

    :param children: its settings without the timeouts.
    """
    known = {*_ROW, "timeouts"}
    for key, child in children.items():
        if key not in known:
            reading.unknown(child, key, dict.fromkeys(known))
    got = reading.keys({key: child for key, child in children.items() if key in _ROW}, _ROW)
    if "default" in children:
        for key in ("match", "upstream"):
            if key in children:
                words = "a row with default: takes every name to that upstream; take this out"
                reading.mistakes.add(children[key].place, f"{value.path}.{key}: {words}")
        got = {"upstream": got.pop("default", ""), **got, "match": ""}
        return TableRow(**got) if got["upstream"] else None
    if "match" not in got:
        if "match" not in children:
            words = "a row needs match: or default:, as {match: opus, upstream: deepseek} or {default: minimax}"
            reading.mistakes.add(value.place, f"{value.path}: {words}")
        return None
    return TableRow(**{"upstream": "", **got})


def with_timeouts(
    mode: ModeSettings, said: Sequence[Row], upstreams: Mapping[str, UpstreamSettings]
) -> ModeSettings:
    """A mode whose rows have whole timeouts: what a row says, over what its upstream has."""
    rows = []
    for row, own in zip(mode.table, said, strict=False):
        if own.timeouts is not None and row.upstream in upstreams:
            row = attrs.evolve(row, timeouts=attrs.evolve(upstreams[row.upstream].timeouts, **own.timeouts))
        rows.append(row)
    return attrs.evolve(mode, table=tuple(rows))
