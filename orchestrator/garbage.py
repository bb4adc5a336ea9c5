"""What in a store no kept experiment needs any more: old versions of steps, and traces and reports of theirs alone.

An experiment that is kept reaches its steps as they are planned now; a step reaches the traces that it noted in its
``uses.json``. Everything else that looks like a step or a folder of traces is garbage, unless a live run works on it,
and so is a report on a step that is. What looks like neither was not made here, and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.places import files, folders, remove, remove_tree
from orchestrator.plan import PlannedStep
from orchestrator.records import read_json
from orchestrator.store import NAME, StepFolder, Store

if TYPE_CHECKING:
    from orchestrator.places import Place

_STEP = re.compile(rf"{NAME.pattern}-[0-9a-f]{{16}}")
_TRACES = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept reaches."""

    path: Place
    within: str
    """Where it is in the store: ``traces/0123456789abcdef``."""
    size: int
    """Bytes of the files in it."""
    changed: float
    """When it was last written to, in seconds since 1970."""

    def remove(self) -> None:
        """Deletes it; the done-marker first, so that what is left of a deletion that is cut short is no result."""
        remove(self.path / "done.json")
        remove_tree(self.path)


def unreachable(store: Store, kept: Iterable[PlannedStep]) -> Iterator[Garbage]:
    """The garbage of a store, given the steps of all experiments that are kept."""
    reached = {step.folder.path.name for step in kept}
    traces: set[str] = set()
    left = []
    for path in folders(store.root):
        if not _STEP.fullmatch(path.name):
            continue
        if path.name in reached or StepFolder(path).claimed_by() is not None:
            traces.update(read_json(path / "uses.json") or [])
        else:
            left.append(path)
    steps = {path.name for path in left}
    left += [path for path in folders(store.traces) if _TRACES.fullmatch(path.name) and path.name not in traces]
    # A report on one of these steps goes with it.
    left += [path for path in folders(store.reports) if not steps.isdisjoint(read_json(path / "steps.json") or [])]
    for path in left:
        found = files(path).values()
        within = path.name if path.parent == store.root else f"{path.parent.name}/{path.name}"
        yield Garbage(
            path, within, sum(file.size for file in found), max((file.changed for file in found), default=0.0)
        )
