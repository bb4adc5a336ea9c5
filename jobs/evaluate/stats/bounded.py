"""Score intervals for means of numbers that have bounds: shares of 0 … 1, their differences of -1 … 1, token counts.

A mean is believed when the data would not be surprising under it. The distribution that makes the data likeliest among
all with mean μ, on what was observed and on the bounds, which may not have been, is that of empirical likelihood (Owen
2001, *Empirical Likelihood*, section 2; with mass on a bound as in Honda and Takemura 2010, *An Asymptotically Optimal
Bandit Algorithm for Bounded Support Models*). Its weights of n observations x are, for μ above their mean m and some
c at or beyond the upper bound,

    p = (c - μ) / n(c - x),   so that its variance is V = (c - μ)(μ - m),

whatever mass is missing lying on the bound, where c then is. The limit at which n(μ - m)² = z²V (Wilson 1927) is

    μ = m + (c - m) z² / (n + z²),   c being where  mean of (c - m)/(c - x) = 1 + z²/n,  or the bound if that is nearer.

With one sample an item this is Wilson's interval of a share and Tango's (1998) of a difference of paired shares. With
several it is a t interval where there is much to see, and as careful as those where there is not: 30 items without a
difference still leave room for one that 30 items would often not show. Arrays are ``[items, columns]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, stdtr, stdtrit

Floats = NDArray[np.float64]

CONFIDENCE = 0.95

_WIDER = 1.02
"""How much wider than Student's t intervals are, so that with one sample an item, where a share of n items takes n + 1
values, none covers less than 93%: coverage dips by up to a point and a half below what it is on average."""

_SAME = 1e-12
"""Numbers that differ by less differ by rounding."""

_NUMBERS_AT_ONCE = 1 << 16
"""Observations looked at together: 512 KB, which a core's cache holds."""

_NEWTON_STEPS = 24
_HALVINGS = 32


@lru_cache(maxsize=256)
def critical(items: int, normal: float | None = None) -> float:
    """How many standard errors 95% intervals reach, from so many `items`; infinite for one.

    `normal` is what it would be with very many items: 1.96 if None, more for a band of several intervals.
    """
    if items < 2:
        return np.inf
    chance = 0.5 + CONFIDENCE / 2 if normal is None else float(ndtr(normal))
    return _WIDER * float(stdtrit(items - 1, chance))


def criticals(items: Floats, normal: float | None = None) -> Floats:
    """:func:`critical` of each column."""
    return np.array([critical(int(each), normal) for each in items])


def p_value(statistic: Floats, items: Floats) -> Floats:
    """Two-sided, of standard errors from the hypothesis: below 5% where a 95% interval excludes it."""
    with np.errstate(invalid="ignore"):
        two_sided = 2 * stdtr(np.maximum(items - 1, 1), -np.abs(statistic) / _WIDER)
    return np.asarray(np.where(items < 2, 1.0, two_sided))


def upper_limits(values: Floats, items: Floats, bound: Floats | float, z: Floats | float) -> Floats:
    """The largest mean that is believed, ``[columns]``, of `values` up to `bound`, ``[columns]``.

    Where that is infinite, nothing above the largest of the values is thought of. `items` of each column count; the
    others have its mean as their value. `z` is :func:`critical`'s.
    """
    shape = values.shape[1]
    items, bound, z = (np.broadcast_to(np.asarray(each, dtype=np.float64), shape) for each in (items, bound, z))
    limits = np.empty(shape)
    for piece in _pieces(values):
        limits[piece] = _upper(values[:, piece], items[piece], bound[piece], z[piece])
    return limits


def lower_limits(values: Floats, items: Floats, bound: Floats | float, z: Floats | float) -> Floats:
    """The smallest mean that is believed, of `values` down to `bound`: see :func:`upper_limits`."""
    return -upper_limits(-values, items, -np.asarray(bound), z)


def _upper(values: Floats, items: Floats, bound: Floats, z: Floats) -> Floats:
    mean = values.mean(axis=0)
    deviations = values - mean
    largest = deviations.max(axis=0)
    room = np.where(np.isinf(bound), largest, np.maximum(bound - mean, largest))  # c - m is at least that
    squared = z * z
    spread = largest > _SAME
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = 1 / room
        # Where the largest deviation alone makes up for all others: right of the root of a convex function, from
        # where Newton's steps never cross it.
        total = len(values) + squared
        start = total / (1 + total) / largest
    active = spread & np.isfinite(squared)
    u = np.where(active, np.minimum(start, nearest), nearest)  # 1 / (c - m)
    for _ in range(_NEWTON_STEPS):
        if not active.any():
            break
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios = 1 / (1 - u * deviations)
            excess = ratios.sum(axis=0) - len(values) - squared
            slope = (np.einsum("ij,ij->j", ratios, ratios) - ratios.sum(axis=0)) / u
            step = excess / slope
        active &= np.isfinite(step) & (step > 1e-13 * u)  # below 0: the bound is nearer than the root, or it is found
        u = np.where(active, u - step, u)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isinf(squared), 1.0, squared / (items + squared))
        reach = np.where(u > 0, 1 / u, np.where(spread, np.inf, 0.0))
    return np.asarray(mean + share * reach)


def rare_lower_limits(values: Floats, items: Floats, tail: float) -> Floats:
    """A lower limit of the mean of `values` in 0 … 1 of which few are above 0: the exact one that `tail` miss.

    A score interval's lower limit is too high where one or two of 30 are seen: its coverage drops to 84%. There the
    other end cannot be missed, so all that may miss are this one's, as in Brown, Cai and DasGupta 2001, *Interval
    Estimation for a Binomial Proportion*, section 4.1.1; with Clopper and Pearson's limit, for s = (Σx)²/Σx² successes
    of size Σx²/Σx each, which have the sum and the variance of `values` (Fay and Feuer 1997).
    """
    others = len(values) - items  # do not count, and are there with the mean as their value
    mean = values.mean(axis=0)
    first, second = items * mean, np.einsum("ij,ij->j", values, values) - others * mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        successes = np.clip(first * first / second, 0, items)
        limits = second / first * betaincinv(successes, items - successes + 1, tail)
    return np.asarray(np.where(first > _SAME, limits, 0.0))


def skewed_lower_limits(values: Floats, items: Floats, z: Floats) -> Floats:
    """A lower limit of the mean of `values` with a long upper tail, which a score interval's is above too often.

    A t interval's, after the cubic that takes the skewness out of t (Hall 1992, *On the Removal of Skewness by
    Transformation*). Of 30 lengths whose logarithms have a standard deviation of 0.8, the score interval's is above the
    mean in 3.2% of cases, this one in 1.7%. Infinite where the tail is a lower one.
    """
    mean = values.mean(axis=0)
    deviations = values - mean
    second, third = (np.asarray((deviations**power).sum(axis=0)) / items for power in (2, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = third / second**1.5 / np.sqrt(items) / 3
        reach = (np.cbrt(1 + 3 * bend * (z - bend / 2)) - 1) / bend
        limits = mean - np.sqrt(second / (items - 1)) * reach
    return np.asarray(np.where((second > 0) & (bend > _SAME) & np.isfinite(limits), limits, np.inf))


def share_limits(least: Floats, most: Floats, items: Floats, normal: float | None = None) -> tuple[Floats, Floats]:
    """The limits of the mean of shares of 1: the lower one of `least`, the upper one of `most`; `normal` as of
    :func:`critical`."""
    z = criticals(items, normal)
    tail = 1 - CONFIDENCE if normal is None else 2 * float(ndtr(-normal))
    low = np.minimum(lower_limits(least, items, 0.0, z), rare_lower_limits(np.clip(least, 0, 1), items, tail))
    high = np.maximum(upper_limits(most, items, 1.0, z), 1 - rare_lower_limits(1 - np.clip(most, 0, 1), items, tail))
    return (
        np.clip(np.minimum(low, least.mean(axis=0)), 0, 1),
        np.clip(np.maximum(high, most.mean(axis=0)), 0, 1),
    )


def zero_statistics(values: Floats, items: Floats, bound: float) -> Floats:
    """How many standard errors the means of `values`, ``[columns]``, in -`bound` … `bound`, are from 0: 0 at the least.

    The z at which the limit of the interval is 0. McNemar's (1947) where values are -1, 0 and 1.
    """
    statistics = np.empty(values.shape[1])
    for piece in _pieces(values):
        part = values[:, piece]
        statistics[piece] = _from_zero(np.where(part.mean(axis=0) > 0, -part, part), items[piece], bound)
    return statistics


def _from_zero(values: Floats, items: Floats, bound: float) -> Floats:
    """Of means below 0: the weighted mean is 0 where the sum of x / (1 - u(x - m)) is, u being 1 / (c - m)."""
    mean = values.mean(axis=0)
    deviations = values - mean
    nearest = 1 / np.maximum(bound - mean, deviations.max(axis=0))
    low, high = np.zeros_like(mean), nearest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        weights = 1 / (1 - middle * deviations)
        below = (values * weights).sum(axis=0) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    reach = 1 / high
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = items * -mean / (reach + mean)
    return np.asarray(np.where(mean < -_SAME, np.sqrt(squared), 0.0))


def _pieces(values: Floats) -> Iterator[slice]:
    step = max(1, _NUMBERS_AT_ONCE // max(1, len(values)))
    for start in range(0, values.shape[1], step):
        yield slice(start, start + step)
