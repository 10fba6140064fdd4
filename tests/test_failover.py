"""
The sixteen failover scenarios in the Anthropic dialect, judged from both sides: what the caller saw, and how often and
when the provider was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from . import faults
from .faulty import FaultyUpstream, Script
from .harness import Answered, RouterProcess, Stack, failover_stack, message, shared, until

MINIMAX, CLAUDE = "from MiniMax", "from Claude"
#: Seconds within which an answer came at once, and nothing of the sixty that the limits are was waited for: a loaded
#: machine takes a few.
SOON = 20.0


class FailoverTestCase(TestCase):
    """A router whose circuits never open, shared; or one of its own with :meth:`fresh`."""

    timeout = 120

    def setUp(self) -> None:
        self.use(shared("failover", failover_stack))

    def fresh(self, *args: Any, **options: Any) -> None:
        stack = failover_stack(*args, **options)
        self.addCleanup(stack.stop)
        self.use(stack)

    def use(self, stack: Stack) -> None:
        self.router: RouterProcess = stack.router
        self.minimax: FaultyUpstream
        self.claude: FaultyUpstream
        self.minimax, self.claude = stack.parts
        self.minimax.play(faults.ok(MINIMAX))
        self.claude.play(faults.ok(CLAUDE))

    def ask(
        self, stream: bool, port: str = "mixed", seen: Callable[[bytes], Any] | None = None, text: str = "hello"
    ) -> Answered:
        return self.router.ask(message(text, stream=stream), port, seen=seen)

    def hearing(self, words: int) -> tuple[threading.Event, Callable[[bytes], Any]]:
        """An event, and what sets it when told a body with so many words ``word``."""
        heard = threading.Event()
        self.addCleanup(heard.set)
        return heard, lambda body: body.count(b"word") >= words and heard.set()

    def text(self, answered: Answered, stream: bool) -> str:
        """The text of an answer that must be whole."""
        self.assertEqual(answered.status, 200, answered.body)
        if not stream:
            return answered.text
        ending, text = answered.said()
        self.assertEqual(ending, "whole", answered.body)
        return text.strip()

    def rescued(self, *scripts: Script, asked: int, port: str = "mixed", by: str = CLAUDE) -> None:
        """Streamed and not: MiniMax plays the scripts, is asked so often, and a whole answer comes from ``by``."""
        for stream in (False, True):
            self.minimax.play(*scripts)
            self.claude.play(faults.ok(CLAUDE))
            answered = self.ask(stream, port)
            self.assertEqual(self.text(answered, stream), by)
            self.assertEqual(answered.upstream, "minimax" if by == MINIMAX else "anthropic")
            self.assertEqual(len(self.minimax.requests), asked, f"stream={stream}")
            self.assertEqual(len(self.claude.requests), 0 if by == MINIMAX else 1)
            self.assertEqual(answered.attempts, asked + len(self.claude.requests))

    def alive(self) -> None:
        """The router answers as if nothing had been."""
        self.minimax.play(faults.ok(MINIMAX))
        self.claude.play(faults.ok(CLAUDE))
        for stream in (False, True):
            self.assertEqual(self.text(self.ask(stream), stream), MINIMAX)


class RateLimitTests(FailoverTestCase):
    """S01 and S02."""

    def test_s01_fails_over_meanwhile(self) -> None:
        """429 with ``Retry-After: 2``: Claude serves until the time is over, and MiniMax is not asked before."""
        self.fresh()
        self.minimax.play(faults.rate_limited("2"), faults.ok(MINIMAX))
        began = time.monotonic()
        self.assertEqual(self.text(self.ask(True), True), CLAUDE)
        while self.text(self.ask(True), True) == CLAUDE:
            self.assertLess(time.monotonic() - began, 60, "MiniMax is not asked again")
            time.sleep(0.1)
        first, second = self.minimax.requests[:2]
        self.assertGreaterEqual(second.at - first.at, 1.8)

    def test_s01_nowhere_to_go(self) -> None:
        """Where there is no other upstream the advice reaches the client, whose own retry then succeeds."""
        self.fresh()
        self.minimax.play(faults.rate_limited("2"), faults.ok(MINIMAX))
        client = anthropic.Anthropic(base_url=self.router.url("minimax"), api_key="k", max_retries=3, timeout=60)
        self.addCleanup(client.close)
        said = client.messages.create(**message())
        self.assertEqual(said.content[0].text, MINIMAX)
        first, second = self.minimax.requests
        self.assertGreaterEqual(second.at - first.at, 1.8)

    def test_s02_for_ever(self) -> None:
        """429 for ever without advice: Claude answers at once, and MiniMax is not hammered."""
        self.fresh(lax=False)
        self.minimax.play(faults.rate_limited())
        answered = self.ask(True)
        self.assertEqual(self.text(answered, True), CLAUDE)
        self.assertLessEqual(len(self.minimax.requests), 4)
        self.assertLess(answered.seconds, SOON)
        for _ in range(8):
            self.assertEqual(self.text(self.ask(True), True), CLAUDE)
        self.assertLessEqual(len(self.minimax.requests), 6)


class ServerErrorTests(FailoverTestCase):
    """S03, S04, S05 and S16."""

    def test_s03_once(self) -> None:
        """One 500 is retried at the same upstream, which then answers."""
        self.rescued(faults.status(500), faults.ok(MINIMAX), asked=2, by=MINIMAX)

    def test_s04_for_ever(self) -> None:
        """503 for ever: one retry, then Claude."""
        self.rescued(faults.status(503), asked=2)

    def test_s04_nowhere_to_go(self) -> None:
        """With nowhere to go, the provider's own error is what the caller gets."""
        self.fresh()  # both ask to be left alone
        for port, upstream in (("minimax", self.minimax), ("anthropic", self.claude)):
            for stream in (False, True):
                upstream.play(faults.status(503, "api_error", "the very words", retry_after="3"))
                answered = self.ask(stream, port)
                self.assertEqual((answered.status, answered.error["message"]), (503, "the very words"))
                self.assertEqual(answered.headers["retry-after"], "3")
                self.assertLessEqual(len(upstream.requests), 6)

    def test_s05_reset(self) -> None:
        """A reset before any byte is retried; on a kept connection, which may just have been stale, silently."""
        for stream in (False, True):
            self.minimax.play(faults.reset, faults.ok(MINIMAX))
            answered = self.ask(stream)
            self.assertEqual(self.text(answered, stream), MINIMAX)
            self.assertEqual(len(self.minimax.requests), 2)
            self.assertIn(answered.attempts, (1, 2))

    def test_s05_reset_for_ever(self) -> None:
        """Resets without end fail over; a kept connection may cost one silent try more."""
        for stream in (False, True):
            self.minimax.play(faults.reset)
            answered = self.ask(stream)
            self.assertEqual((self.text(answered, stream), answered.attempts), (CLAUDE, 3))
            self.assertIn(len(self.minimax.requests), (2, 3))

    def test_s16_fallback_is_what_is_seen_and_billed(self) -> None:
        """The caller sees the fallback's model and usage, and only that is billed."""
        self.fresh()
        self.minimax.play(faults.status(503))
        answered = self.ask(False)
        self.assertEqual(answered.json["model"], "claude-opus-5-5")
        self.assertEqual(answered.json["usage"]["input_tokens"], 100)
        stats = self.router.ask(None, "mixed", "/status").json
        self.assertEqual(stats["requests_total"], 1, stats)
        self.assertEqual((stats["requests_minimax"], stats["requests_anthropic"]), (0, 1), stats)


class SilenceTests(FailoverTestCase):
    """S06, S07 and S09: with little patience for MiniMax, and much for Claude, who has to answer in its place."""

    short = dict.fromkeys(("head", "first_content", "idle", "answer"), "2.5s")

    def setUp(self) -> None:
        self.use(shared("impatient", self.impatient))

    def impatient(self, config: Mapping[str, Any] | None = None) -> Stack:
        return failover_stack({"upstreams": {"minimax": {"timeouts": self.short}}, **(config or {})})

    def test_s06_never_answers(self) -> None:
        """A silent upstream is given up after its limit, and with ``retry_timeouts: false`` asked exactly once."""
        stack = self.impatient({"modes": {"mixed": {"retry_timeouts": False}}})
        self.addCleanup(stack.stop)
        self.use(stack)
        self.rescued(faults.hang, asked=1)
        for exchange in self.minimax.requests:
            self.assertTrue(until(lambda: exchange.gone_at), "the silent request was not aborted")  # noqa: B023

    def test_s06_nowhere_to_go(self) -> None:
        """With nowhere to go it is a bounded clean error."""
        for stream in (False, True):
            self.minimax.play(faults.hang)
            answered = self.ask(stream, "minimax")
            self.assertEqual(answered.status, 504)
            self.assertIn("minimax", answered.error["message"])
            self.assertLess(answered.seconds, 3 * SOON)

    def test_s07_late_content(self) -> None:
        """Head at once and the first token late: the limit on first content moves the stream on."""
        self.minimax.play(faults.late(20))
        self.assertEqual(self.text(self.ask(True), True), CLAUDE)
        self.assertTrue(until(lambda: self.minimax.requests[0].gone_at))

    def test_s07_pings_are_no_content(self) -> None:
        """Pings do not pass for content."""
        self.minimax.play(faults.pings())
        self.assertEqual(self.text(self.ask(True), True), CLAUDE)

    def test_s09_stall(self) -> None:
        """A stall after commit ends in an honest error within the limit; the upstream is let go; the router lives."""
        self.minimax.play(faults.stall(20))
        answered = self.ask(True)
        ending, text = answered.said()
        self.assertEqual((ending, text.split()), ("error", ["word"] * 20))
        self.assertLess(answered.seconds, SOON)
        self.assertTrue(until(lambda: self.minimax.requests[0].gone_at))
        self.assertEqual(self.claude.requests, [])
        self.alive()

    def test_s09_stall_held(self) -> None:
        """On a port that holds the answer back, the stall is not seen at all."""
        self.minimax.play(faults.stall(20))
        self.assertEqual(self.text(self.ask(True, "held"), True), CLAUDE)


class BrokenStreamTests(FailoverTestCase):
    """S08, S10, S11 and S14."""

    def test_s08_cut(self) -> None:
        """A stream cut after commit is shown as broken and is asked nowhere else."""
        for rude in (False, True):
            heard, seen = self.hearing(20)
            self.minimax.play(faults.cut(40, 60, rude, heard))
            answered = self.ask(True, seen=seen)
            ending, text = answered.said()
            self.assertIn(ending, ("error", "cut"))
            self.assertTrue(ending == "error" or answered.broken)
            self.assertNotIn(b"message_stop", answered.body)
            self.assertLessEqual(len(text.split()), 40)
            self.assertEqual((len(self.minimax.requests), self.claude.requests), (1, []))
        self.alive()

    def test_s08_sdk_raises(self) -> None:
        """The SDK raises on the cut stream rather than give a short answer."""
        self.minimax.play(faults.cut(40, 60))
        client = anthropic.Anthropic(base_url=self.router.url("mixed"), api_key="k", max_retries=0, timeout=60)
        self.addCleanup(client.close)

        def whole() -> Any:
            with client.messages.stream(**message()) as stream:
                return stream.get_final_message()

        self.assertRaises(anthropic.APIError, whole)

    def test_s08_held(self) -> None:
        """On a port that holds the answer back, a whole answer comes from elsewhere."""
        self.minimax.play(faults.cut(40, 60))
        answered = self.ask(True, "held")
        self.assertEqual(self.text(answered, True), CLAUDE)
        self.assertNotIn(b"word", answered.body)

    def test_s08_not_streamed(self) -> None:
        """Half of an answer that is not streamed never reaches the caller."""
        for rude in (False, True):
            self.minimax.play(faults.cut(40, 60, rude))
            self.assertEqual(self.text(self.ask(False), False), CLAUDE)

    def test_s10_garbled_event(self) -> None:
        """One garbled event is passed over or fails cleanly; the router lives."""
        for port in ("mixed", "held"):
            self.minimax.play(faults.garbled(10))
            answered = self.ask(True, port)
            self.assertEqual(answered.status, 200)
            self.assertTrue(answered.body.endswith(b"\n\n"))
            self.assertTrue(
                b"event: message_stop" in answered.body or b"event: error" in answered.body or answered.broken
            )
        self.alive()

    def test_s10_garbled_before_content(self) -> None:
        """A stream that begins with garbage fails over."""
        for number in (1, 3):
            self.minimax.play(faults.garbled(number))
            answered = self.ask(True)
            self.assertEqual(answered.status, 200)
            self.assertIn(answered.upstream, ("minimax", "anthropic"))
            if answered.upstream == "anthropic":
                self.assertEqual(self.text(answered, True), CLAUDE)

    def test_s11_no_last_event(self) -> None:
        """An answer that is complete but for its last event ends promptly, and its usage is reported."""
        self.fresh()
        self.minimax.play(faults.no_stop)
        answered = self.ask(True)
        self.assertLess(answered.seconds, SOON)
        self.assertEqual(answered.said(), ("whole", "all was said"))
        names = [name for name, _ in answered.events()]
        self.assertEqual(names[-2:], ["message_delta", "message_stop"])
        self.assertFalse(answered.broken)
        stats = self.router.command("stats", "--json")
        self.assertRegex(stats, r'"(output|tokens_output|output_tokens)": 3')

    def test_s14_no_prefill(self) -> None:
        """A restart after a cut asks anew with the caller's own messages: no prefill that could be refused."""
        self.claude.play(faults.speak("anthropic"))
        self.minimax.play(faults.cut(40, 60))
        answered = self.ask(True, "held")
        self.assertIn("stand-in for Anthropic", self.text(answered, True))
        self.assertEqual(self.claude.requests[0].json["messages"], [{"role": "user", "content": "hello"}])


class RequestsOwnFaultTests(FailoverTestCase):
    """S12 and S13."""

    def test_s12_context_length(self) -> None:
        """Too long a prompt: no second try at that model, and the provider's words where nothing larger is there."""
        for port, upstream in (("minimax", self.minimax), ("anthropic", self.claude), ("mixed", self.minimax)):
            for stream in (False, True):
                self.minimax.play(faults.context_length())
                self.claude.play(faults.context_length())
                answered = self.ask(stream, port)
                self.assertEqual(answered.status, 400)
                self.assertIn("prompt is too long", answered.error["message"])
                self.assertEqual(len(upstream.requests), 1)

    def test_s12_larger_context(self) -> None:
        """A model with a larger context is asked where the plan has one."""
        small = {"models": {"*": "MiniMax-Small"}, "capabilities": {"context": 1000}}
        self.fresh({"upstreams": {"minimax": small}})
        for stream in (False, True):
            self.minimax.play(faults.context_length())
            self.assertEqual(self.text(self.ask(stream), stream), CLAUDE)
            self.assertEqual(len(self.minimax.requests), 1)

    def test_s13_content_policy(self) -> None:
        """A refusal by policy reaches the caller and is not routed around."""
        for stream in (False, True):
            self.minimax.play(faults.content_policy())
            answered = self.ask(stream)
            self.assertEqual(answered.status, 400)
            self.assertIn("content filtering policy", answered.error["message"])
            self.assertEqual((len(self.minimax.requests), self.claude.requests), (1, []))

    def test_other_refusals(self) -> None:
        """400, 404, 413 and 422 are the caller's own: one attempt, the provider's status and words."""
        for status in (400, 413, 422):
            self.minimax.play(faults.status(status, "invalid_request_error", "no such thing"))
            answered = self.ask(True)
            self.assertEqual((answered.status, answered.error["message"]), (status, "no such thing"))
            self.assertEqual((len(self.minimax.requests), self.claude.requests), (1, []))


class RecoveryTests(FailoverTestCase):
    """S15, on a clock a tenth as fast."""

    def test_s15_down_and_up(self) -> None:
        """The circuit opens, the fallback serves every request, a probe finds the recovery, few attempts are wasted."""
        self.fresh({"breaker": {"open_for": "1s", "open_at_most": "2s"}}, lax=False)
        self.minimax.play(faults.status(503))
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < 5:
            self.assertEqual(self.text(self.ask(True), True), CLAUDE)
            time.sleep(0.2)
        # What opens the circuit, and a trial each time when it has been open for its shortest time.
        self.assertLessEqual(len(self.minimax.requests), 6 + elapsed / 0.8)
        self.minimax.play(faults.ok(MINIMAX))
        recovered = time.monotonic()
        while self.text(self.ask(True), True) == CLAUDE:
            self.assertLess(time.monotonic() - recovered, 60, "the recovery is not found")
            time.sleep(0.1)
        self.alive()

    def test_both_down(self) -> None:
        """Both upstreams down: 503 with ``Retry-After`` and both reasons, in the dialect's shape."""
        for stream in (False, True):
            self.minimax.play(faults.status(500, "api_error", "the first reason"))
            self.claude.play(faults.status(529, "overloaded_error", "the second reason"))
            answered = self.ask(stream)
            self.assertEqual(answered.status, 503)
            for words in ("minimax", "the first reason", "anthropic", "the second reason"):
                self.assertIn(words, answered.error["message"])
            self.assertGreaterEqual(float(answered.headers["retry-after"]), 1)
            self.assertTrue(answered.headers["request-id"])
            self.assertLessEqual(len(self.minimax.requests) + len(self.claude.requests), 6)

    def test_both_refuse_connections(self) -> None:
        """The same where nobody listens."""
        self.fresh()
        self.minimax.stop()
        self.claude.stop()
        answered = self.ask(True)
        self.assertEqual(answered.status, 503)
        for word in ("minimax", "anthropic", "retry-after"):
            self.assertIn(word, answered.error["message"] + str(answered.headers).lower())
        self.minimax.listen()
        self.assertEqual(self.text(self.ask(True), True), MINIMAX)
