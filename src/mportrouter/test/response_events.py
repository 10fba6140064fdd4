"""Streams and answers of the OpenAI Responses dialect for tests, and the ways to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, get_args

from openai import NOT_GIVEN
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from .. import splice, sse
from ..conversation import Conversation, Tool, Turn
from ..events import Delta, Event, Open
from ..interfaces import AnswerContext, IEventReader, Target
from ..sequencer import Sequencer
from ..settings import Capabilities

OPENAI = Target("openai", "gpt-x", Capabilities(thinking_signature="openai", reasoning_kind="effort"))
CODEX = Target(
    "codex",
    "gpt-x",
    Capabilities(
        thinking_signature="codex",
        stream_only=True,
        stateless_only=True,
        system_role="developer",
        generate_path="/responses",
        strip_fields=("max_output_tokens", "metadata", "temperature", "prompt_cache_breakpoint"),
        cache_key=True,
    ),
)
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}


def context(
    dialect: str = "anthropic",
    target: Target = OPENAI,
    names: Mapping[str, Tool] | None = None,
    turns: tuple[Turn, ...] = (),
    offered: tuple[Tool, ...] = (),
    **members: Any,
) -> AnswerContext:
    conversation = Conversation(dialect, "asked-for", turns, tools=offered, members=members)
    return AnswerContext(conversation, target, "req_1", 1700000000, names or {})


def ev(kind: str, **members: Any) -> bytes:
    """One event of a stream."""
    return sse.event(kind, splice.dumps({"type": kind, **members}))


def created(**members: Any) -> bytes:
    return ev("response.created", response={"id": "resp_1", "model": "gpt-x", "output": [], **members})


def completed(output: Any = (), kind: str = "completed", **members: Any) -> bytes:
    response = {"id": "resp_1", "model": "gpt-x", "status": kind, "output": output, "usage": USAGE, **members}
    return ev(f"response.{kind}", response=response)


def added(index: int | None, item: Any) -> bytes:
    return ev("response.output_item.added", output_index=index, item=item)


def done(index: int | None, item: Any) -> bytes:
    return ev("response.output_item.done", output_index=index, item=item)


def text(index: int, words: str, part: int = 0) -> bytes:
    return ev("response.output_text.delta", output_index=index, content_index=part, item_id="x", delta=words)


def message(words: str, **members: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": words, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content, **members}


def call(name: str, arguments: str, call_id: str = "call_1", **members: Any) -> dict[str, Any]:
    return {"id": "fc_1", "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **members}


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cuts(data: bytes, seed: int) -> list[bytes]:
    """The bytes in pieces of random sizes."""
    random = Random(seed)
    pieces, at = [], 0
    while at < len(data):
        size = random.choice((1, 2, 3, 7, 50, 400))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def read(reader: IEventReader, pieces: Iterable[bytes]) -> list[Event]:
    found: list[Event] = []
    for piece in pieces:
        found += reader.feed(piece)
    return found + reader.finish()


def joined(events: list[Event]) -> list[Event]:
    """Events with neighbouring deltas of one part in one."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, Delta) and isinstance(last, Delta) and last.key == event.key:
            out[-1] = Delta(event.key, last.text + event.text)
        else:
            out.append(event)
    return out


def in_all_cuts(make: Callable[[], IEventReader], data: bytes) -> list[Event]:
    """What a stream gives, however it is cut; fails where the cuts tell."""
    whole = read(make(), [data])
    assert read(make(), bytewise(data)) == whole
    for seed in range(5):
        assert read(make(), cuts(data, seed)) == whole
    events = [event + b"\n\n" for event in data.split(b"\n\n") if event]
    for pieces in (events, [b"".join(events[:1]), b"".join(events[1:])]):
        assert read(make(), pieces) == read(make(), [b"".join(events)])
    assert read(make(), [data.replace(b"\n", b"\r\n")]) == whole
    return whole


def opened(events: list[Event], kind: str) -> list[Open]:
    return [event for event in events if isinstance(event, Open) and event.kind == kind]


def said(events: list[Event], key: int) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.key == key)


# ------------------------------------------------------------------------------------------ what a writer writes

#: The official types by the events' names.
_TYPES: dict[str, Any] = {
    kind.model_fields["type"].annotation.__args__[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}


def wire_events(data: bytes) -> list[dict[str, Any]]:
    framer = sse.Framer()
    framer.feed(data)
    found = []
    while (event := framer.next()) is not None:
        value = splice.loads(event.data)
        assert value["type"].encode() == event.name
        found.append(value)
    return found


def checked(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream that was written: numbered without a gap, of the official types, and accumulated."""
    events = wire_events(data)
    assert [event["sequence_number"] for event in events] == list(range(len(events))), events
    state: Any = ResponseStreamState(input_tools=[], text_format=NOT_GIVEN)
    indexes = set()
    for event in events:
        official = event
        if event["type"] == "response.failed":
            # The types know fewer codes than the clients do.
            response = event["response"]
            official = {**event, "response": {**response, "error": {**response["error"], "code": "server_error"}}}
        state.handle_event(_TYPES[event["type"]].model_validate(official))
        if event["type"] == "response.output_item.added":
            assert event["output_index"] not in indexes
            indexes.add(event["output_index"])
    last = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete", "response.failed"), last
    Response.model_validate(official["response"])
    finished = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    if last["type"] != "response.failed":
        assert sorted(map(str, last["response"]["output"])) == sorted(map(str, finished)), (last, finished)
    return events


def written(writer: Any, events: Iterable[Event]) -> bytes:
    """What a writer makes of events, which are put in order first."""
    sequencer = Sequencer(writer.interleaves)
    return b"".join(writer.write(ordered) for event in events for ordered in sequencer.take(event))
