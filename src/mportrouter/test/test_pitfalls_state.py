"""Opaque state of models: it comes back to whoever issued it, byte for byte, and is shown to nobody else."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import DIALECTS
from .pairs import NAMES
from .travel import UPSTREAMS, answered, asked, issued, kept

FORMS = list(product((True, False), repeat=2))


def sent(client: str, stream: bool, history: list[dict[str, Any]], upstream: str) -> bytes:
    """The next request of a client, as an upstream gets it."""
    dialect, target = UPSTREAMS[upstream]
    raw, look, conversation = asked(client, stream, history)
    if dialect == client:
        return DIALECTS[client].prepare(raw, look, target).body
    return DIALECTS[dialect].write_request(conversation, target).body


class TravelTests(SynchronousTestCase):
    """One answer and the request after it."""

    def test_home_and_nowhere_else(self) -> None:
        """Through every client, streamed or not, each state is sent once to its issuer, and no trace to any other."""
        for client, issuer in product(NAMES, UPSTREAMS):
            if UPSTREAMS[issuer][0] == client:
                continue
            for streams in FORMS:
                history = kept(client, answered(client, issuer, streams), streams[0])
                for upstream in UPSTREAMS:
                    body = sent(client, streams[0], history, upstream)
                    wanted = 1 if upstream == issuer else 0
                    for state in issued(issuer):
                        self.assertEqual(body.count(state.encode()), wanted, (client, issuer, upstream, streams))
                    self.assertNotIn(b"rt1.", body)
                    self.assertNotIn(b"cnQxL", body)

    def test_forms_are_alike(self) -> None:
        """Streamed or not, on either side, the issuer gets the same history back."""
        for client, issuer in product(NAMES, UPSTREAMS):
            if UPSTREAMS[issuer][0] == client:
                continue
            found = set()
            for streams in FORMS:
                history = kept(client, answered(client, issuer, streams), streams[0])
                body = json.loads(sent(client, streams[0], history, issuer))
                found.add(json.dumps(body.get("messages") or body.get("input") or body.get("contents")))
            self.assertEqual(len(found), 1, (client, issuer))

    def test_failing_over(self) -> None:
        """Where two upstreams have answered in turn, each gets its own state back and not the other's."""
        for client, first, second in product(NAMES, UPSTREAMS, UPSTREAMS):
            if client in (UPSTREAMS[first][0], UPSTREAMS[second][0]) or first == second:
                continue
            history = kept(client, answered(client, first, (True, True)), True)
            history += kept(client, answered(client, second, (True, True), history), True)
            for upstream in (first, second):
                # Both have issued the same bytes: one of each is the upstream's own.
                body = sent(client, True, history, upstream)
                found = [body.count(state.encode()) for state in issued(upstream)]
                self.assertEqual(found, [1] * len(found), (client, first, second, upstream))

    def test_order(self) -> None:
        """Reasoning goes back before the part that it came before, where the client's dialect has an order of parts."""
        wanted = {
            "claude": ["thinking", "redacted_thinking", "text", "thinking", "tool_use", "tool_use"],
            "openai": ["reasoning", "message", "reasoning", "function_call", "reasoning", "function_call"],
        }
        for client in ("anthropic", "openai-responses", "gemini"):
            for issuer, kinds in wanted.items():
                if UPSTREAMS[issuer][0] == client:
                    continue
                history = kept(client, answered(client, issuer, (True, True)), True)
                body = json.loads(sent(client, True, history, issuer))
                parts = body["messages"][1]["content"] if issuer == "claude" else body["input"][1:-2]
                self.assertEqual([part["type"] for part in parts], kinds, (client, issuer))

    def test_item_ids(self) -> None:
        """OpenAI's reasoning goes back under its own item's id, with a summary and without content."""
        for client in ("anthropic", "openai-chat", "gemini"):
            history = kept(client, answered(client, "openai", (True, True)), True)
            items = json.loads(sent(client, True, history, "openai"))["input"]
            thoughts = [item for item in items if item["type"] == "reasoning"]
            self.assertEqual([item["id"] for item in thoughts], ["rs_0", "rs_1", "rs_2"], client)
            self.assertEqual([item["summary"] for item in thoughts][1:], [[], []])
            self.assertFalse(any("content" in item for item in thoughts))
