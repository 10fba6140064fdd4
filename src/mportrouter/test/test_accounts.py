"""Tests for :mod:`mportrouter.routing.accounts`: stacked accounts, exhausted one by one or asked in turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..errors import Kind
from ..routing.accounts import asked_for
from ..routing.plans import Facts, Plan, UpstreamView
from ..routing.policy import plan
from ..settings import Capabilities, ModeSettings

IDS = ("groq-1", "groq-2", "groq-3")
EXHAUST = ModeSettings("stacked", "exhaust", IDS, auto_model="multirouter-auto")
ROUND = ModeSettings("spread", "round-robin", IDS)
FACTS = Facts("stacked", "llama")
GROQ = [UpstreamView(id, "groq", model="llama", models=("llama", "gemma")) for id in IDS]

#: An account in any state, as its rank and the seconds until it is back.
STATES = st.one_of(
    st.tuples(st.sampled_from([0, 1]), st.just(0.0)),
    st.tuples(st.just(3), st.just(0.0)),  # marked down by checks, and yet to be tried
    st.tuples(st.sampled_from([2, 3]), st.floats(0.1, 900)),
)
VIEWS = st.lists(
    st.builds(
        lambda state, enabled, offers, stops, images, context: UpstreamView(
            "",
            "p",
            Capabilities(stop_sequences=stops, images=images),
            rank=state[0],
            retry_in=state[1],
            enabled=enabled,
            offers=offers,
            context=context,
        ),
        STATES,
        st.sampled_from([True, True, True, False]),
        st.sampled_from([True, True, True, False]),
        st.sampled_from(["honoured", "honoured", "ignored", "refused"]),
        st.sampled_from(["honoured", "honoured", "refused"]),
        st.sampled_from([None, 1000]),
    ),
    min_size=1,
    max_size=8,
).map(lambda views: [attrs.evolve(view, id=f"u{place}") for place, view in enumerate(views)])
NEEDS = st.frozensets(st.sampled_from(["stop_sequences", "images"]))
BOTH = st.sampled_from(["exhaust", "round-robin"])


def resting(view: UpstreamView, seconds: float) -> UpstreamView:
    return attrs.evolve(view, rank=2, retry_in=seconds)


def order(made: Plan) -> list[str]:
    return [attempt.upstream for attempt in made.attempts]


def mode_of(strategy: str, views: list[UpstreamView], **more: Any) -> ModeSettings:
    return ModeSettings("m", strategy, tuple(view.id for view in views), **more)


class ExhaustTests(SynchronousTestCase):
    """One account until it is exhausted, then the next."""

    def test_in_order(self) -> None:
        """All are asked in the configured order, whoever's turn it is."""
        for turn in range(5):
            made = plan(EXHAUST, attrs.evolve(FACTS, turn=turn), GROQ)
            self.assertEqual(order(made), list(IDS))
        self.assertEqual(made.decision, "groq-1 first")
        self.assertEqual(
            [attempt.reason for attempt in made.attempts], ["first in order", "after groq-1", "after groq-2"]
        )

    def test_next(self) -> None:
        """An exhausted account is in no plan; the plan tells why and when it is back."""
        made = plan(EXHAUST, FACTS, [resting(GROQ[0], 240.4), *GROQ[1:]])
        self.assertEqual(order(made), ["groq-2", "groq-3"])
        self.assertEqual(made.decision, "groq-1 resting, back in 240 s; groq-2 first")
        self.assertEqual(made.notes, ("groq-1 resting, back in 240 s",))
        self.assertEqual(made.attempts[0].reason, "next in order")

    def test_all_exhausted(self) -> None:
        """With all of them exhausted the answer is 429, with the soonest return."""
        made = plan(EXHAUST, FACTS, [resting(GROQ[0], 240.0), resting(GROQ[1], 12.5), resting(GROQ[2], 99.0)])
        assert made.refusal is not None
        self.assertEqual((made.attempts, made.refusal.kind, made.refusal.status), ((), Kind.RATE, 429))
        self.assertEqual(made.refusal.retry_after, 12.5)
        self.assertIn("all providers for model exhausted", made.refusal.message)
        self.assertEqual(len(made.notes), 3)

    def test_soonest_that_can(self) -> None:
        """An account that cannot serve the request does not make its return sooner."""
        deaf = attrs.evolve(resting(GROQ[0], 1.0), capabilities=Capabilities(images="refused"))
        made = plan(EXHAUST, attrs.evolve(FACTS, needs=frozenset({"images"})), [deaf, resting(GROQ[1], 30.0)])
        assert made.refusal is not None
        self.assertEqual(made.refusal.retry_after, 30.0)

    def test_unknown_model(self) -> None:
        """A model that no account has is 404, and the message lists those that are there."""
        views = [attrs.evolve(view, offers=False) for view in GROQ]
        for mode in (EXHAUST, ROUND):
            made = plan(mode, attrs.evolve(FACTS, model="gpt-9"), views)
            assert made.refusal is not None
            self.assertEqual((made.refusal.kind, made.refusal.status), (Kind.NOT_FOUND, 404))
            self.assertIn("'gpt-9'", made.refusal.message)
            self.assertIn("gemma, llama", made.refusal.message)
        self.assertLess(len(str(plan(EXHAUST, attrs.evolve(FACTS, model="x" * 9999), views).refusal)), 400)

    def test_only_who_has_it(self) -> None:
        """Accounts that do not have the model are left out, and the notes say so."""
        made = plan(EXHAUST, FACTS, [attrs.evolve(GROQ[0], offers=False), *GROQ[1:]])
        self.assertEqual(order(made), ["groq-2", "groq-3"])
        self.assertEqual(made.notes, ("groq-1 left out: it does not have 'llama'",))
        self.assertEqual(made.decision, "groq-2 first")

    def test_auto(self) -> None:
        """The model for all accounts goes round over all of them."""
        facts = attrs.evolve(FACTS, model="multirouter-auto")
        views = [attrs.evolve(view, model=f"model-of-{view.id}") for view in GROQ]
        firsts = [plan(EXHAUST, attrs.evolve(facts, turn=turn), views).attempts[0] for turn in range(4)]
        self.assertEqual([attempt.upstream for attempt in firsts], ["groq-1", "groq-2", "groq-3", "groq-1"])
        self.assertEqual([attempt.model for attempt in firsts[:2]], ["model-of-groq-1", "model-of-groq-2"])
        self.assertTrue(plan(EXHAUST, facts, views).decision.startswith("multirouter-auto: "))
        no_auto = attrs.evolve(EXHAUST, auto_model="")
        self.assertEqual(order(plan(no_auto, attrs.evolve(facts, turn=1), views))[0], "groq-1")

    def test_unwell(self) -> None:
        """A degraded account comes behind healthy ones, one that checks found down last; their reasons say so."""
        views = [attrs.evolve(GROQ[0], rank=3), attrs.evolve(GROQ[1], rank=1), GROQ[2]]
        made = plan(EXHAUST, FACTS, views)
        self.assertEqual(order(made), ["groq-3", "groq-2", "groq-1"])
        self.assertEqual(made.attempts[1].reason, "after groq-3; groq-2 degraded")
        self.assertEqual(made.notes, ("groq-2 degraded", "groq-1 down"))

    def test_cannot(self) -> None:
        """What every account refuses is refused here, naming what and by whom."""
        views = [attrs.evolve(view, capabilities=Capabilities(documents="refused")) for view in GROQ]
        made = plan(EXHAUST, attrs.evolve(FACTS, needs=frozenset({"documents"})), views)
        assert made.refusal is not None
        self.assertEqual((made.attempts, made.refusal.kind), ((), Kind.BAD_REQUEST))
        self.assertIn("documents refused by groq-3", made.refusal.message)

    def test_ignoring(self) -> None:
        """One that would ignore what is needed serves only where nobody who honours it may be asked."""
        deaf = attrs.evolve(GROQ[0], capabilities=Capabilities(stop_sequences="ignored"))
        facts = attrs.evolve(FACTS, needs=frozenset({"stop_sequences"}))
        self.assertEqual(order(plan(EXHAUST, facts, [deaf, *GROQ[1:]])), ["groq-2", "groq-3"])
        made = plan(EXHAUST, facts, [deaf, resting(GROQ[1], 9), resting(GROQ[2], 9)])
        self.assertEqual((order(made), made.attempts[0].reason), (["groq-1"], "last resort"))
        self.assertIn("stop_sequences ignored by groq-1", made.decision)

    def test_long_prompt(self) -> None:
        """A prompt that seems too long goes to whom it fits; where it fits nobody, it is tried: the size is a guess."""
        facts = attrs.evolve(FACTS, estimated_tokens=5000)
        small, large = attrs.evolve(GROQ[0], context=4000), attrs.evolve(GROQ[1], context=8000)
        self.assertEqual(order(plan(EXHAUST, facts, [small, large])), ["groq-2"])
        self.assertEqual(order(plan(EXHAUST, facts, [small])), ["groq-1"])

    def test_many_notes(self) -> None:
        """With many accounts out the decision tells some and counts the rest; the notes have all."""
        views = [UpstreamView(f"u{number}", "p", rank=2, retry_in=60.0) for number in range(9)] + [GROQ[0]]
        made = plan(mode_of("exhaust", views), FACTS, views)
        self.assertIn("6 more notes", made.decision)
        self.assertEqual(len(made.notes), 9)


class RoundRobinTests(SynchronousTestCase):
    """Each account in turn."""

    def test_turns(self) -> None:
        """Each is first in its turn, the others follow in the order of the round."""
        found = [order(plan(ROUND, attrs.evolve(FACTS, turn=turn), GROQ)) for turn in range(4)]
        one, two, three = IDS
        self.assertEqual(found, [[one, two, three], [two, three, one], [three, one, two], [one, two, three]])
        self.assertEqual(plan(ROUND, attrs.evolve(FACTS, turn=4), GROQ).attempts[0].reason, "turn 2 of 3")

    def test_over_the_healthy(self) -> None:
        """The round goes over the healthy; others stand behind, the exhausted nowhere."""
        views = [attrs.evolve(GROQ[0], rank=1), GROQ[1], GROQ[2], UpstreamView("x", "groq", rank=2, retry_in=9.0)]
        found = [order(plan(ROUND, attrs.evolve(FACTS, turn=turn), views)) for turn in (0, 1, 2)]
        self.assertEqual(found[0], ["groq-2", "groq-3", "groq-1"])
        self.assertEqual(found[1], ["groq-3", "groq-2", "groq-1"])
        self.assertEqual(found[2], found[0])


class StayTests(SynchronousTestCase):
    """A conversation stays on its account."""

    def test_stays(self) -> None:
        """While its account is well, that comes first, in whichever strategy and turn; the decision says so."""
        for mode in (EXHAUST, ROUND):
            for turn in range(4):
                made = plan(mode, attrs.evolve(FACTS, stay="groq-2", turn=turn), GROQ)
                self.assertEqual(order(made)[0], "groq-2")
                self.assertEqual(sorted(order(made)), sorted(IDS))
                self.assertIn("the conversation stays with groq-2", made.decision)

    def test_leaves(self) -> None:
        """It moves once its account is exhausted, unwell, or unfit for this request."""
        facts = attrs.evolve(FACTS, stay="groq-2", needs=frozenset({"images"}))
        for changed in (
            resting(GROQ[1], 60),
            attrs.evolve(GROQ[1], rank=1),
            attrs.evolve(GROQ[1], capabilities=Capabilities(images="refused")),
        ):
            made = plan(EXHAUST, facts, [GROQ[0], changed, GROQ[2]])
            self.assertEqual(order(made)[0], "groq-1")
            self.assertIn("the conversation leaves groq-2", made.notes)

    def test_free(self) -> None:
        """Without affinity, or on an account that is no more, it goes where any goes."""
        facts = attrs.evolve(FACTS, stay="groq-2")
        self.assertEqual(order(plan(attrs.evolve(EXHAUST, affinity=False), facts, GROQ))[0], "groq-1")
        self.assertEqual(plan(EXHAUST, attrs.evolve(FACTS, stay="gone"), GROQ), plan(EXHAUST, FACTS, GROQ))


class AskedForTests(SynchronousTestCase):
    """What an upstream would be asked for."""

    def test_asked_for(self) -> None:
        """The client's model, the tag's in its place, an account's first one for the model that stands for all."""
        translate = {"opus": "big", "multirouter-auto": "any"}

        def mapped(name: str) -> str:
            return translate.get(name, name)

        def same(name: str) -> str:
            return name

        for model, tag, offered, model_for, wanted in (
            ("opus", None, (), mapped, ("big", True)),
            ("opus", None, ("opus",), same, ("opus", True)),
            ("opus", None, ("llama",), same, ("opus", False)),
            ("opus", ("groq", "llama"), ("llama",), same, ("llama", True)),
            ("llama", ("groq", "opus"), ("llama",), same, ("opus", False)),
            ("multirouter-auto", None, ("llama", "x"), same, ("llama", True)),
            ("multirouter-auto", None, (), same, ("multirouter-auto", False)),
            ("multirouter-auto", None, (), mapped, ("any", True)),
        ):
            self.assertEqual(asked_for(EXHAUST, model, tag, offered, model_for), wanted)
        self.assertEqual(asked_for(ROUND, "", None, ("llama",), same), ("", False))

    def test_loop(self) -> None:
        """A loop of tools keeps the model that the mode had chosen: who does not have it is not asked."""
        auto = EXHAUST.auto_model

        def same(model: str) -> str:
            return model

        self.assertEqual(asked_for(EXHAUST, auto, None, ("llama", "big"), same, "big"), ("big", True))
        self.assertEqual(asked_for(EXHAUST, auto, None, ("llama",), same, "big"), ("big", False))
        self.assertEqual(asked_for(EXHAUST, auto, None, (), lambda model: "big", "big"), ("big", True))
        self.assertEqual(asked_for(EXHAUST, auto, None, (), lambda model: "small", "big"), ("small", False))


class PropertyTests(SynchronousTestCase):
    """What holds for all requests and states."""

    @given(BOTH, VIEWS, NEEDS, st.integers(0, 99), st.integers(0, 9), st.sampled_from([0, 5000]))
    @hypothesis_settings(max_examples=500, deadline=None)
    def test_able(
        self, strategy: str, views: list[UpstreamView], needs: frozenset[str], turn: int, stay: int, tokens: int
    ) -> None:
        """
        No plan holds an upstream twice, a disabled one, one without the model, one that refuses what is needed, or one
        that must be left alone; and where somebody can serve, there is a plan.
        """
        facts = Facts("m", "x", needs=needs, turn=turn, stay=f"u{stay}", estimated_tokens=tokens)
        made = plan(mode_of(strategy, views), facts, views)
        able = {
            view.id
            for view in views
            if view.enabled
            and view.offers
            and not view.retry_in
            and not any(getattr(view.capabilities, need) == "refused" for need in needs)
        }
        asked = order(made)
        self.assertEqual(len(asked), len(set(asked)))
        self.assertLessEqual(set(asked), able)
        self.assertNotEqual(bool(asked), made.refusal is not None)
        fitting = {view.id for view in views if view.id in able and not (view.context and tokens > view.context)}
        if fitting:
            self.assertTrue(asked)
            self.assertLessEqual(set(asked), fitting)
        self.assertEqual(plan(mode_of(strategy, views), facts, views).attempts, made.attempts)
        if made.refusal is not None and made.refusal.kind is Kind.RATE:
            self.assertGreater(made.refusal.retry_after or 0, 0)

    @given(BOTH, VIEWS, NEEDS)
    @hypothesis_settings(max_examples=300, deadline=None)
    def test_everybody_is_told_of(self, strategy: str, views: list[UpstreamView], needs: frozenset[str]) -> None:
        """Of every upstream the plan tells why it is in, or why it is not."""
        made = plan(mode_of(strategy, views), Facts("m", "x", needs=needs), views)
        if made.refusal is not None and made.refusal.kind is Kind.NOT_FOUND:
            return
        told = " ".join(made.notes).replace(";", " ").split()
        for view in views:
            self.assertTrue(view.id in told or view.id in order(made), (view.id, made))
        self.assertTrue(all(attempt.reason for attempt in made.attempts))

    @given(VIEWS, NEEDS, st.integers(0, 99))
    @hypothesis_settings(max_examples=300, deadline=None)
    def test_exhaust_skips_nobody(self, views: list[UpstreamView], needs: frozenset[str], turn: int) -> None:
        """Before a healthy account that does all that is needed comes no later one."""
        made = order(plan(mode_of("exhaust", views), Facts("m", "x", needs=needs, turn=turn), views))
        well = [
            view.id
            for view in views
            if view.enabled
            and view.offers
            and view.rank == 0
            and all(getattr(view.capabilities, need) == "honoured" for need in needs)
        ]
        self.assertEqual(made[: len(well)], well)

    @given(VIEWS, NEEDS, st.integers(0, 1000))
    @hypothesis_settings(max_examples=300, deadline=None)
    def test_nobody_starves(self, views: list[UpstreamView], needs: frozenset[str], begin: int) -> None:
        """Over as many turns as there are healthy accounts each is first exactly once, from wherever it begins."""
        mode = mode_of("round-robin", views)
        well = [
            view.id
            for view in views
            if view.enabled
            and view.offers
            and view.rank == 0
            and all(getattr(view.capabilities, need) == "honoured" for need in needs)
        ]
        firsts = [
            order(plan(mode, Facts("m", "x", needs=needs, turn=begin + turn), views))[0] for turn in range(len(well))
        ]
        self.assertEqual(Counter(firsts), Counter(well))

    @given(
        st.integers(1, 6),
        st.lists(st.tuples(st.integers(0, 5), st.floats(1, 300), st.floats(0, 60)), max_size=30),
    )
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_exhaust_over_time(self, count: int, limits: list[tuple[int, float, float]]) -> None:
        """
        As accounts run out and return on a clock, the first in order that is not out is asked; with all out the
        refusal's time is the first moment at which one is asked again.
        """
        now = 0.0
        until = [0.0] * count
        ids = tuple(f"u{place}" for place in range(count))
        mode = ModeSettings("m", "exhaust", ids)

        def at(moment: float) -> Plan:
            views = [
                UpstreamView(id, "p", rank=2 if end > moment else 0, retry_in=max(0.0, end - moment))
                for id, end in zip(ids, until, strict=True)
            ]
            return plan(mode, Facts("m", "x"), views)

        for place, rest, later in limits:
            until[place % count] = now + rest
            made = at(now)
            free = [id for id, end in zip(ids, until, strict=True) if end <= now]
            self.assertEqual(order(made), free)
            if not free:
                assert made.refusal is not None and made.refusal.retry_after is not None
                self.assertTrue(order(at(now + made.refusal.retry_after + 1e-6)))
                self.assertFalse(order(at(now + made.refusal.retry_after * 0.99)))
            now += later
