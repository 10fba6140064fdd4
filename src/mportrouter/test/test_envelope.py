"""Tests for :mod:`mportrouter.envelope`."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope
from ..conversation import Opaque

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


_opaques = st.builds(
    Opaque,
    origin=st.text("abcxyz019-_.", min_size=1),
    model=_any_text,
    kind=st.sampled_from(["signature", "encrypted", "redacted", "thought", "text"]),
    value=_any_text,
    item_id=st.none() | _any_text,
)


class SealTests(SynchronousTestCase):
    """State of any kind in and out of its envelope."""

    @given(_opaques)
    def test_round_trip(self, opaque: Opaque) -> None:
        """Kind and item come back too, in either form; the same state always gives the same ASCII text."""
        sealed, coded = envelope.seal(opaque), envelope.seal_base64(opaque)
        self.assertEqual((sealed, coded), (envelope.seal(opaque), envelope.seal_base64(opaque)))
        self.assertTrue(sealed.isascii() and envelope.is_envelope(sealed))
        self.assertEqual(envelope.origin(sealed), opaque.origin)
        self.assertEqual(envelope.opened(sealed), opaque)
        self.assertEqual(envelope.opened(coded), opaque)

    def test_base64(self) -> None:
        """Where a place holds bytes the envelope is base64, and may come back in the other alphabet or unpadded."""
        opaque = Opaque("openai", "gpt", "encrypted", "\xff\xfe??>>" * 5, "rs_1")
        coded = envelope.seal_base64(opaque)
        base64.b64decode(coded, validate=True)
        for text in (coded, coded.rstrip("="), coded.replace("+", "-").replace("/", "_")):
            self.assertEqual(envelope.opened(text), opaque)
        again = base64.urlsafe_b64encode(base64.b64decode(coded)).decode()
        self.assertEqual(envelope.opened(again), opaque)

    def test_old(self) -> None:
        """Envelopes of signatures are the same text as ever, and those under way stay readable both ways."""
        opaque = Opaque("minimax", "m", "signature", "abc")
        self.assertEqual(envelope.seal(opaque), envelope.wrap("minimax", "m", "abc"))
        self.assertEqual(envelope.opened("rt1.minimax.eyJtIjoibSIsInMiOiJhYmMifQ"), opaque)
        sealed = envelope.seal(Opaque("openai", "gpt", "encrypted", "abc", "rs_1"))
        self.assertEqual(envelope.unwrap(sealed), envelope.Envelope("openai", "gpt", "abc"))

    def test_only_the_origin(self) -> None:
        """A text that nobody signed is sealed with its origin alone."""
        opaque = Opaque("deepseek", "r1", "text", "")
        self.assertEqual(envelope.opened(envelope.seal(opaque)), opaque)

    def test_damaged(self) -> None:
        """What is no envelope, or was damaged, opens to nothing and raises nothing."""

        def coded(text: bytes) -> str:
            return "rt1.minimax." + base64.urlsafe_b64encode(text).decode().rstrip("=")

        for text in (
            "",
            "EqQBCkgIBRABGAIiQL8",
            "rt1.",
            "rt1.minimax.!!!",
            coded(b"[]"),
            coded(b'{"m":"a"}'),
            coded(b'{"m":"a","s":"b","k":5}'),
            "cnQxL",
            "cnQxL*",
            "cnQxLm1pbmltYXg=",
            "cnQxL\u00e9\u00e9",
            base64.b64encode(b"rt1.\xff\xff").decode(),
        ):
            self.assertIsNone(envelope.opened(text), text)
        self.assertEqual(
            envelope.opened(coded(b'{"m":"a","s":"b","i":5}')),
            Opaque("minimax", "a", "signature", "b"),
            "an id that is none is left out: an absent one is accepted, a wrong one is not",
        )
