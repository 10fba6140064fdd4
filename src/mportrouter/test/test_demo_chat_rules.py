"""What the stand-ins refuse of a request of Chat Completions, and what they take."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_chat import ChatVoice
from mportrouter.demo_said import Refusal

PNG = "data:image/png;base64,iVBORw0KGgo="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**CITY, "additionalProperties": False}


def function(name: str = "get_weather", **members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **members}}


def user(content: Any = "hello", **members: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **members}


def call(id: str = "call_1", name: str = "get_weather", text: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def calling(*calls: Any, **members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **members}


def tool(id: str = "call_1", content: Any = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def body(*messages: Any, **members: Any) -> dict[str, Any]:
    return {"model": "gpt-6", "messages": list(messages) or [user()], **members}


STRICT = ChatVoice("OpenAI", ("gpt-6", "gpt-5"))
LENIENT = ChatVoice("a local server", ("llama-4",), strict=False, reasoning="reasoning")


class RuleTests(SynchronousTestCase):
    """:meth:`ChatVoice.check`."""

    def taken(self, value: Any, voice: ChatVoice = STRICT) -> None:
        self.assertIs(voice.check(value, {}), value)

    def refused(self, value: Any, words: str, code: str | None = None, voice: ChatVoice = STRICT) -> Refusal:
        refusal: Refusal = self.assertRaises(Refusal, voice.check, value, {})
        self.assertEqual(refusal.status, 400)
        self.assertIn(words, refusal.message)
        if code is not None:
            self.assertEqual(refusal.code, code)
        return refusal

    def test_members(self) -> None:
        """Unknown members are refused at every level, with their place."""
        self.refused(body(foo=1), "Unrecognized request argument supplied: foo")
        text = {"type": "text", "text": "x"}
        for value, place in (
            (body(user(cache_control={})), "messages[0].cache_control"),
            (body(user([{**text, "cache_control": {}}])), "messages[0].content[0].cache_control"),
            (body({"role": "assistant", "content": "x", "reasoning_content": "y"}), "messages[0].reasoning_content"),
            (body(tools=[{**function(), "strict": True}]), "tools[0].strict"),
            (body(tools=[function(input_schema={})]), "tools[0].function.input_schema"),
            (body(calling({**call(), "extra_content": {}}), tool()), "messages[0].tool_calls[0].extra_content"),
            (body(user([{"type": "image_url", "image_url": {"url": PNG, "x": 1}}])), "content[0].image_url.x"),
            (body(stream=True, stream_options={"x": 1}), "stream_options.x"),
        ):
            refusal = self.refused(value, "Unknown parameter: ", "unknown_parameter")
            self.assertTrue((refusal.param or "").endswith(place), (refusal.param, place))

    def test_needed(self) -> None:
        """A model and messages must be there, and of messages there must be one."""
        self.refused({"messages": [user()]}, "model parameter")
        self.refused({"model": "m"}, "'messages'", "missing_required_parameter")
        self.refused({"model": "m", "messages": []}, "empty array", "empty_array")
        self.refused({"model": "m", "messages": "none"}, "expected an array, but got a string", "invalid_type")
        self.refused(body({"content": "x"}), "messages[0].role", "missing_required_parameter")
        self.refused(body("hello"), "expected an object, but got a string")
        self.refused([], "JSON body")

    def test_null(self) -> None:
        """Null is taken where the description says so, and nowhere else."""
        may = (
            "temperature top_p stop n seed stream stream_options reasoning_effort store max_completion_tokens "
            "max_tokens metadata logprobs logit_bias verbosity service_tier prompt_cache_key safety_identifier"
        )
        for name in may.split():
            self.taken(body(**{name: None}))
        for name in ("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "functions", "user"):
            self.refused(body(**{name: None}), f"Invalid type for '{name}'", "invalid_type")
        self.refused(body(user(name=None)), "messages[0].name")
        self.refused(body({"role": "assistant", "content": "x", "tool_calls": None}), "messages[0].tool_calls")
        self.taken(body({"role": "assistant", "content": "x", "refusal": None, "function_call": None, "audio": None}))

    def test_roles(self) -> None:
        """The six roles are taken, with what each may hold."""
        self.taken(body({"role": "system", "content": "x"}, {"role": "developer", "content": "x"}, user(name="Ann")))
        self.refused(body({"role": "model", "content": "x"}), "Invalid value: 'model'", "invalid_value")
        self.refused(
            body({"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}), "image_url"
        )
        self.refused(body(user([{"type": "refusal", "refusal": "no"}])), "refusal")
        self.refused(body(user([{"type": "input_text", "text": "x"}])), "input_text")
        self.refused(body(user(name="Ann Lee")), "does not match pattern")

    def test_content(self) -> None:
        """Null content is an assistant's that calls; empty texts are taken, empty lists are not."""
        self.refused(body(user(None)), "Invalid type for 'messages[0].content'")
        self.refused(body({"role": "assistant", "content": None}), "expected a string, got null")
        self.refused(body({"role": "assistant"}), "expected a string, got null")
        self.refused(body({"role": "user"}), "messages[0].content")
        self.refused(body(user([])), "empty array")
        self.refused(body(user([{"type": "text"}])), "messages[0].content[0].text", "missing_required_parameter")
        self.taken(body(user(""), {"role": "assistant", "content": ""}, user([{"type": "text", "text": ""}])))
        self.taken(body(user(), {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}))

    def test_media(self) -> None:
        """Pictures are addresses or data of four kinds; sounds and files are data in base64."""

        def picture(url: Any) -> dict[str, Any]:
            return body(user([{"type": "image_url", "image_url": {"url": url}}]))

        for url in (PNG, "https://example.com/x.png", PNG.replace("png", "webp"), PNG.replace("png", "gif")):
            self.taken(picture(url))
        self.refused(picture(PNG.replace("image/png", "image/bmp")), "unsupported image", "invalid_image_format")
        for url in ("x.png", "file:///x.png", "data:image/png;base64,", "data:image/png;base64,!!", "data:image/png,x"):
            self.refused(picture(url), "Invalid 'messages[0].content[0].image_url.url'")
        self.refused(picture(None), "expected a string")
        sound = {"data": "AAAA", "format": "wav"}
        self.taken(body(user([{"type": "input_audio", "input_audio": sound}])))
        self.refused(body(user([{"type": "input_audio", "input_audio": {**sound, "format": "ogg"}}])), "'ogg'")
        self.refused(body(user([{"type": "input_audio", "input_audio": {**sound, "data": "?"}}])), "base64")
        file = {"filename": "x.pdf", "file_data": "data:application/pdf;base64,AAAA"}
        self.taken(body(user([{"type": "file", "file": file}, {"type": "file", "file": {"file_id": "f"}}])))
        for wrong in ({}, {**file, "file_id": "f"}, {"file_data": file["file_data"]}, {**file, "file_data": "AAAA"}):
            self.refused(body(user([{"type": "file", "file": wrong}])), "messages[0].content[0].file")

    def test_breakpoints(self) -> None:
        """Marks of the prompt cache are taken in texts of every role."""
        mark = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
        self.taken(body({"role": "developer", "content": [mark]}, user([mark]), calling(call()), tool(content=[mark])))
        self.refused(body(user([{**mark, "prompt_cache_breakpoint": {"mode": "ephemeral"}}])), "'ephemeral'")

    def test_order(self) -> None:
        """Every call is answered at once, by tool messages alone, and every answer has its call."""
        pair = calling(call("a"), call("b"))
        self.taken(body(user(), pair, tool("b"), tool("a"), user()))
        self.refused(body(user(), pair, tool("a")), "did not have response messages: b")
        self.refused(body(user(), pair, tool("a"), user(), tool("b")), "did not have response messages: b")
        self.refused(body(user(), pair), "did not have response messages: a, b")
        self.refused(body(user(), tool()), "must be a response to a preceeding message")
        self.refused(body(user(), calling(call()), tool(), tool()), "must be a response to a preceeding message")
        self.refused(body(user(), calling(call(), call()), tool()), "Duplicate value")

    def test_calls(self) -> None:
        """Ids have 1 to 40 characters, names their alphabet, arguments are text, and no list of calls is empty."""
        self.taken(body(user(), calling(call("x" * 40)), tool("x" * 40)))
        self.refused(body(user(), calling(call("x" * 41)), tool("x" * 41)), "too long", "string_above_max_length")
        self.refused(body(user(), calling(call("")), tool("")), "empty string", "empty_string")
        self.refused(body(user(), calling(call(name="a.b")), tool()), "does not match pattern", "invalid_value")
        self.refused(body(user(), calling(call(text={})), tool()), "function.arguments", "invalid_type")  # type: ignore[arg-type]
        self.refused(body(user(), calling(content="x")), "messages[1].tool_calls", "empty_array")
        custom = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "x"}}
        self.taken(body(user(), calling(custom), tool("c")))
        self.refused(body(user(), calling({"id": "c", "type": "custom", "custom": {"name": "p"}}), tool("c")), "input")
        self.refused(
            body(user(), calling({"id": "c", "function": {}}), tool("c")), "type", "missing_required_parameter"
        )

    def test_tools(self) -> None:
        """Tools are functions or custom ones; an empty list, a bad name and a bad schema are refused."""
        self.taken(body(tools=[function()], tool_choice="auto", parallel_tool_calls=False))
        self.taken(body(tools=[{"type": "function", "function": {"name": "f"}}]))
        self.taken(body(tools=[{"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}}]))
        grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
        self.taken(body(tools=[{"type": "custom", "custom": {"name": "f", "format": grammar}}]))
        self.refused(body(tools=[]), "empty array", "empty_array")
        self.refused(body(tools=[function()] * 129), "maximum length 128")
        self.refused(body(tools=[{"type": "web_search"}]), "Invalid value: 'web_search'")
        self.refused(body(tools=[{"type": "function"}]), "tools[0].function", "missing_required_parameter")
        self.refused(body(tools=[{"type": "function", "name": "f"}]), "tools[0]")
        for name in ("", "a b", "x" * 65, "a.b", None):
            self.refused(body(tools=[function(name)]), "tools[0].function.name")  # type: ignore[arg-type]
        self.refused(body(tool_choice="auto"), "only allowed when 'tools' are specified")
        self.refused(body(parallel_tool_calls=True), "only allowed when 'tools' are specified")

    def test_schemas(self) -> None:
        """Parameters are an object's schema; strict ones are closed all through."""
        for schema, words in (
            ({}, 'type: "None"'),
            ({"type": "string"}, "got 'type: \"string\"'"),
            ({"type": "object"}, "object schema missing properties"),
            ({**CITY, "anyOf": [{}]}, "at the top level"),
            ({**CITY, "properties": {"a": {"type": "STRING"}}}, "'STRING' is not valid"),
            ({**CITY, "properties": {"a": {"type": "array"}}}, "array schema missing items"),
            ({**CITY, "required": True}, "not of type 'array'"),
            ({**CITY, "properties": {"a": {"enum": []}}}, "non-empty"),
            ({**CITY, "properties": {"a": {"type": "number", "exclusiveMinimum": True}}}, "'number'"),
            ({**CITY, "properties": {"a": {"$ref": "#/$defs/x"}}}, "can only point to definitions"),
            ({**CITY, "properties": {"a": 3}}, "'object', 'boolean'"),
        ):
            self.refused(body(tools=[function(parameters=schema)]), words, "invalid_function_parameters")
        loose = {
            **CITY,
            "properties": {"a": True, "type": {"type": ["string", "null"]}, "b": {"oneOf": [{}]}},
            "required": [],
        }
        self.taken(body(tools=[function(parameters=loose, strict=False)]))
        self.taken(
            body(tools=[function(parameters={**CITY, "$defs": {"x": {}}, "properties": {"a": {"$ref": "#/$defs/x"}}})])
        )
        self.taken(body(tools=[function(parameters=CLOSED, strict=True)]))
        for schema in (
            CITY,
            {**CLOSED, "required": []},
            {**CLOSED, "required": ["city", "more"]},
            {**CLOSED, "properties": {"city": {"type": "object", "properties": {}}}},
            {**CLOSED, "properties": {"city": {"allOf": [{"type": "string"}]}}},
            {**CLOSED, "properties": {"city": {}}},
            {**CLOSED, "properties": {"city": {"$ref": "#", "description": "x"}}},
        ):
            self.refused(
                body(tools=[function(parameters=schema, strict=True)]), "In context=", "invalid_function_parameters"
            )

    def test_choices(self) -> None:
        """A choice names what is offered, in one of its forms."""
        named = {"type": "function", "function": {"name": "get_weather"}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
        for choice in ("none", "auto", "required", named, allowed):
            self.taken(body(tools=[function()], tool_choice=choice))
        self.refused(body(tools=[function("other")], tool_choice=named), "'get_weather' not found in 'tools'")
        self.refused(body(tools=[function("other")], tool_choice=allowed), "'get_weather' not found in 'tools'")
        self.refused(body(tools=[function()], tool_choice="any"), "'any'")
        self.refused(body(tools=[function()], tool_choice={"type": "tool", "name": "x"}), "'tool'")
        self.refused(body(tools=[function()], tool_choice={"type": "function", "name": "x"}), "tool_choice")

    def test_formats(self) -> None:
        """The form of the answer has a name and a schema that can be kept to."""
        shape = {"name": "place", "schema": CLOSED, "strict": True}
        self.taken(body(response_format={"type": "text"}))
        self.taken(body(response_format={"type": "json_schema", "json_schema": shape}))
        self.taken(body(user("give JSON"), response_format={"type": "json_object"}))
        self.refused(body(response_format={"type": "json_object"}), "must contain the word 'json'")
        for wrong in (
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": {"schema": CLOSED}},
            {"type": "json_schema", "json_schema": {**shape, "name": "a place"}},
            {"type": "json_schema", "json_schema": {"name": "x", "strict": True}},
            {"type": "json_schema", "json_schema": {**shape, "schema": CITY}},
            {"type": "json_schema", "name": "x", "schema": CLOSED},
        ):
            self.refused(body(response_format=wrong), "response_format")
        self.refused(body(response_format={"type": "grammar"}), "Invalid value: 'grammar'")

    def test_numbers(self) -> None:
        """Numbers have bounds, and reasoning models their own mind about sampling."""
        old = {"model": "gpt-4o"}
        self.taken(
            {**body(temperature=0.5, top_p=0.9, stop=["x"], presence_penalty=1, max_tokens=5, logprobs=True), **old}
        )
        self.refused({**body(temperature=2.1), **old}, "above maximum value", "decimal_above_max_value")
        self.refused({**body(presence_penalty=-3), **old}, "below minimum value")
        self.refused({**body(n=0), **old}, "integer below minimum value", "integer_below_min_value")
        self.refused({**body(seed=1.5), **old}, "expected an integer, but got a decimal")
        self.refused({**body(max_completion_tokens="5"), **old}, "expected an integer, but got a string")
        self.refused({**body(top_logprobs=3), **old}, "unless 'logprobs' is enabled")
        self.refused({**body(stop=["a", "b", "c", "d", "e"]), **old}, "array too long")
        self.refused({**body(stop=[]), **old}, "empty array")
        self.refused({**body(max_tokens=5, max_completion_tokens=5), **old}, "at the same time")
        self.refused(body(temperature=0.5), "Only the default (1) value is supported", "unsupported_value")
        self.refused(body(presence_penalty=1), "Unsupported value", "unsupported_value")
        self.refused(body(stop="x"), "Unsupported parameter: 'stop'", "unsupported_parameter")
        self.refused(body(max_tokens=5), "Use 'max_completion_tokens' instead", "unsupported_parameter")
        self.taken(body(temperature=1, top_p=1, presence_penalty=0, max_completion_tokens=5))
        self.taken({**body(temperature=0.5), "model": "gpt-5-chat-latest"})
        self.refused({**body(temperature=0.5), "model": "o3-mini"}, "Unsupported value")

    def test_words(self) -> None:
        """Words of a list are the listed ones; labels have their sizes."""
        self.taken(body(reasoning_effort="xhigh", verbosity="low", service_tier="flex", metadata={"a": "b"}))
        self.refused(body(reasoning_effort="extreme"), "Supported values are: 'none', 'minimal'", "invalid_value")
        self.refused(body(service_tier="standard_only"), "'standard_only'")
        self.refused(body(prompt_cache_key="x" * 65), "maximum length 64")
        self.refused(body(safety_identifier="x" * 65), "maximum length 64")
        self.refused(body(metadata={"a": 1}), "metadata.a")
        self.refused(body(metadata={"a": "x" * 513}), "maximum length 512")
        self.refused(body(metadata={"a" * 65: "x"}), "property name")
        self.refused(body(metadata={str(n): "" for n in range(17)}), "too many properties")
        self.refused(body(metadata="x"), "expected an object")

    def test_stream_options(self) -> None:
        """Options of a stream go with a stream."""
        self.taken(body(stream=True, stream_options={"include_usage": True}))
        self.refused(body(stream_options={"include_usage": True}), "only allowed when 'stream' is enabled")
        self.refused(body(stream="yes"), "expected a boolean, but got a string")

    def test_old_functions(self) -> None:
        """The old form of functions is taken, but not beside the new one."""
        old = {"name": "f", "parameters": CITY}
        answered = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
        self.taken(body(user(), answered, {"role": "function", "name": "f", "content": "x"}, functions=[old]))
        self.taken(body(functions=[old], function_call={"name": "f"}))
        self.refused(body(function_call="auto"), "'functions' are specified")
        self.refused(body(functions=[old], tools=[function()]), "at the same time")
        self.refused(body(functions=[{**old, "parameters": {"type": "string"}}]), "Invalid schema")

    def test_other_makers(self) -> None:
        """Servers of other makers overlook unknown members and nulls, and take the old limit; not the newest role."""
        for value in (
            body(foo=1, tools=None, tool_choice=None, max_tokens=5, temperature=0.5, stop=["x"] * 9),
            body(user([{"type": "text", "text": "x", "cache_control": {}}], name=None)),
            body({"role": "assistant", "content": "x", "reasoning": "y", "tool_calls": None}, user()),
            body(tools=[], tool_choice="none", parallel_tool_calls=True),
            body(tools=[function(parameters=CITY, strict=True)]),
        ):
            self.taken(value, LENIENT)
        for value, words in (
            (body({"role": "developer", "content": "x"}), "Unexpected message role"),
            (body(user(5)), "messages[0].content"),
            (body(user(None)), "expected a string"),
            (body(user(), tool()), "must be a response"),
            (body(user(), calling(call())), "did not have response messages"),
            (body(tool_choice="required"), "'tools' are specified"),
            (body(messages=[]), "empty array"),
            (body(stream_options={}), "only allowed when 'stream'"),
            (body(tools=[function(parameters={"type": "string"})]), "Invalid schema"),
        ):
            self.refused(value, words, voice=LENIENT)
