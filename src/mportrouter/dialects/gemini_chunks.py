"""What single events of a Gemini answer say: reasons, numbers, errors (https://ai.google.dev/api/generate-content)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .. import splice
from ..errors import Kind, Verdict
from ..records import Usage
from ..verdicts import classify
from .gemini_reading import told

#: Why a model stopped, in neutral words; what is not here counts as ``OTHER``.
STOPS = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "CONTINUATION": "pause",
}
#: The model went wrong: such an answer is never a silent success.
BROKEN = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    }
)
UNSPECIFIED = frozenset({"FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"})
#: HTTP statuses of errors that come by name only.
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
#: Members of the events that count, whatever came before.
_LAST = (b'"finishReason"', b'"error"', b'"blockReason"')


def interesting(data: bytes) -> bool:
    """Whether an event's data can tell of usage after the end, of the end, or of an error."""
    return b'"candidates"' not in data or any(member in data for member in _LAST)


def garbage(message: str) -> Verdict:
    """The answer makes no sense."""
    return Verdict(Kind.GARBAGE, message, retry_same=True, status=200)


def usage_of(usage: Mapping[str, Any], searches: int = 0) -> Usage:
    """
    ``usageMetadata`` as disjoint numbers: the prompt there includes what was cached, the candidates exclude thoughts.

    :param searches: queries that the provider ran.
    """
    prompt, cached = number(usage, "promptTokenCount"), number(usage, "cachedContentTokenCount")
    thoughts, tools = number(usage, "thoughtsTokenCount"), number(usage, "toolUsePromptTokenCount")
    candidates = number(usage, "candidatesTokenCount")
    if usage.get("candidatesTokenCount") is None:
        candidates = max(0, number(usage, "totalTokenCount") - prompt - thoughts - tools)
    return Usage(
        input=max(0, prompt - cached) + tools,
        cache_read=cached,
        output=candidates + thoughts,
        reasoning=thoughts,
        web_searches=searches,
    )


def number(source: Mapping[str, Any], name: str) -> int:
    """A member that counts, 0 for anything else."""
    value = source.get(name)
    return max(0, int(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def text(source: Mapping[str, Any], name: str) -> str:
    """A member that is a text, ``""`` for anything else."""
    value = source.get(name)
    return value if isinstance(value, str) else ""


def note(part: Mapping[str, Any]) -> str:
    """What a client of another dialect is told of a part that only this one has."""
    blob = part.get("inlineData")
    if isinstance(blob, dict):
        return f"[the model gave {text(blob, 'mimeType') or 'a file'}, which cannot be shown here]"
    return told(part)


def trouble_in(chunk: Mapping[str, Any]) -> Verdict:
    """An error in place of an answer, judged as it would be with its own status."""
    error = chunk["error"]
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or not 400 <= code < 600:
        name = error.get("status") if isinstance(error, dict) else None
        code = _STATUSES.get(name, 500) if isinstance(name, str) else 500
    verdict = classify(code, [], splice.dumps(chunk), 0.0)
    return attrs.evolve(verdict, message=verdict.message or "an error without words")
