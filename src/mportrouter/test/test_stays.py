"""Tests of :mod:`mportrouter.web.stays`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import ANTHROPIC, CHAT
from ..settings import ModeSettings
from ..state import RuntimeState
from ..web.stays import NOWHERE, find, keep

MODE = ModeSettings("stacked", "round-robin", ("a", "b"))
HELLO = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


class StayTests(SynchronousTestCase):
    """Where a conversation was served last."""

    def setUp(self) -> None:
        self.state = RuntimeState(Clock().seconds)

    def found(self, *messages: dict[str, Any], session: str = "", mode: ModeSettings = MODE, **members: Any) -> str:
        body = json.dumps({"model": "m", "messages": messages, **members}).encode()
        self.stay = find(self.state, CHAT, body, CHAT.look(body), session, mode)
        return self.stay.upstream

    def test_goes_on(self) -> None:
        """The second request of a conversation is known by how it began."""
        self.assertEqual(self.found(HELLO), "")
        keep(self.state, self.stay, "b")
        self.assertEqual(self.found(HELLO, ANSWER, {"role": "user", "content": "and?"}), "b")

    def test_another_beginning(self) -> None:
        """Another first turn, system prompt or model is another conversation."""
        self.found(HELLO)
        keep(self.state, self.stay, "b")
        self.assertEqual(self.found({"role": "user", "content": "hallo"}, ANSWER, HELLO), "")
        self.assertEqual(self.found({"role": "system", "content": "x"}, HELLO, ANSWER, HELLO), "")
        self.assertEqual(self.found(HELLO, ANSWER, HELLO, model="n"), "")

    def test_same_words(self) -> None:
        """Two people who both say hello have no conversation in common yet."""
        self.found(HELLO)
        keep(self.state, self.stay, "b")
        self.assertEqual(self.found(HELLO), "")

    def test_named(self) -> None:
        """A conversation that its client names is known from its first request on."""
        self.found(HELLO, session="s1")
        keep(self.state, self.stay, "b")
        self.assertEqual(self.found({"role": "user", "content": "title?"}, session="s1"), "b")
        self.assertEqual(self.found(HELLO, session="s2"), "")

    def test_moved(self) -> None:
        """Who serves it next is remembered instead."""
        self.found(HELLO, session="s1")
        keep(self.state, self.stay, "a")
        self.found(HELLO, session="s1")
        keep(self.state, self.stay, "b")
        self.assertEqual(self.found(HELLO, session="s1"), "b")

    def test_loop(self) -> None:
        """Between a call and its result the model is told that the mode had chosen; at the person's next word not."""
        mode = attrs.evolve(MODE, auto_model="m")
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        turn = [HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
        result = {"role": "tool", "tool_call_id": "c", "content": "42"}
        for session in ("", "s1"):
            self.found(HELLO, session=session, mode=mode)
            keep(self.state, self.stay, "b", "big")
            self.assertEqual(self.found(*turn, result, session=session, mode=mode), "b")
            self.assertEqual(self.stay.loop, "big")
            self.assertEqual(self.found(*turn, result, ANSWER, HELLO, session=session, mode=mode), "b")
            self.assertEqual(self.stay.loop, "")

    def test_not_wanted(self) -> None:
        """Other strategies and modes without affinity bind nothing."""
        for mode in (
            ModeSettings("m", "fallback", ("a", "b")),
            ModeSettings("m", "round-robin", ("a", "b"), affinity=False),
        ):
            self.found(HELLO, session="s", mode=mode)
            self.assertEqual(self.stay, NOWHERE)
            keep(self.state, self.stay, "b")

    def test_unreadable(self) -> None:
        """A body that cannot be read here binds nothing; whoever it is for may judge it."""
        body = b'{"model":"m","max_tokens":5,"messages":[{"role":5}]}'
        self.assertEqual(find(self.state, ANTHROPIC, body, ANTHROPIC.look(body), "", MODE), NOWHERE)
