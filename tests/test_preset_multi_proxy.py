"""Sub-agents by tag: the preset ``claude-multi-proxy``, driven with the Anthropic SDK."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.request
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from mportrouter.demo_responses import ResponsesVoice
from mportrouter.demo_said import Refusal

from .accounts import Accounts
from .faults import ok
from .faulty import Exchange, FaultyUpstream
from .harness import RouterProcess, until
from .presets import preset

LOGIN = "sk-ant-oat01-of-the-client"
TAG = "<CCR-SUBAGENT-MODEL>{}</CCR-SUBAGENT-MODEL>"


def token(seconds: float) -> str:
    """A JSON Web Token that ends in so many seconds."""
    claims = {"exp": time.time() + seconds, "iss": "https://auth.openai.com"}
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{middle}.x"


class MultiProxyTests(TestCase):
    """Anthropic with the client's own login, Cerebras with a key, Codex with its program's login."""

    timeout = 120

    def setUp(self) -> None:
        self.claude = FaultyUpstream([ok("from Claude")])
        self.addCleanup(self.claude.stop)
        self.accounts = Accounts(["cerebras"])
        self.addCleanup(self.accounts.stop)
        self.codex = FaultyUpstream([self.answer_as_codex], "/backend-api/codex")
        self.addCleanup(self.codex.stop)
        self.serial = 0
        urls = {"anthropic": self.claude.url, "cerebras": self.accounts.url("cerebras"), "codex": self.codex.url}
        keys = {"CEREBRAS_API_KEY": "kc", "ANTHROPIC_API_KEY": None, "MINIMAX_API_KEY": None}
        self.router: RouterProcess = preset("claude-multi-proxy", urls, keys, start=False)
        self.addCleanup(self.router.stop)
        folder = os.path.join(self.router.home, ".codex")
        os.mkdir(folder, 0o700)
        self.access = token(3600)
        tokens = {"access_token": self.access, "refresh_token": "r", "id_token": token(3600), "account_id": "acct"}
        with open(os.path.join(folder, "auth.json"), "w", encoding="utf-8") as file:
            json.dump({"tokens": tokens, "last_refresh": "2026-11-20T00:00:00Z"}, file)
        self.router.start()

    def answer_as_codex(self, exchange: Exchange) -> None:
        voice = ResponsesVoice("Codex", "codex", backend=True)
        self.serial += 1
        try:
            voice.check(exchange.json, {})
        except Refusal as refusal:
            exchange.whole(refusal.status, json.dumps(voice.error(refusal, self.serial)).encode())
            return
        exchange.head()
        for event in voice.answer(exchange.json, self.serial).events:
            exchange.chunk(event)
        exchange.finish()

    def say(self, system: str | None = None, stream: bool = False, **members: Any) -> str:
        client = anthropic.Anthropic(
            base_url=self.router.url("main"), auth_token=LOGIN, api_key=None, max_retries=0, timeout=60
        )
        request: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 200, **members}
        request.setdefault("messages", [{"role": "user", "content": "hi"}])
        if system is not None:
            request["system"] = system
        with client:
            if not stream:
                answer = client.messages.create(**request)
            else:
                with client.messages.stream(**request) as events:
                    answer = events.get_final_message()
        return "".join(block.text for block in answer.content if block.type == "text")

    def test_no_tag(self) -> None:
        """Without a tag the request goes to Anthropic as it came, with the client's own login."""
        self.assertEqual(self.say("You are kind.", stream=True), "from Claude")
        (sent,) = self.claude.requests
        self.assertEqual(sent.header("authorization"), f"Bearer {LOGIN}")
        self.assertEqual((sent.json["system"], sent.json["model"]), ("You are kind.", "claude-sonnet-4-6"))

    def test_tag(self) -> None:
        """A tag sends the request to the upstream and model that it names; it goes no further, nor does the login."""
        for stream in (False, True):
            said = self.say("You write. " + TAG.format("cerebras,zai-glm-4.7") + " You test.", stream)
            self.assertTrue(said.startswith("cerebras answers hi"), said)
        for sent in self.accounts["cerebras"].bodies:
            self.assertEqual(sent["model"], "zai-glm-4.7")
            self.assertEqual(sent["messages"][0], {"role": "system", "content": "You write.  You test."})
            self.assertNotIn("CCR-SUBAGENT", json.dumps(sent))
        self.assertEqual(set(self.accounts["cerebras"].keys), {"Bearer kc"})
        self.assertEqual(self.claude.requests, [])

    def test_codex(self) -> None:
        """Codex is asked with its program's login, in the form that its backend takes, streamed and not."""
        for stream in (False, True):
            said = self.say(TAG.format("codex,gpt-5.1-codex") + "Review.", stream)
            self.assertIn("stand-in for Codex, model gpt-5.1-codex", said)
        for sent in self.codex.requests:
            self.assertEqual(sent.header("authorization"), f"Bearer {self.access}")
            self.assertEqual(sent.header("chatgpt-account-id"), "acct")
            self.assertEqual((sent.json["stream"], sent.json["store"]), (True, False))
            self.assertEqual(sent.path, "/backend-api/codex/responses")

    def test_tool_loop(self) -> None:
        """A sub-agent's tools work across the dialects, with a lenient schema."""
        schema = {"type": "object", "properties": {"city": {"type": "string", "format": "x"}}, "required": ["city"]}
        tools = [{"name": "get_weather", "description": "w", "input_schema": schema}]
        client = anthropic.Anthropic(
            base_url=self.router.url("main"), auth_token=LOGIN, api_key=None, max_retries=0, timeout=60
        )
        messages: list[Any] = [{"role": "user", "content": "Use get_weather for 'Rome'."}]
        request: Any = {"model": "m", "max_tokens": 200, "system": TAG.format("codex,gpt-5.1-codex"), "tools": tools}
        with client:
            first = client.messages.create(messages=messages, **request)
            (call,) = [block for block in first.content if block.type == "tool_use"]
            self.assertEqual(call.input, {"city": "Rome"})
            messages.append({"role": "assistant", "content": [block.model_dump() for block in first.content]})
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
            messages.append({"role": "user", "content": [result]})
            second = client.messages.create(messages=messages, **request)
        self.assertIn("sunny", "".join(block.text for block in second.content if block.type == "text"))

    def test_unknown(self) -> None:
        """An unknown provider or model in a tag is a 400 that names those there are."""
        for wrong, known in (("groq,llama", "cerebras"), ("cerebras,llama", "zai-glm-4.7")):
            with self.assertRaises(anthropic.BadRequestError) as caught:
                self.say(TAG.format(wrong))
            self.assertIn(known, str(caught.exception))

    def test_only_in_the_system_prompt(self) -> None:
        """A tag in a message is text."""
        text = TAG.format("cerebras,zai-glm-4.7")
        self.assertEqual(self.say(messages=[{"role": "user", "content": text}]), "from Claude")
        self.assertEqual(self.claude.requests[0].json["messages"][0]["content"], text)

    def test_usage(self) -> None:
        """Each answer leaves a line of tokens in the seed's form, and the API adds them up."""
        self.say(TAG.format("cerebras,zai-glm-4.7"))
        self.say()
        path = os.path.join(self.router.home, ".ai-router", "logs", "usage.jsonl")

        def lines() -> list[Any]:
            if not os.path.exists(path):
                return []
            with open(path, encoding="utf-8") as file:
                return [json.loads(line) for line in file]

        self.assertTrue(until(lambda: len(lines()) == 2))
        names = ["timestamp", "provider", "model", "inputTokens", "outputTokens"]
        names += ["cacheReadTokens", "cacheCreationTokens", "totalTokens"]
        self.assertEqual([list(line) for line in lines()], [names] * 2)
        self.assertEqual([line["provider"] for line in lines()], ["cerebras", "anthropic"])
        self.assertEqual((lines()[0]["inputTokens"], lines()[0]["totalTokens"]), (10, 13))
        with urllib.request.urlopen(self.router.url("main", "/api/usage"), timeout=30) as answer:
            self.assertEqual(json.load(answer)["byProvider"]["cerebras"]["totalTokens"], 13)
