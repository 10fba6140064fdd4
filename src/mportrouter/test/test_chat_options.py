"""Tests for :mod:`mportrouter.dialects.chat_options`: what stands beside the messages of a Chat request."""

from __future__ import annotations

import itertools
import json
from typing import Any

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    Conversation,
    Image,
    Media,
    OutputFormat,
    Part,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..interfaces import Inexpressible
from .chats import conversation, prepared, written

PNG = Image(Media("base64", "iVBORw0KGgoAAAAA", "image/png"))
PDF = Media("base64", "JVBERi0xLjcgAAAA", "application/pdf")
TOOL = Tool("f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}})


def user(*parts: Part) -> Turn:
    return Turn("user", parts or (Text("hi"),))


def assistant(*parts: Part) -> Turn:
    return Turn("assistant", parts)


class OptionTests(SynchronousTestCase):
    """What stands beside the messages."""

    def sent(self, **members: Any) -> Any:
        columns = members.pop("columns", {})
        sent = written(conversation(**members), **columns)
        del sent["messages"], sent["model"]
        return sent

    def notes(self, **members: Any) -> tuple[str, ...]:
        columns = members.pop("columns", {})
        return prepared(conversation(**members), **columns).dropped

    def refused(self, word: str, **members: Any) -> None:
        with self.assertRaises(Inexpressible) as caught:
            self.sent(**members)
        self.assertIn(word, caught.exception.message)

    def test_nothing(self) -> None:
        """What was not asked for is not there: no nulls, no empty lists."""
        self.assertEqual(self.sent(), {})
        self.assertEqual(self.sent(parallel=False, tool_choice=ToolChoice("auto")), {})

    def test_tools(self) -> None:
        """Functions nested, without parameters where there were none."""
        sent = self.sent(tools=(replace(TOOL, strict=False), Tool("g", strict=True)))["tools"]
        self.assertEqual(
            sent,
            [
                {"type": "function", "function": {"name": "f", "description": "does", "parameters": TOOL.schema}},
                {"type": "function", "function": {"name": "g", "strict": True}},
            ],
        )
        closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False, "title": "T"}
        function = self.sent(tools=(Tool("h", schema=closed, strict=True),))["tools"][0]["function"]
        self.assertEqual(function, {"name": "h", "parameters": closed, "strict": True})
        # Strict is refused for a schema that is open somewhere: the call is worth more than the promise.
        loose = (replace(TOOL, strict=True),)
        self.assertNotIn("strict", self.sent(tools=loose)["tools"][0]["function"])
        self.assertEqual(self.notes(tools=loose), ("tools[].strict",))
        columns = {"strip_tool_fields": ("strict",)}
        self.assertEqual(self.notes(tools=(Tool("g", strict=True),), columns=columns), ("tools[].strict",))

    def test_renamed(self) -> None:
        """A name that the server does not take is another everywhere, and known on the way back."""
        tool = Tool("a.b", schema={"type": "object"})
        turns = (user(), assistant(ToolCall("c", "a.b", "{}")), user(ToolResult("c")))
        done = prepared(conversation(*turns, tools=(tool,), tool_choice=ToolChoice("one", "a.b")))
        sent = json.loads(done.body)
        name = sent["tools"][0]["function"]["name"]
        self.assertRegex(name, r"\A[a-zA-Z0-9_-]{1,64}\Z")
        self.assertEqual(sent["tool_choice"], {"type": "function", "function": {"name": name}})
        self.assertEqual(sent["messages"][1]["tool_calls"][0]["function"]["name"], name)
        self.assertEqual(done.names[name].name, "a.b")

    def test_custom(self) -> None:
        """A tool of free text is a function with an input, in tools and history."""
        turns = (user(), assistant(ToolCall("c", "p", "x = 1", True)), user(ToolResult("c", custom=True)))
        done = prepared(conversation(*turns, tools=(Tool("p", kind="custom"),)))
        sent = json.loads(done.body)
        self.assertEqual(sent["tools"][0]["function"]["parameters"]["required"], ["input"])
        self.assertEqual(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], '{"input":"x = 1"}')
        self.assertEqual(done.names["p"].kind, "custom")

    def test_choice(self) -> None:
        """Every choice in the dialect's form."""
        for choice, wanted in (
            (ToolChoice("auto"), "auto"),
            (ToolChoice("required"), "required"),
            (ToolChoice("none"), "none"),
            (ToolChoice("one", "f"), {"type": "function", "function": {"name": "f"}}),
            (ToolChoice("auto", allowed=()), "none"),
            (ToolChoice("required", allowed=("f",)), "required"),
        ):
            self.assertEqual(self.sent(tools=(TOOL,), tool_choice=choice)["tool_choice"], wanted)
        sent = self.sent(tools=(TOOL, Tool("g")), tool_choice=ToolChoice("auto", allowed=("g",)))
        self.assertEqual([tool["function"]["name"] for tool in sent["tools"]], ["g"])

    def test_choice_refused(self) -> None:
        """A forced tool that cannot be forced or offered is refused."""
        columns = {"tool_choice_force": "refused"}
        self.refused("`tool_choice`", tools=(TOOL,), tool_choice=ToolChoice("required"), columns=columns)
        self.refused("`tool_choice`", tools=(TOOL,), tool_choice=ToolChoice("one", "other"))
        self.refused("`tool_choice`", tool_choice=ToolChoice("required"))

    def test_parallel(self) -> None:
        """The flag goes where it is known."""
        self.assertIs(self.sent(tools=(TOOL,), parallel=False)["parallel_tool_calls"], False)
        columns = {"parallel_flag": False}
        self.assertNotIn("parallel_tool_calls", self.sent(tools=(TOOL,), parallel=False, columns=columns))
        self.assertEqual(
            self.notes(tools=(TOOL,), parallel=False, columns=columns), ("tool_choice.disable_parallel_tool_use",)
        )

    def test_searches(self) -> None:
        """A search of the provider goes where it has one, else is left out with a note, or refused as the only tool."""
        search = Tool(
            "web_search", kind="server", server="web_search",
            options={"user_location": {"city": "B"}, "context_size": "low", "max_uses": 3},
        )  # fmt: skip
        columns = {"server_tool_kinds": ("web_search",)}
        self.assertEqual(
            self.sent(tools=(search,), columns=columns),
            {
                "web_search_options": {
                    "user_location": {"type": "approximate", "approximate": {"city": "B"}},
                    "search_context_size": "low",
                }
            },
        )
        self.assertEqual(self.notes(tools=(search,), columns=columns), ("tools.web_search.max_uses",))
        self.assertEqual(self.notes(tools=(search, TOOL)), ("tools.web_search",))
        self.refused("web_search", tools=(search,))
        self.refused("web_search", tools=(search, TOOL), tool_choice=ToolChoice("one", "web_search"))

    def test_limit(self) -> None:
        """The limit in the member that the server knows, no higher than it takes."""
        self.assertEqual(self.sent(max_output=9), {"max_tokens": 9})
        columns = {"max_tokens_field": "max_completion_tokens", "max_output": 5}
        self.assertEqual(self.sent(max_output=9, columns=columns), {"max_completion_tokens": 5})
        self.assertEqual(self.notes(max_output=9, columns=columns), ("max_tokens=5",))

    def test_sampling(self) -> None:
        """What it takes goes, what it refuses is noted, a temperature is clamped."""
        sampling = Sampling(1.5, 0.9, 5, ("a", "b"), 7, None, 0.5, 0.25)
        self.assertEqual(
            self.sent(sampling=sampling),
            {
                "temperature": 1.5, "top_p": 0.9, "top_k": 5, "seed": 7, "presence_penalty": 0.5,
                "frequency_penalty": 0.25, "stop": ["a", "b"],
            },
        )  # fmt: skip
        columns = {"sampling_refused": ("top_k", "penalties", "seed"), "temperature_max": 1.0, "stop_max": 1}
        self.assertEqual(
            self.sent(sampling=sampling, columns=columns), {"temperature": 1.0, "top_p": 0.9, "stop": ["a"]}
        )
        self.assertEqual(
            self.notes(sampling=sampling, columns=columns),
            (
                "temperature=1", "top_k", "seed", "presence_penalty", "frequency_penalty",
                "stop_sequences (the first 1 of 2)",
            ),
        )  # fmt: skip
        self.assertEqual(self.notes(sampling=sampling, columns={"stop_sequences": "refused"}), ("stop_sequences",))

    def test_choices(self) -> None:
        """Several answers at once are refused by the client's name for it."""
        self.refused("`candidateCount`", sampling=Sampling(choices=2), dialect="gemini")
        self.assertEqual(self.sent(sampling=Sampling(choices=1)), {})

    def test_logprobs(self) -> None:
        """Probabilities would not come back in a translated answer: they are not asked for."""
        self.assertEqual(self.sent(sampling=Sampling(logprobs=True, top_logprobs=3)), {})
        notes = self.notes(sampling=Sampling(logprobs=True, top_logprobs=3), dialect="gemini")
        self.assertEqual(notes, ("responseLogprobs", "logprobs"))

    def test_output(self) -> None:
        """The form of the answer, strict only where the schema is."""
        loose = {"type": "object", "properties": {"a": {"type": "integer"}}}
        closed = {**loose, "required": ["a"], "additionalProperties": False}
        for schema, strict in ((loose, False), (closed, True)):
            sent = self.sent(output=OutputFormat("json_schema", schema))["response_format"]
            inner = {"name": "response", "schema": schema, "strict": strict}
            self.assertEqual(sent, {"type": "json_schema", "json_schema": inner})
        sent = self.sent(output=OutputFormat("json_schema", loose, "n", True, "d"))["response_format"]["json_schema"]
        self.assertEqual((sent["name"], sent["strict"], sent["description"]), ("n", True, "d"))

    def test_output_in_words(self) -> None:
        """Where only some object is bound the schema is told in words; the word JSON is said where nobody said it."""
        asked = conversation(output=OutputFormat("json_schema", {"type": "object"}))
        sent = written(asked, output_format="json")
        self.assertEqual(sent["response_format"], {"type": "json_object"})
        self.assertIn('{"type":"object"}', sent["messages"][0]["content"])
        sent = written(conversation(output=OutputFormat("json")))
        self.assertIn("JSON", sent["messages"][0]["content"])
        sent = written(conversation(user(Text("as json")), output=OutputFormat("json")))
        self.assertEqual(sent["messages"], [{"role": "user", "content": "as json"}])

    def test_output_refused(self) -> None:
        """A form that the upstream cannot bind is refused by the client's name for it."""
        output = OutputFormat("json")
        self.refused("`output_config.format`", output=output, columns={"output_format": "none"})
        self.refused("`output_config.format`", output=output, tools=(TOOL,), columns={"json_with_tools": False})

    def test_identity(self) -> None:
        """Who asks goes where it is known, as a digest where it is long."""
        members: dict[str, Any] = {"user": "u" * 99, "metadata": {"a": "b"}, "service_tier": "standard_only"}
        self.assertEqual(self.sent(**members), {})
        sent = self.sent(**members, columns={"identity_fields": ("safety_identifier", "metadata", "service_tier")})
        self.assertEqual((sent["metadata"], sent["service_tier"]), ({"a": "b"}, "default"))
        self.assertEqual(len(sent["safety_identifier"]), 64)
        self.assertEqual(self.sent(user="u", columns={"identity_fields": ("user",)}), {"user": "u"})
        self.assertEqual(self.sent(cache_key="k", columns={"cache_key": True}), {"prompt_cache_key": "k"})
        self.assertEqual(self.sent(cache_key="k"), {})

    def test_stream(self) -> None:
        """A stream tells its usage where the server can, and is all that some servers do."""
        self.assertEqual(self.sent(stream=True), {"stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual(self.sent(stream=True, columns={"stream_options": False}), {"stream": True})
        self.assertIs(self.sent(columns={"stream_only": True})["stream"], True)

    def test_columns(self) -> None:
        """Members that are always or never wanted, the path, and what nobody read."""
        sent = self.sent(max_output=5, columns={"always_true": ("reasoning_split",), "strip_fields": ("max_tokens",)})
        self.assertEqual(sent, {"reasoning_split": True})
        done = prepared(conversation(unread=("context_management",)), generate_path="/x")
        self.assertEqual((done.dropped, done.path, done.query), (("context_management",), b"/x", b""))

    def test_prefix(self) -> None:
        """The same conversation gives the same bytes, and a longer one the same beginning."""
        turns = [
            user(Text("a\ud800")), assistant(Text("é"), ToolCall("x!", "f", '{"a":1}')), user(ToolResult("x!", (PNG,))),
            assistant(Text("b")), user(Text("c")), assistant(Reasoning("r"), Text("d")), user(Text("e")),
        ]  # fmt: skip
        asked: list[Conversation] = [conversation(*turns[: 2 * count + 1], tools=(TOOL,)) for count in range(4)]
        bodies = [prepared(each).body for each in asked]
        self.assertEqual(bodies, [prepared(each).body for each in asked])
        for shorter, longer in itertools.pairwise(bodies):
            self.assertTrue(longer.startswith(shorter.removesuffix(b"]}")))
