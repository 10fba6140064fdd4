"""Tests of :mod:`mportrouter.relay`: the walk through a plan, as the client and as the upstreams see it."""

from __future__ import annotations

import gzip

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..breaker import Refusal
from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind
from ..interfaces import IResponseSink, Look, Prepared, Target
from ..settings import Limits
from ..testing import Chunk, End, Head, canned_error, canned_message
from .relayed import JSON, SSE, Relayed, broken, error, whole


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


class OwnMistakes(SynchronousTestCase):
    """Something breaks inside the router: the client gets an answer, and nothing stays counted or held."""

    def break_prepare(self, *broken: int) -> None:
        """Let the preparing of the body break at these times."""
        prepare = AnthropicDialect.prepare
        times: list[int] = []

        def prepare_or_break(dialect: AnthropicDialect, body: bytes, look: Look, target: Target) -> Prepared:
            times.append(1)
            if len(times) in broken:
                raise RecursionError
            return prepare(dialect, body, look, target)

        self.patch(AnthropicDialect, "prepare", prepare_or_break)

    def assertOver(self, relayed: Relayed) -> None:
        self.assertEqual(relayed.record.outcome, "error")
        for upstream in relayed.upstreams.values():
            self.assertEqual(upstream.in_flight, 0)
            self.assertNotIn(None, [permit.settled for permit in upstream.circuit.permits])

    def test_first_body(self) -> None:
        """A body that cannot be made ready for the first upstream ends in an error."""
        self.break_prepare(1)
        relayed = Relayed({"a": [whole()]}).run()
        self.assertEqual(relayed.status, 500)
        self.assertOver(relayed)
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)

    def test_later_body(self) -> None:
        """So does one that cannot be made ready for the fallback, when nobody waits on the stack any more."""
        self.break_prepare(2)
        relayed = Relayed({"a": [error(500)], "b": [whole()]}).run()
        self.assertEqual(relayed.status, 500)
        self.assertOver(relayed)
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)

    def test_nothing_under_way(self) -> None:
        """An exchange whose next step broke is ended by the watch."""
        relayed = Relayed({"a": [[Head(200, JSON)]]}).run()
        exchange = relayed.exchange
        assert exchange is not None
        exchange._release_call()  # as where the end of the call has raised
        relayed.run(0.25)
        self.assertEqual(relayed.status, 500)
        self.assertOver(relayed)

    def test_gone_in_the_pause(self) -> None:
        """A client that leaves before the second try ends everything, whatever the first answer's reader was."""
        packed = gzip.compress(b"event: ping\ndata: {}\n\n")
        coded = (*SSE, (b"content-encoding", b"gzip"))
        relayed = Relayed({"a": [[Head(200, coded), Chunk(packed), End()]]}, streamed=True, retries=1, signer="minimax")
        relayed.run(0.25)
        self.assertEqual(relayed.asked(), {"a": 1})
        relayed.transport.loseConnection()
        relayed.run()
        self.assertEqual((relayed.asked(), relayed.record.outcome, relayed.record.usage), ({"a": 1}, "gone", None))
