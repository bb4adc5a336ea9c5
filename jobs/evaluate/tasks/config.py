"""How an experiment file names a task. Light: read before anything else is imported.

Five spellings::

    tasks:
      - letters                                              # generated
      - math500                                              # a published benchmark, from the hub at a fixed commit
      - ${words}                                             # the held-out items that another step made
      - {name: mine, path: questions.jsonl, type: integer}   # one object per line: id, question, answer
      - {dataset: me/riddles, revision: 0d4a…, split: test, columns: {question: riddle}, type: text}   # from the hub

A benchmark may have a `path` too, which is then read instead of the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from jobs.evaluate.grading.answer_type import ANSWER_TYPES, AnswerType, AnswerTypeName
from jobs.evaluate.tasks.benchmarks import BENCHMARKS, OWN_COLUMNS, Benchmark, Columns, page
from jobs.evaluate.tasks.rows import count_rows, file_rows
from jobs.evaluate.tasks.wording import PromptName
from orchestrator.job.config import Problem
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import LocalPath, file_problem
from orchestrator.job.references import DatasetSource, Reference, parse_reference
from orchestrator.job.strict_model import StrictModel

LETTERS_ITEMS = 200
"""Held-out words of the built-in task when `items` is not given."""


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_Names = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class ColumnNames(StrictModel):
    """What the columns of a user's rows are called."""

    id: str | None = Field(default="id", min_length=1, description="null: the rows are numbered, from 1")
    question: str = Field(default="question", min_length=1)
    answer: str = Field(default="answer", min_length=1)
    options: str | _Names = Field(default="options", description="of a choice: a column of lists, or a list of columns")
    wrong_options: _Names | None = Field(
        default=None, description="of a choice whose answer is the text of the right option"
    )

    def over(self, known: Columns) -> Columns:
        """These names, where they were given; else those that are `known`."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        names: dict[str, Any] = {
            field: () if given[field] is None else (given[field],)
            for field in ("id", "question", "answer")
            if field in given
        }
        options = given.get("options", ())
        if options:
            names |= {"options": (options,)} if isinstance(options, str) else {"options": (), "each_option": options}
        if options or "wrong_options" in given:
            names["wrong_options"] = given.get("wrong_options") or ()
        return replace(known, **names)


class TaskConfig(StrictModel):
    """One task of a sweep. Its name is what tables and curves call it, unique within a sweep."""

    name: str = Field(pattern=f"^{_NAME}$", max_length=64, description="else that of its file or dataset")
    path: DatasetSource | None = Field(default=None, description="a JSONL or CSV file, or ${step}; None: built in")
    dataset: str | None = Field(default=None, pattern=f"^{_NAME}(/{_NAME})?$", description="its name on the hub")
    revision: str | None = Field(default=None, description="the dataset's commit")
    subset: str | None = Field(default=None, min_length=1, description="of a dataset that has several")
    split: str | None = Field(default=None, min_length=1, description="of a dataset; None: test")
    columns: ColumnNames | None = Field(default=None, description="other names than id, question, answer and options")
    type: AnswerTypeName | None = Field(
        default=None, description="of its answers; None: a benchmark's own, else integer"
    )
    prompt: PromptName = Field(default="paper", description="what is asked besides the question")
    fallback: bool = Field(default=True, description="without a box or Answer:, take the last number or letter")
    items: int | None = Field(default=None, gt=0, description="the first so many; None: all (letters: 200)")
    seed: int = Field(default=0, ge=0, description="of the items that letters generates; of the order of options")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if isinstance(value, str):
            step = parse_reference(value)
            return {"name": value} if step is None else {"name": step, "path": value}
        if isinstance(value, Mapping) and "name" not in value:
            source = value.get("dataset") or value.get("path")
            if isinstance(source, str):
                return {
                    "name": parse_reference(source) or source.rstrip("/").rpartition("/")[2].partition(".")[0],
                    **value,
                }
        return value

    @model_validator(mode="after")
    def _is_one_of_the_five(self) -> Self:
        here = self.path is None and self.dataset is None
        if here and self.name != "letters" and self.name not in BENCHMARKS:
            raise ValueError(
                f"unknown task {self.name!r}: known are {', '.join(('letters', *BENCHMARKS))}; for your own questions "
                f"write {{name: {self.name}, path: questions.jsonl}}, for a dataset on the hub {{dataset: owner/name, "
                "revision: …}"
            )
        if self.path is not None and self.dataset is not None:
            raise ValueError("both path and dataset are given: give the one that the questions are in")
        if self.dataset is None:
            for field in ("revision", "subset", "split"):
                if getattr(self, field) is not None:
                    raise ValueError(f"{field}: is for a dataset on the hub: leave it out, or give dataset: owner/name")
        elif self.revision is None or not _COMMIT.fullmatch(self.revision):
            said = "is not given" if self.revision is None else f"{self.revision!r} is not a commit"
            raise ValueError(
                f"revision: {said}: give the dataset's commit, 40 hexadecimal digits from "
                f"{page(self.dataset)}/commits/main; what a branch or a tag names can change"
            )
        if self.columns is not None and (here or isinstance(self.path, Reference)):
            raise ValueError(f"columns: those of {self.path or self.name} are known: leave it out")
        if here and self.type not in (None, self.answers):
            raise ValueError(f"type: {self.name} has answers of type {self.answers}: leave it out")
        if "seed" in self.model_fields_set and not self.generated and not self.answer_type.options:
            raise ValueError(
                f"seed: is for letters, which are generated, and for the order of options; {self.name} has neither: "
                "leave it out"
            )
        return self

    @property
    def generated(self) -> bool:
        """Whether it is the built-in task."""
        return self.name == "letters" and self.path is None and self.dataset is None

    @property
    def benchmark(self) -> Benchmark | None:
        """The published benchmark of that name, wherever it is read from; None for other tasks."""
        return None if isinstance(self.path, Reference) else BENCHMARKS.get(self.name)

    @property
    def published(self) -> Benchmark | None:
        """What is read from the hub: the benchmark of that name, or the dataset that is given; None for other tasks."""
        if self.path is not None or self.generated:
            return None
        if self.dataset is None:
            return self.benchmark
        assert self.revision is not None
        return Benchmark(
            dataset=self.dataset,
            revision=self.revision,
            subset=self.subset,
            split=self.split or "test",
            type=self.answers,
            items=None,
            columns=self.row_columns,
        )

    @property
    def answers(self) -> str:
        """The type of its answers."""
        default = "integer" if self.benchmark is None else self.benchmark.type
        here = self.path is None and self.dataset is None
        return default if here or self.type is None else self.type

    @property
    def answer_type(self) -> AnswerType:
        """How they are read and compared."""
        return ANSWER_TYPES[self.answers]

    @property
    def row_columns(self) -> Columns:
        """What the fields of its rows are called."""
        known = OWN_COLUMNS if self.benchmark is None else self.benchmark.columns
        return known if self.columns is None else self.columns.over(known)

    @property
    def may_lack_ids(self) -> bool:
        """Whether rows without an id are numbered: those whose columns nobody could choose."""
        named = self.columns is not None and "id" in self.columns.model_fields_set
        return not named and (self.dataset is not None or self.columns is not None)

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
        elif contents and (problem := self._first_bad_row()):
            yield Problem((*field, "path"), problem)

    def hub_problems(self, field: tuple[str | int, ...]) -> Iterator[Problem]:
        """What is wrong with the rows of the user's dataset on the hub, where it can be reached."""
        if self.dataset is not None and (problem := self._first_bad_row()):
            yield Problem((*field, "dataset"), problem)

    def _first_bad_row(self) -> str | None:
        from jobs.evaluate.tasks.hub import OutOfReach, hub_rows
        from jobs.evaluate.tasks.items import each_item

        try:
            if self.file is not None:
                rows = file_rows(self.file, str(self.path))
            else:
                assert self.published is not None
                rows = hub_rows(self.name, self.published)
            for _ in each_item(rows, self):
                pass
        except OutOfReach:
            return None  # the machines that the step runs on may reach it
        except StepError as error:
            return str(error)
        return None

    def known_items(self) -> int | None:
        """How many items the task has, where that is known before anything ran; None for another step's output."""
        if isinstance(self.path, Reference):
            return self.items
        if self.generated:
            return self.items or LETTERS_ITEMS
        if self.file is None:
            known = None if self.published is None else self.published.items
            return self.items if known is None else min(known, self.items or known)
        try:
            rows = count_rows(self.file)
        except (ValueError, StepError):
            return None
        return rows if self.items is None else min(rows, self.items)
