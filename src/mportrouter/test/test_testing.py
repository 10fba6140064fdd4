"""The public in-memory doubles."""

from __future__ import annotations

import inspect
import json
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mportrouter.errors import Kind, Verdict
from mportrouter.interfaces import ICall, ILedger, IPermit, IResponseSink
from mportrouter.interfaces_console import IConsole
from mportrouter.records import ExchangeRecord, Usage
from mportrouter.testing import (
    Chunk,
    End,
    Head,
    MemoryCircuit,
    MemoryConsole,
    MemoryLedger,
    MemoryPermit,
    MemoryUpstream,
    RecordingSink,
    canned_error,
    canned_error_event,
    canned_events,
    canned_message,
    canned_stream,
    cut,
    fail,
    hang,
    respond,
)


def events(stream: bytes) -> list[dict[str, Any]]:
    """The JSON values of a stream whose events are whole."""
    found = []
    for raw in stream.split(b"\n\n")[:-1]:
        name, _, text = raw.partition(b"\ndata: ")
        value = json.loads(text)
        assert name == b"event: " + value["type"].encode()
        found.append(value)
    return found


class CannedTests(SynchronousTestCase):
    """The builders of answers."""

    def test_message(self) -> None:
        """A message holds what it was told to hold."""
        value = json.loads(
            canned_message("hi", "claude-x", Usage(input=1, cache_read=2, cache_write_5m=3, cache_write_1h=4, output=5))
        )
        self.assertEqual(
            (value["model"], value["content"][0]["text"], value["stop_reason"]), ("claude-x", "hi", "end_turn")
        )
        usage = value["usage"]
        self.assertEqual(
            (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]), (1, 2, 7)
        )
        self.assertEqual(usage["cache_creation"], {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4})
        self.assertEqual(usage["output_tokens"], 5)

    def test_stream_tells_the_message(self) -> None:
        """The deltas of a stream join to the blocks of the message of the same arguments."""
        arguments: dict[str, Any] = {
            "text": " two  words\n",
            "thinking": ("let me see", "sig"),
            "tool": ("get_weather", {"city": "Oslo"}),
        }
        content = json.loads(canned_message(**arguments))["content"]
        found = events(canned_stream(**arguments))
        self.assertEqual([found[0]["type"], found[1]["type"]], ["message_start", "ping"])
        self.assertEqual([found[-2]["type"], found[-1]["type"]], ["message_delta", "message_stop"])
        self.assertEqual(found[-2]["delta"]["stop_reason"], "tool_use")
        deltas = [(each["index"], each["delta"]) for each in found if each["type"] == "content_block_delta"]

        def joined(member: str) -> str:
            return "".join(delta.get(member, "") for _, delta in deltas)

        self.assertEqual(joined("thinking"), content[0]["thinking"])
        self.assertEqual(joined("signature"), content[0]["signature"])
        self.assertEqual(joined("text"), content[1]["text"])
        self.assertEqual(json.loads(joined("partial_json")), content[2]["input"])
        self.assertEqual(sorted({index for index, _ in deltas}), [0, 1, 2])

    def test_events_join_to_the_stream(self) -> None:
        """``canned_events`` are the pieces of ``canned_stream``."""
        self.assertEqual(b"".join(canned_events("a b")), canned_stream("a b"))

    def test_errors(self) -> None:
        """Error body and error event carry type and message."""
        for value in (json.loads(canned_error("x_error", "why")), events(canned_error_event("x_error", "why"))[0]):
            self.assertEqual((value["type"], value["error"]), ("error", {"type": "x_error", "message": "why"}))


class ScriptTests(SynchronousTestCase):
    """The builders of scripts."""

    def test_respond(self) -> None:
        """The content type is what the body looks like, unless told."""
        self.assertEqual(respond(body=canned_stream())[0], Head(200, ((b"content-type", b"text/event-stream"),)))
        self.assertEqual(respond(500, body=b"{}")[0], Head(500, ((b"content-type", b"application/json"),)))
        self.assertEqual(respond(500, [(b"a", b"b")])[0], Head(500, ((b"a", b"b"),)))
        self.assertEqual(respond(body=[b"a", b"", b"b"])[1:], [Chunk(b"a"), Chunk(b"b"), End()])

    def test_hang_and_cut(self) -> None:
        """``hang`` drops the end; ``cut`` keeps so many reads and breaks."""
        whole = respond(body=[b"a", b"b", b"c"])
        self.assertEqual(hang(), [])
        self.assertEqual(hang(whole), whole[:-1])
        broken = cut(whole, 2)
        self.assertEqual(broken[:-1], whole[:3])
        end = broken[-1]
        assert isinstance(end, End) and end.verdict is not None
        self.assertIs(end.verdict.kind, Kind.CUT)


class UpstreamTests(SynchronousTestCase):
    """:class:`MemoryUpstream`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sink = RecordingSink()

    def send(self, upstream: MemoryUpstream, sink: Any = None) -> Any:
        return upstream.send(
            b"POST",
            b"/v1/messages",
            b"beta=true",
            [(b"a", b"b")],
            b'{"model":"m"}',
            self.sink if sink is None else sink,
        )

    def test_interfaces(self) -> None:
        """Sink, call, transport and permit provide what they say."""
        call = self.send(MemoryUpstream(self.clock, scripts=[respond()]))
        verifyObject(IResponseSink, self.sink)
        verifyObject(ICall, call)
        verifyObject(IPushProducer, call.transport)
        verifyObject(IPermit, MemoryPermit())

    def test_never_inside_send(self) -> None:
        """The sink hears nothing before ``send`` has returned."""
        self.send(MemoryUpstream(self.clock, scripts=[respond(body=b"{}")]))
        self.assertIsNone(self.sink.status)
        self.clock.advance(0)
        self.assertEqual((self.sink.status, self.sink.body, self.sink.ended), (200, b"{}", True))
        self.assertIsNone(self.sink.failure)

    def test_requests(self) -> None:
        """What was sent is kept."""
        upstream = MemoryUpstream(self.clock, scripts=[respond()])
        self.send(upstream)
        (request,) = upstream.requests
        self.assertEqual((request.method, request.path, request.query), (b"POST", b"/v1/messages", b"beta=true"))
        self.assertEqual((list(request.headers), request.json), ([(b"a", b"b")], {"model": "m"}))

    def test_scripts_in_order(self) -> None:
        """Each request gets the next script, the last one again and again; none is a mistake of the test."""
        upstream = MemoryUpstream(self.clock, scripts=[respond(529), respond(200)])
        seen = []
        for _ in range(3):
            sink = RecordingSink()
            self.send(upstream, sink)
            self.clock.advance(0)
            seen.append(sink.status)
        self.assertEqual(seen, [529, 200, 200])
        self.assertRaises(AssertionError, self.send, MemoryUpstream(self.clock))

    def test_pace(self) -> None:
        """A pause is kept before each read."""
        self.send(MemoryUpstream(self.clock, scripts=[respond(body=[b"a", b"b"], pause=1.0)]))
        self.clock.advance(0)
        self.assertEqual((self.sink.status, self.sink.chunks), (200, []))
        self.clock.advance(1)
        self.assertEqual(self.sink.chunks, [b"a"])
        self.clock.advance(1)
        self.assertEqual((self.sink.chunks, self.sink.ended), ([b"a", b"b"], True))

    def test_failure(self) -> None:
        """A failed call ends with the real upstream's exception, which carries verdict and ``sent``."""
        verdict = Verdict(Kind.NETWORK, "refused")
        self.send(MemoryUpstream(self.clock, scripts=[fail(verdict, sent=False)]))
        self.clock.advance(0)
        failure: Any = self.sink.failure
        self.assertIs(failure.verdict, verdict)
        self.assertFalse(failure.sent)

    def test_hang(self) -> None:
        """A hanging call says nothing, however long."""
        self.send(MemoryUpstream(self.clock, scripts=[hang()]))
        self.clock.advance(1e6)
        self.assertEqual((self.sink.status, self.sink.ended), (None, False))

    def test_abort(self) -> None:
        """After an abort the sink hears nothing more; a second abort is harmless; a finished call is not aborted."""
        upstream = MemoryUpstream(self.clock, scripts=[respond(body=[b"a", b"b"], pause=1.0)])
        call = self.send(upstream)
        self.clock.pump([0, 1.5])
        call.abort()
        call.abort()
        self.clock.advance(9)
        self.assertTrue(call.aborted)
        self.assertEqual((self.sink.chunks, self.sink.ended), ([b"a"], False))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        done = self.send(upstream, RecordingSink())
        self.clock.pump([0, 1, 1])
        done.abort()
        self.assertFalse(done.aborted)

    def test_back_pressure(self) -> None:
        """A paused call stops between two reads and goes on where it stopped."""
        call = self.send(MemoryUpstream(self.clock, scripts=[respond(body=[b"a", b"b"], pause=1.0)]))
        self.clock.pump([0, 1])
        call.transport.pauseProducing()
        self.clock.advance(10)
        self.assertEqual(self.sink.chunks, [b"a"])
        call.transport.resumeProducing()
        self.clock.pump([0, 1])
        self.assertTrue(self.sink.ended)
        self.assertEqual((self.sink.body, call.transport.pauses, call.transport.resumes), (b"ab", 1, 1))

    def test_pause_from_the_sink(self) -> None:
        """A sink that pauses in the middle of a read gets no further bytes until it resumes."""

        class Pausing(RecordingSink):
            def data(self, data: bytes, last: bool = False) -> None:
                super().data(data)
                call.transport.pauseProducing()

        sink = Pausing()
        call = self.send(MemoryUpstream(self.clock, scripts=[respond(body=[b"a", b"b"])]), sink)
        self.clock.advance(0)
        self.assertEqual((sink.chunks, sink.ended), ([b"a"], False))
        call.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(sink.chunks, [b"a", b"b"])


class CircuitTests(SynchronousTestCase):
    """:class:`MemoryCircuit` and :class:`MemoryPermit`."""

    def test_settled_once(self) -> None:
        """A permit takes one settlement and refuses a second."""
        circuit = MemoryCircuit()
        permit = circuit.permit("m")
        permit.success()
        self.assertEqual(circuit.permits[0].settled, "success")
        self.assertRaises(AssertionError, permit.release)
        verdict = Verdict(Kind.RATE, "slow down")
        other = circuit.permit("m")
        other.failure(verdict)
        self.assertIs(other.settled, verdict)

    def test_refusal(self) -> None:
        """A refusal is given in place of a permit."""
        circuit = MemoryCircuit()
        circuit.refusal = object()
        self.assertIs(circuit.permit("m"), circuit.refusal)


class SinkTests(SynchronousTestCase):
    """:class:`RecordingSink`."""

    def test_order(self) -> None:
        """Bytes before a head, a second head, a good end without a head and words after the end are refused."""
        self.assertRaises(AssertionError, RecordingSink().data, b"x")
        self.assertRaises(AssertionError, RecordingSink().end, None)
        sink = RecordingSink()
        sink.response(200, [])
        self.assertRaises(AssertionError, sink.response, 200, [])
        sink.end(None)
        self.assertRaises(AssertionError, sink.data, b"x")
        self.assertRaises(AssertionError, sink.end, None)


class LedgerTests(SynchronousTestCase):
    """:class:`MemoryLedger`."""

    def test_interface(self) -> None:
        """It is an ILedger."""
        verifyObject(ILedger, MemoryLedger())

    def test_spent(self) -> None:
        """Only records within the window count."""
        clock = Clock()
        clock.advance(1000)
        ledger = MemoryLedger(clock)
        for at, cost in ((100.0, 1), (950.0, 10), (999.0, 100)):
            ledger.add(ExchangeRecord(at=at, cost=cost))
        self.assertEqual((ledger.spent(60), ledger.spent(2), ledger.spent(3600)), (110, 100, 111))
        self.assertEqual(ledger.stats(), {"requests": 3, "cost": 111})


class ConsoleTests(SynchronousTestCase):
    """:class:`MemoryConsole`."""

    def test_interface(self) -> None:
        """It is an IConsole."""
        verifyObject(IConsole, MemoryConsole())

    def test_every_command(self) -> None:
        """Every command of the interface is answered, and remembered with its arguments."""
        console = MemoryConsole()
        arguments = {
            "port": 8787,
            "name": "mixed",
            "session": None,
            "count": 5,
            "mode": "mixed",
            "stop": False,
            "id": "minimax",
            "enabled": True,
            "body": b"{}",
            "dialect": "anthropic",
            "model": "",
        }
        for name in IConsole.names():
            method = getattr(console, name)
            given = [arguments[each] for each in inspect.signature(method).parameters]
            answer = method(*given)
            if name in ("check_health", "close_port", "reload", "drain"):
                answer = self.successResultOf(answer)
            self.assertIsInstance(answer, (dict, list), name)
            self.assertEqual(console.calls[-1], (name, *given))

    def test_told_answers(self) -> None:
        """Told answers are given, told exceptions raised."""
        console = MemoryConsole({"logs": ["a line"], "stats": ValueError("no")})
        self.assertEqual(console.logs(3), ["a line"])
        self.assertRaises(ValueError, console.stats)
