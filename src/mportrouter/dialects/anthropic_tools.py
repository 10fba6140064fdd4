"""Tool definitions of the Anthropic dialect as neutral tools, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..conversation import CacheMark, Conversation, Tool, ToolChoice
from ..interfaces import Inexpressible, Target
from ..schemas import clean
from ..settings import Capabilities
from ..tool_names import ToolNames
from .anthropic_blocks import Wrong, cache_of

#: Beginnings of the types of tools that the provider runs, and what they do in neutral words.
_SERVER = {
    "web_search_": "web_search",
    "web_fetch_": "web_fetch",
    "code_execution_": "code_execution",
}
_DOMAINS = ("allowed_domains", "blocked_domains")
_PLACE = ("city", "region", "country", "timezone")

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_POINT = {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}


def _schema(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


#: Typed tools that the client runs ("Anthropic-defined tools" in the vendor's documentation): their own models know
#: them by the type; others need it in words. Beginning of the type, description, schema.
_CLIENT: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "bash_",
        "Run a command in a persistent bash session, or restart the session.",
        _schema((), command=_TEXT, restart={"type": "boolean"}),
    ),
    (
        "text_editor_",
        "View, create and edit text files.",
        _schema(
            ("command", "path"),
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert", "undo_edit"]},
            path=_TEXT,
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_WHOLE,
            insert_text=_TEXT,
            view_range={"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2},
        ),
    ),
    (
        "memory_",
        "View, create, edit, move and delete files in the memory directory.",
        _schema(
            ("command",),
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            path=_TEXT,
            view_range={"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2},
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_WHOLE,
            insert_text=_TEXT,
            old_path=_TEXT,
            new_path=_TEXT,
        ),
    ),
    (
        "computer_2",
        "Look at a screen and use its mouse and keyboard.",
        _schema(
            ("action",),
            action=_TEXT,
            coordinate=_POINT,
            start_coordinate=_POINT,
            text=_TEXT,
            duration={"type": "number"},
            scroll_direction={"type": "string", "enum": ["up", "down", "left", "right"]},
            scroll_amount=_WHOLE,
            region={"type": "array", "items": _WHOLE, "minItems": 4, "maxItems": 4},
        ),
    ),
)


def read_tools(value: Any) -> tuple[Tool, ...]:
    """:raises Wrong: naming the member."""
    if not isinstance(value, list):
        raise Wrong("tools: a list is wanted")
    found = []
    for index, raw in enumerate(value):
        if not isinstance(raw, dict):
            raise Wrong(f"tools.{index}: an object is wanted")
        try:
            found.append(_read(raw))
        except Wrong as wrong:
            raise Wrong(f"tools.{index}.{wrong}") from None
    return tuple(found)


def _read(raw: dict[str, Any]) -> Tool:
    get = raw.get
    kind, name, description = get("type"), get("name"), get("description")
    strict, mark = get("strict"), get("cache_control")
    cache: CacheMark | None = None if mark is None else cache_of(mark)
    if kind is not None and not isinstance(kind, str):
        raise Wrong("type: a text is wanted")
    if not isinstance(name, str):
        if not kind or kind == "custom":
            raise Wrong("name: a text is wanted")
        name = ""  # tool sets have none
    words = description if isinstance(description, str) else ""
    if not kind or kind == "custom":
        schema = get("input_schema")
        if schema is not None and not isinstance(schema, (dict, bool)):
            raise Wrong("input_schema: an object is wanted")
        return Tool(
            name, words, schema, "function", strict if isinstance(strict, bool) else None, cache=cache, raw=raw
        )
    for beginning, told, schema in _CLIENT:
        if kind.startswith(beginning):
            return Tool(name, words or told, schema, cache=cache, raw=raw)
    server = next((does for beginning, does in _SERVER.items() if kind.startswith(beginning)), kind)
    return Tool(name, words, None, "server", server=server, options=_options(raw), cache=cache, raw=raw)


def _options(raw: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in _DOMAINS:
        if (domains := raw.get(name)) is not None:
            if not (isinstance(domains, list) and all(isinstance(one, str) for one in domains)):
                raise Wrong(f"{name}: a list of texts is wanted")
            options[name] = domains
    if (uses := raw.get("max_uses")) is not None:
        if isinstance(uses, bool) or not isinstance(uses, int):
            raise Wrong("max_uses: a whole number is wanted")
        options["max_uses"] = uses
    place = raw.get("user_location")
    if isinstance(place, Mapping):
        options["user_location"] = {name: place[name] for name in _PLACE if isinstance(place.get(name), str)}
    return options


def read_choice(value: Any) -> tuple[ToolChoice | None, bool | None]:
    """
    ``tool_choice``, and whether calls may be parallel.

    :raises Wrong: naming the member.
    """
    if not isinstance(value, Mapping):
        raise Wrong("tool_choice: an object is wanted")
    kind = value.get("type")
    parallel = False if value.get("disable_parallel_tool_use") is True else None
    if kind == "tool":
        name = value.get("name")
        if not isinstance(name, str):
            raise Wrong("tool_choice.name: a text is wanted")
        return ToolChoice("one", name), parallel
    mode = {"auto": "auto", "any": "required", "none": "none"}.get(kind) if isinstance(kind, str) else None
    if mode is None:
        raise Wrong(f"tool_choice.type: {str(kind)[:64]} is unknown")
    return ToolChoice(mode), parallel


# ------------------------------------------------------------------------------------------ writing

#: The versions of server tools that are offered to models for clients of other dialects: the oldest of each, which
#: every model that has such a tool takes.
_OFFERED = {
    "web_search": {"type": "web_search_20250305", "name": "web_search"},
    "web_fetch": {"type": "web_fetch_20250910", "name": "web_fetch"},
    "code_execution": {"type": "code_execution_20250825", "name": "code_execution"},
}


def write_tools(
    conversation: Conversation, target: Target, names: ToolNames, notes: dict[str, None]
) -> list[dict[str, Any]]:
    """
    Tools as the target gets them.

    :param notes: what was left out is added here.
    :raises Inexpressible: where a tool of the provider's is forced, or the only one, and it has none such.
    """
    capabilities = target.capabilities
    out = [_written(tool, capabilities) for tool in names.tools]
    servers = [tool for tool in conversation.tools if tool.kind == "server"]
    for tool in servers:
        known = (
            capabilities.server_tools == "honoured"
            and tool.server in capabilities.server_tool_kinds
            and tool.server in _OFFERED
            and (capabilities.server_tools_with_functions or not names.tools)
        )
        if known:
            out.append(_served(tool))
            continue
        choice, called = conversation.tool_choice, tool.name or tool.server
        if len(conversation.tools) == 1 or (choice is not None and choice.mode == "one" and choice.name == tool.name):
            raise Inexpressible(f"`tools`: the provider has no {called[:64]}")
        notes[f"tools.{called[:64]}"] = None
    if servers and not out:
        raise Inexpressible("`tools`: the provider has none of the tools that it is to run")
    return out


def _written(tool: Tool, capabilities: Capabilities) -> dict[str, Any]:
    block: dict[str, Any] = {"name": tool.name}
    if tool.description:
        block["description"] = tool.description
    strict = tool.strict is True and capabilities.structured_output == "honoured"
    schema = clean(tool.schema, "anthropic_output" if strict else capabilities.schema_profile or "anthropic")
    block["input_schema"] = schema or {"type": "object", "properties": {}}
    if strict:
        block["strict"] = True
    if tool.cache is not None and capabilities.cache_marks == "cache_control":
        block["cache_control"] = {"type": "ephemeral"} if tool.cache.ttl != "1h" else {"type": "ephemeral", "ttl": "1h"}
    for name in capabilities.strip_tool_fields:
        block.pop(name, None)
    return block


def _served(tool: Tool) -> dict[str, Any]:
    block: dict[str, Any] = dict(_OFFERED[tool.server])
    if tool.server == "code_execution":
        return block
    options = tool.options
    if options.get("allowed_domains"):
        block["allowed_domains"] = list(options["allowed_domains"])
    elif options.get("blocked_domains"):
        block["blocked_domains"] = list(options["blocked_domains"])
    if options.get("max_uses"):
        block["max_uses"] = options["max_uses"]
    place = options.get("user_location")
    if tool.server == "web_search" and isinstance(place, Mapping) and place:
        block["user_location"] = {"type": "approximate", **{name: place[name] for name in _PLACE if place.get(name)}}
    return block


def write_choice(
    conversation: Conversation, target: Target, names: ToolNames, tools: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """
    ``tool_choice``, ``None`` where nothing is to be said.

    :param tools: what is offered.
    :raises Inexpressible: where the model cannot be made to call a tool.
    """
    choice, single = conversation.tool_choice, conversation.parallel is False
    if not tools:
        if choice is not None and choice.mode in ("required", "one"):
            raise Inexpressible("`tool_choice`: a tool is forced and none is offered")
        return None
    if choice is None:
        return {"type": "auto", "disable_parallel_tool_use": True} if single else None
    if choice.mode == "none" or choice.allowed == ():
        return {"type": "none"}
    written: dict[str, Any] = {"type": "auto"}
    if choice.mode in ("required", "one"):
        if target.capabilities.tool_choice_force == "refused":
            raise Inexpressible("`tool_choice`: the model cannot be made to call a tool")
        written["type"] = "any"
        if choice.mode == "one":
            written = {"type": "tool", "name": names.wire(choice.name)}
    if single:
        written["disable_parallel_tool_use"] = True
    return written
