"""What every step that makes a dataset leaves with it: its rows, its funnel, a card, and a tracked run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from jobs.fates import FILE, Funnel
from orchestrator.job.context import StepContext
from orchestrator.job.local_files import LocalPath
from orchestrator.job.references import Reference
from orchestrator.job.tracked_run import TookDataset
from orchestrator.store.manifest import hashed_file

CARD = "README.md"
GROUP = "data"
"""The runs of steps that make datasets, in the tracking server."""


class Lines:
    """A file of JSON lines that appears, whole, when the block ends without an error."""

    def __init__(self, path: Path):
        self._path = path
        self._temporary = path.with_name(f".{path.name}")
        self._file: TextIO

    def __enter__(self) -> Lines:
        self._file = TextIOWrapper(hashed_file(self._temporary), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


def describe(
    context: StepContext,
    what: str,
    funnel: Funnel,
    facts: Mapping[str, str],
    took: Iterable[TookDataset],
    more: Sequence[str] = (),
) -> None:
    """Writes ``funnel.json`` and the card of a dataset of `what` that was made of what it `took`, and tracks both, and
    files of the output that are named in `more`."""
    output = context.output
    (output / FILE).write_text(json.dumps(funnel.record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made = [f"- {name}: {value}" for name, value in facts.items()]
    count = sum(funnel.out.values())
    lines = [f"# {context.name}", "", f"{count:,} {what}.", "", *made, "", "## What became of the rows", ""]
    (output / CARD).write_text("\n".join(lines) + "\n" + funnel.markdown(), encoding="utf-8")
    run = context.track(context.name, facts, group=GROUP)
    run.took(took)
    run.rewind(-1)
    run.metrics(funnel.metrics(), step=0)
    for name in (FILE, CARD, *more):
        shutil.copy(output / name, run.artifacts / name)


def took(
    source: Reference | LocalPath | str, context: StepContext, revision: str | None = None, role: str = "source"
) -> TookDataset:
    """What a step was given: another step's data, a file, or a name on the hub at a commit."""
    if isinstance(source, Reference):
        return TookDataset(source.step, context.input(source).fingerprint, str(source), role)
    if isinstance(source, LocalPath):
        with source.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return TookDataset(source.path.name, digest, str(source), role)
    return TookDataset(source, revision or "newest", source, role)
