"""
What ``mportrouter explain`` tells: the plan that a request would get, and why, with nothing sent and nothing counted.

The running router is asked for it over its console; without one the same is told from the configuration alone, as if
nothing had happened yet.

Imports of its own floor: :mod:`mportrouter.runtime` (whose plan it is), :mod:`mportrouter.upstream` and
:mod:`mportrouter.circuit` (what a configuration alone consists of), :mod:`mportrouter.state`, and the site's rules for
conversations that stay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.task import Clock

from .catalog import load as load_catalog
from .circuit import CircuitBreaker
from .commands import CommandError, parse
from .dialects.known import DIALECTS
from .dialects.shape import dialect_of
from .errors import RouterError
from .interfaces import IDialect, Look
from .pricing import PriceBook
from .routing.complexity import RoutingFeatures, Score, score
from .routing.fitness import RANKS
from .routing.policy import Plan
from .runtime import Runtime, share_key
from .settings import ModeSettings, Settings
from .state import IStateStore, RuntimeState
from .upstream import Upstream
from .web import stays

#: Strategies that look at nothing but the facts of a request and the state of the upstreams.
_PLAIN = frozenset(["only", "fallback", "table"])


@attrs.frozen
class Question:
    """
    The request that is asked about.

    :param body: as a client sends it.
    :param dialect: the name of its dialect.
    :param model: instead of the one in the body (or, for Gemini, in the path); ``""``: that one.
    :param session: the conversation's id, ``""``: as the body tells.
    """

    body: bytes
    dialect: str
    model: str = ""
    session: str = ""


def question(body: bytes | None, dialect: str | None, model: str, session: str = "") -> Question:
    """
    :param body: ``None``: a request for ``model`` with nothing in it.
    :param dialect: ``None``: as the body's members tell.
    :raises CommandError: the body is no JSON, of no dialect, or names no model.
    """
    if body is None:
        text = json.dumps({"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": ""}]})
        return Question(text.encode(), "anthropic", model, session)
    if dialect is None:
        try:
            dialect = dialect_of(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise CommandError(f"the file is no JSON: {error}") from error
        if dialect is None:
            raise CommandError(f"the file is a request of no known dialect; say which: {', '.join(DIALECTS)}")
    if dialect == "gemini" and not model:
        raise CommandError("a Gemini request has its model in the path: say it with --model")
    return Question(body, dialect, model, session)


def explained(
    asked: Question,
    runtime: Runtime,
    state: IStateStore,
    mode_of: Callable[[str], ModeSettings],
    turns: stays.Turns,
    over_budget: bool,
    at: float,
    now: float,
) -> dict[str, Any]:
    """
    What would be done, in plain values.

    :param mode_of: the mode in force for a conversation.
    :param over_budget: the spending of the last hour has reached the ceiling.
    :param at: seconds since the epoch; prices depend on it.
    :param now: the same moment on the clock of the accounts' limits.
    :raises CommandError: the request is one that is refused whatever the mode.
    """
    dialect = DIALECTS.get(asked.dialect)
    if dialect is None:
        raise CommandError(f"There is no dialect “{asked.dialect[:40]}”. Known: {', '.join(DIALECTS)}.")
    body = asked.body
    look = _look(dialect, asked, body)
    if dialect.might_hold_command(body, look) and (command := parse(dialect.last_user_text(body) or "")) is not None:
        raise CommandError(f"this is the command /router {command.word}: the router answers it, and nobody is asked")
    session = asked.session or dialect.session({}, body)
    mode = mode_of(session)
    tag = dialect.tag(body, look) if mode.tags else None
    if tag is not None:
        body = dialect.without_tag(body, look)
        look = _look(dialect, asked, body)
    about: dict[str, Any] = {
        "mode": mode.name,
        "strategy": mode.strategy,
        "dialect": dialect.name,
        "model": look.model,
        "stream": look.stream,
        "needs": sorted(look.needs),
        "bytes": look.size,
    }
    if session:
        about["session"] = session
    if tag is not None:
        about["tag"] = ",".join(tag)
    if over_budget:
        about["over_budget"] = True
    if tag is not None or mode.strategy in _PLAIN:
        plan = runtime.plan(mode, look, over_budget, tag=tag)
    elif mode.strategy == "interactive":
        value, plan = _judged(dialect, body, look, session, mode, runtime, over_budget, at)
        about["complexity"] = {"score": value.value, "reasons": list(value.reasons)}
        if mode.interactive.analyzer != "local":
            about["complexity"]["note"] = f"guessed; the router would ask {mode.interactive.analyzer_model}"
    else:
        stay = stays.find(state, dialect, body, look, session, mode)
        turn = turns.of(mode.name, look.model)
        plan = runtime.plan(mode, look, over_budget, turn, stay.upstream, loop=stay.loop)
        about["turn"] = turn
        if stay.upstream:
            about["conversation_is_with"] = stay.upstream
    told = _told(plan, mode, runtime, dialect, tag[1] if tag is not None else look.model)
    told["notes"] += _limited(plan, runtime, look.size, now)
    return about | told


def _limited(plan: Plan, runtime: Runtime, size: int, now: float) -> list[str]:
    """Attempts of a plan that would be passed over at the moment, for their accounts' limits."""
    notes = []
    for attempt in plan.attempts:
        upstream = runtime.upstreams[attempt.upstream]
        allowance, concurrency = upstream.allowance, upstream.settings.limits.concurrency
        if concurrency is not None and upstream.in_flight >= concurrency:
            notes.append(f"{attempt.upstream} is passed over now: all of its {concurrency} places are taken")
        elif allowance.active:
            tokens = runtime.estimate(attempt, size)
            wait = allowance.wait(now, tokens, attempt.model)
            if wait > 0:
                why = allowance.why(now, tokens, attempt.model)
                notes.append(f"{attempt.upstream} is passed over now: {why}, for {math.ceil(wait)} s")
    return notes


def _look(dialect: IDialect, asked: Question, body: bytes) -> Look:
    path = b""
    if dialect.name == "gemini":
        path = b"/v1beta/models/" + asked.model.encode("utf-8", "replace") + b":generateContent"
    try:
        look = dialect.look(body, path)
    except RouterError as error:
        raise CommandError(f"the request would be refused: {error.message}") from error
    return attrs.evolve(look, model=asked.model) if asked.model and dialect.name != "gemini" else look


def _judged(
    dialect: IDialect,
    body: bytes,
    look: Look,
    session: str,
    mode: ModeSettings,
    runtime: Runtime,
    over_budget: bool,
    at: float,
) -> tuple[Score, Plan]:
    turn = dialect.routing_text(body)
    value = score(
        RoutingFeatures(text=turn.text, tool_count=turn.tool_count, message_count=turn.message_count, size=look.size)
    )
    key = share_key(session, turn.turn_key)
    return value, runtime.plan_for_score(mode, look, over_budget, value, key, at)


def _told(plan: Plan, mode: ModeSettings, runtime: Runtime, dialect: IDialect, model: str) -> dict[str, Any]:
    attempts = []
    for attempt in plan.attempts:
        row = {"upstream": attempt.upstream, "model": attempt.model, "reason": attempt.reason}
        attempts.append({**row, "path": attempt.path} if attempt.path else row)
    refusal: dict[str, Any] | None = None
    if plan.refusal is not None:
        error = plan.refusal
        refusal = {"status": dialect.error_status(error), "kind": error.kind.value, "message": error.message}
        if error.retry_after is not None:
            refusal["retry_after"] = error.retry_after
    planned = [attempt.upstream for attempt in plan.attempts]
    auto = mode.auto_model != "" and model == mode.auto_model
    # A tag may name one that the mode itself does not have.
    ids = dict.fromkeys([*mode.upstreams, *planned])
    upstreams = [_state(runtime.upstreams[id], model, planned, dialect, auto) for id in ids]
    return {
        "decision": plan.decision,
        "attempts": attempts,
        "refusal": refusal,
        "notes": list(plan.notes),
        "upstreams": upstreams,
    }


def _state(upstream: Upstream, model: str, planned: Sequence[str], dialect: IDialect, auto: bool) -> dict[str, Any]:
    settings = upstream.settings
    asked = upstream.model_for(model)
    state = "disabled" if not upstream.enabled else RANKS[upstream.circuit.rank(asked)]
    if settings.auth == "key" and settings.api_key is None:
        state = f"no key ({settings.key_variable or 'api_key'} is not set)"
    offers = "any model" if not settings.offers else "yes" if auto or model in settings.offers else "not this model"
    row: dict[str, Any] = {
        "id": upstream.id,
        "provider": upstream.provider_name,
        "place": planned.index(upstream.id) + 1 if upstream.id in planned else None,
        "state": state,
        "back_in": round(upstream.circuit.retry_in(asked)) or None,
        "offers": offers,
    }
    if settings.dialect != dialect.name:
        row["translated"] = settings.dialect
    return row


# ---------------------------------------------------------------------------------------------------- without a router


def alone(asked: Question, settings: Settings, port: int | None, at: float) -> dict[str, Any]:
    """
    The same from a configuration alone.

    :param port: ``None``: the dynamic one, else the first.
    :raises CommandError: as :func:`explained`, and for a port that the configuration does not have.
    """
    if port is None:
        ports = [settings.ports[number] for number in sorted(settings.ports)]
        wanted = next((each for each in ports if each.dynamic), ports[0] if ports else None)
    else:
        wanted = settings.ports.get(port)
    if wanted is None:
        named = ", ".join(map(str, sorted(settings.ports))) or "none"
        raise CommandError(f"the configuration has no such port (it has {named})")
    clock = Clock()
    catalog = load_catalog()
    upstreams = {
        id: Upstream(
            each,
            catalog.get(each.provider),
            clock,
            circuit=CircuitBreaker(id, settings.breaker, clock.seconds),
        )
        for id, each in settings.upstreams.items()
    }
    runtime = Runtime(settings, upstreams, PriceBook.load(settings.prices))
    mode = runtime.mode(wanted.mode)
    state = RuntimeState(clock.seconds)
    told = explained(asked, runtime, state, lambda session: mode, stays.Turns(), False, at, clock.seconds())
    return {"port": wanted.port, **told, "told_by": "the configuration alone"}


# ---------------------------------------------------------------------------------------------------- showing


def text(told: Mapping[str, Any], width: int | None = None) -> str:
    """
    For a person.

    :param told: what :func:`explained` gave.
    :param width: columns of the terminal, or ``None``.
    """
    from .commands import aligned
    from .tables import cell, table

    head = []
    for key in (
        "port", "mode", "strategy", "dialect", "model", "stream", "needs", "tag", "session", "conversation_is_with",
        "turn", "over_budget", "complexity", "told_by",
    ):  # fmt: skip
        value = told.get(key)
        if value not in (None, [], "", {}):
            head.append((f"{key.replace('_', ' ').capitalize()}:", cell(value)))
    lines = [aligned(head), "", f"Decision: {cell(told.get('decision', ''))}", ""]
    attempts = [{"": number, **row} for number, row in enumerate(told.get("attempts", ()), 1)]
    refusal = told.get("refusal")
    if refusal:
        gets = f"{refusal['status']} ({refusal['kind']}): {cell(refusal['message'])}"
        lines += [f"Nobody is asked; the client gets {gets}"]
    elif attempts:
        lines += [table(attempts, ("", "upstream", "model", "reason"), width)]
    notes = told.get("notes")
    if notes:
        lines += ["", "Notes:", *(f"  {cell(note)}" for note in notes)]
    rows = told.get("upstreams")
    if rows:
        lines += ["", "Upstreams of the mode:", table(rows, ("place", "id", "provider", "state", "back_in"), width)]
    return "\n".join(lines)
