"""Answers of the Anthropic dialect, whole and in pieces, for the tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .. import sse
from ..dialects.anthropic_stream import reader
from ..interfaces import Target
from ..records import Usage
from ..settings import Capabilities

ANTHROPIC = Target("anthropic", "claude-opus-5-5", Capabilities())
MINIMAX = Target("minimax", "MiniMax-M3", Capabilities(thinking_signature="minimax"))


def event(name: str, **members: Any) -> bytes:
    return sse.event(name, json.dumps({"type": name, **members}, separators=(",", ":")).encode())


START_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 1,
}
START = event("message_start", message={"id": "m", "model": "claude-x", "content": [], "usage": START_USAGE})
PING = event("ping")
TEXT_OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
THINKING_OPEN = event(
    "content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}
)
STOP = event("content_block_stop", index=0)


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def signature(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": text})


END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77}) + event("message_stop")
HEAD = START + PING + TEXT_OPEN
WHOLE = HEAD + delta("hello") + delta(" world") + STOP + END
USAGE = Usage(input=12, cache_read=3, cache_write_5m=2, cache_write_1h=3, output=77)
ERROR = event("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="r")


class Outcome:
    """What came of feeding pieces to a reader."""

    def __init__(self, reading: Any, pieces: Iterable[bytes]) -> None:
        self.states = [reading.state]
        out = []
        for piece in pieces:
            out.append(reading.feed(piece))
            if reading.state != self.states[-1]:
                self.states.append(reading.state)
        rest, self.ending = reading.finish()
        if reading.state != self.states[-1]:
            self.states.append(reading.state)
        self.body = b"".join(out) + rest
        self.state, self.verdict = reading.state, reading.verdict


def read(
    *pieces: bytes, stream: bool = True, encoding: bytes = b"", target: Target = ANTHROPIC
) -> Outcome:
    return Outcome(reader(stream, encoding, target), pieces)


def bytewise(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "thinking", "thinking": "hm", "signature": "sig/+="}, {"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {**START_USAGE, "output_tokens": 77},
}


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
