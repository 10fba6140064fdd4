"""
The ``/router`` commands: what is one, what it does, how its answer reads.

Chat, Perspective Broker and HTTP share these functions. Nothing here does I/O; the running router is reached through an
:class:`mportrouter.interfaces.IConsole`.

A text is a command only if it is nothing else (``docs/architecture.rst``, rule 11): ``/router mode mixed`` is one,
``/router is broken, please fix`` is a sentence and goes to the model. A slip of the keyboard (``/router stauts``,
``/router logs many``) is answered with what would have been right rather than sent to a provider and paid for.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .interfaces_console import IConsole
from .money import dollars
from .person import alone

#: Lines of log that ``logs`` shows where no number is given, and at most.
LOGS_DEFAULT = 20
LOGS_MOST = 1000

#: Longer texts are not commands.
_LONGEST = 200

_HELP: tuple[tuple[str, str], ...] = (
    ("mode [name] [--session]", "show or switch the routing mode of this port, or of this conversation only"),
    ("status", "show the current configuration and counts"),
    ("health", "check every provider now"),
    ("stats", "show requests, costs and savings"),
    ("logs [n]", f"show the last n lines of the log ({LOGS_DEFAULT})"),
    ("help", "show this list"),
)

WORDS: tuple[str, ...] = tuple(usage.partition(" ")[0] for usage, _ in _HELP)
"""The words that may follow ``/router``."""

_PREFIXES = ("/router", "/rr")

# A word of a command; sentences have commas, question marks and apostrophes.
_PLAIN = re.compile(r"[A-Za-z0-9][\w.:@/-]*\Z")

_LABELS = {"anthropic": "Claude", "minimax": "MiniMax"}


class CommandError(Exception):
    """
    A command that is refused.

    :param message: one or two sentences for the person: what was refused, why, what would be right.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@attrs.frozen
class Command:
    """
    A command as typed.

    :param word: one of :data:`WORDS`.
    :param name: the mode's name, of ``mode``; ``None``: show.
    :param count: number of lines, of ``logs``.
    :param session: only this conversation is meant (``--session``).
    :param json: the answer is wanted as JSON (``--json``).
    :param mistake: why it cannot be done as typed, or ``None``.
    """

    word: str
    name: str | None = None
    count: int | None = None
    session: bool = False
    json: bool = False
    mistake: str | None = None


# ---------------------------------------------------------------------------------------------------- recognition


def parse(text: str) -> Command | None:
    """
    Recognise a command.

    :param text: the last user text.
    :returns: the command (with its ``mistake``, where it has one), or ``None`` for any other text.
    """
    line = alone(text)
    if len(line) > _LONGEST or not line.startswith("/") or "\n" in line or "\r" in line:
        return None
    prefix, *words = line.split()
    if prefix.lower() not in _PREFIXES:
        return None
    flags = [word.lower() for word in words if word.startswith("--")]
    plain = [word for word in words if not word.startswith("--")]
    as_json = "--json" in flags
    session = "--session" in flags
    unknown = [flag for flag in flags if flag not in ("--json", "--session")]
    if not plain:
        mistake = _surplus_flags("help", unknown, session)
        return Command("help", json=as_json, mistake=mistake)
    word, *arguments = plain
    word = word.lower()
    if word not in WORDS:
        return _slip(word, arguments, as_json)
    if len(arguments) > 1 or not all(_PLAIN.match(argument) for argument in arguments):
        return None
    mistake = _surplus_flags(word, unknown, session)
    if word == "mode":
        return Command("mode", arguments[0] if arguments else None, session=session, json=as_json, mistake=mistake)
    if word == "logs":
        count, wrong = _count(arguments)
        return Command("logs", count=count, json=as_json, mistake=mistake or wrong)
    if arguments:
        mistake = mistake or f"/router {word} takes nothing after it, not “{arguments[0]}”."
    return Command(word, json=as_json, mistake=mistake)


def _slip(word: str, arguments: Sequence[str], as_json: bool) -> Command | None:
    """An unknown word: a mistyped command, or (``None``) the beginning of a sentence."""
    near = difflib.get_close_matches(word, WORDS, 2, 0.6)
    if not _PLAIN.match(word) or len(arguments) > (1 if near else 0):
        return None
    if not all(_PLAIN.match(argument) for argument in arguments):
        return None
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return Command("help", json=as_json, mistake=f"There is no command /router {word}.{hint} {_listing()}")


def _surplus_flags(word: str, unknown: Sequence[str], session: bool) -> str | None:
    if unknown:
        return f"/router {word} has no option {unknown[0]}; there are --json and, for mode, --session."
    if session and word != "mode":
        return f"--session belongs to /router mode, not to /router {word}."
    return None


def _count(arguments: Sequence[str]) -> tuple[int | None, str | None]:
    if not arguments:
        return None, None
    # isdecimal() alone also takes digits of other scripts, and a number of many digits cannot be a count of lines.
    if arguments[0].isascii() and arguments[0].isdecimal() and len(arguments[0]) <= 9 and int(arguments[0]) > 0:
        return min(int(arguments[0]), LOGS_MOST), None
    return None, f"/router logs takes a number of lines from 1 to {LOGS_MOST}, not “{arguments[0]}”."


def _listing() -> str:
    return "The commands are: " + ", ".join(WORDS) + "."


# ---------------------------------------------------------------------------------------------------- doing


def execute(command: Command, console: IConsole, port: int | None, session: str | None) -> Any:
    """
    Do what a command says.

    :param port: the port it was sent to, or ``None`` for the whole router.
    :param session: the conversation it came in, or ``None`` or ``""`` where the client gives no id.
    :returns: plain values, or what :meth:`IConsole.check_health` gives (a Deferred): callers use ``maybeDeferred``.
    :raises CommandError: a refusal.
    """
    if command.mistake is not None:
        raise CommandError(command.mistake)
    if command.word == "mode":
        if command.session and not session:
            raise no_session()
        # A bare `/router mode` shows what this conversation gets, override included.
        wanted = session or None if command.session or command.name is None else None
        return console.mode(port, command.name, wanted)
    if command.word == "status":
        return console.status(port)
    if command.word == "health":
        return console.check_health()
    if command.word == "stats":
        return console.stats()
    if command.word == "logs":
        return console.logs(LOGS_DEFAULT if command.count is None else command.count)
    return {"commands": {f"/router {usage}": meaning for usage, meaning in _HELP}}


def invalid_mode(name: str, valid: Iterable[str]) -> CommandError:
    """
    :param name: the mode that does not exist.
    :param valid: the modes that do.
    """
    modes = list(valid)
    near = difflib.get_close_matches(name.lower(), modes, 1, 0.5)
    hint = f" Did you mean “{near[0]}”?" if near else ""
    return CommandError(f"There is no mode “{_short(name)}”.{hint} Valid modes: {', '.join(modes)}.")


def locked_port(port: int, mode: str) -> CommandError:
    """The refusal of a port with ``locked: true``."""
    return CommandError(
        f"Port {port} is locked to mode {mode} by the configuration (locked: true). "
        "Use another port, or unlock it there."
    )


def no_session() -> CommandError:
    """The refusal of ``--session`` where the client does not say which conversation it is."""
    return CommandError(
        "--session needs the conversation's id, and this client sends none (X-Claude-Code-Session-Id or "
        "metadata.user_id). Without --session the whole port is switched."
    )


# ---------------------------------------------------------------------------------------------------- showing


def render(command: Command, result: Any) -> str:
    """
    The answer for a person.

    :param result: what :func:`execute` gave (its Deferred's result), or the :class:`CommandError` it raised.
    """
    if isinstance(result, CommandError):
        return result.message
    if command.word == "mode":
        return _mode_text(result)
    if command.word == "status":
        return _status_text(result)
    if command.word == "health":
        return _health_text(result)
    if command.word == "stats":
        return _stats_text(result)
    if command.word == "logs":
        return "\n".join(result) if result else "The log is empty."
    return help_text()


def to_json(result: Any) -> str:
    """
    The answer for a program: pretty JSON.

    :param result: as :func:`render` takes it; a refusal becomes ``{"error": …}``, log lines ``{"logs": [...]}``.
    """
    if isinstance(result, CommandError):
        result = {"error": result.message}
    elif isinstance(result, (list, tuple)) and all(isinstance(line, str) for line in result):
        result = {"logs": list(result)}
    return json.dumps(result, indent=2, ensure_ascii=False, default=str)


def help_text() -> str:
    """The list of commands."""
    lines = aligned([(f"/router {usage}", meaning) for usage, meaning in _HELP], "  ")
    return "Router commands (/rr is short for /router):\n" + lines + "\nAdd --json for JSON."


def aligned(pairs: Sequence[tuple[str, str]], gap: str = " ") -> str:
    """Lines of ``name`` and ``value``, the values in one column."""
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"  {name:<{width}}{gap}{value}".rstrip() for name, value in pairs)


def duration(seconds: float) -> str:
    """``2h 34m``, ``24h 15m``, ``3m 5s``, ``12s`` – as the status block and ``GET /health`` show an uptime."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {whole % 60}s"
    return f"{whole}s"


def percent(share: float | None) -> str:
    """``67.3%``; ``None`` is ``0.0%``."""
    return f"{share or 0.0:.1f}%"


def status_block(
    mode: str,
    primary: str,
    fallback: str | None,
    uptime: float,
    stats: Mapping[str, Any],
    health: Mapping[str, str],
) -> dict[str, Any]:
    """
    The status block with its published key names.

    :param primary: the upstream asked first; ``fallback`` the next one, or ``None``.
    :param uptime: seconds.
    :param stats: what :meth:`mportrouter.interfaces.ILedger.stats` gives.
    :param health: a word per upstream, see :func:`health_word`.
    """
    block: dict[str, Any] = {"mode": mode, "primary": primary, "fallback": fallback, "uptime": duration(uptime)}
    block["requests_total"] = stats.get("requests_total", 0)
    for name, row in stats.get("providers", {}).items():
        block[f"requests_{name}"] = row["requests"]
    block["cost_savings"] = percent(stats.get("savings_percent"))
    block["health"] = dict(health)
    return block


def health_word(status: str, latency_ms: float | None) -> str:
    """``ok (23ms)``, ``degraded (812ms)``, ``down``: one upstream in the status block."""
    word = "ok" if status == "up" else status
    return word if latency_ms is None else f"{word} ({latency_ms:.0f}ms)"


def _label(name: str) -> str:
    return _LABELS.get(name, name)


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value) or "–"
    return str(value)


def _pair_text(result: Mapping[str, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for key, value in result.items():
        if key == "port":
            pairs.append(("Port:", str(value)))
        elif isinstance(value, Mapping) and value and key != "health":
            pairs.append((f"{_words(key)}:", ""))
            pairs.extend((f"  {name}:", _value(item)) for name, item in value.items())
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            pairs.append((f"{_words(key)}:", ""))
            pairs.extend(("  ", _value(item)) for item in value)
        else:
            pairs.append((f"{_words(key)}:", _value(value)))
    return aligned(pairs)


def _status_text(result: Mapping[str, Any]) -> str:
    return "Router Status:\n" + _pair_text(result)


def _mode_text(result: Mapping[str, Any]) -> str:
    mode, port = result.get("mode"), result.get("port")
    where = "this conversation" if result.get("session") else f"port {port}" if port else "the router"
    before = result.get("previous")
    if before is not None and before != mode:
        text = f"Mode of {where} is now {mode} (was {before})."
    else:
        text = f"Mode of {where}: {mode}."
    reason = result.get("note")
    if reason:
        text += f" {reason}"
    valid = result.get("modes")
    if valid:
        text += f"\nModes: {', '.join(valid)}."
    return text


def _health_text(result: Mapping[str, Any]) -> str:
    lines = [f"Router Health: {result.get('status', 'unknown')}"]
    pairs = []
    for name, row in result.get("providers", {}).items():
        text = health_word(row.get("status", "unknown"), row.get("latency_ms"))
        if row.get("last_check"):
            text += f", checked {row['last_check']}"
        detail = row.get("last_error")
        if detail:
            text += f" – {detail}"
        pairs.append((f"{name}:", text))
    if result.get("current_mode"):
        pairs.append(("Mode:", str(result["current_mode"])))
    if result.get("router_uptime"):
        pairs.append(("Uptime:", str(result["router_uptime"])))
    return "\n".join([*lines, aligned(pairs)]) if pairs else lines[0]


def _stats_text(result: Mapping[str, Any]) -> str:
    providers: Mapping[str, Mapping[str, Any]] = result.get("providers", {})
    rows: list[tuple[str, str, str]] = [("Total Requests:", f"{result.get('requests_total', 0):,}", "")]
    for name, row in providers.items():
        rows.append((f"{_label(name)} Requests:", f"{row['requests']:,}", f"({percent(row['share'])})"))
    for name, row in providers.items():
        rows.append((f"{_label(name)} Cost:", dollars(row["cost"]), ""))
    rows.append(("Original Claude:", dollars(result.get("reference_cost", 0.0)), ""))
    savings = result.get("savings", 0.0)
    saved = f"({dollars(savings)} saved)" if savings >= 0 else f"({dollars(-savings)} more)"
    rows.append(("Total Savings:", percent(result.get("savings_percent")), saved))
    each = [
        f"{_label(name)}: {row['latency_ms']:.0f}ms"
        for name, row in providers.items()
        if row.get("latency_ms") is not None
    ]
    mean = result.get("latency_ms")
    rows.append(("Average Latency:", "–" if mean is None else f"{mean:.0f}ms", f"({', '.join(each)})" if each else ""))
    if result.get("failed_attempts"):
        rows.append(("Failed Attempts:", f"{result['failed_attempts']:,}", ""))
    if result.get("errors"):
        rows.append(("Errors:", f"{result['errors']:,}", ""))
    left = max(len(name) for name, _, _ in rows)
    right = max(len(number) for _, number, _ in rows)
    body = "\n".join(f"  {name:<{left}} {number:>{right}} {note}".rstrip() for name, number, note in rows)
    return "Session Statistics:\n" + body


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
