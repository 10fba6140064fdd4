"""
The body of a Gemini request for another upstream of the dialect: only what must change is edited, in place.

Each edit depends on the turn itself alone, so that the same history gives the same bytes on each turn.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import splice
from ..interfaces import Look, Prepared, Target
from . import gemini_path, gemini_signatures
from .gemini_look import GeminiLook, look
from .gemini_spelling import snake, span

_INNER = "generateContentRequest"
_DUMMY = splice.dumps(gemini_signatures.DUMMY)
#: What stands for a turn of which nothing else is left, where it is the only one.
_PLACEHOLDER = b'{"text":"..."}'


def prepare(body: bytes, look_: Look, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.prepare`."""
    if isinstance(look_, GeminiLook) and look_.body is body:
        seen = look_
    else:
        method = gemini_path.STREAM if look_.stream else gemini_path.GENERATE
        seen = look(body, gemini_path.write(target, method), gemini_path.EVENTS)
    dropped: dict[str, None] = {}
    request = seen.request
    edited = _edit(request, seen, target, dropped)
    if edited is not request and seen.inner is not None:
        spans = splice.members(body)
        name = next(name for name in (_INNER, snake(_INNER)) if name in spans)
        edited = splice.edit(body, {name: edited}, (), spans)
    elif edited is request:
        edited = body
    return Prepared(
        edited,
        tuple(dropped),
        gemini_path.write(target, seen.method),
        gemini_path.query(seen.method),
    )


def _edit(request: bytes, seen: GeminiLook, target: Target, dropped: dict[str, None]) -> bytes:
    """The request, the very object where nothing changes."""
    capabilities = target.capabilities
    replace: dict[str, bytes] = {}
    drop: dict[str, None] = {}
    if "model" in seen.values and target.model != seen.model:
        replace["model"] = splice.dumps("models/" + target.model.removeprefix("models/"))
    for name in capabilities.strip_fields:
        for spelled in (name, snake(name)):
            if spelled in seen.values and spelled not in ("model", "contents"):
                drop[spelled] = dropped[spelled] = None
    kinds = ["wrapped"]
    if capabilities.thinking_signature != gemini_signatures.NATIVE:
        kinds.append("signed")
    if capabilities.thought_signature == "required":
        kinds.append("unsigned")
    indexes = {index for kind in kinds for index in seen.marks.get(kind, ())}
    if indexes:
        contents = _edit_contents(bytes(seen.values["contents"]), indexes, target, dropped)
        if contents is not None:
            replace["contents"] = contents
    return splice.edit(request, replace, drop) if replace or drop else request


def _edit_contents(raw: bytes, indexes: set[int], target: Target, dropped: dict[str, None]) -> bytes | None:
    single = raw[:1] == b"{"
    contents = [raw] if single else splice.elements(raw)
    out: list[bytes] = []
    changed = False
    for index, content in enumerate(contents):
        new: bytes | None = content
        if index in indexes:
            try:
                new = _edit_content(content, target, dropped)
            except (splice.Malformed, RecursionError):
                new = content  # the provider judges it
        changed = changed or new is not content
        if new is not None:
            out.append(new)
    if not changed:
        return None
    if not out:
        return b'[{"role":"user","parts":[%b]}]' % _PLACEHOLDER
    return out[0] if single else b"[" + b",".join(out) + b"]"


def _edit_content(content: bytes, target: Target, dropped: dict[str, None]) -> bytes | None:
    """One turn, the very object where nothing changes, ``None`` where it goes."""
    spans = splice.members(content)
    member = spans.get("parts")
    if member is None:
        return content
    raw = content[member.value : member.end]
    parts = [raw] if raw[:1] == b"{" else splice.elements(raw)
    kept: list[bytes] = []
    changed = called = False
    required = target.capabilities.thought_signature == "required"
    for part in parts:
        found = splice.members(part)
        new = _edit_part(part, found, target, dropped)
        if new is not None and not called and span(found, "functionCall") is not None:
            called = True
            if required and span(splice.members(new), "thoughtSignature") is None:
                new = splice.edit(new, {"thoughtSignature": _DUMMY})
        changed = changed or new is not part
        if new is not None:
            kept.append(new)
    if not changed:
        return content
    return splice.edit(content, {"parts": b"[" + b",".join(kept) + b"]"}, (), spans) if kept else None


def _edit_part(
    part: bytes, spans: Mapping[str, splice.Member], target: Target, dropped: dict[str, None]
) -> bytes | None:
    """A signature goes only to whoever issued it."""
    found = span(spans, "thoughtSignature")
    if found is None:
        return part
    name, member = found
    value = splice.loads(part[member.value : member.end])
    if not isinstance(value, str) or not value:
        return part
    opaque = gemini_signatures.read(value)
    signer = target.capabilities.thinking_signature
    if opaque is not None and opaque.origin == signer and opaque.kind == "thought":
        return part if opaque.value == value else splice.edit(part, {name: splice.dumps(opaque.value)}, (), spans)
    origin = "another provider" if opaque is None else opaque.origin
    dropped[f"{name} of {origin[:64]}"] = None
    if _is_thought(part, spans):
        return None  # reasoning that somebody else signed
    if "text" in spans and splice.loads(part[spans["text"].value : spans["text"].end]) == "":
        return None  # nothing but its signature
    return splice.edit(part, None, (name,), spans)


def _is_thought(part: bytes, spans: Mapping[str, splice.Member]) -> bool:
    member = spans.get("thought")
    return member is not None and part[member.value : member.end] == b"true"
