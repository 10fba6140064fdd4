"""Tests for :mod:`mportrouter.tee`."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import zstandard
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from .. import tee
from ..coded import see_through
from ..conversation import Opaque
from ..errors import Kind, Verdict
from ..events import Close, Delta, End, Event, Failed, Finish, Hidden, Open, Start, Tally
from ..interfaces import Ending, IAnswerReader, IEventReader
from ..records import Usage
from ..tee import Tee, WholeTee
from .lines import LineReader, every_cut, spell, spelt
from .test_translator import HEAD, OVERLOADED, STREAM, TAIL, USAGE, words


class CountingReader(LineReader):
    """Counts what it is given to read."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[bytes] = []

    def feed(self, data: bytes) -> list[Event]:
        self.given.append(data)
        return super().feed(data)


def interesting(data: bytes) -> bool:
    return not data.startswith(b'{"is":"Delta"')


class Run:
    """What a tee tells of a stream."""

    def __init__(self, pieces: Iterable[bytes], coding: bytes = b"") -> None:
        self.reader = CountingReader()
        tee = see_through(Tee(self.reader, interesting), coding)
        self.states = [tee.state]
        self.body = b""
        for piece in pieces:
            self.body += tee.feed(piece)
            self.states.append(tee.state)
        rest, self.ending = tee.finish()
        self.body += rest
        self.state, self.verdict = tee.state, tee.verdict


class TeeTests(SynchronousTestCase):
    """Streams that pass untouched."""

    def test_interface(self) -> None:
        """Both keep to the contract."""
        verifyObject(IAnswerReader, Tee(LineReader(), interesting))
        verifyObject(IAnswerReader, WholeTee(LineReader()))

    def test_stream(self) -> None:
        """The bytes pass, and gate, usage, model and end are told, however it is cut and whatever ends its lines."""
        for stream in (STREAM, STREAM.replace(b"\n", b"\r\n"), STREAM.replace(b"data:", b"event: x\ndata:")):
            for pieces in every_cut(stream):
                run = Run(pieces)
                self.assertEqual(run.body, stream)
                self.assertEqual(run.ending, Ending(True, USAGE, None, "m"))
                self.assertEqual(list(dict.fromkeys(run.states)), ["hold", "content"])

    def test_very_object(self) -> None:
        """What is fed comes back as the very object."""
        reading = Tee(LineReader(), interesting)
        self.assertIs(reading.feed(STREAM), STREAM)

    def test_not_read(self) -> None:
        """After the first content only what is interesting is read."""
        stream = spelt(HEAD + words(*["word"] * 100) + TAIL)
        for pieces in every_cut(stream):
            run = Run(pieces)
            self.assertTrue(run.ending.complete)
            if len(pieces) > 1:
                self.assertLess(sum(b"Delta" in data for data in run.reader.given), 60)
        run = Run([piece + b"\n\n" for piece in stream.split(b"\n\n")[:-1]])
        self.assertEqual(sum(b"Delta" in data for data in run.reader.given), 1)

    def test_latest(self) -> None:
        """The last whole event is known, read or not."""
        stream = spelt(HEAD + words("a", "b", "c", "d"))
        for end in (b"", b"data: {", b": comment\n"):
            for pieces in every_cut(stream + end):
                reading = Tee(LineReader(), interesting)
                for piece in pieces:
                    reading.feed(piece)
                self.assertEqual(reading.latest, spell(Delta(0, "d"))[6:-2])

    def test_commits(self) -> None:
        """A call, reasoning, hidden state and an end commit; a start, usage and an opened text do not."""
        for event in (
            Open(0, "tool", name="f"),
            Open(0, "reasoning"),
            Hidden(0, Opaque("o", "m", "redacted", "x")),
            Finish("refusal"),
            Delta(0, "x"),
        ):
            self.assertEqual(Run([spelt([Start(), event])]).state, "content")
        for event in (Open(0, "text"), Tally(USAGE)):
            reading = Tee(LineReader(), interesting)
            reading.feed(spelt([Start(), event]))
            self.assertEqual(reading.state, "hold")

    def test_error_before_content(self) -> None:
        """An error before any content is an error."""
        for pieces in every_cut(spelt([Start(), OVERLOADED])):
            run = Run(pieces)
            self.assertEqual((run.state, run.verdict), ("error", Verdict(Kind.OVERLOADED, "too much")))

    def test_error_after_content(self) -> None:
        """One in the middle ends the answer, and its bytes pass."""
        stream = spelt([*HEAD, *words("a", "b"), OVERLOADED, *TAIL])
        for pieces in every_cut(stream):
            run = Run(pieces)
            self.assertEqual((run.body, run.state), (stream, "content"))
            self.assertEqual(run.ending.error, Verdict(Kind.OVERLOADED, "too much"))
            self.assertFalse(run.ending.complete)

    def test_cut(self) -> None:
        """A stream without its end is no whole one; what came is estimated, read or not."""
        stream = spelt(HEAD + words(*["w" * 40] * 100))
        for pieces in every_cut(stream, (1, 2)):
            run = Run(pieces)
            self.assertEqual(run.ending, Ending(False, Usage(output=1000, estimated=True), None, "m"))

    def test_no_content(self) -> None:
        """A stream that ends before any content is an error, and so is nothing at all."""
        for stream in (b"", spelt(HEAD)):
            run = Run([stream])
            assert run.verdict is not None
            self.assertEqual((run.state, run.verdict.kind, run.ending.complete), ("error", Kind.CUT, False))

    def test_last_blank_line(self) -> None:
        """A last event that lacks only its blank line counts."""
        for cut in (1, 2):
            self.assertTrue(Run([STREAM[:-cut]]).ending.complete)

    def test_no_stream(self) -> None:
        """What is no event stream is read by the dialect's reader as a whole."""

        @implementer(IEventReader)
        class RawReader:
            def __init__(self) -> None:
                self.raw = b""

            def feed(self, data: bytes) -> list[Event]:
                self.raw += data
                return []

            def finish(self) -> list[Event]:
                return [Failed(Verdict(Kind.RATE, self.raw.decode()))]

        reading = Tee(RawReader(), interesting)
        for piece in (b'{"error":', b'"slow down"}'):
            reading.feed(piece)
        reading.finish()
        self.assertEqual((reading.state, reading.verdict), ("error", Verdict(Kind.RATE, '{"error":"slow down"}')))

    def test_endless(self) -> None:
        """Neither many events without content nor one that never ends are waited for without limit."""
        self.patch(tee, "HOLD_LIMIT", 1000)
        for piece in (b": comment\n\n", b"data: " + b"x" * 100):
            reading = Tee(LineReader(), interesting)
            for _ in range(200):
                reading.feed(piece)
            assert reading.verdict is not None
            self.assertEqual((reading.state, reading.verdict.kind), ("error", Kind.GARBAGE))

    def test_coded(self) -> None:
        """A compressed stream passes as it came and is read all the same."""
        for coding, coded in ((b"gzip", gzip.compress(STREAM)), (b"zstd", zstandard.compress(STREAM))):
            for pieces in ([coded], [coded[i : i + 1] for i in range(len(coded))]):
                run = Run(pieces, coding)
                self.assertEqual((run.body, run.ending), (coded, Ending(True, USAGE, None, "m")))
        self.assertEqual(Run([STREAM], b"br").ending, Ending(True, None, None))


class WholeTeeTests(SynchronousTestCase):
    """Answers that are one text."""

    def test_whole(self) -> None:
        """Held until it is whole, the very bytes."""
        for pieces in every_cut(STREAM):
            reading = WholeTee(LineReader())
            for piece in pieces:
                self.assertIs(reading.feed(piece), piece)
                self.assertEqual(reading.state, "hold")
            self.assertEqual(reading.finish(), (b"", Ending(True, USAGE, None, "m")))
            self.assertEqual(reading.state, "content")

    def test_errors(self) -> None:
        """An error anywhere in it, or half of it, is an error."""
        for body, kind in (
            (spelt([Start(), OVERLOADED]), Kind.OVERLOADED),
            (spelt([*HEAD, *words("x"), OVERLOADED]), Kind.OVERLOADED),
            (spelt([*HEAD, *words("x")]), Kind.GARBAGE),
            (b"", Kind.CUT),
        ):
            reading = WholeTee(LineReader())
            reading.feed(body)
            _, ending = reading.finish()
            assert reading.verdict is not None
            self.assertEqual((reading.state, reading.verdict.kind, ending.complete), ("error", kind, False))

    def test_too_large(self) -> None:
        """What is too large to be held is no error message: it commits, and counts as whole when it ends."""
        self.patch(tee, "WHOLE_LIMIT", 1000)
        reading = WholeTee(LineReader())
        reading.feed(spell(Start()))
        for _ in range(20):
            reading.feed(spell(Delta(0, "x" * 100)))
        self.assertEqual(reading.state, "content")
        self.assertTrue(reading.finish()[1].complete)

    def test_coded(self) -> None:
        """A compressed answer is seen through."""
        reading = see_through(WholeTee(LineReader()), b"gzip")
        reading.feed(gzip.compress(spelt([*HEAD, *words("x"), Close(0), Finish("end"), End()])))
        self.assertEqual(reading.finish()[1], Ending(True, Usage(output=1, estimated=True), None, "m"))
