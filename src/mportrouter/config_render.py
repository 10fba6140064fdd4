"""Settings as ``--check-config`` prints them: YAML that could be loaded again, secrets masked, origins as comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import attrs

from .config_columns import MODELS
from .config_modes import ACCOUNTS
from .settings import (
    Capabilities,
    Interactive,
    ModeSettings,
    PortSettings,
    Secret,
    Settings,
    TableRow,
    UpstreamSettings,
)

_PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./~+=-]*")
# Words that a reader of YAML would take for something else than a text.
_SPECIAL = re.compile(r"(?i)(?:true|false|yes|no|on|off|null|none|~|[0-9.]+|[0-9.]+e[0-9]+)")
# What a mapping's key says already, or no file can set.
_UNSAID = {
    UpstreamSettings: ("id", "offers"),
    ModeSettings: ("name",),
    PortSettings: ("port",),
    Settings: ("notices", "origins"),
}
_PAIRS = frozenset({"models", "faults"})
# Which settings of a mode only some strategies have.
_OF_STRATEGIES = {
    "table": ("table",),
    "auto_model": ACCOUNTS,
    "retry_after": ACCOUNTS,
    "affinity": ACCOUNTS,
}


def render(settings: Settings) -> str:
    """
    Every setting, one a line.

    :param settings: what :func:`mportrouter.config.load` returned.
    """
    lines = ["# Settings in force; what has no comment is a default."]
    for key, value in _members(settings):
        lines.extend(_lines(key, value, key, settings.origins, 0))
    return "\n".join(lines) + "\n"


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """The settings of a value, as the file has them."""
    for field in attrs.fields(type(value)):
        if field.name in _UNSAID.get(type(value), ()):
            continue
        if isinstance(value, ModeSettings) and value.strategy not in _OF_STRATEGIES.get(field.name, (value.strategy,)):
            continue
        member = getattr(value, field.name)
        if isinstance(member, Interactive):
            # Its keys stand among the mode's own, and only where the strategy reads them.
            if isinstance(value, ModeSettings) and value.strategy == "interactive":
                yield from _members(member)
        elif field.name == "models" and isinstance(value, UpstreamSettings) and value.offers:
            yield field.name, value.offers
        elif field.name in _PAIRS:
            yield field.name, dict(member)
        elif field.name == "body_bytes" and isinstance(value, PortSettings):
            yield "body_limit", member
        elif field.name == "model_capabilities":
            continue
        elif field.name == "capabilities" and isinstance(value, UpstreamSettings):
            yield field.name, {**dict(_members(member)), MODELS: _by_model(member, value.model_capabilities)}
        else:
            yield field.name, member


def _by_model(
    whole: Capabilities, models: Iterable[tuple[str, Capabilities]]
) -> dict[str, dict[str, object]]:
    """What some models have otherwise than the others."""
    return {
        pattern: {name: value for name, value in _members(columns) if value != getattr(whole, name)}
        for pattern, columns in models
    }


def _lines(key: str, value: Any, path: str, origins: Mapping[str, str], depth: int) -> Iterator[str]:
    indent = "  " * depth
    origin = f"  # from {origins[path]}" if path in origins else ""
    name = key if key.isdigit() else text_of_yaml(key)
    if attrs.has(type(value)) and not isinstance(value, Secret):
        children = list(_members(value))
    elif isinstance(value, Mapping):
        children = [(str(child), member) for child, member in value.items()]
    elif isinstance(value, tuple) and value and isinstance(value[0], TableRow):
        yield f"{indent}{name}:{origin}"
        yield from (f"{indent}  - {_row(row)}" for row in value)
        return
    else:
        yield f"{indent}{name}: {_scalar(value)}{origin}"
        return
    if not children:
        yield f"{indent}{name}: {{}}{origin}"
        return
    yield f"{indent}{name}:{origin}"
    for child, member in children:
        yield from _lines(child, member, f"{path}.{child}", origins, depth + 1)


def _row(row: TableRow) -> str:
    """A row of a table, in one line."""
    if row.match:
        pairs = [f"match: {text_of_yaml(row.match)}", f"upstream: {text_of_yaml(row.upstream)}"]
    else:
        pairs = [f"default: {text_of_yaml(row.upstream)}"]
    pairs += [f"{name}: {text_of_yaml(text)}" for name in ("model", "path", "name") if (text := getattr(row, name))]
    if row.timeouts is not None:
        limits = (f"{name}: {_scalar(value)}" for name, value in _members(row.timeouts))
        pairs.append(f"timeouts: {{{', '.join(limits)}}}")
    return f"{{{', '.join(pairs)}}}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Secret):
        return '"****"'
    if isinstance(value, tuple):
        return f"[{', '.join(_scalar(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, (int, Decimal)):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text_of_yaml(str(value))


def text_of_yaml(text: str) -> str:
    """A text as YAML takes it: bare, or between quotation marks."""
    if _PLAIN.fullmatch(text) and not _SPECIAL.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${")
    return f'"{escaped}"'
