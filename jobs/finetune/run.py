"""Runs a ``finetune`` step: a gang of workers on Ray Train, restarted from its last checkpoint when one is lost.

Ray Train starts and connects the workers and reserves them in one placement group. Restarts are decided here, because
it does not tell a lost worker from a mistake in the config: the former is worth another attempt, the latter never.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import PlacementGroupID
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
from ray.train.v2._internal.exceptions import (
    RayTrainError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group

from jobs.finetune.config import Config
from jobs.finetune.worker import BACKENDS, Assignment, assign, work
from orchestrator.step import StepContext, StepError


def run(config: Config, context: StepContext) -> None:
    """Trains and writes the model to the step's output. Continues from the step's last checkpoint when it has one.

    Raises StepError where checkpoints cannot be written, and when the cluster does not have the gang's resources within
    ``resources.wait`` seconds.
    """
    assignment = assign(config, context)
    assignment.checkpoints.check_writable()
    _release_former_gang(assignment)
    os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(config.resources.wait)
    for attempts_left in reversed(range(config.resources.retries + 1)):
        try:
            _trainer(assignment).fit()
            break
        except TrainingFailedError as error:
            _raise_unless_lost(error, config)
            if not attempts_left:
                raise
            print(f"A worker was lost; starting the gang again ({attempts_left} attempts left): {error}", flush=True)
    assignment.checkpoints.remove()
    shutil.rmtree(_gang(assignment))


def _release_former_gang(assignment: Assignment) -> None:
    """Frees what this step's gang still holds when its coordinator was killed: Ray itself waits for the job to end."""
    reservation = _reservation(assignment)
    if reservation.exists():
        group = PlacementGroupID(bytes.fromhex(reservation.read_text()))
        remove_placement_group(PlacementGroup(group))


def _gang(assignment: Assignment) -> Path:
    """Ray Train's own records."""
    return assignment.context.folder / "gang"


def _reservation(assignment: Assignment) -> Path:
    """The id, in hexadecimal, of the placement group that the gang holds."""
    return _gang(assignment) / "placement_group"


def _trainer(assignment: Assignment) -> TorchTrainer:
    config = assignment.config
    gpus = config.resources.gpus_per_worker
    return TorchTrainer(
        _work,
        train_loop_config={"assignment": assignment},
        torch_config=TorchConfig(backend=BACKENDS["cuda" if gpus else "cpu"]),
        scaling_config=ScalingConfig(
            num_workers=config.resources.workers, use_gpu=bool(gpus), resources_per_worker=config.demands()[0]
        ),
        run_config=RunConfig(
            name=_gang(assignment).name,
            storage_path=str(_gang(assignment).parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )


def _work(loop_config: dict[str, Any]) -> None:
    """What one worker does, in its own process, as a member of an initialised process group."""
    assignment: Assignment = loop_config["assignment"]
    rank = ray.train.get_context().get_world_rank()
    assignment.context.redirect_output(f"rank-{rank}")
    if rank == 0:
        _reservation(assignment).write_text(get_current_placement_group().id.hex())
    work(assignment, get_device())


def _raise_unless_lost(error: TrainingFailedError, config: Config) -> None:
    """Returns when a worker died, or a node while the gang started. Else raises what there is to put right."""
    if isinstance(error, ControllerError):
        if isinstance(error.controller_failure, WorkerGroupStartupTimeoutError):
            raise StepError(_shortage(config)) from error
        if not isinstance(error.controller_failure, WorkerGroupStartupFailedError):
            raise error
        return
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    for failure in failures:
        if isinstance(failure, StepError):
            raise failure
    # What Ray Train itself noticed, such as a dead process, derives from RayTrainError; the rest was raised in workers.
    # When one of them died, what the others raised is the consequence: their connections to it closed.
    if not any(isinstance(failure, RayTrainError) for failure in failures):
        raise error


def _shortage(config: Config) -> str:
    asked = " + ".join(_resources(bundle) for bundle in config.demands())
    return (
        f"resources: asked for {asked}, and did not get it within {config.resources.wait:g} seconds; the cluster has "
        f"{_resources(ray.cluster_resources())}, of which free {_resources(ray.available_resources())}: ask for less, "
        "wait longer (resources.wait), or add nodes"
    )


def _resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amounts.get(name, 0):g} {name}" for name in ("CPU", "GPU") if name == "CPU" or name in amounts)
