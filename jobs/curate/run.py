"""The curate step: rules take rows, a selection takes what it is asked for, and everything is told.

Stages, in their order: each rule of ``quality``, ``difficulty``, ``domains`` (rows that have none), ``select``. Rows
are read once for the rules; from then on they are entries without text, and what is written or shown is read again.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.curate.config import CurateConfig
from jobs.curate.difficulty import Judged
from jobs.curate.domains import clustered, counted
from jobs.curate.quality import quality
from jobs.curate.reading import again, read
from jobs.curate.report import curated_page
from jobs.curate.row import CurateRow, Entry
from jobs.curate.selection import Preselected, Wanted, select
from jobs.fates import DROPPED, Funnel
from jobs.made_dataset import Lines, describe, took
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference

PAGE = "curate.html"
TELL_EVERY = 20_000
"""Rows, between two words on how many were read."""


@dataclass
class Curated:
    """What became of the rows."""

    left: list[Entry]
    funnel: Funnel
    dropped: list[tuple[Entry, str, str]] = field(default_factory=list)
    """With the stage and the reason."""

    def drop(self, stage: str, find: Callable[[Entry], str | None]) -> None:
        """One more stage, which drops the rows that `find` has a reason for."""
        stays: list[Entry] = []
        gone: list[tuple[Entry, str, str]] = []
        for row in self.left:
            why = find(row)
            if why is None:
                stays.append(row)
            else:
                gone.append((row, stage, sys.intern(why)))
        self.funnel.add(stage, ((row.source, why) for row, _, why in gone))
        self.dropped += gone
        self.left = stays


def run(config: CurateConfig, context: StepContext) -> None:
    """Writes ``train.jsonl`` (and ``seed-N.jsonl`` where several are asked for), ``dropped.jsonl``, ``funnel.json``,
    ``README.md`` and ``curate.html``."""
    context.output.mkdir(parents=True, exist_ok=True)
    file = _file(config, context)
    curated = _of_quality(config, context, file)

    def questions(entries: Iterable[Entry]) -> Iterator[str]:
        return (columns["question"] for columns in again(file, entries))

    if config.difficulty is not None:
        curated.drop("difficulty", Judged(config.difficulty, context).find)
    _check_size(config, curated)  # before a model is asked for classes
    if config.domains is not None:
        if config.domains.clusters is not None:
            curated.left = clustered(curated.left, config.domains, questions)
        elif config.domains.classify is not None:
            from jobs.curate.classify import with_classes

            asked = config.domains.classify
            curated.left = with_classes(curated.left, asked, config.resources, context, questions)
        curated.drop("domains", lambda row: None if row.domain else "no domain")
    before = curated.left
    sets = [_selected(config, curated, seed) for seed in config.select.drawn]
    chosen = {row.key for row in sets[0]}
    drawn = f"not drawn by {config.select.by}"
    curated.drop("select", lambda row: None if row.key in chosen else drawn)
    _write(config, context, file, before, curated, sets)
    count = sum(curated.funnel.came.values())
    context.progress(count, count, "rows")


def _file(config: CurateConfig, context: StepContext) -> Path:
    if isinstance(config.data, Reference):
        return context.take(config.data, Dataset).train
    return config.data.path


def _of_quality(config: CurateConfig, context: StepContext, file: Path) -> Curated:
    """Reads all rows, once, and asks the rules of each. Raises StepError where a column of domains is in none."""
    rules = [quality(written) for written in config.quality]
    rows: Iterable[tuple[int, CurateRow]] = read(file, str(config.data))
    if config.tokenizer is not None:
        from jobs.curate.lengths import counted as in_tokens

        rows = in_tokens(rows, config, context)
    column = None if config.domains is None else config.domains.column
    came: dict[str, int] = {}
    curated = Curated([], Funnel(came))
    by_rule: list[list[tuple[Entry, str, str]]] = [[] for _ in rules]
    columns: dict[str, None] = {}
    for number, (place, row) in enumerate(rows):
        if number % TELL_EVERY == 0:
            context.progress(0, number, "rows read")
        came[row.source] = came.get(row.source, 0) + 1
        columns |= dict.fromkeys(row.columns)
        entry = _entry(row, place, column)
        for rule, taken in zip(rules, by_rule, strict=True):
            if (why := rule.find(row)) is not None:
                taken.append((entry, rule.name, sys.intern(why)))
                break
        else:
            curated.left.append(entry)
    if column is not None and column not in columns:
        raise StepError(f"domains: no row has a column {column!r}; there are {', '.join(sorted(columns))}")
    ordered = dict(sorted(came.items()))
    came.clear()
    came |= ordered
    for rule, taken in zip(rules, by_rule, strict=True):
        curated.funnel.add(rule.name, ((row.source, why) for row, _, why in taken))
        curated.dropped += taken
    return curated


def _entry(row: CurateRow, place: int, column: str | None) -> Entry:
    domain = "" if column is None else sys.intern(str(row.columns.get(column) or ""))
    correct = row.columns.get("verdict", "correct") == "correct"
    return Entry(row.key, row.id, row.source, row.length, correct, domain, place)


def _check_size(config: CurateConfig, curated: Curated) -> None:
    """Raises StepError where there are too few rows, or none, naming what took most."""
    asked, there = config.select, len(curated.left)
    if there and (asked.size is None or asked.size <= there):
        return
    most = curated.funnel.took_most
    said = ""
    if most is not None:
        count, (cause, _) = most.causes().total(), most.causes().most_common(1)[0]
        said = f"; {most.name} took most of the {sum(curated.funnel.came.values()):,}, {count:,} ({cause})"
    wanted = "all" if asked.size is None else f"{asked.size:,}"
    raise StepError(f"select: {wanted} of {there:,} rows that are left{said}: ask for fewer, or relax that")


def _selected(config: CurateConfig, curated: Curated, seed: int) -> list[Entry]:
    """One set. Raises StepError where there are too few rows, or none."""
    _check_size(config, curated)
    asked, there = config.select, len(curated.left)
    domains = {row.domain for row in curated.left}
    if strange := sorted(asked.weights.keys() - domains):
        raise StepError(f"select.weights: there is no domain {strange[0]!r} among {', '.join(sorted(domains)[:12])}")
    preselect = tuple(Preselected(each.source, each.longer_than) for each in asked.preselect)
    size = there if asked.size is None else asked.size
    wanted_rows = Wanted(size, random.Random(f"{asked.by} {seed}"), preselect, asked.weights)
    return select(asked.by, curated.left, wanted_rows)


def _write(
    config: CurateConfig,
    context: StepContext,
    file: Path,
    before: Sequence[Entry],
    curated: Curated,
    sets: Sequence[Sequence[Entry]],
) -> None:
    _rows_file(context.output / "train.jsonl", file, sets[0])
    if config.select.seeds:
        for seed, each in zip(config.select.seeds, sets, strict=True):
            _rows_file(context.output / f"seed-{seed}.jsonl", file, each)
    with Lines(context.output / DROPPED) as gone:
        columns = again(file, (row for row, _, _ in curated.dropped))
        for (row, stage, why), own_columns in zip(curated.dropped, columns, strict=True):
            gone.add({**_plain(row, own_columns), "stage": stage, "reason": why})
    facts = {"rows": str(config.data), "selection": config.describe()}
    facts |= {f"rule {number}": json.dumps(rule) for number, rule in enumerate(config.quality, 1)}
    if config.domains is not None:
        facts["domains"] = f"{len(counted(before)):,}, by {config.domains}"
    if len(sets) > 1:
        shared = set.intersection(*({row.key for row in each} for each in sets))
        facts["in every set"] = f"{len(shared):,} of {len(sets[0]):,} rows"
    html = curated_page(
        context.name, curated.funnel, before, sets[0], curated.dropped, lambda entries: again(file, entries)
    )
    (context.output / PAGE).write_text(html, encoding="utf-8")
    describe(context, "rows to train on", curated.funnel, facts, [took(config.data, context)], (PAGE,))


def _rows_file(path: Path, data: Path, entries: Sequence[Entry]) -> None:
    with Lines(path) as file:
        for row, columns in zip(entries, again(data, entries), strict=True):
            file.add(_plain(row, columns))


def _plain(row: Entry, columns: Mapping[str, Any]) -> dict[str, Any]:
    domain = {"domain": row.domain} if row.domain else {}
    return {**columns, "id": row.id, **domain, "length": row.length}
