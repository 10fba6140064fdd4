"""Header fields of a request, with room for what has been worked out from them."""

from __future__ import annotations

from typing import Any


class Fields(list[tuple[bytes, bytes]]):
    """
    Header fields in order: names in lower case, values stripped. Whoever wants others makes a new list.

    The requests of one connection mostly have the same head but for its ``content-length``. What follows from the other
    fields (who is admitted, what goes on to an upstream) is then worked out once.

    :ivar memo: what was worked out, by who did it. Shared by all requests of a connection whose heads differ in nothing
        but ``content-length``, and dropped with the first that differs; so it needs no bound of its own.
    """

    __slots__ = ("memo",)

    memo: dict[Any, Any]


def memo_of(headers: Any) -> dict[Any, Any] | None:
    """The memory of ``headers``, ``None`` for fields that have none."""
    return headers.memo if type(headers) is Fields else None
