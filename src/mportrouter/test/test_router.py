"""Tests for :mod:`mportrouter.router`: what it is composed of, and what a reload carries over."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.application.internet import TCPServer
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from .. import config
from ..admin import AdminService
from ..breaker import Refusal
from ..errors import ConfigError, Kind, Verdict
from ..health import HealthChecker
from ..ledger import Ledger
from ..router import CannotStart, Router, cannot_listen
from ..settings import Settings
from ..state_kept import KeptState

KEYS = {"ANTHROPIC_API_KEY": "sk-ant-test", "MINIMAX_API_KEY": "mm-test"}
DEAD = Verdict(Kind.NETWORK, "connection refused", retry_same=True)
NO_MONEY = Verdict(Kind.MONEY, "no money", status=402, account=True)


class RouterTestCase(SynchronousTestCase):
    """A router on a reactor in memory; it is composed and not started."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.folder = os.path.abspath(self.mktemp())

    def settings(self, text: str = "", dotenv: Any = None, keys: Any = None, **flags: Any) -> Settings:
        places = f"state: {self.folder}\nlogs: {{file: {self.folder}/router.log}}\n"
        return config.load(places + text, "m.yaml", KEYS | (keys or {}), dotenv or {}, flags)

    def router(self, text: str = "", **more: Any) -> Router:
        self.next: Settings | Exception = self.settings(text, **more)
        return Router(self.reactor, self.settings(text, **more), self.read)

    def read(self) -> Settings:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def reload(self, router: Router, text: str = "", **more: Any) -> dict[str, Any]:
        self.next = self.settings(text, **more)
        return self.successResultOf(router.reload())


class CompositionTests(RouterTestCase):
    """The services of the process."""

    def test_ports(self) -> None:
        """Each port is a ``TCPServer`` of its own, found by its name."""
        router = self.router(all_ports=True)
        for number, mode in {8771: "anthropic", 8772: "minimax", 8773: "mixed", 8774: "interactive"}.items():
            port = router.getServiceNamed(f"port:{number}")
            self.assertIsInstance(port, TCPServer)
            self.assertEqual((port.number, port.mode), (number, mode))  # type: ignore[attr-defined]
        self.assertEqual(sorted(router.ports), [8771, 8772, 8773, 8774, 8787])

    def test_beside_the_ports(self) -> None:
        """Health checker, ledger, admin service, log and alerts stand beside them."""
        router = self.router()
        for name, kind in {"health": HealthChecker, "ledger": Ledger, "admin": AdminService}.items():
            self.assertIsInstance(router.getServiceNamed(name), kind)
        for name in ("log", "alerts"):
            self.assertIsNotNone(router.getServiceNamed(name))
        self.assertRaises(KeyError, router.getServiceNamed, "demo")

    def test_demo(self) -> None:
        """With the stand-ins every upstream is on loopback, and no real key is near it."""
        router = self.router(demo=True)
        self.assertIsNotNone(router.getServiceNamed("demo"))
        for upstream in router.runtime.upstreams.values():
            self.assertIn("127.0.0.1", upstream.settings.base_url)
            assert upstream.settings.api_key is not None
            self.assertNotIn(upstream.settings.api_key.value, KEYS.values())

    def test_state_not_usable(self) -> None:
        """A state directory that cannot be looked into ends the start with a line and no traceback."""

        def choose() -> None:
            raise PermissionError(13, "Permission denied", self.folder)

        router = self.router()
        router.ports.clear()  # no real socket is wanted here
        self.patch(router.admin.socket, "choose", choose)
        error = self.assertRaises(CannotStart, router.refuse_taken)
        self.assertIn("the state directory cannot be used", str(error))

    def test_no_such_host(self) -> None:
        """A host that is no address of this machine is not taken for a port that somebody else has."""
        unknown = CannotListenError("300.1.1.1", 8787, socket.gaierror(-2, "Name or service not known"))
        self.assertEqual(
            cannot_listen(unknown), "cannot listen on 300.1.1.1:8787: [Errno -2] Name or service not known"
        )
        taken = CannotListenError("127.0.0.1", 8787, OSError(errno.EADDRINUSE, "in use"))
        self.assertIn("another program, or another mportrouter, has it", cannot_listen(taken))

    def test_nothing_listens(self) -> None:
        """Composing binds nothing and makes no file."""
        self.router(all_ports=True)
        self.assertEqual((self.reactor.tcpServers, self.reactor.unixServers), ([], []))
        self.assertFalse(os.path.exists(self.folder))


class RememberedModeTests(RouterTestCase):
    """The mode that a dynamic port begins with."""

    TEXT = "ports: {8787: {mode: mixed, dynamic: true}}\n"

    def setUp(self) -> None:
        super().setUp()
        state = KeptState(self.folder, self.reactor, maybeDeferred)
        state.set_port_mode(8787, "minimax", remember=True)
        state.startService()
        self.successResultOf(state.stopService())

    def mode(self, text: str = TEXT, **more: Any) -> str:
        return self.router(text, **more).ports[8787].mode

    def test_remembered(self) -> None:
        """It is the one that it was last switched to."""
        self.assertEqual(self.mode(), "minimax")

    def test_said_otherwise(self) -> None:
        """A flag, the environment and ``.env`` each win over what is remembered."""
        self.assertEqual(self.mode(mode="anthropic"), "anthropic")
        self.assertEqual(self.mode(keys={"ROUTER_MODE": "anthropic"}), "anthropic")
        self.assertEqual(self.mode(dotenv={"ROUTER_MODE": "anthropic"}), "anthropic")

    def test_not_usable(self) -> None:
        """A remembered mode without its key is left alone, and so is one of a port that is not dynamic."""
        self.assertEqual(self.mode(self.TEXT.replace("mixed", "anthropic"), keys={"MINIMAX_API_KEY": ""}), "anthropic")
        self.assertEqual(self.mode("ports: {8787: {mode: mixed, dynamic: false}}\n"), "mixed")


class ReloadTests(RouterTestCase):
    """A new configuration is put in force as a whole or not at all."""

    def hurt(self, router: Router, verdict: Verdict, times: int = 5) -> None:
        circuit = router.runtime.upstreams["minimax"].circuit
        for _ in range(times):
            permit = circuit.permit("m")
            assert not isinstance(permit, Refusal)
            permit.failure(verdict)

    def state(self, router: Router) -> str:
        return str(router.runtime.upstreams["minimax"].circuit.state)

    def test_same(self) -> None:
        """An upstream whose settings are the same goes on as it is."""
        router = self.router()
        before = router.runtime.upstreams["minimax"]
        self.assertEqual(self.reload(router)["upstreams_changed"], [])
        self.assertIs(router.runtime.upstreams["minimax"], before)

    def test_other_settings(self) -> None:
        """One that is reached in the same way keeps what its circuit has learnt, and for how long it is to rest."""
        router = self.router()
        self.hurt(router, DEAD)
        wait = router.runtime.upstreams["minimax"].circuit.retry_in("m")
        changed = self.reload(router, "upstreams: {minimax: {timeouts: {idle: 7s}}}\n")["upstreams_changed"]
        self.assertEqual((changed, self.state(router)), (["minimax"], "open"))
        self.assertEqual(router.runtime.upstreams["minimax"].settings.timeouts.idle, 7.0)
        self.assertAlmostEqual(router.runtime.upstreams["minimax"].circuit.retry_in("m"), wait)

    def test_resting_model(self) -> None:
        """A model that rests goes on resting, also with a new key: the provider's limit may be the address's."""
        router = self.router()
        self.hurt(router, Verdict(Kind.RATE, "slowly", retry_after=60.0, status=429), 1)
        self.reload(router, keys={"MINIMAX_API_KEY": "mm-new"})
        self.assertAlmostEqual(router.runtime.upstreams["minimax"].circuit.retry_in("m"), 60.0)

    def test_limits(self) -> None:
        """What an account was asked in the last minute counts under new settings, and not with a new key."""
        router = self.router("upstreams: {minimax: {limits: {requests: 5/min}}}\n")
        router.runtime.upstreams["minimax"].allowance.take(router.clock.seconds())
        text = "upstreams: {minimax: {limits: {requests: 1/min}}}\n"
        self.reload(router, text)
        self.assertGreater(router.runtime.upstreams["minimax"].allowance.wait(router.clock.seconds()), 0)
        self.reload(router, text, keys={"MINIMAX_API_KEY": "mm-new"})
        self.assertEqual(router.runtime.upstreams["minimax"].allowance.wait(router.clock.seconds()), 0.0)

    def test_front(self) -> None:
        """A port's own limit of a body holds from the start and after a reload, and is no other port's."""
        router = self.router("ports: {8787: {body_limit: 1MB}}\n")
        self.assertEqual(router.ports[8787].factory.front.body_bytes, router.ports[8787].settings.body_bytes)
        self.reload(router, "ports: {8787: {body_limit: 2MB}}\n")
        self.assertEqual(router.ports[8787].factory.front.body_bytes, router.ports[8787].settings.body_bytes)
        self.assertGreaterEqual(router.ports[8787].factory.front.body_bytes, 2 * 10**6)

    def test_elsewhere(self) -> None:
        """Of another address, or one that is verified in another way, nothing is known."""
        pins = f"pins: {{mode: enforce, sha256: [{'A' * 43}=, {'B' * 42}A=]}}"
        for text in ("base_url: https://example.com/anthropic", 'tls: {minimum: "1.2"}', pins):
            router = self.router()
            self.hurt(router, DEAD)
            self.reload(router, f"upstreams: {{minimax: {{{text}}}}}\n")
            self.assertEqual(self.state(router), "closed", text)

    def test_account(self) -> None:
        """An account without money stays out under its old key, and is asked at once with a new one."""
        router = self.router()
        self.hurt(router, NO_MONEY, 1)
        self.reload(router, "upstreams: {minimax: {timeouts: {idle: 7s}}}\n")
        self.assertEqual(self.state(router), "open")
        self.reload(router, keys={"MINIMAX_API_KEY": "mm-new"})
        self.assertEqual(self.state(router), "closed")

    def test_model_of_a_key(self) -> None:
        """A model that one key may not use is asked again with another."""
        router = self.router()
        self.hurt(router, Verdict(Kind.AUTH, "not this model", status=403), 1)
        circuit = router.runtime.upstreams["minimax"].circuit
        self.assertGreater(circuit.retry_in("m"), 0)
        self.reload(router, keys={"MINIMAX_API_KEY": "mm-new"})
        self.assertEqual(router.runtime.upstreams["minimax"].circuit.retry_in("m"), 0.0)

    def test_fault_under_a_new_key(self) -> None:
        """A new key does not make a dead server alive."""
        router = self.router()
        self.hurt(router, DEAD)
        self.reload(router, keys={"MINIMAX_API_KEY": "mm-new"})
        self.assertEqual(self.state(router), "open")

    def test_refused(self) -> None:
        """A configuration with a mistake changes nothing."""
        router = self.router()
        before = router.runtime
        self.next = ConfigError(["m.yaml:1: no"])
        self.failureResultOf(router.reload(), ConfigError)
        self.assertIs(router.runtime, before)

    def test_taken_port(self) -> None:
        """Where a new port cannot be opened nothing changes: neither ports nor upstreams."""
        router = self.router()
        before = router.runtime

        def taken(wanted: Any, settings: Any) -> Any:
            raise CannotStart("taken")

        self.patch(router, "_open_for", taken)
        self.next = self.settings("ports: {8787: mixed, 9100: minimax}\nupstreams: {minimax: {timeouts: {idle: 7s}}}\n")
        self.failureResultOf(router.reload(), CannotStart)
        self.assertIs(router.runtime, before)
        self.assertEqual(list(router.ports), [8787])

    def test_ports(self) -> None:
        """Ports are opened, closed and switched as the new configuration says."""
        router = self.router("ports: {9100: minimax, 9101: mixed}\n")
        told = self.reload(router, "ports: {9101: anthropic, 9102: mixed}\n")
        self.assertEqual((told["ports_opened"], told["ports_closed"]), ([9102], [9100]))
        modes = {number: port.mode for number, port in router.ports.items()}
        self.assertEqual(modes, {9101: "anthropic", 9102: "mixed"})

    def test_closed_and_opened(self) -> None:
        """A port can come back while an answer of its first life is still under way."""
        router = self.router("ports: {9100: minimax, 9101: mixed}\n")
        first = router.ports[9100]
        self.patch(first.factory, "drain", Deferred)
        self.reload(router, "ports: {9101: mixed}\n")
        told = self.reload(router, "ports: {9100: minimax, 9101: mixed}\n")
        self.assertEqual(told["ports_opened"], [9100])
        self.assertIs(router.getServiceNamed("port:9100"), router.ports[9100])
        self.assertIsNot(router.ports[9100], first)
        self.assertIn(first, list(router))

    def test_closed_and_drained(self) -> None:
        """Draining waits for the last answers of a port that was closed before, too."""
        router = self.router("ports: {9100: minimax, 9101: mixed}\n")
        waiting: Deferred[None] = Deferred()
        self.patch(router.ports[9100].factory, "drain", lambda: waiting)
        self.reload(router, "ports: {9101: mixed}\n")
        drained = router.drain()
        self.assertNoResult(drained)
        waiting.callback(None)
        self.successResultOf(drained)
