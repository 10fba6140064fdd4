"""What is worked out from a head once: what is remembered, for whom, and when it is forgotten."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..fields import Fields, memo_of
from ..web.head import HeadReader

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nX-App: %b\r\n\r\n"


class MemoTests(SynchronousTestCase):
    """The memory that heads share."""

    def read(self, reader: HeadReader, head: bytes) -> Fields:
        """The fields of one head; what follows it must be whole."""
        self.assertEqual(reader.feed(head + b"rest"), b"rest")
        headers = reader.headers
        reader.reset()
        return headers

    def test_shared_but_for_the_length(self) -> None:
        """Heads that differ in their length alone share a memory, and each has its own length."""
        reader = HeadReader(1000)
        first = self.read(reader, HEAD % (7, b"cli"))
        second = self.read(reader, HEAD % (1234, b"cli"))
        self.assertIs(memo_of(first), memo_of(second))
        self.assertIsNot(first, second)
        self.assertEqual(dict(first)[b"content-length"], b"7")
        self.assertEqual(dict(second)[b"content-length"], b"1234")

    def test_forgotten(self) -> None:
        """Any other difference begins with an empty memory, also where the first head comes again after it."""
        reader = HeadReader(1000)
        first = self.read(reader, HEAD % (7, b"cli"))
        first.memo["who"] = "admitted"
        second = self.read(reader, HEAD % (7, b"web"))
        self.assertEqual(second.memo, {})
        self.assertEqual(self.read(reader, HEAD % (7, b"cli")).memo, {})

    def test_pieces(self) -> None:
        """A head in pieces has a memory of its own, whatever was remembered before."""
        reader = HeadReader(1000)
        first = self.read(reader, HEAD % (7, b"cli"))
        head = HEAD % (7, b"cli")
        for byte in head[:-1]:
            self.assertIs(reader.feed(bytes([byte])), None)
        self.assertEqual(reader.feed(head[-1:]), b"")
        self.assertIsNot(memo_of(reader.headers), memo_of(first))
        self.assertEqual(reader.headers, first)

    def test_absolute_target(self) -> None:
        """Of a target with a host of its own nothing is remembered."""
        reader = HeadReader(1000)
        head = b"GET http://localhost/health HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
        first, second = self.read(reader, head), self.read(reader, head)
        self.assertIsNot(memo_of(first), memo_of(second))
        self.assertEqual(second, [(b"host", b"localhost")])

    def test_odd_lengths(self) -> None:
        """Behind a remembered head a length that is none, or has white space around it, is the parser's to judge."""
        for digits in (b"", b"+7", b"7 ", b"7,7", b"0x7", b"\xb27", b"9" * 30):
            reader = HeadReader(1000)
            self.read(reader, HEAD % (7, b"cli"))
            head = (HEAD % (7, b"cli")).replace(b": 7", b": " + digits)
            fresh = HeadReader(1000)
            outcomes = []
            for one in (reader, fresh):
                try:
                    outcomes.append((one.feed(head), one.length, list(one.headers)))
                except Exception as error:  # noqa: BLE001 - whatever the parser says
                    outcomes.append((type(error), str(error)))
            self.assertEqual(outcomes[0], outcomes[1], digits)

    def test_no_memo(self) -> None:
        """A plain list of fields has no memory."""
        self.assertIs(memo_of([(b"host", b"localhost")]), None)
