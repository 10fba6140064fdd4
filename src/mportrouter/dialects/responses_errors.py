"""
Errors of the OpenAI Responses dialect, both ways: what the router's are called there, and what those mean that come
inside an answer (``response.failed``, ``error``).

Codex heals itself by the codes, and reads from the words of ``rate_limit_exceeded`` when to come again.
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import Kind, RouterError, Verdict
from ..verdicts import clean, verdict_for_error

#: Statuses that the dialect does not use, and the ones that its clients expect there.
_STATUSES = {529: 503, 402: 429}

#: ``type`` and ``code`` by kind.
_NAMES: dict[Kind, tuple[str, str | None]] = {
    Kind.CONTEXT: ("invalid_request_error", "context_length_exceeded"),
    Kind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
    Kind.POLICY: ("invalid_request_error", "content_filter"),
    Kind.UNAUTHENTICATED: ("invalid_request_error", "invalid_api_key"),
    Kind.MONEY: ("insufficient_quota", "insufficient_quota"),
    Kind.RATE: ("rate_limit_error", "rate_limit_exceeded"),
    Kind.BUDGET: ("rate_limit_error", "rate_limit_exceeded"),
    Kind.OVERLOADED: ("server_error", "server_is_overloaded"),
    Kind.BUSY: ("server_error", "server_is_overloaded"),
    Kind.TIMEOUT: ("server_error", "timeout"),
}

#: Codes inside an answer, as the error types that :func:`mportrouter.verdicts.verdict_for_error` knows.
_TYPES = {
    "rate_limit_exceeded": "rate_limit_error",
    "server_is_overloaded": "overloaded_error",
    "slow_down": "overloaded_error",
    "invalid_prompt": "invalid_request_error",
    "invalid_encrypted_content": "invalid_request_error",
    "invalid_api_key": "authentication_error",
    "unsupported_parameter": "invalid_request_error",
    "model_not_found": "not_found_error",
    "timeout": "timeout_error",
}
_POLICIES = frozenset(
    {"bio_policy", "content_filter", "content_policy_violation", "cyber_policy", "misalignment_policy_violation"}
)


def status_of(error: RouterError) -> int:
    """The HTTP status of an error: there is no 529, and an empty account is a 429 with a code of its own."""
    if error.by and error.kind is Kind.MONEY:
        return 429
    return _STATUSES.get(error.status, error.status)


def named(error: RouterError) -> dict[str, Any]:
    """The object ``error`` of an error answer: message, type, param, code."""
    status = status_of(error)
    kind, code = _NAMES.get(error.kind, ("", None))
    if not kind:
        kind = "invalid_request_error" if 400 <= status < 500 else "server_error"
    if error.status == 402:
        kind = code = "insufficient_quota"
    elif error.kind is Kind.NOT_FOUND and (error.by or "model" in error.message.lower()):
        code = "model_not_found"
    return {"message": worded(error), "type": kind, "param": None, "code": code}


def worded(error: RouterError) -> str:
    """The words of an error: a provider's own, or the router's with its name before them."""
    return error.message if error.by else f"mportrouter: {error.message}"


def failure(error: RouterError) -> dict[str, Any]:
    """The object ``response.error`` of a failed answer: code and message, which both are always there."""
    found = named(error)
    code = found["code"] or ("invalid_prompt" if found["type"] == "invalid_request_error" else "server_error")
    message = found["message"]
    if code == "rate_limit_exceeded" and error.retry_after is not None and "try again in" not in message.lower():
        # The place where Codex looks for the delay.
        message = f"{message.rstrip('. ')}. Please try again in {max(1, math.ceil(error.retry_after))}s."
    return {"code": code, "message": message}


def verdict_of(code: str, kind: str, message: str) -> Verdict:
    """
    What an error inside an answer means.

    :param code: ``error.code``, ``""`` where there is none.
    :param kind: ``error.type``, ``""`` where there is none.
    """
    code, kind = code.lower(), kind.lower()
    if code in _POLICIES or kind in _POLICIES:
        return Verdict(Kind.POLICY, clean(message) or code or kind, move_on=False)
    name = _TYPES.get(code) or _TYPES.get(kind) or code or kind
    verdict = verdict_for_error(name, message)
    if verdict.kind is Kind.UPSTREAM and code and kind and kind != name:
        # An unknown code beside a type that may say more.
        verdict = verdict_for_error(kind, message)
    return verdict


def verdict_in(error: Any) -> Verdict:
    """The verdict on an ``error`` object, an error text, or an event that has its members at the top level."""
    if isinstance(error, str):
        return verdict_of("", "", error)
    if not isinstance(error, dict):
        return Verdict(Kind.UPSTREAM, "the answer failed without a word", retry_same=True)
    inner = error.get("error")
    if isinstance(inner, (dict, str)):
        return verdict_in(inner)
    code, kind, message = (_text(error, name) for name in ("code", "type", "message"))
    if kind == "error":  # that of the event
        kind = ""
    return verdict_of(code, kind, message or _text(error, "detail"))


def garbage(message: str) -> Verdict:
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)


def _text(source: dict[str, Any], name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""
