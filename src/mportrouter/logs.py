"""
The router's log file: one line an event, made for ``grep``, ``tail`` and ``/router logs``.

::

    2026-11-21T10:30:00.123Z INFO exchange upstream=minimax mode=mixed port=8787 model=MiniMax-M3 status=200 ms=812.4
        ttft=231.0 in=1200 out=310 cache_read=0 cache_write=0 cost=0.000732 attempts=1 outcome=ok request=req_1
        decision="…"

(one line in the file). ``ms`` and ``ttft`` are milliseconds, ``in``, ``out``, ``cache_read`` and ``cache_write``
tokens, ``cost`` US dollars; ``-`` stands for nothing. Each failed attempt has a ``WARN attempt`` line of its own. The
levels are ``DEBUG INFO WARN ERROR FATAL``. With ``format: json`` each line is an object with the same names.

Lines are gathered and written together within a twentieth of a second, so that an exchange pays for its lines and a
share of one write. Prompts and answers never come here; what looks like a key is masked.

Imports of its own floor: :mod:`mportrouter.state`, for the making of directories.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.application import service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, formatEvent
from twisted.python import threadable
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from .logtext import instant, quoted, scrub, word
from .records import AttemptRecord, ExchangeRecord
from .settings import LogSettings
from .state import prepare_directory

#: Seconds that a line may wait for others.
DELAY = 0.05
#: Lines kept in memory for :meth:`RouterLog.tail`.
KEPT = 1000
#: Seconds between two tries to open a log file that could not be written.
RETRY = 10.0
#: Bytes read at most from the files for :meth:`RouterLog.tail`.
_TAIL_BYTES = 4 * 1024 * 1024

_LEVELS = {"debug": 0, "info": 1, "warn": 2, "warning": 2, "error": 3, "fatal": 4, "critical": 4}
_NAMES = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_INFO, _WARN, _ERROR = 1, 2, 3

_TWISTED = {
    LogLevel.debug: "debug",
    LogLevel.info: "info",
    LogLevel.warn: "warn",
    LogLevel.error: "error",
    LogLevel.critical: "fatal",
}


@implementer(ILogObserver)
class RouterLog(service.Service):
    """
    Writes the log file.

    :param settings: where, from which level on, in which format, how much to keep.
    :param clock: for the delayed write.
    :param wall: seconds since the epoch.
    :param publisher: where to listen for events of the namespace ``mportrouter`` while running, or ``None``.
    """

    name = "log"
    _log = Logger()

    def __init__(
        self,
        settings: LogSettings,
        clock: IReactorTime,
        wall: Callable[[], float] = time.time,
        publisher: LogPublisher | None = None,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._publisher = publisher
        self._pending: list[str] = []
        self._due: IDelayedCall | None = None
        self._ring: deque[str] = deque(maxlen=KEPT)
        self._unwritten: deque[str] = deque(maxlen=KEPT)
        self._file: LogFile | None = None
        self._retry_at: float | None = None
        self._warned = False
        self._configure(settings)

    def _configure(self, settings: LogSettings) -> None:
        self.settings = settings
        self._path = os.path.abspath(os.path.expanduser(settings.file))
        self._least = _LEVELS.get(settings.level.lower(), _INFO)
        self._json = settings.format == "json"

    def reconfigure(self, settings: LogSettings) -> None:
        """Take new settings; lines gathered so far are written under the old ones."""
        if settings == self.settings:
            return
        self.flush()
        self._close()
        self._configure(settings)
        self._retry_at = None
        self._warned = False
        if self.running:
            self._open()

    # ------------------------------------------------------------------------------------------------ service

    def startService(self) -> None:
        super().startService()
        self._open()
        if self._publisher is not None:
            self._publisher.addObserver(self)
        self.flush()

    def stopService(self) -> None:
        super().stopService()
        if self._publisher is not None:
            self._publisher.removeObserver(self)
        self.flush()
        self._close()

    # ------------------------------------------------------------------------------------------------ events

    def exchange(self, record: ExchangeRecord) -> None:
        """Log one exchange and each of its failed attempts."""
        least, pending = self._least, self._pending
        if record.failed and least <= _WARN:
            at = record.at + record.milliseconds / 1000.0
            for attempt in record.failed:
                fields = _attempt_fields(record, attempt)
                pending.append(_event_line((at, _WARN, "attempt", fields), self._json))
        level = _exchange_level(record)
        if level < least and not pending:
            return
        if level >= least:
            # Made now: a flush that had it to do for all of them would hold up the answers that come with it.
            pending.append(_exchange_json(record, level) if self._json else _exchange_line(record, level))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self.flush)

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """
        Log anything else.

        :param name: one word, such as ``circuit_opened``.
        :param level: ``debug``, ``info``, ``warn``, ``error`` or ``fatal``.
        :param fields: shown as ``name=value``.
        """
        number = _LEVELS.get(level, _INFO)
        if number < self._least:
            return
        self._pending.append(_event_line((self._wall(), number, name, fields), self._json))
        if self._due is None:
            self._due = self._clock.callLater(DELAY, self.flush)

    def __call__(self, event: LogEvent) -> None:
        """
        Observe Twisted's log: the router's own events, and critical ones of anybody.

        May be called in any thread.
        """
        namespace = event.get("log_namespace") or ""
        level = event.get("log_level") or LogLevel.info
        if namespace.partition(".")[0] != "mportrouter" and level is not LogLevel.critical:
            return
        name = namespace.rpartition(".")[2] or "event"
        fields: dict[str, Any] = {"message": formatEvent(event) or ""}
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            fields["error"] = _failure_text(failure)
        if threadable.ioThread is not None and not threadable.isInIOThread():
            hand_over = getattr(self._clock, "callFromThread", None)
            if hand_over is not None:
                hand_over(self.event, name, _TWISTED.get(level, "info"), **fields)
                return
        self.event(name, _TWISTED.get(level, "info"), **fields)

    # ------------------------------------------------------------------------------------------------ writing

    def flush(self) -> None:
        """Write what is gathered, now."""
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()
        pending, self._pending = self._pending, []
        if pending:
            self._ring.extend(pending)
            self._write(pending)
        elif self._unwritten:
            self._write([])

    def _write(self, lines: list[str]) -> None:
        if self._file is None:
            self._unwritten.extend(lines)
            if not self.running or self._retry_at is None or self._clock.seconds() < self._retry_at:
                return
            self._open()
            if self._file is None:
                return
            lines = []
        if self._unwritten:
            lines = [*self._unwritten, *lines]
            self._unwritten.clear()
        if not lines:
            return
        try:
            if not os.path.exists(self._path):
                # Moved away by a hand or by another rotation: go on under the old name.
                self._file.reopen()
            self._file.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
        except (OSError, ValueError) as error:  # ValueError: a rotation broke off and left a closed file
            self._unwritten.extend(lines)
            self._fail(error)

    def _open(self) -> None:
        try:
            prepare_directory(os.path.dirname(self._path))
            self._file = LogFile(
                os.path.basename(self._path),
                os.path.dirname(self._path),
                rotateLength=self.settings.rotate_bytes or None,
                defaultMode=0o600,
                maxRotatedFiles=self.settings.keep,
            )
        except OSError as error:
            self._fail(error)
            return
        self._retry_at = None
        if self._warned:
            self._warned = False
            self._log.info("The log file {path} can be written again.", path=self._path)

    def _fail(self, error: Exception) -> None:
        self._close()
        self._retry_at = self._clock.seconds() + RETRY
        if not self._warned:
            self._warned = True
            self._log.warn(
                "The log file {path} cannot be written: {error}. The router goes on without it.",
                path=self._path,
                error=str(error),
            )

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None and not file.closed:
            try:
                file.close()
            except OSError as error:
                self._log.warn("Closing the log file failed: {error}", error=str(error))

    # ------------------------------------------------------------------------------------------------ reading

    def tail(self, count: int) -> list[str]:
        """
        :param count: lines wanted.
        :returns: the last lines, oldest first; also those of earlier runs, and of rotated files.
        """
        if count <= 0:
            return []
        self.flush()
        ring = list(self._ring)
        if len(ring) >= count:
            return ring[-count:]
        found = self._from_files(count)
        # Where the file could not be written, memory knows more.
        return found if len(found) >= len(ring) and not self._unwritten else ring[-count:]

    def _from_files(self, count: int) -> list[str]:
        found: list[str] = []
        budget = _TAIL_BYTES
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self.settings.keep + 2))]
        for name in names:
            try:
                with open(name, "rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    start = max(0, size - budget)
                    file.seek(start)
                    lines = file.read(budget).decode("utf-8", "replace").split("\n")
            except OSError:
                continue
            if not lines[-1]:
                lines.pop()
            if start:
                del lines[:1]  # begins in the middle of a line
            found = lines[-(count - len(found)) :] + found
            budget -= size - start
            if len(found) >= count or budget <= 0:
                break
        return found


# ---------------------------------------------------------------------------------------------------- lines


def _exchange_level(record: ExchangeRecord) -> int:
    outcome = record.outcome
    if outcome == "ok" or outcome == "command" or outcome == "gone" or outcome == "analysis":
        return _INFO
    if outcome == "error" and 400 <= record.status < 500:
        return _WARN
    return _ERROR


def _exchange_line(record: ExchangeRecord, level: int) -> str:
    usage = record.usage
    if usage is None:
        tokens = "in=- out=- cache_read=- cache_write=-"
    else:
        written = usage.cache_write_5m + usage.cache_write_1h
        tokens = f"in={usage.input} out={usage.output} cache_read={usage.cache_read} cache_write={written}"
    first = record.first_milliseconds
    line = (
        f"{instant(record.at + record.milliseconds / 1000.0)} {_NAMES[level]} exchange "
        f"upstream={word(record.upstream)} mode={word(record.mode)} port={record.port} model={word(record.model)} "
        f"status={record.status} ms={record.milliseconds:.1f} ttft={'-' if first is None else f'{first:.1f}'} "
        f"{tokens} cost={record.cost / 1e12:.6f} attempts={record.attempts} outcome={record.outcome} "
        f"request={quoted(record.request_id, False)} decision={quoted(record.decision)}"
    )
    if record.dropped:
        line += f" dropped={quoted(', '.join(record.dropped))}"
    return f"{line} error={quoted(record.error)}" if record.error else line


def _exchange_json(record: ExchangeRecord, level: int) -> str:
    usage = record.usage
    return _encode(
        {
            "time": instant(record.at + record.milliseconds / 1000.0),
            "level": _NAMES[level],
            "event": "exchange",
            "upstream": scrub(record.upstream),
            "mode": record.mode,
            "port": record.port,
            "model": scrub(record.model),
            "status": record.status,
            "ms": round(record.milliseconds, 1),
            "ttft": None if record.first_milliseconds is None else round(record.first_milliseconds, 1),
            "in": None if usage is None else usage.input,
            "out": None if usage is None else usage.output,
            "cache_read": None if usage is None else usage.cache_read,
            "cache_write": None if usage is None else usage.cache_write_5m + usage.cache_write_1h,
            "cost": record.cost / 1e12,
            "attempts": record.attempts,
            "outcome": record.outcome,
            "request": record.request_id,
            "decision": scrub(record.decision),
            "dropped": [scrub(name) for name in record.dropped],
            "error": scrub(record.error),
        }
    )


def _attempt_fields(record: ExchangeRecord, attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "upstream": attempt.upstream,
        "mode": record.mode,
        "port": record.port,
        "model": attempt.model,
        "status": attempt.status,
        "ms": round(attempt.milliseconds, 1),
        "kind": attempt.kind,
        "request": record.request_id,
        "error": attempt.message,
    }


def _event_line(entry: tuple[float, int, str, Mapping[str, Any]], as_json: bool) -> str:
    at, level, name, fields = entry
    if as_json:
        shown = {"time": instant(at), "level": _NAMES[level], "event": name}
        shown.update({key: scrub(value) if isinstance(value, str) else value for key, value in fields.items()})
        return _encode(shown)
    parts = [instant(at), _NAMES[level], word(name)]
    for key, value in fields.items():
        if value is None:
            parts.append(f"{key}=-")
        elif isinstance(value, (int, float)):
            parts.append(f"{key}={value}")
        elif key in ("error", "message", "decision", "detail"):
            parts.append(f"{key}={quoted(str(value))}")
        else:
            parts.append(f"{key}={word(str(value))}")
    return " ".join(parts)


def _encode(shown: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(shown, enc_hook=str).decode()
    except (ValueError, TypeError, UnicodeError):
        # A lone surrogate in some text, which UTF-8 cannot hold: the slow encoder escapes it.
        return json.dumps(shown, default=str)


def _failure_text(failure: Failure) -> str:
    text = failure.getErrorMessage()
    name = getattr(failure.type, "__name__", str(failure.type))
    where = ""
    if failure.frames:
        function, file, line = failure.frames[-1][:3]
        where = f" ({os.path.basename(file)}:{line} in {function})"
    return f"{name}: {text}{where}"
