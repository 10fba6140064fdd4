"""
Carries one exchange through its plan: attempt, gate, commit, relay, record.

An :class:`Exchange` is the sink of every upstream call it makes, one call at a time. Before *commit* a failure moves to
the next attempt and the client sees nothing of it (a stream that waits long gets keep-alive events); after commit
nothing is hidden. Plain callbacks, no timer of its own: this is the path every byte takes.

Where client and upstream speak one dialect the client's bytes go on, and the answer's come back; elsewhere
:mod:`mportrouter.crossing` joins the two.

Imports of its own floor: :mod:`mportrouter.reply`, the client's side of the same exchange; :mod:`mportrouter.walk`, the
way through the plan; :mod:`mportrouter.watch`, the clock of its limits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from .breaker import Refusal
from .crossing import Crossing, mended
from .dialects.known import DIALECTS
from .errors import Kind, RouterError, Verdict
from .interfaces import Ending, IAnswerReader, ICall, IDialect, Inexpressible, IPermit, IResponseSink, Look, Prepared
from .patience import deadlines
from .records import ExchangeRecord
from .reply import Reply, as_refusal, form, header_text, provider_error, rewritten
from .routing.plans import Plan
from .settings import ModeSettings, Timeouts
from .translator import Translator
from .verdicts import classify
from .walk import Walk
from .watch import Watch
from .web.http1 import Request

if TYPE_CHECKING:
    from .runtime import Runtime

#: Bytes of an error body that are kept: every provider's fits many times over.
ERROR_BODY_LIMIT = 1024 * 1024
#: Bytes that a port with ``commit: complete`` holds before it gives up holding.
HOLD_LIMIT = 32 * 1024 * 1024


@implementer(IResponseSink)
class Exchange(Walk):
    """
    One request and its answer.

    :param clock: tells the time, and waits before a second try.
    :param watch: looks after the limits.
    :param request: the client's request; its answer is written here.
    :param dialect: the client's.
    :param look: what routing saw of the body.
    :param plan: the attempts, in order.
    :param mode: the policy the plan was made under (its retries).
    :param runtime: the configuration that this exchange began under.
    :param record: filled and handed to ``done`` at the end.
    :param done: called once, when everything is over.
    :param hold: keep the answer until it is whole (``commit: complete``).
    :param ping_after: seconds of silence before the client of a stream gets a keep-alive.
    """

    # fmt: off
    __slots__ = (
        "_back", "_began", "_body", "_call", "_coded", "_collecting", "_committed", "_crossing", "_dialect", "_done",
        "_events", "_headers", "_held", "_held_size", "_hold", "_in_flight", "_last", "_limits", "_look", "_over",
        "_ping_after", "_prepared", "_reader", "_reply", "_request", "_status", "_stream", "_translator",
        "_waiting_since", "_watch",
    )
    # fmt: on

    def __init__(
        self,
        clock: IReactorTime,
        watch: Watch,
        request: Request,
        dialect: IDialect,
        look: Look,
        plan: Plan,
        mode: ModeSettings,
        runtime: Runtime,
        record: ExchangeRecord,
        done: Callable[[Exchange], None],
        hold: bool = False,
        ping_after: float = 10.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(clock, plan, mode, runtime, record, random)
        self._watch = watch
        self._request = request
        self._dialect = self._back = dialect
        self._look = look
        self._done = done
        self._hold = hold
        self._ping_after = ping_after
        fields = [(b"x-mportrouter-mode", header_text(mode.name))]
        if plan.decision:
            fields.append((b"x-mportrouter-decision", header_text(plan.decision)))
        #: The client reads events; an array of them is one JSON text, into which no event of ours may come.
        self._events = look.stream and not look.rewrite
        self._reply = Reply(request, dialect, record.request_id, fields, self._events)
        self._began = self._last = self._sent = self._waiting_since = clock.seconds()
        self._status = self._held_size = 0
        self._prepared: Prepared | None = None
        self._crossing: Crossing | None = None
        self._call: ICall | None = None
        self._reader: IAnswerReader | None = None
        self._translator: Translator | None = None
        self._limits: Timeouts
        self._held: list[bytes] = []
        self._body = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_flight = self._collecting = self._stream = self._coded = self._committed = self._over = False

    # ------------------------------------------------------------------------------------------- the plan's walk

    def start(self) -> None:
        """Begin with the plan's first attempt. Everything else happens in callbacks."""
        self._request.on_gone = self._gone
        self._watch.add(self)
        self._advance()

    def _forget(self) -> None:
        self._prepared = None

    def _ask(self, permit: IPermit) -> bool:
        upstream = self._upstream
        self._reader = self._translator = None
        self._collecting = False
        self._held = []
        self._held_size = 0
        self._attempts = serial = self._attempts + 1
        attempt = self._attempt
        self._limits = upstream.settings.timeouts if attempt is None or attempt.timeouts is None else attempt.timeouts
        self._sent = self._clock.seconds()
        try:
            if self._prepared is None:
                self._prepared = self._prepare()
            call = self._send(self._prepared)
        except Inexpressible as error:
            self._attempts -= 1
            permit.release()
            self._permit = None
            self._refused = error
            return False
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody else would ever answer the client
            self._attempts -= not self._in_flight  # nobody was asked
            self._release_call()
            permit.release()
            self._permit = None
            self._refuse(as_refusal(error))
            return True
        if self._attempts == serial and self._in_flight:
            self._call = call
        return True

    def _prepare(self) -> Prepared:
        """The request for the current upstream, in its dialect."""
        attempt = self._attempt
        assert attempt is not None
        target = self._runtime.target(attempt)
        name = self._upstream.settings.dialect
        if name == self._dialect.name:
            self._back = self._dialect
            return self._dialect.prepare(self._request.body, self._look, target)
        self._back = DIALECTS[name]
        return self._cross().write(self._back, target)

    def _cross(self) -> Crossing:
        if self._crossing is None:
            record = self.record
            self._crossing = Crossing(self._dialect, self._request.body, self._look, record.request_id, record.at)
        return self._crossing

    def _send(self, prepared: Prepared) -> ICall:
        request, back, upstream = self._request, self._back, self._upstream
        self._in_flight = True
        upstream.in_flight += 1
        path, query, translated = prepared.path or back.path, prepared.query, back is not self._dialect
        if not prepared.path and self._attempt is not None and self._attempt.path:
            path = self._attempt.path.encode()
        if query is None:
            query = b"" if translated else request.query
        call: ICall = upstream.send(b"POST", path, query, request.headers, prepared.body, self, translated=translated)
        return call

    def _release_call(self) -> None:
        """The upstream call is over, or is ended here and now."""
        self._call = None
        if self._in_flight:
            self._in_flight = False
            self._upstream.in_flight -= 1

    def _abort_call(self) -> None:
        call = self._call
        self._release_call()
        if call is not None:
            call.abort()

    def _failed(self, verdict: Verdict) -> None:
        self._reader = None  # it is finished, and must not be so again where the client leaves in the pause
        super()._failed(verdict)

    # ------------------------------------------------------------------------------------------- the sink

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        self._headers = headers
        if not 200 <= status < 300:
            self._collecting = True
            return
        attempt, prepared = self._attempt, self._prepared
        assert attempt is not None and prepared is not None
        self._stream, encoding = form(headers)
        if self._learns or self._place is not None:
            now = self._clock.seconds()
            epoch = self.record.at + now - self._began
            self._upstream.allowance.learn(headers, now, epoch, attempt.model)
        look, target = self._look, self._runtime.target(attempt)
        if self._back is self._dialect and self._stream == look.stream and not look.rewrite:
            self._coded = encoding != b""
            self._reader = self._dialect.reader(self._stream, encoding, target)
            return
        estimate = self._runtime.estimate(attempt, look.size)
        try:
            translator = self._cross().reader(self._back, target, prepared, self._stream, encoding, estimate)
        except Exception as error:  # noqa: BLE001 - the client must hear of it, whatever it was
            self._end_broken(as_refusal(error))
            return
        self._reader = self._translator = translator
        self._headers = rewritten(headers, translator.content_type, look.stream)
        self._stream, self._coded = look.stream, False

    def data(self, data: bytes, last: bool = False) -> None:
        self._last = self._clock.seconds()
        reader = self._reader
        if reader is None:
            if self._held_size < ERROR_BODY_LIMIT:
                self._held.append(data)
                self._held_size += len(data)
            return
        out = reader.feed(data)
        if self._committed and not last:
            if out:
                self._waiting_since = self._last
                self._request.write(out)
            return
        if out:
            self._held.append(out)
            self._held_size += len(out)
        if last:
            return  # the end comes next and takes all in one write
        state = reader.state
        if state == "content":
            # A JSON answer gets here only when it has grown too large to hold; a stream, at its first content.
            if self._reply.begun and self._coded:
                self._abort_call()
                self._failed(Verdict(Kind.GARBAGE, "a coded answer to a stream under way", status=self._status))
            elif not self._hold or self._held_size > HOLD_LIMIT:
                self._commit()
        elif state == "error":
            self._abort_call()
            self._failed(reader.verdict)

    def end(self, failure: Exception | None) -> None:
        self._release_call()
        verdict: Verdict | None = getattr(failure, "verdict", None)
        if failure is not None and verdict is None:
            verdict = Verdict(Kind.NETWORK, str(failure) or type(failure).__name__, retry_same=True)
        if self._committed:
            self._end_committed(verdict)
        elif self._collecting and (verdict is None or self._held):
            self._body = b"".join(self._held)
            verdict = classify(self._status, self._headers, self._body, self.record.at)
            if not (verdict.kind is Kind.BAD_REQUEST and self._mend()):
                self._failed(verdict)
        elif verdict is not None or self._reader is None:
            self._collecting = False
            self._failed(verdict or Verdict(Kind.GARBAGE, "the upstream ended without an answer", retry_same=True))
        else:
            self._end_held(self._reader)

    def _mend(self) -> bool:
        """Ask once more without what the upstream refused and the request can do without; ``False``: there is none."""
        assert self._prepared is not None and self._permit is not None
        better = mended(self._back, self._prepared, self._body)
        if better is None:
            return False
        self._prepared = better
        self._permit.success()  # it answered
        if not self._try():
            self._advance()
        return True

    def _end_held(self, reader: IAnswerReader) -> None:
        """The whole answer is here and nothing of it has gone out."""
        rest, ending = reader.finish()
        if rest:
            self._held.append(rest)
        trouble = reader.verdict if reader.state == "error" else ending.error
        if trouble is None and self._reply.begun and self._coded:
            trouble = Verdict(Kind.GARBAGE, "a coded answer to a stream under way", status=self._status)
        if trouble is None and not ending.complete:
            trouble = Verdict(Kind.CUT, "the answer ended before it was whole", retry_same=True, status=self._status)
        if trouble is not None:
            self._failed(trouble)
            return
        self._succeed()
        self._reply.whole(self._status, self._headers, self._about(), b"".join(self._held))
        self._finish("ok", ending)

    # ------------------------------------------------------------------------------------------- commit and after

    def _succeed(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.success()
        self.record.first_milliseconds = (self._clock.seconds() - self._began) * 1000.0

    def _about(self) -> list[tuple[bytes, bytes]]:
        """The fields that tell how this answer came about."""
        fields = [(b"x-mportrouter-attempts", b"%d" % self._attempts)]
        if self._attempt is not None:
            fields.append((b"x-mportrouter-upstream", header_text(self._attempt.upstream)))
        if self._prepared is not None and self._prepared.dropped:
            fields.append((b"x-mportrouter-dropped", header_text(", ".join(self._prepared.dropped))))
        return fields

    def _commit(self) -> None:
        """The first content is here: from now on everything goes to the client as it comes."""
        self._succeed()
        self._committed = True
        held, self._held = b"".join(self._held), []
        self._reply.begin(self._status, self._headers, self._about(), held)
        call = self._call
        if call is not None:
            self._request.throttle(call.transport)

    def _end_committed(self, verdict: Verdict | None) -> None:
        reader = self._reader
        assert reader is not None
        rest, ending = reader.finish()
        rest = b"".join(self._held) + rest
        if ending.error is not None:
            # The provider's own error event is among the bytes: it is the client's notice.
            self._blame(ending.error)
            self._request.finish(rest)
            self._finish("cut", ending, ending.error.message)
        elif ending.complete and (verdict is None or self._stream):
            # After a stream's own end nothing is missing, however the way there ended.
            self._request.finish(rest)
            self._finish("ok", ending)
        else:
            unfinished = Verdict(Kind.CUT, "the stream ended without its final event", retry_same=True)
            self._cut(verdict or unfinished, rest, ending)

    def _cut(self, verdict: Verdict, rest: bytes, ending: Ending) -> None:
        """Show the client that the answer is broken."""
        self._blame(verdict)
        assert self._attempt is not None
        kind = Kind.TIMEOUT if verdict.kind is Kind.TIMEOUT else Kind.CUT
        words = f"the answer of {self._attempt.upstream} broke off: {verdict.message}. What came is not the whole."
        error = RouterError(kind, words)
        broken = getattr(self._reader, "broken", None)  # of readers that know how their dialect goes on from here
        self._reply.cut(error, rest, self._stream and not self._coded, broken and broken(error))
        self._finish("cut", ending, verdict.message)

    def _blame(self, verdict: Verdict) -> None:
        """Tell the circuit of a failure after commit, when the attempt's own permit is settled."""
        assert self._attempt is not None
        self._note(verdict)
        permit = self._upstream.circuit.permit(self._attempt.model)
        if type(permit) is not Refusal:
            permit.failure(verdict)

    # ------------------------------------------------------------------------------------------- ends without an answer

    def _give_up(self, verdict: Verdict) -> None:
        """The last failure is what the client gets: the provider's own answer, where there is one it can read."""
        assert self._attempt is not None
        if verdict.status is not None and self._collecting and not self._reply.begun and self._back is self._dialect:
            self._reply.whole(self._status, self._headers, self._about(), self._body)
            self._finish("error", None, verdict.message)
        else:
            self._refuse(provider_error(self._attempt.upstream, verdict, self._back is not self._dialect))

    def _end_broken(self, error: RouterError) -> None:
        """The router itself cannot go on with an answer that has begun to come."""
        self._abort_call()
        if self._permit is not None:
            self._permit.release()
            self._permit = None
        self._refuse(error)

    def _refuse(self, error: RouterError) -> None:
        """Answer with an error of the router's own."""
        self._status = self._reply.refuse(error, self._about())
        self._finish("error", None, error.message)

    def _gone(self) -> None:
        """The client has left: stop the spending now."""
        if self._over:
            return
        self._abort_call()
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()
        reader = self._reader
        self._finish("gone", reader.finish()[1] if reader is not None else None, "the client left")

    def _finish(self, outcome: str, ending: Ending | None, error: str = "") -> None:
        if self._over:
            return
        self._over = True
        self._watch.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._free_place()
        self._request.on_gone = None
        record = self.record
        record.outcome = outcome
        record.error = error
        record.attempts = self._attempts
        record.status = self._status
        attempt, upstream = self._attempt, self._upstream
        if attempt is not None and upstream is not None:
            record.upstream = attempt.upstream
            record.provider = upstream.provider_name
            record.model = attempt.model
        if ending is not None:
            record.usage = usage = ending.usage
            if usage is not None and usage.estimated and not usage.prompt and attempt is not None:
                usage.input = self._runtime.estimate(attempt, self._look.size)
            if self._place is not None:
                self._settle_place(None if usage is None else usage.prompt - usage.cache_read + usage.output)
        if self._prepared is not None:
            record.dropped = self._prepared.dropped
        record.milliseconds = (self._clock.seconds() - self._began) * 1000.0
        self._done(self)

    # ------------------------------------------------------------------------------------------- time

    def tick(self, now: float) -> None:
        """See whether a limit has passed, or the client has waited for long (:class:`mportrouter.watch.Watched`)."""
        call = self._call
        if call is not None:
            reader = self._reader
            if call.paused:
                self._last = now  # the client is the slow one, not the upstream
            for moment, what in deadlines(
                self._limits,
                self._sent,
                self._last,
                streamed=self._look.stream,
                begun=reader is not None or self._collecting,
                waiting=not self._committed and (reader is None or reader.state == "hold"),
            ):
                if now >= moment:
                    self._timed_out(Verdict(Kind.TIMEOUT, what, retry_same=True))
                    return
        elif self._timer is None:
            self._broke()
            return
        # After commit only what the router writes itself is sure to stand between two events.
        if (
            self._events
            and (not self._committed or self._translator is not None)
            and now >= self._waiting_since + self._ping_after
        ):
            self._waiting_since = now
            self._reply.ping([])

    def _broke(self) -> None:
        """Nothing is under way: a step broke inside the router (its log says how), and nobody else ends this."""
        if self._permit is not None:
            self._permit.release()
        if self._committed or (self._request.started and not self._reply.begun):
            self._request.abort()
            self._finish("cut", None, "the router itself failed")
        else:
            self._refuse(RouterError(Kind.INTERNAL, "the router itself failed at this request; its log says how"))

    def _timed_out(self, verdict: Verdict) -> None:
        self._abort_call()
        if self._committed:
            self._end_committed(verdict)
        else:
            self._collecting = False
            self._failed(verdict)
