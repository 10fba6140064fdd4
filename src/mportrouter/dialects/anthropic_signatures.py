"""Wraps the thinking signatures of a foreign provider's answers, see :mod:`mportrouter.envelope`."""

from __future__ import annotations

from collections.abc import Mapping

from .. import envelope, splice
from ..sse import EVENT_LIMIT

SIGNATURE = b'"signature"'
REDACTED = b'"redacted_thinking"'


class EventWrapper:
    """
    Passes an event stream on, whole events only, with each signature in an envelope.

    A JSON text cannot hold ``"signature"`` with both its quotes but as a name or a whole text, so every chunk without
    these bytes passes as it came.

    :param signer: the provider that signed.
    :param model: the model that thought.
    :ivar pending: the beginning of an event whose rest has not come; the same object always.
    """

    __slots__ = ("_model", "_signer", "pending")

    def __init__(self, signer: str, model: str) -> None:
        self._signer = signer
        self._model = model
        self.pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """:returns: the events that are whole by now; an unfinished one is kept back."""
        pending = self.pending
        if pending or not data.endswith(b"\n\n"):
            begin = max(0, len(pending) - 2)
            pending += data
            end = boundary(pending, begin)
            if end < 0:
                if len(pending) <= EVENT_LIMIT:
                    return b""
                end = len(pending)
            data = bytes(pending[:end])
            del pending[:end]
        if data.rfind(SIGNATURE) >= 0 or data.rfind(REDACTED) >= 0:
            return self._edit(data)
        return data

    def finish(self) -> bytes:
        """The unfinished event where only its end is missing; half an event helps nobody, and may hold a signature."""
        rest = bytes(self.pending)
        self.pending.clear()
        if not rest.strip():
            return rest
        for line in rest.splitlines():
            if line.startswith(b"data:"):
                try:
                    splice.loads(line[5:])
                except splice.Malformed:
                    # The line ends before it belong to what has gone out: the LF of a CRLF may come late.
                    return rest[: len(rest) - len(rest.lstrip(b"\r\n"))]
        return self._edit(rest)

    def _edit(self, data: bytes) -> bytes:
        # bytes.splitlines() cuts at LF, CRLF and CR only, which are the line ends of an event stream.
        return b"".join(
            self._edit_line(line) if SIGNATURE in line or REDACTED in line else line
            for line in data.splitlines(keepends=True)
        )

    def _edit_line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return line
        text = line[5:].rstrip(b"\r\n")
        at = 6 if text.startswith(b" ") else 5
        try:
            return line[:at] + self._edit_event(line[at : 5 + len(text)]) + line[5 + len(text) :]
        except splice.Malformed:
            return line

    def _edit_event(self, text: bytes) -> bytes:
        spans = splice.members(text)
        replace = {}
        for name in ("delta", "content_block"):
            member = spans.get(name)
            if member is not None:
                part = text[member.value : member.end]
                if part.startswith(b"{"):
                    new = _wrap_block(part, self._signer, self._model)
                    if new is not part:
                        replace[name] = new
        return splice.edit(text, replace, (), spans) if replace else text


def wrap_message(body: bytes, signer: str, model: str) -> bytes:
    """A whole JSON answer with its signatures in envelopes; the very object where there are none."""
    if SIGNATURE not in body and REDACTED not in body:
        return body
    try:
        spans = splice.members(body)
        member = spans.get("content")
        if member is None:
            return body
        blocks = splice.elements(body[member.value : member.end])
        wrapped = [_wrap_block(block, signer, model) if block.startswith(b"{") else block for block in blocks]
    except splice.Malformed:
        return body
    if all(new is old for new, old in zip(wrapped, blocks, strict=True)):
        return body
    return splice.edit(body, {"content": b"[" + b",".join(wrapped) + b"]"}, (), spans)


def _wrap_block(block: bytes, signer: str, model: str) -> bytes:
    """A content block, or the delta of one."""
    spans = splice.members(block)
    kind = _value(block, spans, "type")
    name = "data" if kind == "redacted_thinking" else "signature"
    if kind not in ("thinking", "signature_delta", "redacted_thinking"):
        return block
    signature = _value(block, spans, name)
    if not signature:
        return block
    return splice.edit(block, {name: splice.dumps(envelope.wrap(signer, model, signature))}, (), spans)


def _value(block: bytes, spans: Mapping[str, splice.Member], name: str) -> str:
    member = spans.get(name)
    value = None if member is None else splice.loads(block[member.value : member.end])
    return value if isinstance(value, str) else ""


def boundary(pending: bytearray, begin: int = 0) -> int:
    """One past the last blank line, or -1. A blank line is two line ends in a row, of whichever kinds."""
    end = max(pending.rfind(b"\n\n", begin), pending.rfind(b"\r\r", begin), pending.rfind(b"\n\r", begin))
    if end < 0:
        return -1
    end += 2
    # The LF of a CRLF belongs to it.
    return end + 1 if pending[end - 1] == 13 and pending[end : end + 1] == b"\n" else end
