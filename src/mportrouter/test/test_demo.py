"""The stand-in providers over HTTP, and as a service."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorSocket, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from mportrouter.demo import DemoProviders, StandIn, _StandInSite
from mportrouter.demo_faults import HEALTHY, Fault, parse_fault
from mportrouter.demo_script import count_tokens
from mportrouter.settings import DemoSettings

from .test_demo_rules import body


class Wire(SynchronousTestCase):
    """Asks a stand-in over HTTP."""

    def setUp(self) -> None:
        self.clock = Clock()

    def stand_in(self, provider: str = "anthropic", pace: float = 0.0, fault: str = "off") -> StandIn:
        self.one = StandIn(self.clock, provider, pace, parse_fault(fault))
        self.site = _StandInSite(self.one, self.clock)
        return self.one

    def connect(self) -> StringTransport:
        protocol = self.site.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        transport.protocol = protocol
        return transport

    def ask(
        self,
        path: str = "/v1/messages",
        value: Any = None,
        method: str = "",
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> StringTransport:
        transport = self.connect()
        content = raw if raw is not None else json.dumps(value).encode() if value is not None else b""
        fields = {"host": "127.0.0.1", "x-api-key": "k", "anthropic-version": "2023-06-01", **(headers or {})}
        lines = [f"{method or ('POST' if content else 'GET')} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value]
        lines += [f"content-length: {len(content)}", "", ""]
        transport.protocol.dataReceived("\r\n".join(lines).encode() + content)
        return transport

    def read(self, transport: StringTransport) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the one answer there."""
        head, _, rest = transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            whole = b""
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                count = int(size, 16)
                whole, rest = whole + rest[:count], rest[count + 2 :]
            rest = whole
        return int(first.split()[1]), headers, rest

    def answered(self, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        status, _, content = self.read(self.ask(*args, **kwargs))
        return status, json.loads(content)


class WireTests(Wire):
    """A stand-in over HTTP."""

    def test_message(self) -> None:
        """A message is answered in one piece."""
        self.stand_in()
        status, value = self.answered(value=body())
        self.assertEqual((status, value["type"]), (200, "message"))

    def test_query(self) -> None:
        """A query string is of no concern."""
        self.stand_in()
        self.assertEqual(self.answered("/v1/messages?beta=true", body())[0], 200)

    def test_keys(self) -> None:
        """Any key in either header is good; none is a 401 in the provider's shape; Anthropic wants one only."""
        self.stand_in()
        status, value = self.answered(value=body(), headers={"x-api-key": ""})
        self.assertEqual((status, value["error"]["type"]), (401, "authentication_error"))
        bearer = {"x-api-key": "", "authorization": "Bearer k"}
        self.assertEqual(self.answered(value=body(), headers=bearer)[0], 200)
        self.assertEqual(self.answered(value=body(), headers={"authorization": "Bearer k"})[0], 401)
        self.stand_in("minimax")
        status, value = self.answered("/anthropic/v1/messages", body(model="MiniMax-M3"), headers={"x-api-key": ""})
        self.assertEqual((status, value["error"]["type"]), (401, "authorized_error"))
        self.assertIn("(1004)", value["error"]["message"])

    def test_paths(self) -> None:
        """MiniMax has no ``count_tokens``; unknown paths and methods are refused."""
        self.stand_in()
        count = body()
        del count["max_tokens"]
        self.assertEqual(self.answered("/v1/messages/count_tokens", count)[1], {"input_tokens": count_tokens(count)})
        self.assertEqual(self.answered("/v1/nothing", body())[0], 404)
        self.assertEqual(self.answered("/v1/messages", method="GET")[0], 405)
        self.stand_in("minimax")
        count["model"] = "MiniMax-M3"
        self.assertEqual(self.answered("/anthropic/v1/messages/count_tokens", count)[0], 404)

    def test_models(self) -> None:
        """The lists have the shape of their provider."""
        self.stand_in()
        status, value = self.answered("/v1/models?limit=1000")
        self.assertEqual((status, value["has_more"], value["data"][0]["type"]), (200, False, "model"))
        self.assertEqual(self.answered("/v1/models/claude-opus-5-5")[1]["id"], "claude-opus-5-5")
        self.assertEqual(self.answered("/v1/models/claude-none")[0], 404)
        self.assertEqual(self.answered("/v1/models", headers={"x-api-key": ""})[0], 401)
        self.stand_in("minimax")
        self.assertEqual(self.answered("/v1/models")[1]["object"], "list")

    def test_bad_json(self) -> None:
        """Malformed, over-deep and surrogate-laden JSON get an answer."""
        self.stand_in()
        for raw in (b"{", b"[" * 100_000, b'{"model": "\xff"}', b"3"):
            self.assertEqual(self.answered(raw=raw)[0], 400)

    def test_pace(self) -> None:
        """A stream comes at its pace, event by event; MiniMax at half of it."""
        for provider, pace, model in (("anthropic", 1.0, "claude-opus-5-5"), ("minimax", 0.5, "MiniMax-M3")):
            self.stand_in(provider, 1.0)
            path = {"anthropic": "", "minimax": "/anthropic"}[provider] + "/v1/messages"
            transport = self.ask(path, body(model=model, stream=True))
            self.assertEqual(transport.value(), b"")
            self.clock.pump([pace] * 6)
            seen = transport.value().count(b"event: ")
            self.assertIn(seen, range(1, 4))
            self.clock.advance(pace)
            self.assertEqual(transport.value().count(b"event: "), seen + 1)
            self.clock.pump([pace] * 40)
            self.assertTrue(self.read(transport)[2].endswith(b'data: {"type":"message_stop"}\n\n'))

    def test_status_fault(self) -> None:
        """A status fault answers in the provider's shape with its advice, counted as told."""
        self.stand_in(fault="times=1;status:429:retry-after=2")
        status, headers, content = self.read(self.ask(value=body()))
        self.assertEqual((status, headers["retry-after"]), (429, "2"))
        self.assertEqual(json.loads(content)["error"]["type"], "rate_limit_error")
        self.assertEqual(self.answered(value=body())[0], 200)
        self.stand_in("minimax", fault="status:529")
        status, value = self.answered("/anthropic/v1/messages", body(model="MiniMax-M3"))
        self.assertEqual((status, value["error"]["http_code"]), (529, "529"))

    def test_own_fault_comes_first(self) -> None:
        """A request that is wrong in itself is refused as such whatever the fault."""
        self.stand_in(fault="status:529")
        self.assertEqual(self.answered(value=body(model="gpt-5"))[0], 404)

    def test_models_under_faults(self) -> None:
        """Lack of capacity and counted faults leave the list of models alone; a dead provider does not."""
        for fault, status in (("status:529", 200), ("times=1;status:500", 200), ("status:500", 500), ("cut:1", 200)):
            self.stand_in(fault=fault)
            self.assertEqual(self.answered("/v1/models")[0], status, fault)
        self.stand_in(fault="times=1;status:500")
        self.answered("/v1/models")
        self.assertEqual(self.answered(value=body())[0], 500)

    def test_silence(self) -> None:
        """``hang`` says nothing at all, ``hang-after-head`` the head only, ``stall`` some events."""
        for fault, head, events in (("hang", False, 0), ("hang-after-head", True, 0), ("stall:3", True, 3)):
            self.stand_in(fault=fault)
            transport = self.ask(value=body(stream=True))
            self.clock.pump([60] * 10)
            self.assertEqual(transport.value().startswith(b"HTTP/1.1 200"), head, fault)
            self.assertEqual(transport.value().count(b"event: "), events, fault)
            self.assertFalse(transport.disconnecting)

    def test_broken_connections(self) -> None:
        """``reset`` aborts, ``cut`` closes without the last chunk, ``refuse`` takes no connection."""
        self.stand_in(fault="reset")
        transport = self.ask(value=body())
        self.assertTrue(transport.disconnected)
        self.assertEqual(transport.value(), b"")
        self.stand_in(fault="cut:4")
        transport = self.ask(value=body(stream=True))
        self.assertEqual(transport.value().count(b"event: "), 4)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.value().endswith(b"0\r\n\r\n"))
        self.stand_in(fault="times=1;refuse")
        self.assertIsNone(self.site.buildProtocol(None))
        self.assertIsNotNone(self.site.buildProtocol(None))

    def test_cut_message(self) -> None:
        """A cut answer that is not streamed announces more than it gives."""
        self.stand_in(fault="cut:0")
        transport = self.ask(value=body())
        _, headers, content = self.read(transport)
        self.assertLess(len(content), int(headers["content-length"]))
        self.assertTrue(transport.disconnecting)

    def test_wrong_answers(self) -> None:
        """Empty, a web page, MiniMax's native envelope, an error event, a garbled event, no end."""
        self.stand_in(fault="empty")
        self.assertEqual(self.read(self.ask(value=body()))[2], b"")
        self.stand_in(fault="html")
        _, headers, content = self.read(self.ask(value=body()))
        self.assertIn("text/html", headers["content-type"])
        self.assertIn(b"<html>", content)
        self.stand_in(fault="base-resp:1002")
        self.assertEqual(self.answered(value=body())[1]["base_resp"]["status_code"], 1002)
        self.stand_in(fault="error-event")
        content = self.read(self.ask(value=body(stream=True)))[2]
        self.assertTrue(content.startswith(b"event: error\n"))
        self.stand_in(fault="error-event:5")
        content = self.read(self.ask(value=body(stream=True)))[2]
        self.assertEqual((content.count(b"event: "), content.count(b"event: error")), (6, 1))
        self.stand_in(fault="garbage-event:5")
        content = self.read(self.ask(value=body(stream=True)))[2]
        event = content.split(b"\n\n")[4].partition(b"data: ")[2]
        self.assertRaises(ValueError, json.loads, event)
        self.assertIn(b"message_stop", content)
        self.stand_in(fault="no-end")
        content = self.read(self.ask(value=body(stream=True)))[2]
        self.assertIn(b"message_delta", content)
        self.assertNotIn(b"message_stop", content)

    def test_request_faults(self) -> None:
        """``context`` and ``policy`` are the request's fault, in words that clients match."""
        self.stand_in(fault="context")
        status, value = self.answered(value=body())
        self.assertEqual(status, 400)
        self.assertIn("prompt is too long", value["error"]["message"])
        self.stand_in("minimax", fault="policy")
        status, value = self.answered("/anthropic/v1/messages", body(model="MiniMax-M3"))
        self.assertEqual(status, 400)
        self.assertTrue(value["error"]["message"].endswith("(1026)"))

    def test_slow(self) -> None:
        """``slow`` holds the head back."""
        self.stand_in(fault="slow:2")
        transport = self.ask(value=body())
        self.clock.advance(1.9)
        self.assertEqual(transport.value(), b"")
        self.clock.advance(0.2)
        self.assertEqual(self.read(transport)[0], 200)

    def test_gzip(self) -> None:
        """A compressed answer unpacks to the plain one, streamed or not."""
        self.stand_in(fault="gzip")
        _, headers, content = self.read(self.ask(value=body()))
        self.assertEqual(headers["content-encoding"], "gzip")
        self.assertEqual(json.loads(gzip.decompress(content))["type"], "message")
        _, headers, content = self.read(self.ask(value=body(stream=True)))
        self.assertIn(b"message_stop", zlib.decompress(content, 31))

    def test_client_leaves(self) -> None:
        """A client that leaves stops the stream and is counted."""
        self.stand_in(pace=1.0)
        transport = self.ask(value=body(stream=True))
        self.clock.pump([1.0] * 10)

        transport.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.answered("/__demo__/state")[1]["abandoned"], 1)
        self.assertEqual([timer for timer in self.clock.getDelayedCalls() if "step" in str(timer)], [])

    def test_control(self) -> None:
        """A fault is set, shown and taken away while running; nonsense changes nothing."""
        self.stand_in()
        self.assertEqual(self.answered("/__demo__/fault", {"fault": "times=2;status:503"})[0], 200)
        self.assertEqual(self.answered("/__demo__/state")[1]["fault"]["times"], 2)
        for wrong in ({"fault": "nonsense"}, {"fault": 3}, {}, [1]):
            self.assertEqual(self.answered("/__demo__/fault", wrong)[0], 400, wrong)
        self.assertEqual(self.answered("/__demo__/fault", raw=b"{")[0], 400)
        self.assertEqual(self.answered(value=body())[0], 503)
        self.assertEqual(self.answered("/__demo__/fault", {"fault": "off"})[0], 200)
        self.assertEqual(self.answered(value=body())[0], 200)
        self.assertEqual(self.answered("/__demo__/other")[0], 404)


class FakeSocket:
    """Stands for a listening socket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.closed = False

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def fileno(self) -> int:
        return self.port

    def close(self) -> None:
        self.closed = True


class AdoptingReactor(MemoryReactorClock):
    """Remembers which sockets it took over."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[tuple[int, Any, Any]] = []

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:  # type: ignore[override]
        self.adopted.append((fileDescriptor, addressFamily, factory))
        return self.listenTCP(fileDescriptor, factory)


class ServiceTests(SynchronousTestCase):
    """:class:`DemoProviders`."""

    def setUp(self) -> None:
        self.reactor = AdoptingReactor()
        self.sockets: list[FakeSocket] = []

    def reserve(self) -> Any:
        self.sockets.append(FakeSocket(4000 + len(self.sockets)))
        return self.sockets[-1]

    def test_addresses_before_the_start(self) -> None:
        """The base URLs are known before the reactor listens."""
        providers = DemoProviders(self.reactor, DemoSettings(), self.reserve)
        for provider, dialect, address in (
            ("anthropic", "anthropic", "http://127.0.0.1:4000"),
            ("minimax", "anthropic", "http://127.0.0.1:4001/anthropic"),
            ("minimax", "openai-chat", "http://127.0.0.1:4001"),
            ("openai", "openai-responses", "http://127.0.0.1:4002"),
            ("codex", "openai-responses", "http://127.0.0.1:4002/backend-api/codex"),
            ("gemini", "gemini", "http://127.0.0.1:4003"),
            ("groq", "openai-chat", "http://127.0.0.1:4004"),
            ("deepseek", "anthropic", "http://127.0.0.1:4001/others"),
        ):
            self.assertEqual(providers.address(provider, dialect), address)
        self.assertEqual(self.reactor.adopted, [])

    def test_start_and_stop(self) -> None:
        """The reserved sockets are taken over at the start and given up at the end."""

        directlyProvides(self.reactor, IReactorSocket, IReactorTime)
        providers = DemoProviders(self.reactor, DemoSettings(), self.reserve)
        providers.startService()
        wanted = [(number, socket.AF_INET) for number in range(4000, 4005)]
        self.assertEqual([each[:2] for each in self.reactor.adopted], wanted)
        self.assertTrue(all(each.closed for each in self.sockets))
        self.successResultOf(providers.stopService())
        self.assertFalse(providers.running)

    def test_faults_from_the_settings(self) -> None:
        """Faults of the settings are in force from the start, wrong ones refused."""
        providers = DemoProviders(self.reactor, DemoSettings(faults=(("minimax", "hang"),)), self.reserve)
        self.assertEqual(providers.stand_ins["minimax"].fault, Fault("hang"))
        self.assertEqual(providers.stand_ins["anthropic"].fault, HEALTHY)
        self.assertRaises(
            ValueError, DemoProviders, self.reactor, DemoSettings(faults=(("minimax", "x"),)), self.reserve
        )
