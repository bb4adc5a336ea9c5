"""Grids of whole numbers, as in ARC: rows of one length, read from JSON or from lines of numbers.

``[[0, 1], [2, 3]]`` and ``0 1`` above ``2 3`` are one grid; ``[[0, 1, 2, 3]]`` is another.
"""

from __future__ import annotations

import json
import re

LARGEST = 100
"""Rows, and numbers in each. ARC's have thirty at most."""
_LONGEST = 100_000
"""Characters, from the end, in which a grid is looked for."""

_CELL = r"[+-]?\d{1,9}"
_BRACKETED = re.compile(rf"\[\s*\[\s*{_CELL}(?:[\s,]+{_CELL})*\s*\](?:[\s,]*\[\s*{_CELL}(?:[\s,]+{_CELL})*\s*\])*\s*\]")
_ROW = re.compile(rf"[\s|]*{_CELL}(?:[ \t,|]+{_CELL})*[\s|,]*")
_NUMBER = re.compile(_CELL)
_ROWS = re.compile(r"\[([^\[\]]*)\]")


def grid(text: str) -> str | None:
    """The last grid of `text`, as JSON without spaces; None where there is none, or its rows differ in length."""
    end = text[-_LONGEST:]
    written = [match[0] for match in _BRACKETED.finditer(end)]
    if written:
        rows = [[int(cell) for cell in _NUMBER.findall(row)] for row in _ROWS.findall(written[-1][1:-1])]
        return _whole(rows)
    block: list[list[int]] = []
    for line in reversed(end.splitlines()):
        if _ROW.fullmatch(line) and line.strip():
            block.append([int(cell) for cell in _NUMBER.findall(line)])
        elif block:
            break
    return _whole(block[::-1])


def _whole(rows: list[list[int]]) -> str | None:
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not 0 < max(widths) <= LARGEST or len(rows) > LARGEST:
        return None
    return json.dumps(rows, separators=(",", ":"))
