"""What the Gemini stand-in refuses of a request, and what it takes."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_gemini import GeminiVoice
from mportrouter.demo_protos import decoded, read
from mportrouter.demo_said import Refusal, signature

VOICE = GeminiVoice("Gemini", ("gemini-3-pro", "gemini-2.5-flash"))
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DUMMY = "skip_thought_signature_validator"


def signed(id: str = "1", signer: str = "gemini") -> str:
    return base64.b64encode(f"{id}|{signature(signer, id)}".encode()).decode()


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts) or [{"text": "hello"}]}


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts) or [{"text": "x"}]}


def call(name: str = "get_weather", sign: str | None = DUMMY) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": {}}}
    return {**part, "thoughtSignature": sign} if sign else part


def response(name: str = "get_weather", **members: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": "sunny"}, **members}}


def function(name: str = "get_weather", **members: Any) -> dict[str, Any]:
    return {"name": name, "description": "x", **(members or {"parametersJsonSchema": CITY})}


def tools(*functions: Any) -> list[Any]:
    return [{"functionDeclarations": list(functions) or [function()]}]


def body(*contents: Any, at: str = "gemini-3-pro", **members: Any) -> dict[str, Any]:
    return {"contents": list(contents) or [user()], ":model": at, ":stream": "", **members}


class RulesTestCase(SynchronousTestCase):
    def taken(self, value: Any, counting: bool = False) -> Any:
        return VOICE.check(value, {}, counting)

    def refused(self, value: Any, words: str, counting: bool = False) -> Refusal:
        refusal: Refusal = self.assertRaises(Refusal, VOICE.check, value, {}, counting)
        self.assertIn(words, refusal.message)
        return refusal


class FormTests(RulesTestCase):
    """The request as a protocol buffer."""

    def test_unknown(self) -> None:
        """Unknown members are refused at every level, with their place."""
        for value, name, place in (
            (body(messages=[]), "messages", ""),
            (body(labels={}), "labels", ""),
            (body({**user(), "name": "x"}), "name", "contents[0]"),
            (body(user({"text": "x", "cacheControl": {}})), "cacheControl", "contents[0].parts[0]"),
            (body(user(response(isError=True))), "isError", "contents[0].parts[0].function_response"),
            (
                body(tools=[{"function_declarations": [function(strict=True)]}]),
                "strict",
                "tools[0].function_declarations[0]",
            ),
            (body(generationConfig={"maxTokens": 5}), "maxTokens", "generation_config"),
            (
                body(generationConfig={"thinkingConfig": {"effort": "low"}}),
                "effort",
                "generation_config.thinking_config",
            ),
            (
                body(toolConfig={"functionCallingConfig": {"streamFunctionCallArguments": True}}),
                "streamFunctionCallArguments",
                "tool_config.function_calling_config",
            ),
            (body(tools=tools(function(parameters={**CITY, "$schema": "x"}))), "$schema", "parameters"),
            (
                body(tools=tools(function(parameters={**CITY, "additionalItems": False}))),
                "additionalItems",
                "parameters",
            ),
            (body(tools=tools(function(parameters={"properties": {"a": {"const": 1}}}))), "const", "[a]"),
            (body(tools=tools(function(parameters={"properties": {"a": {"ref": "#"}}}))), "ref", "[a]"),
        ):
            refusal = self.refused(value, f'Unknown name "{name}"')
            self.assertIn("Cannot find field", refusal.message)
            self.assertIn(place, refusal.message)

    def test_types(self) -> None:
        """Values of another type are refused, with their place."""
        for value, words in (
            (body(user({"text": 5})), "'contents[0].parts[0].text' (TYPE_STRING)"),
            (body(user("hello")), "contents[0].parts[0]"),
            ({"contents": "hello"}, "contents[0]"),
            (body(generationConfig={"maxOutputTokens": 1.5}), "generation_config.max_output_tokens' (TYPE_INT32)"),
            (body(generationConfig={"temperature": True}), "(TYPE_FLOAT)"),
            (body(generationConfig={"maxOutputTokens": 2**40}), "(TYPE_INT32)"),
            (body(generationConfig={"thinkingConfig": {"includeThoughts": "yes"}}), "(TYPE_BOOL)"),
            (body(generationConfig={"thinkingConfig": {"thinkingLevel": "extreme"}}), "thinking_level"),
            (body(model({"functionCall": {"name": "f", "args": "{}"}})), "function_call.args"),
            (body(user(response(response="sunny"))), "function_response.response' (type.googleapis.com"),
            (body(user({"inlineData": {"mimeType": "image/png", "data": "!!"}})), "Base64 decoding failed"),
            (body(model({"text": "x", "thoughtSignature": "!!"})), "thought_signature' (TYPE_BYTES), Base64"),
            (body(tools=tools(function(parameters={"type": ["string", "null"]}))), "Proto field is not repeating"),
            (body(tools=tools(function(parameters={"type": "dict"}))), "parameters.type"),
            (body(systemInstruction="Be brief."), "system_instruction"),
            ([], "Expected an object"),
        ):
            self.refused(value, words)

    def test_tolerance(self) -> None:
        """Both spellings, single values for lists, null for nothing, numbers as text, words in any case."""
        value = {
            "contents": {"parts": {"text": "hello"}},
            "system_instruction": {"parts": {"text": "Be brief."}, "role": None},
            "generation_config": {
                "max_output_tokens": "100",
                "topP": "0.5",
                "stop_sequences": None,
                "thinking_config": {"include_thoughts": True, "thinking_level": "low"},
            },
            "tools": {
                "function_declarations": {
                    "name": "f",
                    "parameters": {
                        "type": "object",
                        "properties": {"top_p": {"any_of": [{"type": "string"}], "max_items": 2}},
                        "property_ordering": ["top_p"],
                    },
                }
            },
            "cachedContent": None,
            ":model": "gemini-3-pro",
        }
        self.assertEqual(
            self.taken(value),
            {
                "contents": [{"parts": [{"text": "hello"}]}],
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
                "generationConfig": {
                    "maxOutputTokens": 100,
                    "topP": 0.5,
                    "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
                },
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "f",
                                "parameters": {
                                    "type": "OBJECT",
                                    "properties": {"top_p": {"anyOf": [{"type": "STRING"}], "maxItems": 2}},
                                    "propertyOrdering": ["top_p"],
                                },
                            }
                        ]
                    }
                ],
                ":model": "gemini-3-pro",
            },
        )
        self.refused({**value, "systemInstruction": {"parts": []}}, "set twice")

    def test_opaque(self) -> None:
        """What is the caller's own keeps its names."""
        args = {"snake_name": {"other_name": None}, "": 1}
        part = {"functionCall": {"name": "f", "args": args}}
        self.assertEqual(read(part, "Part")["functionCall"]["args"], args)
        schema = {"type": "object", "additionalProperties": False, "$defs": {"x": {}}}
        declared = {"name": "f", "parameters_json_schema": schema}
        self.assertEqual(read(declared, "FunctionDeclaration")["parametersJsonSchema"], schema)
        kept = read({"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}, "Schema")
        self.assertEqual(kept, {"$ref": "#/$defs/x", "$defs": {"x": {"type": "STRING"}}})

    def test_base64(self) -> None:
        """Bytes come in either alphabet, padded or not."""
        for text in ("-_8=", "+/8=", "-_8", "+/8"):
            self.assertEqual(decoded(text), b"\xfb\xff")
        for text in ("a", "a b=", "é"):
            self.assertIsNone(decoded(text))


class ContentTests(RulesTestCase):
    """Turns and parts."""

    def test_turns(self) -> None:
        """The user begins and ends; both have parts."""
        self.taken(body(user(), model(), user()))
        self.taken(body(user(), user()))
        self.taken(body({"parts": [{"text": "x"}]}))
        self.refused(body(contents=[]), "contents is not specified")
        self.refused({":model": "gemini-3-pro"}, "contents is not specified")
        self.refused(body(model(), user()), "start with a user turn")
        self.refused(body(user(), model()), "end with a user turn")
        self.refused(body({"role": "assistant", "parts": [{"text": "x"}]}), "Please use a valid role: user, model.")
        self.refused(body({"role": "system", "parts": [{"text": "x"}]}), "valid role")
        self.refused(body({"role": "user", "parts": []}), "contents.parts must not be empty")
        self.refused(body({"role": "user"}), "contents.parts must not be empty")

    def test_parts(self) -> None:
        """A part has one datum, and an empty text only under a signature; blank ones are texts."""
        self.refused(body(user({})), "required oneof field 'data'")
        self.refused(body(user({"text": ""})), "contents[0].parts[0].data: required oneof field 'data'")
        self.refused(body(user(), model({"thought": True}), user()), "required oneof field 'data'")
        self.refused(body(user({"text": "x", "inlineData": {"mimeType": "image/png", "data": "AAAA"}})), "already set")
        self.taken(body(user({"text": " \n"}), model({"text": "", "thoughtSignature": signed()}), user()))
        self.refused(body(user(), model({"text": "", "thoughtSignature": ""}), user()), "required oneof field 'data'")

    def test_instructions(self) -> None:
        """Instructions are texts, none of them empty."""
        self.taken(body(systemInstruction={"role": "user", "parts": [{"text": "x"}]}))
        for wrong in ({}, {"parts": []}, {"parts": [{"text": ""}]}, {"parts": [{"text": "x"}, {"text": ""}]}):
            self.refused(body(systemInstruction=wrong), "system_instruction")

    def test_media(self) -> None:
        """Media have a known type and bytes; files are the provider's own."""
        for kind in ("image/png", "image/heic", "audio/mp3", "video/mp4", "application/pdf", "text/plain"):
            self.taken(body(user({"inlineData": {"mimeType": kind, "data": "AAAA"}})))
        for kind in ("image/gif", "image/svg+xml", "application/octet-stream", "application/zip", ""):
            self.refused(body(user({"inlineData": {"mimeType": kind, "data": "AAAA"}})), "Unsupported MIME type")
        self.refused(body(user({"inlineData": {"mimeType": "image/png", "data": ""}})), "Unable to process")
        for address in (
            "https://generativelanguage.googleapis.com/v1beta/files/x",
            "https://www.youtube.com/watch?v=x",
            "gs://bucket/x",
        ):
            self.taken(body(user({"fileData": {"fileUri": address, "mimeType": "image/png"}})))
        self.refused(body(user({"fileData": {"fileUri": "https://example.com/x.png"}})), "unsupported file uri")
        self.refused(body(user({"fileData": {"mimeType": "image/png"}})), "file_uri must not be empty")

    def test_calls(self) -> None:
        """As many responses as calls follow at once, in their own turns."""
        self.taken(body(user(), model(call(), call(sign=None)), user(response(), response())))
        self.taken(body(user(), model(call()), user(response(), {"text": "and?"})))
        self.taken(body(user(), model(call()), {"role": "function", "parts": [response()]}))
        self.refused(body(user(), model(call()), user(response(), response())), "number of function response parts")
        self.refused(body(user(), model(call(), call()), user(response())), "number of function response parts")
        self.refused(body(user(), model(call()), user()), "immediately followed by function response turn")
        self.refused(body(user(response())), "number of function response parts")
        self.refused(body(user(), model(call()), user(), user(response())), "immediately followed")
        self.refused(body(user(), model(), model(call()), user(response())), "comes immediately after a user turn")
        self.refused(body(user(call())), "in a turn of role model")
        self.refused(body(user(), model(call(name="")), user(response())), "function_call.name: Name cannot be empty")
        self.refused(
            body(user(), model(call()), user(response(name=""))), "function_response.name: Name cannot be empty"
        )
        lost: dict[str, Any] = {"functionResponse": {"name": "get_weather"}}
        self.refused(body(user(), model(call()), user(lost)), "response is not specified")

    def test_shown_by_tools(self) -> None:
        """Pictures in responses are for models since Gemini 3."""
        shown = response(parts=[{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}])
        self.taken(body(user(), model(call()), user(shown)))
        self.refused(body(user(), model(call()), user(shown), at="gemini-2.5-pro"), "not supported for this model")
        wrong = response(parts=[{"inlineData": {"mimeType": "image/gif", "data": "AAAA"}}])
        self.refused(body(user(), model(call()), user(wrong)), "Unsupported MIME type")


class SignatureTests(RulesTestCase):
    """Thought signatures."""

    def test_whose(self) -> None:
        """The provider's own come back as they are, or the documented dummies; altered and foreign ones are refused."""
        for sign in (
            signed(),
            signed().rstrip("="),
            DUMMY,
            base64.b64encode(DUMMY.encode()).decode(),
            "context_engineering_is_the_way_to_go",
        ):
            self.taken(body(user(), model(call(sign=sign)), user(response())))
            self.taken(body(user(), model({"text": "x", "thoughtSignature": sign}), user()))
        altered = base64.b64encode(base64.b64decode(signed())[:-1] + b"x").decode()
        for sign in (altered, signed(signer="openai"), base64.b64encode(b"foreign").decode(), "/+8="):
            self.refused(body(user(), model(call(sign=sign)), user(response())), "Corrupted thought signature")
            self.refused(
                body(user(), model({"text": "x", "thoughtSignature": sign}), user()), "Corrupted thought signature"
            )

    def test_current_turn(self) -> None:
        """Since Gemini 3 the first call of each step of the current turn must have one, and no other need."""
        bare = model(call(sign=None))
        answered = user(response())
        for at in ("gemini-3-pro", "gemini-3.8-flash", "gemini-4-argon"):
            refusal = self.refused(body(user(), bare, answered, at=at), "missing a thought_signature")
            self.assertIn("function call `get_weather`, position 1", refusal.message)
            self.refused(body(user(), model(call()), answered, bare, answered, at=at), "missing a thought_signature")
            self.refused(body(user(), model(call(sign=None), call()), user(response(), response()), at=at), "missing a")
            self.taken(body(user(), model(call()), answered, model(call()), answered, at=at))
            self.taken(body(user(), bare, answered, model(), user(), at=at))
            self.taken(body(user(), bare, user(response(), {"text": "and?"}), at=at))
        self.taken(body(user(), bare, answered, at="gemini-2.5-flash"))


class OptionTests(RulesTestCase):
    """Options and tools."""

    def test_functions(self) -> None:
        """Names have their alphabet and are told once; parameters are said in one of two ways."""
        for name in ("f", "_f", "a.b:c-d", "x" * 128):
            self.taken(body(tools=tools(function(name))))
        for name in ("", "1f", "-f", "a b", "x" * 129):
            self.refused(body(tools=tools(function(name))), "Invalid function name")
        self.refused(body(tools=tools(function(), function())), "Duplicate function declaration found: get_weather")
        self.refused(body(tools=tools(function(parameters=CITY, parametersJsonSchema=CITY))), "mutually exclusive")
        self.refused(body(tools=tools(function(parameters={"type": "object"}))), "should be non-empty for OBJECT type")
        self.refused(body(tools=tools(function(parametersJsonSchema={"type": "string"}))), "parameters_json_schema")
        self.taken(body(tools=tools({"name": "f"})))
        self.taken(body(tools=[]))
        for wrong in ({}, {"functionDeclarations": []}):
            self.refused(body(tools=[wrong]), "required one_of 'tool_type'")

    def test_schemas(self) -> None:
        """Schemas are the provider's own kind, within parameters and answers."""
        good = {
            "type": "OBJECT",
            "properties": {
                "a": {"type": "string", "nullable": True, "enum": ["x"], "format": "enum"},
                "b": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}},
                "type": {"type": "number", "minimum": 1.5},
            },
            "required": ["a", "type"],
            "propertyOrdering": ["a", "b"],
        }
        self.taken(body(tools=tools(function(parameters=good))))
        for wrong, words in (
            ({"type": "array"}, "items: missing field"),
            ({"type": "string", "enum": ["x", ""]}, "enum[0]: cannot be empty"),
            ({"type": "integer", "enum": ["1"]}, "only allowed for STRING type"),
            ({"enum": [1]}, "enum[0]' (TYPE_STRING)"),
            ({"type": "string", "format": "uuid"}, "only 'enum' and 'date-time' are supported"),
            ({"type": "object", "properties": {}, "required": ["x"]}, "property is not defined"),
            ({"type": "string", "properties": {"x": {}}}, "only allowed for OBJECT type"),
            ({"anyOf": [{"type": "array"}]}, "any_of[0].items"),
            ({"type": "array", "items": {"oneOf": []}}, 'Unknown name "oneOf"'),
        ):
            schema = {"type": "object", "properties": {"a": wrong}}
            self.refused(body(tools=tools(function(parameters=schema))), words)
            config = {"responseMimeType": "application/json", "responseSchema": schema}
            self.refused(body(generationConfig=config), words)

    def test_calling(self) -> None:
        """A mode that forces needs functions; allowed names are declared ones, in a mode that heeds them."""

        def calling(**config: Any) -> dict[str, Any]:
            return {"functionCallingConfig": config}

        for mode in ("AUTO", "any", "NONE", "VALIDATED"):
            self.taken(body(tools=tools(), toolConfig=calling(mode=mode)))
        self.taken(body(tools=tools(), toolConfig=calling(mode="ANY", allowedFunctionNames=["get_weather"])))
        self.refused(body(toolConfig=calling(mode="ANY")), "without function_declarations")
        allowed = calling(mode="AUTO", allowedFunctionNames=["get_weather"])
        self.refused(body(tools=tools(), toolConfig=allowed), "must be ANY or VALIDATED")
        self.refused(body(tools=tools(), toolConfig=calling(mode="ANY", allowedFunctionNames=["x"])), "'x'")
        self.refused(body(tools=tools(), toolConfig=calling(mode="required")), "mode")

    def test_own_tools(self) -> None:
        """The provider's own tools stand alone before Gemini 3, and beside functions where that is said."""
        both = [*tools(), {"googleSearch": {}}]
        self.taken(body(tools=[{"googleSearch": {}}, {"codeExecution": {}}, {"urlContext": {}}], at="gemini-2.5-pro"))
        self.refused(body(tools=both, at="gemini-2.5-pro"), "Tool use with function calling is unsupported")
        self.refused(body(tools=both), "include_server_side_tool_invocations")
        self.taken(body(tools=both, toolConfig={"includeServerSideToolInvocations": True}))

    def test_numbers(self) -> None:
        """Numbers have bounds."""
        self.taken(body(generationConfig={"temperature": 2, "topP": 1, "topK": 40, "candidateCount": 1, "seed": 5}))
        self.taken(body(generationConfig={"maxOutputTokens": 65_536, "stopSequences": ["a"] * 5}))
        for config, words in (
            ({"temperature": 2.1}, "[0, 2]"),
            ({"topP": -0.1}, "[0, 1]"),
            ({"candidateCount": 2}, "Multiple candidates"),
            ({"maxOutputTokens": 0}, "must be positive"),
            ({"maxOutputTokens": 65_537}, "supported range"),
            ({"stopSequences": ["a"] * 6}, "at most 5"),
        ):
            self.refused(body(generationConfig=config), words)

    def test_thinking(self) -> None:
        """A budget or a level, as the model has it."""

        def thinking(at: str = "gemini-3-pro", **config: Any) -> dict[str, Any]:
            return body(at=at, generationConfig={"thinkingConfig": config})

        self.taken(thinking(thinkingLevel="LOW", includeThoughts=True))
        self.taken(thinking(thinkingBudget=1024))
        self.refused(
            thinking(thinkingBudget=1024, thinkingLevel="LOW"), "only one of thinking budget and thinking level"
        )
        self.refused(thinking("gemini-2.5-flash", thinkingLevel="LOW"), "Thinking level is not supported")
        self.refused(thinking("gemini-2.0-flash", includeThoughts=True), "Thinking is not enabled")
        self.refused(thinking("gemini-1.5-pro", thinkingBudget=5), "Thinking is not enabled")
        for at, good, wrong in (
            ("gemini-2.5-pro", (-1, 128, 32_768), (0, 127, 32_769)),
            ("gemini-2.5-flash", (-1, 0, 1, 24_576), (24_577,)),
            ("gemini-2.5-flash-lite", (-1, 0, 512), (511, 24_577)),
        ):
            for budget in good:
                self.taken(thinking(at, thinkingBudget=budget))
            for budget in wrong:
                self.refused(thinking(at, thinkingBudget=budget), f"thinking budget {budget} is invalid")
        self.refused(thinking("gemini-2.5-flash", thinkingBudget=0, includeThoughts=True), "include_thoughts")

    def test_formats(self) -> None:
        """A schema goes with JSON, in one of two ways; JSON goes with tools since Gemini 3."""
        json = {"responseMimeType": "application/json"}
        self.taken(body(generationConfig={**json, "responseJsonSchema": CITY}))
        self.taken(body(generationConfig=json, tools=tools()))
        self.refused(body(generationConfig={"responseSchema": CITY}), "only with response_mime_type application/json")
        self.refused(body(generationConfig={**json, "responseSchema": CITY, "responseJsonSchema": CITY}), "cannot both")
        self.refused(body(generationConfig={"responseMimeType": "text/json"}), "allowed mimetypes")
        self.refused(body(generationConfig=json, tools=tools(), at="gemini-2.5-flash"), "is unsupported")

    def test_state(self) -> None:
        """What was cached elsewhere is not found."""
        self.assertEqual(self.refused(body(cachedContent="cachedContents/x"), "CachedContent not found").status, 403)

    def test_counting(self) -> None:
        """A count takes turns or a whole request, which is held to the same rules."""
        count = {"contents": [user()], ":model": "gemini-3-pro"}
        self.taken(count, counting=True)
        inner = {"model": "models/gemini-3-pro", "contents": [user()], "tools": tools()}
        self.taken({"generateContentRequest": inner}, counting=True)
        for wrong, words in (
            ({**count, "tools": tools()}, 'Unknown name "tools"'),
            ({**count, "generateContentRequest": inner}, "Cannot specify both"),
            ({}, "contents is not specified"),
            ({"generateContentRequest": {**inner, "model": "gemini-3-pro"}}, "unexpected model name format"),
            ({"generateContentRequest": {**inner, "contents": [user(), model()]}}, "end with a user turn"),
            ({"generateContentRequest": {**inner, "stream": True}}, "at 'generate_content_request'"),
        ):
            self.refused(wrong, words, counting=True)
