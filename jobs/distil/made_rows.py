"""The rows that a finished step made of its samples, kept and dropped, each read when it is asked for.

They have everything that was thought, so that grading again, and a report, need neither the teacher nor its traces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from jobs.distil.run import ROWS

KEPT, _, GONE = ROWS


class SampleName(NamedTuple):
    """Names a sample among all: questions of two tasks may have the same id, and are then told apart by their text."""

    item: str
    number: int
    question: int
    """Its hash, within this process."""

    @classmethod
    def of(cls, item: str, number: int, question: str) -> SampleName:
        """That sample of that question."""
        return cls(item, number, hash(question))


class RowsBySample:
    """A context manager; rows are found by what they are of."""

    def __init__(self, output: Path):
        self._paths = (output / KEPT, output / GONE)
        self._files: list[BinaryIO] = []
        self._places: dict[SampleName, tuple[int, int]] = {}

    def __enter__(self) -> RowsBySample:
        self._files = [path.open("rb") for path in self._paths]
        for number, file in enumerate(self._files):
            at = 0
            for line in file:
                row = json.loads(line)
                self._places[SampleName.of(row["id"], row["sample"], row["question"])] = number, at
                at += len(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def __getitem__(self, sample: SampleName) -> Mapping[str, Any]:
        number, at = self._places[sample]
        self._files[number].seek(at)
        row: Mapping[str, Any] = json.loads(self._files[number].readline())
        return row


def made_rows(output: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """All of them: the stage that dropped each, or ``kept``, why, and the row."""
    for name in (KEPT, GONE):
        with (output / name).open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield row.get("stage", "kept") if name == GONE else "kept", row.get("reason", ""), row
