"""Grading a finished sweep again: every answer is there, so nothing is decoded.

What a better grader, or a judge that was away, makes of the answers is compared with what stands in the samples. All of
it is worked out in a folder beside the step's output; :attr:`Regraded.apply` then puts it there and publishes anew.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.grading.session import graded_by, grading, was_graded_by
from jobs.evaluate.publish import publish
from jobs.evaluate.samples import SCHEMA, row, samples_file
from jobs.evaluate.stopping import replay
from jobs.evaluate.sweep.ledger import Ledger, Verdict
from jobs.evaluate.tasks import Task, load
from orchestrator.job.context import StepContext
from orchestrator.job.record import Regraded

CHANGES = "regraded.csv"
"""In the step's folder: every answer whose verdict the last regrading changed."""
_ROWS_AT_ONCE = 8192
_LEDGER = tuple(field.name for field in fields(Ledger))


@dataclass(frozen=True)
class _Change:
    """An answer whose verdict is another one."""

    task: str
    policy: str
    item: str
    sample: int
    gold: str
    extracted: str
    before: Verdict
    after: Verdict


def regrade(config: EvaluateConfig, context: StepContext) -> Regraded:
    """Grades every answer of the finished step again. Raises StepError when its tasks cannot be loaded any more."""
    tasks = [load(task, context.inputs) for task in config.tasks]
    graded = graded_again(config, context, tasks)
    return graded.told(bool(graded.changes), partial(_publish, config, context))


@dataclass(frozen=True)
class GradedAgain:
    """New verdicts, in a folder beside the output that has the old ones."""

    context: StepContext
    staged: Path
    """It has what goes into the output; more can be put there."""
    counts: Mapping[tuple[str, str, Verdict, Verdict], int]
    """By task, policy, and the verdict before and after."""
    changes: Sequence[_Change]

    def told(self, revised: bool, publish: Callable[[], None]) -> Regraded:
        """As it is told. `publish` is called once everything is in the output."""
        before_by, after_by = was_graded_by(self.context.output), graded_by()
        return Regraded(
            title=f"graded by {_named(before_by)}, now by {_named(after_by)}: {len(self.changes)} of "
            f"{sum(self.counts.values())} verdicts differ",
            by_group=_by_policy(self.counts),
            items=[{name: str(value) for name, value in asdict(change).items()} for change in self.changes],
            file=self.context.storage / CHANGES,
            changed=revised or before_by != after_by or _judged_more(self.staged, self.context.output),
            revised=revised,
            apply=partial(self._apply, publish),
        )

    def _apply(self, publish: Callable[[], None]) -> None:
        for file in self.staged.iterdir():
            file.replace(self.context.output / file.name)
        self.staged.rmdir()
        publish()


def graded_again(config: EvaluateConfig, context: StepContext, asked: Sequence[Task]) -> GradedAgain:
    """Grades every answer to what was `asked`."""
    tasks = {task.name: task for task in asked}
    staged = context.folder / "regraded"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    counts: Counter[tuple[str, str, Verdict, Verdict]] = Counter()
    changes: list[_Change] = []
    seen: set[str] = set()
    with grading(config, context, staged) as grader:
        of_rules = partial(replay.tables, config, staged / "samples.parquet")
        (samples, *probes) = replay.files(config, context.output / "samples.parquet").items()
        for path, policies in (*probes, samples):
            more = of_rules if path == samples[0] else tuple
            for old, new in _graded(path, staged / path.name, policies, tasks, grader, more):
                if old["policy"] in seen:
                    continue  # an answer that is a probe as well as a policy's
                counts[new["task"], new["policy"], old["verdict"], new["verdict"]] += 1
                if old["verdict"] != new["verdict"]:
                    changes.append(_change(old, new))
            seen.update(policies)
    with (context.folder / CHANGES).open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(_Change)])
        rows.writeheader()
        rows.writerows(asdict(change) for change in changes)
    return GradedAgain(context, staged, counts, changes)


def _graded(
    source: Path,
    target: Path,
    policies: Collection[str],
    tasks: Mapping[str, Task],
    grader: Grader,
    more: Callable[[], Iterable[pa.Table]],
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row of some policies, as it was and as it is now in the file `target`, at whose end is `more`."""
    there = pq.ParquetFile(source)
    schema = pa.schema([*SCHEMA, *(field for field in there.schema_arrow if field.name not in SCHEMA.names)])
    with samples_file(target, schema) as add:
        for batch in there.iter_batches(_ROWS_AT_ONCE):
            old = [each for each in batch.to_pylist() if each["policy"] in policies]
            new = _again(old, tasks, grader)
            add(pa.Table.from_pylist(new, schema))
            yield from zip(old, new, strict=True)
        for each in more():
            add(each)


def _again(rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, Task], grader: Grader) -> list[dict[str, Any]]:
    """The rows with what the grader says now; with what was said before, where it can say nothing now."""
    graded = grader.grade(
        [(tasks[each["task"]], Ledger(**{name: each[name] for name in _LEDGER if name in each})) for each in rows]
    )
    return [
        dict(before) if after.verdict == "ungraded" else {**before, **row(after)}
        for before, after in zip(rows, graded, strict=True)
    ]


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> _Change:
    named = {name: after[name] for name in ("task", "policy", "item", "sample", "gold")}
    return _Change(**named, extracted=after["extracted"] or "", before=before["verdict"], after=after["verdict"])


def _by_policy(counts: Mapping[tuple[str, str, Verdict, Verdict], int]) -> list[dict[str, str]]:
    """For each policy with a change: how many changed from what to what, and its accuracy before and after."""
    table = []
    for task, policy in dict.fromkeys((task, policy) for task, policy, _, _ in counts):
        of_policy = {key[2:]: count for key, count in counts.items() if key[:2] == (task, policy)}
        moved = [f"{before} → {after}: {count}" for (before, after), count in of_policy.items() if before != after]
        if moved:
            accuracies = [_accuracy([(pair[side], count) for pair, count in of_policy.items()]) for side in (0, 1)]
            table.append(
                {"task": task, "policy": policy, "changed": ", ".join(moved), "accuracy": " → ".join(accuracies)}
            )
    return table


def _accuracy(verdicts: Sequence[tuple[Verdict, int]]) -> str:
    graded = sum(count for verdict, count in verdicts if verdict not in ("error", "ungraded"))
    correct = sum(count for verdict, count in verdicts if verdict == "correct")
    return f"{100 * correct / graded:.1f}%" if graded else "none"


def _judged_more(staged: Path, output: Path) -> bool:
    """Whether the judge's replies on record differ."""
    kept = [(folder / "judgements.jsonl") for folder in (staged, output)]
    return kept[0].exists() and (not kept[1].exists() or kept[0].read_bytes() != kept[1].read_bytes())


def _publish(config: EvaluateConfig, context: StepContext) -> None:
    """Everything that follows from the verdicts."""
    decode = json.loads((context.output / "decode.json").read_text())
    publish(config, context, context.output / "samples.parquet", decode)


def _named(graded: Mapping[str, str | int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in graded.items()) or "an unknown grader"
