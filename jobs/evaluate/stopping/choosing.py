"""Which setting of a rule is taken: chosen on one half of the items, shown on the other, and the other way round.

The best of several settings on the items that chose it is better than it is (:mod:`jobs.evaluate.stats.choice`).
Cross-fitted, no item has a say in what is done with it, and all items are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.evaluate.stopping.probes import Ints, Matrix, Probes, Reals, Stops


def halves(items: int, seed: int) -> Ints:
    """Which half each item is in, 0 or 1, drawn by `seed`."""
    drawn = np.random.default_rng(seed).permutation(items)
    return np.asarray(drawn % 2)


def chosen(candidates: Sequence[tuple[Probes, Stops]], tolerance: float, seed: int) -> Ints:
    """The number of the candidate for each item, ``[items]``: on the items of the other half, it takes fewest tokens of
    those whose accuracy is within `tolerance` of the best there. Where the other half has no items, the first."""
    right = np.stack([_by_item(given(probes.correct, stops)) for probes, stops in candidates])
    spent = np.stack([_by_item(stops.thinking + stops.answers) for _, stops in candidates])
    half = halves(right.shape[1], seed)
    taken = np.zeros(right.shape[1], dtype=np.int64)
    for which in (0, 1):
        others = half != which
        if others.any():
            accuracy, tokens = right[:, others].mean(axis=1), spent[:, others].mean(axis=1)
            enough = accuracy >= accuracy.max() - tolerance - 1e-12
            taken[half == which] = int(np.argmin(np.where(enough, tokens, np.inf)))
    return taken


def given(matrix: Matrix, stops: Stops) -> Matrix:
    """What ``[items, samples, probes]`` says of the answers that a rule gives, ``[items, runs]``."""
    items = np.arange(matrix.shape[0])[:, None]
    return matrix[items, stops.sample, stops.probe]


def _by_item(values: Matrix) -> Reals:
    return np.asarray(values.mean(axis=1, dtype=np.float64))
