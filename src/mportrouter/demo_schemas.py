"""
What OpenAI's dialects refuse of the schemas of functions and of answers: what is no schema at all, and in strict mode
what its grammar of answers cannot hold.

Source: the vendor's guide to structured outputs ("supported schemas") and the texts of its errors.
"""

from __future__ import annotations

from typing import Any

from .demo_said import Refusal, bad

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_NOT_AT_TOP = ("oneOf", "anyOf", "allOf", "enum", "not")
_NOT_STRICT = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
)
_ONE = (dict, bool)


def check_function(name: str, schema: Any, strict: bool, where: str) -> None:
    """
    :param where: the function's place in the request.
    :raises Refusal: its parameters are no such schema.
    """
    start = f"Invalid schema for function '{name}': "
    code = "invalid_function_parameters"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        got = schema.get("type") if isinstance(schema, dict) else schema
        words = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{got}\"'."
        raise bad(start + words, code, f"{where}.parameters")
    if any(word in schema for word in _NOT_AT_TOP):
        words = "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
        raise bad(start + words, code, f"{where}.parameters")
    if not isinstance(schema.get("properties"), dict):
        raise bad(f"{start}In context=(), object schema missing properties.", code, f"{where}.parameters")
    _Walk(start, code, f"{where}.parameters", strict, schema).node(schema, ())


def check_format(name: str, schema: Any, strict: bool, where: str) -> None:
    """:raises Refusal: the schema of an answer is none."""
    start = f"Invalid schema for response_format '{name}': "
    code = "invalid_json_schema"
    if not isinstance(schema, dict):
        raise bad(f"{start}{schema!r} is not of type 'object'.", code, where)
    if strict and schema.get("type") != "object":
        words = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
        raise bad(start + words, code, where)
    _Walk(start, code, where, strict, schema).node(schema, ())


class _Walk:
    """
    The pass over one schema.

    :param start: how every refusal begins.
    :param root: where references lead.
    """

    def __init__(self, start: str, code: str, param: str, strict: bool, root: dict[str, Any]) -> None:
        self._start = start
        self._code = code
        self._param = param
        self._strict = strict
        self._root = root

    def _no(self, path: tuple[str, ...], words: str) -> Refusal:
        return bad(f"{self._start}In context={path!r}, {words}", self._code, self._param)

    def node(self, schema: Any, path: tuple[str, ...]) -> None:
        if isinstance(schema, bool):
            if self._strict:
                raise self._no(path, "schema must have a 'type' key.")
            return
        if not isinstance(schema, dict):
            raise self._no(path, f"{schema!r} is not of type 'object', 'boolean'.")
        self._words(schema, path)
        if self._strict:
            self._closed(schema, path)
        for word in _MAPS:
            for name, inner in (schema.get(word) or {}).items():
                self.node(inner, (*path, word, name))
        for word in _LISTS:
            for at, inner in enumerate(schema.get(word) or ()):
                self.node(inner, (*path, word, str(at)))
        for word in _SINGLES:
            if isinstance(schema.get(word), dict):
                self.node(schema[word], (*path, word))

    def _words(self, schema: dict[str, Any], path: tuple[str, ...]) -> None:
        """What any JSON schema must be."""
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        for kind in kinds:
            if kind not in _TYPES:
                raise self._no(path, f"{kind!r} is not valid under any of the given schemas.")
        if "array" in kinds and "items" not in schema:
            raise self._no(path, "array schema missing items.")
        for word in _MAPS:
            if word in schema and not isinstance(schema[word], dict):
                raise self._no(path, f"{schema[word]!r} is not of type 'object'.")
        for word in (*_LISTS, "enum"):
            if word in schema and (not isinstance(schema[word], list) or not schema[word]):
                raise self._no(path, f"{schema[word]!r} should be a non-empty array.")
        for word in _SINGLES:
            if word in schema and not isinstance(schema[word], _ONE):
                raise self._no(path, f"{schema[word]!r} is not of type 'object', 'boolean'.")
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise self._no(path, f"{required!r} is not of type 'array'.")
        for word in ("exclusiveMinimum", "exclusiveMaximum", "minimum", "maximum"):
            if isinstance(schema.get(word, 0), bool):
                raise self._no(path, f"{schema[word]!r} is not of type 'number'.")
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#") and not self._leads(reference):
            raise self._no(path, f"reference '{reference}' can only point to definitions of the schema.")

    def _leads(self, reference: str) -> bool:
        found: Any = self._root
        for name in reference.lstrip("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                return False
        return True

    def _closed(self, schema: dict[str, Any], path: tuple[str, ...]) -> None:
        """What strict mode wants besides."""
        for word in _NOT_STRICT:
            if word in schema:
                raise self._no(path, f"'{word}' is not permitted.")
        if "$ref" in schema:
            others = sorted(schema.keys() - {"$ref", "$defs", "definitions"})
            if others:
                raise self._no(path, f"$ref cannot have keywords {others!r}.")
            return
        if not schema.keys() & {"type", "anyOf", "enum", "const"}:
            raise self._no(path, "schema must have a 'type' key.")
        kinds = schema.get("type", ())
        if "object" in (kinds if isinstance(kinds, list) else [kinds]):
            if schema.get("additionalProperties") is not False:
                raise self._no(path, "'additionalProperties' is required to be supplied and to be false.")
            names = set(schema.get("properties") or ())
            lost = sorted(names - set(schema.get("required") or ()))
            more = sorted(set(schema.get("required") or ()) - names)
            if lost or more:
                words = "'required' is required to be supplied and to be an array including every key in properties."
                raise self._no(path, f"{words} {'Missing' if lost else 'Extra'} {(lost or more)[0]!r}.")
