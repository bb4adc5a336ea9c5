"""Runs a ``finetune`` step: what a gang of workers does, and what it says of it."""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import ray.train
import torch
from ray.train.torch import get_device

from jobs.finetune.checkpoint_files import CheckpointFolder, checkpoints_of
from jobs.finetune.config import Config, RandomModel
from jobs.finetune.export import export
from jobs.finetune.gang import run_gang
from jobs.finetune.loop import StepReport, train
from jobs.finetune.model import CausalLoss, build_model, load_tokenizer
from jobs.finetune.prepare import model_source, prepare, prepared, publish, seen
from orchestrator.step import StepContext

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
    run_gang(_work, assignment, config, assignment.gang)
    assignment.checkpoints.remove()
    shutil.rmtree(assignment.gang)
    shutil.rmtree(assignment.data)


def _work(assignment: Assignment) -> None:
    """What one worker does, in its own process, as a member of an initialised process group."""
    config = assignment.config
    rank = ray.train.get_context().get_world_rank()
    assignment.context.redirect_output(f"rank-{rank}")
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
    export(loss, tokenizer, assignment.context.output)


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
