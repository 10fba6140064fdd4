"""
Edit named members of a JSON text in place: everything that is not named keeps its bytes.

A provider binds prompt caches and thinking signatures to the exact bytes of a conversation, so a body must not be
re-serialised for the sake of one member. The fast road lets msgspec find the ends of the values; what msgspec refuses
and the standard library takes (lone surrogates, ``NaN``) goes a slower road with the same result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec

_WHITE = b" \t\n\r"
_NAME = re.compile(rb'[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_NEXT = re.compile(rb"[ \t\n\r]*([,}])")
_GAP = re.compile(r"[ \t\n\r]*")

_view: Callable[[msgspec.Raw], memoryview] = memoryview
_length: Callable[[memoryview], int] = len
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
#: Numbers stay texts: no limit on their digits, and nobody reads them here.
_lenient = json.JSONDecoder(parse_int=str, parse_float=str)


class Malformed(ValueError):
    """The text is not the JSON that was wanted; the message says what is wrong and where."""


class Member(NamedTuple):
    """
    Where one member of an object stands, as offsets into the text.

    :param start: the opening quote of its name.
    :param value: the first byte of its value.
    :param end: one past the last byte of its value.
    """

    start: int
    value: int
    end: int


def values(body: bytes) -> dict[str, msgspec.Raw] | None:
    """
    The values of a JSON object by name: the fast road to them, without where they stand.

    :returns: ``None`` where :func:`members` has to be asked: for a text that is not compact, has escaped names or one
        name twice, or is none that it takes either.
    """
    try:
        found = _object(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # A compact text with distinct, unescaped names is exactly as long as its parts, and nothing else is: every second
    # occurrence of a name, every escape and every white space makes it longer.
    names = "".join(found)
    size = len(names) + sum(map(_length, map(_view, found.values()))) + 4 * len(found) + 1
    return found if found and size == len(body) and names.isascii() else None


def offsets(values: Mapping[str, msgspec.Raw]) -> dict[str, Member]:
    """Where the members of a compact object stand, from its :func:`values`."""
    found: dict[str, Member] = {}
    position = 1
    for name, raw in values.items():
        value = position + (len(name) if name.isascii() else len(name.encode())) + 3
        end = value + memoryview(raw).nbytes
        found[name] = Member(position, value, end)
        position = end + 1
    return found


def members(body: bytes) -> dict[str, Member]:
    """
    The members of a JSON object, in order.

    :raises Malformed: for a text that is no JSON object, that is nested too deep, or that has one name twice (RFC 8259
        §4 leaves open which of the two counts, so two readers could see different values).
    """
    try:
        values = _object(body)
    except msgspec.ValidationError:
        raise Malformed("the JSON text is not an object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _members_slowly(body)
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    found = offsets(values)
    # As in :func:`values`: no other text is as long as its parts.
    if found and found[next(reversed(found))].end + 1 == len(body):
        return found
    return _walk(body, values)


def _walk(body: bytes, values: dict[str, msgspec.Raw]) -> dict[str, Member]:
    """Offsets in a valid text with white space or escaped names, and the proof that no name stands twice."""
    found: dict[str, Member] = {}
    position = len(body) - len(body.lstrip(_WHITE)) + 1
    if not values:
        return found
    while True:
        match = _NAME.match(body, position)
        if match is None:
            raise Malformed("the JSON object has a member twice")
        name = json.loads(match[1])
        value = match.end()
        raw = memoryview(values[name])
        # Only the last of two members of one name is in ``values``: the first then differs here or is met again.
        if name in found or not body.startswith(raw, value):
            raise Malformed(f"the JSON object has the member {name!r} twice")
        end = value + raw.nbytes
        found[name] = Member(match.start(1), value, end)
        after = _NEXT.match(body, end)
        if after is None:
            raise Malformed(f"the JSON object has the member {name!r} twice")
        position = after.end()
        if after[1] == b"}":
            return found


def _members_slowly(body: bytes) -> dict[str, Member]:
    text, ascii_only = _text(body)
    found: dict[str, Member] = {}
    offset, counted = 0, 0

    def byte(index: int) -> int:
        nonlocal offset, counted
        if ascii_only:
            return index
        offset += len(text[counted:index].encode())
        counted = index
        return offset

    try:
        at = _skip(text, 0)
        if text[at : at + 1] != "{":
            _lenient.raw_decode(text, at)
            raise Malformed("the JSON text is not an object")
        at = _skip(text, at + 1)
        closed = text[at : at + 1] == "}"
        while not closed:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("a member's name in double quotes is wanted", text, at)
            name, after = _lenient.raw_decode(text, at)
            colon = _skip(text, after)
            if text[colon : colon + 1] != ":":
                raise json.JSONDecodeError("a colon is wanted", text, colon)
            value = _skip(text, colon + 1)
            end = _lenient.raw_decode(text, value)[1]
            if name in found:
                raise Malformed(f"the JSON object has the member {name!r} twice")
            found[name] = Member(byte(at), byte(value), byte(end))
            at = _skip(text, end)
            closed = text[at : at + 1] == "}"
            if not closed:
                if text[at : at + 1] != ",":
                    raise json.JSONDecodeError("a comma or the end of the object is wanted", text, at)
                at = _skip(text, at + 1)
        if _skip(text, at + 1) != len(text):
            raise json.JSONDecodeError("something follows the object", text, at + 1)
    except json.JSONDecodeError as error:
        raise _malformed(error) from None
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    return found


def elements(array: bytes) -> list[bytes]:
    """
    The elements of a JSON array, each with its own bytes.

    :raises Malformed: for a text that is no JSON array, or that is nested too deep.
    """
    try:
        return [bytes(raw) for raw in _array(array)]
    except msgspec.ValidationError:
        raise Malformed("the JSON text is not an array") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    text, _ = _text(array)
    found: list[bytes] = []
    try:
        at = _skip(text, 0)
        if text[at : at + 1] != "[":
            _lenient.raw_decode(text, at)
            raise Malformed("the JSON text is not an array")
        at = _skip(text, at + 1)
        closed = text[at : at + 1] == "]"
        while not closed:
            end = _lenient.raw_decode(text, at)[1]
            found.append(text[at:end].encode())
            at = _skip(text, end)
            closed = text[at : at + 1] == "]"
            if not closed:
                if text[at : at + 1] != ",":
                    raise json.JSONDecodeError("a comma or the end of the array is wanted", text, at)
                at = _skip(text, at + 1)
        if _skip(text, at + 1) != len(text):
            raise json.JSONDecodeError("something follows the array", text, at + 1)
    except json.JSONDecodeError as error:
        raise _malformed(error) from None
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    return found


def elements_of(array: bytes) -> list[bytes]:
    """The same for a text that may be anything: none where it is no array."""
    try:
        return elements(array)
    except Malformed:
        return []


def edit(
    body: bytes,
    replace: Mapping[str, bytes] | None = None,
    drop: Collection[str] = (),
    spans: Mapping[str, Member] | None = None,
) -> bytes:
    """
    The object with some members replaced, added or left out, and every other byte as it was.

    :param replace: JSON texts by name; a name that is not there yet is added at the end.
    :param drop: names to leave out together with one comma each; names that are not there are no error.
    :param spans: what :func:`members` gave for this very ``body``, where it is known already.
    :raises Malformed: as :func:`members`.
    """
    if spans is None:
        spans = members(body)
    replace = replace or {}
    cuts: list[tuple[int, int, bytes]] = []
    last: int | None = None  # end of the last member that stays
    hole: int | None = None  # start of a run of left-out members at the very front
    for name, member in spans.items():
        if name in drop:
            if last is not None:
                cuts.append((last, member.end, b""))
                last = member.end
            elif hole is None:
                hole = member.start
            continue
        if hole is not None:
            cuts.append((hole, member.start, b""))
            hole = None
        if name in replace:
            cuts.append((member.value, member.end, replace[name]))
        last = member.end
    tail = list(spans.values())[-1].end if spans else body.rindex(b"}")
    if hole is not None:
        cuts.append((hole, tail, b""))
    added = [name for name in replace if name not in spans]
    if added:
        text = b",".join(json.dumps(name).encode() + b":" + replace[name] for name in added)
        cuts.append((tail, tail, text if last is None else b"," + text))
    pieces: list[bytes] = []
    position = 0
    for start, end, new in cuts:
        pieces.append(body[position:start])
        pieces.append(new)
        position = end
    pieces.append(body[position:])
    return b"".join(pieces)


def loads(text: bytes) -> Any:
    """
    The value of a JSON text, by whichever parser takes it.

    :raises Malformed: for what neither takes.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    decoded, _ = _text(text)
    try:
        return json.loads(decoded)
    except json.JSONDecodeError as error:
        raise _malformed(error) from None
    except RecursionError:
        raise Malformed("the JSON text is nested too deep") from None
    except ValueError:  # an integer of more digits than sys.get_int_max_str_digits() allows
        return _lenient.decode(decoded)


def value_of(text: bytes) -> Any:
    """The value of a text that may be anything: ``None`` where it is no JSON."""
    try:
        return loads(text)
    except Malformed:
        return None


def dumps(value: Any) -> bytes:
    """Compact JSON in ASCII: the one form that also carries lone surrogates."""
    return json.dumps(value, separators=(",", ":")).encode()


def _text(body: bytes) -> tuple[str, bool]:
    if body.startswith(b"\xef\xbb\xbf"):
        raise Malformed("the JSON text begins with a byte order mark (RFC 8259 §8.1 forbids it)")
    try:
        return body.decode("utf-8"), body.isascii()
    except UnicodeDecodeError as error:
        raise Malformed(f"the JSON text is not UTF-8 (byte {error.start})") from None


def _skip(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


def _malformed(error: json.JSONDecodeError) -> Malformed:
    return Malformed(f"malformed JSON: {error.msg} (line {error.lineno}, column {error.colno})")
