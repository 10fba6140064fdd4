"""
What stand-ins refuse of a request of Responses: OpenAI itself, or the backend of its subscriptions, which takes less.

Sources: the API description (members, which may be null, kinds of items and tools, ids) and the texts of the errors;
for the backend, which has no description, what its users report.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from .demo_openai import check_base64, check_file, check_picture, check_sampling
from .demo_responses_shapes import BODY, COUNT, HOSTED
from .demo_said import Refusal, bad, signature
from .demo_schemas import check_format, check_function
from .demo_shapes import missing, unknown

#: What the backend refuses of the members there are.
_NOT_BACKEND = frozenset(
    (
        "max_output_tokens",
        "previous_response_id",
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",
        "stream_options",
        "metadata",
        "user",
        "truncation",
        "temperature",
        "top_p",
    )
)
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "function_call_output": "fc",
    "custom_tool_call_output": "ctc",
}
_AFTER_REASONING = frozenset(("function_call", "custom_tool_call", *(name for name in HOSTED if "call" in name)))


class Rules:
    """
    :param signer: who signs its encrypted reasoning.
    :param backend: be the subscriptions' backend: streams only, keeps nothing, takes less.
    """

    def __init__(self, signer: str, backend: bool) -> None:
        self._signer = signer
        self._backend = backend

    def check(self, body: Any, counting: bool) -> None:
        """:raises Refusal: the first rule that the request breaks."""
        if not isinstance(body, dict):
            raise bad("We could not parse the JSON body of your request.")
        known = COUNT if counting else BODY
        for name in body:
            if self._backend and (name in _NOT_BACKEND or name not in known.known):
                raise bad(f"Unsupported parameter: {name}")
            if name not in known.known:
                raise unknown(name)
        if not isinstance(body.get("model"), str):
            raise missing("model")
        if self._backend:
            self._check_backend(body)
        known.check(body, "")
        if body.get("previous_response_id") is not None:
            words = f"Previous response with id '{body['previous_response_id']}' not found."
            raise bad(words, "previous_response_not_found", "previous_response_id")
        if body.get("conversation") is not None:
            raise Refusal(404, "invalid_request_error", "Conversation not found.")
        if body.get("stream_options") is not None and body.get("stream") is not True:
            raise bad(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.", None, "stream_options"
            )
        if not body.get("input"):
            raise missing("input")
        check_sampling(body, ("top_logprobs",))
        tools = self._tools(body)
        _check_choice(body.get("tool_choice"), tools)
        _check_format(body)
        if isinstance(body["input"], list):
            self._check_input(body["input"], body.get("store") is not False and not self._backend)

    def _check_backend(self, body: dict[str, Any]) -> None:
        if body.get("stream") is not True:
            raise bad("Stream must be set to true")
        if body.get("store") is not False:
            raise bad("Store must be set to false")
        if not isinstance(body.get("instructions"), str):
            raise bad("Instructions are required")
        if not isinstance(body.get("input"), list):
            raise bad("Input must be a list")
        if body.get("service_tier") not in (None, "priority"):
            raise bad(f"Unsupported service_tier: {body['service_tier']}")
        for item in body["input"]:
            if isinstance(item, dict) and item.get("role") == "system":
                raise bad("System messages are not allowed")
        if '"prompt_cache_breakpoint":' in json.dumps(body["input"]):
            raise bad("Unsupported parameter: prompt_cache_breakpoint")

    @staticmethod
    def _tools(body: dict[str, Any]) -> set[tuple[str, str]]:
        """The kinds and names of what is offered, all of it checked."""
        lists = [("tools", body.get("tools") or ())]
        if isinstance(body["input"], list):
            items = enumerate(body["input"])
            lists += [
                (f"input[{at}].tools", item["tools"]) for at, item in items if item.get("type") == "additional_tools"
            ]
        offered: set[tuple[str, str]] = set()
        while lists:
            where, tools = lists.pop()
            for at, tool in enumerate(tools):
                place = f"{where}[{at}]"
                offered.add((tool["type"], tool.get("name", "")))
                if tool["type"] == "namespace":
                    lists.append((f"{place}.tools", tool["tools"]))
                elif tool["type"] == "function":
                    # What is not said to be loose is strict here.
                    schema, strict = tool["parameters"], tool.get("strict") is not False
                    if schema is not None:
                        check_function(tool["name"], schema, strict, place)
        return offered

    # ------------------------------------------------------------------------------------------------ items

    def _check_input(self, items: list[dict[str, Any]], kept: bool) -> None:
        """:param kept: earlier items may be at the provider."""
        calls: dict[tuple[str, str], bool] = {}
        for index, item in enumerate(items):
            where, kind = f"input[{index}]", item.get("type", "message")
            _check_id(where, kind, item.get("id"))
            content = item.get("output" if kind.endswith("_output") else "content")
            if kind != "reasoning" and isinstance(content, list):
                _check_parts(f"{where}.{'output' if kind.endswith('_output') else 'content'}", content)
            if kind in ("function_call", "custom_tool_call"):
                calls[kind, item["call_id"]] = False
            elif kind in ("function_call_output", "custom_tool_call_output"):
                call = kind.removesuffix("_output"), item["call_id"]
                if call not in calls:
                    kinds = "custom tool call" if call[0] == "custom_tool_call" else "function call"
                    raise bad(f"No tool call found for {kinds} output with call_id {call[1]}.", None, "input")
                calls[call] = True
            elif kind == "item_reference":
                raise _not_kept(str(item.get("id")))
            elif kind == "reasoning":
                self._check_reasoning(where, item, items[index + 1 :], kept)
        for (kind, id), answered in calls.items():
            if not answered:
                kinds = "custom tool call" if kind == "custom_tool_call" else "function call"
                raise bad(f"No tool output found for {kinds} {id}.", None, "input")

    def _check_reasoning(self, where: str, item: dict[str, Any], rest: list[Any], kept: bool) -> None:
        if item.get("content"):
            words = "array too long. Expected an array with maximum length 0, but got an array with length "
            raise bad(f"Invalid '{where}.content': {words}{len(item['content'])} instead.", "array_above_max_length")
        sealed, own = item.get("encrypted_content"), item.get("id")
        if sealed is None:
            if not kept or not str(own).startswith("rs_demo"):
                raise _not_kept(str(own))
            id = str(own)
        else:
            id, _, seal = sealed.rpartition("|")
            if not hmac.compare_digest(seal.encode("utf-8", "replace"), signature(self._signer, id).encode()):
                words = "could not be verified. Reason: Encrypted content could not be decrypted or parsed."
                raise bad(f"The encrypted content for item {own} {words}", "invalid_encrypted_content")
            if own not in (None, id):
                words = "Encrypted content item_id did not match the target item id."
                raise bad(words, "invalid_encrypted_content")
        following = next((each for each in rest if each.get("type", "message") != "reasoning"), None)
        if following is None:
            return  # what a broken answer left: its client asks for it once more
        if following.get("type") not in _AFTER_REASONING and following.get("role") != "assistant":
            raise bad(
                f"Item '{id}' of type 'reasoning' was provided without its required following item.", None, "input"
            )


def _not_kept(id: str) -> Refusal:
    words = (
        "Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item"
    )
    return Refusal(
        404, "invalid_request_error", f"Item with id '{id}' not found. {words} from your input.", None, "input"
    )


def _check_id(where: str, kind: str, id: Any) -> None:
    prefix = _PREFIXES.get(kind)
    if prefix is None or id is None:
        return
    if not id.startswith(prefix):
        raise bad(f"Invalid '{where}.id': '{id}'. Expected an ID that begins with '{prefix}'.", "invalid_value", where)
    if len(id) > 64:
        words = f"Expected a string with maximum length 64, but got a string with length {len(id)} instead."
        raise bad(f"Invalid '{where}.id': string too long. {words}", "string_above_max_length", where)
    if not all(each.isascii() and (each.isalnum() or each in "_-") for each in id):
        words = "Expected an ID that contains letters, numbers, underscores, or dashes"
        raise bad(f"Invalid '{where}.id': '{id}'. {words}.", "invalid_value", where)


def _check_parts(where: str, parts: list[dict[str, Any]]) -> None:
    for at, part in enumerate(parts):
        place = f"{where}[{at}]"
        if part["type"] == "input_image":
            if (part.get("image_url") is None) == (part.get("file_id") is None):
                raise missing(f"{place}.image_url")
            if part.get("image_url") is not None:
                check_picture(part["image_url"], f"{place}.image_url")
        elif part["type"] == "input_file":
            given = [name for name in ("file_data", "file_id", "file_url") if part.get(name) is not None]
            if len(given) != 1:
                raise missing(f"{place}.file_id")
            if given == ["file_data"]:
                check_file(part["file_data"], f"{place}.file_data")
        elif part["type"] == "input_audio":
            check_base64(part["input_audio"]["data"], f"{place}.input_audio.data")


def _check_choice(choice: Any, offered: set[tuple[str, str]]) -> None:
    if choice == "required" and not offered:
        raise bad("Tool choice 'required' must be specified with 'tools' parameter.", None, "tool_choice")
    if not isinstance(choice, dict):
        return
    for each in choice["tools"] if choice["type"] == "allowed_tools" else (choice,):
        kind = each["type"]
        if (kind, each["name"]) not in offered if kind in ("function", "custom") else kind not in dict(offered):
            raise bad(f"Tool choice '{each.get('name', kind)}' not found in 'tools' parameter.", None, "tool_choice")


def _check_format(body: dict[str, Any]) -> None:
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_object" and "json" not in json.dumps(body["input"]).lower():
        words = "must contain the word 'json' in some form to use 'text.format' of type 'json_object'."
        raise bad(f"Response input messages {words}", None, "input")
    if form.get("type") == "json_schema":
        check_format(form["name"], form["schema"], form.get("strict") is True, "text.format.schema")
