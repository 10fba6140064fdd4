"""``GET /v1/models`` and ``/v1/models/{id}``: what a client of a port may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twisted.internet.defer import Deferred, DeferredList

from ..errors import Kind, RouterError
from ..ports import PortService
from ..settings import ModeSettings
from ..upstream import Upstream
from .http1 import Request

if TYPE_CHECKING:
    from .site import Fields, Site

#: The creation date of a model whose provider does not tell it: the API wants one.
UNKNOWN_DATE = "1970-01-01T00:00:00Z"


class Models:
    """
    Lists the models of a port's mode in the Anthropic shape.

    A mode with one upstream that speaks this shape itself is asked directly. Elsewhere the list is the union of what
    the upstreams' own free lists said last.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._house = site.house

    def listing(self, request: Request, port: PortService, fields: Fields) -> None:
        """Answer ``GET /v1/models``."""
        mode = self._site.mode_of(port)
        upstream = self._sole(mode)
        if upstream is not None:
            self._site.pass_on(request, upstream, b"/v1/models", b"", mode.name)
            return
        self._known(mode).addCallback(lambda ids: self._list(request, ids)).addErrback(self._site.failed, request)

    def one(self, request: Request, port: PortService, fields: Fields) -> None:
        """Answer ``GET /v1/models/{id}``."""
        mode = self._site.mode_of(port)
        id = request.path.rstrip(b"/").rpartition(b"/")[2]
        upstream = self._sole(mode)
        if upstream is not None:
            self._site.pass_on(request, upstream, b"/v1/models/" + id, b"", mode.name)
            return
        name = unquote(id.decode("ascii", "replace"))
        self._known(mode).addCallback(lambda ids: self._one(request, name, ids, mode)).addErrback(
            self._site.failed, request
        )

    def _sole(self, mode: ModeSettings) -> Upstream | None:
        """The mode's upstream where it is the only one and answers in the client's own dialect."""
        if len(mode.upstreams) != 1:
            return None
        upstream = self._house.runtime.upstreams[mode.upstreams[0]]
        return upstream if upstream.provider_name == "anthropic" and upstream.enabled else None

    def _known(self, mode: ModeSettings) -> Deferred[list[str]]:
        """The ids of the mode's upstreams, asking those that have never told theirs."""
        upstreams = [self._house.runtime.upstreams[id] for id in mode.upstreams]
        asked = [upstream.probe() for upstream in upstreams if upstream.enabled and not upstream.models]
        learnt = DeferredList(asked, consumeErrors=True)

        def union(_: Any) -> list[str]:
            ids = list(dict.fromkeys(id for upstream in upstreams if upstream.enabled for id in upstream.models))
            if not ids:
                names = ", ".join(mode.upstreams)
                raise RouterError(Kind.UNAVAILABLE, f"none of {names} has told its models yet", 5.0)
            return ids

        return learnt.addCallback(union)

    def _list(self, request: Request, ids: list[str]) -> None:
        query = parse_qs(request.query.decode("ascii", "replace"))
        after = query.get("after_id", [""])[0]
        if after in ids:
            ids = ids[ids.index(after) + 1 :]
        limit = query.get("limit", ["1000"])[0]
        count = min(1000, max(1, int(limit[:9]))) if limit.isdigit() else 1000
        page = ids[:count]
        self._site.respond_json(
            request,
            200,
            {
                "data": [entry(id) for id in page],
                "has_more": len(ids) > len(page),
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            },
        )

    def _one(self, request: Request, name: str, ids: list[str], mode: ModeSettings) -> None:
        if name not in ids:
            raise RouterError(Kind.NOT_FOUND, f"model {name!r} is not offered by an upstream of mode {mode.name}")
        self._site.respond_json(request, 200, entry(name))


def entry(id: str) -> dict[str, Any]:
    """A model as the Anthropic list has it (required keys of its API description)."""
    return {
        "type": "model",
        "id": id,
        "display_name": id,
        "created_at": UNKNOWN_DATE,
        "capabilities": None,
        "max_input_tokens": None,
        "max_tokens": None,
    }
