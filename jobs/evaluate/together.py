"""What several samples of an item are worth together, for every policy: pass@k and majority@k, with intervals.

An item's score at k is exact (:mod:`jobs.evaluate.repeated`); what is uncertain is which items were drawn, so points of
k samples have the same two intervals as points of one, and the same paired difference from the natural end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.evaluate.grading.words import meaning
from jobs.evaluate.repeated import Counts, majority_at, pass_at
from jobs.evaluate.statistics import (
    Difference,
    Floats,
    Interval,
    effective_trials,
    paired_difference,
    percentile_interval,
    resampled_shares,
    wilson,
)

_RESAMPLED_AT_ONCE = 512
"""Columns of resampled scores in memory at a time: 41 MB."""


@dataclass(frozen=True)
class Estimate:
    """A share of items, with its intervals and what it gains: as :class:`Point` has them for accuracy."""

    value: float
    interval: Interval
    bootstrap: Interval
    difference: Difference | None


@dataclass(frozen=True)
class Together:
    """What k samples of an item are worth together, over all ways to take k of those that could be graded."""

    k: int
    items: int
    """Those with as many graded samples; the others cannot tell."""
    passed: Estimate
    """pass@k: one of the k is correct."""
    majority: Estimate
    """majority@k: the k elect the correct answer."""


@dataclass(frozen=True)
class Votes:
    """How the samples of each cell are spread, ``[items, policies]``."""

    correct: Floats
    blank: Floats
    wrong: Counts
    """Of each wrong answer, ``[items, policies, answers]``."""
    graded: Floats

    def scores(self, columns: slice, most: int) -> Floats:
        """pass@k and majority@k of some policies: ``[items, policies, 2, most]``; NaN where k samples are too many."""
        correct, blank, graded = (
            each[:, columns].astype(np.int64).ravel() for each in (self.correct, self.blank, self.graded)
        )
        wrong = self.wrong[:, columns]
        scores = [
            pass_at(correct, graded, most),
            majority_at(correct, blank, wrong.reshape(len(correct), wrong.shape[2]), most),
        ]
        return np.stack(scores, axis=1).reshape(*wrong.shape[:2], 2, most)


def wrong_answers(frame: pd.DataFrame, index: NDArray[np.int64], shape: tuple[int, int]) -> Counts:
    """How often each wrong answer was given, ``[items, policies, answers]``: the most that a cell has, in no order.

    `index` says where the sample in each row of `frame` lies in the flattened matrix of `shape`, ``[items, policies]``.
    """
    wrong = frame["verdict"].to_numpy() == "wrong"
    extracted = frame["extracted"].cat
    said, which = np.unique(extracted.codes.to_numpy(np.int64)[wrong], return_inverse=True)
    words = [meaning(str(extracted.categories[text])) for text in said]
    answer = pd.factorize(np.array(words, dtype=object))[0].astype(np.int64)[which]
    kinds = int(answer.max(initial=0)) + 1
    found, votes = np.unique(index[wrong] * kinds + answer, return_counts=True)
    cell = found // kinds
    place = np.arange(len(cell)) - np.searchsorted(cell, cell)
    table: Counts = np.zeros((math.prod(shape), int(place.max(initial=-1)) + 1), dtype=np.int64)
    table[cell, place] = votes
    return table.reshape(*shape, table.shape[1])


def taken_together(
    votes: Votes, most: int, reference: tuple[float, Floats] | None, seed: int
) -> list[tuple[Together, ...]]:
    """Each policy's scores for k = 1 … `most`. `reference` is the natural end's accuracy, observed and resampled."""
    found = []
    policies = votes.graded.shape[1]
    step = max(1, _RESAMPLED_AT_ONCE // (2 * most))
    for start in range(0, policies, step):
        columns = slice(start, min(start + step, policies))
        scores = votes.scores(columns, most)
        items, several = len(scores), scores.shape[1]
        worth = np.repeat(votes.graded[:, columns].mean(axis=0), 2 * most)
        estimates = _estimates(scores.reshape(items, -1), worth, reference, seed)
        told = (~np.isnan(scores[:, :, 0])).sum(axis=0)
        for policy in range(several):
            passed, majority = list(islice(estimates, most)), list(islice(estimates, most))
            found.append(tuple(Together(at + 1, int(told[policy, at]), passed[at], majority[at]) for at in range(most)))
    return found


def _estimates(scores: Floats, worth: Floats, reference: tuple[float, Floats] | None, seed: int) -> Iterator[Estimate]:
    """The mean of each column of `scores`, ``[items, points]``, over the items that have one.

    `worth`, ``[points]``, is how many samples an item's score is made from. So many independent trials it counts for
    at most, and for one at least, as the spread between items tells.
    """
    told = ~np.isnan(scores)
    right = np.where(told, scores, 0.0)
    resampled = resampled_shares(right, (told[:, :1] if told.all() else told).astype(np.float64), seed)
    for point in range(scores.shape[1]):
        trials = told[:, point] * worth[point]
        value = float(right[:, point].sum() / told[:, point].sum()) if told[:, point].any() else math.nan
        difference = None
        if reference is not None:
            difference = paired_difference(value - reference[0], resampled[:, point], reference[1])
        yield Estimate(
            value=value,
            interval=wilson(value, effective_trials(right[:, point] * trials, trials)),
            bootstrap=percentile_interval(resampled[:, point]),
            difference=difference,
        )
