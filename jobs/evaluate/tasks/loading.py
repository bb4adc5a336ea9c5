"""Where items come from: the letters generator, the held-out file of another step, or a file of the user's own.

Files are JSONL, one object per line with an ``id``, a ``question`` and an ``answer``; other keys are left alone. The
first line that is not so stops the step with its file and number, before anything is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.evaluate.grading import canonical_integer
from jobs.evaluate.tasks.config import LETTERS_ITEMS, TaskConfig
from jobs.evaluate.tasks.task import Item, Task
from orchestrator.step import Reference, StepError, StepInput


def load(config: TaskConfig, inputs: Mapping[str, StepInput]) -> Task:
    """The task that `config` names. `inputs` are the finished steps that it may refer to, by name.

    Raises :class:`StepError` naming file and line when an item is unusable.
    """
    if config.path is None:
        return Task(config.name, _letters(LETTERS_ITEMS if config.items is None else config.items, config.seed))
    if isinstance(config.path, Reference):
        return Task(config.name, read_items(inputs[config.path.step].output / "test.jsonl")[: config.items])
    return Task(config.name, read_items(Path(config.path))[: config.items])


def read_items(path: Path) -> tuple[Item, ...]:
    """The items of a JSONL file, in its order. Raises :class:`StepError` naming the line that is not one."""
    items: list[Item] = []
    first_line: dict[str, int] = {}
    for number, line in _lines(path):
        item = _item(line, f"{path}:{number}")
        if item.id in first_line:
            raise StepError(
                f"{path}:{number}: id {item.id!r} is that of line {first_line[item.id]}: make each id unique"
            )
        first_line[item.id] = number
        items.append(item)
    if not items:
        raise StepError(f"{path}: no items: give one JSON object per line with id, question and answer")
    return tuple(items)


def _letters(count: int, seed: int) -> tuple[Item, ...]:
    from jobs.letters.generator import held_out

    return tuple(Item(question.id, question.text, question.answer) for question in held_out(count, seed))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise StepError(f"{path}: no such file: give a JSONL file of questions") from None
    except UnicodeDecodeError as error:
        raise StepError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from None


def _item(line: str, where: str) -> Item:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise StepError(f"{where}: not JSON ({error}): one object per line is needed") from None
    if not isinstance(record, dict):
        raise StepError(f"{where}: {type(record).__name__} where an object with id, question and answer is needed")
    identity, question, answer = (_text(record, key, where) for key in ("id", "question", "answer"))
    if canonical_integer(answer) is None:
        raise StepError(f"{where}: answer {answer!r} is not an integer: only integer answers can be graded")
    return Item(identity, question, answer)


def _text(record: dict[str, object], key: str, where: str) -> str:
    """The value of `key` as text; whole numbers are taken for what they say."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        state = f"{key} is missing" if key not in record else f"{key} is {value!r}"
        raise StepError(f"{where}: {state}: each item needs a non-empty id, question and answer")
    return value
