"""
Loopback ports that no other test, no other run of the tests and no outgoing connection of this machine can take between
the moment when they are chosen and the moment when somebody listens on them.

They lie below the range from which the system numbers outgoing connections: a port of that range, once given back, is
anybody's. Among runs at the same time each number is reserved by a lock on one byte of a file, which ends with the
process that holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
import time

_LOWEST = 10_240
_random = random.Random(os.urandom(16))
_mine: set[int] = set()
_descriptor: int | None = None


def _highest() -> int:
    """One past the last port that is not given to outgoing connections."""
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest = int(file.read().split()[0])
        if lowest >= _LOWEST + 4096:
            return lowest
    return 32_768


def _reserved(number: int) -> bool:
    """Whether this process, and no other run of the tests, has the number from now on."""
    global _descriptor
    if _descriptor is None:
        # Never closed: closing any descriptor of the file would give up every lock.
        path = os.path.join(tempfile.gettempdir(), f"mportrouter-test-ports-{os.getuid()}")
        _descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError:
        return False
    return True


def bindable(number: int) -> bool:
    """Whether nobody listens on the port now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """That many loopback ports that nobody listens on, given to nobody else while this process lives."""
    highest, found = _highest(), []
    while len(found) < count:
        number = _random.randrange(_LOWEST, highest)
        if number in _mine or not _reserved(number):
            continue
        _mine.add(number)
        if bindable(number):
            found.append(number)
    return found


def reserve(numbers: list[int], seconds: float = 120.0) -> bool:
    """
    Wait until no other run of the tests has these ports, which are not for the tests to choose.

    :returns: whether this process has them now; it gives them back with :func:`give_back`.
    """
    end = time.monotonic() + seconds
    while not all(_reserved(number) for number in numbers):
        give_back(numbers)
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def give_back(numbers: list[int]) -> None:
    """Let another run of the tests have the ports."""
    assert _descriptor is not None
    for number in numbers:
        fcntl.lockf(_descriptor, fcntl.LOCK_UN, 1, number)
