"""
The stand-ins' voice in OpenAI's Responses: what the real one refuses, how it answers and how it streams.

Sources: the API description and the texts of its errors; for the subscription backend, which takes less, what its users
report.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import Any

from .demo_said import Asked, Refusal, Said, bad, prompt_tokens, say, signature
from .demo_voice import Spelt, dump

_MEMBERS = (
    "model input instructions max_output_tokens max_tool_calls top_logprobs temperature top_p truncation tools "
    "tool_choice parallel_tool_calls reasoning text include store previous_response_id conversation prompt background "
    "context_management stream stream_options service_tier metadata prompt_cache_key prompt_cache_retention "
    "prompt_cache_options safety_identifier user moderation client_metadata"
)
#: What the subscription backend refuses of them.
_NOT_BACKEND = (
    "max_output_tokens previous_response_id prompt_cache_retention safety_identifier stream_options metadata user "
    "truncation"
)
_KNOWN = frozenset(_MEMBERS.split(" "))
_REFUSED = frozenset(_NOT_BACKEND.split(" "))
_PARTS = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
_ITEMS = (
    "message function_call function_call_output custom_tool_call custom_tool_call_output reasoning web_search_call "
    "compaction additional_tools configuration_update"
)
_KINDS = frozenset(_ITEMS.split(" "))
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
#: What a custom tool takes: one text.
_FREE = {"properties": {"input": {"type": "string"}}, "required": ["input"]}


class ResponsesVoice:
    """
    :param title: the provider's name in answers.
    :param signer: who signs its encrypted reasoning.
    :param backend: be the subscription backend: streams only, keeps nothing, takes less.
    """

    garbage = b'event: response.output_text.delta\ndata: {"type": "resp\n\n'

    def __init__(self, title: str, signer: str = "openai", backend: bool = False) -> None:
        self._title = title
        self._signer = signer
        self._backend = backend

    # ------------------------------------------------------------------------------------------------ rules

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> None:
        """:raises Refusal: as the real one does."""
        if not isinstance(body, dict):
            raise bad("We could not parse the JSON body of your request.")
        for name in body:
            if name not in _KNOWN:
                raise bad(f"Unknown parameter: '{name}'.", "unknown_parameter")
            if self._backend and name in _REFUSED:
                raise bad(f"Unsupported parameter: {name}")
        if not isinstance(body.get("model"), str):
            raise bad("Missing required parameter: 'model'.", "missing_required_parameter")
        if self._backend:
            if body.get("stream") is not True:
                raise bad("Stream must be set to true")
            if body.get("store") is not False:
                raise bad("Store must be set to false")
            if not isinstance(body.get("instructions"), str):
                raise bad("Instructions are required")
        limit = body.get("max_output_tokens")
        if isinstance(limit, int) and limit < 16:
            raise bad("Invalid 'max_output_tokens': integer below minimum value.", "integer_below_min_value")
        if body.get("previous_response_id"):
            words = f"Previous response with id '{body['previous_response_id']}' not found."
            raise bad(words, "previous_response_not_found")
        self._check_tools(body)
        given = body.get("input")
        if isinstance(given, str):
            if not given:
                raise bad("Invalid 'input': empty string.")
            if self._backend:
                raise bad("Input must be a list")
        elif isinstance(given, list) and given:
            self._check_input(given)
        else:
            raise bad("Missing required parameter: 'input'.", "missing_required_parameter")

    def _check_tools(self, body: dict[str, Any]) -> None:
        for index, tool in enumerate(body.get("tools") or ()):
            kind = tool.get("type")
            if kind == "namespace":
                self._check_tools({"tools": tool.get("tools")})
            elif kind == "function":
                where = f"tools[{index}]"
                if not _NAME.match(str(tool.get("name"))):
                    raise bad(f"Missing required parameter: '{where}.name'.", "missing_required_parameter")
                schema = tool.get("parameters")
                if not isinstance(schema, dict) or schema.get("type") != "object":
                    raise bad(f"Invalid schema for function '{tool['name']}'.", "invalid_function_parameters")
                if tool.get("strict") is not False and schema.get("additionalProperties") is not False:
                    words = "'additionalProperties' is required to be supplied and to be false."
                    raise bad(f"Invalid schema for function '{tool['name']}': {words}", "invalid_function_parameters")
            elif kind not in ("custom", "web_search", "local_shell", "tool_search"):
                raise bad(f"Invalid value: {kind!r}. Supported values are: 'function', 'custom', 'web_search' …")

    def _check_input(self, items: list[Any]) -> None:
        calls: dict[str, bool] = {}
        for index, item in enumerate(items):
            where = f"input[{index}]"
            kind = item.get("type", "message")
            if kind not in _KINDS:
                raise bad(f"Invalid value: {kind!r}. ({where}.type)", "invalid_value")
            if kind == "message":
                self._check_message(where, item)
            elif kind in ("function_call", "custom_tool_call"):
                id, prefix = item.get("id"), "fc" if kind == "function_call" else "ctc"
                if id is not None and not str(id).startswith(prefix):
                    words = f"Invalid '{where}.id': '{id}'. Expected an ID that begins with '{prefix}'."
                    raise bad(words, "invalid_value")
                text = item.get("arguments" if kind == "function_call" else "input")
                if not isinstance(text, str) or not 0 < len(str(item.get("call_id") or "")) <= 64:
                    raise bad(f"Missing required parameter: '{where}.arguments'.", "missing_required_parameter")
                calls[item["call_id"]] = False
            elif kind in ("function_call_output", "custom_tool_call_output"):
                id = item.get("call_id")
                if id not in calls:
                    raise bad(f"No tool call found for function call output with call_id {id}.")
                calls[id] = True
            elif kind == "reasoning":
                self._check_reasoning(where, item, items[index + 1 :])
        for id, answered in calls.items():
            if not answered:
                raise bad(f"No tool output found for function call {id}.")

    def _check_message(self, where: str, item: dict[str, Any]) -> None:
        role, content = item.get("role"), item.get("content")
        if role not in _PARTS:
            raise bad(f"Invalid value: {role!r}. ({where}.role)", "invalid_value")
        if isinstance(content, str):
            return
        if not isinstance(content, list):
            raise bad(f"Invalid type for '{where}.content'.", "invalid_type")
        for at, part in enumerate(content):
            if part.get("type") not in _PARTS[role]:
                wanted = "', '".join(_PARTS[role])
                words = f"Invalid value: '{part.get('type')}'. Supported values are: '{wanted}'."
                raise bad(f"{words} ({where}.content[{at}])", "invalid_value")
            if part["type"] == "input_image" and not isinstance(part.get("image_url", part.get("file_id")), str):
                raise bad(f"Invalid type for '{where}.content[{at}].image_url': expected an image URL.", "invalid_type")

    def _check_reasoning(self, where: str, item: dict[str, Any], rest: list[Any]) -> None:
        if not isinstance(item.get("summary"), list):
            raise bad(f"Missing required parameter: '{where}.summary'.", "missing_required_parameter")
        if item.get("content"):
            raise bad(f"Invalid '{where}.content': array too long. Expected an array with maximum length 0.")
        sealed = item.get("encrypted_content")
        if not isinstance(sealed, str):
            raise bad("Items are not persisted when `store` is set to false. Try again with `store` set to true.")
        id, _, seal = sealed.rpartition("|")
        if not hmac.compare_digest(seal.encode(), signature(self._signer, id).encode()):
            words = "The encrypted content could not be verified."
            raise bad(words, "invalid_encrypted_content")
        if item.get("id") not in (None, id):
            raise bad("Encrypted content item_id did not match the target item id.", "invalid_encrypted_content")
        following = next((each for each in rest if each.get("type", "message") != "reasoning"), None)
        if following is None:
            return  # what a broken answer left: its client asks for it once more
        kind = following.get("type", "message")
        if kind not in ("message", "function_call", "custom_tool_call", "web_search_call") or (
            kind == "message" and following.get("role") != "assistant"
        ):
            raise bad(f"Item '{id}' of type 'reasoning' was provided without its required following item.")

    # ------------------------------------------------------------------------------------------------ answers

    def answer(self, body: dict[str, Any], serial: int) -> Spelt:
        """The answer to a checked request."""
        said = say(self._understood(body))
        prompt = prompt_tokens(body.get("tools"), body.get("instructions"), body["input"])
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": prompt // 2, "cache_write_tokens": 0},
            "output_tokens": said.tokens,
            "output_tokens_details": {"reasoning_tokens": said.thought_tokens},
            "total_tokens": prompt + said.tokens,
        }
        output = self._output(body, said, serial)
        whole: dict[str, Any] = {
            "id": f"resp_demo{serial:08d}",
            "object": "response",
            "created_at": 1767225600,
            "status": "incomplete" if said.stop == "length" else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if said.stop == "length" else None,
            "model": body["model"],
            "output": output,
            "usage": usage,
            "tools": body.get("tools") or [],
            "tool_choice": body.get("tool_choice") or "auto",
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "text": {"format": {"type": "text"}},
            "temperature": 1,
            "top_p": 1,
            "instructions": body.get("instructions"),
            "metadata": {},
            "store": False,
            "truncation": "disabled",
            "previous_response_id": None,
            "max_output_tokens": body.get("max_output_tokens"),
            "reasoning": {"effort": None, "summary": None},
        }
        return Spelt(whole, self._events(whole, output, said), body.get("stream") is True)

    def _output(self, body: dict[str, Any], said: Said, serial: int) -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = []
        if said.thought:
            id = f"rs_demo{serial:08d}"
            item: dict[str, Any] = {"id": id, "type": "reasoning", "summary": []}
            if (body.get("reasoning") or {}).get("summary"):
                item["summary"] = [{"type": "summary_text", "text": said.thought}]
            if "reasoning.encrypted_content" in (body.get("include") or ()):
                item["encrypted_content"] = f"{id}|{signature(self._signer, id)}"
            output.append(item)
        if said.words:
            part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            message = {"id": f"msg_demo{serial:08d}", "type": "message", "status": "completed", "role": "assistant"}
            output.append({**message, "content": [part]})
        offered = _offered(body)
        for at, (name, made) in enumerate(said.calls):
            tool, space = offered[name]
            call = {"call_id": f"call_demo{serial:06d}{at}", "status": "completed", "name": name}
            if tool["type"] == "custom":
                id = f"ctc_demo{serial:06d}{at}"
                output.append({"id": id, "type": "custom_tool_call", **call, "input": made["input"]})
                continue
            text = json.dumps(made, separators=(",", ":"), ensure_ascii=False)
            item = {"id": f"fc_demo{serial:06d}{at}", "type": "function_call", **call, "arguments": text}
            output.append({**item, "namespace": space} if space else item)
        return output

    def _understood(self, body: dict[str, Any]) -> Asked:
        asked, result = "", None
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        for item in reversed(items):
            kind = item.get("type", "message")
            if kind.endswith("_output") and result is None:
                result = _plain(item["output"])
            elif kind == "message" and item["role"] == "user" and not asked:
                asked = _plain(item["content"]).strip()
            elif item.get("role") == "assistant" or asked:
                break
        choice = body.get("tool_choice") or "auto"
        named = ""
        if isinstance(choice, dict):
            named, choice = choice.get("name", ""), "one"
        tools = {
            name: _FREE if tool["type"] == "custom" else tool.get("parameters") or {}
            for name, (tool, _) in _offered(body).items()
        }
        effort = (body.get("reasoning") or {}).get("effort")
        return Asked(
            self._title,
            body["model"],
            asked,
            result,
            tools,
            {"required": "any"}.get(choice, choice),
            named,
            body.get("parallel_tool_calls") is not False,
            body.get("max_output_tokens"),
            (),
            bool(body.get("reasoning")) and effort != "none",
        )

    def _events(self, whole: dict[str, Any], output: list[dict[str, Any]], said: Said) -> list[bytes]:
        events: list[tuple[str, dict[str, Any]]] = []
        begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        events += [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
        for index, item in enumerate(output):
            at = {"item_id": item["id"], "output_index": index}
            skeleton: dict[str, Any] = {**item, "status": "in_progress"}
            kind = item["type"]
            if kind == "message":
                skeleton["content"] = []
            elif kind == "reasoning":
                skeleton = {**item, "summary": []}
            else:
                skeleton["arguments" if kind == "function_call" else "input"] = ""
            events.append(("response.output_item.added", {"output_index": index, "item": skeleton}))
            events += [(name, {**at, **members}) for name, members in _item_events(item, said)]
            events.append(("response.output_item.done", {"output_index": index, "item": item}))
        last = {**whole, "output": []} if self._backend else whole
        events.append((f"response.{whole['status']}", {"response": last}))
        return [_event(name, number, members) for number, (name, members) in enumerate(events)]

    # ------------------------------------------------------------------------------------------------ errors

    def error(self, refusal: Refusal, serial: int) -> dict[str, Any]:
        """The body of an error."""
        if self._backend and refusal.status == 429:
            told = {"type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus"}
            return {"error": {**told, "resets_in_seconds": 30}}
        code = refusal.code or {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(refusal.status)
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if refusal.status == 429 else kind
        return {"error": {"message": refusal.message, "type": kind, "param": None, "code": code}}

    def error_event(self, refusal: Refusal, serial: int) -> bytes:
        """The same inside a stream."""
        told = {"code": refusal.code or "server_error", "message": refusal.message}
        return _event("response.failed", 0, {"response": {"id": "resp_demo", "status": "failed", "error": told}})

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        words = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return bad(words, "context_length_exceeded")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        return bad("The prompt was filtered by the content policy.", "content_filter")

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens, or ``None`` where nobody counts."""
        return {"object": "response.input_tokens", "input_tokens": prompt_tokens(*body.values())}

    def models(self, wanted: str) -> dict[str, Any]:
        """The list of models, or one of them."""
        raise Refusal(404, "invalid_request_error", "There is no list of models here.")


def _offered(body: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """The tools that can be called, by name, each with its namespace."""
    given = [*(body.get("tools") or ())]
    if isinstance(body["input"], list):
        given += [tool for item in body["input"] if item.get("type") == "additional_tools" for tool in item["tools"]]
    offered: dict[str, tuple[dict[str, Any], str]] = {}
    for tool in given:
        if tool["type"] in ("function", "custom"):
            offered[tool["name"]] = (tool, "")
        elif tool["type"] == "namespace":
            offered.update({each["name"]: (each, tool["name"]) for each in tool["tools"]})
    return offered


def _item_events(item: dict[str, Any], said: Said) -> list[tuple[str, dict[str, Any]]]:
    kind = item["type"]
    if kind == "message":
        at = {"content_index": 0}
        part = item["content"][0]
        deltas = [("response.output_text.delta", {**at, "delta": word, "logprobs": []}) for word in said.words]
        return [
            ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
            *deltas,
            ("response.output_text.done", {**at, "text": part["text"], "logprobs": []}),
            ("response.content_part.done", {**at, "part": part}),
        ]
    if kind == "reasoning":
        if not item["summary"]:
            return []
        at = {"summary_index": 0}
        part = item["summary"][0]
        pieces = re.findall(r"\S+\s*", part["text"])
        return [
            ("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}),
            *[("response.reasoning_summary_text.delta", {**at, "delta": piece}) for piece in pieces],
            ("response.reasoning_summary_text.done", {**at, "text": part["text"]}),
            ("response.reasoning_summary_part.done", {**at, "part": part}),
        ]
    if kind == "custom_tool_call":
        name, text = "response.custom_tool_call_input", item["input"]
        return [(f"{name}.delta", {"delta": text}), (f"{name}.done", {"input": text})]
    name, text = "response.function_call_arguments", item["arguments"]
    pieces = [text[start : start + 12] for start in range(0, len(text), 12)]
    return [
        *[(f"{name}.delta", {"delta": piece}) for piece in pieces],
        (f"{name}.done", {"arguments": text, "name": item["name"]}),
    ]


def _event(name: str, number: int, members: dict[str, Any]) -> bytes:
    value = {"type": name, "sequence_number": number, **members}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump(value))


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content or () if "text" in part)
