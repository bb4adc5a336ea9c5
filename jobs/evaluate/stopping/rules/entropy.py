"""``{rule: entropy, threshold: 0.95}``: how an answer begins is as good as certain: its first token has little entropy.

exp(-entropy) is 1 where one token has all of the probability, and 1/n where n have as much each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.evaluate.stopping.probes import Bools, Probes
from jobs.evaluate.stopping.rule import RuleKind, share
from jobs.evaluate.stopping.trace_rule import TraceRule


@dataclass(frozen=True)
class FirstTokenEntropy(TraceRule):
    """exp(-entropy) of the answer's first token is at least the threshold."""

    online = True

    threshold: float = 0.95

    def __post_init__(self) -> None:
        share("threshold", self.threshold)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"entropy"})

    @property
    def setting(self) -> str:
        return f"{self.threshold:g}"

    def when(self, probes: Probes) -> Bools:
        return np.exp(-probes.signals["entropy"]) >= self.threshold


KIND = RuleKind(FirstTokenEntropy, "the first token of the answer has little entropy")
