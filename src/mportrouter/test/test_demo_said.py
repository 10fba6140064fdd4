"""What the stand-ins say, whatever the dialect."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_said import (
    Asked,
    Refusal,
    Said,
    arguments,
    bad,
    in_words,
    limited,
    prompt_tokens,
    quoted,
    say,
    shortened,
    signature,
)

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": CITY, "get_time": CITY}


def said(text: str, **members: Any) -> Said:
    return say(Asked("Someone", "m-1", text, **members))


class SayTests(SynchronousTestCase):
    """:func:`say`."""

    def test_text(self) -> None:
        """The answer names provider and model and repeats the question; its words joined are its text."""
        answer = said("hello there")
        self.assertEqual(
            answer.text, "This is the stand-in for Someone, model m-1. You asked: “hello there” (2 words)."
        )
        self.assertEqual((answer.stop, answer.tokens, answer.thought), ("end", len(answer.words), ""))

    def test_number_of_words(self) -> None:
        """So many words come as are asked for, and never fewer than the plain answer has."""
        self.assertEqual(len(said("say 300 words").text.split()), 300)
        self.assertGreater(len(said("say 3 words").text.split()), 3)

    def test_limit(self) -> None:
        """A limit cuts the answer, thought included."""
        answer = said("say 300 words", limit=20)
        self.assertEqual((answer.tokens, answer.stop), (20, "length"))
        answer = said("say 300 words", limit=20, thinking=True)
        self.assertEqual((answer.tokens, answer.stop), (20, "length"))
        self.assertGreater(answer.thought_tokens, 5)
        self.assertEqual(said("hi", limit=0, thinking=True).tokens, 0)
        self.assertEqual(said("hi", limit=10_000).stop, "end")

    def test_stops(self) -> None:
        """The first stop sequence that comes ends the answer and is not part of it."""
        answer = said("hello", stops=("asked", "stand-in", ""))
        self.assertEqual((answer.text, answer.stop, answer.sequence), ("This is the ", "stop_sequence", "stand-in"))
        self.assertEqual(limited("one two three", ("three",), 1), (("one ",), "length", None))

    def test_thought(self) -> None:
        """A thought comes first and is counted."""
        answer = said("hello", thinking=True)
        self.assertIn("'hello'", answer.thought)
        self.assertEqual(answer.thought_tokens, len(in_words(answer.thought)))
        self.assertEqual(answer.tokens, answer.thought_tokens + len(answer.words))

    def test_calls(self) -> None:
        """Each tool that is named is called, one where only one may be, none where none may be or a result came."""
        both = "use get_weather and get_time for 'Oslo'"
        self.assertEqual(
            said(both, tools=TOOLS).calls, (("get_weather", {"city": "Oslo"}), ("get_time", {"city": "Oslo"}))
        )
        self.assertEqual(said(both, tools=TOOLS).stop, "tool")
        self.assertEqual(len(said(both, tools=TOOLS, parallel=False).calls), 1)
        self.assertEqual(said(both, tools=TOOLS, choice="none").calls, ())
        self.assertEqual(said(both, tools=TOOLS, result="sunny").calls, ())
        self.assertEqual(said("hello", tools=TOOLS).calls, ())
        self.assertEqual(said("use a tool", tools=TOOLS).calls[0][0], "get_weather")

    def test_forced(self) -> None:
        """A forced tool is called whatever is said; one that is not offered is refused."""
        self.assertEqual(said("hello", tools=TOOLS, choice="one", named="get_time").calls[0][0], "get_time")
        self.assertEqual(said("hello", tools=TOOLS, choice="any").calls[0][0], "get_weather")
        self.assertRaises(Refusal, said, "hello", tools=TOOLS, choice="one", named="other")

    def test_no_call_after_the_limit(self) -> None:
        """An answer that was cut calls nothing."""
        answer = said("use get_time", tools=TOOLS, limit=3)
        self.assertEqual((answer.calls, answer.stop), ((), "length"))

    def test_result(self) -> None:
        """After a tool's result the answer repeats it."""
        self.assertIn("The tool gave: “sunny”", said("", result="sunny").text)

    def test_same_again(self) -> None:
        """The same question gets the same answer."""
        self.assertEqual(said("say 90 words", thinking=True), said("say 90 words", thinking=True))


class PartTests(SynchronousTestCase):
    """What the answers are made of."""

    def test_arguments(self) -> None:
        """Required arguments are made up from their schema, in either spelling of types."""
        kinds = ["integer", "number", "boolean", "array", "object", "null", "STRING", "INTEGER"]
        schema = {"properties": {kind: {"type": kind} for kind in kinds}, "required": [*kinds, "free", "few"]}
        schema["properties"]["few"] = {"enum": ["C", "F"]}
        made = arguments(schema, 'for "Rome"')
        self.assertEqual(
            [made[kind] for kind in (*kinds, "free", "few")], [1, 1.5, True, [], {}, None, "Rome", 1, "Rome", "C"]
        )
        self.assertEqual(arguments({"type": "object"}, "x"), {})
        self.assertEqual(arguments({"properties": {"a": True}, "required": ["a"]}, "x"), {"a": "demo"})

    def test_quoted(self) -> None:
        """The last quoted text is meant."""
        self.assertEqual(quoted("not 'this' but “that”"), "that")
        self.assertEqual(quoted("nothing"), "demo")

    def test_words(self) -> None:
        """A text in pieces is the text again."""
        for text in ("", "one", "one  two\n\nthree ", "日本 語"):
            self.assertEqual("".join(in_words(text)), text)
        self.assertEqual(shortened("a b c d", 2), "a b …")

    def test_signature(self) -> None:
        """A signature is the provider's own and the text's own, lone surrogates or not."""
        self.assertEqual(signature("a", "x"), signature("a", "x"))
        self.assertEqual(
            len({signature("a", "x"), signature("b", "x"), signature("a", "y"), signature("a", "\ud800")}), 4
        )

    def test_tokens(self) -> None:
        """A quarter of the characters, nothing for nothing."""
        self.assertEqual(prompt_tokens(None, [], ""), 0)
        self.assertEqual(prompt_tokens({"a": "x" * 400}), len(json.dumps({"a": "x" * 400})) // 4 + 1)

    def test_refusal(self) -> None:
        """A bad request is the asker's fault."""
        refusal = bad("no", "code", "member")
        self.assertEqual((refusal.status, refusal.code, refusal.param), (400, "code", "member"))
