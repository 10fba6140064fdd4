"""
What a person said in a request of the OpenAI Responses dialect.

Only asked where it may matter: when a body may hold a ``/router`` command, and by the ``interactive`` strategy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import splice
from ..interfaces import RoutingText
from ..person import TurnKey, said, unwrapped

_NOTHING = msgspec.Raw(b"")
#: Parts that a person's message may have beside text.
_MEDIA = frozenset({"input_image", "input_file", "input_audio"})
#: Items that say nothing to the model and are nobody's turn.
_ASIDE = frozenset({"additional_tools", "configuration_update", "compaction_trigger"})
_INSTRUCTING = frozenset({"system", "developer"})
#: Beginnings of what Codex tells the model in user messages of its own: the surroundings, not a person's words.
_SURROUNDINGS = ("<environment_context>", "<user_instructions>", "# AGENTS.md instructions for ")


class _Top(msgspec.Struct, gc=False):
    input: msgspec.Raw = _NOTHING
    instructions: msgspec.Raw = _NOTHING
    tools: msgspec.Raw = _NOTHING


class _Head(msgspec.Struct, gc=False):
    type: str | None = None
    role: str | None = None


_top = msgspec.json.Decoder(_Top).decode
_head = msgspec.json.Decoder(_Head).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def last_user_text(body: bytes) -> str | None:
    """
    See :meth:`mportrouter.interfaces.IDialect.last_user_text`. Instructions after the person's words do not hide them.
    """
    raw = _split(body)[0]
    if raw.startswith(b'"'):
        text = splice.value_of(raw)
        return unwrapped([text]) if isinstance(text, str) else None
    for item in reversed(splice.elements_of(raw)):
        kind, role = _kind(item)
        if kind in _ASIDE or role in _INSTRUCTING:
            continue
        if kind != "message" or role != "user":
            return None
        message = splice.value_of(item)
        heard = _said(message) if isinstance(message, dict) else None
        return heard[0] if heard is not None and not heard[1] else None
    return None


def routing_text(body: bytes) -> RoutingText:
    """What ``interactive`` asks about a request; a body that cannot be read gives an empty text."""
    raw, instructions, tools_raw = _split(body)
    key = TurnKey()
    text, images, goes_on, system = "", False, False, len(instructions)
    items = [b'{"role":"user","content":%b}' % raw] if raw.startswith(b'"') else splice.elements_of(raw)
    tool_count = len(splice.elements_of(tools_raw))
    messages = 0
    for index, item in enumerate(items):
        kind, role = _kind(item)
        if kind in _ASIDE:
            if kind == "additional_tools":
                value = splice.value_of(item)
                more = value.get("tools") if isinstance(value, dict) else None
                tool_count += len(more) if isinstance(more, list) else 0
            continue
        messages += 1
        if role in _INSTRUCTING:
            system += len(item)
            continue
        if kind != "message" or role != "user":
            goes_on = True
            continue
        message = splice.value_of(item)
        heard = _said(message) if isinstance(message, dict) else None
        if heard is None or not (heard[0] or heard[1]) or heard[0].startswith(_SURROUNDINGS):
            continue
        text, images = heard
        goes_on = False
        key.say(index, text, images)
    return RoutingText(text, str(key), tool_count, messages, images, system, goes_on)


def _split(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The JSON texts of input, instructions and tools, ``b""`` for what is not there."""
    try:
        top = _top(body)
        return bytes(top.input), bytes(top.instructions), bytes(top.tools)
    except _REFUSED:
        pass
    try:
        spans = splice.members(body)
    except splice.Malformed:
        return b"", b"", b""
    found = (spans.get(name) for name in ("input", "instructions", "tools"))
    raw, instructions, tools = (b"" if member is None else body[member.value : member.end] for member in found)
    return raw, instructions, tools


def _kind(item: bytes) -> tuple[str, str]:
    """Type and role of an item; one without a type is a message where it has a role."""
    try:
        head = _head(item)
        kind, role = head.type, head.role
    except _REFUSED:
        value = splice.value_of(item)
        if not isinstance(value, dict):
            return "", ""
        kind, role = (each if isinstance(each := value.get(name), str) else None for name in ("type", "role"))
    return kind or ("message" if role else ""), role or ""


def _said(message: dict[str, Any]) -> tuple[str, bool] | None:
    """The words of a user message and whether it shows anything beside them; ``None`` where it cannot be read."""
    content = message.get("content")
    return said(content, ("input_text", "text"), _MEDIA)
