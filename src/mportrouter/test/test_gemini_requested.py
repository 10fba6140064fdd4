"""Tests for :mod:`mportrouter.dialects.gemini_requested`: tools, their choice, how the answer shall be made."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    CacheMark,
    Conversation,
    OutputFormat,
    ReasoningControl,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..dialects.gemini import GeminiDialect
from ..interfaces import Inexpressible, Target
from ..settings import Capabilities
from .test_gemini_writing import CLOCK, HI, NEWEST, OLDER, SCHEMA, prepared, written


def config(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = written(**options).get("generationConfig", {})
    types.GenerationConfig.model_validate(found)
    return found


class ToolTests(SynchronousTestCase):
    """Tools and their choice."""

    def test_functions(self) -> None:
        """All functions stand in one element; an empty schema is left out; the kind of schema is the model's."""
        tools = (CLOCK, Tool("none"), Tool("empty", schema={"type": "object", "properties": {}}))
        for columns, name in ((NEWEST, "parametersJsonSchema"), (OLDER, "parameters")):
            (element,) = written(tools=tools, columns=columns)["tools"]
            declared = element["functionDeclarations"]
            self.assertEqual([each["name"] for each in declared], ["clock", "none", "empty"])
            self.assertEqual(declared[0][name], SCHEMA)
            self.assertEqual(set(declared[1]), {"name"})
            self.assertNotIn("parameters", declared[2])
        self.assertNotIn("tools", written())

    def test_schema(self) -> None:
        """What the older form of schemas does not know is taken out; properties called like keywords stay."""
        schema = {
            "$schema": "x",
            "type": "object",
            "properties": {
                "type": {"type": ["string", "null"]},
                "format": {"const": "x"},
                "properties": {"type": "integer"},
            },
            "additionalProperties": False,
        }
        (element,) = written(tools=(Tool("f", schema=schema),), columns=OLDER)["tools"]
        found = element["functionDeclarations"][0]["parameters"]
        self.assertEqual(set(found["properties"]), {"type", "format", "properties"})
        self.assertNotIn("$schema", found)
        self.assertNotIn("additionalProperties", found)
        self.assertEqual(found["properties"]["type"], {"type": "string", "nullable": True})

    def test_names(self) -> None:
        """An illegal name is another one everywhere, and told for the way back; custom tools are functions."""
        tools = (Tool("1 bad"), Tool("raw", kind="custom"), Tool("x", namespace="n"))
        calls = Turn(
            "assistant",
            (
                ToolCall("a", "1 bad", "{}"),
                ToolCall("b", "raw", "text", custom=True),
                ToolCall("c", "x", "{}", namespace="n"),
            ),
        )
        results = Turn("user", (ToolResult("a"), ToolResult("b", custom=True), ToolResult("c")))
        found = prepared(HI, calls, results, tools=tools, tool_choice=ToolChoice("one", "1 bad"), columns=OLDER)
        body = json.loads(found.body)
        declared = body["tools"][0]["functionDeclarations"]
        names = [each["name"] for each in declared]
        self.assertEqual(names[1:], ["raw", "n__x"])
        self.assertRegex(names[0], r"\A[a-zA-Z_][a-zA-Z0-9_.:-]*\Z")
        self.assertEqual([part["functionCall"]["name"] for part in body["contents"][1]["parts"]], names)
        self.assertEqual([part["functionResponse"]["name"] for part in body["contents"][2]["parts"]], names)
        self.assertEqual(body["contents"][1]["parts"][1]["functionCall"]["args"], {"input": "text"})
        self.assertEqual(body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"], names[:1])
        self.assertEqual(
            {name: tool.name for name, tool in found.names.items()}, {names[0]: "1 bad", "raw": "raw", "n__x": "x"}
        )

    def test_choice(self) -> None:
        """Each choice has its mode; with none the declarations stay; a list that allows nothing is none."""
        tools = (CLOCK, Tool("other"))
        for choice, calling in (
            (None, None),
            (ToolChoice("auto"), {"mode": "AUTO"}),
            (ToolChoice("required"), {"mode": "ANY"}),
            (ToolChoice("one", "clock"), {"mode": "ANY", "allowedFunctionNames": ["clock"]}),
            (ToolChoice("none"), {"mode": "NONE"}),
            (
                ToolChoice("required", allowed=("clock", "other")),
                {"mode": "ANY", "allowedFunctionNames": ["clock", "other"]},
            ),
            (ToolChoice("required", allowed=()), {"mode": "NONE"}),
            (ToolChoice("auto", allowed=()), {"mode": "NONE"}),
        ):
            body = written(tools=tools, tool_choice=choice)
            self.assertEqual(body.get("toolConfig", {}).get("functionCallingConfig"), calling, choice)
            self.assertEqual(len(body["tools"][0]["functionDeclarations"]), 2, choice)
        body = written(tools=tools, tool_choice=ToolChoice("auto", allowed=("other",)))
        self.assertEqual([each["name"] for each in body["tools"][0]["functionDeclarations"]], ["other"])
        self.assertNotIn("toolConfig", written(tool_choice=ToolChoice("auto")))

    def test_choice_refused(self) -> None:
        """A forced tool that cannot be is refused, not forgotten."""
        for options in (
            {"tools": (CLOCK,), "tool_choice": ToolChoice("one", "gone")},
            {"tool_choice": ToolChoice("one", "gone")},
            {
                "tools": (CLOCK,),
                "tool_choice": ToolChoice("required"),
                "columns": {**NEWEST, "tool_choice_force": "refused"},
            },
        ):
            self.assertRaises(Inexpressible, prepared, **options)

    def test_parallel(self) -> None:
        """There is no switch against parallel calls, which is told; wanting them says nothing."""
        for dialect, word in (("anthropic", "disable_parallel_tool_use"), ("openai-chat", "parallel_tool_calls")):
            found = prepared(tools=(CLOCK,), parallel=False, dialect=dialect)
            self.assertEqual(found.dropped, (word,))
        found = prepared(tools=(CLOCK,), parallel=True)
        self.assertEqual(found.dropped, ())
        self.assertNotIn(b"toolConfig", found.body)

    def test_server_tools(self) -> None:
        """What the provider runs itself is offered under its name, beside functions only where that is taken."""
        search = Tool("web_search", kind="server", server="web_search", options={"allowed_domains": ["x"]})
        code = Tool("code", kind="server", server="code_execution")
        fetch = Tool("fetch", kind="server", server="web_fetch")
        found = prepared(tools=(CLOCK, search, code, fetch))
        self.assertEqual(
            json.loads(found.body)["tools"][1:], [{"googleSearch": {}}, {"codeExecution": {}}, {"urlContext": {}}]
        )
        self.assertEqual(found.dropped, ("tools.web_search.allowed_domains",))
        self.assertEqual(json.loads(found.body)["toolConfig"], {"includeServerSideToolInvocations": True})
        self.assertNotIn("toolConfig", written(tools=(search,)))
        found = prepared(tools=(CLOCK, search), columns=OLDER)
        self.assertEqual(len(json.loads(found.body)["tools"]), 1)
        self.assertEqual(found.dropped, ("tools.web_search",))
        self.assertEqual(written(tools=(search,), columns=OLDER)["tools"], [{"googleSearch": {}}])
        self.assertRaises(Inexpressible, prepared, tools=(code,), columns=OLDER)
        self.assertRaises(
            Inexpressible, prepared, tools=(CLOCK, search), columns=OLDER, tool_choice=ToolChoice("one", "web_search")
        )
        self.assertEqual(prepared(tools=(CLOCK, Tool("m", kind="server", server="mcp"))).dropped, ("tools.m",))


class ConfigTests(SynchronousTestCase):
    """How the answer shall be made."""

    def test_sampling(self) -> None:
        """Each member has its name here; nothing said is nothing written."""
        sampling = Sampling(0.5, 0.9, 40, ("X",), 3, 1, 0.1, 0.2, None, True, 2)
        self.assertEqual(
            config(sampling=sampling, max_output=9),
            {
                "temperature": 0.5, "topP": 0.9, "topK": 40, "seed": 3, "presencePenalty": 0.1, "frequencyPenalty": 0.2,
                "responseLogprobs": True, "logprobs": 2, "stopSequences": ["X"], "maxOutputTokens": 9,
            },
        )  # fmt: skip
        self.assertNotIn("generationConfig", written())

    def test_refused_sampling(self) -> None:
        """What a model refuses is left out and told; a temperature beyond its limit is the limit."""
        columns = {**NEWEST, "sampling_refused": ("temperature", "top_p", "top_k", "penalties", "seed", "logprobs")}
        sampling = Sampling(0.5, 0.9, 40, (), 3, None, 0.1, 0.2, {"1": 2}, True, 2)
        found = prepared(sampling=sampling, columns=columns, dialect="gemini")
        self.assertNotIn(b"generationConfig", found.body)
        self.assertEqual(
            found.dropped,
            (
                "temperature",
                "topP",
                "topK",
                "seed",
                "presencePenalty",
                "frequencyPenalty",
                "responseLogprobs",
                "logprobs",
                "logit_bias",
            ),
        )
        found = prepared(sampling=Sampling(temperature=2.5))
        self.assertEqual(
            (json.loads(found.body)["generationConfig"], found.dropped), ({"temperature": 2.0}, ("temperature=2",))
        )

    def test_stops(self) -> None:
        """At most five stop sequences go, empty ones none; the rest is told."""
        found = prepared(sampling=Sampling(stop=("", *"abcdef")))
        self.assertEqual(json.loads(found.body)["generationConfig"]["stopSequences"], list("abcde"))
        self.assertEqual(found.dropped, ("stop_sequences (the first 5)",))
        self.assertNotIn("generationConfig", written(sampling=Sampling(stop=("",))))

    def test_choices(self) -> None:
        """One answer is what there is; more are refused by the client's name for it."""
        self.assertNotIn("generationConfig", written(sampling=Sampling(choices=1)))
        for dialect, word in (("openai-chat", "`n`"), ("gemini", "`candidateCount`")):
            with self.assertRaises(Inexpressible) as raised:
                prepared(sampling=Sampling(choices=2), dialect=dialect)
            self.assertIn(word, raised.exception.message)

    def test_limit(self) -> None:
        """A limit beyond the model's is the model's; none and zero are none."""
        columns = {**NEWEST, "max_output": 100}
        found = prepared(max_output=200, columns=columns)
        self.assertEqual(
            (json.loads(found.body)["generationConfig"], found.dropped), ({"maxOutputTokens": 100}, ("max_tokens=100",))
        )
        self.assertNotIn("generationConfig", written(max_output=0))

    def test_budgets(self) -> None:
        """Models with budgets: off, a number, an effort as a number, as the model likes."""
        for control, thinking in (
            (ReasoningControl("off"), {"thinkingBudget": 0}),
            (ReasoningControl("on", budget=2000), {"thinkingBudget": 2000, "includeThoughts": True}),
            (ReasoningControl("on", budget=10), {"thinkingBudget": 128, "includeThoughts": True}),
            (ReasoningControl(None, "low"), {"thinkingBudget": 1024}),
            (ReasoningControl("adaptive", show="omitted"), {"thinkingBudget": -1}),
            (ReasoningControl(show="summarised"), {"includeThoughts": True}),
            (None, None),
        ):
            self.assertEqual(config(reasoning=control, columns=OLDER).get("thinkingConfig"), thinking, control)
        never = {**OLDER, "reasoning_off": False}
        self.assertEqual(
            config(reasoning=ReasoningControl("off"), columns=never)["thinkingConfig"], {"thinkingBudget": 128}
        )

    def test_levels(self) -> None:
        """Models with levels: an effort or budget is the nearest level, as the model likes is nothing; never both."""
        for control, thinking in (
            (ReasoningControl(None, "high"), {"thinkingLevel": "HIGH"}),
            (ReasoningControl(None, "max", show="summarised"), {"thinkingLevel": "HIGH", "includeThoughts": True}),
            (ReasoningControl("on", budget=1024), {"thinkingLevel": "LOW", "includeThoughts": True}),
            (ReasoningControl("off"), {"thinkingLevel": "LOW"}),
            (ReasoningControl("adaptive"), {"includeThoughts": True}),
        ):
            self.assertEqual(config(reasoning=control).get("thinkingConfig"), thinking, control)
        none = {**NEWEST, "reasoning_kind": "none"}
        self.assertNotIn("generationConfig", written(reasoning=ReasoningControl("on", budget=1), columns=none))

    def test_formats(self) -> None:
        """A format is a type and a schema in the model's form; what cannot be bound is told or refused."""
        schema = OutputFormat("json_schema", SCHEMA, "n", True)
        json_type = {"responseMimeType": "application/json"}
        self.assertEqual(config(output=OutputFormat("json")), json_type)
        self.assertEqual(config(output=schema), {**json_type, "responseJsonSchema": SCHEMA})
        self.assertEqual(config(output=schema, columns=OLDER), {**json_type, "responseSchema": SCHEMA})
        found = prepared(output=schema, tools=(CLOCK,), columns=OLDER)
        self.assertNotIn(b"responseMimeType", found.body)
        self.assertEqual(found.dropped, ("output_config.format (not together with tools)",))
        found = prepared(output=schema, columns={**OLDER, "output_format": "json"})
        self.assertEqual((json.loads(found.body)["generationConfig"], len(found.dropped)), (json_type, 1))
        for columns in ({**OLDER, "output_format": "none"}, {**OLDER, "structured_output": "refused"}):
            self.assertRaises(Inexpressible, prepared, output=schema, columns=columns)

    def test_beside(self) -> None:
        """What has no place here is told by its name; hints to caches are not worth a word."""
        found = prepared(
            Turn("user", (Text("hi", cache=CacheMark("1h")),)), cache_key="k", user="u", metadata={"a": "b"},
            verbosity="low", service_tier="flex", unread=("store",), dialect="openai-responses",
        )  # fmt: skip
        self.assertEqual(found.dropped, ("service_tier", "metadata", "text.verbosity", "store"))
        columns = {**NEWEST, "identity_fields": ("service_tier", "metadata")}
        body = written(service_tier="flex", metadata={"a": "b"}, dialect="gemini", columns=columns)
        self.assertEqual((body["serviceTier"], body["labels"]), ("flex", {"a": "b"}))

    def test_count(self) -> None:
        """To be counted a request goes with its instructions and tools, and its model by its full name."""
        target = Target("gemini", "g", Capabilities(**NEWEST))
        conversation = Conversation("anthropic", "m", (HI,), system=(Text("s"),), tools=(CLOCK,), stream=True)
        found = GeminiDialect().write_count(conversation, target)
        self.assertEqual((found.path, found.query), (b"/v1beta/models/g:countTokens", b""))
        inner = json.loads(found.body)["generateContentRequest"]
        self.assertEqual(inner["model"], "models/g")
        self.assertEqual(set(inner), {"model", "systemInstruction", "contents", "tools"})
