"""
Usage numbers out of an Anthropic-shaped ``usage`` object.

``input_tokens`` there excludes cache reads and writes; ``output_tokens`` includes thinking. In a stream the numbers of
``message_delta`` are totals that overwrite those of ``message_start``; absent ones keep them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from .records import Usage

#: Bytes of UTF-8 text that make about one token where nobody has counted.
BYTES_PER_TOKEN = 4


class _Creation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Fields(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Creation | None = None
    output_tokens_details: _Details | None = None
    server_tool_use: _ServerTools | None = None


_fields = msgspec.json.Decoder(_Fields).decode


def merge(usage: Usage | None, raw: bytes | memoryview | msgspec.Raw) -> Usage | None:
    """
    Overwrite what a ``usage`` object names.

    :param usage: the numbers so far, changed in place; ``None``: none yet.
    :param raw: the JSON text of the object.
    :returns: ``usage`` or a new one; ``None`` where there is nothing in either.
    """
    view = memoryview(raw)
    if not view.nbytes:
        return usage
    fields: _Fields | None
    try:
        fields = _fields(view)
    except (msgspec.DecodeError, UnicodeDecodeError):
        fields = _leniently(bytes(view))
    if fields is None:
        return usage
    if usage is None:
        usage = Usage()
    if fields.input_tokens is not None:
        usage.input = _count(fields.input_tokens)
    if fields.output_tokens is not None:
        usage.output = _count(fields.output_tokens)
    if fields.cache_read_input_tokens is not None:
        usage.cache_read = _count(fields.cache_read_input_tokens)
    _cache_writes(usage, fields)
    if fields.output_tokens_details is not None and fields.output_tokens_details.thinking_tokens is not None:
        usage.reasoning = _count(fields.output_tokens_details.thinking_tokens)
    if fields.server_tool_use is not None and fields.server_tool_use.web_search_requests is not None:
        usage.web_searches = _count(fields.server_tool_use.web_search_requests)
    return usage


def _cache_writes(usage: Usage, fields: _Fields) -> None:
    total = fields.cache_creation_input_tokens
    split = fields.cache_creation
    if split is not None:
        if split.ephemeral_5m_input_tokens is not None:
            usage.cache_write_5m = _count(split.ephemeral_5m_input_tokens)
        if split.ephemeral_1h_input_tokens is not None:
            usage.cache_write_1h = _count(split.ephemeral_1h_input_tokens)
    if total is not None:
        # The total is billed; what the split does not explain counts as the cheaper, usual kind.
        usage.cache_write_1h = min(usage.cache_write_1h, _count(total))
        usage.cache_write_5m = _count(total) - usage.cache_write_1h


def _count(value: int) -> int:
    return value if value > 0 else 0


def _leniently(raw: bytes) -> _Fields | None:
    """Fields of odd types (a float, a text) count as absent, one by one, and do not hide the others."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None

    def whole(source: Any, name: str) -> int | None:
        value = source.get(name) if isinstance(source, Mapping) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    creation = found.get("cache_creation")
    return _Fields(
        input_tokens=whole(found, "input_tokens"),
        output_tokens=whole(found, "output_tokens"),
        cache_read_input_tokens=whole(found, "cache_read_input_tokens"),
        cache_creation_input_tokens=whole(found, "cache_creation_input_tokens"),
        cache_creation=_Creation(
            whole(creation, "ephemeral_5m_input_tokens"), whole(creation, "ephemeral_1h_input_tokens")
        )
        if isinstance(creation, dict)
        else None,
        output_tokens_details=_Details(whole(found.get("output_tokens_details"), "thinking_tokens")),
        server_tool_use=_ServerTools(whole(found.get("server_tool_use"), "web_search_requests")),
    )


def estimate(usage: Usage | None, text_bytes: int) -> Usage:
    """
    The usage of an answer whose provider did not tell it, or was cut before: the prompt as far as it was told, the
    output by its size.

    :param text_bytes: bytes of text, thinking and tool arguments that came.
    """
    usage = Usage() if usage is None else usage
    usage.output = max(usage.output, -(-text_bytes // BYTES_PER_TOKEN))
    usage.estimated = True
    return usage
