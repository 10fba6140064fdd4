"""Reader of an answer that is one JSON object."""

from __future__ import annotations

from collections.abc import Collection

from zope.interface import implementer

from .. import splice
from ..errors import Verdict
from ..interfaces import Ending, IAnswerReader
from ..records import Usage
from ..usage import merge
from .anthropic_filter import without_blocks
from .anthropic_seen import REFUSED, SeenMessage, decode_message, garbage, read_whole_slowly, trouble_in
from .anthropic_signatures import wrap_message

#: Bytes of an answer that are held to be judged as a whole.
JSON_LIMIT = 8 * 1024 * 1024
#: Bytes at the end of a larger one that are looked at when it ends.
_TAIL = 8 * 1024


@implementer(IAnswerReader)
class MessageReader:
    """
    Reads a JSON answer. It is held until it is whole: only then it is known not to be an error.

    :param model: the model that was asked for.
    :param signer: who signs its thinking, where that is not Anthropic.
    :param unwanted: types of blocks that are not passed on.
    """

    __slots__ = ("_model", "_pieces", "_signer", "_size", "_tail", "_unwanted", "rewrites", "state", "verdict")

    def __init__(self, model: str, signer: str | None, unwanted: Collection[str] = ()) -> None:
        self.state = "hold"
        self.verdict: Verdict | None = None
        self.rewrites = signer is not None or bool(unwanted)
        self._model = model
        self._signer = signer
        self._unwanted = unwanted
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        if self.state == "content":
            self._tail = (self._tail + data)[-_TAIL:]
            return data
        self._pieces.append(data)
        self._size += len(data)
        if self._size <= JSON_LIMIT:
            return b"" if self.rewrites else data
        # An answer as large as this is no error message, and may not fill the memory.
        self.state = "content"
        held, self._pieces = b"".join(self._pieces), []
        self._tail = held[-_TAIL:]
        return held if self.rewrites else data

    def finish(self) -> tuple[bytes, Ending]:
        if self.state == "content":
            return b"", Ending(self._tail.rstrip().endswith(b"}"), _last_usage(self._tail), None)
        body, self._pieces = b"".join(self._pieces), []
        seen = self._judge(body)
        if seen is None:
            return body if self.rewrites else b"", Ending(False, None, self.verdict)
        self.state = "content"
        rest = b""
        if self.rewrites:
            rest = body if self._signer is None else wrap_message(body, self._signer, self._model)
            if self._unwanted:
                rest = without_blocks(rest, self._unwanted)
        return rest, Ending(True, merge(None, seen.usage), None, seen.model)

    def _judge(self, body: bytes) -> SeenMessage | None:
        if not body.strip():
            self._fail(garbage("the answer is empty"))
            return None
        try:
            seen = decode_message(body)
        except REFUSED:
            found = read_whole_slowly(body)
            if found is None:
                self._fail(garbage("the answer is not a JSON object"))
                return None
            seen = found
        trouble = trouble_in(seen.type, seen)
        if trouble is not None:
            self._fail(trouble)
            return None
        if seen.type != "message" and not any(
            memoryview(member).nbytes for member in (seen.content, seen.input_tokens, seen.data)
        ):
            self._fail(garbage("the answer is no message"))
            return None
        return seen

    def _fail(self, verdict: Verdict) -> None:
        self.state = "error"
        self.verdict = verdict


def _last_usage(tail: bytes) -> Usage | None:
    """The usage at the end of an answer too large to be held."""
    start = tail.rfind(b'"usage"')
    end = tail.rfind(b"}")
    if start < 0 or end < 0:
        return None
    try:
        members = splice.members(b"{" + tail[start : end + 1])
    except splice.Malformed:
        return None
    member = members["usage"]
    return merge(None, (b"{" + tail[start : end + 1])[member.value : member.end])
