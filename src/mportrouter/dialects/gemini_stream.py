"""
Reads Gemini answers: a stream of server-sent events, one JSON object, or the array of a stream without ``alt=sse``.

Each event is a whole ``GenerateContentResponse`` with the new parts only; usage and grounding may follow the reason why
the model stopped, so nothing ends before the body does (https://ai.google.dev/api/generate-content).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from zope.interface import implementer

from .. import splice, sse
from ..conversation import Foreign, Opaque, Tool, WebSearch
from ..errors import Kind, Verdict
from ..events import Cite, Close, Delta, End, Event, Failed, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import IEventReader, Target
from ..tool_names import made_up, restored
from . import gemini_grounding
from .gemini_arguments import Arguments
from .gemini_chunks import BROKEN, STOPS, UNSPECIFIED, garbage, note, text, trouble_in, usage_of
from .gemini_reading import DIALECT, compact

#: Bytes of an answer that is not a stream of events, past which it is given up.
WHOLE_LIMIT = 64 * 1024 * 1024

_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(dict[str, Any]).decode
#: What must stand in an event that cannot be read for it to have mattered.
_TELLING = (b"finishReason", b"functionCall", b'"error"', b"blockReason")


def _loose_at(data: bytes, line: bool) -> int:
    """
    Where JSON stands on a line of its own, without ``data:``; -1: nowhere.

    :param line: the first byte is a line's first.
    """
    if line and data[:1] in (b"{", b"["):
        return 0
    found = [at + 1 for mark in (b"\n{", b"\n[", b"\r{", b"\r[") if (at := data.find(mark)) >= 0]
    return min(found) if found else -1


@implementer(IEventReader)
class GeminiEvents:
    """
    :param stream: the answer is an event stream (an array or object in its place is read too).
    :param target: who answers.
    :param names: see :attr:`mportrouter.interfaces.Prepared.names`.
    :param request_id: ids that are made up come from it.
    """

    __slots__ = (
        "_arguments", "_before", "_began", "_bytes", "_call", "_ended", "_feedback", "_finish", "_framer", "_grounding",
        "_held", "_ids", "_key", "_kind", "_line", "_loose", "_message", "_names", "_next", "_prefix", "_request_id",
        "_said", "_seen", "_size", "_skipped", "_tail", "_tallied", "_target", "_usage",
    )  # fmt: skip

    def __init__(
        self, stream: bool, target: Target, names: Mapping[str, Tool] | None = None, request_id: str = ""
    ) -> None:
        self._target = target
        self._names: Mapping[str, Tool] = names or {}
        self._request_id = request_id
        self._framer = sse.Framer()
        self._prefix = stream  # the form of the body is still to be seen
        self._loose = not stream  # it is JSON
        self._line = False  # the next byte is a line's first
        self._tail = False  # events were followed by JSON on lines of its own, as errors in mid-stream are
        self._held: list[bytes] = []  # of a body that is JSON, or that tail
        self._size = 0
        self._bytes = False  # anything came at all
        self._began = self._ended = False
        self._next = 0  # key of the next part
        self._key = -1  # of the open part
        self._kind = ""  # of the open part, "": none is open
        self._said: list[str] = []  # of the open text
        self._before = 0  # bytes of texts before it
        self._seen = False  # there was any content
        self._finish = ""
        self._message = ""
        self._feedback: Mapping[str, Any] | None = None
        self._usage: Mapping[str, Any] | None = None
        self._tallied: Mapping[str, Any] | None = None
        self._grounding: dict[str, Any] = {}
        self._ids: set[str] = set()
        self._call: dict[str, Any] | None = None  # a call whose arguments come in pieces
        self._arguments = Arguments()
        self._skipped: Verdict | None = None

    def feed(self, data: bytes) -> list[Event]:
        """See :meth:`mportrouter.interfaces.IEventReader.feed`."""
        out: list[Event] = []
        if self._ended or not data:
            return out
        if self._prefix:
            self._bytes = self._bytes or not data.isspace()
            first = data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1]
            if first:
                self._prefix = False
                self._loose = first in b"[{"
        if self._loose or self._tail:
            self._bytes = True
            self._held.append(data)
            self._size += len(data)
            if self._size > WHOLE_LIMIT:
                self._fail(garbage(f"an answer of more than {WHOLE_LIMIT} bytes"), out)
            return out
        start = _loose_at(data, self._line)
        if start >= 0:
            self._tail = True
            self._held.append(data[start:])
            data = data[:start]
        self._line = data.endswith((b"\n", b"\r"))
        framer = self._framer
        framer.feed(data)
        try:
            while (event := framer.next()) is not None:
                self._take(event.data, out)
                if self._ended:
                    break
        except sse.EventTooLarge as error:
            self._fail(garbage(str(error)), out)
        return out

    def finish(self) -> list[Event]:
        """See :meth:`mportrouter.interfaces.IEventReader.finish`."""
        out: list[Event] = []
        if self._ended:
            return out
        if self._loose:
            self._take_whole(b"".join(self._held), out)
        else:
            event = self._framer.finish()
            if event is not None:
                self._take(event.data, out)
            if self._tail and not self._ended:
                self._take(b"".join(self._held), out)
        if not self._ended:
            self._close_answer(out)
        return out

    def template(self, event: bytes) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateReader`."""
        if not self._kind or self._call is not None or event.count(b'"text"') != 1:
            return None
        return sse.around(event, b"text")

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateReader`."""
        if self._kind == "text":
            self._said.append(text)

    # ------------------------------------------------------------------------------------------- events

    def _take_whole(self, body: bytes, out: list[Event]) -> None:
        body = body.strip().removeprefix(b"\xef\xbb\xbf")
        if not body:
            return
        try:
            value = splice.loads(body)
        except splice.Malformed as error:
            self._fail(garbage(f"the answer cannot be read: {error}"), out)
            return
        chunks = value if isinstance(value, list) else [value]
        for chunk in chunks:
            if not isinstance(chunk, dict):
                self._fail(garbage("the answer is not a JSON object"), out)
                return
            self._chunk(chunk, out)
            if self._ended:
                return

    def _take(self, data: bytes, out: list[Event]) -> None:
        """The data of one event."""
        self._bytes = True
        try:
            self._chunk(_decode(data), out)
            return
        except _REFUSED:
            pass
        if data.strip() == b"[DONE]":
            return  # what some gateways add
        try:
            value = splice.loads(data)
        except splice.Malformed:
            value = None
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict):
            self._chunk(value, out)
        elif any(each in data for each in _TELLING):
            self._fail(garbage("an event of the answer cannot be read"), out)
        else:
            self._skipped = garbage("an event of the answer cannot be read")

    def _chunk(self, chunk: Mapping[str, Any], out: list[Event]) -> None:
        if not self._began:
            self._begin(chunk, out)
        if chunk.get("error") is not None:
            self._fail(trouble_in(chunk), out)
            return
        usage = chunk.get("usageMetadata")
        if usage is not None and isinstance(usage, dict) and usage.get("promptTokenCount") is not None:
            self._usage = usage
            if self._tallied is None:
                self._tally(out)
        feedback = chunk.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason") not in (None, *UNSPECIFIED):
            self._feedback = feedback
        candidates = chunk.get("candidates")
        if not isinstance(candidates, list):
            return
        for candidate in candidates:
            if not isinstance(candidate, dict) or candidate.get("index"):
                continue
            content = candidate.get("content")
            if isinstance(content, dict):
                parts = content.get("parts")
                for part in parts if isinstance(parts, list) else ():
                    if isinstance(part, dict):
                        self._part(part, out)
                        if self._ended:
                            return
            if len(candidate) > 1:
                self._candidate(candidate, out)
                if self._ended:
                    return

    def _begin(self, chunk: Mapping[str, Any], out: list[Event]) -> None:
        self._began = True
        out.append(Start(text(chunk, "responseId"), text(chunk, "modelVersion")))

    def _candidate(self, candidate: Mapping[str, Any], out: list[Event]) -> None:
        """What a candidate says beside its content."""
        grounding = candidate.get("groundingMetadata")
        if isinstance(grounding, dict):
            self._grounding.update({name: value for name, value in grounding.items() if value})
        reason = candidate.get("finishReason")
        if not isinstance(reason, str) or not reason or reason in UNSPECIFIED or self._finish:
            return
        self._finish = reason
        self._message = text(candidate, "finishMessage")
        if reason in BROKEN:
            self._fail(garbage(f"the model stopped with {reason}: {self._message}".rstrip(": ")), out)

    # ------------------------------------------------------------------------------------------- parts

    def _part(self, part: Mapping[str, Any], out: list[Event]) -> None:
        text = part.get("text")
        signature = part.get("thoughtSignature")
        if type(text) is str:
            if text:
                kind = "reasoning" if part.get("thought") else "text"
                if self._kind != kind:
                    self._switch(kind, out)
                out.append(Delta(self._key, text))
                if kind == "text":
                    self._said.append(text)
            if signature:
                self._sign(signature, out)
            return
        call = part.get("functionCall")
        if isinstance(call, dict):
            self._take_call(call, signature, out)
            return
        names = [name for name in part if name not in ("thought", "thoughtSignature") and part[name] is not None]
        if names:
            self._shut(out)
            self._seen = True
            out.append(Other(self._new(), Foreign(DIALECT, names[0], part, note(part))))
        elif signature:
            self._sign(signature, out)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _switch(self, kind: str, out: list[Event]) -> None:
        self._shut(out)
        self._seen = True
        self._key, self._kind = self._new(), kind
        out.append(Open(self._key, kind))

    def _shut(self, out: list[Event]) -> None:
        """Close the open part."""
        if not self._kind:
            return
        out.append(Close(self._key))
        if self._kind == "text":
            self._before += sum(len(text.encode("utf-8", "surrogatepass")) for text in self._said)
            self._said = []
        self._kind = ""

    def _opaque(self, signature: Any) -> Opaque | None:
        if not isinstance(signature, str) or not signature:
            return None
        return Opaque(self._target.capabilities.thinking_signature, self._target.model, "thought", signature)

    def _sign(self, signature: Any, out: list[Event]) -> None:
        """A signature of what is open, or of nothing that can be seen. What is signed is over."""
        opaque = self._opaque(signature)
        if opaque is None:
            return
        if self._kind:
            out.append(Sign(self._key, opaque))
            self._shut(out)
        else:
            self._seen = True
            out.append(Hidden(self._new(), opaque))

    def _take_call(self, call: Mapping[str, Any], signature: Any, out: list[Event]) -> None:
        name, pieces = text(call, "name"), call.get("partialArgs")
        if name:
            self._end_call(out)
            if not call.get("willContinue") and not pieces:
                self._give_call(text(call, "id"), name, call.get("args"), signature, out)
                return
            self._call = {"id": text(call, "id"), "name": name, "signature": signature}
            self._arguments = Arguments()
        elif self._call is None:
            if pieces or call.get("args"):
                self._fail(garbage("a function call without a name"), out)
            return
        for piece in pieces if isinstance(pieces, list) else ():
            if not self._arguments.take(piece):
                self._fail(garbage("a piece of a function call's arguments that fits nowhere"), out)
                return
        if not name and not pieces and not call.get("willContinue"):
            self._end_call(out)

    def _end_call(self, out: list[Event]) -> None:
        """The call whose arguments came in pieces is whole; its last piece does not always say so."""
        call, self._call = self._call, None
        if call is not None:
            self._give_call(call["id"], call["name"], self._arguments.value(), call["signature"], out)

    def _give_call(self, id: str, name: str, args: Any, signature: Any, out: list[Event]) -> None:
        if id:
            if id in self._ids:
                return  # the very call once more; one of the same name is another
            self._ids.add(id)
        self._shut(out)
        self._seen = True
        key = self._new()
        opaque = self._opaque(signature)
        tool = restored(self._names, name)
        if tool is None:
            out.append(Open(key, "tool", id, name, opaque=opaque))
        else:
            out.append(Open(key, "tool", id, tool.name, tool.kind == "custom", tool.namespace, opaque))
        text = "{}" if args is None else compact(args)
        if tool is not None and tool.kind == "custom":
            given = args.get("input") if isinstance(args, dict) else None
            text = given if isinstance(given, str) else text
        if text:
            out.append(Delta(key, text))
        out.append(Close(key))

    # ------------------------------------------------------------------------------------------- the end

    def _tally(self, out: list[Event]) -> None:
        usage = self._usage
        searches = len(gemini_grounding.queries(self._grounding)) if self._grounding else 0
        if usage is not None and (usage is not self._tallied or searches):
            self._tallied = usage
            out.append(Tally(usage_of(usage, searches)))

    def _fail(self, verdict: Verdict, out: list[Event]) -> None:
        if not self._began:
            self._began = True
            out.append(Start())
        self._tally(out)
        self._ended = True
        self._held = []
        out.append(Failed(verdict))

    def _close_answer(self, out: list[Event]) -> None:
        """The body is over: say how the answer ended."""
        finish = self._ending(out)
        if finish is None:
            return
        self._end_call(out)
        if self._grounding:
            if self._kind == "text":
                for citation in gemini_grounding.citations(self._grounding, "".join(self._said), self._before):
                    out.append(Cite(self._key, citation))
            self._shut(out)
            self._search(out)
        else:
            self._shut(out)
        self._tally(out)
        self._ended = True
        out.append(finish)
        out.append(End())

    def _ending(self, out: list[Event]) -> Finish | None:
        """Why the answer is over; ``None``: it is broken."""
        reason = self._finish
        if reason:
            stop = STOPS.get(reason)
            if stop is None:
                if not self._seen:
                    self._fail(garbage(f"the model gave no answer: {reason} {self._message}".rstrip()), out)
                    return None
                stop = "end"
            category = reason if stop == "content_filter" else None
            return Finish(stop, None, self._message if category else "", category)
        if self._feedback is not None:
            blocked = str(self._feedback["blockReason"])
            words = text(self._feedback, "blockReasonMessage") or f"the prompt was blocked ({blocked})"
            return Finish("refusal", None, words, blocked)
        # JSON that could be read is whole, whatever it forgets to say.
        if self._seen and (self._loose or (self._target.capabilities.lenient_done and self._call is None)):
            return Finish("end")
        if not self._bytes:
            self._fail(garbage("the answer is empty"), out)
        elif self._skipped is not None:
            self._fail(self._skipped, out)
        elif self._loose:
            self._fail(garbage("the answer has no candidate that came to an end"), out)
        else:
            self._fail(Verdict(Kind.CUT, "the stream ended before its end", retry_same=True, status=200), out)
        return None

    def _search(self, out: list[Event]) -> None:
        asked = gemini_grounding.queries(self._grounding)
        found = gemini_grounding.hits(self._grounding)
        for index, query in enumerate(asked):
            id = made_up("ws_", self._request_id, index)
            # Nothing tells which query found a page.
            search = WebSearch(id, query, found if index == 0 else (), (self._grounding,), DIALECT)
            out.append(Searched(self._new(), search))
