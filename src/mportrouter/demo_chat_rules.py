"""
What stand-ins refuse of a request of Chat Completions: OpenAI itself, or a server of another maker.

Sources: the API description (members, which may be null, roles, the pairing of tool messages) and the texts of the
errors. Servers of other makers overlook what they do not know; what they know they take as strictly.
"""

from __future__ import annotations

import json
from typing import Any

from .demo_openai import (
    BREAKPOINT,
    COMMON,
    EFFORTS,
    NAME,
    VERBOSITY,
    check_base64,
    check_file,
    check_picture,
    check_sampling,
    is_reasoning,
)
from .demo_said import bad
from .demo_schemas import check_format, check_function
from .demo_shapes import Each, Either, Flag, Free, Kinds, Members, Number, Shape, Words, missing

_NAMED = Members({"name": Words(most=64)}, ("name",))
_FUNCTION = Members(
    {
        "name": Words(1, 64, NAME),
        "description": Words(),
        "parameters": Free(),
        "strict": Flag(),
    },
    ("name",),
)
_GRAMMAR = Members({"syntax": Words(among=("lark", "regex")), "definition": Words()}, ("syntax", "definition"))
_FORMAT = Kinds({"text": Members({}), "grammar": Members({"grammar": _GRAMMAR}, ("grammar",))})
_CUSTOM = Members({"name": Words(1, 64, NAME), "description": Words(), "format": _FORMAT}, ("name",))
_TOOL = Kinds(
    {"function": Members({"function": _FUNCTION}, ("function",)), "custom": Members({"custom": _CUSTOM}, ("custom",))}
)
_ONE_TOOL = {
    "function": Members({"function": _NAMED}, ("function",)),
    "custom": Members({"custom": _NAMED}, ("custom",)),
}
_ALLOWED = Members({"mode": Words(among=("auto", "required")), "tools": Each(Kinds(_ONE_TOOL), 1)}, ("mode", "tools"))
_CHOICE = Either(
    Words(among=("none", "auto", "required")),
    object=Kinds({**_ONE_TOOL, "allowed_tools": Members({"allowed_tools": _ALLOWED}, ("allowed_tools",))}),
)
_SHAPE = Members(
    {
        "name": Words(1, 64, NAME),
        "description": Words(),
        "schema": Free(),
        "strict": Flag(),
    },
    ("name",),
)
_RESPONSE_FORMAT = Kinds(
    {
        "text": Members({}),
        "json_object": Members({}),
        "json_schema": Members({"json_schema": _SHAPE}, ("json_schema",)),
    }
)

_TEXT = Members({"text": Words(), "prompt_cache_breakpoint": BREAKPOINT}, ("text",))
_REFUSAL = Members({"refusal": Words()}, ("refusal",))
_IMAGE = Members({"url": Words(), "detail": Words(among=("auto", "low", "high", "original"))}, ("url",))
_AUDIO = Members({"data": Words(), "format": Words(among=("wav", "mp3"))}, ("data", "format"))
_FILE = Members({"file_data": Words(), "file_id": Words(), "filename": Words()})
_USER_PARTS = Kinds(
    {
        "text": _TEXT,
        "image_url": Members({"image_url": _IMAGE, "prompt_cache_breakpoint": BREAKPOINT}, ("image_url",)),
        "input_audio": Members({"input_audio": _AUDIO, "prompt_cache_breakpoint": BREAKPOINT}, ("input_audio",)),
        "file": Members({"file": _FILE, "prompt_cache_breakpoint": BREAKPOINT}, ("file",)),
    }
)
_TEXTS = Either(Words(), Each(Kinds({"text": _TEXT}), 1))
_SENDER = Words(1, 64, r"[^\s<|\\/>]+")
_ID = Words(1, 40)
_CALL = Kinds(
    {
        "function": Members(
            {"id": _ID, "function": Members({"name": Words(1, 64, NAME), "arguments": Words()}, ("name", "arguments"))},
            ("id", "function"),
        ),
        "custom": Members(
            {"id": _ID, "custom": Members({"name": Words(1, 64, NAME), "input": Words()}, ("name", "input"))},
            ("id", "custom"),
        ),
    }
)
_OLD_CALL = Members({"name": Words(1, 64, NAME), "arguments": Words()}, ("name", "arguments"), null=True)
_INSTRUCTION = Members({"content": _TEXTS, "name": _SENDER}, ("content",))
_MESSAGE = Kinds(
    {
        "system": _INSTRUCTION,
        "developer": _INSTRUCTION,
        "user": Members({"content": Either(Words(), Each(_USER_PARTS, 1)), "name": _SENDER}, ("content",)),
        "assistant": Members(
            {
                "content": Either(Words(), Each(Kinds({"text": _TEXT, "refusal": _REFUSAL}), 1), null=True),
                "name": _SENDER,
                "refusal": Words(null=True),
                "audio": Members({"id": Words()}, ("id",), null=True),
                "tool_calls": Each(_CALL, 1),
                "function_call": _OLD_CALL,
                # The official client gives a whole answer back as it came.
                "annotations": Each(Free()),
            }
        ),
        "tool": Members({"content": _TEXTS, "tool_call_id": _ID}, ("content", "tool_call_id")),
        "function": Members({"content": Words(null=True), "name": Words(1, 64, NAME)}, ("content", "name")),
    },
    name="role",
)
_KNOWN: dict[str, Shape] = {
    **COMMON,
    "messages": Each(_MESSAGE, 1),
    "max_completion_tokens": Number(1, whole=True),
    "max_tokens": Number(1, whole=True),
    "frequency_penalty": Number(-2, 2),
    "presence_penalty": Number(-2, 2),
    "seed": Number(whole=True),
    "n": Number(1, 128, whole=True),
    "logit_bias": Free(null=True),
    "logprobs": Flag(),
    "stop": Either(Words(), Each(Words(), 1, 4), null=True),
    "stream_options": Members({"include_usage": Flag(), "include_obfuscation": Flag()}, null=True),
    "tools": Each(_TOOL, 1, 128),
    "tool_choice": _CHOICE,
    "response_format": _RESPONSE_FORMAT,
    "reasoning_effort": Words(among=EFFORTS, null=True),
    "verbosity": VERBOSITY,
    "service_tier": Words(among=("auto", "default", "flex", "scale", "priority", "fast"), null=True),
    "modalities": Each(Words(among=("text", "audio")), null=True),
    "audio": Free(null=True),
    "prediction": Free(null=True),
    "web_search_options": Free(),
    "functions": Each(_FUNCTION, 1, 128),
    "function_call": Either(Words(among=("none", "auto")), object=_NAMED),
}
_BODY = Members(_KNOWN)


def check(body: Any, strict: bool) -> None:
    """
    :param strict: be OpenAI itself.
    :raises Refusal: the first rule that the request breaks.
    """
    if not isinstance(body, dict):
        raise bad("We could not parse the JSON body of your request.")
    if strict:
        for name in body:
            if name not in _KNOWN:
                raise bad(f"Unrecognized request argument supplied: {name}", "unknown_parameter", name)
    if not isinstance(body.get("model"), str):
        raise bad("you must provide a model parameter", "missing_required_parameter", "model")
    if "messages" not in body:
        raise missing("messages")
    _BODY.check(body, "", strict)
    if not body["messages"]:
        raise bad("Invalid 'messages': empty array.", "empty_array", "messages")
    _check_limits(body, strict)
    _check_tools(body, strict)
    _check_format(body, strict)
    for index, message in enumerate(body["messages"]):
        if not strict and message["role"] == "developer":
            raise bad("Unexpected message role.")
        _check_content(f"messages[{index}]", message, strict)
    _check_order(body["messages"])


def _check_limits(body: dict[str, Any], strict: bool) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise bad("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        words = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise bad(words, None, "stream_options")
    if not strict:
        return
    if body.get("max_tokens") is not None and is_reasoning(body["model"]):
        words = "Unsupported parameter: 'max_tokens' is not supported with this model."
        raise bad(f"{words} Use 'max_completion_tokens' instead.", "unsupported_parameter", "max_tokens")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise bad("You can't use 'top_logprobs' unless 'logprobs' is enabled.", None, "top_logprobs")
    check_sampling(body, ("stop", "logprobs", "top_logprobs", "logit_bias"))


def _check_tools(body: dict[str, Any], strict: bool) -> None:
    tools = body.get("tools") or ()
    if not tools:
        for name in ("tool_choice", "parallel_tool_calls") if strict else ("tool_choice",):
            if body.get(name) is not None and (strict or body[name] not in ("none", "auto")):
                raise bad(f"'{name}' is only allowed when 'tools' are specified.", None, name)
    if body.get("function_call") is not None and not body.get("functions"):
        raise bad("'function_call' is only allowed when 'functions' are specified.", None, "function_call")
    if tools and body.get("functions"):
        raise bad("'functions' and 'tools' cannot be given at the same time.")
    functions = [(f"tools[{at}].function", tool["function"]) for at, tool in enumerate(tools) if "function" in tool]
    functions += [(f"functions[{at}]", function) for at, function in enumerate(body.get("functions") or ())]
    for where, function in functions:
        schema = function.get("parameters")
        if schema is None:
            continue
        if strict:
            check_function(function["name"], schema, function.get("strict") is True, where)
        elif schema.get("type") != "object":
            raise bad(f"Invalid schema for function '{function['name']}': not of type object.", None, where)
    offered = {(tool["type"], tool[tool["type"]]["name"]) for tool in tools}
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        for each in allowed["tools"] if allowed else (choice,):
            name = each[each["type"]]["name"]
            if (each["type"], name) not in offered:
                raise bad(f"Tool choice '{name}' not found in 'tools' parameter.", None, "tool_choice")


def _check_format(body: dict[str, Any], strict: bool) -> None:
    form = body.get("response_format") or {}
    if form.get("type") == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        words = "must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        raise bad(f"'messages' {words}", None, "messages")
    if form.get("type") == "json_schema":
        shape = form["json_schema"]
        wanted = shape.get("strict") is True and strict
        if wanted and "schema" not in shape:
            raise missing("response_format.json_schema.schema")
        if shape.get("schema") is not None:
            check_format(shape["name"], shape["schema"], wanted, "response_format")


def _check_content(where: str, message: dict[str, Any], strict: bool) -> None:
    content = message.get("content")
    if content is None:
        called = message.get("tool_calls") or message.get("function_call") or message.get("audio")
        if message["role"] != "function" and not called and not message.get("refusal"):
            raise bad("Invalid value for 'content': expected a string, got null.", None, f"{where}.content")
        return
    for at, part in enumerate(content if isinstance(content, list) else ()):
        place = f"{where}.content[{at}]"
        kind = part["type"]
        if kind == "image_url":
            check_picture(part["image_url"]["url"], f"{place}.image_url.url")
        elif kind == "input_audio":
            check_base64(part["input_audio"]["data"], f"{place}.input_audio.data")
        elif kind == "file":
            given = [name for name in ("file_data", "file_id") if part["file"].get(name) is not None]
            if len(given) != 1:
                raise missing(f"{place}.file.file_id")
            if given == ["file_data"]:
                check_file(part["file"]["file_data"], f"{place}.file.file_data")
                if strict and not part["file"].get("filename"):
                    raise missing(f"{place}.file.filename")


def _check_order(messages: list[dict[str, Any]]) -> None:
    """Each tool message answers a call of the last assistant message, and each of its calls has one."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            id = message["tool_call_id"]
            if id not in waiting:
                words = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                raise bad(f"Invalid parameter: {words}", None, f"messages[{index}].role")
            waiting.remove(id)
            continue
        _all_answered(waiting, index)
        if message["role"] == "assistant":
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
            if len(set(waiting)) < len(waiting):
                raise bad(f"Duplicate value for 'tool_call_id' in messages[{index}].tool_calls.", "invalid_value")
    _all_answered(waiting, len(messages))


def _all_answered(waiting: list[str], index: int) -> None:
    if waiting:
        words = "must be followed by tool messages responding to each 'tool_call_id'."
        ids = ", ".join(waiting)
        raise bad(
            f"An assistant message with 'tool_calls' {words} The following tool_call_ids did not have response "
            f"messages: {ids}",
            None,
            f"messages[{index - 1}].role",
        )


def offered_by(body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The tools of a checked request, each ``function`` or ``custom`` and what it says of itself."""
    choice = body.get("tool_choice")
    tools = [(tool["type"], tool[tool["type"]]) for tool in body.get("tools") or ()]
    allowed = choice.get("allowed_tools") if isinstance(choice, dict) else None
    if allowed:
        names = [(each["type"], each[each["type"]]["name"]) for each in allowed["tools"]]
        tools = [(kind, tool) for kind, tool in tools if (kind, tool["name"]) in names]
    return [*tools, *(("function", function) for function in body.get("functions") or ())]
