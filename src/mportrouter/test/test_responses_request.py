"""Tests for the look at requests of the OpenAI Responses dialect, and for bodies for upstreams of the same dialect."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from .. import envelope, splice
from ..conversation import Opaque
from ..dialects.responses_request import ResponsesLook, look, prepare, session
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible, Prepared, Target
from .response_events import CODEX, OPENAI

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def body(**members: Any) -> bytes:
    return splice.dumps({"model": "gpt-x", "input": [USER], **members})


def but(target: Target, **columns: Any) -> Target:
    return attrs.evolve(target, capabilities=attrs.evolve(target.capabilities, **columns))


class LookTests(SynchronousTestCase):
    """What routing learns."""

    def refused(self, data: bytes) -> str:
        error = self.assertRaises(RouterError, look, data)
        self.assertIs(error.kind, Kind.BAD_REQUEST)
        return error.message

    def test_look(self) -> None:
        """Model, stream and limit are read from a compact body and from a spread one."""
        for data in (
            body(stream=True, max_output_tokens=9),
            b' {"model" : "gpt-x", "stream": true, "max_output_tokens": 9}',
        ):
            seen = look(data)
            self.assertIsInstance(seen, ResponsesLook)
            self.assertEqual((seen.model, seen.stream, seen.max_output), ("gpt-x", True, 9))
            self.assertEqual((seen.needs, seen.size), (frozenset(), len(data)))

    def test_refused(self) -> None:
        """A body that cannot be routed is refused with the member's name."""
        for data, words in (
            (b"{}", "`model`"), (b'{"model":1}', "`model`"), (b'{"model":" "}', "`model`"),
            (b'{"model":"m","model":"n"}', "twice"), (b"[]", "not an object"), (b"{", "JSON"),
            (b'{"model":"m","stream":1}', "`stream`"), (b'{"model":"' + b"m" * 300 + b'"}', "256"),
            (b'{"model":"m","x":"\xff"}', "UTF-8"),
        ):  # fmt: skip
            self.assertIn(words, self.refused(data))

    def test_needs(self) -> None:
        """Each ability that the answer depends on is named, and words alone name none."""
        image = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
        shown = {"type": "message", "role": "user", "content": [image]}
        result = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_data": "x"}]}
        for members, needs in (
            ({"input": [shown]}, {"images"}),
            ({"input": [USER, result]}, {"documents"}),
            ({"input": [{**USER, "content": "what is input_image or input_file?"}]}, set()),
            ({"input": "input_image"}, set()),
            ({"tools": [FUNCTION, {"type": "web_search_2025_08_26"}]}, {"server_tools"}),
            ({"tools": [FUNCTION, {"type": "custom", "name": "p"}, {"type": "namespace", "name": "n"}]}, set()),
            ({"tool_choice": "required"}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "function", "name": "f"}}, {"tool_choice_force"}),
            ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, set()),
            ({"tool_choice": "auto", "parallel_tool_calls": False}, set()),
            ({"tools": [FUNCTION], "parallel_tool_calls": False}, {"parallel_off"}),
            ({"text": {"format": {"type": "json_schema"}}}, {"structured_output"}),
            ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, set()),
        ):
            self.assertEqual(look(body(**members)).needs, needs, members)

    def test_odd_shapes(self) -> None:
        """What has an odd shape is the provider's to judge."""
        for members in ({"input": [1, None, {"content": [{"type": 3}, "input_image"]}]}, {"tools": [1, {"type": 2}]},
                        {"tool_choice": {"type": 1}}, {"text": 5}, {"max_output_tokens": "many"}):  # fmt: skip
            look(body(**members))

    def test_session(self) -> None:
        """A conversation is named by header fields, else by its key for prompt caches."""
        data = body(prompt_cache_key="key")
        self.assertEqual(session({b"session-id": b"one", b"thread-id": b"two"}, data), "one")
        self.assertEqual(session({}, data), "key")
        self.assertEqual(session({}, body()), "")


class PrepareTests(SynchronousTestCase):
    """Bodies for upstreams of the same dialect."""

    def prepared(self, data: bytes, target: Target = OPENAI) -> Prepared:
        return prepare(data, look(data), target)

    def test_untouched(self) -> None:
        """Where nothing must change it is the very body, Codex's request with all its items included."""
        items = [
            {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]},
            {"type": "configuration_update", "reasoning": {"effort": "high"}},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAA"},
            {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "x", "id": "ctc_1"},
            {"type": "brand_new", "x": {"y": [1]}},
        ]
        data = body(input=items, client_metadata={"a": "b"}, store=False, stream=True)
        self.assertIs(self.prepared(data).body, data)
        data = body(input=items, store=False, stream=True, include=["reasoning.encrypted_content"])
        self.assertIs(prepare(data, look(data), but(CODEX, thinking_signature="openai")).body, data)

    def test_model(self) -> None:
        """Only the model is replaced where it differs; every other byte stays."""
        data = b'{ "model":"gpt-x", "input" : "h\\u0069" }'
        self.assertEqual(self.prepared(data, attrs.evolve(OPENAI, model="m")).body, data.replace(b"gpt-x", b"m"))

    def test_codex(self) -> None:
        """An upstream that keeps nothing and only streams gets what it insists on, and nothing that it refuses."""
        data = body(
            input="hi",
            max_output_tokens=5,
            temperature=1,
            metadata=None,
            tools=[FUNCTION, {**FUNCTION, "strict": True}],
        )
        found = self.prepared(data, CODEX)
        self.assertEqual(
            splice.loads(found.body),
            {
                "model": "gpt-x",
                "input": [USER],
                "tools": [{**FUNCTION, "strict": False}, {**FUNCTION, "strict": True}],
                "store": False,
                "instructions": "",
                "include": ["reasoning.encrypted_content"],
                "stream": True,
            },
        )
        self.assertEqual((found.path, found.dropped), (b"/responses", ("max_output_tokens", "temperature")))

    def test_codex_keeps(self) -> None:
        """What is as it insists already stays as it came; more is added to what is included."""
        data = body(instructions="I", store=True, include=["message.output_text.logprobs"], stream=True)
        found = splice.loads(self.prepared(data, CODEX).body)
        self.assertEqual((found["instructions"], found["store"]), ("I", False))
        self.assertEqual(found["include"], ["message.output_text.logprobs", "reasoning.encrypted_content"])
        self.assertIn("store=false", self.prepared(data, CODEX).dropped)

    def test_codex_items(self) -> None:
        """System messages become developer's there, marks of the cache go, inner functions say that they are loose."""
        marked = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
        data = body(
            input=[{"role": "system", "content": "s"}, {**USER, "content": [marked]}],
            tools=[{"type": "namespace", "name": "n", "tools": [FUNCTION]}],
        )
        found = splice.loads(self.prepared(data, CODEX).body)
        self.assertEqual(found["input"][0]["role"], "developer")
        self.assertEqual(found["input"][1]["content"], [{"type": "input_text", "text": "x"}])
        self.assertIs(found["tools"][0]["tools"][0]["strict"], False)

    def test_stripped_members_stay_away(self) -> None:
        """What an upstream does not know is not added to please it."""
        target = but(CODEX, strip_fields=("include", "store", "instructions"))
        found = splice.loads(self.prepared(body(store=True), target).body)
        self.assertFalse({"include", "store", "instructions"} & set(found))

    def test_state(self) -> None:
        """What builds on kept state is refused where none is kept, and passes elsewhere."""
        for members in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"prompt": {"id": "p"}},
                        {"input": [{"type": "item_reference", "id": "msg_1"}]}):  # fmt: skip
            data = body(**members)
            self.assertIs(self.prepared(data).body, data)
            error = self.assertRaises(Inexpressible, self.prepared, data, CODEX)
            self.assertIn(next(iter(members)) if "input" not in members else "item_reference", error.message)
        self.prepared(body(previous_response_id=None), CODEX)

    def test_reasoning(self) -> None:
        """Encrypted reasoning goes to whoever issued it, bare and under its own id, and to nobody else."""
        opaque = Opaque("codex", "gpt-x", "encrypted", "secret", "rs_orig")
        bare = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
        sealed = {**bare, "encrypted_content": envelope.seal(opaque)}
        loose = {"type": "reasoning", "id": "rs_9", "summary": []}
        no_id = {**bare, "encrypted_content": envelope.seal(Opaque("codex", "m", "encrypted", "s2"))}
        data = body(input=[bare, sealed, loose, no_id, USER])
        found = self.prepared(data)
        self.assertEqual(splice.loads(found.body)["input"], [bare, loose, USER])
        self.assertEqual(found.dropped, ("reasoning items of codex",))
        found = self.prepared(data, CODEX)
        self.assertEqual(
            splice.loads(found.body)["input"],
            [
                {"type": "reasoning", "id": "rs_orig", "summary": [], "encrypted_content": "secret"},
                {"type": "reasoning", "summary": [], "encrypted_content": "s2"},
                USER,
            ],
        )
        self.assertIn("reasoning items of openai", found.dropped)
        damaged = body(input=[{**bare, "encrypted_content": "rt1.codex.###"}, USER])
        self.assertEqual(splice.loads(self.prepared(damaged, CODEX).body)["input"], [USER])

    def test_hosted_tools(self) -> None:
        """Tools that an upstream does not run are left out; a choice that forces one is refused."""
        target = but(OPENAI, server_tools="refused")
        search = {"type": "web_search"}
        found = self.prepared(body(tools=[FUNCTION, search], tool_choice="auto"), target)
        self.assertEqual(splice.loads(found.body)["tools"], [FUNCTION])
        self.assertEqual(found.dropped, ("tools.web_search",))
        found = self.prepared(body(tools=[search], tool_choice="auto"), target)
        self.assertFalse({"tools", "tool_choice"} & set(splice.loads(found.body)))
        for tools in ([search], [FUNCTION, search]):
            self.assertRaises(
                Inexpressible, self.prepared, body(tools=tools, tool_choice={"type": "web_search"}), target
            )

    def test_append_only(self) -> None:
        """A longer conversation has the same beginning."""
        bare = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
        items = [{"role": "system", "content": "s"}, USER, bare, {"role": "assistant", "content": "x"}, USER]
        short, long = (splice.loads(self.prepared(body(input=items[:n]), CODEX).body)["input"] for n in (3, 5))
        self.assertEqual(long[: len(short)], short)

    def test_slow_road(self) -> None:
        """A body with lone surrogates is edited too."""
        data = b'{"model":"gpt-x","input":[{"role":"user","content":"\\ud83d"}],"temperature":1}'
        found = self.prepared(data, CODEX)
        self.assertIn(b'"\\ud83d"', found.body)
        self.assertNotIn(b"temperature", found.body)
