"""Experiments from Python: ``from orchestrator import load, run, results``.

The same experiment, store and identity as on the command line: what one has run, the other finds done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.experiment import Experiment
from orchestrator.experiment import load as _load
from orchestrator.job.frames import Frames
from orchestrator.plan import plan
from orchestrator.preflight import checked
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_path


def load(file: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a file, with values changed by their keys: ``{"steps.sweep.budgets": [16, 32]}``.

    Raises ExperimentError with a line for each thing that is wrong.
    """
    overrides = (f"{key}={json.dumps(value)}" for key, value in (changes or {}).items())
    return _load(Path(file), tuple(overrides))


def run(experiment: Experiment) -> bool:
    """Runs what is not done, on the cluster that RAY_ADDRESS names, else on a local one for this run alone.

    Returns whether every step is done; one that failed has said why. Raises ExperimentError, ClusterError,
    TrackingError and StoreError before anything starts, and KeyboardInterrupt where it is interrupted: the same call
    continues.
    """
    store, planned = checked(experiment, starts=True)
    from orchestrator.complete import complete
    from orchestrator.display import console
    from orchestrator.interrupts import Interrupted
    from orchestrator.reporting import command

    try:
        return complete(
            experiment, store, planned, console(), command(Path(experiment.file), experiment.overrides)
        ).finished
    except Interrupted as interruption:
        raise KeyboardInterrupt(str(interruption)) from None


def results(experiment: Experiment) -> dict[str, Frames]:
    """Of each finished step that has any, its results as frames, by its name. Runs nothing. Raises StoreError."""
    store = Store(storage_path(experiment.store))
    frames_by_step = {}
    for item in plan(experiment, store):
        frames = JOBS[item.step.kind].frames
        if frames is not None and item.verdict == "done":
            frames_by_step[item.step.name] = frames(item.step.config, item.context(experiment, store))
    return frames_by_step
