"""The console: what chat, Perspective Broker and HTTP may ask of the running router, answered in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from .commands import CommandError, invalid_mode, locked_port, status_block
from .errors import ConfigError
from .explain import Question, explained
from .interfaces_console import IConsole
from .money import dollars
from .ports import PortService
from .routing.tables import label
from .settings import ModeSettings, PortSettings
from .upstream import Upstream

if TYPE_CHECKING:
    from .router import Router


@implementer(IConsole)
class Console:
    """
    :param router: the router that is asked.
    """

    def __init__(self, router: Router) -> None:
        self._router = router

    # ------------------------------------------------------------------------------------------- looking

    def status(self, port: int | None) -> dict[str, Any]:
        router = self._router
        runtime = router.runtime
        stats = router.ledger.stats()
        name = self._port(port).mode if port is not None else self._main_mode()
        pin = self._pin(name)
        mode = runtime.pinned(runtime.mode(name), pin) if pin else runtime.mode(name)
        answer = status_block(
            name,
            *_order(mode),
            router.uptime,
            stats,
            {id: self._health_line(upstream) for id, upstream in runtime.upstreams.items()},
        )
        if port is not None:
            answer["port"] = port
        if pin:
            answer["pinned"] = f"{pin}, without failover"
        others = {each: self._pin(each) for each in runtime.settings.modes if each != name}
        if any(others.values()):
            answer["pinned_modes"] = {each: upstream for each, upstream in others.items() if upstream}
        answer["under_way"] = router.site.under_way
        ceiling = runtime.settings.budget.per_hour
        if ceiling is not None:
            answer["cost_ceiling"] = f"{dollars(float(ceiling))} an hour, {dollars(stats['cost_last_hour'])} spent"
        if router.last_decision:
            answer["last_decision"] = router.last_decision
        if router.draining:
            answer["draining"] = True
        if runtime.settings.demo is not None:
            answer["demo"] = True
        return answer

    def _main_mode(self) -> str:
        """The mode that stands for the whole router: the dynamic port's, else the first port's."""
        ports = list(self._router.ports.values())
        dynamic = [port for port in ports if port.settings.dynamic]
        chosen = (dynamic or ports)[:1]
        return chosen[0].mode if chosen else next(iter(self._router.runtime.settings.modes))

    def _health_line(self, upstream: Upstream) -> str:
        if not upstream.enabled:
            return "disabled"
        if upstream.settings.auth == "key" and upstream.settings.api_key is None:
            return f"no key ({upstream.settings.key_variable or 'api_key'} is not set)"
        return self._router.health.line(upstream.id)

    def health(self) -> dict[str, Any]:
        return self._router.health_report(self._main_mode())[1]

    def check_health(self) -> Deferred[dict[str, Any]]:
        return self._router.health.check_now().addCallback(lambda _: self.health())

    def stats(self) -> dict[str, Any]:
        return self._router.ledger.stats()

    def logs(self, count: int) -> list[str]:
        return self._router.log.tail(max(1, min(count, 10_000)))

    def ports(self) -> list[dict[str, Any]]:
        return [
            {
                "port": port.number,
                "mode": port.mode,
                "configured": port.settings.mode,
                **({"pinned": self._pin(port.mode)} if self._pin(port.mode) else {}),
                "kind": "dynamic" if port.settings.dynamic else "fixed",
                "locked": port.settings.locked,
                "commit": port.settings.commit,
                "requests": port.requests,
                "connections": len(port.factory.channels),
                "listening": port.listening,
            }
            for _, port in sorted(self._router.ports.items())
        ]

    def upstreams(self) -> list[dict[str, Any]]:
        answer = []
        for id, upstream in self._router.runtime.upstreams.items():
            settings = upstream.settings
            answer.append(
                {
                    "id": id,
                    "provider": upstream.provider_name,
                    "base_url": settings.base_url,
                    "enabled": upstream.enabled,
                    "key": "client's own" if settings.auth == "client" else "set" if settings.api_key else "missing",
                    "status": self._health_line(upstream),
                    "circuit": upstream.circuit.state,
                    "in_flight": upstream.in_flight,
                }
            )
        return answer

    def explain(self, port: int | None, body: bytes, dialect: str, model: str, session: str) -> dict[str, Any]:
        router = self._router
        service = self._port(port) if port is not None else self._dynamic_port()
        ceiling = router.runtime.settings.budget.per_hour
        told = explained(
            Question(body, dialect, model, session),
            router.runtime,
            router.state,
            lambda session: router.site.mode_of(service, session),
            router.site.turns,
            ceiling is not None and router.ledger.spent(3600.0) >= ceiling * 10**12,
            router.epoch(),
            router.reactor.seconds(),
        )
        return {"port": service.number, **told, "told_by": "the running router"}

    # ------------------------------------------------------------------------------------------- changing

    def mode(self, port: int | None, name: str | None, session: str | None) -> dict[str, Any]:
        service = self._port(port) if port is not None else self._dynamic_port()
        settings = self._router.runtime.settings
        own = self._router.state.session_mode(f"{service.number}:{session}") if session else None
        before = own if own in settings.modes else service.mode
        if name is None:
            shown = {"port": service.number, "mode": before, "modes": sorted(settings.modes)}
            return {**shown, "session": True, "note": f"The port's is {service.mode}."} if own == before else shown
        if name not in settings.modes:
            raise invalid_mode(name, sorted(settings.modes))
        if service.settings.locked:
            raise locked_port(service.number, service.mode)
        missing = self._router.missing_keys(settings, name)
        if missing:
            raise CommandError(f"mode {name} needs {' and '.join(missing)}: set it and restart the router")
        if session:
            self._router.state.set_session_mode(f"{service.number}:{session}", name)
        else:
            service.mode = name
            self._router.state.set_port_mode(service.number, name, remember=service.settings.dynamic)
        self._router.log.event(
            "mode", "info", port=service.number, before=before, mode=name, scope="session" if session else "port"
        )
        return {"port": service.number, "mode": name, "previous": before, "session": bool(session)}

    def switch(self, port: int | None, name: str) -> dict[str, Any]:
        service = self._port(port) if port is not None else self._port_with(name)
        runtime = self._router.runtime
        mode = runtime.mode(service.mode)
        ids = self._meant(mode, name)
        if len(ids) != 1:
            known = ", ".join(ids or mode.upstreams)
            what = f"“{name[:40]}” means several of" if ids else f"There is no “{name[:40]}” among"
            raise CommandError(f"{what} the upstreams of mode {mode.name}. Choose one: {known}.")
        upstream = runtime.upstreams[ids[0]]
        if service.settings.locked:
            raise locked_port(service.number, service.mode)
        if not upstream.enabled:
            raise CommandError(f"{upstream.id} is disabled; first: mportrouter upstreams enable {upstream.id}")
        if upstream.settings.auth == "key" and upstream.settings.api_key is None:
            missing = upstream.settings.key_variable or "its api_key"
            raise CommandError(f"{upstream.id} needs {missing}: set it and restart the router")
        before = self._pin(mode.name)
        self._router.state.set_pin(mode.name, upstream.id)
        # Whoever asks for this one and no other does not mean to wait until its rest is over.
        upstream.circuit.reset()
        self._router.log.event("pin", "info", mode=mode.name, upstream=upstream.id)
        return {"port": service.number, "mode": mode.name, "pinned": upstream.id, "previous": before or None}

    def unpin(self, port: int | None) -> dict[str, Any]:
        router = self._router
        names = list(router.runtime.settings.modes) if port is None else [self._port(port).mode]
        pins = {name: pin for name in names if (pin := router.state.pin(name)) is not None}
        for name, pin in pins.items():
            router.state.set_pin(name, None)
            router.log.event("unpin", "info", mode=name, upstream=pin)
        main = self._main_mode() if port is None else names[0]
        order = router.runtime.mode(next(iter(pins)) if len(pins) == 1 else main)
        return {"unpinned": pins, "mode": order.name, "upstreams": list(order.upstreams)}

    def open_port(self, port: int, mode: str) -> dict[str, Any]:
        from .router import CannotStart

        settings = self._router.runtime.settings
        if mode not in settings.modes:
            raise invalid_mode(mode, sorted(settings.modes))
        if not 0 < port < 65536:
            raise CommandError(f"{port} is not a port number (1 to 65535)")
        if port in self._router.ports:
            raise CommandError(f"port {port} is open already, in mode {self._router.ports[port].mode}")
        missing = self._router.missing_keys(settings, mode)
        if missing:
            raise CommandError(f"mode {mode} needs {' and '.join(missing)}: set it and restart the router")
        try:
            service = self._router.open_port(PortSettings(port, mode))
        except CannotStart as error:
            raise CommandError(str(error)) from error
        return {"port": service.number, "mode": service.mode}

    def close_port(self, port: int) -> Deferred[dict[str, Any]]:
        self._port(port)
        return self._router.close_port(port).addCallback(lambda _: {"port": port, "closed": True})

    def reload(self) -> Deferred[dict[str, Any]]:
        from .router import CannotStart

        def refused(failure: Any) -> Any:
            failure.trap(ConfigError, CannotStart)
            raise CommandError(f"the new configuration was refused, nothing has changed:\n{failure.getErrorMessage()}")

        return self._router.reload().addErrback(refused)

    def drain(self, stop: bool) -> Deferred[dict[str, Any]]:
        router = self._router

        def drained(_: Any) -> dict[str, Any]:
            if stop:
                # After the answer has left for the one who asked.
                router.clock.callLater(0.1, router.reactor.stop)
            return {"drained": True, "stopping": stop}

        return router.drain().addCallback(drained)

    def enable_upstream(self, id: str, enabled: bool) -> dict[str, Any]:
        upstream = self._router.runtime.upstreams.get(id)
        if upstream is None:
            known = ", ".join(sorted(self._router.runtime.upstreams))
            raise CommandError(f"There is no upstream “{id}”. Configured: {known}.")
        upstream.enabled = enabled
        if enabled:
            # A mended key or balance must work at once.
            upstream.circuit.reset()
        self._router.log.event("upstream_enabled" if enabled else "upstream_disabled", "info", upstream=id)
        return {"upstream": id, "enabled": enabled}

    # ------------------------------------------------------------------------------------------- finding

    def _pin(self, mode: str) -> str:
        """The upstream that a mode is pinned to and still has, or ``""``."""
        pin = self._router.state.pin(mode)
        return pin if pin is not None and pin in self._router.runtime.mode(mode).upstreams else ""

    def _meant(self, mode: ModeSettings, name: str) -> list[str]:
        """Upstreams of a mode that a name means: by id, else by provider, else by either in other letters."""
        by_id = {id: id for id in mode.upstreams}
        by_provider = {id: self._router.runtime.upstreams[id].provider_name for id in mode.upstreams}
        for names, wanted in ((by_id, name), (by_provider, name)):
            if found := [id for id, own in names.items() if own == wanted]:
                return found
        folded = name.casefold()
        return [id for id in mode.upstreams if folded in (id.casefold(), by_provider[id].casefold())]

    def _port_with(self, name: str) -> PortService:
        """The port that is meant where only one of its mode's upstreams is told."""
        runtime = self._router.runtime
        having = [port for port in self._router.ports.values() if self._meant(runtime.mode(port.mode), name)]
        dynamic = [port for port in having if port.settings.dynamic]
        modes = {port.mode for port in dynamic or having}
        return (dynamic or having)[0] if len(modes) == 1 else self._dynamic_port()

    def _port(self, number: int) -> PortService:
        port = self._router.ports.get(number)
        if port is None:
            opened = ", ".join(str(open) for open in sorted(self._router.ports)) or "none"
            raise CommandError(f"port {number} is not open (open: {opened})")
        return port

    def _dynamic_port(self) -> PortService:
        ports = list(self._router.ports.values())
        dynamic = [port for port in ports if port.settings.dynamic] or (ports if len(ports) == 1 else [])
        if len(dynamic) != 1:
            opened = ", ".join(f"{port.number} ({port.mode})" for port in ports) or "none"
            raise CommandError(f"say which port: {opened}")
        return dynamic[0]


def _order(mode: ModeSettings) -> tuple[str, str | None]:
    """Whom a mode asks first, and whom then, in words for the status."""
    if mode.strategy == "interactive":
        return "by complexity: " + " or ".join(mode.upstreams), None
    if mode.strategy == "table":
        return "by model: " + ", ".join(f"{row.upstream} for {label(row)}" for row in mode.table), None
    if mode.strategy == "round-robin":
        return "in turn: " + ", ".join(mode.upstreams), None
    return mode.upstreams[0], ", ".join(mode.upstreams[1:]) or None
