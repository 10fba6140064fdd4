"""
One official SDK against a list of ports, as a program of its own: whichever version its interpreter has installed.

``python sdk_session.py SDK URL …`` with SDK one of ``anthropic``, ``chat``, ``responses``, ``gemini`` prints a JSON
object: for each URL what each scene gave, as plain values that no longer know whose SDK it was.

A scene gives ``text``, ``calls`` (name and arguments), ``stop``, ``input`` and ``output`` tokens; a loop of tools gives
one such for each answer of the loop. What broke is ``{"error": …}`` in its place.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

SYSTEM = "Answer as a stand-in does."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": "The weather in a city.", "get_time": "The time in a city."}
ASK = "What is it like there? Use get_weather for 'Paris'."
BOTH = "Use get_weather and get_time for 'Oslo'."
RESULT = "sunny, 21 degrees"
Scene = dict[str, Any]


class Anthropic:
    """The Anthropic SDK."""

    def __init__(self, url: str) -> None:
        import anthropic

        self.client = anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0, timeout=60.0)
        self.tools = [{"name": name, "description": text, "input_schema": CITY} for name, text in TOOLS.items()]

    def _scene(self, message: Any) -> Scene:
        return {
            "text": "".join(block.text for block in message.content if block.type == "text"),
            "thought": "".join(block.thinking for block in message.content if block.type == "thinking"),
            "calls": [[block.name, block.input] for block in message.content if block.type == "tool_use"],
            "stop": message.stop_reason,
            "input": message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0),
            "output": message.usage.output_tokens,
        }

    def _say(self, messages: list[Any], stream: bool, **members: Any) -> Any:
        request = {"model": "claude-sonnet-4-5", "max_tokens": 2000, "system": SYSTEM, "messages": messages, **members}
        if not stream:
            return self.client.messages.create(**request)
        with self.client.messages.stream(**request) as events:
            return events.get_final_message()

    def say(self, text: str, stream: bool, picture: bool = False) -> Scene:
        content: Any = text
        if picture:
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            content = [{"type": "image", "source": source}, {"type": "text", "text": text}]
        return self._scene(self._say([{"role": "user", "content": content}], stream))

    def loop(self, text: str, stream: bool, think: bool) -> list[Scene]:
        messages: list[Any] = [{"role": "user", "content": text}]
        members: dict[str, Any] = {"tools": self.tools}
        if think:
            members["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        scenes = []
        for _ in range(3):
            message = self._say(messages, stream, **members)
            scenes.append(self._scene(message))
            messages.append(
                {"role": "assistant", "content": [block.model_dump(exclude_unset=True) for block in message.content]}
            )
            calls = [block for block in message.content if block.type == "tool_use"]
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
            if not results:
                break
            messages.append({"role": "user", "content": results})
        messages.append({"role": "user", "content": "And now thank you."})
        scenes.append(self._scene(self._say(messages, stream, **members)))
        return scenes

    def shape(self) -> Scene:
        format = {"type": "json_schema", "schema": {**CITY, "additionalProperties": False}}
        messages = [{"role": "user", "content": "hello"}]
        return self._scene(self._say(messages, False, extra_body={"output_config": {"format": format}}))

    def wrong(self) -> str:
        try:
            self._say([{"role": "user", "content": "hi"}], False, extra_body={"messages": "none"})
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} {getattr(error, 'status_code', '')}"
        return "no error"


class Chat:
    """The OpenAI SDK on Chat Completions."""

    def __init__(self, url: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="client-key", max_retries=0, timeout=60.0)
        self.tools = [
            {"type": "function", "function": {"name": name, "description": text, "parameters": CITY}}
            for name, text in TOOLS.items()
        ]

    def _say(self, messages: list[Any], stream: bool, **members: Any) -> tuple[Scene, Any]:
        messages = [{"role": "system", "content": SYSTEM}, *messages]
        request = {"model": "gpt-6", "max_completion_tokens": 2000, "messages": messages, **members}
        if not stream:
            answer = self.client.chat.completions.create(**request)
            choice = answer.choices[0]
            return self._scene(choice.message, choice.finish_reason, answer.usage), choice.message
        with self.client.chat.completions.stream(**request, stream_options={"include_usage": True}) as events:
            for _ in events:
                pass
            answer = events.get_final_completion()
        choice = answer.choices[0]
        return self._scene(choice.message, choice.finish_reason, answer.usage), choice.message

    def _scene(self, message: Any, finish: str, usage: Any) -> Scene:
        calls = message.tool_calls or ()
        return {
            "text": message.content or "",
            "thought": getattr(message, "reasoning_content", None) or "",
            "calls": [[call.function.name, json.loads(call.function.arguments)] for call in calls],
            "stop": finish,
            "input": usage.prompt_tokens,
            "output": usage.completion_tokens,
        }

    def say(self, text: str, stream: bool, picture: bool = False) -> Scene:
        content: Any = text
        if picture:
            image = {"url": f"data:image/png;base64,{PIXEL}"}
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": image}]
        return self._say([{"role": "user", "content": content}], stream)[0]

    def loop(self, text: str, stream: bool, think: bool) -> list[Scene]:
        messages: list[Any] = [{"role": "user", "content": text}]
        members: dict[str, Any] = {"tools": self.tools}
        if think:
            members["reasoning_effort"] = "low"
        scenes = []
        for _ in range(3):
            scene, message = self._say(messages, stream, **members)
            scenes.append(scene)
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in message.tool_calls or ()
            ]
            turn: dict[str, Any] = {"role": "assistant", "content": message.content}
            messages.append({**turn, "tool_calls": calls} if calls else turn)
            if not calls:
                break
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": RESULT} for call in calls]
        messages.append({"role": "user", "content": "And now thank you."})
        scenes.append(self._say(messages, stream, **members)[0])
        return scenes

    def shape(self) -> Scene:
        schema = {"name": "place", "schema": {**CITY, "additionalProperties": False}, "strict": True}
        form = {"type": "json_schema", "json_schema": schema}
        return self._say([{"role": "user", "content": "hello"}], False, response_format=form)[0]

    def wrong(self) -> str:
        try:
            self._say([{"role": "user", "content": "hi"}], False, extra_body={"messages": "none"})
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} {getattr(error, 'status_code', '')}"
        return "no error"


class Responses:
    """The OpenAI SDK on Responses."""

    def __init__(self, url: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="client-key", max_retries=0, timeout=60.0)
        self.tools = [
            {"type": "function", "name": name, "description": text, "parameters": CITY, "strict": False}
            for name, text in TOOLS.items()
        ]

    def _say(self, items: list[Any], stream: bool, **members: Any) -> tuple[Scene, Any]:
        request = {
            "model": "gpt-6",
            "max_output_tokens": 2000,
            "instructions": SYSTEM,
            "input": items,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            **members,
        }
        if not stream:
            answer = self.client.responses.create(**request)
        else:
            with self.client.responses.stream(**request) as events:
                for _ in events:
                    pass
                answer = events.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        thoughts = [part.text for item in answer.output if item.type == "reasoning" for part in item.summary]
        scene = {
            "text": answer.output_text,
            "thought": "".join(thoughts),
            "calls": [[call.name, json.loads(call.arguments)] for call in calls],
            "stop": answer.status,
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
        }
        return scene, answer

    def say(self, text: str, stream: bool, picture: bool = False) -> Scene:
        content: list[Any] = [{"type": "input_text", "text": text}]
        if picture:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"})
        return self._say([{"role": "user", "content": content}], stream)[0]

    def loop(self, text: str, stream: bool, think: bool) -> list[Scene]:
        items: list[Any] = [{"role": "user", "content": text}]
        members: dict[str, Any] = {"tools": self.tools}
        if think:
            members["reasoning"] = {"effort": "low", "summary": "auto"}
        scenes = []
        for _ in range(3):
            scene, answer = self._say(items, stream, **members)
            scenes.append(scene)
            for item in answer.output:
                value = item.model_dump(exclude_none=True, mode="json")
                value.pop("parsed_arguments", None)
                for part in value.get("content") or ():
                    part.pop("parsed", None)
                items.append(value)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            items += [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT} for call in calls]
        items.append({"role": "user", "content": "And now thank you."})
        scenes.append(self._say(items, stream, **members)[0])
        return scenes

    def shape(self) -> Scene:
        form = {
            "type": "json_schema",
            "name": "place",
            "schema": {**CITY, "additionalProperties": False},
            "strict": True,
        }
        return self._say([{"role": "user", "content": "hello"}], False, text={"format": form})[0]

    def wrong(self) -> str:
        try:
            self._say([], False, extra_body={"input": 5})
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} {getattr(error, 'status_code', '')}"
        return "no error"


class Gemini:
    """The google-genai SDK."""

    def __init__(self, url: str) -> None:
        from google import genai
        from google.genai import types

        self.types = types
        self.client = genai.Client(api_key="client-key", http_options=types.HttpOptions(base_url=url, timeout=60_000))
        declarations = [
            types.FunctionDeclaration(name=name, description=text, parameters_json_schema=CITY)
            for name, text in TOOLS.items()
        ]
        self.tools = [types.Tool(function_declarations=declarations)]

    def _say(self, contents: list[Any], stream: bool, **members: Any) -> tuple[Scene, list[Any]]:
        types = self.types
        off = types.AutomaticFunctionCallingConfig(disable=True)
        config = types.GenerateContentConfig(
            system_instruction=SYSTEM, max_output_tokens=2000, automatic_function_calling=off, **members
        )
        asked = {"model": "gemini-3-pro", "contents": contents, "config": config}
        if stream:
            chunks = list(self.client.models.generate_content_stream(**asked))
        else:
            chunks = [self.client.models.generate_content(**asked)]
        parts = [
            part
            for chunk in chunks
            for part in (
                chunk.candidates[0].content.parts if chunk.candidates and chunk.candidates[0].content else None
            )
            or ()
        ]
        # As the SDK's own chats do: the empty text of a last piece is not said again.
        parts = [part for part in parts if part.text != "" or part.thought_signature]
        usage = next(chunk.usage_metadata for chunk in reversed(chunks) if chunk.usage_metadata)
        finish = next(
            (each.candidates[0].finish_reason for each in reversed(chunks) if each.candidates[0].finish_reason), None
        )
        scene = {
            "text": "".join(part.text for part in parts if part.text and not part.thought),
            "thought": "".join(part.text for part in parts if part.text and part.thought),
            "calls": [[part.function_call.name, part.function_call.args] for part in parts if part.function_call],
            "stop": finish.value if finish else None,
            "input": usage.prompt_token_count,
            "output": (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        }
        return scene, parts

    def say(self, text: str, stream: bool, picture: bool = False) -> Scene:
        import base64

        types = self.types
        parts = [types.Part(text=text)]
        if picture:
            parts.append(types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png"))
        return self._say([types.Content(role="user", parts=parts)], stream)[0]

    def loop(self, text: str, stream: bool, think: bool) -> list[Scene]:
        types = self.types
        contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=text)])]
        members: dict[str, Any] = {"tools": self.tools}
        if think:
            members["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        scenes = []
        for _ in range(3):
            scene, parts = self._say(contents, stream, **members)
            scenes.append(scene)
            contents.append(types.Content(role="model", parts=parts))
            calls = [part.function_call for part in parts if part.function_call]
            if not calls:
                break
            answers = [
                types.Part(
                    function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": RESULT})
                )
                for call in calls
            ]
            contents.append(types.Content(role="user", parts=answers))
        contents.append(types.Content(role="user", parts=[types.Part(text="And now thank you.")]))
        scenes.append(self._say(contents, stream, **members)[0])
        return scenes

    def shape(self) -> Scene:
        contents = [self.types.Content(role="user", parts=[self.types.Part(text="hello")])]
        return self._say(contents, False, response_mime_type="application/json", response_json_schema=CITY)[0]

    def wrong(self) -> str:
        try:
            self.client.models.generate_content(
                model="gemini-3-pro",
                contents=["hi"],
                config=self.types.GenerateContentConfig(http_options={"extra_body": {"contents": 5}}),
            )
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__} {getattr(error, 'code', '')}"
        return "no error"


SDKS = {"anthropic": Anthropic, "chat": Chat, "responses": Responses, "gemini": Gemini}


def scenes(sdk: Any) -> dict[str, Any]:
    """Every scene with one client."""
    played: dict[str, Any] = {}
    acts = {
        "plain": lambda: sdk.say("Hello there", False),
        "streamed": lambda: sdk.say("Hello there", True),
        "long": lambda: sdk.say("Say 300 words", True),
        "picture": lambda: sdk.say("What is on it?", False, picture=True),
        "loop": lambda: sdk.loop(ASK, False, False),
        "loop_streamed": lambda: sdk.loop(ASK, True, False),
        "both": lambda: sdk.loop(BOTH, True, False),
        "thinking": lambda: sdk.loop(ASK, False, True),
        "thinking_streamed": lambda: sdk.loop(ASK, True, True),
        "shape": sdk.shape,
        "wrong": sdk.wrong,
    }
    for name, act in acts.items():
        try:
            played[name] = act()
        except Exception as error:  # noqa: BLE001 - it is the result
            where = traceback.extract_tb(error.__traceback__)[-1]
            played[name] = {"error": f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:1500]}
    return played


if __name__ == "__main__":
    json.dump({url: scenes(SDKS[sys.argv[1]](url)) for url in sys.argv[2:]}, sys.stdout)
