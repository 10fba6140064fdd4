"""Tests for :mod:`mportrouter.dialects.gemini_answer`."""

from __future__ import annotations

import json
from typing import Any

from google.genai import errors, types
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import (
    Citation,
    Conversation,
    Foreign,
    Opaque,
    ReasoningControl,
    SearchHit,
    ToolCall,
    Turn,
    WebSearch,
)
from ..dialects import gemini_signatures
from ..dialects.gemini_answer import StreamWriter, WholeWriter
from ..dialects.gemini_stream import GeminiEvents
from ..errors import Kind, RouterError
from ..events import (
    Cite,
    Close,
    Delta,
    End,
    Event,
    Finish,
    Hidden,
    Open,
    Other,
    Searched,
    Sign,
    Start,
    Tally,
)
from ..interfaces import AnswerContext, Target
from ..records import Usage
from ..sequencer import Sequencer
from ..settings import Capabilities
from .gemini_client import streamed, whole

SHOWN = ReasoningControl("on", show="summarised")
CLAUDE = Opaque("anthropic", "claude", "signature", "c1")
CODEX = Opaque("openai", "gpt", "encrypted", "o1", "rs_1")
OWN = Opaque("gemini", "g", "thought", "AAEC")
TEXT = (Open(1, "text"), Delta(1, "one "), Delta(1, "twö \ud83d"), Close(1))
CALL = (Open(2, "tool", "c1", "f"), Delta(2, '{"a"'), Delta(2, ":1}"), Close(2))
THOUGHT = (Open(3, "reasoning"), Delta(3, "hm"), Close(3))


def context(reasoning: ReasoningControl | None = SHOWN, turns: tuple[Turn, ...] = ()) -> AnswerContext:
    conversation = Conversation("gemini", "asked", turns, reasoning=reasoning)
    return AnswerContext(conversation, Target("openai", "real", Capabilities()), "q", 1, estimate=55)


def written(writer: Any, *events: Event, finish: Finish | None = None, usage: Usage | None = None) -> bytes:
    tally = () if usage is None else (Tally(usage),)
    last = finish or Finish("end")
    return b"".join(writer.write(each) for each in (Start("up1", "real"), *events, *tally, last, End()))


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each held to the dialect: ``data:`` with a space, a candidate with a part, its head."""
    *found, rest = body.split(b"\r\n\r\n")
    assert rest == b""
    out = []
    for each in found:
        assert each.startswith(b"data: ") and b"\n" not in each
        value = json.loads(each[6:])
        types.GenerateContentResponse.model_validate(value)
        assert (value["modelVersion"], value["responseId"]) == ("asked", "up1")
        (candidate,) = value["candidates"]
        assert candidate["index"] == 0 and candidate["content"]["role"] == "model" and candidate["content"]["parts"]
        out.append(value)
    assert [("finishReason" in each["candidates"][0]) for each in out] == [False] * (len(out) - 1) + [True]
    assert "usageMetadata" in out[-1]
    return out


def parts(*events: Event, **options: Any) -> list[dict[str, Any]]:
    """The parts of the stream but for the empty one at its end; the whole answer must have the same."""
    reasoning = options.pop("reasoning", SHOWN)
    streamed_parts = [
        part
        for each in chunks(written(StreamWriter(context(reasoning)), *events, **options))
        for part in each["candidates"][0]["content"]["parts"]
    ]
    if streamed_parts[-1] == {"text": ""}:
        streamed_parts.pop()
    answer = json.loads(written(WholeWriter(context(reasoning)), *events, **options))
    whole_parts = answer["candidates"][0]["content"]["parts"]
    if whole_parts[-1:] == [{"text": ""}]:
        whole_parts.pop()
    assert joined(streamed_parts) == joined(whole_parts), (streamed_parts, whole_parts)
    return streamed_parts


def joined(found: list[dict[str, Any]]) -> list[Any]:
    """Texts in a row in one, with what signs them."""
    out: list[Any] = []
    for part in found:
        if "text" in part:
            key = ("text", part.get("thought", False))
            if out and out[-1][0] == key and (not out[-1][2] or not part["text"]):
                out[-1] = [key, out[-1][1] + part["text"], out[-1][2] or part.get("thoughtSignature")]
            elif part["text"] or "thoughtSignature" in part:
                out.append([key, part["text"], part.get("thoughtSignature")])
        else:
            out.append([("other",), part, None])
    # A text that begins signed goes on unsigned in a stream.
    for at in range(len(out) - 1, 0, -1):
        if out[at][0] == out[at - 1][0] == ("text", False) and out[at][2] is None:
            out[at - 1][1] += out.pop(at)[1]
    return out


class StreamTests(SynchronousTestCase):
    """Streams."""

    def test_text(self) -> None:
        """Each delta is an event at once; the end has reason and usage."""
        writer = StreamWriter(context())
        self.assertEqual(writer.write(Start("up1")), b"")
        self.assertEqual(writer.write(Open(1, "text")), b"")
        for text in ("a", 'b \ud83d\u2028"\\', "c"):
            body = writer.write(Delta(1, text))
            (part,) = json.loads(body[6:])["candidates"][0]["content"]["parts"]
            self.assertEqual(part, {"text": text})
            self.assertTrue(body.isascii())
        self.assertEqual(writer.write(Close(1)), b"")

    def test_template(self) -> None:
        """What is said to stand around a text does, for texts and for thoughts that are shown."""
        for kind, thought in (("text", False), ("reasoning", True)):
            for events in (True, False):
                writer = StreamWriter(context(), events)
                writer.write(Start("up1"))
                writer.write(Open(1, kind))
                self.assertIsNone(writer.template())
                writer.write(Delta(1, "first"))
                before, after = writer.template()
                self.assertEqual(writer.write(Delta(1, "more")), before + b"more" + after)
                self.assertEqual(b"thought" in after, thought)
        hidden = StreamWriter(context(None))
        hidden.write(Open(1, "reasoning"))
        self.assertIsNone(hidden.template())
        self.assertIsNone(WholeWriter(context()).template())

    def test_passed(self) -> None:
        """A text that was written without the writer counts for the places of citations."""
        writer = StreamWriter(context())
        out = [writer.write(event) for event in (Open(1, "text"), Delta(1, "ab"))]
        writer.passed("cd")
        cite = Cite(1, Citation("https://a", start=2, end=4))
        out += [writer.write(event) for event in (cite, Close(1), Finish("end"), End())]
        support = json.loads(out[-1][6:])["candidates"][0]["groundingMetadata"]["groundingSupports"][0]
        self.assertEqual(support["segment"], {"startIndex": 2, "endIndex": 4, "text": "cd"})

    def test_calls(self) -> None:
        """A call is written whole at its close, with its arguments parsed."""
        writer = StreamWriter(context())
        self.assertEqual(b"".join(writer.write(each) for each in CALL[:-1]), b"")
        self.assertEqual(parts(*TEXT, *CALL)[-1], {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}})

    def test_arguments(self) -> None:
        """Arguments that are no object are kept and never dropped; none are an empty object."""
        for text, args in (
            ("", {}),
            ("  ", {}),
            ("[1]", {"_raw": "[1]"}),
            ('{"a":', {"_raw": '{"a":'}),
            ('{"a":"\ud83d"}', {"a": "\ud83d"}),
            ('{"a":NaN}', {"_raw": '{"a":NaN}'}),
        ):
            deltas = (Delta(2, text),) if text else ()
            (part,) = parts(Open(2, "tool", "i", "f"), *deltas, Close(2))
            self.assertEqual(part["functionCall"]["args"], args, text)

    def test_ids(self) -> None:
        """A missing id, and one that the history or the answer has, is made up, and the same again the next time."""
        turns = (Turn("assistant", (ToolCall("old", "f", "{}"),)),)
        events = [
            event
            for key, id in enumerate(("old", "new", "new", ""))
            for event in (Open(key, "tool", id, "f"), Close(key))
        ]
        found = []
        for _ in range(2):
            body = written(StreamWriter(context(turns=turns)), *events)
            calls = [each["candidates"][0]["content"]["parts"][0] for each in chunks(body)][:-1]
            found.append([call["functionCall"]["id"] for call in calls])
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0][1], "new")
        self.assertEqual(len({*found[0], "old"}), 5)

    def test_array(self) -> None:
        """Without ``alt=sse`` the stream is one JSON array, with its last element an error where it broke."""
        writer = StreamWriter(context(), False)
        body = written(writer, *TEXT, *CALL)
        self.assertEqual(writer.content_type, b"application/json; charset=UTF-8")
        found = json.loads(body)
        texts = [part.get("text") for each in found for part in each["candidates"][0]["content"]["parts"]]
        self.assertEqual(texts, ["one ", "twö \ud83d", None, ""])
        self.assertEqual(found[-1]["candidates"][0]["finishReason"], "STOP")
        for events in ((), (Start(), *TEXT[:2])):
            writer = StreamWriter(context(), False)
            body = b"".join(writer.write(each) for each in events)
            found = json.loads(body + writer.fail(RouterError(Kind.CUT, "cut")))
            self.assertEqual(found[-1]["error"]["code"], 502)
        self.assertEqual(len(json.loads(written(StreamWriter(context(), False)))), 1)

    def test_fail(self) -> None:
        """A stream that breaks ends in an error of the dialect and without a reason to stop."""
        writer = StreamWriter(context())
        body = b"".join(writer.write(each) for each in (Start(), *TEXT[:2]))
        body += writer.fail(RouterError(Kind.OVERLOADED, "busy", 2, by="anthropic"))
        last = json.loads(body.split(b"\r\n\r\n")[-2][6:])
        self.assertEqual((last["error"]["code"], last["error"]["message"]), (503, "busy"))
        self.assertNotIn(b"finishReason", body)
        self.assertRaises(errors.ServerError, streamed, body)
        self.assertEqual(WholeWriter(context()).fail(RouterError(Kind.CUT, "cut")), b"")

    def test_deterministic(self) -> None:
        """The same events give the same bytes, also where there is no id."""
        events = (Start(), *TEXT, Open(9, "tool", "", "f"), Close(9), Finish("end"), End())
        for make in (StreamWriter, WholeWriter):
            one, two = make(context()), make(context())
            self.assertEqual([one.write(each) for each in events], [two.write(each) for each in events])


class EndTests(SynchronousTestCase):
    """The end of an answer."""

    def test_reasons(self) -> None:
        """Each neutral stop has its reason; a category of the dialect's own is kept."""
        for finish, reason in (
            (Finish("end"), "STOP"),
            (Finish("tool_use"), "STOP"),
            (Finish("stop_sequence", "X"), "STOP"),
            (Finish("length"), "MAX_TOKENS"),
            (Finish("context_full"), "MAX_TOKENS"),
            (Finish("refusal", category="cyber"), "SAFETY"),
            (Finish("content_filter", category="PROHIBITED_CONTENT"), "PROHIBITED_CONTENT"),
            (Finish("pause"), "OTHER"),
        ):
            last = chunks(written(StreamWriter(context()), *TEXT, finish=finish))[-1]["candidates"][0]
            self.assertEqual(last["finishReason"], reason)
        refused = chunks(written(StreamWriter(context()), finish=Finish("refusal", explanation="no")))
        self.assertEqual(refused[-1]["candidates"][0]["finishMessage"], "no")
        self.assertEqual(len(refused), 1)

    def test_usage(self) -> None:
        """The prompt includes what was cached, thoughts are apart, the total is their sum; else the estimate."""
        usage = Usage(input=10, cache_read=5, cache_write_5m=3, cache_write_1h=2, output=20, reasoning=8)
        for body in (written(StreamWriter(context()), usage=usage)[6:], written(WholeWriter(context()), usage=usage)):
            self.assertEqual(
                json.loads(body)["usageMetadata"],
                {
                    "promptTokenCount": 20,
                    "cachedContentTokenCount": 5,
                    "candidatesTokenCount": 12,
                    "thoughtsTokenCount": 8,
                    "totalTokenCount": 40,
                },
            )
        self.assertEqual(json.loads(written(WholeWriter(context())))["usageMetadata"]["promptTokenCount"], 55)

    def test_grounding(self) -> None:
        """Citations stand at bytes of the whole text, pages once, queries beside them."""
        events = (
            Open(1, "text"),
            Delta(1, "ä"),
            Close(1),
            *CALL,
            Open(4, "text"),
            Delta(4, "xöy"),
            Cite(4, Citation("https://a", "A", start=1, end=3)),
            Cite(4, Citation("https://b", start=1, end=3)),
            Cite(4, Citation("https://a", "A")),
            Cite(4, Citation(raw={"type": "char_location"}, dialect="anthropic")),
            Close(4),
            Searched(5, WebSearch("s", "what", (SearchHit("https://c", "C"), SearchHit("https://a")))),
        )
        for writer in (StreamWriter(context()), WholeWriter(context())):
            body = written(writer, *events)
            last = json.loads(body if body[:1] == b"{" else body.split(b"\r\n\r\n")[-2][6:])
            grounding = last["candidates"][0]["groundingMetadata"]
            self.assertEqual(grounding["webSearchQueries"], ["what"])
            self.assertEqual(
                [each["web"]["uri"] for each in grounding["groundingChunks"]], ["https://c", "https://a", "https://b"]
            )
            self.assertEqual(
                grounding["groundingSupports"],
                [
                    {"segment": {"startIndex": 3, "endIndex": 6, "text": "öy"}, "groundingChunkIndices": [1, 2]},
                    {"segment": {"startIndex": 2, "endIndex": 6, "text": "xöy"}, "groundingChunkIndices": [1]},
                ],
            )
            types.GenerateContentResponse.model_validate(last)

    def test_official_client(self) -> None:
        """The official client reads the same text, calls, thoughts, reason and usage from both forms."""
        usage = Usage(input=3, output=4)
        events = (*THOUGHT, *TEXT[:2], Close(1), *CALL)
        finish = Finish("tool_use")
        answer = whole(written(WholeWriter(context()), *events, finish=finish, usage=usage))
        pieces = streamed(written(StreamWriter(context()), *events, finish=finish, usage=usage))
        for found in ([answer], pieces):
            gathered = [part for each in found for part in each.candidates[0].content.parts]
            self.assertEqual("".join(part.text for part in gathered if part.text and not part.thought), "one ")
            self.assertEqual("".join(part.text for part in gathered if part.text and part.thought), "hm")
            (call,) = [part.function_call for part in gathered if part.function_call]
            self.assertEqual((call.id, call.name, call.args), ("c1", "f", {"a": 1}))
            self.assertEqual(found[-1].candidates[0].finish_reason, "STOP")
            self.assertEqual(found[-1].usage_metadata.total_token_count, 7)


class ReasoningTests(SynchronousTestCase):
    """Thoughts and what signs them."""

    def test_shown(self) -> None:
        """Thoughts are shown to whom asked for them, and to nobody else; but something tells that the answer began."""
        self.assertEqual(parts(*THOUGHT, *TEXT)[0], {"text": "hm", "thought": True})
        for reasoning in (None, ReasoningControl("on"), ReasoningControl("on", show="omitted")):
            found = parts(*THOUGHT, *TEXT, reasoning=reasoning)
            self.assertNotIn("thought", json.dumps(found))
            self.assertEqual("".join(part["text"] for part in found), "one twö \ud83d")
            writer = StreamWriter(context(reasoning))
            self.assertIn(b'"text":""', writer.write(Open(3, "reasoning")))
            self.assertEqual(writer.write(Delta(3, "hm")) + writer.write(Close(3)), b"")

    def test_signature_of_text(self) -> None:
        """What signs the thought's text stays with it, in an envelope, or goes with it."""
        signed = (*THOUGHT[:2], Sign(3, CLAUDE), Close(3), *CALL)
        found = parts(*signed)
        self.assertEqual(gemini_signatures.read(found[1]["thoughtSignature"]), CLAUDE)
        self.assertTrue(found[1]["thought"])
        self.assertNotIn("thoughtSignature", found[-1])
        self.assertNotIn("thoughtSignature", json.dumps(parts(*signed, reasoning=None)))
        # Where the provider withheld the text there is nothing to keep together.
        found = parts(Open(3, "reasoning"), Sign(3, CLAUDE), Close(3), *CALL, reasoning=None)
        self.assertEqual(gemini_signatures.read(found[-1]["thoughtSignature"]), CLAUDE)

    def test_state_that_holds_the_reasoning(self) -> None:
        """Encrypted reasoning goes with the part that follows, shown or not, else with an empty text at the end."""
        for reasoning in (SHOWN, None):
            for before in ((*THOUGHT[:2], Sign(3, CODEX), Close(3)), (Hidden(3, CODEX),)):
                found = parts(*before, *CALL, reasoning=reasoning)
                self.assertEqual(gemini_signatures.read(found[-1]["thoughtSignature"]), CODEX)
                found = [part for part in parts(*before, *TEXT, reasoning=reasoning) if "thoughtSignature" in part]
                self.assertEqual(gemini_signatures.read(found[0]["thoughtSignature"]), CODEX)
                self.assertTrue(found[0]["text"].startswith("one "))
                found = parts(*before, reasoning=reasoning)
                self.assertEqual(found[-1]["text"], "")
                self.assertEqual(gemini_signatures.read(found[-1]["thoughtSignature"]), CODEX)

    def test_several(self) -> None:
        """No state is lost where several come before one part."""
        other = Opaque("openai", "gpt", "encrypted", "o2")
        found = parts(Hidden(1, CODEX), Hidden(2, other), *THOUGHT, Hidden(5, CODEX), *CALL)
        values = [
            gemini_signatures.read(part["thoughtSignature"]).value for part in found if "thoughtSignature" in part
        ]
        self.assertEqual(values, ["o1", "o2", "o1"])

    def test_own(self) -> None:
        """A signature of the dialect's own provider is the very bytes, on the part it came with."""
        found = parts(Open(2, "tool", "c", "f", opaque=OWN), Close(2))
        self.assertEqual(found[0]["thoughtSignature"], "AAEC")
        found = parts(*TEXT[:2], Sign(1, OWN), Close(1))
        self.assertEqual(found[-1], {"text": "", "thoughtSignature": "AAEC"})
        foreign = parts(Open(2, "tool", "c", "f", opaque=Opaque("vertex", "g", "thought", "x")), Close(2))
        self.assertEqual(gemini_signatures.read(foreign[0]["thoughtSignature"]).origin, "vertex")

    def test_official_client_keeps_them(self) -> None:
        """What the official client gives back of a signature is read as what it was."""
        answer = whole(written(WholeWriter(context()), Hidden(1, CODEX), *CALL))
        part = answer.candidates[0].content.parts[0]
        sent = json.loads(part.model_dump_json(by_alias=True, exclude_none=True))["thoughtSignature"]
        self.assertEqual(gemini_signatures.read(sent), CODEX)
        self.assertIsNone(gemini_signatures.read(sent[:12] + "!" + sent[13:]))


class ForeignTests(SynchronousTestCase):
    """Parts that one dialect alone has."""

    def test_other(self) -> None:
        """The dialect's own parts are written as they are, another's by its words, one without words not at all."""
        own = {"executableCode": {"language": "PYTHON", "code": "1"}}
        self.assertEqual(parts(Other(1, Foreign("gemini", "executableCode", own, "x"))), [own])
        self.assertEqual(parts(Other(1, Foreign("anthropic", "y", {"type": "y"}, "words"))), [{"text": "words"}])
        self.assertEqual(parts(Other(1, Foreign("anthropic", "y", {"type": "y"}))), [])

    def test_refusal(self) -> None:
        """Words of a refusal are text."""
        found = parts(Open(1, "refusal"), Delta(1, "I can not"), Close(1), finish=Finish("refusal"))
        self.assertEqual(found, [{"text": "I can not"}])

    def test_again(self) -> None:
        """An answer of the dialect, read and written anew, is the same answer."""
        answer = {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"text": "hm", "thought": True},
                            {"text": "a", "thoughtSignature": "AAEC"},
                            {"executableCode": {"language": "PYTHON", "code": "1"}},
                            {
                                "functionCall": {"id": "i", "name": "f", "args": {"x": [1, None]}},
                                "thoughtSignature": "AAED",
                            },
                        ],
                    },
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7},
            "modelVersion": "asked",
            "responseId": "up1",
        }
        target = Target("gemini", "g", Capabilities(thinking_signature="gemini"))
        reader = GeminiEvents(False, target)
        events = reader.feed(json.dumps(answer).encode()) + reader.finish()
        sequencer, writer = Sequencer(False), WholeWriter(context())
        out = b"".join(writer.write(ordered) for event in events for ordered in sequencer.take(event))
        self.assertEqual(json.loads(out), answer)
