"""
Writes answers in the Gemini dialect: a stream of server-sent events or of an array's elements, or one JSON object.

A part is never without a datum and no event without a part, since the official clients take such an answer for broken;
what has no text of its own stands beside an empty one, as Google does it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from zope.interface import implementer

from .. import splice
from ..conversation import Citation, Opaque, SearchHit
from ..errors import RouterError
from ..events import Cite, Close, Delta, End, Event, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import AnswerContext, IEventWriter
from ..records import Usage
from ..tool_names import AnswerIds, made_up
from . import gemini_errors, gemini_grounding, gemini_signatures
from .gemini_arguments import parsed
from .gemini_reading import DIALECT

_FINISHES = {
    "end": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "length": "MAX_TOKENS",
    "context_full": "MAX_TOKENS",
    "refusal": "SAFETY",
    "content_filter": "SAFETY",
    "pause": "OTHER",
}
#: Categories of refusals that are reasons of this dialect.
_REASONS = frozenset(
    {
        "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip


def usage_metadata(usage: Usage) -> dict[str, int]:
    """The numbers as this dialect adds them up."""
    counts = {"promptTokenCount": usage.prompt}
    if usage.cache_read:
        counts["cachedContentTokenCount"] = usage.cache_read
    counts["candidatesTokenCount"] = max(0, usage.output - usage.reasoning)
    if usage.reasoning:
        counts["thoughtsTokenCount"] = usage.reasoning
    counts["totalTokenCount"] = usage.prompt + max(usage.output, usage.reasoning)
    return counts


class _Answer(ABC):
    """
    What streamed and whole answers have in common.

    Thoughts are shown only to whom asked for them. A signature that holds its reasoning goes with the part that
    follows; one that signs the text beside it goes with that text, or not at all.
    """

    __slots__ = (
        "_bytes", "_cites", "_finish", "_found", "_head", "_hid", "_ids", "_kind", "_model", "_pending", "_queries",
        "_request_id", "_said", "_show", "_texts", "_tool", "_usage",
    )  # fmt: skip

    interleaves = False
    content_type = b"application/json; charset=UTF-8"

    def __init__(self, context: AnswerContext) -> None:
        asked = context.conversation.reasoning
        self._show = asked is not None and asked.show == "summarised"
        self._ids = AnswerIds(context, "call_", r"[\x21-\x7e]+", 256)
        self._request_id = context.request_id
        self._model = context.conversation.model
        self._kind = ""  # of the open part
        self._hid = False  # the open part has text that is not shown
        self._tool = Open(0, "tool")
        self._said: list[str] = []  # of the open part
        self._pending: str | None = None  # a signature for the next part
        self._bytes = 0  # of the texts before
        self._texts: list[tuple[int, str]] = []
        self._cites: list[tuple[int, Citation]] = []
        self._queries: list[str] = []
        self._found: list[SearchHit] = []
        self._usage = Usage(input=context.estimate)
        self._finish = Finish("end")
        self._head = {"modelVersion": self._model, "responseId": made_up("", context.request_id, 0)}

    # ------------------------------------------------------------------------------------------- given by the form

    @abstractmethod
    def _put(self, part: dict[str, Any]) -> bytes:
        """Write one part."""

    @abstractmethod
    def _words(self, text: str) -> bytes:
        """Write some of the open text or reasoning."""

    @abstractmethod
    def _signed(self, signature: str) -> bytes:
        """Write the signature of the open part."""

    @abstractmethod
    def _last(self, members: dict[str, Any]) -> bytes:
        """
        Write the end.

        :param members: of the candidate.
        """

    # ------------------------------------------------------------------------------------------- events

    def write(self, event: Event) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.write`."""
        kind = type(event)
        if kind is Delta:
            return self._delta(event.text)  # type: ignore[union-attr]
        if isinstance(event, Open):
            return self._open(event)
        if isinstance(event, Close):
            return self._close()
        if isinstance(event, Sign):
            return self._sign(event.opaque)
        if isinstance(event, Hidden):
            return self._pend(event.opaque)
        if isinstance(event, Cite):
            self._cites.append((len(self._texts), event.citation))
        elif isinstance(event, Searched):
            if event.search.query:
                self._queries.append(event.search.query)
            self._found += event.search.hits
        elif isinstance(event, Other):
            part = event.part
            if part.dialect == DIALECT:
                return self._put(self._carrying(dict(part.raw)))
            return self._put(self._carrying({"text": part.text})) if part.text.strip() else b""
        elif isinstance(event, Start):
            if event.id:
                self._head["responseId"] = event.id
        elif isinstance(event, Tally):
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, End):
            return self._last(self._ending())
        return b""

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        self._said.append(text)

    def _delta(self, text: str) -> bytes:
        if self._kind == "tool":
            self._said.append(text)
            return b""
        if self._kind == "reasoning" and not self._show:
            self._hid = True
            return b""
        return self._words(text)

    def _open(self, event: Open) -> bytes:
        self._kind = "text" if event.kind == "refusal" else event.kind
        self._said = []
        self._hid = False
        if event.kind == "tool":
            self._tool = event
        elif event.kind == "reasoning":
            if self._pending is not None:
                return self._put(self._carrying({"text": ""}))
            return b"" if self._show else self._thinking()
        return b""

    def _thinking(self) -> bytes:
        """The model thinks, and nothing of it is shown."""
        return b""

    def _close(self) -> bytes:
        kind, self._kind = self._kind, ""
        if kind == "tool":
            return self._put(self._call("".join(self._said)))
        if kind == "text":
            text = "".join(self._said)
            self._texts.append((self._bytes, text))
            self._bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self._said = []
        return b""

    def _call(self, text: str) -> dict[str, Any]:
        tool = self._tool
        args = {"input": text} if tool.custom else parsed(text)
        part: dict[str, Any] = {"functionCall": {"id": self._ids.call(tool.id), "name": tool.name, "args": args}}
        if tool.opaque is not None:
            part["thoughtSignature"] = gemini_signatures.write(tool.opaque)
        return self._carrying(part)

    # ------------------------------------------------------------------------------------------- signatures

    def _carrying(self, part: dict[str, Any]) -> dict[str, Any]:
        """The part with the signature that waits for one."""
        if self._pending is not None and "thoughtSignature" not in part:
            part["thoughtSignature"], self._pending = self._pending, None
        return part

    def _sign(self, opaque: Opaque) -> bytes:
        if self._kind != "reasoning":
            out = self._put(self._carrying({"text": ""})) if self._pending is not None else b""
            return out + self._signed(gemini_signatures.write(opaque))
        bound = opaque.kind in ("signature", "text", "thought")
        if bound and self._show:
            return self._signed(gemini_signatures.write(opaque))
        if opaque.kind == "text" or (opaque.kind == "signature" and self._hid):
            return b""  # worth nothing without its text
        return self._pend(opaque)

    def _pend(self, opaque: Opaque) -> bytes:
        out = self._put(self._carrying({"text": ""})) if self._pending is not None else b""
        self._pending = gemini_signatures.write(opaque)
        return out

    # ------------------------------------------------------------------------------------------- the end

    def _ending(self) -> dict[str, Any]:
        finish = self._finish
        reason = _FINISHES.get(finish.stop, "OTHER")
        if reason == "SAFETY" and finish.category in _REASONS:
            reason = finish.category
        members: dict[str, Any] = {"finishReason": reason}
        if finish.explanation:
            members["finishMessage"] = finish.explanation
        cited = []
        for index, citation in self._cites:
            before, text = self._texts[min(index, len(self._texts) - 1)] if self._texts else (0, "")
            cited.append(gemini_grounding.cited(citation, text, before))
        grounding = gemini_grounding.metadata(cited, self._queries, self._found)
        if grounding:
            members["groundingMetadata"] = grounding
        return members

    def _response(self, parts: list[dict[str, Any]], members: dict[str, Any]) -> bytes:
        """One ``GenerateContentResponse`` with the usage."""
        candidate = {"content": {"role": "model", "parts": parts}, **members, "index": 0}
        return splice.dumps({"candidates": [candidate], "usageMetadata": usage_metadata(self._usage), **self._head})


@implementer(IEventWriter)
class StreamWriter(_Answer):
    """:param events: server-sent events; else the elements of an array."""

    __slots__ = ("_after", "_after_thought", "_before", "_begun", "_events", "content_type")

    def __init__(self, context: AnswerContext, events: bool = True) -> None:
        super().__init__(context)
        self._events = events
        self.content_type = b"text/event-stream" if events else _Answer.content_type
        self._begun = False
        self._frame_texts()

    def write(self, event: Event) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.write`."""
        if type(event) is Delta and self._kind == "text" and self._pending is None and self._begun:
            # By far the most frequent case.
            text = event.text
            self._said.append(text)
            return b"%b%b%b" % (self._before, splice.dumps(text), self._after)
        out = super().write(event)
        if type(event) is Start:
            self._frame_texts()
        return out

    def fail(self, error: RouterError) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.fail`."""
        out = self._framed(gemini_errors.body(error, self._request_id))
        return out if self._events else out + b"]"

    def template(self) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateWriter`."""
        if not self._begun or self._pending is not None:
            return None
        if self._kind == "text":
            return self._before + b'"', b'"' + self._after
        if self._kind == "reasoning" and self._show:
            return self._before + b'"', b'"' + self._after_thought
        return None

    def _frame_texts(self) -> None:
        """What stands around a text in each of its events."""
        opening, closing = (b"data: ", b"\r\n\r\n") if self._events else (b",\r\n", b"")
        head = splice.dumps(self._head)[1:]
        self._before = opening + b'{"candidates":[{"content":{"role":"model","parts":[{"text":'
        self._after = b'}]},"index":0}],' + head + closing
        self._after_thought = b',"thought":true' + self._after

    def _framed(self, body: bytes) -> bytes:
        if self._events:
            return b"data: %b\r\n\r\n" % body
        opening = b",\r\n" if self._begun else b"["
        return opening + body

    def _put(self, part: dict[str, Any]) -> bytes:
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        out = self._framed(splice.dumps({"candidates": [candidate], **self._head}))
        self._begun = True
        return out

    def _words(self, text: str) -> bytes:
        self._said.append(text)
        if self._kind == "text":
            return self._put(self._carrying({"text": text}))
        return self._put({"text": text, "thought": True})

    def _thinking(self) -> bytes:
        # It may last long: the answer has begun, and nobody else shall be asked for one.
        return b"" if self._begun else self._put({"text": ""})

    def _signed(self, signature: str) -> bytes:
        part: dict[str, Any] = {"text": ""}
        if self._kind == "reasoning":
            part["thought"] = True
        return self._put({**part, "thoughtSignature": signature})

    def _last(self, members: dict[str, Any]) -> bytes:
        out = self._framed(self._response([self._carrying({"text": ""})], members))
        return out if self._events else out + b"]"


@implementer(IEventWriter)
class WholeWriter(_Answer):
    """Writes an answer that is one JSON object."""

    __slots__ = ("_parts",)

    def __init__(self, context: AnswerContext) -> None:
        super().__init__(context)
        self._parts: list[dict[str, Any]] = []

    def fail(self, error: RouterError) -> bytes:
        """See :meth:`mportrouter.interfaces.IEventWriter.fail`."""
        return b""

    def template(self) -> None:
        """Nothing is written before the end."""

    def _put(self, part: dict[str, Any]) -> bytes:
        self._parts.append(part)
        return b""

    def _words(self, text: str) -> bytes:
        self._said.append(text)
        return b""

    def _signed(self, signature: str) -> bytes:
        self._parts.append({**self._part("".join(self._said)), "thoughtSignature": signature})
        self._kind += " signed"
        return b""

    def _part(self, text: str) -> dict[str, Any]:
        return {"text": text, "thought": True} if self._kind.startswith("reasoning") else {"text": text}

    def _close(self) -> bytes:
        # What was signed is written, and has another kind.
        if self._said and (self._kind == "text" or (self._kind == "reasoning" and self._show)):
            part = self._part("".join(self._said))
            self._put(part if "thought" in part else self._carrying(part))
        self._kind = self._kind.removesuffix(" signed")
        return super()._close()

    def _last(self, members: dict[str, Any]) -> bytes:
        if self._pending is not None or not self._parts:
            self._parts.append(self._carrying({"text": ""}))
        return self._response(self._parts, members)
