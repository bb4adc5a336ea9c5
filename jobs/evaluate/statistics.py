"""What a number is worth: intervals for one point, and differences between two points, over the same items.

The unit that was drawn at random is the item, not the sample: 64 answers to one question are not 64 questions. So
resampling draws whole items (with all their samples), and every comparison is paired, both points being computed on
the same draw. Arrays are ``[items, points]``, or ``[resamples, points]``; nothing here knows what a policy is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
"""As many as the paper took."""

_ROUNDING = 1e-12
"""Differences below it are those of sums in another order, not of points."""

_DRAWN_AT_ONCE = 1 << 22
"""Item draws held in memory at a time: 32 MB, however many items there are."""


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
    """Two-sided, from the bootstrap; never below what that many draws can tell: 0.0002 for very many items, 0.001 for
    30. It is below 5% where the interval excludes 0."""


@dataclass(frozen=True)
class Estimate:
    """A share, with what it is worth."""

    value: float
    """NaN where nothing was asked."""
    interval: Interval
    """Wilson's, for the number of independent trials that the samples are worth."""
    bootstrap: Interval
    """Over items, with all their samples."""
    difference: Difference | None
    """From the reference, paired by item; None where there is none."""


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
    shares = np.empty((points, resamples)).T  # what is done with them goes along columns
    start = 0
    for times in _draws(items, seed, resamples):
        stop = start + times.shape[1]
        with np.errstate(invalid="ignore"):
            np.divide(correct.T @ times, graded.T @ times, out=shares[start:stop].T)
        start = stop
    return shares


def _draws(items: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each item is in each resample, ``[items, resamples]``, some resamples at a time."""
    if items * resamples <= _DRAWN_AT_ONCE:
        yield _all_drawn(items, seed, resamples)
        return
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN_AT_ONCE // items)
    for start in range(0, resamples, step):
        yield _times(rng, items, min(step, resamples - start))


@lru_cache(maxsize=1)
def _all_drawn(items: int, seed: int, resamples: int) -> Floats:
    """The points of a task are resampled in several calls, each with the same draws."""
    return _times(np.random.default_rng(seed), items, resamples)


def _times(rng: np.random.Generator, items: int, resamples: int) -> Floats:
    drawn = rng.integers(0, items, size=(resamples, items)) + items * np.arange(resamples)[:, None]
    times = np.bincount(drawn.ravel(), minlength=resamples * items).reshape(resamples, items)
    return np.ascontiguousarray(times.T, dtype=np.float64)


def percentile_intervals(resampled: Floats, items: int) -> list[Interval]:
    """The middle 95% of each column of values resampled from `items`, ``[resamples, points]``; NaN where all are.

    A little more than the middle 95%: so much that it covers the truth in 95% of cases with few items too, of whose
    spread a plain percentile interval knows as little as a z interval does (:func:`_tail`). NaNs are left out.
    """
    tail = _tail(items)
    return [_between(values, tail) for values in _ascending(resampled)]


def paired_differences(values: Floats, resampled: Floats, reference: Floats, items: int) -> list[Difference]:
    """How points differ from others: `values`, ``[points]``, as observed.

    `resampled` and `reference` are their columns of :func:`resampled_shares`, ``[resamples, points]``, drawn from
    `items`; a `reference` of ``[resamples, 1]`` is that of every point.
    """
    differences = np.subtract(resampled, reference, order="F")
    differences[np.abs(differences) < _ROUNDING] = 0
    tail = _tail(items)
    found, tails = [], []
    for drawn in _ascending(differences):
        # One is added to both counts: the observed data are a draw too, so that p is never 0 (Davison and Hinkley
        # 1997, section 4.4).
        below = (1 + int(np.searchsorted(drawn, 0, side="right"))) / (1 + drawn.size)
        above = (1 + drawn.size - int(np.searchsorted(drawn, 0, side="left"))) / (1 + drawn.size)
        found.append(_between(drawn, tail))
        tails.append(min(below, above))
    return [
        Difference(float(value), interval, p_value)
        for value, interval, p_value in zip(values, found, _p_values(np.array(tails), items), strict=True)
    ]


@lru_cache(maxsize=64)
def _tail(items: int) -> float:
    """The share of resamples beyond either end of a 95% interval, for so many `items`.

    That of the expanded percentile interval (Hesterberg 2015, *What Teachers Should Know About the Bootstrap*, section
    5.1): a percentile interval is too narrow by sqrt((n-1)/n), and by z in the place of t. 1.9% for 30 items, 2.5% for
    very many. One item tells nothing: all resamples are alike.
    """
    if items < 2:
        return 0.0
    return float(ndtr(-math.sqrt(items / (items - 1)) * stdtrit(items - 1, 0.5 + CONFIDENCE / 2)))


def _p_values(tails: Floats, items: int) -> list[float]:
    """Two-sided p-values from the shares of resamples beyond 0, such that p < 5% where the interval excludes 0."""
    if items < 2:
        return [1.0] * len(tails)
    scores = ndtri(np.minimum(tails, 0.5)) * math.sqrt((items - 1) / items)
    return [float(min(1.0, 2 * each)) for each in stdtr(items - 1, scores)]


def estimates(
    correct: Floats,
    graded: Floats,
    seed: int,
    reference: tuple[float, Floats] | None = None,
    worth: Floats | float = 1.0,
) -> list[Estimate]:
    """What each point's share, `correct` of `graded`, is worth.

    `reference` is the share that others are compared with, as observed and resampled ``[resamples]``. `worth`,
    ``[points]``, is how many samples a `graded` one stands for: an item's score made from 64 samples counts for as
    many independent trials at most, and for one at least, as the spread between items tells.
    """
    resampled = resampled_shares(correct, graded, seed)
    graded = np.broadcast_to(graded, correct.shape)
    with np.errstate(invalid="ignore"):
        values = correct.sum(axis=0) / graded.sum(axis=0)
    weights = np.broadcast_to(worth, values.shape)
    trials = [
        effective_trials(right * weight, asked * weight)
        for right, asked, weight in zip(correct.T, graded.T, weights, strict=True)
    ]
    differences: list[Difference] | list[None] = [None] * len(values)
    if reference is not None:
        differences = paired_differences(values - reference[0], resampled, reference[1][:, None], len(correct))
    return [
        Estimate(float(value), wilson(float(value), n), middle, difference)
        for value, n, middle, difference in zip(
            values, trials, percentile_intervals(resampled, len(correct)), differences, strict=True
        )
    ]


def _ascending(resampled: Floats) -> Iterator[Floats]:
    """Each column in order, without its NaNs."""
    for column in np.sort(resampled.T, axis=1):  # NaNs come last
        yield column[: column.size - np.count_nonzero(np.isnan(column))] if np.isnan(column[-1]) else column


def _between(ascending: Floats, tail: float) -> Interval:
    """All but a share of `tail` at either end, interpolated as numpy's quantiles are. NaN of nothing."""
    if not ascending.size:
        return Interval(math.nan, math.nan)
    ends = []
    for quantile in (tail, 1 - tail):
        whole, part = divmod(quantile * (ascending.size - 1), 1)
        low, high = ascending[int(whole)], ascending[min(int(whole) + 1, ascending.size - 1)]
        ends.append(float(low + part * (high - low)))
    return Interval(*ends)
