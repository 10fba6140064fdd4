"""
Answers of the Anthropic Messages dialect as neutral events, streamed or whole.

The stream's grammar is in the vendor's "Streaming Messages"; what servers do beside it and is taken here: a
``message_start`` twice, or spliced into a running answer; a delta for a block that was never opened, or of another
kind than its block; a call's whole input in its start; no ``message_stop``; errors as plain JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
from zope.interface import implementer

from .. import splice, sse
from ..errors import Kind, Verdict
from ..events import End, Event, Failed, Finish, Start, Tally
from ..interfaces import AnswerContext, IEventReader
from ..records import Usage
from ..usage import merge
from .anthropic_open import Blocks
from .anthropic_seen import REFUSED, decode_message, garbage, read_event_slowly, read_whole_slowly, trouble_in

#: Bytes of an answer that is one JSON text.
_WHOLE_LIMIT = 64 * 1024 * 1024
#: Bytes without an event that may still be a JSON text.
_RAW_LIMIT = 8 * 1024 * 1024

_NOTHING = msgspec.Raw(b"")
_STOPS = {
    "end_turn": "end",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "pause_turn": "pause",
    "refusal": "refusal",
    "content_filter": "content_filter",
    "model_context_window_exceeded": "context_full",
}


class SeenDelta(msgspec.Struct, gc=False):
    """Any event's ``delta``."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    content: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = _NOTHING
    content: Any = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: SeenDelta | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: msgspec.Raw = _NOTHING


_decode = msgspec.json.Decoder(_Event).decode


def reader(stream: bool, context: AnswerContext) -> IEventReader:
    """See :meth:`mportrouter.interfaces.IDialect.event_reader`."""
    return StreamReader(context) if stream else WholeReader(context)


@implementer(IEventReader)
class StreamReader:
    """Reads an event stream."""

    __slots__ = (
        "_blocks", "_context", "_finish", "_framed", "_framer", "_over", "_raw", "_received", "_started", "_usage",
    )  # fmt: skip

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._blocks = Blocks(context)
        self._framer = sse.Framer()
        self._framed = False  # at least one event came
        self._raw: list[bytes] = []  # what came while there was none: it may be a JSON text
        self._received = 0
        self._started = False
        self._usage: Usage | None = None
        #: Why it stopped; kept back until the end, since content may follow where a server began anew.
        self._finish: Finish | None = None
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        if self._over:
            return out
        if not self._framed and self._received < _RAW_LIMIT:
            self._raw.append(data)
            self._received += len(data)
        framer = self._framer
        framer.feed(data)
        try:
            while (event := framer.next()) is not None:
                self._take(event, out)
                if self._over:
                    break
        except sse.EventTooLarge as error:
            self._fail(garbage(str(error)), out)
        return out

    def finish(self) -> list[Event]:
        out: list[Event] = []
        if self._over:
            return out
        last = self._framer.finish()
        if last is not None:
            self._take(last, out)
        if self._over:
            return out
        raw = b"".join(self._raw)
        if not self._framed and not _streamed(raw):
            whole = WholeReader(self._context)
            whole.feed(raw)
            self._over = True
            return whole.finish()
        if self._finish is not None:
            self._end(out)
        elif not self._started or self._blocks.count == 0:
            self._fail(Verdict(Kind.CUT, "the stream ended before any content", retry_same=True, status=200), out)
        else:
            self._fail(Verdict(Kind.CUT, "the stream ended early", retry_same=True, status=200), out)
        return out

    def template(self, event: bytes) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateReader`."""
        if b'"text_delta"' in event:
            return sse.around(event, b"text")
        return sse.around(event, b"thinking") if b'"thinking_delta"' in event else None

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateReader`; nothing here depends on it."""

    def _take(self, event: sse.Event, out: list[Event]) -> None:
        self._framed = True
        try:
            seen = _decode(event.data)
        except REFUSED:
            found = _slowly(event.data)
            if found is None:
                return  # not JSON: passed over, a later event decides
            seen = found
        kind = seen.type or event.name.decode("latin-1")
        delta = seen.delta
        if kind == "content_block_delta":
            if delta is not None:
                if not self._started:
                    self._start("", "", out)
                trouble = self._blocks.delta(seen.index, delta, out)
                if trouble is not None:
                    self._fail(trouble, out)
        elif kind == "content_block_start":
            if not self._started:
                self._start("", "", out)
            self._finish = None
            self._blocks.open(seen.index, seen.content_block or {}, out)
        elif kind == "content_block_stop":
            self._blocks.stop(seen.index, out)
        elif kind == "message_start":
            self._begin(seen.message or _Message(), out)
        elif kind == "message_delta":
            self._tally(seen.usage, out)
            if delta is not None and delta.stop_reason and self._finish is None:
                self._finish = finish_of(delta.stop_reason, delta.stop_sequence, delta.stop_details)
        elif kind == "message_stop":
            self._end(out)
        elif kind != "ping":
            odd = read_event_slowly(event.data)
            trouble = None if odd is None else trouble_in(kind, odd)
            if trouble is not None:
                self._fail(trouble, out)

    def _start(self, id: str, model: str, out: list[Event]) -> None:
        self._started = True
        out.append(Start(id, model))

    def _begin(self, message: _Message, out: list[Event]) -> None:
        if not self._started:
            self._start(message.id or "", message.model or "", out)
        elif self._blocks.count:
            # The server was asked again behind the scenes: its blocks go on after those that are there.
            self._blocks.close(out)
        self._tally(message.usage, out)

    def _tally(self, raw: msgspec.Raw, out: list[Event]) -> None:
        usage = merge(self._usage, raw)
        if usage is not None and memoryview(raw).nbytes:
            self._usage = usage
            out.append(Tally(msgspec.structs.replace(usage)))

    def _end(self, out: list[Event]) -> None:
        if not self._started or (self._finish is None and not self._blocks.count):
            self._fail(garbage("the stream has neither content nor an end"), out)
            return
        self._over = True
        self._blocks.close(out)
        self._blocks.settle(out)
        out.append(self._finish or Finish("end"))
        out.append(End())

    def _fail(self, verdict: Verdict, out: list[Event]) -> None:
        self._over = True
        if not self._started:
            self._start("", "", out)
        out.append(Failed(verdict))


@implementer(IEventReader)
class WholeReader:
    """Reads an answer that is one JSON object; it is known not to be an error only when it is whole."""

    __slots__ = ("_context", "_pieces", "_size")

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        self._size += len(data)
        if self._size <= _WHOLE_LIMIT:
            self._pieces.append(data)
        return []

    def finish(self) -> list[Event]:
        body = b"".join(self._pieces)
        if self._size > _WHOLE_LIMIT:
            return _failed(garbage(f"an answer of more than {_WHOLE_LIMIT} bytes"))
        if _streamed(body):
            streamed = StreamReader(self._context)
            return streamed.feed(body) + streamed.finish()
        if not body.strip():
            return _failed(garbage("the answer is empty"))
        try:
            judged = decode_message(body)
        except REFUSED:
            found = read_whole_slowly(body) or read_whole_slowly(body.decode("utf-8", "replace").encode())
            if found is None:
                return _failed(garbage("the answer is not a JSON object"))
            judged = found
        trouble = trouble_in(judged.type, judged)
        if trouble is not None:
            return _failed(trouble)
        message = _loads(body)
        if not isinstance(message, dict):
            return _failed(garbage("the answer is not a JSON object"))
        content = message.get("content")
        if judged.type != "message" and not isinstance(content, list):
            return _failed(garbage("the answer is no message"))
        return self._events(message, content if isinstance(content, list) else [], merge(None, judged.usage))

    def _events(self, message: dict[str, Any], content: list[Any], usage: Usage | None) -> list[Event]:
        id, model = message.get("id"), message.get("model")
        out: list[Event] = [Start(id if isinstance(id, str) else "", model if isinstance(model, str) else "")]
        blocks = Blocks(self._context)
        for index, block in enumerate(content):
            if isinstance(block, dict):
                blocks.open(index, block, out)
                blocks.stop(index, out)
        blocks.settle(out)
        if usage is not None:
            out.append(Tally(usage))
        stop = message.get("stop_reason")
        if not isinstance(stop, str) or not stop:
            if not blocks.count:
                return [out[0], Failed(garbage("the answer has neither content nor an end"))]
            stop = "end_turn"
        sequence = message.get("stop_sequence")
        out.append(finish_of(stop, sequence if isinstance(sequence, str) else None, message.get("stop_details")))
        out.append(End())
        return out


def _streamed(body: bytes) -> bool:
    """Whether these are events, or the beginning of one, rather than a JSON text."""
    return body.lstrip().startswith((b"event:", b"data:", b": "))


def _failed(verdict: Verdict) -> list[Event]:
    return [Start(), Failed(verdict)]


def finish_of(stop: str, sequence: str | None, details: Any) -> Finish:
    """
    Why the answer stops.

    :param stop: ``stop_reason``; one that nobody knows is a normal end.
    :param details: ``stop_details``.
    """
    explanation = category = None
    if isinstance(details, dict):
        explanation, category = details.get("explanation"), details.get("category")
    return Finish(
        _STOPS.get(stop, "end"),
        sequence,
        explanation if isinstance(explanation, str) else "",
        category if isinstance(category, str) else None,
    )


def _loads(data: bytes) -> Any:
    """A JSON text, bytes that are no UTF-8 replaced; ``None`` for what is none."""
    try:
        return splice.loads(data)
    except splice.Malformed:
        pass
    try:
        return splice.loads(data.decode("utf-8", "replace").encode())
    except splice.Malformed:
        return None


def _slowly(data: bytes) -> _Event | None:
    """An event that msgspec refuses (half a surrogate pair, a member of an odd type), as far as it can be read."""
    found = _loads(data)
    if not isinstance(found, dict):
        return None

    def text(source: dict[str, Any], name: str) -> str:
        value = source.get(name)
        return value if isinstance(value, str) else ""

    def raw(value: Any) -> msgspec.Raw:
        return msgspec.Raw(splice.dumps(value)) if isinstance(value, dict) else _NOTHING

    delta, message, block, index = (found.get(name) for name in ("delta", "message", "content_block", "index"))
    return _Event(
        text(found, "type"),
        index if isinstance(index, int) else 0,
        SeenDelta(
            text(delta, "type"),
            text(delta, "text"),
            text(delta, "thinking"),
            text(delta, "partial_json"),
            text(delta, "signature"),
            delta.get("citation"),
            delta.get("content"),
            text(delta, "stop_reason") or None,
            text(delta, "stop_sequence") or None,
            delta.get("stop_details"),
        )
        if isinstance(delta, dict)
        else None,
        block if isinstance(block, dict) else None,
        _Message(text(message, "id"), text(message, "model"), raw(message.get("usage")))
        if isinstance(message, dict)
        else None,
        raw(found.get("usage")),
    )
