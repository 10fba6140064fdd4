"""
The settings, as frozen values: what :mod:`mportrouter.config` reads and everything else is given.

Nothing here reads a file or an environment. Units are in the names' comments: seconds, bytes, tokens, US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import attrs


@attrs.frozen
class Secret:
    """
    A text that must not be shown: its ``repr`` and ``str`` are ``****``.

    :param value: the text itself; read it only where it goes onto the wire.
    """

    value: str = attrs.field(repr=False)

    def __str__(self) -> str:
        return "****"

    __repr__ = __str__


@attrs.frozen
class Capabilities:
    """
    What an upstream does with members of a request, as columns of the catalogue.

    Values of the columns that hold text: ``honoured`` (it does what the member says), ``ignored`` (it answers as if the
    member were not there), ``refused`` (it answers with a 4xx). Sources: the matrix of vendor behaviour beside each
    row of ``data/catalog.yaml``.
    """

    #: ``stop_sequences`` end the answer.
    stop_sequences: str = "honoured"
    #: ``tool_choice`` of type ``any`` or ``tool`` forces a tool.
    tool_choice_force: str = "honoured"
    #: ``disable_parallel_tool_use`` is obeyed.
    parallel_off: str = "honoured"
    #: ``image`` blocks are read.
    images: str = "honoured"
    #: ``document`` blocks are read.
    documents: str = "honoured"
    #: ``search_result`` blocks are read.
    search_results: str = "honoured"
    #: Tools that the provider runs itself (``web_search_20250305`` …) are known to it.
    server_tools: str = "honoured"
    #: ``output_config.format`` binds the answer to a JSON schema.
    structured_output: str = "honoured"
    #: Messages with ``role: "system"`` inside ``messages`` are accepted; ``False``: they become user text.
    mid_system: bool = True
    #: ``POST …/count_tokens`` exists there.
    count_tokens: bool = True
    #: Whose signatures on thinking blocks it issues and accepts: ``anthropic`` or the provider's own name.
    thinking_signature: str = "anthropic"
    #: ``redacted_thinking`` blocks of its own kind exist; ``False``: drop them on the way there.
    redacted_thinking: bool = True
    #: The first system block ``x-anthropic-billing-header: …`` of Claude Code is wanted there.
    billing_header: bool = True
    #: Top-level request members that must not reach it. (Anthropic: ``outer.inner`` is a member of a member.)
    strip_fields: tuple[str, ...] = ()
    #: Members of ``thinking`` that must not reach it.
    strip_thinking_fields: tuple[str, ...] = ()
    #: Members of ``output_config`` that must not reach it.
    strip_output_config_fields: tuple[str, ...] = ()
    #: Members of each tool definition that must not reach it.
    strip_tool_fields: tuple[str, ...] = ()
    #: Anthropic: members of content blocks, system blocks and tool definitions that must not reach it
    #: (``cache_control``).
    strip_block_fields: tuple[str, ...] = ()
    #: Anthropic: what becomes of thinking in the history: ``preserve`` (the upstream's own goes back as it came, what
    #: others signed is left out), ``sanitise`` (of what others signed the text goes too, without the signature),
    #: ``strip`` (all of it is left out).
    thinking_blocks: str = "preserve"
    #: Anthropic: types of content blocks and of events that are left out of answers to clients of the same dialect.
    strip_events: tuple[str, ...] = ()
    #: Largest context of the provider's models in tokens where the price rows do not say, or ``None``.
    context: int | None = None

    # What only a translated request asks (a request of the upstream's own dialect goes there as it came).

    #: Largest ``max_tokens`` it takes, or ``None`` where unknown.
    max_output: int | None = None
    #: Chat: the member that limits the answer, ``max_tokens`` or ``max_completion_tokens``.
    max_tokens_field: str = "max_tokens"
    #: Chat: the role of instructions, ``system`` or ``developer``.
    system_role: str = "system"
    #: Chat: ``content`` must be a text, never a list of parts.
    string_content_only: bool = False
    #: Chat: user and assistant must take turns.
    strict_role_alternation: bool = False
    #: Chat, Responses: ``parallel_tool_calls`` is known.
    parallel_flag: bool = True
    #: Chat: ``stream_options`` is known.
    stream_options: bool = True
    #: Characters of a tool call's id, and a regular expression that it matches whole.
    tool_id_max: int = 64
    tool_id_pattern: str = "[a-zA-Z0-9_-]+"
    #: Characters of a tool's name.
    tool_name_max: int = 64
    #: Where pictures of a tool's result may stand: ``user_message`` (after it), ``in_tool``, ``none``.
    tool_images: str = "user_message"
    #: Pictures may be given as URLs.
    url_images: bool = True
    #: Sampling members it refuses, of ``temperature top_p top_k penalties seed logprobs logit_bias choices``.
    sampling_refused: tuple[str, ...] = ()
    temperature_max: float = 2.0
    #: Stop sequences it takes, ``None``: any number.
    stop_max: int | None = None
    #: How reasoning is asked for: ``none``, ``effort``, ``budget`` (tokens), ``level``, ``adaptive``.
    reasoning_kind: str = "effort"
    #: Efforts or levels it knows, in rising order.
    reasoning_levels: tuple[str, ...] = ("low", "medium", "high")
    #: Smallest and largest budget in tokens (``budget``).
    reasoning_budget: tuple[int, ...] = (1024, 32768)
    #: Reasoning can be turned off.
    reasoning_off: bool = True
    #: Chat: the member in which it gives and takes reasoning text, ``""``: none (``reasoning_content``, ``reasoning``).
    reasoning_field: str = ""
    #: Chat: reasoning text of earlier turns is ``required``, ``allowed``, ``forbidden``; ``none``: not sent.
    reasoning_echo: str = "none"
    #: Chat: text between ``<think>`` and ``</think>`` in the content is reasoning.
    think_tags: bool = False
    #: Chat: the member that asks for reasoning: ``reasoning_effort``, ``reasoning`` (an object with an effort or
    #: ``max_tokens``), ``thinking`` (``{"type": "enabled"}`` beside ``reasoning_effort``), ``enable_thinking``.
    reasoning_member: str = "reasoning_effort"
    #: Chat: members that are true in every request, beside what was asked for (``reasoning_split``).
    always_true: tuple[str, ...] = ()
    #: Gemini: signatures on function calls are ``required``, ``optional``, ``none``.
    thought_signature: str = "none"
    #: Gemini: function calls and results carry ids.
    function_ids: bool = False
    #: How JSON schemas are cleaned: ``""`` (as the dialect needs), ``openai``, ``anthropic``, ``gemini_schema``,
    #: ``gemini_json_schema``.
    schema_profile: str = ""
    #: The best output format it binds: ``json_schema``, ``json`` (any object), ``none``. (``structured_output`` says
    #: whether it is obeyed.)
    output_format: str = "json_schema"
    #: JSON output and tools go together.
    json_with_tools: bool = True
    #: An assistant's message at the end is gone on with.
    prefill: bool = True
    #: What it runs itself, of ``web_search web_fetch code_execution``.
    server_tool_kinds: tuple[str, ...] = ()
    #: Server tools and functions go together.
    server_tools_with_functions: bool = True
    #: How prompt caches are marked: ``cache_control``, ``prompt_cache_breakpoint``, ``none``.
    cache_marks: str = "none"
    #: ``prompt_cache_key`` is known.
    cache_key: bool = False
    #: ``user``, ``safety_identifier``, ``metadata`` and ``service_tier`` are known, each by its name.
    identity_fields: tuple[str, ...] = ()
    #: A stream may end without its last event or ``finish_reason``.
    lenient_done: bool = False
    #: Chat: every fragment of a call's arguments repeats what came before.
    cumulative_arguments: bool = False
    #: It answers in events only.
    stream_only: bool = False
    #: Responses: it keeps nothing (``store`` must be false) and ``instructions`` must be there.
    stateless_only: bool = False
    #: It serves other paths of its dialect's API too, in that dialect's shapes: models, files, batches.
    other_paths: bool = False
    #: Where generations are asked for, instead of the dialect's own path, or ``None``.
    generate_path: str | None = None


@attrs.frozen
class Timeouts:
    """Limits in seconds; ``None`` is no limit."""

    #: TCP connect, and again the same for the TLS handshake.
    connect: float = 5.0
    tls: float = 5.0
    #: From the request sent to the answer's head, of a streamed answer.
    head: float | None = 30.0
    #: From the request sent to the first content-bearing event, of a streamed answer.
    first_content: float | None = 30.0
    #: From the request sent to the head of an answer that is not streamed (it comes only when it is whole).
    answer: float | None = 600.0
    #: Between two reads once the answer has begun.
    idle: float | None = 60.0
    #: The whole attempt.
    total: float | None = None


@attrs.frozen
class Limits:
    """Client-side limits of one upstream; ``None`` is no limit."""

    requests: float | None = None  # a minute
    tokens: float | None = None  # a minute
    concurrency: int | None = None  # exchanges under way
    #: Seconds that a request may wait for its turn where nobody else can serve it.
    wait: float = 5.0


@attrs.frozen
class Pins:
    """
    Public-key pins (RFC 7469 §2.1.1: base64 of SHA-256 over the DER SubjectPublicKeyInfo).

    :param mode: ``enforce``, ``report-only`` or ``off``.
    :param sha256: base64 digests without the ``sha256/`` prefix; at least two unless ``mode`` is ``off``.
    """

    mode: str = "off"
    sha256: tuple[str, ...] = ()


@attrs.frozen
class TLS:
    """
    :param minimum: ``"1.3"`` or ``"1.2"``.
    :param ca_file: a PEM file whose certificates are trusted beside the system's, or ``None``.
    """

    minimum: str = "1.3"
    ca_file: str | None = None


@attrs.frozen
class UpstreamSettings:
    """One configured account at a provider."""

    id: str
    provider: str
    dialect: str = "anthropic"
    #: Without a trailing slash: ``https://api.anthropic.com``. Where it ends in a version (``/v4``), that one holds
    #: instead of the dialect's own.
    base_url: str = ""
    #: ``None`` where there is none (``auth: client``, or a mode that never uses it).
    api_key: Secret | None = None
    #: Where the key comes from: ``key`` (``api_key``), ``client`` (the client's own credential, to this host only), or
    #: ``codex`` (the login that the Codex program keeps in :attr:`auth_file`).
    auth: str = "key"
    #: ``auth: codex``: the file with the login, and where it is refreshed.
    auth_file: str | None = None
    token_url: str | None = None
    #: How the key is sent: ``x-api-key``, ``bearer``, ``x-goog-api-key``, ``none`` (a server on the own machine), or
    #: the name of a header field that holds the key as it is (``x-token``, ``header:token``).
    auth_style: str = "x-api-key"
    #: Patterns (``*`` and ``?``; first match wins) to the model that exists there; no match: the name as it came.
    models: tuple[tuple[str, str], ...] = ()
    #: The only models it offers (a list in the file, in place of patterns); empty: whatever it is asked for.
    offers: tuple[str, ...] = ()
    capabilities: Capabilities = Capabilities()
    #: Patterns of models at this upstream to what differs there from ``capabilities``; first match wins.
    model_capabilities: tuple[tuple[str, Capabilities], ...] = ()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    pins: Pins = Pins()
    tls: TLS = TLS()
    #: Path of the free probe at the host of ``base_url``; ``None``: connect only.
    probe: str | None = "/v1/models"
    #: Environment variable that holds its key, for messages.
    key_variable: str | None = None
    enabled: bool = True


@attrs.frozen
class Interactive:
    """Parameters of the ``interactive`` strategy."""

    #: 0 to 1: the share of middling requests (4–6) that try the cheap upstream first.
    prefer_minimax: float = 0.8
    #: US dollars that one request may be expected to cost at the strong upstream; ``None``: any.
    cost_threshold: Decimal | None = None
    #: ``low``, ``medium`` or ``high``: from which score on the strong upstream must answer (see routing/strategies.py).
    quality_floor: str = "medium"
    #: ``local`` (a pure function of the text) or ``claude`` (a small model is asked, with a deadline).
    analyzer: str = "local"
    #: Upstream and model that analyse where ``analyzer`` is ``claude``.
    analyzer_upstream: str = "anthropic"
    analyzer_model: str = "claude-haiku-4-5"
    #: Seconds to wait for the analysis.
    analyzer_deadline: float = 1.5


@attrs.frozen
class TableRow:
    """
    One row of a routing table.

    :param match: a pattern of model names (``*`` and ``?``; without either: any name that holds it); ``""``: every
        name, the table's default.
    :param model: the model to ask for there; ``""``: as the upstream's own ``models`` say.
    :param path: where generations are asked for there, instead of the upstream's own place; ``""``: that.
    :param timeouts: instead of the upstream's own, or ``None``.
    :param name: what health reports call it: the tier.
    """

    match: str
    upstream: str
    model: str = ""
    path: str = ""
    timeouts: Timeouts | None = None
    name: str = ""


@attrs.frozen
class ModeSettings:
    """
    A named routing policy.

    :param strategy: ``only``, ``fallback``, ``interactive``, ``table``, ``exhaust`` or ``round-robin``.
    :param table: of the strategy ``table``: the first row that matches wins.
    :param tags: a sub-agent's tag in the system prompt names upstream and model, before the strategy is asked.
    :param move_on: statuses after which the next upstream is asked; any other is the client's. ``None``: as the failure
        means. (Network faults always move on.)
    :param cooldown: seconds for which an upstream is left alone after a failure that moved on; ``None``: as its circuit
        says.
    :param retry_after: seconds that an exhausted account rests where its provider gave no time (``exhaust``,
        ``round-robin``).
    :param auto_model: a model name that stands for round-robin over all accounts (``exhaust``), ``""``: none.
    :param affinity: a conversation stays on its account while that is healthy (``exhaust``, ``round-robin``).
    :param upstreams: ids in order; for ``interactive`` the cheap one first, the strong one second.
    :param retries: second tries at one upstream before the plan moves on.
    :param retry_timeouts: whether a silent upstream is asked again (``False``: after a timeout the plan moves on).
    :param retry_delay: seconds before a second try at the same upstream, with jitter.
    """

    name: str
    strategy: str
    upstreams: tuple[str, ...]
    retries: int = 0
    retry_timeouts: bool = True
    retry_delay: float = 0.5
    interactive: Interactive = Interactive()
    table: tuple[TableRow, ...] = ()
    tags: bool = False
    move_on: tuple[int, ...] | None = None
    cooldown: float | None = None
    retry_after: float = 300.0
    auto_model: str = ""
    affinity: bool = True


@attrs.frozen
class PortSettings:
    """
    A listening port.

    :param dynamic: its mode is meant to be switched at run time and is remembered over a restart.
    :param commit: ``first-content`` (stream at once) or ``complete`` (hold the answer until it is whole).
    :param locked: refuse to be switched.
    :param token: gateway token that clients of this port must send, or ``None``.
    :param client_limit: requests a minute that one client may send; 0: any number.
    :param body_bytes: limit of a request body, or ``None``: that of the front door.
    """

    port: int
    mode: str
    dynamic: bool = False
    commit: str = "first-content"
    locked: bool = False
    token: Secret | None = None
    client_limit: int = 0
    body_bytes: int | None = None


@attrs.frozen
class BreakerSettings:
    #: Consecutive failures of any kind that open the circuit.
    failures: int = 5
    #: Seconds the circuit stays open the first time; doubles up to ``open_at_most``, with jitter.
    open_for: float = 30.0
    open_at_most: float = 300.0
    #: Consecutive 5xx after which the upstream is *degraded* (tried after healthy ones).
    degraded_after: int = 3
    #: Consecutive timeouts after which it is *down*.
    down_after_timeouts: int = 5
    #: Consecutive 429 without advice after which it is left alone for a while.
    rate_limited_after: int = 2
    #: Seconds of rest after such 429s when the provider gave no advice.
    rate_limit_rest: float = 5.0
    #: Seconds an account stays out after a money error or a bad key when the provider gave no time.
    account_rest: float = 900.0


@attrs.frozen
class HealthSettings:
    every: float = 30.0  # seconds; 0 turns the checker off
    timeout: float = 10.0  # seconds for one check


@attrs.frozen
class AlertSettings:
    webhook: Secret | None = None  # a URL; many carry a token in their path
    timeout: float = 10.0  # seconds for one try
    tries: int = 4
    #: Seconds in which the same alert about the same upstream is sent once.
    quiet: float = 300.0


@attrs.frozen
class LogSettings:
    file: str = "~/.ai-router/logs/router.log"
    level: str = "info"
    format: str = "text"  # or json
    rotate_bytes: int = 10 * 1024 * 1024
    keep: int = 5
    #: A file that gets one JSON line of tokens for each answer (``usage.jsonl``), or ``None``.
    usage: str | None = None


@attrs.frozen
class BudgetSettings:
    per_hour: Decimal | None = None  # US dollars


@attrs.frozen
class FrontSettings:
    """Limits of the front door."""

    header_bytes: int = 64 * 1024
    body_bytes: int = 32 * 1024 * 1024
    exchanges: int = 1024  # under way at once, over all ports
    header_seconds: float = 30.0  # for a whole head, once begun
    body_seconds: float = 60.0  # without one byte of the body
    keepalive_seconds: float = 120.0  # between two requests
    ping_after: float = 10.0  # seconds of silence before the client of a stream gets a keep-alive
    #: Names and addresses, beside the loopback ones, that a ``Host`` header may give.
    hosts: tuple[str, ...] = ()
    #: Web origins, beside loopback ones, that may send requests.
    origins: tuple[str, ...] = ()


@attrs.frozen
class AdminSettings:
    """Perspective Broker: a unix socket in the state directory, and optionally loopback TCP with credentials."""

    tcp_port: int | None = None
    username: str = "admin"
    password: Secret | None = None


@attrs.frozen
class DemoSettings:
    """
    The embedded stand-in providers.

    :param pace: seconds between two streamed events.
    :param faults: per provider (``anthropic``, ``minimax``) a fault specification, see :mod:`mportrouter.demo`.
    """

    pace: float = 0.02
    faults: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Settings:
    """Everything, validated whole."""

    ports: Mapping[int, PortSettings] = attrs.field(factory=dict)
    modes: Mapping[str, ModeSettings] = attrs.field(factory=dict)
    upstreams: Mapping[str, UpstreamSettings] = attrs.field(factory=dict)
    host: str = "127.0.0.1"
    token: Secret | None = None  # gateway token for every port that has none of its own
    breaker: BreakerSettings = BreakerSettings()
    health: HealthSettings = HealthSettings()
    budget: BudgetSettings = BudgetSettings()
    alerts: AlertSettings = AlertSettings()
    logs: LogSettings = LogSettings()
    front: FrontSettings = FrontSettings()
    admin: AdminSettings = AdminSettings()
    state: str = "~/.ai-router/state"
    drain: float = 60.0  # seconds that exchanges under way get when the process is told to stop
    demo: DemoSettings | None = None
    #: Price rows that override or add to the vendored ones: ``{model pattern: {"input": Decimal, …}}`` in $/M tokens.
    prices: Mapping[str, Mapping[str, Decimal]] = attrs.field(factory=dict)
    #: What was left out of what the file asks for, one sentence each: accounts without a key.
    notices: tuple[str, ...] = attrs.field(default=(), eq=False)
    #: Where each setting that is not a default came from: ``{"ports.8787.mode": "flag --mode", …}``.
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False)
