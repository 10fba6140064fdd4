"""What of a neutral answer a client of the Anthropic Messages dialect is shown, block by block."""

from __future__ import annotations

from typing import Any

from .. import splice
from ..conversation import Citation, Foreign, Opaque, WebSearch
from ..envelope import seal
from ..interfaces import AnswerContext
from ..records import Usage
from ..tool_names import made_up
from .anthropic_blocks import NAME

_STOPS = {
    "end": "end_turn",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
    "pause": "pause_turn",
    "context_full": "model_context_window_exceeded",
}
#: Of refusals; the official types know no others, so that what other providers say stands in the explanation.
_CATEGORIES = frozenset({"cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"})


class Reasons:
    """
    How reasoning is shown to a client.

    :ivar text: whether its text is. Else only state that the provider needs back goes to the client.
    """

    __slots__ = ("_origin", "_target", "text")

    def __init__(self, context: AnswerContext) -> None:
        control, target = context.conversation.reasoning, context.target
        # A provider that wants its text back can get it from nowhere else.
        needed = target.capabilities.reasoning_echo == "required"
        wanted = control is not None and control.mode != "off" and control.effort != "none"
        self.text = needed or (wanted and control is not None and control.show != "omitted")
        self._target = target
        signer = target.capabilities.thinking_signature
        # Text that nobody signed must never seem to be what Anthropic takes back.
        self._origin = target.provider if signer == NAME else signer

    def signature(self, opaque: Opaque | None) -> str:
        """The ``signature`` of a thinking block."""
        if opaque is None:
            if self._origin == NAME:
                return ""
            opaque = Opaque(self._origin, self._target.model, "text", "")
        elif opaque.origin == NAME and opaque.kind == "signature":
            return opaque.value
        return seal(opaque)

    def withheld(self, opaque: Opaque | None) -> list[dict[str, Any]]:
        """The blocks for reasoning whose text is not shown: at most one."""
        return [] if opaque is None or opaque.kind == "text" else [hidden(opaque)]


def hidden(opaque: Opaque) -> dict[str, Any]:
    """The block for reasoning of which only the state is there."""
    if opaque.origin == NAME:
        if opaque.kind == "signature":
            return {"type": "thinking", "thinking": "", "signature": opaque.value}
        if opaque.kind == "redacted":
            return {"type": "redacted_thinking", "data": opaque.value}
    return {"type": "redacted_thinking", "data": seal(opaque)}


def citation(told: Citation, text: str) -> dict[str, Any] | None:
    """
    A citation of a text block; ``None`` for what is no page of the web.

    :param text: of the block so far.
    """
    if told.dialect == NAME and told.raw is not None:
        return dict(told.raw)
    if not told.url:
        return None
    cited = told.cited
    if not cited and told.start is not None and told.end is not None:
        cited = text[told.start : told.end]
    return {
        "type": "web_search_result_location",
        "url": told.url,
        "title": told.title or None,
        "cited_text": cited,
        "encrypted_index": "",
    }


def searched(search: WebSearch, request_id: str, number: int) -> list[dict[str, Any]]:
    """
    The two blocks of a search that the provider ran.

    :param number: of the search in the answer, for its id.
    """
    if search.dialect == NAME and search.raw:
        return [dict(raw) for raw in search.raw]
    id = made_up("srvtoolu_", request_id, number)
    hits = [
        {
            "type": "web_search_result",
            "url": hit.url,
            "title": hit.title,
            "encrypted_content": "",
            "page_age": hit.age,
        }
        for hit in search.hits
    ]
    return [
        {"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": search.query}},
        {"type": "web_search_tool_result", "tool_use_id": id, "content": hits},
    ]


def other(part: Foreign) -> dict[str, Any] | None:
    """The block for a part of the upstream's dialect alone, ``None`` where nothing of it can be shown."""
    if part.dialect == NAME:
        return dict(part.raw)
    return {"type": "text", "text": part.text, "citations": None} if part.text.strip() else None


def arguments(text: str, custom: bool) -> dict[str, Any]:
    """The ``input`` of a call; what is no JSON object is kept as ``{"_raw": text}``."""
    if custom:
        return {"input": text}
    if not text.strip():
        return {}
    try:
        value = splice.loads(text.encode("utf-8", "surrogatepass"))
    except splice.Malformed:
        value = None
    return value if isinstance(value, dict) else {"_raw": text}


def message_id(id: str, request_id: str) -> str:
    """The upstream's own where it is of the dialect's form, else one made of the request's."""
    return id if id.startswith("msg_") else made_up("msg_", request_id, 0)


def stop(
    stop: str, sequence: str | None, explanation: str, category: str | None, refusal: str | None
) -> dict[str, Any]:
    """
    The members that say why an answer ended.

    :param refusal: the model's words of refusal, ``None`` where it did not refuse.
    """
    reason = _STOPS.get(stop, "end_turn")
    if refusal is not None and reason == "end_turn":
        reason = "refusal"
    details: dict[str, Any] | None = None
    if reason == "refusal":
        known = category in _CATEGORIES
        details = {
            "type": "refusal",
            "category": category if known else None,
            "explanation": explanation or refusal or (None if known else category),
        }
    return {
        "stop_reason": reason,
        "stop_sequence": sequence if reason == "stop_sequence" else None,
        "stop_details": details,
        "container": None,
    }


def usage(told: Usage | None, estimate: int, written: int) -> dict[str, Any]:
    """
    The whole ``usage`` object.

    :param told: by the upstream, ``None``: nothing.
    :param estimate: tokens that the prompt may have, where the upstream told none of it.
    :param written: tokens that were written, where it told nothing.
    """
    used = Usage(output=written) if told is None else told
    shown: dict[str, Any] = {
        "input_tokens": used.input if used.prompt else estimate,
        "cache_creation_input_tokens": used.cache_write_5m + used.cache_write_1h,
        "cache_read_input_tokens": used.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write_5m,
            "ephemeral_1h_input_tokens": used.cache_write_1h,
        },
        "output_tokens": used.output,
        "server_tool_use": {"web_search_requests": used.web_searches, "web_fetch_requests": 0}
        if used.web_searches
        else None,
        "service_tier": None,
        "inference_geo": None,
    }
    if used.reasoning:
        shown["output_tokens_details"] = {"thinking_tokens": used.reasoning}
    return shown
