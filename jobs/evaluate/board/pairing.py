"""How each point of a task does against one of them, on the items that both were asked: better, worse, within noise.

By default that one is the most accurate point of the task. It was chosen for being so, on the same items, so its lead
flatters it; for a claim, name a step, whose natural end is taken (or its most accurate point, where it has none).
Items match by id, and their correct answers must be the same; what a point and the reference have in common is what
they are compared on. All comparisons of a task are one family: p-values are corrected for their number (Holm), and a
point is *better* or *worse* where the corrected one is below 5%.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evaluate.board.entries import NATURAL_END, BoardEntry, ItemScores
from orchestrator.job.errors import StepError

LEVEL = 0.05
SHARE_OF_ITEMS = 0.5
"""Of the most that any point of the task was asked: the best of fewer is best by luck."""


@dataclass(frozen=True)
class BoardReference:
    """What the points of a task are compared with."""

    entry: BoardEntry
    task: str
    policy: str

    @property
    def id(self) -> str:
        """Another one where its result is written again."""
        return f"{self.entry.key} {self.entry.step.version} {self.policy}"


@dataclass(frozen=True)
class ComparedEntries:
    """All sweeps, each point with its comparison in ``row["against"]``."""

    entries: Sequence[BoardEntry]
    references: dict[str, BoardReference]
    """By task."""


def compare_all(entries: Sequence[BoardEntry], against: str | None) -> ComparedEntries:
    """Compares what was not yet, and corrects all for their number. Raises StepError for an unknown step."""
    references = _references(entries, against)
    for entry in entries:
        for task in entry.record["tasks"]:
            reference = references.get(task["task"])
            if task["reference"] != (reference and reference.id):
                _compare(entry, task, reference)
    for name in references:
        _correct([task for entry in entries for task in entry.record["tasks"] if task["task"] == name])
    return ComparedEntries(entries, references)


def _references(entries: Sequence[BoardEntry], against: str | None) -> dict[str, BoardReference]:
    by_task: dict[str, list[tuple[BoardEntry, dict[str, Any]]]] = {}
    for entry in entries:
        for task in entry.record["tasks"]:
            rows = [row for row in task["rows"] if row["accuracy"] is not None]
            by_task.setdefault(task["task"], []).extend((entry, row) for row in rows)
    if against is None:
        return {task: _best(task, rows) for task, rows in by_task.items() if rows}
    chosen = {task: [each for each in rows if _is_step(each[0], against)] for task, rows in by_task.items()}
    if not any(chosen.values()):
        some = ", ".join(sorted({entry.record["step"] for entry in entries})[:3])
        raise StepError(f"--against: no finished sweep {against!r}: give a step's name or its folder's, such as {some}")
    best_of = {}
    for task, rows in chosen.items():
        natural = [each for each in rows if each[1]["policy"] == NATURAL_END]
        newest = max((entry.step.finished for entry, _ in rows), default=0.0)
        rows = [each for each in (natural or rows) if each[0].step.finished == newest]
        if rows:
            best_of[task] = _best(task, rows)
    return best_of


def _is_step(entry: BoardEntry, name: str) -> bool:
    step: str = entry.record["step"]
    return name.rstrip("/").rpartition("/")[2] in (step, step.rpartition("-")[0])


def _best(task: str, rows: Sequence[tuple[BoardEntry, dict[str, Any]]]) -> BoardReference:
    most = max(row["items"] for _, row in rows)
    many = [(entry, row) for entry, row in rows if row["items"] >= SHARE_OF_ITEMS * most]
    entry, row = max(many, key=lambda each: (each[1]["accuracy"], -each[1]["thinking_tokens"], each[0].key))
    return BoardReference(entry, task, row["policy"])


def _compare(entry: BoardEntry, task: dict[str, Any], reference: BoardReference | None) -> None:
    """Sets what `task`'s rows are against the reference."""
    differences_by_policy = {} if reference is None else dict(_against(entry, reference))
    for row in task["rows"]:
        row["against"] = differences_by_policy.get(row["policy"])
    task["reference"] = reference and reference.id


def _against(entry: BoardEntry, reference: BoardReference) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each point's difference from the reference; nothing where they were asked no questions in common."""
    import numpy as np

    from jobs.evaluate.stats.comparisons import Scores, differences

    theirs, ours = entry.scores.get(reference.task), reference.entry.scores.get(reference.task)
    if theirs is None or ours is None or reference.policy not in ours.scores.points:
        return
    items = _shared(ours, theirs)
    if not items:
        return
    first, second = (
        Scores(each.scores.points, each.scores.shares.rows(np.searchsorted(np.array(each.items), items)))
        for each in (_ordered(ours), _ordered(theirs))
    )
    column = first.points.index(reference.policy)
    both = Scores((reference.policy,), first.shares[[column]]).beside(second)
    pairs = [(0, 1 + number) for number in range(len(second.points))]
    for each in differences(reference.task, both, pairs):
        if entry.key == reference.entry.key and each.policy == reference.policy:
            continue
        yield (
            each.policy,
            {
                "difference": _number(each.difference.value),
                "low": _number(each.difference.interval.low),
                "high": _number(each.difference.interval.high),
                "t_p_value": _number(each.t_p_value),
                "items": each.items,
            },
        )


def _ordered(scores: ItemScores) -> ItemScores:
    """With its items in the order of their hashes."""
    import numpy as np

    from jobs.evaluate.stats.comparisons import Scores

    order = np.argsort(np.array(scores.items), kind="stable")
    golds = [scores.golds[at] for at in order] if scores.golds else []
    shares = scores.scores.shares.rows(order)
    return ItemScores([scores.items[at] for at in order], golds, Scores(scores.scores.points, shares))


def _shared(first: ItemScores, second: ItemScores) -> list[str]:
    """The items of both, in order; none where an item's correct answer is not the same in both: they are then not the
    same questions, whatever their ids."""
    items = sorted({*first.items} & {*second.items})
    if first.golds and second.golds:
        one, other = (dict(zip(each.items, each.golds, strict=True)) for each in (first, second))
        if any(one[item] != other[item] for item in items):
            return []
    return items


def _correct(tasks: Sequence[dict[str, Any]]) -> None:
    """Gives all points of a task their corrected p-values and what they come to."""
    import numpy as np

    from jobs.evaluate.stats.comparisons import holm

    compared = [row["against"] for task in tasks for row in task["rows"] if row["against"] is not None]
    values = [math.nan if each["t_p_value"] is None else each["t_p_value"] for each in compared]
    for each, p_holm in zip(compared, holm(np.array(values)), strict=True):
        each["p_holm"] = _number(float(p_holm))
        sure = not math.isnan(p_holm) and p_holm < LEVEL
        each["verdict"] = "within noise" if not sure else "better" if each["difference"] > 0 else "worse"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")
