"""Tests for the reader of answers of the OpenAI Responses dialect that are one JSON text, or pass untouched."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .. import splice
from ..conversation import Foreign
from ..dialects.responses_stream import ResponsesReader, event_reader, interesting
from ..errors import Kind
from ..events import Close, Delta, End, Event, Failed, Finish, Open, Other, Start, Tally
from .response_events import USAGE, call, completed, context, created, done, ev, in_all_cuts, message, read, text


class WholeTests(SynchronousTestCase):
    """Answers that are one JSON text."""

    def events(self, body: Any, stream: bool = False) -> list[Event]:
        data = body if isinstance(body, bytes) else splice.dumps(body)
        return in_all_cuts(lambda: event_reader(stream, context()), data)

    def answer(self, *output: Any, **members: Any) -> dict[str, Any]:
        return {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-x", "output": list(output),
                "usage": USAGE, **members}  # fmt: skip

    def test_answer(self) -> None:
        """A whole answer gives the events of a streamed one, also where a stream was asked for."""
        body = self.answer(message("hi"), call("f", "{}"))
        found = self.events(body)
        self.assertEqual([type(each) for each in found],
                         [Start, Open, Delta, Close, Open, Delta, Close, Tally, Finish, End])  # fmt: skip
        self.assertEqual(self.events(body, stream=True), found)

    def test_errors(self) -> None:
        """Errors in place of an answer are errors, in all shapes; so are nothing and nonsense."""
        for body, kind in (
            ({"error": {"type": "usage_limit_reached", "message": "m"}}, Kind.MONEY),
            ({"detail": "Unsupported parameter: x"}, Kind.UPSTREAM),
            ([{"error": {"code": "server_is_overloaded", "message": "m"}}], Kind.OVERLOADED),
            (self.answer(status="failed", error={"code": "rate_limit_exceeded", "message": "m"}), Kind.RATE),
            (self.answer(status="cancelled"), Kind.UPSTREAM),
            (self.answer(status="queued"), Kind.GARBAGE),
            (b"", Kind.GARBAGE),
            (b"<html>", Kind.GARBAGE),
            ({"choices": []}, Kind.GARBAGE),
        ):
            last = self.events(body)[-1]
            assert isinstance(last, Failed), body
            self.assertIs(last.verdict.kind, kind, body)

    def test_incomplete(self) -> None:
        """The status tells that the answer is not all there."""
        found = self.events(
            self.answer(message("x"), status="incomplete", incomplete_details={"reason": "content_filter"})
        )
        self.assertIn(Finish("content_filter"), found)

    def test_foreign_keeps_raw(self) -> None:
        """What has no neutral form is kept as it came."""
        odd = {"type": "brand_new", "x": 1}
        self.assertIn(
            Foreign("openai-responses", "brand_new", odd, '[brand_new] {"x":1}'),
            [each.part for each in self.events(self.answer(odd)) if isinstance(each, Other)],
        )


class InterestingTests(SynchronousTestCase):
    """Which events are read after the first content."""

    def test_interesting(self) -> None:
        """Ends and errors are, deltas and finished items are not."""
        for piece in (completed([]), completed([], "incomplete"), ev("response.failed"), ev("error", error={})):
            self.assertTrue(interesting(piece.partition(b"data: ")[2]))
        for piece in (text(0, "response.completed"), done(0, call("f", "{}"))):
            self.assertFalse(interesting(piece.partition(b"data: ")[2]))

    def test_quiet(self) -> None:
        """A reader for what passes untouched tells of content, usage and end, and repeats no items."""
        reader = ResponsesReader(True, context(), quiet=True)
        found = read(reader, [created(), done(0, message("x" * 100)), completed([message("x" * 100)])])
        self.assertEqual([type(each) for each in found], [Start, Other, Tally, Finish, End])
