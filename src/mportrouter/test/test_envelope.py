"""Tests for :mod:`mportrouter.envelope`."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope

_any_text = st.text(st.characters(exclude_categories=()))


class EnvelopeTests(SynchronousTestCase):
    """Foreign signatures in and out of their envelope."""

    @given(st.text("abcxyz019-_.", min_size=1), _any_text, _any_text.filter(bool))
    def test_round_trip(self, provider: str, model: str, signature: str) -> None:
        """Every signature comes out as it went in, with its origin; the envelope is plain ASCII and always the same."""
        wrapped = envelope.wrap(provider, model, signature)
        self.assertEqual(wrapped, envelope.wrap(provider, model, signature))
        self.assertTrue(wrapped.isascii())
        self.assertNotIn("=", wrapped)
        self.assertTrue(wrapped.startswith(f"rt1.{provider}."))
        self.assertTrue(envelope.is_envelope(wrapped))
        self.assertEqual(envelope.origin(wrapped), provider)
        self.assertEqual(envelope.unwrap(wrapped), envelope.Envelope(provider, model, signature))

    def test_empty(self) -> None:
        """An empty signature stays empty."""
        self.assertEqual(envelope.wrap("minimax", "m", ""), "")
        self.assertIsNone(envelope.unwrap(""))
        self.assertIsNone(envelope.origin(""))
        self.assertFalse(envelope.is_envelope(""))

    def test_nested(self) -> None:
        """A router behind a router wraps twice, and each takes its own off again."""
        inner = envelope.wrap("kimi", "k", "s")
        outer = envelope.unwrap(envelope.wrap("minimax", "m", inner))
        assert outer is not None
        self.assertEqual(outer.signature, inner)

    def test_native(self) -> None:
        """A signature of Anthropic's own is no envelope."""
        for text in ("EqQBCkgIBRABGAIiQL8", "rt1", "rt2.minimax.e30", "RT1.minimax.e30"):
            self.assertFalse(envelope.is_envelope(text))
            self.assertIsNone(envelope.origin(text))
            self.assertIsNone(envelope.unwrap(text))

    def test_damaged(self) -> None:
        """What claims to be an envelope and cannot be read gives nothing, and no exception."""

        def coded(text: bytes) -> str:
            return "rt1.minimax." + base64.urlsafe_b64encode(text).decode().rstrip("=")

        for text in (
            "rt1.",
            "rt1.minimax",
            "rt1.minimax.",
            "rt1.minimax.!!!",
            "rt1.minimax.é",
            "rt1.minimax.e",
            coded(b"[]"),
            coded(b"{}"),
            coded(b'{"m":"a"}'),
            coded(b'{"m":1,"s":"a"}'),
            coded(b'{"m":"a","s":null}'),
            coded(b"\xff"),
            coded(b"[" * 100_000),
        ):
            self.assertTrue(envelope.is_envelope(text))
            self.assertIsNone(envelope.unwrap(text), text[:40])
