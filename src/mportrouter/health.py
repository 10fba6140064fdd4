"""
Whether the upstreams live: a free probe of each at a fixed interval, beside what the breakers learn from real traffic.

A probe proves that a provider can be reached, not that it will answer; so the report shows the worse of the two views.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .circuit import CircuitBreaker, verdict_of
from .commands import duration
from .errors import Kind, Verdict
from .settings import HealthSettings, ModeSettings
from .verdicts import classify

if TYPE_CHECKING:
    from .upstream import Upstream

#: Weight of the newest latency in the mean that is shown.
_WEIGHT = 0.3
#: From best to worst; what the report calls an upstream is the worse of breaker and probe.
_SEVERITY = {"unknown": 0, "up": 1, "rate_limited": 2, "degraded": 3, "down": 4}


class Probed(Protocol):
    """An upstream as the checker sees it (:class:`mportrouter.upstream.Upstream`)."""

    @property
    def circuit(self) -> CircuitBreaker: ...

    @property
    def enabled(self) -> bool: ...

    @property
    def lacking_key(self) -> str: ...

    def probe(self, timeout: float) -> Deferred[Any]:
        """A Deferred of a :class:`mportrouter.upstream.ProbeResult`."""


@attrs.define
class HealthRecord:
    """
    What the probes of one upstream have found.

    :param status: ``up``, ``degraded`` (the last probe failed, not yet counted as down), ``down`` or ``unknown``.
    :param latency_ms: mean latency, the newest weighing most, in milliseconds.
    :param last_latency_ms: of the last good probe.
    :param last_check: when the last one ended, ISO 8601 in UTC.
    :param last_error: why the last one failed, ``""`` where it did not.
    """

    status: str = "unknown"
    latency_ms: float | None = None
    last_latency_ms: float | None = None
    last_check: str | None = None
    last_error: str = ""
    #: How many models the last list had.
    models: int | None = None


class HealthChecker(Service):
    """
    Probes every upstream at once, again and again, whatever happens.

    :param upstreams: by id.
    :param settings: interval and limit; an interval of 0 means only when asked.
    :param clock: runs the interval and the limit.
    :param epoch: tells the time of day.
    """

    _log = Logger()

    def __init__(
        self,
        upstreams: Mapping[str, Any],
        settings: HealthSettings,
        clock: IReactorTime,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._upstreams: Mapping[str, Probed] = upstreams
        self._settings = settings
        self._clock = clock
        self._epoch = epoch
        self._loop: LoopingCall | None = None
        self._probes: set[Deferred[Any]] = set()
        self._round: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []
        self.records: dict[str, HealthRecord] = {id: HealthRecord() for id in upstreams}

    # ------------------------------------------------------------------------------------------- life

    def startService(self) -> None:
        super().startService()
        self._start()

    def stopService(self) -> None:
        super().stopService()
        self._stop()
        for probe in list(self._probes):
            probe.cancel()

    def configure(self, upstreams: Mapping[str, Any], settings: HealthSettings) -> None:
        """Another set of upstreams or interval; what is known of those that stay stays known."""
        restart = settings.every != self._settings.every or set(upstreams) != set(self._upstreams)
        self._upstreams = upstreams
        self._settings = settings
        self.records = {id: self.records.get(id) or HealthRecord() for id in upstreams}
        if restart and self.running:
            self._stop()
            self._start()

    def _start(self) -> None:
        if self._settings.every <= 0:
            return
        loop = self._loop = LoopingCall(self.check_now)
        loop.clock = self._clock
        loop.start(self._settings.every, now=True).addErrback(self._loop_broke, loop)

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _loop_broke(self, failure: Failure, loop: LoopingCall) -> None:
        """A round failed as a whole, which is a mistake of ours; the next one is made all the same."""
        self._log.failure("The round of health checks failed", failure)
        if self._loop is loop and self.running:
            self._loop = None
            self._clock.callLater(self._settings.every, self._start_again)

    def _start_again(self) -> None:
        if self.running and self._loop is None:
            self._start()

    # ------------------------------------------------------------------------------------------- checking

    def check_now(self) -> Deferred[None]:
        """
        Check every upstream that can be used; fires when all are done. A round that is under way is joined.

        One without its key is left alone: nobody can be sent there, and its host has no business with the router.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if self._round is None:
            asked = {id: each for id, each in self._upstreams.items() if each.enabled and not each.lacking_key}
            checks = [self._check(id, upstream) for id, upstream in asked.items()]
            self._round = DeferredList(checks, consumeErrors=True)
            self._round.addBoth(self._round_over)
        return done

    def _round_over(self, _: object) -> None:
        self._round = None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if not done.called:
                done.callback(None)

    def _check(self, id: str, upstream: Probed) -> Deferred[Any]:
        probe = maybeDeferred(upstream.probe, self._settings.timeout + 1.0)  # the limit here comes first
        self._probes.add(probe)
        probe.addTimeout(self._settings.timeout, self._clock)

        def over(result: Any) -> None:
            self._probes.discard(probe)
            if not isinstance(result, Failure):
                self._found(id, upstream, self._verdict(result), result)
            elif self.running or not result.check(CancelledError):
                verdict = verdict_of(result)
                if verdict.kind is Kind.INTERNAL:
                    self._log.failure("The health check of {upstream} failed", result, upstream=id)
                elif verdict.kind is Kind.TIMEOUT:
                    verdict = attrs.evolve(verdict, message=f"no answer within {self._settings.timeout:g} s")
                self._found(id, upstream, verdict, None)

        probe.addBoth(over)
        return probe.addErrback(lambda failure: self._log.failure("A health check's result was lost", failure))

    def _verdict(self, result: Any) -> Verdict | None:
        """Why a probe counts as failed, or ``None`` where the provider lives and takes the key."""
        if result.failure is not None or result.status is None:
            failure: Verdict | None = result.failure
            return failure
        # A 403 or 404 may be about the list of models alone, and a 401 to nobody's key is an answer.
        if result.status >= 500 or (result.keyed and result.status in (401, 402)):
            return classify(result.status, [], b"", self._epoch())
        return None

    def _found(self, id: str, upstream: Probed, verdict: Verdict | None, result: Any) -> None:
        record = self.records.get(id)
        if record is None or self._upstreams.get(id) is not upstream:
            return  # a reload has replaced it meanwhile
        record.last_check = _iso(self._epoch())
        if verdict is None:
            milliseconds = result.latency * 1000.0
            record.last_latency_ms = milliseconds
            record.latency_ms = (
                milliseconds
                if record.latency_ms is None
                else record.latency_ms + _WEIGHT * (milliseconds - record.latency_ms)
            )
            record.status = "up"
            record.last_error = ""
            record.models = len(result.models) or record.models
            upstream.circuit.health(True)
            return
        record.last_error = verdict.message
        if verdict.kind is not Kind.INTERNAL:
            upstream.circuit.health(False, verdict)
        record.status = "down" if upstream.circuit.status == "down" else "degraded"

    # ------------------------------------------------------------------------------------------- showing

    def status(self, id: str) -> str:
        """``up``, ``degraded``, ``rate_limited``, ``down``, ``unknown`` or ``disabled``: the worse of the two views."""
        upstream = self._upstreams[id]
        if not upstream.enabled or upstream.lacking_key:
            return "disabled"
        return max(upstream.circuit.status, self.records[id].status, key=_SEVERITY.__getitem__)

    def line(self, id: str) -> str:
        """One upstream in a few words: ``ok (23ms)``, ``down: connection refused``."""
        if id not in self.records:
            return "unknown"
        status, record = self.status(id), self.records[id]
        if status == "disabled":
            lacking = self._upstreams[id].lacking_key
            return f"{status}: {lacking}" if lacking else status
        if status == "unknown":
            return "not checked yet"
        if status == "up":
            return f"ok ({record.latency_ms:.0f}ms)" if record.latency_ms is not None else "ok"
        reason = self._reason(id)
        words = status.replace("_", " ")
        return f"{words}: {reason}" if reason else words

    def _reason(self, id: str) -> str:
        """Why an upstream is not well: what a check found, else what a request met."""
        failure = self._upstreams[id].circuit.last_failure
        return self.records[id].last_error or (failure.message if failure is not None else "")

    def report(self, mode: str, uptime: float) -> tuple[int, dict[str, Any]]:
        """
        HTTP status and body of ``GET /health``.

        ``healthy`` (200): every enabled upstream is up or not yet known; ``unhealthy`` (503): none can be used;
        ``degraded`` (200): between the two.

        :param mode: name of the mode that the asked port is in.
        :param uptime: seconds since the start.
        """
        providers: dict[str, Any] = {}
        statuses = []
        for id in self._upstreams:
            record = self.records[id]
            status = self.status(id)
            if status != "disabled":
                statuses.append(status)
            providers[id] = {
                "status": "degraded" if status == "rate_limited" else status,
                "latency_ms": None if record.latency_ms is None else round(record.latency_ms),
                "last_check": record.last_check,
            }
            reason = "" if status in ("up", "unknown") else self._reason(id)
            if status == "disabled":
                reason = self._upstreams[id].lacking_key
            if reason:
                providers[id]["last_error"] = reason
        if all(status == "down" for status in statuses):
            overall = "unhealthy"
        elif all(status in ("up", "unknown") for status in statuses):
            overall = "healthy"
        else:
            overall = "degraded"
        body = {
            "status": overall,
            "providers": providers,
            "current_mode": mode,
            "router_uptime": duration(uptime),
        }
        return (503 if overall == "unhealthy" else 200), body


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def told_for(
    mode: ModeSettings, upstreams: Mapping[str, Upstream], status: int, body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """
    A report with what users of the mode's strategy look for in it.

    A routing table tells its ``tiers``, and is not well where one has no key; stacked accounts tell their models.
    """
    if mode.strategy == "table":
        tiers = {}
        for row in mode.table:
            keyed = not upstreams[row.upstream].lacking_key
            tiers[row.name or row.match.strip("*-") or "default"] = {"upstream": row.upstream, "key_present": keyed}
        if not all(tier["key_present"] for tier in tiers.values()):
            status, body = 503, {**body, "status": "unhealthy"}
        elif body["status"] == "healthy":
            body = {**body, "status": "ok"}
        return status, {**body, "tiers": tiers}
    for id in mode.upstreams:
        settings = upstreams[id].settings
        if settings.offers and id in body["providers"]:
            body["providers"][id].update(type=settings.provider, models=list(settings.offers))
    return status, body
