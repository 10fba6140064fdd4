"""Tests of :mod:`mportrouter.web.clients` and of what a port's own limits make the site answer."""

from __future__ import annotations

import json
from typing import Any

import attrs
import zstandard
from twisted.trial.unittest import SynchronousTestCase

from ..ports import front_for
from ..settings import FrontSettings, PortSettings
from ..web.clients import Clients
from .front_door import Wire, heads_and_bodies
from .memory_house import House, error
from .memory_request import MemoryRequest

BODY = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}


class ClientsTests(SynchronousTestCase):
    """Counting."""

    def test_sliding(self) -> None:
        """In no minute does a client send more than its limit; what is refused does not count."""
        clients = Clients()
        self.assertEqual([clients.count(1, "a", 2, at)[1] for at in (0.0, 30.0)], [0.0, 0.0])
        self.assertEqual(clients.count(1, "a", 2, 40.0)[1], 20.0)
        self.assertEqual([clients.count(1, "a", 2, at)[1] for at in (60.0, 61.0)], [0.0, 29.0])

    def test_apart(self) -> None:
        """Clients count apart, and so do ports."""
        clients = Clients()
        self.assertEqual([clients.count(port, peer, 1, 0.0)[1] for port in (1, 2) for peer in "ab"], [0.0] * 4)
        self.assertEqual(clients.count(1, "a", 1, 0.0)[1], 60.0)

    def test_fields(self) -> None:
        """The fields tell the limit, what is left of it, and when all of it is back."""
        clients = Clients()
        clients.count(1, "a", 2, 0.0)
        for at, remaining, reset in ((10.5, b"0", b"60"), (20.2, b"0", b"51")):
            about, _ = clients.count(1, "a", 2, at)
            told = dict(about)
            self.assertEqual((told[b"ratelimit-limit"], told[b"ratelimit-policy"]), (b"2", b"2;w=60"))
            self.assertEqual((told[b"ratelimit-remaining"], told[b"ratelimit-reset"]), (remaining, reset))

    def test_other_limit(self) -> None:
        """A limit that has changed counts what was sent before."""
        clients = Clients()
        for _ in range(3):
            clients.count(1, "a", 5, 0.0)
        self.assertEqual([clients.count(1, "a", 4, 1.0)[1] for _ in range(2)], [0.0, 59.0])
        self.assertEqual(clients.count(1, "a", 2, 2.0)[1], 58.0)

    def test_many(self) -> None:
        """Any number of addresses takes a bounded memory, and the silent ones go first."""
        clients = Clients()
        clients.count(1, "silent", 1, 0.0)
        for number in range(10_000):
            clients.count(1, str(number), 1, 60.0)
        self.assertLessEqual(len(clients._windows), 4096)
        self.assertNotIn((1, "silent"), clients._windows)
        self.assertEqual(clients.count(1, "9999", 1, 60.0)[1], 60.0)


class SiteTests(SynchronousTestCase):
    """What clients see."""

    def setUp(self) -> None:
        self.house = House()

    def limit(self, **changes: Any) -> None:
        port = self.house.ports[8773]
        port.settings = attrs.evolve(port.settings, **changes)

    def test_off(self) -> None:
        """Without a limit nothing is counted and nothing is told."""
        answers = [self.house.say() for _ in range(5)]
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertIsNone(answers[0].answer_header(b"ratelimit-limit"))

    def test_one_too_many(self) -> None:
        """Past its limit a client gets a 429 in its dialect with the time to wait, and no upstream is asked."""
        self.limit(client_limit=2)
        first = self.house.say()
        self.assertEqual((first.status, first.answer_header(b"ratelimit-remaining")), (200, b"1"))
        self.house.say(stream=True)
        refused = self.house.say()
        self.assertEqual(error(refused)[:2], (429, "rate_limit_error"))
        self.assertEqual(refused.answer_header(b"retry-after"), b"60")
        self.assertEqual(refused.answer_header(b"ratelimit-remaining"), b"0")
        self.assertEqual(len(self.house.records), 2)
        chat = self.house.ask(b"/chat/completions", BODY)
        self.assertEqual((chat.status, json.loads(chat.answer)["error"]["code"]), (429, "rate_limit_exceeded"))
        self.house.clock.advance(60.0)
        self.assertEqual(self.house.say().status, 200)

    def test_other_port(self) -> None:
        """The limit is one port's."""
        self.limit(client_limit=1)
        self.house.say()
        self.assertEqual((self.house.say().status, self.house.say(port=8771).status), (429, 200))

    def test_watching(self) -> None:
        """Health and status are answered even then, and do not count."""
        self.limit(client_limit=1)
        for _ in range(3):
            self.assertEqual(self.house.ask(b"/health").status, 503)
        self.assertEqual(self.house.say().status, 200)
        self.assertEqual(self.house.ask(b"/v1/status").status, 200)
        self.assertEqual(self.house.ask(b"/v1/models").status, 429)

    def test_strangers(self) -> None:
        """Who is not let in does not use up the limit of those who are."""
        self.limit(client_limit=1)
        request = MemoryRequest(b"GET", b"/v1/models", [(b"host", b"evil.example")], port=8773)
        self.house.site.handle(request)
        self.assertEqual((request.status, request.answer_header(b"ratelimit-limit")), (403, None))
        self.assertEqual(self.house.say().status, 200)

    def test_packed_body(self) -> None:
        """A port's own limit of a body holds for what it unpacks to."""
        body = json.dumps({**BODY, "metadata": {"x": "y" * 5000}}).encode()
        packed = zstandard.compress(body)
        fields = {"content_encoding": "zstd"}
        self.assertEqual(self.house.ask(b"/v1/messages", packed, 8773, **fields).status, 200)
        self.limit(body_bytes=4000)
        refused = self.house.ask(b"/v1/messages", packed, 8773, **fields)
        self.assertEqual(error(refused)[:2], (413, "request_too_large"))


class FrontTests(SynchronousTestCase):
    """A port's own limit of a body, and fields that are told with every answer, on the wire."""

    def channel(self, front: FrontSettings, house: House | None = None) -> tuple[Any, Wire]:
        from ..web.http1 import HTTPServerFactory

        house = house or House()
        factory = HTTPServerFactory(house.site.handle, front, house.clock, port=8773, refuse=house.site.refusal)
        wire = Wire()
        channel = factory.buildProtocol(None)
        channel.makeConnection(wire)
        return channel, wire

    def test_front(self) -> None:
        """A port without a limit of its own has the front door's."""
        front = FrontSettings(body_bytes=100)
        self.assertIs(front_for(front, PortSettings(1, "m")), front)
        own = front_for(front, PortSettings(1, "m", body_bytes=7))
        self.assertEqual((own.body_bytes, own.header_bytes), (7, front.header_bytes))

    def test_too_large(self) -> None:
        """A body over it is a 413 of the dialect's own type, before it has come."""
        channel, wire = self.channel(front_for(FrontSettings(), PortSettings(1, "m", body_bytes=10)))
        channel.dataReceived(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\n")
        [(status, _, body)] = heads_and_bodies(wire.value())
        self.assertEqual((status, json.loads(body)["error"]["type"]), (413, "request_too_large"))

    def test_about(self) -> None:
        """Whole answers and streamed ones carry them."""
        house = House()
        port = house.ports[8773]
        port.settings = attrs.evolve(port.settings, client_limit=9)
        channel, wire = self.channel(FrontSettings(), house)
        for number, streamed in enumerate((False, True)):
            body = json.dumps({**BODY, "stream": streamed}).encode()
            channel.dataReceived(
                b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            house.clock.pump([0.0] * 5)
            self.assertIn(b"\r\nratelimit-remaining: %d\r\n" % (8 - number), wire.value())
