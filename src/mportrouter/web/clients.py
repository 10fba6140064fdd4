"""How many requests each client of a port has sent in the last minute, and how many it may still send."""

from __future__ import annotations

import math

from ..limits import MINUTE, Window

#: Clients that are remembered at once.
_CLIENTS = 4096

Fields = tuple[tuple[bytes, bytes], ...]


class Clients:
    """The clients of all ports, each by the port and its address there."""

    def __init__(self) -> None:
        self._windows: dict[tuple[int, str], Window] = {}

    def count(self, port: int, peer: str, limit: int, now: float) -> tuple[Fields, float]:
        """
        Count a request, unless it is over the limit.

        :param peer: the client's address.
        :param limit: requests a minute.
        :param now: seconds on any clock that never runs backwards.
        :returns: what its answer tells of the limit (the ``RateLimit`` fields of the IETF's httpapi group, in the form
            that most servers send: draft-ietf-httpapi-ratelimit-headers-06), and seconds until the client may send
            again: 0 where the request was counted.
        """
        key = (port, peer)
        window = self._windows.get(key)
        if window is None or window.limit != limit:
            window = self._fresh(key, limit, now)
        wait = window.wait(now)
        if wait <= 0:
            window.add(now)
        about = (
            (b"ratelimit-policy", b"%d;w=%d" % (limit, MINUTE)),
            (b"ratelimit-limit", b"%d" % limit),
            (b"ratelimit-remaining", b"%d" % window.left(now)),
            (b"ratelimit-reset", b"%d" % math.ceil(window.reset_in(now))),
        )
        return about, wait

    def _fresh(self, key: tuple[int, str], limit: int, now: float) -> Window:
        """A window for a client that is new, or whose limit is."""
        windows = self._windows
        before = windows.pop(key, None)
        if len(windows) >= _CLIENTS:
            silent = [each for each, window in windows.items() if window.reset_in(now) <= 0]
            # Where all of so many have sent something within the minute, the first to have come begin anew.
            for each in silent or list(windows)[: _CLIENTS // 8]:
                del windows[each]
        window = windows[key] = Window(limit)
        if before is not None:
            window.follow(before)
        return window
