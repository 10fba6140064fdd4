"""
The ``mportrouter`` command: asks the running router over its admin socket.

Exit status: 0 done, 1 refused or failed (``health``: also where the router is unhealthy), 2 wrong usage, 3 no router
runs. Twisted is imported only once there is a socket to speak to, so that mistakes are answered at once.

Imports of its own floor: :mod:`mportrouter.adminlink` (the way to the router), :mod:`mportrouter.ask`,
:mod:`mportrouter.install`, :mod:`mportrouter.pins`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TextIO

from . import __version__, locally, switching
from .adminlink import Refusal, Remote, Unreachable, run, tcp_door, unix_door
from .shellinit import SHELLS

OK, REFUSED, USAGE, NOT_RUNNING = 0, 1, 2, 3

#: Lines that ``logs --follow`` looks at, and seconds between two looks.
_FOLLOWED, _PACE = 500, 0.5

#: Dialects in which a request may be explained.
DIALECT_NAMES = ("anthropic", "openai-chat", "openai-responses", "gemini")

_PORT_COLUMNS = ("port", "mode", "configured", "kind", "listening", "locked")
_UPSTREAM_COLUMNS = ("id", "provider", "status", "circuit", "enabled", "key", "base_url")


def main(argv: Sequence[str] | None = None) -> int:
    """
    The console script.

    :param argv: the words after the command's name; ``None``: those of the process.
    :returns: the exit status.
    """
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except Refusal as refusal:
        print(f"mportrouter: {refusal}", file=sys.stderr)
        return REFUSED
    except Unreachable as gone:
        print(f"mportrouter: {gone}", file=sys.stderr)
        return NOT_RUNNING
    except BrokenPipeError:
        # `mportrouter logs | head`: the reader has gone. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return 130


# ---------------------------------------------------------------------------------------------------- words


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    where = shared.add_argument_group("which router, and how to print")
    where.add_argument("--json", action="store_true", help="print JSON")
    where.add_argument("--router", type=_port, metavar="PORT", help="the one with that port, where several run")
    where.add_argument("--socket", metavar="PATH", help="its admin socket")
    where.add_argument("--state", metavar="DIR", help="its state directory [~/.ai-router/state]")
    where.add_argument("--tcp", metavar="HOST:PORT", help="its admin port on loopback, instead of the socket")
    where.add_argument("--user", metavar="NAME", help="user name for --tcp [admin]")
    where.add_argument("--password-file", metavar="FILE", help="password for --tcp; without it you are asked")

    top = argparse.ArgumentParser(
        "mportrouter",
        description="Drive the running mportrouter.",
        epilog="Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 the router is not running.",
        parents=[shared],
    )
    top.add_argument("--version", action="version", version=f"mportrouter {__version__}")
    words = top.add_subparsers(metavar="COMMAND", required=True)

    def word(name: str, meaning: str, run: Callable[[argparse.Namespace], int], **more: Any) -> argparse.ArgumentParser:
        made = words.add_parser(name, help=meaning, description=meaning[0].upper() + meaning[1:] + ".", **more)
        made.set_defaults(run=run)
        return made

    status = word("status", "show configuration and counts", _remote, parents=[shared])
    status.add_argument("--port", type=_port, metavar="N", help="of one port [the whole router]")
    status.set_defaults(work=_status)
    word("stats", "show requests, costs and savings", _remote, parents=[shared]).set_defaults(work=_stats)
    word("health", "check every provider now", _remote, parents=[shared]).set_defaults(work=_health)

    logs = word("logs", "show the last lines of the log", _remote, parents=[shared])
    count = logs.add_mutually_exclusive_group()
    count.add_argument("count", nargs="?", type=_count, metavar="N", help="lines to show [20]")
    count.add_argument("-n", "--lines", type=_count, default=20, metavar="N", help="the same")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with new lines as they come")
    logs.set_defaults(work=_logs)

    mode = word("mode", "show or switch the mode of a port", _remote, parents=[shared])
    mode.add_argument("name", nargs="?", metavar="NAME", help="the mode to switch to")
    mode.add_argument("--port", type=_port, metavar="N", help="which port [the dynamic one]")
    mode.set_defaults(work=_mode)

    start = argparse.ArgumentParser(add_help=False)
    start.add_argument("--port", type=_port, metavar="N", help="the port whose mode is meant")
    start.add_argument("--start", action="store_true", help="start a router in the background where none runs")
    start.add_argument("--config", metavar="FILE", help="the configuration to start it with")
    switch = word("switch", "ask one provider alone, without failover", _remote, parents=[shared, start])
    switch.add_argument("name", metavar="NAME", help="an upstream of the mode, or its provider")
    switch.set_defaults(work=switching.switch)
    fallback = word("fallback", "ask all providers of the mode again", _remote, parents=[shared, start])
    fallback.set_defaults(work=switching.fallback)
    reset = word("reset", "ask all providers again, and stop the router", _reset, parents=[shared])
    reset.add_argument("--shell", choices=SHELLS, help="print the commands that clear the variables of clients")
    reset.add_argument("--quiet", action="store_true", help="do not tell of those variables")
    reset.set_defaults(work=switching.reset)

    explain = word("explain", "show the plan for a request, and why; nothing is sent", _explain, parents=[shared])
    explain.add_argument("file", nargs="?", metavar="FILE", help="a request body; - reads it from standard input")
    explain.add_argument("--model", metavar="M", help="the model, instead of the one in the file or of a file")
    explain.add_argument("--port", type=_port, metavar="N", help="the port it would be sent to [the dynamic one]")
    explain.add_argument("--dialect", choices=DIALECT_NAMES, help="of the file [told by its members]")
    explain.add_argument("--session", metavar="ID", help="the conversation it belongs to")
    explain.add_argument("--config", metavar="FILE", help="tell it from this configuration alone")

    ports = word("ports", "list, open, close or switch ports", _remote, parents=[shared])
    ports.add_argument("action", nargs="?", choices=("open", "close", "mode"), help="what to do [list them]")
    ports.add_argument("number", nargs="?", type=_port, metavar="N", help="the port")
    ports.add_argument("name", nargs="?", metavar="MODE", help="the mode, for open and mode")
    ports.set_defaults(work=_ports, complain=ports.error)

    word("reload", "read the configuration again", _remote, parents=[shared]).set_defaults(work=_reload)
    drain = word("drain", "stop accepting and wait for what is under way", _remote, parents=[shared])
    drain.add_argument("--stop", action="store_true", help="then stop the router")
    drain.set_defaults(work=_drain)

    upstreams = word("upstreams", "list, enable or disable upstreams", _remote, parents=[shared])
    upstreams.add_argument("action", nargs="?", choices=("enable", "disable"), help="what to do [list them]")
    upstreams.add_argument("id", nargs="?", metavar="ID", help="the upstream")
    upstreams.set_defaults(work=_upstreams, complain=upstreams.error)

    ask = word("ask", "send one question through a port and print the answer", locally.ask)
    ask.add_argument("text", nargs="+", metavar="TEXT", help="the question; - reads it from standard input")
    ask.add_argument("--port", type=_port, default=8787, metavar="N", help="the router's port [8787]")
    ask.add_argument("--model", default="claude-sonnet-5", help="the model to ask for [%(default)s]")
    ask.add_argument("--max-tokens", type=_count, default=1024, metavar="N", help="longest answer [1024]")
    ask.add_argument("--stream", action="store_true", help="print the answer as it comes")
    ask.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait for the port to open")
    ask.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the answer's JSON")

    pins = word("pins", "public-key pins of a provider", _pins)
    pins.add_argument("action", choices=("capture",), help="connect and show the pins of the certificate chain")
    pins.add_argument("host", metavar="HOST[:PORT]")
    pins.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")

    import_ = word("import", "write the configuration of another router as one of ours", locally.import_)
    import_.add_argument("file", metavar="FILE", help="config.json or providers.yaml")
    import_.add_argument("--env", metavar="FILE", help="its variables [.env beside FILE, if it is there]")
    import_.add_argument("-o", "--output", metavar="FILE", help="write it there [standard output]")
    import_.add_argument("--force", action="store_true", help="overwrite that file")
    import_.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")

    shell = word("shell-init", "print functions for a shell: claude-fb, -switch, -reset, -status", locally.shell_init)
    shell.add_argument("shell", choices=SHELLS)
    shell.add_argument("--port", type=_port, default=8787, metavar="N", help="where clients are sent [8787]")
    shell.add_argument("--config", metavar="FILE", help="what claude-fb starts a router with")
    shell.add_argument("--keep-login", action="store_true", help="leave the clients' own credentials alone")
    shell.add_argument("--state", default=argparse.SUPPRESS, metavar="DIR", help="the router's state directory")
    shell.add_argument("--socket", default=argparse.SUPPRESS, metavar="PATH", help="its admin socket")

    install = word("install", "make a client know the /router command", locally.install)
    install.add_argument("client", choices=("claude-code",))
    place = install.add_mutually_exclusive_group()
    place.add_argument("--user", dest="for_user", action="store_true", help="for this user (the default)")
    place.add_argument("--project", metavar="DIR", help="for one project")
    install.add_argument("--port", type=_port, default=8787, metavar="N", help="the port to show [8787]")
    install.add_argument("--force", action="store_true", help="overwrite files that are not the router's own")
    install.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")

    def help_(arguments: argparse.Namespace) -> int:
        if arguments.topic is not None and arguments.topic in words.choices:
            words.choices[arguments.topic].print_help()
        else:
            top.print_help()
        return OK

    word("help", "show this list, or the options of one command", help_).add_argument(
        "topic", nargs="?", metavar="COMMAND"
    )
    return top


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number from 1 to 65535")
    return int(text)


# ---------------------------------------------------------------------------------------------------- remote commands


Work = Callable[[argparse.Namespace, Remote, TextIO], Coroutine[Any, Any, int]]


def _remote(arguments: argparse.Namespace) -> int:
    """Connect, let ``arguments.work`` ask, and give its exit status."""
    _fill(arguments)
    if getattr(arguments, "start", False) and not arguments.tcp and not arguments.socket:
        started = switching.start_if_none(arguments.state, arguments.router, arguments.config)
        if started:
            print("mportrouter: started a router in the background", file=sys.stderr)
    check = getattr(arguments, "complain", None)
    if check is not None:
        _check_action(arguments, check)
    work: Work = arguments.work
    if arguments.tcp:
        door = tcp_door(arguments.tcp, arguments.user or "admin", lambda: _password(arguments.password_file))
    else:
        door = unix_door(arguments.socket, arguments.state, arguments.router)

    async def whole(reactor: Any) -> int:
        remote = Remote(await door(reactor), reactor)
        if arguments.router is not None:
            await _check_router(remote, arguments.router)
        return await work(arguments, remote, sys.stdout)

    return run(whole)


def _fill(arguments: argparse.Namespace) -> None:
    """``None`` for the shared options that were not given."""
    for name in ("json", "router", "socket", "state", "tcp", "user", "password_file"):
        arguments.__dict__.setdefault(name, None)


async def _check_router(remote: Remote, port: int) -> None:
    """See that it is the one that is meant: the common socket may be another's."""
    opened = [row["port"] for row in await remote.call("ports")]
    if port not in opened:
        names = ", ".join(map(str, opened)) or "none"
        raise Unreachable(f"no router with port {port} answers; the one that does has {names}")


def _password(file_name: str | None) -> str:
    if file_name is None:
        import getpass

        return getpass.getpass("Password: ")
    try:
        with open(file_name, encoding="utf-8") as file:
            return file.read().strip("\r\n")
    except OSError as error:
        raise Refusal(f"the password file cannot be read: {error}") from error


def _show(arguments: argparse.Namespace, out: TextIO, result: Any, text: Callable[[], str]) -> None:
    out.write((json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else text()) + "\n")
    out.flush()


def _summary(result: Any) -> str:
    from .commands import aligned
    from .tables import cell

    if not isinstance(result, dict):
        return cell(result)
    return aligned([(f"{key.replace('_', ' ')}:", cell(value)) for key, value in result.items()])


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


async def _status(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .commands import Command, render

    result = await remote.call("status", *([] if arguments.port is None else [arguments.port]))
    _show(arguments, out, result, lambda: render(Command("status"), result))
    return OK


async def _stats(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .commands import Command, render

    result = await remote.call("stats")
    _show(arguments, out, result, lambda: render(Command("stats"), result))
    return OK


def _reset(arguments: argparse.Namespace) -> int:
    try:
        return _remote(arguments)
    except Unreachable:
        if arguments.router is not None or arguments.tcp or arguments.socket:
            raise
        # What is wanted is the case already.
        switching.stopped(arguments, sys.stdout, False)
        return OK


def _explain(arguments: argparse.Namespace) -> int:
    from .explain import text

    _fill(arguments)
    question = locally.asked(arguments)

    def show(told: Any, out: TextIO) -> int:
        _show(arguments, out, told, lambda: text(told, _width()))
        return REFUSED if told.get("refusal") else OK

    if arguments.config is not None:
        return show(locally.explain_here(arguments, question), sys.stdout)

    async def there(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
        return show(await locally.explain_there(arguments, remote, question), out)

    arguments.work = there
    try:
        return _remote(arguments)
    except Unreachable:
        if arguments.router is not None or arguments.tcp or arguments.socket:
            raise
    return show(locally.explain_here(arguments, question), sys.stdout)


async def _health(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .commands import Command, render

    result = await remote.call("check_health")
    _show(arguments, out, result, lambda: render(Command("health"), result))
    return REFUSED if result.get("status") == "unhealthy" else OK


async def _logs(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    lines: list[str] = await remote.call("logs", arguments.count or arguments.lines)
    if not arguments.follow:
        _show(arguments, out, {"logs": lines}, lambda: "\n".join(lines) if lines else "The log is empty.")
        return OK
    from twisted.internet.task import deferLater

    out.writelines(line + "\n" for line in lines)
    out.flush()
    seen: list[str] = await remote.call("logs", _FOLLOWED)
    while True:
        await deferLater(remote.reactor, _PACE)
        now: list[str] = await remote.call("logs", _FOLLOWED)
        out.writelines(line + "\n" for line in news(seen, now))
        out.flush()
        seen = now


def news(seen: Sequence[str], now: Sequence[str]) -> list[str]:
    """
    The lines that came between two looks at the end of a log.

    :param seen: the last lines at the first look, ``now`` at the second.
    """
    for common in range(min(len(seen), len(now)), 0, -1):
        if list(seen[len(seen) - common :]) == list(now[:common]):
            return list(now[common:])
    return list(now)


async def _mode(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .commands import Command, render

    result = await remote.call("mode", arguments.port, arguments.name, None)
    _show(arguments, out, result, lambda: render(Command("mode", arguments.name), result))
    return OK


def _check_action(arguments: argparse.Namespace, complain: Callable[[str], Any]) -> None:
    """Leave with the usage where an action lacks what it acts on."""
    action = arguments.action
    if "number" in arguments:
        if action is not None and arguments.number is None:
            complain(f"which port? ports {action} N" + ("" if action == "close" else " MODE"))
        if action == "open" and arguments.name is None:
            complain("in which mode? ports open N MODE")
    elif action is not None and arguments.id is None:
        complain(f"which upstream? upstreams {action} ID")


async def _ports(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .tables import table

    if arguments.action == "open":
        result = await remote.call("open_port", arguments.number, arguments.name)
    elif arguments.action == "close":
        result = await remote.call("close_port", arguments.number)
    elif arguments.action == "mode":
        return await _mode(argparse.Namespace(**{**vars(arguments), "port": arguments.number}), remote, out)
    else:
        rows = await remote.call("ports")
        _show(arguments, out, rows, lambda: table(rows, _PORT_COLUMNS, _width()))
        return OK
    _show(arguments, out, result, lambda: _summary(result))
    return OK


async def _upstreams(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    from .tables import table

    if arguments.action is not None:
        result = await remote.call("enable_upstream", arguments.id, arguments.action == "enable")
        _show(arguments, out, result, lambda: _summary(result))
        return OK
    rows = await remote.call("upstreams")
    _show(arguments, out, rows, lambda: table(rows, _UPSTREAM_COLUMNS, _width()))
    return OK


async def _reload(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    result = await remote.call("reload")
    _show(arguments, out, result, lambda: "The new configuration is in force.\n" + _summary(result))
    return OK


async def _drain(arguments: argparse.Namespace, remote: Remote, out: TextIO) -> int:
    try:
        result = await remote.call("drain", arguments.stop)
    except Unreachable:
        if not arguments.stop:
            raise
        # It stopped before its answer had left.
        result = {"drained": True, "stopping": True}
    text = "Nothing is under way any more" + ("; the router stops." if arguments.stop else ".")
    _show(arguments, out, result, lambda: text)
    return OK


# ---------------------------------------------------------------------------------------------------- local commands


def _pins(arguments: argparse.Namespace) -> int:
    from .tables import table

    host, colon, number = arguments.host.rpartition(":")
    if not colon:
        host, number = arguments.host, "443"
    try:
        port = _port(number)
    except argparse.ArgumentTypeError as error:
        raise Refusal(str(error)) from error

    async def capture(reactor: Any) -> int:
        from . import pins

        try:
            chain = await pins.capture(host, port, reactor)
        except Exception as error:
            raise Refusal(f"no pins from {host}:{port}: {error}") from error
        rows = [
            {
                "certificate": "leaf" if one.leaf else "issuer",
                "subject": one.subject,
                "not_after": str(one.not_after),
            }
            | {"pin": one.pin}
            for one in chain
        ]
        arguments.__dict__.setdefault("json", False)
        _show(arguments, sys.stdout, rows, lambda: table(rows))
        return OK

    return run(capture)


if __name__ == "__main__":
    sys.exit(main())
