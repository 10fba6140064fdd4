"""
A sub-agent's tag, ``<CCR-SUBAGENT-MODEL>provider,model</CCR-SUBAGENT-MODEL>``, in a text and in the bytes of a request.

Which member of a request is the system prompt, its dialect knows; here is what a tag is and how it is taken out in
place. What is left for the provider is a function of the bytes alone, so that prompt caches go on to hit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

from . import splice

NAME = "CCR-SUBAGENT-MODEL"
#: Letters without which a text holds no tag, however its JSON spells the brackets around them.
LETTERS = NAME.encode()

# Between the two ends stands no bracket: an end that nothing closes reaches no further than to the next one.
_TEXT = re.compile(f"<{NAME}>([^<]*)</{NAME}>")
# The same inside a JSON string, where brackets and the slash may be escaped (RFC 8259 §7). It begins at the letters,
# for a fast search; what stands before them is looked at afterwards.
_LESS, _MORE, _SLASH = rb"(?:<|\\u003[cC])", rb"(?:>|\\u003[eE])", rb"(?:\\?/|\\u002[fF])"
_UNIT = rb'(?:[^"\\<]|\\[^u]|\\u(?!003[cC]))'
_BYTES = re.compile(LETTERS + _MORE + b"(" + _UNIT + b"*)" + _LESS + _SLASH + LETTERS + _MORE, re.DOTALL)
_ESCAPED = b"\\u003c"

#: An object with a list of objects with a text, which is what Gemini has.
_DEPTH = 3
_ROLES = frozenset({"system", "developer"})


class Tag(NamedTuple):
    """
    What a tag names, without the white space around it.

    :param provider: an upstream's id or a provider's name.
    :param model: ``""`` where the tag has none.
    """

    provider: str
    model: str


def find(system_text: str) -> Tag | None:
    """The first tag of a system prompt, or ``None``."""
    match = _TEXT.search(system_text)
    return None if match is None else _read(match[1])


def _read(inner: str) -> Tag:
    provider, _, model = inner.partition(",")
    return Tag(provider.strip(), model.strip())


# ------------------------------------------------------------------------------------------------ JSON strings


def _tags(string: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and inside of each tag in a JSON string."""
    for match in _BYTES.finditer(string):
        start = match.start()
        if string.endswith(b"<", 0, start):
            yield start - 1, match.end(), match[1]
        elif string[max(0, start - 6) : start].lower() == _ESCAPED:
            start -= 6
            before = start
            while string.endswith(b"\\", 0, before):
                before -= 1
            # After an odd number of backslashes it is a backslash and the letters "u003c".
            if (start - before) % 2 == 0:
                yield start, match.end(), match[1]


def _in_string(string: bytes) -> Tag | None:
    for _, _, inner in _tags(string):
        text = inner.decode("utf-8", "replace")
        try:
            return _read(json.loads(f'"{text}"', strict=False))
        except ValueError:  # an escape that JSON does not have
            return _read(text)
    return None


def _cut(string: bytes) -> bytes:
    pieces = []
    position = 0
    for start, end, _ in _tags(string):
        pieces.append(string[position:start])
        position = end
    return b"".join([*pieces, string[position:]]) if pieces else string


# ------------------------------------------------------------------------------------------------ requests


@attrs.frozen
class Prompt:
    """
    Where a dialect has its system prompt.

    :param contents: members of the request that hold it.
    :param messages: the member with messages, those of the roles ``system`` and ``developer`` among them.
    :param leading: only such messages as stand before all others.
    :param required: a member that stays even where nothing is left to say.
    """

    contents: tuple[str, ...] = ()
    messages: str = ""
    leading: bool = False
    required: str = ""

    def tag(self, body: bytes) -> Tag | None:
        """See :meth:`mportrouter.interfaces.IDialect.tag`."""
        if LETTERS not in body:
            return None
        try:
            spans = splice.members(body)
            for name in (*self.contents, self.messages):
                if (span := spans.get(name)) is not None:
                    value = body[span.value : span.end]
                    tag = in_messages(value, self.leading) if name == self.messages else in_content(value)
                    if tag is not None:
                        return tag
        except splice.Malformed:
            pass  # what nobody can read is no tag; the provider will say what is wrong
        return None

    def without_tag(self, body: bytes) -> bytes:
        """See :meth:`mportrouter.interfaces.IDialect.without_tag`."""
        if LETTERS not in body:
            return body
        replaced: dict[str, bytes] = {}
        dropped = []
        try:
            spans = splice.members(body)
            for name, span in spans.items():
                value = left = body[span.value : span.end]
                if name in self.contents:
                    said = out_of_content(value)
                    if said is None and name != self.required:
                        dropped.append(name)
                    left = b'""' if said is None else said
                elif name == self.messages:
                    left = out_of_messages(value, self.leading)
                if left != value:
                    replaced[name] = left
        except splice.Malformed:
            return body
        return splice.edit(body, replaced, dropped, spans) if replaced else body


def in_content(content: bytes, depth: int = _DEPTH) -> Tag | None:
    """
    The first tag of what is said: a text, an object with ``text`` or ``parts``, or a list of these.

    :param content: the JSON text.
    :param depth: how many lists and objects may be around a text.
    :raises splice.Malformed: for what is not valid JSON.
    """
    if LETTERS not in content or depth < 0:
        return None
    if content.startswith(b'"'):
        return _in_string(content)
    if content.startswith(b"["):
        return _first(lambda part: in_content(part, depth - 1), splice.elements(content))
    if content.startswith(b"{") and (inner := _inner(content)) is not None:
        return in_content(content[inner.value : inner.end], depth - 1)
    return None


def out_of_content(content: bytes, depth: int = _DEPTH) -> bytes | None:
    """
    The same without its tags, and every other byte as it was.

    :returns: ``None`` where nothing but white space is left: providers refuse texts that say nothing, so a part that
        said nothing but the tag goes with it.
    :raises splice.Malformed: as :func:`in_content`.
    """
    if LETTERS not in content or depth < 0:
        return content
    if content.startswith(b'"'):
        string = _cut(content)
        if string is content:
            return content
        return string if splice.loads(string).strip() else None
    if content.startswith(b"["):
        return _each(content, lambda _, part: out_of_content(part, depth - 1))
    if content.startswith(b"{") and (inner := _inner(content)) is not None:
        said = out_of_content(content[inner.value : inner.end], depth - 1)
        return None if said is None else content[: inner.value] + said + content[inner.end :]
    return content


def _inner(part: bytes) -> splice.Member | None:
    members = splice.members(part)
    return members.get("text", members.get("parts"))


def in_messages(messages: bytes, leading: bool = False) -> Tag | None:
    """
    The first tag in the messages of the roles ``system`` and ``developer``.

    :param messages: a JSON array of objects with ``role`` and ``content``.
    :param leading: only in those before the first message of another role.
    :raises splice.Malformed: as :func:`in_content`.
    """
    if LETTERS not in messages:
        return None
    instructions = [message for _, message in _instructions(splice.elements(messages), leading)]
    return _first(lambda message: in_content(_content(message)), instructions)


def out_of_messages(messages: bytes, leading: bool = False) -> bytes:
    """
    The same without those tags; a message that said nothing else goes too.

    :raises splice.Malformed: as :func:`in_content`.
    """
    if LETTERS not in messages:
        return messages
    chosen = {index for index, _ in _instructions(splice.elements(messages), leading)}

    def edited(index: int, message: bytes) -> bytes | None:
        if index not in chosen:
            return message
        content = _content(message)
        left = out_of_content(content)
        if left is None or left == content:
            return None if left is None else message
        return splice.edit(message, {"content": left})

    return _each(messages, edited) or b"[]"


def _instructions(messages: list[bytes], leading: bool) -> Iterator[tuple[int, bytes]]:
    for index, message in enumerate(messages):
        if not leading and LETTERS not in message:
            continue
        role = splice.members(message).get("role") if message.startswith(b"{") else None
        if role is not None and splice.loads(message[role.value : role.end]) in _ROLES:
            yield index, message
        elif leading:
            return


def _content(message: bytes) -> bytes:
    content = splice.members(message).get("content")
    return b"null" if content is None else message[content.value : content.end]


def _first(look: Callable[[bytes], Tag | None], elements: list[bytes]) -> Tag | None:
    for element in elements:
        tag = look(element)
        if tag is not None:
            return tag
    return None


def _each(array: bytes, edit: Callable[[int, bytes], bytes | None]) -> bytes | None:
    """An array with its elements edited; an element that is ``None`` goes with one comma, the last one with all."""
    pieces: list[bytes] = []
    position = 0
    opening = b""
    for index, element in enumerate(splice.elements(array)):
        # Only white space and one comma or bracket stand before it, with none of which an element begins; but the
        # bracket is skipped first, since the element may be an array.
        start = array.index(element, position or 1)
        gap, position = array[position:start], start + len(element)
        opening = opening or gap
        kept = edit(index, element)
        if kept is not None:
            pieces += [gap if pieces else opening, kept]
    return b"".join([*pieces, array[position:]]) if pieces else None
