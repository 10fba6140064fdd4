"""Tests for what a person said in a request of the OpenAI Responses dialect."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .. import splice
from ..dialects.responses_turn import last_user_text, routing_text


def body(given: Any, **members: Any) -> bytes:
    return splice.dumps({"model": "m", "input": given, **members})


def user(text: str, *more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}, *more]}


OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "/router status"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
DEVELOPER = {"type": "message", "role": "developer", "content": "Be brief."}


class LastUserTextTests(SynchronousTestCase):
    """Where a command is looked for."""

    def test_said(self) -> None:
        """The last message of the user is found as a text, without a type, and before instructions."""
        for given in (
            "/router status",
            [user("before"), {"role": "user", "content": "/router status"}],
            [user("/router status"), DEVELOPER, {"type": "configuration_update"}],
            [user("<system-reminder>x</system-reminder>"), user("/router status")],
        ):
            self.assertEqual(last_user_text(body(given)), "/router status")

    def test_not_said(self) -> None:
        """Results of tools, assistants' words, pictures beside it and nonsense hold no command."""
        for given in (
            [user("/router status"), CALL, OUTPUT],
            [user("/router status"), {"role": "assistant", "content": "x"}],
            [user("/router status", {"type": "input_image", "image_url": "u"})],
            [], [3], {"a": 1}, None,
        ):  # fmt: skip
            self.assertIsNone(last_user_text(body(given)))
        self.assertIsNone(last_user_text(b"nonsense"))


class RoutingTextTests(SynchronousTestCase):
    """What the strategy judges."""

    def test_turn(self) -> None:
        """The turn's key stays through the tool loop and changes with the next words; surroundings are nobody's."""
        begun = [DEVELOPER, user("<environment_context>x</environment_context>"), user("do it")]
        first = routing_text(body(begun, tools=[{"type": "function"}], instructions="four"))
        self.assertEqual((first.text, first.tool_count, first.goes_on), ("do it", 1, False))
        self.assertEqual(first.system_size, len(b'"four"') + len(splice.dumps(DEVELOPER)))
        loop = routing_text(body([*begun, CALL, OUTPUT]))
        self.assertEqual((loop.text, loop.turn_key, loop.goes_on), ("do it", first.turn_key, True))
        self.assertEqual(loop.message_count, 5)
        after = routing_text(body([*begun, CALL, OUTPUT, user("do it")]))
        self.assertFalse(after.goes_on)
        self.assertNotEqual(after.turn_key, first.turn_key)

    def test_forms(self) -> None:
        """A text alone is a turn; pictures are seen; tools in items are counted."""
        self.assertEqual(routing_text(body("hello")).text, "hello")
        self.assertTrue(routing_text(body([user("x", {"type": "input_image", "image_url": "u"})])).images)
        tools = {"type": "additional_tools", "role": "developer", "tools": [{}, {}]}
        self.assertEqual(routing_text(body([tools, user("x")])).tool_count, 2)
        self.assertEqual(routing_text(b"nonsense").text, "")
