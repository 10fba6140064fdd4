"""
Members in both spellings: Google takes ``systemInstruction`` and ``system_instruction`` for the same.

Only members of the dialect itself are looked up here; a function's arguments and schemas keep their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import splice

_UPPER = re.compile(r"[A-Z]")
_snakes: dict[str, str] = {}


def snake(name: str) -> str:
    """``systemInstruction`` as ``system_instruction``."""
    found = _snakes.get(name)
    if found is None:
        found = _snakes[name] = _UPPER.sub(lambda letter: "_" + letter[0].lower(), name)
    return found


def camel(name: str) -> str:
    """``system_instruction`` as ``systemInstruction``."""
    if "_" not in name:
        return name
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def field(source: Mapping[str, Any], name: str) -> Any:
    """A member by its camel-case name, ``None`` where it is absent or null, which are the same here."""
    value = source.get(name)
    return source.get(snake(name)) if value is None else value


def text(source: Mapping[str, Any], name: str) -> str:
    """A member that should be a text, ``""`` for anything else."""
    value = field(source, name)
    return value if isinstance(value, str) else ""


def mapping(source: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """A member that should be an object, ``None`` for anything else."""
    value = field(source, name)
    return value if isinstance(value, dict) else None


def listed(value: Any) -> list[Any]:
    """A repeated member: Google takes one value for a list of one."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def span(spans: Mapping[str, splice.Member], name: str) -> tuple[str, splice.Member] | None:
    """Where a member stands, with the name it is spelled by."""
    for spelled in (name, snake(name)):
        if spelled in spans:
            return spelled, spans[spelled]
    return None
