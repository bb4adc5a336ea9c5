"""From a row to an item: its fields by their names, its answer in the form its type asks for, its options in an order.

Options stand in an order of their own for each item, which follows from the task's seed and the item's id alone: not
from the other items, nor from how many there are, nor from any generator that other code might draw from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.grading.letters import letter_of
from jobs.evaluate.tasks.benchmarks import Columns
from jobs.evaluate.tasks.rows import SourceRow
from jobs.evaluate.tasks.task import Item
from jobs.evaluate.tasks.wording import LETTERS, asked
from orchestrator.job.errors import StepError

if TYPE_CHECKING:
    from jobs.evaluate.tasks.config import TaskConfig

Rows = Iterator[SourceRow]

_MOST_NAMED = 20
"""Columns, in a message."""
_NEEDED = (
    "each row needs an id, a question and an answer; columns: {question: …} names columns that are called otherwise, "
    "and columns: {id: null} numbers the rows"
)


def each_item(rows: Rows, config: TaskConfig) -> Iterator[Item]:
    """The items of a task, in the order of its rows. Raises :class:`StepError` naming the row that is none, and where
    there is not one. Of those before, only the ids are kept in memory."""
    place: dict[str, str] = {}
    columns = config.row_columns
    for number, (where, row) in enumerate(rows, 1):
        if number == 1 and config.may_lack_ids and not any(name in row for name in columns.id):
            columns = replace(columns, id=())
        if columns.picture is not None and row.get(columns.picture):
            continue
        item = item_of(row, where, number, columns, config)
        if item.id in place:
            raise StepError(f"{where}: id {item.id!r} is that of {place[item.id]}: make each id unique")
        place[item.id] = _line(where)
        yield item
    if not place:
        raise StepError(f"{config.path or config.dataset or config.name} has no items: {_NEEDED}")


def permuted(options: Sequence[str], seed: int, item: str) -> tuple[str, ...]:
    """`options` in the order in which the item with the id `item` shows them: any order is as likely as any other."""

    def place(at: int) -> bytes:
        return hashlib.sha256(f"{seed}\0{item}\0{at}".encode()).digest()

    return tuple(options[at] for at in sorted(range(len(options)), key=place))


def item_of(row: Mapping[str, Any], where: str, number: int, columns: Columns, config: TaskConfig) -> Item:
    """The item in a row, the `number`-th. Raises :class:`StepError` where it is none."""
    identity = _text(row, columns.id, "id", where) if columns.id else str(number)
    question = _text(row, columns.question, "question", where)
    kind = config.answer_type
    if kind.asks is not None:
        question = kind.asks(question, row)
    answer = _answer(row, where, columns, kind)
    if kind.options:
        options, right = _options(row, columns, answer, where, config)
        shown = permuted(options, config.seed, identity)
        letter = LETTERS[shown.index(right)] if right is not None else str(letter_of(answer, LETTERS))
        return Item(identity, asked(question, shown, config.prompt), letter, letters=LETTERS[: len(shown)] or LETTERS)
    if problem := kind.problem(answer):
        raise StepError(
            f"{where}: answer {_shown(answer)} {problem}: correct it, or give the task another type (math, text, …)"
        )
    return Item(identity, asked(question, (), config.prompt), answer)


def _answer(row: Mapping[str, Any], where: str, columns: Columns, kind: AnswerType) -> str:
    try:
        if kind.row is not None:
            return kind.row(row)
        value = next((row[name] for name in columns.answer if name in row), None)
        if kind.listed is not None and isinstance(value, list):
            return kind.listed(value)
    except ValueError as error:
        said = f"answer {error}" if kind.row is None else str(error)
        raise StepError(f"{where}: {said}: correct the row") from None
    return _text(row, columns.answer, "answer", where)


def _options(
    row: Mapping[str, Any], columns: Columns, answer: str, where: str, config: TaskConfig
) -> tuple[list[str], str | None]:
    """The options as the file lists them, and the right one. None are listed where the question itself has them."""
    if columns.wrong_options and columns.wrong_options[0] in row:
        options = [answer, *(_text(row, (name,), name, where) for name in columns.wrong_options)]
        right: str | None = answer
    else:
        options = _listed(row, columns, where)
        right = None
        letter = letter_of(answer, LETTERS[: len(options)] or LETTERS)
        if letter is None:
            allowed = f"one of {', '.join(LETTERS[: len(options)])}" if options else "a capital letter"
            raise StepError(f"{where}: answer {answer!r} is not the letter of an option: give {allowed}")
        if options:
            right = options[LETTERS.index(letter)]
    if len(set(options)) != len(options):
        if config.file is not None and config.benchmark is None:
            raise StepError(f"{where}: two options are the same: make each one different")
        options = list(dict.fromkeys(options))  # what others published, nobody here can correct
    return options, right


def _listed(row: Mapping[str, Any], columns: Columns, where: str) -> list[str]:
    if columns.each_option:
        return [_text(row, (name,), name, where) for name in columns.each_option]
    value: Any = next((row[name] for name in columns.options if name in row), [])
    if not isinstance(value, list) or not all(isinstance(option, str) and option.strip() for option in value):
        raise StepError(f"{where}: options is {_shown(value)}: give a list of texts that are not empty")
    if len(value) == 1 or len(value) > len(LETTERS):
        raise StepError(f"{where}: {len(value)} options: give from 2 to {len(LETTERS)}, or none")
    return list(value)


def _text(row: Mapping[str, Any], names: Sequence[str], field: str, where: str) -> str:
    """The value of the first of `names` that the row has, as text; numbers are taken for what they say."""
    name = next((name for name in names if name in row), None)
    value = None if name is None else row[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    if not isinstance(value, str) or not value.strip():
        there = f"{', '.join(islice(row, _MOST_NAMED))}{', …' * (len(row) > _MOST_NAMED)}" or "none"
        if name is not None:
            raise StepError(f"{where}: {name} is {_shown(value)}: each item needs a non-empty id, question and answer")
        raise StepError(f"{where}: {' or '.join(names)} is missing, there are {there}: {_NEEDED}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StepError(f"{where}: {name} has half a character (a lone surrogate) in it: repair the row") from None
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _line(where: str) -> str:
    """``line 3`` of ``mine.jsonl:3``."""
    return f"line {where.rpartition(':')[2]}"
