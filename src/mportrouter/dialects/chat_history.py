"""Instructions and turns of a neutral conversation as messages of the Chat dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import media
from ..conversation import (
    CacheMark,
    Conversation,
    Document,
    Foreign,
    Image,
    Part,
    Reasoning,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from ..interfaces import Inexpressible, Target
from ..tool_names import ToolNames
from .chat_content import ERROR_MARK
from .chat_messages import details_in
from .chat_thinking import tagged
from .chat_words import spelt

#: What stands for reasoning that is wanted back and is lost: servers refuse a message without any.
_LOST = " "
#: What a provider of thought signatures takes for one that never was (ai.google.dev, "Thought signatures").
_NO_SIGNATURE = "skip_thought_signature_validator"
#: Lifetimes of cache marks as OpenAI knows them; the shortest is its default.
_LIFETIMES = {"1h": "12h", "12h": "12h"}


class History:
    """
    Writes turns that :func:`mportrouter.repair.repair` has put in order.

    :param thinking: reasoning is on: upstreams that want it back want it in every message.
    :param notes: what was left out is added here.
    """

    def __init__(
        self, conversation: Conversation, target: Target, names: ToolNames, thinking: bool, notes: dict[str, None]
    ) -> None:
        capabilities = target.capabilities
        self._dialect = conversation.dialect
        self._capabilities = capabilities
        self._names = names
        self._notes = notes
        self._mark = {"prompt_cache_breakpoint": _breakpoint, "cache_control": _cache_control}.get(
            capabilities.cache_marks
        )
        self._field = capabilities.reasoning_field
        self._fill = thinking and capabilities.reasoning_echo == "required"

    def messages(self, system: Sequence[Text], turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """:raises Inexpressible: for what the target cannot be shown."""
        out: list[dict[str, Any]] = []
        if system:
            out.append({"role": self._capabilities.system_role, "content": self._instructions(system)})
        run: list[Turn] = []
        for turn in turns:
            if turn.role == "assistant":
                run.append(turn)
                continue
            if run:
                out.append(self._assistant(run))
                run = []
            if turn.role == "system":
                texts = [part for part in turn.parts if isinstance(part, Text)]
                out.append({"role": self._capabilities.system_role, "content": self._instructions(texts)})
            else:
                out += self._user(turn)
        if run:
            out.append(self._assistant(run))
        return out

    def _instructions(self, texts: Sequence[Text]) -> str | list[dict[str, Any]]:
        if self._mark is not None and any(text.cache is not None for text in texts):
            return self._joined([self._text(text) for text in texts])
        return "\n\n".join(text.text for text in texts)

    # ------------------------------------------------------------------------------------------- the assistant

    def _assistant(self, turns: Sequence[Turn]) -> dict[str, Any]:
        texts: list[str] = []
        pieces: list[dict[str, Any]] = []
        marked = False
        thoughts: list[str] = []
        details: list[Any] = []
        calls: list[dict[str, Any]] = []
        for index, turn in enumerate(turns):
            begun = bool(texts) and index > 0
            for part in turn.parts:
                kind = type(part)
                if isinstance(part, (Text, Refusal)):
                    if part.text:
                        # Blocks of one message are one text that citations split; messages are apart.
                        if begun:
                            texts.append("\n")
                            begun = False
                        texts.append(part.text)
                        if isinstance(part, Text):
                            pieces.append(self._text(part))
                            marked = marked or (self._mark is not None and part.cache is not None)
                        else:
                            pieces.append({"type": "text", "text": part.text})
                elif kind is ToolCall:
                    calls.append(self._call(part))  # type: ignore[arg-type]
                elif isinstance(part, Reasoning):
                    if part.text:
                        thoughts.append(part.text)
                    if part.opaque is not None:
                        details += details_in(part.opaque) or ()
                elif not isinstance(part, Foreign):
                    self._notes["media in an assistant's message"] = None
        content: Any = "".join(texts)
        reasoning = "\n\n".join(thoughts)
        if self._capabilities.think_tags and not self._field and reasoning:
            content = tagged(reasoning, content)
        elif marked and not self._capabilities.string_content_only:
            content = pieces
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
        if self._field:
            self._echo(message, reasoning, details)
        if calls:
            if self._capabilities.thought_signature == "required" and "extra_content" not in calls[0]:
                # The first call of a step alone has one.
                calls[0]["extra_content"] = {"google": {"thought_signature": _NO_SIGNATURE}}
            message["tool_calls"] = calls
        return message

    def _echo(self, message: dict[str, Any], reasoning: str, details: list[Any]) -> None:
        field = self._field
        if field == "reasoning_details":
            field = "reasoning"
            if details:
                message["reasoning_details"] = details
        if reasoning or self._fill:
            message[field] = reasoning or _LOST

    def _call(self, call: ToolCall) -> dict[str, Any]:
        names = self._names
        written: dict[str, Any] = {
            "id": call.id,
            "type": "function",
            "function": {"name": names.wire(call.name, call.namespace), "arguments": names.arguments(call)},
        }
        opaque = call.opaque
        if opaque is not None and opaque.kind == "thought" and self._capabilities.thought_signature != "none":
            written["extra_content"] = {"google": {"thought_signature": opaque.value}}
        return written

    # ------------------------------------------------------------------------------------------- the user

    def _user(self, turn: Turn) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        rest: list[Part] = []
        shown: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, ToolResult):
                out.append(self._result(part, shown))
            else:
                rest.append(part)
        content = [piece for part in rest for piece in self._pieces(part)]
        if shown and (self._capabilities.strict_role_alternation or not content):
            shown += content
            content = []
        out += [{"role": "user", "content": self._joined(each)} for each in (shown, content) if each]
        return out

    def _result(self, result: ToolResult, shown: list[dict[str, Any]]) -> dict[str, Any]:
        """:param shown: takes what a tool's message cannot show."""
        texts: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for part in result.parts:
            for piece in self._pieces(part):
                (texts if piece["type"] == "text" else others).append(piece)
        if result.is_error:
            if texts:
                texts[0]["text"] = ERROR_MARK + texts[0]["text"]
            else:
                texts.append({"type": "text", "text": ERROR_MARK})
        content: Any = "\n".join(piece["text"] for piece in texts)
        if others:
            where = self._capabilities.tool_images
            if where == "in_tool":
                content = texts + others
            elif where == "none":
                raise Inexpressible(
                    f"`{self._word('image')}` in a tool's result cannot be shown to this upstream's model"
                )
            else:
                shown += [{"type": "text", "text": f"[media returned by tool call {result.call_id}]"}, *others]
        elif self._mark is not None and not self._capabilities.string_content_only:
            cache = result.cache or next((part.cache for part in result.parts if isinstance(part, Text)), None)
            if cache is not None:
                content = [{"type": "text", "text": content, **self._mark(cache)}]
        return {"role": "tool", "tool_call_id": result.call_id, "content": content}

    def _joined(self, pieces: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        """Content of these parts: a plain text where it is one, and where nothing else is taken."""
        if len(pieces) == 1 and len(pieces[0]) == 2 and pieces[0]["type"] == "text":
            return str(pieces[0]["text"])
        if not self._capabilities.string_content_only:
            return pieces
        if any(piece["type"] != "text" for piece in pieces):
            raise Inexpressible("this upstream takes nothing but text")
        return "\n".join(piece["text"] for piece in pieces)

    def _pieces(self, part: Part) -> list[dict[str, Any]]:
        """A part as the dialect's; a document may be several."""
        if isinstance(part, Text):
            return [self._text(part)] if part.text else []
        if isinstance(part, Image):
            return [self._marked(self._image(part), part.cache)]
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Sound):
            form = media.audio_format(part.media)
            if part.media.kind != "base64" or not form:
                kind = part.media.media_type or "an unknown type"
                raise Inexpressible(f"`{self._word('audio')}` of {kind} cannot be sent to this upstream")
            sound = {"type": "input_audio", "input_audio": {"data": media.settle(part.media).value, "format": form}}
            return [self._marked(sound, part.cache)]
        if isinstance(part, Foreign):
            return [dict(part.raw)]
        text = getattr(part, "text", "")
        return [{"type": "text", "text": text}] if text else []

    def _text(self, part: Text) -> dict[str, Any]:
        return self._marked({"type": "text", "text": part.text}, part.cache)

    def _marked(self, piece: dict[str, Any], cache: CacheMark | None) -> dict[str, Any]:
        if cache is not None and self._mark is not None:
            piece.update(self._mark(cache))
        return piece

    def _image(self, part: Image) -> dict[str, Any]:
        capabilities, word = self._capabilities, self._word("image")
        if capabilities.images != "honoured":
            raise Inexpressible(f"`{word}`: this upstream's model does not see pictures")
        shown = part.media
        if shown.kind == "file":
            raise Inexpressible(f"`{word}`: a file id is known to its own provider only; send the bytes")
        if shown.kind == "url":
            if not capabilities.url_images:
                raise Inexpressible(f"`{word}`: this upstream takes no pictures by URL; send the bytes")
            url = shown.value
        else:
            url = media.data_url(media.settle(shown))
        image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
        return {"type": "image_url", "image_url": image}

    def _document(self, part: Document) -> list[dict[str, Any]]:
        shown, word = part.media, self._word("document")
        before = [{"type": "text", "text": part.context}] if part.context else []
        if shown.kind == "text":
            head = part.title or shown.filename
            text = f"{head}\n\n{shown.value}" if head else shown.value
            return [*before, self._marked({"type": "text", "text": text}, part.cache)]
        if shown.kind == "parts":
            if part.title:
                before.insert(0, {"type": "text", "text": part.title})
            return [*before, *(piece for inner in shown.parts for piece in self._pieces(inner))]
        if self._capabilities.documents != "honoured":
            raise Inexpressible(f"`{word}`: this upstream's model does not read documents")
        if shown.kind == "file":
            raise Inexpressible(f"`{word}`: a file id is known to its own provider only; send the bytes")
        if shown.kind == "url":
            raise Inexpressible(f"`{word}`: this upstream takes no documents by URL; send the bytes")
        settled = media.settle(shown)
        name = shown.filename or part.title or media.filename(settled)
        file = {"filename": name, "file_data": media.data_url(settled)}
        return [*before, self._marked({"type": "file", "file": file}, part.cache)]

    def _word(self, name: str) -> str:
        return spelt(self._dialect, name)


def _breakpoint(cache: CacheMark) -> dict[str, Any]:
    mark = {"mode": "explicit"}
    if cache.ttl in _LIFETIMES:
        mark["ttl"] = _LIFETIMES[cache.ttl]
    return {"prompt_cache_breakpoint": mark}


def _cache_control(cache: CacheMark) -> dict[str, Any]:
    mark = {"type": "ephemeral"}
    if cache.ttl in ("1h", "12h"):
        mark["ttl"] = "1h"
    return {"cache_control": mark}
