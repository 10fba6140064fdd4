"""Tests for reading requests of the OpenAI Responses dialect into neutral conversations."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .. import envelope, splice
from ..conversation import (
    CacheMark,
    Conversation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningControl,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    WebSearch,
)
from ..dialects.responses_reading import read_request
from ..dialects.responses_request import look
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible

PNG = "data:image/jpg;base64,iVBORw0KGgoAAAANSUhEUg=="
PDF = "data:application/pdf;base64,JVBERi0xLjQKJcfsj6I="


def read(given: Any, **members: Any) -> Conversation:
    data = splice.dumps({"model": "gpt-x", "input": given, **members})
    return read_request(data, look(data))


def user(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


def told(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def call(id: str = "c1", name: str = "f", arguments: str = "{}", **members: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments, **members}


def output(value: Any, id: str = "c1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": value}


class ItemTests(SynchronousTestCase):
    """Items become turns."""

    def part(self, part: Any) -> Any:
        (turn,) = read([user(part)]).turns
        (found,) = turn.parts
        return found

    def item(self, item: Any) -> Any:
        (turn,) = read([item]).turns
        (found,) = turn.parts
        return found

    def test_text(self) -> None:
        """A text alone is the user's one message; an empty one is nothing."""
        self.assertEqual(read("hi").turns, (Turn("user", (Text("hi"),)),))
        self.assertEqual(read("").turns, ())

    def test_system(self) -> None:
        """Instructions and leading instructing messages are system texts; later ones are turns in place."""
        found = read(
            [
                {"type": "additional_tools", "role": "developer", "tools": []},
                {"role": "developer", "content": "two"},
                {"role": "system", "content": [told("three")]},
                user(told("hi")),
                {"role": "developer", "content": "later"},
            ],
            instructions="one",
        )
        self.assertEqual([each.text for each in found.system], ["one", "two", "three"])
        self.assertEqual([each.role for each in found.turns], ["user", "system"])

    def test_loop(self) -> None:
        """Reasoning, words and calls are one turn; results and the words after them another; alternation is kept."""
        found = read(
            [
                user(told("a")),
                user(told("b")),
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
                 "content": None, "encrypted_content": "gAAA"},
                {"role": "assistant", "content": [{"type": "output_text", "text": "so", "annotations": []}],
                 "phase": "commentary"},
                call("c1"),
                call("c2", "g", '{"a": 1}', namespace="ns"),
                output("one", "c1"),
                output([told("two"), {"type": "input_image", "image_url": PNG}], "c2"),
                user(told("go on")),
                call("c3"),
                output("", "c3"),
                call("c4"),
                output(None, "c4"),
            ]
        )  # fmt: skip
        self.assertEqual([each.role for each in found.turns],
                         ["user", "user", "assistant", "user", "assistant", "user", "assistant", "user"])  # fmt: skip
        self.assertEqual(
            found.turns[2],
            Turn(
                "assistant",
                (
                    Reasoning("hm", Opaque("openai", "", "encrypted", "gAAA", "rs_1")),
                    Text("so"),
                    ToolCall("c1", "f", "{}"),
                    ToolCall("c2", "g", '{"a": 1}', namespace="ns"),
                ),
                "commentary",
            ),
        )
        first, second, words = found.turns[3].parts
        self.assertEqual(first, ToolResult("c1", (Text("one"),)))
        assert isinstance(second, ToolResult)
        self.assertEqual([type(each) for each in second.parts], [Text, Image])
        self.assertEqual((words, found.turns[5].parts), (Text("go on"), (ToolResult("c3"),)))

    def test_custom(self) -> None:
        """Custom calls and their results say what they are."""
        found = read(
            [{"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "raw"},
             {"type": "custom_tool_call_output", "call_id": "c", "output": "[tool error] no"}]
        )  # fmt: skip
        self.assertEqual(found.turns[0].parts, (ToolCall("c", "p", "raw", True),))
        self.assertEqual(found.turns[1].parts, (ToolResult("c", (Text("no"),), is_error=True, custom=True),))

    def test_images(self) -> None:
        """Pictures come as data URLs whose bytes tell their type, as URLs, and as ids; a PDF is a document."""
        self.assertEqual(
            self.part({"type": "input_image", "image_url": PNG, "detail": "low"}),
            Image(Media("base64", "iVBORw0KGgoAAAANSUhEUg==", "image/png"), "low"),
        )
        self.assertEqual(
            self.part({"type": "input_image", "image_url": "https://a.example/x"}),
            Image(Media("url", "https://a.example/x")),
        )
        self.assertEqual(self.part({"type": "input_image", "file_id": "file_1"}), Image(Media("file", "file_1")))
        self.assertIsInstance(self.part({"type": "input_image", "image_url": PDF}), Document)

    def test_files(self) -> None:
        """Documents keep their name; a sound its format; marks of the cache are read."""
        found = self.part({"type": "input_file", "file_data": PDF, "filename": "a.pdf"})
        self.assertEqual(
            (found.media.media_type, found.media.filename, found.title), ("application/pdf", "a.pdf", "a.pdf")
        )
        self.assertEqual(self.part({"type": "input_file", "file_url": "https://u"}).media, Media("url", "https://u"))
        self.assertEqual(self.part({"type": "input_file", "file_id": "f"}).media, Media("file", "f"))
        sound = self.part({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
        self.assertEqual(sound, Sound(Media("base64", "AAAA", "audio/wav")))
        marked = self.part({**told("x"), "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}})
        self.assertEqual(marked.cache, CacheMark("12h"))
        self.assertEqual(
            self.part({"type": "brand_new"}), Foreign("openai-responses", "brand_new", {"type": "brand_new"})
        )

    def test_reasoning(self) -> None:
        """State in an envelope is its issuer's; bare text is unsigned; a damaged envelope leaves the words."""
        opaque = Opaque("gemini", "g", "thought", "c2ln")
        self.assertEqual(
            self.item({"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}],
                       "encrypted_content": envelope.seal(opaque)}),
            Reasoning("a\n\nb", opaque),
        )  # fmt: skip
        self.assertEqual(
            self.item({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]}),
            Reasoning("t"),
        )
        damaged = {"type": "reasoning", "summary": [{"text": "a"}], "encrypted_content": "rt1.x.!"}
        self.assertEqual(self.item(damaged), Reasoning("a", None))

    def test_thought_signatures(self) -> None:
        """A wordless thought signature goes back on the call after it, or on the text before it."""
        opaque = Opaque("gemini", "g", "thought", "c2ln")
        bare = {"type": "reasoning", "summary": [], "encrypted_content": envelope.seal(opaque)}
        said = {"role": "assistant", "content": "x"}
        self.assertEqual(read([bare, call(), call("c2")]).turns[0].parts,
                         (ToolCall("c1", "f", "{}", opaque=opaque), ToolCall("c2", "f", "{}")))  # fmt: skip
        self.assertEqual(read([said, bare]).turns[0].parts, (Text("x", opaque=opaque),))
        turns = read([said, bare, said]).turns
        self.assertEqual([turn.parts for turn in turns], [(Text("x", opaque=opaque),), (Text("x"),)])

    def test_hosted(self) -> None:
        """A search keeps query and pages; other hosted items stay what they are, with words for other models."""
        search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "open_page", "url": "https://a.example"}}
        found = self.item(search)
        assert isinstance(found, WebSearch)
        self.assertEqual(
            (found.query, found.hits[0].url, found.raw), ("https://a.example", "https://a.example", (search,))
        )
        shell = {"type": "local_shell_call", "id": "l", "call_id": "c", "action": {"command": ["ls"]}}
        result = {"type": "local_shell_call_output", "id": "l", "output": "files"}
        first, second = read([shell, result]).turns
        self.assertEqual((first.role, second.role), ("assistant", "user"))
        assert isinstance(first.parts[0], Foreign) and isinstance(second.parts[0], Foreign)
        self.assertEqual(first.parts[0].text, '[local_shell_call] {"action":{"command":["ls"]}}')
        self.assertEqual(second.parts[0].text, "[local_shell_call_output] files")
        shot = self.item({"type": "computer_call_output", "call_id": "c",
                          "output": {"type": "computer_screenshot", "image_url": PNG}})  # fmt: skip
        self.assertNotIn("iVBOR", shot.text)

    def test_refusal(self) -> None:
        """A refusal of the model's is one."""
        self.assertEqual(
            self.item({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}), Refusal("No.")
        )

    def test_state_elsewhere(self) -> None:
        """What only its provider can resolve is refused by its name, not ignored."""
        for name, value in (("previous_response_id", "r"), ("conversation", {"id": "c"}), ("prompt", {"id": "p"})):
            self.assertIn(name, self.assertRaises(Inexpressible, read, "hi", **{name: value}).message)
        for kind in ("item_reference", "compaction", "compaction_trigger"):
            self.assertIn(kind, self.assertRaises(Inexpressible, read, [{"type": kind, "id": "x"}]).message)
        read("hi", previous_response_id=None)

    def test_malformed(self) -> None:
        """A member that cannot be understood is named with its place."""
        for given, words in (
            (5, "`input`"), ([5], "input[0]"), ([{"type": 5}], "input[0].type"), ([user(5)], "input[0].content[0]"),
            ([{"role": "user", "content": 5}], "input[0].content"),
            ([{"role": "king", "content": "x"}], "input[0].role"),
            ([{"type": "function_call", "name": "f"}], "input[0].call_id"),
            ([user({"type": "input_image"})], "input[0].content[0]"),
            ([user({"type": "input_image", "image_url": "data:image/png;base64,###"})], "content[0].image_url"),
        ):  # fmt: skip
            error = self.assertRaises(RouterError, read, given)
            self.assertIs(error.kind, Kind.BAD_REQUEST)
            self.assertIn(words, error.message)


class MemberTests(SynchronousTestCase):
    """Top-level members."""

    def test_tools(self) -> None:
        """Functions, custom tools, namespaces and hosted tools, from the member and from items."""
        function = {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object"},
            "strict": True,
        }
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
        found = read(
            [{"type": "additional_tools", "tools": [{"type": "function", "name": "late"}]},
             {"type": "tool_search_output", "tools": [{"type": "function", "name": "found"}], "call_id": "t"}],
            tools=[
                function,
                {"type": "custom", "name": "p", "format": grammar},
                {"type": "namespace", "name": "ns", "tools": [function]},
                {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "search_context_size": "low",
                 "user_location": {"type": "approximate", "city": "Paris", "country": None}},
                {"type": "code_interpreter", "container": {"type": "auto"}},
            ],
        ).tools  # fmt: skip
        self.assertEqual([(each.kind, each.namespace, each.name) for each in found], [
            ("function", "", "f"), ("custom", "", "p"), ("function", "ns", "f"), ("server", "", "web_search"),
            ("server", "", "code_execution"), ("function", "", "late"), ("function", "", "found")])  # fmt: skip
        self.assertEqual((found[0].schema, found[0].strict, found[5].strict), ({"type": "object"}, True, None))
        self.assertEqual(found[1].grammar, grammar)
        self.assertEqual(found[3].options, {
            "allowed_domains": ["a.example"], "user_location": {"city": "Paris"}, "context_size": "low"})  # fmt: skip
        self.assertIn("tools[0].name", self.assertRaises(RouterError, read, "x", tools=[{"type": "function"}]).message)

    def test_choice(self) -> None:
        """Every form of the choice."""
        for value, choice in (
            ("auto", ToolChoice("auto")), ("none", ToolChoice("none")), ("required", ToolChoice("required")),
            ({"type": "function", "name": "f"}, ToolChoice("one", "f")),
            ({"type": "custom", "name": "p"}, ToolChoice("one", "p")),
            ({"type": "web_search_preview"}, ToolChoice("one", "web_search")),
            ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
             ToolChoice("required", allowed=("f",))),
            ({"type": "allowed_tools", "mode": "auto", "tools": []}, ToolChoice("auto", allowed=())),
            (None, None),
        ):  # fmt: skip
            self.assertEqual(read("x", tool_choice=value).tool_choice, choice)
        self.assertRaises(RouterError, read, "x", tool_choice="perhaps")

    def test_reasoning(self) -> None:
        """Effort and whether thinking is shown; what comes later in the input counts."""
        for value, control in (
            ({"effort": "none"}, ReasoningControl("off", "none", None, "omitted")),
            ({"effort": "high", "summary": "auto"}, ReasoningControl(None, "high", None, "summarised")),
            ({"summary": "auto"}, ReasoningControl(None, None, None, "summarised")),
            ({}, None), (None, None),
        ):  # fmt: skip
            self.assertEqual(read("x", reasoning=value).reasoning, control)
        found = read([{"type": "configuration_update", "reasoning": {"effort": "max"}}, user(told("x"))],
                     reasoning={"effort": "low", "summary": "auto"})  # fmt: skip
        self.assertEqual(found.reasoning, ReasoningControl(None, "max", None, "summarised"))

    def test_others(self) -> None:
        """Format, sampling, identity and limits are read; what has no counterpart is named, defaults are not."""
        schema = {"type": "object"}
        found = read(
            "x",
            text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
            max_output_tokens=50, temperature=0.5, top_p=0.9, top_logprobs=2,
            include=["message.output_text.logprobs"], parallel_tool_calls=False, prompt_cache_key="key",
            safety_identifier="who", metadata={"a": "b"}, service_tier="flex", stream=True,
            store=False, truncation="disabled", background=False, max_tool_calls=3, client_metadata={"x": "y"},
        )  # fmt: skip
        self.assertEqual(found.output, OutputFormat("json_schema", schema, "n", True))
        self.assertEqual((found.verbosity, found.max_output, found.parallel), ("low", 50, False))
        self.assertEqual((found.sampling.temperature, found.sampling.top_p), (0.5, 0.9))
        self.assertEqual((found.sampling.logprobs, found.sampling.top_logprobs), (True, 2))
        self.assertEqual((found.cache_key, found.user, found.service_tier), ("key", "who", "flex"))
        self.assertEqual((found.metadata, found.stream, found.unread), ({"a": "b"}, True, ("max_tool_calls",)))
        unread = read("x", store=True, truncation="auto", background=True, context_management=[]).unread
        self.assertEqual(unread, ("store", "truncation", "background", "context_management"))
        self.assertEqual(read("x", text={"format": {"type": "json_object"}}).output, OutputFormat("json"))
        self.assertIsNone(read("x", text={"format": {"type": "text"}}).output)
