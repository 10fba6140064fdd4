"""Properties of the Gemini dialect over made-up requests and answers: nothing raises, cuts do not matter."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..conversation import Conversation, ReasoningControl
from ..dialects.gemini import GeminiDialect
from ..dialects.gemini_answer import StreamWriter, WholeWriter
from ..dialects.gemini_stream import GeminiEvents
from ..errors import RouterError
from ..events import End, Event, Failed, Finish, Start
from ..interfaces import AnswerContext, Target
from ..sequencer import Sequencer
from ..settings import Capabilities

TARGET = Target("gemini", "g", Capabilities(thinking_signature="gemini", thought_signature="required"))
MEMBERS = [
    "parts",
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "name",
    "args",
    "id",
    "partialArgs",
    "willContinue",
    "web",
    "uri",
    "segment",
    "startIndex",
    "endIndex",
    "mimeType",
    "data",
    "jsonPath",
    "stringValue",
    "code",
    "status",
    "message",
    "functionDeclarations",
    "parameters",
    "mode",
    "functionCallingConfig",
    "thinkingConfig",
    "thinkingBudget",
    "stopSequences",
    "blockReason",
    "response",
    "type",
    "properties",
]

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.text(max_size=4)
    | st.sampled_from(
        ["STOP", "SAFETY", "model", "user", "$.a[0]", "image/png", "text/plain", "cnQxLzzz", "AUTO", 1.5]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=15,
)
calls = st.dictionaries(st.sampled_from(["name", "id", "args", "partialArgs", "willContinue"]), values, max_size=4)
parts = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=5) | values,
        "thought": st.booleans(),
        "thoughtSignature": st.sampled_from(["AAEC", "cnQxLzzz"]) | values,
        "functionCall": calls | values,
        "functionResponse": values,
        "inlineData": values,
        "fileData": values,
        "executableCode": values,
    },
)
candidates = st.fixed_dictionaries(
    {},
    optional={
        "content": st.fixed_dictionaries({"parts": st.lists(parts, max_size=3)}) | values,
        "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "OTHER"]) | values,
        "groundingMetadata": st.dictionaries(
            st.sampled_from(["groundingChunks", "groundingSupports", "webSearchQueries"]), values
        ),
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(candidates, max_size=2),
        "usageMetadata": st.dictionaries(st.sampled_from(["promptTokenCount", "candidatesTokenCount"]), values),
        "promptFeedback": values,
        "error": values,
        "responseId": values,
    },
)
contents = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "model", None]) | values, "parts": st.lists(parts, max_size=4)}
)
requests = st.fixed_dictionaries(
    {"contents": st.lists(contents | values, max_size=5)},
    optional={"tools": values, "toolConfig": values, "generationConfig": values, "systemInstruction": values},
)


def read(body: bytes, size: int) -> list[Event]:
    reader = GeminiEvents(True, TARGET, {}, "q")
    out: list[Event] = []
    for at in range(0, len(body), size):
        out += reader.feed(body[at : at + size])
    return out + reader.finish()


class AnswerProperties(SynchronousTestCase):
    """Answers."""

    @settings(max_examples=200, deadline=None)
    @given(st.lists(chunks | values, max_size=5), st.sampled_from([b"\n\n", b"\r\n\r\n"]), st.booleans())
    def test_any(self, told: list[Any], end: bytes, show: bool) -> None:
        """Any stream is read the same however it is cut, ends once, and is written as JSON with at most one end."""
        body = b"".join(b"data: " + json.dumps(each).encode() + end for each in told)
        events = read(body, len(body) + 1)
        self.assertIsInstance(events[0], Start)
        self.assertIsInstance(events[-1], (End, Failed))
        self.assertEqual(sum(isinstance(each, (Start, End, Failed)) for each in events), 2)
        self.assertLessEqual(sum(isinstance(each, Finish) for each in events), 1)
        for size in (1, 7):
            self.assertEqual(read(body, size), events)
        reasoning = ReasoningControl(show="summarised") if show else None
        context = AnswerContext(Conversation("gemini", "m", (), reasoning=reasoning), TARGET, "q", 1)
        for writer in (StreamWriter(context, False), WholeWriter(context)):
            sequencer, out = Sequencer(False), b""
            for ordered in (each for event in events for each in sequencer.take(event)):
                if isinstance(ordered, Failed):
                    out += writer.fail(RouterError(ordered.verdict.kind, "x"))
                    break
                out += writer.write(ordered)
            if out:
                answers = json.loads(out)
                for answer in answers if isinstance(answers, list) else [answers]:
                    self.assertTrue("error" in answer or answer["candidates"][0]["content"]["parts"])


class RequestProperties(SynchronousTestCase):
    """Requests."""

    @settings(max_examples=200, deadline=None)
    @given(requests, st.sampled_from([b"generateContent", b"countTokens"]))
    def test_any(self, body: dict[str, Any], method: bytes) -> None:
        """Any request is prepared as JSON, or translated, or refused with words; nothing else is raised."""
        raw, dialect = json.dumps(body).encode(), GeminiDialect()
        try:
            look = dialect.look(raw, b"/v1beta/models/m:" + method)
        except RouterError as error:
            self.assertTrue(error.message)
            return
        json.loads(dialect.prepare(raw, look, TARGET).body)
        dialect.last_user_text(raw)
        dialect.routing_text(raw)
        try:
            json.loads(dialect.write_request(dialect.read_request(raw, look), TARGET).body)
        except RouterError as error:
            self.assertTrue(error.message)
