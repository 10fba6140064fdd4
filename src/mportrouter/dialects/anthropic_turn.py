"""
What a person said in a request of the Anthropic Messages dialect, without what clients and tools put around it.

Only asked where it may matter: when a body may hold a ``/router`` command, and by the ``interactive`` strategy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import splice
from ..interfaces import RoutingText
from ..person import NEAR, TurnKey, said
from ..person import letters as might_hold_command

__all__ = ["NEAR", "RoutingText", "last_user_text", "might_hold_command", "routing_text"]

_NOTHING = msgspec.Raw(b"")
#: Blocks that a person's message may have beside text.
_MEDIA = frozenset({"image", "document", "search_result", "container_upload"})


class _Top(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NOTHING
    system: msgspec.Raw = _NOTHING
    tools: msgspec.Raw = _NOTHING


_top = msgspec.json.Decoder(_Top).decode


class _Role(msgspec.Struct, gc=False):
    role: str = ""


_role = msgspec.json.Decoder(_Role).decode


def last_user_text(body: bytes) -> str | None:
    """
    See :meth:`mportrouter.interfaces.IDialect.last_user_text`.

    Messages of role ``system`` after the person's (Claude Code puts one there) do not hide it.
    """
    for message in reversed(_messages(_split(body)[0])):
        if message.get("role") == "system":
            continue
        if message.get("role") != "user":
            return None
        heard = _said(message)
        return heard[0] if heard is not None and not heard[1] else None
    return None


def routing_text(body: bytes) -> RoutingText:
    """What ``interactive`` asks about a request; a body that cannot be read gives an empty text."""
    messages_raw, system, tools_raw = _split(body)
    messages = splice.elements_of(messages_raw)
    tool_count = len(splice.elements_of(tools_raw))
    key = TurnKey()
    text, images, goes_on = "", False, False
    for index, raw in enumerate(messages):
        if not _is_users(raw):
            goes_on = goes_on or _is_assistants(raw)
            continue
        message = splice.value_of(raw)
        heard = _said(message) if isinstance(message, dict) else None
        if heard is None or not (heard[0] or heard[1]):
            continue
        text, images = heard
        goes_on = False
        key.say(index, text, images)
    return RoutingText(text, str(key), tool_count, len(messages), images, len(system), goes_on)


def _split(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The JSON texts of messages, system and tools, ``b""`` for what is not there."""
    try:
        top = _top(body)
        return bytes(top.messages), bytes(top.system), bytes(top.tools)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        spans = splice.members(body)
    except splice.Malformed:
        return b"", b"", b""

    def text(name: str) -> bytes:
        member = spans.get(name)
        return b"" if member is None else body[member.value : member.end]

    return text("messages"), text("system"), text("tools")


def _messages(raw: bytes) -> list[dict[str, Any]]:
    """The last few messages: a person's own is followed by system messages at most."""
    tail = splice.elements_of(raw)[-8:]
    return [value for value in map(splice.value_of, tail) if isinstance(value, dict)]


def _is_users(raw: bytes) -> bool:
    try:
        return _role(raw).role == "user"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # an odd message is looked at in full


def _is_assistants(raw: bytes) -> bool:
    try:
        return _role(raw).role == "assistant"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _said(message: dict[str, Any]) -> tuple[str, bool] | None:
    """
    The words of a user message and whether it shows anything beside them; ``None`` where it carries tool results or is
    not a user's.
    """
    if message.get("role") != "user":
        return None
    content = message.get("content")
    return said(content, ("text",), _MEDIA)
