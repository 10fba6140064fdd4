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

from .answered import Answered
from .faults import ok
from .faulty import FaultyUpstream
from .ports import free_ports

# How long something may take before it counts as never happening: far more than it takes on any machine.
START_SECONDS = 90.0
STOP_SECONDS = 90.0
WAIT_SECONDS = 30.0

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
        self._named = dict((config or {}).get("ports") or self._default_ports())
        self.config = _merged(
            {
                "modes": copy.deepcopy(MODES),
                "upstreams": {id: {"base_url": url} for id, url in (upstreams or {}).items()},
                "health": {"every": "1h"},
                "drain": "60s",
            },
            {key: value for key, value in (config or {}).items() if key != "ports"},
        )
        self._number_ports()
        if start:
            self.start()

    @staticmethod
    def _default_ports() -> dict[str, Any]:
        return {"dynamic": {"mode": "mixed", "dynamic": True}, **{name: {"mode": name} for name in MODES}}

    # ------------------------------------------------------------------------------------------------ life

    def _number_ports(self) -> None:
        self.port_numbers = dict(zip(self._named, free_ports(len(self._named)), strict=True))
        self.config["ports"] = {self.port_numbers[name]: settings for name, settings in self._named.items()}
        self.write_config()

    def write_config(self) -> None:
        """Put the configuration in its place at once: a router that reloads meanwhile reads the old or the new."""
        with open(self.config_file + ".new", "w", encoding="utf-8") as file:
            yaml.safe_dump(self.config, file)
        os.replace(self.config_file + ".new", self.config_file)

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
        Start the child and wait until every port accepts and the first round of health checks is over, so that neither
        meets a test half-way.

        :raises AssertionError: it ended or did not come up in time; with its output.
        """
        first = self._child is None
        for last in (False, False, True):
            child = self.spawn()
            try:
                self._await_ports(child)
                self._await_checks()
                return
            except BaseException:
                # Another program was quicker with a port that was free when it was chosen: take others.
                taken = child.poll() is not None and "Address already in use" in self.output()
                if last or not (first and taken and set(self.config.get("ports", ())) == {*self.port_numbers.values()}):
                    self.stop()
                    raise
            os.remove(self._output)
            self._number_ports()

    def _await_ports(self, child: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        waiting = set(self.port_numbers.values())
        while waiting:
            if child.poll() is not None:
                raise AssertionError(f"the router ended with status {child.returncode}:\n{self.output()}")
            if time.monotonic() > end:
                raise AssertionError(f"the router does not listen on {waiting}:\n{self.output()}")
            for port in list(waiting):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    waiting.discard(port)
            time.sleep(0.02)

    def _await_checks(self) -> None:
        def checked() -> bool:
            answered = self.ask(None, next(iter(self.port_numbers)), "/health")
            if answered.status not in (200, 503) or "providers" not in answered.json:
                return True  # a port that wants a token does not tell
            return all(row["last_check"] or row["status"] == "disabled" for row in answered.json["providers"].values())

        assert until(checked, 60), f"the first health checks do not end:\n{self.output()}"

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
            timeout=120,
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
        timeout: float = 90.0,
        seen: Callable[[bytes], Any] | None = None,
    ) -> Answered:
        """
        One request without an SDK in between: no retries, every status is an answer.

        :param seen: is told the body as far as it has come, after each piece.
        """
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
                        if seen is not None:
                            seen(bytes(body))
                except (http.client.HTTPException, ConnectionError):
                    broken = True
                broken = broken or bool(response.length)
                return Answered(response.status, response.headers, bytes(body), time.monotonic() - began, broken)
        except urllib.error.HTTPError as error:
            with error:
                return Answered(error.code, error.headers, error.read(), time.monotonic() - began)

    def connect(self, name: str = "dynamic", timeout: float = WAIT_SECONDS) -> socket.socket:
        """A bare connection to a port."""
        sock = socket.create_connection(("127.0.0.1", self.port_numbers[name]), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


class Stack:
    """
    A router in front of its upstreams.

    :ivar parts: what must be stopped with it, in this order after the router.
    """

    def __init__(self, router: RouterProcess, *parts: Any) -> None:
        self.router = router
        self.parts = parts

    def stop(self) -> None:
        with contextlib.ExitStack() as stack:  # what one of them has to complain of does not keep the next from ending
            for part in reversed(self.parts):
                stack.callback(part.stop)
            stack.callback(self.router.stop)


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


def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What the condition gives once it is true; the last thing it gave when the time is over."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def failover_stack(
    config: Mapping[str, Any] | None = None, timeouts: Mapping[str, Any] | None = None, lax: bool = True
) -> Stack:
    """
    A router in front of MiniMax (first of the parts) and Claude (second).

    :param timeouts: limits of both; as they are, no upstream that answers at all is too slow for them.
    :param lax: circuits never open, so that one scenario does not colour the next.
    """
    minimax = FaultyUpstream([ok("from MiniMax")], "/anthropic")
    claude = FaultyUpstream([ok("from Claude")])
    limits = {"connect": "10s", "head": "60s", "first_content": "60s", "idle": "60s", "answer": "60s"}
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
