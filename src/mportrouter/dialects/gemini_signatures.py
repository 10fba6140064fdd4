"""
Thought signatures: Gemini's own, and those of other providers on their way through a client of this dialect.

A signature stands on the part that it belongs to, as base64; clients give it back where it stood. A foreign one travels
as the base64 of its envelope (:mod:`mportrouter.envelope`).
"""

from __future__ import annotations

import base64

from .. import envelope
from ..conversation import Opaque

#: Who issues the signatures that stand here without an envelope, as the ``thinking_signature`` column names it.
NATIVE = "gemini"

#: What Google documents for a call that another model made, where one must be there
#: (https://ai.google.dev/gemini-api/docs/thought-signatures). It is valid base64 of the URL-safe kind as it stands.
DUMMY = "skip_thought_signature_validator"

# Base64 of ``rt1.``, as far as the next character does not matter.
_HEAD = base64.b64encode(envelope.PREFIX.encode())[:5].decode()


def is_wrapped(signature: str) -> bool:
    """Whether a signature claims to be an envelope, readable or not."""
    return signature.startswith(_HEAD)


def read(signature: str) -> Opaque | None:
    """What a signature is, or ``None`` for a damaged envelope."""
    if not is_wrapped(signature):
        return Opaque(NATIVE, "", "thought", signature)
    return envelope.opened(signature)


def write(opaque: Opaque) -> str:
    """The ``thoughtSignature`` for a client: :func:`read` gives the same back."""
    if opaque.origin == NATIVE and opaque.kind == "thought":
        return opaque.value
    return envelope.seal_base64(opaque)
