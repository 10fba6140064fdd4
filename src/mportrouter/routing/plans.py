"""The values of routing: what is known of a request and of the upstreams, and the plan made of it."""

from __future__ import annotations

import attrs

from ..errors import RouterError
from ..settings import Capabilities, Timeouts
from .complexity import Score

_HONOURS_ALL = Capabilities()


@attrs.frozen
class Facts:
    """
    What routing knows of one request.

    :param mode: the mode's name.
    :param model: the model the client asks for.
    :param stream: whether it wants events.
    :param needs: names of :class:`~mportrouter.settings.Capabilities` columns that the answer depends on.
    :param estimated_tokens: of the whole prompt; 0: not estimated.
    :param max_output: ``max_tokens``, or ``None``.
    :param score: the task's complexity, or ``None`` where nobody looked.
    :param share_key: the same key falls on the same side wherever traffic is shared.
    :param port: the port it came to; 0: unknown.
    :param turn: how many turns requests for this model have taken in this mode: whose turn it is in a round. A request
        that stays with its upstream takes none; else conversations that stay could take every turn of one account.
    :param stay: the upstream that this conversation was served by last, ``""``: none, or it is free to move.
    :param tag: upstream (or provider) and model that a sub-agent's tag names, or ``None``.
    """

    mode: str
    model: str
    stream: bool = False
    needs: frozenset[str] = frozenset()
    estimated_tokens: int = 0
    max_output: int | None = None
    score: Score | None = None
    share_key: str = ""
    port: int = 0
    turn: int = 0
    stay: str = ""
    tag: tuple[str, str] | None = None


@attrs.frozen
class UpstreamView:
    """
    An upstream as it stands at the moment of planning. Where a tag names the model, all is told of that model.

    :param rank: 0 healthy, 1 degraded, 2 resting, 3 open or down (:meth:`mportrouter.breaker.Breaker.rank`).
    :param load: 0 to 1, the share of its limit of concurrent exchanges that is taken.
    :param model: the model that it would be asked for.
    :param context: tokens that this model takes, or ``None`` where unknown.
    :param cost: expected picodollars of this request there, or ``None`` where unknown.
    :param reason: why it is as it is, for the decision's text (``circuit open``); ``""``: the rank's own word.
    :param offers: it has the model that the client, or the tag, asks for.
    :param retry_in: seconds until it may be asked again; 0: now.
    :param models: the only models that it offers, for messages; empty: any.
    """

    id: str
    provider: str
    capabilities: Capabilities = _HONOURS_ALL
    rank: int = 0
    load: float = 0.0
    model: str = ""
    context: int | None = None
    enabled: bool = True
    cost: int | None = None
    reason: str = ""
    offers: bool = True
    retry_in: float = 0.0
    models: tuple[str, ...] = ()


@attrs.frozen
class Attempt:
    """
    One upstream and the model it is asked for.

    :param reason: why it has its place in the plan.
    :param path: where generations are asked for, ``""``: the upstream's own place.
    :param timeouts: instead of the upstream's own, or ``None``.
    """

    upstream: str
    model: str
    reason: str = ""
    path: str = ""
    timeouts: Timeouts | None = None


@attrs.frozen
class Plan:
    """
    :param attempts: in order, each upstream once; second tries at one are the relay's affair.
    :param decision: short, for the ``x-mportrouter-decision`` header and ``/router status``.
    :param refusal: the error that answers the request where nobody may be asked; then there are no attempts.
    :param notes: what was left out and why.
    """

    attempts: tuple[Attempt, ...]
    decision: str
    refusal: RouterError | None = None
    notes: tuple[str, ...] = ()
