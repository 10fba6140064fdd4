"""
The OpenAI Responses dialect (https://platform.openai.com/docs/api-reference/responses): errors, own answers, joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from .. import splice
from ..conversation import Conversation
from ..errors import Kind, RouterError
from ..events import Close, Delta, End, Event, Finish, Open, Start, Tally
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
from ..person import NEAR, letters
from ..records import Usage
from ..settings import Capabilities
from ..subagent import Prompt
from . import (
    responses_door,
    responses_mending,
    responses_reading,
    responses_request,
    responses_stream,
    responses_turn,
    responses_writing,
)
from .responses_answer import ResponsesWriter
from .responses_errors import named, status_of
from .responses_items import NAME

#: Some upstreams want instructions, were they empty.
_PROMPT = Prompt(contents=("instructions",), messages="input", leading=True, required="instructions")


@implementer(IDialect)
class ResponsesDialect:
    """OpenAI Responses at the front door and at an upstream."""

    name = NAME
    #: A comment: the dialect has no event for it, and every reader of events passes over comments.
    ping = b": keepalive\n\n"
    path = b"/v1/responses"
    #: Codex reads from a failed answer when to come again; after a status 429 it gives up.
    in_band: frozenset[Kind] = frozenset({Kind.RATE})

    def look(self, body: bytes, path: bytes = b"", query: bytes = b"") -> Look:
        return responses_request.look(body)

    def prepare(self, body: bytes, look: Look, target: Target) -> Prepared:
        return responses_request.prepare(body, look, target)

    def reader(self, stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
        return responses_door.reader(stream, encoding, target)

    def might_hold_command(self, body: bytes, look: Look) -> bool:
        given = look.values.get("input") if isinstance(look, responses_request.ResponsesLook) else None
        return given is not None and letters(bytes(memoryview(given)[-NEAR:]))

    def last_user_text(self, body: bytes) -> str | None:
        return responses_turn.last_user_text(body)

    def tag(self, body: bytes, look: Look) -> tuple[str, str] | None:
        return _PROMPT.tag(body)

    def without_tag(self, body: bytes, look: Look) -> bytes:
        return _PROMPT.without_tag(body)

    def routing_text(self, body: bytes) -> RoutingText:
        return responses_turn.routing_text(body)

    def session(self, headers: Mapping[bytes, bytes], body: bytes) -> str:
        return responses_request.session(headers, body)

    # ------------------------------------------------------------------------------------------- errors, own answers

    def error_status(self, error: RouterError) -> int:
        return status_of(error)

    def error_body(self, error: RouterError, request_id: str) -> bytes:
        return splice.dumps({"error": named(error)})

    def error_event(self, error: RouterError, request_id: str) -> bytes:
        """A whole stream, from ``response.created`` on: nothing came before it."""
        return ResponsesWriter(True, _own("", request_id, 0)).fail(error)

    def message(self, text: str, look: Look, request_id: str, created: int) -> tuple[bytes, bytes]:
        writer = ResponsesWriter(look.stream, _own(look.model, request_id, created))
        events: tuple[Event, ...] = (
            Start(),
            Open(0, "text"),
            Delta(0, text),
            Close(0),
            Tally(Usage()),
            Finish("end"),
            End(),
        )
        return writer.content_type, b"".join(map(writer.write, events))

    # ------------------------------------------------------------------------------------------- other dialects

    def read_request(self, body: bytes, look: Look) -> Conversation:
        return responses_reading.read_request(body, look)

    def write_request(self, conversation: Conversation, target: Target) -> Prepared:
        return responses_writing.write_request(conversation, target)

    def mend(self, body: bytes, refusal: bytes) -> bytes | None:
        return responses_mending.mend(body, refusal)

    def event_reader(self, stream: bool, context: AnswerContext) -> IEventReader:
        return responses_stream.event_reader(stream, context)

    def event_writer(self, stream: bool, context: AnswerContext) -> IEventWriter:
        return ResponsesWriter(stream, context)

    # ------------------------------------------------------------------------------------------- counting, models

    def count_path(self, target: Target) -> bytes | None:
        return b"/v1/responses/input_tokens" if target.capabilities.count_tokens else None

    def write_count(self, conversation: Conversation, target: Target) -> Prepared:
        return responses_writing.write_count(conversation, target)

    def read_count(self, body: bytes) -> int:
        found = splice.loads(body)
        tokens = found.get("input_tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
            raise ValueError("no `input_tokens` in the answer")
        return tokens

    def count_answer(self, tokens: int) -> bytes:
        return splice.dumps({"object": "response.input_tokens", "input_tokens": tokens})

    def model_list(self, models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
        return splice.dumps({"object": "list", "data": [_entry(model) for model in models]})

    def model_entry(self, model: ModelRow) -> bytes:
        return splice.dumps(_entry(model))


def _entry(model: ModelRow) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner or "mportrouter",
    }


def _own(model: str, request_id: str, created: int) -> AnswerContext:
    """For an answer that no upstream gives."""
    return AnswerContext(Conversation(NAME, model, ()), Target("", model, Capabilities()), request_id, created)
