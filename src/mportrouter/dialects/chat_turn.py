"""
What a person said in a request of the Chat dialect.

Only asked where it may matter: when a body may hold a ``/router`` command, and by the ``interactive`` strategy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import splice
from ..interfaces import RoutingText
from ..person import TurnKey, said

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
    for raw in reversed(splice.elements_of(_split(body)[0])):
        role = _role(raw)
        if role in INSTRUCTING:
            continue
        if role != "user":
            return None
        heard = _said(splice.value_of(raw))
        return heard[0] if heard is not None and not heard[1] else None
    return None


def routing_text(body: bytes) -> RoutingText:
    """What ``interactive`` asks about a request; a body that cannot be read gives an empty text."""
    messages, tools = _split(body)
    key = TurnKey()
    text, images, goes_on, system, count = "", False, False, 0, 0
    for index, raw in enumerate(splice.elements_of(messages)):
        count += 1
        role = _role(raw)
        if role in INSTRUCTING:
            system += len(raw)
            continue
        if role != "user":
            goes_on = True
            continue
        heard = _said(splice.value_of(raw))
        if heard is None or not (heard[0] or heard[1]):
            continue
        text, images = heard
        goes_on = False
        key.say(index, text, images)
    return RoutingText(text, str(key), len(splice.elements_of(tools)), count, images, system, goes_on)


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


def _role(raw: bytes) -> str:
    try:
        return _head(raw).role
    except _REFUSED:
        value = splice.value_of(raw)
        role = value.get("role") if isinstance(value, dict) else None
        return role if isinstance(role, str) else ""


def _said(message: Any) -> tuple[str, bool] | None:
    """The words of a user message and whether it shows anything beside them; ``None`` where it cannot be read."""
    content = message.get("content") if isinstance(message, dict) else None
    return said(content, ("text",), _MEDIA)
