"""``GET /v1/models`` and ``/v1/models/{id}``: what a client of a port may ask for, in the client's own dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twisted.internet.defer import Deferred, DeferredList

from ..dialects.known import ANTHROPIC, GEMINI
from ..errors import Kind, RouterError
from ..interfaces import IDialect, ModelRow
from ..ports import PortService
from ..reply import header_text
from ..routing.plans import Attempt
from ..routing.table import AS_IT_CAME
from ..routing.tables import row_for
from ..settings import ModeSettings
from ..upstream import Upstream
from .http1 import Request
from .paths import asker

if TYPE_CHECKING:
    from .site import Fields, Site


class Models:
    """
    Lists the models of a port's mode.

    A mode with one upstream that lists its models in the client's dialect is asked directly. Elsewhere the list is the
    union of what the upstreams' own free lists said last; where a table decides, of that what one of its rows takes,
    after the words of the rows themselves.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._house = site.house

    def listing(self, request: Request, port: PortService, fields: Fields) -> None:
        """Answer the list."""
        mode, dialect = self._site.mode_of(port), _speaker(request, fields)
        upstream = self._sole(mode, dialect)
        if upstream is not None:
            self._site.pass_on(request, upstream, request.path, b"", mode.name)
            return

        def answer(rows: list[ModelRow]) -> None:
            query = {name: values[0] for name, values in parse_qs(request.query.decode("ascii", "replace")).items()}
            self._send(request, mode, dialect.model_list(rows, query))

        self._known(mode).addCallback(answer).addErrback(self._site.failed, request)

    def one(self, request: Request, port: PortService, fields: Fields) -> None:
        """Answer one entry of it."""
        mode, dialect = self._site.mode_of(port), _speaker(request, fields)
        upstream = self._sole(mode, dialect)
        if upstream is not None:
            self._site.pass_on(request, upstream, request.path, b"", mode.name)
            return
        name = unquote(request.path.rpartition(b"/")[2].decode("ascii", "replace"))

        def answer(rows: list[ModelRow]) -> None:
            row = next((row for row in rows if row.id == name), None) or self._by_row(mode, name)
            if row is not None:
                self._send(request, mode, dialect.model_entry(row))
                return
            words = f"model {name!r} is not offered by an upstream of mode {mode.name}"
            self._site.refuse(request, RouterError(Kind.NOT_FOUND, words), dialect=dialect)

        self._known(mode).addCallback(answer).addErrback(self._site.failed, request)

    def _sole(self, mode: ModeSettings, dialect: IDialect) -> Upstream | None:
        """The mode's upstream where it is the only one and answers in the client's own dialect."""
        if len(mode.upstreams) != 1 or mode.table:
            return None
        upstream = self._house.runtime.upstreams[mode.upstreams[0]]
        if not upstream.enabled or not upstream.capabilities.other_paths or upstream.settings.offers:
            return None
        spoken = upstream.settings.dialect
        if dialect in (ANTHROPIC, GEMINI):
            return upstream if spoken == dialect.name else None
        return upstream if spoken not in (ANTHROPIC.name, GEMINI.name) else None

    def _known(self, mode: ModeSettings) -> Deferred[list[ModelRow]]:
        """The models of the mode's upstreams, asking those that have never told theirs."""
        runtime = self._house.runtime
        upstreams = [runtime.upstreams[id] for id in mode.upstreams]
        asked = [
            upstream.probe()
            for upstream in upstreams
            if upstream.enabled and not upstream.lacking_key and not upstream.models and not upstream.settings.offers
        ]
        learnt = DeferredList(asked, consumeErrors=True)

        def union(_: Any) -> list[ModelRow]:
            rows: dict[str, ModelRow] = {}
            if mode.auto_model:
                rows[mode.auto_model] = ModelRow(mode.auto_model, "multirouter")
            for word in [each.match for each in mode.table if each.match and not set(each.match) & set("*?")]:
                row = self._by_row(mode, word)
                if row is not None:
                    rows[word] = row
            for upstream in upstreams:
                for id in (upstream.settings.offers or upstream.models) if upstream.enabled else ():
                    if not mode.table or row_for(mode.table, id) is not None:
                        rows.setdefault(id, self._row(upstream, id, id))
            if not rows.keys() - {mode.auto_model}:
                names = ", ".join(mode.upstreams)
                raise RouterError(Kind.UNAVAILABLE, f"none of {names} has told its models yet", 5.0)
            return list(rows.values())

        return learnt.addCallback(union)

    def _by_row(self, mode: ModeSettings, name: str) -> ModelRow | None:
        """What becomes of a name by the mode's table; ``None`` where no row takes it."""
        row = row_for(mode.table, name)
        if row is None:
            return None
        upstream = self._house.runtime.upstreams[row.upstream]
        if not upstream.enabled or upstream.lacking_key:
            return None
        asked = name if row.model in AS_IT_CAME else row.model or upstream.model_for(name)
        return self._row(upstream, name, asked)

    def _row(self, upstream: Upstream, name: str, asked: str) -> ModelRow:
        """A name that clients may use, with the limits of the model that is asked for then."""
        context = self._house.runtime.context(Attempt(upstream.id, asked, ""))
        return ModelRow(name, upstream.provider_name, 0, context, upstream.capabilities_for(asked).max_output)

    def _send(self, request: Request, mode: ModeSettings, body: bytes) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"request-id", self._site.request_id().encode("ascii")),
            (b"x-mportrouter-mode", header_text(mode.name)),
            (b"x-mportrouter-upstream", b"mportrouter"),
            (b"x-mportrouter-attempts", b"0"),
            (b"x-mportrouter-decision", b"union of the upstreams' lists"),
        ]
        request.respond(200, headers, body)


def _speaker(request: Request, fields: Fields) -> IDialect:
    """The dialect that a list is wanted in."""
    return GEMINI if request.path.startswith(b"/v1beta/") else asker(fields)
