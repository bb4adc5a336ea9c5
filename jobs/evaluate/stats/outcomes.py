"""What happened in a sweep, as numbers: one matrix of ``[items, policies]`` per thing that samples are counted by.

Curves, comparisons and the paper's metrics are all made from these, so a file of samples is read once. Everything is
columnar: 640,000 samples are a few matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.evaluate.stats.at_k import Votes
from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.intervals import Shares, Sums
from jobs.evaluate.stats.subsets import CountArray

TOKENS = ("thinking_tokens", "injected_tokens", "answer_tokens")
_COLUMNS = (
    *("task", "item", "policy", "verdict", *TOKENS),
    *("thinking_end", "answer_end", "extracted", "meaning", "tries", "gold"),
)
_CATEGORIES = ["task", "item", "policy", "verdict", "thinking_end", "answer_end", "extracted", "meaning", "gold"]
_ENDS = {
    "natural": ("thinking_end", ["natural"]),
    "forced": ("thinking_end", ["forced"]),
    "context": ("thinking_end", ["context"]),
    "truncated": ("answer_end", ["length"]),
    "no_answer": ("verdict", ["no_answer"]),
    "error": ("verdict", ["error", "ungraded"]),
}


@dataclass(frozen=True)
class Outcomes:
    """The samples of one task. Matrices are ``[items, policies]``, and hold sums over an item's samples."""

    task: str
    items: tuple[str, ...]
    """Their ids in order, so that the bootstrap draws the same items however the samples were written."""
    policies: tuple[str, ...]
    samples: Floats
    correct: Floats
    totals: Mapping[str, Floats]
    """Tokens of each kind of :data:`TOKENS`, ``tries``, and samples that ended so: ``natural``, ``forced``,
    ``context``, ``truncated``, ``no_answer``, ``error``."""
    squares: Mapping[str, Floats]
    """Of the tokens of each sample."""
    wrong: CountArray
    """The votes of each wrong answer, ``[items, policies, answers]``: the most that a cell has, in no order."""
    golds: Mapping[str, str]
    """The correct answers, by item."""

    @cached_property
    def graded(self) -> Floats:
        """All samples but those whose verdict is ``error`` or ``ungraded``."""
        return self.samples - self.totals["error"]

    @cached_property
    def shares(self) -> Shares:
        """Of correct samples, ``[items, policies]``."""
        graded = Sums(self.correct, self.graded)
        if not self.has_errors:
            return Shares(graded, graded, graded)
        right = self.correct + self.totals["error"]
        return Shares(graded, Sums(self.correct, self.samples), Sums(right, self.samples))

    @cached_property
    def has_errors(self) -> bool:
        """Whether any sample could not be graded."""
        return bool(self.totals["error"].any())

    @cached_property
    def extremes(self) -> tuple[Outcomes, Outcomes]:
        """As if every sample with an error gave the item's commonest wrong answer, and as if it gave the right one."""
        errors = self.totals["error"]
        totals = {**self.totals, "error": np.zeros_like(errors)}
        wrong = self.wrong if self.wrong.shape[2] else np.zeros((*errors.shape, 1), dtype=np.int64)
        most = wrong.argmax(axis=2)[:, :, None]
        outvoted = wrong.copy()
        np.put_along_axis(outvoted, most, np.take_along_axis(wrong, most, 2) + errors.astype(np.int64)[:, :, None], 2)
        return (
            replace(self, totals=totals, wrong=outvoted),
            replace(self, totals=totals, correct=self.correct + errors),
        )

    @cached_property
    def most(self) -> int:
        """Samples of an item."""
        return int(self.samples.max(initial=0))

    @property
    def votes(self) -> Votes:
        """How the samples of each cell are spread."""
        return Votes(self.correct, self.totals["no_answer"], self.wrong, self.graded)

    def mean(self, name: str) -> Floats:
        """Of one of `totals`, over the samples of each policy: ``[policies]``."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.totals[name].sum(axis=0) / self.samples.sum(axis=0))


def read(samples: Path | BinaryIO, policies: Sequence[str] | None = None) -> tuple[Outcomes, ...]:
    """The outcomes in a ``samples.parquet``, task by task. `policies` are their columns; None: all, as they come."""
    there = pq.read_schema(samples).names
    columns = [name for name in _COLUMNS if name in there]
    frame = pq.read_table(samples, columns=columns, read_dictionary=_CATEGORIES).to_pandas()
    return tuple(
        _outcomes(str(task), of_task, policies or tuple(dict.fromkeys(of_task["policy"])))
        for task in dict.fromkeys(frame["task"])
        for of_task in [frame[frame["task"] == task]]
    )


def _outcomes(task: str, frame: pd.DataFrame, policies: Sequence[str]) -> Outcomes:
    columns = {policy: column for column, policy in enumerate(policies)}
    codes = frame["policy"].map(columns).to_numpy(dtype=np.int64)
    names, first, items = np.unique(
        frame["item"].astype(str).to_numpy(dtype=object), return_index=True, return_inverse=True
    )
    index, shape = items * len(policies) + codes, (len(names), len(policies))

    def sums(values: Any) -> Floats:
        weights = np.asarray(values, dtype=np.float64)
        totals: Floats = np.bincount(index, weights, math.prod(shape)).astype(np.float64, copy=False)
        return totals.reshape(shape)

    totals = {name: sums(frame[name]) for name in TOKENS}
    totals |= {name: sums(frame[column].isin(values)) for name, (column, values) in _ENDS.items()}
    totals["tries"] = sums(frame["tries"] if "tries" in frame else np.ones(len(frame)))
    return Outcomes(
        task=task,
        items=tuple(map(str, names)),
        policies=tuple(policies),
        samples=sums(np.ones(len(frame))),
        correct=sums(frame["verdict"] == "correct"),
        totals=totals,
        squares={name: sums(frame[name].to_numpy(dtype=np.float64) ** 2) for name in TOKENS},
        wrong=_wrong_answers(frame, index, shape),
        golds=dict(zip(names, frame["gold"].iloc[first], strict=True)) if "gold" in frame else {},
    )


def _wrong_answers(frame: pd.DataFrame, index: NDArray[np.int64], shape: tuple[int, int]) -> CountArray:
    """How often each wrong answer was given: see :attr:`Outcomes.wrong`.

    `index` says where the sample in each row of `frame` lies in the flattened matrix of `shape`, ``[items, policies]``.
    """
    wrong = frame["verdict"].to_numpy() == "wrong"
    said = frame["extracted"][wrong].astype(object)
    if "meaning" in frame:  # which samples of before have not, until they are graded again
        said = frame["meaning"][wrong].astype(object).fillna(said)
    answer = pd.factorize(said)[0].astype(np.int64)
    kinds = int(answer.max(initial=0)) + 1
    cells, votes = np.unique(index[wrong] * kinds + answer, return_counts=True)
    cell = cells // kinds
    place = np.arange(len(cell)) - np.searchsorted(cell, cell)
    table: CountArray = np.zeros((math.prod(shape), int(place.max(initial=-1)) + 1), dtype=np.int64)
    table[cell, place] = votes
    return table.reshape(*shape, table.shape[1])
