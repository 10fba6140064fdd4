"""
Make Claude Code know the ``/router`` command.

Claude Code answers unknown slash commands itself. A custom command file whose body is ``/router $ARGUMENTS`` makes it
send that text as the user's, and the router recognises it. The body repeats the file's own name: Claude Code sends what
was typed beside it, and only where both say the same is it one command.
"""

from __future__ import annotations

import os

import attrs

#: Only files with this line are overwritten. It stands in the front matter, which Claude Code does not send.
MARKER = "# written by: mportrouter install claude-code"

_FILE = """\
---
{marker}
description: Control the local LLM router (mode, status, health, stats, logs, help)
argument-hint: mode [name] [--session] | status | health | stats | logs [n] | help
disable-model-invocation: true
---
/{name} $ARGUMENTS
"""

NAMES = ("router.md", "rr.md")


@attrs.frozen
class Installed:
    """
    What :func:`install_claude_code` did.

    :param written: paths of the files that it wrote.
    :param kept: paths of files that somebody else wrote, and that stayed.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]


def install_claude_code(directory: str, force: bool = False) -> Installed:
    """
    Write the custom command files.

    :param directory: the home directory, or a project's: the files go to ``.claude/commands`` in it.
    :param force: overwrite files that are not the router's own.
    :raises OSError: they cannot be written.
    """
    folder = os.path.join(os.path.abspath(os.path.expanduser(directory)), ".claude", "commands")
    os.makedirs(folder, exist_ok=True)
    written, kept = [], []
    for name in NAMES:
        path = os.path.join(folder, name)
        if not force and _foreign(path):
            kept.append(path)
            continue
        temporary = f"{path}.{os.getpid()}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(_FILE.format(marker=MARKER, name=name.removesuffix(".md")))
        os.replace(temporary, path)
        written.append(path)
    return Installed(tuple(written), tuple(kept))


def _foreign(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return MARKER not in file.read(65536)
    except FileNotFoundError:
        return False


def claude_code_lines(port: int) -> tuple[str, str, str]:
    """The three lines that point Claude Code at a port of the router."""
    return (
        f"export ANTHROPIC_BASE_URL=http://127.0.0.1:{port}",
        'export ANTHROPIC_API_KEY="${ANTHROPIC_API_KEY:-mportrouter}"  # providers get the router\'s own keys',
        "claude",
    )
