"""
What the stand-in providers refuse: the rules over a Messages request, as strict as the real ones.

Sources: the Messages API description (unknown members, block types, the pairing of tool results, thinking signatures)
and the behaviour of MiniMax's endpoint of the same dialect (it ignores what it does not know, and refuses
``search_result``).
"""

from __future__ import annotations

import hmac
import re
from typing import Any

from .demo_said import Refusal, bad, signature

#: Top-level members that Anthropic knows; a value is the beta without which it is refused.
_MEMBERS: dict[str, str | None] = {
    **dict.fromkeys(
        (
            "model",
            "max_tokens",
            "messages",
            "system",
            "stop_sequences",
            "stream",
            "temperature",
            "top_p",
            "top_k",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
            "metadata",
            "service_tier",
            "cache_control",
            "container",
            "inference_geo",
            "workspace_id",
            "user_profile_id",
            "safeguards",
        )
    ),
    "context_management": "context-management-",
    "speed": "fast-mode-",
    "mcp_servers": "mcp-client-",
    "diagnostics": "cache-diagnosis-",
    "fallbacks": "fallback",
    "output_format": "structured-outputs-",
}
_COUNT_MEMBERS = frozenset(
    ("messages", "model", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "speed")
) | {"context_management", "mcp_servers", "output_format"}

_USER_BLOCKS = frozenset(("text", "image", "document", "search_result", "tool_result", "container_upload"))
_ASSISTANT_BLOCKS = frozenset(
    (
        "text",
        "tool_use",
        "thinking",
        "redacted_thinking",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "compaction",
        "fallback",
    )
)
_SYSTEM_BLOCKS = frozenset(("text", "tool_addition", "tool_removal"))
_CHOICES = ("auto", "any", "tool", "none")
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+\Z")


def check(
    provider: str, body: Any, betas: str, version: str, counting: bool = False, any_model: bool = False
) -> None:
    """
    :param provider: ``anthropic`` or ``minimax``.
    :param body: the request's JSON value.
    :param betas: all ``anthropic-beta`` names, joined by commas.
    :param version: ``anthropic-version`` or ``""``.
    :param counting: it came to ``count_tokens``, which takes neither ``max_tokens`` nor ``stream``.
    :param any_model: it stands in for a provider whose models have other names.
    :raises Refusal: the first rule that it breaks.
    """
    if not isinstance(body, dict):
        raise bad("The request body is not valid JSON: expected an object.")
    strict = provider == "anthropic"
    if strict:
        if version not in ("2023-06-01", "2026-10-21"):
            raise bad("anthropic-version: header is required")
        _check_members(body, betas, version, counting)
    model = body.get("model")
    if not isinstance(model, str):
        raise bad("model: Field required")
    if not counting:
        tokens = body.get("max_tokens")
        if "max_tokens" not in body:
            raise bad("max_tokens: Field required")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise bad("max_tokens: Input should be a valid integer greater than or equal to 0")
    known = model.startswith("claude-") if strict else model.startswith("MiniMax-")
    if not known and not any_model:
        raise Refusal(404, "not_found_error", f"model: {model}")
    _check_lists(body)
    _check_thinking(body, strict, betas)
    _check_tools(body, strict)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad("messages: at least one message is required")
    _Conversation(provider, body).check(messages)


def _check_members(body: dict[str, Any], betas: str, version: str, counting: bool) -> None:
    for name in body:
        beta = _MEMBERS.get(name, "")
        if beta == "" or (counting and name not in _COUNT_MEMBERS):
            raise bad(f"{name}: Extra inputs are not permitted")
        if beta and beta not in betas:
            raise bad(f"{name}: Extra inputs are not permitted")
    if version == "2026-10-21":
        for name in ("temperature", "top_p", "top_k"):
            if name in body:
                raise bad(f"`{name}` is not supported in this API version.")
    metadata = body.get("metadata")
    if metadata is not None and (not isinstance(metadata, dict) or metadata.keys() - {"user_id"}):
        raise bad("metadata: Extra inputs are not permitted")


def _check_lists(body: dict[str, Any]) -> None:
    system = body.get("system", "")
    if isinstance(system, list):
        for index, block in enumerate(system):
            if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise bad(f"system.{index}.type: Input should be 'text'")
    elif not isinstance(system, str):
        raise bad("system: Input should be a valid list")
    stops = body.get("stop_sequences") or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise bad("stop_sequences: Input should be a valid list")
    if any(not stop.strip() for stop in stops):
        raise bad("stop_sequences: each stop sequence must contain non-whitespace")
    choice = body.get("tool_choice")
    if choice is not None and (not isinstance(choice, dict) or choice.get("type") not in _CHOICES):
        raise bad("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")


def _check_thinking(body: dict[str, Any], strict: bool, betas: str) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    if not isinstance(thinking, dict):
        raise bad("thinking: Input should be a valid dictionary")
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled", "between_tools"):
        raise bad("thinking.type: Input should be 'enabled', 'adaptive', 'disabled' or 'between_tools'")
    if not strict:
        extra = thinking.keys() - {"type", "budget_tokens"}
        if extra:
            raise bad(f"invalid params, thinking.{min(extra)} is not supported")
        return
    if "block_binding" in thinking and "thinking-binding-controls-" not in betas:
        raise bad("thinking.block_binding: Extra inputs are not permitted")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1024:
            raise bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= body.get("max_tokens", budget + 1):
            raise bad("`max_tokens` must be greater than `thinking.budget_tokens`.")
    choice = body.get("tool_choice")
    if kind != "disabled" and isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise bad("Thinking may not be enabled when tool_choice forces tool use.")


def _check_tools(body: dict[str, Any], strict: bool) -> None:
    tools = body.get("tools", [])
    if not isinstance(tools, list):
        raise bad("tools: Input should be a valid list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise bad(f"tools.{index}: Input should be a valid dictionary")
        custom = tool.get("type", "custom") == "custom"
        if not isinstance(tool.get("name"), str):
            raise bad(f"tools.{index}.custom.name: Field required")
        if custom and not isinstance(tool.get("input_schema"), dict):
            raise bad(f"tools.{index}.custom.input_schema: Field required")
        if not custom and not strict:
            raise bad(f"invalid params, tools[{index}].type {tool['type']!r} is not supported")


class _Conversation:
    """The rules over the list of messages."""

    def __init__(self, provider: str, body: dict[str, Any]) -> None:
        self.provider = provider
        self.strict = provider == "anthropic"
        self.body = body
        self.seen: set[str] = set()

    def check(self, messages: list[Any]) -> None:
        waiting: list[str] = []
        tool_blocks = False
        merged = _merge(messages)
        for position, (index, role, blocks) in enumerate(merged):
            if role == "system":
                if not self.strict:
                    raise bad("invalid params, invalid role: system")
                if position == 0 or merged[position - 1][1] != "user":
                    raise bad(f"messages.{index}: a system message must follow a user message")
            self._check_types(index, role, blocks)
            if role == "user":
                self._check_results(index, blocks, waiting)
                waiting = []
            elif role == "assistant":
                waiting = self._calls(index, blocks)
                if position == len(merged) - 1:
                    if self.strict and blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
                        raise bad(f"messages.{index}: The final block in an assistant message cannot be `thinking`.")
                    self._check_prefill(blocks, waiting)
            tool_blocks = tool_blocks or any(b["type"] in ("tool_use", "tool_result") for b in blocks)
        if tool_blocks and self.strict and not self.body.get("tools"):
            raise bad("Requests which include `tool_use` or `tool_result` blocks must define tools")
        self._check_open_loop(merged)

    def _check_types(self, index: int, role: str, blocks: list[dict[str, Any]]) -> None:
        allowed = {"user": _USER_BLOCKS, "assistant": _ASSISTANT_BLOCKS}.get(role, _SYSTEM_BLOCKS)
        for place, block in enumerate(blocks):
            kind = block["type"]
            where = f"messages.{index}.content.{place}"
            if not self.strict:
                inner = block.get("content") if kind == "tool_result" else None
                nested = inner if isinstance(inner, list) else []
                if kind == "search_result" or any(
                    isinstance(part, dict) and part.get("type") == "search_result" for part in nested
                ):
                    raise bad("invalid params, invalid tool_result content")
            if kind not in allowed:
                raise bad(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
            if kind == "text":
                text = block.get("text")
                if not isinstance(text, str):
                    raise bad(f"{where}.text.text: Field required")
                if self.strict and not text.strip():
                    raise bad("messages: text content blocks must be non-empty")
            elif kind == "thinking":
                self._check_signature(where, block)

    def _check_signature(self, where: str, block: dict[str, Any]) -> None:
        thinking = block.get("thinking")
        if not isinstance(thinking, str):
            raise bad(f"{where}.thinking.thinking: Field required")
        given = block.get("signature")
        if not isinstance(given, str):
            raise bad(f"{where}.thinking.signature: Field required")
        if not given and not self.strict:
            return  # thoughts that nobody signed: what is wanted is that the member is there
        if not hmac.compare_digest(given.encode("utf-8", "replace"), signature(self.provider, thinking).encode()):
            raise bad(f"{where}: Invalid `signature` in `thinking` block")

    def _calls(self, index: int, blocks: list[dict[str, Any]]) -> list[str]:
        calls = []
        for place, block in enumerate(blocks):
            if block["type"] == "tool_use":
                call = block.get("id")
                if not isinstance(call, str) or not _TOOL_ID.match(call):
                    raise bad(
                        f"messages.{index}.content.{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
                    )
                if call in self.seen:
                    raise bad("messages: `tool_use` ids must be unique")
                if not isinstance(block.get("input"), dict):
                    raise bad(f"messages.{index}.content.{place}.tool_use.input: Input should be a valid dictionary")
                self.seen.add(call)
                calls.append(call)
        return calls

    def _check_results(self, index: int, blocks: list[dict[str, Any]], waiting: list[str]) -> None:
        results = [block.get("tool_use_id") for block in blocks if block["type"] == "tool_result"]
        for result in results:
            if result not in waiting:
                raise bad(
                    f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {result}. "
                    "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
        missing = [call for call in waiting if call not in results]
        if missing or any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            raise bad(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing or waiting)}."
            )

    def _check_prefill(self, blocks: list[dict[str, Any]], waiting: list[str]) -> None:
        if waiting:
            raise bad(
                f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(waiting)}."
            )
        if self.strict and not re.search(r"-(3|4-0|4-1|4-5|4-20)", self.body["model"]):
            raise bad(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )
        last = blocks[-1] if blocks else {}
        if self.strict and last.get("type") == "text" and last["text"] != last["text"].rstrip():
            raise bad("messages: final assistant content cannot end with trailing whitespace")

    def _check_open_loop(self, merged: list[tuple[int, str, list[dict[str, Any]]]]) -> None:
        """With budgeted thinking on, the assistant turn of an open tool loop must begin with its thinking."""
        thinking = self.body.get("thinking") or {}
        turns = [turn for turn in merged if turn[1] != "system"]
        if not self.strict or thinking.get("type") != "enabled" or len(turns) < 2:
            return
        index, role, blocks = turns[-2]
        answered = any(block["type"] == "tool_result" for block in turns[-1][2])
        if role == "assistant" and answered and blocks[0]["type"] not in ("thinking", "redacted_thinking"):
            raise bad(
                f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{blocks[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a "
                "thinking block."
            )


def _merge(messages: list[Any]) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """The turns ``(index of the first message, role, blocks)``, neighbours of one role joined."""
    merged: list[tuple[int, str, list[dict[str, Any]]]] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise bad(f"messages.{index}: Input should be a valid dictionary")
        role = message.get("role")
        if role not in ("user", "assistant", "system"):
            raise bad(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise bad(f"messages.{index}.content: Field required")
        for place, block in enumerate(content):
            if not isinstance(block, dict) or not isinstance(block.get("type"), str):
                raise bad(f"messages.{index}.content.{place}.type: Field required")
        if not content and (role != "assistant" or index != len(messages) - 1):
            raise bad(f"messages.{index}: all messages must have non-empty content")
        if merged and merged[-1][1] == role:
            merged[-1][2].extend(content)
        else:
            merged.append((index, role, list(content)))
    return merged
