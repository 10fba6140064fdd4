"""
Which dialect a request speaks: by its path, and where several share one by its header fields.

Clients set base URLs with and without the version and add their own, so a path comes in several spellings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..dialects.known import ANTHROPIC, CHAT, GEMINI, RESPONSES
from ..interfaces import IDialect

#: A version segment more than once in front of the path, or two different ones.
_TWICE = re.compile(rb"/v1(?:beta|alpha)?(?=/v1(?:beta|alpha)?(?:/|$))")
#: First segments that stand behind the version in the API.
_VERSIONED = frozenset([b"messages", b"models", b"chat", b"responses", b"completions", b"embeddings"])
_GEMINI = re.compile(rb"/v1(?:beta|alpha)?/(?:models|tunedModels)/[^/]+:([A-Za-z]+)")
_GEMINI_ONLY = (b"/v1beta/", b"/v1alpha/")
_CHAT_ONLY = (b"/v1/chat/", b"/v1/completions", b"/v1/embeddings", b"/v1/moderations", b"/v1/audio/", b"/v1/images/")


def canonical(path: bytes) -> bytes:
    """
    The path as the API has it: its version once in front, no slash behind.

    ``/messages`` and ``/v1/v1/messages`` both come, and ``/v1/v1beta/models``: the last version counts.
    """
    path = path.rstrip(b"/") or b"/"
    while found := _TWICE.match(path):
        path = path[found.end() :]
    first = path[1:].partition(b"/")[0]
    if first in _VERSIONED:
        path = b"/v1" + path
    if path in (b"/v1/health", b"/v1/status"):
        path = path[3:]
    return b"/" if path == b"/v1" else path


def gemini_action(path: bytes) -> bytes | None:
    """What a Gemini path asks of a model (``generateContent`` …), or ``None`` where the path is none of its kind."""
    found = _GEMINI.fullmatch(path)
    return None if found is None else found[1]


def asker(fields: Mapping[bytes, bytes]) -> IDialect:
    """The dialect of a client on a path that three of them share (``/v1/models``)."""
    if b"anthropic-version" in fields or b"x-api-key" in fields:
        return ANTHROPIC
    if b"x-goog-api-key" in fields or b"x-goog-api-client" in fields:
        return GEMINI
    return CHAT


def speaker(path: bytes, fields: Mapping[bytes, bytes]) -> IDialect:
    """The dialect in which a client of ``path`` reads an error; where nothing tells, the first one of the house."""
    path = canonical(path)
    if path.startswith(b"/v1/messages"):
        return ANTHROPIC
    if path.startswith(b"/v1/responses"):
        return RESPONSES
    if path.startswith(_CHAT_ONLY):
        return CHAT
    if path.startswith(_GEMINI_ONLY) or gemini_action(path) is not None:
        return GEMINI
    if path == b"/v1/models" or path.startswith(b"/v1/models/"):
        return asker(fields)
    if b"x-goog-api-key" in fields or b"x-goog-api-client" in fields:
        return GEMINI
    if b"authorization" in fields and b"anthropic-version" not in fields and path.startswith(b"/v1/"):
        return CHAT
    return ANTHROPIC
