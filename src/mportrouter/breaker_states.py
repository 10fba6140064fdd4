"""
The three states of a circuit as an Automat machine: closed, open, half-open (and in it: a trial under way or not).

It decides nothing about failures: :mod:`mportrouter.breaker` counts, and tells it when to move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from automat import TypeMachineBuilder, pep614

#: Seconds after which a trial that was never settled no longer bars the next one.
TRIAL_LOST = 900.0


class Circuit(Protocol):
    """The machine's inputs. Each returns the event to tell of, or ``None``."""

    def trip(self, until: float) -> str | None:
        """No requests until this time."""

    def wait_over(self) -> str | None:
        """The time is over, or a health check gives reason to try earlier."""

    def begin_trial(self, now: float) -> bool:
        """Ask for the one request of a half-open circuit: whether it was given."""

    def end_trial(self) -> None:
        """The trial showed nothing."""

    def close(self) -> str | None:
        """The upstream answers, or a person says so."""


@dataclass
class Core:
    state: str = "closed"
    until: float = 0.0
    trial: bool = False
    trial_since: float = 0.0
    #: Counts the machine's moves, so that a permit from before a move cannot speak for the time after it.
    generation: int = 0


def _build() -> Callable[[Core], Circuit]:
    machine = TypeMachineBuilder(Circuit, Core)
    closed = machine.state("closed")
    opened = machine.state("open")
    half_open = machine.state("half-open")
    trying = machine.state("trying")

    def enter(core: Core, state: str) -> None:
        core.state = state
        core.trial = False
        core.generation += 1

    @pep614(closed.upon(Circuit.trip).to(opened))
    @pep614(half_open.upon(Circuit.trip).to(opened))
    @pep614(trying.upon(Circuit.trip).to(opened))
    def open_it(circuit: Circuit, core: Core, until: float) -> str | None:
        enter(core, "open")
        core.until = until
        return "opened"

    @pep614(opened.upon(Circuit.trip).loop())
    def extend(circuit: Circuit, core: Core, until: float) -> str | None:
        core.until = max(core.until, until)
        return None

    @pep614(opened.upon(Circuit.wait_over).to(half_open))
    def let_one_in(circuit: Circuit, core: Core) -> str | None:
        enter(core, "half-open")
        return "half-open"

    @pep614(half_open.upon(Circuit.begin_trial).to(trying))
    def begin(circuit: Circuit, core: Core, now: float) -> bool:
        core.trial = True
        core.trial_since = now
        core.generation += 1
        return True

    @pep614(trying.upon(Circuit.begin_trial).loop())
    def begin_again(circuit: Circuit, core: Core, now: float) -> bool:
        if now - core.trial_since < TRIAL_LOST:
            return False
        return begin(circuit, core, now)

    @pep614(trying.upon(Circuit.end_trial).to(half_open))
    def end(circuit: Circuit, core: Core) -> None:
        core.trial = False
        core.generation += 1

    @pep614(opened.upon(Circuit.close).to(closed))
    @pep614(half_open.upon(Circuit.close).to(closed))
    @pep614(trying.upon(Circuit.close).to(closed))
    def close_it(circuit: Circuit, core: Core) -> str | None:
        enter(core, "closed")
        return "closed"

    for state in (closed, half_open, trying):
        state.upon(Circuit.wait_over).loop().returns(None)
    for state in (closed, opened):
        state.upon(Circuit.begin_trial).loop().returns(False)
    for state in (closed, opened, half_open):
        state.upon(Circuit.end_trial).loop().returns(None)
    closed.upon(Circuit.close).loop().returns(None)
    return machine.build()


new_circuit = _build()
