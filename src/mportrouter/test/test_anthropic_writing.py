"""Tests for :mod:`mportrouter.dialects.anthropic_writing` and what it is made of."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    Conversation,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningControl,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..dialects.anthropic_writing import write_count, write_request
from ..interfaces import Inexpressible, Prepared, Target
from ..settings import Capabilities

USER = Turn("user", (Text("hi"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = Tool("f", "does", SCHEMA)
OWN = Opaque("anthropic", "", "signature", "sig")
BUDGET: dict[str, Any] = {"reasoning_kind": "budget", "reasoning_budget": (1024, 32000)}
ADAPTIVE: dict[str, Any] = {"reasoning_kind": "adaptive", "reasoning_levels": ("low", "medium", "high", "max")}


def conversation(*turns: Turn, **members: Any) -> Conversation:
    members.setdefault("dialect", "openai-chat")
    return Conversation(model="gpt", turns=turns or (USER,), **members)


def target(**columns: Any) -> Target:
    return Target("anthropic", "claude-x", Capabilities(**columns))


def prepare(*turns: Turn, columns: dict[str, Any] | None = None, **members: Any) -> Prepared:
    return write_request(conversation(*turns, **members), target(**(columns or {})))


def write(*turns: Turn, columns: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """The body as JSON."""
    return json.loads(prepare(*turns, columns=columns, **members).body)


class WritingTestCase(SynchronousTestCase):
    def refused(self, word: str, *turns: Turn, **options: Any) -> None:
        """Assert that a request cannot be expressed, for a reason that names the member."""
        error = self.assertRaises(Inexpressible, prepare, *turns, **options)
        self.assertIn(word, error.message)

    def dropped(self, *notes: str, **options: Any) -> dict[str, Any]:
        """Assert what is left out, and give what is left."""
        prepared = prepare(**options)
        self.assertEqual(prepared.dropped, notes)
        return json.loads(prepared.body)


class MemberTests(WritingTestCase):
    """The top level."""

    def test_plain(self) -> None:
        """A plain request has its model, its limit and its messages, which come last; no member is empty."""
        prepared = prepare()
        self.assertEqual(
            prepared.body,
            b'{"model":"claude-x","max_tokens":8192,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}',
        )
        self.assertEqual((prepared.dropped, prepared.path, prepared.query, prepared.names), ((), b"", b"", {}))

    def test_limit(self) -> None:
        """The limit is the client's, cut to the model's, or the model's, or one that is large enough."""
        self.assertEqual(write(max_output=77)["max_tokens"], 77)
        self.assertEqual(write(columns={"max_output": 64000})["max_tokens"], 64000)
        body = self.dropped("max_completion_tokens (sent as 100)", max_output=200, columns={"max_output": 100})
        self.assertEqual(body["max_tokens"], 100)

    def test_stream(self) -> None:
        """A stream is asked for where one is wanted, or the provider has nothing else."""
        self.assertTrue(write(stream=True)["stream"])
        self.assertTrue(write(columns={"stream_only": True})["stream"])

    def test_system(self) -> None:
        """Leading instructions are one block each; blank ones are none."""
        self.assertEqual(
            write(system=(Text("a"), Text(" "), Text("b")))["system"],
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        )
        self.assertNotIn("system", write(system=(Text(""),)))

    def test_only_system(self) -> None:
        """Where nobody said anything, the last instruction is what is to be done."""
        found = json.loads(write_request(Conversation("openai-chat", "m", (), (Text("do it"),)), target()).body)
        self.assertEqual(found["messages"], [{"role": "user", "content": [{"type": "text", "text": "do it"}]}])
        self.assertNotIn("system", found)

    def test_system_in_the_middle(self) -> None:
        """Instructions in mid-conversation stay where the model takes them, else they are a user's words."""
        turns = (USER, Turn("system", (Text("now"),)), Turn("assistant", (Text("ok"),)), USER)
        kept = write(*turns, columns={"mid_system": True})["messages"]
        self.assertEqual([one["role"] for one in kept], ["user", "system", "assistant", "user"])
        folded = write(*turns, columns={"mid_system": False})["messages"]
        self.assertEqual([one["role"] for one in folded], ["user", "assistant", "user"])
        self.assertIn("<system-reminder>\nnow", folded[0]["content"][1]["text"])

    def test_sampling(self) -> None:
        """Temperatures are cut to the dialect's; of temperature and ``top_p`` the first is kept; the rest is told."""
        self.assertEqual(write(sampling=Sampling(temperature=0.3, top_k=4))["temperature"], 0.3)
        body = self.dropped("temperature=1", sampling=Sampling(temperature=1.7))
        self.assertEqual(body["temperature"], 1)
        body = self.dropped("top_p (temperature is given)", sampling=Sampling(temperature=0.5, top_p=0.9))
        self.assertNotIn("top_p", body)
        self.assertEqual(write(sampling=Sampling(top_p=0.9))["top_p"], 0.9)
        refused = ("temperature", "top_p", "top_k")
        body = self.dropped(*refused, sampling=Sampling(0.5, 0.9, 5), columns={"sampling_refused": refused})
        self.assertEqual(set(body), {"model", "max_tokens", "messages"})
        self.dropped(
            "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
            sampling=Sampling(
                seed=1, presence_penalty=1.0, frequency_penalty=1.0, logit_bias={"1": 1}, logprobs=True, top_logprobs=2
            ),
        )  # fmt: skip
        self.dropped(sampling=Sampling(choices=1, presence_penalty=0.0, logprobs=False))

    def test_several_answers(self) -> None:
        """More than one answer is refused by the client's own name for it."""
        self.refused("`n`", sampling=Sampling(choices=2))
        self.refused("candidateCount", sampling=Sampling(choices=2), dialect="gemini")

    def test_stops(self) -> None:
        """Stops of white space are refused there and left out; too many are cut; none is no member."""
        body = self.dropped("stop (white space)", sampling=Sampling(stop=("a", "\n", "")))
        self.assertEqual(body["stop_sequences"], ["a"])
        body = self.dropped("stop (the first 1)", sampling=Sampling(stop=("a", "b")), columns={"stop_max": 1})
        self.assertEqual(body["stop_sequences"], ["a"])
        self.assertNotIn("stop_sequences", write(sampling=Sampling(stop=("\n",))))
        self.refused("`stop`", sampling=Sampling(stop=("a",)), columns={"stop_sequences": "refused"})

    def test_identity(self) -> None:
        """The person's id is sent where it fits; metadata, verbosity and foreign tiers have no place."""
        self.assertEqual(write(user="u")["metadata"], {"user_id": "u"})
        self.dropped("user", user="u" * 513)
        self.dropped(
            "metadata", "verbosity", "service_tier", metadata={"a": "b"}, verbosity="low", service_tier="priority"
        )
        for tier, wanted in (("auto", "auto"), ("default", "standard_only"), ("flex", "standard_only")):
            self.assertEqual(write(service_tier=tier)["service_tier"], wanted)

    def test_unread(self) -> None:
        """What the reader found no words for is told."""
        self.dropped("prediction", unread=("prediction",))

    def test_stripped(self) -> None:
        """Members that a provider refuses are left out, also inside of others."""
        columns = {
            **ADAPTIVE,
            "strip_fields": ("metadata",),
            "strip_thinking_fields": ("display",),
            "strip_output_config_fields": ("effort",),
            "strip_tool_fields": ("description",),
        }
        body = self.dropped(
            "metadata", "thinking.display", "output_config.effort",
            user="u", tools=(TOOL,), reasoning=ReasoningControl("adaptive", "low", show="summarised"), columns=columns,
        )  # fmt: skip
        self.assertEqual((body["thinking"], set(body["tools"][0])), ({"type": "adaptive"}, {"name", "input_schema"}))
        self.assertNotIn("output_config", body)

    def test_count(self) -> None:
        """What is counted is the prompt: the limits and the sampling are left out."""
        asked = conversation(tools=(TOOL,), system=(Text("s"),), stream=True, sampling=Sampling(0.5), user="u")
        prepared = write_count(asked, target())
        self.assertEqual(set(json.loads(prepared.body)), {"model", "messages", "system", "tools"})
        self.assertEqual(prepared.path, b"/v1/messages/count_tokens")


class ReasoningTests(WritingTestCase):
    """How reasoning is asked for."""

    def test_budget(self) -> None:
        """Budget models get tokens, whatever was asked for; the limit makes room for them where it can."""
        for control, budget in (
            (ReasoningControl(effort="low"), 1024),
            (ReasoningControl(effort="medium"), 8192),
            (ReasoningControl("on", budget=3000), 3000),
            (ReasoningControl("on", budget=100), 1024),
            (ReasoningControl("adaptive"), 8192),
        ):
            body = write(reasoning=control, columns={**BUDGET, "max_output": 64000})
            self.assertEqual(body["thinking"], {"type": "enabled", "budget_tokens": budget})
            self.assertNotIn("output_config", body)
            self.assertGreater(body["max_tokens"], budget)
        high = ReasoningControl(effort="high")
        roomy = write(reasoning=high, max_output=500, columns={**BUDGET, "max_output": 64000})
        self.assertEqual((roomy["max_tokens"], roomy["thinking"]["budget_tokens"]), (25076, 24576))
        narrow = write(reasoning=high, max_output=500, columns={**BUDGET, "max_output": 8000})
        self.assertEqual((narrow["max_tokens"], narrow["thinking"]["budget_tokens"]), (8000, 7999))
        unknown = write(reasoning=high, max_output=2000, columns=BUDGET)
        self.assertEqual((unknown["max_tokens"], unknown["thinking"]["budget_tokens"]), (2000, 1999))
        free = write(reasoning=high, columns=BUDGET)
        self.assertEqual((free["max_tokens"], free["thinking"]["budget_tokens"]), (32768, 24576))
        tiny = write(reasoning=high, max_output=500, columns=BUDGET)
        self.assertEqual((tiny["max_tokens"], tiny.get("thinking")), (500, {"type": "disabled"}))

    def test_adaptive(self) -> None:
        """Adaptive models get an effort that they know; a budget is put in words; what is shown is said."""
        body = write(reasoning=ReasoningControl(effort="xhigh", show="summarised"), columns=ADAPTIVE)
        self.assertEqual(body["thinking"], {"type": "adaptive", "display": "summarized"})
        self.assertEqual(body["output_config"], {"effort": "high"})
        body = write(reasoning=ReasoningControl("on", budget=8000, show="omitted"), columns=ADAPTIVE)
        self.assertEqual(body["thinking"], {"type": "adaptive", "display": "omitted"})
        self.assertEqual(body["output_config"], {"effort": "medium"})

    def test_off(self) -> None:
        """Reasoning is turned off where it can be; a model without any is told nothing."""
        off = ReasoningControl("off")
        self.assertEqual(write(reasoning=off, columns=BUDGET)["thinking"], {"type": "disabled"})
        self.assertEqual(write(reasoning=off, columns=ADAPTIVE)["thinking"], {"type": "disabled"})
        self.assertNotIn("thinking", write(reasoning=off, columns={**ADAPTIVE, "reasoning_off": False}))
        for control in (off, ReasoningControl(effort="high"), None):
            body = write(reasoning=control, columns={"reasoning_kind": "none"})
            self.assertEqual(set(body), {"model", "max_tokens", "messages"})

    def test_forced_tool(self) -> None:
        """A forced tool wins over reasoning."""
        for choice in (ToolChoice("required"), ToolChoice("one", "f")):
            body = self.dropped(
                "reasoning (a tool is forced)",
                reasoning=ReasoningControl("on", budget=2000), tools=(TOOL,), tool_choice=choice, columns=BUDGET,
            )  # fmt: skip
            self.assertEqual(body["thinking"], {"type": "disabled"})

    def test_open_tool_loop(self) -> None:
        """With a budget an open tool loop must begin with its own thinking; what has lost it goes on without."""
        call = ToolCall("c", "f", "{}")
        result = Turn("user", (ToolResult("c", (Text("r"),)),))
        on = ReasoningControl("on", budget=2000)
        lost = (USER, Turn("assistant", (call,)), result)
        kept = (USER, Turn("assistant", (Reasoning("t", OWN), call)), result)
        for turns, columns, kind in (
            (lost, BUDGET, "disabled"),
            (kept, BUDGET, "enabled"),
            ((*lost, Turn("assistant", (Text("x"),)), USER), BUDGET, "enabled"),
            (lost, ADAPTIVE, "adaptive"),
        ):
            self.assertEqual(write(*turns, reasoning=on, tools=(TOOL,), columns=columns)["thinking"]["type"], kind)

    def test_sampling_while_reasoning(self) -> None:
        """Sampling is left out beside reasoning."""
        body = write(reasoning=ReasoningControl("on", budget=2000), sampling=Sampling(0.5, 0.9, 4), columns=BUDGET)
        self.assertFalse({"temperature", "top_p", "top_k"} & set(body))


class ToolTests(WritingTestCase):
    """Tools, their choice, and structured output."""

    def test_function(self) -> None:
        """A function is name, description and schema, without a wrapper; a schema is always there."""
        self.assertEqual(write(tools=(TOOL,))["tools"], [{"name": "f", "description": "does", "input_schema": SCHEMA}])
        (bare,) = write(tools=(Tool("g"),))["tools"]
        self.assertEqual(bare, {"name": "g", "input_schema": {"type": "object", "properties": {}}})
        (strict,) = write(tools=(Tool("f", "", SCHEMA, strict=True),))["tools"]
        self.assertTrue(strict["strict"])
        (loose,) = write(tools=(Tool("f", "", SCHEMA, strict=True),), columns={"structured_output": "refused"})["tools"]
        self.assertNotIn("strict", loose)

    def test_renamed(self) -> None:
        """An illegal name is another one everywhere, and known on the way back."""
        turns = (USER, Turn("assistant", (ToolCall("c", "a.b", "{}"),)), Turn("user", (ToolResult("c"),)))
        prepared = prepare(*turns, tools=(Tool("a.b", "", SCHEMA),), tool_choice=ToolChoice("one", "a.b"))
        body = json.loads(prepared.body)
        name = body["tools"][0]["name"]
        self.assertRegex(name, "^[a-zA-Z0-9_-]+$")
        self.assertEqual(body["tool_choice"], {"type": "tool", "name": name})
        self.assertEqual(body["messages"][1]["content"][0]["name"], name)
        self.assertEqual(prepared.names[name].name, "a.b")

    def test_custom(self) -> None:
        """A tool of free text is a function with one text, in the history too."""
        turns = (
            USER,
            Turn("assistant", (ToolCall("c", "patch", "a\n", custom=True),)),
            Turn("user", (ToolResult("c"),)),
        )
        body = write(*turns, tools=(Tool("patch", kind="custom"),))
        self.assertEqual(body["tools"][0]["input_schema"]["required"], ["input"])
        self.assertEqual(body["messages"][1]["content"][0]["input"], {"input": "a\n"})

    def test_choice(self) -> None:
        """Each choice has its type, and one call at a time its flag; without tools neither is there."""
        for choice, single, wanted in (
            (None, None, None),
            (None, True, None),
            (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
            (ToolChoice("auto"), None, {"type": "auto"}),
            (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
            (ToolChoice("one", "f"), None, {"type": "tool", "name": "f"}),
            (ToolChoice("none"), False, {"type": "none"}),
            (ToolChoice("auto", allowed=()), None, {"type": "none"}),
        ):
            self.assertEqual(write(tools=(TOOL,), tool_choice=choice, parallel=single).get("tool_choice"), wanted)
            if choice is None or choice.mode in ("auto", "none"):
                self.assertNotIn("tool_choice", write(tool_choice=choice, parallel=single))
        self.refused("tool_choice", tool_choice=ToolChoice("required"))
        self.refused(
            "tool_choice", tools=(TOOL,), tool_choice=ToolChoice("required"), columns={"tool_choice_force": "refused"}
        )

    def test_allowed(self) -> None:
        """Only the tools that may be called are offered."""
        body = write(tools=(TOOL, Tool("g"), Tool("h")), tool_choice=ToolChoice("required", allowed=("f", "h")))
        self.assertEqual([tool["name"] for tool in body["tools"]], ["f", "h"])
        self.assertEqual(body["tool_choice"], {"type": "any"})
        self.refused("tool_choice", tools=(TOOL,), tool_choice=ToolChoice("auto", allowed=("nobody",)))

    def test_calls_without_tools(self) -> None:
        """A history with calls needs tools: those that were called, and none may be called now."""
        turns = (USER, Turn("assistant", (ToolCall("c", "f", "{}"),)), Turn("user", (ToolResult("c"),)))
        body = write(*turns)
        self.assertEqual(body["tools"], [{"name": "f", "input_schema": {"type": "object", "properties": {}}}])
        self.assertEqual(body["tool_choice"], {"type": "none"})

    def test_server_tools(self) -> None:
        """What the provider runs itself is offered in its own way; where it has none such, that is told or refused."""
        options = {
            "allowed_domains": ["a.b"],
            "blocked_domains": ["c"],
            "max_uses": 2,
            "user_location": {"city": "Oslo"},
        }
        search = Tool("web_search", kind="server", server="web_search", options=options)
        code = Tool("", kind="server", server="code_execution")
        has = {"server_tool_kinds": ("web_search", "code_execution")}
        tools = write(tools=(TOOL, search, code), columns=has)["tools"]
        self.assertEqual(
            tools[1:],
            [
                {
                    "type": "web_search_20250305",
                    "name": "web_search",
                    "allowed_domains": ["a.b"],
                    "max_uses": 2,
                    "user_location": {"type": "approximate", "city": "Oslo"},
                },
                {"type": "code_execution_20250825", "name": "code_execution"},
            ],
        )
        body = self.dropped("tools.web_search", tools=(TOOL, search))
        self.assertEqual(len(body["tools"]), 1)
        self.dropped("tools.web_search", tools=(TOOL, search), columns={**has, "server_tools_with_functions": False})
        self.refused("web_search", tools=(search,))
        self.refused("web_search", tools=(TOOL, search), tool_choice=ToolChoice("one", "web_search"))

    def test_schema(self) -> None:
        """A schema binds the answer where the model can; else it is a call that must be made; else it is refused."""
        output = OutputFormat("json_schema", {"type": "object", "properties": {"a": {"type": "string"}}}, "out", True)
        body = write(output=output, reasoning=ReasoningControl(effort="low"), columns=ADAPTIVE)
        self.assertEqual(body["output_config"]["effort"], "low")
        format_ = body["output_config"]["format"]
        self.assertEqual((format_["type"], format_["schema"]["additionalProperties"]), ("json_schema", False))
        without = {"structured_output": "refused"}
        prepared = prepare(output=output, columns={**without, **BUDGET}, reasoning=ReasoningControl(effort="low"))
        body = json.loads(prepared.body)
        self.assertEqual(body["tool_choice"], {"type": "tool", "name": "answer"})
        self.assertEqual((body["tools"][0]["name"], prepared.names["answer"].kind), ("answer", "output"))
        self.assertEqual(body["thinking"], {"type": "disabled"})
        self.assertIn("response_format (asked for as a call)", prepared.dropped)
        self.refused("response_format", output=output, tools=(TOOL,), columns=without)
        self.refused("response_format", output=output, columns={**without, "tool_choice_force": "ignored"})

    def test_any_object(self) -> None:
        """Any JSON object is asked for in words, in the system prompt."""
        body = self.dropped("response_format (asked for in words)", output=OutputFormat("json"), system=(Text("s"),))
        self.assertEqual(body["system"][0]["text"], "s")
        self.assertIn("JSON object", body["system"][1]["text"])
