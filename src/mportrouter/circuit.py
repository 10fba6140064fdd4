"""The breaker as a chain of Deferreds: for everything that is not the data path (probes, analyses, commands)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.python.failure import Failure

from .breaker import Breaker, Refusal
from .errors import Kind, RouterError, Verdict
from .verdicts import clean


class CircuitOpen(Exception):
    """
    No call was made: the circuit is open, or the model rests.

    :param upstream_id: whose circuit it is.
    :param refusal: why, and for how long.
    """

    def __init__(self, upstream_id: str, refusal: Refusal) -> None:
        super().__init__(f"{upstream_id}: {refusal.reason}")
        self.refusal = refusal

    @property
    def verdict(self) -> Verdict:
        """What it means to who asked; a circuit learns nothing from a circuit."""
        return Verdict(self.refusal.kind, self.refusal.reason, retry_after=self.refusal.retry_after)


def verdict_of(failure: Failure) -> Verdict:
    """
    What a failed call means.

    An exception that carries its own ``verdict`` is believed; a connection that broke or a time that ran out is the
    network's; anything else is our own mistake (``INTERNAL``), for which no upstream is to blame.
    """
    value: Any = failure.value
    verdict = getattr(value, "verdict", None)
    if isinstance(verdict, Verdict):
        return verdict
    if isinstance(value, RouterError):
        return Verdict(value.kind, clean(value.message), retry_after=value.retry_after)
    # twisted.web wraps what broke a request in a list of failures.
    for reason in getattr(value, "reasons", None) or ():
        if isinstance(reason, Failure):
            inner = verdict_of(reason)
            if inner.kind is not Kind.INTERNAL:
                return inner
    words = clean(str(value)) or type(value).__name__
    if isinstance(value, (DeferredTimeoutError, TimeoutError)):
        return Verdict(Kind.TIMEOUT, words, retry_same=True)
    if isinstance(value, ConnectionRefusedError):
        return Verdict(Kind.NETWORK, "connection refused", retry_same=True)
    if isinstance(value, (ConnectError, ConnectionClosed, DNSLookupError, OSError)):
        return Verdict(Kind.NETWORK, words, retry_same=True)
    return Verdict(Kind.INTERNAL, f"{type(value).__name__}: {words}")


class CircuitBreaker(Breaker):
    """A :class:`~mportrouter.breaker.Breaker` that can also guard a call."""

    def run(
        self,
        f: Callable[..., Any],
        *args: Any,
        model: str = "",
        judge: Callable[[Failure], Verdict] = verdict_of,
        **kwargs: Any,
    ) -> Deferred[Any]:
        """
        Call ``f`` if the circuit allows it, and learn from how that ends.

        :param f: returns a value or a Deferred; is not called while the circuit is open.
        :param model: the model it concerns, ``""`` for none in particular.
        :param judge: says what a failure means.
        :returns: ``f``'s result or failure; fails at once with :class:`CircuitOpen` while open. Cancelling it cancels
            ``f``'s Deferred and counts as nothing learnt.
        """
        permit = self.permit(model)
        if isinstance(permit, Refusal):
            return fail(CircuitOpen(self.upstream_id, permit))
        granted = permit
        inner: Deferred[Any]

        def cancel(_: Deferred[Any]) -> None:
            # Before the call is told: what it fails with then is our doing.
            granted.release()
            inner.cancel()

        outer: Deferred[Any] = Deferred(cancel)

        def succeeded(result: Any) -> None:
            granted.success()
            outer.callback(result)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                granted.release()
            else:
                granted.failure(judge(failure))
            outer.errback(failure)

        def lost(failure: Failure) -> None:
            # A judge or a listener raised: nobody must be left waiting, nor the half-open trial be kept for ever.
            granted.release()
            if not outer.called:
                outer.errback(failure)

        inner = maybeDeferred(f, *args, **kwargs)
        inner.addCallbacks(succeeded, failed).addErrback(lost)
        return outer
