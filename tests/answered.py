"""An answer of the router as a test looks at it: status, header fields, body, and what its dialect says with them."""

from __future__ import annotations

import json
from typing import Any


class Answered:
    """
    An answer: status, header fields (any case), body, and how many seconds it took.

    :ivar broken: the connection was closed before the body was whole.
    """

    def __init__(self, status: int, headers: Any, body: bytes, seconds: float, broken: bool = False) -> None:
        self.broken = broken
        self.status = status
        self.headers = headers
        self.body = body
        self.seconds = seconds

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The joined text blocks of a message."""
        return "".join(block["text"] for block in self.json["content"] if block["type"] == "text")

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the dialect's error shape."""
        value = self.json
        assert value["type"] == "error", value
        error: dict[str, Any] = value["error"]
        assert isinstance(error["type"], str) and isinstance(error["message"], str), value
        return error

    @property
    def upstream(self) -> str:
        """Who answered, as the router says."""
        return str(self.headers["x-mportrouter-upstream"] or "")

    @property
    def attempts(self) -> int:
        return int(self.headers["x-mportrouter-attempts"] or 0)

    def said(self) -> tuple[str, str]:
        """
        How a streamed answer ended and the text that came: ``("whole", …)`` with everything in its place,
        ``("error", …)`` with an error event, ``("cut", …)`` with neither.

        :raises AssertionError: it breaks the grammar of the dialect.
        """
        text, ending, opened, began = "", "cut", None, False
        for name, value in self.events():
            assert name == value["type"], (name, value)
            assert ending == "cut", f"{name} after the end"
            if name == "error":
                assert isinstance(value["error"]["message"], str), value
                ending = "error"
            elif name == "ping":
                continue
            elif name == "message_start":
                assert not began, "a second message_start"
                began = True
            else:
                assert began, f"{name} before message_start"
            if name == "content_block_start":
                assert opened is None, value
                opened = value["index"]
            elif name == "content_block_delta":
                assert value["index"] == opened, value
                text += value["delta"].get("text", "")
            elif name == "content_block_stop":
                assert value["index"] == opened, value
                opened = None
            elif name == "message_stop":
                assert opened is None
                ending = "whole"
        return ending, text

    def events(self) -> list[tuple[str, Any]]:
        """Name and JSON value of each event of a stream."""
        found = []
        for block in self.body.replace(b"\r\n", b"\n").split(b"\n\n"):
            name, value = "", b""
            for line in block.split(b"\n"):
                if line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    value += line[6:]
            if name or value:
                found.append((name, json.loads(value)))
        return found
