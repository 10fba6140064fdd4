"""What the stand-ins refuse of a request of Responses, and what they take; and the backend of subscriptions."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_responses import ResponsesVoice
from mportrouter.demo_said import Refusal, signature

from .test_demo_chat_rules import CITY, CLOSED, PNG

API = ResponsesVoice("OpenAI")
BACKEND = ResponsesVoice("Codex", "codex", backend=True)
MARK = {"mode": "explicit"}


def user(content: Any = "hello", **members: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **members}


def call(id: str = "call_1", **members: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "get_weather", "arguments": "{}", **members}


def output(id: str = "call_1", value: Any = "sunny", **members: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": value, **members}


def reasoning(id: str = "rs_1", signer: str = "openai", **members: Any) -> dict[str, Any]:
    sealed = f"{id}|{signature(signer, id)}"
    return {"type": "reasoning", "id": id, "summary": [], "encrypted_content": sealed, **members}


def said(*parts: Any, **members: Any) -> dict[str, Any]:
    content = list(parts) or [{"type": "output_text", "text": "x", "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content, **members}


def function(name: str = "get_weather", **members: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": CITY, "strict": False, **members}


def body(*items: Any, **members: Any) -> dict[str, Any]:
    return {"model": "gpt-6", "input": list(items) or "hello", "store": False, **members}


class RulesTestCase(SynchronousTestCase):
    voice = API

    def taken(self, value: Any, counting: bool = False) -> None:
        self.assertIs(self.voice.check(value, {}, counting), value)

    def refused(self, value: Any, words: str, code: str | None = None, counting: bool = False) -> Refusal:
        refusal: Refusal = self.assertRaises(Refusal, self.voice.check, value, {}, counting)
        self.assertIn(words, refusal.message)
        if code is not None:
            self.assertEqual(refusal.code, code)
        return refusal


class MemberTests(RulesTestCase):
    """Members of the request."""

    def test_unknown(self) -> None:
        """Unknown members are refused at every level, with their place."""
        text = {"type": "input_text", "text": "x"}
        for value, place in (
            (body(messages=[]), "messages"),
            (body(stop=["x"]), "stop"),
            (body(user(name="x")), "input[0].name"),
            (body(user([{**text, "cache_control": {}}])), "input[0].content[0].cache_control"),
            (body(user(), call(parsed_arguments={}), output()), "input[1].parsed_arguments"),
            (body(user(), call(), output(is_error=True)), "input[2].is_error"),
            (body(user(), said({"type": "output_text", "text": "x", "parsed": None})), "input[1].content[0].parsed"),
            (body(user(), reasoning(signature="x"), said()), "input[1].signature"),
            (body(tools=[function(input_schema={})]), "tools[0].input_schema"),
            (body(tools=[{"type": "web_search", "max_uses": 3}]), "tools[0].max_uses"),
            (body(reasoning={"budget_tokens": 5}), "reasoning.budget_tokens"),
            (
                body(text={"format": {"type": "json_schema", "name": "x", "schema": CITY, "json_schema": {}}}),
                "text.format",
            ),
            (body(stream=True, stream_options={"include_usage": True}), "stream_options.include_usage"),
        ):
            refusal = self.refused(value, "Unknown parameter: ", "unknown_parameter")
            self.assertTrue((refusal.param or "").startswith(place), (refusal.param, place))

    def test_needed(self) -> None:
        """A model and an input that is not empty must be there."""
        self.taken(body())
        self.taken({"model": "m", "input": "x"})
        self.refused({"input": "x"}, "'model'", "missing_required_parameter")
        self.refused({"model": "m"}, "'input'", "missing_required_parameter")
        self.refused({"model": "m", "input": ""}, "empty string", "empty_string")
        self.refused({"model": "m", "input": []}, "'input'")
        self.refused({"model": "m", "input": 5}, "expected one of a string or an array, but got an integer")
        self.refused(body("x"), "input[0]", "invalid_type")
        self.refused("x", "JSON body")

    def test_null(self) -> None:
        """Null is taken where the description says so, and nowhere else."""
        may = (
            "instructions max_output_tokens temperature top_p truncation reasoning include previous_response_id "
            "conversation prompt background stream_options service_tier metadata prompt_cache_key safety_identifier "
            "store stream parallel_tool_calls max_tool_calls top_logprobs"
        )
        for name in may.split():
            self.taken(body(**{name: None}))
        for name in ("tools", "tool_choice", "text", "input", "user"):
            self.refused(body(**{name: None}), f"Invalid type for '{name}'", "invalid_type")
        self.taken(body(reasoning={"effort": None, "summary": None}, tools=[]))

    def test_values(self) -> None:
        """Numbers have bounds, words of a list are the listed ones."""
        self.taken(body(max_output_tokens=16, truncation="auto", service_tier="flex", text={"verbosity": "low"}))
        self.refused(body(max_output_tokens=15), "Expected a value >= 16", "integer_below_min_value")
        self.refused(body(truncation="x"), "'x'", "invalid_value")
        self.refused(body(service_tier="standard"), "'standard'")
        self.refused(body(reasoning={"effort": "extreme"}), "'extreme'")
        self.refused(body(reasoning={"summary": "long"}), "'long'")
        self.refused(body(include=["reasoning"]), "'reasoning'")
        self.refused(body(prompt_cache_key="x" * 65), "maximum length 64")
        self.refused(body(stream_options={}), "only allowed when 'stream' is enabled")
        self.refused(body(temperature=0.5), "Only the default (1)", "unsupported_value")
        self.refused(body(top_logprobs=3), "Unsupported parameter: 'top_logprobs'")
        self.taken({**body(temperature=0.5, top_p=0.5), "model": "gpt-4o"})
        self.refused({**body(temperature=2.5), "model": "gpt-4o"}, "above maximum value")

    def test_state(self) -> None:
        """What only a provider that keeps answers could resolve is not found."""
        self.refused(body(previous_response_id="resp_1"), "'resp_1' not found", "previous_response_not_found")
        self.assertEqual(self.refused(body(conversation="conv_1"), "not found").status, 404)
        self.assertEqual(self.refused(body({"type": "item_reference", "id": "msg_1"}), "'msg_1' not found").status, 404)

    def test_formats(self) -> None:
        """The form of the answer stands flat, with a name and a schema."""
        form = {"type": "json_schema", "name": "place", "schema": CLOSED, "strict": True}
        self.taken(body(text={"format": form}))
        self.taken(body(text={"format": {**form, "schema": CITY, "strict": False}}))
        self.taken(body(user("give json"), text={"format": {"type": "json_object"}}))
        self.refused(body(text={"format": {"type": "json_object"}}), "must contain the word 'json'")
        self.refused(body(text={"format": {**form, "schema": CITY}}), "response_format 'place'", "invalid_json_schema")
        self.refused(body(text={"format": {"type": "json_schema", "schema": CITY}}), "text.format.name")
        self.refused(body(text={"format": {**form, "name": "a b"}}), "does not match pattern")
        nested = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
        self.refused(body(text={"format": nested}), "text.format")

    def test_counting(self) -> None:
        """A count takes what shapes the prompt, and nothing else."""
        self.taken({"model": "m", "input": "x", "tools": [function()], "reasoning": {"effort": "low"}}, counting=True)
        for name, value in (("max_output_tokens", 20), ("stream", True), ("store", False), ("temperature", 1)):
            self.refused({"model": "m", "input": "x", name: value}, f"Unknown parameter: '{name}'", counting=True)


class ToolTests(RulesTestCase):
    """Tools and the choice among them."""

    def test_kinds(self) -> None:
        """Functions, custom tools, namespaces and the provider's own are taken; others are not."""
        patch = {"type": "custom", "name": "apply_patch", "description": "x", "format": {"type": "text"}}
        search = {"type": "web_search", "filters": {"allowed_domains": ["a.org"]}, "search_context_size": "low"}
        place = {"type": "approximate", "city": "Oslo"}
        space = {"type": "namespace", "name": "s", "description": "x", "tools": [function(), patch]}
        container = {"type": "code_interpreter", "container": {"type": "auto"}}
        self.taken(body(tools=[function(), patch, {**search, "user_location": place}, space, container]))
        self.refused(body(tools=[{"type": "computer_20250124"}]), "'computer_20250124'", "invalid_value")
        self.refused(body(tools=[{"name": "x", "parameters": CITY}]), "tools[0].type", "missing_required_parameter")
        self.refused(body(tools=[{"type": "function", "function": {"name": "x"}}]), "tools[0].name")
        self.refused(
            body(tools=[{**space, "description": None}, {"type": "namespace", "name": "s", "tools": []}]), "tools[1]"
        )
        self.refused(body(tools=[{**search, "user_location": {"type": "exact"}}]), "'exact'")
        for name in ("", "a b", "a.b", "x" * 129):
            self.refused(body(tools=[function(name)]), "tools[0].name")

    def test_strictness(self) -> None:
        """What is not said to be loose is strict, in a namespace as well."""
        self.taken(
            body(tools=[function(parameters=CLOSED, strict=True), {**function("x", parameters=CLOSED), "strict": None}])
        )
        loose = function()
        del loose["strict"]
        inner = {"type": "namespace", "name": "s", "description": "", "tools": [loose]}
        for tool in (loose, function(strict=True), function(strict=None), inner):
            words = "'additionalProperties' is required to be supplied and to be false"
            self.refused(body(tools=[tool]), words, "invalid_function_parameters")
        self.refused(body(tools=[{"type": "function", "name": "x", "strict": False}]), "tools[0].parameters")
        self.taken(body(tools=[function(parameters=None)]))
        for schema in ({"type": "object"}, {"type": "string"}, {**CITY, "oneOf": [{}]}, {}):
            self.refused(body(tools=[function(parameters=schema)]), "Invalid schema for function 'get_weather'")

    def test_choices(self) -> None:
        """A choice names what is offered."""
        named = {"type": "function", "name": "get_weather"}
        tools = [function(), {"type": "web_search"}, {"type": "custom", "name": "patch"}]
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
        custom = {"type": "custom", "name": "patch"}
        for choice in ("auto", "none", "required", named, allowed, custom, {"type": "web_search"}):
            self.taken(body(tools=tools, tool_choice=choice))
        self.refused(body(tools=tools, tool_choice={"type": "function", "name": "x"}), "'x' not found in 'tools'")
        self.refused(body(tools=tools, tool_choice={"type": "function", "name": "patch"}), "'patch' not found")
        self.refused(body(tools=[function()], tool_choice={"type": "web_search"}), "'web_search' not found")
        self.refused(body(tools=tools, tool_choice={"type": "function", "function": {"name": "x"}}), "tool_choice.name")
        self.refused(body(tools=tools, tool_choice="any"), "'any'")
        self.refused(body(tool_choice="required"), "must be specified with 'tools'")
        self.taken(body(tool_choice="auto", parallel_tool_calls=True))
        offered = {"type": "additional_tools", "role": "developer", "tools": [function()]}
        self.taken(body(offered, user(), tool_choice=named))


class ItemTests(RulesTestCase):
    """Items of the input."""

    def test_messages(self) -> None:
        """A message is what has a role; each role has its parts."""
        text = {"type": "input_text", "text": "x"}
        self.taken(body({"role": "system", "content": "x"}, {"role": "developer", "content": [text]}, user([text])))
        self.taken(body(user(), said(id="msg_1", status="completed", phase="final_answer"), user()))
        self.taken(body(user(), {"role": "assistant", "content": "x"}, said({"type": "refusal", "refusal": "no"})))
        self.refused(body(user(), said(text)), "'input_text'", "invalid_value")
        self.refused(
            body(user([{"type": "output_text", "text": "x"}])), "Supported values are: 'input_text', 'input_image'"
        )
        self.refused(body(user([{"type": "text", "text": "x"}])), "'text'", "invalid_value")
        self.refused(body({"role": "tool", "content": "x"}), "'tool'", "invalid_value")
        self.refused(body({"role": "user"}), "input[0].content", "missing_required_parameter")
        self.refused(body(user(None)), "input[0].content", "invalid_type")
        self.refused(body(user([{"type": "input_text"}])), "content[0].text", "missing_required_parameter")
        self.refused(body({"type": "chat", "content": "x"}), "'chat'", "invalid_value")
        self.refused(body({"type": "message", "content": "x"}), "input[0].role")

    def test_ids(self) -> None:
        """An item's id begins as its kind's do, and has its letters and its length."""
        self.taken(body(user(), call(id="call_1"), output(id="call_1")))
        for item, prefix in (
            (said(id="item_1"), "msg"),
            (reasoning("x_1"), "rs"),
        ):
            self.refused(body(user(), item, said()), f"begins with '{prefix}'", "invalid_value")
        pair = {**call(), "id": "call_1"}
        self.refused(body(user(), pair, output()), "begins with 'fc'")
        self.refused(body(user(), {**pair, "id": "fc_" + "x" * 62}, output()), "string too long")
        self.refused(body(user(), {**pair, "id": "fc_a b"}, output()), "letters, numbers, underscores, or dashes")
        self.taken(body(user(), {**pair, "id": "fc_1"}, {**output(), "id": "fco_1"}))
        self.taken(body(user(), {**pair, "id": None}, output()))

    def test_calls(self) -> None:
        """Every output follows its call, every call has its output; their ids have 1 to 64 characters."""
        self.taken(body(user(), call("a"), call("b"), output("b"), output("a"), user()))
        self.taken(body(user(), call("x" * 64, status="completed"), output("x" * 64)))
        self.refused(body(user(), call("x" * 65), output("x" * 65)), "maximum length 64")
        self.refused(body(user(), call(""), output("")), "empty string")
        self.refused(body(user(), output()), "No tool call found for function call output with call_id call_1")
        self.refused(body(user(), output(), call()), "No tool call found")
        self.refused(body(user(), call(), user()), "No tool output found for function call call_1")
        self.refused(body(user(), call(arguments={}), output()), "input[1].arguments", "invalid_type")
        self.refused(body(user(), call(name="a.b"), output()), "input[1].name")
        wrong = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "x"}
        self.refused(body(user(), call(), wrong), "No tool call found for custom tool call output")
        custom = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "x"}
        self.taken(body(user(), custom, wrong))
        self.refused(body(user(), {**custom, "arguments": "{}"}, wrong), "Unknown parameter: 'input[1].arguments'")

    def test_outputs(self) -> None:
        """An output is text or parts, pictures among them."""
        picture = {"type": "input_image", "image_url": PNG, "detail": "auto"}
        self.taken(body(user(), call(), output(value=[{"type": "input_text", "text": "x"}, picture])))
        self.taken(body(user(), call(), output(value="")))
        self.refused(body(user(), call(), output(value=None)), "input[2].output", "invalid_type")
        self.refused(body(user(), call(), output(value={"a": 1})), "input[2].output", "invalid_type")
        self.refused(body(user(), call(), output(value=[{"type": "output_text", "text": "x"}])), "'output_text'")
        self.refused(body(user(), call(), output(value=[{**picture, "image_url": "x"}])), "output[0].image_url")

    def test_media(self) -> None:
        """Pictures are addresses or data of four kinds, files have one source."""
        for part in (
            {"type": "input_image", "image_url": PNG, "detail": "high"},
            {"type": "input_image", "image_url": "https://example.com/x.png", "prompt_cache_breakpoint": MARK},
            {"type": "input_image", "file_id": "file_1", "image_url": None},
            {"type": "input_file", "filename": "x.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            {"type": "input_file", "file_url": "https://example.com/x.pdf"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ):
            self.taken(body(user([part])))
        for part, words in (
            ({"type": "input_image"}, "image_url"),
            ({"type": "input_image", "image_url": {"url": PNG}}, "expected a string, but got an object"),
            ({"type": "input_image", "image_url": PNG.replace("png", "tiff")}, "unsupported image"),
            ({"type": "input_image", "image_url": PNG, "file_id": "x"}, "image_url"),
            ({"type": "input_image", "image_url": PNG, "detail": "best"}, "'best'"),
            ({"type": "input_file", "file_data": "AAAA"}, "data URL"),
            ({"type": "input_file"}, "file_id"),
        ):
            self.refused(body(user([part])), words)

    def test_reasoning(self) -> None:
        """Reasoning comes back as it was sealed, by its own provider, before what it led to."""
        self.taken(body(user(), reasoning(), said()))
        self.taken(body(user(), reasoning(), reasoning("rs_2"), call(), output()))
        self.taken(body(user(), reasoning(summary=[{"type": "summary_text", "text": "x"}], content=[]), said()))
        self.taken(body(user(), {**reasoning(), "content": None}, said()))
        bare = reasoning()
        del bare["id"]
        self.taken(body(user(), bare, said()))
        altered = reasoning()["encrypted_content"][:-1] + "x"
        for item in (
            {**reasoning(), "encrypted_content": altered},
            {**reasoning(), "encrypted_content": "gAAAA"},
            reasoning(signer="codex"),
            {**reasoning(), "id": "rs_2"},
        ):
            self.refused(body(user(), item, said()), "content", "invalid_encrypted_content")
        self.refused(
            body(user(), reasoning(content=[{"type": "reasoning_text", "text": "x"}]), said()), "array too long"
        )
        self.refused(body(user(), {"type": "reasoning", "id": "rs_1"}, said()), "input[1].summary")
        self.refused(body(user(), reasoning(), user()), "without its required following item")
        self.refused(body(user(), call(), reasoning(), output()), "without its required following item")

    def test_kept_reasoning(self) -> None:
        """Reasoning that was not sealed is found where answers are kept, and only there."""
        item = {"type": "reasoning", "id": "rs_demo00000001", "summary": []}
        refusal = self.refused(body(user(), item, said()), "Items are not persisted when `store` is set to false")
        self.assertEqual(refusal.status, 404)
        self.taken({**body(user(), item, said()), "store": True})
        self.refused({**body(user(), {**item, "id": "rs_1"}, said()), "store": True}, "'rs_1' not found")

    def test_others(self) -> None:
        """What the provider's own tools left is taken as it came."""
        search = {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "x"},
        }
        self.taken(body(user(), reasoning(), search, said()))
        self.taken(body({"type": "compaction", "encrypted_content": "x"}, user()))


class BackendTests(RulesTestCase):
    """The backend of subscriptions."""

    voice = BACKEND

    def asked(self, *items: Any, **members: Any) -> dict[str, Any]:
        return {**body(*(items or (user(),))), "stream": True, "instructions": "", **members}

    def test_taken(self) -> None:
        """What its own program sends is taken."""
        self.taken(
            self.asked(
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "x"}]},
                user(),
                reasoning(signer="codex"),
                call(),
                output(),
                tools=[function(), {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}],
                tool_choice="auto",
                parallel_tool_calls=False,
                reasoning={"effort": "high", "summary": "auto"},
                include=["reasoning.encrypted_content"],
                prompt_cache_key="thread",
                service_tier="priority",
                text={"verbosity": "low"},
                client_metadata={"session": "x"},
            )
        )

    def test_must(self) -> None:
        """It streams and keeps nothing, and wants instructions and a list."""
        self.refused({**self.asked(), "stream": False}, "Stream must be set to true")
        self.refused({**self.asked(), "store": True}, "Store must be set to false")
        for value in (
            {**self.asked(), "instructions": None},
            {k: v for k, v in self.asked().items() if k != "instructions"},
        ):
            self.refused(value, "Instructions are required")
        self.refused({**self.asked(), "input": "hello"}, "Input must be a list")

    def test_must_not(self) -> None:
        """What it does not take is told as a detail."""
        for name, value in (
            ("max_output_tokens", 100),
            ("previous_response_id", "resp_1"),
            ("prompt_cache_retention", "24h"),
            ("prompt_cache_options", {}),
            ("safety_identifier", "x"),
            ("stream_options", {}),
            ("metadata", {}),
            ("user", "x"),
            ("truncation", "auto"),
            ("temperature", 1),
            ("top_p", 1),
            ("max_completion_tokens", 5),
        ):
            refusal = self.refused(self.asked(**{name: value}), f"Unsupported parameter: {name}")
            self.assertEqual(BACKEND.error(refusal, 1), {"detail": f"Unsupported parameter: {name}"})
        self.refused(self.asked(service_tier="flex"), "Unsupported service_tier: flex")
        self.refused(self.asked({"role": "system", "content": "x"}), "System messages are not allowed")
        marked = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": MARK}
        self.refused(self.asked(user([marked])), "Unsupported parameter: prompt_cache_breakpoint")

    def test_not_the_api(self) -> None:
        """The reasoning that the vendor's other interface sealed is foreign here, and nothing is kept."""
        self.refused(self.asked(user(), reasoning(), said()), "could not be verified", "invalid_encrypted_content")
        kept = {"type": "reasoning", "id": "rs_demo00000001", "summary": []}
        self.assertEqual(self.refused(self.asked(user(), kept, said()), "not found").status, 404)
