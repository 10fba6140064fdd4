"""
Requests of the Anthropic Messages dialect as neutral conversations.

The messages are decoded into the structures below, which are most of a body and have nearly always the same few types
of blocks; a message with anything else goes the general road of :mod:`mportrouter.dialects.anthropic_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .. import splice
from ..conversation import (
    CacheMark,
    Conversation,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningControl,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..errors import Kind, RouterError
from ..interfaces import Look
from . import anthropic_request
from .anthropic_blocks import NAME, Wrong, bind, cache_of, opaque_of, parts, texts
from .anthropic_request import AnthropicLook
from .anthropic_tools import read_choice, read_tools

_NOTHING = msgspec.Raw(b"")
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_USERS = frozenset({"user", "ctx", "msg"})


class _Cache(msgspec.Struct, gc=False):
    ttl: str | None = None


class _Text(msgspec.Struct, gc=False, tag="text"):
    text: str
    cache_control: _Cache | None = None
    citations: None = None


class _ToolUse(msgspec.Struct, gc=False, tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw = _NOTHING
    cache_control: _Cache | None = None


class _ToolResult(msgspec.Struct, gc=False, tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text] | None = None
    is_error: bool | None = None
    cache_control: _Cache | None = None


class _Thinking(msgspec.Struct, gc=False, tag="thinking"):
    thinking: str = ""
    signature: str | None = None


class _Redacted(msgspec.Struct, gc=False, tag="redacted_thinking"):
    data: str = ""


_Block = _Text | _ToolUse | _ToolResult | _Thinking | _Redacted


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[_Block]


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode

#: Members that say how the request is to be carried out here, not what is asked.
_CONSUMED = frozenset(
    {
        "model",
        "messages",
        "system",
        "max_tokens",
        "stop_sequences",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "metadata",
        "service_tier",
        "cache_control",
        "betas",
    }
)
_SHOWN = {"omitted": "omitted", "summarized": "summarised", "updates": "summarised"}
_MODES = {"enabled": "on", "adaptive": "adaptive", "between_tools": "adaptive", "disabled": "off"}
_TIERS = {"auto": "auto", "standard_only": "default"}


def read_request(body: bytes, look: Look) -> Conversation:
    """See :meth:`mportrouter.interfaces.IDialect.read_request`."""
    seen = look if isinstance(look, AnthropicLook) and look.body is body else anthropic_request.look(body)
    try:
        return _Reading(seen).conversation()
    except Wrong as wrong:
        where, _, what = str(wrong).partition(": ")
        raise RouterError(Kind.BAD_REQUEST, f"`{where}`: {what}") from None
    except (splice.Malformed, RecursionError) as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: {error}") from None


class _Reading:
    """One request under the reader."""

    __slots__ = ("_look", "_unread", "_values")

    def __init__(self, look: AnthropicLook) -> None:
        self._look = look
        self._values = look.values
        self._unread = [name for name in look.values if name not in _CONSUMED]

    def conversation(self) -> Conversation:
        values, look = self._values, self._look
        get = self._get
        tools: tuple[Tool, ...] = ()
        if (value := get("tools")) is not None:
            tools = read_tools(value)
        choice: ToolChoice | None = None
        parallel: bool | None = None
        if (value := get("tool_choice")) is not None:
            choice, parallel = read_choice(value)
        max_output = self._whole("max_tokens")
        messages = values.get("messages")
        if messages is None:
            raise Wrong("messages: is missing")
        turns = read_messages(messages)
        if not turns:
            raise Wrong("messages: at least one is wanted")
        system = get("system")
        user = self._user()
        fast = get("speed") == "fast"
        if "speed" in self._unread and (fast or get("speed") == "standard"):
            self._unread.remove("speed")
        return Conversation(
            dialect=NAME,
            model=look.model,
            turns=turns,
            system=() if system is None else texts(system, "system"),
            tools=tools,
            tool_choice=choice,
            parallel=parallel,
            # 0 warms a prompt cache and asks for no answer: nobody else knows that.
            max_output=max_output or None,
            sampling=self._sampling(),
            reasoning=self._reasoning(),
            output=self._output(),
            cache_key=None if user is None else anthropic_request.conversation_in(user),
            cache_auto=cache_of(get("cache_control")),
            user=user,
            service_tier="priority" if fast else self._tier(),
            stream=look.stream,
            unread=tuple(self._unread),
        )

    def _get(self, name: str) -> Any:
        """The decoded value of a member; ``None`` where it is absent or null."""
        raw = self._values.get(name)
        return None if raw is None else splice.loads(bytes(raw))

    def _whole(self, name: str) -> int | None:
        value = self._get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Wrong(f"{name}: a whole number is wanted")
        return value

    def _number(self, name: str) -> float | None:
        value = self._get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong(f"{name}: a number is wanted")
        return value

    def _sampling(self) -> Sampling:
        values = self._values
        stop = self._get("stop_sequences") if "stop_sequences" in values else None
        if stop is None and not ("temperature" in values or "top_p" in values or "top_k" in values):
            return _PLAIN
        if stop is not None and not (isinstance(stop, list) and all(isinstance(one, str) for one in stop)):
            raise Wrong("stop_sequences: a list of texts is wanted")
        return Sampling(
            temperature=self._number("temperature"),
            top_p=self._number("top_p"),
            top_k=self._whole("top_k"),
            stop=tuple(stop or ()),
        )

    def _reasoning(self) -> ReasoningControl | None:
        thinking, config = self._get("thinking"), self._get("output_config")
        effort = None
        if config is not None:
            if not isinstance(config, Mapping):
                raise Wrong("output_config: an object is wanted")
            effort = config.get("effort")
            if effort is not None and not isinstance(effort, str):
                raise Wrong("output_config.effort: a text is wanted")
            self._unread += [f"output_config.{name}" for name in config if name not in ("effort", "format")]
        if thinking is None:
            return None if effort is None else ReasoningControl(effort=effort)
        if not isinstance(thinking, Mapping):
            raise Wrong("thinking: an object is wanted")
        kind = thinking.get("type")
        mode = _MODES.get(kind) if isinstance(kind, str) else None
        if mode is None:
            raise Wrong(f"thinking.type: {str(kind)[:64]} is unknown")
        budget = thinking.get("budget_tokens")
        if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int)):
            raise Wrong("thinking.budget_tokens: a whole number is wanted")
        show = thinking.get("display")
        return ReasoningControl(mode, effort, budget, _SHOWN.get(show) if isinstance(show, str) else None)

    def _output(self) -> OutputFormat | None:
        config = self._get("output_config")
        name, told = "output_config.format", config.get("format") if isinstance(config, Mapping) else None
        if told is None:
            # What the member was called before it left beta.
            name, told = "output_format", self._get("output_format")
        if told is None:
            return None
        schema = told.get("schema") if isinstance(told, Mapping) else None
        if not isinstance(told, Mapping) or told.get("type") != "json_schema" or not isinstance(schema, Mapping):
            raise Wrong(f"{name}: an object with type json_schema and a schema is wanted")
        return OutputFormat("json_schema", schema)

    def _user(self) -> str | None:
        metadata = self._get("metadata")
        if metadata is None:
            return None
        if not isinstance(metadata, Mapping):
            raise Wrong("metadata: an object is wanted")
        user = metadata.get("user_id")
        return user if isinstance(user, str) and user else None

    def _tier(self) -> str | None:
        tier = self._get("service_tier")
        if tier is None:
            return None
        if not isinstance(tier, str):
            raise Wrong("service_tier: a text is wanted")
        return _TIERS.get(tier, tier)


_PLAIN = Sampling()


# ------------------------------------------------------------------------------------------ messages


def read_messages(raw: msgspec.Raw | memoryview) -> tuple[Turn, ...]:
    """
    The turns of a request.

    :raises Wrong: naming the member.
    """
    try:
        return tuple([_turn(message, index) for index, message in enumerate(_decode_messages(raw))])
    except _REFUSED:
        pass
    try:
        pieces = _decode_raws(raw)
    except _REFUSED:
        return _slowly(splice.loads(bytes(raw)))
    turns = []
    for index, piece in enumerate(pieces):
        try:
            turns.append(_turn(_decode_message(piece), index))
        except _REFUSED:
            turns.append(_turn_slowly(splice.loads(bytes(piece)), index))
    return tuple(turns)


def _slowly(messages: Any) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise Wrong("messages: a list is wanted")
    return tuple(_turn_slowly(message, index) for index, message in enumerate(messages))


def _role(role: Any, index: int) -> str:
    if role == "assistant" or role == "system":
        return str(role)
    if isinstance(role, str) and role in _USERS:
        return "user"
    raise Wrong(f"messages.{index}.role: user, assistant or system is wanted")


def _turn_slowly(message: Any, index: int) -> Turn:
    if not isinstance(message, Mapping):
        raise Wrong(f"messages.{index}: an object is wanted")
    role = _role(message.get("role"), index)
    try:
        return Turn(role, parts(message.get("content")))
    except Wrong as wrong:
        raise Wrong(f"messages.{index}.{wrong}") from None


def _turn(message: _Message, index: int) -> Turn:
    role = message.role
    if role != "user" and role != "assistant":
        role = _role(role, index)
    content = message.content
    if isinstance(content, str):
        return Turn(role, (Text(content),) if content else ())
    found: list[Part] = []
    bound = False
    for block in content:
        kind = type(block)
        if kind is _Redacted or kind is _Thinking:
            reasoning = _REASONING[kind](block)
            bound = bound or (reasoning.opaque is not None and reasoning.opaque.kind == "thought")
            found.append(reasoning)
        else:
            found.append(_READ[kind](block))
    return Turn(role, bind(found) if bound else tuple(found))


def _mark(cache: _Cache | None) -> CacheMark | None:
    return None if cache is None else CacheMark(cache.ttl)


def _text(block: _Text) -> Text:
    cache = block.cache_control
    return Text(block.text) if cache is None else Text(block.text, (), CacheMark(cache.ttl))


def _tool_use(block: _ToolUse) -> ToolCall:
    # The text is the client's own: a call that was answered from it must be sent as it was.
    input = str(memoryview(block.input), "utf-8")
    if not input or input == "null" or input == '""':
        input = "{}"
    return ToolCall(block.id, block.name, input, cache=_mark(block.cache_control))


def _tool_result(block: _ToolResult) -> ToolResult:
    content = block.content
    found: tuple[Part, ...]
    if isinstance(content, str):
        found = (Text(content),) if content else ()
    elif content is None:
        found = ()
    else:
        found = tuple([_text(one) for one in content])
    return ToolResult(
        block.tool_use_id, found, is_error=block.is_error is True, cache=_mark(block.cache_control)
    )


def _thinking(block: _Thinking) -> Reasoning:
    return Reasoning(block.thinking, opaque_of(block.signature or "", "signature"))


def _redacted(block: _Redacted) -> Reasoning:
    return Reasoning("", opaque_of(block.data, "redacted"))


_READ: dict[type, Callable[[Any], Part]] = {_Text: _text, _ToolUse: _tool_use, _ToolResult: _tool_result}
_REASONING: dict[type, Callable[[Any], Reasoning]] = {_Thinking: _thinking, _Redacted: _redacted}
