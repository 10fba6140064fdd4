"""
What must outlive a request: switched port modes, pins, what circuits know, conversations with a mode of their own,
decisions for a turn.

All of it stands behind :class:`IStateStore`. :class:`RuntimeState` keeps it in memory;
:class:`mportrouter.state_kept.KeptState` also writes it to the state directory, where the next start finds it. The
places of files in that directory are here too, because the router and the ``mportrouter`` command must agree on them.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from zope.interface import Attribute, Interface, implementer

#: Longest path of a unix socket in bytes that works everywhere: ``sun_path`` has 104 on macOS and 108 on Linux, and
#: some servers bind under a temporary longer name first.
SOCKET_PATH_MOST = 100

DAY = 24 * 3600.0
HOUR = 3600.0
#: Parts of a lifetime after which the use of an entry is told again.
_TOLD = 8


class IStateStore(Interface):
    """Keeps what outlives a request. Nothing here waits; a store that cannot write says so in the log and goes on."""

    def port_mode(port: int) -> str | None:
        """The mode that a port was switched to, or ``None`` where it still has the one of its configuration."""

    def set_port_mode(port: int, mode: str | None, remember: bool = False) -> None:
        """
        :param mode: the new mode, ``None``: back to the configuration's.
        :param remember: find it again after a restart (dynamic ports).
        """

    def pin(mode: str) -> str | None:
        """
        The one upstream that somebody switched a mode to, or ``None`` where the mode chooses.

        Whoever asks sees to it that the mode still has that upstream: a configuration may have changed since.
        """

    def set_pin(mode: str, upstream: str | None) -> None:
        """:param upstream: its id; ``None``: the mode chooses again."""

    def circuit(upstream: str) -> dict[str, Any] | None:
        """What is kept of an upstream's circuit, see :mod:`mportrouter.state_circuits`, or ``None``."""

    def set_circuit(upstream: str, known: dict[str, Any] | None) -> None:
        """:param known: plain values, never changed again; times are seconds since the epoch. ``None``: forget it."""

    has_sessions = Attribute("whether any conversation has a mode of its own: else nobody need look for its id")

    def session_mode(session: str) -> str | None:
        """The mode of one conversation, or ``None``. Asking keeps it alive."""

    def set_session_mode(session: str, mode: str | None) -> None:
        """
        :param session: the conversation's id, with the port in front where it is meant for one port alone.
        :param mode: ``None``: forget it.
        """

    def decision(turn: str) -> Any:
        """What was decided for a turn, or ``None``."""

    def set_decision(turn: str, decision: Any) -> None:
        """
        :param turn: a key that stays the same through the tool loop of a turn.
        :param decision: a plain or frozen value; a text may outlive a restart, anything else does not.
        """


class _Recent:
    """
    A bounded map that forgets what was not asked for longest, and what has grown too old.

    :param most: entries kept.
    :param lifetime: seconds after which an unused entry is forgotten.
    :ivar told: is told of key and value when one is put, and now and then while it is asked for; of ``None`` when it is
        taken out.
    """

    __slots__ = ("_entries", "_lifetime", "_most", "_seconds", "told")

    def __init__(self, most: int, lifetime: float, seconds: Callable[[], float]) -> None:
        self._most = most
        self._lifetime = lifetime
        self._seconds = seconds
        #: Each with the time until which it is kept, the value, and the time from which its use is told again.
        self._entries: OrderedDict[str, tuple[float, Any, float]] = OrderedDict()
        self.told: Callable[[str, Any], None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Any:
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._seconds()
        until, value, again = entry
        if until <= now:
            del self._entries[key]
            return None
        if now >= again and self.told is not None:
            self.told(key, value)
            again = now + self._lifetime / _TOLD
        self._entries[key] = (now + self._lifetime, value, again)
        self._entries.move_to_end(key)
        return value

    def put(self, key: str, value: Any) -> None:
        if self.told is not None:
            self.told(key, value)
        if value is None:
            self._entries.pop(key, None)
            return
        self.restore(key, value, 0.0)

    def restore(self, key: str, value: Any, age: float) -> None:
        """Put back what was used ``age`` seconds ago, oldest first; nobody is told."""
        now = self._seconds()
        self._entries[key] = (now + self._lifetime - age, value, now - age + self._lifetime / _TOLD)
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def items(self) -> list[tuple[str, Any]]:
        """Keys and values, the one that was used last at the end."""
        return [(key, value) for key, (_, value, _) in self._entries.items()]


@implementer(IStateStore)
class RuntimeState:
    """
    State in memory.

    :param seconds: the clock: seconds that only grow.
    :param sessions: conversations remembered at most, each for a day after its last use.
    :param decisions: decisions remembered at most, each for an hour after its last use.
    """

    def __init__(self, seconds: Callable[[], float], sessions: int = 4096, decisions: int = 8192) -> None:
        self._modes: dict[int, str] = {}
        self._pins: dict[str, str] = {}
        self._circuits: dict[str, dict[str, Any]] = {}
        self._sessions = _Recent(sessions, DAY, seconds)
        self._decisions = _Recent(decisions, HOUR, seconds)

    def port_mode(self, port: int) -> str | None:
        return self._modes.get(port)

    def set_port_mode(self, port: int, mode: str | None, remember: bool = False) -> None:
        if mode is None:
            self._modes.pop(port, None)
        else:
            self._modes[port] = mode

    def pin(self, mode: str) -> str | None:
        return self._pins.get(mode)

    def set_pin(self, mode: str, upstream: str | None) -> None:
        if upstream is None:
            self._pins.pop(mode, None)
        else:
            self._pins[mode] = upstream

    def circuit(self, upstream: str) -> dict[str, Any] | None:
        return self._circuits.get(upstream)

    def set_circuit(self, upstream: str, known: dict[str, Any] | None) -> None:
        if known is None:
            self._circuits.pop(upstream, None)
        else:
            self._circuits[upstream] = known

    @property
    def has_sessions(self) -> bool:
        return len(self._sessions) > 0

    def session_mode(self, session: str) -> str | None:
        mode: str | None = self._sessions.get(session)
        return mode

    def set_session_mode(self, session: str, mode: str | None) -> None:
        self._sessions.put(session, mode)

    def decision(self, turn: str) -> Any:
        return self._decisions.get(turn)

    def set_decision(self, turn: str, decision: Any) -> None:
        self._decisions.put(turn, decision)


def prepare_directory(path: str) -> str:
    """
    Make a directory for the router's own files, and those above it, readable to its user alone.

    A directory that is already there keeps its permissions.

    :param path: may begin with ``~``.
    :returns: its full path.
    :raises OSError: it cannot be made, or something else has its name.
    """
    full = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(full):
        parent = os.path.dirname(full)
        if parent != full:
            prepare_directory(parent)
        try:
            os.mkdir(full, 0o700)
        except FileExistsError:
            if not os.path.isdir(full):
                raise
    return full


def write_atomically(path: str, content: bytes) -> None:
    """
    Put a file with mode 0600 in the place of ``path``; readers see the old one or the new one, whole.

    :raises OSError: it could not be written; the old file is untouched.
    """
    # mkstemp makes the file with mode 0600.
    number, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path))
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            return
        raise


# ---------------------------------------------------------------------------------------------------- admin socket


@attrs.frozen
class SocketPlace:
    """
    Where the admin socket is.

    :param path: of the socket.
    :param pointer: a file in the state directory that holds ``path`` where the socket could not be there, or ``None``.
    """

    path: str
    pointer: str | None = None


def socket_place(
    directory: str, environment: Mapping[str, str], user: int, router: int | None = None
) -> SocketPlace:
    """
    Choose the admin socket's path: ``admin.sock`` in the state directory, or, where that path is too long for a unix
    socket, in a folder of the runtime directory.

    :param environment: for ``XDG_RUNTIME_DIR``.
    :param user: the numeric user id, part of the folder's name where there is no runtime directory.
    :param router: the lowest port of a router that is not alone in its state directory: ``admin-8771.sock``.
    """
    full = os.path.abspath(os.path.expanduser(directory))
    name = "admin" if router is None else f"admin-{router}"
    path = os.path.join(full, f"{name}.sock")
    if len(os.fsencode(path)) <= SOCKET_PATH_MOST:
        return SocketPlace(path)
    digest = hashlib.sha256(os.fsencode(full)).hexdigest()[:12]
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    folder = os.path.join(runtime, f"mportrouter-{digest}") if os.path.isabs(runtime) else ""
    if not folder or len(os.fsencode(folder)) + len(f"/{name}.sock") > SOCKET_PATH_MOST:
        folder = f"/tmp/mportrouter-{user}-{digest}"
    return SocketPlace(os.path.join(folder, f"{name}.sock"), os.path.join(full, f"{name}.path"))


def prepare_socket_folder(place: SocketPlace, user: int) -> None:
    """
    Make the folder of a socket that is not in the state directory, and the file that points to it.

    :raises PermissionError: the folder's name is taken by somebody else (anyone can make folders in ``/tmp``).
    :raises OSError: it cannot be made.
    """
    if place.pointer is None:
        return
    folder = os.path.dirname(place.path)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(
                f"{folder} belongs to somebody else or is open to others; the admin socket cannot be put there. "
                "Choose a shorter state directory."
            )
    write_atomically(place.pointer, os.fsencode(place.path) + b"\n")


def answers(path: str) -> bool:
    """
    Whether somebody listens on a unix socket.

    :raises OSError: it cannot be told (no permission).
    """
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A connect to a unix socket does not wait for the other process; the limit is for a full backlog.
    probe.settimeout(1.0)
    try:
        probe.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except (TimeoutError, BlockingIOError):
        return True
    finally:
        probe.close()
    return True


class SeveralRouters(Exception):
    """
    More than one router could be meant.

    :param ports: each one's lowest port.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(f"several routers run here ({', '.join(map(str, ports))})")
        self.ports = tuple(ports)


def find_socket(
    directory: str,
    environment: Mapping[str, str],
    user: int,
    router: int | None = None,
    answers: Callable[[str], bool] = answers,
) -> str:
    """
    Where a client finds the admin socket of the router with this state directory.

    :param router: the lowest port of the one that is meant, where several share the directory; its own socket if it is
        there, else the common one. Without it the common one, or, where nobody answers there, that of the only other
        router.
    :returns: the path it should be at, whether it is there or not.
    :raises SeveralRouters: none was named, nobody answers at the common socket, and there is more than one other.
    """
    common = _pointed(socket_place(directory, environment, user))
    if router is not None:
        own = _pointed(socket_place(directory, environment, user, router))
        return own if os.path.exists(own) else common
    if _lives(common, answers):
        return common
    others = {number: _pointed(socket_place(directory, environment, user, number)) for number in _named(directory)}
    living = sorted(number for number, path in others.items() if _lives(path, answers))
    if len(living) > 1:
        raise SeveralRouters(living)
    return others[living[0]] if living else common


def _named(directory: str) -> list[int]:
    """Lowest ports of the routers that have, or had, a socket of their own name."""
    try:
        names = os.listdir(os.path.expanduser(directory))
    except OSError:
        return []
    found = (re.fullmatch(r"admin-([0-9]{1,5})\.(sock|path)", name) for name in names)
    return [int(one[1]) for one in found if one]


def _lives(path: str, answers: Callable[[str], bool]) -> bool:
    try:
        return answers(path)
    except OSError:
        # What may not be opened is there all the same; the connection will say why.
        return os.path.exists(path)


def _pointed(place: SocketPlace) -> str:
    """The path of a place, or what its pointer says."""
    if place.pointer is None:
        return place.path
    try:
        with open(place.pointer, "rb") as file:
            named = os.fsdecode(file.read(4096).strip())
    except OSError:
        return place.path
    return named if os.path.isabs(named) else place.path
