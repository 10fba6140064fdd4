"""Tests for the writer of answers of the OpenAI Responses dialect, judged by the official SDK's accumulator."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import envelope, splice
from ..conversation import Citation, Foreign, Opaque, SearchHit, ToolCall, Turn, WebSearch
from ..dialects.responses_answer import ResponsesWriter
from ..dialects.responses_stream import event_reader
from ..errors import Kind, RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import IEventWriter
from ..records import Usage
from ..sequencer import Sequencer
from .response_events import CODEX, call, checked, completed, context, created, done, message, written

SIGNED = Opaque("anthropic", "claude-x", "signature", "sig")
ASKED: dict[str, Any] = {"include": ["reasoning.encrypted_content"], "store": False}


def some(key: int, kind: str, *texts: str, **more: Any) -> list[Event]:
    return [Open(key, kind, **more), *(Delta(key, each) for each in texts), Close(key)]


class WriterTests(SynchronousTestCase):
    """Both forms of an answer."""

    def both(self, events: list[Event], **members: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The events of the stream and the whole response, which must be the last event's."""
        inner = context("openai-responses", **members)
        everything = [Start("up_1", "up-model"), *events, End()]
        stream = checked(written(ResponsesWriter(True, inner), everything))
        whole = splice.loads(written(ResponsesWriter(False, inner), everything))
        self.assertEqual(stream[-1]["response"], whole)
        return stream, whole

    def kinds(self, stream: list[dict[str, Any]]) -> list[str]:
        return [event["type"].removeprefix("response.") for event in stream]

    def test_interface(self) -> None:
        """A writer is one, of either form."""
        for stream in (True, False):
            self.assertTrue(verifyObject(IEventWriter, ResponsesWriter(stream, context())))

    def test_text(self) -> None:
        """A text has the whole grammar around it, the asked-for model's name, and usage that adds up."""
        usage = Usage(input=30, cache_read=60, cache_write_5m=6, cache_write_1h=4, output=20, reasoning=5)
        stream, whole = self.both([*some(0, "text", "Hé", "llo"), Tally(usage), Finish("end")])
        self.assertEqual(
            self.kinds(stream),
            ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
             "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"],
        )  # fmt: skip
        self.assertEqual((whole["model"], whole["status"], whole["store"]), ("asked-for", "completed", False))
        self.assertEqual(whole["output"][0]["content"][0]["text"], "Héllo")
        self.assertEqual(
            whole["usage"],
            {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
             "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120},
        )  # fmt: skip

    def test_required_members(self) -> None:
        """Every response object has what clients' types insist on, and repeats what was asked."""
        tool = {"type": "function", "name": "f"}
        stream, whole = self.both(
            some(0, "text", "x"),
            tools=[tool],
            instructions="Be brief.",
            temperature=0.5,
            reasoning={"effort": "low"},
            text={"verbosity": "low"},
            metadata=None,
            store=True,
        )
        for response in (stream[0]["response"], stream[1]["response"], whole):
            for name in (
                "id", "object", "created_at", "status", "error", "incomplete_details", "instructions", "model",
                "output", "parallel_tool_calls", "tool_choice", "tools", "metadata", "temperature", "top_p",
                "completed_at", "previous_response_id", "truncation", "text", "presence_penalty",
                "frequency_penalty", "top_logprobs", "reasoning", "usage", "max_output_tokens", "max_tool_calls",
                "store", "background", "service_tier", "safety_identifier", "prompt_cache_key",
            ):  # fmt: skip
                self.assertIn(name, response)
        self.assertEqual(whole["tools"], [{"description": None, "parameters": None, "strict": None, **tool}])
        self.assertEqual((whole["instructions"], whole["temperature"], whole["metadata"]), ("Be brief.", 0.5, {}))
        self.assertEqual(whole["reasoning"], {"effort": "low", "summary": None})
        self.assertEqual(whole["text"], {"format": {"type": "text"}, "verbosity": "low"})
        self.assertEqual((stream[0]["response"]["output"], stream[0]["response"]["status"]), ([], "in_progress"))

    def test_adjacent_texts(self) -> None:
        """Texts in a row are one part of one message: clients read the first part only."""
        stream, whole = self.both([*some(0, "text", "one "), *some(1, "text", "two"), *some(2, "tool", name="f")])
        self.assertEqual([each["type"] for each in whole["output"]], ["message", "function_call"])
        self.assertEqual([each["text"] for each in whole["output"][0]["content"]], ["one two"])
        done_at = self.kinds(stream).index("output_item.done")
        call_at = next(at for at, each in enumerate(stream) if each.get("item", {}).get("type") == "function_call")
        self.assertLess(done_at, call_at)

    def test_calls(self) -> None:
        """A call keeps its id and arguments; one without arguments gets an empty object, also as a delta."""
        stream, whole = self.both(
            [*some(0, "tool", '{"a"', ":1}", id="toolu_1", name="f"), *some(1, "tool", name="g", namespace="ns")]
        )
        first, second = whole["output"]
        self.assertEqual((first["call_id"], first["name"], first["arguments"], first["status"]),
                         ("toolu_1", "f", '{"a":1}', "completed"))  # fmt: skip
        self.assertEqual((second["arguments"], second["namespace"]), ("{}", "ns"))
        self.assertTrue(first["id"].startswith("fc_") and second["call_id"].startswith("call_"))
        deltas = [each["delta"] for each in stream if each["type"] == "response.function_call_arguments.delta"]
        self.assertEqual(deltas, ['{"a"', ":1}", "{}"])
        finished = [each for each in stream if each["type"] == "response.function_call_arguments.done"]
        self.assertEqual([(each["name"], each["arguments"]) for each in finished], [("f", '{"a":1}'), ("g", "{}")])

    def test_interleaved_calls(self) -> None:
        """Calls whose fragments come in turn are written in turn, each under its own index."""
        _, whole = self.both(
            [Open(0, "tool", "a", "f"), Open(1, "tool", "b", "g"), Delta(0, '{"x"'), Delta(1, '{"y"'),
             Delta(0, ":1}"), Delta(1, ":2}"), Close(0), Close(1)],
        )  # fmt: skip
        self.assertEqual([each["arguments"] for each in whole["output"]], ['{"x":1}', '{"y":2}'])

    def test_used_ids(self) -> None:
        """An id that the history has already, or that another call has, is replaced: clients pair by it."""
        turns = (Turn("assistant", (ToolCall("call_0", "f", "{}"),)),)
        inner = context("openai-responses", turns=turns)
        given = ("call_0", "same", "same", "not legal!")
        calls = [event for key, id in enumerate(given) for event in some(key, "tool", id=id, name="f")]
        events = [Start(), *calls, End()]
        whole = splice.loads(written(ResponsesWriter(False, inner), events))
        ids = [each["call_id"] for each in whole["output"]]
        self.assertEqual((len(set(ids)), ids[1]), (4, "same"))
        self.assertNotIn("call_0", ids)

    def test_custom_call(self) -> None:
        """A call of a custom tool is one, its input raw."""
        stream, whole = self.both(some(0, "tool", "*** ", "X", id="c", name="apply_patch", custom=True))
        self.assertEqual((whole["output"][0]["type"], whole["output"][0]["input"]), ("custom_tool_call", "*** X"))
        self.assertIn("custom_tool_call_input.done", self.kinds(stream))

    def test_reasoning(self) -> None:
        """Reasoning is a summary; its state goes into an envelope where the client asked for it, and nowhere else."""
        events = [Open(0, "reasoning"), Delta(0, "hm"), Sign(0, SIGNED), Close(0), *some(1, "text", "x")]
        stream, whole = self.both(events, **ASKED)
        item = whole["output"][0]
        self.assertEqual(item["summary"], [{"type": "summary_text", "text": "hm"}])
        self.assertEqual(envelope.opened(item["encrypted_content"]), SIGNED)
        self.assertEqual(
            self.kinds(stream)[2:7],
            ["output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
             "reasoning_summary_text.done", "reasoning_summary_part.done"],
        )  # fmt: skip
        _, whole = self.both(events)
        self.assertNotIn("encrypted_content", whole["output"][0])

    def test_hidden(self) -> None:
        """State without words is an item of its own; OpenAI's own goes back bare, under its own id."""
        native = Opaque("openai", "gpt-x", "encrypted", "gAAA", "rs_orig")
        _, whole = self.both([Hidden(0, native), Hidden(1, SIGNED), *some(2, "text", "x")], **ASKED)
        self.assertEqual((whole["output"][0]["id"], whole["output"][0]["encrypted_content"]), ("rs_orig", "gAAA"))
        self.assertEqual(envelope.opened(whole["output"][1]["encrypted_content"]), SIGNED)
        _, whole = self.both([Hidden(1, SIGNED), *some(2, "text", "x")])
        self.assertEqual([each["type"] for each in whole["output"]], ["message"])

    def test_thought_signatures(self) -> None:
        """A signature on a call is an item before it, one on a text an item behind."""
        thought = Opaque("gemini", "g", "thought", "c2ln")
        _, whole = self.both(some(0, "tool", "{}", id="c", name="f", opaque=thought), **ASKED)
        self.assertEqual([each["type"] for each in whole["output"]], ["reasoning", "function_call"])
        _, whole = self.both([Open(0, "text"), Delta(0, "x"), Sign(0, thought), Close(0)], **ASKED)
        self.assertEqual([each["type"] for each in whole["output"]], ["message", "reasoning"])
        self.assertEqual(envelope.opened(whole["output"][1]["encrypted_content"]), thought)

    def test_stops(self) -> None:
        """Limits and filters make an answer incomplete; a text that was cut says so itself."""
        for stop, status, reason in (
            ("end", "completed", None), ("pause", "completed", None), ("stop_sequence", "completed", None),
            ("length", "incomplete", "max_output_tokens"), ("context_full", "incomplete", "max_output_tokens"),
            ("content_filter", "incomplete", "content_filter"), ("refusal", "incomplete", "content_filter"),
        ):  # fmt: skip
            stream, whole = self.both([*some(0, "text", "x"), Finish(stop)])
            self.assertEqual((whole["status"], stream[-1]["type"]), (status, f"response.{status}"))
            self.assertEqual(whole["incomplete_details"], None if reason is None else {"reason": reason})
            self.assertEqual(whole["output"][0]["status"], status)

    def test_refusal(self) -> None:
        """The model's own refusal is a part of the message, and the answer is complete."""
        stream, whole = self.both([*some(0, "refusal", "No."), Finish("refusal")])
        self.assertEqual(whole["output"][0]["content"], [{"type": "refusal", "refusal": "No."}])
        self.assertEqual(whole["status"], "completed")
        self.assertIn("refusal.done", self.kinds(stream))
        _, whole = self.both([*some(0, "text", "Well. "), *some(1, "refusal", "No."), Finish("refusal")])
        self.assertEqual([each["type"] for each in whole["output"][0]["content"]], ["output_text", "refusal"])

    def test_citations(self) -> None:
        """Citations carry offsets in the joined text; one about the whole text waits for its end."""
        page = Citation("https://a.example", "A", "", 1, 3)
        stream, whole = self.both(
            [*some(0, "text", "0123"), Open(1, "text"), Cite(1, Citation("https://b.example")), Delta(1, "45"),
             Delta(1, "67"), Cite(1, page), Cite(1, Citation(raw={"x": 1}, dialect="anthropic")), Close(1)],
        )  # fmt: skip
        notes = whole["output"][0]["content"][0]["annotations"]
        self.assertEqual([(each["url"], each["start_index"], each["end_index"]) for each in notes],
                         [("https://a.example", 5, 7), ("https://b.example", 4, 8)])  # fmt: skip
        self.assertEqual(
            [each["annotation_index"] for each in stream if each["type"].endswith("annotation.added")], [0, 1]
        )

    def test_search(self) -> None:
        """Another provider's search is a finished web_search_call with its sources."""
        search = WebSearch("srvtoolu_1", "q", (SearchHit("https://a.example", "A"),), ({"type": "x"},), "anthropic")
        stream, whole = self.both([Searched(0, search), *some(1, "text", "x")])
        item = whole["output"][0]
        self.assertEqual((item["type"], item["status"]), ("web_search_call", "completed"))
        self.assertEqual((item["action"]["query"], item["action"]["sources"][0]["url"]), ("q", "https://a.example"))
        self.assertIn("web_search_call.completed", self.kinds(stream))

    def test_foreign(self) -> None:
        """Items of this dialect pass as they are, told with their events in a stream; those of others are left out."""
        note = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
        said = message("words", phase="commentary")
        said["content"][0] |= {"annotations": [note], "logprobs": []}
        thought = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
                   "encrypted_content": "e"}  # fmt: skip
        custom = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "raw"}
        items = [thought, said, call("f", '{"a":1}'), custom]
        stream, whole = self.both(
            [
                *(Other(at, Foreign("openai-responses", item["type"], item)) for at, item in enumerate(items)),
                Other(9, Foreign("gemini", "executableCode", {"code": "x"})),
            ]
        )
        self.assertEqual(whole["output"], items)
        for name in ("output_text.delta", "output_text.annotation.added", "reasoning_summary_text.delta",
                     "function_call_arguments.done", "custom_tool_call_input.done"):  # fmt: skip
            self.assertIn(name, self.kinds(stream))

    def test_lone_surrogate(self) -> None:
        """Half a character does not end the stream."""
        writer = ResponsesWriter(True, context("openai-responses"))
        for event in (Start(), Open(0, "text")):
            writer.write(event)
        self.assertIn(b'"delta":"\\ud83d"', writer.write(Delta(0, "\ud83d")))

    def test_empty(self) -> None:
        """An answer without anything in it is still one, and usage that nobody told is none, not zero."""
        _, whole = self.both([])
        self.assertEqual((whole["output"], whole["usage"]), ([], None))

    def test_same_again(self) -> None:
        """The same events give the same bytes; another request gives other ids."""
        events = [Start(), *some(0, "text", "x"), *some(1, "tool", name="f"), End()]
        one, two = (written(ResponsesWriter(True, context("openai-responses")), events) for _ in range(2))
        self.assertEqual(one, two)


class FailTests(SynchronousTestCase):
    """Answers that end in an error."""

    def test_under_way(self) -> None:
        """A broken stream ends in response.failed with what was finished; what was cut is not finished."""
        writer = ResponsesWriter(True, context("openai-responses"))
        sequencer = Sequencer(True)
        events: list[Event] = [Start(), *some(0, "reasoning", "hm"), Open(1, "tool", "c", "f"), Delta(1, '{"a')]
        data = b"".join(writer.write(each) for event in events for each in sequencer.take(event))
        data += writer.fail(RouterError(Kind.OVERLOADED, "Overloaded", by="anthropic"))
        stream = checked(data)
        response = stream[-1]["response"]
        self.assertEqual(response["error"], {"code": "server_is_overloaded", "message": "Overloaded"})
        self.assertEqual([each["type"] for each in response["output"]], ["reasoning"])
        self.assertEqual([each["item"]["type"] for each in stream if each["type"].endswith("item.done")], ["reasoning"])
        self.assertEqual(writer.fail(RouterError(Kind.CUT, "again")), b"")

    def test_before_start(self) -> None:
        """An error before anything was written is a whole stream."""
        data = ResponsesWriter(True, context("openai-responses")).fail(RouterError(Kind.RATE, "Slow down.", 2.2))
        stream = checked(data)
        self.assertEqual([each["type"] for each in stream],
                         ["response.created", "response.in_progress", "response.failed"])  # fmt: skip
        self.assertEqual(
            stream[-1]["response"]["error"],
            {"code": "rate_limit_exceeded", "message": "mportrouter: Slow down. Please try again in 3s."},
        )

    def test_whole(self) -> None:
        """An answer that is not streamed has shown nothing: there is nothing to end."""
        self.assertEqual(ResponsesWriter(False, context()).fail(RouterError(Kind.CUT, "x")), b"")


class SameDialectTests(SynchronousTestCase):
    """A client that wants no stream, at an upstream that only streams."""

    def test_unknown_items_survive(self) -> None:
        """Every item arrives as the upstream finished it, though its last event holds none."""
        odd = {"id": "zz_1", "type": "brand_new", "payload": {"a": [1]}}
        items = [message("hi", phase="final_answer"), odd, call("f", '{"a": 1}', status="completed")]
        stream = created() + b"".join(done(at, item) for at, item in enumerate(items)) + completed([])
        inner = context("openai-responses", CODEX, **ASKED)
        reader, writer = event_reader(True, inner), ResponsesWriter(False, inner)
        whole = splice.loads(written(writer, reader.feed(stream) + reader.finish()))
        self.assertEqual(whole["output"], items)
        self.assertEqual(whole["usage"]["input_tokens"], 100)
