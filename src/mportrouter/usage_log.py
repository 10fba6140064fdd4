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
from collections.abc import Callable
from typing import Any

from twisted.application import service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from .records import ExchangeRecord
from .state import prepare_directory

#: Seconds that a line may wait for others before it is written.
DELAY = 0.1
#: Lines that ``GET /api/usage`` shows.
_RECENT = 50
#: Lines that are kept where the disk refuses.
_BACKLOG = 10_000


class UsageLog(service.Service):
    """
    :param path: the file, appended to; ``None``: only the totals are kept.
    :param clock: gathers lines.
    :param wall: seconds since the epoch.
    """

    _log = Logger()
    name = "usage"

    def __init__(self, path: str | None, clock: IReactorTime, wall: Callable[[], float] = time.time) -> None:
        self.path = None if path is None else os.path.expanduser(path)
        self._clock = clock
        self._wall = wall
        self._pending: deque[str] = deque(maxlen=_BACKLOG)
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        self._totals: dict[tuple[str, str], dict[str, int]] = {}
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
        now = self._wall()
        written = usage.cache_write_5m + usage.cache_write_1h
        line: dict[str, Any] = {
            "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z",
            "provider": record.provider,
            "model": record.model,
            "inputTokens": usage.input,
            "outputTokens": usage.output,
            "cacheReadTokens": usage.cache_read,
            "cacheCreationTokens": written,
            "totalTokens": usage.prompt + usage.output,
        }
        self._recent.append(line)
        totals = self._totals.setdefault((record.provider, record.model), {"requests": 0})
        totals["requests"] += 1
        for name, value in line.items():
            if name.endswith("Tokens"):
                totals[name] = totals.get(name, 0) + value
        if self.path is None:
            return
        self._pending.append(json.dumps(line, separators=(",", ":")))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self.flush)

    def report(self) -> dict[str, Any]:
        """What ``GET /api/usage`` answers: totals since the start by provider and by model, and the last lines."""
        providers: dict[str, dict[str, int]] = {}
        for (provider, _), totals in self._totals.items():
            row = providers.setdefault(provider, {})
            for name, value in totals.items():
                row[name] = row.get(name, 0) + value
        models = [{"provider": who, "model": model, **totals} for (who, model), totals in self._totals.items()]
        return {"byProvider": providers, "byModel": models, "recent": list(self._recent)}

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
