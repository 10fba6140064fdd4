"""The Anthropic Messages dialect (https://docs.anthropic.com/en/api/messages): errors, own answers, joints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import implementer

from .. import splice, sse
from ..conversation import Conversation
from ..errors import Kind, RouterError
from ..interfaces import (
    AnswerContext,
    IAnswerReader,
    IDialect,
    IEventReader,
    IEventWriter,
    Look,
    ModelRow,
    Prepared,
    RoutingText,
    Target,
)
from ..subagent import Prompt
from . import (
    anthropic_answer,
    anthropic_errors,
    anthropic_events,
    anthropic_models,
    anthropic_reading,
    anthropic_request,
    anthropic_writing,
)
from .anthropic_stream import reader
from .anthropic_turn import NEAR

_USAGE: dict[str, Any] = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "inference_geo": None,
    "server_tool_use": None,
    "service_tier": None,
}
_LAST_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "server_tool_use": None,
}
_STOP = {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None, "container": None}

_PROMPT = Prompt(contents=("system",))


@implementer(IDialect)
class AnthropicDialect:
    """Anthropic Messages at the front door and at an upstream."""

    name = "anthropic"
    ping = sse.event("ping", b'{"type":"ping"}')
    path = b"/v1/messages"
    in_band: frozenset[Kind] = frozenset()

    def look(self, body: bytes, path: bytes = b"", query: bytes = b"") -> Look:
        return anthropic_request.look(body)

    def prepare(self, body: bytes, look: Look, target: Target) -> Prepared:
        return anthropic_request.prepare(body, look, target)

    def reader(self, stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
        return reader(stream, encoding, target)

    def might_hold_command(self, body: bytes, look: Look) -> bool:
        messages = look.values.get("messages") if isinstance(look, anthropic_request.AnthropicLook) else None
        return messages is not None and anthropic_request.might_hold_command(bytes(memoryview(messages)[-NEAR:]))

    def tag(self, body: bytes, look: Look) -> tuple[str, str] | None:
        return _PROMPT.tag(body)

    def without_tag(self, body: bytes, look: Look) -> bytes:
        return _PROMPT.without_tag(body)

    def routing_text(self, body: bytes) -> RoutingText:
        return anthropic_request.routing_text(body)

    def last_user_text(self, body: bytes) -> str | None:
        return anthropic_request.last_user_text(body)

    def session(self, headers: Mapping[bytes, bytes], body: bytes) -> str:
        return anthropic_request.session(headers, body)

    def error_status(self, error: RouterError) -> int:
        return anthropic_errors.status_of(error)

    def error_body(self, error: RouterError, request_id: str) -> bytes:
        return anthropic_errors.body_of(error, request_id)

    def error_event(self, error: RouterError, request_id: str) -> bytes:
        return anthropic_errors.event_of(error, request_id)

    def message(self, text: str, look: Look, request_id: str, created: int) -> tuple[bytes, bytes]:
        # An id of the dialect's form, from the request's own: the same request names the same answer in a log.
        id = "msg_" + hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=12).hexdigest()
        whole: dict[str, Any] = {
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": look.model,
            "content": [{"type": "text", "text": text, "citations": None}],
            **_STOP,
            "usage": _USAGE,
        }
        if not look.stream:
            return b"application/json", splice.dumps(whole)
        begin = {**whole, "content": [], "stop_reason": None}
        events: tuple[tuple[str, dict[str, Any]], ...] = (
            ("message_start", {"message": begin}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": "", "citations": None}}),
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}),
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": _STOP, "usage": _LAST_USAGE}),
            ("message_stop", {}),
        )
        body = b"".join(sse.event(name, splice.dumps({"type": name, **members})) for name, members in events)
        return b"text/event-stream; charset=utf-8", body

    # ---- from and to other dialects

    def read_request(self, body: bytes, look: Look) -> Conversation:
        return anthropic_reading.read_request(body, look)

    def write_request(self, conversation: Conversation, target: Target) -> Prepared:
        return anthropic_writing.write_request(conversation, target)

    def mend(self, body: bytes, refusal: bytes) -> bytes | None:
        return None

    def event_reader(self, stream: bool, context: AnswerContext) -> IEventReader:
        return anthropic_events.reader(stream, context)

    def event_writer(self, stream: bool, context: AnswerContext) -> IEventWriter:
        return anthropic_answer.writer(stream, context)

    # ---- counting and models

    def count_path(self, target: Target) -> bytes | None:
        return b"/v1/messages/count_tokens" if target.capabilities.count_tokens else None

    def write_count(self, conversation: Conversation, target: Target) -> Prepared:
        return anthropic_writing.write_count(conversation, target)

    def read_count(self, body: bytes) -> int:
        return anthropic_models.read_count(body)

    def count_answer(self, tokens: int) -> bytes:
        return anthropic_models.count_answer(tokens)

    def model_list(self, models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
        return anthropic_models.model_list(models, query)

    def model_entry(self, model: ModelRow) -> bytes:
        return anthropic_models.model_entry(model)
