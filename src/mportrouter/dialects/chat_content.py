"""Messages of a Chat request as turns: parts, calls, results, and reasoning that came with earlier answers."""

from __future__ import annotations

import base64
from typing import Any

from msgspec.structs import replace

from .. import envelope, splice
from ..conversation import (
    CacheMark,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from ..errors import Kind, RouterError
from ..media import audio_type, read_data_url, settle
from .chat_turn import INSTRUCTING

NAME = "openai-chat"
#: What stands before the words of a tool that failed: the dialect has no member that says so.
ERROR_MARK = "[tool error] "
#: The ids of calls in the old form, which has none.
FUNCTION_ID = "call_fn_"


def wrong(where: str, what: str) -> RouterError:
    """The error of a request that cannot be understood."""
    return RouterError(Kind.BAD_REQUEST, f"`{where}` {what}")


def read_messages(messages: Any) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    """
    :param messages: the decoded member.
    :returns: the instructions at the beginning, and the turns.
    :raises RouterError: ``BAD_REQUEST`` naming what cannot be understood.
    """
    if not isinstance(messages, list):
        raise wrong("messages", "must be a list")
    reading = _Reading()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise wrong(where, "must be an object")
        reading.take(message, where)
    reading.settle()
    return tuple(reading.system), tuple(reading.turns)


class _Reading:
    def __init__(self) -> None:
        self.system: list[Text] = []
        self.turns: list[Turn] = []
        self._results: list[Part] = []  # of tool messages in a row
        self._functions = 0  # calls in the old form so far
        self._open: dict[str, str] = {}  # names of functions called in the old form to the last call's id

    def take(self, message: dict[str, Any], where: str) -> None:
        role = message.get("role")
        if role == "tool" or role == "function":
            self._results.append(self._result(message, role == "function", where))
            return
        self.settle()
        if role == "user":
            self._add("user", read_parts(message.get("content"), f"{where}.content"))
        elif role == "assistant":
            self._add("assistant", self._assistant(message, where))
        elif isinstance(role, str) and role in INSTRUCTING:
            parts = read_parts(message.get("content"), f"{where}.content")
            if self.turns:
                self._add("system", parts)
            else:
                self.system += [part for part in parts if isinstance(part, Text)]
        else:
            raise wrong(f"{where}.role", "must be system, developer, user, assistant, tool or function")

    def settle(self) -> None:
        """No more results follow."""
        if self._results:
            self._add("user", self._results)
            self._results = []

    def _add(self, role: str, parts: list[Part]) -> None:
        self.turns.append(Turn(role, tuple(parts)))

    def _result(self, message: dict[str, Any], function: bool, where: str) -> ToolResult:
        name = message.get("name")
        name = name if isinstance(name, str) else ""
        if function:
            id: Any = self._open.get(name) or f"{FUNCTION_ID}{self._functions}"
        else:
            id = message.get("tool_call_id")
            if not isinstance(id, str):
                raise wrong(f"{where}.tool_call_id", "must be a text")
        parts = read_parts(message.get("content"), f"{where}.content")
        failed = False
        if parts and isinstance(first := parts[0], Text) and first.text.startswith(ERROR_MARK):
            failed = True
            parts[0] = replace(first, text=first.text[len(ERROR_MARK) :])
        return ToolResult(id, tuple(parts), name, failed)

    def _assistant(self, message: dict[str, Any], where: str) -> list[Part]:
        thoughts, signature = _reasoning(message)
        parts: list[Part] = list(thoughts)
        parts += read_parts(message.get("content"), f"{where}.content")
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            parts.append(Refusal(refusal))
        if signature is not None:
            _sign(parts, signature)
        calls = message.get("tool_calls")
        if calls is not None:
            if not isinstance(calls, list):
                raise wrong(f"{where}.tool_calls", "must be a list")
            parts += [_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)]
        old = message.get("function_call")
        if isinstance(old, dict) and not calls:
            name = _string(old, "name", f"{where}.function_call.name")
            id = f"{FUNCTION_ID}{self._functions}"
            self._functions += 1
            self._open[name] = id
            parts.append(ToolCall(id, name, _arguments(old, f"{where}.function_call.arguments")))
        if isinstance(message.get("audio"), dict):
            parts.append(Foreign(NAME, "audio", message["audio"]))
        return parts


def read_parts(content: Any, where: str) -> list[Part]:
    """Content that is a text, a list of parts, or nothing."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    if content is None:
        return []
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise wrong(where, "must be a text or a list of parts")
    parts: list[Part] = []
    for index, part in enumerate(content):
        if isinstance(part, str):
            parts.append(Text(part))
        elif isinstance(part, dict):
            parts.append(_part(part, f"{where}[{index}]"))
        else:
            raise wrong(f"{where}[{index}]", "must be an object")
    return parts


def _part(part: dict[str, Any], where: str) -> Part:
    kind = part.get("type")
    if kind == "text" or (kind is None and "text" in part):
        return Text(_string(part, "text", f"{where}.text"), cache=cache_of(part))
    if kind == "image_url":
        return _image(part, where)
    if kind == "file":
        return _file(part, where)
    if kind == "input_audio":
        sound = part.get("input_audio")
        if not isinstance(sound, dict):
            raise wrong(f"{where}.input_audio", "must be an object")
        format_ = sound.get("format")
        media_type = audio_type(format_) if isinstance(format_, str) else ""
        data = _string(sound, "data", f"{where}.input_audio.data")
        if data[:5].lower() == "data:":
            return Sound(_data(data, f"{where}.input_audio.data"), cache_of(part))
        return Sound(settle(Media("base64", data, media_type)), cache_of(part))
    if kind == "refusal":
        return Refusal(_string(part, "refusal", f"{where}.refusal"))
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "must be a text")
    text = part.get("text")
    return Foreign(NAME, kind, part, text if isinstance(text, str) else "")


def _image(part: dict[str, Any], where: str) -> Part:
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image}
    if not isinstance(image, dict):
        raise wrong(f"{where}.image_url", "must be an object")
    url = _string(image, "url", f"{where}.image_url.url")
    detail = image.get("detail")
    cache = cache_of(part)
    if url[:5].lower() != "data:":
        return Image(Media("url", url), detail if isinstance(detail, str) else None, cache)
    media = _data(url, f"{where}.image_url.url")
    if media.media_type == "application/pdf":
        return Document(media, cache=cache)
    return Image(media, detail if isinstance(detail, str) else None, cache)


def _file(part: dict[str, Any], where: str) -> Part:
    file = part.get("file")
    if not isinstance(file, dict):
        raise wrong(f"{where}.file", "must be an object")
    name = file.get("filename")
    name = name if isinstance(name, str) else ""
    cache = cache_of(part)
    id, given = file.get("file_id"), file.get("file_data")
    if isinstance(given, str):
        if given[:5].lower() == "data:":
            media = _data(given, f"{where}.file.file_data")
        elif given[:8].lower().startswith(("http://", "https://")):
            return Document(Media("url", given, filename=name), name, cache=cache)
        else:
            media = settle(Media("base64", given))
        if media.media_type.startswith("image/"):
            return Image(media, None, cache)
        if media.media_type.startswith("text/"):
            text = base64.b64decode(media.value).decode("utf-8", "replace")
            return Document(Media("text", text, media.media_type, name), name, cache=cache)
        return Document(replace(media, filename=name), name, cache=cache)
    if isinstance(id, str):
        return Document(Media("file", id, filename=name), name, cache=cache)
    raise wrong(f"{where}.file", "must have file_data or file_id")


def _data(url: str, where: str) -> Media:
    try:
        return read_data_url(url)
    except ValueError as error:
        raise wrong(where, f"cannot be read: {error}") from None


def _call(call: Any, where: str) -> ToolCall:
    if not isinstance(call, dict):
        raise wrong(where, "must be an object")
    id = call.get("id")
    id = id if isinstance(id, str) else ""
    custom = call.get("custom")
    if isinstance(custom, dict):
        text = custom.get("input")
        name = _string(custom, "name", f"{where}.custom.name")
        return ToolCall(id, name, text if isinstance(text, str) else "", True)
    function = call.get("function")
    if not isinstance(function, dict):
        raise wrong(f"{where}.function", "must be an object")
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    opaque = envelope.opened(signature) if isinstance(signature, str) else None
    name = _string(function, "name", f"{where}.function.name")
    return ToolCall(id, name, _arguments(function, f"{where}.function.arguments"), opaque=opaque)


def _arguments(function: dict[str, Any], where: str) -> str:
    arguments = function.get("arguments")
    if arguments is None:
        return ""
    if isinstance(arguments, dict):
        return splice.dumps(arguments).decode()
    if not isinstance(arguments, str):
        raise wrong(where, "must be a text")
    return arguments


def _string(source: dict[str, Any], name: str, where: str) -> str:
    value = source.get(name)
    if not isinstance(value, str):
        raise wrong(where, "must be a text")
    return value


def cache_of(part: dict[str, Any]) -> CacheMark | None:
    """A mark in OpenAI's form, or in the one that aggregators take from Anthropic."""
    for name in ("prompt_cache_breakpoint", "cache_control"):
        mark = part.get(name)
        if isinstance(mark, dict):
            ttl = mark.get("ttl")
            return CacheMark(ttl if isinstance(ttl, str) else None)
    return None


# ------------------------------------------------------------------------------------------ reasoning


def _reasoning(message: dict[str, Any]) -> tuple[list[Reasoning], Opaque | None]:
    """
    What an assistant's message says of how it was thought: sealed states with their text, else the plain text.

    :returns: the parts, and the state that belongs to the text of the answer, if any.
    """
    parts: list[Reasoning] = []
    signature: Opaque | None = None
    details = message.get("reasoning_details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        text = detail.get("text")
        text = text if isinstance(text, str) else ""
        for name in ("signature", "data"):
            value = detail.get(name)
            opaque = envelope.opened(value) if isinstance(value, str) else None
            if opaque is None:
                continue
            if opaque.kind == "thought":
                signature = opaque
            else:
                parts.append(Reasoning(text, opaque))
    plain = message.get("reasoning_content")
    if not isinstance(plain, str) or not plain:
        plain = message.get("reasoning")
    if isinstance(plain, str) and plain and not any(part.text for part in parts):
        if len(parts) == 1:
            # A state that holds the reasoning itself, and what was shown of it.
            return [Reasoning(plain, parts[0].opaque)], signature
        parts.insert(0, Reasoning(plain))
    return parts, signature


def _sign(parts: list[Part], opaque: Opaque) -> None:
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if isinstance(part, Text):
            parts[index] = replace(part, opaque=opaque)
            return
    parts.append(Text("", opaque=opaque))
