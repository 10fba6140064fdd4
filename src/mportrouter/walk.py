"""
The walk through a plan: which attempt comes next, who lets it be made, what its failure means for the ones after it.

What an attempt is and how its answer reaches the client is the business of :mod:`mportrouter.relay`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .breaker import Refusal
from .errors import Kind, RouterError, Verdict
from .interfaces import Inexpressible, IPermit
from .patience import pause
from .records import AttemptRecord, ExchangeRecord
from .routing.plans import Attempt, Plan
from .settings import ModeSettings
from .verdicts import nobody_answered

if TYPE_CHECKING:
    from .runtime import Runtime

#: Attempts of one exchange, all upstreams together.
ATTEMPT_BUDGET = 6


class Walk(ABC):
    """
    :param clock: tells the time, and waits before a second try.
    :param plan: the attempts, in order.
    :param mode: the policy the plan was made under (its retries).
    :param runtime: the configuration that this exchange began under.
    :param record: failed attempts are kept in it.
    :param random: 0 to 1, for jitter.
    """

    __slots__ = (
        "_attempt",
        "_attempts",
        "_clock",
        "_failures",
        "_index",
        "_mode",
        "_needs_context",
        "_permit",
        "_plan",
        "_random",
        "_refused",
        "_retries",
        "_runtime",
        "_sent",
        "_timer",
        "_upstream",
        "record",
    )

    def __init__(
        self,
        clock: IReactorTime,
        plan: Plan,
        mode: ModeSettings,
        runtime: Runtime,
        record: ExchangeRecord,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._plan = plan
        self._mode = mode
        self._runtime = runtime
        self._random = random
        self.record = record
        self._index = -1
        self._attempts = self._retries = 0
        self._sent = 0.0
        self._failures: list[tuple[str, Verdict]] = []
        self._needs_context: int | None = None
        #: The last upstream's that could not be asked because of what its dialect or model cannot express.
        self._refused: Inexpressible | None = None
        self._attempt: Attempt | None = None
        self._upstream: Any = None
        self._permit: IPermit | None = None
        self._timer: IDelayedCall | None = None

    # ------------------------------------------------------------------------------------------- given by the exchange

    @abstractmethod
    def _ask(self, permit: IPermit) -> bool:
        """Ask the current upstream; ``False``: it could not be asked, and the walk goes on."""

    @abstractmethod
    def _forget(self) -> None:
        """Another upstream comes: what was made ready for the last one is of no use."""

    @abstractmethod
    def _refuse(self, error: RouterError) -> None:
        """Answer with an error of the router's own."""

    @abstractmethod
    def _give_up(self, verdict: Verdict) -> None:
        """The last failure is what the client gets."""

    # ------------------------------------------------------------------------------------------- forward

    def _advance(self) -> None:
        """Go to the next attempt of the plan that may be made now."""
        attempts = self._plan.attempts
        while True:
            self._index += 1
            if self._index >= len(attempts) or self._attempts >= ATTEMPT_BUDGET:
                self._exhausted()
                return
            attempt = attempts[self._index]
            if self._needs_context is not None and (self._runtime.context(attempt) or 0) <= self._needs_context:
                continue
            self._attempt = attempt
            self._upstream = self._runtime.upstreams[attempt.upstream]
            self._retries = self._mode.retries
            self._forget()
            if self._try():
                return

    def _try(self) -> bool:
        """Make the current attempt; ``False``: the circuit, a limit or the dialect refuses it."""
        attempt, upstream = self._attempt, self._upstream
        assert attempt is not None
        concurrency = upstream.settings.limits.concurrency
        if concurrency is not None and upstream.in_flight >= concurrency:
            self._skip(Verdict(Kind.BUSY, f"all of its {concurrency} places are taken", retry_after=1.0))
            return False
        permit = upstream.circuit.permit(attempt.model)
        if type(permit) is Refusal:
            self._skip(Verdict(permit.kind, permit.reason, retry_after=permit.retry_after))
            return False
        self._permit = permit
        return self._ask(permit)

    def _retry(self) -> None:
        self._timer = None
        if not self._try():
            self._advance()

    def _rest(self) -> tuple[Attempt, ...]:
        return self._plan.attempts[self._index + 1 :]

    # ------------------------------------------------------------------------------------------- failures

    def _skip(self, verdict: Verdict) -> None:
        """Note that the current attempt was refused by the router's own judgement."""
        self._sent = self._clock.seconds()
        self._note(verdict)

    def _note(self, verdict: Verdict) -> None:
        """Keep a failure of the current attempt."""
        assert self._attempt is not None
        self._failures.append((self._attempt.upstream, verdict))
        seconds = self._clock.seconds() - self._sent
        self.record.failed.append(AttemptRecord.of(self._attempt.upstream, self._attempt.model, verdict, seconds))

    def _failed(self, verdict: Verdict) -> None:
        """The current attempt has failed before commit; its call is over."""
        attempt, permit, self._permit = self._attempt, self._permit, None
        assert attempt is not None and permit is not None
        if verdict.kind is Kind.AUTH and self._upstream.settings.auth == "client":
            permit.release()  # one client's bad login says nothing about anybody else's
        else:
            permit.failure(verdict)
        self._note(verdict)
        if verdict.kind is Kind.CONTEXT:
            self._needs_context = needed = self._runtime.context(attempt) or 0
            if not any((self._runtime.context(other) or 0) > needed for other in self._rest()):
                self._give_up(verdict)
                return
        elif not verdict.move_on:
            self._give_up(verdict)
            return
        elif self._retries > 0 and self._attempts < ATTEMPT_BUDGET:
            delay = pause(self._mode, verdict, not self._rest(), self._random())
            if delay is not None:
                self._retries -= 1
                self._timer = self._clock.callLater(delay, self._retry)
                return
        self._advance()

    def _exhausted(self) -> None:
        """No attempt is left."""
        # The last word of each upstream, in the order they were asked.
        last = dict(self._failures)
        if not last:
            nobody = RouterError(Kind.UNAVAILABLE, "no upstream of this mode can take the request")
            self._refuse(self._refused or nobody)
        elif len(last) == 1 and self._attempts > 0:
            # The provider's own words, rather than that its circuit has opened meanwhile.
            tried = [verdict for _, verdict in self._failures]
            answered = [verdict for verdict in tried if verdict.status is not None]
            self._give_up(answered[-1] if answered else tried[-1])
        else:
            self._refuse(nobody_answered(last))
