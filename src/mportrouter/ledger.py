"""
What was used and what it cost: JSON lines on disk, totals in memory.

Each line of ``ledger-YYYY-MM.jsonl`` (months in UTC) in the state directory is one
:class:`mportrouter.records.ExchangeRecord` as it was kept, with an ``end`` in seconds since the epoch; money is in
picodollars. The words of errors are left out, they may quote a request. Lines are gathered and written together within
a tenth of a second, appended with one system call, so that two routers with one state directory do not tear each
other's lines; a line that a crash has torn is cut off at the next start.

The totals of :meth:`Ledger.stats`, plain values, money in US dollars, latencies in milliseconds::

    {"since": "2026-11-21T10:30:00Z", "requests_total": 1247, "errors": 3, "cut": 1, "gone": 2, "failed_attempts": 9,
     "refused": 4, "commands": 12, "analyses": 7,
     "providers": {"minimax": {"requests": 892, "share": 71.5, "errors": 1, "cost": 2.34, "latency_ms": 31.0,
                               "first_ms": 12.0, "input": …, "output": …, "cache_read": …, "cache_write": …}, …},
     "upstreams": {the same by id},
     "tokens": {"input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"},
     "cost": 21.06, "reference_cost": 64.18, "savings": 43.12, "savings_percent": 67.2,
     "cost_last_hour": 0.52, "latency_ms": 89.0, "first_ms": 40.0}

A request counts for the upstream that served it, or was asked last; what no upstream was asked for (refused at the
door, or answered 503 because none was left) counts as ``refused``. Mean latencies are of whole answers that arrived,
and ``None`` where there are none. Analyses that the router asked for its own routing cost money but are not requests.

Imports of its own floor: :mod:`mportrouter.state`, for the making of directories.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict, replace
from twisted.application import service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from .interfaces import ILedger
from .records import ExchangeRecord
from .state import prepare_directory

#: Seconds that a record may wait for others before it is written.
DELAY = 0.1
#: Seconds between two tries to write where the disk refuses.
RETRY = 5.0
#: Bytes kept in memory where the disk refuses; past it the oldest are given up.
BACKLOG = 8 * 1024 * 1024
#: The window of :meth:`Ledger.spent`, seconds.
WINDOW = 3600
#: Bytes read at most at the start, to know what the last hour cost.
_RESTORE_BYTES = 64 * 1024 * 1024

_PICO = 1e12


class _Line(msgspec.Struct):
    """What the restoration reads of a line."""

    end: float = 0.0
    cost: int = 0


class _Totals:
    """Sums of one upstream; those of a provider and of everything are added up when somebody asks."""

    __slots__ = (
        "analyses",
        "cache_read",
        "cache_write_1h",
        "cache_write_5m",
        "cost",
        "cut",
        "errors",
        "failed",
        "first",
        "firsts",
        "gone",
        "input",
        "milliseconds",
        "output",
        "reasoning",
        "reference",
        "requests",
        "served",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def include(self, other: _Totals) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, record: ExchangeRecord) -> None:
        cost = record.cost
        self.cost += cost
        usage = record.usage
        if usage is not None:
            self.input += usage.input
            self.output += usage.output
            if usage.cache_read:
                self.cache_read += usage.cache_read
            if usage.cache_write_5m:
                self.cache_write_5m += usage.cache_write_5m
            if usage.cache_write_1h:
                self.cache_write_1h += usage.cache_write_1h
            if usage.reasoning:
                self.reasoning += usage.reasoning
        if record.failed:
            self.failed += len(record.failed)
        outcome = record.outcome
        if outcome == "analysis":
            self.analyses += 1
            return
        self.requests += 1
        # Where the strong provider's price is unknown, nothing is claimed to be saved.
        reference = record.reference_cost
        self.reference += cost if reference is None else reference
        if outcome == "ok":
            self.served += 1
            self.milliseconds += record.milliseconds
            if record.first_milliseconds is not None:
                self.firsts += 1
                self.first += record.first_milliseconds
        elif outcome == "error":
            self.errors += 1
        elif outcome == "gone":
            self.gone += 1
        else:
            self.cut += 1

    @property
    def latency(self) -> float | None:
        return self.milliseconds / self.served if self.served else None

    @property
    def first_latency(self) -> float | None:
        return self.first / self.firsts if self.firsts else None

    def row(self, all_requests: int) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "share": 100.0 * self.requests / all_requests if all_requests else 0.0,
            "errors": self.errors,
            "cost": self.cost / _PICO,
            "latency_ms": self.latency,
            "first_ms": self.first_latency,
            "input": self.input,
            "output": self.output,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write_5m + self.cache_write_1h,
        }

    if TYPE_CHECKING:
        requests: int
        analyses: int
        errors: int
        cut: int
        gone: int
        failed: int
        served: int
        firsts: int
        cost: int
        reference: int
        input: int
        output: int
        cache_read: int
        cache_write_5m: int
        cache_write_1h: int
        reasoning: int
        milliseconds: float
        first: float


class _Window:
    """
    What the last hour cost, in buckets of a second.

    Where the clock is set back, what lies ahead of it counts as just now: it must neither be lost nor stay until then.
    """

    __slots__ = ("_buckets", "total")

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque()
        self.total = 0

    def add(self, now: float, cost: int) -> None:
        second = int(now)
        buckets = self._buckets
        if buckets and buckets[-1][0] == second:
            buckets[-1][1] += cost
        else:
            self.forget(second)
            buckets.append([second, cost])
        self.total += cost

    def forget(self, second: int) -> None:
        buckets = self._buckets
        ahead = 0
        while buckets and buckets[-1][0] > second:
            ahead += buckets.pop()[1]
        if ahead:
            buckets.append([second, ahead])
        while buckets and buckets[0][0] <= second - WINDOW:
            self.total -= buckets.popleft()[1]

    def spent(self, now: float, seconds: float) -> int:
        self.forget(int(now))
        if seconds >= WINDOW:
            return self.total
        since, total = now - seconds, 0
        for second, cost in reversed(self._buckets):
            if second < since - 1:
                break
            total += cost
        return total


@implementer(ILedger)
class Ledger(service.Service):
    """
    Keeps every exchange.

    :param directory: the state directory.
    :param clock: for the delayed write.
    :param wall: seconds since the epoch.
    :param providers: names that :meth:`stats` lists also while they have no request.
    """

    name = "ledger"
    _log = Logger()

    def __init__(
        self,
        directory: str,
        clock: IReactorTime,
        wall: Callable[[], float] = time.time,
        providers: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._wall = wall
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._pending: list[bytes] = []
        self._due: IDelayedCall | None = None
        self._number: int | None = None
        self._month = ""
        self._backlog = b""
        self._warned = False
        self._since = wall()
        self._window = _Window()
        self._listed = tuple(providers)
        self._rows: dict[tuple[str, str], _Totals] = {}
        self._refused = self._commands = self._refused_attempts = 0

    # ------------------------------------------------------------------------------------------------ service

    def startService(self) -> None:
        super().startService()
        try:
            self._directory = prepare_directory(self._directory)
            self._restore()
        except OSError as error:
            self._complain(error)
        self.flush()

    def stopService(self) -> None:
        super().stopService()
        self.flush()
        if self._backlog:
            self._log.error("{bytes} bytes of the ledger could not be written and are lost.", bytes=len(self._backlog))
        number, self._number = self._number, None
        self._month = ""
        if number is not None:
            try:
                os.fsync(number)
            except OSError as error:
                self._complain(error)
            os.close(number)

    # ------------------------------------------------------------------------------------------------ keeping

    def add(self, record: ExchangeRecord) -> None:
        now = self._wall()
        # Encoded now: a flush that had it to do for all of them would hold up the answers that come with it.
        self._pending.append(self._encode(record, now))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self.flush)
        cost = record.cost
        if cost:
            self._window.add(now, cost)
        provider = record.provider
        if record.outcome == "command":
            self._commands += 1
        elif provider:
            try:
                row = self._rows[provider, record.upstream]
            except KeyError:
                row = self._rows[provider, record.upstream] = _Totals()
            row.count(record)
        else:
            self._refused += 1
            self._refused_attempts += len(record.failed)

    def spent(self, seconds: float) -> int:
        return self._window.spent(self._wall(), seconds)

    def stats(self) -> dict[str, Any]:
        everything = _Totals()
        providers = {name: _Totals() for name in self._listed}
        for (provider, _), row in self._rows.items():
            everything.include(row)
            providers.setdefault(provider, _Totals()).include(row)
        savings = everything.reference - everything.cost
        # The strong provider last, as in the statistics block that people know.
        names = sorted(providers, key=lambda name: (name == "anthropic", name))
        requests = everything.requests
        tokens = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
        return {
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._since)),
            "requests_total": requests,
            "errors": everything.errors,
            "cut": everything.cut,
            "gone": everything.gone,
            "failed_attempts": everything.failed + self._refused_attempts,
            "refused": self._refused,
            "commands": self._commands,
            "analyses": everything.analyses,
            "providers": {name: providers[name].row(requests) for name in names},
            "upstreams": {upstream: row.row(requests) for (_, upstream), row in sorted(self._rows.items())},
            "tokens": {name: getattr(everything, name) for name in tokens},
            "cost": everything.cost / _PICO,
            "reference_cost": everything.reference / _PICO,
            "savings": savings / _PICO,
            "savings_percent": 100.0 * savings / everything.reference if everything.reference else None,
            "cost_last_hour": self.spent(WINDOW) / _PICO,
            "latency_ms": everything.latency,
            "first_ms": everything.first_latency,
        }

    # ------------------------------------------------------------------------------------------------ writing

    def flush(self) -> None:
        """Write what is gathered, now."""
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()
        pending, self._pending = self._pending, []
        if pending:
            self._backlog += b"".join(pending)
        if not self._backlog:
            return
        month = time.strftime("%Y-%m", time.gmtime(self._wall()))
        try:
            if month != self._month:
                self._open(month)
            assert self._number is not None
            while self._backlog:
                # A short write leaves the rest of its line at the head of the backlog, so the line is finished later.
                written = os.write(self._number, self._backlog)
                self._backlog = self._backlog[written:]
        except OSError as error:
            self._complain(error)
            return
        if self._warned:
            self._warned = False
            self._log.info("The ledger can be written again.")

    def _encode(self, record: ExchangeRecord, end: float) -> bytes:
        if record.error or record.failed:
            record = replace(record, error="", failed=[replace(attempt, message="") for attempt in record.failed])
        try:
            line = self._encoder.encode(record)
        except (UnicodeError, ValueError):
            # A lone surrogate that a client put into its model's name or session.
            clean = {
                key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
                for key, value in asdict(record).items()
            }
            line = self._encoder.encode(clean)
        return b'{"end":%.3f,' % end + line[1:] + b"\n"

    def _path(self, month: str) -> str:
        return os.path.join(self._directory, f"ledger-{month}.jsonl")

    def _open(self, month: str) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None
            self._month = ""
        path = self._path(month)
        prepare_directory(self._directory)
        _repair(path)
        self._number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._month = month

    def _complain(self, error: OSError) -> None:
        if len(self._backlog) > BACKLOG:
            cut = self._backlog.find(b"\n", len(self._backlog) - BACKLOG) + 1
            self._backlog = self._backlog[cut:]
        if not self._warned:
            self._warned = True
            self._log.warn(
                "The ledger in {directory} cannot be written: {error}. Totals go on in memory.",
                directory=self._directory,
                error=str(error),
            )
        if self.running and self._due is None:
            self._due = self._clock.callLater(RETRY, self.flush)

    # ------------------------------------------------------------------------------------------------ restoring

    def _restore(self) -> None:
        now = self._wall()
        for month in dict.fromkeys(time.strftime("%Y-%m", time.gmtime(at)) for at in (now - WINDOW, now)):
            _repair(self._path(month))
            for end, cost in _recent(self._path(month), now - WINDOW):
                # A clock that was set back must not hide what was spent: it counts as just now.
                self._window.add(min(end, now), cost)


def _repair(path: str) -> None:
    """Cut off a last line that has no end."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = position = os.fstat(number).st_size
        keep = 0
        while position > 0:
            start = max(0, position - 65536)
            newline = os.pread(number, position - start, start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            position = start
        if keep != size:
            os.ftruncate(number, keep)
    finally:
        os.close(number)


def _recent(path: str, since: float) -> list[tuple[float, int]]:
    """
    End and cost of each exchange of a ledger file that ended after ``since``, in the order of the file.

    Lines that cannot be read are passed over.
    """
    if not os.path.exists(path):
        return []
    decode = msgspec.json.Decoder(_Line).decode
    found: list[tuple[float, int]] = []
    rest = b""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        least = max(0, position - _RESTORE_BYTES)
        while position > least:
            start = max(least, position - (1 << 20))
            file.seek(start)
            block = file.read(position - start) + rest
            position = start
            lines = block.split(b"\n")
            rest = lines.pop(0) if start else b""
            before = len(found)
            oldest = None
            for line in reversed(lines):
                if not line:
                    continue
                try:
                    seen = decode(line)
                except (msgspec.DecodeError, UnicodeError):
                    continue
                oldest = seen.end
                if seen.end > since and seen.cost > 0:
                    found.append((seen.end, seen.cost))
            if oldest is not None and oldest <= since and len(found) == before:
                break
    found.reverse()
    return found
