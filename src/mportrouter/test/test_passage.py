"""Tests of :mod:`mportrouter.passage`: one request handed on as it is."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..errors import Kind, RouterError, Verdict
from ..interfaces import IResponseSink
from ..passage import Passage
from ..settings import Timeouts, UpstreamSettings
from ..testing import Chunk, End, Head, MemoryUpstream, Wait
from .memory_request import MemoryRequest


class PassageTests(SynchronousTestCase):
    """Whatever the answer is, it goes back as it comes."""

    def carry(self, *steps: Any, seconds: float = 1.0, answer: float | None = 5.0) -> MemoryRequest:
        self.clock = Clock()
        settings = UpstreamSettings(
            "a", "anthropic", base_url="https://x.invalid", timeouts=Timeouts(answer=answer, idle=3.0)
        )
        self.upstream = MemoryUpstream(self.clock, "a", [steps], settings)
        self.refused: list[RouterError] = []
        self.done: list[int] = []
        request = MemoryRequest(b"POST", b"/v1/files?x=1", [(b"host", b"localhost")], b"body")

        def refuse(request: MemoryRequest, error: RouterError) -> None:
            self.refused.append(error)
            request.respond(error.status, [], b"")

        self.passage = Passage(
            self.clock,
            request,
            self.upstream,
            b"/v1/files",
            b"body",
            "mixed",
            refuse,
            self.done.append,  # type: ignore[arg-type]
        )
        self.passage.start()
        self.clock.pump([0.0] + [0.25] * int(seconds * 4))
        return request

    def test_sink(self) -> None:
        """It is the sink of its call."""
        self.carry(Head(), End())
        self.assertTrue(verifyObject(IResponseSink, self.passage))

    def test_untouched(self) -> None:
        """Status, fields and bytes pass, an error's too; nothing is counted at the circuit."""
        request = self.carry(
            Head(418, ((b"x-odd", b"1"), (b"set-cookie", b"c=1"), (b"x-mportrouter-mode", b"forged"))),
            Chunk(b"tea"),
            Chunk(b"pot"),
            End(),
        )
        self.assertEqual((request.status, request.answer, request.length), (418, b"teapot", None))
        self.assertEqual(request.answer_header(b"x-odd"), b"1")
        self.assertIsNone(request.answer_header(b"set-cookie"))
        self.assertEqual(request.answer_header(b"x-mportrouter-mode"), b"mixed")
        self.assertEqual((self.done, self.upstream.circuit.permits, self.upstream.in_flight), ([418], [], 0))
        sent = self.upstream.requests[0]
        self.assertEqual((sent.method, sent.path, sent.query, sent.body), (b"POST", b"/v1/files", b"x=1", b"body"))

    def test_length(self) -> None:
        """A known length stays known."""
        request = self.carry(Head(200, ((b"content-length", b"3"),)), Chunk(b"abc"), End())
        self.assertEqual(request.length, 3)

    def test_network(self) -> None:
        """Where nothing comes the router says so in its own words."""
        self.carry(End(Verdict(Kind.NETWORK, "connection refused")))
        self.assertEqual((self.refused[0].kind, self.done), (Kind.NETWORK, [502]))
        self.assertIn("a failed: connection refused", self.refused[0].message)

    def test_cut(self) -> None:
        """A body that breaks off is shown as broken."""
        request = self.carry(Head(), Chunk(b"half"), End(Verdict(Kind.CUT, "reset")))
        self.assertTrue(request.aborted)
        self.assertEqual((self.done, self.upstream.in_flight), ([200], 0))

    def test_silent(self) -> None:
        """Silence before the answer is a 504, and the call is aborted."""
        self.carry(Wait(60), seconds=6)
        self.assertEqual((self.refused[0].kind, self.done), (Kind.TIMEOUT, [504]))
        self.assertTrue(self.upstream.requests[0].call.aborted)

    def test_stalled(self) -> None:
        """Silence in the middle breaks the answer off."""
        request = self.carry(Head(), Chunk(b"half"), Wait(60), seconds=5)
        self.assertTrue(request.aborted)
        self.assertTrue(self.upstream.requests[0].call.aborted)

    def test_stalled_soon(self) -> None:
        """The limit on silence in the middle holds whatever the one before the answer was."""
        for answer in (600.0, None):
            request = self.carry(Head(), Chunk(b"half"), Wait(60), seconds=3.5, answer=answer)
            self.assertTrue(request.aborted, answer)
            self.assertEqual((self.done, self.clock.getDelayedCalls()), ([200], []))

    def test_client_gone(self) -> None:
        """A client that leaves ends the call."""
        request = self.carry(Wait(60))
        request.leave()
        self.assertTrue(self.upstream.requests[0].call.aborted)
        self.assertEqual((self.upstream.in_flight, self.clock.getDelayedCalls()), (0, []))
