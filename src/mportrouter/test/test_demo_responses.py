"""What the stand-ins take and give in Responses, to the official client and to Codex."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.responses import Response, ResponseFailedEvent, ResponseReasoningItem, ResponseStreamEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_responses import ResponsesVoice
from mportrouter.demo_said import Refusal, signature

from .demo_clients import openai_at

PATCH = '*** Begin Patch\n*** Add File: note.txt\n+it\'s "here"\n*** End Patch'
RUN = {"type": "function", "name": "run", "strict": False, "parameters": {"type": "object", "properties": {}}}

API = ResponsesVoice("OpenAI")


class CodexTests(SynchronousTestCase):
    """What Codex sends is taken, and its own kinds of tools are called."""

    def asked(self, **members: Any) -> dict[str, Any]:
        voice = ResponsesVoice("OpenAI")
        body: dict[str, Any] = {"model": "gpt-6", "stream": True, "store": False, "input": "hi", **members}
        voice.check(body, {})
        whole: dict[str, Any] = voice.answer(body, 1).whole
        return whole

    def test_client_metadata(self) -> None:
        """The client's own notes are no unknown member."""
        self.assertEqual(self.asked(client_metadata={"session_id": "s"})["status"], "completed")

    def test_notes(self) -> None:
        """Nor are those beside items of every kind."""
        notes = {"internal_chat_message_metadata_passthrough": {"turn_id": "t"}}
        items: list[dict[str, Any]] = [
            {"type": "message", "role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "run", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "done"},
        ]
        self.asked(input=[{**item, **notes} for item in items])

    def test_custom_tool(self) -> None:
        """A custom tool gets the patch that the question holds, as text."""
        tools = [{"type": "custom", "name": "apply_patch", "format": {"type": "text"}}]
        call = self.asked(tools=tools, input=f"Use apply_patch with:\n{PATCH}\nplease")["output"][-1]
        self.assertEqual((call["type"], call["input"], call["id"][:4]), ("custom_tool_call", PATCH, "ctc_"))

    def test_namespace(self) -> None:
        """A function of a namespace is called with the namespace's name beside its own."""
        tools = [{"type": "namespace", "name": "shell", "description": "", "tools": [RUN]}]
        call = self.asked(tools=tools, input="use run")["output"][-1]
        self.assertEqual((call["type"], call["name"], call["namespace"]), ("function_call", "run", "shell"))

    def test_mistakes_within_a_namespace(self) -> None:
        """Its functions are held to the same rules as others."""
        broken = {**RUN, "parameters": {"type": "string"}}
        with self.assertRaises(Refusal):
            self.asked(tools=[{"type": "namespace", "name": "shell", "description": "", "tools": [broken]}])

    def test_additional_tools(self) -> None:
        """Tools that come as an item of the input are called too."""
        given = [
            {"type": "additional_tools", "role": "developer", "tools": [RUN]},
            {"role": "user", "content": "use run"},
        ]
        self.assertEqual(self.asked(input=given)["output"][-1]["name"], "run")

    def test_ids(self) -> None:
        """Each kind of call has ids of its own, and another's are refused."""
        call = {"type": "custom_tool_call", "id": "fc_1", "call_id": "c", "name": "apply_patch", "input": "x"}
        output = {"type": "custom_tool_call_output", "call_id": "c", "output": "done"}
        with self.assertRaises(Refusal):
            self.asked(input=[{"role": "user", "content": "x"}, call, output])
        self.asked(input=[{"role": "user", "content": "x"}, {**call, "id": "ctc_1"}, output])

    def test_broken_answer(self) -> None:
        """The reasoning of an answer that broke off may be the last item, and never stand before a person's words."""
        item = {"type": "reasoning", "summary": [], "encrypted_content": f"rs_1|{signature('openai', 'rs_1')}"}
        question = {"role": "user", "content": "x"}
        self.asked(input=[question, item])
        with self.assertRaises(Refusal):
            self.asked(input=[question, item, question])


class AnswerTests(SynchronousTestCase):
    """:meth:`ResponsesVoice.answer`, read by the official client."""

    def both(self, voice: ResponsesVoice = API, **members: Any) -> Response:
        """The answer in one piece, which is the same as what the client makes of the stream."""
        value = {"model": "gpt-6", "input": "hello", **members}
        whole = voice.answer(voice.check(value, {}), 1)
        self.assertFalse(whole.stream)
        found = Response.model_validate(whole.whole)
        with openai_at(voice).responses.stream(**value) as events:
            *_, last = list(events)
        self.assertEqual(last.type, f"response.{found.status}")
        got: Response = last.response  # type: ignore[union-attr]
        for one, other in zip(found.output, got.output, strict=True):
            plain = one.model_dump(exclude_unset=True)
            streamed = other.model_dump(exclude_unset=True, exclude={"parsed_arguments", "parsed"})
            for part in streamed.get("content") or ():
                part.pop("parsed", None)
            self.assertEqual(plain, streamed)
        self.assertEqual((found.status, found.usage), (got.status, got.usage))
        return found

    def test_text(self) -> None:
        """A plain answer, whole and streamed, echoes what was asked."""
        found = self.both(instructions="x", metadata={"a": "b"}, store=False, max_output_tokens=500)
        self.assertIn("stand-in for OpenAI, model gpt-6. You asked: “hello”", found.output_text)
        self.assertEqual((found.status, found.instructions, found.metadata), ("completed", "x", {"a": "b"}))
        self.assertEqual((found.max_output_tokens, found.model_dump()["store"]), (500, False))
        assert found.usage is not None
        self.assertEqual(found.usage.total_tokens, found.usage.input_tokens + found.usage.output_tokens)

    def test_numbers(self) -> None:
        """Events are numbered from nought, and each names itself twice."""
        value = {
            "model": "gpt-6",
            "input": "use run",
            "tools": [RUN],
            "reasoning": {"effort": "low", "summary": "auto"},
        }
        events = API.answer(API.check({**value, "stream": True}, {}), 1).events
        for number, event in enumerate(events):
            name, data = event.removesuffix(b"\n\n").split(b"\n")
            inner = json.loads(data.removeprefix(b"data: "))
            self.assertEqual((inner["sequence_number"], b"event: " + inner["type"].encode()), (number, name))
            TypeAdapter(ResponseStreamEvent).validate_python(inner)

    def test_calls(self) -> None:
        """One call, several, none, forced and of allowed ones."""
        tools = [RUN, {**RUN, "name": "walk"}]
        text = "use run and walk"
        named = {"type": "function", "name": "walk"}

        def called(**members: Any) -> list[str]:
            found = self.both(tools=tools, **members)
            self.assertEqual(found.status, "completed")
            return [item.name for item in found.output if item.type == "function_call"]

        self.assertEqual(called(input=text), ["run", "walk"])
        self.assertEqual(called(input=text, parallel_tool_calls=False), ["run"])
        self.assertEqual(called(input=text, tool_choice="none"), [])
        self.assertEqual(called(tool_choice=named), ["walk"])
        self.assertEqual(called(tool_choice="required"), ["run"])
        self.assertEqual(called(tool_choice={"type": "allowed_tools", "mode": "required", "tools": [named]}), ["walk"])

    def test_limit(self) -> None:
        """A limit makes the answer incomplete."""
        found = self.both(input="say 90 words", max_output_tokens=20)
        self.assertEqual((found.status, len(found.output_text.split())), ("incomplete", 20))
        assert found.incomplete_details is not None
        self.assertEqual(found.incomplete_details.reason, "max_output_tokens")

    def test_reasoning(self) -> None:
        """A thought comes first: its summary where it is wanted, sealed where that is included."""
        found = self.both(reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content"])
        first = found.output[0]
        assert isinstance(first, ResponseReasoningItem)
        self.assertIn("I am a stand-in", first.summary[0].text)
        self.assertTrue((first.encrypted_content or "").startswith(first.id))
        bare = self.both(reasoning={"effort": "low"}).output[0]
        assert isinstance(bare, ResponseReasoningItem)
        self.assertEqual((bare.summary, bare.encrypted_content), ([], None))
        self.assertEqual([item.type for item in self.both(reasoning={"effort": "none"}).output], ["message"])

    def test_loop(self) -> None:
        """The official client plays a whole loop of tools with thinking, giving every item back as it came."""
        for store in (False, True):
            client = openai_at(API)
            items: list[Any] = [{"role": "user", "content": "use run"}]
            members: dict[str, Any] = {"model": "gpt-6", "tools": [RUN], "reasoning": {"effort": "low"}, "store": store}
            if not store:
                members["include"] = ["reasoning.encrypted_content"]
            for _ in range(2):
                answer = client.responses.create(input=items, **members)
                items += answer.output
                for item in answer.output:
                    if item.type == "function_call":
                        items.append({"type": "function_call_output", "call_id": item.call_id, "output": "sunny"})
            self.assertIn("The tool gave: “sunny”", answer.output_text)

    def test_lost_reasoning(self) -> None:
        """Reasoning that was neither sealed nor kept cannot come back."""
        client = openai_at(API)
        answer = client.responses.create(model="gpt-6", input="hi", store=False, reasoning={"effort": "low"})
        items: list[Any] = [{"role": "user", "content": "hi"}, *answer.output, {"role": "user", "content": "and"}]
        with self.assertRaises(openai.NotFoundError):
            client.responses.create(model="gpt-6", input=items, store=False)

    def test_count(self) -> None:
        """A count is what an answer to the same would tell, more with tools."""
        client = openai_at(API)
        bare = client.responses.input_tokens.count(model="gpt-6", input="hello").input_tokens
        tools = client.responses.input_tokens.count(model="gpt-6", input="hello", tools=[RUN]).input_tokens
        self.assertGreater(tools, bare)

    def test_backend(self) -> None:
        """The subscriptions' backend tells its items only as they are done: what completes is empty."""
        voice = ResponsesVoice("Codex", "codex", backend=True)
        question = [{"role": "user", "content": "hello"}]
        value = {"model": "gpt-6", "input": question, "instructions": "", "store": False, "stream": True}
        events = voice.answer(voice.check(value, {}), 1).events
        values = [json.loads(event.partition(b"data: ")[2]) for event in events]
        self.assertEqual(values[-1]["response"]["output"], [])
        done = [each["item"] for each in values if each["type"] == "response.output_item.done"]
        self.assertIn("stand-in for Codex", done[-1]["content"][0]["text"])
        self.assertGreater(values[-1]["response"]["usage"]["output_tokens"], 5)

    def test_errors(self) -> None:
        """Errors have the four members; a plan that is used up has its own; a broken stream fails."""
        error = API.error(Refusal(429, "rate_limit_error", "no"), 1)["error"]
        self.assertEqual(
            error, {"message": "no", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
        )
        plan = ResponsesVoice("Codex", "codex", True).error(Refusal(429, "rate_limit_error", "no"), 1)["error"]
        self.assertEqual((plan["type"], plan["plan_type"]), ("usage_limit_reached", "plus"))
        failed = API.answer({"model": "gpt-6", "input": "hi", "stream": True}, 1).failed(7)
        value = json.loads(failed.partition(b"data: ")[2])
        self.assertEqual((value["sequence_number"], value["response"]["status"]), (7, "failed"))
        ResponseFailedEvent.model_validate(value)
        self.assertRaises(Refusal, API.models, "")
