"""What several samples of an item are worth together, for every policy and vote: pass@k, majority@k, best@k by a score.

An item's score at k is over all ways to take k of its samples (:mod:`jobs.evaluate.stats.votes`); what is uncertain is
which items were drawn, so points of k samples have the same intervals as points of one, and the same paired difference
from the natural end. Samples with errors leave a range: of scores if all of them gave the item's commonest wrong
answer, and if all were right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.elections import Ballots
from jobs.evaluate.stats.intervals import ShareEstimate, Shares, Sums, estimates
from jobs.evaluate.stats.votes import VOTES, Vote

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
    by: Mapping[Vote, ShareEstimate]
    """Of the votes that are known at this k."""
    errors: Mapping[Vote, float]
    """What drawing subsets at random adds to a value's standard error; 0 where it is exact."""


@dataclass(frozen=True)
class Together:
    """One vote's shares of some policies, ``[items, policies · ks]``: a policy's first, at each of its `ks`."""

    vote: Vote
    ks: tuple[int, ...]
    shares: Shares
    errors: Floats
    """What drawing adds, ``[policies, ks]``."""


def shown(most: int, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The k of which tables and curves have a point: those `asked` for, or 1, 2, 4, 8 … and `most`, all samples."""
    if asked is not None:
        return tuple(sorted(set(asked)))
    return tuple(k for k in range(1, most + 1) if k & (k - 1) == 0 or k == most)


def together(task: Outcomes, vote: Vote, ks: Sequence[int], columns: slice, seed: int) -> Together:
    """What samples of some policies come to by one vote, for each of `ks`, which ascend."""
    drawn: list[Floats] = []

    def sums(ballots: Ballots) -> Sums:
        elected = vote.of(ballots[columns], ks, seed)
        chances = elected.chances.reshape(len(elected.chances), -1)
        if elected.errors is not None:
            drawn.append(elected.errors)
        known = ~np.isnan(chances)
        return Sums(np.where(known, chances, 0.0), known.astype(np.float64))

    graded = sums(task.ballots)
    exact = np.zeros((graded.right.shape[1] // len(ks), len(ks)))
    errors = drawn[0] if drawn else exact
    if not task.has_errors:
        return Together(vote, tuple(ks), Shares(graded, graded, graded), errors)
    least, most = (sums(each.ballots) for each in task.extremes)
    return Together(vote, tuple(ks), Shares(graded, least, most), errors)


def scores_at_k(
    task: Outcomes, votes: Sequence[Vote], asked: Sequence[int] | None, reference: Shares | None, seed: int
) -> list[tuple[AtK, ...]]:
    """Each policy's scores for k = 1 … all samples of an item. `reference` is the natural end's accuracy.

    Votes that take long to count have theirs at the k that are shown, those `asked` for.
    """
    by_policy: list[tuple[AtK, ...]] = []
    most, policies = task.most, len(task.policies)
    every, few = tuple(range(1, most + 1)), tuple(k for k in shown(most, asked) if k <= most)
    step = max(1, _SCORED_AT_ONCE // most)
    for start in range(0, policies, step):
        columns = slice(start, min(start + step, policies))
        of_columns: list[list[tuple[int, dict[Vote, ShareEstimate], dict[Vote, float]]]] = [
            [(0, {}, {}) for _ in every] for _ in range(columns.start, columns.stop)
        ]
        for vote in votes:
            of_vote = together(task, vote, every if VOTES[vote.kind].dense else few, columns, seed)
            each = zip(estimates(of_vote.shares, seed, reference), of_vote.shares.graded.items, strict=True)
            for policy, errors in zip(of_columns, of_vote.errors, strict=True):
                for k, error, (estimate, items) in zip(of_vote.ks, errors, islice(each, len(of_vote.ks)), strict=True):
                    _, by, drawn = policy[k - 1]
                    policy[k - 1] = int(items), by | {vote: estimate}, drawn | {vote: float(error)}
        by_policy += [tuple(AtK(k, *of_k) for k, of_k in zip(every, policy, strict=True)) for policy in of_columns]
    return by_policy
