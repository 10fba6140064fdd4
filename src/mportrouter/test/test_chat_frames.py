"""Tests for :mod:`mportrouter.dialects.chat_frames`."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from .. import sse
from ..dialects.chat_frames import Frames

_PIECES = (
    b'data: {"a":1}\n\n', b"data: x\n\n", b"data:y\n\n", b": comment\n\n", b"event: e\ndata: z\n\n",
    b"data: 1\ndata: 2\n\n", b"data: r\r\n\r\n", b"data: c\r\r", b"\n", b"\n\n", b"id: 1\n\n", b"data\n\n",
    b"data: caf\xc3\xa9\n\n", b"junk\n\n",
)  # fmt: skip


class FramesTests(SynchronousTestCase):
    """The short cut finds what the long way finds."""

    def test_like_the_framer(self) -> None:
        """Any stream, cut anyhow, has the events that the framer finds in it."""
        chance = random.Random(7)
        for _ in range(3000):
            raw = b"".join(chance.choices(_PIECES, k=chance.randrange(1, 9)))
            if chance.random() < 0.3:
                raw = raw.rstrip(b"\r\n")
            if chance.random() < 0.1:
                raw = b"\xef\xbb\xbf" + raw
            if not raw:
                continue
            framer = sse.Framer()
            framer.feed(raw)
            wanted: list[bytes] = []
            while (event := framer.next()) is not None:
                wanted.append(event.data)
            last = framer.finish()
            if last is not None:
                wanted.append(last.data)
            frames = Frames()
            found: list[bytes] = []
            at = 0
            while at < len(raw):
                size = chance.choice((1, 2, 3, 7, 1000))
                found += frames.feed(raw[at : at + size])
                at += size
            rest = frames.finish()
            if rest is not None:
                found.append(rest)
            self.assertEqual(found, wanted, raw)

    def test_loose(self) -> None:
        """JSON that begins a line is kept with all that follows, however it is cut; JSON inside of data is not."""
        raw = b'data: x\n\n{"error": {\n"a":1}}\n'
        for size in (1, 2, 5, 100):
            frames = Frames()
            for at in range(0, len(raw), size):
                frames.feed(raw[at : at + size])
            self.assertEqual(frames.loose, raw[9:], size)
        frames = Frames()
        frames.feed(b'data: {"a":1}\n\ndata: {"b":2}\n')
        self.assertIsNone(frames.loose)

    def test_limit(self) -> None:
        """An event without an end is given up."""
        frames = Frames()
        self.assertEqual(frames.feed(b"data: x\n\ndata: " + b"x" * (sse.EVENT_LIMIT + 1)), [b"x"])
        self.assertIn("bytes", frames.broken)
