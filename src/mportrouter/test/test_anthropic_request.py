"""Tests for :mod:`mportrouter.dialects.anthropic_request`."""

from __future__ import annotations

import json

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ..dialects.anthropic_request import look, prepare, session
from ..errors import Kind, RouterError
from ..interfaces import Look, Target
from ..settings import Capabilities
from .requests import ANTHROPIC, MINIMAX, TEXT, USER, assistant, body, encode, messages, ready, thinking


class LookTests(SynchronousTestCase):
    """What routing is told of a body."""

    def refused(self, raw: bytes, words: str) -> None:
        with self.assertRaises(RouterError, msg=repr(raw[:60])) as caught:
            look(raw)
        self.assertIs(caught.exception.kind, Kind.BAD_REQUEST)
        self.assertEqual(caught.exception.status, 400)
        self.assertIn(words, caught.exception.message)

    def test_plain(self) -> None:
        """Model, stream, limit and size are read."""
        raw = body(max_tokens=99, stream=True)
        seen = look(raw)
        self.assertIsInstance(seen, Look)
        self.assertEqual(
            (seen.model, seen.stream, seen.needs, seen.max_output, seen.size),
            ("claude-opus-5-5", True, frozenset(), 99, len(raw)),
        )
        self.assertEqual(look(b' {"model" : "a" }\n').stream, False)
        self.assertIsNone(look(b'{"model":"a","max_tokens":"x","stream":false}').max_output)
        self.assertFalse(look(b'{"model":"a","stream":null}').stream)
        self.assertEqual(look(b'{"mod\\u0065l":"caf\\u00e9"}').model, "café")

    def test_model(self) -> None:
        """A model that is missing, empty, enormous or no text is refused by name."""
        self.refused(b"{}", "`model` is missing")
        self.refused(b'{"messages":[{"model":"x"}]}', "`model` is missing")
        for value in (b"1", b"null", b"[]", b'{"a":1}', b"true", b'"\\ud800"'):
            self.refused(b'{"model":%b}' % value, "`model` must be a text")
        self.refused(b'{"model":""}', "`model` is empty")
        self.refused(b'{"model":"  "}', "`model` is empty")
        self.refused(b'{"model":"%b"}' % (b"x" * 300), "`model` has more than")

    def test_stream(self) -> None:
        """A stream member that is neither true nor false is refused by name."""
        for value in (b"1", b'"true"', b"[]", b"0"):
            self.refused(b'{"model":"a","stream":%b}' % value, "`stream`")

    def test_twice(self) -> None:
        """Two members of one name are refused: the provider might read the other one."""
        self.refused(b'{"model":"a","model":"b"}', "'model' twice")
        self.refused(b'{"model":"a","x":{"model":1},"mod\\u0065l":"b"}', "'model' twice")
        self.refused(b'{"model":"a","stream":true,"stre\\u0061m":false}', "'stream' twice")

    def test_broken(self) -> None:
        """Bodies that are no JSON object are refused, saying what and where."""
        self.refused(b"", "malformed JSON")
        self.refused(b'{"model":"a",', "line 1, column 14")
        self.refused(b"[]", "not an object")
        self.refused(b'"model"', "not an object")
        self.refused(b'{"model":"a","x":"\xff"}', "not UTF-8 (byte 18)")
        self.refused(b'\xef\xbb\xbf{"model":"a"}', "byte order mark")
        self.refused(b'{"model":"a","x":%b}' % (b"[" * 100_000 + b"]" * 100_000), "deep")
        self.refused(b'{"model":"a","n":NaN,"x":%b}' % (b"[" * 100_000 + b"]" * 100_000), "deep")

    def test_left_to_the_provider(self) -> None:
        """Odd members of every kind pass: the provider judges them."""
        for name in (
            b"messages",
            b"system",
            b"tools",
            b"tool_choice",
            b"stop_sequences",
            b"output_config",
            b"thinking",
            b"metadata",
            b"max_tokens",
            b"context_management",
        ):
            for value in (
                b"null", b"1", b'"x"', b"[]", b"{}", b"[1]", b"[null]", b'[{"role":1,"content":2,"type":3}]', b"NaN",
                b'["\\ud800"]', b"123456789012345678901234567890", b'{"type":1,"format":null}', b"1e999",
                b'[{"role":"user","content":[1,null,{"type":null},{"type":"thinking","signature":1}]}]',
                b'[{"role":"user","content":[{"type":"tool_result","content":[1,{"type":7}]}]}]',
                b'[{"role":"system"},{"role":"system","content":[1]}]',
                b'[{"content":[]}]',
                b'[{"role":[],"content":[{"type":{}},{"type":["x"]}]}]',
                b'[{"role":"user","content":[{"type":"tool_result","content":[{"type":{}},{"type":[]}]}]}]',
                b'[{"role":"user","content":[{"type":{}},{"type":"tool_result","content":[{"type":{}}]}]}]',
                b'{"display":{"display":1}}',
            ):  # fmt: skip
                raw = b'{"model":"a",%b:%b}' % (b'"' + name + b'"', value)
                self.assertEqual(look(raw).model, "a")
                for capabilities in (ANTHROPIC, MINIMAX):
                    prepared = ready(raw, capabilities, "b")
                    self.assertTrue(prepared.body.startswith(b'{"model":"b"'), raw)

    def test_needs(self) -> None:
        """The capabilities that the answer depends on are named."""
        image = {"type": "image", "source": {"type": "url", "url": "x"}}
        document = {"type": "document", "source": {"type": "text", "data": "x"}}
        found = {"type": "search_result", "source": "x", "title": "t", "content": []}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
        for members, wanted in (
            ({"stop_sequences": ["x"]}, {"stop_sequences"}),
            ({"stop_sequences": []}, set()),
            ({"stop_sequences": None}, set()),
            ({"tool_choice": {"type": "any"}}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "tool", "name": "x"}}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "auto"}}, set()),
            ({"tool_choice": {"type": "none"}}, set()),
            ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, {"parallel_off"}),
            ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}, set()),
            ({"output_config": {"format": {"type": "json_schema"}}}, {"structured_output"}),
            ({"output_config": {"effort": "low"}}, set()),
            ({"output_config": {"format": None}}, set()),
            ({"output_config": {"x": {"format": 1}}}, set()),
            ({"messages": [{"role": "user", "content": [image]}]}, {"images"}),
            ({"messages": [{"role": "user", "content": [document]}]}, {"documents"}),
            ({"messages": [{"role": "user", "content": [found]}]}, {"search_results"}),
            ({"messages": [{"role": "user", "content": [result]}]}, {"images"}),
            ({"messages": [{"role": "user", "content": 'a "type":"image" b'}]}, set()),
            ({"messages": [assistant({"type": "tool_use", "id": "t", "name": "n", "input": {"x": [image]}})]}, set()),
            ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {"server_tools"}),
            ({"tools": [{"type": "tool_search_tool_regex_20251119", "name": "x"}]}, {"server_tools"}),
            ({"tools": [{"type": "custom", "name": "web_search", "input_schema": {}}]}, set()),
            ({"tools": [{"name": "web_search", "input_schema": {"type": "web_search_20250305"}}]}, set()),
            ({"tools": [{"type": "bash_20250124"}, {"type": "text_editor_20250728"}]}, set()),
            ({"tools": [{"type": "memory_20250818"}, {"type": "computer_20250124"}, {"type": None}]}, set()),
            ({"model": "\u00e9", "stop_sequences": ["x"], "tool_choice": {"type": "any"}},
             {"stop_sequences", "tool_choice_force"}),
        ):  # fmt: skip
            raw = encode({"model": "a", "messages": [USER], **members})
            self.assertEqual(look(raw).needs, wanted, members)
            spaced = json.dumps(json.loads(raw), indent=1).encode()
            self.assertEqual(look(spaced).needs, wanted, members)
            odd = raw[:-1] + b',"odd":NaN}'
            self.assertEqual(look(odd).needs, wanted, members)
            # A lone surrogate sends the messages the slow way, with the same result.
            cut = encode([{"role": "user", "content": "X"}]).replace(b"X", b"\\ud83d")[:-1]
            mixed = raw.replace(b'"messages":[', b'"messages":' + cut + b",")
            self.assertEqual(look(mixed).needs, wanted, members)


class PrepareTests(SynchronousTestCase):
    """Bodies for upstreams."""

    def test_same_object(self) -> None:
        """Where nothing has to change the client's own bytes object is used."""
        raw = body(
            system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}],
            messages=[USER, {"role": "system", "content": "env"}, assistant(thinking("EqQB"), TEXT), USER],
            tools=[{"type": "web_search_20250305", "name": "web_search"}, {"name": "a", "defer_loading": True}],
            thinking={"type": "adaptive", "display": "omitted"},
            context_management={"edits": []},
            betas=["x"],
        )
        self.assertIs(ready(raw, ANTHROPIC).body, raw)
        self.assertEqual(ready(raw, ANTHROPIC).dropped, ())
        plain = body(tools=[{"name": "a"}], thinking={"type": "disabled"}, output_config={}, system="be good")
        self.assertIs(ready(plain).body, plain)

    def test_foreign_look(self) -> None:
        """A look that is not of this body is taken again."""
        raw = body()
        target = Target("anthropic", "m", ANTHROPIC)
        wanted = raw.replace(b"claude-opus-5-5", b"m")
        self.assertEqual(prepare(raw, look(body(x=1)), target).body, wanted)
        self.assertEqual(prepare(raw, Look("claude-opus-5-5", False, frozenset(), None, 1), target).body, wanted)

    def test_model(self) -> None:
        """Only the top-level model is replaced; every other byte stays, whatever it looks like."""
        raw = b'{ "x":{"model":"claude"},"mod\\u0065l" : "claude","messages":[ {"content":"\\ud83d"} ] ,"n":1e999}'
        wanted = raw.replace(b'l" : "claude"', b'l" : "M\\u00e9"')
        self.assertEqual(ready(raw, ANTHROPIC, "Mé").body, wanted)
        self.assertEqual(ready(raw, ANTHROPIC, "Mé").dropped, ())

    def test_fields(self) -> None:
        """Members that the provider refuses are left out, wholly or inside, and named; emptied objects go too."""
        raw = body(
            context_management={"edits": []},
            thinking={"type": "adaptive", "display": "omitted"},
            output_config={"effort": "low"},
            keep=1.5,
        ).replace(b":1.5", b":1.50")
        prepared = ready(raw)
        self.assertEqual(
            json.loads(prepared.body),
            {"model": "claude-opus-5-5", "messages": [USER], "thinking": {"type": "adaptive"}, "keep": 1.5},
        )
        self.assertIn(b'"keep":1.50', prepared.body)
        self.assertEqual(prepared.dropped, ("context_management", "thinking.display", "output_config.effort"))
        kept = ready(body(output_config={"effort": "low", "task_budget": 1}))
        self.assertEqual(json.loads(kept.body)["output_config"], {"task_budget": 1})

    def test_never_model_or_messages(self) -> None:
        """A configuration cannot strip what every request needs."""
        raw = body()
        self.assertIs(ready(raw, Capabilities(strip_fields=("model", "messages"))).body, raw)

    def test_tools(self) -> None:
        """Tools that the provider cannot run go, with what refers to them; members of the others are stripped."""
        search = {"type": "web_search_20250305", "name": "web_search"}
        plain = {"name": "a", "description": "web_search strict", "input_schema": {"properties": {"strict": {}}}}
        strict = {**plain, "strict": True, "name": "b"}
        prepared = ready(body(tools=[search, plain, strict], tool_choice={"type": "tool", "name": "web_search"}))
        self.assertEqual(json.loads(prepared.body)["tools"], [plain, {**plain, "name": "b"}])
        self.assertNotIn("tool_choice", json.loads(prepared.body))
        self.assertEqual(prepared.dropped, ("tools.web_search", "tools[].strict", "tool_choice"))
        self.assertIn(encode(plain), prepared.body)
        kept = json.loads(ready(body(tools=[search, plain], tool_choice={"type": "tool", "name": "a"})).body)
        self.assertEqual(kept["tool_choice"], {"type": "tool", "name": "a"})
        alone = json.loads(ready(body(tools=[search], tool_choice={"type": "auto"})).body)
        self.assertEqual(set(alone), {"model", "messages"})
        client_run = body(tools=[{"type": "bash_20250124", "name": "bash"}])
        self.assertIs(ready(client_run).body, client_run)

    def test_billing(self) -> None:
        """The first line of Claude Code's system prompt goes, and nothing else of it."""
        header = "x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli;"
        block = {"type": "text", "text": "be good", "cache_control": {"type": "ephemeral"}}
        prepared = ready(body(system=[{"type": "text", "text": header}, block]))
        self.assertEqual(json.loads(prepared.body)["system"], [block])
        self.assertEqual(prepared.dropped, ("system.x-anthropic-billing-header",))
        self.assertNotIn("system", json.loads(ready(body(system=[{"type": "text", "text": header}])).body))
        self.assertEqual(json.loads(ready(body(system=header + "\n\nbe good")).body)["system"], "be good")
        self.assertNotIn("system", json.loads(ready(body(system=header)).body))
        second = {"type": "text", "text": header}
        for system in ([block, second], f"about {header}", [{"type": "text", "text": "a " + header}]):
            raw = body(system=system)
            self.assertIs(ready(raw).body, raw)

    def test_mid_system(self) -> None:
        """System messages in the list become user text where the provider does not know them."""
        block = {"type": "text", "text": "env é"}
        members = {"output_config": {"effort": "low"}}
        for content in ("env é", [{**block, "cache_control": {"type": "ephemeral"}}]):
            raw = body(messages=[USER, {"role": "system", "content": content, **members}, assistant(TEXT), USER])
            prepared = ready(raw)
            self.assertEqual(
                messages(prepared),
                [
                    USER,
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "<system-reminder>\nenv é\n</system-reminder>"}],
                    },
                    assistant(TEXT),
                    USER,
                ],
            )
            self.assertEqual(prepared.dropped, ("messages of role system (sent as user text)",))
            self.assertIs(ready(raw, ANTHROPIC).body, raw)

    def test_mid_system_odd(self) -> None:
        """Blocks that are no text are named, an empty message goes, none splits a call from its result."""
        prepared = ready(body(messages=[USER, {"role": "system", "content": [{"type": "tool_addition"}]}]))
        self.assertEqual(messages(prepared), [USER])
        self.assertIn("tool_addition in a system message", prepared.dropped)
        self.assertEqual(messages(ready(body(messages=[USER, {"role": "system", "content": " "}]))), [USER])
        call = assistant({"type": "tool_use", "id": "t", "name": "n", "input": {}})
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
        sent = messages(ready(body(messages=[USER, call, {"role": "system", "content": "env"}, result])))
        self.assertEqual(sent[:3], [USER, call, result])
        self.assertIn("env", sent[3]["content"][0]["text"])

    def test_search_results(self) -> None:
        """Search results become text where they are refused, in messages and in tool results."""
        found = {
            "type": "search_result",
            "source": "https://x",
            "title": "T",
            "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            "citations": {"enabled": True},
            "cache_control": {"type": "ephemeral"},
        }
        text = {"type": "text", "text": "T\nhttps://x\n\none\ntwo", "cache_control": {"type": "ephemeral"}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [TEXT, found], "is_error": False}
        raw = body(messages=[{"role": "user", "content": [result, found]}])
        prepared = ready(raw)
        self.assertEqual(
            messages(prepared), [{"role": "user", "content": [{**result, "content": [TEXT, text]}, text]}]
        )
        self.assertEqual(prepared.dropped, ("search_result blocks (sent as text)",))
        self.assertIs(ready(raw, attrs.evolve(MINIMAX, search_results="ignored")).body, raw)

    def test_server_blocks(self) -> None:
        """Calls that another provider ran are told as text, without what only that provider can read."""
        use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
        result = {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "https://x", "title": "T", "encrypted_content": "zzz"}],
        }
        raw = body(messages=[USER, assistant(use, result, TEXT), USER])
        prepared = ready(raw)
        blocks = messages(prepared)[1]["content"]
        self.assertEqual([block["type"] for block in blocks], ["text"] * 3)
        self.assertIn('[web_search] {"query":"q"}', blocks[0]["text"])
        self.assertIn("https://x", blocks[1]["text"])
        self.assertNotIn(b"zzz", prepared.body)
        self.assertIs(ready(raw, ANTHROPIC).body, raw)


class SessionTests(SynchronousTestCase):
    """The conversation's id."""

    def test_header(self) -> None:
        """Claude Code's header counts before all."""
        raw = body(metadata={"user_id": "u"})
        self.assertEqual(session({b"x-claude-code-session-id": b" abc "}, raw), "abc")

    def test_metadata(self) -> None:
        """Else the session in the metadata's JSON text, else that text itself."""
        for user_id, wanted in (
            (json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s1"}), "s1"),
            (json.dumps({"device_id": "d"}), json.dumps({"device_id": "d"})),
            ("user_abc_session_1", "user_abc_session_1"),
            ("{not json", "{not json"),
            ("", ""),
        ):
            self.assertEqual(session({}, body(metadata={"user_id": user_id})), wanted)

    def test_none(self) -> None:
        """Without either, or with nonsense, there is none."""
        for raw in (
            body(),
            body(metadata=None),
            body(metadata={"user_id": 5}),
            body(metadata=[]),
            b'{"user_id"',
            b"",
            body(messages=[{"user_id": 1}]),
        ):
            self.assertEqual(session({}, raw), "")
        self.assertEqual(len(session({}, body(metadata={"user_id": "x" * 10_000}))), 512)
