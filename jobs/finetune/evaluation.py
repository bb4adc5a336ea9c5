"""Samples that are kept from training, and the loss on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from jobs.finetune.batches import Loss, collate, counted, share
from jobs.finetune.config import Evaluation
from jobs.finetune.data import TokenizedData
from jobs.finetune.strategy import Strategy
from orchestrator.job.errors import StepError


@dataclass(frozen=True)
class Split:
    """Rows for training, and others for evaluation."""

    training: TokenizedData
    held_out: TokenizedData | None


def split(data: TokenizedData, evaluation: Evaluation | None, seed: int) -> Split:
    """Keeps ``evaluation.share`` of the rows, at least one, from training. Raises StepError where none are left."""
    if evaluation is None:
        return Split(data, None)
    count = max(1, round(len(data) * evaluation.share))
    if count >= len(data):
        raise StepError(
            f"evaluation.share: {evaluation.share} of {len(data)} samples leaves none to train on: lower it"
        )
    order = np.random.default_rng(seed).permutation(len(data))
    return Split(data.choose(sorted(order[count:].tolist())), data.choose(sorted(order[:count].tolist())))


def held_out_loss(
    strategy: Strategy, data: TokenizedData, *, tokens: int, padding: int, device: torch.device, loss: Loss = "tokens"
) -> float:
    """The mean over the learned tokens of `data`, or over its samples' means, in nats. Called by all workers."""
    everything = range(len(data))
    batches = share(everything, data, rank=dist.get_rank(), workers=dist.get_world_size(), tokens=tokens)
    total = torch.zeros((), dtype=torch.float64)
    for micro in batches:
        total += strategy.evaluate(collate(micro, data, padding, loss).to(device)).cpu()
    total = total.to(device)
    dist.all_reduce(total)
    return total.item() / counted(everything, data, loss)
