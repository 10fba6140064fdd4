"""What both of OpenAI's dialects have in common for a stand-in: small shapes, and which models are reasoning models."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from .demo_said import bad
from .demo_shapes import Flag, Free, Members, Number, Pairs, Shape, Words

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
VERBOSITY = Words(among=("low", "medium", "high"), null=True)
NAME = r"[a-zA-Z0-9_-]+"
BREAKPOINT = Members(
    {"mode": Words(among=("explicit",)), "ttl": Words(among=("30m", "12h"), null=True)}, ("mode",), null=True
)
#: Members of both dialects' requests.
COMMON: dict[str, Shape] = {
    "model": Words(),
    "metadata": Pairs(),
    "parallel_tool_calls": Flag(null=False),
    "prompt_cache_key": Words(most=64, null=True),
    "prompt_cache_options": Free(),
    "prompt_cache_retention": Words(among=("in_memory", "24h"), null=True),
    "safety_identifier": Words(most=64, null=True),
    "store": Flag(),
    "stream": Flag(),
    "temperature": Number(0, 2),
    "top_p": Number(0, 1),
    "top_logprobs": Number(0, 20, whole=True),
    "user": Words(),
    "moderation": Free(null=True),
}

_REASONING = re.compile(r"(gpt-(?:5(?![\w.-]*-chat)|6)|o\d(?:-|\Z))")
_DATA_URL = re.compile(r"data:([\w.+/-]*)((?:;[\w.+-]+=[^;,]*)*);base64,(.*)\Z", re.DOTALL)
_PICTURES = ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp")


def is_reasoning(model: str) -> bool:
    """Whether a model of OpenAI thinks, and so refuses what would disturb it."""
    return _REASONING.match(model) is not None


def check_sampling(body: dict[str, Any], refused: tuple[str, ...]) -> None:
    """
    What reasoning models refuse.

    :param refused: members that they do not know at all.
    """
    if not is_reasoning(body["model"]):
        return
    for name in refused:
        if body.get(name) not in (None, False):
            words = f"Unsupported parameter: '{name}' is not supported with this model."
            raise bad(words, "unsupported_parameter", name)
    for name, default in (("temperature", 1), ("top_p", 1), ("presence_penalty", 0), ("frequency_penalty", 0)):
        value = body.get(name)
        if value is not None and value != default:
            words = (
                f"'{name}' does not support {value} with this model. Only the default ({default}) value is supported."
            )
            raise bad(f"Unsupported value: {words}", "unsupported_value", name)


def check_picture(url: str, where: str) -> None:
    """:raises Refusal: it is neither a web address nor a picture of a known kind."""
    if url.startswith(("http://", "https://")):
        return
    found = _DATA_URL.match(url)
    if found is None:
        words = "Expected a valid URL, but got a value with an invalid format."
        raise bad(f"Invalid '{where}'. {words}", "invalid_value", where)
    if found.group(1) not in _PICTURES:
        words = "Please make sure your image has of one the following formats: ['png', 'jpeg', 'gif', 'webp']."
        raise bad(f"You uploaded an unsupported image. {words}", "invalid_image_format", where)
    check_base64(found.group(3), where)


def check_file(url: str, where: str) -> None:
    """:raises Refusal: a file's bytes are no data URL."""
    found = _DATA_URL.match(url)
    if found is None or not found.group(1):
        words = "Expected a base64-encoded data URL with a MIME type (e.g. 'data:application/pdf;base64,…')."
        raise bad(f"Invalid '{where}'. {words}", "invalid_value", where)
    check_base64(found.group(3), where)


def check_base64(text: str, where: str) -> None:
    """:raises Refusal: it is no base64, or there is nothing in it."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise bad(f"Invalid '{where}'. Expected base64-encoded data.", "invalid_value", where)
