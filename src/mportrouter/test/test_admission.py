"""Tests of :mod:`mportrouter.web.admission`: who may ask at all."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..config_words import is_loopback
from ..errors import Kind, RouterError
from ..settings import FrontSettings, Secret
from ..web.admission import Admission

FRONT = FrontSettings(hosts=("router.example",), origins=("https://app.example",))


class HostTests(SynchronousTestCase):
    """The ``Host`` field, against names that an attacker re-binds to this machine."""

    def setUp(self) -> None:
        self.admission = Admission(FRONT, "127.0.0.1")

    def check(self, host: bytes) -> None:
        self.admission.check({b"host": host}, None)

    def test_own_names(self) -> None:
        """Loopback names in every spelling and the configured ones pass, with and without a port."""
        for host in (
            b"localhost",
            b"localhost:8787",
            b"LOCALHOST:1",
            b"127.0.0.1:8787",
            b"127.8.9.10",
            b"[::1]:8787",
            b"a.localhost",
            b"localhost.:80",
            b"router.example",
            b"Router.Example:99",
        ):
            self.check(host)

    def test_others(self) -> None:
        """Every other name is refused, look-alikes among them."""
        for host in (
            b"evil.example",
            b"localhost.evil.example",
            b"127.0.0.1.evil.example",
            b"192.168.0.1",
            b"",
            b"[::2]",
            b"[::1",
            b"evil.example:8787",
            b"\xff",
            b"0x7f.1",
            b"localhost@evil.example",
        ):
            error = self.assertRaises(RouterError, self.check, host)
            self.assertEqual((error.kind, error.status), (Kind.FORBIDDEN, 403), host)

    def test_bound_address(self) -> None:
        """The address that the ports are bound to is a name of the router's too."""
        Admission(FrontSettings(), "192.168.0.7").check({b"host": b"192.168.0.7:8787"}, None)

    def test_no_host(self) -> None:
        """HTTP/1.0 programs may leave it out; a browser never does."""
        self.assertEqual(self.admission.check({}, None), frozenset())

    def test_memory_is_bounded(self) -> None:
        """Many spellings of good names do not fill the memory, and bad ones are not remembered."""
        for number in range(1000):
            self.check(b"localhost:%d" % (number % 60000))
        self.assertLessEqual(len(self.admission._good), 256)

    def test_names(self) -> None:
        """What is loopback is decided by the address, not by how it is written."""
        self.assertTrue(all(is_loopback(name) for name in ("localhost", "::1", "127.0.0.2", "X.LOCALHOST")))
        self.assertFalse(any(is_loopback(name) for name in ("", "::", "0.0.0.0", "10.0.0.1", "localhost.com")))


class OriginTests(SynchronousTestCase):
    """Web pages of other sites."""

    def setUp(self) -> None:
        self.admission = Admission(FRONT, "127.0.0.1")

    def check(self, **fields: bytes) -> None:
        named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
        self.admission.check({b"host": b"localhost", **named}, None)

    def test_own(self) -> None:
        """Origins on this machine and configured ones pass; so do programs, which send none."""
        for origin in (b"http://localhost:3000", b"http://127.0.0.1", b"https://app.example", b"HTTPS://APP.example/"):
            self.check(origin=origin)
        self.check(sec_fetch_site=b"same-origin")

    def test_foreign(self) -> None:
        """Any other origin is refused, ``null`` included."""
        for origin in (
            b"https://evil.example",
            b"null",
            b"https://app.example.evil",
            b"http://app.example",
            b"",
            b"//[",
        ):
            self.assertRaises(RouterError, self.check, origin=origin)

    def test_cross_site(self) -> None:
        """A browser that says "cross-site" is refused even where it sends no origin."""
        self.assertRaises(RouterError, self.check, sec_fetch_site=b"cross-site")


class TokenTests(SynchronousTestCase):
    """The gateway token."""

    TOKEN = Secret("gate")

    def check(self, *fields: tuple[bytes, bytes]) -> frozenset[bytes]:
        return Admission(FRONT, "127.0.0.1").check({b"host": b"localhost", **dict(fields)}, self.TOKEN)

    def test_ways(self) -> None:
        """It is taken from its own field or from where clients put keys; the carrying field is told, to end here."""
        self.assertEqual(self.check((b"x-mportrouter-token", b"gate")), {b"x-mportrouter-token"})
        self.assertEqual(self.check((b"x-api-key", b"gate")), {b"x-api-key"})
        self.assertEqual(self.check((b"authorization", b"bearer gate")), {b"authorization"})

    def test_own_key_beside(self) -> None:
        """A client's own key beside the token is left to go on."""
        self.assertEqual(
            self.check((b"x-mportrouter-token", b"gate"), (b"x-api-key", b"sk-own")), {b"x-mportrouter-token"}
        )

    def test_wrong(self) -> None:
        """No token, a wrong one, and one in the wrong scheme are 401."""
        for fields in (
            (),
            ((b"x-api-key", b"gat"),),
            ((b"authorization", b"Basic gate"),),
            ((b"authorization", b"gate"),),
        ):
            error = self.assertRaises(RouterError, self.check, *fields)
            self.assertEqual((error.kind, error.should_retry), (Kind.UNAUTHENTICATED, False))
