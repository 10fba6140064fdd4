"""A time limit that is moved often and reached seldom."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """
    One time limit at a time. Moving it later costs no more than an assignment: the one delayed call behind it is armed
    again when it fires too early, because cancel and callLater for each request cost as much as parsing its head.

    :param clock: the reactor.
    :param reached: called without arguments when the limit is reached; there is none then.
    """

    __slots__ = ("_at", "_call", "_call_at", "_clock", "_reached")

    def __init__(self, clock: IReactorTime, reached: Callable[[], None]) -> None:
        self._clock = clock
        self._reached = reached
        self._at: float | None = None
        self._call: IDelayedCall | None = None
        self._call_at = 0.0

    def within(self, seconds: float) -> None:
        """Set the limit, in place of any other, to ``seconds`` from now."""
        at = self._at = self._clock.seconds() + seconds
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._fired)
            self._call_at = at
        elif at < self._call_at:
            self._call.reset(seconds)
            self._call_at = at

    def off(self) -> None:
        """There is no limit; the delayed call may stay for the next one."""
        self._at = None

    def cancel(self) -> None:
        """There is no limit, and no delayed call stays behind."""
        self._at = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _fired(self) -> None:
        self._call = None
        if self._at is None:
            return
        left = self._at - self._clock.seconds()
        # Rounding must not make a chain of calls a nanosecond apart.
        if left > 0.001:
            self._call = self._clock.callLater(left, self._fired)
            self._call_at = self._at
        else:
            self._at = None
            self._reached()
