"""What the stand-in providers refuse, and their fault language."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_faults import HEALTHY, Fault, parse_fault
from mportrouter.demo_rules import Refusal, check, signature

TOOL = {
    "name": "get_weather",
    "description": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "days", "unit"],
    },
}


def body(text: Any = "hello", **members: Any) -> dict[str, Any]:
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    return {"model": "claude-opus-5-5", "max_tokens": 500, "messages": messages, **members}


def turn(role: str, *blocks: Any) -> dict[str, Any]:
    return {"role": role, "content": list(blocks) if not isinstance(blocks[0], str) else blocks[0]}


def call(id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "get_weather", "input": {}}


def result(id: str = "toolu_1", content: Any = "sunny") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content}


class FaultLanguageTests(SynchronousTestCase):
    """:func:`parse_fault`."""

    def test_forms(self) -> None:
        """Every documented form is read."""
        for text, fault in {
            "": HEALTHY,
            "off": HEALTHY,
            "status:529": Fault("status", 529),
            "status:429:retry-after=2": Fault("status", 429, retry_after=2.0),
            "times=1;status:500": Fault("status", 500, times=1),
            "status:500;times=3": Fault("status", 500, times=3),
            "hang": Fault("hang"),
            "hang-after-head": Fault("hang-after-head"),
            "cut:20": Fault("cut", 20),
            "stall:0": Fault("stall", 0),
            "reset": Fault("reset"),
            "refuse": Fault("refuse"),
            "empty": Fault("empty"),
            "html": Fault("html"),
            "error-event": Fault("error-event", 0),
            "error-event:5": Fault("error-event", 5),
            "base-resp:1002": Fault("base-resp", 1002),
            "slow:0.5": Fault(delay=0.5),
            "slow:1; status:503": Fault("status", 503, delay=1.0),
            "garbage-event:10": Fault("garbage-event", 10),
            "gzip": Fault("gzip"),
            "no-end": Fault("no-end"),
            "status:500;off": HEALTHY,
        }.items():
            self.assertEqual(parse_fault(text), fault, text)

    def test_mistakes(self) -> None:
        """What is no specification is refused with a reason."""
        for text, words in {
            "hangs": "did you mean 'hang'",
            "status": "whole number",
            "status:abc": "whole number",
            "status:200": "400 to 599",
            "status:429:retry-after=soon": "seconds",
            "status:429:after=1": "no option",
            "cut": "whole number",
            "cut:-1": "whole number",
            "hang:3": "nothing behind it",
            "times=0;hang": "at least 1",
            "slow:nan": "seconds",
            "hang;reset": "two faults",
            "cut:²": "whole number",
        }.items():
            error = self.assertRaises(ValueError, parse_fault, text)
            self.assertIn(words, str(error), text)

    def test_struck(self) -> None:
        """A counted fault is used up; an uncounted one never."""
        twice = parse_fault("times=2;hang")
        self.assertEqual(twice.struck().times, 1)
        self.assertEqual(twice.struck().struck(), HEALTHY)
        self.assertEqual(parse_fault("hang").struck(), parse_fault("hang"))


class RulesTests(SynchronousTestCase):
    """:func:`check`."""

    def refused(self, value: Any, provider: str = "anthropic", betas: str = "", version: str = "2023-06-01") -> Refusal:
        return self.assertRaises(Refusal, check, provider, value, betas, version)

    def test_plain(self) -> None:
        """A plain request passes at its provider."""
        check("anthropic", body(), "", "2023-06-01")
        check("minimax", body(model="MiniMax-M3", mystery=1), "", "")
        check("minimax", body(model="deepseek-v4-pro"), "", "", any_model=True)

    def test_models(self) -> None:
        """Each provider knows its own models only."""
        self.assertEqual(self.refused(body(model="MiniMax-M3")).status, 404)
        self.assertEqual(self.refused(body(), "minimax").status, 404)

    def test_required(self) -> None:
        """A missing ``max_tokens``, ``messages`` or version is a 400 that names it."""
        without = body()
        del without["max_tokens"]
        self.assertIn("max_tokens", self.refused(without).message)
        self.assertIn("messages", self.refused(body([])).message)
        self.assertIn("anthropic-version", self.refused(body(), version="").message)
        self.assertIn("JSON", self.refused([1]).message)

    def test_unknown_members(self) -> None:
        """Anthropic refuses what it does not know, and a beta member without its beta; MiniMax ignores both."""
        self.assertEqual(self.refused(body(mystery=1)).message, "mystery: Extra inputs are not permitted")
        edits = {"edits": []}
        self.assertIn("Extra inputs", self.refused(body(context_management=edits)).message)
        check("anthropic", body(context_management=edits), "context-management-2025-06-27", "2023-06-01")
        check("minimax", body(model="MiniMax-M3", context_management=edits), "", "")

    def test_new_version_refuses_sampling(self) -> None:
        """From version 2026-10-21 on, sampling parameters are refused."""
        check("anthropic", body(temperature=1), "", "2023-06-01")
        self.assertIn("temperature", self.refused(body(temperature=1), version="2026-10-21").message)

    def test_count_takes_no_max_tokens(self) -> None:
        """``count_tokens`` refuses the members that only an answer has."""
        value = body()
        self.assertRaises(Refusal, check, "anthropic", value, "", "2023-06-01", True)
        del value["max_tokens"]
        check("anthropic", value, "", "2023-06-01", True)

    def test_pairs(self) -> None:
        """Tool calls and results must come in pairs, next to each other, results first, ids once."""
        good = [turn("user", "x"), turn("assistant", call()), turn("user", result())]
        check("anthropic", body(good, tools=[TOOL]), "", "2023-06-01")
        for broken in (
            [turn("user", "x"), turn("assistant", call()), turn("user", "no result")],
            [turn("user", "x"), turn("user", result())],
            [turn("user", "x"), turn("assistant", call()), turn("user", result("toolu_2"))],
            [
                turn("user", "x"),
                turn("assistant", call()),
                turn("user", {"type": "text", "text": "first"}, result()),
            ],
            [turn("user", "x"), turn("assistant", call())],
            [*good, turn("assistant", call()), turn("user", result())],
        ):
            for provider, model in (("anthropic", "claude-opus-4-5"), ("minimax", "MiniMax-M3")):
                refusal = self.refused(body(broken, tools=[TOOL], model=model), provider)
                self.assertEqual(refusal.status, 400)
        self.assertIn("must define tools", self.refused(body(good)).message)

    def test_signatures(self) -> None:
        """A thinking block must carry the provider's own signature over its own text."""
        for provider, model in (("anthropic", "claude-opus-5-5"), ("minimax", "MiniMax-M3")):

            def history(text: str, signed: Any, model: str = model) -> dict[str, Any]:
                block = {"type": "thinking", "thinking": text} | ({} if signed is None else {"signature": signed})
                return body(
                    [turn("user", "x"), turn("assistant", block, {"type": "text", "text": "y"}), turn("user", "z")],
                    model=model,
                )

            other = "minimax" if provider == "anthropic" else "anthropic"
            check(provider, history("deep", signature(provider, "deep")), "", "2023-06-01")
            check(provider, history("", signature(provider, "")), "", "2023-06-01")
            for text, signed in (
                ("deep", signature(other, "deep")),
                ("deep", None),
                ("deeper", signature(provider, "deep")),
                ("deep", "rt1.minimax.x"),
            ):
                message = self.refused(history(text, signed), provider).message
                self.assertTrue("signature" in message, message)
            if provider == "anthropic":
                self.refused(history("deep", ""), provider)
            else:  # thoughts that nobody signed
                check(provider, history("deep", ""), "", "2023-06-01")
        self.assertIn("Invalid `signature` in `thinking` block", message)

    def test_open_loop_needs_thinking(self) -> None:
        """With budgeted thinking on, an open tool loop's turn must begin with its thinking."""
        thinking = {"type": "enabled", "budget_tokens": 1024}
        block = {"type": "thinking", "thinking": "t", "signature": signature("anthropic", "t")}
        start, end = turn("user", "x"), turn("user", result())
        value = body([start, turn("assistant", block, call()), end], tools=[TOOL], thinking=thinking, max_tokens=4000)
        check("anthropic", value, "", "2023-06-01")
        value["messages"][1] = turn("assistant", call())
        self.assertIn("Expected `thinking`", self.refused(value).message)

    def test_search_results(self) -> None:
        """MiniMax refuses ``search_result`` blocks, alone and inside a tool result."""
        block = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}
        check("anthropic", body([turn("user", block)]), "", "2023-06-01")
        for messages in (
            [turn("user", block)],
            [turn("user", "x"), turn("assistant", call()), turn("user", result(content=[block]))],
        ):
            refusal = self.refused(body(messages, model="MiniMax-M3", tools=[TOOL]), "minimax")
            self.assertIn("invalid tool_result content", refusal.message)

    def test_mistakes_are_refusals(self) -> None:
        """Wrongly shaped members end in a 400, never in an exception of another kind."""
        for members in (
            {"system": 3},
            {"system": [{"type": "image"}]},
            {"stop_sequences": "x"},
            {"stop_sequences": [" "]},
            {"tool_choice": "any"},
            {"tools": {}},
            {"tools": [1]},
            {"tools": [{"name": "x"}]},
            {"thinking": "on"},
            {"thinking": {"type": "deep"}},
            {"thinking": {"type": "enabled", "budget_tokens": 100}},
            {"thinking": {"type": "enabled", "budget_tokens": 9000}},
            {"thinking": {"type": "adaptive"}, "tool_choice": {"type": "any"}, "tools": [TOOL]},
            {"metadata": {"x": 1}},
            {"max_tokens": True},
            {"max_tokens": "5"},
            {"messages": [{"role": "robot", "content": "x"}]},
            {"messages": [{"role": "user"}]},
            {"messages": [{"role": "user", "content": []}]},
            {"messages": [{"role": "user", "content": ["x"]}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]},
            {"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]},
            {"messages": ["x"]},
            {"messages": [turn("user", "x"), turn("assistant", "prefill")]},
            {"messages": [turn("system", "x"), turn("user", "x")]},
        ):
            self.assertEqual(self.refused({**body(), **members}).status, 400, members)

    def test_prefill(self) -> None:
        """A prefilled answer is for old models only, and may not end in white space."""
        prefill = [turn("user", "x"), turn("assistant", "The answer is")]
        check("anthropic", body(prefill, model="claude-sonnet-4-5"), "", "2023-06-01")
        self.assertIn("prefill", self.refused(body(prefill)).message)
        prefill[-1] = turn("assistant", "The answer is ")
        self.assertIn("whitespace", self.refused(body(prefill, model="claude-sonnet-4-5")).message)

    def test_thought_at_the_end(self) -> None:
        """A last message may not end in a thought."""
        block = {"type": "thinking", "thinking": "t", "signature": signature("anthropic", "t")}
        asked = body([turn("user", "x"), turn("assistant", block)], model="claude-sonnet-4-5")
        self.assertIn("cannot be `thinking`", self.refused(asked).message)

    def test_system_in_the_middle(self) -> None:
        """A system message after a user message is known to Anthropic and not to MiniMax."""
        messages = [turn("user", "x"), turn("system", "be brief")]
        check("anthropic", body(messages), "", "2023-06-01")
        self.refused(body(messages, model="MiniMax-M3"), "minimax")
