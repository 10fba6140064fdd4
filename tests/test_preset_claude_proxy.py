"""Ordered fallback with a cooldown: the preset ``claude-proxy``, driven with the Anthropic SDK."""

from __future__ import annotations

import json
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from .faults import ok
from .faulty import Exchange, FaultyUpstream, Script
from .harness import RouterProcess
from .presets import preset

KEYS = {"MINIMAX_API_KEY": "km", "MOONSHOT_API_KEY": "ko"}


def refuse(status: int, message: str = "no") -> Script:
    body = json.dumps({"type": "error", "error": {"type": "x", "message": message}}).encode()

    def play(exchange: Exchange) -> None:
        exchange.whole(status, body)

    return play


class ClaudeProxyTests(TestCase):
    """MiniMax, then Moonshot."""

    timeout = 120

    def setUp(self) -> None:
        self.minimax = FaultyUpstream([ok("from minimax")], "/anthropic")
        self.moonshot = FaultyUpstream([ok("from moonshot")], "/anthropic")
        self.addCleanup(self.minimax.stop)
        self.addCleanup(self.moonshot.stop)
        urls = {"minimax": self.minimax.url, "moonshot": self.moonshot.url}
        self.router: RouterProcess = preset("claude-proxy", urls, KEYS)
        self.addCleanup(self.router.stop)

    def say(self, text: str = "hi", stream: bool = False) -> str:
        client = anthropic.Anthropic(base_url=self.router.url("main"), api_key="any", max_retries=0, timeout=60)
        messages: Any = [{"role": "user", "content": text}]
        with client:
            if not stream:
                answer = client.messages.create(model="claude-sonnet-4-6", max_tokens=50, messages=messages)
            else:
                with client.messages.stream(model="claude-sonnet-4-6", max_tokens=50, messages=messages) as events:
                    answer = events.get_final_message()
        return "".join(block.text for block in answer.content if block.type == "text")

    def test_moves_on(self) -> None:
        """Every status of the list moves on; then the failed one is left alone, without being asked each time."""
        self.assertEqual((self.say(), self.say(stream=True)), ("from minimax", "from minimax"))
        self.minimax.play(refuse(429))
        self.assertEqual([self.say(stream=each) for each in (False, True, False)], ["from moonshot"] * 3)
        self.assertEqual(len(self.minimax.requests), 1)

    def test_each_status(self) -> None:
        """500, 502, 503 and 504 too."""
        for status in (500, 502, 503, 504):
            self.minimax.play(refuse(status))
            self.moonshot.play(ok("from moonshot"))
            self.router.restart() if status != 500 else None
            self.router.command("upstreams", "enable", "minimax")
            self.assertEqual(self.say(), "from moonshot", status)

    def test_others_are_the_clients(self) -> None:
        """Any other error is the client's, at once and in the provider's words."""
        for status, kind in (
            (400, anthropic.BadRequestError),
            (404, anthropic.NotFoundError),
            (422, anthropic.APIStatusError),
        ):
            self.minimax.play(refuse(status, "its own words"))
            with self.assertRaises(kind) as caught:
                self.say()
            self.assertIn("its own words", str(caught.exception))
        self.assertEqual(self.moonshot.requests, [])

    def test_too_large(self) -> None:
        """A body of more than 10 MB is refused in the dialect's own words, and nobody is asked."""
        with self.assertRaises(anthropic.APIStatusError) as caught:
            self.say("x" * (10 * 1024 * 1024 + 1))
        self.assertEqual(caught.exception.status_code, 413)
        self.assertIn("request_too_large", str(caught.exception))
        self.assertEqual(self.minimax.requests, [])
