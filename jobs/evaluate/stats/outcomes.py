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

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.elections import Ballots
from jobs.evaluate.stats.intervals import Shares, Sums
from jobs.evaluate.stats.pool import BLANK, CORRECT, ERROR, NONE, Pool
from jobs.evaluate.stats.sample_scores import SCORES
from jobs.evaluate.stats.subsets import CountArray

TOKENS = ("thinking_tokens", "injected_tokens", "answer_tokens")
_COLUMNS = (
    *("task", "item", "policy", "verdict", *TOKENS),
    *("thinking_end", "answer_end", "extracted", "meaning", "tries", "gold", "scorer_tokens"),
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
    """Tokens of each kind of :data:`TOKENS`, ``scorer_tokens``, ``tries``, and samples that ended so: ``natural``,
    ``forced``, ``context``, ``truncated``, ``no_answer``, ``error``."""
    squares: Mapping[str, Floats]
    """Of the tokens of each sample."""
    wrong: CountArray
    """The votes of each wrong answer, ``[items, policies, answers]``: the most that a cell has, in no order."""
    golds: Mapping[str, str]
    """The correct answers, by item."""
    pool: Pool | None = None
    """Each sample by itself; None where only counts are known."""

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
        pool = self.pool
        return (
            replace(self, totals=totals, wrong=outvoted, pool=pool and pool.with_errors(pool.commonest_wrong())),
            replace(self, totals=totals, correct=self.correct + errors, pool=pool and pool.with_errors(CORRECT)),
        )

    @cached_property
    def most(self) -> int:
        """Samples of an item."""
        return int(self.samples.max(initial=0))

    @property
    def ballots(self) -> Ballots:
        """How the samples of each cell are spread."""
        return Ballots(self.correct, self.totals["no_answer"], self.wrong, self.graded, self.pool)

    def mean(self, name: str) -> Floats:
        """Of one of `totals`, over the samples of each policy: ``[policies]``."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.totals[name].sum(axis=0) / self.samples.sum(axis=0))


def read(
    samples: Path | BinaryIO, policies: Sequence[str] | None = None, scores: Sequence[str] = ()
) -> tuple[Outcomes, ...]:
    """The outcomes in a ``samples.parquet``, task by task. `policies` are their columns; None: all, as they come.

    `scores` are those of :data:`~jobs.evaluate.stats.sample_scores.SCORES` that the pool of samples then has. Raises
    ValueError, in one line, where a sample has none.
    """
    there = pq.read_schema(samples).names
    wanted = dict.fromkeys((*_COLUMNS, *(column for name in scores for column in SCORES[name].columns)))
    columns = [name for name in wanted if name in there]
    frame = pq.read_table(samples, columns=columns, read_dictionary=_CATEGORIES).to_pandas()
    return of_frame(frame, policies, scores)


def of_frame(
    frame: pd.DataFrame, policies: Sequence[str] | None = None, scores: Sequence[str] = ()
) -> tuple[Outcomes, ...]:
    """The outcomes in rows of a ``samples.parquet``, task by task; see :func:`read`."""
    return tuple(
        _outcomes(str(task), of_task, policies or tuple(dict.fromkeys(of_task["policy"])), scores)
        for task in dict.fromkeys(frame["task"])
        for of_task in [frame[frame["task"] == task]]
    )


def _outcomes(task: str, frame: pd.DataFrame, policies: Sequence[str], scores: Sequence[str]) -> Outcomes:
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

    said = _said(frame)
    totals = {name: sums(frame[name]) for name in TOKENS}
    totals |= {name: sums(frame[column].isin(values)) for name, (column, values) in _ENDS.items()}
    totals["tries"] = sums(frame["tries"] if "tries" in frame else np.ones(len(frame)))
    totals["scorer_tokens"] = sums(
        frame["scorer_tokens"].fillna(0) if "scorer_tokens" in frame else np.zeros(len(frame))
    )
    return Outcomes(
        task=task,
        items=tuple(map(str, names)),
        policies=tuple(policies),
        samples=sums(np.ones(len(frame))),
        correct=sums(frame["verdict"] == "correct"),
        totals=totals,
        squares={name: sums(frame[name].to_numpy(dtype=np.float64) ** 2) for name in TOKENS},
        wrong=_wrong_answers(said, index, shape),
        golds=dict(zip(names, frame["gold"].iloc[first], strict=True)) if "gold" in frame else {},
        pool=_pool(frame, said, index, shape, scores),
    )


def _said(frame: pd.DataFrame) -> NDArray[np.int32]:
    """What each row says, as :class:`~jobs.evaluate.stats.pool.Pool` has it."""
    verdicts = frame["verdict"].to_numpy()
    said = np.full(len(frame), ERROR, dtype=np.int32)
    said[verdicts == "correct"] = CORRECT
    said[verdicts == "no_answer"] = BLANK
    wrong = verdicts == "wrong"
    answers = frame["extracted"][wrong].astype(object)
    if "meaning" in frame:  # which samples of before have not, until they are graded again
        answers = frame["meaning"][wrong].astype(object).fillna(answers)
    said[wrong] = 1 + pd.factorize(answers, use_na_sentinel=False)[0]
    return said


def _wrong_answers(said: NDArray[np.int32], index: NDArray[np.int64], shape: tuple[int, int]) -> CountArray:
    """How often each wrong answer was given: see :attr:`Outcomes.wrong`.

    `index` says where the sample of each row lies in the flattened matrix of `shape`, ``[items, policies]``.
    """
    wrong = said > 0
    kinds = int(said.max(initial=0)) + 1
    cells, votes = np.unique(index[wrong] * kinds + said[wrong], return_counts=True)
    cell = cells // kinds
    place = np.arange(len(cell)) - np.searchsorted(cell, cell)
    table: CountArray = np.zeros((math.prod(shape), int(place.max(initial=-1)) + 1), dtype=np.int64)
    table[cell, place] = votes
    return table.reshape(*shape, table.shape[1])


def _pool(
    frame: pd.DataFrame,
    said: NDArray[np.int32],
    index: NDArray[np.int64],
    shape: tuple[int, int],
    scores: Sequence[str],
) -> Pool:
    """Each sample by itself, those of a cell in the order of their rows."""
    order = np.argsort(index, kind="stable")
    cells = index[order]
    place = np.arange(len(cells)) - np.searchsorted(cells, cells)
    filled = (*shape, int(place.max(initial=-1)) + 1)

    def spread(values: NDArray[Any], otherwise: float) -> NDArray[Any]:
        table = np.full((math.prod(shape), filled[2]), otherwise, dtype=values.dtype)
        table[cells, place] = values[order]
        return table.reshape(filled)

    decoded = frame["thinking_tokens"] - frame["injected_tokens"] + frame["answer_tokens"]
    return Pool(
        said=spread(said, NONE),
        paths=spread(decoded.to_numpy(dtype=np.float64), 0.0),
        scores={name: spread(_scores(name, frame), 0.0) for name in scores},
    )


def _scores(name: str, rows: pd.DataFrame) -> Floats:
    """The score of each of `rows`. Raises ValueError, in one line, where one has none that can be used."""
    scores = np.asarray(SCORES[name].of(rows), dtype=np.float64)
    unusable = ~(np.isfinite(scores) & (scores >= 0)) & (SCORES[name].everywhere | ~np.isnan(scores))
    if unusable.any():
        first = int(np.argmax(unusable))
        row = rows.iloc[first]
        raise ValueError(
            f"scores: {name} of item {row['item']} under {row['policy']} is {scores[first]:g}: a score is a finite "
            "number of at least 0"
        )
    return scores
