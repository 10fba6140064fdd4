"""
The circuit breaker of one upstream: learns from every settled attempt whether the next one is worth making.

The circuit itself (closed, open, half-open) is the machine of :mod:`mportrouter.breaker_states`; around it stand the
counters that move it and two things that are not the circuit's: models that rest because of a rate limit (pools are per
model, so one model's 429 says nothing of the others), and what the health checker saw. In the steady state (closed,
nothing counted, nothing resting) a permit and its settling touch neither clock nor machine.

What counts as what:

* network, silence, garbage, a cut, 5xx: a failure; several in a row open the circuit;
* 429 and a 403 that is not the account's: the model rests, the circuit does not count it;
* a bad key, no money: the account is out at once;
* the request's own fault, a too long prompt, a refused content: the upstream lives, as good as a success.
"""

from __future__ import annotations

import math
import random as _random
from collections.abc import Callable
from typing import Any

import attrs
from zope.interface import implementer

from .breaker_states import TRIAL_LOST, Core, new_circuit
from .errors import Kind, Verdict
from .interfaces import EventListener, IPermit
from .settings import BreakerSettings

#: Verdicts that say nothing about the upstream: the router itself stopped the attempt.
_SILENT = frozenset(
    {Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.BUSY, Kind.BUDGET, Kind.NOT_SUPPORTED, Kind.UNAVAILABLE, Kind.INTERNAL}
)
#: Verdicts that show a living upstream, beside those that are the request's own fault.
_ALIVE = frozenset({Kind.CONTEXT, Kind.POLICY})
_SERVER = frozenset({Kind.UPSTREAM, Kind.OVERLOADED})

#: Why a model rests, in words.
_RESTING = {Kind.RATE: "rate limited", Kind.OVERLOADED: "overloaded"}

#: Failed health checks in a row that mark an upstream down.
_SICK_AFTER = 2
#: Seconds a caller is told to wait while a trial is under way.
_TRIAL_WAIT = 1.0
#: Share by which an opening time is spread, so that several routers do not come back at one moment.
_JITTER = 0.2
#: Models that are remembered at once; names may be the client's own where nothing maps them.
_MODELS = 256


@attrs.frozen
class Refusal:
    """
    Why no attempt is allowed now.

    :param reason: for log and error message; whoever tells it names the upstream.
    :param retry_after: seconds until it is worth asking again.
    :param kind: what keeps it shut: RATE, AUTH, MONEY, or UNAVAILABLE for an open circuit.
    """

    reason: str
    retry_after: float
    kind: Kind


@implementer(IPermit)
class Permit:
    """Leave for one attempt; what comes after the first settling is ignored."""

    __slots__ = ("_breaker", "_generation", "_settled", "model")

    def __init__(self, breaker: Breaker, model: str, generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._settled = False
        self.model = model

    def success(self) -> None:
        if self._settled:
            return
        self._settled = True
        breaker = self._breaker
        if not breaker._clean:
            breaker._succeeded(self.model, self._generation)

    def failure(self, verdict: Verdict) -> None:
        if self._settled:
            return
        self._settled = True
        self._breaker._failed(self.model, self._generation, verdict)

    def release(self) -> None:
        if self._settled:
            return
        self._settled = True
        self._breaker._released(self._generation)


def _nobody(upstream: str, event: str, detail: str) -> None:
    """The listener where nobody listens."""


class Breaker:
    """
    :param upstream_id: named in events.
    :param settings: thresholds and times.
    :param seconds: the clock; any that never runs backwards.
    :param random: 0 to 1, for jitter.
    :param listen: is told of ``opened``, ``closed``, ``half-open``, ``down``, ``up``, ``degraded``, ``rate_limited``,
        ``auth_failure`` and ``money``, after the breaker has moved.
    """

    def __init__(
        self,
        upstream_id: str,
        settings: BreakerSettings,
        seconds: Callable[[], float],
        random: Callable[[], float] = _random.random,
        listen: EventListener = _nobody,
    ) -> None:
        self.upstream_id = upstream_id
        self.listen = listen
        self.last_failure: Verdict | None = None
        self._settings = settings
        self._seconds = seconds
        self._random = random
        self._core = Core()
        self._circuit = new_circuit(self._core)
        #: Closed and no model resting: a permit needs no look at the clock.
        self._steady = True
        #: A success has nothing to reset.
        self._clean = False
        self._known = False
        self._told_down = False
        self._cause = Kind.UNAVAILABLE
        self._advised = False
        #: A check, which a list of models answers, found the account out.
        self._found_out = False
        self._openings = 0
        self._failures = self._timeouts = self._server_errors = 0
        self._degraded_until = 0.0
        self._rate_limits: dict[str, int] = {}
        self._rests: dict[str, tuple[float, Kind]] = {}
        self._failed_checks = 0
        self._sick = False

    # ------------------------------------------------------------------------------------------ asked on every request

    def permit(self, model: str) -> Permit | Refusal:
        """Leave to make one attempt with this model, or why not."""
        if self._steady:
            return Permit(self, model, self._core.generation)
        now = self._seconds()
        core = self._core
        # The rest comes before the circuit: a trial must not be spent on a model that has to wait anyway.
        rest = self._rest(model, now)
        if rest is not None:
            until, kind = rest
            words = _RESTING.get(kind, "not allowed to this key")
            return Refusal(f"{model or 'it'} is {words}{self._because()}", until - now, kind)
        if core.state == "open":
            if now < core.until:
                return Refusal(f"circuit open{self._because()}", core.until - now, self._cause)
            self._tell(self._circuit.wait_over(), "one request will try it")
        if core.state == "half-open" and not self._circuit.begin_trial(now):
            return Refusal("a trial request is under way", _TRIAL_WAIT, Kind.UNAVAILABLE)
        return Permit(self, model, core.generation)

    def rank(self, model: str) -> int:
        """
        0 healthy, 1 degraded, 2 resting (this model), 3 open or down.

        An upstream whose time out is over ranks as healthy, and so does a degraded one after a while: ranked last, a
        recovered upstream would never be asked again and nobody would learn that it has recovered.
        """
        if self._steady and self._clean:
            return 0
        now = self._seconds()
        core = self._core
        if core.state == "open":
            if now < core.until:
                return 3
        elif core.trial:
            if now - core.trial_since < TRIAL_LOST:
                return 3
        elif self._sick and core.state == "closed":
            return 3
        if self._rest(model, now) is not None:
            return 2
        return 1 if now < self._degraded_until else 0

    def retry_in(self, model: str) -> float:
        """Seconds until an attempt with this model may be allowed; 0: now."""
        now = self._seconds()
        core = self._core
        rest = self._rest(model, now)
        wait = rest[0] - now if rest is not None else 0.0
        if core.state == "open":
            wait = max(wait, core.until - now)
        elif core.trial and now - core.trial_since < TRIAL_LOST:
            wait = max(wait, _TRIAL_WAIT)
        return wait

    # ------------------------------------------------------------------------------------------------ shown to people

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self._core.state

    @property
    def status(self) -> str:
        """``up``, ``degraded``, ``rate_limited`` (some model rests), ``down`` or ``unknown`` (nothing heard yet)."""
        if self._core.state == "open" or self._sick:
            return "down"
        if self._core.state == "half-open" or self._server_errors >= self._settings.degraded_after:
            return "degraded"
        now = self._seconds()
        if any(until > now and kind is Kind.RATE for until, kind in self._rests.values()):
            return "rate_limited"
        return "up" if self._known else "unknown"

    @property
    def consecutive(self) -> dict[str, int]:
        """What was counted since the last success."""
        return {
            "failures": self._failures,
            "timeouts": self._timeouts,
            "server_errors": self._server_errors,
            "rate_limits": max(self._rate_limits.values(), default=0),
            "failed_checks": self._failed_checks,
        }

    # ----------------------------------------------------------------------------------------- told by others

    def health(self, ok: bool, verdict: Verdict | None = None) -> None:
        """
        What a health check found.

        A good one marks up, and lets a circuit that faults opened try a real request at once, and so one that a check
        has opened; not one that a request's key, money or the provider's own advice keeps shut, of which a list of
        models says nothing.

        :param verdict: why a failed one failed.
        """
        self._known = True
        if verdict is not None and not ok:
            if verdict.account:
                self.last_failure = verdict
                self._found_out = self._found_out or self._core.state != "open"
                self._account_out(verdict)
                return
            ok = verdict.kind is Kind.RATE or verdict.kind in _ALIVE or verdict.kind.clients_fault
        if ok:
            self._failed_checks = 0
            self._sick = False
            mended = self._found_out or self._cause is Kind.UNAVAILABLE
            if self._core.state == "open" and mended and not self._advised:
                self._tell(self._circuit.wait_over(), "a health check succeeded")
        else:
            self._failed_checks += 1
            refused = verdict is not None and verdict.kind is Kind.NETWORK and "refused" in verdict.message.lower()
            self._sick = self._sick or refused or self._failed_checks >= _SICK_AFTER
            if verdict is not None and self._sick:
                self.last_failure = verdict
        self._moved()

    def rest(self, seconds: float, verdict: Verdict, model: str | None = None) -> None:
        """
        Leave it alone for a time that a mode wants; neither health checks nor successes of before make it shorter.

        :param verdict: the failure for which; its permit is settled already.
        :param model: the one that rests; ``None``: the whole account, which one request tries when the time is over.
        """
        if seconds <= 0:
            return
        self._known = True
        self.last_failure = verdict
        if model is not None:
            self._rest_model(model, attrs.evolve(verdict, retry_after=seconds))
        else:
            self._cause = verdict.kind if verdict.kind is Kind.RATE or verdict.account else Kind.UNAVAILABLE
            self._advised = True
            self._tell(self._circuit.trip(self._seconds() + seconds), verdict.message)
        self._moved()

    def configure(self, settings: BreakerSettings) -> None:
        """New thresholds and times; what was learnt stays."""
        self._settings = settings

    def reset(self) -> None:
        """Forget every failure and close, because a person has mended something (a key, the account's balance)."""
        event = self._circuit.close()
        self._openings = self._failed_checks = 0
        self._sick = False
        self._rests.clear()
        self._rate_limits.clear()
        self._zero()
        self._tell(event, "reset")
        self._moved()

    def snapshot(self) -> dict[str, Any]:
        """What is worth keeping over a restart, as plain values; times as seconds from now."""
        now = self._seconds()
        return {
            "remaining": max(0.0, self._core.until - now) if self._core.state == "open" else 0.0,
            "open": self._core.state != "closed",
            "cause": self._cause.value,
            "advised": self._advised,
            "openings": self._openings,
            "message": self.last_failure.message if self.last_failure is not None else "",
            "rests": {model: [until - now, kind.value] for model, (until, kind) in self._rests.items() if until > now},
        }

    def restore(self, snapshot: dict[str, Any], age: float = 0.0) -> None:
        """
        Take up what :meth:`snapshot` gave; what is not understood is left out.

        :param age: seconds since then. Nobody is told: the events were told the first time.
        """
        now = self._seconds()
        kinds = {kind.value: kind for kind in Kind}
        rests = snapshot.get("rests")
        for model, rest in rests.items() if isinstance(rests, dict) else ():
            if isinstance(model, str) and isinstance(rest, (list, tuple)) and len(rest) == 2:
                left, kind = _number(rest[0]) - age, kinds.get(rest[1])
                if left > 0 and kind is not None:
                    self._rests[model] = (now + left, kind)
        if snapshot.get("open") is True:
            self._cause = kinds.get(str(snapshot.get("cause")), Kind.UNAVAILABLE)
            self._advised = snapshot.get("advised") is True
            self._openings = max(1, int(_number(snapshot.get("openings"))))
            message = snapshot.get("message")
            self.last_failure = Verdict(self._cause, message if isinstance(message, str) else "")
            self._circuit.trip(now + max(0.0, _number(snapshot.get("remaining")) - age))
            self._told_down = True
        self._refresh()

    # ------------------------------------------------------------------------------------------------ permits settled

    def _succeeded(self, model: str, generation: int) -> None:
        self._known = True
        if self._rate_limits:
            self._rate_limits.pop(model, None)
        if generation == self._core.generation:
            self._answered()
        self._moved()

    def _answered(self) -> None:
        """The upstream lives: a trial closes the circuit, a closed one forgets what it counted."""
        self._zero()
        self._sick = False
        self._failed_checks = 0
        self._openings = 0
        self._tell(self._circuit.close(), "it answers again")

    def _failed(self, model: str, generation: int, verdict: Verdict) -> None:
        kind = verdict.kind
        if kind in _SILENT:
            self._released(generation)
            return
        if kind.clients_fault or kind in _ALIVE:
            self._succeeded(model, generation)
            return
        self._known = True
        self._clean = self._found_out = False
        self.last_failure = verdict
        if verdict.account and kind is not Kind.NETWORK:
            self._account_out(verdict)
            return
        if kind is Kind.RATE or kind is Kind.AUTH:
            # Both are answers, and about this model alone.
            if generation == self._core.generation and self._core.trial:
                self._answered()
            self._rest_model(model, verdict)
        elif generation == self._core.generation:
            self._count(verdict)
        self._moved()

    def _count(self, verdict: Verdict) -> None:
        """A fault of the upstream or of the way there."""
        settings = self._settings
        self._failures += 1
        self._timeouts = self._timeouts + 1 if verdict.kind is Kind.TIMEOUT else 0
        server = verdict.status >= 500 if verdict.status is not None else False
        self._server_errors = self._server_errors + 1 if server or verdict.kind in _SERVER else 0
        if self._server_errors >= settings.degraded_after:
            self._degraded_until = self._seconds() + settings.open_for
            if self._server_errors == settings.degraded_after:
                self._tell("degraded", verdict.message)
        # A server that cannot be verified is nobody to ask again at once, whatever the model.
        enough = self._failures >= settings.failures or self._timeouts >= settings.down_after_timeouts
        if enough or verdict.account or self._core.trial:
            self._cause = Kind.UNAVAILABLE
            self._open(verdict, self._spread(settings.open_for, self._openings))

    def _account_out(self, verdict: Verdict) -> None:
        """A bad key or no money: nothing that this account is asked can succeed."""
        repeated = self._core.state == "open" and self._cause is verdict.kind
        self._cause = verdict.kind
        if not repeated:
            self._tell("money" if verdict.kind is Kind.MONEY else "auth_failure", verdict.message)
            self._open(verdict, self._settings.account_rest)
        self._moved()

    def _open(self, verdict: Verdict, seconds: float) -> None:
        self._advised = bool(verdict.retry_after)
        self._openings += 1
        event = self._circuit.trip(self._seconds() + (verdict.retry_after or seconds))
        self._tell(event, verdict.message)

    def _released(self, generation: int) -> None:
        if self._core.trial and generation == self._core.generation:
            self._circuit.end_trial()

    def _rest_model(self, model: str, verdict: Verdict) -> None:
        settings = self._settings
        now = self._seconds()
        if verdict.kind is Kind.AUTH:
            self._tell("auth_failure", verdict.message)
            seconds = settings.open_for
        else:
            if len(self._rate_limits) >= _MODELS and model not in self._rate_limits:
                self._rate_limits = {name: count for name, count in self._rate_limits.items() if name in self._rests}
            count = self._rate_limits[model] = self._rate_limits.get(model, 0) + 1
            seconds = 0.0
            if count >= settings.rate_limited_after:
                seconds = self._spread(settings.rate_limit_rest, count - settings.rate_limited_after)
        seconds = verdict.retry_after or seconds
        if seconds <= 0:
            return
        fresh = self._rest(model, now) is None
        if len(self._rests) >= _MODELS:
            self._rests = {name: rest for name, rest in self._rests.items() if rest[0] > now}
        if len(self._rests) < _MODELS or model in self._rests:
            until = max(now + seconds, self._rests.get(model, (0.0, verdict.kind))[0])
            self._rests[model] = (until, verdict.kind)
        if fresh and verdict.kind is Kind.RATE:
            self._tell("rate_limited", f"{model}: {verdict.message}")

    # ------------------------------------------------------------------------------------------------ small parts

    def _rest(self, model: str, now: float) -> tuple[float, Kind] | None:
        """Until when this model rests and why; forgets a rest that is over."""
        rest = self._rests.get(model)
        if rest is not None and rest[0] <= now:
            del self._rests[model]
            self._refresh()
            return None
        return rest

    def _spread(self, seconds: float, doublings: int) -> float:
        """Doubled, bounded, then jittered."""
        seconds = min(seconds * 2.0 ** min(doublings, 32), self._settings.open_at_most)
        return seconds * (1 - _JITTER + 2 * _JITTER * self._random())

    def _zero(self) -> None:
        self._failures = self._timeouts = self._server_errors = 0
        self._degraded_until = 0.0

    def _because(self) -> str:
        return f" ({self.last_failure.message})" if self.last_failure is not None and self.last_failure.message else ""

    def _refresh(self) -> None:
        self._steady = self._core.state == "closed" and not self._rests
        self._clean = (
            self._known
            and self._core.state == "closed"
            and not (self._failures or self._rate_limits or self._sick or self._failed_checks or self._openings)
        )

    def _moved(self) -> None:
        """After a change: the shortcuts, and whether going down or coming up has to be told."""
        self._refresh()
        status = self.status
        if status == "down":
            if not self._told_down:
                self._told_down = True
                self._tell("down", self.last_failure.message if self.last_failure is not None else "")
        elif self._told_down and self._core.state == "closed":
            self._told_down = False
            self._tell("up", "")

    def _tell(self, event: str | None, detail: str) -> None:
        if event is not None:
            self._refresh()
            self.listen(self.upstream_id, event, detail)


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return 0.0
