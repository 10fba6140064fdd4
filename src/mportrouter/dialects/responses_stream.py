"""
Reads answers of the OpenAI Responses dialect into neutral events.

Items are known by ``output_index`` alone: their ids may change from event to event. What an item's end says counts:
it fills in what no delta brought, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zope.interface import implementer

from .. import sse
from ..errors import Kind, Verdict
from ..events import End, Event, Failed, Start, Tally
from ..interfaces import AnswerContext, IEventReader
from . import responses_wire as wire
from .responses_delivery import CALLS, Delivery, Item
from .responses_errors import garbage, verdict_in
from .responses_items import NAME
from .responses_wire import WireEvent

#: Bytes without an event that may still be a JSON text.
_RAW_LIMIT = 32 * 1024 * 1024
#: Events that must be readable, since an answer without them is another one.
_WEIGHTY = (b"response.completed", b"response.incomplete", b"response.failed", b"_arguments.", b"_input.")


@implementer(IEventReader)
class ResponsesReader(Delivery):
    """
    :param stream: the answer is an event stream.
    :param whole_items: items pass as they are, each when it is whole: for a client of the same dialect.
    :param quiet: only what a gate and a ledger want to know is told.
    :ivar id: the answer's own, ``""`` until it is known; so is ``model``.
    """

    def __init__(self, stream: bool, context: AnswerContext, *, whole_items: bool = False, quiet: bool = False) -> None:
        super().__init__(context, whole_items, quiet)
        self._framer = sse.Framer() if stream else None
        self.id = self.model = ""
        self._lenient = context.target.capabilities.lenient_done
        self._body: list[bytes] = []
        self._size = 0
        self._framed = self._started = self._over = False
        self._clean = False  # what comes next begins an event
        self._steps: dict[str, Callable[[WireEvent, list[Event]], None]] = {
            "response.output_text.delta": self._text_delta,
            "response.output_text.done": self._text_done,
            "response.output_text.annotation.added": self._annotation,
            "response.refusal.delta": self._refusal_delta,
            "response.refusal.done": self._refusal_done,
            "response.reasoning_summary_text.delta": self._summary_delta,
            "response.reasoning_text.delta": self._reasoning_delta,
            "response.function_call_arguments.delta": self._call_delta,
            "response.function_call_arguments.done": self._call_done,
            "response.custom_tool_call_input.delta": self._call_delta,
            "response.custom_tool_call_input.done": self._call_done,
            "response.output_item.added": self._added,
            "response.output_item.done": self._item_done,
        }

    # ------------------------------------------------------------------------------------------- bytes in

    def feed(self, data: bytes) -> list[Event]:
        """See :meth:`mportrouter.interfaces.IEventReader.feed`."""
        out: list[Event] = []
        if self._over:
            return out
        framer = self._framer
        if not self._framed:
            self._body.append(data)
            self._size += len(data)
            if self._size > _RAW_LIMIT:
                self._fail(garbage(f"more than {_RAW_LIMIT} bytes without an event"), out)
                return out
        if framer is None:
            return out
        if self._clean and data.endswith(b"\n\n") and b"\r" not in data:
            # Whole events, as nearly always: no need to look for their ends.
            for block in data[:-2].split(b"\n\n"):
                if not self._over:
                    self._block(block, out)
            return out
        try:
            framer.feed(data)
            while not self._over and (event := framer.next()) is not None:
                self._take(event, out)
        except sse.EventTooLarge as error:
            self._fail(garbage(str(error)), out)
        self._clean = self._framed and not framer.rest() and data.endswith(b"\n\n")
        return out

    def _block(self, block: bytes, out: list[Event]) -> None:
        """The lines of one event, or of none."""
        if block.startswith(b"event: "):
            middle = block.find(b"\n")
            name, data = block[7:middle], block[middle + 1 :]
        else:
            name, data = b"", block
        if data.startswith(b"data: ") and b"\n" not in data:
            self._take(sse.Event(name, data[6:]), out)
            return
        framer = self._framer
        assert framer is not None
        framer.feed(block + b"\n\n")
        while not self._over and (event := framer.next()) is not None:
            self._take(event, out)

    def finish(self) -> list[Event]:
        """See :meth:`mportrouter.interfaces.IEventReader.finish`."""
        out: list[Event] = []
        if self._framer is not None and not self._over:
            event = self._framer.finish()
            if event is not None:
                self._take(event, out)
        if self._over:
            return out
        body, self._body = b"".join(self._body), []
        if not self._framed and (self._framer is None or body.lstrip()[:1] in (b"{", b"[")):
            self._whole(body, out)
        elif self._lenient and self._items:
            self._completed({}, False, out)
        else:
            self._fail(Verdict(Kind.CUT, "the stream ended before response.completed", retry_same=True), out)
        return out

    def _whole(self, body: bytes, out: list[Event]) -> None:
        """An answer that is one JSON text."""
        if not body.strip():
            self._fail(garbage("the answer is empty"), out)
            return
        found = wire.value(body)
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            self._fail(garbage("the answer is not a JSON object"), out)
            return
        trouble = wire.trouble_in(found)
        if trouble is not None:
            self._fail(trouble, out)
        elif not isinstance(found.get("output"), list) and not isinstance(found.get("status"), str):
            self._fail(garbage("the answer is no response"), out)
        elif found.get("status") in ("queued", "in_progress") and not self._quiet:
            self._fail(garbage("the answer is not there yet: it is made in the background"), out)
        else:
            self._completed(found, False, out)

    def _take(self, event: sse.Event, out: list[Event]) -> None:
        if not self._framed:
            self._framed = True
            self._body = []
        data = event.data
        seen = wire.event(data)
        if seen is None:
            if data.strip() != b"[DONE]" and any(name in event.name or name in data for name in _WEIGHTY):
                self._fail(garbage("an event of the stream is not JSON"), out)
            return
        kind = seen.type or event.name.decode("utf-8", "replace")
        step = self._steps.get(kind)
        if step is not None:
            if not self._started:
                self._start({}, out)
            step(seen, out)
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            if not self._started:
                self._start(wire.value(seen.response), out)
        elif kind in ("response.completed", "response.incomplete", "response.done"):
            found = wire.value(seen.response)
            if not isinstance(found, dict):
                found = {}
            trouble = wire.trouble_in(found)
            if trouble is not None:
                self._fail(trouble, out)
            else:
                self._completed(found, kind == "response.incomplete", out)
        elif kind in ("response.failed", "response.cancelled"):
            found = wire.value(seen.response)
            self._fail(verdict_in(found.get("error") if isinstance(found, dict) else None), out)
        elif kind == "error" or (not kind and b'"error"' in data):
            self._fail(verdict_in(wire.value(data)), out)

    # ------------------------------------------------------------------------------------------- texts

    def _text_delta(self, event: WireEvent, out: list[Event]) -> None:
        if event.delta:
            self._say(self._piece(event, "message", "text"), event.delta, out)

    def _text_done(self, event: WireEvent, out: list[Event]) -> None:
        if event.text:
            self._rest(self._piece(event, "message", "text"), event.text, out)

    def _refusal_delta(self, event: WireEvent, out: list[Event]) -> None:
        if event.delta:
            self._say(self._piece(event, "message", "refusal"), event.delta, out)

    def _refusal_done(self, event: WireEvent, out: list[Event]) -> None:
        if event.refusal:
            self._rest(self._piece(event, "message", "refusal"), event.refusal, out)

    def _annotation(self, event: WireEvent, out: list[Event]) -> None:
        piece = self._piece(event, "message", "text")
        annotation = wire.value(event.annotation)
        if isinstance(annotation, dict):
            if piece.open and not piece.closed:
                self._cite(piece, annotation, out)
            else:
                piece.cited += 1

    def _summary_delta(self, event: WireEvent, out: list[Event]) -> None:
        item = self._item(event.output_index, "reasoning")
        if not event.delta or item.source == "text" or item.done:
            return
        item.source = "summary"
        piece = self._part(item, "reasoning", 0)
        index = event.summary_index or 0
        if index > item.summary:
            item.summary = index
            if piece.size:
                self._say(piece, "\n\n", out)
        self._say(piece, event.delta, out)

    def _reasoning_delta(self, event: WireEvent, out: list[Event]) -> None:
        item = self._item(event.output_index, "reasoning")
        if event.delta and item.source != "summary" and not item.done:
            item.source = "text"
            self._say(self._part(item, "reasoning", 0), event.delta, out)

    # ------------------------------------------------------------------------------------------- calls

    def _call_delta(self, event: WireEvent, out: list[Event]) -> None:
        if event.delta:
            item = self._item(event.output_index, _call_kind(event))
            if not item.done:
                self._say(self._part(item, "tool", 0), event.delta, out, item)

    def _call_done(self, event: WireEvent, out: list[Event]) -> None:
        item = self._item(event.output_index, _call_kind(event))
        text = event.arguments if event.arguments is not None else event.input
        if text and not item.done:
            self._rest(self._part(item, "tool", 0), text, out, item)

    # ------------------------------------------------------------------------------------------- items

    def _added(self, event: WireEvent, out: list[Event]) -> None:
        found = wire.value(event.item)
        if not isinstance(found, dict):
            return
        kind = found.get("type")
        index = event.output_index
        if index is None:
            index = max(self._items, default=-1) + 1
        item = self._item(index, kind if isinstance(kind, str) else "")
        self._last = index
        if isinstance(id := found.get("id"), str):
            item.id = id
        if item.kind in CALLS:
            self._begin_call(item, found, out)

    def _item_done(self, event: WireEvent, out: list[Event]) -> None:
        found = wire.value(event.item)
        if not isinstance(found, dict):
            return
        kind = found.get("type")
        self._deliver(self._item(event.output_index, kind if isinstance(kind, str) else ""), found, out)

    # ------------------------------------------------------------------------------------------- the end

    def _completed(self, found: dict[str, Any], incomplete: bool, out: list[Event]) -> None:
        if not self._started:
            self._start(found, out)
        output = found.get("output")
        listed = [each for each in output if isinstance(each, dict)] if isinstance(output, list) else []
        if not self._quiet:
            for item, each in self._matched(listed):
                self._deliver(item, each, out)
            for item in self._items.values():
                if not item.done:
                    self._leave(item, out)
        usage = wire.usage_of(found.get("usage"))
        if usage is not None:
            usage.web_searches = self._searches or sum(each.get("type") == "web_search_call" for each in listed)
            out.append(Tally(usage))
        # Items that pass whole say themselves that the model refused.
        out.append(wire.finish_of(found, incomplete, None if self._whole_items else self._refusal))
        out.append(End())
        self._over = True

    def _matched(self, listed: list[dict[str, Any]]) -> list[tuple[Item, dict[str, Any]]]:
        """The final items, each with what is known of it from the stream, in order."""
        known = [self._items[index] for index in sorted(self._items)]
        found: list[tuple[Item, dict[str, Any]]] = []
        at = 0
        for each in listed:
            for place in range(at, len(known)):
                if _same(known[place], each):
                    found.append((known[place], each))
                    at = place + 1
                    break
            else:
                index = max(self._items, default=-1) + 1
                kind = each.get("type")
                found.append((self._item(index, kind if isinstance(kind, str) else ""), each))
        return found

    def _start(self, found: Any, out: list[Event]) -> None:
        self._started = True
        id, model = (found.get("id"), found.get("model")) if isinstance(found, dict) else (None, None)
        self.id = id if isinstance(id, str) else ""
        self.model = model if isinstance(model, str) else ""
        out.append(Start(self.id, self.model))

    def _fail(self, verdict: Verdict, out: list[Event]) -> None:
        if not self._started:
            self._start({}, out)
        self._over = True
        out.append(Failed(verdict))


def _call_kind(event: WireEvent) -> str:
    return "custom_tool_call" if event.type.startswith("response.custom") else "function_call"


def _same(item: Item, found: Mapping[str, Any]) -> bool:
    """Whether a final item is this one of the stream: of one type, and of one call where both name it."""
    if item.kind and item.kind != found.get("type"):
        return False
    call = found.get("call_id")
    return item.head is None or not item.head.id or not isinstance(call, str) or item.head.id == call


def event_reader(stream: bool, context: AnswerContext) -> ResponsesReader:
    """See :meth:`mportrouter.interfaces.IDialect.event_reader`."""
    return ResponsesReader(stream, context, whole_items=context.conversation.dialect == NAME)


def interesting(data: bytes) -> bool:
    """Whether an event's data can tell of usage, of the end, or of an error."""
    if data.startswith(b'{"type":"response.output_text.delta"'):
        return False
    return (
        b"response.completed" in data
        or b"response.incomplete" in data
        or b"response.failed" in data
        or b'"error"' in data
        or b"response.done" in data
    )
