"""
The OpenAI Chat Completions dialect (https://platform.openai.com/docs/api-reference/chat): own answers, joints, models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import implementer

from .. import splice
from ..coded import see_through
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
from ..person import letters
from ..records import Usage
from ..subagent import Prompt
from ..tee import Tee, WholeTee
from . import chat_errors, chat_reading, chat_request, chat_turn, chat_usage, chat_writing
from .chat_answer import ChatStreamWriter, ChatWholeWriter, answer_id
from .chat_request import ChatLook
from .chat_stream import ChatStream, ChatWhole

#: Bytes of the messages' end in which the last one's command must stand.
_NEAR = 64 * 1024


def interesting(data: bytes) -> bool:
    """Whether an event's data can tell of usage, of the end, or of an error: all but plain deltas."""
    return (
        (b'"finish_reason":null' not in data and b'"finish_reason": null' not in data)
        or b'"usage":{' in data
        or b'"usage": {' in data
        or b'"error"' in data
    )


_PROMPT = Prompt(messages="messages")


@implementer(IDialect)
class ChatDialect:
    """OpenAI Chat Completions at the front door and at an upstream."""

    name = "openai-chat"
    # The official clients read every event's data as JSON: only a comment says nothing to them.
    ping = b": keepalive\n\n"
    path = b"/v1/chat/completions"
    in_band: frozenset[Kind] = frozenset()

    def look(self, body: bytes, path: bytes = b"", query: bytes = b"") -> Look:
        return chat_request.look(body)

    def prepare(self, body: bytes, look: Look, target: Target) -> Prepared:
        return chat_request.prepare(body, look, target)

    def reader(self, stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
        inner = (
            Tee(ChatStream(target, fold=False, partial=True), interesting) if stream else WholeTee(ChatWhole(target))
        )
        return see_through(inner, encoding)

    def might_hold_command(self, body: bytes, look: Look) -> bool:
        messages = look.values.get("messages") if isinstance(look, ChatLook) else None
        return messages is not None and letters(bytes(memoryview(messages)[-_NEAR:]))

    def last_user_text(self, body: bytes) -> str | None:
        return chat_turn.last_user_text(body)

    def tag(self, body: bytes, look: Look) -> tuple[str, str] | None:
        return _PROMPT.tag(body)

    def without_tag(self, body: bytes, look: Look) -> bytes:
        return _PROMPT.without_tag(body)

    def routing_text(self, body: bytes) -> RoutingText:
        return chat_turn.routing_text(body)

    def session(self, headers: Mapping[bytes, bytes], body: bytes) -> str:
        return chat_request.session(headers, body)

    def error_status(self, error: RouterError) -> int:
        return chat_errors.error_status(error)

    def error_body(self, error: RouterError, request_id: str) -> bytes:
        return chat_errors.error_body(error)

    def error_event(self, error: RouterError, request_id: str) -> bytes:
        return chat_errors.error_event(error)

    def message(self, text: str, look: Look, request_id: str, created: int) -> tuple[bytes, bytes]:
        whole: dict[str, Any] = {
            "id": answer_id("", request_id),
            "object": "chat.completion",
            "created": created,
            "model": look.model,
            "service_tier": None,
            "system_fingerprint": None,
        }
        usage = chat_usage.written(Usage())
        if not look.stream:
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            return b"application/json", splice.dumps({**whole, "choices": [choice], "usage": usage})
        whole["object"] = "chat.completion.chunk"
        wants_usage = isinstance(look, ChatLook) and look.usage
        chunks: list[dict[str, Any]] = []
        for delta, reason in (
            ({"role": "assistant", "content": "", "refusal": None}, None),
            ({"content": text}, None),
            ({}, "stop"),
        ):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            chunks.append({**whole, "choices": [choice], **({"usage": None} if wants_usage else {})})
        if wants_usage:
            chunks.append({**whole, "choices": [], "usage": usage})
        body = b"".join(b"data: %b\n\n" % splice.dumps(chunk) for chunk in chunks)
        return b"text/event-stream; charset=utf-8", body + b"data: [DONE]\n\n"

    # ---- from and to other dialects

    def read_request(self, body: bytes, look: Look) -> Conversation:
        return chat_reading.read_request(body, look)

    def write_request(self, conversation: Conversation, target: Target) -> Prepared:
        return chat_writing.write_request(conversation, target)

    def mend(self, body: bytes, refusal: bytes) -> bytes | None:
        return None

    def event_reader(self, stream: bool, context: AnswerContext) -> IEventReader:
        stops = context.conversation.sampling.stop
        if stream:
            return ChatStream(context.target, context.names, stops)
        return ChatWhole(context.target, context.names, stops)

    def event_writer(self, stream: bool, context: AnswerContext) -> IEventWriter:
        return ChatStreamWriter(context) if stream else ChatWholeWriter(context)

    # ---- counting and models

    def count_path(self, target: Target) -> bytes | None:
        return None

    def write_count(self, conversation: Conversation, target: Target) -> Prepared:
        """:raises RouterError: always: the dialect has no counter."""
        raise RouterError(Kind.NOT_SUPPORTED, "the Chat dialect does not count tokens")

    def read_count(self, body: bytes) -> int:
        """:raises ValueError: always: the dialect has no counter."""
        raise ValueError("the Chat dialect does not count tokens")

    def count_answer(self, tokens: int) -> bytes:
        # No client of this dialect asks; the form is that of its sister dialect's counter.
        return splice.dumps({"object": "response.input_tokens", "input_tokens": tokens})

    def model_list(self, models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
        return splice.dumps({"object": "list", "data": [_entry(model) for model in models]})

    def model_entry(self, model: ModelRow) -> bytes:
        return splice.dumps(_entry(model))


def _entry(model: ModelRow) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner or "mportrouter"}
