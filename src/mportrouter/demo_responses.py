"""
The stand-ins' voice in OpenAI's Responses: how it answers and how it streams. What it refuses is in
:mod:`mportrouter.demo_responses_rules`.
"""

from __future__ import annotations

from typing import Any

from .demo_responses_rules import Rules
from .demo_said import ANY_OBJECT, Asked, Refusal, Said, bad, in_words, prompt_tokens, say, signature, spoken
from .demo_voice import Spelt, dense, dump, pieces

#: What a custom tool takes: one text.
_FREE = {"properties": {"input": {"type": "string"}}, "required": ["input"]}
_GARBAGE = b'event: response.output_text.delta\ndata: {"type": "resp\n\n'


class ResponsesVoice:
    """
    :param title: the provider's name in answers.
    :param signer: who signs its encrypted reasoning.
    :param backend: be the subscriptions' backend: streams only, keeps nothing, takes less.
    :param models: ids of its models, where there is a list of them.
    """

    def __init__(self, title: str, signer: str = "openai", backend: bool = False, models: tuple[str, ...] = ()) -> None:
        self.paths: tuple[str, ...] = ("/responses",) if backend else ("/responses", "/responses/input_tokens")
        self._title = title
        self._signer = signer
        self._backend = backend
        self._models = models
        self._rules = Rules(signer, backend)

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> Any:
        """:raises Refusal: as the real one does."""
        self._rules.check(body, counting)
        return body

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
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "text": {"format": {"type": "text"}, **(body.get("text") or {})},
            "temperature": 1 if body.get("temperature") is None else body["temperature"],
            "top_p": 1 if body.get("top_p") is None else body["top_p"],
            "instructions": body.get("instructions"),
            "metadata": body.get("metadata") or {},
            "store": body.get("store") is not False,
            "truncation": body.get("truncation") or "disabled",
            "previous_response_id": None,
            "max_output_tokens": body.get("max_output_tokens"),
            "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
            "service_tier": "default",
        }

        def failed(after: int) -> bytes:
            error = {"code": "server_is_overloaded" if self._backend else "server_error", "message": "Overloaded"}
            failure = {**whole, "status": "failed", "output": [], "usage": None, "error": error}
            return _event("response.failed", after, {"response": {**failure, "incomplete_details": None}})

        return Spelt(whole, self._events(whole, output, said), body.get("stream") is True, failed, _GARBAGE)

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
            text = dense(made)
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
                asked = spoken(item["content"])
            elif item.get("role") == "assistant" or asked:
                break
        choice = body.get("tool_choice") or "auto"
        named, allowed = "", None
        if isinstance(choice, dict) and choice["type"] == "allowed_tools":
            allowed, choice = {each.get("name") for each in choice["tools"]}, choice["mode"]
        elif isinstance(choice, dict):
            named, choice = choice.get("name", ""), "one" if choice["type"] in ("function", "custom") else "auto"
        tools = {
            name: _FREE if tool["type"] == "custom" else tool.get("parameters") or {}
            for name, (tool, _) in _offered(body).items()
            if allowed is None or name in allowed
        }
        effort = (body.get("reasoning") or {}).get("effort")
        form = (body.get("text") or {}).get("format") or {}
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
            {"json_schema": form.get("schema"), "json_object": ANY_OBJECT}.get(form.get("type", "")),
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
        if self._backend and refusal.status == 400 and refusal.code is None:
            return {"detail": refusal.message}
        code = refusal.code or {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(refusal.status)
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if refusal.status == 429 else kind
        return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}}

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        words = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return bad(words, "context_length_exceeded")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        return bad("The prompt was filtered by the content policy.", "content_filter")

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens."""
        return {"object": "response.input_tokens", "input_tokens": prompt_tokens(*body.values())}

    def models(self, wanted: str) -> dict[str, Any]:
        """The list of models, or one of them."""
        rows = [{"slug": id, "display_name": id, "visibility": "list"} for id in self._models]
        if wanted or not rows:
            raise Refusal(404, "invalid_request_error", "Not Found")
        return {"models": rows}


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
        return [
            ("response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}),
            *[("response.reasoning_summary_text.delta", {**at, "delta": piece}) for piece in in_words(part["text"])],
            ("response.reasoning_summary_text.done", {**at, "text": part["text"]}),
            ("response.reasoning_summary_part.done", {**at, "part": part}),
        ]
    if kind == "custom_tool_call":
        name, text = "response.custom_tool_call_input", item["input"]
        return [(f"{name}.delta", {"delta": text}), (f"{name}.done", {"input": text})]
    name, text = "response.function_call_arguments", item["arguments"]
    return [
        *[(f"{name}.delta", {"delta": piece}) for piece in pieces(text)],
        (f"{name}.done", {"arguments": text, "name": item["name"]}),
    ]


def _event(name: str, number: int, members: dict[str, Any]) -> bytes:
    value = {"type": name, "sequence_number": number, **members}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump(value))


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content or () if "text" in part)
