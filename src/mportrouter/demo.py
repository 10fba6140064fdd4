"""
Embedded stand-ins for the providers on loopback, so that every mode, dialect, failover, cost and health can be seen
with no key: one each for Anthropic, MiniMax, OpenAI and Gemini, and one that speaks Chat for all others.

They speak plain HTTP/1.1 through :mod:`twisted.web` (this module is imported only where they are asked for), refuse
what the real ones refuse (the modules ``demo_*rules``), answer by rule (:mod:`mportrouter.demo_script`) at a pace of
``DemoSettings.pace`` seconds an event, some faster, and fail as told (:mod:`mportrouter.demo_faults`): at the
start by ``DemoSettings.faults``, later by ``POST /__demo__/fault`` with ``{"fault": "…"}`` at a stand-in's own port.
``GET /__demo__/state`` shows the fault in force and counts of requests and of answers that their client abandoned.
Any key that is not empty is good.
"""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.application import service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorSocket, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from .demo_faults import HEALTHY, Fault, parse_fault
from .demo_paces import PACES
from .demo_providers import place, voices
from .demo_said import Refusal, bad
from .demo_voice import Spelt, Voice, dump
from .settings import DemoSettings

_ERRORS = {
    400: ("invalid_request_error", "The request is invalid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_WEB_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment</title></head><body>An edge said this.</body></html>"


@attrs.define(slots=True, eq=False)
class _Counts:
    requests: int = 0
    abandoned: int = 0


class StandIn(Resource):
    """
    One stand-in provider as the leaf of a site.

    :param clock: paces its streams.
    :param provider: one of :data:`mportrouter.demo_paces.PACES`.
    :param pace: seconds between two events; 0: all at once.
    :param fault: what goes wrong until it is told otherwise.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, clock: IReactorTime, provider: str, pace: float, fault: Fault = HEALTHY) -> None:
        super().__init__()
        share, self._lead = PACES[provider]
        self._clock = clock
        self.provider = provider
        self.fault = fault
        self._pace = pace * share
        self._voices = voices(provider)
        self._counts = _Counts()

    def render(self, request: Request) -> int:
        path = (request.path or b"").decode("latin-1")
        if path.startswith("/__demo__/"):
            self._control(request, path)
            return NOT_DONE_YET
        self._counts.requests += 1
        fault = self.fault
        if request.method == b"POST":
            self.fault = fault.struck()
        elif not _strikes_reads(fault):
            fault = HEALTHY
        reply = _Reply(self._clock, request, self._pace, self._lead, fault, self._abandoned)
        voice = next(iter(self._voices.values()))
        try:
            start = next((each for each in self._voices if path.startswith(each)), None)
            if start is None:
                raise Refusal(404, "not_found_error", "Not Found")
            voice = self._voices[start]
            self._answer(request, path, voice, reply, fault)
        except Refusal as refusal:
            reply.whole(refusal.status, voice.error(refusal, self._counts.requests))
        return NOT_DONE_YET

    def _abandoned(self) -> None:
        self._counts.abandoned += 1

    # ------------------------------------------------------------------------------------------------ answers

    def _answer(self, request: Request, path: str, voice: Voice, reply: _Reply, fault: Fault) -> None:
        method = (request.method or b"").decode("latin-1")
        self._authorise(request)
        base, _, wanted = path.partition("/models")
        model, colon, action = wanted.lstrip("/").partition(":")
        if method == "GET" and base.endswith(("/v1", "/v1beta", "/codex")) and not colon:
            if not self._break(voice, reply, fault):
                reply.whole(200, voice.models(wanted.lstrip("/")))
            return
        if not path.endswith(voice.paths):
            raise Refusal(404, "not_found_error", "Not Found")
        counting = path.endswith(("/count_tokens", "/input_tokens", ":countTokens"))
        if method != "POST":
            raise Refusal(405, "invalid_request_error", "Method Not Allowed")
        body = _json(request)
        fields = {
            name.decode("latin-1").lower(): ",".join(value.decode("latin-1") for value in values)
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        if colon and isinstance(body, dict):
            sse = b"sse" in (request.args or {}).get(b"alt", [])
            body[":model"] = unquote(model)
            body[":stream"] = "" if action != "streamGenerateContent" else "sse" if sse else "array"
        body = voice.check(body, fields, counting)
        if self._break(voice, reply, fault):
            return
        if counting:
            counted = voice.count(body)
            if counted is None:
                raise Refusal(404, "not_found_error", "Not Found")
            reply.whole(200, counted)
            return
        said = voice.answer(body, self._counts.requests)
        if said.stream:
            reply.stream(_events(said, fault), said.content_type)
        elif fault.kind in ("cut", "stall", "garbage-event", "error-event", "no-end"):
            reply.broken(dump(said.whole), fault.kind)
        else:
            reply.whole(200, said.whole)

    def _authorise(self, request: Request) -> None:
        headers = request.requestHeaders
        key = headers.getRawHeaders("x-api-key", [""])[0].strip()
        bearer = headers.getRawHeaders("authorization", [""])[0]
        token = bearer[7:].strip() if bearer.lower().startswith("bearer ") else ""
        if self.provider == "local":
            return
        if self.provider == "gemini":
            given = (request.args or {}).get(b"key", [b""])[0].decode("latin-1")
            if not (headers.getRawHeaders("x-goog-api-key", [""])[0].strip() or given or token):
                raise Refusal(403, "permission_error", "Method doesn't allow unregistered callers. Use an API Key.")
            return
        if self.provider == "openai" and not token:
            raise Refusal(401, "invalid_request_error", "You didn't provide an API key.", "invalid_api_key")
        if not key and not token:
            if self.provider == "anthropic":
                raise Refusal(401, "authentication_error", "x-api-key header is required")
            raise Refusal(
                401,
                "authorized_error",
                "login fail: Please carry the API secret key in the 'Authorization' field of the request header",
            )
        if key and token and self.provider == "anthropic":
            raise Refusal(401, "authentication_error", "two credentials: send x-api-key or Authorization, not both")

    # ------------------------------------------------------------------------------------------------ faults

    def _break(self, voice: Voice, reply: _Reply, fault: Fault) -> bool:
        """Whether the fault makes an answer of its own, which is then under way."""
        kind = fault.kind
        if kind == "status":
            headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
            refusal = Refusal(fault.number, *_ERRORS.get(fault.number, ("api_error", "stand-in fault")))
            reply.whole(fault.number, voice.error(refusal, self._counts.requests), headers)
        elif kind == "context":
            raise voice.too_long()
        elif kind == "policy":
            raise voice.against_policy()
        elif kind == "base-resp":
            reply.whole(200, {"base_resp": {"status_code": fault.number, "status_msg": "stand-in fault"}})
        elif kind == "html":
            reply.page()
        elif kind == "empty":
            reply.empty()
        elif kind in ("hang", "reset", "refuse", "hang-after-head"):
            reply.nothing(kind)
        else:
            return False
        return True

    def _control(self, request: Request, path: str) -> None:
        status = 404
        value: dict[str, Any] = {"error": "no such control"}
        if path == "/__demo__/state" and request.method == b"GET":
            status, value = 200, {"fault": attrs.asdict(self.fault), **attrs.asdict(self._counts)}
        elif path == "/__demo__/fault" and request.method == b"POST":
            try:
                asked = _json(request)
                self.fault = parse_fault(asked["fault"])
                status, value = 200, {"fault": attrs.asdict(self.fault)}
                self._log.info("stand-in {provider}: fault {fault}", provider=self.provider, fault=asked["fault"])
            except Refusal as refusal:
                status, value = 400, {"error": refusal.message}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                status, value = 400, {"error": str(error) or 'expected {"fault": "…"}'}
        request.setResponseCode(status)
        request.setHeader("content-type", "application/json")
        request.write(json.dumps(value).encode() + b"\n")
        request.finish()


def _strikes_reads(fault: Fault) -> bool:
    """
    Whether a fault concerns ``GET /v1/models`` too: a provider that is short of capacity still lists its models, and a
    fault that is counted is kept for messages.
    """
    if fault.times is not None:
        return False
    if fault.kind == "status":
        return fault.number in (401, 403) or 500 <= fault.number <= 504
    return fault.kind in ("", "hang", "reset", "refuse")


def _json(request: Request) -> Any:
    try:
        return json.loads(request.content.read() if request.content else b"")
    except (ValueError, RecursionError) as error:
        raise bad("The request body is not valid JSON") from error


def _events(said: Spelt, fault: Fault) -> tuple[list[bytes], str]:
    """The events that go out, and how the stream ends: ``end``, ``cut`` or ``stall``."""
    kind, number, events = fault.kind, fault.number, said.events
    if kind in ("cut", "stall"):
        return events[:number], kind
    if kind == "error-event":
        return [*events[:number], said.failed(len(events[:number]))], "end"
    if kind == "garbage-event" and number <= len(events):
        return [*events[: max(0, number - 1)], said.garbage, *events[max(1, number) :]], "end"
    if kind == "no-end":
        return events[:-1], "end"
    return events, "end"


class _Reply:
    """One answer on its way: paced, and stopped when its client leaves."""

    def __init__(
        self,
        clock: IReactorTime,
        request: Request,
        pace: float,
        lead: int,
        fault: Fault,
        abandoned: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._request = request
        self._pace = pace
        self._wait = pace * lead + fault.delay
        self._packed = fault.kind == "gzip"
        self._abandoned = abandoned
        self._gone = False
        self._broken = False
        self._next: IDelayedCall | None = None
        request.notifyFinish().addErrback(self._left)

    def _left(self, reason: Failure) -> None:
        self._gone = True
        if not self._broken:
            self._abandoned()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        if delay > 0:
            self._next = self._clock.callLater(delay, call)
        else:
            call()

    def _head(self, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        request = self._request
        request.setResponseCode(status)
        request.setHeader("content-type", content_type)
        for name, value in (headers or {}).items():
            request.setHeader(name, value)
        if self._packed:
            request.setHeader("content-encoding", "gzip")

    def _finish(self, body: bytes) -> None:
        if self._packed:
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
        self._request.setHeader("content-length", str(len(body)))
        self._request.write(body)
        self._request.finish()

    def whole(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        """An answer in one piece."""

        def go() -> None:
            self._head(
                status, "application/json", {"request-id": value.get("request_id", "req_demo"), **(headers or {})}
            )
            self._finish(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))

        self._later(self._wait, go)

    def page(self) -> None:
        def go() -> None:
            self._head(200, "text/html; charset=utf-8")
            self._finish(_WEB_PAGE)

        self._later(self._wait, go)

    def empty(self) -> None:
        def go() -> None:
            self._packed = False
            self._head(200, "application/json")
            self._finish(b"")

        self._later(self._wait, go)

    def nothing(self, kind: str) -> None:
        """Silence (``hang``), silence after the head, or a reset."""
        if kind in ("reset", "refuse"):
            self._later(self._wait, self._reset)
        elif kind == "hang-after-head":

            def go() -> None:
                self._head(200, "text/event-stream; charset=utf-8")
                self._request.write(b"")

            self._later(self._wait, go)

    def _reset(self) -> None:
        self._broken = True
        self._channel().forceAbortClient()

    def _cut(self) -> None:
        self._broken = True
        self._channel().loseConnection()

    def _channel(self) -> Any:
        """The channel of this request; it is there as long as the client is."""
        return self._request.channel

    def broken(self, body: bytes, kind: str) -> None:
        """An answer that is not streamed, of which only half comes; then the end or silence."""

        def go() -> None:
            self._head(200, "application/json")
            self._request.setHeader("content-length", str(len(body)))
            self._request.write(body[: len(body) // 2])
            if kind != "stall":
                self._cut()

        self._later(self._wait, go)

    def stream(self, plan: tuple[Iterable[bytes], str], content_type: str) -> None:
        """A stream of events at this stand-in's pace."""
        events, ending = plan
        packer = zlib.compressobj(wbits=31) if self._packed else None
        left = iter(events)

        def begin() -> None:
            self._head(200, content_type, {"cache-control": "no-cache", "request-id": "req_demo"})
            self._request.write(b"")
            step()

        def step() -> None:
            for data in left:
                if packer is not None:
                    data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
                self._request.write(data)
                if self._gone:
                    return
                if self._pace > 0:
                    self._later(self._pace, step)
                    return
            if ending == "cut":
                self._cut()
            elif ending == "end":
                if packer is not None:
                    self._request.write(packer.flush())
                self._request.finish()

        self._later(self._wait, begin)


class _StandInSite(Site):
    """Refuses connections as they come where the fault says so."""

    noisy = False

    def __init__(self, stand_in: StandIn, reactor: Any) -> None:
        super().__init__(stand_in, reactor=reactor)
        self._stand_in = stand_in
        self.displayTracebacks = False

    def buildProtocol(self, addr: Any) -> HTTPChannel | None:  # type: ignore[override]
        if self._stand_in.fault.kind == "refuse":
            self._stand_in.fault = self._stand_in.fault.struck()
            return None
        return super().buildProtocol(addr)

    def log(self, request: Any) -> None:
        """No access log of its own: the router's tells what was asked."""


def _reserve() -> socket.socket:
    """A loopback socket that already listens, so that its port is known before the reactor runs."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.bind(("127.0.0.1", 0))
    bound.listen(128)
    bound.setblocking(False)
    return bound


class DemoProviders(service.MultiService):
    """
    All stand-ins as one service.

    The ports are reserved at construction with plain sockets and taken over by the reactor when the service starts: the
    addresses are known to whoever composes the upstreams, and a fork into the background in between does no harm.

    :param reactor: listens and tells the time.
    :param demo: pace and faults.
    :param reserve: gives a listening socket.
    :raises ValueError: a fault specification that is none.
    """

    def __init__(self, reactor: Any, demo: DemoSettings, reserve: Callable[[], socket.socket] = _reserve) -> None:
        super().__init__()
        self.setName("demo")
        self._reactor = reactor
        faults = dict(demo.faults)
        self.stand_ins = {
            name: StandIn(IReactorTime(reactor), name, demo.pace, parse_fault(faults.get(name, "off")))
            for name in PACES
        }
        self._sockets = {name: reserve() for name in self.stand_ins}
        self._roots = {name: f"http://127.0.0.1:{bound.getsockname()[1]}" for name, bound in self._sockets.items()}
        self._ports: list[IListeningPort] = []

    def address(self, provider: str, dialect: str) -> str:
        """
        The base URL for an upstream of a provider: its own stand-in's, or that of one which speaks its dialect.

        :param dialect: of the upstream.
        """
        stand_in, path = place(provider, dialect)
        return self._roots[stand_in] + path

    def startService(self) -> None:
        super().startService()
        for name, bound in self._sockets.items():
            site = _StandInSite(self.stand_ins[name], self._reactor)
            port = IReactorSocket(self._reactor).adoptStreamPort(bound.fileno(), socket.AF_INET, site)  # type: ignore[arg-type]
            self._ports.append(port)
            bound.close()
        self._sockets = {}

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        await maybeDeferred(super().stopService)
