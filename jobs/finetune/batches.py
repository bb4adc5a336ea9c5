"""Which rows make up an optimizer step, and which of them each worker processes, together with which others.

All of it is a pure function of the step's number: a resumed run needs to know no more than where it was. The rows
of a step do not depend on the number of workers, and its loss is a mean over all of them, so neither does the gradient.
Within a step, rows are dealt in order of length, which gives the workers equal work and little padding; every worker
has the same number of micro-batches, because each is a collective operation. A row is a sample, or several when they
are packed (:mod:`jobs.finetune.packing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.finetune.data import TokenizedData

Loss = Literal["tokens", "samples"]
"""What the loss of a step is the mean of: of its tokens, so that long samples count more, or of its samples' means."""

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch. Rows of one sample are padded at the right: causal attention hides padding from what precedes it.

    Packed rows are laid end to end in one, without padding, and their samples keep apart by `documents`.
    """

    ids: Tensor
    """[batch, seq], int64"""
    labels: Tensor
    """[batch, seq], int64: the next token of each, or :data:`IGNORED`."""
    samples: tuple[int, ...] = ()
    """The places in the dataset of what is in it, counted from 0."""
    positions: Tensor | None = None
    """[1, seq], int64: of each token in its own document; None: rows are documents."""
    documents: tuple[int, ...] | None = None
    """The lengths of the documents of the one row; None: rows are documents."""
    weights: Tensor | None = None
    """[batch, seq], float64: what the loss of each label counts; None: 1."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What a transformers model is called with. Attention then stays within documents
        (:func:`jobs.finetune.attention.stay_within_documents`)."""
        if self.documents is None:
            return {"input_ids": self.ids}
        return {"input_ids": self.ids, "position_ids": self.positions, "documents": self.documents}

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        positions = None if self.positions is None else self.positions.to(device)
        weights = None if self.weights is None else self.weights.to(device)
        labels = self.labels.to(device)
        return replace(self, ids=self.ids.to(device), labels=labels, positions=positions, weights=weights)


@dataclass(frozen=True)
class WorkerStep:
    """The work of one worker in one optimizer step."""

    batches: tuple[Batch, ...]
    learned: int
    """What the step's loss is divided by: the tokens that all workers learn in it, or their samples (`Loss`)."""
    lengths: tuple[int, ...]
    """Tokens of every sample of the whole step, padding not counted."""


@dataclass(frozen=True)
class Schedule:
    """The rows of every optimizer step: each epoch goes through all of them once, in an order of its own."""

    rows: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def batch(self, step: int) -> list[int]:
        """Indices of the rows of optimizer step `step`, counted from 0. An epoch's last batch may be smaller."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return order[position * self.batch_size : (position + 1) * self.batch_size].tolist()


def share(rows: Sequence[int], data: TokenizedData, *, rank: int, workers: int, tokens: int) -> Iterator[list[int]]:
    """The micro-batches of one worker: rows whose padded size is at most `tokens`, or one row alone.

    Deals in order of descending length, so every worker's n-th row is about as long. A worker may get an empty
    micro-batch when there are fewer rows than workers.
    """
    lengths = data.lengths(rows)
    dealt = [rows[at] for at in np.argsort(-lengths, kind="stable")]
    hands = [dealt[start : start + workers] for start in range(0, len(dealt), workers)]
    pending: list[int] = []
    longest, count = 0, 0
    for hand in hands:
        # The hand's first row is the longest in it: all workers cut at the same hands, whatever they hold themselves.
        length = int(data.lengths(hand[:1])[0])
        if count and max(longest, length) * (count + 1) > tokens:
            yield pending
            pending, longest, count = [], 0, 0
        pending.extend(hand[rank : rank + 1])
        longest, count = max(longest, length), count + 1
    yield pending


def counted(rows: Sequence[int], data: TokenizedData, loss: Loss) -> int:
    """What the loss on `rows` is divided by, that :func:`collate` has weighted."""
    return data.learned(rows) if loss == "tokens" else len(data.members(rows))


def collate(rows: Sequence[int], data: TokenizedData, padding: int, loss: Loss = "tokens") -> Batch:
    """`rows` as tensors. An empty micro-batch is one token from which nothing is learned."""
    drawn = [sample for row in rows for sample in data.row(row)]
    members = data.members(rows)
    if not data.packed or not drawn:
        ids, labels = _padded(drawn, padding)
        batch = Batch(ids, labels, members)
    else:
        lengths = tuple(len(ids) for ids, _ in drawn)
        parts = [_padded([sample], padding) for sample in drawn]
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        ids, labels = (torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))
        batch = Batch(ids, labels, members, positions, lengths)
    return batch if loss == "tokens" else replace(batch, weights=_by_sample(batch))


def _by_sample(batch: Batch) -> Tensor:
    """Weights by which each sample's losses add up to their mean."""
    documents = batch.labels.split(batch.documents or (batch.labels.shape[1],), dim=1)
    learned = [(labels != IGNORED).double() for labels in documents]
    return torch.cat([each / each.sum(dim=1, keepdim=True).clamp(min=1) for each in learned], dim=1)


def _padded(samples: Sequence[tuple[NDArray[np.int32], int]], padding: int) -> tuple[Tensor, Tensor]:
    """Ids and labels."""
    width = max((len(ids) for ids, _ in samples), default=1)
    ids = torch.full((max(len(samples), 1), width), padding, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, (sample, prompt) in enumerate(samples):
        tokens = torch.from_numpy(sample.astype(np.int64))
        ids[row, : len(tokens)] = tokens
        labels[row, prompt - 1 : len(tokens) - 1] = tokens[prompt:]
    return ids, labels


def plan_step(
    schedule: Schedule,
    step: int,
    data: TokenizedData,
    *,
    rank: int,
    workers: int,
    tokens: int,
    padding: int,
    loss: Loss = "tokens",
) -> WorkerStep:
    """The work of worker `rank` of `workers` in optimizer step `step`."""
    rows = schedule.batch(step)
    batches = share(rows, data, rank=rank, workers=workers, tokens=tokens)
    return WorkerStep(
        batches=tuple(collate(micro, data, padding, loss) for micro in batches),
        learned=counted(rows, data, loss),
        lengths=tuple(len(ids) for row in rows for ids, _ in data.row(row)),
    )
