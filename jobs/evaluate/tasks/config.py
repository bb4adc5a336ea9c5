"""How an experiment file names a task. Light: read before anything else is imported.

Four spellings::

    tasks:
      - letters                                              # generated
      - math500                                              # a published benchmark, from the hub at a fixed commit
      - ${words}                                             # the held-out items that another step made
      - {name: mine, path: questions.jsonl, type: integer}   # one object per line: id, question, answer

A benchmark may have a `path` too, which is then read instead of the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from jobs.evaluate.grading.answer_type import AnswerType
from jobs.evaluate.tasks.benchmarks import BENCHMARKS, OWN_COLUMNS, Benchmark, Columns
from jobs.evaluate.tasks.wording import PromptName
from orchestrator.job.config import Problem
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import LocalPath, file_problem, lines
from orchestrator.job.references import DatasetSource, Reference, parse_reference
from orchestrator.job.strict_model import StrictModel

LETTERS_ITEMS = 200
"""Held-out words of the built-in task when `items` is not given."""


class TaskConfig(StrictModel):
    """One task of a sweep. Its name is what tables and curves call it, unique within a sweep."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    path: DatasetSource | None = Field(default=None, description="a JSONL or CSV file, or ${step}; None: built in")
    type: AnswerType | None = Field(default=None, description="of its answers; None: a benchmark's own, else integer")
    prompt: PromptName = Field(default="paper", description="what is asked besides the question")
    fallback: bool = Field(default=True, description="without a box or Answer:, take the last number or letter")
    items: int | None = Field(default=None, gt=0, description="the first so many; None: all (letters: 200)")
    seed: int = Field(default=0, ge=0, description="of the items that letters generates; of the order of options")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        step = parse_reference(value)
        return {"name": value} if step is None else {"name": step, "path": value}

    @model_validator(mode="after")
    def _is_one_of_the_four(self) -> Self:
        if self.path is None and self.name != "letters" and self.name not in BENCHMARKS:
            raise ValueError(
                f"unknown task {self.name!r}: known are {', '.join(('letters', *BENCHMARKS))}; for your own questions "
                f"write {{name: {self.name}, path: questions.jsonl}}"
            )
        if self.path is None and self.type not in (None, self.answers):
            raise ValueError(f"type: {self.name} has answers of type {self.answers}: leave it out")
        generated = self.path is None and self.name == "letters"
        if "seed" in self.model_fields_set and not generated and self.answers != "choice":
            raise ValueError(
                f"seed: is for letters, which are generated, and for the order of options; {self.name} has neither: "
                "leave it out"
            )
        return self

    @property
    def benchmark(self) -> Benchmark | None:
        """The published benchmark of that name, wherever it is read from; None for other tasks."""
        return None if isinstance(self.path, Reference) else BENCHMARKS.get(self.name)

    @property
    def answers(self) -> AnswerType:
        """How its answers are read and compared."""
        default: AnswerType = "integer" if self.benchmark is None else self.benchmark.type
        return default if self.path is None or self.type is None else self.type

    @property
    def columns(self) -> Columns:
        """What the fields of its rows are called."""
        return OWN_COLUMNS if self.benchmark is None else self.benchmark.columns

    @property
    def file(self) -> Path | None:
        """The user's own file, whose content is part of the result; None for a built-in task or a step's output."""
        return self.path.path if isinstance(self.path, LocalPath) else None

    def problems(self, field: tuple[str | int, ...], contents: bool = True) -> Iterator[Problem]:
        """What is wrong with the task at `field` of the sweep, as far as its file tells; with `contents`, all of it."""
        if self.file is None:
            return
        if problem := file_problem(self.file):
            yield Problem((*field, "path"), f"{str(self.path)!r} {problem}: give a JSONL or CSV file of questions")
        elif contents and (problem := self._first_bad_row(self.file)):
            yield Problem((*field, "path"), problem)

    def _first_bad_row(self, file: Path) -> str | None:
        from jobs.evaluate.tasks.items import each_item
        from jobs.evaluate.tasks.rows import file_rows

        try:
            for _ in each_item(file_rows(file, str(self.path)), self):
                pass
        except StepError as error:
            return str(error)
        return None

    def known_items(self) -> int | None:
        """How many items the task has, where that is known before anything ran; None for another step's output."""
        if isinstance(self.path, Reference):
            return self.items
        if self.file is None:
            known = LETTERS_ITEMS if self.benchmark is None else self.benchmark.items
            return self.items if self.benchmark is None and self.items is not None else min(known, self.items or known)
        if self.file.suffix == ".csv":
            return self.items
        try:
            rows = sum(1 for _, line in lines(self.file) if line.strip())
        except ValueError:
            return None
        return rows if self.items is None else min(rows, self.items)
