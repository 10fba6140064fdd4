"""How long an attempt may take: its limits as moments, each with the words for when it has passed; and the next try."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import Kind, Verdict
from .settings import ModeSettings, Timeouts

#: Longest wait in seconds for a second try at the same upstream.
RETRY_WAIT = 2.0


def deadlines(
    limits: Timeouts, sent: float, last: float, *, streamed: bool, begun: bool, waiting: bool
) -> Iterator[tuple[float, str]]:
    """
    :param limits: of the upstream.
    :param sent: when the request was sent, seconds on any clock.
    :param last: when something was last received, on the same clock.
    :param streamed: the client asked for a stream.
    :param begun: the answer's head is there.
    :param waiting: no content-bearing event has come yet.
    :returns: each moment at which the attempt has taken too long, and in which respect.
    """
    if not begun:
        limit = limits.head if streamed else limits.answer
        if limit is not None:
            yield sent + limit, f"no answer within {limit:g} s"
    if streamed and waiting and limits.first_content is not None:
        yield sent + limits.first_content, f"no content within {limits.first_content:g} s"
    elif begun and limits.idle is not None:
        yield max(last, sent) + limits.idle, f"nothing came for {limits.idle:g} s"
    if limits.total is not None:
        yield sent + limits.total, f"not finished within {limits.total:g} s"


def pause(mode: ModeSettings, verdict: Verdict, alone: bool, jitter: float) -> float | None:
    """
    :param verdict: on the first try.
    :param alone: nobody else is left to be asked.
    :param jitter: 0 to 1.
    :returns: seconds until a second try at the same upstream, ``None`` where it is not worth one.
    """
    if not verdict.retry_same or (verdict.kind is Kind.TIMEOUT and not mode.retry_timeouts):
        return None
    seconds = mode.retry_delay * (0.75 + 0.5 * jitter)
    if verdict.retry_after is not None:
        # A provider that says when to come back is waited for only where there is nobody else.
        if not alone:
            return None
        seconds = max(seconds, verdict.retry_after)
    return seconds if seconds <= max(RETRY_WAIT, mode.retry_delay * 1.25) else None
