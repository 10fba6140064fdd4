"""Tests for :mod:`mportrouter.repair`; calls and results are in :mod:`mportrouter.test.test_pairing`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    CacheMark,
    Conversation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    SearchHit,
    Sound,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from ..interfaces import Inexpressible, Target
from ..repair import CONTINUE, OPENING, Repaired, Wishes, repair
from ..settings import Capabilities

OWN = Opaque("kimi", "k", "signature", "s")
OTHER = Opaque("anthropic", "c", "signature", "s")
UNSIGNED = Opaque("kimi", "k", "text", "")
IMAGE = Image(Media("url", "u"))


def user(*parts: Part | str) -> Turn:
    return Turn("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part | str, phase: str | None = None) -> Turn:
    return Turn("assistant", tuple(Text(part) if isinstance(part, str) else part for part in parts), phase)


def system(*texts: str) -> Turn:
    return Turn("system", tuple(map(Text, texts)))


def repaired(*turns: Turn, instructions: tuple[str, ...] = (), capabilities: Any = (), **wishes: Any) -> Repaired:
    conversation = Conversation("c", "m", turns, system=tuple(map(Text, instructions)))
    columns = {"thinking_signature": "kimi", **dict(capabilities)}
    return repair(conversation, Target("p", "m", Capabilities(**columns)), Wishes(**wishes))


class PartTests(SynchronousTestCase):
    """What stays of the parts."""

    def test_same(self) -> None:
        """Turns that need nothing are the same objects, whatever is wished."""
        turns = (
            user("a", IMAGE),
            assistant(" b"),
            user("c\n", Document(Media("text", "x")), Sound(Media("base64", "x"))),
        )
        for wishes in ({}, {"drop_blank": True, "merge": True, "user_first": True, "system_turns": "user_text"}):
            found = repaired(*turns, prefill=False, reasoning=True, cache_marks=4, **wishes)
            for new, old in zip(found.turns, turns, strict=True):
                self.assertIs(new, old)
            self.assertEqual(found.notes, ())

    def test_empty_texts(self) -> None:
        """Empty texts go, blank ones where the target refuses them; white space in others stays; no note is made."""
        turns = user("", "a "), assistant("", " \n"), user("\u00a0", " b")
        self.assertEqual(repaired(*turns).turns, (user("a "), assistant(" \n"), user("\u00a0", " b")))
        self.assertEqual(repaired(*turns, drop_blank=True).turns, (user("a "), user(" b")))
        self.assertEqual(repaired(*turns, drop_blank=True).notes, ())
        self.assertEqual(repaired(user("a"), assistant(Refusal("")), user("b")).turns, (user("a"), user("b")))
        self.assertEqual(repaired(user("a"), Turn("assistant", ()), user("b")).turns, (user("a"), user("b")))

    def test_reasoning(self) -> None:
        """Only the target's own state goes there; text without it only where the target reads bare text."""
        own, other = Reasoning("t", OWN), Reasoning("t", OTHER)
        bare, unsigned, blank = Reasoning("t"), Reasoning("t", UNSIGNED), Reasoning(" ", OTHER)
        turns = user("q"), assistant(own, other, bare, unsigned, blank, "x"), user("y")

        def left(**wishes: Any) -> tuple[Part, ...]:
            return repaired(*turns, **wishes).turns[1].parts

        self.assertEqual(left(), (Text("x"),))
        self.assertEqual(left(reasoning=True), (own, Text("x")))
        self.assertEqual(left(reasoning=True, text_reasoning=True), (own, bare, bare, bare, Text("x")))
        notes = repaired(*turns, reasoning=True).notes
        self.assertEqual(notes, ("reasoning of anthropic", "unsigned reasoning"))

    def test_state_alone(self) -> None:
        """State without any text is kept for whom it is from, and goes to nobody else."""
        hidden = Reasoning("", OWN)
        self.assertEqual(repaired(user("q"), assistant(hidden, "x"), reasoning=True).turns[1].parts[0], hidden)
        foreign = Reasoning("", OTHER)
        found = repaired(user("q"), assistant(foreign, "x"), reasoning=True, text_reasoning=True)
        self.assertEqual(found.turns[1].parts, (Text("x"),))

    def test_thought_signatures(self) -> None:
        """Signatures on texts and calls go to their own provider only; a signed text may be empty there."""
        thought, foreign = Opaque("kimi", "", "thought", "s"), Opaque("gemini", "", "thought", "s")
        call = ToolCall("1", "f", "{}", opaque=foreign)
        own = ToolCall("2", "f", "{}", opaque=thought)
        results = user(ToolResult("1", name="f"), ToolResult("2", name="f"))
        turn = assistant(Text("", opaque=thought), Text("", opaque=foreign), Text("x", opaque=foreign), call, own)
        found = repaired(user("q"), turn, results, drop_blank=True)
        self.assertEqual(found.turns[1].parts, (Text("", opaque=thought), Text("x"), ToolCall("1", "f", "{}"), own))

    def test_foreign(self) -> None:
        """A part of another dialect becomes its text, or goes with a note; one's own stays as it came."""
        told = Foreign("anthropic", "search_result", {"a": 1}, "words")
        silent = Foreign("anthropic", "container_upload", {})
        turn = user("q", told, silent)
        found = repaired(turn, keep_dialect="openai-chat")
        self.assertEqual(found.turns, (user("q", "words"),))
        self.assertEqual(found.notes, ("search_result (sent as text)", "container_upload"))
        self.assertEqual(repaired(turn, keep_dialect="anthropic").turns, (turn,))

    def test_searches(self) -> None:
        """A search that another provider ran is told in words; one of the own dialect stays with its blocks."""
        hits = (SearchHit("http://a", "A"), SearchHit("http://b"))
        search = WebSearch("s", "why", hits, ({"type": "x"},), "anthropic")
        told = "[web search: why]\n- A: http://a\n- http://b"
        self.assertEqual(repaired(user("q"), assistant(search)).turns[1], assistant(told))
        self.assertEqual(repaired(user("q"), assistant(search), keep_dialect="anthropic").turns[1].parts, (search,))
        bare = WebSearch("s", "", dialect="anthropic")
        self.assertEqual(
            repaired(user("q"), assistant(bare), keep_dialect="anthropic").turns[1], assistant("[web search]")
        )

    def test_results(self) -> None:
        """The parts of a result are looked at too; a result may be left with none."""
        result = ToolResult("1", (Text(""), Foreign("anthropic", "tool_reference", {}, "Tool f."), IMAGE), "f")
        found = repaired(user("q"), assistant(ToolCall("1", "f", "{}")), user(result))
        self.assertEqual(found.turns[2].parts, (ToolResult("1", (Text("Tool f."), IMAGE), "f"),))
        empty = ToolResult("1", (Text(""),), "f")
        self.assertEqual(
            repaired(user("q"), assistant(ToolCall("1", "f", "{}")), user(empty)).turns[2].parts,
            (ToolResult("1", (), "f"),),
        )


class SystemTests(SynchronousTestCase):
    """Instructions, before the turns and among them."""

    def test_blank(self) -> None:
        """Blank instructions go."""
        self.assertEqual(repaired(user("q"), instructions=(" ", "a", "")).system, (Text("a"),))

    def test_billing(self) -> None:
        """A line for one provider's accounting changes each time: nobody else gets it, what follows it stays."""
        line = "x-anthropic-billing-header: cc_version=1; cch=abc;"
        texts = (line, "be good")
        other = {"billing_header": False}
        found = repaired(user("q"), instructions=texts, capabilities=other)
        self.assertEqual(found.system, (Text("be good"),))
        self.assertEqual(found.notes, ("system.x-anthropic-billing-header",))
        self.assertEqual(repaired(user("q"), instructions=texts).system, (Text(line), Text("be good")))
        together = repaired(user("q"), instructions=(f"{line}\n\nbe good\n",), capabilities=other)
        self.assertEqual(together.system, (Text("be good\n"),))

    def test_kept(self) -> None:
        """Where the target has system turns they stay in place."""
        turns = user("a"), system("s"), assistant("b"), system("t"), user("c")
        self.assertEqual(repaired(*turns).turns, turns)

    def test_user_text(self) -> None:
        """Elsewhere they are the user's words in a fixed wrapper, in place."""
        found = repaired(user("a"), assistant("b"), system("s", "t"), user("c"), system_turns="user_text")
        wrapped = "<system-reminder>\ns\n\nt\n</system-reminder>"
        self.assertEqual(found.turns, (user("a"), assistant("b"), user(wrapped), user("c")))
        self.assertEqual(found.notes, ("messages of role system (sent as user text)",))
        merged = repaired(user("a"), assistant("b"), system("s", "t"), user("c"), system_turns="user_text", merge=True)
        self.assertEqual(merged.turns[2], user(wrapped, "c"))

    def test_placed(self) -> None:
        """Anthropic takes one after a user's turn, at the end or before the assistant's; the others are user text."""
        wrapped = "<system-reminder>\ns\n</system-reminder>"
        for turns, expected in (
            ((user("a"), system("s")), (user("a"), system("s"))),
            ((user("a"), system("s"), assistant("b"), user("c")), (user("a"), system("s"), assistant("b"), user("c"))),
            ((system("s"), user("a")), (user(wrapped), user("a"))),
            ((user("a"), system("s"), user("b")), (user("a"), user(wrapped), user("b"))),
            ((user("a"), assistant("b"), system("s")), (user("a"), assistant("b"), user(wrapped))),
            ((user("a"), system("s"), system("t")), (user("a"), user(wrapped), system("t"))),
        ):
            self.assertEqual(repaired(*turns, system_turns="placed").turns, expected)

    def test_never_between(self) -> None:
        """A system turn between a call and its result goes after the results, in either form."""
        call, result = ToolCall("1", "f", "{}"), ToolResult("1", (Text("r"),), "f")
        turns = user("q"), assistant(call), system("s"), user(result, "more")
        self.assertEqual(repaired(*turns).turns, (user("q"), assistant(call), user(result), system("s"), user("more")))
        found = repaired(*turns, system_turns="user_text", merge=True)
        self.assertEqual(found.turns[2], user(result, "<system-reminder>\ns\n</system-reminder>", "more"))

    def test_nothing_but_instructions(self) -> None:
        """Where somebody must have spoken, the last instruction is what is asked."""
        found = repaired(instructions=("a", "b"), user_first=True)
        self.assertEqual((found.system, found.turns), ((Text("a"),), (user("b"),)))
        self.assertEqual(repaired(instructions=("a",)), Repaired((Text("a"),), ()))

    def test_nothing(self) -> None:
        """Messages of which nothing is left are an error of the request, not an empty one."""
        self.assertRaises(Inexpressible, repaired, user(""), instructions=())
        self.assertRaises(Inexpressible, repaired, user(" "), drop_blank=True, user_first=True)
        self.assertRaises(Inexpressible, repaired, user_first=True)
        self.assertEqual(repaired().turns, ())


class EndTests(SynchronousTestCase):
    """The order of roles, the first turn and the last."""

    def test_merge(self) -> None:
        """Turns of a role become one, their texts stay several; without the wish they stay."""
        turns = user("a"), user("b", IMAGE), assistant("c"), assistant("d"), assistant("e"), user("f")
        self.assertEqual(
            repaired(*turns, merge=True).turns, (user("a", "b", IMAGE), assistant("c", "d", "e"), user("f"))
        )
        self.assertEqual(repaired(*turns).turns, turns)

    def test_merged_late(self) -> None:
        """Turns between which one vanished are merged too, and a phase stays where all agree."""
        turns = user("a"), assistant("b", phase="commentary"), user(""), assistant("c", phase="commentary"), user("d")
        self.assertEqual(repaired(*turns, merge=True).turns[1], assistant("b", "c", phase="commentary"))
        turns = user("a"), assistant("b", phase="commentary"), assistant("c", phase="final_answer"), user("d")
        self.assertEqual(repaired(*turns, merge=True).turns[1], assistant("b", "c"))

    def test_first(self) -> None:
        """An assistant who speaks first is given a user's turn before."""
        turns = assistant("a"), user("b")
        self.assertEqual(repaired(*turns, user_first=True).turns, (user(OPENING), *turns))
        self.assertEqual(repaired(*turns).turns, turns)

    def test_last(self) -> None:
        """An assistant who spoke last is asked to continue, or goes on by itself, without white space at the end."""
        turns = user("a"), assistant("b", "c \n")
        found = repaired(*turns, prefill=False)
        self.assertEqual(found.turns, (*turns, user(CONTINUE)))
        self.assertEqual(found.notes, ("messages (the user asked to continue)",))
        self.assertEqual(repaired(*turns).turns, turns)
        self.assertEqual(repaired(*turns, drop_blank=True).turns, (user("a"), assistant("b", "c")))

    def test_loose_end(self) -> None:
        """Reasoning that a broken answer left at the very end goes, whatever stands before it, and is noted."""
        loose = Reasoning("hm", opaque=OWN)
        found = repaired(user("a"), assistant(loose), reasoning=True, prefill=False)
        self.assertEqual(found.turns, (user("a"),))
        self.assertEqual(found.notes, ("reasoning at the end of the last message",))
        found = repaired(user("a"), assistant(loose, "b", loose, loose), reasoning=True)
        self.assertEqual(found.turns, (user("a"), assistant(loose, "b")))
        whole = user("a"), assistant(loose), user("b")
        self.assertEqual(repaired(*whole, reasoning=True).turns, whole)
        with self.assertRaises(Inexpressible):
            repaired(assistant(loose), reasoning=True)

    def test_cache_marks(self) -> None:
        """The last marks stay, wherever in the turns; marks of results are marks too."""
        mark = CacheMark()
        turns = (
            user(Text("a", cache=mark)),
            assistant(Text("b", cache=mark), ToolCall("1", "f", "{}", cache=mark)),
            user(ToolResult("1", name="f", cache=mark), Text("c", cache=mark)),
        )

        def marks(most: int | None) -> list[bool]:
            found = repaired(*turns, cache_marks=most).turns
            return [getattr(part, "cache", None) is not None for turn in found for part in turn.parts]

        self.assertEqual(marks(None), [True] * 5)
        self.assertEqual(marks(5), [True] * 5)
        self.assertEqual(marks(2), [False, False, False, True, True])
        self.assertEqual(marks(0), [False] * 5)
