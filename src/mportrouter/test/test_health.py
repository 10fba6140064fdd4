"""Tests of the health checker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.circuit import CircuitBreaker
from mportrouter.commands import duration
from mportrouter.errors import Kind, Verdict
from mportrouter.health import HealthChecker
from mportrouter.settings import BreakerSettings, HealthSettings
from mportrouter.upstream import ProbeResult

REFUSED = ProbeResult(0.001, failure=Verdict(Kind.NETWORK, "connection refused"))
RESET = ProbeResult(0.001, failure=Verdict(Kind.NETWORK, "connection lost"))


def good(milliseconds: float = 20.0, status: int | None = 200, keyed: bool = True) -> ProbeResult:
    return ProbeResult(milliseconds / 1000.0, status, ("a", "b"), keyed)


class StubUpstream:
    """An upstream whose probes do what the test says."""

    def __init__(self, clock: Clock, id: str, listen: Callable[[str, str, str], None]) -> None:
        self.circuit = CircuitBreaker(id, BreakerSettings(), clock.seconds, lambda: 0.5, listen)
        self.enabled = True
        self.lacking_key = ""
        self.next: Any = good()
        self.probes = 0

    def probe(self, timeout: float) -> Deferred[Any]:
        self.probes += 1
        if isinstance(self.next, Exception):
            raise self.next
        if isinstance(self.next, Deferred):
            return self.next
        return succeed(self.next)


class HealthCheckerTests(SynchronousTestCase):
    """Two upstreams and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[str, str]] = []

        def listen(upstream: str, event: str, detail: str) -> None:
            self.events.append((upstream, event))

        self.minimax = StubUpstream(self.clock, "minimax", listen)
        self.claude = StubUpstream(self.clock, "anthropic", listen)
        self.checker = HealthChecker(
            {"minimax": self.minimax, "anthropic": self.claude},
            HealthSettings(every=30.0, timeout=10.0),
            self.clock,
            lambda: 1_782_210_600.0 + self.clock.seconds(),
        )

    def start(self) -> None:
        self.checker.startService()
        self.addCleanup(self.checker.stopService)

    def report(self) -> tuple[int, dict[str, Any]]:
        return self.checker.report("mixed", 87300.0)

    def test_no_key(self) -> None:
        """One without its key is not asked and does not make the others look better: with them all is out."""
        self.claude.lacking_key = "no key: set ANTHROPIC_API_KEY"
        self.minimax.next = good(status=401)
        self.start()
        self.assertEqual(self.claude.probes, 0)
        self.clock.pump([30.0] * 5)
        status, body = self.report()
        self.assertEqual((status, body["status"]), (503, "unhealthy"))
        told = {"status": "disabled", "latency_ms": None, "last_check": None, "last_error": self.claude.lacking_key}
        self.assertEqual(body["providers"]["anthropic"], told)
        self.assertEqual(self.checker.line("anthropic"), "disabled: no key: set ANTHROPIC_API_KEY")

    def test_report(self) -> None:
        """The report has the documented shape."""
        self.minimax.next = good(28.4)
        self.claude.next = good(142.0)
        self.start()
        self.assertEqual(
            self.report(),
            (
                200,
                {
                    "status": "healthy",
                    "providers": {
                        "minimax": {"status": "up", "latency_ms": 28, "last_check": "2026-06-23T10:30:00Z"},
                        "anthropic": {"status": "up", "latency_ms": 142, "last_check": "2026-06-23T10:30:00Z"},
                    },
                    "current_mode": "mixed",
                    "router_uptime": "24h 15m",
                },
            ),
        )
        self.assertEqual(self.checker.line("anthropic"), "ok (142ms)")

    def test_before_the_first_check(self) -> None:
        """Nothing known is no trouble."""
        status, report = self.report()
        self.assertEqual((status, report["status"]), (200, "healthy"))
        self.assertEqual(report["providers"]["minimax"], {"status": "unknown", "latency_ms": None, "last_check": None})
        self.assertEqual(self.checker.line("minimax"), "not checked yet")

    def test_one_down(self) -> None:
        """One upstream down is degraded, and still 200."""
        self.minimax.next = REFUSED
        self.start()
        status, report = self.report()
        self.assertEqual((status, report["status"]), (200, "degraded"))
        self.assertEqual(report["providers"]["minimax"]["status"], "down")
        self.assertEqual(report["providers"]["minimax"]["last_error"], "connection refused")
        self.assertEqual(self.checker.line("minimax"), "down: connection refused")
        self.assertEqual(self.events, [("minimax", "down")])

    def test_both_down(self) -> None:
        """With nobody left it is unhealthy, 503."""
        self.minimax.next = self.claude.next = REFUSED
        self.start()
        self.assertEqual((self.report()[0], self.report()[1]["status"]), (503, "unhealthy"))

    def test_down_and_up_again(self) -> None:
        """Two failed checks mark down, a good one marks up."""
        self.start()
        self.minimax.next = RESET
        self.clock.advance(30)
        self.assertEqual(self.report()[1]["providers"]["minimax"]["status"], "degraded")
        self.clock.advance(30)
        self.assertEqual(self.report()[1]["providers"]["minimax"]["status"], "down")
        self.minimax.next = good()
        self.clock.advance(30)
        self.assertEqual(self.report()[1]["providers"]["minimax"]["status"], "up")
        self.assertNotIn("last_error", self.report()[1]["providers"]["minimax"])
        self.assertEqual(self.events, [("minimax", "down"), ("minimax", "up")])

    def test_breaker_counts_too(self) -> None:
        """What real traffic taught shows, although the probe is well."""
        self.start()
        for _ in range(3):
            self.minimax.circuit.permit("m").failure(Verdict(Kind.UPSTREAM, "boom", status=500))  # type: ignore
        self.assertEqual(self.report()[1]["providers"]["minimax"]["status"], "degraded")
        self.assertEqual(self.report()[1]["providers"]["minimax"]["last_error"], "boom")
        self.assertEqual(self.checker.line("minimax"), "degraded: boom")
        self.claude.circuit.permit("m").failure(Verdict(Kind.RATE, "slow", retry_after=9.0))  # type: ignore
        self.assertEqual(self.report()[1]["providers"]["anthropic"]["status"], "degraded")
        self.assertEqual(self.checker.line("anthropic"), "rate limited: slow")

    def test_interval(self) -> None:
        """At the start and then every interval, all upstreams at once."""
        self.start()
        self.assertEqual((self.minimax.probes, self.claude.probes), (1, 1))
        self.clock.advance(29)
        self.assertEqual(self.minimax.probes, 1)
        self.clock.advance(1)
        self.assertEqual((self.minimax.probes, self.claude.probes), (2, 2))

    def test_never_stops(self) -> None:
        """A probe that raises is logged and the loop goes on; the breaker learns nothing from a mistake of ours."""
        self.minimax.next = ZeroDivisionError()
        self.start()
        self.clock.pump([30] * 3)
        self.assertEqual((self.minimax.probes, self.claude.probes), (4, 4))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual(self.minimax.circuit.status, "unknown")
        self.assertEqual(self.report()[1]["providers"]["anthropic"]["status"], "up")

    def test_odd_result(self) -> None:
        """A probe that gives something else than a result is logged and harms nobody."""
        self.minimax.next = "nonsense"
        self.start()
        self.clock.advance(30)
        self.assertEqual(self.claude.probes, 2)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)

    def test_timeout(self) -> None:
        """A silent upstream is given up after the limit, and does not hold up the others."""
        cancelled: list[Any] = []
        self.minimax.next = Deferred(cancelled.append)
        self.start()
        self.assertEqual(self.report()[1]["providers"]["anthropic"]["status"], "up")
        self.assertEqual(cancelled, [])
        self.clock.advance(10)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.checker.records["minimax"].last_error, "no answer within 10 s")
        self.minimax.next = good()
        self.clock.advance(20)
        self.assertEqual(self.checker.line("minimax"), "ok (20ms)")

    def test_what_lives(self) -> None:
        """A 401 to no key, a 403, a 404, a 429 or a bare connection all show life; a 5xx and a refused key do not."""
        for result, status in [
            (good(status=401, keyed=False), "up"),
            (good(status=403), "up"),
            (good(status=404), "up"),
            (good(status=429), "up"),
            (good(status=None), "up"),
            (good(status=503), "degraded"),
            (good(status=401), "down"),
        ]:
            self.setUp()
            self.minimax.next = result
            self.successResultOf(self.checker.check_now())
            self.assertEqual(self.checker.status("minimax"), status, result)
        self.assertIn(("minimax", "auth_failure"), self.events)

    def test_latency_mean(self) -> None:
        """The latency shown is a mean in which the newest weighs three tenths."""
        for milliseconds in (100.0, 200.0):
            self.minimax.next = good(milliseconds)
            self.successResultOf(self.checker.check_now())
        record = self.checker.records["minimax"]
        self.assertAlmostEqual(record.latency_ms or 0, 130.0)
        self.assertEqual((record.last_latency_ms, record.models), (200.0, 2))

    def test_check_now_joins(self) -> None:
        """A check asked for while one is under way waits for that one."""
        waiting: Deferred[Any] = Deferred()
        self.minimax.next = waiting
        first, second = self.checker.check_now(), self.checker.check_now()
        self.assertEqual(self.minimax.probes, 1)
        self.assertNoResult(first)
        waiting.callback(good())
        self.successResultOf(first)
        self.successResultOf(second)

    def test_disabled(self) -> None:
        """A disabled upstream is not probed and does not count."""
        self.minimax.enabled = False
        self.start()
        self.assertEqual(self.minimax.probes, 0)
        self.assertEqual(self.report()[1]["status"], "healthy")
        self.assertEqual(self.checker.line("minimax"), "disabled")
        self.claude.next = REFUSED
        self.clock.advance(30)
        self.assertEqual(self.report()[0], 503)

    def test_off(self) -> None:
        """An interval of 0 turns the loop off; asking still works."""
        self.checker.configure({"minimax": self.minimax}, HealthSettings(every=0))
        self.start()
        self.clock.advance(1000)
        self.assertEqual(self.minimax.probes, 0)
        self.successResultOf(self.checker.check_now())
        self.assertEqual(self.minimax.probes, 1)

    def test_configure(self) -> None:
        """A new interval holds at once; what is known of an upstream that stays is kept, one that is gone forgotten."""
        self.start()
        self.checker.configure({"minimax": self.minimax}, HealthSettings(every=5.0))
        self.assertEqual(self.minimax.probes, 2)
        self.clock.pump([5, 5])
        self.assertEqual((self.minimax.probes, self.claude.probes), (4, 1))
        self.assertEqual(list(self.report()[1]["providers"]), ["minimax"])
        self.assertEqual(self.checker.line("anthropic"), "unknown")

    def test_result_after_replacement(self) -> None:
        """A probe of an upstream that a reload has replaced is not counted for its successor."""
        waiting: Deferred[Any] = Deferred()
        self.minimax.next = waiting
        self.start()
        successor = StubUpstream(self.clock, "minimax", lambda *_: None)
        self.checker.configure({"minimax": successor, "anthropic": self.claude}, HealthSettings(every=30.0))
        waiting.callback(REFUSED)
        self.assertEqual((successor.circuit.status, self.checker.line("minimax")), ("unknown", "not checked yet"))

    def test_stop(self) -> None:
        """Stopping ends the loop and the probes under way, and leaves nothing on the clock."""
        cancelled: list[Any] = []
        self.minimax.next = Deferred(cancelled.append)
        self.checker.startService()
        self.checker.stopService()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.minimax.circuit.status, "unknown")


class UptimeTests(SynchronousTestCase):
    """Durations for people."""

    def test_forms(self) -> None:
        """Two largest units; hours without end."""
        for seconds, text in [
            (-1, "0s"),
            (0.9, "0s"),
            (45, "45s"),
            (192, "3m 12s"),
            (9240, "2h 34m"),
            (87300, "24h 15m"),
            (360000, "100h 0m"),
        ]:
            self.assertEqual(duration(seconds), text)
