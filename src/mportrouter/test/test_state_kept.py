"""Tests for :mod:`mportrouter.state_kept`."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ..state import RuntimeState
from ..state_database import Database, Row
from ..state_kept import DELAY, RETRY, KeptState
from .test_state import StoreTests

NOW = 1_700_000_000.0


class Thread:
    """Runs what it is given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((work, done))
        return done

    def work(self) -> None:
        (work, done), *self.waiting = self.waiting
        maybeDeferred(work).chainDeferred(done)


class KeptTestCase(SynchronousTestCase):
    """States in one directory, of routers that are started and ended."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = NOW
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "state")
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def state(self, *ports: int, run: Any = maybeDeferred, started: bool = True) -> KeptState:
        state = KeptState(self.directory, self.clock, run, ports or (8787,), lambda: self.now, 4, 4)
        if started:
            state.startService()
        return state

    def end(self, state: KeptState) -> None:
        self.successResultOf(state.stopService())

    @property
    def path(self) -> str:
        return os.path.join(self.directory, "state.sqlite")

    def rows(self, *routers: int) -> list[Row]:
        return Database(self.directory, {}).read(routers or (0, 8787))

    def warnings(self) -> list[str]:
        own = [event for event in self.events if event["log_level"] >= LogLevel.warn]
        return [event["log_format"].format(**event) for event in own]


class StoredTests(StoreTests, SynchronousTestCase):
    """It does what every store does."""

    def make(self) -> RuntimeState:
        state = KeptState(os.path.join(self.mktemp(), "state"), self.clock, maybeDeferred, (1,), lambda: NOW, 4, 4)
        state.startService()
        return state


class RestartTests(KeptTestCase):
    """What a second start finds."""

    def test_everything(self) -> None:
        """After a clean end: ports that were to be remembered, pins, circuits, conversations, and who served them."""
        one = self.state()
        one.set_port_mode(8787, "minimax", remember=True)
        one.set_port_mode(8771, "mixed")
        one.set_pin("mixed", "anthropic")
        one.set_circuit("minimax", {"open": True, "until": NOW + 600})
        one.set_session_mode("8787:s", "mixed")
        one.set_decision("stay", "minimax")
        one.set_decision("plan", ("not", "kept"))
        self.end(one)
        two = self.state()
        self.assertEqual((two.port_mode(8787), two.port_mode(8771)), ("minimax", None))
        self.assertEqual((two.pin("mixed"), two.pin("minimax")), ("anthropic", None))
        self.assertEqual(two.circuit("minimax"), {"open": True, "until": NOW + 600})
        self.assertEqual((two.has_sessions, two.session_mode("8787:s")), (True, "mixed"))
        self.assertEqual((two.decision("stay"), two.decision("plan")), ("minimax", None))

    def test_taken_back(self) -> None:
        """What was taken back, or switched without being remembered, is not found."""
        one = self.state()
        one.set_port_mode(1, "a", remember=True)
        one.set_port_mode(2, "b", remember=True)
        one.set_pin("mixed", "anthropic")
        one.set_circuit("minimax", {"open": True})
        one.set_session_mode("s", "mixed")
        one.set_decision("stay", "minimax")
        self.clock.advance(DELAY)
        self.assertEqual(len(self.rows()), 6)
        one.set_port_mode(1, None)
        one.set_port_mode(2, "c")
        one.set_pin("mixed", None)
        one.set_circuit("minimax", None)
        one.set_session_mode("s", None)
        one.set_decision("stay", None)
        self.end(one)
        self.assertEqual(self.rows(), [])

    def test_killed(self) -> None:
        """Without an end, what a person switched is there at once, and the rest after a fraction of a second."""
        one = self.state()
        one.set_circuit("minimax", {"open": True})
        self.assertIsNone(self.state().circuit("minimax"))
        one.set_pin("mixed", "anthropic")
        self.assertEqual(self.state().pin("mixed"), "anthropic")
        one.set_port_mode(8787, "minimax", remember=True)
        self.assertEqual(self.state().port_mode(8787), "minimax")
        one.set_circuit("anthropic", {"open": True})
        self.clock.advance(DELAY)
        self.assertEqual(self.state().circuit("anthropic"), {"open": True})

    def test_before_the_start(self) -> None:
        """What is set before the service runs is written when it does."""
        one = self.state(started=False)
        one.set_pin("mixed", "anthropic")
        self.clock.advance(10)
        self.assertFalse(os.path.exists(self.directory))
        one.startService()
        self.assertEqual(self.state().pin("mixed"), "anthropic")

    def test_nothing_to_write(self) -> None:
        """A router that has nothing to remember makes no file."""
        self.end(self.state())
        self.assertFalse(os.path.exists(self.directory))

    def test_ages(self) -> None:
        """What was not used for its lifetime is gone; what is half as old has half of it left."""
        one = self.state()
        one.set_session_mode("s", "mixed")
        one.set_decision("d", "minimax")
        self.end(one)
        self.now += 1800
        two, three = self.state(), self.state()
        self.clock.advance(1799)
        self.assertEqual(two.decision("d"), "minimax")
        self.clock.advance(1)
        self.assertIsNone(three.decision("d"))
        self.end(two)
        Database(self.directory, {}).write([Row(8787, "decision", "d", '"minimax"', NOW)])
        self.now = NOW + 3600
        self.assertIsNone(self.state().decision("d"))
        self.assertTrue(self.state().has_sessions)
        self.now = NOW + 86400
        self.assertFalse(self.state().has_sessions)

    def test_used(self) -> None:
        """What is in use goes on being kept, although nothing about it changes."""
        one = self.state()
        one.set_decision("d", "minimax")
        one.set_session_mode("s", "mixed")
        for _ in range(50):
            self.clock.advance(1800)
            self.now += 1800
            self.assertEqual(one.decision("d"), "minimax")
            self.assertEqual(one.session_mode("s"), "mixed")
        self.end(one)
        two = self.state()
        self.assertEqual((two.decision("d"), two.session_mode("s")), ("minimax", "mixed"))

    def test_clock_set_back(self) -> None:
        """Where the clock was set back by a year, everything is still there and has its lifetime again."""
        one = self.state()
        one.set_session_mode("s", "mixed")
        one.set_pin("mixed", "anthropic")
        self.end(one)
        self.now -= 366 * 86400.0
        two = self.state()
        self.assertEqual((two.session_mode("s"), two.pin("mixed")), ("mixed", "anthropic"))
        self.clock.advance(86400)
        self.assertIsNone(two.session_mode("s"))

    def test_order(self) -> None:
        """Past the bound the ones that were used last are found again."""
        one = self.state()
        for number in range(6):
            self.now += 1
            one.set_decision(str(number), "minimax")
        self.end(one)
        two = self.state()
        self.assertEqual([two.decision(str(number)) is not None for number in range(6)], [False] * 2 + [True] * 4)

    def test_unfit_names(self) -> None:
        """A name that is too long or no Unicode is kept in memory alone, and hinders nothing."""
        one = self.state()
        for name in ("x" * 513, "\ud800", "null\0byte", "ünïcødé"):
            one.set_session_mode(name, "mixed")
            self.assertEqual(one.session_mode(name), "mixed")
        self.end(one)
        self.assertEqual({row.name for row in self.rows()}, {"null\0byte", "ünïcødé"})
        self.assertEqual(self.state().session_mode("null\0byte"), "mixed")

    def test_ugly_rows(self) -> None:
        """Rows that nobody would write are passed over."""
        things = [("port", "x", '"m"'), ("port", "1", "2"), ("pin", "a", "{"), ("pin", "b", "[]"), ("pin", "c", '"u"')]
        things += [("circuit", "u", '"open"'), ("session", "s", "7"), ("decision", "d", "[" * 5000), ("new", "n", "1")]
        rows = [Row(0 if kind == "port" else 8787, kind, name, value, NOW) for kind, name, value in things]
        Database(self.directory, {}).write(rows)
        state = self.state()
        self.assertEqual((state.pin("c"), state.pin("a"), state.pin("b")), ("u", None, None))
        self.assertEqual((state.port_mode(1), state.circuit("u"), state.has_sessions), (None, None, False))
        self.assertEqual(self.warnings(), [])


class SeveralTests(KeptTestCase):
    """Routers that share a state directory."""

    def test_own_rows(self) -> None:
        """Each finds what it kept itself; ports are whose they are."""
        one, other = self.state(8771, 8787), self.state(8773)
        one.set_pin("mixed", "anthropic")
        other.set_pin("mixed", "minimax")
        one.set_circuit("minimax", {"n": 1})
        other.set_session_mode("s", "mixed")
        one.set_port_mode(8787, "mixed", remember=True)
        other.set_port_mode(8773, "minimax", remember=True)
        self.end(one)
        self.end(other)
        one, other = self.state(8787, 8771), self.state(8773)
        self.assertEqual((one.pin("mixed"), other.pin("mixed")), ("anthropic", "minimax"))
        self.assertEqual((one.circuit("minimax"), other.circuit("minimax")), ({"n": 1}, None))
        self.assertEqual((one.has_sessions, other.has_sessions), (False, True))
        self.assertEqual((one.port_mode(8787), other.port_mode(8773)), ("mixed", "minimax"))

    def test_lower_port(self) -> None:
        """A router that has come to have a lower port keeps what it knew; what it says from then on counts."""
        one = self.state(8787)
        one.set_pin("mixed", "anthropic")
        one.set_pin("other", "anthropic")
        self.end(one)
        two = self.state(8771, 8787)
        self.assertEqual(two.pin("mixed"), "anthropic")
        two.set_pin("mixed", "minimax")
        self.end(two)
        three = self.state(8771, 8787)
        self.assertEqual((three.pin("mixed"), three.pin("other")), ("minimax", "anthropic"))
        self.assertEqual({row.router for row in self.rows(8771, 8787)}, {8771})


class FormerTests(KeptTestCase):
    """The file of earlier versions."""

    def put(self, content: bytes) -> str:
        os.makedirs(self.directory)
        path = os.path.join(self.directory, "modes.json")
        with open(path, "wb") as file:
            file.write(content)
        return path

    def test_taken_over(self) -> None:
        """Its modes hold at once, and are in the new file once the router runs."""
        path = self.put(b'{"version": 1, "ports": {"8787": "minimax", "8773": "mixed"}}')
        one = self.state(started=False)
        self.assertEqual((one.port_mode(8787), os.listdir(self.directory)), ("minimax", ["modes.json"]))
        one.startService()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.state().port_mode(8787), "minimax")
        self.assertEqual(self.state(8773).port_mode(8773), "mixed")

    def test_switched_meanwhile(self) -> None:
        """A mode that is switched before they are written wins."""
        self.put(b'{"ports": {"8787": "minimax", "8773": "mixed"}}')
        one = self.state(started=False)
        one.set_port_mode(8787, None)
        one.startService()
        self.assertEqual((self.state().port_mode(8787), self.state().port_mode(8773)), (None, "mixed"))

    def test_broken(self) -> None:
        """A broken one is put aside with a warning."""
        path = self.put(b"{")
        self.assertIsNone(self.state().port_mode(8787))
        self.assertTrue(os.path.exists(path + ".bad"))
        (warning,) = self.warnings()
        self.assertIn("modes.json.bad", warning)


class WritingTests(KeptTestCase):
    """Batches, off the reactor's thread."""

    def setUp(self) -> None:
        super().setUp()
        self.thread = Thread()

    def test_batches(self) -> None:
        """Changes are gathered; those that come during a batch wait for the next one; the last of each is written."""
        state = self.state(run=self.thread)
        for number in range(100):
            state.set_circuit("minimax", {"n": number})
        self.assertEqual(self.thread.waiting, [])
        self.clock.advance(DELAY)
        state.set_circuit("minimax", {"n": 1000})
        state.set_pin("mixed", "minimax")
        self.clock.advance(10)
        self.assertEqual((len(self.thread.waiting), self.rows()), (1, []))
        self.thread.work()
        self.assertEqual([json.loads(row.value or "") for row in self.rows()], [{"n": 99}])
        self.clock.advance(DELAY)
        self.thread.work()
        self.assertEqual({row.kind: row.value for row in self.rows()}, {"circuit": '{"n":1000}', "pin": '"minimax"'})
        self.assertEqual((self.thread.waiting, self.clock.getDelayedCalls()), ([], []))

    def test_end(self) -> None:
        """The end waits for the batch under way and for a last one, and leaves no timer behind."""
        state = self.state(run=self.thread)
        state.set_pin("mixed", "minimax")
        state.set_circuit("minimax", {"n": 1})
        ended = state.stopService()
        self.assertNoResult(ended)
        self.thread.work()
        self.assertNoResult(ended)
        self.thread.work()
        self.successResultOf(ended)
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unwritable(self) -> None:
        """Where nothing can be written everything goes on in memory: one warning, and tries until it works again."""
        os.makedirs(os.path.dirname(self.directory))
        with open(self.directory, "wb"):
            pass  # a file where the directory should be
        state = self.state()
        state.set_port_mode(8787, "minimax", remember=True)
        state.set_circuit("minimax", {"n": 1})
        self.clock.pump([RETRY] * 5)
        self.assertEqual((state.port_mode(8787), len(self.warnings())), ("minimax", 1))
        os.unlink(self.directory)
        self.clock.advance(RETRY)
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(len(self.warnings()), 1)

    def test_unwritable_to_the_end(self) -> None:
        """Where it never works the end comes all the same, and says what is lost."""
        os.makedirs(os.path.dirname(self.directory))
        with open(self.directory, "wb"):
            pass
        state = self.state()
        state.set_pin("mixed", "minimax")
        self.end(state)
        self.assertIn("could not be written", self.warnings()[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """What waits for a disk that refuses is bounded, and what a person switched is not what is given up."""
        state = self.state(run=self.thread)
        state.set_pin("mixed", "minimax")
        for number in range(100):
            state.set_pin(str(number % 2), "minimax")
            state.set_decision(str(number), "minimax")
        self.thread.work()
        self.clock.advance(DELAY)
        self.thread.work()
        names = [row.name for row in self.rows()]
        self.assertEqual(set(names), {"mixed", "0", "1", *map(str, range(94, 100))})

    def test_own_mistake(self) -> None:
        """An error of another kind is logged and the batch given up: it would fail for ever."""
        state = self.state(run=self.thread)
        state.set_pin("mixed", "minimax")
        (_, done), *self.thread.waiting = self.thread.waiting
        done.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        state.set_pin("mixed", "anthropic")
        self.thread.work()
        self.assertEqual(self.state().pin("mixed"), "anthropic")


class DamageTests(KeptTestCase):
    """A file that is damaged."""

    def damage(self) -> None:
        os.makedirs(self.directory, exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(b"garbage" * 1000)

    def test_at_the_start(self) -> None:
        """It is put aside with a warning, and the router starts without it and writes a new one."""
        self.damage()
        state = self.state()
        (warning,) = self.warnings()
        self.assertIn("state.sqlite.bad", warning)
        state.set_pin("mixed", "minimax")
        self.assertEqual(self.state().pin("mixed"), "minimax")
        self.assertTrue(os.path.exists(self.path + ".bad"))

    def test_while_running(self) -> None:
        """It is put aside with a warning, and everything that the router knows is written into a new one."""
        other = self.state(8773)
        other.set_port_mode(8773, "minimax", remember=True)
        state = self.state()
        state.set_port_mode(8787, "minimax", remember=True)
        state.set_pin("mixed", "minimax")
        state.set_circuit("minimax", {"n": 1})
        state.set_session_mode("s", "mixed")
        state.set_session_mode("\ud800", "mixed")
        state.set_decision("d", "anthropic")
        state.set_decision("e", object())
        self.clock.advance(DELAY)
        self.damage()
        state.set_pin("other", "minimax")
        self.assertEqual(len(self.warnings()), 1)
        self.clock.advance(DELAY)
        names = {(row.kind, row.name) for row in self.rows()}
        expected = {("port", "8787"), ("pin", "mixed"), ("pin", "other"), ("circuit", "minimax")}
        self.assertEqual(names, expected | {("session", "s"), ("decision", "d")})
        self.assertEqual(len(self.warnings()), 1)

    def test_locked_at_the_start(self) -> None:
        """A file that cannot be read now is left alone, and written to later."""
        self.end(self.state())
        one = self.state()
        one.set_pin("mixed", "minimax")

        def refuse(*_: object) -> list[Row]:
            raise sqlite3.OperationalError("database is locked")

        self.patch(Database, "read", refuse)
        state = self.state()
        self.assertIsNone(state.pin("mixed"))
        self.assertIn("locked", self.warnings()[0])
        state.set_pin("other", "anthropic")
        self.assertFalse(os.path.exists(self.path + ".bad"))
