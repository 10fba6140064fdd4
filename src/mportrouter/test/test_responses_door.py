"""Tests for answers of the OpenAI Responses dialect that pass to a client of the same dialect."""

from __future__ import annotations

import gzip

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import envelope, splice
from ..conversation import Opaque
from ..dialects.responses_door import reader
from ..errors import Kind, RouterError
from ..interfaces import Ending, IAnswerReader, Target
from ..records import Usage
from .response_events import (
    CODEX,
    OPENAI,
    added,
    bytewise,
    call,
    completed,
    created,
    cuts,
    done,
    ev,
    message,
    text,
    wire_events,
)

REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "secret"}
SEALED = {**REASONING, "encrypted_content": envelope.seal(Opaque("codex", "gpt-x", "encrypted", "secret", "rs_1"))}
COUNTED = Usage(input=30, cache_read=60, cache_write_5m=10, output=20, reasoning=5)


def stream(*items: object) -> bytes:
    pieces = [created(), text(9, "hi")]
    for index, item in enumerate(items):
        pieces += [added(index, item), done(index, item)]
    return b"".join(pieces) + completed(list(items))


class DoorTests(SynchronousTestCase):
    """Gate, bytes and end."""

    def passed(self, pieces: list[bytes], target: Target = OPENAI, whole: bool = False) -> tuple[bytes, Ending]:
        reading = reader(not whole, b"", target)
        out = b"".join(reading.feed(piece) for piece in pieces)
        rest, ending = reading.finish()
        return out + rest, ending

    def test_interface(self) -> None:
        """Readers of each sort provide what the relay expects."""
        for target in (OPENAI, CODEX):
            for streamed in (True, False):
                for encoding in (b"", b"gzip", b"br"):
                    self.assertTrue(verifyObject(IAnswerReader, reader(streamed, encoding, target)))

    def test_untouched(self) -> None:
        """Every byte passes as it came, however it is cut; usage, model and end are known."""
        data = stream(REASONING, call("f", "{}")).replace(b"\n", b"\r\n") + b": bye\r\n\r\n"
        for pieces in ([data], bytewise(data), cuts(data, 1)):
            out, ending = self.passed(pieces)
            self.assertEqual(out, data)
            self.assertEqual(
                (ending.complete, ending.usage, ending.model, ending.error), (True, COUNTED, "gpt-x", None)
            )

    def test_gate(self) -> None:
        """Beginnings hold; words, calls and whole items commit; a failure before them is an error."""
        for piece, state in (
            (ev("response.in_progress", response={"id": "resp_1"}), "hold"),
            (added(0, {"type": "message", "id": "m"}), "hold"),
            (text(0, "x"), "content"),
            (added(0, call("f", "")), "content"),
            (done(0, REASONING), "content"),
            (completed([]), "content"),
            (ev("response.failed", response={"error": {"code": "server_error", "message": "m"}}), "error"),
        ):
            reading = reader(True, b"", OPENAI)
            reading.feed(created() + piece)
            self.assertEqual(reading.state, state, piece)

    def test_broken(self) -> None:
        """A stream without its last event is not whole; an error in its middle is told; the size is an estimate."""
        _, ending = self.passed([created(), text(0, "x" * 400)])
        self.assertFalse(ending.complete)
        assert ending.usage is not None
        self.assertEqual((ending.usage.output, ending.usage.estimated), (100, True))
        _, ending = self.passed([created(), text(0, "x"), ev("error", error={"code": "server_error", "message": "m"})])
        assert ending.error is not None
        self.assertIs(ending.error.kind, Kind.UPSTREAM)

    def test_own_end(self) -> None:
        """A broken stream can be ended under its own id and with its next number: clients refuse a second beginning."""
        for target in (OPENAI, CODEX):
            begun = b"".join(
                ev(kind, sequence_number=number, **members)
                for number, (kind, members) in enumerate(
                    (
                        ("response.created", {"response": wire_events(created())[0]["response"]}),
                        ("response.output_text.delta", {"output_index": 0, "content_index": 0, "delta": "x"}),
                    )
                )
            )
            reading = reader(True, b"", target)
            reading.feed(begun)
            event = reading.broken(RouterError(Kind.CUT, "cut"))  # type: ignore[attr-defined]
            (failed,) = wire_events(event)
            self.assertEqual((failed["sequence_number"], failed["response"]["id"]), (2, "resp_1"))
            self.assertEqual(failed["response"]["error"], {"code": "server_error", "message": "mportrouter: cut"})

    def test_sealed(self) -> None:
        """Another provider's encrypted reasoning leaves in envelopes, wherever it stands; all else is as it was."""
        data = stream(REASONING, message("hi"))
        wanted = stream(SEALED, message("hi"))
        for line_end in (b"\n", b"\r\n"):
            for pieces in ([data], bytewise(data), cuts(data, 2)):
                out, ending = self.passed([b"".join(pieces).replace(b"\n", line_end)], CODEX)
                self.assertEqual(out, wanted.replace(b"\n", line_end))
                out, ending = self.passed(pieces, CODEX)
                self.assertEqual(out, wanted)
                self.assertEqual((ending.complete, ending.usage), (True, COUNTED))

    def test_sealed_whole(self) -> None:
        """The same in an answer that is one JSON text."""
        for item, wanted in ((REASONING, SEALED), (message("encrypted_content"), message("encrypted_content"))):
            body = splice.dumps({"id": "r", "status": "completed", "output": [item, {"x": 1}]})
            out, ending = self.passed(bytewise(body), CODEX, whole=True)
            self.assertEqual(out, splice.dumps({"id": "r", "status": "completed", "output": [wanted, {"x": 1}]}))
            self.assertTrue(ending.complete)

    def test_coded(self) -> None:
        """A compressed stream is seen through, and coded anew where it is edited."""
        data = gzip.compress(stream(REASONING))
        for target, wanted in ((OPENAI, stream(REASONING)), (CODEX, stream(SEALED))):
            reading = reader(True, b"gzip", target)
            out = reading.feed(data[:50]) + reading.feed(data[50:])
            rest, ending = reading.finish()
            self.assertEqual(gzip.decompress(out + rest), wanted)
            self.assertEqual(ending.usage, COUNTED)

    def test_whole(self) -> None:
        """A whole answer is judged when it is there: an error object is no answer, one in the background is."""
        good = splice.dumps({"id": "r", "model": "gpt-x", "status": "completed", "output": []})
        out, ending = self.passed([good], whole=True)
        self.assertEqual((out, ending.complete), (good, True))
        _, ending = self.passed([splice.dumps({"error": {"code": "server_error", "message": "m"}})], whole=True)
        self.assertFalse(ending.complete)
        _, ending = self.passed([splice.dumps({"id": "r", "status": "queued", "output": []})], whole=True)
        self.assertTrue(ending.complete)
