"""Tests of the circuit as a chain of Deferreds."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed

from mportrouter.circuit import CircuitBreaker, CircuitOpen, verdict_of
from mportrouter.errors import Kind, RouterError, Verdict
from mportrouter.settings import BreakerSettings


class _Judged(Exception):
    verdict = Verdict(Kind.MONEY, "no credit", account=True)


class RunTests(SynchronousTestCase):
    """Calls guarded by a circuit."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.breaker = CircuitBreaker("u", BreakerSettings(failures=2), self.clock.seconds, lambda: 0.5)

    def break_it(self) -> None:
        for _ in range(2):
            self.failureResultOf(self.breaker.run(fail, ConnectionLost()), ConnectionLost)
        self.assertEqual(self.breaker.state, "open")

    def test_passes_through(self) -> None:
        """Results come as they are, whether at once or later, and arguments arrive."""
        self.assertEqual(self.successResultOf(self.breaker.run(lambda a, b: a - b, 5, b=3)), 2)
        later: Deferred[str] = Deferred()
        running = self.breaker.run(lambda: later)
        self.assertNoResult(running)
        later.callback("x")
        self.assertEqual(self.successResultOf(running), "x")
        self.assertEqual(self.breaker.status, "up")

    def test_fails_fast(self) -> None:
        """While open nothing is called, and the failure carries the refusal."""
        self.break_it()
        called: list[int] = []
        failure = self.failureResultOf(self.breaker.run(called.append, 1), CircuitOpen)
        self.assertEqual(called, [])
        self.assertEqual(failure.value.refusal.retry_after, 30.0)
        self.assertIs(failure.value.verdict.kind, Kind.UNAVAILABLE)
        self.assertEqual(str(failure.value), f"{self.breaker.upstream_id}: {failure.value.refusal.reason}")

    def test_recovers(self) -> None:
        """After the opening time one call goes through and closes it."""
        self.break_it()
        self.clock.advance(30)
        waiting: Deferred[str] = Deferred()
        trial = self.breaker.run(lambda: waiting)
        self.failureResultOf(self.breaker.run(succeed, 1), CircuitOpen)
        waiting.callback("x")
        self.assertEqual(self.successResultOf(trial), "x")
        self.assertEqual(self.successResultOf(self.breaker.run(succeed, 1)), 1)

    def test_raising_call(self) -> None:
        """A call that raises at once is a failure like any other; a mistake of ours is not the upstream's."""
        for _ in range(9):
            self.failureResultOf(self.breaker.run(lambda: 1 // 0), ZeroDivisionError)
        self.assertEqual(self.breaker.state, "closed")

    def test_own_judge(self) -> None:
        """What a failure means can be said by the caller."""
        run = self.breaker.run(fail, ValueError("x"), judge=lambda _: Verdict(Kind.AUTH, "key", account=True))
        self.failureResultOf(run, ValueError)
        self.assertEqual(self.breaker.state, "open")

    def test_judge_that_raises(self) -> None:
        """A judge that raises fails the call and keeps no trial."""
        self.break_it()
        self.clock.advance(30)

        def judge(failure: Failure) -> Verdict:
            raise KeyError("judge")

        self.failureResultOf(self.breaker.run(fail, ConnectionLost(), judge=judge), KeyError)
        self.successResultOf(self.breaker.run(succeed, 1))

    def test_cancel(self) -> None:
        """Cancelling cancels the call and gives the trial back."""
        self.break_it()
        self.clock.advance(30)
        cancelled: list[Deferred[None]] = []
        running = self.breaker.run(lambda: Deferred(cancelled.append))
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.breaker.state, "half-open")
        self.successResultOf(self.breaker.run(succeed, 1))

    def test_cancel_that_breaks_the_connection(self) -> None:
        """A call that answers its cancellation with a network failure is not counted."""
        for _ in range(5):
            running = self.breaker.run(lambda: Deferred(lambda d: d.errback(ConnectionLost())))
            running.cancel()
            self.failureResultOf(running, ConnectionLost)
        self.assertEqual((self.breaker.state, self.breaker.consecutive["failures"]), ("closed", 0))

    def test_cancel_that_is_ignored(self) -> None:
        """A call that will not be cancelled may end later without harm."""
        stubborn: Deferred[None] = Deferred(lambda d: None)
        running = self.breaker.run(lambda: stubborn)
        running.cancel()
        self.failureResultOf(running, CancelledError)

    def test_model(self) -> None:
        """A rest of one model bars only calls that concern it."""
        limited = Verdict(Kind.RATE, "x", retry_after=5.0)
        self.failureResultOf(self.breaker.run(fail, ValueError(), model="a", judge=lambda _: limited), ValueError)
        self.failureResultOf(self.breaker.run(succeed, 1, model="a"), CircuitOpen)
        self.successResultOf(self.breaker.run(succeed, 1, model="b"))


class VerdictOfTests(SynchronousTestCase):
    """What exceptions mean."""

    def test_kinds(self) -> None:
        """Network, silence, our own mistakes, and whatever carries its verdict."""
        for error, kind in [
            (_Judged(), Kind.MONEY),
            (RouterError(Kind.BUDGET, "x", retry_after=3.0), Kind.BUDGET),
            (TimeoutError(), Kind.TIMEOUT),
            (ConnectionRefusedError(), Kind.NETWORK),
            (ConnectionLost(), Kind.NETWORK),
            (DNSLookupError(), Kind.NETWORK),
            (OSError(5, "x"), Kind.NETWORK),
            (ResponseFailed([Failure(ValueError()), Failure(ConnectionLost())]), Kind.NETWORK),
            (ResponseFailed([Failure(_Judged())]), Kind.MONEY),
            (ValueError("x"), Kind.INTERNAL),
        ]:
            self.assertIs(verdict_of(Failure(error)).kind, kind, error)
