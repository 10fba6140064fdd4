"""Tests for :mod:`mportrouter.money`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..money import dollars


class DollarsTests(SynchronousTestCase):
    """Amounts as people read them."""

    def test_usual(self) -> None:
        """Two places, thousands apart, the sign in front."""
        self.assertEqual(
            [dollars(amount) for amount in (0, 18.72, 1204, 0.1, -0.5)],
            ["$0.00", "$18.72", "$1,204.00", "$0.10", "-$0.50"],
        )

    def test_small(self) -> None:
        """Small amounts have as many places as it takes to show something; what is next to nothing is nothing."""
        self.assertEqual(
            [dollars(amount) for amount in (0.0042, 0.005, 0.000031, 0.0000001)],
            ["$0.0042", "$0.0050", "$0.000031", "$0.00"],
        )
