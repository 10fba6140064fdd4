"""
State that outlives a restart: in memory for whoever asks, in ``state.sqlite`` for the next start.

What changes is gathered and written in one batch by a thread, at most half a second later, and what a person has
switched at once; a clean stop waits for the last batch. A change that comes while a batch is being written waits for
the next one, and of several changes of one thing only the last is written: what waits is bounded by what is kept.

Nothing here stops a start. A file that is damaged is put aside with a warning, one that cannot be written is tried
again and again; meanwhile the state is in memory.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import attrs
from twisted.application import service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .state import DAY, HOUR, RuntimeState
from .state_database import UNUSABLE, Bounds, Damaged, Database, Row

#: Seconds that a change may wait for others before it is written.
DELAY = 0.3
#: Seconds between two tries where the file cannot be written.
RETRY = 5.0
#: Rows that belong to no router: a port is one router's at a time, whichever has it.
EVERYBODY = 0

#: Longest name of a thing that is kept; a client may choose its conversation's.
_LONGEST = 512
#: What is forgotten first where too much waits for a file that cannot be written.
_LEAST = "decision"
_MOST_CIRCUITS = 4096

_Key = tuple[int, str, str]

Run = Callable[[Callable[[], None]], "Deferred[Any]"]
"""Runs what blocks somewhere else, and fires when it is done."""


class KeptState(RuntimeState, service.Service):
    """
    :param directory: the state directory; nothing is made in it before there is something to write.
    :param clock: for delays, and for the lifetimes of what is remembered.
    :param run: runs the writing of a batch off the reactor's thread.
    :param ports: of this router. The lowest is its name in the file; what a router with the name of another of them has
        left is this router's too, because two cannot have one port.
    :param wall: seconds since the epoch.
    """

    name = "state"
    _log = Logger()

    def __init__(
        self,
        directory: str,
        clock: IReactorTime,
        run: Run,
        ports: Collection[int] = (),
        wall: Callable[[], float] = time.time,
        sessions: int = 4096,
        decisions: int = 8192,
    ) -> None:
        super().__init__(clock.seconds, sessions, decisions)
        self._clock = clock
        self._run = run
        self._wall = wall
        self._router = min(ports, default=EVERYBODY)
        self._ports = set(ports)
        self._most = sessions + decisions
        self._remembered: dict[int, str] = {}
        self._pending: dict[_Key, Row] = {}
        self._former: list[Row] = []
        self._due: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._warned = False
        bounds = {
            "session": Bounds(DAY, sessions),
            "decision": Bounds(HOUR, decisions),
            "circuit": Bounds(30 * DAY, _MOST_CIRCUITS),
        }
        self._database = Database(directory, bounds)
        self._lifetimes = {kind: one.lifetime for kind, one in bounds.items()}
        self._load()
        self._sessions.told = partial(self._note, "session")
        self._decisions.told = self._note_decision

    # ------------------------------------------------------------------------------------------------ the store

    def set_port_mode(self, port: int, mode: str | None, remember: bool = False) -> None:
        super().set_port_mode(port, mode, remember)
        if mode is not None and remember:
            self._remembered[port] = mode
        else:
            self._remembered.pop(port, None)
        self._ports.add(port)
        self._note("port", str(port), self._remembered.get(port))
        self._soon(0.0)

    def set_pin(self, mode: str, upstream: str | None) -> None:
        super().set_pin(mode, upstream)
        self._note("pin", mode, upstream)
        self._soon(0.0)

    def set_circuit(self, upstream: str, known: dict[str, Any] | None) -> None:
        super().set_circuit(upstream, known)
        self._note("circuit", upstream, known)

    def _note_decision(self, turn: str, decision: Any) -> None:
        # Plans belong to the configuration they were made under; who served a conversation does not.
        if decision is None or type(decision) is str:
            self._note("decision", turn, decision)

    # ------------------------------------------------------------------------------------------------ service

    def startService(self) -> None:
        super().startService()
        if self._pending or self._former:
            self._soon(0.0)

    def stopService(self) -> Deferred[None]:
        """:returns: fires when everything is written, or could not be."""
        super().stopService()
        self._cancel()

        def last(_: object) -> Deferred[None]:
            return self._flush() if self._pending or self._former else succeed(None)

        def over(_: object) -> None:
            self._cancel()
            if self._pending:
                self._log.error("{count} changes of the state could not be written.", count=len(self._pending))

        return (self._writing or succeed(None)).addCallback(last).addCallback(over)

    # ------------------------------------------------------------------------------------------------ writing

    def _note(self, kind: str, name: str, value: Any) -> None:
        """Keep a plain value, ``None``: no longer."""
        router = self._owner(kind)
        if not _fits(name):
            return
        self._pending[router, kind, name] = self._row(router, kind, name, value)
        if len(self._pending) > self._most:
            oldest = next((key for key in self._pending if key[1] == _LEAST), None)
            if oldest is not None:
                del self._pending[oldest]
        if self._due is None:
            self._soon(DELAY)

    def _soon(self, seconds: float) -> None:
        """Write within so many seconds, where nothing says otherwise."""
        if not self.running or self._writing is not None or (self._warned and self._due is not None):
            return
        self._cancel()
        if seconds > 0:
            self._due = self._clock.callLater(seconds, self._flush)
        else:
            self._flush()

    def _cancel(self) -> None:
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()

    def _flush(self) -> Deferred[None]:
        """Write what waits; the Deferred never fails."""
        self._cancel()
        batch, self._pending = self._pending, {}
        former = self._former
        writing: Deferred[None] = Deferred()
        self._writing = writing
        done = self._run(partial(self._database.write, list(batch.values()), former))

        def over(failure: Failure | None) -> None:
            self._writing = None
            try:
                if failure is None:
                    self._succeeded()
                else:
                    self._failed(failure, batch)
            finally:
                writing.callback(None)

        done.addCallbacks(lambda _: over(None), over)
        return writing

    def _succeeded(self) -> None:
        self._former = []
        if self._warned:
            self._warned = False
            self._log.info("The state can be written again.")
        if self._pending:
            self._soon(DELAY)

    def _failed(self, failure: Failure, batch: dict[_Key, Row]) -> None:
        delay = RETRY
        if failure.check(Damaged) is not None:
            self._log.warn("{why}. The state goes on from memory.", why=failure.getErrorMessage())
            delay = RETRY if self._warned else DELAY
            batch |= self._everything()
        elif failure.check(*UNUSABLE) is None:
            self._log.failure("A batch of the state is lost", failure)
            return
        elif not self._warned:
            self._log.warn(
                "The state cannot be written: {why}. It goes on in memory, and is not remembered for the next start.",
                why=failure.getErrorMessage(),
            )
        self._warned = True
        self._pending = batch | self._pending
        if self.running:
            self._due = self._clock.callLater(delay, self._flush)

    def _everything(self) -> dict[_Key, Row]:
        """A row for each thing that is kept, but for ports of others, who may know better."""
        kinds: dict[str, list[tuple[str, Any]]] = {
            "port": [(str(port), mode) for port, mode in self._remembered.items() if port in self._ports],
            "pin": list(self._pins.items()),
            "circuit": list(self._circuits.items()),
            "session": self._sessions.items(),
            "decision": [(turn, one) for turn, one in self._decisions.items() if type(one) is str],
        }
        rows = [
            self._row(self._owner(kind), kind, name, value)
            for kind, things in kinds.items()
            for name, value in things
            if _fits(name)
        ]
        return {(row.router, row.kind, row.name): row for row in rows}

    def _row(self, router: int, kind: str, name: str, value: Any) -> Row:
        text = None if value is None else json.dumps(value, separators=(",", ":"))
        return Row(router, kind, name, text, self._wall())

    def _owner(self, kind: str) -> int:
        return EVERYBODY if kind == "port" else self._router

    # ------------------------------------------------------------------------------------------------ restoring

    def _load(self) -> None:
        rows: list[Row] = []
        former: dict[int, str] = {}
        try:
            rows = self._database.read({EVERYBODY, self._router, *self._ports})
        except Damaged as error:
            self._log.warn("{why}. The router starts without what it kept.", why=str(error))
        except UNUSABLE as error:
            self._log.warn("What was kept for this start cannot be read: {why}", why=str(error))
        # What a router of another name has left is older than what this one's says.
        for row in sorted(rows, key=lambda row: row.router == self._router):
            self._take(row)
            if row.router not in (EVERYBODY, self._router):
                mine = attrs.evolve(row, router=self._router)
                self._pending[row.router, row.kind, row.name] = attrs.evolve(row, value=None)
                self._pending[mine.router, mine.kind, mine.name] = mine
            else:
                self._pending.pop((row.router, row.kind, row.name), None)
        try:
            former = self._database.former_modes()
        except (Damaged, OSError) as error:
            self._log.warn("Remembered port modes cannot be taken over: {why}", why=str(error))
        for port, mode in former.items():
            self._former.append(self._row(EVERYBODY, "port", str(port), mode))
            if port not in self._remembered:
                self._remembered[port] = self._modes[port] = mode

    def _take(self, row: Row) -> None:
        """Put a row back into memory; what is too old, or not what it should be, is passed over."""
        try:
            value = json.loads(row.value or "")
        except (ValueError, RecursionError):
            return
        # Where the clock was set back, what was written ahead of it counts as just now.
        age = max(0.0, self._wall() - row.at)
        kind, name = row.kind, row.name
        if age >= self._lifetimes.get(kind, math.inf):
            return
        if kind == "circuit":
            if isinstance(value, dict):
                self._circuits[name] = value
        elif not isinstance(value, str):
            return
        elif kind == "port" and re.fullmatch("[0-9]{1,5}", name):
            self._remembered[int(name)] = self._modes[int(name)] = value
        elif kind == "pin":
            self._pins[name] = value
        elif kind == "session":
            self._sessions.restore(name, value, age)
        elif kind == "decision":
            self._decisions.restore(name, value, age)


def _fits(name: str) -> bool:
    """Whether a name can be kept: it is not too long, and there are no lone surrogates in it."""
    if len(name) > _LONGEST:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
