"""Which of many options are worth their cost: the frontier of accuracy over tokens, latency and dollars.

The highest of many accuracies is chosen for its luck, and so is a frontier that is drawn through the highest of each
cost. So an option is *on* the frontier only where what it gains over a cheaper one is there whatever was chosen. From
the cheapest on, the next one is the cheapest option of which

- the paired difference from the one before is above 0, by the lower end of an interval that holds for all pairs of
  options at once (sup-t, as :mod:`jobs.evaluate.stats.bands`, of their differences). So it holds for the pair that
  looks best, on all three axes, and in 95% of cases no option is on the frontier that is no better than the one before;
- no cheaper option is more accurate on these items.

So the marks are chosen and shown on all items, and no half of them is given away. What an option that was chosen for
being best will score is cross-fitted: within the same cost, what is best on half of the items is scored on the others
(:func:`~jobs.evaluate.stats.choice.held_out_within`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from jobs.evaluate.stats.bounded import CONFIDENCE, Floats, criticals, lower_limits, upper_limits
from jobs.evaluate.stats.choice import held_out_within
from jobs.evaluate.stats.intervals import (
    Interval,
    Shares,
    asked_of_either,
    extremes,
    intervals,
    mean_intervals,
)
from jobs.evaluate.stats.options import Option, Options

_DRAWS = 2_000
_SPREAD = 1e-6
"""Standard errors below it are those of rounding: points that are the same."""
_SAME = 1e-12


@dataclass(frozen=True)
class Gain:
    """What an option's accuracy is above another's, paired by item."""

    value: float
    interval: Interval
    """At 95% for all pairs of options at once."""


@dataclass(frozen=True)
class Priced:
    """An option with what it is worth and what it costs."""

    option: Option
    accuracy: float
    interval: Interval
    cost: float
    cost_interval: Interval
    gain: Gain | None
    """Over the option before it on the frontier; None where it is not on it, and of the cheapest."""
    held_out: float
    """On the frontier: what is best within this cost on half of the items, scored on the others. Else NaN."""


@dataclass(frozen=True)
class Frontier:
    """The options over one kind of cost."""

    task: str
    axis: str
    items: int
    options: tuple[Priced, ...]
    """All that a user could choose, in the order of their cost; ties by accuracy, the highest first."""
    bounds: tuple[Priced, ...]
    """What someone could have who knows the right answers."""
    on: tuple[int, ...]
    """Places among `options`; the cheapest is the first."""

    @property
    def points(self) -> tuple[Priced, ...]:
        """The options on it."""
        return tuple(self.options[place] for place in self.on)

    def within(self, cost: float) -> Priced | None:
        """What to do for at most so much; None where nothing is so cheap."""
        affordable = [point for point in self.points if point.cost <= cost]
        return affordable[-1] if affordable else None


def frontiers(options: Options, seed: int) -> tuple[Frontier, ...]:
    """The frontier over each kind of cost that is known of all options."""
    known = ~np.isnan(options.shares.graded.means)
    choices = [place for place, each in enumerate(options.options) if known[place] and not each.oracle]
    bounds = [place for place, each in enumerate(options.options) if known[place] and each.oracle]
    chosen = options[choices]
    deviation = largest_difference(chosen.shares, seed)
    return tuple(_frontier(chosen, options[bounds], axis, deviation, seed) for axis in options.costs)


def largest_difference(shares: Shares, seed: int) -> float:
    """How many standard errors the largest of all paired differences between points reaches, in 95% of draws."""
    most = 0.0
    points = shares.graded.right.shape[1]
    for sums in {id(each): each for each in (shares.least, shares.most)}.values():
        values = sums.values
        deviations = (values - values.mean(axis=0)) / len(values)
        draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(values)))
        drawn = (draws @ deviations).astype(np.float32)  # half the memory to move; digits enough for a quantile
        covariances = deviations.T @ deviations
        variances = np.diag(covariances)
        largest = np.zeros(_DRAWS)
        for point in range(1, points):
            errors = np.sqrt(np.maximum(variances[:point] + variances[point] - 2 * covariances[point, :point], 0))
            apart = errors > _SPREAD
            if apart.any():
                ratios = np.abs(drawn[:, :point][:, apart] - drawn[:, [point]]) / errors[apart]
                np.maximum(largest, ratios.max(axis=1), out=largest)
        most = max(most, float(np.quantile(largest, CONFIDENCE)))
    return max(most, float(ndtri(0.5 + CONFIDENCE / 2)))


def _frontier(options: Options, bounds: Options, axis: str, deviation: float, seed: int) -> Frontier:
    means = options.shares.graded.means
    order = np.lexsort((-means, options.costs[axis].means))
    ordered = options[[int(place) for place in order]]
    on = _marked(ordered.shares, ordered.costs[axis].means, deviation)
    gains = {
        place: _gain(ordered.shares[[place]], ordered.shares[[before]], deviation) for before, place in pairwise(on)
    }
    held = dict(zip(on, held_out_within(ordered.shares.graded, [place + 1 for place in on], seed), strict=True))
    return Frontier(
        options.task,
        axis,
        len(options.items),
        tuple(_priced(ordered, axis, gains, held)),
        tuple(_priced(bounds, axis, {}, {})),
        on,
    )


def _priced(options: Options, axis: str, gains: dict[int, Gain], held: dict[int, float]) -> list[Priced]:
    low, high = intervals(options.shares)
    costs = options.costs[axis]
    endless = [math.inf] * len(options.options)
    return [
        Priced(
            option,
            float(options.shares.graded.means[place]),
            Interval(float(low[place]), float(high[place])),
            float(costs.means[place]),
            interval,
            gains.get(place),
            held.get(place, math.nan),
        )
        for place, (option, interval) in enumerate(zip(options.options, mean_intervals(costs, 0, endless), strict=True))
    ]


def _gain(point: Shares, before: Shares, deviation: float) -> Gain:
    lowest, highest = extremes(point, before)
    items = asked_of_either(point.least, before.least)
    z = criticals(items, deviation)
    low, high = lower_limits(lowest, items, -1.0, z)[0], upper_limits(highest, items, 1.0, z)[0]
    value = point.graded.means[0] - before.graded.means[0]
    return Gain(float(value), Interval(max(-1.0, float(low)), min(1.0, float(high))))


def _marked(shares: Shares, costs: Floats, deviation: float) -> tuple[int, ...]:
    """The places of the options on the frontier; options are in the order of their costs."""
    means = shares.graded.means
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], means[:-1]]))
    leads = means > best_before + _SAME
    on = [0] if len(means) else []
    while on:
        before = on[-1]
        dearer = np.flatnonzero(leads & (costs > costs[before] * (1 + _SAME)))
        dearer = dearer[dearer > before]
        if not len(dearer):
            break
        points, reference = shares[dearer], shares[[before]]
        lowest, _ = extremes(points, reference)
        items = asked_of_either(points.least, reference.least)
        better = lower_limits(lowest, items, -1.0, criticals(items, deviation)) > 0
        if not better.any():
            break
        on.append(int(dearer[np.argmax(better)]))
    return tuple(on)
