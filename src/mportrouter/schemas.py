"""
JSON schemas of tools and outputs as each target takes them; the general part is in :mod:`mportrouter.schemas_standard`.

Only schema positions are cleaned: a property that is called ``type`` or ``$ref`` is a name, and what stands in
``enum``, ``const``, ``default`` and ``examples`` is a value. The order of members is kept, for prompt caches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .schemas_gemini import declared, from_gemini
from .schemas_output import restricted
from .schemas_standard import LISTS, MAPS, SINGLES, has_type, object_at_top, standard

__all__ = ["clean", "from_gemini", "obeys_strict"]

#: Bytes of a schema that is remembered: the tools of a conversation come again with each of its turns.
_REMEMBERED = 64 * 1024
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def clean(schema: Mapping[str, Any] | bool | None, profile: str) -> dict[str, Any] | None:
    """
    A schema as a target takes it. The value may be shared: it must not be changed.

    :param schema: of a tool's arguments, or of an output; the boolean schemas mean any object.
    :param profile: ``openai`` and ``anthropic`` (arguments: an object at the top), ``anthropic_output`` (the subset
        of structured outputs and strict tools), ``gemini_schema`` (``parameters``, ``responseSchema``),
        ``gemini_json_schema`` (``parametersJsonSchema``, ``responseJsonSchema``).
    :returns: ``None`` where the member is best left out: nothing is asked for.
    :raises KeyError: for another profile.
    """
    wanted = _PROFILES[profile]
    if schema is None or isinstance(schema, bool):
        return wanted({}) if schema is not None or profile in ("anthropic", "anthropic_output") else None
    try:
        text = _encode(schema)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return wanted(dict(schema))  # a lone surrogate, or an integer beyond 64 bits
    if len(text) > _REMEMBERED:
        return wanted(dict(schema))
    return _cleaned(text, profile)


@functools.lru_cache(maxsize=512)
def _cleaned(text: bytes, profile: str) -> dict[str, Any] | None:
    return _PROFILES[profile](_decode(text))


def obeys_strict(schema: Mapping[str, Any]) -> bool:
    """
    Whether OpenAI's strict mode takes a schema as it is: every object closed and all of its properties required, and
    none of the words that it refuses.
    """
    return has_type(schema, "object") and _is_strict(schema)


#: Refused in strict mode (OpenAI's guide to structured outputs, "supported schemas").
_LOOSE = ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")


def _is_strict(schema: object) -> bool:
    if not isinstance(schema, Mapping) or any(word in schema for word in _LOOSE):
        return False
    if "$ref" in schema and len(schema.keys() - {"$ref", "$defs", "definitions"}) > 0:
        return False
    properties = schema.get("properties")
    if has_type(schema, "object"):
        names = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required", ())
        if schema.get("additionalProperties") is not False or not isinstance(required, (list, tuple)):
            return False
        if set(names) != {name for name in required if isinstance(name, str)}:
            return False
    elif properties is not None:
        return False
    for word, value in schema.items():
        if word in MAPS:
            if not isinstance(value, Mapping) or not all(_is_strict(inner) for inner in value.values()):
                return False
        elif word in LISTS:
            if not isinstance(value, (list, tuple)) or not all(_is_strict(inner) for inner in value):
                return False
        elif word in SINGLES and not isinstance(value, bool) and not _is_strict(value):
            return False
    return True


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    return object_at_top(standard(schema))


def _listed(schema: dict[str, Any]) -> dict[str, Any]:
    """As arguments; OpenAI refuses an array that does not say what it holds ("array schema missing items")."""
    found = _arguments(schema)
    _say_items(found)
    return found


def _say_items(schema: dict[str, Any]) -> None:
    for word, value in schema.items():
        if word in MAPS:
            inner = list(value.values())
        elif word in LISTS:
            inner = value
        else:
            inner = [value] if word in SINGLES else []
        for each in inner:
            if isinstance(each, dict):
                _say_items(each)
    if "items" not in schema and has_type(schema, "array"):
        schema["items"] = {}


def _plain(schema: dict[str, Any]) -> dict[str, Any] | None:
    found = standard(schema, frozenset({"$schema", "$id"}))
    if found.get("type", "object") == "object" and not found.keys() - {"type", "properties", "required", "title"}:
        # Models refuse an object that can have no members (or ignore it).
        return found if found.get("properties") else None
    return found


_PROFILES: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "openai": _listed,
    "anthropic": _arguments,
    "anthropic_output": restricted,
    "gemini_schema": declared,
    "gemini_json_schema": _plain,
}
