"""Tests for :mod:`mportrouter.dialects.anthropic_turn`."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..commands import parse
from ..dialects.anthropic import AnthropicDialect
from ..dialects.anthropic_turn import RoutingText, last_user_text, might_hold_command, routing_text

REMINDER = "<system-reminder>\nThe date is today.\nSay /router status.\n</system-reminder>"
IMAGE = {"type": "image", "source": {"type": "url", "url": "x"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "/router status"}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]}


def text(words: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **members}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if content and isinstance(content[0], str) else list(content)}


def body(*messages: Any, **members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **members}).encode()


class CommandTests(SynchronousTestCase):
    """The last words of a person."""

    def test_might_hold(self) -> None:
        """A body is worth a look where the letters of a command are in it, an escaped slash included."""
        for raw in (b'"/router"', b'"\\/router mode"', b'"/rr"', b'"\\/rr"', b"x/router", b"/Router", b"/RR"):
            self.assertTrue(might_hold_command(raw))
        for raw in (b'{"content":"\\/router status"}', b'{"content":"/rr"}', b'{"content":"/ROUTER help"}'):
            self.assertTrue(might_hold_command(raw))
        self.assertFalse(might_hold_command(b'{"content":"router status"}'))
        for raw in (b"", b"router", b"/r r", b"/rou"):
            self.assertFalse(might_hold_command(raw))

    def test_person(self) -> None:
        """Text in either form is a person's, without white space around it."""
        self.assertEqual(last_user_text(body(user(" /router status\n"))), "/router status")
        self.assertEqual(last_user_text(body(user(text("/rr help")))), "/rr help")
        self.assertEqual(last_user_text(body(user("a"), {"role": "assistant", "content": "b"}, user("c"))), "c")
        self.assertEqual(last_user_text(b'{"messages":[{"role":"user","content":"\\/rr help"}]}'), "/rr help")

    def test_letters(self) -> None:
        """Capital letters make no difference on the way from the body to the command."""
        dialect = AnthropicDialect()
        for said in ("/Router STATUS", "/ROUTER Status --JSON", "/Rr status", "/router status"):
            for raw in (body(user(said)), body(user(text(said))), body(user(said)).replace(b"/", b"\\/")):
                self.assertTrue(dialect.might_hold_command(raw, dialect.look(raw)), said)
                command = parse(dialect.last_user_text(raw) or "")
                assert command is not None, said
                self.assertEqual((command.word, command.json), ("status", said.endswith("JSON")))

    def test_several_blocks(self) -> None:
        """More words than the command stay with it, so that it is none."""
        self.assertEqual(last_user_text(body(user(text("/rr help"), text("please")))), "/rr help\nplease")
        self.assertEqual(last_user_text(body(user("what does /router do?"))), "what does /router do?")

    def test_reminders(self) -> None:
        """What the client adds in reminders is not the person's."""
        self.assertEqual(last_user_text(body(user(text(REMINDER), text("/rr help"), text(REMINDER)))), "/rr help")
        self.assertEqual(last_user_text(body(user(f"{REMINDER}\n/rr help {REMINDER}"))), "/rr help")
        self.assertEqual(last_user_text(body(user(text(REMINDER)))), "")
        self.assertEqual(last_user_text(body(user("<system-reminder>/rr help"))), "<system-reminder>/rr help")

    def test_wrapping(self) -> None:
        """Claude Code's wrapping of a slash command is undone, whatever the order, and its file's text adds nothing."""
        name = "<command-name>/router</command-name>"
        message = "<command-message>router is running\u2026</command-message>"
        arguments = "<command-args>mode mixed</command-args>"
        for content in (
            (f"{name}\n{message}\n{arguments}",),
            (f"{message}\n{name}\n{arguments}",),
            (text(f"{message}\n{name}\n{arguments}"), text("/router mode mixed")),
            (text(REMINDER), text(f"{name}{message}{arguments}"), text(" /router mode mixed\n")),
        ):
            self.assertEqual(last_user_text(body(user(*content))), "/router mode mixed")
        self.assertEqual(last_user_text(body(user(f"{name}<command-args></command-args>"))), "/router")
        self.assertEqual(last_user_text(body(user(f"{message}{name}"))), "/router")
        mixed = text(f"{name}{arguments}"), text("Explain the router's modes.")
        self.assertEqual(last_user_text(body(user(*mixed))), "/router mode mixed\nExplain the router's modes.")
        nameless = "<command-name></command-name>/rr"
        self.assertEqual(last_user_text(body(user(nameless))), nameless)

    def test_local_commands(self) -> None:
        """What Claude Code did by itself before (``/clear``, ``/model``) does not hide what the person says now."""
        caveat = text("<local-command-caveat>Caveat: DO NOT respond to these messages.</local-command-caveat>")
        clear = text("<command-name>/clear</command-name>\n  <command-message>clear</command-message>\n")
        silent = text("<local-command-stdout></local-command-stdout>\n")
        told = text("<local-command-stdout>Set model to Sonnet 5\nand saved</local-command-stdout>")
        mine = text("<command-name>/router</command-name><command-args>status</command-args>"), text("/router status\n")
        model = text("<command-name>/model</command-name><command-args>sonnet</command-args>")
        one = text(clear["text"] + silent["text"])
        for before in ((caveat, clear, silent), (caveat, clear, silent, model, told), (one,), (caveat, model, told)):
            self.assertEqual(last_user_text(body(user(*before, *mine))), "/router status")
            self.assertEqual(last_user_text(body(user(*before, text("Hello.")))), "Hello.")
        self.assertEqual(last_user_text(body(user(text("/rr help"), silent))), "/rr help")
        open_ended = text("<local-command-stdout>/rr help")
        self.assertEqual(last_user_text(body(user(open_ended))), open_ended["text"])

    def test_system_after(self) -> None:
        """Claude Code's system message behind the person's does not hide it."""
        self.assertEqual(last_user_text(body(user("/rr help"), {"role": "system", "content": "env"})), "/rr help")

    def test_not_a_person(self) -> None:
        """Tool results, pictures, assistants and nonsense say nothing."""
        for messages in (
            [user(RESULT)],
            [user(RESULT, text("/rr help"))],
            [user(text("/rr help"), RESULT)],
            [user("/rr help"), CALL, user(RESULT)],
            [user("/rr help"), {"role": "assistant", "content": "ok"}],
            [user(IMAGE, text("/rr help"))],
            [user({"type": "unknown"})],
            [user(5)],
            [user(text("a"), {"type": "text"})],
            [{"role": "user"}],
            [{"role": "user", "content": None}],
            [{"role": "system", "content": "/rr help"}],
            ["/rr help"],
            [],
        ):
            self.assertIsNone(last_user_text(body(*messages)), messages)
        for raw in (b"", b"[]", b'{"messages":5}', b'{"messages":{}}', b"{", b"[" * 100_000, b'{"x":' + b"[" * 100_000):
            self.assertIsNone(last_user_text(raw))

    def test_lone_surrogates(self) -> None:
        """A lone surrogate somewhere in the conversation does not hide the command."""
        raw = body(user("cut \ud83d"), {"role": "assistant", "content": "ok"}, user("/rr help"))
        self.assertEqual(last_user_text(raw), "/rr help")
        self.assertEqual(last_user_text(body(user("\ud83d"))), "\ud83d")


class RoutingTextTests(SynchronousTestCase):
    """What the interactive strategy judges."""

    def test_values(self) -> None:
        """The last person's words, the sizes of what is around them, and whether they show a picture."""
        system = [text("be good")]
        last = user(text(REMINDER), text("look"), IMAGE)
        raw = body(user("first"), CALL, user(RESULT), last, system=system, tools=[{}, {}])
        found = routing_text(raw)
        self.assertEqual(
            (found.text, found.tool_count, found.message_count, found.images, found.system_size),
            ("look", 2, 4, True, len(json.dumps(system))),
        )
        self.assertFalse(routing_text(body(user("look"))).images)

    def test_key_in_the_tool_loop(self) -> None:
        """The key stays through the tool loop of a turn, also when cache marks move and texts change their form."""
        mark = {"cache_control": {"type": "ephemeral"}}
        first = routing_text(body(user(text("do it", **mark)), {"role": "system", "content": "env"}))
        for messages in (
            [user("do it"), {"role": "system", "content": "env"}, CALL, user({**RESULT, **mark})],
            [user(text("do it")), CALL, user(RESULT), CALL, user({**RESULT, **mark}, text(REMINDER))],
            [user(text(REMINDER), text("do it")), CALL, user(RESULT, text("also this"))],
        ):
            found = routing_text(body(*messages))
            self.assertEqual((found.text, found.turn_key), ("do it", first.turn_key), messages)

    def test_key_of_another_turn(self) -> None:
        """The next thing the person says, another history or another picture give another key."""
        answer = {"role": "assistant", "content": "ok"}
        keys = [
            routing_text(body(*messages)).turn_key
            for messages in (
                [user("go on")],
                [user("go on"), answer, user("go on")],
                [user("go on"), answer, user("go on"), answer, user("go on")],
                [user("start"), answer, user("go on")],
                [user("go"), answer, user("on")],
                [user("go on"), user(IMAGE)],
                [user(text("go on"), IMAGE)],
            )
        ]
        self.assertEqual(len(set(keys)), len(keys))

    def test_nothing(self) -> None:
        """Bodies without a person's words give an empty text and no exception."""
        odd = b'{"messages":5,"tools":7}'
        for raw in (b"", b"{}", b"[]", odd, body("x", 5, None), body(user(RESULT)), b"{" * 100_000):
            found = routing_text(raw)
            self.assertIsInstance(found, RoutingText)
            self.assertEqual((found.text, found.images), ("", False))

    def test_lone_surrogates(self) -> None:
        """Lone surrogates are part of the text and of the key."""
        found = routing_text(body(user("cut \ud83d"), tools=[{}]))
        self.assertEqual((found.text, found.tool_count), ("cut \ud83d", 1))
        self.assertNotEqual(found.turn_key, routing_text(body(user("cut \ud83e"))).turn_key)
