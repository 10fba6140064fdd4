"""
A passage: one request handed to one upstream and its answer handed back as it comes, whatever it is.

For what is not a generation (counting tokens, listing models, batches, files): no plan, no gate, no ledger, and never a
count at the circuit breaker.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from .errors import Kind, RouterError
from .interfaces import ICall, IResponseSink
from .reply import forwarded, header_text
from .upstream import Upstream
from .web.http1 import Request


@implementer(IResponseSink)
class Passage:
    """
    :param path: the path at the upstream, beginning with ``/v1/``.
    :param body: the body to send, already made ready for this upstream.
    :param refuse: answers the client with an error of the router's.
    :param done: called once at the end with the status the client saw.
    """

    def __init__(
        self,
        clock: IReactorTime,
        request: Request,
        upstream: Upstream,
        path: bytes,
        body: bytes,
        mode: str,
        refuse: Callable[[Request, RouterError], None],
        done: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._request = request
        self._upstream = upstream
        self._path = path
        self._body = body
        self._mode = mode
        self._refuse = refuse
        self._done = done
        self._call: ICall | None = None
        self._timer: IDelayedCall | None = None
        self._status = 0
        self._last = clock.seconds()
        self._over = False

    def start(self) -> None:
        """Send the request."""
        request = self._request
        request.on_gone = self._gone
        self._upstream.in_flight += 1
        call = self._upstream.send(request.method, self._path, request.query, request.headers, self._body, self)
        if not self._over:
            self._call = call
            self._arm()

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._last = self._clock.seconds()
        self._disarm()
        fields = forwarded(headers)
        length = None
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                length = int(value)
        fields.append((b"x-mportrouter-upstream", header_text(self._upstream.id)))
        fields.append((b"x-mportrouter-mode", header_text(self._mode)))
        fields.append((b"x-mportrouter-attempts", b"1"))
        fields.append((b"x-mportrouter-decision", b"passed on"))
        self._request.start(status, fields, length)
        self._arm()  # from now on another limit holds
        if self._call is not None:
            self._request.throttle(self._call.transport)

    def data(self, data: bytes, last: bool = False) -> None:
        self._last = self._clock.seconds()
        self._request.write(data)

    def end(self, failure: Exception | None) -> None:
        if failure is None:
            self._request.finish()
        elif self._request.started:
            self._request.abort()
        else:
            verdict = getattr(failure, "verdict", None)
            kind = verdict.kind if verdict is not None else Kind.NETWORK
            message = verdict.message if verdict is not None else str(failure)
            self._fail(RouterError(kind, f"{self._upstream.id} failed: {message}"))
            return
        self._finish()

    def _fail(self, error: RouterError) -> None:
        self._status = error.status
        self._refuse(self._request, error)
        self._finish()

    def _gone(self) -> None:
        call = self._call
        self._finish()
        if call is not None:
            call.abort()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._call = None
        self._upstream.in_flight -= 1
        self._request.on_gone = None
        self._disarm()
        self._done(self._status)

    def _limit(self) -> float | None:
        limits = self._upstream.settings.timeouts
        return limits.idle if self._request.started else limits.answer

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _arm(self) -> None:
        limit = self._limit()
        if limit is not None:
            self._timer = self._clock.callLater(max(0.0, self._last + limit - self._clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        limit, call = self._limit(), self._call
        if call is not None and call.paused:
            self._last = self._clock.seconds()  # the client is the slow one, not the upstream
        if limit is None or self._clock.seconds() < self._last + limit:
            self._arm()
            return
        if call is not None:
            call.abort()
        if self._request.started:
            self._request.abort()
            self._finish()
        else:
            self._fail(RouterError(Kind.TIMEOUT, f"{self._upstream.id} did not answer within {limit:g} s"))
