"""
Calls and their results put where every provider wants them: each call answered once, right after the turn that made it.

What a turn becomes depends on what stands before it, and on the tool results and words up to the next assistant's
turn; never on anything later. So a longer conversation has the same beginning, and prompt caches hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from .conversation import Part, Text, ToolCall, ToolResult, Turn
from .settings import Capabilities
from .tool_names import wire_id

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
        self._complete = complete
        self._used: set[str] = set()
        self._known: set[str] = set()
        self._answered: set[str] = set()
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
                self._known.add(part.id)
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
        number = 2
        while made in self._used:
            made = wire_id(f"{base}_{number}", self._capabilities)
            number += 1
        self._used.add(made)
        return made

    def _window(self, calls: list[_Call], window: list[Turn]) -> list[Turn]:
        """What stands between the assistant's turns, the results of its calls first."""
        if calls and len(window) == 1:
            placed = self._in_place(calls, window[0])
            if placed is not None:
                return [placed]
        rest: list[Turn] = []
        for turn in window:
            if turn.role == "user" and any(type(part) is ToolResult for part in turn.parts):
                parts: list[Part] = []
                for part in turn.parts:
                    if type(part) is ToolResult:
                        parts += self._take(calls, part)
                    else:
                        parts.append(part)
                if len(parts) == len(turn.parts) and all(map(_same, parts, turn.parts)):
                    rest.append(turn)
                elif parts:
                    rest.append(replace(turn, parts=tuple(parts)))
            else:
                rest.append(turn)
        results = [result for call in calls if (result := self._result(call)) is not None]
        if not results:
            return rest
        if rest and rest[0].role == "user" and window[0].role == "user":
            return [replace(rest[0], parts=(*results, *rest[0].parts)), *rest[1:]]
        return [Turn("user", tuple(results)), *rest]

    def _in_place(self, calls: list[_Call], turn: Turn) -> Turn | None:
        """The usual case: one user turn that begins with the results, in the order of the calls."""
        parts = turn.parts
        count = len(calls)
        if turn.role != "user" or len(parts) < count:
            return None
        results: list[Part] = []
        same = True
        for call, part in zip(calls, parts, strict=False):
            if type(part) is not ToolResult or part.call_id != call.raw.id:
                return None
            new = call.fill(part)
            same = same and new is part
            results.append(new)
        for part in parts[count:]:
            if type(part) is ToolResult:
                return None
        self._answered.update([call.raw.id for call in calls])
        return turn if same else Turn("user", (*results, *parts[count:]), turn.phase)

    def _take(self, calls: list[_Call], result: ToolResult) -> list[Part]:
        """Give a result to its call; what stays where it stood, if anything."""
        call = _wanted(calls, result)
        if call is not None:
            if call.result is not None:
                self.notes["repeated tool results (the last one counts)"] = None
            call.result = result
            return []
        if not self._complete:
            return [result]
        if result.call_id in self._answered:
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
            self._answered.add(call.raw.id)
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


def _wanted(calls: list[_Call], result: ToolResult) -> _Call | None:
    """
    The call that a result answers: the first unanswered one of its id, else (the result comes again) the last one.

    Dialects without ids pair by name and order.
    """
    if result.call_id:
        same = [call for call in calls if call.raw.id == result.call_id]
        return next((call for call in same if call.result is None), same[-1] if same else None)
    nameless = [call for call in calls if not call.raw.id and call.result is None]
    return next((call for call in nameless if call.raw.name == result.name), None)


def _same(one: object, other: object) -> bool:
    return one is other
