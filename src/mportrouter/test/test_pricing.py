"""What answers cost."""

from __future__ import annotations

import timeit
from datetime import datetime, timezone
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import pricing
from ..pricing import PriceBook, claude_equivalent, dollars
from ..records import Usage

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc).timestamp()

# $ a million tokens: input, output, cache read, write for five minutes, write for an hour (vendors' price pages).
TABLE = {
    # Rows that are vendored under another provider's name, or whose names have a vendor in front.
    ("gemini", "gemini-3.5-flash-lite"): ("0.3", "2.5", "0.03", "0.3", "0.3"),
    ("moonshot", "kimi-k2.6"): ("0.95", "4", "0.16", "0.95", "0.95"),
    ("groq", "openai/gpt-oss-20b"): ("0.075", "0.3", "0.0375", "0.075", "0.075"),
    ("cerebras", "gpt-oss-120b"): ("0.35", "0.75", "0.35", "0.35", "0.35"),
    ("openrouter", "anthropic/claude-sonnet-4-6"): ("3", "15", "0.3", "3.75", "6"),
    ("openrouter", "google/gemini-3.5-flash-lite"): ("0.3", "2.5", "0.03", "0.3", "0.3"),
    ("anthropic", "claude-fable-5-2"): ("8", "40", "0.2", "10", "16"),
    ("anthropic", "claude-fable-5-1"): ("10", "50", "0.25", "12.5", "20"),
    ("anthropic", "claude-fable-5"): ("10", "50", "1", "12.5", "20"),
    ("anthropic", "claude-opus-5-5"): ("4", "20", "0.2", "5", "8"),
    ("anthropic", "claude-opus-5"): ("5", "25", "0.5", "6.25", "10"),
    ("anthropic", "claude-opus-4-8"): ("5", "25", "0.5", "6.25", "10"),
    ("anthropic", "claude-opus-4-7"): ("5", "25", "0.5", "6.25", "10"),
    ("anthropic", "claude-opus-4-6"): ("5", "25", "0.5", "6.25", "10"),
    ("anthropic", "claude-opus-4-5-20251101"): ("5", "25", "0.5", "6.25", "10"),
    ("anthropic", "claude-sonnet-5-5"): ("2", "10", "0.1", "2.5", "4"),
    ("anthropic", "claude-sonnet-5"): ("2", "10", "0.2", "2.5", "4"),
    ("anthropic", "claude-sonnet-4-6"): ("3", "15", "0.3", "3.75", "6"),
    ("anthropic", "claude-sonnet-4-5-20250929"): ("3", "15", "0.3", "3.75", "6"),
    ("anthropic", "claude-haiku-5-5"): ("0.1", "0.5", "0.01", "0.125", "0.2"),
    ("anthropic", "claude-haiku-4-5-20251001"): ("1", "5", "0.1", "1.25", "2"),
    ("anthropic", "claude-opus-4-1-20250805"): ("15", "75", "1.5", "18.75", "30"),
    # No prices of their own: writes at the input price (M3), an hour's at that of five minutes (M2).
    ("minimax", "MiniMax-M3"): ("0.3", "1.2", "0.06", "0.3", "0.3"),
    ("minimax", "MiniMax-M3.1-Flash"): ("0.15", "0.6", "0.015", "0.15", "0.15"),
    ("minimax", "MiniMax-M3.1-Flash-Preview"): ("0.15", "0.6", "0.015", "0.15", "0.15"),
    ("minimax", "MiniMax-M2.7"): ("0.3", "1.2", "0.06", "0.375", "0.375"),
    ("minimax", "MiniMax-M2.7-highspeed"): ("0.6", "2.4", "0.06", "0.375", "0.375"),
    ("minimax", "MiniMax-M2.5"): ("0.3", "1.2", "0.03", "0.375", "0.375"),
    ("minimax", "MiniMax-M2.1-highspeed"): ("0.6", "2.4", "0.03", "0.375", "0.375"),
    ("minimax", "MiniMax-M2"): ("0.3", "1.2", "0.03", "0.375", "0.375"),
}
KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


class VendoredTests(SynchronousTestCase):
    """The shipped rows."""

    def setUp(self) -> None:
        self.book = PriceBook.load()

    def test_table(self) -> None:
        """A million tokens of each kind cost what the vendor's page says."""
        for (provider, model), prices in TABLE.items():
            for kind, price in zip(KINDS, prices, strict=True):
                one = self.book.cost(provider, model, Usage(**{kind: 1}), NOW)
                self.assertEqual(one, int(Decimal(price) * 10**6), f"{model} {kind}")

    def test_together(self) -> None:
        """An answer's kinds of tokens add up, reasoning is a part of the output, searches are billed."""
        usage = Usage(
            input=1000,
            output=500,
            reasoning=400,
            cache_read=20000,
            cache_write_5m=100,
            cache_write_1h=10,
            web_searches=3,
        )
        cost = self.book.cost("anthropic", "claude-sonnet-5-5", usage, NOW)
        assert cost is not None
        # $0.002 + $0.005 + $0.002 + $0.00025 + $0.00004 + $0.03
        self.assertEqual(dollars(cost), Decimal("0.03929"))

    def test_cliff(self) -> None:
        """One prompt token over the bound, and all tokens have the higher price; the bound itself has the lower."""
        cost = self.book.cost
        self.assertEqual(cost("minimax", "MiniMax-M3", Usage(input=512_000), NOW), 512_000 * 300_000)
        self.assertEqual(cost("minimax", "MiniMax-M3", Usage(input=512_001), NOW), 512_001 * 600_000)
        over = Usage(input=1, cache_read=512_000, output=10)
        self.assertEqual(cost("minimax", "MiniMax-M3", over, NOW), 600_000 + 512_000 * 120_000 + 10 * 2_400_000)

    def test_cliff_counts_every_prompt_token(self) -> None:
        """Cache reads and writes count for the bound, the output does not."""
        cost = self.book.cost
        prompt = Usage(cache_read=40_000, cache_write_5m=40_000, cache_write_1h=20_001)
        self.assertEqual(
            cost("anthropic", "claude-haiku-5-5", prompt, NOW), 40_000 * 50_000 + 40_000 * 625_000 + 20_001 * 1_000_000
        )
        self.assertEqual(cost("anthropic", "claude-haiku-5-5", Usage(output=200_000), NOW), 200_000 * 500_000)

    def test_dated(self) -> None:
        """A row's prices change with the day: long prompts of Sonnet 4.6 cost double before 2026-03-13."""
        change = datetime(2026, 3, 13, tzinfo=timezone.utc).timestamp()
        usage = Usage(input=300_000)
        self.assertEqual(self.book.cost("anthropic", "claude-sonnet-4-6", usage, change - 1), 300_000 * 6_000_000)
        self.assertEqual(self.book.cost("anthropic", "claude-sonnet-4-6", usage, change), 300_000 * 3_000_000)

    def test_window(self) -> None:
        """Prices by the hour: DeepSeek costs double between 01:00 and 04:00 UTC."""
        day = datetime(2026, 11, 18, tzinfo=timezone.utc).timestamp()
        costs = {
            hour: self.book.cost("deepseek", "deepseek-v4-pro", Usage(input=1), day + hour * 3600)
            for hour in (0.99, 1, 3.99, 4, 6, 10)
        }
        self.assertEqual(costs, {0.99: 660_000, 1: 1_320_000, 3.99: 1_320_000, 4: 660_000, 6: 1_320_000, 10: 660_000})

    def test_unknown(self) -> None:
        """A model or provider without a price costs None, not nothing."""
        for provider, model in (
            ("anthropic", "claude-nonsense"),
            ("nobody", "claude-opus-5"),
            ("minimax", "claude-opus-5"),
            ("anthropic", ""),
            ("custom", "MiniMax-M3"),
        ):
            self.assertIsNone(self.book.cost(provider, model, Usage(input=1), NOW))

    def test_spelling(self) -> None:
        """Case, a vendor before the name and a client's mark after it do not matter."""
        for name in ("minimax-m3", "MINIMAX-M3", "minimax/MiniMax-M3", "MiniMax-M3[1m]"):
            self.assertEqual(self.book.cost("minimax", name, Usage(input=1), NOW), 300_000)

    def test_zero(self) -> None:
        """No tokens, no cost."""
        self.assertEqual(self.book.cost("anthropic", "claude-opus-5", Usage(), NOW), 0)

    def test_every_row_is_found_by_its_id(self) -> None:
        """Each id of the two providers leads to a price and a context that is positive where it is known."""
        for provider in ("anthropic", "minimax"):
            for model in self.book.models(provider):
                self.assertIsNotNone(self.book.cost(provider, model, Usage(input=1), NOW), model)
                self.assertGreater(self.book.context(provider, model) or 1, 0)

    def test_ids_are_wire_names(self) -> None:
        """The ids are names that the providers take."""
        self.assertIn("MiniMax-M3", self.book.models("minimax"))
        self.assertIn("claude-sonnet-5-5", self.book.models("anthropic"))
        self.assertEqual(self.book.models("nobody"), [])

    def test_context(self) -> None:
        """Contexts come from the rows."""
        self.assertEqual(self.book.context("minimax", "MiniMax-M3"), 1_000_000)
        self.assertEqual(self.book.context("anthropic", "claude-haiku-4-5"), 200_000)
        self.assertIsNone(self.book.context("anthropic", "claude-nonsense"))

    def test_memory_is_bounded(self) -> None:
        """Names that clients invent do not pile up."""
        for number in range(3000):
            self.book.cost("anthropic", f"invented-{number}", Usage(), NOW)
        self.assertLessEqual(len(self.book._plans), pricing._REMEMBERED)

    def test_fast(self) -> None:
        """A plain row costs no more than a few microseconds (measured: a quarter of one)."""
        usage = Usage(input=1000, output=500, cache_read=20000)
        seconds = min(
            timeit.repeat(lambda: self.book.cost("anthropic", "claude-sonnet-5-5", usage, NOW), number=2000, repeat=5)
        )
        self.assertLess(seconds / 2000, 10e-6)

    @settings(deadline=None)
    @given(st.builds(Usage, *[st.integers(0, 10**7)] * 5), st.sampled_from(sorted(TABLE)))
    def test_more_tokens_never_cost_less(self, usage: Usage, key: tuple[str, str]) -> None:
        """A token more of any kind never makes the answer cheaper."""
        before = self.book.cost(*key, usage, NOW)
        assert before is not None
        for kind in KINDS:
            more = Usage(**{name: getattr(usage, name) + (name == kind) for name in KINDS})
            after = self.book.cost(*key, more, NOW)
            assert after is not None
            self.assertGreaterEqual(after, before)


class OverrideTests(SynchronousTestCase):
    """Prices of the configuration."""

    def test_over_a_row(self) -> None:
        """What a row sets replaces the shipped price, the rest stays."""
        book = PriceBook.load({"claude-sonnet-*": {"input": Decimal("1.5")}})
        self.assertEqual(book.cost("anthropic", "claude-sonnet-5-5", Usage(input=1), NOW), 1_500_000)
        self.assertEqual(book.cost("anthropic", "claude-sonnet-5-5", Usage(output=1), NOW), 10_000_000)
        self.assertEqual(book.cost("anthropic", "claude-opus-5-5", Usage(input=1), NOW), 4_000_000)

    def test_over_tiers(self) -> None:
        """An overridden price has no tiers any more, its neighbours keep theirs."""
        book = PriceBook.load({"MiniMax-M3": {"input": Decimal("0.1")}})
        long = Usage(input=600_000, output=1)
        self.assertEqual(book.cost("minimax", "minimax-m3", long, NOW), 600_000 * 100_000 + 2_400_000)

    def test_new_model(self) -> None:
        """A model that no row knows has the price of the configuration, with the rules for gaps."""
        book = PriceBook.load({"my-*": {"input": Decimal(2), "output": Decimal(4), "web_search": Decimal(5)}})
        usage = Usage(input=1, cache_read=1, cache_write_1h=1)
        self.assertEqual(book.cost("custom", "my-model", usage, NOW), 6_000_000)
        self.assertEqual(book.cost("custom", "my-model", Usage(web_searches=1), NOW), 5 * 10**9)
        self.assertIsNone(book.context("custom", "my-model"))

    def test_new_model_without_output(self) -> None:
        """Half a price is none."""
        book = PriceBook.load({"my-*": {"input": Decimal(2)}})
        self.assertIsNone(book.cost("custom", "my-model", Usage(input=1), NOW))

    def test_first_pattern_wins(self) -> None:
        """Patterns are tried in their order."""
        free = {"input": Decimal(0), "output": Decimal(0)}
        dear = {"input": Decimal(9), "output": Decimal(9)}
        book = PriceBook.load({"a-b": free, "a-*": dear})
        self.assertEqual(book.cost("custom", "a-b", Usage(input=1), NOW), 0)
        self.assertEqual(book.cost("custom", "a-c", Usage(input=1), NOW), 9_000_000)


class EquivalentTests(SynchronousTestCase):
    """What "all Claude" means."""

    def test_claude_stays(self) -> None:
        """A Claude model with a price stands for itself."""
        for model in ("claude-opus-5-5", "claude-haiku-4-5-20251001"):
            self.assertEqual(claude_equivalent(model), model)

    def test_others(self) -> None:
        """Every other name becomes the reference model, which has a price."""
        for model in ("MiniMax-M3", "claude-nonsense", "", "gpt-6-sol"):
            self.assertEqual(claude_equivalent(model), "claude-sonnet-5-5")
        self.assertIsNotNone(PriceBook.load().cost("anthropic", claude_equivalent(""), Usage(), NOW))
