"""The training loop: the same for every gang, whatever started it, and for every strategy.

It runs in each worker of an initialised process group, knows nothing of Ray, and tells what it does through a callback.
Everything random is a function of the seed and the step, so where a run was interrupted leaves no mark on its result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from jobs.finetune.batches import Schedule, WorkerStep, plan_step
from jobs.finetune.checkpoint import Checkpoints
from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.data import TokenizedData
from jobs.finetune.evaluation import held_out_loss, split
from jobs.finetune.leaving import Leaving, staying
from jobs.finetune.measures import StepReport, peak_memory
from jobs.finetune.optimizer import learning_rate
from jobs.finetune.strategy import Strategy
from jobs.finetune.utilisation import Utilisation
from orchestrator.job.errors import StepError

StepReporter = Callable[[StepReport], None]


_NAMED = 16
"""Samples named in an error at most."""


def train(
    config: FinetuneConfig,
    strategy: Strategy,
    data: TokenizedData,
    *,
    padding: int,
    device: torch.device,
    checkpoints: CheckpointFolder,
    report: StepReporter,
    busy: Utilisation | None = None,
    leaving: Callable[[], bool] = staying,
) -> int:
    """Trains the model of `strategy` in place, from the latest of `checkpoints` on. Called by all workers.

    The steps that it has behind it then. There is no checkpoint of the last: what comes next is the model itself, and
    where that cannot be written, :func:`save`.

    `report` is called in every worker after every step, with the MFU that `busy` tells. `leaving` says whether this
    worker's machine is about to go: once it does in any of them, all save a checkpoint of that step, and raise Leaving.
    Raises StepError, naming the samples, when a loss or the gradient is no longer a number.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    tokens = config.resources.tokens_in_memory
    parts = split(data, config.evaluation, config.seed)
    schedule = Schedule(len(parts.training), config.batch_size, config.epochs, config.seed)
    going = False
    with _saved(config, checkpoints) as saved:
        for number in range(saved.restore(strategy), schedule.steps):
            started = time.perf_counter()
            torch.manual_seed(config.seed + number)
            step = plan_step(
                schedule,
                number,
                parts.training,
                rank=rank,
                workers=workers,
                tokens=tokens,
                padding=padding,
                loss=config.loss,
            )
            rate = learning_rate(number, schedule.steps, config)
            sums = _accumulate(strategy, step, device, leaving())
            norm = strategy.update(rate)
            if not math.isfinite(sums.loss + norm):
                named = ", ".join(str(sample + 1) for sample in _suspects(step, sums)[:_NAMED])
                raise StepError(
                    f"learning_rate: {config.learning_rate} made training diverge at step {number + 1} (loss "
                    f"{sums.loss}, gradient norm {norm}) on samples {named} of the data, counted from 1: lower it, "
                    "raise warmup, or look at these samples"
                )
            seconds = time.perf_counter() - started
            done, last = number + 1, number + 1 == schedule.steps
            evaluated = None
            if config.evaluation and parts.held_out and (last or done % config.evaluation.every == 0):
                evaluated = held_out_loss(
                    strategy, parts.held_out, tokens=tokens, padding=padding, device=device, loss=config.loss
                )
            epoch, position = divmod(done, schedule.steps_per_epoch)
            rows = epoch * schedule.rows + min(position * schedule.batch_size, schedule.rows)
            report(
                StepReport(
                    step=done,
                    steps=schedule.steps,
                    loss=sums.loss,
                    learning_rate=rate,
                    gradient_norm=norm,
                    tokens_per_second=sum(step.lengths) / seconds,
                    peak_memory=peak_memory(device),
                    padding=1 - sum(step.lengths) / sums.positions,
                    epoch=rows / schedule.rows,
                    rows=rows,
                    mfu=None if busy is None else busy.mfu(step.lengths, seconds, workers),
                    evaluation_loss=evaluated,
                )
            )
            going = not last and sums.leaving
            if not last:
                saved.after(done, strategy, last=going)
            if going:
                break
    if going:
        raise Leaving(f"a machine is about to go; step {done} is saved")
    return schedule.steps


def save(config: FinetuneConfig, strategy: Strategy, checkpoints: CheckpointFolder, step: int) -> None:
    """Leaves a checkpoint after `step`, due or not. Called by all workers; raises StepError where there is no place."""
    with _saved(config, checkpoints) as saved:
        saved.after(step, strategy, last=True)


def _saved(config: FinetuneConfig, checkpoints: CheckpointFolder) -> Checkpoints:
    recipe = config.model_dump(mode="json", exclude={"resources"})
    every, keep = config.resources.checkpoint_every, config.resources.keep_checkpoints
    return Checkpoints(checkpoints, recipe, every=every, keep=keep)


@dataclass(frozen=True)
class _Sums:
    """Over the micro-batches of all workers."""

    loss: float
    positions: int
    """Computed, padding included."""
    losses: list[Tensor]
    """What each of this worker's micro-batches contributed to the loss."""
    leaving: bool
    """Whether any worker's machine is about to go."""


def _accumulate(strategy: Strategy, step: WorkerStep, device: torch.device, leaving: bool) -> _Sums:
    """Adds up the gradients of a worker's micro-batches."""
    final = len(step.batches) - 1
    losses = [
        strategy.backward(batch.to(device), step.learned, last=at == final) for at, batch in enumerate(step.batches)
    ]
    positions = sum(batch.ids.numel() for batch in step.batches)
    counts = torch.tensor([positions, leaving], dtype=torch.float64).to(device)
    sums = torch.cat([torch.stack(losses).sum().double().reshape(1), counts])
    dist.all_reduce(sums)
    loss, positions, going = sums.tolist()
    return _Sums(loss, int(positions), losses, leaving=going > 0)


def _suspects(step: WorkerStep, sums: _Sums) -> list[int]:
    """Samples of the micro-batches whose loss is not a number; of all, where only the gradient is none."""
    bad = [
        sample
        for batch, loss in zip(step.batches, sums.losses, strict=True)
        if math.isfinite(sums.loss) or not loss.isfinite()
        for sample in batch.samples
    ]
    gathered: list[list[int]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, bad)
    return sorted(sample for samples in gathered for sample in samples)
