"""Tests for :mod:`mportrouter.dialects.anthropic_reading`."""

from __future__ import annotations

import json
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
    OutputFormat,
    Reasoning,
    ReasoningControl,
    SearchHit,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    WebSearch,
)
from ..dialects.anthropic_reading import _turn_slowly, read_request
from ..dialects.anthropic_request import look
from ..envelope import seal, wrap
from ..errors import Kind, RouterError

USER = {"role": "user", "content": "hi"}
MARK = {"type": "ephemeral"}


def raw(**members: Any) -> bytes:
    body = {"model": "claude-x", "max_tokens": 100, "messages": [USER], **members}
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def read(**members: Any) -> Conversation:
    body = raw(**members)
    return read_request(body, look(body))


def parts(*blocks: Any, role: str = "user") -> tuple[Any, ...]:
    """The parts of one message, read by the fast road and by the general one, which must agree."""
    message = {"role": role, "content": list(blocks)}
    (fast,) = read(messages=[message]).turns
    slow = _turn_slowly(message, 0)
    assert fast == slow, (fast, slow)
    return fast.parts


def call(arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "f", "input": arguments}


class MemberTests(SynchronousTestCase):
    """The top level."""

    def test_plain(self) -> None:
        """A plain request has its texts, its limit and nothing that was not said."""
        self.assertEqual(read(), Conversation("anthropic", "claude-x", (Turn("user", (Text("hi"),)),), max_output=100))

    def test_limits_and_sampling(self) -> None:
        """Limits, sampling and stops are taken as they stand; a limit of 0 warms a cache and limits nothing."""
        found = read(temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a", " "], stream=True)
        self.assertEqual((found.sampling.temperature, found.sampling.top_p, found.sampling.top_k), (0.5, 0.9, 7))
        self.assertEqual(found.sampling.stop, ("a", " "))
        self.assertTrue(found.stream)
        self.assertIsNone(read(max_tokens=0).max_output)
        self.assertIsNone(read(max_tokens=None, stop_sequences=None, temperature=None, metadata=None).max_output)

    def test_system(self) -> None:
        """A system prompt is one text for each block, with its cache mark; an empty one is none."""
        self.assertEqual(read(system="be brief").system, (Text("be brief"),))
        self.assertEqual(
            read(system=[{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": MARK}]).system,
            (Text("a"), Text("b", cache=CacheMark())),
        )
        self.assertEqual(read(system="").system, ())

    def test_reasoning(self) -> None:
        """Each type of thinking, each display and the effort have their neutral words."""
        for thinking, config, wanted in (
            ({"type": "enabled", "budget_tokens": 2000}, ..., ReasoningControl("on", None, 2000)),
            (
                {"type": "adaptive", "display": "omitted"},
                {"effort": "max"},
                ReasoningControl("adaptive", "max", None, "omitted"),
            ),
            ({"type": "adaptive", "display": "updates"}, ..., ReasoningControl("adaptive", show="summarised")),
            ({"type": "between_tools"}, ..., ReasoningControl("adaptive")),
            ({"type": "disabled"}, ..., ReasoningControl("off")),
            (..., {"effort": "low"}, ReasoningControl(effort="low")),
            (..., ..., None),
        ):
            self.assertEqual(read(thinking=thinking, output_config=config).reasoning, wanted)

    def test_output(self) -> None:
        """A format of the output is read from where it is now and from where it was."""
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        told = {"type": "json_schema", "schema": schema}
        wanted = OutputFormat("json_schema", schema)
        self.assertEqual(read(output_config={"format": told}).output, wanted)
        self.assertEqual(read(output_format=told).output, wanted)
        self.assertIsNone(read(output_config={"effort": "low"}).output)

    def test_identity(self) -> None:
        """The person and the conversation are told apart in Claude Code's ``user_id``."""
        named = json.dumps({"device_id": "d", "session_id": "s1"})
        self.assertEqual(
            (read(metadata={"user_id": named}).user, read(metadata={"user_id": named}).cache_key), (named, "s1")
        )
        old = "user_1_account__session_s2"
        self.assertEqual(read(metadata={"user_id": old}).cache_key, "s2")
        self.assertEqual((read(metadata={"user_id": "u"}).user, read(metadata={"user_id": "u"}).cache_key), ("u", None))

    def test_tiers(self) -> None:
        """Service tiers have the neutral words; a fast answer is one of priority."""
        self.assertEqual(read(service_tier="auto").service_tier, "auto")
        self.assertEqual(read(service_tier="standard_only").service_tier, "default")
        fast = read(speed="fast")
        self.assertEqual((fast.service_tier, fast.unread), ("priority", ()))

    def test_unread(self) -> None:
        """Members without a counterpart are named, whatever they are; ``betas`` and an automatic cache mark are not."""
        found = read(
            context_management={"edits": []},
            betas=["x"],
            cache_control={"type": "ephemeral", "ttl": "1h"},
            container="c",
            new_thing=1,
            output_config={"task_budget": 3},
        )
        self.assertEqual(found.unread, ("context_management", "container", "new_thing", "output_config.task_budget"))
        self.assertEqual(found.cache_auto, CacheMark("1h"))

    def test_wrong_members(self) -> None:
        """What cannot be understood is refused with the member's name."""
        for members, name in (
            ({"messages": ...}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": "x"}, "messages"),
            ({"messages": ["x"]}, "messages.0"),
            ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages.1.role"),
            ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
            ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
            (
                {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "x"}}]}]},
                "messages.0.content.0.source.type",
            ),
            ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
            ({"max_tokens": "9"}, "max_tokens"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"temperature": "hot"}, "temperature"),
            ({"stop_sequences": "x"}, "stop_sequences"),
            ({"system": [{"type": "image"}]}, "system.0.type"),
            ({"system": 4}, "system"),
            ({"thinking": {"type": "hard"}}, "thinking.type"),
            ({"thinking": "on"}, "thinking"),
            ({"output_config": {"effort": 3}}, "output_config.effort"),
            ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
            ({"tools": {}}, "tools"),
            ({"tools": [{"description": "x"}]}, "tools.0.name"),
            ({"tools": [{"name": "x", "input_schema": "x"}]}, "tools.0.input_schema"),
            ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
            ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
            ({"metadata": "x"}, "metadata"),
        ):
            error = self.assertRaises(RouterError, read, **members)
            self.assertIs(error.kind, Kind.BAD_REQUEST)
            self.assertIn(f"`{name}`", error.message)

    def test_other_look(self) -> None:
        """A look at other bytes is not believed."""
        body = raw(system="mine")
        self.assertEqual(read_request(body, look(raw(system="other"))).system, (Text("mine"),))


class ToolTests(SynchronousTestCase):
    """Tools and their choice."""

    def test_function(self) -> None:
        """A function has its schema as it came, also under the type ``custom``."""
        schema = {"type": "object", "properties": {"type": {"type": "string"}}}
        told = {"name": "f", "description": "d", "input_schema": schema, "strict": True, "cache_control": MARK}
        for extra in ({}, {"type": "custom"}, {"type": None}):
            (tool,) = read(tools=[{**told, **extra}]).tools
            self.assertEqual((tool.name, tool.description, tool.schema, tool.kind), ("f", "d", schema, "function"))
            self.assertEqual((tool.strict, tool.cache), (True, CacheMark()))
        (bare,) = read(tools=[{"name": "web_search"}]).tools
        self.assertEqual((bare.kind, bare.schema, bare.strict), ("function", None, None))

    def test_server(self) -> None:
        """Tools that the provider runs are known by their types, with their options in neutral words."""
        place = {"type": "approximate", "city": "Oslo", "country": "NO"}
        told = [
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 3,
                "allowed_domains": ["a.b"],
                "user_location": place,
            },
            {"type": "web_fetch_20250910", "name": "web_fetch"},
            {"type": "code_execution_20250825", "name": "code_execution"},
            {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"},
            {"type": "mcp_toolset"},
        ]
        tools = read(tools=told).tools
        self.assertEqual({tool.kind for tool in tools}, {"server"})
        self.assertEqual(
            [tool.server for tool in tools],
            ["web_search", "web_fetch", "code_execution", "tool_search_tool_bm25", "mcp_toolset"],
        )
        self.assertEqual(
            tools[0].options,
            {"max_uses": 3, "allowed_domains": ["a.b"], "user_location": {"city": "Oslo", "country": "NO"}},
        )

    def test_client_run(self) -> None:
        """A typed tool that the client runs is a function with a schema in words."""
        told = [
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        ]
        bash, editor = read(tools=told).tools
        self.assertEqual((bash.kind, bash.name), ("function", "bash"))
        self.assertEqual(list(bash.schema["properties"]), ["command", "restart"])
        self.assertIn("old_str", editor.schema["properties"])
        self.assertTrue(editor.description)

    def test_choice(self) -> None:
        """Each choice has its neutral mode, and the flag against parallel calls is a matter of its own."""
        for told, wanted in (
            ({"type": "auto"}, ToolChoice("auto")),
            ({"type": "any"}, ToolChoice("required")),
            ({"type": "tool", "name": "f"}, ToolChoice("one", "f")),
            ({"type": "none"}, ToolChoice("none")),
        ):
            found = read(tool_choice=told)
            self.assertEqual((found.tool_choice, found.parallel), (wanted, None))
        self.assertIs(read(tool_choice={"type": "auto", "disable_parallel_tool_use": True}).parallel, False)


class BlockTests(SynchronousTestCase):
    """Content blocks."""

    def test_text(self) -> None:
        """Texts keep every character, and their marks."""
        self.assertEqual(
            parts(
                {"type": "text", "text": " a\n"},
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ),
            (Text(" a\n"), Text("b", cache=CacheMark("1h"))),
        )
        self.assertEqual(parts(), ())

    def test_half_a_character(self) -> None:
        """Half a surrogate pair does not stop the reading."""
        self.assertEqual(read(messages=[{"role": "user", "content": "a\ud83d"}]).turns[0].parts, (Text("a\ud83d"),))

    def test_citations(self) -> None:
        """A citation of a page has its neutral form; any other only its own dialect's."""
        page = {
            "type": "web_search_result_location",
            "url": "https://a",
            "title": "A",
            "cited_text": "c",
            "encrypted_index": "e",
        }
        place = {"type": "char_location", "document_index": 0, "document_title": "D", "cited_text": "x"}
        (text,) = parts({"type": "text", "text": "t", "citations": [page, place]}, role="assistant")
        one, two = text.citations
        self.assertEqual(
            (one.url, one.title, one.cited, one.raw, one.dialect), ("https://a", "A", "c", page, "anthropic")
        )
        self.assertEqual((two.url, two.title, two.cited, two.start), ("", "D", "x", None))

    def test_media(self) -> None:
        """Pictures and documents have their source in every form, with titles, context and citations."""
        data = {"type": "base64", "media_type": "image/png", "data": "aGk="}
        self.assertEqual(
            parts({"type": "image", "source": data, "cache_control": MARK}),
            (Image(Media("base64", "aGk=", "image/png"), None, CacheMark()),),
        )
        for source, media in (
            ({"type": "url", "url": "https://a"}, Media("url", "https://a")),
            ({"type": "file", "file_id": "f_1"}, Media("file", "f_1")),
            ({"type": "text", "media_type": "text/plain", "data": "words"}, Media("text", "words", "text/plain")),
            ({"type": "content", "content": [{"type": "text", "text": "w"}]}, Media("parts", parts=(Text("w"),))),
            ({"type": "content", "content": "w"}, Media("parts", parts=(Text("w"),))),
        ):
            self.assertEqual(
                parts(
                    {"type": "document", "source": source, "title": "T", "context": "C", "citations": {"enabled": True}}
                ),
                (Document(media, "T", "C", True),),
            )

    def test_calls(self) -> None:
        """A call's arguments are the client's own text; none at all is an empty object."""
        call_ = b'{"type":"tool_use","id":"i","name":"f","input":{"b": 1.0,"a":[]}}'
        body = b'{"model":"m","messages":[{"role":"assistant","content":[%b]}]}' % call_
        self.assertEqual(read_request(body, look(body)).turns[0].parts, (ToolCall("i", "f", '{"b": 1.0,"a":[]}'),))
        for nothing in ({}, None, ""):
            self.assertEqual(parts(call(nothing), role="assistant"), (ToolCall("toolu_1", "f", "{}"),))

    def test_results(self) -> None:
        """A result is a text, texts, nothing, or an error, and shows pictures, searches and references."""

        def result(content: Any = ..., **more: Any) -> Any:
            block = {"type": "tool_result", "tool_use_id": "i", **more}
            return parts(block if content is ... else {**block, "content": content})[0]

        self.assertEqual(result("x"), ToolResult("i", (Text("x"),)))
        self.assertEqual(result(), ToolResult("i"))
        self.assertEqual(result([]), ToolResult("i"))
        self.assertEqual(
            result("no", is_error=True, cache_control=MARK),
            ToolResult("i", (Text("no"),), is_error=True, cache=CacheMark()),
        )
        shown = result(
            [
                {"type": "text", "text": "a"},
                {"type": "image", "source": {"type": "url", "url": "https://a"}},
                {"type": "search_result", "source": "s", "title": "T", "content": [{"type": "text", "text": "w"}]},
                {"type": "tool_reference", "tool_name": "f"},
            ]
        ).parts
        self.assertEqual(shown[:2], (Text("a"), Image(Media("url", "https://a"))))
        self.assertEqual(
            [(part.kind, part.text) for part in shown[2:]],
            [("search_result", "T\ns\n\nw"), ("tool_reference", "[tool f]")],
        )

    def test_thinking(self) -> None:
        """Thinking is its signer's: Anthropic's own, or whoever an envelope names; a damaged one is nobody's."""
        foreign = Opaque("openai", "gpt-5", "encrypted", "secret", "rs_1")
        found = parts(
            {"type": "thinking", "thinking": "t", "signature": "sig"},
            {"type": "thinking", "thinking": "", "signature": "sig2"},
            {"type": "thinking", "thinking": "t", "signature": ""},
            {"type": "thinking", "thinking": "t", "signature": wrap("minimax", "M3", "s")},
            {"type": "redacted_thinking", "data": "own"},
            {"type": "redacted_thinking", "data": seal(foreign)},
            {"type": "thinking", "thinking": "t", "signature": "rt1.minimax.###"},
            role="assistant",
        )
        self.assertEqual(
            found,
            (
                Reasoning("t", Opaque("anthropic", "", "signature", "sig")),
                Reasoning("", Opaque("anthropic", "", "signature", "sig2")),
                Reasoning("t"),
                Reasoning("t", Opaque("minimax", "M3", "signature", "s")),
                Reasoning("", Opaque("anthropic", "", "redacted", "own")),
                Reasoning("", foreign),
                Reasoning("t"),
            ),
        )

    def test_thoughts_of_calls(self) -> None:
        """A thought signature that came on a call or after a text is that call's or text's again."""
        one, two = (Opaque("gemini", "g", "thought", value) for value in ("1", "2"))
        found = parts(
            {"type": "text", "text": "x"},
            {"type": "redacted_thinking", "data": seal(one)},
            {"type": "redacted_thinking", "data": seal(two)},
            call({}),
            {"type": "thinking", "thinking": "t", "signature": seal(one)},
            role="assistant",
        )
        self.assertEqual(
            found, (Text("x", opaque=one), ToolCall("toolu_1", "f", "{}", opaque=two), Reasoning("t", one))
        )

    def test_searches(self) -> None:
        """A search and its result are one part, also where two run at once; one without a result stays as it is."""
        asked = [
            {"type": "server_tool_use", "id": f"srvtoolu_{n}", "name": "web_search", "input": {"query": f"q{n}"}}
            for n in (1, 2, 3)
        ]
        hit = {
            "type": "web_search_result",
            "url": "https://a",
            "title": "A",
            "encrypted_content": "e",
            "page_age": "1 day",
        }
        told = [
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [hit]},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_2",
                "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
            },
        ]
        one, two, three = parts(*asked, *told, role="assistant")
        self.assertEqual(
            one,
            WebSearch("srvtoolu_1", "q1", (SearchHit("https://a", "A", "1 day"),), (asked[0], told[0]), "anthropic"),
        )
        self.assertEqual((two.query, two.hits), ("q2", ()))
        self.assertEqual((type(three), three.raw), (Foreign, asked[2]))
        self.assertIn("q3", three.text)

    def test_ids_that_are_none(self) -> None:
        """Ids of an odd type do not stop the reading."""
        for id in ({}, [], None):
            call_ = {"type": "server_tool_use", "id": id, "name": "web_search", "input": {}}
            result = {"type": "web_search_tool_result", "tool_use_id": id, "content": []}
            self.assertEqual([type(part) for part in parts(call_, result, role="assistant")], [Foreign, Foreign])

    def test_foreign(self) -> None:
        """What one dialect alone can say is kept, with the words that another model needs and nothing encrypted."""
        for block, words in (
            (
                {
                    "type": "code_execution_tool_result",
                    "tool_use_id": "i",
                    "content": {"stdout": "42", "encrypted_x": "no"},
                },
                "42",
            ),
            ({"type": "mcp_tool_use", "id": "i", "name": "m", "input": {"a": 1}}, '[m] {"a":1}'),
            ({"type": "compaction", "content": "so far", "encrypted_content": "no"}, "so far"),
            ({"type": "fallback", "from": {}, "to": {}}, ""),
            ({"type": "new_block", "text": "words"}, "words"),
            ({"type": "container_upload", "file_id": "f_1"}, "f_1"),
        ):
            (part,) = parts(block, role="assistant")
            self.assertEqual((type(part), part.kind, part.raw), (Foreign, block["type"], block))
            self.assertIn(words, part.text)
            self.assertNotIn("no", part.text)
            if not words:
                self.assertEqual(part.text, "")

    def test_roles(self) -> None:
        """System messages in mid-conversation are turns of their own; the vendor's own odd roles are a user's."""
        found = read(
            messages=[
                USER,
                {"role": "system", "content": "now"},
                {"role": "assistant", "content": "ok"},
                {"role": "ctx", "content": "x"},
            ]
        ).turns
        self.assertEqual([turn.role for turn in found], ["user", "system", "assistant", "user"])

    def test_whole_is_alike(self) -> None:
        """An odd message does not change how the others are read."""
        odd = {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a"}}]}
        plain = {"role": "assistant", "content": [{"type": "text", "text": "é"}, call({"a": "é"})]}
        alone, beside = read(messages=[plain]).turns, read(messages=[odd, plain]).turns
        self.assertEqual(alone[0], beside[1])
