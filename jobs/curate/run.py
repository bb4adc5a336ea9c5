"""The curate step: rules take rows, a selection takes what it is asked for, and everything is told.

Stages, in their order: each rule of ``quality``, ``difficulty``, ``domains`` (rows that have none), ``select``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.curate.config import CurateConfig
from jobs.curate.difficulty import Judged
from jobs.curate.domains import counted, with_domains
from jobs.curate.quality import quality
from jobs.curate.reading import read
from jobs.curate.report import page
from jobs.curate.row import CurateRow
from jobs.curate.selection import Preselected, Wanted, select
from jobs.fates import DROPPED, Funnel
from jobs.made_dataset import Lines, describe, took
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import Reference

PAGE = "curate.html"


@dataclass
class Curated:
    """What became of the rows."""

    left: list[CurateRow]
    funnel: Funnel
    dropped: list[tuple[CurateRow, str, str]] = field(default_factory=list)
    """With the stage and the reason."""

    def drop(self, stage: str, find: Callable[[CurateRow], str | None]) -> None:
        """One more stage, which drops the rows that `find` has a reason for."""
        reasons = [(row, find(row)) for row in self.left]
        gone = [(row, stage, why) for row, why in reasons if why is not None]
        self.funnel.add(stage, ((row.source, why) for row, _, why in gone))
        self.dropped += gone
        self.left = [row for row, why in reasons if why is None]


def run(config: CurateConfig, context: StepContext) -> None:
    """Writes ``train.jsonl`` (and ``seed-N.jsonl`` where several are asked for), ``dropped.jsonl``, ``funnel.json``,
    ``README.md`` and ``curate.html``."""
    context.output.mkdir(parents=True, exist_ok=True)
    rows = _rows(config, context)
    came: dict[str, int] = {}
    for row in rows:
        came[row.source] = came.get(row.source, 0) + 1
    curated = Curated(rows, Funnel(dict(sorted(came.items()))))
    context.progress(0, len(rows), "rows")
    for written in config.quality:
        rule = quality(written)
        curated.drop(rule.name, rule.find)
    if config.difficulty is not None:
        curated.drop("difficulty", Judged(config.difficulty, context).find)
    if config.domains is not None and curated.left:
        if config.domains.classify is None:
            curated.left = with_domains(curated.left, config.domains)
        else:
            from jobs.curate.classify import with_classes

            curated.left = with_classes(curated.left, config.domains.classify, config.resources, context)
        curated.drop("domains", lambda row: None if row.domain else "no domain")
    before = curated.left
    sets = [_selected(config, curated, seed) for seed in config.select.drawn]
    chosen = {row.key for row in sets[0]}
    drawn = f"not drawn by {config.select.by}"
    curated.drop("select", lambda row: None if row.key in chosen else drawn)
    _write(config, context, rows, before, curated, sets)
    context.progress(len(rows), len(rows), "rows")


def _rows(config: CurateConfig, context: StepContext) -> list[CurateRow]:
    if isinstance(config.data, Reference):
        rows = list(read(context.take(config.data, Dataset).train, str(config.data)))
    else:
        rows = list(read(config.data.path, str(config.data)))
    if config.tokenizer is None:
        return rows
    from jobs.curate.lengths import counted as in_tokens

    return in_tokens(rows, config, context)


def _selected(config: CurateConfig, curated: Curated, seed: int) -> list[CurateRow]:
    """One set. Raises StepError where there are too few rows, or none."""
    asked, there = config.select, len(curated.left)
    if not there or (asked.size is not None and asked.size > there):
        most = curated.funnel.took_most
        said = (
            ""
            if most is None
            else f"; {most.name} took most of the {sum(curated.funnel.came.values()):,}, "
            + (f"{most.causes().total():,} ({most.causes().most_common(1)[0][0]})")
        )
        wanted = "all" if asked.size is None else f"{asked.size:,}"
        raise StepError(f"select: {wanted} of {there:,} rows that are left{said}: ask for fewer, or relax that")
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
    rows: Sequence[CurateRow],
    before: Sequence[CurateRow],
    curated: Curated,
    sets: Sequence[Sequence[CurateRow]],
) -> None:
    _rows_file(context, "train.jsonl", sets[0])
    if config.select.seeds:
        for seed, own in zip(config.select.seeds, sets, strict=True):
            _rows_file(context, f"seed-{seed}.jsonl", own)
    with Lines(context.output / DROPPED) as gone:
        for row, stage, why in curated.dropped:
            gone.add({**_plain(row), "stage": stage, "reason": why})
    facts = {"rows": str(config.data), "selection": config.describe()}
    facts |= {f"rule {number}": json.dumps(rule) for number, rule in enumerate(config.quality, 1)}
    if config.domains is not None:
        facts["domains"] = f"{len(counted(before)):,}, by {config.domains}"
    if len(sets) > 1:
        shared = set.intersection(*({row.key for row in own} for own in sets))
        facts["in every set"] = f"{len(shared):,} of {len(sets[0]):,} rows"
    html = page(context.name, curated.funnel, rows, before, sets[0], curated.dropped)
    (context.output / PAGE).write_text(html, encoding="utf-8")
    describe(context, "rows to train on", curated.funnel, facts, [took(config.data, context)], (PAGE,))


def _rows_file(context: StepContext, name: str, rows: Iterable[CurateRow]) -> None:
    with Lines(context.output / name) as file:
        for row in rows:
            file.add(_plain(row))


def _plain(row: CurateRow) -> dict[str, Any]:
    domain = {"domain": row.domain} if row.domain else {}
    return {**row.columns, "id": row.id, **domain, "length": row.length}
