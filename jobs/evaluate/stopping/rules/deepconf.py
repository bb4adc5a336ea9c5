"""``{rule: deepconf, keep: 0.1, by: tail}``: votes weigh as much as their samples are confident; the least do not vote.

DeepConf (Fu et al. 2025, *Deep Think with Confidence*), both ways:

- ``warmup: 0``: all samples are drawn. The most confident share `keep` of those that answer vote.
- ``warmup: 16``: so many think to their ends, and the threshold is what the most confident share `keep` of them
  reaches. Later ones are cut, without a vote, once they are below it, and no more are drawn once the leading answer has
  a share `consensus` of the votes.

A vote weighs as much as its sample is confident. The threshold is a percentile, interpolated as the authors do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.group_rule import GroupRule, GroupStops, at_ends, elected
from jobs.evaluate.stopping.probes import Bools, Ints, Probes, Reals
from jobs.evaluate.stopping.rule import RuleKind, share, whole

MEASURES = {
    "lowest": "of its least confident stretch",
    "bottom": "the mean of the tenth of its stretches that are least confident",
    "tail": "of its last stretch",
    "mean": "of all of it",
}
"""How confident a trace is, as the mean of its tokens. A stretch is 2,048 of them."""

ROUNDING = 1e-9
"""By which an interpolated percentile may come out above the value that it is."""


@dataclass(frozen=True)
class DeepConf(GroupRule):
    """Votes weigh as much as their traces are confident."""

    probes = False
    whole = True

    keep: float = 0.1
    by: str = "lowest"
    warmup: int = 0
    consensus: float = 0.95
    samples: int | None = None

    def __post_init__(self) -> None:
        share("keep", self.keep)
        share("consensus", self.consensus)
        whole("warmup", self.warmup, 0)
        if self.by not in MEASURES:
            raise ValueError(f"by: {self.by!r} is no measure of confidence: give one of {', '.join(MEASURES)}")
        if self.warmup and self.by != "lowest":
            raise ValueError(
                f"by: {self.by} is known once a trace has ended, and after a warmup traces are cut on the way: take "
                "lowest, or leave warmup out"
            )
        super().__post_init__()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"confidence_{self.by}"})

    @property
    def fewest(self) -> int:
        return max(2, self.warmup)

    @property
    def setting(self) -> str:
        parts = [f"keep {self.keep:g}", *([] if self.by == "lowest" else [f"by {self.by}"])]
        parts += [f"warmup {self.warmup}"] if self.warmup else []
        return ", ".join([*parts, *([] if self.samples is None else [f"of {self.samples}"])])

    def together(self, probes: Probes) -> GroupStops:
        confidence = probes.signals[f"confidence_{self.by}"]
        last, size = confidence[:, :, -1], probes.answer.shape[1]
        first = self.warmup or size
        answering = probes.answer[:, :, -1] >= 0
        ranked = ~np.isnan(last[:, :first]) & (bool(self.warmup) | answering[:, :first])
        threshold = _reached(last[:, :first], ranked, self.keep)[:, None]
        doubtful = (confidence < threshold[:, :, None]) & probes.live
        cut = doubtful.any(axis=2) & (np.arange(size) >= first)
        weights = np.where(answering & ~cut & (last >= threshold), last, 0.0)  # NaN is not above anything
        looked_at = self._looked_at(probes, weights, first)
        drawn = np.arange(size) < looked_at[:, None]
        answers, thinking, spoken = at_ends(probes, drawn & ~cut)
        where = np.argmax(doubtful, axis=2)[:, :, None]
        thinking = thinking + (np.take_along_axis(probes.thinking, where, axis=2)[:, :, 0] * (drawn & cut)).sum(axis=1)
        winner, _ = elected(answers, weights * drawn)
        return GroupStops(winner, np.full_like(winner, probes.answer.shape[2] - 1), thinking, spoken, looked_at)

    def _looked_at(self, probes: Probes, weights: Reals, first: int) -> Ints:
        answers = probes.answer[:, :, -1]
        size = answers.shape[1]
        looked_at = np.full(len(answers), size)
        for drawn in range(size - 1, first - 1, -1):
            winner, leading = elected(answers[:, :drawn], weights[:, :drawn])
            votes = np.take_along_axis(weights, winner[:, None], axis=1)[:, 0] > 0
            looked_at[votes & (leading >= self.consensus)] = drawn
        return looked_at


def _reached(confidence: Reals, ranked: Bools, keep: float) -> Reals:
    """What the most confident share `keep` of the samples that are `ranked` reaches, ``[groups]``; NaN of none."""
    reached = np.full(len(confidence), np.nan)
    for group, (values, known) in enumerate(zip(confidence, ranked, strict=True)):
        if known.any():
            reached[group] = np.quantile(values[known], 1 - keep)
    return reached - ROUNDING * np.abs(reached)


KIND = RuleKind(DeepConf, "votes by confidence, and samples with little of it cut")
