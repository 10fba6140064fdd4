"""
The way to the running router's admin service, for the ``mportrouter`` command.

Twisted is imported only where somebody may answer, so that a command without a router fails at once.

Imports of its own floor: :mod:`mportrouter.state`, for the socket's place.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

#: Seconds to wait for an answer; ``None``: for as long as it takes.
_DEADLINES: dict[str, float | None] = {"drain": None, "close_port": None, "check_health": 60.0}
_DEADLINE = 30.0


class Refusal(Exception):
    """The router said no, or could not."""


class Unreachable(Exception):
    """No router answers."""


Door = Callable[[Any], Awaitable[Any]]
"""Connects, given the reactor, and gives the remote root."""


class Remote:
    """
    The router's remote methods.

    :param root: the remote object.
    :param reactor: the clock for deadlines.
    """

    def __init__(self, root: Any, reactor: Any) -> None:
        self._root = root
        self.reactor = reactor

    async def call(self, method: str, *arguments: Any) -> Any:
        """
        :raises Refusal: with the router's words.
        :raises Unreachable: the connection broke.
        """
        from twisted.internet.defer import TimeoutError as Late
        from twisted.internet.error import ConnectionClosed
        from twisted.spread import pb

        deadline = _DEADLINES.get(method, _DEADLINE)
        asked = self._root.callRemote(method, *arguments)
        if deadline is not None:
            asked.addTimeout(deadline, self.reactor)
        try:
            return await asked
        except (pb.RemoteError, pb.Error) as error:
            raise Refusal(str(error.args[0]) if error.args else "the router refused") from error
        except (pb.PBConnectionLost, pb.DeadReferenceError, ConnectionClosed) as error:
            raise Unreachable("the router has gone away") from error
        except Late as error:
            raise Refusal(f"the router did not answer within {deadline:.0f} s") from error


def run(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """
    Run one coroutine in the reactor.

    :param work: is given the reactor.
    :returns: what it returns; 130 where Ctrl-C came first.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    ended: list[Any] = []
    loop: Any = reactor

    def finish(result: Any) -> None:
        ended.append(result)
        if loop.running:
            loop.stop()

    loop.callWhenRunning(lambda: Deferred.fromCoroutine(work(loop)).addBoth(finish))
    loop.run()
    if not ended:
        return 130
    if isinstance(ended[0], int):
        return ended[0]
    raise ended[0].value


def unix_door(socket: str | None, state: str | None, router: int | None = None) -> Door:
    """
    :param socket: the socket's path, or ``None``: the one of the state directory ``state``.
    :param router: a port of the router that is meant, where several share the state directory.
    :raises Unreachable: it is not there, or there are several to choose from.
    """
    if socket:
        path = os.path.abspath(os.path.expanduser(socket))
    else:
        from .state import SeveralRouters, find_socket

        try:
            path = find_socket(state or "~/.ai-router/state", os.environ, os.getuid(), router)
        except SeveralRouters as several:
            raise Unreachable(f"{several}: say which with --router {several.ports[0]}") from several
    if not os.path.exists(path):
        raise Unreachable(not_running(path))

    async def connect(reactor: Any) -> Any:
        from twisted.internet.error import ConnectError
        from twisted.spread import pb

        factory = pb.PBClientFactory()
        reactor.connectUNIX(path, factory, timeout=5)
        try:
            return await factory.getRootObject().addTimeout(10, reactor)
        except ConnectError as error:
            if error.osError == errno.EACCES:
                raise Refusal(f"no permission to use {path}; it belongs to the user who runs the router") from error
            raise Unreachable(not_running(path)) from error

    return connect


def not_running(path: str) -> str:
    """What to say where nobody answers at the admin socket."""
    return f"mportrouter is not running (no admin socket at {path}); start it with: twistd -n mportrouter --all-ports"


def tcp_door(address: str, user: str, password: Callable[[], str]) -> Door:
    """
    :param address: ``HOST:PORT``.
    :param password: asked only where the address is one to speak to.
    :raises Refusal: an address that is none, or not loopback.
    """
    host, _, number = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
        port = int(number)
    except ValueError:
        raise Refusal(f"--tcp wants HOST:PORT, not {address!r}") from None
    if not near:
        raise Refusal(f"--tcp speaks to loopback only (what it sends is not encrypted); {host} is elsewhere")
    secret = password()

    async def connect(reactor: Any) -> Any:
        from twisted.cred.credentials import UsernamePassword
        from twisted.internet.error import ConnectError
        from twisted.spread import pb

        factory = pb.PBClientFactory()
        reactor.connectTCP(host, port, factory, timeout=5)
        given = UsernamePassword(user.encode(), secret.encode())
        try:
            avatar = await factory.login(given).addTimeout(10, reactor)
        except ConnectError as error:
            raise Unreachable(f"mportrouter does not answer at {address}") from error
        except pb.RemoteError as error:
            raise Refusal("wrong user name or password") from error
        return await Remote(avatar, reactor).call("root")

    return connect
