"""The best of several runs, and what it is worth once it is counted that it was chosen for being best.

The largest of several accuracies is more than the accuracy of its run: luck was chosen too. Five equal runs of 30 items
have a largest one of 7 points above the truth. So beside it there are

- the *held-out* estimate: the best run on a random half of the items, scored on the other half, over many such halves;
- an interval that holds both the true accuracy of the run that was chosen and that of the truly best run. Its lower end
  is the chosen run's, from a band that holds all runs at once (projection, as in Andrews, Kitagawa and McCloskey 2024,
  *Inference on Winners*). Its upper end is the largest of all runs' upper ends, each at its usual 97.5%: the truly best
  run's is among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jobs.evaluate.stats.bands import largest_deviation
from jobs.evaluate.stats.bounded import CONFIDENCE
from jobs.evaluate.stats.intervals import Interval, Shares, Sums, intervals

HALVES = 1000
"""Random halves; each is chosen by and scored on."""


def best_interval(shares: Shares, seed: int) -> Interval:
    """Of the best of the points of `shares`, ``[items, runs]``."""
    means = shares.graded.means
    if np.isnan(means).all():
        return Interval(math.nan, math.nan)
    low, _ = intervals(shares, largest_deviation(shares, 0.5 + CONFIDENCE / 2, seed, sides=1))
    _, high = intervals(shares)
    chosen = means == np.nanmax(means)
    return Interval(float(low[chosen].min()), float(np.nanmax(high)))


def held_out(sums: Sums, seed: int) -> float:
    """What the run that is best on half of the items scores on the others, on average. NaN of one item."""
    return held_out_within(sums, [sums.right.shape[1]], seed)[0]


def held_out_within(sums: Sums, affordable: Sequence[int], seed: int) -> list[float]:
    """Of the first so many points, for each of `affordable`: what is best on half of the items, scored on the others.

    The mean over many random halves, either way; NaN of one item.
    """
    items = len(sums.right)
    if items < 2:
        return [math.nan] * len(affordable)
    rng = np.random.default_rng(seed)
    drawn = np.argsort(rng.random((HALVES, items)), axis=1) < items // 2
    halves = np.vstack([drawn, ~drawn]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        chosen_by = (halves @ sums.right) / (halves @ sums.asked)
        scored_on = ((1 - halves) @ sums.right) / ((1 - halves) @ sums.asked)
    expected = []
    for first in affordable:
        best = np.where(np.isnan(chosen_by[:, :first]), -math.inf, chosen_by[:, :first])
        tied = (best == best.max(axis=1, keepdims=True)) & ~np.isnan(scored_on[:, :first])
        counts = tied.sum(axis=1)
        scores = np.where(tied, scored_on[:, :first], 0.0).sum(axis=1)[counts > 0] / counts[counts > 0]
        expected.append(float(scores.mean()) if scores.size else math.nan)
    return expected
