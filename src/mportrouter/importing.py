"""
Configurations of other routers, read and written as ours: claude-proxy's ``config.json``, MultiRouter's
``providers.yaml``, claude-multi-proxy's ``config.json``, each with the ``.env`` beside it.

Secrets never stand in what is written: a variable is there instead, and what it was is told apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import attrs

from . import config
from .config_places import Mistakes, Value, read_values
from .errors import ConfigError
from .importing_chain import read_chain
from .importing_draft import Draft, ForeignSections
from .importing_stack import read_stack
from .importing_tags import read_tags
from .settings import Secret

Reader = Callable[[Value, ForeignSections, Draft, Mapping[str, str]], None]

_READERS: dict[str, Reader] = {
    "claude-proxy": read_chain,
    "multirouter": read_stack,
    "claude-multi-proxy": read_tags,
}
_NAMES = {"claude-proxy": "claude-proxy", "multirouter": "MultiRouter", "claude-multi-proxy": "claude-multi-proxy"}
_KNOWN = (
    "known are claude-proxy's config.json (a list of providers with base_url and api_key_env), MultiRouter's "
    "providers.yaml (a list of providers with id and type), claude-multi-proxy's config.json (providers by their names)"
)


@attrs.frozen
class ImportedConfig:
    """
    What became of a file.

    :param kind: whose it was: ``claude-proxy``, ``multirouter`` or ``claude-multi-proxy``.
    :param yaml: our configuration.
    :param notes: what a person should know or do, one sentence each; no secret is in them.
    :param env: the variables that :attr:`yaml` names and whose values the other program had: lines for ``.env``.
    """

    kind: str
    yaml: str
    notes: tuple[str, ...]
    env: tuple[tuple[str, Secret], ...] = ()


def read_foreign(path: str, text: str, env: Mapping[str, str]) -> ImportedConfig:
    """
    Another router's configuration as ours.

    :param path: the file's name, for messages.
    :param text: what it holds.
    :param env: what the ``.env`` beside it holds.
    :raises ConfigError: with every mistake in it and its line, or because nobody's configuration looks like this.
    """
    mistakes = Mistakes()
    whole = _values(path, text.removeprefix("\ufeff"), env, mistakes)
    kind = None if whole is None else _kind(whole)
    if whole is None or kind is None:
        raise ConfigError(mistakes.texts or [f"{path}: this is no configuration that can be read; {_KNOWN}"])
    notes: list[str] = []
    draft = Draft(f"What {_NAMES[kind]} had in {path.rpartition('/')[2]}.", notes, {})
    _READERS[kind](whole, ForeignSections(mistakes, notes), draft, env)
    if mistakes.texts:
        raise ConfigError(mistakes.sorted(path))
    written = draft.yaml()
    _judge(written, draft)
    return ImportedConfig(kind, written, tuple(notes), tuple(draft.env.items()))


def _values(path: str, text: str, env: Mapping[str, str], mistakes: Mistakes) -> Value | None:
    """The file's values; JSON is YAML but for its tabs, and what is wrong with it is told in its own words."""
    if text.lstrip().startswith("{"):
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            if path.endswith(".json"):
                raise ConfigError([f"{path}:{error.lineno}: not valid JSON: {error.msg}"]) from None
        except RecursionError:
            raise ConfigError([f"{path}: nested too deeply"]) from None
        else:
            text = text.replace("\t", " ")
    return read_values(text, path, lambda name: (env[name], f".env {name}") if env.get(name) else None, mistakes)


def _kind(whole: Value) -> str | None:
    """Whose configuration it is, by what is in it."""
    top = whole.content
    providers = top["providers"].content if isinstance(top, dict) and "providers" in top else None
    if isinstance(providers, dict):
        return "claude-multi-proxy"
    if not isinstance(top, dict) or not isinstance(providers, list):
        return None
    keys = {key for entry in providers if isinstance(entry.content, dict) for key in entry.content}
    if "api_key_env" in keys or not {"proxy_port", "cooldown_minutes"}.isdisjoint(top):
        return "claude-proxy"
    return "multirouter" if "type" in keys or "routing" in top else None


def _judge(written: str, draft: Draft) -> None:
    """Read what was written once, and note what is wrong with it and which variables it wants."""
    named = draft.references()
    try:
        config.load(written, "line", dict.fromkeys(named, "a-value"), {}, {})
    except ConfigError as error:
        draft.notes += [f"to be put right by hand in what was written: {mistake}" for mistake in error.mistakes]
    if draft.env:
        draft.notes.append(f"to be put into .env with the values that they had: {', '.join(draft.env)}")
    without = [name for name in named if name not in draft.env]
    if without:
        draft.notes.append(f"to be put into .env, or into the environment, before the start: {', '.join(without)}")
