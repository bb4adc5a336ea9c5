"""Keeps trackers up to date while an experiment runs, without ever holding it up: MLflow, and Weights & Biases beside
it where the experiment says so.

A thread of its own looks at the steps every few seconds and syncs them. A server that is slow or away delays nothing:
the store has everything, and :meth:`Mirror.catch_up` tells the server the rest at the end, or in the next run.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console

from orchestrator.experiment import Experiment
from orchestrator.plan import PlannedStep
from orchestrator.store.errors import StoreError
from orchestrator.store.records import DamagedRecord, read_passing, write_json_atomically
from orchestrator.store.step_folders import StepFolder
from orchestrator.store.storage import storage_of
from orchestrator.store.working_files import working_files
from orchestrator.tracking.tracker import RunState, Tracker, TrackingError
from orchestrator.tracking.wandb_runs import WandbRuns

EVERY = 5.0
"""Seconds between syncs of the steps that run."""

PATIENCE = 30.0
"""Seconds that :meth:`Mirror.catch_up` waits for a server that is away."""

UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves a database."""

_STATES: dict[str, RunState] = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class Mirror:
    """Mirrors the tracked runs of an experiment's steps. A context manager: leaving it ends the thread."""

    def __init__(self, experiment: Experiment, out: Console):
        self.out = out
        self._tracker = Tracker(experiment.tracking, experiment.name)
        self._beside = WandbRuns(Path(experiment.wandb), experiment.name) if experiment.wandb else None
        """Which cannot be told before a step has ended."""
        self._syncing = threading.Lock()
        # Replaced, never changed, so that the thread may read it while the run goes on.
        self._watched: dict[str, PlannedStep] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)
        self._opening = threading.Thread(target=self._open, name="opening", daemon=True)
        self._away = False
        self.page: str | None = None
        """The address of the curves, once the server has been told of a step."""

    def check(self) -> None:
        """Raises :class:`TrackingError` where a tracker cannot be told: for before anything costs anything."""
        self._tracker.check()
        if self._beside is not None:
            self._beside.check()

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._opening.ident is not None:
            self._opening.join()  # half a database is none that MLflow would take

    def get_ready(self) -> None:
        """Spends the seconds that the first sync takes beside what runs: imports, and a database that is new."""
        self._opening.start()

    def _open(self) -> None:
        with self._syncing, suppress(TrackingError):  # what is wrong is said where it matters, by a sync
            self._tracker.open()

    def watch(self, planned: PlannedStep) -> None:
        """Starts to mirror a step that runs."""
        self._watched = {**self._watched, planned.step.name: planned}

    def finished(self, planned: PlannedStep) -> None:
        """Stops mirroring a step that ended; :meth:`catch_up` tells the server how."""
        self._watched = {name: other for name, other in self._watched.items() if name != planned.step.name}

    def catch_up(self, planned: PlannedStep) -> None:
        """Tells the server all that the store has of a step, and how the step ended; says so if it cannot."""
        state = _STATES.get(str(planned.folder.read_status().get("state")))
        if state is None or not storage_of(planned.folder.tracked).files():
            return
        if (page := self._already_told(planned.folder, state)) is not None:
            self.page = page
            return
        deadline = time.monotonic() + (0 if self._away else PATIENCE)
        while True:
            try:
                with self._syncing:
                    planned.folder.verify_tracked()
                    here = _here(planned.folder)
                    self._tracker.sync(here, planned.step.name, planned.fingerprint, state)
                    if self._beside is not None:
                        self._beside.sync(here, planned.step.name, planned.fingerprint, state)
            except DamagedRecord as error:
                self._say(
                    f"{planned.step.name}: {error}: MLflow is told nothing of the step; its output is not touched by "
                    f"that; remove {planned.folder.path / 'done.json'} to have the step made again"
                )
                return
            except TrackingError as error:
                if time.monotonic() < deadline:
                    time.sleep(2)
                    continue
                self._away = True
                self._say(f"{error}; the results are in the store, and the next run of the experiment logs them")
            else:
                receipt = {**self._receipt(planned.folder, state), "page": self._page()}
                try:
                    write_json_atomically(planned.folder.path / "mirrored.json", receipt)
                except StoreError as error:  # all it is for is not to tell the server again
                    self._say(f"{planned.step.name}: {error}; until then every run tells MLflow of the step again")
            return

    def _page(self) -> str:
        """Where the curves are: on the tracking server, or on the one that ``mlflow ui`` starts over the database."""
        uri = self._tracker.uri
        self.page = self._tracker.page(uri.rstrip("/") if uri.startswith("http") else UI)
        return self.page

    def _loop(self) -> None:
        complained = False
        while not self._stop.wait(EVERY):
            for planned in self._watched.values():
                try:
                    with self._syncing:
                        self._tracker.sync(_here(planned.folder), planned.step.name, planned.fingerprint)
                    complained = False
                except (TrackingError, StoreError, DamagedRecord) as error:
                    if not complained:
                        self._say(f"{error}; trying again while the run goes on")
                    complained = True

    def _receipt(self, folder: StepFolder, state: str) -> dict[str, str]:
        """What a complete sync is remembered by: where to, and the tracked files' names, sizes and versions."""
        where = self._tracker.uri if self._beside is None else f"{self._tracker.uri}\0{self._beside.folder}"
        digest = hashlib.sha256()
        for name, file in storage_of(folder.tracked).files().items():
            digest.update(f"{name}\0{file.size}\0{file.version}\0".encode())
        return {"uri": hashlib.sha256(where.encode()).hexdigest(), "state": state, "files": digest.hexdigest()}

    def _already_told(self, folder: StepFolder, state: str) -> str | None:
        """The page of the curves, where all of this was told before: MLflow need not even be imported."""
        database = Path(self._tracker.uri.removeprefix("sqlite:///"))
        if self._tracker.uri.startswith("sqlite:///") and not database.exists():
            return None
        if self._beside is not None and not self._beside.folder.exists():
            return None
        receipt = read_passing(folder.path / "mirrored.json", dict[str, str]) or {}
        page = receipt.pop("page", None)
        return page if receipt == self._receipt(folder, state) else None

    def _say(self, text: str) -> None:
        self.out.print(text, markup=False, soft_wrap=True)


def _here(folder: StepFolder) -> Path:
    """The step's folder with all that is tracked; from an object store, what is new of it is brought here."""
    files = working_files(folder.path)
    files.fetch("tracked")
    return files.folder
