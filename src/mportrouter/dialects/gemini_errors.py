"""Errors in Google's shape, ``google.rpc.Status`` (https://cloud.google.com/apis/design/errors)."""

from __future__ import annotations

import math
from typing import Any

from .. import splice
from ..errors import Kind, RouterError

#: What a client of this dialect is told, where that is not the status of the kind.
_KINDS = {Kind.MONEY: 429, Kind.OVERLOADED: 503}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def status(error: RouterError) -> int:
    """The HTTP status of an error."""
    if error.status == 529:
        return 503  # nobody knows 529 here
    if error.kind in _KINDS and error.status == error.kind.status:
        return _KINDS[error.kind]
    return error.status


def body(error: RouterError, request_id: str) -> bytes:
    """The JSON body of an error, also as the last event of a stream."""
    code = status(error)
    name = _STATUSES.get(code) or ("INVALID_ARGUMENT" if code < 500 else "INTERNAL")
    details: list[dict[str, Any]] = []
    if error.retry_after is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{max(1, math.ceil(error.retry_after))}s"})
    if request_id:
        details.append({"@type": _TYPE + "RequestInfo", "requestId": request_id})
    message = error.message if error.by else f"mportrouter: {error.message}"
    shown: dict[str, Any] = {"code": code, "message": message, "status": name}
    if details:
        shown["details"] = details
    return splice.dumps({"error": shown})
