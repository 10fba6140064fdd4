"""Tests for :mod:`mportrouter.dialects.anthropic_members`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .requests import ANTHROPIC, MINIMAX, OURS, USER, assistant, body, encode, ready, thinking

MARK = {"cache_control": {"type": "ephemeral"}}
MARKLESS = attrs.evolve(ANTHROPIC, strip_block_fields=("cache_control",))
#: What a tool is called with, and what its schema says, is the client's.
THEIRS = {"cache_control": {"type": "ephemeral"}, "properties": {"cache_control": {"type": "string"}}}


def request(mark: dict[str, Any]) -> dict[str, Any]:
    """A request with the mark wherever one may stand."""
    part = {"type": "text", "text": 'say "cache_control"', **mark}
    document = {"type": "document", "source": {"type": "content", "content": [part]}, **mark}
    search = {"type": "search_result", "source": "https://e.example", "title": "t", "content": [part], **mark}
    return {
        "system": [part, {"type": "text", "text": "x"}],
        "tools": [{"name": "n", "input_schema": THEIRS, **mark}, {"name": "o", "input_schema": {}}],
        "messages": [
            {"role": "user", "content": [part, document]},
            assistant({"type": "tool_use", "id": "t", "name": "n", "input": THEIRS, **mark}),
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": [part, search, document], **mark}],
            },
            {"role": "user", "content": 'a text with "cache_control":1 in it'},
        ],
    }


class BlockTests(SynchronousTestCase):
    """Members of blocks and tools that an upstream refuses."""

    def test_everywhere(self) -> None:
        """The marks go from blocks, blocks in blocks, system blocks and tools; schemas and inputs keep theirs."""
        prepared = ready(body(**request(MARK)), MARKLESS)
        self.assertEqual(prepared.body, body(**request({})))
        self.assertEqual(prepared.dropped, ("content[].cache_control", "tools[].cache_control"))

    def test_default(self) -> None:
        """Without the column, and without marks, the very bytes go on."""
        for columns, raw in ((ANTHROPIC, body(**request(MARK))), (MARKLESS, body(messages=[USER]))):
            self.assertIs(ready(raw, columns).body, raw)
        unmarked = body(**request({}))  # the words alone are no mark
        prepared = ready(unmarked, MARKLESS)
        self.assertEqual((prepared.body, prepared.dropped), (unmarked, ()))

    def test_bytes(self) -> None:
        """What stands around a mark keeps its bytes."""
        raw = (
            b'{ "model":"claude-opus-5-5", "system" : "cache_control", "messages":[ {"role":"user","content":[ '
            b'{"type":"text" , "text":"\\u00e9\\/1.0", "cache_control":{"type":"ephemeral"}}]} ] }'
        )
        wanted = (
            b'{ "model":"claude-opus-5-5", "system" : "cache_control", "messages":[{"role":"user","content":['
            b'{"type":"text" , "text":"\\u00e9\\/1.0"}]}] }'
        )
        self.assertEqual(ready(raw, MARKLESS).body, wanted)

    def test_odd_shapes(self) -> None:
        """What is no block is left to the provider's judgement."""
        for content in (None, 5, "x", [5, None, "cache_control"], {"cache_control": 1}, [[MARK]]):
            raw = encode({"model": "m", "messages": [{"role": "user", "content": content}, MARK]})
            self.assertEqual(ready(raw, MARKLESS, "m").body, raw)
        raw = encode({"model": "m", "messages": MARK, "tools": MARK, "system": MARK})
        self.assertEqual(ready(raw, MARKLESS, "m").body, raw)

    def test_type_stays(self) -> None:
        """A block without its type is none: that one is never left out."""
        raw = body(**request(MARK))
        self.assertIs(ready(raw, attrs.evolve(ANTHROPIC, strip_block_fields=("type",))).body, raw)

    def test_with_other_edits(self) -> None:
        """Marks go too from what another edit has made anew, and nothing comes back that was left out."""
        columns = attrs.evolve(MINIMAX, strip_block_fields=("cache_control",))
        search = {"type": "search_result", "source": "s", "title": "t", "content": [], **MARK}
        raw = body(
            system=[{"type": "text", "text": "x-anthropic-billing-header: a"}, {"type": "text", "text": "b", **MARK}],
            tools=[{"name": "n", "input_schema": {}, "strict": True, **MARK}],
            messages=[{"role": "user", "content": [search]}, assistant(thinking(OURS), {**thinking(""), **MARK}), USER],
        )
        got = json.loads(ready(raw, columns).body)
        self.assertEqual(got["system"], [{"type": "text", "text": "b"}])
        self.assertEqual(got["tools"], [{"name": "n", "input_schema": {}}])
        self.assertEqual(got["messages"][0]["content"], [{"type": "text", "text": "t\ns"}])
        self.assertEqual(got["messages"][1]["content"], [thinking("sig+/=é"), thinking("")])
        gone = attrs.evolve(columns, strip_fields=("system", "tools"))
        self.assertNotIn("system", json.loads(ready(raw, gone).body))

    def test_deep(self) -> None:
        """Blocks nested without end are no reason to fail."""
        block: Any = {"type": "text", "text": "x", **MARK}
        for _ in range(100):
            block = {"type": "tool_result", "tool_use_id": "t", "content": [block], **MARK}
        got = json.loads(ready(body(messages=[{"role": "user", "content": [block]}]), MARKLESS).body)
        self.assertNotIn("cache_control", got["messages"][0]["content"][0])

    @given(marked=st.lists(st.booleans(), min_size=1, max_size=6), moved=st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_marks_leave_no_trace(self, marked: list[bool], moved: bool) -> None:
        """Wherever the client sets its marks, the upstream sees the same bytes: its cache holds."""
        history = [{"role": "user", "content": [{"type": "text", "text": str(index)}]} for index in range(len(marked))]
        with_marks = [
            {"role": "user", "content": [{"type": "text", "text": str(index), **(MARK if mark is not moved else {})}]}
            for index, mark in enumerate(marked)
        ]
        self.assertEqual(ready(body(messages=with_marks), MARKLESS).body, body(messages=history))


class NestedTests(SynchronousTestCase):
    """Members of members, named with a dot among those of the top level."""

    def test_dotted(self) -> None:
        """``outer.inner`` leaves out the one member; where nothing else is in it, the outer goes too."""
        columns = attrs.evolve(ANTHROPIC, strip_fields=("metadata.user_id", "reasoning_effort", "output_config.effort"))
        raw = body(metadata={"user_id": "u", "x": 1}, reasoning_effort="high", output_config={"effort": "low"})
        prepared = ready(raw, columns)
        self.assertEqual(prepared.body, body(metadata={"x": 1}))
        self.assertEqual(set(prepared.dropped), {"metadata.user_id", "reasoning_effort", "output_config.effort"})

    def test_beside_the_columns(self) -> None:
        """A dotted name adds to the column of the same member."""
        columns = attrs.evolve(ANTHROPIC, strip_fields=("thinking.budget_tokens",), strip_thinking_fields=("display",))
        raw = body(thinking={"type": "enabled", "budget_tokens": 5, "display": "omitted"})
        self.assertEqual(ready(raw, columns).body, body(thinking={"type": "enabled"}))

    def test_not_there(self) -> None:
        """What is not there, or is no object, changes nothing; a member whose own name has the dot goes."""
        columns = attrs.evolve(ANTHROPIC, strip_fields=("metadata.user_id", "a.b", "messages.0"))
        for members in ({}, {"metadata": {}}, {"metadata": "user_id"}, {"metadata": ["user_id"]}):
            raw = body(**members)
            self.assertIs(ready(raw, columns).body, raw)
        self.assertEqual(ready(body(**{"a.b": 1}), columns).body, body())
