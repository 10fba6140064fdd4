"""
Requests of the Anthropic Messages dialect: a cheap look for routing, and the body for an upstream.

A look reads every byte twice at most, without building what nobody asks for: once for the top level, once for the
types of the blocks. What it learns is kept on the :class:`AnthropicLook`, so that :func:`prepare` finds out in no time
whether anything has to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from .. import envelope, splice
from ..interfaces import Look, Prepared, RoutingText, Target
from ..toplevel import BodyLook, integer, opened, unreadable
from . import anthropic_loop, anthropic_members, anthropic_messages
from .anthropic_members import text_of
from .anthropic_turn import last_user_text, might_hold_command, routing_text

__all__ = [
    "AnthropicLook",
    "RoutingText",
    "last_user_text",
    "look",
    "might_hold_command",
    "prepare",
    "routing_text",
    "session",
]

#: Characters of a conversation's id that are kept.
_SESSION_LIMIT = 512

#: Typed tools that the client runs (dialect documentation, "Anthropic-defined tools").
_CLIENT_RUN = ("bash_", "text_editor_", "memory_", "computer_", "browser_toolset_")
_NOTHING = msgspec.Raw(b"")


class _Part(msgspec.Struct, gc=False):
    type: str = ""


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    signature: str | None = None
    content: msgspec.Raw = _NOTHING


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: str | list[_Block] | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


class _Choice(msgspec.Struct, gc=False):
    type: str | None = None
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_messages = msgspec.json.Decoder(list[_Message]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_tools = msgspec.json.Decoder(list[_Tool]).decode
_choice = msgspec.json.Decoder(_Choice).decode

_NEEDED_BLOCKS = {"image": "images", "document": "documents", "search_result": "search_results"}


@attrs.define(slots=True)
class AnthropicLook(BodyLook):
    """
    A look that remembers where things are.

    :param body: the very bytes that were looked at.
    :param values: the members of the top level, JSON texts by name.
    :param marks: indexes of messages by what is special in them: ``system`` (that role), ``signed``, ``unsigned``,
        ``wrapped`` and ``redacted`` thinking, ``server`` (blocks of tools that the provider ran), ``image``,
        ``document``, ``search_result``.
    :param server_tools: whether ``tools`` offers some that the provider is to run.
    """

    marks: Mapping[str, list[int]] = attrs.field(factory=dict, repr=False, kw_only=True)
    server_tools: bool = attrs.field(default=False, kw_only=True)


def look(body: bytes) -> AnthropicLook:
    """
    See :meth:`mportrouter.interfaces.IDialect.look`.

    :raises RouterError: ``BAD_REQUEST``.
    """
    values, spans, model, stream = opened(body)
    needs: set[str] = set()
    marks: dict[str, list[int]] = {}
    server_tools = False
    try:
        if (member := values.get("messages")) is not None:
            marks = _mark(member)
            if marks:
                needs.update(column for kind, column in _NEEDED_BLOCKS.items() if kind in marks)
        if (member := values.get("tools")) is not None:
            server_tools = _offers_server_tools(member)
            if server_tools:
                needs.add("server_tools")
        if (member := values.get("tool_choice")) is not None:
            choice = _tool_choice(member)
            if choice.type in ("any", "tool"):
                needs.add("tool_choice_force")
            if choice.disable_parallel_tool_use:
                needs.add("parallel_off")
        if (member := values.get("stop_sequences")) is not None:
            value = bytes(member)
            if value != b"null" and value[1:-1].strip():
                needs.add("stop_sequences")
        if (member := values.get("output_config")) is not None:
            value = bytes(member)
            if value.startswith(b"{") and b"format" in value:
                inner = splice.members(value).get("format")
                if inner is not None and value[inner.value : inner.end] != b"null":
                    needs.add("structured_output")
    except splice.Malformed as error:
        raise unreadable(error) from None
    return AnthropicLook(
        model,
        stream,
        frozenset(needs),
        integer(values, "max_tokens"),
        len(body),
        body=body,
        values=values,
        marks=marks,
        server_tools=server_tools,
        spans=spans,
    )


def _mark(raw: msgspec.Raw | memoryview) -> dict[str, list[int]]:
    marks: dict[str, list[int]] = {}
    try:
        messages = _messages(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _mark_slowly(splice.loads(bytes(raw)))
    for index, message in enumerate(messages):
        if message.role == "system":
            marks.setdefault("system", []).append(index)
        content = message.content
        if not isinstance(content, list):
            continue
        for block in content:
            kind = block.type
            if kind == "text" or kind == "tool_use":
                continue
            if kind == "tool_result":
                inner = memoryview(block.content)
                if inner.nbytes and inner[0] == 0x5B:
                    _mark_parts(marks, index, inner)
                continue
            signature = block.signature or "" if kind == "thinking" else ""
            _mark_block(marks, index, kind, signature)
    return marks


def _mark_parts(marks: dict[str, list[int]], index: int, raw: memoryview) -> None:
    try:
        kinds: list[Any] = [part.type for part in _parts(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kinds = [part.get("type") for part in splice.loads(bytes(raw)) if isinstance(part, dict)]
    for kind in kinds:
        if isinstance(kind, str) and kind in _NEEDED_BLOCKS:
            marks.setdefault(kind, []).append(index)


def _mark_block(marks: dict[str, list[int]], index: int, kind: Any, signature: str) -> None:
    if not isinstance(kind, str):
        return  # the provider judges it
    if kind == "thinking":
        if not signature:
            name = "unsigned"
        else:
            name = "wrapped" if envelope.is_envelope(signature) else "signed"
    elif kind == "redacted_thinking":
        name = "redacted"
    elif kind in _NEEDED_BLOCKS:
        name = kind
    elif anthropic_messages.is_server_block(kind):
        name = "server"
    else:
        return
    marks.setdefault(name, []).append(index)


def _mark_slowly(messages: Any) -> dict[str, list[int]]:
    """The same for messages that do not fit the expected shape: what can be seen is marked, the provider judges."""
    marks: dict[str, list[int]] = {}
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict):
            continue
        if message.get("role") == "system":
            marks.setdefault("system", []).append(index)
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            if not isinstance(block, dict):
                continue
            signature = block.get("signature")
            _mark_block(marks, index, block.get("type"), signature if isinstance(signature, str) else "")
            inner = block.get("content")
            if block.get("type") == "tool_result" and isinstance(inner, list):
                for part in inner:
                    kind = part.get("type") if isinstance(part, dict) else None
                    if isinstance(kind, str) and kind in _NEEDED_BLOCKS:
                        marks.setdefault(kind, []).append(index)
    return marks


def _offers_server_tools(raw: msgspec.Raw | memoryview) -> bool:
    try:
        kinds: list[Any] = [tool.type for tool in _tools(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        tools = splice.loads(bytes(raw))
        kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return any(_is_server_tool(kind) for kind in kinds)


def _is_server_tool(kind: Any) -> bool:
    return isinstance(kind, str) and kind not in ("", "custom") and not kind.startswith(_CLIENT_RUN)


def _tool_choice(raw: msgspec.Raw | memoryview) -> _Choice:
    try:
        return _choice(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Choice()


# ------------------------------------------------------------------------------------------ the body for an upstream


def prepare(body: bytes, look_: Look, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.prepare`."""
    seen = look_ if isinstance(look_, AnthropicLook) and look_.body is body else look(body)
    values, capabilities = seen.values, target.capabilities
    replace: dict[str, bytes] = {}
    drop: dict[str, None] = {}
    dropped: dict[str, None] = {}
    if target.model != seen.model:
        replace["model"] = splice.dumps(target.model)
    inner = {"thinking": capabilities.strip_thinking_fields, "output_config": capabilities.strip_output_config_fields}
    for name in capabilities.strip_fields:
        if name in values:
            if name not in ("model", "messages"):
                drop[name] = dropped[name] = None
        elif "." in name:
            outer, _, field = name.partition(".")
            inner[outer] = (*inner.get(outer, ()), field)
    for name, fields in inner.items():
        if fields and name in values and name not in drop:
            anthropic_members.strip(body, name, seen.spans[name], fields, replace, drop, dropped)
    if "tools" in values and "tools" not in drop:
        _edit_tools(seen, target, replace, drop, dropped)
    if not capabilities.billing_header and "system" in values and "system" not in drop:
        anthropic_members.without_billing(body, seen.spans["system"], replace, drop, dropped)
    if seen.marks:
        member = seen.spans["messages"]
        edited = anthropic_messages.edit(body[member.value : member.end], seen.marks, target, dropped)
        if edited is not None:
            replace["messages"] = edited
            if capabilities.thinking_signature == "anthropic":
                anthropic_loop.pause_thinking(body, seen.spans, target, replace, drop, dropped)
    if capabilities.strip_block_fields:
        anthropic_members.strip_blocks(body, seen, capabilities.strip_block_fields, replace, drop, dropped)
    if not replace and not drop:
        return Prepared(body)
    return Prepared(splice.edit(body, replace, drop, seen.spans), tuple(dropped))


def _edit_tools(
    seen: AnthropicLook,
    target: Target,
    replace: dict[str, bytes],
    drop: dict[str, None],
    dropped: dict[str, None],
) -> None:
    fields = target.capabilities.strip_tool_fields
    without_server_tools = seen.server_tools and target.capabilities.server_tools != "honoured"
    if not fields and not without_server_tools:
        return
    body, spans = seen.body, seen.spans
    member = spans["tools"]
    try:
        tools = splice.elements(body[member.value : member.end])
    except splice.Malformed:
        return
    kept: list[bytes] = []
    removed: set[str] = set()
    changed = False
    for tool in tools:
        try:
            inner = splice.members(tool)
        except splice.Malformed:
            kept.append(tool)
            continue
        if without_server_tools and _is_server_tool(text_of(tool, inner.get("type"))):
            name = text_of(tool, inner.get("name")) or text_of(tool, inner.get("type"))
            removed.add(name)
            dropped[f"tools.{name[:64]}"] = None
            changed = True
            continue
        gone = [field for field in fields if field in inner]
        if gone:
            dropped.update((f"tools[].{field}", None) for field in gone)
            tool = splice.edit(tool, None, gone, inner)
            changed = True
        kept.append(tool)
    if not changed:
        return
    if kept:
        replace["tools"] = b"[" + b",".join(kept) + b"]"
    else:
        drop["tools"] = None
    choice = spans.get("tool_choice")
    if choice is not None and "tool_choice" not in drop:
        wanted = _tool_choice(memoryview(body)[choice.value : choice.end])
        # A choice without tools, or of a tool that is not offered, is refused by every provider.
        if not kept or (wanted.type == "tool" and wanted.name in removed):
            drop["tool_choice"] = dropped["tool_choice"] = None


# ------------------------------------------------------------------------------------------ the conversation's id


class _Metadata(msgspec.Struct, gc=False):
    user_id: str = ""


class _WithMetadata(msgspec.Struct, gc=False):
    metadata: _Metadata | None = None


class _UserId(msgspec.Struct, gc=False):
    session_id: str = ""


_with_metadata = msgspec.json.Decoder(_WithMetadata).decode
_user_id = msgspec.json.Decoder(_UserId).decode


def session(headers: Mapping[bytes, bytes], body: bytes) -> str:
    """
    See :meth:`mportrouter.interfaces.IDialect.session`. Claude Code names its conversation in a header and, as JSON
    text, in ``metadata.user_id``; other clients put any text there.

    :param headers: by lower-case name.
    """
    given = headers.get(b"x-claude-code-session-id", b"").strip()
    if given:
        return given[:_SESSION_LIMIT].decode("latin-1")
    if b'"user_id"' not in body:
        return ""
    try:
        metadata = _with_metadata(body).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = "" if metadata is None else metadata.user_id
    return (_named_in(text) or text)[:_SESSION_LIMIT]


def _named_in(user_id: str) -> str:
    """The conversation that the JSON text in ``metadata.user_id`` names, ``""`` for any other text."""
    if not user_id.startswith("{"):
        return ""
    try:
        return _user_id(user_id).session_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""  # a text that only looks like JSON is as good an id


def conversation_in(user_id: str) -> str | None:
    """
    The conversation that Claude Code names in ``metadata.user_id``, or ``None`` where the text names only a person.

    Its newer versions write JSON, older ones ``user_…_account_…_session_…``.
    """
    named = _named_in(user_id)
    if not named and "_session_" in user_id:
        named = user_id.rpartition("_session_")[2]
    return named[:_SESSION_LIMIT] or None
