"""What a number is worth: intervals for one point, and differences between two points, over the same items.

The unit that was drawn at random is the item, not the sample: 64 answers to one question are not 64 questions. So
intervals are of means over items, each item having one value, and every comparison is paired by item. A sample whose
verdict is ``error`` was asked and may have been right: intervals reach from what they are if all of those are wrong to
what they are if all are right. Arrays are ``[items, points]``, or ``[resamples, points]``; nothing here knows what a
policy is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from jobs.evaluate.stats.bounded import (
    CONFIDENCE,
    Floats,
    criticals,
    lower_limits,
    p_value,
    share_limits,
    skewed_lower_limits,
    upper_limits,
    zero_statistics,
)

ColumnIndex = slice | Sequence[int] | NDArray[np.int64]

RESAMPLES = 10_000
"""As many as the paper took."""

_ROUNDING = 1e-12
"""Differences below it are those of sums in another order, not of points."""

_DRAWN_AT_ONCE = 1 << 23
"""Item draws held in memory at a time: 64 MB, however many items there are."""


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
    """The score interval of a paired difference, whatever samples with errors would have been."""
    p_value: float
    """Two-sided, of the same score test: below 5% where the interval excludes 0."""
    range: Interval
    """From what it is if errors were wrong for this point and right for the other, to the contrary."""

    @property
    def has_range(self) -> bool:
        return self.range.high - self.range.low > _ROUNDING


@dataclass(frozen=True)
class ShareEstimate:
    """A share, with what it is worth."""

    value: float
    """Of what could be graded. NaN where nothing was."""
    interval: Interval
    """The score interval over items, whatever samples with errors would have been."""
    bootstrap: Interval
    """Over items, with all their samples that could be graded."""
    difference: Difference | None
    """From the reference, paired by item; None where there is none."""
    range: Interval
    """The share if all errors are wrong, and if all are right; both are `value` where there is none."""

    @property
    def has_range(self) -> bool:
        return self.range.high - self.range.low > _ROUNDING


@dataclass(frozen=True)
class Sums:
    """Numbers of points, ``[items, points]``: a point's is the sum of `right` over that of `asked`."""

    right: Floats
    asked: Floats

    @property
    def means(self) -> Floats:
        """``[points]``; NaN where nothing was asked."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.right.sum(axis=0) / self.asked.sum(axis=0))

    @property
    def items(self) -> Floats:
        """That were asked, ``[points]``."""
        return (self.asked > 0).sum(axis=0).astype(np.float64)

    @property
    def values(self) -> Floats:
        """What each item says of the point's number, ``[items, points]``: their mean is that number.

        right / asked, where items were asked equally often; else a ratio's linear part (Cochran, *Sampling
        Techniques*, section 6.3). Items that were not asked have the point's number, and so say nothing.
        """
        with np.errstate(invalid="ignore"):
            residuals = self.right - self.means * self.asked
            values = self.means + len(self.right) * residuals / self.asked.sum(axis=0)
        return np.asarray(np.nan_to_num(values))

    def __getitem__(self, columns: ColumnIndex) -> Sums:
        return Sums(self.right[:, columns], self.asked[:, columns])

    def beside(self, other: Sums) -> Sums:
        """The points of both, on the same items."""
        return Sums(np.hstack([self.right, other.right]), np.hstack([self.asked, other.asked]))

    def rows(self, rows: NDArray[np.int64]) -> Sums:
        """On some of the items."""
        return Sums(self.right[rows], self.asked[rows])


@dataclass(frozen=True)
class Shares:
    """Shares of correct answers, ``[items, points]``, of which some samples may have errors for verdicts."""

    graded: Sums
    """Without the samples with errors."""
    least: Sums
    """As if all of those were wrong; `graded` itself where there is none."""
    most: Sums
    """As if all were right."""

    @classmethod
    def certain(cls, right: Floats, asked: Floats) -> Shares:
        """Where there is no error."""
        sums = Sums(right, np.broadcast_to(asked, right.shape))
        return cls(sums, sums, sums)

    @property
    def are_certain(self) -> bool:
        return self.least is self.graded

    def __getitem__(self, columns: ColumnIndex) -> Shares:
        return self._each(lambda sums: sums[columns])

    def rows(self, rows: NDArray[np.int64]) -> Shares:
        return self._each(lambda sums: sums.rows(rows))

    def beside(self, other: Shares) -> Shares:
        graded = self.graded.beside(other.graded)
        if self.are_certain and other.are_certain:
            return Shares(graded, graded, graded)
        return Shares(graded, self.least.beside(other.least), self.most.beside(other.most))

    def _each(self, change: Callable[[Sums], Sums]) -> Shares:
        graded = change(self.graded)
        if self.are_certain:
            return Shares(graded, graded, graded)
        return Shares(graded, change(self.least), change(self.most))


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


def estimates(shares: Shares, seed: int, reference: Shares | None = None) -> list[ShareEstimate]:
    """What each point's share is worth, by itself and against the one point of `reference`."""
    graded = shares.graded
    low, high = intervals(shares)
    resampled = percentile_intervals(resampled_shares(graded.right, graded.asked, seed), len(graded.right))
    compared: Sequence[Difference | None] = [None] * len(low)
    if reference is not None:
        compared = paired_differences(shares, reference)
    return [
        ShareEstimate(float(value), Interval(float(least), float(most)), middle, difference, span)
        for value, least, most, middle, difference, span in zip(
            graded.means, low, high, resampled, compared, _ranges(shares), strict=True
        )
    ]


def intervals(shares: Shares, normal: float | None = None) -> tuple[Floats, Floats]:
    """The limits of each point's share, ``[points]``; NaN where nothing was graded.

    `normal` is how many standard errors they reach where items are many: 1.96 if None.
    """
    least, most = shares.least, shares.most
    low, high = share_limits(least.values, most.values, least.items, normal)
    unknown = shares.graded.items == 0
    return np.where(unknown, math.nan, low), np.where(unknown, math.nan, high)


def mean_intervals(sums: Sums, least: float, most: Sequence[float]) -> list[Interval]:
    """Of means of numbers that are `least` at the least and, ``[points]``, at `most` so many; NaN where it is unknown.

    One item, of numbers without a bound, tells nothing of the mean.
    """
    values, items = sums.values, sums.items
    z = criticals(items)
    low = np.minimum(lower_limits(values, items, least, z), skewed_lower_limits(values, items, z))
    high = upper_limits(values, items, np.array(most), z)
    unknown = (items == 0) | ((items < 2) & np.isinf(most))
    return [
        Interval(math.nan, math.nan) if none else Interval(max(least, float(start)), min(float(end), bound))
        for start, end, none, bound in zip(low, high, unknown, most, strict=True)
    ]


def paired_differences(points: Shares, references: Shares) -> list[Difference]:
    """How `points` differ from `references`, which are as many, or one."""
    lowest, highest = extremes(points, references)
    values = points.graded.means - references.graded.means
    items = asked_of_either(points.least, references.least)
    z = criticals(items)
    low = np.maximum(lower_limits(lowest, items, -1.0, z), -1)
    high = np.minimum(upper_limits(highest, items, 1.0, z), 1)
    p_values = p_value(zero_statistics(lowest, items, 1.0), items)
    if highest is not lowest:
        p_values = np.maximum(p_values, p_value(zero_statistics(highest, items, 1.0), items))
        p_values = np.where(lowest.mean(axis=0) * highest.mean(axis=0) <= 0, 1.0, p_values)
    ranges = [
        Interval(float(least), float(most))
        for least, most in zip(
            points.least.means - references.most.means, points.most.means - references.least.means, strict=True
        )
    ]
    return [
        Difference(
            float(value),
            Interval(math.nan, math.nan) if math.isnan(value) else Interval(float(least), float(most)),
            math.nan if math.isnan(value) else float(chance),
            span,
        )
        for value, least, most, chance, span in zip(values, low, high, p_values, ranges, strict=True)
    ]


def asked_of_either(points: Sums, references: Sums) -> Floats:
    """How many items say something of a difference: ``[points]``."""
    return ((points.asked > 0) | (references.asked > 0)).sum(axis=0).astype(np.float64)


def differences_by_item(points: Sums, references: Sums) -> Floats:
    """What each item says of a difference, ``[items, points]``: their mean is the difference."""
    differences = points.values - references.values
    return np.where(np.abs(differences) < _ROUNDING, 0, differences)


def extremes(points: Shares, references: Shares) -> tuple[Floats, Floats]:
    """:func:`differences_by_item` where they are least and where they are most, by what errors could have been."""
    lowest = differences_by_item(points.least, references.most)
    if points.are_certain and references.are_certain:
        return lowest, lowest
    return lowest, differences_by_item(points.most, references.least)


def _ranges(shares: Shares) -> Iterator[Interval]:
    for low, high in zip(shares.least.means, shares.most.means, strict=True):
        yield Interval(float(low), float(high))


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
