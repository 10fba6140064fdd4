"""
In-memory doubles of the router's joints, for its own tests and for those of programs built on it.

They open no socket and wait for nothing: whatever takes time takes it on the clock they are given
(:class:`twisted.internet.task.Clock`). :func:`canned_message` and :func:`canned_stream` make valid answers of the
Anthropic Messages dialect; a :class:`MemoryUpstream` plays scripts of them::

    upstream = MemoryUpstream(clock, "minimax", [respond(529, body=b"{}"), respond(body=canned_stream("hello"))])
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from .canned import canned_error, canned_error_event, canned_events, canned_message, canned_stream
from .errors import Kind, Verdict
from .interfaces import Headers, ICall, ILedger, IPermit, IResponseSink
from .interfaces_console import IConsole
from .limits import Allowance
from .records import ExchangeRecord
from .settings import UpstreamSettings

__all__ = [
    "Chunk",
    "End",
    "Head",
    "MemoryCall",
    "MemoryCircuit",
    "MemoryConsole",
    "MemoryLedger",
    "MemoryPermit",
    "MemoryProducer",
    "MemoryRefusal",
    "MemoryUpstream",
    "RecordingSink",
    "SentRequest",
    "Wait",
    "call_failed",
    "canned_error",
    "canned_error_event",
    "canned_events",
    "canned_message",
    "canned_stream",
    "cut",
    "fail",
    "hang",
    "respond",
]

# ---------------------------------------------------------------------------------------------------- scripts


@attrs.frozen
class Head:
    """Script step: the answer's head."""

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


@attrs.frozen
class Chunk:
    """Script step: body bytes of one read."""

    data: bytes


@attrs.frozen
class Wait:
    """Script step: that many seconds pass on the clock."""

    seconds: float


@attrs.frozen
class End:
    """Script step: the body is whole; or, with a verdict, the call has failed."""

    verdict: Verdict | None = None
    #: Whether request bytes may have reached the server.
    sent: bool = True


Step = Head | Chunk | Wait | End
Script = Sequence[Step]

_STREAM = ((b"content-type", b"text/event-stream"),)
_JSON = ((b"content-type", b"application/json"),)


def respond(
    status: int = 200,
    headers: Headers | None = None,
    body: bytes | Iterable[bytes] = b"",
    pause: float = 0.0,
) -> list[Step]:
    """
    A whole answer.

    :param headers: ``None``: the content type that the body looks like.
    :param body: in one read, or one read an item.
    :param pause: seconds before each read of the body.
    """
    chunks = [body] if isinstance(body, bytes) else list(body)
    if headers is None:
        first = chunks[0] if chunks else b""
        headers = _STREAM if first[:6] in (b"event:", b"data: ") or first[:1] == b":" else _JSON
    steps: list[Step] = [Head(status, tuple(headers))]
    for chunk in chunks:
        if pause:
            steps.append(Wait(pause))
        if chunk:
            steps.append(Chunk(chunk))
    return [*steps, End()]


def hang(after: Script = ()) -> list[Step]:
    """Silence for ever, at once or after the given steps (an :class:`End` of theirs is left out)."""
    return [step for step in after if not isinstance(step, End)]


def fail(verdict: Verdict, sent: bool = True) -> list[Step]:
    """No answer at all."""
    return [End(verdict, sent)]


def cut(script: Script, chunks: int) -> list[Step]:
    """The script up to its ``chunks``-th body read, then the connection breaks."""
    steps: list[Step] = []
    for step in script:
        if isinstance(step, Chunk):
            if chunks == 0:
                break
            chunks -= 1
        if not isinstance(step, End):
            steps.append(step)
    return [*steps, End(Verdict(Kind.CUT, "the connection was closed in the answer"))]


# ---------------------------------------------------------------------------------------------------- upstream


@implementer(IPermit)
class MemoryPermit:
    """Remembers how it was settled: ``settled`` is ``None``, ``"success"``, ``"release"`` or a verdict."""

    def __init__(self) -> None:
        self.settled: Verdict | str | None = None

    def _settle(self, how: Verdict | str) -> None:
        if self.settled is not None:
            raise AssertionError(f"settled twice: {self.settled} and {how}")
        self.settled = how

    def success(self) -> None:
        self._settle("success")

    def failure(self, verdict: Verdict) -> None:
        self._settle(verdict)

    def release(self) -> None:
        self._settle("release")


@attrs.frozen
class MemoryRefusal:
    """What a closed door answers in place of a permit."""

    kind: Kind = Kind.UNAVAILABLE
    reason: str = "circuit open"
    retry_after: float | None = None


class MemoryCircuit:
    """
    A circuit that does what it is told.

    :ivar refusal: what is given in place of permits, or ``None``.
    :ivar permits: every permit given out.
    :ivar rests: every rest that was asked for: seconds, verdict, model.
    """

    def __init__(self) -> None:
        self.refusal: Any = None
        self.permits: list[MemoryPermit] = []
        self.rests: list[tuple[float, Verdict, str | None]] = []
        self.state = "closed"

    def permit(self, model: str = "") -> Any:
        if self.refusal is not None:
            return self.refusal
        self.permits.append(MemoryPermit())
        return self.permits[-1]

    def retry_in(self, model: str = "") -> float:
        return getattr(self.refusal, "retry_after", None) or 0.0

    def rest(self, seconds: float, verdict: Verdict, model: str | None = None) -> None:
        self.rests.append((seconds, verdict, model))


@implementer(ICall)
class MemoryCall:
    """
    One request under way at a :class:`MemoryUpstream`.

    :ivar aborted: :meth:`abort` was called while it was under way.
    :ivar finished: the sink was told the end.
    """

    def __init__(self, clock: IReactorTime, script: Script, sink: Any) -> None:
        self.transport = MemoryProducer(self)
        self.aborted = False
        self.finished = False
        self._clock = clock
        self._steps = list(script)
        self._sink = sink
        self._timer: IDelayedCall | None = None
        self.paused = False
        self.go_on(0.0)

    def abort(self) -> None:
        if not self.finished:
            self.aborted = True
            self._steps = []
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def go_on(self, delay: float) -> None:
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(delay, self._play)

    def _play(self) -> None:
        while self._steps and not self.paused:
            step = self._steps.pop(0)
            if isinstance(step, Wait):
                self.go_on(step.seconds)
                return
            if isinstance(step, Head):
                self._sink.response(step.status, list(step.headers))
            elif isinstance(step, Chunk):
                self._sink.data(step.data)
            else:
                self.finished = True
                self._steps = []
                self._sink.end(None if step.verdict is None else call_failed(step.verdict, step.sent))


@implementer(IPushProducer)
class MemoryProducer:
    """The transport of a :class:`MemoryCall`; counts what it is told."""

    def __init__(self, call: MemoryCall) -> None:
        self._call = call
        self.pauses = 0
        self.resumes = 0

    def pauseProducing(self) -> None:
        self.pauses += 1
        self._call.paused = True

    def resumeProducing(self) -> None:
        self.resumes += 1
        if self._call.paused:
            self._call.paused = False
            self._call.go_on(0.0)

    def stopProducing(self) -> None:
        self._call.abort()


def call_failed(verdict: Verdict, sent: bool = True) -> Exception:
    """The failure that a sink's ``end`` gets of a real upstream."""
    from .upstream import CallFailed

    return CallFailed(verdict, sent)


@attrs.frozen(eq=False)
class SentRequest:
    """One request that a :class:`MemoryUpstream` was given."""

    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    body: bytes
    call: MemoryCall

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class MemoryUpstream:
    """
    Looks like :class:`mportrouter.upstream.Upstream` to the relay and plays one script a request.

    :param clock: everything happens on it, never inside :meth:`send`.
    :param id: the upstream's id, and its provider's name unless ``settings`` says other.
    :param scripts: one for each request in order; the last one again for all that follow.
    :ivar requests: what it was given, as :class:`SentRequest`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        id: str = "anthropic",
        scripts: Iterable[Script] = (),
        settings: UpstreamSettings | None = None,
        circuit: Any = None,
    ) -> None:
        self.settings = settings or UpstreamSettings(id=id, provider=id, base_url=f"https://{id}.invalid")
        self.id = self.settings.id
        self.provider_name = self.settings.provider
        self.enabled = True
        self.in_flight = 0
        self.allowance = Allowance(self.settings.limits)
        self.circuit = MemoryCircuit() if circuit is None else circuit
        self.scripts = [list(script) for script in scripts]
        self.requests: list[SentRequest] = []
        self._clock = clock

    def model_for(self, requested: str) -> str:
        return requested

    def send(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        client_headers: Headers,
        body: bytes,
        sink: object,
        translated: bool = False,
    ) -> MemoryCall:
        if not self.scripts:
            raise AssertionError(f"{self.id} was asked and has no script")
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        call = MemoryCall(self._clock, script, sink)
        self.requests.append(SentRequest(method, path, query, list(client_headers), body, call))
        return call


@implementer(IResponseSink)
class RecordingSink:
    """
    Keeps what it is told, and refuses a wrong order.

    :ivar status: of the head, ``None`` before it.
    :ivar chunks: body bytes, one item a call.
    :ivar ended: the end came; ``failure`` says how.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.ended = False
        self.failure: Exception | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._check(self.status is None, "a second head")
        self.status, self.headers = status, headers

    def data(self, data: bytes, last: bool = False) -> None:
        self._check(self.status is not None, "body bytes before the head")
        self.chunks.append(data)

    def end(self, failure: Exception | None) -> None:
        self._check(self.status is not None or failure is not None, "a good end without a head")
        self.ended, self.failure = True, failure

    def _check(self, right: bool, what: str) -> None:
        if self.ended:
            raise AssertionError("told something after the end")
        if not right:
            raise AssertionError(what)


# ---------------------------------------------------------------------------------------------------- ledger, console


@implementer(ILedger)
class MemoryLedger:
    """Keeps records in a list; ``spent`` goes by their ``at`` and the clock."""

    def __init__(self, clock: IReactorTime | None = None) -> None:
        self.records: list[ExchangeRecord] = []
        self._clock = clock

    def add(self, record: ExchangeRecord) -> None:
        self.records.append(record)

    def spent(self, seconds: float) -> int:
        since = self._clock.seconds() - seconds if self._clock is not None else float("-inf")
        return sum(record.cost for record in self.records if record.at > since)

    def stats(self) -> dict[str, Any]:
        return {"requests": len(self.records), "cost": sum(record.cost for record in self.records)}


@implementer(IConsole)
class MemoryConsole:
    """
    Answers every command with what ``answers`` holds under its name (an exception is raised), else with a small value
    of the right shape; ``calls`` lists name and arguments of each.
    """

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers: dict[str, Any] = dict(answers or {})
        self.calls: list[tuple[Any, ...]] = []

    def _say(self, name: str, default: Any, *arguments: Any) -> Any:
        self.calls.append((name, *arguments))
        answer = self.answers.get(name, default)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def status(self, port: int | None) -> dict[str, Any]:
        return self._say("status", {"mode": "mixed"}, port)

    def health(self) -> dict[str, Any]:
        return self._say("health", {"status": "healthy", "providers": {}})

    def check_health(self) -> Deferred[dict[str, Any]]:
        return succeed(self._say("check_health", {"status": "healthy", "providers": {}}))

    def stats(self) -> dict[str, Any]:
        return self._say("stats", {"requests": 0})

    def logs(self, count: int) -> list[str]:
        return self._say("logs", [], count)

    def mode(self, port: int | None, name: str | None, session: str | None) -> dict[str, Any]:
        default = {"port": port, "mode": name or "mixed", "session": session}
        return self._say("mode", default, port, name, session)

    def switch(self, port: int | None, name: str) -> dict[str, Any]:
        return self._say("switch", {"port": port, "mode": "mixed", "pinned": name}, port, name)

    def unpin(self, port: int | None) -> dict[str, Any]:
        return self._say("unpin", {"unpinned": {}}, port)

    def explain(self, port: int | None, body: bytes, dialect: str, model: str, session: str) -> dict[str, Any]:
        return self._say("explain", {"mode": "mixed", "attempts": []}, port, body, dialect, model, session)

    def ports(self) -> list[dict[str, Any]]:
        return self._say("ports", [])

    def open_port(self, port: int, mode: str) -> dict[str, Any]:
        return self._say("open_port", {"port": port, "mode": mode}, port, mode)

    def close_port(self, port: int) -> Deferred[dict[str, Any]]:
        return succeed(self._say("close_port", {"port": port}, port))

    def reload(self) -> Deferred[dict[str, Any]]:
        return succeed(self._say("reload", {"changed": []}))

    def drain(self, stop: bool) -> Deferred[dict[str, Any]]:
        return succeed(self._say("drain", {"drained": True}, stop))

    def upstreams(self) -> list[dict[str, Any]]:
        return self._say("upstreams", [])

    def enable_upstream(self, id: str, enabled: bool) -> dict[str, Any]:
        return self._say("enable_upstream", {"id": id, "enabled": enabled}, id, enabled)
