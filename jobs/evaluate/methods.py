"""What the s1 paper measures a method of scaling by: Control, Scaling and Performance.

A method is a set of runs that differ in how much thinking they ask for: the points of one curve. For its runs' mean
thinking tokens a and accuracies f(a) the paper defines (arXiv 2501.19393, section 3.2)

    Control      the share of runs with a_min <= a <= a_max, what each was asked to keep to;
    Scaling      the mean of (f(b) - f(a)) / (b - a) over all pairs of runs a < b;
    Performance  the largest f(a).

The Scaling that it printed is another: its values come out with log2 of the tokens and f in percentage points, that is
points per doubling of thinking. Both are here, under names of their own. Two runs of equal tokens have no slope and are
left out of either; two of nearly equal tokens have almost any, which is why intervals can be wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluate.lengths import TOKENS_PER_STEP
from jobs.evaluate.outcomes import Outcomes
from jobs.evaluate.policies import Curve, Policy, methods, printable
from jobs.evaluate.statistics import Floats, Interval, percentile_intervals, resampled_shares

_EQUAL = 1e-9
"""Runs that differ by fewer tokens, or fewer doublings, have no slope."""


@dataclass(frozen=True)
class Measured:
    """A number of a method with the middle 95% of what it is on other draws of items. NaN where it has no meaning."""

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
    """A share of 1."""


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
    with np.errstate(divide="ignore"):
        doublings = np.log2(tokens)
    return _mean_slope(np.where(tokens > 0, doublings, math.nan), 100 * np.asarray(accuracies))


def _mean_slope(x: Floats, y: Floats) -> Floats:
    first, second = np.triu_indices(np.shape(x)[-1], 1)
    run, rise = x[..., second] - x[..., first], y[..., second] - y[..., first]
    counts = (np.abs(run) > _EQUAL) & ~np.isnan(rise)  # false where x is NaN
    slopes = np.divide(rise, run, out=np.zeros_like(run), where=counts)
    with np.errstate(invalid="ignore"):
        return np.asarray(slopes.sum(axis=-1) / counts.sum(axis=-1))


def measure_methods(tasks: Sequence[Outcomes], policies: Sequence[Policy], seed: int) -> tuple[Method, ...]:
    """The methods of a sweep that have two runs at least, task by task; `policies` are the columns of the outcomes."""
    return tuple(
        _method(task, method, columns, seed)
        for task in tasks
        for columns in [{policy: column for column, policy in enumerate(policies)}]
        for method in methods(policies)
    )


def _method(task: Outcomes, method: Curve, columns: Mapping[Policy, int], seed: int) -> Method:
    own = [columns[policy] for policy in method.points]
    tokens = _observed_and_drawn(task.totals["thinking_tokens"], task.samples, own, seed)
    accuracies = _observed_and_drawn(task.correct, task.graded, own, seed)
    usual = np.full((len(tokens), 1), math.nan)
    for policy in (Policy(), Policy(forced=False)):
        if policy in columns:
            usual = _observed_and_drawn(task.totals["thinking_tokens"], task.samples, [columns[policy]], seed)
    bounds = [_bounds(policy) for policy in method.points]
    least, most = (
        np.hstack([usual if end is None else np.full_like(usual, end) for end in ends])
        for ends in zip(*bounds, strict=True)
    )
    return Method(
        task=task.task,
        name=printable(method.name),
        policies=tuple(policy.name for policy in method.points),
        control=_measured(control(tokens, least, most), len(task.items)),
        scaling=_measured(1000 * 100 * scaling(tokens, accuracies), len(task.items)),
        scaling_published=_measured(scaling_published(tokens, accuracies), len(task.items)),
        performance=_measured(accuracies.max(axis=1), len(task.items)),
    )


def _bounds(policy: Policy) -> tuple[float | None, float | None]:
    """The fewest and most tokens that a run should think; None: what the model takes when nothing is asked."""
    if policy.wish is not None and policy.wish.kind == "class":
        return (0, None) if policy.wish.value == "short" else (None, math.inf)
    if policy.asked is None:
        return 0, math.inf
    in_steps = policy.steps is not None or (policy.wish is not None and policy.wish.kind == "step")
    return 0, policy.asked * (TOKENS_PER_STEP if in_steps else 1)


def _observed_and_drawn(sums: Floats, counts: Floats, columns: list[int], seed: int) -> Floats:
    """The means of some policies, ``[1 + resamples, policies]``: as observed, then as on the draws of items."""
    sums, counts = sums[:, columns], counts[:, columns]
    with np.errstate(invalid="ignore"):
        observed = sums.sum(axis=0) / counts.sum(axis=0)
    return np.vstack([observed, resampled_shares(sums, counts, seed)])


def _measured(observed_and_drawn: Floats, items: int) -> Measured:
    (interval,) = percentile_intervals(observed_and_drawn[1:, None], items)
    return Measured(float(observed_and_drawn[0]), interval)
