"""The catalogue's rows."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .. import catalog
from ..config_words import base_url, pin
from ..errors import Kind
from ..pricing import PriceBook
from ..routing.table import ModelMap
from ..settings import Capabilities


class RowsTests(SynchronousTestCase):
    """What is shipped."""

    def test_names(self) -> None:
        """There is a row for each provider of the default preset, and one that takes everything from the file."""
        self.assertEqual(set(catalog.load()), {"anthropic", "minimax", "custom"})

    def test_loaded_once(self) -> None:
        """The rows are read once."""
        self.assertIs(catalog.load(), catalog.load())

    def test_unknown(self) -> None:
        """A provider that is not there is a KeyError."""
        self.assertRaises(KeyError, catalog.provider, "nobody")

    def test_anthropic_honours_its_own_dialect(self) -> None:
        """Nothing of a request to Anthropic is edited: every column is at its default."""
        self.assertEqual(catalog.provider("anthropic").capabilities, Capabilities())

    def test_minimax_differences(self) -> None:
        """What MiniMax ignores or refuses is in its columns."""
        row = catalog.provider("minimax")
        capabilities = row.capabilities
        self.assertEqual(row.base_urls["anthropic"], "https://api.minimax.io/anthropic")
        self.assertEqual(row.auth_style, "bearer")
        self.assertEqual(capabilities.stop_sequences, "ignored")
        self.assertEqual(capabilities.tool_choice_force, "ignored")
        self.assertEqual(capabilities.parallel_off, "ignored")
        self.assertEqual(capabilities.documents, "refused")
        self.assertFalse(capabilities.mid_system)
        self.assertFalse(capabilities.billing_header)
        self.assertEqual(capabilities.thinking_signature, "minimax")
        self.assertIn("context_management", capabilities.strip_fields)
        self.assertIn("block_binding", capabilities.strip_thinking_fields)
        self.assertNotIn("cache_control", capabilities.strip_tool_fields)

    def test_urls_and_pins_are_well_formed(self) -> None:
        """Base URLs have no trailing slash and no /v1; pins are base64, two at least where they act."""
        for row in catalog.load().values():
            for url in row.base_urls.values():
                self.assertEqual(base_url(url), url)
            for digest in row.pins.sha256:
                self.assertEqual(pin(digest), digest)
            if row.pins.mode != "off":
                self.assertGreaterEqual(len(set(row.pins.sha256)), 2)
                self.assertEqual(row.pins.mode, "report-only")

    def test_error_codes_are_kinds(self) -> None:
        """Numbers of errors lead to failures that exist."""
        codes = catalog.provider("minimax").error_codes
        self.assertEqual(Kind(codes[1008]), Kind.MONEY)
        self.assertEqual(Kind(codes[1002]), Kind.RATE)
        self.assertEqual(Kind(codes[2013]), Kind.BAD_REQUEST)
        self.assertEqual(Kind(codes[1004]), Kind.AUTH)

    def test_frozen(self) -> None:
        """A row cannot be changed, nor its mappings."""
        row = catalog.provider("minimax")
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, row, "name", "x")
        self.assertFalse(hasattr(row.base_urls, "update"))


class ReadTests(SynchronousTestCase):
    """A row that is wrong is not taken in silence."""

    def test_unknown_column(self) -> None:
        """A column that does not exist is named."""
        error = self.assertRaises(ValueError, catalog.read, "x: {colour: blue}")
        self.assertIn("colour", str(error))

    def test_unknown_capability(self) -> None:
        """So is a capability."""
        error = self.assertRaises(ValueError, catalog.read, "x: {capabilities: {flying: honoured}}")
        self.assertIn("flying", str(error))

    def test_unknown_kind(self) -> None:
        """So is a failure."""
        self.assertRaises(ValueError, catalog.read, "x: {error_codes: {1: tired}}")


class ModelNameTests(SynchronousTestCase):
    """Which model an upstream is asked for."""

    def _name(self, provider: str, requested: str) -> str:
        return ModelMap(catalog.provider(provider).models).target(requested)

    def test_minimax(self) -> None:
        """MiniMax is asked for MiniMax models only."""
        for requested in ("claude-opus-5-5", "claude-haiku-4-5-20251001", "gpt-6-sol", "sonnet", "minimax-m3"):
            self.assertEqual(self._name("minimax", requested), "MiniMax-M3")
        for requested in ("MiniMax-M2.7", "MiniMax-M4"):
            self.assertEqual(self._name("minimax", requested), requested)

    def test_anthropic(self) -> None:
        """Claude's names pass as they came, names of others become a Claude model that has a price."""
        self.assertEqual(self._name("anthropic", "claude-opus-5-5"), "claude-opus-5-5")
        self.assertEqual(self._name("anthropic", "claude-not-yet-known"), "claude-not-yet-known")
        for requested in ("MiniMax-M3", "minimax-m2.5", "gpt-6-sol", "kimi-k3"):
            name = self._name("anthropic", requested)
            self.assertTrue(name.startswith("claude-"), name)
            self.assertIsNotNone(PriceBook.load().context("anthropic", name))

    def test_no_match(self) -> None:
        """A typing error goes to the provider as it came, which judges it."""
        self.assertEqual(self._name("anthropic", "cluade-opus"), "cluade-opus")
