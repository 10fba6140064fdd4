"""
The neutral conversation: what a request of any dialect is read into, and what one of any other is written from.

Four readers and four writers meet here. A value says what is meant, never how a dialect spells it. What one dialect
alone can say is kept as :class:`Foreign` (part of a message) or named in :attr:`Conversation.unread` (a member).
An absent member is ``None``, which is not the same as an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .records import Usage


class Opaque(msgspec.Struct, frozen=True):
    """
    State of a model that only its provider can read: carried byte for byte, or left out whole.

    :param origin: the provider that issued it, as the ``thinking_signature`` column of the catalogue names it.
    :param model: the model that made it, ``""`` where unknown.
    :param kind: ``signature`` (signs the text beside it), ``encrypted`` (holds the reasoning itself), ``redacted``
        (stands for hidden text), ``thought`` (a thought signature on a part), ``text`` (nothing but the origin:
        the text beside it is unsigned).
    :param item_id: the item it is bound to, or ``None``.
    """

    origin: str
    model: str
    kind: str
    value: str
    item_id: str | None = None


class CacheMark(msgspec.Struct, frozen=True):
    """
    A prompt cache may end here.

    :param ttl: ``5m``, ``30m``, ``1h``, ``12h`` …, or ``None`` for the dialect's default.
    """

    ttl: str | None = None


class Media(msgspec.Struct, frozen=True):
    """
    The bytes of a picture, document or sound, or where they are.

    :param kind: ``base64``, ``url``, ``text`` (plain text), ``file`` (an id at one provider), ``parts`` (a
        document made of :attr:`parts`).
    :param value: the base64 text, URL, text, or file id.
    :param media_type: ``image/png`` …, ``""`` where unknown.
    :param filename: ``""`` where there is none.
    """

    kind: str
    value: str = ""
    media_type: str = ""
    filename: str = ""
    parts: tuple[Part, ...] = ()


class Citation(msgspec.Struct, frozen=True):
    """
    What a stretch of text rests on.

    :param url: ``""`` for what is no page of the web: then only ``raw`` tells, to its own dialect.
    :param cited: the words of the source.
    :param start: first character of the stretch in the text of its part, or ``None`` where the whole part is meant.
    :param end: one past its last character.
    :param raw: the citation as its dialect has it.
    :param dialect: whose ``raw`` is.
    """

    url: str = ""
    title: str = ""
    cited: str = ""
    start: int | None = None
    end: int | None = None
    raw: Mapping[str, Any] | None = None
    dialect: str = ""


class Text(msgspec.Struct, frozen=True, tag="text"):
    text: str
    citations: tuple[Citation, ...] = ()
    cache: CacheMark | None = None
    #: A thought signature that came beside it (Gemini), or ``None``.
    opaque: Opaque | None = None


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The model's words that it will not answer."""

    text: str


class Image(msgspec.Struct, frozen=True, tag="image"):
    """:param detail: ``auto``, ``low``, ``high``, ``original``, or ``None``."""

    media: Media
    detail: str | None = None
    cache: CacheMark | None = None


class Document(msgspec.Struct, frozen=True, tag="document"):
    """
    :param context: what is said about it beside its title.
    :param cite: whether answers shall cite it.
    """

    media: Media
    title: str = ""
    context: str = ""
    cite: bool = False
    cache: CacheMark | None = None


class Sound(msgspec.Struct, frozen=True, tag="sound"):
    media: Media
    cache: CacheMark | None = None


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """
    :param id: as the client's history or the upstream has it; ``""`` where there is none yet.
    :param arguments: JSON text of an object, the source's own where it had a text; free text where ``custom``.
    :param custom: a tool whose input is free text (OpenAI custom tools).
    :param namespace: of an OpenAI namespace tool, else ``""``.
    :param opaque: a thought signature that came with the call, or ``None``.
    """

    id: str
    name: str
    arguments: str
    custom: bool = False
    namespace: str = ""
    opaque: Opaque | None = None
    cache: CacheMark | None = None


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """
    :param name: of the tool, ``""`` where the dialect does not repeat it.
    :param parts: :class:`Text`, :class:`Image`, :class:`Document`, :class:`Foreign`.
    :param custom: the result of a custom tool's call.
    """

    call_id: str
    parts: tuple[Part, ...] = ()
    name: str = ""
    is_error: bool = False
    custom: bool = False
    cache: CacheMark | None = None


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning"):
    """
    What the model thought before the part that follows.

    :param text: summary or text, ``""`` where only the opaque state is there.
    :param opaque: its state; ``None`` for text that nobody signed.
    """

    text: str
    opaque: Opaque | None = None


class SearchHit(msgspec.Struct, frozen=True):
    url: str
    title: str = ""
    age: str | None = None


class WebSearch(msgspec.Struct, frozen=True, tag="web_search"):
    """
    A search that the provider ran.

    :param raw: the source's own blocks or items, sent back to its own dialect only.
    """

    id: str
    query: str
    hits: tuple[SearchHit, ...] = ()
    raw: tuple[Mapping[str, Any], ...] = ()
    dialect: str = ""


class Foreign(msgspec.Struct, frozen=True, tag="foreign"):
    """
    A part that one dialect alone can express.

    :param raw: as it came.
    :param text: what another model must know of it, ``""``: nothing.
    :param kind: its ``type`` in that dialect, for messages.
    """

    dialect: str
    kind: str
    raw: Mapping[str, Any]
    text: str = ""


Part = Text | Refusal | Image | Document | Sound | ToolCall | ToolResult | Reasoning | WebSearch | Foreign


class Turn(msgspec.Struct, frozen=True):
    """
    :param role: ``user``, ``assistant``, or ``system`` (one in mid-conversation). Tool results are parts of user turns.
    :param phase: ``commentary`` or ``final_answer`` where the source says so.
    """

    role: str
    parts: tuple[Part, ...]
    phase: str | None = None


class Tool(msgspec.Struct, frozen=True):
    """
    :param kind: ``function``, ``custom`` (free text), or ``server`` (the provider runs it).
    :param schema: JSON Schema of the arguments as it came; ``None``: none was given.
    :param strict: as the client said, ``None`` where it said nothing.
    :param server: what a server tool does: ``web_search``, ``web_fetch``, ``code_execution``, or its own type.
    :param options: of a server tool, in neutral names: ``allowed_domains``, ``blocked_domains``, ``max_uses``,
        ``user_location`` (flat: ``city region country timezone``), ``context_size``.
    :param grammar: of a custom tool: ``{"syntax", "definition"}``, or ``None``.
    :param raw: the definition as it came, for its own dialect.
    """

    name: str
    description: str = ""
    schema: Mapping[str, Any] | bool | None = None
    kind: str = "function"
    strict: bool | None = None
    namespace: str = ""
    server: str = ""
    options: Mapping[str, Any] = {}
    grammar: Mapping[str, Any] | None = None
    cache: CacheMark | None = None
    raw: Mapping[str, Any] | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """
    :param mode: ``auto``, ``required``, ``one`` (``name`` must be called), ``none``.
    :param allowed: names that may be called, ``None``: every one.
    """

    mode: str
    name: str = ""
    allowed: tuple[str, ...] | None = None


class ReasoningControl(msgspec.Struct, frozen=True):
    """
    :param mode: ``off``, ``on``, ``adaptive``, or ``None`` where only an effort is given.
    :param effort: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh``, ``max``, or ``None``.
    :param budget: tokens, or ``None``.
    :param show: ``summarised``, ``omitted``, or ``None``: the dialect's default.
    """

    mode: str | None = None
    effort: str | None = None
    budget: int | None = None
    show: str | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """
    :param kind: ``json`` (any object) or ``json_schema``.
    :param name: ``""`` where the source has none.
    """

    kind: str
    schema: Mapping[str, Any] | None = None
    name: str = ""
    strict: bool | None = None
    description: str = ""


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn. ``None``: the client said nothing."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int | None = None  # how many answers (``n``, ``candidateCount``)
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Conversation(msgspec.Struct, frozen=True):
    """
    A whole request.

    :param dialect: the dialect it came in.
    :param model: as the client asked for it.
    :param system: :class:`Text` parts, one for each block or leading system message.
    :param stream: whether the client wants events.
    :param stream_usage: whether it wants usage in a Chat stream.
    :param parallel: ``False`` where it wants at most one call a turn.
    :param max_output: tokens.
    :param cache_key: names the conversation for prompt caches, or ``None``.
    :param cache_auto: a mark for the whole request (top-level ``cache_control``).
    :param user: an opaque id of the person (``metadata.user_id``, ``safety_identifier``), or ``None``.
    :param unread: top-level members without a neutral counterpart, by name: a writer reports them as dropped.
    :param members: the request's top level as it was decoded, for what its own dialect's answer echoes.
    """

    dialect: str
    model: str
    turns: tuple[Turn, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel: bool | None = None
    max_output: int | None = None
    sampling: Sampling = Sampling()
    reasoning: ReasoningControl | None = None
    output: OutputFormat | None = None
    verbosity: str | None = None
    cache_key: str | None = None
    cache_auto: CacheMark | None = None
    user: str | None = None
    metadata: Mapping[str, Any] | None = None
    service_tier: str | None = None
    stream: bool = False
    stream_usage: bool = False
    unread: tuple[str, ...] = ()
    members: Mapping[str, Any] = {}


class Answer(msgspec.Struct, frozen=True):
    """
    A whole answer.

    :param id: the upstream's own, ``""`` where it has none.
    :param stop: one of :data:`mportrouter.events.STOPS`.
    :param sequence: the stop sequence that was hit, or ``None``.
    :param explanation: of a refusal, ``""`` where nothing is said.
    :param category: of a refusal, or ``None``.
    """

    id: str
    model: str
    parts: tuple[Part, ...]
    stop: str
    usage: Usage
    sequence: str | None = None
    explanation: str = ""
    category: str | None = None
