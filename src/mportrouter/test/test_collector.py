"""Tests for :mod:`mportrouter.collector`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..collector import Collector, events_of
from ..conversation import (
    Answer,
    Citation,
    Foreign,
    Image,
    Media,
    Opaque,
    Reasoning,
    Refusal,
    SearchHit,
    Text,
    ToolCall,
    WebSearch,
)
from ..events import Close, Delta, End, Event, Finish, Open, Start, Tally
from ..records import Usage
from ..sequencer import Sequencer

STATE = Opaque("minimax", "m", "signature", "abc")
THOUGHT = Opaque("gemini", "m", "thought", "xyz")
ANSWER = Answer(
    "msg_1",
    "model",
    (
        Reasoning("why", STATE),
        Reasoning("", STATE),
        Reasoning("unsigned"),
        Text("hello", (Citation("https://example.test/", "T", "hello", 0, 5),), None, THOUGHT),
        ToolCall("call_1", "f", '{"a":1}', opaque=THOUGHT),
        ToolCall("call_2", "g", "free text", custom=True, namespace="n"),
        ToolCall("call_3", "h", ""),
        WebSearch("ws_1", "q", (SearchHit("https://example.test/"),)),
        Foreign("gemini", "inlineData", {"mimeType": "image/png"}),
        Refusal("no"),
    ),
    "tool_use",
    Usage(input=3, output=4),
    "###",
    "because",
    "bio",
)


def collected(events: list[Event]) -> Answer:
    collector = Collector()
    for event in events:
        collector.take(event)
    return collector.answer()


class CollectorTests(SynchronousTestCase):
    """Events to an answer and back."""

    def test_round_trip(self) -> None:
        """The events of an answer are collected into the same answer."""
        self.assertEqual(collected(events_of(ANSWER)), ANSWER)

    def test_ordered(self) -> None:
        """They are in order already: a sequencer changes nothing but what it derives."""
        for interleave in (False, True):
            sequencer = Sequencer(interleave)
            ordered = [out for event in events_of(ANSWER) for out in sequencer.take(event)]
            answer = collected(ordered)
            self.assertEqual(answer.parts, ANSWER.parts)
            self.assertEqual((answer.stop, answer.usage), ("tool_use", ANSWER.usage))

    def test_interleaved(self) -> None:
        """Deltas of several parts come in turn; the parts stand in the order of their beginnings."""
        answer = collected(
            [
                Start("i", "m"), Open(4, "tool", "a", "f"), Open(2, "tool", "b", "g"), Delta(2, "["), Delta(4, "{"),
                Delta(2, "]"), Close(2), Delta(4, "}"), Close(4), Finish("tool_use"), End(),
            ]
        )  # fmt: skip
        self.assertEqual(answer.parts, (ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]")))
        self.assertEqual((answer.id, answer.model), ("i", "m"))

    def test_last_usage(self) -> None:
        """The last usage counts, wherever it stands."""
        answer = collected([Start(), Tally(Usage(input=1)), Finish("end"), Tally(Usage(input=2, output=3)), End()])
        self.assertEqual(answer.usage, Usage(input=2, output=3))

    def test_empty(self) -> None:
        """Empty parts have no events, usage of zeros is none, and pictures are no part of an answer."""
        parts = (Text(""), Reasoning(""), Refusal(""), Image(Media("url", "https://example.test/x.png")))
        answer = Answer("", "", parts, "end", Usage())
        self.assertEqual(events_of(answer), [Start(), Finish("end"), End()])
        self.assertEqual(collected(events_of(answer)), Answer("", "", (), "end", Usage()))

    def test_usage_is_copied(self) -> None:
        """What is done with the usage of the events leaves the answer's alone."""
        tally = next(event for event in events_of(ANSWER) if isinstance(event, Tally))
        tally.usage.output = 99
        self.assertEqual(ANSWER.usage.output, 4)
