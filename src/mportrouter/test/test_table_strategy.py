"""Tests for :mod:`mportrouter.routing.tables`: the model's name decides."""

from __future__ import annotations

from decimal import Decimal

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..errors import Kind
from ..routing.plans import Facts, UpstreamView
from ..routing.policy import plan
from ..routing.tables import label, row_for
from ..settings import Capabilities, ModeSettings, TableRow, Timeouts

SLOW = Timeouts(answer=900.0)
ROWS = (
    TableRow("claude-opus-*", "deepseek", "deepseek-chat", "/anthropic/v1/messages", SLOW, "opus"),
    TableRow("sonnet", "kimi", "k2", name="sonnet"),
    TableRow("haiku-?", "minimax"),
)
DEFAULT = TableRow("", "minimax", "=")
VIEWS = [
    UpstreamView("deepseek", "deepseek", model="mapped-1"),
    UpstreamView("kimi", "kimi", model="mapped-2"),
    UpstreamView("minimax", "minimax", model="mapped-3"),
]
MODE = ModeSettings("by-name", "table", ("deepseek", "kimi", "minimax"), table=ROWS)
FACTS = Facts("by-name", "claude-opus-4-6")


def asked(model: str) -> Facts:
    return attrs.evolve(FACTS, model=model)


class RowTests(SynchronousTestCase):
    """Which row a name matches."""

    def test_forms(self) -> None:
        """A pattern with signs matches the whole name, one without any name that holds it; the case does not count."""
        for model, name in (
            ("claude-opus-4-6", "opus"),
            ("CLAUDE-OPUS-4", "opus"),
            ("claude-sonnet-4-6", "sonnet"),
            ("sonnet", "sonnet"),
            ("haiku-4", "haiku-?"),
        ):
            row = row_for(ROWS, model)
            assert row is not None, model
            self.assertEqual(label(row), name)
        for model in ("my-claude-opus-4", "haiku-45", "gpt-5", ""):
            self.assertIsNone(row_for(ROWS, model))
            self.assertIs(row_for((*ROWS, DEFAULT), model), DEFAULT)

    def test_first_wins(self) -> None:
        """Of several rows that match the first counts; a default hides what is behind it."""
        rows = (TableRow("claude-*", "a"), TableRow("claude-opus-*", "b"), DEFAULT, TableRow("gpt", "c"))
        self.assertEqual([row_for(rows, name) for name in ("claude-opus-1", "gpt-5")], [rows[0], DEFAULT])

    def test_brackets(self) -> None:
        """Brackets and dots mean themselves."""
        rows = (TableRow("[1m]", "a"), TableRow("gpt-4.1", "b"))
        self.assertEqual(row_for(rows, "claude-sonnet[1m]"), rows[0])
        self.assertIsNone(row_for(rows, "gpt-4x1 m"))


class TableTests(SynchronousTestCase):
    """The plan that comes of a row."""

    def test_row(self) -> None:
        """The row's upstream alone is asked, for its model, at its place, within its limits; all others are named."""
        made = plan(MODE, FACTS, VIEWS)
        (attempt,) = made.attempts
        self.assertEqual((attempt.upstream, attempt.model), ("deepseek", "deepseek-chat"))
        self.assertEqual((attempt.path, attempt.timeouts), ("/anthropic/v1/messages", SLOW))
        self.assertEqual(attempt.reason, "row opus (claude-opus-*)")
        self.assertEqual(made.decision, "row opus: deepseek only")
        self.assertEqual([note.split()[0] for note in made.notes], ["kimi", "minimax"])

    def test_models(self) -> None:
        """Without a model of the row the upstream's own patterns decide; ``=`` is the name as it came."""
        self.assertEqual(plan(MODE, asked("haiku-4"), VIEWS).attempts[0].model, "mapped-3")
        mode = attrs.evolve(MODE, table=(*ROWS, DEFAULT))
        self.assertEqual(plan(mode, asked("gpt-5"), VIEWS).attempts[0].model, "gpt-5")

    def test_unknown(self) -> None:
        """A name that no row matches is 400, and the message lists the patterns."""
        made = plan(MODE, asked("gpt-5"), VIEWS)
        assert made.refusal is not None
        self.assertEqual((made.attempts, made.refusal.kind, made.refusal.status), ((), Kind.BAD_REQUEST, 400))
        for word in ("'gpt-5'", "by-name", "claude-opus-*", "sonnet", "haiku-?"):
            self.assertIn(word, made.refusal.message)

    def test_own_error(self) -> None:
        """It is asked whatever its state, so that its own error is the answer; the reason tells the state."""
        views = [attrs.evolve(VIEWS[0], rank=3, reason="circuit open", retry_in=9.0), *VIEWS[1:]]
        made = plan(MODE, FACTS, views)
        self.assertEqual([attempt.upstream for attempt in made.attempts], ["deepseek"])
        self.assertIn("deepseek circuit open", made.attempts[0].reason)

    def test_ignored(self) -> None:
        """What it will not do is in the decision."""
        views = [attrs.evolve(VIEWS[0], capabilities=Capabilities(images="ignored")), *VIEWS[1:]]
        made = plan(MODE, attrs.evolve(FACTS, needs=frozenset({"images"})), views)
        self.assertIn("images ignored by deepseek", made.decision)

    def test_disabled_and_dear(self) -> None:
        """Where the row's upstream is disabled, or stopped by the cost ceiling, no other takes its place."""
        made = plan(MODE, FACTS, [attrs.evolve(VIEWS[0], enabled=False), *VIEWS[1:]])
        assert made.refusal is not None
        self.assertEqual(made.refusal.kind, Kind.UNAVAILABLE)
        self.assertIn("deepseek", made.refusal.message)
        made = plan(MODE, FACTS, [attrs.evolve(VIEWS[0], provider="anthropic"), *VIEWS[1:]], True, Decimal(1))
        assert made.refusal is not None
        self.assertEqual(made.refusal.kind, Kind.BUDGET)
        # What happens to others is of no concern.
        self.assertTrue(plan(MODE, FACTS, [VIEWS[0], *(attrs.evolve(v, enabled=False) for v in VIEWS[1:])]).attempts)

    @given(st.text(max_size=30))
    def test_any_name(self, model: str) -> None:
        """Every name has one attempt or a refusal, and with a default always an attempt."""
        made = plan(MODE, asked(model), VIEWS)
        self.assertEqual(len(made.attempts), 0 if made.refusal else 1)
        self.assertEqual(len(plan(attrs.evolve(MODE, table=(*ROWS, DEFAULT)), asked(model), VIEWS).attempts), 1)
