"""
What is kept of an exchange: the values that the relay fills and that log, ledger, statistics and alerts read.

They are made and written once for every request, so they are msgspec's structures: half as dear to make and to encode.
"""

from __future__ import annotations

import msgspec

from .errors import Verdict


class Usage(msgspec.Struct, gc=False):
    """
    Tokens of one answer, disjoint: the whole prompt is ``input + cache_read + cache_write_5m + cache_write_1h``.

    :param output: includes reasoning.
    :param reasoning: the part of ``output`` that was reasoning, where the provider tells.
    :param web_searches: searches that the provider ran and bills.
    :param estimated: ``True`` where the answer was cut before the provider told, and ``output`` is our estimate.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    web_searches: int = 0
    estimated: bool = False

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class AttemptRecord(msgspec.Struct, gc=False):
    """
    One attempt that did not serve the client.

    :param kind: the value of an :class:`mportrouter.errors.Kind`.
    """

    upstream: str
    model: str
    kind: str
    status: int | None
    message: str
    milliseconds: float

    @classmethod
    def of(cls, upstream: str, model: str, verdict: Verdict, seconds: float) -> AttemptRecord:
        """:param seconds: that the attempt took."""
        return cls(upstream, model, verdict.kind.value, verdict.status, verdict.message, seconds * 1000.0)


class ExchangeRecord(msgspec.Struct, gc=False):
    """
    One exchange, from the request's last byte to the answer's last byte.

    :param at: seconds since the epoch at its start.
    :param outcome: ``ok``, ``error`` (the client got an error), ``cut`` (broken after commit), ``gone`` (the client
        left), ``command`` (answered by the router itself), ``analysis`` (asked by the router for its own routing).
    :param upstream: id of the upstream that served, or of the last one asked, or ``""``.
    :param provider: its provider's name, or ``""``.
    :param model: the model it was asked for; ``requested`` is what the client said.
    :param status: HTTP status the client saw.
    :param milliseconds: the whole; ``first_milliseconds`` until the first content byte went out, or ``None``.
    :param cost: picodollars (10⁻¹² US dollars; a price of $1 a million tokens is 10⁶ picodollars a token).
    :param failed: the attempts that did not serve.
    :param dropped: what was left out of the request or changed in meaning for the upstream.
    :param size: bytes of a request of text alone, 0 where pictures or documents are in it.
    """

    at: float = 0.0
    port: int = 0
    mode: str = ""
    outcome: str = "ok"
    upstream: str = ""
    provider: str = ""
    model: str = ""
    requested: str = ""
    status: int = 0
    milliseconds: float = 0.0
    first_milliseconds: float | None = None
    usage: Usage | None = None
    cost: int = 0
    #: What the same tokens would have cost at the strong provider's reference model, picodollars; ``None``: unknown.
    reference_cost: int | None = None
    attempts: int = 0
    failed: list[AttemptRecord] = []
    decision: str = ""
    error: str = ""
    session: str = ""
    stream: bool = False
    request_id: str = ""
    size: int = 0
    dropped: tuple[str, ...] = ()
