"""What in a store no kept experiment needs any more: old versions of steps, and traces and reports of theirs alone.

An experiment that is kept reaches its steps as they are planned now; a step reaches the traces that it noted in its
``uses.json``. Everything else that looks like a step or a folder of traces is garbage, unless a live run works on it,
and so is a report on a step that is. What looks like neither was not made here, and is left alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.plan import PlannedStep
from orchestrator.store import NAME, StepFolder, Store, read_json

_STEP = re.compile(rf"{NAME.pattern}-[0-9a-f]{{16}}")
_TRACES = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept reaches."""

    path: Path
    size: int
    """Bytes of the files in it."""
    changed: float
    """When it was last written to, in seconds since 1970."""

    def remove(self) -> None:
        """Deletes it; the done-marker first, so that what is left of a deletion that is cut short is no result."""
        (self.path / "done.json").unlink(missing_ok=True)
        shutil.rmtree(self.path)


def unreachable(store: Store, kept: Iterable[PlannedStep]) -> Iterator[Garbage]:
    """The garbage of a store, given the steps of all experiments that are kept."""
    reached = {step.folder.path for step in kept}
    traces: set[str] = set()
    left = []
    for path in sorted(store.root.iterdir()) if store.root.is_dir() else []:
        if not (path.is_dir() and not path.is_symlink() and _STEP.fullmatch(path.name)):
            continue
        if path in reached or StepFolder(path).claimed_by() is not None:
            traces.update(read_json(path / "uses.json") or [])
        else:
            left.append(path)
    if store.traces.is_dir():
        left += [
            path for path in sorted(store.traces.iterdir()) if _TRACES.fullmatch(path.name) and path.name not in traces
        ]
    if store.reports.is_dir():
        left += [path for path in sorted(store.reports.iterdir()) if _is_about(path, left)]
    for path in left:
        files = [file.stat() for file in path.rglob("*") if file.is_file()]
        yield Garbage(path, sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0))


def _is_about(report: Path, steps: Iterable[Path]) -> bool:
    """Whether a report tells of one of `steps`."""
    return not {step.name for step in steps}.isdisjoint(read_json(report / "steps.json") or [])
