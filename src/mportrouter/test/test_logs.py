"""Tests for :mod:`mportrouter.logs` and :mod:`mportrouter.logtext`."""

from __future__ import annotations

import json
import os
import re
import stat

from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python import threadable
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..logs import DELAY, KEPT, RETRY, RouterLog
from ..logtext import instant, quoted, scrub, word
from ..records import AttemptRecord, ExchangeRecord, Usage
from ..settings import LogSettings

AT = 1_795_000_000.25


def record(**changes: object) -> ExchangeRecord:
    """An ordinary exchange."""
    return replace(
        ExchangeRecord(
            at=AT,
            port=8787,
            mode="mixed",
            upstream="minimax",
            provider="minimax",
            model="MiniMax-M3",
            requested="claude-opus-5-5",
            status=200,
            milliseconds=812.44,
            first_milliseconds=231.0,
            usage=Usage(input=1200, output=310, cache_read=7, cache_write_5m=2, cache_write_1h=3),
            cost=732_000_000,
            attempts=1,
            decision="primary of mixed",
            request_id="req_1",
        ),
        **changes,
    )


class LogTestCase(SynchronousTestCase):
    """A log in a temporary directory, on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = os.path.join(self.mktemp(), "logs")
        self.path = os.path.join(self.directory, "router.log")
        self.log = self.make()

    def make(self, **settings: object) -> RouterLog:
        return RouterLog(LogSettings(file=self.path, **settings), self.clock, lambda: AT, None)

    def lines(self) -> list[str]:
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()


class LineTests(LogTestCase):
    """What stands in the file."""

    def test_exchange(self) -> None:
        """An exchange is one line, with its end as the time."""
        self.log.startService()
        self.log.exchange(record())
        self.clock.advance(DELAY)
        self.assertEqual(
            self.lines(),
            [
                "2026-11-18T11:06:41.062Z INFO exchange upstream=minimax mode=mixed port=8787 model=MiniMax-M3 "
                "status=200 ms=812.4 ttft=231.0 in=1200 out=310 cache_read=7 cache_write=5 cost=0.000732 attempts=1 "
                'outcome=ok request=req_1 decision="primary of mixed"'
            ],
        )

    def test_nothing_known(self) -> None:
        """What is not known is a dash, so that columns keep their places."""
        self.log.startService()
        self.log.exchange(ExchangeRecord(at=AT, outcome="command", status=200))
        self.log.flush()
        (line,) = self.lines()
        for part in ("upstream=- ", "model=- ", "ttft=- ", "cache_read=- cache_write=- ", "request=- ", 'decision=""'):
            self.assertIn(part, line)

    def test_levels(self) -> None:
        """``grep -E "(ERROR|FATAL)"`` finds what broke, and only that."""
        self.log.startService()
        for outcome, status in (("ok", 200), ("gone", 0), ("error", 400), ("error", 503), ("cut", 200)):
            self.log.exchange(record(outcome=outcome, status=status))
        self.log.event("oh", "fatal")
        self.log.flush()
        self.assertEqual(
            [line.split()[1] for line in self.lines()], ["INFO", "INFO", "WARN", "ERROR", "ERROR", "FATAL"]
        )

    def test_failed_attempts(self) -> None:
        """Each attempt that did not serve has a line of its own, before the exchange's."""
        self.log.startService()
        attempt = AttemptRecord("minimax", "MiniMax-M3", "overloaded", 529, 'busy "now"\nERROR forged', 12.0)
        self.log.exchange(record(failed=[attempt, attempt], upstream="anthropic", attempts=3))
        self.log.flush()
        lines = self.lines()
        self.assertEqual(len(lines), 3)
        self.assertIn(
            " WARN attempt upstream=minimax mode=mixed port=8787 model=MiniMax-M3 status=529 ms=12.0 kind=overloaded "
            'request=req_1 error="busy \\"now\\"\\nERROR forged"',
            lines[0],
        )
        self.assertEqual(lines[0], lines[1])
        self.assertIn(" INFO exchange upstream=anthropic ", lines[2])

    def test_event(self) -> None:
        """An event shows its fields; those with spaces are quoted."""
        self.log.startService()
        self.log.event("circuit_opened", "warn", upstream="minimax", detail="5 failures", port=8787, status=None)
        self.log.flush()
        self.assertEqual(
            self.lines(),
            ['2026-11-18T11:06:40.250Z WARN circuit_opened upstream=minimax detail="5 failures" port=8787 status=-'],
        )

    def test_forged_lines(self) -> None:
        """A client cannot write lines of its own, or move a terminal's cursor."""
        self.log.startService()
        evil = "m\n2026-01-01T00:00:00.000Z FATAL x\r\x1b[2J\u2028\x85\x00"
        self.log.exchange(record(model=evil, error=evil, decision=evil, status=500, outcome="error", request_id=evil))
        self.log.event("x", "info", name_of=evil)
        self.log.flush()
        with open(self.path, "rb") as file:
            content = file.read()
        self.assertEqual(content.count(b"\n"), 2)
        self.assertTrue(all(line.isprintable() for line in content.decode().split("\n")))

    def test_secrets(self) -> None:
        """What looks like a key never reaches the file, in either format."""
        key = "sk-ant-api03-AAAAbbbbCCCC1234"
        for form in ("text", "json"):
            log = self.make(format=form)
            log.startService()
            log.exchange(record(error=f"bad key {key}", model=key, decision=f"x {key}", status=401, outcome="error"))
            log.exchange(record(failed=[AttemptRecord("u", key, "auth", 401, f"Bearer {key}", 1.0)]))
            log.event("x", "info", detail=key, reason=key)
            log.stopService()
        with open(self.path) as file:
            content = file.read()
        self.assertNotIn("AAAAbbbb", content)
        self.assertIn("****", content)

    def test_json(self) -> None:
        """With ``format: json`` each line is an object of the same names."""
        log = self.make(format="json")
        log.startService()
        log.exchange(record(model="m\u2028\ud800"))
        log.event("port_open", "info", port=8787, error="\ud800")
        log.flush()
        exchange, event = (json.loads(line) for line in self.lines())
        self.assertEqual((event["event"], event["port"]), ("port_open", 8787))
        self.assertEqual((exchange["level"], exchange["event"]), ("INFO", "exchange"))
        self.assertEqual((exchange["time"], exchange["model"]), (instant(AT + 0.81244), "m\u2028\ud800"))
        log2 = self.make(format="json")
        log2.startService()
        log2.exchange(record())
        log2.flush()
        last = json.loads(self.lines()[-1])
        self.assertEqual(
            {name: last[name] for name in ("upstream", "in", "out", "cost", "ms", "ttft", "status")},
            {"upstream": "minimax", "in": 1200, "out": 310}
            | {"cost": 0.000732, "ms": 812.4, "ttft": 231.0, "status": 200},
        )

    def test_level_filter(self) -> None:
        """Below the configured level nothing is written; attempts and errors still are at level warn."""
        log = self.make(level="WARN")
        log.startService()
        log.exchange(record(failed=[AttemptRecord("u", "m", "rate_limit", 429, "", 1.0)]))
        log.event("chatter", "debug")
        log.event("chatter", "info")
        log.event("told", "warn")
        log.flush()
        self.assertEqual([line.split()[2] for line in self.lines()], ["attempt", "told"])


class FileTests(LogTestCase):
    """How the file is kept."""

    def test_permissions(self) -> None:
        """File and directory are the user's own."""
        self.log.startService()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)

    def test_batched(self) -> None:
        """Records wait for others for a moment, and leave in one write with one delayed call."""
        self.log.startService()
        for _ in range(3):
            self.log.exchange(record())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.lines(), [])
        writes: list[bytes] = []
        self.patch(self.log._file, "write", writes.append)
        self.clock.advance(DELAY)
        self.assertEqual(len(writes), 1)
        self.assertEqual(writes[0].count(b"\n"), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A stop writes what waits, and leaves no delayed call."""
        self.log.startService()
        self.log.exchange(record())
        self.log.stopService()
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_start(self) -> None:
        """What happens before the start is written once the file is open."""
        self.log.event("early")
        self.clock.advance(DELAY)
        self.log.event("late")
        self.assertEqual([line.split()[2] for line in self.log.tail(5)], ["early", "late"])
        self.log.startService()
        self.assertEqual([line.split()[2] for line in self.lines()], ["early", "late"])

    def test_rotation(self) -> None:
        """A full file is put aside, no more than wanted are kept, and no line is lost between them."""
        log = self.make(rotate_bytes=500, keep=2)
        log.startService()
        for number in range(12):
            log.exchange(record(request_id=f"req_{number}"))
            log.flush()
        self.assertEqual(sorted(os.listdir(self.directory)), ["router.log", "router.log.1", "router.log.2"])
        ids = [re.search(r"request=req_(\d+)", line).group(1) for line in self.make(keep=2).tail(100)]
        self.assertEqual(ids, [str(number) for number in range(12 - len(ids), 12)])
        self.assertGreater(len(ids), 3)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_moved_away(self) -> None:
        """A file that was moved or deleted is made again."""
        self.log.startService()
        self.log.event("one")
        self.log.flush()
        os.rename(self.path, self.path + ".old")
        self.log.event("two")
        self.log.flush()
        self.assertEqual([line.split()[2] for line in self.lines()], ["two"])

    def test_unwritable(self) -> None:
        """Where the file cannot be written the router goes on, warns once, and writes later what waited."""
        os.makedirs(os.path.dirname(self.directory), exist_ok=True)
        with open(self.directory, "w"):
            pass  # a file where the directory should be
        warnings: list[str] = []
        self.patch(RouterLog, "_log", Logger(observer=lambda event: warnings.append(event["log_format"])))
        self.log.startService()
        self.log.event("one")
        self.clock.advance(DELAY)
        self.clock.advance(RETRY)
        self.log.event("two")
        self.clock.advance(DELAY)
        self.assertEqual(len(warnings), 1)
        self.assertEqual([line.split()[2] for line in self.log.tail(9)], ["one", "two"])
        os.unlink(self.directory)
        self.log.event("three")
        self.clock.advance(DELAY)
        self.assertFalse(os.path.exists(self.path))
        self.clock.advance(RETRY)
        self.log.event("four")
        self.clock.advance(DELAY)
        self.assertEqual([line.split()[2] for line in self.lines()], ["one", "two", "three", "four"])
        self.assertEqual(len(warnings), 2)
        self.log.stopService()

    def test_disk_full(self) -> None:
        """A write that fails keeps its lines for the next try."""
        self.log.startService()
        self.patch(RouterLog, "_log", Logger(observer=lambda event: None))

        def full(_: bytes) -> None:
            raise OSError(28, "No space left on device")

        self.patch(self.log._file, "write", full)
        self.log.event("one")
        self.clock.advance(DELAY)
        self.clock.advance(RETRY)
        self.log.event("two")
        self.clock.advance(DELAY)
        self.assertEqual([line.split()[2] for line in self.lines()], ["one", "two"])

    def test_reconfigure(self) -> None:
        """New settings are taken at once; what was gathered is written under the old ones."""
        self.log.startService()
        self.log.event("one")
        other = os.path.join(self.directory, "other.log")
        self.log.reconfigure(LogSettings(file=other, level="error", format="json"))
        self.log.event("two", "info")
        self.log.event("three", "error")
        self.log.stopService()
        self.assertEqual([line.split()[2] for line in self.lines()], ["one"])
        with open(other) as file:
            self.assertEqual([json.loads(line)["event"] for line in file], ["three"])


class TailTests(LogTestCase):
    """The last lines."""

    def test_unflushed(self) -> None:
        """A line that was logged this moment is among them."""
        self.log.startService()
        self.log.event("now")
        self.assertEqual([line.split()[2] for line in self.log.tail(1)], ["now"])
        self.assertEqual(self.log.tail(0), [])

    def test_earlier_run(self) -> None:
        """Right after a start the lines of the run before are there."""
        self.log.startService()
        for number in range(5):
            self.log.event(f"e{number}")
        self.log.stopService()
        log = self.make()
        log.startService()
        log.event("new")
        self.assertEqual([line.split()[2] for line in log.tail(3)], ["e3", "e4", "new"])
        self.assertEqual(len(log.tail(100)), 6)

    def test_memory_is_bounded(self) -> None:
        """Past what memory keeps, the file is read."""
        self.log.startService()
        for number in range(KEPT + 10):
            self.log.event(f"e{number}")
        self.assertEqual(len(self.log.tail(KEPT + 5)), KEPT + 5)
        self.assertEqual(self.log.tail(KEPT + 5)[-1].split()[2], f"e{KEPT + 9}")
        self.assertEqual(len(self.log._ring), KEPT)


class ObserverTests(LogTestCase):
    """The log as an observer of Twisted's."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = LogPublisher()
        self.log = RouterLog(LogSettings(file=self.path), self.clock, lambda: AT, self.publisher)

    def logger(self, namespace: str) -> Logger:
        return Logger(namespace, observer=self.publisher)

    def test_interface(self) -> None:
        """It is a log observer."""
        self.assertTrue(verifyObject(ILogObserver, self.log))

    def test_own_namespace(self) -> None:
        """The router's own events are logged, those of others not."""
        self.log.startService()
        self.logger("mportrouter.health.HealthChecker").warn("{upstream} is down", upstream="minimax")
        self.logger("mportrouterx").warn("other")
        self.logger("twisted.web").error("noise")
        self.log.flush()
        self.assertEqual(self.lines(), ['2026-11-18T11:06:40.250Z WARN HealthChecker message="minimax is down"'])

    def test_critical(self) -> None:
        """A critical failure of anybody is FATAL, with the error and where it was raised, without its traceback."""
        self.log.startService()
        try:
            raise ValueError("token=abcdefgh broke")
        except ValueError:
            self.logger("twisted.internet.defer").failure("Unhandled", failure=Failure())
        self.log.flush()
        (line,) = self.lines()
        self.assertIn(' FATAL defer message="Unhandled" error="ValueError: token=**** broke (test_logs.py:', line)

    def test_only_while_running(self) -> None:
        """Before the start and after the stop it does not listen."""
        self.logger("mportrouter").info("one")
        self.log.startService()
        self.log.stopService()
        self.logger("mportrouter").info("two")
        self.log.flush()
        self.assertEqual(self.lines(), [])

    def test_other_threads(self) -> None:
        """An event of another thread is handed to the reactor's."""
        handed: list[tuple[object, ...]] = []
        self.clock.callFromThread = lambda method, *args, **kw: handed.append((method, args, kw))  # type: ignore[attr-defined]
        self.patch(threadable, "ioThread", -1)
        self.log.startService()
        self.logger("mportrouter.x").info("hello")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        method, args, fields = handed[0]
        method(*args, **fields)  # type: ignore[operator]
        self.log.flush()
        self.assertIn('INFO x message="hello"', self.lines()[0])


class TextTests(SynchronousTestCase):
    """Values in a line."""

    def test_scrub(self) -> None:
        """Keys, tokens, passwords and user information of URLs are masked; ordinary words stay."""
        for text, expected in {
            "key sk-ant-api03-abcdef": "key ****",
            "sk-proj-1234567 x": "**** x",
            "Authorization: Bearer abc.def-ghi x": "Authorization: Bearer **** x",
            "bearer eyJhbGciOi.eyJzdWIi.sig": "bearer ****",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc": "****",
            "x-api-key: abc123": "x-api-key: ****",
            '{"api_key": "abc123"}': '{"api_key": ****"}',
            "https://me:pw@host/x": "https://****@host/x",
            "https://host/x?token=abc&b=1": "https://host/x?token=****&b=1",
            "password=hunter2": "password=****",
            "AIzaSyA1234567890abcdefghijk": "****",
        }.items():
            self.assertEqual(scrub(text), expected)
        for text in ("", "120 tokens used", "max_tokens: 100", "task-force", "the bearer", "MiniMax-M3", "eyJ"):
            self.assertEqual(scrub(text), text)

    def test_word(self) -> None:
        """Words stay bare; what could be mistaken is quoted."""
        self.assertEqual(
            [word(text) for text in ("a-b.c:d", "", "a b", 'a"b', "a=b", "a\\b", "ä")],
            ["a-b.c:d", "-", '"a b"', '"a\\"b"', '"a=b"', '"a\\\\b"', "ä"],
        )

    def test_quoted(self) -> None:
        """Characters that do not print are escaped, long texts cut."""
        self.assertEqual(quoted("a\tb\x07\U000e0001\ud800"), '"a\\tb\\u0007\\U000e0001\\ud800"')
        self.assertEqual(len(quoted("x" * 5000)), 602)
        self.assertTrue(quoted("x" * 5000).endswith('…"'))

    def test_key_at_the_cut(self) -> None:
        """A key where a long text is cut is masked, not halved."""
        self.assertNotIn("sk-ant", quoted("x" * 585 + " sk-ant-api03-abcdefghijkl"))

    def test_instant(self) -> None:
        """Times are UTC with milliseconds; impossible ones do not raise."""
        self.assertEqual(instant(0), "1970-01-01T00:00:00.000Z")
        self.assertEqual(instant(1_795_000_000.9996), "2026-11-18T11:06:40.999Z")
        self.assertEqual(instant(1e20)[:4], "0000")
