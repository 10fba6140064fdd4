"""Tests for :mod:`mportrouter.routing.table`."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..routing.table import ModelMap, glob


class ModelMapTests(SynchronousTestCase):
    """Model names to model names."""

    def test_first_match_wins(self):
        """Patterns are tried in order."""
        table = ModelMap([("claude-opus-*", "big"), ("claude-*", "small"), ("*", "any")])
        self.assertEqual(table.target("claude-opus-4-1"), "big")
        self.assertEqual(table.target("claude-haiku-4-5"), "small")
        self.assertEqual(table.target("gpt-5"), "any")

    def test_no_match(self):
        """A name that nothing matches stays as it is."""
        self.assertEqual(ModelMap([("a*", "b")]).target("c"), "c")
        self.assertEqual(ModelMap([]).target("c"), "c")

    def test_as_it_came(self):
        """A target can stand for the name itself, and hides later patterns."""
        for sign in ("=", "*"):
            table = ModelMap([("claude-*", sign), ("*", "other")])
            self.assertEqual(table.target("claude-x"), "claude-x")
            self.assertEqual(table.target("x"), "other")

    def test_case_counts(self):
        """Names differ by case."""
        self.assertEqual(ModelMap([("Claude-*", "x")]).target("claude-1"), "claude-1")

    def test_signs(self):
        """``?`` is one character; brackets and dots mean themselves; a pattern matches the whole name."""
        self.assertTrue(glob("a?c").match("abc"))
        self.assertFalse(glob("a?c").match("ac"))
        self.assertFalse(glob("a").match("ab"))
        self.assertFalse(glob("b").match("ab"))
        self.assertTrue(glob("m[1m]").match("m[1m]"))
        self.assertFalse(glob("m[1m]").match("m1"))
        self.assertFalse(glob("a.c").match("abc"))
        self.assertTrue(glob("*").match("a\nb/c"))

    @given(st.text())
    def test_itself(self, name):
        """A name without signs matches itself, and the star matches any."""
        self.assertTrue(glob("*").match(name))
        if "*" not in name and "?" not in name:
            self.assertTrue(glob(name).match(name))

    def test_bounded(self):
        """Invented names do not pile up, long ones are not kept at all."""
        table = ModelMap([("x*", "y")])
        for number in range(5000):
            self.assertEqual(table.target(f"x{number}"), "y")
        self.assertLessEqual(len(table._known), 1024)
        table.target("x" * 100_000)
        self.assertLess(max(map(len, table._known)), 1000)

    def test_no_blow_up(self):
        """A pattern full of stars against a long name is quick."""
        began = time.process_time()
        self.assertFalse(glob("*a*a*a*a*a*a*a*b").match("a" * 3000))
        self.assertLess(time.process_time() - began, 1.0)
