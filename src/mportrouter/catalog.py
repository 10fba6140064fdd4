"""
The catalogue: what is known about each provider before anything is configured.

The rows are in ``data/catalog.yaml``, each with where its facts come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import attrs
import yaml

from .errors import Kind
from .settings import Capabilities, Limits, Pins, Timeouts

CUSTOM = "custom"
"""The row that takes everything from the configuration."""


@attrs.frozen
class Provider:
    """
    A vendor.

    :param base_urls: dialect to base URL, without a trailing slash and without ``/v1``.
    :param probe: path of the free probe at the host of the base URL, or ``None``.
    :param auth_style: ``x-api-key`` or ``bearer``.
    :param key_variable: environment variable that holds a key of it, or ``None``.
    :param base_variable: environment variable that replaces its base URL, or ``None``.
    :param models: patterns (``*`` and ``?``; first match wins) to a model that exists there, as
        :class:`mportrouter.routing.table.ModelMap` reads them.
    :param error_codes: its own numbers for failures to values of :class:`mportrouter.errors.Kind`.
    """

    name: str
    base_urls: Mapping[str, str] = attrs.field(factory=dict)
    probe: str | None = "/v1/models"
    auth_style: str = "x-api-key"
    key_variable: str | None = None
    base_variable: str | None = None
    models: tuple[tuple[str, str], ...] = ()
    capabilities: Capabilities = attrs.field(factory=Capabilities)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    limits: Limits = attrs.field(factory=Limits)
    pins: Pins = attrs.field(factory=Pins)
    error_codes: Mapping[int, str] = attrs.field(factory=dict)


@lru_cache(maxsize=1)
def load() -> Mapping[str, Provider]:
    """
    Every row of the shipped catalogue, by name.

    :raises ValueError: a row names a column or a failure that does not exist.
    """
    text = resources.files("mportrouter.data").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return read(text)


def read(text: str) -> Mapping[str, Provider]:
    """The rows of a catalogue's text."""
    return MappingProxyType({name: _provider(name, row) for name, row in yaml.safe_load(text).items()})


def provider(name: str) -> Provider:
    """
    One row.

    :raises KeyError: there is none of that name.
    """
    return load()[name]


def _provider(name: str, row: Mapping[str, Any]) -> Provider:
    unknown = set(row) - {field.name for field in attrs.fields(Provider)}
    if unknown:
        raise ValueError(f"catalogue row {name!r} has unknown columns: {', '.join(sorted(unknown))}")
    codes = {int(code): Kind(kind).value for code, kind in row.get("error_codes", {}).items()}
    pins = row.get("pins", {})
    capabilities: dict[str, Any] = {
        column: tuple(value) if isinstance(value, list) else value
        for column, value in row.get("capabilities", {}).items()
    }
    plain = {key: row[key] for key in ("probe", "auth_style", "key_variable", "base_variable") if key in row}
    try:
        return Provider(
            name=name,
            base_urls=MappingProxyType(dict(row.get("base_urls", {}))),
            models=tuple(row.get("models", {}).items()),
            capabilities=Capabilities(**capabilities),
            timeouts=Timeouts(**row.get("timeouts", {})),
            limits=Limits(**row.get("limits", {})),
            pins=Pins(mode=pins.get("mode", "off"), sha256=tuple(pins.get("sha256", ()))),
            error_codes=MappingProxyType(codes),
            **plain,
        )
    except TypeError as error:
        raise ValueError(f"catalogue row {name!r}: {error}") from error
