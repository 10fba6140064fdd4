"""
Neutral events as an answer of the Anthropic Messages dialect, streamed or whole.

The clients' accumulators take blocks by their place: indexes are 0, 1, 2 … without a gap, one block is open at a time,
and nothing comes for a block that is not open.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import Any

from zope.interface import implementer

from .. import splice
from ..collector import Collector
from ..conversation import Opaque, Part, Reasoning, Refusal, Text, ToolCall, WebSearch
from ..errors import RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventWriter
from ..records import Usage
from ..tool_names import AnswerIds
from ..usage import BYTES_PER_TOKEN
from . import anthropic_shown as shown
from .anthropic_errors import event_of

#: Legal ids of calls.
_ID, _ID_LIMIT = "[a-zA-Z0-9_-]+", 64
#: Deltas that are not shown, after each of which a sign of life is.
_QUIET = 64
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTAS = {
    "text": ("text_delta", "text"),
    "refusal": ("text_delta", "text"),
    "reasoning": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}


def writer(stream: bool, context: AnswerContext) -> IEventWriter:
    """See :meth:`mportrouter.interfaces.IDialect.event_writer`."""
    return StreamWriter(context) if stream else WholeWriter(context)


@implementer(IEventWriter)
class StreamWriter:
    """Writes an event stream."""

    __slots__ = (
        "_begun",
        "_context",
        "_custom",
        "_held",
        "_ids",
        "_index",
        "_key",
        "_kind",
        "_opaque",
        "_over",
        "_owed",
        "_pieces",
        "_prefix",
        "_quiet",
        "_reasons",
        "_refusal",
        "_searches",
        "_size",
        "_start",
        "_stop",
        "_usage",
    )

    content_type = b"text/event-stream; charset=utf-8"
    interleaves = False

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._reasons = shown.Reasons(context)
        self._ids = AnswerIds(context, "toolu_", _ID, _ID_LIMIT)
        self._start: Start | None = None
        self._begun = False  # message_start is written
        self._over = False
        self._usage: Usage | None = None
        self._stop: Finish | None = None
        self._size = 0  # characters written
        self._searches = 0
        self._refusal: str | None = None
        # The open part.
        self._index = -1
        self._key: int | None = None
        self._kind = ""
        self._custom = False
        self._held = False  # its deltas are not shown
        self._quiet = 0
        self._prefix = ""
        self._pieces: list[str] = []
        self._opaque: Opaque | None = None
        self._owed: Opaque | None = None  # the state of a text that is closed

    def write(self, event: Event) -> bytes:
        if type(event) is Delta:
            if event.key != self._key or self._over:
                return b""
            text = event.text
            self._size += len(text)
            self._pieces.append(text)
            if self._held:
                self._quiet += 1
                return b"" if self._quiet % _QUIET else _PING
            return (self._prefix + encode_basestring_ascii(text) + "}}\n\n").encode()
        if self._over:
            return b""
        if isinstance(event, Start):
            self._start = event
            return b""
        if isinstance(event, Tally):
            self._usage = event.usage
            return b""
        if isinstance(event, Finish):
            self._stop = event
            return b""
        begin = b"" if self._begun else self._begin()
        if isinstance(event, Open):
            return begin + self._open(event)
        if isinstance(event, Close):
            return begin + self._close(event.key)
        if isinstance(event, Cite):
            return begin + self._cite(event)
        if isinstance(event, Sign):
            if event.key == self._key:
                self._opaque = event.opaque
            return begin
        if isinstance(event, Hidden):
            return begin + self._blocks(self._reasons.withheld(event.opaque))
        if isinstance(event, Searched):
            blocks = shown.searched(event.search, self._context.request_id, self._searches)
            self._searches += 1
            return begin + self._blocks(blocks)
        if isinstance(event, Other):
            block = shown.other(event.part)
            return begin + self._blocks([] if block is None else [block])
        if isinstance(event, End):
            return begin + self._end()
        return begin

    def fail(self, error: RouterError) -> bytes:
        if self._over:
            return b""
        self._over = True
        return event_of(error, self._context.request_id)

    def template(self) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        if self._key is None or self._held or self._over:
            return None
        return f'{self._prefix}"'.encode(), b'"}}\n\n'

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        self._size += len(text)
        self._pieces.append(text)

    # ------------------------------------------------------------------------------------------- the message

    def _begin(self) -> bytes:
        self._begun = True
        start, context = self._start or Start(), self._context
        message: dict[str, Any] = {
            "id": shown.message_id(start.id, context.request_id),
            "type": "message",
            "role": "assistant",
            "model": context.conversation.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": shown.usage(self._usage, context.estimate, 0),
        }
        return _event("message_start", {"message": message})

    def _end(self) -> bytes:
        last = self._close(self._key)
        self._over = True
        finish = self._stop or Finish("end")
        members = {
            "delta": shown.stop(
                finish.stop, finish.sequence, finish.explanation, finish.category, self._refusal
            ),
            "usage": shown.usage(self._usage, self._context.estimate, -(-self._size // BYTES_PER_TOKEN)),
        }
        return last + _event("message_delta", members) + _STOP

    # ------------------------------------------------------------------------------------------- the open block

    def _open(self, event: Open) -> bytes:
        before = self._shut()
        kind = event.kind
        self._key, self._kind, self._custom = event.key, kind, event.custom
        self._pieces, self._opaque, self._held = [], None, False
        block: dict[str, Any]
        if kind == "tool":
            if event.opaque is not None:
                before += self._block(shown.hidden(event.opaque))
                self._key = event.key
            self._held = event.custom
            block = {"type": "tool_use", "id": self._ids.call(event.id), "name": event.name, "input": {}}
        elif kind == "reasoning":
            if not self._reasons.text:
                self._held = True
                return before  # a block is only made of it where its state must come back
            block = {"type": "thinking", "thinking": "", "signature": ""}
        else:
            block = {"type": "text", "text": "", "citations": None}
        self._index += 1
        type_, member = _DELTAS[kind]
        self._prefix = (
            'event: content_block_delta\ndata: {"type":"content_block_delta",'
            f'"index":{self._index},"delta":{{"type":"{type_}","{member}":'
        )
        return before + _event("content_block_start", {"index": self._index, "content_block": block})

    def _shut(self) -> bytes:
        """What stands before the next block: the end of the open one, and the state that its text came with."""
        last = self._close(self._key)
        opaque, self._owed = self._owed, None
        return last if opaque is None else last + self._block(shown.hidden(opaque))

    def _close(self, key: int | None) -> bytes:
        """The end of the open block, ``b""`` where that is not open."""
        if key is None or key != self._key:
            return b""
        self._key = None
        kind, opaque = self._kind, self._opaque
        if kind == "reasoning":
            if self._held:
                return b"".join(map(self._block, self._reasons.withheld(opaque)))
            signature = self._reasons.signature(opaque)
            last = self._delta({"type": "signature_delta", "signature": signature}) if signature else b""
            return last + self._stopped()
        if kind == "tool" and self._custom:
            text = splice.dumps({"input": "".join(self._pieces)}).decode()
            return self._delta({"type": "input_json_delta", "partial_json": text}) + self._stopped()
        if kind == "refusal":
            self._refusal = (self._refusal or "") + "".join(self._pieces)
        # A text block has no place for its state: a block follows, which on the way back is the text's again. At the
        # end of the answer it goes: clients take the last block for the answer, and nobody wants it back from there.
        self._owed = opaque
        return self._stopped()

    def _cite(self, event: Cite) -> bytes:
        if event.key != self._key or self._kind != "text":
            return b""
        told = shown.citation(event.citation, "".join(self._pieces))
        return b"" if told is None else self._delta({"type": "citations_delta", "citation": told})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _stopped(self) -> bytes:
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index

    def _blocks(self, blocks: list[dict[str, Any]]) -> bytes:
        """Blocks that are whole, after the open one."""
        if not blocks:
            return self._close(self._key)
        return self._shut() + b"".join(map(self._block, blocks))

    def _block(self, block: dict[str, Any]) -> bytes:
        """A block that is whole at once."""
        self._index += 1
        kind = block.get("type")
        delta: dict[str, Any] | None = None
        if kind in ("server_tool_use", "mcp_tool_use") and block.get("input"):
            delta = {"type": "input_json_delta", "partial_json": splice.dumps(block["input"]).decode()}
            block = {**block, "input": {}}
        elif kind == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            block = {**block, "text": ""}
        elif kind == "thinking":
            delta = {"type": "signature_delta", "signature": block["signature"]}
            block = {**block, "signature": ""}
        start = _event("content_block_start", {"index": self._index, "content_block": block})
        return start + (b"" if delta is None else self._delta(delta)) + self._stopped()


def _event(name: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), splice.dumps({"type": name, **members}))


@implementer(IEventWriter)
class WholeWriter:
    """Writes an answer as one JSON object."""

    __slots__ = ("_collector", "_context", "_over", "_told")

    content_type = b"application/json"
    interleaves = False

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._collector = Collector()
        self._told = False  # the upstream told its usage
        self._over = False

    def write(self, event: Event) -> bytes:
        if self._over:
            return b""
        if isinstance(event, End):
            self._over = True
            return self._whole()
        if isinstance(event, Tally):
            self._told = True
        self._collector.take(event)
        return b""

    def fail(self, error: RouterError) -> bytes:
        self._over = True
        return b""

    def _whole(self) -> bytes:
        answer, context = self._collector.answer(), self._context
        content: list[dict[str, Any]] = []
        ids, reasons = AnswerIds(context, "toolu_", _ID, _ID_LIMIT), shown.Reasons(context)
        searches = size = 0
        refusal: str | None = None
        for part in answer.parts:
            if isinstance(part, WebSearch):
                content += shown.searched(part, context.request_id, searches)
                searches += 1
            else:
                if isinstance(part, Refusal):
                    refusal = (refusal or "") + part.text
                size += _size(part)
                content += _blocks(part, ids, reasons)
        last = answer.parts[-1] if answer.parts else None
        if isinstance(last, Text) and last.text and last.opaque is not None:
            content.pop()  # as in a stream, see StreamWriter._close
        written = -(-size // BYTES_PER_TOKEN)
        return splice.dumps(
            {
                "id": shown.message_id(answer.id, context.request_id),
                "type": "message",
                "role": "assistant",
                "model": context.conversation.model,
                "content": content,
                **shown.stop(answer.stop, answer.sequence, answer.explanation, answer.category, refusal),
                "usage": shown.usage(answer.usage if self._told else None, context.estimate, written),
            }
        )


def _size(part: Part) -> int:
    if isinstance(part, Text | Reasoning | Refusal):
        return len(part.text)
    return len(part.arguments) if isinstance(part, ToolCall) else 0


def _blocks(part: Part, ids: AnswerIds, reasons: shown.Reasons) -> list[dict[str, Any]]:
    """The blocks of one part, in order."""
    if isinstance(part, Text):
        told = [one for one in (shown.citation(each, part.text) for each in part.citations) if one is not None]
        block: dict[str, Any] = {"type": "text", "text": part.text, "citations": told or None}
        if part.opaque is None:
            return [block]
        return [block, shown.hidden(part.opaque)] if part.text else [shown.hidden(part.opaque)]
    if isinstance(part, Refusal):
        return [{"type": "text", "text": part.text, "citations": None}]
    if isinstance(part, Reasoning):
        if not part.text or not reasons.text:
            return reasons.withheld(part.opaque)
        return [{"type": "thinking", "thinking": part.text, "signature": reasons.signature(part.opaque)}]
    if isinstance(part, ToolCall):
        call = {
            "type": "tool_use",
            "id": ids.call(part.id),
            "name": part.name,
            "input": shown.arguments(part.arguments, part.custom),
        }
        return [call] if part.opaque is None else [shown.hidden(part.opaque), call]
    block_ = shown.other(part) if not isinstance(part, WebSearch) else None  # type: ignore[arg-type]
    return [] if block_ is None else [block_]
