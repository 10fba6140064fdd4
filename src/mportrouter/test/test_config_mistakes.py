"""What is wrong with a configuration: each mistake at once, with its line; and that nothing else can come of a text."""

from __future__ import annotations

import random

import hypothesis
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from .. import config
from ..errors import ConfigError
from .test_config import KEYS, load, mistakes


class MistakeTests(SynchronousTestCase):
    """Every mistake at once, with its line and what was meant."""

    def test_all_at_once(self) -> None:
        """A file full of mistakes tells each with its line, in the order of the lines."""
        told = mistakes(
            "prots: {}\n"
            "ports:\n"
            "  8787: {mode: mixd, dynamc: true}\n"
            "  99999: mixed\n"
            "modes:\n"
            "  bar: {strategy: fallbak, upstreams: [minmax]}\n"
            "upstreams:\n"
            "  x: {provider: antropic}\n"
            "breaker:\n"
            "  failurs: 3\n"
            "  open_for: 10x\n"
            "health: 5\n"
            "token: ${NOPE}\n",
            log_level="inof",
        )
        expected = [
            ("m.yaml:1", "did you mean 'ports'?"),
            ("m.yaml:3", "did you mean 'dynamic'?"),
            ("m.yaml:3", "did you mean 'mixed'?"),
            ("m.yaml:4", "port number"),
            ("m.yaml:6", "did you mean 'fallback'?"),
            ("m.yaml:8", "did you mean 'anthropic'?"),
            ("m.yaml:10", "did you mean 'failures'?"),
            ("m.yaml:11", "expected a duration"),
            ("m.yaml:12", "expected a mapping"),
            ("m.yaml:13", "NOPE is not set"),
            ("flag --log-level", "did you mean 'info'?"),
        ]
        self.assertEqual(len(told), len(expected), told)
        for sentence, (place, words) in zip(told, expected, strict=True):
            self.assertTrue(sentence.startswith(f"{place}: "), sentence)
            self.assertIn(words, sentence)

    def test_not_yaml(self) -> None:
        """Text that is no YAML is one mistake with its line, whatever else is missing."""
        for text, line in (
            ("ports: [1", 1),
            ("a: 1\nbreaker:\n\tx: 1\n", 3),
            ("a: b: c", 1),
            ("a: *nowhere", 1),
            ("ports: {}\n--- \nports: {}", 2),
            ("a: 1\nb: \x00", 2),
            ("- a\n- b", 1),
            ("just words", 1),
        ):
            told = mistakes(text, {})
            self.assertEqual(len(told), 1, told)
            self.assertTrue(told[0].startswith(f"m.yaml:{line}: "), told)

    def test_no_bombs(self) -> None:
        """Aliases that multiply, or hold themselves, and endless nesting are told and not followed."""
        levels = "\n".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(8))
        for text in (f"a0: &a0 [1, 1]\n{levels}", "a: &a {b: *a}", "a: &a [*a]", "[" * 3000 + "]" * 3000):
            self.assertEqual(len(mistakes(text, {})), 1, text[:40])

    def test_duplicate(self) -> None:
        """A key that is given twice is a mistake, in every depth."""
        (only,) = mistakes("host: 127.0.0.1\nbreaker: {failures: 3, failures: 4}")
        self.assertIn("breaker.failures: given twice, first at m.yaml:2", only)

    def test_merge(self) -> None:
        """YAML's merge key works, own keys win."""
        text = (
            "upstreams:\n"
            "  anthropic: {timeouts: &slow {idle: 3m, head: 3m}}\n"
            "  minimax: {timeouts: {<<: *slow, head: 1m}}\n"
        )
        timeouts = load(text).upstreams["minimax"].timeouts
        self.assertEqual((timeouts.idle, timeouts.head), (180.0, 60.0))

    def test_tags(self) -> None:
        """Tags of YAML build nothing."""
        for text in ("host: !!python/object/apply:os.getcwd []", "state: !env HOME"):
            self.assertIn("tag", mistakes(text)[0])

    def test_shapes(self) -> None:
        """A list where a value belongs, a value where a mapping belongs …"""
        for text in (
            "host: [a]",
            "host: {a: b}",
            "host:",
            "ports: [8787]",
            "ports: {8787: [mixed]}",
            "modes: mixed",
            "upstreams: {minimax: [a]}",
            "upstreams: {minimax: {models: a}}",
            "upstreams: {minimax: {models: []}}",
            "upstreams: {minimax: {models: [a, a]}}",
            "upstreams: {minimax: {models: ['a*']}}",
            "upstreams: {minimax: {models: [{a: b}]}}",
            "upstreams: {minimax: {auth_style: baerer}}",
            "upstreams: {minimax: {auth_style: content-type}}",
            "upstreams: {minimax: {auth_style: 'header:'}}",
            "upstreams: {minimax: {auth_style: 'header:host'}}",
            "upstreams: {minimax: {auth_style: 'header:a b'}}",
            "upstreams: {minimax: {auth_style: 'field:token'}}",
            "upstreams: {minimax: {capabilities: {thinking_blocks: drop}}}",
            "upstreams: {minimax: {capabilities: {strip_events: [message_stop]}}}",
            "upstreams: {minimax: {capabilities: {strip_events: [text]}}}",
            "ports: {8787: {client_limit: 1/h}}",
            "ports: {8787: {body_limit: 0}}",
            "upstreams: {minimax: {models: {a: [b]}}}",
            "upstreams: {minimax: {capabilities: {stop_sequences: maybe}}}",
            "upstreams: {minimax: {capabilities: {mid_system: maybe}}}",
            "upstreams: {minimax: {timeouts: {connect: off}}}",
            "upstreams: {minimax: {limits: {requests: 100/fortnight}}}",
            "front: {body_bytes: 32 elephants}",
            "front: {exchanges: 0}",
            "front: {hosts: {a: b}}",
            "breaker: {failures: 1.5}",
            "breaker: {open_for: 10m, open_at_most: 1m}",
            "budget: {per_hour: -1}",
            "budget: {per_hour: lots}",
            "prices: {m: {inptu: 1}}",
            "prices: {m: 1}",
            "demo: maybe",
            "demo: {faults: {groq: hang}}",
            "demo: {faults: {minimax: explode}}",
            "drain: -1",
            "? [a]\n: b",
        ):
            self.assertEqual(len(mistakes(text)), 1, (text, mistakes(text)))

    def test_noise(self) -> None:
        """A good file with bytes cut out or changed is settings or a ConfigError, nothing else."""
        whole = config.default_text()
        chance = random.Random(7)
        for _ in range(150):
            text = list(whole)
            for _ in range(chance.randrange(1, 6)):
                text[chance.randrange(len(text))] = chance.choice([*"{}:\n[*&$é\t", ""])
            try:
                load("".join(text))
            except ConfigError as error:
                self.assertTrue(error.mistakes)

    @hypothesis.settings(deadline=None)
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """So is any text."""
        for variant in (text, f"host: {text}", f"ports: {{8787: {text}}}"):
            try:
                load(variant)
            except ConfigError as error:
                self.assertTrue(error.mistakes)


class InterpolationTests(SynchronousTestCase):
    """``${NAME}``."""

    def test_values(self) -> None:
        """Variables, defaults and a plain ``${``."""
        environment = {**KEYS, "DIR": "/srv", "EMPTY": ""}
        for text, state in (
            ("${DIR}/state", "/srv/state"),
            ("${NONE:-/tmp}/x", "/tmp/x"),
            ("${EMPTY:-/tmp}/x", "/tmp/x"),
            ("$${DIR}/$HOME", "${DIR}/$HOME"),
        ):
            self.assertEqual(load(f"state: {text}", environment).state, state)

    def test_origin(self) -> None:
        """The origin names the variable and the line."""
        origins = load("\nstate: ${DIR}", KEYS, {"DIR": "/srv"}).origins
        self.assertEqual(origins["state"], ".env DIR (m.yaml:2)")

    def test_broken(self) -> None:
        """Half a variable is a mistake."""
        for text in ("state: 'a${'", "state: 'a${}'", "state: 'a${1X}'"):
            self.assertIn("expected ${NAME}", mistakes(text)[0])

    def test_no_token_by_accident(self) -> None:
        """A token whose variable is not set is a mistake: the port would be open."""
        for text in ("token: ${T}", "ports: {8787: {mode: mixed, token: '${T}'}}", "admin: {password: '${T}'}"):
            (only,) = mistakes(text)
            self.assertIn("T is not set", only)

    def test_value_is_not_yaml(self) -> None:
        """What a variable holds is text, not structure."""
        self.assertEqual(load("state: ${S}", {**KEYS, "S": "{a: b}"}).state, "{a: b}")


class DoorTests(SynchronousTestCase):
    """Who may reach the router."""

    def test_open_host(self) -> None:
        """Anything but loopback needs a token for every port that opens."""
        for host in ("0.0.0.0", "::", "192.168.1.5", "router.example.com"):
            (only,) = mistakes(None, host=host)
            self.assertIn("set token", only)
            self.assertEqual(mistakes("token: abc", host=host), [])
        text = "host: 0.0.0.0\nports: {8787: {mode: mixed, token: abc}, 8771: anthropic}"
        self.assertIn("8771", mistakes(text)[0])
        self.assertEqual(mistakes(text, port=8787), [])
        for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
            self.assertEqual(mistakes(None, host=host), [])

    def test_webhook(self) -> None:
        """A webhook is https, or http on loopback, and never shown."""
        self.assertEqual(mistakes(None, alert_webhook="http://127.0.0.1:9/hook"), [])
        for url in ("http://hooks.example.com/secret-word", "secret-word", "https:///secret-word"):
            (only,) = mistakes(None, alert_webhook=url)
            self.assertNotIn("secret-word", only)

    def test_admin(self) -> None:
        """The admin service's TCP port needs a password and is no port of the router."""
        self.assertIn("password is needed", mistakes("admin: {tcp_port: 9999}")[0])
        self.assertEqual(mistakes("admin: {tcp_port: 9999, password: abc}"), [])
        self.assertIn("already", mistakes("admin: {tcp_port: 8787, password: abc}")[0])


class DurationTests(SynchronousTestCase):
    """The public function for durations."""

    def test_values(self) -> None:
        """Units, sums and plain seconds."""
        for text, seconds in (
            ("15s", 15.0),
            ("2m", 120.0),
            ("500ms", 0.5),
            ("1h", 3600.0),
            ("1h30m", 5400.0),
            ("0.5s", 0.5),
            ("1d", 86400.0),
            (" 30 ", 30.0),
            ("0", 0.0),
            ("2.5", 2.5),
        ):
            self.assertEqual(config.duration(text), seconds)

    def test_refused(self) -> None:
        """Everything else is a ValueError."""
        for text in ("", "s", "10x", "-1", "1e3", "inf", "nan", "10 s s", "five", "99999999999d", "١s"):
            self.assertRaises(ValueError, config.duration, text)
