"""Tests for :mod:`mportrouter.ask`."""

from __future__ import annotations

import http.client
import io
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..ask import NobodyListens, Question, ask

HEADS = {
    "x-mportrouter-upstream": "minimax",
    "x-mportrouter-mode": "mixed",
    "x-mportrouter-attempts": "2",
    "x-mportrouter-decision": "first of mixed",
}


class Wire:
    """The socket's two methods that an ``HTTPResponse`` needs."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._content)


class Connection:
    """A connection that answers with ``answer``, after ``refusals`` refused tries."""

    def __init__(self, answer: bytes | Exception, refusals: int = 0) -> None:
        self.answer, self.refusals = answer, refusals
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        self.closed = 0

    def __call__(self, host: str, port: int, timeout: float) -> Connection:
        self.address = (host, port)
        return self

    def connect(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError(111, "Connection refused")

    def request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        self.requests.append((method, path, json.loads(body), headers))

    def getresponse(self) -> http.client.HTTPResponse:
        if isinstance(self.answer, Exception):
            raise self.answer
        response = http.client.HTTPResponse(Wire(self.answer))  # type: ignore[arg-type]
        response.begin()
        return response

    def close(self) -> None:
        self.closed += 1


def answer(status: str, kind: str, body: bytes, length: int | None = None) -> bytes:
    """The bytes of one HTTP answer."""
    heads = {**HEADS, "content-type": kind, "content-length": str(len(body) if length is None else length)}
    return (f"HTTP/1.1 {status}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in heads.items()) + "\r\n").encode() + body


def stream(*events: dict[str, Any]) -> bytes:
    return answer("200 OK", "text/event-stream", b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events))


def delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


MESSAGE = answer(
    "200 OK",
    "application/json",
    json.dumps({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hällo"}]}).encode(),
)


class AskTests(SynchronousTestCase):
    """One question."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, connection: Connection, environment: dict[str, str] | None = None, **question: Any) -> int:
        return ask(
            Question("hi", **question),
            environment or {},
            self.out,
            self.err,
            connection,  # type: ignore[arg-type]
            self.sleep,
            lambda: self.now,
        )

    def test_request(self) -> None:
        """It is the request of an ordinary client, to loopback."""
        connection = Connection(MESSAGE)
        self.assertEqual(self.ask(connection, {"ANTHROPIC_API_KEY": "k"}, port=8773, model="m"), 0)
        ((method, path, body, headers),) = connection.requests
        self.assertEqual((connection.address, method, path), (("127.0.0.1", 8773), "POST", "/v1/messages"))
        self.assertEqual(
            body, {"model": "m", "max_tokens": 1024, "stream": False, "messages": [{"role": "user", "content": "hi"}]}
        )
        self.assertEqual(headers["x-api-key"], "k")
        self.assertEqual(connection.closed, 1)

    def test_token(self) -> None:
        """A token goes as a bearer token, and no key beside it."""
        connection = Connection(MESSAGE)
        self.ask(connection, {"ANTHROPIC_AUTH_TOKEN": "t"})
        headers = connection.requests[0][3]
        self.assertEqual(headers["authorization"], "Bearer t")
        self.assertNotIn("x-api-key", headers)

    def test_answer(self) -> None:
        """The text goes to standard output, who answered to standard error."""
        self.assertEqual(self.ask(Connection(MESSAGE)), 0)
        self.assertEqual(self.out.getvalue(), "hällo\n")
        self.assertEqual(self.err.getvalue(), "[answered by minimax; mode mixed; 2 attempts; first of mixed]\n")

    def test_stream(self) -> None:
        """A streamed answer is printed piece by piece."""
        content = stream({"type": "message_start"}, delta("a"), delta("b"), {"type": "message_stop"})
        self.assertEqual(self.ask(Connection(content), stream=True), 0)
        self.assertEqual(self.out.getvalue(), "ab\n")

    def test_cut_stream(self) -> None:
        """A stream without its end is shown as broken off."""
        self.assertEqual(self.ask(Connection(stream(delta("a"))), stream=True), 1)
        self.assertIn("broke off", self.err.getvalue())

    def test_short_body(self) -> None:
        """So is a body that is shorter than announced."""
        self.assertEqual(self.ask(Connection(answer("200 OK", "application/json", b"{", 50))), 1)
        self.assertIn("connection to the router broke", self.err.getvalue())

    def test_error_in_stream(self) -> None:
        """An error inside a stream is shown with its words."""
        content = stream(delta("a"), {"type": "error", "error": {"type": "x", "message": "overloaded"}})
        self.assertEqual(self.ask(Connection(content), stream=True), 1)
        self.assertIn("The answer broke off: overloaded", self.err.getvalue())

    def test_error(self) -> None:
        """An error answer is shown with status and words, JSON or not."""
        body = json.dumps({"type": "error", "error": {"message": "both are down"}}).encode()
        self.assertEqual(self.ask(Connection(answer("503 Service Unavailable", "application/json", body))), 1)
        self.assertIn("503 Service Unavailable: both are down\n", self.err.getvalue())
        self.assertEqual(self.ask(Connection(answer("502 Bad Gateway", "text/html", b"<html>"))), 1)
        self.assertIn("502 Bad Gateway: <html>\n", self.err.getvalue())
        self.assertEqual(self.ask(Connection(answer("200 OK", "application/json", b""))), 1)
        self.assertIn("an empty answer", self.err.getvalue())

    def test_json(self) -> None:
        """``--json`` prints the answer itself, of a stream its lines."""
        self.ask(Connection(MESSAGE), json=True)
        self.assertEqual(json.loads(self.out.getvalue())["content"][1]["text"], "hällo")
        self.out.truncate(0)
        self.ask(Connection(stream(delta("a"), {"type": "message_stop"})), json=True, stream=True)
        self.assertIn("data: ", self.out.getvalue())

    def test_nobody(self) -> None:
        """Without a router the way to start it is said."""
        error = self.assertRaises(NobodyListens, self.ask, Connection(MESSAGE, refusals=1))
        self.assertIn("twistd -n mportrouter --all-ports", str(error))

    def test_wait(self) -> None:
        """``--wait`` tries until the port accepts, and not longer than told."""
        self.assertEqual(self.ask(Connection(MESSAGE, refusals=5), wait=3), 0)
        self.assertAlmostEqual(self.now, 1.0)
        self.assertRaises(NobodyListens, self.ask, Connection(MESSAGE, refusals=500), wait=3)

    def test_broken_connection(self) -> None:
        """A connection that breaks is one line, not a traceback."""
        for error in (ConnectionResetError(104, "reset"), http.client.RemoteDisconnected("gone"), TimeoutError()):
            self.assertEqual(self.ask(Connection(error)), 1)
        self.assertIn("no answer in time", self.err.getvalue())
