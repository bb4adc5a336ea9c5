"""Every table of a sweep as CSV, for programs, and as LaTeX, for a paper.

CSV has the numbers as the published files have them: shares of 1, empty where undefined. LaTeX has what the report
shows, in tables of booktabs, each in a file to ``\\input``; its labels are ``tab:<step>-<task>-<table>``.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.evaluate.report.listings import listings
from jobs.evaluate.report.results import (
    FinishedSweep,
    difference,
    p_value,
    percent,
    range_text,
    statistic_columns,
    tokens,
)
from orchestrator.job.record import FinishedStep

RECORDS = {"comparisons": "comparisons", "methods": None, "published": "values", "costs": "points"}
"""Files with rows beside ``table.csv``, and the key that these are under."""


def write_csv(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``policies.csv`` and one file for each other table that the sweep has."""
    output = step.context.output
    shutil.copyfile(output / "table.csv", folder / "policies.csv")
    for name, key in RECORDS.items():
        path = output / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        rows: list[Mapping[str, Any]] = record if key is None else record[key]
        if rows:
            _csv(folder / f"{name}.csv", rows)


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "; ".join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()})


@dataclass(frozen=True)
class PaperTable:
    """A table of texts."""

    name: str
    caption: str
    columns: Sequence[str]
    texts: int
    """How many columns, the first ones, are of words."""
    rows: Sequence[Sequence[str]]


def write_latex(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``<task>-<table>.tex`` for each table of each task."""
    sweep = FinishedSweep(step)
    for task in sweep.tasks:
        for table in tables(sweep, task):
            label = f"tab:{_slug(sweep.name)}-{_slug(task)}-{table.name}"
            (folder / f"{_slug(task)}-{table.name}.tex").write_text(latex(table, label), encoding="utf-8")


def tables(sweep: FinishedSweep, task: str) -> Iterator[PaperTable]:
    """Those of one task that have rows."""
    points = sweep.points(task)
    shown = {
        "accuracy": lambda point: percent(point["accuracy"]),
        "95\u202f%": lambda point: f"{percent(point['accuracy_low'])} – {percent(point['accuracy_high'])}",
        "not graded wrong … right": range_text,
        "vs natural end": difference,
        "p": lambda point: p_value(point["p_value"]),
        "thinking tokens": lambda point: tokens(point, "thinking_tokens"),
        "answer tokens": lambda point: tokens(point, "answer_tokens"),
        **statistic_columns(points),
    }
    cells = {name: [text(point) for point in points] for name, text in shown.items()}
    used = [name for name in cells if any(cells[name])]
    yield PaperTable(
        "policies",
        f"{sweep.model} on {task}: every policy. Intervals are at 95%, for other items; differences paired by item.",
        ("policy", *used),
        1,
        [(str(point["policy"]), *(cells[name][at] for name in used)) for at, point in enumerate(points)],
    )
    names = {"Ways of": "methods", "Beside p": "published", "What eac": "costs"}
    for listing in listings(sweep, task):
        name = next((name for start, name in names.items() if listing.title.startswith(start)), None)
        name = name or ("comparisons" if listing.title.startswith("All ") else _slug(listing.title))
        title = f"{sweep.model} on {task}. {listing.title}. {listing.note}"
        yield PaperTable(name, title, listing.columns, listing.texts, listing.rows)


def latex(table: PaperTable, label: str) -> str:
    """A float for ``\\usepackage{booktabs}``."""
    numbers = len(table.columns) - table.texts
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{escaped(table.caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{'l' * table.texts}{'r' * numbers}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *(_row(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


_LETTERS = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # \textquotedbl asks for another font encoding than LaTeX's own
    "−": "$-$",
    "×": r"$\times$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "…": r"\ldots{}",
    "\u202f": r"\,",
}


def escaped(text: str) -> str:
    """`text` as LaTeX that says it, on one line: no letter of it is a command."""
    shown = "".join(letter if letter.isprintable() or letter == "\u202f" else repr(letter)[1:-1] for letter in text)
    return "".join(_LETTERS.get(letter, letter) for letter in shown)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
