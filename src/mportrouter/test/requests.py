"""Requests of the Anthropic dialect, for the tests of what reads and edits them."""

from __future__ import annotations

import json
from typing import Any

from .. import envelope
from ..dialects.anthropic_request import look, prepare
from ..interfaces import Prepared, Target
from ..settings import Capabilities

ANTHROPIC = Capabilities()
MINIMAX = Capabilities(
    stop_sequences="ignored",
    search_results="refused",
    server_tools="refused",
    mid_system=False,
    thinking_signature="minimax",
    redacted_thinking=False,
    billing_header=False,
    strip_fields=("context_management", "service_tier"),
    strip_thinking_fields=("display", "block_binding"),
    strip_output_config_fields=("effort", "format"),
    strip_tool_fields=("strict", "defer_loading"),
)
OURS = envelope.wrap("minimax", "MiniMax-M3", "sig+/=é")
THEIRS = envelope.wrap("kimi", "k3", "other")
USER = {"role": "user", "content": "hi"}


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def body(**members: Any) -> bytes:
    return encode({"model": "claude-opus-5-5", "messages": [USER], **members})


def ready(raw: bytes, capabilities: Capabilities = MINIMAX, model: str = "claude-opus-5-5") -> Prepared:
    return prepare(raw, look(raw), Target(capabilities.thinking_signature, model, capabilities))


def messages(prepared: Prepared) -> Any:
    return json.loads(prepared.body)["messages"]


def thinking(signature: str | None, text: str = "hm") -> dict[str, Any]:
    block = {"type": "thinking", "thinking": text}
    return block if signature is None else {**block, "signature": signature}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


TEXT = {"type": "text", "text": "so"}
