"""
Events and whole answers of the OpenAI Responses dialect as they are on the wire: decoded, and what they say of usage
and of their end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .. import splice
from ..errors import Verdict
from ..events import Finish
from ..records import Usage
from .responses_errors import verdict_in

_NOTHING = msgspec.Raw(b"")


class WireEvent(msgspec.Struct, gc=False):
    """The members of all kinds of events; absent ones are ``None`` or empty."""

    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    name: str | None = None
    item: msgspec.Raw = _NOTHING
    annotation: msgspec.Raw = _NOTHING
    response: msgspec.Raw = _NOTHING


_decode = msgspec.json.Decoder(WireEvent).decode
_NUMBERS = ("sequence_number", "output_index", "content_index", "summary_index")
_TEXTS = ("delta", "text", "refusal", "arguments", "input", "name")
_OBJECTS = ("item", "annotation", "response")


def event(data: bytes) -> WireEvent | None:
    """An event's data, ``None`` where it is no JSON object. Members of an odd type count as absent."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    found = value(data)
    if not isinstance(found, dict):
        return None
    kind = found.get("type")
    seen = WireEvent(kind if isinstance(kind, str) else "")
    for name in _NUMBERS:
        number = found.get(name)
        if isinstance(number, int) and not isinstance(number, bool):
            setattr(seen, name, number)
    for name in _TEXTS:
        text = found.get(name)
        if isinstance(text, str):
            setattr(seen, name, text)
        elif isinstance(text, (dict, list)) and name in ("delta", "arguments"):
            setattr(seen, name, splice.dumps(text).decode())
    for name in _OBJECTS:
        if isinstance(found.get(name), dict):
            setattr(seen, name, msgspec.Raw(splice.dumps(found[name])))
    return seen


def value(data: bytes | msgspec.Raw) -> Any:
    """The value of a JSON text, ``None`` for what is none."""
    text = bytes(data)
    try:
        return splice.loads(text) if text else None
    except splice.Malformed:
        return None


def trouble_in(found: Mapping[str, Any]) -> Verdict | None:
    """What a whole answer says against itself, or an error object in its place."""
    error = found.get("error")
    if error:
        return verdict_in(error)
    if found.get("status") in ("failed", "cancelled"):
        return verdict_in(None)
    if "output" not in found and isinstance(found.get("detail"), (str, list)):
        return verdict_in(found)
    return None


def usage_of(found: Any) -> Usage | None:
    """
    The tokens of an object ``usage``, ``None`` where there is none.

    Some servers leave reasoning out of ``output_tokens``; then the total tells.
    """
    if not isinstance(found, dict):
        return None
    prompt, output, total = (_count(found, name) for name in ("input_tokens", "output_tokens", "total_tokens"))
    cached = _count(found.get("input_tokens_details"), "cached_tokens")
    written = _count(found.get("input_tokens_details"), "cache_write_tokens")
    reasoning = _count(found.get("output_tokens_details"), "reasoning_tokens")
    if reasoning and total == prompt + output + reasoning:
        output += reasoning
    return Usage(
        input=max(0, prompt - cached - written),
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=reasoning,
    )


def finish_of(found: Mapping[str, Any], incomplete: bool, refusal: str | None) -> Finish:
    """
    Why an answer stopped.

    :param incomplete: the event said so, whatever the response does.
    :param refusal: the model's words that it will not answer, ``None``: it said none.
    """
    if incomplete or found.get("status") == "incomplete":
        details = found.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return Finish("content_filter" if reason == "content_filter" else "length")
    if refusal is not None:
        return Finish("refusal", explanation=refusal)
    return Finish("end")


def wire_usage(usage: Usage) -> dict[str, Any]:
    """The object ``usage``."""
    prompt = usage.prompt
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": prompt + usage.output,
    }


def _count(source: Any, name: str) -> int:
    found = source.get(name) if isinstance(source, dict) else None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
