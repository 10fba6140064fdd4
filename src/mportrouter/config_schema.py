"""
The sections of the configuration file: which keys each has, and what they take.

A reader turns a section into the frozen value of :mod:`mportrouter.settings`, starting from a base value; every mistake
goes to the same list, and what could be read is kept, so that one run shows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from . import catalog
from .config_columns import COLUMNS, MODELS, by_model, path
from .config_places import Mistakes, Value, Wrong, nearest
from .config_words import (
    Reader,
    base_url,
    boolean,
    count,
    duration,
    entries,
    host,
    level,
    list_of,
    money,
    one_of,
    or_null,
    or_off,
    or_unset,
    pairs_of,
    pin,
    plain,
    port_number,
    positive_duration,
    rate,
    scalar,
    secret,
    share,
    size,
    text_of,
    unversioned,
    webhook,
    whole,
)
from .demo_faults import parse_fault
from .demo_paces import PACES
from .pricing import OVERRIDE_KEYS
from .settings import (
    AdminSettings,
    AlertSettings,
    BreakerSettings,
    BudgetSettings,
    DemoSettings,
    FrontSettings,
    HealthSettings,
    Interactive,
    LogSettings,
    ModeSettings,
    PortSettings,
    Timeouts,
    UpstreamSettings,
)

STRATEGIES = ("only", "fallback", "interactive")
_LATER_STRATEGIES = ("exhaust", "round-robin", "table")
_LATER_KEYS = frozenset({"client_limit", "retry_after", "table", "tags"})

_seconds = scalar(positive_duration)
_seconds_or_off = or_off(positive_duration)
_count = scalar(count)

def _later(known: tuple[str, ...], later: tuple[str, ...], what: str) -> Reader:
    """One of the known words; one of the later ones is named as such."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word in later:
            raise Wrong(f"the {what} {word!r} is not served yet by this version; served: {', '.join(known)}")
        if word not in known:
            raise Wrong(f"there is no {what} {text!r}{nearest(word, known)}")
        return word

    return scalar(parse)


SECTIONS: dict[str, tuple[type[attrs.AttrsInstance], dict[str, Reader]]] = {
    "breaker": (
        BreakerSettings,
        {
            "failures": _count,
            "open_for": _seconds,
            "open_at_most": _seconds,
            "degraded_after": _count,
            "down_after_timeouts": _count,
            "rate_limited_after": _count,
            "rate_limit_rest": _seconds,
            "account_rest": _seconds,
        },
    ),
    "health": (HealthSettings, {"every": lambda value: or_off(duration)(value) or 0.0, "timeout": _seconds}),
    "budget": (BudgetSettings, {"per_hour": or_off(money)}),
    "alerts": (
        AlertSettings,
        {
            "webhook": or_unset(webhook),
            "timeout": _seconds,
            "tries": _count,
            "quiet": scalar(duration),
        },
    ),
    "logs": (
        LogSettings,
        {
            "file": scalar(plain),
            "level": scalar(level),
            "format": scalar(one_of("text", "json")),
            "rotate_bytes": scalar(size),
            "keep": scalar(whole),
        },
    ),
    "front": (
        FrontSettings,
        {
            "header_bytes": scalar(size),
            "body_bytes": scalar(size),
            "exchanges": _count,
            "header_seconds": _seconds,
            "body_seconds": _seconds,
            "keepalive_seconds": _seconds,
            "ping_after": _seconds,
            "hosts": list_of(host),
            "origins": list_of(plain),
        },
    ),
    "admin": (
        AdminSettings,
        {"tcp_port": or_off(port_number), "username": scalar(plain), "password": or_null(secret)},
    ),
}
"""Plain sections: the value's class and a reader a key."""

TIMEOUTS: dict[str, Reader] = {
    field.name: _seconds if field.name in ("connect", "tls") else _seconds_or_off for field in attrs.fields(Timeouts)
}

_LIMITS: dict[str, Reader] = {"requests": or_off(rate), "tokens": or_off(rate), "concurrency": or_off(count)}

_PINS: dict[str, Reader] = {"mode": scalar(one_of("enforce", "report-only", "off")), "sha256": list_of(pin)}

_TLS: dict[str, Reader] = {"minimum": scalar(one_of("1.2", "1.3")), "ca_file": or_off(plain)}

_PORT: dict[str, Reader] = {
    "mode": scalar(plain),
    "dynamic": scalar(boolean),
    "commit": scalar(one_of("first-content", "complete")),
    "locked": scalar(boolean),
    # A token that is meant but not there must not leave the port open: an unset variable is a mistake here.
    "token": or_null(secret),
}

_MODE: dict[str, Reader] = {
    "strategy": _later(STRATEGIES, _LATER_STRATEGIES, "strategy"),
    "upstreams": list_of(plain),
    "retries": scalar(whole),
    "retry_timeouts": scalar(boolean),
    "retry_delay": scalar(duration),
}

_INTERACTIVE: dict[str, Reader] = {
    "prefer_minimax": scalar(share),
    "cost_threshold": or_off(money),
    "quality_floor": scalar(one_of("low", "medium", "high")),
    "analyzer": scalar(one_of("local", "claude")),
    "analyzer_upstream": scalar(plain),
    "analyzer_model": scalar(plain),
    "analyzer_deadline": _seconds,
}

_UPSTREAM: dict[str, Reader] = {
    "provider": scalar(plain),
    "dialect": _later(catalog.DIALECTS, (), "dialect"),
    "base_url": scalar(base_url),
    "api_key": or_unset(secret),
    "auth": scalar(one_of("key", "client", "codex")),
    "auth_style": scalar(one_of(*catalog.AUTH_STYLES)),
    "auth_file": or_off(plain),
    "token_url": or_off(base_url),
    "models": pairs_of(plain),
    "probe": or_off(path),
    "key_variable": or_off(plain),
    "enabled": scalar(boolean),
}
_UPSTREAM_SECTIONS = {
    "capabilities": COLUMNS,
    "timeouts": TIMEOUTS,
    "limits": _LIMITS,
    "pins": _PINS,
    "tls": _TLS,
}

_PRICES: dict[str, Reader] = {key: scalar(money) for key in OVERRIDE_KEYS}


class Reading:
    """
    Reads sections, remembering what was given and where.

    :param mistakes: where they go.
    :param shipped: the text is the router's own preset: what it says is a default, not somebody's setting.
    :ivar origins: dotted path to origin, of what is not a default.
    :ivar given: dotted path to place, of everything the text sets.
    """

    def __init__(self, mistakes: Mistakes, shipped: bool) -> None:
        self.mistakes = mistakes
        self.shipped = shipped
        self.origins: dict[str, str] = {}
        self.given: dict[str, str] = {}

    def place(self, path: str) -> str:
        """Where a setting, or the nearest thing around it, was given; ``""``: nowhere."""
        while path:
            if path in self.given:
                return self.given[path]
            path = path.rpartition(".")[0]
        return ""

    def remember(self, value: Value) -> None:
        """A setting was read."""
        self.given[value.path] = value.place
        if not self.shipped or value.origin != value.place:
            self.origins[value.path] = value.origin

    def wrong(self, value: Value, wrong: Wrong) -> None:
        """A setting was refused."""
        culprit = wrong.value or value
        self.given[value.path] = value.place
        self.mistakes.add(culprit.place, f"{culprit.path}: {wrong}")

    def unknown(self, value: Value, name: str, valid: Mapping[str, Any]) -> None:
        """A key that is not there."""
        if name in _LATER_KEYS:
            self.mistakes.add(value.place, f"{value.path}: not served yet by this version")
        else:
            self.mistakes.add(value.place, f"{value.path}: unknown key{nearest(name, valid)}")

    def one(self, value: Value, reader: Reader, default: Any) -> Any:
        """One setting, or the default where it is wrong."""
        try:
            result = reader(value)
        except Wrong as wrong:
            self.wrong(value, wrong)
            return default
        self.remember(value)
        return result

    def children(self, value: Value) -> dict[str, Value]:
        """A mapping's values; a mistake and nothing where it is none."""
        self.given[value.path] = value.place
        try:
            return entries(value)
        except Wrong as wrong:
            self.wrong(value, wrong)
            return {}

    def section(self, value: Value, base: Any, readers: Mapping[str, Reader]) -> Any:
        """A whole section on top of a base."""
        return attrs.evolve(base, **self.keys(self.children(value), readers))

    def keys(self, children: Mapping[str, Value], readers: Mapping[str, Reader]) -> dict[str, Any]:
        """The settings that are right, by name."""
        got: dict[str, Any] = {}
        missing = object()
        for name, child in children.items():
            if name not in readers:
                self.unknown(child, name, readers)
                continue
            result = self.one(child, readers[name], missing)
            if result is not missing:
                got[name] = result
        return got

    # ------------------------------------------------------------------------------------- the big sections

    def port(self, number: int, value: Value, base: PortSettings) -> PortSettings:
        """``8771: anthropic`` or a mapping."""
        if isinstance(value.content, str):
            named = attrs.evolve(value, path=f"{value.path}.mode")
            return attrs.evolve(base, mode=self.one(named, _PORT["mode"], base.mode))
        port: PortSettings = self.section(value, base, _PORT)
        if port.locked and port.dynamic:
            self.mistakes.add(value.place, f"{value.path}: locked and dynamic exclude each other")
        return port

    def mode(self, name: str, value: Value, base: ModeSettings | None) -> ModeSettings | None:
        """
        A mode; a strategy's bare name is enough for a built-in one.

        :param base: the built-in mode of that name, or ``None``.
        """
        if isinstance(value.content, str) and base is not None:
            value = attrs.evolve(value, content={"strategy": attrs.evolve(value, path=f"{value.path}.strategy")})
        known = {**_MODE, **_INTERACTIVE}
        children = self.children(value)
        for key, child in children.items():
            if key not in known:
                self.unknown(child, key, known)
        own = self.keys({key: child for key, child in children.items() if key in _MODE}, _MODE)
        special = {key: child for key, child in children.items() if key in _INTERACTIVE}
        strategy = own.get("strategy", base.strategy if base else None)
        if strategy is None:
            if "strategy" not in children:
                self.mistakes.add(value.place, f"{value.path}: a strategy is needed: {', '.join(STRATEGIES)}")
            return None
        if "upstreams" not in own and base is None:
            if "upstreams" not in children:
                self.mistakes.add(value.place, f"{value.path}: upstreams are needed, such as [minimax, anthropic]")
            return None
        if special and strategy != "interactive":
            first = next(iter(special.values()))
            self.mistakes.add(first.place, f"{first.path}: only modes of the strategy 'interactive' have it")
        if base is None or base.strategy != strategy:
            base = ModeSettings(name, strategy, base.upstreams if base else ())
        interactive: Interactive = attrs.evolve(base.interactive, **self.keys(special, _INTERACTIVE))
        return attrs.evolve(base, interactive=interactive, **own)

    def upstream(self, id: str, value: Value, timeouts: Mapping[str, Any]) -> UpstreamSettings | None:
        """
        An upstream on top of its row of the catalogue.

        :param timeouts: what the section ``timeouts`` sets for all.
        """
        children = self.children(value)
        rows = catalog.load()
        provider: str | None = id if id in rows else None
        if "provider" in children:
            provider = self.one(children["provider"], _UPSTREAM["provider"], None)
        if provider is None:
            if "provider" not in children:
                self.mistakes.add(value.place, f"{value.path}: a provider is needed: {', '.join(sorted(rows))}")
            return None
        if provider not in rows:
            words = f"{value.path}.provider: there is no provider {provider!r}{nearest(provider, rows)}"
            self.mistakes.add(children["provider"].place, words)
            return None
        base = from_catalog(id, provider, timeouts, self._dialect(value, children, rows[provider]))
        known = {**_UPSTREAM, **_UPSTREAM_SECTIONS}
        got: dict[str, Any] = {}
        for key, child in children.items():
            if key not in known:
                self.unknown(child, key, known)
            elif key == "pins" and isinstance(child.content, str):
                mode = attrs.evolve(child, path=f"{child.path}.mode")
                got["pins"] = attrs.evolve(base.pins, mode=self.one(mode, _PINS["mode"], "off"))
            elif key == "capabilities":
                got |= self._capabilities(child, base, rows[provider])
            elif key in _UPSTREAM_SECTIONS:
                got[key] = self.section(child, getattr(base, key), _UPSTREAM_SECTIONS[key])
        plain_ones = {key: child for key, child in children.items() if key in _UPSTREAM and key != "dialect"}
        got |= self.keys(plain_ones, _UPSTREAM)
        if "base_url" in got and base.dialect != "gemini":
            got["base_url"] = unversioned(got["base_url"])
        if "models" in got:
            own = {pattern for pattern, _ in got["models"]}
            got["models"] += tuple(pair for pair in base.models if pair[0] not in own)
        if "api_key" in children and children["api_key"].variable and "key_variable" not in got:
            got["key_variable"] = children["api_key"].variable
        if got.get("api_key") is not None and base.auth_style == "none":
            # A server that asks for no key by default was told to.
            got.setdefault("auth_style", "bearer")
        return self._pinned(attrs.evolve(base, **got), children)

    def _dialect(self, value: Value, children: Mapping[str, Value], row: catalog.Provider) -> str:
        """What an upstream is spoken to in."""
        child = children.get("dialect")
        dialect: str = row.dialect if child is None else self.one(child, _UPSTREAM["dialect"], row.dialect)
        if child is not None and dialect not in row.dialects:
            spoken = ", ".join(row.dialects)
            words = f"{child.path}: {row.name} does not speak {dialect!r}; it speaks {spoken}"
            self.mistakes.add(child.place, f"{words} (the provider 'custom' takes any)")
            return row.dialect
        return dialect

    def _capabilities(self, value: Value, base: UpstreamSettings, row: catalog.Provider) -> dict[str, Any]:
        """The columns for all models of an upstream, and under ``models`` those for some."""
        children = dict(self.children(value))
        special = children.pop(MODELS, None)
        said = self.keys(children, COLUMNS)
        patterns = {} if special is None else self.children(special)
        own = [(pattern, self.keys(self.children(child), COLUMNS)) for pattern, child in patterns.items()]
        together = attrs.evolve(base.capabilities, **said)
        shipped = row.dialects[base.dialect].model_capabilities
        return {"capabilities": together, "model_capabilities": by_model(together, said, own, shipped)}

    def _pinned(self, upstream: UpstreamSettings, children: Mapping[str, Value]) -> UpstreamSettings:
        """Own pins without a mode are reported only, as the shipped ones are."""
        own = f"upstreams.{upstream.id}.pins"
        if f"{own}.sha256" in self.given and f"{own}.mode" not in self.given:
            upstream = attrs.evolve(upstream, pins=attrs.evolve(upstream.pins, mode="report-only"))
        return upstream

    def prices(self, value: Value) -> dict[str, dict[str, Decimal]]:
        """Price rows, in US dollars a million tokens."""
        return {
            pattern: self.keys(self.children(child), _PRICES) for pattern, child in self.children(value).items()
        }

    def demo(self, value: Value) -> DemoSettings | None:
        """``true``, ``false`` or a mapping."""
        if value.content is None:
            return None
        if isinstance(value.content, str):
            return DemoSettings() if self.one(value, scalar(boolean), False) else None
        read: DemoSettings = self.section(value, DemoSettings(), {"pace": scalar(duration), "faults": _faults})
        return read


def _faults(value: Value) -> tuple[tuple[str, str], ...]:
    """Per provider what its stand-in does wrong."""
    for name, child in entries(value).items():
        if name not in PACES:
            raise Wrong(f"there is no stand-in {name!r}{nearest(name, PACES)}", child)
        try:
            parse_fault(text_of(child))
        except ValueError as error:
            raise Wrong(str(error), child)
    return tuple((name, text_of(child)) for name, child in entries(value).items())


def from_catalog(
    id: str, provider: str, timeouts: Mapping[str, Any], dialect: str | None = None
) -> UpstreamSettings:
    """
    An upstream of which nothing but its provider is said.

    :param dialect: ``None``: the provider's first.
    """
    row = catalog.provider(provider)
    dialect = dialect or row.dialect
    spoken = row.dialects[dialect]
    capabilities = spoken.capabilities
    if provider == catalog.CUSTOM:
        # Nobody else signs its thinking: two custom upstreams do not share signatures either.
        capabilities = attrs.evolve(capabilities, thinking_signature=id)
    return UpstreamSettings(
        id=id,
        provider=provider,
        dialect=dialect,
        base_url=spoken.base_url,
        auth=row.auth,
        auth_style=spoken.auth_style,
        auth_file=row.auth_file,
        token_url=row.token_url,
        models=spoken.models,
        capabilities=capabilities,
        model_capabilities=by_model(capabilities, {}, (), spoken.model_capabilities),
        timeouts=attrs.evolve(row.timeouts, **timeouts),
        limits=row.limits,
        pins=row.pins,
        probe=spoken.probe,
        key_variable=row.key_variable,
    )
