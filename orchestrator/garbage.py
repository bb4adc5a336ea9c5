"""What in a store nobody needs any more: old versions of steps, and traces and reports of theirs alone.

Three things are needed: the steps of the experiments that are kept, as they are planned now; steps that a live run
works on; and steps that were begun and not finished, for whoever began them may go on. With each step goes what it
takes, as its ``identity.json`` says, what that takes, and the traces that these noted in their ``uses.json``. So a
colleague's experiment on a shared store, whose file nobody here has, keeps the fine-tune under its sweep.

Everything else that looks like a step or a folder of traces is garbage, and so is a report on a step that is. What
looks like neither was not made here, and is left alone. Where damage hides what a needed step takes, nothing is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.plan import PlannedStep
from orchestrator.store.errors import StoreError
from orchestrator.store.records import DamagedRecord, read_json, read_passing, read_record
from orchestrator.store.step_folders import NAME, StepFolder, Store
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

_STEP = re.compile(rf"{NAME.pattern}-[0-9a-f]{{16}}")
_TAKEN = re.compile(r"\$\{([0-9a-f]{16})[^}]*\}")
"""How an identity names a step that it takes: by its version, which begins with its fingerprint."""
_TRACES = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Garbage:
    """A folder that nothing kept reaches."""

    path: StoragePath
    within: str
    """Where it is in the store: ``traces/0123456789abcdef``."""
    size: int
    """Bytes of the files in it."""
    changed: float
    """When it was last written to, in seconds since 1970."""

    def remove(self) -> None:
        """Deletes it; the done-marker first, so that what is left of a deletion that is cut short is no result."""
        storage_of(self.path / "done.json").remove()
        storage_of(self.path).remove_tree()


def unreachable(store: Store, kept: Iterable[PlannedStep], unfinished: bool = False) -> Iterator[Garbage]:
    """The garbage of a store, given the steps of all experiments that are kept.

    With `unfinished`, also steps that were begun and never finished, unless a run works on them. Raises StoreError
    where it cannot be told what a needed step takes.
    """
    steps = {path.name: StepFolder(path) for path in storage_of(store.root).folders() if _STEP.fullmatch(path.name)}
    named = {step.folder.path.name for step in kept}
    needed: dict[str, StepFolder] = {}
    left = [step for name, step in steps.items() if name in named or _in_use(step, unfinished)]
    while left:
        step = left.pop()
        if step.path.name not in needed:
            needed[step.path.name] = step
            taken = set(_TAKEN.findall(json.dumps(_said(step.path, "identity.json", read_record))))
            left += [other for other in steps.values() if other.fingerprint in taken]
    traces = {name for step in needed.values() for name in _said(step.path, "uses.json", _names)}
    gone = [step.path for name, step in steps.items() if name not in needed]
    names = {path.name for path in gone}
    gone += [
        path for path in storage_of(store.traces).folders() if _TRACES.fullmatch(path.name) and path.name not in traces
    ]
    gone += [
        path
        for path in storage_of(store.reports).folders()
        if not names.isdisjoint(read_passing(path / "steps.json", list[str]) or [])
    ]
    for path in gone:
        contents = storage_of(path).files().values()
        within = path.name if path.parent == store.root else f"{path.parent.name}/{path.name}"
        yield Garbage(
            path, within, sum(file.size for file in contents), max((file.changed for file in contents), default=0.0)
        )


def _in_use(step: StepFolder, unfinished: bool) -> bool:
    """Whether a run works on a step, or someone may mean to go on with it."""
    lease = step.leases.latest()
    if lease is not None and (lease.live or lease.beats(step.leases)):
        return True
    return (
        not unfinished and step.path.joinpath("status.json").exists() and not step.path.joinpath("done.json").exists()
    )


def _names(path: StoragePath) -> list[str]:
    names = read_json(path)
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DamagedRecord(f"{path} is damaged: it is not a list of names")
    return names or []


def _said(folder: StoragePath, name: str, read: Callable[[StoragePath], Any]) -> Any:
    """What a record of a needed step says."""
    try:
        return read(folder / name)
    except DamagedRecord as error:
        raise StoreError(
            f"{error}: what {folder.name} takes is not known, so nothing is garbage: run its experiment again, which "
            "writes it anew, or remove that folder"
        ) from error
