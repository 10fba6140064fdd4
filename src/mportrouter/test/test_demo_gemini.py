"""The Gemini stand-in's answers, in both forms of its stream, as the official client reads them."""

from __future__ import annotations

import json
from typing import Any

from google.genai import errors, types
from google.genai.types import GenerateContentResponse
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_said import Refusal
from mportrouter.demo_voice import Spelt

from .demo_clients import gemini_at
from .test_demo_gemini_rules import CITY, VOICE, body, call, model, response, tools, user

THINK = {"thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True}}
TWO = tools({"name": "get_weather", "parametersJsonSchema": CITY}, {"name": "get_time", "parameters": CITY})


def asked(text: str, **members: Any) -> dict[str, Any]:
    return body(user({"text": text}), **members)


class AnswerTests(SynchronousTestCase):
    """:meth:`GeminiVoice.answer`."""

    def spelt(self, value: dict[str, Any], stream: str = "") -> Spelt:
        return VOICE.answer(VOICE.check({**value, ":stream": stream}, {}), 1)

    def both(self, value: dict[str, Any]) -> GenerateContentResponse:
        """The answer in one piece, which says the same as both forms of the stream."""
        whole = self.spelt(value)
        self.assertFalse(whole.stream)
        found = GenerateContentResponse.model_validate(whole.whole)
        for stream in ("sse", "array"):
            streamed = self.spelt(value, stream)
            self.assertTrue(streamed.stream)
            if stream == "sse":
                self.assertEqual(streamed.content_type, "text/event-stream")
                for event in streamed.events:
                    self.assertTrue(event.startswith(b"data: {") and event.endswith(b"}\r\n\r\n"))
                values = [json.loads(event[6:]) for event in streamed.events]
            else:
                self.assertIn("application/json", streamed.content_type)
                values = json.loads(b"".join(streamed.events))
            chunks = [GenerateContentResponse.model_validate(each) for each in values]
            self.assertEqual([chunk.response_id for chunk in chunks], [found.response_id] * len(chunks))
            self.assertEqual(self.told(chunks), self.told([found]))
            self.assertEqual(chunks[-1].usage_metadata, found.usage_metadata)
            self.assertEqual(chunks[-1].candidates[0].finish_reason, found.candidates[0].finish_reason)  # type: ignore[index]
            for chunk in chunks[:-1]:
                self.assertIsNone(chunk.candidates[0].finish_reason)  # type: ignore[index]
        return found

    def told(self, chunks: list[GenerateContentResponse]) -> tuple[str, str, list[Any], set[bytes]]:
        """Text, thought, calls and signatures of an answer."""
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore
        text = "".join(part.text for part in parts if part.text and not part.thought)
        thought = "".join(part.text for part in parts if part.text and part.thought)
        calls = [(each.function_call, each.thought_signature) for each in parts if each.function_call]
        return text, thought, calls, {part.thought_signature for part in parts if part.thought_signature}

    def test_text(self) -> None:
        """A plain answer; its tokens add up."""
        found = self.both(asked("hello"))
        self.assertIn("stand-in for Gemini, model gemini-3-pro. You asked: “hello”", found.text or "")
        self.assertEqual(found.model_version, "gemini-3-pro")
        usage = found.usage_metadata
        assert usage is not None
        parts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count)
        self.assertEqual(usage.total_token_count, sum(each or 0 for each in parts))

    def test_signature_of_text(self) -> None:
        """Since Gemini 3 an answer without calls has its signature at its end; before it has none unasked."""
        *_, signs = self.told([self.both(asked("hello"))])
        self.assertEqual(len(signs), 1)
        last = json.loads(self.spelt(asked("hello"), "sse").events[-1][6:])["candidates"][0]["content"]["parts"]
        self.assertEqual((last[0]["text"], sorted(last[0])), ("", ["text", "thoughtSignature"]))
        *_, signs = self.told([self.both(asked("hello", at="gemini-2.5-flash"))])
        self.assertEqual(signs, set())

    def test_thought(self) -> None:
        """Thoughts are shown where that is wanted, and counted anyway."""
        text, thought, _, _ = self.told([self.both(asked("hello", generationConfig=THINK))])
        self.assertIn("I am a stand-in", thought)
        self.assertIn("You asked", text)
        quiet = self.both(asked("hello", generationConfig={"thinkingConfig": {"thinkingLevel": "LOW"}}))
        self.assertEqual(self.told([quiet])[1], "")
        assert quiet.usage_metadata is not None
        self.assertGreater(quiet.usage_metadata.thoughts_token_count or 0, 5)
        off = asked("hello", at="gemini-2.5-flash", generationConfig={"thinkingConfig": {"thinkingBudget": 0}})
        self.assertEqual(self.both(off).usage_metadata.thoughts_token_count, 0)  # type: ignore[union-attr]

    def test_calls(self) -> None:
        """One call, several, none, forced; the first of a step is signed, and ``STOP`` ends them all."""
        found = self.both(asked("use get_weather and get_time for 'Oslo'", tools=TWO))
        calls = self.told([found])[2]
        self.assertEqual(
            [(each.name, each.args) for each, _ in calls], [(n, {"city": "Oslo"}) for n in ("get_weather", "get_time")]
        )
        self.assertEqual([sign is not None for _, sign in calls], [True, False])
        self.assertEqual(len({each.id for each, _ in calls}), 2)
        self.assertEqual(found.candidates[0].finish_reason, types.FinishReason.STOP)  # type: ignore[index]

        def names(text: str = "hello", **calling: Any) -> list[str]:
            config = {"functionCallingConfig": calling}
            return [each.name for each, _ in self.told([self.both(asked(text, tools=TWO, toolConfig=config))])[2]]

        self.assertEqual(names("use get_time", mode="NONE"), [])
        self.assertEqual(names("use get_time", mode="AUTO"), ["get_time"])
        self.assertEqual(names(mode="ANY"), ["get_weather"])
        self.assertEqual(names(mode="ANY", allowedFunctionNames=["get_time"]), ["get_time"])

    def test_result(self) -> None:
        """After a response the answer repeats it."""
        found = self.both(body(user(), model(call()), user(response()), tools=TWO))
        self.assertIn("The tool gave: “sunny”", found.text or "")

    def test_limits(self) -> None:
        """A limit and a stop end the answer."""
        found = self.both(asked("say 90 words", generationConfig={"maxOutputTokens": 10}))
        self.assertEqual(found.candidates[0].finish_reason, types.FinishReason.MAX_TOKENS)  # type: ignore[index]
        self.assertEqual(len((found.text or "").split()), 10)
        found = self.both(asked("hello", generationConfig={"stopSequences": ["stand-in"]}))
        self.assertEqual(found.text, "This is the ")
        self.assertEqual(found.candidates[0].finish_reason, types.FinishReason.STOP)  # type: ignore[index]

    def test_no_room(self) -> None:
        """An answer whose thought took all of its tokens has a part all the same."""
        config = {"maxOutputTokens": 3, "thinkingConfig": {"thinkingLevel": "LOW"}}
        found = self.both(asked("hello", generationConfig=config))
        self.assertEqual(found.candidates[0].finish_reason, types.FinishReason.MAX_TOKENS)  # type: ignore[index]


class ClientTests(SynchronousTestCase):
    """The official client at the stand-in."""

    def test_loop(self) -> None:
        """It plays a whole loop of tools with thinking, giving every part back as it came."""
        config = types.GenerateContentConfig(
            system_instruction="Be brief.",
            tools=[types.Tool(function_declarations=[{"name": "get_weather", "parameters_json_schema": CITY}])],  # type: ignore[list-item]
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW),
        )
        for stream in (False, True):
            client = gemini_at(VOICE)
            contents: list[Any] = [types.Content(role="user", parts=[types.Part(text="use get_weather for 'Paris'")])]
            for _ in range(3):
                if stream:
                    chunks = list(
                        client.models.generate_content_stream(model="gemini-3-pro", contents=contents, config=config)
                    )
                else:
                    chunks = [client.models.generate_content(model="gemini-3-pro", contents=contents, config=config)]
                parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore
                parts = [part for part in parts if part.text != "" or part.thought_signature]
                contents.append(types.Content(role="model", parts=parts))
                calls = [part.function_call for part in parts if part.function_call]
                if not calls:
                    break
                answers = [
                    types.Part.from_function_response(name=each.name, response={"output": "sunny"}) for each in calls
                ]
                contents.append(types.Content(role="user", parts=answers))
            text = "".join(part.text for part in contents[-1].parts if part.text and not part.thought)
            self.assertIn("The tool gave: “sunny”", text)
            self.assertEqual(len(contents), 4)

    def test_refused(self) -> None:
        """What is refused is the client's own error."""
        error = self.assertRaises(
            errors.ClientError,
            gemini_at(VOICE).models.generate_content,
            model="gemini-3-pro",
            contents="hi",
            config=types.GenerateContentConfig(max_output_tokens=100_000),
        )
        self.assertEqual((error.code, error.status), (400, "INVALID_ARGUMENT"))

    def test_count(self) -> None:
        """It counts."""
        counted = gemini_at(VOICE).models.count_tokens(model="gemini-3-pro", contents="hello there")
        self.assertGreater(counted.total_tokens or 0, 5)


class ErrorTests(SynchronousTestCase):
    """Errors, counts and lists."""

    def test_shapes(self) -> None:
        """Errors have the status's own word; being asked too much tells when to come back."""
        for status, word in (
            (400, "INVALID_ARGUMENT"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (500, "INTERNAL"),
            (503, "UNAVAILABLE"),
            (529, "UNAVAILABLE"),
            (402, "UNKNOWN"),
        ):
            error = VOICE.error(Refusal(status, "x", "no"), 1)["error"]
            self.assertEqual(error, {"code": status, "message": "no", "status": word})
        error = VOICE.error(Refusal(429, "x", "no"), 1)["error"]
        self.assertEqual((error["status"], error["details"][0]["retryDelay"]), ("RESOURCE_EXHAUSTED", "30s"))

    def test_counts(self) -> None:
        """Turns are counted, and of a whole request everything."""
        bare = VOICE.count({"contents": [user()]})
        inner = {"model": "models/x", "contents": [user()], "systemInstruction": user(), "tools": TWO}
        whole = VOICE.count({"generateContentRequest": inner})
        assert bare is not None and whole is not None
        self.assertGreater(whole["totalTokens"], bare["totalTokens"] * 2)

    def test_models(self) -> None:
        """The list tells what its models can do."""
        self.assertEqual(
            [each["name"] for each in VOICE.models("")["models"]], ["models/gemini-3-pro", "models/gemini-2.5-flash"]
        )
        self.assertIn("countTokens", VOICE.models("gemini-3-pro")["supportedGenerationMethods"])
        self.assertRaises(Refusal, VOICE.models, "other")
