"""Tests for :mod:`mportrouter.dialects.chat_calls`: tool calls in all the ways that servers stream them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Opaque, Tool
from ..errors import Kind
from ..events import Close, Delta, End, Finish, Open, Start
from .chats import DONE, called, failure, fragment, said, stream, texts

ROLE = said({"role": "assistant", "content": ""})
STOP = said({}, "stop")
START = Start("chatcmpl-1", "m-1")
UNSIGNED = Opaque("groq", "m", "text", "")


class CallTests(SynchronousTestCase):
    """Tool calls in all the ways that servers stream them."""

    def calls(self, *pieces: bytes, **columns: object) -> list[tuple[str, str, str]]:
        """Id, name and arguments of each call; that they are opened and closed once is checked."""
        events = stream(ROLE, *pieces, DONE, **columns)
        self.assertIsInstance(events[-1], End, events)
        opened = [event for event in events if isinstance(event, Open) and event.kind == "tool"]
        joined = texts(events)
        for event in opened:
            self.assertEqual(events.count(Close(event.key)), 1)
        self.assertEqual(len({event.key for event in opened}), len(opened))
        return [(event.id, event.name, joined.get(event.key, "")) for event in opened]

    END = said({}, "tool_calls")

    def test_usual(self) -> None:
        """Head first, then pieces of arguments."""
        self.assertEqual(
            self.calls(
                called(fragment(0, "", "c1", "f")), called(fragment(0, '{"a"')), called(fragment(0, ":1}")),
                called(fragment(1, "", "c2", "g")), called(fragment(1, "{}")), self.END,
            ),
            [("c1", "f", '{"a":1}'), ("c2", "g", "{}")],
        )  # fmt: skip

    def test_variants(self) -> None:
        """Every way of telling fragments apart gives the same two calls."""
        f, g = ("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}')
        one, two = f[2], g[2]
        for words, pieces in {
            "whole in one chunk": [called(fragment(0, one, "c1", "f"), fragment(1, two, "c2", "g"))],
            "on the finish chunk": [
                called(fragment(0, one, "c1", "f")), called(fragment(1, two, "c2", "g"), reason="tool_calls")
            ],
            "interleaved": [
                called(fragment(0, "", "c1", "f"), fragment(1, "", "c2", "g")), called(fragment(1, two[:3])),
                called(fragment(0, one[:2])), called(fragment(1, two[3:])), called(fragment(0, one[2:])),
            ],
            "id and name repeated": [
                called(fragment(0, one[:2], "c1", "f")), called(fragment(0, one[2:], "c1", "f")),
                called(fragment(1, two[:2], "c2", "g")), called(fragment(1, two[2:], "c2", "g")),
            ],
            "empty id and name later": [
                called(fragment(0, one[:2], "c1", "f")), called(fragment(0, one[2:], "", "")),
                called(fragment(1, two[:2], "c2", "g")), called(fragment(1, two[2:], "", "")),
            ],
            "no index": [
                called(fragment(None, one[:2], "c1", "f")), called(fragment(None, one[2:])),
                called(fragment(None, two[:2], "c2", "g")), called(fragment(None, two[2:])),
            ],
            "always index 0": [called(fragment(0, one, "c1", "f")), called(fragment(0, two, "c2", "g"))],
            "always index 0, in pieces": [
                called(fragment(0, one[:2], "c1", "f")), called(fragment(0, one[2:])),
                called(fragment(0, two[:2], "c2", "g")), called(fragment(0, two[2:])),
            ],
            "from index 1": [called(fragment(1, one, "c1", "f")), called(fragment(2, two, "c2", "g"))],
            "as objects": [called(fragment(0, {"a": 1}, "c1", "f")), called(fragment(1, {"b": 2}, "c2", "g"))],
            "known by id only": [
                called(fragment(None, "", "c1", "f"), fragment(None, "", "c2", "g")),
                called(fragment(None, two, "c2")), called(fragment(None, one, "c1")),
            ],
            "id after the head": [
                called(fragment(0, "", None, "f")), called(fragment(0, one, "c1")),
                called(fragment(1, "", None, "g")), called(fragment(1, two, "c2")),
            ],
        }.items():  # fmt: skip
            self.assertEqual(self.calls(*pieces, self.END), [f, g], words)

    def test_no_ids(self) -> None:
        """Calls without ids are told apart by index, by name, and by arguments that are whole."""
        self.assertEqual(
            self.calls(called(fragment(0, "{}", None, "f")), called(fragment(1, "{}", "", "f")), self.END),
            [("", "f", "{}"), ("", "f", "{}")],
        )
        self.assertEqual(
            self.calls(called(fragment(0, "{}", None, "f")), called(fragment(0, '{"x":1}', None, "g")), self.END),
            [("", "f", "{}"), ("", "g", '{"x":1}')],
        )
        self.assertEqual(
            self.calls(
                called(fragment(None, '{"x":1}', None, "f")), called(fragment(None, '{"x":2}', None, "f")), self.END
            ),
            [("", "f", '{"x":1}'), ("", "f", '{"x":2}')],
        )

    def test_one_id_twice(self) -> None:
        """Two calls under one id at two indexes are two calls."""
        self.assertEqual(
            self.calls(called(fragment(0, "{}", "c", "f")), called(fragment(1, "{}", "c", "g")), self.END),
            [("c", "f", "{}"), ("c", "g", "{}")],
        )

    def test_name_in_pieces(self) -> None:
        """A name may come in pieces until the arguments begin."""
        self.assertEqual(
            self.calls(
                called(fragment(0, "", "c", "get_")), called(fragment(0, None, None, "it")), called(fragment(0, "{}")),
                called(fragment(0, None, None, "get_it")), self.END,
            ),
            [("c", "get_it", "{}")],
        )  # fmt: skip

    def test_no_arguments(self) -> None:
        """A call without arguments is opened and closed."""
        for arguments in (None, ""):
            self.assertEqual(self.calls(called(fragment(0, arguments, "c", "f")), self.END), [("c", "f", "")])

    def test_cumulative(self) -> None:
        """Arguments that repeat what came before are told once where the column says that they do."""
        pieces = [called(fragment(0, part, "c", "f")) for part in ('{"a"', '{"a":1', '{"a":1}', '{"a":1}')]
        self.assertEqual(self.calls(*pieces, self.END, cumulative_arguments=True), [("c", "f", '{"a":1}')])

    def test_text_beside(self) -> None:
        """Text in the delta of a call comes before it, and text between calls ends neither."""
        events = stream(
            said({"content": "t", "tool_calls": [fragment(0, '{"a', "c", "f")]}), said({"content": "\n"}),
            called(fragment(0, '":1}')), self.END, DONE,
        )  # fmt: skip
        self.assertEqual(texts(events), {0: "t", 1: '{"a":1}', 2: "\n"})
        kinds = [event.kind for event in events if isinstance(event, Open)]
        self.assertEqual(kinds, ["text", "tool", "text"])
        self.assertGreater(events.index(Close(1)), events.index(Delta(1, '":1}')))

    def test_order(self) -> None:
        """A call that has only its name is announced before what comes after it."""
        events = stream(called(fragment(0, "", "c", "f")), said({"content": "t"}), self.END, DONE)
        self.assertEqual([event.kind for event in events if isinstance(event, Open)], ["tool", "text"])

    def test_old_form(self) -> None:
        """A ``function_call`` of the old form is a call without an id."""
        pieces = [
            said({"function_call": {"name": "f", "arguments": ""}}),
            said({"function_call": {"arguments": "{}"}}),
            said({}, "function_call"),
        ]
        self.assertEqual(self.calls(*pieces), [("", "f", "{}")])

    def test_old_form_beside(self) -> None:
        """Where both forms are there, the new one counts."""
        delta = {"tool_calls": [fragment(0, "{}", "c", "f")], "function_call": {"name": "f", "arguments": "{}"}}
        self.assertEqual(self.calls(said(delta), self.END), [("c", "f", "{}")])

    def test_after_finish(self) -> None:
        """A call after a first, wrong reason to stop is not lost."""
        events = stream(said({"content": "t"}, "stop"), called(fragment(0, "{}", "c", "f")), self.END, DONE)
        self.assertEqual(sum(isinstance(event, Finish) for event in events), 1)
        self.assertEqual(texts(events), {0: "t", 1: "{}"})
        self.assertIsInstance(events[-1], End)

    def test_custom(self) -> None:
        """A custom tool's input is told as it is."""
        events = stream(
            called({"index": 0, "id": "c", "type": "custom", "custom": {"name": "p", "input": ""}}),
            called({"index": 0, "custom": {"input": "x = 1"}}), self.END, DONE,
        )  # fmt: skip
        self.assertIn(Open(0, "tool", "c", "p", True), events)
        self.assertEqual(texts(events), {0: "x = 1"})

    def test_names(self) -> None:
        """Renamed tools, namespaces and tools of free text come back as the client knows them."""
        names = {"a_b": Tool("a.b"), "n__t": Tool("t", namespace="n"), "p": Tool("p", kind="custom")}
        events = stream(
            called(fragment(0, "{}", "1", "a_b"), fragment(1, "{}", "2", "n__t")),
            called(fragment(2, '{"input":"x\\n', "3", "p")), called(fragment(2, '\\u00e9"}')), self.END, DONE,
            names=names,
        )  # fmt: skip
        opened = [event for event in events if isinstance(event, Open)]
        self.assertEqual(
            [(event.name, event.namespace, event.custom) for event in opened],
            [("a.b", "", False), ("t", "n", False), ("p", "", True)],
        )
        self.assertEqual(texts(events)[2], "x\né")

    def test_custom_broken(self) -> None:
        """Arguments of such a tool that are not what it was offered with are given as they came."""
        for arguments in ("plain", '{"other":1}', '{"input":'):
            events = stream(
                called(fragment(0, arguments, "3", "p")), self.END, DONE, names={"p": Tool("p", kind="custom")}
            )
            self.assertEqual(texts(events), {0: arguments})

    def test_thought(self) -> None:
        """A thought signature of Google's compatible endpoint stays with its call."""
        call = {**fragment(0, "{}", "c", "f"), "extra_content": {"google": {"thought_signature": "sig"}}}
        events = stream(called(call), self.END, DONE)
        self.assertIn(Open(0, "tool", "c", "f", opaque=Opaque("groq", "m", "thought", "sig")), events)

    def test_nameless(self) -> None:
        """A call whose tool nobody named breaks the answer: no client could run it."""
        events = stream(called(fragment(0, "{}", "c")), self.END, DONE)
        self.assertIs(failure(events).kind, Kind.GARBAGE)
