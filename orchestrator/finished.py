"""Finished results by what people call them: a step's folder in a store, or the id of an MLflow run.

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

from orchestrator.job.context import StepInput
from orchestrator.job.errors import StepError
from orchestrator.job.record import Compared
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import StepFolder
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
