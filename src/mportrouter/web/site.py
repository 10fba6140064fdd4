"""
The site behind every port: from a complete request to whoever answers it.

:class:`Site` admits the request, finds out what its path asks for, and hands it on; the inference path itself is
:mod:`mportrouter.web.messages`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..coding import Damaged, TooLarge, UnknownCoding, unpack
from ..dialects.known import ANTHROPIC, CHAT, GEMINI, RESPONSES
from ..errors import Kind, RouterError
from ..fields import memo_of
from ..interfaces import IDialect, ILedger
from ..interfaces_console import IConsole
from ..passage import Passage
from ..ports import PortService, front_for
from ..records import ExchangeRecord
from ..runtime import Runtime
from ..settings import ModeSettings
from ..state import IStateStore
from ..upstream import Upstream
from ..watch import Watch
from .admission import Admission
from .clients import Clients
from .http1 import Request
from .paths import canonical, gemini_action, speaker
from .stays import Turns

Fields = Mapping[bytes, bytes]

JSON = (b"content-type", b"application/json")
_JSON_TYPES = (b"application/json", b"text/json")
_READ = (b"GET", b"HEAD")
#: Paths that do not count against a client's limit: whoever watches over the router asks them often.
_UNCOUNTED = frozenset([b"/health", b"/status"])

Answer = Callable[[Request, PortService, Fields], None]


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

    def usage_report(self) -> dict[str, Any]:
        """What ``GET /api/usage`` answers."""


class Site:
    """
    Answers complete requests.

    :ivar under_way: exchanges that have begun and not ended, on all ports together.
    """

    _log = Logger()

    def __init__(self, house: House) -> None:
        from .counting import Counting
        from .messages import Messages
        from .models import Models

        self.house = house
        self.under_way = 0
        self._clients = Clients()
        self.turns = Turns()
        self._prefix = os.urandom(6).hex()
        self._serial = itertools.count(1)
        models = Models(self)
        post = (b"POST",)
        self._routes: dict[bytes, tuple[tuple[bytes, ...], Answer]] = {
            b"/v1/messages": (post, Messages(self, ANTHROPIC).answer),
            b"/v1/chat/completions": (post, Messages(self, CHAT).answer),
            b"/v1/responses": (post, Messages(self, RESPONSES).answer),
            b"/v1/messages/count_tokens": (post, Counting(self, ANTHROPIC).answer),
            b"/v1/responses/input_tokens": (post, Counting(self, RESPONSES).answer),
            b"/v1/models": (_READ, models.listing),
            b"/v1beta/models": (_READ, models.listing),
            b"/health": (_READ, self._health),
            b"/status": (_READ, self._status),
            b"/api/usage": (_READ, self._usage),
            b"/": (_READ, self._root),
        }
        generate = (post, Messages(self, GEMINI).answer)
        self._actions: dict[bytes, tuple[tuple[bytes, ...], Answer]] = {
            b"generateContent": generate,
            b"streamGenerateContent": generate,
            b"countTokens": (post, Counting(self, GEMINI).answer),
        }
        self._model = (_READ, models.one)
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
                request.path = canonical(request.path)
                found = self._find(request.path)
            methods, answer = found
            limit = port.settings.client_limit
            if limit and request.path not in _UNCOUNTED:
                self._count(request, port, limit)
            if request.method not in methods and methods:
                allowed = b", ".join(methods)
                used, wanted = request.method.decode("ascii", "replace"), allowed.decode("ascii")
                words = f"{used} is not for this path; use {wanted}"
                error = RouterError(Kind.METHOD, words)
                about = [(b"allow", allowed)]
                if b"upgrade" in fields:
                    # A client that tried a WebSocket goes on with POST at once; after a 405 it tries six times more.
                    error = RouterError(Kind.METHOD, f"there is no WebSocket here; use {wanted}", status=426)
                    about.append((b"upgrade", b"HTTP/1.1"))
                self.refuse(request, error, about=about)
                return
            answer(request, port, fields)
        except RouterError as error:
            self.refuse(request, error)

    def _count(self, request: Request, port: PortService, limit: int) -> None:
        """
        Count a request of a client that may send so many a minute; its answer tells of the limit.

        :raises RouterError: it is one too many.
        """
        request.about, wait = self._clients.count(port.number, request.peer, limit, self.house.clock.seconds())
        if wait > 0:
            raise RouterError(
                Kind.RATE,
                f"port {port.number} of this router takes {limit} requests a minute from one client; "
                f"try again in {math.ceil(wait)} s",
                wait,
            )

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
        if request.query and b"key=" in request.query:
            take_key(request)
            memo = None
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

    def _find(self, path: bytes) -> tuple[tuple[bytes, ...], Answer]:
        """What a path asks for that is no fixed one, or is not known at all."""
        found = self._routes.get(path)
        if found is not None:
            return found
        action = gemini_action(path)
        if action is not None and action in self._actions:
            return self._actions[action]
        if path.startswith((b"/v1/models/", b"/v1beta/models/")) and path.count(b"/") == 3 and action is None:
            return self._model
        if path.startswith((b"/v1/", b"/v1beta/")):
            return ((), self._pass_on)
        shown = path.decode("ascii", "replace")[:200]
        raise RouterError(
            Kind.NOT_FOUND,
            f"there is nothing at {shown}; this router serves /v1/messages, /v1/chat/completions, /v1/responses, "
            "/v1beta/models/{model}:generateContent, /v1/models, /health and /status",
        )

    def plain_body(self, request: Request, fields: Fields) -> bytes:
        """
        The body of a request, without the content coding it came in; its fields then tell of none.

        :raises RouterError: where the body is said to be something other than JSON, or cannot be unpacked.
        """
        kind = fields.get(b"content-type")
        if kind is not None and not kind.startswith(b"application/json"):
            base = kind.partition(b";")[0].strip().lower()
            if base not in _JSON_TYPES and not base.endswith(b"+json"):
                shown = base.decode("ascii", "replace")[:80]
                words = f"the body is said to be {shown!r}; send content-type: application/json"
                raise RouterError(Kind.MEDIA_TYPE, words)
        coding = fields.get(b"content-encoding")
        if coding is None or (coding := coding.strip().lower()) in (b"", b"identity"):
            return request.body
        limit = front_for(self.house.runtime.settings.front, self.house.ports[request.port].settings).body_bytes
        try:
            request.body = unpack(request.body, coding, limit)
        except UnknownCoding:
            shown = coding.decode("ascii", "replace")[:80]
            words = f"request bodies in content-encoding {shown!r} are not read; send gzip, zstd or none"
            raise RouterError(Kind.MEDIA_TYPE, words) from None
        except TooLarge:
            raise RouterError(Kind.TOO_LARGE, f"the body unpacks to more than {limit} bytes") from None
        except Damaged as error:
            raise RouterError(Kind.BAD_REQUEST, f"the body cannot be unpacked: {error}") from None
        request.headers = [field for field in request.headers if field[0] != b"content-encoding"]
        return request.body

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
        dialect: IDialect | None = None,
    ) -> None:
        """
        Answer with an error of the router's own.

        :param about: header fields that tell how it came about.
        :param dialect: the client's; ``None``: as path and fields tell.
        """
        id = request_id or self.request_id()
        if dialect is None:
            dialect = speaker(request.path, dict(request.headers))
        status = dialect.error_status(error)
        request.respond(status, [*about, *error.headers(id)], dialect.error_body(error, id))

    def refusal(self, error: RouterError, request: Request | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The answer to what is not even a request (:class:`mportrouter.web.http1.HTTPServerFactory` asks for it)."""
        id = self.request_id()
        dialect = ANTHROPIC if request is None else speaker(request.path, dict(request.headers))
        return dialect.error_status(error), error.headers(id), dialect.error_body(error, id)

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

    def _usage(self, request: Request, port: PortService, fields: Fields) -> None:
        self.respond_json(request, 200, self.house.usage_report())

    # ------------------------------------------------------------------------------------------- handed on as it is

    def mode_of(self, port: PortService, session: str = "") -> ModeSettings:
        """The mode in force for a conversation on a port."""
        name = self.house.state.session_mode(f"{port.number}:{session}") if session else None
        runtime = self.house.runtime
        # A reload may have taken away what a conversation was switched to.
        mode = runtime.mode(name if name is not None and name in runtime.settings.modes else port.mode)
        pin = self.house.state.pin(mode.name)
        return mode if pin is None else runtime.pinned(mode, pin)

    def pass_on(self, request: Request, upstream: Upstream, path: bytes, body: bytes, mode: str) -> None:
        """Hand a request to one upstream and its answer back, untouched."""
        self.begin()
        Passage(
            self.house.clock, request, upstream, path, body, mode, self.refuse, lambda status: self.ended()
        ).start()

    def _pass_on(self, request: Request, port: PortService, fields: Fields) -> None:
        """Another path of an API: for the first upstream of the mode that speaks it, untouched."""
        path = request.path
        dialect = speaker(path, fields)
        mode = self.mode_of(port)
        wanted = {dialect.name} if dialect in (ANTHROPIC, GEMINI) else {CHAT.name, RESPONSES.name}
        for id in mode.upstreams:
            upstream = self.house.runtime.upstreams[id]
            if upstream.enabled and upstream.settings.dialect in wanted and upstream.capabilities.other_paths:
                self.pass_on(request, upstream, path, request.body, mode.name)
                return
        shown = path.decode("ascii", "replace")[:200]
        raise RouterError(Kind.NOT_FOUND, f"mode {mode.name} has no upstream that serves {shown}")


def take_key(request: Request) -> None:
    """Make a header field of a key that came in the query: it is treated as one then, and goes into no other place."""
    kept = []
    for pair in request.query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"key":
            request.headers = [*request.headers, (b"x-goog-api-key", unquote_to_bytes(value))]
        else:
            kept.append(pair)
    request.query = b"&".join(kept)
