"""Reads the rows of the data, whoever made it: all of them in turn, and some of them again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.collect.normal import identity
from jobs.curate.row import CurateRow, Entry
from jobs.evaluate.tasks.rows import json_row
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import lines

PARTS = ("question", "trace", "answer")


def read(path: Path, name: str) -> Iterator[tuple[int, CurateRow]]:
    """The rows of a JSONL file, each with its place. Raises StepError naming the one that cannot be used."""
    seen: dict[str, int] = {}
    place = 0
    try:
        for number, line in lines(path):
            if line.strip():
                yield place, _row(json_row(line, f"{name}:{number}"), f"{name}:{number}", seen)
            place += len(line)
    except ValueError as error:
        raise StepError(f"{name} {error}: give a JSONL file of rows") from None
    if not seen:
        raise StepError(f"{name} has no rows: give question, trace and answer in each")


def _row(columns: Mapping[str, Any], where: str, seen: dict[str, int]) -> CurateRow:
    parts = {part: _text(columns, part, where) for part in PARTS}
    given = columns.get("id")
    question = str(given) if isinstance(given, str | int) and str(given) else identity(parts["question"])
    count = seen[question] = seen.get(question, -1) + 1
    key = question if not count else f"{question}#{count}"
    source = sys.intern(str(columns.get("source") or "") or "all")
    return CurateRow(key, question, source, **parts, length=_length(columns, parts["trace"]), columns=columns)


def again(path: Path, entries: Iterable[Entry]) -> Iterator[Mapping[str, Any]]:
    """The columns of some rows, in their order."""
    with path.open("rb") as file:
        for entry in entries:
            file.seek(entry.place)
            columns: Mapping[str, Any] = json.loads(file.readline())
            yield columns


def row_problem(path: Path, name: str) -> str | None:
    """What is wrong with the first row of a file that cannot be used."""
    try:
        for _ in read(path, name):
            pass
    except StepError as error:
        return str(error)
    return None


def _text(columns: Mapping[str, Any], part: str, where: str) -> str:
    value = columns.get(part)
    if not isinstance(value, str):
        there = ", ".join(columns) if part not in columns else f"{part} is {json.dumps(value)[:60]}"
        raise StepError(f"{where} has no {part} as text: {there}")
    return value


def _length(columns: Mapping[str, Any], trace: str) -> int:
    counted = columns.get("thinking_tokens")
    return counted if isinstance(counted, int) and not isinstance(counted, bool) else len(trace.split())
