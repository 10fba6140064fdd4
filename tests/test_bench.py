"""The benchmark of translating runs, and translating costs no more than it may."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import TestCase

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class TranslateTests(TestCase):
    """``bench/translate.py``: ratios of two measurements of the same run, far below their limits on any machine."""

    timeout = 300

    def test_within_limits(self) -> None:
        """A translated stream costs at most six times a relayed one, a translated request four times its JSON."""
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "bench", "translate.py"), "--check"],
            capture_output=True,
            text=True,
            timeout=240,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(" of 6") + done.stdout.count(" of 4"), 5, done.stdout)
