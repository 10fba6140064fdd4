"""Tools of the OpenAI Responses dialect, both ways: definitions, hosted tools, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import schemas
from ..conversation import Conversation, Tool, ToolChoice
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible, Target
from ..tool_names import ToolNames
from .responses_request import is_hosted

#: Hosted tools by the neutral word for what they do.
_SERVERS = {"web_search": "web_search", "web_search_preview": "web_search", "code_interpreter": "code_execution"}
_HOSTED = {"web_search": "web_search", "code_execution": "code_interpreter"}
_PLACE = ("city", "region", "country", "timezone")
_EMPTY: dict[str, Any] = {"type": "object", "properties": {}}


# ------------------------------------------------------------------------------------------ reading


def read(value: Any, where: str) -> Iterator[Tool]:
    """
    Tools as a request or an item offers them.

    :raises RouterError: ``BAD_REQUEST``.
    """
    if value is None:
        return
    if not isinstance(value, list):
        raise RouterError(Kind.BAD_REQUEST, f"`{where}` must be a list")
    for index, tool in enumerate(value):
        if not isinstance(tool, dict):
            raise RouterError(Kind.BAD_REQUEST, f"`{where}[{index}]` must be an object")
        if tool.get("type") == "namespace":
            inner = tool.get("tools")
            for each in inner if isinstance(inner, list) else ():
                if isinstance(each, dict):
                    yield _read(each, f"{where}[{index}].tools[]", _text(tool, "name"))
        else:
            yield _read(tool, f"{where}[{index}]", "")


def _read(tool: Mapping[str, Any], where: str, namespace: str) -> Tool:
    kind, name = _text(tool, "type"), _text(tool, "name")
    if kind in ("function", "custom") and not name:
        raise RouterError(Kind.BAD_REQUEST, f"`{where}.name` is missing")
    if kind == "function":
        strict, schema = tool.get("strict"), tool.get("parameters")
        return Tool(
            name,
            _text(tool, "description"),
            schema if isinstance(schema, (dict, bool)) else None,
            strict=strict if isinstance(strict, bool) else None,
            namespace=namespace,
            raw=tool,
        )
    if kind == "custom":
        form = tool.get("format")
        grammar = form if isinstance(form, dict) and form.get("type") == "grammar" else None
        return Tool(name, _text(tool, "description"), kind="custom", namespace=namespace, grammar=grammar, raw=tool)
    server = server_of(kind)
    return Tool(hosted_name(kind, tool), kind="server", server=server, options=_options(tool), raw=tool)


def server_of(kind: str) -> str:
    """The neutral word for a hosted tool's type; types come with dates (``web_search_2025_08_26``)."""
    if kind.startswith("web_search"):
        return "web_search"
    return _SERVERS.get(kind, kind)


def hosted_name(kind: str, tool: Mapping[str, Any]) -> str:
    """The name under which a hosted tool is known in a conversation."""
    if kind == "mcp":
        return _text(tool, "server_label") or kind
    return server_of(kind)


def _options(tool: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    filters = tool.get("filters")
    if isinstance(filters, dict):
        for name in ("allowed_domains", "blocked_domains"):
            if isinstance(domains := filters.get(name), list) and domains:
                options[name] = domains
    place = tool.get("user_location")
    if isinstance(place, dict):
        found = {name: place[name] for name in _PLACE if isinstance(place.get(name), str)}
        if found:
            options["user_location"] = found
    if size := _text(tool, "search_context_size"):
        options["context_size"] = size
    return options


# ------------------------------------------------------------------------------------------ writing


def write(conversation: Conversation, names: ToolNames, target: Target, notes: dict[str, None]) -> dict[str, Any]:
    """
    The members ``tools``, ``tool_choice`` and ``parallel_tool_calls``.

    :param notes: what was left out or changed is added here.
    :raises Inexpressible: a tool that must be called cannot be offered.
    """
    capabilities = target.capabilities
    offered: list[Mapping[str, Any]] = []
    namespaces: dict[str, dict[str, Any]] = {}
    for tool in names.tools:
        written = _written(tool, notes)
        if not tool.namespace:
            offered.append(written)
            continue
        group = namespaces.get(tool.namespace)
        if group is None:
            group = namespaces[tool.namespace] = {"type": "namespace", "name": tool.namespace, "tools": []}
            offered.append(group)
        group["tools"].append(written)
    removed: list[Tool] = []
    for tool in conversation.tools:
        if tool.kind == "server":
            hosted = _hosted(tool, conversation, target, notes)
            if hosted is None:
                removed.append(tool)
            else:
                offered.append(hosted)
    choice = conversation.tool_choice
    if removed:
        forced = choice is not None and choice.mode in ("one", "required")
        if (forced and choice is not None and choice.name in {tool.name for tool in removed}) or not offered:
            # An answer from memory is not what was asked for.
            raise Inexpressible(f"`tools`: this upstream does not run {removed[0].server or removed[0].name} itself")
        notes.update((f"tools.{(tool.server or tool.name)[:64]}", None) for tool in removed)
    if not offered:
        if choice is not None and choice.mode in ("one", "required"):
            raise Inexpressible("`tool_choice`: a tool is forced and none is offered")
        return {}
    members: dict[str, Any] = {"tools": offered}
    if choice is not None:
        members["tool_choice"] = _choice(choice, conversation, names, target)
    if conversation.parallel is False and (choice is None or choice.mode != "none"):
        if capabilities.parallel_flag:
            members["parallel_tool_calls"] = False
        else:
            notes["parallel_tool_calls"] = None
    return members


def _written(tool: Tool, notes: dict[str, None]) -> dict[str, Any]:
    if tool.kind == "custom":
        custom: dict[str, Any] = {"type": "custom", "name": tool.name}
        if tool.description:
            custom["description"] = tool.description
        if tool.grammar:
            custom["format"] = {"type": "grammar", **tool.grammar}
        return custom
    function: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        function["description"] = tool.description
    strict = tool.strict is True
    if strict and not (isinstance(tool.schema, Mapping) and schemas.obeys_strict(tool.schema)):
        notes[f"tools.{tool.name[:64]}.strict"] = None
        strict = False
    # What is strict is taken as it stands, or not at all.
    schema: Any = tool.schema if strict else schemas.clean(tool.schema, "openai")
    function["parameters"] = _EMPTY if schema is None else schema
    # Without it optional parameters become required ones.
    function["strict"] = strict
    return function


def _hosted(tool: Tool, conversation: Conversation, target: Target, notes: dict[str, None]) -> Mapping[str, Any] | None:
    """A tool that the provider runs itself, ``None`` where it does not."""
    capabilities = target.capabilities
    if conversation.dialect == "openai-responses" and tool.raw is not None and capabilities.server_tools == "honoured":
        return tool.raw
    if tool.server not in capabilities.server_tool_kinds or tool.server not in _HOSTED:
        return None
    hosted: dict[str, Any] = {"type": _HOSTED[tool.server]}
    if tool.server == "code_execution":
        hosted["container"] = {"type": "auto"}
        return hosted
    options = tool.options
    if domains := options.get("allowed_domains"):
        hosted["filters"] = {"allowed_domains": domains}
    if place := options.get("user_location"):
        hosted["user_location"] = {"type": "approximate", **place}
    if size := options.get("context_size"):
        hosted["search_context_size"] = size
    for name in ("blocked_domains", "max_uses"):
        if options.get(name):
            notes[f"tools.{tool.server}.{name}"] = None
    return hosted


def _choice(choice: ToolChoice, conversation: Conversation, names: ToolNames, target: Target) -> Any:
    forced = choice.mode in ("one", "required")
    if forced and target.capabilities.tool_choice_force == "refused":
        raise Inexpressible("`tool_choice`: this upstream cannot be made to call a tool")
    if choice.allowed is not None:
        if not choice.allowed:
            return "none"
        allowed = [_chosen(name, conversation, names) for name in choice.allowed]
        return {"type": "allowed_tools", "mode": "required" if forced else "auto", "tools": allowed}
    return _chosen(choice.name, conversation, names) if choice.mode == "one" else choice.mode


def _chosen(name: str, conversation: Conversation, names: ToolNames) -> dict[str, Any]:
    tool = next((tool for tool in conversation.tools if tool.name == name), None)
    if tool is not None and tool.kind == "server":
        kind = tool.raw.get("type") if tool.raw is not None and is_hosted(tool.raw.get("type")) else None
        same = conversation.dialect == "openai-responses" and kind is not None
        return {"type": kind if same else _HOSTED.get(tool.server, tool.server)}
    kind = "custom" if tool is not None and tool.kind == "custom" else "function"
    return {"type": kind, "name": names.wire(name, "" if tool is None else tool.namespace)}


def _text(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""
