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
