"""
What a person said in a request of the Chat dialect.

Only asked where it may matter: when a body may hold a ``/router`` command, and by the ``interactive`` strategy.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .. import splice
from ..interfaces import RoutingText
from ..person import unwrapped

_NOTHING = msgspec.Raw(b"")
#: Parts that a person's message may have beside text.
_MEDIA = frozenset({"image_url", "file", "input_audio"})
INSTRUCTING = frozenset({"system", "developer"})


class _Top(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NOTHING
    tools: msgspec.Raw = _NOTHING
    functions: msgspec.Raw = _NOTHING


class _Head(msgspec.Struct, gc=False):
    role: str = ""


_top = msgspec.json.Decoder(_Top).decode
_head = msgspec.json.Decoder(_Head).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def last_user_text(body: bytes) -> str | None:
    """
    See :meth:`mportrouter.interfaces.IDialect.last_user_text`.

    Instructions after the person's words do not hide them.
    """
    for raw in reversed(_elements(_split(body)[0])):
        role = _role(raw)
        if role in INSTRUCTING:
            continue
        if role != "user":
            return None
        said = _said(_value(raw))
        return said[0] if said is not None and not said[1] else None
    return None


def routing_text(body: bytes) -> RoutingText:
    """What ``interactive`` asks about a request; a body that cannot be read gives an empty text."""
    messages, tools = _split(body)
    digest = hashlib.blake2b(digest_size=12)
    text, images, goes_on, system, count = "", False, False, 0, 0
    for index, raw in enumerate(_elements(messages)):
        count += 1
        role = _role(raw)
        if role in INSTRUCTING:
            system += len(raw)
            continue
        if role != "user":
            goes_on = True
            continue
        said = _said(_value(raw))
        if said is None or not (said[0] or said[1]):
            continue
        text, images = said
        goes_on = False
        # Lengths keep two texts from reading like one; the position keeps a repeated "go on" apart.
        digest.update(b"%d %d %d\n" % (index, images, len(text)))
        digest.update(text.encode("utf-8", "surrogatepass"))
    return RoutingText(text, digest.hexdigest(), len(_elements(tools)), count, images, system, goes_on)


def _split(body: bytes) -> tuple[bytes, bytes]:
    """The JSON texts of messages and tools, ``b""`` for what is not there."""
    try:
        top = _top(body)
        return bytes(top.messages), bytes(top.tools) or bytes(top.functions)
    except _REFUSED:
        pass
    try:
        spans = splice.members(body)
    except splice.Malformed:
        return b"", b""
    found = (spans.get(name) for name in ("messages", "tools", "functions"))
    messages, tools, functions = (b"" if member is None else body[member.value : member.end] for member in found)
    return messages, tools or functions


def _elements(raw: bytes) -> list[bytes]:
    try:
        return splice.elements(raw)
    except splice.Malformed:
        return []


def _role(raw: bytes) -> str:
    try:
        return _head(raw).role
    except _REFUSED:
        value = _value(raw)
        role = value.get("role") if isinstance(value, dict) else None
        return role if isinstance(role, str) else ""


def _value(raw: bytes) -> Any:
    try:
        return splice.loads(raw)
    except splice.Malformed:
        return None


def _said(message: Any) -> tuple[str, bool] | None:
    """The words of a user message and whether it shows anything beside them; ``None`` where it cannot be read."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return unwrapped([content]), False
    if not isinstance(content, list):
        return None
    texts, media = [], False
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(kind, str) and kind in _MEDIA:
            media = True
        else:
            return None
    return unwrapped(texts), media
