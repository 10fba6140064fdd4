"""
One clock for all that is under way.

A timer for each exchange, set and cancelled again, costs a request more than its parsing. Limits are seconds, so it is
enough to look at everything a few times a second; where nothing is under way, nothing ticks.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Seconds between two looks.
EVERY = 0.1


class Watched(Protocol):
    """Something that has deadlines of its own."""

    def tick(self, now: float) -> None:
        """See whether something is due at ``now`` (seconds on the watch's clock)."""


class Watch:
    """
    Ticks everything that it watches.

    :param clock: runs the ticks.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watched: dict[Watched, None] = {}
        self._timer: IDelayedCall | None = None

    def add(self, watched: Watched) -> None:
        """Tick ``watched`` from now on."""
        self._watched[watched] = None
        if self._timer is None:
            self._timer = self._clock.callLater(EVERY, self._tick)

    def remove(self, watched: Watched) -> None:
        """Tick it no more; nothing where it is not watched."""
        self._watched.pop(watched, None)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for watched in list(self._watched):
            if watched in self._watched:
                try:
                    watched.tick(now)
                except Exception:  # noqa: BLE001 - one that breaks must not stop the clock of all others
                    self._log.failure("A deadline could not be looked at")
                    self.remove(watched)
        if self._watched and self._timer is None:
            self._timer = self._clock.callLater(EVERY, self._tick)
