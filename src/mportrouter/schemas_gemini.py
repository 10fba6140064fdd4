"""
Gemini's ``Schema`` (the message of ``parameters`` and ``responseSchema``) from a JSON schema, and the other way.

Its members are those of a protocol buffer, so an unknown one is refused (``Unknown name``), and ``type`` is one name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .schemas_standard import DEEPEST, followed, merged, pointed, standard, types

_KEPT = frozenset({"description", "pattern", "default", "example", "propertyOrdering"})
_NUMBERS = frozenset({"minimum", "maximum"})
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_FORMATS = {
    "string": frozenset({"date-time", "enum"}),
    "integer": frozenset({"int32", "int64"}),
    "number": frozenset({"float", "double"}),
}
#: Which type a word belongs to, where a schema has several types.
_OF_TYPE = {
    "properties": "object",
    "required": "object",
    "minProperties": "object",
    "maxProperties": "object",
    "additionalProperties": "object",
    "propertyOrdering": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "maxItems": "array",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
}
#: Schemas written for one: references may multiply them.
_MOST = 2000
#: How often one reference may stand within itself; fewer times where that makes too many.
_TURNS = (6, 3, 1)


def declared(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The ``Schema`` for a JSON schema, ``None`` for an object without properties (older models refuse it)."""
    root = standard(schema)
    if not root.keys() - {"title", "description", "$schema", "$id", "$defs", "definitions"}:
        return None
    for turns in _TURNS:
        writer = _Writer(root, turns)
        out = writer.node(root, 0, top=True)
        if writer.count <= _MOST:
            break
    if "anyOf" in out and all(branch.get("type") == "object" for branch in out["anyOf"]):
        base = {word: value for word, value in out.items() if word != "anyOf"}
        out = merged(base, out["anyOf"], False)
    if out.get("type") == "object" and not out.get("properties"):
        return None
    return out


class _Writer:
    """
    :param root: where references lead.
    :param turns: how often one reference may stand within itself.
    :ivar count: schemas written.
    """

    def __init__(self, root: dict[str, Any], turns: int) -> None:
        self.count = 0
        self._root = root
        self._turns = turns
        self._open: list[str] = []

    def node(self, schema: dict[str, Any], depth: int, top: bool = False) -> dict[str, Any]:
        self.count += 1
        if depth > DEEPEST or self.count > _MOST:
            return _free(schema)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found = pointed(self._root, reference)
            rest = {word: value for word, value in schema.items() if word != "$ref"}
            if found is None or self._open.count(reference) >= self._turns:
                return _free(rest)
            self._open.append(reference)
            try:
                return self.node({**found, **rest}, depth + 1, top)
            finally:
                self._open.pop()
        every = schema.get("allOf")
        if every:
            base = {word: value for word, value in schema.items() if word != "allOf"}
            return self.node(self._all(base, every), depth + 1, top)
        return self._alternatives(schema, depth, top)

    def _all(self, base: dict[str, Any], branches: list[dict[str, Any]]) -> dict[str, Any]:
        found = [self._followed(branch) for branch in branches]
        out = merged(base, found, True)
        for branch in found:
            for word, value in branch.items():
                if word == "enum" and isinstance(out.get("enum"), list) and isinstance(value, list):
                    out["enum"] = [one for one in out["enum"] if one in value] or value
                elif word not in ("properties", "required", "$defs", "definitions"):
                    out.setdefault(word, value)
        return out

    def _followed(self, branch: dict[str, Any]) -> dict[str, Any]:
        """A branch with its reference read and its own ``allOf`` merged, so that its members can be."""
        self.count += 1
        branch = followed(self._root, branch)
        every = branch.get("allOf")
        if not every:
            return branch
        base = {word: value for word, value in branch.items() if word != "allOf"}
        if self.count > _MOST or len(self._open) > DEEPEST:
            return base
        self._open.append("allOf")
        try:
            return self._all(base, every)
        finally:
            self._open.pop()

    def _alternatives(self, schema: dict[str, Any], depth: int, top: bool) -> dict[str, Any]:
        branches = schema.get("anyOf") or schema.get("oneOf")
        kinds = types(schema.get("type"))
        nullable = "null" in kinds
        kinds = [kind for kind in kinds if kind != "null"]
        base = {word: value for word, value in schema.items() if word not in ("anyOf", "oneOf", "type")}
        if branches:
            told = [branch for branch in branches if not _is_null(branch)]
            nullable = nullable or len(told) < len(branches)
            if kinds or "properties" in base:
                told = self._refined(base, kinds, told)
            if not told:
                branches = None
            elif len(told) == 1:
                out = self.node({**told[0], **base}, depth + 1, top)
                return {**out, "nullable": True} if nullable else out
            else:
                inner = [self.node(branch, depth + 1) for branch in told]
                return _with_choices(inner, base, nullable)
        if len(kinds) > 1:
            inner = [self.node(_fitting(base, kind), depth + 1) for kind in kinds]
            return _with_choices(inner, base, nullable)
        out = self._single(base, kinds[0] if kinds else "", depth, top)
        if nullable and not out.get("nullable"):
            out["nullable"] = True
        return out

    def _refined(self, base: dict[str, Any], kinds: list[str], branches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Alternatives of a schema that has a type of its own. Where they only say which properties go together, they
        have no counterpart; else each of them is a schema with that type.
        """
        found = [self._followed(branch) for branch in branches]
        if all(branch.keys() <= {"required", "title", "description", "not"} for branch in found):
            return []
        if "object" in kinds or "properties" in base:
            one = merged({"type": "object", **base}, found, False)
            base.clear()
            base.update(one)
            return [{"type": "object"}]
        plain = {word: value for word, value in base.items() if word not in ("description", "title", "nullable")}
        kind: Any = kinds[0] if len(kinds) == 1 else kinds
        for word in plain:
            del base[word]
        return [{**plain, "type": kind, **branch} for branch in found]

    def _single(self, schema: dict[str, Any], kind: str, depth: int, top: bool) -> dict[str, Any]:
        kind = kind or _inferred(schema)
        notes: list[str] = []
        out: dict[str, Any] = {"type": kind}
        for word, value in schema.items():
            if word in _KEPT:
                out[word] = value
            elif word in _NUMBERS:
                if isinstance(value, (int, float)):
                    out[word] = value
            elif word in _COUNTS:
                if isinstance(value, (int, float)) and float(value).is_integer():
                    out[word] = int(value)
            elif word == "format" and isinstance(value, str) and value in _FORMATS.get(kind, ()):
                out[word] = value
        if "const" in schema:
            _choose([schema["const"]], out, notes)
        elif isinstance(schema.get("enum"), list):
            _choose(schema["enum"], out, notes)
        kind = out["type"]
        for word, limit, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            value = schema.get(word)
            if isinstance(value, (int, float)):
                if kind == "integer" and float(value).is_integer():
                    out[limit] = int(value) + step
                else:
                    notes.append(f"{'more' if step > 0 else 'less'} than {value}")
        if kind == "object":
            properties = schema.get("properties") or {}
            if not properties and not top:
                return _free(schema)
            out["properties"] = {name: self.node(inner, depth + 1) for name, inner in properties.items()}
            required = [name for name in schema.get("required") or () if name in properties]
            if required:
                out["required"] = required
        elif kind == "array":
            out["items"] = self._items(schema, depth)
        if not isinstance(out.get("description", ""), str):
            del out["description"]
        if notes:
            words = "; ".join(notes)
            out["description"] = f"{out['description']} ({words})" if out.get("description") else words
        return out

    def _items(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        members = [*schema.get("prefixItems", ())]
        if isinstance(schema.get("items"), dict):
            members.append(schema["items"])
        found: list[dict[str, Any]] = []
        for member in members:
            inner = self.node(member, depth + 1)
            if inner not in found:
                found.append(inner)
        if not found:
            return {"type": "string"}
        return found[0] if len(found) == 1 else {"anyOf": found}


def _is_null(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "null" or ("const" in schema and schema["const"] is None)


def _with_choices(branches: list[dict[str, Any]], base: dict[str, Any], nullable: bool) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for branch in branches:
        if branch not in found:
            found.append(branch)
    description = base.get("description")
    out: dict[str, Any] = dict(found[0]) if len(found) == 1 else {"anyOf": found}
    if isinstance(description, str) and description:
        out["description"] = description
    if nullable:
        out["nullable"] = True
    return out


def _fitting(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a schema of several types says of one of them."""
    out: dict[str, Any] = {"type": kind}
    for word, value in schema.items():
        of = _OF_TYPE.get(word)
        if word in ("description", "title", "default"):
            continue
        if of is not None and of != kind and (of, kind) != ("number", "integer"):
            continue
        if word == "enum" and isinstance(value, list):
            value = [one for one in value if _kind_of(one) in ((kind, "integer") if kind == "number" else (kind,))]
            if not value:
                continue
        out[word] = value
    return out


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, of in (("string", str), ("integer", int), ("number", float), ("object", dict), ("array", list)):
        if isinstance(value, of):
            return kind
    return "null"


def _choose(values: list[Any], out: dict[str, Any], notes: list[str]) -> None:
    """An ``enum`` has texts, none of them empty; of other values the description tells."""
    if any(value is None for value in values):
        out["nullable"] = True
        values = [value for value in values if value is not None]
    if not values:
        return
    if all(isinstance(value, str) for value in values):
        out["type"] = "string"
        kept = [value for value in dict.fromkeys(values) if value]
        if kept:
            out["enum"] = kept
        return
    kinds = {_kind_of(value) for value in values}
    if out["type"] == "string" and "string" in kinds:
        out["enum"] = [text for value in values if (text := value if isinstance(value, str) else json.dumps(value))]
        return
    if len(kinds) == 1:
        out["type"] = kinds.pop()
    elif kinds == {"integer", "number"}:
        out["type"] = "number"
    notes.append("one of: " + ", ".join(json.dumps(value, ensure_ascii=False) for value in values))


def _inferred(schema: dict[str, Any]) -> str:
    if "properties" in schema or "required" in schema or isinstance(schema.get("additionalProperties"), dict):
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    kinds = {_kind_of(value) for value in values if value is not None} if isinstance(values, list) else set()
    if len(kinds) == 1:
        return kinds.pop()
    return "string"


def _free(schema: dict[str, Any]) -> dict[str, Any]:
    """An object that may hold anything, which has no name here: its JSON text."""
    description = schema.get("description")
    if isinstance(description, str) and description:
        return {"type": "string", "description": f"{description} (an object as JSON)"}
    return {"type": "string", "description": "an object as JSON"}


# ------------------------------------------------------------------------------------------------- the other way

_SNAKE = {
    "any_of": "anyOf",
    "max_items": "maxItems",
    "min_items": "minItems",
    "max_length": "maxLength",
    "min_length": "minLength",
    "max_properties": "maxProperties",
    "min_properties": "minProperties",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
    "defs": "$defs",
    "ref": "$ref",
}


def from_gemini(schema: Mapping[str, Any]) -> dict[str, Any]:
    """
    The JSON schema for a ``Schema``: types in lower case, ``nullable`` as a type, numbers that came as texts (the
    JSON of 64-bit integers) as numbers.
    """
    return standard(_renamed(schema, 0))


def _renamed(schema: object, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return {}
    out: dict[str, Any] = {}
    for word, value in schema.items():
        word = _SNAKE.get(word, word)
        if word == "propertyOrdering":
            continue
        if word in ("properties", "$defs") and isinstance(value, Mapping):
            value = {name: _renamed(inner, depth + 1) for name, inner in value.items()}
        elif word == "anyOf" and isinstance(value, list):
            value = [_renamed(inner, depth + 1) for inner in value]
        elif word in ("items", "additionalProperties") and isinstance(value, Mapping):
            value = _renamed(value, depth + 1)
        elif word in _COUNTS and isinstance(value, str) and value.isdecimal():
            value = int(value)
        elif word == "format" and value == "enum":
            continue
        elif word == "example":
            word, value = "examples", [value]
        out[word] = value
    return out
