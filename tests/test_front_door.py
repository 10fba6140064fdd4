"""The front door: bad input, ugly bytes, admission, limits. Whatever comes, there is an answer and the router lives."""

from __future__ import annotations

import json
import time

from twisted.trial.unittest import TestCase

from . import faults
from .faulty import FaultyUpstream
from .harness import Answered, RouterProcess, Stack, failover_stack, message, shared, until

MEGABYTE = 1024 * 1024


def make_stack(seconds: float = 90.0, keepalive: float = 90.0) -> Stack:
    """
    A front door with small limits.

    :param seconds: its patience with heads and bodies; ``keepalive``: with connections on which nothing comes. As they
        are, longer than a test waits for a connection to be closed: what is closed was closed for what came on it.
    """
    front = {
        "header_seconds": f"{seconds}s",
        "body_seconds": f"{seconds}s",
        "keepalive_seconds": f"{keepalive}s",
        "body_bytes": MEGABYTE,
        "exchanges": 4,
    }
    ports = {
        "dynamic": {"mode": "mixed", "dynamic": True},
        "token": {"mode": "mixed", "token": "gate-token"},
        **{name: {"mode": name} for name in ("anthropic", "minimax", "mixed")},
    }
    return failover_stack({"front": front, "ports": ports}, timeouts={"answer": "120s", "head": "120s"})


def http(body: bytes, *fields: bytes, method: bytes = b"POST", target: bytes = b"/v1/messages") -> bytes:
    """A request with just these fields, and the body's length unless they tell it."""
    lines = [method + b" " + target + b" HTTP/1.1", b"host: localhost", *fields]
    told = b"".join(fields).lower()
    if b"content-length" not in told and b"transfer-encoding" not in told and (body or method == b"POST"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class FrontDoorTestCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.use(shared("front", make_stack))

    def use(self, stack: Stack) -> None:
        self.router: RouterProcess = stack.router
        self.minimax: FaultyUpstream
        self.claude: FaultyUpstream
        self.minimax, self.claude = stack.parts
        self.minimax.play(faults.ok("from MiniMax"))
        self.claude.play(faults.ok("from Claude"))

    def alive(self) -> None:
        self.assertEqual(self.router.ask(message(), "mixed").text, "from MiniMax")

    def refused(self, answered: Answered, *statuses: int) -> str:
        """A clear error in the dialect's shape; gives its message."""
        self.assertIn(answered.status, statuses or range(400, 500), answered.body)
        self.assertTrue(answered.headers["request-id"])
        self.assertIn("application/json", answered.headers["content-type"])
        error = answered.error
        self.assertTrue(error["type"].endswith("_error") or error["type"] == "request_too_large", error)
        self.assertTrue(error["message"])
        self.assertEqual(answered.json["request_id"], answered.headers["request-id"])
        return str(error["message"])

    def talk(self, *parts: bytes, pause: float = 0.0, timeout: float = 30.0, port: str = "mixed") -> bytes:
        """Send the parts on one bare connection and read until it is closed; what came until then is the answer."""
        with self.router.connect(port, timeout) as sock:
            received = b""
            try:
                for part in parts:
                    sock.sendall(part)
                    if pause:
                        time.sleep(pause)
            except ConnectionError:
                pass  # closed in the middle, with an answer perhaps
            try:
                while data := sock.recv(65536):
                    received += data
            except TimeoutError:
                self.fail(f"the connection is still open after {received!r}")
            except ConnectionError:
                pass
        return received

    def closed(self, *parts: bytes, pause: float = 0.0) -> tuple[float, bytes]:
        """After how many seconds the router closed the connection, and what it sent."""
        began = time.monotonic()
        received = self.talk(*parts, pause=pause)
        return time.monotonic() - began, received


class BadInputTests(FrontDoorTestCase):
    """Bodies, paths and methods that are wrong."""

    def test_bodies(self) -> None:
        """What cannot be routed is a 400 that says what is wrong, and no provider is asked."""
        for body, words in {
            b"": "",
            b"{": "",
            b"nonsense": "",
            b'{"model": "claude-opus-5-5",}': "",
            b'{"model": "claude-opus-5-5"} x': "",
            b"\xff\xfe{}": "",
            b'{"model": "\xc3\x28"}': "",
            b"null": "object",
            b"[]": "object",
            b'"text"': "object",
            b"3": "object",
            b"{}": "model",
            b'{"model": 3}': "model",
            b'{"model": null}': "model",
            b'{"model": ["x"]}': "model",
            b'{"model": ""}': "model",
            b'{"model": "a", "model": "b"}': "model",
        }.items():
            text = self.refused(self.router.ask(body, "mixed"), 400)
            self.assertIn(words, text.lower(), body)
        self.assertEqual((self.minimax.requests, self.claude.requests), ([], []))
        self.alive()

    def test_deep_nesting(self) -> None:
        """A hundred thousand brackets are a 4xx or the provider's to judge, and cost no time."""
        for deep in (b"[" * 100_000, b'{"a":' * 50_000, b"[" * 100_000 + b"]" * 100_000):
            body = b'{"model": "claude-opus-5-5", "max_tokens": 5, "messages": ' + deep + b"}"
            for port in ("mixed", "anthropic"):
                answered = self.router.ask(body, port)
                self.assertNotEqual(answered.status, 500)
                self.assertTrue(200 <= answered.status < 500, answered.body[:300])
                self.assertLess(answered.seconds, 20)
        self.alive()

    def test_odd_values_are_the_providers_to_judge(self) -> None:
        """Lone surrogates, numbers past 64 bits and odd members reach Anthropic as they came."""
        for members in (
            b'"messages": [{"role": "user", "content": "a \\ud800 b"}]',
            b'"messages": [], "max_tokens": 123456789012345678901234567890',
            b'"messages": [], "max_tokens": -1e999, "x": 0.1e-400',
            b'"messages": "none"',
            b'"messages": [{"role": "robot"}], "tools": 7, "system": null',
        ):
            self.claude.play(faults.status(400, "invalid_request_error", "judged"))
            body = b'{"model": "claude-opus-5-5", ' + members + b"}"
            answered = self.router.ask(body, "anthropic")
            self.assertEqual((answered.status, answered.error["message"]), (400, "judged"), members)
            self.assertEqual(self.claude.requests[0].body, body)

    def test_odd_values_on_the_way_to_minimax(self) -> None:
        """The same where members must be edited: an answer, never a 500."""
        for members in (
            b'"messages": [{"role": "user", "content": "a \\ud800 b"}]',
            b'"messages": "none", "stream": "yes"',
            b'"messages": [3, null, {"role": 5, "content": {}}], "tools": 7, "system": {"a": 1}',
            b'"messages": [{"role": "assistant", "content": [{"type": "thinking"}, {"type": 3}, 4]}]',
            b'"thinking": 3, "output_config": [], "tool_choice": "x", "metadata": 4',
            b'"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}], "max_tokens": "many"',
        ):
            for stream in (b"false", b"true"):
                body = b'{"model": "claude-opus-5-5", "stream": ' + stream + b", " + members + b"}"
                answered = self.router.ask(body, "mixed")
                self.assertTrue(answered.status == 200 or 400 <= answered.status < 500, (members, answered.body))
        self.alive()

    def test_content_type(self) -> None:
        """A body that is said to be no JSON, or packed, is refused; JSON with a charset, or unnamed, is not."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
            self.refused(self.router.ask(message(), "mixed", headers={"content-type": kind}), 415, 400)
        self.refused(self.router.ask(message(), "mixed", headers={"content-encoding": "gzip"}), 415, 400)
        good = self.router.ask(message(), "mixed", headers={"content-type": "application/json; charset=utf-8"})
        self.assertEqual(good.status, 200)
        self.assertIn(b"200 OK", self.talk(http(json.dumps(message()).encode(), b"connection: close")))

    def test_paths(self) -> None:
        """Unknown paths are a 404 in the dialect's shape; the known ones work with and without ``/v1``."""
        for path in ("/", "/v1", "/nothing", "/v1/nothing", "/v1/messages/nothing/more", "/v2/messages", "/%2e%2e/etc"):
            answered = self.router.ask(message(), "minimax", path)
            self.refused(answered, 404, 405)
        for path in ("/v1/messages", "/messages", "/v1/v1/messages", "/v1/messages/", "/v1/messages?beta=true"):
            self.assertEqual(self.router.ask(message(), "mixed", path).status, 200, path)

    def test_other_paths_pass_to_anthropic(self) -> None:
        """Other paths of the API go to Anthropic where the mode has it, with their query, and nowhere else."""
        for port, status in (("anthropic", 200), ("mixed", 200), ("minimax", 404)):
            answered = self.router.ask(None, port, "/v1/messages/batches?limit=2")
            self.assertEqual(answered.status, status, port)
        targets = [exchange.target for exchange in self.claude.others]
        self.assertEqual(targets.count("/v1/messages/batches?limit=2"), 2)

    def test_methods(self) -> None:
        """A wrong method is a 405 that names the right one."""
        for method, path in (
            ("GET", "/v1/messages"),
            ("PUT", "/v1/messages"),
            ("DELETE", "/v1/messages"),
            ("GET", "/v1/messages/count_tokens"),
            ("POST", "/v1/models"),
            ("POST", "/health"),
        ):
            answered = self.router.ask(None if method == "GET" else b"{}", "mixed", path, method=method)
            self.assertIn("use", self.refused(answered, 405))

    def test_too_large(self) -> None:
        """A body past the limit is a 413, with its length told, chunked, and as the SDK sends it."""
        big = json.dumps(message("x" * 2 * MEGABYTE)).encode()
        answered = self.router.ask(big, "mixed")
        self.assertEqual(answered.status, 413)
        self.assertEqual(answered.error["type"], "request_too_large")
        self.assertTrue(answered.headers["request-id"])
        half = len(big) // 2
        received = self.talk(http(b"", b"transfer-encoding: chunked"), chunked(big[:half], big[half:]))
        self.assertIn(b" 413 ", received.split(b"\r\n", 1)[0])
        received = self.talk(http(b"", b"content-length: %d" % len(big), b"expect: 100-continue"))
        self.assertIn(b" 413 ", received.split(b"\r\n", 1)[0])
        self.assertNotIn(b"100 Continue", received)
        just = json.dumps(message("x" * (MEGABYTE - 500))).encode()
        self.assertLess(len(just), MEGABYTE)
        self.assertEqual(self.router.ask(just, "mixed").status, 200)
        self.assertEqual(len(self.minimax.requests), 1)

    def test_largest_by_default(self) -> None:
        """The default limit takes a body of just under 32 MiB, and refuses one over it."""
        stack = shared("failover", failover_stack)
        limit = 32 * MEGABYTE
        for size, status in ((limit - 300, 200), (limit + 1000, 413)):
            answered = stack.router.ask(message("x" * size), "mixed", timeout=120)
            self.assertEqual(answered.status, status)


class AdmissionTests(FrontDoorTestCase):
    """Who may ask."""

    def test_host(self) -> None:
        """Only loopback names are taken for the router's own: a name re-bound to 127.0.0.1 is refused."""
        for host, good in {
            "localhost": True,
            "LOCALHOST:8787": True,
            "127.0.0.1:1": True,
            "[::1]:8787": True,
            "evil.example": False,
            "evil.example:8787": False,
            "localhost.evil.example": False,
            "127.0.0.1.evil.example": False,
            "10.0.0.1": False,
            "a b": False,
        }.items():
            for path, value in (("/v1/messages", message()), ("/health", None), ("/status", None)):
                answered = self.router.ask(value, "mixed", path, headers={"host": host})
                if good:
                    self.assertEqual(answered.status, 200, host)
                else:
                    self.refused(answered, 403, 400)

    def test_origin(self) -> None:
        """A web page of another site may not drive the router; one of this machine may."""
        for origin, good in {
            "http://localhost:3000": True,
            "http://127.0.0.1": True,
            "https://evil.example": False,
            "http://localhost.evil.example": False,
            "null": False,
            "file://": False,
        }.items():
            answered = self.router.ask(message(), "mixed", headers={"origin": origin})
            if good:
                self.assertEqual(answered.status, 200, origin)
            else:
                self.refused(answered, 403)
        self.refused(self.router.ask(message(), "mixed", headers={"sec-fetch-site": "cross-site"}), 403)

    def test_token(self) -> None:
        """A port with a token takes it in three places, passes it on in none, and is closed without it."""
        for headers in (
            {"x-api-key": "wrong"},
            {"x-api-key": "gate-token2"},
            {"x-api-key": "", "authorization": "Basic gate-token"},
            {"x-mportrouter-token": ""},
        ):
            answered = self.router.ask(message(), "token", headers=headers)
            self.refused(answered, 401)
            self.assertEqual(answered.headers["x-should-retry"], "false")
        self.assertEqual(self.minimax.requests, [])
        for headers in (
            {"x-api-key": "gate-token"},
            {"x-api-key": "", "authorization": "Bearer gate-token"},
            {"x-mportrouter-token": "gate-token"},
        ):
            self.assertEqual(self.router.ask(message(), "token", headers=headers).status, 200, headers)
        for exchange in self.minimax.requests:
            self.assertNotIn("gate-token", str(exchange.headers))
        self.refused(self.router.ask(None, "token", "/status"), 401)

    def test_bound_on_exchanges(self) -> None:
        """Past the bound of exchanges under way there is a 503 that says when to come back."""
        self.minimax.play(faults.hang)
        socks = []
        # The next test must not find the places still taken.
        self.addCleanup(until, lambda: self.router.ask(message(), "anthropic").status == 200)
        for _ in range(4):
            sock = self.router.connect("mixed")
            self.addCleanup(sock.close)
            sock.sendall(http(json.dumps(message()).encode()))
            socks.append(sock)
        self.assertTrue(until(lambda: len(self.minimax.requests) == 4))
        answered = self.router.ask(message(), "anthropic")
        self.refused(answered, 503)
        self.assertGreaterEqual(float(answered.headers["retry-after"]), 1)
        for path in ("/health", "/status"):
            self.assertEqual(self.router.ask(None, "mixed", path).status, 200, path)
        for sock in socks:
            sock.close()
        self.assertTrue(until(lambda: self.router.ask(message(), "anthropic").status == 200))

    def test_router_headers_do_not_reach_providers(self) -> None:
        """Fields of the router's own and of the connection end here."""
        self.router.ask(
            message(),
            "mixed",
            headers={"x-mportrouter-format": "json", "cookie": "a=b", "te": "trailers", "x-keep": "yes"},
        )
        (exchange,) = self.minimax.requests
        for name in ("x-mportrouter-format", "cookie", "te", "keep-alive", "proxy-authorization"):
            self.assertIsNone(exchange.header(name), name)
        self.assertEqual(exchange.header("x-keep"), "yes")
        self.assertIn("127.0.0.1", exchange.header("host") or "")
