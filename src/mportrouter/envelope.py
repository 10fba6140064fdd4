"""
The envelope in which a foreign provider's thinking signature travels through a client.

A client of the Anthropic dialect gives every thinking block back with its ``signature`` byte for byte, whoever answers
next. Anthropic refuses signatures that it did not issue, and the client would repeat them for ever; so each foreign
signature names its origin: ``rt1.<provider>.<base64url of {"m": model, "s": signature}>``. On the way back it is taken
out for the same provider and left out, with its block, for every other. Nothing has to be remembered for that.
"""

from __future__ import annotations

import base64
import binascii
import json

import attrs

PREFIX = "rt1."


@attrs.frozen
class Envelope:
    """What was wrapped: the provider, the model that thought, and its signature as the provider gave it."""

    provider: str
    model: str
    signature: str


def wrap(provider: str, model: str, signature: str) -> str:
    """The envelope for a signature; an empty signature stays empty. The same arguments give the same text."""
    if not signature:
        return signature
    # ASCII escapes carry lone surrogates, which UTF-8 cannot.
    text = json.dumps({"m": model, "s": signature}, separators=(",", ":")).encode()
    return f"{PREFIX}{provider}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}"


def is_envelope(signature: str) -> bool:
    """Whether the text claims to be an envelope, readable or not."""
    return signature.startswith(PREFIX)


def origin(signature: str) -> str | None:
    """The provider that an envelope names, or ``None`` for anything else."""
    if not signature.startswith(PREFIX):
        return None
    provider, dot, _ = signature[len(PREFIX) :].rpartition(".")
    return provider if dot else None


def unwrap(signature: str) -> Envelope | None:
    """What is in an envelope, or ``None`` where it is none or was damaged."""
    provider = origin(signature)
    if provider is None:
        return None
    text = signature.rpartition(".")[2]
    try:
        content = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    model, inner = content.get("m"), content.get("s")
    if not isinstance(model, str) or not isinstance(inner, str):
        return None
    return Envelope(provider, model, inner)
