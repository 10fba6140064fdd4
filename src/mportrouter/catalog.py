"""
The catalogue: what is known about each provider before anything is configured.

The rows are in ``data/catalog.yaml``, each with where its facts come from.
"""

from __future__ import annotations

import re
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

DIALECTS = ("anthropic", "openai-chat", "openai-responses", "gemini")
"""What an upstream may speak."""

AUTH_STYLES = ("x-api-key", "bearer", "x-goog-api-key", "none")
"""How a key is sent."""

WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "stop_sequences",
                "tool_choice_force",
                "parallel_off",
                "images",
                "documents",
                "search_results",
                "server_tools",
                "structured_output",
            ),
            ("honoured", "ignored", "refused"),
        ),
        "max_tokens_field": ("max_tokens", "max_completion_tokens"),
        "system_role": ("system", "developer"),
        "tool_images": ("user_message", "in_tool", "none"),
        "sampling_refused": (
            "temperature",
            "top_p",
            "top_k",
            "penalties",
            "seed",
            "logprobs",
            "logit_bias",
            "choices",
        ),
        "reasoning_kind": ("none", "effort", "budget", "level", "adaptive"),
        "reasoning_echo": ("none", "allowed", "required", "forbidden"),
        "reasoning_member": ("reasoning_effort", "reasoning", "thinking", "enable_thinking"),
        "thought_signature": ("none", "optional", "required"),
        "schema_profile": ("", "openai", "anthropic", "gemini_schema", "gemini_json_schema"),
        "output_format": ("json_schema", "json", "none"),
        "server_tool_kinds": ("web_search", "web_fetch", "code_execution"),
        "thinking_blocks": ("preserve", "sanitise", "strip"),
        "cache_marks": ("none", "cache_control", "prompt_cache_breakpoint"),
        "identity_fields": ("user", "safety_identifier", "metadata", "service_tier"),
    }
)
"""Columns of :class:`~mportrouter.settings.Capabilities` that take only these words (a list takes any of them)."""

NEEDED = frozenset(
    [
        "content_block_delta",
        "content_block_start",
        "content_block_stop",
        "error",
        "message_delta",
        "message_start",
        "message_stop",
        "text",
        "tool_use",
    ]
)
"""What ``strip_events`` does not take: events and blocks that an answer of Anthropic's dialect is made of."""

Differences = Mapping[str, Any]
"""Columns of :class:`~mportrouter.settings.Capabilities` by name, those that differ."""

_KINDS = {field.name: type(field.default) for field in attrs.fields(Capabilities)}
#: Columns that may be unknown, and what they are where they are known.
_OR_NONE = {"context": int, "max_output": int, "stop_max": int, "generate_path": str}


@attrs.frozen
class Spoken:
    """
    A provider in one of its dialects.

    :param base_url: without a trailing slash and without ``/v1``; ``""`` where the configuration says it.
    :param probe: path of the free probe at the host of the base URL, or ``None``.
    :param auth_style: of :data:`AUTH_STYLES`.
    :param models: patterns (``*`` and ``?``; first match wins) to a model that exists there, as
        :class:`mportrouter.routing.table.ModelMap` reads them.
    :param model_capabilities: patterns of models there to what differs from ``capabilities``; first match wins.
    """

    base_url: str = ""
    probe: str | None = "/v1/models"
    auth_style: str = "x-api-key"
    models: tuple[tuple[str, str], ...] = ()
    capabilities: Capabilities = attrs.field(factory=Capabilities)
    model_capabilities: tuple[tuple[str, Differences], ...] = ()


@attrs.frozen
class Provider:
    """
    A vendor.

    :param dialects: what it speaks; the first is meant where the configuration names none.
    :param auth: where its credential comes from, as :attr:`mportrouter.settings.UpstreamSettings.auth`.
    :param auth_file: ``auth: codex``: the file with the login; ``token_url``: where it is refreshed.
    :param key_variable: environment variable that holds a key of it, or ``None``.
    :param base_variable: environment variable that replaces its base URL, or ``None``.
    :param key_prefixes: what its keys, and nobody else's, begin with.
    :param key_issuer: the ``iss`` of its tokens where they are JSON Web Tokens, ``""`` elsewhere.
    :param error_codes: its own numbers for failures to values of :class:`mportrouter.errors.Kind`.
    """

    name: str
    dialects: Mapping[str, Spoken] = attrs.field(factory=dict)
    auth: str = "key"
    auth_file: str | None = None
    token_url: str | None = None
    key_variable: str | None = None
    base_variable: str | None = None
    key_prefixes: tuple[str, ...] = ()
    key_issuer: str = ""
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    limits: Limits = attrs.field(factory=Limits)
    pins: Pins = attrs.field(factory=Pins)
    error_codes: Mapping[int, str] = attrs.field(factory=dict)

    @property
    def dialect(self) -> str:
        """The dialect that is meant where none is named."""
        return next(iter(self.dialects))

    @property
    def base_urls(self) -> Mapping[str, str]:
        """Dialect to base URL."""
        return {name: spoken.base_url for name, spoken in self.dialects.items() if spoken.base_url}

    @property
    def capabilities(self) -> Capabilities:
        """What it does in the dialect that is meant where none is named."""
        return self.dialects[self.dialect].capabilities


@lru_cache(maxsize=1)
def load() -> Mapping[str, Provider]:
    """
    Every row of the shipped catalogue, by name.

    :raises ValueError: a row names a column or a failure that does not exist, or a value that its column does not take.
    """
    text = resources.files("mportrouter.data").joinpath("catalog.yaml").read_text(encoding="utf-8")
    return read(text)


def read(text: str) -> Mapping[str, Provider]:
    """The rows of a catalogue's text."""
    return MappingProxyType({name: _provider(name, row or {}) for name, row in yaml.safe_load(text).items()})


def provider(name: str) -> Provider:
    """
    One row.

    :raises KeyError: there is none of that name.
    """
    return load()[name]


# What a row says for all of its dialects, and each dialect may say otherwise.
_SPOKEN = ("probe", "auth_style", "models", "capabilities", "model_capabilities")
_PLAIN = ("auth", "auth_file", "token_url", "key_variable", "base_variable", "key_issuer")
_COLUMNS = {*_SPOKEN, *_PLAIN, "base_urls", "dialects", "key_prefixes", "timeouts", "limits", "pins", "error_codes"}


def _provider(name: str, row: Mapping[str, Any]) -> Provider:
    unknown = set(row) - _COLUMNS
    if unknown:
        raise ValueError(f"catalogue row {name!r} has unknown columns: {', '.join(sorted(unknown))}")
    codes = {int(code): Kind(kind).value for code, kind in row.get("error_codes", {}).items()}
    pins = row.get("pins", {})
    bases: Mapping[str, str] = row.get("base_urls", {})
    own: Mapping[str, Any] = row.get("dialects", {})
    strange = {*bases, *own} - set(DIALECTS)
    if strange or not {*own} <= {*(bases or DIALECTS)}:
        raise ValueError(f"catalogue row {name!r} has dialects that do not exist, or without a base URL")
    try:
        return Provider(
            name=name,
            # A row without a base URL can be anything.
            dialects=MappingProxyType(
                {dialect: _spoken(row, own.get(dialect, {}), bases.get(dialect, "")) for dialect in bases or DIALECTS}
            ),
            key_prefixes=tuple(row.get("key_prefixes", ())),
            timeouts=Timeouts(**row.get("timeouts", {})),
            limits=Limits(**row.get("limits", {})),
            pins=Pins(mode=pins.get("mode", "off"), sha256=tuple(pins.get("sha256", ()))),
            error_codes=MappingProxyType(codes),
            **{key: row[key] for key in _PLAIN if key in row},
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"catalogue row {name!r}: {error}") from error


def _spoken(row: Mapping[str, Any], own: Mapping[str, Any], base_url: str) -> Spoken:
    unknown = set(own) - set(_SPOKEN)
    if unknown:
        raise ValueError(f"unknown columns of a dialect: {', '.join(sorted(unknown))}")
    models: Mapping[str, Any] = own.get("model_capabilities") or {}
    return Spoken(
        base_url=base_url,
        models=tuple((own.get("models") or row.get("models") or {}).items()),
        capabilities=Capabilities(
            **differences({**(row.get("capabilities") or {}), **(own.get("capabilities") or {})})
        ),
        model_capabilities=tuple(
            (pattern, MappingProxyType(differences(columns)))
            # A dialect's own patterns stand before the row's, and take the place of the same ones.
            for pattern, columns in {**models, **(row.get("model_capabilities") or {}), **models}.items()
        ),
        **{key: own[key] if key in own else row[key] for key in ("probe", "auth_style") if key in own or key in row},
    )


def differences(columns: Mapping[str, Any]) -> dict[str, Any]:
    """
    Columns as YAML has them, as :class:`~mportrouter.settings.Capabilities` takes them.

    :raises ValueError: a column that does not exist, or a value that it does not take.
    """
    read = {}
    for column, value in columns.items():
        if column not in _KINDS:
            raise ValueError(f"there is no column {column!r}")
        value = tuple(value) if isinstance(value, list) else value
        kind = _OR_NONE.get(column, _KINDS[column])
        if not (value is None and column in _OR_NONE) and type(value) is not kind:
            raise ValueError(f"{column} does not take {value!r}")
        words = WORDS.get(column)
        if words is not None and not set(value if isinstance(value, tuple) else (value,)) <= set(words):
            raise ValueError(f"{column} takes {', '.join(words)}, not {value!r}")
        if column == "strip_events" and isinstance(value, tuple) and not NEEDED.isdisjoint(value):
            raise ValueError(f"{column} does not take {value!r}")
        if column == "tool_id_pattern":
            re.compile(str(value))
        read[column] = value
    return read
