"""
Calls and their results put where every provider wants them: each call answered once, right after the turn that made it.

What a turn becomes depends on what stands before it, and on the tool results and words up to the next assistant's
turn; never on anything later. So a longer conversation has the same beginning, and prompt caches hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

from msgspec.structs import replace

from .conversation import Part, Text, ToolCall, ToolResult, Turn
from .settings import Capabilities
from .tool_names import fullmatch, wire_id

#: What a call is answered with that nobody answered.
UNANSWERED = "[no result]"


class Pairing:
    """
    One conversation's pass; used once.

    :param capabilities: of the target: which ids are legal there.
    :param complete: calls without a result get one that says so, and results without a call become text.
    :ivar notes: what was put right, as keys.
    """

    def __init__(self, capabilities: Capabilities, complete: bool) -> None:
        self.notes: dict[str, None] = {}
        self._capabilities = capabilities
        self._legal = fullmatch(capabilities.tool_id_pattern)
        self._complete = complete
        #: Ids at the target.
        self._used: set[str] = set()
        #: How often an id was taken already when a call came with it.
        self._repeated: dict[str, int] = {}
        #: Ids as they came, and whether the last call of that id was answered.
        self._known: dict[str, bool] = {}
        self._count = 0

    def turns(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns with calls and results in place; those without any are the same objects."""
        out: list[Turn] = []
        at, end = 0, len(turns)
        while at < end:
            turn = turns[at]
            if turn.role != "assistant":
                # Before the first assistant's turn: nothing can have been called.
                out += self._window([], [turn])
                at += 1
                continue
            if at + 1 < end and (at + 2 == end or turns[at + 2].role == "assistant"):
                usual = self._usual(turn, turns[at + 1])
                if usual is not None:
                    out.append(turn)
                    out.append(usual)
                    at += 2
                    continue
            run = [turn]
            at += 1
            while at < end and turns[at].role == "assistant":
                run.append(turns[at])
                at += 1
            window: list[Turn] = []
            while at < end and turns[at].role != "assistant":
                window.append(turns[at])
                at += 1
            calls = self._calls(run, out)
            out += self._window(calls, window)
        return out

    def _usual(self, turn: Turn, answer: Turn) -> Turn | None:
        """
        The usual case: one assistant's turn, and one user's that begins with the results in the order of the calls.

        :returns: the user's turn, or ``None`` where it is another case (then nothing has been remembered).
        """
        parts = answer.parts
        if answer.role != "user":
            return None
        used, known, legal, longest = self._used, self._known, self._legal, self._capabilities.tool_id_max
        results: list[Part] | None = None
        at = 0
        ids: list[str] = []
        for call in turn.parts:
            if type(call) is not ToolCall:
                continue
            if at == len(parts):
                return None
            part, id = parts[at], call.id
            if type(part) is not ToolResult or part.call_id != id or id in used:
                return None
            if not id or len(id) > longest or legal(id) is None:
                return None
            if part.name != call.name or part.custom != call.custom:
                if results is None:
                    results = list(parts)
                results[at] = ToolResult(id, part.parts, call.name, part.is_error, call.custom, part.cache)
            ids.append(id)
            at += 1
        for place in range(at, len(parts)):
            if type(parts[place]) is ToolResult:
                return None
        if at > 1 and len(set(ids)) < at:
            return None
        for id in ids:
            used.add(id)
            known[id] = True
        self._count += at
        return answer if results is None else Turn("user", tuple(results), answer.phase)

    def _calls(self, run: list[Turn], out: list[Turn]) -> list[_Call]:
        """Write the assistant's turns that follow each other; the calls in them."""
        calls: list[_Call] = []
        merged: list[Part] = []
        phase: str | None = None
        for index, turn in enumerate(run):
            parts: list[Part] | None = None
            for place, part in enumerate(turn.parts):
                if type(part) is not ToolCall:
                    continue
                call = _Call(part, self._name(part.id))
                calls.append(call)
                self._known[part.id] = False
                if call.wire != part.id:
                    if parts is None:
                        parts = list(turn.parts)
                    parts[place] = replace(part, id=call.wire)
            if parts is not None:
                turn = replace(turn, parts=tuple(parts))
            if calls and (merged or index + 1 < len(run)):
                # Results must follow their call's turn at once, so what the assistant goes on with belongs to it.
                merged += turn.parts
                phase = phase or turn.phase
            else:
                out.append(turn)
        if merged:
            out.append(Turn("assistant", tuple(merged), phase))
        return calls

    def _name(self, id: str) -> str:
        """An id that no earlier call has, legal at the target."""
        self._count += 1
        base = id or f"call_{self._count}"
        made = wire_id(base, self._capabilities)
        number = self._repeated.get(base, 1)
        while made in self._used:
            number += 1
            made = wire_id(f"{base}_{number}", self._capabilities)
        if number > 1:
            self._repeated[base] = number
        self._used.add(made)
        return made

    def _window(self, calls: list[_Call], window: list[Turn]) -> list[Turn]:
        """What stands between the assistant's turns, the results of its calls first."""
        rest: list[Turn] = []
        joins = False
        waiting = _Waiting(calls)
        for index, turn in enumerate(window):
            if turn.role == "user":
                others = self._without_results(waiting, turn.parts)
                if others is not turn.parts:
                    if not others:
                        continue
                    turn = replace(turn, parts=others)
                joins = joins or index == 0
            rest.append(turn)
        results: list[Part] = [result for call in calls if (result := self._result(call)) is not None]
        if not results:
            return rest
        parts = (*results, *rest[0].parts) if joins else tuple(results)
        first = window[0] if window else None
        if first is not None and len(first.parts) == len(parts) and all(map(is_, first.parts, parts)):
            rest[:joins] = [first]
        else:
            rest[:joins] = [Turn("user", parts)]
        return rest

    def _without_results(self, waiting: _Waiting, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts without the results that go to their calls; the same tuple where nothing changes."""
        if not any(type(part) is ToolResult for part in parts):
            return parts
        out: list[Part] = []
        for part in parts:
            if type(part) is ToolResult:
                out += self._take(waiting, part)
            else:
                out.append(part)
        return parts if len(out) == len(parts) and all(map(is_, out, parts)) else tuple(out)

    def _take(self, waiting: _Waiting, result: ToolResult) -> list[Part]:
        """Give a result to its call; what stays where it stood, if anything."""
        call = waiting.take(result)
        if call is not None:
            if call.result is not None:
                self.notes["repeated tool results (the last one counts)"] = None
            call.result = result
            return []
        if not self._complete:
            return [result]
        if self._known.get(result.call_id):
            self.notes["repeated tool results (the first one counts)"] = None
            return []
        id = result.call_id or result.name
        if result.call_id in self._known:
            # Its call was answered as failed when the assistant went on: that turn stays as the model saw it.
            self.notes["tool results that came late (sent as text)"] = None
            head = f"[late result of tool call {id}]"
        else:
            self.notes["tool results without a call (sent as text)"] = None
            head = f"[result of unknown tool call {id}]"
        words = [part.text for part in result.parts if type(part) is Text]
        others = [part for part in result.parts if type(part) is not Text]
        return [Text("\n".join([f"{head}:", *words]) if words else head, cache=result.cache), *others]

    def _result(self, call: _Call) -> ToolResult | None:
        if call.result is not None:
            self._known[call.raw.id] = True
            return call.fill(call.result)
        if not self._complete:
            return None
        self.notes["tool calls without a result (answered as failed)"] = None
        return ToolResult(call.wire, (Text(UNANSWERED),), call.raw.name, True, call.raw.custom)


class _Call:
    """A call, its id at the target, and the result that it got."""

    __slots__ = ("raw", "result", "wire")

    def __init__(self, raw: ToolCall, wire: str) -> None:
        self.raw = raw
        self.wire = wire
        self.result: ToolResult | None = None

    def fill(self, result: ToolResult) -> ToolResult:
        """The result under the call's id and name; the same object where it has them."""
        raw = self.raw
        if result.call_id == self.wire and result.name == raw.name and result.custom == raw.custom:
            return result
        return ToolResult(self.wire, result.parts, raw.name, result.is_error, raw.custom, result.cache)


class _Waiting:
    """
    Calls that wait for their results: each result goes to the first unanswered call of its id, and where all are
    answered (it comes again) to the last one. Dialects without ids pair by name and order.
    """

    __slots__ = ("_last", "_waiting")

    def __init__(self, calls: list[_Call]) -> None:
        self._waiting: dict[tuple[str, str], list[_Call]] = {}
        self._last: dict[str, _Call] = {}
        for call in reversed(calls):
            id = call.raw.id
            self._waiting.setdefault((id, "" if id else call.raw.name), []).append(call)
            self._last.setdefault(id, call)

    def take(self, result: ToolResult) -> _Call | None:
        id = result.call_id
        waiting = self._waiting.get((id, "" if id else result.name))
        if waiting:
            return waiting.pop()
        return self._last.get(id) if id else None
