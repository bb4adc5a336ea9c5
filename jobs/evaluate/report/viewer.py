"""The data behind the page's sample viewer, packed: every verdict, and as many trees of traces as fit in a limit.

A sweep of 500 items × 64 samples × 32,000 tokens is gigabytes; a page of a few megabytes is what one can open and pass
on. So a page has all verdicts and a stated selection of traces (:meth:`Verdicts.by_interest`), each packed by itself,
which the browser unpacks when it is looked at. The page says how many it has, and how to get another.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.report.trees import Trees, without_traces
from jobs.evaluate.report.verdicts import Verdicts, read_verdicts, rows_of
from jobs.evaluate.run import prepare
from jobs.evaluate.tasks import load
from orchestrator.job.errors import StepError
from orchestrator.job.record import ReportRequest

AT_ONCE = 256
"""Units whose rows are read together."""


@dataclass(frozen=True)
class TaskData:
    """What the viewer knows of one task of one sweep."""

    key: str
    """Names it within the page."""
    sweep: str
    task: str
    verdicts: Verdicts
    index: str
    """Packed: policies, units, their verdicts, and which of them have a tree."""
    trees: tuple[tuple[int, str], ...]
    """Number of the unit, and its packed tree, or its answers where its traces are not known."""
    traced: int
    """How many of them have their traces."""

    @property
    def samples(self) -> int:
        """Of all items."""
        return len(self.verdicts.units)


def pack(value: Any) -> str:
    """Plain values as base64 of gzipped JSON, always the same for the same values: nothing in it looks like HTML."""
    return base64.b64encode(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), 9, mtime=0)).decode()


def collect(sweeps: Sequence[FinishedSweep], request: ReportRequest) -> tuple[TaskData, ...]:
    """The data of all tasks of all sweeps, which share the request's megabytes equally.

    Raises StepError for an item of the request that is in none of them.
    """
    verdicts = {
        (number, task): read_verdicts(sweep.samples, task, [policy.name for policy in sweep.policies])
        for number, sweep in enumerate(sweeps)
        for task in sweep.tasks
    }
    known = {item for each in verdicts.values() for item in each.items}
    for item in request.items:
        if item not in known:
            some = ", ".join(sorted(known)[:3])
            raise StepError(f"--item: no item {item!r} in this experiment's sweeps: give an id, such as {some}")
    share = int(request.megabytes * 1e6 / max(1, len(verdicts)))
    sources = [_Source.of(sweep) for sweep in sweeps]
    return tuple(
        _task(f"s{number}-t{sweeps[number].tasks.index(task)}", task, sources[number], task_verdicts, request, share)
        for (number, task), task_verdicts in verdicts.items()
    )


@dataclass(frozen=True)
class _Source:
    """What can be told of a sweep's samples."""

    sweep: FinishedSweep
    questions: Mapping[tuple[str, str], str]
    """By task and item; empty where the tasks cannot be read any more."""
    trees: Trees | None
    why: str
    """There are no trees."""

    @classmethod
    def of(cls, sweep: FinishedSweep) -> _Source:
        config, context = sweep.config, sweep.context
        questions: dict[tuple[str, str], str] = {}
        try:
            for task in (load(each, context.inputs) for each in config.tasks):
                questions |= {(task.name, item.id): item.question for item in task.items}
            if config.chat is not None:
                return cls(sweep, questions, None, "The server that answered only chats: its thinking is not known.")
            return cls(sweep, questions, Trees(prepare(config, context)), "")
        except StepError as error:
            return cls(sweep, questions, None, f"Only its answers, without their thinking: {error}")

    def records(
        self, task: str, verdicts: Verdicts, items: Collection[str]
    ) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """All units with their trees, the most interesting first."""
        order = verdicts.by_interest(items)
        for start in range(0, len(order), AT_ONCE):
            rows = rows_of(self.sweep.samples, task, order[start : start + AT_ONCE])
            for (item, sample), of_unit in rows.items():
                in_order = sorted(of_unit, key=lambda row: verdicts.policies.index(row["policy"]))
                tree = (
                    without_traces(in_order, self.why)
                    if self.trees is None
                    else self.trees.read(task, item, sample, in_order)
                )
                question = self.questions.get((task, item), "")
                yield (item, sample), {"question": question, "gold": in_order[0]["gold"], **tree}


def _task(key: str, task: str, source: _Source, verdicts: Verdicts, request: ReportRequest, limit: int) -> TaskData:
    numbers = {unit: number for number, unit in enumerate(verdicts.units)}
    packed: list[tuple[int, str]] = []
    size = traced = 0
    for unit, record in source.records(task, verdicts, request.items):
        text = pack(record)
        size += len(text)
        if size > limit:
            break
        packed.append((numbers[unit], text))
        traced += bool(record["branches"])
    places = {item: place for place, item in enumerate(verdicts.items)}
    index = {
        "policies": list(verdicts.policies),
        "items": list(places),
        "units": [[places[item], sample] for item, sample in verdicts.units],
        "verdicts": verdicts.text,
    }
    return TaskData(key, source.sweep.name, task, verdicts, pack(index), tuple(packed), traced)
