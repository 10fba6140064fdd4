"""
Edits inside the messages of a Chat request for an upstream of the same dialect; every other byte stays.

They concern what an upstream is known to refuse (the role ``developer``, reasoning of earlier turns), and the state of
other providers' models that answers of this router brought to the client: it is given back to whoever made it, and
to nobody else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import envelope, splice
from ..conversation import Opaque
from ..interfaces import Target

_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_SEALED = b'"' + envelope.PREFIX.encode()


def edit(raw: msgspec.Raw | memoryview, developer: bool, target: Target, dropped: dict[str, None]) -> bytes | None:
    """
    :param raw: the JSON text of the messages.
    :param developer: whether one has the role ``developer``.
    :param dropped: takes a note for what was left out.
    :returns: ``None`` where nothing has to change.
    """
    capabilities = target.capabilities
    rename = developer and capabilities.system_role == "system"
    text = bytes(raw)
    sealed = _SEALED in text
    forbidden = capabilities.reasoning_echo == "forbidden" and b'"reasoning' in text
    if not (rename or sealed or forbidden):
        return None
    try:
        messages = splice.elements(text)
    except splice.Malformed:
        return None
    changed = False
    for index, message in enumerate(messages):
        edited = _edit(message, rename, forbidden, target, dropped)
        if edited is not None:
            messages[index] = edited
            changed = True
    return b"[" + b",".join(messages) + b"]" if changed else None


def _edit(message: bytes, rename: bool, forbidden: bool, target: Target, dropped: dict[str, None]) -> bytes | None:
    rename = rename and b'"developer"' in message
    forbidden = forbidden and b'"reasoning' in message
    sealed = _SEALED in message
    if not (rename or forbidden or sealed):
        return None
    try:
        spans = splice.members(message)
        values = {name: message[member.value : member.end] for name, member in spans.items()}
        role = splice.loads(values.get("role", b"null"))
    except splice.Malformed:
        return None  # the provider judges it
    replace: dict[str, bytes] = {}
    drop: dict[str, None] = {}
    if rename and role == "developer":
        replace["role"] = b'"system"'
    if role == "assistant":
        if forbidden:
            drop.update((name, None) for name in _REASONING if name in values)
            dropped.update((f"messages[].{name}", None) for name in drop)
        if sealed and "reasoning_details" in values and "reasoning_details" not in drop:
            _edit_details(values["reasoning_details"], target, replace, drop, dropped)
        if sealed and _SEALED in values.get("tool_calls", b""):
            calls = splice.loads(values["tool_calls"])
            if _open_calls(calls, target, dropped):
                replace["tool_calls"] = splice.dumps(calls)
    return splice.edit(message, replace, drop, spans) if replace or drop else None


def own(text: Any, target: Target) -> tuple[bool, Opaque | None]:
    """Whether a value is an envelope, and what is in it where the target made it."""
    if not isinstance(text, str) or not envelope.is_envelope(text):
        return False, None
    opaque = envelope.opened(text)
    return True, opaque if opaque is not None and opaque.origin == target.capabilities.thinking_signature else None


def details_in(opaque: Opaque) -> list[Any] | None:
    """The entries of ``reasoning_details`` that were sealed as one state; ``None`` for a state of another kind."""
    if opaque.kind != "encrypted" or not opaque.value.startswith("["):
        return None
    try:
        value = splice.loads(opaque.value.encode("utf-8", "surrogatepass"))
    except splice.Malformed:
        return None
    return value if isinstance(value, list) else None


def _edit_details(
    raw: bytes, target: Target, replace: dict[str, bytes], drop: dict[str, None], dropped: dict[str, None]
) -> None:
    details = splice.loads(raw)
    kept: list[Any] = []
    for detail in details if isinstance(details, list) else ():
        sealed = False
        for name in ("signature", "data"):
            is_sealed, opaque = own(detail.get(name) if isinstance(detail, dict) else None, target)
            sealed = sealed or is_sealed
            if opaque is not None:
                kept += details_in(opaque) or [{**detail, name: opaque.value}]
        if not sealed:
            kept.append(detail)
    if kept == details:
        return
    if kept:
        replace["reasoning_details"] = splice.dumps(kept)
    else:
        drop["reasoning_details"] = None
    dropped["reasoning of another provider"] = None


def _open_calls(calls: Any, target: Target, dropped: dict[str, None]) -> bool:
    """Put the target's own thought signatures back, and leave out those of others; whether anything changed."""
    changed = False
    for call in calls if isinstance(calls, list) else ():
        extra = call.get("extra_content") if isinstance(call, dict) else None
        google = extra.get("google") if isinstance(extra, dict) else None
        if not isinstance(google, dict) or not isinstance(extra, dict):
            continue
        sealed, opaque = own(google.get("thought_signature"), target)
        if not sealed:
            continue
        changed = True
        if opaque is not None:
            google["thought_signature"] = opaque.value
            continue
        del google["thought_signature"]
        dropped["reasoning of another provider"] = None
        if not google:
            del extra["google"]
        if not extra:
            del call["extra_content"]
    return changed
