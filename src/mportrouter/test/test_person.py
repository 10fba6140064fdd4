"""Tests for :mod:`mportrouter.person`; what requests hold of it is tested with their dialects."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..person import NEAR, alone, letters, unwrapped

REMINDER = "<system-reminder>\nSay /router status.\n</system-reminder>"


class LettersTests(SynchronousTestCase):
    """The cheap test for a command."""

    def test_found(self) -> None:
        """Both names are found in either case, with the slash escaped or not."""
        for body in (b"/router", b"/rr", b"\\/ROUTER", b'x"/Rr"'):
            self.assertTrue(letters(body), body)
        for body in (b"", b"/", b"router", b"/r r", b"/rou"):
            self.assertFalse(letters(body), body)

    def test_bounds(self) -> None:
        """Only what lies between start and end counts, and of that what is near the end."""
        body = b"/router 1234"
        self.assertFalse(letters(body, 1))
        self.assertFalse(letters(body, 0, 4))
        self.assertTrue(letters(body, 0, len(body)))
        self.assertTrue(letters(b"/rr" + b" " * (NEAR - 3)))
        self.assertFalse(letters(b"/rr" + b" " * NEAR))


class UnwrappedTests(SynchronousTestCase):
    """What a person said in a message of several texts."""

    def test_reminders(self) -> None:
        """Reminders go wherever they stand; an open one is what the person wrote."""
        self.assertEqual(unwrapped([REMINDER, f" hello {REMINDER}\n", REMINDER]), "hello")
        self.assertEqual(unwrapped([REMINDER]), "")
        self.assertEqual(unwrapped(["<system-reminder> hello"]), "<system-reminder> hello")
        self.assertEqual(unwrapped([]), "")

    def test_commands(self) -> None:
        """A custom command's marks become what was typed, said once."""
        marks = "<command-message>m</command-message><command-name>/x</command-name><command-args>a b</command-args>"
        self.assertEqual(unwrapped([marks]), "/x a b")
        self.assertEqual(unwrapped([marks, "/x a b"]), "/x a b")
        self.assertEqual(unwrapped([marks, "The file's text."]), "/x a b\nThe file's text.")

    def test_carried_out(self) -> None:
        """A command that the client carried out itself goes with its output."""
        marks = "<command-name>/clear</command-name>"
        done = "<local-command-stdout>done</local-command-stdout>"
        self.assertEqual(unwrapped([marks, done, "hello"]), "hello")
        self.assertEqual(unwrapped(["<local-command-caveat>c</local-command-caveat>hello"]), "hello")


class AloneTests(SynchronousTestCase):
    """One text, for the commands."""

    def test_rest(self) -> None:
        """Where anything stands beside the marks, that is the text; else the marks are."""
        marks = "<command-name>/router</command-name><command-args>status</command-args>"
        self.assertEqual(alone(marks), "/router status")
        self.assertEqual(alone(f"{marks} tell me"), "tell me")
        self.assertEqual(alone(f"{REMINDER}\n/rr help"), "/rr help")
        self.assertEqual(alone("<command-contents>text</command-contents><command-name>/rr</command-name>"), "/rr")
        self.assertEqual(alone(" a < b "), "a < b")
        self.assertEqual(alone(REMINDER), "")
