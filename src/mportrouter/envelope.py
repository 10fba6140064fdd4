"""
The envelope in which a foreign provider's opaque reasoning state travels through a client.

A client of the Anthropic dialect gives every thinking block back with its ``signature`` byte for byte, whoever answers
next. Anthropic refuses signatures that it did not issue, and the client would repeat them for ever; so each foreign
signature names its origin: ``rt1.<provider>.<base64url of {"m": model, "s": signature}>``. On the way back it is taken
out for the same provider and left out, with its block, for every other. Nothing has to be remembered for that.

Clients of the other dialects have such places too: ``encrypted_content`` of a Responses reasoning item,
``thoughtSignature`` of a Gemini part, and members that Chat clients echo. What is sealed for them also tells its kind
(``"k"``, where it is no signature) and the item that it is bound to (``"i"``, where there is one): a provider that
binds state to an item's id refuses it under another. A Gemini place holds base64 and nothing else (its clients decode
it), so there the whole envelope is base64 once more.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import attrs

from .conversation import Opaque

PREFIX = "rt1."
#: How the base64 of every envelope begins.
_CODED = "cnQxL"
_STANDARD = str.maketrans("-_", "+/", "=")


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
    return _written(provider, {"m": model, "s": signature})


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
    content = _content(signature)
    if content is None:
        return None
    model, inner = content.get("m"), content.get("s")
    if not isinstance(model, str) or not isinstance(inner, str):
        return None
    return Envelope(provider, model, inner)


def seal(opaque: Opaque) -> str:
    """
    The envelope for a state of any kind. The same state gives the same text; that of a signature alone is what
    :func:`wrap` gives. A state without a value is sealed too: its origin may be all there is to know.
    """
    content = {"m": opaque.model, "s": opaque.value}
    if opaque.kind != "signature":
        content["k"] = opaque.kind
    if opaque.item_id is not None:
        content["i"] = opaque.item_id
    return _written(opaque.origin, content)


def seal_base64(opaque: Opaque) -> str:
    """The same for a place that holds base64 only (Gemini's ``thoughtSignature`` is of the type ``bytes``)."""
    return base64.b64encode(seal(opaque).encode("utf-8", "surrogatepass")).decode()


def opened(text: str) -> Opaque | None:
    """
    What was sealed, or ``None`` for what is no envelope or was damaged.

    :param text: of :func:`seal`, :func:`seal_base64` (in either alphabet, with or without padding: clients decode and
        encode it) or :func:`wrap`.
    """
    if not text.startswith(PREFIX):
        if not text.startswith(_CODED):
            return None
        try:
            coded = base64.b64decode(text.translate(_STANDARD) + "=" * (-len(text.rstrip("=")) % 4), validate=True)
            text = coded.decode("utf-8", "surrogatepass")
        except ValueError:
            return None
    provider = origin(text)
    if provider is None:
        return None
    content = _content(text)
    if content is None:
        return None
    model, value, kind, item = content.get("m"), content.get("s"), content.get("k", "signature"), content.get("i")
    if not isinstance(model, str) or not isinstance(value, str) or not isinstance(kind, str):
        return None
    return Opaque(provider, model, kind, value, item if isinstance(item, str) else None)


def _written(provider: str, content: dict[str, str]) -> str:
    # ASCII escapes carry lone surrogates, which UTF-8 cannot.
    text = json.dumps(content, separators=(",", ":")).encode()
    return f"{PREFIX}{provider}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}"


def _content(text: str) -> dict[str, Any] | None:
    coded = text.rpartition(".")[2]
    try:
        content = json.loads(base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
