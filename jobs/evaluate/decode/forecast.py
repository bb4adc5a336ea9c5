"""How far a sweep is, in tokens and in steps: those that its units have, of those that they will have come to.

Units alone tell little. A few hundred long traces decode side by side, and for ten minutes not one of them ends. So
what counts is tokens, those of unfinished units too, and what all units will come to is foretold from the units that
are there. The short ones finish first; so that they do not mislead, the distribution of sizes is the product-limit
estimate (Kaplan and Meier, 1958), in which a unit that is under way counts as one longer than it is by now. What none
has come to yet is guessed: a unit longer than all others is half done, or as long as the plan assumes.

Tokens alone do not tell when a sweep ends: the last traces decode alone, and nothing makes them faster than one token
a step. So the units that are left, their sizes drawn evenly from that distribution, are laid into the seats that there
are, and the steps are counted until the last is done. What a step takes is for :mod:`jobs.evaluate.decode.pace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

LAID_OUT = 2000
"""Units, of all layouts together: fewer are laid out several times, with other sizes; what is before the last of more
only fills seats."""
LAYOUTS = 16
GOLDEN = (5**0.5 - 1) / 2
"""Whose multiples are spread evenly over the fractions, however many one takes."""


@dataclass(frozen=True)
class Progress:
    """What a sweep shows while it decodes."""

    tokens: int
    expected: int
    """Of all units, when they are done."""
    units: int
    """That are done."""
    under_way: int
    """Units that decode at once."""
    steps: float
    """Tokens, one after another, until the last unit is done."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Tokens that each replica of now has decoded, by its name."""


class Forecast:
    """Knows the sizes of a sweep's units, in tokens."""

    def __init__(self, planned: float):
        """`planned` is the mean size that the plan assumes."""
        self._planned = planned
        self._finished: NDArray[np.int64] = np.zeros(0, np.int64)
        """Ascending."""

    def finished(self, sizes: Iterable[int]) -> None:
        """Units that came to so many tokens."""
        fresh = np.fromiter(sizes, np.int64)
        if fresh.size:
            self._finished = np.sort(np.concatenate([self._finished, fresh]))

    def at(self, under_way: Iterable[tuple[int, float]], waiting: Iterable[int]) -> Progress:
        """With units under way that have so many tokens, and can have no more than so many, and others that wait: some
        may have tokens from before."""
        live, queued = list(under_way), np.fromiter(waiting, np.int64)
        begun = np.array([size for size, _ in live], np.int64)
        most = np.array([most for _, most in live], float)
        sizes = _Sizes(self._finished, np.concatenate([begun, queued]), self._planned, max(most, default=np.inf))
        tokens = int(self._finished.sum() + begun.sum() + queued.sum())
        expected = self._finished.sum() + np.minimum(most, sizes.mean(begun)).sum() + sizes.mean(queued).sum()
        steps = _steps(sizes, begun, most, queued) if live or queued.size else 0.0
        return Progress(tokens, max(tokens, round(expected)), self._finished.size, len(live), steps)


class _Sizes:
    """How the sizes of units are distributed, given those that finished and those that have come so far."""

    def __init__(self, finished: NDArray[np.int64], so_far: NDArray[np.int64], planned: float, most: float):
        """`planned` and `most`: what a unit comes to that is longer than all others, and what none exceeds."""
        longest = max(so_far.max(initial=0), finished.max(initial=0))
        beyond = max(longest, min(most, max(2.0 * longest, planned)))
        at_risk = np.arange(finished.size, 0, -1) + so_far.size - np.searchsorted(np.sort(so_far), finished)
        self._values = np.append(finished, beyond)
        """That a unit may come to, `[values]`."""
        self._longer = np.concatenate([[1.0], np.cumprod(1 - 1 / at_risk), [0.0]])
        """The share of units that have more than the first 0, 1, 2 … of them, `[values + 1]`."""
        share = self._longer[:-1] - self._longer[1:]
        self._above = np.append(np.cumsum((share * self._values)[::-1])[::-1], 0.0)
        """The sum of the values from each on, each times its share, `[values + 1]`."""

    def mean(self, so_far: NDArray[np.int64]) -> NDArray[np.float64]:
        """What units come to that have so many tokens."""
        first = self._first_above(so_far)
        return np.maximum(so_far, self._above[first] / self._longer[first])

    def drawn(self, so_far: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sizes at quantiles `at`, between 0 and 1, of those that are above `so_far`."""
        first = self._first_above(so_far)
        last = self._values.size - 1
        with np.errstate(divide="ignore"):
            at = at * (1 + 1 / (last - first))  # one more than n is longer than all of them once in n + 1 times
        ranks = np.searchsorted(-self._longer[1:], -self._longer[first] * (1 - np.minimum(at, 1)), side="right")
        return np.maximum(so_far, self._values[np.where(at < 1, np.minimum(ranks, last), last)])

    def _first_above(self, so_far: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first value that is above `so_far`, or the last that has a share."""
        last = int(np.flatnonzero(self._longer[:-1] > 0)[-1])
        return np.minimum(np.searchsorted(self._values, so_far, side="right"), last)


def _steps(sizes: _Sizes, begun: NDArray[np.int64], most: NDArray[np.float64], queued: NDArray[np.int64]) -> float:
    """Until all are done, in the mean of several layouts: whoever waits takes the seat that is free first."""
    seats = max(1, begun.size)
    early = max(0, queued.size - LAID_OUT)
    filled = float((sizes.mean(queued[:early]) - queued[:early]).sum()) / seats
    begun_and_queued = np.concatenate([begun, queued[early:]])
    limits = np.concatenate([most, np.full(queued.size - early, np.inf)])
    layouts = min(LAYOUTS, max(1, LAID_OUT // begun_and_queued.size))
    steps = 0.0
    for layout in range(layouts):
        at = (np.arange(1, begun_and_queued.size + 1) * GOLDEN + layout / layouts) % 1
        left = np.minimum(limits, sizes.drawn(begun_and_queued, at)) - begun_and_queued
        steps += _last_done(left.tolist(), seats)
    return filled + steps / layouts


def _last_done(left: Sequence[float], seats: int) -> float:
    """When the last unit is done, in steps, of units that take so many."""
    done = list(left[:seats])
    heapify(done)
    for steps in left[seats:]:
        heapreplace(done, done[0] + steps)
    return max(done)
