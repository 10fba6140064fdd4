"""Tests for :mod:`mportrouter.schemas` and what is standard of them; Gemini's are in :mod:`test_schemas_gemini`."""

from __future__ import annotations

import copy
import json
from typing import Any

from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..schemas import clean, obeys_strict
from ..schemas_standard import pointed

EMPTY = {"type": "object", "properties": {}}
TEXT = {"type": "string"}

#: A property for every word of a schema, so that none of them may be taken for one.
NAMES = (
    "type",
    "properties",
    "items",
    "$ref",
    "default",
    "format",
    "enum",
    "anyOf",
    "required",
    "nullable",
    "$defs",
    "const",
)


def nested(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


class TopTests(SynchronousTestCase):
    """The schema of arguments is an object with properties."""

    def check(self, schema: Any, wanted: Any) -> None:
        for profile in ("openai", "anthropic"):
            self.assertEqual(clean(schema, profile), wanted, profile)

    def test_nothing(self) -> None:
        """No schema is left out where it may be; the boolean ones and the empty one are any object."""
        self.assertIsNone(clean(None, "openai"))
        self.assertEqual(clean(None, "anthropic"), EMPTY)
        for schema in (True, False, {}, {"type": "object"}, {"type": None}, EMPTY):
            self.check(schema, EMPTY)
        for schema in (None, True, False, {}, EMPTY, {"type": "object", "properties": {}, "required": []}):
            self.assertIsNone(clean(schema, "gemini_json_schema"))
            self.assertIsNone(clean(schema, "gemini_schema"))

    def test_plain(self) -> None:
        """A usual schema stays word for word, and in its order."""
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "b": {"type": "string", "enum": ["x", "", None]},
                "a": {"type": ["integer", "null"], "minimum": 1},
            },
            "required": ["b"],
            "additionalProperties": False,
        }
        self.check(schema, schema)
        self.assertEqual(json.dumps(clean(schema, "openai")), json.dumps(schema))

    def test_missing_type(self) -> None:
        """A type that is missing, or in capitals, or one of several, is an object's."""
        self.check({"properties": {"a": TEXT}}, nested(TEXT))
        self.check({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}, nested(TEXT))
        self.check({"type": ["object", "null"], "properties": {"a": TEXT}}, nested(TEXT))

    def test_no_object(self) -> None:
        """Arguments are never a bare text: what is said of one means nothing."""
        self.check(
            {"type": "string", "minLength": 3, "description": "d"},
            {"type": "object", "description": "d", "properties": {}},
        )
        self.check({"enum": ["a"], "type": "object"}, EMPTY)

    def test_alternatives(self) -> None:
        """Alternatives at the top become one object: all their properties, required what all require."""
        one = {"type": "object", "properties": {"kind": {"const": "a"}, "x": TEXT}, "required": ["kind", "x"]}
        two = {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}
        for word in ("anyOf", "oneOf"):
            self.check(
                {"description": "d", word: [one, two]},
                {
                    "type": "object",
                    "description": "d",
                    "properties": {"kind": {"anyOf": [{"const": "a"}, {"const": "b"}]}, "x": TEXT},
                    "required": ["kind"],
                },
            )
        required = {**nested(TEXT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "required": ["c"]}
        self.check(required, {**nested(TEXT), "required": ["c"]})
        self.check({"anyOf": [one, {"type": "null"}]}, one)
        closed = [{**one, "additionalProperties": False}, {**two, "additionalProperties": False}]
        found = clean({"anyOf": closed}, "openai")
        assert found is not None
        self.assertIs(found["additionalProperties"], False)

    def test_all(self) -> None:
        """Of ``allOf`` everything holds."""
        one = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
        two = {"properties": {"b": TEXT, "a": {"maxLength": 3}}, "required": ["b"], "description": "d"}
        self.check(
            {"allOf": [one, two]},
            {
                "type": "object",
                "description": "d",
                "properties": {"a": {"type": "string", "maxLength": 3}, "b": TEXT},
                "required": ["a", "b"],
            },
        )

    def test_reference(self) -> None:
        """A reference at the top, or in an alternative there, is read; what it needs stays."""
        defs = {"A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}, "required": ["b"]}, "B": TEXT}
        wanted = {**defs["A"], "$defs": defs}
        self.check({"$ref": "#/$defs/A", "$defs": defs}, wanted)
        self.check({"anyOf": [{"$ref": "#/$defs/A"}], "$defs": defs}, wanted)
        self.check({"$ref": "#/$defs/gone"}, EMPTY)

    def test_pointed(self) -> None:
        """A pointer's escapes are undone; one that leads nowhere, or to another document, is nothing."""
        root = {"$defs": {"a/b~c": {"x": 1}, "\u00fc": {"y": 1}}, "anyOf": [{"z": 1}]}
        self.assertEqual(pointed(root, "#/$defs/a~1b~0c"), {"x": 1})
        self.assertEqual(pointed(root, "#/$defs/%C3%BC"), {"y": 1})
        self.assertEqual(pointed(root, "#/anyOf/0"), {"z": 1})
        self.assertEqual(pointed(root, "#"), root)
        for reference in ("#/anyOf/1", "#/anyOf/x", "#/$defs/gone", "http://127.0.0.1/#/$defs", "", None, 5):
            self.assertIsNone(pointed(root, reference))


class StandardTests(SynchronousTestCase):
    """What is put right inside."""

    def check(self, schema: Any, wanted: Any, openai: Any = None) -> None:
        """:param openai: what OpenAI wants besides."""
        for profile in ("openai", "anthropic", "gemini_json_schema"):
            special = openai is not None and profile == "openai"
            self.assertEqual(clean(nested(schema), profile), nested(openai if special else wanted), profile)

    def test_names(self) -> None:
        """Properties that are called like words of a schema stay; so do values."""
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}, "required": list(NAMES)}
        value = {"nullable": True, "type": "STRING", "items": [1]}
        schema["properties"]["v"] = {
            "type": "object",
            "default": value,
            "const": value,
            "enum": [value],
            "examples": [value],
        }
        self.check(schema, schema)

    def test_arrays_for_openai(self) -> None:
        """OpenAI refuses an array that does not say what it holds, wherever it stands; a property is no array."""
        bare = {"type": "array"}
        for schema, wanted in (
            (bare, {**bare, "items": {}}),
            ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
            ({"anyOf": [bare, TEXT]}, {"anyOf": [{**bare, "items": {}}, TEXT]}),
            ({**bare, "items": bare}, {**bare, "items": {**bare, "items": {}}}),
        ):
            self.assertEqual(clean(nested(schema), "openai"), nested(wanted))
            self.assertEqual(clean(nested(schema), "anthropic"), nested(schema))
        value = {"type": "object", "properties": {"type": TEXT}, "default": bare, "enum": [bare]}
        self.assertEqual(clean(nested(value), "openai"), nested(value))

    def test_booleans(self) -> None:
        """The schema that anything fits is the empty one; one that nothing fits goes."""
        self.check(
            {"type": "object", "properties": {"x": True, "y": False}}, {"type": "object", "properties": {"x": {}}}
        )
        self.check({"anyOf": [True, False, TEXT]}, {"anyOf": [{}, TEXT]})
        self.check({"type": "array", "items": True}, {"type": "array", "items": {}})
        self.check({"type": "array", "items": False}, {"type": "array"}, {"type": "array", "items": {}})
        for value in (True, False):
            self.check(
                {"type": "object", "additionalProperties": value}, {"type": "object", "additionalProperties": value}
            )
        self.check({"anyOf": [], "not": True}, {})

    def test_types(self) -> None:
        """Types get their standard names; what is none goes."""
        for value, wanted in (
            ("STRING", {"type": "string"}),
            (["Integer", "NULL", "integer"], {"type": ["integer", "null"]}),
            (["string"], {"type": "string"}),
            ("float", {"type": "number"}),
            ("dict", {"type": "object"}),
            ("any", {}),
            ("TYPE_UNSPECIFIED", {}),
            (None, {}),
            ([], {}),
            (5, {}),
        ):
            self.check({"type": value}, wanted)

    def test_nullable(self) -> None:
        """OpenAPI's ``nullable`` becomes a type, an alternative, and a value of an ``enum``."""
        self.check({"type": "string", "nullable": True}, {"type": ["string", "null"]})
        self.check({"type": ["string", "integer"], "nullable": True}, {"type": ["string", "integer", "null"]})
        self.check({"type": "string", "nullable": False}, TEXT)
        self.check(
            {"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}
        )
        self.check({"anyOf": [TEXT], "nullable": True}, {"anyOf": [TEXT, {"type": "null"}]})
        self.check(
            {"$ref": "#/properties/x", "nullable": True}, {"anyOf": [{"$ref": "#/properties/x"}, {"type": "null"}]}
        )
        self.check({"nullable": True}, {})

    def test_older_drafts(self) -> None:
        """Tuples, boolean limits and boolean ``required`` are of older drafts."""
        pair = {"type": "array", "prefixItems": [TEXT, {}]}
        self.check({"type": "array", "items": [TEXT, True]}, pair, {**pair, "items": {}})
        self.check(
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 1}
        )
        self.check({"type": "integer", "maximum": 1, "exclusiveMaximum": False}, {"type": "integer", "maximum": 1})
        self.check({"type": "string", "required": True}, TEXT)

    def test_identity(self) -> None:
        """``$schema`` and ``$id`` go where Gemini reads the schema."""
        schema = {"$schema": "s", "$id": "i", **nested(TEXT)}
        self.assertEqual(clean(schema, "gemini_json_schema"), nested(TEXT))
        self.assertEqual(clean(schema, "anthropic"), schema)

    def test_odd(self) -> None:
        """What is no schema at all harms nothing, however deep; lone surrogates and huge numbers pass."""
        deep: Any = {}
        for _ in range(300):
            deep = {"properties": {"a": deep}}
        for profile in ("openai", "anthropic", "anthropic_output", "gemini_schema", "gemini_json_schema"):
            for schema in (
                {
                    "properties": 5,
                    "anyOf": 5,
                    "required": 5,
                    "enum": 5,
                    "items": 5,
                    "$defs": 5,
                    "allOf": [5],
                    "$ref": 5,
                },
                {"properties": {"a": 5, "b": None, "c": [], "d": {"enum": 5, "items": "x", "minItems": "x"}}},
                {
                    "type": "object",
                    "properties": {"a": {"description": 5, "pattern": None, "minimum": "1", "format": []}},
                },
                {"$ref": "#"},
                {"allOf": [{"$ref": "#"}]},
                {"anyOf": [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}]}]},
                deep,
                nested({"const": 1e400, "minimum": 1e400, "exclusiveMinimum": 1e400}),
            ):
                found = clean(schema, profile)
                self.assertTrue(found is None or isinstance(found, dict))
        every: Any = {"type": "object", "properties": {"a": TEXT}}
        for _ in range(30):
            every = {"type": "object", "properties": {"a": every}, "anyOf": [{"properties": {}}] * 3}
        loops: Any = {"allOf": [{"$ref": "#"}] * 4, "anyOf": [{"$ref": "#"}] * 4, "properties": {"a": {"$ref": "#"}}}
        for profile in ("openai", "anthropic_output", "gemini_schema"):
            for schema in (every, loops):
                self.assertLess(len(json.dumps(clean(schema, profile))), 2_000_000)
        odd = nested({"type": "integer", "description": "\ud83d", "maximum": 10**30})
        self.assertEqual(clean(odd, "openai"), odd)

    def test_unknown_profile(self) -> None:
        """A profile that nobody knows is an error of the catalogue, not a schema."""
        self.assertRaises(KeyError, clean, nested(TEXT), "other")


_leaves = st.sampled_from(
    [
        TEXT,
        {"type": "integer", "minimum": 1},
        {"enum": ["a"]},
        {},
        True,
        False,
        {"const": 5},
        {"type": "NULL"},
        {"$ref": "#"},
    ]
)
_schemas: Any = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)},
            optional={
                "required": st.lists(st.sampled_from(NAMES), max_size=3),
                "additionalProperties": inner,
                "description": st.just("d"),
                "anyOf": st.lists(inner, max_size=3),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")}, optional={"items": inner, "prefixItems": st.lists(inner, max_size=2)}
        ),
        st.fixed_dictionaries(
            {"anyOf": st.lists(inner, max_size=3)},
            optional={"nullable": st.booleans(), "type": st.sampled_from(["string", "object"])},
        ),
        st.fixed_dictionaries({"allOf": st.lists(inner, max_size=3)}),
    ),
    max_leaves=12,
)
SCHEMAS = _schemas.filter(lambda schema: isinstance(schema, dict))
"""Schemas with references, names like words, and everything else that nests."""


class PropertyTests(SynchronousTestCase):
    """What holds of every schema."""

    @given(SCHEMAS, st.sampled_from(["openai", "anthropic", "anthropic_output", "gemini_schema", "gemini_json_schema"]))
    def test_cleaned(self, schema: dict[str, Any], profile: str) -> None:
        """The source is not changed, and the same source gives the same text."""
        before = copy.deepcopy(schema)
        first = clean(schema, profile)
        self.assertEqual(schema, before)
        self.assertEqual(json.dumps(first), json.dumps(clean(before, profile)))

    @given(SCHEMAS)
    def test_clean_stays(self, schema: dict[str, Any]) -> None:
        """What was cleaned is clean, and an object at the top without alternatives."""
        once = clean(schema, "openai")
        self.assertEqual(clean(once, "openai"), once)
        assert once is not None
        self.assertEqual(once["type"], "object")
        self.assertIsInstance(once["properties"], dict)
        self.assertFalse(once.keys() & {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"})


class OutputTests(SynchronousTestCase):
    """The subset of Anthropic's structured outputs."""

    def check(self, schema: dict[str, Any], wanted: dict[str, Any]) -> None:
        found = clean(
            {"type": "object", "properties": {"a": schema}, "additionalProperties": False}, "anthropic_output"
        )
        assert found is not None
        self.assertEqual(found["properties"]["a"], wanted)

    def test_objects(self) -> None:
        """Every object is closed; what is required must be there."""
        schema = {"type": "object", "properties": {"b": nested(TEXT)}, "required": ["b", "gone"]}
        self.assertEqual(
            clean(schema, "anthropic_output"),
            {
                "type": "object",
                "properties": {"b": {**nested(TEXT), "additionalProperties": False}},
                "required": ["b"],
                "additionalProperties": False,
            },
        )
        self.assertEqual(clean({}, "anthropic_output"), {**EMPTY, "additionalProperties": False})
        self.assertEqual(clean(None, "anthropic_output"), {**EMPTY, "additionalProperties": False})

    def test_constraints(self) -> None:
        """What it does not know goes into the description, formats and least lengths that it knows stay."""
        self.check(
            {"type": "integer", "minimum": 1, "description": "d"},
            {"type": "integer", "description": "d\n\n{minimum: 1}"},
        )
        self.check(
            {"type": "string", "format": "uuid", "pattern": "x"},
            {"type": "string", "format": "uuid", "description": "{pattern: x}"},
        )
        self.check({"type": "string", "format": "byte"}, {"type": "string", "description": "{format: byte}"})
        self.check({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1})
        self.check(
            {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 3},
            {"type": "array", "items": TEXT, "description": "{minItems: 2, maxItems: 3}"},
        )

    def test_literals(self) -> None:
        """Primitive values stay as they are."""
        self.check({"type": "string", "enum": ["a", None]}, {"enum": ["a", None]})
        self.check({"const": 5}, {"const": 5})
        self.check({"enum": [[1]]}, {"description": "{enum: [[1]]}"})

    def test_alternatives(self) -> None:
        """``oneOf`` becomes ``anyOf``, what stands beside it is said in each; ``allOf`` stays."""
        self.check({"oneOf": [TEXT, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]})
        self.check(
            {"type": "string", "description": "d", "anyOf": [{"format": "uuid"}, {"const": "x"}]},
            {"anyOf": [{"type": "string", "format": "uuid"}, {"const": "x"}], "description": "d"},
        )
        self.check({"allOf": [TEXT]}, {"allOf": [TEXT]})
        self.check(
            {**nested(TEXT), "anyOf": [{"required": ["a"]}]},
            {**nested(TEXT), "additionalProperties": False, "description": '{anyOf: [{"required": ["a"]}]}'},
        )

    def test_references(self) -> None:
        """A reference stands alone; old ``definitions`` are ``$defs``."""
        schema = {
            "definitions": {"A": TEXT},
            "type": "object",
            "properties": {"a": {"$ref": "#/definitions/A", "description": "d"}},
        }
        found = clean(schema, "anthropic_output")
        assert found is not None
        self.assertEqual(found["$defs"], {"A": TEXT})
        self.assertEqual(found["properties"]["a"], {"$ref": "#/$defs/A"})

    @given(SCHEMAS)
    def test_nothing_is_left_over(self, schema: dict[str, Any]) -> None:
        """The SDK's own transformation finds nothing more to move into a description."""
        found = clean(schema, "anthropic_output")

        def words(node: Any) -> None:
            self.assertLessEqual(
                node.keys(),
                {"type", "properties", "required", "additionalProperties", "anyOf", "allOf", "enum", "const", "items"}
                | {"$ref", "$defs", "description", "title", "format", "minItems"},
            )
            if "properties" in node:
                self.assertIs(node["additionalProperties"], False)
            for inner in (*node.get("properties", {}).values(), *node.get("anyOf", ()), *node.get("allOf", ())):
                words(inner)
            if "items" in node:
                words(node["items"])

        words(found)

    def test_sdk(self) -> None:
        """On a plain schema the result is what the SDK makes of it."""
        schema = {
            "type": "object",
            "properties": {
                "a": {"type": "string", "maxLength": 3, "description": "d"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/N"}, "minItems": 1},
                "c": {"enum": ["x", "y"], "type": "string"},
                "d": {"oneOf": [TEXT, {"type": "null"}]},
            },
            "required": ["a"],
            "$defs": {"N": {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0}}}},
        }
        self.assertEqual(clean(schema, "anthropic_output"), transform_schema(copy.deepcopy(schema)))


class StrictTests(SynchronousTestCase):
    """OpenAI's strict mode."""

    def test_strict(self) -> None:
        """Every object closed, every property required, down to definitions and alternatives."""
        inner = {
            "type": "object",
            "properties": {"x": {"type": ["integer", "null"]}},
            "required": ["x"],
            "additionalProperties": False,
        }
        good = {
            "type": "object",
            "properties": {
                "a": TEXT,
                "b": {"type": "array", "items": inner},
                "c": {"anyOf": [inner, {"$ref": "#/$defs/D"}]},
            },
            "required": ["c", "a", "b"],
            "additionalProperties": False,
            "$defs": {"D": inner},
        }
        self.assertTrue(obeys_strict(good))
        self.assertTrue(obeys_strict({"type": "object", "properties": {}, "additionalProperties": False}))
        open_inner = {**inner, "additionalProperties": True}
        optional = {**inner, "required": []}
        for word, value in (
            ("required", ["a", "b"]),
            ("additionalProperties", True),
            ("additionalProperties", {"type": "string"}),
            ("type", "array"),
            ("allOf", [inner]),
            ("$defs", {"D": open_inner}),
            ("properties", {**good["properties"], "a": optional}),
            ("properties", {**good["properties"], "b": {"type": "array", "items": open_inner}}),
            ("properties", {**good["properties"], "c": {"anyOf": [optional]}}),
            ("properties", {**good["properties"], "a": {"properties": {}}}),
            ("properties", {**good["properties"], "a": True}),
            ("properties", {**good["properties"], "a": {"$ref": "#/$defs/D", "description": "d"}}),
            ("properties", 5),
            ("required", 5),
        ):
            self.assertFalse(obeys_strict({**good, word: value}), (word, value))
        self.assertFalse(obeys_strict({}))
        self.assertFalse(obeys_strict({"type": "object", "properties": {}}))
