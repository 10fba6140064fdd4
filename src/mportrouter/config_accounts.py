"""Accounts without a key: which a configuration can do without, and what is said of them."""

from __future__ import annotations

from collections.abc import Container

import attrs

from .config_modes import ACCOUNTS
from .settings import ModeSettings, Settings, UpstreamSettings


def keyless(upstream: UpstreamSettings) -> bool:
    """Whether an upstream needs a key and has none."""
    takes_one = upstream.auth == "key" and upstream.auth_style != "none"
    return upstream.enabled and takes_one and upstream.api_key is None


def needed(mode: ModeSettings, settings: Settings) -> list[str]:
    """
    The upstreams without a key that a mode cannot do without: all of them in most strategies; where accounts stand for
    each other, and in a table, only where none has one.
    """
    known = [settings.upstreams[id] for id in mode.upstreams if id in settings.upstreams]
    without = [upstream.id for upstream in known if keyless(upstream)]
    lenient = mode.strategy in ACCOUNTS or mode.strategy == "table"
    if lenient and any(upstream.enabled and not keyless(upstream) for upstream in known):
        return []
    return without


def left_out(settings: Settings, said: Container[str]) -> Settings:
    """
    Settings whose stacked accounts all have a key; :attr:`~mportrouter.settings.Settings.notices` says which had none.

    In the demo every account has one.

    :param said: dotted paths of what a person's file sets.
    """
    if settings.demo is not None:
        return settings
    modes = dict(settings.modes)
    used = {port.mode for port in settings.ports.values()}
    switched = any(port.dynamic for port in settings.ports.values())
    notices: list[str] = []
    for name, mode in settings.modes.items():
        without = [id for id in mode.upstreams if keyless(settings.upstreams[id])]
        if not without or needed(mode, settings):
            continue
        told = [f"{id} ({_how(settings.upstreams[id])})" for id in without]
        if mode.strategy in ACCOUNTS:
            modes[name] = attrs.evolve(mode, upstreams=tuple(id for id in mode.upstreams if id not in without))
            words = "skipped, for want of a key"
        else:
            words = "its rows cannot be served, for want of a key"
        if name in used or switched:
            notices += [f"modes.{name}: {words}: {one}" for one in told]
    for name in sorted(used):
        if modes[name].tags:
            others = [id for id in settings.upstreams if id not in modes[name].upstreams]
            named = [id for id in others if keyless(settings.upstreams[id]) and f"upstreams.{id}" in said]
            notices += [
                f"modes.{name}: tags cannot name it, for want of a key: {id} ({_how(settings.upstreams[id])})"
                for id in named
            ]
    return attrs.evolve(settings, modes=modes, notices=tuple(notices))


def _how(upstream: UpstreamSettings) -> str:
    return upstream.key_variable or f"upstreams.{upstream.id}.api_key"
