"""Tests for :mod:`mportrouter.reactor`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.application import reactors
from twisted.trial.unittest import SynchronousTestCase

_ONLY_LINUX = None if sys.platform == "linux" else "epoll is Linux's"

_WITHOUT_EPOLL = """
import select, sys
del select.EPOLLIN
try:
    import mportrouter.reactor
except ImportError as error:
    sys.exit(0 if str(error) == "the mportrouter reactor needs epoll, which only Linux has" else str(error))
sys.exit("it was imported")
"""

_EXCHANGE = """
from twisted.application.reactors import installReactor
installReactor("mportrouter")
from twisted.internet import reactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from mportrouter.reactor import DirectEPollReactor
assert isinstance(reactor, DirectEPollReactor), reactor
class Loud(Protocol):
    def dataReceived(self, data):
        raise RuntimeError("oops")
    def connectionLost(self, reason):
        print(reason.value)
        reactor.stop()
class Quiet(Protocol):
    def connectionMade(self):
        self.transport.write(b"x")
class Asking(ClientFactory):
    protocol = Quiet
port = reactor.listenTCP(0, Factory.forProtocol(Loud), interface="127.0.0.1")
reactor.connectTCP("127.0.0.1", port.getHost().port, Asking())
reactor.run()
"""

_ROUND = """
import socket
from mportrouter.reactor import DirectEPollReactor
from mportrouter.eager import Outlet
from twisted.internet.tcp import Connection
from twisted.internet.protocol import Protocol
reactor = DirectEPollReactor()
seen = []
class Echo(Protocol):
    def dataReceived(self, data):
        self.outlet.write(data.upper())
        self.outlet.write(b"!")
        seen.append(bytes(self.peek()))
    def peek(self):
        try:
            return self.far.recv(100)
        except BlockingIOError:
            return b""
fars = []
for _ in range(3):
    far, near = socket.socketpair()
    far.setblocking(False)
    near.setblocking(False)
    echo = Echo()
    transport = Connection(near, echo, reactor)
    transport.logstr = "echo"
    transport.connected = 1
    echo.makeConnection(transport)
    echo.outlet, echo.far = Outlet(transport), far
    transport.startReading()
    fars.append(far)
    far.send(b"abc")
reactor.doPoll(1)
assert seen == [b"", b"", b""], seen
assert [far.recv(100) for far in fars] == [b"ABC!"] * 3
assert reactor.outbox == []
class Broken:
    def flush(self):
        raise RuntimeError("oops")
echo.outlet.write(b"later")
reactor.outbox.insert(0, Broken())
reactor.doPoll(0)
assert fars[-1].recv(100) == b"later"
fars[0].send(b"abc")
fars[-1].send(b"abc")
fars[-1].close()
reactor.doPoll(1)
assert fars[0].recv(100) == b"ABC!"
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: this one has its reactor already."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False)


class ReactorTests(SynchronousTestCase):
    """The reactor and its name."""

    skip = _ONLY_LINUX

    def test_listed(self) -> None:
        """``twistd --help-reactors`` lists it."""
        done = python("-c", "from twisted.scripts.twistd import run; run()", "--help-reactors")
        self.assertIn("mportrouter\tepoll", done.stdout)
        self.assertNotIn("!mportrouter", done.stdout)

    def test_chosen_by_name(self) -> None:
        """Its name installs it; a protocol that raises loses its connection and nothing else."""
        done = python("-c", _EXCHANGE)
        self.assertEqual((done.returncode, done.stdout), (0, "oops\n"), done.stderr)

    def test_round(self) -> None:
        """What is written during a round leaves at its end, before the next wait at the latest, whatever breaks."""
        done = python("-c", _ROUND)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_epoll(self) -> None:
        """Where there is no epoll it says so."""
        done = python("-c", _WITHOUT_EPOLL)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_strings_only(self) -> None:
        """The plugin loads nothing of the package before it is chosen."""
        names: list[Any] = [one.shortName for one in reactors.getReactorTypes()]
        self.assertEqual(names.count("mportrouter"), 1)
        code = (
            "import sys, twisted.plugins.mportrouter_plugin; "
            "sys.exit('mportrouter' in ' '.join(name for name in sys.modules if name.startswith('mportrouter')))"
        )
        self.assertEqual(python("-c", code).returncode, 0)
