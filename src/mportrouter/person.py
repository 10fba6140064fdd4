"""
What a person said in a message, without what clients put around it; and the cheap test whether that may be a command.

Every dialect's door asks here, and so do the ``/router`` commands: what is stripped is told once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

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


def said(content: Any, words: Collection[str], media: Collection[str]) -> tuple[str, bool] | None:
    """
    The words of a message's content, and whether it shows anything beside them.

    :param content: a text, or parts with a ``type``.
    :param words: types of parts whose ``text`` it is.
    :param media: types of parts that a person's message may have beside them.
    :returns: ``None`` where it holds anything else, or cannot be read.
    """
    if isinstance(content, str):
        return unwrapped([content]), False
    if not isinstance(content, list):
        return None
    texts, shown = [], False
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            return None
        if kind in words and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in media:
            shown = True
        else:
            return None
    return unwrapped(texts), shown


class TurnKey:
    """Names a conversation by all that the person has said in it so far."""

    __slots__ = ("_digest",)

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=12)

    def say(self, index: int, text: str, images: bool) -> None:
        """:param index: the message's place."""
        # Lengths keep two texts from reading like one; the position keeps a repeated "go on" apart.
        self._digest.update(b"%d %d %d\n" % (index, images, len(text)))
        self._digest.update(text.encode("utf-8", "surrogatepass"))

    def __str__(self) -> str:
        return self._digest.hexdigest()
