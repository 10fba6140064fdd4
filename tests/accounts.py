"""
Many accounts at one provider of the Chat dialect, each with a temper of its own: they rate-limit, run out of money,
lose their keys and recover.

One server in a thread of its own serves them all; the first segment of the path tells which account is asked.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

#: What an account does with a request: ``None`` to answer it, or status, header fields and error.
Refusal = tuple[int, dict[str, str], dict[str, Any]]
Rule = Callable[["Account"], "Refusal | str | None"]


class Account:
    """
    :ivar asked: requests for generations that came.
    :ivar answered: texts of the questions that it answered, whole.
    :ivar keys: credentials that came with them.
    :ivar rule: what it does; ``"cut"``, ``"reset"`` and ``"hang"`` break the answer before its first content.
    """

    def __init__(self, name: str, models: tuple[str, ...]) -> None:
        self.name = name
        self.models = models
        self.asked = 0
        self.answered: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.rule: Rule = well


def well(account: Account) -> None:
    """Answer everything."""
    return


def limited(after: int, seconds: float) -> Rule:
    """429 with ``Retry-After`` once ``after`` requests were answered, until so many seconds have passed; then anew."""
    window = {"began": 0.0, "count": 0}

    def rule(account: Account) -> Refusal | None:
        now = time.monotonic()
        if window["count"] >= after:
            left = window["began"] + seconds - now
            if left > 0:
                error = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}
                return 429, {"retry-after": f"{left:.3f}"}, error
            window["count"] = 0
        window["count"] += 1
        window["began"] = now
        return None

    return rule


def always(status: int, message: str, code: str | None = None, **fields: str) -> Rule:
    """The same refusal every time."""
    return lambda account: (status, fields, {"message": message, "type": "error", "code": code})


BROKE = always(402, "Insufficient Balance")
EXPIRED = always(401, "Incorrect API key provided", "invalid_api_key")


def mostly(rules: list[Rule]) -> Rule:
    """The rules in turn, again and again."""
    return lambda account: rules[account.asked % len(rules)](account)


def breaking(how: str) -> Rule:
    """``cut``: end the connection after the head; ``reset``: before it; ``hang``: never say a word."""
    return lambda account: how


class Accounts:
    """
    The server.

    :param names: of the accounts.
    :param models: that each of them has.
    """

    def __init__(self, names: list[str], models: tuple[str, ...] = ("llama-3.3-70b-versatile",)) -> None:
        self.accounts = {name: Account(name, models) for name in names}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(30)

    def __getitem__(self, name: str) -> Account:
        return self.accounts[name]

    def url(self, name: str) -> str:
        """The base URL of an account's upstream."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def answers(self) -> Counter[str]:
        """How often each question was answered, over all accounts."""
        return Counter(text for account in self.accounts.values() for text in account.answered)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the router left
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        account = self.accounts.get(target.split("/")[1]) or next(iter(self.accounts.values()))
        if method != "POST":  # a health probe comes to the host itself
            rows = [{"id": id, "object": "model", "created": 1, "owned_by": account.name} for id in account.models]
            await self._whole(writer, 200, {"object": "list", "data": rows})
            return True
        account.asked += 1
        account.keys.append(fields.get("authorization", ""))
        value = json.loads(body)
        account.bodies.append(value)
        verdict = account.rule(account)
        if isinstance(verdict, tuple):
            status, more, error = verdict
            await self._whole(writer, status, {"error": {"param": None, **error}}, more)
            return True
        if verdict == "hang":
            await asyncio.sleep(600)
            return False
        if verdict == "reset":
            writer.transport.abort()
            return False
        text = value["messages"][-1]["content"]
        said = f"{account.name} answers {text}"
        frame = {"id": f"chatcmpl-{account.name}-{account.asked}", "created": 1, "model": value["model"]}
        usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        if not value.get("stream"):
            if verdict == "cut":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
                await writer.drain()
                return False
            message = {"role": "assistant", "content": said, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            await self._whole(writer, 200, {**frame, "object": "chat.completion", "choices": [choice], "usage": usage})
            account.answered.append(text)
            return True
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if verdict == "cut":
            await writer.drain()
            return False
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": word + " "}, None) for word in said.split()]
        deltas.append(({}, "stop"))
        for delta, finish in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            await self._event(writer, {**frame, "object": "chat.completion.chunk", "choices": [choice], "usage": None})
        await self._event(writer, {**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        data = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        await writer.drain()
        account.answered.append(text)
        return True

    async def _event(self, writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()

    async def _whole(
        self, writer: asyncio.StreamWriter, status: int, value: dict[str, Any], more: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(value).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body)), **(more or {})}
        lines = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
        await writer.drain()
