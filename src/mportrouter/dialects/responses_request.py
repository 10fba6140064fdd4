"""
Requests of the OpenAI Responses dialect: a cheap look for routing, and the body for an upstream of the same dialect.

A look reads the top level once. What stands inside ``input`` is only read where its bytes can hold what is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from .. import splice
from ..interfaces import Inexpressible, Look, Prepared, Target
from ..settings import Capabilities
from ..toplevel import BodyLook, integer, opened
from . import responses_input

#: Characters of a conversation's id that are kept.
_SESSION_LIMIT = 512
#: Header fields in which clients name their conversation, the most telling first.
_SESSION_FIELDS = (b"session-id", b"session_id", b"thread-id", b"x-session-id", b"conversation_id")

#: Tools that the provider runs itself, by the beginnings of their types.
HOSTED = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp")
#: What an upstream without memory cannot go on from.
STATEFUL = ("previous_response_id", "conversation", "prompt")
_ENCRYPTED = "reasoning.encrypted_content"


class _Typed(msgspec.Struct, gc=False):
    type: str = ""


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


class _Format(msgspec.Struct, gc=False):
    type: str | None = None


class _Text(msgspec.Struct, gc=False):
    format: _Format | None = None


class _Cache(msgspec.Struct, gc=False):
    prompt_cache_key: str | None = None


_tools = msgspec.json.Decoder(list[_Tool]).decode
_typed = msgspec.json.Decoder(_Typed).decode
_text = msgspec.json.Decoder(_Text).decode
_cache = msgspec.json.Decoder(_Cache).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@attrs.define(slots=True)
class ResponsesLook(BodyLook):
    """
    A look that remembers where things are.

    :param body: the very bytes that were looked at.
    :param values: the members of the top level, JSON texts by name.
    """



def look(body: bytes) -> ResponsesLook:
    """
    See :meth:`mportrouter.interfaces.IDialect.look`.

    :raises RouterError: ``BAD_REQUEST``.
    """
    values, spans, model, stream = opened(body)
    needs: set[str] = set()
    if (member := values.get("input")) is not None:
        responses_input.needs(bytes(member), needs)
    if (member := values.get("tools")) is not None and any(map(is_hosted, _tool_types(member))):
        needs.add("server_tools")
    if (member := values.get("tool_choice")) is not None and _forces(bytes(member)):
        needs.add("tool_choice_force")
    # Without tools it says nothing.
    if bytes(values.get("parallel_tool_calls", b"")) == b"false" and _is_given(values, "tools"):
        needs.add("parallel_off")
    if (member := values.get("text")) is not None and _is_formatted(member):
        needs.add("structured_output")
    return ResponsesLook(
        model,
        stream,
        frozenset(needs),
        integer(values, "max_output_tokens"),
        len(body),
        body=body,
        values=values,
        spans=spans,
    )


def _is_given(values: Mapping[str, msgspec.Raw | memoryview], name: str) -> bool:
    return bytes(values.get(name, b"null")) not in (b"null", b"[]")


def is_hosted(kind: Any) -> bool:
    """Whether tools of this type are run by the provider."""
    return isinstance(kind, str) and kind.startswith(HOSTED)


def _tool_types(member: msgspec.Raw | memoryview) -> list[Any]:
    try:
        return [tool.type for tool in _tools(member)]
    except _REFUSED:
        tools = splice.loads(bytes(member))
        return [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _forces(choice: bytes) -> bool:
    if not choice.startswith(b"{"):
        return choice == b'"required"'
    try:
        value = splice.loads(choice)
    except splice.Malformed:
        return False
    return value.get("mode") == "required" if value.get("type") == "allowed_tools" else True


def _is_formatted(member: msgspec.Raw | memoryview) -> bool:
    try:
        found = _text(member).format
    except _REFUSED:
        return False
    return found is not None and found.type in ("json_schema", "json_object")


# ------------------------------------------------------------------------------------------ the body for an upstream


def prepare(body: bytes, look_: Look, target: Target) -> Prepared:
    """
    See :meth:`mportrouter.interfaces.IDialect.prepare`.

    :raises Inexpressible: the upstream keeps nothing, and the request builds on what was kept.
    """
    seen = look_ if isinstance(look_, ResponsesLook) and look_.body is body else look(body)
    values, capabilities = seen.values, target.capabilities
    path = b"" if capabilities.generate_path is None else capabilities.generate_path.encode()
    replace: dict[str, bytes] = {}
    drop: dict[str, None] = {}
    dropped: dict[str, None] = {}
    if target.model != seen.model:
        replace["model"] = splice.dumps(target.model)
    if capabilities.stateless_only:
        for name in STATEFUL:
            if bytes(values.get(name, b"null")) != b"null":
                raise Inexpressible(f"`{name}` needs an upstream that keeps conversations, and this one does not")
    for name in capabilities.strip_fields:
        if name in values and name not in ("model", "input"):
            drop[name] = None
            if bytes(values[name]) != b"null":
                dropped[name] = None
    if (member := values.get("input")) is not None:
        edited = responses_input.edit(bytes(member), target, dropped)
        if edited is not None:
            replace["input"] = edited
    if "tools" in values and "tools" not in drop:
        _edit_tools(seen, target, replace, drop, dropped)
    if capabilities.stateless_only:
        _without_memory(values, capabilities, replace, drop, dropped)
    if capabilities.stream_only and not seen.stream:
        replace["stream"] = b"true"
    if not replace and not drop:
        return Prepared(body, path=path)
    return Prepared(splice.edit(body, replace, drop, seen.spans), tuple(dropped), path)


def _without_memory(
    values: Mapping[str, msgspec.Raw | memoryview],
    capabilities: Capabilities,
    replace: dict[str, bytes],
    drop: dict[str, None],
    dropped: dict[str, None],
) -> None:
    """What an upstream that keeps nothing insists on, but for members that it does not know at all."""
    unknown = capabilities.strip_fields
    if "store" not in unknown and bytes(values.get("store", b"")) != b"false":
        replace["store"] = b"false"
        if bytes(values.get("store", b"")) == b"true":
            dropped["store=false"] = None
    if bytes(values.get("background", b"")) == b"true":
        drop["background"] = dropped["background"] = None
    raw = bytes(values.get("input", b""))
    # Codex's newest models get their instructions and tools as items of the input, and the members not at all.
    elsewhere = "instructions" in unknown or b'"additional_tools"' in raw
    if not elsewhere and bytes(values.get("instructions", b"null")) == b"null":
        replace["instructions"] = b'""'
    if "include" in unknown or capabilities.reasoning_kind == "none":
        return
    include = bytes(values.get("include", b""))
    try:
        asked = splice.loads(include) if include else []
    except splice.Malformed:
        return  # the provider judges it
    if asked is None or (isinstance(asked, list) and _ENCRYPTED not in asked):
        replace["include"] = splice.dumps([*(asked or []), _ENCRYPTED])


def _edit_tools(
    seen: ResponsesLook,
    target: Target,
    replace: dict[str, bytes],
    drop: dict[str, None],
    dropped: dict[str, None],
) -> None:
    capabilities = target.capabilities
    fields = capabilities.strip_tool_fields
    without_hosted = "server_tools" in seen.needs and capabilities.server_tools != "honoured"
    if not (fields or without_hosted or capabilities.stateless_only):
        return
    try:
        tools = splice.elements(bytes(seen.values["tools"]))
    except splice.Malformed:
        return
    kept: list[bytes] = []
    removed: set[str] = set()
    changed = False
    for tool in tools:
        try:
            spans = splice.members(tool)
            kind = splice.loads(tool[spans["type"].value : spans["type"].end]) if "type" in spans else None
        except splice.Malformed:
            kept.append(tool)
            continue
        if without_hosted and isinstance(kind, str) and is_hosted(kind):
            removed.add(kind)
            dropped[f"tools.{kind[:64]}"] = None
            changed = True
            continue
        gone = [field for field in fields if field in spans]
        if gone:
            dropped.update((f"tools[].{field}", None) for field in gone)
            tool = splice.edit(tool, None, gone, spans)
            changed = True
        if capabilities.stateless_only:
            loose = _loose(tool, kind)
            changed = changed or loose is not tool
            tool = loose
        kept.append(tool)
    if not changed:
        return
    if kept:
        replace["tools"] = b"[" + b",".join(kept) + b"]"
    else:
        drop["tools"] = None
    if removed and "tool_choice" in seen.values and "tool_choice" not in drop:
        choice = bytes(seen.values["tool_choice"])
        forced = _choice_type(choice) if choice.startswith(b"{") else ""
        if not kept or forced in removed:
            # A choice of a tool that is not offered is refused; and an answer from memory is none.
            if _forces(choice):
                raise Inexpressible("`tool_choice` forces a tool that this upstream does not have")
            drop["tool_choice"] = dropped["tool_choice"] = None


def _choice_type(choice: bytes) -> str:
    try:
        return _typed(choice).type
    except _REFUSED:
        return ""


def _loose(tool: bytes, kind: Any) -> bytes:
    """
    A function, or a namespace of some, that says ``strict: false`` where it said nothing: without it optional
    parameters become required ones.
    """
    try:
        spans = splice.members(tool)
        if kind == "function":
            member = spans.get("strict")
            if member is None or tool[member.value : member.end] == b"null":
                return splice.edit(tool, {"strict": b"false"}, (), spans)
        elif kind == "namespace" and "tools" in spans:
            inner = splice.elements(tool[spans["tools"].value : spans["tools"].end])
            loose = [_loose(each, "function") if _choice_type(each) == "function" else each for each in inner]
            if any(new is not old for new, old in zip(loose, inner, strict=True)):
                return splice.edit(tool, {"tools": b"[" + b",".join(loose) + b"]"}, (), spans)
    except splice.Malformed:
        pass  # the provider judges it
    return tool


# ------------------------------------------------------------------------------------------ the conversation's id


def session(headers: Mapping[bytes, bytes], body: bytes) -> str:
    """
    See :meth:`mportrouter.interfaces.IDialect.session`. Codex names its conversation in header fields and, as do other
    clients, in ``prompt_cache_key``.

    :param headers: by lower-case name.
    """
    for name in _SESSION_FIELDS:
        given = headers.get(name, b"").strip()
        if given:
            return given[:_SESSION_LIMIT].decode("latin-1")
    if b'"prompt_cache_key"' not in body:
        return ""
    try:
        return (_cache(body).prompt_cache_key or "")[:_SESSION_LIMIT]
    except _REFUSED:
        return ""
