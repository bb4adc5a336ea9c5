"""What several samples of an item are worth together, for every policy: pass@k and majority@k, with intervals.

An item's score at k is exact (:mod:`jobs.evaluate.stats.subsets`); what is uncertain is which items were drawn, so
points of k samples have the same intervals as points of one, and the same paired difference from the natural end.
Samples with errors leave a range: of scores if all of them gave the item's commonest wrong answer, and if all were
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.intervals import ShareEstimate, Shares, Sums, estimates
from jobs.evaluate.stats.subsets import CountArray, majority_at, pass_at

if TYPE_CHECKING:
    from jobs.evaluate.stats.outcomes import Outcomes

_SCORED_AT_ONCE = 512
"""Columns of resampled scores in memory at a time: 41 MB."""


@dataclass(frozen=True)
class AtK:
    """What k samples of an item are worth together, over all ways to take k of those that could be graded."""

    k: int
    items: int
    """Those with as many graded samples; the others cannot tell."""
    passed: ShareEstimate
    """pass@k: one of the k is correct."""
    majority: ShareEstimate
    """majority@k: the k elect the correct answer."""


@dataclass(frozen=True)
class Votes:
    """How the samples of each cell are spread, ``[items, policies]``."""

    correct: Floats
    blank: Floats
    wrong: CountArray
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


def shares_at_k(task: Outcomes, columns: slice) -> Shares:
    """The scores of some policies, ``[items, policies · 2 · most]``: pass@k for k = 1 … `most`, then majority@k."""

    def sums(votes: Votes) -> Sums:
        scores = votes.scores(columns, task.most)
        scores = scores.reshape(len(scores), -1)
        scored = ~np.isnan(scores)
        return Sums(np.where(scored, scores, 0.0), scored.astype(np.float64))

    graded = sums(task.votes)
    if not task.has_errors:
        return Shares(graded, graded, graded)
    least, most = (sums(each.votes) for each in task.extremes)
    return Shares(graded, least, most)


def scores_at_k(task: Outcomes, reference: Shares | None, seed: int) -> list[tuple[AtK, ...]]:
    """Each policy's scores for k = 1 … all samples of an item. `reference` is the natural end's accuracy."""
    by_policy = []
    most, policies = task.most, len(task.policies)
    step = max(1, _SCORED_AT_ONCE // (2 * most))
    for start in range(0, policies, step):
        shares = shares_at_k(task, slice(start, min(start + step, policies)))
        items = shares.graded.items
        each = zip(estimates(shares, seed, reference), items, strict=True)
        for _ in range(min(step, policies - start)):
            passed, majority = list(islice(each, most)), list(islice(each, most))
            by_policy.append(
                tuple(AtK(at + 1, int(passed[at][1]), passed[at][0], majority[at][0]) for at in range(most))
            )
    return by_policy
