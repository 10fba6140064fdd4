"""
Requests of the OpenAI Responses dialect as neutral conversations.

Items become turns: what the assistant said, called and thought in a row is one turn; results of tools and the words of
the person after them are another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    ToolChoice,
    Turn,
)
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible, Look
from . import responses_items as items
from . import responses_tools as tools
from .responses_items import NAME
from .responses_request import STATEFUL

#: Top-level members that are read below, or that mean nothing elsewhere.
_READ = frozenset(
    {
        "model", "input", "instructions", "max_output_tokens", "temperature", "top_p", "top_logprobs", "tools",
        "tool_choice", "parallel_tool_calls", "reasoning", "text", "include", "stream", "stream_options",
        "service_tier", "metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "user", "client_metadata", *STATEFUL,
    }
)  # fmt: skip
#: Members that say nothing where they have this value.
_DEFAULTS: Mapping[str, Any] = {"store": False, "background": False, "truncation": "disabled"}
#: Items that say nothing to the model.
_ASIDE = frozenset({"additional_tools", "configuration_update"})
#: Items that stand for a state which only their provider has.
_KEPT_ELSEWHERE = frozenset({"item_reference", "compaction", "compaction_trigger", "compaction_summary"})


def read_request(body: bytes, look: Look) -> Conversation:
    """See :meth:`mportrouter.interfaces.IDialect.read_request`."""
    try:
        top = splice.loads(body)
    except splice.Malformed as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: {error}") from None
    if not isinstance(top, dict):
        raise RouterError(Kind.BAD_REQUEST, "the request is no JSON object")
    for name in STATEFUL:
        if top.get(name) is not None:
            raise Inexpressible(f"`{name}` is known to its own provider only; send the whole conversation in `input`")
    given = top.get("input")
    if given is None:
        raise RouterError(Kind.BAD_REQUEST, "`input` is missing")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise RouterError(Kind.BAD_REQUEST, "`input` must be a text or a list of items")
    unread = [name for name, value in top.items() if name not in _READ and value != _DEFAULTS.get(name)]
    turns = _Turns()
    instructions = _string(top, "instructions")
    system: list[Text] = [Text(instructions)] if instructions else []
    offered = list(tools.read(top.get("tools"), "tools"))
    leading = True
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            raise RouterError(Kind.BAD_REQUEST, f"`{where}` must be an object")
        kind = item.get("type") or ("message" if "role" in item else "")
        if not isinstance(kind, str):
            raise RouterError(Kind.BAD_REQUEST, f"`{where}.type` must be a text")
        if kind in _ASIDE:
            if kind == "additional_tools":
                offered += tools.read(item.get("tools"), f"{where}.tools")
            else:
                top = _updated(top, item)
            continue
        if kind in _KEPT_ELSEWHERE:
            raise Inexpressible(f"`{where}` of the type {kind} is known to its own provider only")
        if kind == "message" and item.get("role") in ("system", "developer"):
            parts = items.content(item.get("content"), f"{where}.content")
            if leading:
                system += [part for part in parts if isinstance(part, Text)]
            else:
                turns.add("system", parts)
            continue
        leading = False
        if kind == "tool_search_output":
            # What a search found may be called from then on.
            offered += tools.read(item.get("tools"), f"{where}.tools")
        turns.item(kind, item, where)
    output, verbosity = _text(top.get("text"))
    cache = top.get("prompt_cache_options")
    return Conversation(
        dialect=NAME,
        model=look.model,
        turns=turns.done(),
        system=tuple(system),
        tools=tuple(offered),
        tool_choice=_choice(top.get("tool_choice"), offered),
        parallel=_boolean(top, "parallel_tool_calls"),
        max_output=look.max_output,
        sampling=_sampling(top),
        reasoning=_reasoning(top.get("reasoning"), unread),
        output=output,
        verbosity=verbosity,
        cache_key=_string(top, "prompt_cache_key") or None,
        cache_auto=CacheMark() if isinstance(cache, dict) and cache.get("mode") == "implicit" else None,
        user=_string(top, "safety_identifier") or _string(top, "user") or None,
        metadata=found if isinstance(found := top.get("metadata"), dict) and found else None,
        service_tier=_string(top, "service_tier") or None,
        stream=look.stream,
        stream_usage=True,
        unread=tuple(unread),
        members=top,
    )


class _Turns:
    """Collects items into turns."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._role = ""
        self._parts: list[Part] = []
        self._phase: str | None = None
        #: The turn holds results of tools and nothing else yet.
        self._results = False
        #: The turn holds a message of the assistant.
        self._said = False

    def add(self, role: str, parts: list[Part]) -> None:
        """A turn of its own."""
        self._close()
        if parts:
            self._turns.append(Turn(role, tuple(parts)))

    def item(self, kind: str, item: Mapping[str, Any], where: str) -> None:
        if kind == "message":
            parts = items.content(item.get("content"), f"{where}.content")
            role = item.get("role")
            if role == "assistant":
                self._message()
                phase = item.get("phase")
                if isinstance(phase, str):
                    self._phase = phase
            elif role == "user":
                # What the person says right after results goes with them; two messages in a row stay two.
                if not (self._role == "user" and self._results):
                    self._close()
                self._role = "user"
                self._results = False
            else:
                raise RouterError(Kind.BAD_REQUEST, f"`{where}.role` must be user, assistant, system or developer")
            self._parts += parts
            return
        part = items.part(kind, item, where)
        if items.is_users(kind):
            if self._role != "user":
                self._close()
                self._role, self._results = "user", True
        else:
            self._go("assistant")
        if part is not None:
            self._parts.append(part)

    def done(self) -> tuple[Turn, ...]:
        self._close()
        return tuple(self._turns)

    def _message(self) -> None:
        """A message of the assistant: a second one is a turn of its own, or their words would run into each other."""
        if self._role == "assistant" and self._said:
            parts = self._parts
            kept = len(parts)
            while kept and isinstance(parts[kept - 1], Reasoning) and not items.is_bare(parts[kept - 1]):
                kept -= 1
            thoughts = parts[kept:]
            del parts[kept:]
            self._close()
            self._role, self._parts = "assistant", thoughts
        self._go("assistant")
        self._said = True

    def _go(self, role: str) -> None:
        if self._role != role:
            self._close()
            self._role = role

    def _close(self) -> None:
        if self._parts:
            self._turns.append(Turn(self._role, items.settled(self._parts), self._phase))
        self._role, self._parts, self._phase, self._results, self._said = "", [], None, False, False


def _updated(top: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The top level with what an item of the type ``configuration_update`` says from here on."""
    top = dict(top)
    for name in ("reasoning", "text"):
        new = item.get(name)
        if isinstance(new, dict):
            old = top.get(name)
            top[name] = {**(old if isinstance(old, dict) else {}), **new}
    return top


def _sampling(top: Mapping[str, Any]) -> Sampling:
    include = top.get("include")
    logprobs = isinstance(include, list) and "message.output_text.logprobs" in include
    top_logprobs = top.get("top_logprobs")
    return Sampling(
        temperature=_number(top, "temperature"),
        top_p=_number(top, "top_p"),
        logprobs=True if logprobs else None,
        top_logprobs=top_logprobs if isinstance(top_logprobs, int) and top_logprobs > 0 else None,
    )


def _reasoning(value: Any, unread: list[str]) -> ReasoningControl | None:
    if not isinstance(value, dict):
        return None
    effort = _string(value, "effort") or None
    unread += [
        f"reasoning.{name}"
        for name, asked in value.items()
        if name not in ("effort", "summary", "generate_summary") and asked not in (None, "auto", "standard")
    ]
    summary = value.get("summary") or value.get("generate_summary")
    if effort is None and not summary:
        return None
    show = "summarised" if isinstance(summary, str) and summary != "none" else "omitted"
    return ReasoningControl("off" if effort == "none" else None, effort, None, show)


def _text(value: Any) -> tuple[OutputFormat | None, str | None]:
    """Format and verbosity."""
    if not isinstance(value, dict):
        return None, None
    verbosity = _string(value, "verbosity") or None
    found = value.get("format")
    given = found if isinstance(found, dict) else {}
    kind = given.get("type")
    if kind == "json_object":
        return OutputFormat("json"), verbosity
    if kind == "json_schema":
        strict = given.get("strict")
        schema = given.get("schema")
        return OutputFormat(
            "json_schema",
            schema if isinstance(schema, dict) else {},
            _string(given, "name"),
            strict if isinstance(strict, bool) else None,
            _string(given, "description"),
        ), verbosity
    if kind not in (None, "text"):
        raise RouterError(Kind.BAD_REQUEST, "`text.format.type` must be text, json_object or json_schema")
    return None, verbosity


def _choice(value: Any, offered: list[Tool]) -> ToolChoice | None:
    """:raises RouterError: for a choice of an unknown form."""
    if value is None:
        return None
    if isinstance(value, str):
        if value in ("auto", "none", "required"):
            return ToolChoice(value)
    elif isinstance(value, dict):
        kind = value.get("type")
        if kind == "allowed_tools":
            allowed = value.get("tools")
            names = [_named(each) for each in allowed if isinstance(each, dict)] if isinstance(allowed, list) else []
            mode = "required" if value.get("mode") == "required" else "auto"
            return ToolChoice(mode, allowed=tuple(names))
        if isinstance(kind, str):
            return ToolChoice("one", _named(value))
    raise RouterError(Kind.BAD_REQUEST, "`tool_choice` is of no known form")


def _named(choice: Mapping[str, Any]) -> str:
    """The name of the tool that an entry of ``tool_choice`` means; a hosted one's is that of its kind."""
    kind = choice.get("type")
    if kind in ("function", "custom") or (kind != "mcp" and isinstance(choice.get("name"), str)):
        return _string(choice, "name")
    return tools.hosted_name(kind if isinstance(kind, str) else "", choice)


def _string(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""


def _number(source: Mapping[str, Any], name: str) -> float | None:
    value = source.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _boolean(source: Mapping[str, Any], name: str) -> bool | None:
    value = source.get(name)
    return value if isinstance(value, bool) else None
