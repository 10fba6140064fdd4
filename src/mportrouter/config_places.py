"""
A configuration text as values that know where they stand.

Every scalar is kept as the text that was written (after interpolation), so that ``1.3``, ``off`` and ``8787`` mean what
their setting says and not what a YAML version makes of them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable

import attrs
import yaml

Lookup = Callable[[str], "tuple[str, str] | None"]
"""A variable's name to its text and where that is from, or ``None`` where it is not set."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
# Between [] and {} YAML would take the braces of a variable for its own: while it reads, these stand for them.
_BARE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*(?::-[^}\n]*)?)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
# Aliases let a few lines stand for millions of values.
_MOST_VALUES = 20_000
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class Mistakes:
    """
    What is wrong, in order, each once.

    :ivar texts: one sentence each.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, place: str, text: str) -> None:
        """
        :param place: ``mportrouter.yaml:12``, ``flag --port`` …; ``""`` for the whole.
        """
        sentence = f"{place}: {text}" if place else text
        if sentence not in self.texts:
            self.texts.append(sentence)

    def sorted(self, name: str) -> list[str]:
        """The sentences, those about the file ``name`` first and in the order of its lines."""
        line = re.compile(re.escape(name) + r":([0-9]+): ")

        def order(sentence: str) -> float:
            match = line.match(sentence)
            return int(match[1]) if match else math.inf

        return sorted(self.texts, key=order)


@attrs.frozen
class Value:
    """
    One value and where it stands.

    :param path: dotted path in the configuration (``breaker.failures``), ``""`` for the whole.
    :param place: where a mistake in it is to be shown.
    :param content: a text, ``None`` (null), or more values.
    :param unset: variables that it names and that are not set.
    :param origin: where its text is from, for :attr:`mportrouter.settings.Settings.origins`.
    :param variable: the first variable that it names, or ``None``.
    """

    path: str
    place: str
    content: str | dict[str, Value] | list[Value] | None
    unset: tuple[str, ...] = ()
    origin: str = ""
    variable: str | None = None


class Wrong(ValueError):
    """
    A value that is not what its setting takes.

    :param expected: the sentence for the person.
    :param value: the value, where it is a part of the one that was read.
    """

    def __init__(self, expected: str, value: Value | None = None) -> None:
        super().__init__(expected)
        self.value = value


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or the valid names where none is near."""
    names = sorted(valid)
    lowered = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {lowered[near[0]]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""


def read_values(text: str, name: str, lookup: Lookup, mistakes: Mistakes) -> Value | None:
    """
    A YAML text as values.

    :param name: the file's name, for places.
    :returns: the whole, or ``None`` where the text is no YAML mapping (then ``mistakes`` says so) or holds nothing.
    """
    try:
        if _OPEN not in text and _CLOSE not in text:
            text = _BARE.sub(rf"{_OPEN}\1{_CLOSE}", text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None or node.tag == _NULL:
            return None
        if not isinstance(node, yaml.MappingNode):
            mistakes.add(f"{name}:{_line(node)}", "expected a mapping of sections (ports:, modes:, upstreams: …)")
            return None
        return _Reading(name, lookup, mistakes).whole(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        mistakes.add(name if mark is None else f"{name}:{mark.line + 1}", f"not valid YAML: {words}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistakes.add(f"{name}:{line}", f"not valid YAML: the character U+{error.character:04X} is not allowed")
    except _TooMuch:
        mistakes.add(name, f"more than {_MOST_VALUES} values; do aliases (*name) multiply them?")
    except RecursionError:
        mistakes.add(name, "nested too deeply")
    return None


def _braced(text: str) -> str:
    return text.replace(_OPEN, "${").replace(_CLOSE, "}")


class _TooMuch(Exception):
    """The text stands for too many values."""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Reading:
    """Turns the nodes of one text into values."""

    def __init__(self, name: str, lookup: Lookup, mistakes: Mistakes) -> None:
        self._name = name
        self._lookup = lookup
        self._mistakes = mistakes
        self._count = 0

    def whole(self, node: yaml.Node) -> Value:
        return self._value(node, "", f"{self._name}:{_line(node)}")

    def _value(self, node: yaml.Node, path: str, place: str) -> Value:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise _TooMuch
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._mistakes.add(place, f"{path}: the tag {node.tag} has no meaning here")
        if isinstance(node, yaml.MappingNode):
            return Value(path, place, self._mapping(node, path), origin=place)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self._value(item, f"{path}[{index}]", f"{self._name}:{_line(item)}")
                for index, item in enumerate(node.value)
            ]
            return Value(path, place, items, origin=place)
        if node.tag == _NULL:
            return Value(path, place, None, origin=place)
        return self._scalar(_braced(node.value), path, place)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Value]:
        merged: dict[str, Value] = {}
        own: dict[str, Value] = {}
        for key, child in node.value:
            place = f"{self._name}:{_line(key)}"
            if key.tag == _MERGE:
                for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                    if isinstance(source, yaml.MappingNode):
                        merged = {**self._mapping(source, path), **merged}
                    else:
                        self._mistakes.add(place, "<< merges mappings only")
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._mistakes.add(place, f"{path or 'the file'}: a key must be a plain name")
                continue
            name = _braced(key.value)
            value = self._value(child, f"{path}.{name}" if path else name, place)
            if name in own:
                self._mistakes.add(place, f"{value.path}: given twice, first at {own[name].place}")
            else:
                own[name] = value
        return {**merged, **own}

    def _scalar(self, text: str, path: str, place: str) -> Value:
        if "${" not in text:
            return Value(path, place, text, origin=place)
        unset: list[str] = []
        sources: list[str] = []
        names: list[str] = []

        def replace(match: re.Match[str]) -> str:
            if match.group() == "$${":
                return "${"
            name, default = match.group(1), match.group(2)
            if name is None:
                self._mistakes.add(place, f"{path}: expected ${{NAME}} or ${{NAME:-default}} ($${{ is a plain ${{)")
                return ""
            names.append(name)
            found = self._lookup(name)
            if found is not None:
                sources.append(found[1])
                return found[0]
            if default is None:
                unset.append(name)
            return default or ""

        result = _VARIABLE.sub(replace, text)
        origin = f"{', '.join(sources)} ({place})" if sources else place
        return Value(path, place, result, tuple(unset), origin, names[0] if names else None)
