"""The official Anthropic SDK through the router, against upstreams that judge requests as the providers do."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from . import faults
from .faulty import Exchange, FaultyUpstream
from .harness import SECRET, RouterProcess, Stack, message, shared

MODEL = "claude-opus-5-5"
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PROVIDERS = {"anthropic": "Anthropic", "minimax": "MiniMax"}


def make_stack() -> Stack:
    claude = FaultyUpstream([faults.speak("anthropic")])
    minimax = FaultyUpstream([faults.speak("minimax")], "/anthropic")
    limits = {"failures": 1000, "degraded_after": 1000, "rate_limited_after": 1000}
    config = {"breaker": limits, "modes": {"mixed": {"retry_delay": "50ms"}}}
    return Stack(RouterProcess({"anthropic": claude.url, "minimax": minimax.url}, config), claude, minimax)


class SDKTestCase(TestCase):
    """One router in front of two upstreams that judge and speak as Anthropic and MiniMax."""

    timeout = 120

    def setUp(self) -> None:
        stack = shared("sdk", make_stack)
        self.router: RouterProcess = stack.router
        self.anthropic: FaultyUpstream
        self.minimax: FaultyUpstream
        self.anthropic, self.minimax = stack.parts
        self.play_well()

    def play_well(self) -> None:
        """Both upstreams are healthy."""
        self.anthropic.play(faults.speak("anthropic"))
        self.minimax.play(faults.speak("minimax"))

    def client(self, port: str = "mixed", path: str = "", **options: Any) -> anthropic.Anthropic:
        options = {"api_key": "client-key", "max_retries": 0, "timeout": 90.0, **options}
        client = anthropic.Anthropic(base_url=self.router.url(port, path), **options)
        self.addCleanup(client.close)
        return client

    def say(self, port: str, messages: Any, stream: bool = False, **members: Any) -> Any:
        """A whole answer of the SDK, streamed or not."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        request = {"model": MODEL, "max_tokens": 300, "messages": messages, **members}
        if not stream:
            return self.client(port).messages.create(**request)
        with self.client(port).messages.stream(**request) as events:
            return events.get_final_message()

    def text(self, message: Any) -> str:
        return "".join(block.text for block in message.content if block.type == "text")

    def turn(self, message: Any) -> dict[str, Any]:
        """An answer as the turn of the next request, as clients send it back."""
        return {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]}


class MessageTests(SDKTestCase):
    """Plain answers."""

    def test_message(self) -> None:
        """Every fixed port answers from its own provider, streamed and not, with usage."""
        for port, name in (("anthropic", "Anthropic"), ("minimax", "MiniMax"), ("mixed", "MiniMax")):
            for stream in (False, True):
                message = self.say(port, "Where is the harbour?", stream)
                self.assertIn(f"stand-in for {name}", self.text(message))
                self.assertIn("Where is the harbour?", self.text(message))
                self.assertEqual(message.stop_reason, "end_turn")
                self.assertGreater(message.usage.input_tokens, 0)
                self.assertGreater(message.usage.output_tokens, 5)

    def test_model_mapping(self) -> None:
        """Each provider is asked for a model that exists there, whatever the client's name for it."""
        self.say("anthropic", "x")
        self.say("minimax", "x")
        self.say("anthropic", "x", model="MiniMax-M3")
        self.say("minimax", "x", model="MiniMax-M2.7")
        models = [exchange.json["model"] for exchange in self.anthropic.requests]
        self.assertEqual(models[0], MODEL)
        self.assertTrue(models[1].startswith("claude-"), models)
        models = [exchange.json["model"] for exchange in self.minimax.requests]
        self.assertTrue(all(model.startswith("MiniMax-") for model in models), models)

    def test_keys(self) -> None:
        """A provider gets the router's key for it, in one header, and nothing of the client's or of the other's."""
        for options in ({"api_key": "client-key"}, {"api_key": None, "auth_token": "client-token"}):
            for port in ("anthropic", "minimax"):
                self.client(port, **options).messages.create(
                    model=MODEL, max_tokens=20, messages=[{"role": "user", "content": "x"}]
                )
        for upstream, key in ((self.anthropic, SECRET + "-a"), (self.minimax, SECRET + "-m")):
            self.assertEqual(len(upstream.requests), 2)
            for exchange in upstream.requests:
                credentials = [exchange.header("x-api-key"), exchange.header("authorization")]
                self.assertEqual(len([value for value in credentials if value]), 1, credentials)
                self.assertIn(key, str(credentials))
                everything = str(exchange.headers) + exchange.body.decode()
                for foreign in ("client-key", "client-token", SECRET + ("-m" if key.endswith("a") else "-a")):
                    self.assertNotIn(foreign, everything)

    def test_old_header(self) -> None:
        """A client that sends its key as ``x-api-key`` is served as well."""
        client = self.client("mixed", default_headers={"x-api-key": "old", "Authorization": anthropic.Omit()})
        message = client.messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "x"}])
        self.assertIn("MiniMax", self.text(message))

    def test_base_url_with_v1(self) -> None:
        """A base URL that ends in ``/v1`` works too."""
        client = self.client("mixed", "/v1")
        message = client.messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "x"}])
        self.assertIn("MiniMax", self.text(message))
        self.assertEqual(self.minimax.requests[0].path, "/anthropic/v1/messages")

    def test_bytes_pass_untouched(self) -> None:
        """To Anthropic goes the client's body byte for byte: odd spacing, big numbers, unknown members, escapes."""
        body = (
            b'{ "model" : "claude-opus-5-5","max_tokens":20, "messages":[{"role":"user",\n"content":"\\u00e9 '
            b'\\ud83d\\ude00 caf\xc3\xa9"}], "x_new":{"n":12345678901234567890123,"f":1.0e5,"z":[ ]} , "stream":false}'
        )
        self.anthropic.play(faults.ok())
        answered = self.router.ask(
            body, "anthropic", "/v1/messages?beta=true&x=%2F", {"anthropic-beta": "a-1,b-2", "x-app": "cli"}
        )
        self.assertEqual(answered.status, 200)
        (exchange,) = self.anthropic.requests
        self.assertEqual(exchange.body, body)
        self.assertEqual(exchange.target, "/v1/messages?beta=true&x=%2F")
        self.assertEqual(
            [exchange.header(name) for name in ("anthropic-beta", "anthropic-version", "x-app")],
            ["a-1,b-2", "2023-06-01", "cli"],
        )

    def test_answer_bytes_pass_untouched(self) -> None:
        """What Anthropic answers reaches the client byte for byte, with the router's own fields beside."""
        weird = b'{"type":"message",  "x":1e400,"content":[{"type":"text","text":"a\\/b"}],"usage":{"output_tokens":1}}'
        self.anthropic.play(lambda exchange: exchange.whole(200, weird, anthropic_organization_id="org-1"))
        answered = self.router.ask({"model": MODEL, "max_tokens": 5, "messages": []}, "anthropic")
        self.assertEqual(answered.body, weird)
        self.assertEqual(answered.headers["anthropic-organization-id"], "org-1")
        self.assertEqual(answered.headers["request-id"], "req_faulty")
        self.assertEqual(answered.headers["x-mportrouter-upstream"], "anthropic")
        self.assertEqual(answered.headers["x-mportrouter-mode"], "anthropic")
        self.assertEqual(answered.headers["x-mportrouter-attempts"], "1")

    def test_betas(self) -> None:
        """Beta requests keep the names of their betas."""
        client = self.client("anthropic")
        client.beta.messages.create(
            model=MODEL,
            max_tokens=20,
            messages=[{"role": "user", "content": "x"}],
            betas=["context-management-2025-06-27"],
            context_management={"edits": []},
        )
        (exchange,) = self.anthropic.requests
        self.assertIn("context-management-2025-06-27", exchange.header("anthropic-beta") or "")

    def test_refused_members_do_not_reach_minimax(self) -> None:
        """Claude Code's members that MiniMax refuses are taken out on the way there, and only there."""
        value: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": 100,
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli;"},
                {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}},
            ],
            "messages": [{"role": "user", "content": "hello"}, {"role": "system", "content": "the environment"}],
            "thinking": {"type": "adaptive", "display": "omitted"},
            "output_config": {"effort": "medium"},
            "metadata": {"user_id": "u"},
            "tools": [WEATHER, {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}],
        }
        answered = self.router.ask(value, "minimax")
        self.assertEqual(answered.status, 200, answered.body)
        sent = self.minimax.requests[0].json
        self.assertNotIn("x-anthropic-billing-header", json.dumps(sent["system"]))
        self.assertIn("the environment", json.dumps(sent["messages"]))
        self.assertNotIn("system", [message["role"] for message in sent["messages"]])
        self.assertTrue(answered.headers["x-mportrouter-dropped"])
        answered = self.router.ask(value, "anthropic")
        self.assertEqual(answered.status, 200, answered.body)
        self.assertEqual(self.anthropic.requests[0].json, value)

    def test_async_client(self) -> None:
        """The asynchronous client streams as well."""

        async def ask() -> str:
            url = self.router.url("mixed")
            messages: Any = [{"role": "user", "content": "x"}]
            async with (
                anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client,
                client.messages.stream(model=MODEL, max_tokens=50, messages=messages) as stream,
            ):
                return "".join([piece async for piece in stream.text_stream])

        self.assertIn("MiniMax", asyncio.run(ask()))

    def test_many_at_once(self) -> None:
        """Fifty clients at once each get their own answer."""

        def ask(number: int) -> bool:
            message = self.say("mixed", f"number {number} here", stream=number % 2 == 0)
            return f"number {number} here" in self.text(message)

        with ThreadPoolExecutor(25) as threads:
            self.assertTrue(all(threads.map(ask, range(50))))


class ErrorTests(SDKTestCase):
    """A provider's refusals and the router's, as the SDK's exceptions."""

    def test_providers_refusal(self) -> None:
        """A 400 keeps the provider's words and id, is asked once, and touches no other upstream."""
        for port, upstream in (("anthropic", self.anthropic), ("mixed", self.minimax)):
            upstream.play(faults.status(400, "invalid_request_error", "messages.7: something odd"))
            for stream in (False, True):
                error = self.assertRaises(anthropic.BadRequestError, self.say, port, "x", stream)
                self.assertIn("messages.7: something odd", str(error))
                self.assertEqual(error.request_id, "req_faulty")
            self.assertEqual(len(upstream.requests), 2)
        self.assertEqual(len(self.anthropic.requests), 2)

    def test_retry_advice_is_passed_on(self) -> None:
        """``x-should-retry`` and ``retry-after`` of the only upstream reach the client."""
        self.anthropic.play(faults.status(429, "rate_limit_error", "later", retry_after="7", x_should_retry="false"))
        # A model that no other test asks for: the circuit leaves it alone for those seconds.
        answered = self.router.ask({"model": "claude-haiku-4-5", "max_tokens": 5, "messages": []}, "anthropic")
        self.assertEqual(answered.status, 429)
        self.assertEqual((answered.headers["retry-after"], answered.headers["x-should-retry"]), ("7", "false"))
        self.assertEqual(answered.error["message"], "later")


class ClientLoginTests(SDKTestCase):
    """``auth: client``: the client's own login goes to the provider it belongs to and nowhere else."""

    def setUp(self) -> None:
        claude = FaultyUpstream([faults.ok("from Claude")])
        minimax = FaultyUpstream([faults.ok("from MiniMax")], "/anthropic")
        upstreams = {
            "anthropic": {"base_url": claude.url, "auth": "client"},
            "minimax": {"base_url": minimax.url},
        }
        router = RouterProcess(config={"upstreams": upstreams}, environment={"ANTHROPIC_API_KEY": None})
        stack = Stack(router, claude, minimax)
        self.addCleanup(stack.stop)
        self.router, self.anthropic, self.minimax = router, claude, minimax

    def test_own_host_only(self) -> None:
        """Claude sees the client's login as it came, MiniMax only the router's key, also when it fails over."""
        self.minimax.play(faults.ok("from MiniMax"), faults.overloaded())
        login = {"auth_token": "sk-ant-oat01-login", "api_key": None}
        for _ in range(2):
            self.client("mixed", **login).messages.create(
                model=MODEL, max_tokens=20, messages=[{"role": "user", "content": "x"}]
            )
        self.assertEqual(
            [each.header("authorization") for each in self.anthropic.requests], ["Bearer sk-ant-oat01-login"]
        )
        self.assertIsNone(self.anthropic.requests[0].header("x-api-key"))
        self.assertGreaterEqual(len(self.minimax.requests), 2)
        for exchange in self.minimax.requests:
            self.assertNotIn("login", str(exchange.headers))
            self.assertIn(SECRET + "-m", str(exchange.headers))

    def test_old_header_goes_too(self) -> None:
        """A key in ``x-api-key`` arrives in ``x-api-key``."""
        answered = self.router.ask(message("x"), "anthropic", headers={"x-api-key": "sk-ant-api-own"})
        self.assertEqual(answered.text, "from Claude")
        (exchange,) = self.anthropic.requests
        self.assertEqual((exchange.header("x-api-key"), exchange.header("authorization")), ("sk-ant-api-own", None))

    def test_not_written(self) -> None:
        """The login is in nothing that the router writes."""
        self.test_own_host_only()
        self.router.end()
        self.assertNotIn("oat01-login", self.router.written())


class ToolTests(SDKTestCase):
    """Tool round trips."""

    def test_round_trip(self) -> None:
        """A call comes with its arguments, its result goes back, the answer quotes it: on every port."""
        for port in ("anthropic", "minimax", "mixed", "dynamic"):
            for stream in (False, True):
                asked = {"role": "user", "content": "Use the tool for “Bergen”"}
                first = self.say(port, [asked], stream, tools=[WEATHER])
                self.assertEqual(first.stop_reason, "tool_use")
                call = first.content[-1]
                self.assertEqual((call.name, call.input), ("get_weather", {"city": "Bergen"}))
                result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain, 9 degrees"}
                history = [asked, self.turn(first), {"role": "user", "content": [result]}]
                second = self.say(port, history, stream, tools=[WEATHER])
                self.assertIn("rain, 9 degrees", self.text(second))

    def test_loop_moves_on(self) -> None:
        """A tool loop that began at MiniMax ends at Claude when MiniMax fails in between."""
        asked = {"role": "user", "content": "Use the tool for “Bergen”"}
        first = self.say("mixed", [asked], True, tools=[WEATHER])
        self.minimax.play(faults.overloaded())
        result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "snow"}
        second = self.say("mixed", [asked, self.turn(first), {"role": "user", "content": [result]}], tools=[WEATHER])
        self.assertIn("stand-in for Anthropic", self.text(second))
        self.assertIn("snow", self.text(second))


class ThinkingTests(SDKTestCase):
    """Thinking blocks, whose signatures only their own provider accepts."""

    adaptive = {"type": "adaptive"}  # noqa: RUF012 - read only
    budget = {"type": "enabled", "budget_tokens": 1024}  # noqa: RUF012

    def ask(self, port: str, history: list[Any], stream: bool = True, thinking: Any = None, **members: Any) -> Any:
        thinking = thinking or self.adaptive
        return self.say(port, history, stream, max_tokens=2000, thinking=thinking, **members)

    def kinds(self, message: Any) -> list[str]:
        return [block.type for block in message.content]

    def sent_thinking(self, exchange: Exchange) -> list[dict[str, Any]]:
        return [
            block
            for message in exchange.json["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "thinking"
        ]

    def test_same_provider(self) -> None:
        """Each provider gets its own thinking back just as it gave it, streamed and not."""
        for port, upstream in (("anthropic", self.anthropic), ("minimax", self.minimax), ("mixed", self.minimax)):
            for stream in (False, True):
                history: list[Any] = [{"role": "user", "content": "why?"}]
                first = self.ask(port, history, stream)
                self.assertEqual(self.kinds(first), ["thinking", "text"])
                history += [self.turn(first), {"role": "user", "content": "and then?"}]
                second = self.ask(port, history, stream)
                self.assertEqual(self.kinds(second), ["thinking", "text"])
                self.assertEqual(len(self.sent_thinking(upstream.requests[-1])), 1, port)

    def test_across_providers(self) -> None:
        """
        A conversation that goes MiniMax, Claude, MiniMax, Claude is refused nowhere, and each provider sees its own
        thinking and none of the other's.
        """
        for stream in (True, False):
            self.play_well()
            history: list[Any] = [{"role": "user", "content": "question one"}]
            for number, down in enumerate((False, True, False, True)):
                self.minimax.play(faults.overloaded() if down else faults.speak("minimax"))
                self.anthropic.requests.clear()
                message = self.ask("mixed", history, stream)
                name = "Anthropic" if down else "MiniMax"
                self.assertIn(f"stand-in for {name}", self.text(message))
                upstream = self.anthropic if down else self.minimax
                signatures = [block["signature"] for block in self.sent_thinking(upstream.requests[-1])]
                own = "demo-anthropic-" if down else "demo-minimax-"
                self.assertEqual(len(signatures), number // 2, signatures)
                self.assertTrue(all(signature.startswith(own) for signature in signatures), signatures)
                history += [self.turn(message), {"role": "user", "content": f"question after {number}"}]

    def test_open_loop_across_providers(self) -> None:
        """MiniMax thinks and calls a tool, then fails: Claude takes the open loop with either kind of thinking on."""
        for thinking in (self.adaptive, self.budget):
            self.play_well()
            asked = {"role": "user", "content": "Use the tool for “Oslo”"}
            first = self.ask("mixed", [asked], thinking=thinking, tools=[WEATHER])
            self.assertEqual(self.kinds(first), ["thinking", "text", "tool_use"])
            self.minimax.play(faults.overloaded())
            result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "fog"}
            history = [asked, self.turn(first), {"role": "user", "content": [result]}]
            second = self.ask("mixed", history, thinking=thinking, tools=[WEATHER])
            self.assertIn("fog", self.text(second))
            self.assertIn("stand-in for Anthropic", self.text(second))

    def test_switched_port(self) -> None:
        """The same when the port's mode is switched rather than an upstream down."""
        history: list[Any] = [{"role": "user", "content": "one"}]
        for mode in ("minimax", "anthropic", "minimax"):
            self.router.command("mode", mode, "--port", str(self.router.port_numbers["dynamic"]))
            message = self.ask("dynamic", history)
            self.assertIn(f"stand-in for {PROVIDERS[mode]}", self.text(message))
            history += [self.turn(message), {"role": "user", "content": "next"}]
        self.router.command("mode", "mixed", "--port", str(self.router.port_numbers["dynamic"]))

    def test_unsigned_blocks(self) -> None:
        """Thinking that nobody signed, as other tools leave it in a history, never reaches Anthropic."""
        block = {"type": "thinking", "thinking": "from somewhere", "signature": ""}
        history = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [block, {"type": "text", "text": "y"}]},
            {"role": "user", "content": "z"},
        ]
        message = self.say("anthropic", history)
        self.assertIn("Anthropic", self.text(message))
        self.assertEqual(self.sent_thinking(self.anthropic.requests[0]), [])


class CatalogueTests(SDKTestCase):
    """Counting and listing."""

    def test_count_tokens(self) -> None:
        """Tokens are counted by Anthropic where the mode has it, with the mapped model."""
        messages: Any = [{"role": "user", "content": "how many tokens are in this?"}]
        for port in ("anthropic", "mixed", "interactive", "dynamic"):
            counted = self.client(port).messages.count_tokens(model=MODEL, messages=messages)
            self.assertGreater(counted.input_tokens, 5)
        counted = self.client("mixed").messages.count_tokens(model="MiniMax-M3", messages=messages)
        self.assertGreater(counted.input_tokens, 5)
        self.assertTrue(self.anthropic.requests[-1].json["model"].startswith("claude-"))

    def test_count_tokens_of_foreign_thinking(self) -> None:
        """Counting a history with MiniMax's thinking in it is refused no more than answering it."""
        history: list[Any] = [{"role": "user", "content": "x"}]
        first = self.say("minimax", history, True, max_tokens=2000, thinking={"type": "adaptive"})
        history += [self.turn(first), {"role": "user", "content": "y"}]
        self.assertGreater(self.client("mixed").messages.count_tokens(model=MODEL, messages=history).input_tokens, 5)

    def test_count_tokens_without_anthropic(self) -> None:
        """In a mode that cannot count, the answer is an estimate that says it is one."""
        answered = self.router.ask(
            {"model": MODEL, "messages": [{"role": "user", "content": "x " * 500}]},
            "minimax",
            "/v1/messages/count_tokens",
        )
        self.assertEqual((answered.status, answered.headers["x-mportrouter-decision"]), (200, "estimated"))
        self.assertTrue(100 < answered.json["input_tokens"] < 2000, answered.json)

    def test_burst_of_counts(self) -> None:
        """Claude Code's 25 counts at once over many connections are all answered."""

        def count(number: int) -> int:
            messages: Any = [{"role": "user", "content": "x" * number * 40}]
            return self.client("mixed").messages.count_tokens(model=MODEL, messages=messages).input_tokens

        with ThreadPoolExecutor(25) as threads:
            counts = list(threads.map(count, range(1, 26)))
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(len(self.anthropic.requests), 25)

    def test_models(self) -> None:
        """The list of models pages and each model can be asked for."""
        for port in ("anthropic", "mixed", "minimax"):
            models = list(self.client(port).models.list(limit=1000))
            self.assertTrue(models, port)
            for model in models:
                self.assertTrue(model.id and model.display_name, model)
            one = self.client(port).models.retrieve(models[0].id)
            self.assertEqual(one.id, models[0].id)

    def test_unknown_model(self) -> None:
        """A model that is not there is a 404 of the dialect."""
        self.assertRaises(anthropic.NotFoundError, self.client("anthropic").models.retrieve, "claude-none-9")
