"""The training loop: the same for every gang, whatever started it.

It runs in each worker of an initialised process group, knows nothing of Ray, and tells what it does through a callback.
Everything random is a function of the seed and the step, so where a run was interrupted leaves no mark on its result.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from jobs.finetune.batches import Schedule, Step, plan_step
from jobs.finetune.checkpoint import Checkpoints
from jobs.finetune.checkpoint_files import CheckpointFolder
from jobs.finetune.config import Config
from jobs.finetune.data import TokenizedData
from jobs.finetune.fsdp import Trained, shard
from jobs.finetune.model import CausalLoss
from jobs.finetune.optimizer import build_optimizer, learning_rate, set_learning_rate
from orchestrator.step import StepError


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did."""

    step: int
    """Optimizer steps done, this one included."""
    steps: int
    """Optimizer steps of the whole run."""
    loss: float
    """Mean over the step's learned tokens, in nats, before its update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens_per_second: float
    """Of all workers, padding not counted."""
    peak_memory: int
    """Bytes: of the GPU where there is one, else of the process. Of worker 0."""


Report = Callable[[StepReport], None]


def train(
    config: Config,
    loss: CausalLoss,
    data: TokenizedData,
    *,
    padding: int,
    device: torch.device,
    checkpoints: CheckpointFolder,
    report: Report,
) -> None:
    """Shards `loss` and trains it in place, from the latest of `checkpoints` on. Called by all workers.

    `report` is called in every worker after every step. Raises StepError when the loss is no longer a number.
    """
    schedule = Schedule(len(data), config.batch_size, config.epochs, config.seed)
    rank, workers = dist.get_rank(), dist.get_world_size()
    shard(loss, device)
    optimizer = build_optimizer(loss, config)
    loss.train()
    trained = Trained(loss, optimizer)
    recipe = config.model_dump(mode="json", exclude={"resources"})
    every, keep = config.resources.checkpoint_every, config.resources.keep_checkpoints
    with Checkpoints(checkpoints, recipe, every=every, keep=keep) as saved:
        for number in range(saved.restore(trained), schedule.steps):
            started = time.perf_counter()
            torch.manual_seed(config.seed + number)
            tokens = config.resources.tokens_in_memory
            step = plan_step(schedule, number, data, rank=rank, workers=workers, tokens=tokens, padding=padding)
            rate = learning_rate(number, schedule.steps, config)
            set_learning_rate(optimizer, rate)
            mean = _accumulate(loss, step, device)
            norm = _clip(loss, config.max_gradient_norm)
            if not math.isfinite(mean + norm):
                raise StepError(
                    f"learning_rate: {config.learning_rate} made training diverge at step {number + 1} (loss {mean}, "
                    f"gradient norm {norm}): lower it, or raise warmup"
                )
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.perf_counter() - started
            done = number + 1
            report(StepReport(done, schedule.steps, mean, rate, norm, step.tokens / seconds, _peak_memory(device)))
            saved.after(done, trained, last=done == schedule.steps)


def _accumulate(loss: CausalLoss, step: Step, device: torch.device) -> float:
    """Adds the gradients of a worker's micro-batches. The step's loss, over all workers."""
    total = torch.zeros((), device=device)
    for batch in step.batches:
        mean = loss(batch.to(device)) / step.learned
        mean.backward()
        total += mean.detach()
    dist.all_reduce(total)
    return total.item()


def _clip(loss: CausalLoss, largest: float) -> float:
    """Scales the gradients down to a norm of `largest`. The norm they had."""
    norm = torch.nn.utils.clip_grad_norm_(loss.parameters(), largest)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
