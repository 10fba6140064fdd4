"""The strategy ``table``: the model's name decides, row by row, the first match wins."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Sequence

from zope.interface import implementer

from ..errors import Kind, RouterError
from ..settings import ModeSettings, TableRow
from .accounts import listed, shown
from .fitness import IStrategy, capable, state
from .plans import Attempt, Facts, Plan, UpstreamView
from .table import AS_IT_CAME


@functools.lru_cache(maxsize=1024)
def _pattern(match: str) -> re.Pattern[str]:
    if "*" not in match and "?" not in match:
        match = f"*{match}*"
    return re.compile(fnmatch.translate(match.replace("[", "[[]")), re.IGNORECASE)


def row_for(table: Sequence[TableRow], model: str) -> TableRow | None:
    """
    The first row that matches a model's name, without regard to case.

    A pattern without ``*`` and ``?`` matches every name that holds it, an empty one every name.
    """
    for row in table:
        if not row.match or _pattern(row.match).match(model):
            return row
    return None


def label(row: TableRow) -> str:
    """What a row is called where people read."""
    return row.name or row.match or "default"


@implementer(IStrategy)
class Table:
    """One upstream for each name; its own error is the answer."""

    name = "table"

    def candidates(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Sequence[UpstreamView]:
        row = row_for(mode.table, facts.model)
        if row is None:
            known = listed([row.match for row in mode.table])
            raise RouterError(
                Kind.BAD_REQUEST,
                f"The model {shown(facts.model)} matches no row of mode {mode.name}'s table. Known: {known}.",
            )
        return [view for view in views if view.id == row.upstream]

    def plan(self, mode: ModeSettings, facts: Facts, views: Sequence[UpstreamView]) -> Plan:
        row = row_for(mode.table, facts.model)
        assert row is not None, "who may be asked was told before"
        view = next(view for view in views if view.id == row.upstream)
        _, _, notes = capable((view,), facts)
        model = facts.model if row.model in AS_IT_CAME else row.model or view.model
        pattern = f" ({row.match})" if row.match and row.match != label(row) else ""
        reason = f"row {label(row)}{pattern}" + (f"; {view.id} {state(view)}" if view.rank else "")
        return Plan(
            (Attempt(view.id, model, reason, row.path, row.timeouts),),
            "; ".join([*notes, f"row {label(row)}: {view.id} only"]),
            None,
            tuple(notes),
        )
