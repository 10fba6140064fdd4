"""
The stand-ins' voice in OpenAI's Chat Completions: how it answers and how it streams. What it refuses is in
:mod:`mportrouter.demo_chat_rules`.
"""

from __future__ import annotations

from typing import Any

from .demo_chat_rules import check, offered_by
from .demo_said import ANY_OBJECT, Asked, Refusal, Said, bad, in_words, prompt_tokens, say, spoken
from .demo_voice import Spelt, dense, dump, pieces

_STOPS = {"end": "stop", "length": "length", "stop_sequence": "stop", "tool": "tool_calls"}
#: What a custom tool takes: one text.
_FREE = {"properties": {"input": {"type": "string"}}, "required": ["input"]}
_GARBAGE = b'data: {"id": "chatcmpl-\n\n'


class ChatVoice:
    """
    :param title: the provider's name in answers.
    :param models: ids of its models.
    :param strict: refuse what OpenAI itself refuses and compatible servers take.
    :param reasoning: the member in which thoughts are told, ``""`` for none.
    """

    paths: tuple[str, ...] = ("/chat/completions",)

    def __init__(self, title: str, models: tuple[str, ...], strict: bool = True, reasoning: str = "") -> None:
        self._models = models
        self._title = title
        self._strict = strict
        self._reasoning = reasoning

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> Any:
        """:raises Refusal: as the real one does."""
        check(body, self._strict)
        return body

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
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
        message["annotations"] = []
        if said.thought and self._reasoning:
            message[self._reasoning] = said.thought
        message.update(_called(body, said, serial))
        stop = "function_call" if "function_call" in message else _STOPS[said.stop]
        choice = {"message": message, "logprobs": None, "finish_reason": stop}
        choices = [{"index": index, **choice} for index in range(body.get("n") or 1)]
        whole = {**frame, "object": "chat.completion", "choices": choices, "usage": usage, "service_tier": "default"}
        wanted = (body.get("stream_options") or {}).get("include_usage") is True
        events = self._events({**frame, "object": "chat.completion.chunk"}, said, choices, usage if wanted else None)

        def failed(after: int) -> bytes:
            return _event(self.error(Refusal(503, "overloaded_error", "Overloaded", "server_is_overloaded"), serial))

        return Spelt(whole, events, body.get("stream") is True, failed, _GARBAGE)

    def _understood(self, body: dict[str, Any]) -> Asked:
        asked, result = "", None
        for message in reversed(body["messages"]):
            if message["role"] == "assistant":
                break
            if message["role"] in ("tool", "function") and result is None:
                result = _plain(message["content"])
            elif message["role"] == "user" and not asked:
                asked = spoken(message["content"])
        choice = body.get("tool_choice") or body.get("function_call") or "auto"
        named = ""
        if isinstance(choice, dict):
            kind = choice.get("type", "")
            named, mode = choice.get(kind, choice).get("name", ""), choice.get(kind, choice).get("mode")
            choice = "one" if mode is None else mode
        tools = {
            tool["name"]: _FREE if kind == "custom" else tool.get("parameters") or {} for kind, tool in offered_by(body)
        }
        stop = body.get("stop") or ()
        limits = (body.get("max_completion_tokens"), body.get("max_tokens"))
        return Asked(
            self._title,
            body["model"],
            asked,
            result,
            tools,
            {"required": "any"}.get(choice, choice),
            named,
            body.get("parallel_tool_calls") is not False and not body.get("functions"),
            next((limit for limit in limits if limit is not None), None),
            (stop,) if isinstance(stop, str) else tuple(stop),
            body.get("reasoning_effort") not in (None, "none") or _thinks(body.get("thinking")),
            _shape(body.get("response_format")),
        )

    def _events(
        self, frame: dict[str, Any], said: Said, choices: list[dict[str, Any]], usage: dict[str, Any] | None
    ) -> list[bytes]:
        def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            whole = {**frame, "choices": [choice]}
            return _event({**whole, "usage": None} if usage else whole)

        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        if said.thought and self._reasoning:
            deltas += [{self._reasoning: piece} for piece in in_words(said.thought)]
        deltas += [{"content": word} for word in said.words]
        message = choices[0]["message"]
        for at, call in enumerate(message.get("tool_calls") or ()):
            kind = call["type"]
            member = "arguments" if kind == "function" else "input"
            deltas.append({"tool_calls": [{**call, "index": at, kind: {**call[kind], member: ""}}]})
            deltas += [{"tool_calls": [{"index": at, kind: {member: each}}]} for each in pieces(call[kind][member])]
        if "function_call" in message:
            deltas.append({"function_call": {**message["function_call"], "arguments": ""}})
            deltas += [{"function_call": {"arguments": each}} for each in pieces(message["function_call"]["arguments"])]
        events = [chunk(choice["index"], delta) for delta in deltas for choice in choices]
        events += [chunk(choice["index"], {}, choice["finish_reason"]) for choice in choices]
        if usage is not None:
            events.append(_event({**frame, "choices": [], "usage": usage}))
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
        return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}}

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        words = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 250000 tokens."
        )
        return bad(words, "context_length_exceeded", "messages")

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


def _called(body: dict[str, Any], said: Said, serial: int) -> dict[str, Any]:
    """The calls as members of a message: in the old form where the functions were offered so."""
    if not said.calls:
        return {}
    if body.get("functions"):
        name, made = said.calls[0]
        return {"function_call": {"name": name, "arguments": dense(made)}}
    kinds = {tool["name"]: kind for kind, tool in offered_by(body)}
    calls = []
    for at, (name, made) in enumerate(said.calls):
        inner = {"input": made["input"]} if kinds[name] == "custom" else {"arguments": dense(made)}
        calls.append({"id": f"call_demo{serial:06d}{at}", "type": kinds[name], kinds[name]: {"name": name, **inner}})
    return {"tool_calls": calls}


def _thinks(thinking: Any) -> bool:
    """Whether the member of that name, which servers of other makers know, turns thinking on."""
    return thinking.get("type") != "disabled" if isinstance(thinking, dict) else bool(thinking)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + dump(value) + b"\n\n"


def _shape(form: Any) -> Any:
    """The schema of the answer that is wanted, ``None`` for plain text."""
    kind = (form or {}).get("type", "text")
    return form["json_schema"].get("schema") or {} if kind == "json_schema" else ANY_OBJECT if kind != "text" else None


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content or () if part.get("type") == "text")
