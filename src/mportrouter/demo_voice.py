"""
What every dialect's voice gives to the stand-in that speaks with it.

The voices write their dialects with code of their own: what the router writes is judged by what they refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from .demo_said import Refusal


@attrs.frozen
class Spelt:
    """
    An answer as a dialect spells it.

    :param whole: the JSON value of an answer that is not streamed.
    :param events: the same as a stream, each item one whole event.
    :param stream: whether the request wants the events.
    :param failed: the event of a provider that gives up after so many events.
    :param garbage: an event that cannot be read.
    :param content_type: of the events.
    """

    whole: Any
    events: list[bytes]
    stream: bool
    failed: Callable[[int], bytes]
    garbage: bytes
    content_type: str = "text/event-stream; charset=utf-8"


class Voice(Protocol):
    """One dialect of one provider."""

    paths: tuple[str, ...]
    """How the paths end to which requests of this dialect are sent."""

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> Any:
        """
        :param fields: header fields of the request, names in lower case.
        :param counting: its tokens are to be counted.
        :returns: the request as it is understood, for :meth:`answer` or :meth:`count`.
        :raises Refusal: as the real provider does.
        """

    def answer(self, body: dict[str, Any], serial: int) -> Spelt:
        """:param serial: makes the ids of this answer unlike those of others."""

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens, or ``None`` where nobody counts."""

    def error(self, refusal: Refusal, serial: int) -> Any:
        """The JSON value of an error answer."""

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""

    def models(self, wanted: str) -> dict[str, Any]:
        """:param wanted: one model, ``""``: the list."""


def dump(value: Any) -> bytes:
    """JSON as a provider writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def dense(value: Any) -> str:
    """The arguments of a call as text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def pieces(text: str, size: int = 12) -> list[str]:
    """A text of arguments in the pieces of a stream."""
    return [text[start : start + size] for start in range(0, len(text), size)]
