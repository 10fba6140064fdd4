"""Tests for :mod:`mportrouter.dialects.anthropic_parts`: content blocks and cache marks."""

from __future__ import annotations

import base64
import json
from typing import Any

from ..conversation import (
    CacheMark,
    Document,
    Foreign,
    Image,
    Media,
    Opaque,
    Reasoning,
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
from .test_anthropic_writing import OWN, TOOL, USER, WritingTestCase, prepare, write

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
PDF = base64.b64encode(b"%PDF-1.7\n" + bytes(16)).decode()


def blocks(*parts: Any, role: str = "user", **options: Any) -> Any:
    """The blocks of one message."""
    before = (USER,) if role == "assistant" else ()
    messages = write(*before, Turn(role, parts), *((USER,) if before else ()), **options)["messages"]
    return messages[len(before)]["content"]


class BlockTests(WritingTestCase):
    """Content blocks."""

    def test_texts(self) -> None:
        """Texts keep their characters, blank ones go, and a refusal is a text."""
        self.assertEqual(blocks(Text(" a\n"), Text(" \n"), Text("")), [{"type": "text", "text": " a\n"}])
        self.assertEqual(blocks(Refusal("no"), role="assistant"), [{"type": "text", "text": "no"}])
        self.assertEqual(blocks(Text("a\ud83d\u2028")), [{"type": "text", "text": "a\ud83d\u2028"}])

    def test_images(self) -> None:
        """A picture has the type that its bytes have; one that is a PDF is a document; unknown ones are refused."""
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        self.assertEqual(
            blocks(Image(Media("base64", PNG, "image/jpeg"), "high")), [{"type": "image", "source": source}]
        )
        self.assertEqual(
            blocks(Image(Media("url", "https://a/b.png"))),
            [{"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}],
        )
        (document,) = blocks(Image(Media("base64", PDF, "application/pdf")))
        self.assertEqual((document["type"], document["source"]["media_type"]), ("document", "application/pdf"))
        for media, columns in (
            (Media("base64", "AAAA", "image/bmp"), {}),
            (Media("file", "file_1"), {}),
            (Media("url", "gs://a/b"), {}),
            (Media("url", "https://a"), {"url_images": False}),
            (Media("url", "https://a"), {"images": "refused"}),
            (Media("base64", PNG, "image/png"), {"images": "ignored"}),
        ):
            self.refused("`image_url`", Turn("user", (Image(media),)), columns=columns)

    def test_documents(self) -> None:
        """Documents are PDF, plain text, a URL or parts, with title, context and citations; others are refused."""
        told = Document(Media("base64", PDF, filename="a.pdf"), "", "C", True)
        self.assertEqual(
            blocks(told),
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "title": "a.pdf",
                    "context": "C",
                    "citations": {"enabled": True},
                }
            ],
        )
        text = {"type": "text", "media_type": "text/plain", "data": "wörds"}
        coded = base64.b64encode("wörds".encode()).decode()
        for media, source in (
            (Media("text", "wörds"), text),
            (Media("base64", coded, "text/markdown"), text),
            (Media("url", "https://a/b.pdf"), {"type": "url", "url": "https://a/b.pdf"}),
            (Media("parts", parts=(Text("w"),)), {"type": "content", "content": [{"type": "text", "text": "w"}]}),
        ):
            self.assertEqual(blocks(Document(media))[0]["source"], source)
        for media in (Media("file", "f"), Media("base64", "AAAA", "application/msword")):
            self.refused("`file`", Turn("user", (Document(media),)))
        columns = {"documents": "refused"}
        self.refused("`file`", Turn("user", (told,)), columns=columns)
        self.assertEqual(
            blocks(Document(Media("text", "w"), "T"), columns=columns), [{"type": "text", "text": "T\n\nw"}]
        )

    def test_sound(self) -> None:
        """Sound is refused by the client's own name for it."""
        self.refused("`input_audio`", Turn("user", (Sound(Media("base64", "AAAA", "audio/wav")),)))

    def test_calls_and_results(self) -> None:
        """Calls have objects, results stand first in the next message, errors are marked, nothing is nothing."""
        turns = (
            USER,
            Turn(
                "assistant",
                (Text("x"), ToolCall("a", "f", '{"b": 1.0}'), ToolCall("b", "f", ""), ToolCall("c", "f", "[1]")),
            ),
            Turn("user", (ToolResult("b", (Text("r"),), is_error=True),)),
            Turn("user", (Text("and"), ToolResult("a", (Text("r"), Image(Media("url", "https://a")))))),
            Turn("user", (ToolResult("c"),)),
        )
        body = prepare(*turns, tools=(TOOL,)).body
        self.assertIn(b'"input":{"b": 1.0}', body)
        messages = json.loads(body)["messages"]
        self.assertEqual([one["role"] for one in messages], ["user", "assistant", "user"])
        self.assertEqual(
            [block.get("input") for block in messages[1]["content"]], [None, {"b": 1.0}, {}, {"_raw": "[1]"}]
        )
        results = messages[2]["content"]
        self.assertEqual([block["type"] for block in results], ["tool_result"] * 3 + ["text"])
        self.assertEqual([block["tool_use_id"] for block in results[:3]], ["a", "b", "c"])
        self.assertEqual([block["type"] for block in results[0]["content"]], ["text", "image"])
        self.assertEqual(results[1], {"type": "tool_result", "tool_use_id": "b", "content": "r", "is_error": True})
        self.assertEqual(results[2], {"type": "tool_result", "tool_use_id": "c"})

    def test_unanswered(self) -> None:
        """A call that nobody answered is answered; a result without its call is words."""
        body = write(USER, Turn("assistant", (ToolCall("a", "f", "{}"),)), USER, tools=(TOOL,))
        self.assertEqual([block["type"] for block in body["messages"][2]["content"]], ["tool_result", "text"])
        body = write(Turn("user", (ToolResult("x", (Text("r"),)),)))
        self.assertEqual(body["messages"][0]["content"][0]["type"], "text")

    def test_ids(self) -> None:
        """An illegal id is made legal, the same for call and result, and one used twice is unique."""
        ids = ("no way!", "a", "a")
        turns: tuple[Turn, ...] = (USER,)
        for id in ids:
            turns += (Turn("assistant", (ToolCall(id, "f", "{}"),)), Turn("user", (ToolResult(id),)))
        messages = write(*turns, tools=(TOOL,))["messages"]
        called = [one["content"][0]["id"] for one in messages if one["role"] == "assistant"]
        answered = [one["content"][0]["tool_use_id"] for one in messages[2:] if one["role"] == "user"]
        self.assertEqual(called, answered)
        self.assertEqual(len(set(called)), 3)
        for id in called:
            self.assertRegex(id, "^[a-zA-Z0-9_-]+$")

    def test_reasoning(self) -> None:
        """Anthropic gets its own state back, byte for byte, and nobody else's; others may get bare text."""
        redacted = Opaque("anthropic", "", "redacted", "xx")
        foreign = Opaque("openai", "g", "encrypted", "s")
        parts = (Reasoning("t", OWN), Reasoning("", redacted), Reasoning("f", foreign), Reasoning("u"), Text("x"))
        self.assertEqual(
            blocks(*parts, role="assistant"),
            [
                {"type": "thinking", "thinking": "t", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "text", "text": "x"},
            ],
        )
        mine = Opaque("minimax", "M3", "signature", "own")
        columns = {"thinking_signature": "minimax", "redacted_thinking": False}
        self.assertEqual(
            blocks(*parts, Reasoning("m", mine), role="assistant", columns=columns)[-1],
            {"type": "thinking", "thinking": "m", "signature": "own"},
        )
        self.assertEqual(
            blocks(Reasoning("u"), Text("x"), role="assistant", columns=columns)[0],
            {"type": "thinking", "thinking": "u", "signature": ""},
        )

    def test_other_dialects_parts(self) -> None:
        """What another dialect alone can say is told in words, searches too."""
        search = WebSearch("w", "q", (SearchHit("https://a", "A"),))
        shown = blocks(search, Foreign("gemini", "executableCode", {}, "code"), role="assistant")
        self.assertEqual([block["type"] for block in shown], ["text", "text"])
        self.assertIn("https://a", shown[0]["text"])

    def test_prefill(self) -> None:
        """An assistant's beginning is gone on with, without white space at its end, or the user asks to continue."""
        turns = (USER, Turn("assistant", (Text("{ "),)))
        self.assertEqual(write(*turns)["messages"][-1]["content"], [{"type": "text", "text": "{"}])
        last = write(*turns, columns={"prefill": False})["messages"][-1]
        self.assertEqual((last["role"], last["content"][0]["text"]), ("user", "Continue."))

    def test_assistant_first(self) -> None:
        """The user speaks first."""
        self.assertEqual(write(Turn("assistant", (Text("a"),)), USER)["messages"][0]["role"], "user")

    def test_longer_conversation(self) -> None:
        """A longer conversation begins with the very bytes of a shorter one."""
        turns = (USER, Turn("assistant", (Text("x\ud83d"), ToolCall("a", "f", "{}"))), Turn("user", (ToolResult("a"),)))
        more = (Turn("assistant", (Text("é"),)), USER)
        for columns in ({}, {"cache_marks": "cache_control"}):
            short = prepare(*turns, tools=(TOOL,), system=(Text("s"),), columns=columns).body
            long = prepare(*turns, *more, tools=(TOOL,), system=(Text("s"),), columns=columns).body
            self.assertTrue(long.startswith(short[:-2]), (short, long))


class CacheTests(WritingTestCase):
    """Where prompt caches may end."""

    def test_nobody_marks(self) -> None:
        """A client that cannot mark is served: the last tool, the last instruction, and the end of the conversation."""
        columns = {"cache_marks": "cache_control"}
        asked = {"tools": (TOOL, Tool("g")), "system": (Text("a"), Text("b"))}
        body = write(**asked, columns=columns)
        mark = {"type": "ephemeral"}
        self.assertEqual([tool.get("cache_control") for tool in body["tools"]], [None, mark])
        self.assertEqual([block.get("cache_control") for block in body["system"]], [None, mark])
        self.assertEqual(body["cache_control"], mark)
        own = write(**asked, columns={**columns, "strip_fields": ("cache_control",)})
        self.assertNotIn("cache_control", own)
        self.assertEqual(own["messages"][-1]["content"][-1]["cache_control"], mark)
        self.assertNotIn(b"cache_control", prepare(**asked).body)

    def test_client_marks(self) -> None:
        """A client's own marks stay, four at most, and none is added."""
        marked = tuple(Text(f"t{n}", cache=CacheMark("12h" if n == 4 else "30m")) for n in range(5))
        body = write(
            Turn("user", marked),
            system=(Text("s", cache=CacheMark()),),
            tools=(TOOL,),
            columns={"cache_marks": "cache_control"},
        )
        found = [block.get("cache_control") for block in body["messages"][0]["content"]]
        self.assertEqual(
            found, [None, None, {"type": "ephemeral"}, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]
        )
        self.assertEqual(body["system"][0]["cache_control"], {"type": "ephemeral"})
        self.assertNotIn("cache_control", body)
        self.assertNotIn("cache_control", body["tools"][0])
