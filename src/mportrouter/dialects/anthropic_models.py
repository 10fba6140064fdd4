"""The list of models and the count of tokens, as the Anthropic API has them (https://docs.anthropic.com/en/api/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .. import splice
from ..interfaces import ModelRow

#: Models on a page; the vendor's own 20 where the client says nothing would hide most of a short list.
_PAGE = 1000
_LATEST = 253402300799  # 9999-12-31T23:59:59Z


def model_list(models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.model_list`."""
    rows = list(models)
    ids = [row.id for row in rows]
    limit = query.get("limit", "")
    count = min(_PAGE, max(1, int(limit[:9]))) if limit.isascii() and limit.isdigit() else _PAGE
    after, before = query.get("after_id", ""), query.get("before_id", "")
    if after in ids:
        rows = rows[ids.index(after) + 1 :]
    elif before in ids:
        rows = rows[: ids.index(before)]
        page = rows[-count:]
        return _list(page, len(rows) > len(page))
    page = rows[:count]
    return _list(page, len(rows) > len(page))


def _list(page: list[ModelRow], more: bool) -> bytes:
    return splice.dumps(
        {
            "data": [_entry(row) for row in page],
            "has_more": more,
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
    )


def model_entry(model: ModelRow) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.model_entry`."""
    return splice.dumps(_entry(model))


def _entry(model: ModelRow) -> dict[str, Any]:
    """The required keys of the API description; a date is wanted even where the provider tells none."""
    made = datetime.fromtimestamp(min(max(model.created, 0), _LATEST), timezone.utc)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "capabilities": None,
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
    }


def read_count(body: bytes) -> int:
    """
    See :meth:`mportrouter.interfaces.IDialect.read_count`.

    :raises ValueError: for anything else than a count.
    """
    found = splice.loads(body)
    tokens = found.get("input_tokens") if isinstance(found, dict) else None
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise ValueError("the answer has no input_tokens")
    return tokens


def count_answer(tokens: int) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.count_answer`."""
    return splice.dumps({"input_tokens": tokens})
