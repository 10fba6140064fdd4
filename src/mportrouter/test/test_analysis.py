"""Tests of asking a model for the complexity."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface.verify import verifyObject

from mportrouter.analysis import Analyzer, IAnalyzer
from mportrouter.breaker import Breaker
from mportrouter.errors import Kind, Verdict
from mportrouter.records import Usage
from mportrouter.routing.complexity import score as local_score
from mportrouter.settings import BreakerSettings, Secret, UpstreamSettings

TEXT = "Design system architecture"
USAGE = {"input_tokens": 120, "output_tokens": 3, "cache_read_input_tokens": 7}


class Messages(Resource):
    """A provider that answers with the status and body it was given; ``body`` None: never."""

    isLeaf = True
    status = 200
    body: bytes | None = b""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, Any, Any]] = []
        self.stalls = False
        self.gone = 0

    def render_POST(self, request: Request) -> Any:
        self.asked.append((request.uri, request.requestHeaders, json.loads(request.content.read())))
        if self.body is None:
            request.notifyFinish().addErrback(self._left)
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        if self.stalls:
            request.write(self.body[:5])
            request.notifyFinish().addErrback(self._left)
            return NOT_DONE_YET
        return self.body

    def _left(self, _: object) -> None:
        self.gone += 1


class StubUpstream:
    def __init__(self, clock: Clock, client: StubTreq, settings: UpstreamSettings) -> None:
        self.settings = settings
        self.circuit = Breaker("anthropic", BreakerSettings(), clock.seconds, lambda: 0.5)
        self.client = client

    def url_for(self, path: bytes) -> str:
        return f"{self.settings.base_url}{path.decode()}"

    def headers_for(self, client_headers: Any) -> list[tuple[bytes, bytes]]:
        return [*client_headers, (b"x-api-key", b"sk-test")]


class AnalyzerTests(SynchronousTestCase):
    """An analyzer against a provider in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.messages = Messages()
        self.agent = StubTreq(self.messages)
        self.upstream = StubUpstream(
            self.clock,
            self.agent,
            UpstreamSettings(
                "anthropic", "anthropic", base_url="https://api.example/anthropic", api_key=Secret("sk-test")
            ),
        )
        self.analyzer = Analyzer(self.upstream, "claude-haiku-4-5", self.clock, 1.5)  # type: ignore[arg-type]

    def answer(self, text: Any, usage: Any = USAGE) -> None:
        content = [{"type": "thinking", "thinking": "9"}, {"type": "text", "text": text}]
        self.messages.body = json.dumps({"type": "message", "content": content, "usage": usage}).encode()

    def ask(self, text: str = TEXT) -> Deferred[Any]:
        asked = self.analyzer.score(text)
        self.agent.flush()
        return asked

    def assert_local(self, usage: Usage | None = None, text: str = TEXT) -> None:
        self.assertEqual(self.successResultOf(self.ask(text)), (local_score(text), usage))

    def test_interface(self) -> None:
        """It is an analyzer."""
        verifyObject(IAnalyzer, self.analyzer)

    def test_asks(self) -> None:
        """The small model is asked with few tokens and the router's key, and its number and usage come back."""
        self.answer("4")
        value, usage = self.successResultOf(self.ask())
        self.assertEqual((value.value, value.reasons), (4, ("judged by claude-haiku-4-5",)))
        self.assertEqual(usage, Usage(input=120, output=3, cache_read=7))
        uri, headers, body = self.messages.asked[0]
        self.assertEqual(uri, b"/anthropic/v1/messages")
        self.assertEqual(headers.getRawHeaders(b"x-api-key"), [b"sk-test"])
        self.assertEqual(headers.getRawHeaders(b"anthropic-version"), [b"2023-06-01"])
        self.assertEqual(body["model"], "claude-haiku-4-5")
        self.assertLessEqual(body["max_tokens"], 16)
        self.assertIn(TEXT, body["messages"][0]["content"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tolerant(self) -> None:
        """The number is found in what models say around it."""
        for text, value in [("10", 10), (" 7.", 7), ("Score: 8/10", 8), ("**3**", 3), ("The answer is 5\n", 5)]:
            self.answer(text)
            self.assertEqual(self.successResultOf(self.ask())[0].value, value, text)

    def test_no_number(self) -> None:
        """Where there is no number from 1 to 10 the local score stands in; what was used still counts."""
        for text in ("", "hard", "0", "11", "3.5", "1000", None, 7):
            self.answer(text)
            self.assert_local(Usage(input=120, output=3, cache_read=7))

    def test_errors(self) -> None:
        """An error answer, HTML, JSON that is no message: the local score, and nothing used."""
        for status, body in [
            (529, b'{"type":"error","error":{"type":"overloaded_error","message":"7"}}'),
            (200, b'{"type":"error","error":{"type":"overloaded_error","message":"7"}}'),
            (200, b"<html>7</html>"),
            (200, b"7"),
            (200, b"[7]"),
            (200, b""),
            (200, b"\xff\xfe"),
            (200, b'{"content":[{"type":"text","text":"7"}]}' + b" " * 100_000),
            (302, b""),
        ]:
            self.messages.status, self.messages.body = status, body
            self.assert_local()

    def test_odd_usage(self) -> None:
        """Usage that is no object is none."""
        self.answer("6", usage=[1])
        value, usage = self.successResultOf(self.ask())
        self.assertEqual((value.value, usage), (6, None))

    def test_deadline(self) -> None:
        """After the deadline the request is cancelled and the local score stands in; the breaker learns nothing."""
        self.messages.body = None
        asked = self.ask()
        self.clock.advance(1.4)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(asked), (local_score(TEXT), None))
        self.agent.flush()
        self.assertEqual(self.messages.gone, 1)
        self.assertEqual(self.upstream.circuit.consecutive["timeouts"], 0)

    def test_cancel(self) -> None:
        """Cancelling ends the request at once."""
        self.messages.body = None
        asked = self.ask()
        asked.cancel()
        self.agent.flush()
        self.assertEqual(self.messages.gone, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(asked)

    def test_not_asked(self) -> None:
        """An upstream that is shut, or has no key of the router's, is not asked."""
        for _ in range(5):
            self.upstream.circuit.permit("m").failure(Verdict(Kind.NETWORK, "x"))  # type: ignore[union-attr]
        self.assert_local()
        self.upstream.circuit.reset()
        self.upstream.settings = UpstreamSettings("anthropic", "anthropic", auth="client")
        self.assert_local()
        self.assertEqual(self.messages.asked, [])

    def test_long_text(self) -> None:
        """Of a long turn only start and end are shown."""
        self.answer("2")
        self.successResultOf(self.ask("a" * 50_000 + "z" * 50_000))
        shown = self.messages.asked[0][2]["messages"][0]["content"]
        self.assertLess(len(shown), 7000)
        self.assertIn("zzz\n</request>", shown)

    def test_surrogates(self) -> None:
        """A lone surrogate in the turn is sent as the escape it came as."""
        self.answer("2")
        self.assertEqual(self.successResultOf(self.ask("x \ud800 y"))[0].value, 2)

    def test_stalled_body(self) -> None:
        """An answer that stops in its middle ends with the deadline too, and its connection with it."""
        self.answer("4")
        self.messages.stalls = True
        asked = self.ask()
        self.assertNoResult(asked)
        self.clock.advance(1.5)
        self.agent.flush()
        self.assertEqual(self.successResultOf(asked), (local_score(TEXT), None))
        self.assertEqual(self.messages.gone, 1)
