"""
What the stand-in providers say: from a checked Messages request to an answer, the same for the same request.

- The text names the provider and the model and repeats the question shortened, so that a person sees who answered.
- ``N words`` in the last user text makes the answer about N words long.
- A tool is called when ``tool_choice`` forces one (MiniMax ignores that, as the real one does), or when the last user
  text has the word *tool*; each of the request's own tools that it names is; its required arguments are made up from
  their schema, a text argument being the last quoted text of the question, or the whole patch in it.
- After a tool result the answer repeats the result shortened.
- Where a JSON text of some schema is wanted, it is made up, and its texts are what would be said.
- With thinking on (``enabled``, ``adaptive``) a signed thinking block comes first; ``display: omitted`` empties its
  text.
- ``max_tokens`` cuts the answer, a token being a word here; ``stop_sequences`` end it (MiniMax ignores them).
- Tokens of the prompt are a quarter of its characters; marked prefixes are cached, see :class:`PromptCache`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

from .demo_said import Asked, arguments, bad, in_words, limited, sentence, shortened, signature

_TITLES = {"anthropic": "Anthropic", "minimax": "MiniMax"}

MODELS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "anthropic": (
        ("claude-opus-5-5", "Claude Opus 5.5 (stand-in)", "2026-09-01T00:00:00Z"),
        ("claude-sonnet-5-5", "Claude Sonnet 5.5 (stand-in)", "2026-09-01T00:00:00Z"),
        ("claude-haiku-5-5", "Claude Haiku 5.5 (stand-in)", "2026-09-01T00:00:00Z"),
        ("claude-opus-4-5", "Claude Opus 4.5 (stand-in)", "2025-11-01T00:00:00Z"),
        ("claude-sonnet-4-5", "Claude Sonnet 4.5 (stand-in)", "2025-09-29T00:00:00Z"),
        ("claude-haiku-4-5", "Claude Haiku 4.5 (stand-in)", "2025-10-01T00:00:00Z"),
    ),
    "minimax": (
        ("MiniMax-M3", "MiniMax M3 (stand-in)", "2026-06-01T00:00:00Z"),
        ("MiniMax-M2.7", "MiniMax M2.7 (stand-in)", "2026-03-01T00:00:00Z"),
    ),
}


class PromptCache:
    """
    Which marked prefixes a stand-in has seen. Order of the prefix: tools, system, messages. The markers themselves are
    no part of it, prefixes below ``minimum`` tokens are not cached, and nothing expires but by number.
    """

    def __init__(self, minimum: int = 1024, size: int = 512) -> None:
        self._minimum = minimum
        self._size = size
        self._seen: dict[bytes, int] = {}

    def usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """The prompt's part of ``usage``; remembers the prefixes that it marks."""
        digest = hashlib.sha256(body["model"].encode("utf-8", "replace"))
        total = read = written = 0
        ttl = "5m"
        marks: list[tuple[bytes, int]] = []
        for block in _prefix(body):
            marker = block.get("cache_control") if isinstance(block, dict) else None
            bare = {key: value for key, value in block.items() if key != "cache_control"} if marker else block
            text = json.dumps(bare)
            digest.update(text.encode())
            total += len(text) // 4 + 1
            if isinstance(marker, dict) and total >= self._minimum:
                marks.append((digest.digest(), total))
                ttl = marker.get("ttl", ttl)
        for key, tokens in reversed(marks):
            if key in self._seen:
                read = tokens
                break
        if marks:
            written = marks[-1][1] - read
        for key, tokens in marks:
            self._seen.pop(key, None)
            self._seen[key] = tokens
        while len(self._seen) > self._size:
            del self._seen[next(iter(self._seen))]
        return {
            "input_tokens": total - read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written if ttl != "1h" else 0,
                "ephemeral_1h_input_tokens": written if ttl == "1h" else 0,
            },
        }


def _prefix(body: dict[str, Any]) -> Iterator[Any]:
    yield from body.get("tools") or ()
    system = body.get("system") or ()
    yield from [{"type": "text", "text": system}] if isinstance(system, str) else system
    for message in body["messages"]:
        content = message["content"]
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def count_tokens(body: dict[str, Any]) -> int:
    """Tokens of the whole prompt, the same number that ``usage`` of an answer adds up to."""
    return sum(len(json.dumps({k: v for k, v in b.items() if k != "cache_control"})) // 4 + 1 for b in _prefix(body))


@attrs.frozen
class Answer:
    """
    One whole answer.

    :param message: the JSON value of an answer that is not streamed.
    :param pieces: for each content block the texts of its deltas, in order.
    """

    message: dict[str, Any]
    pieces: tuple[tuple[str, ...], ...]

    def body(self) -> bytes:
        return _dump(self.message)

    def events(self) -> list[bytes]:
        """The same as a stream: each item one whole event."""
        message = dict(self.message)
        usage = message["usage"]
        message.update(content=[], stop_reason=None, stop_sequence=None, usage={**usage, "output_tokens": 1})
        events = [event("message_start", message=message), event("ping")]
        for index, (block, pieces) in enumerate(zip(self.message["content"], self.pieces, strict=True)):
            events.extend(_block_events(index, block, pieces))
        ending = {
            "stop_reason": self.message["stop_reason"],
            "stop_sequence": self.message["stop_sequence"],
            "stop_details": None,
            "container": None,
        }
        totals = {
            name: usage[name]
            for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
        }
        events.append(event("message_delta", delta=ending, usage={**totals, "server_tool_use": None}))
        events.append(event("message_stop"))
        return events


def event(kind: str, **members: Any) -> bytes:
    """One event of the stream as the provider writes it."""
    return b"event: " + kind.encode() + b"\ndata: " + _dump({"type": kind, **members}) + b"\n\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _block_events(index: int, block: dict[str, Any], pieces: tuple[str, ...]) -> Iterator[bytes]:
    kind = block["type"]
    member, delta = {
        "text": ("text", "text_delta"),
        "thinking": ("thinking", "thinking_delta"),
        "tool_use": ("partial_json", "input_json_delta"),
    }[kind]
    empties: dict[str, dict[str, Any]] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    empty = empties[kind]
    yield event("content_block_start", index=index, content_block={**block, **empty})
    for piece in pieces:
        yield event("content_block_delta", index=index, delta={"type": delta, member: piece})
    if kind == "thinking":
        signed = {"type": "signature_delta", "signature": block["signature"]}
        yield event("content_block_delta", index=index, delta=signed)
    yield event("content_block_stop", index=index)


def answer(provider: str, body: dict[str, Any], cache: PromptCache, serial: int) -> Answer:
    """
    :param provider: ``anthropic`` or ``minimax``.
    :param body: a request that :func:`mportrouter.demo_rules.check` has passed.
    :param serial: makes the ids of this answer unlike those of others.
    """
    asked, result = _last_user(body["messages"])
    tools = [] if result is not None else _chosen_tools(provider, body, asked)
    left = body["max_tokens"]
    content: list[dict[str, Any]] = []
    pieces: list[tuple[str, ...]] = []
    thinking = body.get("thinking") or {}
    thought_tokens = 0
    if left and thinking.get("type") in ("enabled", "adaptive"):
        thought = f"The question is {shortened(asked)!r}. I am a stand-in and shall say so."
        words = tuple(in_words(thought))
        thought_tokens = len(words)
        if thinking.get("display") == "omitted":
            thought, words = "", ()
        content.append({"type": "thinking", "thinking": thought, "signature": signature(provider, thought)})
        pieces.append(words)
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    said = Asked(_TITLES[provider], body["model"], asked, result, shape=form.get("schema"))
    text = sentence(said, tuple(tool["name"] for tool in tools))
    text, words, stop, sequence = _limited(provider, body, text, max(0, left - thought_tokens))
    if words:
        content.append({"type": "text", "text": text, "citations": None})
        pieces.append(words)
    tokens = thought_tokens + len(words)
    for at, tool in enumerate(tools if stop == "end_turn" else ()):
        made = arguments(tool["input_schema"], asked)
        written = json.dumps(made, separators=(",", ":"), ensure_ascii=False)
        content.append(
            {"type": "tool_use", "id": f"toolu_demo{serial:08d}{at or ''}", "name": tool["name"], "input": made}
        )
        pieces.append(("", *(written[at : at + 12] for at in range(0, len(written), 12))) if made else ("",))
        tokens += max(1, len(written) // 4)
        stop = "tool_use"
    usage = {
        **cache.usage(body),
        "output_tokens": tokens,
        "output_tokens_details": {"thinking_tokens": thought_tokens},
        "inference_geo": None,
        "server_tool_use": None,
        "service_tier": "standard",
    }
    message = {
        "id": f"msg_demo{serial:08d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_sequence": sequence,
        "stop_details": None,
        "container": None,
        "usage": usage,
    }
    return Answer(message, tuple(pieces))


def _last_user(messages: list[Any]) -> tuple[str, str | None]:
    """The last user turn's own text, and the text of its last tool result, or ``None`` where it has none."""
    texts: list[str] = []
    result: str | None = None
    for message in reversed(messages):
        if message["role"] == "assistant":
            break
        if message["role"] != "user":
            continue
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text" and not block["text"].lstrip().startswith("<system-reminder>"):
                texts.append(block["text"])
            elif block["type"] == "tool_result":
                inner = block.get("content", "")
                parts = inner if isinstance(inner, list) else [{"text": inner}]
                result = " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
    return (texts[-1].strip() if texts else ""), result


def _chosen_tools(provider: str, body: dict[str, Any], asked: str) -> list[dict[str, Any]]:
    tools = [tool for tool in body.get("tools") or () if tool.get("type", "custom") == "custom"]
    choice = body.get("tool_choice") or {}
    kind = choice.get("type")
    if kind == "none" or not tools:
        return []
    if provider == "anthropic" and kind == "tool":
        for tool in tools:
            if tool["name"] == choice.get("name"):
                return [tool]
        raise bad(f"Tool '{choice.get('name')}' not found in provided tools")
    named = [tool for tool in tools if tool["name"] in asked]
    if named:
        return named[:1] if choice.get("disable_parallel_tool_use") is True else named
    if re.search(r"\btool\b", asked) or (provider == "anthropic" and kind == "any"):
        return tools[:1]
    return []


_STOPS = {"end": "end_turn", "stop_sequence": "stop_sequence", "length": "max_tokens"}


def _limited(provider: str, body: dict[str, Any], text: str, left: int) -> tuple[str, tuple[str, ...], str, str | None]:
    """The text within the request's bounds, its pieces, the reason it stops and the sequence that stopped it."""
    stops = tuple(body.get("stop_sequences") or ()) if provider == "anthropic" else ()
    words, stop, sequence = limited(text, stops, left)
    return "".join(words), words, _STOPS[stop], sequence
