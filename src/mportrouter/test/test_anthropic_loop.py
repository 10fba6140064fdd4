"""Tests for :mod:`mportrouter.dialects.anthropic_loop`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ..interfaces import Prepared
from .requests import ANTHROPIC, MINIMAX, OURS, TEXT, USER, assistant, body, messages, ready, thinking

ENABLED = {"type": "enabled", "budget_tokens": 1024}
NOTE = "thinking (the open tool loop's was another provider's)"
CALL = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "fog"}
RESULTS = {"role": "user", "content": [RESULT]}
FOREIGN = assistant(thinking(OURS), TEXT, CALL)
OWN = assistant(thinking("EqQB"), CALL)
BARE = assistant(CALL)


class PauseTests(SynchronousTestCase):
    """Budgeted thinking pauses for the rest of a tool loop whose thinking cannot be sent."""

    def prepared(self, *history: Any, **members: Any) -> Prepared:
        return ready(body(messages=list(history), **{"thinking": ENABLED, **members}), ANTHROPIC)

    def paused(self, *history: Any, **members: Any) -> bool:
        prepared = self.prepared(*history, **members)
        paused = NOTE in prepared.dropped
        sent = json.loads(prepared.body)["thinking"]
        self.assertEqual(sent, {"type": "disabled"} if paused else members.get("thinking", ENABLED))
        return paused

    def test_foreign_turn(self) -> None:
        """A loop that another provider opened goes on without thinking, and says so; nothing else changes."""
        prepared = self.prepared(USER, FOREIGN, RESULTS)
        self.assertEqual(messages(prepared), [USER, assistant(TEXT, CALL), RESULTS])
        self.assertEqual(prepared.dropped, ("thinking blocks of minimax", NOTE))
        self.assertIn(b'"thinking":{"type":"disabled"}', prepared.body)
        for block in (thinking(""), thinking(None), {"type": "redacted_thinking", "data": OURS}):
            self.assertTrue(self.paused(USER, assistant(block, CALL), RESULTS), block)

    def test_later_turns(self) -> None:
        """What Anthropic itself added to such a loop has no thinking: it stays paused until the loop is over."""
        self.assertTrue(self.paused(USER, FOREIGN, RESULTS, BARE, RESULTS))
        self.assertTrue(self.paused(USER, FOREIGN, RESULTS, BARE, RESULTS, BARE, RESULTS))
        self.assertTrue(self.paused(USER, OWN, RESULTS, FOREIGN, RESULTS))
        over = (USER, FOREIGN, RESULTS, BARE, RESULTS, assistant(TEXT), USER)
        self.assertFalse(self.paused(*over))
        self.assertFalse(self.paused(*over, OWN, RESULTS))

    def test_thinking_is_there(self) -> None:
        """A last turn that begins with thinking of Anthropic's own needs no pause."""
        self.assertFalse(self.paused(USER, FOREIGN, RESULTS, OWN, RESULTS))
        self.assertFalse(self.paused(USER, assistant(thinking(OURS), thinking("EqQB"), CALL), RESULTS))
        redacted = {"type": "redacted_thinking", "data": "EmwK"}
        self.assertFalse(self.paused(USER, assistant(thinking(OURS), redacted, CALL), RESULTS))

    def test_the_clients_own_fault(self) -> None:
        """Where nothing was taken from the loop, a turn without thinking is for the provider to judge."""
        self.assertFalse(self.paused(USER, FOREIGN, RESULTS, assistant(TEXT), USER, BARE, RESULTS))
        self.assertFalse(self.paused(USER, BARE, RESULTS))

    def test_no_open_loop(self) -> None:
        """Without results as the last thing said thinking stays on."""
        for history in (
            (USER, assistant(thinking(OURS), TEXT), USER),
            (USER, assistant(thinking(OURS), TEXT)),
            (USER, FOREIGN, RESULTS, BARE),
        ):
            self.assertFalse(self.paused(*history), history)

    def test_neighbours(self) -> None:
        """Messages of one role that stand together are one turn; texts and system messages may stand beside results."""
        self.assertTrue(self.paused(USER, FOREIGN, RESULTS, USER))
        self.assertTrue(self.paused(USER, FOREIGN, {"role": "user", "content": [RESULT, TEXT]}))
        self.assertTrue(self.paused(USER, FOREIGN, RESULTS, {"role": "system", "content": "env"}))
        self.assertTrue(self.paused(USER, assistant(thinking(OURS)), BARE, RESULTS))
        self.assertTrue(self.paused(USER, assistant(thinking(OURS), TEXT), OWN, RESULTS))
        self.assertFalse(self.paused(USER, assistant(thinking("EqQB"), thinking(OURS)), BARE, RESULTS))
        self.assertTrue(self.paused(USER, {"role": "assistant", "content": "so"}, FOREIGN, RESULTS))

    def test_other_kinds(self) -> None:
        """Thinking of another kind, or none at all, stays as it is."""
        for kind in ({"type": "adaptive"}, {"type": "disabled"}, {"type": 5}, None, "on"):
            self.assertFalse(self.paused(USER, FOREIGN, RESULTS, thinking=kind), kind)
        self.assertNotIn("thinking", json.loads(ready(body(messages=[USER, FOREIGN, RESULTS]), ANTHROPIC).body))

    def test_other_targets(self) -> None:
        """Only Anthropic asks for it."""
        raw = body(messages=[USER, OWN, RESULTS], thinking=ENABLED)
        self.assertEqual(json.loads(ready(raw, MINIMAX).body)["thinking"], ENABLED)

    def test_stripped_members(self) -> None:
        """Members of thinking that are stripped anyway do not come back; nor does a thinking that is stripped whole."""
        raw = body(messages=[USER, FOREIGN, RESULTS], thinking={**ENABLED, "display": "omitted"})
        fields = attrs.evolve(ANTHROPIC, strip_thinking_fields=("display",))
        self.assertEqual(json.loads(ready(raw, fields).body)["thinking"], {"type": "disabled"})
        whole = attrs.evolve(ANTHROPIC, strip_fields=("thinking",))
        self.assertNotIn("thinking", json.loads(ready(raw, whole).body))

    def test_context_management(self) -> None:
        """Edits that clear thinking are refused without it, and go too; others stay."""
        clear, uses = {"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}
        history = (USER, FOREIGN, RESULTS)
        name = "context_management.clear_thinking_20251015"
        for value, wanted in (
            ({"edits": [clear]}, None),
            ({"edits": [clear, uses]}, {"edits": [uses]}),
            ({"edits": [clear], "more": 1}, {"edits": [], "more": 1}),
        ):
            prepared = self.prepared(*history, context_management=value)
            self.assertEqual(json.loads(prepared.body).get("context_management"), wanted)
            self.assertIn(name, prepared.dropped)
        for untouched in ({"edits": [uses]}, {"edits": 5}, {}, None, {"edits": [5]}):
            prepared = self.prepared(*history, context_management=untouched)
            self.assertEqual(json.loads(prepared.body)["context_management"], untouched)
            self.assertIn(NOTE, prepared.dropped)
        kept = self.prepared(USER, assistant(thinking(OURS), TEXT), USER, context_management={"edits": [clear]})
        self.assertEqual(json.loads(kept.body)["context_management"], {"edits": [clear]})

    def test_odd_messages(self) -> None:
        """Messages of odd shapes are the provider's to judge."""
        for odd in (5, {"role": "assistant"}, {"role": 5, "content": []}, assistant(5), {"role": "user", "content": 5}):  # type: ignore[arg-type]
            prepared = self.prepared(USER, odd, FOREIGN, RESULTS)
            self.assertEqual(messages(prepared)[2], assistant(TEXT, CALL), odd)
