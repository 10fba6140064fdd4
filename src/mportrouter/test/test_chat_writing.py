"""Tests for :mod:`mportrouter.dialects.chat_writing`: what a Chat upstream is sent for clients of other dialects."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    CacheMark,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    ReasoningControl,
    Refusal,
    Sound,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from ..interfaces import Inexpressible
from .chats import conversation, written

PNG = Image(Media("base64", "iVBORw0KGgoAAAAA", "image/png"))
PDF = Media("base64", "JVBERi0xLjcgAAAA", "application/pdf")
TOOL = Tool("f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}})


def user(*parts: Part) -> Turn:
    return Turn("user", parts or (Text("hi"),))


def assistant(*parts: Part) -> Turn:
    return Turn("assistant", parts)


class MessageTests(SynchronousTestCase):
    """Turns as messages."""

    def messages(self, *turns: Turn, system: tuple[Text, ...] = (), **columns: Any) -> Any:
        return written(conversation(*turns, system=system), **columns)["messages"]

    def refused(self, word: str, *parts: Part, **columns: Any) -> None:
        with self.assertRaises(Inexpressible) as caught:
            self.messages(user(*parts), **columns)
        self.assertIn(f"`{word}`", caught.exception.message)

    def test_system(self) -> None:
        """One message of instructions at the beginning, of the role that the server knows."""
        sent = self.messages(user(), system=(Text("a"), Text("b")))
        self.assertEqual(sent[0], {"role": "system", "content": "a\n\nb"})
        sent = self.messages(user(), system=(Text("a"),), system_role="developer")
        self.assertEqual(sent[0]["role"], "developer")
        self.assertEqual(len(self.messages(user(), system=(Text(" "),))), 1)

    def test_billing(self) -> None:
        """The line that Claude Code puts first for its own provider stays with it."""
        line = Text("x-anthropic-billing-header: cc_version=1;")
        sent = self.messages(user(), system=(line, Text("b")), billing_header=False)
        self.assertEqual(sent[0]["content"], "b")

    def test_mid_system(self) -> None:
        """Instructions in mid-conversation stay in place, or become the user's words."""
        turns = (user(), assistant(Text("x")), Turn("system", (Text("s"),)), user(Text("y")))
        self.assertEqual(self.messages(*turns)[2], {"role": "system", "content": "s"})
        self.assertEqual(
            self.messages(*turns, mid_system=False)[2],
            {"role": "user", "content": "<system-reminder>\ns\n</system-reminder>"},
        )

    def test_texts(self) -> None:
        """One text is a text; several are parts, or joined where only texts are taken; empty ones go."""
        two = (Text("a"), Text(""), Text("b"))
        self.assertEqual(self.messages(user(Text("a")))[0]["content"], "a")
        self.assertEqual([part["text"] for part in self.messages(user(*two))[0]["content"]], ["a", "b"])
        self.assertEqual(self.messages(user(*two), string_content_only=True)[0]["content"], "a\nb")

    def test_media(self) -> None:
        """Pictures and documents in the dialect's parts."""
        (message,) = self.messages(
            user(
                Text("see"), PNG, Image(Media("url", "https://x.test/a"), "high"), Document(PDF, "T", "context"),
                Document(Media("text", "words"), "Title"),
                Document(Media("parts", parts=(Text("p"), PNG)), "Parts"),
                Sound(Media("base64", "UklGRgAAAABXQVZF", "audio/wav")),
            )
        )  # fmt: skip
        url = "data:image/png;base64,iVBORw0KGgoAAAAA"
        self.assertEqual(
            message["content"],
            [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "image_url", "image_url": {"url": "https://x.test/a", "detail": "high"}},
                {"type": "text", "text": "context"},
                {"type": "file", "file": {"filename": "T", "file_data": f"data:application/pdf;base64,{PDF.value}"}},
                {"type": "text", "text": "Title\n\nwords"},
                {"type": "text", "text": "Parts"},
                {"type": "text", "text": "p"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}},
            ],
        )

    def test_inexpressible_media(self) -> None:
        """What the model cannot be shown is refused by the client's name for it, never left out."""
        self.refused("image", PNG, images="ignored")
        self.refused("image", Image(Media("url", "u")), url_images=False)
        self.refused("image", Image(Media("file", "file_1")))
        self.refused("document", Document(PDF), documents="refused")
        self.refused("document", Document(Media("url", "u")))
        self.refused("document", Document(Media("file", "file_1")))
        self.refused("audio", Sound(Media("base64", "AAAA", "audio/flac")))
        with self.assertRaises(Inexpressible):
            self.messages(user(Text("x"), PNG), string_content_only=True)

    def test_calls(self) -> None:
        """Text before calls, whatever came first; arguments in their own words; content is always there."""
        sent = self.messages(
            user(), assistant(ToolCall("c1", "f", '{"a" : 1}'), Text("x"), ToolCall("c2", "f", "")),
            user(ToolResult("c1", (Text("1"),)), ToolResult("c2", (Text("2"), Text("3")))),
        )  # fmt: skip
        self.assertEqual(
            sent[1],
            {
                "role": "assistant",
                "content": "x",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a" : 1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ],
            },
        )
        self.assertEqual(
            sent[2:],
            [
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
                {"role": "tool", "tool_call_id": "c2", "content": "2\n3"},
            ],
        )
        sent = self.messages(user(), assistant(ToolCall("c1", "f", "{}")), user(ToolResult("c1")))
        self.assertIsNone(sent[1]["content"])
        self.assertEqual(sent[2]["content"], "")

    def test_broken_arguments(self) -> None:
        """Arguments that are no object are kept inside of one."""
        sent = self.messages(user(), assistant(ToolCall("c", "f", '{"a":')), user(ToolResult("c")))
        self.assertEqual(
            sent[1]["tool_calls"][0]["function"]["arguments"], json.dumps({"_raw": '{"a":'}).replace(": ", ":", 1)
        )

    def test_results_first(self) -> None:
        """Results come before the words of the same turn, also where the client had it the other way round."""
        sent = self.messages(
            user(), assistant(ToolCall("c", "f", "{}")), user(Text("and"), ToolResult("c", (Text("r"),), is_error=True))
        )
        self.assertEqual(
            sent[2:],
            [
                {"role": "tool", "tool_call_id": "c", "content": "[tool error] r"},
                {"role": "user", "content": "and"},
            ],
        )

    def test_pairing(self) -> None:
        """A call that nobody answered gets a result; a result without a call is told in words."""
        sent = self.messages(user(), assistant(ToolCall("c", "f", "{}")), user(Text("go on")))
        self.assertEqual([message["role"] for message in sent], ["user", "assistant", "tool", "user"])
        sent = self.messages(user(ToolResult("lost", (Text("r"),))))
        self.assertEqual(sent[0]["role"], "user")
        self.assertIn("r", sent[0]["content"])

    def test_ids(self) -> None:
        """Ids that the server does not take are made anew, alike for call and result."""
        sent = self.messages(
            user(), assistant(ToolCall("x" * 50, "f", "{}")), user(ToolResult("x" * 50)), tool_id_max=40
        )
        self.assertEqual(sent[1]["tool_calls"][0]["id"], sent[2]["tool_call_id"])
        self.assertLessEqual(len(sent[2]["tool_call_id"]), 40)

    def test_result_images(self) -> None:
        """Pictures of results follow in one message of the user, stay inside, or are refused."""
        turns = (
            user(), assistant(ToolCall("c", "f", "{}"), ToolCall("d", "f", "{}")),
            user(ToolResult("c", (Text("r"), PNG)), ToolResult("d", (PNG,)), Text("and")),
        )  # fmt: skip
        sent = self.messages(*turns)
        self.assertEqual([message["role"] for message in sent[2:]], ["tool", "tool", "user", "user"])
        self.assertEqual([message["content"] for message in sent[2:4]], ["r", ""])
        self.assertEqual(
            [part.get("text", part["type"]) for part in sent[4]["content"]],
            ["[media returned by tool call c]", "image_url", "[media returned by tool call d]", "image_url"],
        )
        sent = self.messages(*turns, strict_role_alternation=True)
        self.assertEqual([message["role"] for message in sent[2:]], ["tool", "tool", "user"])
        sent = self.messages(*turns, tool_images="in_tool")
        self.assertEqual([part["type"] for part in sent[2]["content"]], ["text", "image_url"])
        with self.assertRaises(Inexpressible):
            self.messages(*turns, tool_images="none")

    def test_merged(self) -> None:
        """Assistants' turns in a row are one message; texts of one turn are joined without a gap."""
        sent = self.messages(
            user(), assistant(Text("a"), Text("b")), assistant(Text("c"), ToolCall("c", "f", "{}")),
            user(ToolResult("c")),
        )  # fmt: skip
        self.assertEqual(sent[1]["content"], "ab\nc")
        self.assertEqual(len(sent[1]["tool_calls"]), 1)

    def test_refusal(self) -> None:
        """A refusal of before is what the assistant said."""
        self.assertEqual(self.messages(user(), assistant(Refusal("no")), user())[1]["content"], "no")

    def test_foreign(self) -> None:
        """What another dialect alone knows goes as the text that stands for it."""
        part = Foreign("anthropic", "server_tool_use", {}, "[searched]")
        self.assertEqual(self.messages(user(), assistant(part), user())[1]["content"], "[searched]")

    def test_prefill(self) -> None:
        """An assistant's turn at the end stays where it is gone on with."""
        self.assertEqual(self.messages(user(), assistant(Text("{")))[-1]["role"], "assistant")
        self.assertEqual(self.messages(user(), assistant(Text("{")), prefill=False)[-1]["role"], "user")

    def test_cache(self) -> None:
        """Marks of prompt caches in the form that the upstream knows, else none."""
        mark = CacheMark("1h")
        turns = (user(Text("a", cache=mark)),)
        self.assertEqual(self.messages(*turns)[0]["content"], "a")
        for column, wanted in (
            ("prompt_cache_breakpoint", {"mode": "explicit", "ttl": "12h"}),
            ("cache_control", {"type": "ephemeral", "ttl": "1h"}),
        ):
            sent = self.messages(*turns, system=(Text("s", cache=mark),), cache_marks=column)
            self.assertEqual(sent[0]["content"], [{"type": "text", "text": "s", column: wanted}])
            self.assertEqual(sent[1]["content"], [{"type": "text", "text": "a", column: wanted}])

    def test_surrogates(self) -> None:
        """Lone surrogates travel as escapes."""
        self.assertEqual(self.messages(user(Text("a\ud83d")))[0]["content"], "a\ud83d")


class ReasoningTests(SynchronousTestCase):
    """Reasoning of earlier turns, and how more of it is asked for."""

    OWN = Reasoning("own", Opaque("groq", "m", "text", ""))
    OTHER = Reasoning("other", Opaque("anthropic", "claude", "signature", "sig"))

    def message(self, *parts: Part, control: ReasoningControl | None = None, **columns: Any) -> Any:
        turns = (user(), assistant(*parts, Text("x")), user())
        return written(conversation(*turns, reasoning=control), **columns)["messages"][1]

    def test_default(self) -> None:
        """Nothing is sent where nobody wants it."""
        for columns in ({}, {"reasoning_field": "reasoning"}, {"reasoning_echo": "forbidden"}):
            self.assertEqual(self.message(self.OWN, **columns), {"role": "assistant", "content": "x"})

    def test_allowed(self) -> None:
        """An upstream that may have it gets its own again, and nobody else's."""
        columns = {"reasoning_echo": "allowed", "reasoning_field": "reasoning"}
        self.assertEqual(self.message(self.OWN, **columns)["reasoning"], "own")
        self.assertNotIn("reasoning", self.message(self.OTHER, **columns))

    def test_required(self) -> None:
        """An upstream that wants it gets it in every message, whoever thought it, and a blank where it is lost."""
        columns = {"reasoning_echo": "required", "reasoning_field": "reasoning_content"}
        self.assertEqual(self.message(self.OWN, **columns)["reasoning_content"], "own")
        self.assertEqual(self.message(self.OTHER, **columns)["reasoning_content"], "other")
        self.assertEqual(self.message(Reasoning("bare"), **columns)["reasoning_content"], "bare")
        self.assertEqual(self.message(**columns)["reasoning_content"], " ")
        columns["reasoning_kind"] = "adaptive"
        self.assertNotIn("reasoning_content", self.message(control=ReasoningControl("off"), **columns))

    def test_tags(self) -> None:
        """A model that writes its reasoning between tags gets it back between tags."""
        sent = self.message(self.OWN, reasoning_echo="allowed", think_tags=True)
        self.assertEqual(sent["content"], "<think>\nown\n</think>\n\nx")

    def test_details(self) -> None:
        """Entries of an aggregator go back as they came."""
        details = [{"type": "reasoning.text", "text": "t", "signature": "s"}]
        part = Reasoning("t", Opaque("groq", "m", "encrypted", json.dumps(details)))
        sent = self.message(part, reasoning_echo="allowed", reasoning_field="reasoning_details")
        self.assertEqual((sent["reasoning"], sent["reasoning_details"]), ("t", details))

    def test_thoughts(self) -> None:
        """Thought signatures of its own go back on their calls; where one is wanted and lost a stand-in goes."""
        own = ToolCall("c", "f", "{}", opaque=Opaque("groq", "m", "thought", "sig"))
        for call, column, wanted in (
            (own, "optional", "sig"),
            (own, "none", None),
            (ToolCall("c", "f", "{}"), "optional", None),
            (ToolCall("c", "f", "{}"), "required", "skip_thought_signature_validator"),
            (replace(own, opaque=Opaque("gemini", "g", "thought", "sig")), "optional", None),
        ):
            turns = (user(), assistant(call), user(ToolResult("c")))
            sent = written(conversation(*turns), thought_signature=column)["messages"][1]["tool_calls"][0]
            extra = {"google": {"thought_signature": wanted}} if wanted else None
            self.assertEqual(sent.get("extra_content"), extra)

    def test_asked(self) -> None:
        """Each upstream is asked in its own member."""
        high, off, budget = ReasoningControl("on", "high"), ReasoningControl("off"), ReasoningControl("on", None, 5000)
        none = {"reasoning_levels": ("none", "low", "high")}
        tokens = {"reasoning_kind": "budget"}
        for control, columns, wanted in (
            (None, {}, {}),
            (high, {}, {"reasoning_effort": "high"}),
            (off, none, {"reasoning_effort": "none"}),
            (off, {}, {"reasoning_effort": "low"}),
            (high, {"reasoning_kind": "none"}, {}),
            (high, {"reasoning_member": "reasoning"}, {"reasoning": {"effort": "high"}}),
            (off, {"reasoning_member": "reasoning", **none}, {"reasoning": {"enabled": False}}),
            (budget, {"reasoning_member": "reasoning", **tokens}, {"reasoning": {"max_tokens": 5000}}),
            (
                high,
                {"reasoning_member": "thinking"},
                {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
            ),
            (off, {"reasoning_member": "thinking", **none}, {"thinking": {"type": "disabled"}}),
            (
                off,
                {"reasoning_member": "thinking", "reasoning_kind": "adaptive"},
                {"thinking": {"type": "disabled"}},
            ),
            (high, {"reasoning_member": "enable_thinking"}, {"enable_thinking": True}),
            (off, {"reasoning_member": "enable_thinking", **tokens}, {"enable_thinking": False}),
            (
                budget,
                {"reasoning_member": "enable_thinking", **tokens},
                {"enable_thinking": True, "thinking_budget": 5000},
            ),
        ):
            sent = written(conversation(reasoning=control), **columns)
            del sent["model"], sent["messages"]
            self.assertEqual(sent, wanted, (control, columns))
