"""
The top level of a request body: which members it has, which model and what kind of answer it wants.

Three dialects begin alike; what else counts in them is their own business.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from . import splice
from .errors import Kind, RouterError
from .interfaces import Look

#: The JSON texts of a body's members by name.
Values = Mapping[str, msgspec.Raw | memoryview]

#: Characters of a model's name; real ones have a few dozen, and it goes into headers and logs.
_MODEL_LIMIT = 256

_string = msgspec.json.Decoder(str).decode
_integer = msgspec.json.Decoder(int).decode


@attrs.define(slots=True)
class BodyLook(Look):
    """
    A look that remembers where things are.

    :param body: the very bytes that were looked at.
    :param values: the members of the top level, JSON texts by name.
    """

    body: bytes = attrs.field(default=b"", repr=False, kw_only=True)
    values: Values = attrs.field(factory=dict, repr=False, kw_only=True)
    _spans: Mapping[str, splice.Member] | None = attrs.field(default=None, repr=False, kw_only=True)

    @property
    def spans(self) -> Mapping[str, splice.Member]:
        """Where the members stand: worked out when it is first wanted, which is when something must be edited."""
        if self._spans is None:
            self._spans = splice.members(self.body)
        return self._spans


def opened(body: bytes) -> tuple[Values, Mapping[str, splice.Member] | None, str, bool]:
    """
    :returns: the members, where they stand (where that is known already), the model, and whether events are wanted.
    :raises RouterError: ``BAD_REQUEST`` for what is no JSON object, or names no model.
    """
    spans: Mapping[str, splice.Member] | None = None
    values: Values | None = splice.values(body)
    try:
        if values is None:
            spans = splice.members(body)
            view = memoryview(body)
            values = {name: view[member.value : member.end] for name, member in spans.items()}
        if not body.isascii():
            body.decode("utf-8")
    except splice.Malformed as error:
        raise unreadable(error) from None
    except UnicodeDecodeError as error:
        raise RouterError(Kind.BAD_REQUEST, f"the request cannot be read: not UTF-8 (byte {error.start})") from None
    member = values.get("model")
    if member is None:
        raise RouterError(Kind.BAD_REQUEST, "`model` is missing")
    try:
        model = _string(member)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RouterError(Kind.BAD_REQUEST, "`model` must be a text") from None
    if not model.strip():
        raise RouterError(Kind.BAD_REQUEST, "`model` is empty")
    if len(model) > _MODEL_LIMIT:
        raise RouterError(Kind.BAD_REQUEST, f"`model` has more than {_MODEL_LIMIT} characters")
    stream = False
    if (member := values.get("stream")) is not None:
        value = bytes(member)
        if value == b"true":
            stream = True
        elif value not in (b"false", b"null"):
            raise RouterError(Kind.BAD_REQUEST, "`stream` must be true or false")
    return values, spans, model, stream


def integer(values: Values, name: str) -> int | None:
    """A member that is a number, ``None`` where it is not there or something else: the provider judges that."""
    member = values.get(name)
    if member is None:
        return None
    try:
        return _integer(member)
    except msgspec.DecodeError:
        return None


def unreadable(error: splice.Malformed) -> RouterError:
    """The refusal of a body that is not the JSON that was wanted."""
    return RouterError(Kind.BAD_REQUEST, f"the request cannot be read: {error}")
