"""Everything that the site asks of a running router, in memory: what its tests stand in."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from .. import config
from ..circuit import CircuitBreaker
from ..pricing import PriceBook
from ..records import ExchangeRecord
from ..routing.table import ModelMap
from ..runtime import Runtime
from ..settings import ModeSettings, PortSettings
from ..state import RuntimeState
from ..testing import MemoryConsole, MemoryLedger, MemoryUpstream, canned_message, respond
from ..watch import Watch
from ..web.admission import Admission
from ..web.site import Site
from .memory_request import MemoryRequest


class Probed(MemoryUpstream):
    """A memory upstream with what planning and listing ask besides."""

    enabled = True
    lacking_key = ""
    models: tuple[str, ...] = ()

    @property
    def capabilities(self) -> Any:
        return self.settings.capabilities

    def capabilities_for(self, model: str) -> Any:
        return self.settings.capabilities

    def model_for(self, requested: str) -> str:
        return ModelMap(self.settings.models).target(requested)

    def probe(self) -> Any:
        self.models = (f"{self.id}-model",)
        return succeed(None)


@attrs.define
class Port:
    settings: PortSettings
    mode: str
    requests: int = 0

    @property
    def number(self) -> int:
        return self.settings.port


class House:
    """Everything that the site asks of the router, in memory."""

    def __init__(self, **changes: Any) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)
        settings = config.load(None, "x", {"ANTHROPIC_API_KEY": "a", "MINIMAX_API_KEY": "m"}, {}, {"all_ports": True})
        modes = {**settings.modes, "claude": ModeSettings("claude", "fallback", ("anthropic",))}
        settings = attrs.evolve(settings, modes=modes, **changes)
        upstreams = {
            id: Probed(
                self.clock,
                id,
                [respond(body=canned_message(id))],
                each,
                CircuitBreaker(id, settings.breaker, self.clock.seconds),
            )
            for id, each in settings.upstreams.items()
        }
        self.runtime = Runtime(settings, upstreams, PriceBook.load(settings.prices))  # type: ignore[arg-type]
        self.ports = {number: Port(each, each.mode) for number, each in settings.ports.items()}
        self.state = RuntimeState(self.clock.seconds)
        self.ledger = MemoryLedger()
        self.console = MemoryConsole()
        self.admission = Admission(settings.front, settings.host)
        self.records: list[ExchangeRecord] = []
        self.scores: list[Any] = []
        self.site = Site(self)  # type: ignore[arg-type]

    def epoch(self) -> float:
        return 1.7e9

    def record(self, runtime: Runtime, record: ExchangeRecord) -> None:
        runtime.price(record)
        self.records.append(record)
        self.ledger.add(record)

    def analyse(self, mode: ModeSettings, runtime: Runtime, text: str) -> Any:
        return self.scores.pop(0) if self.scores else None

    def health_report(self, mode: str) -> tuple[int, dict[str, Any]]:
        return 503, {"status": "unhealthy", "current_mode": mode}

    # ---------------------------------------------------------------------------- asking

    def ask(
        self, target: bytes, body: Any = None, port: int = 8773, method: bytes | None = None, **fields: str
    ) -> MemoryRequest:
        headers = [(b"host", b"localhost")]
        headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = MemoryRequest(method or (b"POST" if raw else b"GET"), target, headers, raw, port=port)
        self.site.handle(request)
        self.clock.pump([0.0] * 5)
        return request

    def say(self, text: str = "hi", port: int = 8773, **members: Any) -> MemoryRequest:
        fields = members.pop("fields", {})
        body = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": text}],
            **members,
        }
        return self.ask(b"/v1/messages", body, port, **fields)


def error(request: MemoryRequest) -> tuple[int | None, str, str]:
    found = json.loads(request.answer)["error"]
    return request.status, found["type"], found["message"]


def error_of_google(request: MemoryRequest) -> tuple[int | None, str]:
    return request.status, json.loads(request.answer)["error"]["status"]
