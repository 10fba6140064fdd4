"""What went wrong in other routers on the way of a request, for every upstream's dialect that it concerns."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Opaque
from ..dialects.known import DIALECTS
from ..envelope import seal
from ..interfaces import Prepared, Target
from ..settings import Capabilities

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcfsj6I="

_SIGNERS = {
    "anthropic": "anthropic",
    "openai-chat": "groq",
    "openai-responses": "openai",
    "gemini": "gemini",
}


def target(name: str, **columns: Any) -> Target:
    """An upstream of a dialect."""
    return Target(_SIGNERS[name], "m", Capabilities(**{"thinking_signature": _SIGNERS[name], **columns}))


def sent(client: str, body: dict[str, Any], upstream: str, **columns: Any) -> tuple[dict[str, Any], Prepared]:
    """A client's request as an upstream of another dialect gets it."""
    front = DIALECTS[client]
    raw = json.dumps(body if client == "gemini" else {"model": "m", **body}).encode()
    path = b"/v1beta/models/m:generateContent" if client == "gemini" else front.path
    conversation = front.read_request(raw, front.look(raw, path))
    prepared = DIALECTS[upstream].write_request(conversation, target(upstream, **columns))
    return json.loads(prepared.body), prepared


def responses(*items: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "hi"}, *items], **members}


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **members}


class ResponsesHistoryTests(SynchronousTestCase):
    """Items of Responses clients as history of others."""

    def test_messages_in_a_row(self) -> None:
        """Two messages of the assistant in a row stay apart, each with its phase and the reasoning before it."""
        thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "own"}
        body = responses(
            said("one.", phase="commentary"),
            thought,
            said("two.", phase="final_answer"),
            {"role": "user", "content": "go"},
        )
        self.assertEqual(sent("openai-responses", body, "openai-chat")[0]["messages"][1]["content"], "one.\ntwo.")
        blocks = sent("openai-responses", body, "anthropic")[0]["messages"][1]["content"]
        self.assertEqual([block["text"] for block in blocks], ["one.", "two."])
        parts = sent("openai-responses", body, "gemini")[0]["contents"][1]["parts"]
        self.assertEqual([part["text"] for part in parts], ["one.", "two."])
        items = sent("openai-responses", body, "openai-responses")[0]["input"][1:-1]
        self.assertEqual([item.get("phase") for item in items], ["commentary", None, "final_answer"])
        self.assertEqual(items[1]["encrypted_content"], "own")

    def test_signature_between_messages(self) -> None:
        """A thought signature behind a message stays with it, whatever message follows."""
        bare = {
            "type": "reasoning",
            "summary": [],
            "encrypted_content": seal(Opaque("gemini", "g", "thought", "c2ln")),
        }
        body = responses(said("one."), bare, said("two."), {"role": "user", "content": "go"})
        found = sent("openai-responses", body, "gemini", thought_signature="optional")[0]["contents"][1]["parts"]
        self.assertEqual(found, [{"text": "one.", "thoughtSignature": "c2ln"}, {"text": "two."}])

    def test_calls_and_messages(self) -> None:
        """A message, its calls and a message after them are one turn where results must follow the calls at once."""
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "c", "output": "r"}
        body = responses(said("a"), call, said("b"), result)
        messages = sent("openai-responses", body, "anthropic")[0]["messages"]
        self.assertEqual([message["role"] for message in messages], ["user", "assistant", "user"])
        self.assertEqual([block["type"] for block in messages[1]["content"]], ["text", "tool_use", "text"])


class ThoughtTests(SynchronousTestCase):
    """Thought signatures in Google's compatible endpoint."""

    def test_one_stand_in(self) -> None:
        """The first call of a step alone has a signature, its own or the stand-in; those beside it have none."""
        calls = [{"type": "tool_use", "id": id, "name": "f", "input": {}} for id in ("a", "b")]
        results = [{"type": "tool_result", "tool_use_id": id, "content": "r"} for id in ("a", "b")]
        body = {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": calls},
                {"role": "user", "content": results},
            ],
        }
        found = sent("anthropic", body, "openai-chat", thought_signature="required")[0]["messages"][1]["tool_calls"]
        self.assertEqual(
            found[0]["extra_content"], {"google": {"thought_signature": "skip_thought_signature_validator"}}
        )
        self.assertNotIn("extra_content", found[1])
