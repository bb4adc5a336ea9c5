"""What steps make: each kind of output is a named contract on the files of a folder.

A job declares the kind that it makes (:attr:`StepConfig.PRODUCES`), and the contract is checked before the step counts
as done. Whoever takes an output asks for its kind and never for the job that made it::

    data = context.take(config.data.path, Dataset)
    for line in data.train.open(): ...

A package that has a kind of its own subclasses :class:`Output`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

ROWS_LOOKED_AT = 100
"""Of each file of a dataset, before its step is marked done. Whoever takes it reads all of them."""


@dataclass(frozen=True)
class Output(ABC):
    """What a step made, in the folder that its job wrote."""

    KIND: ClassVar[str]
    """What messages call it."""

    folder: Path

    @classmethod
    @abstractmethod
    def faults(cls, folder: StoragePath) -> Iterator[str]:
        """What keeps a folder of the store from being an output of this kind, a few words each; nothing where it is.

        Asked where the step's result is, which on an object store is nobody's local folder.
        """


@dataclass(frozen=True)
class Dataset(Output):
    """Rows to learn from, questions to be asked, or both: JSON lines in UTF-8, an object each."""

    KIND: ClassVar[str] = "dataset"
    TRAIN: ClassVar[tuple[str, ...]] = ("question", "trace", "answer")
    TEST: ClassVar[tuple[str, ...]] = ("id", "question", "answer")

    @property
    def train(self) -> Path:
        """A question, a reasoning trace and an answer in each row."""
        return self.folder / "train.jsonl"

    def part(self, name: str) -> Path:
        """One of several sets to learn from, where the step made several. Raises FileNotFoundError for another name, in
        words that go after the step's."""
        there = sorted(path.stem for path in self.folder.glob("*.jsonl") if path.stem not in ("test", "dropped"))
        if name not in there:
            raise FileNotFoundError(f"has no set {name!r}: it has {', '.join(there) or 'none'}")
        return self.folder / f"{name}.jsonl"

    @property
    def test(self) -> Path:
        """Questions with their reference answers, each under an id of its own."""
        return self.folder / "test.jsonl"

    @classmethod
    def faults(cls, folder: StoragePath) -> Iterator[str]:
        """A dataset has one of the two files at least, and every row has its fields."""
        files = {folder / "train.jsonl": cls.TRAIN, folder / "test.jsonl": cls.TEST}
        if not any(file.is_file() for file in files):
            yield "has neither train.jsonl nor test.jsonl"
        for file, fields in files.items():
            if file.is_file() and (fault := _rows_fault(file, fields)):
                yield f"{file.name} {fault}"


@dataclass(frozen=True)
class Model(Output):
    """A language model in Hugging Face's layout, with its tokenizer."""

    KIND: ClassVar[str] = "model"

    @classmethod
    def faults(cls, folder: StoragePath) -> Iterator[str]:
        """A model has its config, its tokenizer, and every safetensors file that its index names."""
        for name in ("config.json", "tokenizer_config.json"):
            if not folder.joinpath(name).is_file():
                yield f"has no {name}"
        index = folder / "model.safetensors.index.json"
        shards = json.loads(index.read_text())["weight_map"].values() if index.is_file() else ["model.safetensors"]
        for shard in sorted(set(shards)):
            if not folder.joinpath(shard).is_file():
                yield f"has no {shard}"


@dataclass(frozen=True)
class Curves(Output):
    """Accuracy against thinking tokens: every graded answer, and the points that they make."""

    KIND: ClassVar[str] = "curves"

    @classmethod
    def faults(cls, folder: StoragePath) -> Iterator[str]:
        """Curves have their points, and the answers that they were counted from."""
        for name in ("curves.json", "samples.parquet"):
            if not folder.joinpath(name).is_file():
                yield f"has no {name}"


def _rows_fault(file: StoragePath, fields: tuple[str, ...]) -> str | None:
    """What is wrong with the first rows of a file."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(islice(lines, ROWS_LOOKED_AT), 1):
            try:
                row = json.loads(line)
            except ValueError:
                return f"line {number} is not JSON"
            missing = [field for field in fields if not isinstance(row, dict) or field not in row]
            if missing:
                return f"line {number} has no {missing[0]}: each row has {', '.join(fields)}"
    return None
