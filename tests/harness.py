"""
The router as a child process, started as a user starts it: the installed ``twistd``, a configuration file, a home of
its own in a temporary directory.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from .faults import ok
from .faulty import FaultyUpstream

START_SECONDS = 20.0
STOP_SECONDS = 20.0

#: The four modes of the default preset.
MODES: dict[str, dict[str, Any]] = {
    "anthropic": {"strategy": "only", "upstreams": ["anthropic"]},
    "minimax": {"strategy": "only", "upstreams": ["minimax"]},
    "mixed": {"strategy": "fallback", "upstreams": ["minimax", "anthropic"], "retries": 1},
    "interactive": {"strategy": "interactive", "upstreams": ["minimax", "anthropic"]},
}

_SCRIPTS = os.path.dirname(sys.executable)
#: Stands in both keys of the router; nothing that it writes may hold it.
SECRET = "sk-test-0123456789-SECRET"


def free_ports(count: int) -> list[int]:
    """That many loopback ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            found.append(sock.getsockname()[1])
        return found


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


class RouterProcess:
    """
    :param upstreams: base URL by upstream id (``anthropic``, ``minimax``); empty for ``--demo``.
    :param config: more of the configuration, merged over what the harness writes; the key ``ports`` maps a name used
        with :meth:`url` to a port's settings.
    :param flags: more flags for ``twistd mportrouter``.
    :param environment: more variables; ``None`` as a value takes one away.
    :param start: start it at once and wait until every port accepts.
    """

    def __init__(
        self,
        upstreams: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        environment: Mapping[str, str | None] | None = None,
        start: bool = True,
    ) -> None:
        self.home = tempfile.mkdtemp(prefix="mportrouter-test-")
        self.config_file = os.path.join(self.home, "router.yaml")
        self._flags = list(flags)
        keys = {"ANTHROPIC_API_KEY": SECRET + "-a", "MINIMAX_API_KEY": SECRET + "-m"}
        self._environment: dict[str, str | None] = {**keys, **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None
        _alive.add(self)
        self._output = os.path.join(self.home, "output.txt")
        named = dict((config or {}).get("ports") or self._default_ports())
        self.port_numbers = dict(zip(named, free_ports(len(named)), strict=True))
        self.config = _merged(
            {
                "modes": copy.deepcopy(MODES),
                "upstreams": {id: {"base_url": url} for id, url in (upstreams or {}).items()},
                "health": {"every": "1h"},
                "drain": "5s",
            },
            {key: value for key, value in (config or {}).items() if key != "ports"},
        )
        self.config["ports"] = {self.port_numbers[name]: settings for name, settings in named.items()}
        self.write_config()
        if start:
            self.start()

    @staticmethod
    def _default_ports() -> dict[str, Any]:
        return {"dynamic": {"mode": "mixed", "dynamic": True}, **{name: {"mode": name} for name in MODES}}

    # ------------------------------------------------------------------------------------------------ life

    def write_config(self) -> None:
        with open(self.config_file, "w", encoding="utf-8") as file:
            yaml.safe_dump(self.config, file)

    @property
    def environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.endswith(("_API_KEY", "_API_BASE"))}
        environment.update(HOME=self.home, PYTHONUNBUFFERED="1")
        for key, value in self._environment.items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = value
        return environment

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the child and do not wait for it."""
        arguments = [os.path.join(_SCRIPTS, "twistd"), "-n", "--pidfile=", "mportrouter", "--config", self.config_file]
        with open(self._output, "ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, *arguments, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=self.environment,
            )
        return self._child

    def start(self) -> None:
        """
        Start the child and wait until every port accepts.

        :raises AssertionError: it ended or did not come up in time; with its output.
        """
        child = self.spawn()
        until = time.monotonic() + START_SECONDS
        waiting = set(self.port_numbers.values())
        try:
            while waiting:
                if child.poll() is not None:
                    raise AssertionError(f"the router ended with status {child.returncode}:\n{self.output()}")
                if time.monotonic() > until:
                    raise AssertionError(f"the router does not listen on {waiting}:\n{self.output()}")
                for port in list(waiting):
                    with contextlib.suppress(OSError):
                        socket.create_connection(("127.0.0.1", port), 1).close()
                        waiting.discard(port)
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise

    def signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status. :raises subprocess.TimeoutExpired: it still runs."""
        assert self._child is not None
        return self._child.wait(seconds)

    def end(self) -> None:
        """SIGTERM, and wait for a clean end: twistd ends by the signal itself once everything is closed."""
        self.signal(signal.SIGTERM)
        status = self.wait()
        if status not in (0, -signal.SIGTERM):
            raise AssertionError(f"the router ended with status {status}:\n{self.output()}")

    def restart(self) -> None:
        self.end()
        self.start()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """End it, whatever it does, and remove its directory."""
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(1.0)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(5.0)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        shutil.rmtree(self.home, ignore_errors=True)
        _alive.discard(self)

    # ------------------------------------------------------------------------------------------------ looking

    def url(self, name: str = "dynamic", path: str = "") -> str:
        return f"http://127.0.0.1:{self.port_numbers[name]}{path}"

    def output(self) -> str:
        """What the child printed."""
        with contextlib.suppress(FileNotFoundError), open(self._output, encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def log_text(self) -> str:
        path = os.path.join(self.home, ".ai-router", "logs", "router.log")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def written(self) -> str:
        """Everything that the router wrote below its home and on its terminal, but not the configuration."""
        texts = [self.output()]
        for folder, _, names in os.walk(os.path.join(self.home, ".ai-router")):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        texts.append(file.read())
        return "\n".join(texts)

    def rss(self) -> int:
        """Resident bytes of the child."""
        assert self._child is not None
        with open(f"/proc/{self._child.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def command(self, *arguments: str, status: int | None = 0) -> str:
        """
        What the ``mportrouter`` command prints.

        :param status: the exit status it must have; ``None``: any.
        """
        done = subprocess.run(
            [sys.executable, os.path.join(_SCRIPTS, "mportrouter"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            env=self.environment,
            timeout=30,
        )
        text = done.stdout.decode("utf-8", "replace")
        if status is not None and done.returncode != status:
            raise AssertionError(f"mportrouter {' '.join(arguments)} ended with {done.returncode}:\n{text}")
        return text

    # ------------------------------------------------------------------------------------------------ asking

    def ask(
        self,
        value: Any = None,
        name: str = "dynamic",
        path: str = "/v1/messages",
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        timeout: float = 30.0,
    ) -> Answered:
        """One request without an SDK in between: no retries, every status is an answer."""
        body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        fields = {"content-type": "application/json", "x-api-key": "client-key", "anthropic-version": "2023-06-01"}
        request = urllib.request.Request(
            self.url(name, path), data=body, headers={**fields, **(headers or {})}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        began = time.monotonic()
        try:
            with opener.open(request, timeout=timeout) as response:
                body, broken = bytearray(), False
                try:
                    while data := response.read1(65536):
                        body += data
                except (http.client.HTTPException, ConnectionError):
                    broken = True
                broken = broken or bool(response.length)
                return Answered(response.status, response.headers, bytes(body), time.monotonic() - began, broken)
        except urllib.error.HTTPError as error:
            with error:
                return Answered(error.code, error.headers, error.read(), time.monotonic() - began)

    def connect(self, name: str = "dynamic", timeout: float = 10.0) -> socket.socket:
        """A bare connection to a port."""
        sock = socket.create_connection(("127.0.0.1", self.port_numbers[name]), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


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


class Stack:
    """
    A router in front of its upstreams.

    :ivar parts: what must be stopped with it, in this order after the router.
    """

    def __init__(self, router: RouterProcess, *parts: Any) -> None:
        self.router = router
        self.parts = parts

    def stop(self) -> None:
        self.router.stop()
        for part in self.parts:
            part.stop()


_shared: dict[str, Any] = {}
_alive: set[RouterProcess] = set()


def shared(name: str, make: Callable[[], Any]) -> Any:
    """
    What ``make`` gives, made once for all tests in a row that ask for the same name: trial knows no class fixtures, and
    a router a test would cost half a second each. Asking for another name stops what was there.
    """
    if name not in _shared:
        stop_shared()
        _shared[name] = make()
    return _shared[name]


def stop_shared() -> None:
    """Stop what :func:`shared` keeps."""
    while _shared:
        _shared.popitem()[1].stop()


@atexit.register
def stop_all() -> None:
    """Leave no child behind, whatever broke off the tests."""
    stop_shared()
    for router in list(_alive):
        router.stop()


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What the condition gives once it is true; the last thing it gave when the time is over."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def failover_stack(
    config: Mapping[str, Any] | None = None, timeouts: Mapping[str, Any] | None = None, lax: bool = True
) -> Stack:
    """
    A router with short limits in front of MiniMax (first of the parts) and Claude (second).

    :param lax: circuits never open, so that one scenario does not colour the next.
    """
    minimax = FaultyUpstream([ok("from MiniMax")], "/anthropic")
    claude = FaultyUpstream([ok("from Claude")])
    limits = {"connect": "1s", "head": "1.5s", "first_content": "1.5s", "idle": "1.5s", "answer": "1.5s"}
    limits.update(timeouts or {})
    never = dict.fromkeys(("failures", "degraded_after", "down_after_timeouts", "rate_limited_after"), 1000)
    base = {
        "breaker": never if lax else {},
        "upstreams": {
            "minimax": {"base_url": minimax.url, "timeouts": limits},
            "anthropic": {"base_url": claude.url, "timeouts": limits},
        },
        "ports": {
            "dynamic": {"mode": "mixed", "dynamic": True},
            "held": {"mode": "mixed", "commit": "complete"},
            **{name: {"mode": name} for name in MODES},
        },
    }
    return Stack(RouterProcess(config=_merged(base, config or {})), minimax, claude)


def message(text: Any = "hello", **members: Any) -> dict[str, Any]:
    """A request body."""
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    return {"model": "claude-opus-5-5", "max_tokens": 200, "messages": messages, **members}
