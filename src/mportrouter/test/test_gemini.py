"""Tests for :mod:`mportrouter.dialects.gemini`: the joints, errors, own answers, counts and lists."""

from __future__ import annotations

import json
import zlib
from typing import Any

from google.genai import errors
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..dialects import gemini_path
from ..dialects.gemini import GeminiDialect
from ..errors import Kind, RouterError
from ..interfaces import (
    AnswerContext,
    IAnswerReader,
    IDialect,
    IEventReader,
    IEventWriter,
    Look,
    ModelRow,
    Target,
)
from ..settings import Capabilities
from .gemini_client import client, streamed, whole

TEXT = '**mode** mixed\n\n• \u00e9 \U0001f600 \ud83d \u2028 "quoted" \\ data: x'
BODY = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'
TARGET = Target("gemini", "gemini-9", Capabilities(thinking_signature="gemini"))


def looked(method: str = "generateContent", query: bytes = b"", body: bytes = BODY) -> Look:
    return GeminiDialect().look(body, f"/v1beta/models/g:{method}".encode(), query)


class DialectTests(SynchronousTestCase):
    """The dialect as the house sees it."""

    def setUp(self) -> None:
        self.dialect = GeminiDialect()

    def test_interface(self) -> None:
        """It provides what every dialect must, and so do its readers and writers."""
        verifyObject(IDialect, self.dialect)
        self.assertEqual(self.dialect.name, "gemini")
        look = looked()
        self.assertIs(self.dialect.prepare(BODY, look, TARGET).body, BODY)
        self.assertEqual(self.dialect.last_user_text(BODY), "hi")
        self.assertEqual(self.dialect.routing_text(BODY).text, "hi")
        self.assertEqual(self.dialect.session({}, BODY), "")
        context = AnswerContext(self.dialect.read_request(BODY, look), TARGET, "r", 1)
        for stream in (True, False):
            verifyObject(IAnswerReader, self.dialect.reader(stream, b"", TARGET))
            verifyObject(IEventReader, self.dialect.event_reader(stream, context))
            verifyObject(IEventWriter, self.dialect.event_writer(stream, context))

    def test_command(self) -> None:
        """The letters of a command are looked for in the turns alone."""
        body = BODY.replace(b"hi", b"/router status")
        self.assertTrue(self.dialect.might_hold_command(body, looked(body=body)))
        self.assertFalse(self.dialect.might_hold_command(BODY, looked()))
        body = b'{"systemInstruction":{"parts":[{"text":"/router"}]},' + BODY[1:]
        self.assertFalse(self.dialect.might_hold_command(body, looked(body=body)))

    def test_errors(self) -> None:
        """Each kind of failure has Google's code and status name, says who made it and when to come again."""
        for kind, status, wanted, name in (
            (Kind.BAD_REQUEST, None, 400, "INVALID_ARGUMENT"),
            (Kind.UNAUTHENTICATED, None, 401, "UNAUTHENTICATED"),
            (Kind.FORBIDDEN, None, 403, "PERMISSION_DENIED"),
            (Kind.NOT_FOUND, None, 404, "NOT_FOUND"),
            (Kind.TOO_LARGE, None, 413, "INVALID_ARGUMENT"),
            (Kind.RATE, None, 429, "RESOURCE_EXHAUSTED"),
            (Kind.MONEY, None, 429, "RESOURCE_EXHAUSTED"),
            (Kind.BUDGET, None, 429, "RESOURCE_EXHAUSTED"),
            (Kind.OVERLOADED, None, 503, "UNAVAILABLE"),
            (Kind.OVERLOADED, 529, 503, "UNAVAILABLE"),
            (Kind.TIMEOUT, None, 504, "DEADLINE_EXCEEDED"),
            (Kind.INTERNAL, None, 500, "INTERNAL"),
            (Kind.UPSTREAM, 500, 500, "INTERNAL"),
            (Kind.NETWORK, None, 502, "UNAVAILABLE"),
            (Kind.NOT_SUPPORTED, None, 501, "UNIMPLEMENTED"),
            (Kind.BAD_REQUEST, 422, 422, "INVALID_ARGUMENT"),
        ):
            error = RouterError(kind, "no", 3.2, status=status)
            self.assertEqual(self.dialect.error_status(error), wanted, kind)
            shown = json.loads(self.dialect.error_body(error, "q1"))["error"]
            self.assertEqual((shown["code"], shown["status"], shown["message"]), (wanted, name, "mportrouter: no"))
            self.assertEqual(shown["details"][0]["retryDelay"], "4s")
            self.assertTrue(shown["details"][0]["@type"].endswith("google.rpc.RetryInfo"))
            self.assertEqual(shown["details"][1]["requestId"], "q1")
        error = RouterError(Kind.BAD_REQUEST, "their words", by="openai")
        self.assertEqual(json.loads(self.dialect.error_body(error, ""))["error"]["message"], "their words")
        self.assertNotIn("details", json.loads(self.dialect.error_body(error, ""))["error"])

    def test_errors_in_the_client(self) -> None:
        """The official client raises its own error for the body and for the event."""
        error = RouterError(Kind.OVERLOADED, "later", 1)
        with self.assertRaises(errors.ServerError) as raised:
            whole(self.dialect.error_body(error, "q"), 503)
        self.assertIn("mportrouter: later", str(raised.exception))
        with self.assertRaises(errors.APIError) as again:
            streamed(self.dialect.ping + self.dialect.error_event(error, "q"))
        self.assertEqual(again.exception.code, 503)

    def test_message(self) -> None:
        """An answer of the router's own is whole in each of the three forms, and the official client reads two."""
        kind, body = self.dialect.message(TEXT, looked(), "q", 1)
        self.assertEqual(kind, b"application/json; charset=UTF-8")
        answer = whole(body)
        self.assertEqual(answer.text, TEXT)
        self.assertEqual((answer.model_version, answer.candidates[0].finish_reason), ("g", "STOP"))
        self.assertEqual(answer.usage_metadata.total_token_count, 0)
        kind, body = self.dialect.message(TEXT, looked("streamGenerateContent", b"alt=sse"), "q", 1)
        self.assertEqual(kind, b"text/event-stream")
        answers = streamed(self.dialect.ping + body)
        self.assertEqual("".join(each.text for each in answers), TEXT)
        self.assertEqual(answers[-1].candidates[0].finish_reason, "STOP")
        kind, body = self.dialect.message(TEXT, looked("streamGenerateContent"), "q", 1)
        self.assertEqual(kind, b"application/json; charset=UTF-8")
        pieces = json.loads(self.dialect.ping + body)
        self.assertEqual("".join(each["candidates"][0]["content"]["parts"][0]["text"] for each in pieces), TEXT)
        self.assertEqual(self.dialect.message(TEXT, looked(), "q", 1), self.dialect.message(TEXT, looked(), "q", 2))

    def test_ping(self) -> None:
        """A keep-alive says nothing in either form of a stream; a comment would break the official client."""
        body = self.dialect.message("a", looked("streamGenerateContent", b"alt=sse"), "q", 1)[1]
        first, _, rest = body.partition(b"\r\n\r\n")
        pinged = self.dialect.ping + first + b"\r\n\r\n" + self.dialect.ping + rest
        self.assertEqual([each.text for each in streamed(pinged)], ["a", ""])

    def test_counts(self) -> None:
        """A count goes to the model's own path, and its answer is read and written."""
        self.assertEqual(self.dialect.count_path(TARGET), b"/v1beta/models/gemini-9:countTokens")
        none = Target("gemini", "m", Capabilities(count_tokens=False))
        self.assertIsNone(self.dialect.count_path(none))
        self.assertEqual(self.dialect.read_count(b'{"totalTokens":7,"cachedContentTokenCount":2}'), 7)
        for bad in (b"[]", b"{}", b'{"totalTokens":"7"}', b'{"totalTokens":true}', b"x", b'{"totalTokens":-1}'):
            self.assertRaises(ValueError, self.dialect.read_count, bad)
        with client(b"application/json", self.dialect.count_answer(9)) as asking:
            self.assertEqual(asking.models.count_tokens(model="m", contents="x").total_tokens, 9)

    def test_models(self) -> None:
        """Lists of models come in pages that the official client turns by itself, each model once."""
        rows = [ModelRow(f"m{index}", context=100, max_output=10) for index in range(7)]
        for size in (1, 3, 7, 50):
            found: list[str] = []
            token = ""
            for _ in range(10):
                page = json.loads(self.dialect.model_list(rows, {"pageSize": str(size), "pageToken": token}))
                found += [each["name"] for each in page["models"]]
                self.assertLessEqual(len(page["models"]), size)
                token = page.get("nextPageToken", "")
                if not token:
                    break
            self.assertEqual(found, [f"models/m{index}" for index in range(7)])
        for query in ({}, {"pageSize": "x"}, {"pageSize": "0"}, {"pageSize": "-1"}):
            self.assertEqual(len(json.loads(self.dialect.model_list(rows, query))["models"]), 7, query)
        self.assertEqual(json.loads(self.dialect.model_list(rows, {"pageToken": "gone"})), {"models": []})
        with client(b"application/json", self.dialect.model_list(rows, {})) as asking:
            listed = list(asking.models.list())
        self.assertEqual((listed[0].name, listed[0].input_token_limit), ("models/m0", 100))
        entry = json.loads(self.dialect.model_entry(ModelRow("x")))
        self.assertEqual(entry["name"], "models/x")
        self.assertNotIn("inputTokenLimit", entry)
        self.assertIn("generateContent", entry["supportedGenerationMethods"])


class PathTests(SynchronousTestCase):
    """What stands in the path and the query."""

    def test_read(self) -> None:
        """The model is found however clients write it; a colon in it is no method's."""
        for path, model in (
            ("/v1beta/models/gemini-3:generateContent", "gemini-3"),
            ("/v1/models/gemini-3:generateContent", "gemini-3"),
            ("/v1beta/models/models%2Fgemini-3:generateContent", "gemini-3"),
            ("/v1beta/models/models/gemini-3:generateContent", "gemini-3"),
            ("/v1beta/models/qwen3%3A8b:generateContent", "qwen3:8b"),
            ("/v1beta/models/z-ai%2Fglm:free:generateContent", "z-ai/glm:free"),
            ("/v1beta/tunedModels/mine:generateContent", "tunedModels/mine"),
            ("/v1beta/models/tunedModels%2Fmine:generateContent", "tunedModels/mine"),
            ("/v1/projects/p/publishers/google/models/g:generateContent", "g"),
        ):
            self.assertEqual(gemini_path.read(path.encode(), b"").model, model, path)

    def test_refused(self) -> None:
        """Paths without a model or a known method, and names that no model has, are refused."""
        for path, kind in (
            (b"", Kind.BAD_REQUEST),
            (b"/v1beta/models/x", Kind.BAD_REQUEST),
            (b"/v1beta/models/:generateContent", Kind.BAD_REQUEST),
            (b"/v1beta/models/%20:generateContent", Kind.BAD_REQUEST),
            (b"/v1beta/models/a%0d%0ab:generateContent", Kind.BAD_REQUEST),
            (b"/v1beta/models/" + b"x" * 257 + b":generateContent", Kind.BAD_REQUEST),
            (b"/v1beta/models/x:embedContent", Kind.NOT_FOUND),
        ):
            with self.assertRaises(RouterError) as raised:
                gemini_path.read(path, b"")
            self.assertEqual(raised.exception.kind, kind, path)

    def test_query(self) -> None:
        """Only ``alt=sse`` asks for events, wherever it stands."""
        path = b"/v1beta/models/x:streamGenerateContent"
        for query, events in ((b"", False), (b"alt=sse", True), (b"key=k&alt=sse&x", True), (b"alt=json", False)):
            self.assertEqual(gemini_path.read(path, query).events, events, query)

    def test_write(self) -> None:
        """A model is quoted, a tuned one has a path of its own, and a provider may have another form."""
        for model, path in (
            ("g", b"/v1beta/models/g:generateContent"),
            ("models/g", b"/v1beta/models/g:generateContent"),
            ("a/b c", b"/v1beta/models/a%2Fb%20c:generateContent"),
            ("tunedModels/t", b"/v1beta/tunedModels/t:generateContent"),
        ):
            self.assertEqual(gemini_path.write(Target("", model, Capabilities()), "generateContent"), path)
        other = Capabilities(generate_path="/v1/projects/p/models/{model}")
        self.assertEqual(gemini_path.write(Target("", "g", other), "x"), b"/v1/projects/p/models/g:x")


class SameDialectAnswerTests(SynchronousTestCase):
    """Answers that pass untouched."""

    STREAM = (
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"a"}]},"index":0}],'
        b'"usageMetadata":{"promptTokenCount":5,"totalTokenCount":5},"modelVersion":"g-1"}\r\n\r\n'
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"b"}]},"index":0}],'
        b'"modelVersion":"g-1"}\r\n\r\n'
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0}],'
        b'"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7},"modelVersion":"g-1"}\r\n\r\n'
    )

    def read(self, stream: bool, pieces: list[bytes], encoding: bytes = b"") -> tuple[bytes, Any, Any]:
        reader = GeminiDialect().reader(stream, encoding, TARGET)
        out = b"".join(reader.feed(piece) for piece in pieces)
        rest, ending = reader.finish()
        return out + rest, reader, ending

    def test_stream(self) -> None:
        """A stream passes byte for byte in whatever pieces, and its end, model and usage are seen."""
        for size in (1, 7, 100, 10000):
            pieces = [self.STREAM[at : at + size] for at in range(0, len(self.STREAM), size)]
            out, reader, ending = self.read(True, pieces)
            self.assertEqual(out, self.STREAM)
            self.assertEqual((reader.state, ending.complete, ending.model), ("content", True, "g-1"))
            self.assertEqual((ending.usage.input, ending.usage.output), (5, 2))

    def test_usage_after_the_end(self) -> None:
        """Usage in an event of its own, after the reason to stop, counts."""
        late = b'data: {"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":9}}\r\n\r\n'
        self.assertEqual(self.read(True, [self.STREAM, late])[2].usage.output, 9)

    def test_cut(self) -> None:
        """A stream without a reason to stop is no whole answer."""
        _, reader, ending = self.read(True, [self.STREAM[:300]])
        self.assertEqual((reader.state, ending.complete), ("content", False))

    def test_coded(self) -> None:
        """A compressed stream is seen through and passes as it is."""
        coder = zlib.compressobj(wbits=31)
        coded = coder.compress(self.STREAM) + coder.flush()
        out, _, ending = self.read(True, [coded], b"gzip")
        self.assertEqual((out, ending.complete), (coded, True))

    def test_errors(self) -> None:
        """An error in place of the first event, as an object or in a list, is a verdict before anything was shown."""
        error = b'{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}'
        for stream, body in ((True, b"data: " + error + b"\r\n\r\n"), (True, b"[" + error + b"]"), (False, error)):
            _, reader, _ = self.read(stream, [body])
            self.assertEqual((reader.state, reader.verdict.kind), ("error", Kind.RATE), body)

    def test_whole(self) -> None:
        """An answer that is one JSON text is held until it is known to be one."""
        body = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],"modelVersion":"g"}'
        out, reader, ending = self.read(False, [body[:9], body[9:]])
        self.assertEqual((out, reader.state, ending.complete, ending.model), (body, "content", True, "g"))
        self.assertEqual(self.read(False, [body[:-3]])[1].state, "error")
