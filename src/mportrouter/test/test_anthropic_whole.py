"""Tests for :mod:`mportrouter.dialects.anthropic_whole`."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from .. import envelope
from ..dialects.anthropic_stream import reader
from ..dialects.anthropic_whole import JSON_LIMIT
from ..errors import Kind
from ..interfaces import Ending
from .answers import ANTHROPIC, MESSAGE, MINIMAX, USAGE, bytewise, encode, read


class MessageTests(SynchronousTestCase):
    """Answers that are one JSON object."""

    def test_whole(self) -> None:
        """A message passes as the same objects, is held to its end, and its usage is read."""
        body = encode(MESSAGE)
        reading = reader(False, b"", ANTHROPIC)
        self.assertIs(reading.feed(body), body)
        self.assertEqual(reading.state, "hold")
        self.assertEqual(reading.finish(), (b"", Ending(True, USAGE, None, "claude-x")))
        self.assertEqual(reading.state, "content")
        self.assertEqual(read(*bytewise(body), stream=False).body, body)

    def test_accepted(self) -> None:
        """Counts, lists, odd numbers and lone surrogates are answers too."""
        for body in (
            b'{"input_tokens":5}',
            b'{"data":[],"has_more":false}',
            encode({**MESSAGE, "content": []}),
            encode({**MESSAGE, "content": [{"type": "text", "text": "\ud83d"}]}),
            encode({**MESSAGE, "x": float("nan")}),
            encode({**MESSAGE, "error": None}),
            encode({**MESSAGE, "base_resp": {"status_code": 0, "status_msg": "success"}}),
            json.dumps(MESSAGE, indent=1).encode() + b"\n",
        ):
            for target in (ANTHROPIC, MINIMAX):
                outcome = read(body, stream=False, target=target)
                self.assertEqual((outcome.states, outcome.ending.complete), (["hold", "content"], True), body)

    def test_errors(self) -> None:
        """A 200 that is an error, empty or foreign is one."""
        for body, kind in (
            (b"", Kind.GARBAGE),
            (b" \n", Kind.GARBAGE),
            (b"<html></html>", Kind.GARBAGE),
            (b"[]", Kind.GARBAGE),
            (b"null", Kind.GARBAGE),
            (b'"x"', Kind.GARBAGE),
            (b"{}", Kind.GARBAGE),
            (b'{"choices":[]}', Kind.GARBAGE),
            (b"[" * 100_000, Kind.GARBAGE),
            (encode(MESSAGE)[:-1], Kind.GARBAGE),
            (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', Kind.OVERLOADED),
            (b'{"type":"error","error":{"type":"overloaded_error","message":"\\ud83d"}}', Kind.OVERLOADED),
            (b'{"type":"error"}', Kind.UPSTREAM),
            (b'{"type":"error","error":{"type":"authorized_error","message":"login fail (1004)"}}', Kind.AUTH),
            (b'{"error":"boom"}', Kind.UPSTREAM),
            (b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}', Kind.MONEY),
            (b'{"base_resp":{"status_code":"1002","status_msg":"x"}}', Kind.RATE),
            (encode({**MESSAGE, "base_resp": {"status_code": 1039, "status_msg": "x"}}), Kind.RATE),
        ):
            for target in (ANTHROPIC, MINIMAX):
                outcome = read(body, stream=False, target=target)
                self.assertEqual(outcome.states, ["hold", "error"], body[:60])
                assert outcome.verdict is not None
                self.assertIs(outcome.verdict.kind, kind, body[:60])
                self.assertEqual((outcome.ending.complete, outcome.body), (False, body))

    def test_signatures(self) -> None:
        """A foreign answer is held back, and goes out with its signatures wrapped and every other byte as it was."""
        body = json.dumps(MESSAGE, indent=1).encode()
        reading = reader(False, b"", MINIMAX)
        self.assertEqual([reading.feed(piece) for piece in (body[:50], body[50:])], [b"", b""])
        rest, ending = reading.finish()
        self.assertEqual(ending, Ending(True, USAGE, None, "claude-x"))
        wanted = json.loads(body)
        wanted["content"][0]["signature"] = envelope.wrap("minimax", "MiniMax-M3", "sig/+=")
        self.assertEqual(json.loads(rest), wanted)
        self.assertEqual(rest[: rest.index(b'"content"')], body[: body.index(b'"content"')])
        self.assertEqual(rest[rest.index(b'"stop_reason"') :], body[body.index(b'"stop_reason"') :])
        quoted, unsigned = {"type": "text", "text": '"signature"'}, {"type": "thinking", "signature": ""}
        for content in ([], [quoted], [unsigned], 5, ["signature"]):
            plain = encode({**MESSAGE, "content": content})
            self.assertEqual(read(plain, stream=False, target=MINIMAX).body, plain)

    def test_too_large_to_hold(self) -> None:
        """An answer past the limit passes; its usage is read from its end, and a cut one is not whole."""
        body = encode({**MESSAGE, "content": [{"type": "text", "text": "x" * JSON_LIMIT}]})
        pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)]
        for target in (ANTHROPIC, MINIMAX):
            outcome = read(*pieces, stream=False, target=target)
            self.assertEqual((outcome.states, outcome.ending), (["hold", "content"], Ending(True, USAGE, None)))
            self.assertTrue(outcome.body == body)
        self.assertFalse(read(*pieces[:-1], stream=False).ending.complete)
