"""
``capabilities:`` of an upstream: the columns of the catalogue, for all of its models and for some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .catalog import NEEDED, WORDS, Differences
from .config_places import Value, Wrong
from .config_words import Reader, boolean, count, list_of, one_of, or_off, plain, scalar, text_of, whole
from .routing.table import glob
from .settings import Capabilities

MODELS = "models"
"""The key beside the columns: patterns of models to columns that differ there."""


def path(text: str) -> str:
    """A path of a URL."""
    if not text.startswith("/") or any(sign.isspace() for sign in text):
        raise Wrong(f"expected a path that begins with /, not {text!r}")
    return text


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", text.strip()):
        raise Wrong(f"expected a number such as 1.0, not {text!r}")
    return float(text)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise Wrong(f"expected a regular expression ({error})")
    return plain(text)


def _span(value: Value) -> tuple[int, ...]:
    numbers: tuple[int, ...] = list_of(whole)(value)
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise Wrong("expected the smallest and the largest, such as [1024, 32768]")
    return numbers


def _text(value: Value) -> str:
    """Any text; an empty one is none."""
    return plain(text_of(value)) if value.content else ""


def _strippable(text: str) -> str:
    """A type of events or blocks without which an answer is still one."""
    word = plain(text)
    if word in NEEDED:
        raise Wrong(f"an answer is none without {word!r}")
    return word


_SPECIAL: dict[str, Reader] = {
    "generate_path": or_off(path),
    "reasoning_budget": _span,
    "reasoning_field": _text,
    "strip_events": list_of(_strippable),
    "tool_id_pattern": scalar(_expression),
}


def _column(field: attrs.Attribute[Any]) -> Reader:
    """The reader of one column, by what it takes and the kind of its default."""
    if field.name in _SPECIAL:
        return _SPECIAL[field.name]
    words = WORDS.get(field.name)
    default = field.default
    if isinstance(default, bool):
        return scalar(boolean)
    if isinstance(default, tuple):
        return list_of(plain if words is None else one_of(*words))
    if default is None:
        return or_off(count)
    if isinstance(default, int):
        return scalar(count)
    if isinstance(default, float):
        return scalar(_number)
    return scalar(plain if words is None else one_of(*words))


COLUMNS: dict[str, Reader] = {field.name: _column(field) for field in attrs.fields(Capabilities)}
"""A reader a column."""


def by_model(
    whole: Capabilities,
    said: Differences,
    own: Sequence[tuple[str, Differences]],
    shipped: Sequence[tuple[str, Differences]],
) -> tuple[tuple[str, Capabilities], ...]:
    """
    What an upstream does with some of its models, each resolved.

    What is said of the upstream as a whole holds for all of its models, also where the catalogue says otherwise of
    some; what is said of a pattern stands over both. A pattern starts from the first of the catalogue's that covers it.

    :param whole: what it does with the others.
    :param said: the columns of ``whole`` that the configuration says.
    :param own: the configuration's patterns, ``shipped`` the catalogue's.
    """
    covers = [(glob(pattern).match, columns) for pattern, columns in shipped]

    def start(pattern: str) -> Differences:
        return next((columns for matches, columns in covers if matches(pattern)), {})

    mine: Mapping[str, Differences] = {pattern: {**start(pattern), **said, **columns} for pattern, columns in own}
    theirs = {pattern: {**columns, **said} for pattern, columns in shipped if pattern not in mine}
    return tuple((pattern, attrs.evolve(whole, **columns)) for pattern, columns in {**mine, **theirs}.items())
