"""
Any upstream's answer for any client: the harness of the tests that hold for all pairs of dialects.

What an upstream of a dialect says is written by that dialect's own writer; what a client got is read by its reader, and
judged by the official client's types and accumulators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from anthropic import NOT_GIVEN
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import TypeAdapter

from .. import splice, sse
from ..dialects.known import DIALECTS
from ..events import Close, Delta, End, Event, Failed, Finish, Open, Start, Tally
from ..interfaces import AnswerContext, Target
from ..records import Usage
from ..sequencer import Sequencer
from ..settings import Capabilities
from ..translator import Translator
from . import response_events

NAMES = ("anthropic", "openai-chat", "openai-responses", "gemini")

_TARGETS = {
    "anthropic": Target("anthropic", "claude-opus-5-5", Capabilities()),
    "openai-chat": Target("groq", "m", Capabilities(thinking_signature="groq")),
    "openai-responses": response_events.OPENAI,
    "gemini": Target("gemini", "gemini-3-pro", Capabilities(thinking_signature="gemini")),
}

_USER = {"role": "user", "content": "hi"}
_ASKED: dict[str, dict[str, Any]] = {
    "anthropic": {
        "model": "m",
        "max_tokens": 9000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [_USER],
    },
    "openai-chat": {"model": "m", "reasoning_effort": "high", "messages": [_USER]},
    "openai-responses": {"model": "m", "input": "hi", "reasoning": {"effort": "high", "summary": "auto"}},
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2000}},
    },
}


def asked(name: str, stream: bool, upstream: str) -> AnswerContext:
    """What a client of a dialect asked for, and who answers."""
    dialect, body, path, query = DIALECTS[name], dict(_ASKED[name]), b"", b""
    if name == "gemini":
        path = b"/v1beta/models/m:streamGenerateContent" if stream else b"/v1beta/models/m:generateContent"
        query = b"alt=sse" if stream else b""
    else:
        body["stream"] = stream
        if name == "openai-chat" and stream:
            body["stream_options"] = {"include_usage": True}
    raw = splice.dumps(body)
    conversation = dialect.read_request(raw, dialect.look(raw, path, query))
    return AnswerContext(conversation, _TARGETS[upstream], "req_1", 1_780_000_000, {}, 7)


def said(name: str, events: Iterable[Event], stream: bool = True) -> bytes:
    """What an upstream of a dialect sends."""
    writer = DIALECTS[name].event_writer(stream, asked(name, stream, name))
    sequencer = Sequencer(writer.interleaves)
    return b"".join(writer.write(ordered) for event in events for ordered in sequencer.take(event))


class Carried:
    """An answer on its way from an upstream to a client."""

    def __init__(
        self, upstream: str, client: str, pieces: Iterable[bytes], streams: tuple[bool, bool] = (True, True)
    ) -> None:
        """:param streams: whether the upstream's answer is a stream, and whether the client wants one."""
        context = asked(client, streams[1], upstream)
        back, front = DIALECTS[upstream], DIALECTS[client]
        self.translator = Translator(
            back.event_reader(streams[0], context), front.event_writer(streams[1], context), by=upstream
        )
        self.state = "hold"
        self.body = b"".join(self._fed(pieces))
        rest, self.ending = self.translator.finish()
        self.body += rest

    def _fed(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        for piece in pieces:
            yield self.translator.feed(piece)
            self.state = self.translator.state


def heard(name: str, body: bytes, stream: bool = True) -> list[Event]:
    """What a client of a dialect gets, in order."""
    # For a client of its own dialect a reader may give parts as they are, instead of what they say.
    other = "openai-chat" if name == "anthropic" else "anthropic"
    reader = DIALECTS[name].event_reader(stream, asked(other, stream, name))
    sequencer = Sequencer(False)
    return [ordered for event in reader.feed(body) + reader.finish() for ordered in sequencer.take(event)]


# ------------------------------------------------------------------------------------------ what an answer says

#: Reasons that not every dialect tells apart.
_STOPS = {"stop_sequence": "end", "context_full": "length", "content_filter": "refusal"}


class Told(msgspec.Struct):
    """What every dialect can say of an answer."""

    order: list[str]
    text: str
    reasoning: str
    calls: list[tuple[str, Any]]
    stop: str
    usage: tuple[int, int, int, int]


def told(events: Sequence[Event]) -> Told:
    """:param events: of a whole answer."""
    order: list[str] = []
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    kinds: dict[int, str] = {}
    names: dict[int, str] = {}
    calls: dict[int, list[str]] = {}
    usage, stop = Usage(), ""
    for event in events:
        if isinstance(event, Open):
            kinds[event.key] = event.kind
            if event.kind == "tool":
                names[event.key], calls[event.key] = event.name, []
                order.append("tool")
            elif not order or order[-1] != event.kind:
                order.append(event.kind)
        elif isinstance(event, Delta):
            kind = kinds[event.key]
            (calls[event.key] if kind == "tool" else texts[kind]).append(event.text)
        elif isinstance(event, Tally):
            usage = event.usage
        elif isinstance(event, Finish):
            stop = _STOPS.get(event.stop, event.stop)
        elif isinstance(event, Failed):
            raise AssertionError(event)
    assert isinstance(events[0], Start) and isinstance(events[-1], End), events
    return Told(
        order,
        "".join(texts["text"]),
        "".join(texts["reasoning"]),
        [(names[key], json.loads("".join(pieces) or "{}")) for key, pieces in calls.items()],
        stop,
        (usage.prompt, usage.cache_read, usage.output, usage.reasoning),
    )


def parts(*given: tuple[str, Sequence[str]]) -> list[Event]:
    """
    The events of parts, each closed before the next; neighbouring calls are interleaved.

    :param given: the kind and the pieces; of a call the kind is its name.
    """
    events: list[Event] = []
    waiting: list[tuple[int, list[str]]] = []

    def settle() -> None:
        while any(pieces for _, pieces in waiting):
            events.extend(Delta(key, pieces.pop(0)) for key, pieces in waiting if pieces)
        events.extend(Close(key) for key, _ in waiting)
        waiting.clear()

    for key, (kind, pieces) in enumerate(given):
        if kind in ("text", "reasoning"):
            settle()
            events += [Open(key, kind), *(Delta(key, piece) for piece in pieces if piece), Close(key)]
        else:
            events.append(Open(key, "tool", f"call_{key}", kind))
            waiting.append((key, [piece for piece in pieces if piece]))
    settle()
    return events


def answer(events: Sequence[Event], stop: str = "end", usage: Usage | None = None) -> list[Event]:
    """A whole answer of these parts."""
    tally = Tally(usage or Usage(input=11, cache_read=5, output=9, reasoning=4))
    return [Start("", "m"), *events, Finish(stop), tally, End()]


# ------------------------------------------------------------------------------------------ the official clients


def data_of(body: bytes) -> list[bytes]:
    framer = sse.Framer()
    framer.feed(body)
    found = []
    while (event := framer.next()) is not None:
        found.append(event.data)
    assert not framer.rest(), framer.rest()
    return found


_anthropic: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def _check_anthropic(body: bytes) -> None:
    events = [json.loads(data) for data in data_of(body)]
    assert events[0]["type"] == "message_start"
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    opened = -1
    live: str | None = None
    for event in events:
        kind = event["type"]
        if kind == "content_block_start":
            assert live is None and event["index"] == opened + 1, events
            opened, live = event["index"], event["content_block"]["type"]
        elif kind == "content_block_delta":
            fits = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}
            assert event["index"] == opened and live == fits.get(event["delta"]["type"], live), events
        elif kind == "content_block_stop":
            assert event["index"] == opened and live is not None, events
            live = None
        snapshot = accumulate_event(
            event=_anthropic.validate_python(event),
            current_snapshot=snapshot,
            json_bufs=buffers,
            output_format=NOT_GIVEN,
        )
    assert [event["type"] for event in events if event["type"].startswith("message")] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert live is None


def _check_chat(body: bytes) -> None:
    *chunks, last = data_of(body)
    assert last == b"[DONE]"
    state = ChatCompletionStreamState()
    roles, reasons, numbers = 0, 0, []
    for chunk in map(json.loads, chunks):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        for choice in chunk["choices"]:
            roles += "role" in choice["delta"]
            reasons += choice["finish_reason"] is not None
            for call in choice["delta"].get("tool_calls", ()):
                assert ("id" in call) == (call["index"] not in numbers) == ("name" in call["function"]), call
                numbers.append(call["index"])
    assert (roles, reasons) == (1, 1), chunks
    assert sorted(set(numbers)) == list(range(len(set(numbers))))
    assert len({json.loads(chunk)["id"] for chunk in chunks}) == 1
    assert state.current_completion_snapshot.choices  # the final one refuses what a limit has cut


def _check_gemini(body: bytes) -> None:
    chunks = [json.loads(data) for data in data_of(body)]
    for chunk in chunks:
        GenerateContentResponse.model_validate(chunk)
    reasons = [candidate.get("finishReason") for chunk in chunks for candidate in chunk.get("candidates", ())]
    assert [reason for reason in reasons if reason] == [reasons[-1]], chunks


_STREAMS: dict[str, Callable[[bytes], object]] = {
    "anthropic": _check_anthropic,
    "openai-chat": _check_chat,
    "openai-responses": response_events.checked,
    "gemini": _check_gemini,
}
_WHOLE: dict[str, Any] = {
    "anthropic": Message,
    "openai-chat": ChatCompletion,
    "openai-responses": Response,
    "gemini": GenerateContentResponse,
}


def check(name: str, body: bytes, stream: bool = True) -> None:
    """Fails where the official client would, or where the dialect's grammar is broken."""
    if stream:
        _STREAMS[name](body)
    else:
        _WHOLE[name].model_validate_json(body)
