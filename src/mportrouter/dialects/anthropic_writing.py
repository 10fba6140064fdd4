"""Neutral conversations as requests of the Anthropic Messages dialect."""

from __future__ import annotations

from typing import Any

from ..conversation import Conversation, Reasoning, Text, Tool, ToolResult, Turn
from ..interfaces import Inexpressible, Prepared, Target
from ..reasoning_controls import Asked, asked
from ..repair import Repaired, Wishes, repair
from ..schemas import clean
from ..tool_names import ToolNames
from .anthropic_blocks import NAME
from .anthropic_open import OUTPUT
from .anthropic_parts import Messages, cache_control, dumps, spelt
from .anthropic_tools import write_choice, write_tools

COUNT_PATH = b"/v1/messages/count_tokens"
#: Tokens of an answer where neither the client nor the catalogue says how many.
_ANSWER = 8192
#: Legal names of tools.
_NAME, _NAME_LIMIT = "[a-zA-Z0-9_-]+", 128
#: The largest temperature of the dialect.
_HOTTEST = 1.0
#: The call that stands for a structured output where the model binds none.
_CALL = "answer"
_JSON = "Answer with one JSON object and nothing else: no other words, no code fence."
#: Members that the count of a request's tokens does not take.
_UNCOUNTED = ("max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier")
_TIERS = {"auto": "auto", "default": "standard_only", "flex": "standard_only"}


def write_request(conversation: Conversation, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.write_request`."""
    return _Writing(conversation, target).prepared()


def write_count(conversation: Conversation, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.write_count`."""
    return _Writing(conversation, target).prepared(count=True)


class _Writing:
    """One request under the writer."""

    def __init__(self, conversation: Conversation, target: Target) -> None:
        self._conversation = conversation
        self._target = target
        self._capabilities = target.capabilities
        self._notes: dict[str, None] = dict.fromkeys(conversation.unread)

    def prepared(self, count: bool = False) -> Prepared:
        conversation, capabilities = self._conversation, self._capabilities
        if (conversation.sampling.choices or 1) > 1:
            raise Inexpressible(f"`{self._spelt('choices')}`: the provider gives one answer at a time")
        marks = capabilities.cache_marks == "cache_control"
        own = marks and _is_marked(conversation)
        repaired = self._repaired(own)
        names = ToolNames(
            conversation.tools,
            repaired.turns,
            limit=min(capabilities.tool_name_max, _NAME_LIMIT),
            pattern=_NAME,
        )
        body: dict[str, Any] = {"model": self._target.model}
        back = dict(names.names)
        # What was asked for in words or as a call stands in the system prompt or among the tools.
        system = [self._system(part, own) for part in repaired.system]
        tools, choice = self._tools(names, repaired.turns)
        forced = choice is not None and choice.get("type") in ("any", "tool")
        config: dict[str, Any] = {}
        output = conversation.output
        if output is not None and output.kind == "json_schema" and self._binds():
            config["format"] = {"type": "json_schema", "schema": clean(output.schema, "anthropic_output") or {}}
        elif output is not None and output.kind == "json_schema":
            tools, choice = self._as_call(tools)
            forced = True
            back[_CALL] = Tool(_CALL, kind=OUTPUT)
        elif output is not None:
            system.append({"type": "text", "text": _JSON})
            self._notes[f"{self._spelt('output')} (asked for in words)"] = None
        self._reasoning(body, config, repaired.turns, forced)
        if config:
            body["output_config"] = config
        if marks and not own:
            if tools:
                tools[-1] = {**tools[-1], "cache_control": {"type": "ephemeral"}}
            if system:
                system[-1] = {**system[-1], "cache_control": {"type": "ephemeral"}}
        if system:
            body["system"] = system
        if tools:
            body["tools"] = tools
        if choice is not None:
            body["tool_choice"] = choice
        self._sampling(body)
        self._identity(body)
        if conversation.stream or capabilities.stream_only:
            body["stream"] = True
        whole = marks and not own and "cache_control" not in capabilities.strip_fields
        if whole:
            # The provider itself marks the last block: no message changes when it is not the last any more.
            body["cache_control"] = {"type": "ephemeral"}
        self._strip(body)
        if count:
            for name in _UNCOUNTED:
                body.pop(name, None)
        text = self._messages(repaired.turns, names, own, marks and not own and not whole)
        # The messages come last, so that a longer conversation begins like a shorter one.
        head = dumps(body)[:-1]
        return Prepared(
            head + b',"messages":[' + b",".join(text) + b"]}",
            tuple(self._notes),
            COUNT_PATH if count else b"",
            b"",
            back,
        )

    def _spelt(self, name: str) -> str:
        return spelt(self._conversation.dialect, name)

    def _repaired(self, own: bool) -> Repaired:
        conversation, capabilities = self._conversation, self._capabilities
        fixed = sum(tool.cache is not None for tool in conversation.tools)
        fixed += sum(part.cache is not None for part in conversation.system)
        wishes = Wishes(
            keep_dialect=NAME,
            drop_blank=True,
            merge=True,
            user_first=True,
            system_turns="placed" if capabilities.mid_system else "user_text",
            prefill=capabilities.prefill,
            pair=True,
            reasoning=capabilities.thinking_blocks != "strip",
            text_reasoning=capabilities.thinking_signature != NAME,
            cache_marks=max(0, 4 - fixed) if own else 0,
        )
        repaired = repair(conversation, self._target, wishes)
        self._notes.update(dict.fromkeys(repaired.notes))
        return repaired

    def _messages(self, turns: tuple[Turn, ...], names: ToolNames, own: bool, mark_last: bool) -> list[bytes]:
        writing = Messages(self._conversation.dialect, self._target, names, own)
        last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=-1)
        out = []
        for index, turn in enumerate(turns):
            text = writing.write(turn, mark_last and index == last)
            if text is not None:
                out.append(text)
        self._notes.update(writing.notes)
        return out

    def _system(self, part: Text, own: bool) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": part.text}
        if own and part.cache is not None:
            block["cache_control"] = cache_control(part.cache)
        return block

    # ------------------------------------------------------------------------------------------- tools and output

    def _tools(self, names: ToolNames, turns: tuple[Turn, ...]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        conversation = self._conversation
        tools = write_tools(conversation, self._target, names, self._notes)
        choice = write_choice(conversation, self._target, names, tools)
        allowed = None if conversation.tool_choice is None else conversation.tool_choice.allowed
        if allowed:
            wanted = {names.wire(name) for name in allowed}
            kept = [tool for tool in tools if tool["name"] in wanted]
            if not kept:
                raise Inexpressible(f"`{self._spelt('tool_choice')}`: none of the tools that it allows is offered")
            tools = kept
        if not tools and (called := _called(turns)):
            # A history with calls is refused where no tools are offered.
            tools = [
                {"name": names.wire(name, space), "input_schema": {"type": "object", "properties": {}}}
                for name, space in called
            ]
            choice = {"type": "none"}
            self._notes["tools (made of the calls in the messages)"] = None
        return tools, choice

    def _binds(self) -> bool:
        capabilities = self._capabilities
        return capabilities.structured_output == "honoured" and capabilities.output_format == "json_schema"

    def _as_call(self, tools: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A structured output as the input of a call that must be made."""
        output, name = self._conversation.output, self._spelt("output")
        if tools or self._capabilities.tool_choice_force != "honoured":
            raise Inexpressible(f"`{name}`: the model binds its answers to no schema")
        assert output is not None
        tool = {
            "name": _CALL,
            "description": output.description or "Give the answer.",
            "input_schema": clean(output.schema, "anthropic") or {"type": "object", "properties": {}},
        }
        self._notes[f"{name} (asked for as a call)"] = None
        return [tool], {"type": "tool", "name": _CALL}

    # ------------------------------------------------------------------------------------------- reasoning, limits

    def _reasoning(
        self, body: dict[str, Any], config: dict[str, Any], turns: tuple[Turn, ...], forced: bool
    ) -> None:
        conversation, capabilities = self._conversation, self._capabilities
        most = capabilities.max_output
        given = conversation.max_output
        limit = given or most or _ANSWER
        if most is not None and limit > most:
            limit = most
            self._notes[f"{self._spelt('max_output')} (sent as {most})"] = None
        wish = asked(conversation.reasoning, capabilities, None)
        if wish is not None and wish.budget is not None and not wish.off and wish.budget >= limit:
            # The budget is part of the answer's limit: there is room for both where the model's own limit allows it.
            roomy = wish.budget + limit
            room = roomy if most is None and given is None else min(roomy, most or limit)
            if room != limit and given is not None:
                self._notes[f"{self._spelt('max_output')} (sent as {room})"] = None
            limit = room
            wish = asked(conversation.reasoning, capabilities, limit)
        body["max_tokens"] = limit
        if wish is None:
            return
        self._notes.update(dict.fromkeys(wish.notes))
        if wish.effort is not None and wish.effort != "none":
            config["effort"] = wish.effort
        thinking = self._thinking(wish)
        if thinking is not None and thinking["type"] != "disabled":
            why = None
            if forced:
                why = "a tool is forced"
            elif thinking["type"] == "enabled" and _lost(turns):
                why = "that of the open tool loop is not there"
            if why is not None:
                self._notes[f"reasoning ({why})"] = None
                thinking = {"type": "disabled"} if capabilities.reasoning_off else None
        if thinking is not None:
            body["thinking"] = thinking

    def _thinking(self, wish: Asked) -> dict[str, Any] | None:
        if wish.off:
            return {"type": "disabled"} if self._capabilities.reasoning_kind != "none" else None
        thinking: dict[str, Any]
        if wish.budget is not None:
            thinking = {"type": "enabled", "budget_tokens": wish.budget}
        elif self._capabilities.reasoning_kind == "adaptive" and wish.adaptive:
            thinking = {"type": "adaptive"}
        else:
            return None
        if wish.show is not None:
            thinking["display"] = "omitted" if wish.show == "omitted" else "summarized"
        return thinking

    def _sampling(self, body: dict[str, Any]) -> None:
        sampling, capabilities = self._conversation.sampling, self._capabilities
        refused = capabilities.sampling_refused
        thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        drop = self._drop
        if sampling.temperature is not None:
            hottest = min(_HOTTEST, capabilities.temperature_max)
            if "temperature" in refused:
                drop("temperature")
            elif thinks:
                drop("temperature", "reasoning is on")
            elif sampling.temperature > hottest:
                body["temperature"] = hottest
                self._notes[f"{self._spelt('temperature')}={hottest:g}"] = None
            else:
                body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            if "top_p" in refused:
                drop("top_p")
            elif thinks:
                drop("top_p", "reasoning is on")
            elif "temperature" in body:
                drop("top_p", "temperature is given")  # several models refuse the two together
            else:
                body["top_p"] = sampling.top_p
        if sampling.top_k is not None:
            if "top_k" in refused or thinks:
                drop("top_k")
            else:
                body["top_k"] = sampling.top_k
        for name in ("seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"):
            if getattr(sampling, name):
                drop(name)
        self._stops(body)

    def _stops(self, body: dict[str, Any]) -> None:
        capabilities, given = self._capabilities, self._conversation.sampling.stop
        stops = [one for one in given if one.strip()]
        if len(stops) < len(given):
            self._notes[f"{self._spelt('stop')} (white space)"] = None
        if not stops:
            return
        if capabilities.stop_sequences == "refused":
            raise Inexpressible(f"`{self._spelt('stop')}`: the provider takes no stop sequences")
        most = capabilities.stop_max
        if most is not None and len(stops) > most:
            stops = stops[:most]
            self._notes[f"{self._spelt('stop')} (the first {most})"] = None
        body["stop_sequences"] = stops

    def _drop(self, name: str, why: str = "") -> None:
        name = self._spelt(name)
        self._notes[f"{name} ({why})" if why else name] = None

    def _identity(self, body: dict[str, Any]) -> None:
        conversation = self._conversation
        if conversation.user:
            if len(conversation.user) <= 512:
                body["metadata"] = {"user_id": conversation.user}
            else:
                self._drop("user")
        if conversation.metadata:
            self._drop("metadata")
        if conversation.verbosity is not None:
            self._drop("verbosity")
        tier = conversation.service_tier
        if tier is not None:
            if tier in _TIERS:
                body["service_tier"] = _TIERS[tier]
            else:
                self._drop("service_tier")

    def _strip(self, body: dict[str, Any]) -> None:
        capabilities = self._capabilities
        for name in capabilities.strip_fields:
            if name in body and name not in ("model", "messages"):
                del body[name]
                self._notes[name] = None
        for name, fields in (
            ("thinking", capabilities.strip_thinking_fields),
            ("output_config", capabilities.strip_output_config_fields),
        ):
            inner = body.get(name)
            if inner is None:
                continue
            for field in fields:
                if field in inner:
                    del inner[field]
                    self._notes[f"{name}.{field}"] = None
            if not inner:
                del body[name]


def _is_marked(conversation: Conversation) -> bool:
    """Whether the client marks by itself where caches end."""
    return any(
        getattr(part, "cache", None) is not None
        for parts in (conversation.system, conversation.tools, *(turn.parts for turn in conversation.turns))
        for part in parts
    )


def _called(turns: tuple[Turn, ...]) -> list[tuple[str, str]]:
    """Names and namespaces of the calls in the turns, each once."""
    found: dict[tuple[str, str], None] = {}
    for turn in turns:
        for part in turn.parts:
            if (name := getattr(part, "name", "")) and hasattr(part, "arguments"):
                found[name, part.namespace] = None  # type: ignore[union-attr]
    return list(found)


def _lost(turns: tuple[Turn, ...]) -> bool:
    """Whether a tool loop is open whose last assistant turn does not begin with thinking, as it must with a budget."""
    if not turns or turns[-1].role == "assistant":
        return False
    for turn in reversed(turns):
        if turn.role == "assistant":
            first = turn.parts[0]
            return not isinstance(first, Reasoning) or first.opaque is None
        if not any(isinstance(part, ToolResult) for part in turn.parts):
            return False
    return False
