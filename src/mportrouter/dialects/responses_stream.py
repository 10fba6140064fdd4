"""
Reads answers of the OpenAI Responses dialect into neutral events.

Items are known by ``output_index`` alone: their ids may change from event to event. What an item's end says counts:
it fills in what no delta brought, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from zope.interface import implementer

from .. import envelope, splice, sse
from ..conversation import Conversation, Foreign, Opaque
from ..errors import Kind, Verdict
from ..events import Cite, Close, Delta, End, Event, Failed, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventReader, Target
from ..tool_names import restored
from . import responses_items as items
from . import responses_wire as wire
from .responses_errors import garbage, verdict_in
from .responses_input import NATIVE
from .responses_wire import WireEvent

NAME = "openai-responses"

#: Bytes without an event that may still be a JSON text.
_RAW_LIMIT = 32 * 1024 * 1024
#: Names under which models leak a wrapper of several calls that was meant for their server.
_WRAPPERS = frozenset({"parallel", "multi_tool_use.parallel"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
#: Events that must be readable, since an answer without them is another one.
_WEIGHTY = (b"response.completed", b"response.incomplete", b"response.failed", b"_arguments.", b"_input.")


class _Piece:
    """One text of an item: a part of a message, reasoning, or a call's arguments."""

    __slots__ = ("cited", "closed", "key", "kind", "open", "sent", "size")

    def __init__(self, key: int, kind: str) -> None:
        self.key = key
        self.kind = kind
        self.open = self.closed = False
        self.sent: list[str] = []
        self.size = 0
        self.cited = 0


class _Item:
    """
    One item of the output.

    :ivar head: what Open of a call says.
    :ivar held: nothing is given out before the item is whole.
    """

    __slots__ = ("done", "head", "held", "id", "kind", "pieces", "source", "summary")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.id = ""
        self.head: Open | None = None
        self.held = False
        self.done = False
        self.pieces: dict[tuple[str, int], _Piece] = {}
        #: Where reasoning comes from, ``summary`` or ``text``, and which part of the summary.
        self.source = ""
        self.summary = 0


@implementer(IEventReader)
class ResponsesReader:
    """
    :param stream: the answer is an event stream.
    :param whole_items: items pass as they are, each when it is whole: for a client of the same dialect.
    :param quiet: only what a gate and a ledger want to know is told.
    """

    def __init__(
        self, stream: bool, context: AnswerContext, *, whole_items: bool = False, quiet: bool = False
    ) -> None:
        self._framer = sse.Framer() if stream else None
        self._signer = context.target.capabilities.thinking_signature
        self._model = context.target.model
        self._lenient = context.target.capabilities.lenient_done
        self._names = context.names
        self._wrappers = _WRAPPERS - {tool.name for tool in context.conversation.tools}
        self._whole_items = whole_items
        self._quiet = quiet
        self._body: list[bytes] = []
        self._size = 0
        self._framed = self._started = self._over = False
        self._keys = count()
        self._items: dict[int, _Item] = {}
        self._last = -1  # index of the item that was added last
        self._searches = 0
        self._refusal: str | None = None
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
        try:
            framer.feed(data)
            while not self._over and (event := framer.next()) is not None:
                self._take(event, out)
        except sse.EventTooLarge as error:
            self._fail(garbage(str(error)), out)
        return out

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
            piece.cited += 1
            if piece.open and not piece.closed:
                out.append(Cite(piece.key, items.citation(annotation)))

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

    def _begin_call(self, item: _Item, found: Mapping[str, Any], out: list[Event]) -> None:
        """A call whose name is known."""
        name = found.get("name")
        if item.head is not None or not isinstance(name, str) or not name:
            return
        id, namespace = found.get("call_id"), found.get("namespace")
        tool = restored(self._names, name)
        item.held = name in self._wrappers
        piece = self._part(item, "tool", 0)
        item.head = Open(
            piece.key,
            "tool",
            id if isinstance(id, str) else "",
            name if tool is None else tool.name,
            item.kind == "custom_tool_call",
            (namespace if isinstance(namespace, str) else "") if tool is None else tool.namespace,
        )
        if self._holds(item):
            return
        piece.open = True
        out.append(item.head)
        if piece.sent:
            out.append(Delta(piece.key, "".join(piece.sent)))

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
        if item.kind in _CALLS:
            self._begin_call(item, found, out)

    def _item_done(self, event: WireEvent, out: list[Event]) -> None:
        found = wire.value(event.item)
        if not isinstance(found, dict):
            return
        kind = found.get("type")
        self._deliver(self._item(event.output_index, kind if isinstance(kind, str) else ""), found, out)

    def _deliver(self, item: _Item, found: Mapping[str, Any], out: list[Event]) -> None:
        """An item is whole: whatever of it was not given out yet."""
        if item.done:
            return
        item.done = True
        kind = found.get("type") or item.kind
        item.kind = kind if isinstance(kind, str) else ""
        if isinstance(id := found.get("id"), str):
            item.id = id
        if kind == "web_search_call":
            self._searches += 1
        if self._whole_items:
            out.append(Other(next(self._keys), Foreign(NAME, item.kind, self._sealed(item.kind, found))))
        elif self._quiet:
            out.append(Other(next(self._keys), Foreign(NAME, item.kind, {})))
        elif kind == "message":
            self._message(item, found, out)
        elif kind == "reasoning":
            self._reasoning(item, found, out)
        elif kind in _CALLS:
            self._call(item, found, out)
        elif kind == "web_search_call":
            out.append(Searched(next(self._keys), items.search(found)))
        else:
            out.append(Other(next(self._keys), items.foreign(item.kind, found)))

    def _message(self, item: _Item, found: Mapping[str, Any], out: list[Event]) -> None:
        content = found.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict):
                continue
            kind = "refusal" if part.get("type") == "refusal" else "text"
            text = part.get(kind)
            if not isinstance(text, str):
                continue
            piece = self._part(item, kind, index)
            self._rest(piece, text, out)
            if kind == "text" and piece.open:
                annotations = part.get("annotations")
                for annotation in (annotations if isinstance(annotations, list) else [])[piece.cited :]:
                    if isinstance(annotation, dict):
                        piece.cited += 1
                        out.append(Cite(piece.key, items.citation(annotation)))
        self._close(item, out)

    def _reasoning(self, item: _Item, found: Mapping[str, Any], out: list[Event]) -> None:
        part = items.reasoning(found, self._signer, self._model)
        opaque = part.opaque
        value = found.get("encrypted_content")
        if isinstance(value, str) and envelope.is_envelope(value):
            # What the upstream itself has wrapped is its own business.
            opaque = Opaque(self._signer, self._model, "encrypted", value, item.id or None)
        piece = self._part(item, "reasoning", 0)
        if part.text:
            self._rest(piece, part.text, out)
        if opaque is not None:
            out.append(Sign(piece.key, opaque) if piece.open else Hidden(piece.key, opaque))
        self._close(item, out)

    def _call(self, item: _Item, found: Mapping[str, Any], out: list[Event]) -> None:
        self._begin_call(item, found, out)
        piece = self._part(item, "tool", 0)
        text = found.get(_CALLS[item.kind])
        if isinstance(text, dict):
            text = splice.dumps(text).decode()
        if isinstance(text, str):
            self._rest(piece, text, out, item)
        if item.held and item.head is not None and not self._expand(item.head, "".join(piece.sent), out):
            self._release(item, piece, out)
        self._close(item, out)

    def _release(self, item: _Item, piece: _Piece, out: list[Event]) -> None:
        if item.head is not None and not piece.open:
            piece.open = True
            out.append(item.head)
            if piece.sent:
                out.append(Delta(piece.key, "".join(piece.sent)))

    def _expand(self, head: Open, text: str, out: list[Event]) -> bool:
        """The calls inside a wrapper; ``False`` where it holds none."""
        found = wire.value(text.encode("utf-8", "surrogatepass"))
        uses = found.get("tool_uses") if isinstance(found, dict) else None
        if not isinstance(uses, list) or not all(
            isinstance(use, dict) and isinstance(use.get("recipient_name"), str) for use in uses
        ):
            return False
        for number, use in enumerate(uses):
            wire_name = use["recipient_name"].removeprefix("functions.")
            tool = restored(self._names, wire_name)
            key = next(self._keys)
            id = f"{head.id}_{number}" if head.id and number else head.id
            name, namespace = (wire_name, "") if tool is None else (tool.name, tool.namespace)
            arguments = use.get("parameters")
            if not isinstance(arguments, str):
                arguments = splice.dumps(arguments or {}).decode()
            out += [Open(key, "tool", id, name, namespace=namespace), Delta(key, arguments), Close(key)]
        return True

    def _sealed(self, kind: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """A reasoning item for a client of this dialect: content that is not of the usual origin names its own."""
        value = found.get("encrypted_content")
        if kind != "reasoning" or not isinstance(value, str) or not value or self._signer == NATIVE:
            return found
        id = found.get("id")
        opaque = Opaque(self._signer, self._model, "encrypted", value, id if isinstance(id, str) else None)
        return {**found, "encrypted_content": envelope.seal(opaque)}

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

    def _matched(self, listed: list[dict[str, Any]]) -> list[tuple[_Item, dict[str, Any]]]:
        """The final items, each with what is known of it from the stream, in order."""
        known = [self._items[index] for index in sorted(self._items)]
        found: list[tuple[_Item, dict[str, Any]]] = []
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

    def _leave(self, item: _Item, out: list[Event]) -> None:
        """An item that nobody finished: what came of it stands."""
        item.done = True
        for piece in item.pieces.values():
            if piece.sent and not piece.open:
                piece.open = True
                # A call that never got a name is one that cannot be carried out: the sequencer says so.
                out.append((item.head if piece.kind == "tool" else None) or Open(piece.key, piece.kind))
                out.append(Delta(piece.key, "".join(piece.sent)))
        self._close(item, out)

    def _start(self, found: Any, out: list[Event]) -> None:
        self._started = True
        id, model = (found.get("id"), found.get("model")) if isinstance(found, dict) else (None, None)
        out.append(Start(id if isinstance(id, str) else "", model if isinstance(model, str) else ""))

    def _fail(self, verdict: Verdict, out: list[Event]) -> None:
        if not self._started:
            self._start({}, out)
        self._over = True
        out.append(Failed(verdict))

    # ------------------------------------------------------------------------------------------- pieces

    def _item(self, index: int | None, kind: str) -> _Item:
        if index is None:
            index = self._last if self._last >= 0 else 0
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item(kind)
            self._last = index
        elif not item.kind:
            item.kind = kind
        return item

    def _piece(self, event: WireEvent, kind: str, name: str) -> _Piece:
        return self._part(self._item(event.output_index, kind), name, event.content_index or 0)

    def _part(self, item: _Item, kind: str, index: int) -> _Piece:
        piece = item.pieces.get((kind, index))
        if piece is None:
            piece = item.pieces[kind, index] = _Piece(next(self._keys), kind)
        return piece

    def _holds(self, item: _Item | None) -> bool:
        return self._whole_items or (item is not None and (item.held or item.head is None))

    def _say(self, piece: _Piece, text: str, out: list[Event], item: _Item | None = None) -> None:
        """More of a piece. A call's waits for its name."""
        if piece.closed:
            return
        piece.sent.append(text)
        piece.size += len(text)
        if piece.kind == "refusal":
            self._refusal = (self._refusal or "") + text
        if not piece.open:
            if self._holds(item):
                return
            piece.open = True
            out.append(Open(piece.key, piece.kind))
        out.append(Delta(piece.key, text))

    def _rest(self, piece: _Piece, whole: str, out: list[Event], item: _Item | None = None) -> None:
        """What of a whole text was not given out yet; nothing where another text was."""
        if len(whole) <= piece.size:
            return
        if not piece.size:
            self._say(piece, whole, out, item)
            return
        sent = "".join(piece.sent)
        if whole.startswith(sent):
            self._say(piece, whole[len(sent) :], out, item)

    def _close(self, item: _Item, out: list[Event]) -> None:
        for piece in item.pieces.values():
            if not piece.closed:
                piece.closed = True
                if piece.open:
                    out.append(Close(piece.key))


def _call_kind(event: WireEvent) -> str:
    return "custom_tool_call" if event.type.startswith("response.custom") else "function_call"


def _same(item: _Item, found: Mapping[str, Any]) -> bool:
    """Whether a final item is this one of the stream: of one type, and of one call where both name it."""
    if item.kind and item.kind != found.get("type"):
        return False
    call = found.get("call_id")
    return item.head is None or not item.head.id or not isinstance(call, str) or item.head.id == call


def event_reader(stream: bool, context: AnswerContext) -> ResponsesReader:
    """See :meth:`mportrouter.interfaces.IDialect.event_reader`."""
    return ResponsesReader(stream, context, whole_items=context.conversation.dialect == NAME)


def watcher(stream: bool, target: Target) -> ResponsesReader:
    """Reads an answer that passes untouched."""
    context = AnswerContext(Conversation("", "", ()), target, "", 0)
    return ResponsesReader(stream, context, quiet=True)


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
