"""What went wrong in other routers with members and texts of requests, for every upstream's dialect."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..dialects.known import DIALECTS
from ..errors import RouterError
from ..interfaces import Inexpressible
from .asking import (
    HISTORY,
    NAMES,
    PDF,
    assistant,
    chat,
    claude,
    everywhere,
    function,
    responses,
    result,
    sent,
    target,
    text,
    use,
    user,
)


class EmptyTests(SynchronousTestCase):
    """What says nothing."""

    def test_absent(self) -> None:
        """Nulls and empty lists are absent, and nothing is told of them: servers refuse them."""
        body = chat(
            tools=[],
            stop=[],
            reasoning_effort=None,
            response_format=None,
            metadata={},
            logit_bias={},
            stream_options=None,
            tool_choice=None,
            n=1,
        )
        for name in ("anthropic", "openai-responses", "gemini"):
            found, prepared = sent("openai-chat", body, name)
            self.assertEqual(prepared.dropped, ())
            for value in found.values():
                self.assertNotIn(value, (None, [], {}))

    def test_empty_texts(self) -> None:
        """Empty texts, messages and lists of calls vanish, also where a cache mark stands on them."""
        marked = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
        for name, found in everywhere("anthropic", claude(assistant(text("")), user(marked, text("hi")))).items():
            history = json.dumps(found[HISTORY[name]])
            self.assertNotIn('"text": ""', history)
            self.assertNotIn("cache", history)
        empty = {"role": "assistant", "content": None, "tool_calls": []}
        for name, found in everywhere("openai-chat", chat(empty, user(text(""), text("go")))).items():
            roles = {each["role"] for each in found[HISTORY[name]]}
            self.assertEqual(roles, {"user"}, name)

    def test_empty_reasoning(self) -> None:
        """Thinking of nothing that nobody signed is not sent again."""
        thinking = {"type": "thinking", "thinking": "", "signature": ""}
        body = claude(assistant(thinking, text("x")), user("go"))
        for name in NAMES:
            columns = {"reasoning_kind": "budget"} if name == "anthropic" else {}
            self.assertNotIn("thinking", json.dumps(sent("anthropic", body, name, **columns)[0][HISTORY[name]]))

    def test_instructions_alone(self) -> None:
        """Where there are instructions only, the last one is what is asked, and no dummy is said."""
        body = {"messages": [{"role": "system", "content": "be"}, {"role": "system", "content": "do it"}]}
        found = everywhere("openai-chat", body)
        self.assertEqual(found["anthropic"]["messages"], [{"role": "user", "content": [text("do it")]}])
        self.assertEqual(found["gemini"]["contents"], [{"role": "user", "parts": [{"text": "do it"}]}])
        self.assertEqual(found["openai-responses"]["input"][0]["content"], [{"type": "input_text", "text": "do it"}])

    def test_parts_one_by_one(self) -> None:
        """A list of parts is mapped part by part, never put into a text; the content of a caller is always there."""
        body = chat(user(text("a"), text("b")), {"role": "assistant", "content": ""}, user("c"))
        for name, found in everywhere("openai-chat", body).items():
            said = json.dumps(found[HISTORY[name]])
            for words in ("a", "b", "c"):
                self.assertEqual(said.count(f'"text": "{words}"'), 1, name)
        called = claude(assistant(use("t")), user(result("t")))
        self.assertIsNone(sent("anthropic", called, "openai-chat")[0]["messages"][1]["content"])


class MediaTests(SynchronousTestCase):
    """Pictures and documents."""

    def test_paper_as_picture(self) -> None:
        """A document that comes as a picture's URL is a document by its type."""
        picture = {"type": "image_url", "image_url": {"url": f"data:application/pdf;base64,{PDF}"}}
        found = everywhere("openai-chat", chat(user(picture)))
        self.assertEqual(found["anthropic"]["messages"][0]["content"][1]["type"], "document")
        self.assertEqual(found["openai-responses"]["input"][1]["content"][0]["type"], "input_file")
        self.assertEqual(found["gemini"]["contents"][0]["parts"][1]["inlineData"]["mimeType"], "application/pdf")

    def test_nothing_unseen(self) -> None:
        """What the model would not see is refused by name, never left out: URLs, ids of files, several answers."""
        picture = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}
        for name in ("anthropic", "openai-responses", "gemini"):
            for body, columns in (
                (chat(user(picture)), {"url_images": False}),
                (chat(user({"type": "file", "file": {"file_id": "f"}})), {}),
                (chat(n=2), {}),
            ):
                with self.assertRaises(Inexpressible, msg=name):
                    sent("openai-chat", body, name, **columns)
        paper = {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}
        with self.assertRaises(Inexpressible):
            sent("anthropic", claude(user(paper)), "openai-chat")


class MemberTests(SynchronousTestCase):
    """Members beside the messages."""

    def test_limit(self) -> None:
        """The limit on the answer stands in every body, under its name there."""
        members = {
            "anthropic": lambda body: body["max_tokens"],
            "openai-chat": lambda body: body["max_completion_tokens"],
            "openai-responses": lambda body: body["max_output_tokens"],
            "gemini": lambda body: body["generationConfig"]["maxOutputTokens"],
        }
        given = {
            "anthropic": claude(),
            "openai-chat": chat(max_completion_tokens=100),
            "openai-responses": responses(max_output_tokens=100),
            "gemini": {
                "contents": [{"role": "user", "parts": [{"text": "q"}]}],
                "generationConfig": {"maxOutputTokens": 100},
            },
        }
        for client, body in given.items():
            for name, found in everywhere(client, body, max_tokens_field="max_completion_tokens").items():
                self.assertEqual(members[name](found), 100, (client, name))

    def test_members_of_one_dialect(self) -> None:
        """What one dialect alone knows is taken, left out and told, and the effort beside it is kept."""
        body = claude(context_management={"edits": []}, output_config={"effort": "high"}, betas=["x"])
        for name in ("openai-chat", "openai-responses", "gemini"):
            found, prepared = sent("anthropic", body, name)
            self.assertEqual(prepared.dropped, ("context_management",))
            self.assertNotIn("betas", found)
            self.assertIn("high", json.dumps(found).lower())

    def test_kept_nowhere(self) -> None:
        """Responses are never kept, and reasoning is asked for in a form that can come back."""
        for client, body in (("anthropic", claude()), ("openai-chat", chat(store=True))):
            found = sent(client, body, "openai-responses")[0]
            self.assertIs(found["store"], False)
            self.assertEqual(found["include"], ["reasoning.encrypted_content"])

    def test_state_of_the_server(self) -> None:
        """What only the provider's server remembers is refused by its name."""
        for name, value in (("previous_response_id", "r"), ("conversation", "c"), ("prompt", {"id": "p"})):
            with self.assertRaises(RouterError) as caught:
                everywhere("openai-responses", responses(**{name: value}))
            self.assertIn(name, caught.exception.message)

    def test_history_of_the_assistant(self) -> None:
        """What the assistant said is its output in Responses, not somebody's input."""
        for client, body in (
            ("anthropic", claude(assistant("x"), user("go"))),
            ("openai-chat", chat(assistant("x"), user("go"))),
        ):
            item = sent(client, body, "openai-responses")[0]["input"][1]
            self.assertEqual(item["content"], [{"type": "output_text", "text": "x"}])

    def test_one_way_to_think(self) -> None:
        """Gemini is told a level or a budget, never both."""
        body = chat(reasoning_effort="high", thinking={"type": "enabled", "budget_tokens": 4000})
        for kind in ("budget", "level"):
            columns = {"reasoning_kind": kind, "reasoning_levels": ("low", "high")}
            found = sent("openai-chat", body, "gemini", **columns)[0]["generationConfig"]["thinkingConfig"]
            self.assertEqual(len({"thinkingBudget", "thinkingLevel"} & set(found)), 1, kind)


class BeginningTests(SynchronousTestCase):
    """Caches of prompts hold as long as nothing changes that was sent before."""

    def conversations(self, client: str) -> tuple[dict[str, Any], str]:
        """A long request, and the member that grows."""
        if client == "anthropic":
            turns = [
                *(
                    assistant(text("so"), use("t0", "f.x"), use("t0")),
                    user(result("t0"), text("and"), result("t0", "2")),
                ),
                *(assistant("ok"), user(text("a"), text("b"))),
                *(assistant(use("t0")), user("stop"), assistant("well"), user(result("t0", "late"), text("go"))),
            ]
            return claude(*turns, tools=[{"name": "f", "input_schema": {"type": "object"}}]), "messages"
        if client == "openai-chat":
            calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]
            turns = [
                *({"role": "assistant", "content": "x", "tool_calls": calls}, {"role": "system", "content": "mid"}),
                *({"role": "tool", "tool_call_id": "c", "content": "r"}, user("go"), assistant("y"), user("on")),
                *(assistant(""), assistant("z"), {"role": "system", "content": "late"}, user("end")),
            ]
            return chat(*turns, tools=[function()]), "messages"
        if client == "openai-responses":
            turns = [
                {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "e"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "raw"},
                {"type": "function_call_output", "call_id": "c", "output": "1"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "2"},
                *(assistant("x"), assistant("y"), user("go"), assistant("z"), user("end")),
            ]
            return responses(*turns), "input"
        calls = [{"functionCall": {"name": "f", "args": {}}}] * 2
        results = [{"functionResponse": {"name": "f", "response": {"output": f"{number}"}}} for number in range(2)]
        turns = [
            *({"role": "model", "parts": calls}, {"role": "user", "parts": [*results, {"text": "go"}]}),
            *({"role": "model", "parts": [{"text": "x"}]}, {"role": "user", "parts": [{"text": "on"}]}),
            *({"role": "model", "parts": calls[:1]}, {"role": "user", "parts": results[:1]}),
        ]
        return {"contents": [{"role": "user", "parts": [{"text": "q"}]}, *turns]}, "contents"

    def test_beginning(self) -> None:
        """A conversation that goes on begins like it was, message by message, for all pairs; twice it is the same."""
        for client in NAMES:
            body, member = self.conversations(client)
            for name in NAMES:
                columns = {"cache_marks": "cache_control"} if name == "anthropic" else {}
                whole, prepared = sent(client, body, name, **columns)
                self.assertEqual(sent(client, body, name, **columns)[1].body, prepared.body)
                messages = whole[HISTORY[name]]
                for end in range(1, len(body[member])):
                    before, after = (body[member][at].get("role") for at in (end - 1, end))
                    if before == after or after not in ("assistant", "model"):
                        continue  # what stands between two of the assistant's turns belongs together
                    part = sent(client, {**body, member: body[member][:end]}, name, **columns)[0][HISTORY[name]]
                    self.assertEqual(part, messages[: len(part)], (client, name, end))

    def test_own_dialect(self) -> None:
        """A request for an upstream of the client's own dialect is the very object that came."""
        for client in NAMES:
            raw = json.dumps({"model": "m", **self.conversations(client)[0]}).encode()
            dialect = DIALECTS[client]
            look = dialect.look(raw, b"/v1beta/models/m:generateContent" if client == "gemini" else dialect.path)
            prepared = dialect.prepare(raw, look, target(client))
            self.assertIs(prepared.body, raw, client)
            self.assertEqual(prepared.dropped, ())
