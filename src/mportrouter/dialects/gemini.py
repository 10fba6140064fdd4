"""The Gemini generateContent dialect (https://ai.google.dev/api/generate-content): its joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from ..coded import see_through
from ..conversation import Conversation
from ..errors import Kind, RouterError
from ..events import Close, Delta, End, Finish, Open, Start, Tally
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
from ..tee import Tee, WholeTee
from . import (
    gemini_chunks,
    gemini_errors,
    gemini_look,
    gemini_models,
    gemini_path,
    gemini_reading,
    gemini_request,
    gemini_stream,
    gemini_turn,
    gemini_writing,
)
from .gemini_answer import StreamWriter, WholeWriter

_PROMPT = Prompt(contents=("systemInstruction", "system_instruction"))


@implementer(IDialect)
class GeminiDialect:
    """Gemini generateContent at the front door and at an upstream."""

    name = gemini_reading.DIALECT
    #: Nothing but an empty line: the official Python client takes a comment for JSON, and in an array there are none.
    ping = b"\r\n\r\n"
    path = b"/v1beta/models"
    in_band: frozenset[Kind] = frozenset()

    def look(self, body: bytes, path: bytes = b"", query: bytes = b"") -> Look:
        return gemini_look.look(body, path, query)

    def prepare(self, body: bytes, look: Look, target: Target) -> Prepared:
        return gemini_request.prepare(body, look, target)

    def reader(self, stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
        events = gemini_stream.GeminiEvents(stream, target)
        return see_through(Tee(events, gemini_chunks.interesting) if stream else WholeTee(events), encoding)

    def might_hold_command(self, body: bytes, look: Look) -> bool:
        contents = look.values.get("contents") if isinstance(look, gemini_look.GeminiLook) else None
        return contents is not None and letters(bytes(memoryview(contents)[-NEAR:]))

    def last_user_text(self, body: bytes) -> str | None:
        return gemini_turn.last_user_text(body)

    def tag(self, body: bytes, look: Look) -> tuple[str, str] | None:
        return _PROMPT.tag(body)

    def without_tag(self, body: bytes, look: Look) -> bytes:
        return _PROMPT.without_tag(body)

    def routing_text(self, body: bytes) -> RoutingText:
        return gemini_turn.routing_text(body)

    def session(self, headers: Mapping[bytes, bytes], body: bytes) -> str:
        return ""  # no client of this dialect names its conversation

    def error_status(self, error: RouterError) -> int:
        return gemini_errors.status(error)

    def error_body(self, error: RouterError, request_id: str) -> bytes:
        return gemini_errors.body(error, request_id)

    def error_event(self, error: RouterError, request_id: str) -> bytes:
        return b"data: %b\r\n\r\n" % gemini_errors.body(error, request_id)

    def message(self, text: str, look: Look, request_id: str, created: int) -> tuple[bytes, bytes]:
        conversation = Conversation(self.name, look.model, ())
        context = AnswerContext(conversation, Target("", look.model, Capabilities()), request_id, created)
        writer: StreamWriter | WholeWriter
        if look.stream:
            writer = StreamWriter(context, not isinstance(look, gemini_look.GeminiLook) or look.events)
        else:
            writer = WholeWriter(context)
        events = (Start(), Open(0, "text"), Delta(0, text), Close(0), Tally(Usage()), Finish("end"), End())
        return writer.content_type, b"".join(writer.write(event) for event in events)

    # ---- from and to other dialects

    def read_request(self, body: bytes, look: Look) -> Conversation:
        return gemini_reading.read_request(body, look)

    def write_request(self, conversation: Conversation, target: Target) -> Prepared:
        return gemini_writing.write_request(conversation, target)

    def mend(self, body: bytes, refusal: bytes) -> bytes | None:
        return None

    def event_reader(self, stream: bool, context: AnswerContext) -> IEventReader:
        return gemini_stream.GeminiEvents(stream, context.target, context.names, context.request_id)

    def event_writer(self, stream: bool, context: AnswerContext) -> IEventWriter:
        if not stream:
            return WholeWriter(context)
        return StreamWriter(context, context.conversation.members.get("alt", "sse") == "sse")

    # ---- counting and models

    def count_path(self, target: Target) -> bytes | None:
        return gemini_path.write(target, gemini_path.COUNT) if target.capabilities.count_tokens else None

    def write_count(self, conversation: Conversation, target: Target) -> Prepared:
        return gemini_writing.write_count(conversation, target)

    def read_count(self, body: bytes) -> int:
        return gemini_models.read_count(body)

    def count_answer(self, tokens: int) -> bytes:
        return gemini_models.count_answer(tokens)

    def model_list(self, models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
        return gemini_models.model_list(models, query)

    def model_entry(self, model: ModelRow) -> bytes:
        return gemini_models.model_entry(model)
