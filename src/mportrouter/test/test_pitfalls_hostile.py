"""What nobody should send: it is refused in words or read as far as it can be, and nothing else is raised."""

from __future__ import annotations

import json
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
