"""Lists of models and counts of tokens in the Gemini dialect (https://ai.google.dev/api/models, /api/tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import splice
from ..interfaces import ModelRow

_METHODS = ["generateContent", "streamGenerateContent", "countTokens"]
#: Models of a page where nothing is said, and at most.
_PAGE = 50
_PAGE_LIMIT = 1000


def model_list(models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
    """
    See :meth:`mportrouter.interfaces.IDialect.model_list`. A page's token is the last model before it; one that nobody
    knows stands for the end.
    """
    size = query.get("pageSize") or query.get("page_size") or ""
    count = min(max(int(size), 1), _PAGE_LIMIT) if size.isascii() and size.isdigit() and len(size) < 10 else _PAGE
    if size in ("0", ""):
        count = _PAGE
    token = query.get("pageToken") or query.get("page_token") or ""
    start = 0
    if token:
        start = next((index + 1 for index, model in enumerate(models) if model.id == token), len(models))
    page = models[start : start + count]
    body: dict[str, Any] = {"models": [_entry(model) for model in page]}
    if page and start + count < len(models):
        body["nextPageToken"] = page[-1].id
    return splice.dumps(body)


def model_entry(model: ModelRow) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.model_entry`."""
    return splice.dumps(_entry(model))


def _entry(model: ModelRow) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": f"models/{model.id}", "displayName": model.id, "description": ""}
    if model.context is not None:
        entry["inputTokenLimit"] = model.context
    if model.max_output is not None:
        entry["outputTokenLimit"] = model.max_output
    entry["supportedGenerationMethods"] = _METHODS
    return entry


def read_count(body: bytes) -> int:
    """See :meth:`mportrouter.interfaces.IDialect.read_count`."""
    value = splice.loads(body)
    total = value.get("totalTokens") if isinstance(value, dict) else None
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise ValueError("the answer has no `totalTokens`")
    return total


def count_answer(tokens: int) -> bytes:
    """See :meth:`mportrouter.interfaces.IDialect.count_answer`."""
    return splice.dumps({"totalTokens": tokens})
