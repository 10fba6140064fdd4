"""More faults than the sixteen: odd answers, odd bytes, dead connections, and a client that leaves or reads slowly."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from typing import Any

from mportrouter.canned import canned_message

from . import faults
from .faulty import Exchange
from .harness import failover_stack, message, shared, until
from .test_failover import CLAUDE, MINIMAX, SOON, FailoverTestCase

MEGABYTE = 1024 * 1024


class AnswerTests(FailoverTestCase):
    """Answers that are none."""

    def test_overloaded(self) -> None:
        """A 529 is retried once and moves on."""
        self.rescued(faults.overloaded(), asked=2)
        self.rescued(faults.overloaded(), faults.ok(MINIMAX), asked=2, by=MINIMAX)

    def test_empty(self) -> None:
        """200 with nothing in it is no answer."""
        for stream in (False, True):
            self.minimax.play(faults.empty)
            self.assertEqual(self.text(self.ask(stream), stream), CLAUDE)

    def test_web_page(self) -> None:
        """200 with a web page is no answer."""
        for stream in (False, True):
            self.minimax.play(faults.html)
            answered = self.ask(stream)
            self.assertEqual(self.text(answered, stream), CLAUDE)
            self.assertNotIn(b"<html>", answered.body)

    def test_native_error(self) -> None:
        """MiniMax's own errors inside a 200 move on by their kind: limits and faults yes, wrong parameters no."""
        for code, served in ((1002, True), (1000, True), (1008, True), (2013, False), (1026, False)):
            for stream in (False, True):
                self.fresh()
                self.minimax.play(faults.base_resp(code))
                answered = self.ask(stream)
                if served:
                    self.assertEqual(self.text(answered, stream), CLAUDE, code)
                else:
                    self.assertEqual(self.claude.requests, [], code)
                    self.assertGreaterEqual(answered.status, 400)
                    self.assertIn("native trouble", answered.error["message"])

    def test_error_event_before_content(self) -> None:
        """An ``error`` event before content fails over unseen: at once, and after ``message_start``."""
        for after in (0, 1, 2):
            self.minimax.play(faults.error_event(after))
            answered = self.ask(True)
            self.assertEqual(self.text(answered, True), CLAUDE)
            self.assertNotIn(b"Overloaded", answered.body)

    def test_error_event_after_content(self) -> None:
        """An ``error`` event after content reaches the client once, as the provider wrote it, and ends the stream."""
        heard, seen = self.hearing(5)
        self.minimax.play(faults.error_event(8, heard))
        answered = self.ask(True, seen=seen)
        ending, text = answered.said()
        self.assertEqual((ending, text.split()), ("error", ["word"] * 5))
        self.assertEqual(answered.body.count(b"event: error"), 1)
        self.assertIn(b'"overloaded_error"', answered.body)
        self.assertEqual(self.claude.requests, [])

    def test_money_and_keys(self) -> None:
        """No money or a bad key takes the account out: one attempt, then Claude, and MiniMax is asked no more."""
        for fault in (
            faults.status(401, "authentication_error", "invalid key"),
            faults.status(402, "billing_error", "no money left"),
            faults.status(403, "permission_error", "not yours"),
        ):
            self.fresh()
            self.minimax.play(fault)
            for _ in range(3):
                self.assertEqual(self.text(self.ask(True), True), CLAUDE)
            self.assertEqual(len(self.minimax.requests), 1)

    def test_bad_key_nowhere_to_go(self) -> None:
        """Where only that account is there, the caller learns that the router's key is bad."""
        self.fresh()
        self.minimax.play(faults.status(401, "authentication_error", "invalid key"))
        answered = self.ask(False, "minimax")
        self.assertIn(answered.status, (401, 502))
        self.assertIn("invalid key", answered.error["message"])
        self.assertEqual(len(self.minimax.requests), 1)


class BytesTests(FailoverTestCase):
    """Odd bytes."""

    def test_gzip(self) -> None:
        """A compressed answer passes as it came, with its coding named, and its usage is read all the same."""
        self.fresh()
        for stream in (False, True):
            self.minimax.play(faults.gzipped)
            answered = self.router.ask(message(stream=stream), "minimax", headers={"accept-encoding": "gzip"})
            self.assertEqual(answered.headers["content-encoding"], "gzip")
            self.assertIn(b"packed", gzip.decompress(answered.body))
        stats = json.loads(self.router.command("stats", "--json"))
        self.assertEqual(stats["tokens"]["output"], 4, stats)

    def test_gzip_thinking(self) -> None:
        """MiniMax's thinking is marked as foreign even where it comes compressed, or comes uncompressed."""

        def play(exchange: Exchange) -> None:
            body = gzip.compress(canned_message("x", "MiniMax-M3", thinking=("deep", "mini-signature")))
            exchange.whole(200, body, content_encoding="gzip")

        self.minimax.play(play)
        answered = self.router.ask(message(), "minimax", headers={"accept-encoding": "gzip"})
        body = gzip.decompress(answered.body) if answered.headers["content-encoding"] == "gzip" else answered.body
        signature = json.loads(body)["content"][0]["signature"]
        history = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "deep", "signature": signature}]},
            {"role": "user", "content": "y"},
        ]
        self.router.ask(message(history), "anthropic")
        self.assertNotIn(b"deep", self.claude.requests[0].body)
        self.minimax.play(faults.ok())
        self.router.ask(message(history), "minimax")
        self.assertIn(b'"mini-signature"', self.minimax.requests[0].body)

    def test_line_ends_and_pieces(self) -> None:
        """CRLF line ends, single-byte reads and characters cut in two arrive whole."""
        text = "grüße 日本語 😀 done"
        for crlf in (False, True):
            for size in (1, 7, 100_000):
                self.minimax.play(faults.in_pieces(text, size, crlf))
                self.assertEqual(self.text(self.ask(True), True), text)

    def test_big_event(self) -> None:
        """One event of several MiB passes."""
        text = "x" * (4 * MEGABYTE)
        self.minimax.play(faults.ok(text))
        for stream in (False, True):
            for port in ("mixed", "held"):
                self.assertEqual(self.text(self.ask(stream, port), stream), text)

    def test_ugly_heads(self) -> None:
        """Answers that are no HTTP fail over: endless headers, garbage, a bad chunk length, a wrong length."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        for script in (
            faults.endless_headers,
            faults.raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
            faults.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20),
            faults.raw(head + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
            faults.raw(head + b"content-length: 100\r\n\r\n{}"),
            faults.raw(head + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
            faults.raw(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n"
            ),
        ):
            self.minimax.play(script)
            answered = self.ask(False)
            self.assertEqual(self.text(answered, False), CLAUDE)
            self.assertLess(answered.seconds, SOON)

    def test_bad_chunk_after_content(self) -> None:
        """A bad chunk length in mid-stream ends as a broken stream."""
        heard, seen = self.hearing(7)

        def play(exchange: Exchange) -> None:
            exchange.head()
            for event in faults._events(exchange, "word " * 20)[:10]:
                exchange.chunk(event)
            exchange.wait_until(heard.is_set)
            exchange.write(b"xyz\r\nmore\r\n")
            exchange.close()

        self.minimax.play(play)
        answered = self.ask(True, seen=seen)
        self.assertEqual(answered.said()[0], "error")

    def test_interim_answers(self) -> None:
        """1xx answers before the real one are passed over."""

        def play(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            faults.ok(MINIMAX)(exchange)

        self.minimax.play(play)
        for stream in (False, True):
            self.assertEqual(self.text(self.ask(stream), stream), MINIMAX)

    def test_no_length(self) -> None:
        """An answer that ends with its connection is whole if its dialect says so."""

        def play(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            for event in faults._events(exchange, MINIMAX):
                exchange.write(event)
            exchange.close()

        self.minimax.play(play)
        self.assertEqual(self.text(self.ask(True), True), MINIMAX)


class ConnectionTests(FailoverTestCase):
    """Connections that are dead, and names that are nobody's."""

    def test_refused(self) -> None:
        """Where nobody listens, Claude answers at once."""
        self.fresh()
        self.minimax.stop()
        answered = self.ask(True)
        self.assertEqual(self.text(answered, True), CLAUDE)
        self.assertLess(answered.seconds, SOON)

    def test_unknown_name(self) -> None:
        """A name that does not resolve is a failed attempt as any other."""
        # Where a resolver answers nothing at all, the connection's limit is what ends it.
        nowhere = {"base_url": "https://no-such-host.invalid", "timeouts": {"connect": "1s"}}
        self.fresh({"upstreams": {"minimax": nowhere}})
        for stream in (False, True):
            self.assertEqual(self.text(self.ask(stream), stream), CLAUDE)

    def test_stale_connection(self) -> None:
        """A kept connection that died meanwhile costs nothing: one silent try on a fresh one, no attempt counted."""
        for stream in (False, True):
            self.minimax.play(faults.then_close(faults.ok(MINIMAX), 0.05), faults.ok(MINIMAX))
            self.assertEqual(self.text(self.ask(stream), stream), MINIMAX)
            self.assertTrue(until(lambda: self.minimax.requests[0].ended_at))
            answered = self.ask(stream)
            self.assertEqual((self.text(answered, stream), answered.attempts), (MINIMAX, 1))

    def test_connections_are_kept(self) -> None:
        """Requests one after the other use one connection."""
        self.fresh()
        self.ask(False)
        before = self.minimax.connections
        for _ in range(5):
            self.assertEqual(self.text(self.ask(False), False), MINIMAX)
        self.assertEqual(self.minimax.connections, before)


class LeavingTests(FailoverTestCase):
    """The client leaves: the spending stops at once."""

    def setUp(self) -> None:
        # Limits so long that nothing but the leaving can end an attempt in time.
        limits = {"head": "120s", "first_content": "120s", "idle": "120s", "answer": "120s"}
        self.use(shared("leaving", lambda: failover_stack(timeouts=limits)))

    def leave(self, script: Any, when: Any, stream: bool = True, rude: bool = False, port: str = "mixed") -> Exchange:
        """Send a request, wait for ``when(exchange)`` at the provider, leave, and give the provider's exchange."""
        self.minimax.play(script)
        sock = self.router.connect(port)
        body = json.dumps(message(stream=stream)).encode()
        sock.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        self.assertTrue(until(lambda: self.minimax.requests and when(self.minimax.requests[0])))
        if rude:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left = time.monotonic()
        sock.close()
        exchange = self.minimax.requests[0]
        self.assertTrue(until(lambda: exchange.gone_at), "the upstream request was not aborted")
        self.assertLess((exchange.gone_at or 0.0) - left, SOON)
        return exchange

    def test_every_stage(self) -> None:
        """Before the head, in the gate, in mid-stream, and while an answer that is not streamed is made."""
        long = faults.ok("word " * 12_000, 0.01)
        for rude in (False, True):
            self.leave(faults.hang, lambda exchange: True, rude=rude)
            self.leave(faults.hang, lambda exchange: True, stream=False, rude=rude)
            self.leave(faults.pings(), lambda exchange: exchange.sent > 300, rude=rude)
            self.leave(long, lambda exchange: exchange.sent > 3000, rude=rude)
            self.leave(long, lambda exchange: exchange.sent > 3000, rude=rude, port="held")
        self.assertEqual(self.claude.requests, [])
        self.alive()

    def test_recorded(self) -> None:
        """Whoever left is in the statistics as gone, and no failure of the upstream."""
        self.fresh()
        self.leave(faults.hang, lambda exchange: True)
        self.assertTrue(until(lambda: json.loads(self.router.command("stats", "--json"))["gone"] == 1))
        upstreams = json.loads(self.router.command("upstreams", "--json"))
        self.assertEqual({row["circuit"] for row in upstreams}, {"closed"})
        self.assertEqual({row["in_flight"] for row in upstreams}, {0})

    def test_between_attempts(self) -> None:
        """Leaving while the router waits before its second try means that there is none."""
        self.fresh({"modes": {"mixed": {"retry_delay": "6s"}}})
        self.minimax.play(faults.status(500))
        sock = self.router.connect("mixed")
        body = json.dumps(message(stream=True)).encode()
        sock.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        self.assertTrue(until(lambda: self.minimax.requests and self.minimax.requests[0].ended_at))
        sock.close()
        self.assertTrue(until(lambda: json.loads(self.router.command("stats", "--json"))["gone"] == 1))
        # The time of the second try, with its jitter, has to pass.
        time.sleep(max(0.0, self.minimax.requests[0].at + 8.5 - time.monotonic()))
        self.assertEqual((len(self.minimax.requests), self.claude.requests), (1, []))

    def test_in_the_upload(self) -> None:
        """Leaving in the middle of the request's body asks nobody anything."""
        sock = self.router.connect("mixed")
        sock.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{")
        sock.close()
        self.assertEqual(self.router.ask(message(), "anthropic").status, 200)
        time.sleep(0.3)
        self.assertEqual(self.minimax.requests, [])
        self.alive()


class SlowReaderTests(FailoverTestCase):
    """A client that reads slowly."""

    def test_memory_is_bounded(self) -> None:
        """Ten clients that read nothing of 64 MiB each: the router stops reading, its memory stays where it was."""
        self.fresh(timeouts={"idle": "3s"})
        self.alive()
        before = self.router.rss()
        self.minimax.play(faults.flood(64 * MEGABYTE))
        body = json.dumps(message(stream=True)).encode()
        socks = []
        for _ in range(10):
            sock = self.router.connect("mixed", 120)
            self.addCleanup(sock.close)
            sock.sendall(
                b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                % len(body)
                + body
            )
            socks.append(sock)
        self.assertTrue(until(lambda: len(self.minimax.requests) == 10))

        def sent_now() -> list[int]:
            return [exchange.sent for exchange in self.minimax.requests]

        def rest() -> bool:
            """Nothing was sent for a second."""
            before = sent_now()
            time.sleep(1)
            return sent_now() == before

        self.assertTrue(until(rest, 60), "the router goes on reading")
        sent = sent_now()
        # What is under way sits in the kernel's buffers of both connections.
        self.assertLess(max(sent), 32 * MEGABYTE)
        self.assertLess(self.router.rss() - before, 10 * MEGABYTE)
        # Longer than the idle limit: the client's slowness is not the provider's silence.
        time.sleep(4)
        received = bytearray()
        while data := socks[0].recv(MEGABYTE):
            received += data[-200:]
        self.assertIn(b"message_stop", bytes(received[-400:]))
        self.assertLess(self.router.rss() - before, 16 * MEGABYTE)
        for sock in socks:
            sock.close()
        self.assertTrue(until(lambda: all(e.ended_at for e in self.minimax.requests)))
        self.alive()
