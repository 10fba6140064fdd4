"""
Which account a conversation is with: providers keep prompt caches by account, and a loop of tools must not change its
model half-way.
"""

from __future__ import annotations

import hashlib

import attrs

from ..conversation import Conversation, ToolResult
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
    :param loop: the model that a loop of tools under way is with, where the client leaves the model to the mode;
        ``""``: any may come next.
    :param chosen: the client leaves the model to the mode.
    """

    key: str = ""
    upstream: str = ""
    loop: str = ""
    chosen: bool = False


NOWHERE = Stay()


def find(state: IStateStore, dialect: IDialect, body: bytes, look: Look, session: str, mode: ModeSettings) -> Stay:
    """
    Where a conversation was served last.

    One that its client names is known from its first request on. Another is known by how it began, and only once it is
    under way: two people who both say "hello" have no conversation in common yet.
    """
    if not mode.affinity or mode.strategy not in SHARED:
        return NOWHERE
    chosen = mode.auto_model != "" and look.model == mode.auto_model
    key = f"stay:{mode.name}:{look.model}:{session}"
    if session and not (chosen and state.decision(key)):
        return Stay(key, state.decision(key) or "", chosen=chosen)
    try:
        conversation = dialect.read_request(body, look)
    except RouterError:
        # What cannot be read here may still be passed on as it is.
        return _found(state, key, chosen, False) if session else NOWHERE
    loop = _in_loop(conversation)
    if session:
        return _found(state, key, chosen, loop)
    first = next((turn for turn in conversation.turns if turn.role == "user"), None)
    if first is None:
        return NOWHERE
    digest = hashlib.blake2b(repr((conversation.system, first)).encode("utf-8", "replace"), digest_size=12)
    key = f"stay:{mode.name}:{look.model}:{digest.hexdigest()}"
    begun = any(turn.role == "assistant" for turn in conversation.turns)
    return _found(state, key, chosen, loop) if begun else Stay(key, chosen=chosen)


def _found(state: IStateStore, key: str, chosen: bool, loop: bool) -> Stay:
    upstream, _, model = (state.decision(key) or "").partition("\n")
    return Stay(key, upstream, model if loop else "", chosen)


def _in_loop(conversation: Conversation) -> bool:
    """Whether results of tools are what the model is to go on from."""
    last = next((turn for turn in reversed(conversation.turns) if turn.role != "system"), None)
    return last is not None and any(type(part) is ToolResult for part in last.parts)


def keep(state: IStateStore, stay: Stay, upstream: str, model: str = "") -> None:
    """
    Remember who has served the conversation.

    :param model: that was asked for there; it is of use only where the mode has chosen it.
    """
    if not stay.key:
        return
    served = f"{upstream}\n{model}" if stay.chosen and model else upstream
    if served != state.decision(stay.key):
        state.set_decision(stay.key, served)
