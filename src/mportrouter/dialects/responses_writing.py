"""
Neutral conversations as requests of the OpenAI Responses dialect.

The same conversation gives the same bytes, and a longer one the same beginning: members stand in a fixed order, and
``input`` last among what a prompt cache sees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from .. import reasoning_controls, schemas, splice
from ..conversation import Conversation, Text, Turn
from ..interfaces import Inexpressible, Prepared, Target
from ..repair import Repaired, Wishes, repair
from ..tool_names import ToolNames
from . import responses_parts, responses_tools
from .responses_items import NAME

_ENCRYPTED = "reasoning.encrypted_content"
_BILLING = "x-anthropic-billing-header:"
#: The dialect's own bounds: characters of a tool's name and of opaque ids, and the least limit of an answer.
_NAME_PATTERN = "[a-zA-Z0-9_-]+"
_NAME_LIMIT = 128
_ID_LIMIT = 64
_LEAST_OUTPUT = 16
#: Name of an output format that has none.
_FORMAT_NAME = "response"
_AS_JSON = "Answer with one JSON object and nothing else."

#: How the clients' dialects spell what has no counterpart here.
_SPELT: Mapping[str, Mapping[str, str]] = {
    "anthropic": {"stop": "stop_sequences", "max_output": "max_tokens", "output": "output_config.format"},
    "openai-chat": {"max_output": "max_tokens", "output": "response_format", "choices": "n"},
    "gemini": {
        "stop": "stopSequences",
        "max_output": "maxOutputTokens",
        "output": "responseSchema",
        "choices": "candidateCount",
        "top_k": "topK",
        "presence_penalty": "presencePenalty",
        "frequency_penalty": "frequencyPenalty",
    },
}
#: Members that are written whether a client asked for them or not.
_OURS = frozenset({"store", "include", "prompt_cache_key"})
_WIRE = {"max_output_tokens": "max_output", "safety_identifier": "user"}
_TIERS = {"standard_only": "default"}
_PLAIN_TIERS = frozenset({"auto", "default", "flex", "priority", "scale", "fast"})


def write_request(conversation: Conversation, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.write_request`."""
    body, names, notes = _body(conversation, target)
    capabilities = target.capabilities
    body["stream"] = capabilities.stream_only or conversation.stream
    for name in capabilities.strip_fields:
        if name in body and name not in ("model", "input", "stream"):
            del body[name]
            if name not in _OURS:
                notes[_spelt(conversation, _WIRE.get(name, name))] = None
    path = b"" if capabilities.generate_path is None else capabilities.generate_path.encode()
    return Prepared(splice.dumps(body), tuple(notes), path, b"", names.names)


def write_count(conversation: Conversation, target: Target) -> Prepared:
    """See :meth:`mportrouter.interfaces.IDialect.write_count`: what shapes the answer is no part of the question."""
    body, names, notes = _body(conversation, target)
    kept = ("model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text")
    return Prepared(
        splice.dumps({name: body[name] for name in kept if name in body}), tuple(notes), b"", b"", names.names
    )


def _body(conversation: Conversation, target: Target) -> tuple[dict[str, Any], ToolNames, dict[str, None]]:
    capabilities = target.capabilities
    notes: dict[str, None] = dict.fromkeys(conversation.unread)
    names = ToolNames(
        conversation.tools,
        conversation.turns,
        limit=min(capabilities.tool_name_max, _NAME_LIMIT),
        pattern=_NAME_PATTERN,
        custom=True,
        namespaces=True,
    )
    repaired = repair(conversation, _unbilled(conversation, target), _wishes(target))
    notes.update((note, None) for note in repaired.notes)
    marks = capabilities.cache_marks == "prompt_cache_breakpoint"
    writer = responses_parts.Writer(conversation, target, names, marks, notes)
    body: dict[str, Any] = {"model": target.model}
    items = _system(repaired, writer, marks, capabilities.stateless_only, body)
    for turn in repaired.turns:
        items += writer.turn(turn)
    if not items:
        items = _instructions_alone(repaired.system, body)
    body.update(responses_tools.write(conversation, names, target, notes))
    body["input"] = items
    _reasoning(conversation, target, body, notes)
    _text(conversation, target, body, notes)
    _limits(conversation, target, body, notes)
    _identity(conversation, target, body, notes)
    body["store"] = False
    return body, names, notes


def _wishes(target: Target) -> Wishes:
    return Wishes(
        keep_dialect=NAME,
        system_turns="keep",
        reasoning=True,
        text_reasoning=target.capabilities.reasoning_echo in ("required", "allowed"),
    )


def _unbilled(conversation: Conversation, target: Target) -> Target:
    """Only its own provider gets a line that changes with each request: no prompt cache would hold."""
    if target.capabilities.billing_header and any(part.text.startswith(_BILLING) for part in conversation.system):
        return attrs.evolve(target, capabilities=attrs.evolve(target.capabilities, billing_header=False))
    return target


def _system(
    repaired: Repaired, writer: responses_parts.Writer, marks: bool, alone: bool, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Instructions as the member; as items where marks of the prompt cache stand in them."""
    texts = repaired.system
    if marks and any(part.cache is not None for part in texts):
        if alone:
            body["instructions"] = ""
        return writer.turn(Turn("system", texts))
    if texts or alone:
        body["instructions"] = "\n\n".join(part.text for part in texts)
    return []


def _instructions_alone(system: tuple[Text, ...], body: dict[str, Any]) -> list[dict[str, Any]]:
    """An input must not be empty: where nobody said anything, the last instruction is what is to be done."""
    if not system:
        raise Inexpressible("there is no message that the model could answer")
    *others, last = system
    body.pop("instructions", None)
    if others:
        body["instructions"] = "\n\n".join(part.text for part in others)
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": last.text}]}]


# ------------------------------------------------------------------------------------------ members


def _reasoning(conversation: Conversation, target: Target, body: dict[str, Any], notes: dict[str, None]) -> None:
    capabilities = target.capabilities
    found = reasoning_controls.asked(conversation.reasoning, capabilities, conversation.max_output)
    if found is not None:
        notes.update((note, None) for note in found.notes)
        reasoning: dict[str, Any] = {}
        if found.effort is not None:
            reasoning["effort"] = found.effort
        control = conversation.reasoning
        wanted = found.show == "summarised"
        if found.show is None and control is not None and not found.off:
            # Who turns thinking on and says nothing more gets to see it in its own dialect.
            wanted = control.mode in ("on", "adaptive") or control.budget is not None
        if wanted and capabilities.reasoning_kind != "none":
            reasoning["summary"] = "auto"
        if reasoning:
            body["reasoning"] = reasoning
    include: list[str] = []
    if capabilities.reasoning_kind != "none":
        include.append(_ENCRYPTED)
    sampling = conversation.sampling
    if sampling.logprobs or sampling.top_logprobs is not None:
        if "logprobs" in capabilities.sampling_refused:
            notes["logprobs"] = None
        else:
            include.append("message.output_text.logprobs")
            if sampling.top_logprobs is not None:
                body["top_logprobs"] = sampling.top_logprobs
    if include:
        body["include"] = include


def _text(conversation: Conversation, target: Target, body: dict[str, Any], notes: dict[str, None]) -> None:
    capabilities, output = target.capabilities, conversation.output
    text: dict[str, Any] = {}
    if output is not None:
        name = _spelt(conversation, "output")
        known = capabilities.output_format
        if known == "none" or capabilities.structured_output == "refused":
            raise Inexpressible(f"`{name}`: this upstream does not bind its answers to a format")
        if output.kind == "json":
            text["format"] = {"type": "json_object"}
            if b"json" not in splice.dumps(body["input"][:1]).lower():
                # The API refuses the form where no message speaks of it; the instructions are none. Later messages
                # are not looked at: a longer conversation must begin alike.
                said = [{"type": "input_text", "text": _AS_JSON}]
                body["input"].insert(0, {"type": "message", "role": capabilities.system_role, "content": said})
        elif known == "json":
            raise Inexpressible(f"`{name}`: this upstream does not bind its answers to a schema")
        else:
            text["format"] = _format(conversation)
        if body.get("tools") and not capabilities.json_with_tools:
            raise Inexpressible(f"`{name}`: this upstream does not take tools beside an output format")
    if conversation.verbosity is not None:
        text["verbosity"] = conversation.verbosity
    if text:
        body["text"] = text


def _format(conversation: Conversation) -> dict[str, Any]:
    output = conversation.output
    assert output is not None
    schema = output.schema or {}
    obeys = schemas.obeys_strict(schema)
    strict = obeys if output.strict is None else output.strict
    found: dict[str, Any] = {
        "type": "json_schema",
        "name": output.name or _FORMAT_NAME,
        "schema": schema if strict else schemas.clean(schema, "openai") or {"type": "object", "properties": {}},
        "strict": strict,
    }
    if output.description:
        found["description"] = output.description
    return found


def _limits(conversation: Conversation, target: Target, body: dict[str, Any], notes: dict[str, None]) -> None:
    capabilities, sampling = target.capabilities, conversation.sampling
    refused = capabilities.sampling_refused
    if conversation.max_output is not None and conversation.max_output > 0:
        name = _spelt(conversation, "max_output")
        limit = max(conversation.max_output, _LEAST_OUTPUT)
        if capabilities.max_output is not None:
            limit = min(limit, capabilities.max_output)
        if limit != conversation.max_output:
            notes[f"{name}={limit}"] = None
        body["max_output_tokens"] = limit
    if sampling.temperature is not None:
        if "temperature" in refused:
            notes["temperature"] = None
        else:
            warmth = min(sampling.temperature, capabilities.temperature_max)
            if warmth != sampling.temperature:
                notes[f"temperature={warmth:g}"] = None
            body["temperature"] = warmth
    if sampling.top_p is not None:
        if "top_p" in refused:
            notes[_spelt(conversation, "top_p")] = None
        else:
            body["top_p"] = sampling.top_p
    if sampling.choices is not None and sampling.choices > 1:
        raise Inexpressible(f"`{_spelt(conversation, 'choices')}`: this upstream gives one answer at a time")
    if sampling.stop:
        notes[_spelt(conversation, "stop")] = None
    for member in ("top_k", "seed", "presence_penalty", "frequency_penalty", "logit_bias"):
        if getattr(sampling, member):
            notes[_spelt(conversation, member)] = None


def _identity(conversation: Conversation, target: Target, body: dict[str, Any], notes: dict[str, None]) -> None:
    """Whom the answer is for, and under which name prompts are cached."""
    capabilities = target.capabilities
    known = capabilities.identity_fields
    if capabilities.cache_key:
        key = conversation.cache_key or _session(conversation.user)
        if key:
            body["prompt_cache_key"] = _short(key)
    if conversation.user:
        if "safety_identifier" in known:
            body["safety_identifier"] = _short(conversation.user)
        elif "user" in known:
            body["user"] = _short(conversation.user)
    if conversation.metadata:
        if "metadata" in known:
            body["metadata"] = conversation.metadata
        else:
            notes["metadata"] = None
    tier = conversation.service_tier
    if tier is not None:
        tier = _TIERS.get(tier, tier)
        if "service_tier" in known and tier in _PLAIN_TIERS:
            body["service_tier"] = tier
        elif tier not in ("auto", "default"):
            notes["service_tier"] = None


def _session(user: str | None) -> str | None:
    """The conversation's part of an id that Claude Code gives as JSON text, or the id itself."""
    if not user:
        return None
    if user.startswith("{"):
        try:
            found = json.loads(user)
        except (ValueError, RecursionError):
            return user
        session = found.get("session_id")
        if isinstance(session, str) and session:
            return session
    return user


def _short(id: str) -> str:
    if len(id) <= _ID_LIMIT:
        return id
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()


def _spelt(conversation: Conversation, name: str) -> str:
    return _SPELT.get(conversation.dialect, {}).get(name, name)
