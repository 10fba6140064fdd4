"""
One configuration in force: its settings, its upstreams, its prices, and the plans made under it.

A reload builds a new :class:`Runtime` and swaps it in; an exchange keeps the one it began under to its end.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from typing import Any

import attrs

from .conversation import Conversation
from .interfaces import Look, Target
from .pricing import PriceBook, claude_equivalent
from .records import ExchangeRecord, Usage
from .routing.accounts import asked_for
from .routing.complexity import Score
from .routing.policy import Attempt, Facts, Plan, UpstreamView, plan
from .settings import ModeSettings, Settings
from .tokens import Calibration, estimate_tokens, media_tokens
from .upstream import Upstream

_PLANS = 1024  # plans that are remembered
#: Strategies whose plans depend on nothing but the facts and the ranks.
_REMEMBERED = frozenset(["only", "fallback", "table"])


@attrs.define(eq=False)
class Runtime:
    """
    :param upstreams: by id; the same objects as before a reload where their settings did not change.
    """

    settings: Settings
    upstreams: Mapping[str, Upstream]
    prices: PriceBook
    #: What was learnt of the models' tokens, over reloads.
    calibration: Calibration = attrs.field(factory=Calibration)
    #: Tells this configuration from those before and after it.
    serial: int = attrs.field(factory=itertools.count(1).__next__, init=False)
    _plans: dict[tuple[Any, ...], Plan] = attrs.field(factory=dict, init=False)
    _targets: dict[tuple[str, str, str], Target] = attrs.field(factory=dict, init=False)
    _pinned: dict[tuple[str, str], ModeSettings] = attrs.field(factory=dict, init=False)

    def mode(self, name: str) -> ModeSettings:
        """:raises KeyError: for a name that the configuration does not have."""
        return self.settings.modes[name]

    def pinned(self, mode: ModeSettings, upstream: str) -> ModeSettings:
        """
        A mode as it is while somebody has switched it to one of its upstreams: that one alone, and its own errors are
        the answers.

        :param upstream: its id; the mode as it is where it does not have that one any more.
        """
        if upstream not in mode.upstreams:
            return mode
        key = (mode.name, upstream)
        found = self._pinned.get(key)
        if found is None:
            # Of another name, since plans are remembered by it. After a failure there is nobody else to ask meanwhile,
            # so nothing is left alone for longer than its circuit says.
            found = self._pinned[key] = attrs.evolve(
                mode, name=f"{mode.name}/{upstream}", strategy="only", upstreams=(upstream,), cooldown=None
            )
        return found

    def target(self, attempt: Attempt) -> Target:
        """Whom a body for ``attempt`` is prepared for."""
        key = (attempt.upstream, attempt.model, attempt.path)
        target = self._targets.get(key)
        if target is None:
            upstream = self.upstreams[attempt.upstream]
            capabilities = upstream.capabilities_for(attempt.model)
            if attempt.path:
                capabilities = attrs.evolve(capabilities, generate_path=attempt.path)
            target = Target(upstream.provider_name, attempt.model, capabilities)
            if len(self._targets) < _PLANS:
                self._targets[key] = target
        return target

    def context(self, attempt: Attempt) -> int | None:
        """Tokens that the attempt's model takes, or ``None`` where unknown."""
        upstream = self.upstreams[attempt.upstream]
        known = self.prices.context(upstream.provider_name, attempt.model)
        return known or upstream.capabilities_for(attempt.model).context

    def estimate(self, attempt: Attempt, size: int) -> int:
        """
        Tokens that a prompt may have at an attempt's model.

        :param size: bytes of the request.
        """
        return self.calibration.estimate(self.upstreams[attempt.upstream].provider_name, attempt.model, size)

    def estimate_conversation(self, attempt: Attempt, conversation: Conversation, size: int) -> int:
        """The same with a better judgement of pictures and documents, for a request that has been read."""
        media, tokens = media_tokens(conversation)
        return self.estimate(attempt, max(0, size - media)) + tokens

    def plan(
        self,
        mode: ModeSettings,
        look: Look,
        over_budget: bool,
        turn: int = 0,
        stay: str = "",
        tag: tuple[str, str] | None = None,
        loop: str = "",
    ) -> Plan:
        """
        The plan of a mode that decides without reading the text.

        The same facts and the same state of the circuits give the same plan, so it is remembered where that is all
        that counts.

        :param turn: how many requests this mode has had before.
        :param stay: the upstream that the conversation was served by last, or ``""``.
        :param tag: what a sub-agent's tag names, or ``None``.
        :param loop: the model that a loop of tools under way is with, where the mode chooses it, or ``""``.
        """
        if tag is not None or mode.strategy not in _REMEMBERED:
            return self._plan(mode, look, over_budget, None, "", 0, 0.0, turn, stay, tag, loop)
        model = look.model
        upstreams = self.upstreams
        state = []
        for id in mode.upstreams:
            upstream = upstreams[id]
            state.append(upstream.circuit.rank(upstream.model_for(model)) if upstream.enabled else -1)
        key = (mode.name, model, look.needs, over_budget, *state)
        found = self._plans.get(key)
        if found is None:
            found = self._plan(mode, look, over_budget, None, "", 0, 0.0)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = found
        return found

    def plan_for_score(
        self, mode: ModeSettings, look: Look, over_budget: bool, score: Score, share_key: str, at: float
    ) -> Plan:
        """
        The plan of an interactive mode.

        :param score: the task's complexity.
        :param at: seconds since the epoch; prices depend on it.
        :param share_key: what the share between the upstreams is decided by; the same key, the same side.
        """
        return self._plan(mode, look, over_budget, score, share_key, estimate_tokens(look.size), at)

    def _plan(
        self,
        mode: ModeSettings,
        look: Look,
        over_budget: bool,
        score: Score | None,
        share_key: str,
        tokens: int,
        at: float,
        turn: int = 0,
        stay: str = "",
        tag: tuple[str, str] | None = None,
        loop: str = "",
    ) -> Plan:
        facts = Facts(
            mode=mode.name,
            model=look.model,
            stream=look.stream,
            needs=look.needs,
            estimated_tokens=tokens,
            max_output=look.max_output,
            score=score,
            share_key=share_key,
            turn=turn,
            stay=stay,
            tag=tag,
        )
        # A tag may name any upstream: the mode's own are for requests without one.
        ids = mode.upstreams if tag is None else tuple(self.upstreams)
        views = [self._view(id, mode, look, tokens, at, tag, loop) for id in ids]
        if loop and not any(view.offers for view in views):
            # The configuration has changed meanwhile: another model is better than none.
            views = [self._view(id, mode, look, tokens, at, tag) for id in ids]
        return plan(mode, facts, views, over_budget, self.settings.budget.per_hour)

    def _view(
        self,
        id: str,
        mode: ModeSettings,
        look: Look,
        tokens: int,
        at: float,
        tag: tuple[str, str] | None,
        loop: str = "",
    ) -> UpstreamView:
        upstream = self.upstreams[id]
        offered = upstream.settings.offers
        model, offers = asked_for(mode, look.model, tag, offered, upstream.model_for, loop)
        limit = upstream.settings.limits.concurrency
        cost = None
        if tokens:
            # An answer is seldom a quarter of what a client allows, and nearly never more than a few thousand tokens.
            output = min((look.max_output or 4096) // 4, 4096)
            cost = self.prices.cost(upstream.provider_name, model, Usage(input=tokens, output=output), at)
        return UpstreamView(
            id=id,
            provider=upstream.provider_name,
            capabilities=upstream.capabilities_for(model),
            rank=upstream.circuit.rank(model),
            load=upstream.in_flight / limit if limit else 0.0,
            model=model,
            context=self.context(Attempt(id, model, "")),
            enabled=upstream.enabled and not upstream.lacking_key,
            cost=cost,
            offers=offers,
            models=offered,
            reason=upstream.lacking_key,
            retry_in=upstream.circuit.retry_in(model),
        )

    def price(self, record: ExchangeRecord) -> None:
        """Fill in what an exchange cost, and what it would have cost with Claude alone."""
        usage = record.usage
        if usage is None:
            return
        if not usage.estimated and record.size:
            self.calibration.learn(record.provider, record.model, record.size, usage.prompt)
        record.cost = self.prices.cost(record.provider, record.model, usage, record.at) or 0
        if record.provider == "anthropic":
            record.reference_cost = record.cost
        else:
            model = claude_equivalent(record.requested)
            record.reference_cost = self.prices.cost("anthropic", model, usage, record.at)


def share_key(session: str, turn_key: str) -> str:
    """A short stable key for sharing traffic: the turn's, so that a tool loop stays where it began."""
    return f"{zlib.crc32(session.encode('utf-8', 'replace')):08x}:{turn_key}"
