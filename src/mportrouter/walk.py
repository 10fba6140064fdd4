"""
The walk through a plan: which attempt comes next, who lets it be made, what its failure means for the ones after it.

An account whose limits let nothing through now is passed over like one whose circuit is open; where nobody else has
served, the walk comes back to it, if its turn is soon.

What an attempt is and how its answer reaches the client is the business of :mod:`mportrouter.relay`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .breaker import Refusal
from .errors import Kind, RouterError, Verdict
from .interfaces import Inexpressible, IPermit
from .limits import Allowance, Place
from .patience import pause
from .records import AttemptRecord, ExchangeRecord
from .routing.accounts import asked_for
from .routing.plans import Attempt, Plan
from .settings import ModeSettings
from .verdicts import EXHAUSTED, all_exhausted, nobody_answered

if TYPE_CHECKING:
    from .runtime import Runtime

#: Attempts of one exchange, all upstreams together; stacked accounts are each asked once, however many they are.
ATTEMPT_BUDGET = 6
#: Strategies of accounts that stand in for each other.
_STACKED = frozenset({"exhaust", "round-robin"})
#: The status, beside those of limits and money, after which stacked accounts rest.
_OUT_OF_SERVICE = 503
#: Failures, beside those that are the request's own fault, that say nothing against the upstream.
_ALIVE = frozenset({Kind.CONTEXT, Kind.POLICY})


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
        "_budget",
        "_clock",
        "_failures",
        "_index",
        "_learns",
        "_left",
        "_mode",
        "_needs_context",
        "_permit",
        "_place",
        "_plan",
        "_random",
        "_refused",
        "_retries",
        "_runtime",
        "_sent",
        "_stacked",
        "_timer",
        "_upstream",
        "_waiting",
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
        self._stacked = stacked = mode.strategy in _STACKED
        #: What answers tell of an account's budgets matters, whether limits are configured or not.
        self._learns = stacked or mode.cooldown is not None or mode.move_on is not None
        self._budget = max(ATTEMPT_BUDGET, len(plan.attempts)) if stacked else ATTEMPT_BUDGET
        #: The current attempt's share of its account's limits.
        self._place: Place | None = None
        #: Attempts that were passed over because of their accounts' limits alone, and when.
        self._waiting: tuple[tuple[Attempt, float], ...] = ()
        #: Circuits that rest once another upstream is asked in their place.
        self._left: tuple[tuple[Any, Verdict], ...] = ()
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
            if self._index >= len(attempts) or self._attempts >= self._budget:
                if not self._wait_for_turn():
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
        allowance = upstream.allowance
        # Before the permit: the one trial of a circuit must not be spent on a request that has to wait.
        if allowance.active and self._place is None and not self._has_turn(attempt, allowance):
            return False
        permit = upstream.circuit.permit(attempt.model)
        if type(permit) is Refusal:
            self._free_place()
            self._skip(Verdict(permit.kind, permit.reason, retry_after=permit.retry_after))
            return False
        if allowance.limited and self._place is None:
            self._place = allowance.take(self._clock.seconds(), self._tokens(attempt, allowance))
        if self._left:
            self._let_rest()
        self._permit = permit
        if self._ask(permit):
            return True
        self._free_place()
        return False

    def _retry(self) -> None:
        self._timer = None
        if not self._try():
            self._advance()

    def _rest(self) -> tuple[Attempt, ...]:
        return self._plan.attempts[self._index + 1 :]

    # ------------------------------------------------------------------------------------------- limits

    def _tokens(self, attempt: Attempt, allowance: Allowance) -> int:
        """
        Tokens that the request may have there, where anybody counts them; of one with pictures and documents that is
        known only afterwards.
        """
        return self._runtime.estimate(attempt, self.record.size) if allowance.active and self.record.size else 0

    def _has_turn(self, attempt: Attempt, allowance: Allowance) -> bool:
        """Whether the account's limits let the current attempt be made now; else it is passed over."""
        now = self._clock.seconds()
        tokens = self._tokens(attempt, allowance)
        wait = allowance.wait(now, tokens, attempt.model)
        if wait <= 0:
            return True
        self._waiting += ((attempt, now),)
        self._skip(Verdict(Kind.RATE, allowance.why(now, tokens, attempt.model), retry_after=wait))
        return False

    def _wait_for_turn(self) -> bool:
        """Come back to the account whose turn is the soonest; ``False``: to none, they are none or too late."""
        if not self._waiting or self._attempts >= self._budget:
            return False
        now = self._clock.seconds()
        soonest: tuple[float, Attempt, float] | None = None
        for attempt, since in self._waiting:
            upstream = self._runtime.upstreams[attempt.upstream]
            wait = upstream.allowance.wait(now, self._tokens(attempt, upstream.allowance), attempt.model)
            in_time = now + wait - since <= upstream.settings.limits.wait
            if in_time and (soonest is None or wait < soonest[0]):
                soonest = wait, attempt, since
        if soonest is None:
            return False
        wait, self._attempt, since = soonest
        self._waiting = tuple(each for each in self._waiting if each != (self._attempt, since))
        self._upstream = upstream = self._runtime.upstreams[self._attempt.upstream]
        self._retries = self._mode.retries
        self._forget()
        self._place = upstream.allowance.take(now + wait, self._tokens(self._attempt, upstream.allowance))
        self._timer = self._clock.callLater(wait, self._retry)
        return True

    def _free_place(self) -> None:
        """The current attempt was not made."""
        place, self._place = self._place, None
        if place is not None:
            self._upstream.allowance.cancel(place)

    def _settle_place(self, tokens: float | None) -> None:
        """
        The current attempt is over.

        :param tokens: that it used, ``None``: as many as were estimated.
        """
        place, self._place = self._place, None
        if place is not None and tokens is not None:
            self._upstream.allowance.settle(place, tokens, self._clock.seconds())

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
        if self._place is not None:
            # What was refused cost no tokens; of an answer that broke nobody knows what it cost.
            refused = verdict.kind is Kind.NETWORK or (verdict.status is not None and verdict.status >= 400)
            self._settle_place(0 if refused else None)
        mode = self._mode
        if mode.move_on is not None and verdict.status is not None and verdict.status >= 400:
            verdict = attrs.evolve(verdict, move_on=verdict.status in mode.move_on)
        if self._stacked and verdict.kind in EXHAUSTED and verdict.retry_after is None:
            verdict = attrs.evolve(verdict, retry_after=mode.retry_after)
        own_fault = verdict.kind is Kind.AUTH and self._upstream.settings.auth == "client"
        if own_fault:
            permit.release()  # one client's bad login says nothing about anybody else's
        else:
            permit.failure(verdict)
            if self._stacked and verdict.status == _OUT_OF_SERVICE:
                self._upstream.circuit.rest(verdict.retry_after or mode.retry_after, verdict, attempt.model)
        self._note(verdict)
        if verdict.kind is Kind.CONTEXT and (verdict.move_on or mode.move_on is None):
            self._needs_context = needed = self._runtime.context(attempt) or 0
            if not any((self._runtime.context(other) or 0) > needed for other in self._rest()):
                self._give_up(verdict)
                return
        elif not verdict.move_on:
            self._give_up(verdict)
            return
        elif self._retries > 0 and self._attempts < self._budget:
            delay = pause(mode, verdict, not self._rest(), self._random())
            if delay is not None:
                self._retries -= 1
                self._timer = self._clock.callLater(delay, self._retry)
                return
        if mode.cooldown is not None and not own_fault and not (verdict.kind.clients_fault or verdict.kind in _ALIVE):
            self._left += ((self._upstream.circuit, verdict),)
        self._advance()

    def _let_rest(self) -> None:
        """Another upstream is asked in their place: those that failed cool down."""
        cooldown = self._mode.cooldown or 0.0
        for circuit, verdict in self._left:
            circuit.rest(max(cooldown, verdict.retry_after or 0.0), verdict)
        self._left = ()

    def _exhausted(self) -> None:
        """No attempt is left."""
        # The last word of each upstream, in the order they were asked.
        last = dict(self._failures)
        exhausted = self._all_exhausted(last) if self._stacked else None
        if exhausted is not None:
            self._refuse(exhausted)
        elif not last:
            nobody = RouterError(Kind.UNAVAILABLE, "no upstream of this mode can take the request")
            self._refuse(self._refused or nobody)
        elif len(last) == 1 and self._attempts > 0:
            # The provider's own words, rather than that its circuit has opened meanwhile.
            tried = [verdict for _, verdict in self._failures]
            answered = [verdict for verdict in tried if verdict.status is not None]
            self._give_up(answered[-1] if answered else tried[-1])
        else:
            self._refuse(nobody_answered(last))

    def _all_exhausted(self, last: Mapping[str, Verdict]) -> RouterError | None:
        """The error that tells when the first of stacked accounts is back; ``None`` where it is something else."""
        model = self.record.requested
        resting = []
        for id in self._mode.upstreams:
            upstream = self._runtime.upstreams[id]
            # Those that rest were in no plan, but one of them may be the first to come back.
            target, offered = asked_for(self._mode, model, None, upstream.settings.offers, upstream.model_for)
            if id not in last and upstream.enabled and offered:
                wait = upstream.circuit.retry_in(target)
                if wait > 0:
                    resting.append(wait)
        return all_exhausted(last, model, min(resting, default=None))
