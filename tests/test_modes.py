"""The modes and how they are switched: chat commands, the ``mportrouter`` command, health, cost, alerts."""

from __future__ import annotations

import json
import threading
from typing import Any

import anthropic
from twisted.trial.unittest import TestCase

from mportrouter.canned import canned_message
from mportrouter.records import Usage

from . import faults
from .faulty import Exchange, FaultyUpstream
from .harness import MODES, Answered, RouterProcess, Stack, failover_stack, free_ports, message, shared, until

PERSON = {"user-agent": "claude-cli/2.1.329 (external, cli)"}
MINIMAX, CLAUDE = "from MiniMax", "from Claude"


def make_stack() -> Stack:
    ports = {
        "dynamic": {"mode": "mixed", "dynamic": True},
        "locked": {"mode": "minimax", "locked": True},
        **{name: {"mode": name} for name in MODES},
    }
    return failover_stack({"ports": ports})


def dear(exchange: Exchange) -> None:
    """An answer that costs about half a dollar at Claude Opus 5.5."""
    exchange.whole(200, canned_message(CLAUDE, exchange.json["model"], Usage(input=100_000, output=10)))


class ModesTestCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.use(shared("modes", make_stack))

    def fresh(self, *args: Any, **options: Any) -> None:
        stack = failover_stack(*args, **options)
        self.addCleanup(stack.stop)
        self.use(stack)

    def use(self, stack: Stack) -> None:
        self.router: RouterProcess = stack.router
        self.minimax: FaultyUpstream
        self.claude: FaultyUpstream
        self.minimax, self.claude = stack.parts
        self.minimax.play(faults.ok(MINIMAX))
        self.claude.play(faults.ok(CLAUDE))

    def said(self, text: Any, port: str = "dynamic", headers: dict[str, str] | None = None, **members: Any) -> Answered:
        answered = self.router.ask(message(text, **members), port, headers={**PERSON, **(headers or {})})
        self.assertEqual(answered.status, 200, answered.body)
        return answered

    def asked(self) -> int:
        return len(self.minimax.requests) + len(self.claude.requests)


class ChatCommandTests(ModesTestCase):
    """``/router …`` as the last user text."""

    def test_is_an_ordinary_message(self) -> None:
        """The answer is a message of the dialect with usage zero, streamed or not, and nobody is asked."""
        for text in ("/router help", "/rr help", "  /router help\n", "/router"):
            answered = self.said(text)
            value = answered.json
            self.assertEqual((value["type"], value["role"], value["stop_reason"]), ("message", "assistant", "end_turn"))
            self.assertEqual((value["usage"]["input_tokens"], value["usage"]["output_tokens"]), (0, 0))
            self.assertIn("/router mode", answered.text)
            ending, streamed = self.said(text, stream=True).said()
            self.assertEqual((ending, streamed), ("whole", answered.text))
        self.assertEqual(self.asked(), 0)

    def test_through_the_sdk(self) -> None:
        """The SDK takes the answers, and as a program gets JSON."""
        client = anthropic.Anthropic(base_url=self.router.url("dynamic"), api_key="k", max_retries=0)
        self.addCleanup(client.close)
        request: Any = message("/router status")
        status = json.loads(client.messages.create(**request).content[0].text)
        self.assertEqual(status["mode"], "mixed")
        with client.messages.stream(**request) as stream:
            self.assertEqual(json.loads(stream.get_final_text())["mode"], "mixed")

    def test_formats(self) -> None:
        """A person gets text; ``--json`` and the header get JSON."""
        for words in ("/router status", "/Router STATUS"):
            self.assertIn("Router Status", self.said(words).text)
        for value, headers in (("/router status --json", {}), ("/router status", {"x-mportrouter-format": "json"})):
            status = json.loads(self.said(value, headers=headers).text)
            for key in ("mode", "primary", "fallback", "uptime", "requests_total", "cost_savings", "health"):
                self.assertIn(key, status)

    def test_wrappings(self) -> None:
        """Reminders and Claude Code's own marks around a command do not hide it."""
        reminder = "<system-reminder>today is Monday</system-reminder>"
        for content in (
            [{"type": "text", "text": reminder}, {"type": "text", "text": "/router status"}],
            f"{reminder}\n/router status",
            "<command-message>router</command-message>\n<command-name>/router</command-name>\n"
            "<command-args>status</command-args>",
        ):
            self.assertIn("Router Status", self.said([{"role": "user", "content": content}]).text)
        environment = [{"role": "user", "content": "/router status"}, {"role": "system", "content": "the environment"}]
        self.assertIn("Router Status", self.said(environment).text)
        self.assertEqual(self.asked(), 0)

    def test_what_is_no_command(self) -> None:
        """Sentences, quotations, older turns and tool results go to the model."""
        call = {"type": "tool_use", "id": "t1", "name": "x", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "/router mode anthropic"}
        for number, content in enumerate(
            (
                "please explain /router mode anthropic",
                "/router is a command, isn't it?",
                "/router mode anthropic\nand then write a poem",
                "`/router mode anthropic`",
                "/routers",
                [
                    {"role": "user", "content": "/router mode anthropic"},
                    {"role": "assistant", "content": "done"},
                    {"role": "user", "content": "thanks"},
                ],
                [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": [call]},
                    {"role": "user", "content": [result]},
                ],
            ),
            1,
        ):
            self.assertEqual(self.said(content).text, MINIMAX, content)
            self.assertEqual(self.asked(), number)

    def test_mistakes(self) -> None:
        """A wrong mode lists the right ones; a slip of the keyboard is answered, not paid for."""
        text = self.said("/router mode cheapest").text
        for mode in MODES:
            self.assertIn(mode, text)
        self.assertIn("status", self.said("/router stauts").text)
        self.said("/router logs many")
        self.assertEqual(self.asked(), 0)
        self.assertEqual(self.said("hello").text, MINIMAX)

    def test_stats_and_logs(self) -> None:
        """``stats`` counts, ``logs n`` shows the last n lines."""
        self.said("hello", "minimax")
        stats = json.loads(self.said("/router stats --json").text)
        self.assertGreaterEqual(stats["requests_total"], 1)
        text = self.said("/router stats").text
        for words in ("Total", "MiniMax", "Claude", "$"):
            self.assertIn(words.lower(), text.lower())
        lines = self.said("/router logs 3").text.splitlines()
        self.assertEqual(len(lines), 3, lines)
        self.assertIn("minimax", "\n".join(self.said("/router logs 20").text.splitlines()))

    def test_health(self) -> None:
        """``health`` looks at the providers now."""
        before = len(self.minimax.others)
        health = json.loads(self.said("/router health --json").text)
        self.assertEqual(health["status"], "healthy")
        self.assertGreater(len(self.minimax.others), before)
        self.assertEqual(self.asked(), 0)


class SwitchTests(ModesTestCase):
    """``/router mode``."""

    def setUp(self) -> None:
        super().setUp()
        shared_router = self.router
        self.addCleanup(lambda: shared_router.ask(message("/router mode mixed"), "dynamic"))

    def served(self, port: str = "dynamic", headers: dict[str, str] | None = None, **members: Any) -> str:
        return self.said("hello", port, headers, **members).text

    def test_takes_effect_at_once(self) -> None:
        """The next request goes by the new mode; other ports keep theirs."""
        for mode, text in (("anthropic", CLAUDE), ("minimax", MINIMAX), ("anthropic", CLAUDE), ("mixed", MINIMAX)):
            self.assertIn(mode, self.said(f"/router mode {mode}").text)
            self.assertEqual(self.served(), text)
            self.assertEqual((self.served("minimax"), self.served("anthropic")), (MINIMAX, CLAUDE))
            status = json.loads(self.said("/router status --json").text)
            self.assertEqual(status["mode"], mode)
        self.assertIn("mixed", self.said("/router mode").text)

    def test_streams_under_way_are_untouched(self) -> None:
        """A stream that runs while the mode is switched ends where it began."""
        self.minimax.play(faults.ok("slow " * 40, 0.02))
        got: list[Answered] = []
        asking = threading.Thread(target=lambda: got.append(self.said("x", stream=True)))
        asking.start()
        self.assertTrue(until(lambda: self.minimax.requests))
        self.said("/router mode anthropic")
        self.assertEqual(self.served(), CLAUDE)
        asking.join()
        self.assertEqual(got[0].said(), ("whole", "slow " * 40))

    def test_fixed_port_and_locked_port(self) -> None:
        """A fixed port is switched too where it is not locked; a locked one says why not."""
        self.assertIn("locked", self.said("/router mode anthropic", "locked").text)
        self.assertEqual(self.served("locked"), MINIMAX)
        self.said("/router mode anthropic", "minimax")
        self.assertEqual(self.served("minimax"), CLAUDE)
        self.said("/router mode minimax", "minimax")
        self.assertEqual(self.served("minimax"), MINIMAX)

    def test_session(self) -> None:
        """``--session`` switches this conversation only, known by header or by ``metadata.user_id``."""
        mine = {"x-claude-code-session-id": "session-1"}
        self.said("/router mode anthropic --session", headers=mine)
        self.assertEqual(self.served(headers=mine), CLAUDE)
        self.assertEqual(json.loads(self.said("/router mode --json", headers=mine).text)["mode"], "anthropic")
        self.assertNotIn("session", json.loads(self.said("/router mode --json").text))
        again = self.said("/router mode minimax --session --json", headers=mine)
        self.assertEqual(json.loads(again.text)["previous"], "anthropic")
        self.said("/router mode anthropic --session", headers=mine)
        self.assertEqual(self.served(headers={"x-claude-code-session-id": "session-2"}), MINIMAX)
        self.assertEqual(self.served(), MINIMAX)
        user = {"user_id": '{"device_id":"d","account_uuid":"","session_id":"session-3"}'}
        self.said("/router mode anthropic --session", metadata=user)
        self.assertEqual(self.served(metadata=user), CLAUDE)
        self.assertEqual(self.served(metadata={"user_id": "someone else"}), MINIMAX)
        self.assertIn("session", self.said("/router mode anthropic --session").text.lower())
        self.assertEqual(self.served(), MINIMAX)

    def test_remembered(self) -> None:
        """A dynamic port has its switched mode again after a restart."""
        self.fresh()
        self.said("/router mode anthropic")
        self.router.restart()
        self.assertEqual(self.served(), CLAUDE)


class InteractiveTests(ModesTestCase):
    """The ``interactive`` mode."""

    def upstream(self, text: Any, **members: Any) -> str:
        answered = self.said(text, "interactive", **members)
        self.assertTrue(answered.headers["x-mportrouter-decision"])
        return answered.upstream

    def test_easy_and_hard(self) -> None:
        """A greeting goes to MiniMax, a design of a system to Claude, and the header says why."""
        self.assertEqual(self.upstream("hello"), "minimax")
        hard = (
            "Design a fault-tolerant distributed database with multi-region replication. Prove that the consensus "
            "protocol is correct, analyse the trade-offs between consistency and latency, write the architecture step "
            "by step, optimise the concurrency of the storage engine and refactor the code below.\n"
            "```python\nclass Store:\n    def get(self, key): ...\n```\n"
        )
        answered = self.said(hard * 3, "interactive")
        self.assertEqual(answered.upstream, "anthropic")
        self.assertRegex(answered.headers["x-mportrouter-decision"], r"\d")
        status = json.loads(self.said("/router status --json", "interactive").text)
        self.assertIn("last_decision", status)

    def test_capability_mismatch(self) -> None:
        """What MiniMax cannot do goes to Claude however easy it is."""
        document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
        text = {"type": "text", "text": "list the words"}
        self.assertEqual(self.upstream([{"role": "user", "content": [document, text]}]), "anthropic")
        self.assertEqual(self.upstream("count to three", stop_sequences=["END"]), "anthropic")

    def test_decision_holds_for_a_tool_loop(self) -> None:
        """All requests of one turn go the same way, whatever the tools give back."""
        for question in ("hello there", "medium sized question about a function", "x"):
            turn: list[Any] = [{"role": "user", "content": question}]
            first = self.upstream(turn)
            for number in range(4):
                call = {"type": "tool_use", "id": f"t{number}", "name": "x", "input": {}}
                result = {
                    "type": "tool_result",
                    "tool_use_id": f"t{number}",
                    "content": "prove the distributed consensus architecture " * 50 * number or "x",
                }
                turn += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
                tools = [{"name": "x", "input_schema": {"type": "object"}}]
                self.assertEqual(self.upstream(turn, tools=tools), first)

    def test_decision_is_of_one_conversation(self) -> None:
        """What one request needed does not send another conversation's like words the same way."""
        self.assertEqual(self.upstream("good morning", stop_sequences=["END"]), "anthropic")
        self.assertEqual(self.upstream("good morning"), "minimax")

    def test_decision_does_not_keep_to_the_ill(self) -> None:
        """The same words again, in a new conversation, go by how the upstreams are now."""
        self.fresh({"health": {"every": "200ms"}}, lax=False)
        self.minimax.stop()
        self.assertTrue(until(lambda: self.router.ask(None, "mixed", "/health").json["status"] == "degraded"))
        self.assertEqual(self.upstream("good evening"), "anthropic")
        self.minimax.listen()
        self.assertTrue(until(lambda: self.router.ask(None, "mixed", "/health").json["status"] == "healthy"))
        self.assertEqual(self.upstream("good evening"), "minimax")

    def test_fails_over_both_ways(self) -> None:
        """Whichever is chosen, the other takes over when it fails."""
        self.minimax.play(faults.status(500))
        self.assertEqual(self.upstream("hello"), "anthropic")


class CostTests(ModesTestCase):
    """The cost ceiling and the statistics."""

    def test_ceiling(self) -> None:
        """Past the ceiling Claude's requests go to MiniMax where the mode allows, else get a 429 that names it."""
        self.fresh({"budget": {"per_hour": 0.25}})
        self.claude.play(dear)
        self.assertEqual(self.said("hello", "anthropic").text, CLAUDE)
        answered = self.router.ask(message(), "anthropic")
        self.assertEqual(answered.status, 429)
        self.assertIn("$0.25", answered.error["message"])
        self.assertEqual(len(self.claude.requests), 1)
        self.assertEqual(self.said("hello", "mixed").text, MINIMAX)
        self.minimax.play(faults.status(500))
        answered = self.router.ask(message(), "mixed")
        self.assertGreaterEqual(answered.status, 429)
        self.assertEqual(len(self.claude.requests), 1)

    def test_ceiling_outlives_a_restart(self) -> None:
        """What was spent is known after a restart."""
        self.fresh({"budget": {"per_hour": 0.25}})
        self.claude.play(dear)
        self.said("hello", "anthropic")
        self.router.restart()
        self.assertEqual(self.router.ask(message(), "anthropic").status, 429)

    def test_numbers(self) -> None:
        """Counts, shares, tokens and dollars add up."""
        self.fresh()
        for _ in range(3):
            self.said("x", "minimax")
        self.said("x", "anthropic", stream=True)
        stats = json.loads(self.router.command("stats", "--json"))
        self.assertEqual(stats["requests_total"], 4)
        rows = stats["providers"]
        self.assertEqual((rows["minimax"]["requests"], rows["anthropic"]["requests"]), (3, 1))
        self.assertEqual((rows["minimax"]["share"], rows["anthropic"]["share"]), (75.0, 25.0))
        self.assertEqual(stats["tokens"]["input"], 400)
        self.assertEqual(stats["tokens"]["output"], 8)
        # Claude Opus 5.5 at its vendored prices; the whole is the sum of the parts.
        self.assertAlmostEqual(stats["cost"], rows["minimax"]["cost"] + rows["anthropic"]["cost"])
        self.assertGreater(rows["anthropic"]["cost"], rows["minimax"]["cost"])
        self.assertGreater(stats["savings"], 0)


class HealthTests(ModesTestCase):
    """``GET /health`` and ``GET /status``."""

    def test_healthy(self) -> None:
        """The shape of the example, and that looking costs nothing."""
        self.router.command("health")
        answered = self.router.ask(None, "dynamic", "/health")
        health = answered.json
        self.assertEqual((answered.status, health["status"], health["current_mode"]), (200, "healthy", "mixed"))
        self.assertTrue(health["router_uptime"])
        for name in ("anthropic", "minimax"):
            row = health["providers"][name]
            self.assertIn("status", row)
            self.assertGreaterEqual(row["latency_ms"], 0)
            self.assertTrue(row["last_check"])
        self.assertEqual(self.asked(), 0)
        self.assertTrue(all(each.path == "/v1/models" for each in self.minimax.others))

    def checked(self, *told: Any) -> None:
        """Looked at again and again, health comes to this; where it is well at last, at the first look."""

        def look() -> bool:
            self.router.command("health", status=None)
            answered = self.router.ask(None, "mixed", "/health")
            return (answered.status, answered.json["status"]) == told

        self.assertTrue(look() if told[1] == "healthy" else until(look), told)

    def test_one_and_both_down(self) -> None:
        """One down is degraded (200), both down unhealthy (503), and back again."""
        self.fresh(lax=False)
        self.minimax.stop()
        self.checked(200, "degraded")
        self.claude.stop()
        self.checked(503, "unhealthy")
        self.minimax.listen()
        self.claude.listen()
        self.checked(200, "healthy")
        self.assertEqual(self.said("hello", "mixed").text, MINIMAX)

    def test_checked_regularly(self) -> None:
        """The checker runs by itself, marks down and up again, and never generates."""
        self.fresh({"health": {"every": "200ms", "timeout": "1s"}}, lax=False)
        self.minimax.stop()
        self.assertTrue(until(lambda: self.router.ask(None, "mixed", "/health").json["status"] == "degraded"))
        self.minimax.listen()
        self.assertTrue(until(lambda: self.router.ask(None, "mixed", "/health").json["status"] == "healthy"))
        self.assertEqual(self.asked(), 0)

    def test_status(self) -> None:
        """``GET /status`` is the status block of its port."""
        status = self.router.ask(None, "anthropic", "/status").json
        self.assertEqual((status["mode"], status["primary"]), ("anthropic", "anthropic"))
        self.assertEqual(status["port"], self.router.port_numbers["anthropic"])


class CommandLineTests(ModesTestCase):
    """The ``mportrouter`` command over Perspective Broker."""

    def test_readable_and_json(self) -> None:
        """Every looking command prints text for people and JSON for scripts."""
        for words in (("status",), ("health",), ("stats",), ("logs",), ("ports",), ("upstreams",), ("mode",)):
            self.assertTrue(self.router.command(*words).strip())
            json.loads(self.router.command(*words, "--json"))

    def test_mode(self) -> None:
        """``mode`` switches the dynamic port, or the one named."""
        self.router.command("mode", "anthropic")
        self.assertEqual(self.said("hello").text, CLAUDE)
        self.router.command("mode", "mixed", "--port", str(self.router.port_numbers["dynamic"]))
        self.assertEqual(self.said("hello").text, MINIMAX)
        self.assertIn("mixed", self.router.command("mode", "cheapest", status=1))
        self.assertIn("locked", self.router.command("mode", "mixed", "--port", self.number("locked"), status=1))

    def number(self, name: str) -> str:
        return str(self.router.port_numbers[name])

    def test_ports(self) -> None:
        """Ports are opened, switched and closed while running."""
        (number,) = free_ports(1)
        self.router.port_numbers["extra"] = number
        self.addCleanup(self.router.port_numbers.pop, "extra")
        self.router.command("ports", "open", str(number), "anthropic")
        self.assertEqual(self.said("hello", "extra").text, CLAUDE)
        self.router.command("ports", "mode", str(number), "minimax")
        self.assertEqual(self.said("hello", "extra").text, MINIMAX)
        rows = {row["port"]: row for row in json.loads(self.router.command("ports", "--json"))}
        self.assertEqual(rows[number]["mode"], "minimax")
        self.router.command("ports", "open", str(number), "anthropic", status=1)
        self.router.command("ports", "close", str(number))
        self.assertRaises(OSError, self.router.connect, "extra")
        self.router.command("ports", "close", str(number), status=1)

    def test_upstreams(self) -> None:
        """A disabled upstream is asked nothing until it is enabled again."""
        self.router.command("upstreams", "disable", "minimax")
        self.assertEqual(self.said("hello", "mixed").text, CLAUDE)
        self.assertGreaterEqual(self.router.ask(message(), "minimax").status, 400)
        self.router.command("upstreams", "enable", "minimax")
        self.assertEqual(self.said("hello", "mixed").text, MINIMAX)
        self.router.command("upstreams", "disable", "nobody", status=1)

    def test_ask(self) -> None:
        """``mportrouter ask`` prints the answer's text, streamed or not; an error is status 1."""
        port = self.number("dynamic")
        self.assertTrue(self.router.command("ask", "--port", port, "how", "are", "you?").startswith(MINIMAX + "\n"))
        self.assertIn(MINIMAX, self.router.command("ask", "--port", port, "--stream", "hello"))
        self.assertIn("how are you?", json.dumps(self.minimax.requests[0].json["messages"]))
        self.minimax.play(faults.status(400, "invalid_request_error", "no such thing"))
        self.assertIn("no such thing", self.router.command("ask", "--port", port, "hello", status=1))


class AlertTests(ModesTestCase):
    """Webhook alerts."""

    def test_alerts(self) -> None:
        """A dead account is told once, to a webhook that fails at first, and not in a request's way."""
        answered_all = threading.Event()

        def fail_late(exchange: Exchange) -> None:
            exchange.wait_until(answered_all.is_set)
            faults.status(500)(exchange)

        hook = FaultyUpstream([fail_late, lambda exchange: exchange.whole(200, b"{}")])
        self.addCleanup(hook.stop)
        self.addCleanup(answered_all.set)
        self.fresh({"alerts": {"webhook": hook.url + "/hook/secret-path"}}, lax=False)
        self.minimax.play(faults.status(401, "authentication_error", "invalid key"))
        for _ in range(5):
            answered = self.said("hello", "mixed")
            self.assertEqual(answered.text, CLAUDE)
        answered_all.set()
        self.assertTrue(until(lambda: len(hook.requests) >= 2, 60), "the alert is not repeated")
        first, second = hook.requests[:2]
        self.assertEqual(first.json, second.json)
        self.assertIn("minimax", json.dumps(first.json))
        kinds = [json.dumps(each.json) for each in hook.requests]
        self.assertLessEqual(len([kind for kind in kinds if "auth" in kind]), 3, kinds)
        self.assertNotIn("secret-path", self.router.written())
