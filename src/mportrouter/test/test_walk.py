"""Tests of :mod:`mportrouter.walk`: limits of accounts, moving on, cooling down, what becomes of stacked accounts."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ..breaker import Breaker, Refusal
from ..errors import Kind, Verdict
from ..limits import Allowance
from ..routing.plans import Attempt
from ..settings import BreakerSettings, Limits, Timeouts
from ..testing import Chunk, End, Head, Wait, canned_error_event
from .relayed import EVENTS, JSON, Relayed, broken, error, stream, whole

#: The fields of an answer that used up the requests of half a minute.
SPENT = ((b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"30s"))


def spent(limits: Limits, requests: int = 1, at: float = 0.0, tokens: int = 0) -> Allowance:
    """An account that was asked already."""
    allowance = Allowance(limits)
    for _ in range(requests):
        allowance.take(at, tokens)
    return allowance


class LimitTests(SynchronousTestCase):
    """Requests and tokens a minute."""

    def test_next_account(self) -> None:
        """Where an account's limit is reached, the next one is asked at once."""
        one = Limits(requests=1)
        relayed = Relayed({"a": [whole()], "b": [whole()]}, limits=one, allowances={"a": spent(one)}).run(0)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 0, "b": 1}))
        self.assertEqual([(failed.upstream, failed.kind) for failed in relayed.record.failed], [("a", "rate_limit")])
        self.assertGreater(relayed.upstreams["b"].allowance.wait(0.0), 0)

    def test_waits(self) -> None:
        """Where nobody else can take it and the turn is soon, the request waits for it."""
        one = Limits(requests=1, wait=5.0)
        relayed = Relayed({"a": [whole()]}, allowances={"a": spent(one, at=-56.0)}, limits=one)
        relayed.run(3.75)
        self.assertEqual((relayed.status, relayed.asked()), (None, {"a": 0}))
        relayed.run(1.0)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 1}))
        self.assertEqual(relayed.upstreams["a"].allowance.wait(4.0), 60.0)

    def test_soonest(self) -> None:
        """Of several accounts the one whose turn comes first is waited for."""
        one = Limits(requests=1)
        allowances = {"a": spent(one, at=-56.0), "b": spent(one, at=-58.0)}
        relayed = Relayed({"a": [whole()], "b": [whole()]}, limits=one, allowances=allowances).run(5)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 0, "b": 1}))

    def test_after_a_failure(self) -> None:
        """An account whose turn is soon is waited for where the others were asked and failed."""
        one = Limits(requests=1)
        scripts = {"a": [whole()], "b": [error(500)]}
        relayed = Relayed(scripts, own_limits={"a": one}, allowances={"a": spent(one, at=-57.0)}).run(5)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 1, "b": 1}))

    def test_too_late(self) -> None:
        """A turn that is too far away is not waited for: the client hears at once when it is."""
        one = Limits(requests=1, wait=5.0)
        relayed = Relayed({"a": [whole()]}, limits=one, allowances={"a": spent(one, at=-50.0)}).run(0)
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "10"))
        self.assertIn("a: its limit of 1 requests a minute is reached", relayed.message)
        self.assertEqual(relayed.asked(), {"a": 0})

    def test_no_waiting(self) -> None:
        """``wait: 0`` waits for nothing."""
        one = Limits(requests=1, wait=0.0)
        relayed = Relayed({"a": [whole()]}, limits=one, allowances={"a": spent(one, at=-59.5)}).run(0)
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "1"))

    def test_one_after_the_other(self) -> None:
        """Where the first that was waited for fails, the next one is, but no longer than a request may wait at all."""
        one = Limits(requests=1)
        for turn, status, asked in ((-57.0, 200, 1), (-54.5, 503, 0)):
            allowances = {"a": spent(one, at=-58.0), "b": spent(one, at=turn)}
            relayed = Relayed({"a": [error(500)], "b": [whole()]}, limits=one, allowances=allowances).run(20)
            self.assertEqual((relayed.status, relayed.asked()), (status, {"a": 1, "b": asked}))

    def test_turns_are_kept(self) -> None:
        """Requests that wait for one account get turns one after the other; one whose client leaves frees its own."""
        clock, one = Clock(), Limits(requests=1, wait=200.0)
        allowance = spent(one)
        first, second, third = (
            Relayed({"a": [whole()]}, limits=one, allowances={"a": allowance}, clock=clock) for _ in range(3)
        )
        third.transport.loseConnection()
        self.assertEqual(third.record.outcome, "gone")
        clock.pump([0.5] * 121)
        self.assertEqual((first.asked(), second.asked()), ({"a": 1}, {"a": 0}))
        clock.pump([0.5] * 120)
        self.assertEqual((second.asked(), third.asked()), ({"a": 1}, {"a": 0}))
        self.assertLessEqual(allowance.wait(clock.seconds()), 60.0)

    def test_closed_meanwhile(self) -> None:
        """Where the circuit has opened during the wait, the turn is given back."""
        one = Limits(requests=1)
        relayed = Relayed({"a": [whole()]}, limits=one, allowances={"a": spent(one, at=-58.0)})
        relayed.upstreams["a"].circuit.refusal = Refusal("circuit open", 9.0, Kind.UNAVAILABLE)
        relayed.run(3)
        self.assertEqual((relayed.status, relayed.asked()), (503, {"a": 0}))
        self.assertEqual(relayed.upstreams["a"].allowance.wait(3.0), 0.0)

    def test_no_trial_is_spent(self) -> None:
        """A circuit is not asked for leave where the account's limits refuse."""
        one = Limits(requests=1)
        relayed = Relayed({"a": [whole()], "b": [whole()]}, limits=one, allowances={"a": spent(one)}).run(0)
        self.assertEqual(relayed.upstreams["a"].circuit.permits, [])

    def test_tokens(self) -> None:
        """Tokens count as estimated until the answer tells, then as used."""
        limits = Limits(tokens=10_000)
        relayed = Relayed({"a": [whole()]}, limits=limits)
        allowance = relayed.upstreams["a"].allowance
        self.assertGreater(allowance.wait(0.0, 10_000 - len(relayed.body) + 1), 0)
        relayed.run(0)
        usage = relayed.record.usage
        assert usage is not None
        used = usage.prompt - usage.cache_read + usage.output
        self.assertGreater(used, 0)
        self.assertEqual(allowance.wait(0.0, 10_000 - used), 0.0)
        self.assertGreater(allowance.wait(0.0, 10_000 - used + 1), 0)

    def test_refused_tokens(self) -> None:
        """What a provider refused cost no tokens, but it was a request."""
        limits = Limits(tokens=10_000, requests=1)
        relayed = Relayed({"a": [error(500)]}, limits=limits).run(0)
        allowance = relayed.upstreams["a"].allowance
        self.assertEqual(allowance.wait(0.0, 10_000), 60.0)
        self.assertIn("1 requests", allowance.why(0.0, 10_000))
        assert allowance._tokens is not None
        self.assertEqual(allowance._tokens.left(0.0), 10_000)

    def test_second_tries_count(self) -> None:
        """Every request that is sent counts, a second try too."""
        limits = Limits(requests=5)
        relayed = Relayed({"a": [error(500), whole()]}, limits=limits, retries=1).run(2)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 2}))
        requests = relayed.upstreams["a"].allowance._requests
        assert requests is not None
        self.assertEqual(requests.left(2.0), 3.0)

    def test_not_sent(self) -> None:
        """A request that the account's dialect cannot express counts for nothing."""
        limits = Limits(requests=1)
        document = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
        members = {"messages": [{"role": "user", "content": [document]}]}
        dialects = {"a": "openai-chat"}
        relayed = Relayed({"a": [whole()]}, limits=limits, members=members, dialects=dialects).run(0)
        self.assertEqual(relayed.asked(), {"a": 0})
        self.assertEqual(relayed.upstreams["a"].allowance.wait(0.0), 0.0)


class LearningTests(SynchronousTestCase):
    """What answers tell of an account's budgets."""

    def told(self, **given: Any) -> float:
        """Seconds that the account must be left alone after an answer that says that nothing is left."""
        relayed = Relayed({"a": [whole(headers=(*JSON, *SPENT))]}, **given).run(0)
        self.assertEqual(relayed.status, 200)
        return relayed.upstreams["a"].allowance.wait(0.0, 0, "a-model")

    def test_where(self) -> None:
        """It is read where limits are set or accounts stand in for each other, and nowhere else."""
        self.assertEqual(self.told(limits=Limits(requests=100)), 30.0)
        self.assertEqual(self.told(mode={"strategy": "exhaust"}), 30.0)
        self.assertEqual(self.told(mode={"strategy": "round-robin"}), 30.0)
        self.assertEqual(self.told(mode={"cooldown": 60.0}), 30.0)
        self.assertEqual(self.told(), 0.0)

    def test_date(self) -> None:
        """A reset that is a date counts from when the answer came, not from when the request did."""
        fields = ((b"ratelimit-remaining", b"0"), (b"ratelimit-reset", b"Thu, 01 Jan 1970 00:17:00 GMT"))
        late = [Wait(5.0), *whole(headers=(*JSON, *fields))]
        relayed = Relayed({"a": [late]}, mode={"strategy": "exhaust"}).run(5)
        self.assertEqual(relayed.upstreams["a"].allowance.wait(5.0, 0, "a-model"), 15.0)

    def test_next(self) -> None:
        """The next request goes to the next account instead of earning a 429."""
        allowance = Allowance(Limits())
        allowance.learn(SPENT, 0.0, 1000.0, "a-model")
        scripts = {"a": [whole()], "b": [whole()]}
        relayed = Relayed(scripts, mode={"strategy": "exhaust"}, allowances={"a": allowance}).run(0)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 0, "b": 1}))


class MovingOnTests(SynchronousTestCase):
    """``move_on`` and ``cooldown``."""

    STATUSES = (429, 500, 502, 503, 504)

    def asked(self, first: Any, **mode: Any) -> tuple[int | None, int]:
        """Status, and how often the second upstream was asked."""
        relayed = Relayed({"a": [first], "b": [whole()]}, mode={"move_on": self.STATUSES, **mode}).run(1)
        return relayed.status, relayed.asked()["b"]

    def test_statuses(self) -> None:
        """The statuses that are named move on, and whatever else is the client's, with the provider's words."""
        for status in self.STATUSES:
            self.assertEqual(self.asked(error(status)), (200, 1), status)
        for status in (400, 401, 402, 403, 404, 413, 422, 529):
            self.assertEqual(self.asked(error(status)), (status, 0), status)

    def test_requests_own_faults(self) -> None:
        """A too long prompt is the client's unless its status is named; then a larger model is asked."""
        long = error(400, "invalid_request_error", "prompt is too long: 3 tokens > 2 maximum")
        self.assertEqual(self.asked(long), (400, 0))
        scripts = {"a": [long], "b": [whole()]}
        mode = {"move_on": (400,)}
        self.assertEqual(Relayed(scripts, mode=mode, contexts={"a": 2, "b": 4}).run(1).status, 200)
        self.assertEqual(Relayed(scripts, mode=mode, contexts={"a": 2, "b": 2}).run(1).status, 400)

    def test_no_status(self) -> None:
        """Network faults and errors within an answer mean what they mean."""
        self.assertEqual(self.asked([broken()]), (200, 1))
        scripts = {"a": [stream(canned_error_event("overloaded_error"), End())], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, mode={"move_on": (500,)}).run(1)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 1, "b": 1}))

    def test_cooldown(self) -> None:
        """An upstream that was moved on from is left alone for the time that is set."""
        relayed = Relayed({"a": [error(500)], "b": [whole()]}, mode={"cooldown": 1800.0}).run(1)
        [(seconds, verdict, model)] = relayed.upstreams["a"].circuit.rests
        self.assertEqual((seconds, verdict.status, model), (1800.0, 500, None))
        self.assertEqual(relayed.upstreams["b"].circuit.rests, [])

    def test_longer_advice(self) -> None:
        """A provider that wants to be left alone for longer than that gets it."""
        limited = error(429, "rate_limit_error", headers=((b"retry-after", b"7200"),))
        relayed = Relayed({"a": [limited], "b": [whole()]}, mode={"cooldown": 1800.0}).run(1)
        self.assertEqual([rest[0] for rest in relayed.upstreams["a"].circuit.rests], [7200.0])

    def test_nobody_else(self) -> None:
        """Nobody cools down where nobody else could be asked: the last one stays."""
        mode = {"cooldown": 1800.0}
        relayed = Relayed({"a": [error(500)]}, mode=mode).run(1)
        self.assertEqual((relayed.status, relayed.upstreams["a"].circuit.rests), (500, []))
        refusals = {"b": Refusal("circuit open", 9.0, Kind.UNAVAILABLE)}
        relayed = Relayed({"a": [error(500)], "b": [whole()]}, mode=mode, refusals=refusals).run(1)
        self.assertEqual(relayed.upstreams["a"].circuit.rests, [])

    def test_second_try(self) -> None:
        """A second try that succeeds is no moving on."""
        relayed = Relayed({"a": [error(500), whole()], "b": [whole()]}, mode={"cooldown": 9.0}, retries=1).run(2)
        self.assertEqual((relayed.asked(), relayed.upstreams["a"].circuit.rests), ({"a": 2, "b": 0}, []))

    def test_innocent(self) -> None:
        """A fault of the request cools nobody down, wherever it moves on to."""
        missing = error(404, "not_found_error", "model: x")
        long = error(400, "invalid_request_error", "prompt is too long")
        for fault in (missing, long):
            relayed = Relayed({"a": [fault], "b": [whole()]}, mode={"cooldown": 9.0}, contexts={"a": 1, "b": 2}).run(1)
            self.assertEqual((relayed.status, relayed.upstreams["a"].circuit.rests), (200, []))

    def test_real_circuit(self) -> None:
        """The circuit refuses for the whole cooldown, then lets one request try it."""
        clock = Clock()
        circuit = Breaker("a", BreakerSettings(), clock.seconds)
        scripts = {"a": [error(502)], "b": [whole()]}
        Relayed(scripts, mode={"cooldown": 1800.0}, circuits={"a": circuit}, clock=clock).run(0)
        again = Relayed(scripts, mode={"cooldown": 1800.0}, circuits={"a": circuit}, clock=clock).run(0)
        self.assertEqual((again.status, again.asked()), (200, {"a": 0, "b": 1}))
        clock.advance(1799.0)
        self.assertIsInstance(circuit.permit("m"), Refusal)
        clock.advance(1.0)
        self.assertNotIsInstance(circuit.permit("m"), Refusal)


class StackedTests(SynchronousTestCase):
    """``exhaust`` and ``round-robin``."""

    def relayed(self, scripts: dict[str, Any], **given: Any) -> Relayed:
        mode = {"strategy": "exhaust", "retry_after": 300.0}
        return Relayed(scripts, mode=mode, **given).run(1)

    def settled(self, relayed: Relayed, id: str = "a") -> Verdict:
        [permit] = relayed.upstreams[id].circuit.permits
        assert isinstance(permit.settled, Verdict)
        return permit.settled

    def test_rests(self) -> None:
        """An exhausted account rests for as long as its provider says, else for as long as the mode does."""
        limited = error(429, "rate_limit_error", headers=((b"retry-after", b"40"),))
        for script, seconds in ((limited, 40.0), (error(429, "rate_limit_error"), 300.0), (error(402), 300.0)):
            relayed = self.relayed({"a": [script], "b": [whole()]})
            self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 1, "b": 1}))
            self.assertEqual(self.settled(relayed).retry_after, seconds)

    def test_out_of_service(self) -> None:
        """After a 503 the model rests there as after a 429; after another fault of the server it does not."""
        relayed = self.relayed({"a": [error(503)], "b": [whole()]})
        [(seconds, _, model)] = relayed.upstreams["a"].circuit.rests
        self.assertEqual((seconds, model), (300.0, "a-model"))
        relayed = self.relayed({"a": [error(500)], "b": [whole()]})
        self.assertEqual(relayed.upstreams["a"].circuit.rests, [])

    def test_all_exhausted(self) -> None:
        """Where all are exhausted the answer is a 429 that tells when the first is back."""
        limited = error(429, "rate_limit_error", headers=((b"retry-after", b"40"),))
        relayed = self.relayed({"a": [error(402)], "b": [limited], "c": [error(429, "rate_limit_error")]})
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "40"))
        self.assertIn("all providers for model exhausted", relayed.message)
        self.assertIn("claude-sonnet-5-5", relayed.message)

    def test_one_account(self) -> None:
        """The same holds for a single account."""
        relayed = self.relayed({"a": [error(429, "rate_limit_error")]})
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "300"))
        self.assertIn("all providers for model exhausted", relayed.message)

    def test_resting_one_is_first(self) -> None:
        """An account that is in no plan because it rests may be the first to come back."""
        relayed = self.relayed(
            {"a": [whole()], "b": [error(429, "rate_limit_error")]},
            refusals={"a": Refusal("rate limited", 12.0, Kind.RATE)},
            planned=(Attempt("b", "b-model"),),
        )
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "12"))

    def test_resting_one_beside_a_bad_key(self) -> None:
        """Where the only one that could be asked refuses its key, those that rest are still waited for."""
        relayed = self.relayed(
            {"a": [whole()], "b": [error(401, "authentication_error")]},
            refusals={"a": Refusal("no money", 200.0, Kind.MONEY)},
            planned=(Attempt("b", "b-model"),),
        )
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "200"))
        self.assertIn("all providers for model exhausted", relayed.message)

    def test_bad_key_beside(self) -> None:
        """A bad key among them changes nothing; a server's fault does."""
        relayed = self.relayed({"a": [error(401, "authentication_error")], "b": [error(429, "rate_limit_error")]})
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "300"))
        relayed = self.relayed({"a": [error(500)], "b": [error(429, "rate_limit_error")]})
        self.assertEqual(relayed.status, 503)
        relayed = self.relayed({"a": [error(401, "authentication_error")], "b": [error(401, "authentication_error")]})
        self.assertEqual(relayed.status, 401)

    def test_each_account(self) -> None:
        """However many accounts there are, each is asked before the client hears that all are exhausted."""
        scripts: dict[str, Any] = {f"a{number}": [error(429, "rate_limit_error")] for number in range(19)}
        relayed = self.relayed({**scripts, "last": [whole()]})
        self.assertEqual((relayed.status, sum(relayed.asked().values())), (200, 20))


class PlaceTests(SynchronousTestCase):
    """The bound on exchanges under way at an upstream."""

    def test_single(self) -> None:
        """Past the bound of the only upstream the answer is an immediate 503 that says why, and when to try again."""
        relayed = Relayed({"a": [whole()]}, limits=Limits(concurrency=0)).run(0)
        self.assertEqual((relayed.status, relayed.header("retry-after")), (503, "1"))
        self.assertEqual(relayed.header("x-mportrouter-error"), "busy")
        self.assertIn("no place is free", relayed.message)
        self.assertIn("a: all of its 0 places are taken", relayed.message)


class AttemptTests(SynchronousTestCase):
    """What a row of a table says of an attempt."""

    def test_path(self) -> None:
        """Path: the request goes there."""
        planned = (Attempt("a", "m", path="/coding/v1/messages"), Attempt("b", "m"))
        relayed = Relayed({"a": [error(500)], "b": [whole()]}, planned=planned).run(1)
        self.assertEqual([sent.path for sent in relayed.upstreams["a"].requests], [b"/coding/v1/messages"])
        self.assertEqual([sent.path for sent in relayed.upstreams["b"].requests], [b"/v1/messages"])

    def test_timeouts(self) -> None:
        """Timeouts: they hold instead of the upstream's, for that attempt alone."""
        slow = [Wait(6.0), Head(200, JSON), Chunk(b"{}"), End()]
        planned = (Attempt("a", "m", timeouts=Timeouts(answer=2.0)), Attempt("b", "m"))
        scripts = {"a": [slow], "b": [[Wait(4.0), *whole()]]}
        relayed = Relayed(scripts, planned=planned, timeouts=Timeouts(answer=5.0)).run(8)
        self.assertEqual((relayed.status, relayed.asked()), (200, {"a": 1, "b": 1}))
        self.assertIn("within 2 s", relayed.record.failed[0].message)
