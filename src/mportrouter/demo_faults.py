"""
The fault language of the stand-in providers.

A specification is parts joined by ``;``. One part names the fault, the others bound it:

``off``
    healthy.
``status:CODE`` (also ``status:CODE:retry-after=SECONDS``)
    an error answer in the provider's shape.
``hang``
    the request is read and never answered.
``hang-after-head``
    status and headers, then silence.
``slow:SECONDS``
    that long before the head; alone or beside another fault.
``cut:N`` / ``stall:N``
    after N events the connection is closed without an end / nothing more comes.
``reset``
    the connection is reset once the request is read.
``refuse``
    every new connection is closed as it is accepted.
``empty`` / ``html``
    200 with no body / with a web page.
``error-event`` (also ``error-event:N``)
    200, then an ``error`` event after N events (0 unless told).
``garbage-event:N``
    the N-th event's data is no JSON; the rest is fine.
``no-end``
    the stream ends in good order without its last event.
``base-resp:CODE``
    200 with MiniMax's native error envelope.
``context`` / ``policy``
    400 as for a prompt that is too long / that offends the content policy.
``gzip``
    the answer is fine and compressed.
``times=N``
    the fault strikes N requests, then the provider is healthy again.

Example: ``times=2;status:429:retry-after=2``.
"""

from __future__ import annotations

import difflib

import attrs

_PLAIN = ("hang", "hang-after-head", "reset", "refuse", "empty", "html", "no-end", "context", "policy", "gzip")
_COUNTED = ("status", "cut", "stall", "garbage-event", "base-resp")
_NAMES = (*_PLAIN, *_COUNTED, "error-event", "slow", "off")


@attrs.frozen
class Fault:
    """
    What goes wrong at a stand-in.

    :param kind: one of the names above, ``""`` for none.
    :param number: the number behind the name (status, events, code), 0 without one.
    :param retry_after: seconds that a ``status`` fault advises, or ``None``.
    :param delay: seconds before the head.
    :param times: requests it strikes; ``None``: every one.
    """

    kind: str = ""
    number: int = 0
    retry_after: float | None = None
    delay: float = 0.0
    times: int | None = None

    def struck(self) -> Fault:
        """What is left of it after one more request."""
        if self.times is None:
            return self
        return attrs.evolve(self, times=self.times - 1) if self.times > 1 else HEALTHY


HEALTHY = Fault()


def parse_fault(text: str) -> Fault:
    """
    :param text: a specification in the language of this module.
    :raises ValueError: it is none; the message names what was expected.
    """
    fault = HEALTHY
    for part in text.split(";"):
        part = part.strip()
        if part:
            fault = _add(fault, part)
    return fault


def _add(fault: Fault, part: str) -> Fault:
    if part.startswith("times="):
        return attrs.evolve(fault, times=_count(part, part[len("times=") :], least=1))
    name, *rest = part.split(":")
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no fault of the stand-in providers{hint} (known: {', '.join(sorted(_NAMES))})")
    if name == "off":
        return HEALTHY
    if name == "slow":
        return attrs.evolve(fault, delay=_seconds(part, rest[0] if rest else ""))
    if fault.kind:
        raise ValueError(f"two faults at once: {fault.kind!r} and {name!r}")
    if name in _PLAIN:
        if rest:
            raise ValueError(f"{name!r} takes nothing behind it, got {part!r}")
        return attrs.evolve(fault, kind=name)
    if name == "error-event":
        number = _count(part, rest[0]) if rest else 0
    else:
        number = _count(part, rest[0] if rest else "")
    if name == "status" and not 400 <= number <= 599:
        raise ValueError(f"a status fault needs an error status from 400 to 599, got {part!r}")
    retry_after = None
    for option in rest[1:]:
        key, _, value = option.partition("=")
        if name != "status" or key != "retry-after":
            raise ValueError(f"{option!r} is no option of {name!r}")
        retry_after = _seconds(part, value)
    return attrs.evolve(fault, kind=name, number=number, retry_after=retry_after)


def _count(part: str, text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ValueError(f"expected a whole number of at least {least} in {part!r}")
    return int(text)


def _seconds(part: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise ValueError(f"expected seconds in {part!r}")
    return value
