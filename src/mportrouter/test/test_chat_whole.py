"""Tests for the reader of Chat answers that are one JSON object, and for usage numbers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..dialects import chat_usage
from ..dialects.chat_stream import WHOLE_LIMIT, ChatWhole
from ..dialects.chat_usage import CompletionDetails, Counts, PromptDetails
from ..errors import Kind
from ..events import Close, Delta, End, Event, Failed, Finish, Open, Start, Tally
from ..interfaces import IEventReader
from ..records import Usage
from .chats import DONE, USAGE, answer, chunk, encode, fragment, said, stream, target, texts, whole


class WholeTests(SynchronousTestCase):
    """Answers that come at once."""

    def failed(self, raw: bytes) -> Kind:
        events = answer(raw)
        last = events[-1]
        assert isinstance(last, Failed), events
        self.assertFalse(any(isinstance(event, End) for event in events))
        return last.verdict.kind

    def test_plain(self) -> None:
        """A text is a start, a part, the end, the usage."""
        self.assertTrue(verifyObject(IEventReader, ChatWhole(target())))
        self.assertEqual(
            answer(whole({"content": "Hey"})),
            [
                Start("chatcmpl-1", "m-1"), Open(0, "text"), Delta(0, "Hey"), Close(0), Finish("end"),
                Tally(Usage(input=20, output=10)), End(),
            ],
        )  # fmt: skip

    def test_order(self) -> None:
        """Reasoning first, then text, then calls; arguments that are an object become its text."""
        message = {
            "tool_calls": [fragment(None, {"a": 1}, "c1", "f"), fragment(None, "", "c2", "g")],
            "content": "x",
            "reasoning_content": "r",
        }
        events = answer(whole(message, "stop"))
        opened = [(event.kind, event.name) for event in events if isinstance(event, Open)]
        self.assertEqual(opened, [("reasoning", ""), ("text", ""), ("tool", "f"), ("tool", "g")])
        self.assertEqual(texts(events), {0: "r", 1: "x", 2: '{"a":1}'})

    def test_same_as_stream(self) -> None:
        """The same answer streamed and whole gives the same parts, stop and usage."""
        message = {"content": "x", "reasoning": "r", "tool_calls": [fragment(0, '{"a":1}', "c", "f")]}
        streamed = stream(said(message), said({}, "tool_calls"), chunk(usage=USAGE), DONE)
        self.assertEqual(answer(whole(message, "tool_calls")), streamed)

    def test_refusal(self) -> None:
        """A refusal beside null content."""
        events = answer(whole({"refusal": "no"}))
        self.assertIn(Open(0, "refusal"), events)
        self.assertIn(Finish("refusal", explanation="no"), events)

    def test_nothing(self) -> None:
        """Nothing with a good reason is an answer; nothing without one, and no choices, are none."""
        self.assertEqual(answer(whole({}))[-1], End())
        self.assertIs(self.failed(whole({}, None)), Kind.UPSTREAM)
        self.assertIs(self.failed(whole({}, "stop", choices=[])), Kind.GARBAGE)
        self.assertEqual(answer(whole({"content": "x"}, None))[-1], End())

    def test_errors(self) -> None:
        """An error in a 200 is an error, in every shape; so is what is no answer at all."""
        for raw, kind in (
            (encode({"error": {"message": "no", "code": 402}}), Kind.MONEY),
            (encode({"error": {"message": "no", "code": "model_not_found"}}), Kind.NOT_FOUND),
            (encode([{"error": {"message": "no", "code": 503, "status": "UNAVAILABLE"}}]), Kind.OVERLOADED),
            (encode({"detail": [{"loc": [], "msg": "no", "type": "x"}]}), Kind.UPSTREAM),
            (b"<html>", Kind.GARBAGE),
            (b"", Kind.GARBAGE),
            (b" \n", Kind.GARBAGE),
            (b"[]", Kind.GARBAGE),
            (whole({"content": "x"})[:-1], Kind.GARBAGE),
            (whole({"content": "x"}, "error"), Kind.UPSTREAM),
        ):
            self.assertIs(self.failed(raw), kind, raw)

    def test_folded(self) -> None:
        """Calls in a second choice belong to the one answer that was asked for."""
        raw = encode(
            {
                "choices": [
                    {"index": 0, "message": {"content": "t"}, "finish_reason": "tool_calls"},
                    {
                        "index": 1,
                        "message": {"tool_calls": [fragment(None, "{}", "c", "f")]},
                        "finish_reason": "tool_calls",
                    },
                ]
            }
        )
        self.assertEqual(texts(answer(raw)), {0: "t", 1: "{}"})

    def test_limit(self) -> None:
        """An answer past all limits is given up at once."""
        reader = ChatWhole(target())
        events: list[Event] = []
        for _ in range(WHOLE_LIMIT // 2**23 + 1):
            events += reader.feed(b" " * 2**23)
        self.assertIsInstance(events[0], Failed)
        self.assertEqual(reader.feed(b"x") + reader.finish(), [])


class UsageTests(SynchronousTestCase):
    """Numbers of every vendor."""

    def test_read(self) -> None:
        """Prompt tokens become disjoint; reasoning beside the completion is added to it."""
        for counts, usage in (
            (Counts(20, 10, 30), Usage(input=20, output=10)),
            (
                Counts(20, 10, 30, PromptDetails(8, 2), CompletionDetails(4)),
                Usage(input=10, cache_read=8, cache_write_5m=2, output=10, reasoning=4),
            ),
            (Counts(20, 10, 34, None, CompletionDetails(4)), Usage(input=20, output=14, reasoning=4)),
            (Counts(20, 10, prompt_cache_hit_tokens=15), Usage(input=5, cache_read=15, output=10)),
            (Counts(20, 10, cached_tokens=15), Usage(input=5, cache_read=15, output=10)),
            (Counts(20, None), Usage(input=20)),
            (Counts(-1, 10), Usage(output=10)),
            (Counts(5, 10, None, PromptDetails(8, 8)), Usage(cache_read=5, output=10)),
            (Counts(20.0, float("nan")), Usage(input=20)),
        ):
            self.assertEqual(chat_usage.read(counts), usage)
        self.assertIsNone(chat_usage.read(Counts(total_tokens=3)))

    def test_written(self) -> None:
        """The dialect's sums: cached and written tokens are part of the prompt."""
        usage = Usage(input=10, cache_read=8, cache_write_5m=1, cache_write_1h=1, output=10, reasoning=4)
        written = chat_usage.written(usage)
        self.assertEqual(
            (written["prompt_tokens"], written["completion_tokens"], written["total_tokens"]), (20, 10, 30)
        )
        self.assertEqual(written["prompt_tokens_details"], {"cached_tokens": 8, "cache_write_tokens": 2})
        self.assertEqual(written["completion_tokens_details"], {"reasoning_tokens": 4})
