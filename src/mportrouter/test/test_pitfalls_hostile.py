"""What nobody should send: it is refused in words or read as far as it can be, and nothing else is raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import DIALECTS
from ..errors import Kind, RouterError
from ..interfaces import Target
from ..settings import Capabilities
from .answers import ANTHROPIC, HEAD, STOP, delta, event

_TARGETS = {
    "anthropic": Target("anthropic", "m", Capabilities(server_tool_kinds=("web_search",))),
    "openai-chat": Target("p", "m", Capabilities(thinking_signature="p", server_tool_kinds=("web_search",))),
    "openai-responses": Target("openai", "m", Capabilities(thinking_signature="openai")),
    "gemini": Target("gemini", "m", Capabilities(thinking_signature="gemini")),
}


def written(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A client's request for every dialect that takes it; why the others do not, by name."""
    raw = json.dumps(body).encode()
    dialect = DIALECTS[name]
    look = dialect.look(raw, b"/v1beta/models/m:generateContent" if name == "gemini" else dialect.path)
    found: dict[str, Any] = {}
    for other, target in _TARGETS.items():
        try:
            found[other] = json.loads(DIALECTS[other].write_request(dialect.read_request(raw, look), target).body)
        except RouterError as error:
            assert error.kind is Kind.BAD_REQUEST, error
            found[other] = error.message
    return found


_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**70, 1e308, "", " ", "\ud83d", "\x00", "assistant", "tool_result", "{", "NaN",
    "data:;base64,!", "rt1.a.b", "cnQxLmEuYg==", [], {},
    [[]], [None], [{}], {"": None}, {"type": "text"}, {"type": "text", "text": None},
)  # fmt: skip

_SEEDS: dict[str, dict[str, Any]] = {
    "anthropic": {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "stop_sequences": ["x"],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "metadata": {"user_id": "u"},
        "tools": [
            {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}]}}}},
            {"type": "web_search_20250305", "name": "web_search", "user_location": {"type": "approximate"}},
        ],
        "tool_choice": {"type": "tool", "name": "f"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "why", "signature": "s"},
                    {"type": "server_tool_use", "id": "w", "name": "web_search", "input": {"query": "q"}},
                    {"type": "web_search_tool_result", "tool_use_id": "w", "content": [{"type": "web_search_result"}]},
                    {"type": "text", "text": "x", "citations": [{"type": "char_location", "cited_text": "y"}]},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": True}]},
        ],
    },
    "openai-chat": {
        "model": "m",
        "max_tokens": 9,
        "stop": ["x"],
        "reasoning": {"effort": "high"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "web_search_options": {"user_location": {"type": "approximate", "approximate": {"city": "c"}}},
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": {"syntax": "lark"}}}},
        ],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_details": [{"type": "reasoning.text", "text": "why", "signature": "s"}],
                "tool_calls": [
                    {
                        "id": "t",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "s"}},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "t", "content": [{"type": "text", "text": "x"}]},
        ],
    },
}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what it stands in, and under which key."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def damaged(value: Any, random: Random) -> Any:
    """A copy with some members gone, moved, nested deeply or of another type."""
    copy = deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 4))):
        places = list(_places(copy))
        if not places:
            break
        (inside, key), (other, place) = random.choice(places), random.choice(places)
        kind = random.random()
        if kind < 0.6:
            inside[key] = deepcopy(random.choice(_ODD))
        elif kind < 0.75:
            del inside[key]
        elif kind < 0.9:
            inside[key] = deepcopy(other[place])
        else:
            for _ in range(random.choice((1, 40, 200))):
                inside[key] = random.choice(([inside[key]], {"properties": inside[key]}, {"content": inside[key]}))
    return copy


class DamagedTests(SynchronousTestCase):
    """Requests with anything anywhere."""

    def test_requests(self) -> None:
        """Whatever stands where, a request is prepared and translated as JSON, or refused in words."""
        for client, seed in _SEEDS.items():
            dialect, random, read = DIALECTS[client], Random(client), 0
            for _ in range(1500):
                raw = json.dumps(damaged(seed, random)).encode()
                try:
                    look = dialect.look(raw, dialect.path)
                    dialect.routing_text(raw)
                    dialect.last_user_text(raw)
                    dialect.session({}, raw)
                    json.loads(dialect.prepare(raw, look, _TARGETS[client]).body)
                    conversation = dialect.read_request(raw, look)
                except RouterError:
                    continue
                read += 1
                for name, target in _TARGETS.items():
                    try:
                        json.loads(DIALECTS[name].write_request(conversation, target).body)
                    except RouterError as error:
                        self.assertTrue(error.message)
            self.assertGreater(read, 300, client)


class AnthropicRequestTests(SynchronousTestCase):
    """Requests of Anthropic clients."""

    def test_search_options(self) -> None:
        """Options of a search that are of no use there are refused by their names."""
        for name, value in (("allowed_domains", 7), ("blocked_domains", [1]), ("max_uses", "many"), ("max_uses", True)):
            tool = {"type": "web_search_20250305", "name": "web_search", name: value}
            found = written(
                "anthropic",
                {"model": "m", "max_tokens": 9, "tools": [tool], "messages": [{"role": "user", "content": "hi"}]},
            )
            for message in found.values():
                self.assertIsInstance(message, str)
                self.assertIn(f"tools.0.{name}", message)

    def test_pictures_of_text(self) -> None:
        """A picture has bytes, a place or an id: one made of text or of blocks is refused by its member."""
        for source in ({"type": "text", "data": "x"}, {"type": "content", "content": [{"type": "text", "text": "x"}]}):
            for place in (
                [{"type": "image", "source": source}],
                [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}],
            ):
                found = written(
                    "anthropic", {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": place}]}
                )
                for message in found.values():
                    self.assertIsInstance(message, str)
                    self.assertIn("source.type", message)


class AnthropicAnswerTests(SynchronousTestCase):
    """Answers of Anthropic upstreams that pass."""

    def test_half_a_character_in_a_type(self) -> None:
        """An event whose type is half a character is one of an unknown type."""
        odd = b'event: x\ndata: {"type":"\\ud800"}\n\n'
        source = HEAD + delta("hi") + STOP + odd + event("message_delta", delta={"stop_reason": "end_turn"}) + odd
        source += event("message_stop")
        reader = DIALECTS["anthropic"].reader(True, b"", ANTHROPIC)
        body = reader.feed(source)
        rest, ending = reader.finish()
        self.assertEqual(body + rest, source)
        self.assertTrue(ending.complete)
