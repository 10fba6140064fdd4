"""Tests for :mod:`mportrouter.renewing`: a call whose credential changes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..codex_login import LoginFailed
from ..connection import CallFailed
from ..errors import Kind, Verdict
from ..interfaces import ICall, ICredential, IResponseSink
from ..renewing import Renewing
from .wires import Sink

OLD, NEW = [(b"authorization", b"Bearer old")], [(b"authorization", b"Bearer new")]
NO_LOGIN = LoginFailed(Verdict(Kind.AUTH, "run `codex login`", account=True))


@implementer(ICredential)
class Credential:
    """Gives what it is told to."""

    def __init__(self, *gives: Any) -> None:
        self.gives = list(gives)
        self.refused: list[Any] = []

    def fields(self) -> Any:
        given = self.gives.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def renew(self, refused: Any) -> Any:
        self.refused.append(refused)
        return self.fields()


@implementer(ICall)
class Asked:
    """A call that was made."""

    def __init__(self, fields: Any, sink: Any) -> None:
        self.fields = fields
        self.sink = sink
        self.aborted = False
        self.transport = object()
        self.paused = True

    def abort(self) -> None:
        self.aborted = True


class RenewingTests(SynchronousTestCase):
    """What becomes of a request."""

    def begin(self, *gives: Any) -> Renewing:
        self.calls: list[Asked] = []
        self.sink = Sink()
        self.clock = Clock()
        self.credential = Credential(*gives)

        def ask(fields: Any, sink: Any) -> Asked:
            self.calls.append(Asked(fields, sink))
            return self.calls[-1]

        def later(call: Any) -> None:
            self.clock.callLater(0, call)

        return Renewing(self.credential, ask, self.sink, later).begin()

    def test_at_once(self) -> None:
        """A credential that is there is sent at once; the answer is handed on as it comes."""
        call = self.begin(OLD)
        (asked,) = self.calls
        verifyObject(ICall, call)
        verifyObject(IResponseSink, call)
        self.assertEqual(asked.fields, OLD)
        asked.sink.response(200, [(b"a", b"b")])
        asked.sink.data(b"x")
        asked.sink.data(b"y", True)
        asked.sink.end(None)
        self.assertEqual((self.sink.status, self.sink.body, self.sink.ended), (200, b"xy", True))
        self.assertIs(call.transport, asked.transport)
        self.assertTrue(call.paused)

    def test_waits(self) -> None:
        """One that is just being renewed is waited for."""
        coming: Deferred[Any] = Deferred()
        call = self.begin(coming)
        self.assertEqual((self.calls, call.transport, call.paused), ([], None, False))
        coming.callback(NEW)
        self.assertEqual(self.calls[0].fields, NEW)

    def test_gone_while_waiting(self) -> None:
        """A client that leaves meanwhile asks for nothing."""
        for over in (lambda coming: coming.callback(NEW), lambda coming: coming.errback(NO_LOGIN)):
            coming: Deferred[Any] = Deferred()
            call = self.begin(coming)
            call.abort()
            over(coming)
            call.abort()
            self.assertEqual(self.calls, [])
            self.assertTrue(self.sink.quiet)

    def test_none(self) -> None:
        """No credential is a failed call with the reason, told after the call has begun."""
        for gives in (NO_LOGIN, fail(NO_LOGIN)):
            self.begin(gives)
            self.assertTrue(self.sink.quiet)
            self.clock.advance(0)
            self.assertIsInstance(self.sink.failure, CallFailed)
            self.assertEqual(self.sink.failure.verdict, NO_LOGIN.verdict)
            self.assertFalse(self.sink.failure.sent)

    def test_broken(self) -> None:
        """A mistake of the router's own ends the call too."""
        self.begin(RuntimeError("secret words"))
        self.clock.advance(0)
        self.assertEqual(self.sink.failure.verdict.kind, Kind.INTERNAL)
        self.assertNotIn("secret", self.sink.failure.verdict.message)

    def test_refused(self) -> None:
        """A 401 is answered with another credential, once; the client hears of the second answer only."""
        call = self.begin(OLD, NEW)
        first = self.calls[0]
        first.sink.response(401, [])
        self.assertTrue(first.aborted)
        self.assertEqual(self.credential.refused, [OLD])
        self.assertEqual(self.calls[1].fields, NEW)
        self.assertTrue(self.sink.quiet)
        self.assertIs(call.transport, self.calls[1].transport)
        self.calls[1].sink.response(401, [(b"a", b"b")])
        self.calls[1].sink.data(b"{}", True)
        self.calls[1].sink.end(None)
        self.assertEqual((self.sink.status, self.sink.body, len(self.calls)), (401, b"{}", 2))

    def test_refused_for_good(self) -> None:
        """Where there is no other, the reason for that is the answer."""
        self.begin(OLD, NO_LOGIN)
        self.calls[0].sink.response(401, [])
        self.assertEqual(self.sink.failure.verdict, NO_LOGIN.verdict)

    def test_gone_while_renewing(self) -> None:
        """A client that leaves while the second one is fetched asks for nothing more."""
        coming: Deferred[Any] = Deferred()
        call = self.begin(OLD, coming)
        self.calls[0].sink.response(401, [])
        call.abort()
        coming.callback(NEW)
        self.assertEqual(len(self.calls), 1)
        self.assertTrue(self.sink.quiet)

    def test_abort(self) -> None:
        """An abort reaches the call."""
        call = self.begin(OLD)
        call.abort()
        self.assertTrue(self.calls[0].aborted)
