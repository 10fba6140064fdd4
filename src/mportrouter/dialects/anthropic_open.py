"""The content blocks of an answer under way, as neutral parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import splice
from ..conversation import Foreign, Opaque, Tool
from ..errors import Verdict
from ..events import Cite, Close, Delta, Event, Hidden, Open, Other, Searched, Sign
from ..interfaces import AnswerContext
from ..tool_names import restored
from .anthropic_blocks import NAME, Wrong, arguments_of, citation, read_block, web_search
from .anthropic_seen import garbage

if TYPE_CHECKING:
    from .anthropic_events import SeenDelta

#: The neutral kind of what a delta of each type belongs to.
_KINDS = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "reasoning",
    "signature_delta": "reasoning",
}
#: The kind of :class:`mportrouter.conversation.Tool` that stands for a structured output asked for as a call.
OUTPUT = "output"


class _Block:
    """One block that has begun and not stopped."""

    __slots__ = ("arguments", "held", "key", "kind", "opened", "raw", "signature", "wrapped")

    def __init__(self, key: int, kind: str, raw: dict[str, Any]) -> None:
        self.key = key
        #: ``text``, ``reasoning``, ``tool``, ``server`` (a call that the provider runs), ``other``.
        self.kind = kind
        self.raw = raw
        self.opened = False
        #: Whether a fragment of its arguments came.
        self.arguments = False
        #: Fragments that are given whole, ``None`` where they are passed on.
        self.held: list[str] | None = None
        #: Whether what is held wraps free text.
        self.wrapped = False
        self.signature = ""


class Blocks:
    """
    Opens, fills and closes parts.

    :param context: whose answer it is; tools get back the names under which the client knows them.
    """

    __slots__ = ("_context", "_key", "_open", "_searches", "count")

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._open: dict[int, _Block] = {}
        self._key = -1
        #: Searches of the provider's whose results have not come, by id: their keys and blocks.
        self._searches: dict[str, tuple[int, dict[str, Any]]] = {}
        #: Blocks so far.
        self.count = 0

    def open(self, index: int, raw: dict[str, Any], out: list[Event]) -> None:
        """A block begins, with whatever of it is there already."""
        if index in self._open:
            self.stop(index, out)
        kind = raw.get("type")
        if kind == "text":
            self._open_text(index, raw, out)
        elif kind == "thinking":
            block = self._new(index, "reasoning", raw)
            block.signature = _string(raw, "signature")
            if text := _string(raw, "thinking"):
                self._show(block, out)
                out.append(Delta(block.key, text))
        elif kind == "redacted_thinking":
            self._other(index, raw)
            if value := _string(raw, "data"):
                out.append(Hidden(self._key, self._opaque("redacted", value)))
        elif kind == "tool_use":
            self._open_tool(index, raw, out)
        elif kind in ("server_tool_use", "mcp_tool_use"):
            self._new(index, "server", raw).held = []
        elif kind == "compaction":
            self._new(index, "compaction", raw).held = []
        elif kind == "web_search_tool_result" and _string(raw, "tool_use_id") in self._searches:
            self._other(index, raw)
            key, call = self._searches.pop(_string(raw, "tool_use_id"))
            out.append(Searched(key, web_search(call, raw)))
        else:
            self._other(index, raw)
            out.append(Other(self._key, _foreign(raw)))

    def delta(self, index: int, delta: SeenDelta, out: list[Event]) -> Verdict | None:
        """
        More of a block.

        :returns: what is wrong where a fragment belongs to no call: the answer cannot be used.
        """
        block = self._open.get(index)
        kind = delta.type
        if kind == "text_delta":
            if not delta.text:
                return None
            if block is None or block.kind != "text":
                block = self._instead(index, "text", out)
            if not block.opened:
                self._show(block, out)
            out.append(Delta(block.key, delta.text))
        elif kind == "input_json_delta":
            if block is None or block.kind not in ("tool", "server", OUTPUT):
                return garbage("a call's arguments came outside of any call") if delta.partial_json else None
            if delta.partial_json:
                block.arguments = True
                if block.held is not None:
                    block.held.append(delta.partial_json)
                else:
                    if not block.opened:
                        self._show(block, out)
                    out.append(Delta(block.key, delta.partial_json))
        elif kind in _KINDS:
            if block is None or block.kind != _KINDS[kind]:
                block = self._instead(index, _KINDS[kind], out)
            if kind == "thinking_delta":
                if delta.thinking:
                    if not block.opened:
                        self._show(block, out)
                    out.append(Delta(block.key, delta.thinking))
            elif kind == "signature_delta":
                block.signature = delta.signature
            elif isinstance(delta.citation, dict):
                if not block.opened:
                    self._show(block, out)
                out.append(Cite(block.key, citation(delta.citation)))
        elif block is not None and block.kind == "compaction" and isinstance(delta.content, str):
            block.held = [*(block.held or ()), delta.content]
        return None

    def stop(self, index: int, out: list[Event]) -> None:
        """A block is whole. One that is not open is none of ours."""
        block = self._open.pop(index, None)
        if block is None or block.kind == "other":
            return
        kind, key = block.kind, block.key
        if kind == "server":
            self._call(block, out)
            return
        if kind == "compaction":
            content = "".join(block.held or ()) or block.raw.get("content")
            out.append(Other(key, _foreign({**block.raw, "content": content})))
            return
        if kind == "tool" or kind == OUTPUT:
            self._arguments(block, out)
        if kind == "reasoning" and block.signature:
            # The text may be withheld: then the signature is all there is.
            opaque = self._opaque("signature", block.signature)
            out.append(Sign(key, opaque) if block.opened else Hidden(key, opaque))
        if block.opened:
            out.append(Close(key))

    def close(self, out: list[Event]) -> None:
        """Whatever is open is as whole as it gets."""
        for index in list(self._open):
            self.stop(index, out)

    def settle(self, out: list[Event]) -> None:
        """The answer ends: searches whose results did not come are told as what they are."""
        for key, call in self._searches.values():
            out.append(Other(key, _foreign(call)))
        self._searches.clear()

    def _new(self, index: int, kind: str, raw: dict[str, Any]) -> _Block:
        self._key += 1
        self.count += 1
        block = self._open[index] = _Block(self._key, kind, raw)
        return block

    def _other(self, index: int, raw: dict[str, Any]) -> None:
        self._new(index, "other", raw)

    def _show(self, block: _Block, out: list[Event]) -> None:
        block.opened = True
        out.append(Open(block.key, "text" if block.kind == OUTPUT else block.kind))

    def _instead(self, index: int, kind: str, out: list[Event]) -> _Block:
        """A block of the kind that a delta needs, where another one or none is open."""
        if index in self._open:
            self.stop(index, out)
        return self._new(index, kind, {})

    def _open_text(self, index: int, raw: dict[str, Any], out: list[Event]) -> None:
        block = self._new(index, "text", raw)
        text, told = _string(raw, "text"), raw.get("citations")
        if text:
            self._show(block, out)
            out.append(Delta(block.key, text))
        if isinstance(told, list):
            for one in told:
                if isinstance(one, dict):
                    if not block.opened:
                        self._show(block, out)
                    out.append(Cite(block.key, citation(one)))

    def _open_tool(self, index: int, raw: dict[str, Any], out: list[Event]) -> None:
        name = _string(raw, "name")
        tool: Tool | None = restored(self._context.names, name) if self._context.names else None
        if tool is not None and tool.kind == OUTPUT:
            self._new(index, OUTPUT, raw)
            return
        block = self._new(index, "tool", raw)
        block.opened = True
        if tool is None:
            out.append(Open(block.key, "tool", _string(raw, "id"), name))
            return
        custom = tool.kind == "custom"
        if custom:
            block.held, block.wrapped = [], True
        out.append(Open(block.key, "tool", _string(raw, "id"), tool.name, custom, tool.namespace))

    def _arguments(self, block: _Block, out: list[Event]) -> None:
        """What of a call's arguments was not passed on yet."""
        text = "".join(block.held or ())
        if not block.arguments:
            given = block.raw.get("input")
            if not given:
                return  # no arguments: every writer knows what that is
            text = arguments_of(given)
        if block.wrapped:
            text = _free_text(text)
        if text:
            if not block.opened:
                self._show(block, out)
            out.append(Delta(block.key, text))

    def _call(self, block: _Block, out: list[Event]) -> None:
        """A call that the provider runs is whole; a search waits for what it finds."""
        raw = block.raw
        if block.held:
            try:
                raw = {**raw, "input": splice.loads("".join(block.held).encode("utf-8", "replace"))}
            except splice.Malformed:
                raw = {**raw, "input": {}}
        id = _string(raw, "id")
        if raw.get("name") == "web_search" and id:
            self._searches[id] = (block.key, raw)
        else:
            out.append(Other(block.key, _foreign(raw)))

    def _opaque(self, kind: str, value: str) -> Opaque:
        target = self._context.target
        return Opaque(target.capabilities.thinking_signature, target.model, kind, value)


def _string(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _free_text(text: str) -> str:
    """What a custom tool is given: the ``input`` of the function that stands for it."""
    try:
        value = splice.loads(text.encode("utf-8", "surrogatepass"))
    except splice.Malformed:
        return text
    inner = value.get("input") if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else text


def _foreign(raw: dict[str, Any]) -> Foreign:
    try:
        part = read_block(raw)
    except Wrong:
        part = None
    if isinstance(part, Foreign):
        return part
    return Foreign(NAME, str(raw.get("type")), raw)
