"""Routing by the model's name: the preset ``model-router``, driven with the Anthropic SDK."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from .faults import hang, ok, speak
from .faulty import FaultyUpstream
from .harness import RouterProcess, until
from .presets import preset

KEYS = {"DEEPSEEK_API_KEY": "kd", "KIMI_API_KEY": "kk", "MINIMAX_API_KEY": "km"}
TIERS = {"opus": "deepseek", "sonnet": "kimi-code", "haiku": "minimax"}


class ModelRouterTests(TestCase):
    """Three tiers, three providers."""

    timeout = 120

    def start(
        self,
        environment: dict[str, str | None] | None = None,
        rows: dict[str, dict[str, Any]] | None = None,
        **change: Any,
    ) -> RouterProcess:
        """
        :param rows: members to change of rows of the table, by what they match.
        :param change: members to change of upstreams.
        """
        self.upstreams = {
            "deepseek": FaultyUpstream([ok("from deepseek")], "/anthropic"),
            "kimi-code": FaultyUpstream([ok("from kimi-code")], "/coding"),
            "minimax": FaultyUpstream([ok("from minimax")], "/anthropic"),
        }
        for upstream in self.upstreams.values():
            self.addCleanup(upstream.stop)
        urls = {id: upstream.url for id, upstream in self.upstreams.items()}
        router = preset("model-router", urls, {**KEYS, **(environment or {})}, change, start=False)
        self.addCleanup(router.stop)
        for row in router.config["modes"]["by-name"]["table"]:
            row.update((rows or {}).get(row["match"], {}))
        router.write_config()
        router.start()
        return router

    def say(self, router: RouterProcess, model: str, stream: bool = False, **members: Any) -> str:
        client = anthropic.Anthropic(
            base_url=router.url("main"), api_key="proxy-passthrough", max_retries=0, timeout=60
        )
        messages: Any = [
            {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
        ]
        with client:
            if not stream:
                answer = client.messages.create(model=model, max_tokens=50, messages=messages, **members)
            else:
                with client.messages.stream(model=model, max_tokens=50, messages=messages, **members) as events:
                    answer = events.get_final_message()
        return "".join(block.text for block in answer.content if block.type == "text")

    def test_tiers(self) -> None:
        """Each tier goes to its provider, under its model's own name there and with that provider's key alone."""
        router = self.start()
        for tier, id in TIERS.items():
            for stream in (False, True):
                self.assertEqual(self.say(router, f"claude-{tier}-4-6", stream), f"from {id}")
        for id, model, key in (
            ("deepseek", "deepseek-v4-pro", "kd"),
            ("kimi-code", "kimi-for-coding", "kk"),
            ("minimax", "MiniMax-M3", "km"),
        ):
            for request in self.upstreams[id].requests:
                self.assertEqual(request.json["model"], model)
                shown = [request.header("x-api-key"), (request.header("authorization") or "").removeprefix("Bearer ")]
                self.assertEqual([each for each in shown if each], [key])
                self.assertNotIn("reasoning_effort", request.json)

    def test_row_path(self) -> None:
        """A row's own path is asked, below the upstream's base URL; rows without one ask the dialect's."""
        router = self.start(rows={"opus": {"path": "/beta/messages"}})
        for stream in (False, True):
            self.assertEqual(self.say(router, "claude-opus-4-6", stream), "from deepseek")
        self.assertEqual(self.say(router, "claude-haiku-4-5"), "from minimax")
        self.assertEqual({each.path for each in self.upstreams["deepseek"].requests}, {"/anthropic/beta/messages"})
        self.assertEqual([each.path for each in self.upstreams["minimax"].requests], ["/anthropic/v1/messages"])

    def test_row_timeouts(self) -> None:
        """A row's own limits hold for it, streamed or not, while the upstream's own are minutes."""
        for limits in ({"head": "1s", "answer": "1s"}, {"total": "1s"}):
            router = self.start(rows={"opus": {"timeouts": limits}})
            self.upstreams["deepseek"].play(hang)
            for stream in (False, True):
                began = time.monotonic()
                with self.assertRaises(anthropic.APIStatusError) as caught:
                    self.say(router, "claude-opus-4-6", stream)
                self.assertEqual(caught.exception.status_code, 504)
                self.assertLess(time.monotonic() - began, 20)
            self.assertEqual(self.say(router, "claude-haiku-4-5"), "from minimax")

    def test_own_field(self) -> None:
        """A key may go in a field of any name, as it is."""
        router = self.start(minimax={"auth_style": "header:token"})
        self.assertEqual(self.say(router, "claude-haiku-4-5"), "from minimax")
        (request,) = self.upstreams["minimax"].requests
        shown = [request.header(name) for name in ("token", "authorization", "x-api-key")]
        self.assertEqual(shown, ["km", None, None])

    def test_marks(self) -> None:
        """Cache marks and members of other dialects reach none that has no use for them."""
        router = self.start()
        for tier in TIERS:
            self.say(router, f"claude-{tier}-4-6", extra_body={"reasoning_effort": "high"})
        for id, marked in (("deepseek", False), ("kimi-code", False), ("minimax", True)):
            (request,) = self.upstreams[id].requests
            self.assertEqual(b"cache_control" in request.body, marked, id)
            self.assertNotIn("reasoning_effort", request.json)

    def test_thinking(self) -> None:
        """Thinking of one tier's provider goes to another by that one's column."""
        history = [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "EqQBother"},
                    {"type": "text", "text": "so"},
                ],
            },
            {"role": "user", "content": "go on"},
        ]
        router = self.start(**{"kimi-code": {"capabilities": {"thinking_blocks": "strip"}}})
        kept = {"type": "thinking", "thinking": "hm", "signature": ""}
        for id, model, wanted in (
            ("deepseek", "opus", [kept]),
            ("kimi-code", "sonnet", []),
            ("minimax", "haiku", []),
        ):
            self.say(router, f"claude-{model}-4-6", extra_body={"messages": history})
            (request,) = self.upstreams[id].requests
            self.assertEqual(request.json["messages"][1]["content"], [*wanted, {"type": "text", "text": "so"}], id)

    def test_events(self) -> None:
        """Blocks that clients do not understand are left out of an upstream's answers, streamed or not."""
        asked: dict[str, Any] = {"thinking": {"type": "adaptive"}}
        for unwanted in ([], ["thinking"]):
            router = self.start(minimax={"capabilities": {"strip_events": unwanted}})
            self.upstreams["minimax"].play(speak("minimax"))
            client = anthropic.Anthropic(base_url=router.url("main"), api_key="any", max_retries=0, timeout=60)
            call: dict[str, Any] = {
                "model": "claude-haiku-4-5",
                "max_tokens": 4000,
                "messages": [{"role": "user", "content": "hi"}],
            }
            with client:
                whole = client.messages.create(**call, **asked)
                with client.messages.stream(**call, **asked) as events:
                    indexes = {event.index for event in events if event.type == "content_block_start"}
                    streamed = events.get_final_message()
            for answer in (whole, streamed):
                self.assertEqual("thinking" in [each.type for each in answer.content], not unwanted)
                self.assertTrue(any(each.type == "text" and each.text for each in answer.content))
                self.assertGreater(answer.usage.output_tokens, 0)
            self.assertEqual(indexes, set(range(len(streamed.content))))

    def test_unknown(self) -> None:
        """A name that no row matches is a 400 that lists what is known; nobody is asked."""
        router = self.start()
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.say(router, "gpt-6")
        for tier in TIERS:
            self.assertIn(tier, str(caught.exception))
        self.assertEqual([upstream.requests for upstream in self.upstreams.values()], [[], [], []])

    def test_error_passes(self) -> None:
        """An error of the provider's is the client's, with its words; the other tiers go on."""
        router = self.start()
        self.upstreams["deepseek"].play(
            lambda exchange: exchange.whole(
                400, b'{"type":"error","error":{"type":"invalid_request_error","message":"odd"}}'
            )
        )
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.say(router, "claude-opus-4-6")
        self.assertIn("odd", str(caught.exception))
        self.assertEqual(self.say(router, "claude-haiku-4-5"), "from minimax")

    def health(self, router: RouterProcess) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(router.url("main", "/health"), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def test_health(self) -> None:
        """Health tells every tier with its upstream and whether there is a key."""
        status, body = self.health(self.start())
        wanted = {tier: {"upstream": id, "key_present": True} for tier, id in TIERS.items()}
        self.assertEqual((status, body["tiers"]), (200, wanted))

    def test_missing_key(self) -> None:
        """A missing key makes health a 503 that says which; the other tiers are served."""
        router = self.start({"KIMI_API_KEY": None})
        status, body = self.health(router)
        self.assertEqual((status, body["tiers"]["sonnet"]["key_present"]), (503, False))
        self.assertEqual(self.say(router, "claude-opus-4-6"), "from deepseek")
        with self.assertRaises(anthropic.APIStatusError):
            self.say(router, "claude-sonnet-4-6")

    def test_bound(self) -> None:
        """Past an upstream's bound of requests under way the answer is a 503 at once; the other tiers have places."""
        router = self.start(deepseek={"limits": {"concurrency": 1, "wait": "0s"}})
        release = threading.Event()

        def slow(exchange: Any) -> None:
            exchange.wait_until(release.is_set)
            ok("late")(exchange)

        self.upstreams["deepseek"].play(slow)
        said: list[str] = []
        first = threading.Thread(target=lambda: said.append(self.say(router, "claude-opus-4-6")))
        first.start()
        self.assertTrue(until(lambda: self.upstreams["deepseek"].requests))
        with self.assertRaises(anthropic.APIStatusError) as caught:
            self.say(router, "claude-opus-4-6")
        self.assertEqual(caught.exception.status_code, 503)
        self.assertEqual(self.say(router, "claude-haiku-4-5"), "from minimax")
        release.set()
        first.join(60)
        self.assertEqual(said, ["late"])

    def test_drain(self) -> None:
        """SIGTERM lets what is under way finish."""
        router = self.start()
        release = threading.Event()

        def slow(exchange: Any) -> None:
            exchange.wait_until(release.is_set)
            ok("late")(exchange)

        self.upstreams["minimax"].play(slow)
        said: list[str] = []
        client = threading.Thread(target=lambda: said.append(self.say(router, "claude-haiku-4-5")))
        client.start()
        self.assertTrue(until(lambda: self.upstreams["minimax"].requests))
        router.signal(signal.SIGTERM)
        release.set()
        client.join(60)
        self.assertIn(router.wait(), (0, -signal.SIGTERM))
        self.assertEqual(said, ["late"])
