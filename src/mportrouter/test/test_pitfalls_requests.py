"""What went wrong in other routers with turns, calls and tools of requests, for every upstream's dialect."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Opaque
from ..envelope import seal
from ..interfaces import Inexpressible
from .asking import (
    HISTORY,
    PDF,
    PNG,
    assistant,
    chat,
    claude,
    everywhere,
    function,
    responses,
    result,
    said,
    sent,
    text,
    use,
    user,
)


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


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PAPER = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}


class ResultTests(SynchronousTestCase):
    """Calls and their results."""

    def test_words_before_results(self) -> None:
        """Results stand first and together, in the order of the calls, whatever the client says between them."""
        body = claude(
            assistant(use("a"), use("b")), user(text("wait"), result("b", "2")), user(result("a", "1"), text("go"))
        )
        found = everywhere("anthropic", body)
        messages = found["openai-chat"]["messages"][2:]
        self.assertEqual([message["role"] for message in messages], ["tool", "tool", "user", "user"])
        self.assertEqual([message.get("tool_call_id") for message in messages], ["a", "b", None, None])
        items = found["openai-responses"]["input"][3:]
        self.assertEqual([item.get("output") for item in items], ["1", "2", None, None])
        _, _, last = found["gemini"]["contents"]
        answers = [part["functionResponse"]["response"]["output"] for part in last["parts"][:2]]
        self.assertEqual((answers, last["parts"][2:]), (["1", "2"], [{"text": "wait"}, {"text": "go"}]))

    def test_media_in_results(self) -> None:
        """Pictures and documents of a result reach the model as what they are, never as a text of their bytes."""
        body = claude(assistant(use("a")), user(result("a", [text("x"), IMAGE, PAPER])))
        found = everywhere("anthropic", body)
        tool, shown = found["openai-chat"]["messages"][2:]
        self.assertEqual((tool["role"], tool["content"], shown["role"]), ("tool", "x", "user"))
        self.assertEqual([part["type"] for part in shown["content"]], ["text", "image_url", "file"])
        output = found["openai-responses"]["input"][-1]["output"]
        self.assertEqual([part["type"] for part in output], ["input_text", "input_image", "input_file"])
        parts = found["gemini"]["contents"][-1]["parts"]
        self.assertEqual([part["inlineData"]["data"] for part in parts if "inlineData" in part], [PNG, PDF])

    def test_lists_of_responses(self) -> None:
        """A result that is a list of texts and pictures is read as one."""
        output = [
            {"type": "input_text", "text": "x"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        ]
        body = responses(
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": output},
        )
        found = everywhere("openai-responses", body)
        self.assertEqual(found["anthropic"]["messages"][-1]["content"][0]["content"], [text("x"), IMAGE])
        self.assertEqual(found["openai-chat"]["messages"][-1]["content"][1]["image_url"]["url"][-9:], PNG[-9:])
        self.assertEqual(found["gemini"]["contents"][-1]["parts"][-1]["inlineData"]["data"], PNG)

    def test_ids(self) -> None:
        """Ids that count from the start in each turn, or are too long or odd, are legal, unique and paired."""
        odd = "x" * 80 + "."
        messages: list[dict[str, Any]] = []
        for number in range(2):
            calls = [
                {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ("call_0", odd)
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": id, "content": f"{number}{id[0]}"} for id in (odd, "call_0")]
        found = everywhere("openai-chat", chat(*messages))
        blocks = [block for message in found["anthropic"]["messages"] for block in message["content"]]
        uses = [block["id"] for block in blocks if block["type"] == "tool_use"]
        answers = {block["tool_use_id"]: block["content"] for block in blocks if block["type"] == "tool_result"}
        self.assertEqual((len(set(uses)), [answers[id] for id in uses]), (4, ["0c", "0x", "1c", "1x"]))
        items = found["openai-responses"]["input"]
        ids = [item["call_id"] for item in items if item.get("type") == "function_call"]
        outputs = {item["call_id"]: item["output"] for item in items if item.get("type") == "function_call_output"}
        self.assertEqual((len(set(ids)), [outputs[id] for id in ids]), (4, ["0c", "0x", "1c", "1x"]))
        self.assertTrue(all(len(id) <= 64 for id in (*uses, *ids)))

    def test_orphans(self) -> None:
        """A call without a result has one that says so, and a result without a call is told in words."""
        body = responses(
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"role": "user", "content": "stop"},
            {"type": "function_call_output", "call_id": "z", "output": "late"},
        )
        for name, found in everywhere("openai-responses", body).items():
            history = json.dumps(found[HISTORY[name]])
            self.assertEqual(history.count("[no result]"), 1, name)
            self.assertEqual(history.count("[result of unknown tool call z]"), 1, name)

    def test_broken_arguments(self) -> None:
        """Arguments that are no object break no later turn: they are kept as a text inside of one."""
        for arguments in ('{"a": ', "[1]", "NaN", '"x"'):
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
            body = chat(
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
            )
            found = everywhere("openai-chat", body)
            wanted = {"_raw": arguments}
            self.assertEqual(found["anthropic"]["messages"][1]["content"][0]["input"], wanted)
            self.assertEqual(json.loads(found["openai-responses"]["input"][1]["arguments"]), wanted)
            self.assertEqual(found["gemini"]["contents"][1]["parts"][0]["functionCall"]["args"], wanted)


class ToolTests(SynchronousTestCase):
    """Tools and their choice."""

    def test_renamed_everywhere(self) -> None:
        """A name that must change is the same other one everywhere, and known on the way back."""
        name = "a.b:c"
        body = {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": name, "response": {"x": 1}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": name}, {"name": "d"}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}},
        }
        for upstream, times in (("anthropic", 3), ("openai-chat", 3), ("openai-responses", 3)):
            _, prepared = sent("gemini", body, upstream)
            ((wire, tool),) = prepared.names.items()
            self.assertEqual(tool.name, name)
            self.assertEqual(prepared.body.count(wire.encode()), times, upstream)
            self.assertNotIn(name.encode(), prepared.body)

    def test_served(self) -> None:
        """A tool that its provider runs is no function; a function of such a name is one."""
        served = {"type": "web_search_20250305", "name": "web_search"}
        plain = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
        for name, found in everywhere("anthropic", claude(tools=[served, plain])).items():
            self.assertNotIn("web_search", json.dumps(found["tools"]), name)
        for name, found in everywhere("anthropic", claude(tools=[{**plain, "name": "web_search"}])).items():
            self.assertIn("web_search", json.dumps(found["tools"]), name)

    def test_not_strict(self) -> None:
        """Where nobody says strict, OpenAI is told so, or it would make every parameter a required one."""
        for client, body in (
            ("openai-chat", chat(tools=[function()])),
            ("anthropic", claude(tools=[{"name": "f", "input_schema": {"type": "object"}}])),
        ):
            self.assertIs(sent(client, body, "openai-responses")[0]["tools"][0]["strict"], False)

    def test_forced(self) -> None:
        """A tool that is forced where none is offered is refused; reasoning gives way to a forced one."""
        for name in ("anthropic", "openai-responses", "gemini"):
            with self.assertRaises(Inexpressible, msg=name):
                sent("openai-chat", chat(tools=[], tool_choice="required"), name)
        body = chat(tools=[function()], tool_choice="required", reasoning_effort="high")
        found, prepared = sent("openai-chat", body, "anthropic", reasoning_kind="budget")
        self.assertEqual((found["thinking"]["type"], found["tool_choice"]["type"]), ("disabled", "any"))
        self.assertIn("reasoning (a tool is forced)", prepared.dropped)

    def test_none(self) -> None:
        """With no tool allowed, said so or by an empty list, the declarations stay and none may be called."""
        for choice in ("none", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}):
            found = everywhere("openai-chat", chat(tools=[function()], tool_choice=choice))
            self.assertEqual(found["anthropic"]["tool_choice"], {"type": "none"})
            self.assertEqual(found["openai-responses"]["tool_choice"], "none")
            self.assertEqual(found["gemini"]["toolConfig"], {"functionCallingConfig": {"mode": "NONE"}})
            self.assertTrue(all(each["tools"] for each in found.values()))

    def test_allowed(self) -> None:
        """The tools that may be called are told, or the others not offered; parallel calls force nothing."""
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("f")]}}
        body = chat(tools=[function("f"), function("g")], tool_choice=allowed, parallel_tool_calls=True)
        found = everywhere("openai-chat", body)
        self.assertEqual([tool["name"] for tool in found["anthropic"]["tools"]], ["f"])
        self.assertEqual(found["anthropic"]["tool_choice"], {"type": "any"})
        self.assertEqual([tool["name"] for tool in found["openai-responses"]["tool_choice"]["tools"]], ["f"])
        calling = found["gemini"]["toolConfig"]["functionCallingConfig"]
        self.assertEqual(calling, {"mode": "ANY", "allowedFunctionNames": ["f"]})
        free = everywhere("openai-chat", chat(tools=[function()], parallel_tool_calls=True))
        self.assertNotIn("toolConfig", free["gemini"])
        self.assertNotIn("tool_choice", free["anthropic"])
