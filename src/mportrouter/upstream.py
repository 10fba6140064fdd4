"""
One configured account at a provider: where it is, how it is asked, what it is called there.

The client's header fields go on as they came, save those that belong to a connection, to the router, or to somebody's
account: exactly one account's credential reaches a provider, and never another provider's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import __version__
from .connection import Call, CallFailed
from .errors import Kind, Verdict
from .fields import memo_of
from .interfaces import Headers, IResponseSink
from .opening import Origin
from .pool import Pool
from .routing.table import ModelMap
from .settings import Capabilities, UpstreamSettings
from .tls import VerifyingCreator

if TYPE_CHECKING:
    from treq.client import HTTPClient

    from .catalog import Provider

__all__ = ["CallFailed", "ProbeResult", "Upstream"]

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
#: Fields that carry a credential, in the ways of any provider.
_CREDENTIALS = frozenset([b"x-api-key", b"authorization", b"x-goog-api-key", b"api-key"])
#: Those of them that ``auth: client`` passes on.
_CLIENT_CREDENTIALS = frozenset([b"x-api-key", b"authorization"])
_FORWARD, _DROP, _CONNECTION, _ENCODING, _VERSION = range(5)
_REMEMBERED = 2048  # field names
#: Claude answers 400 without it; it has been the only value of the field since 2023.
_DEFAULT_VERSION = (b"anthropic-version", b"2023-06-01")
#: Bytes of a list of models that are worth reading.
_PROBE_LIMIT = 4 * 1024 * 1024


@attrs.frozen
class ProbeResult:
    """
    What a free look at an upstream told.

    :param latency: seconds until the answer's head, or until the failure.
    :param status: HTTP status; ``None`` where nothing was asked (no probe path) or no answer came.
    :param models: ids of its models, where it listed them.
    :param keyed: whether the account's key went with it.
    :param failure: why no answer came, or ``None``.
    """

    latency: float
    status: int | None = None
    models: tuple[str, ...] = ()
    keyed: bool = False
    failure: Verdict | None = None

    @property
    def alive(self) -> bool:
        """Whether the provider answers at all: a 401 is an answer, a 5xx is none that helps."""
        return self.failure is None and (self.status is None or self.status < 500)


class Upstream:
    """
    :param settings: the account.
    :param provider: its row of the catalogue, if it has one.
    :param circuit: its circuit, held for the composition.
    :raises ConfigError: ``tls.ca_file`` cannot be used.
    :raises ValueError: ``base_url`` is no http or https URL.
    """

    _log = Logger()

    def __init__(
        self, settings: UpstreamSettings, provider: Provider | None, reactor: Any, *, circuit: Any = None
    ) -> None:
        self.id: str = settings.id
        self.settings = settings
        self.provider = provider
        self.provider_name: str = settings.provider
        self.capabilities: Capabilities = settings.capabilities
        self.circuit = circuit
        self.health: Any = None
        self.enabled: bool = settings.enabled
        #: Model ids that the last successful probe listed.
        self.models: tuple[str, ...] = ()
        #: Exchanges under way, counted by those who carry them.
        self.in_flight = 0
        self._reactor = reactor
        self._models = ModelMap(settings.models)
        origin = Origin.of(settings.base_url)
        self._base = _base_path(settings.base_url)
        self._creator = VerifyingCreator(origin.host, settings.tls, settings.pins) if origin.secure else None
        if origin.secure and settings.tls.minimum != "1.3":
            self._log.warn("upstream {id} may use TLS {minimum}", id=settings.id, minimum=settings.tls.minimum)
        self.pool = Pool(
            origin,
            reactor,
            self._creator,
            connect_timeout=settings.timeouts.connect,
            tls_timeout=settings.timeouts.tls,
        )
        self._credential = _credential(settings)
        self._guarded = settings.auth == "client" and settings.provider != "anthropic"
        self._classes: dict[bytes, int] = {}
        self._client: HTTPClient | None = None

    # ------------------------------------------------------------------------------------------- the data path

    def model_for(self, requested: str) -> str:
        """The model to ask for here when a client says ``requested``."""
        return self._models.target(requested)

    def target_for(self, path: bytes, query: bytes) -> bytes:
        """
        Path and query at this provider.

        :param path: begins with ``/v1/``.
        :param query: as it came, without the question mark.
        """
        return b"%b%b?%b" % (self._base, path, query) if query else self._base + path

    def headers_for(
        self, client_headers: Headers, *, identity: bool = True, consumed: bytes = b""
    ) -> list[tuple[bytes, bytes]]:
        """
        The fields to send for a client's: its own that may go on, ``anthropic-version`` where that dialect wants it and
        the client sent none, and the account's credential.

        :param identity: ask for an answer without content coding, so that usage can be read from it.
        :param consumed: a gateway token that the client sent in place of a credential; a field with it goes nowhere.
        """
        classes = self._classes
        fields = []
        named: set[bytes] | None = None
        versioned = self.settings.dialect != "anthropic"
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
        if consumed:
            fields = [
                field for field in fields if field[0].lower() not in _CREDENTIALS or not field[1].endswith(consumed)
            ]
        if self._guarded:
            # An Anthropic key is told by its look, wherever a client sends it.
            fields = [field for field in fields if field[0].lower() not in _CREDENTIALS or b"sk-ant-" not in field[1]]
        if not versioned:
            fields.append(_DEFAULT_VERSION)
        if identity:
            fields.append((b"accept-encoding", b"identity"))
        if self._credential is not None:
            fields.append(self._credential)
        return fields

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
            passes = self.settings.auth == "client" and low in _CLIENT_CREDENTIALS
            sort = _FORWARD if passes else _DROP
        else:
            sort = _FORWARD
        if len(self._classes) < _REMEMBERED:
            self._classes[name] = sort
        return sort

    def send(
        self, method: bytes, path: bytes, query: bytes, client_headers: Headers, body: bytes, sink: IResponseSink
    ) -> Call:
        """
        Ask the provider on behalf of a client; parameters as in :meth:`target_for`, :meth:`headers_for`.

        :raises ValueError: a field or path that cannot be sent as it is.
        """
        memo = memo_of(client_headers)
        if memo is None or method != b"POST":
            target = self.target_for(path, query)
            return self.pool.request(method, target, self.headers_for(client_headers), body, sink)
        # The same head of a client gives the same head here; its own path and query are part of it.
        key = (self, path)
        begun: bytes | None = memo.get(key)
        if begun is None:
            target = self.target_for(path, query)
            begun = memo[key] = self.pool.head(method, target, self.headers_for(client_headers))
        return self.pool.post(begun, body, sink)

    # ------------------------------------------------------------------------------------------- beside the data path

    @property
    def client(self) -> HTTPClient:
        """treq on this upstream's connections; it reaches this upstream's origin only and adds no key."""
        if self._client is None:
            # treq and twisted.web.client cost tens of milliseconds, which the first request need not wait for.
            from treq.client import HTTPClient

            from .agent import PooledAgent

            self._client = HTTPClient(PooledAgent(self.pool))
        return self._client

    @property
    def tls_details(self) -> dict[str, Any] | None:
        """What was last seen of its TLS, as plain values; ``None`` for plain http."""
        return None if self._creator is None else attrs.asdict(self._creator.details)

    def probe(self, timeout: float = 10.0) -> Deferred[ProbeResult]:
        """
        A look that costs nothing: list the models with the account's key, or just connect. Never a generation.

        :param timeout: seconds for everything.
        :returns: never fails, unless it is cancelled; :attr:`models` holds what was listed.
        """
        return Deferred.fromCoroutine(self._probe(timeout)).addErrback(self._probe_broke)

    def _probe_broke(self, failure: Failure) -> ProbeResult:
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure("The probe of {id} broke", failure, id=self.id)
        return ProbeResult(0.0, failure=Verdict(Kind.INTERNAL, f"the probe broke ({type(failure.value).__name__})"))

    async def _probe(self, timeout: float) -> ProbeResult:
        seconds = self._reactor.seconds
        began = seconds()
        path = self.settings.probe
        keyed = path is not None and self._credential is not None

        def failed(verdict: Verdict) -> ProbeResult:
            return ProbeResult(seconds() - began, keyed=keyed, failure=verdict)

        try:
            if path is None:
                await self.pool.connect().addTimeout(timeout, self._reactor)
                return ProbeResult(seconds() - began)
            look = Deferred.fromCoroutine(self._look(path))
            status, latency, body = await look.addTimeout(timeout, self._reactor)
        except CallFailed as error:
            return failed(error.verdict)
        except TimeoutError:
            what = path or "the connection"
            words = f"{self.pool.where} did not answer {what} within {timeout:g} s"
            return failed(Verdict(Kind.TIMEOUT, words, retry_same=True))
        except ValueError as error:
            return failed(Verdict(Kind.GARBAGE, str(error)))
        if status == 200:
            self.models = _model_ids(body) or self.models
        return ProbeResult(latency, status, self.models if status == 200 else (), keyed)

    async def _look(self, path: str) -> tuple[int, float, bytes]:
        """Status, seconds until the head, and body of the answer to a GET."""
        client = self.client
        from twisted.web.client import ResponseFailed

        from .agent import read_body

        began = self._reactor.seconds()
        try:
            response = await client.get(
                f"{self.pool.origin}{path}", headers=self._probe_headers(), allow_redirects=False, unbuffered=True
            )
            latency = self._reactor.seconds() - began
            return response.code, latency, await read_body(response, _PROBE_LIMIT)
        except ResponseFailed as error:
            raise error.reasons[0].value from error

    def _probe_headers(self) -> dict[bytes | str, bytes | str]:
        headers: dict[bytes | str, bytes | str] = {
            "accept": "application/json",
            "user-agent": f"mportrouter/{__version__}",
        }
        if self.settings.dialect == "anthropic":
            name, value = _DEFAULT_VERSION
            headers[name] = value
        if self._credential is not None:
            name, value = self._credential
            headers[name] = value
        return headers

    def stop(self) -> Deferred[None]:
        """Close the connections; exchanges under way finish first."""
        return self.pool.stop()


_HARMLESS_OPTIONS = frozenset([b"keep-alive", b"close", b""])


def _base_path(url: str) -> bytes:
    from urllib.parse import urlsplit

    return urlsplit(url).path.rstrip("/").encode("ascii")


def _credential(settings: UpstreamSettings) -> tuple[bytes, bytes] | None:
    if settings.auth != "key" or settings.api_key is None:
        return None
    key = settings.api_key.value.encode("ascii")
    # A subscription's token is refused as x-api-key.
    if settings.auth_style == "bearer" or key.startswith(b"sk-ant-oat"):
        return b"authorization", b"Bearer " + key
    return b"x-api-key", key


def _model_ids(body: bytes) -> tuple[str, ...]:
    """The ids of a list of models, in the shape that Anthropic and OpenAI share: ``{"data": [{"id": …}]}``."""
    try:
        rows = json.loads(body)["data"]
        return tuple(row["id"] for row in rows if isinstance(row["id"], str))
    except (ValueError, TypeError, KeyError):
        return ()
