"""
An upstream that fails as told (:mod:`tests.faults`): a plain threaded socket server of the Anthropic dialect, HTTP
written by hand so that ugly bytes are possible.

:class:`FaultyUpstream` plays one *script* for each ``POST`` in order, the last one for all that follow; a script is a
function of the :class:`Exchange` under way. Everything else (``GET /v1/models``) is answered well and logged apart.
Times are :func:`time.monotonic` seconds.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from mportrouter.demo_script import MODELS

from .ports import free_ports

Script = Callable[["Exchange"], None]


class Gone(Exception):
    """The client (the router) has left."""


class Exchange:
    """
    One request and the answer under way.

    :ivar at: when the request was whole; ``gone_at``: when the router was seen to have left, or ``None``.
    :ivar sent: body bytes handed to the socket.
    :ivar keep: whether the connection takes another request afterwards.
    """

    def __init__(
        self, sock: socket.socket, connection: int, method: str, target: str, headers: list[tuple[str, str]]
    ) -> None:
        self.at = time.monotonic()
        self.gone_at: float | None = None
        self.ended_at: float | None = None
        self.connection = connection
        self.method = method
        self.target = target
        self.path = target.partition("?")[0]
        self.headers = headers
        self.body = b""
        self.sent = 0
        self.keep = True
        self._sock = sock

    def header(self, name: str) -> str | None:
        """The field's value; several are joined with commas; ``None`` where there is none."""
        found = [value for each, value in self.headers if each == name.lower()]
        return ", ".join(found) if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def stream(self) -> bool:
        return self.json.get("stream") is True

    # ------------------------------------------------------------------------------------------------ writing

    def write(self, data: bytes) -> None:
        """:raises Gone: the router has left."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            self.gone_at = self.gone_at or time.monotonic()
            raise Gone from error
        self.sent += len(data)

    def head(self, status: int = 200, kind: str = "text/event-stream", **fields: str) -> None:
        """A head whose body is chunked."""
        lines = [
            f"HTTP/1.1 {status} X",
            f"content-type: {kind}",
            "transfer-encoding: chunked",
            "request-id: req_faulty",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.write("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        self.write(b"0\r\n\r\n")

    def whole(self, status: int, body: bytes, kind: str = "application/json", **fields: str) -> None:
        """An answer with a length."""
        lines = [
            f"HTTP/1.1 {status} X",
            f"content-type: {kind}",
            f"content-length: {len(body)}",
            "request-id: req_faulty",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.write("\r\n".join([*lines, "", ""]).encode() + body)

    def wait(self, seconds: float) -> None:
        """
        Let time pass, watching the connection.

        :raises Gone: the router has left meanwhile.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._sock], [], [], min(left, 0.2))
            if ready:
                try:
                    more = self._sock.recv(65536)
                except OSError:
                    more = b""
                if not more:
                    self.gone_at = time.monotonic()
                    raise Gone
                raise AssertionError(f"bytes after the request: {more[:80]!r}")

    def wait_until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """
        Let time pass until the condition holds, watching the connection.

        :raises Gone: the router has left meanwhile.
        """
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise AssertionError("what this upstream waited for has not come")
            self.wait(0.02)

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.keep = False

    def close(self) -> None:
        """Close the connection after this exchange, without a word about it."""
        self.keep = False


class FaultyUpstream:
    """
    :param scripts: see the module.
    :param prefix: path before ``/v1`` (``/anthropic`` for MiniMax's base URL).
    :param tls: a server-side context for ``https``.
    :ivar requests: every ``POST``; ``others``: everything else; ``connections``: how many were accepted.
    :ivar mistakes: tracebacks of scripts that broke, which :meth:`play` and :meth:`stop` complain of.
    """

    def __init__(self, scripts: Iterable[Script], prefix: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.prefix = prefix
        self.requests: list[Exchange] = []
        self.others: list[Exchange] = []
        self.connections = 0
        self.probe_status = 200
        self.mistakes: list[str] = []
        self._scripts = list(scripts)
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening: socket.socket | None = None
        self.port = 0
        self.listen()

    # ------------------------------------------------------------------------------------------------ control

    @property
    def url(self) -> str:
        return (
            f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}{self.prefix}"
        )

    def play(self, *scripts: Script) -> None:
        """From now on these, and a clean log."""
        self.complain()
        with self._lock:
            self._scripts = list(scripts)
            self.requests, self.others = [], []

    def complain(self) -> None:
        """:raises AssertionError: a script broke; a test that goes by what it did is worth nothing."""
        with self._lock:
            mistakes, self.mistakes = self.mistakes, []
        if mistakes:
            raise AssertionError("a script broke:\n" + "\n".join(mistakes))

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        listening = self._bound(self.port) if self.port else None
        while listening is None:
            (number,) = free_ports(1)
            with contextlib.suppress(OSError):  # another program was quicker
                listening = self._bound(number)
        listening.listen(128)
        with self._lock:
            self.port = listening.getsockname()[1]
            self._listening = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _bound(self, number: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", number))
        except OSError:
            sock.close()
            raise
        return sock

    def stop(self) -> None:
        """Refuse connections and drop those there are."""
        with self._lock:
            listening, self._listening = self._listening, None
        if listening is not None:
            try:
                listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not every system lets a listening socket be shut down; the close below does it there
            listening.close()
        with self._lock:
            for sock in self._open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # gone already
            self._open.clear()
        self.complain()

    # ------------------------------------------------------------------------------------------------ threads

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            if self._take(sock, listening):
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock, listening, self.connections), daemon=True).start()
            else:
                sock.close()

    def _take(self, sock: socket.socket, listening: socket.socket) -> bool:
        """Note an open connection for :meth:`stop` to drop, unless that has been meanwhile."""
        with self._lock:
            if self._listening is not listening:
                return False
            self._open.add(sock)
            return True

    def _serve(self, sock: socket.socket, listening: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                plain = sock
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                if not self._take(sock, listening):
                    return
            with sock.makefile("rb") as reader:
                while (exchange := self._read(sock, number, reader)) is not None:
                    self._play(exchange)
                    if not exchange.keep:
                        break
        except (OSError, ValueError):
            pass  # the router dropped the connection, or it never became one
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _read(self, sock: socket.socket, number: int, reader: Any) -> Exchange | None:
        line = reader.readline(65537)
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: list[tuple[str, str]] = []
        while (line := reader.readline(65537)).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.strip().lower(), value.strip()))
        exchange = Exchange(sock, number, method, target, headers)
        if exchange.header("transfer-encoding"):
            while size := int(reader.readline(), 16):
                exchange.body += reader.read(size)
                reader.readline()
            reader.readline()
        else:
            exchange.body = reader.read(int(exchange.header("content-length") or 0))
        exchange.at = time.monotonic()
        return exchange

    def _play(self, exchange: Exchange) -> None:
        """Play the script; nothing that happens in it leaves the thread."""
        script: Script = self._other
        with self._lock:
            if exchange.method == "POST":
                self.requests.append(exchange)
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            else:
                self.others.append(exchange)
        try:
            script(exchange)
        except (Gone, OSError):
            exchange.keep = False
        except Exception:  # noqa: BLE001 - whatever it is, complain() tells of it
            exchange.keep = False
            with self._lock:
                self.mistakes.append(traceback.format_exc())
        finally:
            exchange.ended_at = time.monotonic()

    def _other(self, exchange: Exchange) -> None:
        """The list of models, or one of them."""
        rows = [{"type": "model", "id": id, "display_name": id, "created_at": at} for id, _, at in MODELS["anthropic"]]
        value = {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}
        wanted = exchange.path.partition("/v1/models/")[2]
        if wanted:
            value = next((row for row in rows if row["id"] == wanted), {})
        exchange.whole(self.probe_status if value else 404, json.dumps(value).encode())
