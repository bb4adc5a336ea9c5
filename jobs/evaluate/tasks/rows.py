"""Rows of a file: JSON lines, or CSV with a header, each with the place that an error names."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.job.errors import StepError
from orchestrator.job.local_files import lines

SourceRow = tuple[str, Mapping[str, Any]]
"""Where it stands (``mine.jsonl:7``), and what it says."""

_LONGEST_FIELD = 1 << 24
"""Characters of a CSV field. The library's own limit, 131,072, is less than a question with a table may have."""


def file_rows(path: Path, name: str | None = None) -> Iterator[SourceRow]:
    """The rows of `path`, by its ending: ``.csv``, or else JSON lines. Blank lines are passed over.

    Raises :class:`StepError` naming the line that is not a row; the file is called `name`, or by its path.
    """
    called = name or str(path)
    try:
        yield from _csv_rows(called, _text(called, path)) if path.suffix == ".csv" else _json_rows(called, path)
    except ValueError as error:
        raise StepError(f"{called} {error}: give a JSONL or CSV file of questions") from None


def count_rows(path: Path) -> int:
    """How many rows a file has, without a look at what those of JSON say. Raises ValueError and StepError."""
    if path.suffix == ".csv":
        return sum(1 for _ in file_rows(path))
    return sum(1 for _, line in lines(path) if line.strip())


def _text(called: str, path: Path) -> Iterator[str]:
    for number, line in lines(path):
        yield _decoded(line, f"{called}:{number}")


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise StepError(
            f"{where}: not UTF-8 text ({error.reason} at byte {error.start} of the line): save it as UTF-8"
        ) from None


def _json_rows(called: str, path: Path) -> Iterator[SourceRow]:
    for number, line in lines(path):
        if line.strip():
            where = f"{called}:{number}"
            yield where, json_row(line, where)


def json_row(line: bytes, where: str) -> Mapping[str, Any]:
    """One line of JSON. Raises StepError naming `where` it stands."""
    try:
        record = json.loads(_decoded(line, where))
    except (ValueError, RecursionError) as error:
        raise StepError(f"{where}: not JSON ({error}): one object per line is needed, or a .csv") from None
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise StepError(f"{where}: {kind} where an object with id, question and answer is needed")
    return record


def _csv_rows(called: str, text: Iterator[str]) -> Iterator[SourceRow]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(text, strict=True)
    try:
        for record in reader:
            yield f"{called}:{reader.line_num}", {str(name): value for name, value in record.items()}
    except csv.Error as error:
        raise StepError(
            f"{called}:{reader.line_num}: not CSV ({error}): quote fields that hold commas or quotes"
        ) from None
