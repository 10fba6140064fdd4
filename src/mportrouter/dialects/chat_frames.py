"""
The events of a Chat stream: as :class:`mportrouter.sse.Framer` cuts them, with a short cut for what nearly all are.

Almost every event is one line of data and a blank line, and many of them come in one piece. Those are cut at once;
whatever looks different goes the long way.
"""

from __future__ import annotations

from .. import sse


class Frames:
    """
    Cuts a stream into the data of its events.

    :ivar loose: JSON that began a line, outside of any event, and all that followed it: some servers forget to frame
        an error. ``None``: there was none.
    :ivar broken: why nothing more is cut, or ``""``.
    """

    __slots__ = ("_clean", "_framer", "_last", "_plain", "broken", "loose")

    def __init__(self) -> None:
        self._framer = sse.Framer()
        self._clean = False  # the framer keeps nothing back
        self._plain = True  # no CR has come
        self._last = 10  # the byte before the next
        self.loose: bytearray | None = None
        self.broken = ""

    def feed(self, data: bytes) -> list[bytes]:
        """
        :param data: not empty.
        :returns: the data of the events that are whole now.
        """
        found: list[bytes] = []
        if self._plain and b"\r" in data:
            self._plain = self._clean = False
        if self._plain and not self._clean:
            # Up to the end of the event that is under way; what follows begins afresh.
            if self._last == 10 and data[:1] == b"\n":
                end = 1
            else:
                end = data.find(b"\n\n") + 2
            if 1 <= end < len(data) and (end != 1 or self._framer.rest()):
                self._frame(data[:end], found)
                data = data[end:]
        if not self._clean:
            self._frame(data, found)
            return found
        head, blank, tail = data.rpartition(b"\n\n")
        if blank:
            self._last = 10
            for block in head.split(b"\n\n"):
                if block[:6] == b"data: " and b"\n" not in block:
                    found.append(block[6:])
                else:
                    self._frame(block + b"\n\n", found)
        if tail:
            self._frame(tail, found)
        return found

    def finish(self) -> bytes | None:
        """The stream has ended: the data of a last event that lacks only its blank line."""
        try:
            event = self._framer.finish()
        except sse.EventTooLarge:
            return None
        return None if event is None else event.data

    def _frame(self, data: bytes, found: list[bytes]) -> None:
        if self.loose is not None:
            self.loose += data
        elif self._last in (10, 13) and data[:1] == b"{":
            self.loose = bytearray(data)
        elif b"\n{" in data:
            self.loose = bytearray(data[data.index(b"\n{") + 1 :])
        self._last = data[-1]
        framer = self._framer
        try:
            framer.feed(data)
            while (event := framer.next()) is not None:
                found.append(event.data)
        except sse.EventTooLarge as error:
            self.broken = str(error)
        self._clean = self._plain and self.loose is None and not framer.rest()
