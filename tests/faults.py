"""
What an upstream can do wrong, and right: scripts for :class:`tests.faulty.FaultyUpstream`.
"""

from __future__ import annotations

import gzip
import json
import threading
import time

from mportrouter.canned import canned_error, canned_error_event, canned_events, canned_message
from mportrouter.demo_rules import Refusal, check
from mportrouter.demo_script import PromptCache, answer, count_tokens
from mportrouter.records import Usage

from .faulty import Exchange, Script

#: Seconds that no test waits.
_FOR_EVER = 600.0


def _events(exchange: Exchange, text: str) -> list[bytes]:
    return canned_events(text, exchange.json["model"], Usage(input=100, output=len(text.split())))


def ok(text: str = "fine here", pace: float = 0.0) -> Script:
    """A good answer, streamed where asked for, ``pace`` seconds between events."""

    def play(exchange: Exchange) -> None:
        if not exchange.stream:
            exchange.wait(pace)
            usage = Usage(input=100, output=len(text.split()))
            exchange.whole(200, canned_message(text, exchange.json["model"], usage))
            return
        exchange.head()
        for event in _events(exchange, text):
            exchange.chunk(event)
            if pace:
                exchange.wait(pace)
        exchange.finish()

    return play


def speak(provider: str) -> Script:
    """Judge the request by the provider's rules and answer as its stand-in does: with signed thinking and tools."""
    cache = PromptCache()
    serials = iter(range(1, 1_000_000))

    def play(exchange: Exchange) -> None:
        counting = exchange.path.endswith("/count_tokens")
        value = exchange.json
        try:
            betas, version = exchange.header("anthropic-beta") or "", exchange.header("anthropic-version") or ""
            check(provider, value, betas, version, counting)
        except Refusal as refusal:
            exchange.whole(refusal.status, canned_error(refusal.type, refusal.message))
            return
        if counting:
            exchange.whole(200, json.dumps({"input_tokens": count_tokens(value)}).encode())
            return
        said = answer(provider, value, cache, next(serials))
        if not exchange.stream:
            exchange.whole(200, said.body())
            return
        exchange.head()
        for event in said.events():
            exchange.chunk(event)
        exchange.finish()

    return play


def status(
    code: int, type: str = "api_error", message: str = "told to fail", body: bytes | None = None, **fields: str
) -> Script:
    """An error answer; ``fields`` are header fields with ``_`` for ``-``."""
    return lambda exchange: exchange.whole(code, canned_error(type, message) if body is None else body, **fields)


def rate_limited(retry_after: str | None = None) -> Script:
    fields = {} if retry_after is None else {"retry_after": retry_after}
    return status(429, "rate_limit_error", "slow down please", **fields)


def overloaded() -> Script:
    return status(529, "overloaded_error", "Overloaded")


def context_length() -> Script:
    return status(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")


def content_policy() -> Script:
    return status(400, "invalid_request_error", "Output blocked by content filtering policy")


def reset(exchange: Exchange) -> None:
    """TCP reset once the request is read."""
    exchange.reset()


def hang(exchange: Exchange) -> None:
    """Reads and never answers."""
    exchange.wait(_FOR_EVER)


def late(seconds: float, text: str = "late") -> Script:
    """The head at once, the first event after ``seconds``."""

    def play(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream" if exchange.stream else "application/json")
        exchange.wait(seconds)
        for event in _events(exchange, text) if exchange.stream else [canned_message(text, exchange.json["model"])]:
            exchange.chunk(event)
        exchange.finish()

    return play


def pings(seconds: float = _FOR_EVER) -> Script:
    """Head, ``message_start``, then nothing but pings for ``seconds``."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        start, ping, *_ = _events(exchange, "never said")
        exchange.chunk(start)
        for _ in range(int(seconds / 0.1)):
            exchange.chunk(ping)
            exchange.wait(0.1)

    return play


def cut(words: int = 40, of: int = 60, rude: bool = False, heard: threading.Event | None = None) -> Script:
    """
    ``words`` of ``of`` words, then the connection is closed; half of an answer that is not streamed.

    :param rude: with a TCP reset, which takes along what the router has not read yet.
    :param heard: is waited for before: the client has what it is to have.
    """

    def play(exchange: Exchange) -> None:
        text = "word " * of
        if exchange.stream:
            exchange.head()
            for event in _events(exchange, text)[: words + 3]:
                exchange.chunk(event)
        else:
            body = canned_message(text, exchange.json["model"])
            exchange.write(
                b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            exchange.write(body[: len(body) * words // of])
        if heard is not None:
            exchange.wait_until(heard.is_set)
        if rude:
            exchange.reset()
        else:
            exchange.close()

    return play


def stall(words: int = 20, seconds: float = _FOR_EVER) -> Script:
    """``words`` words, silence for ``seconds``, then closed."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        for event in _events(exchange, "word " * 60)[: words + 3]:
            exchange.chunk(event)
        exchange.wait(seconds)
        exchange.close()

    return play


def held(text: str, go_on: threading.Event) -> Script:
    """A good stream that stops half-way until it is told to go on."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        events = _events(exchange, text)
        for event in events[: len(events) // 2]:
            exchange.chunk(event)
        exchange.wait_until(go_on.is_set, _FOR_EVER)
        for event in events[len(events) // 2 :]:
            exchange.chunk(event)
        exchange.finish()

    return play


def garbled(number: int = 10) -> Script:
    """The ``number``-th event is no JSON, the rest is fine."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        events = _events(exchange, "word " * 20)
        events[number - 1] = b'event: content_block_delta\ndata: {"type": "content_bl\n\n'
        for event in events:
            exchange.chunk(event)
        exchange.finish()

    return play


def no_stop(exchange: Exchange) -> None:
    """Complete but for ``message_stop``."""
    exchange.head()
    for event in _events(exchange, "all was said")[:-1]:
        exchange.chunk(event)
    exchange.finish()


def error_event(after: int = 0, heard: threading.Event | None = None) -> Script:
    """
    200, ``after`` events, then an ``error`` event.

    :param heard: is waited for before that: what comes in one read with the trouble has not gone out yet, and is
        rescued.
    """

    def play(exchange: Exchange) -> None:
        exchange.head()
        for event in _events(exchange, "word " * 20)[:after]:
            exchange.chunk(event)
        if heard is not None:
            exchange.wait_until(heard.is_set)
        exchange.chunk(canned_error_event())
        exchange.finish()

    return play


def empty(exchange: Exchange) -> None:
    """200 and nothing."""
    exchange.whole(200, b"", "text/event-stream" if exchange.stream else "application/json")


def html(exchange: Exchange) -> None:
    """200 and a web page."""
    exchange.whole(200, b"<html><body>sign in to the hotel network</body></html>", "text/html")


def base_resp(code: int = 1002) -> Script:
    """MiniMax's native error inside a 200."""
    body = json.dumps({"base_resp": {"status_code": code, "status_msg": "native trouble"}}).encode()
    return lambda exchange: exchange.whole(200, body)


def raw(data: bytes, close: bool = True) -> Script:
    """These very bytes in place of an answer."""

    def play(exchange: Exchange) -> None:
        exchange.write(data)
        if close:
            exchange.close()
        else:
            exchange.wait(_FOR_EVER)

    return play


def endless_headers(exchange: Exchange) -> None:
    """A head that has no end."""
    exchange.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200_000):
        exchange.write(b"x-filler-%d: %b\r\n" % (number, b"x" * 200))


def gzipped(exchange: Exchange) -> None:
    """A good answer, compressed."""
    if exchange.stream:
        body = gzip.compress(b"".join(_events(exchange, "packed well")))
        kind = "text/event-stream"
    else:
        body = gzip.compress(canned_message("packed well", exchange.json["model"], Usage(input=100, output=2)))
        kind = "application/json"
    exchange.whole(200, body, kind, content_encoding="gzip")


def in_pieces(text: str, size: int = 1, crlf: bool = False) -> Script:
    """A good stream in reads of ``size`` bytes, with CRLF line ends where asked."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        data = b"".join(_events(exchange, text))
        if crlf:
            data = data.replace(b"\n", b"\r\n")
        for at in range(0, len(data), size):
            exchange.chunk(data[at : at + size])
            if at % 64 == 0:
                time.sleep(0.001)
        exchange.finish()

    return play


def flood(total: int) -> Script:
    """A stream of about ``total`` bytes as fast as they are taken."""

    def play(exchange: Exchange) -> None:
        exchange.head()
        first, ping, start, *_, stop, ending, end = _events(exchange, "x")
        for event in (first, ping, start):
            exchange.chunk(event)
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word " * 1000}}
        event = b"event: content_block_delta\ndata: " + json.dumps(delta).encode() + b"\n\n"
        for _ in range(total // len(event)):
            exchange.chunk(event)
        for event in (stop, ending, end):
            exchange.chunk(event)
        exchange.finish()

    return play


def then_close(script: Script, after: float = 0.2) -> Script:
    """The script, and the kept-alive connection is closed a moment later without a word: stale in the router's pool."""

    def play(exchange: Exchange) -> None:
        script(exchange)
        time.sleep(after)
        exchange.close()

    return play


def by_model(**scripts: Script) -> Script:
    """The script under the name that the model contains."""

    def play(exchange: Exchange) -> None:
        model = exchange.json["model"]
        for name, script in scripts.items():
            if name in model:
                script(exchange)
                return
        exchange.whole(404, canned_error("not_found_error", f"model: {model}"))

    return play
