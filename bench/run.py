#!/usr/bin/env python3
"""
Measures the router beside nginx and beside no proxy at all, in one run, and prints ratios.

    python bench/run.py                 # everything
    python bench/run.py --seconds 5 --only json,sse

It starts a canned upstream (nginx), nginx again as a reverse proxy, and the installed router, and drives each with wrk.
Proxy and router run on one core of their own, one after the other. Absolute figures say little on a shared machine:
read the ratios. Needs ``nginx`` and ``wrk`` on the PATH; everything listens on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CANNED, PROXY, ROUTER = 18901, 18902, 18903

NGINX_CANNED = """
worker_processes 1;
daemon off;
pid {dir}/canned.pid;
error_log {dir}/canned.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  client_body_temp_path {dir}/canned-body;
  default_type application/json;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    root {dir};
    # Files are not for POST in nginx; its own error page may be one all the same.
    location /json/ {{ error_page 405 404 =200 /message.json; }}
    location /sse/ {{ error_page 405 404 =200 /stream.sse; }}
    location = /message.json {{ error_page 405 =200 $uri; }}
    location = /stream.sse {{ types {{ }} default_type "text/event-stream; charset=utf-8"; error_page 405 =200 $uri; }}
  }}
}}
"""

NGINX_PROXY = """
worker_processes 1;
daemon off;
pid {dir}/proxy.pid;
error_log {dir}/proxy.log;
events {{ worker_connections 4096; }}
http {{
  access_log {dir}/proxy-access.log;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  client_body_temp_path {dir}/proxy-body;
  proxy_temp_path {dir}/proxy-temp;
  upstream canned {{ server 127.0.0.1:{canned}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://canned;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

CONFIG = """
ports:
  {port}: {{mode: bench}}
modes:
  bench: {{strategy: fallback, upstreams: [canned, spare], retries: 1}}
upstreams:
  canned: {{provider: anthropic, base_url: "http://127.0.0.1:{canned}/{kind}", api_key: bench-key}}
  spare: {{provider: anthropic, base_url: "http://127.0.0.1:{canned}/{kind}", api_key: bench-key}}
health: {{every: 0}}
front: {{exchanges: 4096}}
logs: {{file: "{dir}/router.log"}}
state: "{dir}/state"
"""

WRK = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["x-api-key"] = "client-key"
wrk.headers["anthropic-version"] = "2023-06-01"
wrk.headers["User-Agent"] = "claude-cli/2.1.329 (external, cli)"
wrk.headers["Accept"] = "application/json"
wrk.headers["x-app"] = "cli"
wrk.headers["X-Stainless-Lang"] = "js"
wrk.headers["X-Stainless-Retry-Count"] = "0"
"""


def message() -> bytes:
    """A message answer of about 1 KB."""
    return json.dumps(
        {
            "id": "msg_01BenchBenchBenchBench",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [{"type": "text", "text": "All that is asked of a canned answer is its length. " * 13}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 1021,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 173,
                "service_tier": "standard",
            },
        }
    ).encode()


def stream(events: int = 200) -> bytes:
    """A streamed answer of ``events`` events, about 28 KB."""

    def event(kind: str, **members: object) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **members}, separators=(',', ':'))}\n\n".encode()

    start = json.loads(message())
    start.update(content=[], stop_reason=None)
    out = [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    for number in range(events - 5):
        delta = {"type": "text_delta", "text": f" token {number:05d} here"}
        out.append(event("content_block_delta", index=0, delta=delta))
    out += [
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1200}),
        event("message_stop"),
    ]
    return b"".join(out)


def request(streamed: bool, size: int = 4096) -> str:
    """A request body of ``size`` bytes."""
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 1024,
        "stream": streamed,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": ""}],
    }
    compact = json.JSONEncoder(separators=(",", ":")).encode  # as every official client writes
    body["messages"][0]["content"] = "x" * (size - len(compact(body)))  # type: ignore[index]
    return compact(body)


class Processes:
    """What was started here, and is ended here."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, core: int | None, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        if core is not None and shutil.which("taskset"):
            command = ("taskset", "-c", str(core), *command)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.started:
            self.started.remove(process)

    def stop_all(self) -> None:
        for process in list(self.started):
            self.stop(process)


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 10.0) -> float:
    """Seconds until ``port`` accepts."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return time.monotonic() - began
        except OSError:
            if process.poll() is not None:
                raise SystemExit(process.stderr.read().decode() if process.stderr else "it ended")
            time.sleep(0.01)
    raise SystemExit(f"nothing listens on {port}")


def wrk(url: str, script: str, seconds: float, connections: int, cores: str) -> tuple[float, float, float]:
    """Requests a second, p50 and p99 in milliseconds."""
    threads = "1" if connections == 1 else "2"
    command = ["wrk", "-t", threads, "-c", str(connections), "-d", f"{seconds:g}s", "--latency", "-s", script, url]
    if shutil.which("taskset"):
        command = ["taskset", "-c", cores, *command]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if rate is None:
        raise SystemExit(out)
    if re.search(r"Non-2xx|Socket errors: .*[1-9]", out):
        troubles = [line.strip() for line in out.splitlines() if "Non-2xx" in line or "Socket err" in line]
        print("    !!", " / ".join(troubles))

    def latency(share: str) -> float:
        found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", out)
        assert found is not None
        return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

    return float(rate[1]), latency("50"), latency("99")


def resident(pid: int) -> float:
    """Resident memory in MB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024.0
    return 0.0


def first_answer(port: int, streamed: bool) -> None:
    body = request(streamed).encode()
    call = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(call, timeout=5) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"the first answer is {error.code}: {error.read().decode()}") from None


def start_router(processes: Processes, config: str, directory: str, core: int) -> subprocess.Popen[bytes]:
    """The installed router, started as its users start it."""
    twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
    log = f"--logfile={directory}/twistd.log"
    environment = {**os.environ, "HOME": directory}
    return processes.start(
        twistd, "-n", "--pidfile=", log, "mportrouter", "--config", config, core=core, env=environment
    )


#: An upstream that streams slowly to many: for the memory of open streams.
SLOW = """
import socket, sys, threading, time
head = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n"
events = open(sys.argv[2], "rb").read().split(b"\\n\\n")
def chunk(data): return b"%x\\r\\n" % len(data) + data + b"\\r\\n"
def serve(sock):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(65536)
    sock.sendall(head + chunk(b"\\n\\n".join(events[:4]) + b"\\n\\n"))
    for event in events[4:120]:
        time.sleep(0.5)
        try:
            sock.sendall(chunk(event + b"\\n\\n"))
        except OSError:
            return
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
threading.stack_size(128 * 1024)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median is shown")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="json,sse,latency,memory", help="comma-separated: json,sse,latency,memory")
    options = parser.parse_args()
    wanted = set(options.only.split(","))
    for program in ("nginx", "wrk"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    cores = os.cpu_count() or 1
    proxy_core = 0
    canned_core = 1 % cores
    load_cores = "2,3" if cores >= 4 else str(cores - 1)
    processes = Processes()
    directory = tempfile.mkdtemp(prefix="mportrouter-bench-")
    os.chmod(directory, 0o755)  # nginx's workers are another user
    try:
        with open(os.path.join(directory, "message.json"), "wb") as file:
            file.write(message())
        with open(os.path.join(directory, "stream.sse"), "wb") as file:
            file.write(stream())
        for name, template in (("canned", NGINX_CANNED), ("proxy", NGINX_PROXY)):
            with open(os.path.join(directory, f"{name}.conf"), "w", encoding="ascii") as file:
                port = CANNED if name == "canned" else PROXY
                file.write(template.format(dir=directory, port=port, canned=CANNED))
        canned = processes.start("nginx", "-p", directory, "-c", f"{directory}/canned.conf", core=canned_core)
        wait_for(CANNED, canned)
        nginx = processes.start("nginx", "-p", directory, "-c", f"{directory}/proxy.conf", core=proxy_core)
        wait_for(PROXY, nginx)
        results: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
        for kind in ("json", "sse"):
            if kind not in wanted and not (kind == "json" and wanted & {"latency", "memory"}):
                continue
            script = os.path.join(directory, f"{kind}.lua")
            with open(script, "w", encoding="ascii") as file:
                file.write(WRK.format(body=request(kind == "sse")))
            config = os.path.join(directory, f"{kind}.yaml")
            with open(config, "w", encoding="ascii") as file:
                file.write(CONFIG.format(port=ROUTER, canned=CANNED, kind=kind, dir=directory))
            began = time.monotonic()
            router = start_router(processes, config, directory, proxy_core)
            wait_for(ROUTER, router)
            first_answer(ROUTER, kind == "sse")
            seconds = time.monotonic() - began
            print(f"{kind}: first answer {seconds:.2f} s after the start, idle at {resident(router.pid):.1f} MB")
            places = {
                "direct": f"http://127.0.0.1:{CANNED}/{kind}/v1/messages",
                "nginx": f"http://127.0.0.1:{PROXY}/{kind}/v1/messages",
                "router": f"http://127.0.0.1:{ROUTER}/v1/messages",
            }
            loads = [(kind, options.connections)] if kind in wanted else []
            if kind == "json" and "latency" in wanted:
                loads.append(("latency", 1))
            for name, connections in loads:
                found = results.setdefault(name, {place: [] for place in places})
                for _ in range(options.rounds):
                    for place, url in places.items():
                        found[place].append(wrk(url, script, options.seconds, connections, load_cores))
            processes.stop(router)
        for name, found in results.items():
            medians = {
                place: tuple(statistics.median(row[column] for row in rows) for column in range(3))
                for place, rows in found.items()
            }
            print(f"\n{name} ({1 if name == 'latency' else options.connections} connections)")
            for place, (rate, p50, p99) in medians.items():
                ratio = rate / medians["nginx"][0]
                added = f"added p50 {p50 - medians['direct'][1]:+.3f} ms, p99 {p99 - medians['direct'][2]:+.3f} ms"
                figures = f"{rate:9.0f} /s  p50 {p50:7.3f} ms  p99 {p99:7.3f} ms  {ratio:5.2f} of nginx"
                print(f"  {place:7s} {figures}  {added}")
        if "memory" in wanted:
            memory(processes, directory, proxy_core)
    finally:
        processes.stop_all()
        shutil.rmtree(directory, ignore_errors=True)


def memory(processes: Processes, directory: str, core: int, streams: int = 500) -> None:
    """Resident memory of many slow streams."""
    source = os.path.join(directory, "slow.py")
    with open(source, "w", encoding="ascii") as file:
        file.write(SLOW)
    slow = processes.start(sys.executable, source, str(CANNED + 10), f"{directory}/stream.sse", core=None)
    wait_for(CANNED + 10, slow)
    config = os.path.join(directory, "slow.yaml")
    with open(config, "w", encoding="ascii") as file:
        text = CONFIG.format(port=ROUTER, canned=CANNED + 10, kind="", dir=directory)
        file.write(text.replace(f":{CANNED + 10}/", f":{CANNED + 10}"))
    router = start_router(processes, config, directory, core)
    wait_for(ROUTER, router)
    time.sleep(0.5)
    idle = resident(router.pid)
    body = request(True).encode()
    head = (
        b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % len(body)
    )
    clients = []
    for _ in range(streams):
        client = socket.create_connection(("127.0.0.1", ROUTER), 10)
        client.sendall(head + body)
        clients.append(client)
    streaming = 0
    for client in clients:
        client.settimeout(20)
        streaming += client.recv(12) == b"HTTP/1.1 200"
    time.sleep(3)
    busy = resident(router.pid)
    print(
        f"\nmemory: idle {idle:.1f} MB; {streaming} slow streams {busy:.1f} MB: "
        f"{(busy - idle) * 1024 / max(1, streaming):.1f} KiB each"
    )
    for client in clients:
        client.close()


if __name__ == "__main__":
    main()
