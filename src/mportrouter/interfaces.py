"""
The joints of the house. A docstring here is the contract; a class that implements one is checked with ``verifyObject``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from zope.interface import Attribute, Interface

from .conversation import Conversation, Tool
from .errors import Kind, RouterError, Verdict
from .events import Event
from .records import ExchangeRecord, Usage
from .settings import Capabilities

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in order; names as they came or are to be sent, compared without regard to case."""


# ---------------------------------------------------------------------------------------------------- values


@attrs.define(slots=True)
class Look:
    """
    What a cheap look at a request body tells: just what routing needs.

    :param model: the model the client asks for.
    :param stream: whether it wants events.
    :param needs: names of :class:`Capabilities` columns that the answer depends on (``stop_sequences`` …).
    :param max_output: ``max_tokens``, or ``None``.
    :param size: bytes of the body.
    :param rewrite: the answer must be written anew even where the upstream speaks the same dialect (a stream wanted
        in a form that the upstream is not asked for).
    """

    model: str
    stream: bool
    needs: frozenset[str]
    max_output: int | None
    size: int
    rewrite: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen
class Target:
    """
    Whom a body is prepared for.

    :param provider: the provider's name (the one that signs its thinking blocks).
    :param model: the model to ask for.
    """

    provider: str
    model: str
    capabilities: Capabilities


@attrs.frozen
class Prepared:
    """
    A body ready for an upstream.

    :param body: the client's own bytes (the very object) where nothing had to change.
    :param dropped: what was left out or changed in meaning, each a short text for ``x-mportrouter-dropped``: the name
        of the member as the client spelt it, and what became of it where it was not just left out (``temperature=1``).
    :param path: where it is sent, beginning with ``/v1`` and a slash or the like; ``b""``: the dialect's own
        :attr:`IDialect.path`.
    :param query: without the question mark; ``None``: the client's own.
    :param names: the tools by the names under which the upstream knows them, where those differ from the client's, or
        where a call must come back as something else than a function's (custom tools, namespaces).
    """

    body: bytes
    dropped: tuple[str, ...] = ()
    path: bytes = b""
    query: bytes | None = None
    names: Mapping[str, Tool] = attrs.field(factory=dict)


@attrs.define(slots=True)
class Ending:
    """
    How an answer ended.

    :param complete: its dialect's own end was seen (``message_stop``, or a whole JSON object).
    :param usage: what it used, or ``None`` where the provider told nothing.
    :param error: an error that came inside the answer, or ``None``.
    :param model: the model that the answer names, or ``None``.
    """

    complete: bool
    usage: Usage | None
    error: Verdict | None
    model: str | None = None


@attrs.frozen
class RoutingText:
    """
    What the ``interactive`` strategy judges.

    :param text: the last person's turn, wrappings removed; ``""`` where there is none.
    :param turn_key: names the conversation up to and including that turn: it stays the same through the tool loop that
        follows, however the client moves its cache marks, and changes with the next thing the person says.
    :param tool_count: tools offered.
    :param message_count: messages in all.
    :param images: whether that turn shows pictures or documents.
    :param system_size: bytes of the system prompt.
    :param goes_on: the turn is under way: after the person's words come the assistant's calls and their results.
    """

    text: str
    turn_key: str
    tool_count: int
    message_count: int
    images: bool
    system_size: int
    goes_on: bool = False


@attrs.frozen
class AnswerContext:
    """
    What the answer to a translated request is read and written with.

    :param conversation: what was asked.
    :param target: who answers.
    :param names: :attr:`Prepared.names` of what was sent.
    :param request_id: names the exchange; ids that a writer makes up come from it, so that they are the same again.
    :param created: seconds since the epoch, constant over the answer.
    :param estimate: tokens that the prompt may have, for clients that are told at the start.
    """

    conversation: Conversation
    target: Target
    request_id: str
    created: int
    names: Mapping[str, Tool] = attrs.field(factory=dict)
    estimate: int = 0


@attrs.frozen
class ModelRow:
    """
    A model that a port offers.

    :param owner: its provider, ``""`` where several have it.
    :param created: seconds since the epoch, 0 where unknown.
    :param context: tokens that it takes, or ``None``.
    :param max_output: tokens that it gives, or ``None``.
    """

    id: str
    owner: str = ""
    created: int = 0
    context: int | None = None
    max_output: int | None = None


class Inexpressible(RouterError):
    """
    The target's dialect or model cannot say what the client asked for, and leaving it out would change the meaning.

    Another upstream of the plan may; where none can, the client gets it as its 400. The message names the member.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Kind.BAD_REQUEST, message)


class IEventReader(Interface):
    """
    Reads an upstream's answer into neutral events, in whatever pieces it comes; never raises for what came.

    It assumes nothing: the variants in ``docs/architecture.rst`` ("Streams") are all real. It gives ``Start`` first,
    never a ``Delta`` of an empty text, ``Finish`` as its dialect says it (the sequencer derives ``tool_use`` where a
    call was made), and ends with one ``End`` or ``Failed``, after which it gives nothing more.
    """

    def feed(data: bytes) -> list[Event]:
        """Take body bytes, transfer coding and content coding removed."""

    def finish() -> list[Event]:
        """The body has ended: what was kept back, and ``End`` or ``Failed`` where none was given yet. Called once."""


class IEventWriter(Interface):
    """
    Writes neutral events as an answer of its dialect, streamed or whole, and keeps to its dialect's grammar.

    It is given ordered events (see :mod:`mportrouter.events`) and never ``Failed``. The same events
    give the same bytes.
    """

    content_type = Attribute("bytes of the field content-type")
    interleaves = Attribute("whether deltas of several open tool parts may come in turn")

    def write(event: Event) -> bytes:
        """Whole events of the stream, or ``b""``; an answer that is not streamed comes whole at ``End``."""

    def fail(error: RouterError) -> bytes:
        """
        End an answer under way in an error, in the dialect's way; nothing is written after it.

        An answer that is not streamed has shown nothing yet: ``b""``.
        """


class IAnswerReader(Interface):
    """
    Reads a tee of one answer's bytes: gate before commit, usage and end after it.

    ``state`` is ``"hold"`` (nothing content-bearing yet), ``"content"`` (commit) or ``"error"`` (``verdict`` says
    what); it never leaves ``content``. Cheap on every chunk: no JSON parse of deltas.
    """

    state = Attribute("hold, content or error")
    verdict = Attribute("a Verdict where state is error, else None")

    def feed(data: bytes) -> bytes:
        """
        Take body bytes as the upstream sent them (transfer coding removed, content coding not).

        :returns: the bytes to pass on: ``data`` itself, or edited (foreign thinking signatures wrapped; then an
            unfinished event may be kept back until its rest comes).
        """

    def finish() -> tuple[bytes, Ending]:
        """The body has ended (or broke off): bytes kept back, and how it ended. Called once."""


class IDialect(Interface):
    """A wire format at the front door, and the same at an upstream of that dialect."""

    name = Attribute("its name in the configuration")
    ping = Attribute("bytes of one keep-alive event of a stream")
    path = Attribute("bytes: where generations are asked for, beginning with /v1")
    in_band = Attribute("kinds of errors that the client of a stream is told in an event, not in a status")

    def look(body: bytes, path: bytes = b"", query: bytes = b"") -> Look:
        """
        :param path: of the request, in its usual spelling; one dialect names the model there.
        :param query: as it came, without the question mark.
        :raises RouterError: ``BAD_REQUEST`` for a body that cannot be routed (no JSON object, no ``model`` text, two
            members ``model`` …), saying what and where.
        """

    def prepare(body: bytes, look: Look, target: Target) -> Prepared:
        """The body for ``target``: only what must change is edited, deterministically."""

    def reader(stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
        """
        :param stream: the answer is an event stream.
        :param encoding: its ``content-encoding``, lower case, ``b""`` for none.
        """

    def might_hold_command(body: bytes, look: Look) -> bool:
        """Whether the letters of a ``/router`` command stand where one could: cheap, and asked of every request."""

    def last_user_text(body: bytes) -> str | None:
        """The last user message's text where it is a person's (no tool result), without client wrappings, else None."""

    def tag(body: bytes, look: Look) -> tuple[str, str] | None:
        """
        Provider and model that the first sub-agent's tag in the system prompt names, or ``None``; nothing else of the
        request is searched. Cheap where the tag's letters are nowhere in the body. See :mod:`mportrouter.subagent`.
        """

    def without_tag(body: bytes, look: Look) -> bytes:
        """
        The body without the tags of its system prompt, and every other byte as it was; the body itself where it has
        none. A part of the prompt that was nothing but a tag goes whole. The look does not fit the new body.
        """

    def routing_text(body: bytes) -> RoutingText:
        """What the person said last, for judging it; a body that cannot be read gives an empty text."""

    def session(headers: Mapping[bytes, bytes], body: bytes) -> str:
        """The conversation's id as the client gives it, or ``""``."""

    def error_status(error: RouterError) -> int:
        """The HTTP status of an error in this dialect."""

    def error_body(error: RouterError, request_id: str) -> bytes:
        """The JSON body of an error answer."""

    def error_event(error: RouterError, request_id: str) -> bytes:
        """The event that ends a stream in an error."""

    def message(text: str, look: Look, request_id: str, created: int) -> tuple[bytes, bytes]:
        """
        A whole assistant answer of the router's own: content type and body, usage zero.

        :param created: seconds since the epoch.
        """

    # ---- from and to other dialects

    def read_request(body: bytes, look: Look) -> Conversation:
        """
        What a client of this dialect asks for, read once for all attempts.

        :raises RouterError: ``BAD_REQUEST`` naming the member that cannot be understood.
        """

    def write_request(conversation: Conversation, target: Target) -> Prepared:
        """
        A request of another dialect in this one. The same conversation and target give the same bytes, and a longer
        conversation the same beginning.

        :raises Inexpressible: naming the member (as the client's dialect spells it) that the target cannot express.
        """

    def event_reader(stream: bool, context: AnswerContext) -> IEventReader:
        """:param stream: the answer that came is an event stream (else it is one JSON text)."""

    def event_writer(stream: bool, context: AnswerContext) -> IEventWriter:
        """:param stream: the client wants events."""

    def mend(body: bytes, refusal: bytes) -> bytes | None:
        """
        The request without what its upstream has refused and the conversation can do without, or ``None``.

        :param body: what was sent, in this dialect.
        :param refusal: the body of the 400 that answered it.
        """

    # ---- counting and models

    def count_path(target: Target) -> bytes | None:
        """Where this dialect counts the tokens of a request, or ``None`` where it cannot."""

    def write_count(conversation: Conversation, target: Target) -> Prepared:
        """The body for :meth:`count_path`."""

    def read_count(body: bytes) -> int:
        """
        Tokens of the whole prompt in an answer to it.

        :raises ValueError: for anything else.
        """

    def count_answer(tokens: int) -> bytes:
        """The JSON body of such an answer."""

    def model_list(models: Sequence[ModelRow], query: Mapping[str, str]) -> bytes:
        """
        The JSON body of a list of models.

        :param query: the request's; pages are cut as the dialect does it.
        """

    def model_entry(model: ModelRow) -> bytes:
        """The JSON body of one model."""


class IResponseSink(Interface):
    """The relay's end of one upstream call. Calls come in this order: response? data* end."""

    def response(status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The final response head (1xx are dropped). Header names are lower case."""

    def data(data: bytes, last: bool = False) -> None:
        """
        Body bytes, transfer coding removed, at most one call a read.

        :param last: they are the body's last, and ``end`` follows at once: both can leave in one write.
        """

    def end(failure: Exception | None) -> None:
        """
        The last call.

        :param failure: ``None`` for a whole body; else a :class:`mportrouter.upstream.CallFailed` whose ``verdict``
            says what broke and whose ``sent`` says whether any request byte may have reached the server.
        """


class ICall(Interface):
    """One request under way at an upstream."""

    transport = Attribute("an IPushProducer (pauseProducing, resumeProducing, stopProducing) once the head is there")
    paused = Attribute("whether its reading is paused, because whoever it is for does not take more now")

    def abort() -> None:
        """Close the connection now and tell the sink nothing more. Safe at every stage, also twice."""


class ICredential(Interface):
    """
    A credential of an account that changes while the router runs.

    Both methods give header fields as a list of pairs, safe to be sent as they are, or a Deferred of one. A failure has
    a ``verdict``, as :class:`mportrouter.upstream.CallFailed` has.
    """

    def fields() -> Any:
        """What to send now. Asked before every request, and cheap where nothing is due."""

    def renew(refused: Sequence[tuple[bytes, bytes]]) -> Any:
        """:param refused: what :meth:`fields` gave, and the provider answered 401 to."""


class IPermit(Interface):
    """Leave from a circuit to make one attempt; settled exactly once."""

    def success() -> None:
        """The upstream answered."""

    def failure(verdict: Verdict) -> None:
        """It failed; the verdict decides what that counts as (nothing, where the request itself is to blame)."""

    def release() -> None:
        """Nothing was learnt: the client left."""


class ILedger(Interface):
    """The durable record of what was used and what it cost."""

    def add(record: ExchangeRecord) -> None:
        """Keep a record: in memory at once, on disk within a moment (and always before a clean stop)."""

    def spent(seconds: float) -> int:
        """Picodollars spent in the last ``seconds`` (at most an hour), also over a restart."""

    def stats() -> dict[str, Any]:
        """Totals since the start, see :mod:`mportrouter.ledger`."""


EventListener = Callable[[str, str, str], None]
"""``(upstream id, event, detail)``; events: ``opened``, ``closed``, ``half-open``, ``down``, ``up``, ``degraded``,
``rate_limited``, ``auth_failure``, ``money``."""
