"""Samples that are kept from training, and the loss on them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from jobs.finetune.batches import collate, share
from jobs.finetune.config import Evaluation
from jobs.finetune.data import TokenizedData
from jobs.finetune.strategy import Strategy
from orchestrator.step import StepError


@dataclass(frozen=True)
class Split:
    """Samples for training, and others for evaluation."""

    training: TokenizedData
    held_out: TokenizedData | None
    rows: NDArray[np.int64]
    """[training samples]: which of the data's samples each is, counted from 0."""


def split(data: TokenizedData, evaluation: Evaluation | None, seed: int) -> Split:
    """Keeps ``evaluation.share`` of the samples, at least one, from training. Raises StepError where none are left."""
    if evaluation is None:
        return Split(data, None, np.arange(len(data)))
    count = max(1, round(len(data) * evaluation.share))
    if count >= len(data):
        raise StepError(
            f"evaluation.share: {evaluation.share} of {len(data)} samples leaves none to train on: lower it"
        )
    order = np.random.default_rng(seed).permutation(len(data))
    training = np.sort(order[count:])
    return Split(_chosen(data, training), _chosen(data, np.sort(order[:count])), training)


def held_out_loss(strategy: Strategy, data: TokenizedData, *, tokens: int, padding: int, device: torch.device) -> float:
    """The mean over the learned tokens of `data`, in nats. Called by all workers."""
    everything = range(len(data))
    batches = share(everything, data, rank=dist.get_rank(), workers=dist.get_world_size(), tokens=tokens)
    total = torch.zeros((), dtype=torch.float64)
    for micro in batches:
        total += strategy.evaluate(collate(micro, data, padding).to(device)).cpu()
    total = total.to(device)
    dist.all_reduce(total)
    return total.item() / data.learned(everything)


def _chosen(data: TokenizedData, samples: NDArray[np.int64]) -> TokenizedData:
    pieces = [data.sample(index)[0] for index in samples]
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    return dataclasses.replace(data, ids=np.concatenate(pieces), starts=starts, prompts=data.prompts[samples])
