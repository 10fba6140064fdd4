"""
The connections of one upstream, and the fast door to them: :meth:`Pool.request`.

A request takes the idle connection that was used last, else it opens one. A connection that becomes free is given to
the oldest call that still waits, also to one whose own connection is just being opened.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from .connection import Call, CallFailed, Connection
from .errors import Kind, Verdict
from .interfaces import Headers, IResponseSink
from .opening import Opening, Origin, tcp_endpoint
from .tls import VerifyingCreator

#: Seconds that a peer has for its part of closing an idle TLS connection.
_GOODBYE = 2.0
_TARGET = re.compile(rb"[!-~\x80-\xff]+").fullmatch
_METHOD = re.compile(rb"[A-Za-z-]+").fullmatch
#: Methods whose requests say how long their body is even when there is none (RFC 9110 §8.6).
_WITH_BODY = frozenset([b"POST", b"PUT", b"PATCH"])


@attrs.frozen
class PoolStats:
    """
    :param open: connections that are open, in use or idle.
    :param opening: connections under way.
    :param waiting: calls without a connection.
    :param in_flight: calls that have not ended.
    """

    open: int
    opening: int
    idle: int
    waiting: int
    in_flight: int


class Pool:
    """
    :param origin: the only server this pool ever talks to.
    :param reactor: opens connections and tells the time.
    :param creator: TLS verification for an ``https`` origin.
    :param connect_timeout: seconds for name lookup and TCP together; ``tls_timeout`` for the handshake after it.
    :param idle_for: seconds after which an idle connection is closed.
    :param max_idle: connections kept idle.
    :param max_open: connections at once; calls beyond them wait, first come, first served.
    :param endpoint: how to reach the server, where it is not by its host and port.
    """

    _log = Logger()

    def __init__(
        self,
        origin: Origin,
        reactor: Any,
        creator: VerifyingCreator | None = None,
        connect_timeout: float = 5.0,
        tls_timeout: float = 5.0,
        idle_for: float = 60.0,
        max_idle: int = 64,
        max_open: int = 1024,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        if origin.secure != (creator is not None):
            raise ValueError("an https origin needs a creator, an http origin must not have one")
        self.origin = origin
        self.reactor = reactor
        self.creator = creator
        self.connect_timeout = connect_timeout
        self.tls_timeout = tls_timeout
        self.where = f"{origin.host}:{origin.port}"
        self.in_flight = 0
        self._idle_for = idle_for
        self._max_idle = max_idle
        self._max_open = max_open
        self._endpoint = endpoint
        self._seconds: Callable[[], float] = reactor.seconds
        self._idle: list[Connection] = []  # oldest first
        self._open: set[Connection] = set()
        self._openings: dict[Opening, None] = {}  # in the order of their calls
        self._waiting: deque[Call] = deque()
        self._sweep: IDelayedCall | None = None
        self._goodbyes: dict[Connection, IDelayedCall] = {}
        self._stopped: Deferred[None] | None = None
        self._line = b" HTTP/1.1\r\nhost: " + origin.authority + b"\r\n"

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """Made when it is first needed: a host name's wants a reactor that can resolve names."""
        if self._endpoint is None:
            # The opening's own limit comes first; the endpoint's is for addresses that it left behind.
            self._endpoint = tcp_endpoint(self.reactor, self.origin.host, self.origin.port, self.connect_timeout + 1.0)
        return self._endpoint

    @property
    def stats(self) -> PoolStats:
        """Counts, for the status."""
        waiting = len(self._waiting) + sum(opening.call is not None for opening in self._openings)
        return PoolStats(len(self._open), len(self._openings), len(self._idle), waiting, self.in_flight)

    # ------------------------------------------------------------------------------------------- the fast door

    def request(self, method: bytes, target: bytes, headers: Headers, body: bytes, sink: IResponseSink) -> Call:
        """
        Send a request.

        ``Host`` and ``Content-Length`` are added here and must not be among ``headers``. The sink hears nothing before
        this returns.

        :param target: path and query, as they go onto the wire.
        :raises ValueError: a method, target or field that cannot be sent as it is (a line break in a value …).
        """
        head = self.head(method, target, headers)
        if body or method in _WITH_BODY:
            head = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        else:
            head += b"\r\n"
        return self._send(Call(self, sink, head, body, method == b"HEAD"))

    def head(self, method: bytes, target: bytes, headers: Headers) -> bytes:
        """
        What a request begins with, up to its length: for :meth:`post`.

        :raises ValueError: as :meth:`request`.
        """
        fields = b"".join([b"%b: %b\r\n" % field for field in headers])
        count = len(headers)
        if fields.count(b"\n") != count or fields.count(b"\r") != count or b"\0" in fields:
            raise ValueError("a line break or NUL in a header field")
        if _TARGET(target) is None or _METHOD(method) is None:
            raise ValueError(f"not a request line: {method!r} {target!r}")
        return b"%b %b%b%b" % (method, target, self._line, fields)

    def post(self, head: bytes, body: bytes, sink: IResponseSink) -> Call:
        """
        :meth:`request` for a ``POST`` whose fields have been put together before.

        :param head: what :meth:`head` gave.
        """
        return self._send(Call(self, sink, b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body, False))

    def _send(self, call: Call) -> Call:
        self.in_flight += 1
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.open:
                call.reused = True
                connection.send(call)
                return call
        if len(self._open) + len(self._openings) < self._max_open:
            self._start_opening(call)
        else:
            self._waiting.append(call)
        return call

    def connect(self) -> Deferred[None]:
        """
        See that a connection stands: one that is idle will do, else one is opened and left idle.

        :returns: fires when it stands; fails with a :class:`~mportrouter.connection.CallFailed`.
        """
        if any(connection.open for connection in self._idle):
            return succeed(None)
        watcher: Deferred[None] = Deferred()
        self._start_opening(None, watcher)
        return watcher

    def close_idle(self) -> None:
        """Close the connections that nobody uses; those in use are closed when they become idle no later than usual."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._close(connection)

    def stop(self) -> Deferred[None]:
        """
        Keep no connection any more. Calls under way go on to their end, and so does an exchange that began before and
        asks once more: it gets a connection of its own.

        :returns: fires when no connection is left.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            closing = Verdict(Kind.UNAVAILABLE, f"the connections to {self.where} are being closed")
            for opening in list(self._openings):
                if opening.call is None:
                    opening.cancel()
                    self.refused(opening, closing)
            self.close_idle()
            if self._sweep is not None:
                self._sweep.cancel()
                self._sweep = None
            self._check_stopped()
        done: Deferred[None] = Deferred()
        if self._stopped.called:
            done.callback(None)
        else:
            self._stopped.addCallback(done.callback)
        return done

    # ------------------------------------------------------------------------------------------- opening

    def _start_opening(self, call: Call | None, watcher: Deferred[None] | None = None) -> None:
        opening = Opening(self, call, watcher)
        if call is not None:
            call.opening = opening
        self._openings[opening] = None
        opening.start()

    def ready(self, connection: Connection) -> None:
        """A connection stands: the call that it was opened for goes out, or the oldest that waits."""
        opening = connection.opening
        opening.settle()
        del self._openings[opening]
        self._open.add(connection)
        if self.creator is not None:
            self.creator.details.note(connection.transport.getHandle())
        call = opening.call
        if call is not None:
            opening.call = call.opening = None
        else:
            call = self._next_waiting()
        if call is not None:
            connection.send(call)
        else:
            self._rest(connection)
        if opening.watcher is not None:
            opening.watcher.callback(None)

    def refused(self, opening: Opening, verdict: Verdict) -> None:
        """A connection did not come about."""
        del self._openings[opening]
        call, opening.call = opening.call, None
        if call is not None:
            call.opening = None
        self._fill()
        self._check_stopped()
        if call is not None:
            self._end(call, CallFailed(verdict))
        if opening.watcher is not None:
            opening.watcher.errback(CallFailed(verdict))

    def _fill(self) -> None:
        """Open connections for waiting calls where there is room."""
        while self._waiting and len(self._open) + len(self._openings) < self._max_open:
            self._start_opening(self._waiting.popleft())

    def _next_waiting(self) -> Call | None:
        """The oldest call without a connection; one that must have a fresh connection is left to its own."""
        for opening in self._openings:
            call = opening.call
            if call is not None and not call.retried:
                call.opening = None
                opening.call = replacement = self._waiting.popleft() if self._waiting else None
                if replacement is not None:
                    replacement.opening = opening
                return call
        return self._waiting.popleft() if self._waiting else None

    # ------------------------------------------------------------------------------------------- what connections tell

    def done(self, connection: Connection, call: Call, keep: bool) -> None:
        """A call has its whole answer."""
        self.in_flight -= 1
        if not keep:
            if not connection.gone:
                self._close(connection)
            return
        if self._openings or self._waiting:
            following = self._next_waiting()
            if following is not None:
                following.reused = True
                connection.send(following)
                return
        self._rest(connection)

    def broken(self, call: Call, failure: CallFailed, stale: bool) -> None:
        """A call lost its connection."""
        if stale and not call.retried:
            # The server closed the idle connection before it can have seen the request (RFC 9112 §9.3.1).
            self._log.debug("a pooled connection to {where} was dead; asking again on a fresh one", where=self.where)
            call.retried = True
            call.reused = call.paused = False
            self._start_opening(call)
        else:
            self._end(call, failure)

    def lost(self, connection: Connection, reason: Failure) -> None:
        """A connection is gone."""
        if connection.opening is not None:
            connection.opening.lost(reason)
            return
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        goodbye = self._goodbyes.pop(connection, None)
        if goodbye is not None:
            goodbye.cancel()
        self._fill()
        self._check_stopped()

    def aborted(self, call: Call) -> None:
        """Nobody wants a call any more: its connection is closed, or it never gets one."""
        self.in_flight -= 1
        opening = call.opening
        if call.connection is not None:
            call.connection.abort()
        elif opening is not None:
            call.opening = None
            opening.call = following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                following.opening = opening
            elif self._stopped is not None:
                opening.cancel()
                self.refused(opening, Verdict(Kind.UNAVAILABLE, "no longer wanted"))
        elif call in self._waiting:
            self._waiting.remove(call)

    def _end(self, call: Call, failure: CallFailed) -> None:
        if not call.done:
            call.done = True
            self.in_flight -= 1
            call.sink.end(failure)

    # ------------------------------------------------------------------------------------------- idle connections

    def _rest(self, connection: Connection) -> None:
        if self._stopped is not None:
            self._close(connection)
            return
        idle = self._idle
        limit = connection.idle_limit
        if limit is not None and limit <= 1.0:
            self._close(connection)
            return
        connection.idle_since = self._seconds()
        idle.append(connection)
        if len(idle) > self._max_idle:
            self._close(idle.pop(0))
        if self._sweep is None:
            self._sweep = self.reactor.callLater(self._limit(connection), self._swept)

    def _limit(self, connection: Connection) -> float:
        limit = connection.idle_limit
        # A second less than the server says, so that it does not close just when a request leaves here.
        return self._idle_for if limit is None else min(self._idle_for, limit - 1.0)

    def _swept(self) -> None:
        """Close what has been idle too long. One timer for all: none is set or moved for a request."""
        self._sweep = None
        now = self._seconds()
        kept, due = [], []
        for connection in self._idle:
            left = connection.idle_since + self._limit(connection) - now
            if left <= 0:
                self._close(connection)
            else:
                kept.append(connection)
                due.append(left)
        self._idle = kept
        if kept:
            self._sweep = self.reactor.callLater(min(due), self._swept)

    def _close(self, connection: Connection) -> None:
        """Close a connection without a call; one that does not go within a moment is cut."""
        connection.close()
        if not connection.gone and connection not in self._goodbyes:
            self._goodbyes[connection] = self.reactor.callLater(_GOODBYE, connection.abort)

    def _check_stopped(self) -> None:
        stopped = self._stopped
        if stopped is not None and not stopped.called and not self._open and not self._openings and not self._waiting:
            stopped.callback(None)
