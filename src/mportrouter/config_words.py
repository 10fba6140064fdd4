"""The small words of the configuration – durations, sizes, rates, money, addresses – each from a text, or ``Wrong``."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from .config_places import Value, Wrong, nearest
from .settings import Secret

Reader = Callable[[Value], Any]

_OFF = frozenset({"off", "none", "null", "unlimited", "never"})
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|sec|m|min|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|sec|s|min|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?")
_RATE = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([kKmM]?)(?:\s*/\s*([a-z]+))?")
_RATE_UNITS = {"s": 60.0, "sec": 60.0, "second": 60.0, "m": 1.0, "min": 1.0, "minute": 1.0, "h": 1 / 60, "hour": 1 / 60}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
_SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "kb": 1000, "kib": 1024, "m": 1024**2, "mb": 1000**2, "mib": 1024**2}
_SIZE_UNITS |= {"g": 1024**3, "gb": 1000**3, "gib": 1024**3}
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_LEVELS = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error"}
_FIELD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
_ANY_FIELD = re.compile(r"[a-z0-9_]+(?:-[a-z0-9_]+)*")
# Fields with a meaning of their own: a key in one of them would break the request.
_FIELDS_OF_HTTP = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_LONGEST = 10 * 365 * 86400.0


# ------------------------------------------------------------------------------------------- texts to values


def duration(text: str) -> float:
    """
    Seconds of ``15s``, ``2m``, ``500ms``, ``1h30m`` or plain ``15``.

    :raises ValueError: it is none of these.
    """
    words = text.strip().lower()
    if _NUMBER.fullmatch(words):
        seconds = float(words)
    elif _DURATION.fullmatch(words):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(words))
    else:
        raise Wrong(f"expected a duration such as 15s, 2m, 500ms, 1h or plain seconds, not {text!r}")
    if seconds > _LONGEST:
        raise Wrong(f"expected a duration, and {text!r} is longer than ten years")
    return seconds


def positive_duration(text: str) -> float:
    """A duration that is not nothing."""
    seconds = duration(text)
    if seconds <= 0:
        raise Wrong(f"expected a duration of more than 0, not {text!r}")
    return seconds


def rate(text: str) -> float:
    """A minute's number, of ``100/min``, ``2/s``, ``200k/min`` or plain ``100`` (a minute)."""
    match = _RATE.fullmatch(text.strip())
    if match is None or (match[3] or "min") not in _RATE_UNITS or float(match[1]) <= 0:
        raise Wrong(f"expected a rate such as 100/min or 200k/min, not {text!r}")
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] * _RATE_UNITS[match[3] or "min"]


def client_limit(text: str) -> int:
    """Whole requests a minute, of a rate; 0: any number."""
    if text.strip() == "0":
        return 0
    requests = rate(text)
    if requests != int(requests):
        raise Wrong(f"expected whole requests a minute, such as 100/min, not {text!r}")
    return int(requests)


def status(text: str) -> int:
    """The HTTP status of an error."""
    if not re.fullmatch(r"[45][0-9]{2}", text.strip()):
        raise Wrong(f"expected a status of HTTP from 400 to 599, not {text!r}")
    return int(text)


def size(text: str) -> int:
    """Bytes of ``32MiB``, ``64KiB`` or plain ``65536``."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _SIZE_UNITS or float(match[1]) <= 0:
        raise Wrong(f"expected a size such as 32MiB, 64KiB or plain bytes, not {text!r}")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not re.fullmatch(r"[0-9]{1,12}", text.strip()) or int(text) < 1:
        raise Wrong(f"expected a whole number from 1 on, not {text!r}")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not re.fullmatch(r"[0-9]{1,12}", text.strip()):
        raise Wrong(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


def port_number(text: str) -> int:
    """A TCP port."""
    if not re.fullmatch(r"[0-9]{1,5}", text.strip()) or not 1 <= int(text) <= 65535:
        raise Wrong(f"expected a port number from 1 to 65535, not {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise Wrong(f"expected a number from 0 to 1, not {text!r}")
    return number


def money(text: str) -> Decimal:
    """US dollars, not negative."""
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount < 10**9:
        raise Wrong(f"expected US dollars such as 10.00, not {text!r}")
    return amount


def boolean(text: str) -> bool:
    """``true``/``false``, ``yes``/``no`` or ``on``/``off``."""
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise Wrong(f"expected true or false, not {text!r}")
    return word in _TRUE


def one_of(*words: str) -> Callable[[str], str]:
    """One of some words, in any case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise Wrong(f"expected one of {', '.join(words)}, not {text!r}{_did_you_mean(word, words)}")
        return word

    return parse


def named(words: Sequence[str], what: str) -> Callable[[str], str]:
    """
    One of some names, in any case.

    :param what: what they are names of.
    """

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise Wrong(f"there is no {what} {text!r}{nearest(word, words)}")
        return word

    return parse


def header_or(*words: str) -> Callable[[str], str]:
    """One of some words, or the name of a header field: such a name has a hyphen, or ``header:`` before it."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        mark, _, name = word.rpartition(":")
        form = _ANY_FIELD if mark == "header" else _FIELD
        if word in words or (mark in ("", "header") and form.fullmatch(name) and name not in _FIELDS_OF_HTTP):
            return word
        told = f"expected one of {', '.join(words)}, or a header field's name such as x-token or header:token"
        raise Wrong(f"{told}, not {text!r}{_did_you_mean(word, words)}")

    return parse


def level(text: str) -> str:
    """A log level."""
    word = text.strip().lower()
    if word not in _LEVELS:
        raise Wrong(f"expected one of debug, info, warn, error, not {text!r}{_did_you_mean(word, _LEVELS)}")
    return _LEVELS[word]


def plain(text: str) -> str:
    """Any text that holds something and no control character."""
    if not text.strip() or any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise Wrong("expected a text of one line")
    return text.strip()


def secret(text: str) -> Secret:
    """A key or token: printable ASCII without white space, since it travels in a header. Never shown in a mistake."""
    word = text.strip()
    if not word or not all(33 <= ord(sign) <= 126 for sign in word):
        raise Wrong("expected a key or token of printable ASCII characters without spaces (not shown here)")
    return Secret(word)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host(text: str) -> str:
    """An address or name to listen on."""
    name = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9._:\-\[\]%]+", name):
        raise Wrong(f"expected an address or a host name, not {text!r}")
    return name.strip("[]")


def base_url(text: str) -> str:
    """
    Where a provider's dialect begins, without a trailing slash.

    Plain ``http`` only to this machine: a key and a conversation must not cross a network in clear text.
    """
    url = _web_address(text)
    if url.query or url.fragment:
        raise Wrong("expected a base URL without ? and #")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"


def unversioned(url: str) -> str:
    """A base URL without the ``/v1`` that many programs want at its end, and the paths of most dialects begin with."""
    return url.removesuffix("/v1").rstrip("/")


def webhook(text: str) -> Secret:
    """A URL that alerts are sent to; many hold a token, so it is never shown."""
    return Secret(_web_address(text, shown=False).geturl())


def pin(text: str) -> str:
    """A public-key pin as 44 characters of base64, of ``sha256/…``, ``pin-sha256="…"``, plain base64 or hex."""
    word = text.strip()
    match = re.fullmatch(r'pin-sha256="([^"]*)"', word)
    word = match[1] if match else word.removeprefix("sha256/").removeprefix("sha256:")
    digits = word.replace(":", "")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        return base64.b64encode(bytes.fromhex(digits)).decode("ascii")
    try:
        if len(word) == 44 and len(base64.b64decode(word, validate=True)) == 32:
            return word
    except (binascii.Error, ValueError):
        pass
    raise Wrong(f"expected a pin: 44 characters of base64 (sha256/…) or 64 of hex, not {text!r}")


def _web_address(text: str, shown: bool = True) -> Any:
    words = text.strip()
    told = f", not {words!r}" if shown and "@" not in words else ""
    try:
        url = urlsplit(words)
        name, _ = url.hostname, url.port
    except ValueError:
        raise Wrong(f"expected a URL{told}")
    if url.scheme not in ("http", "https") or not name or re.search(r"[\s\x00-\x1f\x7f\\]", words):
        raise Wrong(f"expected a URL such as https://api.example.com{told}")
    if "@" in url.netloc:
        raise Wrong("expected a URL without a user name or password in it (not shown here)")
    if url.scheme == "http" and not is_loopback(name):
        raise Wrong(f"expected https: plain http is for loopback hosts only{told}")
    return url


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    near = nearest(word, words)
    return near if "did you mean" in near else ""


# ---------------------------------------------------------------------------------------- readers of values


def text_of(value: Value) -> str:
    """
    A value's text.

    :raises Wrong: it is no text, or names a variable that is not set.
    """
    if value.unset:
        raise Wrong(f"the variable {' and '.join(value.unset)} is not set (environment or .env)")
    if value.content is None:
        raise Wrong("expected a value, and there is none")
    if not isinstance(value.content, str):
        raise Wrong("expected one value, not a " + ("list" if isinstance(value.content, list) else "mapping"))
    return value.content


def scalar(parse: Callable[[str], Any]) -> Reader:
    """A reader of one text."""
    return lambda value: parse(text_of(value))


def unless_off(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser that takes ``off`` (and the like) too: then ``None``."""
    return lambda text: None if text.strip().lower() in _OFF else parse(text)


def or_off(parse: Callable[[str], Any]) -> Reader:
    """A reader of one text that may be ``off`` or null: then ``None``."""
    read = unless_off(parse)
    return lambda value: None if value.content is None else read(text_of(value))


def or_null(parse: Callable[[str], Any]) -> Reader:
    """A reader of one text that may be null: then ``None``. For secrets, of which ``off`` could be one."""
    return lambda value: None if value.content is None else parse(text_of(value))


def or_left_out(parse: Callable[[str], Any]) -> Reader:
    """
    As :func:`or_null`; and ``${NAME:-}``, whose default is nothing, is none where the variable is not set.
    """

    def read(value: Value) -> Any:
        left_out = value.content is None or (value.content == "" and value.variable and not value.unset)
        return None if left_out else parse(text_of(value))

    return read


def or_unset(parse: Callable[[str], Any]) -> Reader:
    """A reader of one text that may be null, empty, or a variable that is not set: then ``None``."""

    def read(value: Value) -> Any:
        if value.unset or value.content is None or value.content == "":
            return None
        return parse(text_of(value))

    return read


def items(value: Value) -> list[Value]:
    """The values of a list; one text is a list of itself, null is empty."""
    if value.content is None:
        return []
    if isinstance(value.content, str):
        return [value]
    if isinstance(value.content, dict):
        raise Wrong("expected a list, not a mapping")
    return value.content


def entries(value: Value) -> dict[str, Value]:
    """The values of a mapping; null is empty."""
    if value.content is None:
        return {}
    if not isinstance(value.content, dict):
        raise Wrong("expected a mapping (name: value)")
    return value.content


def list_of(parse: Callable[[str], Any]) -> Reader:
    """A reader of a list of texts, as a tuple."""

    def read(value: Value) -> tuple[Any, ...]:
        together = []
        for item in items(value):
            try:
                together.append(parse(text_of(item)))
            except Wrong as wrong:
                raise Wrong(str(wrong), item)
        return tuple(together)

    return read


def pairs_of(parse: Callable[[str], Any]) -> Reader:
    """A reader of a mapping of texts, as a tuple of pairs in their order."""

    def read(value: Value) -> tuple[tuple[str, Any], ...]:
        together = []
        for name, item in entries(value).items():
            try:
                together.append((name, parse(text_of(item))))
            except Wrong as wrong:
                raise Wrong(str(wrong), item)
        return tuple(together)

    return read
