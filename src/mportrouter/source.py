"""Where the settings are read from: the configuration file and the ``.env`` beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import attrs

from . import config
from .errors import ConfigError
from .settings import Settings

#: Read where ``--config`` does not say otherwise, if it is there.
DEFAULT_CONFIG = "~/.ai-router/mportrouter.yaml"


class Source:
    """
    Where the settings are read from, at the start and at each reload.

    Paths are made absolute at once: a daemon changes its directory. Which ``.env`` counts is decided at each reading:
    the one beside the configuration file, or, while there is no file, the one of the directory of the start.

    :param options: the flags as given.
    :param environment: the process's environment.
    """

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        given = options["config"]
        self._given = given is not None
        self._path = os.path.abspath(os.path.expanduser(given or DEFAULT_CONFIG))
        self._here = "" if self._given else os.getcwd()
        self._environment = environment
        self._flags = {
            name.replace("-", "_"): (value if value not in (0, None) else None)
            for name, value in options.items()
            if name not in ("config", "check-config", "version", "help")
        }

    def read(self) -> Settings:
        """:raises ConfigError: with every mistake."""
        settings = config.load(self._text(), self._path, self._environment, self._values(), self._flags)
        _refuse_unreadable(settings)
        told = _open_to_others(self._dotenv())
        return attrs.evolve(settings, notices=(told, *settings.notices)) if told else settings

    def _text(self) -> str | None:
        if not self._given and not os.path.exists(self._path):
            return None
        return text_of(self._path)

    def _dotenv(self) -> str:
        beside = os.path.dirname(self._path) if self._given or os.path.exists(self._path) else self._here
        return os.path.join(beside, ".env")

    def _values(self) -> dict[str, str]:
        path = self._dotenv()
        if not os.path.isfile(path):
            return {}
        from dotenv import dotenv_values

        values = dotenv_values(stream=io.StringIO(text_of(path)))
        return {name: value for name, value in values.items() if value is not None}


def _open_to_others(path: str) -> str:
    """What to say of a file with keys that other users of this machine can read or change; ``""``: nothing."""
    if os.name != "posix" or not os.path.isfile(path):
        return ""
    mode = os.stat(path).st_mode & 0o777
    if not mode & 0o077:
        return ""
    return f"{path}: others on this machine can get at the keys in it (mode {mode:03o}); chmod 600 keeps them out"


def _refuse_unreadable(settings: Settings) -> None:
    """:raises ConfigError: for each ``ca_file`` that cannot be used; said here, a connection need not find out."""
    mistakes = []
    for upstream in settings.upstreams.values():
        if upstream.tls.ca_file is None:
            continue
        from .tls import extra_trust

        try:
            extra_trust(upstream.tls.ca_file)
        except ConfigError as error:
            place = settings.origins.get(f"upstreams.{upstream.id}.tls.ca_file", "upstreams")
            mistakes += [f"{place}: upstreams.{upstream.id}.{mistake}" for mistake in error.mistakes]
    if mistakes:
        raise ConfigError(mistakes)


def text_of(path: str) -> str:
    """:raises ConfigError: it cannot be read, or is not UTF-8."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from error
