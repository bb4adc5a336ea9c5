"""From graded samples to accuracy-vs-token curves.

A *point* is what one policy did on one task: accuracy with its intervals, tokens spent, how thinking and answers
ended. A *curve* is points that vary one thing: the budget, how often one extension string was used, or, where items
have several samples, how many of them are taken together (pass@k, majority@k). The policy that thinks to its natural
end belongs to every extension curve, as 0×, and is what all others are compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Literal

from jobs.evaluate.stats.at_k import AtK, scores_at_k, shown, together
from jobs.evaluate.stats.bands import band
from jobs.evaluate.stats.intervals import Difference, Interval, ShareEstimate, Sums, estimates, mean_intervals
from jobs.evaluate.stats.outcomes import Outcomes, read
from jobs.evaluate.stats.same_items import share_intervals, token_intervals
from jobs.evaluate.stats.statistic import STATISTICS, Value, measured
from jobs.evaluate.stats.votes import USUAL, Vote, spelled
from jobs.evaluate.sweep.curves import curves
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import Policy, printable

NATURAL_END = Budget()


@dataclass(frozen=True)
class Spread:
    """How far a mean of tokens could be off: had other items been asked, and had these been sampled again."""

    new_items: Interval
    same_items: Interval | None
    """None where an item has one sample, which does not tell."""

    def times(self, k: int) -> Spread:
        """Of k samples' tokens."""
        same = self.same_items
        return Spread(
            Interval(k * self.new_items.low, k * self.new_items.high),
            None if same is None else Interval(k * same.low, k * same.high),
        )


@dataclass(frozen=True)
class Point:
    """One policy on one task. Tokens are means per sample; ends, verdicts and accuracy are shares of 1.

    On the curves of votes (pass@k, majority@k) a point's `accuracy` is what they elect, and its tokens are those of `k`
    samples.
    """

    policy: Policy
    items: int
    samples: int
    estimate: ShareEstimate
    """Correct among the samples that could be graded, and how far that is from the natural end's."""
    same_items: Interval | None
    """Of accuracy, had these items been sampled again; None where an item has one sample, and at points of votes."""
    thinking_tokens: float
    injected_tokens: float
    answer_tokens: float
    thinking_spread: Spread
    answer_spread: Spread
    statistics: Mapping[str, Value] = field(hash=False)
    """By name: those of :data:`jobs.evaluate.stats.statistic.STATISTICS`."""
    at_k: tuple[AtK, ...] = ()
    """For k = 1, 2, 3 … all samples of an item; empty where there is one, and at points of votes."""
    shown: tuple[int, ...] = ()
    """The k that have points of their own."""
    vote: Vote | None = None
    """What makes one answer of `k` samples; None: each is taken by itself."""
    k: int = 1
    """How many samples are taken together."""
    drawing_error: float = 0.0
    """What drawing subsets of samples adds to the standard error of `accuracy`; 0 where that is exact."""
    tries: float = 1.0
    """Mean samples that were looked at until one was taken: 1, but for rejection sampling."""
    accepted: float | None = None
    """Share of samples for which rejection sampling found a try within its limit; None for other policies."""

    @property
    def accuracy(self) -> float:
        return self.estimate.value

    @property
    def interval(self) -> Interval:
        return self.estimate.interval

    @property
    def bootstrap(self) -> Interval:
        return self.estimate.bootstrap

    @property
    def range(self) -> Interval | None:
        """Accuracy if all samples with errors were wrong, and if all were right; None where there is none."""
        return self.estimate.range if self.error else None

    @property
    def error(self) -> float:
        """Share of samples that could not be graded."""
        return self.statistics["error_share"].value

    @property
    def difference(self) -> Difference | None:
        """From the natural end; None at the natural end, and in sweeps without it."""
        return self.estimate.difference

    @property
    def decoded_tokens(self) -> float:
        """Mean tokens that the policy by itself decodes: thinking and answer, but not what is injected. A try that
        rejection sampling threw away was decoded up to the limit."""
        last_try = self.thinking_tokens - self.injected_tokens + self.answer_tokens
        return last_try + (self.tries - 1) * (self.policy.route.cut or 0)

    @property
    def name(self) -> str:
        """Unique within a task: ``auto``, ``auto pass@8``."""
        return self.policy.name if self.vote is None else f"{self.policy.name} {self.scored}"

    @property
    def score(self) -> str:
        """The kind of number that `accuracy` is: ``accuracy``, ``pass@k``."""
        return "accuracy" if self.vote is None else self.vote.curve

    @property
    def scored(self) -> str:
        """What `accuracy` is: ``accuracy``, ``pass@8``."""
        return "accuracy" if self.vote is None else self.vote.at(self.k)

    @property
    def votes(self) -> tuple[Vote, ...]:
        """By which several samples of it are taken together."""
        return tuple(dict.fromkeys(vote for each in self.at_k for vote in each.by))

    def scaled(self, vote: Vote) -> tuple[Point, ...]:
        """This policy with several samples of an item."""
        return tuple(self._scaled(vote, self.at_k[k - 1]) for k in self.shown if k <= len(self.at_k))

    def _scaled(self, vote: Vote, scores: AtK) -> Point:
        return replace(
            self,
            items=scores.items,
            estimate=scores.by[vote],
            same_items=None,
            thinking_spread=self.thinking_spread.times(scores.k),
            answer_spread=self.answer_spread.times(scores.k),
            thinking_tokens=scores.k * self.thinking_tokens,
            injected_tokens=scores.k * self.injected_tokens,
            answer_tokens=scores.k * self.answer_tokens,
            statistics={name: value for name, value in self.statistics.items() if STATISTICS[name].ending},
            at_k=(),
            shown=(),
            vote=vote,
            k=scores.k,
            drawing_error=scores.errors[vote],
        )


@dataclass(frozen=True)
class MeasuredCurve:
    """One line of the plot on one task: its points, in the order of what varies."""

    task: str
    name: str
    """:attr:`jobs.evaluate.sweep.curves.Curve.name`, or ``pass@k``, ``majority@k``."""
    points: tuple[Point, ...]
    band: tuple[Interval, ...]
    """An interval of each point's accuracy, so wide that all of them hold at once."""

    @property
    def varies(self) -> Literal["budget", "count", "k"]:
        """What sets the points apart: the budget, how often thinking was extended, or the samples taken together."""
        if self.points[0].vote is not None:
            return "k"
        return "count" if any(point.policy.count for point in self.points) else "budget"

    def label(self, point: Point) -> str:
        """What sets `point` apart on this curve: ``32``, ``auto``, ``2×``, ``@8``."""
        labels = {"budget": point.policy.setting, "count": f"{point.policy.count}×", "k": f"@{point.k}"}
        return labels[self.varies]


def measure(samples: Path, policies: Sequence[Policy], seed: int = 0) -> tuple[MeasuredCurve, ...]:
    """The curves of a sweep from its ``samples.parquet``, task by task. `seed` is that of the bootstrap."""
    return drawn(read(samples, [policy.name for policy in policies]), policies, seed)


def drawn(
    outcomes: Iterable[Outcomes],
    policies: Sequence[Policy],
    seed: int = 0,
    at_k: Sequence[int] | None = None,
    votes: Sequence[Vote] = spelled(USUAL, ()),
) -> tuple[MeasuredCurve, ...]:
    """The curves of a sweep from its outcomes, whose columns are `policies`.

    `at_k` are the k of `votes`; None: 1, 2, 4, 8 … and all.
    """
    measured = []
    for task in outcomes:
        points = {point.policy: point for point in _points(task, policies, seed, at_k, votes)}
        columns = {policy: column for column, policy in enumerate(policies)}
        for curve in curves(policies):
            of_points = task.shares[[columns[each] for each in curve.points]]
            of_curve = tuple(points[each] for each in curve.points)
            measured.append(MeasuredCurve(task.task, printable(curve.name), of_curve, band(of_points, seed)))
        if NATURAL_END in points and points[NATURAL_END].at_k:
            natural, column = points[NATURAL_END], columns[NATURAL_END]
            for vote in votes:
                scaled = natural.scaled(vote)
                ks = [point.k for point in scaled]
                of_vote = together(task, vote, ks, slice(column, column + 1), seed)
                measured.append(MeasuredCurve(task.task, vote.curve, scaled, band(of_vote.shares, seed)))
    return tuple(measured)


def _points(
    task: Outcomes, policies: Sequence[Policy], seed: int, ks: Sequence[int] | None, votes: Sequence[Vote]
) -> list[Point]:
    """One point per policy."""
    natural = policies.index(NATURAL_END) if NATURAL_END in policies else None
    reference = None if natural is None else task.shares[[natural]]
    shares = estimates(task.shares, seed, reference)
    at_k: list[tuple[AtK, ...]] = [()] * len(policies)
    if task.most > 1:
        at_k = scores_at_k(task, votes, ks, reference, seed)
    means = {name: task.mean(name) for name in task.totals}
    statistics = measured(task, policies, seed)
    same = share_intervals(task.shares)
    thinking = _spreads(task, "thinking_tokens", [_most_thinking(policy) for policy in policies])
    answers = _spreads(task, "answer_tokens", [inf] * len(policies))
    return [
        Point(
            policy=policy,
            items=int((task.samples[:, column] > 0).sum()),
            samples=int(task.samples[:, column].sum()),
            estimate=replace(shares[column], difference=None) if column == natural else shares[column],
            same_items=same[column],
            thinking_spread=thinking[column],
            answer_spread=answers[column],
            statistics=statistics[column],
            # Its samples were drawn from the others', or are what many elect: they are not taken together once more.
            at_k=() if policy.tries or policy.elects else at_k[column],
            shown=shown(task.most, ks) if task.most > 1 else (),
            accepted=float(means["natural"][column]) if policy.tries else None,
            thinking_tokens=float(means["thinking_tokens"][column]),
            injected_tokens=float(means["injected_tokens"][column]),
            answer_tokens=float(means["answer_tokens"][column]),
            tries=float(means["tries"][column]),
        )
        for column, policy in enumerate(policies)
    ]


def _most_thinking(policy: Policy) -> float:
    """Tokens that no trace of the policy can think more than."""
    route = policy.route
    return inf if route.budget is None or not route.forced else route.budget


def _spreads(task: Outcomes, name: str, most: Sequence[float]) -> list[Spread]:
    """Of a kind of tokens, of which each policy has at `most` so many per sample."""
    sums = Sums(task.totals[name], task.samples)
    same = token_intervals(task.totals[name], task.squares[name], task.samples)
    return [Spread(*each) for each in zip(mean_intervals(sums, 0, most), same, strict=True)]
