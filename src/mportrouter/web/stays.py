"""
Which account a conversation is with: providers keep prompt caches by account, and a loop of tools must not change its
model half-way.
"""

from __future__ import annotations

import hashlib

import attrs

from ..errors import RouterError
from ..interfaces import IDialect, Look
from ..settings import ModeSettings
from ..state import IStateStore

#: Strategies that share conversations out over accounts.
SHARED = frozenset(["exhaust", "round-robin"])


class Turns:
    """Whose turn it is in a round: how many turns were taken, for each mode and model."""

    #: Names of models that are told apart; clients may invent any.
    MOST = 1024

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], int] = {}

    def of(self, mode: str, model: str) -> int:
        """Turns taken so far."""
        return self._taken.get((mode, model), 0)

    def take(self, mode: str, model: str) -> None:
        """One more."""
        key = (mode, model)
        if key not in self._taken and len(self._taken) >= self.MOST:
            self._taken.clear()
        self._taken[key] = self._taken.get(key, 0) + 1


@attrs.frozen
class Stay:
    """
    :param key: names the conversation, ``""`` where nothing does.
    :param upstream: that it was served by last, ``""``: none.
    """

    key: str = ""
    upstream: str = ""


NOWHERE = Stay()


def find(state: IStateStore, dialect: IDialect, body: bytes, look: Look, session: str, mode: ModeSettings) -> Stay:
    """
    Where a conversation was served last.

    One that its client names is known from its first request on. Another is known by how it began, and only once it is
    under way: two people who both say "hello" have no conversation in common yet.
    """
    if not mode.affinity or mode.strategy not in SHARED:
        return NOWHERE
    if session:
        key = f"stay:{mode.name}:{look.model}:{session}"
        return Stay(key, state.decision(key) or "")
    try:
        conversation = dialect.read_request(body, look)
    except RouterError:
        return NOWHERE  # what cannot be read here may still be passed on as it is
    first = next((turn for turn in conversation.turns if turn.role == "user"), None)
    if first is None:
        return NOWHERE
    digest = hashlib.blake2b(repr((conversation.system, first)).encode("utf-8", "replace"), digest_size=12)
    key = f"stay:{mode.name}:{look.model}:{digest.hexdigest()}"
    begun = any(turn.role == "assistant" for turn in conversation.turns)
    return Stay(key, (state.decision(key) or "") if begun else "")


def keep(state: IStateStore, stay: Stay, upstream: str) -> None:
    """Remember who has served the conversation."""
    if stay.key and upstream != stay.upstream:
        state.set_decision(stay.key, upstream)
