"""What the stand-ins say where a JSON text is wanted, and whom they take for the person."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_chat import ChatVoice
from mportrouter.demo_gemini import GeminiVoice
from mportrouter.demo_responses import ResponsesVoice
from mportrouter.demo_said import shaped
from mportrouter.demo_script import PromptCache, answer

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["city", "score"],
}
ASIDE = "<system-reminder>\nUse the tool.\n</system-reminder>"


def chat(content: Any, **members: Any) -> str:
    body = {"model": "gpt-6", "messages": [{"role": "user", "content": content}], **members}
    text: str = ChatVoice("OpenAI", ()).answer(body, 1).whole["choices"][0]["message"]["content"]
    return text


def responses(content: Any, **members: Any) -> str:
    body = {"model": "gpt-6", "input": [{"role": "user", "content": content}], **members}
    text: str = ResponsesVoice("OpenAI").answer(body, 1).whole["output"][-1]["content"][0]["text"]
    return text


def gemini(parts: Any, **config: Any) -> str:
    body = {
        ":model": "gemini-3-pro",
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": config,
    }
    whole = GeminiVoice("Gemini", ("gemini-3-pro",)).answer(body, 1).whole
    return "".join(part.get("text", "") for part in whole["candidates"][0]["content"]["parts"])


def anthropic(content: Any, **members: Any) -> str:
    body = {"model": "claude", "max_tokens": 500, "messages": [{"role": "user", "content": content}], **members}
    text: str = answer("anthropic", body, PromptCache(), 1).message["content"][-1]["text"]
    return text


class ShapeTests(SynchronousTestCase):
    """Structured outputs."""

    def test_schema(self) -> None:
        """Where a schema is given the answer is a JSON text of it, in every dialect."""
        for said in (
            chat("hi", response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": PLACE}}),
            responses("hi", text={"format": {"type": "json_schema", "name": "p", "schema": PLACE}}),
            gemini([{"text": "hi"}], responseMimeType="application/json", responseJsonSchema=PLACE),
            anthropic("hi", output_config={"format": {"type": "json_schema", "schema": PLACE}}),
        ):
            found = json.loads(said)
            self.assertTrue(found["city"].startswith("This is the stand-in for "), found)
            self.assertEqual(found["score"], 1)

    def test_any_object(self) -> None:
        """Where just JSON is wanted it is some object."""
        for said in (
            chat("hi", response_format={"type": "json_object"}),
            responses("hi", text={"format": {"type": "json_object"}}),
            gemini([{"text": "hi"}], responseMimeType="application/json"),
        ):
            self.assertIn("answer", json.loads(said))

    def test_plain(self) -> None:
        """Where a text is wanted it is one."""
        for said in (chat("hi", response_format={"type": "text"}), responses("hi", text={"format": {"type": "text"}})):
            self.assertTrue(said.startswith("This is the stand-in for "))

    def test_made_up(self) -> None:
        """Members in members are made up too, and one of a few values is the first."""
        schema = {
            "properties": {"at": {"properties": {"x": {"type": "NUMBER"}}}, "one": {"enum": ["a", "b"]}},
            "required": ["at", "one"],
        }
        self.assertEqual(shaped(schema, "t"), {"at": {"x": 1.5}, "one": "a"})


class PersonTests(SynchronousTestCase):
    """Who asked."""

    def test_last_text(self) -> None:
        """What a client tells before the person's words, or as its own, is not the question."""
        texts = [{"type": "text", "text": each} for each in ("Here is my context.", "hi", ASIDE)]
        for said in (chat(texts), responses([{**each, "type": "input_text"} for each in texts]), gemini(texts)):
            self.assertIn("You asked: “hi” (1 words)", said)
