"""
The ``twistd`` plugin: options, and the service that they make.

``twistd -n mportrouter --all-ports`` imports this module; :func:`makeService` reads the configuration and composes the
:class:`~mportrouter.router.Router`. Mistakes end the start with their text and status 1, not with a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from twisted.application.service import MultiService
from twisted.python import usage

from . import config
from .errors import ConfigError
from .settings import Settings
from .source import DEFAULT_CONFIG, Source


class Options(usage.Options):
    """The flags of ``twistd mportrouter``; each wins over the environment, the ``.env`` file and the configuration."""

    synopsis = "[options]"
    longdesc = (
        "A local router between LLM clients and LLM providers. With --all-ports it opens 8771 (anthropic), "
        "8772 (minimax), 8773 (mixed), 8774 (interactive) and the switchable 8787; with --demo it needs no key."
    )

    optParameters = [  # noqa: RUF012 - the shape that usage.Options wants
        ["config", "c", None, f"The configuration file. [default: {DEFAULT_CONFIG}, if it is there]"],
        ["port", "p", None, "Open just this port."],
        ["mode", "m", None, "The mode of that port: anthropic, minimax, mixed, interactive, or one of the file's."],
        ["host", None, None, "The address to bind to; anything but loopback needs a gateway token."],
        ["health-check", None, None, "Time between two health checks: 15s, 2m, or seconds."],
        ["failover-threshold", None, None, "Server errors in a row after which an upstream is tried last."],
        ["timeout", None, None, "Limit for the first content and between bytes: 30s, 2m, or seconds."],
        ["circuit-breaker", None, None, "Failures in a row that open an upstream's circuit."],
        ["alert-webhook", None, None, "URL that alerts are posted to."],
        ["cost-ceiling", None, None, "US dollars an hour after which Claude is not asked any more."],
        ["prefer-minimax", None, None, "Share (0 to 1) of middling tasks that try MiniMax first in interactive mode."],
        ["log-level", None, None, "debug, info, warn or error."],
    ]

    optFlags = [  # noqa: RUF012
        ["all-ports", "a", "Open 8771 to 8774, one mode each, and the dynamic 8787."],
        ["debug", None, "Log at level debug."],
        ["demo", None, "Answer from stand-in providers inside this process: no key is needed."],
        ["check-config", None, "Print the resulting settings and where each came from, and exit."],
    ]

    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles("*.yaml"),
            "mode": usage.CompleteList(["anthropic", "minimax", "mixed", "interactive"]),
            "log-level": usage.CompleteList(["debug", "info", "warn", "error"]),
        }
    )

    def postOptions(self) -> None:
        """Choose the reactor, where nobody did; print and leave, where only that was asked for."""
        if self["check-config"]:
            settings = read_or_exit(self)
            sys.stdout.write(config.render(settings))
            for warning in config.warnings(settings):
                sys.stderr.write(f"warning: {warning}\n")
            raise SystemExit(0)
        if sys.platform == "linux":
            from .reactor import install_if_none

            install_if_none()


def read_or_exit(options: Mapping[str, Any]) -> Settings:
    """The settings; mistakes are printed, one a line, and end the process with status 1."""
    try:
        return Source(options, os.environ).read()
    except ConfigError as error:
        raise SystemExit("\n".join(f"mportrouter: {mistake}" for mistake in error.mistakes)) from None


def makeService(options: Options) -> MultiService:
    """The running router, ready to be started by ``twistd``."""
    from twisted.internet import reactor

    from .router import CannotStart, Router

    settings = read_or_exit(options)
    for warning in config.warnings(settings):
        sys.stderr.write(f"mportrouter: warning: {warning}\n")
    source = Source(options, os.environ)
    router = Router(reactor, settings, source.read)
    try:
        router.refuse_taken()
    except CannotStart as error:
        raise SystemExit(f"mportrouter: {error}") from None
    return router
