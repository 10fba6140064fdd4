"""Tests for :mod:`mportrouter.routing.tags`: whom a sub-agent's tag names, and the plan that comes of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..errors import Kind
from ..routing.plans import Facts, Plan, UpstreamView
from ..routing.policy import plan
from ..routing.tags import find, named, told
from ..settings import ModeSettings, TableRow
from .memory_house import House, error

MODELS = ("zai-glm-4.7", "gpt-oss-120b")
VIEWS = [
    UpstreamView("anthropic", "anthropic", model="zai-glm-4.7"),
    UpstreamView("cerebras-1", "cerebras", model="zai-glm-4.7", models=MODELS),
    UpstreamView("cerebras-2", "cerebras", model="zai-glm-4.7", models=MODELS),
    UpstreamView("codex", "openai", model="zai-glm-4.7", models=("gpt-5.1-codex",), offers=False),
]
IDS = tuple(view.id for view in VIEWS)
ONLY = ModeSettings("tagged", "only", IDS, tags=True)
FACTS = Facts("tagged", "claude-sonnet-4-6", tag=("cerebras", "zai-glm-4.7"))


def order(made: Plan) -> list[str]:
    return [attempt.upstream for attempt in made.attempts]


def tagged(provider: str, model: str = "zai-glm-4.7") -> Facts:
    return attrs.evolve(FACTS, tag=(provider, model))


class NamedTests(SynchronousTestCase):
    """Whom a tag names."""

    def test_names(self) -> None:
        """An upstream by its id, or all accounts of a provider; the case of letters does not matter."""
        for name, ids in (
            ("cerebras", ["cerebras-1", "cerebras-2"]),
            ("Cerebras", ["cerebras-1", "cerebras-2"]),
            ("cerebras-2", ["cerebras-2"]),
            ("CEREBRAS-2", ["cerebras-2"]),
            ("anthropic", ["anthropic"]),
        ):
            self.assertEqual([view.id for view in named((name, "zai-glm-4.7"), VIEWS)], ids)

    def test_exact_first(self) -> None:
        """Where names differ by case alone, the one spelled so is meant; an id comes before a provider."""
        views = [UpstreamView("A", "p"), UpstreamView("a", "q"), UpstreamView("b", "A")]
        self.assertEqual([view.id for view in named(("a", "m"), views)], ["a"])
        self.assertEqual([view.id for view in named(("A", "m"), views)], ["A"])

    def test_told(self) -> None:
        """A tag is told on one line of limited length."""
        self.assertEqual(told(("groq", "a\nb\x1b")), "groq,a?b?")
        self.assertLessEqual(len(told(("x" * 999, "y"))), 100)

    def test_find(self) -> None:
        """What a tag is, is the same here."""
        self.assertEqual(find("<CCR-SUBAGENT-MODEL>a, b</CCR-SUBAGENT-MODEL>"), ("a", "b"))


class PlanTests(SynchronousTestCase):
    """The plan that comes of a tag."""

    def test_accounts_in_order(self) -> None:
        """The provider's accounts are asked in order, for the tag's model, even in a mode of one upstream."""
        made = plan(ONLY, FACTS, VIEWS)
        self.assertEqual(order(made), ["cerebras-1", "cerebras-2"])
        self.assertEqual({attempt.model for attempt in made.attempts}, {"zai-glm-4.7"})
        self.assertEqual(made.decision, "tag cerebras,zai-glm-4.7; cerebras-1 first")
        self.assertEqual(made.notes[0], "tag cerebras,zai-glm-4.7")
        for id in ("anthropic", "codex"):
            self.assertIn(f"{id} left out: not what the tag names", made.notes)

    def test_no_tag(self) -> None:
        """Without a tag the mode's strategy answers as ever."""
        self.assertEqual(order(plan(ONLY, attrs.evolve(FACTS, tag=None), VIEWS)), ["anthropic"])

    def test_unknown_provider(self) -> None:
        """A provider that nobody knows is 400, listing those that are known."""
        made = plan(ONLY, tagged("gorq"), VIEWS)
        assert made.refusal is not None
        self.assertEqual((made.attempts, made.refusal.kind, made.refusal.status), ((), Kind.BAD_REQUEST, 400))
        self.assertIn("'gorq'", made.refusal.message)
        self.assertIn("anthropic, cerebras, cerebras-1, cerebras-2, codex, openai", made.refusal.message)
        self.assertEqual(made.decision, "tag gorq,zai-glm-4.7")
        made = plan(ONLY, tagged("gorq"), [attrs.evolve(VIEWS[0], enabled=False), *VIEWS[1:]])
        assert made.refusal is not None
        self.assertNotIn("anthropic", made.refusal.message)

    def test_unknown_model(self) -> None:
        """A model that the provider does not have is 400, listing those that it has; so is none at all."""
        for facts, words in (
            (tagged("codex"), ("'zai-glm-4.7'", "codex", "gpt-5.1-codex")),
            (tagged("cerebras", ""), ("no model", "<CCR-SUBAGENT-MODEL>provider,model</CCR-SUBAGENT-MODEL>")),
        ):
            made = plan(ONLY, facts, VIEWS)
            assert made.refusal is not None
            self.assertEqual(made.refusal.status, 400)
            for word in words:
                self.assertIn(word, made.refusal.message)

    def test_strategies(self) -> None:
        """Among the accounts that a tag names the strategy goes on; a table's rows are not asked."""
        facts = attrs.evolve(FACTS, turn=1)
        for strategy, first in (("round-robin", "cerebras-2"), ("exhaust", "cerebras-1"), ("fallback", "cerebras-1")):
            made = plan(attrs.evolve(ONLY, strategy=strategy), facts, VIEWS)
            self.assertEqual(order(made)[0], first)
        table = attrs.evolve(ONLY, strategy="table", table=(TableRow("opus", "anthropic", "x", "/y"),))
        made = plan(table, FACTS, VIEWS)
        self.assertEqual((order(made), made.attempts[0].path), (["cerebras-1", "cerebras-2"], ""))

    def test_exhausted(self) -> None:
        """Where all accounts that it names are exhausted, no other takes their place."""
        views = [attrs.evolve(view, rank=2, retry_in=7.0) if view.provider == "cerebras" else view for view in VIEWS]
        made = plan(attrs.evolve(ONLY, strategy="exhaust"), FACTS, views)
        assert made.refusal is not None
        self.assertEqual((made.refusal.status, made.refusal.retry_after), (429, 7.0))
        self.assertIn("zai-glm-4.7", made.refusal.message)

    def test_disabled_and_dear(self) -> None:
        """A disabled upstream is not asked for all its tag, nor is one that the cost ceiling stops."""
        views = [attrs.evolve(view, enabled=view.id != "cerebras-1") for view in VIEWS]
        self.assertEqual(order(plan(ONLY, FACTS, views)), ["cerebras-2"])
        made = plan(ONLY, tagged("cerebras-1"), views)
        assert made.refusal is not None
        self.assertEqual(made.refusal.kind, Kind.UNAVAILABLE)
        made = plan(ONLY, tagged("anthropic"), VIEWS, True, Decimal(5))
        assert made.refusal is not None
        self.assertEqual(made.refusal.kind, Kind.BUDGET)
        self.assertTrue(plan(ONLY, FACTS, VIEWS, True, Decimal(5)).attempts)

    @given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["only", "exhaust", "round-robin", "fallback"]))
    def test_any_tag(self, provider: str, model: str, strategy: str) -> None:
        """Whatever a tag says, there is a plan for whom it names or a refusal of 400."""
        made = plan(attrs.evolve(ONLY, strategy=strategy), tagged(provider, model), VIEWS)
        if made.refusal is not None:
            self.assertEqual(made.refusal.status, 400)
            self.assertLess(len(made.refusal.message), 600)
        else:
            self.assertTrue(made.attempts)
        self.assertTrue(made.decision.isprintable())


class SiteTests(SynchronousTestCase):
    """A tag on the way through the front door."""

    def setUp(self) -> None:
        self.house = House()
        settings = self.house.runtime.settings
        mode = ModeSettings("tagged", "only", ("anthropic",), tags=True)
        modes = {**settings.modes, "tagged": mode, "blind": attrs.evolve(mode, name="blind", tags=False)}
        self.house.runtime.settings = attrs.evolve(settings, modes=modes)
        self.house.ports[8773].mode = "tagged"

    def sent(self, id: str) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.house.runtime.upstreams[id].requests]  # type: ignore[attr-defined]

    def test_named(self) -> None:
        """A tag sends its request to an upstream that the mode itself never asks, for its model and without the tag."""
        system = "You are\n<CCR-SUBAGENT-MODEL>MiniMax, MiniMax-M3</CCR-SUBAGENT-MODEL>\nfast."
        request = self.house.say(system=system)
        self.assertEqual(request.status, 200)
        (body,) = self.sent("minimax")
        self.assertEqual((body["model"], body["system"]), ("MiniMax-M3", "You are\n\nfast."))
        self.assertEqual(self.sent("anthropic"), [])

    def test_no_tag(self) -> None:
        """Without one, or with one in what a person says, the mode's upstream gets the client's bytes."""
        text = "what does <CCR-SUBAGENT-MODEL>minimax,MiniMax-M3</CCR-SUBAGENT-MODEL> do?"
        self.house.say(text, system="plain")
        (body,) = self.sent("anthropic")
        self.assertEqual((body["messages"][0]["content"], body["system"]), (text, "plain"))
        self.assertEqual(self.sent("minimax"), [])

    def test_not_wanted(self) -> None:
        """In a mode without tags a tag is text like any other."""
        self.house.ports[8773].mode = "blind"
        self.house.say(system="<CCR-SUBAGENT-MODEL>minimax,MiniMax-M3</CCR-SUBAGENT-MODEL>")
        self.assertEqual(len(self.sent("anthropic")), 1)

    def test_unknown(self) -> None:
        """A tag that names nobody is the client's error, in its dialect."""
        request = self.house.say(system="<CCR-SUBAGENT-MODEL>nobody,x</CCR-SUBAGENT-MODEL>")
        status, kind, message = error(request)
        self.assertEqual((status, kind), (400, "invalid_request_error"))
        self.assertIn("'nobody'", message)
        self.assertIn("minimax", message)
