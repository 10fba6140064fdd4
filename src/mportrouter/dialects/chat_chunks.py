"""
What a reader wants to see of a Chat answer: chunks of a stream, whole answers, and the errors that hide in either.

msgspec reads the members that count and skips the rest; what it refuses (a lone surrogate, ``NaN``, a member of an odd
type) is read by the standard library as far as it can be read.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from .. import splice
from ..errors import Kind, Verdict
from ..verdicts import classify, verdict_for_code
from . import chat_usage
from .chat_usage import Counts

_NOTHING = msgspec.Raw(b"")
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Function(msgspec.Struct):
    name: str | None = None
    #: Some servers give the object itself instead of its JSON text.
    arguments: str | dict[str, Any] | None = None


class Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Custom | None = None
    extra_content: dict[str, Any] | None = None


class Words(msgspec.Struct):
    """A ``delta`` or a whole ``message``."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    reasoning_details: list[Any] | None = None
    annotations: list[Any] | None = None
    images: list[Any] | None = None


class Choice(msgspec.Struct):
    """
    :param stop_reason: vLLM tells the stop string here,
    :param matched_stop: SGLang here; a number is a token.
    """

    index: int = 0
    delta: Words | None = None
    message: Words | None = None
    finish_reason: str | None = None
    usage: Counts | None = None
    stop_reason: Any = None
    matched_stop: Any = None
    error: Any = None


class _Groq(msgspec.Struct):
    usage: Counts | None = None
    error: Any = None


class Chunk(msgspec.Struct):
    """A chunk of a stream, a whole answer, or an error in place of either."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    x_groq: _Groq | None = None
    base_resp: Any = None
    object: Any = None
    message: Any = None
    detail: Any = None
    code: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def decode(data: bytes) -> Chunk | None:
    """
    The chunk that a JSON text holds.

    :returns: ``None`` for what is no JSON object.
    """
    try:
        return _decode(data)
    except REFUSED:
        pass
    try:
        value = splice.loads(data)
    except splice.Malformed:
        try:
            # A stream is not given up for a byte that is no UTF-8.
            value = splice.loads(data.decode("utf-8", "replace").encode())
        except splice.Malformed:
            return None
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
        value = value[0]  # Gemini's compatible endpoint
    return _chunk(value) if isinstance(value, dict) else None


def _chunk(value: dict[str, Any]) -> Chunk:
    choices = value.get("choices")
    groq = value.get("x_groq")
    return Chunk(
        id=_text(value, "id"),
        model=_text(value, "model"),
        choices=[_choice(each) for each in choices if isinstance(each, dict)] if isinstance(choices, list) else None,
        usage=chat_usage.leniently(value.get("usage")),
        error=value.get("error"),
        x_groq=_Groq(chat_usage.leniently(groq.get("usage")), groq.get("error")) if isinstance(groq, dict) else None,
        base_resp=value.get("base_resp"),
        object=value.get("object"),
        message=value.get("message"),
        detail=value.get("detail"),
        code=value.get("code"),
    )


def _choice(value: dict[str, Any]) -> Choice:
    return Choice(
        index=_whole(value, "index") or 0,
        delta=_words(value.get("delta")),
        message=_words(value.get("message")),
        finish_reason=_text(value, "finish_reason"),
        usage=chat_usage.leniently(value.get("usage")),
        stop_reason=value.get("stop_reason"),
        matched_stop=value.get("matched_stop"),
        error=value.get("error"),
    )


def _words(value: Any) -> Words | None:
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    calls = value.get("tool_calls")
    return Words(
        content=content if isinstance(content, (str, list)) else None,
        reasoning_content=_text(value, "reasoning_content"),
        reasoning=_text(value, "reasoning"),
        refusal=_text(value, "refusal"),
        tool_calls=[_call(each) for each in calls if isinstance(each, dict)] if isinstance(calls, list) else None,
        function_call=_function(value.get("function_call")),
        reasoning_details=_list(value, "reasoning_details"),
        annotations=_list(value, "annotations"),
        images=_list(value, "images"),
    )


def _call(value: dict[str, Any]) -> Call:
    custom = value.get("custom")
    extra = value.get("extra_content")
    return Call(
        index=_whole(value, "index"),
        id=_text(value, "id"),
        function=_function(value.get("function")),
        custom=Custom(_text(custom, "name"), _text(custom, "input")) if isinstance(custom, dict) else None,
        extra_content=extra if isinstance(extra, dict) else None,
    )


def _function(value: Any) -> Function | None:
    if not isinstance(value, dict):
        return None
    arguments = value.get("arguments")
    return Function(_text(value, "name"), arguments if isinstance(arguments, (str, dict)) else None)


def _text(value: dict[str, Any], name: str) -> str | None:
    member = value.get(name)
    return member if isinstance(member, str) else None


def _list(value: dict[str, Any], name: str) -> list[Any] | None:
    member = value.get(name)
    return member if isinstance(member, list) else None


def _whole(value: dict[str, Any], name: str) -> int | None:
    member = value.get(name)
    if isinstance(member, float) and member.is_integer():
        return int(member)
    return member if isinstance(member, int) and not isinstance(member, bool) else None


# ------------------------------------------------------------------------------------------------------ errors

#: HTTP statuses that codes inside a 200 answer stand for.
_CODES = {
    "context_length_exceeded": 400,
    "string_above_max_length": 400,
    "invalid_prompt": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "tool_use_failed": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 503,
    "server_is_overloaded": 503,
    "overloaded": 503,
    "overloaded_error": 529,
    "engine_overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_reached_error": 429,
    "requests": 429,
    "tokens": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout": 504,
    "timeout_error": 504,
}


def trouble_of(error: Any) -> Verdict:
    """
    What an error inside an answer means.

    :param error: the ``error`` member, or the object that is one: an object with ``message``, ``type`` and ``code``
        (OpenRouter: an HTTP status), or a text (Ollama).
    """
    status = 500
    if isinstance(error, dict):
        for name in ("code", "type", "status"):
            value = error.get(name)
            if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
                status = value
                break
            if isinstance(value, str) and value.lower() in _CODES:
                status = _CODES[value.lower()]
                break
    verdict = classify(status, [], splice.dumps({"error": error}), 0.0)
    message = verdict.message if not verdict.message.startswith("HTTP ") else "an error without a message"
    # No status came: the answer was a 200.
    return attrs.evolve(verdict, status=None, message=message)


def trouble_in(chunk: Chunk) -> Verdict | None:
    """The error that an object in place of a chunk or an answer is, or ``None``."""
    if chunk.error:
        return trouble_of(chunk.error)
    base = chunk.base_resp
    if isinstance(base, dict):
        code = base.get("status_code")
        if isinstance(code, int) and code:
            said = base.get("status_msg")
            return verdict_for_code(code, said if isinstance(said, str) else "")
    if chunk.x_groq is not None and chunk.x_groq.error:
        return trouble_of(chunk.x_groq.error)
    if chunk.choices is None and (
        chunk.object == "error" or isinstance(chunk.message, str) or isinstance(chunk.detail, (str, list))
    ):
        told: dict[str, Any] = {"message": chunk.message or chunk.detail, "code": chunk.code}
        return trouble_of(told)
    return None


def garbage(message: str) -> Verdict:
    """An answer that is none."""
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)
