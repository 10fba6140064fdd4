"""
What a person said in a message, without what clients put around it; and the cheap test whether that may be a command.

Every dialect's door asks here, and so do the ``/router`` commands: what is stripped is told once.
"""

from __future__ import annotations

import re

#: Bytes before the end of the messages in which the last one's command must stand.
NEAR = 64 * 1024

_LETTERS = re.compile(rb"/r(?:outer|r)", re.IGNORECASE)
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_COMMAND = re.compile(r"<command-(name|message|args)>(.*?)</command-\1>", re.DOTALL)
#: The same with the text of the command's file.
_MARK = re.compile(r"<command-(message|name|args|contents)>(.*?)</command-\1>", re.DOTALL)
#: What Claude Code tells the model of a command that it carried out itself (``/clear``, ``/model``).
_LOCAL = re.compile(r"<local-command-(caveat|stdout|stderr)>.*?</local-command-\1>", re.DOTALL)


def letters(body: bytes, start: int = 0, end: int | None = None) -> bool:
    """
    Whether a body has the letters of a command at all; the slash may be escaped as ``\\/``.

    :param start: where its messages begin.
    :param end: where they end. The command is in the last one, and not far from here with all that clients put around.
    """
    if end is None:
        end = len(body)
    # Most texts have no slash at all, and a single byte is found many times as fast.
    slash = body.find(b"/", max(start, end - NEAR), end)
    return slash >= 0 and _LETTERS.search(body, slash, end) is not None


def unwrapped(texts: list[str]) -> str:
    """
    Texts without ``<system-reminder>`` blocks, and with a client's own wrapping of a slash command undone:
    ``<command-name>/x</command-name><command-args>a b</command-args>`` is what a person typed as ``/x a b``. The body
    of the command's file follows in the same message; where it says the same once more, once is enough. A command that
    the client carried out itself, known by its output, is not for the model: it goes with what was said of it.

    :param texts: of one message, in order.
    """
    words: list[str] = []
    typed = ""
    for text in texts:
        if "<system-reminder>" in text:
            text = _REMINDER.sub("", text)
        if "<command-name>" in text:
            found = dict(_COMMAND.findall(text))
            name, arguments = found.get("name", "").strip(), found.get("args", "").strip()
            if name:
                typed = f"{name} {arguments}".strip()
                words.append(typed)
                text = _COMMAND.sub("", text)
        if "<local-command-" in text:
            if "<local-command-std" in text and words and words[-1] == typed:
                words.pop()
            text = _LOCAL.sub("", text)
        text = text.strip()
        if text and text not in words:
            words.append(text)
    return "\n".join(words)


def alone(text: str) -> str:
    """
    One text without a client's marks; where nothing but the marks of a custom command arrives, they are the command.

    Other than :func:`unwrapped` it puts nothing before what was said beside the marks: a command is one only if it is
    nothing else.
    """
    text = text.strip()
    if "<" not in text:
        return text
    rest = _MARK.sub("", _REMINDER.sub("", text)).strip()
    if rest:
        return rest
    marks = {match.group(1): match.group(2).strip() for match in _MARK.finditer(text)}
    name = marks.get("name", "")
    return f"{name} {marks.get('args', '')}".strip()
