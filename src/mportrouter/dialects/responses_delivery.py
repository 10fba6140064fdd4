"""
The items of an answer of the OpenAI Responses dialect as they grow, and what of them is given out as neutral events.

What comes is given out at once; what an item's end says beyond that is given out then, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from msgspec.structs import replace

from .. import envelope, splice
from ..conversation import Foreign, Opaque
from ..events import Cite, Close, Delta, Event, Hidden, Open, Other, Searched, Sign
from ..interfaces import AnswerContext
from ..tool_names import restored
from . import responses_items as items
from . import responses_wire as wire
from .responses_input import NATIVE
from .responses_items import NAME
from .responses_wire import WireEvent

#: Names under which models leak a wrapper of several calls that was meant for their server.
_WRAPPERS = frozenset({"parallel", "multi_tool_use.parallel"})
#: Calls, and where their arguments stand.
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
#: Dialects whose clients see the texts of an answer as one, and what stands between two messages there.
_JOINING = frozenset({"openai-chat", "gemini"})
_GAP = "\n\n"


class Piece:
    """
    One text of an item: a part of a message, reasoning, or a call's arguments.

    :ivar gap: characters that were put before it.
    """

    __slots__ = ("cited", "closed", "gap", "item", "key", "kind", "open", "sent", "size")

    def __init__(self, key: int, kind: str, item: Item) -> None:
        self.key = key
        self.kind = kind
        self.item = item
        self.gap = 0
        self.open = self.closed = False
        self.sent: list[str] = []
        self.size = 0
        self.cited = 0


class Item:
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
        self.pieces: dict[tuple[str, int], Piece] = {}
        #: Where reasoning comes from, ``summary`` or ``text``, and which part of the summary.
        self.source = ""
        self.summary = 0


class Delivery:
    """
    :param whole_items: items pass as they are, each when it is whole: for a client of the same dialect.
    :param quiet: only what a gate and a ledger want to know is told.
    """

    def __init__(self, context: AnswerContext, whole_items: bool, quiet: bool) -> None:
        self._signer = context.target.capabilities.thinking_signature
        self._model = context.target.model
        self._names = context.names
        self._wrappers = _WRAPPERS - {tool.name for tool in context.conversation.tools}
        self._whole_items = whole_items
        self._quiet = quiet
        self._keys = count()
        self._items: dict[int, Item] = {}
        self._last = -1  # index of the item that was added last
        self._searches = 0
        self._refusal: str | None = None
        self._joins = context.conversation.dialect in _JOINING
        self._spoke: Item | None = None  # the message whose text came last

    def _begin_call(self, item: Item, found: Mapping[str, Any], out: list[Event]) -> None:
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

    def _deliver(self, item: Item, found: Mapping[str, Any], out: list[Event]) -> None:
        """An item is whole: whatever of it was not given out yet."""
        if item.done:
            return
        item.done = True
        given = found.get("type")
        kind = item.kind = given if isinstance(given, str) else item.kind
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
        elif kind in CALLS:
            self._call(item, found, out)
        elif kind == "web_search_call":
            out.append(Searched(next(self._keys), items.search(found)))
        else:
            out.append(Other(next(self._keys), items.foreign(item.kind, found)))

    def _message(self, item: Item, found: Mapping[str, Any], out: list[Event]) -> None:
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
                        self._cite(piece, annotation, out)
        self._close(item, out)

    def _reasoning(self, item: Item, found: Mapping[str, Any], out: list[Event]) -> None:
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

    def _call(self, item: Item, found: Mapping[str, Any], out: list[Event]) -> None:
        self._begin_call(item, found, out)
        piece = self._part(item, "tool", 0)
        text = found.get(CALLS[item.kind])
        if isinstance(text, dict):
            text = splice.dumps(text).decode()
        if isinstance(text, str):
            self._rest(piece, text, out, item)
        if item.held and item.head is not None and not self._expand(item.head, "".join(piece.sent), out):
            self._release(item, piece, out)
        self._close(item, out)

    def _release(self, item: Item, piece: Piece, out: list[Event]) -> None:
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

    def _leave(self, item: Item, out: list[Event]) -> None:
        """An item that nobody finished: what came of it stands."""
        item.done = True
        for piece in item.pieces.values():
            if piece.sent and not piece.open:
                piece.open = True
                # A call that never got a name is one that cannot be carried out: the sequencer says so.
                out.append((item.head if piece.kind == "tool" else None) or Open(piece.key, piece.kind))
                out.append(Delta(piece.key, "".join(piece.sent)))
        self._close(item, out)

    # ------------------------------------------------------------------------------------------- pieces

    def _item(self, index: int | None, kind: str) -> Item:
        if index is None:
            index = self._last if self._last >= 0 else 0
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = Item(kind)
            self._last = index
        elif not item.kind:
            item.kind = kind
        return item

    def _piece(self, event: WireEvent, kind: str, name: str) -> Piece:
        return self._part(self._item(event.output_index, kind), name, event.content_index or 0)

    def _part(self, item: Item, kind: str, index: int) -> Piece:
        piece = item.pieces.get((kind, index))
        if piece is None:
            piece = item.pieces[kind, index] = Piece(next(self._keys), kind, item)
        return piece

    def _holds(self, item: Item | None) -> bool:
        return self._whole_items or (item is not None and (item.held or item.head is None))

    def _say(self, piece: Piece, text: str, out: list[Event], item: Item | None = None) -> None:
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
            if piece.kind == "text":
                if self._joins and self._spoke is not None and self._spoke is not piece.item:
                    piece.gap = len(_GAP)
                    out.append(Delta(piece.key, _GAP))
                self._spoke = piece.item
        out.append(Delta(piece.key, text))

    def _cite(self, piece: Piece, annotation: Mapping[str, Any], out: list[Event]) -> None:
        piece.cited += 1
        citation = items.citation(annotation)
        if piece.gap and citation.start is not None and citation.end is not None:
            citation = replace(citation, start=citation.start + piece.gap, end=citation.end + piece.gap)
        out.append(Cite(piece.key, citation))

    def _rest(self, piece: Piece, whole: str, out: list[Event], item: Item | None = None) -> None:
        """What of a whole text was not given out yet; nothing where another text was."""
        if len(whole) <= piece.size:
            return
        if not piece.size:
            self._say(piece, whole, out, item)
            return
        sent = "".join(piece.sent)
        if whole.startswith(sent):
            self._say(piece, whole[len(sent) :], out, item)

    def _close(self, item: Item, out: list[Event]) -> None:
        for piece in item.pieces.values():
            if not piece.closed:
                piece.closed = True
                if piece.open:
                    out.append(Close(piece.key))
