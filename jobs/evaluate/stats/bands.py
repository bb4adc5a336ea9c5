"""Bands that hold a whole curve: all its points at once, in 95% of cases.

Of ten intervals at 95% one misses four times of ten. In a sup-t band (Montiel Olea and Plagborg-Møller 2019,
*Simultaneous Confidence Bands*) every interval reaches as many standard errors as the largest of all points' deviations
does in 95% of draws, points being correlated as they are: they are answers to the same items.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from jobs.evaluate.stats.bounded import CONFIDENCE, Floats
from jobs.evaluate.stats.intervals import Interval, Shares, intervals

_DRAWS = 20_000
_SPREAD = 1e-9


def band(shares: Shares, seed: int) -> tuple[Interval, ...]:
    """An interval of each point of a curve, wide enough for all of them together."""
    low, high = intervals(shares, largest_deviation(shares, CONFIDENCE, seed))
    return tuple(Interval(float(least), float(most)) for least, most in zip(low, high, strict=True))


def largest_deviation(shares: Shares, confidence: float, seed: int, sides: int = 2) -> float:
    """How many standard errors the largest of the points' deviations reaches with that `confidence`, in size or, of
    one of their `sides`, upwards."""
    chance = confidence if sides == 1 else (1 + confidence) / 2
    largest_so_far = float(ndtri(chance))
    for sums in {id(each): each for each in (shares.least, shares.most)}.values():
        deviations = np.random.default_rng(seed).standard_normal((_DRAWS, sums.right.shape[1]))
        deviations = deviations @ _root(sums.values).T
        largest = (deviations if sides == 1 else np.abs(deviations)).max(axis=1)
        largest_so_far = max(largest_so_far, float(np.quantile(largest, confidence)))
    return largest_so_far


def _root(values: Floats) -> Floats:
    """A square root of the correlations of `values`, ``[items, points]``; a point without a spread has none."""
    centred = values - values.mean(axis=0)
    sizes = np.sqrt((centred**2).sum(axis=0))
    spread = sizes > _SPREAD
    centred = np.where(spread, centred / np.where(spread, sizes, 1), 0.0)
    correlations = centred.T @ centred + np.diag(np.where(spread, 0.0, 1.0))
    eigenvalues, vectors = np.linalg.eigh(correlations)
    return np.asarray(vectors * np.sqrt(np.maximum(eigenvalues, 0)))
