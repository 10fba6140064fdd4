"""
Edits of the messages of a request, where an upstream would refuse or misunderstand them.

Each edit depends on the message itself and on what stands before it, never on the turns that come later (but for the
tool results that belong to the message before them): the same history gives the same bytes on each turn, so that prompt
caches and thinking signatures hold. Messages without anything special keep their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from .. import envelope, splice
from ..interfaces import Target

#: What stands for an assistant's turn of which nothing else is left; texts must not be empty or white space.
_PLACEHOLDER = b'{"type":"text","text":"..."}'
#: Bytes of a rendered tool call or result of the provider's own that are kept.
_RENDER_LIMIT = 16 * 1024

_EMPTY = b'""'
#: Where this stands, a search or a citation was another provider's: Anthropic's own are never empty.
_MADE = re.compile(rb'"encrypted_(?:content|index)"[ \t\n\r]*:[ \t\n\r]*""')


def is_server_block(kind: str) -> bool:
    """Whether a block of this type belongs to a tool that the provider ran (``tool_result`` itself does not)."""
    return kind in ("server_tool_use", "mcp_tool_use") or (kind.endswith("_tool_result") and kind != "tool_result")


def edit(raw: bytes, marks: Mapping[str, list[int]], target: Target, dropped: dict[str, None]) -> bytes | None:
    """
    The messages for a target.

    :param raw: the JSON array.
    :param marks: see :class:`mportrouter.dialects.anthropic_request.AnthropicLook`.
    :param dropped: what was left out is added here.
    :returns: the new array, or ``None`` where nothing changes.
    """
    capabilities = target.capabilities
    kinds = ["wrapped", "unsigned", "redacted"]
    if capabilities.thinking_signature != "anthropic" or capabilities.thinking_blocks == "strip":
        kinds.append("signed")
    if not capabilities.mid_system:
        kinds.append("system")
    if capabilities.search_results == "refused":
        kinds.append("search_result")
    made = "server" in marks and capabilities.thinking_signature == "anthropic" and _MADE.search(raw) is not None
    if made or capabilities.server_tools != "honoured":
        kinds.append("server")
    indexes = {index for kind in kinds for index in marks.get(kind, ())}
    if not indexes:
        return None
    try:
        messages = splice.elements(raw)
    except splice.Malformed:
        return None
    out: list[bytes] = []
    changed = False
    postponed: list[bytes] = []
    systems = frozenset(marks.get("system", ()))
    for index, message in enumerate(messages):
        new: bytes | None = message
        if index in indexes:
            try:
                new = _message(message, target, dropped, out, made)
            except (splice.Malformed, RecursionError):
                new = message  # the provider judges it
        if new is None:
            changed = True
            continue
        if new is not message:
            changed = True
            if index in systems:
                after = next((place for place in range(index + 1, len(messages)) if place not in systems), None)
                if after is not None and _parts_a_call(out, messages[after]):
                    postponed.append(new)
                    continue
        out.append(new)
        if postponed:
            out += postponed
            postponed = []
    out += postponed
    if not changed:
        return None
    if not out:
        return None  # nothing but unusable blocks was sent; the provider says so
    return b"[" + b",".join(out) + b"]"


def _parts_a_call(before: list[bytes], after: bytes) -> bool:
    """Whether a text here would stand between an assistant's call and its result, which no provider accepts."""
    return bool(before) and b'"tool_use"' in before[-1] and b'"tool_result"' in after


def _is_system(message: bytes) -> bool:
    return _role(message, splice.members(message)) == "system"


def _role(message: bytes, spans: Mapping[str, splice.Member]) -> Any:
    member = spans.get("role")
    return None if member is None else splice.loads(message[member.value : member.end])


def _message(
    message: bytes, target: Target, dropped: dict[str, None], before: list[bytes], made: bool
) -> bytes | None:
    """
    One message for the target, the very object where nothing changes, ``None`` where it goes.

    :param made: searches of another provider may stand in it.
    """
    spans = splice.members(message)
    role = _role(message, spans)
    if role == "system" and not target.capabilities.mid_system:
        return _fold(splice.loads(message), dropped)
    member = spans.get("content")
    if member is None or message[member.value : member.value + 1] != b"[":
        return message
    blocks = splice.elements(message[member.value : member.end])
    kept: list[bytes] = []
    changed = False
    ids = _made_searches(blocks) if made else ()
    for block in blocks:
        new = edit_block(block, target, dropped)
        if made and new is block:
            new = _without_made(block, ids, dropped)
        if new is not block:
            changed = True
        if new is not None:
            kept.append(new)
    if not changed:
        return message
    if not kept:
        # Two user messages in a row are accepted and merged. After a system message an assistant must follow.
        if role == "assistant" and before and not (target.capabilities.mid_system and _is_system(before[-1])):
            return None
        kept.append(_PLACEHOLDER)
    return splice.edit(message, {"content": b"[" + b",".join(kept) + b"]"}, (), spans)


def _fold(message: dict[str, Any], dropped: dict[str, None]) -> bytes | None:
    """A system message in mid-list as the user text that older models know such words by."""
    content = message.get("content")
    texts = [content] if isinstance(content, str) else []
    if isinstance(content, list):
        for block in content:
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
                texts.append(block["text"])
            else:
                kind = block.get("type") if isinstance(block, dict) else None
                dropped[f"{str(kind)[:64]} in a system message"] = None
    dropped["messages of role system (sent as user text)"] = None
    text = "\n\n".join(text for text in texts if text.strip())
    if not text:
        return None
    text = f"<system-reminder>\n{text}\n</system-reminder>"
    return b'{"role":"user","content":[{"type":"text","text":%b}]}' % splice.dumps(text)


def edit_block(block: bytes, target: Target, dropped: dict[str, None]) -> bytes | None:
    """One content block for the target, the very object where nothing changes, ``None`` where it goes."""
    spans = splice.members(block)
    member = spans.get("type")
    kind = None if member is None else splice.loads(block[member.value : member.end])
    capabilities = target.capabilities
    if capabilities.thinking_blocks == "strip" and kind in ("thinking", "redacted_thinking"):
        dropped[f"{kind} blocks"] = None
        return None
    if kind == "thinking":
        return _signed(block, spans, "signature", "thinking", target, dropped)
    if kind == "redacted_thinking":
        return _redacted(block, spans, target, dropped)
    if kind == "search_result" and capabilities.search_results == "refused":
        dropped["search_result blocks (sent as text)"] = None
        return _search_text(splice.loads(block))
    if kind == "tool_result" and capabilities.search_results == "refused":
        return _tool_result(block, spans, target, dropped)
    if isinstance(kind, str) and is_server_block(kind) and capabilities.server_tools != "honoured":
        dropped["server tool blocks (sent as text)"] = None
        return _server_text(kind, splice.loads(block))
    return block


def _redacted(
    block: bytes, spans: Mapping[str, splice.Member], target: Target, dropped: dict[str, None]
) -> bytes | None:
    if not target.capabilities.redacted_thinking:
        dropped["redacted_thinking blocks"] = None
        return None
    return _signed(block, spans, "data", "redacted_thinking", target, dropped)


def _signed(
    block: bytes,
    spans: Mapping[str, splice.Member],
    name: str,
    kind: str,
    target: Target,
    dropped: dict[str, None],
) -> bytes | None:
    """
    A block of thinking: it goes only to whoever issued it. Where the upstream takes text that nobody signed, the text
    of a foreign one may go.

    :param name: the member that only its issuer can read.
    """
    member = spans.get(name)
    value = None if member is None else splice.loads(block[member.value : member.end])
    signature = value if isinstance(value, str) else ""
    signer = target.capabilities.thinking_signature
    if not signature:
        if signer == "anthropic":
            dropped[f"unsigned {kind} blocks"] = None
            return None
        return block if value == "" else splice.edit(block, {name: _EMPTY}, (), spans)
    if not envelope.is_envelope(signature):
        if signer == "anthropic":
            return block
        return _foreign(block, spans, kind, "anthropic", target, dropped)
    inner = envelope.unwrap(signature)
    if inner is None or inner.provider != signer:
        return _foreign(block, spans, kind, (envelope.origin(signature) or "another provider")[:64], target, dropped)
    return splice.edit(block, {name: splice.dumps(inner.signature)}, (), spans)


def _foreign(
    block: bytes,
    spans: Mapping[str, splice.Member],
    kind: str,
    issuer: str,
    target: Target,
    dropped: dict[str, None],
) -> bytes | None:
    """
    A block of thinking that another provider issued.

    :param issuer: the other provider.
    """
    capabilities = target.capabilities
    # Anthropic takes no thinking without a signature of its own.
    unsigned = capabilities.thinking_blocks == "sanitise" and capabilities.thinking_signature != "anthropic"
    if unsigned and kind == "thinking":
        member = spans.get("thinking")
        text = None if member is None else splice.loads(block[member.value : member.end])
        if isinstance(text, str) and text.strip():
            dropped[f"signatures of {issuer}"] = None
            return splice.edit(block, {"signature": _EMPTY}, (), spans)
    dropped[f"{kind} blocks of {issuer}"] = None
    return None


def _tool_result(
    block: bytes, spans: Mapping[str, splice.Member], target: Target, dropped: dict[str, None]
) -> bytes:
    member = spans.get("content")
    if member is None or block[member.value : member.value + 1] != b"[":
        return block
    parts = splice.elements(block[member.value : member.end])
    edited = [edit_block(part, target, dropped) if b"search_result" in part else part for part in parts]
    if all(new is old for new, old in zip(edited, parts, strict=True)):
        return block
    return splice.edit(
        block, {"content": b"[" + b",".join(part for part in edited if part is not None) + b"]"}, (), spans
    )


def _made_searches(blocks: list[bytes]) -> set[str]:
    """The ids of searches that another provider ran: their results hold nothing that Anthropic could read."""
    found = set()
    for block in blocks:
        if b"web_search_tool_result" in block and _MADE.search(block):
            value = splice.loads(block)
            id = value.get("tool_use_id")
            if value.get("type") == "web_search_tool_result" and isinstance(id, str):
                found.add(id)
    return found


def _without_made(block: bytes, ids: Collection[str], dropped: dict[str, None]) -> bytes:
    """A block without what only looks like Anthropic's: a foreign search as text, a text without such citations."""
    if b"srvtoolu_" not in block and not _MADE.search(block):
        return block
    value = splice.loads(block)
    kind = value.get("type")
    id = value.get("id") if kind == "server_tool_use" else value.get("tool_use_id")
    if kind in ("server_tool_use", "web_search_tool_result") and isinstance(id, str) and id in ids:
        dropped["searches of another provider (sent as text)"] = None
        return _server_text(kind, value)
    if kind == "text" and isinstance(value.get("citations"), list) and _MADE.search(splice.dumps(value["citations"])):
        dropped["citations of another provider"] = None
        return splice.edit(block, None, ("citations",))
    return block


def _search_text(block: dict[str, Any]) -> bytes:
    return _text_block(search_words(block), block.get("cache_control"))


def search_words(block: Mapping[str, Any]) -> str:
    """What a search result of the client's own says, as text."""
    lines = [value for name in ("title", "source") if isinstance(value := block.get(name), str) and value]
    content = block.get("content")
    texts = [
        part["text"]
        for part in (content if isinstance(content, list) else ())
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return "\n".join([*lines, *(["", *texts] if texts else [])])


def _server_text(kind: str, block: dict[str, Any]) -> bytes:
    return _text_block(server_words(kind, block), block.get("cache_control"))


def server_words(kind: str, block: Mapping[str, Any]) -> str:
    """What the model must know of a call that another provider ran; ids and encrypted content mean nothing here."""
    if kind in ("server_tool_use", "mcp_tool_use"):
        text = f"[{block.get('name', kind)}] {splice.dumps(block.get('input')).decode()}"
    else:
        text = f"[{kind}] {splice.dumps(_without_encrypted(block.get('content'))).decode()}"
    return text[:_RENDER_LIMIT]


def _without_encrypted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_encrypted(inner) for name, inner in value.items() if not name.startswith("encrypted")}
    if isinstance(value, list):
        return [_without_encrypted(inner) for inner in value]
    return value


def _text_block(text: str, cache_control: Any) -> bytes:
    block: dict[str, Any] = {"type": "text", "text": text if text.strip() else "..."}
    if cache_control is not None:
        block["cache_control"] = cache_control
    return splice.dumps(block)
