"""Weighted majority: of k samples, the answer whose samples' scores add up to most (Li et al. 2023, DIVERSE).

Over all subsets of k of n samples this has no closed form: which of two answers outweighs is a subset-sum problem.
It is exact where that can be had:

- where nobody in the cell says anything wrong, or right, and where all samples weigh the same;
- where there are no more subsets than :data:`SUBSETS` shared among the items: then all are counted.

Else it is the mean over subsets drawn with a seed: the first k of random orders of all n, so that one order is a subset
of every size, and the same orders for every item and policy, so that their differences are paired. What drawing adds to
the error of a point is the standard error of its mean over orders. Arrays are ``[items, policies, samples]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.pool import BLANK, CORRECT, ERROR, NONE, Pool
from jobs.evaluate.stats.subsets import majority_at, pass_at

SUBSETS = 40_000
"""Subsets of each size that are looked at, of all items of a task together: drawing is then worth a standard error of
a quarter of a point at the most, where what is drawn of one item says nothing of another."""

FEWEST_ORDERS = 64
"""Of one item's samples."""

_TIED = 1e-9
"""Weights that differ by less, as a share of all, differ by the order in which they were added."""


def weighted_at(pool: Pool, weights: Floats, ks: Sequence[int], seed: int) -> tuple[Floats, Floats]:
    """The chance that k samples elect the correct answer, ``[items, policies, ks]``, and the Monte Carlo standard error
    of its mean over items, ``[policies, ks]``: 0 where it is exact. Samples with errors are not drawn; NaN where k is
    more than the others.

    Ties go to each of the m leaders with chance 1/m; samples without an answer are drawn and do not vote.
    """
    items, policies, samples = pool.said.shape
    said = pool.said.reshape(-1, samples)
    drawn = (said != ERROR) & (said != NONE)
    order = np.argsort(~drawn, axis=1, kind="stable")  # what can be drawn is in front
    said, weights = np.take_along_axis(said, order, 1), np.take_along_axis(weights.reshape(-1, samples), order, 1)
    graded = drawn.sum(axis=1)
    chances = np.full((len(said), len(ks)), np.nan)
    open_cells = _closed(said, weights, graded, ks, chances)
    orders = max(FEWEST_ORDERS, -(-SUBSETS // max(1, items)))
    variances = np.zeros((policies, len(ks)))  # of sums over items
    for size in np.unique(graded[open_cells]):
        rows = np.flatnonzero(open_cells & (graded == size))
        election = _Election(_numbered(said[rows, :size]), weights[rows, :size])
        for subsets, places, is_drawn in _plans(int(size), ks, orders, seed):
            taken = [ks[place] for place in places]
            total, by_policy = np.zeros((len(rows), len(places))), np.zeros((len(subsets), policies, len(places)))
            for number, subset in enumerate(subsets):
                won = election.won(subset, taken)
                total += won
                np.add.at(by_policy[number], rows % policies, won)
            chances[rows[:, None], places] = total / len(subsets)
            if is_drawn:
                variances[:, places] += by_policy.var(axis=0, ddof=1) / len(subsets)
    counted = (graded.reshape(items, policies, 1) >= np.array(ks)).sum(axis=0)
    errors = np.sqrt(variances) / np.maximum(counted, 1)
    return chances.reshape(items, policies, len(ks)), errors


def _closed(
    said: NDArray[np.int32], weights: Floats, graded: NDArray[np.int64], ks: Sequence[int], chances: Floats
) -> NDArray[np.bool_]:
    """Writes the `chances` of cells that have a closed form; returns which have none."""
    at, most = np.array(ks) - 1, max(ks)
    there = np.arange(said.shape[1]) < graded[:, None]
    right, blank, wrong = there & (said == CORRECT), there & (said == BLANK), there & (said > 0)
    voting = right | wrong
    lightest = np.where(voting, weights, np.inf).min(axis=1, initial=np.inf)
    heaviest = np.where(voting, weights, -np.inf).max(axis=1, initial=-np.inf)
    lost, unopposed = ~right.any(axis=1), ~wrong.any(axis=1)
    alike = (lightest == heaviest) & (heaviest > 0)  # without any weight, all that are named tie
    chances[lost] = np.where(np.array(ks) <= graded[lost, None], 0.0, np.nan)
    rows = np.flatnonzero(~lost & unopposed)
    chances[rows] = pass_at(right[rows].sum(axis=1), graded[rows], most)[:, at]
    rows = np.flatnonzero(~lost & ~unopposed & alike)
    if len(rows):
        answers = _numbered(np.where(there[rows], said[rows], NONE))
        counts = np.stack([(answers == number).sum(axis=1) for number in range(1, int(answers.max()) + 1)], axis=1)
        chances[rows] = majority_at(right[rows].sum(axis=1), blank[rows].sum(axis=1), counts, most)[:, at]
    open_cells: NDArray[np.bool_] = ~lost & ~unopposed & ~alike
    return open_cells


def _numbered(said: NDArray[np.int32]) -> NDArray[np.int64]:
    """Each cell's own wrong answers as 1, 2, 3 …; what is below stays."""
    ranks = np.sort(said, axis=1)
    new = np.ones(ranks.shape, dtype=bool)
    new[:, 1:] = ranks[:, 1:] != ranks[:, :-1]
    numbers = np.cumsum(new & (ranks > 0), axis=1)
    places = np.argsort(np.argsort(said, axis=1, kind="stable"), axis=1, kind="stable")
    return np.where(said > 0, np.take_along_axis(numbers, places, 1), said).astype(np.int64)


def _plans(
    samples: int, ks: Sequence[int], orders: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], list[int], bool]]:
    """Which samples to take, ``[subsets, taken]``, for which places of `ks`, and whether they were drawn at random: of
    random orders, each k takes the first."""
    drawn = []
    for place, k in enumerate(ks):
        if k <= samples and math.comb(samples, k) <= orders:
            yield np.array(list(combinations(range(samples), k)), dtype=np.int64), [place], False
        elif k <= samples:
            drawn.append(place)
    if drawn:
        rng = np.random.default_rng(seed)
        longest = max(ks[place] for place in drawn)
        yield rng.permuted(np.tile(np.arange(samples), (orders, 1)), axis=1)[:, :longest], drawn, True


class _Election:
    """Cells whose samples vote: `answers` and `weights`, ``[cells, samples]``."""

    def __init__(self, answers: NDArray[np.int64], weights: Floats):
        self.cells, self.kinds = len(answers), int(answers.max()) + 1
        self.votes = answers >= 0
        self.at = np.where(self.votes, answers, 0) + self.kinds * np.arange(self.cells)[:, None]
        self.weights = np.where(self.votes, weights, 0.0)
        self.tolerance = _TIED * self.weights.sum(axis=1, keepdims=True)

    def won(self, order: NDArray[np.int64], ks: Sequence[int]) -> Floats:
        """What the correct answer wins of the vote of the first k of `order`, ``[cells, ks]``; `ks` ascend."""
        won = np.empty((self.cells, len(ks)))
        totals, named = np.zeros((2, self.cells * self.kinds))
        before = 0
        for column, k in enumerate(ks):
            added = order[before:k]
            at = self.at[:, added].ravel()
            totals += np.bincount(at, self.weights[:, added].ravel(), len(totals))
            named += np.bincount(at, self.votes[:, added].ravel(), len(totals))
            before = k
            standing = np.where(named > 0, totals, -np.inf).reshape(self.cells, self.kinds)
            leading = (standing >= standing.max(axis=1, keepdims=True) - self.tolerance) & np.isfinite(standing)
            won[:, column] = leading[:, 0] / np.maximum(leading.sum(axis=1), 1)
        return won
