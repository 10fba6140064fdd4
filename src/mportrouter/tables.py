"""Tables of plain values for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), width: int | None = None) -> str:
    """
    Rows as aligned columns under a heading; numbers to the right, text to the left.

    :param rows: each a row; members that a row lacks are shown as ``-``.
    :param columns: keys in their order; keys of the rows that are not among them follow in the order they come.
    :param width: columns of the terminal; the last column is cut to fit, ``None``: never.
    :returns: the lines, or ``(none)`` for no rows.
    """
    if not rows:
        return "(none)"
    present = dict.fromkeys(key for row in rows for key in row)
    keys = [key for key in columns if key in present] + [key for key in present if key not in columns]
    cells = [[cell(row.get(key)) for key in keys] for row in rows]
    heads = [key.replace("_", " ").upper() for key in keys]
    right = [all(_numeric(row.get(key)) for row in rows) for key in keys]
    widths = [max(display_width(line[i]) for line in [heads, *cells]) for i in range(len(keys))]
    return "\n".join(_line(line, widths, right, width) for line in [heads, *cells])


def cell(value: Any) -> str:
    """One value as a cell: ``-`` for nothing, ``yes`` and ``no``, lists joined, control characters replaced."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return " ".join(f"{key}={cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    text = str(value)
    # A terminal obeys control characters; whoever put one into a name must not move the cursor here.
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def display_width(text: str) -> int:
    """Columns that ``text`` takes on a terminal (East Asian wide characters take two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _numeric(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], width: int | None) -> str:
    padded = []
    for text, space, to_right in zip(cells, widths, right, strict=True):
        fill = " " * (space - display_width(text))
        padded.append(fill + text if to_right else text + fill)
    line = "  ".join(padded).rstrip()
    if width is not None and display_width(line) > width:
        while display_width(line) > max(width - 1, 0):
            line = line[:-1]
        line += "…"
    return line
