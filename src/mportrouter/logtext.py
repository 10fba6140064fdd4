"""Text that may stand in a log line: on one line, without control characters, without secrets."""

from __future__ import annotations

import re
from datetime import datetime, timezone

#: Characters of one value; the rest is cut.
LONGEST = 600

_SECRET = re.compile(
    r"""(?ix)
    (?P<scheme>\b(?:bearer|basic)\s+)[^\s"',;]+                         # RFC 7235 credentials
    | (?P<name>\b(?:x-)?(?:api[-_ ]?key|authorization|auth[-_]?token|access[-_]?token|refresh[-_]?token|token|password|
        passwd|secret|cookie)["']?\s*[:=]\s*)(?!\s*(?:bearer|basic)\b)["']?[^\s"',;&]+
    | (?P<link>://)[^/\s@"]+@                                           # user information of a URL
    | \bsk-[a-z0-9_-]{6,}                                               # Anthropic, OpenAI, DeepSeek …
    | \b(?:gsk|xai|pplx|hf|ghp|gho|github_pat|glpat|xox[abp])[-_][a-z0-9_-]{8,}
    | \bAIza[a-z0-9_-]{20,}
    | \beyJ[a-z0-9_-]{8,}(?:\.[a-z0-9_-]*)*                             # JSON Web Tokens
    """
)

_words: dict[str, str] = {}
_quotes: dict[str, str] = {}
_second = -1
_second_text = ""


def scrub(text: str) -> str:
    """``text`` with everything that looks like a key, a token or a password as ``****``."""
    return _SECRET.sub(_mask, text) if text else text


def _mask(match: re.Match[str]) -> str:
    if match.group("link"):
        return "://****@"
    return (match.group("scheme") or match.group("name") or "") + "****"


def instant(seconds: float) -> str:
    """
    ``2026-11-21T10:30:00.123Z``

    :param seconds: since the epoch.
    """
    global _second, _second_text
    whole = int(seconds)
    if whole != _second:
        try:
            _second_text = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        except (OverflowError, ValueError, OSError):
            _second_text = "0000-00-00T00:00:00"
        _second = whole
    return f"{_second_text}.{int((seconds - whole) * 1000) % 1000:03d}Z"


def word(text: str) -> str:
    """
    A value without spaces as it is, any other one quoted, nothing as ``-``; secrets masked.

    The few names of modes, models and upstreams come again and again, so their forms are kept.
    """
    known = _words.get(text)
    if known is None:
        known = quoted(scrub(text), False)
        _keep(_words, text, known)
    return known


def quoted(text: str, always: bool = True) -> str:
    """
    A value in double quotes, as JSON writes a string, with every character that does not print escaped; secrets masked.

    :param always: ``False``: only where it must be, and ``-`` for nothing.
    """
    if not always:
        if not text:
            return "-"
        if text.isprintable() and len(text) <= LONGEST and not _marks(text):
            return text
    known = _quotes.get(text)
    if known is None:
        # Cut twice: no search through megabytes of somebody's error page, and no key cut into something harmless.
        clean = scrub(text[: 4 * LONGEST])
        known = '"' + _escape(clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…") + '"'
        _keep(_quotes, text, known)
    return known


def _marks(text: str) -> bool:
    return " " in text or '"' in text or "=" in text or "\\" in text


def _escape(text: str) -> str:
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _ESCAPES.get(c) or _numbered(c) for c in text)


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _numbered(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _keep(cache: dict[str, str], text: str, form: str) -> None:
    if len(cache) >= 2048:
        cache.clear()
    if len(text) <= 256:
        cache[text] = form
