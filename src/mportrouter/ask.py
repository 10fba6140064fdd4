"""
``mportrouter ask``: one question through a port of the router, the answer on the terminal as it comes.

It speaks to the port as any client does, with the standard library alone and in the foreground.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import attrs

#: Seconds without a byte after which the router is given up.
SILENCE = 600.0


@attrs.frozen
class Question:
    """
    :param text: what is asked.
    :param port: of the router, on loopback.
    :param model: the model that a client would ask for.
    :param stream: have the answer in pieces.
    :param wait: seconds to wait for the port to accept.
    :param json: print the answer's JSON instead of its text.
    """

    text: str
    port: int = 8787
    model: str = "claude-sonnet-5"
    stream: bool = False
    max_tokens: int = 1024
    wait: float = 0.0
    json: bool = False


class NobodyListens(Exception):
    """The port does not accept connections."""


def ask(
    question: Question,
    environment: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    connect: Callable[..., http.client.HTTPConnection] = http.client.HTTPConnection,
    sleep: Callable[[float], None] = time.sleep,
    seconds: Callable[[], float] = time.monotonic,
) -> int:
    """
    :param environment: for ``ANTHROPIC_API_KEY`` and ``ANTHROPIC_AUTH_TOKEN``, sent as every client sends them.
    :returns: 0, or 1 where the answer was an error or broke off.
    :raises NobodyListens: no router at that port.
    """
    request = {
        "model": question.model,
        "max_tokens": question.max_tokens,
        "stream": question.stream,
        "messages": [{"role": "user", "content": question.text}],
    }
    headers = {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "user-agent": "mportrouter-ask",
        "x-api-key": environment.get("ANTHROPIC_API_KEY") or "mportrouter",
    }
    if environment.get("ANTHROPIC_AUTH_TOKEN"):
        del headers["x-api-key"]
        headers["authorization"] = f"Bearer {environment['ANTHROPIC_AUTH_TOKEN']}"
    deadline = seconds() + question.wait
    while True:
        connection = connect("127.0.0.1", question.port, timeout=SILENCE)
        try:
            connection.connect()
            break
        except OSError as error:
            connection.close()
            if seconds() >= deadline:
                raise NobodyListens(
                    f"nothing listens on 127.0.0.1:{question.port} ({error.strerror or error}); "
                    "start the router with: twistd -n mportrouter --all-ports"
                ) from error
            sleep(0.2)
    try:
        connection.request("POST", "/v1/messages", json.dumps(request).encode(), headers)
        response = connection.getresponse()
        kind = response.getheader("content-type", "") or ""
        try:
            if response.status == 200 and kind.startswith("text/event-stream"):
                return _show_stream(response, question, out, err)
            return _show_whole(response, question, out, err)
        finally:
            err.write(_who(response) + "\n")
    except (OSError, http.client.HTTPException) as error:
        reason = "no answer in time" if isinstance(error, socket.timeout) else str(error) or type(error).__name__
        err.write(f"The connection to the router broke: {reason}\n")
        return 1
    finally:
        connection.close()


def _who(response: http.client.HTTPResponse) -> str:
    upstream = response.getheader("x-mportrouter-upstream")
    attempts = response.getheader("x-mportrouter-attempts")
    decision = response.getheader("x-mportrouter-decision")
    parts = [f"answered by {upstream or 'nobody'}"]
    mode = response.getheader("x-mportrouter-mode")
    if mode:
        parts.append(f"mode {mode}")
    if attempts:
        parts.append(f"{attempts} attempt{'' if attempts == '1' else 's'}")
    if decision:
        parts.append(decision)
    return "[" + "; ".join(parts) + "]"


def _show_whole(response: http.client.HTTPResponse, question: Question, out: TextIO, err: TextIO) -> int:
    body = response.read()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if response.status != 200 or not isinstance(answer, dict):
        err.write(f"{response.status} {response.reason}: {_error_text(answer, body)}\n")
        return 1
    if question.json:
        out.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
        return 0
    for block in answer.get("content") or ():
        if isinstance(block, dict) and block.get("type") == "text":
            out.write(str(block.get("text", "")))
    out.write("\n")
    return 0


def _show_stream(response: http.client.HTTPResponse, question: Question, out: TextIO, err: TextIO) -> int:
    ended = False
    while True:
        line = response.readline()
        if not line:
            break
        if question.json:
            out.write(line.decode("utf-8", "replace"))
            out.flush()
        if not line.startswith(b"data:"):
            continue
        try:
            event = json.loads(line[5:])
        except ValueError:
            continue
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "content_block_delta" and not question.json:
            delta = event.get("delta") or {}
            if delta.get("type") == "text_delta":
                out.write(delta.get("text", ""))
                out.flush()
        elif kind == "message_stop":
            ended = True
        elif kind == "error":
            out.write("\n")
            err.write(f"The answer broke off: {_error_text(event, line)}\n")
            return 1
    if not question.json:
        out.write("\n")
    if not ended:
        err.write("The answer broke off.\n")
        return 1
    return 0


def _error_text(answer: Any, body: bytes) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])
    return body[:500].decode("utf-8", "replace").strip() or "an empty answer"
