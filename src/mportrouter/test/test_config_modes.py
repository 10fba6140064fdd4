"""Modes that route by name, stack accounts and read tags: what the configuration makes of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from .. import config
from ..settings import Limits, ModeSettings, TableRow, Timeouts
from .test_config import KEYS, load, mistakes

TABLE = """\
ports: {9099: by-name}
modes:
  by-name:
    strategy: table
    table:
      - {match: opus, upstream: anthropic, model: claude-opus-4-8, name: strong}
      - {match: "claude-haiku-*", upstream: minimax, path: /v1/messages}
      - {match: sonnet, model: MiniMax-M3}
      - default: minimax
"""


class TableTests(SynchronousTestCase):
    """The rows of a table."""

    def test_rows(self) -> None:
        """Rows keep their order; one that names no upstream goes to the default's; they say the mode's upstreams."""
        mode = load(TABLE).modes["by-name"]
        self.assertEqual(
            mode.table,
            (
                TableRow("opus", "anthropic", model="claude-opus-4-8", name="strong"),
                TableRow("claude-haiku-*", "minimax", path="/v1/messages"),
                TableRow("sonnet", "minimax", model="MiniMax-M3"),
                TableRow("", "minimax"),
            ),
        )
        self.assertEqual(mode.upstreams, ("anthropic", "minimax"))

    def test_mapping(self) -> None:
        """A table may be a mapping of patterns to upstreams, or to the rest of a row."""
        rows = "{opus: anthropic, haiku: {upstream: minimax, model: m}, default: minimax}"
        text = f"modes: {{t: {{strategy: table, table: {rows}}}}}"
        self.assertEqual(
            load(text).modes["t"].table,
            (TableRow("opus", "anthropic"), TableRow("haiku", "minimax", model="m"), TableRow("", "minimax")),
        )

    def test_timeouts(self) -> None:
        """A row's timeouts stand over those of its upstream, one by one, wherever these come from."""
        rows = "[{match: a, upstream: minimax, timeouts: {total: 2m}}, {match: b, upstream: minimax}]"
        text = f"timeouts: {{idle: 7s}}\nmodes: {{t: {{strategy: table, table: {rows}}}}}"
        first, second = load(text, timeout="9s").modes["t"].table
        self.assertEqual(first.timeouts, Timeouts(head=9, first_content=9, answer=9, idle=9, total=120))
        self.assertIsNone(second.timeouts)

    def test_mistakes(self) -> None:
        """Each mistake is told with its line."""
        for row, place, words in (
            ("{match: x, upstream: anthropix}", "m.yaml:9", "did you mean 'anthropic'?"),
            ("{match: x, upstraem: anthropic}", "m.yaml:9", "did you mean 'upstream'?"),
            ("{match: '', upstream: anthropic}", "m.yaml:9", "table[3].match: expected a text"),
            ("{upstream: anthropic}", "m.yaml:9", "needs match: or default:"),
            ("{default: minimax, match: x}", "m.yaml:9", "take this out"),
            ("{match: x, upstream: anthropic, path: v1}", "m.yaml:9", "begins with /"),
            ("{match: x, upstream: anthropic, timeouts: {total: soon}}", "m.yaml:9", "expected a duration"),
            ("x", "m.yaml:9", "expected a mapping"),
        ):
            whole = TABLE.replace("sonnet, model", "sonnet, upstream: minimax, model")
            told = mistakes(whole.replace("default: minimax", row))
            self.assertTrue(told[0].startswith(f"{place}: modes.by-name.table[3]"), told)
            self.assertIn(words, told[0])
        (only,) = mistakes(TABLE + "      - {match: late, upstream: minimax}\n")
        self.assertIn("m.yaml:10: modes.by-name.table[4]: no name comes so far: the row at m.yaml:9", only)
        (only,) = mistakes(TABLE.replace("      - default: minimax\n", ""))
        self.assertIn("m.yaml:8: modes.by-name.table[2]: which upstream?", only)

    def test_no_rows(self) -> None:
        """A table needs rows, and the strategy a table."""
        for text in ("{strategy: table}", "{strategy: table, upstreams: [minimax]}"):
            (only,) = mistakes(f"modes: {{t: {text}}}")
            self.assertIn("m.yaml:1: modes.t: a table is needed", only)
        for rows in ("[]", "{}", "", "minimax"):
            (only,) = mistakes(f"modes: {{t: {{strategy: table, table: {rows}}}}}")
            self.assertIn("m.yaml:1: modes.t.table: expected rows", only)

    def test_key_missing(self) -> None:
        """A row's upstream may have no key, with a notice; where none has one, nothing starts."""
        (told,) = load(TABLE, {"MINIMAX_API_KEY": "k"}).notices
        self.assertIn("anthropic (ANTHROPIC_API_KEY)", told)
        self.assertEqual(len(mistakes(TABLE, {})), 2)


class AccountTests(SynchronousTestCase):
    """Accounts that stand for each other."""

    TEXT = (
        "ports: {3000: {mode: stacked, token: '${T:-}', client_limit: 100/min, body_limit: 10MiB}}\n"
        "modes: {stacked: {strategy: exhaust, upstreams: [g1, g2, g3], auto_model: auto, "
        "retry_after: 1m, affinity: no}}\n"
        "upstreams:\n"
        "  g1: {provider: groq, api_key: '${G1}', models: [a, b], limits: {requests: 2/s, wait: 0}}\n"
        "  g2: {provider: groq, api_key: '${G2}'}\n"
        "  g3: {provider: custom, base_url: http://127.0.0.1:1, auth_style: none}\n"
    )

    def test_values(self) -> None:
        """What the file says is what the settings have."""
        settings = load(self.TEXT, {"G1": "k1", "G2": "k2"})
        self.assertEqual(
            settings.modes["stacked"],
            ModeSettings(
                "stacked", "exhaust", ("g1", "g2", "g3"), auto_model="auto", retry_after=60.0, affinity=False
            ),
        )
        port = settings.ports[3000]
        self.assertEqual((port.token, port.client_limit, port.body_bytes), (None, 100, 10 * 1024 * 1024))
        first = settings.upstreams["g1"]
        self.assertEqual((first.offers, first.models), (("a", "b"), ()))
        self.assertEqual(first.limits, Limits(requests=120.0, wait=0.0))
        self.assertEqual(settings.notices, ())
        self.assertEqual(settings.upstreams["g2"].offers, ())

    def test_any_number(self) -> None:
        """No limit of clients is 0 or off."""
        for word in ("0", "off"):
            text = self.TEXT.replace("100/min", word)
            self.assertEqual(load(text, {"G1": "k1"}).ports[3000].client_limit, 0)

    def test_token(self) -> None:
        """A token with an empty default is one where its variable is set."""
        token = load(self.TEXT, {"G1": "k1", "T": "gate"}).ports[3000].token
        assert token is not None
        self.assertEqual(token.value, "gate")
        self.assertIn("T is not set", mistakes(self.TEXT.replace("${T:-}", "${T}"), {"G1": "k1"})[0])

    def test_keyless(self) -> None:
        """An account without a key is left out, with a notice that names its variable; one that needs none stays."""
        settings = load(self.TEXT, {"G2": "k2"})
        self.assertEqual(settings.modes["stacked"].upstreams, ("g2", "g3"))
        (told,) = settings.notices
        self.assertEqual(told, "modes.stacked: skipped, for want of a key: g1 (G1)")
        self.assertIn(told, config.warnings(settings))

    def test_keyless_in_turns(self) -> None:
        """So it is under round-robin."""
        text = self.TEXT.replace("exhaust", "round-robin")
        self.assertEqual(load(text, {"G2": "k2"}).modes["stacked"].upstreams, ("g2", "g3"))

    def test_none_left(self) -> None:
        """Where no account has a key, each is told as a mistake."""
        text = self.TEXT.replace(", g3]", "]")
        told = [one.split(":")[0] for one in mistakes(text, {})]
        needed = "needed by the mode stacked (port 3000)"
        self.assertEqual(told, [f"no key for the upstream 'g1', {needed}", f"no key for the upstream 'g2', {needed}"])

    def test_demo_needs_none(self) -> None:
        """In the demo every account answers."""
        settings = load(self.TEXT, {}, demo=True)
        self.assertEqual(settings.modes["stacked"].upstreams, ("g1", "g2", "g3"))
        self.assertEqual(settings.notices, ())

    def test_elsewhere(self) -> None:
        """An account without a key is a mistake in a mode that needs it, whatever other modes skip."""
        text = self.TEXT.replace("ports: {", "ports: {3001: one, ")
        text = text.replace("modes: {", "modes: {one: {strategy: only, upstreams: [g1]}, ")
        (only,) = mistakes(text, {"G2": "k2"})
        self.assertIn("no key for the upstream 'g1', needed by the mode one (port 3001): set G1", only)


class ChainTests(SynchronousTestCase):
    """Fallback with a cooldown, and tags."""

    def test_cooldown(self) -> None:
        """A cooldown is a duration, or minutes."""
        for said in ("cooldown: 30m", "cooldown: 1800", "cooldown_minutes: 30"):
            text = f"modes: {{mixed: {{{said}, move_on: [429, 503, 429]}}}}"
            settings = load(text)
            mode = settings.modes["mixed"]
            self.assertEqual((mode.cooldown, mode.move_on), (1800.0, (429, 503)))
            self.assertEqual(settings.origins["modes.mixed.cooldown"], "m.yaml:1")
            self.assertEqual(mode.upstreams, ("minimax", "anthropic"))

    def test_nothing_moves_on(self) -> None:
        """An empty list is not the same as none."""
        self.assertEqual(load("modes: {mixed: {move_on: []}}").modes["mixed"].move_on, ())
        self.assertIsNone(load("modes: {mixed: {move_on: null}}").modes["mixed"].move_on)

    def test_mistakes(self) -> None:
        """What is no status, no number, said twice, or another strategy's."""
        for said, words in (
            ("move_on: [200]", "modes.mixed.move_on[0]: expected a status"),
            ("cooldown_minutes: 30m", "modes.mixed.cooldown_minutes: expected a whole number"),
            ("cooldown_minutes: 30, cooldown: 1m", "modes.mixed.cooldown_minutes: cooldown says the same"),
            ("auto_model: x", "only modes of the strategy 'exhaust' or 'round-robin' have it"),
            ("retry_after_seconds: 5", "only modes of the strategy 'exhaust' or 'round-robin' have it"),
            ("affinity: true", "only modes of the strategy 'exhaust' or 'round-robin' have it"),
            ("table: {a: minimax}", "only modes of the strategy 'table' have it"),
            ("tags: maybe", "modes.mixed.tags: expected true or false"),
            ("strategy: exhuast", "did you mean 'exhaust'?"),
        ):
            (only,) = mistakes(f"modes: {{mixed: {{{said}}}}}")
            self.assertIn(f"m.yaml:1: modes.mixed.{said.split(':')[0]}", only)
            self.assertIn(words, only)

    def test_tags(self) -> None:
        """A mode with tags needs no key of what a tag may name; a notice says which cannot be."""
        text = (
            "ports: {3456: tagged}\nmodes: {tagged: {strategy: only, upstreams: [anthropic], tags: true}}\n"
            "upstreams: {anthropic: {auth: client}, cerebras: {}, codex: {}}"
        )
        settings = load(text, {})
        self.assertTrue(settings.modes["tagged"].tags)
        self.assertEqual(
            settings.notices, ("modes.tagged: tags cannot name it, for want of a key: cerebras (CEREBRAS_API_KEY)",)
        )
        self.assertEqual(load(text, {"CEREBRAS_API_KEY": "csk-1"}).notices, ())

    def test_usage(self) -> None:
        """A file for lines of tokens."""
        self.assertEqual(load("logs: {usage: ~/u.jsonl}").logs.usage, "~/u.jsonl")
        self.assertIsNone(load("logs: {usage: off}").logs.usage)

    def test_own_field(self) -> None:
        """A key may go in a field of another name."""
        text = "upstreams: {minimax: {auth_style: X-Corp-Token}}"
        self.assertEqual(load(text).upstreams["minimax"].auth_style, "x-corp-token")
        for given, style in (("header:Token", "header:token"), ("header:x-corp-token", "header:x-corp-token")):
            loaded = load(f"upstreams: {{minimax: {{auth_style: '{given}'}}}}")
            self.assertEqual(loaded.upstreams["minimax"].auth_style, style)


class PrintedTests(SynchronousTestCase):
    """What --check-config prints of them."""

    def test_loads_again(self) -> None:
        """It means the same when it is read."""
        for text in (
            TABLE.replace("model: MiniMax-M3", "timeouts: {total: 90s, idle: off}"),
            AccountTests.TEXT,
            "modes: {mixed: {cooldown_minutes: 5, move_on: [429], tags: true}}\nlogs: {usage: u}",
        ):
            environment = {**KEYS, "G1": "k1", "G2": "k2"}
            settings = load(text, environment)
            again = load(config.render(settings).replace('"****"', "k"), environment)
            self.assertEqual(again.modes, settings.modes)
            self.assertEqual(again.logs, settings.logs)
            for number, port in settings.ports.items():
                self.assertEqual(again.ports[number], port)
            for id, upstream in settings.upstreams.items():
                same = again.upstreams[id]
                self.assertEqual((same.offers, same.models), (upstream.offers, upstream.models))

    def test_rows(self) -> None:
        """A row is a line."""
        lines = config.render(load(TABLE)).splitlines()
        self.assertIn('      - {match: "claude-haiku-*", upstream: minimax, path: /v1/messages}', lines)
        self.assertIn("      - {default: minimax}", lines)
        self.assertIn("    table:  # from m.yaml:5", lines)
