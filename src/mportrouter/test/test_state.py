"""Tests for :mod:`mportrouter.state`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import state
from ..state import (
    IStateStore,
    RuntimeState,
    SeveralRouters,
    find_socket,
    prepare_directory,
    prepare_socket_folder,
    socket_place,
    write_atomically,
)


class StoreTests:
    """What every store does."""

    store: RuntimeState

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = self.make()

    def make(self) -> RuntimeState:
        return RuntimeState(self.clock.seconds, sessions=4, decisions=4)

    def test_interface(self) -> None:
        """It provides the interface."""
        self.assertTrue(verifyObject(IStateStore, self.store))

    def test_port_mode(self) -> None:
        """A switched mode is found until it is taken back."""
        self.assertIsNone(self.store.port_mode(8787))
        self.store.set_port_mode(8787, "minimax", remember=True)
        self.store.set_port_mode(8771, "mixed")
        self.assertEqual((self.store.port_mode(8787), self.store.port_mode(8771)), ("minimax", "mixed"))
        self.store.set_port_mode(8787, None)
        self.assertIsNone(self.store.port_mode(8787))

    def test_pin(self) -> None:
        """A mode is pinned to an upstream until it chooses again."""
        self.assertIsNone(self.store.pin("mixed"))
        self.store.set_pin("mixed", "minimax")
        self.store.set_pin("other", "anthropic")
        self.assertEqual((self.store.pin("mixed"), self.store.pin("other")), ("minimax", "anthropic"))
        self.store.set_pin("mixed", None)
        self.store.set_pin("never", None)
        self.assertEqual((self.store.pin("mixed"), self.store.pin("other")), (None, "anthropic"))

    def test_circuit(self) -> None:
        """What a circuit knows is found until it is taken back."""
        self.assertIsNone(self.store.circuit("minimax"))
        self.store.set_circuit("minimax", {"open": True})
        self.assertEqual(self.store.circuit("minimax"), {"open": True})
        self.store.set_circuit("minimax", None)
        self.store.set_circuit("never", None)
        self.assertIsNone(self.store.circuit("minimax"))

    def test_session(self) -> None:
        """A conversation keeps its mode for a day after its last use."""
        self.assertFalse(self.store.has_sessions)
        self.store.set_session_mode("s", "mixed")
        self.assertTrue(self.store.has_sessions)
        self.clock.advance(86000)
        self.assertEqual(self.store.session_mode("s"), "mixed")
        self.clock.advance(86000)
        self.assertEqual(self.store.session_mode("s"), "mixed")
        self.clock.advance(86400)
        self.assertIsNone(self.store.session_mode("s"))
        self.assertFalse(self.store.has_sessions)

    def test_forget_session(self) -> None:
        """A conversation's mode can be taken back."""
        self.store.set_session_mode("s", "mixed")
        self.store.set_session_mode("s", None)
        self.store.set_session_mode("unknown", None)
        self.assertIsNone(self.store.session_mode("s"))

    def test_decision(self) -> None:
        """A decision is the value that was kept, for an hour."""
        value = ("plan", frozenset())
        self.store.set_decision("turn", value)
        self.assertIs(self.store.decision("turn"), value)
        self.assertIsNone(self.store.decision("other"))
        self.clock.advance(3600)
        self.assertIsNone(self.store.decision("turn"))

    def test_bounds(self) -> None:
        """Past the bound, what was not used for longest is forgotten."""
        for number in range(4):
            self.store.set_decision(str(number), number + 1)
            self.store.set_session_mode(str(number), f"m{number}")
        self.assertEqual(self.store.decision("0"), 1)
        self.store.set_decision("4", 5)
        self.assertEqual([self.store.decision(str(number)) for number in range(5)], [1, None, 3, 4, 5])
        self.store.set_session_mode("4", "m4")
        self.assertIsNone(self.store.session_mode("0"))
        self.assertEqual(self.store.session_mode("4"), "m4")


class RuntimeStateTests(StoreTests, SynchronousTestCase):
    """In memory."""


class FilesTests(SynchronousTestCase):
    """Directories, atomic files, the socket's place."""

    def test_prepare_directory(self) -> None:
        """Every directory that is made belongs to the user alone; one that is there stays as it is."""
        base = self.mktemp()
        os.mkdir(base)
        os.chmod(base, 0o755)
        path = prepare_directory(os.path.join(base, "a", "b"))
        self.assertTrue(os.path.isabs(path))
        for made in (path, os.path.dirname(path)):
            self.assertEqual(stat.S_IMODE(os.stat(made).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(base).st_mode), 0o755)
        self.assertEqual(prepare_directory(path), path)

    def test_prepare_directory_refused(self) -> None:
        """A file in the way is an error."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        self.assertRaises(OSError, prepare_directory, path)
        self.assertRaises(OSError, prepare_directory, os.path.join(path, "below"))

    def test_write_atomically(self) -> None:
        """A write that fails leaves the old file and no rubbish."""
        folder = self.mktemp()
        os.mkdir(folder)
        path = os.path.join(folder, "f")
        write_atomically(path, b"one")
        self.patch(os, "replace", self._refuse)
        self.assertRaises(OSError, write_atomically, path, b"two")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"one")
        self.assertEqual(os.listdir(folder), ["f"])

    @staticmethod
    def _refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def test_socket_place(self) -> None:
        """The socket is in the state directory where its path is short enough."""
        place = socket_place("/home/u/.ai-router/state", {}, 1000)
        self.assertEqual((place.path, place.pointer), ("/home/u/.ai-router/state/admin.sock", None))

    def test_long_socket_path(self) -> None:
        """Where the path is too long, the socket is in the runtime directory, else in a folder of the user's."""
        long = "/home/" + "u" * 90
        with_runtime = socket_place(long, {"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000)
        self.assertRegex(with_runtime.path, r"^/run/user/1000/mportrouter-[0-9a-f]{12}/admin\.sock$")
        self.assertEqual(with_runtime.pointer, long + "/admin.path")
        for runtime in ("", "relative", "/run/" + "r" * 90):
            place = socket_place(long, {"XDG_RUNTIME_DIR": runtime}, 1000)
            self.assertRegex(place.path, r"^/tmp/mportrouter-1000-[0-9a-f]{12}/admin\.sock$")
        self.assertNotEqual(socket_place(long + "x", {}, 1).path, socket_place(long + "y", {}, 1).path)

    def test_socket_is_found(self) -> None:
        """A client with another environment finds the socket through the pointer in the state directory."""
        base = os.path.abspath(self.mktemp())
        runtime = os.path.join(base, "r")
        directory = prepare_directory(os.path.join(base, "s" * 100))
        prepare_directory(runtime)
        place = socket_place(directory, {}, os.getuid())
        place = type(place)(os.path.join(runtime, "m", "admin.sock"), place.pointer)
        prepare_socket_folder(place, os.getuid())
        prepare_socket_folder(place, os.getuid())
        self.assertEqual(find_socket(directory, {}, os.getuid()), place.path)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(place.path)).st_mode), 0o700)

    def found(self, *living: str, router: int | None = None, there: Sequence[str] = ()) -> str:
        """The name of the socket that is found where ``living`` answer, and ``there`` are left over."""
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        for name in (*living, *there, "admin-x.sock", "admin-8771.sock.bak", "modes.json"):
            with open(os.path.join(directory, name), "w"):
                pass
        # Paths of tests are too long for a socket; what is asked here is which one is chosen.
        self.patch(state, "SOCKET_PATH_MOST", 4096)
        path = find_socket(directory, {}, os.getuid(), router, lambda path: os.path.basename(path) in living)
        self.assertEqual(os.path.dirname(path), directory)
        return os.path.basename(path)

    def test_second_router(self) -> None:
        """Unnamed, the common socket is taken while somebody answers there, else that of the only other router."""
        self.assertEqual(self.found("admin.sock", "admin-8773.sock"), "admin.sock")
        self.assertEqual(self.found("admin-8773.sock", there=["admin.sock", "admin-8771.sock"]), "admin-8773.sock")
        self.assertEqual(self.found(there=["admin-8773.sock"]), "admin.sock")
        error = self.assertRaises(SeveralRouters, self.found, "admin-8774.sock", "admin-8773.sock")
        self.assertEqual(error.ports, (8773, 8774))

    def test_named_router(self) -> None:
        """A named router has its own socket if that is there, else the common one."""
        both = ("admin.sock", "admin-8773.sock")
        self.assertEqual(self.found(*both, router=8773), "admin-8773.sock")
        self.assertEqual(self.found(*both, router=8771), "admin.sock")

    def test_no_permission(self) -> None:
        """A socket that may not be opened is the one that is meant: the connection says what is wrong with it."""

        def refuse(path: str) -> bool:
            raise PermissionError(13, "Permission denied")

        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        self.patch(state, "SOCKET_PATH_MOST", 4096)
        for name in ("admin.sock", "admin-8773.sock"):
            with open(os.path.join(directory, name), "w"):
                pass
        self.assertTrue(find_socket(directory, {}, os.getuid(), None, refuse).endswith("/admin.sock"))

    def test_long_path_of_second(self) -> None:
        """Where the paths are too long for a socket, each router has a pointer of its own."""
        long = "/home/" + "u" * 90
        place = socket_place(long, {"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, 8773)
        self.assertRegex(place.path, r"^/run/user/1000/mportrouter-[0-9a-f]{12}/admin-8773\.sock$")
        self.assertEqual(place.pointer, long + "/admin-8773.path")

    def test_socket_is_looked_for(self) -> None:
        """Without a pointer a client looks where the socket would be."""
        self.assertEqual(find_socket("/s", {}, 1), "/s/admin.sock")
        long = "/" + "s" * 120
        self.assertEqual(find_socket(long, {}, 1), socket_place(long, {}, 1).path)

    def test_foreign_folder(self) -> None:
        """A folder that is open to others, somebody else's, or a link is not used for the socket."""
        base = os.path.abspath(self.mktemp())
        os.mkdir(base)
        place = socket_place("/" + "s" * 120, {}, 1)
        place = type(place)(os.path.join(base, "m", "admin.sock"), os.path.join(base, "admin.path"))
        os.mkdir(os.path.join(base, "m"))
        os.chmod(os.path.join(base, "m"), 0o777)
        self.assertRaises(PermissionError, prepare_socket_folder, place, os.getuid())
        os.chmod(os.path.join(base, "m"), 0o700)
        self.assertRaises(PermissionError, prepare_socket_folder, place, os.getuid() + 1)
        os.rename(os.path.join(base, "m"), os.path.join(base, "n"))
        os.symlink(os.path.join(base, "n"), os.path.join(base, "m"))
        self.assertRaises(PermissionError, prepare_socket_folder, place, os.getuid())
