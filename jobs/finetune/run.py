"""Runs a ``finetune`` step: a gang of workers on Ray Train, restarted from its last checkpoint when one is lost.

Ray Train starts and connects the workers and reserves them in one placement group. Restarts are decided here, because
it does not tell a lost worker from a mistake in the config: the former is worth another attempt, the latter never.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
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

from jobs.finetune.checkpoint_files import CheckpointFolder, checkpoints_of
from jobs.finetune.config import Config, RandomModel
from jobs.finetune.export import export
from jobs.finetune.fsdp import whole_weights
from jobs.finetune.loop import StepReport, train
from jobs.finetune.model import CausalLoss, build_model, load_tokenizer
from jobs.finetune.prepare import model_source, prepare, prepared, publish, seen
from orchestrator.step import StepContext, StepError

_SECONDS_BETWEEN_PROGRESS = 0.5


@dataclass(frozen=True)
class Assignment:
    """What every worker is told."""

    config: Config
    context: StepContext
    model: RandomModel | str
    """A random model, a folder or a hub name."""

    @property
    def data(self) -> Path:
        """What was prepared to be trained on."""
        return self.context.folder / "data"

    @property
    def checkpoints(self) -> CheckpointFolder:
        return checkpoints_of(self.config, self.context)

    @property
    def gang(self) -> Path:
        """Ray Train's own records."""
        return self.context.folder / "gang"

    @property
    def reservation(self) -> Path:
        """The id, in hexadecimal, of the placement group that the gang holds."""
        return self.gang / "placement_group"


def run(config: Config, context: StepContext) -> None:
    """Trains and writes the model to the step's output. Continues from the step's last checkpoint when it has one.

    Raises StepError where the data cannot be used or checkpoints cannot be written, before anything is taken, and when
    the cluster does not have the gang's resources within ``resources.wait`` seconds.
    """
    # Ray Train starts its workers in a folder of its own, where relative paths mean nothing.
    context = dataclasses.replace(context, folder=context.folder.absolute())
    assignment = Assignment(config, context, model_source(config, context))
    assignment.checkpoints.check_writable()
    prepare(config, context, assignment.data)
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
    shutil.rmtree(assignment.gang)
    shutil.rmtree(assignment.data)


def _release_former_gang(assignment: Assignment) -> None:
    """Frees what this step's gang still holds when its coordinator was killed: Ray itself waits for the job to end."""
    if assignment.reservation.exists():
        group = PlacementGroupID(bytes.fromhex(assignment.reservation.read_text()))
        remove_placement_group(PlacementGroup(group))


def _trainer(assignment: Assignment) -> TorchTrainer:
    config = assignment.config
    gpus = config.resources.gpus_per_worker
    return TorchTrainer(
        _work,
        train_loop_config={"assignment": assignment},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.resources.workers, use_gpu=bool(gpus), resources_per_worker=config.demands()[0]
        ),
        run_config=RunConfig(
            name=assignment.gang.name,
            storage_path=str(assignment.gang.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )


def _work(loop_config: dict[str, Any]) -> None:
    """What one worker does, in its own process, as a member of an initialised process group."""
    assignment: Assignment = loop_config["assignment"]
    config = assignment.config
    rank = ray.train.get_context().get_world_rank()
    assignment.context.redirect_output(f"rank-{rank}")
    if rank == 0:
        assignment.reservation.write_text(get_current_placement_group().id.hex())
    torch.set_num_threads(config.resources.cpus_per_worker)
    tokenizer = load_tokenizer(assignment.model)
    loss = CausalLoss(build_model(assignment.model, tokenizer, config.seed))
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    train(
        config,
        loss,
        prepared(assignment.data),
        padding=padding,
        device=get_device(),
        checkpoints=assignment.checkpoints,
        report=Recorder(assignment) if rank == 0 else _say_nothing,
    )
    export(whole_weights(loss), loss.model.config, tokenizer, assignment.context.output)


class Recorder:
    """Writes what each optimizer step did to the step's tracked run, and how far it is to the step's progress."""

    def __init__(self, assignment: Assignment):
        self._context = assignment.context
        params = assignment.config.model_dump(mode="json", exclude={"resources"})
        workers = assignment.config.resources.workers
        params |= {"workers": workers} | seen(assignment.data)
        self._run = self._context.track("finetune", params, group="training")
        publish(assignment.data, self._run.artifacts)
        self._rewound = False
        self._last_progress = 0.0

    def __call__(self, report: StepReport) -> None:
        if not self._rewound:
            self._run.rewind(report.step - 1)
            self._rewound = True
        values = dataclasses.asdict(report)
        step, steps = values.pop("step"), values.pop("steps")
        self._run.metrics(values, step)
        now = time.monotonic()
        if step == steps or now - self._last_progress > _SECONDS_BETWEEN_PROGRESS:
            self._context.progress(step, steps, "steps")
            self._last_progress = now


def _say_nothing(report: StepReport) -> None:
    pass


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
