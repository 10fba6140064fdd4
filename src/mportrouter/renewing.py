"""
A call whose credential changes: it is asked for first, and once more where the provider refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from .connection import CallFailed
from .errors import Kind, Verdict
from .interfaces import Headers, ICall, ICredential, IResponseSink

Ask = Callable[[Headers, IResponseSink], ICall]


@implementer(ICall, IResponseSink)
class Renewing:
    """
    To whom it serves it is the call; to the call itself it is the sink, and hands on what it hears.

    :param ask: makes the call with the credential's fields.
    :param later: calls a function in the next round of events: the sink hears nothing before the call is begun.
    """

    __slots__ = ("_again", "_ask", "_begun", "_call", "_credential", "_fields", "_later", "_over", "_sink")

    def __init__(
        self, credential: ICredential, ask: Ask, sink: IResponseSink, later: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._credential = credential
        self._ask = ask
        self._sink = sink
        self._later = later
        self._call: ICall | None = None
        self._fields: Headers = ()
        self._again = False
        self._begun = False
        self._over = False

    def begin(self) -> Renewing:
        """Ask as soon as the credential is there: mostly at once."""
        maybeDeferred(self._credential.fields).addCallback(self._go).addErrback(self._failed)
        self._begun = True
        return self

    def _go(self, fields: Headers) -> None:
        if not self._over:
            self._fields = fields
            self._call = self._ask(fields, self)

    def _failed(self, failure: Failure) -> None:
        verdict = getattr(failure.value, "verdict", None)
        if verdict is None:
            verdict = Verdict(Kind.INTERNAL, f"the credential could not be had ({type(failure.value).__name__})")
        if self._begun:
            self._end(CallFailed(verdict))
        else:
            self._later(lambda: self._end(CallFailed(verdict)))

    def _end(self, failure: Exception) -> None:
        if not self._over:
            self._over = True
            self._sink.end(failure)

    # ------------------------------------------------------------------------------------------- the call

    @property
    def transport(self) -> Any:
        """What pauses and resumes the answer, once its head is there."""
        return None if self._call is None else self._call.transport

    @property
    def paused(self) -> bool:
        """Whether the reading of the answer is paused."""
        return self._call is not None and bool(self._call.paused)

    def abort(self) -> None:
        """Close the connection now and tell the sink nothing more."""
        self._over = True
        if self._call is not None:
            self._call.abort()

    # ------------------------------------------------------------------------------------------- the sink

    def response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        call = self._call
        if status == 401 and not self._again and call is not None:
            # The provider may have ended it before its time, or its owner has made another since.
            self._again = True
            self._call = None
            call.abort()
            renewed: Deferred[Headers] = maybeDeferred(self._credential.renew, self._fields)
            renewed.addCallback(self._go).addErrback(self._failed)
            return
        self._sink.response(status, headers)

    def data(self, data: bytes, last: bool = False) -> None:
        self._sink.data(data, last)

    def end(self, failure: Exception | None) -> None:
        if not self._over:
            self._over = True
            self._sink.end(failure)
