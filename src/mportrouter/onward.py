"""
Which of a client's header fields go on to an upstream, and with which credential.

A login goes to the provider it belongs to and nowhere else: with a key of the router's own no credential of the
client's goes on, and with ``auth: client`` one that is known to be somebody else's does not either. A request that was
written anew in another dialect takes nothing along but who is asking: the client's fields were about a body that is no
more.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from . import __version__, catalog
from .claims import claims_of
from .interfaces import Headers
from .settings import UpstreamSettings

#: Fields that end here: hop-by-hop (RFC 9110 §7.6.1), written anew for the way on, or none of a provider's business.
_DROPPED = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"host",
        b"content-length",
        b"expect",
        b"cookie",
        b"cookie2",
    ]
)
_DROPPED_PREFIXES = (b"x-mportrouter-", b"proxy-")
_HARMLESS_OPTIONS = frozenset([b"keep-alive", b"close", b""])
#: Fields that carry a credential, in the ways of any provider.
_CREDENTIALS = frozenset([b"x-api-key", b"authorization", b"x-goog-api-key", b"api-key"])
#: Those of them that ``auth: client`` passes on, by the dialect that they belong to.
_CLIENT_CREDENTIALS = {
    "anthropic": frozenset([b"x-api-key", b"authorization"]),
    "openai-chat": frozenset([b"authorization"]),
    "openai-responses": frozenset([b"authorization"]),
    "gemini": frozenset([b"x-goog-api-key", b"authorization"]),
}
#: Fields that name an account beside its credential: they mean nothing with another one.
_ACCOUNTS = frozenset(
    [b"openai-organization", b"openai-project", b"chatgpt-account-id", b"x-openai-fedramp", b"x-goog-user-project"]
)
_FORWARD, _DROP, _CONNECTION, _ENCODING, _VERSION = range(5)
_REMEMBERED = 2048  # field names
#: Claude answers 400 without it; it has been the only value of the field since 2023.
DEFAULT_VERSION = (b"anthropic-version", b"2023-06-01")
_IDENTITY = (b"accept-encoding", b"identity")
_JSON = (b"content-type", b"application/json")
_OWN_AGENT = (b"user-agent", f"mportrouter/{__version__}".encode("ascii"))


def credential(settings: UpstreamSettings) -> tuple[bytes, bytes] | None:
    """The field with an account's own key, ``None`` where it has none."""
    if settings.auth != "key" or settings.api_key is None:
        return None
    return _styled(settings.auth_style, settings.api_key.value.encode("ascii"))


def _styled(style: str, key: bytes) -> tuple[bytes, bytes] | None:
    if style == "none":
        return None
    name = style.removeprefix("header:")
    # A subscription's token is refused as x-api-key; a field that was named by itself gets the key whatever it is.
    if name == style and (style == "bearer" or key.startswith(b"sk-ant-oat")):
        return b"authorization", b"Bearer " + key
    return name.encode("ascii"), key


class Onward:
    """
    :param settings: the upstream's.
    :param own: the field with the account's own key, or ``None``.
    """

    def __init__(self, settings: UpstreamSettings, own: tuple[bytes, bytes] | None) -> None:
        self._own = own
        self._provider = settings.provider
        self._style = settings.auth_style
        self._shared = settings.auth == "client"
        self._passed = _CLIENT_CREDENTIALS.get(settings.dialect, frozenset()) if self._shared else frozenset()
        self._unversioned = settings.dialect == "anthropic"
        accept = b"text/event-stream" if settings.capabilities.stream_only else b"*/*"
        self._written: list[tuple[bytes, bytes]] = [_JSON, (b"accept", accept), _IDENTITY]
        if self._unversioned:
            self._written.append(DEFAULT_VERSION)
        self._classes: dict[bytes, int] = {}

    def same(self, client_headers: Headers, identity: bool, consumed: bytes) -> list[tuple[bytes, bytes]]:
        """For a request in the client's own dialect; parameters as of :meth:`Upstream.headers_for`."""
        classes = self._classes
        fields = []
        named: set[bytes] | None = None
        versioned = not self._unversioned
        for field in client_headers:
            name, value = field
            sort = classes.get(name)
            if sort is None:
                sort = self._classify(name)
            if sort == _FORWARD:
                fields.append(field)
            elif sort == _CONNECTION:
                options = {option.strip().lower() for option in value.split(b",")}
                named = options if named is None else named | options
            elif sort == _VERSION:
                versioned = True
                fields.append(field)
            elif sort == _ENCODING and not identity:
                fields.append(field)
        if named is not None and not named <= _HARMLESS_OPTIONS:
            fields = [field for field in fields if field[0].lower() not in named]
        if self._shared:
            fields = self._guarded(fields, consumed)
        if not versioned:
            fields.append(DEFAULT_VERSION)
        if identity:
            fields.append(_IDENTITY)
        if self._own is not None:
            fields.append(self._own)
        return fields

    def translated(self, client_headers: Headers, consumed: bytes) -> list[tuple[bytes, bytes]]:
        """For a request that was written anew in the upstream's dialect."""
        fields = list(self._written)
        # Some providers answer only to programs that they know: the client's name goes on, never a made-up one.
        fields.append(next((field for field in client_headers if field[0].lower() == b"user-agent"), _OWN_AGENT))
        if self._own is not None:
            fields.append(self._own)
        elif self._shared:
            # It was meant for somebody who speaks another dialect: here it goes only where its look says whose it is.
            for name, value in client_headers:
                key = value.split()[-1] if value.strip() else b""
                if name.lower() in _CREDENTIALS and key and not (consumed and key.endswith(consumed)):
                    styled = _styled(self._style, key) if owner_of(value) == self._provider else None
                    if styled is not None:
                        fields.append(styled)
                        break
        return fields

    def _guarded(self, fields: list[tuple[bytes, bytes]], consumed: bytes) -> list[tuple[bytes, bytes]]:
        """Without logins that are somebody else's, and without the names of accounts where no login is left."""
        kept = []
        logged_in = False
        for field in fields:
            name, value = field[0].lower(), field[1]
            if name in _CREDENTIALS:
                if (consumed and value.endswith(consumed)) or owner_of(value) not in (None, self._provider):
                    continue
                logged_in = True
            kept.append(field)
        return kept if logged_in else [field for field in kept if field[0].lower() not in _ACCOUNTS]

    def _classify(self, name: bytes) -> int:
        low = name.lower()
        if low == b"connection":
            sort = _CONNECTION
        elif low == b"accept-encoding":
            sort = _ENCODING
        elif low == b"anthropic-version":
            sort = _VERSION
        elif low in _DROPPED or low.startswith(_DROPPED_PREFIXES):
            sort = _DROP
        elif low in _CREDENTIALS:
            sort = _FORWARD if low in self._passed else _DROP
        elif low in _ACCOUNTS:
            sort = _FORWARD if self._shared else _DROP
        elif self._own is not None and low == self._own[0]:
            sort = _DROP
        else:
            sort = _FORWARD
        if len(self._classes) < _REMEMBERED:
            self._classes[name] = sort
        return sort


def without_key(query: bytes) -> bytes:
    """A query without the key that clients of one dialect may put there."""
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[0] not in (b"key", b"access_token"))


def owner_of(value: bytes) -> str | None:
    """
    The provider that a credential belongs to, by its look; ``None`` where that says nothing.

    :param value: of a header field, ``Bearer`` before it or not.
    """
    prefixes, issuers = _marks()
    for word in value.split():
        for prefix, provider in prefixes:
            if word.startswith(prefix):
                return provider
        if issuers and word.startswith(b"eyJ"):
            issuer = claims_of(word.decode("latin-1")).get("iss")
            if isinstance(issuer, str) and issuer.rstrip("/") in issuers:
                return issuers[issuer.rstrip("/")]
    return None


@lru_cache(maxsize=1)
def _marks() -> tuple[tuple[tuple[bytes, str], ...], dict[str, str]]:
    """Beginnings of keys, longest first, and issuers of tokens, each with the provider."""
    rows: Iterable[catalog.Provider] = catalog.load().values()
    prefixes = [(prefix.encode("ascii"), row.name) for row in rows for prefix in row.key_prefixes]
    issuers = {row.key_issuer: row.name for row in catalog.load().values() if row.key_issuer}
    return tuple(sorted(prefixes, key=lambda pair: -len(pair[0]))), issuers
