"""The fields of a ``collect`` step: which questions, and against what they are held. Light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from jobs.evaluate.tasks.config import TaskConfig
from orchestrator.job.config import HubName, Problem, StepConfig
from orchestrator.job.outputs import Dataset, Output
from orchestrator.job.strict_model import StrictModel

MOST_SOURCES = 1000

Similarity = Annotated[float, Field(gt=0.3, le=1)]
"""Of two questions' shingles. Below 0.3, MinHash with 128 permutations would make candidates of nearly all."""


class Source(TaskConfig):
    """Where questions come from: what a task may be, and how much of it is taken."""

    quota: int | None = Field(default=None, ge=1, description="at most so many are kept, drawn by seed; None: all")
    answered: bool = Field(default=True, description="false: its questions have no reference answers")
    keep: tuple[str, ...] = Field(
        default=(), strict=False, description="further columns that are carried along, such as a subject"
    )

    @model_validator(mode="after")
    def _keeps_no_column_of_ours(self) -> Self:
        if taken := sorted({*self.keep} & OURS):
            raise ValueError(f"keep: {taken[0]!r} is a column that collect writes itself: leave it out")
        return self


OURS = frozenset({"id", "question", "answer", "type", "source", "row", "also_in", "stage", "reason", "against"})
"""Columns of what ``collect`` writes."""


class Decontaminate(StrictModel):
    """The tests that no question may be of."""

    against: tuple[TaskConfig, ...] = Field(
        min_length=1, strict=False, description="tasks, as an evaluate step names them"
    )
    by: Literal["words", "s1"] = Field(
        default="words",
        description="s1: the published procedure: words as spaces split them, and each source is held against those "
        "before it too",
    )
    ngram: int = Field(default=8, ge=3, le=100, description="so many words in a row that a test has too")
    near: Similarity | None = Field(default=0.8, description="so alike to a question of a test; null: not looked at")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        return {"against": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _as_published(self) -> Self:
        if self.by == "s1" and "near" in self.model_fields_set and self.near is not None:
            raise ValueError("near: the published procedure looks at n-grams alone: leave it out with by: s1")
        names = Counter(test.name for test in self.against)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"against: {twice[0]!r} is given twice: give each test a name of its own")
        return self


class CollectConfig(StepConfig):
    """One dataset of questions, each of them once."""

    VERSION: ClassVar[int] = 1
    PRODUCES: ClassVar[type[Output]] = Dataset

    sources: tuple[Source, ...] = Field(min_length=1, max_length=MOST_SOURCES)
    decontaminate: Decontaminate | None = Field(
        default=None, description="a list of tests, or {against, by, ngram, near}"
    )
    near_duplicates: Similarity | None = Field(
        default=0.8, description="of questions so alike that have the same numbers one is kept; null: not looked at"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of what quotas leave out")

    @model_validator(mode="after")
    def _can_tell_them_apart(self) -> Self:
        names = Counter(source.name for source in self.sources)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"sources: {twice[0]!r} is given twice: give each source a name of its own")
        return self

    def _tasks(self) -> Iterator[tuple[tuple[str | int, ...], TaskConfig]]:
        for number, source in enumerate(self.sources):
            yield ("sources", number), source
        for number, test in enumerate(() if self.decontaminate is None else self.decontaminate.against):
            yield ("decontaminate", "against", number), test

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """What is wrong with the user's own files. Rows of a source that cannot be used are dropped, and say why."""
        from jobs.collect.sources import column_problem

        for number, source in enumerate(self.sources):
            unread = list(source.problems(("sources", number), contents=False))
            yield from unread
            if contents and not unread and source.file is not None and (problem := column_problem(source)):
                yield Problem(("sources", number), problem)
        for number, test in enumerate(() if self.decontaminate is None else self.decontaminate.against):
            yield from test.problems(("decontaminate", "against", number), contents)

    def hub_names(self) -> Iterator[HubName]:
        """The datasets of its sources and tests. Benchmarks are there."""
        for field, task in self._tasks():
            if task.dataset is not None:
                yield HubName((*field, "dataset"), "dataset", task.dataset, task.revision)

    def external_inputs(self) -> Mapping[str, Path]:
        """The user's own files."""
        return {".".join(map(str, field)): task.file for field, task in self._tasks() if task.file is not None}

    def describe(self) -> str:
        """``3 sources against math500, gpqa_diamond``."""
        count = f"{len(self.sources)} source{'s' * (len(self.sources) > 1)}"
        if self.decontaminate is None:
            return count
        return f"{count} against {', '.join(test.name for test in self.decontaminate.against)}"
