"""Requests and answers of the Chat dialect, for the tests of what reads and writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..conversation import Conversation, Text, Tool, Turn
from ..dialects.chat_reading import read_request
from ..dialects.chat_request import look
from ..dialects.chat_stream import ChatStream, ChatWhole
from ..dialects.chat_writing import write_request
from ..errors import Verdict
from ..events import Delta, End, Event, Failed
from ..interfaces import AnswerContext, IEventReader, Prepared, Target
from ..settings import Capabilities

#: A server that knows nothing but what every server knows.
PLAIN = Capabilities(thinking_signature="groq")
USER = {"role": "user", "content": "hi"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
DONE = b"data: [DONE]\n\n"


def target(model: str = "m", **columns: Any) -> Target:
    return Target("groq", model, Capabilities(**{"thinking_signature": "groq", **columns}))


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def body(**members: Any) -> bytes:
    return encode({"model": "gpt-5", "messages": [USER], **members})


def read(**members: Any) -> Conversation:
    raw = body(**members)
    return read_request(raw, look(raw))


def conversation(*turns: Turn, **members: Any) -> Conversation:
    """A conversation of another dialect."""
    members.setdefault("dialect", "anthropic")
    members.setdefault("model", "claude-opus-5-5")
    return Conversation(turns=turns or (Turn("user", (Text("hi"),)),), **members)


def prepared(asked: Conversation, **columns: Any) -> Prepared:
    return write_request(asked, target(**columns))


def written(asked: Conversation, **columns: Any) -> Any:
    return json.loads(prepared(asked, **columns).body)


def context(asked: Conversation | None = None, **members: Any) -> AnswerContext:
    asked = asked or conversation(dialect="openai-chat", model="gpt-5")
    return AnswerContext(asked, target(), "req_1", 1_770_000_000, **members)


# ------------------------------------------------------------------------------------------ answers


def choice(delta: Mapping[str, Any] | None = None, reason: str | None = None, index: int = 0, **more: Any) -> Any:
    return {"index": index, "delta": delta or {}, "finish_reason": reason, **more}


def chunk(*choices: Any, **more: Any) -> bytes:
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": choices}
    return b"data: %b\n\n" % encode({**whole, **more})


def said(delta: Mapping[str, Any], reason: str | None = None, **more: Any) -> bytes:
    return chunk(choice(delta, reason), **more)


def called(*fragments: Mapping[str, Any], reason: str | None = None) -> bytes:
    return said({"tool_calls": list(fragments)}, reason)


def fragment(index: int | None, arguments: Any = None, id: str | None = None, name: str | None = None) -> Any:
    """A fragment of a call with just what is given."""
    function: dict[str, Any] = {}
    if name is not None:
        function["name"] = name
    if arguments is not None:
        function["arguments"] = arguments
    found: dict[str, Any] = {"function": function}
    if index is not None:
        found["index"] = index
    if id is not None:
        found["id"] = id
    return found


def whole(message: Mapping[str, Any], reason: str | None = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": None, **message}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1", "usage": USAGE}
    return encode({**answer, "choices": [{"index": 0, "message": message, "finish_reason": reason}], **more})


def stream(
    *pieces: bytes, names: Mapping[str, Tool] | None = None, stops: Sequence[str] = (), **columns: Any
) -> list[Event]:
    """The events of a stream, the same however it is cut."""
    return cut_anyhow(lambda: ChatStream(target(**columns), names, tuple(stops)), b"".join(pieces))


def answer(raw: bytes, names: Mapping[str, Tool] | None = None, **columns: Any) -> list[Event]:
    """The events of an answer that is one JSON text."""
    return cut_anyhow(lambda: ChatWhole(target(**columns), names), raw)


def cut_anyhow(make: Callable[[], IEventReader], raw: bytes) -> list[Event]:
    """Read whole, byte by byte and at random cuts; all must give the same events."""
    chance = random.Random(len(raw))
    cuts = [[], list(range(1, len(raw)))]
    cuts += [
        sorted(chance.sample(range(1, len(raw)), min(len(raw) - 1, count))) for count in (1, 3, 20) if len(raw) > 1
    ]
    found: list[list[Event]] = []
    for places in cuts:
        reader = make()
        events: list[Event] = []
        for start, end in zip([0, *places], [*places, len(raw)], strict=True):
            if end > start:
                events += reader.feed(raw[start:end])
        events += reader.finish()
        found.append(events)
    for other in found[1:]:
        assert other == found[0], (other, found[0])
    return found[0]


def texts(events: Sequence[Event]) -> dict[int, str]:
    """The joined deltas of each part."""
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, Delta):
            found[event.key] = found.get(event.key, "") + event.text
    return found


def failure(events: Sequence[Event]) -> Verdict:
    """What an answer failed for, which nothing else may have ended."""
    last = events[-1]
    assert isinstance(last, Failed), events
    assert not any(isinstance(event, (End, Failed)) for event in events[:-1]), events
    return last.verdict
