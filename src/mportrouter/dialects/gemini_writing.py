"""Writes the neutral conversation as a Gemini request: the turns; its options are written beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from ..interfaces import Inexpressible, Prepared, Target
from ..media import settle
from ..repair import Wishes, repair
from ..settings import Capabilities
from ..tool_names import ToolNames
from . import gemini_path, gemini_requested, gemini_signatures
from .gemini_arguments import parsed
from .gemini_reading import DIALECT

#: Names of functions (https://ai.google.dev/api/caching#FunctionDeclaration).
NAME = r"[a-zA-Z_][a-zA-Z0-9_.:-]*"
_OWN_FILE = re.compile(
    r"gs://|https://generativelanguage\.googleapis\.com/|https?://(?:www\.)?(?:youtube\.com|youtu\.be)/"
)
#: What the dialect calls sounds.
_SOUNDS = {"audio/mpeg": "audio/mp3"}


def write_request(conversation: Conversation, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.write_request`."""
    body, names, notes = written(conversation, target)
    stream = conversation.stream or target.capabilities.stream_only
    method = gemini_path.STREAM if stream else gemini_path.GENERATE
    return Prepared(
        splice.dumps(body), notes, gemini_path.write(target, method), gemini_path.query(method), names.names
    )


def write_count(conversation: Conversation, target: Target) -> Prepared:
    """
    See :meth:`mportrouter.interfaces.IDialect.write_count`. Only inside ``generateContentRequest`` the instructions and
    the tools count too (https://ai.google.dev/api/tokens).
    """
    body, names, notes = written(conversation, target)
    model = target.model.removeprefix("models/")
    inner = {"model": model if model.startswith("tunedModels/") else "models/" + model, **body}
    path = gemini_path.write(target, gemini_path.COUNT)
    return Prepared(splice.dumps({"generateContentRequest": inner}), notes, path, b"", names.names)


def written(conversation: Conversation, target: Target) -> tuple[dict[str, Any], ToolNames, tuple[str, ...]]:
    """
    The request as an object, the tools' names in it, and what was left out or changed.

    :raises Inexpressible: naming what cannot be said.
    """
    capabilities = target.capabilities
    repaired = repair(
        conversation,
        target,
        Wishes(
            keep_dialect=DIALECT,
            drop_blank=True,
            merge=True,
            user_first=True,
            system_turns="user_text",
            prefill=capabilities.prefill,
            pair=True,
            reasoning=capabilities.thought_signature != "none",
        ),
    )
    names = ToolNames(conversation.tools, conversation.turns, limit=capabilities.tool_name_max, pattern=NAME)
    notes = dict.fromkeys(repaired.notes)
    body: dict[str, Any] = {}
    if repaired.system:
        body["systemInstruction"] = {"parts": [{"text": part.text} for part in repaired.system]}
    body["contents"] = _Turns(conversation.dialect, capabilities, names, notes).write(repaired.turns)
    body.update(gemini_requested.options(conversation, target, names, notes))
    return body, names, tuple(notes)


class _Turns:
    """
    The pass over the turns.

    :param dialect: the client's, for its words.
    :param notes: what was left out is added here.
    """

    def __init__(self, dialect: str, capabilities: Capabilities, names: ToolNames, notes: dict[str, None]) -> None:
        self._dialect = dialect
        self._capabilities = capabilities
        self._names = names
        self._notes = notes
        self._called: dict[str, str] = {}  # names at the target by call id

    def write(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        for turn in turns:
            if turn.role == "assistant":
                role, parts = "model", self._model(turn.parts)
            else:
                role, parts = "user", self._user(turn.parts)
            if not parts:
                continue
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        return contents

    # ------------------------------------------------------------------------------------------- the model's turns

    def _model(self, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
        """
        A turn of the model, which is one step. A signature that came as reasoning goes to the next call, else to the
        last part. Where the model must see one on the first call of a step and there is none, the documented stand-in
        is put there: in every step, finished ones too, so that the same history stays the same bytes.
        """
        out: list[dict[str, Any]] = []
        pending: str | None = None
        first: dict[str, Any] | None = None
        signed = self._capabilities.thought_signature != "none"
        for part in parts:
            if type(part) is Text:
                written = {"text": part.text}
                own = _value(part.opaque) if signed else None
                if own is not None:
                    written["thoughtSignature"] = own
                elif not part.text:
                    continue
                out.append(written)
            elif type(part) is ToolCall:
                call = self._call(part)
                own = _value(part.opaque) if signed else None
                if own is None:
                    own, pending = pending, None
                if own is not None:
                    call["thoughtSignature"] = own
                if first is None:
                    first = call
                out.append(call)
            elif type(part) is Reasoning:
                if pending is not None:
                    out.append({"text": "", "thoughtSignature": pending})
                pending = _value(part.opaque) if signed else None
            else:
                out += self._common(part)
        if pending is not None:
            if out and "text" in out[-1] and "thoughtSignature" not in out[-1]:
                out[-1]["thoughtSignature"] = pending
            else:
                out.append({"text": "", "thoughtSignature": pending})
        if first is not None and "thoughtSignature" not in first and self._capabilities.thought_signature == "required":
            first["thoughtSignature"] = gemini_signatures.DUMMY
        return out

    def _call(self, call: ToolCall) -> dict[str, Any]:
        name = self._called[call.id] = self._names.wire(call.name, call.namespace)
        args = parsed(self._names.arguments(call))
        written: dict[str, Any] = {"name": name, "args": args}
        if self._capabilities.function_ids and call.id:
            written = {"id": call.id, **written}
        return {"functionCall": written}

    # ------------------------------------------------------------------------------------------- the user's turns

    def _user(self, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        shown: list[dict[str, Any]] = []  # what results show, where they cannot hold it
        rest: list[dict[str, Any]] = []
        for part in parts:
            if type(part) is ToolResult:
                results.append(self._result(part, shown))
            elif type(part) is Text:
                if part.text:
                    rest.append({"text": part.text})
            else:
                rest += self._common(part)
        # As many responses as there were calls must come first, and nothing between them.
        return results + shown + rest

    def _result(self, result: ToolResult, shown: list[dict[str, Any]]) -> dict[str, Any]:
        texts: list[str] = []
        media: list[dict[str, Any]] = []
        for part in result.parts:
            if isinstance(part, (Text, Refusal)):
                texts.append(part.text)
            else:
                for each in self._common(part):
                    if "text" in each:
                        texts.append(each["text"])
                    else:
                        media.append(each)
        name = self._called.get(result.call_id) or self._names.wire(result.name or "unknown")
        words = "\n".join(texts)
        written: dict[str, Any] = {"name": name, "response": {"error" if result.is_error else "output": words}}
        if self._capabilities.function_ids and result.call_id:
            written = {"id": result.call_id, **written}
        if media:
            where = self._capabilities.tool_images
            if where == "none":
                raise Inexpressible("pictures or documents in tool results cannot be shown to this model")
            if where == "in_tool":
                written["parts"] = media
            else:
                # A name, not an id: the model sees no ids where calls have none.
                shown.append({"text": f"[shown by the tool {name}]"})
                shown += media
        return {"functionResponse": written}

    # ------------------------------------------------------------------------------------------- what either may have

    def _common(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Image):
            if self._capabilities.images == "refused":
                raise Inexpressible("this model takes no pictures")
            return [self._media(part.media, "picture")]
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Sound):
            return [self._media(part.media, "sound")]
        if isinstance(part, Foreign):
            return [dict(part.raw)] if part.dialect == DIALECT else _texts(part.text)
        if isinstance(part, (Refusal, Text)):
            return _texts(part.text)
        if isinstance(part, WebSearch):
            return []  # its own searches are not told to it again
        return []

    def _document(self, document: Document) -> list[dict[str, Any]]:
        media = document.media
        head = "\n".join(words for words in (document.title, document.context) if words)
        if media.kind == "text":
            return _texts(f"{head}\n\n{media.value}" if head else media.value)
        if media.kind == "parts":
            inner = [each for part in media.parts for each in self._common(part)]
            return _texts(head) + inner
        if self._capabilities.documents == "refused":
            raise Inexpressible("this model takes no documents")
        return [*_texts(head), self._media(media, "document")]

    def _media(self, media: Media, what: str) -> dict[str, Any]:
        media = settle(media)
        kind = _SOUNDS.get(media.media_type, media.media_type)
        if media.kind == "base64":
            return {"inlineData": {"mimeType": kind or "application/octet-stream", "data": media.value}}
        if media.kind == "file" and self._dialect != DIALECT:
            raise Inexpressible(f"a {what} named by a file id: the file is at another provider; send its bytes")
        if media.kind == "url" and not (self._capabilities.url_images or _OWN_FILE.match(media.value)):
            raise Inexpressible(f"a {what} named by a URL: this model fetches none; send its bytes")
        named: dict[str, Any] = {"fileUri": media.value}
        return {"fileData": {"mimeType": kind, **named} if kind else named}


def _value(opaque: Opaque | None) -> str | None:
    return None if opaque is None or not opaque.value else opaque.value


def _texts(text: str) -> list[dict[str, Any]]:
    return [{"text": text}] if text.strip() else []
