"""
The configuration: texts in, frozen settings out.

Precedence: flag, environment, ``.env``, file, default. A file adds to what is built in: the modes ``anthropic``,
``minimax``, ``mixed`` and ``interactive`` and the upstreams ``anthropic`` and ``minimax`` exist always; an entry of the
same name changes it (a mode keeps what the entry does not say, an upstream starts from its provider's row of the
catalogue).

Nothing here reads a file or the environment; :func:`load` is given what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import attrs

from . import catalog
from .config_accounts import left_out
from .config_checks import check, warnings
from .config_modes import read_mode, with_timeouts
from .config_places import Lookup, Mistakes, Wrong, nearest, read_values
from .config_render import render
from .config_schema import SECTIONS, TIMEOUTS, Reading, from_catalog
from .config_words import (
    base_url,
    boolean,
    count,
    duration,
    host,
    level,
    money,
    one_of,
    or_left_out,
    plain,
    port_number,
    positive_duration,
    scalar,
    secret,
    share,
    unless_off,
    unversioned,
    webhook,
)
from .errors import ConfigError
from .settings import DemoSettings, ModeSettings, Pins, PortSettings, Settings, UpstreamSettings

__all__ = ["DEFAULT_MODE", "DEFAULT_PORT", "ENVIRONMENT", "default_text", "duration", "load", "render", "warnings"]

ENVIRONMENT = (
    "ANTHROPIC_API_KEY",
    "MINIMAX_API_KEY",
    "ANTHROPIC_API_BASE",
    "MINIMAX_API_BASE",
    "ROUTER_PORT",
    "ROUTER_MODE",
    "ROUTER_TIMEOUT",
    "ROUTER_LOG_LEVEL",
    "COST_CEILING",
    "COST_THRESHOLD",
    "QUALITY_FLOOR",
    "ALERT_WEBHOOK",
    "CEREBRAS_API_KEY",
    "CODEX_HOME",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "KIMI_API_KEY",
    "MOONSHOT_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
)
"""The variables that mean something by themselves, in the environment or in ``.env``."""

DEFAULT_PORT = 8787
DEFAULT_MODE = "mixed"
PRESET = "ai-router-stack.yaml"

_TIMED = ("head", "first_content", "idle", "answer")  # what --timeout sets

_TOP: dict[str, Callable[[Any], Any]] = {
    "host": scalar(host),
    "token": or_left_out(secret),
    "state": scalar(plain),
    "drain": scalar(duration),
}


def load(
    text: str | None,
    name: str,
    environment: Mapping[str, str],
    dotenv: Mapping[str, str],
    flags: Mapping[str, Any],
) -> Settings:
    """
    Settings, validated whole.

    :param text: the configuration file, or ``None`` for the shipped default preset.
    :param name: the file's name, for messages.
    :param environment: the process's environment; :data:`ENVIRONMENT` and what ``${NAME}`` in the file names is read.
    :param dotenv: what a ``.env`` file holds; the environment wins over it.
    :param flags: flags by name (``all_ports``), ``None`` where not given; texts or values.
    :raises ConfigError: with every mistake.
    """
    mistakes = Mistakes()

    def lookup(variable: str) -> tuple[str, str] | None:
        for origin, values in (("environment", environment), (".env", dotenv)):
            if values.get(variable):
                return values[variable], f"{origin} {variable}"
        return None

    built_in = _Draft.built_in()
    draft = built_in.copied(mistakes) if text is None else _Draft.read(text, name, lookup, mistakes, built_in)
    _Overrides(draft, built_in, lookup, flags).apply()
    settings = draft.settings()
    check(settings, draft.ports, draft.reading)
    if mistakes.texts:
        raise ConfigError(mistakes.sorted(name))
    return left_out(settings, () if draft.shipped else draft.reading.given)


@lru_cache(maxsize=1)
def default_text() -> str:
    """The shipped default preset, ``ai-router-stack.yaml``."""
    return resources.files("mportrouter.data").joinpath(PRESET).read_text(encoding="utf-8")


@attrs.define
class _Draft:
    """
    Settings on their way.

    :ivar ports: the ports that the file has.
    :ivar opened: those that will be opened.
    :ivar values: the other settings, by name.
    """

    reading: Reading
    shipped: bool
    ports: dict[int, PortSettings] = attrs.Factory(dict)
    opened: dict[int, PortSettings] = attrs.Factory(dict)
    modes: dict[str, ModeSettings] = attrs.Factory(dict)
    upstreams: dict[str, UpstreamSettings] = attrs.Factory(dict)
    values: dict[str, Any] = attrs.Factory(dict)

    @classmethod
    def built_in(cls) -> _Draft:
        """What the default preset says; variables in it are none yet."""
        mistakes = Mistakes()
        draft = cls.read(default_text(), PRESET, lambda variable: None, mistakes, None)
        if mistakes.texts:
            raise ConfigError(mistakes.texts)
        return draft

    @classmethod
    def read(cls, text: str, name: str, lookup: Lookup, mistakes: Mistakes, built_in: _Draft | None) -> _Draft:
        """
        :param built_in: what exists already, ``None`` for the preset that says so.
        """
        draft = cls(Reading(mistakes, shipped=built_in is None), shipped=built_in is None)
        whole = read_values(text, name, lookup, mistakes)
        if whole is None and mistakes.texts:
            # No YAML at all: what else is missing follows from that.
            raise ConfigError(mistakes.texts)
        reading = draft.reading
        sections = {} if whole is None else reading.children(whole)
        known = {*SECTIONS, *_TOP, "ports", "modes", "upstreams", "timeouts", "prices", "demo"}
        for key, value in sections.items():
            if key not in known:
                reading.unknown(value, key, dict.fromkeys(known))
            elif key in SECTIONS:
                kind, readers = SECTIONS[key]
                draft.values[key] = reading.section(value, kind(), readers)
        draft.values |= reading.keys({key: value for key, value in sections.items() if key in _TOP}, _TOP)
        if "prices" in sections:
            draft.values["prices"] = reading.prices(sections["prices"])
        if "demo" in sections:
            draft.values["demo"] = reading.demo(sections["demo"])
        timeouts: dict[str, Any] = {}
        if "timeouts" in sections:
            timeouts = reading.keys(reading.children(sections["timeouts"]), TIMEOUTS)
        if built_in is not None:
            draft.modes = dict(built_in.modes)
            draft.upstreams = {id: from_catalog(id, up.provider, timeouts) for id, up in built_in.upstreams.items()}
        for key, value in reading.children(sections["ports"]).items() if "ports" in sections else ():
            try:
                number = port_number(key)
            except Wrong as wrong:
                mistakes.add(value.place, f"ports: {wrong}")
                continue
            draft.ports[number] = reading.port(number, value, _port(number, built_in))
        for key, value in reading.children(sections["modes"]).items() if "modes" in sections else ():
            mode = read_mode(reading, key, value, draft.modes.get(key))
            if mode is not None:
                draft.modes[key] = mode
        for key, value in reading.children(sections["upstreams"]).items() if "upstreams" in sections else ():
            upstream = reading.upstream(key, value, timeouts)
            if upstream is not None:
                draft.upstreams[key] = upstream
        return draft

    def copied(self, mistakes: Mistakes) -> _Draft:
        """The same as a draft of its own."""
        return attrs.evolve(self, reading=Reading(mistakes, shipped=True))

    def settings(self) -> Settings:
        return Settings(
            ports=dict(sorted(self.opened.items())),
            modes={name: self._timed(mode) for name, mode in self.modes.items()},
            upstreams=self.upstreams,
            origins=self.reading.origins,
            **self.values,
        )

    def _timed(self, mode: ModeSettings) -> ModeSettings:
        """A mode whose table says its timeouts whole."""
        rows = self.reading.rows.get(f"modes.{mode.name}.table")
        return mode if rows is None else with_timeouts(mode, rows, self.upstreams)

    def value(self, section: str) -> Any:
        """A section as it stands."""
        return self.values.get(section, getattr(Settings(), section))

    def change(self, section: str, key: str, value: Any, origin: str) -> None:
        """Set one key of a plain section."""
        self.values[section] = attrs.evolve(self.value(section), **{key: value})
        self.reading.origins[f"{section}.{key}"] = origin


def _port(number: int, built_in: _Draft | None) -> PortSettings:
    """A port of which nothing is said: as the preset has it, else one that can be switched."""
    if built_in is not None and number in built_in.ports:
        return built_in.ports[number]
    return PortSettings(number, DEFAULT_MODE)


class _Overrides:
    """What flags and variables say, over a draft."""

    def __init__(self, draft: _Draft, built_in: _Draft, lookup: Lookup, flags: Mapping[str, Any]) -> None:
        self._draft = draft
        self._built_in = built_in
        self._lookup = lookup
        self._flags = flags
        self._origins = draft.reading.origins
        self._mistakes = draft.reading.mistakes

    def apply(self) -> None:
        self._choose_ports()
        self._choose_modes()
        for flag, variable, section, key, parse in (
            ("health_check", None, "health", "every", _interval),
            ("failover_threshold", None, "breaker", "degraded_after", count),
            ("circuit_breaker", None, "breaker", "failures", count),
            ("alert_webhook", "ALERT_WEBHOOK", "alerts", "webhook", webhook),
            ("cost_ceiling", "COST_CEILING", "budget", "per_hour", unless_off(money)),
            ("log_level", "ROUTER_LOG_LEVEL", "logs", "level", level),
            ("debug", None, "logs", "level", lambda text: "debug" if boolean(text) else "info"),
        ):
            found = self._pick(flag, variable, parse)
            if found is not None:
                self._draft.change(section, key, *found)
        self._set_host()
        self._set_interactive()
        for id in self._draft.upstreams:
            self._set_upstream(id)
        self._set_timeouts()

    def _pick(
        self, flag: str | None, variable: str | None, parse: Callable[[str], Any]
    ) -> tuple[Any, str] | None:
        """
        What the flag says, else the variable.

        :returns: value and origin, or ``None`` where neither is given, or a mistake was found.
        """
        raw = self._flags.get(flag) if flag else None
        if raw is not None and raw is not False:
            text, origin = str(raw), f"flag --{str(flag).replace('_', '-')}"
        else:
            found = self._lookup(variable) if variable else None
            if found is None:
                return None
            text, origin = found
        try:
            return parse(text), origin
        except Wrong as wrong:
            self._mistakes.add(origin, str(wrong))
            return None

    def _choose_ports(self) -> None:
        draft, built_in = self._draft, self._built_in
        every = bool(self._flags.get("all_ports"))
        one = self._pick("port", None, port_number)
        if one is not None and every:
            self._mistakes.add("flag --port", "--port opens one port and --all-ports five; give one of them")
        if self._flags.get("port") is not None:
            if one is not None:
                self._open_one(*one)
        elif every:
            draft.opened = {**built_in.ports, **draft.ports}
            for number in built_in.ports.keys() - (() if draft.shipped else draft.ports.keys()):
                self._origins[f"ports.{number}"] = "flag --all-ports"
        elif draft.ports and not draft.shipped:
            draft.opened = dict(draft.ports)
        else:
            chosen = self._pick(None, "ROUTER_PORT", port_number)
            if chosen is not None:
                self._open_one(*chosen)
            else:
                draft.opened = {DEFAULT_PORT: built_in.ports[DEFAULT_PORT]}

    def _open_one(self, number: int, origin: str) -> None:
        known = {**self._built_in.ports, **self._draft.ports}
        self._draft.opened = {number: known.get(number) or PortSettings(number, DEFAULT_MODE, dynamic=True)}
        self._origins[f"ports.{number}"] = origin

    def _choose_modes(self) -> None:
        """
        ``--mode`` is for the port that was named, else for the dynamic ones; ``ROUTER_MODE`` never changes a fixed port
        that it was not asked to open.
        """
        found = self._pick("mode", "ROUTER_MODE", plain)
        if found is None:
            return
        mode, origin = found
        if mode not in self._draft.modes:
            if f"modes.{mode}" not in self._draft.reading.given:
                self._mistakes.add(origin, f"there is no mode {mode!r}{nearest(mode, self._draft.modes)}")
            return
        by_flag = origin.startswith("flag")
        changed = False
        for number, port in self._draft.opened.items():
            chosen = self._origins.get(f"ports.{number}", "")
            named = chosen == "flag --port" if by_flag else chosen.endswith("ROUTER_PORT")
            if named or port.dynamic or (by_flag and chosen.endswith("ROUTER_PORT")):
                self._draft.opened[number] = attrs.evolve(port, mode=mode)
                self._origins[f"ports.{number}.mode"] = origin
                changed = True
        if by_flag and self._draft.opened and not changed:
            self._mistakes.add(origin, "which port? Add --port: none of the ports that will be opened is dynamic")

    def _set_host(self) -> None:
        found = self._pick("host", None, host)
        if found is not None:
            self._draft.values["host"], self._origins["host"] = found
        found = self._pick("demo", None, boolean)
        if found is not None and found[0] and self._draft.values.get("demo") is None:
            self._draft.values["demo"], self._origins["demo"] = DemoSettings(), found[1]

    def _set_interactive(self) -> None:
        for flag, variable, key, parse in (
            ("prefer_minimax", None, "prefer_minimax", share),
            (None, "COST_THRESHOLD", "cost_threshold", unless_off(money)),
            (None, "QUALITY_FLOOR", "quality_floor", one_of("low", "medium", "high")),
        ):
            found = self._pick(flag, variable, parse)
            if found is None:
                continue
            for name, mode in self._draft.modes.items():
                if mode.strategy == "interactive":
                    changed = attrs.evolve(mode.interactive, **{key: found[0]})
                    self._draft.modes[name] = attrs.evolve(mode, interactive=changed)
                    self._origins[f"modes.{name}.{key}"] = found[1]

    def _set_upstream(self, id: str) -> None:
        """Key and base URL from the provider's variables; pins only where they belong to the host."""
        upstream = self._draft.upstreams[id]
        row = catalog.provider(upstream.provider)
        path = f"upstreams.{id}"
        given = self._draft.reading.given
        # A variable named in the file is nearer to the upstream than the provider's own.
        told = self._origins.get(f"{path}.api_key", "").startswith(("environment ", ".env "))
        if upstream.auth == "key" and not told and (id == row.name or f"{path}.api_key" not in given):
            found = self._pick(None, row.key_variable, secret)
            if found is not None:
                upstream = attrs.evolve(upstream, api_key=found[0])
                self._origins[f"{path}.api_key"] = found[1]
            elif row.key_variable and self._lookup(row.key_variable):
                given[f"{path}.api_key"] = ""  # it is there, and refused
        if id == row.name or f"{path}.base_url" not in given:
            found = self._pick(None, row.base_variable, base_url)
            if found is not None:
                base, self._origins[f"{path}.base_url"] = found
                upstream = attrs.evolve(upstream, base_url=self._based(base, upstream.dialect, row))
        if upstream.auth == "codex" and f"{path}.auth_file" not in given:
            home = self._lookup("CODEX_HOME")
            if home is not None:
                upstream = attrs.evolve(upstream, auth_file=f"{home[0].rstrip('/')}/auth.json")
                self._origins[f"{path}.auth_file"] = home[1]
        shipped = row.base_urls.get(upstream.dialect, "")
        if f"{path}.pins.sha256" not in given and urlsplit(upstream.base_url).netloc != urlsplit(shipped).netloc:
            asked = upstream.pins.mode if f"{path}.pins.mode" in given else "off"
            upstream = attrs.evolve(upstream, pins=Pins(mode=asked))
        self._draft.upstreams[id] = upstream

    @staticmethod
    def _based(base: str, dialect: str, row: catalog.Provider) -> str:
        """A base URL from a variable: with the dialect's own path where it has none, or another dialect's."""
        if dialect != "gemini":
            base = unversioned(base)
        others = {urlsplit(url).path for url in row.base_urls.values()} - {""}
        parts = urlsplit(base)
        if parts.path in others or not parts.path:
            base = base.removesuffix(parts.path) + urlsplit(row.base_urls[dialect]).path
        return base

    def _set_timeouts(self) -> None:
        found = self._pick("timeout", "ROUTER_TIMEOUT", positive_duration)
        if found is None:
            return
        for id, upstream in self._draft.upstreams.items():
            paths = {key: f"upstreams.{id}.timeouts.{key}" for key in _TIMED}
            free = {key: path for key, path in paths.items() if path not in self._draft.reading.given}
            changed = attrs.evolve(upstream.timeouts, **dict.fromkeys(free, found[0]))
            self._draft.upstreams[id] = attrs.evolve(upstream, timeouts=changed)
            self._origins.update(dict.fromkeys(free.values(), found[1]))


def _interval(text: str) -> float:
    """A duration, where ``off`` is 0."""
    seconds: float | Decimal | None = unless_off(duration)(text)
    return float(seconds or 0.0)
