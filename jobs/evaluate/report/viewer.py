"""The data behind the page's sample viewer, packed: every verdict, and as many trees of traces as fit in a limit.

A sweep of 500 items × 64 samples × 32,000 tokens is gigabytes; a page of a few megabytes is what one can open and pass
on. So a page has all verdicts and a stated selection of traces (:meth:`Verdicts.by_interest`), each packed by itself,
which the browser unpacks when it is looked at. The page says how many it has, and how to get another.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evaluate.report.results import Results
from jobs.evaluate.report.trees import Trees, without_traces
from jobs.evaluate.report.verdicts import Verdicts, read_verdicts, rows_of
from jobs.evaluate.run import prepare
from orchestrator.step import ReportRequest, StepError

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
    """Number of the unit, and its packed tree."""

    @property
    def samples(self) -> int:
        """Of all items."""
        return len(self.verdicts.units)


def pack(value: Any) -> str:
    """Plain values as base64 of gzipped JSON, always the same for the same values: nothing in it looks like HTML."""
    return base64.b64encode(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), 9, mtime=0)).decode()


def collect(sweeps: Sequence[Results], request: ReportRequest) -> tuple[TaskData, ...]:
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
    found = []
    for number, sweep in enumerate(sweeps):
        trees, note = _trees(sweep)
        for task in sweep.tasks:
            found.append(
                _task(
                    f"s{number}-t{sweep.tasks.index(task)}",
                    sweep,
                    verdicts[number, task],
                    task,
                    trees,
                    note,
                    request,
                    share,
                )
            )
    return tuple(found)


def _trees(sweep: Results) -> tuple[Trees | None, str]:
    try:
        return Trees(prepare(sweep.config, sweep.context)), ""
    except StepError as error:
        return None, f"Only its answers, without their thinking: {error}"


def _task(
    key: str,
    sweep: Results,
    verdicts: Verdicts,
    task: str,
    trees: Trees | None,
    note: str,
    request: ReportRequest,
    limit: int,
) -> TaskData:
    numbers = {unit: number for number, unit in enumerate(verdicts.units)}
    packed: list[tuple[int, str]] = []
    size = 0
    for (item, sample), record in _records(sweep, verdicts, task, trees, note, request):
        text = pack(record)
        size += len(text)
        if size > limit:
            break
        packed.append((numbers[item, sample], text))
    places = {item: place for place, item in enumerate(verdicts.items)}
    index = {
        "policies": list(verdicts.policies),
        "items": list(places),
        "units": [[places[item], sample] for item, sample in verdicts.units],
        "verdicts": verdicts.text,
    }
    return TaskData(key, sweep.name, task, verdicts, pack(index), tuple(packed))


def _records(
    sweep: Results, verdicts: Verdicts, task: str, trees: Trees | None, note: str, request: ReportRequest
) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """The trees, the most interesting first."""
    order = verdicts.by_interest(request.items)
    for start in range(0, len(order), AT_ONCE):
        batch = order[start : start + AT_ONCE]
        rows = rows_of(sweep.samples, task, batch)
        for item, sample in batch:
            own = sorted(rows[item, sample], key=lambda row: verdicts.policies.index(row["policy"]))
            if trees is None:
                yield (item, sample), {"gold": own[0]["gold"], **without_traces(own, note)}
            else:
                question, gold = trees.question(task, item)
                yield (item, sample), {"question": question, "gold": gold, **trees.read(task, item, sample, own)}
