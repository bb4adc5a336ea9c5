"""The rows of a source as questions, each with where it came from; rows that are none say why.

A column that a source has not is a mistake in the experiment, and stops it. A single row without a question or with an
answer that cannot be read is a fault in the data, of which thirty thousand published rows have some: it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobs.collect.normal import canonical
from orchestrator.job.errors import StepError

if TYPE_CHECKING:
    from jobs.collect.config import Source
    from jobs.evaluate.tasks.benchmarks import Columns
    from orchestrator.job.context import StepInput

_MOST_NAMED = 20
"""Columns, in a message."""


@dataclass(frozen=True)
class Collected:
    """One row of a source."""

    source: str
    row: str
    """Its id there, or its number."""
    question: str
    """With its options, as it is put to a model."""
    answer: str
    """The reference; empty where the source has none."""
    type: str
    kept: Mapping[str, Any]
    """Further columns."""
    unusable: str | None = None
    """Why it is no question; None where it is one."""


def read(source: Source, inputs: Mapping[str, StepInput]) -> Iterator[Collected]:
    """The first ``source.items`` rows of a source, or all. Raises StepError where it cannot be read, has not a column
    that it is said to have, or has no rows."""
    if source.generated:
        from jobs.evaluate.tasks.loading import load

        for item in load(source, inputs).items:
            yield Collected(source.name, item.id, item.question, item.answer, source.answers, {})
        return
    from jobs.evaluate.tasks.loading import rows

    columns, count = source.row_columns, 0
    for number, (where, row) in enumerate(islice(rows(source, inputs), source.items), 1):
        if number == 1:
            columns = _columns(source, where, row)
        count = number
        yield _collected(source, columns, where, number, row)
    if not count:
        raise StepError(f"source {source.name}: {source.path or source.dataset} has no rows")


def column_problem(source: Source) -> str | None:
    """What keeps the first row of a user's file from being read: a column that is not there, or no row at all."""
    from jobs.evaluate.tasks.rows import file_rows

    assert source.file is not None
    try:
        first = next(file_rows(source.file, str(source.path)), None)
        if first is None:
            raise StepError(f"{source.path} has no rows: give one JSON object per line")
        _columns(source, *first)
        for _ in file_rows(source.file, str(source.path)):
            pass
    except StepError as error:
        return str(error)
    return None


def _columns(source: Source, where: str, row: Mapping[str, Any]) -> Columns:
    """What the fields of its rows are called. Raises StepError for a column that is said to be there and is not."""
    columns = source.row_columns
    if not any(name in row for name in columns.id):
        columns = replace(columns, id=())
    needed: list[tuple[Sequence[str], str]] = [(columns.question, "question")]
    if source.answered:
        needed.append((columns.answer, "answer"))
    needed += [((name,), name) for name in source.keep]
    for names, field in needed:
        if not any(name in row for name in names):
            there = f"{', '.join(islice(row, _MOST_NAMED))}{', …' * (len(row) > _MOST_NAMED)}" or "none"
            remedy = (
                "leave it out of keep"
                if field in source.keep
                else f"name it with columns: {{{field}: …}}"
                + ("; where there are no reference answers, set answered: false" if field == "answer" else "")
            )
            raise StepError(f"{where} has no column {' or '.join(names)}; there are {there}: {remedy}")
    return columns


def _collected(source: Source, columns: Columns, where: str, number: int, row: Mapping[str, Any]) -> Collected:
    from jobs.evaluate.tasks.items import item_of

    as_task = source
    if not source.answered:
        row, as_task = {**row, columns.answer[0]: "-"}, source.model_copy(update={"type": "text"})
    kept = {name: row.get(name) for name in source.keep}
    row_id = str(next((row[name] for name in columns.id if row.get(name) is not None), number))
    try:
        item = item_of(row, where, number, replace(columns, id=()), as_task)
    except StepError as error:
        return Collected(source.name, row_id, _any_text(row, columns), "", source.answers, kept, str(error))
    if not canonical(item.question):
        return Collected(
            source.name, row_id, item.question, "", source.answers, kept, f"{where}: the question says nothing"
        )
    answer = item.answer if source.answered else ""
    return Collected(source.name, row_id, item.question, answer, source.answers, kept)


def _any_text(row: Mapping[str, Any], columns: Columns) -> str:
    question = next((row[name] for name in columns.question if name in row), "")
    return question.encode(errors="replace").decode() if isinstance(question, str) else ""
