"""
How much may still be sent: to one account of a provider, or by one client.

A :class:`Window` counts what went in the last minute. An :class:`Allowance` is an account's: what the configuration
allows it a minute, and what its provider said is left. Both are told the time and know no clock.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable

import attrs

from .advice import parse_reset
from .settings import Limits

MINUTE = 60.0
#: Models whose used-up budgets are remembered; names may be the client's own where nothing maps them.
_MODELS = 256
#: The whole account, in place of a model.
_ACCOUNT = ""

_BUDGET = re.compile(r"((?:anthropic-|x-)?ratelimit)-(?:remaining(?:-(.+))?|(.+)-remaining)")
_REMAINING = re.compile(r"(?:^|[;,])\s*(?:r|remaining)=0+(?:\.0*)?(?=[;,\s]|$)")
_RESET = re.compile(r"[;,]\s*(?:t|reset)=([0-9]{1,15})(?=[;,\s]|$)")
_ZERO = re.compile(r"0+(?:\.0*)?")


class Entry:
    """One amount in a :class:`Window`."""

    __slots__ = ("amount", "at", "over")

    def __init__(self, at: float, amount: float) -> None:
        self.at = at
        self.amount = amount
        #: It counts no more.
        self.over = False


class Window:
    """
    What went in the last minute, exactly: in no minute is it more than the limit.

    A limit that is no whole number holds over a window that is longer in proportion: 0.5 a minute is 1 in two minutes.
    An entry may lie in the future: a turn that is kept for somebody who waits for it. Who comes later then gets a
    later turn.

    :param limit: the most that may go in a minute, above 0.
    """

    __slots__ = ("_entries", "_limit", "_total", "limit", "seconds")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._limit = float(math.ceil(limit))
        self.seconds = MINUTE * self._limit / limit
        self._entries: deque[Entry] = deque()
        self._total = 0.0

    def wait(self, now: float, amount: float = 1.0) -> float:
        """
        :param now: seconds on any clock that never runs backwards.
        :param amount: one that is larger than the limit goes alone.
        :returns: seconds until it may go; 0: now.
        """
        self._drop(now)
        entries = self._entries
        too_much = self._total + min(amount, self._limit) - self._limit
        if too_much <= 0:
            return 0.0
        at = now
        for entry in entries:
            at = max(at, entry.at + self.seconds)
            too_much -= entry.amount
            if too_much <= 0:
                break
        return max(0.0, at - now)

    def add(self, at: float, amount: float = 1.0) -> Entry:
        """
        Count an amount.

        :param at: when it goes: now, or after the wait that it was told.
        """
        entry = Entry(at, amount)
        self._entries.append(entry)
        self._total += amount
        return entry

    def change(self, entry: Entry, amount: float) -> None:
        """Let an entry count for another amount, while it counts at all."""
        if not entry.over:
            self._total += amount - entry.amount
            entry.amount = amount

    def follow(self, other: Window) -> None:
        """Go on from what was counted under another limit."""
        for entry in other._entries:
            self.add(entry.at, entry.amount)

    def left(self, now: float) -> float:
        """What may still go now."""
        self._drop(now)
        return max(0.0, self._limit - self._total)

    def reset_in(self, now: float) -> float:
        """Seconds until nothing counts any more."""
        self._drop(now)
        return max(0.0, self._entries[-1].at + self.seconds - now) if self._entries else 0.0

    def _drop(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + self.seconds <= now:
            entry = entries.popleft()
            entry.over = True
            self._total -= entry.amount
        if not entries:
            self._total = 0.0


@attrs.frozen
class Place:
    """One request's share of an :class:`Allowance`, ``None`` where that has no limit."""

    request: Entry | None
    tokens: Entry | None


@attrs.frozen
class _Spent:
    """
    A budget of which nothing is left, as an answer told.

    :param since: when that was.
    :param reset: seconds from then until all of it is there again.
    :param limit: the whole budget, ``None`` where it was not told or comes back all at once.
    :param in_tokens: it counts tokens, not requests.
    """

    since: float
    reset: float
    limit: float | None
    in_tokens: bool

    def until(self, tokens: float) -> float:
        """
        When there is enough for one request.

        A budget of a day mostly comes back bit by bit, and its reset is when all of it is back: past a minute the
        share that the request needs is waited for.
        """
        reset = self.reset
        if reset > MINUTE and self.limit is not None:
            need = max(1.0, tokens) if self.in_tokens else 1.0
            reset = max(MINUTE, reset * min(1.0, need / self.limit))
        return self.since + reset


class Allowance:
    """
    What may still be asked of one account.

    Tokens count as the request's estimate until the answer tells, then as what was used without what came out of the
    prompt cache (most providers do not count that; those that do tell what is left).

    :param limits: the account's; only requests and tokens are looked at here.
    :ivar active: something may have to be waited for; else nothing here needs to be asked.
    :ivar limited: requests or tokens have a limit.
    :ivar counts_tokens: tokens have a limit.
    """

    __slots__ = ("_requests", "_spent", "_tokens", "active", "counts_tokens", "limited")

    def __init__(self, limits: Limits) -> None:
        self._requests = Window(limits.requests) if limits.requests else None
        self._tokens = Window(limits.tokens) if limits.tokens else None
        self.counts_tokens = self._tokens is not None
        self.limited = self.active = self.counts_tokens or self._requests is not None
        #: By model, then by the budget's name.
        self._spent: dict[str, dict[str, _Spent]] = {}

    def wait(self, now: float, tokens: float = 0.0, model: str = "") -> float:
        """
        :param now: seconds on any clock that never runs backwards; the same one everywhere here.
        :param tokens: that the request may have.
        :param model: budgets that providers tell of are a model's.
        :returns: seconds until the request may go; 0: now.
        """
        wait = 0.0
        if self._requests is not None:
            wait = self._requests.wait(now)
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, tokens))
        if self._spent:
            wait = max(wait, self._told(now, tokens, model))
        return wait

    def why(self, now: float, tokens: float = 0.0, model: str = "") -> str:
        """For a person, why a request has to wait."""
        if self._requests is not None and self._requests.wait(now) > 0:
            return f"its limit of {self._requests.limit:g} requests a minute is reached"
        if self._tokens is not None and self._tokens.wait(now, tokens) > 0:
            return f"its limit of {self._tokens.limit:g} tokens a minute is reached"
        return "its provider said that nothing is left for now"

    def take(self, at: float, tokens: float = 0.0) -> Place:
        """
        Count a request.

        :param at: when it goes: now, or after the wait that it was told. A turn to come is kept for it.
        """
        return Place(
            self._requests.add(at) if self._requests is not None else None,
            self._tokens.add(at, tokens) if self._tokens is not None else None,
        )

    def settle(self, place: Place, tokens: float, now: float) -> None:
        """
        Count a request's tokens as they were: less than estimated at its own time, more from now on.

        :param tokens: 0 where it failed.
        """
        entry, window = place.tokens, self._tokens
        if entry is None or window is None:
            return
        more = tokens - entry.amount
        if more > 0:
            window.add(now, more)
        elif more < 0:
            window.change(entry, tokens)

    def cancel(self, place: Place) -> None:
        """A request was not sent after all."""
        if place.request is not None and self._requests is not None:
            self._requests.change(place.request, 0.0)
        if place.tokens is not None and self._tokens is not None:
            self._tokens.change(place.tokens, 0.0)

    def follow(self, other: Allowance) -> None:
        """Go on from what the same account was asked under other settings."""
        self._spent = other._spent
        self.active = self.limited or bool(self._spent)
        for mine, before in ((self._requests, other._requests), (self._tokens, other._tokens)):
            if mine is not None and before is not None:
                mine.follow(before)

    # ------------------------------------------------------------------------------------------- told by providers

    def learn(self, headers: Iterable[tuple[bytes, bytes]], now: float, epoch: float, model: str = "") -> None:
        """
        Read what an answer tells of the account's budgets.

        ``anthropic-ratelimit-<budget>-remaining`` (platform.claude.com, "Rate limits"), ``…-unified-status`` of
        subscriptions, ``x-ratelimit-remaining-<budget>`` (OpenAI, Groq; Cerebras, whose budgets name their window),
        ``x-ratelimit-remaining`` alone (OpenRouter), ``ratelimit-remaining`` and ``ratelimit`` (drafts of the IETF's
        httpapi group), ``x-codex-…-used-percent``. Of a budget that is used up, until when.

        :param now: as everywhere here.
        :param epoch: the same moment as seconds since the epoch: some resets are dates.
        """
        told = {}
        for raw, value in headers:
            name = raw.lower()
            if b"ratelimit" in name or name[:8] == b"x-codex-":
                told[name.decode("latin-1")] = value.decode("latin-1").strip()
        if not told:
            return
        by_model = dict(self._spent.get(model, ()))
        of_account = by_model if model == _ACCOUNT else dict(self._spent.get(_ACCOUNT, ()))
        for field, said in told.items():
            key, spent = _read(field, said, told, now, epoch)
            if not key:
                continue
            known = of_account if key in ("unified", "x-codex-primary", "x-codex-secondary") else by_model
            known.pop(key, None)
            if spent is not None and spent.reset > 0:
                known[key] = spent
        self._keep(model, by_model)
        if of_account is not by_model:
            self._keep(_ACCOUNT, of_account)
        self.active = self.limited or bool(self._spent)

    def _keep(self, model: str, budgets: dict[str, _Spent]) -> None:
        if not budgets:
            self._spent.pop(model, None)
        elif model in self._spent or len(self._spent) < _MODELS:
            self._spent[model] = budgets

    def _told(self, now: float, tokens: float, model: str) -> float:
        """Seconds until what was used up, as the provider told, is there again; forgets what is."""
        until = now
        for each in {model, _ACCOUNT}:
            budgets = self._spent.get(each)
            if budgets is not None:
                latest = max(spent.until(tokens) for spent in budgets.values())
                if latest > now:
                    until = max(until, latest)
                else:
                    del self._spent[each]
        if len(self._spent) >= _MODELS:
            self._spent = {
                name: budgets
                for name, budgets in self._spent.items()
                if any(spent.since + spent.reset > now for spent in budgets.values())
            }
        self.active = self.limited or bool(self._spent)
        return until - now


def _read(name: str, value: str, told: dict[str, str], now: float, epoch: float) -> tuple[str, _Spent | None]:
    """
    What one field says of a budget.

    :param told: all fields, for the ones that belong to it.
    :returns: the budget's name, ``""`` where the field is not the one that decides; the budget where it is used up.
    """
    spent: str | None = None
    if name == "anthropic-ratelimit-unified-status":
        if value.lower() == "rejected":
            spent = told.get("anthropic-ratelimit-unified-reset", "")
        return "unified", _until(spent, now, epoch)
    if name.startswith("x-codex-"):
        if not name.endswith("-used-percent"):
            return "", None
        window = name[: -len("-used-percent")]
        if _number(value) >= 100:
            spent = told.get(f"{window}-reset-at") or told.get(f"{window}-reset-after-seconds", "")
        return window, _until(spent, now, epoch)
    if name == "ratelimit":
        return name, _until(_structured(value), now, epoch)
    found = _BUDGET.fullmatch(name)
    if found is None:
        return "", None
    budget = found[2] or found[3] or ""
    if not _ZERO.fullmatch(value):
        return name, None
    limit = _number(told.get(name.replace("remaining", "limit"), "")) if budget else math.nan
    if limit == 0:
        return name, None  # some servers tell an absent limit so
    known = None if math.isnan(limit) else limit
    return name, _until(told.get(name.replace("remaining", "reset"), ""), now, epoch, known, "token" in budget)


def _structured(value: str) -> str | None:
    """
    The latest reset of the policies in a ``RateLimit`` field of which nothing remains, ``None`` where there is none:
    ``"minute";r=0;t=30, "day";r=90;t=5000``, and the older ``limit=9, remaining=0, reset=30``.
    """
    resets = []
    for policy in value.split(",") if ";" in value else [value]:
        reset = _RESET.search(policy)
        if reset is not None and _REMAINING.search(policy) is not None:
            resets.append(reset[1])
    return max(resets, key=int, default=None)


def _until(
    reset: str | None, now: float, epoch: float, limit: float | None = None, in_tokens: bool = False
) -> _Spent | None:
    seconds = parse_reset(reset, epoch) if reset else None
    return None if seconds is None else _Spent(now, seconds, limit, in_tokens)


def _number(text: str) -> float:
    """``nan`` for what is no number."""
    try:
        number = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
