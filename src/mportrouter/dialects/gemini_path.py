"""
Where a Gemini request goes: the model and the kind of answer stand in the path, the form of a stream in the query
(https://ai.google.dev/api/generate-content).
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote

from ..errors import Kind, RouterError
from ..interfaces import Target

GENERATE = "generateContent"
STREAM = "streamGenerateContent"
COUNT = "countTokens"
#: The query of a stream of server-sent events; without it a stream is one JSON array, sent in pieces.
EVENTS = b"alt=sse"

#: Characters of a model's name; real ones have a few dozen, and it goes into headers and logs.
_MODEL_LIMIT = 256
_PATH = "/v1beta/models/{model}"
_TUNED = "tunedModels/"


class Address(NamedTuple):
    """
    What a path and its query say.

    :param model: without ``models/``; a tuned one with its ``tunedModels/``.
    :param method: :data:`GENERATE`, :data:`STREAM` or :data:`COUNT`.
    :param events: a stream is wanted as server-sent events.
    """

    model: str
    method: str
    events: bool


def read(path: bytes, query: bytes) -> Address:
    """
    :param path: ``/v1beta/models/{model}:{method}`` or the like.
    :raises RouterError: ``BAD_REQUEST`` where it names no model, or ``NOT_FOUND`` for another method.
    """
    text = path.decode("ascii", "replace")
    start = text.find("/models/")
    tuned = -1 if start >= 0 else text.find("/" + _TUNED)
    if start < 0 and tuned < 0:
        raise RouterError(Kind.BAD_REQUEST, "the path names no model (/v1beta/models/{model}:generateContent)")
    rest = text[start + 8 :] if start >= 0 else text[tuned + 1 :]
    # The method never has a colon; a model may (``qwen3:8b``).
    name, colon, method = rest.rpartition(":")
    if not colon:
        raise RouterError(Kind.BAD_REQUEST, "the path names no method (/v1beta/models/{model}:generateContent)")
    if method not in (GENERATE, STREAM, COUNT):
        raise RouterError(Kind.NOT_FOUND, f"there is no method {method[:64]} of a model here")
    model = unquote(name, errors="replace")
    if model.startswith("models/"):
        model = model[7:]
    if not model.strip():
        raise RouterError(Kind.BAD_REQUEST, "the model in the path is empty")
    if len(model) > _MODEL_LIMIT:
        raise RouterError(Kind.BAD_REQUEST, f"the model in the path has more than {_MODEL_LIMIT} characters")
    if not model.isprintable():
        raise RouterError(Kind.BAD_REQUEST, "the model in the path has characters that no name has")
    alt = parse_qs(query.decode("latin-1")).get("alt", [""])[-1]
    return Address(model, method, alt == "sse")


def write(target: Target, method: str) -> bytes:
    """The path at an upstream, for ``target.model``."""
    model = target.model.removeprefix("models/")
    form = target.capabilities.generate_path or _PATH
    if model.startswith(_TUNED) and form == _PATH:
        return f"/v1beta/{quote(model)}:{method}".encode()
    return f"{form.replace('{model}', quote(model, safe=''))}:{method}".encode()


def query(method: str) -> bytes:
    """The query at an upstream: nothing of the client's, whose ``key`` may stand there, passes."""
    return EVENTS if method == STREAM else b""
