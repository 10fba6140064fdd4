"""Tests for :mod:`mportrouter.sse`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import sse
from ..sse import Event


def frame(*pieces: bytes, end: bool = True, limit: int = sse.EVENT_LIMIT) -> list[Event]:
    """Every event of a stream that comes in these pieces."""
    framer = sse.Framer(limit)
    events = []
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next()) is not None:
            events.append(event)
    if end and (event := framer.finish()) is not None:
        events.append(event)
    return events


_line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
_values = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=10).map(
    lambda text: text.encode()
)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream in any mixture of line ends, and the events in it."""
    stream, events = b"", []
    if draw(st.booleans()):
        stream += b"\xef\xbb\xbf"
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.none() | _values.filter(lambda value: not value.startswith(b" ")))
        data = draw(st.lists(_values, max_size=3))
        space = draw(st.sampled_from([b" ", b""]))
        lines = [b": comment"] if draw(st.booleans()) else []
        if name is not None:
            lines.append(b"event:" + space + name)
        # Without the optional space a value may not begin with one: it would be taken for it.
        values = [value.lstrip(b" ") if not space else value for value in data]
        lines += [b"data:" + space + value for value in values]
        if draw(st.booleans()):
            lines.append(b"id: 7")
        for line in [*lines, b""]:
            stream += line + draw(_line_ends)
        # CR, then LF of an empty line, is one line end and not two.
        if values:
            events.append(Event(name or b"", b"\n".join(values)))
    return stream, events


class FramerTests(SynchronousTestCase):
    """Bytes in, events out."""

    def test_plain(self) -> None:
        """Events come out in order with their names and data."""
        stream = b'event: a\ndata: {"x":1}\n\nevent: b\ndata: 2\n\n'
        self.assertEqual(frame(stream), [Event(b"a", b'{"x":1}'), Event(b"b", b"2")])

    def test_forms(self) -> None:
        """The forms that the specification allows are all understood."""
        for stream, wanted in (
            (b"data:x\n\n", [Event(b"", b"x")]),
            (b"data:  x\n\n", [Event(b"", b" x")]),
            (b"event:a\ndata:x\n\n", [Event(b"a", b"x")]),
            (b"data: x\nevent: a\n\n", [Event(b"a", b"x")]),
            (b"data: x\ndata: y\n\n", [Event(b"", b"x\ny")]),
            (b"event: a\ndata: x\ndata: y\n\n", [Event(b"a", b"x\ny")]),
            (b"data\n\n", [Event(b"", b"")]),
            (b": comment\n\n", []),
            (b"event: a\n\ndata: x\n\n", [Event(b"", b"x")]),
            (b"retry: 10\nid: 1\nfoo: bar\nnonsense\ndata: x\n\n", [Event(b"", b"x")]),
            (b"\n\n\ndata: x\n\n\n\n", [Event(b"", b"x")]),
            (b"\xef\xbb\xbfdata: x\n\n", [Event(b"", b"x")]),
            (b"data: x\r\n\r\n", [Event(b"", b"x")]),
            (b"data: x\r\rdata: y\r\r", [Event(b"", b"x"), Event(b"", b"y")]),
            (b"data: x\r\n\ndata: y\n\r\n", [Event(b"", b"x"), Event(b"", b"y")]),
        ):
            self.assertEqual(frame(stream), wanted, repr(stream))
            self.assertEqual(frame(*(stream[i : i + 1] for i in range(len(stream)))), wanted, repr(stream))

    def test_other_line_ends(self) -> None:
        """Only LF, CR and CRLF end a line, not the other characters that Python takes for line ends."""
        data = "a\u2028b\u0085c\x0bd\x0ce\x1cf".encode()
        self.assertEqual(frame(b"data: " + data + b"\n\n"), [Event(b"", data)])
        self.assertEqual(frame(b"data: " + data + b"\r\r"), [Event(b"", data)])

    @settings(deadline=None, max_examples=300)
    @given(_streams(), st.data())
    def test_cuts(self, drawn: tuple[bytes, list[Event]], data: st.DataObject) -> None:
        """However a stream is cut into reads, the events are the same."""
        stream, _ = drawn
        whole = frame(stream)
        self.assertEqual(frame(*(stream[i : i + 1] for i in range(len(stream)))), whole)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        self.assertEqual(frame(*pieces), whole)

    @settings(deadline=None, max_examples=200)
    @given(_streams(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
    def test_wanted(self, drawn: tuple[bytes, list[Event]], end: bytes) -> None:
        """The events are those that were written, in each kind of line end."""
        stream, events = drawn
        lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\r\n" not in stream and b"\r" not in stream:
            self.assertEqual(frame(lines.replace(b"\n", end)), events)

    def test_late_cr(self) -> None:
        """A CR that comes late does not hide the lines before it."""
        self.assertEqual(
            frame(b"event: a\nda", b"ta: x\r\n\r\nevent: b\ndata: y\n\n"), [Event(b"a", b"x"), Event(b"b", b"y")]
        )

    def test_no_last_blank_line(self) -> None:
        """An event at the end that lacks only its blank line counts where its data is whole JSON."""
        for end in (b"", b"\n", b"\r", b"\r\n"):
            self.assertEqual(frame(b'event: a\ndata: {"x":1}' + end), [Event(b"a", b'{"x":1}')])
        self.assertEqual(frame(b'event: a\ndata: {"x":'), [])
        self.assertEqual(frame(b"event: a"), [])
        self.assertEqual(frame(b'data: "\\ud800"'), [Event(b"", b'"\\ud800"')])
        self.assertEqual(frame(b"data: " + b"[" * 100_000), [])

    def test_large(self) -> None:
        """An event of several MiB passes in small reads, in time that grows with its size only."""
        data = b"x" * (5 * 1024 * 1024)
        stream = b"data: " + data + b"\n\n"
        pieces = [stream[i : i + 4096] for i in range(0, len(stream), 4096)]
        self.assertEqual(frame(*pieces), [Event(b"", data)])

    def test_limit(self) -> None:
        """An event past the limit is refused, in one line or in many, before it is whole."""
        for piece in (b"x" * 100, b"data: xxxx\n", b"data: xxxx\r\n"):
            with self.assertRaises(sse.EventTooLarge):
                frame(*[piece] * 100, limit=300)
        self.assertEqual(len(frame(b"data: x\n\n" * 100, limit=300)), 100)

    def test_rest(self) -> None:
        """After an event the bytes behind it are there to go on with."""
        framer = sse.Framer()
        framer.feed(b"data: a\n\ndata: b\n\nda")
        framer.next()
        self.assertEqual(framer.rest(), b"data: b\n\nda")


class EventTests(SynchronousTestCase):
    """Events written."""

    def test_round_trip(self) -> None:
        """What is written is framed as it was meant."""
        self.assertEqual(frame(sse.event("ping", b'{"type":"ping"}')), [Event(b"ping", b'{"type":"ping"}')])
