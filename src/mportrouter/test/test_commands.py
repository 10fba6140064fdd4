"""Tests for :mod:`mportrouter.commands`."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from ..commands import (
    WORDS,
    Command,
    CommandError,
    aligned,
    duration,
    execute,
    health_word,
    help_text,
    invalid_mode,
    locked_port,
    no_session,
    parse,
    percent,
    render,
    status_block,
    to_json,
)
from ..testing import MemoryConsole

STATS = {
    "requests_total": 1247,
    "providers": {
        "minimax": {"requests": 892, "share": 71.53, "cost": 2.34, "latency_ms": 31.0},
        "anthropic": {"requests": 355, "share": 28.47, "cost": 18.72, "latency_ms": 156.2},
    },
    "reference_cost": 64.18,
    "savings": 43.12,
    "savings_percent": 67.19,
    "latency_ms": 89.0,
}


class ParseTests(SynchronousTestCase):
    """What is a command."""

    def test_commands(self) -> None:
        """Each command is recognised with its arguments, in any case, with any white space around."""
        table = {
            "/router": Command("help"),
            "/rr": Command("help"),
            "/router help": Command("help"),
            "/router --json": Command("help", json=True),
            "/router status": Command("status"),
            "  /RR   Status \n": Command("status"),
            "/router status --json": Command("status", json=True),
            "/router --json status": Command("status", json=True),
            "/router health": Command("health"),
            "/router stats": Command("stats"),
            "/router logs": Command("logs"),
            "/router logs 50": Command("logs", count=50),
            "/router logs 99999": Command("logs", count=1000),
            "/router mode": Command("mode"),
            "/router mode mixed": Command("mode", "mixed"),
            "/Router MODE by-name": Command("mode", "by-name"),
            "/rr mode minimax --session": Command("mode", "minimax", session=True),
            "/rr mode --session minimax --JSON": Command("mode", "minimax", session=True, json=True),
        }
        for text, expected in table.items():
            self.assertEqual(parse(text), expected, text)

    def test_not_commands(self) -> None:
        """Sentences, paths and other texts that begin like a command go to the model."""
        for text in (
            "",
            "/",
            "router status",
            "/routers",
            "/router.py",
            "/rrr status",
            "/router/status",
            "/router: status",
            "please /router status",
            "/router is broken, please fix",
            "/router is broken",
            "/router status?",
            "/router status, then go on",
            "/router status of the whole thing",
            "/router mode mixed please",
            "/router mode mixed\nand then write the tests",
            "/router\nstatus",
            "/router why does it fail",
            "/router what's",
            "/router mode don't",
            "`/router status`",
            "“/router status”",
            "/router status " + "x" * 300,
        ):
            self.assertIsNone(parse(text), text)

    def test_slips(self) -> None:
        """A mistyped command is answered with what would be right, instead of being paid for."""
        for text, word in {
            "/router frobnicate": "There is no command /router frobnicate. The commands are: mode, status",
            "/router stauts": "Did you mean stats or status?",
            "/router mdoe mixed": "Did you mean mode?",
            "/router status now": "takes nothing after it, not “now”",
            "/router logs many": "takes a number of lines",
            "/router logs 0": "takes a number of lines",
            "/router logs ٣": None,
            "/router logs " + "9" * 30: "takes a number of lines",
            "/router status --jsn": "has no option --jsn",
            "/router status --session": "--session belongs to /router mode",
            "/router --session": "--session belongs to /router mode",
        }.items():
            command = parse(text)
            if word is None:
                self.assertIsNone(command, text)
                continue
            assert command is not None, text
            self.assertIn(word, command.mistake or "", text)
            self.assertRaises(CommandError, execute, command, MemoryConsole(), 8787, None)

    def test_slip_in_json(self) -> None:
        """A mistyped command keeps its wish for JSON."""
        command = parse("/router frobnicate --json")
        assert command is not None
        self.assertTrue(command.json)

    def test_claude_code_wrappings(self) -> None:
        """A custom command of Claude Code arrives with marks around it, or as its marks alone."""
        marks = (
            "<command-message>router is running…</command-message>\n<command-name>/router</command-name>\n"
            "<command-args>mode mixed</command-args>"
        )
        expected = Command("mode", "mixed")
        self.assertEqual(parse(marks + "\n/router mode mixed"), expected)
        self.assertEqual(parse(marks), expected)
        self.assertEqual(parse("<system-reminder>a\nb</system-reminder>\n/router mode mixed"), expected)
        self.assertEqual(parse("<command-name>/rr</command-name>"), Command("help"))

    def test_other_marks(self) -> None:
        """Marks of other commands, and marks beside a sentence, are no command."""
        self.assertIsNone(parse("<command-name>/compact</command-name>"))
        self.assertIsNone(parse("<command-name>/router</command-name> tell me about routers"))
        self.assertIsNone(parse("<system-reminder>/router status</system-reminder>"))

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """No text breaks the parser, and only a known word comes out of it."""
        for candidate in (text, "/router " + text, "/rr" + text):
            command = parse(candidate)
            if command is not None:
                self.assertIn(command.word, WORDS)


class ExecuteTests(SynchronousTestCase):
    """What a command asks of the console."""

    def asked(self, text: str, session: str | None = None) -> object:
        command = parse(text)
        assert command is not None
        console = MemoryConsole({"logs": ["a"]})
        execute(command, console, 8787, session)
        return console.calls

    def test_calls(self) -> None:
        """Each command asks the console one thing, about the port it came to."""
        self.assertEqual(self.asked("/rr status"), [("status", 8787)])
        self.assertEqual(self.asked("/rr health"), [("check_health",)])
        self.assertEqual(self.asked("/rr stats"), [("stats",)])
        self.assertEqual(self.asked("/rr logs"), [("logs", 20)])
        self.assertEqual(self.asked("/rr logs 7"), [("logs", 7)])
        self.assertEqual(self.asked("/rr help"), [])

    def test_mode(self) -> None:
        """A mode is switched for the port, or with --session for the conversation alone."""
        self.assertEqual(self.asked("/rr mode mixed", "s1"), [("mode", 8787, "mixed", None)])
        self.assertEqual(self.asked("/rr mode mixed --session", "s1"), [("mode", 8787, "mixed", "s1")])
        self.assertEqual(self.asked("/rr mode", "s1"), [("mode", 8787, None, "s1")])

    def test_no_session(self) -> None:
        """--session is refused where the client says no conversation id; the port is not switched instead."""
        for session in (None, ""):
            console = MemoryConsole()
            error = self.assertRaises(
                CommandError, execute, Command("mode", "mixed", session=True), console, 8787, session
            )
            self.assertIn("X-Claude-Code-Session-Id", error.message)
            self.assertEqual(console.calls, [])

    def test_deferred(self) -> None:
        """A Deferred of the console is handed on."""
        waiting = succeed({"status": "healthy"})
        self.assertIs(execute(Command("health"), MemoryConsole({"check_health": waiting}), 1, None).result, waiting)

    def test_refusals(self) -> None:
        """A refusal says what would be right."""
        error = invalid_mode("minmax", ["anthropic", "minimax", "mixed"])
        self.assertEqual(
            error.message,
            "There is no mode “minmax”. Did you mean “minimax”? Valid modes: anthropic, minimax, mixed.",
        )
        self.assertNotIn("Did you mean", invalid_mode("zzz", ["mixed"]).message)
        self.assertLess(len(invalid_mode("z" * 5000, ["mixed"]).message), 200)
        self.assertIn("Port 8771 is locked to mode anthropic", locked_port(8771, "anthropic").message)
        self.assertIn("--session", no_session().message)


class RenderTests(SynchronousTestCase):
    """What a person reads."""

    def test_stats(self) -> None:
        """The statistics block has its published form, the numbers in one column."""
        self.assertEqual(
            render(Command("stats"), STATS),
            "Session Statistics:\n"
            "  Total Requests:    1,247\n"
            "  MiniMax Requests:    892 (71.5%)\n"
            "  Claude Requests:     355 (28.5%)\n"
            "  MiniMax Cost:      $2.34\n"
            "  Claude Cost:      $18.72\n"
            "  Original Claude:  $64.18\n"
            "  Total Savings:     67.2% ($43.12 saved)\n"
            "  Average Latency:    89ms (MiniMax: 31ms, Claude: 156ms)",
        )

    def test_stats_of_nothing(self) -> None:
        """Before the first request there are zeros, not errors."""
        text = render(Command("stats"), {"requests_total": 0, "providers": {}, "latency_ms": None})
        self.assertIn("Total Requests:", text)
        self.assertIn("0.0% ($0.00 saved)", text)
        self.assertIn("Average Latency:     –", text)

    def test_stats_of_a_loss(self) -> None:
        """Where the strong provider would have been cheaper, the block says so."""
        text = render(Command("stats"), {**STATS, "savings": -0.5, "savings_percent": -5.0})
        self.assertIn("-5.0% ($0.50 more)", text)

    def test_status(self) -> None:
        """The status block keeps its published keys and shows as aligned lines."""
        block = status_block(
            "mixed", "minimax", "anthropic", 9240, STATS, {"minimax": "ok (23ms)", "anthropic": "ok (145ms)"}
        )
        self.assertEqual(
            block,
            {
                "mode": "mixed",
                "primary": "minimax",
                "fallback": "anthropic",
                "uptime": "2h 34m",
                "requests_total": 1247,
                "requests_minimax": 892,
                "requests_anthropic": 355,
                "cost_savings": "67.2%",
                "health": {"minimax": "ok (23ms)", "anthropic": "ok (145ms)"},
            },
        )
        lines = render(Command("status"), {**block, "port": 8787, "draining": True, "fallback": None}).split("\n")
        self.assertEqual(lines[0], "Router Status:")
        self.assertIn("  Mode:               mixed", lines)
        self.assertIn("  Fallback:           –", lines)
        self.assertIn("  Requests total:     1,247", lines)
        self.assertIn("  Port:               8787", lines)
        self.assertIn("  Health:             minimax ok (23ms), anthropic ok (145ms)", lines)
        self.assertIn("  Draining:           yes", lines)

    def test_status_json(self) -> None:
        """As JSON the block is itself."""
        block = status_block("mixed", "minimax", None, 1, STATS, {})
        self.assertEqual(json.loads(to_json(block)), block)
        self.assertIn('\n  "mode": "mixed"', to_json(block))

    def test_health(self) -> None:
        """Each provider has a line with its state, latency and last check."""
        text = render(
            Command("health"),
            {
                "status": "degraded",
                "providers": {
                    "anthropic": {"status": "up", "latency_ms": 142, "last_check": "2026-06-23T10:30:00Z"},
                    "minimax": {"status": "down", "latency_ms": None, "last_check": None, "last_error": "refused"},
                },
                "current_mode": "mixed",
                "router_uptime": "24h 15m",
            },
        )
        self.assertEqual(
            text.split("\n"),
            [
                "Router Health: degraded",
                "  anthropic: ok (142ms), checked 2026-06-23T10:30:00Z",
                "  minimax:   down – refused",
                "  Mode:      mixed",
                "  Uptime:    24h 15m",
            ],
        )

    def test_mode(self) -> None:
        """A switch says what it was before; a look lists what there is."""
        command = Command("mode", "mixed")
        self.assertEqual(
            render(command, {"port": 8787, "mode": "mixed", "previous": "minimax"}),
            "Mode of port 8787 is now mixed (was minimax).",
        )
        self.assertEqual(
            render(command, {"port": 8787, "mode": "mixed", "previous": "minimax", "session": True}),
            "Mode of this conversation is now mixed (was minimax).",
        )
        self.assertEqual(
            render(Command("mode"), {"port": 8787, "mode": "mixed", "modes": ["minimax", "mixed"]}),
            "Mode of port 8787: mixed.\nModes: minimax, mixed.",
        )

    def test_logs(self) -> None:
        """Log lines come as they are; an empty log says so."""
        self.assertEqual(render(Command("logs"), ["a", "b"]), "a\nb")
        self.assertEqual(render(Command("logs"), []), "The log is empty.")
        self.assertEqual(json.loads(to_json(["a", "b"])), {"logs": ["a", "b"]})
        self.assertEqual(json.loads(to_json([])), {"logs": []})

    def test_refusal(self) -> None:
        """A refusal is its text, and an ``error`` in JSON."""
        error = CommandError("no")
        self.assertEqual(render(Command("mode"), error), "no")
        self.assertEqual(json.loads(to_json(error)), {"error": "no"})

    def test_help(self) -> None:
        """The help lists every command."""
        text = render(Command("help"), execute(Command("help"), MemoryConsole(), None, None))
        self.assertEqual(text, help_text())
        for word in WORDS:
            self.assertIn(f"/router {word}", text)

    def test_numbers(self) -> None:
        """Durations and shares read as in the published examples."""
        self.assertEqual(
            [duration(s) for s in (-1, 12.9, 185, 9240, 87300)], ["0s", "12s", "3m 5s", "2h 34m", "24h 15m"]
        )
        self.assertEqual([percent(None), percent(67.26)], ["0.0%", "67.3%"])
        self.assertEqual([health_word("up", 23.4), health_word("down", None)], ["ok (23ms)", "down"])
        self.assertEqual(aligned([]), "")
