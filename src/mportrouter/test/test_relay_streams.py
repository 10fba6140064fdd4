"""Tests of :mod:`mportrouter.relay`: streams, limits, and clients that leave."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ..dialects.anthropic import AnthropicDialect
from ..errors import Kind
from ..settings import Timeouts
from ..testing import End, Wait, canned_error_event, canned_message
from .relayed import EVENTS, Relayed, broken, error, stream, whole


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

    def test_no_terminal_event(self) -> None:
        """A stream that said why it stops and lacks only its last event is ended for it; nobody is to blame."""
        for last in (End(), broken(Kind.CUT, "reset"), Wait(99)):
            limits = Timeouts(head=3.0, first_content=5.0, idle=6.0)
            relayed = Relayed({"a": [stream(*EVENTS[:-1], last)]}, streamed=True, timeouts=limits).run(10)
            self.assertEqual(relayed.content, b"".join(EVENTS))
            self.assertEqual((relayed.record.outcome, relayed.record.failed), ("ok", []))

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
        """A JSON answer to a request for a stream becomes a stream with the same content."""
        relayed = Relayed({"a": [whole()], "b": [stream(*EVENTS, End())]}, streamed=True).run()
        self.assertEqual(relayed.header("content-type"), "text/event-stream; charset=utf-8")
        self.assertTrue(relayed.content.startswith(b"event: message_start\n"))
        self.assertIn(b'"hello there"', relayed.content)
        self.assertTrue(relayed.content.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n'))
        self.assertEqual((relayed.record.outcome, relayed.record.failed), ("ok", []))

    def test_stream_instead(self) -> None:
        """A stream that nobody asked for becomes one whole answer."""
        relayed = Relayed({"a": [stream(*EVENTS, End())], "b": [whole()]}).run(1)
        self.assertEqual(relayed.header("content-type"), "application/json")
        answer = json.loads(relayed.content)
        self.assertEqual([block["text"] for block in answer["content"]], ["one two three four"])
        self.assertEqual((answer["stop_reason"], answer["usage"]["output_tokens"]), ("end_turn", 5))

    def test_cut_stream_instead(self) -> None:
        """One that breaks off is no answer: the next upstream is asked."""
        relayed = Relayed({"a": [stream(*EVENTS[:4], End())], "b": [whole()]}).run(1)
        self.assertEqual(relayed.content, canned_message())
        self.assertEqual(relayed.record.failed[0].kind, "cut")

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

    def test_no_content_without_its_limit(self) -> None:
        """Where that limit is off, the one on silence holds in its place: a stalled head is not waited for for ever."""
        scripts = {"a": [stream(EVENTS[0], Wait(99))], "b": [stream(*EVENTS, End())]}
        limits = attrs.evolve(self.LIMITS, first_content=None)
        relayed = Relayed(scripts, streamed=True, timeouts=limits).run(60)
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


class SlowClients(SynchronousTestCase):
    """A client that does not read."""

    def test_not_the_upstreams_silence(self) -> None:
        """While the client does not take more, the upstream's idle limit does not run."""
        limits = Timeouts(head=3.0, first_content=5.0, idle=6.0)
        script = stream(*EVENTS[:5], Wait(1), *EVENTS[5:], End())
        relayed = Relayed({"a": [script]}, streamed=True, timeouts=limits).run(0.25)
        relayed.channel.pauseProducing()
        relayed.run(30)
        self.assertNotIn(b"event: error", relayed.content)
        relayed.channel.resumeProducing()
        relayed.run(1)
        self.assertEqual(relayed.content, b"".join(EVENTS))
