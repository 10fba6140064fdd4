"""
The inference path: look, command, plan, relay.

Every step that most requests do not need is asked for by a cheap test of the bytes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure

from ..commands import Command, CommandError, execute, parse, render, to_json
from ..interfaces import IDialect, Look
from ..ports import PortService
from ..records import ExchangeRecord
from ..relay import Exchange
from ..reply import header_text
from ..routing.complexity import RoutingFeatures, Score, score
from ..routing.policy import Plan
from ..runtime import Runtime, share_key
from ..settings import ModeSettings
from . import stays
from .http1 import Request

if TYPE_CHECKING:
    from .site import Fields, Site

#: User agents of programs rather than people: their commands are answered in JSON.
PROGRAMS = (
    b"anthropic/",
    b"asyncanthropic/",
    b"openai/",
    b"asyncopenai/",
    b"google-genai-sdk/",
    b"curl/", b"wget/", b"python-", b"node", b"go-http-client", b"okhttp")

#: Fields in which clients name their conversation: Claude Code, Codex, opencode.
_SESSIONS = (b"x-claude-code-session-id", b"session-id", b"x-session-id")
#: What makes the size of a request say nothing about its tokens.
_MEDIA = frozenset(["images", "documents"])


@attrs.frozen
class Decision:
    """
    What was decided for a turn.

    :param needs: what its requests needed then.
    :param serial: of the configuration it was decided under.
    """

    plan: Plan
    needs: frozenset[str]
    serial: int


class Messages:
    """
    Answers requests for a generation.

    :param dialect: the one that they and their answers are in.
    """

    def __init__(self, site: Site, dialect: IDialect) -> None:
        self._site = site
        self._house = site.house
        self._dialect = dialect

    def answer(self, request: Request, port: PortService, fields: Fields) -> None:
        """:raises RouterError: for a request that the router itself refuses."""
        house, body = self._house, self._site.plain_body(request, fields)
        look = self._dialect.look(body, request.path, request.query)
        if self._dialect.might_hold_command(body, look):
            command = parse(self._dialect.last_user_text(body) or "")
            if command is not None:
                self._command(request, port, fields, look, command)
                return
        state = house.state
        session = ""
        if state.has_sessions:
            session = self._dialect.session(fields, body)
        else:
            for name in _SESSIONS:
                given = fields.get(name)
                if given is not None:
                    session = given.decode("ascii", "replace")[:128]
                    break
        runtime = house.runtime
        mode = self._site.mode_of(port, session)
        over = self._over_budget(runtime)
        tag = None
        if mode.tags and (tag := self._dialect.tag(body, look)) is not None:
            body = request.body = self._dialect.without_tag(body, look)
            look = self._dialect.look(body, request.path, request.query)
        if tag is not None:
            turn = self._site.turns.of(mode.name, tag[1])
            self._site.turns.take(mode.name, tag[1])
            self._carry(request, port, look, session, mode, runtime, runtime.plan(mode, look, over, turn, tag=tag))
        elif mode.strategy in ("only", "fallback", "table"):
            self._carry(request, port, look, session, mode, runtime, runtime.plan(mode, look, over))
        elif mode.strategy == "interactive":
            self._interactive(request, port, look, session, mode, runtime, over)
        else:
            stay = stays.find(state, self._dialect, body, look, session, mode)
            turns = self._site.turns
            plan = runtime.plan(mode, look, over, turns.of(mode.name, look.model), stay.upstream, loop=stay.loop)
            # A conversation that stays takes nobody's turn: else those that stay could take every turn of one account.
            if plan.attempts and plan.attempts[0].upstream != stay.upstream:
                turns.take(mode.name, look.model)
            self._carry(request, port, look, session, mode, runtime, plan, stay)

    def _over_budget(self, runtime: Runtime) -> bool:
        ceiling = runtime.settings.budget.per_hour
        return ceiling is not None and self._house.ledger.spent(3600.0) >= ceiling * 10**12

    # ------------------------------------------------------------------------------------------- the plan's way

    def _carry(
        self,
        request: Request,
        port: PortService,
        look: Look,
        session: str,
        mode: ModeSettings,
        runtime: Runtime,
        plan: Plan,
        stay: stays.Stay = stays.NOWHERE,
    ) -> None:
        site, house = self._site, self._house
        record = ExchangeRecord(
            at=house.epoch(),
            port=port.number,
            mode=mode.name,
            requested=look.model,
            decision=plan.decision,
            session=session,
            stream=look.stream,
            request_id=site.request_id(),
            size=0 if look.needs & _MEDIA else look.size,
        )
        if plan.refusal is not None:
            status = self._dialect.error_status(plan.refusal)
            record.outcome, record.status, record.error = "error", status, plan.refusal.message
            house.record(runtime, record)
            about = [
                (b"x-mportrouter-mode", header_text(mode.name)),
                (b"x-mportrouter-attempts", b"0"),
                (b"x-mportrouter-decision", header_text(plan.decision)),
            ]
            site.refuse(request, plan.refusal, record.request_id, about, self._dialect)
            return
        site.begin()

        def done(exchange: Exchange) -> None:
            site.ended()
            if stay.key and exchange.record.outcome == "ok":
                stays.keep(house.state, stay, exchange.record.upstream, exchange.record.model)
            house.record(runtime, exchange.record)

        Exchange(
            house.clock,
            house.watch,
            request,
            self._dialect,
            look,
            plan,
            mode,
            runtime,
            record,
            done,
            hold=port.settings.commit == "complete",
            ping_after=runtime.settings.front.ping_after,
        ).start()

    # ------------------------------------------------------------------------------------------- interactive

    def _interactive(
        self,
        request: Request,
        port: PortService,
        look: Look,
        session: str,
        mode: ModeSettings,
        runtime: Runtime,
        over: bool,
    ) -> None:
        """Decide once for a person's turn, and stay with it through the tool loop that follows."""
        state = self._house.state
        turn = self._dialect.routing_text(request.body)
        key = f"{port.number}:{mode.name}:{look.model}:{over:d}:{session}:{turn.turn_key}"
        # Words alone do not make a conversation: only a loop that goes on is bound to what was decided for it. A loop
        # that has come to need more, or an upstream that has gone since, is decided anew.
        kept = state.decision(key) if turn.goes_on else None
        if kept is not None and look.needs <= kept.needs and kept.serial == runtime.serial:
            self._carry(request, port, look, session, mode, runtime, kept.plan)
            return

        def decide(value: Score) -> None:
            share = share_key(session, turn.turn_key)
            plan = runtime.plan_for_score(mode, look, over, value, share, self._house.epoch())
            if plan.refusal is None:
                state.set_decision(key, Decision(plan, look.needs, runtime.serial))
            self._carry(request, port, look, session, mode, runtime, plan)

        local = score(
            RoutingFeatures(
                text=turn.text,
                tool_count=turn.tool_count,
                message_count=turn.message_count,
                size=look.size,
            )
        )
        # Past the ceiling the strong upstream is no choice, and asking it would spend more.
        asked = self._house.analyse(mode, runtime, turn.text) if turn.text and not over else None
        if asked is None:
            decide(local)
            return
        left: list[bool] = []

        def gone() -> None:
            left.append(True)
            asked.cancel()

        request.on_gone = gone

        def analysed(result: Any) -> None:
            if not left:
                request.on_gone = None
                decide(local if isinstance(result, Failure) or result is None else result)

        asked.addBoth(analysed)
        asked.addErrback(self._site.failed, request)

    # ------------------------------------------------------------------------------------------- commands

    def _command(self, request: Request, port: PortService, fields: Fields, look: Look, command: Command) -> None:
        """Answer a ``/router`` command as an assistant message; no upstream is touched."""
        session = self._dialect.session(fields, request.body)
        as_json = command.json or wants_json(fields)
        began = self._house.clock.seconds()
        state, key = self._house.state, f"{port.number}:{session}"

        def in_conversation(result: Any) -> Any:
            """What the command means where this conversation has a mode of its own."""
            own = state.session_mode(key) if session else None
            if own is None or not isinstance(result, dict):
                return result
            if command.word == "mode" and command.name is not None and not command.session:
                state.set_session_mode(key, None)
                return {**result, "note": f"This conversation's own mode, {own}, is dropped with it."}
            return {**result, "session_mode": own} if command.word == "status" else result

        def text_of(result: Any) -> str:
            return to_json(result) if as_json else render(command, result)

        def refused(failure: Failure) -> str:
            failure.trap(CommandError)
            return text_of(failure.value)

        def send(text: str) -> None:
            id = self._site.request_id()
            kind, body = self._dialect.message(text, look, id, int(self._house.epoch()))
            headers = [
                (b"content-type", kind),
                (b"request-id", id.encode("ascii")),
                (b"x-mportrouter-mode", self._site.mode_of(port, session).name.encode("utf-8")),
                (b"x-mportrouter-upstream", b"mportrouter"),
                (b"x-mportrouter-attempts", b"0"),
            ]
            request.respond(200, headers, body)
            self._house.record(
                self._house.runtime,
                ExchangeRecord(
                    at=self._house.epoch(),
                    port=port.number,
                    mode=port.mode,
                    outcome="command",
                    requested=look.model,
                    status=200,
                    milliseconds=(self._house.clock.seconds() - began) * 1000.0,
                    stream=look.stream,
                    request_id=id,
                    session=session[:128],
                    decision=f"/router {command.word}",
                ),
            )

        answer = maybeDeferred(execute, command, self._house.console, port.number, session or None)
        answer.addCallback(in_conversation)
        answer.addCallback(text_of)
        answer.addErrback(refused)
        answer.addCallback(send)
        answer.addErrback(self._site.failed, request)


def wants_json(fields: Fields) -> bool:
    """Whether the client of a command is a program, or says that it wants JSON (or, for a person behind it, text)."""
    wanted = fields.get(b"x-mportrouter-format", b"").strip().lower()
    if wanted in (b"json", b"text"):
        return wanted == b"json"
    agent = fields.get(b"user-agent", b"").lower()
    return agent.startswith(PROGRAMS) or (agent.startswith(b"claude-cli/") and b"sdk-" in agent)

