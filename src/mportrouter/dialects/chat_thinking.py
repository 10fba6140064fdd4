"""Reasoning that stands between ``<think>`` and ``</think>`` in the content of an answer."""

from __future__ import annotations

OPENING, CLOSING = "<think>", "</think>"


class ThinkingSplitter:
    """
    Tells reasoning from text where an upstream writes both into one member; a tag may be cut anywhere.

    White space after a tag belongs to it: the models write the tags on lines of their own.
    """

    __slots__ = ("_fresh", "_kept", "_thinking")

    def __init__(self) -> None:
        self._thinking = False
        self._fresh = False  # nothing but white space since the last tag
        self._kept = ""  # may be the beginning of a tag

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """
        :param text: the next piece of content.
        :returns: pieces that are not empty, each with whether it is reasoning.
        """
        if not self._kept and not self._fresh and "<" not in text:
            return [(self._thinking, text)] if text else []
        found: list[tuple[bool, str]] = []
        text = self._kept + text
        self._kept = ""
        while text:
            tag = CLOSING if self._thinking else OPENING
            start = text.find(tag)
            if start < 0:
                keep = _beginning(text, tag)
                self._say(text[: len(text) - keep], found)
                self._kept = text[len(text) - keep :]
                break
            self._say(text[:start], found)
            text = text[start + len(tag) :]
            self._thinking = not self._thinking
            self._fresh = True
        return found

    def finish(self) -> list[tuple[bool, str]]:
        """The content is whole: what looked like the beginning of a tag is none."""
        found: list[tuple[bool, str]] = []
        self._say(self._kept, found)
        self._kept = ""
        return found

    def _say(self, text: str, found: list[tuple[bool, str]]) -> None:
        if self._fresh:
            text = text.lstrip("\r\n")
            if text:
                self._fresh = False
        if text:
            found.append((self._thinking, text))


def tagged(reasoning: str, content: str) -> str:
    """Content as such a model wrote it."""
    return f"{OPENING}\n{reasoning}\n{CLOSING}\n\n{content}"


def _beginning(text: str, tag: str) -> int:
    """Characters at the end of ``text`` that ``tag`` may begin with."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0
