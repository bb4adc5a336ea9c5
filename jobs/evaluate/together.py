"""What several samples of an item are worth together, for every policy: pass@k and majority@k, with intervals.

An item's score at k is exact (:mod:`jobs.evaluate.repeated`); what is uncertain is which items were drawn, so points of
k samples have the same two intervals as points of one, and the same paired difference from the natural end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from jobs.evaluate.repeated import Counts, majority_at, pass_at
from jobs.evaluate.statistics import Estimate, Floats, estimates

_RESAMPLED_AT_ONCE = 512
"""Columns of resampled scores in memory at a time: 41 MB."""


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


def shown(most: int, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The k of which tables and curves have a point: those `asked` for, or 1, 2, 4, 8 … and `most`, all samples."""
    if asked is not None:
        return tuple(sorted(set(asked)))
    return tuple(k for k in range(1, most + 1) if k & (k - 1) == 0 or k == most)


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
        told = ~np.isnan(scores)
        items, several = told[:, :, 0].sum(axis=0), scores.shape[1]
        # An item's score counts for as many independent trials as it was made from at most.
        worth = np.repeat(votes.graded[:, columns].mean(axis=0), 2 * most)
        asked = told.reshape(len(told), -1).astype(np.float64)
        right = np.where(told, scores, 0.0).reshape(asked.shape)
        each = iter(estimates(right, asked[:, :1] if told.all() else asked, seed, reference, worth))
        for policy in range(several):
            passed, majority = list(islice(each, most)), list(islice(each, most))
            found.append(
                tuple(Together(at + 1, int(items[policy, at]), passed[at], majority[at]) for at in range(most))
            )
    return found
