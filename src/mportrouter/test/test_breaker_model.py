"""Tests of the breaker under random histories."""

from __future__ import annotations

import itertools
import random

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.breaker import Breaker, Permit, Refusal
from mportrouter.errors import Kind, Verdict
from mportrouter.settings import BreakerSettings
from mportrouter.test.test_breaker import BROKEN, NO_KEY, RATE, RESET, SILENT


class _Model(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises of the breaker hold."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.events: list[str] = []
        self.source = random.Random(1)
        self.breaker = Breaker(
            "u",
            BreakerSettings(),
            self.clock.seconds,
            self.source.random,
            lambda upstream, event, detail: self.events.append(event),
        )
        self.permits: list[Permit] = []

    @rule(model=st.sampled_from("ab"))
    def ask(self, model: str) -> None:
        state, rank, wait = self.breaker.state, self.breaker.rank(model), self.breaker.retry_in(model)
        answer = self.breaker.permit(model)
        if isinstance(answer, Permit):
            assert wait == 0.0
            self.permits.append(answer)
            if state != "closed":
                second = self.breaker.permit(model)
                assert isinstance(second, Refusal), "two trials at once"
        else:
            assert answer.retry_after > 0 and answer.reason
            assert rank >= 2

    @rule(place=st.integers(0, 50), how=st.integers(0, 11))
    def settle(self, place: int, how: int) -> None:
        if not self.permits:
            return
        permit = self.permits.pop(place % len(self.permits))
        if how == 0:
            permit.release()
        elif how < 4:
            permit.success()
        else:
            kinds = [
                RESET,
                SILENT,
                BROKEN,
                RATE,
                NO_KEY,
                Verdict(Kind.BAD_REQUEST, "x"),
                Verdict(Kind.RATE, "x", 3.0),
                RESET,
            ]
            permit.failure(kinds[how - 4])

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 400.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(ok=st.booleans())
    def check(self, ok: bool) -> None:
        self.breaker.health(ok, None if ok else SILENT)

    @invariant()
    def consistent(self) -> None:
        breaker = self.breaker
        assert breaker.state in ("closed", "open", "half-open")
        assert breaker.status in ("up", "degraded", "rate_limited", "down", "unknown")
        moves = [event for event in self.events if event in ("down", "up")]
        assert all(one != two for one, two in itertools.pairwise(moves)), "down and up take turns"
        assert not moves or moves[0] == "down"
        assert (breaker.status == "down") <= (bool(moves) and moves[-1] == "down")
        if breaker._steady:
            assert breaker.state == "closed"
        if breaker._clean:
            assert breaker.status in ("up", "rate_limited") and breaker.consecutive["failures"] == 0

    def teardown(self) -> None:
        """However it got there: with time and a good answer it comes back."""
        for _ in range(3):
            self.clock.advance(10_000)
            answer = self.breaker.permit("a")
            assert isinstance(answer, Permit)
            answer.success()
        assert self.breaker.state == "closed"
        assert self.breaker.rank("a") == 0
        assert self.breaker.status == "up"


class ModelTests(SynchronousTestCase):
    """Random histories."""

    def test_histories(self) -> None:
        """No order of permits, settlings, checks and waits breaks a promise."""
        run_state_machine_as_test(
            _Model, settings=hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
        )
