"""Tests for :mod:`mportrouter.admin`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.spread import pb
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import __version__, admin
from ..admin import PROTOCOL, AdminRealm, AdminRoot, AdminService, PasswordChecker, clear_way, plain
from ..commands import CommandError
from ..errors import ConfigError
from ..settings import AdminSettings, Secret
from ..state import SocketPlace, socket_place
from ..testing import MemoryConsole


def join(server: Any, client: Any) -> Any:
    """
    Connect two Perspective Broker factories in memory.

    :returns: the pump.
    """
    one, other = server.buildProtocol(None), client.buildProtocol(None)
    return connect(one, FakeTransport(one, True), other, FakeTransport(other, False))


def keep_here(case: SynchronousTestCase) -> None:
    """Have the socket in the state directory however long its path is, so that no test makes a folder in ``/tmp``."""

    def place(folder: str, environment: object, user: int, router: int | None = None) -> SocketPlace:
        return SocketPlace(os.path.join(folder, "admin.sock" if router is None else f"admin-{router}.sock"))

    case.patch(admin, "socket_place", place)


class RootTestCase(SynchronousTestCase):
    """A client of an :class:`AdminRoot`, in memory."""

    def setUp(self) -> None:
        self.console = MemoryConsole()
        client = pb.PBClientFactory()
        self.pump = join(pb.PBServerFactory(AdminRoot(self.console)), client)
        waiting = client.getRootObject()
        self.pump.flush()
        self.root = self.successResultOf(waiting)

    def ask(self, method: str, *arguments: object) -> Any:
        waiting = self.root.callRemote(method, *arguments)
        self.pump.flush()
        return self.successResultOf(waiting)

    def refused(self, method: str, *arguments: object) -> tuple[str, str]:
        """Name of the error's class, and its text, as the client sees them."""
        waiting = self.root.callRemote(method, *arguments)
        self.pump.flush()
        failure = self.failureResultOf(waiting)
        name = failure.type.decode() if isinstance(failure.type, bytes) else str(failure.type)
        return name.rpartition(".")[2], failure.getErrorMessage()


class RootTests(RootTestCase):
    """The remote methods."""

    def test_version(self) -> None:
        """A client learns who answers."""
        self.assertEqual(self.ask("version"), {"version": __version__, "pid": os.getpid(), "protocol": PROTOCOL})

    def test_methods(self) -> None:
        """Each remote method asks the console for the one of its name, with its arguments."""
        for call in (
            ("status", 8787),
            ("health",),
            ("check_health",),
            ("stats",),
            ("logs", 7),
            ("mode", 8787, "mixed", "s"),
            ("ports",),
            ("open_port", 9000, "mixed"),
            ("close_port", 9000),
            ("reload",),
            ("drain", True),
            ("upstreams",),
            ("enable_upstream", "minimax", False),
        ):
            self.console.calls.clear()
            self.ask(*call)
            self.assertEqual(self.console.calls, [call])

    def test_defaults(self) -> None:
        """Arguments may be left out."""
        for method in ("status", "mode", "logs", "drain"):
            self.ask(method)
        self.assertEqual(
            self.console.calls, [("status", None), ("mode", None, None, None), ("logs", 20), ("drain", False)]
        )

    def test_values(self) -> None:
        """Values arrive as they are; what Perspective Broker does not carry arrives as its text."""
        self.console.answers["stats"] = {
            "a": [1, 2.5, None, True, "ä\ud800"],
            "big": 10**30,
            "money": Decimal("1.50"),
            "tuple": (1, {"x": ()}),
            8787: "port",
        }
        self.assertEqual(
            self.ask("stats"),
            {
                "a": [1, 2.5, None, True, "ä?"],
                "big": 10**30,
                "money": "1.50",
                "tuple": [1, {"x": []}],
                8787: "port",
            },
        )

    def test_long_texts(self) -> None:
        """A text that is too long for the protocol is cut; the connection lives."""
        self.console.answers["logs"] = ["ä" * 1_000_000]
        (line,) = self.ask("logs", 1)
        self.assertGreater(len(line), 100_000)
        self.assertEqual(self.ask("version")["protocol"], PROTOCOL)

    def test_refusal(self) -> None:
        """A refusal of the console arrives with its words."""
        self.console.answers["mode"] = CommandError("There is no mode “x”.")
        self.assertEqual(self.refused("mode", None, "x", None), ("Refused", "There is no mode “x”."))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_late_refusal(self) -> None:
        """So does one that comes later."""
        self.console.close_port = lambda port: fail(CommandError("not open"))  # type: ignore[method-assign]
        self.assertEqual(self.refused("close_port", 1), ("Refused", "not open"))

    def test_breakage(self) -> None:
        """Anything unexpected is logged here, and crosses without its words, which may hold a secret."""
        self.console.answers["stats"] = ValueError("sk-ant-secret")
        name, text = self.refused("stats")
        self.assertEqual(name, "Failed")
        self.assertIn("ValueError", text)
        self.assertNotIn("secret", text)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_wrong_types(self) -> None:
        """Arguments of a wrong type are refused before the console sees them."""
        for call in (("status", "8787"), ("status", True), ("mode", None, 5), ("logs", None), ("open_port", "x", "m")):
            self.assertEqual(self.refused(*call)[0], "Refused", call)
        self.assertEqual(self.console.calls, [])

    def test_log_count_is_bounded(self) -> None:
        """Nobody gets the whole log into memory."""
        self.ask("logs", 10**9)
        self.ask("logs", -1)
        self.assertEqual(self.console.calls, [("logs", 10_000), ("logs", 1)])

    def test_waiting(self) -> None:
        """A Deferred of the console is waited for, and other calls go on meanwhile."""
        waiting: Deferred[dict[str, bool]] = Deferred()
        self.console.drain = lambda stop: waiting  # type: ignore[method-assign]
        answer = self.root.callRemote("drain", False)
        self.pump.flush()
        self.assertNoResult(answer)
        self.ask("version")
        waiting.callback({"drained": True})
        self.pump.flush()
        self.assertEqual(self.successResultOf(answer), {"drained": True})

    def test_no_private_methods(self) -> None:
        """Only the methods of the console are offered."""
        for method in ("_ask", "console", "__class__"):
            self.assertIn(self.refused(method)[0], ("NoSuchMethod", "AttributeError"))
        self.flushLoggedErrors()

    def test_plain(self) -> None:
        """Odd containers become plain ones."""
        self.assertEqual(plain({1: {2}, None: b"x"}), {1: [2], "None": "b'x'"})


class LoginTests(SynchronousTestCase):
    """Over TCP one logs in first."""

    def setUp(self) -> None:
        keep_here(self)
        self.console = MemoryConsole()
        self.reactor = MemoryReactorClock()
        service = AdminService(
            AdminSettings(tcp_port=8790, password=Secret("pässword")),
            os.path.abspath(self.mktemp()),
            self.console,
            self.reactor,
            lambda path: False,
        )
        service.startService()
        (self.bound,) = self.reactor.tcpServers

    def login(self, name: str | bytes, password: str) -> tuple[Any, Any]:
        client = pb.PBClientFactory()
        pump = join(self.bound[1], client)
        waiting = client.login(UsernamePassword(name, password.encode()))
        pump.flush()
        return waiting, pump

    def test_loopback(self) -> None:
        """The port is on loopback."""
        self.assertEqual((self.bound[0], self.bound[3]), (8790, "127.0.0.1"))

    def test_right(self) -> None:
        """With the right password one gets the root."""
        waiting, pump = self.login(b"admin", "pässword")
        got = self.successResultOf(waiting).callRemote("root")
        pump.flush()
        answer = self.successResultOf(got).callRemote("stats")
        pump.flush()
        self.successResultOf(answer)
        self.assertEqual(self.console.calls, [("stats",)])

    def test_wrong(self) -> None:
        """A wrong name or password, or none, is refused, and nothing is answered."""
        for name, password in ((b"admin", "x"), (b"root", "pässword"), (b"admin", ""), (b"", "")):
            waiting, _ = self.login(name, password)
            failure = self.failureResultOf(waiting)
            self.assertIn("UnauthorizedLogin", str(failure.type))
        self.flushLoggedErrors(UnauthorizedLogin)
        self.assertEqual(self.console.calls, [])

    def test_no_root_without_login(self) -> None:
        """The root object of the port has no methods but the login."""
        client = pb.PBClientFactory()
        pump = join(self.bound[1], client)
        waiting = client.getRootObject()
        pump.flush()
        answer = self.successResultOf(waiting).callRemote("stats")
        pump.flush()
        self.failureResultOf(answer)
        self.flushLoggedErrors()
        self.assertEqual(self.console.calls, [])

    def test_interfaces(self) -> None:
        """Realm and checker are what cred wants, and nothing but Perspective Broker is served."""
        realm = AdminRealm(AdminRoot(self.console))
        self.assertTrue(verifyObject(IRealm, realm))
        self.assertTrue(verifyObject(ICredentialsChecker, PasswordChecker("a", "b")))
        self.assertRaises(UnauthorizedLogin, realm.requestAvatar, b"admin", None, IRealm)

    def test_password_is_compulsory(self) -> None:
        """Without a password there is no TCP."""
        self.assertRaises(
            ConfigError, AdminService, AdminSettings(tcp_port=1), self.mktemp(), self.console, self.reactor
        )


class SocketTests(SynchronousTestCase):
    """The unix socket."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "state")
        keep_here(self)

    def service(self, answers: Any = lambda path: False) -> AdminService:
        return AdminService(AdminSettings(), self.directory, MemoryConsole(), self.reactor, answers)

    def test_listens(self) -> None:
        """It listens at its place for its user alone, once, whichever start comes first."""
        service = self.service()
        service.privilegedStartService()
        service.startService()
        (bound,) = self.reactor.unixServers
        self.assertEqual(bound[0], service.socket.path)
        self.assertEqual(bound[3], 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(service.getServiceNamed("admin:unix"), service.socket)

    def second(self, living: Sequence[str], router: int | None = 8773) -> AdminService:
        """The service of a router, where others have the sockets of these names."""
        os.makedirs(self.directory, exist_ok=True)
        for name in living:
            with open(os.path.join(self.directory, name), "w"):
                pass
        self.patch(stat, "S_ISSOCK", lambda mode: True)
        answers = lambda path: os.path.basename(path) in living  # noqa: E731
        return AdminService(AdminSettings(), self.directory, MemoryConsole(), self.reactor, answers, router)

    def test_second_router(self) -> None:
        """Where a living router has the socket, the second one takes one of its own name, and says so in one line."""
        service = self.second(["admin.sock"])
        with capturedLogs() as events:
            service.startService()
        self.assertEqual([bound[0] for bound in self.reactor.unixServers], [f"{self.directory}/admin-8773.sock"])
        self.assertEqual(service.socket.path, f"{self.directory}/admin-8773.sock")
        told = [event for event in events if "--router" in event.get("log_format", "")]
        self.assertEqual([(event["log_level"].name, event["port"]) for event in told], [("info", 8773)])
        self.assertTrue(os.path.exists(f"{self.directory}/admin.sock"))

    def test_first_has_gone(self) -> None:
        """A socket that a dead router has left is the next one's."""
        service = self.second([])
        with open(os.path.join(self.directory, "admin.sock"), "w"):
            pass
        service.startService()
        self.assertEqual(service.socket.path, f"{self.directory}/admin.sock")

    def test_both_taken(self) -> None:
        """Two routers with the same lowest port, or one without ports, cannot be told apart."""
        for living, router in ((["admin.sock", "admin-8773.sock"], 8773), (["admin.sock"], None)):
            service = self.second(living, router)
            self.assertRaises(CannotListenError, service.socket.choose)
            self.assertRaises(CannotListenError, service.startService)

    def test_umask(self) -> None:
        """The process's umask is as before."""
        before = os.umask(0o022)
        self.addCleanup(os.umask, before)
        self.service().startService()
        self.assertEqual(os.umask(0o022), 0o022)

    def test_long_path(self) -> None:
        """With a long state directory the socket is elsewhere, and a pointer says where."""
        self.patch(admin, "socket_place", socket_place)
        runtime = os.path.abspath(self.mktemp())
        os.mkdir(runtime)
        short = os.path.join("/tmp", f"mpr-{os.getpid()}")
        os.symlink(runtime, short)
        self.addCleanup(os.unlink, short)
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": short})
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "s" * 100)
        service = self.service()
        service.startService()
        self.assertTrue(service.socket.path.startswith(short))
        with open(os.path.join(self.directory, "admin.path")) as file:
            self.assertEqual(file.read().strip(), service.socket.path)

    def test_nothing_there(self) -> None:
        """An empty place is clear."""
        clear_way(os.path.join(self.mktemp(), "admin.sock"), lambda path: True)

    def test_no_socket(self) -> None:
        """A file that is no socket is not removed."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        error = self.assertRaises(CannotListenError, clear_way, path, lambda path: False)
        self.assertIn("no socket", str(error))
        self.assertTrue(os.path.exists(path))

    def test_dead_socket(self) -> None:
        """The socket of a dead process is removed, that of a living one is an error."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        self.patch(stat, "S_ISSOCK", lambda mode: True)
        error = self.assertRaises(CannotListenError, clear_way, path, lambda path: True)
        self.assertIn("another mportrouter", str(error))
        self.assertTrue(os.path.exists(path))
        clear_way(path, lambda path: False)
        self.assertFalse(os.path.exists(path))
