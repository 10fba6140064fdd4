"""
The neutral events of an answer: what every dialect's answer is read into, streamed or whole, and written from.

The order that a writer may rely on (:mod:`mportrouter.sequencer` makes it): ``Start``, then parts, each ``Open`` …
``Close`` and one at a time unless the writer takes them interleaved, then ``Finish``, then ``End``; or ``Failed`` at
any place, which ends everything. ``Tally`` may stand anywhere; the last one counts. An answer that is not streamed is
the same events at once.
"""

from __future__ import annotations

import msgspec

from .conversation import Citation, Foreign, Opaque, WebSearch
from .errors import Verdict
from .records import Usage

#: Why an answer ended (:attr:`Finish.stop`).
STOPS = ("end", "length", "stop_sequence", "tool_use", "refusal", "content_filter", "pause", "context_full")


class Start(msgspec.Struct, frozen=True, gc=False):
    """
    The answer begins: exactly once, first.

    :param id: the upstream's own id of the answer, ``""`` where it has none.
    :param model: the model that it names, ``""``: none.
    """

    id: str = ""
    model: str = ""


class Open(msgspec.Struct, frozen=True, gc=False):
    """
    A part begins.

    :param key: the reader's own number of the part, never used twice in one answer.
    :param kind: ``text``, ``reasoning``, ``refusal`` or ``tool``.
    :param id: of a tool call, ``""`` where the upstream gave none: the writer makes one up.
    :param name: of a tool, as the client knows it (renaming undone).
    :param custom: the tool's input is free text.
    :param namespace: of the tool, or ``""``.
    :param opaque: a thought signature on a tool call, or ``None``.
    """

    key: int
    kind: str
    id: str = ""
    name: str = ""
    custom: bool = False
    namespace: str = ""
    opaque: Opaque | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """More of a part: text, reasoning, or a fragment of a tool call's arguments (raw input where it is custom)."""

    key: int
    text: str


class Cite(msgspec.Struct, frozen=True):
    """The text part rests on something."""

    key: int
    citation: Citation


class Sign(msgspec.Struct, frozen=True):
    """The opaque state of a reasoning part (or of a text part that carries one): at most one, before its Close."""

    key: int
    opaque: Opaque


class Close(msgspec.Struct, frozen=True, gc=False):
    """The part is whole. A part cut in its middle is never closed."""

    key: int


class Hidden(msgspec.Struct, frozen=True):
    """Reasoning of which only the opaque state is there."""

    key: int
    opaque: Opaque


class Searched(msgspec.Struct, frozen=True):
    """A search that the provider ran, whole."""

    key: int
    search: WebSearch


class Other(msgspec.Struct, frozen=True):
    """A part that only the upstream's dialect can express, whole."""

    key: int
    part: Foreign


class Tally(msgspec.Struct, frozen=True):
    """What is known of the usage so far, whole: it replaces what was said before."""

    usage: Usage


class Finish(msgspec.Struct, frozen=True, gc=False):
    """
    Why the model stopped; usage may still follow.

    :param stop: one of :data:`STOPS`.
    :param sequence: the stop sequence that was hit, or ``None``.
    :param explanation: why it was refused, ``""`` where nothing is said.
    :param category: of a refusal, or ``None``.
    """

    stop: str
    sequence: str | None = None
    explanation: str = ""
    category: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """The answer is broken: an error inside it, or an end before its end. Terminal."""

    verdict: Verdict


class End(msgspec.Struct, frozen=True, gc=False):
    """The answer is whole. Terminal."""


Event = Start | Open | Delta | Cite | Sign | Close | Hidden | Searched | Other | Tally | Finish | Failed | End
