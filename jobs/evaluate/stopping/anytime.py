"""What probes say of thinking itself: the area under accuracy against tokens, and what more thinking turns over.

The area is the mean accuracy over all budgets between the first probe and the end, each token counting alike: the
answer to "how good is it, whenever it is stopped?". Between two probes an answer may turn right, and may turn wrong;
their difference is what the curve shows, their sum what it hides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stats.intervals import Interval, Shares, estimates, percentile_intervals, resampled_shares
from jobs.evaluate.stopping.probes import Matrix, Reals
from jobs.evaluate.stopping.reading import ProbedTask


@dataclass(frozen=True)
class Turn:
    """What a step from one probe to the next turns over: shares of all samples."""

    start: str
    end: str
    """The names of the probes."""
    tokens: float
    """Of thinking that the step adds, in the mean."""
    wrong_to_right: float
    wrong_to_right_interval: Interval
    right_to_wrong: float
    right_to_wrong_interval: Interval


@dataclass(frozen=True)
class Anytime:
    """Of one task."""

    task: str
    area: float
    """A share of 1; NaN where all probes are at one place."""
    interval: Interval
    """By the bootstrap over items, accuracies and tokens together."""
    turns: tuple[Turn, ...]


def anytime(task: ProbedTask, seed: int) -> Anytime:
    """Of all probes of a task."""
    right, thinking = (_by_item(each) for each in (task.probes.correct, task.probes.thinking))
    asked = np.full((len(right), 1), float(task.probes.correct.shape[1]))
    drawn = area(resampled_shares(right, asked, seed), resampled_shares(thinking, asked, seed))
    (interval,) = percentile_intervals(drawn[:, None], len(right))
    means = (each.sum(axis=0) / asked.sum() for each in (right, thinking))
    return Anytime(task.task, float(area(*means)), interval, tuple(_turns(task, asked, thinking, seed)))


def area(accuracies: Reals, tokens: Reals) -> Reals:
    """The mean height of the lines through (tokens, accuracy), both ``[…, probes]``; NaN where they have no width."""
    steps = np.diff(tokens, axis=-1)
    heights = (accuracies[..., 1:] + accuracies[..., :-1]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((steps * heights).sum(axis=-1) / steps.sum(axis=-1))


def _turns(task: ProbedTask, asked: Reals, thinking: Reals, seed: int) -> Iterator[Turn]:
    before, after = task.probes.correct[:, :, :-1], task.probes.correct[:, :, 1:]
    gained = estimates(Shares.certain(_by_item(~before & after), asked), seed)
    lost = estimates(Shares.certain(_by_item(before & ~after), asked), seed)
    added = np.diff(thinking.sum(axis=0)) / asked.sum()
    for place, (up, down) in enumerate(zip(gained, lost, strict=True)):
        start, end = task.policies[place : place + 2]
        yield Turn(start, end, float(added[place]), up.value, up.interval, down.value, down.interval)


def _by_item(values: Matrix) -> Reals:
    return np.asarray(values.sum(axis=1, dtype=np.float64))
