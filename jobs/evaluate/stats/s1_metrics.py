"""What the s1 paper measures a method of scaling by: Control, Scaling and Performance.

A method is a set of runs that differ in how much thinking they ask for: the points of one curve. For its runs' mean
thinking tokens a and accuracies f(a) the paper defines (arXiv 2501.19393, section 3.2)

    Control      the share of runs with a_min <= a <= a_max, what each was asked to keep to;
    Scaling      the mean of (f(b) - f(a)) / (b - a) over all pairs of runs a < b;
    Performance  the largest f(a).

The largest of several is too large (:mod:`jobs.evaluate.stats.choice`), so its interval accounts for the choice, and
the estimate that does is beside it.

The Scaling that it printed is another: its values come out with log2 of the tokens and f in percentage points, that is
points per doubling of thinking. Both are here, under names of their own. Two runs of equal tokens have no slope and are
left out of either; two of nearly equal tokens have almost any, which is why intervals can be wide. Where all runs get
the same items right, Scaling is 0 and has no interval: resampling these items cannot say what others would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.stats.bounded import Floats
from jobs.evaluate.stats.choice import best_interval, held_out
from jobs.evaluate.stats.intervals import Interval, percentile_intervals, resampled_shares
from jobs.evaluate.stats.outcomes import Outcomes
from jobs.evaluate.sweep.curves import Curve, methods
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy, printable

_EQUAL = 1e-9
"""Runs that differ by fewer tokens, or fewer doublings, have no slope."""


@dataclass(frozen=True)
class Measured:
    """A number of a method with its 95% interval. NaN where it has no meaning."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Method:
    """What one way of spending more thinking comes to, on one task."""

    task: str
    name: str
    """That of its curve, or ``budget + Wait``: cut at the budgets, then extended, as in the paper's scaling figure."""
    policies: tuple[str, ...]
    """Its runs."""
    control: Measured
    """A share of 1; NaN where a run was not asked to keep to anything."""
    scaling: Measured
    """Percentage points per 1,000 tokens: the definition's."""
    scaling_published: Measured
    """Percentage points per doubling of tokens: what was printed."""
    performance: Measured
    """A share of 1: the definition's, with an interval of the best run's true accuracy that accounts for the choice."""
    performance_held_out: float
    """The estimate that does: the best run on half of the items, scored on the others."""


def control(tokens: Floats, least: Floats, most: Floats) -> Floats:
    """The share of runs whose mean thinking tokens, ``[…, runs]``, lie within `least` and `most`, ``[…, runs]``."""
    unknown = np.isnan(tokens) | np.isnan(least) | np.isnan(most)
    within = (least <= tokens) & (tokens <= most)
    return np.asarray(np.where(unknown, math.nan, within).mean(axis=-1))


def scaling(tokens: Floats, accuracies: Floats) -> Floats:
    """The definition's: accuracy (a share of 1) per token. Both ``[…, runs]``; NaN where no two runs differ."""
    return _mean_slope(tokens, accuracies)


def scaling_published(tokens: Floats, accuracies: Floats) -> Floats:
    """The printed one: percentage points per doubling of tokens; runs without a token of thinking are left out."""
    return _mean_slope(_doublings(tokens), 100 * np.asarray(accuracies))


def _doublings(tokens: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(tokens > 0, np.log2(tokens), math.nan))


def _mean_slope(x: Floats, y: Floats) -> Floats:
    first, second = np.triu_indices(np.shape(x)[-1], 1)
    run, rise = x[..., second] - x[..., first], y[..., second] - y[..., first]
    counts = (np.abs(run) > _EQUAL) & ~np.isnan(rise)  # false where x is NaN
    slopes = np.divide(rise, run, out=np.zeros_like(run), where=counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(slopes.sum(axis=-1) / counts.sum(axis=-1))


def _slope_range(x: Floats, least: Floats, most: Floats) -> tuple[Floats, Floats]:
    """The mean slopes that there can be where each run's y is between `least` and `most`."""
    weights = _weights(x, ~np.isnan(least))
    falling, rising = np.minimum(weights, 0), np.maximum(weights, 0)
    least, most = np.nan_to_num(least), np.nan_to_num(most)
    return (rising * least + falling * most).sum(axis=-1), (rising * most + falling * least).sum(axis=-1)


def _weights(x: Floats, known: NDArray[np.bool_]) -> Floats:
    """What each run's y, where it is `known`, adds to the mean slope over x, ``[…, runs]``; NaN where none is."""
    runs = np.shape(x)[-1]
    total, counted = np.zeros(np.shape(x)), np.zeros((*np.shape(x)[:-1], 1))
    for first, second in combinations(range(runs), 2):
        run = x[..., second] - x[..., first]
        counts = (np.abs(run) > _EQUAL) & known[..., second] & known[..., first]  # false where x is NaN
        slope = np.divide(1.0, run, out=np.zeros_like(run), where=counts)
        total[..., second] += slope
        total[..., first] -= slope
        counted[..., 0] += counts
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(counted > 0, counted, math.nan))


def measure_methods(tasks: Sequence[Outcomes], policies: Sequence[Policy], seed: int) -> tuple[Method, ...]:
    """The methods of a sweep that have two runs at least, task by task; `policies` are the columns of the outcomes."""
    return tuple(
        _method(task, method, columns, seed)
        for task in tasks
        for columns in [{policy: column for column, policy in enumerate(policies)}]
        for method in methods(policies)
    )


def _method(task: Outcomes, method: Curve, columns: Mapping[Policy, int], seed: int) -> Method:
    of_method = [columns[policy] for policy in method.points]
    tokens = _observed_and_drawn(task.totals["thinking_tokens"], task.samples, of_method, seed)
    shares = task.shares[of_method]
    accuracies, least_accurate, most_accurate = (
        _observed_and_drawn(sums.right, sums.asked, list(range(len(of_method))), seed)
        for sums in (shares.graded, shares.least, shares.most)
    )

    def slope(x: Floats, scale: float, values: Floats) -> Measured:
        ends = () if shares.are_certain else _slope_range(x, scale * least_accurate, scale * most_accurate)
        measured = _measured(values, len(task.items), *ends)
        # Where no item tells runs apart, no draw of these items does; of others that says nothing.
        flat = measured.interval.low == measured.interval.high
        return replace(measured, interval=Interval(math.nan, math.nan)) if flat else measured

    usual = np.full((len(tokens), 1), math.nan)
    natural: tuple[Policy, ...] = (Budget(), Baseline())
    for policy in natural:
        if policy in columns:
            usual = _observed_and_drawn(task.totals["thinking_tokens"], task.samples, [columns[policy]], seed)
    bounds = [policy.bounds for policy in method.points]
    least, most = (
        np.hstack([usual if end is None else np.full_like(usual, end) for end in ends])
        for ends in zip(*bounds, strict=True)
    )
    return Method(
        task=task.task,
        name=printable(method.name),
        policies=tuple(policy.name for policy in method.points),
        control=_measured(control(tokens, least, most), len(task.items)),
        scaling=slope(tokens, 1000 * 100, 1000 * 100 * scaling(tokens, accuracies)),
        scaling_published=slope(_doublings(tokens), 100, scaling_published(tokens, accuracies)),
        performance=Measured(float(shares.graded.means.max()), best_interval(shares, seed)),
        performance_held_out=held_out(shares.graded, seed),
    )


def _observed_and_drawn(sums: Floats, counts: Floats, columns: list[int], seed: int) -> Floats:
    """The means of some policies, ``[1 + resamples, policies]``: as observed, then as on the draws of items."""
    sums, counts = sums[:, columns], counts[:, columns]
    with np.errstate(invalid="ignore"):
        observed = sums.sum(axis=0) / counts.sum(axis=0)
    return np.vstack([observed, resampled_shares(sums, counts, seed)])


def _measured(
    observed_and_drawn: Floats, items: int, least: Floats | None = None, most: Floats | None = None
) -> Measured:
    """The first of what was observed and drawn. Its interval reaches from the draws' `least` to their `most` values."""
    ends = [observed_and_drawn if each is None else each for each in (least, most)]
    low, high = (percentile_intervals(each[1:, None], items)[0] for each in ends)
    return Measured(float(observed_and_drawn[0]), Interval(low.low, high.high))
