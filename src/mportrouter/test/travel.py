"""
A model's opaque state on its way: from an upstream's answer through a client of any dialect into the next request.

Answers are the upstreams' own bytes. Clients keep what their official ones keep: Anthropic's blocks, Chat's message
with the members beside its content, Responses' items, Gemini's parts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..conversation import Conversation
from ..dialects.known import DIALECTS
from ..interfaces import AnswerContext, Look, Target
from ..settings import Capabilities
from ..translator import Translator
from .lines import cuts
from .pairs import data_of

#: State as the upstreams issue it; every place that holds some holds one of these.
STATES = [base64.b64encode(f"state {number} {'x' * 40}".encode()).decode() for number in range(3)]

UPSTREAMS: dict[str, tuple[str, Target]] = {
    name: (dialect, Target(provider, "m", Capabilities(thinking_signature=provider, **columns)))
    for name, dialect, provider, columns in (
        ("claude", "anthropic", "anthropic", {}),
        ("minimax", "anthropic", "minimax", {"reasoning_kind": "budget"}),
        (
            "openrouter", "openai-chat", "openrouter",
            {"reasoning_field": "reasoning_details", "reasoning_echo": "allowed", "reasoning_member": "reasoning"},
        ),
        ("google", "openai-chat", "google", {"thought_signature": "required"}),
        ("openai", "openai-responses", "openai", {}),
        ("azure", "openai-responses", "azure", {}),
        ("gemini", "gemini", "gemini", {"thought_signature": "required", "reasoning_kind": "level"}),
        ("vertex", "gemini", "vertex", {"thought_signature": "optional", "reasoning_kind": "level"}),
    )
}  # fmt: skip
"""Dialect and target of each upstream; each signs for itself."""

_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
_CALLS = (("a", {"a": 1}), ("b", {}))


# ------------------------------------------------------------------------------------------ what upstreams say


def _events(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def _claude() -> tuple[dict[str, Any], bytes]:
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "why", "signature": STATES[0]},
        {"type": "redacted_thinking", "data": STATES[1]},
        {"type": "text", "text": "hi"},
        {"type": "thinking", "thinking": "more", "signature": STATES[2]},
        *({"type": "tool_use", "id": f"toolu_{id}", "name": "f", "input": given} for id, given in _CALLS),
    ]
    usage = {"input_tokens": 1, "output_tokens": 2}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**head, "content": [], "stop_reason": None}}]
    for index, block in enumerate(blocks):
        kind, deltas, start = block["type"], [], dict(block)
        if kind == "thinking":
            start = {"type": kind, "thinking": "", "signature": ""}
            deltas = [{"type": f"{name}_delta", name: block[name]} for name in ("thinking", "signature")]
        elif kind == "text":
            start, deltas = {"type": kind, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        elif kind == "tool_use":
            start["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": usage}, {"type": "message_stop"}]
    return {**head, "content": blocks, "stop_reason": "tool_use"}, _events(events)


def _chat(members: dict[str, Any], extra: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    calls = [
        {"id": f"call_{id}", "type": "function", "function": {"name": "f", "arguments": json.dumps(given)}}
        for id, given in _CALLS
    ]
    calls[0] |= extra
    head = {"id": "c", "model": "m", "created": 1}
    message = {"role": "assistant", "content": "hi", **members, "tool_calls": calls}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": members["reasoning"]}] if members else []
    deltas += [{"reasoning_details": [entry]} for entry in members.get("reasoning_details", ())]
    deltas += [{"content": "hi"}, *({"tool_calls": [{"index": at, **call}]} for at, call in enumerate(calls))]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return {**head, "choices": [choice]}, _events(chunks) + b"data: [DONE]\n\n"


def _openrouter() -> tuple[dict[str, Any], bytes]:
    details = [
        {"type": "reasoning.text", "text": "why", "signature": STATES[0], "id": "r1", "format": "x", "index": 0},
        {"type": "reasoning.encrypted", "data": STATES[1], "id": "r2", "format": "x", "index": 1},
    ]
    return _chat({"reasoning": "why", "reasoning_details": details}, {})


def _google() -> tuple[dict[str, Any], bytes]:
    return _chat({}, {"extra_content": {"google": {"thought_signature": STATES[0]}}})


def _openai() -> tuple[dict[str, Any], bytes]:
    def thought(number: int, *summary: str) -> dict[str, Any]:
        texts = [{"type": "summary_text", "text": text} for text in summary]
        return {
            "type": "reasoning",
            "id": f"rs_{number}",
            "summary": texts,
            "encrypted_content": STATES[number],
        }

    calls = [
        {
            "type": "function_call",
            "id": f"fc_{id}",
            "call_id": f"call_{id}",
            "name": "f",
            "arguments": json.dumps(given),
        }
        for id, given in _CALLS
    ]
    said = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    output = [thought(0, "why"), said, thought(1), calls[0], thought(2), calls[1]]
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    whole = {"id": "r", "object": "response", "model": "m", "status": "completed", "output": output, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r", "model": "m"}}]
    for index, item in enumerate(output):
        place = {"output_index": index, "item": item}
        events += [{"type": f"response.output_item.{name}", **place} for name in ("added", "done")]
    return whole, _events([*events, {"type": "response.completed", "response": whole}])


def _gemini() -> tuple[dict[str, Any], bytes]:
    parts: list[dict[str, Any]] = [
        {"text": "why", "thought": True},
        {"text": "hi", "thoughtSignature": STATES[0]},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": STATES[1]},
        {"functionCall": {"name": "f", "args": {}}},
    ]
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
    content = {"role": "model", "parts": parts}
    whole = {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}
    chunks: list[dict[str, Any]] = [
        {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in parts
    ]
    return whole, _events([*chunks, {"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": usage}])


_SAID = {
    "claude": (_claude, 3),
    "minimax": (_claude, 3),
    "openrouter": (_openrouter, 2),
    "google": (_google, 1),
    "openai": (_openai, 3),
    "azure": (_openai, 3),
    "gemini": (_gemini, 2),
    "vertex": (_gemini, 2),
}


def issued(upstream: str) -> list[str]:
    """The states in an answer of this upstream."""
    return STATES[: _SAID[upstream][1]]


# ------------------------------------------------------------------------------------------ what clients do


def asked(client: str, stream: bool, history: Sequence[dict[str, Any]] = ()) -> tuple[bytes, Look, Conversation]:
    """A client's request: one that wants reasoning, and its state where that must be asked for."""
    body: dict[str, Any] = {"model": "m", "stream": stream}
    user: dict[str, Any] = {"role": "user", "content": "hi"}
    dialect = DIALECTS[client]
    path, query = dialect.path, b""
    if client == "anthropic":
        body |= {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
        body |= {"tools": [{"name": "f", "input_schema": _SCHEMA}], "messages": [user, *history]}
    elif client == "openai-chat":
        tool = {"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}
        body |= {"reasoning_effort": "high", "tools": [tool], "messages": [user, *history]}
    elif client == "openai-responses":
        tool = {"type": "function", "name": "f", "parameters": _SCHEMA}
        body |= {"reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        body |= {"store": False, "tools": [tool], "input": [user, *history]}
    else:
        body = {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}, *history],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": _SCHEMA}]}],
            "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}},
        }
        path = b"/v1beta/models/m:" + (b"streamGenerateContent" if stream else b"generateContent")
        query = b"alt=sse" if stream else b""
    raw = json.dumps(body).encode()
    look = dialect.look(raw, path, query)
    return raw, look, dialect.read_request(raw, look)


def answered(client: str, upstream: str, streams: tuple[bool, bool], history: Sequence[dict[str, Any]] = ()) -> bytes:
    """
    What a client gets of an upstream's answer.

    :param streams: whether the client wants a stream, and whether the upstream answers in one.
    """
    dialect, target = UPSTREAMS[upstream]
    back, conversation = DIALECTS[dialect], asked(client, streams[0], history)[2]
    names = back.write_request(conversation, target).names
    context = AnswerContext(conversation, target, f"req_{len(history)}", 1, names, 5)
    writer = DIALECTS[client].event_writer(streams[0], context)
    translator = Translator(back.event_reader(streams[1], context), writer)
    whole, events = _SAID[upstream][0]()
    source = events if streams[1] else json.dumps(whole).encode()
    body = b"".join(translator.feed(piece) for piece in cuts(source, 7, 9))
    rest, ending = translator.finish()
    assert ending.complete, (client, upstream, translator.verdict)
    return body + rest


def kept(client: str, body: bytes, stream: bool) -> list[dict[str, Any]]:
    """The answer and the results of its calls, as the client sends them along with its next request."""
    return _KEPT[client](body, stream)


def _keep_anthropic(body: bytes, stream: bool) -> list[dict[str, Any]]:
    if not stream:
        content: list[dict[str, Any]] = json.loads(body)["content"]
    else:
        content, pieces = [], {}
        for event in map(json.loads, data_of(body)):
            if event["type"] == "content_block_start":
                content.append(event["content_block"])
            elif event["type"] == "content_block_delta":
                (name,) = set(event["delta"]) - {"type"}
                if name == "partial_json":
                    pieces[event["index"]] = pieces.get(event["index"], "") + event["delta"][name]
                else:
                    content[event["index"]][name] += event["delta"][name]
        for index, text in pieces.items():
            content[index]["input"] = json.loads(text)
    calls = [block["id"] for block in content if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": id, "content": "ok"} for id in calls]
    return [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


def _keep_chat(body: bytes, stream: bool) -> list[dict[str, Any]]:
    message: dict[str, Any]
    if not stream:
        message = json.loads(body)["choices"][0]["message"]
    else:
        message, calls = {"role": "assistant"}, {}
        for data in data_of(body)[:-1]:
            for choice in json.loads(data)["choices"]:
                for name, value in choice["delta"].items():
                    for call in value if name == "tool_calls" else ():
                        known = calls.setdefault(call.pop("index"), {**call, "function": {"arguments": ""}})
                        function = call["function"]
                        arguments = known["function"]["arguments"] + function["arguments"]
                        known["function"] |= {**function, "arguments": arguments}
                    if isinstance(value, list) and name != "tool_calls":
                        message[name] = [*message.get(name, ()), *value]
                    elif isinstance(value, str) and name != "role":
                        message[name] = message.get(name, "") + value
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in message["tool_calls"]]
    return [message, *results]


def _keep_responses(body: bytes, stream: bool) -> list[dict[str, Any]]:
    found = json.loads(data_of(body)[-1])["response"] if stream else json.loads(body)
    calls = [item["call_id"] for item in found["output"] if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": id, "output": "ok"} for id in calls]
    return [*found["output"], *results]


def _keep_gemini(body: bytes, stream: bool) -> list[dict[str, Any]]:
    chunks = [json.loads(data) for data in data_of(body)] if stream else [json.loads(body)]
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.get("candidates", ())
        for part in candidate.get("content", {}).get("parts", ())
        if part != {"text": ""}
    ]
    results = []
    for part in parts:
        if call := part.get("functionCall"):
            result = {"name": call["name"], "id": call["id"], "response": {"output": "ok"}}
            results.append({"functionResponse": result})
    return [{"role": "model", "parts": parts}, {"role": "user", "parts": results}]


_KEPT = {
    "anthropic": _keep_anthropic,
    "openai-chat": _keep_chat,
    "openai-responses": _keep_responses,
    "gemini": _keep_gemini,
}
