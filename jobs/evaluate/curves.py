"""From graded samples to accuracy-vs-token curves.

A *point* is what one policy did on one task: accuracy with its intervals, tokens spent, how thinking and answers
ended. A *curve* is points that vary one thing: the budget, how often one extension string was used, or, where items
have several samples, how many of them are taken together (pass@k, majority@k). The policy that thinks to its natural
end belongs to every extension curve, as 0×, and is what all others are compared with.

Everything is columnar: 640,000 samples are a few matrices of ``[items, policies]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from jobs.evaluate.policies import Policy, curves
from jobs.evaluate.statistics import (
    Difference,
    Floats,
    Interval,
    effective_trials,
    paired_difference,
    percentile_interval,
    resampled_shares,
    wilson,
)
from jobs.evaluate.together import Together, Votes, taken_together, wrong_answers

Score = Literal["accuracy", "pass@k", "majority@k"]

NATURAL_END = Policy()

_COLUMNS = (
    "task",
    "item",
    "policy",
    "verdict",
    "thinking_tokens",
    "injected_tokens",
    "answer_tokens",
    "thinking_end",
    "answer_end",
    "extracted",
)
_CATEGORIES = ["task", "item", "policy", "verdict", "thinking_end", "answer_end", "extracted"]
_UNKNOWN = ["error", "ungraded"]
"""Verdicts of samples that count neither for nor against a policy."""


@dataclass(frozen=True)
class Point:
    """One policy on one task. Tokens are means per sample; ends, verdicts and accuracy are shares of 1.

    On the curves of pass@k and majority@k a point's `accuracy` is that score, and its tokens are those of `k` samples.
    """

    policy: Policy
    items: int
    samples: int
    accuracy: float
    """Correct among all samples but those whose verdict is ``error`` or ``ungraded``; NaN when there is no other."""
    interval: Interval
    """Wilson's, for the number of independent trials that the samples are worth."""
    bootstrap: Interval
    """Over items, with all their samples."""
    thinking_tokens: float
    injected_tokens: float
    answer_tokens: float
    forced: float
    """Thinking ended by the budget."""
    context: float
    """Thinking ended by the context length."""
    truncated: float
    """Answers that ``max_answer_tokens`` cut off."""
    no_answer: float
    error: float
    """Samples that could not be graded."""
    difference: Difference | None
    """Accuracy minus that of the natural end, paired by item; None at the natural end, and in sweeps without it."""
    together: tuple[Together, ...] = ()
    """For k = 1, 2, 3 … all samples of an item; empty where there is one, and at points of pass@k and majority@k."""
    score: Score = "accuracy"
    k: int = 1
    """How many samples are taken together."""
    tries: float = 1.0
    """Mean samples that were looked at until one was taken: 1, but for rejection sampling."""
    accepted: float | None = None
    """Share of samples for which rejection sampling found a try within its limit; None for other policies."""

    @property
    def name(self) -> str:
        """Unique within a task: ``auto``, ``auto pass@8``."""
        return self.policy.name if self.score == "accuracy" else f"{self.policy.name} {self.scored}"

    @property
    def scored(self) -> str:
        """What `accuracy` is: ``accuracy``, ``pass@8``."""
        return self.score.replace("@k", f"@{self.k}")

    def scaled(self, score: Literal["pass@k", "majority@k"]) -> tuple[Point, ...]:
        """This policy with k = 1, 2, 4, 8 … and all samples of an item."""
        most = len(self.together)
        return tuple(
            self._scaled(score, each) for each in self.together if each.k & (each.k - 1) == 0 or each.k == most
        )

    def _scaled(self, score: Literal["pass@k", "majority@k"], together: Together) -> Point:
        estimate = together.passed if score == "pass@k" else together.majority
        return replace(
            self,
            items=together.items,
            accuracy=estimate.value,
            interval=estimate.interval,
            bootstrap=estimate.bootstrap,
            difference=estimate.difference,
            thinking_tokens=together.k * self.thinking_tokens,
            injected_tokens=together.k * self.injected_tokens,
            answer_tokens=together.k * self.answer_tokens,
            together=(),
            score=score,
            k=together.k,
        )


@dataclass(frozen=True)
class MeasuredCurve:
    """One line of the plot on one task: its points, in the order of what varies."""

    task: str
    name: str
    """:attr:`jobs.evaluate.policies.Curve.name`, or ``pass@k``, ``majority@k``."""
    points: tuple[Point, ...]

    @property
    def varies(self) -> Literal["budget", "count", "k"]:
        """What sets the points apart: the budget, how often thinking was extended, or the samples taken together."""
        if self.points[0].score != "accuracy":
            return "k"
        return "count" if any(point.policy.count for point in self.points) else "budget"

    def label(self, point: Point) -> str:
        """What sets `point` apart on this curve: ``32``, ``auto``, ``2×``, ``@8``."""
        labels = {"budget": point.policy.setting, "count": f"{point.policy.count}×", "k": f"@{point.k}"}
        return labels[self.varies]


def measure(samples: Path, policies: Sequence[Policy], seed: int = 0) -> tuple[MeasuredCurve, ...]:
    """The curves of a sweep from its ``samples.parquet``, task by task. `seed` is that of the bootstrap."""
    columns = [*_COLUMNS, *(["tries"] if any(policy.tries for policy in policies) else [])]
    frame = pq.read_table(samples, columns=columns, read_dictionary=_CATEGORIES).to_pandas()
    found = []
    for task in dict.fromkeys(frame["task"]):
        points = {point.policy: point for point in _points(frame[frame["task"] == task], policies, seed)}
        for curve in curves(policies):
            found.append(MeasuredCurve(str(task), printable(curve.name), tuple(points[each] for each in curve.points)))
        if NATURAL_END in points and points[NATURAL_END].together:
            natural = points[NATURAL_END]
            found.append(MeasuredCurve(str(task), "pass@k", natural.scaled("pass@k")))
            found.append(MeasuredCurve(str(task), "majority@k", natural.scaled("majority@k")))
    return tuple(found)


def printable(name: str) -> str:
    """`name` on one line, other names on others: what cannot be printed, and a backslash, as Python writes it."""
    return "".join(letter if letter.isprintable() and letter != "\\" else repr(letter)[1:-1] for letter in name)


@dataclass(frozen=True)
class _Cells:
    """Where each sample of a task lies in a matrix of ``[items, policies]``."""

    index: np.ndarray[Any, Any]
    shape: tuple[int, int]

    def sum(self, values: Any) -> Floats:
        """Totals of `values`, one per sample, in each cell."""
        weights = np.asarray(values, dtype=np.float64)
        totals: Floats = np.bincount(self.index, weights, math.prod(self.shape)).astype(np.float64, copy=False)
        return totals.reshape(self.shape)


def _points(frame: pd.DataFrame, policies: Sequence[Policy], seed: int) -> list[Point]:
    """One point per policy from the samples of one task."""
    columns = {policy.name: column for column, policy in enumerate(policies)}
    codes = frame["policy"].map(columns).to_numpy(dtype=np.int64)
    # Sorted, so that the bootstrap draws the same items whatever order the samples were written in.
    names, items = np.unique(frame["item"].astype(str).to_numpy(dtype=object), return_inverse=True)
    cells = _Cells(items * len(policies) + codes, (len(names), len(policies)))

    asked = cells.sum(np.ones(len(frame)))
    correct = cells.sum(frame["verdict"] == "correct")
    unknown = frame["verdict"].isin(_UNKNOWN)
    graded = asked - cells.sum(unknown)
    samples = asked.sum(axis=0)

    def mean(values: Any) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.asarray(cells.sum(values).sum(axis=0) / samples)

    with np.errstate(invalid="ignore"):
        accuracy = correct.sum(axis=0) / graded.sum(axis=0)
    shares = resampled_shares(correct, graded, seed)
    natural = policies.index(NATURAL_END) if NATURAL_END in policies else None
    tokens = {name: mean(frame[name]) for name in ("thinking_tokens", "injected_tokens", "answer_tokens")}
    rates = {
        "forced": mean(frame["thinking_end"] == "forced"),
        "context": mean(frame["thinking_end"] == "context"),
        "truncated": mean(frame["answer_end"] == "length"),
        "no_answer": mean(frame["verdict"] == "no_answer"),
        "error": mean(unknown),
    }
    if "tries" in frame:
        rates["tries"] = mean(frame["tries"])
    natural_end = mean(frame["thinking_end"] == "natural")

    def difference(column: int) -> Difference | None:
        if natural is None or column == natural:
            return None
        value = float(accuracy[column] - accuracy[natural])
        return paired_difference(value, shares[:, column], shares[:, natural])

    together: list[tuple[Together, ...]] = [()] * len(policies)
    if asked.max() > 1:
        reference = None if natural is None else (float(accuracy[natural]), shares[:, natural])
        blank = cells.sum(frame["verdict"] == "no_answer")
        votes = Votes(correct, blank, wrong_answers(frame, cells.index, cells.shape), graded)
        together = taken_together(votes, int(asked.max()), reference, seed)

    return [
        Point(
            policy=policy,
            items=int((asked[:, column] > 0).sum()),
            samples=int(samples[column]),
            accuracy=float(accuracy[column]),
            interval=wilson(float(accuracy[column]), effective_trials(correct[:, column], graded[:, column])),
            bootstrap=percentile_interval(shares[:, column]),
            difference=difference(column),
            # Its samples were drawn from the others', so they cannot be taken together once more.
            together=() if policy.tries else together[column],
            score="accuracy",
            k=1,
            accepted=float(natural_end[column]) if policy.tries else None,
            **{name: float(values[column]) for name, values in {**tokens, **rates}.items()},
        )
        for column, policy in enumerate(policies)
    ]
