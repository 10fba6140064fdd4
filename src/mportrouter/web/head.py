"""
The head of an HTTP/1.1 request: bytes in, one validated head out.

llhttp (through httptools) does the parsing and refuses most of what request smuggling is made of; what it lets pass and
RFC 9112 does not (two spaces in the request line, a bare LF before it, a second ``Host``, a transfer coding beside
``chunked``, HTTP/0.9) is refused here.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from ..errors import Kind, RouterError
from ..fields import Fields

_END = b"\r\n\r\n"

#: RFC 9112 §3: one space between the three parts, nothing else in the line.
_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/([0-9]\.[0-9])\r\n")

#: RFC 9112 §3.2.2.
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(/[^?]*)?(\?.*)?")

#: The characters of ``uri-host [ ":" port ]`` (RFC 3986 §3.2.2); no user information, no list.
_HOST = re.compile(rb"[A-Za-z0-9.\-_~%!$&'()*+;=\[\]:]*")

#: Where the value of the length is, in a head that llhttp has accepted.
_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*([0-9]+)[ \t]*\r\n")

#: Empty lines that a robust server skips before a request line (RFC 9112 §2.2), with a bound.
_BLANK_LINES = 8

#: Bytes of the largest head that is remembered.
_REMEMBERED = 8 * 1024

_VERSIONS = {"1.1": (1, 1), "1.0": (1, 0)}


def bad(message: str, status: int = 400) -> RouterError:
    """A refusal that is the client's own fault."""
    return RouterError(Kind.BAD_REQUEST, message, status=status)


class HeadReader:
    """
    Reads heads one after another.

    The requests of one connection mostly differ in ``content-length`` alone, so the last head is remembered: one with
    the same bytes around other digits needs no second parse. What is remembered is what the bytes mean, nothing about
    who may do what.

    After :meth:`feed` has returned bytes the attributes hold the head, until :meth:`reset`.

    :ivar method: as it came.
    :ivar target: origin-form (or ``*``); an absolute-form target is reduced to it.
    :ivar path: the target up to the first ``?``; ``query`` what follows it. Nothing is unquoted.
    :ivar version: ``(1, 1)`` or ``(1, 0)``.
    :ivar headers: names in lower case, values stripped; another list for each head.
    :ivar length: bytes of a sized body, 0 for none.
    :ivar chunked: a chunked body follows.
    :ivar keep_alive: the client wants to go on with this connection.
    :ivar expects: the client waits for ``100 Continue``.
    :ivar begun: at least one byte of a head is there; never set by one that is the remembered one again.

    :param limit: bytes that a head may have.
    """

    __slots__ = (
        "_after",
        "_before",
        "_blank",
        "_complete",
        "_fields",
        "_last",
        "_last_index",
        "_lead",
        "_limit",
        "_line",
        "_parser",
        "_size",
        "_tail",
        "_url",
        "begun",
        "chunked",
        "expects",
        "headers",
        "keep_alive",
        "length",
        "method",
        "path",
        "query",
        "target",
        "version",
    )

    _fields: dict[bytes, bytes]
    method: bytes
    target: bytes
    path: bytes
    query: bytes
    version: tuple[int, int]
    length: int
    chunked: bool
    keep_alive: bool
    expects: bool

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._before = b""
        self._after = b""
        self._last = Fields()
        self._last_index = -1
        self.reset()

    def reset(self) -> None:
        """Forget what came of a head; the next byte begins a new one."""
        # A parser that was fed the head of a sized body waits for the body; that is never shown to it, so each head has
        # its own parser.
        self._parser: Any = None
        self.headers = Fields()
        self.headers.memo = {}
        self._url = b""
        self._complete = False
        self._line = b""
        self._lead = b""
        self._tail = b""
        self._size = 0
        self._blank = 0
        self.begun = False

    # ---------------------------------------------------------------------------------- what llhttp calls

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        self._complete = True
        # The parser forgets this with the end of the message, which for one without a body is now.
        self.keep_alive = self._parser.should_keep_alive()

    # ---------------------------------------------------------------------------------- bytes in

    def feed(self, data: bytes) -> bytes | None:
        """
        Take bytes as they came.

        :param data: at least one byte.
        :returns: what follows the head, or ``None`` while it is not whole.
        :raises RouterError: with status 400, 405, 417, 431, 501 or 505.
        """
        if not self.begun:
            if self._before and not self._lead:
                rest = self._recall(data)
                if rest is not None:
                    return rest
            if self._lead or data[0] in b"\r\n":
                data = self._skip_blank(self._lead + data)
                if not data:
                    return None
            self.begun = True
        tail = self._tail
        end = (tail + data).find(_END) - len(tail) if tail else data.find(_END)
        # ``end`` is negative both for "not found" and for an end that began in an earlier piece.
        found = end + len(tail) >= 0
        piece = data[: end + 4] if found else data
        if self._parser is None:
            # From here on the attributes are another head's.
            self._before = b""
            self.headers = Fields()
            self.headers.memo = {}
            self._parser = httptools.HttpRequestParser(self)
        self._size += len(piece)
        if self._size > self._limit:
            raise bad(f"The request head is larger than {self._limit} bytes.", 431)
        if b"\n" not in self._line:
            self._line += piece
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            pass  # The request is answered as any other; nothing of the body was fed.
        except httptools.HttpParserError as error:
            raise self._refusal(str(error)) from None
        if not found:
            if self._complete:
                raise bad("A line of the request head does not end in CR LF.")
            self._tail = (tail + data)[-3:]
            return None
        self._check()
        if len(piece) == self._size:
            self._remember(piece)
        return data[end + 4 :]

    def _remember(self, piece: bytes) -> None:
        """Keep the meaning of a head that came in one piece."""
        if len(piece) > _REMEMBERED or self.target != self._url or b"expect" in self._fields:
            return
        if b"content-length" in self._fields:
            value = _LENGTH.search(piece)
            if value is None:
                return
            self._before, self._after = piece[: value.start(1)], piece[value.end(1) :]
            self._last_index = [name for name, _ in self.headers].index(b"content-length")
        else:
            self._before, self._after = piece, b""
            self._last_index = -1
        self._last = Fields(self.headers)
        self._last.memo = self.headers.memo

    def _recall(self, data: bytes) -> bytes | None:
        """:returns: what follows a head that is the remembered one but for its length; the attributes hold it then."""
        before = self._before
        if not data.startswith(before):
            return None
        last, index = self._last, self._last_index
        start = end = len(before)
        digits = b""
        if index >= 0:
            # White space behind the digits makes them none, and the head one for the parser.
            digits, after = data[start : data.find(b"\r", start, start + 19)], self._after
            end = start + len(digits)
            if not digits.isdigit() or len(digits) > 18 or not data.startswith(after, end):
                return None
            end += len(after)
            if end > self._limit:
                return None
        headers = self.headers = Fields(last)
        headers.memo = last.memo
        if index >= 0:
            headers[index] = (b"content-length", digits)
            self.length = int(digits)
        return data[end:]

    def _skip_blank(self, data: bytes) -> bytes:
        self._lead = b""
        while data.startswith(b"\r\n"):
            self._blank += 1
            if self._blank > _BLANK_LINES:
                raise bad("There are too many empty lines before the request.")
            data = data[2:]
        if data == b"\r":
            self._lead = data
            return b""
        return data

    def _refusal(self, reason: str) -> RouterError:
        line = self._line
        if line.startswith(b"\x16"):
            return bad("This port speaks plain HTTP, not TLS: use http:// in the base URL.")
        if line.startswith(b"PRI "):
            return _http2()
        if reason == "Invalid HTTP version":
            return bad("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505)
        if reason == "Request has invalid `Transfer-Encoding`":
            return _coding()
        return bad(f"The request is not valid HTTP/1.1: {reason}.")

    # ---------------------------------------------------------------------------------- the whole head

    def _check(self) -> None:
        """Everything that needs the whole head."""
        line = _LINE.match(self._line)
        if line is None:
            raise bad("The request line is not valid HTTP/1.1.")
        parser = self._parser
        version = _VERSIONS.get(line[1].decode("ascii"))
        if version is None:
            raise _http2() if line[1] == b"2.0" else bad("Only HTTP/1.1 and HTTP/1.0 are spoken here.", 505)
        if not self._complete or parser.get_http_version() != line[1].decode("ascii"):
            raise bad("The request is not valid HTTP/1.1.")
        self.version = version
        self.method = parser.get_method()
        if self.method == b"CONNECT":
            raise RouterError(Kind.METHOD, "This is no forward proxy: CONNECT is not served.")
        fields = self._fields = dict(self.headers)
        if len(fields) != len(self.headers):
            self._check_repeated()
        self._check_target(self._url)
        host = fields.get(b"host")
        if host is None:
            if version == (1, 1):
                raise bad("The request has no Host field.")
        elif _HOST.fullmatch(host) is None:
            raise bad("The Host field is not valid.")
        coding = fields.get(b"transfer-encoding")
        if coding is None:
            self.chunked = False
            # llhttp has seen to it that these are digits, once.
            self.length = int(fields.get(b"content-length", b"0"))
        else:
            if version == (1, 0):
                raise bad("An HTTP/1.0 request cannot have a transfer coding.")
            if coding.lower() != b"chunked":
                raise _coding()
            self.chunked = True
            self.length = 0
        self.expects = False
        if b"expect" in fields and version == (1, 1):
            if fields[b"expect"].lower() != b"100-continue":
                raise bad("The only expectation that can be met is 100-continue.", 417)
            self.expects = self.chunked or self.length > 0

    def _check_repeated(self) -> None:
        """Refuse the repetitions that two readers could understand differently."""
        names = [name for name, _ in self.headers]
        if names.count(b"host") > 1:
            raise bad("The request has more than one Host field.")
        if names.count(b"transfer-encoding") > 1:
            raise _coding()
        if names.count(b"content-length") > 1:
            raise bad("The request has more than one Content-Length field.")
        if names.count(b"expect") > 1:
            raise bad("The request has more than one Expect field.", 417)

    def _check_target(self, target: bytes) -> None:
        if not target.startswith(b"/") and not (target == b"*" and self.method == b"OPTIONS"):
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None:
                raise bad("The request target is neither a path nor an http URL.")
            target = (absolute[2] or b"/") + (absolute[3] or b"")
            if b"host" in self._fields:
                # RFC 9112 §3.2.2: the target's authority counts, the field is ignored.
                self._fields[b"host"] = absolute[1]
                self.headers[:] = [(n, absolute[1] if n == b"host" else v) for n, v in self.headers]
        if b"#" in target:
            raise bad("The request target has a fragment.")
        self.target = target
        self.path, _, self.query = target.partition(b"?")


def _http2() -> RouterError:
    return bad("HTTP/2 is not spoken here: use HTTP/1.1.", 505)


def _coding() -> RouterError:
    return RouterError(Kind.NOT_SUPPORTED, "The only transfer coding known here is chunked.")
