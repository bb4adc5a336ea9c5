"""Grids of whole numbers, as in ARC: rows of one length, read from JSON or from lines of numbers.

``[[0, 1], [2, 3]]`` and ``0 1`` above ``2 3`` are one grid; ``[[0, 1, 2, 3]]`` is another.
"""

from __future__ import annotations

import json
import re

from jobs.evaluate.grading.extraction import Extracted, last_boxed
from jobs.evaluate.grading.reader import Text

LARGEST = 100
"""Rows, and numbers in each. ARC's have thirty at most."""
_LONGEST = 100_000
"""Characters, from the end, in which a grid is looked for."""

_CELL = r"[+-]?\d{1,9}"
_BRACKETED = re.compile(rf"\[\s*\[\s*{_CELL}(?:[\s,]+{_CELL})*\s*\](?:[\s,]*\[\s*{_CELL}(?:[\s,]+{_CELL})*\s*\])*\s*\]")
_ROW = re.compile(rf"[\s|]*{_CELL}(?:[ \t,|]+{_CELL})*[\s|,]*")
_NUMBER = re.compile(_CELL)
_ANNOUNCED = re.compile(r"\banswer\W{0,6}[:\uff1a]", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]{1,12}\*?\}")
_ROWS = re.compile(r"\[([^\[\]]*)\]")


def extract(text: Text) -> Extracted:
    """The grid in the last box, after the last ``Answer:``, or where the task allows it the last one anywhere."""
    boxed = last_boxed(text.answer)
    if boxed is not None and (cells := grid(boxed)):
        return Extracted(cells, "boxed")
    announced = list(_ANNOUNCED.finditer(text.answer))
    if announced and (cells := grid(text.answer[announced[-1].end() :])):
        return Extracted(cells, "answer")
    cells = grid(text.answer) if text.fallback else None
    return Extracted(cells, "none" if cells is None else "last_grid")


def same(gold: str, said: str) -> bool:
    """Whether two grids are the same, cell by cell."""
    return grid(gold) == said


def problem(gold: str) -> str | None:
    """What is wrong with a gold answer."""
    return None if grid(gold) else "is not a grid: rows of whole numbers, of one length"


def grid(text: str) -> str | None:
    """The last grid of `text`, as JSON without spaces; None where there is none, or its rows differ in length."""
    end = _ENVIRONMENT.sub("\n", text[-_LONGEST:]).replace("\\\\", "\n").replace("&", " ")  # rows and cells of LaTeX
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
