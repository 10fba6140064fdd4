"""
The items of a request's ``input``: what is special in them, and edits where an upstream would refuse them.

Each edit depends on the item itself alone: the same history gives the same bytes on each turn. Items without anything
special keep their bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import envelope, splice
from ..interfaces import Inexpressible, Target

#: Whose ``encrypted_content`` travels without an envelope: what a client brings back bare was issued there.
NATIVE = "openai"

_NOTHING = msgspec.Raw(b"")
_NEEDED = ((b"input_image", "input_image", "images"), (b"input_file", "input_file", "documents"))
_BREAKPOINT = "prompt_cache_breakpoint"


class _Part(msgspec.Struct, gc=False):
    type: str = ""


class _Item(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NOTHING
    output: msgspec.Raw = _NOTHING


_items = msgspec.json.Decoder(list[_Item]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def needs(raw: bytes, found: set[str]) -> None:
    """
    Find pictures and documents, in messages and in results of tools.

    :param raw: the JSON text of ``input``.
    :param found: names of :class:`mportrouter.settings.Capabilities` columns are added here.
    """
    wanted = [(kind, column) for letters, kind, column in _NEEDED if letters in raw]
    if not wanted or not raw.startswith(b"["):
        return
    kinds = _kinds(raw)
    found.update(column for kind, column in wanted if kind in kinds)


def _kinds(raw: bytes) -> set[Any]:
    """The types of all parts of all items."""
    kinds: set[Any] = set()
    try:
        for item in _items(raw):
            for member in (item.content, item.output):
                if bytes(memoryview(member)[:1]) == b"[":
                    kinds.update(part.type for part in _parts(member))
    except _REFUSED:
        items = splice.loads(raw)
        for each in items if isinstance(items, list) else ():
            for name in ("content", "output"):
                parts = each.get(name) if isinstance(each, dict) else None
                for part in parts if isinstance(parts, list) else ():
                    kind = part.get("type") if isinstance(part, dict) else None
                    if isinstance(kind, str):
                        kinds.add(kind)
    return kinds


def edit(raw: bytes, target: Target, dropped: dict[str, None]) -> bytes | None:
    """
    The input for a target.

    :param raw: the JSON text of ``input``.
    :param dropped: what was left out is added here.
    :returns: the new text, or ``None`` where nothing changes.
    :raises Inexpressible: an item builds on what this upstream does not keep.
    """
    capabilities = target.capabilities
    alone = capabilities.stateless_only
    if not raw.startswith(b"["):
        if not alone or not raw.startswith(b'"'):
            return None
        return b'[{"type":"message","role":"user","content":[{"type":"input_text","text":%b}]}]' % raw
    marks = _BREAKPOINT in capabilities.strip_fields and _BREAKPOINT.encode() in raw
    systems = alone and capabilities.system_role == "developer" and b'"system"' in raw
    references = alone and b'"item_reference"' in raw
    reasons = b'"reasoning"' in raw and (
        alone or capabilities.thinking_signature != NATIVE or envelope.PREFIX.encode() in raw
    )
    if not (marks or systems or references or reasons):
        return None
    try:
        items = splice.elements(raw)
    except splice.Malformed:
        return None
    out: list[bytes] = []
    changed = False
    for item in items:
        new: bytes | None = item
        try:
            spans = splice.members(item)
            kind = _value(item, spans.get("type"))
            if kind == "reasoning":
                if reasons:
                    new = _reasoning(item, spans, target, dropped)
            elif kind == "item_reference":
                if references:
                    raise Inexpressible("`item_reference` needs an upstream that keeps items, and this one does not")
            elif systems and _value(item, spans.get("role")) == "system":
                new = splice.edit(item, {"role": b'"developer"'}, (), spans)
            if marks and new is not None and _BREAKPOINT.encode() in new:
                new = _unmarked(new, dropped)
        except (splice.Malformed, RecursionError):
            new = item  # the provider judges it
        if new is not item:
            changed = True
        if new is not None:
            out.append(new)
    return b"[" + b",".join(out) + b"]" if changed else None


def _reasoning(item: bytes, spans: dict[str, splice.Member], target: Target, dropped: dict[str, None]) -> bytes | None:
    """A reasoning item: its encrypted content goes only to whoever issued it, under the id it was issued with."""
    signer = target.capabilities.thinking_signature
    value = _value(item, spans.get("encrypted_content"))
    if not isinstance(value, str) or not value:
        # Where reasoning is bare text, that is all there is to it.
        if target.capabilities.stateless_only and target.capabilities.reasoning_echo not in ("required", "allowed"):
            dropped["reasoning items without encrypted_content"] = None
            return None
        return item
    if not envelope.is_envelope(value):
        if signer == NATIVE:
            return item
        dropped[f"reasoning items of {NATIVE}"] = None
        return None
    opaque = envelope.opened(value)
    if opaque is None or opaque.origin != signer or opaque.kind == "text":
        origin = envelope.origin(value) or "another provider"
        dropped[f"reasoning items of {origin[:64]}"] = None
        return None
    replace = {"encrypted_content": splice.dumps(opaque.value)}
    if opaque.item_id is not None:
        replace["id"] = splice.dumps(opaque.item_id)
    # Another id than the original one is refused; none is not.
    return splice.edit(item, replace, () if opaque.item_id is not None else ("id",), spans)


def _unmarked(item: bytes, dropped: dict[str, None]) -> bytes:
    """The item without marks of the prompt cache on its parts."""
    spans = splice.members(item)
    replace: dict[str, bytes] = {}
    for name in ("content", "output"):
        member = spans.get(name)
        if member is None or item[member.value : member.value + 1] != b"[":
            continue
        parts = splice.elements(item[member.value : member.end])
        new = [splice.edit(part, None, (_BREAKPOINT,)) if _BREAKPOINT.encode() in part else part for part in parts]
        if new != parts:
            replace[name] = b"[" + b",".join(new) + b"]"
            dropped[_BREAKPOINT] = None
    return splice.edit(item, replace, (), spans) if replace else item


def _value(source: bytes, member: splice.Member | None) -> Any:
    return None if member is None else splice.loads(source[member.value : member.end])
