"""
Valid answers of the Anthropic Messages dialect, made to order for tests; public through :mod:`mportrouter.testing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .demo_script import Answer, event
from .records import Usage


def _answer(
    text: str,
    model: str,
    usage: Usage,
    thinking: tuple[str, str] | None,
    tool: tuple[str, Mapping[str, Any]] | None,
    stop_reason: str | None,
) -> Answer:
    content: list[dict[str, Any]] = []
    pieces: list[tuple[str, ...]] = []
    if thinking is not None:
        content.append({"type": "thinking", "thinking": thinking[0], "signature": thinking[1]})
        pieces.append(tuple(re.findall(r"\S+\s*", thinking[0])))
    if text:
        content.append({"type": "text", "text": text, "citations": None})
        pieces.append(tuple(re.findall(r"\s*\S+\s*", text)) or (text,))
    if tool is not None:
        content.append({"type": "tool_use", "id": "toolu_canned", "name": tool[0], "input": dict(tool[1])})
        pieces.append(("", json.dumps(tool[1], separators=(",", ":"))))
    message = {
        "id": "msg_canned",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason or ("tool_use" if tool is not None else "end_turn"),
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": usage.input,
            "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_5m,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            },
            "output_tokens": usage.output,
            "inference_geo": None,
            "server_tool_use": None,
            "service_tier": "standard",
        },
    }
    return Answer(message, tuple(pieces))


_USAGE = Usage(input=10, output=5)


def canned_message(
    text: str = "hello there",
    model: str = "claude-sonnet-4-5",
    usage: Usage = _USAGE,
    thinking: tuple[str, str] | None = None,
    tool: tuple[str, Mapping[str, Any]] | None = None,
    stop_reason: str | None = None,
) -> bytes:
    """
    The body of an answer that is not streamed.

    :param thinking: text and signature of a thinking block before the text.
    :param tool: name and input of a tool call after it.
    :param stop_reason: ``None``: what the content asks for.
    """
    return _answer(text, model, usage, thinking, tool, stop_reason).body()


def canned_events(
    text: str = "hello there",
    model: str = "claude-sonnet-4-5",
    usage: Usage = _USAGE,
    thinking: tuple[str, str] | None = None,
    tool: tuple[str, Mapping[str, Any]] | None = None,
    stop_reason: str | None = None,
) -> list[bytes]:
    """The events of :func:`canned_stream`, one item each."""
    return _answer(text, model, usage, thinking, tool, stop_reason).events()


def canned_stream(
    text: str = "hello there",
    model: str = "claude-sonnet-4-5",
    usage: Usage = _USAGE,
    thinking: tuple[str, str] | None = None,
    tool: tuple[str, Mapping[str, Any]] | None = None,
    stop_reason: str | None = None,
) -> bytes:
    """The body of a streamed answer: one text delta a word, a ``ping`` after ``message_start``."""
    return b"".join(canned_events(text, model, usage, thinking, tool, stop_reason))


def canned_error(type: str = "overloaded_error", message: str = "Overloaded") -> bytes:
    """The body of an error answer."""
    return json.dumps(
        {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_canned"}
    ).encode()


def canned_error_event(type: str = "overloaded_error", message: str = "Overloaded") -> bytes:
    """An error inside a stream."""
    return event("error", error={"type": type, "message": message}, request_id="req_canned")
