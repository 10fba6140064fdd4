"""Tests of guessing how hard a task is."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mportrouter.routing.complexity import RoutingFeatures, score

TABLE = [
    # the seed's own examples
    ("Write unit tests", 1, 3),
    ("Design system architecture", 7, 10),
    ("Debug authentication bug", 4, 6),
    # easy
    ("hi", 1, 3),
    ("Hello!", 1, 3),
    ("thanks", 1, 3),
    ("What is the capital of France?", 1, 3),
    ("What does HTTP 418 mean?", 1, 3),
    ("Rename foo to bar", 1, 3),
    ("List the files in the architecture directory", 1, 3),
    ("Translate this to German: good morning", 1, 3),
    ("Translate this to French: design the whole architecture", 1, 3),
    ("Format this JSON", 1, 3),
    ("please sort these imports", 1, 3),
    ("Summarize the following paragraph.", 1, 3),
    ("Could you convert this to snake case?", 1, 3),
    ("Write a commit message", 1, 3),
    ("write unit tests for parse_date", 1, 3),
    ("Add docstrings and fix typos", 1, 6),
    ("Print hello world in Python", 1, 3),
    ("Count the lines in main.py", 1, 3),
    ("Show me the current branch", 1, 3),
    ("quickly list all TODO marks", 1, 3),
    ("Remove the unused import in app.py", 1, 3),
    ("lowercase these words", 1, 3),
    # middling
    ("Fix the failing login test", 4, 6),
    ("Explain how this function works", 4, 6),
    ("Implement a retry decorator", 4, 6),
    ("Add pagination to the users endpoint", 4, 6),
    ("Review this pull request", 4, 6),
    ("Can you debug why the cache is never hit?", 4, 6),
    ("Optimize this SQL query", 4, 6),
    ("Integrate Stripe payments into the checkout page", 4, 6),
    ("Create a REST endpoint for orders", 4, 6),
    ("Compare these two approaches for me", 4, 6),
    ("I want you to update the parser for the new field", 4, 6),
    ("Investigate the slow startup", 4, 6),
    ("Write a poem about the sea", 4, 6),
    ("Then fix the import error", 4, 6),
    # hard
    ("Refactor the entire codebase to async", 7, 10),
    ("Please refactor the payment module", 7, 10),
    ("Design a distributed rate limiter", 7, 10),
    ("Prove that the square root of two is irrational", 7, 10),
    ("Architect a multi-tenant SaaS platform for millions of users", 7, 10),
    ("Plan a zero-downtime migration to the new schema", 7, 10),
    ("Debug a race condition in the distributed lock service", 7, 10),
    ("Write unit tests and then redesign the whole architecture", 7, 10),
    ("First rename the class, then rewrite the scheduler with lock-free queues", 7, 10),
    ("Implement a Raft consensus algorithm from scratch", 7, 10),
    ("We need to migrate the monolith to microservices", 7, 10),
    ("Audit this contract for security vulnerabilities", 7, 10),
    ("Let's design the sharding strategy", 7, 10),
    # Spanish
    ("Traduce este texto", 1, 3),
    ("Escribe pruebas unitarias", 1, 3),
    ("Corrige el error de inicio de sesión", 4, 6),
    ("Diseña la arquitectura de un sistema distribuido", 7, 10),
    # German
    ("Übersetze diesen Satz", 1, 3),
    ("Behebe den Fehler in der Anmeldung", 4, 6),
    ("Bitte entwirf eine skalierbare Architektur", 7, 10),
    # French
    ("Traduis cette phrase", 1, 3),
    ("Corrigez le bogue de connexion", 4, 6),
    ("Conçois une architecture pour un service distribué", 7, 10),
    # Chinese
    ("翻译这句话", 1, 3),
    ("请编写单元测试", 1, 3),
    ("调试登录错误", 4, 6),
    ("设计一个分布式系统架构", 7, 10),
    ("重构支付模块", 7, 10),
]


class ComplexityTests(SynchronousTestCase):
    """The score of a turn."""

    def test_table(self) -> None:
        """Every example falls into its band."""
        self.assertGreaterEqual(len(TABLE), 60)
        wrong = [
            (text, low, high, found)
            for text, low, high in TABLE
            for found in [score(RoutingFeatures(text))]
            if not low <= found.value <= high
        ]
        self.assertEqual(wrong, [])

    def test_reasons(self) -> None:
        """The score says what it rests on."""
        self.assertEqual(score("Design system architecture").reasons[0], "design")
        self.assertEqual(score("What is the capital of France?").reasons, ("short question",))

    def test_no_text(self) -> None:
        """Where there is nothing to judge, the middle is taken."""
        for text in ("", "  \n\t "):
            self.assertEqual(score(text).value, 4)

    def test_code_is_not_the_task(self) -> None:
        """Words inside a fenced block do not command."""
        code = "```python\n# design the architecture; refactor everything\ndef refactor(): ...\n```"
        self.assertLessEqual(score(f"Rename the function below\n{code}").value, 3)

    def test_unclosed_fence(self) -> None:
        """A block without its end reaches to the end."""
        self.assertLessEqual(score("Rename it\n```\ndesign refactor prove").value, 3)

    def test_demands_add_up(self) -> None:
        """A list of demands makes the same task harder."""
        plain = score("Implement a parser for this format").value
        many = "Implement a parser for this format\n" + "\n".join(f"- handles case {number}" for number in range(6))
        self.assertGreater(score(many).value, plain)

    def test_trace(self) -> None:
        """A question with an error trace is debugging."""
        trace = 'Why?\nTraceback (most recent call last):\n  File "a.py", line 1\nValueError: x'
        self.assertGreaterEqual(score(trace).value, 4)

    def test_end_of_a_long_text(self) -> None:
        """A task that stands at the end of a long paste is found."""
        self.assertGreaterEqual(score("word " * 5000 + "\nRefactor the whole architecture of this.").value, 8)

    def test_long_conversation(self) -> None:
        """The same words deep in a conversation weigh a little more."""
        words = "Fix the failing login test"
        self.assertGreater(score(RoutingFeatures(words, message_count=200)).value, score(words).value)

    def test_quick(self) -> None:
        """Even ten megabytes are looked at in a bounded time: this thread's own, whatever runs beside."""
        began = time.thread_time()
        for text in ("design " * 1_400_000, "<" * 10_000_000, "\n- " * 3_000_000, "字" * 3_000_000):
            score(text)
        self.assertLess(time.thread_time() - began, 1.0)

    @given(st.text(max_size=2000))
    @hypothesis_settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Any text scores from 1 to 10, the same each time, with a reason."""
        found = score(text)
        self.assertTrue(1 <= found.value <= 10)
        self.assertTrue(found.reasons)
        self.assertEqual(score(RoutingFeatures(text)), found)
