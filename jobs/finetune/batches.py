"""Which samples make up an optimizer step, and which of them each worker processes, together with which others.

All of it is a pure function of the step's number: a resumed run needs to know no more than where it was. The samples
of a step do not depend on the number of workers, and the loss is weighted by tokens over all of them, so neither does
the gradient. Within a step, samples are dealt in order of length, which gives the workers equal work and little
padding; every worker has the same number of micro-batches, because each is a collective operation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.finetune.data import TokenizedData

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch, padded at the right: causal attention makes padding invisible to what precedes it."""

    ids: Tensor
    """[batch, seq], int64"""
    labels: Tensor
    """[batch, seq], int64: the next token of each, or :data:`IGNORED`."""
    samples: tuple[int, ...]
    """The data's indices of what is in it."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(self.ids.to(device), self.labels.to(device), self.samples)


@dataclass(frozen=True)
class Step:
    """The work of one worker in one optimizer step."""

    batches: tuple[Batch, ...]
    learned: int
    """Tokens learned in the whole step, by all workers: what its loss is divided by."""
    tokens: int
    """Tokens of the whole step, padding not counted."""


@dataclass(frozen=True)
class Schedule:
    """The samples of every optimizer step: each epoch goes through all of them once, in an order of its own."""

    samples: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.samples / self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def batch(self, step: int) -> list[int]:
        """Indices of the samples of optimizer step `step`, counted from 0. An epoch's last batch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
        return order[position * self.batch_size : (position + 1) * self.batch_size].tolist()


def share(samples: Sequence[int], data: TokenizedData, *, rank: int, workers: int, tokens: int) -> Iterator[list[int]]:
    """The micro-batches of one worker: samples whose padded size is at most `tokens`, or one sample alone.

    Deals in order of descending length, so every worker's n-th sample is about as long. A worker may get an empty
    micro-batch when there are fewer samples than workers.
    """
    lengths = data.lengths(samples)
    dealt = [samples[at] for at in np.argsort(-lengths, kind="stable")]
    rows = [dealt[start : start + workers] for start in range(0, len(dealt), workers)]
    pending: list[int] = []
    longest, count = 0, 0
    for row in rows:
        # The row's first sample is the longest in it: all workers cut at the same rows, whatever they hold themselves.
        length = int(data.lengths(row[:1])[0])
        if count and max(longest, length) * (count + 1) > tokens:
            yield pending
            pending, longest, count = [], 0, 0
        pending.extend(row[rank : rank + 1])
        longest, count = max(longest, length), count + 1
    yield pending


def collate(samples: Sequence[int], data: TokenizedData, padding: int) -> Batch:
    """`samples` as tensors. An empty micro-batch is one token from which nothing is learned."""
    drawn = [data.sample(index) for index in samples]
    width = max((len(ids) for ids, _ in drawn), default=1)
    ids = torch.full((max(len(drawn), 1), width), padding, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, (sample, prompt) in enumerate(drawn):
        tokens = torch.from_numpy(sample.astype(np.int64))
        ids[row, : len(tokens)] = tokens
        labels[row, prompt - 1 : len(tokens) - 1] = tokens[prompt:]
    return Batch(ids, labels, tuple(samples))


def plan_step(
    schedule: Schedule, step: int, data: TokenizedData, *, rank: int, workers: int, tokens: int, padding: int
) -> Step:
    """The work of worker `rank` of `workers` in optimizer step `step`."""
    samples = schedule.batch(step)
    batches = share(samples, data, rank=rank, workers=workers, tokens=tokens)
    return Step(
        batches=tuple(collate(micro, data, padding) for micro in batches),
        learned=data.learned(samples),
        tokens=int(data.lengths(samples).sum()),
    )
