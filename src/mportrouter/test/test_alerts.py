"""Tests of the alerts."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import Request

from mportrouter.alerts import Alerts
from mportrouter.settings import AlertSettings, Secret

URL = "https://hooks.example/services/T0K3N"


class StubResponse:
    length = 2

    def __init__(self, code: int) -> None:
        self.code = code

    def deliverBody(self, protocol: Any) -> None:
        protocol.dataReceived(b"ok")
        protocol.connectionLost(Failure(ResponseDone()))


class StalledResponse(StubResponse):
    """Its body stops in the middle."""

    def __init__(self) -> None:
        super().__init__(200)
        self.transport = StringTransport()

    def deliverBody(self, protocol: Any) -> None:
        protocol.makeConnection(self.transport)
        protocol.dataReceived(b"o")


class StubClient:
    """A client that answers with what the test put there: a status, an exception, or silence (``None``)."""

    def __init__(self) -> None:
        self.answers: list[int | Exception | None] = []
        self.posts: list[dict[str, Any]] = []
        self.urls: list[str] = []
        self.cancelled = 0

    def post(self, url: str, data: bytes, **arguments: Any) -> Deferred[Any]:
        self.urls.append(url)
        self.posts.append(json.loads(data))
        answer = self.answers.pop(0) if self.answers else 200
        if answer is None:
            return Deferred(self._cancel)
        if isinstance(answer, Exception):
            return fail(answer)
        return succeed(StubResponse(answer))

    def _cancel(self, _: Any) -> None:
        self.cancelled += 1

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(post["event"], post["upstream"]) for post in self.posts]


class AlertsTests(SynchronousTestCase):
    """Alerts to a webhook that does what the test says."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        self.clock = Clock()
        self.client = StubClient()
        wanted = AlertSettings(**{"webhook": Secret(URL), **settings})
        self.alerts = Alerts(wanted, self.clock, self.client, lambda: 1_782_210_600.0, "desk", lambda: 0.5)  # type: ignore
        self.alerts.startService()

    def test_body(self) -> None:
        """One alert is one JSON object that Slack and Discord show as it is."""
        self.alerts.event("minimax", "down", "connection\x1b refused")
        text = "mportrouter on desk: minimax is down (connection refused)"
        self.assertEqual(
            self.client.posts,
            [
                {
                    "text": text,
                    "content": text,
                    "event": "upstream_down",
                    "upstream": "minimax",
                    "detail": "connection refused",
                    "time": "2026-06-23T10:30:00Z",
                    "router": "desk",
                }
            ],
        )
        self.assertEqual(self.client.urls, [URL])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_which_events(self) -> None:
        """Only what a person should hear of at once is sent."""
        events = ("opened", "closed", "half-open", "down", "up", "degraded", "rate_limited", "auth_failure", "money")
        for event in (*events, "nonsense"):
            self.alerts.event("u", event, "")
        self.alerts.cost_ceiling(10.5, 10.0)
        self.assertEqual(
            [event for event, _ in self.client.told],
            [
                "circuit_opened",
                "upstream_down",
                "upstream_recovered",
                "auth_failure",
                "money",
                "cost_ceiling_reached",
            ],
        )
        self.assertEqual(self.client.posts[-1]["detail"], "$10.50 spent in the last hour, the ceiling is $10.00")

    def test_small_cost_ceiling(self) -> None:
        """A ceiling below a cent is named as it is."""
        self.alerts.cost_ceiling(0.0031, 0.002)
        self.assertEqual(self.client.posts[-1]["detail"], "$0.0031 spent in the last hour, the ceiling is $0.0020")

    def test_no_webhook(self) -> None:
        """Without a webhook nothing happens."""
        self.make(webhook=None)
        self.alerts.event("u", "down", "")
        self.alerts.cost_ceiling(1, 1)
        self.assertEqual(self.client.posts, [])

    def test_deduplicated(self) -> None:
        """The same alert about the same upstream goes out once within the quiet time."""
        for _ in range(5):
            self.alerts.event("a", "opened", "x")
            self.alerts.event("b", "opened", "x")
            self.clock.advance(50)
        self.assertEqual(self.client.told, [("circuit_opened", "a"), ("circuit_opened", "b")])
        self.clock.advance(50)
        self.alerts.event("a", "opened", "x")
        self.assertEqual(len(self.client.posts), 3)

    def test_last_word_is_true(self) -> None:
        """A state that changed within the quiet time is told at its end, if it is another than the last one told."""
        for event in ("down", "up", "down"):
            self.alerts.event("u", event, "")
        self.assertEqual([event for event, _ in self.client.told], ["upstream_down", "upstream_recovered"])
        self.clock.advance(300)
        self.assertEqual(
            [event for event, _ in self.client.told], ["upstream_down", "upstream_recovered", "upstream_down"]
        )
        self.clock.advance(1000)
        self.assertEqual(len(self.client.posts), 3)

    def test_back_where_it_was(self) -> None:
        """Changes that came to nothing within the quiet time are not told."""
        for event in ("down", "up", "down", "up"):
            self.alerts.event("u", event, "")
        self.clock.advance(1000)
        self.assertEqual([event for event, _ in self.client.told], ["upstream_down", "upstream_recovered"])

    def test_retries(self) -> None:
        """A failed try is made again, later and later, as often as is set."""
        self.client.answers = [ConnectionRefusedError(), 500, 429, 200]
        self.alerts.event("u", "down", "")
        counts = []
        for seconds in (0.0, 1.0, 2.0, 4.0, 100.0):
            self.clock.advance(seconds)
            counts.append(len(self.client.posts))
        self.assertEqual(counts, [1, 2, 3, 4, 4])

    def test_gives_up(self) -> None:
        """After the last try it is dropped and the next alert has its turn."""
        self.make(tries=2)
        self.client.answers = [500, 500]
        self.alerts.event("u", "down", "")
        self.alerts.event("v", "down", "")
        self.clock.advance(1)
        self.assertEqual([upstream for _, upstream in self.client.told], ["u", "u", "v"])

    def test_refused_for_good(self) -> None:
        """An answer that a second try cannot change, a redirect among them, is final."""
        self.client.answers = [404, 302]
        self.alerts.event("u", "down", "")
        self.alerts.event("v", "down", "")
        self.clock.advance(1000)
        self.assertEqual([upstream for _, upstream in self.client.told], ["u", "v"])

    def test_stalled_body(self) -> None:
        """An answer that stops in the middle counts as a failed try, and its connection is closed."""
        response = StalledResponse()
        self.client.post = lambda *_, **__: succeed(response)  # type: ignore[method-assign, assignment]
        self.alerts.event("minimax", "down", "x")
        self.assertEqual(response.transport.producerState, "producing")
        self.clock.advance(10.0)
        self.assertEqual(response.transport.producerState, "stopped")

    def test_timeout(self) -> None:
        """A silent webhook is given up after its own limit."""
        self.client.answers = [None]
        self.alerts.event("u", "down", "")
        self.clock.advance(9.9)
        self.assertEqual(self.client.cancelled, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.client.cancelled, 1)
        self.clock.advance(1)
        self.assertEqual(len(self.client.posts), 2)

    def test_bounded(self) -> None:
        """While the webhook hangs only the newest hundred wait."""
        self.client.answers = [None]
        for number in range(500):
            self.alerts.event(f"u{number}", "down", "")
        self.clock.advance(10)
        self.clock.advance(1)
        told = [upstream for _, upstream in self.client.told]
        self.assertLessEqual(len(told), 102)
        self.assertEqual(told[-1], "u499")

    def test_never_raises(self) -> None:
        """Whatever the client does, who tells of an event gets no exception."""

        def post(*_: Any, **__: Any) -> Any:
            raise ValueError(f"bad {URL}")

        self.client.post = post  # type: ignore[method-assign]
        self.alerts.event("u", "down", "")
        self.alerts.event(None, "down", object())  # type: ignore[arg-type]
        self.flushLoggedErrors()

    def test_secret(self) -> None:
        """The webhook's address is in no log line, even where an exception names it."""
        seen: list[Any] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        self.make(tries=1)
        self.client.answers = [ValueError(URL), 500]
        self.alerts.event("u", "down", "")
        self.alerts.event("v", "down", "")
        self.assertTrue(seen)
        self.assertNotIn("T0K3N", repr(seen))

    def test_stop_idle(self) -> None:
        """With nothing to send the stop is immediate."""
        self.assertIsNone(self.alerts.stopService())

    def test_stop_sends_the_last(self) -> None:
        """What waits for another try gets one now, and its end ends the stop."""
        self.client.answers = [500, 500, 200]
        self.alerts.event("u", "down", "")
        self.alerts.event("v", "down", "")
        stopped = self.alerts.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual([upstream for _, upstream in self.client.told], ["u", "u", "v"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_is_bounded(self) -> None:
        """A hanging webhook holds a stop up for seconds only."""
        self.client.answers = [None, None]
        self.alerts.event("u", "down", "")
        self.alerts.event("v", "down", "")
        stopped = self.alerts.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.assertEqual((len(self.client.posts), self.clock.getDelayedCalls()), (1, []))

    def test_stop_forgets_what_would_come_later(self) -> None:
        """A suppressed change leaves nothing on the clock of a stopped service."""
        for event in ("down", "up", "down"):
            self.alerts.event("u", event, "")
        self.alerts.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_configure(self) -> None:
        """A new webhook gets what comes; none drops what waits."""
        self.client.answers = [500]
        self.alerts.event("u", "down", "")
        self.alerts.configure(AlertSettings(webhook=Secret("https://other.example/x")))
        self.clock.advance(1)
        self.assertEqual(self.client.urls, [URL, "https://other.example/x"])
        self.client.answers = [500]
        self.alerts.event("v", "down", "")
        self.alerts.configure(AlertSettings())
        self.clock.advance(100)
        self.assertEqual(len(self.client.posts), 3)

    def test_real_client(self) -> None:
        """Through treq itself the webhook gets one POST of JSON."""
        seen: list[tuple[bytes, bytes, Any]] = []

        class Hook(Resource):
            isLeaf = True

            def render_POST(self, request: Request) -> bytes:
                kind = request.getHeader(b"content-type") or b""
                seen.append((request.uri, kind, json.loads(request.content.read())))
                return b"ok"

        stub = StubTreq(Hook())
        alerts = Alerts(AlertSettings(webhook=Secret(URL)), self.clock, stub, router="desk")
        alerts.event("u", "down", "x")
        stub.flush()
        self.assertEqual(
            [(uri, kind, body["event"]) for uri, kind, body in seen],
            [(b"/services/T0K3N", b"application/json", "upstream_down")],
        )
