"""
A Responses request without what its provider could not verify.

Encrypted reasoning is bound to the organisation that it was issued to: after a change of account, or of key, the same
provider refuses it. The conversation goes on without it.
"""

from __future__ import annotations

import msgspec

from .. import splice

#: What the refusal of such a request holds (``error.code``; older answers say it in words alone).
_SIGNS = (b"invalid_encrypted_content", b"encrypted content could not be", b"encrypted content for item")


class _Item(msgspec.Struct, gc=False):
    type: str = ""


_item = msgspec.json.Decoder(_Item).decode


def mend(body: bytes, refusal: bytes) -> bytes | None:
    """See :meth:`mportrouter.interfaces.IDialect.mend`."""
    said = refusal.lower()
    if not any(sign in said for sign in _SIGNS):
        return None
    try:
        spans = splice.members(body)
        given = spans.get("input")
        if given is None:
            return None
        items = splice.elements(body[given.value : given.end])
        kept = [item for item in items if not _is_reasoning(item)]
        if len(kept) == len(items):
            return None
        return splice.edit(body, {"input": b"[" + b",".join(kept) + b"]"}, spans=spans)
    except splice.Malformed:
        return None


def _is_reasoning(item: bytes) -> bool:
    try:
        return _item(item).type == "reasoning"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
