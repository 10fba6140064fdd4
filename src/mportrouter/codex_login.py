"""
The login that the Codex program keeps in a file: read, refreshed before it ends, and written back.

The refresh token is good for one use: whoever uses it must keep the new one, or nobody can log in any more. So the file
is read anew under a lock before a refresh, and written whole before the new token is used. All facts about the file and
the endpoint: the published source of the Codex program (``codex-rs/login``, 0.169.0).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredFilesystemLock, TimeoutError, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .claims import claims_of
from .errors import Kind, Verdict
from .interfaces import ICredential
from .state import write_atomically

Post = Callable[[str, bytes], "Deferred[tuple[int, bytes]]"]
"""Posts JSON to a URL: status and body of the answer."""

#: The client id of the Codex program; public, as in every native application (RFC 8252 §8.5).
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
#: Seconds before its end at which a token is refreshed.
MARGIN = 300.0
#: Seconds after which a token that does not say its end is refreshed, counted from ``last_refresh``.
LIFETIME = 8 * 86400.0
#: Seconds between two tries at a refresh that failed for a reason that can pass.
PAUSE = 30.0
_TIMEOUT = 30.0  # of one refresh
_LOCK_TIMEOUT = 15.0
_LARGEST = 1 << 20  # bytes of the file
_ACCOUNT = "https://api.openai.com/auth"  # the claim that holds the account
#: Refusals that no later try can change.
_FINAL = frozenset(["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"])

Fields = Sequence[tuple[bytes, bytes]]


class LoginFailed(Exception):
    """:param verdict: why there is no token, in words for the person at the client."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


@attrs.frozen
class _Login:
    """
    What the file held.

    :param mark: tells this state of the file from others.
    :param ends: seconds since the epoch.
    """

    mark: tuple[int, ...]
    content: Mapping[str, Any] = attrs.field(repr=False)
    access: str = attrs.field(repr=False)
    refresh: str = attrs.field(repr=False)
    account: str
    ends: float

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        fields = [(b"authorization", b"Bearer " + self.access.encode("ascii"))]
        if self.account:
            fields.append((b"chatgpt-account-id", self.account.encode("ascii")))
        return fields


@implementer(ICredential)
class CodexLogin:
    """
    :param path: of the file; ``~`` at its beginning is the user's home.
    :param token_url: where the login is refreshed.
    :param post: sends the refresh.
    :param clock: for the limits on it.
    :param epoch: tells the time of day, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        token_url: str,
        post: Post,
        clock: IReactorTime,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        # The file may be a link; what it points to is replaced, not the link.
        self._path = os.path.realpath(os.path.expanduser(path))
        self._shown = path
        self._token_url = token_url
        self._post = post
        self._clock = clock
        self._epoch = epoch
        self._login: _Login | None = None
        self._waiting: list[Deferred[_Login]] | None = None
        self._not_before = 0.0
        self._failure: Verdict | None = None
        #: The state of the file whose refresh token is of no use any more.
        self._dead: tuple[int, ...] | None = None

    # ------------------------------------------------------------------------------------------- what is asked

    def fields(self) -> list[tuple[bytes, bytes]] | Deferred[list[tuple[bytes, bytes]]]:
        """:raises LoginFailed: there is none, and no refresh can make one."""
        login = self._current()
        now = self._epoch()
        if now < login.ends - MARGIN:
            return login.fields
        return self._refreshed(login).addCallbacks(_fields, self._still, errbackArgs=(login,))

    def renew(self, refused: Fields) -> list[tuple[bytes, bytes]] | Deferred[list[tuple[bytes, bytes]]]:
        """:raises LoginFailed: as :meth:`fields`."""
        login = self._current()
        if list(refused) != login.fields:
            return login.fields  # somebody has made a new one meanwhile
        return self._refreshed(login).addCallback(_fields)

    def _still(self, failure: Failure, login: _Login) -> list[tuple[bytes, bytes]]:
        """A refresh failed; the token that is there is good until its end."""
        failure.trap(LoginFailed)
        if self._epoch() >= login.ends:
            failure.raiseException()
        return login.fields

    # ------------------------------------------------------------------------------------------- the file

    def _current(self) -> _Login:
        """What the file holds now. Looking whether it has changed is one system call."""
        mark = self._mark()
        login = self._login
        if login is None or (mark is not None and login.mark != mark):
            login = self._login = self._read()
            self._not_before = 0.0
        return login

    def _mark(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> _Login:
        mark = self._mark()
        try:
            with open(self._path, "rb") as file:
                content = json.loads(file.read(_LARGEST))
        except FileNotFoundError:
            raise self._refusal("there is no login at {path}")
        except (OSError, ValueError, RecursionError) as error:
            raise self._refusal(f"the login at {{path}} cannot be read ({type(error).__name__})")
        tokens = content.get("tokens") if isinstance(content, dict) else None
        if not isinstance(tokens, dict):
            raise self._refusal("{path} holds no login of a ChatGPT plan (an API key is for the provider 'openai')")
        access, refresh = _token(tokens.get("access_token")), _token(tokens.get("refresh_token"))
        if not access:
            raise self._refusal("the login at {path} has no access token")
        return _Login(
            mark or (), content, access, refresh, _account(tokens), _ends(access, content.get("last_refresh"))
        )

    def _refusal(self, words: str) -> LoginFailed:
        message = f"{words.format(path=self._shown)}; run `codex login`"
        return LoginFailed(Verdict(Kind.AUTH, message, account=True))

    # ------------------------------------------------------------------------------------------- refreshing

    def _refreshed(self, login: _Login) -> Deferred[_Login]:
        """The login after a refresh; there is one under way at most, which everybody waits for."""
        now = self._epoch()
        barred = login.mark == self._dead or now < self._not_before
        if self._waiting is None and self._failure is not None and barred:
            return fail(LoginFailed(self._failure))
        done: Deferred[_Login] = Deferred()
        if self._waiting is not None:
            self._waiting.append(done)
            return done
        self._waiting = [done]
        Deferred.fromCoroutine(self._refresh(login)).addBoth(self._settle)
        return done

    def _settle(self, result: _Login | Failure) -> None:
        waiting, self._waiting = self._waiting, None
        if isinstance(result, Failure):
            error = result.value
            if not isinstance(error, LoginFailed):
                self._log.failure("The login could not be refreshed", result)
                words = f"the ChatGPT login could not be refreshed ({type(error).__name__})"
                error = LoginFailed(Verdict(Kind.INTERNAL, words))
                result = Failure(error)
            self._failure = error.verdict
            self._not_before = self._epoch() + PAUSE
        else:
            self._failure = self._dead = None
            self._login = result
        for done in waiting or ():
            if done.called:
                continue  # whoever waited has left
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(result)

    async def _refresh(self, login: _Login) -> _Login:
        lock = DeferredFilesystemLock(f"{self._path}.lock", scheduler=self._clock)
        try:
            await lock.deferUntilLocked(_LOCK_TIMEOUT)
        except (OSError, TimeoutError) as error:
            raise _passing(f"its lock could not be had ({type(error).__name__})")
        try:
            return await self._exchange(login)
        finally:
            lock.unlock()

    async def _exchange(self, login: _Login) -> _Login:
        """One refresh token for new tokens. The lock is held."""
        found = self._read()
        if found.mark == login.mark:
            found = login  # what it holds may be newer than the file, where that could not be written
        elif found.access != login.access and self._epoch() < found.ends - MARGIN:
            return found  # another process was faster
        if not found.refresh:
            self._dead = found.mark
            raise self._refusal("the login at {path} has ended")
        asked = {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": found.refresh}
        try:
            post = self._post(self._token_url, json.dumps(asked).encode("ascii"))
            status, body = await post.addTimeout(_TIMEOUT, self._clock)
        except (CancelledError, TimeoutError):
            raise _passing("no answer in time")
        except Exception as error:  # noqa: BLE001 - no connection, no TLS, a broken answer: all can pass
            raise _passing(type(error).__name__)
        if status == 200:
            return self._keep(found, body)
        if status in (400, 401, 403) and _code(body) in _FINAL:
            again = self._read()
            if again.mark != found.mark:
                return again  # the one who used the token up has just written its successor
            self._dead = found.mark
            raise self._refusal("the login at {path} has ended")
        raise _passing(f"HTTP {status}")

    def _keep(self, found: _Login, body: bytes) -> _Login:
        """Write the new tokens, and only then use them."""
        try:
            told = json.loads(body)
            given = {name: told[name] for name in ("id_token", "access_token", "refresh_token") if told.get(name)}
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise _passing("an answer that is none")
        if not _token(given.get("access_token")):
            raise _passing("an answer without a token")
        now = datetime.fromtimestamp(self._epoch(), timezone.utc).isoformat().replace("+00:00", "Z")
        content = {**found.content, "tokens": {**found.content["tokens"], **given}, "last_refresh": now}
        try:
            write_atomically(self._path, json.dumps(content, indent=2).encode("utf-8"))
            return self._read()
        except OSError as error:
            self._log.error(
                "The new login cannot be written to {path}: {error}. It holds until the router stops, then the file is "
                "of no use any more: run `codex login`.",
                path=self._shown,
                error=str(error),
            )
        tokens = content["tokens"]
        access = _token(tokens["access_token"])
        refresh = _token(tokens.get("refresh_token"))
        return _Login(found.mark, content, access, refresh, _account(tokens), _ends(access, now))


def _fields(login: _Login) -> list[tuple[bytes, bytes]]:
    return login.fields


def _passing(why: str) -> LoginFailed:
    """A failure that the next try may not meet: it says nothing against the account."""
    words = f"the ChatGPT login could not be refreshed: {why}; if that stays so, run `codex login`"
    return LoginFailed(Verdict(Kind.NETWORK, words))


def _token(value: object) -> str:
    """A token that can travel in a header field, else ``""``."""
    fits = isinstance(value, str) and all(33 <= ord(sign) <= 126 for sign in value)
    return value if fits and isinstance(value, str) else ""


def _account(tokens: Mapping[str, Any]) -> str:
    """The account that is asked for, as the file says, else the tokens."""
    said = _token(tokens.get("account_id"))
    for name in ("id_token", "access_token"):
        if not said:
            claim = claims_of(_token(tokens.get(name))).get(_ACCOUNT)
            said = _token(claim.get("chatgpt_account_id")) if isinstance(claim, dict) else ""
    return said


def _ends(access: str, last_refresh: object) -> float:
    """When an access token ends, in seconds since the epoch."""
    end = claims_of(access).get("exp")
    if isinstance(end, (int, float)) and not isinstance(end, bool):
        return float(end)
    try:
        began = datetime.fromisoformat(str(last_refresh)[:19])  # seconds will do, and it is UTC
    except ValueError:
        return 0.0
    return began.replace(tzinfo=timezone.utc).timestamp() + LIFETIME


def _code(body: bytes) -> str:
    """What a refusal calls itself: ``{"error": {"code": …}}``, ``{"error": "…"}`` or ``{"code": …}``."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(told, dict):
        error = told.get("error", told)
        code = error.get("code") if isinstance(error, dict) else error
        return code if isinstance(code, str) else ""
    return ""
