"""What the stand-in providers say."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_rules import check
from mportrouter.demo_script import PromptCache, answer, count_tokens

from .test_demo_rules import TOOL, body, call, result, turn


class ScriptTests(SynchronousTestCase):
    """:func:`answer`."""

    def say(self, value: dict[str, Any], provider: str = "anthropic") -> Any:
        check(provider, value, "", "2023-06-01")
        return answer(provider, value, PromptCache(), 7)

    def joined(self, events: list[bytes]) -> dict[str, Any]:
        """What a client makes of the events, refusing whatever breaks the grammar."""
        message: dict[str, Any] = {}
        opened: int | None = None
        ended = False
        for raw in events:
            first, second, *rest = raw.split(b"\n")
            self.assertEqual(rest, [b"", b""])
            value = json.loads(second.removeprefix(b"data: "))
            self.assertEqual(first, b"event: " + value["type"].encode())
            self.assertFalse(ended)
            kind = value["type"]
            if kind == "message_start":
                self.assertEqual(message, {})
                message = value["message"]
                self.assertEqual(message["content"], [])
            elif kind == "content_block_start":
                self.assertIsNone(opened)
                opened = value["index"]
                self.assertEqual(opened, len(message["content"]))
                message["content"].append(value["content_block"])
            elif kind == "content_block_delta":
                self.assertEqual(value["index"], opened)
                block, delta = message["content"][opened], value["delta"]
                for name, member in (
                    ("text_delta", "text"),
                    ("thinking_delta", "thinking"),
                    ("signature_delta", "signature"),
                ):
                    if delta["type"] == name:
                        block[member] += delta[member]
                if delta["type"] == "input_json_delta":
                    block["json"] = block.get("json", "") + delta["partial_json"]
            elif kind == "content_block_stop":
                self.assertEqual(value["index"], opened)
                block = message["content"][opened]
                if "json" in block:
                    block["input"] = json.loads(block.pop("json") or "{}")
                opened = None
            elif kind == "message_delta":
                message.update(stop_reason=value["delta"]["stop_reason"], stop_sequence=value["delta"]["stop_sequence"])
                message["usage"].update(output_tokens=value["usage"]["output_tokens"])
            elif kind == "message_stop":
                ended = True
        self.assertTrue(ended)
        return message

    def test_stream_is_the_message(self) -> None:
        """The events, put together by the grammar, are the very message that is given without streaming."""
        thinking = {"type": "adaptive"}
        for value in (
            body(),
            body("use the tool on “Rome”", tools=[TOOL]),
            body("the tool", tools=[{"name": "now", "input_schema": {"type": "object"}}]),
            body("deep", thinking=thinking),
            body("deep tool", thinking={**thinking, "display": "omitted"}, tools=[TOOL]),
            body("long: 300 words", max_tokens=50),
            body("nothing", max_tokens=0),
        ):
            said = self.say(value)
            self.assertEqual(self.joined(said.events()), said.message, value)
            self.assertEqual(json.loads(said.body()), said.message)

    def test_says_who(self) -> None:
        """The text names provider and model and repeats the question."""
        text = self.say(body("Where is the harbour?")).message["content"][0]["text"]
        self.assertIn("Anthropic", text)
        self.assertIn("claude-opus-5-5", text)
        self.assertIn("Where is the harbour?", text)
        text = self.say(body(model="MiniMax-M3"), "minimax").message["content"][0]["text"]
        self.assertIn("MiniMax-M3", text)

    def test_tool_call(self) -> None:
        """The tool that the text names is called with made-up arguments of the right types."""
        said = self.say(body('get_weather for "Oslo"', tools=[TOOL])).message
        self.assertEqual(said["stop_reason"], "tool_use")
        self.assertEqual(said["content"][-1]["input"], {"city": "Oslo", "days": 1, "unit": "C"})

    def test_no_tool_call(self) -> None:
        """Tools are left alone when nobody asks for them, when forbidden, and after a result."""
        self.assertEqual(self.say(body("hello", tools=[TOOL])).message["stop_reason"], "end_turn")
        said = self.say(body("tool", tools=[TOOL], tool_choice={"type": "none"}))
        self.assertEqual(said.message["stop_reason"], "end_turn")
        loop = [turn("user", "tool"), turn("assistant", call()), turn("user", result(content="snow and ice"))]
        said = self.say(body(loop, tools=[TOOL]))
        self.assertEqual(said.message["stop_reason"], "end_turn")
        self.assertIn("snow and ice", said.message["content"][0]["text"])

    def test_forced_tool(self) -> None:
        """Anthropic obeys a forced tool, MiniMax ignores it."""
        force = {"type": "tool", "name": "get_weather"}
        self.assertEqual(self.say(body(tools=[TOOL], tool_choice=force)).message["stop_reason"], "tool_use")
        said = self.say(body(tools=[TOOL], tool_choice=force, model="MiniMax-M3"), "minimax")
        self.assertEqual(said.message["stop_reason"], "end_turn")

    def test_thinking_is_accepted_back(self) -> None:
        """A thinking block that was given passes the rules in the next turn."""
        for display in ("summarized", "omitted"):
            thinking = {"type": "adaptive", "display": display}
            said = self.say(body("why", thinking=thinking)).message
            self.assertEqual(said["content"][0]["type"], "thinking")
            again = body([turn("user", "why"), {"role": "assistant", "content": said["content"]}, turn("user", "so?")])
            self.say(again)

    def test_limits(self) -> None:
        """``max_tokens`` and stop sequences end the answer; MiniMax runs past the latter."""
        said = self.say(body("say 200 words", max_tokens=20)).message
        self.assertEqual((said["stop_reason"], said["usage"]["output_tokens"]), ("max_tokens", 20))
        said = self.say(body(stop_sequences=["asked"])).message
        self.assertEqual((said["stop_reason"], said["stop_sequence"]), ("stop_sequence", "asked"))
        self.assertNotIn("asked", said["content"][0]["text"])
        said = self.say(body(stop_sequences=["asked"], model="MiniMax-M3"), "minimax").message
        self.assertEqual(said["stop_reason"], "end_turn")

    def test_wanted_length(self) -> None:
        """``N words`` in the question gives about N words."""
        said = self.say(body("write 250 words")).message
        self.assertEqual(said["usage"]["output_tokens"], 250)

    def test_cache(self) -> None:
        """A marked long prefix is written once and read afterwards, wherever the marker stands later."""
        cache = PromptCache()
        marked = {"type": "text", "text": "long " * 2000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        value = body(system=[marked])
        first = cache.usage(value)
        self.assertGreater(first["cache_creation"]["ephemeral_1h_input_tokens"], 2000)
        second = cache.usage(value)
        self.assertEqual(second["cache_read_input_tokens"], first["cache_creation_input_tokens"])
        self.assertEqual(second["cache_creation_input_tokens"], 0)
        for usage in (first, second):
            total = sum(usage[f"{kind}input_tokens"] for kind in ("", "cache_creation_", "cache_read_"))
            self.assertEqual(total, count_tokens(value))
        longer = body(
            [turn("user", {"type": "text", "text": "more " * 1500, "cache_control": {"type": "ephemeral"}})],
            system=[marked],
        )
        third = cache.usage(longer)
        self.assertEqual(third["cache_read_input_tokens"], second["cache_read_input_tokens"])
        self.assertGreater(third["cache_creation_input_tokens"], 1000)

    def test_short_prefix_is_not_cached(self) -> None:
        """A marked prefix below the minimum costs as plain input."""
        cache = PromptCache()
        value = body(system=[{"type": "text", "text": "short", "cache_control": {"type": "ephemeral"}}])
        cache.usage(value)
        self.assertEqual(cache.usage(value)["cache_read_input_tokens"], 0)

    def test_lone_surrogate(self) -> None:
        """A lone surrogate in the question does not break the answer's encoding."""
        said = self.say(body("a \ud800 b"))
        said.body().decode("utf-8")
        b"".join(said.events()).decode("utf-8")
