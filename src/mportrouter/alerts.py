"""
Alerts: the few things a person should hear of at once, posted as JSON to a webhook.

Nothing here is ever in a request's way: telling is putting into a bounded queue, a slow or dead webhook costs alerts
and nothing else, and no failure of it leaves this module.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from random import random
from typing import Any

import attrs
from treq.client import HTTPClient
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from .agent import read_body
from .money import dollars
from .settings import AlertSettings
from .verdicts import clean

#: Alerts that wait; past this the oldest is dropped.
_QUEUE = 100
#: Bytes of a webhook's answer that are read.
_BODY = 256 * 1024
#: Seconds before the second try; doubles with each, with ±20 % jitter.
_FIRST_DELAY = 1.0
_LONGEST_DELAY = 60.0
#: Seconds that a stop waits for what is still to be sent.
_LAST_WORDS = 5.0

#: Event of a breaker to the name and the words of its alert. The others are for the log.
_EVENTS = {
    "down": ("upstream_down", "{upstream} is down"),
    "up": ("upstream_recovered", "{upstream} has recovered"),
    "auth_failure": ("auth_failure", "{upstream} refuses the key"),
    "money": ("money", "{upstream}: the account's money or quota is used up"),
    "opened": ("circuit_opened", "{upstream}: circuit opened"),
}
#: Of these the newest counts: a suppressed one is made up for, so that the last word is never a wrong one.
_STATES = ("down", "up")


@attrs.define(eq=False)
class _Alert:
    body: bytes
    event: str
    upstream: str
    tries: int = 0


class Alerts(Service):
    """
    Sends alerts, one after the other. Also an :data:`mportrouter.interfaces.EventListener`, as :meth:`event`.

    :param settings: webhook, limits and the time in which the same alert is sent once.
    :param clock: runs the limits and pauses; where no ``client`` is given, the reactor.
    :param client: sends; ``None``: one on the reactor's own connections, with certificates verified.
    :param epoch: tells the time of day.
    :param router: named in each alert, so that several routers can share a channel; ``""``: this host's name.
    """

    _log = Logger()

    def __init__(
        self,
        settings: AlertSettings,
        clock: IReactorTime,
        client: HTTPClient | None = None,
        epoch: Callable[[], float] = time.time,
        router: str = "",
        random: Callable[[], float] = random,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._client = client
        self._epoch = epoch
        self._router = router or socket.gethostname()
        self._random = random
        self._queue: deque[_Alert] = deque()
        self._sending: Deferred[Any] | None = None
        self._pause: IDelayedCall | None = None
        #: When each (event, upstream) was last sent.
        self._sent_at: dict[tuple[str, str], float] = {}
        self._last_state: dict[str, str] = {}
        self._late: dict[str, tuple[str, str]] = {}
        self._late_calls: dict[str, IDelayedCall] = {}
        self._stopping: Deferred[None] | None = None

    # ------------------------------------------------------------------------------------------- telling

    def event(self, upstream: str, event: str, detail: str) -> None:
        """Something happened to an upstream; what deserves an alert becomes one. Never raises."""
        known = _EVENTS.get(event)
        if known is None:
            return
        name, words = known
        try:
            self._tell(event, name, upstream, words.format(upstream=upstream), detail)
        except Exception:  # noqa: BLE001 - whoever tells of a failure must not get another one for it
            self._log.failure("An alert about {upstream} could not be made", upstream=upstream)

    __call__ = event

    def cost_ceiling(self, spent: float, ceiling: float) -> None:
        """
        The spending of the last hour has reached the ceiling. Never raises.

        :param spent: US dollars.
        :param ceiling: US dollars an hour.
        """
        detail = f"{dollars(spent)} spent in the last hour, the ceiling is {dollars(ceiling)}"
        try:
            self._tell("cost_ceiling", "cost_ceiling_reached", "", "cost ceiling reached", detail)
        except Exception:  # noqa: BLE001 - as above
            self._log.failure("An alert about the cost ceiling could not be made")

    def configure(self, settings: AlertSettings) -> None:
        """New webhook or limits; what waits is sent to the new one, or dropped where there is none."""
        self._settings = settings
        if settings.webhook is None:
            self._queue.clear()

    def _tell(self, event: str, name: str, upstream: str, words: str, detail: str) -> None:
        if self._settings.webhook is None or self._stopping is not None:
            return
        now = self._clock.seconds()
        state = event in _STATES
        before = self._sent_at.get((event, upstream))
        if before is not None and now - before < self._settings.quiet:
            if state:
                self._make_up_later(upstream, event, detail, before + self._settings.quiet - now)
            return
        if state:
            if self._last_state.get(upstream) == event:
                return
            self._last_state[upstream] = event
            self._forget_late(upstream)
        self._sent_at[event, upstream] = now
        self._put(name, upstream, words, detail)

    def _make_up_later(self, upstream: str, event: str, detail: str, seconds: float) -> None:
        self._late[upstream] = (event, detail)
        if upstream not in self._late_calls:
            self._late_calls[upstream] = self._clock.callLater(seconds, self._make_up, upstream)

    def _make_up(self, upstream: str) -> None:
        self._late_calls.pop(upstream, None)
        event, detail = self._late.pop(upstream)
        self.event(upstream, event, detail)

    def _forget_late(self, upstream: str) -> None:
        self._late.pop(upstream, None)
        call = self._late_calls.pop(upstream, None)
        if call is not None and call.active():
            call.cancel()

    def _put(self, name: str, upstream: str, words: str, detail: str) -> None:
        detail = clean(detail)
        text = f"mportrouter on {self._router}: {words}" + (f" ({detail})" if detail else "")
        moment = datetime.fromtimestamp(self._epoch(), timezone.utc)
        body = {
            "text": text,  # Slack, Mattermost
            "content": text,  # Discord
            "event": name,
            "upstream": upstream,
            "detail": detail,
            "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "router": self._router,
        }
        if len(self._queue) >= _QUEUE:
            lost = self._queue.popleft()
            self._log.warn(
                "Too many alerts wait; {event} of {upstream} is dropped", event=lost.event, upstream=lost.upstream
            )
        self._queue.append(_Alert(json.dumps(body).encode("ascii"), name, upstream))
        self._next()

    # ------------------------------------------------------------------------------------------- sending

    def stopService(self) -> Deferred[None] | None:
        """One last try for what waits, a few seconds at most in all; then whatever is left is dropped."""
        super().stopService()
        for upstream in list(self._late_calls):
            self._forget_late(upstream)
        if self._sending is None and not self._queue:
            return None
        stopping = self._stopping = Deferred()
        limit = self._clock.callLater(_LAST_WORDS, self._give_up)

        def over(result: Any) -> Any:
            if limit.active():
                limit.cancel()
            self._stopping = None
            return result

        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.cancel()
        self._next()
        return stopping.addBoth(over)

    def _give_up(self) -> None:
        if self._queue:
            self._log.warn("{count} alerts were not sent", count=len(self._queue))
        self._queue.clear()
        if self._sending is not None:
            self._sending.cancel()
        else:
            self._idle()

    def _idle(self) -> None:
        if self._stopping is not None and not self._stopping.called:
            self._stopping.callback(None)

    def _next(self) -> None:
        """Send the oldest alert unless one is being sent or a pause is on."""
        if self._sending is not None or self._pause is not None:
            return
        if not self._queue:
            self._idle()
            return
        alert = self._queue[0]
        alert.tries += 1
        # Held before the result can be there: an answer that comes at once must not start a second sender.
        sending = self._sending = self._post(alert.body)
        sending.addTimeout(self._settings.timeout, self._clock)
        sending.addBoth(self._posted, alert)
        sending.addErrback(lambda failure: self._log.failure("The sending of alerts failed", failure))

    def _post(self, body: bytes) -> Deferred[Any]:
        webhook = self._settings.webhook
        if webhook is None:
            return succeed(None)
        try:
            client = self._client
            if client is None:
                client = self._client = HTTPClient(Agent(self._clock))
            # A redirect would turn the POST into a GET, and the address may be no business of the other host.
            posted = maybeDeferred(
                client.post,
                webhook.value,
                data=body,
                headers=Headers({b"content-type": [b"application/json"], b"user-agent": [b"mportrouter"]}),
                allow_redirects=False,
                unbuffered=True,
            )
        except Exception:  # noqa: BLE001 - an address that is none, no TLS here: all end as a failed try
            return fail(Failure())
        return posted.addCallback(self._drained)

    @staticmethod
    def _drained(response: Any) -> Deferred[int]:
        """Its status, once its body is read and thrown away; of one without end only the beginning."""
        read: Deferred[Any] = read_body(response, _BODY)
        return read.addErrback(lambda failure: failure.trap(ValueError)).addCallback(lambda _: int(response.code))

    def _posted(self, result: Any, alert: _Alert) -> None:
        self._sending = None
        if isinstance(result, Failure):
            # Its type only: the text of such a failure may hold the address, which is a secret.
            again, why = True, result.type.__name__ if result.type is not None else "failure"
        elif result is None or 200 <= result < 300:
            again, why = False, ""
        else:
            again, why = result in (408, 425, 429) or result >= 500, f"HTTP {result}"
        if again and alert.tries < self._settings.tries and self._stopping is None:
            delay = min(_FIRST_DELAY * 2.0 ** (alert.tries - 1), _LONGEST_DELAY) * (0.8 + 0.4 * self._random())
            self._pause = self._clock.callLater(delay, self._pause_over)
            return
        if why:
            self._log.warn(
                "The alert {event} {upstream} was not delivered after {tries} tries: {why}",
                event=alert.event,
                upstream=alert.upstream,
                tries=alert.tries,
                why=why,
            )
        if self._queue and self._queue[0] is alert:
            self._queue.popleft()
        self._next()

    def _pause_over(self) -> None:
        self._pause = None
        self._next()
