"""What is checked before anything starts that costs: beyond an experiment's file, what its steps would load.

Asked only of steps that would run, because it takes seconds: names of the hub, rows of its datasets, and whatever a
kind of step can tell only with its model's tokenizer. And whether Weights & Biases can be told of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator import hub
from orchestrator.complaints import Complaint, ExperimentError
from orchestrator.experiment import Experiment
from orchestrator.job.config import Problem, Upcoming
from orchestrator.plan import PlannedStep, plan
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_path
from orchestrator.tracking.tracker import TrackingError
from orchestrator.tracking.wandb_runs import WandbRuns


def checked(experiment: Experiment, starts: bool) -> tuple[Store, list[PlannedStep]]:
    """An experiment's store and its plan; for what `starts` steps, all that can be known is asked for first.

    Raises StoreError and ExperimentError.
    """
    store = Store(storage_path(experiment.store))
    store.check_reachable()
    planned = plan(experiment, store)
    if starts and (said := complaints(experiment, planned)):
        raise ExperimentError(experiment.file, said)
    return store, planned


def complaints(experiment: Experiment, planned: Sequence[PlannedStep]) -> list[Complaint]:
    """What the steps that would run would be refused for. What the hub lacks is all that is said where it lacks any."""
    waiting = [item.step for item in planned if item.verdict != "done"]
    said = list(_not_told(experiment)) if waiting else []
    if gone := list(hub.absent(experiment, waiting)):
        return [*said, *gone]
    inputs = {item.step.name: Upcoming(item.step.config, None, item.forecast) for item in planned}
    return said + [
        Complaint(experiment.document.line(at), f"{'.'.join(map(str, at))}: {problem.message}")
        for step in waiting
        for problem in (*step.config.hub_problems(), *_checked(step.kind, step.config, inputs))
        for at in [("steps", step.name, *problem.field)]
    ]


def _not_told(experiment: Experiment) -> Iterator[Complaint]:
    """Where Weights & Biases is to be told, and its package is not here."""
    if experiment.wandb:
        try:
            WandbRuns(Path(experiment.wandb), experiment.name).check()
        except TrackingError as error:
            yield Complaint(experiment.document.line(("wandb",)), str(error))


def _checked(kind: str, config: object, inputs: dict[str, Upcoming]) -> Iterator[Problem]:
    check = JOBS[kind].check
    if check is not None:
        yield from check(config, inputs)
