"""Tests for :mod:`mportrouter.dialects.shape`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import DIALECTS
from ..dialects.shape import dialect_of

HI = [{"role": "user", "content": "hi"}]


def told(**members: Any) -> str | None:
    return dialect_of({"model": "m", **members})


class ShapeTests(SynchronousTestCase):
    """The dialect of a body without a path."""

    def test_alone(self) -> None:
        """Members that only one dialect has decide."""
        self.assertEqual(told(contents=[{"parts": [{"text": "hi"}]}]), "gemini")
        self.assertEqual(told(input="hi"), "openai-responses")
        self.assertEqual(told(previous_response_id="resp_1"), "openai-responses")
        self.assertEqual(told(messages=HI, system="be brief"), "anthropic")
        self.assertEqual(told(messages=HI, max_completion_tokens=5), "openai-chat")

    def test_plain(self) -> None:
        """Where both could have said it, the member that one of them must have decides, and the first role."""
        self.assertEqual(told(messages=HI, max_tokens=5), "anthropic")
        self.assertEqual(told(messages=HI), "openai-chat")
        self.assertEqual(told(messages=[{"role": "system", "content": "x"}, *HI], max_tokens=5), "openai-chat")
        self.assertEqual(told(messages=[]), "openai-chat")

    def test_content(self) -> None:
        """Parts of messages and shapes of tools tell, too, and together they outweigh a stray member."""
        block = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
        self.assertEqual(told(messages=[block]), "anthropic")
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}
        self.assertEqual(told(messages=[image], max_tokens=5), "openai-chat")
        self.assertEqual(told(messages=HI, max_tokens=5, tools=[{"type": "function", "function": {}}]), "openai-chat")
        self.assertEqual(told(messages=HI, tools=[{"name": "t", "input_schema": {}}]), "anthropic")
        self.assertEqual(told(messages=[block], tools=[{"input_schema": {}}], user="me"), "anthropic")
        self.assertEqual(told(messages=[{"role": "assistant", "tool_calls": []}], max_tokens=5), "openai-chat")

    def test_none(self) -> None:
        """What is no request is of no dialect, and nothing in it breaks the look."""
        for value in (None, [], "x", 5, {}, {"model": "m"}):
            self.assertIsNone(dialect_of(value))
        for odd in (None, 5, "x", {}, [None, 5, {"content": 7}, {"content": [None, {"type": 5}]}]):
            self.assertIn(told(messages=odd, tools=odd), DIALECTS)
