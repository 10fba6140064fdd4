"""Tests of :mod:`mportrouter.relay`: the walk through a plan, as the client and as the upstreams see it."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..breaker import Refusal
from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind, Verdict
from ..interfaces import IResponseSink, Target
from ..records import ExchangeRecord
from ..relay import Exchange
from ..routing.plans import Attempt, Plan
from ..settings import Capabilities, FrontSettings, Limits, ModeSettings, Timeouts, UpstreamSettings
from ..testing import (
    Chunk,
    End,
    Head,
    MemoryUpstream,
    Wait,
    canned_error,
    canned_error_event,
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
    ) -> None:
        self.clock = Clock()
        self.upstreams = {}
        for id, each in scripts.items():
            settings = UpstreamSettings(
                id=id, provider=id, timeouts=timeouts or Timeouts(), limits=limits or Limits(), base_url="https://x.invalid"
            )
            self.upstreams[id] = MemoryUpstream(self.clock, id, each, settings)
        for id, refusal in (refusals or {}).items():
            self.upstreams[id].circuit.refusal = refusal
        self.mode = ModeSettings(
            "mixed", "fallback", tuple(scripts), retries=retries, retry_timeouts=retry_timeouts, retry_delay=0.5
        )
        self.contexts = contexts or {}
        self.hold = hold
        self.capabilities = Capabilities(strip_fields=("metadata",)) if dropped else Capabilities()
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
            }
        ).encode()
        self.channel.dataReceived(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: localhost\r\nx-api-key: client\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(self.body), self.body)
        )

    def _aborted(self) -> None:
        self.aborted = True

    def _handle(self, request: Any) -> None:
        dialect = AnthropicDialect()
        plan = Plan(tuple(Attempt(id, f"{id}-model") for id in self.upstreams), "because")
        self.exchange = Exchange(
            self.clock,
            Watch(self.clock),
            request,
            dialect,
            dialect.look(request.body),
            plan,
            self.mode,
            self.upstreams,
            lambda attempt: Target("anthropic", "claude-sonnet-5-5", self.capabilities),
            lambda attempt: self.contexts.get(attempt.upstream),
            ExchangeRecord(at=1000.0, request_id="req_test"),
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


class WholeAnswers(SynchronousTestCase):
    """Answers that are not streamed."""

    def test_sink(self) -> None:
        """An exchange is the sink of its calls."""
        relayed = Relayed({"a": [whole()]})
        self.assertTrue(verifyObject(IResponseSink, relayed.exchange))

    def test_untouched(self) -> None:
        """A good answer passes with its own bytes, status and fields; the request's bytes are the client's."""
        body = canned_message("odd   spacing")
        relayed = Relayed({"a": [whole(body, (*JSON, (b"request-id", b"req_up"), (b"set-cookie", b"x=1")))]}).run()
        self.assertEqual(relayed.status, 200)
        self.assertEqual(relayed.content, body)
        self.assertEqual(relayed.header("request-id"), "req_up")
        self.assertIsNone(relayed.header("set-cookie"))
        sent = relayed.upstreams["a"].requests[0]
        self.assertEqual(sent.body, relayed.body)
        self.assertEqual((sent.method, sent.path, sent.query), (b"POST", b"/v1/messages", b"beta=true"))

    def test_own_fields(self) -> None:
        """The answer says which upstream served, in which mode, after how many attempts and why."""
        relayed = Relayed({"a": [error(500)], "b": [whole()]}).run()
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")
        self.assertEqual(relayed.header("x-mportrouter-mode"), "mixed")
        self.assertEqual(relayed.header("x-mportrouter-attempts"), "2")
        self.assertEqual(relayed.header("x-mportrouter-decision"), "because")
        self.assertIsNone(relayed.header("x-mportrouter-dropped"))

    def test_dropped(self) -> None:
        """What had to be left out for an upstream is named."""
        relayed = Relayed({"a": [whole()]}, dropped=True).run()
        self.assertEqual(relayed.header("x-mportrouter-dropped"), "metadata")
        self.assertNotIn("metadata", relayed.upstreams["a"].requests[0].json)

    def test_record(self) -> None:
        """The record holds usage, times, the upstream and every failed attempt."""
        relayed = Relayed({"a": [error(529, "overloaded_error", "Overloaded")], "b": [whole()]}).run()
        record = relayed.record
        self.assertEqual((record.outcome, record.upstream, record.model, record.status), ("ok", "b", "b-model", 200))
        assert record.usage is not None
        self.assertEqual((record.usage.input, record.usage.output), (10, 5))
        failed = [(each.upstream, each.kind, each.status) for each in record.failed]
        self.assertEqual(failed, [("a", "overloaded", 529)])
        self.assertEqual(relayed.upstreams["a"].in_flight, 0)
        self.assertEqual(relayed.upstreams["b"].in_flight, 0)

    def test_permits(self) -> None:
        """Each attempt's permit is settled once, with what happened."""
        relayed = Relayed({"a": [error(500)], "b": [whole()]}).run()
        (failed,) = relayed.upstreams["a"].circuit.permits
        (good,) = relayed.upstreams["b"].circuit.permits
        self.assertEqual(failed.settled.kind, Kind.UPSTREAM)
        self.assertEqual(good.settled, "success")

    def test_empty(self) -> None:
        """A 200 with an empty body is a failure."""
        relayed = Relayed({"a": [whole(b"")], "b": [whole()]}).run()
        self.assertEqual((relayed.status, relayed.header("x-mportrouter-upstream")), (200, "b"))

    def test_html(self) -> None:
        """A 200 with a web page is a failure."""
        page = whole(b"<html><body>hi</body></html>", ((b"content-type", b"text/html"),))
        self.assertEqual(Relayed({"a": [page], "b": [whole()]}).run().header("x-mportrouter-upstream"), "b")

    def test_error_in_200(self) -> None:
        """A 200 that holds an error object is a failure."""
        relayed = Relayed({"a": [whole(canned_error())], "b": [whole()]}).run()
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")

    def test_base_resp(self) -> None:
        """MiniMax's error inside a 200 is a failure; a lack of money is not tried again."""
        body = b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}'
        relayed = Relayed({"a": [whole(body)], "b": [whole()]}, retries=1).run()
        self.assertEqual(relayed.asked(), {"a": 1, "b": 1})
        self.assertEqual(relayed.record.failed[0].kind, "money")

    def test_cut(self) -> None:
        """A body that breaks off is a failure, not a short answer."""
        cut = [Head(200, JSON), Chunk(canned_message()[:40]), broken(Kind.CUT, "premature end")]
        relayed = Relayed({"a": [cut], "b": [whole()]}).run()
        self.assertEqual((relayed.header("x-mportrouter-upstream"), relayed.content), ("b", canned_message()))


class Failures(SynchronousTestCase):
    """What moves on, what is tried again, and what is the client's."""

    def test_clients_fault(self) -> None:
        """A 400 goes to the client with the provider's own bytes; nobody else is asked."""
        wrong = error(400, "invalid_request_error", "max_tokens: required")
        relayed = Relayed({"a": [wrong], "b": [whole()]}, retries=1).run()
        self.assertEqual(relayed.status, 400)
        self.assertEqual(relayed.content, canned_error("invalid_request_error", "max_tokens: required"))
        self.assertEqual(relayed.asked(), {"a": 1, "b": 0})

    def test_retry(self) -> None:
        """A server error is tried once more at the same upstream, after a short wait."""
        relayed = Relayed({"a": [error(500), whole()], "b": [whole()]}, retries=1)
        relayed.run(0.25)
        self.assertEqual(relayed.asked(), {"a": 1, "b": 0})
        relayed.run(1.0)
        self.assertEqual(relayed.asked(), {"a": 2, "b": 0})
        self.assertEqual(relayed.header("x-mportrouter-attempts"), "2")

    def test_retry_then_next(self) -> None:
        """After the second failure the next upstream is asked."""
        relayed = Relayed({"a": [error(503)], "b": [whole()]}, retries=1).run()
        self.assertEqual(relayed.asked(), {"a": 2, "b": 1})
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")

    def test_rate_limit_moves_on(self) -> None:
        """A 429 that says how long to wait moves on at once."""
        limited = error(429, "rate_limit_error", "slow", [(b"retry-after", b"2")])
        relayed = Relayed({"a": [limited], "b": [whole()]}, retries=1).run(0.25)
        self.assertEqual(relayed.asked(), {"a": 1, "b": 1})

    def test_bad_key(self) -> None:
        """A bad key takes the account out; the next upstream answers."""
        relayed = Relayed({"a": [error(401, "authentication_error", "invalid x-api-key")], "b": [whole()]}, retries=1)
        relayed.run()
        self.assertEqual(relayed.asked(), {"a": 1, "b": 1})
        self.assertTrue(relayed.upstreams["a"].circuit.permits[0].settled.account)

    def test_refused_connection(self) -> None:
        """A connection that cannot be made is tried again, then the next upstream."""
        relayed = Relayed({"a": [[broken()]], "b": [whole()]}, retries=1).run()
        self.assertEqual(relayed.asked(), {"a": 2, "b": 1})

    def test_sole_upstream_keeps_its_words(self) -> None:
        """With nowhere to go the client gets the provider's own error, advice included."""
        limited = error(429, "rate_limit_error", "slow down", [(b"retry-after", b"7"), (b"x-should-retry", b"true")])
        relayed = Relayed({"a": [limited]}).run()
        self.assertEqual((relayed.status, relayed.header("retry-after")), (429, "7"))
        self.assertEqual(relayed.header("x-should-retry"), "true")
        self.assertIn("slow down", relayed.message)

    def test_sole_upstream_without_words(self) -> None:
        """Where the only upstream said nothing, the router's error names it and the trouble."""
        relayed = Relayed({"a": [[broken()]]}).run()
        self.assertEqual(relayed.status, 502)
        self.assertIn("a failed: connection refused", relayed.message)
        self.assertTrue(relayed.message.startswith("mportrouter"))

    def test_both_fail(self) -> None:
        """When every upstream fails, one 503 with Retry-After names each with its reason."""
        relayed = Relayed({"a": [error(500, "api_error", "kaput")], "b": [[broken()]]}).run()
        self.assertEqual(relayed.status, 503)
        self.assertIsNotNone(relayed.header("retry-after"))
        self.assertIn("a: kaput (HTTP 500)", relayed.message)
        self.assertIn("b: connection refused", relayed.message)
        self.assertEqual(relayed.record.outcome, "error")

    def test_fault_at_the_fallback(self) -> None:
        """A 400 of the fallback is the client's, with the fallback's own words."""
        relayed = Relayed({"a": [error(500)], "b": [error(400, "invalid_request_error", "bad tool")]}).run()
        self.assertEqual(relayed.status, 400)
        self.assertIn("bad tool", relayed.message)

    def test_context_moves_to_larger(self) -> None:
        """A prompt too long for one model moves on only to a model that takes more."""
        scripts = {
            "a": [error(400, "invalid_request_error", "prompt is too long: 9 tokens > 5 maximum")],
            "small": [whole()],
            "large": [whole()],
        }
        relayed = Relayed(scripts, contexts={"a": 100, "small": 100, "large": 1000}).run()
        self.assertEqual(relayed.asked(), {"a": 1, "small": 0, "large": 1})

    def test_context_stays(self) -> None:
        """A prompt too long for every model keeps the provider's words, which clients match."""
        scripts = {"a": [error(400, "invalid_request_error", "prompt is too long: 9 > 5")], "b": [whole()]}
        relayed = Relayed(scripts, contexts={"a": 100, "b": 100}).run()
        self.assertEqual((relayed.status, relayed.asked()), (400, {"a": 1, "b": 0}))
        self.assertIn("prompt is too long", relayed.message)

    def test_open_circuit_is_skipped(self) -> None:
        """An upstream whose circuit is open is not asked."""
        refusal = Refusal("circuit open", 12.0, Kind.UNAVAILABLE)
        relayed = Relayed({"a": [whole()], "b": [whole()]}, refusals={"a": refusal}).run()
        self.assertEqual(relayed.asked(), {"a": 0, "b": 1})

    def test_all_circuits_open(self) -> None:
        """With every circuit open the answer is an immediate 503 whose Retry-After is the soonest return."""
        refusals = {"a": Refusal("circuit open", 12.0, Kind.UNAVAILABLE), "b": Refusal("no money", 900.0, Kind.MONEY)}
        relayed = Relayed({"a": [whole()], "b": [whole()]}, refusals=refusals).run(0)
        self.assertEqual((relayed.status, relayed.header("retry-after")), (503, "12"))
        self.assertIn("a: circuit open", relayed.message)
        self.assertIn("b: no money", relayed.message)

    def test_concurrency(self) -> None:
        """An upstream whose places are taken is passed over."""
        relayed = Relayed({"a": [whole()], "b": [whole()]}, limits=Limits(concurrency=0)).run(0)
        self.assertEqual((relayed.status, relayed.asked()), (503, {"a": 0, "b": 0}))

    def test_budget(self) -> None:
        """One exchange makes at most six attempts, whatever is configured."""
        relayed = Relayed({"a": [error(500)], "b": [error(500)], "c": [error(500)]}, retries=5).run(20)
        self.assertEqual(relayed.asked(), {"a": 6, "b": 0, "c": 0})
        self.assertEqual(relayed.status, 500)


class Streams(SynchronousTestCase):
    """Streamed answers: gate, commit, ends."""

    def test_bytes(self) -> None:
        """A stream passes byte for byte."""
        relayed = Relayed({"a": [stream(*EVENTS, End())]}, streamed=True).run()
        self.assertEqual(relayed.content, b"".join(EVENTS))
        self.assertTrue(relayed.ended)
        self.assertEqual(relayed.record.outcome, "ok")

    def test_gate(self) -> None:
        """Nothing reaches the client before the first content-bearing event."""
        script = stream(EVENTS[0], EVENTS[1], Wait(3), *EVENTS[2:], End())
        relayed = Relayed({"a": [script]}, streamed=True).run(2)
        self.assertEqual(relayed.transport.value(), b"")
        relayed.run(3)
        self.assertEqual(relayed.content, b"".join(EVENTS))

    def test_error_event_in_the_gate(self) -> None:
        """An error event before content fails over unseen."""
        script = stream(EVENTS[0], canned_error_event(), End())
        relayed = Relayed({"a": [script], "b": [stream(*EVENTS, End())]}, streamed=True).run()
        self.assertEqual(relayed.content, b"".join(EVENTS))
        self.assertEqual(relayed.record.failed[0].kind, "overloaded")

    def test_error_event_after_content(self) -> None:
        """An error event after content passes, and the exchange counts as cut."""
        script = stream(*EVENTS[:4], canned_error_event(), End())
        relayed = Relayed({"a": [script], "b": [stream(*EVENTS, End())]}, streamed=True).run()
        self.assertEqual(relayed.content, b"".join(EVENTS[:4]) + canned_error_event())
        self.assertEqual((relayed.record.outcome, relayed.asked()), ("cut", {"a": 1, "b": 0}))

    def test_cut_after_content(self) -> None:
        """A stream that breaks after content ends in an error event, and no other upstream is asked."""
        script = stream(*EVENTS[:5], broken(Kind.CUT, "reset"))
        relayed = Relayed({"a": [script], "b": [stream(*EVENTS, End())]}, streamed=True).run()
        self.assertTrue(relayed.content.startswith(b"".join(EVENTS[:5])))
        self.assertIn(b"event: error", relayed.content)
        self.assertNotIn(b"message_stop", relayed.content)
        self.assertEqual((relayed.record.outcome, relayed.asked()), ("cut", {"a": 1, "b": 0}))

    def test_clean_end_without_terminal_event(self) -> None:
        """A stream that just ends is shown as broken, never as whole."""
        relayed = Relayed({"a": [stream(*EVENTS[:6], End())]}, streamed=True).run()
        self.assertIn(b"event: error", relayed.content)
        self.assertEqual(relayed.record.outcome, "cut")

    def test_cut_blames_the_upstream(self) -> None:
        """A cut after commit still counts at the circuit."""
        relayed = Relayed({"a": [stream(*EVENTS[:5], broken(Kind.CUT, "reset"))]}, streamed=True).run()
        settled = [permit.settled for permit in relayed.upstreams["a"].circuit.permits]
        self.assertEqual(settled[0], "success")
        self.assertEqual(settled[1].kind, Kind.CUT)

    def test_complete_holds(self) -> None:
        """With ``commit: complete`` a cut stream starts again elsewhere unseen."""
        scripts = {"a": [stream(*EVENTS[:5], broken(Kind.CUT, "reset"))], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, hold=True).run()
        self.assertEqual(relayed.content, b"".join(EVENTS))
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")

    def test_complete_pings(self) -> None:
        """While a whole answer is held the client gets keep-alive events, then the answer."""
        script = stream(*EVENTS[:4], Wait(25), *EVENTS[4:], End())
        relayed = Relayed({"a": [script]}, streamed=True, hold=True).run(40)
        self.assertEqual(relayed.content.count(b"event: ping"), 2 + b"".join(EVENTS).count(b"event: ping"))
        self.assertTrue(relayed.content.endswith(b"".join(EVENTS)))
        self.assertTrue(relayed.ended)

    def test_json_instead(self) -> None:
        """A JSON answer to a request for a stream passes as the JSON it is."""
        relayed = Relayed({"a": [whole()]}, streamed=True).run()
        self.assertEqual((relayed.header("content-type"), relayed.content), ("application/json", canned_message()))

    def test_throttle(self) -> None:
        """A client that does not read stops the upstream's reading."""
        relayed = Relayed({"a": [stream(*EVENTS[:4], Wait(1), *EVENTS[4:], End())]}, streamed=True).run(0.25)
        relayed.channel.pauseProducing()
        relayed.run(3)
        transport = relayed.upstreams["a"].requests[0].call.transport
        self.assertEqual(transport.pauses, 1)
        self.assertNotIn(b"message_stop", relayed.content)
        relayed.channel.resumeProducing()
        relayed.run(1)
        self.assertIn(b"message_stop", relayed.content)


class Time(SynchronousTestCase):
    """Limits and keep-alives."""

    LIMITS = Timeouts(head=3.0, first_content=5.0, answer=8.0, idle=6.0)

    def test_silent(self) -> None:
        """An upstream that says nothing is given up after the head limit; the call is aborted."""
        scripts = {"a": [[Wait(99)]], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, timeouts=self.LIMITS).run(4)
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")
        self.assertTrue(relayed.upstreams["a"].requests[0].call.aborted)
        self.assertEqual(relayed.record.failed[0].kind, "timeout")

    def test_silent_is_asked_again(self) -> None:
        """With a retry the silent upstream is asked once more."""
        scripts = {"a": [[Wait(99)]], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, timeouts=self.LIMITS, retries=1).run(12)
        self.assertEqual(relayed.asked(), {"a": 2, "b": 1})

    def test_silent_is_not_asked_again(self) -> None:
        """With ``retry_timeouts: false`` it is asked once."""
        scripts = {"a": [[Wait(99)]], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, timeouts=self.LIMITS, retries=1, retry_timeouts=False).run(12)
        self.assertEqual(relayed.asked(), {"a": 1, "b": 1})

    def test_no_content(self) -> None:
        """A head without content is given up after the first-content limit."""
        scripts = {"a": [stream(EVENTS[0], Wait(99))], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, timeouts=self.LIMITS).run(4.5)
        self.assertEqual(relayed.asked()["b"], 0)
        relayed.run(1)
        self.assertEqual(relayed.header("x-mportrouter-upstream"), "b")

    def test_whole_answers_take_longer(self) -> None:
        """An answer that is not streamed has the answer limit, not the stream's."""
        relayed = Relayed({"a": [[Wait(7), *whole()]]}, timeouts=self.LIMITS).run(9)
        self.assertEqual(relayed.status, 200)

    def test_whole_answer_too_late(self) -> None:
        """Past it, the only upstream's silence is a 504 that names it."""
        relayed = Relayed({"a": [[Wait(99)]]}, timeouts=self.LIMITS).run(9)
        self.assertEqual(relayed.status, 504)
        self.assertIn("a failed: no answer within 8 s", relayed.message)

    def test_stall(self) -> None:
        """Silence after content ends in an error event within the idle limit."""
        relayed = Relayed({"a": [stream(*EVENTS[:5], Wait(99))]}, streamed=True, timeouts=self.LIMITS).run(7)
        self.assertIn(b"event: error", relayed.content)
        self.assertIn(b"timeout_error", relayed.content)
        self.assertTrue(relayed.upstreams["a"].requests[0].call.aborted)

    def test_slow_is_not_stalled(self) -> None:
        """Bytes that keep coming keep the idle limit away."""
        pieces: list[Any] = []
        for event in EVENTS:
            pieces += [event, Wait(3)]
        limits = attrs.evolve(self.LIMITS, first_content=20.0)
        relayed = Relayed({"a": [stream(*pieces, End())]}, streamed=True, timeouts=limits).run(60)
        self.assertEqual(relayed.content, b"".join(EVENTS))

    def test_total(self) -> None:
        """The total limit ends what is still under way."""
        pieces = [piece for event in EVENTS for piece in (event, Wait(4))]
        limits = attrs.evolve(self.LIMITS, first_content=20.0, total=14.0)
        relayed = Relayed({"a": [stream(*pieces, End())]}, streamed=True, timeouts=limits).run(15)
        self.assertIn(b"not finished within 14 s", relayed.content)

    def test_ping(self) -> None:
        """The client of a slow stream gets keep-alive events every ten seconds, then the answer."""
        limits = Timeouts(head=None, first_content=None)
        relayed = Relayed({"a": [[Wait(25), *stream(*EVENTS, End())]]}, streamed=True, timeouts=limits).run(9)
        self.assertEqual(relayed.transport.value(), b"")
        relayed.run(2)
        self.assertEqual((relayed.status, relayed.content), (200, AnthropicDialect.ping))
        relayed.run(30)
        self.assertEqual(relayed.content, AnthropicDialect.ping * 2 + b"".join(EVENTS))
        self.assertTrue(relayed.ended)

    def test_failover_after_ping(self) -> None:
        """After a keep-alive a failure can still move on."""
        limits = Timeouts(head=None, first_content=None)
        scripts = {"a": [[Wait(12), *error(500)]], "b": [stream(*EVENTS, End())]}
        relayed = Relayed(scripts, streamed=True, timeouts=limits).run(20)
        self.assertEqual(relayed.content, AnthropicDialect.ping + b"".join(EVENTS))

    def test_failure_after_ping(self) -> None:
        """After a keep-alive the last failure is an error event: the status is out already."""
        limits = Timeouts(head=None, first_content=None)
        relayed = Relayed({"a": [[Wait(12), *error(529, "overloaded_error", "busy")]]}, streamed=True, timeouts=limits)
        relayed.run(20)
        self.assertTrue(relayed.content.startswith(AnthropicDialect.ping + b"event: error"))
        self.assertIn(b"overloaded_error", relayed.content)
        self.assertTrue(relayed.ended)

    def test_no_timer_left(self) -> None:
        """A finished exchange leaves no timer of its own behind."""
        relayed = Relayed({"a": [whole()]}).run(0.5)
        relayed.channel.connectionLost()
        relayed.run(0.25)
        self.assertEqual(relayed.clock.getDelayedCalls(), [])


class Leaving(SynchronousTestCase):
    """The client leaves."""

    def leave(self, relayed: Relayed) -> None:
        relayed.channel.connectionLost()

    def test_before_the_head(self) -> None:
        """A client that leaves while the upstream is silent ends the call at once."""
        relayed = Relayed({"a": [[Wait(99)]], "b": [whole()]}).run(0.25)
        self.leave(relayed)
        self.assertTrue(relayed.upstreams["a"].requests[0].call.aborted)
        self.assertEqual((relayed.record.outcome, relayed.asked()["b"]), ("gone", 0))
        self.assertEqual(relayed.upstreams["a"].circuit.permits[0].settled, "release")
        relayed.run(0.25)
        self.assertEqual(relayed.clock.getDelayedCalls(), [])

    def test_in_the_gate(self) -> None:
        """So it does in the gate."""
        relayed = Relayed({"a": [stream(EVENTS[0], Wait(99))]}, streamed=True).run(0.25)
        self.leave(relayed)
        self.assertTrue(relayed.upstreams["a"].requests[0].call.aborted)

    def test_in_mid_stream(self) -> None:
        """In mid-stream too, and what was used so far is kept."""
        relayed = Relayed({"a": [stream(*EVENTS[:6], Wait(99))]}, streamed=True).run(0.25)
        self.leave(relayed)
        self.assertTrue(relayed.upstreams["a"].requests[0].call.aborted)
        record = relayed.record
        assert record.usage is not None
        self.assertEqual((record.outcome, record.usage.input), ("gone", 10))
        self.assertTrue(record.usage.estimated)

    def test_between_attempts(self) -> None:
        """While the router waits for a second try, no further request is sent."""
        relayed = Relayed({"a": [error(500)], "b": [whole()]}, retries=1).run(0.25)
        self.leave(relayed)
        relayed.run(5)
        self.assertEqual((relayed.asked(), relayed.record.outcome), ({"a": 1, "b": 0}, "gone"))
