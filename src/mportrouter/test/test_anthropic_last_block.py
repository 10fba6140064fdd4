"""How answers to Anthropic clients end: with what was said."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..events import Close, Delta, Hidden, Open, Sign
from .test_anthropic_answer import STATE, THOUGHT, content

SIGNED = (Open(0, "text"), Delta(0, "x"), Sign(0, THOUGHT), Close(0))


class LastBlockTests(SynchronousTestCase):
    """The state of a text stands behind it, but never last: clients take the last block for the answer."""

    def test_last(self) -> None:
        """An answer whose last text is signed ends in the text."""
        self.assertEqual([block["type"] for block in content(*SIGNED)], ["text"])
        self.assertEqual(
            [block["type"] for block in content(Open(1, "tool", "c", "f"), Delta(1, "{}"), Close(1), *SIGNED)],
            ["tool_use", "text"],
        )

    def test_before_others(self) -> None:
        """Before any other block the state follows its text."""
        for other in ((Open(1, "text"), Delta(1, "y"), Close(1)), (Hidden(1, STATE),)):
            kinds = [block["type"] for block in content(*SIGNED, *other)]
            self.assertEqual(kinds[:2], ["text", "redacted_thinking"])
            self.assertEqual(len(kinds), 3)
