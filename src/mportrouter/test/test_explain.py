"""Tests for :mod:`mportrouter.explain`."""

from __future__ import annotations

import json
from typing import Any

from ..breaker import Refusal
from ..commands import CommandError
from ..explain import Question, alone, question, text
from ..interfaces import Look
from ..router import Router
from .test_router import DEAD, RouterTestCase

TEXT = """
ports:
  8787: {mode: mixed, dynamic: true}
  8774: interactive
  9099: by-name
  3000: stacked
  3456: tagged
modes:
  by-name:
    strategy: table
    table: [{match: opus, upstream: minimax, model: M9, path: /special}, {match: haiku, upstream: anthropic}]
  stacked: {strategy: exhaust, upstreams: [one, two], auto_model: any-of-them}
  tagged: {strategy: fallback, upstreams: [anthropic, one], tags: true}
upstreams:
  one: {provider: groq, api_key: k1, models: [llama, small], limits: {concurrency: 2}}
  two: {provider: groq, api_key: k2, models: [llama], limits: {requests: 1/min}}
"""
TAG = "<CCR-SUBAGENT-MODEL>{}</CCR-SUBAGENT-MODEL>"


def body(**members: Any) -> bytes:
    plain = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(plain | members).encode()


class ExplainTestCase(RouterTestCase):
    """A router that is composed and not started, and its console."""

    def setUp(self) -> None:
        super().setUp()
        self.made: Router = self.router(TEXT)

    def told(self, port: int | None = None, raw: bytes | None = None, dialect: str = "anthropic", **more: str) -> Any:
        given = {"model": "", "session": "", **more}
        told = self.made.console.explain(port, body() if raw is None else raw, dialect, **given)
        self.assertEqual(json.loads(json.dumps(told)), told)
        return told

    def order(self, *arguments: Any, **more: Any) -> list[tuple[str, str]]:
        return [(each["upstream"], each["model"]) for each in self.told(*arguments, **more)["attempts"]]

    def refused(self, *arguments: Any, **more: Any) -> str:
        return self.assertRaises(CommandError, self.told, *arguments, **more).message


class RunningTests(ExplainTestCase):
    """What the running router tells."""

    def test_order(self) -> None:
        """Attempts in order, each with its reason, and every upstream with its state."""
        told = self.told()
        self.assertEqual((told["port"], told["mode"], told["strategy"]), (8787, "mixed", "fallback"))
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["minimax", "anthropic"])
        self.assertTrue(all(each["reason"] for each in told["attempts"]))
        self.assertEqual([(row["id"], row["place"], row["state"]) for row in told["upstreams"]],
                         [("minimax", 1, "healthy"), ("anthropic", 2, "healthy")])
        self.assertIsNone(told["refusal"])

    def test_loop(self) -> None:
        """A loop of tools keeps its model where the mode chooses it, as long as anybody has that."""
        runtime = self.made.runtime
        look = Look("any-of-them", False, frozenset(), 9, 99)
        mode = runtime.mode("stacked")

        def order(loop: str) -> list[tuple[str, str]]:
            return [(each.upstream, each.model) for each in runtime.plan(mode, look, False, 1, loop=loop).attempts]

        self.assertEqual(order("small"), [("one", "small")])
        self.assertEqual(order("gone"), [("two", "llama"), ("one", "llama")])

    def test_limits(self) -> None:
        """An account whose own limits let nothing through now is told as that, and for how long."""
        two = self.made.runtime.upstreams["two"].allowance
        two.take(self.reactor.seconds())
        self.reactor.advance(10)
        told = self.told(3000, model="llama")
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["one", "two"])
        self.assertEqual(told["notes"][-1:],
                         ["two is passed over now: its limit of 1 requests a minute is reached, for 50 s"])
        self.reactor.advance(50)
        self.assertEqual(self.told(3000, model="llama")["notes"], [])

    def test_places(self) -> None:
        """So is one of which all places are taken."""
        self.made.runtime.upstreams["one"].in_flight = 2
        self.assertIn("one is passed over now: all of its 2 places are taken", self.told(3000, model="llama")["notes"])

    def test_state(self) -> None:
        """An upstream that is out comes last, is told as what it is, and when it is back."""
        circuit = self.made.runtime.upstreams["minimax"].circuit
        for _ in range(5):
            permit = circuit.permit("m")
            assert not isinstance(permit, Refusal)
            permit.failure(DEAD)
        told = self.told()
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["anthropic", "minimax"])
        row = told["upstreams"][0]
        self.assertEqual((row["id"], row["state"], row["place"]), ("minimax", "down", 2))
        self.assertGreater(row["back_in"], 20)

    def test_nothing_counts(self) -> None:
        """Asking again and again changes nothing: no turn is taken, nothing is under way or recorded."""
        for _ in range(3):
            told = self.told(3000, body(model="any-of-them"))
            self.assertEqual((told["turn"], told["attempts"][0]["upstream"]), (0, "one"))
        self.made.site.turns.take("stacked", "any-of-them")
        self.assertEqual(self.order(3000, body(model="any-of-them"))[0][0], "two")
        self.assertEqual(self.made.site.under_way, 0)
        self.assertEqual(self.made.ledger.stats()["requests_total"], 0)

    def test_pinned(self) -> None:
        """A pin is in force here too."""
        self.made.console.switch(8787, "anthropic")
        told = self.told()
        self.assertEqual((told["mode"], self.order()), ("mixed/anthropic", [("anthropic", "claude-opus-5-5")]))

    def test_table(self) -> None:
        """A row's model and path are told; a name that no row has is told as the refusal that it gets."""
        told = self.told(9099)
        self.assertEqual((told["attempts"][0]["model"], told["attempts"][0]["path"]), ("M9", "/special"))
        told = self.told(9099, body(model="gpt-6"))
        self.assertEqual((told["attempts"], told["refusal"]["status"]), ([], 400))
        self.assertIn("gpt-6", told["refusal"]["message"])

    def test_accounts(self) -> None:
        """Which account has the model is told, and a model that none has is a 404."""
        told = self.told(3000, body(model="small"))
        self.assertEqual([row["offers"] for row in told["upstreams"]], ["yes", "not this model"])
        self.assertEqual([each["upstream"] for each in told["attempts"]], ["one"])
        self.assertEqual(self.told(3000, body(model="gpt-6"))["refusal"]["status"], 404)
        self.assertEqual([row["translated"] for row in told["upstreams"]], ["openai-chat"] * 2)

    def test_conversation(self) -> None:
        """A conversation that an account has stays there, known by the id that is given."""
        self.assertEqual(self.order(3000, body(model="llama"))[0][0], "one")
        self.made.state.set_decision("stay:stacked:llama:s1", "two")
        told = self.told(3000, body(model="llama"), session="s1")
        self.assertEqual((told["conversation_is_with"], told["attempts"][0]["upstream"]), ("two", "two"))

    def test_tag(self) -> None:
        """A sub-agent's tag decides; one that names nobody is told as the 400 that it gets."""
        told = self.told(3456, body(system=f"x {TAG.format('one,small')}"))
        self.assertEqual((told["tag"], told["attempts"][0]["upstream"], told["attempts"][0]["model"]),
                         ("one,small", "one", "small"))
        self.assertEqual(self.told(3456, body(system=TAG.format("nobody,x")))["refusal"]["status"], 400)
        self.assertNotIn("tag", self.told(8787, body(system=TAG.format("one,small"))))

    def test_interactive(self) -> None:
        """The score of the task and what it rests on are told."""
        hard = [{"role": "user", "content": "Design and prove a distributed consensus algorithm, then refactor it."}]
        told = self.told(8774, body(messages=hard))
        self.assertGreaterEqual(told["complexity"]["score"], 7)
        self.assertTrue(told["complexity"]["reasons"])
        self.assertEqual(told["attempts"][0]["upstream"], "anthropic")

    def test_model(self) -> None:
        """Another model than the file's can be asked about; for Gemini it is the path's."""
        self.assertEqual(self.order(9099, model="claude-haiku-4-5"), [("anthropic", "claude-haiku-4-5")])
        gemini = b'{"contents": [{"parts": [{"text": "hi"}]}]}'
        told = self.told(9099, gemini, "gemini", model="my-opus")
        self.assertEqual((told["model"], told["attempts"][0]["model"]), ("my-opus", "M9"))

    def test_refusals(self) -> None:
        """What no mode would take is refused with the router's words."""
        self.assertIn("the request would be refused", self.refused(8787, b"[]"))
        self.assertIn("There is no dialect “xml”", self.refused(8787, body(), "xml"))
        self.assertIn("port 9 is not open", self.refused(9))
        command = [{"role": "user", "content": "/router status"}]
        self.assertIn("the command /router status", self.refused(8787, body(messages=command)))


class AloneTests(ExplainTestCase):
    """Without a router."""

    def alone(self, port: int | None = None, asked: Question | None = None) -> Any:
        return alone(asked or question(body(), None, ""), self.settings(TEXT), port, 1.7e9)

    def test_same(self) -> None:
        """The configuration alone gives what a router gives that has just been started."""
        for port in (8787, 8774, 9099, 3000, 3456):
            there = {**self.told(port), "told_by": ""}
            self.assertEqual({**self.alone(port), "told_by": ""}, there, port)

    def test_port(self) -> None:
        """Without a port the dynamic one is meant; one that the configuration has not is refused."""
        self.assertEqual(self.alone()["port"], 8787)
        error = self.assertRaises(CommandError, self.alone, 9)
        self.assertIn("no such port (it has 3000, 3456, 8774, 8787, 9099)", error.message)

    def test_no_file(self) -> None:
        """A model's name alone is enough."""
        told = self.alone(9099, question(None, None, "claude-haiku-4-5"))
        self.assertEqual(told["attempts"][0]["upstream"], "anthropic")


class QuestionTests(ExplainTestCase):
    """What is asked about."""

    def test_dialect(self) -> None:
        """The dialect is told by the members, unless it is given."""
        self.assertEqual(question(body(), None, "").dialect, "anthropic")
        self.assertEqual(question(body(), "openai-chat", "").dialect, "openai-chat")
        self.assertEqual(question(b'{"model": "m", "input": "x"}', None, "").dialect, "openai-responses")

    def test_mistakes(self) -> None:
        """A file that is no request is refused, saying why."""
        for raw, words in (
            (b"{", "no JSON"),
            (b"\xff\xfe", "no JSON"),
            (b"[" * 100_000, "no JSON"),
            (b"{}", "no known dialect"),
            (b'{"contents": []}', "--model"),
        ):
            error = self.assertRaises(CommandError, question, raw, None, "")
            self.assertIn(words, error.message)


class TextTests(ExplainTestCase):
    """What a person reads."""

    def test_plan(self) -> None:
        """Head, decision, attempts with their numbers, upstreams with their state."""
        shown = text(self.told())
        self.assertRegex(shown, r"Mode: +mixed\n")
        self.assertRegex(shown, r"\n1  minimax +MiniMax\S+ +\S.*\n2  anthropic +claude-opus-5-5 +\S")
        self.assertIn("Upstreams of the mode:", shown)

    def test_refusal(self) -> None:
        """Where nobody is asked, what the client gets."""
        self.assertIn("Nobody is asked; the client gets 404", text(self.told(3000, body(model="gpt-6"))))

    def test_control_characters(self) -> None:
        """A name in a request cannot move the cursor."""
        self.assertNotIn("\x1b", text(self.told(3000, body(model="\x1b[2Jx"))))
