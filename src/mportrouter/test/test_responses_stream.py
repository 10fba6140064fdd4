"""Tests for the reader of answers of the OpenAI Responses dialect."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import splice
from ..conversation import Opaque, Tool
from ..dialects.responses_stream import event_reader
from ..errors import Kind, Verdict
from ..events import Cite, Close, Delta, End, Event, Failed, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import IEventReader
from ..records import Usage
from .response_events import (
    CODEX,
    OPENAI,
    added,
    call,
    completed,
    context,
    created,
    done,
    ev,
    in_all_cuts,
    joined,
    message,
    opened,
    read,
    said,
    text,
)

COUNTED = Usage(input=30, cache_read=60, cache_write_5m=10, output=20, reasoning=5)


class StreamTests(SynchronousTestCase):
    """Streams as vendors send them, each whole, byte by byte and at random cuts."""

    def events(self, *pieces: bytes, dialect: str = "anthropic", **more: Any) -> list[Event]:
        return joined(in_all_cuts(lambda: event_reader(True, context(dialect, **more)), b"".join(pieces)))

    def failed(self, *pieces: bytes) -> Verdict:
        last = self.events(*pieces)[-1]
        assert isinstance(last, Failed), last
        return last.verdict

    def test_interface(self) -> None:
        """A reader is one."""
        self.assertTrue(verifyObject(IEventReader, event_reader(True, context())))

    def test_text(self) -> None:
        """Text is given as it comes, usage disjoint, and the answer ends once."""
        found = self.events(
            created(),
            ev("response.in_progress", response={"id": "resp_1"}),
            added(0, {"id": "msg_1", "type": "message", "content": []}),
            ev("response.content_part.added", output_index=0, content_index=0, part={"type": "output_text"}),
            text(0, "Hé"),
            text(0, "llo"),
            ev("response.output_text.done", output_index=0, content_index=0, text="Héllo"),
            done(0, message("Héllo")),
            completed([message("Héllo")]),
        )
        key = opened(found, "text")[0].key
        self.assertEqual(
            found,
            [
                Start("resp_1", "gpt-x"),
                Open(key, "text"),
                Delta(key, "Héllo"),
                Close(key),
                Tally(COUNTED),
                Finish("end"),
                End(),
            ],
        )

    def test_tail(self) -> None:
        """What the end of a text or item says beyond its deltas comes too, and nothing comes twice."""
        found = self.events(
            created(),
            text(0, "one "),
            ev("response.output_text.done", output_index=0, content_index=0, text="one two "),
            done(0, message("one two three")),
            completed([message("one two three")]),
        )
        self.assertEqual(said(found, opened(found, "text")[0].key), "one two three")

    def test_only_items(self) -> None:
        """Items that come by output_item.done alone, or in the last event alone, are delivered."""
        call_item = call("f", '{"a":1}')
        for pieces in (
            (created(), done(0, message("hi")), done(1, call_item), completed([])),
            (created(), done(0, message("hi")), done(1, call_item), completed(None)),
            (created(), completed([message("hi"), call_item])),
            (completed([message("hi"), call_item]),),
            (created(), done(0, message("hi")), completed([message("hi"), call_item])),
        ):
            found = self.events(*pieces)
            self.assertEqual(said(found, opened(found, "text")[0].key), "hi")
            (tool,) = opened(found, "tool")
            self.assertEqual((tool.id, tool.name, said(found, tool.key)), ("call_1", "f", '{"a":1}'))
            self.assertIsInstance(found[-1], End)

    def test_ids_rotate(self) -> None:
        """Items are known by their index where ids change from event to event, and indexes may have gaps."""
        found = self.events(
            created(),
            added(0, {"id": "a", "type": "message"}),
            ev("response.output_text.delta", output_index=0, content_index=0, item_id="b", delta="x"),
            ev("response.output_text.delta", output_index=0, content_index=0, item_id="c", delta="y"),
            done(0, message("xy", id="d")),
            added(4, call("f", "", id="e")),
            ev("response.function_call_arguments.delta", output_index=4, item_id="g", delta="{}"),
            done(4, call("f", "{}", id="h")),
            completed([message("xy", id="i"), call("f", "{}", id="j")]),
        )
        self.assertEqual(len(opened(found, "text")), 1)
        self.assertEqual(len(opened(found, "tool")), 1)

    def test_arguments_once(self) -> None:
        """Arguments that came as deltas are not repeated by done events; missing ones are filled in."""
        for deltas in (('{"a"', ":1}"), ('{"a"',), ()):
            found = self.events(
                created(),
                added(0, call("f", "")),
                *(ev("response.function_call_arguments.delta", output_index=0, delta=each) for each in deltas),
                ev("response.function_call_arguments.done", output_index=0, arguments='{"a":1}'),
                done(0, call("f", '{"a":1}')),
                completed([call("f", '{"a":1}')]),
            )
            (tool,) = opened(found, "tool")
            self.assertEqual(said(found, tool.key), '{"a":1}')

    def test_arguments_before_name(self) -> None:
        """Deltas of a call that was never announced wait for its name."""
        found = self.events(
            created(),
            ev("response.function_call_arguments.delta", output_index=0, delta='{"a":1}'),
            done(0, call("f", '{"a":1}')),
            completed([]),
        )
        (tool,) = opened(found, "tool")
        self.assertEqual((tool.name, said(found, tool.key)), ("f", '{"a":1}'))

    def test_interleaved_calls(self) -> None:
        """Parallel calls whose deltas come in turn keep their own arguments."""
        found = self.events(
            created(),
            added(0, call("f", "", "call_a")),
            added(1, call("g", "", "call_b")),
            ev("response.function_call_arguments.delta", output_index=0, delta='{"a'),
            ev("response.function_call_arguments.delta", output_index=1, delta='{"b'),
            ev("response.function_call_arguments.delta", output_index=0, delta='":1}'),
            ev("response.function_call_arguments.delta", output_index=1, delta='":2}'),
            done(1, call("g", '{"b":2}', "call_b")),
            done(0, call("f", '{"a":1}', "call_a")),
            completed([]),
        )
        self.assertEqual(
            [(tool.id, tool.name, said(found, tool.key)) for tool in opened(found, "tool")],
            [("call_a", "f", '{"a":1}'), ("call_b", "g", '{"b":2}')],
        )

    def test_custom_and_namespace(self) -> None:
        """A custom tool's input is raw text; a namespace comes along; renamed tools get their names back."""
        patch = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "apply_patch", "input": "*** X\n"}
        found = self.events(
            created(),
            added(0, {**patch, "input": ""}),
            ev("response.custom_tool_call_input.delta", output_index=0, delta="*** "),
            ev("response.custom_tool_call_input.done", output_index=0, input="*** X\n"),
            done(0, patch),
            done(1, call("f", "{}", "c2", namespace="ns")),
            done(2, call("short", "{}", "c3")),
            completed([]),
            names={"short": Tool("a.very.long.name")},
        )
        tools = opened(found, "tool")
        self.assertEqual(
            [(each.name, each.custom, each.namespace) for each in tools],
            [("apply_patch", True, ""), ("f", False, "ns"), ("a.very.long.name", False, "")],
        )
        self.assertEqual(said(found, tools[0].key), "*** X\n")

    def test_leaked_wrapper(self) -> None:
        """The wrapper of parallel calls is taken apart, unless the client has a tool of that name."""
        uses = {
            "tool_uses": [
                {"recipient_name": "functions.f", "parameters": {"a": 1}},
                {"recipient_name": "functions.g", "parameters": {}},
            ]
        }
        arguments = splice.dumps(uses).decode()
        stream = (
            created(),
            added(0, call("parallel", "")),
            ev("response.function_call_arguments.delta", output_index=0, delta=arguments[:20]),
            ev("response.function_call_arguments.delta", output_index=0, delta=arguments[20:]),
            done(0, call("parallel", arguments)),
            completed([]),
        )
        found = self.events(*stream)
        self.assertEqual(
            [(each.id, each.name, said(found, each.key)) for each in opened(found, "tool")],
            [("call_1", "f", '{"a":1}'), ("call_1_1", "g", "{}")],
        )
        found = self.events(*stream, offered=(Tool("parallel"),))
        self.assertEqual([each.name for each in opened(found, "tool")], ["parallel"])

    def test_wrapper_that_is_none(self) -> None:
        """A call under the wrapper's name that holds no calls stays one."""
        found = self.events(created(), done(0, call("parallel", '{"x":1}')), completed([]))
        (tool,) = opened(found, "tool")
        self.assertEqual((tool.name, said(found, tool.key)), ("parallel", '{"x":1}'))

    def test_reasoning(self) -> None:
        """Parts of a summary are joined by a blank line; the state of the item's end counts, with the item's id."""
        item = {
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "encrypted_content": "final",
        }
        found = self.events(
            created(),
            added(0, {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "provisional"}),
            ev("response.reasoning_summary_part.added", output_index=0, summary_index=0, part={}),
            ev("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="one"),
            ev("response.reasoning_summary_part.added", output_index=0, summary_index=1, part={}),
            ev("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="two"),
            done(0, item),
            done(1, message("x")),
            completed([]),
        )
        (reasoning,) = opened(found, "reasoning")
        self.assertEqual(said(found, reasoning.key), "one\n\ntwo")
        self.assertIn(Sign(reasoning.key, Opaque("openai", "gpt-x", "encrypted", "final", "rs_1")), found)

    def test_hidden_reasoning(self) -> None:
        """Reasoning without a word is its state alone, and nothing where it has none."""
        item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "e"}
        found = self.events(created(), added(0, item), done(0, item), completed([item]))
        self.assertEqual([each.opaque.value for each in found if isinstance(each, Hidden)], ["e"])
        bare = {"id": "rs_1", "type": "reasoning", "summary": []}
        found = self.events(created(), added(0, bare), done(0, bare), completed([bare]))
        self.assertEqual([type(each) for each in found], [Start, Tally, Finish, End])

    def test_reasoning_text(self) -> None:
        """Plain reasoning text is read; where a summary came first it is not told twice."""
        plain = ev("response.reasoning_text.delta", output_index=0, content_index=0, delta="plain")
        summary = ev("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="summary")
        for pieces, words in (((plain,), "plain"), ((summary, plain), "summary")):
            found = self.events(created(), *pieces, done(1, message("x")), completed([]))
            (reasoning,) = opened(found, "reasoning")
            self.assertEqual(said(found, reasoning.key), words)

    def test_search_and_foreign(self) -> None:
        """A search of the provider's is one; an item that nobody else knows passes as what it is."""
        search = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "query": "q", "sources": [
            {"type": "url", "url": "https://a.example"}]}}  # fmt: skip
        other = {"id": "x_1", "type": "shell_call", "action": {"commands": ["ls"]}}
        found = self.events(created(), done(0, search), done(1, other), completed([search, other]))
        (searched,) = [each.search for each in found if isinstance(each, Searched)]
        self.assertEqual((searched.query, searched.hits[0].url, searched.raw), ("q", "https://a.example", (search,)))
        (foreign,) = [each.part for each in found if isinstance(each, Other)]
        self.assertEqual((foreign.kind, foreign.raw), ("shell_call", other))
        self.assertIn("ls", foreign.text)
        (tally,) = [each.usage for each in found if isinstance(each, Tally)]
        self.assertEqual(tally.web_searches, 1)

    def test_annotations(self) -> None:
        """Citations come once, from their event or from the item's end."""
        note = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
        item = message("words")
        item["content"][0]["annotations"] = [note, {**note, "url": "https://b.example"}]
        found = self.events(
            created(),
            text(0, "words"),
            ev("response.output_text.annotation.added", output_index=0, content_index=0, annotation=note),
            done(0, item),
            completed([item]),
        )
        cites = [each.citation for each in found if isinstance(each, Cite)]
        self.assertEqual([(each.url, each.start, each.end) for each in cites],
                         [("https://a.example", 0, 2), ("https://b.example", 0, 2)])  # fmt: skip

    def test_commentary(self) -> None:
        """A message of commentary and the final one are two texts."""
        found = self.events(created(), done(0, message("a", phase="commentary")), done(1, message("b")), completed([]))
        self.assertEqual([said(found, each.key) for each in opened(found, "text")], ["a", "b"])

    def test_refusal(self) -> None:
        """A refusal is told as one, and why the answer stopped."""
        item = message("")
        item["content"] = [{"type": "refusal", "refusal": "No."}]
        found = self.events(
            created(), ev("response.refusal.delta", output_index=0, content_index=0, delta="N"), done(0, item),
            completed([item]),
        )  # fmt: skip
        self.assertEqual(said(found, opened(found, "refusal")[0].key), "No.")
        self.assertIn(Finish("refusal", explanation="No."), found)

    def test_stops(self) -> None:
        """Why an answer is incomplete decides how it stopped."""
        for reason, stop in (("max_output_tokens", "length"), ("content_filter", "content_filter"), (None, "length")):
            found = self.events(
                created(), text(0, "x"), completed([], "incomplete", incomplete_details={"reason": reason})
            )
            self.assertIn(Finish(stop), found)

    def test_failures(self) -> None:
        """Errors inside a stream keep their kind, in every form, and come once."""
        failed = ev(
            "response.failed", response={"error": {"code": "rate_limit_exceeded", "message": "try again in 3s"}}
        )
        verdict = self.failed(created(), failed)
        self.assertEqual((verdict.kind, verdict.retry_after), (Kind.RATE, 3.0))
        nested = ev("error", error={"type": "invalid_request_error", "code": "context_length_exceeded", "message": "m"})
        self.assertIs(self.failed(created(), nested, failed).kind, Kind.CONTEXT)
        for code, kind in (
            ("server_error", Kind.UPSTREAM), ("insufficient_quota", Kind.MONEY), ("usage_not_included", Kind.MONEY),
            ("server_is_overloaded", Kind.OVERLOADED), ("slow_down", Kind.OVERLOADED),
            ("context_length_exceeded", Kind.CONTEXT), ("cyber_policy", Kind.POLICY), ("bio_policy", Kind.POLICY),
            ("invalid_prompt", Kind.BAD_REQUEST), ("who_knows", Kind.UPSTREAM),
        ):  # fmt: skip
            self.assertIs(self.failed(ev("error", code=code, message="m", param=None)).kind, kind, code)
        self.assertIs(self.failed(completed([], error={"code": "server_error", "message": "m"})).kind, Kind.UPSTREAM)
        self.assertIs(self.failed(ev("response.failed")).kind, Kind.UPSTREAM)

    def test_cut(self) -> None:
        """An end before the last event is a cut, also behind [DONE], and a call under way is not closed."""
        for tail in (b"", b"data: [DONE]\n\n"):
            found = self.events(
                created(),
                added(0, call("f", "")),
                ev("response.function_call_arguments.delta", output_index=0, delta='{"a'),
                tail,
            )
            self.assertFalse([each for each in found if isinstance(each, Close)])
            last = found[-1]
            assert isinstance(last, Failed)
            self.assertIs(last.verdict.kind, Kind.CUT)

    def test_lenient(self) -> None:
        """Where an upstream is known to leave out the last event, what came is the answer."""
        lenient = attrs.evolve(OPENAI, capabilities=attrs.evolve(OPENAI.capabilities, lenient_done=True))
        found = self.events(created(), text(0, "x"), b"data: [DONE]\n\n", target=lenient)
        self.assertIsInstance(found[-1], End)
        self.assertIsInstance(self.events(created(), target=lenient)[-1], Failed)

    def test_ugly(self) -> None:
        """Comments, life signs, unknown kinds, nameless events, broken JSON and a late [DONE] do no harm."""
        delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"}
        found = self.events(
            b": keepalive\n\n",
            ev("keepalive"),
            created(),
            ev("response.heartbeat", sequence_number=3),
            ev("codex.rate_limits", rate_limits={}),
            b"data:" + splice.dumps(delta) + b"\n\n",
            b"data: {broken\n\n",
            ev("response.brand_new", output_index=9, delta="?"),
            completed([]),
            b"data: [DONE]\n\n",
            text(0, "late"),
        )
        self.assertEqual([said(found, each.key) for each in opened(found, "text")], ["x"])
        self.assertIsInstance(found[-1], End)

    def test_broken_where_it_counts(self) -> None:
        """A last event, or a part of a call, that is no JSON breaks the answer."""
        for name in ("response.completed", "response.function_call_arguments.delta"):
            verdict = self.failed(
                created(), b"event: " + name.encode() + b'\ndata: {"type":"' + name.encode() + b"\n\n"
            )
            self.assertIs(verdict.kind, Kind.GARBAGE)

    def test_odd_members(self) -> None:
        """Numbers as texts, nulls and lone surrogates do not end a stream."""
        found = self.events(
            created(model=None, id=None),
            done(7, {"id": 3, "type": ["message"], "content": None}),
            ev("response.output_text.delta", output_index=0, content_index=None, delta="\ud83d", logprobs=None),
            ev("response.output_text.delta", output_index=0, content_index=0, delta="\ude00", obfuscation="zz"),
            ev("response.output_text.delta", output_index="0", content_index=0, delta=None),
            completed([], usage={"input_tokens": None, "output_tokens": 3.0}),
        )
        self.assertEqual(said(found, opened(found, "text")[0].key), "\ud83d\ude00")
        self.assertIn(Tally(Usage(output=3)), found)

    def test_nameless_call(self) -> None:
        """A call that never got a name is not hidden: whoever orders the events breaks the answer off."""
        found = self.events(
            created(), ev("response.function_call_arguments.delta", output_index=0, delta="{}"), completed([])
        )
        self.assertEqual([each.name for each in opened(found, "tool")], [""])

    def test_usage_without_reasoning(self) -> None:
        """Reasoning that a server leaves out of the output is added; no usage is none."""
        usage = {"input_tokens": 10, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 7},
                 "total_tokens": 22}  # fmt: skip
        found = self.events(created(), completed([message("x")], usage=usage))
        self.assertIn(Tally(Usage(input=10, output=12, reasoning=7)), found)
        found = self.events(created(), completed([message("x")], usage=None))
        self.assertFalse([each for each in found if isinstance(each, Tally)])

    def test_large_event(self) -> None:
        """An event of several MiB is read."""
        words = "x" * (3 * 1024 * 1024)
        found = read(event_reader(True, context()), [created() + done(0, message(words)) + completed([])])
        self.assertEqual(len(said(found, opened(found, "text")[0].key)), len(words))

    def test_whole_items(self) -> None:
        """For a client of the same dialect every item passes as it is, with phase, id and what nobody else knows."""
        odd = {"id": "zz_1", "type": "brand_new", "payload": [1, 2]}
        items = [message("a", phase="commentary", id="msg_9"), odd, call("f", "{}", extra=1)]
        found = self.events(
            created(), text(0, "a"), *(done(index, item) for index, item in enumerate(items)), completed([]),
            dialect="openai-responses",
        )  # fmt: skip
        self.assertEqual([each.part.raw for each in found if isinstance(each, Other)], items)
        self.assertEqual([type(each) for each in found if not isinstance(each, Other)], [Start, Tally, Finish, End])

    def test_whole_items_seal(self) -> None:
        """Encrypted reasoning of another provider than the client's usual one leaves in an envelope."""
        item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "secret"}
        found = self.events(created(), done(0, item), completed([]), dialect="openai-responses", target=CODEX)
        (part,) = [each.part for each in found if isinstance(each, Other)]
        self.assertTrue(part.raw["encrypted_content"].startswith("rt1.codex."))

    def test_whole_items_unfinished(self) -> None:
        """An item that only deltas told of is not lost on a client of the same dialect."""
        found = self.events(created(), text(0, "ab"), completed([]), dialect="openai-responses")
        self.assertEqual(said(found, opened(found, "text")[0].key), "ab")
