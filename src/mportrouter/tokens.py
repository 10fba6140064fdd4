"""How many tokens a text may be, from its size alone: good enough to choose a way, not to bill."""

from __future__ import annotations

import re

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
