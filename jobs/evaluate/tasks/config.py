"""How an experiment file names a task. Light: read before anything else is imported.

Three spellings, one meaning::

    tasks:
      - letters                                  # built in
      - ${words}                                 # the held-out items that another step made
      - {name: mine, path: questions.jsonl}      # one object per line: id, question, answer
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from orchestrator.step import DatasetSource, Problem, Reference, StrictModel, parse_reference

BUILTIN = ("letters",)

LETTERS_ITEMS = 200
"""Held-out words of the built-in task when `items` is not given."""


class TaskConfig(StrictModel):
    """One task of a sweep. Its name is what tables and curves call it, unique within a sweep."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    path: DatasetSource | None = Field(default=None, description="a JSONL file, or ${step}; None: the task is built in")
    items: int | None = Field(default=None, gt=0, description="the first so many; None: all (letters: 200)")
    seed: int = Field(default=0, ge=0, description="of the items that a built-in task generates")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        step = parse_reference(value)
        return {"name": value} if step is None else {"name": step, "path": value}

    @model_validator(mode="after")
    def _is_one_of_the_three(self) -> Self:
        if self.path is None and self.name not in BUILTIN:
            raise ValueError(
                f"unknown task {self.name!r}: built in is {', '.join(BUILTIN)}; for your own questions write "
                f"{{name: {self.name}, path: questions.jsonl}}"
            )
        if self.path is not None and "seed" in self.model_fields_set:
            raise ValueError("seed is for the items that a built-in task generates; a task with a path has its own")
        return self

    @property
    def file(self) -> Path | None:
        """The user's own file, whose content is part of the result; None for a built-in task or a step's output."""
        return Path(self.path) if isinstance(self.path, str) else None

    def problems(self, field: tuple[str | int, ...]) -> Iterator[Problem]:
        """What is wrong with the task at `field` of the sweep, as far as a look at the file system tells."""
        if self.file is None:
            return
        if not self.file.is_file():
            yield Problem((*field, "path"), f"{str(self.file)!r} is not a file: give a JSONL file of questions")
        elif not self.file.read_text(errors="replace").strip():
            yield Problem((*field, "path"), f"{str(self.file)!r} has no items: one JSON object per line is needed")

    def known_items(self) -> int | None:
        """How many items the task has, where that is known before anything ran; None for another step's output."""
        if isinstance(self.path, Reference):
            return self.items
        if self.file is None:
            return LETTERS_ITEMS if self.items is None else self.items
        if not self.file.is_file():
            return None
        with self.file.open(errors="replace") as file:
            lines = sum(1 for line in file if line.strip())
        return lines if self.items is None else min(lines, self.items)
