"""
The admin service: Perspective Broker on a unix socket, and optionally on loopback TCP with a password.

The socket is ``admin.sock`` in the state directory with mode 0600: whoever can open it may drive the router. A second
router with the same directory takes ``admin-8773.sock``, after its lowest port. Over TCP a client logs in first and
asks its perspective for ``root``. Both then speak to :class:`AdminRoot`, whose remote methods are those of
:class:`mportrouter.interfaces.IConsole`. Refusals cross as :class:`Refused`, everything unexpected as :class:`Failed`,
each with a text for the person; no traceback crosses.

Imports of its own floor: :mod:`mportrouter.state`, for the socket's place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application import internet, service
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from zope.interface import Interface, implementer

from . import __version__
from .commands import CommandError
from .errors import ConfigError
from .interfaces_console import IConsole
from .settings import AdminSettings
from .state import answers, prepare_directory, prepare_socket_folder, socket_place

#: The version of the set of remote methods.
PROTOCOL = 1

#: Banana refuses longer strings and lists (640 KiB).
_LONGEST = 512 * 1024


class Refused(pb.Error):
    """What was asked for cannot be done; the text says why and what would be right."""


class Failed(pb.Error):
    """Something broke inside the router; its log says what."""


class AdminRoot(pb.Root):
    """
    The remote methods.

    :param console: answers them.
    """

    _log = Logger()

    def __init__(self, console: IConsole) -> None:
        self._console = console

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        asked: Deferred[Any] = maybeDeferred(method, *arguments)
        asked.addCallback(plain)
        asked.addErrback(self._say_why, getattr(method, "__name__", "method"))
        return asked

    def _say_why(self, failure: Failure, method: str) -> Any:
        if failure.check(CommandError):
            raise Refused(str(plain(failure.getErrorMessage())))
        self._log.failure("An admin call broke: {method}", failure=failure, method=method)
        name = failure.type.__name__ if failure.type else "error"
        raise Failed(f"the router could not do this ({name}); its log says more")

    def remote_version(self) -> dict[str, Any]:
        """Who answers: version of the package, process id, version of these methods."""
        return {"version": __version__, "pid": os.getpid(), "protocol": PROTOCOL}

    def remote_status(self, port: int | None = None) -> Deferred[Any]:
        return self._ask(self._console.status, _port(port))

    def remote_health(self) -> Deferred[Any]:
        return self._ask(self._console.health)

    def remote_check_health(self) -> Deferred[Any]:
        return self._ask(self._console.check_health)

    def remote_stats(self) -> Deferred[Any]:
        return self._ask(self._console.stats)

    def remote_logs(self, count: int = 20) -> Deferred[Any]:
        return self._ask(self._console.logs, max(1, min(_number(count, "the number of lines"), 10_000)))

    def remote_mode(
        self, port: int | None = None, name: str | None = None, session: str | None = None
    ) -> Deferred[Any]:
        return self._ask(self._console.mode, _port(port), _text(name, "the mode"), _text(session, "the session"))

    def remote_switch(self, port: int | None = None, name: str = "") -> Deferred[Any]:
        return self._ask(self._console.switch, _port(port), _text(name, "the upstream") or "")

    def remote_unpin(self, port: int | None = None) -> Deferred[Any]:
        return self._ask(self._console.unpin, _port(port))

    def remote_explain(
        self, port: int | None, pieces: object, dialect: str, model: str = "", session: str = ""
    ) -> Deferred[Any]:
        """:param pieces: the request's body in byte strings that Banana carries."""
        if not isinstance(pieces, (list, tuple)) or not all(isinstance(piece, bytes) for piece in pieces):
            raise Refused("the body must be a list of byte strings")
        texts = [_text(dialect, "the dialect"), _text(model, "the model"), _text(session, "the session")]
        return self._ask(self._console.explain, _port(port), b"".join(pieces), *(text or "" for text in texts))

    def remote_ports(self) -> Deferred[Any]:
        return self._ask(self._console.ports)

    def remote_open_port(self, port: int, mode: str) -> Deferred[Any]:
        return self._ask(self._console.open_port, _number(port, "the port"), _text(mode, "the mode") or "")

    def remote_close_port(self, port: int) -> Deferred[Any]:
        return self._ask(self._console.close_port, _number(port, "the port"))

    def remote_reload(self) -> Deferred[Any]:
        return self._ask(self._console.reload)

    def remote_drain(self, stop: bool = False) -> Deferred[Any]:
        return self._ask(self._console.drain, bool(stop))

    def remote_upstreams(self) -> Deferred[Any]:
        return self._ask(self._console.upstreams)

    def remote_enable_upstream(self, id: str, enabled: bool = True) -> Deferred[Any]:
        return self._ask(self._console.enable_upstream, _text(id, "the upstream") or "", bool(enabled))


def _number(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"{what} must be a number")
    return value


def _port(value: object) -> int | None:
    return None if value is None else _number(value, "the port")


def _text(value: object, what: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Refused(f"{what} must be a text")


def plain(value: Any) -> Any:
    """
    ``value`` in the types that Perspective Broker carries; anything else as its text.

    Long texts are cut, and characters that UTF-8 cannot hold replaced: either would break the connection.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, int) else plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    text = value if isinstance(value, str) else str(value)
    return text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")


# ---------------------------------------------------------------------------------------------------- TCP


class AdminPerspective(pb.Avatar):
    """What a client holds once it has logged in over TCP."""

    def __init__(self, root: AdminRoot) -> None:
        self._root = root

    def perspective_root(self) -> AdminRoot:
        """The object that has the methods."""
        return self._root


@implementer(IRealm)
class AdminRealm:
    """Gives everybody who logged in the same root."""

    def __init__(self, root: AdminRoot) -> None:
        self._root = root

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], AdminPerspective, Callable[[], None]]:
        if pb.IPerspective not in interfaces:
            raise UnauthorizedLogin("only Perspective Broker is spoken here")
        return pb.IPerspective, AdminPerspective(self._root), lambda: None


@implementer(ICredentialsChecker)
class PasswordChecker:
    """
    Knows one user.

    :param password: as configured; Perspective Broker proves it by challenge and response, it does not cross the wire.
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(self, username: str, password: str) -> None:
        self._username = username.encode("utf-8")
        self._password = password.encode("utf-8")

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        def checked(right: bool) -> bytes:
            given = credentials.username
            name = given.encode("utf-8", "replace") if isinstance(given, str) else bytes(given)
            if not right or name != self._username:
                raise UnauthorizedLogin("wrong user name or password")
            return self._username

        asked: Deferred[Any] = maybeDeferred(credentials.checkPassword, self._password)
        return asked.addCallback(checked)


# ---------------------------------------------------------------------------------------------------- service


def clear_way(path: str, answers: Callable[[str], bool] = answers) -> None:
    """
    Take away the socket that a dead process has left.

    :raises CannotListenError: a living router has it, or it is no socket.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise CannotListenError("unix", path, OSError(errno.EEXIST, "there is a file of that name that is no socket"))
    if answers(path):
        raise CannotListenError(
            "unix",
            path,
            OSError(
                errno.EADDRINUSE, "another mportrouter with this state directory and lowest port is running"
            ),
        )
    os.unlink(path)


class AdminSocket(internet.UNIXServer):
    """
    The listening unix socket; its way is cleared and its folder made when it is about to listen.

    Where a living router with the same state directory has it, the socket gets a name of its own.

    :param router: what that name is made of, the lowest port.
    """

    _log = Logger()

    def __init__(
        self,
        directory: str,
        factory: pb.PBServerFactory,
        reactor: Any,
        answers: Callable[[str], bool] = answers,
        router: int | None = None,
    ) -> None:
        self._directory = directory
        self._answers = answers
        self._factory = factory
        self._router = router
        self._place = socket_place(directory, os.environ, os.getuid())
        super().__init__(self._place.path, factory, mode=0o600, reactor=reactor)

    @property
    def path(self) -> str:
        return self._place.path

    def choose(self) -> None:
        """
        Take the common name if it is free, else the own one, and take away what a dead process has left there.

        :raises CannotListenError: neither is free.
        """
        common = socket_place(self._directory, os.environ, os.getuid())
        try:
            clear_way(common.path, self._answers)
            self._place = common
        except CannotListenError as error:
            if self._router is None or getattr(error.socketError, "errno", None) != errno.EADDRINUSE:
                raise
            own = socket_place(self._directory, os.environ, os.getuid(), self._router)
            clear_way(own.path, self._answers)
            self._place = own
        self.args = (self._place.path, self._factory)

    def _getPort(self) -> Any:
        prepare_directory(self._directory)
        self.choose()
        prepare_socket_folder(self._place, os.getuid())
        if self._place.path != socket_place(self._directory, os.environ, os.getuid()).path:
            self._log.info(
                "Another mportrouter has the same state directory: mportrouter --router {port} speaks to this one",
                port=self._router,
            )
        elif self._place.pointer is not None:
            self._log.info("The state directory's path is too long for a socket; it is at {path}", path=self.path)
        # Nobody may connect in the moment between bind() and chmod().
        before = os.umask(0o177)
        try:
            return super()._getPort()
        finally:
            os.umask(before)


class AdminService(service.MultiService):
    """
    Listens for the ``mportrouter`` command.

    :param settings: whether and how TCP is offered.
    :param directory: the state directory.
    :param console: what may be asked.
    :param reactor: listens.
    :param router: the lowest port, for the socket's name where another router has the common one; ``None``: none such.
    :raises ConfigError: TCP without a password.
    """

    name = "admin"

    def __init__(
        self,
        settings: AdminSettings,
        directory: str,
        console: IConsole,
        reactor: Any,
        answers: Callable[[str], bool] = answers,
        router: int | None = None,
    ) -> None:
        super().__init__()
        root = AdminRoot(console)
        self.socket = AdminSocket(directory, pb.PBServerFactory(root), reactor, answers, router)
        self.socket.setName("admin:unix")
        self.socket.setServiceParent(self)
        if settings.tcp_port is not None:
            if settings.password is None:
                raise ConfigError(["admin.tcp_port needs admin.password: every user of this machine can connect"])
            portal = Portal(AdminRealm(root), [PasswordChecker(settings.username, settings.password.value)])
            tcp = internet.TCPServer(
                settings.tcp_port, pb.PBServerFactory(portal), interface="127.0.0.1", reactor=reactor
            )
            tcp.setName("admin:tcp")
            tcp.setServiceParent(self)
