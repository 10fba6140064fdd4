"""
What a stand-in says to a question, whatever the dialect that it is asked in.

The rules are those of :mod:`mportrouter.demo_script`; here a request is what was understood of it, and the answer is
words and calls that the voices of the dialects spell.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

_KEY = b"mportrouter demo signature"
_NUMBER_OF_WORDS = re.compile(r"\b(\d{1,5}) words\b")
_QUOTED = re.compile(r"[\"'“‘`]([^\"'”’`]+)[\"'”’`]")
_PATCH = re.compile(r"\*\*\* Begin Patch\n.*?\n\*\*\* End Patch", re.DOTALL)
_FILLER = (
    "These",
    "are",
    "ordinary",
    "words",
    "of",
    "a",
    "stand-in,",
    "which",
    "mean",
    "nothing",
    "and",
    "cost",
    "nothing.",
)


@attrs.frozen
class Refusal(Exception):
    """
    A request that a stand-in refuses.

    :param status: HTTP status.
    :param type: the error's type in Anthropic's words.
    :param message: why, in the words of the real provider.
    :param code: the error's code, where the dialect has one.
    :param param: the member that is at fault, where the dialect tells.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None


def bad(message: str, code: str | None = None, param: str | None = None) -> Refusal:
    """A request that is at fault itself."""
    return Refusal(400, "invalid_request_error", message, code, param)


@attrs.frozen
class Asked:
    """
    What a stand-in understood of a request.

    :param title: the provider's name in the answer.
    :param text: the last thing the person said.
    :param result: the last tool result, where one came after it, else ``None``.
    :param tools: names of the offered functions to the schemas of their arguments.
    :param choice: ``auto``, ``any``, ``none``, or ``one`` with its name in ``named``.
    :param parallel: several calls are welcome.
    :param limit: words that the answer may have, or ``None``.
    :param thinking: a thought comes first.
    :param shape: the schema of the JSON text that is wanted, or ``None``.
    """

    title: str
    model: str
    text: str
    result: str | None = None
    tools: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    choice: str = "auto"
    named: str = ""
    parallel: bool = True
    limit: int | None = None
    stops: tuple[str, ...] = ()
    thinking: bool = False
    shape: Mapping[str, Any] | None = None


@attrs.frozen
class Said:
    """
    An answer.

    :param thought: ``""`` where there is none.
    :param words: the text in pieces; joined they are it.
    :param calls: name and arguments of each call.
    :param stop: ``end``, ``length``, ``stop_sequence`` or ``tool``.
    :param sequence: the stop sequence that ended it, or ``None``.
    :param tokens: of everything; ``thought_tokens`` is the thought's part.
    """

    thought: str
    words: tuple[str, ...]
    calls: tuple[tuple[str, dict[str, Any]], ...]
    stop: str
    sequence: str | None
    tokens: int
    thought_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.words)


def say(asked: Asked) -> Said:
    """:raises Refusal: the tool that must be called is not among those that are offered."""
    names = () if asked.result is not None else _chosen(asked)
    left = asked.limit
    thought, thought_tokens = "", 0
    if asked.thinking and left != 0:
        thought = f"The question is {shortened(asked.text)!r}. I am a stand-in and shall say so."
        thought_tokens = len(in_words(thought))
        left = None if left is None else max(0, left - thought_tokens)
    words, stop, sequence = limited(sentence(asked, names), asked.stops, left)
    calls: list[tuple[str, dict[str, Any]]] = []
    tokens = thought_tokens + len(words)
    if stop == "end":
        calls = [(name, arguments(asked.tools[name], asked.text)) for name in names]
        tokens += sum(max(1, len(json.dumps(each)) // 4) for _, each in calls)
    return Said(thought, words, tuple(calls), "tool" if calls else stop, sequence, tokens, thought_tokens)


def _chosen(asked: Asked) -> tuple[str, ...]:
    """The tools to call: the forced one; all that the question names; one, where it has the word."""
    if asked.choice == "none" or not asked.tools:
        return ()
    if asked.choice == "one":
        if asked.named not in asked.tools:
            raise bad(f"Tool choice {asked.named!r} not found in tools")
        return (asked.named,)
    named = tuple(name for name in asked.tools if name in asked.text)
    if named:
        return named if asked.parallel else named[:1]
    if re.search(r"\btool\b", asked.text) or asked.choice == "any":
        return (next(iter(asked.tools)),)
    return ()


def sentence(asked: Asked, calls: tuple[str, ...]) -> str:
    """The whole text of an answer."""
    who = f"This is the stand-in for {asked.title}, model {asked.model}."
    if calls:
        return f"{who} I shall use the tool {' and '.join(calls)}."
    if asked.result is not None and asked.shape is None:
        return f"{who} The tool gave: “{shortened(asked.result)}”."
    text = f"{who} You asked: “{shortened(asked.text)}” ({len(asked.text.split())} words)."
    if asked.shape is not None:
        return json.dumps(shaped(asked.shape, text), ensure_ascii=False)
    wanted = _NUMBER_OF_WORDS.search(asked.text)
    missing = int(wanted.group(1)) - len(text.split()) if wanted else 0
    if missing > 0:
        text += " " + " ".join(_FILLER[at % len(_FILLER)] for at in range(missing))
    return text


def limited(text: str, stops: tuple[str, ...], left: int | None) -> tuple[tuple[str, ...], str, str | None]:
    """The text's words within the request's bounds, why it stops, and the sequence that stopped it."""
    stop, sequence = "end", None
    found = [(text.find(each), each) for each in stops if each and each in text]
    if found:
        at, sequence = min(found)
        text, stop = text[:at], "stop_sequence"
    words = in_words(text)
    if left is not None and len(words) > left:
        words, stop, sequence = words[:left], "length", None
    return tuple(words), stop, sequence


def arguments(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Made-up values for a schema's required members; a text is what the question quotes."""
    properties = schema.get("properties")
    given = quoted(text)
    made: dict[str, Any] = {}
    for name in schema.get("required") or ():
        wanted = properties.get(name) if isinstance(properties, dict) else None
        made[name] = _value(wanted if isinstance(wanted, dict) else {}, given)
    return made


def shaped(schema: Mapping[str, Any], text: str) -> Any:
    """A made-up value of a schema; each text in it is ``text``."""
    members = schema.get("properties")
    if not schema.get("enum") and isinstance(members, Mapping) and members:
        wanted = schema.get("required") or members
        return {name: shaped(members.get(name) or {}, text) for name in wanted}
    return _value(schema, text)


#: What is made where any JSON object will do.
ANY_OBJECT: Mapping[str, Any] = {"properties": {"answer": {"type": "string"}}}


def spoken(content: Any) -> str:
    """The last text of a message that is a person's: what clients add of their own stands before it or says so."""
    parts = [{"text": content}] if isinstance(content, str) else content or ()
    texts = [part["text"].strip() for part in parts if isinstance(part.get("text"), str)]
    return next((text for text in reversed(texts) if not text.startswith("<system-reminder>")), "")


def quoted(text: str) -> str:
    """What a question gives word by word: a whole patch in it, else its last quoted text."""
    patch = _PATCH.search(text)
    if patch is not None:
        return patch[0]
    found = _QUOTED.findall(text)
    return found[-1] if found else "demo"


def _value(schema: Mapping[str, Any], text: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    made: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    kind = schema.get("type")
    return made.get(kind.lower(), text) if isinstance(kind, str) else text


def shortened(text: str, words: int = 12) -> str:
    """The first few words."""
    parts = text.split()
    return " ".join(parts[:words]) + (" …" if len(parts) > words else "")


def in_words(text: str) -> list[str]:
    """A text cut so that the pieces joined are it again."""
    return re.findall(r"\S+\s*", text)


def signature(provider: str, text: str) -> str:
    """What the stand-in of ``provider`` signs ``text`` with, and accepts back."""
    digest = hmac.new(_KEY, f"{provider}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"demo-{provider}-{digest}"


def prompt_tokens(*parts: Any) -> int:
    """Tokens of a prompt: a quarter of its characters."""
    return sum(len(json.dumps(part)) // 4 + 1 for part in parts if part)
