"""Runs a ``finetune`` step: a gang of workers on Ray Train that does :mod:`jobs.finetune.worker`'s work."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import ray
import ray.train
from ray.exceptions import RayError

from jobs.cluster_state import leaving
from jobs.finetune.assignment import DATA, Assignment, assign, fetch
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.gang import run_gang
from jobs.finetune.leaving import watching
from jobs.finetune.prepare import prepare
from orchestrator.job.context import StepContext
from orchestrator.job.groups import group_prefix
from orchestrator.store.storage import storage_of


def run(config: FinetuneConfig, context: StepContext) -> None:
    """Trains and writes the model to the step's output. Continues from the step's last checkpoint when it has one.

    Raises StepError where the data cannot be used or checkpoints cannot be written, before anything is taken, and when
    the cluster does not have the gang's resources within ``resources.wait`` seconds; OutOfRetries, when workers are
    lost too often.
    """
    assignment = assign(config, context)
    records = _records(assignment)
    assignment.checkpoints.check_writable()
    prepare(config, assignment.context, assignment.data)
    assignment.context.share(DATA)
    reservation = assignment.context.storage / "gang" / "reservation.json"
    name = f"{group_prefix(context.storage)}-workers"
    run_gang(_work, assignment, config, name, records, reservation, context.lost, context.hold, fetch)
    assignment.checkpoints.remove()
    storage_of(reservation).remove()
    shutil.rmtree(records)
    assignment.context.unshare(DATA)


def _records(assignment: Assignment) -> Path:
    """Ray Train's own, and the gang's."""
    return assignment.context.folder / "gang"


def _work(assignment: Assignment) -> None:
    """What one worker does, in its own process, as a member of an initialised process group."""
    # Takes seconds to import, which only workers need to spend.
    from ray.train.torch import get_device

    from jobs.finetune.worker import work

    assignment.context.redirect_output(f"rank-{ray.train.get_context().get_world_rank()}")
    try:
        with watching(partial(_leaves, ray.get_runtime_context().get_node_id())) as announced:
            work(assignment, get_device(), announced)
    finally:
        assignment.context.leave()


def _leaves(machine: str) -> bool:
    with suppress(RayError):  # a head that does not answer: whether the cluster is lost is for others to say
        return machine in leaving()
    return False
