"""Requests of the Chat dialect as neutral conversations."""

from __future__ import annotations

from typing import Any

from .. import splice
from ..conversation import (
    CacheMark,
    Conversation,
    OutputFormat,
    ReasoningControl,
    Sampling,
    Tool,
    ToolChoice,
)
from ..errors import Kind, RouterError
from ..interfaces import Look
from .chat_content import NAME, read_messages, wrong

#: Top-level members that are read below.
_READ = frozenset(
    {
        "model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed",
        "n", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "stream",
        "stream_options", "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls",
        "response_format", "reasoning_effort", "reasoning", "thinking", "enable_thinking", "verbosity",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "user", "metadata",
        "service_tier", "web_search_options",
    }
)  # fmt: skip
#: Members that say nothing where they have this value.
_DEFAULTS: dict[str, Any] = {"store": False, "modalities": ["text"]}
_ALLOWED = ("auto", "required")


def read_request(body: bytes, look: Look) -> Conversation:
    """See :meth:`mportrouter.interfaces.IDialect.read_request`."""
    try:
        top = splice.loads(body)
    except splice.Malformed as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: {error}") from None
    if not isinstance(top, dict):
        raise RouterError(Kind.BAD_REQUEST, "the request is no JSON object")
    if top.get("messages") is None:
        raise wrong("messages", "is missing")
    system, turns = read_messages(top["messages"])
    unread = [
        name for name, value in top.items() if name not in _READ and value is not None and value != _DEFAULTS.get(name)
    ]
    options = _object(top, "stream_options")
    limit = _whole(top, "max_completion_tokens")
    return Conversation(
        dialect=NAME,
        model=look.model,
        turns=turns,
        system=system,
        tools=_tools(top),
        tool_choice=_choice(top),
        # An answer in the old form has room for one call.
        parallel=False if top.get("functions") and not top.get("tools") else _flag(top, "parallel_tool_calls"),
        max_output=(_whole(top, "max_tokens") if limit is None else limit) or None,
        sampling=_sampling(top),
        reasoning=_reasoning(top, unread),
        output=_output(top.get("response_format")),
        verbosity=_text(top, "verbosity"),
        cache_key=_text(top, "prompt_cache_key"),
        cache_auto=_automatic(top),
        user=_text(top, "safety_identifier") or _text(top, "user"),
        metadata=_object(top, "metadata"),
        service_tier=_text(top, "service_tier"),
        stream=look.stream,
        stream_usage=look.stream and options is not None and options.get("include_usage") is True,
        unread=tuple(unread),
        members=top,
    )


# ------------------------------------------------------------------------------------------ tools


def _tools(top: dict[str, Any]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    given = top.get("tools")
    if given is not None and not isinstance(given, list):
        raise wrong("tools", "must be a list")
    for index, tool in enumerate(given or ()):
        tools.append(_tool(tool, f"tools[{index}]"))
    functions = top.get("functions")
    if functions is not None and not isinstance(functions, list):
        raise wrong("functions", "must be a list")
    if not tools:
        tools += [_function(each, f"functions[{index}]", None) for index, each in enumerate(functions or ())]
    search = _object(top, "web_search_options")
    if search is not None:
        tools.append(_search(search))
    return tuple(tools)


def _tool(tool: Any, where: str) -> Tool:
    if not isinstance(tool, dict):
        raise wrong(where, "must be an object")
    kind = tool.get("type")
    if kind == "custom":
        return _custom(tool.get("custom"), f"{where}.custom", tool)
    if kind == "function" or (kind is None and "function" in tool):
        return _function(tool.get("function"), f"{where}.function", tool)
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "must be function or custom")
    name = tool.get("name")
    return Tool(name if isinstance(name, str) else kind, kind="server", server=kind, raw=tool)


def _function(function: Any, where: str, raw: dict[str, Any] | None) -> Tool:
    if not isinstance(function, dict):
        raise wrong(where, "must be an object")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise wrong(f"{where}.name", "must be a text")
    schema = function.get("parameters")
    if schema is not None and not isinstance(schema, (dict, bool)):
        raise wrong(f"{where}.parameters", "must be an object")
    description, strict = function.get("description"), function.get("strict")
    return Tool(
        name,
        description if isinstance(description, str) else "",
        schema,
        strict=strict if isinstance(strict, bool) else None,
        raw=raw or function,
    )


def _custom(custom: Any, where: str, raw: dict[str, Any]) -> Tool:
    if not isinstance(custom, dict):
        raise wrong(where, "must be an object")
    name = custom.get("name")
    if not isinstance(name, str) or not name:
        raise wrong(f"{where}.name", "must be a text")
    description, format_ = custom.get("description"), custom.get("format")
    grammar = format_.get("grammar") if isinstance(format_, dict) else None
    return Tool(
        name,
        description if isinstance(description, str) else "",
        kind="custom",
        grammar=grammar if isinstance(grammar, dict) else None,
        raw=raw,
    )


def _search(options: dict[str, Any]) -> Tool:
    found: dict[str, Any] = {}
    size = options.get("search_context_size")
    if isinstance(size, str):
        found["context_size"] = size
    location = options.get("user_location")
    place = location.get("approximate") if isinstance(location, dict) else None
    if isinstance(place, dict):
        known = ("city", "region", "country", "timezone")
        found["user_location"] = {name: place[name] for name in known if isinstance(place.get(name), str)}
    return Tool("web_search", kind="server", server="web_search", options=found, raw=options)


def _choice(top: dict[str, Any]) -> ToolChoice | None:
    choice = top.get("tool_choice")
    where = "tool_choice"
    if choice is None:
        choice, where = top.get("function_call"), "function_call"
        if isinstance(choice, dict):
            choice = {"type": "function", "function": choice}
    if choice is None:
        return None
    if choice in ("none", "auto", "required"):
        return ToolChoice(choice)
    if choice == "any":  # Mistral's word for it
        return ToolChoice("required")
    if not isinstance(choice, dict):
        raise wrong(where, "must be none, auto, required or an object")
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        mode = allowed.get("mode") if isinstance(allowed, dict) else None
        listed = allowed.get("tools") if isinstance(allowed, dict) else None
        if mode not in _ALLOWED or not isinstance(listed, list):
            raise wrong(f"{where}.allowed_tools", "must have a mode and tools")
        return ToolChoice(mode, allowed=tuple(_named(tool, where) for tool in listed))
    return ToolChoice("one", _named(choice, where))


def _named(choice: Any, where: str) -> str:
    for member in ("function", "custom"):
        inner = choice.get(member) if isinstance(choice, dict) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and name:
            return name
    raise wrong(where, "must name a function or a custom tool")


# ------------------------------------------------------------------------------------------ how it is answered


def _sampling(top: dict[str, Any]) -> Sampling:
    stop = top.get("stop")
    if isinstance(stop, str):
        stop = [stop]
    if stop is not None and not (isinstance(stop, list) and all(isinstance(each, str) for each in stop)):
        raise wrong("stop", "must be a text or a list of texts")
    return Sampling(
        temperature=_number(top, "temperature"),
        top_p=_number(top, "top_p"),
        top_k=_whole(top, "top_k"),
        stop=tuple(each for each in stop or () if each),
        seed=_whole(top, "seed", negative=True),
        choices=_whole(top, "n"),
        presence_penalty=_number(top, "presence_penalty"),
        frequency_penalty=_number(top, "frequency_penalty"),
        logit_bias=_object(top, "logit_bias"),
        logprobs=_flag(top, "logprobs"),
        top_logprobs=_whole(top, "top_logprobs"),
    )


def _reasoning(top: dict[str, Any], unread: list[str]) -> ReasoningControl | None:
    """OpenAI's ``reasoning_effort``, and the members that servers with models of their own have for it."""
    mode: str | None = None
    budget: int | None = None
    show: str | None = None
    effort = _text(top, "reasoning_effort")
    wanted = top.get("enable_thinking")
    template = top.get("chat_template_kwargs")
    if isinstance(template, dict) and isinstance(template.get("enable_thinking"), bool):
        wanted = template["enable_thinking"]
        _seen(unread, "chat_template_kwargs")
    if isinstance(wanted, bool):
        mode = "on" if wanted else "off"
    thinking = _object(top, "thinking")
    if thinking is not None:
        mode = {"enabled": "on", "disabled": "off", "adaptive": "adaptive"}.get(str(thinking.get("type")), mode)
        budget = _optional_whole(thinking.get("budget_tokens"))
    budget = _optional_whole(top.get("thinking_budget")) if budget is None else budget
    if "thinking_budget" in top:
        _seen(unread, "thinking_budget")
    told = _object(top, "reasoning")
    if told is not None:
        given = told.get("effort")
        effort = effort or (given if isinstance(given, str) else None)
        budget = _optional_whole(told.get("max_tokens")) if budget is None else budget
        if told.get("enabled") is False:
            mode = "off"
        elif told.get("enabled") is True:
            mode = mode or "on"
        show = "omitted" if told.get("exclude") is True else None
    extra = top.get("extra_body")
    google = extra.get("google") if isinstance(extra, dict) else None
    config = google.get("thinking_config") if isinstance(google, dict) else None
    if isinstance(config, dict):
        _seen(unread, "extra_body")
        level = config.get("thinking_level")
        effort = effort or (level.lower() if isinstance(level, str) else None)
        budget = _optional_whole(config.get("thinking_budget")) if budget is None else budget
        if isinstance(config.get("include_thoughts"), bool):
            show = "summarised" if config["include_thoughts"] else "omitted"
    if effort == "none":
        mode = "off"
    if mode is None and effort is None and budget is None and show is None:
        return None
    return ReasoningControl(mode, effort, budget, show)


def _seen(unread: list[str], name: str) -> None:
    if name in unread:
        unread.remove(name)


def _output(given: Any) -> OutputFormat | None:
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json")
    if kind != "json_schema":
        raise wrong("response_format.type", "must be text, json_object or json_schema")
    inner = given.get("json_schema")
    if not isinstance(inner, dict):
        raise wrong("response_format.json_schema", "must be an object")
    schema, strict, name = inner.get("schema"), inner.get("strict"), inner.get("name")
    if schema is not None and not isinstance(schema, dict):
        raise wrong("response_format.json_schema.schema", "must be an object")
    description = inner.get("description")
    return OutputFormat(
        "json_schema",
        schema,
        name if isinstance(name, str) else "",
        strict if isinstance(strict, bool) else None,
        description if isinstance(description, str) else "",
    )


def _automatic(top: dict[str, Any]) -> CacheMark | None:
    options = top.get("prompt_cache_options")
    if not isinstance(options, dict) or options.get("mode") != "implicit":
        return None
    ttl = options.get("ttl")
    return CacheMark(ttl if isinstance(ttl, str) else None)


# ------------------------------------------------------------------------------------------ members by their types


def _text(top: dict[str, Any], name: str) -> str | None:
    value = top.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong(name, "must be a text")
    return value or None


def _flag(top: dict[str, Any], name: str) -> bool | None:
    value = top.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "must be true or false")
    return value


def _object(top: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = top.get(name)
    if value is not None and not isinstance(value, dict):
        raise wrong(name, "must be an object")
    return value


def _number(top: dict[str, Any], name: str) -> float | None:
    value = top.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise wrong(name, "must be a number")
    return value


def _whole(top: dict[str, Any], name: str, negative: bool = False) -> int | None:
    value = top.get(name)
    if value is None:
        return None
    found = _optional_whole(value)
    if found is None or (found < 0 and not negative):
        raise wrong(name, "must be a whole number")
    return found


def _optional_whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
