"""Finished results: by what people call them, a step's folder in a store or the id of an MLflow run, and as steps of an
experiment.

::

    with finished("runs/sweep-e70df17c11b46128", "sqlite:///mlflow.db") as (kind, step):
        step.output  # its files; MLflow's are downloaded, for as long as the block lasts
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.experiment import Experiment
from orchestrator.job.context import StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.record import Compared, FinishedStep
from orchestrator.notes import read_provenance
from orchestrator.plan import PlannedStep
from orchestrator.registry import JOBS
from orchestrator.spending import expected, spent
from orchestrator.store.step_folders import StepFolder, Store
from orchestrator.store.storage import first_contact, storage_path
from orchestrator.tracking.tracker import Tracker

RUN = re.compile(r"[0-9a-f]{32}")


@contextmanager
def finished(name: str, tracking: str) -> Iterator[tuple[str, Compared]]:
    """The kind of what `name` means, and its files. Raises StepError in one line when there is no such thing,
    DamagedRecord where it is not what was written, and StoreError where an object store does not answer.

    An MLflow run has its step's published files, not the step's kind: it is of the one that offers comparisons.
    """
    folder = StepFolder(storage_path(name))
    first_contact(folder.path).check_reachable()
    if folder.path.is_dir():
        if not folder.path.joinpath("done.json").exists() or not folder.verify()[0] or folder.identity is None:
            raise StepError(f"{name} is not a finished step: give a folder of a store that has a done.json in it")
        made = StepInput(folder.path.name, folder.fingerprint, folder.output)
        yield folder.identity["job"], Compared(made.name, made.output)
    elif RUN.fullmatch(name):
        (kind,) = (kind for kind in JOBS if JOBS[kind].compare)
        with tempfile.TemporaryDirectory(prefix="run") as temporary:
            yield kind, Compared(Tracker(tracking, "").download(name, Path(temporary)), Path(temporary))
    else:
        raise StepError(
            f"{name!r} is neither a folder nor an MLflow run's id: give runs/<step>-<fingerprint>, or an id"
        )


def finished_step(planned: PlannedStep, experiment: Experiment, store: Store) -> FinishedStep:
    """What the store has of a step of an experiment that is done."""
    context = planned.context(experiment, store)
    context.check_out("output", "tracked")
    status = planned.folder.read_status()
    started, finished = status.get("started"), status.get("finished")
    return FinishedStep(
        config=planned.step.config,
        context=context,
        seconds=finished - started if started and finished else None,
        provenance=read_provenance(planned.folder),
        spent=spent(planned.folder),
        expected=expected(planned.folder),
    )
