"""
Counting the tokens of a request: by the upstream that would be asked, else by an estimate.

Never a generation, never a count at a circuit, and never zero: clients believe the number and never make room then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..agent import read_body
from ..crossing import Crossing
from ..dialects.known import DIALECTS
from ..errors import RouterError
from ..interfaces import IDialect, Look, Target
from ..ports import PortService
from ..reply import header_text
from ..routing.plans import Attempt
from ..settings import ModeSettings
from ..upstream import Upstream
from .http1 import Request

if TYPE_CHECKING:
    from .site import Fields, Site

#: Seconds that a counter of another dialect gets before the estimate stands in.
_PATIENCE = 10.0
#: Bytes of its answer that are read.
_ANSWER_LIMIT = 64 * 1024


class Counting:
    """Answers requests for the number of tokens, in one dialect."""

    _log = Logger()

    def __init__(self, site: Site, dialect: IDialect) -> None:
        self._site = site
        self._house = site.house
        self._dialect = dialect

    def answer(self, request: Request, port: PortService, fields: Fields) -> None:
        """:raises RouterError: for a request that cannot be read."""
        dialect, body = self._dialect, self._site.plain_body(request, fields)
        runtime = self._house.runtime
        look = dialect.look(body, request.path, request.query)
        mode = self._site.mode_of(port, dialect.session(fields, body) if self._house.state.has_sessions else "")
        upstreams = [runtime.upstreams[id] for id in mode.upstreams]
        counters = []
        for upstream in upstreams:
            attempt = Attempt(upstream.id, upstream.model_for(look.model), "")
            target = runtime.target(attempt)
            if not upstream.enabled or not target.capabilities.count_tokens:
                continue
            back = DIALECTS[upstream.settings.dialect]
            path = back.count_path(target)
            if path is None:
                continue
            if back is dialect:
                prepared = dialect.prepare(body, look, target)
                self._site.pass_on(request, upstream, path, prepared.body, mode.name)
                return
            counters.append((upstream, back, target, path))
        self._site.begin()
        crossing = Crossing(dialect, body, look, self._site.request_id(), self._house.epoch())
        asked = Deferred.fromCoroutine(self._count(crossing, counters, upstreams, look))
        request.on_gone = asked.cancel
        asked.addCallback(self._send, request, mode)
        asked.addErrback(self._failed, request)
        asked.addBoth(lambda _: self._site.ended())

    async def _count(
        self,
        crossing: Crossing,
        counters: list[tuple[Upstream, IDialect, Target, bytes]],
        upstreams: list[Upstream],
        look: Look,
    ) -> tuple[int, str]:
        """:returns: tokens, and who says so."""
        for upstream, back, target, path in counters:
            try:
                return await self._ask(crossing, upstream, back, target, path), upstream.id
            except RouterError as error:
                # What cannot be said there can still be estimated.
                self._log.debug("{id} cannot count: {why}", id=upstream.id, why=error.message)
            except Exception as error:  # noqa: BLE001 - whatever broke, the estimate stands in
                self._log.info("{id} did not count: {why}", id=upstream.id, why=type(error).__name__)
        first = next((upstream for upstream in upstreams if upstream.enabled), upstreams[0])
        runtime = self._house.runtime
        attempt = Attempt(first.id, first.model_for(look.model), "")
        return max(1, runtime.estimate_conversation(attempt, crossing.conversation, look.size)), "estimate"

    async def _ask(
        self, crossing: Crossing, upstream: Upstream, back: IDialect, target: Target, path: bytes
    ) -> int:
        prepared = back.write_count(crossing.conversation, target)
        fields = [(b"content-type", b"application/json")]
        headers: dict[bytes | str, list[bytes | str]] = {}
        for name, value in upstream.headers_for(fields, translated=True):
            headers.setdefault(name, []).append(value)
        asked = Deferred.fromCoroutine(_read(upstream, upstream.url_for(path), prepared.body, headers))
        return back.read_count(await asked.addTimeout(_PATIENCE, self._house.clock))

    def _send(self, result: tuple[int, str], request: Request, mode: ModeSettings) -> None:
        request.on_gone = None
        tokens, source = result
        headers = [
            (b"content-type", b"application/json"),
            (b"request-id", self._site.request_id().encode("ascii")),
            (b"x-mportrouter-mode", header_text(mode.name)),
            (b"x-mportrouter-upstream", header_text("mportrouter" if source == "estimate" else source)),
            (b"x-mportrouter-attempts", b"0" if source == "estimate" else b"1"),
            (b"x-mportrouter-decision", b"estimated" if source == "estimate" else b"counted"),
        ]
        request.respond(200, headers, self._dialect.count_answer(tokens))

    def _failed(self, failure: Failure, request: Request) -> None:
        if not request.gone:
            self._site.failed(failure, request)


async def _read(upstream: Upstream, url: str, body: bytes, headers: dict[bytes | str, list[bytes | str]]) -> bytes:
    """:raises ValueError: for anything but a 200."""
    response = await upstream.client.post(url, data=body, headers=headers, allow_redirects=False, unbuffered=True)
    text = await read_body(response, _ANSWER_LIMIT)
    if response.code != 200:
        raise ValueError(f"HTTP {response.code}")
    return text
