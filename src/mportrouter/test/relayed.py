"""One exchange over an in-memory connection, with scripted upstreams: the harness of the relay's tests."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from ..breaker import Refusal
from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind, Verdict
from ..interfaces import Target
from ..limits import Allowance
from ..records import ExchangeRecord
from ..relay import Exchange
from ..routing.plans import Attempt, Plan
from ..settings import Capabilities, FrontSettings, Limits, ModeSettings, Timeouts, UpstreamSettings
from ..testing import (
    Chunk,
    End,
    Head,
    MemoryUpstream,
    canned_error,
    canned_events,
    canned_message,
)
from ..watch import Watch
from ..web.http1 import HTTPServerFactory

SSE = ((b"content-type", b"text/event-stream; charset=utf-8"),)
JSON = ((b"content-type", b"application/json"),)
EVENTS = canned_events("one two three four")

Script = list[Any]


def whole(body: bytes | None = None, headers: Any = JSON, status: int = 200) -> Script:
    """A whole answer at once."""
    return [Head(status, headers), Chunk(canned_message() if body is None else body), End()]


def stream(*pieces: Any, headers: Any = SSE) -> Script:
    """A streamed answer: bytes are chunks, anything else is a step of its own."""
    return [Head(200, headers), *(Chunk(piece) if isinstance(piece, bytes) else piece for piece in pieces)]


def error(status: int, type: str = "api_error", message: str = "no", headers: Any = ()) -> Script:
    return [Head(status, (*JSON, *headers)), Chunk(canned_error(type, message)), End()]


def broken(kind: Kind = Kind.NETWORK, message: str = "connection refused") -> End:
    return End(Verdict(kind, message, retry_same=True))


class Relayed:
    """One exchange over an in-memory connection, with scripted upstreams."""

    def __init__(
        self,
        scripts: dict[str, list[Script]],
        streamed: bool = False,
        timeouts: Timeouts | None = None,
        contexts: dict[str, int] | None = None,
        limits: Limits | None = None,
        hold: bool = False,
        retries: int = 0,
        retry_timeouts: bool = True,
        refusals: dict[str, Refusal] | None = None,
        dropped: bool = False,
        signer: str = "anthropic",
        dialects: dict[str, str] | None = None,
        capabilities: dict[str, Capabilities] | None = None,
        members: dict[str, Any] | None = None,
        mode: dict[str, Any] | None = None,
        own_limits: dict[str, Limits] | None = None,
        planned: tuple[Attempt, ...] | None = None,
        allowances: dict[str, Allowance] | None = None,
        circuits: dict[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.upstreams = {}
        for id, each in scripts.items():
            settings = UpstreamSettings(
                id=id,
                provider=id,
                dialect=(dialects or {}).get(id, "anthropic"),
                timeouts=timeouts or Timeouts(),
                limits=(own_limits or {}).get(id) or limits or Limits(),
                base_url="https://x.invalid",
            )
            self.upstreams[id] = MemoryUpstream(self.clock, id, each, settings, (circuits or {}).get(id))
        for id, allowance in (allowances or {}).items():
            self.upstreams[id].allowance = allowance
        for id, refusal in (refusals or {}).items():
            self.upstreams[id].circuit.refusal = refusal
        self.mode = ModeSettings(
            "mixed", "fallback", tuple(scripts), retries=retries, retry_timeouts=retry_timeouts, retry_delay=0.5
        )
        self.mode = attrs.evolve(self.mode, **(mode or {}))
        self.planned = planned
        self.contexts = contexts or {}
        self.hold = hold
        self._own = capabilities or {}
        self.capabilities = Capabilities(strip_fields=("metadata",) if dropped else (), thinking_signature=signer)
        self.records: list[ExchangeRecord] = []
        self.exchange: Exchange | None = None
        self.factory = HTTPServerFactory(
            self._handle, FrontSettings(), self.clock, refuse=lambda error, request: (error.status, [], b"")
        )
        self.channel = self.factory.buildProtocol(None)
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.channel
        self.transport.abortConnection = self._aborted
        self.aborted = False
        self.channel.makeConnection(self.transport)
        self.body = json.dumps(
            {
                "model": "claude-sonnet-5-5",
                "max_tokens": 10,
                "stream": streamed,
                "metadata": {"user_id": "u"},
                "messages": [{"role": "user", "content": "hi"}],
                **(members or {}),
            }
        ).encode()
        self.channel.dataReceived(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: localhost\r\nx-api-key: client\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(self.body), self.body)
        )

    def target(self, attempt: Attempt) -> Target:
        own = self._own.get(attempt.upstream, self.capabilities)
        return Target("anthropic", "claude-sonnet-5-5", own)

    def estimate(self, attempt: Attempt, size: int) -> int:
        return size

    def context(self, attempt: Attempt) -> int | None:
        return self.contexts.get(attempt.upstream)

    def _aborted(self) -> None:
        self.aborted = True

    def _handle(self, request: Any) -> None:
        dialect = AnthropicDialect()
        plan = Plan(self.planned or tuple(Attempt(id, f"{id}-model") for id in self.upstreams), "because")
        self.exchange = Exchange(
            self.clock,
            Watch(self.clock),
            request,
            dialect,
            dialect.look(request.body),
            plan,
            self.mode,
            self,
            ExchangeRecord(at=1000.0, request_id="req_test", requested="claude-sonnet-5-5", size=len(request.body)),
            lambda exchange: self.records.append(exchange.record),
            hold=self.hold,
            ping_after=10.0,
            random=lambda: 0.5,
        )
        self.exchange.start()

    def run(self, seconds: float = 5.0, step: float = 0.25) -> Relayed:
        """Let time pass."""
        self.clock.pump([0.0] * 5)
        passed = 0.0
        while passed < seconds:
            self.clock.advance(step)
            passed += step
        return self

    # ---------------------------------------------------------------------------- the client's view

    @property
    def head(self) -> bytes:
        return self.transport.value().partition(b"\r\n\r\n")[0]

    @property
    def status(self) -> int | None:
        head = self.head
        return int(head.split(b" ", 2)[1]) if head else None

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None

    @property
    def content(self) -> bytes:
        """The body, chunks joined."""
        rest = self.transport.value().partition(b"\r\n\r\n")[2]
        if self.header("transfer-encoding") != "chunked":
            return rest
        out = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            number = int(size, 16)
            out += rest[:number]
            rest = rest[number + 2 :]
        return out

    @property
    def ended(self) -> bool:
        """The answer is whole in HTTP's sense."""
        value = self.transport.value()
        if self.header("transfer-encoding") == "chunked":
            return value.endswith(b"0\r\n\r\n")
        return self.header("content-length") == str(len(self.content))

    def asked(self) -> dict[str, int]:
        return {id: len(upstream.requests) for id, upstream in self.upstreams.items()}

    @property
    def record(self) -> ExchangeRecord:
        assert len(self.records) == 1, self.records
        return self.records[0]

    @property
    def message(self) -> str:
        return json.loads(self.content)["error"]["message"]
