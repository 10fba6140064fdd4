"""
Tokens of each answer as JSON lines, in the form that users of claude-multi-proxy keep and read.

::

    {"timestamp":"2026-02-07T11:00:00.000Z","provider":"cerebras","model":"zai-glm-4.7","inputTokens":1200,
     "outputTokens":500,"cacheReadTokens":0,"cacheCreationTokens":0,"totalTokens":1700}

Lines are gathered and written together within a tenth of a second. The ledger is the record that counts; where this
file cannot be written a warning says so once, and nothing else is held up.

Imports of its own floor: :mod:`mportrouter.state`, for the making of directories.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import Any

from twisted.application import service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from .records import ExchangeRecord, Usage
from .state import prepare_directory

#: Seconds that a line may wait for others before it is written.
DELAY = 0.1
#: Lines that ``GET /api/usage`` shows.
_RECENT = 50
#: Lines that are kept where the disk refuses.
_BACKLOG = 10_000


class UsageLog(service.Service):
    """
    :param path: the file, appended to; ``None``: none.
    :param clock: gathers lines.
    """

    _log = Logger()
    name = "usage"

    def __init__(self, path: str | None, clock: IReactorTime) -> None:
        self.path = None if path is None else os.path.expanduser(path)
        self._clock = clock
        self._pending: deque[str] = deque(maxlen=_BACKLOG)
        self._recent: deque[tuple[float, ExchangeRecord]] = deque(maxlen=_RECENT)
        self._totals: dict[tuple[str, str], _Totals] = {}
        self._due: IDelayedCall | None = None
        self._warned = False

    def stopService(self) -> None:
        super().stopService()
        self.flush()

    def add(self, record: ExchangeRecord) -> None:
        """Keep the tokens of an exchange, where its provider told them."""
        usage = record.usage
        if usage is None or not record.provider:
            return
        key = (record.provider, record.model)
        totals = self._totals.get(key)
        if totals is None:
            totals = self._totals[key] = _Totals()
        totals.add(usage)
        self._recent.append((record.at + record.milliseconds / 1000.0, record))
        if self.path is None:
            return
        self._pending.append(json.dumps(_line(*self._recent[-1]), separators=(",", ":")))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self.flush)

    def report(self) -> dict[str, Any]:
        """What ``GET /api/usage`` answers: totals since the start by provider and by model, and the last lines."""
        providers: dict[str, dict[str, int]] = {}
        models = []
        for (provider, model), totals in self._totals.items():
            told = totals.told()
            models.append({"provider": provider, "model": model, **told})
            row = providers.setdefault(provider, dict.fromkeys(told, 0))
            for name, value in told.items():
                row[name] += value
        return {"byProvider": providers, "byModel": models, "recent": [_line(*each) for each in self._recent]}

    def flush(self) -> None:
        """Write what waits."""
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()
        if self.path is None or not self._pending:
            return
        data = "".join(f"{line}\n" for line in self._pending).encode("ascii")
        try:
            prepare_directory(os.path.dirname(self.path) or ".")
            number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(number, data)
            finally:
                os.close(number)
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._log.warn("{path} cannot be written: {why}", path=self.path, why=str(error))
            return
        self._pending.clear()
        self._warned = False


class _Totals:
    """Sums of one model's tokens: made on the way of every request, so they are told only when somebody asks."""

    __slots__ = ("input", "output", "read", "requests", "written")

    def __init__(self) -> None:
        self.requests = self.input = self.output = self.read = self.written = 0

    def add(self, usage: Usage) -> None:
        self.requests += 1
        self.input += usage.input
        self.output += usage.output
        self.read += usage.cache_read
        self.written += usage.cache_write_5m + usage.cache_write_1h

    def told(self) -> dict[str, int]:
        return {"requests": self.requests, **_tokens(self.input, self.output, self.read, self.written)}


def _tokens(input: int, output: int, read: int, written: int) -> dict[str, int]:
    return {
        "inputTokens": input,
        "outputTokens": output,
        "cacheReadTokens": read,
        "cacheCreationTokens": written,
        "totalTokens": input + output + read + written,
    }


def _line(at: float, record: ExchangeRecord) -> dict[str, Any]:
    """
    One line.

    :param at: when the answer was whole, seconds since the epoch.
    """
    usage = record.usage or Usage()
    return {
        "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z",
        "provider": record.provider,
        "model": record.model,
        **_tokens(usage.input, usage.output, usage.cache_read, usage.cache_write_5m + usage.cache_write_1h),
    }
