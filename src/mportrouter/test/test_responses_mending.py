"""Tests of :mod:`mportrouter.dialects.responses_mending`, alone and in the relay's hands."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..dialects.responses_mending import mend
from ..settings import Capabilities
from ..testing import respond
from .relayed import Relayed

REFUSAL = b'{"error":{"message":"The encrypted content could not be verified.","code":"invalid_encrypted_content"}}'
THOUGHT = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
SAID = {"role": "user", "content": "hi"}


class MendTests(SynchronousTestCase):
    """What is left of a request."""

    def test_reasoning_goes(self) -> None:
        """Every reasoning item goes, everything else keeps its bytes."""
        body = b'{ "model":"m", "input": [%b, {"role":"user",  "content":"hi"}, %b], "x": 1.0}' % (
            (json.dumps(THOUGHT).encode(),) * 2
        )
        self.assertEqual(mend(body, REFUSAL), b'{ "model":"m", "input": [{"role":"user",  "content":"hi"}], "x": 1.0}')

    def test_nothing_to_mend(self) -> None:
        """Another refusal, no reasoning, an input of text, or what is no JSON: there is nothing to mend."""
        body = json.dumps({"input": [THOUGHT, SAID]}).encode()
        self.assertIsNone(mend(body, b'{"error":{"message":"bad model"}}'))
        for other in (b'{"input":[]}', b'{"input":"hi"}', b"{}", b"[", b'{"input":[5,"x"]}'):
            self.assertIsNone(mend(other, REFUSAL), other)


class RelayTests(SynchronousTestCase):
    """An exchange whose upstream refuses the reasoning of another account."""

    def relayed(self, *scripts: Any) -> Relayed:
        text = [{"type": "output_text", "text": "well", "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": text}
        answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [message]}
        good = respond(body=json.dumps(answer).encode())
        thinking = {"type": "thinking", "thinking": "so", "signature": self.sealed()}
        messages = [SAID, {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]}, SAID]
        return Relayed(
            {"b": [*scripts, good]},
            dialects={"b": "openai-responses"},
            capabilities={"b": Capabilities(thinking_signature="openai")},
            members={"messages": messages},
        ).run()

    @staticmethod
    def sealed() -> str:
        from ..conversation import Opaque
        from ..envelope import seal

        return seal(Opaque("openai", "m", "encrypted", "abc", "rs_1"))

    def test_asked_again(self) -> None:
        """It is asked once more without it, and the client is told what was left out."""
        relayed = self.relayed(respond(400, body=REFUSAL))
        first, second = relayed.upstreams["b"].requests
        self.assertIn("reasoning", [item.get("type") for item in first.json["input"]])
        self.assertNotIn("reasoning", [item.get("type") for item in second.json["input"]])
        self.assertEqual(json.loads(relayed.content)["content"][0]["text"], "well")
        self.assertIn("reasoning", relayed.header("x-mportrouter-dropped") or "")
        self.assertEqual((relayed.record.outcome, relayed.record.attempts), ("ok", 2))

    def test_only_once(self) -> None:
        """A second refusal is the client's."""
        relayed = self.relayed(respond(400, body=REFUSAL), respond(400, body=REFUSAL))
        self.assertEqual(relayed.status, 400)
        self.assertEqual(len(relayed.upstreams["b"].requests), 2)
        settled = [permit.settled for permit in relayed.upstreams["b"].circuit.permits]
        self.assertEqual(settled[0], "success")
        self.assertEqual(len(settled), 2)
