"""
The client's side of an exchange: what the client has been shown so far, and how its answer can go on and end.

A stream that waits long is begun with a keep-alive event: from then on the status is out, and what would have been an
error answer becomes an error event.
"""

from __future__ import annotations

from twisted.logger import Logger

from .errors import Kind, RouterError, Verdict
from .interfaces import Headers, IDialect
from .web.http1 import Request

#: Fields that belong to one connection (RFC 9110 §7.6.1) or to the provider's own site, and never reach the client.
NOT_FORWARDED = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"content-length",
        b"set-cookie",
        b"strict-transport-security",
        b"alt-svc",
    ]
)

#: What the names of the router's own fields begin with: nobody else may speak in them.
OWN = b"x-mportrouter-"

_log = Logger()


def forwarded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields of an upstream's answer that the client gets, in their order."""
    return [field for field in headers if field[0] not in NOT_FORWARDED and not field[0].startswith(OWN)]


def form(headers: Headers) -> tuple[bool, bytes]:
    """
    :param headers: of an upstream's answer.
    :returns: whether it is an event stream, and its content coding in lower case, ``b""`` for none.
    """
    kind = coding = b""
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding":
            coding = value.strip().lower()
    return kind[:17].lower() == b"text/event-stream", b"" if coding == b"identity" else coding


#: Names of modes and upstreams and most decisions come again and again.
_texts: dict[str, bytes] = {}
_REMEMBERED = 1024


def header_text(text: str) -> bytes:
    """``text`` as a header value: one line of printable ASCII, at most 300 bytes."""
    found = _texts.get(text)
    if found is None:
        found = text.encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")[:300]
        if len(_texts) >= _REMEMBERED:
            _texts.clear()
        if len(text) <= 300:
            _texts[text] = found
    return found


def as_refusal(error: Exception) -> RouterError:
    """What broke on the way to an upstream, as the client is told of it; what nobody has foreseen goes to the log."""
    if isinstance(error, RouterError):
        return error
    if isinstance(error, ValueError):
        return RouterError(Kind.BAD_REQUEST, str(error))
    _log.failure("A request could not be made ready for an upstream")
    return RouterError(Kind.INTERNAL, "the router itself failed at this request; its log says how")


def rewritten(headers: Headers, content_type: bytes, stream: bool) -> list[tuple[bytes, bytes]]:
    """
    The fields of an answer that was written anew in the client's dialect.

    :param headers: of the upstream's answer; what names the exchange there goes on.
    """
    fields = [(b"content-type", content_type)]
    if stream:
        fields += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    fields += [field for field in headers if field[0] in (b"request-id", b"x-request-id", b"retry-after")]
    return fields


def provider_error(upstream: str, verdict: Verdict, foreign: bool) -> RouterError:
    """
    A failed attempt as the error of the client's answer.

    :param foreign: the upstream speaks another dialect: its words are told in the client's.
    """
    status = verdict.status if verdict.status is not None and verdict.status >= 400 else None
    if not foreign or status is None:
        words = f"{upstream} failed: {verdict.message}"
        return RouterError(verdict.kind, words, verdict.retry_after, status)
    # What is wrong with the account is no business of a client whose own key is well.
    own = verdict.kind.clients_fault or verdict.kind is Kind.UPSTREAM
    return RouterError(verdict.kind, verdict.message, verdict.retry_after, status if own else None, by=upstream)


class Reply:
    """
    :param request: the client's request.
    :param dialect: the client's dialect.
    :param request_id: names the exchange in errors of the router's own.
    :param fields: fields about the routing that every answer carries.
    :param stream: the client wants events.
    :ivar begun: the status is out, because of a keep-alive event.
    """

    __slots__ = ("_dialect", "_fields", "_request", "_request_id", "_stream", "begun")

    def __init__(
        self,
        request: Request,
        dialect: IDialect,
        request_id: str,
        fields: list[tuple[bytes, bytes]],
        stream: bool = False,
    ) -> None:
        self._stream = stream
        self._request = request
        self._dialect = dialect
        self._request_id = request_id
        self._fields = fields
        self.begun = False

    def _headers(self, headers: Headers, more: Headers) -> list[tuple[bytes, bytes]]:
        fields = forwarded(headers)
        fields += self._fields
        fields += more
        return fields

    def ping(self, more: Headers) -> None:
        """Send a keep-alive event; before anything else it begins the stream."""
        if self._request.started:
            self._request.write(self._dialect.ping)
            return
        self.begun = True
        self._request.start(200, self._stream_headers(more), None, self._dialect.ping)

    def _stream_headers(self, more: Headers) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"request-id", self._request_id.encode("ascii")),
            *self._fields,
            *more,
        ]

    def whole(self, status: int, headers: Headers, more: Headers, body: bytes) -> None:
        """Give a whole answer at once, errors of a provider among them."""
        if self.begun:
            self._request.finish(body)
        else:
            self._request.respond(status, self._headers(headers, more), body)

    def begin(self, status: int, headers: Headers, more: Headers, first: bytes) -> None:
        """Begin an answer that goes on with the request's own ``write`` and ``finish``."""
        if self.begun:
            self._request.write(first)
        else:
            self._request.start(status, self._headers(headers, more), None, first)

    def refuse(self, error: RouterError, more: Headers) -> int:
        """
        Answer with an error of the router's own, or with a provider's in the client's dialect.

        :returns: the HTTP status that the client sees.
        """
        dialect, id = self._dialect, self._request_id
        if self.begun:
            self._request.finish(dialect.error_event(error, id))
            return 200
        if self._stream and error.kind in dialect.in_band:
            self._request.respond(200, self._stream_headers(more), dialect.error_event(error, id))
            return 200
        status = dialect.error_status(error)
        self._request.respond(status, [*error.headers(id), *self._fields, *more], dialect.error_body(error, id))
        return status

    def cut(self, error: RouterError, rest: bytes, stream: bool, event: bytes | None = None) -> None:
        """
        Show that an answer under way is broken.

        :param rest: bytes of it that have not gone out yet.
        :param stream: it is a stream: an error event says why. Anything else can only be broken off.
        :param event: that event, where the answer's writer makes it; ``None``: the dialect's own.
        """
        if not stream:
            self._request.abort()
        elif event is not None:
            self._request.finish(rest + event)
        else:
            # The blank lines end an event that was cut in its middle; between two events they mean nothing.
            self._request.finish(rest + b"\n\n" + self._dialect.error_event(error, self._request_id))
