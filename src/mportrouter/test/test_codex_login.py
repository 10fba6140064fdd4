"""Tests for :mod:`mportrouter.codex_login`."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from .. import codex_login
from ..codex_login import CLIENT_ID, LIFETIME, MARGIN, PAUSE, CodexLogin, LoginFailed
from ..errors import Kind
from ..interfaces import ICredential
from .test_claims import token

NOW = 1_800_000_000.0
URL = "http://127.0.0.1:9/oauth/token"


def access(name: str, ends: float | None) -> str:
    """An access token that tells tokens apart by a name."""
    return token({"name": name} | ({} if ends is None else {"exp": int(ends)}))


class LoginTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        self.path = os.path.join(folder, "auth.json")
        self.now = NOW
        self.clock = Clock()
        self.posts: list[tuple[str, dict[str, Any], Deferred[tuple[int, bytes]]]] = []
        self.login = self.make()

    def make(self) -> CodexLogin:
        return CodexLogin(self.path, URL, self.post, self.clock, lambda: self.now)

    def post(self, url: str, body: bytes) -> Deferred[tuple[int, bytes]]:
        answer: Deferred[tuple[int, bytes]] = Deferred()
        self.posts.append((url, json.loads(body), answer))
        return answer

    def write(self, name: str = "one", ends: float | None = NOW + 3600, **more: Any) -> str:
        """Put a login into the file; its access token."""
        fresh = access(name, ends)
        tokens = {"id_token": "i", "access_token": fresh, "refresh_token": f"r-{name}", "account_id": "acc"}
        content = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens | more.pop("tokens", {})}
        with open(self.path, "w") as file:
            json.dump(content | more, file)
        # Two writes within one tick of the file system's clock differ in nothing else.
        stamp = int((NOW + len(name)) * 1e9)
        os.utime(self.path, ns=(stamp, stamp))
        return fresh

    def read(self) -> Any:
        with open(self.path) as file:
            return json.load(file)

    def answer(self, name: str = "two", ends: float | None = NOW + 7200, status: int = 200, **more: Any) -> str:
        """Answer the refresh that is under way; the new access token."""
        fresh = access(name, ends)
        body = {"access_token": fresh, "refresh_token": f"r-{name}", "id_token": f"i-{name}"} | more
        self.posts[-1][2].callback((status, json.dumps(body).encode()))
        return fresh

    def refuse(self, code: str, status: int = 401) -> None:
        self.posts[-1][2].callback((status, json.dumps({"error": {"code": code, "message": "m"}}).encode()))

    def fields(self, fresh: str) -> Any:
        return [(b"authorization", b"Bearer " + fresh.encode()), (b"chatgpt-account-id", b"acc")]

    def failure(self, of: Any) -> Any:
        return self.failureResultOf(of, LoginFailed).value.verdict


class FileTests(LoginTestCase):
    """What the file says."""

    def test_fields(self) -> None:
        """A token that is good for a while is given at once, with the account, and nothing is asked for."""
        fresh = self.write()
        verifyObject(ICredential, self.login)
        self.assertEqual(self.login.fields(), self.fields(fresh))
        self.assertEqual(self.login.fields(), self.fields(fresh))
        self.assertEqual(self.posts, [])

    def test_changed(self) -> None:
        """A new login in the file is noticed."""
        self.write()
        self.login.fields()
        other = self.write("three", tokens={"account_id": "acc"})
        self.assertEqual(self.login.fields(), self.fields(other))

    def test_account(self) -> None:
        """Where the file does not name the account, the tokens do; where nobody does, none is named."""
        claims = {"https://api.openai.com/auth": {"chatgpt_account_id": "from-token"}}
        self.write(tokens={"account_id": None, "id_token": token(claims)})
        self.assertIn((b"chatgpt-account-id", b"from-token"), self.login.fields())
        self.write("other", tokens={"account_id": None})
        (only,) = self.login.fields()
        self.assertEqual(only[0], b"authorization")

    def test_no_login(self) -> None:
        """A file that is not there, or holds no login, is a refused account that says what to do."""
        contents = (
            None,
            b"",
            b"[]",
            b"{",
            b"[" * 100000,
            b"\xff",
            b'{"OPENAI_API_KEY": "sk-secret", "tokens": null}',
            b'{"tokens": {}}',
            b'{"tokens": {"access_token": "a\\r\\nb: c"}}',
            b'{"tokens": {"access_token": 5}}',
        )
        for content in contents:
            if content is not None:
                with open(self.path, "wb") as file:
                    file.write(content)
            verdict = self.assertRaises(LoginFailed, self.make().fields).verdict
            self.assertEqual((verdict.kind, verdict.account), (Kind.AUTH, True))
            self.assertIn("run `codex login`", verdict.message)
            self.assertNotIn("secret", verdict.message)

    def test_appears(self) -> None:
        """A login that is made later is found without a restart."""
        self.assertRaises(LoginFailed, self.login.fields)
        fresh = self.write()
        self.assertEqual(self.login.fields(), self.fields(fresh))

    def test_vanishes(self) -> None:
        """A file that is away for a moment takes nothing from the login that was read."""
        fresh = self.write()
        self.login.fields()
        os.unlink(self.path)
        self.assertEqual(self.login.fields(), self.fields(fresh))

    def test_not_shown(self) -> None:
        """No token is in what anything prints."""
        fresh = self.write()
        self.login.fields()
        shown = repr(self.login) + repr(vars(self.login)) + repr(self.login._login)
        for secret in (fresh, "r-one"):
            self.assertNotIn(secret, shown)


class RefreshTests(LoginTestCase):
    """A login that is about to end."""

    def test_refresh(self) -> None:
        """It is refreshed before its end; what is sent waits for the new token, which is in the file by then."""
        self.write(ends=NOW + MARGIN - 1, last_refresh="2026-01-01T00:00:00Z", unknown={"kept": [1]})
        waiting = self.login.fields()
        self.assertNoResult(waiting)
        ((url, asked, _),) = self.posts
        self.assertEqual(url, URL)
        self.assertEqual(asked, {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": "r-one"})
        fresh = self.answer()
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))
        content = self.read()
        tokens = {"id_token": "i-two", "access_token": fresh, "refresh_token": "r-two", "account_id": "acc"}
        self.assertEqual(content["tokens"], tokens)
        self.assertEqual((content["unknown"], content["auth_mode"]), ({"kept": [1]}, "chatgpt"))
        self.assertEqual(content["last_refresh"], "2027-01-15T08:00:00Z")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["auth.json"])
        self.assertEqual(self.login.fields(), self.fields(fresh))
        self.assertEqual(len(self.posts), 1)

    def test_single_flight(self) -> None:
        """However many ask meanwhile, one refresh is under way; one who leaves takes nothing from the others."""
        self.write(ends=NOW - 5)
        waiting = [self.login.fields() for _ in range(3)]
        waiting[1].cancel()
        self.failureResultOf(waiting[1])
        fresh = self.answer()
        self.assertEqual(len(self.posts), 1)
        self.assertEqual(self.successResultOf(waiting[0]), self.fields(fresh))
        self.assertEqual(self.successResultOf(waiting[2]), self.fields(fresh))

    def test_partial_answer(self) -> None:
        """Tokens that the answer does not name stay as they were."""
        self.write(ends=NOW)
        waiting = self.login.fields()
        fresh = self.answer(refresh_token=None, id_token=None)
        self.successResultOf(waiting)
        self.assertEqual(self.read()["tokens"]["refresh_token"], "r-one")
        self.assertEqual(self.read()["tokens"]["access_token"], fresh)

    def test_without_end(self) -> None:
        """A token that does not say its end is refreshed some days after the last time."""
        self.write(ends=None, last_refresh="2027-01-15T07:59:59.123456789Z")
        self.assertIsInstance(self.login.fields(), list)
        self.now += LIFETIME - MARGIN
        self.assertNoResult(self.login.fields())
        self.write("other", ends=None, last_refresh="yesterday")
        self.assertNoResult(self.make().fields())

    def test_link(self) -> None:
        """A file that is a link stays one."""
        self.write(ends=NOW)
        link = self.path + "-link"
        os.symlink(os.path.abspath(self.path), link)
        waiting = CodexLogin(link, URL, self.post, self.clock, lambda: self.now).fields()
        fresh = self.answer()
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))
        self.assertTrue(os.path.islink(link))
        self.assertEqual(self.read()["tokens"]["access_token"], fresh)

    def test_another_process(self) -> None:
        """A login that another process has refreshed meanwhile is taken from the file; nothing is asked for."""
        self.write(ends=NOW)
        holder = self.make()
        holding = holder.fields()
        waiting = self.login.fields()
        self.assertEqual(len(self.posts), 1)  # the other one waits for the lock
        fresh = self.answer()
        self.successResultOf(holding)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))
        self.assertEqual(len(self.posts), 1)

    def test_lock_is_never_free(self) -> None:
        """A lock that is held too long is a failure that can pass."""
        self.write(ends=NOW)
        self.make().fields()
        waiting = self.login.fields()
        for _ in range(20):
            self.clock.advance(1)
        self.assertEqual(self.failure(waiting).kind, Kind.NETWORK)

    def test_renew(self) -> None:
        """A token that the provider refuses is renewed, whatever it says of its end."""
        old = self.fields(self.write())
        self.assertEqual(self.login.fields(), old)
        waiting = self.login.renew(old)
        fresh = self.answer()
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))

    def test_renewed_already(self) -> None:
        """A refusal of a token that is not the present one is answered with that."""
        old = self.fields(self.write())
        self.login.fields()
        fresh = self.write("three")
        self.assertEqual(self.login.renew(old), self.fields(fresh))
        self.assertEqual(self.posts, [])


class FailureTests(LoginTestCase):
    """A refresh that fails."""

    def test_final(self) -> None:
        """A refresh token that is of no use any more is not tried again until the file changes."""
        for code in ("refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"):
            self.write(code, ends=NOW)
            before = len(self.posts)
            waiting = self.login.fields()
            self.refuse(code, 400 if code == "invalid_grant" else 401)
            verdict = self.failure(waiting)
            self.assertEqual((verdict.kind, verdict.account), (Kind.AUTH, True))
            self.assertIn("run `codex login`", verdict.message)
            self.now += 10 * PAUSE
            self.assertEqual(self.failure(self.login.fields()), verdict)
            self.assertEqual(len(self.posts), before + 1)
        fresh = self.write("after a new login", ends=self.now + 3600)
        self.assertEqual(self.login.fields(), self.fields(fresh))

    def test_codes(self) -> None:
        """The refusal's name is found in every form that it has."""
        for body in (b'{"error": "x_y"}', b'{"code": "x_y"}', b'{"error": {"code": "x_y"}}'):
            self.assertEqual(codex_login._code(body), "x_y")
        for body in (b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {"code": 5}}', b"[" * 99999):
            self.assertEqual(codex_login._code(body), "")

    def test_passing(self) -> None:
        """Anything else can pass: it says nothing against the account, and is tried again after a while."""
        self.write(ends=NOW)
        answers = (
            (500, b"oops"),
            (429, b"{}"),
            (401, b'{"error": {"code": "odd"}}'),
            (200, b"<html>"),
            (200, b"{}"),
            (200, b'{"access_token": "a b"}'),
            (200, b"[]"),
            RuntimeError("secret"),
        )
        for number, answer in enumerate(answers, 1):
            waiting = self.login.fields()
            self.assertEqual(len(self.posts), number)
            if isinstance(answer, Exception):
                self.posts[-1][2].errback(answer)
            else:
                self.posts[-1][2].callback(answer)
            verdict = self.failure(waiting)
            self.assertEqual((verdict.kind, verdict.account), (Kind.NETWORK, False))
            self.assertIn("`codex login`", verdict.message)
            self.assertNotIn("secret", verdict.message)
            self.assertEqual(self.failure(self.login.fields()), verdict)
            self.assertEqual(len(self.posts), number)
            self.now += PAUSE + 1
        self.assertEqual(self.read()["tokens"]["refresh_token"], "r-one")

    def test_silent(self) -> None:
        """An endpoint that does not answer is left."""
        self.write(ends=NOW)
        waiting = self.login.fields()
        self.clock.advance(31)
        self.assertIn("no answer in time", self.failure(waiting).message)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["auth.json"])

    def test_still_good(self) -> None:
        """A failure before the token's end costs nothing: it is sent until then."""
        fresh = self.write(ends=NOW + 10)
        waiting = self.login.fields()
        self.refuse("refresh_token_expired")
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))
        self.assertEqual(self.successResultOf(self.login.fields()), self.fields(fresh))
        self.now += 11
        self.assertEqual(self.failure(self.login.fields()).kind, Kind.AUTH)
        self.assertEqual(len(self.posts), 1)

    def test_used_by_another(self) -> None:
        """A token that another program has just used up is no failure: its successor is in the file."""
        self.write(ends=NOW)
        waiting = self.login.fields()
        fresh = self.write("by another program")
        self.refuse("refresh_token_reused")
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))

    def test_no_refresh_token(self) -> None:
        """A login that cannot be refreshed holds until its end."""
        fresh = self.write(ends=NOW + 10, tokens={"refresh_token": None})
        self.assertEqual(self.successResultOf(self.login.fields()), self.fields(fresh))
        self.now += 11
        self.assertIn("run `codex login`", self.failure(self.login.fields()).message)
        self.assertEqual(self.posts, [])

    def test_not_written(self) -> None:
        """New tokens that cannot be written are used and refreshed all the same; the log says what follows."""
        self.write(ends=NOW)

        def full(path: str, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        self.patch(codex_login, "write_atomically", full)
        waiting = self.login.fields()
        with capturedLogs() as events:
            fresh = self.answer()
        self.assertEqual(self.successResultOf(waiting), self.fields(fresh))
        self.assertEqual(len([event for event in events if "No space" in event.get("error", "")]), 1)
        self.assertNotIn(fresh, repr(events))
        self.now = NOW + 7200
        waiting = self.login.fields()
        self.assertEqual(self.posts[-1][1]["refresh_token"], "r-two")
        self.answer("three")

    def test_own_mistake(self) -> None:
        """A mistake of the router's own is logged, and blames nobody."""
        self.write(ends=NOW)

        def broken(login: object) -> None:
            raise RuntimeError("oops")

        self.patch(self.login, "_exchange", broken)
        self.assertEqual(self.failure(self.login.fields()).kind, Kind.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
