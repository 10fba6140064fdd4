"""Tests for :mod:`mportrouter.install`."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from ..commands import Command, parse
from ..dialects.anthropic_turn import last_user_text
from ..install import claude_code_lines, install_claude_code


class InstallTests(SynchronousTestCase):
    """The custom command files of Claude Code."""

    def setUp(self) -> None:
        self.home = self.mktemp()
        os.mkdir(self.home)
        self.folder = os.path.join(os.path.abspath(self.home), ".claude", "commands")

    def read(self, name: str) -> str:
        with open(os.path.join(self.folder, name)) as file:
            return file.read()

    def test_written(self) -> None:
        """Both names are written, and nothing else is left in the folder."""
        done = install_claude_code(self.home)
        self.assertEqual(done.written, (os.path.join(self.folder, "router.md"), os.path.join(self.folder, "rr.md")))
        self.assertEqual(done.kept, ())
        self.assertEqual(sorted(os.listdir(self.folder)), ["router.md", "rr.md"])

    def test_body(self) -> None:
        """What Claude Code sends of the file is the command, and the router knows it."""
        install_claude_code(self.home)
        head, _, body = self.read("router.md").removeprefix("---\n").partition("\n---\n")
        self.assertEqual(body.strip(), "/router $ARGUMENTS")
        self.assertIn("description: ", head)
        self.assertEqual(
            parse(body.replace("$ARGUMENTS", "mode mixed --session")), Command("mode", "mixed", session=True)
        )
        self.assertEqual(parse(body.replace("$ARGUMENTS", "")), Command("help"))

    def test_as_sent(self) -> None:
        """Each file's text is one command together with the marks that Claude Code sends beside it."""
        install_claude_code(self.home)
        for name in ("router", "rr"):
            body = self.read(f"{name}.md").rpartition("\n---\n")[2].replace("$ARGUMENTS", "status")
            marks = f"<command-message>{name}</command-message>\n<command-name>/{name}</command-name>\n"
            content = [
                {"type": "text", "text": f"{marks}<command-args>status</command-args>\n"},
                {"type": "text", "text": body},
            ]
            said = last_user_text(json.dumps({"messages": [{"role": "user", "content": content}]}).encode())
            self.assertEqual(parse(said or ""), Command("status"))

    def test_again(self) -> None:
        """Its own files are brought up to date."""
        install_claude_code(self.home)
        path = os.path.join(self.folder, "router.md")
        with open(path, "a") as file:
            file.write("old")
        self.assertEqual(install_claude_code(self.home).kept, ())
        self.assertNotIn("old", self.read("router.md"))

    def test_foreign(self) -> None:
        """A file of somebody else's stays, unless it is forced; the other one is written."""
        os.makedirs(self.folder)
        with open(os.path.join(self.folder, "rr.md"), "wb") as file:
            file.write(b"mine \xff")
        done = install_claude_code(self.home)
        self.assertEqual(done.kept, (os.path.join(self.folder, "rr.md"),))
        self.assertEqual(len(done.written), 1)
        with open(os.path.join(self.folder, "rr.md"), "rb") as file:
            self.assertEqual(file.read(), b"mine \xff")
        self.assertEqual(install_claude_code(self.home, force=True).kept, ())
        self.assertIn("/rr $ARGUMENTS", self.read("rr.md"))

    def test_lines(self) -> None:
        """Three lines point Claude Code at the port, without /v1."""
        lines = claude_code_lines(8773)
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[0], "export ANTHROPIC_BASE_URL=http://127.0.0.1:8773")
