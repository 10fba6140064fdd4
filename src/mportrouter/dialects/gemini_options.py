"""Reads what stands beside the turns of a Gemini request: tools, their choice, and how the answer shall be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..conversation import OutputFormat, ReasoningControl, Sampling, Tool, ToolChoice
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible
from ..schemas import from_gemini
from .gemini_spelling import camel, field, listed, mapping, text

#: Tools that the provider runs, by their neutral names.
SERVERS = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "codeExecution": "code_execution",
    "urlContext": "web_fetch",
}
_DETAILS = {"MEDIA_RESOLUTION_LOW": "low", "MEDIA_RESOLUTION_MEDIUM": "auto", "MEDIA_RESOLUTION_HIGH": "high"}
_READ = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model", "labels", "serviceTier"}
)
_READ_CONFIG = frozenset(
    {
        "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "seed",
        "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "responseMimeType", "responseSchema",
        "responseJsonSchema", "thinkingConfig", "mediaResolution", "responseModalities",
    }
)  # fmt: skip
#: Members of ``toolConfig``; whether the provider's tools go beside functions follows from the tools.
_READ_CHOICE = frozenset({"functionCallingConfig", "includeServerSideToolInvocations"})
#: Members of a function's declaration that have a neutral counterpart.
_READ_FUNCTION = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


def read(top: Mapping[str, Any], refuse: bool) -> dict[str, Any]:
    """
    :param refuse: say no to what no other dialect has and what must not be left out.
    :returns: the fields of :class:`mportrouter.conversation.Conversation` that do not come from the turns.
    :raises RouterError: ``BAD_REQUEST``.
    """
    config = mapping(top, "generationConfig") or {}
    unread = [name for name, value in top.items() if camel(name) not in _READ and value is not None]
    unread += [
        f"generationConfig.{name}"
        for name, value in config.items()
        if camel(name) not in _READ_CONFIG and value is not None
    ]
    if refuse:
        if field(top, "cachedContent") is not None:
            raise Inexpressible("`cachedContent` names a cache of Google's, which no other provider has")
        others = [name for name in listed(field(config, "responseModalities")) if str(name).upper() != "TEXT"]
        if others:
            raise Inexpressible(f"`generationConfig.responseModalities` asks for {others[0]}, not for text")
    tools = _tools(listed(field(top, "tools")), unread)
    labels = mapping(top, "labels")
    return {
        "tools": tools,
        "tool_choice": _choice(mapping(top, "toolConfig") or {}, unread),
        "max_output": _number(config, "maxOutputTokens", whole=True),
        "sampling": _sampling(config),
        "reasoning": _reasoning(mapping(config, "thinkingConfig")),
        "output": _output(config, unread),
        "metadata": labels,
        "service_tier": text(top, "serviceTier").lower() or None,
        "unread": tuple(unread),
    }


def detail(config: Mapping[str, Any]) -> str | None:
    """How closely pictures are looked at, for the whole request."""
    return _DETAILS.get(text(config, "mediaResolution"))


def part_detail(part: Mapping[str, Any]) -> str | None:
    """The same for one part."""
    value = field(part, "mediaResolution")
    level = text(value, "level") if isinstance(value, dict) else value
    return _DETAILS.get(level) if isinstance(level, str) else None


def _tools(tools: list[Any], unread: list[str]) -> tuple[Tool, ...]:
    out: list[Tool] = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise _bad(f"`tools[{index}]` must be an object")
        for name, value in tool.items():
            known = camel(name)
            if known == "functionDeclarations":
                out += [_function(index, each, unread) for each in listed(value)]
            elif value is not None:
                out.append(_server(known, value if isinstance(value, dict) else {}))
    return tuple(out)


def _function(index: int, declaration: Any, unread: list[str]) -> Tool:
    where = f"tools[{index}].functionDeclarations"
    if not isinstance(declaration, dict) or not text(declaration, "name"):
        raise _bad(f"a function of `{where}` has no `name`")
    schema = field(declaration, "parametersJsonSchema")
    if schema is None:
        parameters = mapping(declaration, "parameters")
        schema = None if parameters is None else from_gemini(parameters)
    elif not isinstance(schema, dict):
        raise _bad(f"`{where}[].parametersJsonSchema` must be an object")
    for name in declaration:
        told = f"{where}[].{name}"
        if camel(name) not in _READ_FUNCTION and told not in unread:
            unread.append(told)
    return Tool(text(declaration, "name"), text(declaration, "description"), schema, raw=declaration)


def _server(name: str, options: Mapping[str, Any]) -> Tool:
    kind = SERVERS.get(name, name)
    blocked = [each for each in listed(field(options, "excludeDomains")) if isinstance(each, str)]
    return Tool(
        kind, kind="server", server=kind, options={"blocked_domains": blocked} if blocked else {}, raw={name: options}
    )


def _choice(config: Mapping[str, Any], unread: list[str]) -> ToolChoice | None:
    unread += [f"toolConfig.{name}" for name in config if camel(name) not in _READ_CHOICE]
    calling = mapping(config, "functionCallingConfig")
    if calling is None:
        return None
    mode = text(calling, "mode").upper()
    names = tuple(name for name in listed(field(calling, "allowedFunctionNames")) if isinstance(name, str))
    if mode == "ANY":
        if len(names) == 1:
            return ToolChoice("one", names[0])
        return ToolChoice("required", allowed=names or None)
    if mode in ("AUTO", "VALIDATED"):
        if mode == "VALIDATED":
            unread.append("toolConfig.functionCallingConfig.mode (VALIDATED sent as AUTO)")
        return ToolChoice("auto", allowed=names or None)
    if mode == "NONE":
        return ToolChoice("none")
    if mode in ("", "MODE_UNSPECIFIED"):
        return None
    raise _bad("`toolConfig.functionCallingConfig.mode` must be AUTO, ANY, NONE or VALIDATED")


def _sampling(config: Mapping[str, Any]) -> Sampling:
    stops = listed(field(config, "stopSequences"))
    if not all(isinstance(each, str) for each in stops):
        raise _bad("`generationConfig.stopSequences` must be texts")
    logprobs = field(config, "responseLogprobs")
    return Sampling(
        temperature=_number(config, "temperature"),
        top_p=_number(config, "topP"),
        top_k=_number(config, "topK", whole=True),
        stop=tuple(stops),
        seed=_number(config, "seed", whole=True),
        choices=_number(config, "candidateCount", whole=True),
        presence_penalty=_number(config, "presencePenalty"),
        frequency_penalty=_number(config, "frequencyPenalty"),
        logprobs=logprobs if isinstance(logprobs, bool) else None,
        top_logprobs=_number(config, "logprobs", whole=True),
    )


def _reasoning(config: Mapping[str, Any] | None) -> ReasoningControl | None:
    if not config:
        return None
    budget = _number(config, "thinkingBudget", whole=True)
    level = text(config, "thinkingLevel").lower()
    if level in ("", "thinking_level_unspecified"):
        effort = None
    else:
        effort = level
    # Thoughts are shown here to whom asks for them, and to nobody else.
    show = "summarised" if field(config, "includeThoughts") is True else "omitted"
    mode = None
    if budget is not None:
        mode = "off" if budget == 0 else ("adaptive" if budget < 0 else "on")
        if budget <= 0:
            budget = None
    return ReasoningControl(mode, effort, budget, show)


def _output(config: Mapping[str, Any], unread: list[str]) -> OutputFormat | None:
    kind = text(config, "responseMimeType")
    schema = field(config, "responseJsonSchema")
    if schema is None:
        given = mapping(config, "responseSchema")
        schema = None if given is None else from_gemini(given)
    elif not isinstance(schema, dict):
        raise _bad("`generationConfig.responseJsonSchema` must be an object")
    if kind == "text/x.enum":
        # One bare word of a list: no other dialect has it, and as JSON it would come in quotes.
        unread.append("generationConfig.responseMimeType=text/x.enum")
        return None
    if schema is not None:
        return OutputFormat("json_schema", schema)
    return OutputFormat("json") if kind == "application/json" else None


def _number(source: Mapping[str, Any], name: str, whole: bool = False) -> Any:
    """
    :raises RouterError: where it is there and no number.
    """
    value = field(source, name)
    if value is None:
        return None
    if isinstance(value, str):
        # Protocol buffers write 64-bit integers as texts (https://protobuf.dev/programming-guides/json/).
        try:
            value = int(value) if whole else float(value)
        except ValueError:
            raise _bad(f"`{name}` must be a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad(f"`{name}` must be a number")
    if not whole:
        return value
    if isinstance(value, float) and not value.is_integer():
        raise _bad(f"`{name}` must be a whole number")
    return int(value)


def _bad(message: str) -> RouterError:
    return RouterError(Kind.BAD_REQUEST, message)
