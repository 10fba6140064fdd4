"""Tests for :mod:`mportrouter.dialects.chat_reading`: what a client of the Chat dialect asks for."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    CacheMark,
    Document,
    Foreign,
    Image,
    Media,
    OutputFormat,
    Reasoning,
    ReasoningControl,
    Refusal,
    Sampling,
    Sound,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..errors import Kind, RouterError
from .chats import USER, read

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()
PDF = base64.b64encode(b"%PDF-1.7 " + b"0" * 20).decode()


def call(id: str = "c", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


class MessageTests(SynchronousTestCase):
    """Messages as turns."""

    def turns(self, *messages: Any) -> list[tuple[str, tuple[Any, ...]]]:
        return [(turn.role, turn.parts) for turn in read(messages=list(messages)).turns]

    def parts(self, *content: Any) -> tuple[Any, ...]:
        return self.turns({"role": "user", "content": list(content)})[0][1]

    def test_system(self) -> None:
        """The leading run of instructions is the system's, one text for each; later ones stay in place."""
        asked = read(
            messages=[
                {"role": "system", "content": "a"},
                {"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
                USER,
                {"role": "system", "content": "d"},
            ]
        )
        self.assertEqual(asked.system, (Text("a"), Text("b"), Text("c")))
        self.assertEqual(asked.turns, (Turn("user", (Text("hi"),)), Turn("system", (Text("d"),))))

    def test_only_system(self) -> None:
        """Instructions alone leave no turns: what to do about it is each target's business."""
        asked = read(messages=[{"role": "system", "content": "a"}])
        self.assertEqual((asked.system, asked.turns), ((Text("a"),), ()))

    def test_images(self) -> None:
        """Pictures by URL and by data URL, whose type is what the bytes say."""
        self.assertEqual(
            self.parts(
                {"type": "image_url", "image_url": {"url": "https://x.test/a", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": f"data:application/pdf;base64,{PDF}"}},
            ),
            (
                Image(Media("url", "https://x.test/a"), "low"),
                Image(Media("base64", PNG, "image/png")),
                Document(Media("base64", PDF, "application/pdf")),
            ),
        )

    def test_files(self) -> None:
        """Files by their bytes or an id; text files are text."""
        text = base64.b64encode(b"words").decode()
        self.assertEqual(
            self.parts(
                {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "file", "file": {"file_data": f"data:text/plain;base64,{text}", "filename": "a.txt"}},
                {"type": "file", "file": {"file_data": PDF}},
                {"type": "file", "file": {"file_data": f"data:image/png;base64,{PNG}"}},
            ),
            (
                Document(Media("base64", PDF, "application/pdf", "a.pdf"), "a.pdf"),
                Document(Media("file", "file-1")),
                Document(Media("text", "words", "text/plain", "a.txt"), "a.txt"),
                Document(Media("base64", PDF, "application/pdf")),
                Image(Media("base64", PNG, "image/png")),
            ),
        )

    def test_audio(self) -> None:
        """Sounds keep their format."""
        (sound,) = self.parts({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
        self.assertEqual(sound, Sound(Media("base64", "AAAA", "audio/wav")))

    def test_foreign(self) -> None:
        """A part that nobody else knows is kept as it is."""
        raw = {"type": "video_url", "video_url": {"url": "x"}}
        self.assertEqual(self.parts(raw), (Foreign("openai-chat", "video_url", raw),))

    def test_cache(self) -> None:
        """Marks of prompt caches in both forms."""
        self.assertEqual(
            self.parts(
                {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
            ),
            (Text("a", cache=CacheMark("12h")), Text("b", cache=CacheMark())),
        )

    def test_assistant(self) -> None:
        """Words first, then calls; arguments keep their text, whatever it is."""
        message = {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "r"}],
            "refusal": "no",
            "tool_calls": [
                call("1", "f", '{"a" : 1}'),
                call("2", "g", ""),
                call("3", "h", None),
                call("4", "i", {"a": 1}),
                {"id": "5", "type": "custom", "custom": {"name": "p", "input": "raw"}},
            ],
        }
        self.assertEqual(
            self.turns(message)[0][1],
            (
                Text("x"), Refusal("r"), Refusal("no"), ToolCall("1", "f", '{"a" : 1}'), ToolCall("2", "g", ""),
                ToolCall("3", "h", ""), ToolCall("4", "i", '{"a":1}'), ToolCall("5", "p", "raw", True),
            ),
        )  # fmt: skip

    def test_empty(self) -> None:
        """Content that is null, absent or empty is none."""
        for message in ({"content": None}, {}, {"content": ""}, {"content": []}):
            self.assertEqual(self.turns({"role": "assistant", **message, "tool_calls": None})[0][1], ())

    def test_results(self) -> None:
        """Results in a row are one user's turn; our own mark of an error is one again."""
        self.assertEqual(
            self.turns(
                {"role": "assistant", "tool_calls": [call("1"), call("2")]},
                {"role": "tool", "tool_call_id": "1", "content": "ok"},
                {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "[tool error] bad"}]},
                USER,
            )[1:],
            [
                ("user", (ToolResult("1", (Text("ok"),)), ToolResult("2", (Text("bad"),), is_error=True))),
                ("user", (Text("hi"),)),
            ],
        )

    def test_old_form(self) -> None:
        """Calls of the old form get ids by their position, and results find them by name."""
        self.assertEqual(
            self.turns(
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "2"},
            ),
            [
                ("assistant", (ToolCall("call_fn_0", "f", "{}"),)),
                ("user", (ToolResult("call_fn_0", (Text("1"),), "f"),)),
                ("assistant", (ToolCall("call_fn_1", "f", "{}"),)),
                ("user", (ToolResult("call_fn_1", (Text("2"),), "f"),)),
            ],
        )

    def test_reasoning(self) -> None:
        """Reasoning of earlier turns is unsigned text, under either name."""
        for name in ("reasoning_content", "reasoning"):
            (turn,) = self.turns({"role": "assistant", "content": "x", name: "r"})
            self.assertEqual(turn[1], (Reasoning("r"), Text("x")))

    def test_wrong(self) -> None:
        """What cannot be understood is refused, naming its place."""
        for message, words in (
            (3, "messages[0]"),
            ({"role": "robot"}, "messages[0].role"),
            ({"role": {"user": 1}}, "messages[0].role"),
            ({"role": "user", "content": 3}, "messages[0].content"),
            ({"role": "user", "content": [3]}, "messages[0].content[0]"),
            ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
            ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].image_url"),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]},
                "messages[0].content[0].image_url.url",
            ),
            ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0].file"),
            ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
            ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "messages[0].tool_calls[0].function"),
            ({"role": "assistant", "tool_calls": [call(arguments=3)]}, "tool_calls[0].function.arguments"),
        ):
            with self.assertRaises(RouterError, msg=words) as caught:
                read(messages=[message])
            self.assertIs(caught.exception.kind, Kind.BAD_REQUEST)
            self.assertIn(f"{words}`", caught.exception.message)


class MemberTests(SynchronousTestCase):
    """The members beside the messages."""

    def test_tools(self) -> None:
        """Functions with and without parameters, custom tools, tools of the provider, searches."""
        schema = {"type": "object"}
        asked = read(
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d", "parameters": schema, "strict": True},
                },
                {"type": "function", "function": {"name": "g"}},
                {
                    "type": "custom",
                    "custom": {"name": "p", "format": {"type": "grammar", "grammar": {"syntax": "lark"}}},
                },
                {"type": "builtin_search", "x": 1},
            ],
            web_search_options={
                "search_context_size": "low",
                "user_location": {"type": "approximate", "approximate": {"city": "B", "x": 1}},
            },
        )
        f, g, p, builtin, search = asked.tools
        self.assertEqual((f.name, f.description, f.schema, f.strict), ("f", "d", schema, True))
        self.assertEqual((g.schema, g.strict, g.kind), (None, None, "function"))
        self.assertEqual((p.kind, p.grammar), ("custom", {"syntax": "lark"}))
        self.assertEqual((builtin.kind, builtin.server), ("server", "builtin_search"))
        self.assertEqual((search.kind, search.server), ("server", "web_search"))
        self.assertEqual(search.options, {"context_size": "low", "user_location": {"city": "B"}})
        self.assertEqual(read(tools=[]).tools, ())

    def test_functions(self) -> None:
        """The old form of tools and of their choice."""
        asked = read(functions=[{"name": "f"}], function_call={"name": "f"})
        self.assertEqual([tool.name for tool in asked.tools], ["f"])
        self.assertIsInstance(asked.tools[0], Tool)
        self.assertEqual((asked.tool_choice, asked.parallel), (ToolChoice("one", "f"), False))
        self.assertEqual(read(function_call="none").tool_choice, ToolChoice("none"))

    def test_choice(self) -> None:
        """Every form of ``tool_choice``."""
        listed = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "p"}}]
        for given, wanted in (
            (None, None),
            ("auto", ToolChoice("auto")),
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            (listed[0], ToolChoice("one", "f")),
            (listed[1], ToolChoice("one", "p")),
            (
                {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": listed}},
                ToolChoice("auto", allowed=("f", "p")),
            ),
            ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, ToolChoice("auto", allowed=())),
        ):
            self.assertEqual(read(tool_choice=given).tool_choice, wanted)

    def test_reasoning(self) -> None:
        """Every way of asking for reasoning."""
        for members, wanted in (
            ({}, None),
            ({"reasoning_effort": None}, None),
            ({"reasoning_effort": "high"}, ReasoningControl(None, "high")),
            ({"reasoning_effort": "none"}, ReasoningControl("off", "none")),
            ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ReasoningControl("on", None, 9)),
            ({"thinking": {"type": "disabled"}}, ReasoningControl("off")),
            ({"enable_thinking": False}, ReasoningControl("off")),
            ({"chat_template_kwargs": {"enable_thinking": True}}, ReasoningControl("on")),
            ({"reasoning": {"effort": "low", "exclude": True}}, ReasoningControl(None, "low", None, "omitted")),
            ({"reasoning": {"max_tokens": 9}}, ReasoningControl(None, None, 9)),
            ({"reasoning": {"enabled": False}}, ReasoningControl("off")),
            (
                {"extra_body": {"google": {"thinking_config": {"thinking_budget": 5, "include_thoughts": True}}}},
                ReasoningControl(None, None, 5, "summarised"),
            ),
        ):
            asked = read(**members)
            self.assertEqual((asked.reasoning, asked.unread), (wanted, ()), members)

    def test_output(self) -> None:
        """The form of the answer."""
        schema = {"type": "object"}
        inner = {"name": "n", "schema": schema, "strict": True, "description": "d"}
        for given, wanted in (
            (None, None),
            ({"type": "text"}, None),
            ({"type": "json_object"}, OutputFormat("json")),
            ({"type": "json_schema", "json_schema": inner}, OutputFormat("json_schema", schema, "n", True, "d")),
        ):
            self.assertEqual(read(response_format=given).output, wanted)

    def test_sampling(self) -> None:
        """How tokens are drawn; nulls say nothing."""
        given = {
            "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["a", "", "b"], "seed": -3, "n": 2,
            "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"1": 2}, "logprobs": True, "top_logprobs": 3,
        }  # fmt: skip
        self.assertEqual(read(**given).sampling, Sampling(0.5, 0.9, 5, ("a", "b"), -3, 2, 1, -1, {"1": 2}, True, 3))
        self.assertEqual(read(**dict.fromkeys(given)).sampling, Sampling())
        self.assertEqual(read(stop="x").sampling.stop, ("x",))

    def test_others(self) -> None:
        """Limits, keys, ids, tiers, the stream's options."""
        asked = read(
            max_tokens=5, max_completion_tokens=7, user="u", safety_identifier="s", prompt_cache_key="k",
            verbosity="low",
            metadata={"a": "b"}, service_tier="flex", parallel_tool_calls=False, stream=True,
            stream_options={"include_usage": True}, prompt_cache_options={"mode": "implicit", "ttl": "12h"},
        )  # fmt: skip
        self.assertEqual(
            (asked.max_output, asked.user, asked.cache_key, asked.verbosity, asked.metadata, asked.service_tier),
            (7, "s", "k", "low", {"a": "b"}, "flex"),
        )
        self.assertEqual(
            (asked.parallel, asked.stream, asked.stream_usage, asked.cache_auto), (False, True, True, CacheMark("12h"))
        )
        self.assertEqual((read(user="u").user, read(max_tokens=0).max_output), ("u", None))
        self.assertFalse(read(stream_options={"include_usage": True}).stream_usage)

    def test_unread(self) -> None:
        """What has no counterpart elsewhere is told; what says nothing is not."""
        asked = read(store=False, modalities=["text"], audio=None, prediction={"x": 1}, foo=1, moderation=None)
        self.assertEqual(asked.unread, ("prediction", "foo"))
        self.assertEqual(read(store=True, modalities=["audio"]).unread, ("store", "modalities"))

    def test_wrong(self) -> None:
        """Members of wrong types are refused by name."""
        for members in (
            {"messages": None}, {"messages": "x"}, {"temperature": "x"}, {"n": 1.5}, {"max_tokens": -1}, {"stop": [1]},
            {"tools": {}}, {"tools": [1]}, {"tool_choice": 3}, {"response_format": {"type": "x"}}, {"metadata": 3},
            {"stream_options": 3}, {"reasoning_effort": 3}, {"logprobs": 3}, {"functions": 3},
        ):  # fmt: skip
            with self.assertRaises(RouterError, msg=members) as caught:
                read(**members)
            self.assertIs(caught.exception.kind, Kind.BAD_REQUEST)
            self.assertIn(f"`{next(iter(members))}", caught.exception.message)
