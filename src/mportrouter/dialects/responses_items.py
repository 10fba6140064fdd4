"""Items of the OpenAI Responses dialect, and the parts of their messages, as neutral parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from msgspec.structs import replace

from .. import envelope, media, splice
from ..conversation import (
    CacheMark,
    Citation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    SearchHit,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    WebSearch,
)
from ..errors import Kind, RouterError
from .responses_input import NATIVE

NAME = "openai-responses"
#: What begins the text of a result that is an error: the dialect has no member for it.
ERROR_MARK = "[tool error] "

#: Characters of a hosted tool's call or result that another model is told.
_RENDER_LIMIT = 16 * 1024
#: Members that say nothing to another model.
_MUTE = frozenset({"type", "id", "call_id", "status", "encrypted_content", "result", "container_id", "fingerprint"})


def is_users(kind: str) -> bool:
    """Whether an item that is no message comes from the client's side: results, and leave to go on."""
    return kind.endswith("_output") or kind == "mcp_approval_response"


def part(kind: str, item: Mapping[str, Any], where: str) -> Part | None:
    """
    An item that is no message.

    :param where: names the item in the request, for errors.
    :raises RouterError: ``BAD_REQUEST``.
    """
    if kind == "function_call":
        arguments = item.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else splice.dumps(arguments).decode()
        return ToolCall(_call_id(item, where), _text(item, "name"), arguments, namespace=_text(item, "namespace"))
    if kind == "custom_tool_call":
        return ToolCall(
            _call_id(item, where), _text(item, "name"), _text(item, "input"), True, _text(item, "namespace")
        )
    if kind in ("function_call_output", "custom_tool_call_output"):
        return _result(item, kind.startswith("custom"), where)
    if kind == "reasoning":
        return reasoning(item, NATIVE, "")
    if kind == "web_search_call":
        return search(item)
    return foreign(kind, item)


def settled(parts: list[Part]) -> tuple[Part, ...]:
    """
    A turn's parts with thought signatures where they belong. One that has no text stood before the call that it came
    with, or after the text.
    """
    if not any(is_bare(each) for each in parts):
        return tuple(parts)
    out: list[Part] = []
    waiting: Reasoning | None = None
    for each in parts:
        if waiting is not None:
            if isinstance(each, ToolCall):
                each = replace(each, opaque=waiting.opaque)
            else:
                _behind(out, waiting)
            waiting = None
        if is_bare(each):
            waiting = each
        else:
            out.append(each)
    if waiting is not None:
        _behind(out, waiting)
    return tuple(out)


def is_bare(part: Part) -> TypeGuard[Reasoning]:
    """Whether a part is a thought signature without a text, which belongs to its neighbour."""
    return isinstance(part, Reasoning) and not part.text and part.opaque is not None and part.opaque.kind == "thought"


def _behind(out: list[Part], bare: Reasoning) -> None:
    last = out[-1] if out else None
    if isinstance(last, Text) and last.opaque is None:
        out[-1] = replace(last, opaque=bare.opaque)
    else:
        out.append(bare)


# ------------------------------------------------------------------------------------------ messages


def content(value: Any, where: str) -> list[Part]:
    """
    The content of a message, or the output of a tool that is a list.

    :raises RouterError: ``BAD_REQUEST``.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(value)] if value else []
    if not isinstance(value, list):
        raise RouterError(Kind.BAD_REQUEST, f"`{where}` must be a text or a list of parts")
    parts: list[Part] = []
    for index, each in enumerate(value):
        if isinstance(each, str):
            parts.append(Text(each))
        elif isinstance(each, dict):
            parts.append(_piece(each, f"{where}[{index}]"))
        else:
            raise RouterError(Kind.BAD_REQUEST, f"`{where}[{index}]` must be an object")
    return parts


def _piece(part: Mapping[str, Any], where: str) -> Part:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text"):
        annotations = part.get("annotations")
        return Text(_text(part, "text"), citations(annotations) if annotations else (), _mark(part))
    if kind == "refusal":
        return Refusal(_text(part, "refusal"))
    if kind == "input_image":
        return _image(part, where)
    if kind == "input_file":
        return _file(part, where)
    if kind == "input_audio":
        inner = part.get("input_audio")
        sound = inner if isinstance(inner, dict) else {}
        found = Media("base64", _text(sound, "data"), media.audio_type(_text(sound, "format")))
        return Sound(media.settle(found), _mark(part))
    return Foreign(NAME, kind if isinstance(kind, str) else "", part)


def _image(part: Mapping[str, Any], where: str) -> Part:
    detail = _text(part, "detail") or None
    url = part.get("image_url")
    if isinstance(url, dict):  # as in Chat, which some clients send
        url = url.get("url")
    if isinstance(url, str) and url:
        if url[:5].lower() != "data:":
            return Image(Media("url", url), detail, _mark(part))
        found = _data(url, f"{where}.image_url")
        if found.media_type == "application/pdf":
            return Document(found, cache=_mark(part))
        return Image(found, detail, _mark(part))
    if file := _text(part, "file_id"):
        return Image(Media("file", file), detail, _mark(part))
    raise RouterError(Kind.BAD_REQUEST, f"`{where}` has neither `image_url` nor `file_id`")


def _file(part: Mapping[str, Any], where: str) -> Part:
    name, mark = _text(part, "filename"), _mark(part)
    if value := _text(part, "file_data"):
        if value[:5].lower() == "data:":
            found = _data(value, f"{where}.file_data")
        else:
            found = media.settle(Media("base64", value))
        return Document(replace(found, filename=name), title=name, cache=mark)
    if url := _text(part, "file_url"):
        return Document(Media("url", url, filename=name), title=name, cache=mark)
    if file := _text(part, "file_id"):
        return Document(Media("file", file, filename=name), title=name, cache=mark)
    raise RouterError(Kind.BAD_REQUEST, f"`{where}` has neither `file_data`, `file_url` nor `file_id`")


def _data(url: str, where: str) -> Media:
    try:
        return media.read_data_url(url)
    except ValueError as error:
        raise RouterError(Kind.BAD_REQUEST, f"`{where}` cannot be read: {error}") from None


def _mark(part: Mapping[str, Any]) -> CacheMark | None:
    mark = part.get("prompt_cache_breakpoint")
    return None if not isinstance(mark, dict) else CacheMark(_text(mark, "ttl") or None)


def citations(annotations: Any) -> tuple[Citation, ...]:
    """The annotations of a text."""
    found: list[Citation] = []
    for each in annotations if isinstance(annotations, list) else ():
        if isinstance(each, dict):
            found.append(citation(each))
    return tuple(found)


def citation(annotation: Mapping[str, Any]) -> Citation:
    """One annotation; what is no page of the web means something to its own dialect only."""
    if annotation.get("type") != "url_citation":
        return Citation(raw=annotation, dialect=NAME)
    start, end = annotation.get("start_index"), annotation.get("end_index")
    return Citation(
        _text(annotation, "url"),
        _text(annotation, "title"),
        "",
        start if isinstance(start, int) else None,
        end if isinstance(end, int) else None,
        annotation,
        NAME,
    )


# ------------------------------------------------------------------------------------------ other items


def _result(item: Mapping[str, Any], custom: bool, where: str) -> ToolResult:
    output = item.get("output")
    parts: list[Part]
    if isinstance(output, str):
        parts = [Text(output)] if output else []
    elif output is None:
        parts = []
    elif isinstance(output, list):
        parts = content(output, f"{where}.output")
    else:
        parts = [Text(splice.dumps(output).decode())]
    is_error = False
    if parts and isinstance(first := parts[0], Text) and first.text.startswith(ERROR_MARK):
        is_error = True
        parts[0] = replace(first, text=first.text[len(ERROR_MARK) :])
    return ToolResult(_call_id(item, where), tuple(parts), "", is_error, custom)


def _call_id(item: Mapping[str, Any], where: str) -> str:
    id = item.get("call_id")
    if not isinstance(id, str) or not id:
        raise RouterError(Kind.BAD_REQUEST, f"`{where}.call_id` is missing")
    return id


def reasoning(item: Mapping[str, Any], origin: str, model: str) -> Reasoning:
    """
    A reasoning item.

    :param origin: who issued encrypted content that is in no envelope.
    :param model: the same of the model.
    """
    text = summary_text(item)
    value = item.get("encrypted_content")
    if not isinstance(value, str) or not value:
        return Reasoning(text)
    if envelope.is_envelope(value):
        return Reasoning(text, envelope.opened(value))
    return Reasoning(text, Opaque(origin, model, "encrypted", value, _text(item, "id") or None))


def summary_text(item: Mapping[str, Any]) -> str:
    """The summary of a reasoning item, or the text where it has no summary."""
    for name in ("summary", "content"):
        parts = item.get(name)
        texts = [
            each["text"]
            for each in (parts if isinstance(parts, list) else ())
            if isinstance(each, dict) and isinstance(each.get("text"), str) and each["text"]
        ]
        if texts:
            return "\n\n".join(texts)
    return ""


def search(item: Mapping[str, Any]) -> WebSearch:
    """A search that the provider ran, or a page that it opened."""
    given = item.get("action")
    action = given if isinstance(given, dict) else {}
    query = _text(action, "query")
    queries = action.get("queries")
    if not query and isinstance(queries, list):
        query = ", ".join(each for each in queries if isinstance(each, str))
    hits: list[SearchHit] = []
    sources = action.get("sources")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and (url := _text(source, "url")):
            hits.append(SearchHit(url, _text(source, "title")))
    if (url := _text(action, "url")) and not hits:
        hits.append(SearchHit(url))
        query = query or _text(action, "pattern") or url
    return WebSearch(_text(item, "id"), query, tuple(hits), (item,), NAME)


def foreign(kind: str, item: Mapping[str, Any]) -> Foreign:
    """An item that this dialect alone can express."""
    told = {name: value for name, value in item.items() if name not in _MUTE and value not in (None, "", [], {})}
    if isinstance(output := told.get("output"), dict) and output.get("type") == "computer_screenshot":
        told["output"] = "a screenshot"
    if set(told) == {"output"} and isinstance(told["output"], str):
        text = told["output"]
    elif told:
        text = splice.dumps(told).decode()
    else:
        text = ""
    # Encrypted or binary content would be as long as it is useless.
    text = text[:_RENDER_LIMIT]
    return Foreign(NAME, kind, item, f"[{kind}] {text}".rstrip() if kind else "")


def _text(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""
