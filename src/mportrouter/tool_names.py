"""
Names and ids of tool calls on their way to a target and back.

Each dialect has its own idea of a legal name and a legal id. What is legal stays as it is. What is not is renamed by a
pure function of itself, so that tools, ``tool_choice``, calls and results of every turn agree without any memory, and
the same conversation gives the same bytes again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from .conversation import Tool, ToolCall, Turn
from .interfaces import AnswerContext
from .settings import Capabilities

_ILLEGAL = re.compile("[^a-zA-Z0-9_-]+")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ToolNames:
    """
    The tools of a conversation under names that a target takes.

    :param limit: characters of a name there.
    :param pattern: a regular expression that a legal name matches whole.
    :param custom: the target has tools of free text itself.
    :param namespaces: the target has namespaces itself.
    :ivar tools: function and custom tools as the target gets them, each once; server tools are not in it.
    :ivar names: by the name at the target, what a call of it is for the client: only where the two differ, or where a
        call must come back as something else than a function's.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        turns: Sequence[Turn],
        *,
        limit: int,
        pattern: str,
        custom: bool = False,
        namespaces: bool = False,
    ) -> None:
        self._limit = limit
        self._legal = fullmatch(pattern)
        self._custom = custom
        self._namespaces = namespaces
        self._wire: dict[tuple[str, str], str] = {}
        #: Namespace there, and name.
        self._taken: set[tuple[str, str]] = set()
        #: Names that stand in one namespace only to it.
        self._alone: dict[str, str] = {}
        names: dict[str, Tool] = {}
        offered = [tool for tool in tools if tool.kind != "server"]
        # Names that are legal as they stand keep themselves, whatever else is renamed into their neighbourhood.
        for tool in offered:
            if (namespaces or not tool.namespace) and self._is_legal(tool.name):
                self._wire[tool.namespace, tool.name] = tool.name
                self._taken.add((tool.namespace, tool.name))
        found: dict[tuple[str, str], Tool] = {}
        for tool in offered:
            key = (tool.namespace, tool.name)
            if key not in found:
                found[key] = self._written(tool)
                self._remember(names, tool)
        for space, name in found:
            if ("", name) not in found:
                self._alone[name] = "" if name in self._alone else space
        self.tools: tuple[Tool, ...] = tuple(found.values())
        seen: set[tuple[str, str]] = set(found)
        for call in _calls(turns):
            key = (call.namespace, call.name)
            if key not in seen:
                seen.add(key)
                # A model imitates what it sees: a call of a tool that is offered no more comes back by its own name.
                kind = "custom" if call.custom else "function"
                self._remember(names, Tool(call.name, kind=kind, namespace=call.namespace))
        self.names: Mapping[str, Tool] = names

    def wire(self, name: str, namespace: str = "") -> str:
        """
        The name at the target, of a tool that is offered or was called.

        :param namespace: may be left out where only one tool has that name (results do not repeat it).
        """
        known = self._wire.get((namespace, name))
        if known is not None:
            return known
        if not namespace and (inner := self._alone.get(name)):
            return self.wire(name, inner)
        flat = name if self._namespaces or not namespace else f"{namespace}__{name}"
        legal = self._is_legal(flat) and (namespace if self._namespaces else "", flat) not in self._taken
        made = flat if legal else self._renamed(flat, namespace, name)
        self._wire[namespace, name] = made
        return made

    def arguments(self, call: ToolCall) -> str:
        """
        The JSON text of a call's arguments for the target; the source's own text where that is an object.

        A custom tool's input is wrapped (or stays raw where the target has such tools); what is no object is kept as
        ``{"_raw": text}``, since a broken call in the history must not break every turn after it.
        """
        text = call.arguments
        if call.custom:
            return text if self._custom else _dumps({"input": text})
        if text == "{}" or not text.strip():
            return "{}"
        try:
            _object(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _repaired(text)
        return text

    def _is_legal(self, name: str) -> bool:
        return 0 < len(name) <= self._limit and self._legal(name) is not None

    def _renamed(self, flat: str, namespace: str, name: str) -> str:
        digest = hashlib.sha256(f"{namespace}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
        stem = _ILLEGAL.sub("_", flat)
        for length in range(8, len(digest) + 1, 8):
            made = f"{stem[: max(self._limit - length - 1, 0)]}_{digest[:length]}"
            if self._legal(made) is None:
                made = "t" + made[: self._limit - 1]
            if (namespace if self._namespaces else "", made) not in self._taken:
                break
        return made

    def _written(self, tool: Tool) -> Tool:
        name = self.wire(tool.name, tool.namespace)
        namespace = tool.namespace if self._namespaces else ""
        self._taken.add((namespace, name))
        if tool.kind == "custom" and not self._custom:
            return Tool(
                name, _described(tool), _INPUT, strict=None, namespace=namespace, options=tool.options, cache=tool.cache
            )
        if name == tool.name and namespace == tool.namespace:
            return tool
        return replace(tool, name=name, namespace=namespace)

    def _remember(self, names: dict[str, Tool], tool: Tool) -> None:
        name = self.wire(tool.name, tool.namespace)
        differs = (
            name != tool.name
            or (tool.kind == "custom" and not self._custom)
            or (bool(tool.namespace) and not self._namespaces)
        )
        if differs and name not in names:
            names[name] = tool


_INPUT: dict[str, Any] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


def restored(names: Mapping[str, Tool], wire: str) -> Tool | None:
    """What a call under this name is for the client, ``None``: a function's of the same name."""
    return names.get(wire)


def wire_id(id: str, capabilities: Capabilities) -> str:
    """
    The id of a call for a target: itself where it is legal there, else made of it; the same for call and result.
    """
    if len(id) <= capabilities.tool_id_max and fullmatch(capabilities.tool_id_pattern)(id) is not None:
        return id
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return ("t" + digest[:30])[: capabilities.tool_id_max]


def made_up(prefix: str, request_id: str, number: int, length: int = 24) -> str:
    """
    An id of our own: the same for the same exchange and number.

    :param length: letters and digits after the prefix.
    """
    digest = hashlib.shake_256(f"{prefix}\0{request_id}\0{number}".encode("utf-8", "surrogatepass"))
    return prefix + digest.hexdigest((length + 1) // 2)[:length]


class AnswerIds:
    """
    Ids of the calls in one answer, towards its client.

    :param prefix: of ids that are made up: ``toolu_``, ``call_``.
    :param pattern: a regular expression that the client's legal ids match whole.
    :param limit: characters of an id there.
    """

    __slots__ = ("_context", "_legal", "_limit", "_number", "_prefix", "_used")

    def __init__(self, context: AnswerContext, prefix: str, pattern: str, limit: int) -> None:
        self._context = context
        self._prefix = prefix
        self._legal = fullmatch(pattern)
        self._limit = limit
        self._number = 0
        self._used: set[str] | None = None

    def call(self, upstream_id: str) -> str:
        """
        :param upstream_id: ``""`` where the upstream gave none.
        :returns: the upstream's own where it is legal and neither the history nor this answer has it, else one made up.
        """
        used = self._used
        if used is None:
            used = self._used = {call.id for call in _calls(self._context.conversation.turns)}
        chosen = upstream_id
        if not chosen or len(chosen) > self._limit or chosen in used or self._legal(chosen) is None:
            while True:
                chosen = made_up(self._prefix, self._context.request_id, self._number)
                self._number += 1
                if chosen not in used:
                    break
        used.add(chosen)
        return chosen


def _calls(turns: Sequence[Turn]) -> Iterator[ToolCall]:
    for turn in turns:
        if turn.role == "assistant":
            for part in turn.parts:
                if type(part) is ToolCall:
                    yield part


@functools.lru_cache(maxsize=64)
def fullmatch(pattern: str) -> Callable[[str], object]:
    """The test whether a text matches a pattern whole, compiled once."""
    return re.compile(pattern, re.ASCII).fullmatch


def _described(tool: Tool) -> str:
    """A custom tool's description with its grammar, which a function's schema has no place for."""
    grammar = tool.grammar or {}
    definition = grammar.get("definition")
    if not isinstance(definition, str) or not definition:
        return tool.description
    words = f"`input` must follow this {grammar.get('syntax') or ''} grammar:".replace("  ", " ")
    return f"{tool.description}\n\n{words}\n{definition}" if tool.description else f"{words}\n{definition}"


def _repaired(text: str) -> str:
    """An object that only the lenient reader takes, written anew; anything else as the value of ``_raw``."""
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return _dumps({"_raw": text})
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return _dumps(value)
    return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _dumps(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
