"""One clock for the limits of all that is under way."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ..watch import EVERY, Watch


class Watched:
    """Keeps the moments of its ticks, and does something at each."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.ticks: list[float] = []
        self.then = then

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.then()


class WatchTests(SynchronousTestCase):
    """What is ticked, and when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)

    def test_ticks(self) -> None:
        """Everything is looked at several times a second, with the clock's own time."""
        one, two = Watched(), Watched()
        self.watch.add(one)
        self.clock.advance(EVERY / 2)
        self.watch.add(two)
        self.clock.advance(EVERY / 2)
        self.clock.advance(EVERY)
        self.assertEqual(one.ticks, [EVERY, 2 * EVERY])
        self.assertEqual(two.ticks, one.ticks)

    def test_one_timer(self) -> None:
        """However much is watched, one timer runs, and none where nothing is left."""
        for _ in range(5):
            watched = Watched()
            self.watch.add(watched)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.watch.remove(watched)
            self.watch.remove(watched)
        self.clock.advance(EVERY)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_removed_meanwhile(self) -> None:
        """One that an earlier one removes in the same round is not looked at any more."""
        second = Watched()
        first = Watched(lambda: self.watch.remove(second))
        self.watch.add(first)
        self.watch.add(second)
        self.clock.advance(EVERY)
        self.assertEqual((len(first.ticks), second.ticks), (1, []))

    def test_added_meanwhile(self) -> None:
        """One that is added during a round is looked at from the next one on, by the same timer."""
        second = Watched()
        first = Watched(lambda: self.watch.add(second))
        self.watch.add(first)
        self.clock.advance(EVERY)
        self.assertEqual(second.ticks, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(EVERY)
        self.assertEqual(second.ticks, [2 * EVERY])

    def test_one_breaks(self) -> None:
        """One that raises is dropped and logged; the others go on."""

        def broken() -> None:
            raise RuntimeError("oops")

        bad, good = Watched(broken), Watched()
        self.watch.add(bad)
        self.watch.add(good)
        self.clock.advance(EVERY)
        self.clock.advance(EVERY)
        self.assertEqual((len(bad.ticks), len(good.ticks)), (1, 2))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
