"""Tests of :mod:`mportrouter.usage_log`."""

from __future__ import annotations

import json
import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ..records import ExchangeRecord, Usage
from ..usage_log import UsageLog

USAGE = Usage(input=1200, output=500, cache_read=30, cache_write_5m=4, cache_write_1h=1)


def record(provider: str = "cerebras", model: str = "zai-glm-4.7", usage: Usage | None = USAGE) -> ExchangeRecord:
    return ExchangeRecord(at=1770462000.0, milliseconds=250.0, provider=provider, model=model, usage=usage)


class UsageLogTests(SynchronousTestCase):
    """One JSON line for each answer."""

    def setUp(self) -> None:
        self.path = os.path.join(self.mktemp(), "usage.jsonl")
        self.clock = Clock()
        self.log = UsageLog(self.path, self.clock)

    def lines(self) -> list[str]:
        with open(self.path, encoding="ascii") as file:
            return file.read().splitlines()

    def test_line(self) -> None:
        """A line has the members, the order and the date of the seed's."""
        self.log.add(record())
        self.clock.advance(0.2)
        self.assertEqual(
            self.lines(),
            [
                '{"timestamp":"2026-02-07T11:00:00.250Z","provider":"cerebras","model":"zai-glm-4.7",'
                '"inputTokens":1200,"outputTokens":500,"cacheReadTokens":30,"cacheCreationTokens":5,"totalTokens":1735}'
            ],
        )

    def test_appended(self) -> None:
        """Lines that come together are written together, behind what is there; only the owner may read them."""
        for _ in range(3):
            self.log.add(record())
        self.clock.advance(0.2)
        self.log.add(record("codex"))
        self.log.startService()
        self.log.stopService()
        self.assertEqual([json.loads(line)["provider"] for line in self.lines()], ["cerebras"] * 3 + ["codex"])
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_told(self) -> None:
        """An exchange without usage, or that nobody served, leaves no line."""
        self.log.add(record(usage=None))
        self.log.add(record(provider=""))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.log.report()["recent"], [])

    def test_report(self) -> None:
        """The totals are told by provider and by model, also where no file is kept."""
        log = UsageLog(None, self.clock)
        log.add(record())
        log.add(record(model="gpt-oss-120b"))
        report = log.report()
        self.assertEqual(report["byProvider"]["cerebras"]["totalTokens"], 2 * 1735)
        self.assertEqual([row["requests"] for row in report["byModel"]], [1, 1])
        self.assertEqual(len(report["recent"]), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_disk_refuses(self) -> None:
        """What cannot be written is kept for the next time, and complained of once."""
        os.makedirs(self.path)
        self.log.add(record())
        self.clock.advance(0.2)
        self.log.add(record())
        self.clock.advance(0.2)
        os.rmdir(self.path)
        self.log.add(record())
        self.clock.advance(0.2)
        self.assertEqual(len(self.lines()), 3)
