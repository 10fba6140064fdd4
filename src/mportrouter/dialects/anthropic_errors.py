"""Errors as the Anthropic Messages dialect has them (vendor documentation, "Errors")."""

from __future__ import annotations

from .. import splice, sse
from ..errors import Kind, RouterError

#: What the dialect calls an error, where the status alone does not say it.
_KINDS = {
    Kind.NOT_SUPPORTED: "not_supported",
    Kind.RATE: "rate_limit_error",
    Kind.BUDGET: "rate_limit_error",
    Kind.OVERLOADED: "overloaded_error",
    Kind.TIMEOUT: "timeout_error",
}
_STATUSES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    501: "not_supported",
    504: "timeout_error",
    529: "overloaded_error",
}
#: How the message of an overlong prompt begins: Claude Code compacts the conversation where it reads this.
_TOO_LONG = "prompt is too long"


def status_of(error: RouterError) -> int:
    """See :meth:`mportrouter.interfaces.IDialect.error_status`."""
    # No client asks again after 402, and the money is one account's: waiting does not help.
    return 402 if error.by and error.kind is Kind.MONEY else error.status


def body_of(error: RouterError, request_id: str) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.error_body`."""
    status = status_of(error)
    kind = _KINDS.get(error.kind) or _STATUSES.get(status)
    if kind is None:
        kind = "invalid_request_error" if 400 <= status < 500 else "api_error"
    message = error.message if error.by else f"mportrouter: {error.message}"
    if error.by and error.kind is Kind.CONTEXT and not message.startswith(_TOO_LONG):
        message = f"{_TOO_LONG}: {message}"
    return splice.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def event_of(error: RouterError, request_id: str) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.error_event`."""
    return sse.event("error", body_of(error, request_id))
