"""
The stand-ins' voice in Anthropic's Messages, joined from its rules (:mod:`mportrouter.demo_rules`) and its script
(:mod:`mportrouter.demo_script`).
"""

from __future__ import annotations

from typing import Any

from .demo_rules import check
from .demo_said import Refusal, bad
from .demo_script import MODELS, PromptCache, answer, count_tokens, event
from .demo_voice import Spelt

#: MiniMax's own types and the codes that stand at the end of its messages.
_MINIMAX = {
    400: ("bad_request_error", 2013),
    401: ("authorized_error", 1004),
    402: ("insufficient_balance_error", 1008),
    404: ("not_found_error", 2013),
    429: ("rate_limit_error", 1002),
    500: ("api_error", 1000),
    503: ("api_error", 1013),
    529: ("overloaded_error", 1013),
}
_GARBAGE = b'event: content_block_delta\ndata: {"type": "content_blo\n\n'


class MessagesVoice:
    """
    :param provider: ``anthropic`` or ``minimax``.
    :param any_model: it stands in for other providers too, whatever their models are called.
    """

    def __init__(self, provider: str, any_model: bool = False) -> None:
        self.paths: tuple[str, ...] = (
            ("/messages", "/messages/count_tokens") if provider == "anthropic" else ("/messages",)
        )
        self._provider = provider
        self._any_model = any_model
        self._cache = PromptCache()

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> Any:
        """:raises Refusal: as the real one does."""
        betas, version = fields.get("anthropic-beta", ""), fields.get("anthropic-version", "")
        check(self._provider, body, betas, version, counting, self._any_model)
        return body

    def answer(self, body: dict[str, Any], serial: int) -> Spelt:
        """The answer to a checked request."""
        said = answer(self._provider, body, self._cache, serial)

        def failed(after: int) -> bytes:
            error = self.error(Refusal(529, "overloaded_error", "Overloaded"), serial)
            return event("error", error=error["error"], request_id=error["request_id"])

        return Spelt(said.message, said.events(), body.get("stream") is True, failed, _GARBAGE)

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Tokens of a request, or ``None`` where nobody counts."""
        return {"input_tokens": count_tokens(body)} if self._provider == "anthropic" else None

    def error(self, refusal: Refusal, serial: int) -> dict[str, Any]:
        """The body of an error."""
        error: dict[str, Any] = {"type": refusal.type, "message": refusal.message}
        if self._provider == "minimax":
            own, code = _MINIMAX.get(refusal.status, ("api_error", 1000))
            ending = "" if refusal.message.endswith(")") else f" ({code})"
            error = {"type": own, "message": refusal.message + ending, "http_code": str(refusal.status)}
        return {"type": "error", "error": error, "request_id": f"req_demo{serial:08d}"}

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        return bad("prompt is too long: 250000 tokens > 200000 maximum")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        if self._provider == "minimax":
            return Refusal(400, "bad_request_error", "input new_sensitive (1026)")
        return bad("Output blocked by content filtering policy")

    def models(self, wanted: str) -> dict[str, Any]:
        """The list of models, or one of them."""
        rows = MODELS[self._provider]
        if self._provider == "minimax":
            items = [{"id": id, "object": "model", "created": 1767225600, "owned_by": "minimax"} for id, _, _ in rows]
            if not wanted:
                return {"object": "list", "data": items}
        else:
            items = [
                {"type": "model", "id": id, "display_name": name, "created_at": since, "max_input_tokens": 200_000}
                | {"max_tokens": 64_000, "capabilities": None}
                for id, name, since in rows
            ]
            if not wanted:
                return {"data": items, "has_more": False, "first_id": rows[0][0], "last_id": rows[-1][0]}
        for item in items:
            if item["id"] == wanted:
                return item
        raise Refusal(404, "not_found_error", f"model: {wanted}")
