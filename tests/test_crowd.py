"""A thousand exchanges at once over twenty accounts that fail in every way: none is lost, none answered twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from twisted.trial.unittest import TestCase

from .accounts import BROKE, EXPIRED, Accounts, always, breaking, limited, mostly, well
from .harness import RouterProcess

MODEL = "llama-3.3-70b-versatile"
NAMES = [f"acc-{number:02d}" for number in range(20)]
MANY = 1000


def config(accounts: Accounts, strategy: str) -> dict[str, Any]:
    return {
        "ports": {"stacked": {"mode": "stacked"}},
        "modes": {"stacked": {"strategy": strategy, "upstreams": NAMES, "retry_after": "1s"}},
        "upstreams": {
            name: {
                "provider": "custom",
                "dialect": "openai-chat",
                "base_url": accounts.url(name),
                "auth_style": "bearer",
                "api_key": f"key-{name}",
                "models": [MODEL],
                "timeouts": {"connect": "10s", "head": "30s", "first_content": "30s", "idle": "30s", "answer": "30s"},
            }
            for name in NAMES
        },
        "front": {"exchanges": 2 * MANY},
    }


async def ask(port: int, text: str, stream: bool) -> tuple[int, str]:
    """Status and whole body of one answer, over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split(b" ")[1]), rest.decode("utf-8", "replace")


async def ask_all(port: int) -> dict[str, tuple[int, str]]:
    texts = [f"q-{number:04d}." for number in range(MANY)]
    answers = await asyncio.gather(*(ask(port, text, number % 2 == 0) for number, text in enumerate(texts)))
    return dict(zip(texts, answers, strict=True))


class CrowdTests(TestCase):
    """Both strategies for stacked accounts, under load."""

    timeout = 300

    def crowd(self, strategy: str) -> tuple[Accounts, dict[str, tuple[int, str]]]:
        accounts = Accounts(NAMES)
        self.addCleanup(accounts.stop)
        for number, name in enumerate(NAMES):
            accounts[name].rule = (
                mostly([well, well, breaking("reset")]),
                limited(20, 1.0),
                BROKE,
                mostly([well, breaking("cut"), well]),
                EXPIRED,
                mostly([well, always(500, "oops"), well, always(503, "overloaded")]),
                well,
                limited(5, 2.0),
                well,
                mostly([well, always(529, "busy")]),
            )[number % 10]
        router = RouterProcess(None, config(accounts, strategy))
        self.addCleanup(router.stop)
        return accounts, asyncio.run(ask_all(router.port_numbers["stacked"]))

    def judge(self, accounts: Accounts, answers: dict[str, tuple[int, str]]) -> None:
        lost = {
            text: answer
            for text, answer in answers.items()
            if answer[0] != 200 or f"answers {text}" not in said(answer[1])
        }
        self.assertEqual(len(answers), MANY)
        self.assertEqual(lost, {}, dict(list(lost.items())[:3]))
        twice = {text: count for text, count in accounts.answers().items() if count != 1}
        self.assertEqual(twice, {})
        self.assertEqual(sum(accounts.answers().values()), MANY)

    def test_round_robin(self) -> None:
        """Every question is answered once, and every account that is well has had its share."""
        accounts, answers = self.crowd("round-robin")
        self.judge(accounts, answers)
        for name in ("acc-06", "acc-08", "acc-16", "acc-18"):
            self.assertGreater(len(accounts[name].answered), 20, name)

    def test_exhaust(self) -> None:
        """Every question is answered once."""
        accounts, answers = self.crowd("exhaust")
        self.judge(accounts, answers)


def said(answer: str) -> str:
    """The text of an answer, streamed or not."""
    if "text/event-stream" not in answer.partition("\r\n\r\n")[0].lower():
        return answer
    words = []
    for line in answer.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                words.append(choice["delta"].get("content") or "")
    return "".join(words)
