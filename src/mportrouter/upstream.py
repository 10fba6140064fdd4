"""
One configured account at a provider: where it is, how it is asked, what it is called there.

The client's header fields go on as they came, save those that belong to a connection, to the router, or to somebody's
account: exactly one account's credential reaches a provider, and never another provider's.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import __version__
from .connection import CallFailed
from .errors import Kind, Verdict
from .fields import memo_of
from .interfaces import Headers, ICall, ICredential, IResponseSink
from .limits import Allowance
from .onward import DEFAULT_VERSION, Onward, without_key
from .onward import credential as own_key
from .opening import Origin
from .pool import Pool
from .renewing import Renewing
from .routing.table import ModelMap, glob
from .settings import Capabilities, UpstreamSettings
from .tls import VerifyingCreator

if TYPE_CHECKING:
    from treq.client import HTTPClient

    from .catalog import Provider

__all__ = ["CallFailed", "ProbeResult", "Upstream"]

#: Bytes of a list of models that are worth reading.
_PROBE_LIMIT = 4 * 1024 * 1024
#: Bytes of an answer to a renewal of a login.
_RENEWAL_LIMIT = 256 * 1024
_REMEMBERED = 1024  # models and their capabilities
_HEADS = 64  # heads that are remembered for one head of a client
#: What a path begins with where its dialect says its version: ``/v1``, ``/v1beta``, ``/v4``.
_VERSION = re.compile(rb"/v[0-9]+(?:alpha|beta)?[0-9]*(?=/|$)").match
_VERSIONED = re.compile(rb"/v[0-9]+(?:alpha|beta)?[0-9]*$").search


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
    :param credential: a credential that changes, where it is not the one that ``settings.auth`` names.
    :raises ConfigError: ``tls.ca_file`` cannot be used.
    :raises ValueError: ``base_url`` is no http or https URL.
    """

    _log = Logger()

    def __init__(
        self,
        settings: UpstreamSettings,
        provider: Provider | None,
        reactor: Any,
        *,
        circuit: Any = None,
        credential: ICredential | None = None,
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
        #: What may still be asked of the account, by its limits and its provider's word.
        self.allowance = Allowance(settings.limits)
        self._reactor = reactor
        self._models = ModelMap(settings.models)
        origin = Origin.of(settings.base_url)
        self._base = _base_path(settings.base_url)
        self._versioned = _VERSIONED(self._base) is not None
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
        self._credential = own_key(settings)
        self._changing = credential or self._login()
        self._onward = Onward(settings, self._credential)
        self._keyed_query = settings.auth == "client" and settings.auth_style == "x-goog-api-key"
        self._by_pattern = [(glob(pattern).match, columns) for pattern, columns in settings.model_capabilities]
        self._by_model: dict[str, Capabilities] = {}
        self._client: HTTPClient | None = None

    # ------------------------------------------------------------------------------------------- the data path

    def model_for(self, requested: str) -> str:
        """The model to ask for here when a client says ``requested``."""
        return self._models.target(requested)

    def capabilities_for(self, model: str) -> Capabilities:
        """
        What this upstream does with a request for one of its models.

        :param model: as it is asked for here.
        """
        if not self._by_pattern:
            return self.capabilities
        found = self._by_model.get(model)
        if found is None:
            found = next((columns for matches, columns in self._by_pattern if matches(model)), self.capabilities)
            if len(self._by_model) >= _REMEMBERED:
                self._by_model.clear()
            self._by_model[model] = found
        return found

    def target_for(self, path: bytes, query: bytes) -> bytes:
        """
        Path and query at this provider.

        A client's key in the query stays here, unless it is for this account.

        :param path: begins with ``/v1/`` or the like; where the base URL ends in a version, that one holds instead.
        :param query: as it came, without the question mark.
        """
        if self._versioned:
            version = _VERSION(path)
            if version is not None:
                path = path[version.end() :]
        if query and (b"key=" in query or b"access_token=" in query) and not self._keyed_query:
            query = without_key(query)
        return b"%b%b?%b" % (self._base, path, query) if query else self._base + path

    def headers_for(
        self, client_headers: Headers, *, identity: bool = True, consumed: bytes = b"", translated: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """
        The fields to send for a client's: its own that may go on, ``anthropic-version`` where that dialect wants it and
        the client sent none, and the account's credential, unless it is one that changes.

        :param identity: ask for an answer without content coding, so that usage can be read from it.
        :param consumed: a gateway token that the client sent in place of a credential; a field with it goes nowhere.
        :param translated: the request was written anew in this upstream's dialect: of the client's fields only its name
            goes on.
        """
        if translated:
            return self._onward.translated(client_headers, consumed)
        return self._onward.same(client_headers, identity, consumed)

    def send(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        client_headers: Headers,
        body: bytes,
        sink: IResponseSink,
        translated: bool = False,
    ) -> ICall:
        """
        Ask the provider on behalf of a client; parameters as in :meth:`target_for`, :meth:`headers_for`.

        :raises ValueError: a field or path that cannot be sent as it is.
        """
        pool = self.pool
        changing = self._changing
        memo = memo_of(client_headers)
        if memo is None or method != b"POST" or changing is not None:
            target = self.target_for(path, query)
            headers = self.headers_for(client_headers, translated=translated)
            if changing is None:
                return pool.request(method, target, headers, body, sink)

            def ask(fields: Headers, through: IResponseSink) -> ICall:
                return pool.request(method, target, [*headers, *fields], body, through)

            return Renewing(changing, ask, sink, self._later).begin()
        # The same head of a client gives the same head here, but for where a translated request goes: its model may
        # stand in the path.
        key = (self, path, query, translated)
        begun: bytes | None = memo.get(key)
        if begun is None:
            target = self.target_for(path, query)
            begun = pool.head(method, target, self.headers_for(client_headers, translated=translated))
            if len(memo) < _HEADS:
                memo[key] = begun
        return pool.post(begun, body, sink)

    def _later(self, call: Any) -> None:
        self._reactor.callLater(0, call)

    # ------------------------------------------------------------------------------------------- a login that changes

    def _login(self) -> ICredential | None:
        """The login that a program of the vendor keeps, where the account is that of a person who uses it."""
        settings = self.settings
        if settings.auth != "codex":
            return None
        from .codex_login import CodexLogin

        return CodexLogin(settings.auth_file or "", settings.token_url or "", self._renew, self._reactor)

    def _renew(self, url: str, body: bytes) -> Deferred[tuple[int, bytes]]:
        """Post a renewal to the vendor's own address for it, which is none of this upstream's origin."""
        from .agent import post_json, web_agent

        agent = web_agent(self._reactor, self.settings.tls)
        return Deferred.fromCoroutine(post_json(agent, url, body, _RENEWAL_LIMIT))

    # ------------------------------------------------------------------------------------------- beside the data path

    @property
    def lacking_key(self) -> str:
        """Why nothing can be asked in this account's name, ``""`` where it can."""
        settings = self.settings
        if settings.api_key is not None or settings.auth != "key" or settings.auth_style == "none":
            return ""
        return f"no key (set {settings.key_variable})" if settings.key_variable else "no key (set its api_key)"

    def url_for(self, path: bytes) -> str:
        """
        The absolute URL of a path of the API here, for :attr:`client`.

        :param path: as for :meth:`target_for`.
        """
        base = urlsplit(self.settings.base_url)
        return f"{base.scheme}://{base.netloc}{self.target_for(path, b'').decode('ascii')}"

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
        keyed = path is not None and (self._credential is not None or self._changing is not None)

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

        headers = self._probe_headers()
        changing = self._changing
        fields = await self._changed(changing.fields) if changing is not None else ()
        headers.update(dict(fields))
        began = self._reactor.seconds()
        try:
            url = f"{self.pool.origin}{path}"
            response = await client.get(url, headers=headers, allow_redirects=False, unbuffered=True)
            if response.code == 401 and changing is not None:
                await read_body(response, _PROBE_LIMIT)
                headers.update(dict(await self._changed(changing.renew, fields)))
                response = await client.get(url, headers=headers, allow_redirects=False, unbuffered=True)
            latency = self._reactor.seconds() - began
            return response.code, latency, await read_body(response, _PROBE_LIMIT)
        except ResponseFailed as error:
            raise error.reasons[0].value from error

    @staticmethod
    async def _changed(ask: Any, *arguments: Headers) -> Headers:
        """
        What a credential that changes gives.

        :raises CallFailed: it cannot be had.
        """
        try:
            asked = ask(*arguments)
            fields: Headers = await asked if isinstance(asked, Deferred) else asked
            return fields
        except Exception as error:
            verdict = getattr(error, "verdict", None)
            if verdict is None:
                raise
            raise CallFailed(verdict) from error

    def _probe_headers(self) -> dict[bytes | str, bytes | str]:
        headers: dict[bytes | str, bytes | str] = {
            "accept": "application/json",
            "user-agent": f"mportrouter/{__version__}",
        }
        if self.settings.dialect == "anthropic":
            name, value = DEFAULT_VERSION
            headers[name] = value
        if self._credential is not None:
            name, value = self._credential
            headers[name] = value
        return headers

    def stop(self) -> Deferred[None]:
        """Close the connections; exchanges under way finish first."""
        return self.pool.stop()


def _base_path(url: str) -> bytes:
    return urlsplit(url).path.rstrip("/").encode("ascii")


def _model_ids(body: bytes) -> tuple[str, ...]:
    """
    The ids of a list of models: ``{"data": [{"id": …}]}`` of Anthropic and OpenAI, ``{"models": [{"name": …}]}`` of
    Gemini and local servers (where it says what a model is for, only those that generate), with ``slug`` of Codex.
    """
    try:
        listed = json.loads(body)
        rows = listed if isinstance(listed, list) else listed["data"] if "data" in listed else listed["models"]
        return tuple(id for id in map(_model_id, rows) if id)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def _model_id(row: dict[str, Any]) -> str:
    methods = row.get("supportedGenerationMethods")
    if isinstance(methods, list) and "generateContent" not in methods:
        return ""
    id = next((row[key] for key in ("id", "slug", "name") if key in row), "")
    return id.removeprefix("models/") if isinstance(id, str) else ""
