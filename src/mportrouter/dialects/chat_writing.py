"""Neutral conversations as requests of the Chat dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from .. import splice
from ..conversation import Conversation, Part, Reasoning, Text, Turn
from ..interfaces import Prepared, Target
from ..reasoning_controls import Asked, asked
from ..repair import Wishes, repair
from ..tool_names import ToolNames
from .chat_content import NAME
from .chat_history import History
from .chat_options import Options
from .chat_parts import origin

_PATTERN = "[a-zA-Z0-9_-]+"
_JSON = re.compile("json", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


def write_request(conversation: Conversation, target: Target) -> Prepared:
    """
    See :meth:`mportrouter.interfaces.IDialect.write_request`.

    The messages stand last: a longer conversation begins with the same bytes.

    :raises Inexpressible: naming the member that the target cannot express.
    """
    capabilities = target.capabilities
    notes: dict[str, None] = {}
    echo = capabilities.reasoning_echo in ("required", "allowed")
    turns = conversation.turns
    if echo and capabilities.reasoning_echo == "allowed":
        turns = _own_reasoning(turns, origin(target), notes)
        conversation = msgspec.structs.replace(conversation, turns=turns)
    repaired = repair(
        conversation,
        target,
        Wishes(
            keep_dialect=NAME,
            merge=capabilities.strict_role_alternation,
            system_turns="keep" if capabilities.mid_system else "user_text",
            prefill=capabilities.prefill,
            reasoning=echo,
            text_reasoning=echo,
        ),
    )
    notes.update(dict.fromkeys(repaired.notes))
    names = ToolNames(conversation.tools, repaired.turns, limit=capabilities.tool_name_max, pattern=_PATTERN)
    wanted = asked(conversation.reasoning, capabilities, conversation.max_output)
    options = Options(conversation, target, names, notes)
    body: dict[str, Any] = {"model": target.model}
    options.tools(body)
    options.limit(body)
    options.sampling(body)
    options.reasoning(body, wanted)
    words = options.output(body)
    options.identity(body)
    if conversation.stream or capabilities.stream_only:
        body["stream"] = True
        if capabilities.stream_options:
            body["stream_options"] = {"include_usage": True}
    body.update(dict.fromkeys(capabilities.always_true, True))
    system = _with_words(words, conversation, repaired.system, repaired.turns)
    history = History(conversation, target, names, _thinks(wanted), notes)
    messages = history.messages(system, repaired.turns)
    for name in capabilities.strip_fields:
        if name != "model" and body.pop(name, None) is not None:
            notes[name] = None
    notes.update(dict.fromkeys(conversation.unread))
    path = b"" if capabilities.generate_path is None else capabilities.generate_path.encode()
    written = b'%b,"messages":[%b]}' % (_encoded(body)[:-1], b",".join(map(_encoded, messages)))
    return Prepared(written, tuple(notes), path, b"", names.names)


def _thinks(wanted: Asked | None) -> bool:
    """Whether the model will, as far as is known: those that want their reasoning back think unless told not to."""
    return wanted is None or not wanted.off


def _own_reasoning(turns: Iterable[Turn], signer: str, notes: dict[str, None]) -> tuple[Turn, ...]:
    """The turns without reasoning of other providers, for an upstream that may be given its own again."""
    out: list[Turn] = []
    for turn in turns:
        kept: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Reasoning) and part.opaque is not None and part.opaque.origin != signer:
                notes[f"reasoning of {part.opaque.origin[:64]}"] = None
            else:
                kept.append(part)
        out.append(turn if len(kept) == len(turn.parts) else msgspec.structs.replace(turn, parts=tuple(kept)))
    return tuple(out)


def _with_words(
    words: str, conversation: Conversation, system: tuple[Text, ...], turns: tuple[Turn, ...]
) -> list[Text]:
    """The instructions, with what the form of the answer needs said in words."""
    if not words:
        return list(system)
    output = conversation.output
    if words.endswith(":\n") and output is not None:
        words += splice.dumps(output.schema).decode()
    else:
        texts = (part.text for turn in turns for part in turn.parts if isinstance(part, Text))
        if any(_JSON.search(part.text) for part in system) or any(map(_JSON.search, texts)):
            return list(system)
    return [*system, Text(words)]


def _encoded(value: dict[str, Any]) -> bytes:
    try:
        return _encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        # Lone surrogates travel as escapes, numbers past 64 bits as they are.
        return splice.dumps(value)
