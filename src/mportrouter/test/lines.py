"""A dialect for tests of what stands between readers and writers: each event is a neutral event as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import msgspec
from zope.interface import implementer

from .. import splice, sse
from ..collector import Collector
from ..errors import Kind, RouterError, Verdict
from ..events import Cite, Close, Delta, End, Event, Failed, Finish, Hidden, Open, Other, Searched, Sign, Start, Tally
from ..interfaces import IEventReader, IEventWriter

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Start, Open, Delta, Cite, Sign, Close, Hidden, Searched, Other, Tally, Finish, End, Failed)
}


def spell(event: Event, **more: Any) -> bytes:
    """An event of the dialect; ``more`` are members that mean nothing."""
    value: Any = {"is": type(event).__name__, **more}
    if isinstance(event, Failed):
        value |= {"kind": event.verdict.kind.value, "message": event.verdict.message}
    else:
        value |= msgspec.to_builtins(event)
    return b"data: " + splice.dumps(value) + b"\n\n"


def spelt(events: Iterable[Event]) -> bytes:
    return b"".join(spell(event) for event in events)


@implementer(IEventReader)
class LineReader:
    """Reads the dialect. A stream that ends without ``End`` is cut."""

    def __init__(self) -> None:
        self._framer = sse.Framer()
        self._over = False
        self.skipped = ""
        self.templates = 0

    def feed(self, data: bytes) -> list[Event]:
        self._framer.feed(data)
        events: list[Event] = []
        while not self._over and (event := self._framer.next()) is not None:
            self._take(splice.loads(event.data), events)
        return events

    def _take(self, value: Any, events: list[Event]) -> None:
        kind = _TYPES[value.pop("is")]
        if kind is Failed:
            events.append(Failed(Verdict(Kind(value["kind"]), value["message"])))
        elif kind is Delta:
            if value["text"]:
                events.append(Delta(value["key"], value["text"]))
        else:
            events.append(msgspec.convert(value, kind))
        self._over = kind in (End, Failed)

    def finish(self) -> list[Event]:
        return [] if self._over else [Failed(Verdict(Kind.CUT, "cut"))]


class LearningReader(LineReader):
    """The same, which knows what stands around a text."""

    def template(self, event: bytes) -> tuple[bytes, bytes] | None:
        self.templates += 1
        return sse.around(event, b"text")

    def passed(self, text: str) -> None:
        self.skipped += text


@implementer(IEventWriter)
class LineWriter:
    """Writes each event as it comes."""

    content_type = b"text/event-stream"

    def __init__(self, interleaves: bool = False) -> None:
        self.interleaves = interleaves
        self.skipped = ""
        self.key: int | None = None

    def write(self, event: Event) -> bytes:
        if isinstance(event, Delta):
            self.key = event.key
            return b'data: {"to":%d,"say":%b}\n\n' % (event.key, splice.dumps(event.text))
        return spell(event)

    def fail(self, error: RouterError) -> bytes:
        return b"data: failed %b by %b\n\n" % (error.kind.value.encode(), error.by.encode())


class LearningWriter(LineWriter):
    """The same, which knows what stands around a text."""

    def template(self) -> tuple[bytes, bytes] | None:
        return b'data: {"to":%d,"say":"' % (self.key or 0), b'"}\n\n'

    def passed(self, text: str) -> None:
        self.skipped += text


@implementer(IEventWriter)
class WholeWriter:
    """Writes the answer at its end."""

    content_type = b"application/json"
    interleaves = True

    def __init__(self) -> None:
        self.collector = Collector()

    def write(self, event: Event) -> bytes:
        self.collector.take(event)
        if isinstance(event, End):
            return msgspec.json.encode(self.collector.answer())
        return b""

    def fail(self, error: RouterError) -> bytes:
        return b""


def cuts(data: bytes, seed: int, pieces: int = 6) -> list[bytes]:
    """The bytes in about so many pieces, cut anywhere."""
    places = sorted(Random(seed).sample(range(1, len(data)), min(pieces - 1, len(data) - 1))) if len(data) > 1 else []
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def every_cut(data: bytes, seeds: Sequence[int] = range(6)) -> Iterator[list[bytes]]:
    """Whole, byte by byte, event by event, and at random places."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    blank = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
    *whole, rest = data.split(blank)
    yield [*(piece + blank for piece in whole), rest]
    for seed in seeds:
        yield cuts(data, seed, 2 + seed * 5)
