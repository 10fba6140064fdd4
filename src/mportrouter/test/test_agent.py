"""Tests for :mod:`mportrouter.agent`."""

from __future__ import annotations

import gzip

import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import PotentialDataLoss, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IPolicyForHTTPS, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..agent import ForeignOrigin, PooledAgent, _WebPolicy, read_body, web_agent
from ..connection import CallFailed
from ..errors import Kind
from ..opening import Origin
from ..pool import Pool
from ..settings import TLS
from ..tls import VerifyingCreator
from .wires import OK, Net

BASE = b"http://127.0.0.1:8080"


class Reader(Protocol):
    """Takes a body."""

    def __init__(self):
        self.body = b""
        self.reason = None

    def dataReceived(self, data):
        self.body += data

    def connectionLost(self, reason):
        self.reason = reason


@implementer(IBodyProducer)
class Bytes:
    """A request body that is written at once."""

    def __init__(self, body):
        self.body = body
        self.length = len(body)

    def startProducing(self, consumer):
        consumer.registerProducer(self, False)
        consumer.write(self.body[:1])
        consumer.write(self.body[1:])
        consumer.unregisterProducer()
        return succeed(None)

    def stopProducing(self):
        """There is nothing to stop."""

    pauseProducing = resumeProducing = stopProducing


class Base(SynchronousTestCase):
    def setUp(self):
        self.net = Net()
        self.pool = Pool(Origin.of(BASE.decode()), self.net)
        self.agent = PooledAgent(self.pool)

    def get(self, path=b"/", headers=None):
        """A request, its link."""
        response = self.agent.request(b"GET", BASE + path, headers)
        return response, self.net.accept()


class RequestTests(Base):
    """What an agent sends."""

    def test_interface(self):
        """It is an IAgent, and its answers are IResponses to IClientRequests."""
        verifyObject(IAgent, self.agent)
        result, link = self.get()
        link.answer(OK)
        response = self.successResultOf(result)
        verifyObject(IResponse, response)
        verifyObject(IClientRequest, response.request)
        self.assertEqual(response.request.absoluteURI, BASE + b"/")

    def test_target(self):
        """Path and query go as the URL has them; a fragment stays here."""
        for rest, target in (
            (b"", b"/"),
            (b"/", b"/"),
            (b"/a%2fb//c?d=e&f", b"/a%2fb//c?d=e&f"),
            (b"?q=/x", b"/?q=/x"),
            (b"/a#part", b"/a"),
        ):
            self.setUp()
            _, link = self.get(rest)
            self.assertTrue(link.server.received.startswith(b"GET %b HTTP/1.1\r\n" % target), rest)

    def test_fields(self):
        """Fields are sent, save those that the pool writes itself."""
        headers = Headers({b"x-one": [b"1", b"2"], b"host": [b"evil.test"], b"connection": [b"close"]})
        _, link = self.get(headers=headers)
        self.assertEqual(
            link.server.received, b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nX-One: 1\r\nX-One: 2\r\n\r\n"
        )

    def test_foreign_origin(self):
        """Another host, port or scheme is refused: credentials of this account must not go there."""
        for uri in (b"http://127.0.0.2:8080/", b"http://127.0.0.1/", b"https://127.0.0.1:8080/", b"/x", b"http://\xff/"):
            self.failureResultOf(self.agent.request(b"GET", uri), ForeignOrigin)
        self.assertEqual(self.net.pending, 0)

    def test_line_break(self):
        """A field that cannot be sent is a failure."""
        self.failureResultOf(self.agent.request(b"GET /x", BASE + b"/"), ValueError)

    def test_unreachable(self):
        """A call that fails before the head fails with its verdict."""
        result = self.agent.request(b"GET", BASE + b"/")
        self.net.refuse()
        self.assertEqual(self.failureResultOf(result, CallFailed).value.verdict.kind, Kind.NETWORK)

    def test_cancelled(self):
        """Cancelling before the head aborts the call."""
        result, link = self.get()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertTrue(link.closed)
        self.assertEqual(self.pool.stats.in_flight, 0)


class ResponseTests(Base):
    """What an agent answers."""

    def test_head(self):
        """Status, phrase, version, fields, length."""
        result, link = self.get()
        link.answer(b"HTTP/1.1 404 Whatever\r\nContent-Length: 3\r\nX-A: 1\r\nX-A: 2\r\n\r\nabc")
        response = self.successResultOf(result)
        self.assertEqual((response.code, response.phrase, response.version), (404, b"Not Found", (b"HTTP", 1, 1)))
        self.assertEqual(response.headers.getRawHeaders(b"x-a"), [b"1", b"2"])
        self.assertEqual(response.length, 3)

    def test_body_waits(self):
        """A body that nobody takes is held, and no more is read; taking it reads on."""
        result, link = self.get()
        link.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        response = self.successResultOf(result)
        self.assertTrue(link.client_end.paused)
        reader = Reader()
        response.deliverBody(reader)
        verifyObject(IPushProducer, reader.transport)
        self.assertFalse(link.client_end.paused)
        self.assertEqual(reader.body, b"abc")
        link.answer(b"def")
        self.assertEqual(reader.body, b"abcdef")
        self.assertTrue(reader.reason.check(ResponseDone))
        self.assertEqual(self.pool.stats.idle, 1)

    def test_taken_late(self):
        """A body that is whole before somebody takes it is given at once."""
        result, link = self.get()
        link.answer(OK)
        reader = Reader()
        response = self.successResultOf(result)
        response.deliverBody(reader)
        self.assertEqual(reader.body, b"hi")
        self.assertTrue(reader.reason.check(ResponseDone))
        self.assertRaises(RuntimeError, response.deliverBody, Reader())

    def test_until_close(self):
        """A body without a length ends in PotentialDataLoss."""
        result, link = self.get()
        link.answer(b"HTTP/1.1 200 OK\r\n\r\nabc")
        response = self.successResultOf(result)
        self.assertIs(response.length, UNKNOWN_LENGTH)
        reader = Reader()
        response.deliverBody(reader)
        link.close()
        self.assertTrue(reader.reason.check(PotentialDataLoss))

    def test_cut(self):
        """A body that breaks off ends in ResponseFailed, with the verdict inside."""
        result, link = self.get()
        link.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        reader = Reader()
        self.successResultOf(result).deliverBody(reader)
        link.close(ConnectionLost())
        self.assertTrue(reader.reason.check(ResponseFailed))
        self.assertEqual(reader.reason.value.reasons[0].value.verdict.kind, Kind.CUT)

    def test_head_request(self):
        """The answer to HEAD has no body, whatever its length says."""
        result = self.agent.request(b"HEAD", BASE + b"/")
        self.net.accept().answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        response = self.successResultOf(result)
        self.assertEqual(response.length, 0)
        self.assertEqual(self.successResultOf(read_body(response, 10)), b"")

    def test_reader_stops(self):
        """A reader that has had enough closes the connection, and can pause it before."""
        result, link = self.get()
        link.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        reader = Reader()
        self.successResultOf(result).deliverBody(reader)
        reader.transport.pauseProducing()
        self.assertTrue(link.client_end.paused)
        reader.transport.resumeProducing()
        self.assertFalse(link.client_end.paused)
        reader.transport.loseConnection()
        self.assertTrue(link.closed)

    def test_redirects_remember(self):
        """The answer before this one can be noted."""
        result, link = self.get()
        link.answer(OK)
        response = self.successResultOf(result)
        self.assertIsNone(response.previousResponse)
        response.setPreviousResponse(response)
        self.assertIs(response.previousResponse, response)


class ReadBodyTests(Base):
    """Reading a body within a limit."""

    def reading(self, limit=10):
        result, link = self.get()
        link.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123")
        return read_body(self.successResultOf(result), limit), link

    def test_too_long(self):
        """A longer body is not read to its end."""
        body, link = self.reading()
        link.answer(b"456789a")
        self.failureResultOf(body, ValueError)
        self.assertTrue(link.closed)

    def test_cancelled(self):
        """Cancelling closes the connection."""
        body, link = self.reading()
        body.cancel()
        self.failureResultOf(body, CancelledError)
        self.assertTrue(link.closed)

    def test_cut(self):
        """A body that breaks off is a failure."""
        body, link = self.reading()
        link.close()
        self.failureResultOf(body, ResponseFailed)


class TreqTests(Base):
    """The agent under treq."""

    def setUp(self):
        super().setUp()
        self.client = HTTPClient(self.agent, data_to_body_producer=Bytes)

    def test_json(self):
        """A posted JSON body goes out whole, the answer is decoded, gzip is undone."""
        result = self.client.post((BASE + b"/v1/x").decode(), json={"a": 1}, reactor=self.net)
        link = self.net.accept()
        self.assertTrue(link.server.received.startswith(b"POST /v1/x HTTP/1.1\r\n"))
        self.assertTrue(link.server.received.endswith(b'\r\n\r\n{"a":1}'))
        body = gzip.compress(b'{"b": 2}')
        link.answer(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        response = self.successResultOf(result)
        self.assertEqual(self.successResultOf(treq.json_content(response)), {"b": 2})
        self.assertEqual(self.pool.stats.idle, 1)

    def test_timeout(self):
        """treq's timeout aborts the call."""
        result = self.client.get(BASE.decode() + "/", timeout=3, reactor=self.net)
        link = self.net.accept()
        self.net.advance(3)
        self.failureResultOf(result, CancelledError)
        self.assertTrue(link.closed)

    def test_redirect_to_another_host(self):
        """A redirect to another host is not followed, and nothing is sent there."""
        result = self.client.get(BASE.decode() + "/", headers={"x-api-key": "sk"}, reactor=self.net)
        self.net.accept().answer(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n")
        self.failureResultOf(result)
        self.assertEqual(self.net.pending, 0)

    def test_redirect_here(self):
        """A redirect to the same origin is."""
        result = self.client.get(BASE.decode() + "/", reactor=self.net)
        link = self.net.accept()
        link.server.take()
        link.answer(b"HTTP/1.1 307 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(link.server.received.startswith(b"GET /other "))
        link.answer(OK)
        self.assertEqual(self.successResultOf(result).code, 200)


class WebAgentTests(SynchronousTestCase):
    """The agent for other hosts."""

    def test_policy(self):
        """It verifies every host by its name, with the extra trust of the settings."""
        verifyObject(IAgent, web_agent(Net()))
        policy = _WebPolicy(TLS())
        verifyObject(IPolicyForHTTPS, policy)
        creator = policy.creatorForNetloc(b"hooks.test", 443)
        self.assertIsInstance(creator, VerifyingCreator)
        self.assertEqual(creator.host, "hooks.test")
