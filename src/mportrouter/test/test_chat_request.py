"""Tests for :mod:`mportrouter.dialects.chat_request`, :mod:`~.chat_messages` and :mod:`~.chat_turn`."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Opaque
from ..dialects.chat_request import look, prepare, session
from ..dialects.chat_turn import last_user_text, routing_text
from ..envelope import seal
from ..errors import Kind, RouterError
from ..interfaces import Prepared
from .chats import USER, body, encode, target

IMAGE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class LookTests(SynchronousTestCase):
    """What routing is told of a body."""

    def refused(self, raw: bytes, words: str) -> None:
        with self.assertRaises(RouterError, msg=repr(raw[:60])) as caught:
            look(raw)
        self.assertIs(caught.exception.kind, Kind.BAD_REQUEST)
        self.assertIn(words, caught.exception.message)

    def test_plain(self) -> None:
        """Model, stream, limit and size are read; the newer name of the limit counts."""
        raw = body(max_tokens=5, max_completion_tokens=99, stream=True, stream_options={"include_usage": True})
        seen = look(raw)
        self.assertEqual(
            (seen.model, seen.stream, seen.needs, seen.max_output, seen.size, seen.usage),
            ("gpt-5", True, frozenset(), 99, len(raw), True),
        )
        self.assertEqual(look(body(max_tokens=5, max_completion_tokens=None)).max_output, 5)
        self.assertIsNone(look(body(max_tokens="x")).max_output)
        self.assertFalse(look(body(stream=None)).stream)

    def test_refused(self) -> None:
        """Bodies that cannot be routed are refused, saying what and where."""
        self.refused(b"{}", "`model` is missing")
        self.refused(b'{"model":1}', "`model` must be a text")
        self.refused(b'{"model":" "}', "`model` is empty")
        self.refused(b'{"model":"%b"}' % (b"x" * 300), "`model` has more than")
        self.refused(b'{"model":"a","stream":1}', "`stream`")
        self.refused(b'{"model":"a","model":"b"}', "'model' twice")
        self.refused(b"[]", "not an object")
        self.refused(b'{"model":"a",', "line 1, column 14")
        self.refused(b'{"model":"a","x":"\xff"}', "not UTF-8")
        self.refused(b'{"model":"a","messages":%b}' % (b"[" * 100_000 + b"]" * 100_000), "deep")

    def test_needs(self) -> None:
        """The capabilities that the answer depends on are named."""
        for members, wanted in (
            ({"stop": "x"}, {"stop_sequences"}),
            ({"stop": ["x"]}, {"stop_sequences"}),
            ({"stop": []}, set()),
            ({"stop": None}, set()),
            ({"tool_choice": "required"}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}}, set()),
            (
                {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}},
                {"tool_choice_force"},
            ),
            ({"tool_choice": "auto"}, set()),
            ({"function_call": {"name": "f"}}, {"tool_choice_force"}),
            ({"parallel_tool_calls": False}, {"parallel_off"}),
            ({"parallel_tool_calls": True}, set()),
            ({"response_format": {"type": "json_object"}}, {"structured_output"}),
            ({"response_format": {"type": "text"}}, set()),
            ({"response_format": None}, set()),
            ({"web_search_options": {}}, {"server_tools"}),
            ({"messages": [{"role": "user", "content": [IMAGE]}]}, {"images"}),
            ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}, 3]}]}, {"documents"}),
            ({"messages": [{"role": "user", "content": 'a "type":"image_url" b'}]}, set()),
        ):
            self.assertEqual(look(body(**members)).needs, wanted, members)

    def test_left_to_the_provider(self) -> None:
        """Odd members of every kind pass: the provider judges them."""
        for name in ("messages", "tools", "tool_choice", "stop", "response_format", "stream_options", "max_tokens"):
            for value in (
                b"null", b"1", b'"x"', b"[]", b"{}", b"[1]", b"[null]", b"NaN", b'["\\ud800"]', b"1e999",
                b'[{"role":1,"content":[1,{"type":{}}]}]', b'[{"role":"user","content":[{"type":7}]}]',
                b'{"type":1,"mode":2}',
            ):  # fmt: skip
                raw = b'{"model":"a",%b:%b}' % (json.dumps(name).encode(), value)
                self.assertTrue(prepare(raw, look(raw), target("b")).body.startswith(b'{"model":"b"'), raw)


class PrepareTests(SynchronousTestCase):
    """The body for an upstream of the same dialect."""

    def ready(self, raw: bytes, model: str = "gpt-5", **columns: Any) -> Prepared:
        return prepare(raw, look(raw), target(model, **columns))

    def test_untouched(self) -> None:
        """The very bytes go on where nothing has to change, whatever they hold."""
        for raw in (
            body(n=3, logprobs=True, stream=True, max_completion_tokens=3),
            b' {"messages" : [ {"role":"user","content":"\\ud800 caf\xc3\xa9"} ], "model":"gpt-5" , "zzz": 1.0e2}\n',
        ):
            self.assertIs(self.ready(raw).body, raw)

    def test_model(self) -> None:
        """Only the model's name is replaced."""
        raw = b'{ "model" : "gpt-5", "messages":[ ] , "x":1.0}'
        self.assertEqual(self.ready(raw, "llama").body, b'{ "model" : "llama", "messages":[ ] , "x":1.0}')

    def test_strip(self) -> None:
        """Members that must not reach it go, with a note where they said anything."""
        done = self.ready(body(user="u", store=None, n=1), strip_fields=("user", "store"))
        self.assertEqual((json.loads(done.body), done.dropped), (json.loads(body(n=1)), ("user",)))

    def test_other_model(self) -> None:
        """Where the router puts another model in, sampling that it refuses goes; the client's own choice stays."""
        raw = body(temperature=0, presence_penalty=1, top_p=0.5, n=2)
        columns: dict[str, Any] = {"sampling_refused": ("temperature", "penalties", "choices")}
        self.assertIs(self.ready(raw, **columns).body, raw)
        done = self.ready(raw, "gpt-6", **columns)
        self.assertEqual(done.dropped, ("temperature", "presence_penalty", "n"))
        self.assertEqual(json.loads(done.body), {**json.loads(body(top_p=0.5)), "model": "gpt-6"})

    def test_flags(self) -> None:
        """Flags that it does not know go."""
        raw = body(stream=True, stream_options={"include_usage": True}, parallel_tool_calls=False)
        done = self.ready(raw, stream_options=False, parallel_flag=False)
        self.assertEqual(json.loads(done.body), json.loads(body(stream=True)))
        self.assertEqual(done.dropped, ("stream_options", "parallel_tool_calls"))

    def test_limit(self) -> None:
        """The old name of the limit becomes the one that it knows; both are left alone."""
        done = self.ready(body(max_tokens=7), max_tokens_field="max_completion_tokens")
        self.assertEqual((json.loads(done.body), done.dropped), (json.loads(body(max_completion_tokens=7)), ()))
        raw = body(max_tokens=7, max_completion_tokens=8)
        self.assertIs(self.ready(raw, max_tokens_field="max_completion_tokens").body, raw)

    def test_developer(self) -> None:
        """Instructions are the system's where the server knows no developer."""
        raw = body(messages=[{"role": "developer", "content": "developer"}, USER])
        self.assertEqual(json.loads(self.ready(raw).body)["messages"][0], {"role": "system", "content": "developer"})
        self.assertIs(self.ready(raw, system_role="developer").body, raw)

    def test_tools(self) -> None:
        """Members of tools that must not reach it go."""
        tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"strict": 1}}}
        done = self.ready(body(tools=[tool, 3]), strip_tool_fields=("strict",))
        self.assertEqual(json.loads(done.body)["tools"][0]["function"], {"name": "f", "parameters": {"strict": 1}})
        self.assertEqual(done.dropped, ("tools[].strict",))

    def test_forbidden_reasoning(self) -> None:
        """Reasoning of earlier turns goes where it is refused, and only from assistants' messages."""
        old = {"role": "assistant", "content": "x", "reasoning_content": "r", "reasoning": "q"}
        raw = body(messages=[{**USER, "reasoning": "mine"}, old])
        self.assertIs(self.ready(raw).body, raw)
        sent = json.loads(self.ready(raw, reasoning_echo="forbidden").body)["messages"]
        self.assertEqual(sent, [{**USER, "reasoning": "mine"}, {"role": "assistant", "content": "x"}])

    def test_envelopes(self) -> None:
        """Sealed states go back to whoever made them, and to nobody else; native ones stay."""
        details = [{"type": "reasoning.text", "text": "t", "signature": "native", "index": 0}]
        own = Opaque("groq", "m", "encrypted", encode(details).decode())
        other = Opaque("anthropic", "claude", "signature", "sig")
        thought = Opaque("groq", "m", "thought", "ts")

        def message(state: Opaque, signature: Opaque) -> dict[str, Any]:
            extra = {"google": {"thought_signature": seal(signature)}}
            return {
                "role": "assistant",
                "content": None,
                "reasoning_details": [{"type": "reasoning.encrypted", "data": seal(state)}],
                "tool_calls": [{**CALL, "extra_content": extra}],
            }

        done = self.ready(body(messages=[USER, message(own, thought)]))
        sent = json.loads(done.body)["messages"][1]
        self.assertEqual(sent["reasoning_details"], details)
        self.assertEqual(sent["tool_calls"][0]["extra_content"], {"google": {"thought_signature": "ts"}})
        done = self.ready(body(messages=[USER, message(other, other)]))
        sent = json.loads(done.body)["messages"][1]
        self.assertEqual(sent, {"role": "assistant", "content": None, "tool_calls": [CALL]})
        self.assertEqual(done.dropped, ("reasoning of another provider",))
        native = [{**CALL, "extra_content": {"google": {"thought_signature": "x"}}}]
        raw = body(messages=[{"role": "assistant", "reasoning_details": details, "tool_calls": native}])
        self.assertIs(self.ready(raw).body, raw)

    def test_path(self) -> None:
        """A path of its own is told."""
        self.assertEqual(self.ready(body(), generate_path="/openai/v1/chat").path, b"/openai/v1/chat")


class PersonTests(SynchronousTestCase):
    """What the person said."""

    def test_last(self) -> None:
        """The last message's text, without wrappings, where it is a person's."""
        for messages, text in (
            ([USER], "hi"),
            ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "a\nb"),
            ([{"role": "user", "content": "<system-reminder>x</system-reminder>go"}], "go"),
            ([USER, {"role": "system", "content": "x"}], "hi"),
            ([USER, {"role": "assistant", "content": "x"}], None),
            ([USER, {"role": "tool", "tool_call_id": "c", "content": "/router status"}], None),
            ([{"role": "user", "content": [IMAGE]}], None),
            ([{"role": "user", "content": [3]}], None),
            ([], None),
            ("x", None),
        ):
            self.assertEqual(last_user_text(body(messages=messages)), text, messages)
        self.assertIsNone(last_user_text(b"{"))

    def test_routing(self) -> None:
        """Text, tools, pictures and sizes; the turn's key stays through its tool loop and changes after it."""
        system = {"role": "system", "content": "be"}
        one = routing_text(body(messages=[system, USER], tools=[{}, {}]))
        self.assertEqual(
            (one.text, one.tool_count, one.message_count, one.images, one.goes_on), ("hi", 2, 2, False, False)
        )
        self.assertEqual(one.system_size, len(encode(system)))
        loop = [system, USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c"}]
        two = routing_text(body(messages=loop))
        self.assertEqual((two.turn_key, two.goes_on), (one.turn_key, True))
        three = routing_text(
            body(messages=[*loop, {"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE]}])
        )
        self.assertNotEqual(three.turn_key, one.turn_key)
        self.assertTrue(three.images)
        self.assertEqual(routing_text(body(functions=[{}])).tool_count, 1)
        self.assertEqual(routing_text(b"[").text, "")

    def test_session(self) -> None:
        """The conversation's id is in a header, else in a member."""
        self.assertEqual(session({b"x-session-id": b" s "}, body(user="u")), "s")
        self.assertEqual(session({}, body(user="u", prompt_cache_key="k")), "k")
        self.assertEqual(session({}, body(user="u")), "u")
        self.assertEqual(session({}, body(user=3)), "")
        self.assertEqual(session({}, body()), "")
        self.assertEqual(session({}, b'{"user"'), "")
