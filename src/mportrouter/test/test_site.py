"""Tests of :mod:`mportrouter.web.site` and the paths behind it, with an in-memory house."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import Any

import attrs
import zstandard
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from ..commands import CommandError
from ..records import ExchangeRecord
from ..settings import BudgetSettings, FrontSettings
from ..testing import canned_stream, respond
from ..web.messages import wants_json
from ..web.paths import asker, canonical, gemini_action, speaker
from .memory_house import House, error
from .memory_request import MemoryRequest


class PathTests(SynchronousTestCase):
    """Where requests go."""

    def setUp(self) -> None:
        self.house = House()

    def test_canonical(self) -> None:
        """A base URL with, without and with two ``/v1`` means the same."""
        for path in (b"/messages", b"/v1/messages", b"/v1/v1/messages", b"/v1/messages/"):
            self.assertEqual(canonical(path), b"/v1/messages")
        self.assertEqual(canonical(b"/models/a"), b"/v1/models/a")
        self.assertEqual(canonical(b"/v1/health"), b"/health")
        self.assertEqual((canonical(b"/v1"), canonical(b"/"), canonical(b"//")), (b"/", b"/", b"/"))
        self.assertEqual((canonical(b"*"), canonical(b"/modelsx")), (b"*", b"/modelsx"))
        self.assertEqual(canonical(b"/chat/completions"), b"/v1/chat/completions")
        self.assertEqual(canonical(b"/v1/v1beta/models"), b"/v1beta/models")
        self.assertEqual(canonical(b"/models/m:generateContent"), b"/v1/models/m:generateContent")

    def test_speaker(self) -> None:
        """The path tells the dialect of an error; where it does not, the fields do."""
        for path, fields, name in (
            (b"/v1/messages", {}, "anthropic"),
            (b"/chat/completions", {}, "openai-chat"),
            (b"/v1/embeddings", {}, "openai-chat"),
            (b"/v1/responses/x", {}, "openai-responses"),
            (b"/v1/models/m:generateContent", {}, "gemini"),
            (b"/v1beta/x", {}, "gemini"),
            (b"/v1/models", {b"authorization": b"Bearer x"}, "openai-chat"),
            (b"/v1/models", {b"x-goog-api-key": b"x"}, "gemini"),
            (b"/v1/models/m", {}, "openai-chat"),
            (b"/v1/models", {b"x-api-key": b"x"}, "anthropic"),
            (b"/v1/models", {b"authorization": b"Bearer x", b"anthropic-version": b"1"}, "anthropic"),
            (b"/nowhere", {}, "anthropic"),
        ):
            self.assertEqual(speaker(path, fields).name, name, (path, fields))
        self.assertEqual(asker({b"x-api-key": b"k"}).name, "anthropic")
        self.assertEqual(gemini_action(b"/v1beta/models/a%2Fb:countTokens"), b"countTokens")
        self.assertIsNone(gemini_action(b"/v1/models/a/b"))

    def test_websocket(self) -> None:
        """An attempt at a WebSocket is a 426, after which Codex goes on with POST at once; a plain GET is a 405."""
        request = self.house.ask(b"/v1/responses", upgrade="websocket", connection="Upgrade")
        self.assertEqual((request.status, request.answer_header(b"allow")), (426, b"POST"))
        self.assertEqual(self.house.ask(b"/v1/responses").status, 405)

    def test_key_in_query(self) -> None:
        """A key in the query is treated as one in a field: it goes on in no query."""
        asked = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
        request = self.house.ask(b"/v1beta/models/m:generateContent?key=secret&alt=json", asked, 8771)
        self.assertEqual(request.status, 200)
        (sent,) = self.house.runtime.upstreams["anthropic"].requests  # type: ignore[attr-defined]
        self.assertNotIn(b"secret", sent.query + sent.path + sent.body)

    def test_whole_server(self) -> None:
        """``OPTIONS *`` is a path that there is not, and no failure of the router's."""
        self.assertEqual(error(self.house.ask(b"*", method=b"OPTIONS"))[:2], (404, "not_found_error"))

    def test_spellings_are_served(self) -> None:
        """Each of them reaches the upstream, query string included."""
        body = {"model": "m", "messages": []}
        for target in (b"/messages?beta=true", b"/v1/v1/messages?beta=true", b"/v1/messages?beta=true"):
            self.assertEqual(self.house.ask(target, body, 8771).status, 200)
        sent = self.house.runtime.upstreams["anthropic"].requests  # type: ignore[attr-defined]
        self.assertEqual({(each.path, each.query) for each in sent}, {(b"/v1/messages", b"beta=true")})

    def test_unknown(self) -> None:
        """An unknown path is a 404 in the dialect's shape that says what there is."""
        status, kind, message = error(self.house.ask(b"/v2/nothing"))
        self.assertEqual((status, kind), (404, "not_found_error"))
        self.assertIn("/v1/messages", message)

    def test_wrong_method(self) -> None:
        """A wrong method is a 405 that names the right one."""
        status, kind, message = error(self.house.ask(b"/v1/messages", method=b"DELETE"))
        self.assertEqual((status, kind), (405, "invalid_request_error"))
        self.assertIn("POST", message)
        self.assertEqual(self.house.ask(b"/v1/messages", method=b"PUT").answer_header(b"allow"), b"POST")

    def test_head(self) -> None:
        """A client's probe of the base URL is answered cleanly."""
        self.assertEqual(self.house.ask(b"/", method=b"HEAD").status, 200)

    def test_passed_on(self) -> None:
        """Other paths of the API go to Anthropic where the mode has it, and are 404 where it has not."""
        self.assertEqual(self.house.ask(b"/v1/files?limit=1", port=8771).status, 200)
        sent = self.house.runtime.upstreams["anthropic"].requests[-1]  # type: ignore[attr-defined]
        self.assertEqual((sent.method, sent.path, sent.query), (b"GET", b"/v1/files", b"limit=1"))
        self.assertEqual(error(self.house.ask(b"/v1/files", port=8772))[:2], (404, "not_found_error"))

    def test_health_and_status(self) -> None:
        """Both answer on every port, with the port's own mode, and health with its status."""
        health = self.house.ask(b"/health", port=8774)
        self.assertEqual((health.status, json.loads(health.answer)["current_mode"]), (503, "interactive"))
        self.house.console.answers["status"] = {"mode": "minimax"}
        self.assertEqual(json.loads(self.house.ask(b"/status", port=8772).answer), {"mode": "minimax"})
        self.assertEqual(self.house.console.calls[-1], ("status", 8772))

    def test_closed_port(self) -> None:
        """A request that came whole only after its port was closed is told so."""
        del self.house.ports[8772]
        self.assertEqual(error(self.house.ask(b"/health", port=8772))[:2], (503, "api_error"))

    def test_forbidden(self) -> None:
        """Admission comes first, on every path."""
        request = MemoryRequest(b"GET", b"/health", [(b"host", b"evil.example")], port=8773)
        self.house.site.handle(request)
        self.assertEqual((request.status, request.answer_header(b"x-should-retry")), (403, b"false"))


class MessageTests(SynchronousTestCase):
    """The inference path."""

    def setUp(self) -> None:
        self.house = House()

    def test_content_type(self) -> None:
        """Something else than JSON is refused with what to send; a missing type is not asked for."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            self.assertEqual(error(self.house.say(fields={"content_type": kind}))[:2], (415, "invalid_request_error"))
        for kind in (
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/vnd.x+json",
        ):
            self.assertEqual(self.house.say(fields={"content_type": kind}).status, 200, kind)

    def test_coded_body(self) -> None:
        """A compressed request body is unpacked, and goes on plain."""
        body = json.dumps({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
        for coding, packed in (
            ("gzip", gzip.compress(body.encode())),
            ("zstd", zstandard.compress(body.encode())),
        ):
            house = House()
            self.assertEqual(house.ask(b"/v1/messages", packed, 8771, content_encoding=coding).status, 200)
            (sent,) = house.runtime.upstreams["anthropic"].requests  # type: ignore[attr-defined]
            self.assertEqual(sent.body, body.encode())
            self.assertNotIn(b"content-encoding", dict(sent.headers))

    def test_coded_badly(self) -> None:
        """An unknown coding, a damaged body and one that unpacks to too much are each refused for what they are."""
        house = House(front=FrontSettings(body_bytes=1000))
        bomb = gzip.compress(b"x" * 1_000_000)
        for coding, body, status in (("br", b"x", 415), ("gzip", b"x", 400), ("gzip", bomb, 413)):
            self.assertEqual(error(house.ask(b"/v1/messages", body, 8771, content_encoding=coding))[0], status)

    def test_bad_bodies(self) -> None:
        """What is no request is a 400 that says what is wrong."""
        for body, words in (
            (b"{", "cannot be read"),
            (b"[]", "not an object"),
            (b'{"messages":[]}', "`model` is missing"),
            (b'{"model":5}', "`model` must be a text"),
            (b"[" * 100_000, ""),
        ):
            status, kind, message = error(self.house.ask(b"/v1/messages", body))
            self.assertEqual((status, kind), (400, "invalid_request_error"), body[:20])
            self.assertIn(words, message)

    def test_recorded(self) -> None:
        """An exchange is recorded with its port, mode, cost and what all-Claude would have cost."""
        self.house.say()
        (record,) = self.house.records
        self.assertEqual((record.port, record.mode, record.upstream, record.outcome), (8773, "mixed", "minimax", "ok"))
        assert record.reference_cost is not None
        self.assertGreater(record.reference_cost, record.cost)
        self.assertGreater(record.cost, 0)
        self.assertEqual(self.house.site.under_way, 0)

    def test_bound(self) -> None:
        """Past the bound of exchanges there is a 503 with Retry-After; health goes on."""
        self.house = House(front=attrs.evolve(self.house.runtime.settings.front, exchanges=0))
        request = self.house.say()
        self.assertEqual((request.status, request.answer_header(b"retry-after")), (503, b"1"))
        self.assertEqual(json.loads(self.house.ask(b"/health").answer)["status"], "unhealthy")

    def test_ceiling(self) -> None:
        """Past the cost ceiling Claude is not asked where the mode has another, else 429 names the ceiling."""
        from decimal import Decimal

        self.house = House(budget=attrs.evolve(self.house.runtime.settings.budget, per_hour=Decimal("0.01")))
        self.house.ledger.add(ExchangeRecord(at=1.0, cost=2 * 10**10))
        self.assertEqual(self.house.say(port=8773).answer_header(b"x-mportrouter-upstream"), b"minimax")
        status, kind, message = error(self.house.say(port=8771))
        self.assertEqual((status, kind), (429, "rate_limit_error"))
        self.assertIn("0.01", message)

    def test_session_mode(self) -> None:
        """A conversation with a mode of its own gets it, on that port only."""
        self.house.state.set_session_mode("8773:s1", "claude")
        fields = {"x_claude_code_session_id": "s1"}
        self.assertEqual(self.house.say(fields=fields).answer_header(b"x-mportrouter-mode"), b"claude")
        self.assertEqual(self.house.say().answer_header(b"x-mportrouter-mode"), b"mixed")
        self.assertEqual(self.house.say(port=8787, fields=fields).answer_header(b"x-mportrouter-mode"), b"mixed")

    def test_mode_that_is_no_more(self) -> None:
        """A conversation whose mode a reload has taken away gets the port's again."""
        self.house.state.set_session_mode("8773:s1", "gone")
        request = self.house.say(fields={"x_claude_code_session_id": "s1"})
        self.assertEqual((request.status, request.answer_header(b"x-mportrouter-mode")), (200, b"mixed"))


class InteractiveTests(SynchronousTestCase):
    """Decisions by difficulty."""

    HARD = "Design the architecture of a distributed database and prove its consensus protocol correct"

    def setUp(self) -> None:
        self.house = House()

    def who(self, *messages: Any, **members: Any) -> bytes | None:
        return self.house.say(port=8774, messages=list(messages), **members).answer_header(b"x-mportrouter-upstream")

    def test_scores(self) -> None:
        """An easy turn goes to the cheap upstream, a hard one to the strong, and the header says why."""
        self.assertEqual(self.who({"role": "user", "content": "rename this variable"}), b"minimax")
        request = self.house.say(self.HARD, port=8774)
        self.assertEqual(request.answer_header(b"x-mportrouter-upstream"), b"anthropic")
        self.assertIn(b"complexity", request.answer_header(b"x-mportrouter-decision") or b"")

    def test_held_in_the_loop(self) -> None:
        """A decision holds through the tool loop of its turn, whatever the tools bring."""
        turn = {"role": "user", "content": "rename this variable"}
        self.assertEqual(self.who(turn), b"minimax")
        loop = [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "read", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": self.HARD * 20}]},
        ]
        self.assertEqual(self.who(turn, *loop), b"minimax")
        self.assertEqual(self.house.records[0].decision, self.house.records[1].decision)

    def test_model_is_asked(self) -> None:
        """Where a model analyses, its score decides; where it fails, the local one."""
        from ..routing.complexity import Score

        self.house.scores = [succeed(Score(9, ("asked",)))]
        self.assertEqual(self.who({"role": "user", "content": "rename this variable"}), b"anthropic")

    def test_past_the_ceiling(self) -> None:
        """Past the ceiling no model is paid for an analysis, and a refusal tells mode and reason in its headers."""
        house = House(budget=BudgetSettings(Decimal("0.01")))
        house.ledger.add(ExchangeRecord(at=house.epoch(), outcome="ok", provider="anthropic", cost=10**11))
        house.scores = ["never taken"]
        request = house.say("rename this", port=8774)
        self.assertEqual(request.answer_header(b"x-mportrouter-upstream"), b"minimax")
        self.assertEqual(house.scores, ["never taken"])
        refused = house.say(port=8771)
        self.assertEqual(refused.status, 429)
        self.assertEqual(refused.answer_header(b"x-mportrouter-mode"), b"anthropic")
        self.assertEqual(refused.answer_header(b"x-mportrouter-attempts"), b"0")
        self.assertIn(b"cost ceiling reached", refused.answer_header(b"x-mportrouter-decision") or b"")

    def test_left_while_analysed(self) -> None:
        """A client that leaves while its turn is analysed ends the analysis, and nothing is sent."""
        from twisted.internet.defer import Deferred

        cancelled: list[Any] = []
        self.house.scores = [Deferred(cancelled.append)]
        request = self.house.say("rename this", port=8774)
        request.leave()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.house.runtime.upstreams["minimax"].requests, [])  # type: ignore[attr-defined]


class CommandTests(SynchronousTestCase):
    """Commands in the chat."""

    def setUp(self) -> None:
        self.house = House()

    def asked(self) -> int:
        return sum(len(each.requests) for each in self.house.runtime.upstreams.values())  # type: ignore[attr-defined]

    def test_answered(self) -> None:
        """A command is answered as an assistant message with no usage, and no upstream is touched."""
        request = self.house.say("/router help")
        message = json.loads(request.answer)
        self.assertEqual(
            (message["role"], message["stop_reason"], message["usage"]["output_tokens"]), ("assistant", "end_turn", 0)
        )
        self.assertIn("/router mode", message["content"][0]["text"])
        self.assertEqual((self.asked(), self.house.records[0].outcome), (0, "command"))

    def test_streamed(self) -> None:
        """It is streamed where a stream was asked for."""
        request = self.house.say("/rr status", stream=True)
        self.assertEqual(request.answer_header(b"content-type"), b"text/event-stream; charset=utf-8")
        self.assertTrue(request.answer.endswith(b'data: {"type":"message_stop"}\n\n'))

    def test_mode(self) -> None:
        """The mode command is given port, name and conversation."""
        self.house.console.answers["mode"] = {"mode": "minimax", "port": 8773}
        self.house.say("/router mode minimax --session", fields={"x_claude_code_session_id": "s"})
        self.assertEqual(self.house.console.calls[-1], ("mode", 8773, "minimax", "s"))

    def test_port_switch_drops_the_conversations_own(self) -> None:
        """Switching the port from a conversation with a mode of its own drops that, and says so."""
        fields = {"x_claude_code_session_id": "s"}
        self.house.state.set_session_mode("8773:s", "claude")
        self.assertIn(b"claude", self.house.say("/router status", fields=fields).answer)
        self.house.console.answers["mode"] = {"mode": "minimax", "port": 8773, "previous": "mixed"}
        answer = self.house.say("/router mode minimax", fields=fields).answer
        self.assertIn(b"own mode, claude, is dropped", answer)
        self.assertIsNone(self.house.state.session_mode("8773:s"))

    def test_refused(self) -> None:
        """A refusal is an ordinary message with the reason."""
        self.house.console.answers["mode"] = CommandError("no such mode")
        self.assertIn(b"no such mode", self.house.say("/router mode x").answer)

    def test_json(self) -> None:
        """Programs get JSON: by flag, by field, or because they are no chat."""
        self.house.console.answers["status"] = {"mode": "mixed"}
        for text, fields in (
            ("/router status --json", {}),
            ("/router status", {"x_mportrouter_format": "json"}),
            ("/router status", {"user_agent": "Anthropic/Python 2.11.0"}),
        ):
            message = json.loads(self.house.say(text, fields=fields).answer)
            self.assertEqual(json.loads(message["content"][0]["text"]), {"mode": "mixed"})

    def test_people(self) -> None:
        """Chats get words."""
        self.assertFalse(wants_json({b"user-agent": b"claude-cli/2.1.329 (external, cli)"}))
        self.assertTrue(wants_json({b"user-agent": b"claude-cli/2.1.329 (external, sdk-cli)"}))
        self.assertFalse(wants_json({}))

    def test_sentences(self) -> None:
        """A sentence about routers goes to a model."""
        self.house.say("/router is broken, please fix it")
        self.assertEqual(self.asked(), 1)


class StreamTests(SynchronousTestCase):
    """Whole streams through the site."""

    def test_stream(self) -> None:
        """A stream arrives byte for byte on a fixed port."""
        house = House()
        upstream = house.runtime.upstreams["anthropic"]
        upstream.scripts = [respond(headers=((b"content-type", b"text/event-stream"),), body=canned_stream())]  # type: ignore[attr-defined]
        self.assertEqual(house.say(port=8771, stream=True).answer, canned_stream())
