"""
Reading sections of a configuration: what was given and where, and every mistake, while what could be read is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .config_places import Mistakes, Value, Wrong, nearest
from .config_words import Reader, entries


@attrs.frozen
class Row:
    """
    A row of a table, beside what it says of requests.

    :param path: its dotted path, ``place`` where it stands.
    :param timeouts: those that it says itself, or ``None``.
    """

    path: str
    place: str
    timeouts: Mapping[str, Any] | None


class Sections:
    """
    Reads sections, remembering what was given and where.

    :param mistakes: where they go.
    :param shipped: the text is the router's own preset: what it says is a default, not somebody's setting.
    :ivar origins: dotted path to origin, of what is not a default.
    :ivar given: dotted path to place, of everything the text sets.
    :ivar rows: dotted path of a table to where its rows stand, in their order.
    """

    def __init__(self, mistakes: Mistakes, shipped: bool) -> None:
        self.mistakes = mistakes
        self.shipped = shipped
        self.origins: dict[str, str] = {}
        self.given: dict[str, str] = {}
        self.rows: dict[str, Sequence[Row]] = {}

    def place(self, path: str) -> str:
        """Where a setting, or the nearest thing around it, was given; ``""``: nowhere."""
        while path:
            if path in self.given:
                return self.given[path]
            path = path.rpartition(".")[0]
        return ""

    def remember(self, value: Value) -> None:
        """A setting was read."""
        self.given[value.path] = value.place
        if not self.shipped or value.origin != value.place:
            self.origins[value.path] = value.origin

    def renamed(self, value: Value, name: str, other: str) -> None:
        """A setting that was read under another name is remembered under its own, too."""
        place = value.path.removesuffix(name) + other
        self.given[place] = value.place
        if value.path in self.origins:
            self.origins[place] = self.origins.pop(value.path)

    def wrong(self, value: Value, wrong: Wrong) -> None:
        """A setting was refused."""
        culprit = wrong.value or value
        self.given[value.path] = value.place
        self.mistakes.add(culprit.place, f"{culprit.path}: {wrong}")

    def unknown(self, value: Value, name: str, valid: Mapping[str, Any]) -> None:
        """A key that is not there."""
        self.mistakes.add(value.place, f"{value.path}: unknown key{nearest(name, valid)}")

    def one(self, value: Value, reader: Reader, default: Any) -> Any:
        """One setting, or the default where it is wrong."""
        try:
            result = reader(value)
        except Wrong as wrong:
            self.wrong(value, wrong)
            return default
        self.remember(value)
        return result

    def children(self, value: Value) -> dict[str, Value]:
        """A mapping's values; a mistake and nothing where it is none."""
        self.given[value.path] = value.place
        try:
            return entries(value)
        except Wrong as wrong:
            self.wrong(value, wrong)
            return {}

    def section(self, value: Value, base: Any, readers: Mapping[str, Reader]) -> Any:
        """A whole section on top of a base."""
        return attrs.evolve(base, **self.keys(self.children(value), readers))

    def keys(self, children: Mapping[str, Value], readers: Mapping[str, Reader]) -> dict[str, Any]:
        """The settings that are right, by name."""
        got: dict[str, Any] = {}
        missing = object()
        for name, child in children.items():
            if name not in readers:
                self.unknown(child, name, readers)
                continue
            result = self.one(child, readers[name], missing)
            if result is not missing:
                got[name] = result
        return got
