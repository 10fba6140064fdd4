"""
Requests of the Chat dialect: a cheap look for routing, and the body for an upstream of the same dialect.

A look reads the top level once and of the messages their roles; parts are read only where a message has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from .. import splice
from ..interfaces import Look, Prepared, Target
from ..toplevel import BodyLook, integer, opened, unreadable
from . import chat_messages

#: Characters of a conversation's id that are kept.
_SESSION_LIMIT = 512
#: Header fields in which clients name their conversation, the most telling first.
_SESSION_FIELDS = (b"x-session-id", b"session-id", b"session_id", b"x-session-affinity", b"conversation_id")
#: Members of the body that do.
_SESSION_MEMBERS = ("prompt_cache_key", "safety_identifier", "user")

_NOTHING = msgspec.Raw(b"")
_NEEDED_PARTS = {"image_url": "images", "file": "documents"}


class _Part(msgspec.Struct, gc=False):
    type: str = ""


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = _NOTHING


class _Format(msgspec.Struct, gc=False):
    type: str | None = None


class _Options(msgspec.Struct, gc=False):
    include_usage: bool | None = None


_messages = msgspec.json.Decoder(list[_Message]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_format = msgspec.json.Decoder(_Format).decode
_options = msgspec.json.Decoder(_Options).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@attrs.define(slots=True)
class ChatLook(BodyLook):
    """
    A look that remembers where things are.

    :param body: the very bytes that were looked at.
    :param values: the members of the top level, JSON texts by name.
    :param developer: whether a message has the role ``developer``.
    :param usage: whether a stream shall tell its usage.
    """

    developer: bool = attrs.field(default=False, kw_only=True)
    usage: bool = attrs.field(default=False, kw_only=True)


def look(body: bytes) -> ChatLook:
    """
    See :meth:`mportrouter.interfaces.IDialect.look`.

    :raises RouterError: ``BAD_REQUEST``.
    """
    values, spans, model, stream = opened(body)
    needs: set[str] = set()
    try:
        developer = _look_at_messages(values.get("messages"), needs)
    except splice.Malformed as error:
        raise unreadable(error) from None
    _look_at_options(values, needs)
    return ChatLook(
        model,
        stream,
        frozenset(needs),
        _limit(values),
        len(body),
        body=body,
        values=values,
        developer=developer,
        usage=_wants_usage(values.get("stream_options")),
        spans=spans,
    )


def _limit(values: Mapping[str, msgspec.Raw | memoryview]) -> int | None:
    """The newer name counts where both are there."""
    limit = integer(values, "max_completion_tokens")
    return integer(values, "max_tokens") if limit is None else limit


def _look_at_messages(raw: msgspec.Raw | memoryview | None, needs: set[str]) -> bool:
    """:returns: whether there are messages of role ``developer``."""
    if raw is None:
        return False
    developer = False
    try:
        for message in _messages(raw):
            developer = developer or message.role == "developer"
            content = memoryview(message.content)
            if content.nbytes and content[0] == 0x5B:
                for part in _parts(content):
                    if part.type in _NEEDED_PARTS:
                        needs.add(_NEEDED_PARTS[part.type])
        return developer
    except _REFUSED:
        pass
    messages = splice.loads(bytes(raw))
    for found in messages if isinstance(messages, list) else ():
        if isinstance(found, dict):
            developer = developer or found.get("role") == "developer"
            parts = found.get("content")
            for inner in parts if isinstance(parts, list) else ():
                kind = inner.get("type") if isinstance(inner, dict) else None
                if isinstance(kind, str) and kind in _NEEDED_PARTS:
                    needs.add(_NEEDED_PARTS[kind])
    return developer


def _look_at_options(values: Mapping[str, msgspec.Raw | memoryview], needs: set[str]) -> None:
    if (member := values.get("stop")) is not None and bytes(member).strip(b'"[] \t\r\n') not in (b"", b"null"):
        needs.add("stop_sequences")
    for name in ("tool_choice", "function_call"):
        if (member := values.get(name)) is not None and _forces(bytes(member)):
            needs.add("tool_choice_force")
    if (member := values.get("parallel_tool_calls")) is not None and bytes(member) == b"false":
        needs.add("parallel_off")
    if (member := values.get("web_search_options")) is not None and bytes(member) != b"null":
        needs.add("server_tools")
    if (member := values.get("response_format")) is not None:
        try:
            if _format(member).type in ("json_schema", "json_object"):
                needs.add("structured_output")
        except _REFUSED:
            pass  # null, or the provider judges it


def _forces(choice: bytes) -> bool:
    if not choice.startswith(b"{"):
        return choice == b'"required"'
    try:
        value = splice.loads(choice)
    except splice.Malformed:
        return False
    if value.get("type") != "allowed_tools":
        return True
    allowed = value.get("allowed_tools")
    return isinstance(allowed, dict) and allowed.get("mode") == "required"


def _wants_usage(member: msgspec.Raw | memoryview | None) -> bool:
    if member is None:
        return False
    try:
        return bool(_options(member).include_usage)
    except _REFUSED:
        return False


# ------------------------------------------------------------------------------------------ the body for an upstream


#: Members by the words of the column ``sampling_refused``, where those are others.
_SAMPLING = {
    "penalties": ("frequency_penalty", "presence_penalty"),
    "logprobs": ("logprobs", "top_logprobs"),
    "choices": ("n",),
}


def prepare(body: bytes, look_: Look, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.prepare`."""
    seen = look_ if isinstance(look_, ChatLook) and look_.body is body else look(body)
    values, capabilities = seen.values, target.capabilities
    path = b"" if capabilities.generate_path is None else capabilities.generate_path.encode()
    replace: dict[str, bytes] = {}
    drop: dict[str, None] = {}
    dropped: dict[str, None] = {}
    if target.model != seen.model:
        replace["model"] = splice.dumps(target.model)
    unwanted = list(capabilities.strip_fields)
    if not capabilities.stream_options:
        unwanted.append("stream_options")
    if not capabilities.parallel_flag:
        unwanted.append("parallel_tool_calls")
    if target.model != seen.model:
        # Written for the model that the client named; the one that it gets instead may refuse what that one takes.
        for refused in capabilities.sampling_refused:
            unwanted += _SAMPLING.get(refused, (refused,))
    for name in unwanted:
        if name in values and name not in ("model", "messages"):
            drop[name] = None
            if bytes(values[name]) != b"null":
                dropped[name] = None
    limit = values.get("max_tokens")
    if (
        capabilities.max_tokens_field == "max_completion_tokens"
        and limit is not None
        and "max_tokens" not in drop
        and "max_completion_tokens" not in values
    ):
        # Under its old name the models that reason refuse it.
        drop["max_tokens"] = None
        replace["max_completion_tokens"] = bytes(limit)
    if capabilities.strip_tool_fields and "tools" in values and "tools" not in drop:
        tools = _edit_tools(bytes(values["tools"]), capabilities.strip_tool_fields, dropped)
        if tools is not None:
            replace["tools"] = tools
    messages = values.get("messages")
    if messages is not None:
        edited = chat_messages.edit(messages, seen.developer, target, dropped)
        if edited is not None:
            replace["messages"] = edited
    if not replace and not drop:
        return Prepared(body, path=path)
    return Prepared(splice.edit(body, replace, drop, seen.spans), tuple(dropped), path)


def _edit_tools(raw: bytes, fields: tuple[str, ...], dropped: dict[str, None]) -> bytes | None:
    """The tools without some members of their functions; ``None`` where they have none of them."""
    try:
        tools = splice.elements(raw)
    except splice.Malformed:
        return None
    changed = False
    for index, tool in enumerate(tools):
        try:
            outer = splice.members(tool)
            member = outer.get("function")
            if member is None:
                continue
            function = tool[member.value : member.end]
            inner = splice.members(function)
        except splice.Malformed:
            continue  # the provider judges it
        gone = [field for field in fields if field in inner]
        if gone:
            dropped.update((f"tools[].{field}", None) for field in gone)
            tools[index] = splice.edit(tool, {"function": splice.edit(function, None, gone, inner)}, (), outer)
            changed = True
    return b"[" + b",".join(tools) + b"]" if changed else None


# ------------------------------------------------------------------------------------------ the conversation's id


class _Named(msgspec.Struct, gc=False):
    prompt_cache_key: Any = None
    safety_identifier: Any = None
    user: Any = None


_named = msgspec.json.Decoder(_Named).decode


def session(headers: Mapping[bytes, bytes], body: bytes) -> str:
    """
    See :meth:`mportrouter.interfaces.IDialect.session`.

    :param headers: by lower-case name.
    """
    for name in _SESSION_FIELDS:
        given = headers.get(name, b"").strip()
        if given:
            return given[:_SESSION_LIMIT].decode("latin-1")
    if not any(b'"%b"' % name.encode() in body for name in _SESSION_MEMBERS):
        return ""
    try:
        named = _named(body)
    except _REFUSED:
        return ""
    for value in (named.prompt_cache_key, named.safety_identifier, named.user):
        if isinstance(value, str) and value:
            return value[:_SESSION_LIMIT]
    return ""
