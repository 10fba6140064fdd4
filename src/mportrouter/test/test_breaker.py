"""Tests of the breaker."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mportrouter.breaker import Breaker, Permit, Refusal
from mportrouter.errors import Kind, Verdict
from mportrouter.interfaces import IPermit
from mportrouter.settings import BreakerSettings
from mportrouter.verdicts import nobody_answered

RESET = Verdict(Kind.NETWORK, "connection reset", retry_same=True)
REFUSED = Verdict(Kind.NETWORK, "connection refused")
SILENT = Verdict(Kind.TIMEOUT, "no answer", retry_same=True)
BROKEN = Verdict(Kind.UPSTREAM, "internal", status=500)
RATE = Verdict(Kind.RATE, "slow down", status=429)
NO_KEY = Verdict(Kind.AUTH, "invalid x-api-key", status=401, account=True)
NO_MONEY = Verdict(Kind.MONEY, "no credit", status=402, account=True)


class BreakerTests(SynchronousTestCase):
    """One upstream's breaker on a clock that only the test moves."""

    def make(self, jitter: float = 0.5, **settings: Any) -> Breaker:
        self.clock = Clock()
        self.events: list[tuple[str, str]] = []
        return Breaker(
            "minimax",
            BreakerSettings(**settings),
            self.clock.seconds,
            lambda: jitter,
            lambda upstream, event, detail: self.events.append((event, detail)),
        )

    def permit(self, breaker: Breaker, model: str = "m") -> Permit:
        permit = breaker.permit(model)
        self.assertIsInstance(permit, Permit, str(permit))
        assert isinstance(permit, Permit)
        return permit

    def refusal(self, breaker: Breaker, model: str = "m") -> Refusal:
        refusal = breaker.permit(model)
        self.assertIsInstance(refusal, Refusal)
        assert isinstance(refusal, Refusal)
        return refusal

    def fails(self, breaker: Breaker, *verdicts: Verdict, model: str = "m") -> None:
        for verdict in verdicts:
            self.permit(breaker, model).failure(verdict)

    def names(self) -> list[str]:
        return [event for event, _ in self.events]

    def test_interface(self) -> None:
        """A permit is one."""
        verifyObject(IPermit, self.permit(self.make()))

    def test_fresh(self) -> None:
        """Nothing heard: closed, unknown, and tried like a healthy one."""
        breaker = self.make()
        self.assertEqual((breaker.state, breaker.status, breaker.rank("m")), ("closed", "unknown", 0))
        self.permit(breaker).success()
        self.assertEqual(breaker.status, "up")
        self.assertEqual(self.events, [])

    def test_opens(self) -> None:
        """Five failures in a row open the circuit; it refuses with the reason and the time left."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 4)
        self.assertEqual(breaker.state, "closed")
        self.fails(breaker, RESET)
        self.assertEqual((breaker.state, breaker.status, breaker.rank("m")), ("open", "down", 3))
        self.assertEqual(self.names(), ["opened", "down"])
        self.clock.advance(10)
        refusal = self.refusal(breaker)
        self.assertEqual((refusal.retry_after, refusal.kind), (20.0, Kind.UNAVAILABLE))
        self.assertEqual(refusal.reason, "circuit open (connection reset)")
        self.assertEqual(breaker.retry_in("m"), 20.0)

    def test_reasons(self) -> None:
        """A reason does not name the upstream, which the client's error names once."""
        for failures, wait, reason in (
            ([attrs.evolve(RATE, retry_after=9.0)], 0, "m is rate limited (slow down)"),
            ([RESET] * 5, 60, "a trial request is under way"),
            ([NO_MONEY], 0, "circuit open (no credit)"),
        ):
            breaker = self.make()
            self.fails(breaker, *failures)
            self.clock.advance(wait)
            if wait:
                self.permit(breaker)
            refusal = self.refusal(breaker)
            self.assertEqual(refusal.reason, reason)
            told = nobody_answered({breaker.upstream_id: Verdict(refusal.kind, refusal.reason)}).message
            self.assertEqual(told.count(f"{breaker.upstream_id}: {reason}"), 1, told)
            self.assertEqual(told.count(breaker.upstream_id), 1, told)
            self.assertEqual(told.count(f"{breaker.upstream_id}:"), 1, told)

    def test_success_resets(self) -> None:
        """Only failures in a row count."""
        breaker = self.make()
        for _ in range(5):
            self.fails(breaker, *[RESET] * 4)
            self.permit(breaker).success()
        self.assertEqual(breaker.state, "closed")
        self.assertEqual(breaker.consecutive["failures"], 0)

    def test_half_open(self) -> None:
        """After its time exactly one request is let through; its success closes the circuit."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        self.clock.advance(29.9)
        self.refusal(breaker)
        self.clock.advance(0.2)
        self.assertEqual((breaker.state, breaker.rank("m")), ("open", 0))
        trial = self.permit(breaker)
        self.assertEqual((breaker.state, breaker.rank("m")), ("half-open", 3))
        self.assertEqual(self.refusal(breaker).retry_after, 1.0)
        trial.success()
        self.assertEqual((breaker.state, breaker.status, breaker.rank("m")), ("closed", "up", 0))
        self.assertEqual(self.names(), ["opened", "down", "half-open", "closed", "up"])
        self.permit(breaker)
        self.permit(breaker)

    def test_trial_given_back(self) -> None:
        """A trial whose client left is given to the next request."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        self.clock.advance(31)
        self.permit(breaker).release()
        self.permit(breaker).failure(Verdict(Kind.INTERNAL, "our own mistake"))
        self.permit(breaker).success()
        self.assertEqual(breaker.state, "closed")

    def test_trial_lost(self) -> None:
        """A trial that is never settled bars the others for a time only, and is not heard once it has been replaced."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        self.clock.advance(31)
        lost = self.permit(breaker)
        self.clock.advance(899)
        self.refusal(breaker)
        self.assertEqual(breaker.retry_in("m"), 1.0)
        self.clock.advance(1)
        self.assertEqual((breaker.rank("m"), breaker.retry_in("m")), (0, 0.0))
        second = self.permit(breaker)
        lost.failure(RESET)
        self.assertEqual(breaker.state, "half-open")
        second.success()
        self.assertEqual(breaker.state, "closed")

    def test_backs_off(self) -> None:
        """Each failed trial doubles the time, up to the limit; a success starts anew."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        times = []
        for _ in range(6):
            times.append(breaker.retry_in("m"))
            self.clock.advance(times[-1])
            self.fails(breaker, RESET)
        self.assertEqual(times, [30, 60, 120, 240, 300, 300])
        self.clock.advance(300)
        self.permit(breaker).success()
        self.fails(breaker, *[RESET] * 5)
        self.assertEqual(breaker.retry_in("m"), 30)
        self.assertEqual(self.names().count("down"), 2)

    def test_jitter(self) -> None:
        """The time is spread by a fifth to either side."""
        for jitter, seconds in ((0.0, 24.0), (1.0, 36.0)):
            breaker = self.make(jitter)
            self.fails(breaker, *[RESET] * 5)
            self.assertAlmostEqual(breaker.retry_in("m"), seconds)

    def test_advice_sets_the_time(self) -> None:
        """Where the provider said how long, the circuit stays open that long."""
        breaker = self.make(0.0)
        busy = Verdict(Kind.OVERLOADED, "busy", status=503, retry_after=77.0)
        self.fails(breaker, *[busy] * 5)
        self.assertEqual(breaker.retry_in("m"), 77.0)
        breaker.health(True)
        self.assertEqual(breaker.state, "open")

    def test_timeouts(self) -> None:
        """Five timeouts in a row mean down, whatever the general threshold is."""
        breaker = self.make(failures=50)
        self.fails(breaker, *[SILENT] * 4, RESET, *[SILENT] * 4)
        self.assertEqual(breaker.state, "closed")
        self.fails(breaker, SILENT)
        self.assertEqual((breaker.state, breaker.status), ("open", "down"))

    def test_degraded(self) -> None:
        """Three 5xx in a row rank it after healthy ones, for a while; a success clears it."""
        breaker = self.make()
        self.fails(breaker, BROKEN, BROKEN)
        self.assertEqual((breaker.status, breaker.rank("m")), ("up", 0))
        self.fails(breaker, BROKEN)
        self.assertEqual((breaker.status, breaker.rank("m")), ("degraded", 1))
        self.assertEqual(self.events, [("degraded", "internal")])
        self.clock.advance(30)
        self.assertEqual((breaker.status, breaker.rank("m")), ("degraded", 0))
        self.permit(breaker).success()
        self.assertEqual((breaker.status, breaker.rank("m")), ("up", 0))

    def test_overload_degrades(self) -> None:
        """An overload told inside a 200 counts as a 5xx."""
        breaker = self.make()
        self.fails(breaker, *[Verdict(Kind.OVERLOADED, "x")] * 3)
        self.assertEqual(breaker.status, "degraded")

    def test_rate_limit_rest(self) -> None:
        """Two 429 in a row without advice rest the model, longer each time; nothing else rests."""
        breaker = self.make()
        self.fails(breaker, RATE)
        self.permit(breaker)
        self.fails(breaker, RATE)
        self.assertEqual((breaker.status, breaker.rank("m"), breaker.rank("other")), ("rate_limited", 2, 0))
        self.assertEqual((self.refusal(breaker).retry_after, self.refusal(breaker).kind), (5.0, Kind.RATE))
        self.permit(breaker, "other").success()
        self.assertEqual(breaker.state, "closed")
        self.assertEqual(self.events, [("rate_limited", "m: slow down")])
        self.clock.advance(5)
        self.assertEqual((breaker.status, breaker.rank("m")), ("up", 0))
        self.fails(breaker, RATE)
        self.assertEqual(breaker.retry_in("m"), 10.0)
        self.clock.advance(10)
        self.permit(breaker).success()
        self.fails(breaker, RATE)
        self.assertEqual(breaker.retry_in("m"), 0.0)

    def test_rate_limit_advice(self) -> None:
        """A 429 with Retry-After rests the model at once for that time, and never opens the circuit."""
        breaker = self.make()
        limited = Verdict(Kind.RATE, "x", retry_after=40.0, status=429)
        held = [self.permit(breaker) for _ in range(10)]
        for permit in held:
            permit.failure(limited)
        self.assertEqual((breaker.state, breaker.retry_in("m")), ("closed", 40.0))
        # A shorter advice that comes later does not shorten it.
        breaker._failed("m", 0, Verdict(Kind.RATE, "x", retry_after=1.0))
        self.assertEqual(breaker.retry_in("m"), 40.0)

    def test_account_out(self) -> None:
        """One bad key or empty account takes every model out, tells it, and no health check brings it back."""
        for verdict, event in ((NO_KEY, "auth_failure"), (NO_MONEY, "money")):
            breaker = self.make()
            self.fails(breaker, verdict)
            self.assertEqual(self.names(), [event, "opened", "down"])
            self.assertEqual(self.refusal(breaker, "any").kind, verdict.kind)
            self.assertEqual(breaker.retry_in("m"), 900.0)
            breaker.health(True)
            self.assertEqual(breaker.state, "open")
            self.clock.advance(900)
            self.permit(breaker).success()
            self.assertEqual(breaker.status, "up")

    def test_account_time_given(self) -> None:
        """A given time is used for an account too."""
        breaker = self.make()
        self.fails(breaker, Verdict(Kind.MONEY, "x", retry_after=18000.0, account=True))
        self.assertEqual(breaker.retry_in("m"), 18000.0)

    def test_account_after_network(self) -> None:
        """A bad key that is learnt while the circuit is open for another reason keeps it open longer."""
        breaker = self.make()
        late = self.permit(breaker)
        self.fails(breaker, *[RESET] * 5)
        late.failure(NO_KEY)
        self.assertEqual(breaker.retry_in("m"), 900.0)
        self.assertIs(self.refusal(breaker).kind, Kind.AUTH)

    def test_forbidden_model(self) -> None:
        """A prohibition that is not the account's rests that model only."""
        breaker = self.make()
        self.fails(breaker, Verdict(Kind.AUTH, "not yours", status=403))
        self.assertIs(self.refusal(breaker).kind, Kind.AUTH)
        self.permit(breaker, "other")
        self.assertEqual(self.names(), ["auth_failure"])

    def test_clients_fault(self) -> None:
        """The request's own fault shows a living upstream: it resets counters and closes a half-open circuit."""
        for kind in (Kind.BAD_REQUEST, Kind.CONTEXT, Kind.POLICY, Kind.NOT_FOUND, Kind.TOO_LARGE):
            breaker = self.make()
            self.fails(breaker, *[RESET] * 4, Verdict(kind, "x", status=400), *[RESET] * 4)
            self.assertEqual(breaker.state, "closed")
            self.fails(breaker, RESET)
            self.clock.advance(30)
            self.fails(breaker, Verdict(kind, "x", status=400))
            self.assertEqual(breaker.state, "closed")

    def test_rate_limited_trial(self) -> None:
        """A 429 to the trial shows a living upstream whose model has to rest."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        self.clock.advance(30)
        self.fails(breaker, Verdict(Kind.RATE, "x", retry_after=9.0))
        self.assertEqual((breaker.state, breaker.rank("m"), breaker.rank("n")), ("closed", 2, 0))

    def test_late_settlings(self) -> None:
        """Attempts from before the circuit moved neither close, extend nor spend the trial of the time after."""
        breaker = self.make()
        early = [self.permit(breaker) for _ in range(8)]
        for permit in early[:5]:
            permit.failure(RESET)
        wait = breaker.retry_in("m")
        early[5].failure(RESET)
        early[6].success()
        self.assertEqual((breaker.state, breaker.retry_in("m")), ("open", wait))
        self.clock.advance(30)
        trial = self.permit(breaker)
        early[7].success()
        self.assertEqual(breaker.state, "half-open")
        trial.success()
        self.assertEqual(breaker.state, "closed")

    def test_settled_once(self) -> None:
        """What follows the first settling is ignored."""
        breaker = self.make(failures=2)
        permit = self.permit(breaker)
        permit.failure(RESET)
        permit.failure(RESET)
        permit.success()
        permit.release()
        self.assertEqual((breaker.state, breaker.consecutive["failures"]), ("closed", 1))

    def test_health_checks(self) -> None:
        """Two failed checks, or one refused connection, mark down without barring requests; a good one marks up."""
        for verdicts in ([SILENT, SILENT], [REFUSED]):
            breaker = self.make()
            for verdict in verdicts:
                self.assertNotEqual(breaker.status, "down")
                breaker.health(False, verdict)
            self.assertEqual((breaker.state, breaker.status, breaker.rank("m")), ("closed", "down", 3))
            self.permit(breaker).release()
            breaker.health(True, None)
            self.assertEqual((breaker.status, breaker.rank("m")), ("up", 0))
            self.assertEqual(self.names(), ["down", "up"])

    def test_real_traffic_marks_up(self) -> None:
        """An answered request outweighs failed checks."""
        breaker = self.make()
        breaker.health(False, REFUSED)
        self.permit(breaker).success()
        self.assertEqual(breaker.status, "up")

    def test_check_finds_bad_key(self) -> None:
        """A check that is refused for its key takes the account out; one that is rate limited is a living one."""
        breaker = self.make()
        breaker.health(False, RATE)
        breaker.health(False, RATE)
        self.assertEqual(breaker.status, "up")
        breaker.health(False, NO_KEY)
        breaker.health(False, NO_KEY)
        self.assertEqual((breaker.state, self.names()), ("open", ["auth_failure", "opened", "down"]))

    def test_check_finds_good_key(self) -> None:
        """What a check took out for its key a good check lets be tried again; not what a request was refused for."""
        breaker = self.make()
        breaker.health(False, NO_KEY)
        breaker.health(False, NO_KEY)
        breaker.health(True)
        self.assertEqual((breaker.state, breaker.rank("m")), ("half-open", 0))
        self.fails(breaker, NO_KEY)
        breaker.health(True)
        self.assertEqual(breaker.state, "open")
        breaker.health(False, NO_KEY)
        breaker.health(True)
        self.assertEqual(breaker.state, "open")

    def test_early_trial(self) -> None:
        """A good check lets a circuit that faults opened try a request before its time."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 5)
        self.clock.advance(3)
        breaker.health(True)
        self.assertEqual((breaker.state, breaker.rank("m")), ("half-open", 0))
        self.permit(breaker).success()
        self.assertEqual(breaker.state, "closed")

    def test_configure(self) -> None:
        """New thresholds hold at once, and what was counted stays."""
        breaker = self.make()
        self.fails(breaker, *[RESET] * 3)
        breaker.configure(BreakerSettings(failures=4))
        self.fails(breaker, RESET)
        self.assertEqual(breaker.state, "open")

    def test_reset(self) -> None:
        """A person can close it by hand."""
        breaker = self.make()
        self.fails(breaker, Verdict(Kind.RATE, "x", retry_after=9.0), model="m")
        self.fails(breaker, NO_KEY, model="n")
        breaker.reset()
        self.assertEqual((breaker.state, breaker.status, breaker.rank("m")), ("closed", "up", 0))
        self.assertEqual(self.names()[-2:], ["closed", "up"])

    def test_snapshot(self) -> None:
        """State goes through JSON into another breaker, with the time that passed taken off."""
        breaker = self.make()
        self.fails(breaker, Verdict(Kind.RATE, "x", retry_after=100.0), model="r")
        self.fails(breaker, *[RESET] * 5)
        kept = json.loads(json.dumps(breaker.snapshot()))
        other = self.make()
        self.clock.advance(1000)
        other.restore(kept, age=10.0)
        self.assertEqual((other.state, other.retry_in("m"), other.retry_in("r")), ("open", 20.0, 90.0))
        self.assertEqual(self.events, [])
        self.clock.advance(20)
        self.permit(other).success()
        self.assertEqual(self.names(), ["half-open", "closed", "up"])
        self.assertIs(self.refusal(other, "r").kind, Kind.RATE)

    def test_snapshot_nonsense(self) -> None:
        """A damaged snapshot restores what can be understood and raises nothing."""
        for kept in (
            {},
            {"open": "yes", "rests": 3},
            {"open": True, "remaining": "x", "cause": 7, "openings": None, "message": []},
            {"open": True, "remaining": float("nan"), "openings": float("inf"), "cause": "money"},
            {"rests": {"m": 1, "n": ["a", "b"], "o": [5, "nothing"], "p": [-1, "rate_limit"]}},
        ):
            breaker = self.make()
            breaker.restore(kept)
            breaker.permit("m")
            self.assertIn(breaker.state, ("closed", "half-open"))

    def test_many_models(self) -> None:
        """Names that clients make up cannot fill the memory, with the provider's advice and without."""
        for advice in (60.0, None):
            breaker = self.make()
            for number in range(2000):
                breaker._failed(f"m{number}", 0, Verdict(Kind.RATE, "x", retry_after=advice))
            self.assertLessEqual(len(breaker._rests), 256)
            self.assertLessEqual(len(breaker._rate_limits), 300)

    def test_rest(self) -> None:
        """An account that a mode leaves alone is asked by nobody for that time; then one request tries it."""
        breaker = self.make()
        permit, other = self.permit(breaker), self.permit(breaker)
        permit.failure(BROKEN)
        breaker.rest(1800.0, BROKEN)
        self.assertEqual((breaker.state, breaker.rank("m"), breaker.retry_in("m")), ("open", 3, 1800.0))
        self.assertIs(self.refusal(breaker).kind, Kind.UNAVAILABLE)
        other.success()
        breaker.health(True)
        breaker.rest(60.0, BROKEN)
        self.clock.advance(1799.0)
        self.assertEqual(self.refusal(breaker, "another").retry_after, 1.0)
        self.clock.advance(1.0)
        trial = self.permit(breaker)
        self.refusal(breaker)
        trial.success()
        self.permit(breaker).success()
        self.assertEqual(self.names(), ["opened", "down", "half-open", "closed", "up"])

    def test_rest_tells_why(self) -> None:
        """A rest after a rate limit or for want of money refuses with that."""
        for verdict in (RATE, NO_MONEY):
            breaker = self.make()
            breaker.rest(9.0, verdict)
            self.assertIs(self.refusal(breaker).kind, verdict.kind)

    def test_rest_of_a_model(self) -> None:
        """One model can be left alone, and the others go on."""
        breaker = self.make()
        overloaded = Verdict(Kind.OVERLOADED, "engine full", status=503)
        self.permit(breaker).failure(overloaded)
        breaker.rest(300.0, overloaded, "m")
        refusal = self.refusal(breaker)
        self.assertEqual((refusal.kind, refusal.retry_after), (Kind.OVERLOADED, 300.0))
        self.assertEqual(refusal.reason, "m is overloaded (engine full)")
        self.permit(breaker, "other")
        self.clock.advance(300.0)
        self.permit(breaker)

    def test_rest_of_no_time(self) -> None:
        """No time is no rest."""
        breaker = self.make()
        breaker.rest(0.0, BROKEN)
        self.permit(breaker)

    def test_rest_is_kept(self) -> None:
        """A rest outlives a restart."""
        breaker = self.make()
        breaker.rest(1800.0, BROKEN)
        kept = json.loads(json.dumps(breaker.snapshot()))
        other = self.make()
        other.restore(kept, age=100.0)
        other.health(True)
        self.assertEqual(self.refusal(other).retry_after, 1700.0)
