"""
What circuits know, over a restart and over a reload.

A circuit tells seconds from now (:meth:`mportrouter.breaker.Breaker.snapshot`); kept are moments since the epoch::

    {"at": 1767225600.0, "way": "…", "account": "…", "open": true, "until": 1767226200.0, "cause": "rate",
     "advised": true, "openings": 1, "message": "…", "rests": {"MiniMax-M2": [1767226200.0, "rate"]}}

They become seconds again when the circuit is restored. A clock that was set back cannot make a rest longer than it was
when it was kept. What is kept of an upstream holds for the same server (``way``), and what is the account's only for
the same key (``account``, four bytes of a digest: enough to see a change, too little to look a key up).

Circuits are looked at twice a second, whatever moved them; one that knows nothing costs next to nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.application import service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .breaker import Breaker
from .errors import Kind
from .settings import UpstreamSettings
from .state import IStateStore

#: Seconds between two looks.
EVERY = 0.5
#: Seconds by which a moment may have moved, because two clocks never agree, without being written again.
_SAME = 1.0
#: Longest name of a model that is kept, and longest message.
_LONGEST = 200
#: More than any moment.
_HUGE = 1e15
_ACCOUNT = (Kind.AUTH.value, Kind.MONEY.value)


class KnownUpstream(Protocol):
    """An upstream as far as it is asked for here."""

    @property
    def settings(self) -> UpstreamSettings: ...

    @property
    def circuit(self) -> Breaker: ...


@attrs.frozen
class Prints:
    """
    Tell whether what a circuit knows still is about the same.

    :param way: of the server and how it is reached.
    :param account: of whom it takes the router for.
    """

    way: str
    account: str

    @classmethod
    def of(cls, settings: UpstreamSettings) -> Prints:
        key = "" if settings.api_key is None else settings.api_key.value
        # A certificate that could not be verified is not told apart from other faults: a mended way is tried at once.
        return cls(
            _digest((settings.provider, settings.base_url, settings.tls, settings.pins), 8),
            _digest((key, settings.auth, settings.auth_style, settings.auth_file), 4),
        )


def _digest(parts: tuple[object, ...], size: int) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=size).hexdigest()


def carried(snapshot: Mapping[str, Any], had: Prints, wanted: Prints) -> dict[str, Any]:
    """What of a circuit's snapshot holds under other settings too, for :meth:`Breaker.restore`."""
    if had.way != wanted.way:
        return {}
    known = dict(snapshot)
    if had.account != wanted.account:
        known["open"] = known.get("open") is True and known.get("cause") not in _ACCOUNT
        rests = known.get("rests")
        rests = rests.items() if isinstance(rests, dict) else ()
        known["rests"] = {model: rest for model, rest in rests if not (_is_rest(rest) and rest[1] in _ACCOUNT)}
    return known


def carry(before: KnownUpstream, after: KnownUpstream) -> None:
    """Let the circuit of an upstream begin with what that of its predecessor knows."""
    known = carried(before.circuit.snapshot(), Prints.of(before.settings), Prints.of(after.settings))
    after.circuit.restore(known)


def to_moments(snapshot: Mapping[str, Any], prints: Prints, now: float) -> dict[str, Any] | None:
    """
    What is kept of a snapshot, or ``None`` where it says nothing that would be missed.

    :param now: seconds since the epoch.
    """
    rests = {
        model: [now + rest[0], rest[1]] for model, rest in snapshot["rests"].items() if len(model) <= _LONGEST
    }
    if not snapshot["open"] and not rests:
        return None
    left = snapshot["remaining"]
    return {
        **snapshot,
        "at": now,
        "way": prints.way,
        "account": prints.account,
        # A time that is over stays the same moment, however long nobody asks.
        "until": now + left if left > 0 else 0.0,
        "message": snapshot["message"][:_LONGEST],
        "rests": rests,
    }


def to_seconds(known: Mapping[str, Any], prints: Prints, now: float) -> dict[str, Any]:
    """The snapshot again, as far as it holds under ``prints``; what is not understood is left out."""
    at = _number(known.get("at"))

    def left(until: object) -> float:
        moment = _number(until)
        return max(0.0, min(moment - now, moment - at))

    rests = known.get("rests")
    rests = rests.items() if isinstance(rests, dict) else ()
    snapshot = {
        **known,
        "remaining": left(known.get("until")),
        "openings": _number(known.get("openings")),
        "rests": {model: [left(rest[0]), rest[1]] for model, rest in rests if _is_rest(rest)},
    }
    return carried(snapshot, Prints(str(known.get("way")), str(known.get("account"))), prints)


def _is_rest(rest: object) -> bool:
    return isinstance(rest, (list, tuple)) and len(rest) == 2 and isinstance(rest[1], str)


def _number(value: object) -> float:
    """A number that can be reckoned with; 0 for anything else."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < _HUGE else 0.0


def _times(known: Mapping[str, Any]) -> list[float]:
    return [known["until"], *(rest[0] for rest in known["rests"].values())]


def _plain(known: Mapping[str, Any]) -> dict[str, Any]:
    """All but the times."""
    rests = {model: rest[1] for model, rest in known["rests"].items()}
    return {**known, "at": 0, "until": 0, "remaining": 0, "rests": rests}


class Circuits(service.Service):
    """
    Keeps what circuits know.

    :param state: where it is kept.
    :param upstreams: gives those in force, by id.
    :param wall: seconds since the epoch.
    """

    name = "circuits"

    def __init__(
        self,
        state: IStateStore,
        clock: IReactorTime,
        upstreams: Callable[[], Mapping[str, KnownUpstream]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._clock = clock
        self._upstreams = upstreams
        self._wall = wall
        self._due: IDelayedCall | None = None

    def restore(self, id: str, upstream: KnownUpstream) -> None:
        """Give the circuit of a new upstream what is kept of it."""
        known = self._state.circuit(id)
        if known is not None:
            upstream.circuit.restore(to_seconds(known, Prints.of(upstream.settings), self._wall()))

    def startService(self) -> None:
        super().startService()
        self._due = self._clock.callLater(EVERY, self._again)

    def stopService(self) -> None:
        super().stopService()
        if self._due is not None and self._due.active():
            self._due.cancel()
        self.look()

    def _again(self) -> None:
        self._due = self._clock.callLater(EVERY, self._again)
        self.look()

    def look(self) -> None:
        """Keep what has changed."""
        state = self._state
        for id, upstream in self._upstreams().items():
            kept = state.circuit(id)
            snapshot = upstream.circuit.snapshot()
            if kept is None and not snapshot["open"] and not snapshot["rests"]:
                continue
            known = to_moments(snapshot, Prints.of(upstream.settings), self._wall())
            if known is None:
                if kept is not None:
                    state.set_circuit(id, None)
            elif kept is None or not _same(kept, known):
                state.set_circuit(id, known)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two say the same, but for clocks that do not quite agree."""
    try:
        return _plain(one) == _plain(other) and all(
            abs(a - b) <= _SAME for a, b in zip(_times(one), _times(other), strict=True)
        )
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        return False  # what was read from the file is not what this version writes
