"""Tests for :mod:`mportrouter.tables`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..tables import cell, display_width, table


class TableTests(SynchronousTestCase):
    """Rows on a terminal."""

    def test_columns(self) -> None:
        """Columns are aligned, numbers to the right, with the wanted order first."""
        rows = [{"mode": "mixed", "port": 8787, "in_flight": 3}, {"mode": "a", "port": 80, "in_flight": 120}]
        self.assertEqual(
            table(rows, ["port", "absent"]),
            "PORT  MODE   IN FLIGHT\n8787  mixed          3\n  80  a            120",
        )

    def test_missing(self) -> None:
        """A row may lack members."""
        self.assertEqual(table([{"a": "x"}, {"b": True}]), "A  B\nx  -\n-  yes")

    def test_none(self) -> None:
        """No rows say so."""
        self.assertEqual(table([]), "(none)")

    def test_width(self) -> None:
        """Lines are cut to the terminal's width, and end in an ellipsis then."""
        lines = table([{"a": "x" * 30}], width=10).split("\n")
        self.assertEqual(lines[1], "x" * 9 + "…")
        self.assertEqual(table([{"a": "xxx"}], width=3), "A\nxxx")

    def test_wide_characters(self) -> None:
        """Characters that take two columns keep the next column straight."""
        self.assertEqual(display_width("日本"), 4)
        self.assertEqual(display_width("e\u0301"), 1)
        lines = table([{"a": "日本", "b": "x"}, {"a": "abcd", "b": "y"}]).split("\n")
        self.assertEqual(lines[1], "日本  x")
        self.assertEqual(lines[2], "abcd  y")

    def test_cells(self) -> None:
        """Values read as a person would write them, and cannot move the cursor."""
        self.assertEqual(
            [cell(v) for v in (None, "", [], {}, False, 0, 1.5, 2.0, ["a", 1], {"k": "v"})],
            ["-", "-", "-", "-", "no", "0", "1.5", "2", "a, 1", "k=v"],
        )
        self.assertEqual(cell("a\x1b[2Jb\n"), "a�[2Jb�")
