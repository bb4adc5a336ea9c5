"""What a number is worth: intervals for one point, and differences between two points, over the same items.

The unit that was drawn at random is the item, not the sample: 64 answers to one question are not 64 questions. So
resampling draws whole items (with all their samples), and every comparison is paired, both points being computed on
the same draw. Arrays are ``[items, points]``; nothing here knows what a policy is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
"""As many as the paper took."""

_ROUNDING = 1e-12
"""Differences below it are those of sums in another order, not of points."""

_DRAWN_AT_ONCE = 1 << 22
"""Item draws held in memory at a time: 32 MB of indices, however many items there are."""


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One point minus another on the same items."""

    value: float
    interval: Interval
    p_value: float
    """Two-sided, from the bootstrap; never below 1 / (resamples + 1), which is what that many draws can tell."""


def wilson(share: float, n: float) -> Interval:
    """The Wilson score interval of a share observed in `n` independent trials (Wilson 1927). NaN when `n` is 0.

    Unlike the textbook's ± it stays inside [0, 1], and has a width when the share is 0 or 1.
    """
    if not n > 0:
        return Interval(math.nan, math.nan)
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # Shares of 0 and 1 touch their end exactly, and none is outside; rounding must not say otherwise.
    low = 0.0 if share == 0 else (centre - half) / scale
    high = 1.0 if share == 1 else (centre + half) / scale
    return Interval(min(low, share), max(high, share))


def effective_trials(correct: Floats, graded: Floats) -> float:
    """How many independent trials the samples of one point are worth: between its items and its samples.

    `correct` and `graded`, both ``[items]``, count samples. The variance of the share is that of a ratio estimator
    over items (Cochran, *Sampling Techniques*, section 6.3); a Wilson interval for so many trials has the right
    width both when an item's samples all agree (each item then counts once) and when they are as good as independent.
    """
    asked = graded > 0
    items, samples = int(asked.sum()), float(graded.sum())
    if items <= 1:
        return float(items)
    share = correct.sum() / samples
    residuals = correct[asked] - share * graded[asked]
    variance = items / (items - 1) * float(residuals @ residuals) / samples**2
    if variance <= 0:
        return float(items)
    return float(np.clip(share * (1 - share) / variance, items, samples))


def resampled_shares(correct: Floats, graded: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """The share of correct samples at each point, ``[resamples, points]``, had other items been drawn.

    `correct` and `graded`, ``[items, points]``, count samples; a `graded` of ``[items, 1]`` is that of every point.
    Each resample draws items with replacement, the same ones for every point: columns of the result are paired. A
    point none of whose samples was drawn is NaN there.
    """
    items, points = correct.shape
    rng = np.random.default_rng(seed)
    shares = np.empty((points, resamples)).T  # what is done with them goes along columns
    step = max(1, _DRAWN_AT_ONCE // items)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, items, size=(rows, items)) + items * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)
        with np.errstate(invalid="ignore"):
            shares[start : start + rows] = (times @ correct) / (times @ graded)
    return shares


def percentile_interval(resampled: Floats) -> Interval:
    """The middle 95% of resampled values, ``[resamples]``. NaN when none is a number."""
    values = resampled[~np.isnan(resampled)]
    if not values.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(values, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Interval(float(low), float(high))


def paired_difference(value: float, resampled: Floats, reference: Floats) -> Difference:
    """The difference of two points, `value` as observed, from their columns of :func:`resampled_shares`."""
    differences = resampled - reference
    differences = differences[~np.isnan(differences)]
    differences[np.abs(differences) < _ROUNDING] = 0
    # One is added to both counts: the observed data are a draw too, so that p is never 0 (Davison and Hinkley 1997).
    below = (1 + np.count_nonzero(differences <= 0)) / (1 + differences.size)
    above = (1 + np.count_nonzero(differences >= 0)) / (1 + differences.size)
    return Difference(value, percentile_interval(differences), float(min(1.0, 2 * min(below, above))))
