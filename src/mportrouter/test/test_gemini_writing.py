"""Tests for :mod:`mportrouter.dialects.gemini_writing`."""

from __future__ import annotations

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
    Part,
    Reasoning,
    ReasoningControl,
    Refusal,
    SearchHit,
    Sound,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    WebSearch,
)
from ..dialects.gemini import GeminiDialect
from ..dialects.gemini_signatures import DUMMY
from ..interfaces import Inexpressible, Prepared, Target
from ..settings import Capabilities

SCHEMA = {"type": "object", "properties": {"tz": {"type": "string"}}, "required": ["tz"]}
CLOCK = Tool("clock", "time", SCHEMA)
HI = Turn("user", (Text("hi"),))
CALL = Turn("assistant", (ToolCall("toolu_1", "clock", '{"tz":"Europe/Rome"}'),))
RESULT = Turn("user", (ToolResult("toolu_1", (Text("12:00"),)),))
OWN = Opaque("gemini", "g", "thought", "AAEC")
PICTURE = Image(Media("base64", "/+8=", "image/png"))
INLINE = {"inlineData": {"mimeType": "image/png", "data": "/+8="}}
#: As the catalogue has the newest models.
NEWEST: dict[str, Any] = {
    "thinking_signature": "gemini",
    "thought_signature": "required",
    "function_ids": True,
    "tool_images": "in_tool",
    "url_images": False,
    "reasoning_kind": "level",
    "reasoning_off": False,
    "schema_profile": "gemini_json_schema",
    "prefill": False,
    "billing_header": False,
    "server_tool_kinds": ("web_search", "web_fetch", "code_execution"),
}
OLDER: dict[str, Any] = {
    "thinking_signature": "gemini",
    "thought_signature": "optional",
    "url_images": False,
    "reasoning_kind": "budget",
    "reasoning_budget": (128, 32768),
    "schema_profile": "gemini_schema",
    "prefill": False,
    "json_with_tools": False,
    "server_tools_with_functions": False,
    "server_tool_kinds": ("web_search",),
}


def prepared(*turns: Turn, columns: dict[str, Any] | None = None, model: str = "g", **members: Any) -> Prepared:
    members.setdefault("dialect", "anthropic")
    conversation = Conversation(model="asked", turns=turns or (HI,), **members)
    target = Target("gemini", model, Capabilities(**(NEWEST if columns is None else columns)))
    found = GeminiDialect().write_request(conversation, target)
    assert found == GeminiDialect().write_request(conversation, target)
    return found


def written(*turns: Turn, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(prepared(*turns, **options).body)
    previous = None
    for content in body["contents"]:
        types.Content.model_validate(content)
        assert content["parts"] and content["role"] in ("user", "model") and content["role"] != previous
        previous = content["role"]
    assert body["contents"][0]["role"] == "user" and previous == "user"
    return body


def contents(*turns: Turn, **options: Any) -> list[Any]:
    return [content["parts"] for content in written(*turns, **options)["contents"]]


def user(*parts: Part, **options: Any) -> list[Any]:
    return contents(Turn("user", parts), **options)[0]


def model(*parts: Part, **options: Any) -> list[Any]:
    return contents(HI, Turn("assistant", parts), HI, **options)[1]


class TurnTests(SynchronousTestCase):
    """Turns and their parts."""

    def test_sample(self) -> None:
        """The sample of the mapping tables: instructions, a tool round, what the person says after it."""
        after = Turn("user", (*RESULT.parts, Text("And in Oslo?")))
        body = written(
            Turn("user", (Text("Time in Rome?"),)), CALL, after, system=(Text("Be brief."),), tools=(CLOCK,),
            max_output=500, reasoning=ReasoningControl("adaptive"), columns={**OLDER, "thought_signature": "none"},
        )  # fmt: skip
        self.assertEqual(
            body,
            {
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "Time in Rome?"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "clock", "args": {"tz": "Europe/Rome"}}}]},
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "clock", "response": {"output": "12:00"}}},
                            {"text": "And in Oslo?"},
                        ],
                    },
                ],
                "tools": [{"functionDeclarations": [{"name": "clock", "description": "time", "parameters": SCHEMA}]}],
                "generationConfig": {
                    "maxOutputTokens": 500,
                    "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": True},
                },
            },
        )

    def test_address(self) -> None:
        """Model and kind of answer stand in the path; an upstream that only streams is asked for a stream."""
        found = prepared(model="a b")
        self.assertEqual((found.path, found.query), (b"/v1beta/models/a%20b:generateContent", b""))
        for options in ({"stream": True}, {"columns": {**NEWEST, "stream_only": True}}):
            found = prepared(**options)
            self.assertEqual((found.path, found.query), (b"/v1beta/models/g:streamGenerateContent", b"alt=sse"))

    def test_system(self) -> None:
        """Instructions are one part for each text; blank ones and foreign accounting go; alone they are asked."""
        body = written(system=(Text("a"), Text(" "), Text("x-anthropic-billing-header: x\nrest"), Text("b")))
        self.assertEqual(body["systemInstruction"], {"parts": [{"text": "a"}, {"text": "rest"}, {"text": "b"}]})
        self.assertNotIn("systemInstruction", written())
        alone = Conversation("anthropic", "m", (), system=(Text("a"), Text("do it")))
        found = json.loads(GeminiDialect().write_request(alone, Target("gemini", "g", Capabilities(**NEWEST))).body)
        self.assertEqual(found["contents"], [{"role": "user", "parts": [{"text": "do it"}]}])
        middle = Turn("system", (Text("now"),))
        self.assertEqual(
            contents(HI, middle), [[{"text": "hi"}, {"text": "<system-reminder>\nnow\n</system-reminder>"}]]
        )

    def test_roles(self) -> None:
        """Turns of one role are one, empty texts are nowhere, the first and the last are the user's."""
        assistant = Turn("assistant", (Text("a"), Text(""), Text("  ")))
        found = contents(assistant, assistant, HI, HI, assistant)
        self.assertEqual([len(parts) for parts in found], [1, 2, 2, 1, 1])
        self.assertEqual(
            found[1:4], [[{"text": "a"}, {"text": "a"}], [{"text": "hi"}, {"text": "hi"}], [{"text": "a"}]]
        )
        self.assertRaises(Inexpressible, prepared, Turn("user", (Text(""),)))

    def test_parallel_calls(self) -> None:
        """All results of a step stand in one turn, in the order and number of the calls, before what is said."""
        calls = Turn("assistant", tuple(ToolCall(f"c{n}", "clock", "{}") for n in range(3)))
        one = Turn("user", (ToolResult("c2", (Text("2"),)), Text("so"), ToolResult("c0", (Text("0"),))))
        found = contents(HI, calls, one, HI, columns=OLDER)
        self.assertEqual(
            [part.get("functionResponse", part) for part in found[2]],
            [
                {"name": "clock", "response": {"output": "0"}},
                {"name": "clock", "response": {"error": "[no result]"}},
                {"name": "clock", "response": {"output": "2"}},
                {"text": "so"},
                {"text": "hi"},
            ],
        )

    def test_ids(self) -> None:
        """Ids go where they are known, the same on call and result."""
        found = contents(HI, CALL, RESULT)
        self.assertEqual(found[1][0]["functionCall"]["id"], "toolu_1")
        self.assertEqual(found[2][0]["functionResponse"]["id"], "toolu_1")
        self.assertNotIn('"id"', json.dumps(contents(HI, CALL, RESULT, columns=OLDER)))

    def test_results(self) -> None:
        """Texts are joined, nothing is an empty output, a failure is an error; JSON stays the text it was."""
        for parts, failed, response in (
            ((Text("a"), Text("b")), False, {"output": "a\nb"}),
            ((), False, {"output": ""}),
            ((Text("no"),), True, {"error": "no"}),
            ((Text('{"a": 1.0}'),), False, {"output": '{"a": 1.0}'}),
        ):
            result = Turn("user", (ToolResult("toolu_1", parts, is_error=failed),))
            self.assertEqual(contents(HI, CALL, result)[2][0]["functionResponse"]["response"], response)
        orphan = Turn("user", (ToolResult("x", (Text("late"),)),))
        self.assertIn("late", contents(orphan)[0][0]["text"])

    def test_pictures_of_results(self) -> None:
        """Pictures of a result stand in it, or after all results with a word on whose they are, or are refused."""
        result = Turn("user", (ToolResult("toolu_1", (Text("see"), PICTURE)), Text("ok")))
        found = contents(HI, CALL, result)[2]
        self.assertEqual(found[0]["functionResponse"]["parts"], [INLINE])
        found = contents(HI, CALL, result, columns=OLDER)[2]
        self.assertEqual(found[1:], [{"text": "[shown by the tool clock]"}, INLINE, {"text": "ok"}])
        with self.assertRaises(Inexpressible):
            prepared(HI, CALL, result, columns={**OLDER, "tool_images": "none"})
        with self.assertRaises(Inexpressible):
            prepared(HI, CALL, result, columns={**OLDER, "images": "refused"})

    def test_media(self) -> None:
        """Bytes go as bytes, texts as texts, what a page has only where it is fetched."""
        for part, wanted in (
            (PICTURE, [INLINE]),
            (Sound(Media("base64", "AAAA", "audio/mpeg")), [{"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}}]),
            (Document(Media("base64", "AAAA", "application/pdf"), "T", "C"),
             [{"text": "T\nC"}, {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}]),
            (Document(Media("text", "words"), "T"), [{"text": "T\n\nwords"}]),
            (Document(Media("parts", parts=(Text("a"), PICTURE))), [{"text": "a"}, INLINE]),
            (Image(Media("url", "gs://b/a.png", "image/png")),
             [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}]),
            (Image(Media("url", "https://www.youtube.com/watch?v=1")),
             [{"fileData": {"fileUri": "https://www.youtube.com/watch?v=1"}}]),
        ):  # fmt: skip
            self.assertEqual(user(part), wanted, part)
        page = Image(Media("url", "https://x/a.png"))
        self.assertRaises(Inexpressible, user, page)
        self.assertEqual(
            user(page, columns={**NEWEST, "url_images": True}), [{"fileData": {"fileUri": "https://x/a.png"}}]
        )
        file = Image(Media("file", "file_1"))
        self.assertRaises(Inexpressible, user, file)
        self.assertEqual(user(file, dialect="gemini"), [{"fileData": {"fileUri": "file_1"}}])
        self.assertRaises(Inexpressible, user, PICTURE, columns={**NEWEST, "images": "refused"})
        paper = Document(Media("base64", "AAAA", "application/pdf"))
        self.assertRaises(Inexpressible, user, paper, columns={**NEWEST, "documents": "refused"})

    def test_foreign(self) -> None:
        """The dialect's own parts go as they came; another's, and searches, as words."""
        own = {"executableCode": {"language": "PYTHON", "code": "1"}}
        self.assertEqual(model(Foreign("gemini", "executableCode", own, "x"), dialect="gemini"), [own])
        self.assertEqual(model(Foreign("anthropic", "y", {}, "words")), [{"text": "words"}])
        search = WebSearch("s", "q", (SearchHit("https://a", "A"),), ({"x": 1},), "anthropic")
        self.assertIn("https://a", model(search)[0]["text"])
        self.assertEqual(model(Refusal("no")), [{"text": "no"}])

    def test_arguments(self) -> None:
        """Arguments are the object that they say, and what is none is kept."""
        for text, args in (
            ("", {}),
            ("[1]", {"_raw": "[1]"}),
            ('{"a":"\ud83d"}', {"a": "\ud83d"}),
            ('{"a":1.0}', {"a": 1.0}),
        ):
            self.assertEqual(model(ToolCall("c", "f", text), columns=OLDER)[0]["functionCall"]["args"], args, text)


class SignatureTests(SynchronousTestCase):
    """Thought signatures."""

    def calls(self, *parts: Part, **options: Any) -> list[Any]:
        turn = Turn("assistant", parts)
        return [part.get("thoughtSignature") for part in contents(HI, turn, HI, **options)[1]]

    def call(self, id: str = "c", opaque: Opaque | None = None) -> ToolCall:
        return ToolCall(id, "f", "{}", opaque=opaque)

    def test_own(self) -> None:
        """Its own signatures go back byte for byte to where they stood."""
        self.assertEqual(self.calls(self.call("a", OWN), self.call("b")), ["AAEC", None])
        self.assertEqual(self.calls(Text("a", opaque=OWN), Text("b")), ["AAEC", None])
        self.assertEqual(self.calls(Text("", opaque=OWN)), ["AAEC"])
        self.assertEqual(self.calls(self.call("a", OWN), columns={**OLDER, "thought_signature": "none"}), [None])

    def test_as_reasoning(self) -> None:
        """One that came back as reasoning goes to the next call, else to the last part, else to an empty one."""
        thought = Reasoning("hm", OWN)
        self.assertEqual(self.calls(thought, Text("a"), self.call("a"), self.call("b")), [None, "AAEC", None])
        self.assertEqual(self.calls(Text("a"), thought, Text("b")), [None, "AAEC"])
        self.assertEqual(self.calls(self.call("a", OWN), thought), ["AAEC", "AAEC"])
        other = Reasoning("", Opaque("gemini", "g", "thought", "AAED"))
        self.assertEqual(self.calls(thought, other, self.call("a")), ["AAEC", "AAED"])
        self.assertNotIn("hm", json.dumps(model(thought, Text("a"))))

    def test_foreign(self) -> None:
        """Another provider's state never goes there."""
        for kind in ("signature", "encrypted", "redacted", "text", "thought"):
            foreign = Opaque("openai", "x", kind, "secret")
            found = prepared(
                HI, Turn("assistant", (Reasoning("r", foreign), Text("t", opaque=foreign), self.call("a", foreign))), HI
            )
            self.assertNotIn(b"secret", found.body)
            self.assertNotIn(b'"r"', found.body)

    def test_stand_in(self) -> None:
        """The first call of each step has the documented stand-in where one is required and none is there."""
        self.assertEqual(self.calls(Text("x"), self.call("a"), self.call("b")), [None, DUMMY, None])
        self.assertEqual(self.calls(self.call("a"), columns=OLDER), [None])
        found = contents(
            HI,
            CALL,
            RESULT,
            Turn("assistant", (ToolCall("t2", "clock", "{}", opaque=OWN),)),
            Turn("user", (ToolResult("t2"),)),
        )
        self.assertEqual([found[1][0]["thoughtSignature"], found[3][0]["thoughtSignature"]], [DUMMY, "AAEC"])

    def test_append_only(self) -> None:
        """A longer conversation has the same beginning, byte for byte."""
        turns = [HI, CALL, RESULT]
        short = prepared(*turns).body
        again = prepared(*turns, Turn("assistant", (Text("12"),)), HI, CALL, RESULT).body
        self.assertTrue(again.startswith(short[: short.rindex(b"}]}")]))


class RoundTripTests(SynchronousTestCase):
    """There and back."""

    def test_again(self) -> None:
        """A request of the dialect, read and written anew, is the same request."""
        body = {
            "systemInstruction": {"parts": [{"text": "s"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}, INLINE]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "a", "thoughtSignature": "AAED"},
                        {"executableCode": {"language": "PYTHON", "code": "1"}},
                        {"functionCall": {"id": "i", "name": "f", "args": {"x": [1]}}, "thoughtSignature": "AAEC"},
                        {"functionCall": {"id": "j", "name": "f", "args": {}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"id": "i", "name": "f", "response": {"output": "x"}, "parts": [INLINE]}},
                        {"functionResponse": {"id": "j", "name": "f", "response": {"error": "y"}}},
                        {"text": "so"},
                    ],
                },
            ],
            "tools": [
                {"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}]},
                {"googleSearch": {}},
            ],
            "toolConfig": {
                "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]},
                "includeServerSideToolInvocations": True,
            },
            "generationConfig": {
                "temperature": 0.5, "topP": 0.9, "topK": 3, "seed": 1, "stopSequences": ["X"], "maxOutputTokens": 7,
                "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
                "responseMimeType": "application/json",
                "responseJsonSchema": SCHEMA,
            },
        }  # fmt: skip
        dialect = GeminiDialect()
        raw = json.dumps(body).encode()
        look = dialect.look(raw, b"/v1beta/models/g:generateContent")
        found = dialect.write_request(dialect.read_request(raw, look), Target("gemini", "g", Capabilities(**NEWEST)))
        self.assertEqual(json.loads(found.body), body)
        self.assertEqual(found.dropped, ())
