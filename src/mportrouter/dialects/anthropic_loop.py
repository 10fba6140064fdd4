"""
The open tool loop of a request: an assistant's calls whose results are the last thing said.

With budgeted thinking (``{"type":"enabled"}``) Anthropic wants the loop's last assistant turn to begin with its
thinking. Where another provider has answered in the loop, that thinking cannot be sent, and what Anthropic adds to the
loop after that has none either; so the rest of the loop is asked for without. What the person says next begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import splice
from ..interfaces import Target
from .anthropic_messages import edit_block

_NOTE = "thinking (the open tool loop's was another provider's)"
_DISABLED = b'{"type":"disabled"}'
#: Edits of the context that are refused without thinking.
_CLEARING = "clear_thinking_"
_THINKING = ("thinking", "redacted_thinking")


def pause_thinking(
    body: bytes,
    spans: Mapping[str, splice.Member],
    target: Target,
    replace: dict[str, bytes],
    drop: dict[str, None],
    dropped: dict[str, None],
) -> None:
    """
    Turn thinking off in a request to Anthropic whose open tool loop has lost its own.

    :param replace: see :func:`mportrouter.splice.edit`; added to, as is ``drop``.
    :param dropped: what was left out is added here.
    """
    thinking = spans.get("thinking")
    if thinking is None or "thinking" in drop:
        return
    try:
        value = splice.loads(body[thinking.value : thinking.end])
        if not isinstance(value, dict) or value.get("type") != "enabled":
            return
        messages = spans["messages"]
        if not _has_lost(splice.elements(body[messages.value : messages.end]), target):
            return
        replace["thinking"] = _DISABLED
        dropped[_NOTE] = None
        member = spans.get("context_management")
        if member is not None and "context_management" not in drop:
            value = replace.get("context_management", body[member.value : member.end])
            _stop_clearing(value, replace, drop, dropped)
    except splice.Malformed:
        return  # the provider judges it


def _has_lost(messages: list[bytes], target: Target) -> bool:
    """
    Whether the last assistant turn of the open tool loop begins without thinking, and some of the loop cannot be sent.

    Neighbours of one role are one turn, and messages of role ``system`` part no turns.
    """
    begins_bare = lost = answered = False
    turns = 0
    role = ""
    for message in reversed(messages):
        spans = splice.members(message)
        said_by = _value(message, spans.get("role"))
        if said_by == "system":
            continue
        if said_by != role:
            if said_by == "assistant" and not answered:
                break  # a person's words, or nothing, came after this turn: the loop does not reach back to it
            if role == "assistant":
                if not begins_bare:
                    return False
                answered = False
            role = said_by
            turns += said_by == "assistant"
        kept: list[Any] = []
        for block in _blocks(message, spans):
            kind = _value(block, splice.members(block).get("type"))
            if kind in _THINKING and edit_block(block, target, {}) is None:
                lost = True
            else:
                kept.append(kind)
        if said_by != "assistant":
            answered = answered or "tool_result" in kept
        elif turns == 1 and kept:
            begins_bare = kept[0] not in _THINKING
    return begins_bare and lost


def _stop_clearing(
    value: bytes, replace: dict[str, bytes], drop: dict[str, None], dropped: dict[str, None]
) -> None:
    """Leave out the edits of ``context_management`` that clear thinking."""
    spans = splice.members(value)
    member = spans.get("edits")
    if member is None:
        return
    edits = splice.elements(value[member.value : member.end])
    kept = []
    for edit in edits:
        kind = _value(edit, splice.members(edit).get("type"))
        if isinstance(kind, str) and kind.startswith(_CLEARING):
            dropped[f"context_management.{kind[:64]}"] = None
        else:
            kept.append(edit)
    if len(kept) == len(edits):
        return
    if kept or len(spans) > 1:
        replace["context_management"] = splice.edit(value, {"edits": b"[" + b",".join(kept) + b"]"}, (), spans)
    else:
        drop["context_management"] = None


def _blocks(message: bytes, spans: Mapping[str, splice.Member]) -> list[bytes]:
    """The blocks of a message; a text alone is one block."""
    member = spans.get("content")
    if member is None:
        return []
    if message[member.value : member.value + 1] != b"[":
        return [b'{"type":"text"}']
    return splice.elements(message[member.value : member.end])


def _value(source: bytes, member: splice.Member | None) -> Any:
    return None if member is None else splice.loads(source[member.value : member.end])
