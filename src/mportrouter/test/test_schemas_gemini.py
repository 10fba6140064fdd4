"""Tests for :mod:`mportrouter.schemas_gemini`."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from ..schemas import clean, from_gemini
from .test_schemas import NAMES, SCHEMAS

TEXT = {"type": "string"}
FREE = {"type": "string", "description": "an object as JSON"}
KNOWN = {
    "type", "format", "description", "nullable", "enum", "items", "minItems", "maxItems", "properties", "required",
    "minProperties", "maxProperties", "minimum", "maximum", "minLength", "maxLength", "pattern", "example", "anyOf",
    "propertyOrdering", "default",
}  # fmt: skip


class DeclaredTests(SynchronousTestCase):
    """A ``Schema`` for a JSON schema, row by row."""

    def check(self, schema: Any, wanted: dict[str, Any], **members: Any) -> None:
        found = clean({"type": "object", "properties": {"a": schema}, **members}, "gemini_schema")
        assert found is not None
        self.assertEqual(found, {"type": "object", "properties": {"a": wanted}})
        self.assertEqual(json.dumps(found["properties"]["a"]), json.dumps(wanted))

    def test_null(self) -> None:
        """Null is no type but ``nullable``, told as a type, an alternative or a value."""
        self.check({"type": ["string", "null"]}, {"type": "string", "nullable": True})
        self.check(
            {"anyOf": [TEXT, {"type": "null"}], "description": "d"},
            {"type": "string", "description": "d", "nullable": True},
        )
        self.check(
            {"oneOf": [TEXT, {"type": "integer"}, {"type": "null"}]},
            {"anyOf": [TEXT, {"type": "integer"}], "nullable": True},
        )
        self.check({"enum": ["a", None]}, {"type": "string", "nullable": True, "enum": ["a"]})
        self.check({"anyOf": [{"const": None}, {"enum": ["a"]}]}, {"type": "string", "enum": ["a"], "nullable": True})

    def test_several_types(self) -> None:
        """Each type is an alternative, with the words that are its own."""
        self.check(
            {"type": ["string", "integer", "array"], "minLength": 2, "minimum": 3, "items": TEXT, "description": "d"},
            {
                "anyOf": [
                    {"type": "string", "minLength": 2},
                    {"type": "integer", "minimum": 3},
                    {"type": "array", "items": TEXT},
                ],
                "description": "d",
            },
        )
        self.check(
            {"type": ["string", "boolean"], "enum": ["a"]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "boolean"}]},
        )

    def test_all_of(self) -> None:
        """``allOf`` is merged, what stands beside it kept."""
        one = {"type": "object", "properties": {"x": TEXT}, "required": ["x"]}
        two = {"properties": {"y": {"type": "integer"}}, "required": ["y"]}
        self.check(
            {"description": "d", "allOf": [one, two]},
            {
                "type": "object",
                "description": "d",
                "properties": {"x": TEXT, "y": {"type": "integer"}},
                "required": ["x", "y"],
            },
        )
        self.check({"allOf": [TEXT], "description": "d"}, {"type": "string", "description": "d"})

    def test_values(self) -> None:
        """A constant is a choice of one; only texts are choices, others are told in words; empty ones go."""
        self.check({"const": "x"}, {"type": "string", "enum": ["x"]})
        self.check({"enum": ["a", "", "a"]}, {"type": "string", "enum": ["a"]})
        self.check({"enum": [1, 2], "description": "d"}, {"type": "integer", "description": "d (one of: 1, 2)"})
        self.check({"type": "number", "enum": [1, 2.5]}, {"type": "number", "description": "one of: 1, 2.5"})
        self.check({"const": True}, {"type": "boolean", "description": "one of: true"})
        self.check({"enum": ["a", 1]}, {"type": "string", "enum": ["a", "1"]})
        self.check({"enum": [""]}, TEXT)

    def test_limits(self) -> None:
        """Open limits of whole numbers are closed ones; those of others are told."""
        self.check(
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
            {"type": "integer", "minimum": 1, "maximum": 8},
        )
        self.check({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "description": "more than 0"})
        self.check({"type": "string", "minLength": 1.0, "maxLength": 2.5}, {"type": "string", "minLength": 1})

    def test_references(self) -> None:
        """References are read, what stands beside them is kept over what they say."""
        defs = {"A": {"type": "string", "description": "theirs", "maxLength": 3}}
        self.check(
            {"$ref": "#/$defs/A", "description": "mine"},
            {"type": "string", "description": "mine", "maxLength": 3},
            **{"$defs": defs},
        )
        self.check({"$ref": "#/definitions/A"}, defs["A"], definitions=defs)
        self.check({"$ref": "#/gone"}, FREE)

    def test_cycles(self) -> None:
        """A schema that holds itself ends after some turns; one that multiplies stays small."""
        tree = {"type": "object", "properties": {"v": TEXT, "next": {"$ref": "#/$defs/T"}}}
        found = clean(
            {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": tree}}, "gemini_schema"
        )
        assert found is not None
        depth, node = 0, found["properties"]["t"]
        while "properties" in node:
            depth, node = depth + 1, node["properties"]["next"]
        self.assertTrue(2 <= depth <= 8, depth)
        self.assertEqual(node, FREE)
        names = [f"T{at}" for at in range(12)]
        wide = {name: {"type": "object", "properties": {n: {"$ref": f"#/$defs/{n}"} for n in names}} for name in names}
        schema = {
            "type": "object",
            "properties": {"t": {"$ref": "#/$defs/T0"}, "z": {"type": "integer"}},
            "$defs": wide,
        }
        found = clean(schema, "gemini_schema")
        assert found is not None
        self.assertLess(len(json.dumps(found)), 1_000_000)

    def test_dropped(self) -> None:
        """Words that it does not know go, formats that it does not know too."""
        self.check(
            {
                "type": "array", "items": {"type": "string", "format": "uri"}, "uniqueItems": True,
                "contains": {}, "title": "t",
                "$comment": "c", "examples": [[]], "deprecated": True, "x-own": 1,
                "if": {}, "then": {}, "not": {}, "minItems": 1,
            },
            {"type": "array", "minItems": 1, "items": TEXT},
        )  # fmt: skip
        self.check({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"})
        self.check({"type": "integer", "format": "int32"}, {"type": "integer", "format": "int32"})
        self.check({"type": "integer", "format": "date-time"}, {"type": "integer"})

    def test_arrays(self) -> None:
        """Arrays have items; a tuple's members are alternatives."""
        self.check({"type": "array"}, {"type": "array", "items": TEXT})
        self.check({"type": "array", "items": {}}, {"type": "array", "items": TEXT})
        self.check(
            {"type": "array", "prefixItems": [TEXT, {"type": "integer"}, TEXT]},
            {"type": "array", "items": {"anyOf": [TEXT, {"type": "integer"}]}},
        )
        self.check({"type": "array", "items": [TEXT, TEXT]}, {"type": "array", "items": TEXT})

    def test_inferred(self) -> None:
        """A missing type is told by what is there."""
        self.check({"properties": {"b": TEXT}}, {"type": "object", "properties": {"b": TEXT}})
        self.check({"items": TEXT}, {"type": "array", "items": TEXT})
        self.check({"enum": ["a"]}, {"type": "string", "enum": ["a"]})
        self.check({"description": "d"}, {"type": "string", "description": "d"})

    def test_free_objects(self) -> None:
        """An object without properties is refused at the top (left out) and told as JSON inside."""
        self.check({"type": "object", "description": "d"}, {"type": "string", "description": "d (an object as JSON)"})
        self.check({"type": "object", "additionalProperties": TEXT}, FREE)
        self.assertIsNone(clean({"type": "object", "additionalProperties": TEXT}, "gemini_schema"))

    def test_required(self) -> None:
        """Only properties that exist are required."""
        found = clean({"type": "object", "properties": {"a": TEXT}, "required": ["a", "b"]}, "gemini_schema")
        self.assertEqual(found, {"type": "object", "properties": {"a": TEXT}, "required": ["a"]})
        found = clean({"type": "object", "properties": {"a": TEXT}, "required": ["b"]}, "gemini_schema")
        self.assertEqual(found, {"type": "object", "properties": {"a": TEXT}})

    def test_names(self) -> None:
        """Properties that are called like words stay, in their order."""
        schema = {"type": "object", "properties": dict.fromkeys(NAMES, TEXT), "required": list(NAMES)}
        self.assertEqual(json.dumps(clean(schema, "gemini_schema")), json.dumps(schema))

    def test_conditions(self) -> None:
        """Alternatives that only say what goes together go; those that are objects are merged at the top."""
        schema = {
            "type": "object",
            "properties": {"a": TEXT, "b": TEXT},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        }
        self.assertEqual(clean(schema, "gemini_schema"), {"type": "object", "properties": {"a": TEXT, "b": TEXT}})
        one = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
        two = {"type": "object", "properties": {"b": TEXT}}
        self.assertEqual(
            clean({"anyOf": [one, two]}, "gemini_schema"), {"type": "object", "properties": {"a": TEXT, "b": TEXT}}
        )
        self.check({"type": "string", "anyOf": [{"maxLength": 3}, {"enum": ["long"]}]},
                   {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "string", "enum": ["long"]}]})  # fmt: skip

    def test_outputs(self) -> None:
        """An output may be a list or a choice."""
        self.assertEqual(clean({"type": "array", "items": TEXT}, "gemini_schema"), {"type": "array", "items": TEXT})
        self.assertEqual(clean({"enum": ["a", "b"]}, "gemini_schema"), {"type": "string", "enum": ["a", "b"]})

    @given(SCHEMAS)
    def test_known_words_only(self, schema: dict[str, Any]) -> None:
        """Every schema comes out in the message's own words, with one type or alternatives, as the SDK reads it."""
        found = clean(schema, "gemini_schema")
        if found is None:
            return
        types.Schema.model_validate(found)

        def check(node: dict[str, Any]) -> None:
            self.assertLessEqual(node.keys(), KNOWN)
            self.assertTrue(("type" in node) != ("anyOf" in node), node)
            if "anyOf" in node:
                self.assertGreater(len(node["anyOf"]), 1)
            elif node["type"] == "object":
                self.assertTrue(node["properties"])
                self.assertLessEqual(set(node.get("required", ())), node["properties"].keys())
            elif node["type"] == "array":
                check(node["items"])
            for value in node.get("enum", ()):
                self.assertTrue(isinstance(value, str) and value)
            for inner in (*node.get("properties", {}).values(), *node.get("anyOf", ())):
                check(inner)

        check(found)


class ReadTests(SynchronousTestCase):
    """A ``Schema`` of a Gemini client."""

    def test_read(self) -> None:
        """Types in lower case, null as a type, 64-bit integers as numbers, either spelling of names."""
        schema = {
            "type": "OBJECT",
            "properties": {
                "type": {"type": "STRING", "format": "enum", "enum": ["A"], "nullable": True},
                "list": {
                    "type": "ARRAY",
                    "items": {"type": "INTEGER", "format": "int64"},
                    "minItems": "1",
                    "max_items": 3,
                },
                "one": {"anyOf": [{"type": "NUMBER"}, {"any_of": [{"type": "BOOLEAN"}]}], "example": 5},
                "any": {"type": "TYPE_UNSPECIFIED"},
            },
            "required": ["type"],
            "propertyOrdering": ["type", "list"],
        }
        self.assertEqual(
            from_gemini(schema),
            {
                "type": "object",
                "properties": {
                    "type": {"type": ["string", "null"], "enum": ["A", None]},
                    "list": {
                        "type": "array",
                        "items": {"type": "integer", "format": "int64"},
                        "minItems": 1,
                        "maxItems": 3,
                    },
                    "one": {"anyOf": [{"type": "number"}, {"anyOf": [{"type": "boolean"}]}], "examples": [5]},
                    "any": {},
                },
                "required": ["type"],
            },
        )

    def test_names(self) -> None:
        """A property may have the name of a word in either spelling."""
        schema = {
            "type": "OBJECT",
            "properties": {name: {"type": "STRING"} for name in (*NAMES, "any_of", "min_items")},
        }
        self.assertEqual(list(from_gemini(schema)["properties"]), [*NAMES, "any_of", "min_items"])

    def test_round_trip(self) -> None:
        """What it can say comes back the same."""
        schema = {
            "type": "object",
            "properties": {
                "a": {"type": "string", "nullable": True, "description": "d"},
                "b": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 4},
                "c": {"anyOf": [TEXT, {"type": "boolean"}]},
                "d": {"type": "string", "enum": ["x", "y"]},
            },
            "required": ["a"],
        }
        self.assertEqual(clean(from_gemini(schema), "gemini_schema"), schema)
