"""
What an answer costs, in picodollars (10⁻¹² US dollars): a price of $1 a million tokens is 10⁶ picodollars a token.

The rows are vendored in ``data/prices.json``; ``NOTICE`` names their sources. All arithmetic is on integers.

How a row is read:

- of its dated prices the last one that is satisfied at the time counts;
- a tier is a cliff: with more prompt tokens than its bound, its price is that of *all* tokens of the request;
- tokens of a kind without a price of its own are billed as input, an hour's cache write without one as five minutes'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Any

import attrs

from .records import Usage

REFERENCE_MODEL = "claude-sonnet-5-5"
"""The model that "all Claude" means where the client asked for none of Claude's."""

OVERRIDE_KEYS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search")
"""What a price row of the configuration may set: US dollars a million tokens; ``web_search``: a thousand searches."""

_VENDORED_KEYS = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "web_searches_kcount",
)
#: Providers of the catalogue whose rows are vendored under another name.
_PRICED_AS = {"gemini": "google", "moonshot": "moonshotai"}
#: Those that sell the models of others at their prices, under ``vendor/model``.
_RESELLERS = frozenset(["openrouter"])
_PICO_A_TOKEN = 10**6  # of $1 a million
_PICO_A_SEARCH = 10**9  # of $1 a thousand
_DAY = 86400
# Clients choose model names; what is remembered about them must not grow with that.
_REMEMBERED = 1024

Rates = tuple[int, int, int, int, int, int]
"""Picodollars for one: input, output, cache read, five minutes' write, an hour's write (tokens), web search."""

_ZERO: Rates = (0, 0, 0, 0, 0, 0)


@attrs.frozen(slots=True)
class _Period:
    """
    Prices of one time.

    :param since: seconds since the epoch from which they hold, or ``None``.
    :param window: seconds of the UTC day between which they hold, or ``None``; it may pass midnight.
    :param tiers: bounds in prompt tokens, highest first, with the rates above them; the last bound is -1.
    """

    since: float | None
    window: tuple[float, float] | None
    tiers: tuple[tuple[int, Rates], ...]

    def holds(self, at: float) -> bool:
        if self.since is not None and at < self.since:
            return False
        if self.window is None:
            return True
        start, end = self.window
        second = at % _DAY
        return start <= second < end if start <= end else second >= start or second < end

    def rates(self, prompt: int) -> Rates:
        return next(rates for bound, rates in self.tiers if prompt > bound)


@attrs.frozen(slots=True)
class _Row:
    """
    One model.

    :param flat: the rates where neither time nor size matter, else ``None``.
    """

    id: str
    matches: Callable[[str], bool]
    context: int | None
    periods: tuple[_Period, ...]
    flat: Rates | None


@attrs.frozen(slots=True)
class _Plan:
    flat: Rates | None
    periods: tuple[_Period, ...]

    def rates(self, at: float, prompt: int) -> Rates:
        for period in self.periods:
            if period.holds(at):
                return period.rates(prompt)
        return _ZERO  # not reached: every row has a price without a condition


class PriceBook:
    """
    The prices of every known model.

    :param rows: per provider, its rows.
    :param overrides: patterns of model names (``*`` and ``?``, first match wins, any provider) to what they set of
        :data:`OVERRIDE_KEYS`; the rest stays as vendored.
    """

    __slots__ = ("_overrides", "_plans", "_rows")

    def __init__(
        self, rows: Mapping[str, Sequence[_Row]], overrides: Mapping[str, Mapping[str, Decimal]] | None = None
    ) -> None:
        self._rows = rows
        self._overrides = tuple((pattern.lower(), prices) for pattern, prices in (overrides or {}).items())
        self._plans: dict[tuple[str, str], _Plan | None] = {}

    @classmethod
    def load(cls, overrides: Mapping[str, Mapping[str, Decimal]] | None = None) -> PriceBook:
        """The vendored rows under the configuration's own."""
        return cls(_vendored(), overrides)

    def cost(self, provider: str, model: str, usage: Usage, at: float) -> int | None:
        """
        :param provider: the provider's name in the catalogue.
        :param model: the model that answered.
        :param at: seconds since the epoch.
        :returns: picodollars, or ``None`` where the model has no price.
        """
        try:
            plan = self._plans[provider, model]
        except KeyError:
            plan = self._remember(provider, model)
        if plan is None:
            return None
        read, brief, long = usage.cache_read, usage.cache_write_5m, usage.cache_write_1h
        rates = plan.flat
        if rates is None:
            rates = plan.rates(at, usage.input + read + brief + long)
        return (
            usage.input * rates[0]
            + usage.output * rates[1]
            + read * rates[2]
            + brief * rates[3]
            + long * rates[4]
            + usage.web_searches * rates[5]
        )

    def context(self, provider: str, model: str) -> int | None:
        """Largest context of a model in tokens, or ``None`` where it is not known."""
        row = self._row(provider, model)
        return None if row is None else row.context

    def models(self, provider: str) -> list[str]:
        """The ids of a provider's rows."""
        return [row.id for row in self._rows.get(_PRICED_AS.get(provider, provider), ())]

    def _remember(self, provider: str, model: str) -> _Plan | None:
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        plan = self._plans[provider, model] = self._plan(provider, model)
        return plan

    def _plan(self, provider: str, model: str) -> _Plan | None:
        row = self._row(provider, model)
        name = _plain(model)
        prices = next((prices for pattern, prices in self._overrides if fnmatchcase(name, pattern)), None)
        if prices is None:
            return None if row is None else _Plan(row.flat, row.periods)
        if row is None:
            if "input" not in prices or "output" not in prices:
                return None
            return _Plan(_overridden(_ZERO, prices, filled=False), ())
        periods = tuple(
            attrs.evolve(
                period, tiers=tuple((bound, _overridden(rates, prices, filled=True)) for bound, rates in period.tiers)
            )
            for period in row.periods
        )
        return _Plan(_overridden(row.flat, prices, filled=True) if row.flat is not None else None, periods)

    def _row(self, provider: str, model: str) -> _Row | None:
        if provider in _RESELLERS:
            provider = model.partition("/")[0].lower()
        rows = self._rows.get(_PRICED_AS.get(provider, provider), ())
        # Some providers' own names have a vendor in front.
        names = dict.fromkeys((model.partition("[")[0].lower(), _plain(model)))
        return next((row for name in names for row in rows if row.matches(name)), None)


def claude_equivalent(requested: str) -> str:
    """The Claude model that "all Claude" would have used: the requested one if it has a price, else the reference."""
    name = _plain(requested)
    return requested if any(row.matches(name) for row in _vendored()["anthropic"]) else REFERENCE_MODEL


def dollars(picodollars: int) -> Decimal:
    """Picodollars as US dollars, exactly."""
    return Decimal(picodollars).scaleb(-12)


def _plain(model: str) -> str:
    """A model's name as the rows match it: no ``vendor/`` before it, no ``[1m]`` of a client after it, lower case."""
    return model.rpartition("/")[2].partition("[")[0].lower()


def _overridden(rates: Rates, prices: Mapping[str, Decimal], filled: bool) -> Rates:
    """
    :param filled: ``rates`` are real; else kinds that ``prices`` leave out follow the rules for gaps.
    """
    given = [
        None if key not in prices else _pico(prices[key], _PICO_A_SEARCH if key == "web_search" else _PICO_A_TOKEN)
        for key in OVERRIDE_KEYS
    ]
    if not filled:
        return _gaps_closed(given)
    together = [rate if own is None else own for own, rate in zip(given, rates, strict=True)]
    return (together[0], together[1], together[2], together[3], together[4], together[5])


def _gaps_closed(rates: Sequence[int | None]) -> Rates:
    into, out, read, brief, long, search = rates
    into = into or 0
    brief = into if brief is None else brief
    return into, out or 0, into if read is None else read, brief, brief if long is None else long, search or 0


def _pico(price: str | Decimal, unit: int) -> int:
    return int((Decimal(price) * unit).to_integral_value())


@lru_cache(maxsize=1)
def _vendored() -> Mapping[str, Sequence[_Row]]:
    text = resources.files("mportrouter.data").joinpath("prices.json").read_text(encoding="utf-8")
    providers = json.loads(text)["providers"]
    return {name: tuple(_read_row(row) for row in entry["models"]) for name, entry in providers.items()}


def _read_row(row: Mapping[str, Any]) -> _Row:
    periods = tuple(_read_period(prices) for prices in reversed(row["prices"]))
    first = periods[0]
    plain = first.since is None and first.window is None and len(first.tiers) == 1
    return _Row(
        id=row["id"],
        matches=_matcher(row["match"]),
        context=row["context"],
        periods=periods,
        flat=first.tiers[0][1] if plain else None,
    )


def _read_period(prices: Mapping[str, Any]) -> _Period:
    when = prices["when"] or {}
    since = window = None
    if "from" in when:
        since = datetime.fromisoformat(when["from"]).replace(tzinfo=timezone.utc).timestamp()
    if "utc" in when:
        start, end = (int(text[:2]) * 3600.0 + int(text[3:5]) * 60.0 for text in when["utc"])
        window = (start, end)
    bounds = {-1}
    for price in prices.values():
        if isinstance(price, dict):
            bounds.update(tier["above"] for tier in price.get("tiers", ()))
    tiers = tuple((bound, _gaps_closed(_rates_above(prices, bound))) for bound in sorted(bounds, reverse=True))
    return _Period(since, window, tiers)


def _rates_above(prices: Mapping[str, Any], bound: int) -> list[int | None]:
    """The rates of a request whose prompt is just over ``bound``."""
    rates: list[int | None] = []
    for key in _VENDORED_KEYS:
        price = prices.get(key)
        if isinstance(price, dict):
            reached = [tier for tier in price["tiers"] if tier["above"] <= bound]
            price = max(reached, key=lambda tier: tier["above"])["price"] if reached else price["base"]
        unit = _PICO_A_SEARCH if key == "web_searches_kcount" else _PICO_A_TOKEN
        rates.append(None if price is None else _pico(price, unit))
    return rates


def _matcher(clause: Mapping[str, Any]) -> Callable[[str], bool]:
    """A clause of a row's ``match`` as a test of a lower-case name; texts of the clause are lowered too."""
    ((kind, value),) = clause.items()
    if kind in ("or", "and"):
        parts = [_matcher(part) for part in value]
        many = any if kind == "or" else all
        return lambda name: many(part(name) for part in parts)
    if kind == "regex":
        search = re.compile(value, re.IGNORECASE).search
        return lambda name: search(name) is not None
    text = value.lower()
    tests: dict[str, Callable[[str], bool]] = {
        "equals": lambda name: name == text,
        "starts_with": lambda name: name.startswith(text),
        "ends_with": lambda name: name.endswith(text),
        "contains": lambda name: text in name,
    }
    return tests[kind]
