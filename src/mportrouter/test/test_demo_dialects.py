"""Each fault of the stand-ins in each of their dialects, over HTTP; and what is found at which path."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from .test_demo import Wire

KEYS = {"x-api-key": "", "authorization": "Bearer k"}
GOOGLE = {"x-api-key": "", "x-goog-api-key": "k"}


def chat(stream: bool) -> dict[str, Any]:
    return {"model": "gpt-6", "messages": [{"role": "user", "content": "say 30 words"}], "stream": stream}


def responses(stream: bool) -> dict[str, Any]:
    return {"model": "gpt-6", "input": "say 30 words", "stream": stream}


def codex(stream: bool) -> dict[str, Any]:
    members = {"store": False, "instructions": "", "input": [{"role": "user", "content": "say 30 words"}]}
    return {"model": "gpt-6", "stream": True, **members}


def gemini(stream: bool) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "say 30 words"}]}]}


#: Stand-in, paths of a whole and of a streamed answer, header fields, request, and what the last event holds.
DIALECTS: dict[str, tuple[str, str, str, dict[str, str], Any, bytes]] = {
    "chat": ("openai", "/v1/chat/completions", "/v1/chat/completions", KEYS, chat, b"data: [DONE]\n\n"),
    "local": ("local", "/v1/chat/completions", "/v1/chat/completions", {"x-api-key": ""}, chat, b"data: [DONE]\n\n"),
    "minimax": ("minimax", "/v1/chat/completions", "/v1/chat/completions", KEYS, chat, b"data: [DONE]\n\n"),
    "responses": ("openai", "/v1/responses", "/v1/responses", KEYS, responses, b'"type":"response.completed"'),
    "codex": (
        "openai",
        "",
        "/backend-api/codex/responses",
        KEYS,
        codex,
        b'"type":"response.completed"',
    ),
    "gemini": (
        "gemini",
        "/v1beta/models/gemini-3-pro:generateContent",
        "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
        GOOGLE,
        gemini,
        b'"finishReason":"STOP"',
    ),
    "array": (
        "gemini",
        "/v1beta/models/gemini-3-pro:generateContent",
        "/v1beta/models/gemini-3-pro:streamGenerateContent",
        GOOGLE,
        gemini,
        b"\n]\n",
    ),
}


class FaultTests(Wire):
    """Every fault in every dialect."""

    def say(self, name: str, fault: str, stream: bool = True) -> Any:
        """The connection of one request to a new stand-in."""
        provider, whole, streamed, headers, body, _ = DIALECTS[name]
        self.stand_in(provider, fault=fault)
        return self.ask(streamed if stream else whole, body(stream), headers=headers)

    def each(self, whole: bool = False) -> list[str]:
        return [name for name, row in DIALECTS.items() if row[1] or not whole]

    def events(self, content: bytes) -> list[bytes]:
        """The events of a stream of any form."""
        if content.startswith(b"["):
            return content.removeprefix(b"[").removesuffix(b"\n]\n").split(b"\n,\r\n")
        return content.replace(b"\r\n", b"\n").removesuffix(b"\n\n").split(b"\n\n")

    def test_healthy(self) -> None:
        """Without a fault the stream comes to its end, and an answer in one piece is JSON."""
        for name in self.each():
            status, _, content = self.read(self.say(name, "off"))
            self.assertEqual(status, 200, (name, content))
            self.assertIn(DIALECTS[name][5], self.events(content)[-1] + b"\n\n" + content[-3:], name)
        for name in self.each(whole=True):
            self.assertEqual(self.read(self.say(name, "off", stream=False))[0], 200, name)

    def test_status(self) -> None:
        """An error answer has the provider's shape and its advice."""
        for name in self.each():
            status, headers, content = self.read(self.say(name, "status:429:retry-after=2"))
            self.assertEqual((status, headers["retry-after"]), (429, "2"), name)
            error = json.loads(content)["error"]
            if name in ("gemini", "array"):
                self.assertEqual((error["code"], error["status"]), (429, "RESOURCE_EXHAUSTED"))
                self.assertEqual(error["details"][0]["retryDelay"], "30s")
            elif name == "codex":
                self.assertEqual((error["type"], error["resets_in_seconds"]), ("usage_limit_reached", 30))
            else:
                self.assertEqual((error["type"], error["code"]), ("rate_limit_error", "rate_limit_exceeded"), name)
        for name, kind in (("chat", "server_error"), ("responses", "server_error"), ("gemini", None)):
            status, _, content = self.read(self.say(name, "status:503"))
            self.assertEqual((status, json.loads(content)["error"].get("type")), (503, kind))

    def test_request_faults(self) -> None:
        """A prompt that is too long and one that offends are the request's own fault, in the provider's words."""
        for name in self.each():
            words = {"chat": "maximum context length", "responses": "context window", "codex": "context window"}
            status, _, content = self.read(self.say(name, "context"))
            self.assertEqual(status, 400, name)
            message = json.loads(content)["error"]["message"]
            self.assertIn(words.get(name, "maximum"), message, name)
            status, _, content = self.read(self.say(name, "policy"))
            self.assertEqual(status, 400, name)
            self.assertIn("policy", json.loads(content)["error"]["message"], name)

    def test_cut_and_stall(self) -> None:
        """So many events come; then the connection is closed without an end, or nothing more comes."""
        for name in self.each():
            for fault in ("cut:4", "stall:4"):
                transport = self.say(name, fault)
                self.clock.pump([60] * 5)
                seen = self.read_open(transport)
                self.assertEqual(len(self.events(seen)), 4, (name, fault))
                self.assertNotIn(DIALECTS[name][5], seen, (name, fault))
                self.assertEqual(transport.disconnecting, fault == "cut:4", name)

    def read_open(self, transport: Any) -> bytes:
        """What has come so far of a chunked answer that is not over."""
        _, _, rest = transport.value().partition(b"\r\n\r\n")
        whole = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return whole

    def test_cut_whole(self) -> None:
        """An answer in one piece is cut in its middle."""
        for name in self.each(whole=True):
            transport = self.say(name, "cut:4", stream=False)
            _, headers, content = self.read(transport)
            self.assertLess(len(content), int(headers["content-length"]), name)
            self.assertTrue(transport.disconnecting, name)

    def test_error_event(self) -> None:
        """The stream breaks off with an error in the dialect's own words, at once or after so many events."""
        for name in self.each():
            for number in (0, 3):
                content = self.read(self.say(name, f"error-event:{number}"))[2]
                *before, last = self.events(content)
                self.assertEqual(len(before), number, (name, content))
                value = json.loads(last.partition(b"data: ")[2] or last)
                if name in ("responses", "codex"):
                    self.assertEqual((value["type"], value["sequence_number"]), ("response.failed", number))
                    code = "server_error" if name == "responses" else "server_is_overloaded"
                    self.assertEqual(value["response"]["error"]["code"], code)
                elif name in ("gemini", "array"):
                    self.assertEqual(value["error"]["status"], "UNAVAILABLE", name)
                else:
                    self.assertEqual(value["error"]["type"], "server_error", name)
                self.assertNotIn(DIALECTS[name][5] if name != "array" else b"finishReason", content, name)

    def test_error_event_in_an_array(self) -> None:
        """The array of a broken stream is one all the same."""
        for number in (0, 3):
            value = json.loads(self.read(self.say("array", f"error-event:{number}"))[2])
            self.assertEqual((len(value), value[-1]["error"]["code"]), (number + 1, 503))

    def test_garbage_event(self) -> None:
        """One event cannot be read, and those about it are fine."""
        for name in self.each():
            content = self.read(self.say(name, "garbage-event:3"))[2]
            events = self.events(content)
            for at in (0, 1, 2, 3):
                data = events[at].partition(b"data: ")[2] or events[at]
                if at == 2:
                    self.assertRaises(ValueError, json.loads, data)
                else:
                    json.loads(data)

    def test_no_end(self) -> None:
        """The stream ends in good order without its last event."""
        for name in self.each():
            full = self.events(self.read(self.say(name, "off"))[2])
            content = self.read(self.say(name, "no-end"))[2]
            self.assertNotIn(DIALECTS[name][5], content, name)
            if name != "array":
                self.assertEqual(len(self.events(content)), len(full) - 1, name)

    def test_other_bodies(self) -> None:
        """A web page, nothing at all, silence, and a reset."""
        for name in self.each():
            _, headers, content = self.read(self.say(name, "html"))
            self.assertIn("text/html", headers["content-type"], name)
            self.assertIn(b"<html>", content, name)
            self.assertEqual(self.read(self.say(name, "empty"))[2], b"", name)
            for fault, head in (("hang", False), ("hang-after-head", True)):
                transport = self.say(name, fault)
                self.clock.pump([60] * 5)
                self.assertEqual(transport.value().startswith(b"HTTP/1.1 200"), head, (name, fault))
                self.assertFalse(transport.disconnecting, name)
            self.assertTrue(self.say(name, "reset").disconnected, name)

    def test_gzip(self) -> None:
        """A compressed answer unpacks to the plain one, whatever its form."""
        for name in self.each():
            plain = self.read(self.say(name, "off"))[2]
            self.assertEqual(zlib.decompress(self.read(self.say(name, "gzip"))[2], 31), plain, name)
        for name in self.each(whole=True):
            plain = self.read(self.say(name, "off", stream=False))[2]
            _, headers, content = self.read(self.say(name, "gzip", stream=False))
            self.assertEqual((headers["content-encoding"], gzip.decompress(content)), ("gzip", plain), name)

    def test_controls(self) -> None:
        """A fault is told to a running stand-in of any provider, and strikes as often as it was told."""
        for name in self.each():
            provider, _, path, headers, body, _ = DIALECTS[name]
            self.stand_in(provider)
            self.assertEqual(self.answered("/__demo__/fault", {"fault": "times=1;status:500"})[0], 200)
            self.assertEqual(self.read(self.ask(path, body(True), headers=headers))[0], 500, name)
            self.assertEqual(self.read(self.ask(path, body(True), headers=headers))[0], 200, name)

    def test_pace(self) -> None:
        """Every dialect's stream comes event by event."""
        for name in self.each():
            provider, _, path, headers, body, _ = DIALECTS[name]
            self.stand_in(provider, 1.0)
            transport = self.ask(path, body(True), headers=headers)
            self.assertEqual(transport.value(), b"", name)
            self.clock.pump([1.0] * 8)
            some = len(self.read_open(transport))
            self.clock.pump([1.0] * 2)
            self.assertLess(some, len(self.read_open(transport)), name)


class PathTests(Wire):
    """What is found where, and with which credentials."""

    def test_credentials(self) -> None:
        """Each provider wants its own; a local server none."""
        for name, (provider, _, path, headers, body, _) in DIALECTS.items():
            self.stand_in(provider)
            if name != "local":
                status, _ = self.answered(path, body(True), headers={"x-api-key": ""})
                self.assertEqual(status, 403 if provider == "gemini" else 401, name)
            self.assertEqual(self.read(self.ask(path, body(True), headers=headers))[0], 200, name)
        self.stand_in("gemini")
        path = "/v1beta/models/gemini-3-pro:generateContent?key=k"
        self.assertEqual(self.answered(path, gemini(False), headers={"x-api-key": ""})[0], 200)

    def test_one_dialect_a_path(self) -> None:
        """Another dialect's path is not found at a provider that does not speak it."""
        for provider, path, headers in (
            ("openai", "/v1/messages", KEYS),
            ("openai", "/v1/responses/compact", KEYS),
            ("openai", "/backend-api/codex/responses/input_tokens", KEYS),
            ("openai", "/backend-api/codex/chat/completions", KEYS),
            ("local", "/v1/responses", {"x-api-key": ""}),
            ("gemini", "/v1beta/models/gemini-3-pro:embedContent", GOOGLE),
            ("gemini", "/v1/chat/completions", GOOGLE),
            ("minimax", "/v1/responses", KEYS),
            ("anthropic", "/v1/chat/completions", {}),
        ):
            self.stand_in(provider)
            self.assertEqual(self.answered(path, chat(False), headers=headers)[0], 404, path)
        self.stand_in("openai")
        self.assertEqual(self.answered("/v1/responses/resp_1", headers=KEYS)[0], 404)
        self.assertEqual(self.answered("/v1/responses", headers=KEYS, method="GET")[0], 405)

    def test_models(self) -> None:
        """The lists of models have their provider's shape, and one model is found in it or is not."""
        self.stand_in("openai")
        listed = self.answered("/v1/models", headers=KEYS)[1]
        self.assertEqual((listed["object"], listed["data"][0]["object"]), ("list", "model"))
        self.assertEqual(self.answered("/v1/models/gpt-6", headers=KEYS)[1]["id"], "gpt-6")
        status, value = self.answered("/v1/models/gpt-0", headers=KEYS)
        self.assertEqual((status, value["error"]["code"]), (404, "model_not_found"))
        plan = self.answered("/backend-api/codex/models?client_version=1", headers=KEYS)[1]
        self.assertEqual(plan["models"][0]["slug"], "gpt-6")
        self.stand_in("gemini")
        listed = self.answered("/v1beta/models?pageSize=5", headers=GOOGLE)[1]
        self.assertEqual(listed["models"][0]["name"], "models/gemini-3-pro")
        one = self.answered("/v1beta/models/gemini-3-pro", headers=GOOGLE)[1]
        self.assertIn("streamGenerateContent", one["supportedGenerationMethods"])
        status, value = self.answered("/v1beta/models/gemini-0", headers=GOOGLE)
        self.assertEqual((status, value["error"]["status"]), (404, "NOT_FOUND"))
        self.stand_in("local")
        self.assertEqual(self.answered("/v1/models", headers={"x-api-key": ""})[1]["object"], "list")

    def test_counts(self) -> None:
        """Tokens are counted where the provider counts, instructions and tools too."""
        self.stand_in("openai")
        status, value = self.answered("/v1/responses/input_tokens", {"model": "gpt-6", "input": "hi"}, headers=KEYS)
        self.assertEqual((status, value["object"]), (200, "response.input_tokens"))
        self.assertGreater(value["input_tokens"], 0)
        self.stand_in("gemini")
        path = "/v1beta/models/gemini-3-pro:countTokens"
        bare = self.answered(path, gemini(False), headers=GOOGLE)[1]["totalTokens"]
        inner = {"model": "models/gemini-3-pro", **gemini(False)}
        inner["tools"] = [{"functionDeclarations": [{"name": "get_weather", "description": "weather"}]}]
        inner["systemInstruction"] = {"parts": [{"text": "Be brief."}]}
        status, value = self.answered(path, {"generateContentRequest": inner}, headers=GOOGLE)
        self.assertEqual(status, 200, value)
        self.assertGreater(value["totalTokens"], bare + 10)

    def test_bad_json(self) -> None:
        """What is no JSON, or no object, is refused in the dialect's own shape."""
        for name, (provider, _, path, headers, _, _) in DIALECTS.items():
            self.stand_in(provider)
            for raw in (b"{", b"[]", b"3", b'"x"', b"null"):
                status, value = self.answered(path, raw=raw, headers=headers)
                self.assertEqual(status, 400, (name, raw))
                self.assertTrue(value.get("error") or value.get("detail"), name)
