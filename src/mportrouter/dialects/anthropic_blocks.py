"""
Content blocks of a request as neutral parts, whatever their type.

This is the road for every block; :mod:`mportrouter.dialects.anthropic_reading` has a faster one for the usual types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .. import splice
from ..conversation import (
    CacheMark,
    Citation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    SearchHit,
    Text,
    ToolCall,
    ToolResult,
    WebSearch,
)
from ..envelope import is_envelope, opened
from .anthropic_messages import is_server_block, search_words, server_words

NAME = "anthropic"
#: Bytes of a block of an unknown type that are shown to another model.
_RENDER_LIMIT = 16 * 1024


class Wrong(ValueError):
    """A member that cannot be understood; the text begins with where it stands."""


def opaque_of(value: str, kind: str) -> Opaque | None:
    """
    What a thinking block's ``signature`` or ``data`` holds: an envelope's content, or Anthropic's own.

    :param kind: of Anthropic's own: ``signature`` or ``redacted``.
    :returns: ``None`` for nothing and for a damaged envelope: nobody can read it any more.
    """
    if not value:
        return None
    if is_envelope(value):
        return opened(value)
    return Opaque(NAME, "", kind, value)


def parts(content: Any, where: str = "content") -> tuple[Part, ...]:
    """
    The parts of a message.

    :raises Wrong: for what no server of this dialect takes.
    """
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if content is None:
        return ()
    blocks = _blocks(content, where)
    answers: dict[str, Mapping[str, Any]] = {}
    for block in blocks:
        if block.get("type") == "web_search_tool_result" and isinstance(block.get("tool_use_id"), str):
            answers[block["tool_use_id"]] = block
    found: list[Part] = []
    told: set[str] = set()
    bound = False
    for index, block in enumerate(blocks):
        kind = block.get("type")
        try:
            id = block.get("id" if kind == "server_tool_use" else "tool_use_id")
            if kind == "server_tool_use" and isinstance(id, str) and id in answers:
                found.append(_search(block, answers[id]))
                told.add(id)
                continue
            if kind == "web_search_tool_result" and isinstance(id, str) and id in told:
                continue
            part = read_block(block)
        except Wrong as wrong:
            raise Wrong(f"{where}.{index}.{wrong}") from None
        bound = bound or (isinstance(part, Reasoning) and part.opaque is not None and part.opaque.kind == "thought")
        found.append(part)
    return bind(found) if bound else tuple(found)


def bind(found: Sequence[Part]) -> tuple[Part, ...]:
    """
    Thought signatures back on the parts that they came with: a call has it before itself, a text after itself.

    A signature that came with thoughts stays with their text.
    """
    out: list[Part] = []
    waiting: Opaque | None = None
    for index, part in enumerate(found):
        if isinstance(part, Reasoning) and not part.text and part.opaque is not None and part.opaque.kind == "thought":
            follower = found[index + 1] if index + 1 < len(found) else None
            last = out[-1] if out else None
            if isinstance(follower, ToolCall):
                waiting = part.opaque
                continue
            if isinstance(last, Text) and last.opaque is None:
                out[-1] = Text(last.text, last.citations, last.cache, part.opaque)
                continue
        elif waiting is not None and isinstance(part, ToolCall):
            part = ToolCall(
                part.id, part.name, part.arguments, part.custom, part.namespace, waiting, part.cache
            )
            waiting = None
        out.append(part)
    return tuple(out)


def read_block(block: Mapping[str, Any]) -> Part:
    """:raises Wrong: naming the member."""
    kind = block.get("type")
    if not isinstance(kind, str):
        raise Wrong("type: a text is wanted")
    road = _ROADS.get(kind)
    if road is not None:
        return road(block)
    if is_server_block(kind):
        return Foreign(NAME, kind, block, server_words(kind, block))
    text = block.get("text")
    if not isinstance(text, str):
        text = f"[{kind}] {splice.dumps({k: v for k, v in block.items() if k != 'type'}).decode()}"[:_RENDER_LIMIT]
    return Foreign(NAME, kind, block, text)


def texts(content: Any, where: str) -> tuple[Text, ...]:
    """
    A system prompt: a text or blocks of text.

    :raises Wrong: naming the member.
    """
    if isinstance(content, str):
        return (Text(content),) if content else ()
    found = []
    for index, block in enumerate(_blocks(content, where)):
        if block.get("type") != "text":
            raise Wrong(f"{where}.{index}.type: only text may stand here")
        try:
            found.append(_text(block))
        except Wrong as wrong:
            raise Wrong(f"{where}.{index}.{wrong}") from None
    return tuple(found)


def cache_of(value: Any) -> CacheMark | None:
    """A ``cache_control`` member."""
    if not isinstance(value, Mapping):
        return None
    ttl = value.get("ttl")
    return CacheMark(ttl if isinstance(ttl, str) else None)


def _blocks(content: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(content, list):
        raise Wrong(f"{where}: a text or a list of blocks is wanted")
    for index, block in enumerate(content):
        if not isinstance(block, Mapping):
            raise Wrong(f"{where}.{index}: a block is wanted")
    return content


def _string(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise Wrong(f"{name}: a text is wanted")
    return value


def _optional(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""


def _text(block: Mapping[str, Any]) -> Text:
    told = block.get("citations")
    return Text(
        _string(block, "text"),
        tuple(citation(one) for one in told if isinstance(one, Mapping)) if isinstance(told, list) else (),
        cache_of(block.get("cache_control")),
    )


def citation(raw: Mapping[str, Any]) -> Citation:
    """One citation of a text block, in a request or in an answer; it is about the whole block."""
    kind = raw.get("type")
    url = ""
    if kind == "web_search_result_location":
        url = _optional(raw, "url")
    elif kind == "search_result_location":
        source = _optional(raw, "source")
        url = source if source.startswith(("http://", "https://")) else ""
    title = _optional(raw, "title") or _optional(raw, "document_title")
    return Citation(url, title, _optional(raw, "cited_text"), None, None, raw, NAME)


def _image(block: Mapping[str, Any]) -> Image:
    shown = media(block.get("source"))
    if shown.kind in ("text", "parts"):
        raise Wrong("source.type: a picture has bytes, a URL or a file id")
    return Image(shown, None, cache_of(block.get("cache_control")))


def media(source: Any) -> Media:
    """
    The source of an image or a document.

    :raises Wrong: naming the member.
    """
    if not isinstance(source, Mapping):
        raise Wrong("source: an object is wanted")
    kind = source.get("type")
    try:
        if kind == "base64":
            return Media("base64", _string(source, "data"), _optional(source, "media_type"))
        if kind == "url":
            return Media("url", _string(source, "url"))
        if kind == "text":
            return Media("text", _string(source, "data"), _optional(source, "media_type") or "text/plain")
        if kind == "file":
            return Media("file", _string(source, "file_id"))
        if kind == "content":
            return Media("parts", parts=parts(source.get("content")))
    except Wrong as wrong:
        raise Wrong(f"source.{wrong}") from None
    raise Wrong(f"source.type: {str(kind)[:64]} is unknown")


def _document(block: Mapping[str, Any]) -> Document:
    cite = block.get("citations")
    return Document(
        media(block.get("source")),
        _optional(block, "title"),
        _optional(block, "context"),
        isinstance(cite, Mapping) and cite.get("enabled") is True,
        cache_of(block.get("cache_control")),
    )


def arguments_of(value: Any) -> str:
    """The JSON text of a call's input that was decoded; none at all is an empty object."""
    if value is None or value == "":
        return "{}"
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return splice.dumps(value).decode()  # half a surrogate pair, or a number of many digits


def _tool_use(block: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        _string(block, "id"),
        _string(block, "name"),
        arguments_of(block.get("input")),
        cache=cache_of(block.get("cache_control")),
    )


def _tool_result(block: Mapping[str, Any]) -> ToolResult:
    return ToolResult(
        _string(block, "tool_use_id"),
        parts(block.get("content")),
        is_error=block.get("is_error") is True,
        cache=cache_of(block.get("cache_control")),
    )


def _thinking(block: Mapping[str, Any]) -> Reasoning:
    return Reasoning(_optional(block, "thinking"), opaque_of(_optional(block, "signature"), "signature"))


def _redacted(block: Mapping[str, Any]) -> Reasoning:
    return Reasoning("", opaque_of(_optional(block, "data"), "redacted"))


def _search_result(block: Mapping[str, Any]) -> Foreign:
    return Foreign(NAME, "search_result", block, search_words(block))


def _tool_reference(block: Mapping[str, Any]) -> Foreign:
    return Foreign(NAME, "tool_reference", block, f"[tool {_optional(block, 'tool_name')}]")


def _compaction(block: Mapping[str, Any]) -> Foreign:
    return Foreign(NAME, "compaction", block, _optional(block, "content"))


def _silent(block: Mapping[str, Any]) -> Foreign:
    """What is about the conversation's own handling and tells another model nothing."""
    return Foreign(NAME, str(block.get("type")), block)


def _search(call: Mapping[str, Any], result: Mapping[str, Any]) -> Part:
    if call.get("name") != "web_search":
        return Foreign(NAME, "server_tool_use", call, server_words("server_tool_use", call))
    return web_search(call, result)


def web_search(call: Mapping[str, Any], result: Mapping[str, Any]) -> WebSearch:
    """A search and what it found; one that failed found nothing."""
    asked = call.get("input")
    query = asked.get("query") if isinstance(asked, Mapping) else None
    told = result.get("content")
    hits = [
        SearchHit(_optional(hit, "url"), _optional(hit, "title"), _optional(hit, "page_age") or None)
        for hit in (told if isinstance(told, list) else ())
        if isinstance(hit, Mapping) and hit.get("type") == "web_search_result"
    ]
    return WebSearch(
        _optional(call, "id"), query if isinstance(query, str) else "", tuple(hits), (call, result), NAME
    )


_ROADS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
    "fallback": _silent,
    "tool_addition": _silent,
    "tool_removal": _silent,
}
