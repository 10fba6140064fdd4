"""Tests for :mod:`mportrouter.claims`."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..claims import claims_of


def token(claims: Any) -> str:
    """A JSON Web Token with some claims, as a vendor's."""
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode("ascii").rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{middle}.c2ln"


class ClaimsTests(SynchronousTestCase):
    """What a token says."""

    def test_claims(self) -> None:
        """The middle part is read, whatever its length is a multiple of."""
        for claims in ({}, {"a": 1}, {"a": 12}, {"a": 123}, {"iss": "https://x", "sub": "ÿ>?~"}):
            self.assertEqual(claims_of(token(claims)), claims)

    def test_none(self) -> None:
        """What is no token says nothing."""
        deep = base64.urlsafe_b64encode(b"[" * 20000).decode("ascii")
        long = "A" * 99999
        for text in ("", "sk-x", "a.b", "a.b.c", "a.%%.c", token([1]), token("x"), f"a.{deep}.c", f"a.{long}.c"):
            self.assertEqual(claims_of(text), {}, text[:20])

    @given(st.text(max_size=40))
    def test_any(self, text: str) -> None:
        """No text breaks it."""
        claims_of(f"a.{text}.c")
