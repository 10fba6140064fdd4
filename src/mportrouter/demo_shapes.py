"""
What OpenAI's dialects check of a JSON value before they read it, as shapes, and the words in which they refuse it.

Every shape has ``check(value, where, strict)``: ``where`` is the value's place as OpenAI writes it
(``messages[0].content``, ``""`` for the whole request). Without ``strict`` it judges as servers of other makers do: a
member that nobody knows, one that is null, and how long a text is, are overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from .demo_said import Refusal, bad

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
}


class Shape(Protocol):
    """What a value must look like."""

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        """:raises Refusal: it does not."""


def wrong_type(where: str, wanted: str, value: Any) -> Refusal:
    """The refusal of a value of another JSON type."""
    got = "null" if value is None else _KINDS.get(type(value), "a value")
    return bad(f"Invalid type for '{where}': expected {wanted}, but got {got} instead.", "invalid_type", where)


def missing(where: str) -> Refusal:
    """The refusal of a member that is not there."""
    return bad(f"Missing required parameter: '{where}'.", "missing_required_parameter", where)


def unknown(where: str) -> Refusal:
    """The refusal of a member that nobody knows."""
    return bad(f"Unknown parameter: '{where}'.", "unknown_parameter", where)


def no_value(where: str, value: Any, among: tuple[str, ...]) -> Refusal:
    """The refusal of a word that is none of those there are."""
    listed = ", ".join(f"'{each}'" for each in among)
    return bad(f"Invalid value: '{value}'. Supported values are: {listed}.", "invalid_value", where)


@attrs.frozen
class Words:
    """
    A text.

    :param least: characters; ``most`` likewise, ``None``: any number.
    :param pattern: what it must match as a whole.
    :param among: the only texts there are.
    :param null: ``null`` will do as well.
    """

    least: int = 0
    most: int | None = None
    pattern: str = ""
    among: tuple[str, ...] = ()
    null: bool = False

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None and (self.null or not strict):
            return
        if not isinstance(value, str):
            raise wrong_type(where, "one of the listed strings" if self.among else "a string", value)
        if self.among and value not in self.among:
            raise no_value(where, value, self.among)
        if len(value) < self.least:
            words = (
                f"empty string. Expected a string with minimum length {self.least}, but got an empty string instead."
            )
            raise bad(f"Invalid '{where}': {words}", "empty_string", where)
        if strict and self.most is not None and len(value) > self.most:
            words = (
                f"Expected a string with maximum length {self.most}, but got a string with length {len(value)} instead."
            )
            raise bad(f"Invalid '{where}': string too long. {words}", "string_above_max_length", where)
        if self.pattern and not re.fullmatch(self.pattern, value):
            words = f"Expected a string that matches the pattern '^{self.pattern}$'."
            raise bad(f"Invalid '{where}': string does not match pattern. {words}", "invalid_value", where)


@attrs.frozen
class Number:
    """:param whole: no fraction."""

    least: float | None = None
    most: float | None = None
    whole: bool = False
    null: bool = True

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None and (self.null or not strict):
            return
        fits = isinstance(value, int) or (isinstance(value, float) and (not self.whole or value.is_integer()))
        if isinstance(value, bool) or not fits:
            raise wrong_type(where, "an integer" if self.whole else "a decimal", value)
        kind = "integer" if self.whole else "decimal"
        if self.least is not None and value < self.least:
            words = f"{kind} below minimum value. Expected a value >= {self.least:g}, but got {value:g} instead."
            raise bad(f"Invalid '{where}': {words}", f"{kind}_below_min_value", where)
        if self.most is not None and value > self.most:
            words = f"{kind} above maximum value. Expected a value <= {self.most:g}, but got {value:g} instead."
            raise bad(f"Invalid '{where}': {words}", f"{kind}_above_max_value", where)


@attrs.frozen
class Flag:
    """``true`` or ``false``."""

    null: bool = True

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if not isinstance(value, bool) and not (value is None and (self.null or not strict)):
            raise wrong_type(where, "a boolean", value)


@attrs.frozen
class Free:
    """Any object; any value at all where ``anything``."""

    anything: bool = False
    null: bool = False

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if self.anything or isinstance(value, dict) or (value is None and (self.null or not strict)):
            return
        raise wrong_type(where, "an object", value)


@attrs.frozen
class Each:
    """A list of values of one shape."""

    shape: Shape
    least: int = 0
    most: int | None = None
    null: bool = False

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None and (self.null or not strict):
            return
        if not isinstance(value, list):
            raise wrong_type(where, "an array", value)
        if strict and len(value) < self.least:
            words = f"empty array. Expected an array with minimum length {self.least}, but got an empty array instead."
            raise bad(f"Invalid '{where}': {words}", "empty_array", where)
        if strict and self.most is not None and len(value) > self.most:
            words = (
                f"Expected an array with maximum length {self.most}, but got an array with length {len(value)} instead."
            )
            raise bad(f"Invalid '{where}': array too long. {words}", "array_above_max_length", where)
        for at, each in enumerate(value):
            self.shape.check(each, f"{where}[{at}]", strict)


@attrs.frozen
class Pairs:
    """An object of texts, as ``metadata``."""

    most: int = 16
    name: int = 64
    text: int = 512

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise wrong_type(where, "an object", value)
        if len(value) > self.most:
            words = f"Expected an object with maximum {self.most} properties, but got {len(value)} properties instead."
            raise bad(f"Invalid '{where}': too many properties. {words}", "object_above_max_properties", where)
        for name, text in value.items():
            if len(name) > self.name:
                raise bad(
                    f"Invalid property name in '{where}': '{name[:80]}' is too long.", "invalid_property_name", where
                )
            Words(most=self.text).check(text, f"{where}.{name}", strict)


@attrs.frozen
class Members:
    """
    An object.

    :param known: its members' shapes.
    :param needed: those that must be there.
    :param open: others are none of this check's business.
    """

    known: Mapping[str, Shape]
    needed: tuple[str, ...] = ()
    null: bool = False
    open: bool = False

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None and (self.null or not strict):
            return
        if not isinstance(value, dict):
            raise wrong_type(where, "an object", value)
        start = f"{where}." if where else ""
        for name in self.needed:
            if name not in value:
                raise missing(start + name)
        for name, inner in value.items():
            shape = self.known.get(name)
            if shape is not None:
                shape.check(inner, start + name, strict)
            elif strict and not self.open:
                raise unknown(start + name)


@attrs.frozen
class Kinds:
    """
    An object of which one member says what it is.

    :param shapes: by that member's value; the member itself is known to all of them.
    :param name: that member.
    :param absent: its value where it is not there.
    """

    shapes: Mapping[str, Members]
    name: str = "type"
    absent: str = ""

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if not isinstance(value, dict):
            raise wrong_type(where, "an object", value)
        place = f"{where}.{self.name}"
        kind = value.get(self.name, self.absent or None)
        if kind is None:
            raise missing(place)
        shape = self.shapes.get(kind) if isinstance(kind, str) else None
        if shape is None:
            raise no_value(place, kind, tuple(self.shapes))
        shape.check({name: inner for name, inner in value.items() if name != self.name}, where, strict)


@attrs.frozen
class Either:
    """One shape for a text, another for a list, another for an object."""

    text: Shape | None = None
    list: Shape | None = None
    object: Shape | None = None
    null: bool = False

    def check(self, value: Any, where: str, strict: bool = True) -> None:
        if value is None and (self.null or not strict):
            return
        shape = self.text if isinstance(value, str) else self.list if isinstance(value, list) else self.object
        if shape is None or not isinstance(value, (str, list, dict)):
            kinds = {"a string": self.text, "an array": self.list, "an object": self.object}
            named = [kind for kind, each in kinds.items() if each is not None]
            raise wrong_type(where, f"one of {' or '.join(named)}", value)
        shape.check(value, where, strict)
