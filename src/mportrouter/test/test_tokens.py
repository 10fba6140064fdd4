"""Token estimates."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..tokens import bytes_per_token, estimate_tokens


class EstimateTests(SynchronousTestCase):
    """Tokens of a size."""

    def test_families(self) -> None:
        """Claude's tokenizer since 5 makes the most tokens, the one before fewer, others' the fewest."""
        new = {bytes_per_token(name) for name in ("claude-sonnet-5-5", "claude-5-5-opus", "Claude-Fable-5")}
        old = {bytes_per_token(name) for name in ("claude-sonnet-4-6", "claude-haiku-4-5-20251001", "claude-3-5-haiku")}
        other = {bytes_per_token(name) for name in ("MiniMax-M3", "gpt-6-sol", "")}
        self.assertEqual([len(new), len(old), len(other)], [1, 1, 1])
        self.assertLess(min(new), min(old))
        self.assertLess(min(old), min(other))

    def test_edges(self) -> None:
        """Nothing is no token, a byte is one, and more bytes are never fewer tokens."""
        self.assertEqual(estimate_tokens(0), 0)
        self.assertEqual(estimate_tokens(-5), 0)
        self.assertEqual(estimate_tokens(1), 1)
        sizes = [estimate_tokens(size, "claude-opus-5") for size in range(0, 5000, 7)]
        self.assertEqual(sizes, sorted(sizes))

    def test_magnitude(self) -> None:
        """A body of 4 KB is some 1,100 tokens anywhere, and 1,600 for the newest Claude."""
        self.assertLess(abs(estimate_tokens(4096) - 1100), 60)
        self.assertLess(abs(estimate_tokens(4096, "claude-opus-5-5") - 1640), 60)
