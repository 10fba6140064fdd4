"""Tests for :mod:`mportrouter.ledger`."""

from __future__ import annotations

import json
import os
import stat

from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import ledger as ledger_module
from ..interfaces import ILedger
from ..ledger import BACKLOG, DELAY, RETRY, Ledger
from ..records import AttemptRecord, ExchangeRecord, Usage

#: 2026-11-18T11:06:40Z
AT = 1_795_000_000.0
DOLLAR = 10**12


def record(**changes: object) -> ExchangeRecord:
    """An ordinary exchange that cost a cent."""
    return replace(
        ExchangeRecord(
            at=AT,
            port=8787,
            mode="mixed",
            upstream="minimax",
            provider="minimax",
            model="MiniMax-M3",
            status=200,
            milliseconds=30.0,
            first_milliseconds=10.0,
            usage=Usage(input=100, output=50, cache_read=5, cache_write_5m=3, cache_write_1h=2, reasoning=20),
            cost=DOLLAR // 100,
            reference_cost=DOLLAR // 10,
            attempts=1,
        ),
        **changes,
    )


class LedgerTestCase(SynchronousTestCase):
    """A ledger in a temporary directory, on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(AT)
        self.directory = os.path.join(self.mktemp(), "state")
        self.path = os.path.join(self.directory, "ledger-2026-11.jsonl")
        self.messages: list[str] = []
        self.patch(Ledger, "_log", Logger(observer=lambda event: self.messages.append(event["log_format"])))
        self.ledger = self.make()

    def make(self, **more: object) -> Ledger:
        return Ledger(self.directory, self.clock, self.clock.seconds, **more)

    def restarted(self) -> Ledger:
        ledger = self.make()
        ledger.startService()
        return ledger

    def lines(self, path: str | None = None) -> list[dict[str, object]]:
        with open(path or self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]


class FileTests(LedgerTestCase):
    """What is on disk."""

    def test_interface(self) -> None:
        """It provides the interface."""
        self.assertTrue(verifyObject(ILedger, self.ledger))

    def test_lines(self) -> None:
        """Each exchange is one line with every member of its record, within a tenth of a second."""
        self.ledger.startService()
        self.ledger.add(record())
        self.ledger.add(record(usage=None, reference_cost=None))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(DELAY)
        first, second = self.lines()
        self.assertEqual(set(first), {"end", *ExchangeRecord.__struct_fields__})
        self.assertEqual((first["end"], first["cost"], first["usage"]["output"]), (AT, DOLLAR // 100, 50))
        self.assertIsNone(second["usage"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_permissions(self) -> None:
        """File and directory are the user's own."""
        self.ledger.startService()
        self.ledger.add(record())
        self.ledger.stopService()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)

    def test_no_words(self) -> None:
        """The words of errors, which may quote a request, are not kept; their kinds are."""
        self.ledger.startService()
        failed = [AttemptRecord("minimax", "m", "policy", 400, "you said: my secret", 5.0)]
        given = record(error="you said: my secret", failed=failed, outcome="error", status=400)
        self.ledger.add(given)
        self.ledger.stopService()
        (line,) = self.lines()
        self.assertNotIn("my secret", json.dumps(line))
        self.assertEqual(line["failed"][0]["kind"], "policy")
        self.assertEqual(given.failed[0].message, "you said: my secret")

    def test_odd_text(self) -> None:
        """A lone surrogate or a line end in a client's text does not break the file."""
        self.ledger.startService()
        self.ledger.add(record(requested="m\ud800", session="a\nb"))
        self.ledger.add(record())
        self.ledger.stopService()
        self.assertEqual([line["requested"] for line in self.lines()], ["m\\ud800", ""])

    def test_stop_writes_and_syncs(self) -> None:
        """A stop writes what waits and has it on the disk."""
        synced: list[int] = []
        self.patch(os, "fsync", synced.append)
        self.ledger.startService()
        self.ledger.add(record())
        self.ledger.stopService()
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(len(synced), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_start_and_without(self) -> None:
        """A record that comes before the start is kept; a stop without a record makes no file."""
        self.ledger.add(record())
        self.ledger.startService()
        self.assertEqual(len(self.lines()), 1)
        other = Ledger(self.directory + "2", self.clock, self.clock.seconds)
        other.startService()
        other.stopService()
        self.assertEqual(os.listdir(self.directory + "2"), [])

    def test_month(self) -> None:
        """A new month (UTC) begins a new file, in the middle of a run."""
        self.ledger.startService()
        self.ledger.add(record())
        self.clock.advance(DELAY)
        self.clock.advance(14 * 86400)
        self.ledger.add(record())
        self.clock.advance(DELAY)
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(len(self.lines(os.path.join(self.directory, "ledger-2026-12.jsonl"))), 1)

    def test_append(self) -> None:
        """A restart goes on at the end."""
        for _ in range(2):
            ledger = self.restarted()
            ledger.add(record())
            ledger.stopService()
        self.assertEqual(len(self.lines()), 2)

    def test_torn_line(self) -> None:
        """A last line that a crash has torn is cut off at the start; all before it stays."""
        for rest in (b'{"end":1795', b"x" * 200_000, b"\xff\x00"):
            os.makedirs(self.directory, exist_ok=True)
            with open(self.path, "wb") as file:
                file.write(b'{"end": 1, "cost": 2}\n' + rest)
            ledger = self.restarted()
            ledger.add(record())
            ledger.stopService()
            self.assertEqual([line["end"] for line in self.lines()], [1, AT])

    def test_only_a_torn_line(self) -> None:
        """A file that is one torn line becomes empty."""
        os.makedirs(self.directory)
        with open(self.path, "wb") as file:
            file.write(b"{")
        self.restarted()
        self.assertEqual(os.path.getsize(self.path), 0)


class TroubleTests(LedgerTestCase):
    """A disk that refuses."""

    def test_unwritable_directory(self) -> None:
        """Without a place to write, totals go on, one warning is given, and lines wait for better times."""
        os.makedirs(os.path.dirname(self.directory))
        with open(self.directory, "w"):
            pass
        self.ledger.startService()
        for _ in range(3):
            self.ledger.add(record())
            self.clock.advance(DELAY)
        self.clock.advance(RETRY)
        self.assertEqual(self.ledger.stats()["requests_total"], 3)
        self.assertEqual(len(self.messages), 1)
        os.unlink(self.directory)
        self.clock.advance(RETRY)
        self.assertEqual(len(self.lines()), 3)
        self.assertIn("can be written again", self.messages[-1])
        self.ledger.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_short_writes(self) -> None:
        """A disk that fills up in the middle of a line leaves a line that is finished later."""
        self.ledger.startService()
        self.ledger.add(record())
        real, room = os.write, [40]

        def write(number: int, content: bytes) -> int:
            if not room[0]:
                raise OSError(28, "No space left on device")
            written = real(number, content[: room[0]])
            room[0] -= written
            return written

        self.patch(os, "write", write)
        self.clock.advance(DELAY)
        self.assertEqual(os.path.getsize(self.path), 40)
        room[0] = 10**6
        self.ledger.add(record(cost=7))
        self.clock.advance(RETRY)
        self.assertEqual([line["cost"] for line in self.lines()], [DOLLAR // 100, 7])
        self.ledger.stopService()

    def test_backlog_is_bounded(self) -> None:
        """What waits for the disk is bounded; the oldest lines are given up, whole."""
        self.ledger.startService()

        def full(number: int, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        self.patch(os, "write", full)
        for _ in range(3):
            for _ in range(20):
                self.ledger.add(record(decision="x" * 200_000))
            self.ledger.flush()
        self.assertLessEqual(len(self.ledger._backlog), BACKLOG)
        self.assertTrue(self.ledger._backlog.startswith(b'{"end"'))
        self.ledger.stopService()
        self.assertTrue(any("are lost" in message for message in self.messages))


class SpentTests(LedgerTestCase):
    """What the last hour cost."""

    def test_window(self) -> None:
        """Money counts for an hour, to the second."""
        self.ledger.startService()
        self.ledger.add(record(cost=100))
        self.clock.advance(1800)
        self.ledger.add(record(cost=10))
        self.assertEqual(self.ledger.spent(3600), 110)
        self.assertEqual(self.ledger.spent(60), 10)
        self.clock.advance(1801)
        self.assertEqual(self.ledger.spent(3600), 10)
        self.clock.advance(1800)
        self.assertEqual(self.ledger.spent(3600), 0)
        self.ledger.stopService()

    def test_bounded(self) -> None:
        """However many records come, the window holds one number a second."""
        for _ in range(5000):
            self.clock.advance(1)
            self.ledger._window.add(self.clock.seconds(), 1)
            self.ledger._window.add(self.clock.seconds(), 1)
        self.assertLessEqual(len(self.ledger._window._buckets), 3601)
        self.assertEqual(self.ledger.spent(3600), 7200)

    def test_restart(self) -> None:
        """What was spent before a restart still counts, by when each exchange ended."""
        self.ledger.startService()
        self.ledger.add(record(cost=100))
        self.clock.advance(3000)
        self.ledger.add(record(cost=10))
        self.ledger.stopService()
        self.clock.advance(300)
        ledger = self.restarted()
        self.assertEqual(ledger.spent(3600), 110)
        self.assertEqual(ledger.spent(400), 10)
        self.assertEqual(ledger.stats()["requests_total"], 0)
        self.clock.advance(400)
        self.assertEqual(ledger.spent(3600), 10)

    def test_restart_over_a_month(self) -> None:
        """The hour is whole also in the first minutes of a month."""
        self.clock.advance(1_796_083_200 - 600 - AT)
        self.ledger.startService()
        self.ledger.add(record(cost=100))
        self.clock.advance(DELAY)
        self.clock.advance(900)
        self.ledger.add(record(cost=10))
        self.ledger.stopService()
        self.assertEqual(sorted(os.listdir(self.directory)), ["ledger-2026-11.jsonl", "ledger-2026-12.jsonl"])
        self.assertEqual(self.restarted().spent(3600), 110)

    def test_restart_with_rubbish(self) -> None:
        """Lines that cannot be read are passed over; much older ones are not even read."""
        os.makedirs(self.directory)
        with open(self.path, "wb") as file:
            file.write(b'{"end": %d, "cost": 1}\n' % (AT - 4000))
            file.write(b"rubbish\n\n[]\n" + b'{"cost": "x"}\n' + b"\xff\n")
            file.write(b'{"end": %d, "cost": 5}\n' % (AT - 10))
            file.write(b'{"end": %d, "cost": 3}\n' % (AT + 5000))
        self.assertEqual(self.restarted().spent(3600), 8)

    def test_restart_reads_blocks(self) -> None:
        """Lines over the edges of the blocks that are read backwards are whole."""
        os.makedirs(self.directory)
        lines = [b'{"end": %d, "cost": %d, "decision": "%s"}\n' % (AT - 10, n, b"x" * 3000) for n in range(1, 1001)]
        with open(self.path, "wb") as file:
            file.write(b"".join(lines))
        self.assertEqual(self.restarted().spent(3600), 500500)

    def test_restart_is_quick(self) -> None:
        """Of a very large file only the end is read."""
        os.makedirs(self.directory)
        self.patch(ledger_module, "_RESTORE_BYTES", 4000)
        with open(self.path, "wb") as file:
            file.write(b'{"end": %d, "cost": 1, "x": "%s"}\n' % (AT - 5, b"x" * 3000))
            for _ in range(20):
                file.write(b'{"end": %d, "cost": 1}\n' % (AT - 5))
        self.assertEqual(self.restarted().spent(3600), 21)
        with open(self.path, "ab") as file:
            file.write(b"x" * 5000 + b"\n" + b'{"end": %d, "cost": 2}\n' % (AT - 5))
        self.assertEqual(self.restarted().spent(3600), 2)

    def test_clock_set_back(self) -> None:
        """A clock that jumps back neither loses money nor raises."""
        self.ledger.startService()
        self.ledger.add(record(cost=100))
        self.ledger._wall = lambda: AT - 500
        self.ledger.add(record(cost=10))
        self.assertEqual(self.ledger.spent(3600), 110)
        self.ledger._wall = lambda: AT - 500 + 3601
        self.assertEqual(self.ledger.spent(3600), 0)

    def test_clock_from_the_future(self) -> None:
        """What was spent while the clock was years ahead counts for an hour, not for years."""
        self.ledger.startService()
        self.ledger._wall = lambda: AT + 1e8
        self.ledger.add(record(cost=100))
        for later, spent in ((10, 100), (3000, 100), (3700, 0)):
            self.ledger._wall = lambda later=later: AT + later  # type: ignore[misc]
            self.assertEqual(self.ledger.spent(3600), spent)


class StatsTests(LedgerTestCase):
    """The totals."""

    def test_nothing(self) -> None:
        """Before the first request everything is zero, and the listed providers are there."""
        stats = self.make(providers=("anthropic", "minimax")).stats()
        self.assertEqual(stats["since"], "2026-11-18T11:06:40Z")
        self.assertEqual(list(stats["providers"]), ["minimax", "anthropic"])
        self.assertEqual((stats["requests_total"], stats["cost"], stats["savings"]), (0, 0, 0))
        self.assertEqual((stats["savings_percent"], stats["latency_ms"]), (None, None))
        self.assertEqual(stats["providers"]["minimax"]["share"], 0)

    def test_totals(self) -> None:
        """Counts, shares, costs, savings, tokens and mean latencies."""
        for _ in range(3):
            self.ledger.add(record())
        self.ledger.add(
            record(provider="anthropic", upstream="claude-1", milliseconds=150.0, cost=DOLLAR, reference_cost=DOLLAR)
        )
        stats = self.ledger.stats()
        self.assertEqual(stats["requests_total"], 4)
        self.assertEqual(stats["providers"]["minimax"]["requests"], 3)
        self.assertEqual(stats["providers"]["minimax"]["share"], 75.0)
        self.assertEqual(stats["providers"]["minimax"]["latency_ms"], 30.0)
        self.assertEqual(stats["providers"]["anthropic"]["latency_ms"], 150.0)
        self.assertEqual(stats["upstreams"]["claude-1"]["cost"], 1.0)
        self.assertEqual((stats["latency_ms"], stats["first_ms"]), (60.0, 10.0))
        self.assertAlmostEqual(stats["cost"], 1.03)
        self.assertAlmostEqual(stats["reference_cost"], 1.3)
        self.assertAlmostEqual(stats["savings"], 0.27)
        self.assertAlmostEqual(stats["savings_percent"], 100 * 0.27 / 1.3)
        self.assertAlmostEqual(stats["cost_last_hour"], 1.03)
        self.assertEqual(
            stats["tokens"],
            {"input": 400, "output": 200, "cache_read": 20, "cache_write_5m": 12, "cache_write_1h": 8, "reasoning": 80},
        )
        self.assertEqual(stats["providers"]["minimax"]["cache_write"], 15)

    def test_two_accounts(self) -> None:
        """Two upstreams of one provider add up in it."""
        self.ledger.add(record(upstream="a"))
        self.ledger.add(record(upstream="b"))
        stats = self.ledger.stats()
        self.assertEqual(stats["providers"]["minimax"]["requests"], 2)
        self.assertEqual([stats["upstreams"][id]["share"] for id in ("a", "b")], [50.0, 50.0])

    def test_outcomes(self) -> None:
        """Errors, cuts and gone clients are requests, but not part of the mean latency."""
        for outcome in ("ok", "error", "cut", "gone"):
            self.ledger.add(record(outcome=outcome, milliseconds=30.0 if outcome == "ok" else 9000.0))
        stats = self.ledger.stats()
        self.assertEqual(
            [stats[name] for name in ("requests_total", "errors", "cut", "gone", "latency_ms")], [4, 1, 1, 1, 30.0]
        )

    def test_not_requests(self) -> None:
        """Commands and what was refused at the door are not requests; analyses only cost."""
        self.ledger.add(record(outcome="command", provider="", upstream="", cost=0))
        self.ledger.add(
            record(
                outcome="error",
                provider="",
                upstream="",
                cost=0,
                failed=[AttemptRecord("u", "m", "network", None, "", 1.0)],
            )
        )
        self.ledger.add(record(outcome="analysis", cost=DOLLAR, reference_cost=DOLLAR))
        stats = self.ledger.stats()
        self.assertEqual(
            [stats[name] for name in ("requests_total", "commands", "refused", "analyses", "failed_attempts")],
            [0, 1, 1, 1, 1],
        )
        self.assertEqual((stats["cost"], stats["savings"]), (1.0, -1.0))

    def test_unknown_reference(self) -> None:
        """Where the strong provider's price is unknown, nothing is claimed to be saved."""
        self.ledger.add(record(reference_cost=None))
        self.assertEqual(self.ledger.stats()["savings"], 0)

    def test_failed_attempts(self) -> None:
        """Attempts that did not serve are counted."""
        attempt = AttemptRecord("minimax", "m", "timeout", None, "", 30000.0)
        self.ledger.add(record(failed=[attempt, attempt], provider="anthropic"))
        self.assertEqual(self.ledger.stats()["failed_attempts"], 2)
