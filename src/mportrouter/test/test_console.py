"""Tests for :mod:`mportrouter.console`."""

from __future__ import annotations

from .test_explain import ExplainTestCase


class StatusTests(ExplainTestCase):
    """The words about the order."""

    def order(self, port: int) -> tuple[str, str | None]:  # type: ignore[override]
        told = self.made.console.status(port)
        return told["primary"], told["fallback"]

    def test_order(self) -> None:
        """Each strategy tells whom it asks first in its own way."""
        self.assertEqual(self.order(9099), ("by model: minimax for opus, anthropic for haiku", None))
        self.assertEqual(self.order(3000), ("one", "two"))
        self.assertEqual(self.order(8774), ("by complexity: minimax or anthropic", None))
