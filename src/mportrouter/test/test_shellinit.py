"""Tests for :mod:`mportrouter.shellinit`: what the functions run, and what they do to a shell's variables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ..shellinit import SHELLS, VARIABLES, Functions, clearing, functions

NAMES = ("claude-fb", "claude-switch", "claude-reset", "claude-status")
SHOW = 'echo "$ANTHROPIC_BASE_URL|$ANTHROPIC_API_KEY|$ANTHROPIC_AUTH_TOKEN"'


class TextTests(SynchronousTestCase):
    """The text for each shell."""

    def test_all_there(self) -> None:
        """Each shell gets the four functions, and no placeholder is left."""
        for shell in SHELLS:
            text = functions(shell, Functions(["mportrouter"], 8787))
            for name in NAMES:
                self.assertRegex(text, rf"(?m)^(function )?{name}\b", shell)
            self.assertNotRegex(text, r"(?<![\w@])@\w+@|#\[")
            self.assertIn("http://127.0.0.1:8787", text)
            self.assertTrue(text.endswith("\n"))

    def test_keep_login(self) -> None:
        """For clients that keep their own login only the base URL is touched."""
        for shell in SHELLS:
            text = functions(shell, Functions(["mportrouter"], 3456, login=True))
            self.assertNotIn("ANTHROPIC_API_KEY", text)
            self.assertNotIn("ANTHROPIC_AUTH_TOKEN", text)
            self.assertIn("http://127.0.0.1:3456", text)

    def test_powershell(self) -> None:
        """For PowerShell every bracket is closed, words are quoted as it wants it, and options reach the command."""
        made_for = Functions(["C:\\it's\\mportrouter.exe"], 9000, ["--config", "a b.yaml"], ["--state", "s"])
        text = functions("powershell", made_for)
        bare = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|(?m:^#.*$)", "", text)
        for opening, closing in ("{}", "()", "[]"):
            self.assertEqual(bare.count(opening), bare.count(closing), opening)
        self.assertIn("$words = @('C:\\it''s\\mportrouter.exe') + $args + @('--state', 's')", text)
        self.assertIn("'switch' $Provider '--port' '9000' '--start' '--config' 'a b.yaml'", text)

    def test_clearing(self) -> None:
        """Each shell has its own commands that clear the variables, all of them."""
        for shell in SHELLS:
            for name in VARIABLES:
                self.assertIn(name, clearing(shell))


class RunTests(SynchronousTestCase):
    """The functions in the shells that are installed, with a command that writes down how it was called."""

    def setUp(self) -> None:
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        self.calls = Path(folder, "calls")
        stub = os.path.join(folder, "a stub's.py")
        code = f"import sys; open({str(self.calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        Path(stub).write_text(code + "sys.exit(1 if 'bad' in sys.argv else 0)\n", encoding="utf-8")
        self.made_for = Functions([sys.executable, stub], 8787, ["--config", "/c d/e.yaml"], ["--state", "/s"])

    def run_in(self, shell: str, script: str, **variables: str) -> list[str]:
        program = shutil.which(shell)
        if program is None:
            raise SkipTest(f"{shell} is not installed")
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment.pop("MPORTROUTER_TOKEN", None)
        done = subprocess.run(
            [program, "-c", functions(shell, self.made_for) + script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, **variables},
            timeout=60,
        )
        self.complaints = done.stderr.decode("utf-8", "replace")
        return done.stdout.decode("utf-8", "replace").splitlines()

    def asked(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines()

    def life(self, shell: str) -> None:
        lines = self.run_in(
            shell,
            f"claude-fb\n{SHOW}\nclaude-switch moonshot\n{SHOW}\nclaude-reset\n{SHOW}\n",
            ANTHROPIC_API_KEY="own key",
            ANTHROPIC_AUTH_TOKEN="own $token",
        )
        on = "http://127.0.0.1:8787|mportrouter|"
        self.assertEqual(lines, [on, on, "|own key|own $token"], self.complaints)
        self.assertEqual(
            self.asked(),
            [
                "fallback --port 8787 --start --config /c d/e.yaml --state /s",
                "switch moonshot --port 8787 --start --config /c d/e.yaml --state /s",
                "reset --quiet --state /s",
            ],
        )
        self.assertEqual(self.complaints, "")

    def test_bash(self) -> None:
        """In bash variables are set, and after ``claude-reset`` they are as before."""
        self.life("bash")

    def test_zsh(self) -> None:
        """The same in zsh."""
        self.life("zsh")

    def test_fish(self) -> None:
        """The same in fish."""
        self.life("fish")

    def refusal(self, shell: str) -> None:
        lines = self.run_in(shell, f"claude-switch bad\n{SHOW}\nclaude-switch\nclaude-reset\n{SHOW}\n")
        self.assertEqual(lines, ["||", "||"])
        self.assertIn("usage: claude-switch PROVIDER", self.complaints)
        self.assertEqual(len(self.asked()), 2)

    def test_refused(self) -> None:
        """Where the command fails no variable is touched; without a provider it is not even run."""
        self.refusal("bash")

    def test_refused_fish(self) -> None:
        """The same in fish."""
        self.refusal("fish")

    def test_other_base(self) -> None:
        """``claude-reset`` leaves a base URL alone that was set since; a token for the router is its key."""
        lines = self.run_in(
            "bash",
            f"claude-fb\n{SHOW}\nexport ANTHROPIC_BASE_URL=https://example.com\nclaude-reset\n{SHOW}\n",
            MPORTROUTER_TOKEN="gate",
        )
        self.assertEqual(lines, ["http://127.0.0.1:8787|gate|", "https://example.com|gate|"])

    def test_under_errexit(self) -> None:
        """Scripts that end at the first failure and at unset names may use them."""
        lines = self.run_in("bash", "set -eu\nclaude-fb\nclaude-status\nclaude-reset\necho end\n")
        self.assertEqual(lines, ["Clients of this shell go to the router at http://127.0.0.1:8787.", "end"])
        self.assertEqual(self.complaints, "")

    def test_clearing(self) -> None:
        """What ``reset --shell`` prints clears every variable."""
        values = dict.fromkeys(VARIABLES, "x")
        self.assertEqual(self.run_in("bash", f"{clearing('bash')}\n{SHOW}\n", **values), ["||"])
