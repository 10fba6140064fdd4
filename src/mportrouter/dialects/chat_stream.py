"""
Readers of Chat answers: a stream of chunks, or one JSON object (https://platform.openai.com/docs/api-reference/chat).

Compatible servers vary the stream in every way there is; ``docs/architecture.rst`` ("Streams") names the variants. What
is held on to: nothing but ``[DONE]`` or the end of the body after a reason to stop is a whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from zope.interface import implementer

from .. import sse
from ..conversation import Tool
from ..errors import Kind, Verdict
from ..events import Delta, End, Event, Failed, Finish, Start, Tally
from ..interfaces import IEventReader, Target
from . import chat_usage
from .chat_chunks import REFUSED, Chunk, decode, garbage, trouble_in
from .chat_frames import Frames
from .chat_parts import Parts
from .chat_usage import Counts

#: Bytes of an answer that is not streamed, past which it is given up.
WHOLE_LIMIT = 64 * 1024 * 1024
#: What must stand in a chunk that cannot be read for it to have mattered.
_TELLING = (b'"tool_calls"', b'"function_call"', b'finish_reason":"', b'finish_reason": "', b'"error"')
#: What stands in a chunk that tells more than its text.
_CHANGING = (b'"usage":{', b'"usage": {', b'"x_groq"', b'"reasoning_details"')

_chunk = msgspec.json.Decoder(Chunk).decode


@implementer(IEventReader)
class ChatStream:
    """
    Reads a stream.

    :param target: who answers.
    :param names: see :attr:`mportrouter.interfaces.Prepared.names`.
    :param stops: stop sequences that were asked for.
    :param partial: only some of the events are shown to it, see :class:`mportrouter.tee.Tee`.
    :param fold: only one choice was asked for: whatever comes belongs to it, also what some servers put into others.
    """

    __slots__ = (
        "_begun", "_bytes", "_counts", "_ended", "_fold", "_frames", "_lenient", "_parts", "_skipped",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        names: Mapping[str, Tool] | None = None,
        stops: tuple[str, ...] = (),
        fold: bool = True,
        partial: bool = False,
    ) -> None:
        self._parts = Parts(target, names or {}, stops, partial)
        self._frames = Frames()
        self._lenient = target.capabilities.lenient_done
        self._fold = fold
        self._counts: Counts | None = None
        self._begun = False
        self._ended = False
        self._bytes = False  # anything came at all
        self._skipped: Verdict | None = None

    def feed(self, data: bytes) -> list[Event]:
        out: list[Event] = []
        if self._ended or not data:
            return out
        self._bytes = True
        frames, take = self._frames, self._take
        for event in frames.feed(data):
            take(event, out)
            if self._ended:
                return out
        if frames.broken:
            self._fail(garbage(frames.broken), out)
        return out

    def finish(self) -> list[Event]:
        out: list[Event] = []
        if self._ended:
            return out
        event = self._frames.finish()
        if event is not None:
            self._take(event, out)
        if self._ended:
            return out
        if self._frames.loose is not None:
            self._take_loose(bytes(self._frames.loose), out)
        if self._ended:
            return out
        if self._parts.finished:
            self._end(out)
        elif self._skipped is not None:
            self._fail(self._skipped, out)
        elif not self._bytes:
            self._fail(garbage("the answer is empty"), out)
        else:
            self._fail(Verdict(Kind.CUT, "the stream ended before its end", retry_same=True, status=200), out)
        return out

    def template(self, event: bytes) -> tuple[bytes, bytes] | None:
        """See :class:`mportrouter.translator.TemplateReader`."""
        parts = self._parts
        if parts.finished or any(mark in event for mark in _CHANGING):
            return None
        if parts.kind == "text":
            return None if parts.tags else sse.around(event, b"content")
        if parts.kind == "reasoning":
            return None if parts.tags else sse.around(event, b"reasoning_content") or sse.around(event, b"reasoning")
        return None

    def passed(self, text: str) -> None:
        """See :class:`mportrouter.translator.TemplateReader`."""
        if self._parts.kind == "text":
            self._parts.said.append(text)

    def _take(self, data: bytes, out: list[Event]) -> None:
        try:
            chunk = _chunk(data)
        except REFUSED:
            self._take_odd(data, out)
            return
        self._take_chunk(chunk, out)

    def _take_chunk(self, chunk: Chunk, out: list[Event]) -> None:
        choices = chunk.choices
        if (
            not self._begun or not choices or chunk.error or chunk.base_resp or chunk.x_groq
        ) and not self._take_special(chunk, out):
            return
        if chunk.usage is not None:
            self._counts = chunk.usage
        parts = self._parts
        for choice in choices or ():
            if choice.index and not self._fold:
                continue
            words = choice.delta
            if words is not None:
                content = words.content
                if (
                    content
                    and parts.kind == "text"
                    and type(content) is str
                    and not parts.tags
                    and words.tool_calls is None
                    and not words.reasoning_content
                    and not words.reasoning
                    and not words.refusal
                    and words.reasoning_details is None
                    and words.annotations is None
                    and words.images is None
                    and words.function_call is None
                ):
                    # By far the most frequent case, without the questions of all others.
                    parts.said.append(content)
                    out.append(Delta(parts.key, content))
                else:
                    parts.take(words, out)
            elif choice.message is not None and not parts.seen:
                parts.take(choice.message, out)
            if choice.usage is not None:
                self._counts = choice.usage
            reason = choice.finish_reason
            if (reason or choice.error) and parts.finish(choice, reason or "error", out):
                self._broken(out)
                return

    def _take_special(self, chunk: Chunk, out: list[Event]) -> bool:
        """
        The first chunk, those without choices, and errors.

        :returns: whether what is in its choices is to be read.
        """
        if chunk.usage is not None:
            self._counts = chunk.usage
        if chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._counts = chunk.x_groq.usage
        trouble = trouble_in(chunk)
        if trouble is not None:
            self._fail(trouble, out)
            return False
        if not chunk.choices:
            return False
        if not self._begun:
            self._begun = True
            out.append(Start(chunk.id or "", chunk.model or ""))
        return True

    def _take_odd(self, data: bytes, out: list[Event]) -> None:
        """``[DONE]``, and what msgspec does not take."""
        stripped = data.strip()
        if stripped == b"[DONE]":
            self._done(out)
        elif stripped:
            chunk = decode(stripped)
            if chunk is not None:
                self._take_chunk(chunk, out)
            elif any(mark in stripped for mark in _TELLING):
                self._fail(garbage("an event of the stream is no JSON"), out)
            else:
                self._skipped = garbage("an event of the stream is no JSON")

    def _take_loose(self, text: bytes, out: list[Event]) -> None:
        """JSON between events: an error that the server did not frame, or a whole answer in place of a stream."""
        chunk = decode(text.strip().removeprefix(b"data:").strip())
        if chunk is None:
            chunk = decode(text.partition(b"\n\n")[0])
        if chunk is None:
            return
        trouble = trouble_in(chunk)
        if trouble is not None:
            self._fail(trouble, out)
        elif not self._begun and chunk.choices:
            _read_whole(chunk, self._parts, out, self._counts)
            self._ended = True

    def _done(self, out: list[Event]) -> None:
        parts = self._parts
        if not parts.finished:
            if not (self._lenient and parts.seen):
                kind = Kind.CUT if parts.seen else Kind.GARBAGE
                self._fail(Verdict(kind, "the stream ended without a reason to stop", retry_same=True, status=200), out)
                return
            if not parts.settle(out):
                self._fail(garbage("a tool call has no name"), out)
                return
            out.append(Finish("end"))
        self._end(out)

    def _end(self, out: list[Event]) -> None:
        if not self._parts.settle(out):
            self._fail(garbage("a tool call has no name"), out)
            return
        self._tally(out)
        out.append(End())
        self._ended = True

    def _broken(self, out: list[Event]) -> None:
        """The parts have failed: the usage, which is owed all the same, stands before the last event."""
        failed = out.pop()
        self._tally(out)
        out.append(failed)
        self._ended = True

    def _fail(self, verdict: Verdict, out: list[Event]) -> None:
        out.append(Failed(verdict))
        self._broken(out)

    def _tally(self, out: list[Event]) -> None:
        usage = None if self._counts is None else chat_usage.read(self._counts)
        if usage is not None:
            out.append(Tally(usage))


@implementer(IEventReader)
class ChatWhole:
    """
    Reads an answer that is one JSON object: everything comes when it is whole.

    :param target: who answers.
    :param names: see :attr:`mportrouter.interfaces.Prepared.names`.
    :param stops: stop sequences that were asked for.
    """

    __slots__ = ("_failed", "_parts", "_pieces", "_size")

    def __init__(self, target: Target, names: Mapping[str, Tool] | None = None, stops: tuple[str, ...] = ()) -> None:
        self._parts = Parts(target, names or {}, stops)
        self._pieces: list[bytes] = []
        self._size = 0
        self._failed = False

    def feed(self, data: bytes) -> list[Event]:
        if self._failed:
            return []
        self._pieces.append(data)
        self._size += len(data)
        if self._size > WHOLE_LIMIT:
            self._failed = True
            self._pieces.clear()
            return [Failed(garbage(f"an answer of more than {WHOLE_LIMIT} bytes"))]
        return []

    def finish(self) -> list[Event]:
        out: list[Event] = []
        if self._failed:
            return out
        body = b"".join(self._pieces).strip()
        self._pieces.clear()
        if not body:
            return [Failed(garbage("the answer is empty"))]
        chunk = decode(body)
        if chunk is None:
            return [Failed(garbage("the answer is not a JSON object"))]
        trouble = trouble_in(chunk)
        if trouble is not None:
            return [Failed(trouble)]
        _read_whole(chunk, self._parts, out, None)
        return out


def _read_whole(chunk: Chunk, parts: Parts, out: list[Event], counts: Counts | None) -> None:
    """The events of an answer that is whole, the last one included."""
    if not chunk.choices:
        out.append(Failed(garbage("the answer has no choices")))
        return
    out.append(Start(chunk.id or "", chunk.model or ""))
    counts = chunk.usage or counts
    if counts is None and chunk.x_groq is not None:
        counts = chunk.x_groq.usage
    # What some servers put into a second choice belongs to the one that was asked for.
    for choice in chunk.choices:
        words = choice.message or choice.delta
        if words is not None:
            parts.take(words, out)
        counts = counts or choice.usage
    broken = False
    for choice in chunk.choices:
        reason = choice.finish_reason or ("error" if choice.error or not parts.seen else "stop")
        if parts.finish(choice, reason, out):
            broken = True
            break
    usage = None if counts is None else chat_usage.read(counts)
    if usage is not None:
        out.insert(len(out) - broken, Tally(usage))
    if not broken:
        out.append(End())
