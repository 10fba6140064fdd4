"""Tests for :mod:`mportrouter.sequencer`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Citation, Foreign, Opaque, WebSearch
from ..errors import Kind, Verdict
from ..events import (
    Cite,
    Close,
    Delta,
    End,
    Event,
    Failed,
    Finish,
    Hidden,
    Open,
    Other,
    Searched,
    Sign,
    Start,
    Tally,
)
from ..records import Usage
from ..sequencer import Sequencer

STATE = Opaque("minimax", "m", "signature", "abc")


def tool(key: int, name: str = "f", id: str = "") -> Open:
    return Open(key, "tool", id=id, name=name)


def text(key: int) -> Open:
    return Open(key, "text")


def run(*events: Event, interleave: bool = False) -> list[Event]:
    """All that comes out, without ``Start`` where none was given."""
    sequencer = Sequencer(interleave)
    out = [ordered for event in events for ordered in sequencer.take(event)]
    return out if events and isinstance(events[0], Start) else out[1:]


def ended(*events: Event, interleave: bool = False, stop: str = "end") -> list[Event]:
    """What comes out of a whole answer, without its last two events."""
    out = run(*events, Finish(stop), End(), interleave=interleave)
    assert isinstance(out[-1], End) and isinstance(out[-2], Finish)
    return out[:-2]


class BeginningTests(SynchronousTestCase):
    """``Start`` and usage."""

    def test_start_once(self) -> None:
        """The first start is given on, a second one is not, and one is made where there is none."""
        self.assertEqual(run(Start("a", "m"), Start("b", "n"))[0], Start("a", "m"))
        self.assertEqual(len(run(Start("a", "m"), Start("b", "n"))), 1)
        self.assertEqual(Sequencer(False).take(Finish("end")), [Start()])

    def test_early_usage(self) -> None:
        """Usage that is known before the first part is told at once, and the last one again at the end."""
        early, late = Tally(Usage(input=3)), Tally(Usage(input=3, output=9))
        out = run(Start(), early, text(0), Delta(0, "x"), Tally(Usage(input=1)), late, Finish("end"), End())
        self.assertEqual(out[:2], [Start(), early])
        self.assertEqual(out[-3:], [late, Finish("end"), End()])
        self.assertEqual(len([event for event in out if isinstance(event, Tally)]), 2)

    def test_usage_after_finish(self) -> None:
        """Usage that comes after the reason to stop stands before it."""
        late = Tally(Usage(output=9))
        out = run(text(0), Delta(0, "x"), Finish("end"), late, End())
        self.assertEqual(out[-4:], [Close(0), late, Finish("end"), End()])


class PartTests(SynchronousTestCase):
    """One part at a time."""

    def test_first_content_decides(self) -> None:
        """A part that is opened and stays empty is never seen."""
        out = ended(text(0), Open(1, "reasoning"), Close(1), tool(2), Delta(2, "{}"), Close(2), Delta(0, ""), Close(0))
        self.assertEqual(out, [tool(2), Delta(2, "{}"), Close(2)])

    def test_text_passes_at_once(self) -> None:
        """Each piece of a running text is given on when it comes."""
        sequencer = Sequencer(False)
        for event in (Start(), text(0), Delta(0, "a")):
            sequencer.take(event)
        self.assertEqual(sequencer.straight, 0)
        self.assertTrue(sequencer.prose)
        self.assertEqual(sequencer.take(Delta(0, "b")), [Delta(0, "b")])

    def test_change(self) -> None:
        """Reasoning, text and calls close what came before them, and a text that goes on is a part of its own."""
        out = ended(
            Open(0, "reasoning"), text(1), Delta(0, "r"), Delta(1, "t"), Delta(0, "s"), tool(2), Delta(2, "{}"),
            Close(2), Delta(1, "u"),
        )  # fmt: skip
        self.assertEqual(
            out,
            [
                Open(0, "reasoning"), Delta(0, "r"), Close(0), text(1), Delta(1, "t"), Close(1),
                Open(-1, "reasoning"), Delta(-1, "s"), Close(-1), tool(2), Delta(2, "{}"), Close(2),
                text(-2), Delta(-2, "u"), Close(-2),
            ],
        )  # fmt: skip

    def test_close_twice(self) -> None:
        """A part is closed once; closing what was never there is nothing."""
        out = ended(tool(0), Close(0), Close(0), Close(7))
        self.assertEqual(out, [tool(0), Close(0)])

    def test_open_twice(self) -> None:
        """An open part is not opened again."""
        self.assertEqual(ended(tool(0), tool(0, "g"), Delta(0, "{}")), [tool(0), Delta(0, "{}"), Close(0)])

    def test_signature(self) -> None:
        """The state of a part stands at its end; where the part is over, it becomes a hidden one."""
        out = ended(Open(0, "reasoning"), Delta(0, "r"), Sign(0, STATE), Close(0))
        self.assertEqual(out, [Open(0, "reasoning"), Delta(0, "r"), Sign(0, STATE), Close(0)])
        out = ended(Open(0, "reasoning"), Delta(0, "r"), text(1), Delta(1, "t"), Sign(0, STATE))
        self.assertEqual(out[-2:], [Close(1), Hidden(-1, STATE)])
        self.assertEqual(ended(Open(0, "reasoning"), Sign(0, STATE), Close(0))[0], Open(0, "reasoning"))

    def test_citation(self) -> None:
        """A citation belongs to its text; one that comes when the text is over is dropped."""
        cite = Citation("https://example.test/")
        self.assertIn(Cite(0, cite), ended(text(0), Delta(0, "x"), Cite(0, cite)))
        out = ended(text(0), Delta(0, "x"), tool(1), Cite(0, cite))
        self.assertEqual(out, [text(0), Delta(0, "x"), Close(0), tool(1), Close(1)])

    def test_whole_parts(self) -> None:
        """What comes whole ends the text before it, and waits for an open call."""
        search = Searched(1, WebSearch("s", "q"))
        other = Other(2, Foreign("gemini", "inlineData", {}))
        hidden = Hidden(3, STATE)
        out = ended(text(0), Delta(0, "x"), search, other, hidden)
        self.assertEqual(out, [text(0), Delta(0, "x"), Close(0), search, other, hidden])
        out = ended(tool(0), Delta(0, '{"a":'), search, Delta(0, "1}"))
        self.assertEqual(out, [tool(0), Delta(0, '{"a":'), Delta(0, "1}"), Close(0), search])
        out = ended(tool(0), Delta(0, '{"a":'), search, Delta(0, "1}"), interleave=True)
        self.assertEqual(out[2], search)


class BlankTests(SynchronousTestCase):
    """Text of white space."""

    def test_between_calls(self) -> None:
        """A text of nothing but white space is dropped, beside calls and alone."""
        out = ended(
            text(0), Delta(0, "\n"), tool(1), Delta(1, "{}"), Close(1), Delta(0, " \n"), tool(2), Close(2), text(3),
            Delta(3, "\t"),
        )  # fmt: skip
        self.assertEqual(out, [tool(1), Delta(1, "{}"), Close(1), tool(2), Close(2)])

    def test_leading(self) -> None:
        """White space before words is kept, and comes with them."""
        sequencer = Sequencer(False)
        self.assertEqual(sequencer.take(Start()), [Start()])
        for event in (text(0), Delta(0, "\n"), Delta(0, " ")):
            self.assertEqual(sequencer.take(event), [])
        self.assertEqual(sequencer.take(Delta(0, "x")), [text(0), Delta(0, "\n"), Delta(0, " "), Delta(0, "x")])
        self.assertEqual(sequencer.take(Delta(0, "\n")), [Delta(0, "\n")])

    def test_interleaved(self) -> None:
        """Where the writer takes parts interleaved it goes on as it came."""
        out = ended(text(0), Delta(0, "\n"), tool(1), interleave=True)
        self.assertEqual(out, [text(0), Delta(0, "\n"), Close(0), tool(1), Close(1)])

    def test_waiting_text(self) -> None:
        """White space that waited for a call is dropped as well."""
        out = ended(tool(0), Delta(0, "{"), text(1), Delta(1, "\n"), Delta(0, "}"), tool(2), Delta(2, "{}"))
        self.assertEqual(out, [tool(0), Delta(0, "{"), Delta(0, "}"), Close(0), tool(2), Delta(2, "{}"), Close(2)])


class ToolTests(SynchronousTestCase):
    """Calls, one by one and interleaved."""

    def test_interleaved_fragments(self) -> None:
        """Fragments of several calls in turn come out call by call, the first one at once."""
        sequencer = Sequencer(False)
        sequencer.take(Start())
        self.assertEqual(sequencer.take(tool(0)), [tool(0)])
        self.assertEqual(sequencer.take(tool(1, "g")), [])
        self.assertEqual(sequencer.take(Delta(1, '{"b":')), [])
        self.assertEqual(sequencer.take(Delta(0, '{"a":1')), [Delta(0, '{"a":1')])
        self.assertEqual(sequencer.take(Delta(1, "2}")), [])
        rest = [tool(1, "g"), Delta(1, '{"b":'), Delta(1, "2}")]
        self.assertEqual(sequencer.take(Delta(0, "}")), [Delta(0, "}"), Close(0), *rest])
        self.assertEqual(sequencer.take(Close(0)), [])
        self.assertEqual(sequencer.take(Close(1)), [Close(1)])

    def test_sequential(self) -> None:
        """A call whose arguments are whole makes room for the next, without being closed by its reader."""
        sequencer = Sequencer(False)
        for event in (Start(), tool(0), Delta(0, '{"a"'), Delta(0, ':{"b":"}"}} ')):
            sequencer.take(event)
        self.assertEqual(sequencer.take(tool(1, "g")), [Close(0), tool(1, "g")])
        self.assertEqual(sequencer.take(Delta(0, "\n")), [])
        self.assertEqual(sequencer.take(Delta(1, "{")), [Delta(1, "{")])
        self.assertEqual(sequencer.take(Close(0)), [])

    def test_not_whole(self) -> None:
        """Arguments that only look whole do not end a call: a brace in a text, an empty object, free text."""
        for opened, fragment in (
            (tool(0), '{"a":"}'),
            (tool(0), "{}"),
            (tool(0), ""),
            (tool(0), '["a"]'),
            (Open(0, "tool", name="f", custom=True), '{"a":1}'),
        ):
            out = run(opened, Delta(0, fragment), tool(1))
            self.assertEqual(out, [opened, Delta(0, fragment)] if fragment else [opened])

    def test_more_of_a_whole_call(self) -> None:
        """More arguments for a call that was taken for whole break the answer rather than getting lost."""
        out = run(tool(0), Delta(0, '{"a":1}'), tool(1), Delta(0, '{"b":2}'), Delta(1, "x"), End())
        self.assertIsInstance(out[-1], Failed)
        self.assertEqual(len([event for event in out if isinstance(event, Failed)]), 1)

    def test_text_while_open(self) -> None:
        """A text that comes in the middle of a call waits for its end, and stands between the calls."""
        out = ended(
            tool(0), Delta(0, '{"a"'), text(1), Delta(1, "x"), tool(2), Delta(1, "y"), Delta(2, "{}"), Delta(0, ":1}"),
        )  # fmt: skip
        self.assertEqual(
            out,
            [
                tool(0), Delta(0, '{"a"'), Delta(0, ":1}"), Close(0), text(1), Delta(1, "x"), Close(1),
                tool(2), Delta(2, "{}"), Close(2), text(-1), Delta(-1, "y"), Close(-1),
            ],
        )  # fmt: skip

    def test_name_late(self) -> None:
        """A call opens when its name is known, and with all that came before."""
        sequencer = Sequencer(False)
        for event in (Start(), Open(0, "tool", id="a"), Delta(0, '{"x"'), Delta(1, "[")):
            sequencer.take(event)
        self.assertEqual(sequencer.take(tool(0, "f", "a")), [tool(0, "f", "a"), Delta(0, '{"x"')])
        self.assertEqual(sequencer.take(Delta(0, ":1}")), [Delta(0, ":1}")])
        self.assertEqual(sequencer.take(tool(1)), [Close(0), tool(1), Delta(1, "[")])

    def test_no_name(self) -> None:
        """A call that never gets a name breaks the answer: it must not vanish."""
        for events in ([Open(0, "tool"), Delta(0, "{}")], [Delta(0, "{}")], [Open(0, "tool"), Close(0)]):
            out = run(*events, Finish("tool_use"), End())
            assert isinstance(out[-1], Failed)
            self.assertEqual(out[-1].verdict.kind, Kind.GARBAGE)

    def test_writer_takes_turns(self) -> None:
        """Where the writer takes parts interleaved, calls go on in turn, and a text ends where a call begins."""
        out = ended(
            text(9), Delta(9, "x"), tool(0), tool(1), Delta(0, "{"), Delta(1, "{"), Delta(0, "}"), Delta(9, "y"),
            Delta(1, "}"), Close(0), interleave=True,
        )  # fmt: skip
        self.assertEqual(
            out,
            [
                text(9), Delta(9, "x"), Close(9), tool(0), tool(1), Delta(0, "{"), Delta(1, "{"), Delta(0, "}"),
                text(-1), Delta(-1, "y"), Delta(1, "}"), Close(0), Close(1), Close(-1),
            ],
        )  # fmt: skip

    def test_too_much_waits(self) -> None:
        """What waits behind an open call is bounded."""
        sequencer = Sequencer(False, limit=10)
        for event in (Start(), tool(0), tool(1), Delta(1, "x" * 10)):
            sequencer.take(event)
        out = sequencer.take(Delta(1, "x"))
        assert isinstance(out[-1], Failed)
        self.assertEqual(sequencer.take(Delta(0, "x")), [])


class FinishTests(SynchronousTestCase):
    """Why it stopped."""

    def stop(self, *events: Event) -> Finish:
        found = [event for event in run(*events, End()) if isinstance(event, Finish)]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_derived(self) -> None:
        """A call means ``tool_use`` and none means ``end``, whatever the upstream says, or if it says nothing."""
        for said in ("end", "tool_use", "stop_sequence"):
            self.assertEqual(self.stop(tool(0), Finish(said)), Finish("tool_use"))
        self.assertEqual(self.stop(tool(0)), Finish("tool_use"))
        self.assertEqual(self.stop(Finish("tool_use")), Finish("end"))
        self.assertEqual(self.stop(), Finish("end"))
        self.assertEqual(self.stop(Finish("stop_sequence", "###")), Finish("stop_sequence", "###"))

    def test_strong(self) -> None:
        """A limit, a refusal or a pause is told though there was a call."""
        for said in ("length", "refusal", "content_filter", "pause", "context_full"):
            self.assertEqual(self.stop(tool(0), Finish(said, None, "why", "c")), Finish(said, None, "why", "c"))

    def test_provider_search_is_no_call(self) -> None:
        """A search of the provider's own is no call that a client has to answer."""
        self.assertEqual(self.stop(Searched(0, WebSearch("s", "q")), Finish("end")), Finish("end"))

    def test_first_counts(self) -> None:
        """Of two reasons the first one counts."""
        self.assertEqual(self.stop(Finish("length"), Finish("end")), Finish("length"))

    def test_waits_for_end(self) -> None:
        """Nothing is told before the end, and parts may still follow."""
        sequencer = Sequencer(False)
        self.assertEqual(sequencer.take(Start()), [Start()])
        self.assertEqual(sequencer.take(Finish("end")), [])
        sequencer.take(tool(0))
        self.assertEqual(sequencer.take(End()), [Close(0), Finish("tool_use"), End()])

    def test_nothing_after_the_end(self) -> None:
        """After the end, or a failure, everything is passed over."""
        for last in (End(), Failed(Verdict(Kind.OVERLOADED, "x"))):
            sequencer = Sequencer(False)
            for event in (Start(), text(0), Delta(0, "x"), last):
                sequencer.take(event)
            for event in (Delta(0, "y"), End(), tool(1), Tally(Usage()), Failed(Verdict(Kind.CUT, "x")), Start()):
                self.assertEqual(sequencer.take(event), [])

    def test_failure_closes_nothing(self) -> None:
        """Half a call must not look whole: it is not closed, and what waited does not come."""
        failed = Failed(Verdict(Kind.CUT, "x"))
        out = run(tool(0), Delta(0, "{"), tool(1), Delta(1, "{}"), Close(1), failed)
        self.assertEqual(out, [tool(0), Delta(0, "{"), failed])


class SurrogateTests(SynchronousTestCase):
    """Characters in two halves."""

    def test_joined(self) -> None:
        """Halves in two deltas become one character, whatever stands around them."""
        out = ended(text(0), Delta(0, "a\ud83d"), Delta(0, "\ude00b"), Delta(0, "c"))
        self.assertEqual(out, [text(0), Delta(0, "a"), Delta(0, "\U0001f600b"), Delta(0, "c"), Close(0)])

    def test_alone(self) -> None:
        """A half without its other becomes the replacement character, at the end of the part or before other text."""
        for rest, said in (((), "a\ufffd"), ((Delta(0, "b"),), "a\ufffdb"), ((Sign(0, STATE),), "a\ufffd")):
            out = ended(text(0), Delta(0, "a\ud83d"), *rest)
            self.assertEqual("".join(event.text for event in out if isinstance(event, Delta)), said)
            if rest and isinstance(rest[0], Sign):
                self.assertIsInstance(out[-2], Sign)

    def test_nothing_but_half(self) -> None:
        """A half that comes first waits for its other; two halves in turn are kept apart."""
        out = ended(text(0), Delta(0, "\ud83d"), Delta(0, "\ud83d"), Delta(0, "\ude00"))
        self.assertEqual("".join(event.text for event in out if isinstance(event, Delta)), "\ufffd\U0001f600")

    def test_inside(self) -> None:
        """A half in the middle of a piece, or a low one at its beginning, is replaced; the pieces around are kept."""
        for said in ("a\ud83db", "\ude00", "a\ude00", "\ud83d\ud83dx", "\u4f60\ude00\ud83d\ude00"):
            out = ended(text(0), Delta(0, "x"), Delta(0, said), Delta(0, "y"))
            whole = "".join(event.text for event in out if isinstance(event, Delta))
            self.assertEqual(whole, mended(f"x{said}y"))
            self.assertEqual(whole, whole.encode().decode())

    def test_in_arguments(self) -> None:
        """The same in a call's arguments, also while it waits."""
        for first in ((), (tool(5), Delta(5, "{"))):
            out = ended(*first, tool(0), Delta(0, '"\ud83d'), Delta(0, '\ude00"'))
            self.assertEqual(
                "".join(event.text for event in out if isinstance(event, Delta) and event.key == 0), '"\U0001f600"'
            )


Step = tuple[int, str]

steps = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["a", " ", "\n", "{", "}", '"', ":", "1", '{"a":1}', "\ud83d", "\ude00"])
    ),
    max_size=30,
)


class GrammarTests(SynchronousTestCase):
    """What holds for every answer."""

    @given(steps, st.booleans())
    def test_grammar(self, steps: list[Step], interleave: bool) -> None:
        """
        Parts are opened once and closed once, nothing stands outside of an open part, one is open at a time unless the
        writer takes more, and no text of a call is lost or changed.
        """
        kinds = {0: "text", 1: "text", 2: "reasoning", 3: "tool", 4: "tool", 5: "tool"}
        opened: set[int] = set()
        events: list[Event] = [Start()]
        for key, said in steps:
            if key not in opened:
                opened.add(key)
                events.append(Open(key, kinds[key], name="f" if key > 2 else ""))
            events.append(Delta(key, said))
        events += [Finish("end"), End()]
        sequencer = Sequencer(interleave)
        out = [ordered for event in events for ordered in sequencer.take(event)]
        live: dict[int, str] = {}
        seen: set[int] = set()
        for event in out:
            if isinstance(event, Open):
                self.assertNotIn(event.key, seen)
                seen.add(event.key)
                live[event.key] = event.kind
                self.assertLessEqual(len([kind for kind in live.values() if kind != "tool"]), 1)
                if not interleave:
                    self.assertEqual(len(live), 1)
            elif isinstance(event, Close):
                live.pop(event.key)
            elif isinstance(event, Delta):
                self.assertIn(event.key, live)
                self.assertTrue(event.text)
                self.assertFalse("\ud800" <= event.text[-1] <= "\udbff")
        if isinstance(out[-1], Failed):
            return  # more arguments after a whole object
        self.assertEqual(live, {})
        self.assertIsInstance(out[-1], End)
        calls = [key for key in dict.fromkeys(key for key, _ in steps) if key > 2]
        self.assertEqual([event.key for event in out if isinstance(event, Open) and event.kind == "tool"], calls)
        for key in calls:
            came = "".join(said for other, said in steps if other == key)
            went = "".join(event.text for event in out if isinstance(event, Delta) and event.key == key)
            if not interleave:
                # White space after a whole object may be missing.
                came, went = came.rstrip(), went.rstrip()
            self.assertEqual(went, mended(came))


def mended(text: str) -> str:
    """Surrogate pairs joined; halves that are alone replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
