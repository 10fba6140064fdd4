"""Tests for the OpenAI Responses dialect as a whole: errors, own answers, counting, models."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import splice
from ..dialects.responses import ResponsesDialect
from ..errors import Kind, RouterError
from ..interfaces import IDialect, ModelRow
from .response_events import CODEX, OPENAI, checked


def body(**members: Any) -> bytes:
    return splice.dumps({"model": "gpt-x", "input": "hi", **members})


class ResponsesDialectTests(SynchronousTestCase):
    """The joints."""

    def setUp(self) -> None:
        self.dialect = ResponsesDialect()

    def test_interface(self) -> None:
        """It is a dialect."""
        self.assertTrue(verifyObject(IDialect, self.dialect))

    def test_ping(self) -> None:
        """A life sign is a comment: the dialect has no event for it."""
        self.assertEqual(self.dialect.ping, b": keepalive\n\n")

    def test_errors(self) -> None:
        """Status, type and code are those that the dialect's clients know."""
        for error, status, kind, code in (
            (RouterError(Kind.BAD_REQUEST, "x"), 400, "invalid_request_error", None),
            (RouterError(Kind.CONTEXT, "x"), 400, "invalid_request_error", "context_length_exceeded"),
            (RouterError(Kind.TOO_LARGE, "x"), 413, "invalid_request_error", "request_too_large"),
            (RouterError(Kind.AUTH, "x"), 502, "server_error", None),
            (RouterError(Kind.AUTH, "x", status=402), 429, "insufficient_quota", "insufficient_quota"),
            (RouterError(Kind.UNAUTHENTICATED, "x"), 401, "invalid_request_error", "invalid_api_key"),
            (RouterError(Kind.MONEY, "x", by="openai"), 429, "insufficient_quota", "insufficient_quota"),
            (RouterError(Kind.RATE, "x"), 429, "rate_limit_error", "rate_limit_exceeded"),
            (RouterError(Kind.NOT_FOUND, "no model x"), 404, "invalid_request_error", "model_not_found"),
            (RouterError(Kind.NOT_FOUND, "no such path"), 404, "invalid_request_error", None),
            (RouterError(Kind.OVERLOADED, "x"), 503, "server_error", "server_is_overloaded"),
            (RouterError(Kind.UPSTREAM, "x"), 502, "server_error", None),
            (RouterError(Kind.UPSTREAM, "x", status=500), 500, "server_error", None),
            (RouterError(Kind.NETWORK, "x"), 502, "server_error", None),
            (RouterError(Kind.TIMEOUT, "x"), 504, "server_error", "timeout"),
            (RouterError(Kind.POLICY, "x"), 400, "invalid_request_error", "content_filter"),
        ):
            self.assertEqual(self.dialect.error_status(error), status, error.kind)
            found = splice.loads(self.dialect.error_body(error, "req_1"))["error"]
            self.assertEqual((found["type"], found["code"], found["param"]), (kind, code, None), error.kind)

    def test_words(self) -> None:
        """The router's words carry its name, a provider's stay as they are."""
        for by, words in (("", "mportrouter: x"), ("openai", "x")):
            found = splice.loads(self.dialect.error_body(RouterError(Kind.BAD_REQUEST, "x", by=by), ""))
            self.assertEqual(found["error"]["message"], words)

    def test_rate_in_band(self) -> None:
        """A rate limit is a whole failed stream that says when to come again, once."""
        self.assertIn(Kind.RATE, self.dialect.in_band)
        for message, words in (("Slow", "Slow. Please try again in 7s."), ("try again in 9s", "try again in 9s")):
            data = self.dialect.error_event(RouterError(Kind.RATE, message, 6.1, by="openai"), "req_1")
            events = checked(data)
            self.assertEqual((events[0]["type"], events[-1]["type"]), ("response.created", "response.failed"))
            self.assertEqual(events[-1]["response"]["error"], {"code": "rate_limit_exceeded", "message": words})

    def test_failure_codes(self) -> None:
        """Codes in a stream are those by which Codex heals itself; every failure has one."""
        for kind, code in (
            (Kind.CONTEXT, "context_length_exceeded"), (Kind.MONEY, "insufficient_quota"),
            (Kind.OVERLOADED, "server_is_overloaded"), (Kind.CUT, "server_error"), (Kind.BAD_REQUEST, "invalid_prompt"),
        ):  # fmt: skip
            data = self.dialect.error_event(RouterError(kind, "x"), "req_1")
            self.assertEqual(checked(data)[-1]["response"]["error"]["code"], code)

    def test_message(self) -> None:
        """An answer of the router's own is complete in either form."""
        look = self.dialect.look(body(stream=True))
        kind, data = self.dialect.message("done", look, "req_1", 5)
        events = checked(data)
        self.assertTrue(kind.startswith(b"text/event-stream"))
        kind, data = self.dialect.message("done", self.dialect.look(body()), "req_1", 5)
        whole = splice.loads(data)
        self.assertEqual((kind, events[-1]["response"]), (b"application/json", whole))
        self.assertEqual((whole["model"], whole["created_at"]), ("gpt-x", 5))
        self.assertEqual(whole["output"][0]["content"][0]["text"], "done")
        self.assertEqual(whole["usage"]["total_tokens"], 0)

    def test_command(self) -> None:
        """Letters of a command are looked for at the end of the input only."""
        for data, may in (
            (body(input="/router status"), True), (body(input=[{"role": "user", "content": "\\/rr"}]), True),
            (body(instructions="/router"), False), (body(input="/router" + "x" * 70000), False),
        ):  # fmt: skip
            self.assertIs(self.dialect.might_hold_command(data, self.dialect.look(data)), may)
        self.assertEqual(self.dialect.last_user_text(body(input="/router status")), "/router status")

    def test_counting(self) -> None:
        """A count has a path, an answer that is read, and one that is written."""
        self.assertEqual(self.dialect.count_path(OPENAI), b"/v1/responses/input_tokens")
        answer = self.dialect.count_answer(7)
        self.assertEqual(splice.loads(answer), {"object": "response.input_tokens", "input_tokens": 7})
        self.assertEqual(self.dialect.read_count(answer), 7)
        for bad in (b"{}", b"[]", b"nonsense", b'{"input_tokens":true}', b'{"input_tokens":-1}'):
            self.assertRaises(ValueError, self.dialect.read_count, bad)

    def test_models(self) -> None:
        """Lists and entries have the dialect's form."""
        row = ModelRow("m", "openai", 5)
        entry = {"id": "m", "object": "model", "created": 5, "owned_by": "openai"}
        self.assertEqual(splice.loads(self.dialect.model_list([row], {})), {"object": "list", "data": [entry]})
        self.assertEqual(splice.loads(self.dialect.model_entry(row)), entry)

    def test_joints(self) -> None:
        """What other modules do is reached through the dialect."""
        data = body(stream=True)
        look = self.dialect.look(data)
        conversation = self.dialect.read_request(data, look)
        self.assertEqual(self.dialect.prepare(data, look, CODEX).path, b"/responses")
        self.assertEqual(self.dialect.write_request(conversation, CODEX).path, b"/responses")
        self.assertEqual(self.dialect.routing_text(data).text, "hi")
        self.assertEqual(self.dialect.session({b"session_id": b"s"}, data), "s")
