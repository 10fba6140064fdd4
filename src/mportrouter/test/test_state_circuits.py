"""Tests for :mod:`mportrouter.state_circuits`."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ..breaker import Breaker, Refusal
from ..errors import Kind, Verdict
from ..settings import TLS, BreakerSettings, Pins, Secret, UpstreamSettings
from ..state import RuntimeState
from ..state_circuits import EVERY, Circuits

NOW = 1_700_000_000.0
LIMITED = Verdict(Kind.RATE, "slowly", status=429, retry_after=600.0)
NO_MONEY = Verdict(Kind.MONEY, "no money", status=402, account=True)
NOT_THIS = Verdict(Kind.AUTH, "not this model", status=403, retry_after=600.0)
DEAD = Verdict(Kind.NETWORK, "connection refused", retry_same=True)


@attrs.define
class Account:
    """An upstream as far as circuits ask for it."""

    settings: UpstreamSettings
    circuit: Breaker


class Written(RuntimeState):
    """A store that counts what it is told and carries it as the file does."""

    def __init__(self) -> None:
        super().__init__(Clock().seconds)
        self.told: list[tuple[str, dict[str, Any] | None]] = []

    def set_circuit(self, upstream: str, known: dict[str, Any] | None) -> None:
        self.told.append((upstream, known))
        super().set_circuit(upstream, json.loads(json.dumps(known)))


class CircuitsTests(SynchronousTestCase):
    """One upstream that fails, and the process that comes after."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = NOW
        self.state = Written()
        self.events: list[str] = []
        self.settings = UpstreamSettings("u", "minimax", base_url="https://example.com", api_key=Secret("key"))
        self.upstream = self.account()
        self.circuits = self.make(self.upstream)
        self.circuits.startService()

    def account(self, settings: UpstreamSettings | None = None, clock: Clock | None = None) -> Account:
        def listen(_: str, event: str, __: str) -> None:
            self.events.append(event)

        clock = self.clock if clock is None else clock
        breaker = Breaker("u", BreakerSettings(), clock.seconds, lambda: 0.5, listen)
        return Account(settings or self.settings, breaker)

    def make(self, upstream: Account) -> Circuits:
        return Circuits(self.state, self.clock, lambda: {"u": upstream}, lambda: self.now)

    def fail(self, verdict: Verdict, model: str = "m", times: int = 1) -> None:
        for _ in range(times):
            permit = self.upstream.circuit.permit(model)
            assert not isinstance(permit, Refusal), permit
            permit.failure(verdict)

    def wait(self, seconds: float) -> None:
        """Let time go on, and look in between as often as is looked."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.now += EVERY
            self.clock.advance(EVERY)

    def restarted(self, settings: UpstreamSettings | None = None) -> Breaker:
        """The circuit in a new process, whose clock has begun anew."""
        new = self.account(settings, Clock())
        self.make(new).restore("u", new)
        return new.circuit

    # ------------------------------------------------------------------------------------------- what is kept

    def test_nothing(self) -> None:
        """Of an upstream that is well nothing is kept, nor of one whose failures do not add up to anything."""
        self.upstream.circuit.permit("m").success()  # type: ignore[union-attr]
        self.wait(2)
        self.fail(DEAD)
        self.wait(2)
        self.assertEqual(self.state.told, [])
        self.assertEqual(self.restarted().status, "unknown")

    def test_rest(self) -> None:
        """A model's rest ends at the moment at which it would have ended, and other models are asked."""
        self.fail(LIMITED)
        self.wait(100)
        self.now += 50  # the process was gone for as long
        circuit = self.restarted()
        self.assertApproximates(circuit.retry_in("m"), 450.0, 1)
        self.assertEqual((circuit.rank("m"), circuit.rank("other"), circuit.status), (2, 0, "rate_limited"))

    def test_open(self) -> None:
        """An open circuit is open for what is left of its time and for the reason it had; nobody is told again."""
        self.fail(DEAD, times=5)
        self.wait(10)
        del self.events[:]
        circuit = self.restarted()
        refusal = circuit.permit("m")
        assert isinstance(refusal, Refusal)
        self.assertApproximates(refusal.retry_after, 20.0, 1)
        self.assertIn("connection refused", refusal.reason)
        self.assertEqual((circuit.state, self.events), ("open", []))

    def test_cooldown(self) -> None:
        """What a mode has left alone stays alone."""
        self.upstream.circuit.rest(1800.0, Verdict(Kind.UPSTREAM, "broken", status=500))
        self.wait(1)
        self.assertApproximates(self.restarted().retry_in("m"), 1799.0, 1)

    def test_over(self) -> None:
        """What is over by the time of the start no longer holds; an open circuit lets one request try."""
        self.fail(LIMITED)
        self.wait(1)
        self.now += 1000
        self.assertEqual(self.restarted().rank("m"), 0)
        self.fail(DEAD, "other", 5)
        self.wait(1)
        self.now += 1000
        circuit = self.restarted()
        self.assertNotIsInstance(circuit.permit("other"), Refusal)
        self.assertIsInstance(circuit.permit("other"), Refusal)

    def test_end(self) -> None:
        """What happened in the last moment is kept by a clean end, and no timer is left."""
        self.fail(LIMITED)
        self.circuits.stopService()
        self.assertAlmostEqual(self.restarted().retry_in("m"), 600.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mended(self) -> None:
        """A circuit that has closed is forgotten, and so is a rest that a person ended."""
        for mend in (lambda: self.clock.advance(40), self.upstream.circuit.reset):
            self.fail(DEAD, times=5)
            self.wait(1)
            self.assertEqual(self.restarted().state, "open")
            mend()
            self.upstream.circuit.permit("m").success()  # type: ignore[union-attr]
            self.wait(1)
            self.assertEqual(self.restarted().state, "closed")
        self.fail(LIMITED)
        self.wait(1)
        self.upstream.circuit.reset()
        self.wait(1)
        self.assertEqual(self.restarted().retry_in("m"), 0.0)
        self.assertIsNone(self.state.circuit("u"))

    def test_written_once(self) -> None:
        """While nothing changes nothing is written, however long it lasts and whoever looks."""
        self.fail(LIMITED)
        self.wait(300)
        self.assertEqual(len(self.state.told), 1)
        self.fail(DEAD, "other", 5)
        self.wait(600)  # over, and nobody asks
        kept = [known for _, known in self.state.told]
        self.assertEqual(len(kept), 4, kept)  # opened; the circuit's time is over; the rest is over
        again = self.account(clock=Clock())
        circuits = self.make(again)
        circuits.restore("u", again)
        circuits.look()
        self.assertEqual(len(self.state.told), 4)

    def test_longer_rest(self) -> None:
        """A rest that has become longer is kept as that."""
        self.fail(LIMITED)
        self.wait(1)
        self.upstream.circuit.rest(3600.0, LIMITED, "m")
        self.wait(1)
        self.assertApproximates(self.restarted().retry_in("m"), 3599.0, 1)

    # ------------------------------------------------------------------------------------------- clocks

    def test_clock_set_back(self) -> None:
        """A clock that was set back between two starts makes no rest longer than it was."""
        self.fail(LIMITED)
        self.wait(1)
        self.now -= 86400.0
        self.assertApproximates(self.restarted().retry_in("m"), 600.0, 1)

    def test_clock_set_while_running(self) -> None:
        """A clock that is set while the router runs changes nothing about how long somebody rests."""
        self.fail(LIMITED)
        self.wait(1)
        for step in (-86400.0, 86400.0, 5000.0):
            self.now += step
            self.wait(1)
            self.assertApproximates(self.restarted().retry_in("m"), self.upstream.circuit.retry_in("m"), 1.5)

    # ------------------------------------------------------------------------------------------- other settings

    def test_elsewhere(self) -> None:
        """Of another server, or one that is verified in another way, nothing is known."""
        self.fail(DEAD, times=5)
        self.wait(1)
        changes: list[dict[str, Any]] = [
            {"base_url": "https://example.org"},
            {"provider": "kimi"},
            {"tls": TLS(minimum="1.2")},
            {"pins": Pins("enforce", ("a", "b"))},
        ]
        for change in changes:
            self.assertEqual(self.restarted(attrs.evolve(self.settings, **change)).state, "closed", change)
        self.assertEqual(self.restarted(attrs.evolve(self.settings, id="other")).state, "open")

    def test_new_key(self) -> None:
        """With a new key an account that had no money is asked at once; a limit stays what it is."""
        new = attrs.evolve(self.settings, api_key=Secret("other"))
        self.fail(NOT_THIS, "forbidden")
        self.fail(LIMITED, "limited")
        self.fail(NO_MONEY)
        self.wait(1)
        self.assertEqual((self.restarted().state, self.restarted(new).state), ("open", "closed"))
        self.assertGreater(self.restarted().retry_in("forbidden"), 599.0)
        self.assertEqual(self.restarted(new).retry_in("forbidden"), 0.0)
        self.assertGreater(self.restarted(new).retry_in("limited"), 590.0)

    def test_no_secret(self) -> None:
        """The key is not in what is kept, and what is kept in its place is too short to find a key by."""
        self.upstream.settings = attrs.evolve(self.settings, api_key=Secret("sk-0123456789"))
        self.fail(NO_MONEY)
        self.wait(1)
        known = self.state.circuit("u")
        assert known is not None
        self.assertNotIn("0123456789", json.dumps(known))
        self.assertEqual(len(known["account"]), 8)

    # ------------------------------------------------------------------------------------------- what nobody wrote

    def test_ugly(self) -> None:
        """Whatever stands in the file, the start goes on."""
        self.fail(LIMITED)
        self.fail(DEAD, "other", 5)
        self.wait(1)
        good = self.state.circuit("u")
        assert good is not None
        ugly: list[Any] = [None, "x", -1, 1e400, float("nan"), True, 10**400, [], {}, [1], [None, None], [[], {}]]
        rests: list[Any] = ["x", [1, 2, 3], ["soon", "rate"], [10**400, "rate"], [NOW + 5, []], [float("inf"), "rate"]]
        ugly += [{"m": rest} for rest in rests]
        for name in good:
            for value in ugly:
                self.state._circuits["u"] = {**good, name: value}
                circuit = self.restarted()
                circuit.permit("m")
                self.assertLess(circuit.retry_in("m"), 700.0, (name, value))
                self.make(self.upstream).look()
            del self.state._circuits["u"][name]
            self.restarted().permit("m")
            self.make(self.upstream).look()
        self.state._circuits["u"] = {}
        self.assertEqual(self.restarted().state, "closed")

    def test_long_names(self) -> None:
        """A model of an absurd name, which is the client's own, is not kept; messages are cut."""
        self.fail(attrs.evolve(LIMITED, message="m" * 5000), "x" * 300)
        self.fail(LIMITED, "m")
        self.upstream.circuit.last_failure = attrs.evolve(LIMITED, message="m" * 5000)
        self.wait(1)
        self.assertLess(len(json.dumps(self.state.circuit("u"))), 700)
        self.assertGreater(self.restarted().retry_in("m"), 0)
