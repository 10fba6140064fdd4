"""Turns of a neutral conversation as input items of the OpenAI Responses dialect."""

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
    Media,
    Part,
    Reasoning,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from ..interfaces import Inexpressible, Target
from ..tool_names import ToolNames
from .responses_items import ERROR_MARK, NAME

#: Kinds of opaque state that ``encrypted_content`` holds.
_ENCRYPTED = "encrypted"
#: Lifetimes of cache marks as the dialect knows them; the shortest is its default.
_LIFETIMES = {"1h": "12h", "12h": "12h"}


class Writer:
    """
    Writes turns that :func:`mportrouter.repair.repair` has put in order.

    :param marks: marks of the prompt cache are known there.
    :param notes: what was left out or changed is added here.
    """

    def __init__(
        self, conversation: Conversation, target: Target, names: ToolNames, marks: bool, notes: dict[str, None]
    ) -> None:
        self._dialect = conversation.dialect
        self._capabilities = target.capabilities
        self._names = names
        self._marks = marks
        self._notes = notes

    def turn(self, turn: Turn) -> list[dict[str, Any]]:
        """:raises Inexpressible: for what the target cannot be shown."""
        if turn.role == "assistant":
            return self._assistant(turn)
        items: list[dict[str, Any]] = []
        content: list[dict[str, Any]] = []
        role = self._capabilities.system_role if turn.role == "system" else "user"

        def flush() -> None:
            if content:
                items.append({"type": "message", "role": role, "content": content[:]})
                content.clear()

        for part in turn.parts:
            if isinstance(part, ToolResult):
                flush()
                items.append(self._result(part))
            elif isinstance(part, Foreign) and "role" not in part.raw and _is_item(part.kind):
                flush()
                items.append(dict(part.raw))
            else:
                content += self._content(part)
        flush()
        return items

    # ------------------------------------------------------------------------------------------- the assistant

    def _assistant(self, turn: Turn) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        texts: list[dict[str, Any]] = []

        def flush() -> None:
            if texts:
                message: dict[str, Any] = {"type": "message", "role": "assistant", "content": texts[:]}
                if turn.phase is not None:
                    message["phase"] = turn.phase
                items.append(message)
                texts.clear()

        for part in turn.parts:
            if isinstance(part, Text):
                texts.append({"type": "output_text", "text": part.text})
                continue
            if isinstance(part, Refusal):
                texts.append({"type": "refusal", "refusal": part.text})
                continue
            flush()
            if isinstance(part, ToolCall):
                items.append(self._call(part))
            elif isinstance(part, Reasoning):
                item = self._reasoning(part)
                if item is not None:
                    items.append(item)
            elif isinstance(part, (WebSearch, Foreign)):
                items += [dict(raw) for raw in (part.raw if isinstance(part, WebSearch) else (part.raw,))]
            else:
                # No model gives pictures back as its own words.
                self._notes["media in an assistant's message"] = None
        flush()
        # Reasoning that nothing follows is refused.
        while items and items[-1].get("type") == "reasoning":
            items.pop()
            self._notes["reasoning at the end of a turn"] = None
        return items

    def _call(self, call: ToolCall) -> dict[str, Any]:
        item: dict[str, Any] = {
            "type": "custom_tool_call" if call.custom else "function_call",
            "call_id": call.id,
            "name": self._names.wire(call.name, call.namespace),
            "input" if call.custom else "arguments": self._names.arguments(call),
        }
        if call.namespace:
            item["namespace"] = call.namespace
        return item

    def _reasoning(self, part: Reasoning) -> dict[str, Any] | None:
        opaque = part.opaque
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        if opaque is None:
            # Kept by the repair only where the upstream takes bare text: as the text, not as its summary.
            return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": part.text}]}
        if opaque.kind != _ENCRYPTED:
            self._notes[f"reasoning of {opaque.origin[:64]}"] = None
            return None
        item: dict[str, Any] = {"type": "reasoning"}
        if opaque.item_id is not None:
            item["id"] = opaque.item_id
        item["summary"] = summary
        item["encrypted_content"] = opaque.value
        return item

    # ------------------------------------------------------------------------------------------- the user

    def _result(self, result: ToolResult) -> dict[str, Any]:
        kind = "custom_tool_call_output" if result.custom else "function_call_output"
        return {"type": kind, "call_id": result.call_id, "output": self._output(result.parts, result.is_error)}

    def _output(self, parts: Sequence[Part], is_error: bool) -> str | list[dict[str, Any]]:
        mark = ERROR_MARK if is_error else ""
        if all(isinstance(part, Text) for part in parts):
            return mark + "\n".join(part.text for part in parts if isinstance(part, Text))
        content = [piece for part in parts for piece in self._content(part)]
        if mark:
            if content and content[0]["type"] == "input_text":
                content[0]["text"] = mark + content[0]["text"]
            else:
                content.insert(0, {"type": "input_text", "text": mark})
        return content

    def _content(self, part: Part) -> list[dict[str, Any]]:
        """A part of a message as the dialect's; a document may be several."""
        if isinstance(part, Text):
            return [self._marked({"type": "input_text", "text": part.text}, part.cache)]
        if isinstance(part, Image):
            return [self._marked(self._image(part), part.cache)]
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Sound):
            form = media.audio_format(part.media)
            if part.media.kind != "base64" or not form:
                raise Inexpressible(f"audio of the type {part.media.media_type or 'unknown'} cannot be sent")
            sound = {"type": "input_audio", "input_audio": {"data": part.media.value, "format": form}}
            return [self._marked(sound, part.cache)]
        if isinstance(part, Foreign):
            return [dict(part.raw)]
        text = getattr(part, "text", "")
        return [{"type": "input_text", "text": text}] if text else []

    def _marked(self, piece: dict[str, Any], cache: CacheMark | None) -> dict[str, Any]:
        if cache is not None and self._marks:
            mark: dict[str, Any] = {"mode": "explicit"}
            if cache.ttl in _LIFETIMES:
                mark["ttl"] = _LIFETIMES[cache.ttl]
            piece["prompt_cache_breakpoint"] = mark
        return piece

    def _image(self, part: Image) -> dict[str, Any]:
        capabilities = self._capabilities
        if capabilities.images != "honoured":
            raise Inexpressible("this upstream's model does not see pictures (`image`)")
        shown = part.media
        if shown.kind == "file":
            if self._dialect != NAME:
                raise Inexpressible("`file_id` of a picture is known to its own provider only")
            return {"type": "input_image", "file_id": shown.value, "detail": part.detail or "auto"}
        if shown.kind == "url":
            if not capabilities.url_images:
                raise Inexpressible("this upstream takes no pictures by URL; send the bytes")
            url = shown.value
        else:
            url = media.data_url(media.settle(shown))
        return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}

    def _document(self, part: Document) -> list[dict[str, Any]]:
        shown = part.media
        before = [{"type": "input_text", "text": part.context}] if part.context else []
        if shown.kind == "text":
            head = part.title or shown.filename
            text = f"{head}\n\n{shown.value}" if head else shown.value
            return [*before, self._marked({"type": "input_text", "text": text}, part.cache)]
        if shown.kind == "parts":
            if part.title:
                before.insert(0, {"type": "input_text", "text": part.title})
            return [*before, *(piece for inner in shown.parts for piece in self._content(inner))]
        if self._capabilities.documents != "honoured":
            raise Inexpressible("this upstream's model does not read documents (`document`)")
        return [*before, self._marked(self._file(shown, part.title), part.cache)]

    def _file(self, shown: Media, title: str) -> dict[str, Any]:
        if shown.kind == "file":
            if self._dialect != NAME:
                raise Inexpressible("`file_id` of a document is known to its own provider only")
            return {"type": "input_file", "file_id": shown.value}
        if shown.kind == "url":
            return {"type": "input_file", "file_url": shown.value}
        settled = media.settle(shown)
        name = shown.filename or title or media.filename(settled)
        return {"type": "input_file", "filename": name, "file_data": media.data_url(settled)}


def _is_item(kind: str) -> bool:
    """Whether a foreign part stands for an item of its own: those of messages are called ``input_…``."""
    return not kind.startswith(("input_", "output_"))
