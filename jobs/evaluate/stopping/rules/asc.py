"""``{rule: asc, threshold: 0.95}``: samples are drawn one by one, until the leading answer is unlikely to be overtaken.

Adaptive-Consistency (Aggarwal et al. 2023, *Let's Sample Step by Step*), with its Beta criterion: of the two answers
with most votes, v and w, the chance that the first is the likelier is the integral over p < 1/2 of the density of
Beta(w + 1, v + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from jobs.evaluate.stopping.group_rule import GroupRule, GroupStops, sampled
from jobs.evaluate.stopping.probes import Ints, Probes
from jobs.evaluate.stopping.rule import RuleKind, share


@dataclass(frozen=True)
class AdaptiveConsistency(GroupRule):
    """Majority of as many samples as it takes, and of `samples` at most. Those without an answer have no vote."""

    threshold: float = 0.95
    samples: int | None = None
    probes = False
    whole = True

    def __post_init__(self) -> None:
        share("threshold", self.threshold)
        super().__post_init__()

    @property
    def setting(self) -> str:
        return f"{self.threshold:g}" + ("" if self.samples is None else f" of {self.samples}")

    def together(self, probes: Probes) -> GroupStops:
        answers = probes.answer[:, :, -1]
        groups, size = answers.shape
        looked_at = np.full(groups, size)
        for drawn in range(size - 1, 0, -1):
            most, second = _leaders(answers[:, :drawn])
            looked_at[(most > 0) & (betainc(second + 1, most + 1, 0.5) > self.threshold)] = drawn
        return sampled(probes, looked_at)


def _leaders(answers: Ints) -> tuple[Ints, Ints]:
    """The votes of the two answers with most, ``[groups]``; 0 where there is none."""
    known = answers >= 0
    counts = ((answers[:, :, None] == answers[:, None, :]) & known[:, None, :] & known[:, :, None]).sum(axis=2)
    leader = np.take_along_axis(answers, np.argmax(counts, axis=1)[:, None], axis=1)
    others = np.where(answers == leader, 0, counts)
    return counts.max(axis=1), others.max(axis=1)


KIND = RuleKind(AdaptiveConsistency, "samples until the leading answer is unlikely to be overtaken")
