"""Tests for :mod:`mportrouter.usage`."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..records import Usage
from ..usage import estimate, merge


def read(value: Any, usage: Usage | None = None) -> Usage | None:
    return merge(usage, json.dumps(value).encode())


class MergeTests(SynchronousTestCase):
    """Usage objects read."""

    def test_all(self) -> None:
        """Every number finds its place, and the prompt is the sum of its disjoint parts."""
        usage = read(
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 7,
                "cache_read_input_tokens": 100,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
                "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 20},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
                "service_tier": "standard",
            }
        )
        self.assertEqual(usage, Usage(10, 100, 4, 3, 50, 20, 2))
        assert usage is not None
        self.assertEqual(usage.prompt, 117)

    def test_without_split(self) -> None:
        """Cache writes without a split are of the five-minute kind."""
        self.assertEqual(read({"cache_creation_input_tokens": 9}), Usage(cache_write_5m=9))
        self.assertEqual(read({"cache_creation_input_tokens": 9, "cache_creation": None}), Usage(cache_write_5m=9))
        self.assertEqual(
            read({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 2}}),
            Usage(cache_write_5m=7, cache_write_1h=2),
        )
        self.assertEqual(read({"cache_creation": {"ephemeral_5m_input_tokens": 5}}), Usage(cache_write_5m=5))

    def test_overwrite(self) -> None:
        """Later numbers are totals: they overwrite, never add; absent ones keep what was."""
        usage = read({"input_tokens": 43, "cache_read_input_tokens": 8, "output_tokens": 1})
        self.assertIs(read({"output_tokens": 30}, usage), usage)
        read({"input_tokens": 61, "output_tokens": 40}, usage)
        self.assertEqual(usage, Usage(input=61, cache_read=8, output=40))

    def test_split_kept(self) -> None:
        """A repeated total without its split keeps the split; a smaller total shrinks it."""
        split = {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3}
        usage = read({"cache_creation_input_tokens": 7, "cache_creation": split})
        read({"cache_creation_input_tokens": 7, "output_tokens": 2}, usage)
        self.assertEqual(usage, Usage(cache_write_5m=4, cache_write_1h=3, output=2))
        read({"cache_creation_input_tokens": 2}, usage)
        self.assertEqual(usage, Usage(cache_write_1h=2, output=2))

    def test_nothing(self) -> None:
        """No usage object, null or garbage changes nothing."""
        for raw in (b"", b"null", b"[]", b'"x"', b"{", b"1", b"\xff"):
            self.assertIsNone(merge(None, raw))
            usage = Usage(input=1)
            self.assertIs(merge(usage, raw), usage)
            self.assertEqual(usage, Usage(input=1))

    def test_odd_types(self) -> None:
        """A number of an odd type counts as absent and does not hide the others; a whole float is a number."""
        self.assertEqual(
            read({"input_tokens": "12", "output_tokens": 3.0, "cache_read_input_tokens": 1.5, "cache_creation": 4}),
            Usage(output=3),
        )
        self.assertEqual(read({"input_tokens": True, "output_tokens": 2}), Usage(output=2))
        self.assertEqual(read({"input_tokens": -5, "output_tokens": None}), Usage())
        self.assertEqual(
            read({"output_tokens": 2.0, "cache_creation": {"ephemeral_1h_input_tokens": 5}}),
            Usage(output=2, cache_write_1h=5),
        )


class EstimateTests(SynchronousTestCase):
    """Answers that were cut before the provider told."""

    def test_estimate(self) -> None:
        """The output is a quarter of the text's bytes, but never less than the provider said, and it is marked."""
        self.assertEqual(estimate(Usage(input=5, output=1), 401), Usage(input=5, output=101, estimated=True))
        self.assertEqual(estimate(Usage(output=500), 400), Usage(output=500, estimated=True))
        self.assertEqual(estimate(None, 0), Usage(estimated=True))
