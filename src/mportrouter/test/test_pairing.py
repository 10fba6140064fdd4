"""Tests for :mod:`mportrouter.pairing`, and the properties of a whole repair."""

from __future__ import annotations

import itertools
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import CacheMark, Conversation, Image, Media, Part, Text, ToolCall, ToolResult, Turn
from ..interfaces import Target
from ..pairing import UNANSWERED, Pairing
from ..repair import CONTINUE, Repaired, Wishes, repair
from ..settings import Capabilities

IMAGE = Image(Media("url", "u"))


def user(*parts: Part | str) -> Turn:
    return Turn("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part | str) -> Turn:
    return Turn("assistant", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def call(id: str, name: str = "f", **members: Any) -> ToolCall:
    return ToolCall(id, name, "{}", **members)


def result(id: str, text: str = "r", name: str = "f", **members: Any) -> ToolResult:
    return ToolResult(id, (Text(text),), name, **members)


def missing(id: str, name: str = "f") -> ToolResult:
    return ToolResult(id, (Text(UNANSWERED),), name, is_error=True)


class PairingTests(SynchronousTestCase):
    """Calls and results in their places."""

    def pair(self, *turns: Turn, complete: bool = True, **columns: Any) -> list[Turn]:
        self.pairing = Pairing(Capabilities(**columns), complete)
        return self.pairing.turns(turns)

    def assertPaired(self, turns: list[Turn], expected: list[Turn], *notes: str) -> None:
        """The turns became these, with these notes; with results in place nothing more happens to them."""
        self.assertEqual(self.pair(*turns), expected)
        self.assertEqual(tuple(self.pairing.notes), notes)
        self.assertEqual(self.pair(*expected), expected)

    def test_usual(self) -> None:
        """What is in order stays the same objects."""
        turns = [
            user("q"),
            assistant("x", call("1"), call("2")),
            user(result("1"), result("2"), "more"),
            assistant("y"),
        ]
        for new, old in zip(self.pair(*turns), turns, strict=True):
            self.assertIs(new, old)

    def test_names(self) -> None:
        """A result is told its tool's name and kind."""
        turns = [assistant(call("1", "g", custom=True)), user(result("1", name=""))]
        self.assertPaired(turns, [turns[0], user(result("1", name="g", custom=True))])

    def test_order(self) -> None:
        """Results stand first, in the order of the calls."""
        turns = [assistant(call("1"), call("2")), user("before", result("2", "b"), IMAGE, result("1", "a"))]
        self.assertPaired(turns, [turns[0], user(result("1", "a"), result("2", "b"), "before", IMAGE)])

    def test_gathered(self) -> None:
        """Results in several user turns, with words between them, become one group."""
        turns = [
            assistant(call("1"), call("2")),
            user(result("1")),
            user("and"),
            user(result("2"), "more"),
            assistant("y"),
        ]
        expected = [turns[0], user(result("1"), result("2")), user("and"), user("more"), assistant("y")]
        self.assertPaired(turns, expected)

    def test_calls_in_several_turns(self) -> None:
        """Calls that one after another went out before any result belong to one turn."""
        turns = [assistant("a", call("1")), assistant(call("2")), assistant("b"), user(result("1"), result("2"))]
        self.assertPaired(turns, [assistant("a", call("1"), call("2"), "b"), turns[3]])
        apart = [assistant("a"), assistant("b", call("1")), user(result("1"))]
        self.assertPaired(apart, apart)

    def test_unanswered(self) -> None:
        """A call that nobody answered is answered as failed: in the middle, beside others, and at the end."""
        note = "tool calls without a result (answered as failed)"
        turns = [
            assistant(call("1")),
            user("stop"),
            assistant(call("2"), call("3")),
            user(result("3")),
            assistant(call("4")),
        ]
        expected = [
            turns[0],
            user(missing("1"), "stop"),
            turns[2],
            user(missing("2"), result("3")),
            turns[4],
            user(missing("4")),
        ]
        self.assertPaired(turns, expected, note)
        spoken = [assistant(call("1")), assistant("so")]
        self.assertPaired(spoken, [assistant(call("1"), "so"), user(missing("1"))], note)

    def test_unknown(self) -> None:
        """A result of no call is told in words, pictures and all, wherever it stands."""
        note = "tool results without a call (sent as text)"
        turns = [user(ToolResult("9", (Text("a"), IMAGE, Text("b"))), "q"), assistant("y"), user(result("8", ""))]
        expected = [
            user("[result of unknown tool call 9]:\na\nb", IMAGE, "q"),
            assistant("y"),
            user("[result of unknown tool call 8]:\n"),
        ]
        self.assertPaired(turns, expected, note)
        bare = ToolResult("9", cache=CacheMark())
        self.assertEqual(self.pair(user(bare)), [user(Text("[result of unknown tool call 9]", cache=CacheMark()))])

    def test_late(self) -> None:
        """A result that comes after the assistant went on is told in words: what the model saw stays what it was."""
        turns = [assistant(call("1")), user("wait"), assistant("well"), user(result("1", "late"))]
        expected = [turns[0], user(missing("1"), "wait"), turns[2], user("[late result of tool call 1]:\nlate")]
        self.assertEqual(self.pair(*turns), expected)
        self.assertIn("tool results that came late (sent as text)", self.pairing.notes)

    def test_repeated_results(self) -> None:
        """Of two results in a group the last counts; one that comes again later is left out."""
        turns = [assistant(call("1")), user(result("1", "a"), result("1", "b"))]
        self.assertPaired(turns, [turns[0], user(result("1", "b"))], "repeated tool results (the last one counts)")
        turns = [assistant(call("1")), user(result("1", "a")), assistant("y"), user(result("1", "a"), "q")]
        expected = [turns[0], turns[1], turns[2], user("q")]
        self.assertPaired(turns, expected, "repeated tool results (the first one counts)")

    def test_repeated_ids(self) -> None:
        """Ids that count from the start in every turn are made unique, each result with its call."""
        turns = [
            assistant(call("call_0"), call("call_1")),
            user(result("call_0", "a"), result("call_1", "b")),
            assistant(call("call_0"), call("call_0", "g")),
            user(result("call_0", "c"), result("call_0", "d", "g")),
        ]
        expected = [
            *turns[:2],
            assistant(call("call_0_2"), call("call_0_3", "g")),
            user(result("call_0_2", "c"), result("call_0_3", "d", "g")),
        ]
        self.assertPaired(turns, expected)

    def test_made_id_is_taken(self) -> None:
        """An id that a renamed call has already is given up by the one that comes later."""
        turns = []
        for id in ("a", "a", "a_2"):
            turns += [assistant(call(id)), user(result(id, id))]
        found = self.pair(*turns)
        self.assertEqual(
            [part.id for turn in found for part in turn.parts if isinstance(part, ToolCall)], ["a", "a_2", "a_2_2"]
        )
        self.assertEqual(
            [(part.call_id, part.parts) for turn in found for part in turn.parts if isinstance(part, ToolResult)],
            [("a", (Text("a"),)), ("a_2", (Text("a"),)), ("a_2_2", (Text("a_2"),))],
        )

    def test_illegal_ids(self) -> None:
        """Call and result get the same legal id, whatever length or letters the target takes."""
        id = "toolu_" + "x" * 60
        for columns in ({}, {"tool_id_max": 40}, {"tool_id_max": 9, "tool_id_pattern": "[a-zA-Z0-9]{9}"}):
            found = self.pair(assistant(call(id), call("a.b")), user(result(id, "1"), result("a.b", "2")), **columns)
            calls = [part.id for part in found[0].parts if isinstance(part, ToolCall)]
            self.assertEqual(calls, [part.call_id for part in found[1].parts if isinstance(part, ToolResult)])
            for made in calls:
                self.assertTrue(re.fullmatch(columns.get("tool_id_pattern", "[a-zA-Z0-9_-]+"), made), made)
                self.assertLessEqual(len(made), columns.get("tool_id_max", 64))

    def test_no_ids(self) -> None:
        """Where a dialect has no ids, results pair by name and order, and every call gets an id of its own."""
        turns = [
            assistant(call("", "f"), call("", "g"), call("", "f")),
            user(result("", "1", "f"), result("", "2", "f"), result("", "3", "g")),
            assistant(call("", "f")),
            user(result("", "4", "f")),
        ]
        expected = [
            assistant(call("call_1", "f"), call("call_2", "g"), call("call_3", "f")),
            user(result("call_1", "1", "f"), result("call_3", "3", "g"), result("call_3", "2", "f")),
        ]
        expected[1] = user(result("call_1", "1", "f"), result("call_2", "3", "g"), result("call_3", "2", "f"))
        expected += [assistant(call("call_4", "f")), user(result("call_4", "4", "f"))]
        self.assertPaired(turns, expected)

    def test_incomplete(self) -> None:
        """Where nobody wishes it, nothing is made up: calls stay open and results alone."""
        turns = [user(result("9")), assistant(call("1"), call("2")), user(result("2"), "x"), assistant(call("3"))]
        self.assertEqual(self.pair(*turns, complete=False), turns)

    def test_many(self) -> None:
        """Thousands of calls of one id take no square of their number."""
        turns = []
        for _ in range(3000):
            turns += [assistant(call("call_0")), user(result("call_0"))]
        found = self.pair(*turns, assistant(*[call("x")] * 3000), user(*[result("x")] * 3000))
        ids = [part.id for turn in found for part in turn.parts if isinstance(part, ToolCall)]
        self.assertEqual(len(set(ids)), 6000)


_ids = st.sampled_from(["", "1", "2", "1_2", "call_1", "a.b", "x" * 70])
_names = st.sampled_from(["f", "g"])
_words = st.sampled_from(["a", " ", "b\n"])
_results = st.builds(result, _ids, _words, _names)
_said = st.lists(st.one_of(st.builds(Text, _words), _results), max_size=4).map(lambda parts: user("u", *parts))
_answered = st.lists(st.one_of(st.builds(Text, _words), st.builds(call, _ids, _names)), max_size=4).map(
    lambda parts: assistant("v", *parts)
)
_instructed = st.just(Turn("system", (Text("s"),)))
_turns = st.lists(st.one_of(_said, _answered, _instructed), min_size=1, max_size=12)
_wishes = st.builds(
    Wishes,
    drop_blank=st.booleans(),
    merge=st.booleans(),
    user_first=st.booleans(),
    system_turns=st.sampled_from(["keep", "placed", "user_text"]),
    prefill=st.booleans(),
)


def repaired(turns: list[Turn], wishes: Wishes, **columns: Any) -> Repaired:
    target = Target("p", "m", Capabilities(**columns))
    return repair(Conversation("c", "m", tuple(turns)), target, wishes)


class RepairProperties(SynchronousTestCase):
    """What holds of every repaired conversation."""

    @given(_turns, _wishes)
    def test_pairs(self, turns: list[Turn], wishes: Wishes) -> None:
        """Every call has a legal id of its own and its result first in the turn after it; no other results are left."""
        found = repaired(turns, wishes).turns
        seen: set[str] = set()
        wanted: list[str] = []
        for turn in found:
            results = [part.call_id for part in turn.parts if isinstance(part, ToolResult)]
            self.assertEqual(results, wanted)
            self.assertTrue(all(isinstance(part, ToolResult) for part in turn.parts[: len(results)]))
            wanted = [part.id for part in turn.parts if isinstance(part, ToolCall)]
            for id in wanted:
                self.assertTrue(re.fullmatch("[a-zA-Z0-9_-]{1,64}", id), id)
                self.assertNotIn(id, seen)
                seen.add(id)
        self.assertEqual(wanted, [])

    @given(_turns, _wishes)
    def test_order(self, turns: list[Turn], wishes: Wishes) -> None:
        """Roles take turns where wished, the user speaks first where wished, and no part is empty."""
        found = repaired(turns, wishes).turns
        if wishes.merge:
            self.assertTrue(all(one.role != other.role for one, other in itertools.pairwise(found)))
        if wishes.user_first and wishes.system_turns != "keep":
            self.assertEqual(found[0].role, "user")
        if not wishes.prefill:
            self.assertNotEqual(found[-1].role, "assistant")
        if wishes.system_turns == "user_text":
            self.assertNotIn("system", [turn.role for turn in found])
        if wishes.system_turns == "placed":
            for before, turn, after in zip((None, *found), found, (*found[1:], None), strict=False):
                if turn.role == "system":
                    self.assertTrue(before is not None and before.role == "user")
                    self.assertTrue(after is None or after.role == "assistant")
        for turn in found:
            self.assertTrue(turn.parts)
            for part in turn.parts:
                if isinstance(part, Text):
                    self.assertTrue(part.text.strip() if wishes.drop_blank else part.text)

    @given(_turns, _wishes)
    def test_stable(self, turns: list[Turn], wishes: Wishes) -> None:
        """What has been put right needs nothing more: the very turns come out again."""
        found = repaired(turns, wishes).turns
        again = repaired(list(found), wishes)
        self.assertEqual(again.turns, found)
        self.assertTrue(all(new is old for new, old in zip(again.turns, found, strict=True)))

    @given(_turns, _wishes, st.data())
    def test_append_only(self, turns: list[Turn], wishes: Wishes, data: Any) -> None:
        """A conversation that goes on has the same beginning: up to any turn that an assistant went on from."""
        places = [
            at for at in range(1, len(turns)) if turns[at].role == "assistant" and turns[at - 1].role != "assistant"
        ]
        if not places:
            return
        at = data.draw(st.sampled_from(places))
        short, long = repaired(turns[:at], wishes).turns, repaired(turns, wishes).turns
        self.assertEqual(long[: len(short)], short)

    @given(_turns, _wishes)
    def test_open_end(self, turns: list[Turn], wishes: Wishes) -> None:
        """Results of the last calls that come later take the place that was kept for them; nothing before changes."""
        turns = [*turns, user("q"), assistant(call("new"))]
        short = repaired(turns, wishes).turns
        long = repaired([*turns, user(result("new"))], wishes).turns
        self.assertEqual(len(short), len(long))
        self.assertEqual(short[:-1], long[:-1])
        self.assertEqual((short[-1], long[-1]), (user(missing("new")), user(result("new"))))
        self.assertNotIn(CONTINUE, str(short))
