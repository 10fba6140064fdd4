"""
The subset of JSON schema that Anthropic's structured outputs and strict tools take (its documentation, "JSON schema
limitations"): what is beyond it goes into the description, where the model may still follow it.
"""

from __future__ import annotations

import json
from typing import Any

from .schemas_standard import merged, standard, types

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
#: What alternatives hold that are no schemas by themselves.
_CONDITIONS = frozenset({"required", "not", "title", "description", "dependentRequired"})
#: What is said of all alternatives together.
_WORDS = frozenset({"title", "description", "anyOf", "oneOf", "allOf", "default", "examples"})
#: Schemas after which alternatives that share something are told in the description.
_MOST = 2000
_REFERENCE = ("#/definitions/", "#/$defs/")


def restricted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema within that subset."""
    out = _Writer().node(standard(schema, frozenset({"$schema", "$id"})))
    if not out.keys() - {"$defs"}:
        out = {**out, "type": "object", "properties": {}, "additionalProperties": False}
    return out


class _Writer:
    """One schema's; what several alternatives share is written in each, so there must be an end to it."""

    def __init__(self) -> None:
        self._count = 0

    def node(self, schema: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        rest = dict(schema)
        out: dict[str, Any] = {}
        definitions = {**rest.pop("definitions", {}), **rest.pop("$defs", {})}
        if definitions:
            out["$defs"] = {name: self.node(inner) for name, inner in definitions.items()}
        reference = rest.get("$ref")
        if isinstance(reference, str):
            # It must stand alone.
            out["$ref"] = reference.replace(*_REFERENCE) if reference.startswith(_REFERENCE[0]) else reference
            return out
        kinds = types(rest.pop("type", None))
        literal = _literals(rest, out)
        alternatives = self._alternatives(rest, kinds)
        if alternatives:
            out["anyOf"] = [self.node(inner) for inner in alternatives]
            kinds = []
        elif rest.get("allOf"):
            out["allOf"] = [self.node(inner) for inner in rest.pop("allOf")]
        elif not literal:
            kinds = kinds or _inferred(rest)
            if kinds:
                out["type"] = kinds[0] if len(kinds) == 1 else kinds
        for word in ("description", "title"):
            if isinstance(rest.get(word), str):
                out[word] = rest.pop(word)
        if "object" in kinds:
            self._object(rest, out)
        if "array" in kinds:
            self._array(rest, out)
        if "string" in kinds and rest.get("format") in _FORMATS:
            out["format"] = rest.pop("format")
        if rest:
            words = "{" + ", ".join(f"{word}: {_said(value)}" for word, value in rest.items()) + "}"
            out["description"] = f"{out['description']}\n\n{words}" if out.get("description") else words
        return out

    def _alternatives(self, rest: dict[str, Any], kinds: list[str]) -> list[dict[str, Any]]:
        """
        The schemas of which one holds. Where they only tell which properties go together they stay with the rest, and
        so go into the description; what stands beside them otherwise is said in each.
        """
        word = "anyOf" if rest.get("anyOf") else "oneOf"
        found: list[dict[str, Any]] = rest.get(word) or []
        if not found or all(branch.keys() <= _CONDITIONS for branch in found):
            return []
        shared = [name for name in rest if name not in _WORDS]
        if (shared or kinds) and self._count > _MOST:
            return []
        del rest[word]
        common = {name: rest.pop(name) for name in shared}
        if kinds:
            common["type"] = kinds[0] if len(kinds) == 1 else kinds
        if not common:
            return found
        if "properties" in common:
            return [branch if "$ref" in branch else merged(common, [branch], True) for branch in found]
        return [branch if "$ref" in branch else {**common, **branch} for branch in found]

    def _object(self, rest: dict[str, Any], out: dict[str, Any]) -> None:
        properties = rest.pop("properties", None) or {}
        out["properties"] = {name: self.node(inner) for name, inner in properties.items()}
        if isinstance(rest.get("additionalProperties"), bool):
            del rest["additionalProperties"]
        out["additionalProperties"] = False
        required = [name for name in rest.pop("required", ()) if name in properties]
        if required:
            out["required"] = required

    def _array(self, rest: dict[str, Any], out: dict[str, Any]) -> None:
        if "items" in rest:
            out["items"] = self.node(rest.pop("items"))
        elif "prefixItems" in rest:
            members: list[dict[str, Any]] = []
            for inner in rest["prefixItems"]:
                written = self.node(inner)
                if written not in members:
                    members.append(written)
            out["items"] = members[0] if len(members) == 1 else {"anyOf": members}
        if rest.get("minItems") in (0, 1):
            out["minItems"] = rest.pop("minItems")


def _literals(rest: dict[str, Any], out: dict[str, Any]) -> bool:
    """Values beside which a type would only be told twice, where all are primitive."""
    values = rest.get("enum")
    if isinstance(values, list) and values and all(map(_is_primitive, values)):
        out["enum"] = rest.pop("enum")
    if "const" in rest and _is_primitive(rest["const"]):
        out["const"] = rest.pop("const")
    return "enum" in out or "const" in out


def _is_primitive(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _inferred(rest: dict[str, Any]) -> list[str]:
    if "properties" in rest or "required" in rest:
        return ["object"]
    if "items" in rest or "prefixItems" in rest:
        return ["array"]
    return []


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
