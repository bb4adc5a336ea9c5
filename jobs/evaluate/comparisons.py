"""Every pair of points of a sweep, compared item by item; and the same for two sweeps.

A sweep of 40 policies has 780 comparisons, of which 39 would be "significant" by luck. So each has, besides its own
p-value, one corrected for all of them (Holm 1979), and the smallest difference that these items could have shown: 30
questions cannot tell 3 points from nothing, whatever is done with them.

What is corrected is the p-value of a paired t test, from the variance between items. The bootstrap, which gives a
comparison its interval and a p-value of its own, cannot tell chances below 0.001 from 30 items and 10,000 draws, so
that of 780 comparisons none could survive. Of 400 simulated sweeps of 12 equal policies on 30 items, 2.5% had a
corrected t test below 5%.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import t as student

from jobs.evaluate.outcomes import Outcomes
from jobs.evaluate.statistics import CONFIDENCE, Difference, Floats, paired_differences, resampled_shares
from jobs.evaluate.together import shown

POWER = 0.8
"""The chance with which a difference called detectable is detected."""

_SAME = 1e-12
"""Scores of an item that differ by less differ by rounding."""

_PAIRS_AT_ONCE = 512
"""Columns of resampled differences in memory at a time: 41 MB."""


@dataclass(frozen=True)
class Comparison:
    """`policy` less `reference`, both names of points of `task`, over the `items` that both were asked."""

    task: str
    policy: str
    reference: str
    items: int
    difference: Difference
    """By paired bootstrap."""
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
    """What is compared, ``[items, points]``: a point's score is the sum of `right` over that of `asked`."""

    points: tuple[str, ...]
    right: Floats
    asked: Floats

    def beside(self, other: Scores) -> Scores:
        """The points of both, on the same items."""
        right, asked = ([getattr(each, name) for each in (self, other)] for name in ("right", "asked"))
        return Scores((*self.points, *other.points), np.hstack(right), np.hstack(asked))


def scores(task: Outcomes, natural: str, together: Sequence[int] | None = None) -> Scores:
    """The accuracy of every policy, that of the natural end first, then its majority@k for each k that is shown.

    pass@k is none of them: it is no accuracy that a user would see, so comparing it with one says nothing.
    """
    order = sorted(range(len(task.policies)), key=lambda column: task.policies[column] != natural)
    found = Scores(tuple(task.policies[column] for column in order), task.correct[:, order], task.graded[:, order])
    if task.most == 1 or natural not in task.policies:
        return found
    first = task.policies.index(natural)
    elected = task.votes.scores(slice(first, first + 1), task.most)[:, 0, 1]
    several = [k for k in shown(task.most, together) if 1 < k <= task.most]
    elected = elected[:, [k - 1 for k in several]]
    told = ~np.isnan(elected)
    names = tuple(f"{natural} majority@{k}" for k in several)
    return found.beside(Scores(names, np.where(told, elected, 0.0), told.astype(np.float64)))


def compare(
    tasks: Iterable[Outcomes], natural: str, seed: int, together: Sequence[int] | None = None
) -> tuple[Comparison, ...]:
    """All pairs of points of each task, the later against the earlier, corrected for their number."""
    found: list[Comparison] = []
    for task in tasks:
        points = scores(task, natural, together)
        found += differences(task.task, points, list(combinations(range(len(points.points)), 2)), seed)
    return corrected(found)


def differences(task: str, points: Scores, pairs: Sequence[tuple[int, int]], seed: int) -> Iterator[Comparison]:
    """The comparison of each of `pairs`, (reference, policy) as columns of `points`, not corrected for the others."""
    shares = resampled_shares(points.right, points.asked, seed)
    with np.errstate(invalid="ignore"):
        values = points.right.sum(axis=0) / points.asked.sum(axis=0)
        by_item = points.right / points.asked
    residuals = _residuals(points, values)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = np.array(pairs[start : start + _PAIRS_AT_ONCE]).T
        found = paired_differences(
            values[second] - values[first], shares[:, second], shares[:, first], len(points.right)
        )
        both = (points.asked[:, first] > 0) & (points.asked[:, second] > 0)
        changed = np.where(both, by_item[:, second] - by_item[:, first], 0)
        items = ((points.asked[:, first] > 0) | (points.asked[:, second] > 0)).sum(axis=0)
        errors = _standard_errors(residuals[:, second] - residuals[:, first], items)
        tests = _t_tests(values[second] - values[first], errors, items)
        for at, difference in enumerate(found):
            yield Comparison(
                task=task,
                policy=points.points[second[at]],
                reference=points.points[first[at]],
                items=int(items[at]),
                difference=difference,
                t_p_value=float(tests[at]),
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
    needed = student.ppf([0.5 + CONFIDENCE / 2, POWER], items - 1).sum()
    return float(needed * standard_error)


def _residuals(points: Scores, values: Floats) -> Floats:
    """What each item adds to the deviation of a point's share from the truth, ``[items, points]``.

    A share is a ratio of two sums over items; this is its linear part (Cochran, *Sampling Techniques*, section 6.3).
    """
    with np.errstate(invalid="ignore"):
        return np.asarray((points.right - values * points.asked) / points.asked.sum(axis=0))


def _standard_errors(residuals: Floats, items: Floats) -> Floats:
    """Of differences of shares, ``[pairs]``, from the differences of their residuals, ``[items, pairs]``."""
    squares = np.where(np.abs(residuals) < _SAME, 0, residuals) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.where(items > 1, items / (items - 1), math.nan) * squares.sum(axis=0))


def _t_tests(values: Floats, errors: Floats, items: Floats) -> Floats:
    """p-values, ``[pairs]``. Where all items differ alike there is no variance to go by, and it is the sign test's."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 2 * student.sf(np.abs(values) / errors, items - 1)
    alike = errors == 0
    return np.asarray(np.where(alike, np.where(np.abs(values) < _SAME, 1.0, 0.5 ** (items - 1.0)), found))
