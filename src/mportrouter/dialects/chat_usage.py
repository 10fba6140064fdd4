"""
Usage numbers of the Chat dialect, out of an answer and into one.

``prompt_tokens`` there includes what was read from and written to a cache, ``completion_tokens`` the reasoning; the
neutral numbers are disjoint.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..records import Usage

Number = int | float | None


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Number = None
    cache_write_tokens: Number = None


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Number = None


class Counts(msgspec.Struct, gc=False):
    """
    A ``usage`` object.

    :param prompt_cache_hit_tokens: DeepSeek's name for what the cache gave.
    :param cached_tokens: the same at Moonshot.
    """

    prompt_tokens: Number = None
    completion_tokens: Number = None
    total_tokens: Number = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Number = None
    cached_tokens: Number = None
    reasoning_tokens: Number = None


_NUMBERS = tuple(name for name in Counts.__struct_fields__ if not name.endswith("_details"))


def read(counts: Counts) -> Usage | None:
    """The neutral numbers, ``None`` for an object that names none."""
    if counts.prompt_tokens is None and counts.completion_tokens is None:
        return None
    details = counts.prompt_tokens_details or PromptDetails()
    prompt, output = _whole(counts.prompt_tokens), _whole(counts.completion_tokens)
    cached = _whole(details.cached_tokens) or _whole(counts.prompt_cache_hit_tokens) or _whole(counts.cached_tokens)
    written = _whole(details.cache_write_tokens)
    inner = counts.completion_tokens_details
    reasoning = _whole(inner.reasoning_tokens if inner is not None else None) or _whole(counts.reasoning_tokens)
    if reasoning and _whole(counts.total_tokens) == prompt + output + reasoning:
        output += reasoning  # a provider that counts reasoning beside the completion
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    return Usage(
        input=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=min(reasoning, output),
    )


def leniently(value: Any) -> Counts | None:
    """The same from an object some of whose members are of odd types: those count as absent."""
    if not isinstance(value, dict):
        return None
    counts = Counts()
    for name in _NUMBERS:
        if _is_number(value.get(name)):
            setattr(counts, name, value[name])
    for name, kind in (("prompt_tokens_details", PromptDetails), ("completion_tokens_details", CompletionDetails)):
        inner = value.get(name)
        if isinstance(inner, dict):
            numbers = {key: number for key, number in inner.items() if _is_number(number)}
            setattr(counts, name, msgspec.convert(numbers, kind))
    return counts


def written(usage: Usage) -> dict[str, Any]:
    """The ``usage`` object of an answer."""
    prompt = usage.prompt
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _whole(number: Number) -> int:
    # ``nan`` compares false with everything and so counts as nothing.
    return int(number) if number is not None and 0 < number < 1e15 else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
