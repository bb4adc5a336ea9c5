"""Every finished step of some stores, by kind, for a board: from small files, whatever experiments they are of.

A store knows nothing of experiments, so nothing here needs one: a folder with a ``done.json`` is a finished step, its
``identity.json`` says of what kind. Reports that a step is in are found by what they say they are about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.job.record import BoardRequest, ListedStep
from orchestrator.notes import read_provenance
from orchestrator.registry import JOBS
from orchestrator.reporting import PAGE, STEPS
from orchestrator.spending import spent
from orchestrator.store.errors import StoreError
from orchestrator.store.records import DamagedRecord, read_passing, read_record, tell
from orchestrator.store.step_folders import NAME, StepFolder, Store
from orchestrator.store.storage import first_contact, storage_of, storage_path

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

AT_ONCE = 16
"""Folders that are looked at side by side, which helps where each look is a request."""


@dataclass(frozen=True)
class _Page:
    path: StoragePath
    version: str
    changed: float
    steps: tuple[str, ...]


def write(locations: Sequence[str], folder: Path, command: str, against: str | None) -> str:
    """Writes the board of the stores into `folder`; returns a line on what is in it.

    Raises StoreError for what is no store, StepError for a request that cannot be met.
    """
    finished = [each for location in dict.fromkeys(locations) for each in finished_steps(location)]
    boards = {kind: job.board for kind, job in JOBS.items() if job.board is not None}
    (kind,) = boards  # one folder, one page
    steps = [step for name, step in finished if name == kind]
    return boards[kind](steps, BoardRequest(folder, command, against))


def finished_steps(location: str) -> Iterator[tuple[str, ListedStep]]:
    """Each finished step of a store with its kind. Raises StoreError where there is no store."""
    store = Store(storage_path(location))
    first_contact(store.root).check_reachable()
    if not storage_of(store.root).remote and not Path(str(store.root)).is_dir():
        raise StoreError(f"{location} is no folder: give the store of an experiment, such as runs")
    folders = [path for path in storage_of(store.root).folders() if _is_step(path.name)]
    pages = _pages(store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from (each for each in pool.map(partial(_listed, location, pages), folders) if each is not None)


def _is_step(name: str) -> bool:
    step, dash, fingerprint = name.rpartition("-")
    return bool(dash and fingerprint) and NAME.fullmatch(step) is not None


def _listed(location: str, pages: Mapping[str, _Page], path: StoragePath) -> tuple[str, ListedStep] | None:
    folder = StepFolder(path)
    try:
        done = read_record(path / "done.json")
        identity = folder.identity if done is not None else None
    except DamagedRecord as error:
        tell(f"{path.name}: damaged: {error}; it is not on the board")
        return None
    if identity is None:
        return None
    page = pages.get(path.name)
    step = ListedStep(
        store=location,
        folder=folder,
        version=hashlib.sha256(json.dumps(done, sort_keys=True).encode()).hexdigest()[:16],
        finished=float(done["time"]),
        page=None if page is None else page.path,
        page_version="" if page is None else page.version,
        page_steps=() if page is None else page.steps,
        provenance=partial(read_provenance, folder),
        spent=partial(spent, folder),
    )
    return identity["job"], step


def _pages(store: Store) -> dict[str, _Page]:
    """The newest report on each step, by its folder's name."""
    files = storage_of(store.reports).files()
    by_step: dict[str, _Page] = {}
    for name, file in sorted(files.items(), key=lambda each: each[1].changed):
        report, _, last = name.rpartition("/")
        if last != PAGE or f"{report}/{STEPS}" not in files:
            continue
        steps: Any = read_passing(store.reports / report / STEPS, list[str]) or []
        page = _Page(store.reports / name, file.version, file.changed, tuple(steps))
        by_step |= dict.fromkeys(steps, page)
    return by_step
