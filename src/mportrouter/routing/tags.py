"""
A sub-agent's tag: ``<CCR-SUBAGENT-MODEL>provider,model</CCR-SUBAGENT-MODEL>`` in a system prompt names who answers.

Where a dialect's system prompt is, the dialect knows; here is what a tag is, in a text and in the bytes of one inside
JSON, and whom it names. Both readings agree: whatever :func:`find` finds, :func:`cut` takes out, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Kind, RouterError
from .accounts import listed, shown
from .plans import UpstreamView

#: Letters without which a text holds no tag, whichever way JSON writes the brackets around them.
LETTERS = b"CCR-SUBAGENT-MODEL"

_NAME = LETTERS.decode()
# Between the two ends stands no bracket: an end that nothing closes reaches no further than the next one.
_TEXT = re.compile(f"<{_NAME}>([^<]*)</{_NAME}>")
# The same in a JSON string (RFC 8259 §7), where "<", ">" and "/" may be escaped. What is kept in front of an escaped
# bracket is an even number of backslashes; with an odd one it would be a backslash before the letters "u003c".
_OPEN = rb"(?:<|(?<!\\)((?:\\\\)*)\\u003[cC])"
_LESS, _MORE = rb"(?:<|\\u003[cC])", rb"(?:>|\\u003[eE])"
_SLASH = rb"(?:\\?/|\\u002[fF])"
_UNIT = rb'(?:[^"\\<]|\\[^u]|\\u(?!003[cC]))'
_BYTES = re.compile(
    _OPEN + LETTERS + _MORE + b"(" + _UNIT + b"*)" + _LESS + _SLASH + LETTERS + _MORE,
    re.DOTALL,
)


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


def find_in_json(text: bytes) -> Tag | None:
    """
    The first tag in the strings of a JSON text, or ``None``.

    :param text: a value that is valid JSON; a tag is found in whichever string it holds.
    """
    if LETTERS not in text:
        return None
    match = _BYTES.search(text)
    if match is None:
        return None
    inner: str = json.loads(f'"{match[2].decode("utf-8", "replace")}"', strict=False)
    return _read(inner)


def cut(text: bytes) -> bytes:
    """
    A JSON text without the tags in its strings, and every other byte as it was.

    :param text: as for :func:`find_in_json`.
    """
    return _BYTES.sub(rb"\1", text) if LETTERS in text else text


def _read(inner: str) -> Tag:
    provider, _, model = inner.partition(",")
    return Tag(provider.strip(), model.strip())


def told(tag: tuple[str, str]) -> str:
    """A tag on one line of limited length, for decisions and logs."""
    text = ",".join(tag)
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])


def named(tag: tuple[str, str], views: Sequence[UpstreamView]) -> list[UpstreamView]:
    """
    The upstreams that a tag names and that have its model, in the order given.

    An upstream's id comes before a provider's name, which stands for all accounts there; case matters only where it
    decides between two.

    :raises RouterError: ``BAD_REQUEST``: nobody is called so, or nobody who is has the model; the message tells who and
        what is known.
    """
    provider, model = tag
    folded = provider.casefold()
    found = (
        [view for view in views if view.id == provider]
        or [view for view in views if view.provider == provider]
        or [view for view in views if view.id.casefold() == folded]
        or [view for view in views if view.provider.casefold() == folded]
    )
    if not found:
        known = listed([view.provider for view in views] + [view.id for view in views])
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names the provider {shown(provider)}, which is unknown here. Known providers: {known}.",
        )
    if not model:
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names no model: <{_NAME}>provider,model</{_NAME}> is wanted, "
            f"and it has {shown(provider)}.",
        )
    having = [view for view in found if view.offers]
    if not having:
        known = listed([name for view in found for name in view.models])
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names the model {shown(model)}, which {provider} does not have. Known models: {known}.",
        )
    return having
