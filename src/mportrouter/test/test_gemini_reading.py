"""Tests for :mod:`mportrouter.dialects.gemini_reading` and :mod:`mportrouter.dialects.gemini_options`."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.genai import types
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    Conversation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningControl,
    Sampling,
    Sound,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ..dialects.gemini import GeminiDialect
from ..envelope import seal_base64
from ..errors import Kind, RouterError
from ..interfaces import Inexpressible, Look
from .gemini_client import client

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 12).decode()
USER = {"role": "user", "parts": [{"text": "hi"}]}
CODEX = Opaque("openai", "gpt", "encrypted", "o1", "rs_1")
CLAUDE = Opaque("anthropic", "claude", "signature", "c1")


def read(body: Any, method: str = "generateContent", query: bytes = b"") -> Conversation:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    dialect = GeminiDialect()
    return dialect.read_request(raw, dialect.look(raw, f"/v1beta/models/g:{method}".encode(), query))


def turns(*contents: Any) -> tuple[Turn, ...]:
    return read({"contents": list(contents)}).turns


def parts(*each: Any, role: str = "user") -> tuple[Any, ...]:
    return turns({"role": role, "parts": list(each)})[0].parts


def options(**members: Any) -> Conversation:
    return read({"contents": [USER], **members})


def config(**members: Any) -> Conversation:
    return options(generationConfig=members)


class TurnTests(SynchronousTestCase):
    """Turns and their parts."""

    def test_top(self) -> None:
        """Model, stream and its form are told; a body is read by either look."""
        found = read({"contents": [USER]}, "streamGenerateContent", b"alt=sse")
        self.assertEqual(
            (found.dialect, found.model, found.stream, found.members), ("gemini", "g", True, {"alt": "sse"})
        )
        self.assertEqual(read({"contents": [USER]}, "streamGenerateContent").members, {"alt": "json"})
        self.assertFalse(read({"contents": [USER]}).stream)
        plain = GeminiDialect().read_request(b'{"contents":[]}', Look("a/b", True, frozenset(), None, 0))
        self.assertEqual((plain.model, plain.stream), ("a/b", True))
        inner = read(
            {"generateContentRequest": {"contents": [USER], "systemInstruction": {"parts": [{"text": "s"}]}}},
            "countTokens",
        )
        self.assertEqual((inner.system, len(inner.turns)), ((Text("s"),), 1))

    def test_roles(self) -> None:
        """Roles have their neutral names; none and ``function`` are the user's; another is refused."""
        for role, wanted in (("user", "user"), ("model", "assistant"), ("function", "user"), (None, "user")):
            self.assertEqual(turns({"role": role, "parts": [{"text": "a"}]}), (Turn(wanted, (Text("a"),)),))
        self.assertEqual(turns({"parts": {"text": "a"}}), (Turn("user", (Text("a"),)),))
        self.assertEqual(read({"contents": USER}).turns, (Turn("user", (Text("hi"),)),))
        for bad in ({"role": "system", "parts": []}, 3, {"parts": [3]}, {"parts": [{}]},
                    {"parts": [{"functionCall": {}}]},
                    {"parts": [{"inlineData": {}}]}, {"parts": [{"fileData": {}}]}):  # fmt: skip
            with self.assertRaises(RouterError) as raised:
                turns(bad)
            self.assertEqual(raised.exception.kind, Kind.BAD_REQUEST)
            self.assertIn("contents[0]", raised.exception.message, bad)

    def test_system(self) -> None:
        """Instructions are one text for each part, in either spelling and shape."""
        for value in (
            {"parts": [{"text": "a"}, {"text": "b"}]},
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        ):
            self.assertEqual(options(systemInstruction=value).system, (Text("a"), Text("b")))
        self.assertEqual(options(system_instruction={"parts": {"text": "a"}}).system, (Text("a"),))
        self.assertEqual(options(systemInstruction="a").system, (Text("a"),))
        self.assertEqual(options(systemInstruction=None).system, ())
        for bad in (3, {"parts": [{"inlineData": {}}]}):
            self.assertRaises(RouterError, options, systemInstruction=bad)

    def test_calls(self) -> None:
        """Calls without ids get them from their places; results find them by id, else by name in order."""
        found = turns(
            USER,
            {"role": "model", "parts": [
                {"functionCall": {"name": "f", "args": {"a": 1}}},
                {"functionCall": {"name": "g"}},
                {"functionCall": {"name": "f", "args": {"a": 2}}},
                {"functionCall": {"id": "own", "name": "f", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "own", "name": "f", "response": {"output": "4"}}},
                {"functionResponse": {"name": "f", "response": {"output": "1"}}},
                {"functionResponse": {"name": "g", "response": {}}},
                {"functionResponse": {"id": "strange", "name": "f", "response": {"output": "3"}}},
                {"functionResponse": {"name": "h", "response": {"output": "?"}}},
            ]},
        )  # fmt: skip
        calls = [part for part in found[1].parts if isinstance(part, ToolCall)]
        self.assertEqual(
            [(call.id, call.arguments) for call in calls],
            [("call_1_0", '{"a":1}'), ("call_1_1", "{}"), ("call_1_2", '{"a":2}'), ("own", "{}")],
        )
        results = [part for part in found[2].parts if isinstance(part, ToolResult)]
        self.assertEqual(
            [(each.call_id, each.name) for each in results],
            [("own", "f"), ("call_1_0", "f"), ("call_1_1", "g"), ("call_1_2", "f"), ("call_2_4", "h")],
        )

    def test_results(self) -> None:
        """A text alone is that text, an error alone is an error, anything else its JSON; pictures come with it."""
        for response, text, failed in (
            ({"output": "x"}, "x", False),
            ({"result": "x"}, "x", False),
            ({"content": "x"}, "x", False),
            ({"error": "x"}, "x", True),
            ({"error": {"code": 1}}, '{"code":1}', True),
            ({"output": "x", "error": "y"}, '{"output":"x","error":"y"}', False),
            ({"output": {"é": 1}}, '{"output":{"é":1}}', False),
            ({"any": 1}, '{"any":1}', False),
            ("bare", "bare", False),
            ([1], "[1]", False),
        ):
            (result,) = parts({"functionResponse": {"name": "f", "response": response}})
            self.assertEqual((result.parts, result.is_error), ((Text(text),), failed), response)
        for response in (None, {}, {"output": ""}):
            self.assertEqual(parts({"functionResponse": {"name": "f", "response": response}})[0].parts, ())
        (result,) = parts(
            {"function_response": {"name": "f", "parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]}}
        )
        self.assertEqual(result.parts, (Image(Media("base64", PNG, "image/png")),))

    def test_media(self) -> None:
        """Bytes are what they say they are; texts are read; places of other providers' pages stay places."""
        for blob, wanted in (
            ({"mimeType": "image/png", "data": PNG}, Image(Media("base64", PNG, "image/png"))),
            ({"mimeType": "image/jpeg", "data": PNG}, Image(Media("base64", PNG, "image/png"))),
            ({"mimeType": "image/webp", "data": "_-8="}, Image(Media("base64", "/+8=", "image/webp"))),
            ({"mimeType": "audio/wav", "data": "AAAA"}, Sound(Media("base64", "AAAA", "audio/wav"))),
            ({"mimeType": "application/pdf", "data": "AAAA", "displayName": "a.pdf"},
             Document(Media("base64", "AAAA", "application/pdf", "a.pdf"), title="a.pdf")),
            ({"mimeType": "video/mp4", "data": "AAAA"}, Document(Media("base64", "AAAA", "video/mp4"))),
            ({"mimeType": "text/plain", "data": base64.b64encode("é".encode()).decode()},
             Document(Media("text", "é", "text/plain"))),
        ):  # fmt: skip
            self.assertEqual(parts({"inlineData": blob}), (wanted,), blob)
        for file, wanted in (
            ({"fileUri": "https://x/a.png?q", "mimeType": "image/png"},
             Image(Media("url", "https://x/a.png?q", "image/png"))),
            ({"fileUri": "https://x/a.JPG?q"}, Image(Media("url", "https://x/a.JPG?q", "image/jpeg"))),
            ({"fileUri": "https://x/a.pdf", "mimeType": "application/pdf"},
             Document(Media("url", "https://x/a.pdf", "application/pdf"))),
            ({"file_uri": "gs://b/a", "mime_type": "image/png"}, Image(Media("file", "gs://b/a", "image/png"))),
            ({"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x", "mimeType": "audio/wav"},
             Sound(Media("file", "https://generativelanguage.googleapis.com/v1beta/files/x", "audio/wav"))),
            ({"fileUri": "https://www.youtube.com/watch?v=1"}, Document(Media("file", "https://www.youtube.com/watch?v=1"))),
        ):  # fmt: skip
            self.assertEqual(parts({"fileData": file}), (wanted,), file)

    def test_detail(self) -> None:
        """How closely pictures are looked at is told for one part, else for all."""
        picture = {"inlineData": {"mimeType": "image/png", "data": PNG}}
        body = {
            "contents": [{"parts": [picture, {**picture, "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}]}],
            "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
        }
        self.assertEqual([part.detail for part in read(body).turns[0].parts], ["low", "high"])

    def test_foreign(self) -> None:
        """Parts that only this dialect has are kept whole, with words for the others."""
        code = {"executable_code": {"language": "PYTHON", "code": "1"}}
        (part,) = parts(code, role="model")
        self.assertEqual(part, Foreign("gemini", "executableCode", code, "```python\n1\n```"))
        (part,) = parts({"toolCall": {"id": "x", "toolType": "GOOGLE_SEARCH"}}, role="model")
        self.assertEqual((part.kind, part.text), ("toolCall", '[toolCall] {"toolType":"GOOGLE_SEARCH"}'))

    def test_signatures(self) -> None:
        """A signature of the dialect's own stays on its part; a foreign one is the reasoning before it."""
        call = {"functionCall": {"name": "f"}}
        own = Opaque("gemini", "", "thought", "AAEC")
        self.assertEqual(parts({**call, "thoughtSignature": "AAEC"}, role="model")[0].opaque, own)
        self.assertEqual(parts({"text": "", "thoughtSignature": "AAEC"}, role="model"), (Text("", opaque=own),))
        found = parts(
            {"text": "hm", "thought": True},
            {"text": " so", "thought": True},
            {**call, "thought_signature": seal_base64(CODEX)},
            role="model",
        )
        self.assertEqual(found, (Reasoning("hm so", CODEX), ToolCall("call_0_2", "f", "{}")))
        signed = {"text": "", "thought": True, "thoughtSignature": seal_base64(CLAUDE)}
        found = parts({"text": "hm", "thought": True}, signed, {"text": "a"}, role="model")
        self.assertEqual(found, (Reasoning("hm", CLAUDE), Text("a")))
        found = parts({"text": "a"}, {"text": "", "thoughtSignature": seal_base64(CODEX)}, role="model")
        self.assertEqual(found, (Text("a"), Reasoning("", CODEX)))
        foreign = Opaque("vertex", "m", "thought", "x")
        self.assertEqual(parts({**call, "thoughtSignature": seal_base64(foreign)}, role="model")[0].opaque, foreign)
        damaged = seal_base64(CODEX)[:9] + "!"
        self.assertIsNone(parts({**call, "thoughtSignature": damaged}, role="model")[0].opaque)
        found = parts({"text": "hm", "thought": True}, {"text": "a"}, {"text": "end", "thought": True}, role="model")
        self.assertEqual(found, (Reasoning("hm"), Text("a"), Reasoning("end")))

    def test_official_client(self) -> None:
        """What the official client sends is read."""
        seen: list[Any] = []
        answer = json.dumps({"candidates": [{"content": {"parts": [{"text": "x"}]}}]}).encode()
        with client(b"application/json", answer, seen=seen) as asking:
            asking.models.generate_content(
                model="g",
                contents=["hi", types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")],
                config=types.GenerateContentConfig(
                    system_instruction="s",
                    temperature=0.5,
                    thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=100),
                    tools=[
                        types.Tool(
                            function_declarations=[
                                types.FunctionDeclaration(name="f", parameters_json_schema={"type": "object"})
                            ]
                        )
                    ],
                ),
            )
        (request,) = seen
        dialect = GeminiDialect()
        body = request.read()
        look = dialect.look(body, request.url.raw_path.partition(b"?")[0], request.url.query)
        found = dialect.read_request(body, look)
        self.assertEqual(found.turns, (Turn("user", (Text("hi"), Image(Media("base64", PNG, "image/png")))),))
        self.assertEqual((found.model, found.system, found.sampling.temperature), ("g", (Text("s"),), 0.5))
        self.assertEqual(found.reasoning, ReasoningControl("on", None, 100, "summarised"))
        self.assertEqual((found.tools[0].name, found.tools[0].schema), ("f", {"type": "object"}))
        self.assertEqual(found.unread, ())


class OptionTests(SynchronousTestCase):
    """What stands beside the turns."""

    def test_functions(self) -> None:
        """Schemas of either kind are JSON Schema afterwards; what has no counterpart is told."""
        declared = {
            "name": "f",
            "description": "d",
            "parameters": {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING", "nullable": True}},
                "propertyOrdering": ["a"],
            },
        }
        plain = {"name": "g", "parameters_json_schema": {"type": "object", "$ref": "#/x"}, "behavior": "BLOCKING"}
        found = options(tools=[{"functionDeclarations": [declared, plain]}, {"function_declarations": {"name": "h"}}])
        one, two, three = found.tools
        self.assertEqual((one.name, one.description, one.raw), ("f", "d", declared))
        self.assertEqual(one.schema, {"type": "object", "properties": {"a": {"type": ["string", "null"]}}})
        self.assertEqual(two.schema, {"type": "object", "$ref": "#/x"})
        self.assertEqual((three.name, three.schema), ("h", None))
        self.assertEqual(found.unread, ("tools[0].functionDeclarations[].behavior",))
        for bad in (
            3,
            [3],
            [{"functionDeclarations": [{}]}],
            [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": 3}]}],
        ):
            self.assertRaises(RouterError, options, tools=bad)

    def test_server_tools(self) -> None:
        """Tools that the provider runs have their neutral names."""
        found = options(
            tools=[
                {"googleSearch": {"excludeDomains": ["x"]}},
                {"google_search_retrieval": {}, "codeExecution": {}},
                {"urlContext": {}},
                {"googleMaps": {}},
            ]
        )
        self.assertEqual(
            [(tool.kind, tool.server) for tool in found.tools],
            [
                ("server", "web_search"),
                ("server", "web_search"),
                ("server", "code_execution"),
                ("server", "web_fetch"),
                ("server", "googleMaps"),
            ],
        )
        self.assertEqual(found.tools[0].options, {"blocked_domains": ["x"]})

    def test_choice(self) -> None:
        """Each mode has its neutral choice; one allowed name is that tool."""
        for calling, choice in (
            ({"mode": "AUTO"}, ToolChoice("auto")),
            ({"mode": "ANY"}, ToolChoice("required")),
            ({"mode": "ANY", "allowedFunctionNames": []}, ToolChoice("required")),
            ({"mode": "ANY", "allowed_function_names": ["f"]}, ToolChoice("one", "f")),
            ({"mode": "any", "allowedFunctionNames": ["f", "g"]}, ToolChoice("required", allowed=("f", "g"))),
            ({"mode": "AUTO", "allowedFunctionNames": ["f"]}, ToolChoice("auto", allowed=("f",))),
            ({"mode": "NONE"}, ToolChoice("none")),
            ({"mode": "MODE_UNSPECIFIED"}, None),
            ({}, None),
        ):
            self.assertEqual(options(toolConfig={"functionCallingConfig": calling}).tool_choice, choice, calling)
        found = options(tool_config={"function_calling_config": {"mode": "VALIDATED"}, "retrievalConfig": {}})
        self.assertEqual(found.tool_choice, ToolChoice("auto"))
        self.assertEqual(len(found.unread), 2)
        self.assertRaises(RouterError, options, toolConfig={"functionCallingConfig": {"mode": "SOME"}})

    def test_sampling(self) -> None:
        """Every number of the configuration is read, also as a text or a float, and a wrong one named."""
        found = config(
            temperature=1, topP=0.5, topK=40.0, candidateCount=1, maxOutputTokens="100", stopSequences=["X"], seed=3,
            presencePenalty=0.1, frequencyPenalty=0.2, responseLogprobs=True, logprobs=2,
        )  # fmt: skip
        self.assertEqual(found.sampling, Sampling(1, 0.5, 40, ("X",), 3, 1, 0.1, 0.2, None, True, 2))
        self.assertEqual((found.max_output, found.unread), (100, ()))
        self.assertEqual(options(generation_config={"max_output_tokens": 5, "top_k": 2}).sampling.top_k, 2)
        self.assertEqual(config().sampling, Sampling())
        for name, value in (
            ("temperature", "x"),
            ("topK", 1.5),
            ("maxOutputTokens", True),
            ("seed", []),
            ("stopSequences", [3]),
        ):
            with self.assertRaises(RouterError) as raised:
                config(**{name: value})
            self.assertIn(name, raised.exception.message)

    def test_reasoning(self) -> None:
        """Budgets and levels, off and as the model likes; thoughts are shown only where that is said."""
        for thinking, control in (
            ({"thinkingBudget": 0}, ReasoningControl("off", None, None, "omitted")),
            ({"thinkingBudget": -1}, ReasoningControl("adaptive", None, None, "omitted")),
            ({"thinkingBudget": 512, "includeThoughts": True}, ReasoningControl("on", None, 512, "summarised")),
            ({"thinking_level": "LOW"}, ReasoningControl(None, "low", None, "omitted")),
            ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, ReasoningControl(None, None, None, "omitted")),
            ({"includeThoughts": True}, ReasoningControl(None, None, None, "summarised")),
            ({}, None),
            (None, None),
        ):
            self.assertEqual(config(thinkingConfig=thinking).reasoning, control, thinking)

    def test_output(self) -> None:
        """Formats of the answer: any JSON, a schema of either kind; an enumeration is told as left out."""
        for members, output in (
            ({"responseMimeType": "application/json"}, OutputFormat("json")),
            ({"responseMimeType": "text/plain"}, None),
            (
                {"responseSchema": {"type": "STRING"}, "responseMimeType": "application/json"},
                OutputFormat("json_schema", {"type": "string"}),
            ),
            ({"response_json_schema": {"type": "object"}}, OutputFormat("json_schema", {"type": "object"})),
        ):
            self.assertEqual(config(**members).output, output, members)
        found = config(responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["a"]})
        self.assertEqual((found.output, len(found.unread)), (None, 1))
        self.assertRaises(RouterError, config, responseJsonSchema=[])

    def test_beside(self) -> None:
        """Labels and tier are read, everything else is told by its name."""
        found = options(
            labels={"a": "b"}, serviceTier="FLEX", safetySettings=[], generationConfig={"speechConfig": {}}, odd=None
        )
        self.assertEqual((found.metadata, found.service_tier), ({"a": "b"}, "flex"))
        self.assertEqual(found.unread, ("safetySettings", "generationConfig.speechConfig"))

    def test_inexpressible(self) -> None:
        """What no other dialect has and what must not be left out is refused by name, unless it goes to its own."""
        for members, name in (
            ({"cachedContent": "cachedContents/x"}, "cachedContent"),
            ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "responseModalities"),
        ):
            with self.assertRaises(Inexpressible) as raised:
                options(**members)
            self.assertIn(name, raised.exception.message)
            read({"contents": [USER], **members}, "streamGenerateContent")
        self.assertEqual(config(responseModalities=["TEXT"]).unread, ())

    def test_custom_names(self) -> None:
        """A function's own names in arguments and schemas keep their spelling."""
        (call,) = parts(
            {"functionCall": {"name": "f", "args": {"snake_case": 1, "camelCase": {"x_y": 2}}}}, role="model"
        )
        self.assertEqual(call.arguments, '{"snake_case":1,"camelCase":{"x_y":2}}')
        schema = {"type": "object", "properties": {"some_name": {"type": "string"}}}
        found = options(tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}])
        self.assertEqual(found.tools, (Tool("f", "", schema, raw={"name": "f", "parametersJsonSchema": schema}),))

    def test_malformed(self) -> None:
        """A body whose values make no sense is refused with words."""
        self.assertRaises(RouterError, read, b'{"contents":[{"parts":[{"text":"a"}]}],"labels":[[')
