"""What a teacher is asked: tasks, as a sweep has them, and what else is known of each question.

The rows of a step that collects questions have their answers' types themselves, and perhaps no reference answer. They
become one task for each type, so that everything about grading is a sweep's; what their rows carry goes along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.answer_type import ANSWER_TYPES
from jobs.evaluate.tasks import Item, Task, load
from jobs.evaluate.tasks.config import TaskConfig
from jobs.evaluate.tasks.items import item_of
from jobs.evaluate.tasks.loading import rows
from orchestrator.job.context import StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.references import Reference

_OURS = ("id", "question", "answer", "type")
"""Columns that the dataset has from elsewhere."""


@dataclass(frozen=True)
class Questions:
    """All that is asked."""

    tasks: Sequence[Task]
    carried: Mapping[tuple[str, str], Mapping[str, Any]]
    """By task and item: further columns of its row."""


def questions(config: EvaluateConfig, inputs: Mapping[str, StepInput]) -> Questions:
    """The questions of a config. Raises StepError at the first row that is none, before anything is decoded."""
    tasks: list[Task] = []
    carried: dict[tuple[str, str], Mapping[str, Any]] = {}
    for task in config.tasks:
        if not isinstance(task.path, Reference):
            tasks.append(load(task, inputs))
            continue
        by_type: dict[str, list[Item]] = {}
        further: dict[str, Mapping[str, Any]] = {}
        for kind, item, row in _asked(task, inputs):
            if item.id in further:
                raise StepError(f"{task.path}: id {item.id!r} is given twice: make each id unique")
            by_type.setdefault(kind, []).append(item)
            further[item.id] = {name: value for name, value in row.items() if name not in _OURS}
        if not by_type:
            raise StepError(f"questions: {task.path} has no questions")
        for kind, items in by_type.items():
            name = task.name if len(by_type) == 1 else f"{task.name}.{kind}"
            tasks.append(Task(name, tuple(items), kind, task.fallback))
            carried |= {(name, item.id): further[item.id] for item in items}
    return Questions(tasks, carried)


def _asked(task: TaskConfig, inputs: Mapping[str, StepInput]) -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    for number, (where, row) in enumerate(rows(task, inputs), 1):
        if task.items is not None and number > task.items:
            return
        kind: str = row.get("type", task.answers) if task.type is None else task.type
        if kind not in ANSWER_TYPES:
            raise StepError(f"{where}: unknown type {kind!r}: known are {', '.join(ANSWER_TYPES)}")
        if row.get("answer") == "":
            asked = item_of({**row, "answer": "-"}, where, number, task.row_columns, _of_type(task, "text"))
            yield kind, Item(asked.id, asked.question, ""), row
        else:
            yield kind, item_of(row, where, number, task.row_columns, _of_type(task, kind)), row


def _of_type(task: TaskConfig, kind: str) -> TaskConfig:
    return task.model_copy(update={"type": kind})
