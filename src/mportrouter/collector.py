"""A whole answer out of events, and events out of a whole answer."""

from __future__ import annotations

import msgspec

from .conversation import Answer, Citation, Foreign, Opaque, Part, Reasoning, Refusal, Text, ToolCall, WebSearch
from .events import (
    Cite,
    Close,
    Delta,
    End,
    Event,
    Finish,
    Hidden,
    Open,
    Other,
    Searched,
    Sign,
    Start,
    Tally,
)
from .records import Usage


class _Growing:
    """A part under way."""

    __slots__ = ("citations", "opaque", "open", "pieces")

    def __init__(self, open: Open) -> None:
        self.open = open
        self.pieces: list[str] = []
        self.citations: list[Citation] = []
        self.opaque: Opaque | None = open.opaque

    def part(self) -> Part:
        open, text = self.open, "".join(self.pieces)
        if open.kind == "tool":
            return ToolCall(open.id, open.name, text, open.custom, open.namespace, self.opaque)
        if open.kind == "reasoning":
            return Reasoning(text, self.opaque)
        if open.kind == "refusal":
            return Refusal(text)
        return Text(text, tuple(self.citations), None, self.opaque)


class Collector:
    """
    Collects the events of one answer, for a writer that shows it whole.

    The parts stand in the order in which they were opened; deltas of several open ones may come in turn. The last
    ``Tally`` counts.
    """

    __slots__ = ("_finish", "_growing", "_parts", "_start", "_usage")

    def __init__(self) -> None:
        self._start = Start()
        self._parts: list[_Growing | Part] = []
        self._growing: dict[int, _Growing] = {}
        self._usage = Usage()
        self._finish = Finish("end")

    def take(self, event: Event) -> None:
        """Take an ordered event; ``Failed`` and ``End`` change nothing."""
        if isinstance(event, Delta):
            self._growing[event.key].pieces.append(event.text)
        elif isinstance(event, Open):
            growing = self._growing[event.key] = _Growing(event)
            self._parts.append(growing)
        elif isinstance(event, Sign):
            self._growing[event.key].opaque = event.opaque
        elif isinstance(event, Cite):
            self._growing[event.key].citations.append(event.citation)
        elif isinstance(event, Hidden):
            self._parts.append(Reasoning("", event.opaque))
        elif isinstance(event, Searched):
            self._parts.append(event.search)
        elif isinstance(event, Other):
            self._parts.append(event.part)
        elif isinstance(event, Tally):
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, Start):
            self._start = event

    def answer(self) -> Answer:
        """What has come so far, as an answer."""
        start, finish = self._start, self._finish
        return Answer(
            start.id,
            start.model,
            tuple(part.part() if isinstance(part, _Growing) else part for part in self._parts),
            finish.stop,
            self._usage,
            finish.sequence,
            finish.explanation,
            finish.category,
        )


def events_of(answer: Answer) -> list[Event]:
    """
    The events of a whole answer, ``Start`` to ``End``. Parts that no answer has (pictures, tool results …) are left
    out; a usage of nothing but zeros is none.
    """
    events: list[Event] = [Start(answer.id, answer.model)]
    for key, part in enumerate(answer.parts):
        if isinstance(part, Reasoning) and not part.text:
            if part.opaque is not None:
                events.append(Hidden(key, part.opaque))
        elif isinstance(part, Text | Reasoning | Refusal):
            if part.text or not isinstance(part, Refusal):
                events += _written(key, part)
        elif isinstance(part, ToolCall):
            events.append(Open(key, "tool", part.id, part.name, part.custom, part.namespace, part.opaque))
            if part.arguments:
                events.append(Delta(key, part.arguments))
            events.append(Close(key))
        elif isinstance(part, WebSearch):
            events.append(Searched(key, part))
        elif isinstance(part, Foreign):
            events.append(Other(key, part))
    if answer.usage != Usage():
        events.append(Tally(msgspec.structs.replace(answer.usage)))
    events.append(Finish(answer.stop, answer.sequence, answer.explanation, answer.category))
    events.append(End())
    return events


def _written(key: int, part: Text | Reasoning | Refusal) -> list[Event]:
    events: list[Event] = [Open(key, {Text: "text", Reasoning: "reasoning", Refusal: "refusal"}[type(part)])]
    if part.text:
        events.append(Delta(key, part.text))
    if isinstance(part, Text):
        events += [Cite(key, citation) for citation in part.citations]
    if not isinstance(part, Refusal) and part.opaque is not None:
        events.append(Sign(key, part.opaque))
    if len(events) == 1:
        return []
    events.append(Close(key))
    return events
