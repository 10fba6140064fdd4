"""
The stand-ins' voice in OpenAI's Chat Completions: what the real one refuses, how it answers and how it streams.

Sources: the API description (members, roles, the pairing of tool messages) and the texts of its errors.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .demo_said import Asked, Refusal, Said, bad, prompt_tokens, say
from .demo_voice import Spelt, dump

_MEMBERS = frozenset(
    [
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "n",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "stop",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "verbosity",
        "service_tier",
        "store",
        "metadata",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "modalities",
        "audio",
        "prediction",
        "web_search_options",
        "moderation",
        "functions",
        "function_call",
    ]
)
#: What a lenient server of this dialect takes besides.
_MORE = frozenset(
    ["top_k", "thinking", "enable_thinking", "chat_template_kwargs", "reasoning", "reasoning_format", "min_p"]
)
_MESSAGE = frozenset(
    ["role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call", "annotations"]
)
_REASONING = frozenset(("reasoning_content", "reasoning", "reasoning_details"))
_PARTS = {
    "system": frozenset(("text",)),
    "developer": frozenset(("text",)),
    "user": frozenset(("text", "image_url", "input_audio", "file")),
    "assistant": frozenset(("text", "refusal")),
    "tool": frozenset(("text",)),
    "function": frozenset(("text",)),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_STOPS = {"end": "stop", "length": "length", "stop_sequence": "stop", "tool": "tool_calls"}


class ChatVoice:
    """
    :param title: the provider's name in answers.
    :param models: ids of its models.
    :param strict: refuse what OpenAI itself refuses and compatible servers take.
    :param reasoning: the member in which thoughts are told, ``""`` for none.
    """

    garbage = b'data: {"id": "chatcmpl-\n\n'

    def __init__(self, title: str, models: tuple[str, ...], strict: bool = True, reasoning: str = "") -> None:
        self._models = models
        self._title = title
        self._strict = strict
        self._reasoning = reasoning

    # ------------------------------------------------------------------------------------------------ rules

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> None:
        """:raises Refusal: as the real one does."""
        if not isinstance(body, dict):
            raise bad("We could not parse the JSON body of your request.")
        known = _MEMBERS if self._strict else _MEMBERS | _MORE
        for name, value in body.items():
            if name not in known:
                raise bad(f"Unrecognized request argument supplied: {name}", "unknown_parameter")
            if value is None and self._strict and name in ("tools", "stop_sequences", "messages"):
                raise bad(f"Invalid type for '{name}': expected an array, but got null instead.", "invalid_type")
        if not isinstance(body.get("model"), str):
            raise bad("you must provide a model parameter", "missing_required_parameter")
        if "max_tokens" in body and "max_completion_tokens" in body:
            raise bad("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
        if self._strict and "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model."
            raise bad(f"{words} Use 'max_completion_tokens' instead.", "unsupported_parameter")
        if "stream_options" in body and body.get("stream") is not True:
            raise bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        stop = body.get("stop")
        if isinstance(stop, list) and not 0 < len(stop) <= 4:
            raise bad("Invalid 'stop': array must hold 1 to 4 texts.")
        self._check_tools(body)
        self._check_messages(body.get("messages"))
        form = body.get("response_format")
        if (
            isinstance(form, dict)
            and form.get("type") == "json_object"
            and "json" not in json.dumps(body["messages"]).lower()
        ):
            raise bad(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
        if (
            isinstance(form, dict)
            and form.get("type") == "json_schema"
            and not (form.get("json_schema") or {}).get("name")
        ):
            raise bad("Missing required parameter: 'response_format.json_schema.name'.", "missing_required_parameter")

    def _check_tools(self, body: dict[str, Any]) -> None:
        tools = body.get("tools")
        if tools is not None and not tools:
            raise bad("Invalid 'tools': empty array. Expected an array with minimum length 1.", "empty_array")
        if not tools and not body.get("functions"):
            for name in ("tool_choice", "parallel_tool_calls"):
                if name in body:
                    raise bad(f"'{name}' is only allowed when 'tools' are specified.")
        for index, tool in enumerate(tools or ()):
            inner = tool.get(tool.get("type") or "")
            if tool.get("type") not in ("function", "custom") or not isinstance(inner, dict):
                raise bad(f"Missing required parameter: 'tools[{index}].function'.", "missing_required_parameter")
            if not _NAME.match(str(inner.get("name"))):
                raise bad(f"Invalid 'tools[{index}].function.name': string does not match pattern.", "invalid_value")
            schema = inner.get("parameters")
            if tool["type"] == "function" and "parameters" in inner:
                if not isinstance(schema, dict) or schema.get("type") != "object":
                    words = "schema must be a JSON Schema of 'type: \"object\"'."
                    raise bad(f"Invalid schema for function '{inner['name']}': {words}", "invalid_function_parameters")
                if inner.get("strict") and not _closed(schema):
                    words = "In context=(), 'additionalProperties' is required to be supplied and to be false."
                    raise bad(f"Invalid schema for function '{inner['name']}': {words}", "invalid_function_parameters")

    def _check_messages(self, messages: Any) -> None:
        if not isinstance(messages, list) or not messages:
            raise bad("Invalid 'messages': empty array. Expected an array with minimum length 1.", "empty_array")
        waiting: list[str] = []
        for index, message in enumerate(messages):
            role = message.get("role")
            if role not in _PARTS:
                raise bad(
                    f"Invalid value: {role!r}. Supported values are: 'system', 'assistant', 'user' …", "invalid_value"
                )
            for name in message:
                if name not in _MESSAGE and not (name in _REASONING and not self._strict):
                    raise bad(f"Unknown parameter: 'messages[{index}].{name}'.", "unknown_parameter")
            if role == "tool":
                id = message.get("tool_call_id")
                if id not in waiting:
                    words = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                    raise bad(f"Invalid parameter: {words}")
                waiting.remove(id)
            elif waiting:
                words = "must be followed by tool messages responding to each 'tool_call_id'."
                ids = ", ".join(waiting)
                raise bad(
                    f"An assistant message with 'tool_calls' {words} "
                    f"The following tool_call_ids did not have response messages: {ids}"
                )
            self._check_content(index, role, message)
            if role == "assistant":
                waiting = [self._call(index, call) for call in message.get("tool_calls") or ()]
                if len(set(waiting)) < len(waiting):
                    raise bad(f"Duplicate value for 'tool_call_id' in messages[{index}].tool_calls")
        if waiting:
            raise bad("An assistant message with 'tool_calls' must be followed by tool messages.")

    def _check_content(self, index: int, role: str, message: dict[str, Any]) -> None:
        content = message.get("content")
        if content is None:
            if role != "assistant" or not (message.get("tool_calls") or message.get("function_call")):
                raise bad(f"Invalid value for 'content': expected a string, got null. (messages[{index}])")
            return
        if isinstance(content, str):
            return
        if not isinstance(content, list) or not content:
            raise bad(f"Invalid type for 'messages[{index}].content'.", "invalid_type")
        for part in content:
            kind = part.get("type")
            if kind not in _PARTS[role]:
                raise bad(
                    f"Invalid value: {kind!r} for a message of role {role!r}. (messages[{index}])", "invalid_value"
                )
            if kind == "text" and not isinstance(part.get("text"), str):
                raise bad(f"Missing required parameter: 'messages[{index}].content.text'.")
            if kind == "image_url" and not isinstance((part.get("image_url") or {}).get("url"), str):
                raise bad(f"Missing required parameter: 'messages[{index}].content.image_url.url'.")

    def _call(self, index: int, call: dict[str, Any]) -> str:
        inner = call.get(call.get("type") or "function")
        if not isinstance(inner, dict) or not isinstance(call.get("id"), str) or not 0 < len(call["id"]) <= 40:
            raise bad(
                f"Invalid 'messages[{index}].tool_calls[0].id': string too long or missing.", "string_above_max_length"
            )
        if call.get("type", "function") == "function" and not isinstance(inner.get("arguments"), str):
            raise bad(f"Invalid type for 'messages[{index}].tool_calls[0].function.arguments'.", "invalid_type")
        return str(call["id"])

    # ------------------------------------------------------------------------------------------------ answers

    def answer(self, body: dict[str, Any], serial: int) -> Spelt:
        """The answer to a checked request."""
        said = say(self._understood(body))
        prompt = prompt_tokens(body.get("tools"), *body["messages"])
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": said.tokens,
            "total_tokens": prompt + said.tokens,
            "prompt_tokens_details": {"cached_tokens": prompt // 2, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": said.thought_tokens},
        }
        frame = {"id": f"chatcmpl-demo{serial:08d}", "created": 1767225600, "model": body["model"]}
        calls = [
            {
                "id": f"call_demo{serial:06d}{at}",
                "type": "function",
                "function": {"name": name, "arguments": _text(made)},
            }
            for at, (name, made) in enumerate(said.calls)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
        message["annotations"] = []
        if said.thought and self._reasoning:
            message[self._reasoning] = said.thought
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _STOPS[said.stop]}
        whole = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage, "service_tier": "default"}
        wanted = (body.get("stream_options") or {}).get("include_usage") is True
        events = self._events(frame, said, calls, usage if wanted else None)
        return Spelt(whole, events, body.get("stream") is True)

    def _understood(self, body: dict[str, Any]) -> Asked:
        asked, result = "", None
        for message in reversed(body["messages"]):
            if message["role"] == "assistant":
                break
            if message["role"] == "tool" and result is None:
                result = _plain(message["content"])
            elif message["role"] == "user" and not asked:
                asked = _plain(message["content"]).strip()
        choice = body.get("tool_choice") or "auto"
        named = ""
        if isinstance(choice, dict):
            named, choice = (choice.get("function") or choice.get("custom") or {}).get("name", ""), "one"
        tools = {
            tool["function"]["name"]: tool["function"].get("parameters") or {}
            for tool in body.get("tools") or ()
            if tool["type"] == "function"
        }
        stop = body.get("stop") or ()
        return Asked(
            self._title,
            body["model"],
            asked,
            None if asked and result is None else result,
            tools,
            {"required": "any"}.get(choice, choice),
            named,
            body.get("parallel_tool_calls") is not False,
            body.get("max_completion_tokens", body.get("max_tokens")),
            (stop,) if isinstance(stop, str) else tuple(stop),
            body.get("reasoning_effort") not in (None, "none") or bool(body.get("thinking")),
        )

    def _events(
        self, frame: dict[str, Any], said: Said, calls: list[dict[str, Any]], usage: dict[str, Any] | None
    ) -> list[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            whole = {**frame, "object": "chat.completion.chunk", "choices": [choice]}
            return _event({**whole, "usage": None} if usage else whole)

        events = [chunk({"role": "assistant", "content": "", "refusal": None})]
        if said.thought and self._reasoning:
            events += [chunk({self._reasoning: piece}) for piece in re.findall(r"\S+\s*", said.thought)]
        events += [chunk({"content": word}) for word in said.words]
        for at, call in enumerate(calls):
            opened = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
            events.append(chunk({"tool_calls": [opened]}))
            text = call["function"]["arguments"]
            for start in range(0, len(text), 12):
                fragment = {"index": at, "function": {"arguments": text[start : start + 12]}}
                events.append(chunk({"tool_calls": [fragment]}))
        events.append(chunk({}, _STOPS[said.stop]))
        if usage is not None:
            events.append(_event({**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
        events.append(b"data: [DONE]\n\n")
        return events

    # ------------------------------------------------------------------------------------------------ errors

    def error(self, refusal: Refusal, serial: int) -> dict[str, Any]:
        """The body of an error."""
        kind = {401: "invalid_request_error", 429: "rate_limit_error", 404: "invalid_request_error"}.get(
            refusal.status, "server_error" if refusal.status >= 500 else refusal.type
        )
        code = refusal.code or {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(
            refusal.status
        )
        return {"error": {"message": refusal.message, "type": kind, "param": None, "code": code}}

    def error_event(self, refusal: Refusal, serial: int) -> bytes:
        """The same inside a stream."""
        return _event(self.error(refusal, serial))

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        words = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 250000 tokens."
        )
        return bad(words, "context_length_exceeded")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        return bad("The prompt was filtered by the content policy.", "content_filter")

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens, or ``None`` where nobody counts."""
        return None

    def models(self, wanted: str) -> dict[str, Any]:
        """The list of models, or one of them."""
        items = [{"id": id, "object": "model", "created": 1767225600, "owned_by": "demo"} for id in self._models]
        if not wanted:
            return {"object": "list", "data": items}
        for item in items:
            if item["id"] == wanted:
                return item
        raise Refusal(404, "invalid_request_error", f"The model '{wanted}' does not exist", "model_not_found")


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + dump(value) + b"\n\n"


def _text(made: dict[str, Any]) -> str:
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content or () if part.get("type") == "text")


def _closed(schema: dict[str, Any]) -> bool:
    """Whether a schema obeys the rules of strict mode at its top."""
    names = set(schema.get("properties") or ())
    return schema.get("additionalProperties") is False and set(schema.get("required") or ()) == names
