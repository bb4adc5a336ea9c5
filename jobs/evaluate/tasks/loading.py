"""Where items come from: the letters generator, another step's held-out file, the hub, or a user's file.

Files have a row per item: JSON lines, or CSV with a header. Wherever rows come from, each becomes an item by the same
rules, and the first that cannot be one stops the step with its place, before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping

from jobs.evaluate.tasks.config import LETTERS_ITEMS, TaskConfig
from jobs.evaluate.tasks.hub import hub_rows
from jobs.evaluate.tasks.items import Rows, each_item
from jobs.evaluate.tasks.rows import file_rows
from jobs.evaluate.tasks.task import Item, Task
from orchestrator.job.context import StepInput
from orchestrator.job.references import Reference


def load(config: TaskConfig, inputs: Mapping[str, StepInput]) -> Task:
    """The task that `config` names. `inputs` are the finished steps that it may refer to, by name.

    Raises :class:`StepError` naming file and line when an item is unusable, and what to do when the hub gives none.
    """
    if config.generated:
        items = _letters(LETTERS_ITEMS if config.items is None else config.items, config)
        return Task(config.name, items, config.answers, config.fallback)
    items = tuple(each_item(rows(config, inputs), config))
    return Task(config.name, items[: config.items], config.answers, config.fallback)


def rows(config: TaskConfig, inputs: Mapping[str, StepInput]) -> Rows:
    """What the items of a task that is not generated are made of."""
    if isinstance(config.path, Reference):
        return file_rows(inputs[config.path.step].output / "test.jsonl")
    if config.path is not None:
        return file_rows(config.path.path, str(config.path))
    assert config.published is not None
    return hub_rows(config.name, config.published)


def _letters(count: int, config: TaskConfig) -> tuple[Item, ...]:
    from jobs.evaluate.tasks.wording import asked
    from jobs.letters.generator import held_out

    questions = held_out(count, config.seed)
    return tuple(Item(each.id, asked(each.text, (), config.prompt), each.answer) for each in questions)
