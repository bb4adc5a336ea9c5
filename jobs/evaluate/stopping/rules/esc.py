"""``{rule: esc, window: 4}``: samples are drawn window by window, until all of a window say the same.

Early-stopping self-consistency (Li et al. 2024, *Escape Sky-High Cost*). The answer is the majority's of all that were
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.group_rule import GroupRule, GroupStops, sampled
from jobs.evaluate.stopping.probes import Probes
from jobs.evaluate.stopping.rule import RuleKind, whole


@dataclass(frozen=True)
class EarlyStoppingConsistency(GroupRule):
    """Windows follow one another; samples that fill none are drawn where all before were not enough."""

    window: int = 4
    samples: int | None = None
    probes = False
    whole = True

    def __post_init__(self) -> None:
        whole("window", self.window, 2)
        super().__post_init__()

    @property
    def fewest(self) -> int:
        return self.window

    @property
    def setting(self) -> str:
        return f"{self.window}" + ("" if self.samples is None else f" of {self.samples}")

    def together(self, probes: Probes) -> GroupStops:
        answers = probes.answer[:, :, -1]
        groups, size = answers.shape
        looked_at = np.full(groups, size)
        for end in range(size // self.window * self.window, 0, -self.window):
            window = answers[:, end - self.window : end]
            looked_at[(window >= 0).all(axis=1) & (window == window[:, :1]).all(axis=1)] = end
        return sampled(probes, looked_at)


KIND = RuleKind(EarlyStoppingConsistency, "samples until all of a window say the same")
