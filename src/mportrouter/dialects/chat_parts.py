"""The parts of a Chat answer, out of deltas or a whole message: what the streamed and the whole reader share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import splice
from ..conversation import Citation, Foreign, Opaque, Tool
from ..errors import Kind, Verdict
from ..events import Cite, Close, Delta, Event, Failed, Finish, Hidden, Open, Other, Sign
from ..interfaces import Target
from .chat_calls import Calls
from .chat_chunks import Call, Choice, Words, garbage, trouble_of
from .chat_thinking import ThinkingSplitter

DIALECT = "openai-chat"

#: What ``finish_reason`` means; vendors have names of their own.
_STOPS = {
    "stop": "end",
    "eos": "end",
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "length": "length",
    "max_tokens": "length",
    "model_length": "context_full",
    "model_context_window_exceeded": "context_full",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "tool_use": "tool_use",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
}
#: Reasons that are errors.
_BROKEN = {
    "error": Kind.UPSTREAM,
    "abort": Kind.UPSTREAM,
    "network_error": Kind.UPSTREAM,
    "insufficient_system_resource": Kind.OVERLOADED,
}


def origin(target: Target) -> str:
    """
    Whose opaque state an answer of this upstream carries.

    A column that was left at its default would name Anthropic, which no upstream of this dialect speaks for.
    """
    signer = target.capabilities.thinking_signature
    return target.provider if signer == "anthropic" else signer


class Parts:
    """
    Gives the events of one answer's parts, as its words come.

    :param target: who answers.
    :param names: see :attr:`mportrouter.interfaces.Prepared.names`.
    :param stops: stop sequences that were asked for.
    :param partial: some of the words are not shown to it: what is missing is no fault of the answer.
    :ivar kind: of the part that is open: ``text``, ``reasoning``, ``refusal``, or ``""``.
    :ivar key: its key.
    :ivar seen: whether any part has come.
    :ivar said: the pieces of the text that is open.
    """

    __slots__ = (
        "_before", "_calls", "_details", "_model", "_next", "_origin", "_partial", "_plain", "_refused",
        "_splitter", "_stops", "finished", "key", "kind", "said", "seen", "tags",
    )  # fmt: skip

    def __init__(
        self, target: Target, names: Mapping[str, Tool], stops: tuple[str, ...], partial: bool = False
    ) -> None:
        capabilities = target.capabilities
        self._origin = origin(target)
        self._model = target.model
        self._stops = stops
        self._partial = partial
        self._calls = Calls(names, capabilities.cumulative_arguments, self._origin, self._model)
        self._splitter = ThinkingSplitter()
        self._details: list[dict[str, Any]] = []
        self._plain = False  # reasoning has come in a member of its own
        self._refused: list[str] = []
        self._next = 0
        self._before = 0  # characters of content in text parts that were closed
        self.tags = capabilities.think_tags
        self.finished = False
        self.key = -1
        self.kind = ""
        self.seen = False
        self.said: list[str] = []

    def take(self, words: Words, out: list[Event]) -> None:
        """Take a delta or a message: reasoning, then text, then calls, as they follow each other in a model's turn."""
        thought = words.reasoning_content or words.reasoning
        self._plain = self._plain or bool(thought)
        if words.reasoning_details:
            told = self._note(words.reasoning_details)
            # Where another member has the words, the entries repeat them.
            thought = thought if self._plain else told
        if thought:
            self._delta("reasoning", thought, out)
        content = words.content
        if content:
            if isinstance(content, list):
                self._take_list(content, out)
            else:
                self.take_text(content, out)
        if words.refusal:
            self._refused.append(words.refusal)
            self._delta("refusal", words.refusal, out)
        if words.annotations and self.kind == "text":
            self._cite(words.annotations, out)
        for image in words.images or ():
            if isinstance(image, dict):
                self.close(out)
                out.append(Other(self._key(), Foreign(DIALECT, "image_url", image)))
        if words.tool_calls:
            for call in words.tool_calls:
                self._call(call, out)
        elif words.function_call is not None and (words.function_call.name or words.function_call.arguments):
            self._call(Call(index=-1, function=words.function_call), out)

    def take_text(self, text: str, out: list[Event]) -> None:
        """Take content that is not empty."""
        if not self.tags:
            self._delta("text", text, out)
            return
        for thinking, piece in self._splitter.feed(text):
            self._delta("reasoning" if thinking else "text", piece, out)

    def close(self, out: list[Event]) -> None:
        """Close the part that is open, if any; calls stay open until the end."""
        kind = self.kind
        if not kind:
            return
        if kind == "reasoning":
            out.append(Sign(self.key, self._opaque() or Opaque(self._origin, self._model, "text", "")))
        elif kind == "text":
            self._before += sum(map(len, self.said))
            self.said.clear()
        out.append(Close(self.key))
        self.kind = ""

    def settle(self, out: list[Event]) -> bool:
        """
        The model stopped: close everything.

        :returns: ``False`` where that would make a broken call look whole.
        """
        for thinking, piece in self._splitter.finish():
            self._delta("reasoning" if thinking else "text", piece, out)
        self.close(out)
        opaque = self._opaque()
        if opaque is not None:
            out.append(Hidden(self._key(), opaque))
        return self._calls.close_all(out) or self._partial

    def finish(self, choice: Choice, reason: str, out: list[Event]) -> bool:
        """
        Take a reason to stop.

        :returns: whether the answer is broken: the last event then is ``Failed``.
        """
        if choice.error or reason in _BROKEN:
            said = trouble_of(choice.error) if choice.error else None
            kind = _BROKEN.get(reason, Kind.UPSTREAM)
            out.append(Failed(said or Verdict(kind, f"the upstream stopped: {reason}", retry_same=True)))
            return True
        if not self.settle(out):
            out.append(Failed(garbage("a tool call has no name")))
            return True
        if self.finished:
            return False
        stop = _STOPS.get(reason)
        if stop is None:
            if not self.seen:
                out.append(Failed(garbage(f"the upstream stopped without an answer: {reason[:60]}")))
                return True
            stop = "end"
        self.finished = True
        if stop == "end":
            sequence = choice.stop_reason if isinstance(choice.stop_reason, str) else choice.matched_stop
            if isinstance(sequence, str) and sequence in self._stops:
                out.append(Finish("stop_sequence", sequence))
                return False
            if self._refused:
                stop = "refusal"
        out.append(Finish(stop, explanation="".join(self._refused)))
        return False

    # ---- one part

    def _delta(self, kind: str, text: str, out: list[Event]) -> None:
        if self.kind != kind:
            self.close(out)
            if self._calls:
                self._calls.open_all(out)
            self.kind = kind
            self.key = self._key()
            out.append(Open(self.key, kind))
        if kind == "text":
            self.said.append(text)
        out.append(Delta(self.key, text))

    def _key(self) -> int:
        self.seen = True
        self._next += 1
        return self._next - 1

    def _call(self, call: Call, out: list[Event]) -> None:
        if self.kind:
            self.close(out)
        if self._calls.take(call, self._next, out):
            self._key()

    def _take_list(self, content: list[Any], out: list[Event]) -> None:
        """Content in parts, as Mistral gives it."""
        for part in content:
            if isinstance(part, str):
                part = {"text": part}
            if not isinstance(part, dict):
                continue
            thinking = part.get("thinking")
            if isinstance(thinking, list):
                texts = [inner.get("text") for inner in thinking if isinstance(inner, dict)]
                thinking = "".join(text for text in texts if isinstance(text, str))
            if isinstance(thinking, str) and thinking:
                self._delta("reasoning", thinking, out)
            text = part.get("text")
            if isinstance(text, str) and text:
                self.take_text(text, out)

    # ---- what stands beside the words

    def _note(self, details: list[Any]) -> str:
        """
        Keep what an aggregator must be given back (https://openrouter.ai/docs, "Reasoning tokens"), pieces of one entry
        put together.

        :returns: its text.
        """
        texts: list[str] = []
        for detail in details:
            if not isinstance(detail, dict):
                continue
            texts.extend(text for text in (detail.get("text"), detail.get("summary")) if isinstance(text, str))
            last = self._details[-1] if self._details else None
            if (
                last is not None
                and last.get("type") == detail.get("type")
                and last.get("index") == detail.get("index")
                and detail.get("index") is not None
            ):
                for name, value in detail.items():
                    known = last.get(name)
                    if name in ("text", "summary", "data") and isinstance(known, str) and isinstance(value, str):
                        last[name] = known + value
                    elif value is not None:
                        last[name] = value
            else:
                self._details.append(dict(detail))
        return "".join(texts)

    def _opaque(self) -> Opaque | None:
        details = self._details
        if not any(detail.get("signature") or detail.get("data") for detail in details):
            return None
        self._details = []
        return Opaque(self._origin, self._model, "encrypted", splice.dumps(details).decode())

    def _cite(self, annotations: list[Any], out: list[Event]) -> None:
        text = "".join(self.said)
        for annotation in annotations:
            cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
            if not isinstance(cited, dict) or not isinstance(cited.get("url"), str):
                continue
            start, end = (_offset(cited.get(name), self._before, len(text)) for name in ("start_index", "end_index"))
            if start is None or end is None or end <= start:
                start = end = None
            title = cited.get("title")
            citation = Citation(
                cited["url"],
                title if isinstance(title, str) else "",
                "" if start is None else text[start:end],
                start,
                end,
                annotation,
                DIALECT,
            )
            out.append(Cite(self.key, citation))


def _offset(value: Any, before: int, size: int) -> int | None:
    """A place in the whole content as one in the part that is open."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value - before if 0 <= value - before <= size else None
