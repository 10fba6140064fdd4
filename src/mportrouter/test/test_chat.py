"""Tests for :mod:`mportrouter.dialects.chat`: errors, own answers, models, and answers that pass untouched."""

from __future__ import annotations

import json
import zlib
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ..dialects.chat import ChatDialect, interesting
from ..dialects.chat_answer import ChatStreamWriter, ChatWholeWriter
from ..dialects.chat_stream import ChatStream, ChatWhole
from ..errors import Kind, RouterError
from ..interfaces import IAnswerReader, IDialect, ModelRow
from ..records import Usage
from .chats import DONE, USAGE, body, called, choice, chunk, context, conversation, fragment, said, target, whole

CHAT = ChatDialect()
ROLE = said({"role": "assistant", "content": ""})
STOP = said({}, "stop")


class DialectTests(SynchronousTestCase):
    """The joint."""

    def test_interface(self) -> None:
        """It is a dialect; a keep-alive says nothing to clients that read each event as JSON."""
        self.assertTrue(verifyObject(IDialect, CHAT))
        self.assertEqual(
            (CHAT.name, CHAT.path, CHAT.ping), ("openai-chat", b"/v1/chat/completions", b": keepalive\n\n")
        )

    def test_requests(self) -> None:
        """Requests are looked at, read and written."""
        raw = body()
        seen = CHAT.look(raw)
        self.assertIs(CHAT.prepare(raw, seen, target("gpt-5")).body, raw)
        asked = CHAT.read_request(raw, seen)
        self.assertEqual(json.loads(CHAT.write_request(asked, target()).body)["messages"], json.loads(raw)["messages"])

    def test_readers(self) -> None:
        """Readers and writers for streams and whole answers."""
        self.assertIsInstance(CHAT.event_reader(True, context()), ChatStream)
        self.assertIsInstance(CHAT.event_reader(False, context()), ChatWhole)
        self.assertIsInstance(CHAT.event_writer(True, context()), ChatStreamWriter)
        self.assertIsInstance(CHAT.event_writer(False, context()), ChatWholeWriter)

    def test_commands(self) -> None:
        """The letters of a command are looked for in the messages only."""
        for members, wanted in (
            ({"messages": [{"role": "user", "content": "/router status"}]}, True),
            ({"messages": [{"role": "user", "content": "hi"}]}, False),
            ({"user": "/router"}, False),
        ):
            raw = body(**members)
            self.assertIs(CHAT.might_hold_command(raw, CHAT.look(raw)), wanted)
        raw = body(messages=[{"role": "user", "content": "/router status"}])
        self.assertEqual(CHAT.last_user_text(raw), "/router status")
        self.assertEqual(CHAT.routing_text(raw).text, "/router status")
        self.assertEqual(CHAT.session({}, body(user="u")), "u")

    def test_counting(self) -> None:
        """The dialect counts nothing."""
        self.assertIsNone(CHAT.count_path(target()))
        self.assertRaises(RouterError, CHAT.write_count, conversation(), target())
        self.assertRaises(ValueError, CHAT.read_count, b"{}")
        self.assertEqual(json.loads(CHAT.count_answer(7))["input_tokens"], 7)

    def test_models(self) -> None:
        """Lists of models and single ones in the dialect's form."""
        row = ModelRow("gpt-5", "openai", 5)
        entry = {"id": "gpt-5", "object": "model", "created": 5, "owned_by": "openai"}
        self.assertEqual(json.loads(CHAT.model_list([row], {})), {"object": "list", "data": [entry]})
        self.assertEqual(json.loads(CHAT.model_entry(row)), entry)
        self.assertEqual(json.loads(CHAT.model_entry(ModelRow("x")))["owned_by"], "mportrouter")


class ErrorTests(SynchronousTestCase):
    """Errors in the dialect's words."""

    def test_kinds(self) -> None:
        """Status, type and code of each kind."""
        for error, status, type_, code in (
            (RouterError(Kind.BAD_REQUEST, "m"), 400, "invalid_request_error", None),
            (RouterError(Kind.BAD_REQUEST, "m", status=422), 422, "invalid_request_error", None),
            (RouterError(Kind.NOT_FOUND, "no model x"), 404, "invalid_request_error", "model_not_found"),
            (RouterError(Kind.NOT_FOUND, "no such path"), 404, "invalid_request_error", None),
            (RouterError(Kind.NOT_FOUND, "Not found", by="b"), 404, "invalid_request_error", "model_not_found"),
            (RouterError(Kind.TOO_LARGE, "m"), 413, "invalid_request_error", "request_too_large"),
            (RouterError(Kind.CONTEXT, "m"), 400, "invalid_request_error", "context_length_exceeded"),
            (RouterError(Kind.POLICY, "m"), 400, "invalid_request_error", "content_filter"),
            (RouterError(Kind.UNAUTHENTICATED, "m"), 401, "invalid_request_error", "invalid_api_key"),
            (RouterError(Kind.BUDGET, "m"), 429, "insufficient_quota", "insufficient_quota"),
            (RouterError(Kind.MONEY, "m"), 429, "insufficient_quota", "insufficient_quota"),
            (RouterError(Kind.AUTH, "m", status=402), 429, "insufficient_quota", "insufficient_quota"),
            (RouterError(Kind.AUTH, "m", status=401), 401, "invalid_request_error", "invalid_api_key"),
            (RouterError(Kind.AUTH, "m"), 502, "server_error", None),
            (RouterError(Kind.RATE, "m"), 429, "rate_limit_error", "rate_limit_exceeded"),
            (RouterError(Kind.OVERLOADED, "m"), 503, "server_error", "server_is_overloaded"),
            (RouterError(Kind.UPSTREAM, "m", status=500), 500, "server_error", None),
            (RouterError(Kind.NETWORK, "m"), 502, "server_error", None),
            (RouterError(Kind.TIMEOUT, "m"), 504, "server_error", "timeout"),
            (RouterError(Kind.UNAVAILABLE, "m"), 503, "server_error", None),
            (RouterError(Kind.INTERNAL, "m"), 500, "server_error", None),
        ):
            self.assertEqual(CHAT.error_status(error), status, error.kind)
            told = json.loads(CHAT.error_body(error, "r"))["error"]
            self.assertEqual((told["type"], told["code"], told["param"]), (type_, code, None), error.kind)

    def test_all_kinds(self) -> None:
        """Every kind has a status that is an error's, and a body."""
        for kind in Kind:
            error = RouterError(kind, "m")
            self.assertTrue(400 <= CHAT.error_status(error) < 600 and CHAT.error_status(error) != 529)
            self.assertEqual(
                set(json.loads(CHAT.error_body(error, "r"))["error"]), {"message", "type", "param", "code"}
            )

    def test_words(self) -> None:
        """The router's words are marked as such, a provider's stay as they are."""
        self.assertIn(b'"mportrouter: m"', CHAT.error_body(RouterError(Kind.INTERNAL, "m"), "r"))
        self.assertIn(b'"message":"m"', CHAT.error_body(RouterError(Kind.INTERNAL, "m", by="up"), "r"))
        event = CHAT.error_event(RouterError(Kind.INTERNAL, "m"), "r")
        self.assertEqual(event, b"data: " + CHAT.error_body(RouterError(Kind.INTERNAL, "m"), "r") + b"\n\n")


class MessageTests(SynchronousTestCase):
    """Answers of the router's own."""

    def test_whole(self) -> None:
        """A whole answer that the official client takes."""
        kind, raw = CHAT.message("hi é", CHAT.look(body()), "r", 7)
        self.assertEqual(kind, b"application/json")
        done = ChatCompletion.model_validate(json.loads(raw))
        self.assertEqual((done.choices[0].message.content, done.choices[0].finish_reason), ("hi é", "stop"))
        self.assertEqual((done.model, done.created, done.usage and done.usage.total_tokens), ("gpt-5", 7, 0))

    def test_stream(self) -> None:
        """A stream with one role, one reason and its end; usage only where it was asked for."""
        for usage in (False, True):
            raw = body(stream=True, **({"stream_options": {"include_usage": True}} if usage else {}))
            kind, sent = CHAT.message("hi", CHAT.look(raw), "r", 7)
            self.assertEqual(kind, b"text/event-stream; charset=utf-8")
            *frames, done, empty = sent.split(b"\n\n")
            self.assertEqual((done, empty), (b"data: [DONE]", b""))
            chunks = [json.loads(frame[6:]) for frame in frames]
            for each in chunks:
                ChatCompletionChunk.model_validate(each)
            self.assertEqual(len(chunks), 4 if usage else 3)
            self.assertEqual(["usage" in each for each in chunks], [usage] * len(chunks))


class PassingTests(SynchronousTestCase):
    """Answers for clients of the same dialect: the bytes pass, gate, usage and end are told."""

    def read(self, *pieces: bytes, stream: bool = True, **columns: Any) -> Any:
        reader = CHAT.reader(stream, b"", target(**columns))
        self.assertTrue(verifyObject(IAnswerReader, reader))
        for piece in pieces:
            self.assertEqual(reader.feed(piece), piece)
        rest, ending = reader.finish()
        self.assertEqual(rest, b"")
        return reader, ending

    def test_stream(self) -> None:
        """Content commits; usage and the end come from the last chunks."""
        reader = CHAT.reader(True, b"", target())
        reader.feed(ROLE)
        self.assertEqual(reader.state, "hold")
        reader.feed(said({"content": "x"}))
        self.assertEqual(reader.state, "content")
        reader.feed(said({"content": "y"}) + STOP + chunk(usage=USAGE) + DONE)
        ending = reader.finish()[1]
        self.assertEqual((ending.complete, ending.usage, ending.model), (True, Usage(input=20, output=10), "m-1"))

    def test_calls(self) -> None:
        """Calls whose beginnings were not looked at are no fault of the answer, also on the last chunk."""
        reader, ending = self.read(
            ROLE, said({"content": "x"}), called(fragment(0, "", "c", "f")),
            called(fragment(0, "{}"), reason="tool_calls"), DONE,
        )  # fmt: skip
        self.assertEqual((reader.state, ending.complete, ending.error), ("content", True, None))

    def test_several(self) -> None:
        """Several choices pass."""
        _, ending = self.read(
            chunk(choice({"content": "a"}), choice({"content": "b"}, index=1)), chunk(choice({}, "stop", 1)),
            chunk(choice({}, "stop")), DONE,
        )  # fmt: skip
        self.assertTrue(ending.complete)

    def test_errors(self) -> None:
        """An error before content is a verdict, one after it ends the answer, a cut is no end."""
        error = b'data: {"error":{"message":"no","code":429}}\n\n'
        reader, ending = self.read(ROLE, error)
        self.assertEqual((reader.state, reader.verdict.kind, ending.complete), ("error", Kind.RATE, False))
        reader, ending = self.read(said({"content": "x"}), error)
        self.assertEqual((reader.state, ending.error.kind, ending.complete), ("content", Kind.RATE, False))
        reader, ending = self.read(said({"content": "x"}), said({"content": "y"}))
        self.assertEqual((reader.state, ending.complete), ("content", False))

    def test_whole(self) -> None:
        """A whole answer is judged when it is whole."""
        reader, ending = self.read(whole({"content": "x"}), stream=False)
        self.assertEqual((reader.state, ending.complete, ending.usage), ("content", True, Usage(input=20, output=10)))
        reader, ending = self.read(b'{"error":{"message":"no","code":500}}', stream=False)
        self.assertEqual((reader.state, reader.verdict.kind), ("error", Kind.UPSTREAM))

    def test_coded(self) -> None:
        """A content coding hides nothing."""
        raw = ROLE + said({"content": "x"}) + STOP + DONE
        coder = zlib.compressobj(wbits=31)
        reader = CHAT.reader(True, b"gzip", target())
        reader.feed(coder.compress(raw) + coder.flush())
        self.assertTrue(reader.finish()[1].complete)

    def test_interesting(self) -> None:
        """Plain deltas need no reading; whatever may tell of usage, end or error does."""
        plain = said({"content": 'the "error" of "usage":{ ways'}, usage=None)
        for frame, wanted in (
            (plain, False),
            (plain.replace(b":null", b": null"), False),
            (STOP, True),
            (chunk(usage=USAGE), True),
            (said({"content": "x"}, usage=USAGE), True),
            (b'data: {"error":{"message":"x"}}\n\n', True),
            (DONE, True),
        ):
            self.assertIs(interesting(frame[6:-2]), wanted, frame)
