"""Our values beside published ones: how far apart, and whether that is more than noise.

Nobody publishes which items were answered correctly, so a published value cannot be paired with ours. It is taken for
what it was at most: a share of as many items as ours, as uncertain by itself. The interval of the difference of two
such shares is Newcombe's (1998, method 10), from the Wilson intervals of both. Both were asked the same items, so the
true interval is narrower: values that are called apart are, and those within noise may still differ by as much as
their interval is wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.evaluate.published import Published
from jobs.evaluate.stats.curves import Point
from jobs.evaluate.stats.intervals import Interval, wilson
from jobs.evaluate.stats.s1_metrics import Measured, Method

AgreementVerdict = Literal["within noise", "higher", "lower", "unknown"]

Quantity = Literal["accuracy", "Control", "Scaling", "Performance"]


@dataclass(frozen=True)
class Beside:
    """One published value, and ours. In percent; Scaling in points per doubling of tokens."""

    task: str
    name: str
    """Of the policy or the method."""
    quantity: Quantity
    ours: float
    published: float
    difference: Interval
    """95%, of ours less the published one."""
    our_tokens: float | None = None
    """Mean thinking tokens."""
    published_tokens: float | None = None
    our_tokens_with_scorer: float | None = None
    """Mean of all tokens of a search, answers and what the scorer read included; None of what is scored by nothing."""

    @property
    def verdict(self) -> AgreementVerdict:
        """Whether ours is higher or lower by more than chance explains."""
        if math.isnan(self.difference.low):
            return "unknown"
        if self.difference.low > 0:
            return "higher"
        return "lower" if self.difference.high < 0 else "within noise"


def lay_beside(published: Published, points: dict[str, list[Point]], methods: Sequence[Method]) -> tuple[Beside, ...]:
    """Each published value that the sweep has one for. `points` are those of each task."""
    return (*_accuracies(published, points), *_metrics(published, methods))


def newcombe(ours: float, our_range: Interval, theirs: float, their_range: Interval) -> Interval:
    """The interval of `ours` less `theirs`, from the interval of each (Newcombe 1998, method 10)."""
    low = ours - theirs - math.hypot(ours - our_range.low, their_range.high - theirs)
    high = ours - theirs + math.hypot(our_range.high - ours, theirs - their_range.low)
    return Interval(low, high)


def _accuracies(published: Published, points: dict[str, list[Point]]) -> Iterator[Beside]:
    for task, values in published.accuracy.items():
        named = {point.name: point for point in points.get(task, [])}
        for name, value in values.items():
            if name not in named:
                continue
            point = named[name]
            theirs = value.accuracy / 100
            apart = newcombe(point.accuracy, point.interval, theirs, wilson(theirs, point.items))
            yield Beside(
                *(task, name, "accuracy", 100 * point.accuracy, value.accuracy),
                difference=Interval(100 * apart.low, 100 * apart.high),
                our_tokens=point.thinking_tokens,
                published_tokens=value.tokens,
                our_tokens_with_scorer=_with_scorer(point),
            )


def _with_scorer(point: Point) -> float | None:
    tokens = point.statistics.get("tokens_with_scorer")
    return None if tokens is None or math.isnan(tokens.value) else tokens.value


def _metrics(published: Published, methods: Sequence[Method]) -> Iterator[Beside]:
    for task, values in published.methods.items():
        named = {method.name: method for method in methods if method.task == task}
        for name, value in values.items():
            if name not in named:
                continue
            quantities: tuple[tuple[Quantity, Measured, float, float | None], ...] = (
                ("Control", named[name].control, 100, value.control),
                ("Scaling", named[name].scaling_published, 1, value.scaling),
                ("Performance", named[name].performance, 100, value.performance),
            )
            for quantity, ours, scale, theirs in quantities:
                if theirs is not None:
                    yield _metric(task, name, quantity, ours, scale, theirs)


def _metric(task: str, name: str, quantity: Quantity, ours: Measured, scale: float, theirs: float) -> Beside:
    """The published value is taken to be as uncertain as ours."""
    value, low, high = (scale * each for each in (ours.value, ours.interval.low, ours.interval.high))
    our_range = Interval(min(low, value), max(high, value))
    their_range = Interval(theirs - (value - our_range.low), theirs + (our_range.high - value))
    return Beside(task, name, quantity, value, theirs, newcombe(value, our_range, theirs, their_range))
