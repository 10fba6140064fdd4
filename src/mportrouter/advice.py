"""When a provider says to come again: ``Retry-After`` and its many relatives, as seconds from now."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

#: Advice past this many seconds (31 days) is cut to it: the longest window that providers know is a month.
_AT_MOST = 31 * 86400.0
#: From here on a bare number is a moment (seconds since the epoch), from the second on one in milliseconds.
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e11

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)"
_PARTS = re.compile(_PART, re.ASCII)
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?(?:[Zz]|([+-]\d{2}:\d{2}))", re.ASCII)


def duration(text: str) -> float | None:
    """Seconds of a Go-style duration (``6m0s``, ``2m59.56s``, ``250ms``), or ``None`` where it is none."""
    text = text.strip()
    if len(text) > 64 or not _DURATION.fullmatch(text):
        return None
    return _bounded(sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text)))


def parse_reset(text: str, now: float) -> float | None:
    """
    Seconds from ``now`` until the moment that a rate-limit header names.

    Understands a duration, bare seconds, seconds or milliseconds since the epoch, RFC 3339 and HTTP dates.

    :param now: seconds since the epoch.
    :returns: 0 for a moment that has passed, ``None`` for what cannot be understood (and for a negative number, which
        some proxies send for "unknown").
    """
    text = text.strip()
    if not text or len(text) > 64:
        return None
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH_MILLISECONDS:
            number = number / 1000 - now
        elif number >= _EPOCH_SECONDS:
            number -= now
        return _bounded(number)
    seconds = duration(text)
    if seconds is not None:
        return seconds
    moment = _moment(text)
    return None if moment is None else _bounded(moment - now)


def retry_after(headers: list[tuple[bytes, bytes]], now: float) -> float | None:
    """
    Seconds that a provider asks to be left alone, or ``None`` where it gives no advice.

    In this order: ``retry-after-ms``, ``retry-after`` (RFC 9110 §10.2.3, also with a fraction), a refusing
    ``anthropic-ratelimit-unified-status`` with its reset, the latest reset of those budgets of which nothing remains.

    :param now: seconds since the epoch.
    """
    fields: dict[str, str] = {}
    for raw_name, value in headers:
        name = raw_name.lower()
        if name[:11] == b"retry-after" or b"ratelimit" in name:
            fields.setdefault(name.decode("latin-1"), value.decode("latin-1").strip())
    if not fields:
        return None
    milliseconds = fields.get("retry-after-ms", "")
    if len(milliseconds) <= 64 and _NUMBER.fullmatch(milliseconds):
        return _bounded(float(milliseconds) / 1000)
    told = parse_reset(fields.get("retry-after", ""), now)
    if told is not None:
        return told
    if fields.get("anthropic-ratelimit-unified-status", "").lower() == "rejected":
        told = parse_reset(fields.get("anthropic-ratelimit-unified-reset", ""), now)
        if told is not None:
            return told
    waits = [parse_reset(fields[name], now) for name in _resets(fields)]
    return max((wait for wait in waits if wait is not None), default=None)


def _resets(fields: dict[str, str]) -> list[str]:
    """Names of the reset fields of used-up budgets: those whose counterpart ``…-remaining…`` is 0."""
    names = []
    for name, value in fields.items():
        if "remaining" in name and _is_zero(value):
            reset = name.replace("remaining", "reset")
            if reset in fields:
                names.append(reset)
    return names


def _is_zero(text: str) -> bool:
    return bool(text) and len(text) <= 32 and _NUMBER.fullmatch(text) is not None and float(text) == 0.0


def _moment(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 or HTTP date."""
    found = _RFC3339.fullmatch(text)
    try:
        if found:
            # Python 3.10 reads neither "Z" nor every length of a fraction.
            day, clock, fraction, zone = found.groups()
            moment = datetime.fromisoformat(f"{day}T{clock}{zone or '+00:00'}")
            return moment.timestamp() + float(fraction or 0)
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded(seconds: float) -> float | None:
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _AT_MOST)
