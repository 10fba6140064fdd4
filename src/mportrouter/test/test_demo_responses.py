"""What the stand-ins take and give in Responses beyond what the official client sends."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mportrouter.demo_responses import ResponsesVoice
from mportrouter.demo_said import Refusal, signature

PATCH = "*** Begin Patch\n*** Add File: note.txt\n+it's \"here\"\n*** End Patch"
RUN = {"type": "function", "name": "run", "strict": False, "parameters": {"type": "object", "properties": {}}}


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
