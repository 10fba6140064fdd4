"""The stand-ins' Chat Completions: answers as the official client reads them."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_chat import ChatVoice
from mportrouter.demo_said import Refusal

from .demo_clients import openai_at
from .test_demo_chat_rules import CITY, LENIENT, STRICT, body, call, calling, function, tool, user


class AnswerTests(SynchronousTestCase):
    """:meth:`ChatVoice.answer`, read by the official client."""

    def both(self, voice: ChatVoice = STRICT, **members: Any) -> ChatCompletion:
        """The answer in one piece, which is the same as the accumulated stream."""
        value = body(**members)
        whole = voice.answer(voice.check(value, {}), 1)
        self.assertFalse(whole.stream)
        found = ChatCompletion.model_validate(whole.whole)
        streamed = voice.answer(
            voice.check({**value, "stream": True, "stream_options": {"include_usage": True}}, {}), 1
        )
        self.assertTrue(streamed.stream)
        state = ChatCompletionStreamState(input_tools=members.get("tools", openai.NOT_GIVEN))
        for event in streamed.events[:-1]:
            self.assertTrue(event.startswith(b"data: ") and event.endswith(b"}\n\n"))
            chunk = ChatCompletionChunk.model_validate_json(event[6:])
            self.assertEqual(chunk.id, found.id)
            state.handle_chunk(chunk)
        self.assertEqual(streamed.events[-1], b"data: [DONE]\n\n")
        got = state.current_completion_snapshot
        for one, other in zip(found.choices, got.choices, strict=True):
            self.assertEqual(one.finish_reason, other.finish_reason)
            self.assertEqual(one.message.content or "", other.message.content or "")
            calls = [each.model_dump(exclude={"parsed_arguments", "index"}) for each in one.message.tool_calls or ()]
            others = [each.model_dump() for each in other.message.tool_calls or ()]
            for each in others:
                each.pop("index", None)
                each.get("function", {}).pop("parsed_arguments", None)
            self.assertEqual(calls, others)
        self.assertEqual(found.usage, got.usage)
        return found

    def test_text(self) -> None:
        """A plain answer, whole and streamed."""
        found = self.both()
        self.assertIn("stand-in for OpenAI, model gpt-6. You asked: “hello”", found.choices[0].message.content or "")
        self.assertEqual(found.choices[0].finish_reason, "stop")
        assert found.usage is not None
        self.assertEqual(found.usage.total_tokens, found.usage.prompt_tokens + found.usage.completion_tokens)

    def test_no_usage_unless_asked(self) -> None:
        """A stream tells its tokens only where that is wanted."""
        events = STRICT.answer(body(stream=True), 1).events
        self.assertEqual([event for event in events if b'"usage"' in event], [])
        events = STRICT.answer(body(stream=True, stream_options={"include_usage": True}), 1).events
        self.assertEqual([json.loads(event[6:])["usage"] for event in events[:-2]], [None] * (len(events) - 2))
        self.assertEqual(json.loads(events[-2][6:])["choices"], [])

    def test_choices(self) -> None:
        """As many choices come as are asked for."""
        self.assertEqual([each.index for each in self.both(n=3).choices], [0, 1, 2])

    def test_calls(self) -> None:
        """One call, several, none; with ids of their own and arguments as text."""
        tools = [function(), function("get_time")]
        messages = [user("use get_weather and get_time for 'Oslo'")]
        found = self.both(tools=tools, messages=messages).choices[0]
        calls = [(each.function.name, each.function.arguments) for each in found.message.tool_calls or ()]  # type: ignore[union-attr]
        self.assertEqual(calls, [("get_weather", '{"city":"Oslo"}'), ("get_time", '{"city":"Oslo"}')])
        self.assertEqual(found.finish_reason, "tool_calls")
        self.assertEqual(len({each.id for each in found.message.tool_calls or ()}), 2)
        one = self.both(tools=tools, messages=messages, parallel_tool_calls=False).choices[0]
        self.assertEqual(len(one.message.tool_calls or ()), 1)
        none = self.both(tools=tools, messages=messages, tool_choice="none").choices[0]
        self.assertEqual((none.message.tool_calls, none.finish_reason), (None, "stop"))

    def test_forced(self) -> None:
        """A forced call comes whatever is said; of allowed ones only those."""
        tools = [function(), function("get_time")]
        named = {"type": "function", "function": {"name": "get_time"}}
        for choice in (named, {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}):
            found = self.both(tools=tools, tool_choice=choice).choices[0]
            self.assertEqual([each.function.name for each in found.message.tool_calls or ()], ["get_time"])  # type: ignore[union-attr]
        found = self.both(tools=tools, tool_choice="required").choices[0]
        self.assertEqual(len(found.message.tool_calls or ()), 1)

    def test_custom_call(self) -> None:
        """A custom tool gets text."""
        tools = [{"type": "custom", "custom": {"name": "apply_patch"}}]
        value = body(user("use apply_patch for 'x y'"), tools=tools)
        spelt = STRICT.answer(STRICT.check(value, {}), 1)
        custom = spelt.whole["choices"][0]["message"]["tool_calls"][0]
        self.assertEqual((custom["type"], custom["custom"]), ("custom", {"name": "apply_patch", "input": "x y"}))
        ChatCompletion.model_validate(spelt.whole)
        deltas = [json.loads(event[6:])["choices"][0]["delta"].get("tool_calls") for event in spelt.events[:-1]]
        self.assertEqual("".join(each[0]["custom"]["input"] for each in deltas if each), "x y")

    def test_old_function(self) -> None:
        """Functions of the old form are called in it."""
        value = body(user("use f for 'x'"), functions=[{"name": "f", "parameters": CITY}])
        spelt = STRICT.answer(STRICT.check(value, {}), 1)
        choice = spelt.whole["choices"][0]
        self.assertEqual(choice["finish_reason"], "function_call")
        self.assertEqual(choice["message"]["function_call"], {"name": "f", "arguments": '{"city":"x"}'})
        deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in spelt.events[:-1]]
        text = "".join(each["function_call"]["arguments"] for each in deltas if "function_call" in each)
        self.assertEqual(text, '{"city":"x"}')

    def test_after_a_result(self) -> None:
        """After tools answered, the answer repeats what they gave."""
        for messages in (
            [user("use get_weather"), calling(call()), tool()],
            [user("use get_weather"), calling(call()), tool(content=[{"type": "text", "text": "sunny"}])],
        ):
            found = self.both(tools=[function()], messages=messages).choices[0]
            self.assertIn("The tool gave: “sunny”", found.message.content or "")

    def test_limits(self) -> None:
        """A limit and a stop end the answer with their own reasons."""
        found = self.both(max_completion_tokens=5).choices[0]
        self.assertEqual((len((found.message.content or "").split()), found.finish_reason), (5, "length"))
        found = self.both(LENIENT, model="llama-4", max_tokens=5).choices[0]
        self.assertEqual(found.finish_reason, "length")
        found = self.both(model="gpt-4o", stop="stand-in").choices[0]
        self.assertEqual((found.message.content, found.finish_reason), ("This is the ", "stop"))

    def test_thought(self) -> None:
        """A server that tells its thoughts does so in its own member; OpenAI only counts them."""
        value = body(reasoning_effort="low")
        whole = LENIENT.answer(LENIENT.check(value, {}), 1)
        message = whole.whole["choices"][0]["message"]
        self.assertIn("I am a stand-in", message["reasoning"])
        deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in whole.events[:-1]]
        self.assertEqual("".join(each.get("reasoning", "") for each in deltas), message["reasoning"])
        found = self.both(reasoning_effort="low")
        self.assertNotIn("reasoning", found.choices[0].message.model_dump())
        assert found.usage is not None and found.usage.completion_tokens_details is not None
        self.assertGreater(found.usage.completion_tokens_details.reasoning_tokens or 0, 5)
        for thinking, thinks in (({"type": "enabled"}, True), ({"type": "disabled"}, False), (True, True)):
            said = LENIENT.answer(LENIENT.check(body(thinking=thinking), {}), 1).whole["choices"][0]["message"]
            self.assertEqual("reasoning" in said, thinks, thinking)

    def test_client(self) -> None:
        """The official client plays a whole loop of tools with it, giving its answers back as they came."""
        client = openai_at(STRICT)
        messages: list[Any] = [user("use get_weather for 'Paris'")]
        for stream in (False, True):
            if stream:
                with client.chat.completions.stream(model="gpt-6", messages=messages, tools=[function()]) as events:
                    message = events.until_done().get_final_completion().choices[0].message
            else:
                answer = client.chat.completions.create(model="gpt-6", messages=messages, tools=[function()])  # type: ignore[list-item]
                message = answer.choices[0].message  # type: ignore[assignment]
            if not stream:
                messages.append(message)
                messages += [tool(each.id) for each in message.tool_calls or ()]
        self.assertIn("The tool gave: “sunny”", message.content or "")

    def test_client_is_refused(self) -> None:
        """What is refused is the client's own error, with the member at fault."""
        error = self.assertRaises(
            openai.BadRequestError,
            openai_at(STRICT).chat.completions.create,
            model="gpt-6",
            messages=[user()],
            temperature=0.2,
        )
        self.assertEqual((error.code, error.param), ("unsupported_value", "temperature"))


class ErrorTests(SynchronousTestCase):
    """Errors and lists."""

    def test_shapes(self) -> None:
        """Errors have the four members, with the type and the code of their status."""
        for status, kind, code in (
            (400, "invalid_request_error", None),
            (401, "invalid_request_error", "invalid_api_key"),
            (404, "invalid_request_error", "model_not_found"),
            (429, "rate_limit_error", "rate_limit_exceeded"),
            (503, "server_error", None),
        ):
            error = STRICT.error(Refusal(status, "invalid_request_error", "no"), 1)["error"]
            self.assertEqual(error, {"message": "no", "type": kind, "param": None, "code": code})

    def test_failed_stream(self) -> None:
        """The client raises what a stream tells."""
        failed = json.loads(STRICT.answer(body(stream=True), 1).failed(3)[6:])
        self.assertEqual((failed["error"]["type"], failed["error"]["code"]), ("server_error", "server_is_overloaded"))

    def test_count(self) -> None:
        """Nobody counts tokens here."""
        self.assertIsNone(STRICT.count(body()))
