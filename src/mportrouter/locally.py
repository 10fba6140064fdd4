"""
The words of the ``mportrouter`` command that need no running router: ``explain``, ``import``, ``shell-init``, ``ask``
and ``install``.

What they print is for a person, or for a shell to evaluate; with ``--json`` for a program.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from .adminlink import Refusal, Remote, Unreachable
from .settings import Secret

#: Longest piece of a body that crosses at once.
_PIECE = 256 * 1024
#: Longest request body that is explained.
_LONGEST = 64 * 1024 * 1024


# ---------------------------------------------------------------------------------------------------- explain


def asked(arguments: argparse.Namespace) -> Any:
    """
    The :class:`mportrouter.explain.Question` of a command line.

    :raises Refusal: for a file that cannot be read, or is no request.
    """
    from .commands import CommandError
    from .explain import question

    if arguments.file is None and not arguments.model:
        raise Refusal("explain what? Give a file with a request body, or --model")
    try:
        body = None if arguments.file is None else _bytes_of(arguments.file)
        return question(body, arguments.dialect, arguments.model or "", arguments.session or "")
    except CommandError as error:
        raise Refusal(error.message) from error


async def explain_there(arguments: argparse.Namespace, remote: Remote, question: Any) -> dict[str, Any]:
    """Let the running router tell."""
    body = question.body
    pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]
    told: dict[str, Any] = await remote.call(
        "explain", arguments.port, pieces, question.dialect, question.model, question.session
    )
    return told


def explain_here(arguments: argparse.Namespace, question: Any) -> dict[str, Any]:
    """
    Tell it from the configuration alone, also where its keys are not there yet.

    :raises Refusal: the configuration has mistakes.
    """
    from .commands import CommandError
    from .errors import ConfigError
    from .explain import alone
    from .source import Source

    try:
        settings = Source({"config": arguments.config, "demo": True}, os.environ).read()
        return alone(question, settings, arguments.port, time.time())
    except ConfigError as error:
        raise Refusal("\n".join(error.mistakes)) from error
    except CommandError as error:
        raise Refusal(error.message) from error


def _bytes_of(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read(_LONGEST)
        with open(name, "rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise Refusal(f"{name} cannot be read: {error.strerror}") from error


# ---------------------------------------------------------------------------------------------------- import


def import_(arguments: argparse.Namespace) -> int:
    """Read another router's configuration and write ours."""
    from .errors import ConfigError
    from .importing import read_foreign

    text = _text_of(arguments.file)
    env = arguments.env
    if env is None:
        beside = os.path.join(os.path.dirname(os.path.abspath(arguments.file)), ".env")
        env = beside if os.path.isfile(beside) else None
    try:
        made = read_foreign(os.path.abspath(arguments.file), text, _variables(env))
    except ConfigError as error:
        raise Refusal("\n".join(error.mistakes)) from error
    notes = list(made.notes)
    if arguments.output is not None:
        _write(arguments.output, made.yaml, arguments.force)
        notes += _keep(os.path.join(os.path.dirname(os.path.abspath(arguments.output)), ".env"), made.env)
    if getattr(arguments, "json", False):
        answer = {"kind": made.kind, "output": arguments.output, "notes": notes}
        print(json.dumps(answer if arguments.output else {**answer, "yaml": made.yaml}, indent=2, ensure_ascii=False))
        return 0
    if arguments.output is None:
        sys.stdout.write(made.yaml)
    else:
        print(f"read {arguments.file} ({made.kind}), wrote {arguments.output}; start it with:")
        print(f"\n    twistd -n mportrouter --config {arguments.output}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _text_of(name: str) -> str:
    try:
        with open(name, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise Refusal(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"{name} is not UTF-8 at byte {error.start}") from error


def _variables(name: str | None) -> dict[str, str]:
    if name is None:
        return {}
    from dotenv import dotenv_values

    values = dotenv_values(stream=io.StringIO(_text_of(name)))
    return {key: value for key, value in values.items() if value is not None}


def _write(name: str, text: str, force: bool) -> None:
    """The file is its owner's alone: a foreign configuration may have had keys in it."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(name, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Refusal(f"{name} is there already; --force overwrites it") from None
    except OSError as error:
        raise Refusal(f"{name} cannot be written: {error.strerror}") from error


def _keep(name: str, values: Sequence[tuple[str, Secret]]) -> list[str]:
    """
    Add variables to a ``.env`` file, which is made if it is not there; what it already has stays.

    :returns: what to tell of it; no value.
    """
    there = _variables(name if os.path.isfile(name) else None)
    missing = [(key, value) for key, value in values if key not in there]
    notes = [
        f"{name} has another {key} than the configuration that was read; that one stays"
        for key, value in values
        if there.get(key, value.value) != value.value
    ]
    if not missing:
        return notes
    lines = [f"{key}={_dotenv(value.value)}\n" for key, value in missing]
    try:
        with os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            # A last line without an end would run into ours.
            file.seek(0)
            before = file.read()
            file.write((b"" if before.endswith(b"\n") or not before else b"\n") + "".join(lines).encode())
    except OSError as error:
        raise Refusal(f"{name} cannot be written: {error.strerror}") from error
    return [*notes, f"done: {name} has them ({', '.join(key for key, _ in missing)})"]


def _dotenv(value: str) -> str:
    """A value as the files spell it: between single quotes nothing but these and backslashes means anything."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---------------------------------------------------------------------------------------------------- shell-init


def shell_init(arguments: argparse.Namespace) -> int:
    """Print the functions of a shell."""
    from .shellinit import Functions, functions

    start = ["--config", os.path.abspath(os.path.expanduser(arguments.config))] if arguments.config else []
    where: list[str] = []
    for name in ("state", "socket"):
        if value := getattr(arguments, name, None):
            where += [f"--{name}", os.path.abspath(os.path.expanduser(value))]
    made_for = Functions(own_words(), arguments.port, start, where, arguments.keep_login)
    sys.stdout.write(functions(arguments.shell, made_for))
    return 0


def own_words() -> Sequence[str]:
    """The words that start this command, wherever it is installed and whatever the search path will be."""
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program).startswith("mportrouter") and os.access(program, os.X_OK):
        return [program]
    return [sys.executable, "-m", "mportrouter.adminclient"]


# ---------------------------------------------------------------------------------------------------- ask, install


def ask(arguments: argparse.Namespace) -> int:
    """Send one question through a port."""
    from .ask import NobodyListens, Question
    from .ask import ask as send

    text = " ".join(arguments.text)
    question = Question(
        text=sys.stdin.read() if text == "-" else text,
        port=arguments.port,
        model=arguments.model,
        stream=arguments.stream,
        max_tokens=arguments.max_tokens,
        wait=arguments.wait,
        json=getattr(arguments, "json", False),
    )
    try:
        return send(question, os.environ, sys.stdout, sys.stderr)
    except NobodyListens as nobody:
        raise Unreachable(str(nobody)) from nobody


def install(arguments: argparse.Namespace) -> int:
    """Make a client know the ``/router`` command."""
    from .install import claude_code_lines, install_claude_code

    try:
        done = install_claude_code(arguments.project or "~", arguments.force)
    except OSError as error:
        raise Refusal(f"the command files cannot be written: {error}") from error
    lines = claude_code_lines(arguments.port)
    if getattr(arguments, "json", False):
        print(json.dumps({"written": list(done.written), "kept": list(done.kept), "use": list(lines)}, indent=2))
    else:
        for path in done.written:
            print(f"wrote {path}")
        for path in done.kept:
            print(f"kept {path}: somebody else wrote it (--force overwrites it)")
        print("\nIn Claude Code, /router status (or /rr status) now reaches the router. Point it there with:\n")
        print("\n".join(f"    {line}" for line in lines))
    return 1 if done.kept else 0
