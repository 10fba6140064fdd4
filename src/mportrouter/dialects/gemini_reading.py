"""Reads a Gemini request into the neutral conversation: turns, calls and results; its options are read beside it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from .. import splice
from ..conversation import (
    Conversation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from ..errors import Kind, RouterError
from ..interfaces import Look
from ..media import settle
from . import gemini_options, gemini_path, gemini_signatures
from .gemini_look import GeminiLook, look
from .gemini_spelling import camel, field, listed, mapping, text

DIALECT = "gemini"

_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user", "": "user"}
#: Parts that one dialect alone has, with what another model must know of them.
_CODE = "executableCode"
_CODE_RESULT = "codeExecutionResult"
#: Members of a part that say something about its content, and are none.
_ASIDE = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"})
#: Hosts whose files are an account's own.
_OWN_FILES = ("https://generativelanguage.googleapis.com/", "gs://")
_FILMS = ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/", "http://www.youtube.com/")
_PICTURES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
#: Members of a result in which its text stands alone.
_OUTPUTS = ("output", "result", "content")


def read_request(body: bytes, look_: Look) -> Conversation:
    """
    See :meth:`mportrouter.interfaces.IDialect.read_request`.

    :raises RouterError: ``BAD_REQUEST``.
    """
    if isinstance(look_, GeminiLook):
        seen = look_
    else:
        method = gemini_path.STREAM if look_.stream else gemini_path.GENERATE
        seen = look(body, f"/v1beta/models/{look_.model}:{method}".encode(), gemini_path.EVENTS)
    try:
        top = splice.loads(seen.request)
    except splice.Malformed as error:
        raise bad(f"the request cannot be read: {error}") from None
    if not isinstance(top, dict):
        raise bad("the request is no JSON object")
    reader = _Turns(gemini_options.detail(mapping(top, "generationConfig") or {}))
    turns = reader.read(listed(field(top, "contents")))
    options = gemini_options.read(top, refuse=not seen.rewrite)
    return Conversation(
        DIALECT,
        seen.model,
        turns,
        system=_system(field(top, "systemInstruction")),
        stream=seen.stream,
        stream_usage=True,
        members={"alt": "sse" if seen.events else "json"},
        **options,
    )


def bad(message: str) -> RouterError:
    """The request's own fault."""
    return RouterError(Kind.BAD_REQUEST, message)


def _system(value: Any) -> tuple[Text, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, dict):
        raise bad("`systemInstruction` must be an object with `parts`")
    parts: list[Text] = []
    for part in listed(field(value, "parts")):
        words = part.get("text") if isinstance(part, dict) else part
        if not isinstance(words, str):
            raise bad("`systemInstruction.parts` must be texts")
        parts.append(Text(words))
    return tuple(parts)


class _Turns:
    """
    The pass over ``contents``.

    Calls need not have ids here: those are made of their places, and results find their calls by id, else by name in
    the order of the calls.

    :param detail: of pictures that say nothing themselves.
    """

    def __init__(self, detail: str | None) -> None:
        self._detail = detail
        self._known: set[str] = set()
        self._open: dict[str, list[str]] = {}  # unanswered calls by name

    def read(self, contents: list[Any]) -> tuple[Turn, ...]:
        turns: list[Turn] = []
        for index, content in enumerate(contents):
            if isinstance(content, str):
                turns.append(Turn("user", (Text(content),)))
                continue
            if not isinstance(content, dict):
                raise bad(f"`contents[{index}]` must be an object")
            given = content.get("role")
            role = _ROLES.get(given or "") if isinstance(given, str | None) else None
            if role is None:
                raise bad(f"`contents[{index}].role` must be user or model")
            turns.append(Turn(role, self._parts(index, role, listed(content.get("parts")))))
        return tuple(turns)

    def _parts(self, index: int, role: str, parts: list[Any]) -> tuple[Part, ...]:
        out: list[Part] = []
        thought: list[str] = []  # reasoning under way
        for place, part in enumerate(parts):
            if isinstance(part, str):
                part = {"text": part}
            if not isinstance(part, dict):
                raise bad(f"`contents[{index}].parts[{place}]` must be an object")
            signature = text(part, "thoughtSignature")
            opaque = gemini_signatures.read(signature) if signature else None
            words = part.get("text")
            if role == "assistant" and part.get("thought") is True and isinstance(words, str):
                thought.append(words)
                if opaque is not None:
                    out.append(Reasoning("".join(thought), opaque))
                    thought = []
                continue
            # What signs a part stays with it; what holds or signs reasoning of another kind goes before it.
            if opaque is not None and opaque.kind != "thought":
                out.append(Reasoning("".join(thought), opaque))
                thought, opaque = [], None
                if words == "":
                    continue
            elif thought:
                out.append(Reasoning("".join(thought)))
                thought = []
            out.append(self._part(index, place, part, opaque))
        if thought:
            out.append(Reasoning("".join(thought)))
        return tuple(out)

    def _part(self, index: int, place: int, part: dict[str, Any], opaque: Opaque | None) -> Part:
        words = part.get("text")
        if isinstance(words, str):
            return Text(words, opaque=opaque)
        where = f"contents[{index}].parts[{place}]"
        if (call := mapping(part, "functionCall")) is not None:
            return self._call(index, place, call, opaque)
        if (result := mapping(part, "functionResponse")) is not None:
            return self._result(index, place, result)
        if (blob := mapping(part, "inlineData")) is not None:
            return self._inline(where, blob, part)
        if (file := mapping(part, "fileData")) is not None:
            return self._file(where, file, part)
        return _foreign(where, part)

    def _call(self, index: int, place: int, call: dict[str, Any], opaque: Opaque | None) -> ToolCall:
        name = text(call, "name")
        if not name:
            raise bad(f"`contents[{index}].parts[{place}].functionCall.name` is missing")
        id = text(call, "id") or f"call_{index}_{place}"
        self._known.add(id)
        self._open.setdefault(name, []).append(id)
        args = field(call, "args")
        return ToolCall(id, name, "{}" if args is None else compact(args), opaque=opaque)

    def _result(self, index: int, place: int, result: dict[str, Any]) -> ToolResult:
        name, id = text(result, "name"), text(result, "id")
        waiting = self._open.get(name, [])
        if id not in self._known:
            # Also where results have ids of their own: then the order tells.
            id = waiting[0] if waiting else id or f"call_{index}_{place}"
        if id in waiting:
            waiting.remove(id)
        words, failed = _outcome(field(result, "response"))
        parts: list[Part] = [Text(words)] if words else []
        for each in listed(field(result, "parts")):
            blob = mapping(each, "inlineData") if isinstance(each, dict) else None
            if blob is not None:
                parts.append(self._inline(f"contents[{index}].parts[{place}].functionResponse", blob, each))
        return ToolResult(id, tuple(parts), name, failed)

    def _inline(self, where: str, blob: dict[str, Any], part: dict[str, Any]) -> Part:
        value = text(blob, "data")
        if not value:
            raise bad(f"`{where}.inlineData.data` is missing")
        media = settle(Media("base64", value, text(blob, "mimeType"), text(blob, "displayName")))
        kind = media.media_type
        if kind.startswith("image/"):
            return Image(media, gemini_options.part_detail(part) or self._detail)
        if kind.startswith("audio/"):
            return Sound(media)
        if kind.startswith("text/"):
            try:
                words = base64.b64decode(media.value).decode("utf-8", "replace")
            except (binascii.Error, ValueError):
                raise bad(f"`{where}.inlineData.data` is no base64") from None
            return Document(Media("text", words, kind, media.filename), title=media.filename)
        return Document(media, title=media.filename)

    def _file(self, where: str, file: dict[str, Any], part: dict[str, Any]) -> Part:
        uri = text(file, "fileUri")
        if not uri:
            raise bad(f"`{where}.fileData.fileUri` is missing")
        own = uri.startswith((*_OWN_FILES, *_FILMS)) or not uri.startswith(("http://", "https://"))
        ending = uri.partition("?")[0].rpartition(".")[2].lower()
        kind = text(file, "mimeType") or _PICTURES.get(ending, "")
        media = Media("file" if own else "url", uri, kind, text(file, "displayName"))
        if kind.startswith("image/"):
            return Image(media, gemini_options.part_detail(part) or self._detail)
        return Sound(media) if kind.startswith("audio/") else Document(media, title=media.filename)


def _outcome(response: Any) -> tuple[str, bool]:
    """The text of a result, and whether it tells of a failure."""
    if response is None or response == {}:
        return "", False
    if not isinstance(response, dict):
        return (response if isinstance(response, str) else compact(response)), False
    if len(response) == 1:
        ((name, value),) = response.items()
        if name in _OUTPUTS and isinstance(value, str):
            return value, False
        if name == "error":
            return (value if isinstance(value, str) else compact(value)), True
    return compact(response), False


def _foreign(where: str, part: Mapping[str, Any]) -> Foreign:
    names = [name for name, value in part.items() if value is not None and camel(name) not in _ASIDE]
    if not names:
        raise bad(f"`{where}` has no content")
    return Foreign(DIALECT, camel(names[0]), part, told(part))


def told(part: Mapping[str, Any]) -> str:
    """What another model must know of a part that only this dialect has, ``""``: nothing."""
    code = mapping(part, _CODE)
    if code is not None:
        return f"```{text(code, 'language').lower().removesuffix('_unspecified')}\n{text(code, 'code')}\n```"
    result = mapping(part, _CODE_RESULT)
    if result is not None:
        return f"```\n{text(result, 'output')}\n```"
    for name in ("toolCall", "toolResponse"):
        found = mapping(part, name)
        if found is not None:
            return f"[{name}] {compact({key: value for key, value in found.items() if key != 'id'})}"[:16384]
    return ""


def compact(value: Any) -> str:
    """Compact JSON; lone surrogates stay in it as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
