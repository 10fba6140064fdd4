"""Tests for :mod:`mportrouter.dialects.chat_answer`: what clients of the Chat dialect are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..conversation import Citation, Conversation, Opaque, Text, ToolCall, Turn, WebSearch
from ..dialects.chat_answer import ChatStreamWriter, ChatWholeWriter
from ..dialects.chat_content import read_messages
from ..envelope import seal
from ..errors import Kind, RouterError
from ..events import (
    Cite,
    Close,
    Delta,
    End,
    Event,
    Finish,
    Hidden,
    Open,
    Searched,
    Sign,
    Start,
    Tally,
)
from ..interfaces import IEventWriter
from ..records import Usage
from .chats import context, conversation

TEXT = [Open(0, "text"), Delta(0, "He"), Delta(0, "y"), Close(0)]
USAGE = Usage(input=10, cache_read=8, cache_write_5m=2, output=10, reasoning=4)
SIGNED = Opaque("anthropic", "claude", "signature", "sig")


def tool(key: int, *pieces: str, id: str = "", name: str = "f", **more: Any) -> list[Event]:
    return [Open(key, "tool", id, name, **more), *(Delta(key, piece) for piece in pieces), Close(key)]


def asked(**members: Any) -> Conversation:
    return conversation(dialect="openai-chat", model="gpt-5", **members)


class StreamTests(SynchronousTestCase):
    """Streams."""

    def chunks(self, events: Sequence[Event], stop: str = "end", **members: Any) -> list[dict[str, Any]]:
        """The chunks of a whole stream, whose grammar is checked, without ``[DONE]``."""
        writer = ChatStreamWriter(context(asked(**members)))
        self.assertTrue(verifyObject(IEventWriter, writer))
        ordered = [Start("msg_1", "claude"), *events, Tally(USAGE), Finish(stop), End()]
        raw = b"".join(map(writer.write, ordered))
        self.assertTrue(raw.endswith(b"data: [DONE]\n\n"))
        frames = raw.split(b"\n\n")[:-2]
        chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames]
        self.check(chunks, bool(members.get("stream_usage")))
        return chunks

    def check(self, chunks: list[dict[str, Any]], usage: bool) -> None:
        same = {(each["id"], each["created"], each["model"]) for each in chunks}
        self.assertEqual(same, {(chunks[0]["id"], 1_770_000_000, "gpt-5")})
        self.assertTrue(chunks[0]["id"].startswith("chatcmpl-"))
        for each in chunks:
            self.assertEqual(each["object"], "chat.completion.chunk")
            self.assertEqual("usage" in each, usage)
            if b'"custom"' not in json.dumps(each).encode():  # the official client has no type for those in a stream
                ChatCompletionChunk.model_validate(each)
            for choice in each["choices"]:
                self.assertEqual((choice["index"], choice["logprobs"]), (0, None))
                self.assertLessEqual({"delta", "finish_reason"}, set(choice))
        roles = [each for each in chunks if each["choices"] and "role" in each["choices"][0]["delta"]]
        self.assertEqual(roles, chunks[:1])
        reasons = [each["choices"][0]["finish_reason"] for each in chunks if each["choices"]]
        self.assertEqual(sum(reason is not None for reason in reasons), 1)
        self.assertIsNotNone(reasons[-1])

    def deltas(self, events: Sequence[Event], stop: str = "end", **members: Any) -> list[dict[str, Any]]:
        """What the chunks say between the first and the reason to stop."""
        chunks = [each for each in self.chunks(events, stop, **members) if each["choices"]]
        return [each["choices"][0]["delta"] for each in chunks[1:-1]]

    def test_text(self) -> None:
        """Text is content, after a first chunk with the role."""
        self.assertEqual(self.deltas(TEXT), [{"content": "He"}, {"content": "y"}])

    def test_usage(self) -> None:
        """Usage comes in a chunk of its own, where it was asked for, and is null in all others."""
        chunks = self.chunks(TEXT, stream_usage=True)
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(chunks[-1]["usage"]["prompt_tokens"], 20)
        self.assertTrue(all(each["usage"] is None for each in chunks[:-1]))

    def test_reasons(self) -> None:
        """Every reason to stop in the dialect's words."""
        for stop, reason in (
            ("end", "stop"), ("tool_use", "tool_calls"), ("stop_sequence", "stop"), ("length", "length"),
            ("context_full", "length"), ("refusal", "content_filter"), ("content_filter", "content_filter"),
            ("pause", "stop"),
        ):  # fmt: skip
            self.assertEqual(self.chunks(TEXT, stop)[-1]["choices"][0]["finish_reason"], reason)

    def test_calls(self) -> None:
        """Calls count from 0 whatever stands before them; id and name come once, arguments after them."""
        deltas = self.deltas(
            [*TEXT, *tool(1, '{"a"', ":1}", id="toolu_1"), *tool(2, "{}", id="x", name="g")], "tool_use"
        )
        heads = [delta["tool_calls"][0] for delta in deltas[2:]]
        self.assertEqual(
            heads,
            [
                {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": ""}},
                {"index": 0, "function": {"arguments": '{"a"'}},
                {"index": 0, "function": {"arguments": ":1}"}},
                {"index": 1, "id": "x", "type": "function", "function": {"name": "g", "arguments": ""}},
                {"index": 1, "function": {"arguments": "{}"}},
            ],
        )

    def test_interleaved(self) -> None:
        """Fragments of several calls may come in turn."""
        events = [
            Open(0, "tool", "a", "f"),
            Open(1, "tool", "b", "g"),
            Delta(1, "{}"),
            Delta(0, "{}"),
            Close(0),
            Close(1),
        ]
        indexes = [delta["tool_calls"][0]["index"] for delta in self.deltas(events, "tool_use")]
        self.assertEqual(indexes, [0, 1, 1, 0])

    def test_no_arguments(self) -> None:
        """A call without arguments gets an empty object: clients read the joined text as JSON."""
        deltas = self.deltas(tool(0), "tool_use")
        self.assertEqual(deltas[-1], {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})

    def test_ids(self) -> None:
        """Ids that are missing, illegal or used before are made up, each another, and the same again."""
        history = (Turn("user", (Text("x"),)), Turn("assistant", (ToolCall("used", "f", "{}"),)))
        events = [*tool(0, id=""), *tool(1, id="used"), *tool(2, id="not legal!"), *tool(3, id="ok"), *tool(4, id="ok")]

        def ids() -> list[str]:
            writer = ChatStreamWriter(context(Conversation("openai-chat", "gpt-5", history)))
            raw = b"".join(map(writer.write, [Start(), *events]))
            found = [json.loads(line[6:])["choices"][0]["delta"] for line in raw.split(b"\n\n") if line]
            return [delta["tool_calls"][0]["id"] for delta in found if "id" in delta.get("tool_calls", [{}])[0]]

        first = ids()
        self.assertEqual(first, ids())
        self.assertEqual(len(set(first)), 5)
        self.assertEqual(first[3], "ok")
        for id in (*first[:3], first[4]):
            self.assertRegex(id, r"\Acall_[0-9a-f]{24}\Z")

    def test_custom(self) -> None:
        """A custom tool's call is one, with its input as it is."""
        deltas = self.deltas(tool(0, "x = 1", id="c", custom=True), "tool_use")
        self.assertEqual(deltas[0]["tool_calls"][0]["custom"], {"name": "f", "input": ""})
        self.assertEqual(deltas[1], {"tool_calls": [{"index": 0, "custom": {"input": "x = 1"}}]})
        self.assertEqual(len(self.deltas(tool(0, id="c", custom=True), "tool_use")), 1)

    def test_functions(self) -> None:
        """Who asked in the old form is answered in it; it has room for one call."""
        members = {"functions": [{"name": "f"}]}
        events = [*tool(0, '{"a":1}'), *tool(1, "{}", name="g")]
        deltas = self.deltas(events, "tool_use", members=members)
        self.assertEqual(
            deltas,
            [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"a":1}'}}],
        )
        self.assertEqual(self.deltas(tool(0), "tool_use", members=members)[-1], {"function_call": {"arguments": "{}"}})
        chunks = self.chunks(events, "tool_use", members=members)
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "function_call")

    def test_reasoning(self) -> None:
        """Reasoning has the member that compatible servers gave it; its state goes along with its text."""
        events = [Open(0, "reasoning"), Delta(0, "h"), Delta(0, "m"), Sign(0, SIGNED), Close(0), *tool(1)]
        deltas = self.deltas(events, "tool_use")
        self.assertEqual(deltas[:2], [{"reasoning_content": "h"}, {"reasoning_content": "m"}])
        (detail,) = deltas[2]["reasoning_details"]
        self.assertEqual((detail["type"], detail["text"], detail["signature"]), ("reasoning.text", "hm", seal(SIGNED)))

    def test_reasoning_back(self) -> None:
        """What the client gives back of it is the same reasoning."""
        events = [
            Open(0, "reasoning"), Delta(0, "hm"), Sign(0, SIGNED), Close(0),
            Hidden(1, Opaque("openai", "gpt", "encrypted", "e", "rs_1")), Open(2, "text"), Delta(2, "so"), Close(2),
        ]  # fmt: skip
        writer = ChatWholeWriter(context())
        for event in (Start(), *events, Finish("end")):
            writer.write(event)
        message = json.loads(writer.write(End()))["choices"][0]["message"]
        parts = read_messages([message])[1][0].parts
        self.assertEqual(
            [(getattr(part, "text", ""), getattr(part, "opaque", None)) for part in parts],
            [("hm", SIGNED), ("", Opaque("openai", "gpt", "encrypted", "e", "rs_1")), ("so", None)],
        )

    def test_unsigned(self) -> None:
        """Text that nobody signed brings no state along."""
        events = [Open(0, "reasoning"), Delta(0, "hm"), Sign(0, Opaque("groq", "m", "text", "")), Close(0)]
        self.assertEqual(self.deltas(events), [{"reasoning_content": "hm"}])

    def test_hidden(self) -> None:
        """Reasoning that only its provider can read travels as such."""
        opaque = Opaque("openai", "gpt", "encrypted", "e", "rs_1")
        (delta,) = self.deltas([Hidden(0, opaque)])
        self.assertEqual(delta["reasoning_details"][0]["type"], "reasoning.encrypted")
        self.assertEqual(delta["reasoning_details"][0]["data"], seal(opaque))

    def test_thoughts(self) -> None:
        """A thought signature on a call, and one on a text, come back from where they went."""
        opaque = Opaque("gemini", "g", "thought", "sig")
        writer = ChatWholeWriter(context())
        events = [Open(0, "text"), Delta(0, "x"), Sign(0, opaque), Close(0), *tool(1, "{}", id="c", opaque=opaque)]
        for event in (Start(), *events, Finish("tool_use")):
            writer.write(event)
        message = json.loads(writer.write(End()))["choices"][0]["message"]
        self.assertEqual(message["tool_calls"][0]["extra_content"], {"google": {"thought_signature": seal(opaque)}})
        text, call = read_messages([message])[1][0].parts
        self.assertEqual((text, call), (Text("x", opaque=opaque), ToolCall("c", "f", "{}", opaque=opaque)))
        deltas = self.deltas(events, "tool_use")
        self.assertEqual(deltas[2]["tool_calls"][0]["extra_content"], message["tool_calls"][0]["extra_content"])

    def test_citations(self) -> None:
        """Citations become annotations with places in the whole content; what cites no page is left out."""
        events = [
            *TEXT, Open(1, "text"), Delta(1, "abc"), Cite(1, Citation("u", "t", start=0, end=2)),
            Cite(1, Citation("v")), Cite(1, Citation(raw={})), Close(1), Searched(2, WebSearch("s", "q")),
        ]  # fmt: skip
        places = [
            {"start_index": 3, "end_index": 5, "url": "u", "title": "t"},
            {"start_index": 3, "end_index": 6, "url": "v", "title": ""},
        ]
        wanted = [{"type": "url_citation", "url_citation": place} for place in places]
        self.assertEqual(self.deltas(events)[-1], {"annotations": wanted})
        writer = ChatWholeWriter(context())
        for event in (Start(), *events, Finish("end")):
            writer.write(event)
        self.assertEqual(json.loads(writer.write(End()))["choices"][0]["message"]["annotations"], wanted)

    def test_refusal(self) -> None:
        """Words of a refusal have their member; an explanation without words is told there too."""
        events = [Open(0, "refusal"), Delta(0, "no"), Close(0)]
        self.assertEqual(self.deltas(events, "refusal"), [{"refusal": "no"}])
        writer = ChatStreamWriter(context())
        raw = b"".join(map(writer.write, [Start(), Finish("refusal", explanation="because"), End()]))
        self.assertIn(b'"delta":{"refusal":"because"}', raw)

    def test_surrogates(self) -> None:
        """Lone surrogates travel as escapes."""
        writer = ChatStreamWriter(context())
        writer.write(Start())
        writer.write(Open(0, "text"))
        raw = writer.write(Delta(0, "\ud83d \u2028é"))
        self.assertTrue(raw.isascii())
        self.assertEqual(json.loads(raw[6:])["choices"][0]["delta"]["content"], "\ud83d \u2028é")

    def test_fail(self) -> None:
        """An error in mid-stream is a chunk with it: no reason to stop, no ``[DONE]``."""
        writer = ChatStreamWriter(context())
        for event in (Start(), *TEXT[:2]):
            writer.write(event)
        raw = writer.fail(RouterError(Kind.OVERLOADED, "busy", by="up"))
        error = json.loads(raw.removeprefix(b"data: "))["error"]
        self.assertEqual(
            error, {"message": "busy", "type": "server_error", "param": None, "code": "server_is_overloaded"}
        )
        self.assertNotIn(b"DONE", raw)

    def test_id(self) -> None:
        """An upstream's id of the dialect's form is kept; any other is made of the request's."""
        writer = ChatStreamWriter(context())
        self.assertIn(b'"id":"chatcmpl-7"', writer.write(Start("chatcmpl-7")))
        one, two = (ChatStreamWriter(context()).write(Start(id)) for id in ("msg_1", ""))
        self.assertEqual(one, two)

    def test_official_client(self) -> None:
        """The official client puts the chunks together."""
        state = ChatCompletionStreamState()
        events = [
            Open(9, "reasoning"), Delta(9, "r"), Sign(9, SIGNED), Close(9),
            *TEXT, *tool(1, '{"a"', ":1}", id="a"), *tool(2, id="b", name="g"),
        ]  # fmt: skip
        for each in self.chunks(events, "tool_use", stream_usage=True):
            state.handle_chunk(ChatCompletionChunk.model_validate(each))
        done = state.get_final_completion()
        message = done.choices[0].message
        self.assertEqual(
            (message.role, message.content, done.choices[0].finish_reason), ("assistant", "Hey", "tool_calls")
        )
        self.assertEqual(
            [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()],
            [("a", "f", '{"a":1}'), ("b", "g", "{}")],
        )
        self.assertEqual(done.usage.total_tokens if done.usage else None, 30)


class WholeTests(SynchronousTestCase):
    """Answers at once."""

    def whole(self, events: Sequence[Event], stop: str = "end", **members: Any) -> Any:
        writer = ChatWholeWriter(context(asked(**members)))
        self.assertTrue(verifyObject(IEventWriter, writer))
        for event in (Start("chatcmpl-9", "claude"), *events, Tally(USAGE), Finish(stop)):
            self.assertEqual(writer.write(event), b"")
        value = json.loads(writer.write(End()))
        ChatCompletion.model_validate(value)
        return value

    def test_keys(self) -> None:
        """Every key that the dialect's description wants is there."""
        value = self.whole(TEXT)
        self.assertLessEqual({"id", "object", "created", "model", "choices", "usage"}, set(value))
        self.assertEqual((value["id"], value["object"], value["model"]), ("chatcmpl-9", "chat.completion", "gpt-5"))
        choice = value["choices"][0]
        self.assertEqual((choice["index"], choice["finish_reason"], choice["logprobs"]), (0, "stop", None))
        self.assertEqual(choice["message"], {"role": "assistant", "content": "Hey", "refusal": None, "annotations": []})
        self.assertEqual(value["usage"]["total_tokens"], 30)

    def test_parts(self) -> None:
        """Texts are joined, calls are in order, content without text is null."""
        value = self.whole([*TEXT, Open(1, "text"), Delta(1, "!"), Close(1), *tool(2, "{}", id="c")], "tool_use")
        message = value["choices"][0]["message"]
        self.assertEqual(message["content"], "Hey!")
        self.assertEqual(
            message["tool_calls"],
            [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        )
        message = self.whole(tool(2, id="c"), "tool_use")["choices"][0]["message"]
        self.assertIsNone(message["content"])
        self.assertEqual(message["tool_calls"][0]["function"]["arguments"], "{}")

    def test_functions(self) -> None:
        """The old form is answered in the old form."""
        choice = self.whole(tool(0, '{"a":1}'), "tool_use", members={"functions": [{"name": "f"}]})["choices"][0]
        self.assertEqual(choice["finish_reason"], "function_call")
        self.assertEqual(choice["message"]["function_call"], {"name": "f", "arguments": '{"a":1}'})
        self.assertNotIn("tool_calls", choice["message"])

    def test_refusal(self) -> None:
        """A refusal stands in its own member, with the reason of a filter."""
        choice = self.whole([Open(0, "refusal"), Delta(0, "no"), Close(0)], "refusal")["choices"][0]
        self.assertEqual((choice["message"]["refusal"], choice["message"]["content"]), ("no", None))
        self.assertEqual(choice["finish_reason"], "content_filter")

    def test_fail(self) -> None:
        """Nothing was shown, so nothing is taken back."""
        self.assertEqual(ChatWholeWriter(context()).fail(RouterError(Kind.CUT, "x")), b"")
