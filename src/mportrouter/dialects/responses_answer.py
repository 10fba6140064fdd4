"""
Writes neutral events as an answer of the OpenAI Responses dialect, streamed or whole.

The official SDK's accumulator is strict, and so is the grammar here: every item is announced before anything of it, has
one index and one id, and is finished before the answer is.
"""

from __future__ import annotations

import json
from typing import Any

from zope.interface import implementer

from .. import envelope, splice
from ..conversation import Citation, Foreign, Opaque, WebSearch
from ..errors import RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventWriter
from ..records import Usage
from ..tool_names import AnswerIds, made_up
from . import responses_echo
from .responses_errors import failure
from .responses_input import NATIVE
from .responses_items import NAME
from .responses_told import early, told
from .responses_wire import wire_usage

_CALL_PATTERN = "[a-zA-Z0-9_-]+"
_CALL_LIMIT = 64
_ENCRYPTED = "reasoning.encrypted_content"


class _Part:
    """A part of an item under way: its pieces, and the bytes around each of its deltas."""

    __slots__ = ("head", "index", "kind", "notes", "opaque", "pieces", "shown", "size", "start", "tail")

    def __init__(self, shown: _Shown, kind: str, index: int, start: bytes, head: bytes, tail: bytes) -> None:
        self.shown = shown
        self.kind = kind
        self.index = index
        self.start = start
        self.head = head
        self.tail = tail
        self.pieces: list[str] = []
        self.size = 0
        self.notes: list[dict[str, Any]] = []
        self.opaque: Opaque | None = None


class _Shown:
    """An item that was announced."""

    __slots__ = ("id", "index", "item")

    def __init__(self, index: int, item: dict[str, Any]) -> None:
        self.index = index
        self.item = item
        self.id: str = item["id"]


@implementer(IEventWriter)
class ResponsesWriter:
    """
    :param stream: the client wants events.
    """

    interleaves = True

    def __init__(self, stream: bool, context: AnswerContext) -> None:
        self.content_type = b"text/event-stream; charset=utf-8" if stream else b"application/json"
        members = context.conversation.members
        self._stream = stream
        self._context = context
        self._id = made_up("resp_", context.request_id, 0, 32)
        self._ids = AnswerIds(context, "call_", _CALL_PATTERN, _CALL_LIMIT)
        include = members.get("include")
        self._encrypted = members.get("store") is False or (isinstance(include, list) and _ENCRYPTED in include)
        self._echo: bytes | None = None
        self._sequence = 0
        self._started = self._over = False
        self._output: list[dict[str, Any]] = []
        self._done: set[int] = set()
        self._parts: dict[int, _Part] = {}
        #: The message that is not closed yet, and its last part: the next text goes on with it.
        self._message: _Shown | None = None
        self._text: _Part | None = None
        #: Where in the part each open text of the reader's began, and citations that wait for its end.
        self._begun: dict[int, int] = {}
        self._waiting: dict[int, list[Citation]] = {}
        self._refused = False
        self._usage: Usage | None = None
        self._finish = Finish("end")

    @classmethod
    def going_on(cls, context: AnswerContext, id: str, number: int) -> ResponsesWriter:
        """
        Writes the end of a stream that another has begun.

        :param id: of that answer.
        :param number: of the next event.
        """
        writer = cls(True, context)
        writer._id, writer._sequence, writer._started = id or writer._id, number, True
        return writer

    # ------------------------------------------------------------------------------------------- events in

    def write(self, event: Event) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.write`."""
        if type(event) is Delta:
            part = self._parts[event.key]
            text = event.text
            part.pieces.append(text)
            part.size += len(text)
            if not self._stream:
                return b""
            self._sequence += 1
            return b"%b%d%b%b%b" % (
                part.start,
                self._sequence - 1,
                part.head,
                json.dumps(text).encode(),
                part.tail,
            )
        return self._other(event)

    def fail(self, error: RouterError) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.fail`: complete even where nothing was written before."""
        if not self._stream or self._over:
            return b""
        start = b"" if self._started else self._start()
        self._over = True
        output = [item for index, item in enumerate(self._output) if index in self._done]
        return start + self._lifecycle("response.failed", self._response("failed", output, failure(error)))

    def _other(self, event: Event) -> bytes:
        if isinstance(event, Open):
            return self._open(event)
        if isinstance(event, Close):
            return self._close(event.key)
        if isinstance(event, Start):
            return self._start()
        if isinstance(event, Cite):
            return self._cite(event.key, event.citation)
        if isinstance(event, Sign):
            self._parts[event.key].opaque = event.opaque
        elif isinstance(event, Hidden):
            return self._end_message() + self._hidden(event.opaque)
        elif isinstance(event, Searched):
            return self._end_message() + self._searched(event.search)
        elif isinstance(event, Other):
            if event.part.dialect == NAME:
                return self._end_message() + self._whole_item(event.part)
        elif isinstance(event, Tally):
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, End):
            return self._end()
        return b""

    # ------------------------------------------------------------------------------------------- parts

    def _open(self, event: Open) -> bytes:
        if event.kind == "tool":
            return self._open_call(event)
        if event.kind == "reasoning":
            out = self._end_message()
            shown, announced = self._announce({"id": self._item_id("rs_"), "type": "reasoning", "summary": []})
            self._parts[event.key] = self._part(shown, "reasoning", 0, "response.reasoning_summary_text.delta")
            return (
                out
                + announced
                + self._event(
                    "response.reasoning_summary_part.added",
                    {**_place(shown), "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
                )
            )
        out = b""
        if self._message is None:
            message = {"id": self._item_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant"}
            self._message, out = self._announce({**message, "content": []})
            self._text = None
        part = self._text
        if part is None or part.kind != event.kind:
            out += self._end_part()
            shown = self._message
            index = len(shown.item["content"])
            name = "output_text" if event.kind == "text" else "refusal"
            part = self._text = self._part(shown, event.kind, index, f"response.{name}.delta")
            content = _content(event.kind, "", [])
            shown.item["content"].append(content)
            out += self._event(
                "response.content_part.added", {**_place(shown), "content_index": index, "part": content}
            )
            self._refused = self._refused or event.kind == "refusal"
        self._parts[event.key] = part
        self._begun[event.key] = part.size
        return out

    def _open_call(self, event: Open) -> bytes:
        out = self._end_message()
        if event.opaque is not None:
            # A signature that came with the call: the one place for it is an item before.
            out += self._hidden(event.opaque)
        item: dict[str, Any] = {
            "id": self._item_id("ctc_" if event.custom else "fc_"),
            "type": "custom_tool_call" if event.custom else "function_call",
            "status": "in_progress",
            "call_id": self._ids.call(event.id),
            "name": event.name,
            "input" if event.custom else "arguments": "",
        }
        if event.namespace:
            item["namespace"] = event.namespace
        shown, announced = self._announce(item)
        kind = "custom_tool_call_input" if event.custom else "function_call_arguments"
        self._parts[event.key] = self._part(shown, kind, -1, f"response.{kind}.delta")
        return out + announced

    def _part(self, shown: _Shown, kind: str, index: int, name: str) -> _Part:
        place = f',"item_id":{json.dumps(shown.id)},"output_index":{shown.index}'
        if kind == "reasoning":
            place += f',"summary_index":{index}'
        elif index >= 0:
            place += f',"content_index":{index}'
        tail = b',"logprobs":[]}\n\n' if kind == "text" else b"}\n\n"
        start = f'event: {name}\ndata: {{"type":"{name}","sequence_number":'
        return _Part(shown, kind, index, start.encode(), f'{place},"delta":'.encode(), tail)

    def _close(self, key: int) -> bytes:
        part = self._parts.pop(key, None)
        if part is None:
            return b""
        if part.kind in ("text", "refusal"):
            begun = self._begun.pop(key)
            waiting = self._waiting.pop(key, ())
            out = b"".join(self._annotate(part, citation, begun, part.size) for citation in waiting)
            if part.opaque is not None:
                # Bound to the text before it; the one place for it is an item behind.
                opaque, part.opaque = part.opaque, None
                out += self._end_message() + self._hidden(opaque)
            return out
        if part.kind == "reasoning":
            return self._close_reasoning(part)
        return self._close_call(part)

    def _close_reasoning(self, part: _Part) -> bytes:
        shown, text = part.shown, "".join(part.pieces)
        place = {**_place(shown), "summary_index": 0}
        summary = {"type": "summary_text", "text": text}
        out = self._event("response.reasoning_summary_text.done", {**place, "text": text})
        out += self._event("response.reasoning_summary_part.done", {**place, "part": summary})
        shown.item["summary"] = [summary]
        if part.opaque is not None and self._encrypted:
            shown.item["encrypted_content"] = _sealed(part.opaque, shown.id)
        return out + self._finished(shown)

    def _close_call(self, part: _Part) -> bytes:
        shown, text = part.shown, "".join(part.pieces)
        custom = part.kind == "custom_tool_call_input"
        out = b""
        if not text and not custom:
            text = "{}"
            out = self._event("response.function_call_arguments.delta", {**_place(shown), "delta": text})
        done = {**_place(shown), "input": text}
        if not custom:
            done = {**_place(shown), "name": shown.item["name"], "arguments": text}
        out += self._event(f"response.{part.kind}.done", done)
        shown.item["input" if custom else "arguments"] = text
        shown.item["status"] = "completed"
        return out + self._finished(shown)

    # ------------------------------------------------------------------------------------------- messages

    def _end_part(self) -> bytes:
        part = self._text
        if part is None:
            return b""
        self._text = None
        shown, text = part.shown, "".join(part.pieces)
        content = _content(part.kind, text, part.notes)
        shown.item["content"][part.index] = content
        place = {**_place(shown), "content_index": part.index}
        if part.kind == "text":
            out = self._event("response.output_text.done", {**place, "text": text, "logprobs": []})
        else:
            out = self._event("response.refusal.done", {**place, "refusal": text})
        return out + self._event("response.content_part.done", {**place, "part": content})

    def _end_message(self, status: str = "completed") -> bytes:
        shown = self._message
        if shown is None:
            return b""
        out = self._end_part()
        self._message = None
        shown.item["status"] = status
        return out + self._finished(shown)

    def _cite(self, key: int, citation: Citation) -> bytes:
        part = self._parts[key]
        if part.kind != "text":
            return b""
        if citation.start is None or citation.end is None:
            # It is about the whole text, whose end is not known yet.
            self._waiting.setdefault(key, []).append(citation)
            return b""
        begun = self._begun[key]
        return self._annotate(part, citation, begun + citation.start, begun + citation.end)

    def _annotate(self, part: _Part, citation: Citation, start: int, end: int) -> bytes:
        annotation: dict[str, Any]
        if citation.url:
            annotation = {
                "type": "url_citation",
                "url": citation.url,
                "title": citation.title,
                "start_index": start,
                "end_index": end,
            }
        elif citation.dialect == NAME and citation.raw is not None:
            annotation = dict(citation.raw)
        else:
            return b""  # of a document that this dialect cannot name
        part.notes.append(annotation)
        return self._event(
            "response.output_text.annotation.added",
            {
                **_place(part.shown),
                "content_index": part.index,
                "annotation_index": len(part.notes) - 1,
                "annotation": annotation,
            },
        )

    # ------------------------------------------------------------------------------------------- whole items

    def _hidden(self, opaque: Opaque) -> bytes:
        if not self._encrypted:
            return b""
        native = opaque.origin == NATIVE and opaque.item_id is not None
        id = opaque.item_id if native and opaque.item_id is not None else self._item_id("rs_")
        item = {"id": id, "type": "reasoning", "summary": []}
        shown, out = self._announce(dict(item))
        shown.item["encrypted_content"] = _sealed(opaque, id)
        return out + self._finished(shown)

    def _searched(self, search: WebSearch) -> bytes:
        if search.dialect == NAME and search.raw:
            return b"".join(self._whole_item(Foreign(NAME, "web_search_call", raw)) for raw in search.raw)
        action: dict[str, Any] = {"type": "search", "query": search.query, "queries": [search.query]}
        if search.hits:
            action["sources"] = [{"type": "url", "url": hit.url} for hit in search.hits]
        item = {
            "id": self._item_id("ws_"),
            "type": "web_search_call",
            "status": "in_progress",
            "action": action,
        }
        shown, out = self._announce(item)
        for step in ("in_progress", "searching", "completed"):
            out += self._event(f"response.web_search_call.{step}", _place(shown))
        shown.item["status"] = "completed"
        return out + self._finished(shown)

    def _whole_item(self, part: Foreign) -> bytes:
        """An item of this very dialect, as it is; in a stream with the events that its kind is announced by."""
        item = dict(part.raw)
        if not isinstance(item.get("id"), str):
            item["id"] = self._item_id(f"{part.kind[:3] or 'itm'}_")
        if item.get("type") == "message":
            self._refused = self._refused or '"refusal"' in json.dumps(item.get("content"))
        shown, out = self._announce(early(item))
        if self._stream:
            out += told(_place(shown), item, self._event)
        shown.item = self._output[shown.index] = item
        return out + self._finished(shown)

    # ------------------------------------------------------------------------------------------- the answer

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        if not self._stream:
            return b""
        response = self._response("in_progress", [])
        return self._lifecycle("response.created", response) + self._lifecycle("response.in_progress", response)

    def _end(self) -> bytes:
        stop = self._finish.stop
        reason = None
        if stop in ("length", "context_full"):
            reason = "max_output_tokens"
        elif stop == "content_filter" or (stop == "refusal" and not self._refused):
            reason = "content_filter"
        out = b"".join(self._close(key) for key in list(self._parts))
        out += self._end_message("completed" if reason is None else "incomplete")
        self._over = True
        status = "completed" if reason is None else "incomplete"
        response = self._response(status, self._output, None, reason, self._usage)
        return out + self._lifecycle(f"response.{status}", response) if self._stream else response

    def _response(
        self,
        status: str,
        output: list[dict[str, Any]],
        error: dict[str, Any] | None = None,
        reason: str | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """The JSON text of the whole response object."""
        context = self._context
        head = {
            "id": self._id,
            "object": "response",
            "created_at": context.created,
            "status": status,
            "completed_at": context.created if status == "completed" else None,
            "error": error,
            "incomplete_details": None if reason is None else {"reason": reason},
            "model": context.conversation.model,
            "output": output,
            "usage": None if usage is None else wire_usage(usage),
        }
        if self._echo is None:
            self._echo = splice.dumps(responses_echo.echo(context.conversation.members))
        return b"%b,%b" % (splice.dumps(head)[:-1], self._echo[1:])

    def _lifecycle(self, name: str, response: bytes) -> bytes:
        self._sequence += 1
        kind = name.encode()
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,"response":%b}\n\n' % (
            kind,
            kind,
            self._sequence - 1,
            response,
        )

    def _event(self, name: str, members: dict[str, Any]) -> bytes:
        if not self._stream:
            return b""
        data = splice.dumps({"type": name, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    def _announce(self, item: dict[str, Any]) -> tuple[_Shown, bytes]:
        shown = _Shown(len(self._output), item)
        self._output.append(item)
        return shown, self._event("response.output_item.added", {"output_index": shown.index, "item": item})

    def _finished(self, shown: _Shown) -> bytes:
        self._done.add(shown.index)
        return self._event("response.output_item.done", {"output_index": shown.index, "item": shown.item})

    def _item_id(self, prefix: str) -> str:
        return made_up(prefix, self._context.request_id, len(self._output) + 1, 32)


def _place(shown: _Shown) -> dict[str, Any]:
    return {"item_id": shown.id, "output_index": shown.index}


def _content(kind: str, text: str, notes: list[dict[str, Any]]) -> dict[str, Any]:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": notes, "logprobs": []}


def _sealed(opaque: Opaque, id: str) -> str:
    """State for ``encrypted_content``: bare only where a client's own provider issued it, under its own id."""
    if opaque.origin == NATIVE and opaque.kind == "encrypted" and opaque.item_id in (None, id):
        return opaque.value
    return envelope.seal(opaque)
