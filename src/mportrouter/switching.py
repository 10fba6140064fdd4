"""
The words of the ``mportrouter`` command that pin a mode to one provider and let it go: ``switch``, ``fallback``,
``reset``; and the start of a router where none runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from .adminlink import Refusal, Remote, Unreachable
from .shellinit import VARIABLES, clearing

#: Seconds that a router gets to start, and to end, and between two looks whether it has.
_START, _END, _PACE = 60.0, 30.0, 0.1
#: Bytes of what a router said that did not start.
_SAID = 4096


async def switch(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    """``switch NAME``: one provider, without failover."""
    result = await remote.call("switch", arguments.port, arguments.name)
    _show(arguments, out, result, f"Mode {result['mode']} asks {result['pinned']} alone, without failover.")
    return 0


async def fallback(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    """``fallback``: all providers of the mode in their order."""
    result = await remote.call("unpin", arguments.port)
    _show(arguments, out, result, f"Mode {result['mode']} asks {', then '.join(result['upstreams'])}.")
    return 0


async def reset(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    """``reset``: no pin is left, and the router stops once nothing is under way."""
    from twisted.internet.task import deferLater

    process = (await remote.call("version"))["pid"]
    await remote.call("unpin", None)
    try:
        await remote.call("drain", True)
    except Unreachable:
        pass  # it stopped before its answer had left
    # Whoever starts the next one at once must not meet this one.
    end = remote.reactor.seconds() + _END
    while not gone(process):
        if remote.reactor.seconds() >= end:
            raise Refusal(f"the router was told to stop, but its process {process} still runs")
        await deferLater(remote.reactor, _PACE)
    stopped(arguments, out, True)
    return 0


def gone(process: int) -> bool:
    """Whether a process has ended, even where whoever started it has not asked for its status yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[:1] == ["Z"]
    except OSError:
        return False


def stopped(arguments: argparse.Namespace, out: TextIO, ran: bool) -> None:
    """
    Say that no router runs any more, and how a shell forgets it.

    :param ran: it ran until now.
    """
    if arguments.shell:
        out.write(clearing(arguments.shell) + "\n")
        return
    left = [name for name in VARIABLES if name in os.environ]
    text = "The router has stopped." if ran else "No router was running."
    if left and _points_here(os.environ) and not arguments.quiet:
        text += f"\nThis shell still has {', '.join(left)}: claude-reset puts back what was there before, or"
        text += "\n\n    " + clearing("bash")
    _show(arguments, out, {"stopped": ran, "variables": left}, text)


def _points_here(environment: Mapping[str, str]) -> bool:
    """Whether clients of this shell are sent to this machine."""
    return environment.get("ANTHROPIC_BASE_URL", "").startswith(
        ("http://127.0.0.1", "http://localhost", "http://[::1]")
    )


def _show(arguments: argparse.Namespace, out: TextIO, result: Any, text: str) -> None:
    out.write((json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else text) + "\n")
    out.flush()


# ---------------------------------------------------------------------------------------------------- starting


def start_if_none(state: str | None, router: int | None, config: str | None, flags: Sequence[str] = ()) -> bool:
    """
    Start a router of its own, in the background, where none answers.

    :param state: its state directory, ``None``: the usual one.
    :param router: a port of the router that is meant.
    :param config: its configuration file, ``None``: the usual one.
    :returns: whether it was started.
    :raises Refusal: it did not start; with what it said.
    """
    from .state import SeveralRouters, answers, find_socket, prepare_directory

    directory = state or "~/.ai-router/state"

    def lives() -> bool:
        try:
            return answers(find_socket(directory, os.environ, os.getuid(), router))
        except SeveralRouters as several:
            raise Unreachable(f"{several}: say which with --router {several.ports[0]}") from several
        except OSError:
            return True

    if lives():
        return False
    words = [sys.executable, "-m", "mportrouter", *(("--config", config) if config else ()), *flags]
    said = os.path.join(prepare_directory(directory), "start.log")
    with open(said, "wb", opener=_private) as output:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    end = time.monotonic() + _START
    while not lives():
        if child.poll() is not None:
            raise Refusal(f"the router did not start:\n{_tail(said)}")
        if time.monotonic() > end:
            raise Refusal(
                f"the router was started (process {child.pid}), but it cannot be reached by its state directory "
                f"{directory}; if its configuration names another, say so with --state"
            )
        time.sleep(_PACE)
    # It goes on by itself.
    child.returncode = 0
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _tail(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()[-_SAID:].strip()
