"""Tests for writing neutral conversations as requests of the OpenAI Responses dialect."""

from __future__ import annotations

from typing import Any

import attrs
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from .. import splice
from ..conversation import (
    CacheMark,
    Conversation,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningControl,
    Refusal,
    Sampling,
    SearchHit,
    Sound,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    WebSearch,
)
from ..dialects.responses_writing import write_count, write_request
from ..interfaces import Inexpressible, Prepared, Target
from ..settings import Capabilities
from .response_events import CODEX, OPENAI

ASK = Turn("user", (Text("hi"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
PNG = Media("base64", "iVBORw0KGgoAAAANSUhEUg==", "image/jpeg")


def but(**columns: Any) -> Target:
    return attrs.evolve(OPENAI, capabilities=attrs.evolve(OPENAI.capabilities, **columns))


def prepared(*turns: Turn, target: Target = OPENAI, **members: Any) -> Prepared:
    dialect = members.pop("dialect", "anthropic")
    return write_request(Conversation(dialect, "asked", turns or (ASK,), **members), target)


def written(*turns: Turn, target: Target = OPENAI, **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = splice.loads(prepared(*turns, target=target, **members).body)
    return found


def items(*turns: Turn, target: Target = OPENAI, **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(*turns, target=target, **members)["input"]
    return found


class TurnTests(SynchronousTestCase):
    """Turns become items."""

    def test_least(self) -> None:
        """The least request: the model asked there, the words, nothing kept, and state asked back."""
        self.assertEqual(
            written(),
            {
                "model": "gpt-x",
                "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
                "include": ["reasoning.encrypted_content"],
                "store": False,
                "stream": False,
            },
        )

    def test_system(self) -> None:
        """System texts are instructions; a line for another provider's accounting is left out; in mid-list a turn."""
        system = (Text("x-anthropic-billing-header: v=1"), Text("one"), Text("two"), Text("  "))
        found = written(ASK, Turn("system", (Text("now"),)), system=system, target=but(system_role="developer"))
        self.assertEqual(found["instructions"], "one\n\ntwo")
        self.assertEqual(found["input"][1]["role"], "developer")
        self.assertNotIn("instructions", written())
        self.assertEqual(written(target=CODEX)["instructions"], "")

    def test_system_alone(self) -> None:
        """Where nobody said anything the last instruction is asked; where nothing is there at all it is refused."""
        found = splice.loads(
            write_request(Conversation("openai-chat", "m", (), system=(Text("a"), Text("b"))), OPENAI).body
        )
        self.assertEqual((found["instructions"], found["input"][0]["content"][0]["text"]), ("a", "b"))
        self.assertRaises(Inexpressible, write_request, Conversation("openai-chat", "m", ()), OPENAI)

    def test_marks(self) -> None:
        """Marks of the prompt cache are written where they are known, in the system as items."""
        marked = (Text("s", cache=CacheMark("1h")),)
        turn = Turn("user", (Text("hi", cache=CacheMark("5m")),))
        found = written(turn, system=marked, target=but(cache_marks="prompt_cache_breakpoint"))
        self.assertNotIn("instructions", found)
        self.assertEqual(
            [each["content"][0]["prompt_cache_breakpoint"] for each in found["input"]],
            [{"mode": "explicit", "ttl": "12h"}, {"mode": "explicit"}],
        )
        self.assertNotIn("prompt_cache_breakpoint", splice.dumps(written(turn, system=marked)).decode())

    def test_loop(self) -> None:
        """Words, calls and results in order; results before words; assistants' words are output_text."""
        found = items(
            ASK,
            Turn("assistant", (Text("one"), Text("two"), ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "f", "")),
                 "commentary"),
            Turn("user", (Text("and"), ToolResult("c2", (Text("x"), Text("y"))), ToolResult("c1", (), is_error=True))),
        )  # fmt: skip
        self.assertEqual(
            found[1:],
            [
                {"type": "message", "role": "assistant", "phase": "commentary",
                 "content": [{"type": "output_text", "text": "one"}, {"type": "output_text", "text": "two"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
                {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "[tool error] "},
                {"type": "function_call_output", "call_id": "c2", "output": "x\ny"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and"}]},
            ],
        )  # fmt: skip

    def test_pairing(self) -> None:
        """Calls without a result get one, results without a call become words, long ids become the same short one."""
        long = "x" * 90
        found = items(
            Turn("assistant", (ToolCall(long, "f", "{}"),)),
            Turn("user", (ToolResult(long, (Text("r"),)),)),
            Turn("assistant", (ToolCall("c", "f", "{}"),)),
            ASK,
            Turn("user", (ToolResult("lost"),)),
        )
        self.assertEqual(found[0]["call_id"], found[1]["call_id"])
        self.assertLessEqual(len(found[0]["call_id"]), 64)
        self.assertEqual(found[3]["output"], "[tool error] [no result]")
        self.assertIn("lost", splice.dumps(found[5]).decode())

    def test_media_in_results(self) -> None:
        """Pictures and documents stay inside the result, behind the mark of an error."""
        parts = (Image(PNG), Document(Media("base64", "JVBERi0x", "application/pdf"), title="a.pdf"))
        call = Turn("assistant", (ToolCall("c", "f", "{}"),))
        (found,) = items(call, Turn("user", (ToolResult("c", parts, is_error=True),)))[1:]
        self.assertEqual([each["type"] for each in found["output"]], ["input_text", "input_image", "input_file"])
        self.assertEqual(found["output"][0]["text"], "[tool error] ")

    def test_media(self) -> None:
        """Pictures are data URLs of their true type, or URLs; documents files, URLs or words; sounds have a format."""
        found = items(
            Turn(
                "user",
                (
                    Image(PNG, "low"),
                    Image(Media("url", "https://a.example/x")),
                    Document(Media("base64", "JVBERi0x", "application/pdf"), context="about"),
                    Document(Media("url", "https://a.example/d")),
                    Document(Media("text", "words"), title="T"),
                    Document(Media("parts", parts=(Text("in"),))),
                    Sound(Media("base64", "AAAA", "audio/mpeg")),
                ),
            )
        )[0]["content"]
        self.assertEqual(
            found,
            [
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==", "detail": "low"},
                {"type": "input_image", "image_url": "https://a.example/x", "detail": "auto"},
                {"type": "input_text", "text": "about"},
                {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"},
                {"type": "input_file", "file_url": "https://a.example/d"},
                {"type": "input_text", "text": "T\n\nwords"},
                {"type": "input_text", "text": "in"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            ],
        )

    def test_media_refused(self) -> None:
        """What a model cannot be shown is refused, never left out."""
        for part, target in (
            (Image(PNG), but(images="refused")), (Image(PNG), but(images="ignored")),
            (Image(Media("url", "u")), but(url_images=False)), (Image(Media("file", "f")), OPENAI),
            (Document(Media("file", "f")), OPENAI), (Document(Media("url", "u")), but(documents="refused")),
            (Sound(Media("base64", "AA", "audio/flac")), OPENAI),
        ):  # fmt: skip
            self.assertRaises(Inexpressible, prepared, Turn("user", (part,)), target=target)

    def test_reasoning(self) -> None:
        """The target's own reasoning goes back with summary, state and original id, before what it led to."""
        own = Opaque("openai", "gpt-x", "encrypted", "gAAA", "rs_1")
        found = items(
            ASK,
            Turn("assistant", (
                Reasoning("hm", own), Text("a"), Reasoning("", replace(own, value="g2", item_id=None)),
                ToolCall("c", "f", "{}"),
            )),
        )  # fmt: skip
        summary = [{"type": "summary_text", "text": "hm"}]
        self.assertEqual(found[1], {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"})
        self.assertEqual(found[3], {"type": "reasoning", "summary": [], "encrypted_content": "g2"})

    def test_foreign_reasoning(self) -> None:
        """Reasoning of others, unsigned reasoning, and reasoning that nothing follows stay away."""
        own = Opaque("openai", "gpt-x", "encrypted", "gAAA", "rs_1")
        found = prepared(
            ASK,
            Turn("assistant", (Reasoning("x", Opaque("anthropic", "c", "signature", "s")), Reasoning("y"), Text("a"),
                               Reasoning("z", own))),
            ASK,
        )  # fmt: skip
        self.assertEqual([each.get("type") for each in splice.loads(found.body)["input"]], ["message"] * 3)
        self.assertIn("reasoning at the end of a turn", found.dropped)
        wrong = Target("custom", "m", Capabilities())
        signed = Turn("assistant", (Reasoning("x", Opaque("anthropic", "c", "signature", "s")), Text("a")))
        self.assertEqual(len(items(ASK, signed, target=wrong)), 2)

    def test_reasoning_text(self) -> None:
        """Where an upstream takes bare reasoning text it gets it as text."""
        found = items(ASK, Turn("assistant", (Reasoning("t"), Text("a"))), target=but(reasoning_echo="allowed"))
        self.assertEqual(found[1], {"type": "reasoning", "summary": [],
                                    "content": [{"type": "reasoning_text", "text": "t"}]})  # fmt: skip

    def test_foreign(self) -> None:
        """What another dialect's provider did is told in words; what is of this dialect goes as it is."""
        raw = {"type": "web_search_call", "id": "ws_1"}
        found = items(
            ASK,
            Turn("assistant", (
                WebSearch("s", "q", (SearchHit("https://a.example", "A"),), ({"x": 1},), "anthropic"),
                Foreign("gemini", "executableCode", {}, "code"),
                WebSearch("w", "q", raw=(raw,), dialect="openai-responses"),
                Refusal("No."),
            )),
        )  # fmt: skip
        self.assertEqual([each["type"] for each in found], ["message", "message", "web_search_call", "message"])
        self.assertIn("https://a.example", found[1]["content"][0]["text"])
        self.assertEqual((found[2], found[3]["content"]), (raw, [{"type": "refusal", "refusal": "No."}]))

    def test_append_only(self) -> None:
        """The same conversation gives the same bytes, a longer one the same beginning."""
        turns = (
            ASK,
            Turn("assistant", (Text("a"), ToolCall("c c", "f", "{}"))),
            Turn("user", (ToolResult("c c"),)),
            ASK,
        )
        self.assertEqual(prepared(*turns).body, prepared(*turns).body)
        self.assertTrue(prepared(*turns).body.startswith(prepared(*turns[:3]).body.partition(b'],"include"')[0]))


class ToolTests(SynchronousTestCase):
    """Tools and the choice among them."""

    def test_functions(self) -> None:
        """Functions are flat and say whether they are strict; a schema is always there."""
        found = written(tools=(Tool("f", "d", SCHEMA), Tool("g"), Tool("h", schema=SCHEMA, strict=True)))["tools"]
        self.assertEqual(found[0], {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA,
                                    "strict": False})  # fmt: skip
        self.assertEqual(found[1]["parameters"], {"type": "object", "properties": {}})
        # Its objects are not closed, so the strict flag would have the request refused.
        self.assertIs(found[2]["strict"], False)
        closed = {**SCHEMA, "additionalProperties": False}
        self.assertIs(written(tools=(Tool("h", schema=closed, strict=True),))["tools"][0]["strict"], True)

    def test_custom_and_names(self) -> None:
        """Custom tools are known here; illegal names are replaced everywhere and can be found again."""
        grammar = {"type": "grammar", "syntax": "lark", "definition": "x"}
        tools = (Tool("p", kind="custom", grammar=grammar), Tool("a.b", schema=SCHEMA))
        found = prepared(
            ASK,
            Turn("assistant", (ToolCall("c", "p", "raw", True), ToolCall("d", "a.b", "{}"))),
            tools=tools,
            tool_choice=ToolChoice("one", "a.b"),
        )
        body = splice.loads(found.body)
        name = body["tools"][1]["name"]
        self.assertEqual(body["tools"][0], {"type": "custom", "name": "p", "format": grammar})
        self.assertEqual((body["tool_choice"], body["input"][2]["name"]), ({"type": "function", "name": name}, name))
        self.assertEqual((body["input"][1]["type"], body["input"][1]["input"]), ("custom_tool_call", "raw"))
        self.assertEqual(found.names[name].name, "a.b")

    def test_choice(self) -> None:
        """Every form of the choice; without tools there is none."""
        tools = (Tool("f"), Tool("p", kind="custom"))
        for choice, value in (
            (ToolChoice("auto"), "auto"), (ToolChoice("none"), "none"), (ToolChoice("required"), "required"),
            (ToolChoice("one", "f"), {"type": "function", "name": "f"}),
            (ToolChoice("one", "p"), {"type": "custom", "name": "p"}),
            (ToolChoice("auto", allowed=("f",)),
             {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
            (ToolChoice("required", allowed=()), "none"),
        ):  # fmt: skip
            self.assertEqual(written(tools=tools, tool_choice=choice)["tool_choice"], value)
        found = written(tool_choice=ToolChoice("auto"), parallel=False)
        self.assertFalse({"tools", "tool_choice", "parallel_tool_calls"} & set(found))
        self.assertRaises(
            Inexpressible, prepared, tools=tools, tool_choice=ToolChoice("required"),
            target=but(tool_choice_force="refused"),
        )  # fmt: skip

    def test_parallel(self) -> None:
        """At most one call a turn is asked for where that can be, and noted where it cannot."""
        self.assertIs(written(tools=(Tool("f"),), parallel=False)["parallel_tool_calls"], False)
        self.assertNotIn("parallel_tool_calls", written(tools=(Tool("f"),), parallel=True))
        found = prepared(tools=(Tool("f"),), parallel=False, target=but(parallel_flag=False))
        self.assertEqual(found.dropped, ("parallel_tool_calls",))

    def test_search(self) -> None:
        """A search that the upstream runs too is mapped; what it cannot be told is noted."""
        options = {"allowed_domains": ["a.example"], "user_location": {"city": "Paris"}, "max_uses": 3}
        tool = Tool("web_search", kind="server", server="web_search", options=options)
        found = prepared(tools=(tool,), tool_choice=ToolChoice("one", "web_search"),
                         target=but(server_tool_kinds=("web_search",)))  # fmt: skip
        body = splice.loads(found.body)
        self.assertEqual(body["tools"], [{"type": "web_search", "filters": {"allowed_domains": ["a.example"]},
                                          "user_location": {"type": "approximate", "city": "Paris"}}])  # fmt: skip
        self.assertEqual((body["tool_choice"], found.dropped), ({"type": "web_search"}, ("tools.web_search.max_uses",)))

    def test_search_dropped(self) -> None:
        """One that it does not run is noted beside others, and refused alone or where it is forced."""
        tool = Tool("web_search", kind="server", server="web_search")
        self.assertEqual(prepared(tools=(tool, Tool("f"))).dropped, ("tools.web_search",))
        self.assertRaises(Inexpressible, prepared, tools=(tool,))
        self.assertRaises(Inexpressible, prepared, tools=(tool, Tool("f")), tool_choice=ToolChoice("one", "web_search"))


class MemberTests(SynchronousTestCase):
    """Top-level members."""

    def test_limits(self) -> None:
        """The limit is within the dialect's and the model's bounds; a change is noted as the client spells it."""
        for asked, sent, notes in ((1, 16, ("max_tokens=16",)), (50, 50, ()), (900, 100, ("max_tokens=100",))):
            found = prepared(max_output=asked, target=but(max_output=100))
            self.assertEqual((splice.loads(found.body)["max_output_tokens"], found.dropped), (sent, notes))
        found = prepared(max_output=50, target=CODEX)
        self.assertNotIn(b"max_output_tokens", found.body)
        self.assertEqual(found.dropped, ("max_tokens",))

    def test_sampling(self) -> None:
        """What the dialect has is sent, within bounds; what it has not is noted in the client's words."""
        sampling = Sampling(temperature=3.0, top_p=0.5, top_k=4, stop=("a",), seed=1, presence_penalty=0.1)
        found = prepared(sampling=sampling)
        body = splice.loads(found.body)
        self.assertEqual((body["temperature"], body["top_p"]), (2.0, 0.5))
        self.assertEqual(found.dropped, ("temperature=2", "stop_sequences", "top_k", "seed", "presence_penalty"))
        found = prepared(sampling=sampling, dialect="gemini", target=but(sampling_refused=("temperature", "top_p")))
        self.assertEqual(found.dropped[:3], ("temperature", "top_p", "stopSequences"))
        self.assertIn("`n`", self.assertRaises(
            Inexpressible, prepared, sampling=Sampling(choices=2), dialect="openai-chat").message)  # fmt: skip
        prepared(sampling=Sampling(choices=1))

    def test_logprobs(self) -> None:
        """Log probabilities are included."""
        body = written(sampling=Sampling(logprobs=True, top_logprobs=3), dialect="openai-chat")
        self.assertEqual((body["include"][-1], body["top_logprobs"]), ("message.output_text.logprobs", 3))

    def test_reasoning(self) -> None:
        """Efforts, budgets and turning off; a summary is asked for where the client wants to see thinking."""
        levels = but(reasoning_levels=("none", "low", "medium", "high"))
        for control, reasoning in (
            (ReasoningControl("on", budget=9000), {"effort": "high", "summary": "auto"}),
            (ReasoningControl("adaptive", show="omitted", effort="low"), {"effort": "low"}),
            (ReasoningControl(None, "medium"), {"effort": "medium"}),
            (ReasoningControl(None, "max", show="summarised"), {"effort": "high", "summary": "auto"}),
            (ReasoningControl("off"), {"effort": "none"}),
            (ReasoningControl("adaptive"), {"summary": "auto"}),
        ):
            self.assertEqual(written(reasoning=control, target=levels)["reasoning"], reasoning, control)
        found = written(reasoning=ReasoningControl("on", budget=9000), target=but(reasoning_kind="none"))
        self.assertFalse({"reasoning", "include"} & set(found))

    def test_format(self) -> None:
        """Formats are flat; strict only where the schema can be; what is not bound is refused by its name."""
        found = written(output=OutputFormat("json_schema", SCHEMA), verbosity="low")["text"]
        wanted = {"type": "json_schema", "name": "response", "schema": SCHEMA, "strict": False}
        self.assertEqual(found, {"format": wanted, "verbosity": "low"})
        closed = {**SCHEMA, "additionalProperties": False}
        given = OutputFormat("json_schema", closed, "n", None, "d")
        found = written(output=given)["text"]["format"]
        self.assertEqual((found["name"], found["strict"], found["description"]), ("n", True, "d"))
        self.assertEqual(written(output=OutputFormat("json"))["text"], {"format": {"type": "json_object"}})
        # The API wants a message to speak of it, and does not count the instructions.
        asked = items(output=OutputFormat("json"), system=(Text("Give JSON."),))
        self.assertIn("JSON", asked[0]["content"][0]["text"])
        self.assertEqual((asked[0]["role"], len(asked)), (OPENAI.capabilities.system_role, 2))
        self.assertEqual(len(items(Turn("user", (Text("as json"),)), output=OutputFormat("json"))), 1)
        longer = items(ASK, Turn("assistant", (Text("json"),)), ASK, output=OutputFormat("json"))
        self.assertEqual(longer[:2], items(output=OutputFormat("json")))
        for target in (but(output_format="none"), but(output_format="json"), but(structured_output="refused")):
            error = self.assertRaises(Inexpressible, prepared, output=given, target=target)
            self.assertIn("output_config.format", error.message)

    def test_identity(self) -> None:
        """Who asks and how prompts are cached, where it is known; ids that are too long are hashed."""
        known = but(cache_key=True, identity_fields=("safety_identifier", "metadata", "service_tier"))
        user = '{"device_id":"d","session_id":"s-1"}' + " " * 60
        found = written(user=user, metadata={"a": "b"}, service_tier="standard_only", target=known)
        self.assertEqual((found["prompt_cache_key"], len(found["safety_identifier"])), ("s-1", 64))
        self.assertEqual((found["metadata"], found["service_tier"]), ({"a": "b"}, "default"))
        self.assertEqual(written(cache_key="mine", user=user, target=known)["prompt_cache_key"], "mine")
        found2 = prepared(user="u", metadata={"a": "b"}, service_tier="priority", cache_key="k")
        self.assertEqual(found2.dropped, ("metadata", "service_tier"))

    def test_codex(self) -> None:
        """The backend that only streams and keeps nothing gets its own path and form."""
        found = prepared(target=CODEX, user='{"session_id":"s"}')
        body = splice.loads(found.body)
        self.assertEqual(
            (found.path, body["stream"], body["store"], body["instructions"]), (b"/responses", True, False, "")
        )
        self.assertEqual((body["include"], body["prompt_cache_key"]), (["reasoning.encrypted_content"], "s"))
        self.assertEqual(found.dropped, ())

    def test_unread(self) -> None:
        """What nobody could read of the client's request is noted."""
        self.assertEqual(prepared(unread=("context_management",)).dropped, ("context_management",))

    def test_count(self) -> None:
        """A count is asked with what is read, not with what shapes the answer."""
        conversation = Conversation("anthropic", "m", (ASK,), system=(Text("s"),), tools=(Tool("f"),), max_output=5,
                                    sampling=Sampling(temperature=1), stream=True)  # fmt: skip
        self.assertEqual(
            set(splice.loads(write_count(conversation, OPENAI).body)), {"model", "instructions", "input", "tools"}
        )

    def test_surrogates(self) -> None:
        """Half a character does not stop a request."""
        self.assertIn(b'"\\ud83d"', prepared(Turn("user", (Text("\ud83d"),))).body)
