"""Tests for :mod:`mportrouter.tool_names`."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Conversation, Text, Tool, ToolCall, Turn
from ..interfaces import AnswerContext, Target
from ..settings import Capabilities
from ..tool_names import AnswerIds, ToolNames, made_up, restored, wire_id

PATTERN = "[a-zA-Z0-9_-]+"
GEMINI = "[a-zA-Z_][a-zA-Z0-9_.:-]*"
_any_text = st.text(st.characters(exclude_categories=()))


def names(
    *tools: Tool, turns: tuple[Turn, ...] = (), limit: int = 64, pattern: str = PATTERN, **flags: Any
) -> ToolNames:
    return ToolNames(tools, turns, limit=limit, pattern=pattern, **flags)


def called(*calls: ToolCall) -> Turn:
    return Turn("assistant", (Text("x"), *calls))


class NameTests(SynchronousTestCase):
    """Names at a target, and the way back."""

    def test_legal(self) -> None:
        """A legal name stays, its tool is the very object, and nothing needs to be undone."""
        tool = Tool("read_file", "d", {"type": "object"})
        found = names(tool, turns=(called(ToolCall("1", "read_file", "{}"), ToolCall("2", "gone", "{}")),))
        self.assertEqual(found.wire("read_file"), "read_file")
        self.assertIs(found.tools[0], tool)
        self.assertEqual(found.names, {})
        self.assertIsNone(restored(found.names, "read_file"))

    def test_illegal(self) -> None:
        """An illegal or long name is cut, given eight digits of its own, and undone on the way back."""
        for name in ("a.b", "a b", "\u00fc", "x" * 65, "", "\ud83d", "a\n"):
            tool = Tool(name, schema={"type": "object"})
            found = names(tool)
            wire = found.wire(name)
            self.assertRegex(wire, r"\A[a-zA-Z0-9_-]{9,64}\Z")
            self.assertEqual(found.tools[0].name, wire)
            self.assertEqual(found.tools[0].schema, {"type": "object"})
            self.assertIs(restored(found.names, wire), tool)
            self.assertEqual(names(tool).wire(name), wire)
        self.assertTrue(names(Tool("mcp.read")).wire("mcp.read").startswith("mcp_read_"))

    def test_limits(self) -> None:
        """The limit and the letters are the target's: a name that one takes may be illegal at another."""
        self.assertEqual(names(Tool("a.b:c"), pattern=GEMINI).wire("a.b:c"), "a.b:c")
        wire = names(Tool("0x"), pattern=GEMINI).wire("0x")
        self.assertRegex(wire, rf"\A{GEMINI}\Z")
        self.assertEqual(len(names(Tool("n" * 128), limit=128).wire("n" * 128)), 128)
        self.assertEqual(len(names(Tool("n" * 129), limit=128).wire("n" * 129)), 128)

    def test_near(self) -> None:
        """Two names that are cut alike stay two."""
        one, two = "x" * 70 + "1", "x" * 70 + "2"
        found = names(Tool(one), Tool(two))
        self.assertNotEqual(found.wire(one), found.wire(two))
        self.assertEqual([tool.name for tool in found.tools], [found.wire(one), found.wire(two)])

    def test_taken(self) -> None:
        """A tool that has the name by right keeps it, wherever it stands in the list."""
        made = names(Tool("a.b")).wire("a.b")
        found = names(Tool("a.b"), Tool(made))
        self.assertEqual(found.wire(made), made)
        self.assertNotEqual(found.wire("a.b"), made)
        flat = names(Tool("c", namespace="n"), Tool("n__c"))
        self.assertEqual(flat.wire("n__c"), "n__c")
        self.assertNotEqual(flat.wire("c", "n"), "n__c")
        self.assertEqual(restored(flat.names, flat.wire("c", "n")), Tool("c", namespace="n"))

    def test_history(self) -> None:
        """A tool that was called but is offered no more is renamed all the same, and can come back."""
        found = names(turns=(called(ToolCall("1", "old.tool", "{}"), ToolCall("2", "patch", "x", custom=True)),))
        self.assertEqual(found.tools, ())
        tool = restored(found.names, found.wire("old.tool"))
        assert tool is not None
        self.assertEqual((tool.name, tool.kind), ("old.tool", "function"))
        patch = restored(found.names, "patch")
        assert patch is not None
        self.assertEqual(patch.kind, "custom")

    def test_namespaces(self) -> None:
        """A namespace is written before the name, and taken off on the way back; a target that has them keeps them."""
        tool = Tool("list", namespace="mcp__files")
        found = names(tool)
        self.assertEqual(found.wire("list", "mcp__files"), "mcp__files__list")
        self.assertEqual(found.wire("list"), "mcp__files__list", "results do not repeat the namespace")
        self.assertEqual((found.tools[0].name, found.tools[0].namespace), ("mcp__files__list", ""))
        self.assertIs(restored(found.names, "mcp__files__list"), tool)
        kept = names(tool, namespaces=True)
        self.assertEqual((kept.wire("list", "mcp__files"), kept.tools, kept.names), ("list", (tool,), {}))
        gone = names(tool, turns=(called(ToolCall("1", "list", "{}", namespace="b")),), namespaces=True)
        self.assertEqual((gone.wire("list", "b"), gone.names), ("list", {}))
        two = names(Tool("list", namespace="a"), Tool("list", namespace="b"))
        self.assertEqual([tool.name for tool in two.tools], ["a__list", "b__list"])
        self.assertEqual(two.wire("list"), "list", "which one is meant cannot be known")

    def test_custom(self) -> None:
        """A tool of free text becomes a function of one text, its grammar in words; a target that has such keeps it."""
        grammar = {"syntax": "lark", "definition": "start: /a+/"}
        tool = Tool("patch", "Edit.", kind="custom", grammar=grammar, raw={"type": "custom"})
        written = names(tool).tools[0]
        self.assertEqual((written.kind, written.grammar, written.raw), ("function", None, None))
        self.assertEqual(
            written.schema, {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        )
        self.assertEqual(written.description, "Edit.\n\n`input` must follow this lark grammar:\nstart: /a+/")
        self.assertEqual(names(Tool("p", "Edit.", kind="custom")).tools[0].description, "Edit.")
        self.assertIs(restored(names(tool).names, "patch"), tool)
        kept = names(tool, custom=True)
        self.assertEqual((kept.tools, kept.names), ((tool,), {}))

    def test_server_tools(self) -> None:
        """What the provider runs is no call's name; a function of such a name is an ordinary one."""
        server = Tool("web_search", kind="server", server="web_search")
        found = names(server, Tool("web_search", "mine"))
        self.assertEqual([tool.description for tool in found.tools], ["mine"])

    def test_repeated(self) -> None:
        """A tool that is offered twice is offered once: every provider refuses two of a name."""
        self.assertEqual([tool.description for tool in names(Tool("a", "1"), Tool("a", "2")).tools], ["1"])

    @given(st.lists(st.tuples(_any_text, st.sampled_from(["", "n", "\u00fc"])), unique=True), st.integers(12, 64))
    def test_invariants(self, offered: list[tuple[str, str]], limit: int) -> None:
        """Every tool has one legal name of its own, and every call by it finds the tool."""
        tools = [Tool(name, namespace=space) for name, space in offered]
        found = names(*tools, limit=limit)
        wires = [tool.name for tool in found.tools]
        self.assertEqual(len(set(wires)), len(tools))
        for tool, wire in zip(tools, wires, strict=True):
            self.assertEqual(found.wire(tool.name, tool.namespace), wire)
            self.assertTrue(re.fullmatch(PATTERN, wire) and len(wire) <= limit, wire)
            back = restored(found.names, wire) or Tool(wire)
            self.assertEqual((back.name, back.namespace), (tool.name, tool.namespace))

    @given(st.lists(_any_text, max_size=6), st.lists(_any_text, max_size=6), st.lists(_any_text, max_size=6))
    def test_append_only(self, offered: list[str], said: list[str], later: list[str]) -> None:
        """What is called later changes no name of what was called before."""
        tools = [Tool(name) for name in offered]
        before = [called(ToolCall(str(at), name, "{}")) for at, name in enumerate(said)]
        after = [called(ToolCall(f"l{at}", name, "{}")) for at, name in enumerate(later)]
        short, long = names(*tools, turns=tuple(before)), names(*tools, turns=(*before, *after))
        self.assertEqual([long.wire(name) for name in said], [short.wire(name) for name in said])
        self.assertEqual(long.tools, short.tools)


class ArgumentsTests(SynchronousTestCase):
    """Arguments as a target gets them."""

    def test_own_text(self) -> None:
        """The text of an object passes as it came, whatever its spacing, numbers and escapes."""
        found = names()
        for text in ("{}", ' { "a" : 1.0 }\n', '{"a":12345678901234567890123}', '{"a":"\\ud83d"}', '{"a":1,"a":2}'):
            self.assertEqual(found.arguments(ToolCall("1", "f", text)), text)

    def test_nothing(self) -> None:
        """No arguments are an empty object."""
        self.assertEqual(names().arguments(ToolCall("1", "f", "")), "{}")
        self.assertEqual(names().arguments(ToolCall("1", "f", " \n")), "{}")

    def test_broken(self) -> None:
        """What is no object is kept as a text; an object with raw line ends in its texts is written anew."""
        for text in ('{"a": 1', "null", "[1]", '"a"', "NaN", '{"a":NaN}', "rm -rf", '{"a":1}{"b":2}', "[" * 5000):
            self.assertEqual(json.loads(names().arguments(ToolCall("1", "f", text))), {"_raw": text})
        self.assertEqual(names().arguments(ToolCall("1", "f", '{"a":"x\ny"}')), '{"a":"x\\ny"}')
        self.assertEqual(json.loads(names().arguments(ToolCall("1", "f", "\ud83d"))), {"_raw": "\ud83d"})
        surrogate = '{"a":"\ud83d"}'
        self.assertEqual(names().arguments(ToolCall("1", "f", surrogate)), surrogate)

    def test_custom(self) -> None:
        """Free text is wrapped, or stays raw where the target has it."""
        call = ToolCall("1", "p", '*** "Begin"\n', custom=True)
        self.assertEqual(json.loads(names().arguments(call)), {"input": '*** "Begin"\n'})
        self.assertEqual(names(custom=True).arguments(call), '*** "Begin"\n')
        self.assertEqual(names().arguments(ToolCall("1", "p", "", custom=True)), '{"input":""}')


class IdTests(SynchronousTestCase):
    """Ids of calls."""

    def test_wire(self) -> None:
        """A legal id stays; another becomes one that is made of it, always the same."""
        plain = Capabilities()
        for id in ("toolu_01A", "call-1", "x" * 64):
            self.assertEqual(wire_id(id, plain), id)
        for id in ("a.b", "x" * 65, "", "\u00fc", "a b", "call\n", "\ud83d"):
            made = wire_id(id, plain)
            self.assertRegex(made, r"\At[0-9a-f]{30}\Z")
            self.assertEqual(made, wire_id(id, plain))
        self.assertNotEqual(wire_id("a.b", plain), wire_id("a.c", plain))
        self.assertEqual(len(wire_id("toolu_" + "x" * 40, Capabilities(tool_id_max=40))), 31)

    def test_nine(self) -> None:
        """A target that wants exactly nine letters and digits gets nine."""
        nine = Capabilities(tool_id_max=9, tool_id_pattern="[a-zA-Z0-9]{9}")
        self.assertEqual(wire_id("abcDEF123", nine), "abcDEF123")
        self.assertRegex(wire_id("call_1", nine), r"\A[a-zA-Z0-9]{9}\Z")

    def test_made_up(self) -> None:
        """The same exchange and number give the same id, of letters and digits; others give another."""
        self.assertRegex(made_up("toolu_", "req", 0), r"\Atoolu_[a-z0-9]{24}\Z")
        self.assertEqual(made_up("call_", "req", 1), made_up("call_", "req", 1))
        self.assertEqual(len(made_up("", "req", 1, 9)), 9)
        many = {made_up(prefix, id, at) for prefix in ("a", "b") for id in ("r", "s") for at in range(20)}
        self.assertEqual(len(many), 80)

    def ids(self, *calls: ToolCall) -> AnswerIds:
        conversation = Conversation("anthropic", "m", (Turn("user", (Text("x"),)), called(*calls)))
        context = AnswerContext(conversation, Target("p", "m", Capabilities()), "req_1", 0)
        return AnswerIds(context, "toolu_", PATTERN, 64)

    def test_answer(self) -> None:
        """An upstream's id stays where the client can have it and it is new; else one is made up."""
        ids = self.ids(ToolCall("call_0", "f", "{}"))
        self.assertEqual(ids.call("call_1"), "call_1")
        made = [ids.call(id) for id in ("call_0", "call_1", "", "", "a.b", "x" * 65)]
        self.assertEqual(len(set(made)), 6)
        for id in made:
            self.assertRegex(id, r"\Atoolu_[a-z0-9]{24}\Z")
        again = self.ids(ToolCall("call_0", "f", "{}"))
        again.call("call_1")
        self.assertEqual([again.call(id) for id in ("call_0", "call_1", "", "", "a.b", "x" * 65)], made)

    def test_made_up_before(self) -> None:
        """An id that was made up before is not made up again."""
        first = made_up("toolu_", "req_1", 0)
        self.assertEqual(self.ids(ToolCall(first, "f", "{}")).call(""), made_up("toolu_", "req_1", 1))
