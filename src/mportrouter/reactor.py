"""
An epoll reactor with a shorter way from a readable socket to its protocol.

Twisted's own wraps every event in a logging context (``callWithLogger``), so that legacy log messages carry the name
of the protocol they come from. A router's events are many and short, and its log lines name their upstream and port
themselves: here the most frequent event, *readable and nothing else*, is dispatched directly; every other one goes
Twisted's way. What is written meanwhile through an :class:`~mportrouter.eager.Outlet` goes out together when all events
of a round are dispatched.

``twistd mportrouter`` takes this reactor where none was chosen; ``twistd --reactor=epoll`` (or any other) is respected,
and ``twistd --reactor=mportrouter`` takes it for another service too. Linux only: elsewhere it cannot be imported, and
``twistd mportrouter`` leaves Twisted's default alone.
"""

from __future__ import annotations

import sys
from typing import Protocol

try:
    from select import EPOLLIN

    from twisted.internet.epollreactor import EPollReactor
except ImportError as error:
    # ``twistd --help-reactors`` and ``--reactor=mportrouter`` show this.
    raise ImportError("the mportrouter reactor needs epoll, which only Linux has") from error
from twisted.internet.main import installReactor
from twisted.internet.posixbase import _NO_FILEDESC
from twisted.python import log

#: Writes that wait for each other at most: the last of them must not make the first one late.
TOGETHER = 64


class Waiting(Protocol):
    """What stands in the outbox."""

    def flush(self) -> None:
        """Write now what waits."""


class DirectEPollReactor(EPollReactor):
    """
    Epoll, with readable sockets dispatched directly.

    :ivar outbox: outlets with something to write at the end of the round.
    """

    def __init__(self) -> None:
        self.outbox: list[Waiting] = []
        super().__init__()

    def doPoll(self, timeout: float | None) -> None:
        """
        Wait for events and dispatch them.

        :param timeout: seconds; ``None``: until something happens.
        """
        selectables = self._selectables
        outbox = self.outbox
        if outbox:
            self._send()  # what timed calls have written
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except InterruptedError:
            return
        for number, event in events:
            selectable = selectables.get(number)
            if selectable is None:
                continue  # an earlier event of this round has removed it
            if event != EPOLLIN:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, number, event)
                continue
            try:
                why = selectable.doRead()
                if selectable.fileno() != number:
                    why = _NO_FILEDESC
            except BaseException as error:  # noqa: BLE001 - whatever it is, the other connections go on
                log.err()
                why = error
            if why:
                self._disconnectSelectable(selectable, why, True)
            if len(outbox) >= TOGETHER:
                self._send()
        if outbox:
            self._send()

    def _send(self) -> None:
        """Empty the outbox."""
        waiting = self.outbox[:]
        self.outbox.clear()
        for outlet in waiting:
            try:
                outlet.flush()
            except Exception:  # noqa: BLE001 - whatever it is, the other connections go on
                log.err()

    doIteration = doPoll


def install() -> None:
    """Make this the process's reactor; for ``twistd --reactor=mportrouter``."""
    installReactor(DirectEPollReactor())


def install_if_none() -> None:
    """Make this the process's reactor where nobody has chosen one yet."""
    if "twisted.internet.reactor" not in sys.modules:
        install()
