"""Reads the rows of the data, whoever made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.collect.normal import identity
from jobs.curate.row import CurateRow
from jobs.evaluate.tasks.rows import file_rows
from orchestrator.job.errors import StepError

PARTS = ("question", "trace", "answer")


def read(path: Path, name: str) -> Iterator[CurateRow]:
    """The rows of a file, without their domains. Raises StepError naming the one that cannot be used."""
    seen: dict[str, int] = {}
    for where, columns in file_rows(path, name):
        parts = {part: _text(columns, part, where) for part in PARTS}
        given_id = columns.get("id")
        question = str(given_id) if isinstance(given_id, str | int) and str(given_id) else identity(parts["question"])
        count = seen[question] = seen.get(question, -1) + 1
        key = question if not count else f"{question}#{count}"
        source = str(columns.get("source") or "")
        yield CurateRow(
            key, question, source or "all", **parts, length=_length(columns, parts["trace"]), domain="", columns=columns
        )
    if not seen:
        raise StepError(f"{name} has no rows: give question, trace and answer in each")


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
