"""Tests for :mod:`mportrouter.dialects.anthropic_answer` and :mod:`mportrouter.dialects.anthropic_shown`."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..collector import Collector, events_of
from ..conversation import (
    Answer,
    Citation,
    Conversation,
    Foreign,
    Opaque,
    Reasoning,
    ReasoningControl,
    SearchHit,
    Text,
    ToolCall,
    Turn,
    WebSearch,
)
from ..dialects.anthropic_answer import writer
from ..dialects.anthropic_blocks import parts
from ..dialects.anthropic_events import reader
from ..envelope import opened
from ..errors import Kind, RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventWriter, Target
from ..records import Usage
from ..sequencer import Sequencer
from ..settings import Capabilities
from .test_anthropic import ask

NORMAL = Finish("end")
ON = ReasoningControl("adaptive")
STATE = Opaque("openai", "gpt-5", "encrypted", "secret", "rs_1")
THOUGHT = Opaque("gemini", "g", "thought", "th")
TEXT = (Open(0, "text"), Delta(0, "hi"), Close(0))


def context(
    reasoning: ReasoningControl | None = ON, turns: tuple[Turn, ...] = (), provider: str = "openai", **columns: Any
) -> AnswerContext:
    columns.setdefault("thinking_signature", provider)
    target = Target(provider, "gpt-5", Capabilities(**columns))
    return AnswerContext(
        Conversation("anthropic", "claude-x", turns, reasoning=reasoning), target, "req_1", 7, estimate=55
    )


def written(
    *events: Event, stop: Finish = NORMAL, usage: Usage | None = None, stream: bool = True, **options: Any
) -> bytes:
    writing = writer(stream, context(**options))
    tally = () if usage is None else (Tally(usage),)
    return b"".join(writing.write(one) for one in (Start("resp_1", "gpt-5"), *events, *tally, stop, End()))


def told(*events: Event, **options: Any) -> list[dict[str, Any]]:
    """The events of a stream, checked against the dialect's grammar."""
    out = []
    body = written(*events, **options)
    for text in body.decode("ascii").split("\n\n")[:-1]:
        name, data = text.split("\n")
        found = json.loads(data.removeprefix("data: "))
        assert name == f"event: {found['type']}"
        out.append(found)
    names = [one["type"] for one in out]
    assert names[0] == "message_start" and names[-2:] == ["message_delta", "message_stop"], names
    assert (names.count("message_start"), names.count("message_delta"), names.count("message_stop")) == (1, 1, 1)
    at, open_ = -1, None
    for one in out[1:-2]:
        if one["type"] == "content_block_start":
            assert open_ is None and one["index"] == at + 1, one
            at, open_ = one["index"], one["content_block"]["type"]
        elif one["type"] == "content_block_delta":
            assert open_ is not None and one["index"] == at, one
        elif one["type"] == "content_block_stop":
            assert open_ is not None and one["index"] == at, one
            open_ = None
        else:
            assert one["type"] == "ping"
    assert open_ is None
    return out


def content(*events: Event, **options: Any) -> list[Any]:
    """The blocks that the official client makes of a stream, which are those of the whole answer too."""
    told(*events, **options)
    streamed = ask(b"text/event-stream", written(*events, **options), True)
    whole = ask(b"application/json", written(*events, stream=False, **options), False)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.id == whole.id
    assert streamed.stop_details == whole.stop_details, (streamed.stop_details, whole.stop_details)
    one, two = ([block.to_dict() for block in message.content] for message in (streamed, whole))
    for block in (*one, *two):
        block.pop("caller", None)
        if block.get("citations", 1) is None:
            del block["citations"]
    assert one == two, (one, two)
    return one


class StreamTests(SynchronousTestCase):
    """Streams."""

    def test_interface(self) -> None:
        """Both writers are what they say; neither takes parts in turn."""
        for stream, kind in ((True, b"text/event-stream; charset=utf-8"), (False, b"application/json")):
            writing = writer(stream, context())
            self.assertTrue(verifyObject(IEventWriter, writing))
            self.assertEqual((writing.content_type, writing.interleaves), (kind, False))

    def test_text(self) -> None:
        """A text is one block of exactly the deltas that came."""
        found = told(Open(0, "text"), Delta(0, "hé\u2028"), Delta(0, '"\n\ud83d'), Close(0))
        self.assertEqual(
            [one["type"] for one in found],
            [
                "message_start",
                "content_block_start",
                *["content_block_delta"] * 2,
                "content_block_stop",
                "message_delta",
                "message_stop",
            ],
        )
        self.assertEqual(found[1]["content_block"], {"type": "text", "text": "", "citations": None})
        self.assertEqual([one["delta"]["text"] for one in found[2:4]], ["hé\u2028", '"\n\ud83d'])

    def test_start(self) -> None:
        """The start has every key, the name that the client asked for, and the estimate where nothing is known."""
        message = told(*TEXT)[0]["message"]
        self.assertEqual(
            {name: message[name] for name in message if name != "usage"},
            {
                "id": message["id"],
                "type": "message",
                "role": "assistant",
                "model": "claude-x",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "stop_details": None,
                "container": None,
            },
        )
        self.assertRegex(message["id"], "^msg_[0-9a-f]{24}$")
        self.assertEqual(set(message["usage"]), USAGE_KEYS)
        self.assertEqual((message["usage"]["input_tokens"], message["usage"]["output_tokens"]), (55, 0))

    def test_usage_at_the_start(self) -> None:
        """What the upstream told before the first part stands in the start."""
        message = told(Tally(Usage(input=3, cache_read=4, output=1)), *TEXT, usage=Usage(input=5, output=9))
        start, last = message[0]["message"]["usage"], message[-2]["usage"]
        self.assertEqual((start["input_tokens"], start["cache_read_input_tokens"], start["output_tokens"]), (3, 4, 1))
        self.assertEqual((last["input_tokens"], last["cache_read_input_tokens"], last["output_tokens"]), (5, 0, 9))

    def test_usage_at_the_end(self) -> None:
        """The end has all numbers: cache writes by their time, reasoning and searches; or the best guess."""
        usage = Usage(10, 1, 2, 3, 20, 8, 4)
        found = told(*TEXT, usage=usage)[-2]["usage"]
        self.assertEqual(set(found) - {"output_tokens_details"}, USAGE_KEYS)
        self.assertEqual((found["input_tokens"], found["cache_creation_input_tokens"]), (10, 5))
        self.assertEqual(found["cache_creation"], {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3})
        self.assertEqual(found["output_tokens_details"], {"thinking_tokens": 8})
        self.assertEqual(found["server_tool_use"]["web_search_requests"], 4)
        guess = told(Open(0, "text"), Delta(0, "x" * 40), Close(0))[-2]["usage"]
        self.assertEqual((guess["input_tokens"], guess["output_tokens"]), (55, 10))
        self.assertEqual(json.loads(written(*TEXT, stream=False, usage=usage))["usage"], found)

    def test_empty(self) -> None:
        """An answer of nothing has no block and an end."""
        self.assertEqual([one["type"] for one in told()], ["message_start", "message_delta", "message_stop"])
        self.assertEqual(content(stop=Finish("refusal", None, "no", "bio")), [])

    def test_same_again(self) -> None:
        """The same events give the same bytes."""
        events = (Open(0, "tool", "", "f"), Delta(0, "{}"), Close(0), Searched(1, WebSearch("", "q")))
        self.assertEqual(written(*events), written(*events))

    def test_stops(self) -> None:
        """Each neutral stop has its reason; a refusal has details, a sequence its text."""
        for stop, reason in (
            ("end", "end_turn"),
            ("length", "max_tokens"),
            ("stop_sequence", "stop_sequence"),
            ("tool_use", "tool_use"),
            ("pause", "pause_turn"),
            ("context_full", "model_context_window_exceeded"),
            ("refusal", "refusal"),
            ("content_filter", "refusal"),
        ):
            found = told(*TEXT, stop=Finish(stop, "END", "why", "bio"))[-2]["delta"]
            self.assertEqual(set(found), {"stop_reason", "stop_sequence", "stop_details", "container"})
            self.assertEqual(found["stop_reason"], reason)
            self.assertEqual(found["stop_sequence"], "END" if stop == "stop_sequence" else None)
            details = {"type": "refusal", "category": "bio", "explanation": "why"}
            self.assertEqual(found["stop_details"], details if reason == "refusal" else None)

    def test_refusal(self) -> None:
        """Words of refusal are a text, and the reason is a refusal, whatever the upstream called it."""
        events = (Open(0, "refusal"), Delta(0, "I "), Delta(0, "won't"), Close(0))
        self.assertEqual(content(*events), [{"type": "text", "text": "I won't"}])
        found = told(*events)[-2]["delta"]
        self.assertEqual((found["stop_reason"], found["stop_details"]["explanation"]), ("refusal", "I won't"))

    def test_tools(self) -> None:
        """Calls keep legal ids that are new, get others made up, and have the upstream's own arguments."""
        history = (Turn("assistant", (ToolCall("call_old", "f", "{}"),)),)
        found = content(
            Open(0, "tool", "call_new", "f"), Delta(0, '{"a"'), Delta(0, ":1}"), Close(0),
            Open(1, "tool", "call_old", "f"), Delta(1, "{}"), Close(1),
            Open(2, "tool", "", "g"), Close(2),
            Open(3, "tool", "not legal!", "g"), Delta(3, "{}"), Close(3),
            turns=history, stop=Finish("tool_use"),
        )  # fmt: skip
        self.assertEqual(found[0], {"type": "tool_use", "id": "call_new", "name": "f", "input": {"a": 1}})
        ids = [block["id"] for block in found]
        self.assertEqual(len(set(ids)), 4)
        for id in ids[1:]:
            self.assertRegex(id, "^toolu_[0-9a-f]{24}$")
        self.assertEqual(found[2]["input"], {})

    def test_arguments_that_are_no_object(self) -> None:
        """A whole answer keeps broken arguments as a text; a stream passes them on as they came."""
        events = (Open(0, "tool", "c", "f"), Delta(0, '{"a'), Close(0))
        whole = json.loads(written(*events, stream=False))
        self.assertEqual(whole["content"][0]["input"], {"_raw": '{"a'})
        self.assertIn(b'"partial_json":"{\\"a"', written(*events))

    def test_free_text(self) -> None:
        """A call with free text is one whose input holds it."""
        found = content(Open(0, "tool", "c", "f", custom=True), Delta(0, 'a"'), Delta(0, "\n"), Close(0))
        self.assertEqual(found[0]["input"], {"input": 'a"\n'})

    def test_thinking(self) -> None:
        """Thinking is signed once, right before its stop, with an envelope that tells whose it is."""
        found = told(Open(0, "reasoning"), Delta(0, "hm"), Sign(0, STATE), Close(0), *TEXT)
        self.assertEqual(found[1]["content_block"], {"type": "thinking", "thinking": "", "signature": ""})
        self.assertEqual(found[2]["delta"], {"type": "thinking_delta", "thinking": "hm"})
        self.assertEqual(opened(found[3]["delta"]["signature"]), STATE)
        self.assertEqual(found[4]["type"], "content_block_stop")
        blocks = content(Open(0, "reasoning"), Delta(0, "hm"), Sign(0, STATE), Close(0), *TEXT)
        self.assertEqual([block["type"] for block in blocks], ["thinking", "text"])

    def test_unsigned_thinking(self) -> None:
        """Thinking that nobody signed is marked as its provider's text, so that Anthropic never gets it."""
        events = (Open(0, "reasoning"), Delta(0, "hm"), Close(0))
        for columns in ({}, {"thinking_signature": "anthropic"}):
            (block,) = content(*events, **columns)
            self.assertEqual(opened(block["signature"]), Opaque("openai", "gpt-5", "text", ""))

    def test_native_state(self) -> None:
        """Anthropic's own state goes as it is."""
        own = [Opaque("anthropic", "m", kind, kind) for kind in ("signature", "redacted")]
        found = content(
            Open(0, "reasoning"), Delta(0, "hm"), Sign(0, own[0]), Close(0), Hidden(1, own[0]), Hidden(2, own[1]),
            provider="anthropic",
        )  # fmt: skip
        self.assertEqual(
            found,
            [
                {"type": "thinking", "thinking": "hm", "signature": "signature"},
                {"type": "thinking", "thinking": "", "signature": "signature"},
                {"type": "redacted_thinking", "data": "redacted"},
            ],
        )

    def test_hidden(self) -> None:
        """State without text is a block of its own that comes back as it was; an empty note of origin is nothing."""
        (block,) = content(Hidden(0, STATE), Hidden(1, Opaque("openai", "gpt-5", "text", "")))
        self.assertEqual(parts([block])[0].opaque, STATE)

    def test_thought_signatures(self) -> None:
        """Thought signatures of calls and texts come back on them."""
        blocks = content(
            Open(0, "text"), Delta(0, "x"), Sign(0, THOUGHT), Close(0),
            Open(1, "tool", "c", "f", opaque=THOUGHT), Delta(1, "{}"), Close(1),
        )  # fmt: skip
        self.assertEqual(
            [block["type"] for block in blocks], ["text", "redacted_thinking", "redacted_thinking", "tool_use"]
        )
        self.assertEqual(parts(blocks), (Text("x", opaque=THOUGHT), ToolCall("c", "f", "{}", opaque=THOUGHT)))

    def test_thinking_not_asked_for(self) -> None:
        """A client that asked for no thinking, or not to see it, gets only state that must come back."""
        thinking = (Open(0, "reasoning"), *(Delta(0, "hm") for _ in range(130)))
        for control in (None, ReasoningControl("off"), ReasoningControl("adaptive", show="omitted")):
            found = told(*thinking, Close(0), *TEXT, reasoning=control)
            self.assertEqual([one["type"] for one in found].count("ping"), 2)
            self.assertEqual(content(*thinking, Close(0), *TEXT, reasoning=control), [{"type": "text", "text": "hi"}])
            block, _ = content(*thinking, Sign(0, STATE), Close(0), *TEXT, reasoning=control)
            self.assertEqual((block["type"], opened(block["data"])), ("redacted_thinking", STATE))

    def test_thinking_that_must_come_back(self) -> None:
        """Where the provider wants its text back the client gets it, asked for or not."""
        events = (Open(0, "reasoning"), Delta(0, "hm"), Close(0))
        (block,) = content(*events, reasoning=None, reasoning_echo="required")
        self.assertEqual(block["thinking"], "hm")

    def test_citations(self) -> None:
        """Citations of pages are the dialect's; its own go as they were; what is no page is left out."""
        own = {
            "type": "char_location",
            "document_index": 0,
            "cited_text": "c",
            "document_title": None,
            "start_char_index": 0,
            "end_char_index": 1,
            "file_id": None,
        }
        (block,) = content(
            Open(0, "text"), Delta(0, "hello"),
            Cite(0, Citation("https://a", "A", start=1, end=3)),
            Cite(0, Citation("https://b", cited="words")),
            Cite(0, Citation(raw=own, dialect="anthropic")),
            Cite(0, Citation(raw={"x": 1}, dialect="gemini")),
            Close(0),
        )  # fmt: skip
        page = {"type": "web_search_result_location", "encrypted_index": ""}
        self.assertEqual(
            block["citations"],
            [
                {**page, "url": "https://a", "title": "A", "cited_text": "el"},
                {**page, "url": "https://b", "title": None, "cited_text": "words"},
                own,
            ],
        )

    def test_search(self) -> None:
        """A search is a call and its result, one after the other; Anthropic's own is what it was."""
        found = content(Searched(0, WebSearch("ws_1", "q", (SearchHit("https://a", "A", "1 day"),))), *TEXT)
        call, result, _ = found
        self.assertRegex(call["id"], "^srvtoolu_[a-zA-Z0-9_]+$")
        self.assertEqual(
            (call["name"], call["input"], result["tool_use_id"]), ("web_search", {"query": "q"}, call["id"])
        )
        self.assertEqual(
            result["content"],
            [
                {
                    "type": "web_search_result",
                    "url": "https://a",
                    "title": "A",
                    "encrypted_content": "",
                    "page_age": "1 day",
                }
            ],
        )
        again = content(Searched(0, WebSearch("i", "q", (), (call, result), "anthropic")))
        self.assertEqual(again, [call, result])

    def test_other(self) -> None:
        """A block of the dialect's own goes as it was, another dialect's as its words, or not at all."""
        own = {"type": "container_upload", "file_id": "f"}
        found = content(
            Other(0, Foreign("anthropic", "container_upload", own)),
            Other(1, Foreign("gemini", "executableCode", {}, "```\n1\n```")),
            Other(2, Foreign("gemini", "x", {})),
        )
        self.assertEqual(found, [own, {"type": "text", "text": "```\n1\n```"}])

    def test_stray_events(self) -> None:
        """What belongs to no open part is not written, and nothing is after the end."""
        writing = writer(True, context())
        writing.write(Start())
        writing.write(Open(0, "text"))
        self.assertEqual(writing.write(Delta(1, "x")), b"")
        self.assertEqual(writing.write(Close(1)), b"")
        self.assertIn(b"content_block_stop", writing.write(Close(0)))
        self.assertEqual(writing.write(Close(0)) + writing.write(Delta(0, "x")), b"")
        self.assertTrue(writing.write(End()))
        self.assertEqual(
            writing.write(End()) + writing.write(Open(2, "text")) + writing.fail(RouterError(Kind.CUT, "x")), b""
        )

    def test_fail(self) -> None:
        """A broken stream ends in an error event, and no block is closed that was cut; a whole answer shows nothing."""
        writing = writer(True, context())
        for event in (Start(), Open(0, "tool", "c", "f"), Delta(0, '{"a')):
            writing.write(event)
        body = writing.fail(RouterError(Kind.OVERLOADED, "Overloaded", by="openai"))
        self.assertEqual(
            body,
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},'
            b'"request_id":"req_1"}\n\n',
        )
        self.assertEqual(writing.write(Close(0)) + writing.write(End()), b"")
        whole = writer(False, context())
        whole.write(Start())
        self.assertEqual(whole.fail(RouterError(Kind.CUT, "x")), b"")
        self.assertEqual(whole.write(End()), b"")


class WholeTests(SynchronousTestCase):
    """Whole answers."""

    def test_keys(self) -> None:
        """A whole message has every key, and comes at the end only."""
        writing = writer(False, context())
        for event in (Start("msg_own"), *TEXT, Finish("end")):
            self.assertEqual(writing.write(event), b"")
        body = writing.write(End())
        found = json.loads(body)
        self.assertEqual(
            set(found),
            {
                "id",
                "type",
                "role",
                "model",
                "content",
                "stop_reason",
                "stop_sequence",
                "stop_details",
                "usage",
                "container",
            },
        )
        self.assertEqual(
            (found["id"], found["content"]), ("msg_own", [{"type": "text", "text": "hi", "citations": None}])
        )
        self.assertEqual(set(found["usage"]), USAGE_KEYS)
        self.assertEqual(Message.model_validate_json(body).stop_reason, "end_turn")


_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
_CALLS = st.builds(
    ToolCall,
    st.just(""),
    st.sampled_from(["f", "g"]),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3).map(
        lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False) if value else ""
    ),
)


class RoundTripTests(SynchronousTestCase):
    """What is written is read again."""

    @given(
        st.lists(st.builds(Text, _WORDS) | st.builds(Reasoning, _WORDS, st.just(STATE)) | _CALLS, max_size=6),
        st.sampled_from(["end", "length", "pause", "context_full"]),
        st.builds(Usage, *[st.integers(1, 10**6)] * 7),
        st.booleans(),
    )
    @settings(max_examples=80, deadline=None)
    def test_round_trip(self, wanted: list[Any], stop: str, usage: Usage, stream: bool) -> None:
        """Parts, arguments, reason and numbers of any answer come out of it as they went in, streamed or whole."""
        asked = context(turns=(Turn("user", (Text("hi"),)),))
        writing, reading = writer(stream, asked), reader(stream, asked)
        order, collected = Sequencer(False), Collector()
        for event in events_of(Answer("", "m", tuple(wanted), stop, usage)):
            for ordered in order.take(event):
                for found in reading.feed(writing.write(ordered)):
                    collected.take(found)
        for found in reading.finish():
            collected.take(found)
        answer = collected.answer()
        self.assertEqual([type(part) for part in answer.parts], [type(part) for part in wanted])
        ids = set()
        for part, told in zip(answer.parts, wanted, strict=True):
            if isinstance(part, ToolCall):
                ids.add(part.id)
                self.assertEqual(
                    (part.name, json.loads(part.arguments or "{}")), (told.name, json.loads(told.arguments or "{}"))
                )
            else:
                self.assertEqual(part.text, told.text)
                if isinstance(part, Reasoning):
                    self.assertEqual(opened(part.opaque.value), STATE)
        self.assertEqual(len(ids), sum(isinstance(part, ToolCall) for part in wanted))
        self.assertEqual(answer.usage, usage)
        called = any(isinstance(part, ToolCall) for part in wanted)
        self.assertEqual(answer.stop, "tool_use" if called and stop == "end" else stop)


USAGE_KEYS = {
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "inference_geo",
    "server_tool_use",
    "service_tier",
}
