"""Tests of :mod:`mportrouter.limits`: what may still be sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..limits import MINUTE, Allowance, Window
from ..settings import Limits

#: 2026-09-21T14:13:20Z.
EPOCH = 1_790_000_000.0


class WindowTests(SynchronousTestCase):
    """Amounts of the last minute."""

    def test_full(self) -> None:
        """What is over the limit waits until enough of what went is a minute old."""
        window = Window(2)
        self.assertEqual(window.wait(0.0), 0.0)
        window.add(0.0)
        window.add(10.0)
        self.assertEqual(window.wait(20.0), 40.0)
        self.assertEqual(window.wait(59.0), 1.0)
        self.assertEqual(window.wait(60.0), 0.0)

    def test_several_at_once(self) -> None:
        """A large amount waits for as many of the old ones as it needs to have gone."""
        window = Window(100)
        for at in (0.0, 10.0, 20.0):
            window.add(at, 30.0)
        self.assertEqual(window.wait(30.0, 10.0), 0.0)
        self.assertEqual(window.wait(30.0, 40.0), 30.0)
        self.assertEqual(window.wait(30.0, 50.0), 40.0)
        self.assertEqual(window.wait(30.0, 71.0), 50.0)

    def test_larger_than_the_limit(self) -> None:
        """An amount that never fits goes alone."""
        window = Window(100)
        self.assertEqual(window.wait(0.0, 500.0), 0.0)
        window.add(0.0, 1.0)
        self.assertEqual(window.wait(0.0, 500.0), MINUTE)

    def test_kept_turns(self) -> None:
        """Turns that were kept for those who wait are theirs: who comes later comes after them."""
        window = Window(1)
        window.add(0.0)
        first = window.wait(5.0)
        window.add(5.0 + first)
        second = window.wait(10.0)
        self.assertEqual((5.0 + first, 10.0 + second), (60.0, 120.0))
        window.add(10.0 + second)
        self.assertEqual(window.wait(61.0), 119.0)

    def test_fractions(self) -> None:
        """Half a request a minute is one in two minutes, and a hundred an hour is no fewer."""
        half, hundred = Window(0.5), Window(100 / 60)
        half.add(0.0)
        self.assertEqual(half.wait(0.0), 120.0)
        went, at = 0, 0.0
        while at < 3600.0:
            at += hundred.wait(at)
            hundred.add(at)
            went += 1
        self.assertEqual(went, 101)

    def test_changed(self) -> None:
        """An entry that counts for less makes room; one that is over changes nothing."""
        window = Window(100)
        entry = window.add(0.0, 100.0)
        window.change(entry, 20.0)
        self.assertEqual(window.wait(0.0, 80.0), 0.0)
        self.assertEqual(window.wait(61.0, 100.0), 0.0)
        window.change(entry, 90.0)
        self.assertEqual(window.wait(61.0, 100.0), 0.0)

    def test_told(self) -> None:
        """What is left and when all of it is back can be told to a client."""
        window = Window(3)
        self.assertEqual((window.left(0.0), window.reset_in(0.0)), (3.0, 0.0))
        window.add(0.0)
        window.add(20.0)
        self.assertEqual((window.left(30.0), window.reset_in(30.0)), (1.0, 50.0))
        self.assertEqual((window.left(70.0), window.reset_in(70.0)), (2.0, 10.0))

    @given(
        st.integers(1, 20),
        st.lists(st.tuples(st.floats(0, 30), st.integers(1, 30)), max_size=60),
    )
    def test_never_more(self, limit: int, asked: list[tuple[float, int]]) -> None:
        """Whoever waits as told: in no minute goes more than the limit, but for what is larger than that alone."""
        window = Window(limit)
        now, sent = 0.0, []
        for pause, amount in asked:
            now += pause
            at = now + window.wait(now, amount)
            window.add(at, amount)
            sent.append((at, amount))
        for begin, _ in sent:
            inside = [amount for at, amount in sent if begin <= at < begin + MINUTE - 1e-6]
            self.assertTrue(sum(inside) <= limit or len(inside) == 1, (begin, inside))


class AllowanceTests(SynchronousTestCase):
    """Requests and tokens of one account."""

    def test_nothing_set(self) -> None:
        """Without limits nothing waits, and nothing needs to be asked."""
        allowance = Allowance(Limits(concurrency=3))
        self.assertEqual((allowance.active, allowance.limited, allowance.wait(0.0, 10**9)), (False, False, 0.0))
        allowance.settle(allowance.take(0.0, 10**9), 10**9, 0.0)
        self.assertEqual(allowance.wait(0.0, 10**9), 0.0)

    def test_both(self) -> None:
        """The limit that is reached later is waited for, and the words name one that is reached."""
        allowance = Allowance(Limits(requests=2, tokens=1000))
        allowance.take(0.0, 100)
        allowance.take(30.0, 800)
        self.assertEqual(allowance.wait(40.0, 100), 20.0)
        self.assertIn("2 requests a minute", allowance.why(40.0, 100))
        self.assertEqual(allowance.wait(40.0, 600), 50.0)
        self.assertEqual(allowance.wait(60.0, 600), 30.0)
        self.assertIn("1000 tokens a minute", allowance.why(60.0, 600))

    def test_settled_below(self) -> None:
        """A request that used fewer tokens than estimated makes room for others."""
        allowance = Allowance(Limits(tokens=1000))
        place = allowance.take(0.0, 1000)
        self.assertGreater(allowance.wait(1.0, 500), 0)
        allowance.settle(place, 400, 1.0)
        self.assertEqual(allowance.wait(1.0, 500), 0.0)

    def test_settled_above(self) -> None:
        """What it used beyond the estimate counts from when it is known."""
        allowance = Allowance(Limits(tokens=1000))
        place = allowance.take(0.0, 100)
        allowance.settle(place, 900, 50.0)
        self.assertEqual(allowance.wait(50.0, 150), 10.0)
        self.assertEqual(allowance.wait(61.0, 201), 49.0)

    def test_cancelled(self) -> None:
        """A request that was not sent counts for nothing."""
        allowance = Allowance(Limits(requests=1, tokens=10))
        allowance.cancel(allowance.take(0.0, 10))
        self.assertEqual(allowance.wait(0.0, 10), 0.0)

    def test_followed(self) -> None:
        """Under other settings the same account goes on from what it was asked, and from what its provider told."""
        before = Allowance(Limits(requests=5, tokens=100))
        before.take(0.0, 100)
        before.learn([(b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", b"90")], 0.0, EPOCH, "m")
        after = Allowance(Limits(requests=1))
        after.follow(before)
        self.assertEqual(after.wait(1.0, model="m"), 89.0)
        self.assertEqual(after.wait(1.0, model="other"), 59.0)


class LearningTests(SynchronousTestCase):
    """What providers tell of their budgets, in the forms that they document."""

    def waits(self, *headers: tuple[str, str], tokens: float = 1.0, model: str = "m") -> float:
        """Seconds until a request for ``model`` may go, after an answer for the model ``m`` with these fields."""
        allowance = Allowance(Limits())
        fields = [(name.encode(), value.encode()) for name, value in headers]
        allowance.learn(fields, 1000.0, EPOCH, "m")
        wait = allowance.wait(1000.0, tokens, model)
        self.assertEqual(allowance.active, wait > 0 or bool(allowance._spent))
        return wait

    def test_anthropic(self) -> None:
        """Budgets with a date as their reset."""
        for budget in ("requests", "tokens", "input-tokens", "output-tokens"):
            told = (
                (f"anthropic-ratelimit-{budget}-limit", "50"),
                (f"anthropic-ratelimit-{budget}-remaining", "0"),
                (f"anthropic-ratelimit-{budget}-reset", "2026-09-21T14:13:50Z"),
            )
            self.assertEqual(self.waits(*told), 30.0, budget)

    def test_subscription(self) -> None:
        """A rejecting status of the account holds for every model of it."""
        reset = ("anthropic-ratelimit-unified-reset", str(int(EPOCH) + 7200))
        self.assertEqual(self.waits(("anthropic-ratelimit-unified-status", "rejected"), reset, model="other"), 7200.0)
        self.assertEqual(self.waits(("anthropic-ratelimit-unified-status", "allowed_warning"), reset), 0.0)

    def test_openai(self) -> None:
        """Durations as resets, names in any case."""
        self.assertAlmostEqual(
            self.waits(("X-RateLimit-Remaining-Requests", "0"), ("x-ratelimit-reset-requests", "820ms")), 0.82
        )
        self.assertEqual(self.waits(("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1m2s")), 62.0)

    def test_cerebras(self) -> None:
        """Budgets that name their window, with seconds as resets."""
        name, reset = "x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"
        self.assertEqual(self.waits((name, "0"), (reset, "11.5")), 11.5)

    def test_openrouter(self) -> None:
        """One budget without a name, with milliseconds since the epoch."""
        moment = str(int((EPOCH + 90) * 1000))
        told = (("X-RateLimit-Limit", "20"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", moment))
        self.assertAlmostEqual(self.waits(*told), 90.0, 3)

    def test_ietf(self) -> None:
        """The drafts' fields: three of them, and one with several policies of which some are used up."""
        self.assertEqual(self.waits(("ratelimit-remaining", "0"), ("ratelimit-reset", "7")), 7.0)
        self.assertEqual(self.waits(("ratelimit", "limit=9, remaining=0, reset=8")), 8.0)
        self.assertEqual(self.waits(("ratelimit", '"minute";r=0;t=30, "day";r=9;t=5000')), 30.0)
        self.assertEqual(self.waits(("ratelimit", '"minute";r=0;t=30, "hour";r=0;t=500')), 500.0)
        self.assertEqual(self.waits(("ratelimit", "limit=9, remaining=10, reset=8")), 0.0)

    def test_codex(self) -> None:
        """A window of a subscription that is used to the full, for every model."""
        reset = ("x-codex-primary-reset-at", str(int(EPOCH) + 600))
        self.assertEqual(self.waits(("x-codex-primary-used-percent", "100"), reset, model="other"), 600.0)
        self.assertEqual(self.waits(("x-codex-primary-used-percent", "99.5"), reset), 0.0)
        self.assertEqual(
            self.waits(("x-codex-secondary-used-percent", "100"), ("x-codex-secondary-reset-after-seconds", "60")), 60.0
        )

    def test_budget_of_a_day(self) -> None:
        """Past a minute only the share that the request needs is waited for: Groq's day comes back bit by bit."""
        told = (
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "24h0m0s"),
        )
        self.assertEqual(self.waits(*told), 60.0)
        told = (
            ("x-ratelimit-limit-tokens-day", "1000"),
            ("x-ratelimit-remaining-tokens-day", "0"),
            ("x-ratelimit-reset-tokens-day", "1000"),
        )
        self.assertEqual(self.waits(*told, tokens=300.0), 300.0)
        self.assertEqual(self.waits(*told, tokens=10**6), 1000.0)

    def test_other_models(self) -> None:
        """A budget is that of the model which was asked."""
        told = (("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "30s"))
        self.assertEqual((self.waits(*told), self.waits(*told, model="other")), (30.0, 0.0))

    def test_not_used_up(self) -> None:
        """What remains, what has no reset, what is no number and what has no limit at all keeps nobody waiting."""
        for remaining, reset, limit in (
            ("1", "30s", "5"),
            ("0", "", "5"),
            ("0", "soon", "5"),
            ("0", "0s", "5"),
            ("0", "30s", "0"),
            ("-1", "30s", "5"),
            ("", "30s", "5"),
        ):
            told = (
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", reset),
                ("x-ratelimit-limit-requests", limit),
            )
            self.assertEqual(self.waits(*told), 0.0, told)
        self.assertEqual(self.waits(("content-type", "text/plain")), 0.0)

    def test_later_answers(self) -> None:
        """A later answer takes back what an earlier one told of the same budget, and time what is over."""
        allowance = Allowance(Limits())
        spent = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"30s")]
        allowance.learn(spent, 0.0, EPOCH, "m")
        self.assertTrue(allowance.active)
        allowance.learn([(b"x-ratelimit-remaining-tokens", b"5")], 1.0, EPOCH, "m")
        self.assertEqual(allowance.wait(1.0, 0, "m"), 29.0)
        allowance.learn([(b"x-ratelimit-remaining-requests", b"3")], 2.0, EPOCH, "m")
        self.assertEqual((allowance.active, allowance.wait(2.0, 0, "m")), (False, 0.0))
        allowance.learn(spent, 0.0, EPOCH, "m")
        self.assertEqual((allowance.wait(31.0, 0, "m"), allowance.active), (0.0, False))

    def test_many_models(self) -> None:
        """Names that clients make up do not fill the memory."""
        allowance = Allowance(Limits())
        for number in range(1000):
            told = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"30s")]
            allowance.learn(told, 0.0, EPOCH, f"m{number}")
        self.assertLessEqual(len(allowance._spent), 256)
        self.assertEqual(allowance.wait(0.0, 0, "m1"), 30.0)
        self.assertEqual(allowance.wait(31.0, 0, "x"), 0.0)
        self.assertEqual((len(allowance._spent), allowance.active), (0, False))
