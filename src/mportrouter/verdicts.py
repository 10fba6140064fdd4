"""
What a provider's error answer means: from status, headers and body to a :class:`mportrouter.errors.Verdict`.

The rules follow what providers document and what the official clients do (``x-should-retry`` decides; else 408, 409,
429 and 5xx may be asked again). Three things are worth knowing here:

* a 429 is not always a rate limit: a spent budget comes as 429 too, and waiting does not help against it;
* a 4xx that is the request's own fault goes to the client with the provider's words and counts against nobody;
* MiniMax says what went wrong by a number, in ``base_resp.status_code`` or in parentheses at the end of the message.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Mapping
from typing import Any

import attrs

from .advice import duration, parse_reset, retry_after
from .errors import Kind, RouterError, Verdict

__all__ = [
    "EXHAUSTED",
    "all_exhausted",
    "classify",
    "clean",
    "in_words",
    "nobody_answered",
    "parse_reset",
    "retry_after",
    "verdict_for_code",
    "verdict_for_error",
]

#: What only a person can mend.
_ACCOUNT = frozenset({Kind.AUTH, Kind.MONEY})
#: For which an account is left alone until it may serve again.
EXHAUSTED = frozenset({Kind.RATE, Kind.MONEY, Kind.OVERLOADED})
#: Seconds after which to ask again where every upstream failed and none said when.
RETRY_ADVICE = 5.0
#: Characters of a provider's message that are kept.
_MESSAGE_LIMIT = 300
#: Bytes of an error body that are read; an error page longer than this is judged by its status alone.
_BODY_LIMIT = 256 * 1024

# MiniMax: platform.minimax.io, "Error code" page.
_CODES = {
    1000: 500,
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1013: 500,
    1024: 500,
    1026: 400,
    1027: 400,
    1033: 502,
    1039: 429,
    1041: 429,
    1042: 400,
    1043: 400,
    1044: 400,
    2013: 400,
    2037: 400,
    2039: 400,
    2042: 400,
    2045: 429,
    2048: 400,
    2049: 401,
    2056: 429,
    20132: 400,
}
_POLICY_CODES = frozenset({1026, 1027})
_MONEY_CODES = frozenset({1008, 2056})

# Status that stands for an error type where no HTTP status tells (an ``error`` event inside a 200).
_TYPES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "authorized_error": 401,
    "invalid_authentication_error": 401,
    "incorrect_api_key_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "access_terminated_error": 403,
    "not_found_error": 404,
    "resource_not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_reached_error": 429,
    "exceeded_current_quota_error": 429,
    "insufficient_balance_error": 402,
    "bad_request_error": 400,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "engine_overloaded_error": 529,
}

_MONEY = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "contract_spend_limit_reached",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "exceeded_current_quota_error",
        "insufficient_balance_error",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "usage_limit_reached",
        "usage_not_included",
    }
)
_MONEY_TEXT = re.compile(
    r"reached your specified (?:\w+ )?API usage limits|credit balance is too low|insufficient[ _]balance"
    r"|balance (?:is )?(?:insufficient|not enough)|exceeded your current quota|insufficient_quota|spend(?:ing)? limit",
    re.IGNORECASE,
)
_CONTEXT = frozenset({"context_length_exceeded", "context_window_exceeded", "string_above_max_length"})
_CONTEXT_TEXT = re.compile(
    r"prompt is too long|context_length_exceeded|exceeded model token limit|maximum context length"
    r"|exceeds? (?:the )?(?:model'?s? )?(?:maximum )?context|context window exceeds|input is too long for"
    r"|input tokens? exceeds?|exceeds the maximum number of tokens",
    re.IGNORECASE,
)
_POLICY = frozenset(
    {"content_filter", "content_policy_violation", "cyber_policy", "policy_blocked", "new_sensitive", "input_sensitive"}
)
_POLICY_TEXT = re.compile(r"content filtering policy|content policy|content_filter|usage policies", re.IGNORECASE)
_AUTH = frozenset({"invalid_api_key", "api_key_invalid", "authentication_error", "authorized_error"})
_AUTH_TEXT = re.compile(
    r"invalid (?:x-)?api[- ]key|api key not valid|(?:organization|account|key|token) (?:has been|is|was) "
    r"(?:disabled|deactivated|suspended|revoked|expired)",
    re.IGNORECASE,
)
_OVERLOAD = frozenset({"overloaded_error", "engine_overloaded_error", "server_is_overloaded"})
_OVERLOAD_TEXT = re.compile(r"engine is currently overloaded", re.IGNORECASE)
_NO_MODEL = frozenset({"model_not_found", "model_not_available"})
_NO_MODEL_TEXT = re.compile(
    r"^model: |\b(?:unknown|invalid|no such|non-?existent) model\b"
    r"|\bmodel\b[^.\n]{0,100}?(?:not found|not exist|doesn't exist|not available|is unknown)",
    re.IGNORECASE,
)
_TOKENS_A_MINUTE_TEXT = re.compile(r"tokens per minute|\bTPM\b")
_TRAILING_CODE = re.compile(r"\((\d{4,5})\)\s*$")
_TRY_AGAIN = re.compile(r"try again in (\d+(?:\.\d+)?(?:ms|s|m|h)(?:\d+(?:\.\d+)?s)?)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.{1,300}?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(?:script|style)\b.{0,5000}?</(?:script|style)>|<[^<>]{0,500}>", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"\b(?:sk-|sk_|eyJ|AIza|gsk_)[\w.*-]{8,}|\bBearer\s+[\w.~+/-]{8,}=*")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: str) -> str:
    """
    A provider's words, fit for a log line and a terminal: no control or invisible characters, nothing that looks like a
    key, at most 300 characters.
    """
    # Only the part that can be shown is worth the walk; a message may be a whole page.
    shown = "".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in text[: 8 * _MESSAGE_LIMIT])
    shown = " ".join(_KEY.sub("****", shown).split())
    return shown if len(shown) <= _MESSAGE_LIMIT else shown[: _MESSAGE_LIMIT - 1].rstrip() + "…"


@attrs.frozen
class _Told:
    """What an error body says, whatever its shape."""

    message: str = ""
    #: Every type, code, status name and error code it gives, lower case.
    names: frozenset[str] = frozenset()
    #: MiniMax's number from ``base_resp``, or from the message's end where ``http_code`` shows whose shape it is.
    code: int | None = None
    #: A number at the message's end that may be MiniMax's.
    trailing: int | None = None
    #: Seconds that the body itself asks to wait.
    wait: float | None = None


def classify(status: int, headers: list[tuple[bytes, bytes]], body: bytes, now: float) -> Verdict:
    """
    What an HTTP error answer means.

    :param status: its HTTP status.
    :param headers: its fields, names in any case.
    :param body: its body as far as it came: JSON of any provider's shape, HTML, gzip of these, or nothing.
    :param now: seconds since the epoch, for advice given as a date.
    """
    fields = {name.lower(): value for name, value in headers}
    told = _read(_decoded(body, fields.get(b"content-encoding", b"").strip().lower()))
    verdict = _judge(status, told)
    wait = retry_after(headers, now)
    if wait is None and verdict.kind in (Kind.RATE, Kind.OVERLOADED, Kind.MONEY):
        wait = told.wait
    advice = fields.get(b"x-should-retry", b"").strip().lower()
    retry_same = verdict.retry_same
    if advice == b"false":
        retry_same = False
    elif advice == b"true" and verdict.kind not in (Kind.MONEY, Kind.AUTH, Kind.POLICY, Kind.CONTEXT):
        retry_same = True
    message = verdict.message or f"HTTP {status} without a message"
    return attrs.evolve(verdict, message=message, retry_after=wait, retry_same=retry_same, status=status)


def verdict_for_code(code: int, message: str) -> Verdict:
    """
    What an error number of MiniMax means; an unknown one counts as a fault of the provider.

    :param code: ``base_resp.status_code`` of an answer, not 0.
    :param message: ``base_resp.status_msg``.
    """
    verdict = _judge(_CODES.get(code, 500), _Told(message=message, code=code))
    return verdict if verdict.message else attrs.evolve(verdict, message=f"error code {code}")


def verdict_for_error(error_type: str, message: str) -> Verdict:
    """
    What an error inside a 200 answer means (an ``error`` event of a stream, or an error object in place of a message).

    :param error_type: ``error.type``; an unknown one counts as a fault of the provider.
    :param message: ``error.message``.
    """
    name = error_type.lower()
    verdict = _judge(_TYPES.get(name, 500), _Told(message, frozenset({name}), trailing=_trailing(message)))
    if verdict.kind in (Kind.RATE, Kind.OVERLOADED):
        verdict = attrs.evolve(verdict, retry_after=_asked(message))
    return verdict if verdict.message else attrs.evolve(verdict, message=clean(error_type) or "unnamed error")


def _judge(status: int, told: _Told) -> Verdict:
    """The verdict without what only headers can tell."""
    message, names, code = told.message, told.names, told.code
    if code is None and told.trailing in _CODES:
        # A refusal by anybody else may end in a number of four digits too; those read as a fault of MiniMax's servers
        # are believed only where the status is not a refusal of the request.
        claimed = _CODES[told.trailing]
        if claimed < 500 or status not in (400, 404, 413, 422):
            code = told.trailing
    if code is not None:
        status = _CODES.get(code, status)
    shown = clean(message)

    def verdict(kind: Kind, retry_same: bool = False, move_on: bool = True, account: bool = False) -> Verdict:
        return Verdict(kind, shown, retry_same=retry_same, move_on=move_on, account=account)

    if status == 402 or code in _MONEY_CODES or names & _MONEY:
        return verdict(Kind.MONEY, account=True)
    if status in (400, 403, 429) and _MONEY_TEXT.search(message):
        return verdict(Kind.MONEY, account=True)
    if code in _POLICY_CODES or (status < 500 and (names & _POLICY or _POLICY_TEXT.search(message))):
        return verdict(Kind.POLICY, move_on=False)
    # Some servers report an overlong prompt as 500 or 413.
    if status in (400, 413, 422, 500) and (names & _CONTEXT or _CONTEXT_TEXT.search(message)):
        return verdict(Kind.CONTEXT)
    if status == 401 or (status in (400, 403) and (names & _AUTH or _AUTH_TEXT.search(message))):
        return verdict(Kind.AUTH, account=True)
    if status == 403:
        # One model, one feature or one client may be forbidden; the account may be well.
        return verdict(Kind.AUTH)
    if status in (400, 404, 422) and (names & _NO_MODEL or _NO_MODEL_TEXT.search(message)):
        return verdict(Kind.NOT_FOUND)
    if status == 413 and _TOKENS_A_MINUTE_TEXT.search(message):
        return verdict(Kind.RATE)
    if status == 429:
        if names & _OVERLOAD or _OVERLOAD_TEXT.search(message):
            return verdict(Kind.OVERLOADED, retry_same=True)
        return verdict(Kind.RATE, retry_same=True)
    if status in _PLAIN:
        kind, retry_same, move_on = _PLAIN[status]
        return verdict(kind, retry_same, move_on)
    if 400 <= status < 500:
        return verdict(Kind.BAD_REQUEST, move_on=False)
    if status >= 500:
        return verdict(Kind.UPSTREAM, retry_same=True)
    # Neither an answer nor an error: a redirect, or a body that is not what its status says.
    return verdict(Kind.GARBAGE)


#: Statuses whose meaning needs no text: kind, whether to ask again, whether to move on.
_PLAIN = {
    404: (Kind.NOT_FOUND, False, False),
    405: (Kind.METHOD, False, False),
    408: (Kind.TIMEOUT, True, True),
    409: (Kind.UPSTREAM, True, True),
    413: (Kind.TOO_LARGE, False, False),
    415: (Kind.MEDIA_TYPE, False, False),
    425: (Kind.UPSTREAM, True, True),
    498: (Kind.OVERLOADED, True, True),
    501: (Kind.UPSTREAM, False, True),
    503: (Kind.OVERLOADED, True, True),
    504: (Kind.TIMEOUT, True, True),
    522: (Kind.TIMEOUT, True, True),
    524: (Kind.TIMEOUT, True, True),
    529: (Kind.OVERLOADED, True, True),
}


def _trailing(message: str) -> int | None:
    found = _TRAILING_CODE.search(message[-200:])
    return int(found[1]) if found else None


def _asked(message: str) -> float | None:
    """Seconds from words such as ``Please try again in 5.289s``."""
    found = _TRY_AGAIN.search(message[:4000])
    return duration(found[1]) if found else None


def _decoded(body: bytes, encoding: bytes) -> bytes:
    """The first bytes of a body whose content coding is undone where zlib can; else nothing, and the status must do."""
    if encoding in (b"", b"identity"):
        return body[:_BODY_LIMIT]
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        return b""
    for window in (47, -15):  # gzip or zlib by its head; else raw deflate, which some servers send as "deflate"
        try:
            return zlib.decompressobj(window).decompress(body, _BODY_LIMIT)
        except zlib.error:
            continue
    return b""


def _read(body: bytes) -> _Told:
    """What an error body tells, in any of the providers' shapes."""
    if not body.strip():
        return _Told()
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        if text.lstrip().startswith("<"):
            text = text[:20_000]
            title = _TITLE.search(text)
            text = title[1] if title else _TAG.sub(" ", text)
        return _Told(message=text, wait=_asked(text))
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's stream errors
    if isinstance(value, str):
        return _Told(message=value, wait=_asked(value))
    return _read_object(value) if isinstance(value, dict) else _Told()


def _read_object(value: dict[str, Any]) -> _Told:
    base = value.get("base_resp")
    if isinstance(base, dict) and isinstance(base.get("status_code"), int) and base["status_code"]:
        return _Told(message=_text(base.get("status_msg")), code=base["status_code"])
    error = value.get("error")
    if isinstance(error, str):
        return _Told(error, _names(value.get("type"), value.get("code")), wait=_asked(error))
    if not isinstance(error, dict):
        error = value
    message = _text(error.get("message")) or _text(error.get("detail")) or _text(error.get("msg"))
    details = error.get("details")
    found: list[Any] = [error.get("type"), error.get("code"), error.get("status")]
    wait = _asked(message)
    for detail in details if isinstance(details, list) else [details]:
        if isinstance(detail, dict):
            found += [detail.get("error_code"), detail.get("reason")]
            if isinstance(detail.get("retryDelay"), str):  # google.rpc.RetryInfo
                wait = duration(detail["retryDelay"])
    if isinstance(error.get("metadata"), dict):
        found.append(error["metadata"].get("error_type"))
    if wait is None and isinstance(error.get("resets_in_seconds"), (int, float)):  # the ChatGPT backend
        wait = max(0.0, float(error["resets_in_seconds"]))
    number = _trailing(message)
    known = "http_code" in error and number in _CODES
    return _Told(message, _names(*found), number if known else None, number, wait)


def _names(*values: Any) -> frozenset[str]:
    return frozenset(value.lower() for value in values if isinstance(value, str))


def _text(value: Any) -> str:
    """A message that may be a text, or a list of objects with one (validation errors)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, (_text(item.get("msg")) for item in value[:5] if isinstance(item, dict))))
    return ""


def in_words(verdict: Verdict) -> str:
    """A verdict for a person: the words, and the status where there was one."""
    return f"{verdict.message} (HTTP {verdict.status})" if verdict.status is not None else verdict.message


def all_exhausted(last: Mapping[str, Verdict], model: str, resting: float | None = None) -> RouterError | None:
    """
    The one error where every account is rate limited, overloaded or out of money.

    :param last: as for :func:`nobody_answered`.
    :param model: that the client asks for.
    :param resting: seconds until the first of those is back that rest and were not asked; ``None``: there is none.
    :returns: ``None`` where anything else is the matter with one, or where only a person can mend them all.
    """
    if not last or any(verdict.kind not in EXHAUSTED | _ACCOUNT for verdict in last.values()):
        return None
    waits = [verdict.retry_after or RETRY_ADVICE for verdict in last.values() if verdict.kind in EXHAUSTED]
    if resting is not None:
        waits.append(resting)
    if not waits:
        return None
    reasons = "; ".join(f"{name}: {in_words(verdict)}" for name, verdict in last.items())
    words = f"all providers for model exhausted: {clean(model)!r} ({reasons})"
    return RouterError(Kind.RATE, words, max(1.0, min(waits)))


def nobody_answered(last: Mapping[str, Verdict]) -> RouterError:
    """
    The one error for several failures.

    :param last: the last verdict of each upstream that was asked or passed over, in that order; not empty.
    :returns: names every upstream with its reason; ``retry_after`` is the soonest time that any of them gave.
    """
    reasons = "; ".join(f"{name}: {in_words(verdict)}" for name, verdict in last.items())
    kinds = {verdict.kind for verdict in last.values()}
    if kinds <= _ACCOUNT:
        # Asking again helps nobody: a person has to mend the key or the balance.
        status = 401 if Kind.AUTH in kinds else 402
        mend = "mend it, then reload the router or enable the upstream again"
        return RouterError(Kind.AUTH, f"no account can be used ({reasons}); {mend}", status=status)
    others = [verdict for verdict in last.values() if verdict.kind not in _ACCOUNT]
    advice = max(1.0, min(RETRY_ADVICE if each.retry_after is None else each.retry_after for each in others))
    if kinds == {Kind.RATE}:
        return RouterError(Kind.RATE, f"rate-limited everywhere: {reasons}", advice)
    if kinds == {Kind.BUSY}:
        return RouterError(Kind.BUSY, f"no place is free; try again soon ({reasons})", advice)
    return RouterError(Kind.UNAVAILABLE, f"no upstream answered: {reasons}", advice)
