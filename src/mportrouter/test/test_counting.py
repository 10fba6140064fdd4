"""Tests of :mod:`mportrouter.web.counting`."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from ..records import ExchangeRecord, Usage
from .memory_house import House


class CountTests(SynchronousTestCase):
    """``count_tokens``."""

    BODY: ClassVar[dict[str, Any]] = {"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "hi"}]}

    def test_counted(self) -> None:
        """The first upstream of the mode that counts is asked, with the client's own bytes."""
        house = House()
        self.assertEqual(house.ask(b"/v1/messages/count_tokens?beta=true", self.BODY, 8773).status, 200)
        (sent,) = house.runtime.upstreams["anthropic"].requests  # type: ignore[attr-defined]
        self.assertEqual((sent.path, sent.query, sent.json), (b"/v1/messages/count_tokens", b"beta=true", self.BODY))
        self.assertEqual((house.records, house.site.under_way), ([], 0))

    def test_not_counted(self) -> None:
        """Where nobody counts the answer is an estimate from the size, said to be one and never zero."""
        request = House().ask(b"/v1/messages/count_tokens", self.BODY, 8772)
        self.assertEqual(request.status, 200)
        self.assertEqual(request.answer_header(b"x-mportrouter-decision"), b"estimated")
        size = len(json.dumps(self.BODY))
        self.assertEqual(json.loads(request.answer)["input_tokens"], int(size / 3.7) + 1)

    def test_calibrated(self) -> None:
        """What a model's provider counted so far makes the estimate for it better."""
        house = House()
        record = ExchangeRecord(provider="minimax", model="MiniMax-M3", size=10_000, usage=Usage(input=1000))
        house.runtime.price(record)
        request = house.ask(b"/v1/messages/count_tokens", self.BODY, 8772)
        size = len(json.dumps(self.BODY))
        self.assertEqual(json.loads(request.answer)["input_tokens"], size // 10 + 1)

    def test_pictures(self) -> None:
        """A picture is estimated as one, not as the text that it is sent as."""
        source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 500_000}
        content = [{"type": "text", "text": "what is it?"}, {"type": "image", "source": source}]
        body = {**self.BODY, "messages": [{"role": "user", "content": content}]}
        found = json.loads(House().ask(b"/v1/messages/count_tokens", body, 8772).answer)["input_tokens"]
        self.assertTrue(1000 < found < 3000, found)

    def test_other_dialects(self) -> None:
        """The counters of the other dialects are answered in their own shapes."""
        house = House()
        asked = {"model": "m", "input": "how many tokens are these?"}
        answer = json.loads(house.ask(b"/v1/responses/input_tokens", asked, 8772).answer)
        self.assertEqual(answer["object"], "response.input_tokens")
        self.assertGreater(answer["input_tokens"], 0)
        asked = {"contents": [{"role": "user", "parts": [{"text": "how many tokens are these?"}]}]}
        answer = json.loads(house.ask(b"/v1beta/models/m:countTokens", asked, 8772).answer)
        self.assertGreater(answer["totalTokens"], 0)
