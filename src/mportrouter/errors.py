"""
Every failure that a client can see: its kind, its HTTP status, its retry advice, whose fault it is.

Dialects turn these into their own error shapes; nothing else in the house writes an error body.
"""

from __future__ import annotations

import enum
import math

import attrs


class Kind(enum.Enum):
    """
    What went wrong. The value is the name that logs and ``x-mportrouter-error`` show.

    ``status`` is the HTTP status of an error that the router makes of it.
    """

    # the request's own fault
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    METHOD = "method_not_allowed"
    MEDIA_TYPE = "unsupported_media_type"
    TOO_LARGE = "request_too_large"
    CONTEXT = "context_too_long"
    POLICY = "content_policy"
    # admission
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    BUSY = "busy"
    BUDGET = "cost_ceiling"
    NOT_SUPPORTED = "not_supported"
    # the upstream's fault
    AUTH = "auth"
    MONEY = "money"
    RATE = "rate_limit"
    OVERLOADED = "overloaded"
    UPSTREAM = "upstream_error"
    NETWORK = "network"
    TIMEOUT = "timeout"
    GARBAGE = "garbage"
    CUT = "cut"
    UNAVAILABLE = "unavailable"
    # the router's
    INTERNAL = "internal"

    @property
    def status(self) -> int:
        return _STATUS[self]

    @property
    def clients_fault(self) -> bool:
        """Whether the request itself is to blame: no other upstream is asked, no breaker counts it."""
        return self in _CLIENT


_STATUS = {
    Kind.BAD_REQUEST: 400,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.MEDIA_TYPE: 415,
    Kind.TOO_LARGE: 413,
    Kind.CONTEXT: 400,
    Kind.POLICY: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.BUSY: 503,
    Kind.BUDGET: 429,
    Kind.NOT_SUPPORTED: 501,
    Kind.AUTH: 502,
    Kind.MONEY: 502,
    Kind.RATE: 429,
    Kind.OVERLOADED: 529,
    Kind.UPSTREAM: 502,
    Kind.NETWORK: 502,
    Kind.TIMEOUT: 504,
    Kind.GARBAGE: 502,
    Kind.CUT: 502,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}

_CLIENT = frozenset({Kind.BAD_REQUEST, Kind.NOT_FOUND, Kind.METHOD, Kind.MEDIA_TYPE, Kind.TOO_LARGE, Kind.POLICY})


class RouterError(Exception):
    """
    A failure that the router itself reports to a client.

    :param kind: what went wrong.
    :param message: one or two sentences for the person at the client: what, where, what to do.
    :param retry_after: seconds after which a retry makes sense, or ``None``.
    :param status: the HTTP status where it is not that of the kind.
    :param by: the upstream whose own words the message is, ``""`` where they are the router's: a provider's words stay
        as they are, since clients know some of them.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        retry_after: float | None = None,
        status: int | None = None,
        by: str = "",
    ) -> None:
        super().__init__(message)
        self.by = by
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self.status = kind.status if status is None else status

    @property
    def should_retry(self) -> bool | None:
        """``False`` where a client must not ask again by itself (``x-should-retry: false``), ``None``: no advice."""
        return False if self.status in (401, 402, 403, 501) else None

    def headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """
        The fields of the error answer: what it is, whose it is, when to come back.

        :param request_id: names the exchange in the log.
        """
        fields = [
            (b"content-type", b"application/json"),
            (b"request-id", request_id.encode("ascii", "replace")),
            (b"x-mportrouter-error", self.kind.value.encode("ascii")),
        ]
        if self.retry_after is not None:
            # RFC 9110 §10.2.3 knows whole seconds only; half a second of patience must not become none.
            fields.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after))))
        if self.should_retry is False:
            fields.append((b"x-should-retry", b"false"))
        return fields


@attrs.frozen
class Verdict:
    """
    What one failed attempt means.

    :param kind: the failure.
    :param message: the provider's own words, or ours about the network; at most a few hundred characters, no secret.
    :param retry_after: seconds the provider asked to be left alone, or ``None``.
    :param retry_same: a second try at the same upstream may help.
    :param move_on: the next upstream of the plan may be asked.
    :param status: the upstream's HTTP status, or ``None`` where none came.
    :param account: the failure concerns the whole account (bad key, no money), not one model.
    """

    kind: Kind
    message: str
    retry_after: float | None = None
    retry_same: bool = False
    move_on: bool = True
    status: int | None = None
    account: bool = False


class ConfigError(Exception):
    """
    A configuration that cannot be used.

    :param mistakes: one sentence each, every one of them; with the file's name and line where there is one.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes
