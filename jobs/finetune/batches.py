"""Which rows make up an optimizer step, and which of them each worker processes, together with which others.

All of it is a pure function of the step's number: a resumed run needs to know no more than where it was. The rows
of a step do not depend on the number of workers, and the loss is weighted by tokens over all of them, so neither does
the gradient. Within a step, rows are dealt in order of length, which gives the workers equal work and little
padding; every worker has the same number of micro-batches, because each is a collective operation. A row is a sample,
or several when they are packed (:mod:`jobs.finetune.packing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.finetune.data import TokenizedData

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
        return replace(self, ids=self.ids.to(device), labels=self.labels.to(device), positions=positions)


@dataclass(frozen=True)
class Step:
    """The work of one worker in one optimizer step."""

    batches: tuple[Batch, ...]
    learned: int
    """Tokens learned in the whole step, by all workers: what its loss is divided by."""
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


def collate(rows: Sequence[int], data: TokenizedData, padding: int) -> Batch:
    """`rows` as tensors. An empty micro-batch is one token from which nothing is learned."""
    drawn = [sample for row in rows for sample in data.row(row)]
    members = data.members(rows)
    if not data.packed or not drawn:
        return Batch(*_padded(drawn, padding), members)
    lengths = tuple(len(ids) for ids, _ in drawn)
    ids, labels = zip(*(_padded([sample], padding) for sample in drawn), strict=True)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return Batch(torch.cat(ids, dim=1), torch.cat(labels, dim=1), members, positions, lengths)


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
    schedule: Schedule, step: int, data: TokenizedData, *, rank: int, workers: int, tokens: int, padding: int
) -> Step:
    """The work of worker `rank` of `workers` in optimizer step `step`."""
    rows = schedule.batch(step)
    batches = share(rows, data, rank=rank, workers=workers, tokens=tokens)
    return Step(
        batches=tuple(collate(micro, data, padding) for micro in batches),
        learned=data.learned(rows),
        lengths=tuple(len(ids) for row in rows for ids, _ in data.row(row)),
    )
