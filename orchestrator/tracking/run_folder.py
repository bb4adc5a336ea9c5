"""A tracked run as the store has it: what a tracker is told.

A step's ``tracked/<run>/`` folders are written by :class:`orchestrator.job.tracked_run.TrackedRun`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.job.tracked_run import MetricLine, RunRecord, whole_lines
from orchestrator.store.records import read_as
from orchestrator.tracking.dataset_inputs import TakenDataset
from orchestrator.tracking.logged_model import MadeModel


def run_folders(step_folder: Path) -> list[RunFolder]:
    """The tracked runs of a step. Raises DamagedRecord, naming the file, where one is not what was written."""
    return [RunFolder.read(record.parent) for record in sorted((step_folder / "tracked").glob("*/run.json"))]


@dataclass(frozen=True)
class RunFolder:
    """One tracked run."""

    path: Path
    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    group: str | None
    lines: Sequence[MetricLine]
    model: MadeModel | None
    datasets: Sequence[TakenDataset]

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Raises DamagedRecord, naming the file, where what it is called is not what was written."""
        record = read_as(path / "run.json", RunRecord)
        metrics = path / "metrics.jsonl"
        return cls(
            path=path,
            name=record["name"],
            params=record["params"],
            tags=record["tags"],
            group=record["group"],
            lines=[line for _, line in whole_lines(metrics)] if metrics.is_file() else [],
            model=MadeModel.read(path),
            datasets=TakenDataset.read(path),
        )

    def digest(self, lines: int) -> str:
        """Of the first so many lines, but for their times: measuring the same again changes nothing."""
        content = [[line.step, dict(line.values)] for line in self.lines[:lines]]
        return f"{lines}:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"

    def artifacts_digest(self) -> str:
        """Of the names and contents of all artifacts; empty when there is none."""
        whole = hashlib.sha256()
        files = sorted(file for file in (self.path / "artifacts").rglob("*") if file.is_file())
        for file in files:
            with file.open("rb") as content:
                whole.update(
                    f"{file.relative_to(self.path)}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\0".encode()
                )
        return whole.hexdigest() if files else ""
