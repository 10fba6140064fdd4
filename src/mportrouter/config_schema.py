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
from .config_places import Value, Wrong, nearest
from .config_reading import Sections
from .config_words import (
    Reader,
    base_url,
    boolean,
    client_limit,
    count,
    duration,
    entries,
    header_or,
    host,
    level,
    list_of,
    money,
    named,
    one_of,
    or_left_out,
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
    LogSettings,
    PortSettings,
    Timeouts,
    UpstreamSettings,
)

_seconds = scalar(positive_duration)
_seconds_or_off = or_off(positive_duration)
_count = scalar(count)

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
            "usage": or_off(plain),
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

_LIMITS: dict[str, Reader] = {
    "requests": or_off(rate),
    "tokens": or_off(rate),
    "concurrency": or_off(count),
    "wait": scalar(duration),
}

_PINS: dict[str, Reader] = {"mode": scalar(one_of("enforce", "report-only", "off")), "sha256": list_of(pin)}

_TLS: dict[str, Reader] = {"minimum": scalar(one_of("1.2", "1.3")), "ca_file": or_off(plain)}

_PORT: dict[str, Reader] = {
    "mode": scalar(plain),
    "dynamic": scalar(boolean),
    "commit": scalar(one_of("first-content", "complete")),
    "locked": scalar(boolean),
    # A token that is meant but not there must not leave the port open: an unset variable is a mistake here.
    "token": or_left_out(secret),
    "client_limit": or_off(client_limit),
    "body_limit": or_off(size),
}


@attrs.frozen
class _Offers:
    """A list of models in place of patterns."""

    models: tuple[str, ...]


def _models(value: Value) -> tuple[tuple[str, str], ...] | _Offers:
    """Patterns to models, or the list of those that an account offers."""
    if not isinstance(value.content, list):
        pairs: tuple[tuple[str, str], ...] = pairs_of(plain)(value)
        return pairs
    names: tuple[str, ...] = list_of(plain)(value)
    if not names:
        raise Wrong("expected the models that it has, or leave it out: then it is asked for any")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Wrong(f"{name!r} is named twice", value.content[index])
        if "*" in name:
            words = "a list names models themselves; patterns are a mapping, {pattern: model}"
            raise Wrong(words, value.content[index])
    return _Offers(names)


_UPSTREAM: dict[str, Reader] = {
    "provider": scalar(plain),
    "dialect": scalar(named(catalog.DIALECTS, "dialect")),
    "base_url": scalar(base_url),
    "api_key": or_unset(secret),
    "auth": scalar(one_of("key", "client", "codex")),
    "auth_style": scalar(header_or(*catalog.AUTH_STYLES)),
    "auth_file": or_off(plain),
    "token_url": or_off(base_url),
    "models": _models,
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


class Reading(Sections):
    """Reads the big sections too."""

    # ------------------------------------------------------------------------------------- the big sections

    def port(self, number: int, value: Value, base: PortSettings) -> PortSettings:
        """``8771: anthropic`` or a mapping."""
        if isinstance(value.content, str):
            named = attrs.evolve(value, path=f"{value.path}.mode")
            return attrs.evolve(base, mode=self.one(named, _PORT["mode"], base.mode))
        got = self.keys(self.children(value), _PORT)
        if "body_limit" in got:
            got["body_bytes"] = got.pop("body_limit")
        if "client_limit" in got:
            got["client_limit"] = got["client_limit"] or 0
        port = attrs.evolve(base, **got)
        if port.locked and port.dynamic:
            self.mistakes.add(value.place, f"{value.path}: locked and dynamic exclude each other")
        return port

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
        if isinstance(got.get("models"), _Offers):
            # What is offered is asked for by its name, whatever the catalogue's patterns make of others.
            got |= {"models": (), "offers": got["models"].models}
        elif "models" in got:
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
