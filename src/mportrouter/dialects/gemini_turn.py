"""What a person said in a Gemini request, without what clients and tools put around it."""

from __future__ import annotations

from typing import Any

import msgspec

from .. import person, splice
from ..interfaces import RoutingText
from .gemini_spelling import field, listed

_NOTHING = msgspec.Raw(b"")
#: Parts that a person's turn may have beside text.
_MEDIA = ("inlineData", "fileData")


class _Top(msgspec.Struct, gc=False):
    contents: msgspec.Raw = _NOTHING
    systemInstruction: msgspec.Raw = _NOTHING
    system_instruction: msgspec.Raw = _NOTHING
    tools: msgspec.Raw = _NOTHING


class _Role(msgspec.Struct, gc=False):
    role: str = ""


_top = msgspec.json.Decoder(_Top).decode
_role = msgspec.json.Decoder(_Role).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def last_user_text(body: bytes) -> str | None:
    """See :meth:`mportrouter.interfaces.IDialect.last_user_text`."""
    contents = _elements(_split(body)[0])
    content = splice.value_of(contents[-1]) if contents else None
    said = _said(content) if isinstance(content, dict) else None
    return said[0] if said is not None and not said[1] else None


def routing_text(body: bytes) -> RoutingText:
    """See :meth:`mportrouter.interfaces.IDialect.routing_text`."""
    contents_raw, system, tools = _split(body)
    contents = _elements(contents_raw)
    key = person.TurnKey()
    text, images, goes_on = "", False, False
    for index, raw in enumerate(contents):
        if _is_models(raw):
            goes_on = True
            continue
        content = splice.value_of(raw)
        said = _said(content) if isinstance(content, dict) else None
        if said is None or not (said[0] or said[1]):
            continue
        text, images = said
        goes_on = False
        key.say(index, text, images)
    return RoutingText(text, str(key), _offered(tools), len(contents), images, len(system), goes_on)


def _split(body: bytes) -> tuple[bytes, bytes, bytes]:
    """The JSON texts of contents, system instruction and tools, ``b""`` for what is not there."""
    try:
        top = _top(body)
        return bytes(top.contents), bytes(top.systemInstruction) or bytes(top.system_instruction), bytes(top.tools)
    except _REFUSED:
        pass
    try:
        spans = splice.members(body)
    except splice.Malformed:
        return b"", b"", b""

    def text(*names: str) -> bytes:
        member = next((spans[name] for name in names if name in spans), None)
        return b"" if member is None else body[member.value : member.end]

    return text("contents"), text("systemInstruction", "system_instruction"), text("tools")


def _elements(raw: bytes) -> list[bytes]:
    if raw[:1] == b"{":
        return [raw]
    return splice.elements_of(raw)


def _offered(raw: bytes) -> int:
    """Functions, and tools that the provider runs."""
    count = 0
    for tool in listed(splice.value_of(raw) if raw else None):
        if isinstance(tool, dict):
            functions = listed(field(tool, "functionDeclarations"))
            count += len(functions) or 1
    return count


def _is_models(raw: bytes) -> bool:
    try:
        return _role(raw).role == "model"
    except _REFUSED:
        return False  # an odd one is looked at in full


def _said(content: dict[str, Any]) -> tuple[str, bool] | None:
    """
    The words of a user's turn and whether it shows anything beside them; ``None`` where it carries results or is not a
    user's.
    """
    if content.get("role") not in ("user", None, ""):
        return None
    texts, media = [], False
    for part in listed(content.get("parts")):
        if not isinstance(part, dict):
            return None
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif any(field(part, name) is not None for name in _MEDIA):
            media = True
        else:
            return None
    return person.unwrapped(texts), media
