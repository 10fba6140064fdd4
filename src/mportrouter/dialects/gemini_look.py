"""
A cheap look at a Gemini request: what routing needs, and which turns hold something that an upstream may not take.

What it learns is kept on the :class:`GeminiLook`, so that :mod:`mportrouter.dialects.gemini_request` finds out in no
time whether anything has to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from .. import splice
from ..errors import Kind, RouterError
from ..interfaces import Look
from . import gemini_path, gemini_signatures
from .gemini_spelling import field, listed, mapping, text

_NOTHING = msgspec.Raw(b"")
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Media(msgspec.Struct, gc=False):
    mimeType: str | None = None
    mime_type: str | None = None


class _Inner(msgspec.Struct, gc=False):
    inlineData: _Media | None = None
    inline_data: _Media | None = None


class _Result(msgspec.Struct, gc=False):
    parts: list[_Inner] | None = None


class _Part(msgspec.Struct, gc=False):
    functionCall: msgspec.Raw = _NOTHING
    function_call: msgspec.Raw = _NOTHING
    functionResponse: _Result | None = None
    function_response: _Result | None = None
    thoughtSignature: str | None = None
    thought_signature: str | None = None
    inlineData: _Media | None = None
    inline_data: _Media | None = None
    fileData: _Media | None = None
    file_data: _Media | None = None


class _Content(msgspec.Struct, gc=False):
    role: str | None = None
    parts: list[_Part] | None = None


_contents = msgspec.json.Decoder(list[_Content]).decode


@attrs.define(slots=True)
class GeminiLook(Look):
    """
    A look that remembers where things are.

    :param body: the very bytes that were looked at.
    :param method: see :class:`mportrouter.dialects.gemini_path.Address`.
    :param events: a stream is wanted as server-sent events, not as an array.
    :param values: the members of the request, JSON texts by name.
    :param inner: the request inside a ``generateContentRequest`` (which only counting has), or ``None``.
    :param marks: indexes of turns by what is special in them: ``wrapped`` and ``signed`` parts, ``unsigned`` calls.
    """

    body: bytes = attrs.field(default=b"", repr=False)
    method: str = gemini_path.GENERATE
    events: bool = True
    values: Mapping[str, msgspec.Raw | memoryview] = attrs.field(factory=dict, repr=False)
    inner: bytes | None = attrs.field(default=None, repr=False)
    marks: Mapping[str, list[int]] = attrs.field(factory=dict, repr=False)

    @property
    def request(self) -> bytes:
        """The request itself."""
        return self.body if self.inner is None else self.inner


def look(body: bytes, path: bytes, query: bytes) -> GeminiLook:
    """
    See :meth:`mportrouter.interfaces.IDialect.look`.

    :raises RouterError: ``BAD_REQUEST`` for what cannot be routed.
    """
    address = gemini_path.read(path, query)
    inner: bytes | None = None
    try:
        if not body.isascii():
            body.decode("utf-8")
        values = _members(body)
        if address.method == gemini_path.COUNT:
            wrapped = values.get("generateContentRequest", values.get("generate_content_request"))
            if wrapped is not None:
                inner = bytes(wrapped)
                values = _members(inner)
        needs: set[str] = set()
        marks: dict[str, list[int]] = {}
        if (member := values.get("contents")) is not None:
            _mark(member, marks, needs)
        if (member := values.get("tools")) is not None and _offers_server_tools(member):
            needs.add("server_tools")
        _read_tool_config(_small(values, "toolConfig"), needs)
        max_output = _read_config(_small(values, "generationConfig"), needs)
    except splice.Malformed as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: not UTF-8 (byte {error.start})") from None
    stream = address.method == gemini_path.STREAM
    return GeminiLook(
        address.model, stream, frozenset(needs), max_output, len(body), body, address.method, address.events,
        values, inner, marks, rewrite=stream and not address.events,
    )  # fmt: skip


def _members(body: bytes) -> Mapping[str, msgspec.Raw | memoryview]:
    values = splice.values(body)
    if values is not None:
        return values
    view = memoryview(body)
    return {name: view[member.value : member.end] for name, member in splice.members(body).items()}


def _small(values: Mapping[str, msgspec.Raw | memoryview], name: str) -> dict[str, Any]:
    """A member that is an object of options, ``{}`` for anything else."""
    member = field(values, name)
    value = None if member is None else splice.loads(bytes(member))
    return value if isinstance(value, dict) else {}


def _read_config(config: dict[str, Any], needs: set[str]) -> int | None:
    """:returns: the limit on the answer, or ``None``."""
    if listed(field(config, "stopSequences")):
        needs.add("stop_sequences")
    schemas = ("responseSchema", "responseJsonSchema")
    if text(config, "responseMimeType") == "application/json" or any(field(config, name) for name in schemas):
        needs.add("structured_output")
    limit = field(config, "maxOutputTokens")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def _read_tool_config(config: dict[str, Any], needs: set[str]) -> None:
    calling = mapping(config, "functionCallingConfig")
    if calling is not None and text(calling, "mode").upper() == "ANY":
        needs.add("tool_choice_force")


def _offers_server_tools(raw: msgspec.Raw | memoryview) -> bool:
    for tool in listed(splice.loads(bytes(raw))):
        if isinstance(tool, dict) and any(
            value is not None and name not in ("functionDeclarations", "function_declarations")
            for name, value in tool.items()
        ):
            return True
    return False


def _mark(raw: msgspec.Raw | memoryview, marks: dict[str, list[int]], needs: set[str]) -> None:
    try:
        contents = _contents(raw)
    except _REFUSED:
        contents = [_leniently(content) for content in listed(splice.loads(bytes(raw)))]
    for index, content in enumerate(contents):
        called = False
        for part in content.parts or ():
            signature = part.thoughtSignature or part.thought_signature
            if signature:
                kind = "wrapped" if gemini_signatures.is_wrapped(signature) else "signed"
                marks.setdefault(kind, []).append(index)
            if not called and (_is_there(part.functionCall) or _is_there(part.function_call)):
                # Only the first call of a step is signed.
                called = True
                if not signature:
                    marks.setdefault("unsigned", []).append(index)
            media = part.inlineData or part.inline_data or part.fileData or part.file_data
            if media is not None:
                needs.add(_column(media))
            result = part.functionResponse or part.function_response
            for inner in (result.parts if result is not None else None) or ():
                media = inner.inlineData or inner.inline_data
                if media is not None:
                    needs.add(_column(media))


def _is_there(raw: msgspec.Raw) -> bool:
    size = memoryview(raw).nbytes
    return size > 0 and not (size == 4 and bytes(raw) == b"null")


def _column(media: _Media) -> str:
    kind = media.mimeType or media.mime_type or ""
    return "images" if kind.startswith("image/") or not kind else "documents"


def _leniently(content: Any) -> _Content:
    """A turn that does not fit the expected shape: what can be seen is marked, the provider judges."""
    parts: list[_Part] = []
    for part in listed(content.get("parts")) if isinstance(content, dict) else ():
        if not isinstance(part, dict):
            continue
        result = mapping(part, "functionResponse")
        inner = [
            _Inner(_media(each)) for each in listed(result.get("parts")) if isinstance(each, dict)
        ] if result is not None else None  # fmt: skip
        parts.append(
            _Part(
                functionCall=msgspec.Raw(b"{}") if mapping(part, "functionCall") is not None else _NOTHING,
                functionResponse=_Result(inner),
                thoughtSignature=text(part, "thoughtSignature"),
                inlineData=_media(part),
            )
        )
    role = content.get("role") if isinstance(content, dict) else None
    return _Content(role if isinstance(role, str) else None, parts)


def _media(part: dict[str, Any]) -> _Media | None:
    found = mapping(part, "inlineData") or mapping(part, "fileData")
    return None if found is None else _Media(text(found, "mimeType"))
