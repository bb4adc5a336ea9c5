"""The columns in which datasets keep a question, a trace and an answer: recognised ones, or an experiment's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from orchestrator.job.strict_model import StrictModel


class SampleColumns(StrictModel):
    """The columns that hold the three parts of a sample."""

    question: str = Field(default="question", min_length=1)
    trace: str = Field(default="trace", min_length=1)
    answer: str = Field(default="answer", min_length=1)

    @property
    def names(self) -> tuple[str, str, str]:
        return self.question, self.trace, self.answer


@dataclass(frozen=True)
class DatasetLayout:
    """How a published dataset keeps its samples: in three columns, in one with the turns of a conversation, or with a
    trace and an answer in one column."""

    of: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.names)} ({self.of})"


LAYOUTS = (
    DatasetLayout("this project", SampleColumns().names),
    DatasetLayout("s1K-1.1", ("question", "deepseek_thinking_trajectory", "deepseek_attempt")),
    DatasetLayout("s1K", ("question", "thinking_trajectories", "attempt")),
    DatasetLayout("OpenThoughts", ("problem", "deepseek_reasoning", "deepseek_solution")),
    DatasetLayout("OpenThoughts", ("conversations",)),
    DatasetLayout("GSM8K", ("question", "answer")),
)
"""The columns that are recognised, in the order in which they are looked for. s1K-1.1 has Gemini's traces beside r1's,
which are those that s1.1 was trained on."""


def choose_layout(present: Iterable[str], columns: SampleColumns | None) -> DatasetLayout | None:
    """Which of the `present` columns hold the samples; None when those that are asked for, or known, are not all there.

    `columns` None recognises them.
    """
    there = set(present)
    wanted = LAYOUTS if columns is None else (DatasetLayout("columns", columns.names),)
    return next((layout for layout in wanted if there.issuperset(layout.names)), None)


def columns_missing(present: Iterable[str], columns: SampleColumns | None) -> str:
    """What to say of data whose columns :func:`choose_layout` cannot take."""
    names = ", ".join(sorted(present)) or "none"
    if columns is not None:
        missing = ", ".join(name for name in columns.names if name not in set(present))
        return f"has no column {missing}, which columns names; there are: {names}"
    known = "; ".join(map(str, LAYOUTS))
    return f"has the columns {names}, and none of: {known}; add columns: {{question: …, trace: …, answer: …}}"
