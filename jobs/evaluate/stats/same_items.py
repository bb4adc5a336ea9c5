"""How far a mean could be off had the same items been sampled again: how new samples, not new items, would change it.

The other intervals ask what other questions of the same kind would give. For a benchmark that is all there is of its
kind, or to tell whether a run repeats, what matters is the spread of samples within each item. It can be seen where
items have two samples at least.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from jobs.evaluate.stats.bounded import CONFIDENCE, Floats
from jobs.evaluate.stats.intervals import Interval, Shares, Sums


def share_intervals(shares: Shares) -> list[Interval | None]:
    """Of each point's share of correct samples; None where an item has one sample.

    The score interval of a stratified share. Of N samples in all, moving the items' chances so that their mean moves
    by d changes the variance of the share by d / N at most, since p(1 - p) changes by less than p does. So
    d² <= z²(V + d / N), V being the variance as estimated within items, gives d = h + sqrt(h² + z²V), h = z² / 2N:
    4 / N where all samples of each item agree, as Wilson's interval has.
    """
    low, _ = _reach(shares.least)
    _, high = _reach(shares.most)
    unknown = np.isnan(low) | np.isnan(high) | (shares.graded.items == 0)
    return [
        None if none else Interval(max(0.0, float(least)), min(1.0, float(most)))
        for least, most, none in zip(low, high, unknown, strict=True)
    ]


def token_intervals(tokens: Floats, squares: Floats, samples: Floats) -> list[Interval | None]:
    """Of each point's mean tokens: all three ``[items, points]``, sums over an item's samples. A t interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        within = np.maximum(squares - tokens**2 / samples, 0) / (samples - 1)
    variance = (samples * np.where(samples > 0, within, 0.0)).sum(axis=0) / samples.sum(axis=0) ** 2
    means = tokens.sum(axis=0) / samples.sum(axis=0)
    half = _quantiles(samples) * np.sqrt(variance)
    return [
        None if math.isnan(reach) else Interval(max(0.0, float(mean - reach)), float(mean + reach))
        for mean, reach in zip(means, half, strict=True)
    ]


def _reach(sums: Sums) -> tuple[Floats, Floats]:
    """The limits of a share, ``[points]``; NaN where they cannot be known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        chances = sums.right / sums.asked
        within = sums.asked**2 * chances * (1 - chances) / (sums.asked - 1)
        total = sums.asked.sum(axis=0)
        variance = np.where(sums.asked > 0, within, 0.0).sum(axis=0) / total**2
        z = _quantiles(sums.asked)
        half = z * z / (2 * total)
        reach = half + np.sqrt(half**2 + z * z * variance)
    return sums.means - reach, sums.means + reach


def _quantiles(samples: Floats) -> Floats:
    """Student's, for as many degrees of freedom as there are samples beyond each item's first; NaN where it is none."""
    freedom = samples.sum(axis=0) - (samples > 0).sum(axis=0)
    alone = (samples == 1).any(axis=0) | (freedom < 1)
    return np.where(alone, math.nan, stdtrit(np.maximum(freedom, 1), 0.5 + CONFIDENCE / 2))
