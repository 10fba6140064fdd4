#!/usr/bin/env python3
"""
Measures what translating between dialects costs, against what is done without it, in one run, and prints ratios.

    python bench/translate.py            # everything
    python bench/translate.py --check    # the same; ends with 1 where a ratio is above its limit

A Chat stream of 200 events becomes an Anthropic one, against the same bytes relayed to a Chat client: the answer's
readers alone, and a whole exchange with both HTTP sides in memory; event by event and in one read. An Anthropic request
of 100 KB becomes a Chat request, against ``json.loads`` and ``json.dumps`` of it. CPU time of this process, the two
sides in turn. Absolute figures say little on a shared machine: read the ratios.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mportrouter.dialects.anthropic import AnthropicDialect
from mportrouter.dialects.chat import ChatDialect
from mportrouter.interfaces import AnswerContext, IDialect, Target
from mportrouter.limits import Allowance
from mportrouter.records import ExchangeRecord
from mportrouter.relay import Exchange
from mportrouter.routing.plans import Attempt, Plan
from mportrouter.settings import Capabilities, FrontSettings, ModeSettings, UpstreamSettings
from mportrouter.testing import MemoryCircuit
from mportrouter.translator import Translator
from mportrouter.watch import Watch
from mportrouter.web.http1 import HTTPServerFactory

#: The ratios that may not be exceeded.
STREAM_LIMIT, REQUEST_LIMIT = 6.0, 4.0

EVENTS = 200
TARGET = Target("openai", "gpt-5.5", Capabilities())
ANTHROPIC, CHAT = AnthropicDialect(), ChatDialect()

compact = json.JSONEncoder(separators=(",", ":")).encode  # as every official client writes


def chat_stream() -> list[bytes]:
    """The events of a streamed Chat answer."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        return event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}], usage=None)

    def event(**members: Any) -> bytes:
        head = {"id": "chatcmpl-BenchBenchBench", "object": "chat.completion.chunk", "created": 1780000000}
        return f"data: {compact({**head, 'model': 'gpt-5.5', 'system_fingerprint': 'fp_1', **members})}\n\n".encode()

    # Every tenth token ends a line, or is a character beyond ASCII: those are not plain.
    words = ["token here", " and", " there", ",", " is", " what", " it", " says", " now", "\n"]
    texts = [words[number % 10] if number % 50 else " \u2014" for number in range(EVENTS - 4)]
    usage = {"prompt_tokens": 1021, "completion_tokens": 196, "total_tokens": 1217}
    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, "stop"),
        event(choices=[], usage=usage),
        b"data: [DONE]\n\n",
    ]


def small_request(streamed: bool = True) -> bytes:
    """A request that both dialects understand."""
    messages = [{"role": "user", "content": "Say something."}]
    return compact({"model": "any", "max_tokens": 1024, "stream": streamed, "messages": messages}).encode()


def large_request(size: int = 100_000) -> bytes:
    """An Anthropic request as a coding agent sends it: a long system prompt, many tools, calls and their results."""
    tools = [
        {
            "name": f"tool_{number}",
            "description": "Does what its name says, and says so at some length. " * 12,
            "input_schema": {
                "type": "object",
                "properties": {
                    f"argument_{place}": {"type": "string", "description": "What is to be done, where and how."}
                    for place in range(6)
                },
                "required": ["argument_0"],
                "additionalProperties": False,
            },
        }
        for number in range(20)
    ]
    system = [
        {"type": "text", "text": "You are an agent.\n" * 10},
        {
            "type": "text",
            "text": 'Follow the rules.\n- And "these" as well.\n' * 400,
            "cache_control": {"type": "ephemeral"},
        },
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Mend it. " * 40}]}]
    body = {"model": "claude-sonnet-5-5", "max_tokens": 32000, "stream": True, "system": system, "tools": tools}
    number = 0
    while len(compact({**body, "messages": messages})) < size:
        number += 1
        call = {
            "type": "tool_use",
            "id": f"toolu_{number:024d}",
            "name": "tool_1",
            "input": {"argument_0": f"f{number}.py"},
        }
        shown = "".join(f"{line:6d}\tdef function_{line}(self) -> None:\n" for line in range(30))
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": shown}]}
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "I look at it."}, call]})
        messages.append({"role": "user", "content": [result]})
    return compact({**body, "messages": messages}).encode()


class Upstream:
    """An upstream that is played by hand."""

    def __init__(self, dialect: str) -> None:
        self.settings = UpstreamSettings(id="a", provider="openai", base_url="https://x.invalid", dialect=dialect)
        self.circuit = MemoryCircuit()
        self.allowance = Allowance(self.settings.limits)
        self.in_flight = 0
        self.provider_name = "openai"
        self.sink: Any = None

    def send(self, *arguments: Any, **more: Any) -> Upstream:
        self.sink = arguments[5]
        return self

    transport: Any = None
    paused = False

    def abort(self) -> None:
        raise AssertionError("the exchange was given up")


class Relay:
    """Exchanges of one client's dialect with a Chat upstream, over an HTTP connection in memory."""

    def __init__(self, dialect: IDialect) -> None:
        self.dialect = dialect
        self.clock = Clock()
        self.watch = Watch(self.clock)
        self.upstream = Upstream(CHAT.name)
        self.upstreams = {"a": self.upstream}
        self.mode = ModeSettings("bench", "fallback", ("a",))
        self.outcome = ""
        body = small_request()
        self.request = (
            b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (dialect.path, len(body), body)
        )
        factory = HTTPServerFactory(
            self._handle, FrontSettings(), self.clock, refuse=lambda error, request: (error.status, [], b"")
        )
        self.channel = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def target(self, attempt: Attempt) -> Target:
        return TARGET

    def estimate(self, attempt: Attempt, size: int) -> int:
        return size

    def context(self, attempt: Attempt) -> int | None:
        return None

    def _handle(self, request: Any) -> None:
        Exchange(
            self.clock,
            self.watch,
            request,
            self.dialect,
            self.dialect.look(request.body),
            Plan((Attempt("a", "gpt-5.5"),), ""),
            self.mode,
            self,  # type: ignore[arg-type]
            ExchangeRecord(at=1000.0, request_id="req_bench"),
            self._done,
        ).start()

    def _done(self, exchange: Exchange) -> None:
        self.outcome = exchange.record.outcome

    def run(self, pieces: list[bytes]) -> None:
        """One exchange; only the answer's way is of interest, the request's is short."""
        self.transport.clear()
        self.channel.dataReceived(self.request)
        sink = self.upstream.sink
        sink.response(200, [(b"content-type", b"text/event-stream")])
        for piece in pieces:
            sink.data(piece)
        sink.end(None)
        assert self.outcome == "ok", self.outcome


def read_same(pieces: list[bytes]) -> None:
    reader = CHAT.reader(True, b"", TARGET)
    for piece in pieces:
        reader.feed(piece)
    assert reader.finish()[1].complete


def reads_translated() -> Callable[[list[bytes]], None]:
    body = small_request()
    context = AnswerContext(ANTHROPIC.read_request(body, ANTHROPIC.look(body)), TARGET, "req_bench", 1780000000)

    def run(pieces: list[bytes]) -> None:
        reader = Translator(CHAT.event_reader(True, context), ANTHROPIC.event_writer(True, context))
        for piece in pieces:
            reader.feed(piece)
        assert reader.finish()[1].complete

    return run


def translate(body: bytes) -> bytes:
    look = ANTHROPIC.look(body)
    return CHAT.write_request(ANTHROPIC.read_request(body, look), TARGET).body


def seconds(call: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def compare(name: str, plain: Callable[[], object], dear: Callable[[], object], limit: float, rounds: int) -> bool:
    """
    Print how much dearer the second call is than the first.

    :returns: whether that is within the limit.
    """
    times = max(1, round(0.03 / max(seconds(plain, 3), 1e-6)))
    seconds(dear, 3)
    gc.collect()
    rows = [(seconds(plain, times), seconds(dear, times)) for _ in range(rounds)]
    ratio = statistics.median(after / before for before, after in rows)
    before, after = (statistics.median(row[side] for row in rows) * 1e6 for side in (0, 1))
    verdict = "" if ratio <= limit else "  ABOVE THE LIMIT"
    print(f"{name:44s} {before:8.0f} us  {after:8.0f} us  {ratio:5.2f} of {limit:.0f}{verdict}")
    return ratio <= limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds, of which the median is shown")
    parser.add_argument("--check", action="store_true", help="end with 1 where a limit is exceeded")
    options = parser.parse_args()
    events = chat_stream()
    translated = reads_translated()
    through, across = Relay(CHAT), Relay(ANTHROPIC)
    body = large_request()
    print(f"{EVENTS} events of a Chat stream, {sum(map(len, events))} bytes; a request of {len(body)} bytes")
    print(f"{'':44s} {'without':>11s}  {'translated':>11s}  ratio")
    within = []
    for how, pieces in (("event by event", events), ("in one read", [b"".join(events)])):
        for what, plain, dear in (
            ("readers alone", read_same, translated),
            ("a whole exchange", through.run, across.run),
        ):

            def without(plain: Callable[[list[bytes]], None] = plain, pieces: list[bytes] = pieces) -> None:
                plain(pieces)

            def with_(dear: Callable[[list[bytes]], None] = dear, pieces: list[bytes] = pieces) -> None:
                dear(pieces)

            within.append(compare(f"stream, {what}, {how}", without, with_, STREAM_LIMIT, options.rounds))
    within.append(
        compare(
            "request, Anthropic to Chat",
            lambda: json.dumps(json.loads(body)),
            lambda: translate(body),
            REQUEST_LIMIT,
            options.rounds,
        )
    )
    if options.check and not all(within):
        sys.exit(1)


if __name__ == "__main__":
    main()
