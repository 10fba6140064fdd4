"""
How the Chat dialect tells an error: status, type and code (https://platform.openai.com/docs/guides/error-codes).

Clients decide by the code whether they ask again, so each kind has the code of OpenAI's own for it.
"""

from __future__ import annotations

from .. import splice
from ..errors import Kind, RouterError

_INVALID, _SERVER, _QUOTA = "invalid_request_error", "server_error", "insufficient_quota"

#: Status (``None``: the error's own), type and code of each kind.
_KINDS: dict[Kind, tuple[int | None, str, str | None]] = {
    Kind.BAD_REQUEST: (None, _INVALID, None),
    Kind.NOT_FOUND: (None, _INVALID, None),
    Kind.METHOD: (None, _INVALID, "method_not_allowed"),
    Kind.MEDIA_TYPE: (None, _INVALID, "unsupported_media_type"),
    Kind.TOO_LARGE: (None, _INVALID, "request_too_large"),
    Kind.CONTEXT: (400, _INVALID, "context_length_exceeded"),
    Kind.POLICY: (400, _INVALID, "content_filter"),
    Kind.UNAUTHENTICATED: (None, _INVALID, "invalid_api_key"),
    Kind.FORBIDDEN: (None, "permission_error", None),
    Kind.BUSY: (503, _SERVER, "server_is_overloaded"),
    Kind.BUDGET: (429, _QUOTA, _QUOTA),
    Kind.NOT_SUPPORTED: (None, _INVALID, "not_supported"),
    Kind.MONEY: (429, _QUOTA, _QUOTA),
    Kind.RATE: (429, "rate_limit_error", "rate_limit_exceeded"),
    Kind.OVERLOADED: (503, _SERVER, "server_is_overloaded"),
    Kind.TIMEOUT: (504, _SERVER, "timeout"),
}


def _told(error: RouterError) -> tuple[int, str, str | None]:
    status, type_, code = _KINDS.get(error.kind, (None, _SERVER, None))
    if status is None:
        status = error.status
    if error.kind is Kind.NOT_FOUND and (error.by or "model" in error.message.lower()):
        code = "model_not_found"
    elif error.status == 402:
        # The dialect has no 402: a spent account is a 429 that asking again does not help.
        status, type_, code = 429, _QUOTA, _QUOTA
    elif error.kind is Kind.AUTH and error.status == 401:
        type_, code = _INVALID, "invalid_api_key"
    return status, type_, code


def error_status(error: RouterError) -> int:
    """See :meth:`mportrouter.interfaces.IDialect.error_status`."""
    return _told(error)[0]


def error_body(error: RouterError) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.error_body`."""
    _, type_, code = _told(error)
    message = error.message if error.by else f"mportrouter: {error.message}"
    return splice.dumps({"error": {"message": message, "type": type_, "param": None, "code": code}})


def error_event(error: RouterError) -> bytes:
    """The chunk that ends a stream in an error; no ``[DONE]`` follows, which would be a good end to some clients."""
    return b"data: %b\n\n" % error_body(error)
