"""Tests for :mod:`mportrouter.translator`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from itertools import pairwise

import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import sse, translator
from ..conversation import Opaque
from ..errors import Kind, RouterError, Verdict
from ..events import Close, Delta, End, Event, Failed, Finish, Hidden, Open, Start, Tally
from ..interfaces import Ending, IAnswerReader, IEventReader, IEventWriter
from ..records import Usage
from ..translator import Translator
from .lines import (
    LearningReader,
    LearningWriter,
    LineReader,
    LineWriter,
    WholeWriter,
    every_cut,
    spell,
    spelt,
)

USAGE = Usage(input=3, output=4)
HEAD: list[Event] = [Start("id", "m"), Open(0, "text")]
TAIL: list[Event] = [Close(0), Finish("end"), Tally(USAGE), End()]
OVERLOADED = Failed(Verdict(Kind.OVERLOADED, "too much", 7.0))


def words(*texts: str) -> list[Event]:
    return [Delta(0, text) for text in texts]


STREAM = spelt(HEAD + words("Hello", " world", "!\n", "\u4f60", "a", "b", "c") + TAIL)


class Run:
    """What a translator made of an answer."""

    def __init__(self, pieces: Iterable[bytes], translator: Translator) -> None:
        self.states = [translator.state]
        self.body = b""
        for piece in pieces:
            self.body += translator.feed(piece)
            self.states.append(translator.state)
        self.fed = self.body
        rest, self.ending = translator.finish()
        self.body += rest
        self.state, self.verdict = translator.state, translator.verdict


def streamed(pieces: Iterable[bytes], coding: bytes = b"") -> Run:
    return Run(pieces, Translator(LineReader(), LineWriter(), coding=coding, by="acme"))


def whole(pieces: Iterable[bytes]) -> Run:
    return Run(pieces, Translator(LineReader(), WholeWriter(), by="acme"))


def learning(pieces: Iterable[bytes]) -> Run:
    return Run(pieces, Translator(LearningReader(), LearningWriter(), by="acme"))


class StreamTests(SynchronousTestCase):
    """A client of a stream."""

    def test_interface(self) -> None:
        """It does what a reader of the same dialect does."""
        verifyObject(IAnswerReader, Translator(LineReader(), LineWriter()))
        verifyObject(IEventReader, LineReader())
        verifyObject(IEventWriter, LineWriter())
        self.assertEqual(Translator(LineReader(), LineWriter()).content_type, b"text/event-stream")

    def test_whole_stream(self) -> None:
        """A whole answer comes out the same however it is cut, and its end is told."""
        expected = streamed([STREAM])
        self.assertIn(b'"say":"Hello"', expected.body)
        self.assertTrue(expected.body.endswith(spell(Tally(USAGE)) + spell(Finish("end")) + spell(End())))
        for pieces in every_cut(STREAM):
            run = streamed(pieces)
            self.assertEqual(run.body, expected.body)
            self.assertEqual((run.ending, run.state), (Ending(True, USAGE, None, "m"), "content"))

    def test_commit(self) -> None:
        """The first content commits: no start, no usage, no opened text, no white space."""
        translator = Translator(LineReader(), LineWriter())
        for event in (Start("id", "m"), Tally(USAGE), Open(0, "text"), Delta(0, "\n")):
            translator.feed(spell(event))
            self.assertEqual(translator.state, "hold")
        translator.feed(spell(Delta(0, "x")))
        self.assertEqual(translator.state, "content")

    def test_commits(self) -> None:
        """A call, hidden reasoning and the end of an empty answer commit too."""
        for event in (Open(1, "tool", name="f"), Hidden(1, Opaque("o", "m", "redacted", "x"))):
            translator = Translator(LineReader(), LineWriter())
            translator.feed(spell(Start()) + spell(event))
            self.assertEqual(translator.state, "content")
        for stop in ("refusal", "end"):
            run = streamed([spelt([Start(), Finish(stop), End()])])
            self.assertEqual((run.state, run.ending.complete), ("content", True))
            self.assertIn(spell(Finish(stop)), run.body)

    def test_error_before_content(self) -> None:
        """An error before any content is an error, however it is cut, and nothing of it is written."""
        stream = spelt([Start("id", "m"), Open(0, "text"), OVERLOADED])
        for pieces in every_cut(stream):
            run = streamed(pieces)
            self.assertEqual((run.state, run.verdict), ("error", Verdict(Kind.OVERLOADED, "too much")))
            self.assertNotIn(b"failed", run.body)
            self.assertFalse(run.ending.complete)

    def test_error_after_content(self) -> None:
        """An error in the middle is written as the client's dialect does it, once, with whose words it is."""
        stream = spelt([*HEAD, *words("Hello"), OVERLOADED, Delta(0, "x"), End()])
        for pieces in every_cut(stream):
            run = streamed(pieces)
            self.assertTrue(run.body.endswith(b"data: failed overloaded by acme\n\n"))
            self.assertEqual(run.body.count(b"failed"), 1)
            self.assertEqual(run.state, "content")
            self.assertEqual(run.ending.error, Verdict(Kind.OVERLOADED, "too much"))
            self.assertFalse(run.ending.complete)

    def test_own_words(self) -> None:
        """What the router itself found wrong is not told as the provider's words."""
        run = streamed([spelt([*HEAD, *words("x"), Failed(Verdict(Kind.GARBAGE, "no JSON"))])])
        self.assertTrue(run.body.endswith(b"data: failed garbage by \n\n"))

    def test_cut(self) -> None:
        """A stream without an end gets none, and says nothing: why it broke off is the relay's to tell."""
        stream = spelt([*HEAD, *words("Hello")])
        for end in (b"", spell(Failed(Verdict(Kind.CUT, "gone")))):
            for pieces in every_cut(stream + end):
                run = streamed(pieces)
                self.assertEqual(run.body, streamed([stream]).fed)
                self.assertEqual(run.ending, Ending(False, Usage(output=2, estimated=True), None, "m"))
        translator = Translator(LineReader(), LineWriter())
        translator.feed(stream)
        broken = translator.broken(RouterError(Kind.TIMEOUT, "silence"))
        self.assertEqual(broken, b"data: failed timeout by \n\n")

    def test_cut_in_a_call(self) -> None:
        """Half a call is not closed."""
        run = streamed([spelt([Start(), Open(0, "tool", name="f"), Delta(0, '{"a":')])])
        self.assertNotIn(b"Close", run.body)
        self.assertFalse(run.ending.complete)

    def test_usage_of_a_cut_answer(self) -> None:
        """What was told before the cut counts, and the output by its size, where that is more."""
        for said, output in (("x" * 400, 100), ("x", 4)):
            run = streamed([spelt([Start(), Tally(USAGE), *HEAD[1:], *words(said)])])
            self.assertEqual(run.ending.usage, Usage(input=3, output=output, estimated=True))
        run = streamed([spelt([*HEAD, *words("\u4f60" * 4)])])
        self.assertEqual(run.ending.usage, Usage(output=3, estimated=True))
        self.assertIsNone(streamed([spelt([Start()])]).ending.usage)
        self.assertEqual(USAGE, Usage(input=3, output=4))

    def test_after_the_end(self) -> None:
        """What comes after the end is passed over."""
        expected = streamed([STREAM])
        run = streamed([STREAM, b"more", spell(Delta(0, "x")), spell(OVERLOADED)])
        self.assertEqual((run.body, run.ending), (expected.body, expected.ending))

    def test_nothing(self) -> None:
        """An empty answer is a cut one before any content."""
        run = streamed([])
        assert run.verdict is not None
        self.assertEqual((run.state, run.verdict.kind, run.body), ("error", Kind.CUT, b""))


class WholeTests(SynchronousTestCase):
    """A client that wants one JSON text."""

    def test_held(self) -> None:
        """Nothing is shown before the end, and everything at the end, however it was cut."""
        expected = whole([STREAM]).body
        self.assertIn(b"Hello world!", expected)
        for pieces in every_cut(STREAM):
            run = whole(pieces)
            self.assertEqual((run.fed, set(run.states), run.state), (b"", {"hold"}, "content"))
            self.assertEqual((run.body, run.ending), (expected, Ending(True, USAGE, None, "m")))

    def test_errors(self) -> None:
        """An error anywhere, or a cut, is an error of the whole answer."""
        for end, kind in ((spell(OVERLOADED), Kind.OVERLOADED), (b"", Kind.CUT)):
            run = whole([spelt([*HEAD, *words("Hello")]), end])
            assert run.verdict is not None
            self.assertEqual((run.state, run.verdict.kind, run.body), ("error", kind, b""))
            self.assertEqual(run.ending.usage, Usage(output=2, estimated=True))

    def test_too_large(self) -> None:
        """An answer that outgrows what may be held is an error; a stream of the same size is none."""
        self.patch(translator, "WHOLE_LIMIT", 1000)
        stream = spelt(HEAD + words(*["x" * 100] * 11) + TAIL)
        for pieces in every_cut(stream, (1, 2)):
            run = whole(pieces)
            assert run.verdict is not None
            self.assertEqual((run.state, run.verdict.kind), ("error", Kind.GARBAGE))
            self.assertTrue(streamed(pieces).ending.complete)

    def test_endless_event(self) -> None:
        """So is an answer in which no event ever ends."""
        self.patch(translator, "WHOLE_LIMIT", 1000)
        for run in (whole([b"data: " + b"x" * 400] * 4), streamed([b"data: " + b"x" * 400] * 4)):
            assert run.verdict is not None
            self.assertEqual((run.state, run.verdict.kind), ("error", Kind.GARBAGE))


class CodedTests(SynchronousTestCase):
    """Answers with a content coding."""

    def coded(self) -> Iterable[tuple[bytes, bytes]]:
        yield b"gzip", gzip.compress(STREAM)
        yield b"deflate", zlib.compress(STREAM)
        yield b"zstd", zstandard.compress(STREAM)

    def test_decoded(self) -> None:
        """A compressed answer is read, however it is cut."""
        expected = streamed([STREAM])
        for coding, coded in self.coded():
            for pieces in ([coded], [coded[i : i + 1] for i in range(len(coded))]):
                run = streamed(pieces, coding)
                self.assertEqual((run.body, run.ending), (expected.body, expected.ending))

    def test_cut(self) -> None:
        """One that ends too soon is cut."""
        for coding, coded in self.coded():
            run = streamed([coded[:-30]], coding)
            self.assertFalse(run.ending.complete)

    def test_unknown(self) -> None:
        """A coding that is not known is an error that another upstream may not have."""
        run = streamed([STREAM], b"br")
        assert run.verdict is not None
        self.assertEqual((run.state, run.verdict.kind, run.body), ("error", Kind.GARBAGE, b""))

    def test_damaged(self) -> None:
        """Damage before content is an error, after it a cut."""
        run = streamed([b"\xff" * 50], b"gzip")
        assert run.verdict is not None
        self.assertEqual((run.state, run.verdict.kind), ("error", Kind.GARBAGE))
        coder = zlib.compressobj(6, zlib.DEFLATED, 31)
        head = coder.compress(spelt(HEAD + words("Hello"))) + coder.flush(zlib.Z_SYNC_FLUSH)
        run = streamed([head, b"\xff" * 50, b"more"], b"gzip")
        self.assertEqual((run.state, run.ending.complete, run.ending.error), ("content", False, None))
        self.assertEqual(run.body, streamed([spelt(HEAD + words("Hello"))]).fed)


class TemplateTests(SynchronousTestCase):
    """Events that are rewritten without being read."""

    def test_same_bytes(self) -> None:
        """What is written is the same, however the stream is cut."""
        events = [*HEAD, *words("a", "b", "c\n", "d", '"', "e", "\u4f60", "f", "g\ud83d", "\ude00h", "i", "j")]
        events += [Open(1, "reasoning"), Delta(1, "r"), Delta(1, "s"), Delta(1, "t"), Delta(0, "k"), Delta(0, "l")]
        events += [Open(2, "tool", name="f"), Delta(2, "{"), Delta(2, "}"), Delta(0, "m"), Delta(0, "n"), *TAIL]
        stream = spelt(events)
        expected = streamed([stream])
        self.assertTrue(expected.ending.complete)
        for pieces in every_cut(stream, range(20)):
            run = learning(pieces)
            self.assertEqual((run.body, run.ending), (expected.body, expected.ending))

    def test_not_read(self) -> None:
        """Most of a running text is not read, in one piece or event by event, and both sides are told of it."""
        stream = spelt(HEAD + words(*["word"] * 200) + TAIL)
        for pieces in ([stream], [piece + b"\n\n" for piece in stream.split(b"\n\n")[:-1]]):
            reader, writer = LearningReader(), LearningWriter()
            run = Run(pieces, Translator(reader, writer))
            self.assertEqual(run.body, streamed([stream]).body)
            self.assertEqual(run.ending, Ending(True, USAGE, None, "m"))
            self.assertGreater(len(reader.skipped), 4 * 190)
            self.assertEqual(reader.skipped, writer.skipped)
            self.assertLess(reader.templates, 5)

    def test_payload(self) -> None:
        """The size of what was not read counts where a cut answer is estimated."""
        stream = spelt(HEAD + words(*["word"] * 200))
        self.assertEqual(learning([stream]).ending, streamed([stream]).ending)

    def test_other_members(self) -> None:
        """An event with the same text but something else beside it is read."""
        stream = spelt(HEAD + words("a", "b"))
        stream += b"".join(spell(Delta(0, f"x{number}"), at=number) for number in range(100))
        stream += spelt(words("c", "d") + TAIL)
        for pieces in every_cut(stream, (1,)):
            reader = LearningReader()
            run = Run(pieces, Translator(reader, LearningWriter()))
            self.assertEqual(run.body, streamed([stream]).body)
            self.assertLess(reader.templates, 50)

    def test_empty_text(self) -> None:
        """An event without text writes nothing."""
        stream = spelt(HEAD + words("a", "b", "", "c", "", "", "d") + TAIL)
        for pieces in every_cut(stream):
            self.assertEqual(learning(pieces).body, streamed([stream]).body)

    def test_line_ends(self) -> None:
        """Other line ends, comments and events without a blank line at the end are read as ever."""
        for stream in (
            STREAM.replace(b"\n", b"\r\n"),
            STREAM.replace(b"\n", b"\r"),
            STREAM.replace(b"\n\n", b"\n\n: comment\n\n"),
            STREAM.replace(b"\n\ndata", b"\n\n\n\ndata"),
            STREAM.replace(b"data: ", b"data:"),
        ):
            for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))], [stream[:300], stream[300:]]):
                self.assertEqual(learning(pieces).body, streamed([STREAM]).body)

    def test_held_answer(self) -> None:
        """An answer that is held until it is whole is read event by event."""
        run = Run([STREAM], Translator(LearningReader(), WholeWriter()))
        self.assertEqual(run.body, whole([STREAM]).body)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from(["a", "word ", "\n", "\\", '"', "\u4f60", "\x7f", "", " ", "\ud83d", "\ude00", "{}"]),
            ),
            max_size=60,
        ),
        st.lists(st.integers(0, 10_000), max_size=12),
    )
    def test_any(self, steps: list[tuple[int, str]], places: list[int]) -> None:
        """For any answer, cut anywhere, the short way writes what the long way writes."""
        kinds = ("text", "text", "reasoning", "tool")
        events: list[Event] = [Start("id", "m")]
        opened: set[int] = set()
        for key, said in steps:
            if key not in opened:
                opened.add(key)
                events.append(Open(key, kinds[key], name="f" if key == 3 else ""))
            events.append(Delta(key, said))
        stream = spelt([*events, *TAIL])
        marks = sorted({0, len(stream), *(place % len(stream) for place in places)})
        pieces = [stream[start:end] for start, end in pairwise(marks)]
        expected, run = streamed([stream]), learning(pieces)
        self.assertEqual((run.body, run.ending), (expected.body, expected.ending))


class AroundTests(SynchronousTestCase):
    """:func:`mportrouter.sse.around`."""

    def test_found(self) -> None:
        """What stands around a plain text is found, with a space after the colon or without."""
        for space in (b"", b" "):
            event = b'data: {"a":1,"content":%b"hi","b":null}\n\n' % space
            around = sse.around(event, b"content")
            assert around is not None
            self.assertEqual(b"hi".join(around), event)
            self.assertEqual(around[1], b'","b":null}\n\n')

    def test_not_found(self) -> None:
        """An escape, a character beyond ASCII, an empty text, a member that stands twice or not at all give nothing."""
        for value in (b'"a\\n"', b'"\xe4\xbd\xa0"', b'""', b"null", b'"a","content":"b"', b'"a","content":null'):
            self.assertIsNone(sse.around(b'data: {"content":%b}\n\n' % value, b"content"))
        self.assertIsNone(sse.around(b'data: {"text":"x"}\n\n', b"content"))
        self.assertIsNone(sse.around(b'data: {"reasoning_content":"x"}\n\n', b"content"))
