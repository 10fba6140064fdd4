"""Neutral turns as messages of the Anthropic dialect."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from .. import splice
from ..conversation import (
    CacheMark,
    Document,
    Foreign,
    Image,
    Media,
    Part,
    Reasoning,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from ..interfaces import Inexpressible, Target
from ..media import filename, settle
from ..tool_names import ToolNames
from .anthropic_blocks import NAME

#: Types of pictures that the dialect has (vendor documentation, "Vision").
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
_TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "application/javascript"})
#: What each dialect's clients call what cannot be said here.
_SPELT: Mapping[str, Mapping[str, str]] = {
    "openai-chat": {
        "image": "image_url",
        "document": "file",
        "sound": "input_audio",
        "choices": "n",
        "max_output": "max_completion_tokens",
        "output": "response_format",
        "stop": "stop",
        "reasoning": "reasoning_effort",
    },
    "openai-responses": {
        "image": "input_image",
        "document": "input_file",
        "sound": "input_audio",
        "max_output": "max_output_tokens",
        "output": "text.format",
        "verbosity": "text.verbosity",
    },
    "gemini": {
        "image": "inlineData",
        "document": "inlineData",
        "sound": "inlineData",
        "choices": "generationConfig.candidateCount",
        "max_output": "generationConfig.maxOutputTokens",
        "output": "generationConfig.responseSchema",
        "stop": "generationConfig.stopSequences",
        "reasoning": "generationConfig.thinkingConfig",
        "tool_choice": "toolConfig.functionCallingConfig",
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "seed": "generationConfig.seed",
        "presence_penalty": "generationConfig.presencePenalty",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "logprobs": "generationConfig.responseLogprobs",
        "top_logprobs": "generationConfig.logprobs",
        "service_tier": "serviceTier",
    },
    NAME: {"output": "output_config.format", "max_output": "max_tokens", "stop": "stop_sequences"},
}


def spelt(dialect: str, name: str) -> str:
    """What a client of a dialect calls a member that has a neutral name here."""
    return _SPELT.get(dialect, {}).get(name, name)


def cache_control(mark: CacheMark) -> dict[str, str]:
    """A mark: five minutes, or an hour for whatever is meant to last longer than half an hour."""
    if mark.ttl in (None, "5m", "30m"):
        return {"type": "ephemeral"}
    return {"type": "ephemeral", "ttl": "1h"}


class Messages:
    """
    Writes turns that :mod:`mportrouter.repair` has put right.

    :param dialect: the client's, for what it calls things.
    :param marks: whether cache marks are written.
    :ivar notes: what was left out.
    """

    def __init__(self, dialect: str, target: Target, names: ToolNames, marks: bool) -> None:
        self._dialect = dialect
        self._capabilities = target.capabilities
        self._names = names
        self._marks = marks
        self.notes: dict[str, None] = {}

    def write(self, turn: Turn, last: bool = False) -> bytes | None:
        """
        One message, ``None`` where nothing of it can be written. The same turn gives the same bytes.

        :param last: a cache may end with it.
        :raises Inexpressible: naming the member.
        """
        blocks: list[dict[str, Any]] = []
        for part in turn.parts:
            self._part(part, blocks)
        if not blocks:
            return None
        if last:
            for block in reversed(blocks):
                if block["type"] not in ("thinking", "redacted_thinking"):
                    block.setdefault("cache_control", {"type": "ephemeral"})
                    break
        return dumps({"role": turn.role, "content": blocks})

    def _part(self, part: Part, out: list[dict[str, Any]]) -> None:
        if isinstance(part, Text):
            if part.text:
                out.append(self._marked({"type": "text", "text": part.text}, part.cache))
        elif isinstance(part, ToolCall):
            call = {
                "type": "tool_use",
                "id": part.id,
                "name": self._names.wire(part.name, part.namespace),
                "input": _raw(self._names.arguments(part)),
            }
            out.append(self._marked(call, part.cache))
        elif isinstance(part, ToolResult):
            out.append(self._result(part))
        elif isinstance(part, Reasoning):
            self._reasoning(part, out)
        elif isinstance(part, Refusal):
            if part.text.strip():
                out.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            out.append(self._marked(self._image(part.media), part.cache))
        elif isinstance(part, Document):
            out.append(self._marked(self._document(part), part.cache))
        elif isinstance(part, Sound):
            raise Inexpressible(f"`{self._spelt('sound')}`: the model does not take sound")
        elif isinstance(part, WebSearch):
            out += [dict(raw) for raw in part.raw]
        elif isinstance(part, Foreign):
            out.append(dict(part.raw))

    def _marked(self, block: dict[str, Any], mark: CacheMark | None) -> dict[str, Any]:
        if mark is not None and self._marks:
            block["cache_control"] = cache_control(mark)
        return block

    def _spelt(self, name: str) -> str:
        return spelt(self._dialect, name)

    def _reasoning(self, part: Reasoning, out: list[dict[str, Any]]) -> None:
        opaque = part.opaque
        if opaque is not None and opaque.kind == "redacted":
            if self._capabilities.redacted_thinking:
                out.append({"type": "redacted_thinking", "data": opaque.value})
            else:
                self.notes["redacted_thinking blocks"] = None
        elif opaque is not None and opaque.kind == "signature":
            out.append({"type": "thinking", "thinking": part.text, "signature": opaque.value})
        elif part.text and self._capabilities.thinking_signature != NAME:
            out.append({"type": "thinking", "thinking": part.text, "signature": ""})
        else:
            self.notes["reasoning without a signature"] = None

    def _result(self, part: ToolResult) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": part.call_id}
        parts = part.parts
        if len(parts) == 1 and isinstance(parts[0], Text) and parts[0].cache is None:
            block["content"] = parts[0].text
        elif parts:
            inner: list[dict[str, Any]] = []
            for each in parts:
                self._part(each, inner)
            if inner:
                block["content"] = inner
        if part.is_error:
            block["is_error"] = True
        return self._marked(block, part.cache)

    def _image(self, media: Media) -> dict[str, Any]:
        if media.kind == "base64":
            media = settle(media)
            if media.media_type == _PDF:
                return self._document(Document(media))
        self._need("images", "image", "pictures")
        if media.kind == "url":
            return {"type": "image", "source": self._url(media, "image")}
        if media.kind != "base64":
            raise Inexpressible(f"`{self._spelt('image')}`: an id of a file is known to its own provider only")
        if media.media_type not in _PICTURES:
            kind = media.media_type[:64] or "unknown"
            raise Inexpressible(f"`{self._spelt('image')}`: pictures of type {kind} are not taken")
        source = {"type": "base64", "media_type": media.media_type, "data": media.value}
        return {"type": "image", "source": source}

    def _url(self, media: Media, what: str) -> dict[str, Any]:
        if not media.value.startswith(("https://", "http://")):
            raise Inexpressible(f"`{self._spelt(what)}`: only https URLs are taken")
        if not self._capabilities.url_images:
            raise Inexpressible(f"`{self._spelt(what)}`: the provider fetches no URLs; send the bytes")
        return {"type": "url", "url": media.value}

    def _need(self, column: str, what: str, words: str) -> None:
        if getattr(self._capabilities, column) != "honoured":
            raise Inexpressible(f"`{self._spelt(what)}`: the model does not read {words}")

    def _document(self, part: Document) -> dict[str, Any]:
        media = settle(part.media)
        title = part.title or media.filename
        if media.kind == "base64" and (media.media_type.startswith("text/") or media.media_type in _TEXTS):
            media = _as_text(media)
        if media.kind == "text" and self._capabilities.documents != "honoured":
            words = "\n\n".join(word for word in (title, part.context, media.value) if word)
            return {"type": "text", "text": words or "[empty document]"}
        self._need("documents", "document", "documents")
        source: dict[str, Any]
        if media.kind == "text":
            source = {"type": "text", "media_type": "text/plain", "data": media.value}
        elif media.kind == "url":
            source = self._url(media, "document")
        elif media.kind == "parts":
            inner: list[dict[str, Any]] = []
            for each in media.parts:
                self._part(each, inner)
            source = {"type": "content", "content": inner}
        elif media.kind == "base64" and media.media_type == _PDF:
            source = {"type": "base64", "media_type": _PDF, "data": media.value}
        elif media.kind == "base64" and media.media_type in _PICTURES:
            return self._image(media)
        elif media.kind == "base64":
            name = filename(media)[:64]
            raise Inexpressible(f"`{self._spelt('document')}`: {name} is neither PDF nor plain text")
        else:
            raise Inexpressible(f"`{self._spelt('document')}`: an id of a file is known to its own provider only")
        block: dict[str, Any] = {"type": "document", "source": source}
        if title:
            block["title"] = title
        if part.context:
            block["context"] = part.context
        if part.cite:
            block["citations"] = {"enabled": True}
        return block


def _as_text(media: Media) -> Media:
    """A plain text that came as base64; the very object where it is none."""
    try:
        text = base64.b64decode(media.value).decode("utf-8")
    except (binascii.Error, ValueError):
        return media
    return Media("text", text, "text/plain", media.filename)


def _raw(text: str) -> msgspec.Raw:
    """JSON text as it stands; ``\\u`` escapes for what is no UTF-8."""
    try:
        return msgspec.Raw(text.encode())
    except UnicodeEncodeError:
        return msgspec.Raw(splice.dumps(json.loads(text)))


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return splice.loads(bytes(value))
    raise TypeError(type(value).__name__)


def dumps(value: Any) -> bytes:
    """Compact JSON of a value that holds :class:`msgspec.Raw`; half a surrogate pair stays as an escape."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()
