"""
What a reader wants to see of an answer: events, whole messages, and the errors that hide in either.

msgspec reads the members that count and skips the rest; what it refuses (a lone surrogate, ``NaN``, a member of an odd
type) is read by the standard library as far as it can be read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .. import splice
from ..errors import Kind, Verdict
from ..verdicts import verdict_for_code, verdict_for_error

_NOTHING = msgspec.Raw(b"")


class _Start(msgspec.Struct, gc=False):
    model: str | None = None
    usage: msgspec.Raw = _NOTHING


class _Opened(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""


class _Trouble(msgspec.Struct, gc=False):
    type: str = ""
    message: str = ""


class _BaseResp(msgspec.Struct, gc=False):
    status_code: int = 0
    status_msg: str = ""


class _Ended(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class SeenEvent(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Ended | None = None
    message: _Start | None = None
    content_block: _Opened | None = None
    usage: msgspec.Raw = _NOTHING
    error: _Trouble | None = None
    base_resp: _BaseResp | None = None


class _Delta(msgspec.Struct, gc=False):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class _HasDelta(msgspec.Struct, gc=False):
    delta: _Delta | None = None


class SeenMessage(msgspec.Struct, gc=False):
    type: str = ""
    model: str | None = None
    content: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    input_tokens: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING
    error: _Trouble | None = None
    base_resp: _BaseResp | None = None


decode_event = msgspec.json.Decoder(SeenEvent).decode
decode_delta = msgspec.json.Decoder(_HasDelta).decode
decode_message = msgspec.json.Decoder(SeenMessage).decode
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)


def trouble_in(kind: str, seen: SeenEvent | SeenMessage) -> Verdict | None:
    """What an event or a whole answer says against itself: its dialect's error, or MiniMax's ``base_resp``."""
    error, base = seen.error, seen.base_resp
    if kind == "error" or (error is not None and kind != "message"):
        error = error or _Trouble()
        return verdict_for_error(error.type, error.message)
    if base is not None and base.status_code:
        return verdict_for_code(base.status_code, base.status_msg)
    return None


def read_event_slowly(data: bytes) -> SeenEvent | None:
    """An event that msgspec refuses (a lone surrogate, ``NaN``, a member of an odd type), as far as it can be read."""
    try:
        found = splice.loads(data)
    except splice.Malformed:
        return None
    if not isinstance(found, dict):
        return None
    message, opened, delta = found.get("message"), found.get("content_block"), found.get("delta")
    return SeenEvent(
        _text(found, "type"),
        _Ended(_text(delta, "stop_reason") or None) if isinstance(delta, dict) else None,
        _Start(_text(message, "model") or None, _raw(message.get("usage"))) if isinstance(message, dict) else None,
        _Opened(_text(opened, "type"), _text(opened, "text")) if isinstance(opened, dict) else None,
        _raw(found.get("usage")),
        _error_of(found),
        _base_of(found),
    )


def read_whole_slowly(data: bytes) -> SeenMessage | None:
    try:
        found = splice.loads(data)
    except splice.Malformed:
        return None
    if not isinstance(found, dict):
        return None
    return SeenMessage(
        _text(found, "type"),
        _text(found, "model") or None,
        msgspec.Raw(b"[]") if isinstance(found.get("content"), list) else _NOTHING,
        _raw(found.get("usage")),
        msgspec.Raw(b"0") if "input_tokens" in found else _NOTHING,
        msgspec.Raw(b"[]") if isinstance(found.get("data"), list) else _NOTHING,
        _error_of(found),
        _base_of(found),
    )


def _error_of(found: dict[str, Any]) -> _Trouble | None:
    error = found.get("error")
    if isinstance(error, dict):
        return _Trouble(_text(error, "type"), _text(error, "message"))
    if isinstance(error, str):
        return _Trouble("", error)
    return None


def _base_of(found: dict[str, Any]) -> _BaseResp | None:
    base = found.get("base_resp")
    if not isinstance(base, dict):
        return None
    try:
        code = int(base.get("status_code") or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return _BaseResp(code, _text(base, "status_msg"))


def _text(source: dict[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(splice.dumps(value)) if isinstance(value, dict) else _NOTHING
