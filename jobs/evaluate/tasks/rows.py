"""Rows of a file: JSON lines, or CSV with a header, each with the place that an error names."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.step import StepError

Row = tuple[str, Mapping[str, Any]]
"""Where it stands (``mine.jsonl:7``), and what it says."""

_LONGEST_FIELD = 1 << 24
"""Characters of a CSV field. The library's own limit, 131,072, is less than a question with a table may have."""


def file_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`, by its ending: ``.csv``, or else JSON lines. Blank lines are passed over.

    Raises :class:`StepError` naming the line that is no row.
    """
    try:
        with path.open(encoding="utf-8", newline="" if path.suffix == ".csv" else None) as file:
            yield from _csv_rows(path, file) if path.suffix == ".csv" else _json_rows(path, file)
    except FileNotFoundError:
        raise StepError(f"{path}: no such file: give a JSONL or CSV file of questions") from None
    except UnicodeDecodeError as error:
        raise StepError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StepError(f"{where}: not JSON ({error}): one object per line is needed") from None
        if not isinstance(record, dict):
            kind = type(record).__name__
            raise StepError(f"{where}: {kind} where an object with id, question and answer is needed")
        yield where, record


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(lines, strict=True)
    try:
        for record in reader:
            yield f"{path}:{reader.line_num}", {str(name): value for name, value in record.items()}
    except csv.Error as error:
        raise StepError(
            f"{path}:{reader.line_num}: not CSV ({error}): quote fields that hold commas or quotes"
        ) from None
