"""
Model names to model names, by patterns: what an upstream is asked for when a client names a model.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

#: Targets that stand for the name as it came.
AS_IT_CAME = ("=", "*")
_REMEMBERED = 1024  # names
_NAME_LIMIT = 256  # characters of a name that is worth remembering


def glob(pattern: str) -> re.Pattern[str]:
    """
    A pattern in which ``*`` is any text and ``?`` one character; everything else, ``[`` too, means itself.

    The case counts. Matching takes no time that grows faster than the name's length for a given pattern.
    """
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


class ModelMap:
    """
    Patterns in order, the first that matches wins; a name that none matches stays as it is.

    :param patterns: pairs of a pattern and the model to ask for, which may be ``"="`` or ``"*"``: the name as it came.
    """

    __slots__ = ("_known", "_patterns")

    def __init__(self, patterns: Sequence[tuple[str, str]]) -> None:
        self._patterns = [(glob(pattern).match, target) for pattern, target in patterns]
        self._known: dict[str, str] = {}

    def target(self, name: str) -> str:
        """The model to ask for when a client says ``name``."""
        found = self._known.get(name)
        return self._find(name) if found is None else found

    def _find(self, name: str) -> str:
        target = next((target for matches, target in self._patterns if matches(name)), name)
        if target in AS_IT_CAME:
            target = name
        if len(name) <= _NAME_LIMIT:
            # Clients name a handful of models; whoever invents names without end must not fill the memory.
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[name] = target
        return target
