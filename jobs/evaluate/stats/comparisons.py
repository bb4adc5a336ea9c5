"""Every pair of points of a sweep, compared item by item; and the same for two sweeps.

A sweep of 40 policies has 780 comparisons, of which 39 would be "significant" by luck. So each has, besides its own
p-value, one corrected for all of them (Holm 1979), and the smallest difference that these items could have shown: 30
questions cannot tell 3 points from nothing, whatever is done with them.

What is corrected is the p-value of a paired t test, from the variance between items. A comparison's interval and its
own p-value are a score test's, which leaves room for what 30 items need not have shown; a test of no difference at all
does not have to. Of 400 simulated sweeps of 12 equal policies on 30 items, 2.5% had a corrected t test below 5%.

Samples with errors count as what speaks least for a difference: see :mod:`jobs.evaluate.stats.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats has the same, and takes a second to import

from jobs.evaluate.stats.at_k import shown, together
from jobs.evaluate.stats.bounded import CONFIDENCE, Floats
from jobs.evaluate.stats.intervals import Difference, Shares, asked_of_either, extremes, paired_differences
from jobs.evaluate.stats.outcomes import Outcomes
from jobs.evaluate.stats.votes import USUAL, Vote, spelled

POWER = 0.8
"""The chance with which a difference called detectable is detected."""

_SAME = 1e-12
"""Scores of an item that differ by less differ by rounding."""

_PAIRS_AT_ONCE = 512
"""Columns of differences in memory at a time."""


@dataclass(frozen=True)
class Comparison:
    """`policy` less `reference`, both names of points of `task`, over the `items` that both were asked."""

    task: str
    policy: str
    reference: str
    items: int
    difference: Difference
    """By the score test of paired means."""
    t_p_value: float
    """Two-sided, of a paired t test over items."""
    detectable: float
    """The smallest true difference that so many items show with :data:`POWER`; NaN where no item differs, since then
    nothing is known of its variance."""
    better: int
    """Items on which `policy` is right more often."""
    worse: int
    p_holm: float = math.nan
    """`t_p_value` corrected for all comparisons made together (:func:`corrected`)."""


@dataclass(frozen=True)
class Scores:
    """What is compared: points by name, and their shares, ``[items, points]``."""

    points: tuple[str, ...]
    shares: Shares

    def beside(self, other: Scores) -> Scores:
        """The points of both, on the same items."""
        return Scores((*self.points, *other.points), self.shares.beside(other.shares))


def scores(
    task: Outcomes,
    natural: str,
    at_k: Sequence[int] | None = None,
    votes: Sequence[Vote] = spelled(USUAL, ()),
    seed: int = 0,
) -> Scores:
    """The accuracy of every policy, the natural end's first, then what its `votes` elect at each k that is shown.

    Votes that take the right answer (pass@k) are none of them: nobody who asks a question would see such an accuracy,
    so comparing it with one says nothing.
    """
    order = sorted(range(len(task.policies)), key=lambda column: task.policies[column] != natural)
    compared = Scores(tuple(task.policies[column] for column in order), task.shares[order])
    if task.most == 1 or natural not in task.policies:
        return compared
    first = task.policies.index(natural)
    several = [k for k in shown(task.most, at_k) if 1 < k <= task.most]
    for vote in votes:
        if several and not vote.oracle:
            elected = together(task, vote, several, slice(first, first + 1), seed)
            if elected.shares.graded.items.any():
                compared = compared.beside(Scores(tuple(f"{natural} {vote.at(k)}" for k in several), elected.shares))
    return compared


def compare(
    tasks: Iterable[Outcomes],
    natural: str,
    at_k: Sequence[int] | None = None,
    votes: Sequence[Vote] = spelled(USUAL, ()),
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """All pairs of points of each task, the later against the earlier, corrected for their number."""
    comparisons: list[Comparison] = []
    for task in tasks:
        points = scores(task, natural, at_k, votes, seed)
        comparisons += differences(task.task, points, list(combinations(range(len(points.points)), 2)))
    return corrected(comparisons)


def differences(task: str, points: Scores, pairs: Sequence[tuple[int, int]]) -> Iterator[Comparison]:
    """The comparison of each of `pairs`, (reference, policy) as columns of `points`, not corrected for the others."""
    with np.errstate(invalid="ignore"):
        by_item = points.shares.graded.right / points.shares.graded.asked
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = np.array(pairs[start : start + _PAIRS_AT_ONCE]).T
        policies, references = points.shares[second], points.shares[first]
        intervals = paired_differences(policies, references)
        changed = np.nan_to_num(by_item[:, second] - by_item[:, first])  # 0 where one of them was not graded
        items = asked_of_either(policies.least, references.least)
        tests, errors = _t_tests(*extremes(policies, references), items)
        for at, difference in enumerate(intervals):
            yield Comparison(
                task=task,
                policy=points.points[second[at]],
                reference=points.points[first[at]],
                items=int(items[at]),
                difference=difference,
                t_p_value=math.nan if math.isnan(difference.value) else float(tests[at]),
                detectable=detectable(float(errors[at]), int(items[at])),
                better=int((changed[:, at] > _SAME).sum()),
                worse=int((changed[:, at] < -_SAME).sum()),
            )


def corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """`comparisons` as one family."""
    adjusted = holm(np.array([each.t_p_value for each in comparisons]))
    return tuple(replace(each, p_holm=float(p)) for each, p in zip(comparisons, adjusted, strict=True))


def holm(p_values: Floats) -> Floats:
    """Holm's step-down correction (1979): the chance of any false one below a level is at most that level.

    p-values that are not numbers are no tests: they count for none and stay as they are.
    """
    adjusted = np.full(len(p_values), math.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def detectable(standard_error: float, items: int) -> float:
    """The difference that a two-sided paired t test at 5% finds with :data:`POWER`, from the error of a difference.

    (t(0.975) + t(0.8)) · error, with items - 1 degrees of freedom (Bloom 1995, *Minimum Detectable Effects*).
    """
    if items < 2 or not standard_error > 0:
        return math.nan
    needed = stdtrit(items - 1, [0.5 + CONFIDENCE / 2, POWER]).sum()
    return float(needed * standard_error)


def _t_tests(lowest: Floats, highest: Floats, items: Floats) -> tuple[Floats, Floats]:
    """p-values and standard errors, ``[pairs]``, of differences by item where they are least and where they are most.

    The larger ones of both; 1 where they have different signs. Where all items differ alike there is no variance to go
    by, and p is the sign test's.
    """
    p_values, errors = _t_test(lowest, items)
    if highest is lowest:
        return p_values, errors
    others, wider = _t_test(highest, items)
    apart = lowest.mean(axis=0) * highest.mean(axis=0) <= 0
    return np.where(apart, np.where(np.isnan(p_values), math.nan, 1.0), np.maximum(p_values, others)), np.maximum(
        errors, wider
    )


def _t_test(values: Floats, items: Floats) -> tuple[Floats, Floats]:
    means = values.mean(axis=0)
    residuals = np.where(np.abs(values - means) < _SAME, 0, values - means) / len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.sqrt(np.where(items > 1, items / (items - 1), math.nan) * (residuals**2).sum(axis=0))
        p_values = 2 * stdtr(items - 1, -np.abs(means) / errors)
    signs = np.where(np.abs(means) < _SAME, 1.0, 0.5 ** (items - 1.0))
    return np.where(errors == 0, signs, p_values), errors
