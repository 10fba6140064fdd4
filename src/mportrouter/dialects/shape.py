"""Which dialect a request body is in, told by its members alone: for files, which have no path to tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Members that one of the two dialects with ``messages`` has and the other has not.
_ANTHROPIC = frozenset(
    ["system", "thinking", "stop_sequences", "anthropic_version", "anthropic_beta", "mcp_servers", "output_config"]
)
_CHAT = frozenset(
    [
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "reasoning_effort",
        "response_format", "seed", "stop", "stream_options", "top_logprobs", "user",
    ]
)  # fmt: skip
_CHAT_ROLES = frozenset(["developer", "function", "tool"])
_ANTHROPIC_PARTS = frozenset(
    ["document", "image", "redacted_thinking", "search_result", "server_tool_use", "thinking", "tool_result",
     "tool_use"]
)  # fmt: skip
_CHAT_PARTS = frozenset(["file", "image_url", "input_audio", "refusal"])


def dialect_of(request: object) -> str | None:
    """
    The dialect's name in the configuration, or ``None`` where the members of no dialect are there.

    :param request: a request body, parsed.
    """
    if not isinstance(request, Mapping):
        return None
    if "contents" in request:
        return "gemini"
    if "messages" not in request:
        return "openai-responses" if "input" in request or "previous_response_id" in request else None
    score = len(_ANTHROPIC & request.keys()) - len(_CHAT & request.keys())
    for tool in _mappings(request.get("tools")):
        score += 1 if "input_schema" in tool else -1 if "function" in tool else 0
    messages = _mappings(request["messages"])
    for message in messages:
        score -= ("tool_calls" in message) + (message.get("role") in _CHAT_ROLES)
        for part in _mappings(message.get("content")):
            kind = part.get("type")
            score += (kind in _ANTHROPIC_PARTS) - (kind in _CHAT_PARTS)
    if score == 0:
        # Both have it, one must have it; and instructions come first in the other.
        first = messages[0].get("role") if messages else None
        return "openai-chat" if "max_tokens" not in request or first == "system" else "anthropic"
    return "anthropic" if score > 0 else "openai-chat"


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return []
    return [one for one in value if isinstance(one, Mapping)]
