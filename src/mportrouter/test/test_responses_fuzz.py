"""Damaged streams and requests of the OpenAI Responses dialect: nothing of them may end in a traceback."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .. import splice
from ..dialects.responses_answer import ResponsesWriter
from ..dialects.responses_door import reader
from ..dialects.responses_reading import read_request
from ..dialects.responses_request import look, prepare
from ..dialects.responses_stream import event_reader
from ..dialects.responses_turn import last_user_text, routing_text
from ..dialects.responses_writing import write_request
from ..errors import Kind, RouterError
from ..translator import Translator
from .response_events import CODEX, OPENAI, added, call, completed, context, created, cuts, done, ev, message, text
from .response_events import wire_events as events_of

_ODD: tuple[Any, ...] = (None, 1, "x", [], {}, [1], {"a": None}, True, -1, 10**30)
_REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "gA",
}
_STREAM = (
    created(),
    added(0, _REASONING),
    ev("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm"),
    done(0, _REASONING),
    text(1, "He"),
    done(1, message("Hello")),
    added(2, call("get", "")),
    added(3, call("parallel", "", "c2")),
    ev("response.function_call_arguments.delta", output_index=3, delta='{"a":'),
    done(2, call("get", '{"a":"1"}')),
    done(3, call("get", '{"a":"2"}', "c2")),
    ev("response.refusal.delta", output_index=7, content_index=0, delta="no"),
    done(8, {"type": "web_search_call", "id": "w", "action": {"query": "q"}}),
    done(9, {"type": "odd"}),
    completed([_REASONING, message("Hello"), call("get", "{}")]),
    ev("response.failed", response={}),
)
_REQUEST: dict[str, Any] = {
    "model": "m",
    "input": [
        message("x"),
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "u"}]},
        _REASONING,
        call("f", "{}"),
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "web_search_call", "action": {"query": "q"}},
        {"type": "additional_tools", "tools": [{"type": "function", "name": "z"}]},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {}},
        {"type": "custom", "name": "c", "format": {"type": "grammar"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "q"}]},
        {"type": "web_search", "filters": {"allowed_domains": ["a"]}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "schema": {}}},
    "include": ["x"],
    "stream": True,
}


def damaged(value: Any, random: Random) -> Any:
    """The value with some members gone or of an odd type."""
    if isinstance(value, dict):
        out = {}
        for name, inner in value.items():
            chance = random.random()
            if chance >= 0.03:
                out[name] = random.choice(_ODD) if chance < 0.09 else damaged(inner, random)
        return out
    return [damaged(each, random) for each in value] if isinstance(value, list) else value


def damaged_stream(random: Random) -> bytes:
    pieces = list(_STREAM) if random.random() < 0.5 else random.sample(_STREAM, random.randint(1, len(_STREAM)))
    values = [splice.loads(piece.partition(b"data: ")[2]) for piece in pieces]
    return b"".join(
        b"data: %b\n\n" % splice.dumps(damaged(each, random) if random.random() < 0.5 else each) for each in values
    )


class FuzzTests(SynchronousTestCase):
    """Each seed is a case of its own: a failure names it."""

    def test_streams(self) -> None:
        """A damaged stream is written as a whole answer or a failed one, numbered without a gap, to either client."""
        for seed in range(150):
            data = damaged_stream(Random(seed))
            for dialect in ("anthropic", "openai-responses"):
                for stream in (True, False):
                    inner = context(dialect, CODEX, include=["reasoning.encrypted_content"])
                    translator = Translator(event_reader(True, inner), ResponsesWriter(stream, inner))
                    out = b"".join(translator.feed(piece) for piece in cuts(data, seed))
                    rest, ending = translator.finish()
                    out += rest
                    if not stream or translator.state != "content":
                        continue
                    if not ending.complete and translator.error is None:
                        out += translator.broken(RouterError(Kind.CUT, "cut"))
                    found = events_of(out)
                    self.assertEqual([each["sequence_number"] for each in found], list(range(len(found))), seed)
                    lasts = ("response.completed", "response.incomplete", "response.failed")
                    self.assertEqual([each["type"] in lasts for each in found].index(True), len(found) - 1, seed)

    def test_passing(self) -> None:
        """A damaged stream passes to a client of the same dialect byte for byte."""
        for seed in range(150):
            data = damaged_stream(Random(seed))
            reading = reader(True, b"", OPENAI)
            out = b"".join(reading.feed(piece) for piece in cuts(data, seed))
            self.assertEqual(out + reading.finish()[0], data, seed)

    def test_requests(self) -> None:
        """A damaged request is carried as far as it can be read, or refused in words."""
        for seed in range(300):
            body = splice.dumps(damaged(_REQUEST, Random(seed)))
            last_user_text(body)
            routing_text(body)
            try:
                seen = look(body)
            except RouterError:
                continue
            for target in (OPENAI, CODEX):
                try:
                    prepare(body, seen, target)
                    write_request(read_request(body, seen), target)
                except RouterError as error:
                    self.assertIs(error.kind, Kind.BAD_REQUEST, seed)
