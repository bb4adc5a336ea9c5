"""Which questions, traces and answers a ``finetune`` step learns from, as an experiment file says it. Light.

Four spellings, one meaning::

    data: ${letters}                                     # what another step wrote
    data: traces.jsonl                                   # a JSONL or Parquet file, or a folder with a dataset
    data: simplescaling/s1K-1.1                          # a dataset on the Hugging Face hub
    data: {dataset: my/traces, revision: 1f2e3d4, split: train, columns: {question: q, trace: t, answer: a}}

The columns of s1K, s1K-1.1 and OpenThoughts are recognised by their names (``layouts.LAYOUTS``); `columns` names other
ones, or those of the recognised ones that are meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from jobs.finetune.layouts import SampleColumns
from orchestrator.job.config import Problem
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import (
    LocalPath,
    absolute,
    file_problem,
    folder_problem,
    is_there,
    locate,
    regular_files,
)
from orchestrator.job.outputs import Dataset
from orchestrator.job.references import DatasetSource, Reference
from orchestrator.job.strict_model import StrictModel

FILES = (".jsonl", ".json", ".parquet")
"""What the names of files of samples end in."""

IN_FOLDERS = (*FILES, ".arrow", ".csv", ".jsonl.gz", ".json.gz", ".jsonl.zst")
"""The same, in folders, which have more ways to keep them."""

_NAME = r"[A-Za-z0-9][\w.-]*"
_HUB_NAME = re.compile(f"{_NAME}/{_NAME}")


class DataConfig(StrictModel):
    """A dataset of questions, reasoning traces and answers: a step's, the user's own, or one on the hub."""

    path: DatasetSource | None = Field(
        default=None, description="${step}, a JSONL or Parquet file, or a folder with a dataset"
    )
    dataset: str | None = Field(default=None, pattern=f"^{_NAME}(/{_NAME})?$", description="its name on the hub")
    revision: str | None = Field(default=None, min_length=1, description="a commit, tag or branch on the hub")
    subset: str | None = Field(default=None, min_length=1, description="of a dataset that has several")
    split: str | None = Field(
        default=None, min_length=1, description="of a dataset or folder, or a set of a step's (seed-1); None: train"
    )
    columns: SampleColumns | None = Field(default=None, description="None: recognised by their names")

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"dataset": value} if _on_the_hub(value) else {"path": value}
        return value

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file, a folder or ${step}) or dataset (a name on the hub)")
        if self.dataset is None and (self.revision is not None or self.subset is not None):
            raise ValueError("revision and subset are for a dataset on the hub: leave them out with a path")
        return self

    @property
    def file(self) -> Path | None:
        """The user's own file or folder, whose content is part of the result; None for the hub or a step's output."""
        return self.path.path if isinstance(self.path, LocalPath) else None

    def located(self, output: Callable[[Reference], Dataset]) -> DataConfig:
        """The same data, whose path can be opened from any working folder; `output` is where a step wrote."""
        if self.path is None:
            return self
        path = self._found(output)
        return self.model_copy(update={"path": path, **({} if path is self.path else {"split": None})})

    def _found(self, output: Callable[[Reference], Dataset]) -> LocalPath | None:
        if isinstance(self.path, Reference):
            made = output(self.path)
            try:
                return locate(str(made.train if self.split is None else made.part(self.split)))
            except FileNotFoundError as error:
                raise StepError(f"data: {self.path} {error}") from None
        return self.path

    @property
    def _field(self) -> tuple[str | int, ...]:
        """Where the path stands in a config: the short spelling is the whole field."""
        return ("data",) if self == DataConfig(path=self.path) else ("data", "path")

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """What is wrong with the user's own data; with `contents`, down to the first row that is not a sample."""
        if self.file is None:
            return
        is_folder = is_there(self.file) and self.file.is_dir()
        if not is_there(self.file):
            problem: str | None = "is not a file or folder"
        elif is_folder:
            problem = folder_problem(self.file) or self._nothing_to_read(self.file)
        else:
            problem = file_problem(self.file)
        if problem:
            yield Problem(
                self._field,
                f"{str(self.path)!r} {problem}: give a JSONL or Parquet file, a folder with a dataset, "
                "a dataset's name on the hub (owner/name) or ${step}",
            )
        elif self.split is not None and not is_folder:
            yield Problem(("data", "split"), f"{self.split!r}: a file has no splits: leave it out")
        elif contents and (problem := self._first_bad_row()):
            yield Problem(self._field, problem)

    def _nothing_to_read(self, folder: Path) -> str | None:
        if any(file.name.endswith(IN_FOLDERS) for file in regular_files(folder)):
            return None
        return "has no dataset in it"

    def _first_bad_row(self) -> str | None:
        from jobs.finetune.samples import read_samples

        try:
            for _ in read_samples(self):
                pass
        except StepError as error:
            return str(error).removeprefix("data: ")
        return None


def _on_the_hub(text: str) -> bool:
    """Whether a string names a dataset on the hub: written as one, and nothing of that name is here."""
    return bool(_HUB_NAME.fullmatch(text)) and not text.endswith(FILES) and not is_there(absolute(text))
