"""What imports have in common: another program's file as values, and ours on its way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import attrs

from . import catalog
from .config_places import Mistakes, Value
from .config_reading import Sections
from .config_render import text_of_yaml
from .config_words import is_loopback, unversioned
from .settings import Secret


class ForeignSections(Sections):
    """
    Reads sections of another program's file: what we have nothing like is a note and no mistake.

    :param notes: where it is noted.
    """

    def __init__(self, mistakes: Mistakes, notes: list[str]) -> None:
        super().__init__(mistakes, shipped=False)
        self._notes = notes

    def unknown(self, value: Value, name: str, valid: Mapping[str, Any]) -> None:
        self._notes.append(f"{value.place}: {value.path} was left out: there is nothing like it here")


@attrs.frozen
class Reference:
    """A variable in place of a secret."""

    name: str


@attrs.define
class Draft:
    """
    Our configuration on its way.

    :ivar sections: name to content: mappings, lists, texts, numbers, truths, :class:`Reference`.
    :ivar env: variables that the sections name, with the values that the other program had.
    """

    title: str
    notes: list[str]
    env: dict[str, Secret]
    sections: dict[str, Any] = attrs.Factory(dict)

    def reference(self, name: str, value: str | None) -> Reference:
        """
        A variable for a secret; one that is taken for another secret gets a number.

        :param value: what the other program has for it, or ``None``.
        """
        chosen, number = name, 2
        while value is not None and chosen in self.env and self.env[chosen].value != value:
            chosen, number = f"{name}_{number}", number + 1
        if value is not None:
            self.env[chosen] = Secret(value)
        return Reference(chosen)

    def upstream(self, id: str) -> dict[str, Any]:
        """A new upstream's mapping."""
        fresh: dict[str, Any] = {}
        self.sections.setdefault("upstreams", {})[id] = fresh
        return fresh

    def references(self) -> list[str]:
        """The variables that the sections name, each once."""
        return list(dict.fromkeys(_references(self.sections)))

    def yaml(self) -> str:
        """The file."""
        lines = [f"# {self.title}"]
        for name, content in self.sections.items():
            lines += ["", f"{name}:"]
            for key, value in content.items():
                if isinstance(value, Mapping) and name in ("modes", "upstreams"):
                    lines.append(f"  {_flow(key)}:")
                    lines += (f"    {inner}: {_flow(one)}" for inner, one in value.items())
                else:
                    lines.append(f"  {_flow(key)}: {_flow(value)}")
        return "\n".join(lines) + "\n"


def _references(content: Any) -> Iterator[str]:
    if isinstance(content, Reference):
        yield content.name
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _references(value)


def _flow(value: Any) -> str:
    if isinstance(value, Reference):
        return f'"${{{value.name}}}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return text_of_yaml(value) if isinstance(value, str) else f"{value}"


def variable_for(id: str) -> str:
    """The name of a variable for the key of an account: ``GROQ_1_API_KEY`` of ``groq-1``."""
    word = re.sub(r"[^A-Z0-9]+", "_", id.upper()).strip("_") or "ACCOUNT"
    return f"{'_' if word[0].isdigit() else ''}{word}_API_KEY"


def whose(base_url: str, dialect: str) -> str | None:
    """The provider of the catalogue whose dialect begins at a URL, or ``None``."""
    asked = unversioned(base_url.rstrip("/"))
    for name, row in catalog.load().items():
        known = row.base_urls.get(dialect)
        # Anything may listen on the own machine.
        if known is not None and unversioned(known) == asked and not is_loopback(host_of(known)):
            return name
    return None


def is_example(key: str) -> bool:
    """Whether a key is what examples have in place of one: ``gsk_your_key_here``, ``YOUR_API_KEY``, ``sk-...``."""
    return bool(re.search(r"(?i)your[_-]|\.\.\.|<.*>|^x{3,}$|_here$", key))


def host_of(base_url: str) -> str:
    """A URL's host name."""
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""
