"""``{rule: deepconf, keep: 0.1, warmup: 16}``: samples vote by their confidence, and those with little of it are cut.

DeepConf (Fu et al. 2025, *Deep Think with Confidence*). A trace is as confident as the least confident stretch of it,
which is known while it thinks. The first `warmup` samples think to their ends, and the threshold is what a share `keep`
of them reaches; later ones are cut, without a vote, at the first probe below it, and no more are drawn once the leading
answer has a share `consensus` of the votes. ``warmup: 0`` draws all, and lets the most confident share vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from jobs.evaluate.stopping.group_rule import GroupRule, GroupStops, at_ends, elected
from jobs.evaluate.stopping.probes import Ints, Probes, Reals
from jobs.evaluate.stopping.rule import RuleKind, share, whole


@dataclass(frozen=True)
class DeepConf(GroupRule):
    """Votes weigh as much as their traces are confident."""

    needs = frozenset({"confidence"})
    probes = False

    keep: float = 0.1
    warmup: int = 0
    consensus: float = 0.95
    samples: int | None = None

    def __post_init__(self) -> None:
        share("keep", self.keep)
        share("consensus", self.consensus)
        whole("warmup", self.warmup, 0)
        super().__post_init__()

    @property
    def fewest(self) -> int:
        return max(2, self.warmup)

    @property
    def setting(self) -> str:
        parts = [f"keep {self.keep:g}", *([f"warmup {self.warmup}"] if self.warmup else [])]
        return ", ".join([*parts, *([] if self.samples is None else [f"of {self.samples}"])])

    def together(self, probes: Probes) -> GroupStops:
        confidence = np.minimum.accumulate(probes.signals["confidence"], axis=2)
        size = probes.answer.shape[1]
        first = min(self.warmup or size, size)
        threshold = _reached(confidence[:, :first, -1], self.keep)
        doubtful = (confidence < threshold[:, None, None]) & probes.live
        cut = doubtful.any(axis=2) & (np.arange(size) >= first)
        weights = np.where(cut | (confidence[:, :, -1] < threshold[:, None]), 0.0, confidence[:, :, -1])
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
            _, leading = elected(answers[:, :drawn], weights[:, :drawn])
            looked_at[leading >= self.consensus] = drawn
        return looked_at


def _reached(confidence: Reals, keep: float) -> Reals:
    """What a share `keep` of the samples reaches, one of them at least: ``[groups]``."""
    kept = max(1, ceil(keep * confidence.shape[1] - 1e-9))
    return np.asarray(-np.sort(-confidence, axis=1)[:, kept - 1])


KIND = RuleKind(DeepConf, "votes by confidence, and samples with little of it cut")
