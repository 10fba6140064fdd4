"""
Writers of Chat answers: chunks of a stream, or one JSON object.

A stream has exactly one chunk with the role, dense indexes of calls, one reason to stop, usage only where the client
asked for it, and ``[DONE]``. Members beyond OpenAI's own are those that compatible servers made common:
``reasoning_content``, ``reasoning_details``, and Google's ``extra_content`` on a call.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from zope.interface import implementer

from .. import envelope, splice
from ..collector import Collector
from ..conversation import Citation, Opaque, Reasoning, Refusal, Text, ToolCall
from ..errors import RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventWriter
from ..records import Usage
from ..tool_names import AnswerIds, made_up
from . import chat_usage
from .chat_errors import error_event

_REASONS = {
    "tool_use": "tool_calls",
    "length": "length",
    "context_full": "length",
    "refusal": "content_filter",
    "content_filter": "content_filter",
}
DETAIL_FORMAT = "mportrouter-v1"


def answers_in_functions(context: AnswerContext) -> bool:
    """Whether the client asked in the old form, with ``functions``: then it is answered in it."""
    members = context.conversation.members
    return bool(members.get("functions")) and not members.get("tools")


def answer_id(id: str, request_id: str) -> str:
    """The id of an answer: the upstream's where it is of the dialect's form, else one made of the request's."""
    return id if id.startswith("chatcmpl-") and id.isascii() else made_up("chatcmpl-", request_id, 0)


def url_citation(citation: Citation, start: int, end: int) -> dict[str, Any]:
    """
    :param start: where the part begins in the content.
    :param end: where it ends.
    """
    first = start if citation.start is None else start + citation.start
    last = end if citation.end is None else start + citation.end
    cited = {"start_index": first, "end_index": last, "url": citation.url, "title": citation.title}
    return {"type": "url_citation", "url_citation": cited}


def detail(opaque: Opaque, text: str, index: int) -> dict[str, Any] | None:
    """
    An entry of ``reasoning_details`` that brings a state back, in an envelope; ``None`` where the text is all there is.

    :param text: that the state belongs to: a signature is worth nothing without it.
    """
    if opaque.kind == "text":
        return None
    sealed = envelope.seal(opaque)
    if text and opaque.kind != "thought":
        kind: dict[str, Any] = {"type": "reasoning.text", "text": text, "signature": sealed}
    else:
        kind = {"type": "reasoning.encrypted", "data": sealed}
    return {**kind, "id": None, "format": DETAIL_FORMAT, "index": index}


class _Call:
    __slots__ = ("begun", "custom", "head", "number")

    def __init__(self, number: int, custom: bool, head: str) -> None:
        self.number = number
        self.custom = custom
        self.head = head
        self.begun = False


@implementer(IEventWriter)
class ChatStreamWriter:
    """Writes a stream."""

    content_type = b"text/event-stream; charset=utf-8"
    interleaves = True

    __slots__ = (
        "_calls", "_cites", "_context", "_details", "_finish", "_functions", "_heads", "_ids", "_kinds", "_length",
        "_prefix", "_refused", "_starts", "_suffix", "_tail", "_texts", "_thought", "_usage",
    )  # fmt: skip

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._functions = answers_in_functions(context)
        self._ids = AnswerIds(context, "call_", "[a-zA-Z0-9_-]+", 64)
        self._usage = Usage()
        self._finish = Finish("end")
        self._length = 0  # characters of content so far
        self._refused = False
        self._kinds: dict[int, str] = {}  # open parts without those of tools
        self._calls: dict[int, _Call] = {}
        self._heads: dict[int, str] = {}  # up to the text of a delta
        self._starts: dict[int, int] = {}
        self._cites: list[Citation] = []
        self._thought: list[str] = []
        self._details = 0
        self._prefix = self._suffix = self._tail = ""
        self._texts = ""
        self._head("")

    def _head(self, id: str) -> None:
        context = self._context
        usage = ',"usage":null' if context.conversation.stream_usage else ""
        self._prefix = (
            f'data: {{"id":{quoted(answer_id(id, context.request_id))},"object":"chat.completion.chunk",'
            f'"created":{context.created},"model":{quoted(context.conversation.model)},"service_tier":null,'
            '"system_fingerprint":null,"choices":['
        )
        self._tail = f"]{usage}}}\n\n"
        self._suffix = f'}},"logprobs":null,"finish_reason":null}}{self._tail}'
        self._texts = f'{self._prefix}{{"index":0,"delta":{{'

    def write(self, event: Event) -> bytes:
        kind = type(event)
        if kind is Delta:
            return self._delta(event)  # type: ignore[arg-type]
        if isinstance(event, Open):
            return self._open(event)
        if isinstance(event, Close):
            return self._close(event.key)
        if isinstance(event, Tally):
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, Start):
            self._head(event.id)
            return self._chunk('"role":"assistant","content":"","refusal":null')
        elif isinstance(event, End):
            return self._end()
        elif isinstance(event, Cite):
            if event.citation.url and self._kinds.get(event.key) == "text":
                self._cites.append(event.citation)
        elif isinstance(event, Sign | Hidden):
            return self._state(event)
        return b""

    def fail(self, error: RouterError) -> bytes:
        return error_event(error)

    def template(self) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        if len(self._kinds) != 1:
            return None
        (key,) = self._kinds
        return f'{self._heads[key]}"'.encode(), f'"{self._suffix}'.encode()

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        (kind,) = self._kinds.values()
        if kind == "text":
            self._length += len(text)
        elif kind == "reasoning":
            self._thought.append(text)

    # ---- parts

    def _delta(self, event: Delta) -> bytes:
        key, text = event.key, event.text
        head = self._heads.get(key)
        if head is None:
            return b""  # a call that the old form has no place for
        kind = self._kinds.get(key)
        if kind == "text":
            self._length += len(text)
        elif kind == "reasoning":
            self._thought.append(text)
        elif kind is None:
            call = self._calls[key]
            call.begun = True
            return f"{head}{quoted(text)}{call.head}{self._suffix}".encode()
        return f"{head}{quoted(text)}{self._suffix}".encode()

    def _open(self, event: Open) -> bytes:
        key = event.key
        if event.kind == "tool":
            return self._open_call(event)
        self._kinds[key] = event.kind
        if event.kind == "text":
            self._starts[key] = self._length
            name = "content"
        elif event.kind == "reasoning":
            name = "reasoning_content"
            self._thought.clear()
        else:
            name = "refusal"
            self._refused = True
        self._heads[key] = f'{self._texts}"{name}":'
        return b""

    def _open_call(self, event: Open) -> bytes:
        number = len(self._calls)
        if self._functions:
            call = self._calls[event.key] = _Call(number, False, "}")
            if number:
                return b""
            self._heads[event.key] = f'{self._texts}"function_call":{{"arguments":'
            return self._chunk(f'"function_call":{{"name":{quoted(event.name)},"arguments":""}}')
        kind, member = ("custom", "input") if event.custom else ("function", "arguments")
        call = self._calls[event.key] = _Call(number, event.custom, "}}]")
        self._heads[event.key] = f'{self._texts}"tool_calls":[{{"index":{call.number},"{kind}":{{"{member}":'
        extra = ""
        if event.opaque is not None:
            extra = f',"extra_content":{splice.dumps(thought(event.opaque)).decode()}'
        return self._chunk(
            f'"tool_calls":[{{"index":{number},"id":{quoted(self._ids.call(event.id))},"type":"{kind}",'
            f'"{kind}":{{"name":{quoted(event.name)},"{member}":""}}{extra}}}]'
        )

    def _close(self, key: int) -> bytes:
        head = self._heads.pop(key, None)
        kind = self._kinds.pop(key, None)
        if kind is None:
            call = self._calls.get(key)
            if call is not None and head is not None and not call.begun and not call.custom:
                # Clients read the joined fragments as JSON, which no text at all is not.
                return f'{head}"{{}}"{call.head}{self._suffix}'.encode()
            return b""
        if kind == "text" and self._cites:
            start = self._starts.pop(key)
            cites = [url_citation(cite, start, self._length) for cite in self._cites]
            self._cites.clear()
            return self._chunk(f'"annotations":{splice.dumps(cites).decode()}')
        return b""

    def _state(self, event: Sign | Hidden) -> bytes:
        text = "".join(self._thought) if isinstance(event, Sign) and self._kinds.get(event.key) == "reasoning" else ""
        found = detail(event.opaque, text, self._details)
        if found is None:
            return b""
        self._details += 1
        return self._chunk(f'"reasoning_details":[{splice.dumps(found).decode()}]')

    def _end(self) -> bytes:
        finish, out = self._finish, b""
        if finish.stop == "refusal" and finish.explanation and not self._refused:
            out = self._chunk(f'"refusal":{quoted(finish.explanation)}')
        reason = _REASONS.get(finish.stop, "stop")
        if self._functions and reason == "tool_calls":
            reason = "function_call"
        last = f'{self._prefix}{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}{self._tail}'
        out += last.encode()
        if self._context.conversation.stream_usage:
            usage = splice.dumps(chat_usage.written(self._usage)).decode()
            out += f'{self._prefix}],"usage":{usage}}}\n\n'.encode()
        return out + b"data: [DONE]\n\n"

    def _chunk(self, members: str) -> bytes:
        return f"{self._texts}{members}{self._suffix}".encode()


def thought(opaque: Opaque) -> dict[str, Any]:
    """A thought signature where Google's compatible endpoint has it."""
    return {"google": {"thought_signature": envelope.seal(opaque)}}


@implementer(IEventWriter)
class ChatWholeWriter:
    """Writes one JSON object, at the end."""

    content_type = b"application/json"
    interleaves = True

    __slots__ = ("_collector", "_context")

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._collector = Collector()

    def write(self, event: Event) -> bytes:
        if isinstance(event, End):
            return self._whole()
        self._collector.take(event)
        return b""

    def fail(self, error: RouterError) -> bytes:
        return b""

    def _whole(self) -> bytes:
        context, answer = self._context, self._collector.answer()
        content, refusal, reasoning = "", "", ""
        has_text = False
        annotations: list[dict[str, Any]] = []
        details: list[dict[str, Any]] = []
        calls: list[ToolCall] = []
        for part in answer.parts:
            if isinstance(part, Text):
                start, content, has_text = len(content), content + part.text, True
                annotations += [url_citation(cite, start, len(content)) for cite in part.citations if cite.url]
                opaque, text = part.opaque, ""
            elif isinstance(part, Reasoning):
                reasoning += part.text
                opaque, text = part.opaque, part.text
            else:
                if isinstance(part, Refusal):
                    refusal += part.text
                elif isinstance(part, ToolCall):
                    calls.append(part)
                continue
            found = None if opaque is None else detail(opaque, text, len(details))
            if found is not None:
                details.append(found)
        if answer.stop == "refusal" and not refusal:
            refusal = answer.explanation
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if has_text else None,
            "refusal": refusal or None,
            "annotations": annotations,
        }
        if reasoning:
            message["reasoning_content"] = reasoning
        if details:
            message["reasoning_details"] = details
        reason = _REASONS.get(answer.stop, "stop")
        if calls and answers_in_functions(context):
            message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments or "{}"}
            reason = "function_call" if reason == "tool_calls" else reason
        elif calls:
            ids = AnswerIds(context, "call_", "[a-zA-Z0-9_-]+", 64)
            message["tool_calls"] = [_tool_call(call, ids.call(call.id)) for call in calls]
        return splice.dumps(
            {
                "id": answer_id(answer.id, context.request_id),
                "object": "chat.completion",
                "created": context.created,
                "model": context.conversation.model,
                "service_tier": None,
                "system_fingerprint": None,
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
                "usage": chat_usage.written(answer.usage),
            }
        )


def _tool_call(call: ToolCall, id: str) -> dict[str, Any]:
    if call.custom:
        written: dict[str, Any] = {
            "id": id,
            "type": "custom",
            "custom": {"name": call.name, "input": call.arguments},
        }
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        written = {"id": id, "type": "function", "function": function}
    if call.opaque is not None:
        written["extra_content"] = thought(call.opaque)
    return written
