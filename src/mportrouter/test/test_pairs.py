"""What holds for the answer of any upstream's dialect to a client of any."""

from __future__ import annotations

import re
from itertools import product, zip_longest
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import splice
from ..dialects.chat_stream import ChatStream
from ..dialects.known import DIALECTS
from ..errors import Kind, RouterError
from ..events import STOPS, Delta, Event, Failed, Open, Start
from ..records import Usage
from ..sequencer import Sequencer
from ..translator import Translator
from .lines import cuts
from .pairs import NAMES, Carried, answer, asked, check, heard, parts, said, told

PAIRS = [(upstream, client) for upstream in NAMES for client in NAMES]

words = st.sampled_from(
    [
        "Hello",
        " ",
        "\n",
        "\u4f60\u597d",
        '"',
        "\\",
        "</think>",
        "\ud83d\ude00",
        "data: x\n\n",
        "\u2028",
        "\x00",
        "{",
        "\t.",
    ]
).map(lambda word: word.encode("utf-16-le", "surrogatepass").decode("utf-16-le"))
halves = st.just(("\ud83d", "\ude00"))
prose = st.lists(words.map(lambda word: (word,)) | halves, min_size=1, max_size=6).map(
    lambda pieces: ["x", *(each for piece in pieces for each in piece)]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """A JSON object in pieces; an empty one may be no text at all."""
    value = draw(st.dictionaries(words, values, max_size=3))
    if not value and draw(st.booleans()):
        return []
    text = splice.dumps(value).decode()
    return [piece.decode() for piece in cuts(text.encode(), draw(st.integers(0, 99)), draw(st.integers(1, 5)))]


given_parts = st.lists(
    st.tuples(st.sampled_from(["text", "reasoning"]), prose)
    | st.tuples(st.sampled_from(["read_file", "write-file", "f"]), arguments()),
    max_size=6,
).map(lambda given: parts(*given))
usages = st.builds(
    Usage,
    input=st.integers(1, 9999),
    cache_read=st.integers(0, 9999),
    output=st.integers(500, 9999),
    reasoning=st.integers(0, 500),
)
stops = st.sampled_from(["end", "length", "refusal", "content_filter", "context_full", "stop_sequence"])
answers = st.builds(answer, given_parts, stops, usages)


_MEMBER = re.compile(rb'(?<=":)("[^"]*"|\d+|null|true|false|\{[^{}]*\}|\[[^\[\]]*\])')
_ODD = (
    b"null",
    b"{}",
    b"[]",
    b"1",
    b'""',
    b"true",
    b"\xff",
    b'"\\ud83d"',
    b"-1",
    b"1e999",
    b"NaN",
    b"[[[[",
    b"\n\n",
    b"\r",
)


class PairTests(SynchronousTestCase):
    """Streams of any dialect as streams of any."""

    def expect(self, events: list[Event], seed: int, upstream: str, client: str) -> None:
        source = said(upstream, events)
        carried = Carried(upstream, client, [source])
        self.assertEqual(Carried(upstream, client, cuts(source, seed, 9)).body, carried.body)
        check(client, carried.body)
        meant, got = told(heard(upstream, source)), told(heard(client, carried.body))
        if upstream == "openai-responses" and client in ("openai-chat", "gemini"):
            # Messages that become one text are kept apart by an empty line.
            for each in (meant, got):
                each.text = each.text.replace("\n\n", "")
        self.assertEqual(got, meant)
        self.assertTrue(carried.ending.complete)


class FormTests(SynchronousTestCase):
    """Streams of answers that are whole, and the other way round."""

    def test_forms(self) -> None:
        """Streamed or whole, on either side, an answer says the same, and official types take it."""
        events = answer(
            parts(
                ("reasoning", ["why ", "so"]),
                ("text", ["Hello", " \u4f60", "\ud83d", "\ude00"]),
                ("f", ['{"a"', ":[1,2]}"]),
                ("g", []),
            ),
            "end",
            Usage(input=100, cache_read=50, output=40, reasoning=7),
        )
        for upstream, client in PAIRS:
            found = []
            for streams in product((True, False), repeat=2):
                source = said(upstream, events, streams[0])
                carried = Carried(upstream, client, cuts(source, 3), streams)
                self.assertTrue(carried.ending.complete, (upstream, client, streams))
                self.assertEqual(carried.state, "content" if streams[1] and streams[0] else "hold")
                self.assertEqual(carried.translator.state, "content")
                check(client, carried.body, streams[1])
                found.append(told(heard(client, carried.body, streams[1])))
            self.assertEqual(found, [found[0]] * 4)
            self.assertEqual(found[0].order, ["reasoning", "text", "tool", "tool"])
            self.assertEqual(found[0].calls, [("f", {"a": [1, 2]}), ("g", {})])
            self.assertEqual((found[0].text, found[0].stop), ("Hello \u4f60\U0001f600", "tool_use"))


class StopTests(SynchronousTestCase):
    """Why an answer ended."""

    def test_stops(self) -> None:
        """Every reason is told in words that the official types know, with content and without."""
        for upstream, client in PAIRS:
            for stop, content in product(STOPS, ((), ("text", ["Hello"]))):
                if stop == "pause":
                    continue  # no other dialect has it
                events = answer(parts(*((content,) if content else ())), stop)
                source = said(upstream, events)
                carried = Carried(upstream, client, [source])
                if carried.translator.state == "error":
                    self.assertEqual((content, stop), ((), "end"), (upstream, client))  # an empty answer is none
                    continue
                check(client, carried.body)
                self.assertEqual(told(heard(client, carried.body)).stop, told(heard(upstream, source)).stop)


class BrokenTests(SynchronousTestCase):
    """Answers that end before their end."""

    def test_cut(self) -> None:
        """A cut source is never a whole answer, wherever it is cut; the client is told in its own dialect."""
        for upstream, client in PAIRS:
            writer = DIALECTS[upstream].event_writer(True, asked(upstream, True, upstream))
            begun = [Start("", "m"), *parts(("text", ["Hello", " there", " you"]), ("f", ['{"a"', ":1}"]))]
            begun += [Open(9, "text"), Delta(9, "and more")]
            sequencer = Sequencer(writer.interleaves)
            source = b"".join(writer.write(ordered) for event in begun for ordered in sequencer.take(event))
            for at in {*range(0, len(source), 97), len(source)}:
                carried = Carried(upstream, client, [source[:at]])
                self.assertFalse(carried.ending.complete, (upstream, client, at))
                if carried.translator.state == "error":
                    continue
                self.assertIsNone(carried.ending.error)
                body = carried.body + carried.translator.broken(RouterError(Kind.CUT, "it broke off"))
                last = heard(client, body)[-1]
                assert isinstance(last, Failed), (upstream, client, at, last)

    def test_failed(self) -> None:
        """An error in the middle of an answer is one in the client's dialect, of the same kind, with its words."""
        for upstream, client in PAIRS:
            writer = DIALECTS[upstream].event_writer(True, asked(upstream, True, upstream))
            begun: list[Event] = [Start("", "m"), Open(0, "text"), Delta(0, "Hello")]
            sequencer = Sequencer(writer.interleaves)
            source = b"".join(writer.write(ordered) for event in begun for ordered in sequencer.take(event))
            source += writer.fail(RouterError(Kind.OVERLOADED, "too many of you", by="up"))
            for pieces in ([source], cuts(source, 5)):
                carried = Carried(upstream, client, pieces)
                error = carried.ending.error
                assert error is not None and not carried.ending.complete, (upstream, client)
                self.assertIn("too many of you", error.message)
                self.assertEqual(error.kind, Kind.OVERLOADED, (upstream, client))
                if carried.translator.state == "error":
                    continue  # one that shows items only when they are whole had shown nothing yet
                last = heard(client, carried.body)[-1]
                assert isinstance(last, Failed), (upstream, client, last)
                self.assertIn("too many of you", last.verdict.message)

    def test_failed_at_once(self) -> None:
        """An error before any content is no answer: nothing was shown that another upstream could not make up for."""
        for upstream, client in PAIRS:
            writer = DIALECTS[upstream].event_writer(True, asked(upstream, True, upstream))
            source = writer.write(Start("", "m")) + writer.fail(RouterError(Kind.RATE, "slow down", by="up"))
            translator = Carried(upstream, client, [source]).translator
            assert translator.verdict is not None, (upstream, client)
            self.assertEqual(translator.state, "error")
            self.assertIn("slow down", translator.verdict.message)


class GarbledTests(SynchronousTestCase):
    """Answers that no server should give."""

    def test_garbled(self) -> None:
        """Whatever comes, nothing is raised, and how it was cut does not tell."""
        events = answer(
            parts(("reasoning", ["why"]), ("text", ["Hello", " \u4f60"]), ("f", ['{"a"', ":1}"]), ("g", []))
        )
        for upstream, client in PAIRS:
            random = Random(f"{upstream} {client}")
            for streams in product((True, False), repeat=2):
                source = said(upstream, events, streams[0])
                for _ in range(6):
                    body = _garbled(source, random)
                    whole = Carried(upstream, client, [body], streams)
                    pieces = Carried(upstream, client, cuts(body, random.randrange(99), 30), streams)
                    self.assertEqual(pieces.translator.state, whole.translator.state, (upstream, client, body))
                    self.assertEqual(pieces.ending, whole.ending)
                    if whole.translator.state != "error":
                        self.assertEqual(pieces.body, whole.body)


class TemplateTests(SynchronousTestCase):
    """Texts that are rewritten without being read."""

    def test_same_bytes(self) -> None:
        """Between Chat and Anthropic the short way writes what the long way writes, however the stream is cut."""
        texts = ["Hello", " world", "\n", "a", "b", '"', "c", "", "d", "\u4f60", "e", "f", " ", "g"] * 3
        events = answer(parts(("reasoning", texts), ("text", texts), ("f", ['{"a":"', 'b"}']), ("text", texts)))
        for upstream, client in product(("anthropic", "openai-chat"), repeat=2):
            source = said(upstream, events)
            for seed in range(20):
                pieces = cuts(source, seed, 1 + seed * 4)
                with patch.object(Translator, "_splice", _unread):
                    long = Carried(upstream, client, pieces)
                short = Carried(upstream, client, pieces)
                self.assertEqual((short.body, short.ending), (long.body, long.ending))

    def test_taken(self) -> None:
        """The short way is taken."""
        source = said("openai-chat", answer(parts(("text", ["word "] * 100))))
        read: list[bytes] = []
        with patch.object(ChatStream, "feed", _noting(read)):
            Carried("openai-chat", "anthropic", [source])
        self.assertLess(len(b"".join(read)), len(source) // 5)


class IndependenceTests(SynchronousTestCase):
    """Several answers at a time."""

    def test_two_at_once(self) -> None:
        """Two answers that are carried in turn do not touch each other."""
        events = [answer(parts(("text", [word] * 20), (word, ['{"a":', "1}"]))) for word in ("one", "two")]
        for upstream, client in PAIRS:
            sources = [said(upstream, each) for each in events]
            alone = [Carried(upstream, client, [source]).body for source in sources]
            pieces = [cuts(source, 7, 40) for source in sources]
            contexts = [asked(client, True, upstream) for _ in sources]
            translators = [
                Translator(DIALECTS[upstream].event_reader(True, context), DIALECTS[client].event_writer(True, context))
                for context in contexts
            ]
            bodies = [b"", b""]
            for pair in zip_longest(*pieces, fillvalue=b""):
                for number, piece in enumerate(pair):
                    bodies[number] += translators[number].feed(piece)
            for number, translator in enumerate(translators):
                bodies[number] += translator.finish()[0]
            self.assertEqual(bodies, alone)


def _unread(self: Translator, data: bytes, at: int, out: list[bytes]) -> int:
    return at


def _garbled(source: bytes, random: Random) -> bytes:
    """The bytes with some members of other types, pieces missing, and bytes changed."""
    body = source
    for _ in range(random.randint(1, 4)):
        at, chance = random.randrange(len(body)), random.random()
        members = list(_MEMBER.finditer(body))
        if chance < 0.6 and members:
            member = random.choice(members)
            body = body[: member.start()] + random.choice(_ODD) + body[member.end() :]
        elif chance < 0.8:
            body = body[:at] + random.choice(_ODD) + body[at:]
        else:
            body = body[:at] + body[at + random.randint(1, 30) :] or b"x"
    return body


def _noting(read: list[bytes]) -> Any:
    feed = ChatStream.feed

    def noting(self: ChatStream, data: bytes) -> list[Event]:
        read.append(data)
        return feed(self, data)

    return noting


def _holds(upstream: str, client: str) -> Any:
    @settings(max_examples=15, deadline=None)
    @given(answers, st.integers(0, 1000))
    def test(self: PairTests, events: list[Event], seed: int) -> None:
        self.expect(events, seed, upstream, client)

    test.__doc__ = f"""
        From {upstream} to {client}: text, reasoning, calls in order with their arguments, stop and usage are the same
        on both sides, the bytes do not depend on how the source was cut, and the official client takes them.
        """
    return test


for _upstream, _client in PAIRS:
    setattr(PairTests, f"test_{_upstream}_to_{_client}".replace("-", "_"), _holds(_upstream, _client))
