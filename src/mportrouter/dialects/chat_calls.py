"""
Tool calls of a Chat stream, put together from fragments.

Servers differ in how a fragment names its call: by an index, by an id, by both, by neither; some give every call the
index 0, some repeat id and name in every fragment, some send the name in pieces or the arguments as an object. A call
is known by its id first, and a new id is a new call.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import splice
from ..conversation import Opaque, Tool
from ..events import Close, Delta, Event, Open
from ..tool_names import restored
from .chat_chunks import Call


class PendingCall:
    """
    One call under way.

    :param key: of its part.
    """

    __slots__ = ("begun", "closed", "custom", "id", "index", "key", "name", "opaque", "opened", "pieces", "unwrap")

    def __init__(self, key: int, index: int | None, id: str) -> None:
        self.key = key
        self.index = index
        self.id = id
        self.name = ""
        self.opaque: Opaque | None = None
        self.custom = False
        self.opened = False
        self.closed = False
        self.begun = False  # arguments have come
        #: The client knows a tool of free text; its arguments are held until they are whole.
        self.unwrap = False
        self.pieces: list[str] = []

    def whole(self) -> bool:
        """Whether the arguments that came are a whole JSON object."""
        # All of them are looked at only where the last one can have been the end.
        return self.pieces[-1].rstrip().endswith("}") and _object("".join(self.pieces)) is not None


class Calls:
    """
    The calls of one answer.

    :param names: see :attr:`mportrouter.interfaces.Prepared.names`.
    :param cumulative: every fragment of arguments repeats what came before.
    :param origin: who issues thought signatures on calls.
    :param model: that makes them.
    """

    __slots__ = ("_by_id", "_by_index", "_cumulative", "_model", "_names", "_order", "_origin", "last")

    def __init__(self, names: Mapping[str, Tool], cumulative: bool, origin: str, model: str) -> None:
        self._names = names
        self._cumulative = cumulative
        self._origin = origin
        self._model = model
        self._order: list[PendingCall] = []
        self._by_id: dict[str, PendingCall] = {}
        self._by_index: dict[int, PendingCall] = {}
        self.last: PendingCall | None = None

    def __bool__(self) -> bool:
        return bool(self._order)

    def take(self, fragment: Call, key: int, out: list[Event]) -> bool:
        """
        Take one element of ``tool_calls``.

        :param key: for its part, should it be a new one.
        :returns: whether it was.
        """
        function, custom = fragment.function, fragment.custom
        name: str | None = None
        arguments: str | None = None
        if function is not None:
            name = function.name
            given = function.arguments
            arguments = splice.dumps(given).decode() if isinstance(given, dict) else given
        elif custom is not None:
            name, arguments = custom.name, custom.input
        id = fragment.id
        call = self._find(fragment.index, id, name, arguments)
        new = call is None
        if call is None:
            for earlier in self._order:
                self._open(earlier, out)
            call = PendingCall(key, fragment.index, id or "")
            call.custom = function is None and custom is not None
            self._order.append(call)
            if fragment.index is not None:
                self._by_index[fragment.index] = call
        elif call.closed:
            return False
        if id and id not in self._by_id:
            if not call.id:
                call.id = id
            self._by_id[id] = call
        self.last = call
        if name:
            _name(call, name)
        if fragment.extra_content is not None and not call.opened:
            call.opaque = self._thought(fragment) or call.opaque
        if arguments:
            self._more(call, arguments, out)
        return new

    def open_all(self, out: list[Event]) -> None:
        """Something else comes: calls whose name is known are announced, so that their order is that of the answer."""
        for call in self._order:
            self._open(call, out)

    def close_all(self, out: list[Event]) -> bool:
        """
        The answer is whole.

        :returns: ``False`` where a call has arguments and nobody said of which tool.
        """
        good = True
        for call in self._order:
            if call.closed:
                continue
            self._open(call, out)
            call.closed = True
            if not call.opened:
                good = good and not call.begun
                continue
            if call.unwrap:
                text = _input(call)
                if text:
                    out.append(Delta(call.key, text))
            out.append(Close(call.key))
        return good

    def _find(self, index: int | None, id: str | None, name: str | None, arguments: str | None) -> PendingCall | None:
        if id:
            known = self._by_id.get(id)
            if known is not None:
                # A name at an index of its own: a second call under an id that is not unique.
                second = index is not None and index != known.index and index not in self._by_index and bool(name)
                return None if second else known
            call = None if index is None else self._by_index.get(index)
            return call if call is not None and not call.id else None
        if index is not None:
            call = self._by_index.get(index)
        else:
            call = self.last
        if call is None or not name or not call.name or not call.begun:
            return call
        if name != call.name:
            return None
        # A name that is repeated in every fragment, or a second call of the same tool.
        if not arguments or not call.whole():
            return call
        return None

    def _more(self, call: PendingCall, arguments: str, out: list[Event]) -> None:
        if self._cumulative and call.begun:
            so_far = "".join(call.pieces)
            if arguments.startswith(so_far):
                arguments = arguments[len(so_far) :]
                if not arguments:
                    return
        call.begun = True
        call.pieces.append(arguments)
        if call.opened:
            if not call.unwrap:
                out.append(Delta(call.key, arguments))
        else:
            self._open(call, out)

    def _open(self, call: PendingCall, out: list[Event]) -> None:
        if call.opened or call.closed or not call.name:
            return
        call.opened = True
        tool = restored(self._names, call.name)
        name, namespace, custom = call.name, "", call.custom
        if tool is not None:
            name, namespace = tool.name, tool.namespace
            if tool.kind == "custom":
                call.unwrap = not custom
                custom = True
        out.append(Open(call.key, "tool", call.id, name, custom, namespace, call.opaque))
        if call.pieces and not call.unwrap:
            out.append(Delta(call.key, "".join(call.pieces)))

    def _thought(self, fragment: Call) -> Opaque | None:
        """What Google's compatible endpoint puts beside a call: ``extra_content.google.thought_signature``."""
        google = (fragment.extra_content or {}).get("google")
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        if not isinstance(signature, str) or not signature:
            return None
        return Opaque(self._origin, self._model, "thought", signature)


def _name(call: PendingCall, name: str) -> None:
    """The first name counts; pieces of one may come until the arguments begin."""
    if not call.name or (not call.begun and not call.opened and name.startswith(call.name)):
        call.name = name
    elif not call.begun and not call.opened and name != call.name:
        call.name += name


def _object(text: str) -> dict[str, object] | None:
    try:
        value = splice.loads(text.encode("utf-8", "surrogatepass"))
    except splice.Malformed:
        return None
    return value if isinstance(value, dict) else None


def _input(call: PendingCall) -> str:
    """The free text in the arguments that a tool of free text was offered with; anything else is given as it came."""
    text = "".join(call.pieces)
    value = (_object(text) or {}).get("input")
    return value if isinstance(value, str) else text
