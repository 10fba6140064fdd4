"""
How many tokens a text may be, from its size alone: good enough to choose a way, not to bill.

What an answer tells of its prompt makes the next estimate for the same model better (:class:`Calibration`).
"""

from __future__ import annotations

import re

from .conversation import Conversation, Document, Image, Part, Sound, ToolResult

_NEW_CLAUDE = re.compile(r"claude-(?:(?:opus|sonnet|haiku|fable|mythos)-)?[5-9]")
_OLD_CLAUDE = re.compile(r"claude")

# Bytes of a request body a token: between what JSON and prose measure, since a body is prose and code wrapped in JSON.
_NEW_CLAUDE_BYTES = 2.5
_OLD_CLAUDE_BYTES = 3.2
_OTHER_BYTES = 3.7


def bytes_per_token(model: str) -> float:
    """
    The divisor of a model's family. The tokenizer since Claude 5 makes about 30 % more tokens of the same text than
    the one before (vendor documentation); the names of a family come in both orders (``claude-5-opus``).
    """
    name = model.lower()
    if _NEW_CLAUDE.search(name):
        return _NEW_CLAUDE_BYTES
    return _OLD_CLAUDE_BYTES if _OLD_CLAUDE.search(name) else _OTHER_BYTES


def estimate_tokens(size_bytes: int, model: str = "") -> int:
    """
    Tokens of a request body.

    :param size_bytes: bytes of the body.
    :param model: the model that would read it; ``""``: any.
    :returns: tokens, rounded up; inline pictures count as the text they are sent as, which is far too much.
    """
    if size_bytes <= 0:
        return 0
    return int(size_bytes / bytes_per_token(model)) + 1


#: Tokens that a picture of ordinary size costs, and a page of a document (vendor documentations: 85 to 1,600).
_PICTURE = 1200
#: Bytes of base64 a page of a document has, roughly.
_PAGE = 60_000
#: Share of a new measurement in what is remembered.
_SHARE = 0.2
#: Models that are remembered.
_MODELS = 512
#: Bytes of a request from which its tokens say something about text rather than about the frame around it.
_ENOUGH = 400


class Calibration:
    """How many bytes of a request make a token, for each model as its provider counted so far."""

    def __init__(self) -> None:
        self._bytes: dict[tuple[str, str], float] = {}

    def learn(self, provider: str, model: str, size: int, tokens: int) -> None:
        """
        :param size: bytes of a request without pictures or documents.
        :param tokens: its whole prompt, as the provider counted it.
        """
        if size < _ENOUGH or tokens <= 0:
            return
        key = (provider, model)
        known = self._bytes.get(key)
        if known is None:
            if len(self._bytes) < _MODELS:
                self._bytes[key] = size / tokens
        else:
            self._bytes[key] = known + _SHARE * (size / tokens - known)

    def estimate(self, provider: str, model: str, size: int) -> int:
        """Tokens of a request of ``size`` bytes, at least one."""
        known = self._bytes.get((provider, model))
        return max(1, int(size / known) + 1 if known else estimate_tokens(size, model))


def media_tokens(conversation: Conversation) -> tuple[int, int]:
    """
    What pictures, documents and sounds add, which their bytes do not tell.

    :returns: bytes of base64 in the request, and the tokens that they may cost instead.
    """
    size = tokens = 0
    for turn in conversation.turns:
        for part in turn.parts:
            for each in (part, *part.parts) if isinstance(part, ToolResult) else (part,):
                more, cost = _media(each)
                size += more
                tokens += cost
    return size, tokens


def _media(part: Part) -> tuple[int, int]:
    if not isinstance(part, (Image, Document, Sound)):
        return 0, 0
    media = part.media
    size = len(media.value) if media.kind == "base64" else 0
    if isinstance(part, Image):
        return size, _PICTURE
    return size, _PICTURE * (1 + size // _PAGE) if media.kind not in ("text", "parts") else 0
