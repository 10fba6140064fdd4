"""Requests of every dialect's clients in few words, and what an upstream of another gets of them."""

from __future__ import annotations

import json
from typing import Any

from ..dialects.known import DIALECTS
from ..interfaces import Prepared, Target
from ..settings import Capabilities

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcfsj6I="

_SIGNERS = {
    "anthropic": "anthropic",
    "openai-chat": "groq",
    "openai-responses": "openai",
    "gemini": "gemini",
}


def target(name: str, **columns: Any) -> Target:
    """An upstream of a dialect."""
    return Target(_SIGNERS[name], "m", Capabilities(**{"thinking_signature": _SIGNERS[name], **columns}))


def sent(client: str, body: dict[str, Any], upstream: str, **columns: Any) -> tuple[dict[str, Any], Prepared]:
    """A client's request as an upstream of another dialect gets it."""
    front = DIALECTS[client]
    raw = json.dumps(body if client == "gemini" else {"model": "m", **body}).encode()
    path = b"/v1beta/models/m:generateContent" if client == "gemini" else front.path
    conversation = front.read_request(raw, front.look(raw, path))
    prepared = DIALECTS[upstream].write_request(conversation, target(upstream, **columns))
    return json.loads(prepared.body), prepared


NAMES = tuple(_SIGNERS)
HISTORY = {"anthropic": "messages", "openai-chat": "messages", "openai-responses": "input", "gemini": "contents"}


def everywhere(client: str, body: dict[str, Any], **columns: Any) -> dict[str, dict[str, Any]]:
    """The request as every other dialect has it."""
    return {name: sent(client, body, name, **columns)[0] for name in NAMES if name != client}


def claude(*messages: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"max_tokens": 100, "messages": [user("q"), *messages], **members}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if content and isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {**user(*content), "role": "assistant"}


def use(id: str, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {}}


def result(id: str, content: Any = "r", **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **members}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def chat(*messages: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"messages": [user("q"), *messages], **members}


def function(name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def responses(*items: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "hi"}, *items], **members}


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **members}
