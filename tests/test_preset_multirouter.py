"""Stacked accounts: the preset ``multirouter``, driven with the OpenAI SDK against accounts that fail and recover."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import openai
from twisted.trial.unittest import TestCase

from .accounts import BROKE, EXPIRED, Accounts, limited, well
from .harness import RouterProcess, until
from .presets import preset

MODEL = "llama-3.3-70b-versatile"
KEYS = {"GROQ_API_KEY_1": "k1", "GROQ_API_KEY_2": "k2", "CEREBRAS_API_KEY": "k3", "GATEWAY_TOKEN": "gate"}
MISSING = {"GEMINI_API_KEY": None, "OPENROUTER_API_KEY": None, "OPENAI_API_KEY": None}


class MultirouterTests(TestCase):
    """Three accounts with keys, three without."""

    timeout = 120

    def start(self, **change: Any) -> RouterProcess:
        self.accounts = Accounts(["groq-1", "groq-2", "cerebras-1"])
        self.addCleanup(self.accounts.stop)
        urls = {name: self.accounts.url(name) for name in self.accounts.accounts}
        router = preset(
            "multirouter", urls, {**KEYS, **MISSING, **change.pop("environment", {})}, change.pop("change", None)
        )
        self.addCleanup(router.stop)
        return router

    def client(self, router: RouterProcess, key: str = "gate") -> openai.OpenAI:
        client = openai.OpenAI(base_url=router.url("main", "/v1"), api_key=key, max_retries=0, timeout=60.0)
        self.addCleanup(client.close)
        return client

    def say(self, client: openai.OpenAI, text: str = "hello", model: str = MODEL, stream: bool = False) -> str:
        """Who answered."""
        messages: Any = [{"role": "user", "content": text}]
        if not stream:
            said = client.chat.completions.create(model=model, messages=messages).choices[0].message.content or ""
        else:
            chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertIn(f"answers {text}", said)
        return said.split()[0]

    def test_exhaust(self) -> None:
        """An account is used until it is limited, then the next; when its time is up, the first one again."""
        router = self.start()
        client = self.client(router)
        self.accounts["groq-1"].rule = limited(3, 3.0)
        served = [self.say(client, f"q{number}", stream=number % 2 == 0) for number in range(6)]
        self.assertEqual(served, ["groq-1"] * 3 + ["groq-2"] * 3)
        self.assertEqual(self.accounts["groq-1"].asked, 4)

        def back() -> bool:
            time.sleep(0.5)  # the port has a limit of its own
            return self.say(client, "again") == "groq-1"

        self.assertTrue(until(back, 20.0))

    def test_broke_and_expired(self) -> None:
        """An account without money, or whose key is refused, is left alone; each is asked with its own key only."""
        router = self.start()
        client = self.client(router)
        self.accounts["groq-1"].rule = BROKE
        self.assertEqual([self.say(client, f"q{number}") for number in range(3)], ["groq-2"] * 3)
        self.assertEqual(self.accounts["groq-1"].asked, 1)
        self.accounts["groq-2"].rule = EXPIRED
        with self.assertRaises(openai.APIStatusError) as caught:
            self.say(client, "nobody")
        self.assertEqual(caught.exception.status_code, 429)
        self.assertIn("all providers for model exhausted", str(caught.exception))
        self.assertGreater(float(caught.exception.response.headers["retry-after"]), 1)
        for name, key in (("groq-1", "k1"), ("groq-2", "k2")):
            self.assertEqual(set(self.accounts[name].keys), {f"Bearer {key}"})

    def test_auto(self) -> None:
        """The model multirouter-auto takes turns through all accounts, each with a model of its own."""
        router = self.start()
        client = self.client(router)
        served = [self.say(client, f"q{number}", "multirouter-auto") for number in range(6)]
        self.assertEqual(sorted(served), ["cerebras-1"] * 2 + ["groq-1"] * 2 + ["groq-2"] * 2)
        self.assertEqual(served[:3], served[3:])
        self.assertEqual(self.accounts["cerebras-1"].bodies[0]["model"], "gpt-oss-120b")

    def test_stays(self) -> None:
        """A conversation under way stays on its account, whoever's turn it is."""
        router = self.start()
        client = self.client(router)
        messages: list[Any] = [{"role": "user", "content": "begin"}]
        first = self.say(client, "begin", "multirouter-auto")
        for number in range(3):
            messages += [{"role": "assistant", "content": "a"}, {"role": "user", "content": f"more {number}"}]
            answer = client.chat.completions.create(model="multirouter-auto", messages=messages)
            self.assertEqual((answer.choices[0].message.content or "").split()[0], first)
            self.say(client, f"other {number}", "multirouter-auto")

    def test_unknown_model(self) -> None:
        """A model that no account has is a 404 that names those there are."""
        router = self.start()
        with self.assertRaises(openai.NotFoundError) as caught:
            self.say(self.client(router), model="gpt-nope")
        self.assertIn(MODEL, str(caught.exception))

    def test_gateway_token(self) -> None:
        """Without the gateway's token nobody is asked."""
        router = self.start()
        with self.assertRaises(openai.AuthenticationError):
            self.say(self.client(router, "wrong"))
        self.assertEqual(self.accounts["groq-1"].asked, 0)

    def test_client_limit(self) -> None:
        """A client's requests past its limit a minute are a 429 with the time of its next one."""
        router = self.start()
        client = self.client(router)
        self.accounts["groq-1"].rule = well
        for number in range(100):
            self.say(client, f"q{number}")
        with self.assertRaises(openai.RateLimitError) as caught:
            self.say(client, "one more")
        headers = caught.exception.response.headers
        self.assertGreaterEqual(float(headers["retry-after"]), 1)
        self.assertEqual(self.accounts["groq-1"].asked, 100)

    def test_lists(self) -> None:
        """The list of models begins with the automatic one; health tells each account with its models."""
        router = self.start()
        models = self.client(router).models.list().data
        self.assertEqual((models[0].id, models[0].owned_by), ("multirouter-auto", "multirouter"))
        self.assertIn((MODEL, "groq"), [(model.id, model.owned_by) for model in models])
        self.assertNotIn("gpt-4o", [model.id for model in models])
        request = urllib.request.Request(router.url("main", "/health"), headers={"authorization": "Bearer gate"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            health = json.load(answer)
        self.assertEqual(health["providers"]["groq-2"]["models"], [MODEL])

    def test_keyless_skipped(self) -> None:
        """Accounts without a key are skipped, and the start says so."""
        router = self.start()
        for name in ("gemini-1", "openrouter-1", "openai-1"):
            self.assertIn(name, router.output())
