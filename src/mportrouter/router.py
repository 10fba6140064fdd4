"""
The running router: every service of one process, composed, and the one place that swaps a configuration.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogPublisher

from .admin import AdminService
from .alerts import Alerts
from .analysis import Analyzer
from .catalog import load as load_catalog
from .circuit import CircuitBreaker
from .console import Console
from .errors import ConfigError, Kind, RouterError
from .health import HealthChecker, told_for
from .ledger import Ledger
from .logs import RouterLog
from .ports import PortService, front_for, refuse_taken
from .pricing import PriceBook
from .records import ExchangeRecord
from .runtime import Runtime
from .settings import ModeSettings, Pins, PortSettings, Secret, Settings, UpstreamSettings
from .state import prepare_directory
from .state_circuits import Circuits, Prints, carry
from .state_kept import KeptState
from .tokens import Calibration
from .upstream import Upstream
from .usage_log import UsageLog
from .watch import Watch
from .web.admission import Admission
from .web.http1 import HTTPServerFactory
from .web.site import Site

#: Allocations before a young collection, young ones before a middle one, middle ones before a full one.
GC_THRESHOLDS = (20_000, 20, 50)


class CannotStart(Exception):
    """The router cannot start or open a port; the text is one line for the person at the terminal."""


class Router(MultiService):
    """
    Everything that runs: one :class:`~mportrouter.ports.PortService` a port (named ``port:8771`` …), the health
    checker, the ledger, the log, the alerts and the admin service.

    :param reactor: the reactor; it is the clock too.
    :param settings: the validated settings.
    :param read: reads the configuration anew for a reload; raises :class:`~mportrouter.errors.ConfigError`.
    :ivar runtime: the configuration in force.
    :ivar ports: the open ports by number.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, read: Callable[[], Settings]) -> None:
        super().__init__()
        self.reactor = reactor
        self.clock: IReactorTime = reactor
        self.watch = Watch(reactor)
        self.draining = False
        self.started_at = reactor.seconds()
        self._read = read
        self.ports: dict[int, PortService] = {}
        self.last_decision = ""
        self._ceiling_told = 0.0
        self._demo: Any = None
        settings = self._with_demo(settings)
        directory = os.path.expanduser(settings.state)
        # What the stand-ins are asked and "cost" must not be found among what was really switched and spent.
        kept = os.path.join(directory, "demo") if settings.demo is not None else directory
        self.state = KeptState(kept, reactor, self._in_thread, settings.ports)
        self.circuits = Circuits(self.state, reactor, lambda: self.runtime.upstreams)
        self.log = RouterLog(settings.logs, reactor, publisher=globalLogPublisher)
        self.ledger = Ledger(kept, reactor, providers=("minimax", "anthropic"))
        self.usage = UsageLog(settings.logs.usage, reactor)
        self.alerts = Alerts(settings.alerts, reactor)
        self.alerts.setName("alerts")
        self.admission = Admission(settings.front, settings.host)
        self._calibration = Calibration()
        self.runtime = self._build(settings, {})
        self.health = HealthChecker(self.runtime.upstreams, settings.health, reactor)
        self.health.setName("health")
        self.console = Console(self)
        self.admin = AdminService(
            settings.admin, directory, self.console, reactor, router=min(settings.ports, default=None)
        )
        self.admin.setName("admin")
        self.site = Site(self)
        # They are stopped in the opposite order: the state is written last.
        kept_by = (self.log, self.state, self.circuits, self.ledger, self.usage)
        for service in (*kept_by, self.alerts, self.health, self.admin):
            service.setServiceParent(self)
        for number in sorted(settings.ports):
            self._add_port(settings.ports[number], settings)

    # ------------------------------------------------------------------------------------------- building

    def _in_thread(self, work: Callable[[], None]) -> Deferred[Any]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)

    def _with_demo(self, settings: Settings) -> Settings:
        """The settings with the stand-in providers in place of the real ones, where ``--demo`` asks for them."""
        if settings.demo is None:
            return settings
        if self._demo is None:
            from .demo import DemoProviders

            self._demo = DemoProviders(self.reactor, settings.demo)
            self._demo.setName("demo")
            self._demo.setServiceParent(self)
        upstreams = {
            id: attrs.evolve(
                upstream,
                base_url=self._demo.address(upstream.provider, upstream.dialect),
                api_key=Secret(f"demo-{id}"),
                auth="key",
                pins=Pins(),
            )
            for id, upstream in settings.upstreams.items()
        }
        return attrs.evolve(settings, upstreams=upstreams)

    def _build(self, settings: Settings, old: dict[str, Upstream]) -> Runtime:
        """
        The runtime of ``settings``.

        :param old: upstreams in force; one whose settings are the same goes on, with its connections and its circuit,
            one that is reached in the same way begins with what its circuit has learnt, a new one with what is kept.
        """
        upstreams = {}
        for id, wanted in settings.upstreams.items():
            before = old.get(id)
            if before is not None and before.settings == wanted:
                before.circuit.configure(settings.breaker)
                upstreams[id] = before
            else:
                upstreams[id] = self._upstream(wanted, settings)
                if before is not None:
                    carry(before, upstreams[id])
                    if Prints.of(before.settings) == Prints.of(wanted):
                        upstreams[id].allowance.follow(before.allowance)
                else:
                    self.circuits.restore(id, upstreams[id])
        return Runtime(settings, upstreams, PriceBook.load(settings.prices), self._calibration)

    def _upstream(self, wanted: UpstreamSettings, settings: Settings) -> Upstream:
        circuit = CircuitBreaker(wanted.id, settings.breaker, self.reactor.seconds, listen=self.upstream_event)
        return Upstream(wanted, load_catalog().get(wanted.provider), self.reactor, circuit=circuit)

    def _add_port(self, wanted: PortSettings, settings: Settings) -> PortService:
        factory = HTTPServerFactory(
            self.site.handle,
            front_for(settings.front, wanted),
            self.clock,
            port=wanted.port,
            refuse=self.site.refusal,
        )
        port = PortService(self.reactor, wanted, settings.host, factory)
        port.mode = self._remembered_mode(wanted, settings) or wanted.mode
        port.setServiceParent(self)
        self.ports[wanted.port] = port
        return port

    def _remembered_mode(self, wanted: PortSettings, settings: Settings) -> str | None:
        """The mode a dynamic port was last switched to, where that means something and nothing else was said."""
        origin = settings.origins.get(f"ports.{wanted.port}.mode", "")
        if not wanted.dynamic or origin.startswith(("flag", "env", ".env")):
            return None
        name = self.state.port_mode(wanted.port)
        known = name is not None and name in settings.modes and not self.missing_keys(settings, name)
        return name if known else None

    @staticmethod
    def missing_keys(settings: Settings, mode: str) -> list[str]:
        """Environment variables of the keys that ``mode`` needs and nobody has set."""
        missing = []
        for id in settings.modes[mode].upstreams:
            upstream = settings.upstreams[id]
            if upstream.auth == "key" and upstream.api_key is None:
                missing.append(upstream.key_variable or f"upstreams.{id}.api_key")
        return missing

    # ------------------------------------------------------------------------------------------- what the site asks

    def epoch(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return float(self.reactor.seconds() - self.started_at)

    def record(self, runtime: Runtime, record: ExchangeRecord) -> None:
        """Price an exchange and tell log, ledger and alerts of it."""
        runtime.price(record)
        if record.decision and record.outcome != "command":
            self.last_decision = record.decision
        self.ledger.add(record)
        if self.usage.path is not None:
            self.usage.add(record)
        self.log.exchange(record)
        ceiling = runtime.settings.budget.per_hour
        if ceiling is not None and record.cost:
            spent = self.ledger.spent(3600.0)
            if spent >= ceiling * 10**12 and self.clock.seconds() >= self._ceiling_told:
                self._ceiling_told = self.clock.seconds() + 3600.0
                dollars = spent / 10**12
                self.log.event("cost_ceiling", "warn", spent=f"${dollars:.4f}", ceiling=f"${ceiling}")
                self.alerts.cost_ceiling(dollars, float(ceiling))

    def analyse(self, mode: ModeSettings, runtime: Runtime, text: str) -> Deferred[Any] | None:
        """Ask a small model for the complexity of ``text``, where the mode says so."""
        wanted = mode.interactive
        if wanted.analyzer != "claude":
            return None
        upstream = runtime.upstreams.get(wanted.analyzer_upstream)
        if upstream is None or not upstream.enabled:
            return None
        began = self.clock.seconds()
        analyzer = Analyzer(upstream, wanted.analyzer_model, self.clock, wanted.analyzer_deadline)

        def analysed(result: Any) -> Any:
            value, usage = result
            if usage is not None:
                self.record(
                    runtime,
                    ExchangeRecord(
                        at=self.epoch(),
                        mode=mode.name,
                        outcome="analysis",
                        upstream=upstream.id,
                        provider=upstream.provider_name,
                        model=wanted.analyzer_model,
                        requested=wanted.analyzer_model,
                        status=200,
                        milliseconds=(self.clock.seconds() - began) * 1000.0,
                        usage=usage,
                        attempts=1,
                        decision=f"complexity {value.value}",
                    ),
                )
            return value

        return analyzer.score(text).addCallback(analysed)

    def health_report(self, mode: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and body of ``GET /health``."""
        settings = self.runtime.settings.modes.get(mode)
        report = self.health.report(mode, self.uptime)
        return report if settings is None else told_for(settings, self.runtime.upstreams, *report)

    def usage_report(self) -> dict[str, Any]:
        """
        What ``GET /api/usage`` answers.

        :raises RouterError: where no usage is kept.
        """
        if self.usage.path is None:
            raise RouterError(Kind.NOT_FOUND, "no usage is kept; name a file for it under logs: usage:")
        return self.usage.report()

    def upstream_event(self, upstream: str, event: str, detail: str) -> None:
        """Something happened to an upstream: log it, and let the alerts decide whether it is told."""
        level = "info" if event in ("closed", "half-open", "up") else "warn"
        self.log.event(event, "error" if event in ("auth_failure", "down") else level, upstream=upstream, detail=detail)
        self.alerts.event(upstream, event, detail)

    # ------------------------------------------------------------------------------------------- life

    def refuse_taken(self) -> None:
        """
        See whether everything can be listened on, while there is still a terminal to say so.

        :raises CannotStart: for the first that cannot.
        """
        try:
            for number in self.ports:
                refuse_taken(self.runtime.settings.host, number)
            self.admin.socket.choose()
        except CannotListenError as error:
            raise CannotStart(cannot_listen(error)) from error
        except OSError as error:
            raise CannotStart(f"the state directory cannot be used: {error}") from error

    def privilegedStartService(self) -> None:
        """
        Bind the ports.

        :raises CannotStart: for a port that is taken or not allowed; nothing stays bound then.
        """
        try:
            prepare_directory(self.runtime.settings.state)
        except OSError as error:
            raise CannotStart(f"the state directory cannot be made: {error}") from error
        try:
            super().privilegedStartService()
        except CannotListenError as error:
            raise CannotStart(cannot_listen(error)) from error

    def startService(self) -> None:
        super().startService()
        # What is loaded by now stays for good: the collector need not walk it again and again. An exchange leaves no
        # cycles behind, so there is little for it to find; with the usual thresholds it took a tenth of the time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._on_hangup)
        settings = self.runtime.settings
        for port in self.ports.values():
            self.log.event("port_open", "info", port=port.number, mode=port.mode, host=settings.host)
        names = ", ".join(f"{port.number} ({port.mode})" for port in self.ports.values())
        self._log.info("mportrouter listens on {host}: {ports}", host=settings.host, ports=names)
        if settings.demo is not None:
            self._log.info("The providers are the embedded stand-ins: nothing leaves this machine.")

    def _on_hangup(self, number: int, frame: object) -> None:
        self.reactor.callFromThread(lambda: self.reload().addErrback(self._reload_refused))

    def _reload_refused(self, failure: Any) -> None:
        self.log.event("reload_refused", "error", reason=failure.getErrorMessage())
        self._log.error("The new configuration was refused: {reason}", reason=failure.getErrorMessage())

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, let what is under way finish (``drain`` seconds at most), then close everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, self._on_second_signal)
        finished = self.drain()
        finished.addCallback(lambda _: MultiService.stopService(self))
        finished.addCallback(lambda _: self._stop_upstreams())
        return finished

    def _stop_upstreams(self) -> Deferred[Any]:
        return DeferredList([upstream.stop() for upstream in self.runtime.upstreams.values()], consumeErrors=True)

    def _on_second_signal(self, number: int, frame: object) -> None:
        self.reactor.callFromThread(self.abort)

    def abort(self) -> None:
        """Close every connection now."""
        for port in self._all_ports():
            port.factory.abort_all()

    def _all_ports(self) -> list[PortService]:
        """The open ports, and those that are closed but for their last answers."""
        return [service for service in self if isinstance(service, PortService)]

    def drain(self) -> Deferred[Any]:
        """
        Stop accepting and wait for the exchanges under way.

        :returns: fires when none is left, or after the configured time, when the rest has been cut.
        """
        self.draining = True
        if self.site.under_way:
            self._log.info("Waiting for {count} exchanges to finish", count=self.site.under_way)
        finished = DeferredList([port.drain() for port in self._all_ports()], consumeErrors=True)
        limit = self.clock.callLater(self.runtime.settings.drain, self.abort)

        def over(result: Any) -> Any:
            if limit.active():
                limit.cancel()
            return result

        return finished.addBoth(over)

    # ------------------------------------------------------------------------------------------- changes while running

    def open_port(self, wanted: PortSettings) -> PortService:
        """
        Open one more port.

        :raises CannotStart: where it cannot be bound; nothing has changed then.
        """
        settings = self.runtime.settings
        port = self._open_for(wanted, settings)
        self.log.event("port_open", "info", port=port.number, mode=port.mode, host=settings.host)
        return port

    def close_port(self, number: int) -> Deferred[Any]:
        """Stop accepting on a port; fires when the exchanges under way on it are done."""
        port = self.ports.pop(number)
        # Its name is free at once: it may be opened anew while the last answers are still going out here.
        self.namedServices.pop(port.name, None)
        port.name = None
        self.log.event("port_close", "info", port=number)

        def drained(_: Any) -> Any:
            return port.disownServiceParent() or succeed(None)

        return port.drain().addCallback(drained)

    def reload(self) -> Deferred[dict[str, Any]]:
        """
        Read the configuration again, and put it in force as a whole or not at all.

        :returns: what changed; fails with :class:`~mportrouter.errors.ConfigError` or :class:`CannotStart`.
        """
        done: Deferred[dict[str, Any]] = Deferred()
        try:
            done.callback(self._swap(self._with_demo(self._read())))
        except (ConfigError, CannotStart):
            done.errback()
        return done

    def _swap(self, settings: Settings) -> dict[str, Any]:
        before = self.runtime
        old = dict(before.upstreams)
        wanted = settings.ports
        same_host = settings.host == before.settings.host
        opened: list[int] = []
        runtime = self._build(settings, old)
        try:
            for number in sorted(wanted):
                if number not in self.ports:
                    self._open_for(wanted[number], settings)
                    opened.append(number)
        except CannotStart:
            for number in opened:
                self.close_port(number)
            for id, upstream in runtime.upstreams.items():
                if old.get(id) is not upstream:
                    upstream.stop()
                else:
                    upstream.circuit.configure(before.settings.breaker)
            raise
        self.runtime = runtime
        closed = [number for number in self.ports if number not in wanted]
        for number in closed:
            self.close_port(number)
        for number, port in self.ports.items():
            if number in opened:
                continue
            if port.settings.mode != wanted[number].mode or port.mode not in settings.modes:
                port.mode = wanted[number].mode
            port.settings = wanted[number]
            port.factory.front = front_for(settings.front, port.settings)
        self.admission = Admission(settings.front, settings.host)
        self.health.configure(runtime.upstreams, settings.health)
        self.alerts.configure(settings.alerts)
        self.log.reconfigure(settings.logs)
        for id, upstream in old.items():
            if runtime.upstreams.get(id) is not upstream:
                upstream.stop()
        changed = sorted(id for id in runtime.upstreams if old.get(id) is not runtime.upstreams[id])
        summary: dict[str, Any] = {
            "ports_opened": opened,
            "ports_closed": closed,
            "upstreams_changed": changed,
            "upstreams_removed": sorted(set(old) - set(runtime.upstreams)),
        }
        if not same_host:
            summary["needs_restart"] = ["host"]
        self.log.event("reload", "info", **{name: str(value) for name, value in summary.items()})
        return summary

    def _open_for(self, wanted: PortSettings, settings: Settings) -> PortService:
        try:
            return self._add_port(wanted, settings)
        except CannotListenError as error:
            broken = self.ports.pop(wanted.port, None)
            if broken is not None:
                self.services.remove(broken)
                self.namedServices.pop(broken.name, None)
            raise CannotStart(cannot_listen(error)) from error


def cannot_listen(error: CannotListenError) -> str:
    """One line about a port that could not be bound."""
    number = getattr(error.socketError, "errno", None)
    if error.interface == "unix":
        return f"the admin socket {error.port} cannot be opened: {error.socketError}"
    where = f"{error.interface or '*'}:{error.port}"
    if number == errno.EACCES:
        return f"no permission to listen on {where}: ports below 1024 are the superuser's; choose another with --port"
    reason = os.strerror(number) if number is not None and number > 0 else str(error.socketError)
    if number != errno.EADDRINUSE:
        return f"cannot listen on {where}: {reason}"
    return f"cannot listen on {where}: {reason}; another program, or another mportrouter, has it"
