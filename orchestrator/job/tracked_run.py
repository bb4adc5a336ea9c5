"""What a job says about itself for a tracking server, as files in the store: the server is told by a mirror of them.

A job gets one from :meth:`orchestrator.job.context.StepContext.track`; :mod:`orchestrator.tracking.tracker` reads what
it left.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from orchestrator.store.records import tell, write_json_atomically


class RunRecord(TypedDict):
    """``run.json``: what a run is called, and what it is a run of."""

    name: str
    params: dict[str, Any]
    tags: dict[str, Any]
    group: str | None


class ModelRecord(TypedDict):
    """``model.json``: the model that came of a run."""

    name: str
    kind: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class TookDataset:
    """Data that a run was given."""

    name: str
    digest: str
    """Changes whenever what is in it does."""
    source: str
    """Where it came from: a step, a file, a name on the hub."""
    role: str = "training"
    """What it was taken for."""


@dataclass
class TrackedRun:
    """Numbers that belong in a tracking server, written to the store as they come.

    A folder ``tracked/<name>/`` with ``run.json`` (params, tags), ``metrics.jsonl`` (a line per call of
    :meth:`metrics`), ``artifacts/`` and, of a run that made a model, ``model.json``. The orchestrator mirrors it to
    MLflow while the step runs and after, so a tracking server that is away loses nothing and a resumed step does not
    log twice.

    Lines are numbered by the step at which a value was measured; a value logged again at the same step replaces the
    former when both were written by different attempts (see :meth:`rewind`).
    """

    folder: Path
    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    group: str | None = None

    def __post_init__(self) -> None:
        self.artifacts.mkdir(parents=True, exist_ok=True)
        record = RunRecord(name=self.name, params=dict(self.params), tags=dict(self.tags), group=self.group)
        write_json_atomically(self.folder / "run.json", record)
        self._rewrite(lambda step: True)

    @property
    def artifacts(self) -> Path:
        """Every file below it becomes an artifact of the run, under the same relative path."""
        return self.folder / "artifacts"

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Appends one value per name at `step` (tokens, optimizer steps: what the run's x axis counts)."""
        line = json.dumps({"step": step, "time": time.time(), "values": dict(values)})
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")

    def rewind(self, step: int) -> None:
        """Drops what was logged after `step`: a restarted attempt will measure it again."""
        self._rewrite(lambda logged: logged <= step)

    def took(self, datasets: Iterable[TookDataset]) -> None:
        """Says which data the run was given. Said again by another attempt, it replaces what was said before."""
        write_json_atomically(self.folder / "datasets.json", [asdict(each) for each in datasets])

    def made_model(self, name: str, kind: str, facts: Mapping[str, Any]) -> None:
        """Says that a model came of this run: what it is called, of what `kind`, and what it came from and where it is.

        It is told of once the step is done. Said again by another attempt, it replaces what was said before.
        """
        write_json_atomically(self.folder / "model.json", ModelRecord(name=name, kind=kind, facts=dict(facts)))

    def _rewrite(self, keep: Callable[[int], bool]) -> None:
        """Keeps the lines whose step passes, and of them only whole ones: a killed attempt may have torn its last."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return
        kept = b"".join(text for text, line in whole_lines(path) if keep(line.step))
        if kept != path.read_bytes():
            temporary = path.with_name(".metrics.jsonl")
            temporary.write_bytes(kept)
            temporary.replace(path)


@dataclass(frozen=True)
class MetricLine:
    """One line of ``metrics.jsonl``."""

    step: int
    time: float
    values: Mapping[str, float]


_LINE = TypeAdapter(MetricLine)


def whole_lines(path: Path) -> Iterator[tuple[bytes, MetricLine]]:
    """The lines of a ``metrics.jsonl`` that can be read, as they stand there and as they are meant.

    The last is without its end while it is being written, and is left out; of one that is damaged that is said, once.
    """
    return _parsed(path, path.read_bytes(), 1)


def _parsed(path: Path, content: bytes, first: int) -> Iterator[tuple[bytes, MetricLine]]:
    for number, text in enumerate(content.splitlines(keepends=True), start=first):
        if text.endswith(b"\n"):
            try:
                yield text, _LINE.validate_json(text)
            except ValidationError:
                tell(f"{path} is damaged: line {number} is not a line of metrics, and is left out")


@dataclass
class GrowingLines:
    """The lines of a ``metrics.jsonl`` that is still written to, each of which is read once."""

    path: Path
    lines: list[MetricLine] = field(default_factory=list)
    _file: int = 0
    """Its inode: an attempt that goes back writes the file anew."""
    _bytes: int = 0
    _count: int = 0

    def refresh(self) -> bool:
        """Reads what is new; whether anything is."""
        with self.path.open("rb") as file:
            there = os.fstat(file.fileno())
            if anew := there.st_ino != self._file or there.st_size < self._bytes:
                self.lines, self._file, self._bytes, self._count = [], there.st_ino, 0, 0
            file.seek(self._bytes)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.lines += [line for _, line in _parsed(self.path, whole, self._count + 1)]
        self._bytes += len(whole)
        self._count += whole.count(b"\n")
        return anew or bool(whole)


def folder_name(name: str) -> str:
    """`name` where it can be a folder's; else what of it can, and a hash that keeps it apart from others."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64]
    return name if name and safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
