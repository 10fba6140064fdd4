"""
Members of a request that an upstream must not see: inside members of the top level, and inside blocks and tools.

Each edit depends on the bytes of its own block alone, so that a history gives the same bytes on each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from .. import splice

_BILLING = "x-anthropic-billing-header:"
#: How deep blocks are looked for in blocks: a tool's result holds a document, which holds texts.
_DEPTH = 3
#: Members without which a block is none.
_NEEDED = frozenset(["type"])


class Spanned(Protocol):
    """What knows where the members of a body stand."""

    @property
    def spans(self) -> Mapping[str, splice.Member]: ...


def strip(
    body: bytes,
    name: str,
    member: splice.Member,
    fields: tuple[str, ...],
    replace: dict[str, bytes],
    drop: dict[str, None],
    dropped: dict[str, None],
) -> None:
    """
    Leave members out of a member of the top level, and that one where nothing is left of it.

    :param replace: see :func:`mportrouter.splice.edit`; added to, as is ``drop``.
    :param dropped: what was left out is added here.
    """
    value = body[member.value : member.end]
    try:
        inner = splice.members(value)
    except splice.Malformed:
        return
    gone = [field for field in fields if field in inner]
    if not gone:
        return
    dropped.update((f"{name}.{field}", None) for field in gone)
    if len(gone) == len(inner):
        drop[name] = None
    else:
        replace[name] = splice.edit(value, None, gone, inner)


def strip_blocks(
    body: bytes,
    seen: Spanned,
    fields: Collection[str],
    replace: dict[str, bytes],
    drop: Collection[str],
    dropped: dict[str, None],
) -> None:
    """
    Leave members out of content blocks, system blocks and tool definitions, never out of what a tool is called with.

    :param replace: what is to be replaced at the top level already; added to.
    """
    marks = {field: b'"%b"' % field.encode() for field in fields if field not in _NEEDED}
    if not any(mark in body for mark in marks.values()):
        return
    stripping = _Stripping(marks, dropped)
    edits = (("system", stripping.block), ("tools", stripping.tool), ("messages", stripping.message))
    for name, edit in edits:
        member = seen.spans.get(name)
        if member is None or name in drop:
            continue
        value = replace.get(name, body[member.value : member.end])
        new = stripping.each(value, edit)
        if new is not value:
            replace[name] = new


class _Stripping:
    """
    One walk through a request.

    :param marks: how each unwanted member's name is spelt.
    """

    def __init__(self, marks: Mapping[str, bytes], dropped: dict[str, None]) -> None:
        self._marks = marks
        self._dropped = dropped

    def _marked(self, value: bytes) -> bool:
        return any(mark in value for mark in self._marks.values())

    def each(self, array: bytes, edit: Callable[[bytes], bytes]) -> bytes:
        """Every element edited, the very object where nothing changes; a text in place of an array has no blocks."""
        if not array.startswith(b"[") or not self._marked(array):
            return array
        try:
            elements = splice.elements(array)
        except splice.Malformed:
            return array  # the provider judges it
        edited = []
        for element in elements:
            try:
                edited.append(edit(element) if element.startswith(b"{") and self._marked(element) else element)
            except splice.Malformed:
                edited.append(element)
        if all(new is old for new, old in zip(edited, elements, strict=True)):
            return array
        return b"[" + b",".join(edited) + b"]"

    def message(self, message: bytes) -> bytes:
        """One message: its blocks are edited, its own members stay."""
        spans = splice.members(message)
        member = spans.get("content")
        if member is None:
            return message
        content = message[member.value : member.end]
        new = self.each(content, self.block)
        return message if new is content else splice.edit(message, {"content": new}, (), spans)

    def tool(self, tool: bytes) -> bytes:
        """One tool: its schema is the client's."""
        return self._edited(tool, splice.members(tool), "tools", {})

    def block(self, block: bytes, depth: int = _DEPTH) -> bytes:
        """One block, and the blocks in it."""
        spans = splice.members(block)
        replace: dict[str, bytes] = {}
        for name in ("content", "source") if depth else ():
            member = spans.get(name)
            if member is None:
                continue
            value = block[member.value : member.end]
            if not self._marked(value):
                continue
            if name == "content":
                new = self.each(value, lambda part: self.block(part, depth - 1))
            else:
                new = self._source(value, depth)
            if new is not value:
                replace[name] = new
        return self._edited(block, spans, "content", replace)

    def _source(self, source: bytes, depth: int) -> bytes:
        """Where a document comes from: it may hold blocks."""
        if not source.startswith(b"{"):
            return source
        spans = splice.members(source)
        member = spans.get("content")
        if member is None:
            return source
        value = source[member.value : member.end]
        new = self.each(value, lambda part: self.block(part, depth - 1))
        return source if new is value else splice.edit(source, {"content": new}, (), spans)

    def _edited(
        self, value: bytes, spans: Mapping[str, splice.Member], place: str, replace: Mapping[str, bytes]
    ) -> bytes:
        gone = [field for field in self._marks if field in spans]
        for field in gone:
            self._dropped[f"{place}[].{field}"] = None
        return splice.edit(value, replace, gone, spans) if gone or replace else value


def without_billing(
    body: bytes, member: splice.Member, replace: dict[str, bytes], drop: dict[str, None], dropped: dict[str, None]
) -> None:
    """Leave out the line that Claude Code puts first for its own provider: it changes with each of its requests."""
    if body.find(_BILLING.encode(), member.value, member.end) < 0:
        return
    value = body[member.value : member.end]
    name = "system." + _BILLING[:-1]
    if value.startswith(b'"'):
        text = splice.loads(value)
        if not text.startswith(_BILLING):
            return
        rest = text.partition("\n")[2].lstrip("\n")
        if rest.strip():
            replace["system"] = splice.dumps(rest)
        else:
            drop["system"] = None
        dropped[name] = None
        return
    try:
        blocks = splice.elements(value)
        first = splice.members(blocks[0]) if blocks else {}
    except splice.Malformed:
        return
    if not blocks or not text_of(blocks[0], first.get("text")).startswith(_BILLING):
        return
    if len(blocks) == 1:
        drop["system"] = None
    else:
        replace["system"] = b"[" + b",".join(blocks[1:]) + b"]"
    dropped[name] = None


def text_of(source: bytes, member: splice.Member | None) -> str:
    """The text that a member holds, ``""`` where it holds none."""
    if member is None:
        return ""
    value = splice.loads(source[member.value : member.end])
    return value if isinstance(value, str) else ""
