"""
The site behind every port: from a complete request to whoever answers it.

:class:`Site` admits the request, finds out what its path asks for, and hands it on; the inference path itself is
:mod:`mportrouter.web.messages`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind, RouterError
from ..fields import memo_of
from ..interfaces import IConsole, ILedger
from ..passage import Passage
from ..ports import PortService
from ..records import ExchangeRecord
from ..runtime import Runtime
from ..settings import ModeSettings
from ..state import IStateStore
from ..upstream import Upstream
from ..watch import Watch
from .admission import Admission
from .http1 import Request

Fields = Mapping[bytes, bytes]

JSON = (b"content-type", b"application/json")


class House(Protocol):
    """What the site needs of the running router."""

    clock: IReactorTime
    watch: Watch
    runtime: Runtime
    admission: Admission

    @property
    def ports(self) -> Mapping[int, PortService]:
        """The open ports by number."""

    @property
    def state(self) -> IStateStore:
        """What outlives a request."""

    @property
    def ledger(self) -> ILedger:
        """What was spent."""

    @property
    def console(self) -> IConsole:
        """What commands may ask."""

    def epoch(self) -> float:
        """Seconds since the epoch."""

    def record(self, runtime: Runtime, record: ExchangeRecord) -> None:
        """Price an exchange and tell log, ledger and alerts of it."""

    def analyse(self, mode: ModeSettings, runtime: Runtime, text: str) -> Any:
        """A Deferred of a model's :class:`~mportrouter.routing.complexity.Score`, or ``None`` where none is asked."""

    def health_report(self, mode: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and body of ``GET /health``."""


class Site:
    """
    Answers complete requests.

    :ivar under_way: exchanges that have begun and not ended, on all ports together.
    """

    _log = Logger()

    def __init__(self, house: House) -> None:
        from .messages import Messages
        from .models import Models

        self.house = house
        self.dialect = AnthropicDialect()
        self.under_way = 0
        self._prefix = os.urandom(6).hex()
        self._serial = itertools.count(1)
        self._messages = Messages(self)
        models = Models(self)
        self._routes: dict[bytes, tuple[tuple[bytes, ...], Callable[[Request, PortService, Fields], None]]] = {
            b"/v1/messages": ((b"POST",), self._messages.answer),
            b"/v1/messages/count_tokens": ((b"POST",), self._count_tokens),
            b"/v1/models": ((b"GET", b"HEAD"), models.listing),
            b"/health": ((b"GET", b"HEAD"), self._health),
            b"/status": ((b"GET", b"HEAD"), self._status),
            b"/": ((b"GET", b"HEAD"), self._root),
        }
        self._model = ((b"GET", b"HEAD"), models.one)
        self._known = dict(self._routes)

    # ------------------------------------------------------------------------------------------- the way in

    def handle(self, request: Request) -> None:
        """Answer ``request``; every mistake of the client's becomes an error in its dialect's shape."""
        house = self.house
        try:
            port = house.ports.get(request.port)
            if port is None:
                # What came on a connection that was still open when its port was closed.
                raise RouterError(Kind.UNAVAILABLE, f"port {request.port} of this router is being closed")
            port.requests += 1
            fields = self._admit(request, port)
            found = self._known.get(request.path)
            if found is None:
                found = self._find(request.path)
            methods, answer = found
            if request.method not in methods and methods:
                allowed = b", ".join(methods)
                used, wanted = request.method.decode("ascii", "replace"), allowed.decode("ascii")
                words = f"{used} is not for this path; use {wanted}"
                self.refuse(request, RouterError(Kind.METHOD, words), about=[(b"allow", allowed)])
                return
            answer(request, port, fields)
        except RouterError as error:
            self.refuse(request, error)

    def _admit(self, request: Request, port: PortService) -> Fields:
        """
        Let admission look at the request; a gateway token in it is taken out.

        :returns: its fields by name. Where no token is wanted the fields decide alone, and so they do for all requests
            that differ in nothing but the content-length: that one is not among them.
        """
        house = self.house
        admission = house.admission
        memo = memo_of(request.headers)
        token = port.settings.token or house.runtime.settings.token
        if memo is not None and token is None:
            fields: dict[bytes, bytes] | None = memo.get(admission)
            if fields is None:
                fields = dict(request.headers)
                admission.check(fields, None)
                fields.pop(b"content-length", None)
                memo[admission] = fields
            return fields
        fields = dict(request.headers)
        carriers = admission.check(fields, token)
        if carriers:
            request.headers = [field for field in request.headers if field[0] not in carriers]
        return fields

    def _find(self, path: bytes) -> tuple[tuple[bytes, ...], Callable[[Request, PortService, Fields], None]]:
        """What a path asks for that is not spelt as usual, or is not known at all."""
        path = canonical(path)
        found = self._routes.get(path)
        if found is not None:
            return found
        if path.startswith(b"/v1/models/") and path.count(b"/") == 3:
            return self._model
        if path.startswith(b"/v1/"):
            return ((), self._pass_on)
        shown = path.decode("ascii", "replace")[:200]
        raise RouterError(
            Kind.NOT_FOUND,
            f"there is nothing at {shown}; this router serves /v1/messages, /v1/messages/count_tokens, /v1/models, "
            "/health and /status",
        )

    # ------------------------------------------------------------------------------------------- the way out

    def request_id(self) -> str:
        """A new id for an exchange, unique over restarts."""
        return f"req_mr{self._prefix}{next(self._serial):08x}"

    def refuse(
        self,
        request: Request,
        error: RouterError,
        request_id: str | None = None,
        about: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """
        Answer with an error of the router's own.

        :param about: header fields that tell how it came about.
        """
        id = request_id or self.request_id()
        request.respond(error.status, [*about, *error.headers(id)], self.dialect.error_body(error, id))

    def refusal(self, error: RouterError, request: Request | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The answer to what is not even a request (:class:`mportrouter.web.http1.HTTPServerFactory` asks for it)."""
        id = self.request_id()
        return error.status, error.headers(id), self.dialect.error_body(error, id)

    def respond_json(self, request: Request, status: int, value: object) -> None:
        """Answer with a JSON value, spelt for people."""
        body = json.dumps(value, indent=2, default=str).encode("ascii") + b"\n"
        request.respond(status, [JSON, (b"cache-control", b"no-store")], body)

    def begin(self) -> None:
        """
        Count one more exchange under way; whoever calls it calls :meth:`ended` once.

        :raises RouterError: ``BUSY`` where there are as many as there may be.
        """
        if self.under_way >= self.house.runtime.settings.front.exchanges:
            raise RouterError(
                Kind.BUSY, f"{self.under_way} exchanges are under way, which is the bound; try again soon", 1.0
            )
        self.under_way += 1

    def ended(self) -> None:
        """An exchange is over."""
        self.under_way -= 1

    def failed(self, failure: Failure, request: Request) -> None:
        """Answer where something unforeseen broke on the way to an answer."""
        error = failure.value
        if not isinstance(error, RouterError):
            self._log.failure("An exchange broke inside the router", failure)
            error = RouterError(Kind.INTERNAL, "the router itself failed; its log says more")
        if request.started:
            request.abort()
        elif not request.finished:
            self.refuse(request, error)

    # ------------------------------------------------------------------------------------------- small answers

    def _root(self, request: Request, port: PortService, fields: Fields) -> None:
        about = {"service": "mportrouter", "port": port.number, "mode": port.mode}
        self.respond_json(request, 200, {**about, "health": "/health", "status": "/status"})

    def _health(self, request: Request, port: PortService, fields: Fields) -> None:
        status, report = self.house.health_report(port.mode)
        self.respond_json(request, status, report)

    def _status(self, request: Request, port: PortService, fields: Fields) -> None:
        answer = maybeDeferred(self.house.console.status, port.number)
        answer.addCallback(lambda value: self.respond_json(request, 200, value))
        answer.addErrback(self.failed, request)

    # ------------------------------------------------------------------------------------------- handed on as it is

    def mode_of(self, port: PortService, session: str = "") -> ModeSettings:
        """The mode in force for a conversation on a port."""
        name = self.house.state.session_mode(f"{port.number}:{session}") if session else None
        runtime = self.house.runtime
        # A reload may have taken away what a conversation was switched to.
        return runtime.mode(name if name is not None and name in runtime.settings.modes else port.mode)

    def pass_on(self, request: Request, upstream: Upstream, path: bytes, body: bytes, mode: str) -> None:
        """Hand a request to one upstream and its answer back, untouched."""
        self.begin()
        Passage(
            self.house.clock, request, upstream, path, body, mode, self.refuse, lambda status: self.ended()
        ).start()

    def _count_tokens(self, request: Request, port: PortService, fields: Fields) -> None:
        runtime = self.house.runtime
        look = self.dialect.look(request.body)
        mode = self.mode_of(port, self.dialect.session(fields, request.body) if self.house.state.has_sessions else "")
        for id in mode.upstreams:
            upstream = runtime.upstreams[id]
            if upstream.enabled and upstream.capabilities.count_tokens:
                from ..routing.policy import Attempt

                target = runtime.target(Attempt(id, upstream.model_for(look.model), ""))
                prepared = self.dialect.prepare(request.body, look, target)
                self.pass_on(request, upstream, b"/v1/messages/count_tokens", prepared.body, mode.name)
                return
        raise RouterError(
            Kind.NOT_SUPPORTED,
            f"no upstream of mode {mode.name} counts tokens; estimate on your side, or use a mode with Anthropic in it",
        )

    def _pass_on(self, request: Request, port: PortService, fields: Fields) -> None:
        """Another path of the Anthropic API: for Anthropic, where the mode has it."""
        path = canonical(request.path)
        mode = self.mode_of(port)
        for id in mode.upstreams:
            upstream = self.house.runtime.upstreams[id]
            if upstream.enabled and upstream.provider_name == "anthropic":
                self.pass_on(request, upstream, path, request.body, mode.name)
                return
        shown = path.decode("ascii", "replace")[:200]
        raise RouterError(Kind.NOT_FOUND, f"mode {mode.name} has no upstream that serves {shown}")


def canonical(path: bytes) -> bytes:
    """
    The path as the API has it: ``/v1`` once in front, no slash behind.

    Clients set base URLs with and without ``/v1`` and add their own: ``/messages`` and ``/v1/v1/messages`` both come.
    """
    path = path.rstrip(b"/") or b"/"
    while path.startswith(b"/v1/v1/"):
        path = path[3:]
    if path.startswith((b"/messages/", b"/models/")) or path in (b"/messages", b"/models"):
        path = b"/v1" + path
    if path in (b"/v1/health", b"/v1/status"):
        path = path[3:]
    return b"/" if path == b"/v1" else path
