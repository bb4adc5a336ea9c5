"""The graded samples of one policy on one task, with their questions where these can still be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.dataset as ds

from jobs.evaluate import tasks
from jobs.evaluate.report.results import CurvePoint, FinishedSweep
from orchestrator.job.errors import StepError

ExportedSample = Mapping[str, Any]


@dataclass(frozen=True)
class ScoredPolicy:
    """What one policy did on one task."""

    sweep: FinishedSweep
    task: str
    point: CurvePoint
    questions: Mapping[str, str]
    """By item; empty where the task cannot be read any more."""
    slug: str
    """The policy as part of a file's name, unlike any other's of the sweep."""

    @property
    def policy(self) -> str:
        return str(self.point["policy"])

    def rows(self, columns: list[str] | None = None) -> Iterator[ExportedSample]:
        """Of ``samples.parquet``, batch by batch: answers of a large sweep need not fit in memory."""
        wanted = (ds.field("task") == self.task) & (ds.field("policy") == self.policy)
        samples = ds.dataset(self.sweep.samples, format="parquet")
        for batch in samples.scanner(columns=columns, filter=wanted).to_batches():
            yield from batch.to_pylist()

    @property
    def items(self) -> list[str]:
        """Their ids, in the order of the rows."""
        return list(dict.fromkeys(row["item"] for row in self.rows(["item"])))

    def question(self, item: str) -> str:
        """Its own id where the question is not known."""
        return self.questions.get(item, item)

    @cached_property
    def setting(self) -> dict[str, Any]:
        """What the policy is, as ``curves.json`` says: budget, strings, count."""
        names = ("budget", "strings", "count", "effort", "label")
        return {name: self.point[name] for name in names if self.point.get(name) not in (None, [], "")}


def scored_policies(sweep: FinishedSweep) -> Iterator[ScoredPolicy]:
    """Every policy on every task; pass@k and majority@k are made of these samples and have none of their own."""
    questions: dict[str, dict[str, str]] = {}
    for each in sweep.config.tasks:
        try:
            loaded = tasks.load(each, sweep.context.inputs)
        except StepError:
            continue
        questions[each.name] = {item.id: item.question for item in loaded.items}
    slugs = _slugs(str(point["policy"]) for task in sweep.tasks for point in sweep.points(task))
    for task in sweep.tasks:
        for point in sweep.points(task):
            yield ScoredPolicy(sweep, task, point, questions.get(task, {}), slugs[str(point["policy"])])


def _slugs(policies: Iterable[str]) -> dict[str, str]:
    slugs: dict[str, str] = {}
    for policy in dict.fromkeys(policies):
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", policy).strip("-.") or "policy"
        taken = sum(other == slug or other.startswith(f"{slug}_") for other in slugs.values())
        slugs[policy] = f"{slug}_{taken + 1}" if taken else slug
    return slugs
