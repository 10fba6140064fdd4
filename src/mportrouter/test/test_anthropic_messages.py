"""Tests for :mod:`mportrouter.dialects.anthropic_messages`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope, splice
from ..interfaces import Prepared
from ..settings import Capabilities
from .requests import ANTHROPIC, MINIMAX, OURS, TEXT, THEIRS, USER, assistant, body, messages, ready, thinking


def encode_messages(prepared: Prepared) -> bytes:
    member = splice.members(prepared.body)["messages"]
    return prepared.body[member.value : member.end]


class ThinkingTests(SynchronousTestCase):
    """Thinking goes only to whoever issued it."""

    def content(self, capabilities: Capabilities, *blocks: dict[str, Any]) -> Any:
        prepared = ready(body(messages=[USER, assistant(*blocks, TEXT), USER]), capabilities)
        return messages(prepared)[1]["content"], prepared.dropped

    def test_to_anthropic(self) -> None:
        """Anthropic gets its own blocks as they are, and neither foreign nor unsigned ones."""
        own, silent = thinking("EqQB"), thinking("EqQC", "")
        redacted = {"type": "redacted_thinking", "data": "EmwK"}
        for block in (own, silent, redacted):
            self.assertEqual(self.content(ANTHROPIC, block), ([block, TEXT], ()))
        for block, name in (
            (thinking(OURS), "thinking blocks of minimax"),
            (thinking(THEIRS), "thinking blocks of kimi"),
            (thinking("rt1.damaged"), "thinking blocks of another provider"),
            (thinking(""), "unsigned thinking blocks"),
            (thinking(None), "unsigned thinking blocks"),
            ({"type": "redacted_thinking", "data": OURS}, "redacted_thinking blocks of minimax"),
            ({"type": "redacted_thinking", "data": ""}, "unsigned redacted_thinking blocks"),
        ):
            self.assertEqual(self.content(ANTHROPIC, own, block, silent), ([own, silent, TEXT], (name,)))

    def test_to_a_foreign_provider(self) -> None:
        """A foreign provider gets back what it issued, byte for byte, and what nobody signed."""
        for block, wanted in (
            (thinking(OURS), thinking("sig+/=é")),
            (thinking(""), thinking("")),
            (thinking(None), thinking("")),
            ({**thinking(None), "signature": None}, thinking("")),
        ):
            self.assertEqual(self.content(MINIMAX, block), ([wanted, TEXT], ()))
        for block, name in (
            (thinking("EqQB"), "thinking blocks of anthropic"),
            (thinking("EqQB", ""), "thinking blocks of anthropic"),
            (thinking(THEIRS), "thinking blocks of kimi"),
            (thinking("rt1.minimax.!!"), "thinking blocks of minimax"),
            ({"type": "redacted_thinking", "data": "EmwK"}, "redacted_thinking blocks"),
        ):
            self.assertEqual(self.content(MINIMAX, block, thinking(OURS)), ([thinking("sig+/=é"), TEXT], (name,)))

    def test_redacted(self) -> None:
        """Where a foreign provider has redacted blocks, its own come back and others do not."""
        knows = attrs.evolve(MINIMAX, redacted_thinking=True)
        own = {"type": "redacted_thinking", "data": envelope.wrap("minimax", "m", "abc")}
        self.assertEqual(self.content(knows, own)[0], [{"type": "redacted_thinking", "data": "abc"}, TEXT])
        for data in ("EmwK", THEIRS):
            self.assertEqual(self.content(knows, {"type": "redacted_thinking", "data": data})[0], [TEXT])

    def test_bytes(self) -> None:
        """Everything around a dropped or unwrapped block keeps its bytes."""
        signature = json.dumps(OURS).encode()
        head = b'{"model":"m", "messages" : [{"role":"user", "content": "\\u00e9\\/"} ,{"role":"assistant","content":['
        block = b'{ "thinking":"a\\/b", "signature" : %b,"type":"thinking" }'
        tail = b',{"type":"tool_use","id":"t","name":"n","input":{ "n":1.0 }}]}], "max_tokens" : 5}'
        raw = head + block % signature + tail
        unwrapped = ready(raw, MINIMAX, "m").body
        self.assertIn(block % b'"sig+/=\\u00e9"' + tail[: tail.index(b"}]}")], unwrapped)
        self.assertIn(b'{"role":"user", "content": "\\u00e9\\/"}', unwrapped)
        dropped = ready(raw, ANTHROPIC, "m").body
        self.assertIn(b'"content":[{"type":"tool_use","id":"t","name":"n","input":{ "n":1.0 }}]}', dropped)
        self.assertTrue(dropped.endswith(b', "max_tokens" : 5}'))

    def test_sanitise(self) -> None:
        """Where text that nobody signed is taken, what others thought goes as text; what has none is left out."""
        sanitising = attrs.evolve(MINIMAX, thinking_blocks="sanitise")
        self.assertEqual(self.content(sanitising, thinking(OURS)), ([thinking("sig+/=é"), TEXT], ()))
        self.assertEqual(self.content(sanitising, thinking(None)), ([thinking(""), TEXT], ()))
        for signed, issuer in (("EqQB", "anthropic"), (THEIRS, "kimi"), ("rt1.damaged", "another provider")):
            got = self.content(sanitising, thinking(signed), thinking(signed, " \n"))
            wanted = (f"signatures of {issuer}", f"thinking blocks of {issuer}")
            self.assertEqual(got, ([thinking(""), TEXT], wanted))
        redacted = {"type": "redacted_thinking", "data": THEIRS}
        self.assertEqual(self.content(attrs.evolve(sanitising, redacted_thinking=True), redacted)[0], [TEXT])

    def test_sanitise_for_anthropic(self) -> None:
        """Anthropic takes no thinking without its own signature, whatever the column says."""
        sanitising = attrs.evolve(ANTHROPIC, thinking_blocks="sanitise")
        self.assertEqual(self.content(sanitising, thinking("EqQB")), ([thinking("EqQB"), TEXT], ()))
        for block in (thinking(THEIRS), thinking("")):
            self.assertEqual(self.content(sanitising, block)[0], [TEXT])

    def test_strip(self) -> None:
        """An upstream that refuses thinking gets none, not even its own; what else a turn said stays."""
        redacted = {"type": "redacted_thinking", "data": "EmwK"}
        for capabilities in (MINIMAX, ANTHROPIC, attrs.evolve(MINIMAX, redacted_thinking=True)):
            stripping = attrs.evolve(capabilities, thinking_blocks="strip")
            for block in (thinking("EqQB"), thinking(OURS), thinking(THEIRS), thinking(""), thinking(None)):
                self.assertEqual(self.content(stripping, block), ([TEXT], ("thinking blocks",)))
            self.assertEqual(self.content(stripping, redacted), ([TEXT], ("redacted_thinking blocks",)))

    def test_strip_whole_turns(self) -> None:
        """A turn of thinking alone goes; where one must stand, it says next to nothing."""
        stripping = attrs.evolve(MINIMAX, thinking_blocks="strip")
        between = messages(ready(body(messages=[USER, assistant(thinking(OURS)), USER]), stripping))
        self.assertEqual(between, [USER, USER])
        first = messages(ready(body(messages=[assistant(thinking(OURS)), USER]), stripping))
        self.assertEqual(first, [assistant({"type": "text", "text": "..."}), USER])

    def test_strip_in_an_open_loop(self) -> None:
        """Anthropic is asked for the rest of a tool loop without thinking where the loop's own may not reach it."""
        use = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}
        raw = body(
            messages=[USER, assistant(thinking("EqQB"), use), result],
            thinking={"type": "enabled", "budget_tokens": 2000},
        )
        got = json.loads(ready(raw, attrs.evolve(ANTHROPIC, thinking_blocks="strip")).body)
        self.assertEqual((got["messages"][1], got["thinking"]), (assistant(use), {"type": "disabled"}))
        self.assertIs(ready(raw, ANTHROPIC).body, raw)

    def test_columns_append_only(self) -> None:
        """However thinking is treated, a longer history begins with the bytes of the shorter one."""
        history = [USER, assistant(thinking("EqQB"), thinking(OURS), TEXT), USER, assistant(thinking(THEIRS)), USER]
        for word in ("preserve", "sanitise", "strip"):
            columns = attrs.evolve(MINIMAX, thinking_blocks=word, strip_block_fields=("cache_control",))
            whole = encode_messages(ready(body(messages=history), columns))
            for count in (1, 3):
                part = encode_messages(ready(body(messages=history[:count]), columns))
                self.assertTrue(whole.startswith(part[:-1]), (word, count))

    def test_only_content_blocks(self) -> None:
        """What only looks like thinking, inside a tool's input or a text, stays."""
        use = {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "thinking", "signature": "rt1.x.y"}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": '{"type":"thinking","signature":""}'}
        raw = body(messages=[USER, assistant(use), {"role": "user", "content": [result]}])
        for capabilities in (ANTHROPIC, MINIMAX):
            self.assertIs(ready(raw, capabilities).body, raw)

    def test_emptied(self) -> None:
        """An assistant's turn of which nothing is left goes where the list stays valid, else a short text stands in."""
        gone = assistant(thinking("EqQB"))
        self.assertEqual(messages(ready(body(messages=[USER, gone, USER]))), [USER, USER])
        self.assertEqual(messages(ready(body(messages=[USER, gone]))), [USER])
        stand_in = assistant({"type": "text", "text": "..."})
        self.assertEqual(messages(ready(body(messages=[gone, USER]))), [stand_in, USER])
        # After a system message Anthropic wants an assistant's.
        foreign, system = assistant(thinking(OURS)), {"role": "system", "content": "env"}
        sent = messages(ready(body(messages=[USER, system, foreign, USER]), ANTHROPIC))
        self.assertEqual(sent, [USER, system, stand_in, USER])
        self.assertEqual(messages(ready(body(messages=[USER, foreign, USER]), ANTHROPIC)), [USER, USER])

    def test_lone_surrogates(self) -> None:
        """A conversation that msgspec refuses is cleaned all the same."""
        raw = body(messages=[USER, assistant(thinking(OURS), TEXT), USER]).replace(b'"hi"', b'"\\ud83d"')
        self.assertEqual(messages(ready(raw, ANTHROPIC))[1], assistant(TEXT))
        self.assertEqual(messages(ready(raw))[1], assistant(thinking("sig+/=é"), TEXT))

    _turns = st.lists(
        st.one_of(
            st.just(USER),
            st.just({"role": "user", "content": [TEXT]}),
            st.just({"role": "system", "content": "env"}),
            st.lists(
                st.sampled_from(
                    [
                        TEXT,
                        thinking("EqQB"),
                        thinking(OURS),
                        thinking(THEIRS),
                        thinking(""),
                        thinking(None),
                        {"type": "redacted_thinking", "data": "EmwK"},
                    ]
                ),
                min_size=1,
                max_size=4,
            ).map(lambda blocks: assistant(*blocks)),
        ),
        min_size=1,
        max_size=8,
    )

    @settings(deadline=None)
    @given(_turns, _turns, st.sampled_from([ANTHROPIC, MINIMAX]))
    def test_append_only(self, history: list[Any], more: list[Any], capabilities: Capabilities) -> None:
        """The same history gives the same bytes whatever follows it, so prompt caches and signatures hold."""
        history = [USER, *history, assistant(TEXT)]
        early = ready(body(messages=history), capabilities)
        late = ready(body(messages=history + more), capabilities)
        old = splice.elements(encode_messages(early))
        self.assertEqual(splice.elements(encode_messages(late))[: len(old)], old)
        self.assertEqual(ready(body(messages=history), capabilities), early)

    @settings(deadline=None)
    @given(_turns, st.sampled_from([ANTHROPIC, MINIMAX]))
    def test_clean(self, history: list[Any], capabilities: Capabilities) -> None:
        """No foreign thinking is left, no message is empty, and doing it again changes nothing at Anthropic."""
        prepared = ready(body(messages=[USER, *history]), capabilities)
        own = {"EqQB"} if capabilities is ANTHROPIC else {"sig+/=é", ""}
        for message in messages(prepared):
            self.assertTrue(message["content"])
            for block in message["content"] if isinstance(message["content"], list) else ():
                if block["type"] == "thinking":
                    self.assertIn(block["signature"], own)
        if capabilities is ANTHROPIC:
            self.assertIs(ready(prepared.body, capabilities).body, prepared.body)


class SystemTests(SynchronousTestCase):
    """Messages of role ``system`` in mid-list."""

    def test_between_call_and_result(self) -> None:
        """However many stand between a call and its result, none of them parts the two."""
        call = assistant({"type": "tool_use", "id": "t", "name": "n", "input": {}})
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
        says = [{"role": "system", "content": text} for text in ("one", "two")]
        sent = messages(ready(body(messages=[USER, call, *says, result, USER]), MINIMAX))
        self.assertEqual((sent[1], sent[2], len(sent)), (call, result, 6))
        self.assertIn("one", sent[3]["content"][0]["text"])
        self.assertIn("two", sent[4]["content"][0]["text"])


class DepthTests(SynchronousTestCase):
    """JSON nested so deep that it cannot be walked."""

    def test_made_up_searches(self) -> None:
        """Searches and citations that another provider's answer left behind are no longer Anthropic's; its own stay."""

        def search(id: str, secret: str) -> list[Any]:
            hit = {"type": "web_search_result", "url": "https://a", "title": "A", "encrypted_content": secret}
            cited = {"type": "web_search_result_location", "url": "https://a", "encrypted_index": secret}
            return [
                {"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": id, "content": [hit]},
                {"type": "text", "text": "x", "citations": [cited]},
            ]

        own, made = search("srvtoolu_1", "secret"), search("srvtoolu_2", "")
        prepared = ready(body(messages=[USER, assistant(*own, *made), USER]), ANTHROPIC)
        content = messages(prepared)[1]["content"]
        self.assertEqual(content[:3], own)
        self.assertEqual([block["type"] for block in content[3:]], ["text"] * 3)
        self.assertIn("https://a", content[4]["text"])
        self.assertEqual(content[5], {"type": "text", "text": "x"})
        self.assertEqual(
            prepared.dropped, ("searches of another provider (sent as text)", "citations of another provider")
        )
        untouched = body(messages=[USER, assistant(*own), USER])
        self.assertIs(ready(untouched, ANTHROPIC).body, untouched)

    def test_deep_server_block(self) -> None:
        """A block that cannot be rendered keeps its bytes, and the provider judges it."""
        deep = b"[" * 900 + b"]" * 900
        block = b'{"type":"web_search_tool_result","tool_use_id":"x","content":%b}' % deep
        whole = b'{"model":"m","messages":[{"role":"assistant","content":[%b]}]}' % block
        self.assertEqual(encode_messages(ready(whole, MINIMAX)), b'[{"role":"assistant","content":[%b]}]' % block)
