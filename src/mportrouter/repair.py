"""
A conversation made fit for a target: what it would refuse is put right, and what it cannot read is left out or told.

The passes are those that every pair of dialects needs; what a dialect wants of them it says in :class:`Wishes`. Turns
that need nothing are the same objects afterwards. All is deterministic, and a turn never changes for what comes later
but the tool results that belong to it: a longer conversation has the same beginning.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import is_

import attrs
from msgspec.structs import replace

from .conversation import (
    Conversation,
    Document,
    Foreign,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from .interfaces import Inexpressible, Target
from .pairing import Pairing

#: What stands for the person where an assistant speaks first.
OPENING = "[The beginning of the conversation is missing.]"
#: What asks for more where an assistant spoke last and the target does not go on by itself.
CONTINUE = "Continue."
_BILLING = "x-anthropic-billing-header:"
#: Pages of a search that are named to another provider.
_HITS = 20


@attrs.frozen
class Wishes:
    """
    :param keep_dialect: whose :class:`Foreign` parts and searches may stay.
    :param drop_blank: texts of white space only go (empty ones go always).
    :param merge: turns of one role in a row become one.
    :param user_first: the first turn must be a user's.
    :param system_turns: system turns in mid-conversation: ``keep``; ``placed`` (where Anthropic's rules allow one:
        after a user's turn, before an assistant's or last; else ``user_text``); ``user_text`` (in a fixed wrapper).
    :param prefill: an assistant's turn may be the last; else the user asks to continue.
    :param pair: every call gets a result, and results without a call become text.
    :param reasoning: reasoning may stay where its state is the target's own.
    :param text_reasoning: reasoning text may stay without any state.
    :param cache_marks: how many marks the turns may have: the earliest beyond go; ``None``: any number.
    """

    keep_dialect: str = ""
    drop_blank: bool = False
    merge: bool = False
    user_first: bool = False
    system_turns: str = "keep"
    prefill: bool = True
    pair: bool = True
    reasoning: bool = False
    text_reasoning: bool = False
    cache_marks: int | None = None


@attrs.frozen
class Repaired:
    """
    :param system: texts that are not blank.
    :param notes: what was left out or changed, for :attr:`mportrouter.interfaces.Prepared.dropped`.
    """

    system: tuple[Text, ...]
    turns: tuple[Turn, ...]
    notes: tuple[str, ...] = ()


def repair(conversation: Conversation, target: Target, wishes: Wishes) -> Repaired:
    """
    :raises Inexpressible: where nothing that the target could answer is left of the turns.
    """
    notes: dict[str, None] = {}
    system = _system(conversation.system, target.capabilities.billing_header, notes)
    parts = _Parts(target, wishes, notes)
    turns = parts.turns(conversation.turns)
    if parts.tools:
        pairing = Pairing(target.capabilities, wishes.pair)
        turns = pairing.turns(turns)
        notes.update(pairing.notes)
    if parts.systems and wishes.system_turns != "keep":
        turns = _without_system(turns, wishes.system_turns == "placed", notes)
    if wishes.merge:
        turns = _merged(turns)
    if turns and turns[-1].role == "assistant":
        turns = _without_loose_end(turns, notes)
    if not turns:
        if wishes.user_first and system:
            # Nobody said anything but the instructions: the last of them is what is to be done.
            *others, last = system
            notes["system (its last text sent as the user's)"] = None
            system, turns = tuple(others), [Turn("user", (last,))]
        elif conversation.turns or wishes.user_first:
            raise Inexpressible("nothing is left of the messages that the model could read: they are empty")
    if turns:
        turns = _ends(turns, wishes, notes)
    if wishes.cache_marks is not None:
        turns = _capped(turns, wishes.cache_marks)
    return Repaired(system, tuple(turns), tuple(notes))


def _system(texts: tuple[Text, ...], billing: bool, notes: dict[str, None]) -> tuple[Text, ...]:
    kept: list[Text] = []
    for part in texts:
        if not billing and part.text.startswith(_BILLING):
            notes[f"system.{_BILLING[:-1]}"] = None
            part = replace(part, text=part.text.partition("\n")[2].lstrip("\n"))
        if part.text and not part.text.isspace():
            kept.append(part)
    return tuple(kept)


class _Parts:
    """
    The pass over all parts.

    :ivar tools: whether calls or results were seen.
    :ivar systems: whether system turns were seen.
    """

    def __init__(self, target: Target, wishes: Wishes, notes: dict[str, None]) -> None:
        self.tools = False
        self.systems = False
        self._signer = target.capabilities.thinking_signature
        self._wishes = wishes
        self._notes = notes

    def turns(self, turns: Sequence[Turn]) -> list[Turn]:
        out: list[Turn] = []
        blank = self._wishes.drop_blank
        for turn in turns:
            if turn.role == "system":
                self.systems = True
            for part in turn.parts:
                kind = type(part)
                if kind is Text:
                    if part.opaque is not None or not part.text or (blank and part.text.isspace()):  # type: ignore[union-attr]
                        break
                elif kind is ToolCall:
                    self.tools = True
                    if part.opaque is not None:  # type: ignore[union-attr]
                        break
                elif kind is ToolResult:
                    self.tools = True
                    if not self._plain(part.parts):  # type: ignore[union-attr]
                        break
                elif kind is not Image and kind is not Document:
                    break
            else:
                if turn.parts:
                    out.append(turn)
                continue
            parts = self._parts(turn.parts)
            if parts:
                same = len(parts) == len(turn.parts) and all(map(is_, parts, turn.parts))
                out.append(turn if same else replace(turn, parts=parts))
        return out

    def _plain(self, parts: tuple[Part, ...]) -> bool:
        """Whether the parts of a result are of no further interest."""
        for part in parts:
            kind = type(part)
            if kind is not Image and kind is not Document and (kind is not Text or not part.text):  # type: ignore[union-attr]
                return False
        return True

    def _parts(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(new for part in parts if (new := self._part(part)) is not None)

    def _part(self, part: Part) -> Part | None:
        """One part for the target, the very object where nothing changes, ``None`` where it goes."""
        kind = type(part)
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, ToolCall):
            self.tools = True
            return part if self._own(part.opaque) or part.opaque is None else replace(part, opaque=None)
        if isinstance(part, ToolResult):
            self.tools = True
            return part if self._plain(part.parts) else replace(part, parts=self._parts(part.parts))
        if isinstance(part, Foreign):
            if part.dialect == self._wishes.keep_dialect:
                return part
            return self._told(part.kind[:64], part.text)
        if isinstance(part, WebSearch):
            if part.dialect == self._wishes.keep_dialect and part.raw:
                return part
            return self._told("web search", searched(part))
        if isinstance(part, Refusal):
            return part if part.text else None
        assert kind in (Image, Document, Sound), kind
        return part

    def _told(self, kind: str, text: str) -> Text | None:
        if not text.strip():
            self._notes[kind] = None
            return None
        self._notes[f"{kind} (sent as text)"] = None
        return Text(text)

    def _text(self, part: Text) -> Text | None:
        if part.opaque is not None:
            if self._own(part.opaque):
                return part  # an empty text may carry the signature of what went before
            part = replace(part, opaque=None)
        if not part.text or (self._wishes.drop_blank and part.text.isspace()):
            return None
        return part

    def _reasoning(self, part: Reasoning) -> Reasoning | None:
        wishes, opaque = self._wishes, part.opaque
        if wishes.reasoning and self._own(opaque):
            return part
        if wishes.reasoning and wishes.text_reasoning and part.text.strip():
            return part if opaque is None else replace(part, opaque=None)
        if opaque is None or opaque.kind == "text":
            self._notes["unsigned reasoning"] = None
        else:
            self._notes[f"reasoning of {opaque.origin[:64] or 'another provider'}"] = None
        return None

    def _own(self, opaque: Opaque | None) -> bool:
        """Whether the target's provider issued a state: no other is ever shown it."""
        return opaque is not None and opaque.kind != "text" and opaque.origin == self._signer


def searched(search: WebSearch) -> str:
    """What another model must know of a search that a provider ran."""
    lines = [f"[web search: {search.query}]" if search.query else "[web search]"]
    lines += [f"- {hit.title}: {hit.url}" if hit.title else f"- {hit.url}" for hit in search.hits[:_HITS]]
    return "\n".join(lines)


def _without_system(turns: list[Turn], placed: bool, notes: dict[str, None]) -> list[Turn]:
    out: list[Turn] = []
    for index, turn in enumerate(turns):
        if turn.role != "system":
            out.append(turn)
            continue
        if placed and out and out[-1].role == "user":
            after = turns[index + 1].role if index + 1 < len(turns) else "assistant"
            if after == "assistant":
                out.append(turn)
                continue
        text = "\n\n".join(part.text for part in turn.parts if isinstance(part, Text) and part.text.strip())
        others = tuple(part for part in turn.parts if not isinstance(part, Text))
        notes["messages of role system (sent as user text)"] = None
        if text:
            out.append(Turn("user", (Text(f"<system-reminder>\n{text}\n</system-reminder>"), *others)))
        elif others:
            out.append(Turn("user", others))
    return out


def _merged(turns: list[Turn]) -> list[Turn]:
    if all(one.role != other.role for one, other in itertools.pairwise(turns)):
        return turns
    out: list[Turn] = []
    for role, run in itertools.groupby(turns, lambda turn: turn.role):
        first, *others = run
        if others:
            parts = tuple(part for turn in (first, *others) for part in turn.parts)
            phase = first.phase if all(turn.phase == first.phase for turn in others) else None
            first = Turn(role, parts, phase)
        out.append(first)
    return out


def _without_loose_end(turns: list[Turn], notes: dict[str, None]) -> list[Turn]:
    """
    The turns without the reasoning that a broken answer left at their end.

    A client that asks again after a cut sends it along (Codex does). Nobody goes on from it: providers refuse a last
    message that ends in reasoning.
    """
    parts = turns[-1].parts
    kept = len(parts)
    while kept and isinstance(parts[kept - 1], Reasoning):
        kept -= 1
    if kept == len(parts):
        return turns
    notes["reasoning at the end of the last message"] = None
    return [*turns[:-1], replace(turns[-1], parts=parts[:kept])] if kept else turns[:-1]


def _ends(turns: list[Turn], wishes: Wishes, notes: dict[str, None]) -> list[Turn]:
    if wishes.user_first and turns[0].role == "assistant":
        notes["messages (a user's turn put first)"] = None
        turns = [Turn("user", (Text(OPENING),)), *turns]
    last = turns[-1]
    if last.role != "assistant":
        return turns
    if not wishes.prefill:
        notes["messages (the user asked to continue)"] = None
        return [*turns, Turn("user", (Text(CONTINUE),))]
    part = last.parts[-1]
    if wishes.drop_blank and isinstance(part, Text) and part.opaque is None and part.text[-1:].isspace():
        # A provider that refuses blank texts refuses this too; nothing is left of no text, for it is not blank.
        turns = [*turns[:-1], replace(last, parts=(*last.parts[:-1], replace(part, text=part.text.rstrip())))]
    return turns


def _capped(turns: list[Turn], most: int) -> list[Turn]:
    """The turns with the last marks only; marks are hints and no part of what is cached."""
    left = most
    out = list(turns)
    for index in range(len(turns) - 1, -1, -1):
        parts = turns[index].parts
        if not any(getattr(part, "cache", None) is not None for part in parts):
            continue
        kept = list(parts)
        for place in range(len(parts) - 1, -1, -1):
            part = parts[place]
            if isinstance(part, (Text, Image, Document, Sound, ToolCall, ToolResult)) and part.cache is not None:
                if left > 0:
                    left -= 1
                else:
                    kept[place] = replace(part, cache=None)
        out[index] = replace(turns[index], parts=tuple(kept))
    return out
