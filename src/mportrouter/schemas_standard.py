"""
What every target wants of a JSON schema: draft 2020-12, one object at the top, no words of OpenAPI or older drafts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

#: Words whose value maps names to schemas.
MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
#: Words whose value is a list of schemas.
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
#: Words whose value is a schema.
SINGLES = frozenset(
    {
        "items",
        "additionalItems",
        "unevaluatedItems",
        "contains",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    }
)
#: Of those, the ones where ``true`` and ``false`` are usual.
_SWITCHES = frozenset({"additionalProperties", "unevaluatedProperties", "unevaluatedItems", "additionalItems"})
#: Of those, the ones that stand for nothing where they hold ``true`` or ``false``.
_CONDITIONS = frozenset({"not", "if", "then", "else", "contentSchema"})

_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
#: What generators write that take their own language's names.
_SPELLINGS = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
}
#: Levels of a schema that are read.
DEEPEST = 64
#: References to references that are followed.
_STEPS = 8
#: Words at the top that say which objects are meant, instead of what they hold.
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")


def standard(schema: object, without: frozenset[str] = frozenset(), depth: int = 0) -> dict[str, Any]:
    """
    A schema in draft 2020-12: types in lower case, ``nullable`` as a type, tuples as ``prefixItems``, the boolean
    limits of draft 4 as numbers, and no member that cannot be one.

    :param without: words to leave out.
    """
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return {}
    out: dict[str, Any] = {}
    for word, value in schema.items():
        if word in without or (word == "nullable" and isinstance(value, bool)):
            continue
        if word in MAPS:
            if isinstance(value, Mapping):
                out[word] = {
                    name: standard(inner, without, depth + 1)
                    for name, inner in value.items()
                    if inner is not False or word not in ("properties", "patternProperties")
                }
        elif word in LISTS:
            members = _members(value, without, depth)
            if members:
                out[word] = members
        elif word in SINGLES:
            if isinstance(value, bool):
                if word in _SWITCHES:
                    out[word] = value
                elif value and word not in _CONDITIONS:
                    out[word] = {}
            elif isinstance(value, Mapping):
                out[word] = standard(value, without, depth + 1)
            elif word == "items" and (members := _members(value, without, depth)):
                out["prefixItems"] = members
        elif word == "type":
            found = types(value)
            if found:
                out[word] = found[0] if len(found) == 1 else found
        elif word == "required":
            if isinstance(value, list):  # a boolean in draft 3
                out[word] = [name for name in value if isinstance(name, str)]
        else:
            out[word] = value
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(out.get(exclusive), bool) and out.pop(exclusive) and limit in out:
            out[exclusive] = out.pop(limit)
    if schema.get("nullable") is True:
        _allow_null(out)
    return out


def _members(value: object, without: frozenset[str], depth: int) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [standard(inner, without, depth + 1) for inner in value if inner is not False]


def types(value: object) -> list[str]:
    """The types that a ``type`` names, each once, in standard spelling."""
    named = value if isinstance(value, list) else [value]
    found: list[str] = []
    for name in named:
        if isinstance(name, str):
            name = name.lower()
            name = _SPELLINGS.get(name, name)
            if name in _TYPES and name not in found:
                found.append(name)
    return found


def has_type(schema: Mapping[str, Any], name: str) -> bool:
    value = schema.get("type")
    return value == name or (isinstance(value, (list, tuple)) and name in value)


def _allow_null(out: dict[str, Any]) -> None:
    """Take over OpenAPI's ``nullable: true``."""
    values = out.get("enum")
    if isinstance(values, list) and None not in values:
        out["enum"] = [*values, None]
    kind = out.get("type")
    if isinstance(kind, str):
        if kind != "null":
            out["type"] = [kind, "null"]
    elif isinstance(kind, list):
        if "null" not in kind:
            out["type"] = [*kind, "null"]
    elif "anyOf" in out:
        if {"type": "null"} not in out["anyOf"]:
            out["anyOf"] = [*out["anyOf"], {"type": "null"}]
    elif "$ref" in out:
        out["anyOf"] = [{"$ref": out.pop("$ref")}, {"type": "null"}]


def object_at_top(schema: dict[str, Any]) -> dict[str, Any]:
    """
    A schema of arguments: an object with ``properties``, its alternatives merged into one.

    Every alternative's properties may be given; required is what all of them require.
    """
    schema = followed(schema, schema)
    for word in _ALTERNATIVES:
        branches = schema.get(word)
        if branches:
            schema = merged(_without(schema, word), [followed(schema, branch) for branch in branches], word == "allOf")
    if schema.get("type") not in (None, "object") and not has_type(schema, "object"):
        # Arguments are never a bare text or list: nothing of it holds.
        schema = {word: schema[word] for word in ("title", "description", "$defs", "definitions") if word in schema}
    out: dict[str, Any] = dict(schema) if "type" in schema else {"type": "object", **schema}
    out["type"] = "object"
    for word in ("enum", "const", "not"):
        out.pop(word, None)
    if not isinstance(out.get("properties"), dict):
        out["properties"] = {}
    return out


def merged(base: dict[str, Any], branches: list[dict[str, Any]], every: bool) -> dict[str, Any]:
    """
    One object for several.

    :param every: all of the branches hold (``allOf``); else one of them.
    """
    objects = [branch for branch in branches if "type" not in branch or has_type(branch, "object")]
    if not objects:
        return base
    out = dict(base)
    properties: dict[str, Any] = dict(out.get("properties") or {})
    for branch in objects:
        for name, inner in (branch.get("properties") or {}).items():
            known = properties.get(name)
            if known is None or known == inner:
                properties[name] = inner
            elif every:
                properties[name] = {**known, **inner}
            else:
                choices = known["anyOf"] if known.keys() == {"anyOf"} else [known]
                if inner not in choices:
                    properties[name] = {"anyOf": [*choices, inner]}
        for word in ("$defs", "definitions"):
            if word in branch:
                out[word] = {**branch[word], **out.get(word, {})}
        if "type" not in out and "type" in branch:
            out["type"] = "object"
        for word in ("title", "description"):
            if every and word in branch and word not in out:
                out[word] = branch[word]
    asked = [list(branch.get("required") or ()) for branch in objects]
    common = (
        [name for group in asked for name in group]
        if every
        else [name for name in asked[0] if all(name in group for group in asked)]
    )
    required = list(dict.fromkeys([*(out.get("required") or ()), *common]))
    if properties or "properties" in out:
        out["properties"] = properties
    if required:
        out["required"] = required
    if (
        not every
        and "additionalProperties" not in out
        and all(branch.get("additionalProperties") is False for branch in objects)
    ):
        out["additionalProperties"] = False
    return out


def pointed(root: Mapping[str, Any], reference: object) -> dict[str, Any] | None:
    """What a local ``$ref`` means (RFC 6901), ``None`` where it leads nowhere."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    at: Any = root
    for step in reference[1:].split("/")[1:]:
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(at, Mapping) and step in at:
            at = at[step]
        elif isinstance(at, list) and step.isdecimal() and int(step) < len(at):
            at = at[int(step)]
        else:
            return None
    return dict(at) if isinstance(at, Mapping) else None


def followed(root: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its reference read, and the next one's; what stands beside a reference is kept over it."""
    for _ in range(_STEPS):
        if "$ref" not in schema:
            break
        schema = {**(pointed(root, schema["$ref"]) or {}), **_without(schema, "$ref")}
    return _without(schema, "$ref") if "$ref" in schema else schema


def _without(schema: dict[str, Any], word: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != word}
