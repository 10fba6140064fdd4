"""
Arguments of a function call: an object here, a text elsewhere; they may come in pieces, each with its place
(https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,5})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
#: Elements of a list that a place may name: the next one, or one of a few that are still to come.
_AHEAD = 1000

_VALUES = ("stringValue", "numberValue", "boolValue")


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def parsed(text: str) -> dict[str, Any]:
    """A call's arguments as the object that they must be here; what is none is kept as the value of ``_raw``."""
    if not text.strip():
        return {}
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {"_raw": text}
    return value if isinstance(value, dict) else {"_raw": text}


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class Arguments:
    """One call under way. Pieces of one text are joined."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}

    def take(self, piece: Any) -> bool:
        """
        :param piece: an element of ``partialArgs``.
        :returns: ``False`` for one that makes no sense.
        """
        path = piece.get("jsonPath") if isinstance(piece, dict) else None
        steps = _steps(path) if isinstance(path, str) else None
        if not steps or not isinstance(steps[0], str):
            return False
        for name in _VALUES:
            if name in piece:
                return self._set(steps, piece[name])
        return self._set(steps, None) if "nullValue" in piece else True

    def value(self) -> dict[str, Any]:
        """The arguments so far."""
        return self._root

    def _set(self, steps: Sequence[str | int], value: Any) -> bool:
        place: Any = self._root
        for step, following in pairwise(steps):
            inner = _get(place, step)
            if not isinstance(inner, (dict, list)):
                inner = {} if isinstance(following, str) else []
                if not _put(place, step, inner):
                    return False
            place = inner
        before = _get(place, steps[-1])
        return _put(place, steps[-1], before + value if isinstance(before, str) and isinstance(value, str) else value)


def _steps(path: str) -> list[str | int] | None:
    """``$.a[0].b`` as ``["a", 0, "b"]``, ``None`` for what cannot be read."""
    if not path.startswith("$"):
        return None
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        at = found.end()
        name, index, quoted, double = found.groups()
        if index is not None:
            steps.append(int(index))
        elif name is not None:
            steps.append(name)
        else:
            steps.append(re.sub(r"\\(.)", r"\1", quoted if quoted is not None else double))
    return steps


def _get(place: Any, step: str | int) -> Any:
    if isinstance(step, str):
        return place.get(step) if isinstance(place, dict) else None
    return place[step] if isinstance(place, list) and step < len(place) else None


def _put(place: Any, step: str | int, value: Any) -> bool:
    if isinstance(step, str):
        if not isinstance(place, dict):
            return False
        place[step] = value
        return True
    if not isinstance(place, list) or step > len(place) + _AHEAD:
        return False
    place += [None] * (step + 1 - len(place))
    place[step] = value
    return True
